//go:build !(amd64 || arm64) || purego

package snp

import (
	"crypto/ecdsa"
	"math/big"
)

// verifyP384 verifies an ECDSA P-384 signature (FIPS 186-5, 6.4.2). Where circl has no assembly the standard library is faster.
func verifyP384(pub *ecdsa.PublicKey, digest, r, s *[48]byte) bool {
	return ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(r[:]), new(big.Int).SetBytes(s[:]))
}
