package attestation_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
)

// What a Verifier remembers changes no verdict: after it has accepted a node's evidence, it finds about changed, exchanged and
// untimely evidence exactly what one finds that has seen nothing.
func TestWarmAsFresh(t *testing.T) {
	b := bundle(t, attestationtest.CollateralOptions{})
	fresh := func() *attestation.Verifier {
		v, err := attestation.NewVerifier(auth.Policy(now), b)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, c := range map[string]attestationtest.NodeConfig{"TDX": {GPUs: 1}, "SNP": {SNP: true}} {
		t.Run(name, func(t *testing.T) {
			encoded := collect(t, c)
			c.Name = "b"
			other, err := attestation.ParseEvidence(collect(t, c))
			if err != nil {
				t.Fatal(err)
			}
			warm := fresh()
			if err := warm.Appraise(now, encoded, nonce).Err(); err != nil {
				t.Fatal(err)
			}
			refused := 0
			same := func(what string, at time.Time, evidence []byte) {
				t.Helper()
				cold := fresh()
				want := cold.Appraise(at, evidence, nonce)
				for _, v := range []*attestation.Verifier{warm, cold, warm} {
					if got := v.Appraise(at, evidence, nonce); !reflect.DeepEqual(got, want) {
						t.Errorf("%s: a Verifier that has seen the node finds %v, a fresh one %v", what, got.Err(), want.Err())
					}
				}
				if want.Err() != nil {
					refused++
				}
			}
			for _, d := range []time.Duration{0, time.Minute, -24 * time.Hour, 45 * 24 * time.Hour, 100 * 365 * 24 * time.Hour, -100 * 365 * 24 * time.Hour} {
				same(d.String(), now.Add(d), encoded)
			}
			parts := func(e *attestation.Evidence) []*[]byte {
				p := []*[]byte{&e.CPU.Quote}
				if e.CPU.Certificates != nil {
					p = append(p, &e.CPU.Certificates)
				}
				for i := range e.Devices {
					p = append(p, &e.Devices[i].Report, &e.Devices[i].Certificates)
				}
				return p
			}
			change := func(i int, f func([]byte) []byte) []byte {
				e, err := attestation.ParseEvidence(encoded)
				if err != nil {
					t.Fatal(err)
				}
				p := parts(e)[i]
				*p = f(bytes.Clone(*p))
				out, err := e.Encode()
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			for i, p := range parts(other) {
				same("another node's", now, change(i, func([]byte) []byte { return *p }))
				same("cut", now, change(i, func(b []byte) []byte { return b[:len(b)-1] }))
				same("longer", now, change(i, func(b []byte) []byte { return append(b, 1) }))
				for k := range 8 {
					same("bent", now, change(i, func(b []byte) []byte {
						b[(2*k+1)*len(b)/16] ^= 1
						return b
					}))
				}
			}
			if refused < 20 {
				t.Errorf("only %d of them were refused", refused)
			}
			if err := warm.Appraise(now, encoded, nonce).Err(); err != nil {
				t.Error(err)
			}
		})
	}
}
