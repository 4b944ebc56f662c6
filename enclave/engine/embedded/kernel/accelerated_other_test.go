//go:build !amd64

package kernel

func setAccelerated(bool) bool { return false }
