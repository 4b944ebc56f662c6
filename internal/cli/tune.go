package cli

import "runtime/debug"

// TuneServer is for a process that serves, once it is ready to: it gives back
// to the system what starting up took (a wallet's scrypt alone is 256 MB).
func TuneServer() { debug.FreeOSMemory() }
