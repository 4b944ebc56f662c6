package dcap

import (
	"errors"
	"sync"
	"testing"
)

// One Verifier, one Collateral, many goroutines, good and bad quotes: no verdict depends on another's.
func TestConcurrent(t *testing.T) {
	w := newWorld(4)
	v, good, c := w.build(t)
	bad := append([]byte(nil), good...)
	bad[headerSize+520] ^= 1
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				raw := good
				if (i+j)%2 == 1 {
					raw = bad
				}
				q, err := ParseQuote(raw)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = v.Verify(w.now, q, c)
				var ce *CheckError
				if (i+j)%2 == 0 && err != nil || (i+j)%2 == 1 && (!errors.As(err, &ce) || ce.Check.ID != CheckQuoteSignature) {
					t.Errorf("%d: %v", i+j, err)
				}
			}
		})
	}
	wg.Wait()
}

// A signature that once verified does not make another one pass, and time is not remembered.
func TestWarmIsAsStrict(t *testing.T) {
	w := newWorld(4)
	v, raw, c := w.build(t)
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(w.now, q, c); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(c.PCKCRL.List.NextUpdate.Add(1), q, c); err == nil {
		t.Error("stale CRL accepted when warm")
	}
	for name, bend := range map[string]func(*Collateral){
		"TCB info":    func(c *Collateral) { i := *c.TCBInfo; i.Signature[5] ^= 1; c.TCBInfo = &i },
		"QE identity": func(c *Collateral) { i := *c.QEIdentity; i.Signature[5] ^= 1; c.QEIdentity = &i },
	} {
		bent := *c
		bend(&bent)
		if _, err := v.Verify(w.now, q, &bent); err == nil {
			t.Errorf("another signature of the %s accepted when warm", name)
		}
	}
	// Another world's collateral, under another root with the same names.
	_, _, other := newWorld(4).build(t)
	if _, err := v.Verify(w.now, q, other); err == nil {
		t.Error("collateral of another root accepted when warm")
	}
}
