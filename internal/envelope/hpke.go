package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
	"golang.org/x/crypto/chacha20poly1305"
)

// A format fixes the strings that separate the domains of one encapsulation format.
type format struct{ request, response string }

var (
	// chunked is draft-ietf-ohai-chunked-ohttp-08 section 6, the format that this package speaks.
	chunked = format{"message/bhttp chunked request", "message/bhttp chunked response"}
)

const (
	headerSize = 7  // key id, KEM, KDF, AEAD
	tagSize    = 16 // of every AEAD here
	nonceSize  = 12 // likewise
)

// finalAAD authenticates the chunk that ends a message.
var finalAAD = []byte("final")

func (a AEAD) keySize() int { return int(hpke.AEAD(a).KeySize()) }

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

func appendHeader(b []byte, id uint8, k KEM, a AEAD) []byte {
	b = append(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(k))
	b = binary.BigEndian.AppendUint16(b, kdfHKDFSHA256)
	return binary.BigEndian.AppendUint16(b, uint16(a))
}

func (f format) info(header []byte) []byte {
	info := make([]byte, 0, len(f.request)+1+headerSize)
	info = append(info, f.request...)
	info = append(info, 0)
	return append(info, header...)
}

// exchange is what both ends share after the HPKE setup: the request's cipher and the secret for the response.
type exchange struct {
	request chunkCipher
	aead    AEAD
	secret  []byte // context.Export of the response label
	enc     []byte
}

func suite(k KEM, a AEAD) hpke.Suite {
	return hpke.NewSuite(hpke.KEM(k), hpke.KDF_HKDF_SHA256, hpke.AEAD(a))
}

// setupSender is SetupBaseS of RFC 9180 section 5.1.1 with the info string of the format.
func (f format) setupSender(k KEM, a AEAD, pk kem.PublicKey, header []byte) (*exchange, error) {
	s, err := suite(k, a).NewSender(pk, f.info(header))
	if err != nil {
		return nil, err
	}
	enc, ctx, err := s.Setup(rand.Reader)
	if err != nil {
		return nil, err
	}
	return f.exchange(a, enc, ctx)
}

// setupReceiver is SetupBaseR.
func (f format) setupReceiver(kp *KeyPair, a AEAD, header, enc []byte) (*exchange, error) {
	kp.mu.RLock()
	defer kp.mu.RUnlock()
	if kp.sk == nil {
		return nil, ErrKeyClosed
	}
	r, err := suite(kp.config.KEM, a).NewReceiver(kp.sk, f.info(header))
	if err != nil {
		return nil, err
	}
	ctx, err := r.Setup(enc)
	if err != nil {
		return nil, err
	}
	return f.exchange(a, enc, ctx)
}

func (f format) exchange(a AEAD, enc []byte, ctx hpke.Context) (*exchange, error) {
	x := &exchange{aead: a, enc: enc, secret: ctx.Export([]byte(f.response), uint(a.entropySize()))}
	// The context's own Seal and Open allocate for each chunk. Its serialization, documented by circl, carries the AEAD
	// key and the base nonce, which is all that ComputeNonce (RFC 9180 section 5.2) needs; and so requests and responses
	// share one chunk cipher.
	raw, err := ctx.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	rest := raw[1+6:] // role, suite
	var part [4][]byte
	for i := range part { // exporter secret, key, base nonce, sequence number
		if len(rest) == 0 || len(rest)-1 < int(rest[0]) {
			return nil, errors.New("envelope: unexpected serialization of the HPKE context")
		}
		part[i], rest = rest[1:1+rest[0]], rest[1+rest[0]:]
	}
	if len(rest) != 0 || len(part[2]) != nonceSize {
		return nil, errors.New("envelope: unexpected serialization of the HPKE context")
	}
	return x, x.request.init(a, part[1], part[2])
}

// responseCipher derives the response's key and nonce (RFC 9458 section 4.4). It consumes the secret.
func (x *exchange) responseCipher(c *chunkCipher, nonce []byte) error {
	if x.secret == nil {
		return errors.New("envelope: the response has been started already")
	}
	salt := make([]byte, 0, len(x.enc)+len(nonce))
	salt = append(append(salt, x.enc...), nonce...)
	prk, err := hkdf.Extract(sha256.New, x.secret, salt)
	if err != nil {
		return err
	}
	clear(x.secret)
	x.secret = nil
	defer clear(prk)
	key, err := hkdf.Expand(sha256.New, prk, "key", x.aead.keySize())
	if err != nil {
		return err
	}
	defer clear(key)
	base, err := hkdf.Expand(sha256.New, prk, "nonce", nonceSize)
	if err != nil {
		return err
	}
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
	return err
}

func (c *chunkCipher) next() ([]byte, error) {
	if c.count == maxChunks {
		return nil, fmt.Errorf("envelope: message of more than %d chunks", maxChunks)
	}
	c.nonce = c.base
	low := binary.BigEndian.Uint64(c.nonce[nonceSize-8:]) ^ c.count
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
