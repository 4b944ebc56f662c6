//go:build !js

package snp

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

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

// ratio runs both in turns and returns the quotient of the least time of each: what else runs on the machine only ever adds. The
// benchmark's own time is ours.
func ratio(b *testing.B, ours, other func()) (oursByOther float64) {
	us, them := time.Hour, time.Hour
	for b.Loop() {
		start := time.Now()
		ours()
		us = min(us, time.Since(start))
		b.StopTimer()
		start = time.Now()
		other()
		them = min(them, time.Since(start))
		b.StartTimer()
	}
	return float64(us) / float64(them)
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

// BenchmarkCold appraises from bytes, nothing seen before. x-go-sev-guest: how many times faster than go-sev-guest with the same
// list. Most of either's time are three RSA-4096 verifications.
func BenchmarkCold(b *testing.B) {
	s := subject{raw: vectorFile(b, benchReport), key: vectorFile(b, benchKey), at: benchTime}
	for _, l := range realCRLs(b) {
		if l.List.Issuer.CommonName == "ARK-Milan" {
			s.crl = l.List.Raw
		}
	}
	peer := func() {
		if ok, why := theirs(s); !ok || s.crl == nil {
			b.Fatal(why)
		}
	}
	ours := func() {
		v, err := NewVerifier(AMDRoots()...)
		if err != nil {
			b.Fatal(err)
		}
		r, err := ParseReport(s.raw)
		if err != nil {
			b.Fatal(err)
		}
		c := &Collateral{Intermediates: AMDIntermediates(), CRLs: make([]*CRL, 1)}
		if c.Key, err = x509.ParseCertificate(s.key); err != nil {
			b.Fatal(err)
		}
		if c.CRLs[0], err = ParseCRL(s.crl); err != nil {
			b.Fatal(err)
		}
		if _, err := v.Verify(benchTime, r, c); err != nil {
			b.Fatal(err)
		}
	}
	peer() // parses what it carries with it once and for all, as we do
	b.ReportMetric(1/ratio(b, ours, peer), "x-go-sev-guest")
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
