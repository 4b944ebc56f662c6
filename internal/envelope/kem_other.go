//go:build !amd64

package envelope

// clearUpper has nothing to clear: see [cleanKEM].
func clearUpper() {}
