//go:build (amd64 || arm64) && !purego

package snp

import (
	"crypto/ecdsa"
	"math/big"

	"github.com/cloudflare/circl/ecc/p384"
)

// verifyP384 verifies an ECDSA P-384 signature (FIPS 186-5, 6.4.2) with circl's variable-time double multiplication: less than
// half the time of crypto/ecdsa, and everything in a verification is public.
func verifyP384(pub *ecdsa.PublicKey, digest, r, s *[48]byte) bool {
	curve := p384.P384()
	n := curve.Params().N
	R, S := new(big.Int).SetBytes(r[:]), new(big.Int).SetBytes(s[:])
	if R.Sign() == 0 || S.Sign() == 0 || R.Cmp(n) >= 0 || S.Cmp(n) >= 0 {
		return false
	}
	point, err := pub.Bytes()
	if err != nil || len(point) != 97 {
		return false
	}
	w := S.ModInverse(S, n)
	u1 := new(big.Int).SetBytes(digest[:])
	u1.Mod(u1.Mul(u1, w), n)
	u2 := w.Mod(w.Mul(w, R), n)
	x, y := curve.CombinedMult(new(big.Int).SetBytes(point[1:49]), new(big.Int).SetBytes(point[49:]), u1.Bytes(), u2.Bytes())
	if x.Sign() == 0 && y.Sign() == 0 {
		return false // the point at infinity
	}
	return x.Mod(x, n).Cmp(R) == 0
}
