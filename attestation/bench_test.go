package attestation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/internal/p384"
)

// bareP256 and bareP384 are the cost of one signature check that cannot be avoided, by the faster of the two libraries.
func bareP256(b *testing.B) time.Duration {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	d := sha256.Sum256(nil)
	r, s, err := ecdsa.Sign(rand.Reader, k, d[:])
	if err != nil {
		b.Fatal(err)
	}
	return best(func() {
		if !ecdsa.Verify(&k.PublicKey, d[:], r, s) {
			b.Fatal("signature")
		}
	})
}

func bareP384(b *testing.B) time.Duration {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	d := sha512.Sum384(nil)
	r, s, err := ecdsa.Sign(rand.Reader, k, d[:])
	if err != nil {
		b.Fatal(err)
	}
	std := best(func() {
		if !ecdsa.Verify(&k.PublicKey, d[:], r, s) {
			b.Fatal("signature")
		}
	})
	circl := best(func() {
		if !p384.Verify(&k.PublicKey, &d, r, s) {
			b.Fatal("signature")
		}
	})
	return min(std, circl)
}

// best is the least time of one call: what else runs on the machine only ever adds.
func best(f func()) time.Duration {
	least := time.Hour
	for range 200 {
		start := time.Now()
		f()
		least = min(least, time.Since(start))
	}
	return least
}

// BenchmarkAppraise appraises composite evidence of one node with fresh nonces, chains and collateral having been seen
// before ("warm"), or by a Verifier that has seen nothing ("cold"). The metric x-bare is the least time of one appraisal
// divided by the signature checks in it that cannot be skipped. Warm: two P-256 per quote, one P-384 per device. Cold: nine
// P-256 per quote (quote, QE report, PCK, CA, two CRLs, TCB signer, TCB info, QE identity) and five P-384 per device; the RSA
// of AMD's chain is left out, so that SNP has no cold figure. RIMs are verified when a bundle is read.
func BenchmarkAppraise(b *testing.B) {
	for _, c := range []struct {
		name   string
		config attestationtest.NodeConfig
		p256   int
		p384   int
		cold   bool
	}{
		{"TDX", attestationtest.NodeConfig{}, 2, 0, true},
		{"SNP", attestationtest.NodeConfig{SNP: true}, 0, 1, false},
		{"TDX+1GPU", attestationtest.NodeConfig{GPUs: 1}, 2, 1, true},
		{"TDX+8GPU+4switch", attestationtest.NodeConfig{GPUs: 8, Switches: 4}, 2, 12, true},
	} {
		evidence := gather(b, c.config)
		appraise := func(v *attestation.Verifier, i int) error {
			return v.Appraise(now, evidence[i%len(evidence)], [32]byte{byte(i % len(evidence))}).Err()
		}
		b.Run(c.name+"/warm", func(b *testing.B) { warm(b, c.p256, c.p384, appraise) })
		if !c.cold {
			continue
		}
		b.Run(c.name+"/cold", func(b *testing.B) {
			least, i := time.Hour, 0
			for b.Loop() {
				b.StopTimer()
				v := verifier(b, attestationtest.CollateralOptions{}, nil)
				b.StartTimer()
				start := time.Now()
				if err := appraise(v, i); err != nil {
					b.Fatal(err)
				}
				least = min(least, time.Since(start))
				i++
			}
			report(b, least, 9*c.p256/2, 5*c.p384)
		})
	}
}

// BenchmarkAppraiseSaved appraises saved evidence of a node, and its bare quote, report and GPU report, with chains and
// collateral having been seen before. x-bare as for BenchmarkAppraise.
func BenchmarkAppraiseSaved(b *testing.B) {
	for _, c := range []struct {
		name       string
		config     attestationtest.NodeConfig
		p256, p384 int
		take       func(e *attestation.Evidence, encoded []byte) ([]byte, attestation.Expected)
	}{
		{"composite", attestationtest.NodeConfig{}, 2, 0, func(e *attestation.Evidence, encoded []byte) ([]byte, attestation.Expected) {
			return encoded, attestation.Expected{Nonce: e.Nonce[:]}
		}},
		{"quote", attestationtest.NodeConfig{}, 2, 0, func(e *attestation.Evidence, _ []byte) ([]byte, attestation.Expected) {
			return e.CPU.Quote, attestation.Expected{}
		}},
		{"report", attestationtest.NodeConfig{SNP: true}, 0, 1, func(e *attestation.Evidence, _ []byte) ([]byte, attestation.Expected) {
			return e.CPU.Quote, attestation.Expected{Certificates: e.CPU.Certificates}
		}},
		{"GPU", attestationtest.NodeConfig{GPUs: 1}, 0, 1, func(e *attestation.Evidence, _ []byte) ([]byte, attestation.Expected) {
			return e.Devices[0].Report, attestation.Expected{Certificates: e.Devices[0].Certificates}
		}},
	} {
		var files [][]byte
		var wants []attestation.Expected
		for _, encoded := range gather(b, c.config) {
			e, err := attestation.ParseEvidence(encoded)
			if err != nil {
				b.Fatal(err)
			}
			file, want := c.take(e, encoded)
			files, wants = append(files, file), append(wants, want)
		}
		b.Run(c.name, func(b *testing.B) {
			warm(b, c.p256, c.p384, func(v *attestation.Verifier, i int) error {
				r, err := v.AppraiseSaved(now, files[i%len(files)], wants[i%len(files)])
				if err != nil {
					return err
				}
				return r.Err()
			})
		})
	}
}

// gather returns evidence of one node; nonce i starts with byte i.
func gather(b *testing.B, config attestationtest.NodeConfig) (evidence [][]byte) {
	n := node(b, config)
	keys := encodeKeyset(b, nil)
	for i := range 16 {
		ev, err := n.Collect(b.Context(), [32]byte{byte(i)}, keys)
		if err != nil {
			b.Fatal(err)
		}
		evidence = append(evidence, ev)
	}
	return evidence
}

// warm times appraisals by one Verifier.
func warm(b *testing.B, p256, p384 int, appraise func(v *attestation.Verifier, i int) error) {
	v := verifier(b, attestationtest.CollateralOptions{}, nil)
	if err := appraise(v, 0); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	least, i := time.Hour, 0
	for b.Loop() {
		i++
		start := time.Now()
		if err := appraise(v, i); err != nil {
			b.Fatal(err)
		}
		least = min(least, time.Since(start))
	}
	report(b, least, p256, p384)
}

func report(b *testing.B, least time.Duration, p256, p384 int) {
	bare := time.Duration(p256)*bareP256(b) + time.Duration(p384)*bareP384(b)
	b.ReportMetric(float64(least)/float64(bare), "x-bare")
}

// BenchmarkManyNodes puts evidence of 5,000 nodes, more than any cache holds, through one Verifier in turn: of TDX, of TDX with a
// GPU and of SEV-SNP. The metrics are the live heap, evidence included, after a tenth of all, after half and at the end: with
// -benchtime 100000x (make memory) the proof that memory does not grow with use.
func BenchmarkManyNodes(b *testing.B) {
	const nodes = 5000
	v := verifier(b, attestationtest.CollateralOptions{}, nil)
	keys := encodeKeyset(b, nil)
	var evidence [][]byte
	var nonce [32]byte
	b.ResetTimer()
	for i := range b.N {
		binary.BigEndian.PutUint64(nonce[:], uint64(i%nodes))
		if i < nodes {
			b.StopTimer()
			c := attestationtest.NodeConfig{Name: fmt.Sprint("node ", i), SNP: i%4 == 1}
			if i%8 == 3 {
				c.GPUs = 1
			}
			ev, err := node(b, c).Collect(b.Context(), nonce, keys)
			if err != nil {
				b.Fatal(err)
			}
			evidence = append(evidence, ev)
			b.StartTimer()
		}
		for name, at := range map[string]int{"start": b.N / 10, "middle": b.N / 2} {
			if i == at {
				b.ReportMetric(heap(), "MiB-"+name)
			}
		}
		if err := v.Appraise(now, evidence[i%nodes], nonce).Err(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(heap(), "MiB-end")
	runtime.KeepAlive(v)
	runtime.KeepAlive(evidence)
}

// heap returns the live heap in MiB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
