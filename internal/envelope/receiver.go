package envelope

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

// ErrUnknownKey is wrapped by the error about a request that names a key, KEM, KDF or AEAD that the receiver does not
// offer. The client should fetch Evidence again; [KeyProblemType] says so over HTTP.
var ErrUnknownKey = errors.New("envelope: sealed to a key that is not in use")

// Problem types (RFC 9457) that tell a client what to do.
const (
	// KeyProblemType goes with [ErrUnknownKey], in a 400 response that is not sealed (RFC 9458 section 5.3).
	KeyProblemType = "https://iana.org/assignments/http-problem-types#ohttp-key"
	// DateProblemType goes with [DateError], in a sealed 400 response with a Date field (RFC 9458 section 6.5.2).
	DateProblemType = "https://iana.org/assignments/http-problem-types#date"
)

// Receiver opens sealed requests in the enclave. It is safe for concurrent use.
type Receiver struct {
	guard  *ReplayGuard
	limits bhttp.Limits
	keys   atomic.Pointer[map[uint8]*KeyPair]
}

// NewReceiver makes a Receiver. The guard must live as long as any of its keys, and no key may be shared between receivers:
// what one has seen the other would accept again.
func NewReceiver(guard *ReplayGuard, limits bhttp.Limits, keys ...*KeyPair) (*Receiver, error) {
	if guard == nil {
		return nil, errors.New("envelope: a receiver needs a replay guard")
	}
	r := &Receiver{guard: guard, limits: limits}
	return r, r.SetKeys(keys...)
}

// SetKeys replaces the keys, for rotation. A key that is left out takes no new requests; requests already open go on. The
// caller closes it.
func (r *Receiver) SetKeys(keys ...*KeyPair) error {
	m := make(map[uint8]*KeyPair, len(keys))
	for _, k := range keys {
		m[k.config.ID] = k
	}
	if len(m) != len(keys) {
		return errors.New("envelope: two keys with one identifier")
	}
	r.keys.Store(&m)
	return nil
}

// KeyConfigs returns the configurations of all keys, ordered by identifier.
func (r *Receiver) KeyConfigs() []KeyConfig {
	m := *r.keys.Load()
	configs := make([]KeyConfig, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		configs = append(configs, m[id].Config())
	}
	return configs
}

// Open reads a sealed request from body as far as the end of its header section, checks it against the replay guard, and
// returns the request, with ctx, and the sealer for its response. The request's Body streams; it returns io.EOF only when
// the authenticated end has been seen. Whoever acts on the request before that acts on a part of it.
//
// When the error concerns what was inside, the sealer is there all the same, and the error belongs into a sealed response:
// so for [DateError], bhttp.ErrInvalid and bhttp.ErrLimit. Without a sealer the answer cannot be sealed:
// [ErrUnknownKey], [ErrAuthentication], [ErrReplayed], [ErrGuardFull], [ErrKeyClosed], [ErrTruncated].
func (r *Receiver) Open(ctx context.Context, body io.Reader) (*http.Request, *ResponseSealer, error) {
	c := newChunkReader(body, blockSize)
	header, err := c.take(headerSize)
	if err != nil {
		return nil, nil, err
	}
	kp := (*r.keys.Load())[header[0]]
	var s *schedule
	if kp != nil {
		s = kp.schedules[AEAD(binary.BigEndian.Uint16(header[5:]))]
	}
	if s == nil || !bytes.Equal(s.header, header) {
		return nil, nil, fmt.Errorf("%w: key %d, KEM, KDF and AEAD %x", ErrUnknownKey, header[0], header[1:])
	}
	enc, err := c.take(s.kem.CiphertextSize())
	if err != nil {
		return nil, nil, err
	}
	x, err := kp.receive(s, bytes.Clone(enc))
	if errors.Is(err, ErrKeyClosed) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: decapsulation failed", ErrAuthentication)
	}
	c.cipher = x.request
	if err := c.fill(); err != nil {
		return nil, nil, err
	}
	// From here on the sender has proved to know what it encapsulated.
	sealer := &ResponseSealer{x: x}
	req, err := bhttp.ReadRequest(c, r.limits)
	switch {
	case errors.Is(err, bhttp.ErrInvalid), errors.Is(err, bhttp.ErrLimit):
		return nil, sealer, err
	case err == io.ErrUnexpectedEOF && c.final:
		return nil, sealer, fmt.Errorf("%w: cut short by its sender", bhttp.ErrInvalid)
	case err != nil:
		return nil, nil, err
	}
	sealer.head = req.Method == http.MethodHead
	if req.Header.Get("Expect") != "" {
		return nil, sealer, fmt.Errorf("%w: Expect field (RFC 9458 section 5.1)", bhttp.ErrInvalid)
	}
	if err := r.guard.admit(x.enc, req.Header.Values("Date")); err != nil {
		var date *DateError
		if errors.As(err, &date) {
			return nil, sealer, err
		}
		return nil, nil, err
	}
	return req.WithContext(ctx), sealer, nil
}

// ResponseSealer seals the one response to an opened request.
type ResponseSealer struct {
	x    *exchange
	head bool
}

// DefaultBucket is the unit, in bytes, to which a [ResponseWriter] pads the chunks of a streamed answer.
const DefaultBucket = 256

// Respond starts the response on w, the body of a 200 response with [ResponseMediaType]. flush, if not nil, is called after
// each chunk that the answer's writer flushed: http.ResponseController.Flush for instance. Respond works once: a second
// writer does nothing but return an error.
func (s *ResponseSealer) Respond(w io.Writer, flush func() error) *ResponseWriter {
	size := s.x.aead.entropySize()
	lead := size + maxPrefix
	b := blocks.Get().(*block)
	rw := &ResponseWriter{
		Bucket: DefaultBucket, w: w, flush: flush, head: s.head, header: http.Header{},
		lead: lead, room: blockSize - lead - tagSize, nonce: size, run: -1, buf: b[:], block: b,
	}
	nonce := rw.buf[:size]
	rand.Read(nonce)
	rw.err = s.x.responseCipher(&rw.cipher, nonce)
	return rw
}
