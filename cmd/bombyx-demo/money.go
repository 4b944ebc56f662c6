package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// books are the three accounts at one moment, in nanogram. Fees are added up
// from the transactions themselves, not inferred from the balances.
type books struct {
	Client  uint64 `json:"client_nanogram"`
	Host    uint64 `json:"host_nanogram"`
	Channel uint64 `json:"channel_nanogram"`
	Fees    uint64 `json:"fees_nanogram"`
}

func (b *books) sum() uint64 { return b.Client + b.Host + b.Channel + b.Fees }

// audit reads the accounts and every transaction of theirs.
func (d *demo) audit(ctx context.Context) (*books, error) {
	p := &d.parties
	b := new(books)
	for _, x := range []struct {
		to *uint64
		a  *address.Address
	}{{&b.Client, p.client.Address()}, {&b.Host, p.host.Address()}, {&b.Channel, p.channel.Address().Std()}} {
		acc, err := p.chain.Account(ctx, x.a)
		if err != nil {
			return nil, unexpected("chain", err)
		}
		*x.to = uint64(acc.Balance)
		txs, err := p.chain.Transactions(ctx, x.a, 0)
		if err != nil {
			return nil, unexpected("chain", err)
		}
		for _, tx := range txs {
			fees, err := ton.FeesOf(tx)
			if err != nil {
				return nil, err
			}
			b.Fees += uint64(fees)
		}
	}
	return b, nil
}

// claim waits until the host has turned what it has earned into money.
func (d *demo) claim(ctx context.Context) error {
	d.out.title("The host claims on TON")
	earned := uint64(0)
	for _, v := range d.summary.Vouchers {
		if v <= d.summary.Cost {
			earned = max(earned, v)
		}
	}
	if earned == 0 {
		d.out.pass("nothing yet: the answer cost less than the first voucher is over, and the host claims what it has earned")
		return nil
	}
	if _, err := d.awaitClaim(ctx, earned, earned); err != nil {
		return err
	}
	d.out.pass("paid %s GRAM to the host: the highest voucher that the answer has earned", ton.Nano(earned))
	return nil
}

// awaitClaim waits until the channel has paid no less than least, and refuses
// more than most.
func (d *demo) awaitClaim(ctx context.Context, least, most uint64) (paid uint64, err error) {
	p := &d.parties
	if err := until(ctx, "the host's claim", func() (bool, error) {
		on, err := channel.Load(ctx, p.chain, p.channel.Address())
		if err == nil {
			paid = on.Paid
		}
		return err == nil && paid >= least, err
	}); err != nil {
		return 0, err
	}
	if paid > most {
		return 0, unexpected("claim", fmt.Errorf("the channel paid %d nanogram, and at most %d were promised", paid, most))
	}
	return paid, nil
}

// close lets the client leave alone: it starts, the host may claim once more,
// the delay passes, and everything else comes back.
func (d *demo) close(ctx context.Context) error {
	p := &d.parties
	d.out.title("The client leaves, alone")
	a := p.channel.Address()
	send := func(m *tlb.InternalMessage) error {
		_, err := p.client.Send(ctx, p.chain, wallet.Message{To: a.Std(), Amount: channel.GasValue, Bounce: true, Body: m.Body})
		return err
	}
	if err := send(channel.CloseStart(a, channel.GasValue)); err != nil {
		return unexpected("start close", err)
	}
	if err := until(ctx, "the close to begin", func() (bool, error) {
		on, err := channel.Load(ctx, p.chain, a)
		return err == nil && on.Closing(), err
	}); err != nil {
		return err
	}
	d.out.pass("close begun; the host has %d s for a last claim", closeDelay)
	paid, err := d.awaitClaim(ctx, d.summary.Cost, slices.Max(d.summary.Vouchers))
	if err != nil {
		return err
	}
	d.out.pass("paid %s GRAM to the host in all: the lowest voucher that covers what it delivered", ton.Nano(paid))
	d.out.line("    %s by the receipt; the answers that the attacks broke were delivered too", ton.Nano(d.summary.Cost))
	if err := d.devnet(ctx, "/advance", map[string]any{"seconds": closeDelay + 60}); err != nil {
		return err
	}
	d.out.pass("%d s pass on the local chain", closeDelay+60)
	if err := send(channel.CloseFinish(a, channel.GasValue)); err != nil {
		return unexpected("finish close", err)
	}
	var end *books
	if err := until(ctx, "the rest to come back", func() (ok bool, err error) {
		end, err = d.audit(ctx)
		return err == nil && end.Channel == 0 && end.sum() == p.opened.sum(), err
	}); err != nil {
		return fmt.Errorf("%w; books before %+v, after %+v", err, p.opened, end)
	}
	d.out.pass("closed; the rest came back")
	d.out.line("")
	d.out.row("in GRAM", "before", "after", "difference")
	for _, r := range []struct {
		name          string
		before, after uint64
	}{{"client's wallet", p.opened.Client, end.Client}, {"host's wallet", p.opened.Host, end.Host},
		{"channel", p.opened.Channel, end.Channel}, {"fees, from the transactions", p.opened.Fees, end.Fees}, {"sum", p.opened.sum(), end.sum()}} {
		d.out.row(r.name, ton.Nano(r.before).String(), ton.Nano(r.after).String(), difference(r.before, r.after))
	}
	d.out.line("")
	d.out.pass("every nanogram is accounted for")
	d.summary.Money = end
	return nil
}

func difference(a, b uint64) string {
	switch {
	case a > b:
		return "-" + ton.Nano(a-b).String()
	case a < b:
		return "+" + ton.Nano(b-a).String()
	}
	return "0"
}
