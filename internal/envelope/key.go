package envelope

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
	"github.com/cloudflare/circl/kem/xwing"
)

// KEM is an HPKE key encapsulation mechanism, by its IANA number (RFC 9180 section 7.1).
type KEM uint16

// The KEMs that this package speaks.
const (
	// XWing is X25519 with ML-KEM-768, the KEM of every Bombyx enclave: public key 1216 bytes, encapsulated key 1120.
	XWing KEM = 0x647a
	// X25519 is DHKEM(X25519, HKDF-SHA256), for foreign peers: public key 32 bytes, encapsulated key 32. It does not
	// resist a quantum computer that comes later.
	X25519 KEM = 0x0020
)

func (k KEM) String() string {
	switch k {
	case XWing:
		return "X-Wing"
	case X25519:
		return "DHKEM(X25519, HKDF-SHA256)"
	}
	return fmt.Sprintf("KEM %#04x", uint16(k))
}

// scheme is nil for a KEM that this package does not speak.
func (k KEM) scheme() kem.Scheme {
	switch k {
	case XWing, X25519:
		return cleanKEM{hpke.KEM(k).Scheme()}
	}
	return nil
}

// AEAD is an HPKE authenticated cipher, by its IANA number (RFC 9180 section 7.3).
type AEAD uint16

// The AEADs that this package speaks.
const (
	AES128GCM        AEAD = 0x0001 // for foreign peers
	AES256GCM        AEAD = 0x0002
	ChaCha20Poly1305 AEAD = 0x0003
)

func (a AEAD) String() string {
	switch a {
	case AES128GCM:
		return "AES-128-GCM"
	case AES256GCM:
		return "AES-256-GCM"
	case ChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	}
	return fmt.Sprintf("AEAD %#04x", uint16(a))
}

func (a AEAD) known() bool { return a >= AES128GCM && a <= ChaCha20Poly1305 }

// All suites derive keys with HKDF-SHA256.
const kdfHKDFSHA256 = 0x0001

// PrivateKeySize is the length in bytes of a private key of either KEM: an X-Wing seed or an X25519 scalar.
const PrivateKeySize = 32

// MaxKeyConfigs is the largest number of key configurations in one collection: a key identifier is one byte.
const MaxKeyConfigs = 256

// ErrKeyClosed is returned when a KeyPair is used after Close.
var ErrKeyClosed = errors.New("envelope: the key pair has been closed")

// KeyConfig is a key configuration of RFC 9458 section 3.1: what a client needs in order to seal to an enclave. It is only
// as good as its origin: take it from appraised Evidence.
type KeyConfig struct {
	ID        uint8  // names the key in sealed requests; unique within a collection
	KEM       KEM    //
	PublicKey []byte // 1216 bytes for XWing, 32 for X25519
	AEADs     []AEAD // in the enclave's order of preference, at least one, none twice; each with HKDF-SHA256
}

// AppendBinary appends the encoding of RFC 9458 section 3.1, without the length prefix that it has in a collection.
func (c KeyConfig) AppendBinary(b []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b = append(b, c.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(c.KEM))
	b = append(b, c.PublicKey...)
	b = binary.BigEndian.AppendUint16(b, uint16(4*len(c.AEADs)))
	for _, a := range c.AEADs {
		b = binary.BigEndian.AppendUint16(b, kdfHKDFSHA256)
		b = binary.BigEndian.AppendUint16(b, uint16(a))
	}
	return b, nil
}

// check applies every rule to a KeyConfig but the validity of the public key itself.
func (c KeyConfig) check() error {
	scheme := c.KEM.scheme()
	if scheme == nil {
		return fmt.Errorf("envelope: key configuration %d: unsupported %v; update this program", c.ID, c.KEM)
	}
	if len(c.PublicKey) != scheme.PublicKeySize() {
		return fmt.Errorf("envelope: key configuration %d: public key of %d bytes, %v has %d", c.ID, len(c.PublicKey), c.KEM, scheme.PublicKeySize())
	}
	if len(c.AEADs) == 0 {
		return fmt.Errorf("envelope: key configuration %d: no AEAD", c.ID)
	}
	for i, a := range c.AEADs {
		if !a.known() {
			return fmt.Errorf("envelope: key configuration %d: unsupported %v; update this program", c.ID, a)
		}
		if slices.Contains(c.AEADs[:i], a) {
			return fmt.Errorf("envelope: key configuration %d: %v listed twice", c.ID, a)
		}
	}
	return nil
}

// ParseKeyConfig parses one key configuration without its length prefix. It refuses whatever it does not know, public
// keys that are not valid, and trailing bytes.
func ParseKeyConfig(b []byte) (KeyConfig, error) {
	short := errors.New("envelope: key configuration is cut short")
	if len(b) < 3 {
		return KeyConfig{}, short
	}
	c := KeyConfig{ID: b[0], KEM: KEM(binary.BigEndian.Uint16(b[1:]))}
	b = b[3:]
	scheme := c.KEM.scheme()
	if scheme == nil {
		return KeyConfig{}, c.check()
	}
	if len(b) < scheme.PublicKeySize()+2 {
		return KeyConfig{}, short
	}
	c.PublicKey = bytes.Clone(b[:scheme.PublicKeySize()])
	b = b[scheme.PublicKeySize():]
	if n := int(binary.BigEndian.Uint16(b)); n != len(b)-2 || n == 0 || n%4 != 0 {
		return KeyConfig{}, fmt.Errorf("envelope: key configuration %d: %d bytes of algorithms announced, %d present", c.ID, n, len(b)-2)
	}
	for b = b[2:]; len(b) > 0; b = b[4:] {
		if kdf := binary.BigEndian.Uint16(b); kdf != kdfHKDFSHA256 {
			return KeyConfig{}, fmt.Errorf("envelope: key configuration %d: unsupported KDF %#04x; update this program", c.ID, kdf)
		}
		c.AEADs = append(c.AEADs, AEAD(binary.BigEndian.Uint16(b[2:])))
	}
	if err := c.check(); err != nil {
		return KeyConfig{}, err
	}
	if _, err := scheme.UnmarshalBinaryPublicKey(c.PublicKey); err != nil {
		return KeyConfig{}, fmt.Errorf("envelope: key configuration %d: invalid public key: %w", c.ID, err)
	}
	return c, nil
}

// MarshalKeyConfigs encodes a collection as "application/ohttp-keys" (RFC 9458 section 3.2).
func MarshalKeyConfigs(configs []KeyConfig) ([]byte, error) {
	if err := checkCollection(configs); err != nil {
		return nil, err
	}
	var b []byte
	for _, c := range configs {
		at := len(b)
		var err error
		if b, err = c.AppendBinary(append(b, 0, 0)); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	}
	return b, nil
}

// ParseKeyConfigs parses an "application/ohttp-keys" collection. As RFC 9458 section 3.2 demands, one bad configuration
// makes the whole collection bad. Key identifiers must be unique, so that a request names one key.
func ParseKeyConfigs(b []byte) ([]KeyConfig, error) {
	var configs []KeyConfig
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, errors.New("envelope: key configurations are cut short")
		}
		if len(configs) == MaxKeyConfigs {
			return nil, fmt.Errorf("envelope: more than %d key configurations", MaxKeyConfigs)
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		c, err := ParseKeyConfig(b[2:n])
		if err != nil {
			return nil, err
		}
		configs = append(configs, c)
		b = b[n:]
	}
	if err := checkCollection(configs); err != nil {
		return nil, err
	}
	return configs, nil
}

func checkCollection(configs []KeyConfig) error {
	if len(configs) == 0 {
		return errors.New("envelope: no key configuration")
	}
	var seen [256]bool
	for _, c := range configs {
		if seen[c.ID] {
			return fmt.Errorf("envelope: two key configurations with identifier %d", c.ID)
		}
		seen[c.ID] = true
	}
	return nil
}

// KeyPair is an enclave's HPKE key. It is safe for concurrent use.
type KeyPair struct {
	config    KeyConfig
	schedules map[AEAD]*schedule

	mu sync.RWMutex // held while the key is in use, so that Close waits
	sk kem.PrivateKey
}

// GenerateKey makes a fresh KeyPair. aeads are offered in order of preference.
func GenerateKey(id uint8, k KEM, aeads ...AEAD) (*KeyPair, error) {
	var private [PrivateKeySize]byte
	rand.Read(private[:])
	defer clear(private[:])
	return NewKeyPair(id, k, private[:], aeads...)
}

// NewKeyPair makes a KeyPair from its private key, which it does not keep: a 32-byte X-Wing seed
// (draft-connolly-cfrg-xwing-kem section 5.2) or X25519 scalar.
func NewKeyPair(id uint8, k KEM, private []byte, aeads ...AEAD) (*KeyPair, error) {
	scheme := k.scheme()
	if scheme == nil {
		return nil, fmt.Errorf("envelope: unsupported %v", k)
	}
	if len(private) != PrivateKeySize {
		return nil, fmt.Errorf("envelope: private key of %d bytes, want %d", len(private), PrivateKeySize)
	}
	sk, err := scheme.UnmarshalBinaryPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("envelope: private key: %w", err)
	}
	pk, err := sk.Public().MarshalBinary()
	if err != nil {
		return nil, err
	}
	kp := &KeyPair{config: KeyConfig{ID: id, KEM: k, PublicKey: pk, AEADs: slices.Clone(aeads)}, sk: sk, schedules: map[AEAD]*schedule{}}
	if err := kp.config.check(); err != nil {
		return nil, err
	}
	for _, a := range aeads {
		kp.schedules[a] = newSchedule(chunked, id, k, a)
	}
	return kp, nil
}

// Config is the public half.
func (k *KeyPair) Config() KeyConfig {
	c := k.config
	c.PublicKey, c.AEADs = bytes.Clone(c.PublicKey), slices.Clone(c.AEADs)
	return c
}

// receive decapsulates a key that was sealed to this one.
func (k *KeyPair) receive(s *schedule, enc []byte) (*exchange, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.sk == nil {
		return nil, ErrKeyClosed
	}
	return s.receiver(k.sk, enc)
}

// Close waits for requests that are being opened, then forgets the private key; messages already open are not affected.
// An X-Wing key is overwritten in memory. An X25519 key, and what the garbage collector has moved or freed, is only
// dropped: Go gives no way to do more.
func (k *KeyPair) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if sk, ok := k.sk.(*xwing.PrivateKey); ok {
		// circl has no way to erase a key, but it derives a new one into the same memory.
		sk.Unpack(make([]byte, xwing.PrivateKeySize))
	}
	k.sk = nil
}

// String says which key it is, and nothing about the private half.
func (k *KeyPair) String() string { return fmt.Sprintf("key %d, %v", k.config.ID, k.config.KEM) }

// GoString is String: %#v must not print the private half.
func (k *KeyPair) GoString() string { return k.String() }
