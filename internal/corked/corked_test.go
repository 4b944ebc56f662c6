package corked

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counting counts the writes of the connections that it accepts.
type counting struct {
	net.Listener
	writes atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &counted{c, l}, err
}

type counted struct {
	net.Conn
	l *counting
}

func (c *counted) Write(p []byte) (int, error) {
	c.l.writes.Add(1)
	return c.Conn.Write(p)
}

func (c *counted) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// serve serves h, corked.
func serve(t *testing.T, h http.HandlerFunc) (at string, l *counting) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = &counting{Listener: tcp}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: Handler(h), ConnContext: ConnContext, Protocols: p}
	go srv.Serve(Listener(l))
	t.Cleanup(func() { srv.Close() })
	return tcp.Addr().String(), l
}

// dial connects, for a minute at most.
func dial(t *testing.T, at string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c, bufio.NewReader(c)
}

// answer reads a response with its body.
func answer(t *testing.T, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestWrites(t *testing.T) {
	for _, c := range []struct {
		name   string
		parts  []int // bytes, each followed by a flush if there is another
		writes int64
	}{
		{"small", []int{100}, 1},
		{"larger than net/http's buffer", []int{9000}, 1},
		{"flushed", []int{100, 9000, 5000}, 3},
		{"larger than ours", []int{40000}, 3}, // header; content, which is not copied; end
	} {
		t.Run(c.name, func(t *testing.T) {
			at, l := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for i, n := range c.parts {
					if i > 0 {
						w.(http.Flusher).Flush()
					}
					w.Write(bytes.Repeat([]byte{'a' + byte(i)}, n))
				}
			})
			var want strings.Builder
			for i, n := range c.parts {
				want.WriteString(strings.Repeat(string(rune('a'+i)), n))
			}
			con, r := dial(t, at)
			fewest := int64(1 << 62) // the server may begin to read in the middle of it
			for range 10 {
				l.writes.Store(0)
				io.WriteString(con, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				if _, got := answer(t, r); got != want.String() {
					t.Fatalf("%d bytes arrive, want %d", len(got), want.Len())
				}
				fewest = min(fewest, l.writes.Load())
			}
			if fewest != c.writes {
				t.Errorf("%d writes, want %d", fewest, c.writes)
			}
		})
	}
}

// What is flushed arrives while the handler runs on.
func TestFlush(t *testing.T) {
	seen := make(chan struct{})
	at, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-seen
		io.WriteString(w, "second")
	})
	con, r := dial(t, at)
	io.WriteString(con, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len("first"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first" {
		t.Fatal(string(first), err)
	}
	close(seen)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Fatal(string(rest), err)
	}
}

// A response does not wait for the one to the next request, even if that was
// read with its own.
func TestPipelined(t *testing.T) {
	seen := make(chan struct{})
	at, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/2" {
			<-seen
		}
		io.WriteString(w, r.URL.Path)
	})
	con, r := dial(t, at)
	io.WriteString(con, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, got := answer(t, r); got != "/1" {
		t.Fatal(got)
	}
	close(seen)
	if _, got := answer(t, r); got != "/2" {
		t.Fatal(got)
	}
}

// A client may wait for the answer before it sends more.
func TestWaitingClient(t *testing.T) {
	at, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refuse": // without reading
			http.Error(w, "refused", http.StatusRequestEntityTooLarge)
		case "/echo":
			http.NewResponseController(w).EnableFullDuplex()
			b := make([]byte, 5000)
			for {
				n, err := io.ReadFull(r.Body, b)
				w.Write(b[:n])
				if err != nil {
					return
				}
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		con, r := dial(t, at)
		io.WriteString(con, "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome")
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 413 {
			t.Fatal(resp, err)
		}
	})
	t.Run("expects 100", func(t *testing.T) {
		con, r := dial(t, at)
		io.WriteString(con, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatal(line, err)
		}
		r.ReadString('\n')
		io.WriteString(con, "ok")
		if _, got := answer(t, r); got != "ok" {
			t.Fatal(got)
		}
	})
	t.Run("full duplex", func(t *testing.T) {
		con, r := dial(t, at)
		part := strings.Repeat("x", 5000)
		fmt.Fprintf(con, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n%s", part)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(con, part)
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != part+part {
			t.Fatal(len(got), err)
		}
	})
}

// What the server writes last arrives before the connection ends.
func TestClosed(t *testing.T) {
	big := strings.Repeat("x", 9000)
	at, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, big)
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
	})
	for _, head := range []string{"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"} {
		con, r := dial(t, at)
		io.WriteString(con, head)
		if _, got := answer(t, r); got != big {
			t.Fatalf("%d bytes", len(got))
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Fatal(err)
		}
	}
	con, r := dial(t, at)
	io.WriteString(con, "GET / HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
	if _, got := answer(t, r); got != big {
		t.Fatalf("%d bytes", len(got))
	}
	if resp, _ := answer(t, r); resp.StatusCode != 400 {
		t.Fatal(resp.Status)
	}
	// An answer that breaks off is seen to.
	con, r = dial(t, at)
	io.WriteString(con, "GET /abort HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err == nil {
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Fatal("an aborted answer ends")
		}
	}
}

func TestHTTP2(t *testing.T) {
	at, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, strings.Repeat("x", 9000))
	})
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://" + at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "HTTP/2.0"+strings.Repeat("x", 9000) {
		t.Fatal(len(b), err)
	}
}

// A peer that does not read holds neither Read nor, for long, Close up.
func TestIdlePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := &conn{Conn: ours}
		c.cork(true)
		c.Write([]byte("kept"))
		go c.flush()
		synctest.Wait() // flush waits for a reader
		go theirs.Write([]byte("x"))
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		c.Close()
		if _, err := c.Write([]byte("more")); err == nil && c.flush() == nil {
			t.Error("a closed connection takes more")
		}

		ours, _ = net.Pipe()
		c = &conn{Conn: ours}
		c.cork(true)
		c.Write([]byte("kept"))
		began := time.Now()
		c.Close()
		if took := time.Since(began); took != closeWithin {
			t.Errorf("Close took %v", took)
		}
	})
}
