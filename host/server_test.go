package host

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener for connections that a test makes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A client that reads nothing any more loses its connection: it would hold it, and what waits in it, for ever.
func TestPeerThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		srv := NewServer(&Host{})
		ended := make(chan error)
		go func() { ended <- srv.Serve(l) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		begin := time.Now()
		// HTTP/2's preface and empty settings, and not a byte read of the server's.
		if _, err := io.WriteString(ours, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		for {
			time.Sleep(time.Second)
			if _, err := ours.Write([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}); err != nil { // ping
				break
			}
		}
		if d := time.Since(begin); d < writeTimeout || d > 2*writeTimeout {
			t.Errorf("closed after %s", d)
		}
		srv.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}
