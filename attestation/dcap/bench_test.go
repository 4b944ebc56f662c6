//go:build !js

package dcap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"runtime"
	"sync"
	"testing"
	"time"

	tdxverify "github.com/google/go-tdx-guest/verify"
)

// The benchmarks appraise one real quote with the collateral that Phala published beside it.
const (
	benchQuote      = "quotes/TDX-v4-eedf1e79778eee0c.bin"
	benchCollateral = "phala-dcap-qvl/tests__near__contracts__gas-test__tests__quote__quote_collateral.json"
)

var benchTime = time.Date(2025, 9, 2, 8, 41, 59, 0, time.UTC)

// responses are PCS answers as they come over the wire.
type responses struct {
	tcbInfo, qeIdentity, rootCRL, pckCRL []byte
	tcbChain, qeChain, crlChain          string
}

func benchResponses(t testing.TB) (r responses) {
	var m map[string]string
	if err := json.Unmarshal(vectorFile(t, benchCollateral), &m); err != nil {
		t.Fatal(err)
	}
	r.tcbInfo = []byte(`{"tcbInfo":` + m["tcb_info"] + `,"signature":"` + m["tcb_info_signature"] + `"}`)
	r.qeIdentity = []byte(`{"enclaveIdentity":` + m["qe_identity"] + `,"signature":"` + m["qe_identity_signature"] + `"}`)
	r.rootCRL, _ = hex.DecodeString(m["root_ca_crl"])
	r.pckCRL, _ = hex.DecodeString(m["pck_crl"])
	r.tcbChain, r.qeChain, r.crlChain = m["tcb_info_issuer_chain"], m["qe_identity_issuer_chain"], m["pck_crl_issuer_chain"]
	return r
}

func (r responses) collateral(t testing.TB) *Collateral {
	c := &Collateral{}
	var errs [6]error
	c.TCBInfo, errs[0] = ParseTCBInfo(r.tcbInfo)
	c.QEIdentity, errs[1] = ParseQEIdentity(r.qeIdentity)
	c.TCBInfoChain, errs[2] = ParseChain([]byte(r.tcbChain))
	c.QEIdentityChain = c.TCBInfoChain
	if r.qeChain != r.tcbChain { // Intel signs both with one key
		c.QEIdentityChain, errs[3] = ParseChain([]byte(r.qeChain))
	}
	c.RootCRL, errs[4] = ParseCRL(r.rootCRL)
	c.PCKCRL, errs[5] = ParseCRL(r.pckCRL)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// pcs plays the PCS to go-tdx-guest.
type pcs responses

func (p pcs) Get(u string) (map[string][]string, []byte, error) {
	link, err := url.Parse(u)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case link.Path == "/tdx/certification/v4/tcb" || link.Path == "/sgx/certification/v4/tcb":
		return map[string][]string{"Tcb-Info-Issuer-Chain": {url.QueryEscape(p.tcbChain)}}, p.tcbInfo, nil
	case link.Path == "/tdx/certification/v4/qe/identity" || link.Path == "/sgx/certification/v4/qe/identity":
		return map[string][]string{"Sgx-Enclave-Identity-Issuer-Chain": {url.QueryEscape(p.qeChain)}}, p.qeIdentity, nil
	case link.Path == "/sgx/certification/v4/pckcrl":
		return map[string][]string{"Sgx-Pck-Crl-Issuer-Chain": {url.QueryEscape(p.crlChain)}}, p.pckCRL, nil
	case link.Host == "certificates.trustedservices.intel.com":
		return nil, p.rootCRL, nil
	}
	return nil, nil, fmt.Errorf("no answer for %s", u)
}

// peerRoots spares the log a warning for every quote.
var peerRoots = sync.OnceValue(func() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(IntelRoot())
	return pool
})

func peerVerify(raw []byte, p pcs, at time.Time) error {
	now := &tdxverify.TimeSet{PckCertChain: at, TcbInfo: at, QeIdentity: at, PckCrl: at, RootCaCrl: at}
	return tdxverify.RawTdxQuoteContext(context.Background(), raw, &tdxverify.Options{GetCollateral: true, CheckRevocations: true, Getter: p, Now: now, TrustedRoots: peerRoots()})
}

// coldOnce does everything from bytes, as a program that appraises one quote and exits. It parses the collateral, as it might read or
// fetch it, while the quote's own signatures are verified.
func coldOnce(t testing.TB, raw []byte, r responses) {
	v, err := NewVerifier(IntelRoot())
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.VerifyWith(benchTime, q, func([]*x509.Certificate, *PCK) *Collateral { return r.collateral(t) })
	if err != nil {
		t.Fatal(err)
	}
}

// bare is the floor of a warm appraisal: the QE report by the PCK, and the quote by the attestation key.
func bare(t testing.TB, raw []byte) func() {
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ParseChain(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: q.PCKChain[0]}))
	if err != nil {
		t.Fatal(err)
	}
	pck := leaf[0].PublicKey.(*ecdsa.PublicKey)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.AttestationKey[:]...))
	if err != nil {
		t.Fatal(err)
	}
	qeSig, quoteSig := derSignature(q.QEReportSignature), derSignature(q.Signature)
	return func() {
		a, b := sha256.Sum256(q.QEReportSigned), sha256.Sum256(q.Signed)
		if !ecdsa.VerifyASN1(pck, a[:], qeSig) || !ecdsa.VerifyASN1(key, b[:], quoteSig) {
			t.Fatal("signature does not verify")
		}
	}
}

// ratio runs both in turns and returns the quotient of the least time of each: what else runs on the machine only ever adds. Our
// least time is reported as that of an operation; the benchmark's timer is not stopped for the other, since that stops the world
// just before our turn.
func ratio(b *testing.B, ours, other func()) (oursByOther float64) {
	us, them := time.Hour, time.Hour
	for b.Loop() {
		start := time.Now()
		ours()
		us = min(us, time.Since(start))
		start = time.Now()
		other()
		them = min(them, time.Since(start))
	}
	b.ReportMetric(float64(us), "ns/op")
	return float64(us) / float64(them)
}

// BenchmarkCold appraises from bytes, nothing seen before. x-go-tdx-guest: how many times faster than go-tdx-guest with the same
// answers and CRLs, by the time that passes. We verify on all cores, go-tdx-guest on one: "one-core" confines both to one, which is
// the ratio of their work. x-bare: our work on one core as a multiple of the nine P-256 verifications that cannot be skipped.
func BenchmarkCold(b *testing.B) {
	raw, r := vectorFile(b, benchQuote), benchResponses(b)
	if err := peerVerify(raw, pcs(r), benchTime); err != nil {
		b.Fatal(err)
	}
	ours, peer, two := func() { coldOnce(b, raw, r) }, func() { peerVerify(raw, pcs(r), benchTime) }, bare(b, raw)
	b.Run("cores", func(b *testing.B) {
		b.ReportMetric(1/ratio(b, ours, peer), "x-go-tdx-guest")
	})
	b.Run("one-core", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		b.ReportMetric(1/ratio(b, ours, peer), "x-go-tdx-guest")
	})
	b.Run("one-core-bare", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		b.ReportMetric(ratio(b, ours, two)*2/9, "x-bare")
	})
}

// BenchmarkWarm parses and appraises a quote whose chain and collateral were seen before. x-bare: as a multiple of the two
// P-256 verifications that no quote can do without.
func BenchmarkWarm(b *testing.B) {
	raw, r := vectorFile(b, benchQuote), benchResponses(b)
	v, c := intelVerifier(b), r.collateral(b)
	ours := func() {
		q, err := ParseQuote(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Verify(benchTime, q, c); err != nil {
			b.Fatal(err)
		}
	}
	ours()
	b.ReportMetric(ratio(b, ours, bare(b, raw)), "x-bare")
}

// BenchmarkParse parses a quote.
func BenchmarkParse(b *testing.B) {
	raw := vectorFile(b, benchQuote)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseQuote(raw); err != nil {
			b.Fatal(err)
		}
	}
}
