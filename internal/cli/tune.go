package cli

import (
	"os"
	"runtime/debug"
)

// TuneServer sets the garbage collector up for a process that serves, once it
// is ready to: it gives back what starting up took (a wallet's scrypt alone is
// 256 MB), and from there trades a little memory for less collection, which is
// a tenth of a relay's work at Go's default. GOGC overrides the latter.
func TuneServer() {
	debug.FreeOSMemory()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(125)
	}
}
