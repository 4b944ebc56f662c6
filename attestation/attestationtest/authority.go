// Package attestationtest makes Evidence without the hardware: mock Intel, AMD and NVIDIA authorities sign TDX quotes,
// SEV-SNP reports, Hopper and NVSwitch reports, TCB info, QE identities, CRLs and RIMs in the real formats, for tests and demonstrations.
//
// Nothing here is trusted by anybody: the code that appraises real Evidence accepts mock Evidence only under a policy
// that pins these authorities' roots, which [Authority.Policy] writes. There is no other switch.
//
//	auth := attestationtest.New("my test")
//	node, err := auth.NewNode(attestationtest.NodeConfig{Name: "a", GPUs: 1})
//	evidence, err := node.Collect(ctx, nonce, keyset)
//	collateral, err := auth.Collateral(attestationtest.CollateralOptions{Now: now})
//
// Every key but AMD's derives from the authority's seed, and ECDSA signatures are deterministic (RFC 6979): the same seed in
// two processes is the same authority.
package attestationtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"time"
)

// An Authority is a mock Intel, a mock AMD and a mock NVIDIA. It is immutable and safe for concurrent use.
type Authority struct {
	seed   string
	intel  intel
	nvidia nvidia
	amd    amd
}

// New returns the authority that derives from seed. A seed is not a secret worth keeping: nobody trusts what it signs.
func New(seed string) *Authority {
	a := &Authority{seed: seed}
	a.intel = a.newIntel()
	a.nvidia = a.newNVIDIA()
	a.amd = newAMD()
	return a
}

// Seed returns the seed; New(seed) is the same authority in another process.
func (a *Authority) Seed() string { return a.seed }

// bytes returns n ≤ 64 bytes that depend on the seed and the label alone.
func (a *Authority) bytes(n int, label ...any) []byte {
	h := sha512.New()
	fmt.Fprintf(h, "%q %q", a.seed, fmt.Sprint(label...))
	return h.Sum(nil)[:n]
}

// digest returns the label's stand-in for a SHA-384 measurement.
func (a *Authority) digest(label ...any) [48]byte { return [48]byte(a.bytes(48, label...)) }

func (a *Authority) key(curve elliptic.Curve, label ...any) *key {
	for i := 0; ; i++ {
		raw := a.bytes(curve.Params().BitSize/8, append([]any{"key", i, " "}, label...)...)
		if k, err := ecdsa.ParseRawPrivateKey(curve, raw); err == nil {
			return &key{k}
		}
	}
}

// key signs deterministically, so that one seed gives one set of certificates.
type key struct{ *ecdsa.PrivateKey }

func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// raw returns the signature of message as r || s, each of the curve's length.
func (k *key) raw(message []byte) []byte {
	var digest []byte
	h := crypto.SHA256
	if k.Curve == elliptic.P384() {
		h = crypto.SHA384
		d := sha512.Sum384(message)
		digest = d[:]
	} else {
		d := sha256.Sum256(message)
		digest = d[:]
	}
	der := must(k.Sign(nil, digest, h))
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		panic(err)
	}
	n := k.Curve.Params().BitSize / 8
	out := make([]byte, 2*n)
	sig.R.FillBytes(out[:n])
	sig.S.FillBytes(out[n:])
	return out
}

// point returns the public key as x || y.
func (k *key) point() []byte { return must(k.PublicKey.Bytes())[1:] }

// keyID is the subject key identifier of RFC 5280, section 4.2.1.2 (1).
func (k *key) keyID() []byte {
	d := sha1.Sum(must(k.PublicKey.Bytes()))
	return d[:]
}

// must is for what cannot fail on inputs of our own making.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// signer is a certificate together with its key.
type signer struct {
	cert *x509.Certificate
	key  *key
}

// issue signs a certificate for k. A nil receiver signs its own: a root.
func (s *signer) issue(tmpl *x509.Certificate, k *key) *signer {
	tmpl.SubjectKeyId = k.keyID()
	tmpl.BasicConstraintsValid = tmpl.BasicConstraintsValid || tmpl.IsCA
	if tmpl.SerialNumber == nil {
		// Positive and at most 20 bytes, like Intel's.
		tmpl.SerialNumber = new(big.Int).SetBytes(append([]byte{1}, k.keyID()[1:]...))
	}
	parent, by := tmpl, k
	if s != nil {
		parent, by = s.cert, s.key
	}
	tmpl.AuthorityKeyId = by.keyID()
	der := must(x509.CreateCertificate(nil, tmpl, parent, &k.PublicKey, by))
	return &signer{must(x509.ParseCertificate(der)), k}
}

// crl signs a revocation list that names the given certificates.
func (s *signer) crl(issued, next time.Time, number int64, revoked ...*x509.Certificate) []byte {
	tmpl := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: issued, NextUpdate: next}
	for _, c := range revoked {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: issued, ReasonCode: 1})
	}
	return must(x509.CreateRevocationList(nil, tmpl, s.cert, s.key))
}

func pemChain(certs ...*signer) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
	}
	return b.Bytes()
}

// fingerprint is how policies pin a root: the SHA-256 of its certificate.
func fingerprint(der []byte) [32]byte { return sha256.Sum256(der) }
