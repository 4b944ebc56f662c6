package host

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/bombyx-network/bombyx/internal/pgtest"
)

// A fleet is two processes on one ledger and one chain, each with an enclave of
// its own.
type fleet [2]*rig

// onStores runs a test on SQLite and, where BOMBYX_TEST_POSTGRES names a scratch
// database, on PostgreSQL.
func onStores(t *testing.T, f func(t *testing.T, fleet fleet)) {
	start := func(t *testing.T, source string) fleet {
		a := newRig(t)
		if source != "" {
			a.path = source
			a.start()
		}
		b := &rig{t: t, cfg: a.cfg, chain: a.chain, params: a.params, clock: a.clock, path: a.path,
			enclave: &testEnclave{manifest: a.enclave.manifest, prices: a.enclave.prices, sealed: costs("0"), cost: map[string]string{}, tab: newTab()}}
		up := httptest.NewServer(b.enclave)
		t.Cleanup(up.Close)
		b.upURL = up.Listener.Addr().String()
		b.cfg.Now = b.now
		b.cfg.Enclaves = []Enclave{{ID: "e1", Transport: &http.Transport{}, Authority: b.upURL}}
		b.start()
		return fleet{a, b}
	}
	t.Run("sqlite", func(t *testing.T) { f(t, start(t, "")) })
	t.Run("postgres", func(t *testing.T) { f(t, start(t, pgtest.Scratch(t))) })
}

func (r *rig) askAt(auth, stream string, allot uint64) (int, string) {
	r.t.Helper()
	status, code, resp := r.call("POST", "/v1/enclaves/"+r.cfg.Enclaves[0].ID+"/sealed", []byte("sealed"), "Authorization", auth,
		"Bombyx-Stream", stream, "Bombyx-Allot", strconv.FormatUint(allot, 10), "Content-Type", requestType)
	if code == "channel_held" && resp.Header.Get("Retry-After") == "" {
		r.t.Error("no Retry-After")
	}
	return status, code
}

func (r *rig) letGo() { r.h.letGo(context.Background(), r.now()) }

// settled waits until everything of the channel is booked.
func (r *rig) settled() {
	r.t.Helper()
	waitFor(r.t, func() bool {
		a := r.account()
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.booked()
	})
}

func newStream() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}

// A client with sessions at two processes spends what its voucher authorises
// once, whatever it asks where, and however often it moves.
func TestOneChannelTwoProcesses(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		var mu sync.Mutex
		var signed, ended, running, served uint64
		for _, r := range fleet {
			r.h.holdWithin = holdAgain
			r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) {
				io.Copy(io.Discard, req.Body)
				credit, _ := strconv.ParseUint(req.Header.Get("Bombyx-Credit"), 10, 63)
				mu.Lock()
				running += credit
				if ended+running > signed {
					t.Errorf("%d may be released, %d are authorised", ended+running, signed)
				}
				mu.Unlock()
				cost := credit - credit/3
				mu.Lock()
				ended, running, served = ended+cost, running-credit, served+1
				mu.Unlock()
				costs(strconv.FormatUint(cost, 10))(w, req)
			}
		}
		fleet[0].letGo()
		var auth [2]string
		for n, r := range fleet {
			auth[n] = r.open()
			r.letGo()
			r.advance(time.Second) // sessions are opened one after the other
			fleet[1-n].advance(2 * time.Second)
		}
		for round := range 8 {
			mu.Lock()
			signed += 1000
			mu.Unlock()
			if status, code := fleet[round%2].pay(auth[round%2], signed); status != 204 {
				t.Fatal(status, code)
			}
			free := signed - ended
			got := [2]uint64{served}
			var wg sync.WaitGroup
			for n, r := range fleet {
				for _, allot := range []uint64{free, free - 1, free/2 + 1, free} { // one of them alone is covered
					wg.Go(func() {
						switch status, code := r.askAt(auth[n], newStream(), allot); {
						case status == 200, status == 402 && code == "insufficient_credit", status == 503 && code == "channel_held":
						default:
							t.Error(status, code)
						}
					})
				}
			}
			wg.Wait()
			if got[1] = served; got[1] == got[0] {
				t.Error("nobody was served")
			}
			for _, r := range fleet {
				r.settled()
				r.letGo()
			}
			if row := fleet[0].row(); row.Spent != ended {
				t.Errorf("the ledger has %d spent, %d were released", row.Spent, ended)
			}
		}
	})
}

// A client that moves is served as soon as nothing of it is left where it was.
func TestMove(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		from, to := fleet[0], fleet[1]
		to.h.holdWithin = holdAgain
		auth := from.open()
		from.pay(auth, 1000)
		hold, began := make(chan struct{}), make(chan struct{})
		from.enclave.sealed = func(w http.ResponseWriter, req *http.Request) { close(began); <-hold; costs("300")(w, req) }
		ended := make(chan struct{})
		go func() { defer close(ended); from.askAt(auth, stream1, 400) }()
		<-began
		to.advance(time.Second)
		refused := func(why string) {
			t.Helper()
			to.advance(time.Millisecond)
			status, code, resp := to.call("POST", "/v1/session", to.session(nil, clientKey))
			to.want(why, 503, "channel_held", status, code)
			if resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		refused("a request runs")
		from.letGo()
		refused("a request runs, still")
		close(hold)
		<-ended
		from.settled()
		refused("it has just ended")
		go func() { time.Sleep(holdAgain); from.letGo() }()
		to.h.holdWithin = time.Minute
		began2 := time.Now()
		moved := to.open() // waits for it
		if time.Since(began2) < holdAgain {
			t.Error("nobody waited")
		}
		if b := to.account().balances(); b != (balances{Authorised: 1000, Spent: 300}) {
			t.Errorf("%+v", b)
		}
		// What it left there is of no use there, but to come back with.
		from.h.holdWithin = holdAgain
		status, code := from.askAt(auth, stream2, 1)
		from.want("the old session", 503, "channel_held", status, code)
		status, code, _ = from.call("POST", "/v1/close", from.agreement(300), "Authorization", auth)
		from.want("a close where it is not", 503, "channel_held", status, code)
		if status, code := from.pay(auth, 1100); status != 204 {
			t.Error("a voucher counts wherever it comes: ", status, code)
		}
		status, code = to.askAt(moved, stream1, 701)
		to.want("more than is left", 402, "insufficient_credit", status, code)
		to.enclave.sealed = costs("700")
		if status, code := to.askAt(moved, stream1, 700); status != 200 {
			t.Error(status, code)
		}
		to.settled()
		to.letGo()
		if status, code := from.askAt(auth, stream2, 101); status != 402 {
			t.Error(status, code)
		}
		from.enclave.sealed = costs("100")
		if status, code := from.askAt(auth, stream2, 100); status != 200 {
			t.Error(status, code)
		}
	})
}

// Claims are made by the process that serves the channel, or by the first that
// comes; near a deadline, by any.
func TestFleetClaims(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		a, b := fleet[0], fleet[1]
		auth := a.open()
		a.pay(auth, 200)
		a.enclave.sealed = costs("200")
		if status, code := a.askAt(auth, stream1, 200); status != 200 {
			t.Fatal(status, code)
		}
		a.settled()
		b.claimed() // a serves the channel
		a.claimed(200)
		b.claimed(200) // once
		a.pay(auth, 400)
		if status, code := a.askAt(auth, stream2, 200); status != 200 {
			t.Fatal(status, code)
		}
		a.settled()
		b.claimed(200)
		a.chain.channels[a.params.Address()].CloseAt = uint32(a.now().Add(time.Hour).Unix())
		b.claimed(200, 400) // a may be anywhere
		a.claimed(200, 400)
	})
}

// A process that is killed leaves its channels held, until the next one of its
// enclaves has settled them.
func TestKilledInAFleet(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		a, b := fleet[0], fleet[1]
		auth := a.open()
		a.pay(auth, 1000)
		hold, began := make(chan struct{}), make(chan struct{})
		a.enclave.sealed = func(http.ResponseWriter, *http.Request) { close(began); <-hold }
		ended := make(chan struct{})
		go func() { defer close(ended); a.askAt(auth, stream1, 600) }()
		<-began
		b.h.holdWithin = holdAgain
		b.advance(time.Second)
		refused := func() {
			t.Helper()
			b.advance(time.Millisecond)
			status, code, _ := b.call("POST", "/v1/session", b.session(nil, clientKey))
			b.want("another process", 503, "channel_held", status, code)
		}
		refused()
		killed := a.h // it hangs: what it did not write by now is lost
		a.start()
		refused()
		a.letGo() // it has not heard of the channel yet
		refused()
		a.enclave.mu.Lock()
		a.enclave.cost[a.params.Address().Raw()] = "470"
		a.enclave.mu.Unlock()
		if !a.h.inherit(t.Context()) {
			t.Fatal("nothing is settled")
		}
		auth = b.open()
		if bal := b.account().balances(); bal != (balances{Authorised: 1000, Spent: 470}) {
			t.Errorf("%+v", bal)
		}
		status, code := b.askAt(auth, stream2, 531)
		b.want("more than is left", 402, "insufficient_credit", status, code)
		close(hold)
		<-ended
		killed.recording.Wait()
		// One that ends in good order lets go by itself.
		b.h.Close()
		a.advance(time.Minute)
		a.h.holdWithin = holdAgain
		a.open()
	})
}

// The enclaves of a process that is killed go to two others. Nobody serves a
// channel before both have asked for what it had running there.
func TestEnclavesSplit(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		a, b := fleet[0], fleet[1]
		both := []Enclave{a.cfg.Enclaves[0], b.cfg.Enclaves[0]}
		a.cfg.Enclaves = both
		a.start()
		auth := a.open()
		a.pay(auth, 1000)
		hold := make(chan struct{})
		var began, ended sync.WaitGroup
		began.Add(2)
		for n, r := range fleet {
			r.enclave.sealed = func(http.ResponseWriter, *http.Request) { began.Done(); <-hold }
			ended.Go(func() {
				a.call("POST", "/v1/enclaves/"+both[n].ID+"/sealed", []byte("sealed"), "Authorization", auth,
					"Bombyx-Stream", newStream(), "Bombyx-Allot", "500", "Content-Type", requestType)
			})
		}
		began.Wait()
		killed := a.h
		for n, r := range fleet {
			r.enclave.mu.Lock()
			r.enclave.cost[a.params.Address().Raw()] = []string{"300", "400"}[n]
			r.enclave.mu.Unlock()
			r.cfg.Enclaves = both[n : n+1]
			r.start()
			r.h.holdWithin = holdAgain
		}
		refused := func(why string, r *rig) {
			t.Helper()
			r.advance(time.Second)
			status, code, _ := r.call("POST", "/v1/session", r.session(nil, clientKey))
			r.want(why, 503, "channel_held", status, code)
		}
		b.advance(time.Minute) // sessions are opened one after the other
		refused("the other has not asked", b)
		if !b.h.inherit(t.Context()) {
			t.Fatal("nothing is settled")
		}
		refused("the other has still not asked", b)
		if !a.h.inherit(t.Context()) {
			t.Fatal("nothing is settled")
		}
		b.advance(time.Second)
		auth = b.open()
		if bal := b.account().balances(); bal != (balances{Authorised: 1000, Spent: 700}) {
			t.Errorf("%+v", bal)
		}
		status, code := b.askAt(auth, newStream(), 301)
		b.want("more than is left", 402, "insufficient_credit", status, code)
		close(hold)
		ended.Wait()
		killed.recording.Wait()
	})
}

// What it cannot settle yet is not others' either, unless its enclave has been
// silent for so long that it would have forgotten.
func TestUnsettled(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	r.h.enclaves["e0"].Authority = "127.0.0.1:1"
	r.cfg.Enclaves[0].Authority = "127.0.0.1:1"
	r.start()
	unsettled := func() int {
		t.Helper()
		list, err := r.cfg.Ledger.Unsettled(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	r.h.inherit(t.Context())
	if unsettled() != 1 {
		t.Error("settled, though its enclave does not answer")
	}
	r.advance(settleWithin + time.Second)
	r.h.ClaimDue(t.Context())
	if unsettled() != 0 {
		t.Error("it is never settled")
	}
}

// Without a word from the ledger for a minute a process gives nothing more: it
// cannot know that it still serves alone.
func TestSilentLedger(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		a, b := fleet[0], fleet[1]
		auth := a.open()
		a.pay(auth, 1000)
		a.enclave.cost[stream1], a.enclave.cost[stream2] = "300", "1000" // its tab's total, too
		// answer asks for one of two pieces, between which something happens.
		answer := func(stream string, allot uint64, meanwhile func()) string {
			t.Helper()
			more, got := make(chan struct{}), make(chan string, 1)
			a.enclave.mu.Lock()
			a.enclave.sealed = func(w http.ResponseWriter, req *http.Request) {
				io.Copy(io.Discard, req.Body)
				for range more {
					io.WriteString(w, "piece ")
					w.(http.Flusher).Flush()
				}
				costs(strconv.FormatUint(allot, 10))(w, req)
			}
			a.enclave.mu.Unlock()
			go func() {
				_, body := a.askAt(auth, stream, allot)
				got <- body
			}()
			for n := range 2 {
				if n == 1 {
					meanwhile()
				}
				select {
				case more <- struct{}{}:
				case body := <-got:
					t.Fatal(body)
				}
			}
			close(more)
			defer a.settled()
			return <-got
		}
		if body := answer(stream1, 300, func() { a.advance(2 * time.Minute) }); body != "piece piece sealed answer" { // it asks, and goes on
			t.Error(body)
		}
		if body := answer(stream2, 700, func() { // it was taken for gone
			if _, err := a.books(t).Exec(`UPDATE owners SET alive = alive - 1000`); err != nil {
				t.Fatal(err)
			}
			b.advance(time.Second)
			b.open()
			a.advance(2 * time.Minute)
		}); body != "cut" {
			t.Errorf("%q was passed on", body)
		}
		a.settled()
		a.h.holdWithin = holdAgain
		status, code := a.askAt(auth, newStream(), 1)
		a.want("a request afterwards", 503, "channel_held", status, code)
		b.letGo()
		a.letGo()
		status, code = a.askAt(auth, newStream(), 1)
		a.want("a request once it is back", 402, "insufficient_credit", status, code) // all of it was spent
	})
}

// books opens the ledger as a stranger would.
func (r *rig) books(t *testing.T) *sql.DB {
	t.Helper()
	driver, source := "sqlite", "file:"+r.path+"?_pragma=busy_timeout(10000)"
	if strings.Contains(r.path, "://") {
		driver, source = "pgx", r.path
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// With Run, a client moves within seconds, and nobody has to do anything.
func TestMoveByItself(t *testing.T) {
	onStores(t, func(t *testing.T, fleet fleet) {
		for _, r := range fleet {
			r.cfg.Now = time.Now
			r.start()
			r.h.holdFor = holdAgain
			r.clock = time.Now()
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.h.Run(ctx) }()
			t.Cleanup(func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		for i := range 3 {
			r := fleet[i%2]
			r.advance(time.Since(began))
			auth := r.open()
			if status, code := r.pay(auth, 100*uint64(i+1)); status != 204 {
				t.Fatal(status, code)
			}
			r.enclave.sealed = costs("100")
			if status, code := r.askAt(auth, newStream(), 100); status != 200 {
				t.Fatal(status, code)
			}
		}
		if took := time.Since(began); took > 2*(holdWithin+time.Second) {
			t.Errorf("it took %s to move twice", took)
		}
	})
}
