package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

// started is an exchange whose request has been opened.
func started(t testing.TB, s *Sender, r *Receiver, method string) (*ResponseSealer, *ResponseOpener) {
	t.Helper()
	req := newRequest(t, nil)
	req.Method = method
	wire, opener := sealAll(t, s, req)
	_, sealer, err := r.Open(t.Context(), bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	return sealer, opener
}

// writes records each Write.
type writes [][]byte

func (w *writes) Write(p []byte) (int, error) { *w = append(*w, bytes.Clone(p)); return len(p), nil }

// Each flush is one Write and one flush of the transport, of a size that does not tell the length of the token.
func TestFlushSizes(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	sealer, opener := started(t, s, r, "POST")
	var out writes
	flushes := 0
	w := sealer.Respond(&out, func() error { flushes++; return nil })
	w.Header().Set("Content-Type", "text/event-stream")
	w.Flush()
	var want []byte
	for n := 30; n <= 254; n++ {
		want = append(want, text(n)...)
		w.Write(text(n))
		w.Flush()
		last := out[len(out)-1]
		if len(out) != n-28 || flushes != len(out) || len(last) != 2+DefaultBucket+tagSize {
			t.Fatalf("token of %d bytes: %d writes, %d flushes, %d bytes", n, len(out), flushes, len(last))
		}
	}
	w.Flush()
	if len(out) != 226 {
		t.Error("a flush of nothing was sealed")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if last := out[len(out)-1]; len(last) != 1+DefaultBucket+tagSize {
		t.Errorf("the end has %d bytes", len(last))
	}
	resp, err := opener.Open(bytes.NewReader(bytes.Join(out, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	// One byte at a time, too: the reader must not depend on how it is read.
	got, err := io.ReadAll(iotest.OneByteReader(resp.Body))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("content changed: %v", err)
	}
}

// Data is there as soon as its chunk is, before the next one.
func TestStreams(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	sealer, opener := started(t, s, r, "POST")
	src, dst := io.Pipe()
	told := make(chan string, 1)
	opened := make(chan *http.Response)
	go func() {
		resp, err := opener.Open(src, func(status int, h http.Header) { told <- fmt.Sprint(status, h["Cost"]) })
		if err != nil {
			t.Error(err)
		}
		opened <- resp
	}()
	w := sealer.Respond(dst, nil)
	w.Header().Set("Cost", "1")
	w.WriteHeader(102)
	if got := <-told; got != "102 [1]" {
		t.Errorf("informational %q", got)
	}
	w.Header().Del("Cost")
	w.Flush()
	resp := <-opened
	buf := make([]byte, 1000)
	for i := range 3 {
		done := make(chan error)
		go func() { w.Write(text(100 + i)); done <- w.FlushError() }()
		n, err := resp.Body.Read(buf)
		if n != 100+i || err != nil {
			t.Fatalf("token %d: %d bytes, %v", i, n, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	// The client goes away: the writer learns it, and Close does not make the answer whole.
	resp.Body.Close()
	if _, err := resp.Body.Read(buf); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("Read after Close: %v", err)
	}
	w.Write(text(10))
	if err := w.FlushError(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("flush to a client that is gone: %v", err)
	}
	if err := w.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close for a client that is gone: %v", err)
	}
}

func TestResponseWriterMisuse(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	for name, f := range map[string]struct {
		method string
		use    func(w *ResponseWriter) error
	}{
		"header twice":         {"POST", func(w *ResponseWriter) error { w.WriteHeader(200); w.WriteHeader(200); return w.Close() }},
		"informational late":   {"POST", func(w *ResponseWriter) error { w.WriteHeader(200); w.WriteHeader(102); return w.Close() }},
		"status 99":            {"POST", func(w *ResponseWriter) error { w.WriteHeader(99); return w.Close() }},
		"status 101":           {"POST", func(w *ResponseWriter) error { w.WriteHeader(101); return w.Close() }},
		"status 600":           {"POST", func(w *ResponseWriter) error { w.WriteHeader(600); return w.Close() }},
		"close twice":          {"POST", func(w *ResponseWriter) error { w.Close(); return w.Close() }},
		"write after close":    {"POST", func(w *ResponseWriter) error { w.Close(); _, err := w.Write([]byte("x")); return err }},
		"flush after close":    {"POST", func(w *ResponseWriter) error { w.Close(); return w.FlushError() }},
		"content with 204":     {"POST", func(w *ResponseWriter) error { w.WriteHeader(204); _, err := w.Write([]byte("x")); return err }},
		"field with a newline": {"POST", func(w *ResponseWriter) error { w.Header().Set("A", "b\nc"); return w.Close() }},
		"field name":           {"POST", func(w *ResponseWriter) error { w.Header().Set("A b", "c"); return w.Close() }},
		"forbidden trailer": {"POST", func(w *ResponseWriter) error {
			w.Header().Set(http.TrailerPrefix+"Content-Length", "1")
			return w.Close()
		}},
	} {
		sealer, _ := started(t, s, r, f.method)
		if err := f.use(sealer.Respond(io.Discard, nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	sealer, opener := started(t, s, r, "GET")
	var out bytes.Buffer
	w := sealer.Respond(&out, nil)
	if err := sealer.Respond(io.Discard, nil).Close(); err == nil {
		t.Error("two responses to one request")
	}
	w.Close()
	if _, err := opener.Open(&out, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := opener.Open(&out, nil); err == nil {
		t.Error("one response opened twice")
	}
}

func TestNoContent(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	for _, c := range []struct {
		method string
		status int
	}{{"HEAD", 200}, {"GET", 204}, {"GET", 304}} {
		sealer, opener := started(t, s, r, c.method)
		var out bytes.Buffer
		w := sealer.Respond(&out, nil)
		w.Header().Set("Content-Length", "5")
		if c.status == 204 {
			w.Header().Del("Content-Length")
		}
		w.WriteHeader(c.status)
		if c.method == "HEAD" {
			w.Write([]byte("hello"))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		resp, err := opener.Open(&out, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) > 0 || resp.StatusCode != c.status {
			t.Errorf("%v: %d, %q, %v", c, resp.StatusCode, body, err)
		}
	}
}

// An answer that was never flushed shows its size up to PaddedLen only.
func TestAnswerSizes(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	seen := map[int]bool{}
	for n := 0; n < 6000; n += 97 {
		sealer, _ := started(t, s, r, "POST")
		var out bytes.Buffer
		w := sealer.Respond(&out, nil)
		w.Write(text(n))
		w.Close()
		seen[out.Len()] = true
		if plain := out.Len() - 32 - 1 - tagSize; plain%PadUnit != 0 {
			t.Errorf("%d bytes: plaintext of %d", n, plain)
		}
	}
	if len(seen) > 7 {
		t.Errorf("%d sizes", len(seen))
	}
	clear(seen)
	for n := 60_000; n < 64_000; n += 97 { // several chunks
		sealer, _ := started(t, s, r, "POST")
		var out bytes.Buffer
		w := sealer.Respond(&out, nil)
		w.Write(text(n))
		w.Close()
		seen[out.Len()] = true
	}
	if len(seen) > 3 {
		t.Errorf("%d sizes of several chunks", len(seen))
	}
}

func TestPaddedLen(t *testing.T) {
	last := int64(0)
	for n := int64(0); n < 1<<17; n++ {
		p := PaddedLen(n)
		if p < n || p < last || p%PadUnit != 0 || p == 0 || p != PaddedLen(p) {
			t.Fatalf("PaddedLen(%d) is %d, after %d", n, p, last)
		}
		if n > 1<<15 && p-n > n/16 {
			t.Fatalf("PaddedLen(%d) adds %d", n, p-n)
		}
		last = p
	}
	if p := PaddedLen(1 << 50); p != 1<<50 {
		t.Errorf("PaddedLen(1<<50) is %d", p)
	}
}

// Padding inside the stream reaches every size that it can, and leaves the content alone.
func TestSpread(t *testing.T) {
	for n := 1; n <= 70; n++ {
		for pad := 0; pad <= 600; pad++ {
			want := text(n)
			buf := make([]byte, 3+2+n+pad)
			copy(buf[5:], want)
			end := spread(buf, 3, 5+n, pad)
			added := end - 5 - n
			if added > pad || added < min(pad, 8*(n-1))-7 || n-1 >= pad/8+3 && added != pad {
				t.Fatalf("%d bytes padded by %d of %d", n, added, pad)
			}
			r := append([]byte{3, 0x40, 0xc8, 0}, buf[3:end]...)
			resp, err := bhttp.ReadResponse(newBuffered(append(r, 0)), nil, bhttp.Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes padded by %d: %x, %v", n, pad, buf[3:end], err)
			}
		}
	}
}

func TestSealRefused(t *testing.T) {
	s, _ := newPair(t, X25519, AES256GCM)
	broken := errors.New("broken")
	for name, f := range map[string]func(*http.Request){
		"expect":           func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
		"method":           func(r *http.Request) { r.Method = "a b" },
		"CONNECT":          func(r *http.Request) { r.Method = "CONNECT" },
		"scheme":           func(r *http.Request) { r.URL.Scheme = "ftp" },
		"authority":        func(r *http.Request) { r.Host = "user@host" },
		"header value":     func(r *http.Request) { r.Header.Set("A", "b\x00") },
		"body too short":   func(r *http.Request) { r.ContentLength = 6 },
		"body too long":    func(r *http.Request) { r.ContentLength = 4 },
		"body that breaks": func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(broken)) },
	} {
		req := newRequest(t, strings.NewReader("hello"))
		f(req)
		body := &closer{Reader: req.Body}
		req.Body = body
		if _, _, err := s.Seal(req); err == nil {
			t.Errorf("%s: sealed", name)
		}
		if !body.closed {
			t.Errorf("%s: body left open", name)
		}
	}
	// Of a body that streams, what comes after an error must not look complete.
	for name, body := range map[string]io.Reader{
		"unknown length":   io.MultiReader(bytes.NewReader(text(40_000)), iotest.ErrReader(broken)),
		"known, too short": bytes.NewReader(text(30_000)), "known, too long": bytes.NewReader(text(60_000)),
	} {
		s, r := newPair(t, X25519, AES256GCM)
		req := newRequest(t, unknownLength{body})
		if strings.HasPrefix(name, "known") {
			req.ContentLength = 50_000
		}
		sealed, _, err := s.Seal(req)
		if err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		if _, err := io.Copy(&wire, sealed); err == nil {
			t.Errorf("%s: sealed", name)
		}
		got, _, err := r.Open(t.Context(), &wire)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := io.ReadAll(got.Body); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: opened with %v", name, err)
		}
	}
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestRequestTrailer(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	req := newRequest(t, strings.NewReader("hello"))
	req.Trailer = http.Header{"Digest": {"abc"}}
	wire, _ := sealAll(t, s, req)
	got, _, err := r.Open(t.Context(), bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(got.Body); err != nil || string(body) != "hello" || got.Trailer.Get("Digest") != "abc" {
		t.Errorf("%q, %v, %v", body, got.Trailer, err)
	}
}

// A small request is one Write, of a size that tells little.
func TestRequestSizes(t *testing.T) {
	s, _ := newPair(t, XWing, AES256GCM)
	seen := map[int]bool{}
	for n := 0; n < 6000; n += 97 {
		sealed, _, err := s.Seal(newRequest(t, bytes.NewReader(text(n))))
		if err != nil {
			t.Fatal(err)
		}
		var out writes
		if _, err := io.Copy(&out, sealed); err != nil || len(out) != 1 || int64(len(out[0])) != sealed.Len() {
			t.Fatalf("%d bytes: %d writes, %v", n, len(out), err)
		}
		seen[len(out[0])] = true
	}
	if len(seen) > 7 {
		t.Errorf("%d sizes", len(seen))
	}
}

// The transport closes a body that it is reading when the request is cancelled.
func TestSealedRequestClose(t *testing.T) {
	s, _ := newPair(t, X25519, AES256GCM)
	src, dst := io.Pipe()
	sealed, _, err := s.Seal(newRequest(t, src))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, sealed)
		done <- err
	}()
	dst.Write(text(20_000))
	if err := sealed.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("a request that was closed came out whole")
	}
	if _, err := dst.Write(text(1)); err == nil {
		t.Error("the body was left open")
	}
	if err := sealed.Close(); err != nil {
		t.Error(err)
	}
}
