// Package filelock lets processes take turns by a file that they share.
package filelock

import "errors"

// ErrHeld means that another process, or another open file of this one, has the lock.
var ErrHeld = errors.New("the file is in use by another process")
