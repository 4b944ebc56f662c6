package host

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
)

// A lentBody is a request's body in the hands of a transport, which may read it
// and close it after RoundTrip has returned. The server must not go on to the
// connection's next request meanwhile: both would read from it.
type lentBody struct {
	src   io.Reader
	left  int64 // bytes to come, negative if unknown; the transport's
	end   bool  // seen; likewise
	count *atomic.Uint64
	once  sync.Once
	on    *arrival
	rc    *http.ResponseController
	http1 bool
	back  chan struct{} // closed by Close
}

func (b *lentBody) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.count.Add(uint64(n))
	b.left -= int64(n)
	b.end = b.end || err == io.EOF || b.left == 0
	if b.end {
		b.on.ended()
	}
	return n, err
}

func (b *lentBody) Close() error {
	b.once.Do(func() { close(b.back) })
	return nil
}

// recall waits until the transport has let go of the body, and reports whether
// the connection has a future. An HTTP/1 server with full duplex does not survive
// to look for the rest of a request itself, and one that closed the connection on
// it would take from the client an answer that it has not read yet. So unless the
// answer is cut anyway the rest is read here, as far as a request goes and in the
// time that it has.
func (b *lentBody) recall(cut bool) bool {
	grace, rest := graceForBody, b.http1 && !cut
	if rest {
		b.rc.Flush()
		grace = time.Until(b.on.until) // the transport lets go when it sees the next piece
	}
	select {
	case <-b.back:
	case <-time.After(grace):
		b.rc.SetReadDeadline(time.Unix(1, 0))
		<-b.back
	}
	if b.end || !rest {
		return true
	}
	b.rc.SetReadDeadline(b.on.until)
	io.CopyN(io.Discard, b, maxSealed)
	return b.end
}

// An arrival ends the reading of a request that takes too long to come.
type arrival struct {
	until time.Time
	clock *time.Timer
	state atomic.Int32 // 0 while it comes, 1 once that has ended, 2 if it is late
}

func newArrival(rc *http.ResponseController, within time.Duration) *arrival {
	a := &arrival{until: time.Now().Add(within)}
	a.clock = time.AfterFunc(within, func() {
		if a.state.CompareAndSwap(0, 2) {
			rc.SetReadDeadline(time.Unix(1, 0))
		}
	})
	return a
}

func (a *arrival) ended() {
	if a.state.CompareAndSwap(0, 1) {
		a.clock.Stop()
	}
}

func (a *arrival) late() bool { return a.state.Load() == 2 }

var errSlow = apierror.New(408, "slow_request", "the request did not arrive in time", "send it again, over a faster link")

const (
	takeWithin   = time.Minute            // that a client may take nothing of an answer: it would hold the engine's place for what it has paid ahead
	smallWithin  = time.Minute            // that a body may take to arrive which is no admitted sealed request
	graceForBody = 100 * time.Millisecond // for a transport to let go of the body of a request that is answered
	maxSealed    = 9 << 20                // bytes of a sealed request: 8 MiB of content, and padding
)
