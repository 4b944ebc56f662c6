package nvidia

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
	"testing"
)

// agree fails the test when the verifier in use and crypto/ecdsa disagree.
func agree(t testing.TB, pub *ecdsa.PublicKey, digest [DigestSize]byte, r, s *big.Int) bool {
	t.Helper()
	got, want := verifyP384(pub, &digest, r, s), r.Sign() > 0 && s.Sign() > 0 && ecdsa.Verify(pub, digest[:], r, s)
	if got != want {
		t.Fatalf("verifyP384 says %v, crypto/ecdsa %v: key %v digest %x r %x s %x", got, want, pub, digest, r, s)
	}
	return got
}

// TestP384 cross-checks on keys and signatures at the edges: small multiples
// of the generator and their negatives, where additions of the combined
// multiplication meet equal and opposite points.
func TestP384(t *testing.T) {
	curve := elliptic.P384()
	n := curve.Params().N
	one := big.NewInt(1)
	var keys []*ecdsa.PrivateKey
	for i := range int64(8) {
		keys = append(keys, p384Private(t, big.NewInt(i+1)), p384Private(t, new(big.Int).Sub(n, big.NewInt(i+1))))
	}
	random, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys = append(keys, random)
	for i, key := range keys {
		digest := sha512.Sum384([]byte{byte(i)})
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if !agree(t, &key.PublicKey, digest, r, s) {
			t.Fatalf("a good signature by key %d is refused", i)
		}
		for _, v := range []*big.Int{new(big.Int), one, new(big.Int).Neg(one), new(big.Int).Sub(n, one), n, new(big.Int).Add(n, one), new(big.Int).Lsh(one, 384), r, s} {
			agree(t, &key.PublicKey, digest, r, v)
			agree(t, &key.PublicKey, digest, v, s)
			agree(t, &key.PublicKey, [DigestSize]byte{}, v, v)
		}
		agree(t, &key.PublicKey, digest, new(big.Int).Add(r, n), s)
		agree(t, &key.PublicKey, digest, r, new(big.Int).Sub(n, s)) // malleable, and valid
		digest[0] ^= 1
		agree(t, &key.PublicKey, digest, r, s)
	}
	// u1 G + u2 Q at infinity: Q = -G and u1 = u2, so digest = r.
	minus := p384Private(t, new(big.Int).Sub(n, one))
	for _, r := range []*big.Int{one, big.NewInt(2), new(big.Int).Sub(n, one), new(big.Int).Rsh(n, 1)} {
		var digest [DigestSize]byte
		r.FillBytes(digest[:])
		if agree(t, &minus.PublicKey, digest, r, one) {
			t.Error("the point at infinity is a signature")
		}
	}
}

func p384Private(t testing.TB, d *big.Int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d.FillBytes(make([]byte, DigestSize)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func FuzzP384(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	digest := sha512.Sum384(nil)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{1}, digest[:], r.Bytes(), s.Bytes())
	f.Add([]byte{}, []byte{}, []byte{1}, []byte{1})
	f.Fuzz(func(t *testing.T, d, h, rb, sb []byte) {
		if len(d) > 48 || len(h) > 48 || len(rb) > 49 || len(sb) > 49 {
			return
		}
		k := new(big.Int).SetBytes(d)
		if k.Mod(k, elliptic.P384().Params().N).Sign() == 0 {
			k.SetInt64(1)
		}
		key := p384Private(t, k)
		var digest [DigestSize]byte
		copy(digest[:], h)
		agree(t, &key.PublicKey, digest, new(big.Int).SetBytes(rb), new(big.Int).SetBytes(sb))
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Skip(err)
		}
		if !agree(t, &key.PublicKey, digest, r, s) {
			t.Fatal("a good signature is refused")
		}
	})
}
