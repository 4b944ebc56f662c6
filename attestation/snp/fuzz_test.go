package snp

import (
	"bytes"
	"crypto/x509"
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
		c, err := ParseCRL(b)
		if err != nil {
			return
		}
		if want, err := x509.ParseRevocationList(b); err == nil {
			for _, r := range want.RevokedCertificateEntries {
				if !c.Revoked(&x509.Certificate{SerialNumber: r.SerialNumber}) {
					t.Error("revoked certificate is not revoked")
				}
			}
		}
	})
}
