package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mdlayher/vsock"
)

// An Addr is where host and enclave meet: "unix:PATH", "tcp:LOOPBACK:PORT" or
// "vsock:CID:PORT" ("vsock:PORT" to listen on).
type Addr struct{ network, address string }

// ParseAddr reads an Addr. TCP is for development and for loopback only: the
// link carries no client's content, but it carries credit.
func ParseAddr(s string) (Addr, error) {
	network, address, ok := strings.Cut(s, ":")
	fail := func(why string) (Addr, error) {
		return Addr{}, Errorf(Usage, "use unix:PATH, tcp:127.0.0.1:PORT or vsock:CID:PORT", "address %q: %s", s, why)
	}
	if !ok || address == "" {
		return fail("no kind")
	}
	switch network {
	case "unix":
	case "vsock":
		if _, _, err := vsockAddr(address); err != nil {
			return fail(err.Error())
		}
	case "tcp":
		h, _, err := net.SplitHostPort(address)
		if err != nil {
			return fail(err.Error())
		}
		if ip := net.ParseIP(h); ip == nil || !ip.IsLoopback() {
			return fail("not a loopback address")
		}
	default:
		return fail("unknown kind")
	}
	return Addr{network, address}, nil
}

func vsockAddr(s string) (cid, port uint32, err error) {
	c, p, ok := strings.Cut(s, ":")
	if !ok {
		c, p = strconv.Itoa(vsock.Local), s
	}
	a, err1 := strconv.ParseUint(c, 10, 32)
	b, err2 := strconv.ParseUint(p, 10, 32)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("not CID:PORT")
	}
	return uint32(a), uint32(b), nil
}

// In is the Addr where a relative path means one in dir.
func (a Addr) In(dir string) Addr {
	if a.network == "unix" && !filepath.IsAbs(a.address) {
		a.address = filepath.Join(dir, a.address)
	}
	return a
}

func (a Addr) String() string { return a.network + ":" + a.address }

// Listen listens. A stale Unix socket is replaced; its directory's permissions
// say who may connect.
func (a Addr) Listen() (net.Listener, error) {
	switch a.network {
	case "unix":
		if info, err := os.Lstat(a.address); err == nil && info.Mode()&os.ModeSocket != 0 {
			if c, err := net.Dial("unix", a.address); err == nil {
				c.Close()
				return nil, Errorf(Usage, "stop the other process first", "%s: somebody listens there", a)
			}
			if err := os.Remove(a.address); err != nil {
				return nil, err
			}
		}
	case "vsock":
		_, port, err := vsockAddr(a.address)
		if err != nil {
			return nil, err
		}
		return vsock.Listen(port, nil)
	}
	return net.Listen(a.network, a.address)
}

// Dial connects.
func (a Addr) Dial(ctx context.Context) (net.Conn, error) {
	if a.network == "vsock" {
		cid, port, err := vsockAddr(a.address)
		if err != nil {
			return nil, err
		}
		return vsock.Dial(cid, port, nil)
	}
	return new(net.Dialer).DialContext(ctx, a.network, a.address)
}
