package nvidia

import (
	"crypto/sha512"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/cache"
	"github.com/bombyx-network/bombyx/attestation/internal/p384"
)

// ratio times op against the given number of bare P-384 verifications, in turn
// with it, and reports the best of one over the best of the other, because the
// machine may be shared. The bare one is the implementation that the verifier
// uses.
func ratio(b *testing.B, checks int, op func()) {
	b.Helper()
	f := newForge(b, layout{})
	message := gpu().tbs()
	sig := rawSignature(b, f.keys[0], message)
	digest := sha512.Sum384(message)
	r, s := new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])
	ops, bare := time.Hour, time.Hour
	for b.Loop() {
		start := time.Now()
		op()
		ops = min(ops, time.Since(start))
		b.StopTimer()
		start = time.Now()
		for range checks {
			if !p384.Verify(&f.keys[0].PublicKey, &digest, r, s) {
				b.Fatal("the signature does not verify")
			}
		}
		bare = min(bare, time.Since(start))
		b.StartTimer()
	}
	b.ReportMetric(float64(ops)/float64(bare), "x/bare")
}

// BenchmarkGPUCold appraises a GPU whose chain was not seen before, as a ratio
// to its five P-384 checks alone.
func BenchmarkGPUCold(b *testing.B) {
	f := newForge(b, layout{})
	driver, vbios := f.goldenRIMs()
	e := f.evidence(gpu())
	o := Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{driver, vbios}}}
	v := f.verifier()
	ratio(b, 5, func() {
		v.chains = cache.New[*chain](8)
		if res := v.Verify(e, o); res.check(b, CheckMeasurements).Status != check.Pass {
			b.Fatal(res.Checks)
		}
	})
}

// BenchmarkGPUWarm appraises a GPU whose chain was seen before: only the
// report's own signature cannot be skipped.
func BenchmarkGPUWarm(b *testing.B) {
	f := newForge(b, layout{})
	driver, vbios := f.goldenRIMs()
	e := f.evidence(gpu())
	o := Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{driver, vbios}}}
	v := f.verifier()
	v.Verify(e, o)
	ratio(b, 1, func() {
		if res := v.Verify(e, o); res.check(b, CheckMeasurements).Status != check.Pass {
			b.Fatal(res.Checks)
		}
	})
}

// BenchmarkGPUWarmOCSP adds fresh OCSP answers for the device and for the
// signers of both manifests, all seen before.
func BenchmarkGPUWarmOCSP(b *testing.B) {
	f := newForge(b, layout{})
	driver, vbios := f.goldenRIMs()
	e := f.evidence(gpu())
	o := Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{driver, vbios}}}
	for i := range ChainLength - 1 {
		o.Collateral.OCSP = append(o.Collateral.OCSP, OCSP{Response: f.ocsp(answer{cert: f.certs[i], issuer: f.certs[i+1], signer: f.keys[i+1]})})
	}
	v := f.verifier()
	v.Verify(e, o)
	ratio(b, 1, func() {
		if res := v.Verify(e, o); res.check(b, CheckVBIOSRIMOCSP).Status != check.Pass {
			b.Fatal(res.Checks)
		}
	})
}

// BenchmarkNode appraises the real node of eight GPUs and four switches cold,
// as a ratio to its sixty P-384 checks on one processor.
func BenchmarkNode(b *testing.B) {
	n, o := realNode(b)
	v := newVerifier(b)
	ratio(b, 60, func() {
		v.chains = cache.New[*chain](64)
		res, err := v.VerifyNode(n, o)
		if err != nil || res.Checks[3].Status != check.Pass {
			b.Fatal(res, err)
		}
	})
}

func BenchmarkParseReport(b *testing.B) {
	f := newForge(b, layout{})
	r := gpu().sign(b, f.keys[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReport(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRIM(b *testing.B) {
	doc := vector(b, switchRIM)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := ParseRIM(doc); err != nil || r.sigErr != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkManyEvidences appraises evidence with 4,096 chains in turn, more than the cache holds, with one Verifier. The metrics
// are the live heap after a tenth of them, after half and at the end: with -benchtime 100000x (make memory) the proof that memory
// does not grow with use.
func BenchmarkManyEvidences(b *testing.B) {
	f := newForge(b, layout{})
	v, err := NewVerifier(Config{DeviceRoots: f.roots()})
	if err != nil {
		b.Fatal(err)
	}
	e := f.evidence(gpu())
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	b.ResetTimer()
	for i := range b.N {
		for name, at := range map[string]int{"start": b.N / 10, "middle": b.N / 2} {
			if i == at {
				b.ReportMetric(heap(), "MiB-"+name)
			}
		}
		// White space makes the same certificates a chain that was not seen.
		pad := strings.Repeat("\n", i%64) + strings.Repeat("\r", i/64%64)
		chain := append(append([]byte(nil), e.Chain...), pad...)
		if res := v.Verify(Evidence{Report: e.Report, Chain: chain}, Options{Nonce: forgedNonce, Time: at}); res.Device == nil {
			b.Fatal(res.Checks)
		}
	}
	b.StopTimer()
	b.ReportMetric(heap(), "MiB-end")
	runtime.KeepAlive(v)
}
