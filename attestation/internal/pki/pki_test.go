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
	"reflect"
	"slices"
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
		"leaf below path of 0": {func(_, i *x509.Certificate) { i.MaxPathLenZero = true }, ""},
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
	theirs := bytes.Clone(good)
	crl, revoked, err := ParseCRL(theirs)
	if err != nil {
		t.Fatal(err)
	}
	clear(theirs)
	if !bytes.Equal(crl.Raw, good) {
		t.Error("the list changes with the caller's bytes")
	}
	for serial, want := range map[int64]bool{0: false, 1: true, 2: true, 3: false, 256: false} {
		if revoked.Has(&x509.Certificate{SerialNumber: big.NewInt(serial)}) != want {
			t.Errorf("serial %d: revoked is not %v", serial, want)
		}
	}
	for name, x := range map[string]struct {
		der  []byte
		want string
	}{
		"empty":     {nil, "not a SEQUENCE"},
		"cut":       {good[:len(good)-1], "not a SEQUENCE"},
		"longest":   {make([]byte, MaxCRL), "not a SEQUENCE"},
		"behind":    {append(bytes.Clone(good), 0), "1 bytes behind it"},
		"oversized": {make([]byte, MaxCRL+1), "limit"},
		"critical extension": {list(t, 0, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}),
			"critical extension 2.5.29.28"},
	} {
		if _, _, err := ParseCRL(x.der); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// tlv encodes an element of less than 256 bytes.
func tlv(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	if len(content) < 0x80 {
		return append([]byte{tag, byte(len(content))}, content...)
	}
	return append([]byte{tag, 0x81, byte(len(content))}, content...)
}

// Lists by hand, each well-formed but for one thing. ParseCRL does not look at the signature.
func TestParseCRLByHand(t *testing.T) {
	const sequence, integer, boolean, octets, oid, utc, generalized, bits = 0x30, 2, 1, 4, 6, 0x17, 0x18, 3
	var (
		version    = tlv(integer, []byte{1})
		algorithm  = tlv(sequence, tlv(oid, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}))
		name       = tlv(sequence)
		first      = tlv(utc, []byte("700101000000Z"))
		second     = tlv(utc, []byte("700102000000Z"))
		late       = tlv(generalized, []byte("20500101000000Z"))
		serial     = tlv(integer, []byte{7})
		reason     = tlv(sequence, tlv(oid, []byte{0x55, 0x1d, 0x15}), tlv(octets, []byte{0x0a, 1, 1}))
		signature  = tlv(bits, []byte{0, 0xaa})
		entry      = tlv(sequence, serial, first, tlv(sequence, reason))
		extensions = tlv(0xa0, tlv(sequence))
		head       = slices.Concat(version, algorithm, name, first, second)
		crl        = func(tbs ...[]byte) []byte { return tlv(sequence, tlv(sequence, tbs...), algorithm, signature) }
		entries    = func(e ...[]byte) []byte { return crl(head, tlv(sequence, e...), extensions) }
		extended   = func(x ...[]byte) []byte { return entries(tlv(sequence, serial, first, tlv(sequence, x...))) }
	)
	for name, x := range map[string]struct {
		der []byte
		n   int
	}{
		"no entries":        {crl(head, extensions), 0},
		"no extensions":     {crl(head, tlv(sequence, entry)), 1},
		"nothing":           {crl(head), 0},
		"one":               {entries(entry), 1},
		"two":               {entries(entry, tlv(sequence, tlv(integer, []byte{0, 0x80}), second)), 2},
		"after 2049":        {crl(version, algorithm, name, late, late, tlv(sequence, tlv(sequence, serial, late))), 1},
		"said not critical": {extended(tlv(sequence, tlv(oid, []byte{0x55}), tlv(boolean, []byte{0}), tlv(octets))), 1},
	} {
		if list, revoked, err := ParseCRL(x.der); err != nil || len(revoked) != x.n || !bytes.Equal(list.Raw, x.der) ||
			x.n > 0 && !revoked.Has(&x509.Certificate{SerialNumber: big.NewInt(7)}) || x.n > 1 && !revoked.Has(&x509.Certificate{SerialNumber: big.NewInt(128)}) {
			t.Errorf("%s: %x, %v", name, revoked, err)
		}
	}
	_, zero, err := ParseCRL(entries(tlv(sequence, tlv(integer, []byte{0}), first)))
	if err != nil || !zero.Has(&x509.Certificate{SerialNumber: new(big.Int)}) {
		t.Errorf("serial number 0: %x, %v", zero, err)
	}
	for name, x := range map[string]struct {
		der  []byte
		want string
	}{
		"behind the signature":       {tlv(sequence, tlv(sequence, head), algorithm, signature, signature), "or more than that"},
		"no signature":               {tlv(sequence, tlv(sequence, head), algorithm), "no algorithm and signature"},
		"no tbsCertList":             {tlv(sequence, version, algorithm, signature), "tbsCertList is not"},
		"version in no form":         {crl(name, algorithm, name, first, second), "tbsCertList is not"},
		"algorithm in no form":       {crl(version, version, name, first, second), "tbsCertList is not"},
		"name in no form":            {crl(version, algorithm, version, first, second), "tbsCertList is not"},
		"no form of one outside":     {tlv(sequence, tlv(sequence, head), version, signature), "no algorithm and signature"},
		"no version":                 {crl(head[len(version):], tlv(sequence, entry)), "tbsCertList"},
		"no time":                    {crl(version, algorithm, name, tlv(sequence, entry)), "tbsCertList"},
		"no nextUpdate":              {crl(version, algorithm, name, first, tlv(sequence, entry)), "without nextUpdate"},
		"entries twice":              {crl(head, tlv(sequence, entry), tlv(sequence, entry)), "tbsCertList"},
		"extensions twice":           {crl(head, tlv(sequence, entry), extensions, extensions), "tbsCertList"},
		"another algorithm outside":  {tlv(sequence, tlv(sequence, head), name, signature), "algorithm"},
		"entry not a sequence":       {entries(serial), "entry"},
		"cut entry":                  {entries(entry[:len(entry)-1]), "entry"},
		"negative serial":            {entries(tlv(sequence, tlv(integer, []byte{0xff}), first)), "entry"},
		"serial with a leading zero": {entries(tlv(sequence, tlv(integer, []byte{0, 7}), first)), "entry"},
		"entry without time":         {entries(tlv(sequence, serial)), "entry"},
		"behind an entry":            {entries(tlv(sequence, serial, first, tlv(sequence, reason), serial)), "entry"},
		"critical entry extension":   {extended(tlv(sequence, tlv(oid, []byte{0x55}), tlv(boolean, []byte{0xff}), tlv(octets))), "critical extension"},
		"entry extension in no form": {extended(serial), "entry"},
		"extension in a SET":         {extended(tlv(0x31, tlv(oid, []byte{0x55}), tlv(octets))), "entry"},
		"extension named by number":  {extended(tlv(sequence, serial, tlv(octets))), "entry"},
		"extension without an id":    {extended(tlv(sequence, tlv(octets))), "entry"},
		"extension without a value":  {extended(tlv(sequence, tlv(oid, []byte{0x55}))), "entry"},
		"extension with two values":  {extended(tlv(sequence, tlv(oid, []byte{0x55}), tlv(octets), tlv(octets))), "entry"},
		"extension half critical":    {extended(tlv(sequence, tlv(oid, []byte{0x55}), tlv(boolean, []byte{1}), tlv(octets))), "entry"},
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
		want, err := x509.ParseRevocationList(b)
		if err != nil {
			return // of an entry's time or reason, at which ParseCRL does not look
		}
		if len(revoked) != len(want.RevokedCertificateEntries) {
			t.Errorf("%d entries, crypto/x509 reads %d", len(revoked), len(want.RevokedCertificateEntries))
		}
		for _, r := range want.RevokedCertificateEntries {
			if !revoked.Has(&x509.Certificate{SerialNumber: r.SerialNumber}) {
				t.Error("revoked certificate is not revoked")
			}
		}
		want.RevokedCertificateEntries = nil
		//lint:ignore SA1019 crypto/x509 still fills it
		want.RevokedCertificates = nil
		if !reflect.DeepEqual(crl, want) {
			t.Errorf("%+v, crypto/x509 reads %+v", crl, want)
		}
	})
}

// BenchmarkParseCRL parses a list of a thousand entries. x-crypto/x509: as a multiple of crypto/x509's time.
func BenchmarkParseCRL(b *testing.B) {
	der := list(b, 1000)
	ours, std := time.Hour, time.Hour // the fastest of each: other work only ever slows them down
	for b.Loop() {
		start := time.Now()
		if _, _, err := ParseCRL(der); err != nil {
			b.Fatal(err)
		}
		ours = min(ours, time.Since(start))
		b.StopTimer()
		start = time.Now()
		if _, err := x509.ParseRevocationList(der); err != nil {
			b.Fatal(err)
		}
		std = min(std, time.Since(start))
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(std), "x-crypto/x509")
}
