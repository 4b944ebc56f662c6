//go:build !(amd64 || arm64) || purego

package nvidia

import (
	"crypto/ecdsa"
	"math/big"
)

// verifyP384 verifies an ECDSA P-384 signature (FIPS 186-5, 6.4.2). circl has
// assembly for amd64 and arm64 only; elsewhere the standard library is faster.
func verifyP384(pub *ecdsa.PublicKey, digest *[DigestSize]byte, r, s *big.Int) bool {
	return ecdsa.Verify(pub, digest[:], r, s)
}
