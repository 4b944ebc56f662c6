// Package direct carries small HTTP/1.1 requests on the goroutine of whoever makes them. net/http's transport passes each
// request and each answer between three goroutines: of what it costs to relay a short answer that is a fifteenth where many
// come at once, and a seventh where one comes after the other.
//
// net/http still writes the requests and reads the answers, and carries whatever is not small. What is here is the pool of
// kept connections.
package direct

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// small is the largest body, in bytes, that is sent before the answer is looked at: it fits the buffers of a socket, so that
// a peer which answers early, without reading it, is heard.
const small = 32 << 10

const (
	maxHeader        = 1 << 20 // bytes of an answer's header, unless the transport says otherwise
	maxInformational = 5       // as in net/http
	answerWithin     = 50 * time.Millisecond
)

// A Transport is an http.RoundTripper for one peer that speaks plain HTTP/1.1.
type Transport struct {
	rest *http.Transport
	addr string

	mu    sync.Mutex
	idle  []*conn // the one that was used last at the end
	sweep *time.Timer
}

// New returns a Transport to the peer at addr, a TCP host and port unless rest's DialContext, which must be there, takes
// it for something else. Rest carries what is not small; of its limits those on idle connections, on the size of a
// header and of the buffers hold here, too.
func New(rest *http.Transport, addr string) *Transport {
	return &Transport{rest: rest, addr: addr}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	none := req.Body == nil || req.Body == http.NoBody
	if req.URL.Scheme != "http" || req.ContentLength > small || !none && req.ContentLength <= 0 || req.Header["Expect"] != nil {
		return t.rest.RoundTrip(req)
	}
	for {
		c, kept, err := t.get(req.Context())
		if err != nil {
			if !none {
				req.Body.Close()
			}
			return nil, err
		}
		resp, err := t.exchange(req, c)
		if err == nil {
			return resp, nil
		}
		if cause := context.Cause(req.Context()); cause != nil {
			return nil, cause
		}
		// A peer may close a kept connection at the very moment that it is used again.
		if !kept || !errors.Is(err, errSilent) || !replayable(req) {
			return nil, err
		}
		if !none {
			again := *req
			if again.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
			req = &again
		}
	}
}

// Unconnected says that a RoundTrip, of this or of net/http's Transport, failed for want of a connection: nothing was sent.
func Unconnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// replayable is net/http's rule.
func replayable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xkey := req.Header["X-Idempotency-Key"]
	return key || xkey
}

// errSilent means that a connection ended without a byte of an answer.
var errSilent = errors.New("direct: the peer closed the connection without an answer")

var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}

func (t *Transport) exchange(req *http.Request, c *conn) (*http.Response, error) {
	stop := context.AfterFunc(req.Context(), func() { c.Close() })
	w := writers.Get().(*bufio.Writer)
	w.Reset(c)
	werr := req.Write(w)
	if werr == nil {
		werr = w.Flush()
	}
	w.Reset(nil)
	writers.Put(w)
	if werr != nil {
		// The peer may have answered instead of taking all of it, but waits for the rest if it is the body that broke.
		c.SetReadDeadline(time.Now().Add(answerWithin))
	}
	resp, err := c.answer(req, t.rest.MaxResponseHeaderBytes)
	if err != nil {
		stop()
		c.Close()
		return nil, errors.Join(werr, err)
	}
	b := &body{ReadCloser: resp.Body, t: t, c: c, ctx: req.Context(), stop: stop, keep: werr == nil && !resp.Close && !req.Close}
	if resp.Body == http.NoBody {
		b.end(over)
	} else {
		resp.Body = b
	}
	return resp, nil
}

// A conn is a connection and what has been read from it.
type conn struct {
	net.Conn
	in   *bufio.Reader
	left int64     // bytes that may still be read
	used time.Time // when it was last
}

// Read is for in.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("direct: the header of the answer is too large")
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// answer reads an answer as far as its body.
func (c *conn) answer(req *http.Request, limit int64) (*http.Response, error) {
	if limit <= 0 {
		limit = maxHeader
	}
	for range maxInformational {
		c.left = limit
		if _, err := c.in.Peek(1); err != nil {
			return nil, fmt.Errorf("%w: %w", errSilent, err)
		}
		resp, err := http.ReadResponse(c.in, req)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("direct: the peer switches protocols unasked")
		case resp.StatusCode >= 200:
			c.left = math.MaxInt64
			return resp, nil
		}
	}
	return nil, errors.New("direct: too many informational answers")
}

// A body is the body of an answer. Its end gives the connection back.
type body struct {
	io.ReadCloser // net/http's, whose Close would read to the end
	t             *Transport
	c             *conn
	ctx           context.Context
	stop          func() bool
	keep          bool
	state         atomic.Int32
}

const (
	open   = iota
	over   // read to its end
	closed // or failed
)

func (b *body) Read(p []byte) (int, error) {
	switch b.state.Load() {
	case over:
		return 0, io.EOF
	case closed:
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.end(over)
	} else if err != nil {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
		b.end(closed)
	}
	return n, err
}

func (b *body) Close() error {
	b.end(closed)
	return nil
}

func (b *body) end(state int32) {
	if !b.state.CompareAndSwap(open, state) {
		return
	}
	if untouched := b.stop(); untouched && state == over && b.keep && b.c.in.Buffered() == 0 {
		b.t.put(b.c)
	} else {
		b.c.Close()
	}
}

// get returns a connection, and whether it has been used before.
func (t *Transport) get(ctx context.Context) (c *conn, kept bool, err error) {
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	for {
		t.mu.Lock()
		if n := len(t.idle); n > 0 {
			c, t.idle = t.idle[n-1], t.idle[:n-1]
		}
		t.mu.Unlock()
		if c == nil {
			break
		}
		if !t.stale(c, time.Now()) && alive(c.Conn) {
			return c, true, nil
		}
		c.Close()
		c = nil
	}
	nc, err := t.rest.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, false, err
	}
	c = &conn{Conn: nc}
	c.in = bufio.NewReaderSize(c, max(t.rest.ReadBufferSize, 4<<10))
	return c, false, nil
}

func (t *Transport) stale(c *conn, now time.Time) bool {
	return t.rest.IdleConnTimeout > 0 && now.Sub(c.used) >= t.rest.IdleConnTimeout
}

func (t *Transport) put(c *conn) {
	c.used = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) >= max(t.rest.MaxIdleConnsPerHost, http.DefaultMaxIdleConnsPerHost) {
		c.Close()
		return
	}
	t.idle = append(t.idle, c)
	if t.sweep == nil && t.rest.IdleConnTimeout > 0 {
		t.sweep = time.AfterFunc(t.rest.IdleConnTimeout, t.expire)
	}
}

// expire closes what has not been used for too long.
func (t *Transport) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(t.idle) && t.stale(t.idle[n], now) {
		t.idle[n].Close()
		n++
	}
	t.idle = append(t.idle[:0], t.idle[n:]...)
	if len(t.idle) == 0 {
		t.sweep = nil
	} else {
		t.sweep.Reset(t.rest.IdleConnTimeout)
	}
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		c.Close()
	}
	t.idle = nil
	t.rest.CloseIdleConnections()
}
