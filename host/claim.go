package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// TON is the real chain. Wallet may be nil: claims then go out as external
// messages, whose fees come out of the claim, and claims too small for that
// wait until they have grown.
type TON struct {
	Client ton.Chain
	Wallet *wallet.Wallet
	// Turn waits until no other process sends from the wallet, until done; nil
	// where none does. Of two orders signed for one state of it the second is of
	// no effect, and that shows only when it expires.
	Turn func(context.Context) (done func(), err error)
}

// send sends from the wallet when it is this process's turn, unless by then it
// is not wanted any more.
func (t *TON) send(ctx context.Context, m wallet.Message, wanted func() (bool, error)) (fee uint64, err error) {
	if t.Turn != nil {
		done, err := t.Turn(ctx)
		if err != nil {
			return 0, fmt.Errorf("host: nothing was sent: another process sends from the wallet: %w", err)
		}
		defer done()
		if ok, err := wanted(); !ok || err != nil {
			return 0, err
		}
	}
	tx, err := t.Wallet.Send(ctx, t.Client, m)
	if err != nil {
		return 0, err
	}
	fees, err := ton.FeesOf(tx)
	return uint64(fees), err
}

// Balance is what an account holds, in nanogram; one that does not exist holds
// nothing.
func (t *TON) Balance(ctx context.Context, a *address.Address) (uint64, error) {
	acc, err := t.Client.Account(ctx, a)
	if err != nil {
		return 0, err
	}
	return uint64(acc.Balance), nil
}

// Channel implements Chain.
func (t *TON) Channel(ctx context.Context, a channel.Address) (*OnChain, error) {
	on, err := channel.Load(ctx, t.Client, a)
	if errors.Is(err, channel.ErrNone) {
		return nil, ErrNoChannel
	}
	return on, err
}

// ErrTooSmall means that a claim would not pay its fees, and waits.
var ErrTooSmall = errors.New("host: claim too small for an external message")

// externalTTL bounds how long an external claim is sent again.
const externalTTL = 2 * time.Minute

// Claim implements Chain. It returns when the claim's transaction is proven. The
// fee is that transaction's, the channel's own or the wallet's: what the wallet's
// message to the channel costs there comes out of the value sent along.
func (t *TON) Claim(ctx context.Context, v *channel.SignedVoucher) (fee uint64, err error) {
	on, err := channel.Load(ctx, t.Client, v.Channel)
	if err != nil {
		return 0, err
	}
	if on.ExternalClaimable(on.Balance, v.Total) {
		msg, err := tlb.ToCell(channel.ClaimExternal(v))
		if err != nil {
			return 0, err
		}
		tx, err := t.Client.SendExternal(ctx, msg.ToBOC(), on.Time.Add(externalTTL))
		if err != nil {
			return 0, err
		}
		fees, err := ton.FeesOf(tx)
		return uint64(fees), err
	}
	if t.Wallet == nil || on.Claimable(on.Balance, v.Total) == 0 {
		return 0, ErrTooSmall
	}
	m := channel.Claim(v, channel.GasValue)
	return t.send(ctx, wallet.Message{To: v.Channel.Std(), Amount: channel.GasValue, Bounce: true, Body: m.Body}, func() (bool, error) {
		on, err := channel.Load(ctx, t.Client, v.Channel)
		return err == nil && on.Claimable(on.Balance, v.Total) > 0, err
	})
}

// CloseTogether implements Chain.
func (t *TON) CloseTogether(ctx context.Context, a *channel.SignedAgreement) error {
	on, err := channel.Load(ctx, t.Client, a.Channel)
	if err != nil {
		return err
	}
	if t.Wallet == nil || !t.Wallet.Address().Equals(on.Payee.Std()) {
		return ErrNoWallet
	}
	m := channel.CloseTogether(a, channel.GasValue)
	always := func() (bool, error) { return true, nil }
	if _, err := t.send(ctx, wallet.Message{To: a.Channel.Std(), Amount: channel.GasValue, Bounce: true, Body: m.Body}, always); errors.Is(err, ton.ErrUnconfirmed) {
		return fmt.Errorf("%w: %w", ErrMayClose, err)
	} else if err != nil {
		return err
	}
	// The order is in a block; the channel acts on it in one of the next.
	tick := time.NewTicker(closePoll)
	defer tick.Stop()
	for {
		if on, err = channel.Load(ctx, t.Client, a.Channel); err != nil {
			return fmt.Errorf("%w: %w", ErrMayClose, err)
		}
		if on.Closing() && on.Paid == a.Total && on.Head == a.Head && !on.Time.Before(time.Unix(int64(on.CloseAt), 0)) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrMayClose, ctx.Err())
		}
	}
}

const closePoll = 300 * time.Millisecond

// Run claims, and lets go of channels that are not in use, until ctx ends. It
// looks at every open channel each Claims.Every, so nothing depends on this
// process having been up. It returns
// [ledger.ErrTaken] when another process has taken over an enclave: this one
// can serve no longer.
func (h *Host) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { h.housekeep(ctx) })
	defer keeping.Wait()
	defer stop()
	tick := time.NewTicker(h.cfg.Claims.Every)
	defer tick.Stop()
	for {
		if err := h.ClaimDue(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrTaken) {
			h.cfg.Log.Error("claims", "err", err)
		}
		select {
		case <-tick.C:
		case <-h.cfg.Ledger.Taken():
			return ledger.ErrTaken
		case <-ctx.Done():
			return nil
		}
	}
}

// ClaimDue looks at every open channel once and claims what is due.
func (h *Host) ClaimDue(ctx context.Context) error {
	if err := h.cfg.Ledger.Confirm(ctx); err != nil {
		return err
	}
	rows, err := h.cfg.Ledger.OpenChannels(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, row := range rows {
		if err := h.claim(ctx, row); err != nil {
			failed = append(failed, fmt.Errorf("channel %s: %w", row.Address, err))
		}
	}
	return errors.Join(failed...)
}

func (h *Host) claim(ctx context.Context, row *ledger.Channel) error {
	address, err := channel.ParseRaw(row.Address)
	if err != nil {
		return err
	}
	if h.accounts.closing(row.Address) {
		return nil
	}
	// What was delivered is what is claimed, so first what an earlier process
	// left is booked.
	a, fault := h.use(ctx, row.Address, address)
	if fault != nil {
		return fault
	}
	on, err := h.cfg.Chain.Channel(ctx, address)
	now := h.cfg.Now()
	if errors.Is(err, ErrNoChannel) && row.Deadline.Unix() > 0 && !now.Before(row.Deadline) {
		return h.cfg.Ledger.SetChainState(ctx, row.Address, row.Claimed, true)
	}
	// Before its deadline a channel does not go away: such a chain is of
	// before it was opened.
	if err != nil {
		if row.Deadline.Unix() > 0 && row.Deadline.Sub(now) <= h.cfg.Claims.Margin && row.Spent > row.Claimed {
			h.cfg.Log.Warn("deadline is near, and the chain does not answer", "channel", row.Address, "deadline", row.Deadline.UTC(), "due", row.Spent-row.Claimed)
		}
		return err
	}
	deadline := time.Unix(int64(on.CloseAt), 0)
	if !deadline.Equal(row.Deadline) {
		if err := h.cfg.Ledger.SetDeadline(ctx, row.Address, deadline); err != nil {
			return err
		}
	}
	if on.Paid != row.Claimed {
		if err := h.cfg.Ledger.SetChainState(ctx, row.Address, on.Paid, false); err != nil {
			return err
		}
	}
	near := deadline.Sub(now) <= h.cfg.Claims.Margin
	if near && a != nil {
		if err := h.cutOff(ctx, a); err != nil {
			h.cfg.Log.Warn("deadline is near, and requests may run on", "channel", row.Address, "deadline", deadline.UTC(), "err", err)
		}
	}
	if !now.Before(deadline) {
		return h.cfg.Ledger.SetChainState(ctx, row.Address, on.Paid, true)
	}
	// A voucher runs ahead of delivery. The host claims only what has been
	// earned, except at the end: there it takes the least that covers it.
	pick, covers, err := h.cfg.Ledger.Payable(ctx, row.Address)
	if err != nil {
		return err
	}
	if (near || on.Closing()) && covers != nil {
		pick = covers
	}
	if pick == nil {
		return nil
	}
	v, err := channel.ParseVoucher(pick.Wire)
	if err != nil {
		return err
	}
	due := on.Claimable(on.Balance, v.Total)
	switch {
	case due == 0:
		return nil
	case on.Closing(), near, due >= h.cfg.Claims.Threshold, now.Sub(pick.At) >= h.cfg.Claims.Age:
	default:
		return nil
	}
	// Of a fleet the process claims that serves the channel, or the one that comes
	// first; but where there is no later chance, every one.
	if !near && !on.Closing() && a != nil {
		if fault := h.tryHold(ctx, a); fault == errHeld {
			return nil
		} else if fault != nil {
			return fault
		}
		if on, err = h.cfg.Chain.Channel(ctx, address); err != nil {
			return err
		}
		if on.Claimable(on.Balance, v.Total) == 0 {
			return nil
		}
	}
	if near {
		h.cfg.Log.Warn("deadline is near", "channel", row.Address, "deadline", deadline.UTC(), "due", due)
	}
	if _, err := h.cfg.Chain.Claim(ctx, &v); errors.Is(err, ErrTooSmall) && !near && !on.Closing() {
		return nil
	} else if err != nil {
		return err
	}
	if on, err = h.cfg.Chain.Channel(ctx, address); err != nil {
		return err
	}
	h.cfg.Log.Info("claimed", "channel", row.Address, "paid", on.Paid)
	return h.cfg.Ledger.SetChainState(ctx, row.Address, on.Paid, false)
}

// cutOff ends what still runs on a channel whose deadline is near: nothing
// would pay for what it delivers later. What it has cost is booked then.
func (h *Host) cutOff(ctx context.Context, a *account) error {
	a.mu.Lock()
	a.chain = OnChain{} // covers nothing from now on
	at := map[*upstream]bool{}
	for _, s := range a.streams {
		at[s.enclave] = true
	}
	a.mu.Unlock()
	var failed []error
	for e := range at {
		tab, err := e.end(ctx, a.name)
		if err == nil && tab.ID != "" {
			err = h.cfg.Ledger.Book(ctx, tab)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
