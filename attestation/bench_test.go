package attestation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/cloudflare/circl/ecc/p384"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
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
	d := make([]byte, 48)
	r, s, err := ecdsa.Sign(rand.Reader, k, d)
	if err != nil {
		b.Fatal(err)
	}
	std := best(func() {
		if !ecdsa.Verify(&k.PublicKey, d, r, s) {
			b.Fatal("signature")
		}
	})
	point, err := k.PublicKey.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	x, y := new(big.Int).SetBytes(point[1:49]), new(big.Int).SetBytes(point[49:])
	curve := p384.P384()
	circl := best(func() {
		w := new(big.Int).ModInverse(s, curve.Params().N)
		u := new(big.Int).Mul(r, w)
		curve.CombinedMult(x, y, nil, u.Mod(u, curve.Params().N).Bytes())
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
		n := node(b, c.config)
		keys := encodeKeyset(b, nil)
		evidence := make([][]byte, 16)
		for i := range evidence {
			ev, err := n.Collect(b.Context(), [32]byte{byte(i)}, keys)
			if err != nil {
				b.Fatal(err)
			}
			evidence[i] = ev
		}
		for _, warm := range []bool{true, false} {
			name := c.name + "/cold"
			p256, p384 := 9*c.p256/2, 5*c.p384
			if warm {
				name, p256, p384 = c.name+"/warm", c.p256, c.p384
			} else if !c.cold {
				continue
			}
			b.Run(name, func(b *testing.B) {
				v := verifier(b, attestationtest.CollateralOptions{}, nil)
				if err := v.Appraise(now, evidence[0], [32]byte{}).Err(); err != nil {
					b.Fatal(err)
				}
				least := time.Hour
				i := 0
				for b.Loop() {
					if !warm {
						b.StopTimer()
						v = verifier(b, attestationtest.CollateralOptions{}, nil)
						b.StartTimer()
					}
					i++
					start := time.Now()
					if err := v.Appraise(now, evidence[i%16], [32]byte{byte(i % 16)}).Err(); err != nil {
						b.Fatal(err)
					}
					least = min(least, time.Since(start))
				}
				bare := time.Duration(p256)*bareP256(b) + time.Duration(p384)*bareP384(b)
				b.ReportMetric(float64(least)/float64(bare), "x-bare")
			})
		}
	}
}

// BenchmarkManyNodes puts evidence of ever new nodes through one Verifier; with -benchtime 100000x it is the proof that
// memory does not grow with use. The metric is the live heap at the end beyond that after the first hundred.
func BenchmarkManyNodes(b *testing.B) {
	v := verifier(b, attestationtest.CollateralOptions{}, nil)
	keys := encodeKeyset(b, nil)
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	var base float64
	i := 0
	for b.Loop() {
		b.StopTimer()
		var nonce [32]byte
		binary.BigEndian.PutUint64(nonce[:], uint64(i))
		ev, err := node(b, attestationtest.NodeConfig{Name: fmt.Sprint("node ", i), GPUs: 1}).Collect(b.Context(), nonce, keys)
		if err != nil {
			b.Fatal(err)
		}
		if i++; i == 100 {
			base = heap()
		}
		b.StartTimer()
		if err := v.Appraise(now, ev, nonce).Err(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(heap()-base, "MiB-grown")
	runtime.KeepAlive(v)
}
