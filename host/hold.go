package host

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// The processes of a fleet share a ledger, and each knows in memory what its
// requests hold of a channel's credit. So one process at a time serves a
// channel. It holds it in the ledger from before the first request until the
// costs of all are booked and it has not been used for a moment; whoever holds
// it next begins with what the ledger then says. A process that is killed leaves
// its channels held, until those that take its enclaves over have settled them:
// only the enclaves know what was delivered.

const (
	holdFor    = 3 * time.Second        // after its last use
	holdLook   = time.Second            // between looks for channels to let go
	holdWithin = 10 * time.Second       // how long a client waits while another process lets go
	holdAgain  = 250 * time.Millisecond // between tries
)

var errHeld = apierror.New(503, "channel_held", "another process of this host serves the channel", "let its requests end, and try again in a few seconds").After(holdFor)

// hold makes this process the one that serves a channel, and waits a while for
// the one that does.
func (h *Host) hold(ctx context.Context, a *account) *apierror.Error {
	fault := h.tryHold(ctx, a)
	if fault != errHeld { // as almost always: no timers then
		return fault
	}
	wait := time.NewTicker(holdAgain)
	defer wait.Stop()
	end := time.NewTimer(h.holdWithin)
	defer end.Stop()
	for fault == errHeld {
		select {
		case <-wait.C:
			fault = h.tryHold(ctx, a)
		case <-end.C:
			return fault
		case <-ctx.Done():
			return fault
		case <-h.quit:
			return fault
		}
	}
	return fault
}

// tryHold is hold without the wait.
func (h *Host) tryHold(ctx context.Context, a *account) *apierror.Error {
	a.mu.Lock()
	a.used = h.cfg.Now()
	a.mu.Unlock()
	if fault := h.sure(ctx, a); fault != errHeld {
		return fault
	}
	a.loading.Lock()
	defer a.loading.Unlock()
	a.mu.Lock()
	held, booked := a.held != 0 && !a.stale, a.booked()
	a.mu.Unlock()
	switch {
	case held: // since a moment ago
		return nil
	case !booked || time.Since(a.refused) < holdAgain:
		return errHeld
	}
	if fault := h.resumeAll(ctx, a); fault != nil {
		return fault
	}
	lease := h.cfg.Ledger.Lease() // of before: what comes after a lapse is another
	a.mu.Lock()
	a.kept = true
	a.mu.Unlock()
	// Whoever lets it go again must know how this ended.
	row, err := h.cfg.Ledger.Hold(context.WithoutCancel(ctx), a.name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(err, ledger.ErrHeld) {
		a.kept, a.refused = false, time.Now()
		return errHeld
	} else if err != nil {
		return h.ledgerFault(err)
	}
	if lease == 0 {
		lease = h.cfg.Ledger.Lease()
	}
	a.key, a.authorised, a.spent, a.closing = [32]byte(row.Key), row.Authorised, row.Spent, row.Closing
	a.held, a.stale, a.used = lease, false, h.cfg.Now()
	return nil
}

// sure says that what this process knows of a channel is all there is to know:
// before it admits a request, and before it passes on a piece of an answer. After
// a time without the ledger it asks whether it still holds what it held.
func (h *Host) sure(ctx context.Context, a *account) *apierror.Error {
	if known, fault := h.leased(a); known {
		return fault
	}
	a.loading.Lock()
	defer a.loading.Unlock()
	if known, fault := h.leased(a); known { // by now
		return fault
	}
	err := h.cfg.Ledger.Holds(ctx, a.name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(err, ledger.ErrHeld) {
		a.held, a.kept = 0, false
		return errHeld
	} else if err != nil {
		return h.ledgerFault(err)
	}
	a.held = h.cfg.Ledger.Lease()
	return nil
}

// leased is sure as far as memory tells.
func (h *Host) leased(a *account) (known bool, fault *apierror.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.held {
	case 0:
		return true, errHeld
	case h.cfg.Ledger.Lease():
		return true, nil
	}
	return false, nil
}

// letGo releases the channels that have not been used since a time, and of which
// everything is booked.
func (h *Host) letGo(ctx context.Context, since time.Time) {
	h.accounts.mu.Lock()
	var list []*account
	for _, a := range h.accounts.open {
		list = append(list, a)
	}
	h.accounts.mu.Unlock()
	var names []string
	var going []*account
	for _, a := range list {
		if !a.loading.TryLock() {
			continue
		}
		a.mu.Lock()
		release := a.kept && a.booked() && !a.used.After(since)
		if release {
			a.held = 0
		}
		a.mu.Unlock()
		if !release {
			a.loading.Unlock()
			continue
		}
		names, going = append(names, a.name), append(going, a)
	}
	if going == nil {
		return
	}
	err := h.cfg.Ledger.Release(ctx, names...)
	if err != nil && !errors.Is(err, ledger.ErrTaken) {
		h.cfg.Log.Warn("channels are not released yet", "err", err)
	}
	for _, a := range going {
		a.mu.Lock()
		a.kept = err != nil
		a.mu.Unlock()
		a.loading.Unlock()
	}
}

// housekeep settles what an earlier process left and lets go of channels that
// are not in use, until ctx ends.
func (h *Host) housekeep(ctx context.Context) {
	tick := time.NewTicker(holdLook)
	defer tick.Stop()
	for inherited := false; ; {
		h.drain()
		if !inherited {
			inherited = h.inherit(ctx)
		}
		h.letGo(ctx, h.cfg.Now().Add(-h.holdFor))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// drain has the enclaves on the list take no new requests, and all others some again.
func (h *Host) drain() {
	if h.cfg.Drain == nil {
		return
	}
	list := h.cfg.Drain()
	for id, e := range h.enclaves {
		e.drained.Store(slices.Contains(list, id))
	}
}

// inherit settles what was taken over with the enclaves.
func (h *Host) inherit(ctx context.Context) bool {
	left, err := h.cfg.Ledger.Unsettled(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.ledgerFault(err)
		}
		return false
	}
	for _, row := range left {
		address, err := channel.ParseRaw(row.Address)
		if err != nil {
			h.cfg.Log.Error("ledger failed", "err", err)
			continue
		}
		h.use(ctx, row.Address, address) // what is not settled now is when claims are looked for
	}
	return true
}

// use returns a channel's account without holding it. The first time, what an
// earlier process left running is booked, at the enclaves that answer. Nil means
// that there are too many accounts.
func (h *Host) use(ctx context.Context, name string, address channel.Address) (*account, *apierror.Error) {
	a := h.accounts.get(name, address, h.cfg.Now())
	if a == nil {
		return nil, nil
	}
	a.loading.Lock()
	defer a.loading.Unlock()
	return a, h.resumeAll(ctx, a)
}

// resumeAll is resume at the enclaves that answer.
func (h *Host) resumeAll(ctx context.Context, a *account) *apierror.Error {
	for _, e := range h.cfg.Enclaves {
		if fault := h.resume(ctx, a, h.enclaves[e.ID]); fault == nil {
			continue
		} else if fault.Code == "ledger_down" {
			return fault
		}
		h.cfg.Log.Warn("what an earlier process left is not settled yet", "channel", a.name, "enclave", e.ID)
	}
	return nil
}

// resume books what an earlier process left at an enclave. It must come before
// the first request of the channel there. An enclave that has not answered for
// as long as it would remember has nothing left to say. The caller holds
// a.loading.
func (h *Host) resume(ctx context.Context, a *account, e *upstream) *apierror.Error {
	a.mu.Lock()
	resumed := a.resumed[e.ID]
	a.mu.Unlock()
	if resumed {
		return nil
	}
	tab, err := e.end(ctx, a.name)
	if err != nil && h.cfg.Now().Sub(h.began) > settleWithin {
		h.cfg.Log.Warn("cost unknown, charging what the enclave said last", "channel", a.name, "enclave", e.ID, "err", err)
		tab, err = ledger.Tab{Channel: a.name, Enclave: e.ID}, nil
	}
	if err != nil {
		return h.upstreamFault(e, err)
	}
	due, err := h.cfg.Ledger.Resume(ctx, tab)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.stale = true // it may be booked all the same
		return h.ledgerFault(err)
	}
	if due > 0 {
		h.cfg.Log.Info("settled what a killed process left", "channel", a.name, "enclave", e.ID, "cost", due)
	}
	a.resumed[e.ID] = true
	a.spent += due // Hold says it anew
	return nil
}
