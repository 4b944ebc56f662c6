package host

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// from is a session request from a peer. It returns the status, the code of a
// refusal, and Retry-After.
func (r *rig) from(peer string, change func(*session.Request), key ed25519.PrivateKey) (int, string, string) {
	req := httptest.NewRequestWithContext(r.t.Context(), "POST", "/v1/session", strings.NewReader(string(r.session(change, key))))
	req.RemoteAddr = peer
	rec := httptest.NewRecorder()
	r.h.Handler().ServeHTTP(rec, req)
	var o struct{ Error struct{ Code string } }
	json.Unmarshal(rec.Body.Bytes(), &o)
	return rec.Code, o.Error.Code, rec.Header().Get("Retry-After")
}

// salted makes up the nth channel.
func salted(n int) func(*session.Request) {
	return func(s *session.Request) { s.Terms.Salt = uint64(n) + 1 }
}

func (c *testChain) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}

// What can be refused without the chain is: the chain is asked for nobody who
// does not hold the key to terms that would suit.
func TestChecksComeBeforeTheChain(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		change func(*session.Request)
		key    ed25519.PrivateKey
	}{
		"another key":     {nil, otherKey},
		"another host":    {func(s *session.Request) { s.Host[0] ^= 1 }, clientKey},
		"another time":    {func(s *session.Request) { s.Time -= int64(time.Hour) }, clientKey},
		"another payee":   {func(s *session.Request) { s.Terms.Payee[0] ^= 1 }, clientKey},
		"a short delay":   {func(s *session.Request) { s.Terms.CloseDelay = 60 }, clientKey},
		"about to expire": {func(s *session.Request) { s.Terms.ExpiresAt = uint32(r.now().Unix()) }, clientKey},
	} {
		if status, code, _ := r.from("192.0.2.1:1", c.change, c.key); status != 403 {
			t.Errorf("%s: %d %s", name, status, code)
		}
	}
	if n := r.chain.count(); n != 0 {
		t.Errorf("the chain was read %d times for requests that nobody could have meant", n)
	}
}

// One peer makes the host read the chain for made-up channels now and then,
// whatever it sends; others go on.
func TestStrangeReadsOfOnePeer(t *testing.T) {
	r := newRig(t)
	refused := 0
	for n := range 200 {
		status, code, wait := r.from(fmt.Sprintf("192.0.2.1:%d", n+1), salted(n), clientKey)
		switch {
		case status == 404 && code == "unknown_channel" && wait == "1":
		case status == 429 && code == "busy" && wait == "1":
			refused++
		default:
			t.Fatalf("%d %s, Retry-After %s", status, code, wait)
		}
	}
	if n := r.chain.count(); n != peerBurst || refused != 200-peerBurst {
		t.Errorf("%d readings, %d refused, want %d", n, refused, peerBurst)
	}
	// Of an IPv6 network too.
	for n := range 200 {
		r.from(fmt.Sprintf("[2001:db8::%x]:1", n), salted(1000+n), clientKey)
	}
	if n := r.chain.count(); n != 2*peerBurst {
		t.Errorf("%d readings, want %d", n, 2*peerBurst)
	}
	if status, code, _ := r.from("192.0.2.2:1", nil, clientKey); status != 200 {
		t.Errorf("another peer, with a channel: %d %s", status, code)
	}
	r.advance(peerPause)
	if status, code, _ := r.from("192.0.2.1:1", salted(5000), clientKey); status != 404 {
		t.Errorf("a second later: %d %s", status, code)
	}
	if status, _, _ := r.from("192.0.2.1:1", salted(5001), clientKey); status != 429 {
		t.Errorf("and again: %d", status)
	}
	// A channel that is on the ledger is no stranger's.
	r.advance(time.Millisecond)
	if status, code, _ := r.from("192.0.2.1:1", nil, clientKey); status != 200 {
		t.Errorf("a known channel: %d %s", status, code)
	}
}

// The peers that are remembered are so many, and no more.
func TestStrangePeers(t *testing.T) {
	r := newRig(t)
	s := r.h.reads
	for n := range maxPeers + 100 {
		req := httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", n>>16, n>>8&255, n&255)
		fault := s.charge(peerOf(req), r.now())
		if (fault == nil) != (n < maxPeers) || fault != nil && (fault.Status != 503 || fault.RetryAfter != 1) {
			t.Fatalf("peer %d: %v", n, fault)
		}
	}
	r.advance(peerPause)
	if fault := s.charge(peerOf(&http.Request{RemoteAddr: "192.0.2.1:1"}), r.now()); fault != nil || len(s.peers) != 1 {
		t.Errorf("later: %v, %d peers", fault, len(s.peers))
	}
}

// Few readings for strangers run at once, and the others' do not wait for them.
func TestStrangeReadsAtOnce(t *testing.T) {
	r := newRig(t)
	r.open()
	r.advance(readAgain)
	hold := make(chan struct{})
	r.chain.mu.Lock()
	r.chain.hold = hold
	before := r.chain.reads
	r.chain.mu.Unlock()
	var wait sync.WaitGroup
	for n := range strangeReads {
		wait.Go(func() { r.from(fmt.Sprintf("192.0.2.%d:1", n), salted(n), clientKey) })
	}
	for r.chain.count() != before+strangeReads {
		time.Sleep(time.Millisecond)
	}
	status, code, after := r.from("198.51.100.1:1", salted(100), clientKey)
	if status != 503 || code != "busy" || after != "1" {
		t.Errorf("one too many: %d %s, Retry-After %s", status, code, after)
	}
	// Whoever asks for the same channel as somebody else waits with him.
	wait.Go(func() { r.from("198.51.100.1:1", salted(0), clientKey) })
	known := make(chan int)
	go func() { status, _, _ := r.from("198.51.100.1:1", nil, clientKey); known <- status }()
	for r.chain.count() != before+strangeReads+1 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	if status := <-known; status != 200 {
		t.Errorf("a known channel: %d", status)
	}
	wait.Wait()
	if n := r.chain.count(); n != before+strangeReads+1 {
		t.Errorf("%d readings", n-before)
	}
}

// A channel is read once in a second, whoever asks, and whatever came of it.
func TestReadingsAreShared(t *testing.T) {
	r := newRig(t)
	for range 5 {
		r.from("127.0.0.1:1", salted(7), clientKey)
	}
	if n := r.chain.count(); n != 1 {
		t.Errorf("a channel that is not there: %d readings", n)
	}
	for range 5 {
		r.open()
	}
	if n := r.chain.count(); n != 2 {
		t.Errorf("a channel: %d readings", n-1)
	}
	r.advance(readAgain)
	r.from("127.0.0.1:1", salted(7), clientKey)
	r.open()
	if n := r.chain.count(); n != 4 {
		t.Errorf("a second later: %d readings", n-2)
	}
	for n := range maxReadings + 10 {
		r.advance(time.Millisecond)
		r.h.reads.read(t.Context(), channel.Address{1, byte(n >> 8), byte(n)}, reader{})
	}
	if n := len(r.h.reads.channels); n > maxReadings {
		t.Errorf("%d readings are remembered", n)
	}
}
