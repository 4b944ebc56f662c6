//go:build !(amd64 || arm64) || purego

package p384

import (
	"crypto/ecdsa"
	"math/big"
)

// Verify tells whether (r, s) is a signature of digest by pub, a P-384 key. circl has assembly for amd64 and arm64 only;
// elsewhere the standard library is faster.
func Verify(pub *ecdsa.PublicKey, digest *[Size]byte, r, s *big.Int) bool {
	return ecdsa.Verify(pub, digest[:], r, s)
}
