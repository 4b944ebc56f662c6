//go:build (amd64 || arm64) && !purego

package p384

import (
	"crypto/ecdsa"
	"math/big"

	"github.com/cloudflare/circl/ecc/p384"
)

// Verify tells whether (r, s) is a signature of digest by pub, a P-384 key. It uses the variable-time double multiplication of
// circl, which takes less than half the time of crypto/ecdsa.
func Verify(pub *ecdsa.PublicKey, digest *[Size]byte, r, s *big.Int) bool {
	curve := p384.P384()
	n := curve.Params().N
	if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return false
	}
	point, err := pub.Bytes()
	if err != nil || len(point) != 1+2*Size {
		return false
	}
	qx, qy := new(big.Int).SetBytes(point[1:1+Size]), new(big.Int).SetBytes(point[1+Size:])
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
