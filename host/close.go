package host

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

const (
	// closeWithin bounds a close by agreement.
	closeWithin = 90 * time.Second
	// closeMayTake is how long one that was sent may still take effect, with
	// room for clocks that differ: the wallet's order lives a minute, and the
	// channel acts on it a few blocks later.
	closeMayTake = 5 * time.Minute
)

func (h *Host) serveClose(w http.ResponseWriter, r *http.Request) {
	a, fault := h.account(r)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	body, fault := readBody(r, channel.VoucherSize)
	if fault == nil {
		// A client that goes away does not leave it half done.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), closeWithin)
		defer cancel()
		fault = h.closeTogether(ctx, a, body)
	}
	if fault != nil {
		h.refuse(w, a, fault)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// closeTogether closes a channel as its client has signed, if that pays for
// everything delivered.
func (h *Host) closeTogether(ctx context.Context, a *account, wire []byte) *apierror.Error {
	g, err := channel.ParseAgreement(wire)
	if err != nil {
		return apierror.New(400, "malformed_agreement", err.Error(), "see docs/protocol.md")
	}
	if g.GlobalID != h.cfg.Network || g.Channel != a.address {
		return apierror.New(403, "wrong_agreement", "the agreement is for another channel or network", "sign one for this channel")
	}
	if err := g.Verify(a.key); err != nil {
		return apierror.New(403, "bad_signature", "the agreement is not signed by the channel's key", "sign it again")
	}
	on, err := h.reads.read(ctx, a.address, reader{})
	if err != nil {
		h.cfg.Log.Error("close: chain does not answer", "err", err)
		return apierror.New(503, "chain_down", "the host cannot read the chain", "try again, or close alone")
	}
	switch {
	case !h.cfg.Now().Before(time.Unix(int64(on.CloseAt), 0)):
		return apierror.New(409, "channel_ended", "the channel's deadline has passed", "finish the close alone")
	case g.Total < on.Paid || g.Total-on.Paid > on.Balance:
		return apierror.New(409, "wrong_agreement", fmt.Sprintf("the channel has paid %d nanogram and holds %d, and the agreement is over %d", on.Paid, on.Balance, g.Total),
			"sign what the receipts add up to, or close alone")
	}
	if fault := h.hold(ctx, a); fault != nil {
		return fault
	}
	if fault := a.beginClose(g.Total, h.cfg.Now()); fault != nil {
		return fault
	}
	// On disk before it is sent: a host that is killed now must not serve on a
	// channel that the chain is about to close.
	until := h.cfg.Now().Add(closeMayTake)
	if err := h.cfg.Ledger.SetClosing(ctx, a.name, until); err != nil {
		a.endClose(false, time.Time{})
		return h.ledgerFault(err)
	}
	if err := h.cfg.Chain.CloseTogether(ctx, &g); err != nil {
		if errors.Is(err, ErrMayClose) {
			a.endClose(false, until)
		} else {
			a.endClose(false, time.Time{})
			if err := h.cfg.Ledger.SetClosing(context.WithoutCancel(ctx), a.name, time.Time{}); err != nil {
				h.ledgerFault(err) // closed for others until then
			}
		}
		if errors.Is(err, ErrNoWallet) {
			return apierror.New(501, "no_wallet", "this host does not hold its payee's wallet", "close alone")
		}
		h.cfg.Log.Error("close failed", "channel", a.name, "err", err)
		return apierror.New(503, "close_failed", "the channel did not close", "look at the chain, then try again or close alone")
	}
	a.endClose(true, time.Time{})
	h.cfg.Log.Info("closed by agreement", "channel", a.name, "paid", g.Total)
	if err := h.cfg.Ledger.SetChainState(context.WithoutCancel(ctx), a.name, g.Total, true); err != nil {
		h.ledgerFault(err) // the chain has the last word: the next look at it mends the books
	}
	return nil
}

// beginClose stops admissions, unless the account is still in use or the
// agreement does not pay for it.
func (a *account) beginClose(total uint64, now time.Time) *apierror.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed || now.Before(a.closing):
		return apierror.New(409, "closing", "the channel is being closed already", "wait for the chain")
	case len(a.streams) > 0:
		return apierror.New(409, "streams_running", fmt.Sprintf("%d requests are running", len(a.streams)), "let them end first")
	case a.held == 0 || a.stale || a.abandoned:
		return errHeld
	case total < a.spent:
		return apierror.New(402, "underpaid", fmt.Sprintf("the agreement is over %d nanogram, and %d were spent", total, a.spent), "sign for all of it, or close alone")
	}
	a.closed = true
	return nil
}

func (a *account) endClose(done bool, mayUntil time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closing = mayUntil
	if a.closed = done; done {
		a.chain = OnChain{} // covers nothing from now on
	}
}

// closing reports whether a channel is being closed by agreement, or has been.
func (s *accounts) closing(name string) bool {
	s.mu.Lock()
	a := s.open[name]
	s.mu.Unlock()
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}
