package cli

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// slack is by how much the kernel may delay a timer of this process, in nanoseconds, so as to wake it less often.
const slack = 1_000_000

// slacken has the process run with that slack. While a Go program does anything, a thread of its runtime wakes to watch
// the others, 20 µs after it last did; the kernel's default slack of 50 µs makes that some three thousand times a second,
// and up to a fifth of what a relay costs. A thread has the slack of the one that made it, and that thread is made before
// main runs: so the process sets its own, and executes itself anew. Where that fails, it goes on as it is.
func slacken() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now >= slack {
		return // it is done
	}
	self, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, slack, 0, 0, 0) != nil {
		return
	}
	_ = syscall.Exec(self, os.Args, os.Environ())
}
