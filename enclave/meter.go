package enclave

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errNoCredit means that the client stopped paying and the wait is over.
var errNoCredit = errors.New("enclave: credit ran out")

// A meter holds one stream's credit, which only the host raises, and its cost.
// Amounts are nanogram in total since the stream began.
type meter struct {
	mu     sync.Mutex
	credit uint64
	raised chan struct{} // closed and replaced whenever credit grows

	cost   uint64 // of what has been released; the gateway's goroutine alone writes it
	window uint64 // credit that was left when it was last raised
	told   bool   // the client knows that this credit runs low
}

func newMeter(credit uint64) *meter {
	return &meter{credit: credit, window: credit, raised: make(chan struct{})}
}

// raise sets the credit unless it is higher already.
func (m *meter) raise(credit uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if credit <= m.credit {
		return
	}
	m.credit = credit
	m.window = credit - min(credit, m.cost)
	m.told = false
	close(m.raised)
	m.raised = make(chan struct{})
}

// limit returns the credit and a channel that closes when it grows.
func (m *meter) limit() (uint64, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.credit, m.raised
}

// wait returns once the credit covers cost, errNoCredit after patience.
func (m *meter) wait(ctx context.Context, cost uint64, patience time.Duration) error {
	var timeout <-chan time.Time
	for {
		credit, raised := m.limit()
		if credit >= cost {
			return nil
		}
		if timeout == nil {
			t := time.NewTimer(patience)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-raised:
		case <-timeout:
			return errNoCredit
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// charge records that cost has been released and reports whether the client
// should now be told that credit runs low: once for every raise.
func (m *meter) charge(cost uint64) (credit uint64, low bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cost = cost
	if !m.told && (m.credit-min(cost, m.credit))*2 < m.window {
		m.told, low = true, true
	}
	return m.credit, low
}

// spent is the cost of what has been released.
func (m *meter) spent() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cost
}
