package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"
)

func FuzzParseReport(f *testing.F) {
	var genuine *Verifier
	for _, p := range []Product{Milan, Genoa, Turin} {
		v, b, _ := newWorld(p, VCEK).build(f)
		genuine = v
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Raw, b) {
			t.Error("bytes went missing")
		}
		if _, err := genuine.Verify(time.Time{}, r, nil); err == nil {
			t.Error("verified without collateral")
		}
	})
}

// FuzzVerify changes a genuine report: nothing but the original passes.
func FuzzVerify(f *testing.F) {
	w := newWorld(Turin, VCEK)
	v, b, c := w.build(f)
	f.Add(uint16(0x50), byte(1))
	f.Add(uint16(0x2a0), byte(1))
	f.Fuzz(func(t *testing.T, at uint16, x byte) {
		if int(at) >= len(b) || x == 0 {
			return
		}
		bent := bytes.Clone(b)
		bent[at] ^= x
		r, err := ParseReport(bent)
		if err != nil {
			return
		}
		if _, err := v.Verify(w.now, r, c); err == nil {
			t.Errorf("byte %#x changed by %#x and accepted", at, x)
		}
	})
}

func FuzzParseEndorsementKey(f *testing.F) {
	for _, kind := range []SigningKey{VCEK, VLEK} {
		_, _, c := newWorld(Milan, kind).build(f)
		f.Add(c.Key.Raw)
	}
	_, _, c := newWorld(Turin, VCEK).build(f)
	f.Add(c.Key.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		cert, err := x509.ParseCertificate(b)
		if err != nil {
			return
		}
		k, err := ParseEndorsementKey(cert)
		if err == nil && (k.Kind == VCEK) != (len(k.HWID) != 0) {
			t.Errorf("%+v", k)
		}
	})
}

func FuzzParseCRL(f *testing.F) {
	w := newWorld(Milan, VCEK)
	revoke(w, w.ask)
	_, _, c := w.build(f)
	f.Add(c.CRLs[0].List.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCRL(b); err == nil {
			for _, r := range c.List.RevokedCertificateEntries {
				if !c.Revoked(&x509.Certificate{SerialNumber: r.SerialNumber}) {
					t.Error("revoked certificate is not revoked")
				}
			}
		}
	})
}

// agree verifies with both implementations.
func agree(t *testing.T, pub *ecdsa.PublicKey, digest, r, s *[48]byte) bool {
	t.Helper()
	ours := verifyP384(pub, digest, r, s)
	if std := ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(r[:]), new(big.Int).SetBytes(s[:])); std != ours {
		t.Errorf("crypto/ecdsa says %v, verifyP384 %v: digest %x r %x s %x", std, ours, *digest, *r, *s)
	}
	return ours
}

// FuzzP384 compares verifyP384 with crypto/ecdsa on signatures by a fixed key, changed at will.
func FuzzP384(f *testing.F) {
	key := testKeys().ek
	f.Add([]byte("message"), []byte{}, []byte{})
	f.Add([]byte{}, []byte{1}, bytes.Repeat([]byte{0xff}, 48))
	f.Fuzz(func(t *testing.T, message, dr, ds []byte) {
		digest := sha512.Sum384(message)
		R, S, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		r, s := [48]byte(R.FillBytes(make([]byte, 48))), [48]byte(S.FillBytes(make([]byte, 48)))
		if !agree(t, &key.PublicKey, &digest, &r, &s) {
			t.Error("genuine signature refused")
		}
		if len(dr) > 48 || len(ds) > 48 {
			return
		}
		for i, x := range dr {
			r[i] ^= x
		}
		for i, x := range ds {
			s[i] ^= x
		}
		changed := slices.ContainsFunc(dr, func(b byte) bool { return b != 0 }) || slices.ContainsFunc(ds, func(b byte) bool { return b != 0 })
		if agree(t, &key.PublicKey, &digest, &r, &s) && changed {
			// n - s is the one other signature that holds.
			if S.Cmp(new(big.Int).Sub(key.Curve.Params().N, new(big.Int).SetBytes(s[:]))) != 0 {
				t.Error("changed signature accepted")
			}
		}
	})
}

// TestP384Corners makes both implementations walk through the exceptional cases of point addition: tiny and huge multiples,
// public keys that are the generator or its inverse, digests of zero and beyond the order.
func TestP384Corners(t *testing.T) {
	curve := testKeys().ek.Curve
	n := curve.Params().N
	num := func(v *big.Int) *[48]byte { b := [48]byte(v.FillBytes(make([]byte, 48))); return &b }
	one := big.NewInt(1)
	ff := [48]byte(bytes.Repeat([]byte{0xff}, 48))
	scalars := []*big.Int{big.NewInt(0), one, big.NewInt(2), new(big.Int).Sub(n, one), n, new(big.Int).Mod(curve.Params().Gx, n)}
	digests := []*[48]byte{num(big.NewInt(0)), num(n), &ff}
	accepted := 0
	for _, d := range []*big.Int{one, big.NewInt(2), new(big.Int).Sub(n, one)} {
		key, err := ecdsa.ParseRawPrivateKey(curve, num(d)[:])
		if err != nil {
			t.Fatal(err)
		}
		for _, digest := range digests {
			for _, r := range scalars {
				for _, s := range scalars {
					agree(t, &key.PublicKey, digest, num(r), num(s))
				}
			}
			// Signatures with small nonces: s = k^-1 (e + r d), r = x(kG).
			for k := int64(1); k <= 12; k++ {
				kG, err := ecdsa.ParseRawPrivateKey(curve, num(big.NewInt(k))[:])
				if err != nil {
					t.Fatal(err)
				}
				point, err := kG.PublicKey.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				r := new(big.Int).SetBytes(point[1:49])
				r.Mod(r, n)
				s := new(big.Int).Mul(r, d)
				s.Add(s, new(big.Int).SetBytes(digest[:])).Mul(s, new(big.Int).ModInverse(big.NewInt(k), n)).Mod(s, n)
				if s.Sign() != 0 && agree(t, &key.PublicKey, digest, num(r), num(s)) {
					accepted++
				}
			}
		}
	}
	if accepted < 100 {
		t.Errorf("%d signatures accepted", accepted)
	}
}
