package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testPurse(window, signed, settled uint64) *purse {
	return &purse{t: &Transport{cfg: Config{Window: window}, running: map[string]int{}}, p: Payment{Deposit: 1 << 40}, token: "t",
		state: PaymentState{Signed: signed, Settled: settled}, sent: 1 << 50}
}

// atRisk is what the purse could sign for beyond delivery.
func (u *purse) atRisk() uint64 { return u.limit() - u.state.Settled }

// What breaks off is lost to the limit until the host says what it cost, and
// then as far as nothing was delivered for it: never more can be signed.
func TestLossesShareTheLimit(t *testing.T) {
	u := testPurse(1000, 500, 0)
	n := needs{bound: 100, whole: 100, least: 100, bare: 100, window: 1000}
	a, b, c := &exchange{keep: u.take(n, true), needs: n}, &exchange{keep: u.take(n, true), needs: n}, &exchange{keep: u.take(n, true), needs: n}
	if u.held != 300 || u.running != 3 {
		t.Fatalf("%+v", u)
	}
	u.end(outcome{of: a, offered: 100, unsure: true}) // cut
	u.end(outcome{of: b, offered: 100})               // refused
	u.settle(outcome{of: c, offered: 100, cost: 60}, "receipt")
	if u.state.Settled != 60 || u.limbo != 100 || u.held != 0 || u.free() != 900 {
		t.Fatalf("%+v", u)
	}
	for _, x := range []struct {
		host balances
		free uint64
	}{
		{balances{Spent: 90}, 970}, // the cut one cost 30
		{balances{Spent: 60, Reserved: 100}, 900},
		{balances{Spent: 10}, 1000},
		{balances{Spent: 1 << 60}, 560}, // no more than was ever signed
		{balances{Spent: 60, Reserved: 1 << 62}, 0},
	} {
		if u.believe(x.host); u.free() != x.free || u.atRisk() != 1000 {
			t.Errorf("%+v: %d free of %d, want %d", x.host, u.free(), u.atRisk(), x.free)
		}
	}
	u.state.Signed = u.limit()
	if u.believe(balances{Spent: 1 << 60}); u.free() != 0 || u.limit() != 1060 {
		t.Errorf("a host that says that all is spent: %d free, %d to be signed", u.free(), u.limit())
	}
	if u.take(n, true) != 0 {
		t.Error("a request begins with nothing")
	}
	if lost, err := u.forgive(); lost != 1000 || err != nil || u.free() != 1000 {
		t.Errorf("forgiven: %d, %d free, %v", lost, u.free(), err)
	}
}

// What the enclave says while it runs is delivered, and a receipt may say less.
func TestReceiptCorrectsTheMeter(t *testing.T) {
	u := testPurse(1000, 0, 0)
	n := needs{bound: 1 << 50, least: 100, bare: 1, prompt: 50, step: 50, window: 1000}
	s := &exchange{keep: u.take(n, true), needs: n, offered: 100}
	if s.keep != 100 {
		t.Fatal(s.keep)
	}
	u.advance(s, 80, 0)
	if u.state.Settled != 80 || u.held != s.keep || s.keep < 50 || s.cost+s.keep <= 100 {
		t.Fatalf("%d settled, %d held, %d kept", u.state.Settled, u.held, s.keep)
	}
	u.settle(outcome{of: s, told: 80, cost: 70, offered: 200}, "receipt")
	if u.state.Settled != 70 || u.held != 0 || u.running != 0 {
		t.Fatalf("%+v", u)
	}
}

// What arrived of an answer that broke off is delivered; what else it may have
// cost is not, until the host says.
func TestWhatArrivedIsDelivered(t *testing.T) {
	u := testPurse(1000, 500, 0)
	n := needs{bound: 300, whole: 300, least: 300, bare: 300, window: 1000}
	s := &exchange{t: u.t, e: &attested{}, keep: u.take(n, true), needs: n, offered: 300}
	saved := 0
	u.p.Save = func(PaymentState, string) { saved++ }
	s.delivered(70)
	s.delivered(50)
	u.end(s.end())
	if u.state.Settled != 70 || u.limbo != 230 || u.held != 0 || saved != 1 || u.atRisk() != 1000 {
		t.Fatalf("%+v, saved %d times", u, saved)
	}
	s = &exchange{t: u.t, e: &attested{}, keep: u.take(n, true), needs: n, offered: 300}
	s.delivered(1 << 60) // no more than it was offered
	u.end(s.end())
	if u.state.Settled != 370 || u.limbo != 230 {
		t.Fatalf("%+v", u)
	}
}

// Many that run share one limit and never wait for each other for what they
// had; who comes later waits for its turn.
func TestManyShareOneLimit(t *testing.T) {
	u := testPurse(6400, 0, 0)
	n := needs{bound: 1 << 50, least: 100, bare: 1, step: 100, window: 6400}
	var running []*exchange
	for {
		keep := u.take(n, true)
		if keep == 0 {
			break
		}
		running = append(running, &exchange{keep: keep, needs: n})
	}
	if len(running) < 32 || u.held > 6400 {
		t.Fatalf("%d run at once, %d held", len(running), u.held)
	}
	for round := range 50 {
		for _, s := range running {
			had := s.keep
			u.advance(s, s.cost+had, s.cost+had+1) // it has used up what it had, and waits
			if len(u.short) > 0 || s.keep < min(had, 100) {
				t.Fatalf("round %d: one that had %d has %d, %d wait", round, had, s.keep, len(u.short))
			}
		}
		if u.used()-u.state.Settled > 6400 || u.atRisk() > 6400 {
			t.Fatalf("%d at risk", u.atRisk())
		}
	}
}

// Requests begin in the order in which they came: a small one does not overtake
// a dear one, which runs alone. One that is given up leaves the queue.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testPurse(1000, 0, 0)
		n := func(whole uint64) needs {
			return needs{bound: whole, whole: whole, least: whole, bare: whole, window: 1000}
		}
		var mu sync.Mutex
		var order []string
		begin := func(ctx context.Context, name string, n needs) *exchange {
			s := &exchange{needs: n}
			go func() {
				keep, fault := u.begin(ctx, n)
				if s.keep = keep; fault != nil {
					name += "!"
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			}()
			synctest.Wait()
			return s
		}
		want := func(list string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(order, " "); got != list {
				t.Fatalf("%q, want %q", got, list)
			}
		}
		end := func(s *exchange) { u.settle(outcome{of: s, offered: s.keep}, "receipt") }
		ctx, cancel := context.WithCancel(t.Context())
		a := begin(t.Context(), "a", n(600))
		b := begin(t.Context(), "b", n(600))
		begin(ctx, "c", n(600))
		dear := begin(t.Context(), "dear", n(5000))
		e, f := begin(t.Context(), "e", n(400)), begin(t.Context(), "f", n(400))
		want("a")
		cancel()
		want("a c!")
		end(a)
		want("a c! b")
		end(b)
		want("a c! b dear")
		if u.limit() != 5000 {
			t.Errorf("%d may be signed for the dear one", u.limit())
		}
		end(dear)
		want("a c! b dear e f")
		end(e)
		end(f)
		if u.limit() != 1000 || u.held != 0 || len(u.queue) != 0 {
			t.Errorf("%d may be signed, %d held, %d wait", u.limit(), u.held, len(u.queue))
		}
	})
}

// A running request that needs more than any began with waits for others to
// end, and newcomers for it.
func TestRunningComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testPurse(1000, 0, 0)
		n := needs{bound: 1 << 50, least: 400, bare: 1, prompt: 300, step: 100, window: 1000}
		a, b := &exchange{keep: u.take(n, true), needs: n, ended: true}, &exchange{keep: u.take(n, true), needs: n}
		u.advance(a, 0, 800)
		if len(u.short) != 1 || a.keep > 400 {
			t.Fatalf("%d wait, %d kept", len(u.short), a.keep)
		}
		began := false
		go func() {
			_, fault := u.begin(t.Context(), needs{bound: 10, whole: 10, least: 10, bare: 10, window: 1000})
			began = fault == nil
		}()
		synctest.Wait()
		if began {
			t.Fatal("a newcomer overtakes it")
		}
		u.end(outcome{of: b, offered: b.keep})
		synctest.Wait()
		if a.keep < 800 || len(u.short) != 0 || !began {
			t.Fatalf("%d kept, %d wait, newcomer %v", a.keep, len(u.short), began)
		}
	})
}

// A voucher is for an eighth of the window more than what is held, the next is due when half of that is left, and none is for
// more than the limit.
func TestVouchersRunLittleAhead(t *testing.T) {
	u := testPurse(8000, 0, 100)
	_, u.p.Key, _ = ed25519.GenerateKey(nil)
	u.sent = 0
	sign := func(want uint64, ample bool) {
		t.Helper()
		v, enough := u.sign()
		if v.Total != want || enough != ample {
			t.Errorf("a voucher over %d, ample %t; want %d, %t", v.Total, enough, want, ample)
		}
		u.sent = v.Total
	}
	sign(1100, false)
	u.held = 500 // 500 are left, half of the eighth
	sign(1100, true)
	u.held = 501
	if !u.covered() {
		t.Error("what is held is not covered")
	}
	sign(1601, false)
	u.held = 2000
	if u.covered() {
		t.Error("2100 are covered by 1601")
	}
	sign(3100, false)
	u.held = 7900
	sign(8100, false) // the limit
	u.held = 8000
	sign(8100, true)
	u.closed = true
	u.state.Settled = 5000 // nothing more is signed for a closed channel
	sign(8100, true)
}

// Of requests that come when little is left one sends the next voucher, and the others do not wait for it.
func TestOneRequestRefills(t *testing.T) {
	u := testPurse(8000, 0, 0)
	_, u.p.Key, _ = ed25519.GenerateKey(nil)
	u.sent, u.state.Signed = 10, 10
	asked, answer := make(chan string), make(chan error)
	u.t.cfg.Base = roundTrip(func(r *http.Request) (*http.Response, error) {
		asked <- r.URL.Path
		return nil, <-answer
	})
	u.t.cfg.Timeout = time.Minute
	u.talk = make(chan struct{}, 1)
	n := needs{bound: 1, least: 1, bare: 1, window: 8000}
	reserve := func() (token string) {
		keep, token, fault := u.reserve(t.Context(), n)
		if keep != 1 || fault != nil {
			t.Errorf("%d, %v", keep, fault)
		}
		return token
	}
	done := make(chan string)
	go func() { done <- reserve() }()
	if path := <-asked; path != "/v1/voucher" {
		t.Errorf("it asks for %s", path)
	}
	for range 3 {
		if token := reserve(); token != "t" {
			t.Errorf("token %q", token)
		}
	}
	answer <- errors.New("the host fails") // what is covered goes on all the same
	if token := <-done; token != "t" {
		t.Errorf("token %q", token)
	}
}
