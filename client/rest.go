package client

import (
	"sync"
	"time"
)

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
