package client

import (
	"slices"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
)

// A host is the one of a Transport.
type host struct{}

// note has the host rest that failed, and not one that cannot serve this request or be paid for it.
func (t *Transport) note(f *apierror.Error) {
	if f != nil && failure(f) {
		t.rest.failed(host{}, t.cfg.Now())
	}
}

// completed ends the rests of an enclave that answered to the end, and of its host.
func (t *Transport) completed(enclave string) {
	t.rests.served(enclave)
	t.rest.served(host{})
}

// broke has an enclave rest whose answer broke off, and the host, too, if no other of it is left for the model.
func (t *Transport) broke(enclave, model string) {
	now := t.cfg.Now()
	t.rests.failed(enclave, now)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.card == nil || !t.awake(t.card.Serving(model), now) {
		t.rest.failed(host{}, now)
	}
}

// awake says whether one of several enclaves does not rest.
func (t *Transport) awake(all []*card.Enclave, now time.Time) bool {
	return slices.ContainsFunc(all, func(e *card.Enclave) bool { return !t.rests.resting(e.ID, now) })
}

// Rests remember who failed: they are asked last for a while, longer each time that they fail again.
type rests[K comparable] struct {
	mu sync.Mutex
	of map[K]rest
}

type rest struct {
	fails int // in a row
	until time.Time
}

const maxRests = 1024 // are remembered: a host can make up enclaves

const firstRest, longestRest = 10 * time.Second, 10 * time.Minute // each is twice the one before

// resting says whether k is to be asked last.
func (r *rests[K]) resting(k K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.of[k].until)
}

// failed has k rest.
func (r *rests[K]) failed(k K, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.of[k]
	if now.Before(last.until) { // many that failed at once are one failure
		return
	}
	if r.of == nil || len(r.of) >= maxRests {
		r.of = map[K]rest{}
	}
	r.of[k] = rest{last.fails + 1, now.Add(min(firstRest<<min(last.fails, 10), longestRest))}
}

// served ends k's rest.
func (r *rests[K]) served(k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, k)
}
