//go:build !unix

package devnet

import "os"

// lockFile does nothing here: keep one devnet to a directory.
func lockFile(*os.File) error { return nil }
