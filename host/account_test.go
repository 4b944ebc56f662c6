package host

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// another opens a second channel on the chain, which the rig's client owns too.
func (r *rig) another() channel.Params {
	p := r.params
	p.Salt++
	on := *r.chain.channels[r.params.Address()]
	on.Params = p
	r.chain.channels[p.Address()] = &on
	return p
}

// Accounts that nobody uses make room for others, and lose nothing by that; those
// in use stay.
func TestEviction(t *testing.T) {
	r := newRig(t)
	r.h.accounts.most = 1
	first, second := r.params, r.another()
	auth := r.open()
	r.pay(auth, 500)
	r.enclave.sealed = costs("120")
	if status, body := r.ask(auth, stream1, "200"); status != 200 {
		t.Fatal(status, body)
	}
	r.h.recording.Wait()

	session := func() (int, string) {
		r.advance(time.Millisecond)
		r.params = second
		defer func() { r.params = first }()
		status, code, _ := r.call("POST", "/v1/session", r.session(nil, clientKey))
		return status, code
	}
	full := func(why string) {
		t.Helper()
		status, code := session()
		r.want(why, 503, "busy", status, code)
	}
	full("a token lives")
	r.advance(tokenLifetime)
	a := r.h.accounts.open[first.Address().Raw()]
	for why, use := range map[string]struct{ begin, end func() }{
		"a request runs":                 {func() { a.streams["s"] = &admission{} }, func() { delete(a.streams, "s") }},
		"a cost is on its way":           {func() { a.recording++ }, func() { a.recording-- }},
		"it closes":                      {func() { a.closed = true }, func() { a.closed = false }},
		"what was left there is settled": {a.loading.Lock, a.loading.Unlock},
	} {
		use.begin()
		full(why)
		use.end()
	}
	full("the ledger says that it is in use")
	r.h.letGo(t.Context(), r.now())
	if status, code := session(); status != 200 {
		t.Fatal("nobody uses the other account: ", status, code)
	}
	if r.h.accounts.open[first.Address().Raw()] != nil || len(r.h.accounts.open) != 1 {
		t.Error("it is still there")
	}
	status, code := r.pay(auth, 600)
	r.want("its old token", 401, "unknown_session", status, code)

	// It comes back with what it had.
	r.advance(tokenLifetime)
	r.h.letGo(t.Context(), r.now())
	auth = r.open()
	if b := r.h.accounts.open[first.Address().Raw()].balances(); b != (balances{Authorised: 500, Spent: 120}) {
		t.Errorf("%+v", b)
	}
	status, code = r.ask(auth, stream2, "381")
	r.want("more than is left", 402, "insufficient_credit", status, code)
	if status, body := r.ask(auth, stream2, "380"); status != 200 {
		t.Error(status, body)
	}
}

// One that is forgotten between its session's check and its token gets none: the
// channel may have another account by now, and its credit must not count twice.
func TestEvictedWhileOpening(t *testing.T) {
	r := newRig(t)
	r.open()
	a := r.h.accounts.open[r.params.Address().Raw()]
	delete(r.h.accounts.open, a.name)
	for range 2 {
		if _, fault := r.h.accounts.issue(a, r.now()); fault == nil || fault.Status != http.StatusServiceUnavailable {
			t.Errorf("%v", fault)
		}
		if _, err := r.h.use(t.Context(), a.name, a.address); err != nil {
			t.Fatal(err)
		}
	}
}

// A host whose enclave another process has taken over stops, and does not serve
// on meanwhile.
func TestTakenOver(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	if status, code := r.pay(auth, 500); status != 204 {
		t.Fatal(status, code)
	}
	old, oldURL := r.h, r.url
	r.start()
	newURL := r.url
	r.open()
	r.url = oldURL
	status, code := r.ask(auth, stream1, "10")
	r.want("a request to the old process, which has not noticed", 409, "taken_over", status, code)
	stopped := make(chan error, 1)
	go func() { stopped <- old.Run(t.Context()) }()
	status, code = r.pay(auth, 600)
	r.want("a voucher to the old process", 503, "ledger_down", status, code)
	if err := <-stopped; !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("Run: %v", err)
	}
	status, code = r.ask(auth, stream1, "10")
	r.want("a request to the old process", 503, "ledger_down", status, code)
	if err := old.ClaimDue(t.Context()); !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("its claims: %v", err)
	}
	r.url = newURL
	auth = r.open()
	r.enclave.mu.Lock()
	r.enclave.process = old.cfg.Ledger.Process() // it took it back in its last moment
	r.enclave.mu.Unlock()
	status, code = r.ask(auth, stream1, "500")
	r.want("taken back", 409, "taken_over", status, code)
	if status, body := r.ask(auth, stream1, "500"); status != 200 {
		t.Error(status, body)
	}
	if row := r.row(); row.Authorised != 500 {
		t.Errorf("%+v", row)
	}
}
