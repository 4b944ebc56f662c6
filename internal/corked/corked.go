// Package corked lets an HTTP/1 server send what a handler writes with one system call for each flush. net/http gives a
// connection a write buffer of 4 KiB, which cannot be changed: whatever is larger leaves in two or three writes, and wakes
// the peer as often.
//
// A corked connection keeps what the server writes until the handler flushes, the buffer is full, or the server reads
// again or closes the connection. It takes a [Listener], a [Handler] and [ConnContext] on one http.Server. Connections of
// other listeners, those with TLS, and HTTP/2 stay as they are.
package corked

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// size is how many bytes a connection keeps at most. Buffers are shared: a connection has one while it keeps something.
const size = 16 << 10

var buffers = sync.Pool{New: func() any { return new([size]byte) }}

// Listener accepts connections that a [Handler] can cork.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

type contextKey struct{}

// ConnContext is for http.Server.ConnContext: it shows the [Handler] its connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, contextKey{}, c)
	}
	return ctx
}

// Handler corks the connections of h's requests.
func Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(contextKey{}).(*conn)
		if !ok || r.ProtoMajor != 1 {
			h.ServeHTTP(w, r)
			return
		}
		// Whoever asks for it waits for a 100 that the server writes by itself.
		c.cork(r.Header["Expect"] == nil)
		h.ServeHTTP(&writer{w, c}, r)
	})
}

type conn struct {
	net.Conn
	mu     sync.Mutex // held while writing
	corked bool
	buf    *[size]byte // nil while n is 0
	n      int
	err    error
}

// cork turns corking on or off. What an earlier response left goes out.
func (c *conn) cork(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send()
	c.corked = on
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked || c.n+len(p) > size {
		c.send()
	}
	if c.err != nil {
		return 0, c.err
	}
	if !c.corked || len(p) > size {
		return c.Conn.Write(p)
	}
	if c.buf == nil {
		c.buf = buffers.Get().(*[size]byte)
	}
	c.n += copy(c.buf[c.n:], p)
	return len(p), nil
}

func (c *conn) send() error {
	if c.n == 0 {
		return c.err
	}
	if c.err == nil {
		_, c.err = c.Conn.Write(c.buf[:c.n])
	}
	buffers.Put(c.buf)
	c.buf, c.n = nil, 0
	return c.err
}

func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send()
}

// Read sends what is kept first: the peer may be waiting for it. It does not wait for a write that is under way, or a
// peer that went away while it was sent to would not be noticed.
func (c *conn) Read(p []byte) (int, error) {
	if c.mu.TryLock() {
		c.send()
		c.mu.Unlock()
	}
	return c.Conn.Read(p)
}

// CloseWrite is what the server does before it closes a connection whose peer may still be sending.
func (c *conn) CloseWrite() error {
	c.flush()
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// closeWithin is how long a peer may take what is kept when the connection closes; it is that of crypto/tls.
const closeWithin = 5 * time.Second

func (c *conn) Close() error {
	if c.mu.TryLock() {
		if c.n > 0 {
			c.SetWriteDeadline(time.Now().Add(closeWithin))
		}
		c.send()
		c.mu.Unlock()
	}
	return c.Conn.Close()
}

// writer is the server's, with a Flush that reaches the peer.
type writer struct {
	http.ResponseWriter
	c *conn
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *writer) FlushError() error {
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return err
	}
	return w.c.flush()
}
