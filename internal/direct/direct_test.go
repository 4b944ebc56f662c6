package direct

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer serves connections with serve, which gets their number, from 1, and a reader of them.
func peer(t *testing.T, rest *http.Transport, serve func(n int, c net.Conn, in *bufio.Reader)) *Transport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(time.Minute))
			all.Go(func() {
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
	rest.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}
	tr := New(rest, "peer")
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		l.Close()
		all.Wait()
	})
	return tr
}

// take reads a request to its end.
func take(in *bufio.Reader) (body string, ok bool) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return "", false
	}
	b, err := io.ReadAll(r.Body)
	return string(b), err == nil
}

func post(t *testing.T, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://peer/path", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask sends a request and returns the status and the content of the answer.
func ask(tr http.RoundTripper, r *http.Request) (string, error) {
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b), resp.Trailer.Get("T")), err
}

// echo answers n requests.
func echo(n int) func(int, net.Conn, *bufio.Reader) {
	return func(i int, c net.Conn, in *bufio.Reader) {
		for range n {
			body, ok := take(in)
			if !ok {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n4\r\n#%d: \r\n%x\r\n%s\r\n0\r\nT: end\r\n\r\n", i, len(body), body)
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	tr := peer(t, new(http.Transport), echo(3))
	// The peer closes the first connection after three answers; that it did shows before the fourth request is sent.
	for i, want := range []string{"200 #1: aend", "200 #1: bend", "200 #1: cend", "200 #2: dend"} {
		if i == 3 {
			closed := tr.idle[0]
			closed.SetReadDeadline(time.Now().Add(time.Minute))
			for alive(closed.Conn) { // the peer's end is on its way
			}
		}
		if got, err := ask(tr, post(t, string("abcd"[i]))); err != nil || got != want {
			t.Fatalf("request %d: %q, %v; want %q", i, got, err, want)
		}
	}
}

func TestNoContent(t *testing.T) {
	tr := peer(t, new(http.Transport), func(n int, c net.Conn, in *bufio.Reader) {
		for range 2 {
			take(in)
			fmt.Fprintf(c, "HTTP/1.1 204 No Content\r\nN: %d\r\n\r\n", n)
		}
		take(in)
	})
	for range 2 {
		r := post(t, "")
		r.Body = nil
		resp, err := tr.RoundTrip(r)
		if err != nil || resp.StatusCode != 204 || resp.Header.Get("N") != "1" {
			t.Fatal(resp, err)
		}
	}
}

// What a peer does with a kept connection while it is used again.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name  string
		again bool
		alter func(*http.Request)
	}{
		{"a POST is not sent twice", false, func(*http.Request) {}},
		{"one with a key is", true, func(r *http.Request) { r.Header["Idempotency-Key"] = nil }},
		{"not if its body is gone", false, func(r *http.Request) { r.Header["Idempotency-Key"], r.GetBody = nil, nil }},
		{"a GET is", true, func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := peer(t, new(http.Transport), func(n int, conn net.Conn, in *bufio.Reader) {
				if echo(1)(n, conn, in); n == 1 {
					take(in) // and not a word
				}
			})
			if got, err := ask(tr, post(t, "x")); err != nil || got != "200 #1: xend" {
				t.Fatal(got, err)
			}
			r := post(t, "x")
			c.alter(r)
			got, err := ask(tr, r)
			if c.again && (err != nil || !strings.HasPrefix(got, "200 #2: ")) || !c.again && !errors.Is(err, errSilent) {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
	t.Run("nor is anything on a new connection", func(t *testing.T) {
		tr := peer(t, new(http.Transport), func(n int, c net.Conn, in *bufio.Reader) { take(in) })
		r := post(t, "x")
		r.Header["Idempotency-Key"] = nil
		if _, err := ask(tr, r); !errors.Is(err, errSilent) {
			t.Fatal(err)
		}
	})
}

func TestBadAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	for _, c := range []struct{ name, answer, want, err string }{
		{"informational", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok + "hi", "200 hi", ""},
		{"too many of them", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 5) + ok + "hi", "", "too many"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "", "switches"},
		{"cut short", ok + "h", "200 h", io.ErrUnexpectedEOF.Error()},
		{"cut in its header", "HTTP/1.1 200 OK\r\nA: b\r\n", "", io.ErrUnexpectedEOF.Error()},
		{"no HTTP", "220 mail\r\n\r\n", "", "malformed"},
		{"header too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n", "", "too large"},
		{"without a length", "HTTP/1.0 200 OK\r\n\r\nhi", "200 hi", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := peer(t, &http.Transport{MaxResponseHeaderBytes: 8 << 10}, func(_ int, conn net.Conn, in *bufio.Reader) {
				take(in)
				io.WriteString(conn, c.answer)
			})
			got, err := ask(tr, post(t, "x"))
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

// A connection is used again only after the end of an answer, and if nothing follows it.
func TestConnectionsThatAreNotKept(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	for _, c := range []struct {
		name, answer string
		close        bool
	}{
		{"abandoned", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhi", true},
		{"more than an answer", answer + "HTTP/1.1 200 OK", false},
		{"connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			gone := make(chan bool, 1)
			tr := peer(t, new(http.Transport), func(n int, conn net.Conn, in *bufio.Reader) {
				take(in)
				if n > 1 {
					io.WriteString(conn, answer)
					return
				}
				io.WriteString(conn, c.answer)
				_, err := in.ReadByte()
				gone <- err == io.EOF || errors.Is(err, net.ErrClosed) || strings.Contains(fmt.Sprint(err), "reset")
			})
			resp, err := tr.RoundTrip(post(t, "x"))
			if err != nil {
				t.Fatal(err)
			}
			if !c.close {
				if _, err := io.ReadAll(resp.Body); err != nil {
					t.Fatal(err)
				}
			}
			resp.Body.Close()
			if !<-gone {
				t.Error("the connection is still open")
			}
			if _, err := resp.Body.Read(make([]byte, 1)); c.close && err != http.ErrBodyReadAfterClose || !c.close && err != io.EOF {
				t.Error(err)
			}
			if got, err := ask(tr, post(t, "x")); err != nil || got != "200 hi" {
				t.Fatal(got, err)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	why := errors.New("the reason")
	for _, begun := range []bool{false, true} {
		gone := make(chan struct{})
		asked := make(chan struct{})
		tr := peer(t, new(http.Transport), func(_ int, c net.Conn, in *bufio.Reader) {
			take(in)
			if begun {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
			}
			close(asked)
			in.ReadByte()
			close(gone)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-asked; cancel(why) }()
		if _, err := ask(tr, post(t, "x").WithContext(ctx)); !errors.Is(err, why) {
			t.Errorf("begun %v: %v", begun, err)
		}
		<-gone
		if _, err := ask(tr, post(t, "x").WithContext(ctx)); !errors.Is(err, why) {
			t.Error(err)
		}
	}
}

// A peer that answers and closes without reading the request is heard.
func TestEarlyAnswer(t *testing.T) {
	tr := peer(t, new(http.Transport), func(_ int, c net.Conn, in *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, in)
	})
	if got, err := ask(tr, post(t, strings.Repeat("x", small))); err != nil || got != "403 no" {
		t.Fatal(got, err)
	}
}

// A request that breaks off ends, though the peer waits for the rest of it.
func TestBrokenRequest(t *testing.T) {
	tr := peer(t, new(http.Transport), func(_ int, _ net.Conn, in *bufio.Reader) { take(in) })
	r := post(t, "x")
	r.ContentLength = 2
	if _, err := ask(tr, r); err == nil || !strings.Contains(err.Error(), "ContentLength=2") {
		t.Fatal(err)
	}
}

// canned is a connection that says what it says and hears nothing.
type canned struct {
	net.Conn
	io.Reader
}

func (c canned) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c canned) Write(p []byte) (int, error) { return len(p), nil }

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n2\r\nhi\r\n0\r\nT: x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.0 404 Not Found\r\nConnection: close\r\n\r\n"))
	req, err := http.NewRequest(http.MethodPost, "http://peer/", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 256
		c := &conn{Conn: canned{Reader: bytes.NewReader(b)}}
		c.in = bufio.NewReader(c)
		resp, err := c.answer(req, limit)
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if n > int64(len(b)) || err == nil && resp.ContentLength > 0 && n != resp.ContentLength {
			t.Fatalf("%d of %d bytes, %v", n, resp.ContentLength, err)
		}
	})
}

func TestIdleConnectionsExpire(t *testing.T) {
	gone := make(chan struct{})
	tr := peer(t, &http.Transport{IdleConnTimeout: time.Millisecond}, func(n int, c net.Conn, in *bufio.Reader) {
		echo(1)(n, c, in)
		in.ReadByte()
		close(gone)
	})
	if _, err := ask(tr, post(t, "x")); err != nil {
		t.Fatal(err)
	}
	<-gone
}

// What is not small is net/http's.
func TestTheRest(t *testing.T) {
	for name, alter := range map[string]func(*http.Request){
		"nothing":        func(r *http.Request) {},
		"large":          func(r *http.Request) { r.ContentLength = small + 1; r.Body = bodyOf(small + 1) },
		"unknown length": func(r *http.Request) { r.ContentLength = -1 },
		"expectation":    func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
	} {
		tr := peer(t, new(http.Transport), echo(2))
		r := post(t, "x")
		alter(r)
		if got, err := ask(tr, r); err != nil || !strings.HasPrefix(got, "200 #1: x") {
			t.Fatal(name, got, err)
		}
		if ours := len(tr.idle) == 1; ours != (name == "nothing") {
			t.Errorf("%s: the connection is ours: %v", name, ours)
		}
	}
}

func bodyOf(n int) io.ReadCloser { return io.NopCloser(strings.NewReader(strings.Repeat("x", n))) }
