package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/kem"
	"github.com/cloudflare/circl/kem/xwing"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	headerSize = 7  // key id, KEM, KDF, AEAD
	tagSize    = 16 // of every AEAD here
	nonceSize  = 12 // likewise
)

// finalAAD authenticates the chunk that ends a message.
var finalAAD = []byte("final")

func (a AEAD) keySize() int {
	if a == AES128GCM {
		return 16
	}
	return 32
}

// entropySize is max(Nn, Nk), the length of a response nonce.
func (a AEAD) entropySize() int { return max(nonceSize, a.keySize()) }

func (a AEAD) new(key []byte) (cipher.AEAD, error) {
	if a == ChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// labels separate the domains of an encapsulation format: HPKE info and exporter context.
type labels struct{ request, response string }

// chunked is draft-ietf-ohai-chunked-ohttp-08 section 6, the format that this package speaks.
var chunked = labels{"message/bhttp chunked request", "message/bhttp chunked response"}

// schedule is what the HPKE key schedule (RFC 9180 section 5.1, base mode, HKDF-SHA256) needs for one key and AEAD, apart
// from the shared secret. circl supplies the KEM. Its key schedule is correct too, but does for each message what is the
// same for all messages to a key, and its cipher allocates for each chunk.
// TestSchedule and TestHPKEVectors hold this one against circl's, the standard library's and the specifications'.
type schedule struct {
	labels labels
	header []byte // of a request: key id, KEM, KDF, AEAD
	kem    kem.Scheme
	aead   AEAD

	suite   [10]byte // "HPKE" and the three identifiers
	context [1 + 2*sha256.Size]byte
}

func newSchedule(l labels, id uint8, k KEM, a AEAD) *schedule {
	s := &schedule{labels: l, kem: k.scheme(), aead: a}
	s.header = binary.BigEndian.AppendUint16([]byte{id}, uint16(k))
	s.header = binary.BigEndian.AppendUint16(s.header, kdfHKDFSHA256)
	s.header = binary.BigEndian.AppendUint16(s.header, uint16(a))
	copy(s.suite[:], "HPKE")
	copy(s.suite[4:], s.header[1:])
	s.setInfo(append(append([]byte(l.request), 0), s.header...))
	return s
}

func (s *schedule) setInfo(info []byte) {
	// Base mode: a zero byte, and no PSK.
	var d derivation
	copy(s.context[1:], d.extract(s, nil, "psk_id_hash", nil))
	copy(s.context[1+sha256.Size:], d.extract(s, nil, "info_hash", info))
}

const hpkeVersion = "HPKE-v1"

// derivation holds what one key derivation works with, in one piece to be wiped at its end.
type derivation struct {
	inner   [sha256.BlockSize + 192]byte // room for a key, then the message
	outer   [sha256.BlockSize + sha256.Size]byte
	outputs [5][sha256.Size]byte
	n       int
}

// message is where the message of the next sum begins, to append to.
func (d *derivation) message() []byte { return d.inner[:sha256.BlockSize] }

// sum is HMAC-SHA256 (RFC 2104) of a message that was appended to [derivation.message]. It is crypto/hmac without the six
// allocations for each key, and its copies of the key are wiped with d.
func (d *derivation) sum(key, message []byte) []byte {
	if len(key) > sha256.BlockSize {
		hashed := sha256.Sum256(key)
		key = hashed[:]
	}
	const ipad, opad = 0x36, 0x5c
	for i := range sha256.BlockSize {
		message[i], d.outer[i] = ipad, opad
	}
	subtle.XORBytes(message, message[:len(key)], key)
	subtle.XORBytes(d.outer[:], d.outer[:len(key)], key)
	*(*[sha256.Size]byte)(d.outer[sha256.BlockSize:]) = sha256.Sum256(message)
	out := &d.outputs[d.n]
	d.n++
	*out = sha256.Sum256(d.outer[:])
	return out[:]
}

func (d *derivation) wipe() { *d = derivation{} }

// extract is LabeledExtract (RFC 9180 section 4).
func (d *derivation) extract(s *schedule, salt []byte, label string, ikm []byte) []byte {
	return d.sum(salt, append(s.labeled(d.message(), label), ikm...))
}

// expand is LabeledExpand for at most one block of output.
func (d *derivation) expand(s *schedule, prk []byte, label string, info []byte, length int) []byte {
	b := binary.BigEndian.AppendUint16(d.message(), uint16(length))
	return d.expandBlock(prk, append(s.labeled(b, label), info...), length)
}

// expandBlock is HKDF-Expand (RFC 5869 section 2.3) for at most one block of output.
func (d *derivation) expandBlock(prk, info []byte, length int) []byte {
	return d.sum(prk, append(info, 1))[:length]
}

func (s *schedule) labeled(b []byte, label string) []byte {
	b = append(b, hpkeVersion...)
	b = append(b, s.suite[:]...)
	return append(b, label...)
}

// exchange is what both ends share after the HPKE setup: the request's cipher and the secret for the response.
type exchange struct {
	request chunkCipher
	aead    AEAD
	secret  []byte // Export(response label, max(Nn, Nk))
	enc     []byte
}

// sender is SetupBaseS (RFC 9180 section 5.1.1).
func (s *schedule) sender(pk kem.PublicKey) (*exchange, error) {
	enc, shared, err := s.kem.Encapsulate(pk)
	if err != nil {
		return nil, err
	}
	return s.exchange(enc, shared)
}

// receiver is SetupBaseR. It keeps enc.
func (s *schedule) receiver(sk kem.PrivateKey, enc []byte) (*exchange, error) {
	shared, err := s.kem.Decapsulate(sk, enc)
	if err != nil {
		return nil, err
	}
	return s.exchange(enc, shared)
}

// keys is KeySchedule. It consumes the shared secret; what it returns lives in d.
func (s *schedule) keys(d *derivation, shared []byte) (key, base, exporter []byte) {
	secret := d.extract(s, shared, "secret", nil)
	key = d.expand(s, secret, "key", s.context[:], s.aead.keySize())
	base = d.expand(s, secret, "base_nonce", s.context[:], nonceSize)
	exporter = d.expand(s, secret, "exp", s.context[:], sha256.Size)
	clear(shared)
	return key, base, exporter
}

// export is Context.Export (RFC 9180 section 5.3) for at most 32 bytes.
func (s *schedule) export(d *derivation, exporter []byte, context string, length int) []byte {
	return d.expand(s, exporter, "sec", []byte(context), length)
}

func (s *schedule) exchange(enc, shared []byte) (*exchange, error) {
	var d derivation
	defer d.wipe()
	key, base, exporter := s.keys(&d, shared)
	x := &exchange{aead: s.aead, enc: enc}
	x.secret = bytes.Clone(s.export(&d, exporter, s.labels.response, s.aead.entropySize()))
	return x, x.request.init(s.aead, key, base)
}

// responseCipher derives the response's key and nonce (RFC 9458 section 4.4). It consumes the secret.
func (x *exchange) responseCipher(c *chunkCipher, nonce []byte) error {
	if x.secret == nil {
		return errors.New("envelope: the response has been started already")
	}
	var d derivation
	defer d.wipe()
	// HKDF-Extract with enc || nonce as its salt.
	salt := append(append(make([]byte, 0, xwing.CiphertextSize+32), x.enc...), nonce...)
	prk := d.sum(salt, append(d.message(), x.secret...))
	key := d.expandBlock(prk, append(d.message(), "key"...), x.aead.keySize())
	base := d.expandBlock(prk, append(d.message(), "nonce"...), nonceSize)
	clear(x.secret)
	x.secret = nil
	return c.init(x.aead, key, base)
}

// chunkCipher seals or opens the chunks of one message, in order, each under its own nonce: base XOR counter.
type chunkCipher struct {
	aead  cipher.AEAD
	base  [nonceSize]byte
	nonce [nonceSize]byte
	count uint64
}

// maxChunks is the limit that RFC 8446 section 5.5 sets for AES-GCM under one key, at records of the same 16 KiB: 256 GiB a
// message.
const maxChunks = 1 << 24

func (c *chunkCipher) init(a AEAD, key, base []byte) (err error) {
	c.aead, err = a.new(key)
	copy(c.base[:], base)
	c.nonce = c.base
	return err
}

func (c *chunkCipher) next() ([]byte, error) {
	if c.count == maxChunks {
		return nil, fmt.Errorf("envelope: message of more than %d chunks", maxChunks)
	}
	low := binary.BigEndian.Uint64(c.base[nonceSize-8:]) ^ c.count
	binary.BigEndian.PutUint64(c.nonce[nonceSize-8:], low)
	c.count++
	return c.nonce[:], nil
}

// seal encrypts plain in place; its capacity must have room for the tag.
func (c *chunkCipher) seal(plain, aad []byte) ([]byte, error) {
	nonce, err := c.next()
	if err != nil {
		return nil, err
	}
	return c.aead.Seal(plain[:0], nonce, plain, aad), nil
}

// open decrypts sealed in place.
func (c *chunkCipher) open(sealed, aad []byte) ([]byte, error) {
	nonce, err := c.next()
	if err != nil {
		return nil, err
	}
	plain, err := c.aead.Open(sealed[:0], nonce, sealed, aad)
	if err != nil {
		return nil, ErrAuthentication
	}
	return plain, nil
}
