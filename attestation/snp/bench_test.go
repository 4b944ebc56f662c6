//go:build !js

package snp

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	sevverify "github.com/google/go-sev-guest/verify"

	"github.com/bombyx-network/bombyx/attestation/internal/p384"
)

// The benchmarks appraise one real Milan report with AMD's real list.
const (
	benchReport = "snp/14fd2b6e459c.bin"
	benchKey    = "snp/14fd2b6e459c.ek.der"
)

var benchTime = time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC)

func benchCollateral(b *testing.B) *Collateral {
	return &Collateral{Key: vectorCert(b, benchKey), Intermediates: AMDIntermediates(), CRLs: realCRLs(b)}
}

// ratio runs both in turns and returns the medians' quotient, which survives a busy machine; the benchmark's own time is ours.
func ratio(b *testing.B, ours, other func()) (oursByOther float64) {
	var us, them []time.Duration
	for b.Loop() {
		start := time.Now()
		ours()
		us = append(us, time.Since(start))
		b.StopTimer()
		start = time.Now()
		other()
		them = append(them, time.Since(start))
		b.StartTimer()
	}
	slices.Sort(us)
	slices.Sort(them)
	return float64(us[len(us)/2]) / float64(them[len(them)/2])
}

// bare is the floor of a warm appraisal: one P-384 verification, by the faster of two implementations (BenchmarkP384).
func bare(b *testing.B, raw []byte, c *Collateral) func() {
	r, err := ParseReport(raw)
	if err != nil {
		b.Fatal(err)
	}
	pub := c.Key.PublicKey.(*ecdsa.PublicKey)
	R, S := new(big.Int).SetBytes(r.r[:]), new(big.Int).SetBytes(r.s[:])
	return func() {
		digest := sha512.Sum384(r.Raw[:signedSize])
		if !p384.Verify(pub, &digest, R, S) {
			b.Fatal("signature does not verify")
		}
	}
}

// peer appraises with go-sev-guest, from bytes.
func peer(b *testing.B, raw []byte, key []byte) {
	report, err := abi.ReportToProto(raw)
	if err != nil {
		b.Fatal(err)
	}
	err = sevverify.SnpAttestation(&pb.Attestation{Report: report, CertificateChain: &pb.CertificateChain{VcekCert: key}},
		&sevverify.Options{DisableCertFetching: true, Now: benchTime})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCold appraises from bytes, nothing seen before. x-go-sev-guest: how many times faster than go-sev-guest, which is
// spared the CRL.
func BenchmarkCold(b *testing.B) {
	raw, key := vectorFile(b, benchReport), vectorFile(b, benchKey)
	lists := realCRLs(b)
	peer(b, raw, key) // parses its roots once and for all, as we do
	ours := func() {
		v, err := NewVerifier(AMDRoots()...)
		if err != nil {
			b.Fatal(err)
		}
		r, err := ParseReport(raw)
		if err != nil {
			b.Fatal(err)
		}
		c := &Collateral{Intermediates: AMDIntermediates()}
		if c.Key, err = x509.ParseCertificate(key); err != nil {
			b.Fatal(err)
		}
		for _, l := range lists {
			crl, err := ParseCRL(l.List.Raw)
			if err != nil {
				b.Fatal(err)
			}
			c.CRLs = append(c.CRLs, crl)
		}
		if _, err := v.Verify(benchTime, r, c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1/ratio(b, ours, func() { peer(b, raw, key) }), "x-go-sev-guest")
}

// BenchmarkWarm parses and appraises a report whose chain and list were seen before. x-bare: as a multiple of the one P-384
// verification that no report can do without.
func BenchmarkWarm(b *testing.B) {
	raw := vectorFile(b, benchReport)
	v, c := amdVerifier(b), benchCollateral(b)
	ours := func() {
		r, err := ParseReport(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Verify(benchTime, r, c); err != nil {
			b.Fatal(err)
		}
	}
	ours()
	b.ReportMetric(ratio(b, ours, bare(b, raw, c)), "x-bare")
}
