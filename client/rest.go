package client

import (
	"slices"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
)

// note has the host rest that failed, and not one that cannot serve this request or be paid for it.
func (t *Transport) note(f *apierror.Error) {
	if f != nil && failure(f) {
		t.rest.failed(t.base, t.cfg.Now())
	}
}

// resting says whether the host is to be asked last.
func (t *Transport) resting() bool { return t.rest.resting(t.base, t.cfg.Now()) }

// completed ends the rests of an enclave that answered to the end, and of its host.
func (t *Transport) completed(enclave string) {
	t.rests.served(enclave)
	t.rest.served(t.base)
}

// broke has an enclave rest whose answer broke off, and the host, too, if no other of it is left for the model.
func (t *Transport) broke(enclave, model string) {
	if !t.failed(enclave, model) {
		t.rest.failed(t.base, t.cfg.Now())
	}
}

// failed has an enclave rest, and says whether another on the card is left for the model.
func (t *Transport) failed(enclave, model string) (left bool) {
	now := t.cfg.Now()
	t.rests.failed(enclave, now)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.card != nil && slices.ContainsFunc(t.card.Serving(model), func(e *card.Enclave) bool { return !t.rests.resting(e.ID, now) })
}

// Rests remember who failed: they are asked last for a while, longer each time that they fail again.
type rests struct {
	mu sync.Mutex
	of map[string]rest
}

type rest struct {
	fails int // in a row
	until time.Time
}

const maxRests = 1024 // are remembered: a host can make up enclaves

const firstRest, longestRest = 10 * time.Second, 10 * time.Minute // each is twice the one before

// resting says whether k is to be asked last.
func (r *rests) resting(k string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.of[k].until)
}

// failed has k rest.
func (r *rests) failed(k string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.of[k]
	if now.Before(last.until) { // many that failed at once are one failure
		return
	}
	if r.of == nil || len(r.of) >= maxRests {
		r.of = map[string]rest{}
	}
	r.of[k] = rest{last.fails + 1, now.Add(min(firstRest<<min(last.fails, 10), longestRest))}
}

// served ends k's rest.
func (r *rests) served(k string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, k)
}
