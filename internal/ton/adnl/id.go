package adnl

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// Scheme begins a host's name: "adnl:" and its id.
const Scheme = "adnl:"

// ID is an ADNL id (adnl.id.short): SHA-256 of the TL pub.ed25519.
type ID [32]byte

// IDOf returns the id of the holder of an Ed25519 key.
func IDOf(key ed25519.PublicKey) ID {
	return sha256.Sum256(append([]byte{0xc6, 0xb4, 0x13, 0x48}, key...))
}

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	digits, ok := strings.CutPrefix(s, Scheme)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(ID{}) || strings.ToLower(digits) != digits {
		return ID{}, errors.New(`adnl: not an id: want "adnl:" and 64 lower-case hexadecimal digits`)
	}
	return ID(b), nil
}

// String returns "adnl:" and 64 lower-case hexadecimal digits.
func (id ID) String() string { return Scheme + hex.EncodeToString(id[:]) }
