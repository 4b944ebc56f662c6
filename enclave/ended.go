package enclave

import (
	"encoding/hex"
	"time"

	"github.com/bombyx-network/bombyx/internal/receipt"
)

// A streamID is the host's name of a request, Bombyx-Stream. What outlives a
// request keeps no string of its header: each holds the whole header in memory.
type streamID [16]byte

func parseStreamID(s string) (id streamID, ok bool) {
	if !receipt.IsHex(s, len(id)) {
		return id, false
	}
	hex.Decode(id[:], []byte(s))
	return id, true
}

// endedStreams remembers the cost of streams that are over, for /settle and
// against reuse of their names: for ten minutes, at most maxEnded of them.
type endedStreams struct {
	cost  map[streamID]endedCost
	queue []endedStream
}

type endedCost struct {
	cost uint64
	tab  *tab
}

type endedStream struct {
	id streamID
	at int64 // seconds since 1970
}

const (
	maxEnded = 1 << 16
	keepFor  = 10 * time.Minute
)

func (s *endedStreams) add(id streamID, cost uint64, t *tab, now time.Time) {
	if s.cost == nil {
		s.cost = map[streamID]endedCost{}
	}
	n := 0
	for n < len(s.queue) && (len(s.queue)-n >= maxEnded || now.Unix()-s.queue[n].at > int64(keepFor/time.Second)) {
		delete(s.cost, s.queue[n].id)
		n++
	}
	s.queue = append(s.queue[n:], endedStream{id, now.Unix()})
	s.cost[id] = endedCost{cost, t}
}
