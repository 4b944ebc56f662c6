package p384

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
	"slices"
	"testing"
	"time"
)

// agree fails the test when the verifier in use and crypto/ecdsa disagree.
func agree(t testing.TB, pub *ecdsa.PublicKey, digest [Size]byte, r, s *big.Int) bool {
	t.Helper()
	got, want := Verify(pub, &digest, r, s), r.Sign() > 0 && s.Sign() > 0 && ecdsa.Verify(pub, digest[:], r, s)
	if got != want {
		t.Fatalf("Verify says %v, crypto/ecdsa %v: key %v digest %x r %x s %x", got, want, pub, digest, r, s)
	}
	return got
}

// TestVerify cross-checks on keys and signatures at the edges: small multiples
// of the generator and their negatives, where additions of the combined
// multiplication meet equal and opposite points.
func TestVerify(t *testing.T) {
	curve := elliptic.P384()
	n := curve.Params().N
	one := big.NewInt(1)
	var keys []*ecdsa.PrivateKey
	for i := range int64(8) {
		keys = append(keys, private(t, big.NewInt(i+1)), private(t, new(big.Int).Sub(n, big.NewInt(i+1))))
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
			agree(t, &key.PublicKey, [Size]byte{}, v, v)
		}
		agree(t, &key.PublicKey, digest, new(big.Int).Add(r, n), s)
		agree(t, &key.PublicKey, digest, r, new(big.Int).Sub(n, s)) // malleable, and valid
		digest[0] ^= 1
		agree(t, &key.PublicKey, digest, r, s)
	}
	// u1 G + u2 Q at infinity: Q = -G and u1 = u2, so digest = r.
	minus := private(t, new(big.Int).Sub(n, one))
	for _, r := range []*big.Int{one, big.NewInt(2), new(big.Int).Sub(n, one), new(big.Int).Rsh(n, 1)} {
		var digest [Size]byte
		r.FillBytes(digest[:])
		if agree(t, &minus.PublicKey, digest, r, one) {
			t.Error("the point at infinity is a signature")
		}
	}
}

func private(t testing.TB, d *big.Int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d.FillBytes(make([]byte, Size)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func FuzzVerify(f *testing.F) {
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
		key := private(t, k)
		var digest [Size]byte
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

// FuzzChanged changes genuine signatures at will: none but the malleable twin holds.
func FuzzChanged(f *testing.F) {
	key := private(f, big.NewInt(77))
	f.Add([]byte("message"), []byte{}, []byte{})
	f.Add([]byte{}, []byte{1}, bytes.Repeat([]byte{0xff}, 48))
	f.Fuzz(func(t *testing.T, message, dr, ds []byte) {
		digest := sha512.Sum384(message)
		R, S, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if !agree(t, &key.PublicKey, digest, R, S) {
			t.Error("genuine signature refused")
		}
		if len(dr) > Size || len(ds) > Size {
			return
		}
		r, s := R.FillBytes(make([]byte, Size)), S.FillBytes(make([]byte, Size))
		for i, x := range dr {
			r[i] ^= x
		}
		for i, x := range ds {
			s[i] ^= x
		}
		changed := slices.ContainsFunc(dr, func(b byte) bool { return b != 0 }) || slices.ContainsFunc(ds, func(b byte) bool { return b != 0 })
		if agree(t, &key.PublicKey, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) && changed {
			// n - s is the one other signature that holds.
			if S.Cmp(new(big.Int).Sub(key.Curve.Params().N, new(big.Int).SetBytes(s))) != 0 {
				t.Error("changed signature accepted")
			}
		}
	})
}

// TestCorners makes both implementations walk through the exceptional cases of point addition: tiny and huge multiples,
// public keys that are the generator or its inverse, digests of zero and beyond the order.
func TestCorners(t *testing.T) {
	curve := elliptic.P384()
	n := curve.Params().N
	one := big.NewInt(1)
	scalars := []*big.Int{big.NewInt(0), one, big.NewInt(2), new(big.Int).Sub(n, one), n, new(big.Int).Mod(curve.Params().Gx, n)}
	digests := [][Size]byte{{}, [Size]byte(n.Bytes()), [Size]byte(bytes.Repeat([]byte{0xff}, Size))}
	accepted := 0
	for _, d := range []*big.Int{one, big.NewInt(2), new(big.Int).Sub(n, one)} {
		key := private(t, d)
		for _, digest := range digests {
			for _, r := range scalars {
				for _, s := range scalars {
					agree(t, &key.PublicKey, digest, r, s)
				}
			}
			// Signatures with small nonces: s = k^-1 (e + r d), r = x(kG).
			for k := int64(1); k <= 12; k++ {
				point, err := private(t, big.NewInt(k)).PublicKey.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				r := new(big.Int).SetBytes(point[1 : 1+Size])
				r.Mod(r, n)
				s := new(big.Int).Mul(r, d)
				s.Add(s, new(big.Int).SetBytes(digest[:])).Mul(s, new(big.Int).ModInverse(big.NewInt(k), n)).Mod(s, n)
				if s.Sign() != 0 && agree(t, &key.PublicKey, digest, r, s) {
					accepted++
				}
			}
		}
	}
	if accepted < 100 {
		t.Errorf("%d signatures accepted", accepted)
	}
}

// BenchmarkVerify reports, as x-ecdsa, the time of Verify as a multiple of crypto/ecdsa's.
func BenchmarkVerify(b *testing.B) {
	key := private(b, big.NewInt(77))
	digest := sha512.Sum384(nil)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	ours, std := time.Hour, time.Hour // the fastest of each: other work only ever slows them down
	for b.Loop() {
		start := time.Now()
		if !Verify(&key.PublicKey, &digest, r, s) {
			b.Fatal("signature does not verify")
		}
		ours = min(ours, time.Since(start))
		b.StopTimer()
		start = time.Now()
		if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
			b.Fatal("signature does not verify")
		}
		std = min(std, time.Since(start))
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(std), "x-ecdsa")
}
