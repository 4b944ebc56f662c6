package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestIssued(t *testing.T) {
	alg := Algorithm{x509.ECDSAWithSHA256, "ECDSA and SHA-256"}
	for name, x := range map[string]struct {
		change func(cert, issuer *x509.Certificate)
		want   string // empty: no error
	}{
		"good":                 {func(_, _ *x509.Certificate) {}, ""},
		"CA below a long path": {func(c, i *x509.Certificate) { c.IsCA = true; i.MaxPathLen = 1 }, ""},
		"other issuer":         {func(c, _ *x509.Certificate) { c.RawIssuer = []byte("other") }, "names the issuer"},
		"version 1":            {func(c, _ *x509.Certificate) { c.Version = 1 }, "signed with ECDSA and SHA-256"},
		"other algorithm":      {func(c, _ *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 }, "signed with ECDSA and SHA-256"},
		"critical extension": {func(c, _ *x509.Certificate) { c.UnhandledCriticalExtensions = []asn1.ObjectIdentifier{{1, 2}} },
			"critical extension 1.2"},
		"not a CA":           {func(_, i *x509.Certificate) { i.IsCA = false }, "not a CA"},
		"no constraints":     {func(_, i *x509.Certificate) { i.BasicConstraintsValid = false }, "not a CA"},
		"not for signing":    {func(_, i *x509.Certificate) { i.KeyUsage = x509.KeyUsageCRLSign }, "not a CA"},
		"CA below path of 0": {func(c, i *x509.Certificate) { c.IsCA = true; i.MaxPathLenZero = true }, "path length"},
	} {
		cert := &x509.Certificate{Version: 3, SignatureAlgorithm: alg.ID, RawIssuer: []byte("ca")}
		issuer := &x509.Certificate{RawSubject: []byte("ca"), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
		x.change(cert, issuer)
		err := Issued(cert, issuer, alg)
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// list returns a list that revokes the serial numbers 1 to n.
func list(t testing.TB, n int64, extra ...pkix.Extension) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	crl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Unix(0, 0), NextUpdate: time.Unix(1, 0), ExtraExtensions: extra}
	for i := range n {
		crl.RevokedCertificateEntries = append(crl.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(i + 1), RevocationTime: time.Unix(0, 0)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, crl,
		&x509.Certificate{KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseCRL(t *testing.T) {
	good := list(t, 2)
	_, revoked, err := ParseCRL(good)
	if err != nil {
		t.Fatal(err)
	}
	for serial, want := range map[int64]bool{0: false, 1: true, 2: true, 3: false, 256: false} {
		if revoked.Has(&x509.Certificate{SerialNumber: big.NewInt(serial)}) != want {
			t.Errorf("serial %d: revoked is not %v", serial, want)
		}
	}
	id := asn1.ObjectIdentifier{2, 5, 29, 28} // issuing distribution point
	for name, x := range map[string]struct {
		der  []byte
		want string
	}{
		"empty":              {nil, "malformed"},
		"cut":                {good[:len(good)-1], "malformed"},
		"behind":             {append(bytes.Clone(good), 0), "1 bytes behind it"},
		"oversized":          {make([]byte, MaxCRL+1), "limit"},
		"critical extension": {list(t, 0, pkix.Extension{Id: id, Critical: true, Value: []byte{0x30, 0}}), "critical extension 2.5.29.28"},
	} {
		if _, _, err := ParseCRL(x.der); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

func FuzzParseCRL(f *testing.F) {
	f.Add(list(f, 0))
	f.Add(list(f, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		crl, revoked, err := ParseCRL(b)
		if err != nil {
			return
		}
		if crl.NextUpdate.IsZero() || !bytes.Equal(crl.Raw, b) {
			t.Error("accepted what is to be refused")
		}
		for _, r := range crl.RevokedCertificateEntries {
			if !revoked.Has(&x509.Certificate{SerialNumber: r.SerialNumber}) {
				t.Error("revoked certificate is not revoked")
			}
		}
	})
}
