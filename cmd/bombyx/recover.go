package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

func channelRecover(h *home) *cobra.Command {
	var o hostChoice
	var asJSON bool
	c := &cobra.Command{Use: "recover [CHANNEL...]", Short: "Find channels again when the record is lost", Args: cobra.ArbitraryArgs,
		Long: `recover needs the wallet alone: it looks through its transactions, or at the channels named,
for contracts that return their money to it, and records them. What has been promised the
host shows with your own vouchers. A channel whose host is none of those recorded, nor the
one that --host names, can be closed but not paid from, until recover is called again with
its host.`,
		Example: "  bombyx wallet import && bombyx channel recover\n  bombyx channel close EQ..."}
	o.flags(h, c)
	h.passphraseFlag(c)
	jsonLines(c, &asJSON)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := h.payer(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		p.json = asJSON
		found, err := p.search(args)
		if err != nil {
			return err
		}
		byPayee := h.payees(cmd, o)
		n := 0
		for _, on := range found {
			c := store.Channel{Network: p.chain.GlobalID(), Params: on.Params, HostKey: make(ed25519.PublicKey, ed25519.PublicKeySize), Deposit: promisable(on), State: store.StateOpen,
				Progress: client.PaymentState{Signed: on.Paid, Settled: on.Paid, Head: on.Head}}
			if p, ok := byPayee[on.Payee]; ok {
				c.Host, c.HostKey = p.url, p.key
			}
			if on.Closing() {
				c.State = store.StateClosing
			}
			err := p.store.Add(cmd.Context(), c)
			if errors.Is(err, store.ErrExists) && c.Host != "" { // perhaps found before its host was known
				err = p.store.SetHost(cmd.Context(), c.Address(), c.Host, c.HostKey)
			}
			switch {
			case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrUnknown):
				continue
			case err != nil:
				return err
			case c.Host == "":
				fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: the host of %s is not known here: to pay from it, bombyx host add it and recover again\n", c.Address())
			}
			n++
			if err := p.say(c.Address(), on, "%s holds %s GRAM\n", c.Address(), ton.Nano(on.Balance)); err != nil {
				return err
			}
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: channels recovered: %d\n", n)
		return nil
	}
	return c
}

// A payee's host.
type payeeHost struct {
	url string
	key ed25519.PublicKey
}

// payees asks the hosts whom to pay for them. Without a host the money is still found.
func (h *home) payees(cmd *cobra.Command, o hostChoice) map[channel.Address]payeeHost {
	all, err := h.hosts(cmd, o)
	by := map[channel.Address]payeeHost{}
	for _, one := range all {
		var card *client.Card
		var payee channel.Address
		key, e := one.PublicKey()
		if e == nil {
			card, e = h.fetchCard(cmd.Context(), &one, key)
		}
		if e == nil {
			payee, e = channel.ParseRaw(card.Payee)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", one.URL, e))
		} else if _, twice := by[payee]; !twice {
			by[payee] = payeeHost{one.URL, card.Key()}
		}
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: no host: %s\n", cli.Printable(err.Error()))
	}
	return by
}

// search finds channels of this wallet that still hold money: those named, or all that it has ever sent to.
func (p *payer) search(args []string) ([]*channel.Account, error) {
	ctx := p.cmd.Context()
	candidates, err := p.candidates(ctx, args)
	if err != nil {
		return nil, err
	}
	me, err := channel.AddressOf(p.wallet.Address())
	if err != nil {
		return nil, err
	}
	var found []*channel.Account
	for _, a := range candidates {
		on, err := channel.Load(ctx, p.chain, a)
		if errors.Is(err, channel.ErrNone) || err == nil && on.Client != me {
			if len(args) > 0 {
				return nil, cli.Errorf(cli.Usage, "check the address and the network", "%s is no channel of this wallet", a)
			}
			continue
		}
		if err != nil {
			return nil, chainFault(err)
		}
		if key, err := profile.ChannelKey(p.wallet, on.Salt, on.Payee); err != nil || on.ClientKey != [32]byte(key[32:]) {
			fmt.Fprintf(p.cmd.ErrOrStderr(), "bombyx: %s has a key that this wallet did not make: it can be closed, not paid from\n", a)
		}
		if !paidOut(on) {
			found = append(found, on)
		}
	}
	return found, nil
}

func (p *payer) candidates(ctx context.Context, args []string) (all []channel.Address, err error) {
	for _, arg := range args {
		std, err := address.ParseAddr(arg)
		if err != nil {
			return nil, cli.Errorf(cli.Usage, "give an address such as EQ...", "%.80q: %w", arg, err)
		}
		a, err := channel.AddressOf(std)
		if err != nil {
			return nil, cli.Errorf(cli.Usage, "give an address such as EQ...", "%w", err)
		}
		all = append(all, a)
	}
	if len(args) > 0 {
		return all, nil
	}
	acc, err := p.chain.Account(ctx, p.wallet.Address())
	if err != nil {
		return nil, chainFault(err)
	}
	// One by one: strangers can add as many as they pay for.
	seen := map[channel.Address]bool{}
	var malformed error
	err = p.chain.EachTransaction(ctx, acc, func(tx *tlb.Transaction) bool {
		if tx.IO.Out == nil {
			return true
		}
		out, err := tx.IO.Out.ToSlice()
		if err != nil {
			malformed = err
			return false
		}
		for _, m := range out {
			if m.MsgType != tlb.MsgTypeInternal {
				continue
			}
			if a, err := channel.AddressOf(m.AsInternal().DstAddr); err == nil && !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
		return true
	})
	if err = errors.Join(err, malformed); err != nil {
		return nil, chainFault(err)
	}
	return all, nil
}
