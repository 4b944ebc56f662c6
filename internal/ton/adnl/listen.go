package adnl

import (
	"crypto/ed25519"
	"net"
	"sync"
	"time"
)

// MaxConns is how many connections a listener keeps at once. It closes those beyond.
const MaxConns = 4096

type listener struct {
	net.Listener
	key   ed25519.PrivateKey
	slots chan struct{}
}

// Listen makes l accept ADNL connections for the holder of key. The handshake takes place in a connection's first Read, so that
// a slow peer holds up nobody else; the connection comes with a read deadline of ten seconds for it, which stays in force
// until it is set anew.
func Listen(l net.Listener, key ed25519.PrivateKey) net.Listener { return listen(l, key, MaxConns) }

func listen(l net.Listener, key ed25519.PrivateKey, limit int) net.Listener {
	return &listener{l, key, make(chan struct{}, limit)}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		c.SetReadDeadline(time.Now().Add(handshakeTimeout))
		return server(&counted{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, l.key), nil
	}
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	free func()
}

func (c *counted) Close() error {
	defer c.free()
	return c.Conn.Close()
}
