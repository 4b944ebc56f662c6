package collateral_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
)

// Anybody can put certificates into a bundle. A signature check with an RSA key of 32 KiB takes seconds, with one of 4 MiB hours: no key
// in a bundle is used but those of the makers' kinds.
func TestHostileKeys(t *testing.T) {
	node, err := auth.NewNode(attestationtest.NodeConfig{Name: "a", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now, OCSP: []*attestationtest.Node{node}})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(tmpl, parent *x509.Certificate, pub, signer any) *x509.Certificate {
		t.Helper()
		tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = big.NewInt(1), now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	t.Run("OCSP", func(t *testing.T) {
		huge := new(big.Int).Lsh(big.NewInt(1), 8*32<<10)
		huge.Sub(huge, big.NewInt(1))
		responder := &x509.Certificate{Subject: pkix.Name{CommonName: "responder"}}
		cert := issue(responder, responder, &rsa.PublicKey{N: huge, E: 65537}, key)
		var outer struct {
			Status asn1.Enumerated
			Bytes  struct {
				Type  asn1.ObjectIdentifier
				Basic []byte
			} `asn1:"explicit,tag:0"`
		}
		var basic struct {
			TBS       asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
			Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
		}
		if _, err := asn1.Unmarshal(e.OCSP[0], &outer); err != nil {
			t.Fatal(err)
		}
		if _, err := asn1.Unmarshal(outer.Bytes.Basic, &basic); err != nil {
			t.Fatal(err)
		}
		basic.Certs = []asn1.RawValue{{FullBytes: cert.Raw}}
		var response []byte
		if outer.Bytes.Basic, err = asn1.Marshal(basic); err == nil {
			response, err = asn1.Marshal(outer)
		}
		if err != nil {
			t.Fatal(err)
		}
		// It is taken as it is: who signed it is for the appraisal.
		if b, err := collateral.New(response); err != nil || len(b.OCSP()) != 1 {
			t.Errorf("not recognised: %v", err)
		}
	})

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer := func(t *testing.T, caKey crypto.Signer) {
		ca := &x509.Certificate{Subject: pkix.Name{CommonName: "Intel SGX Root CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		ca = issue(ca, ca, caKey.Public(), caKey)
		signer := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Intel SGX TCB Signing"}}, ca, &key.PublicKey, caKey)
		var doc struct {
			TCBInfo json.RawMessage `json:"tcbInfo"`
		}
		if err := json.Unmarshal(e.TCBInfo, &doc); err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(doc.TCBInfo)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		var sig [64]byte
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		signed := fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, doc.TCBInfo, hex.EncodeToString(sig[:]))
		info, err := dcap.ParseTCBInfo(signed)
		if err != nil {
			t.Fatal(err)
		}
		b, err := collateral.New(signed, signer.Raw, ca.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if chain := b.Signer(info.Signature, now); len(chain) != 1 {
			t.Errorf("a chain of %d certificates, want the signer's alone", len(chain))
		}
	}
	t.Run("issuer of a TCB signer with RSA", func(t *testing.T) { issuer(t, rsaKey) })
	t.Run("issuer of a TCB signer on P-384", func(t *testing.T) { issuer(t, newKey(t, elliptic.P384())) })
}
