package host

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// Anyone can make up a channel's terms and sign them, and only the chain can say
// that there is no such channel. What is read for these strangers is bounded;
// channels on the ledger have been funded, and do not wait behind them.
const (
	knownReads   = 16               // of channels on the ledger, at once
	strangeReads = 4                // of others
	readWithin   = 20 * time.Second // a reading ends
	readAgain    = time.Second      // for so long it serves, whatever came of it
	peerBurst    = 10               // strange readings that a peer may cause at once
	peerPause    = time.Second      // after which it may cause one more
	maxReadings  = 1 << 12          // remembered before old ones are looked for
	maxPeers     = 1 << 14          // remembered; while so many are busy, others wait
)

// reads are the host's readings of the chain for its clients.
type reads struct {
	chain   Chain
	now     func() time.Time
	known   chan struct{} // held by readings under way
	strange chan struct{}

	mu       sync.Mutex
	channels map[channel.Address]*reading
	peers    map[netip.Prefix]time.Time // when a peer may cause all of peerBurst again
	swept    time.Time                  // when peers was last looked through
}

// A reading is shared by all who ask for its channel meanwhile and shortly after.
type reading struct {
	done chan struct{} // closed when the rest is set
	on   *OnChain
	err  error
	at   time.Time // of its end
}

func newReads(chain Chain, now func() time.Time) *reads {
	return &reads{chain: chain, now: now, known: make(chan struct{}, knownReads), strange: make(chan struct{}, strangeReads),
		channels: map[channel.Address]*reading{}, peers: map[netip.Prefix]time.Time{}}
}

// A reader's channel is on the ledger, or the reader is a stranger.
type reader struct {
	stranger bool
	peer     netip.Prefix // where a stranger is; the zero prefix stands for no one peer
}

// read reads a channel. An [*apierror.Error] says that it would be one too many,
// for the stranger or for all of them.
func (r *reads) read(ctx context.Context, a channel.Address, by reader) (*OnChain, error) {
	r.mu.Lock()
	now := r.now()
	x := r.channels[a]
	if x == nil || x.old(now) {
		if fault := r.admit(by, now); fault != nil {
			r.mu.Unlock()
			return nil, fault
		}
		if len(r.channels) >= maxReadings {
			for k, x := range r.channels {
				if x.old(now) {
					delete(r.channels, k)
				}
			}
		}
		x = &reading{done: make(chan struct{})}
		r.channels[a] = x
		go r.run(a, x, by)
	}
	r.mu.Unlock()
	select {
	case <-x.done:
		return x.on, x.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// admit takes a stranger's slot. The others wait for theirs.
func (r *reads) admit(by reader, now time.Time) *apierror.Error {
	if !by.stranger {
		return nil
	}
	if by.peer.IsValid() {
		if fault := r.charge(by.peer, now); fault != nil {
			return fault
		}
	}
	select {
	case r.strange <- struct{}{}:
		return nil
	default:
		return apierror.New(503, "busy", "the host looks up as many new channels as it can", "try again in a second").After(time.Second)
	}
}

func (r *reads) charge(peer netip.Prefix, now time.Time) *apierror.Error {
	if _, ok := r.peers[peer]; !ok && len(r.peers) >= maxPeers {
		if now.Sub(r.swept).Abs() >= peerPause {
			r.swept = now
			for k, whole := range r.peers {
				if !now.Before(whole) {
					delete(r.peers, k)
				}
			}
		}
		if len(r.peers) >= maxPeers {
			return apierror.New(503, "busy", "the host looks up new channels for as many as it can", "try again in a second").After(peerPause)
		}
	}
	whole := r.peers[peer]
	if whole.Before(now) {
		whole = now
	}
	if wait := whole.Add(peerPause).Sub(now) - peerBurst*peerPause; wait > 0 {
		return apierror.New(429, "busy", "too many new channels from this address", "try again after Retry-After").After(wait)
	}
	r.peers[peer] = whole.Add(peerPause)
	return nil
}

// run is not its caller's alone: it goes on when that one goes away.
func (r *reads) run(a channel.Address, x *reading, by reader) {
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	slots := r.strange
	if !by.stranger {
		slots = r.known
		slots <- struct{}{} // soon: there is no more than one for each channel, and each ends
	}
	x.on, x.err = r.chain.Channel(ctx, a)
	<-slots
	x.at = r.now()
	close(x.done)
}

// old reports whether a reading has ended, and not just now.
func (x *reading) old(now time.Time) bool {
	select {
	case <-x.done:
		return now.Sub(x.at).Abs() >= readAgain
	default:
		return false
	}
}
