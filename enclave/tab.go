package enclave

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A tab adds up what one channel's ended streams have cost. The host records
// totals, so a stream whose end it did not live to record is in the next total,
// and one that it records twice counts once.
//
// Channels are the host's word here: it is its money that a wrong one costs.
type tab struct {
	id    string // random, so that a host knows when adding up began anew
	total uint64 // nanogram
	users int    // running streams
	last  time.Time
}

func (t *tab) String() string { return fmt.Sprintf("%s %d", t.id, t.total) }

// tabs are remembered while they are in use and for ten minutes after.
type tabs map[string]*tab

const maxTabs = 1 << 16

// open returns a channel's tab, nil when there are too many in use.
func (t tabs) open(channel string, now time.Time) *tab {
	if t[channel] == nil && len(t) >= maxTabs {
		for name, old := range t {
			if old.users == 0 && now.Sub(old.last) > keepFor {
				delete(t, name)
			}
		}
		if len(t) >= maxTabs {
			return nil
		}
	}
	if t[channel] == nil {
		var id [8]byte
		rand.Read(id[:])
		t[strings.Clone(channel)] = &tab{id: hex.EncodeToString(id[:])}
	}
	t[channel].users++
	return t[channel]
}

// close ends one use of a tab.
func (t *tab) close(cost uint64, now time.Time) {
	t.users--
	t.total += cost
	t.last = now
}
