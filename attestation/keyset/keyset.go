// Package keyset holds the canonical bytes that a Bombyx enclave's Evidence
// binds: the keys a client may trust once the Evidence has been appraised, and
// the digests of what runs behind them.
//
// There is exactly one encoding of a keyset, so its digest can be bound by
// hash alone (docs/protocol.md, "Keyset").
package keyset

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	magic = "bombyx/1 keyset"

	// MaxKeyConfigs is the longest key configuration list accepted, in bytes.
	// Eight X-Wing configurations fit.
	MaxKeyConfigs = 16 << 10

	maxExpiry = 1 << 40 // seconds after 1970

	fixedSize = len(magic) + 2 + 32 + 32 + 8 + 32 + 32 + 32
)

// A Keyset is what one enclave generation vouches for.
type Keyset struct {
	// KeyConfigs is an "application/ohttp-keys" list (RFC 9458, section 3.2)
	// of HPKE keys that open sealed requests; opaque to this package.
	KeyConfigs []byte
	// ReceiptKey verifies the enclave's receipts (Ed25519, 32 bytes).
	ReceiptKey ed25519.PublicKey
	// TLSSPKI is the SHA-256 of the SubjectPublicKeyInfo that the enclave
	// itself terminates TLS with; all zero when it does not.
	TLSSPKI [32]byte
	// NotAfter is when the enclave stops using these keys, in whole seconds.
	// The client's clock judges it, never the enclave's.
	NotAfter time.Time
	// ModelManifest is the SHA-256 of the model manifest.
	ModelManifest [32]byte
	// Build is the SHA-256 of the enclave's executable.
	Build [32]byte
	// Config is the SHA-256 of the enclave's configuration document.
	Config [32]byte
}

// Encode returns the canonical encoding. It fails when a field has no
// encoding: a receipt key that is not 32 bytes, an empty or oversized
// configuration list, a time before 1970 or over 2^40 seconds after.
func (k *Keyset) Encode() ([]byte, error) {
	switch {
	case len(k.KeyConfigs) == 0 || len(k.KeyConfigs) > MaxKeyConfigs:
		return nil, fmt.Errorf("keyset: %d bytes of key configurations, want 1 to %d", len(k.KeyConfigs), MaxKeyConfigs)
	case len(k.ReceiptKey) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("keyset: receipt key of %d bytes, want %d", len(k.ReceiptKey), ed25519.PublicKeySize)
	case k.NotAfter.Unix() <= 0 || k.NotAfter.Unix() > maxExpiry || k.NotAfter.Nanosecond() != 0:
		return nil, errors.New("keyset: expiry is not a whole second after 1970, or too far from it")
	}
	b := make([]byte, 0, fixedSize+len(k.KeyConfigs))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.KeyConfigs)))
	b = append(b, k.KeyConfigs...)
	b = append(b, k.ReceiptKey...)
	b = append(b, k.TLSSPKI[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(k.NotAfter.Unix()))
	b = append(b, k.ModelManifest[:]...)
	b = append(b, k.Build[:]...)
	b = append(b, k.Config[:]...)
	return b, nil
}

// Parse decodes a canonical keyset. Any other bytes, trailing ones included,
// are an error.
func Parse(b []byte) (*Keyset, error) {
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		return nil, errors.New("keyset: not a version 1 keyset")
	}
	if len(rest) < 2 {
		return nil, errors.New("keyset: truncated")
	}
	n := int(binary.BigEndian.Uint16(rest))
	if n == 0 || n > MaxKeyConfigs {
		return nil, fmt.Errorf("keyset: %d bytes of key configurations, want 1 to %d", n, MaxKeyConfigs)
	}
	if len(b) != fixedSize+n {
		return nil, fmt.Errorf("keyset: %d bytes, want %d", len(b), fixedSize+n)
	}
	rest = rest[2:]
	take := func(n int) []byte {
		v := rest[:n:n]
		rest = rest[n:]
		return v
	}
	k := &Keyset{KeyConfigs: bytes.Clone(take(n)), ReceiptKey: bytes.Clone(take(32))}
	copy(k.TLSSPKI[:], take(32))
	secs := binary.BigEndian.Uint64(take(8))
	if secs == 0 || secs > maxExpiry {
		return nil, fmt.Errorf("keyset: expiry %d is out of range", secs)
	}
	k.NotAfter = time.Unix(int64(secs), 0).UTC()
	copy(k.ModelManifest[:], take(32))
	copy(k.Build[:], take(32))
	copy(k.Config[:], take(32))
	return k, nil
}

// Digest is the SHA-256 of canonical keyset bytes; it names a keyset.
func Digest(encoded []byte) [32]byte { return sha256.Sum256(encoded) }
