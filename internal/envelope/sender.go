package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/internal/bhttp"
	"github.com/cloudflare/circl/kem"
)

// Media types.
const (
	KeysMediaType     = "application/ohttp-keys"    // RFC 9458 section 3.2
	RequestMediaType  = "message/ohttp-chunked-req" // draft section 9.1
	ResponseMediaType = "message/ohttp-chunked-res" // draft section 9.2
)

// Sender seals requests to one enclave key. It is safe for concurrent use.
type Sender struct {
	// Limits bounds the responses. Set it before first use.
	Limits bhttp.Limits
	// Now is the clock for the Date field; time.Now when nil. Set it before first use.
	Now func() time.Time

	id       uint8
	pk       kem.PublicKey
	schedule *schedule
	prepared atomic.Pointer[prepared]
}

// prepared is an encapsulation that no request has used yet.
type prepared struct {
	x      *exchange
	expiry *time.Timer
}

// preparedFor is how long an encapsulation is kept for a request that may never come.
const preparedFor = time.Minute

// NewSender makes a Sender that uses the first AEAD of the configuration. Nothing is negotiated: who vouches for config,
// the attested keyset, decides on the algorithms.
func NewSender(config KeyConfig) (*Sender, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	pk, err := config.KEM.scheme().UnmarshalBinaryPublicKey(config.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("envelope: key configuration %d: invalid public key: %w", config.ID, err)
	}
	return &Sender{id: config.ID, pk: pk, schedule: newSchedule(chunked, config.ID, config.KEM, config.AEADs[0])}, nil
}

// Prepare makes an encapsulation now, which is most of the work of the next [Sender.Seal]. It keeps one, for a minute.
func (s *Sender) Prepare() {
	if s.prepared.Load() != nil {
		return
	}
	x, err := s.schedule.sender(s.pk)
	if err != nil {
		return // Seal will meet it, too
	}
	p := &prepared{x: x}
	p.expiry = time.AfterFunc(preparedFor, func() {
		if s.prepared.CompareAndSwap(p, nil) {
			clear(x.secret)
		}
	})
	if !s.prepared.CompareAndSwap(nil, p) {
		p.expiry.Stop()
		clear(x.secret)
	}
}

// encapsulate returns an encapsulation that nothing has used.
func (s *Sender) encapsulate() (*exchange, error) {
	if p := s.prepared.Swap(nil); p != nil {
		p.expiry.Stop()
		return p.x, nil
	}
	return s.schedule.sender(s.pk)
}

// Seal starts sealing req and returns the body to POST as [RequestMediaType], and what opens the response to it.
//
// The encapsulation is fresh each time, and a Date field is added if req has none (it feeds the enclave's replay guard). A
// body of known length that fits one chunk is read here; the result is then complete, of known length, and comes out in
// one Read. Any other body streams through [SealedRequest.Read] with one chunk of memory. As with http.Client, the body
// belongs to Seal from now on, even when it fails, and is closed.
//
// The size of the message, not of its parts, can be told from outside, up to [PaddedLen]. Trailers work as in net/http.
// Expect: 100-continue is refused (RFC 9458 section 5.1).
func (s *Sender) Seal(req *http.Request) (*SealedRequest, *ResponseOpener, error) {
	body := req.Body
	length := req.ContentLength
	switch {
	case body == nil || body == http.NoBody:
		body, length = http.NoBody, 0
	case length == 0 || len(req.Trailer) > 0:
		length = -1
	}
	sealed, x, err := s.seal(req, body, length)
	if err != nil {
		body.Close()
		return nil, nil, err
	}
	return sealed, &ResponseOpener{limits: s.Limits, req: req, x: x}, nil
}

func (s *Sender) seal(req *http.Request, body io.ReadCloser, length int64) (*SealedRequest, *exchange, error) {
	if req.Header.Get("Expect") != "" {
		return nil, nil, errors.New("envelope: a sealed request cannot carry an Expect field")
	}
	lead := headerSize + s.schedule.kem.CiphertextSize() + maxPrefix
	guess := int64(MaxChunk) // of the plaintext in the first chunk
	if length >= 0 {
		guess = PaddedLen(512 + min(length, MaxChunk-512))
	}
	// The head is written to where it will be sealed, unless it turns out too long.
	buf, err := s.appendHead(make([]byte, lead, lead+int(guess)+tagSize), req, length)
	if err != nil {
		return nil, nil, err
	}
	head := buf[lead:]
	x, err := s.encapsulate()
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: encapsulation to key %d: %w", s.id, err)
	}
	r := &SealedRequest{cipher: x.request, body: body, req: req, pending: head, left: length, wire: -1}
	room, whole := MaxChunk, false
	if length >= 0 {
		total := PaddedLen(int64(len(head)) + length + 1)
		full := (total - 1) / MaxChunk
		last := total - full*MaxChunk
		r.wire = int64(lead-maxPrefix) + full*(maxPrefix+maxSealed) + 1 + last + tagSize
		room, whole = int(min(total, MaxChunk)), full == 0
	}
	if len(head) > room || cap(buf) < lead+room+tagSize {
		buf = make([]byte, lead+room+tagSize)
	}
	r.buf = buf[:lead+room+tagSize]
	r.lead = lead
	r.header, r.enc = s.schedule.header, x.enc
	if whole {
		if r.produce(); r.err != io.EOF {
			return nil, nil, r.err
		}
		r.whole = true
	}
	return r, x, nil
}

// appendHead appends the head of req, with a Date.
func (s *Sender) appendHead(b []byte, req *http.Request, length int64) ([]byte, error) {
	if req.Header.Get("Date") != "" {
		return bhttp.AppendRequestHead(b, req, length)
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	dated := *req
	dated.Header = make(http.Header, 8)
	maps.Copy(dated.Header, req.Header)
	dated.Header.Set("Date", now().UTC().Format(http.TimeFormat))
	return bhttp.AppendRequestHead(b, &dated, length)
}

// SealedRequest is a sealed request on its way out: the body of a POST. It is for one goroutine at a time, but as net/http
// wants it, Close may interrupt a Read in another.
type SealedRequest struct {
	cipher chunkCipher
	req    *http.Request
	body   io.ReadCloser
	closed atomic.Bool
	wire   int64

	header  []byte // these two come out with the first chunk
	enc     []byte
	buf     []byte
	lead    int    // where plaintext starts in buf
	pending []byte // plaintext to send before anything else
	left    int64  // content still to come; negative when not known
	state   int
	total   int64 // plaintext so far
	pad     int64 // padding still to come
	out     []byte
	whole   bool // out is the whole sealed request
	err     error
}

const (
	inContent = iota
	inTrailer
	inPadding
	atEnd
)

// Len is the length in bytes of the sealed request, or -1 when the length of its body is not known.
func (r *SealedRequest) Len() int64 { return r.wire }

// Apply makes req, a POST to the relay, carry the sealed request: body, length, Content-Type, and, for a request of several
// chunks, Incremental (draft section 3). A request that is complete can be sent again by the transport when a kept
// connection turns out to be dead: the same bytes, which the enclave accepts once.
func (r *SealedRequest) Apply(req *http.Request) {
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", RequestMediaType)
	req.Body, req.ContentLength, req.GetBody = r, r.wire, nil
	if r.whole && len(r.out) > 0 {
		whole := r.out
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole)), nil }
		req.Body, _ = req.GetBody()
		return
	}
	req.Header.Set("Incremental", "?1")
}

// Read returns sealed bytes, io.EOF after the final chunk, or the error of the request's body: the sealed request is then
// cut short and no enclave takes it for complete.
func (r *SealedRequest) Read(p []byte) (int, error) {
	if err := r.more(); err != nil {
		return 0, err
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// WriteTo writes each chunk with one Write.
func (r *SealedRequest) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.more(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.out)
		total += int64(n)
		r.out = r.out[n:]
		if err != nil {
			return total, err
		}
	}
}

// Close closes the request's body. What has not been read by then never will be.
func (r *SealedRequest) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.body.Close()
}

// more makes sure that something is in out, or says why not.
func (r *SealedRequest) more() error {
	if len(r.out) == 0 && r.err == nil && !r.closed.Load() {
		r.produce()
	}
	switch {
	case r.closed.Load() && r.err == nil:
		return http.ErrBodyReadAfterClose
	case len(r.out) > 0:
		return nil
	}
	return r.err
}

// produce seals the next chunk into out. On an error nothing comes out.
func (r *SealedRequest) produce() {
	plain := r.buf[r.lead : len(r.buf)-tagSize]
	n, err := r.plaintext(plain)
	if err != nil {
		r.fail(err)
		return
	}
	final := r.state == atEnd
	var aad []byte
	if final {
		aad = finalAAD
	}
	sealed, err := r.cipher.seal(plain[:n], aad)
	if err != nil {
		r.fail(err)
		return
	}
	at := r.lead
	if final {
		at = putPrefix(r.buf, at, 0)
	} else {
		at = putPrefix(r.buf, at, len(sealed))
	}
	at -= copy(r.buf[at-len(r.enc):], r.enc)
	at -= copy(r.buf[at-len(r.header):], r.header)
	r.header, r.enc = nil, nil
	r.out = r.buf[at : r.lead+len(sealed)]
	if final {
		r.err = io.EOF
		r.Close()
	}
}

func (r *SealedRequest) fail(err error) {
	clear(r.buf)
	r.err = fmt.Errorf("envelope: sealing the request: %w", err)
	r.Close()
}

// plaintext fills p with the next bytes of the message; the state says whether they are the last.
func (r *SealedRequest) plaintext(p []byte) (int, error) {
	n := 0
fill:
	for n < len(p) && r.state != atEnd {
		switch {
		case len(r.pending) > 0:
			m := copy(p[n:], r.pending)
			r.pending = r.pending[m:]
			n += m
		case r.state == inContent && r.left > 0:
			m, err := r.body.Read(p[n:][:min(int64(len(p)-n), r.left)])
			n += m
			r.left -= int64(m)
			if err == io.EOF && r.left > 0 {
				return 0, fmt.Errorf("body ends %d bytes before its Content-Length: %w", r.left, io.ErrUnexpectedEOF)
			}
			if err != nil && err != io.EOF {
				return 0, err
			}
		case r.state == inContent && r.left == 0:
			if err := atEOF(r.body); err != nil {
				return 0, err
			}
			r.pending = []byte{0} // an empty trailer section
			r.state = inTrailer
		case r.state == inContent: // not known
			const room = 2 // for the length of a content chunk
			if len(p)-n <= room {
				break fill
			}
			m, err := io.ReadFull(r.body, p[n+room:])
			if m > 0 {
				putLen(p[n:], m)
				n += room + m
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				r.pending = []byte{0}
				if r.pending, err = bhttp.AppendTrailer(r.pending, r.req.Trailer, false); err == nil {
					r.state = inTrailer
				}
			}
			if err != nil {
				return 0, err
			}
		case r.state == inTrailer:
			total := r.total + int64(n)
			r.pad = PaddedLen(total) - total
			r.state = inPadding
		case r.state == inPadding && r.pad > 0:
			m := int(min(int64(len(p)-n), r.pad))
			clear(p[n : n+m])
			n += m
			r.pad -= int64(m)
		case r.state == inPadding:
			r.state = atEnd
		}
	}
	// The message may end just where the chunk does.
	if r.state == inTrailer && len(r.pending) == 0 {
		if total := r.total + int64(n); PaddedLen(total) == total {
			r.state = atEnd
		}
	}
	if r.state == inPadding && r.pad == 0 {
		r.state = atEnd
	}
	r.total += int64(n)
	return n, nil
}

// atEOF checks that a body has no more than it announced.
func atEOF(body io.Reader) error {
	var probe [1]byte
	for range 100 {
		n, err := body.Read(probe[:])
		if n > 0 {
			return errors.New("body is longer than its Content-Length")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// ResponseOpener opens the one response to a sealed request.
type ResponseOpener struct {
	limits bhttp.Limits
	req    *http.Request
	x      *exchange
}

// Open reads the sealed response from r, the body of the relay's response with [ResponseMediaType], as far as the final
// header section. informational, if not nil, gets each 1xx response as soon as it has arrived. The Body of the result
// streams: data is there as soon as its chunk is; it returns io.EOF only when the authenticated end has been seen, and
// otherwise [ErrTruncated], [ErrAuthentication] or the error of r. Closing it closes r if r is an io.Closer. Trailers work
// as in net/http.
//
// On error r is left to the caller. Open works once.
func (o *ResponseOpener) Open(r io.Reader, informational func(status int, h http.Header)) (*http.Response, error) {
	if o.x == nil {
		return nil, errors.New("envelope: the response has been opened already")
	}
	x := o.x
	o.x = nil
	c := newChunkReader(r, blockSize)
	nonce, err := c.take(x.aead.entropySize())
	if err != nil {
		return nil, err
	}
	if err := x.responseCipher(&c.cipher, nonce); err != nil {
		return nil, err
	}
	resp, err := bhttp.ReadResponse(c, o.req, o.limits, informational)
	if err != nil {
		return nil, err
	}
	resp.Body = &openBody{Reader: resp.Body, src: r}
	return resp, nil
}

// openBody closes the source. As with net/http, Close may interrupt a Read in another goroutine.
type openBody struct {
	io.Reader
	src    io.Reader
	closed atomic.Bool
}

func (b *openBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

func (b *openBody) Close() error {
	b.closed.Store(true)
	if c, ok := b.src.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
