//go:build unix

package devnet

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the file for this process; the system frees it on any exit.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
