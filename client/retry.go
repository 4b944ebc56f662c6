package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
)

const (
	retries     = 4                // after the first try
	retryWithin = 30 * time.Second // all pauses together
)

// patiently asks again, no sooner than the host's Retry-After says, while the
// host is busy or another of its processes holds the channel. It is for what
// neither runs nor pays for anything however often it is asked: sessions and
// Evidence. A sealed request is not asked for again like that: it may have run, and
// the second would be paid for too. (Where its refusal names what to mend, recover
// does, and a host that lied has that out of its window.)
func (t *Transport) patiently(ctx context.Context, ask func() ([]byte, *apierror.Error)) ([]byte, *apierror.Error) {
	jitter := t.jitter
	if jitter == nil {
		jitter = rand.N[time.Duration]
	}
	paused := time.Duration(0)
	for try := 0; ; try++ {
		b, fault := ask()
		if fault == nil || try == retries || !mayRetry(fault) {
			return b, fault
		}
		// Those refused together do not come back together.
		pause := time.Duration(fault.RetryAfter) * time.Second
		pause += jitter(pause/2 + 1)
		if paused += pause; paused > retryWithin {
			return b, fault
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= pause {
			return b, fault
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return b, fault
		}
	}
}

// mayRetry says that the host refused for now, and when to come back.
func mayRetry(f *apierror.Error) bool {
	return f.RetryAfter > 0 &&
		(f.Status == http.StatusServiceUnavailable && (f.Code == "busy" || f.Code == "channel_held") || f.Status == http.StatusTooManyRequests && f.Code == "busy")
}
