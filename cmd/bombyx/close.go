package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

func channelClose(h *home) *cobra.Command {
	var alone, wait, asJSON bool
	c := &cobra.Command{Use: "close [CHANNEL]", Short: "Close a channel and get the rest back", Args: cobra.MaximumNArgs(1), ValidArgsFunction: h.completeChannels,
		Long: `close asks the host to close at once, for what the receipts add up to and what, by its word,
answers that broke off have cost, as far as that was signed for. When the host
does not, or with --alone, it starts a close that nobody can stop: the host may claim for
the closing delay, then everything else comes back. Finish it with --wait, or by calling
close again after the delay. CHANNEL is its address, or the URL or key of its host.

Fees: below 0.001 GRAM when the host agrees; alone, below 0.005 GRAM to start and as much to
finish. Each message carries 0.02 GRAM for gas, and what is left of it comes back.`,
		Example: "  bombyx channel close\n  bombyx channel close EQ... --alone --wait --yes"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	jsonLines(c, &asJSON)
	c.Flags().BoolVar(&alone, "alone", false, "do not ask the host")
	c.Flags().BoolVar(&wait, "wait", false, "wait for the closing delay and finish")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return h.onChannel(cmd, args, func(p *payer, c store.Channel) error {
			p.json = asJSON
			return p.leave(c, alone, wait)
		})
	}
	return c
}

func channelForgive(h *home) *cobra.Command {
	c := &cobra.Command{Use: "forgive [CHANNEL]", Short: "Let a host have what answers that broke off cost", Args: cobra.MaximumNArgs(1), ValidArgsFunction: h.completeChannels,
		Long: `When an answer breaks off, the host may say that it cost more than what arrived. Who is right
nobody can tell, so it counts as lost, and all that is lost on a channel is never more than
one window: then requests end with window_spent. forgive takes the host's word for what was
lost so far, which puts another window at risk. Do it if you know why answers broke off;
else close the channel and use another host. It moves no money.`,
		Example: "  bombyx channel forgive\n  bombyx channel forgive EQ... --yes"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return h.onChannel(cmd, args, func(p *payer, c store.Channel) error {
			most := c.Progress.Signed - min(c.Progress.Signed, c.Progress.Settled)
			if err := h.confirm(cmd, fmt.Sprintf("Take the word of %s for what %s has paid without an answer, at most %s GRAM?", c.Host, c.Address(), ton.Nano(most))); err != nil {
				return err
			}
			cfg, err := p.reach(c)
			if err != nil {
				return err
			}
			defer clear(cfg.Payment.Key)
			lost, err := client.Forgive(cmd.Context(), cfg)
			if err != nil {
				return fault(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "forgiven: %s GRAM\n", ton.Nano(lost))
			return nil
		})
	}
	return c
}

// onChannel works on a channel that no other process pays from meanwhile.
func (h *home) onChannel(cmd *cobra.Command, args []string, do func(*payer, store.Channel) error) error {
	p, err := h.payer(cmd)
	if err != nil {
		return err
	}
	defer p.close()
	c, err := findChannel(cmd.Context(), p.store, args)
	if err != nil {
		return err
	}
	release, err := p.store.Acquire(c.Address())
	if err != nil {
		return profile.Busy(c, err)
	}
	defer release()
	return do(p, c)
}

// leave closes a channel as far as it goes now.
func (p *payer) leave(c store.Channel, alone, wait bool) error {
	ctx, a := p.cmd.Context(), c.Address()
	on, err := channel.Load(ctx, p.chain, a)
	if err == nil && paidOut(on) {
		return p.ended(a)
	}
	if errors.Is(err, channel.ErrNone) {
		acc, err := p.chain.Account(ctx, a.Std())
		if err != nil {
			return chainFault(err)
		}
		switch {
		case c.State == store.StateClosing || c.State == store.StateClosed:
			return p.ended(a)
		case acc.Status == tlb.AccountStatusFrozen:
			return cli.Errorf(cli.Refused, "send it the state init of its last state, and rent: docs/protocol.md", "%s is frozen: it ran out of rent years ago", a)
		}
		if c.State == store.StateOpening && acc.Head.Time.After(c.Created.Add(10*wallet.TTL)) { // no order from then can take effect any more
			fmt.Fprintf(p.cmd.ErrOrStderr(), "forgotten: the deposit of %s was never sent\n", a)
			return p.store.Forget(ctx, a)
		}
		return cli.Errorf(cli.Unreachable, "try again in ten minutes", "%s is not on chain: its deposit has yet to arrive, or was never sent", a)
	}
	if err != nil {
		return chainFault(err)
	}
	if !on.Closing() && !alone {
		if err := p.h.confirm(p.cmd, fmt.Sprintf("Close %s: pay the host %s GRAM, at most %s if it says that answers which broke off cost more, and get the rest back? Fees are below %s GRAM.",
			a, ton.Nano(c.Progress.Settled), ton.Nano(max(c.Progress.Signed, c.Progress.Settled)), feeTogether)); err != nil {
			return err
		}
		err := p.together(c)
		if err == nil {
			return p.ended(a)
		}
		fmt.Fprintf(p.cmd.ErrOrStderr(), "bombyx: the host does not close together: %s\n", cli.Printable(err.Error()))
	}
	if !on.Closing() {
		if err := p.h.confirm(p.cmd, fmt.Sprintf("Start to close %s alone? The host may claim for %s; fees are below %s GRAM in all.", a, time.Duration(c.Params.CloseDelay)*time.Second, feeAlone)); err != nil {
			return err
		}
		if _, err := p.send(channel.CloseStart(a, channel.GasValue), channel.GasValue); err != nil {
			return err
		}
		if err := p.until("the close to begin", func(ctx context.Context) (bool, error) {
			now, err := channel.Load(ctx, p.chain, a)
			if err == nil {
				on = now
			}
			return err == nil && on.Closing(), err
		}); err != nil {
			return err
		}
	}
	if err := p.store.SetState(ctx, a, store.StateClosing); err != nil {
		return err
	}
	at := time.Unix(int64(on.CloseAt), 0).UTC()
	if on.Time.Before(at) {
		if err := p.say(a, on, "closing: the rest comes back from %s\n", at.Format(time.RFC3339)); err != nil {
			return err
		}
		if !wait {
			fmt.Fprintln(p.cmd.ErrOrStderr(), "Finish it then: bombyx channel close")
			return nil
		}
		if err := p.waitFor(at); err != nil {
			return err
		}
	}
	if err := p.h.confirm(p.cmd, fmt.Sprintf("Fetch the rest of %s? Fees are below %s GRAM.", a, feeFinish)); err != nil {
		return err
	}
	if _, err := p.send(channel.CloseFinish(a, channel.GasValue), channel.GasValue); err != nil {
		return err
	}
	if err := p.gone(a); err != nil {
		return err
	}
	return p.ended(a)
}

// reach is what it takes to talk to a channel's host about it. Clear the key.
func (p *payer) reach(c store.Channel) (client.Config, error) {
	d, err := p.h.profile()
	if err != nil {
		return client.Config{}, err
	}
	cfg, err := d.Reach(c.Host, c.HostKey)
	if err == nil {
		cfg.Payment, err = profile.Payment(p.wallet, p.store, c)
	}
	return cfg, err
}

// together asks the host to close at once.
func (p *payer) together(c store.Channel) error {
	cfg, err := p.reach(c)
	if err != nil {
		return err
	}
	defer clear(cfg.Payment.Key)
	if err := client.CloseTogether(p.cmd.Context(), cfg); err != nil {
		return err
	}
	return p.gone(c.Address())
}

// gone waits until the contract has paid everything out.
func (p *payer) gone(a channel.Address) error {
	return p.until("the channel to end", func(ctx context.Context) (bool, error) {
		on, err := channel.Load(ctx, p.chain, a)
		return err == nil && paidOut(on), err
	})
}

// paidOut says that a channel has ended: the contract stays, so that nobody can begin it anew, but holds nothing.
func paidOut(on *channel.Account) bool {
	return on.Balance == 0 && on.Closing() && on.Time.Unix() >= int64(on.CloseAt)
}

func (p *payer) ended(a channel.Address) error {
	if err := p.store.SetState(p.cmd.Context(), a, store.StateClosed); err != nil {
		return err
	}
	return p.say(a, nil, "closed: %s has returned what was left\n", a)
}

// waitFor waits until the chain's clock has reached an instant.
func (p *payer) waitFor(at time.Time) error {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		head, err := p.chain.MasterchainHead(p.cmd.Context())
		if err == nil && !head.Time.Before(at) {
			return nil
		}
		select {
		case <-t.C:
		case <-p.cmd.Context().Done():
			return cli.Errorf(cli.Interrupted, "finish it later: bombyx channel close", "interrupted: the channel is closing")
		}
	}
}
