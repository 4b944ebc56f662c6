package dcap

import (
	"bytes"
	"crypto/x509"
	"errors"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/bombyx-network/bombyx/attestation/check"
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
				var ce *check.Error
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

// However many cores help, the findings are the same, in the same order, and no goroutine outlives the appraisal.
func TestCores(t *testing.T) {
	w := newWorld(4)
	_, good, c := w.build(t)
	bend := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at] ^= 1
		return b
	}
	_, _, other := newWorld(4).build(t)
	bentInfo, bentIdentity := *c.TCBInfo, *c.QEIdentity
	bentInfo.Signature[5] ^= 1
	bentIdentity.Signature[5] ^= 1
	body := headerSize + tdReport10Size + 4 // where the signature data begins
	for name, x := range map[string]struct {
		raw []byte
		c   Collateral
	}{
		"good":             {good, *c},
		"body":             {bend(headerSize + 520), *c},
		"quote signature":  {bend(body + 5), *c},
		"attestation key":  {bend(body + signatureSize + 5), *c},
		"no collateral":    {good, Collateral{}},
		"other collateral": {good, *other},
		"no CRLs":          {good, Collateral{TCBInfo: c.TCBInfo, TCBInfoChain: c.TCBInfoChain, QEIdentity: c.QEIdentity, QEIdentityChain: c.QEIdentityChain}},
		"TCB info":         {good, Collateral{&bentInfo, c.TCBInfoChain, c.QEIdentity, c.QEIdentityChain, c.RootCRL, c.PCKCRL, nil}},
		"QE identity":      {good, Collateral{c.TCBInfo, c.TCBInfoChain, &bentIdentity, c.QEIdentityChain, c.RootCRL, c.PCKCRL, nil}},
		"CRLs swapped":     {good, Collateral{c.TCBInfo, c.TCBInfoChain, c.QEIdentity, c.QEIdentityChain, c.PCKCRL, c.RootCRL, nil}},
	} {
		q, err := ParseQuote(x.raw)
		if err != nil {
			t.Fatal(err)
		}
		var want *Result
		for _, cores := range []int{1, 2, 16} {
			v, err := NewVerifier(c.TCBInfoChain[1])
			if err != nil {
				t.Fatal(err)
			}
			var res, again *Result
			var errAgain error
			before := runtime.GOMAXPROCS(cores)
			synctest.Test(t, func(*testing.T) { // fails when a goroutine is left behind
				res, err = v.Verify(w.now, q, &x.c)
				again, errAgain = v.Verify(w.now, q, &x.c)
			})
			runtime.GOMAXPROCS(before)
			if want == nil {
				want = res
			}
			if !reflect.DeepEqual(res, want) || !reflect.DeepEqual(again, want) || (err == nil) != (name == "good") || (errAgain == nil) != (err == nil) {
				t.Errorf("%s, %d cores: %+v, then %+v, want %+v", name, cores, res, again, want)
			}
		}
	}
}

// VerifyWith asks for collateral once, by what the quote's own chain says, and finds what Verify finds.
func TestVerifyWith(t *testing.T) {
	w := newWorld(4)
	_, raw, c := w.build(t)
	parsed := func(bend func(*Quote)) *Quote {
		q, err := ParseQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		bend(q)
		return q
	}
	for name, x := range map[string]struct {
		q     *Quote
		c     *Collateral
		known bool // the chain, when it asks
	}{
		"good":          {parsed(func(*Quote) {}), c, true},
		"no collateral": {parsed(func(*Quote) {}), nil, true},
		"no chain":      {parsed(func(q *Quote) { q.CertificationDataType, q.PCKChain = CertPPIDPlain, nil }), c, false},
		"broken chain":  {parsed(func(q *Quote) { q.PCKChain[1] = q.PCKChain[1][1:] }), c, false},
	} {
		v, err := NewVerifier(c.TCBInfoChain[1])
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // cold and warm
			calls := 0
			res, err := v.VerifyWith(w.now, x.q, func(chain []*x509.Certificate, pck *PCK) *Collateral {
				calls++
				if !x.known && (chain != nil || pck != nil) {
					t.Errorf("%s: asked for collateral of %v, %v", name, chain, pck)
				}
				if x.known && (len(chain) != len(x.q.PCKChain) || !bytes.Equal(chain[0].Raw, x.q.PCKChain[0]) || !bytes.Equal(chain[1].Raw, x.q.PCKChain[1]) || pck.FMSPC != c.TCBInfo.FMSPC) {
					t.Errorf("%s: asked for collateral of %v, %v", name, chain, pck)
				}
				return x.c
			})
			want, wantErr := v.Verify(w.now, x.q, x.c)
			if calls != 1 || !reflect.DeepEqual(res, want) || (err == nil) != (wantErr == nil) || (err == nil) != (name == "good") {
				t.Errorf("%s: asked %d times, %+v, %v; Verify says %+v, %v", name, calls, res, err, want, wantErr)
			}
		}
	}
}

// Whoever panics while it looks for collateral leaves no goroutine behind.
func TestVerifyWithPanic(t *testing.T) {
	w := newWorld(4)
	v, raw, _ := w.build(t)
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if recover() != "no collateral" {
				t.Error("the panic was swallowed")
			}
		}()
		v.VerifyWith(w.now, q, func([]*x509.Certificate, *PCK) *Collateral { panic("no collateral") })
	})
}
