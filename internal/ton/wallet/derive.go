package wallet

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// DeriveKey derives a 32-byte secret from the wallet's own by HKDF-SHA256 (RFC 5869), so that whatever it protects needs no
// backup but the words. Info says what it is for and keeps purposes apart; salt tells apart secrets of one purpose. Neither
// is secret. The wallet's key cannot be computed from it.
func (w *Wallet) DeriveKey(salt []byte, info string) ([32]byte, error) {
	b, err := hkdf.Key(sha256.New, w.key.Seed(), salt, info, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("wallet: %w", err)
	}
	return [32]byte(b), nil
}
