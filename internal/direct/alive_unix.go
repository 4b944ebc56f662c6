//go:build unix

package direct

import (
	"net"
	"syscall"
)

// alive reports whether an idle connection is still open and silent, as far as this machine knows.
func alive(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:]) // of a descriptor that does not block
		silent = err == syscall.EAGAIN
		return true
	})
	return err == nil && silent
}
