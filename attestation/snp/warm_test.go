package snp

import (
	"errors"
	"sync"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// One Verifier, one Collateral, many goroutines, good and bad reports: no verdict depends on another's.
func TestConcurrent(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	v, good, c := w.build(t)
	bad := append([]byte(nil), good...)
	bad[0x50] ^= 1
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				raw := good
				if (i+j)%2 == 1 {
					raw = bad
				}
				r, err := ParseReport(raw)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = v.Verify(w.now, r, c)
				var ce *check.Error
				if (i+j)%2 == 0 && err != nil || (i+j)%2 == 1 && (!errors.As(err, &ce) || ce.Check.ID != CheckSignature) {
					t.Errorf("%d: %v", i+j, err)
				}
			}
		})
	}
	wg.Wait()
}

// What was verified once is not valid forever.
func TestWarmIsAsStrict(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	v, raw, c := w.build(t)
	r, err := ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(w.now, r, c); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(c.CRLs[0].List.NextUpdate.Add(1), r, c); err == nil {
		t.Error("stale CRL accepted when warm")
	}
	bent := *c.Key
	bent.Signature = append([]byte(nil), bent.Signature...)
	bent.Signature[9] ^= 1
	if _, err := v.Verify(w.now, r, &Collateral{Key: &bent, Intermediates: c.Intermediates, CRLs: c.CRLs}); err == nil {
		t.Error("certificate with another signature accepted when warm")
	}
}
