//go:build (amd64 || arm64) && !purego

package nvidia

import (
	"crypto/ecdsa"
	"math/big"

	"github.com/cloudflare/circl/ecc/p384"
)

// verifyP384 verifies an ECDSA P-384 signature (FIPS 186-5, 6.4.2) on the
// variable-time double multiplication of circl, which takes less than half the
// time of crypto/ecdsa. All inputs are public.
func verifyP384(pub *ecdsa.PublicKey, digest *[DigestSize]byte, r, s *big.Int) bool {
	curve := p384.P384()
	n := curve.Params().N
	if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return false
	}
	point, err := pub.Bytes()
	if err != nil || len(point) != 1+2*DigestSize {
		return false
	}
	qx, qy := new(big.Int).SetBytes(point[1:1+DigestSize]), new(big.Int).SetBytes(point[1+DigestSize:])
	w := new(big.Int).ModInverse(s, n)
	u1 := new(big.Int).SetBytes(digest[:])
	u1.Mul(u1, w).Mod(u1, n)
	u2 := w.Mul(w, r)
	u2.Mod(u2, n)
	x, y := curve.CombinedMult(qx, qy, u1.Bytes(), u2.Bytes())
	if x.Sign() == 0 && y.Sign() == 0 {
		return false // the point at infinity
	}
	return x.Mod(x, n).Cmp(r) == 0
}
