package host

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// spend makes the account owe cost.
func (r *rig) spend(auth, stream, cost string) {
	r.t.Helper()
	r.enclave.mu.Lock()
	r.enclave.sealed = costs(cost)
	r.enclave.mu.Unlock()
	if status, body := r.ask(auth, stream, cost); status != 200 {
		r.t.Fatalf("%d %s", status, body)
	}
	r.h.recording.Wait()
}

func (r *rig) claimed(want ...uint64) {
	r.t.Helper()
	if err := r.h.ClaimDue(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	if got := r.chain.claims; len(got) != len(want) || len(want) > 0 && got[len(got)-1] != want[len(want)-1] {
		r.t.Errorf("claims %d, want %d", got, want)
	}
}

// Vouchers run ahead of delivery; claims do not, but for less than one voucher
// at the end.
func TestClaimsAreEarned(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	for _, v := range []uint64{100, 250, 400, 600} {
		if status, code := r.pay(auth, v); status != 204 {
			t.Fatal(status, code)
		}
	}
	r.advance(2 * time.Hour) // vouchers are old enough now
	r.claimed()
	r.open()
	auth = r.open()
	r.spend(auth, stream1, "260")
	r.claimed(250)
	r.claimed(250) // once
	r.spend(auth, stream2, "1")
	r.claimed(250)
	r.chain.channels[r.params.Address()].CloseAt = uint32(r.now().Add(time.Hour).Unix())
	r.claimed(250, 400) // 261 are owed, and closing leaves no later chance
	r.claimed(250, 400)
	if c := r.row(); c.Claimed != 400 || c.Closed {
		t.Errorf("%+v", c)
	}
	r.advance(2 * time.Hour)
	r.claimed(250, 400)
	if !r.row().Closed {
		t.Error("not closed after the deadline")
	}
}

func TestClaimNearTheDeadline(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 90)
	r.spend(auth, stream1, "10")
	r.claimed() // below the threshold, and young
	r.advance(time.Unix(int64(r.params.ExpiresAt), 0).Add(-r.cfg.Claims.Margin).Sub(r.now()))
	r.claimed(90)
}

// Threshold, age and the beginning of a close count across restarts and
// outages of the chain, and a deadline that they bring near is told.
func TestClaimsAcrossRestartsAndOutages(t *testing.T) {
	r := newRig(t)
	var log lines
	r.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	auth := r.open()
	r.pay(auth, 90)
	r.spend(auth, stream1, "90")
	r.claimed() // below the threshold, and young
	outage := func() {
		t.Helper()
		r.chain.err = errors.New("no answer")
		if err := r.h.ClaimDue(t.Context()); err == nil {
			t.Error("no error in an outage")
		}
		r.start()
		if err := r.h.ClaimDue(t.Context()); err == nil {
			t.Error("no error in an outage")
		}
	}
	// Age.
	r.advance(2 * time.Hour)
	outage()
	if log.has("deadline") {
		t.Errorf("no deadline is near: %s", &log)
	}
	r.chain.err = nil
	r.claimed(90)
	// Threshold.
	auth = r.open()
	r.pay(auth, 190)
	r.spend(auth, stream2, "100")
	outage()
	r.chain.err = nil
	r.claimed(90, 190)
	// A close that began in an outage.
	auth = r.open()
	r.pay(auth, 300)
	r.spend(auth, "00000000000000000000000000000003", "10")
	outage()
	r.chain.channels[r.params.Address()].CloseAt = uint32(r.now().Add(time.Hour).Unix())
	r.chain.err = nil
	r.claimed(90, 190, 300)
	// A deadline that comes near in an outage is told by a process that has
	// never seen the chain.
	r.chain.channels[r.params.Address()].Paid -= 110
	if err := r.cfg.Ledger.SetChainState(t.Context(), r.params.Address().Raw(), 190, false); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Hour - r.cfg.Claims.Margin)
	outage()
	if !log.has("deadline is near, and the chain does not answer") {
		t.Errorf("nobody is told: %s", &log)
	}
	r.chain.err = nil
	r.claimed(90, 190, 300, 300)
	if !log.has(`"deadline is near"`) {
		t.Errorf("nobody is told: %s", &log)
	}
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.Bytes(), []byte(s))
}

// A host that is killed after it sent an agreement serves nothing on the
// channel, which the chain may close at any moment.
func TestKilledWhileClosing(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	r.spend(auth, stream1, "300")
	r.chain.closeErr = fmt.Errorf("%w: no block yet", ErrMayClose)
	status, code, _ := r.call("POST", "/v1/close", r.agreement(300), "Authorization", auth)
	r.want("not seen to close", 503, "close_failed", status, code)
	for range 2 {
		status, code = r.ask(auth, stream2, "10")
		r.want("a request meanwhile", 403, "unsuitable_channel", status, code)
		status, code, _ = r.call("POST", "/v1/close", r.agreement(300), "Authorization", auth)
		r.want("another close", 409, "closing", status, code)
		r.start()
		auth = r.open()
	}
	r.advance(closeMayTake)
	auth = r.open()
	r.spend(auth, stream2, "10") // it did not close
}

func TestClaimWithoutDelivery(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	r.chain.channels[r.params.Address()].CloseAt -= 3600
	r.advance(2 * time.Hour)
	r.claimed()
	delete(r.chain.channels, r.params.Address())
	r.advance(31 * 24 * time.Hour)
	r.claimed()
	if !r.row().Closed {
		t.Error("a channel that is gone is not closed")
	}
}

func (r *rig) agreement(total uint64) []byte {
	a := channel.Agreement{GlobalID: network, Channel: r.params.Address(), Total: total}.Sign(clientKey)
	b, _ := a.MarshalBinary()
	return b
}

func TestCloseTogether(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	r.spend(auth, stream1, "300")
	sign := func(change func(*channel.Agreement)) []byte {
		a := channel.Agreement{GlobalID: network, Channel: r.params.Address(), Total: 300}
		change(&a)
		s := a.Sign(clientKey)
		b, _ := s.MarshalBinary()
		return b
	}
	forged := r.agreement(300)
	forged[100] ^= 1
	refuse := func(name string, body []byte, status int, code string) {
		t.Helper()
		got, gotCode, _ := r.call("POST", "/v1/close", body, "Authorization", auth)
		r.want(name, status, code, got, gotCode)
	}
	refuse("short", r.agreement(300)[1:], 400, "malformed_body")
	refuse("a voucher", r.voucher(300), 400, "malformed_agreement")
	refuse("forged", forged, 403, "bad_signature")
	refuse("another channel", sign(func(a *channel.Agreement) { a.Channel[0] ^= 1 }), 403, "wrong_agreement")
	refuse("another network", sign(func(a *channel.Agreement) { a.GlobalID++ }), 403, "wrong_agreement")
	refuse("underpaid", r.agreement(299), 402, "underpaid")
	refuse("beyond the deposit", r.agreement(1<<40), 409, "wrong_agreement")
	r.chain.err = errors.New("no answer")
	r.advance(readAgain)
	refuse("chain down", r.agreement(300), 503, "chain_down")
	r.chain.err, r.chain.closeErr = nil, ErrNoWallet
	r.advance(readAgain)
	refuse("no wallet", r.agreement(300), 501, "no_wallet")
	r.chain.closeErr = errors.New("bounced")
	refuse("bounced", r.agreement(300), 503, "close_failed")
	r.chain.closeErr = nil

	// Not while a request runs.
	hold, began := make(chan struct{}), make(chan struct{})
	r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) { close(began); <-hold; costs("5")(w, req) }
	done := make(chan struct{})
	go func() { defer close(done); r.ask(auth, stream2, "10") }()
	<-began
	refuse("a request runs", r.agreement(310), 409, "streams_running")
	close(hold)
	<-done
	r.h.recording.Wait()
	if len(r.chain.closed) != 0 {
		t.Fatal("closed in spite of a refusal")
	}

	if status, code, _ := r.call("POST", "/v1/close", r.agreement(305), "Authorization", auth); status != 204 {
		t.Fatal(status, code)
	}
	if c := r.row(); len(r.chain.closed) != 1 || !c.Closed || c.Claimed != 305 {
		t.Errorf("%v %+v", r.chain.closed, c)
	}
	r.advance(readAgain)
	refuse("again", r.agreement(305), 409, "channel_ended")
	status, code := r.ask(auth, "00000000000000000000000000000003", "1")
	r.want("a request afterwards", 403, "unsuitable_channel", status, code)
	r.claimed()
}

func TestCloseAfterTheDeadline(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.advance(readAgain)
	r.chain.channels[r.params.Address()].CloseAt = uint32(r.now().Unix())
	status, code, _ := r.call("POST", "/v1/close", r.agreement(0), "Authorization", auth)
	r.want("ended", 409, "channel_ended", status, code)
}

// A host that is killed with a request in flight knows of it afterwards, and
// what it acknowledged is there.
func TestKilledWithRequestsRunning(t *testing.T) {
	for _, c := range []struct {
		name, settle string
		session      bool
		spent        uint64
	}{{"the enclave knows", "470", true, 470}, {"the enclave knows, the client does not come back", "470", false, 470}, {"the enclave was killed too", "", true, 350}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			auth := r.open()
			r.pay(auth, 1000)
			hold, began := make(chan struct{}), make(chan struct{})
			r.enclave.sealed = func(http.ResponseWriter, *http.Request) { close(began); <-hold }
			ended := make(chan struct{})
			go func() { defer close(ended); r.ask(auth, stream1, "200") }()
			<-began
			r.enclave.cost[stream1] = "350"
			if status, code := r.pay(auth, 1100, "Bombyx-Stream", stream1, "Bombyx-Allot", "550"); status != 204 {
				t.Fatal(status, code)
			}
			// Another process takes over the ledger while this one hangs: what
			// it did not write by now is lost.
			killed := r.h
			delete(r.enclave.cost, stream1)
			if c.settle != "" {
				r.enclave.cost[r.params.Address().Raw()] = c.settle
			}
			r.start()
			if c.session {
				r.open()
			} else if err := r.h.ClaimDue(t.Context()); err != nil {
				t.Error(err)
			}
			row := r.row()
			if row.Authorised != 1100 || !bytes.Equal(row.Voucher, r.voucher(1100)) {
				t.Errorf("an acknowledged voucher is gone: %+v", row)
			}
			if row.Spent != c.spent {
				t.Errorf("spent %d, want %d", row.Spent, c.spent)
			}
			if left, err := r.cfg.Ledger.Streams(t.Context()); err != nil || len(left) != 0 {
				t.Errorf("%v, %v", left, err)
			}
			status, code := r.pay(auth, 1200)
			r.want("a token of the old process", 401, "unknown_session", status, code)
			r.open()
			close(hold)
			<-ended
			killed.recording.Wait()
		})
	}
}

// A request that may cost more than a window is known before it runs.
func TestLargeRequestIsKept(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 10*window)
	kept := make(chan int, 1)
	r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) {
		left, _ := r.cfg.Ledger.Streams(req.Context())
		kept <- len(left)
		costs("7")(w, req)
	}
	for allot, want := range map[string]int{"1000": 0, "1001": 1} {
		if status, body := r.ask(auth, stream1, allot); status != 200 {
			t.Fatal(status, body)
		}
		if got := <-kept; got != want {
			t.Errorf("allotment %s: %d kept, want %d", allot, got, want)
		}
		r.h.recording.Wait()
	}
	if left, err := r.cfg.Ledger.Streams(t.Context()); err != nil || len(left) != 0 || r.row().Spent != 14 {
		t.Errorf("%v, %v, %+v", left, err, r.row())
	}
}

// A liteserver that is behind shows no channel yet: that does not end it.
func TestClaimFromBeforeTheChannel(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 600)
	r.spend(auth, stream1, "600")
	on := r.chain.channels[r.params.Address()]
	delete(r.chain.channels, r.params.Address())
	if err := r.h.ClaimDue(t.Context()); !errors.Is(err, ErrNoChannel) || r.row().Closed {
		t.Fatalf("%v, closed %v", err, r.row().Closed)
	}
	r.chain.channels[r.params.Address()] = on
	r.claimed(600)
	delete(r.chain.channels, r.params.Address())
	r.advance(31 * 24 * time.Hour)
	if err := r.h.ClaimDue(t.Context()); err != nil || !r.row().Closed {
		t.Fatalf("after the deadline: %v, closed %v", err, r.row().Closed)
	}
}
