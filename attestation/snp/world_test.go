package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// world is a mock AMD with one chip and one report of it, all in order. A test bends one thing and builds it.
type world struct {
	now            time.Time
	ark, ask, ek   *x509.Certificate // templates
	keys           *worldKeys
	askBy, ekBy    *rsa.PrivateKey
	crl            *x509.RevocationList
	crlBy          *rsa.PrivateKey
	extensions     map[string][]byte // of the endorsement key, by what follows AMD's arc
	report         []byte
	reportKey      *ecdsa.PrivateKey
	ekKey          any // public key that the certificate certifies
	bendCollateral func(*Collateral)
	bendSigned     func([]byte)
}

type worldKeys struct {
	ark, ask, other *rsa.PrivateKey
	ek, otherEK     *ecdsa.PrivateKey
}

var testKeys = sync.OnceValue(func() *worldKeys {
	load := func(name string) *rsa.PrivateKey {
		b, err := os.ReadFile("testdata/" + name + ".pem")
		if err != nil {
			panic(err)
		}
		block, _ := pem.Decode(b)
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			panic(err)
		}
		return k.(*rsa.PrivateKey)
	}
	ec := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	}
	return &worldKeys{load("ark"), load("ask"), load("other"), ec(), ec()}
})

func amdName(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Advanced Micro Devices"}}
}

func der(v any, params string) []byte {
	b, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		panic(err)
	}
	return b
}

// newWorld is a world with a VCEK or VLEK; the report is of version 2 for Milan, 3 for Genoa and 5 for Turin.
func newWorld(p Product, kind SigningKey) *world {
	k := testKeys()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ca := func(cn string, serial int64) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: amdName(cn), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0),
			SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1}
	}
	w := &world{now: now, keys: k, askBy: k.ark, ekBy: k.ask, crlBy: k.ark, reportKey: k.ek, ekKey: &k.ek.PublicKey}
	w.ark = ca("ARK-"+string(p), 0x10000)
	w.ark.KeyUsage |= x509.KeyUsageCRLSign
	w.ask = ca("SEV-"+string(p), 0x10001)
	w.ask.MaxPathLen, w.ask.MaxPathLenZero = 0, true
	w.ek = &x509.Certificate{SerialNumber: big.NewInt(0), Subject: amdName("SEV-" + kind.String()), NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(7, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS}
	w.crl = &x509.RevocationList{Number: big.NewInt(4), ThisUpdate: now.AddDate(0, -1, 0), NextUpdate: now.AddDate(0, 6, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS}
	n := func(v int) []byte { return der(v, "") }
	w.extensions = map[string][]byte{"1": n(1), "2": der(string(p), "ia5"), "3.1": n(4), "3.2": n(1), "3.3": n(24), "3.8": n(219), "3.5": n(0), "3.6": n(0), "3.7": n(0)}
	chip := make([]byte, 64)
	tcb := uint64(0xdb18000000000104)
	if p == Turin {
		w.extensions["3.9"] = n(2)
		w.extensions["4"] = []byte{1, 2, 3, 4, 5, 6, 7, 8}
		copy(chip, w.extensions["4"])
		tcb = 0xdb00000018010402
	} else {
		w.extensions["3.4"] = n(0)
		for i := range chip {
			chip[i] = byte(i + 1)
		}
		w.extensions["4"] = chip
	}

	b := make([]byte, ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b, map[Product]uint32{Milan: 2, Genoa: 3, Turin: 5}[p])
	le.PutUint64(b[0x08:], uint64(PolicySMT|policyReservedOne))
	le.PutUint32(b[0x34:], 1)
	for _, at := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		le.PutUint64(b[at:], tcb)
	}
	copy(b[0x188:], map[Product][]byte{Milan: {0, 0, 0}, Genoa: {0x19, 0x11, 1}, Turin: {0x1a, 0x02, 1}}[p])
	copy(b[0x1a0:], chip)
	copy(b[0x1e8:], []byte{29, 55, 1, 0, 29, 55, 1, 0})
	w.report = b
	if kind == VLEK {
		w.ask.Subject, w.ask.SerialNumber = amdName("SEV-VLEK-"+string(p)), big.NewInt(0x10101)
		delete(w.extensions, "4")
		w.extensions["5"] = der("CN=cc-us-east-2.example", "ia5")
		b[0x48] = 1 << 2
		clear(b[0x1a0:0x1e0])
	}
	return w
}

// issued remembers certificates: RSA-4096 signatures are what these tests would spend their time on.
var issued sync.Map

func (w *world) issue(t testing.TB, template, parent *x509.Certificate, pub any, by *rsa.PrivateKey) *x509.Certificate {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprint(template.Subject, template.SerialNumber, template.NotBefore, template.NotAfter, template.KeyUsage, template.IsCA, template.MaxPathLen,
		template.SignatureAlgorithm, template.ExtraExtensions, parent.Subject, spki, by.N)
	if c, ok := issued.Load(key); ok {
		return c.(*x509.Certificate)
	}
	issuer := *parent // crypto/x509 refuses to sign with a key that is not the parent's
	issuer.PublicKey = &by.PublicKey
	b, err := x509.CreateCertificate(rand.Reader, template, &issuer, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	issued.Store(key, c)
	return c
}

// sign signs the report.
func sign(t testing.TB, report []byte, key *ecdsa.PrivateKey) {
	digest := sha512.Sum384(report[:signedSize])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range []*big.Int{r, s} {
		b := v.FillBytes(make([]byte, 48))
		slices.Reverse(b)
		copy(report[0x2a0+72*i:], b)
	}
}

// build makes everything as bent.
func (w *world) build(t testing.TB) (*Verifier, []byte, *Collateral) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(w.extensions)) {
		value := w.extensions[id]
		var arcs asn1.ObjectIdentifier
		for _, c := range id {
			if c != '.' {
				arcs = append(arcs, int(c-'0'))
			}
		}
		w.ek.ExtraExtensions = append(w.ek.ExtraExtensions, pkix.Extension{Id: append(slices.Clone(oidAMD), arcs...), Value: value})
	}
	ark := w.issue(t, w.ark, w.ark, &w.keys.ark.PublicKey, w.keys.ark)
	ask := w.issue(t, w.ask, ark, &w.keys.ask.PublicKey, w.askBy)
	ek := w.issue(t, w.ek, ask, w.ekKey, w.ekBy)
	issuer := &x509.Certificate{RawSubject: ark.RawSubject, Subject: ark.Subject, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign, PublicKey: &w.crlBy.PublicKey}
	b, err := x509.CreateRevocationList(rand.Reader, w.crl, issuer, w.crlBy)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := ParseCRL(b)
	if err != nil {
		t.Fatal(err)
	}
	c := &Collateral{Key: ek, Intermediates: []*x509.Certificate{ask}, CRLs: []*CRL{crl}}
	if w.bendCollateral != nil {
		w.bendCollateral(c)
	}
	v, err := NewVerifier(ark)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, w.report, w.reportKey)
	if w.bendSigned != nil {
		w.bendSigned(w.report)
	}
	return v, w.report, c
}

func (w *world) appraise(t testing.TB) (*Result, error) {
	t.Helper()
	v, b, c := w.build(t)
	r, err := ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	return v.Verify(w.now, r, c)
}
