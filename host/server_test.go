package host

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
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

// A peer that sends a body byte by byte is answered, and holds its connection no
// longer than that, whatever it asks for.
func TestBodyThatDrips(t *testing.T) {
	for _, path := range []string{"/v1/session", "/v1/enclaves/e0/evidence", "/v1/enclaves/e0/sealed", "/v1/card", "/nowhere"} {
		synctest.Test(t, func(t *testing.T) {
			l := pipes{make(chan net.Conn), make(chan struct{})}
			srv := NewServer(&Host{counts: newCounts()})
			ended := make(chan error)
			go func() { ended <- srv.Serve(l) }()
			ours, theirs := net.Pipe()
			l.conns <- theirs
			answer := make(chan []byte)
			go func() { b, _ := io.ReadAll(ours); answer <- b }()
			begin := time.Now()
			io.WriteString(ours, "POST "+path+" HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
			var drip sync.WaitGroup
			drip.Go(func() {
				for range 200 {
					time.Sleep(time.Second)
					if _, err := ours.Write([]byte{'x'}); err != nil {
						return
					}
				}
			})
			b := <-answer
			if d := time.Since(begin); d > smallWithin+5*time.Second || !strings.HasPrefix(string(b), "HTTP/1.1 4") {
				t.Errorf("%s: closed after %s with %.80q", path, d, b)
			}
			ours.Close()
			srv.Close()
			<-ended
			drip.Wait()
		})
	}
}

// A client that reads nothing any more loses its connection: it would hold it, and what waits in it, for ever.
func TestPeerThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		srv := NewServer(&Host{counts: newCounts()})
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

// Enclaves that do not answer are waited for once, and at once, by all who want the card.
func TestCardOfEnclavesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := roundTrip(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
		var log bytes.Buffer
		h := &Host{counts: newCounts(), cfg: Config{Identity: identity, Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))}, enclaves: map[string]*upstream{}}
		for _, id := range []string{"e0", "e1", "e2"} {
			e := Enclave{ID: id, Transport: hangs, Authority: id}
			h.cfg.Enclaves = append(h.cfg.Enclaves, e)
			h.enclaves[id] = &upstream{Enclave: e}
		}
		begin := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := h.Card(t.Context()); err == nil {
					t.Error("a card without enclaves")
				}
			})
		}
		all.Wait()
		if d := time.Since(begin); d > 6*time.Second {
			t.Errorf("20 cards took %s", d)
		}
		if n := strings.Count(log.String(), "enclave is not on the card"); n != 3 {
			t.Errorf("that was logged %d times: %s", n, log.String())
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
