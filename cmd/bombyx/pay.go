package main

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/results"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// payment is a channel as the client library pays from it. Clear its key.
func payment(w *wallet.Wallet, s *store.Store, c store.Channel) (client.Payment, error) {
	key, err := channelKey(w, c.Params.Salt, c.Params.Payee)
	if err != nil {
		return client.Payment{}, err
	}
	if !ed25519.PublicKey(c.Params.ClientKey[:]).Equal(key.Public()) {
		clear(key)
		return client.Payment{}, cli.Errorf(cli.Usage, "use the wallet that opened it", "%s was opened from another wallet", c.Address())
	}
	return client.Payment{Network: c.Network, Channel: c.Params, Key: key, Deposit: c.Deposit, State: c.Progress, Save: s.Save(c.Address()), Flush: s.Flush}, nil
}

// A line is what chat and proxy talk through: an attested, paid connection to a host. Close it.
type line struct {
	*client.Transport
	host    *hostConfig
	store   *store.Store
	channel store.Channel
	key     ed25519.PrivateKey
	lookups *proven
	release func()

	mu       sync.Mutex
	quiet    bool                // an answer is on the screen:
	held     []string            // what there is to say waits for its end
	result   *attestation.Result // the last appraisal
	receipt  *client.Receipt     // the last one
	vouchers int
	log      io.Writer
}

// A lineOptions is what chat and proxy have in common.
type lineOptions struct {
	host    hostChoice
	verbose bool
	timeout time.Duration
}

func (o *lineOptions) flags(h *home, c *cobra.Command) {
	o.host.flags(c)
	h.passphraseFlag(c)
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show every check of the evidence, vouchers and receipts on standard error")
	c.Flags().DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long host and enclave may give no sign of life")
}

// dial prepares a line. It unlocks the wallet and connects to nothing but the host, and only for what is public; to TON only
// where the policy accepts epoch evidence or names registries, or the host was taken from one, once that is needed.
func (h *home) dial(cmd *cobra.Command, o lineOptions) (_ *line, err error) {
	l := &line{lookups: &h.lookups}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if o.timeout <= 0 {
		return nil, cli.Errorf(cli.Usage, "give a time such as 2m", "--timeout %s is out of range", o.timeout)
	}
	pol, err := h.policy()
	if err != nil {
		return nil, err
	}
	bundle, err := h.collateral()
	if err != nil {
		return nil, err
	}
	host, key, err := h.host(cmd, o.host)
	if err != nil {
		return nil, err
	}
	l.host = host
	if l.store, err = h.store(cmd.Context()); err != nil {
		return nil, err
	}
	if err := l.reserve(cmd, key); err != nil {
		return nil, err
	}
	w, err := h.openWallet(cmd.Context(), nil)
	if err != nil {
		return nil, err
	}
	defer w.Wipe()
	pay, err := payment(w, l.store, l.channel)
	if err != nil {
		return nil, err
	}
	l.key = pay.Key
	cfg, err := h.reach(host.URL, key)
	if err != nil {
		return nil, err
	}
	cfg.Policy, cfg.Collateral, cfg.Payment, cfg.MaxPrices, cfg.Window = pol, bundle, pay, host.MaxPrices, host.Window
	cfg.Timeout, cfg.Trace = o.timeout, l.trace(cmd.ErrOrStderr(), o.verbose)
	if pol.Epoch != nil {
		cfg.Blocks = blocks{h, pay.Network}
	}
	if len(pol.Registries) > 0 {
		cfg.Registries = h.registries
	}
	cfg.Listed = host.listed(h)
	t, err := client.New(cfg)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "bombyx host add URL KEY", "%w", err)
	}
	l.Transport = t
	return l, nil
}

// reserve takes the channel to this host that has the most left and that no other process uses.
func (l *line) reserve(cmd *cobra.Command, host ed25519.PublicKey) error {
	all, err := l.store.Channels(cmd.Context())
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c store.Channel) bool {
		return !c.HostKey.Equal(host) || c.State == store.StateClosed || c.State == store.StateClosing || left(c) == 0
	})
	slices.SortStableFunc(all, func(a, b store.Channel) int { return cmp.Compare(left(b), left(a)) })
	err = cli.Errorf(cli.Money, "bombyx channel open AMOUNT, or bombyx channel top-up AMOUNT", "no open channel to %s has money left", l.host.URL)
	for _, c := range all {
		release, e := l.store.Acquire(c.Address())
		if errors.Is(e, store.ErrBusy) {
			err = busy(c, e)
			continue
		}
		if e != nil {
			return e
		}
		l.channel, l.release = c, release
		return nil
	}
	return err
}

func (l *line) trace(w io.Writer, verbose bool) client.Trace {
	l.log = w
	say := func(format string, args ...any) {
		if !verbose {
			return
		}
		text := fmt.Sprintf("bombyx: "+format+"\n", args...)
		if l.quiet {
			l.held = append(l.held, text)
		} else {
			io.WriteString(w, text)
		}
	}
	return client.Trace{
		Appraised: func(enclave string, evidence []byte, r *attestation.Result) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.result = r
			if verbose {
				say("evidence of enclave %s, %d bytes:", enclave, len(evidence))
				results.Table(w, r, results.TableOptions{})
			}
		},
		NoEpoch: func(enclave string, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			say("no epoch evidence of enclave %s, asking with a nonce: %v", enclave, err)
		},
		Voucher: func(v *channel.SignedVoucher) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.vouchers++
			say("voucher %d: %d nanogram in all", l.vouchers, v.Total)
		},
		Sealed: func(n int64) {
			l.mu.Lock()
			defer l.mu.Unlock()
			say("sealed request: %d bytes", n)
		},
		Receipt: func(r *client.Receipt, _ string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.receipt = r
			say("receipt %s: %s, %d nanogram", r.ID, r.Finish, r.Cost)
		},
	}
}

// hush keeps what --verbose has to say out of the middle of an answer, until unhush.
func (l *line) hush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = true
}

func (l *line) unhush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range l.held {
		io.WriteString(l.log, text)
	}
	l.quiet, l.held = false, nil
}

// take returns what the last answer left, and forgets the receipt.
func (l *line) take() (*attestation.Result, *client.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receipt
	l.receipt = nil
	return l.result, r
}

// close writes what is still to be recorded.
func (l *line) close() error {
	var err error
	if l.store != nil {
		err = l.store.Close()
	}
	l.lookups.close()
	if l.release != nil {
		l.release()
	}
	clear(l.key)
	return err
}
