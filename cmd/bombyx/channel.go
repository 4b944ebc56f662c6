package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

func channelCommand(h *home) *cobra.Command {
	c := &cobra.Command{Use: "channel", Short: "Deposit money that pays one host, and get the rest back",
		Long: `A channel is a small contract on TON that can pay one host and returns everything else to
you. Answers are paid for with vouchers off chain, one window ahead of their delivery, and
that window is all that the host can take without delivering. You can close it
whenever you like: at once when the host agrees, alone after the closing delay when it does
not. The contract leaves nobody else a say.`,
		Example: "  bombyx channel open 2\n  bombyx channel list\n  bombyx channel close --wait"}
	c.AddCommand(channelOpen(h), channelTopUp(h), channelList(h), channelShow(h), channelClose(h), channelForgive(h), channelRecover(h))
	return c
}

// What moving money costs the user at mainnet's prices at most, wallet and contract together; money.txt holds them to it. Rent,
// about 0.006 GRAM a year, comes out of the deposit.
const (
	feeOpen     = 12 * ton.Gram / 1000 // 0.0112 when it is the wallet's first order, else 0.0087
	feeTopUp    = 4 * ton.Gram / 1000
	feeStart    = 5 * ton.Gram / 1000
	feeFinish   = 5 * ton.Gram / 1000
	feeAlone    = feeStart + feeFinish
	feeTogether = 1 * ton.Gram / 1000

	leastTopUp = 10 * ton.Gram / 1000 // of less the contract's gas would eat a tenth and more
)

// A payer has everything that moving money takes.
type payer struct {
	h      *home
	cmd    *cobra.Command
	chain  *ton.Client
	wallet *wallet.Wallet
	store  *store.Store
	again  string // command that shows later what became of a message
	json   bool   // say what became of a channel in JSON
}

// payer connects to the chain and opens wallet and store. Close it.
func (h *home) payer(cmd *cobra.Command) (_ *payer, err error) {
	p := &payer{h: h, cmd: cmd, again: "bombyx channel show"}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.chain, err = h.chain(cmd.Context()); err != nil {
		return nil, err
	}
	if p.wallet, err = h.openWallet(cmd.Context(), p.chain); err != nil {
		return nil, err
	}
	if p.store, err = h.store(cmd.Context()); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *payer) close() {
	if p.store != nil {
		p.store.Close()
	}
	if p.wallet != nil {
		p.wallet.Wipe()
	}
	if p.chain != nil {
		p.chain.Close()
	}
}

// affords is asked before the user is.
func (p *payer) affords(amount ton.Nano) error {
	if err := p.wallet.Affords(p.cmd.Context(), p.chain, amount); err != nil {
		return walletFault(err)
	}
	return nil
}

func jsonLines(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "json", false, "print one JSON object a line, as channel list does; amounts in nanogram")
}

// say tells what became of a channel; on is what the chain says of it, if that matters.
func (p *payer) say(a channel.Address, on *channel.Account, format string, args ...any) error {
	if !p.json {
		_, err := fmt.Fprintf(p.cmd.OutOrStdout(), format, args...)
		return err
	}
	c, err := p.store.Channel(p.cmd.Context(), a)
	if err != nil {
		return err
	}
	d := document(c)
	if on != nil {
		d.OnChain = summary(on)
	}
	return printJSON(p.cmd.OutOrStdout(), d)
}

func (p *payer) send(m *tlb.InternalMessage, amount ton.Nano) (*tlb.Transaction, error) {
	tx, err := p.wallet.Send(p.cmd.Context(), p.chain, wallet.Message{To: m.DstAddr, Amount: amount, Bounce: m.StateInit == nil, Init: m.StateInit, Body: m.Body})
	if err != nil {
		return nil, walletFault(err)
	}
	return tx, nil
}

// until polls the chain for something that a sent message brings about. Its time is bounded by the chain's own.
func (p *payer) until(what string, ok func(ctx context.Context) (bool, error)) error {
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(p.cmd.Context(), patience)
	defer cancel()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		done, err := ok(ctx)
		if done {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			if p.cmd.Context().Err() != nil {
				return cli.Errorf(cli.Interrupted, "look again later: "+p.again, "interrupted while waiting for %s", what)
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return cli.Errorf(cli.Unreachable, "look again later: "+p.again, "%s is not there after %s: %w", what, patience, err)
			}
			return cli.Errorf(cli.Unreachable, "look again later: "+p.again, "%s is not there after %s", what, patience)
		}
	}
}

func channelOpen(h *home) *cobra.Command {
	var o hostChoice
	var days uint32
	var asJSON bool
	c := &cobra.Command{Use: "open AMOUNT", Short: "Open a channel with a deposit", Args: cobra.ExactArgs(1),
		Long: `open deposits AMOUNT in GRAM into a new channel that pays the recorded host, or the one that
--host names, and nobody else. Of it, 0.02 GRAM keep the contract alive and come back at
the end. Before it sends anything it shows the terms and asks. The wallet pays fees below
0.012 GRAM for it.`,
		Example: "  bombyx channel open 2\n  bombyx channel open 0.5 --host https://host.example --host-key 5f3c... --yes"}
	o.flags(h, c)
	h.passphraseFlag(c)
	h.yesFlag(c)
	jsonLines(c, &asJSON)
	c.Flags().Uint32Var(&days, "days", 365, "days until the channel ends whatever happens")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		amount, err := parseAmount(args[0])
		if err != nil {
			return err
		}
		if days == 0 || days > 3650 {
			return cli.Errorf(cli.Usage, "choose 1 to 3650", "--days %d is out of range", days)
		}
		cfg, key, err := h.host(cmd, o)
		if err != nil {
			return err
		}
		card, err := h.fetchCard(cmd.Context(), cfg, key)
		if err != nil {
			return err
		}
		p, err := h.payer(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		p.json = asJSON
		c, err := p.terms(card, amount, days)
		if err != nil {
			return err
		}
		c.Host, c.HostKey = cfg.URL, key
		return p.open(c, amount)
	}
	return c
}

// terms makes a channel for a host's card.
func (p *payer) terms(card *client.Card, amount ton.Nano, days uint32) (c store.Channel, err error) {
	hash := channel.CodeHash()
	switch {
	case card.Network != p.chain.GlobalID():
		return c, cli.Errorf(cli.Usage, "use the network.json of the host's network", "the host is paid on network %d, %s is for %d", card.Network, profile.NetworkFile, p.chain.GlobalID())
	case card.ChannelCode != fmt.Sprintf("%x", hash):
		return c, cli.Errorf(cli.Refused, "use the release that the host supports, or another host", "the host expects another channel contract")
	case uint64(amount) < card.MinDeposit || amount <= channel.Reserve:
		return c, cli.Errorf(cli.Usage, fmt.Sprintf("deposit %s GRAM or more", max(ton.Nano(card.MinDeposit), channel.Reserve+channel.MinExternalClaim)), "the host wants a deposit of %s GRAM or more, and %s are the contract's reserve", ton.Nano(card.MinDeposit), ton.Nano(channel.Reserve))
	}
	var salt [8]byte
	rand.Read(salt[:])
	c = store.Channel{Network: card.Network, Deposit: uint64(amount) - channel.Reserve, State: store.StateOpening,
		Params: channel.Params{CloseDelay: max(card.ClosingDelay, channel.MinCloseDelay), Salt: binary.BigEndian.Uint64(salt[:]),
			ExpiresAt: uint32(time.Now().Add(time.Duration(days) * 24 * time.Hour).Unix())}}
	payee, err := address.ParseRawAddr(card.Payee)
	if err == nil {
		c.Params.Payee, err = channel.AddressOf(payee)
	}
	if err != nil {
		return c, cli.Errorf(cli.Refused, "use another host", "the card's payee is malformed: %w", err)
	}
	if c.Params.Client, err = channel.AddressOf(p.wallet.Address()); err != nil {
		return c, err
	}
	key, err := profile.ChannelKey(p.wallet, c.Params.Salt, c.Params.Payee)
	if err != nil {
		return c, err
	}
	defer clear(key)
	copy(c.Params.ClientKey[:], key[32:])
	if err := c.Params.Validate(); err != nil {
		return c, cli.Errorf(cli.Refused, "use another host", "%w", err)
	}
	return c, nil
}

func (p *payer) open(c store.Channel, amount ton.Nano) error {
	a := c.Address()
	if err := p.affords(amount); err != nil {
		return err
	}
	fmt.Fprintf(p.cmd.ErrOrStderr(), "channel  %s\npays     %s only\nreturns  the rest to %s\nclosing  takes %s when the host does not agree\nends     %s\ndeposit  %s GRAM, %s of it for answers\nfees     below %s GRAM now; to close, below %s alone and %s together\n",
		a, payeeText(c), p.wallet.Address(), time.Duration(c.Params.CloseDelay)*time.Second, time.Unix(int64(c.Params.ExpiresAt), 0).UTC().Format(time.DateOnly), amount, ton.Nano(c.Deposit), feeOpen, feeAlone, feeTogether)
	if err := p.h.confirm(p.cmd, "Open it?"); err != nil {
		return err
	}
	// Recorded first: after a crash, channel list still knows where the money went.
	ctx := p.cmd.Context()
	if err := p.store.Add(ctx, c); err != nil {
		return err
	}
	if _, err := p.send(channel.Open(c.Params, uint64(amount)), amount); err != nil {
		if errors.Is(err, wallet.ErrBalance) || errors.Is(err, ton.ErrExpired) || errors.Is(err, ton.ErrOvertaken) || errors.Is(err, ton.ErrRefused) { // certainly not sent
			err = errors.Join(err, p.store.Forget(ctx, a))
		}
		return err
	}
	if err := p.until("the channel", func(ctx context.Context) (bool, error) {
		_, err := channel.Load(ctx, p.chain, a)
		return err == nil, err
	}); err != nil {
		return err
	}
	if err := p.store.SetState(ctx, a, store.StateOpen); err != nil {
		return err
	}
	return p.say(a, nil, "%s\n", a)
}

// findChannel returns the channel that an argument names, by its address or by its host's URL or key, or the only one that is
// not closed.
func findChannel(ctx context.Context, s *store.Store, args []string) (store.Channel, error) {
	if len(args) > 0 {
		if std, err := address.ParseAddr(args[0]); err == nil {
			a, err := channel.AddressOf(std)
			if err != nil {
				return store.Channel{}, cli.Errorf(cli.Usage, "bombyx channel list shows them", "%w", err)
			}
			c, err := s.Channel(ctx, a)
			if errors.Is(err, store.ErrUnknown) {
				err = cli.Errorf(cli.Usage, "bombyx channel list shows those that are", "%s is not known here", a)
			}
			return c, err
		}
	}
	live, err := s.Channels(ctx)
	if err != nil {
		return store.Channel{}, err
	}
	live = slices.DeleteFunc(live, func(c store.Channel) bool {
		of := len(args) == 0 || args[0] == c.Host && c.Host != "" || args[0] == fmt.Sprintf("%x", []byte(c.HostKey))
		return !of || c.State == store.StateClosed
	})
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(live) > 1:
		return store.Channel{}, cli.Errorf(cli.Usage, "name one by its address, to top up with --channel: bombyx channel list shows them", "there are %d channels", len(live))
	case len(args) > 0:
		return store.Channel{}, cli.Errorf(cli.Usage, "bombyx channel list shows them", "%.80q is neither a channel's address nor the host of an open one", args[0])
	}
	return store.Channel{}, cli.Errorf(cli.Money, "bombyx channel open AMOUNT; bombyx channel list shows those that are closed", "there is no open channel")
}

func channelTopUp(h *home) *cobra.Command {
	var to string
	var asJSON bool
	c := &cobra.Command{Use: "top-up AMOUNT", Short: "Add to a channel's deposit", Args: cobra.ExactArgs(1),
		Long: `top-up adds AMOUNT in GRAM to the only open channel, or to the one that --channel names. The
wallet pays fees below 0.004 GRAM for it. A closing channel takes no more money.`,
		Example: "  bombyx channel top-up 1\n  bombyx channel top-up 1 --channel EQ... --yes"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	jsonLines(c, &asJSON)
	c.Flags().StringVar(&to, "channel", "", "the channel's address, or its host's URL or key")
	c.RegisterFlagCompletionFunc("channel", h.completeChannels)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		amount, err := parseAmount(args[0])
		if err != nil {
			return err
		}
		if amount < leastTopUp {
			return cli.Errorf(cli.Usage, fmt.Sprintf("add %s GRAM or more", leastTopUp), "fees would eat too much of %s GRAM", amount)
		}
		p, err := h.payer(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		p.json = asJSON
		c, err := findChannel(cmd.Context(), p.store, named(to))
		if err != nil {
			return err
		}
		return p.topUp(c, amount)
	}
	return c
}

func named(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (p *payer) topUp(c store.Channel, amount ton.Nano) error {
	ctx, a := p.cmd.Context(), c.Address()
	before, err := channel.Load(ctx, p.chain, a)
	if errors.Is(err, channel.ErrNone) {
		return cli.Errorf(cli.Usage, "bombyx channel open AMOUNT opens another", "%s is not open", a)
	}
	if err != nil {
		return chainFault(err)
	}
	if before.Closing() {
		state := "closing"
		if paidOut(before) {
			state = "closed"
		}
		return cli.Errorf(cli.Usage, "bombyx channel open AMOUNT opens another", "%s is %s", a, state)
	}
	if err := p.affords(amount); err != nil {
		return err
	}
	if err := p.h.confirm(p.cmd, fmt.Sprintf("Add %s GRAM to %s, and fees below %s GRAM?", amount, a, feeTopUp)); err != nil {
		return err
	}
	sent, err := p.send(channel.TopUp(a, uint64(amount)), amount)
	if err != nil {
		return err
	}
	// What can be promised is what the chain shows after this top-up, whoever else has topped up or claimed meanwhile.
	var now *channel.Account
	var came *tlb.Transaction
	if err := p.until("the top-up", func(ctx context.Context) (bool, error) {
		all, err := p.chain.Transactions(ctx, a.Std(), before.LT)
		if err != nil {
			return false, err
		}
		if now, err = channel.Load(ctx, p.chain, a); err != nil {
			return false, err
		}
		i := slices.IndexFunc(all, func(tx *tlb.Transaction) bool { return follows(tx, sent) })
		if i < 0 || all[i].LT > now.LT {
			return false, nil
		}
		came = all[i]
		return true, nil
	}); err != nil {
		return err
	}
	if d, ok := came.Description.(tlb.TransactionDescriptionOrdinary); !ok || d.Aborted {
		return cli.Errorf(cli.Refused, "bombyx channel show; bombyx channel open AMOUNT opens another", "%s took nothing more: it is being closed, and the top-up comes back", a)
	}
	if err := p.store.SetDeposit(ctx, a, promisable(now), now.LT); err != nil {
		return err
	}
	return p.say(a, now, "%s has %s GRAM for answers\n", a, ton.Nano(promisable(now)))
}

// follows says that a transaction is of a message that another one sent.
func follows(tx, sender *tlb.Transaction) bool {
	if tx.IO.In == nil || tx.IO.In.MsgType != tlb.MsgTypeInternal {
		return false
	}
	in := tx.IO.In.AsInternal()
	return bytes.Equal(in.SrcAddr.Data(), sender.AccountAddr) && in.CreatedLT > sender.LT && in.CreatedLT <= sender.LT+uint64(sender.OutMsgCount)
}

// promisable is what vouchers on a channel may add up to.
func promisable(on *channel.Account) uint64 {
	if on.Balance < channel.Reserve {
		return on.Paid
	}
	return on.Paid + on.Balance - channel.Reserve
}

func hostText(url string) string {
	return cmp.Or(url, "host not known: bombyx channel recover")
}

// channelDocument is a channel as --json shows it. Amounts are nanogram.
type channelDocument struct {
	Address string      `json:"address"`
	Network int32       `json:"network"`
	State   store.State `json:"state"`
	Host    string      `json:"host"`
	HostKey string      `json:"host_key"`
	Payee   string      `json:"payee"`
	Deposit uint64      `json:"deposit"`
	Signed  uint64      `json:"signed"`
	Settled uint64      `json:"settled"`
	Left    uint64      `json:"left"`
	Head    string      `json:"receipts_head"`
	Expires time.Time   `json:"expires_at"`

	Receipts []string        `json:"receipts,omitempty"`
	OnChain  *onChainSummary `json:"on_chain,omitempty"`
}

type onChainSummary struct {
	Exists  bool   `json:"exists"`
	Paid    uint64 `json:"paid"`
	Balance uint64 `json:"balance"`
	Closing bool   `json:"closing"`
	PaidOut bool   `json:"paid_out"`
	// CloseAt is from when the rest can be fetched.
	CloseAt time.Time `json:"close_at"`
}

func summary(on *channel.Account) *onChainSummary {
	return &onChainSummary{true, on.Paid, on.Balance, on.Closing(), paidOut(on), time.Unix(int64(on.CloseAt), 0).UTC()}
}

func document(c store.Channel) channelDocument {
	return channelDocument{Address: c.Address().String(), Network: c.Network, State: c.State, Host: c.Host, HostKey: fmt.Sprintf("%x", []byte(c.HostKey)), Payee: payeeText(c),
		Deposit: c.Deposit, Signed: c.Progress.Signed, Settled: c.Progress.Settled, Left: c.Left(), Head: fmt.Sprintf("%x", c.Progress.Head), Expires: time.Unix(int64(c.Params.ExpiresAt), 0).UTC()}
}

// payeeText is the payee as wallets show themselves, UQ...
func payeeText(c store.Channel) string { return c.Params.Payee.Std().Bounce(false).String() }

// completeChannels offers the channels that are recorded here.
func (h *home) completeChannels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	path, err := h.at(profile.StoreFile)
	if err != nil || !profile.Exists(path) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := h.store(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer s.Close()
	all, err := s.Channels(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var offers []string
	for _, c := range all {
		offers = append(offers, fmt.Sprintf("%s\t%s, %s GRAM left", c.Address(), c.State, ton.Nano(c.Left())))
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}

func channelList(h *home) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List channels as they are recorded here", Args: cobra.NoArgs,
		Long:    "list reads the record in the home directory; it asks neither chain nor host. \"channel show\" does.",
		Example: "  bombyx channel list\n  bombyx channel list --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line; amounts in nanogram")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := h.store(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		all, err := s.Channels(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			for _, c := range all {
				if err := printJSON(cmd.OutOrStdout(), document(c)); err != nil {
					return err
				}
			}
			return nil
		}
		if len(all) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "bombyx: no channels here: bombyx channel open AMOUNT, or bombyx channel recover")
		}
		for _, c := range all {
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n  %s of %s GRAM left, %s paid for answers\n  %s\n",
				c.Address(), c.State, ton.Nano(c.Left()), ton.Nano(c.Deposit), ton.Nano(c.Progress.Settled), hostText(c.Host))
		}
		return nil
	}
	return c
}

func channelShow(h *home) *cobra.Command {
	var asJSON, receipts bool
	c := &cobra.Command{Use: "show [CHANNEL]", Short: "Show a channel here and on chain", Args: cobra.MaximumNArgs(1), ValidArgsFunction: h.completeChannels,
		Long: `show prints what is recorded of a channel, and what the chain proves about it now; what the
chain says of the deposit is recorded then, whoever has topped it up. A host claims vouchers,
which run ahead of delivery: where it has claimed more than arrived here, show says how much.
With --receipts it lists every receipt as the enclave signed it, oldest first.`,
		Example: "  bombyx channel show\n  bombyx channel show EQ... --receipts --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; amounts in nanogram")
	c.Flags().BoolVar(&receipts, "receipts", false, "list the receipts")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		s, err := h.store(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		c, err := findChannel(ctx, s, args)
		if err != nil {
			return err
		}
		chain, err := h.chain(ctx)
		if err != nil {
			return err
		}
		defer chain.Close()
		on, err := channel.Load(ctx, chain, c.Address())
		if err != nil && !errors.Is(err, channel.ErrNone) {
			return chainFault(err)
		}
		if on != nil { // a crash, impatience, or another who topped up, may have come between chain and record
			if c.State == store.StateOpening {
				if err := s.SetState(ctx, c.Address(), store.StateOpen); err != nil {
					return err
				}
				c.State = store.StateOpen
			}
			if !on.Closing() {
				if err := s.SetDeposit(ctx, c.Address(), promisable(on), on.LT); err != nil {
					return err
				}
				c.Deposit = promisable(on)
			}
		}
		d := document(c)
		d.OnChain = &onChainSummary{}
		if on != nil {
			d.OnChain = summary(on)
		}
		if receipts {
			all, err := s.Receipts(ctx, c.Address())
			if err != nil {
				return err
			}
			d.Receipts = []string{}
			for _, r := range all {
				d.Receipts = append(d.Receipts, r.Serialized)
			}
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), d)
		}
		d.print(cmd)
		return nil
	}
	return c
}

func (d *channelDocument) print(cmd *cobra.Command) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "channel   %s\nstate     %s\nhost      %s\npays      %s\ndeposit   %s GRAM for answers\npaid      %s GRAM for answers\nsigned    %s GRAM in vouchers\nleft      %s GRAM\nends      %s\n",
		d.Address, d.State, hostText(d.Host), d.Payee, ton.Nano(d.Deposit), ton.Nano(d.Settled), ton.Nano(d.Signed), ton.Nano(d.Left), d.Expires.Format(time.RFC3339))
	claimed := fmt.Sprintf("%s claimed", ton.Nano(d.OnChain.Paid))
	if ahead := d.OnChain.Paid - min(d.OnChain.Paid, d.Settled); ahead > 0 {
		claimed += fmt.Sprintf(", %s of it beyond what arrived here", ton.Nano(ahead))
	}
	switch on := d.OnChain; {
	case !on.Exists:
		fmt.Fprintln(out, "on chain  nothing")
	case on.PaidOut:
		fmt.Fprintf(out, "on chain  closed; %s, the rest returned\n", claimed)
	case on.Closing:
		fmt.Fprintf(out, "on chain  %s GRAM, %s, closing: the rest comes back from %s\n", ton.Nano(on.Balance), claimed, on.CloseAt.Format(time.RFC3339))
	default:
		fmt.Fprintf(out, "on chain  %s GRAM, %s\n", ton.Nano(on.Balance), claimed)
	}
	if d.Receipts != nil {
		fmt.Fprintf(out, "receipts  %d\n%s\n", len(d.Receipts), strings.Join(d.Receipts, "\n"))
	}
}
