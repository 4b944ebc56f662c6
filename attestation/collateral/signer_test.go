package collateral_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
)

// certificate issues a certificate for pub under name, which is its issuer's, too.
func certificate(t *testing.T, name pkix.Name, pub any, key *ecdsa.PrivateKey, isCA bool, extra ...pkix.Extension) []byte {
	t.Helper()
	c := &x509.Certificate{Subject: name, SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, ExtraExtensions: extra}
	der, err := x509.CreateCertificate(rand.Reader, c, c, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What signed a document is found by trying, and only among certificates of the kind that Intel signs with.
func TestSigner(t *testing.T) {
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	info, err := dcap.ParseTCBInfo(e.TCBInfo)
	if err != nil {
		t.Fatal(err)
	}
	qe, err := dcap.ParseQEIdentity(e.QEIdentity)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(e.TCBSigner)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := pem.Decode(rest)
	key, key384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	decoys := func(n int, of *x509.Certificate) (all [][]byte) {
		for i := range n {
			all = append(all, certificate(t, of.Issuer, &key.PublicKey, key, true, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, byte(i)}}))
		}
		return all
	}
	others := func(n int) (all [][]byte) {
		for range n {
			all = append(all, certificate(t, leaf.Subject, &key.PublicKey, key, false))
		}
		return all
	}
	// Two certificates of Intel's are in every bundle.
	for name, c := range map[string]struct {
		with [][]byte
		want int // length of the chain
	}{
		"leaf and root":              {[][]byte{e.TCBSigner}, 2},
		"root and leaf":              {[][]byte{root.Bytes, block.Bytes}, 2},
		"leaf alone":                 {[][]byte{block.Bytes}, 1},
		"root alone":                 {[][]byte{root.Bytes}, 0},
		"neither":                    {nil, 0},
		"an RSA key under that name": {[][]byte{certificate(t, leaf.Subject, &rsaKey.PublicKey, key, false), e.TCBSigner}, 2},
		"signer's name, other key":   {append(others(1), e.TCBSigner), 2},
		"14th under that name":       {append(others(13), e.TCBSigner), 2},
		"15th under that name":       {append(others(14), e.TCBSigner), 0},
		"other issuer of that name":  {append(decoys(1, leaf), block.Bytes), 1},
		"issuer on P-384":            {[][]byte{certificate(t, leaf.Issuer, &key384.PublicKey, key, true), block.Bytes}, 1},
		"16th issuer of that name":   {append(decoys(15, leaf), e.TCBSigner), 2},
		"17th issuer of that name":   {append(decoys(16, leaf), e.TCBSigner), 1},
		"signer's key, other name":   {[][]byte{certificate(t, pkix.Name{CommonName: "x"}, leaf.PublicKey, key, false)}, 0},
		"signer's key, a CA":         {[][]byte{certificate(t, leaf.Subject, leaf.PublicKey, key, true)}, 0},
	} {
		b, err := collateral.New(append(c.with, e.TCBInfo, e.QEIdentity)...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, signature := range [][64]byte{info.Signature, qe.Signature} {
			chain := b.Signer(signature, now)
			if len(chain) != c.want || c.want > 0 && !chain[0].Equal(leaf) {
				t.Errorf("%s: a chain of %d certificates, want %d", name, len(chain), c.want)
			}
		}
	}
}

func crl(t *testing.T, name string, extra ...pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		ExtraExtensions: extra}, &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}, newKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// bare encodes a list by nobody, with a number unless that is 0, whose signature is none.
func bare(t *testing.T, number int, issued time.Time) []byte {
	t.Helper()
	alg := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	type tbs struct {
		Version      int
		Alg          pkix.AlgorithmIdentifier
		Issuer       pkix.RDNSequence
		Issued, Next time.Time
		Extensions   []pkix.Extension `asn1:"optional,explicit,tag:0"`
	}
	list := tbs{1, alg, nil, issued, issued.AddDate(0, 1, 0), nil}
	if number > 0 {
		list.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 20}, Value: []byte{2, 1, byte(number)}}}
	}
	der, err := asn1.Marshal(struct {
		TBS       tbs
		Alg       pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{list, alg, asn1.BitString{Bytes: []byte{0}, BitLength: 8}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A list is found by name and key of its issuer, both.
func TestCRL(t *testing.T) {
	old := auth.Endorsements(attestationtest.CollateralOptions{Now: now.AddDate(0, 0, -10)})
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	// The number goes first, and a list without one is the oldest.
	numbered := bare(t, 2, now.AddDate(0, 0, -3))
	b, err := collateral.New(append(append(e.Inputs(), old.Inputs()...), bare(t, 1, now.AddDate(0, 0, -1)), numbered, bare(t, 0, now))...)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"root": e.RootCRL, "platform": e.PlatformCRL, "processor": e.ProcessorCRL, "highest number": numbered} {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if c := b.CRL(list.RawIssuer, list.AuthorityKeyId, now); c == nil || string(c.List.Raw) != string(der) {
			t.Errorf("%s: not found", name)
		}
		if b.CRL(list.RawIssuer, []byte("other"), now) != nil || b.CRL([]byte("other"), list.AuthorityKeyId, now) != nil {
			t.Errorf("%s: found for another issuer", name)
		}
	}
	// All of AMD's are returned, the newest in force first: at the older ones' time the newer are not in force yet.
	for at, want := range map[time.Time][2][]byte{now: {e.AMDCRL, old.AMDCRL}, now.AddDate(0, 0, -9): {old.AMDCRL, e.AMDCRL},
		now.AddDate(1, 0, 0): {e.AMDCRL, old.AMDCRL}} {
		c := b.AMDCRLs(at)
		if len(c) != 2 || !bytes.Equal(c[0].List.Raw, want[0]) || !bytes.Equal(c[1].List.Raw, want[1]) {
			t.Errorf("at %v: %d lists of AMD's one root, or in another order", at, len(c))
		}
	}
}
