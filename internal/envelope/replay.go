package envelope

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

var (
	// ErrReplayed means that a request with this encapsulated key has been accepted before.
	ErrReplayed = errors.New("envelope: replayed request")
	// ErrGuardFull means that the replay guard can remember no further request; those that have expired make room.
	ErrGuardFull = errors.New("envelope: the replay guard is full; try again later")
)

// DateError says that a request's Date field is missing, malformed, or outside the window.
type DateError struct {
	// Now is the guard's clock, for the Date field of the answer that lets the client correct its own.
	Now time.Time
	// Window is how far Date may be from Now.
	Window time.Duration
}

func (e *DateError) Error() string {
	return fmt.Sprintf("envelope: the request needs one Date field within %v of the enclave's clock, %s", e.Window, e.Now.UTC().Format(http.TimeFormat))
}

// Defaults of NewReplayGuard.
const (
	DefaultReplayWindow   = 2 * time.Minute
	DefaultReplayCapacity = 1 << 20 // about 50 bytes each when in use
)

// ReplayGuard accepts each encapsulated key once. It remembers those that it accepted for as long as their Date could be
// accepted again, and when it can remember no more it refuses: it never forgets inside the window. It is safe for
// concurrent use.
//
// What it gives: no request is accepted twice by a guard, whatever the clock does. Its time is the highest that the clock
// has ever shown, so that a clock turned back (the enclave's clock belongs to the host) does not reopen the window.
//
// What it does not give: freshness. A host that stops the clock can hold a request back and deliver it, once, much later;
// stopped or racing, a clock makes the guard refuse honest requests in the end, never accept an old one again. Nor does
// the guard know what another enclave, or another run of this one, has accepted: that is for the key, which must not
// outlive the guard or be shared.
type ReplayGuard struct {
	window   int64 // seconds
	capacity int
	now      func() time.Time

	mu   sync.Mutex
	high int64 // seconds since 1970, the highest that the clock has shown
	seen map[replayID]struct{}
	due  map[int64][]replayID // by the second of their Date
}

// replayID is SHA-256 of the encapsulated key, cut to 128 bits. Who wants two requests to collide must make both.
type replayID [16]byte

// NewReplayGuard makes a guard for requests whose Date is within window of the clock now (time.Now when nil), that
// remembers up to capacity requests. Zero means the default.
func NewReplayGuard(window time.Duration, capacity int, now func() time.Time) *ReplayGuard {
	if window <= 0 {
		window = DefaultReplayWindow
	}
	if capacity <= 0 {
		capacity = DefaultReplayCapacity
	}
	if now == nil {
		now = time.Now
	}
	return &ReplayGuard{
		window: max(1, int64(window/time.Second)), capacity: capacity, now: now,
		seen: map[replayID]struct{}{}, due: map[int64][]replayID{},
	}
}

func (g *ReplayGuard) admit(enc []byte, dates []string) error {
	sum := sha256.Sum256(enc)
	id := replayID(sum[:16])
	var date time.Time
	err := errors.New("not one Date field")
	if len(dates) == 1 {
		date, err = http.ParseTime(dates[0])
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance(g.now().Unix())
	at := date.Unix()
	if err != nil || at < g.high-g.window || at > g.high+g.window {
		return &DateError{Now: time.Unix(g.high, 0), Window: time.Duration(g.window) * time.Second}
	}
	if _, ok := g.seen[id]; ok {
		return ErrReplayed
	}
	if len(g.seen) >= g.capacity {
		return ErrGuardFull
	}
	g.seen[id] = struct{}{}
	g.due[at] = append(g.due[at], id)
	return nil
}

// advance forgets what can no longer be accepted. There are at most 2*window+1 dates to look at.
func (g *ReplayGuard) advance(now int64) {
	if now <= g.high {
		return
	}
	g.high = now
	for at, ids := range g.due {
		if at < now-g.window {
			for _, id := range ids {
				delete(g.seen, id)
			}
			delete(g.due, at)
		}
	}
}
