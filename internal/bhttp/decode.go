package bhttp

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ReadRequest reads a request up to its content. The Body of the result streams the content; req.Trailer is filled when the
// Body has returned io.EOF. A request without content has Body http.NoBody when its known length says so, and has then
// been read to its very end.
//
// Errors wrap [ErrInvalid], [ErrLimit], io.ErrUnexpectedEOF for a message cut short, or come from r.
func ReadRequest(r Reader, limits Limits) (*http.Request, error) {
	d := &decoder{r: r, limits: limits.withDefaults()}
	if err := d.framing(knownRequest, indeterminateRequest); err != nil {
		return nil, err
	}
	method, scheme, authority, path, budget, err := d.control()
	if err != nil {
		return nil, err
	}
	if !validToken(method) {
		return nil, invalid("method is not a token")
	}
	if method == http.MethodConnect {
		return nil, invalid("CONNECT has no meaning in a message (RFC 9292 section 6)")
	}
	if err := checkTarget(method, scheme, authority, path); err != nil {
		return nil, err
	}
	header, err := d.fields(budget, requestHeader)
	if err != nil {
		return nil, err
	}
	if hosts := header["Host"]; len(hosts) > 0 {
		if len(hosts) > 1 || !httpguts.ValidHostHeader(hosts[0]) || strings.ContainsAny(hosts[0], "@/?# ") {
			return nil, invalid("host field")
		}
		if authority == "" {
			authority = hosts[0]
		}
		if authority != hosts[0] {
			return nil, invalid("host field differs from the authority")
		}
		delete(header, "Host")
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, invalid("path cannot be parsed")
	}
	u.Scheme, u.Host = scheme, authority
	req := &http.Request{
		Method: method, URL: u, Host: authority, RequestURI: path, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Trailer: http.Header{},
	}
	req.Body, req.ContentLength, err = d.content(header, true, req.Trailer)
	if err != nil {
		return nil, err
	}
	return req, nil
}

// ReadResponse reads a response to req up to its content; req may be nil, meaning a GET. Each informational response goes
// to informational, if not nil, as soon as it has been read. The Body of the result streams the content; resp.Trailer is
// filled when the Body has returned io.EOF.
//
// Errors are those of [ReadRequest].
func ReadResponse(r Reader, req *http.Request, limits Limits, informational func(status int, h http.Header)) (*http.Response, error) {
	d := &decoder{r: r, limits: limits.withDefaults()}
	if err := d.framing(knownResponse, indeterminateResponse); err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		status, err := d.varint()
		if err != nil {
			return nil, cutShort(err)
		}
		if status < 100 || status > 599 || status == http.StatusSwitchingProtocols {
			return nil, invalid("status %d", status)
		}
		header, err := d.fields(d.limits.HeaderBytes, responseHeader)
		if err != nil {
			return nil, err
		}
		if status < 200 {
			if n == d.limits.Informational {
				return nil, overLimit("more than %d informational responses", n)
			}
			if informational != nil {
				informational(int(status), header)
			}
			continue
		}
		resp := &http.Response{
			Status:     strconv.FormatUint(status, 10) + " " + http.StatusText(int(status)),
			StatusCode: int(status), Header: header, Request: req,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Trailer: http.Header{},
		}
		mayHaveContent := status != http.StatusNoContent && status != http.StatusNotModified &&
			(req == nil || req.Method != http.MethodHead)
		resp.Body, resp.ContentLength, err = d.content(header, mayHaveContent, resp.Trailer)
		if err != nil {
			return nil, err
		}
		return resp, nil
	}
}

type decoder struct {
	r      Reader
	limits Limits
	known  bool
}

func (d *decoder) framing(known, indeterminate uint64) error {
	v, err := d.varint()
	if err != nil {
		return cutShort(err)
	}
	if v != known && v != indeterminate {
		return invalid("framing indicator %d, want %d or %d", v, known, indeterminate)
	}
	d.known = v == known
	return nil
}

// varint returns io.EOF only when the source ended before the first byte.
func (d *decoder) varint() (uint64, error) {
	c, err := d.r.ReadByte()
	if err != nil {
		return 0, err
	}
	v := uint64(c & 0x3f)
	for range 1<<(c>>6) - 1 {
		if c, err = d.r.ReadByte(); err != nil {
			return 0, cutShort(err)
		}
		v = v<<8 | uint64(c)
	}
	return v, nil
}

// append reads n bytes and appends them to b. As it does not hand b to the Reader, b may live on the stack.
func (d *decoder) append(b []byte, n uint64) ([]byte, error) {
	for n > 0 {
		if d.r.Buffered() == 0 {
			if _, err := d.r.Peek(1); err != nil {
				return nil, cutShort(err)
			}
		}
		window, err := d.r.Peek(int(min(n, uint64(d.r.Buffered()))))
		if err != nil {
			return nil, cutShort(err)
		}
		b = append(b, window...)
		n -= uint64(len(window))
		if _, err := d.r.Discard(len(window)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// control reads the control data of a request and returns what it leaves of the budget for the header.
func (d *decoder) control() (method, scheme, authority, path string, budget int, err error) {
	budget = d.limits.HeaderBytes
	text := make([]byte, 0, 256)
	var ends [4]int
	for i := range ends {
		n, err := d.varint()
		if err != nil {
			return "", "", "", "", 0, cutShort(err)
		}
		if n > uint64(budget) {
			return "", "", "", "", 0, overLimit("header larger than %d bytes", d.limits.HeaderBytes)
		}
		budget -= int(n)
		if text, err = d.append(text, n); err != nil {
			return "", "", "", "", 0, err
		}
		ends[i] = len(text)
	}
	all := string(text)
	return all[:ends[0]], all[ends[0]:ends[1]], all[ends[1]:ends[2]], all[ends[2]:], budget, nil
}

// fields reads a field section. One that is missing because the message ends before it counts as empty (RFC 9292 section
// 3.8).
func (d *decoder) fields(budget int, sec section) (http.Header, error) {
	lines := d
	if d.known {
		n, err := d.varint()
		if err == io.EOF || err == nil && n == 0 {
			return http.Header{}, nil
		}
		if err != nil {
			return nil, err
		}
		if n > uint64(budget) {
			return nil, overLimit("header larger than %d bytes", d.limits.HeaderBytes)
		}
		b, err := d.append(make([]byte, 0, n), n)
		if err != nil {
			return nil, err
		}
		lines = &decoder{r: (*sliceReader)(&b)}
	}
	// All names and values share one string: a few allocations for a section instead of two for each line.
	text := make([]byte, 0, 512)
	ends := make([]int, 0, 32)
	for {
		n, err := lines.varint()
		switch {
		case err == io.EOF && (d.known || len(ends) == 0), err == nil && n == 0 && !d.known:
			return makeHeader(string(text), ends, sec)
		case err == nil && n == 0:
			return nil, invalid("empty field name")
		}
		for range 2 { // the name, then the value
			if err != nil {
				return nil, cutShort(err)
			}
			// Every length costs a byte at least: the budget bounds the number of lines too.
			if used := len(text) + len(ends) + 1; used > budget || n > uint64(budget-used) {
				return nil, overLimit("header larger than %d bytes", d.limits.HeaderBytes)
			}
			if text, err = lines.append(text, n); err != nil {
				return nil, err
			}
			if ends = append(ends, len(text)); len(ends)%2 == 1 {
				n, err = lines.varint()
			}
		}
		if len(ends)/2 > d.limits.Fields {
			return nil, overLimit("more than %d fields in a section", d.limits.Fields)
		}
	}
}

func makeHeader(text string, ends []int, sec section) (http.Header, error) {
	h := make(http.Header, len(ends)/2)
	values := make([]string, len(ends)/2) // one backing array for the common case of one value a name
	at := 0
	for i := 0; i < len(ends); i += 2 {
		name, value := text[at:ends[i]], text[ends[i]:ends[i+1]]
		at = ends[i+1]
		if !validToken(name) {
			return nil, invalid("field name %.40q", name)
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if !validValue(value) {
			return nil, invalid("value of field %.40q", name)
		}
		if have := h[key]; have != nil {
			h[key] = append(have, value)
			continue
		}
		values[i/2] = value
		h[key] = values[i/2 : i/2+1 : i/2+1]
	}
	conn := h["Connection"]
	for key := range h {
		if key != "Host" && key != "Content-Length" && omit(key, conn, sec) {
			delete(h, key)
		}
	}
	return h, nil
}

// content returns the Body of a message whose header section has been read, and its length or -1.
func (d *decoder) content(h http.Header, allowed bool, tr http.Header) (io.ReadCloser, int64, error) {
	declared := int64(-1)
	if vs := h["Content-Length"]; len(vs) > 0 {
		n, err := strconv.ParseUint(vs[0], 10, 63)
		if err != nil || len(vs) > 1 || vs[0][0] == '+' {
			return nil, 0, invalid("content-length field")
		}
		declared = int64(n)
	}
	b := &body{d: d, declared: declared, trailer: tr, allowed: allowed}
	if !allowed {
		b.declared = 0
	}
	if d.known {
		n, err := d.varint()
		if err == io.EOF {
			n, err = 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if b.declared >= 0 && uint64(b.declared) != n {
			return nil, 0, b.mismatch()
		}
		b.left = n
		if n == 0 {
			if err := b.finish(); err != io.EOF {
				return nil, 0, err
			}
			if allowed {
				declared = 0
			}
			return http.NoBody, declared, nil
		}
		declared = int64(n)
	}
	return b, declared, nil
}

// body streams content, then checks all that follows it.
type body struct {
	d        *decoder
	left     uint64 // of the known content, or of the current chunk
	total    int64
	declared int64 // Content-Length, or -1
	allowed  bool
	chunks   bool        // at least one chunk has been seen
	trailer  http.Header // filled at the end; a map, so that copies of the message have it too
	err      error
}

// Read hands out all that has arrived, over several chunks, and waits only with nothing to hand out.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	for {
		if b.d.r.Buffered() == 0 {
			if _, err := b.d.r.Peek(1); err != nil && (err != io.EOF || b.left > 0) {
				b.err = cutShort(err)
				return 0, b.err
			}
		}
		if n := b.take(p); n > 0 || b.err != nil {
			if c, ok := b.d.r.(completer); ok && b.err == nil && b.left == 0 && c.Complete() {
				b.err = b.next()
			}
			return n, b.err
		}
		// What has arrived is not content.
		if b.err = b.next(); b.err != nil {
			return 0, b.err
		}
	}
}

// take copies the content that is buffered, up to the end of the content or of the buffer.
func (b *body) take(p []byte) int {
	window, err := b.d.r.Peek(b.d.r.Buffered())
	if err != nil {
		return 0
	}
	n, at := 0, 0
	for n < len(p) && at < len(window) {
		if b.left == 0 {
			size := 1 << (window[at] >> 6)
			if b.d.known || window[at] == 0 || at+size > len(window) {
				break // the end or a part of a length: for next
			}
			v := uint64(window[at] & 0x3f)
			if size == 8 { // padding is full of these
				v = binary.BigEndian.Uint64(window[at:]) & maxVarint
			} else {
				for _, c := range window[at+1 : at+size] {
					v = v<<8 | uint64(c)
				}
			}
			if v == 0 {
				break
			}
			at += size
			b.left, b.chunks = v, true
		}
		rest := window[at:]
		if uint64(len(rest)) > b.left {
			rest = rest[:b.left]
		}
		m := copy(p[n:], rest)
		n += m
		at += m
		b.left -= uint64(m)
	}
	b.d.r.Discard(at)
	b.total += int64(n)
	if b.declared >= 0 && b.total > b.declared {
		b.err = b.mismatch()
	}
	return n
}

// next moves to the next chunk of content, or past the end of the message with io.EOF.
func (b *body) next() error {
	if b.d.known {
		return b.finish()
	}
	v, err := b.d.varint()
	if err != nil && !(err == io.EOF && !b.chunks) {
		return cutShort(err)
	}
	if v == 0 {
		return b.finish()
	}
	b.left, b.chunks = v, true
	return nil
}

// finish reads trailers and padding up to the end of the source and returns io.EOF if all is well.
func (b *body) finish() error {
	if b.declared >= 0 && b.total != b.declared {
		return b.mismatch()
	}
	tr, err := b.d.fields(b.d.limits.HeaderBytes, trailer)
	if err != nil {
		return err
	}
	for {
		if b.d.r.Buffered() == 0 {
			if _, err := b.d.r.Peek(1); err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		padding, err := b.d.r.Peek(b.d.r.Buffered())
		if err != nil {
			return err
		}
		for _, c := range padding {
			if c != 0 {
				return invalid("bytes after its end that are not zero padding")
			}
		}
		if _, err := b.d.r.Discard(len(padding)); err != nil {
			return err
		}
	}
	maps.Copy(b.trailer, tr)
	return io.EOF
}

func (b *body) mismatch() error {
	if !b.allowed {
		return invalid("content in a response that cannot have any")
	}
	return invalid("content does not have the length that its content-length field says")
}

// Close does nothing: the source is the caller's.
func (b *body) Close() error { return nil }

// cutShort turns the end of the source inside a message into io.ErrUnexpectedEOF.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// sliceReader is a Reader over bytes in memory.
type sliceReader []byte

func (s *sliceReader) Read(p []byte) (int, error) {
	if len(*s) == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, *s)
	*s = (*s)[n:]
	return n, nil
}

func (s *sliceReader) ReadByte() (byte, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	c := (*s)[0]
	*s = (*s)[1:]
	return c, nil
}

func (s *sliceReader) Buffered() int { return len(*s) }

func (s *sliceReader) Peek(n int) ([]byte, error) {
	if n > len(*s) {
		return *s, io.EOF
	}
	return (*s)[:n], nil
}

func (s *sliceReader) Discard(n int) (int, error) {
	*s = (*s)[n:]
	return n, nil
}
