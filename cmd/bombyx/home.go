package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// A home is the user's directory and how to ask the user.
type home struct {
	dir        string
	passphrase string // file
	yes        bool

	mu      sync.Mutex
	lookups *profile.Lookups // nil until proven
}

func (h *home) flags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&h.dir, "home", "", "directory of wallet, network, hosts, policy and channels (default $BOMBYX_HOME, else bombyx in the user's configuration directory)")
}

// passphraseFlag is for commands that open the wallet.
func (h *home) passphraseFlag(c *cobra.Command) {
	c.Flags().StringVar(&h.passphrase, "passphrase-file", "", "read the wallet's passphrase from this file (mode 600) instead of the terminal")
}

// yesFlag is for commands that ask before they send money.
func (h *home) yesFlag(c *cobra.Command) {
	c.Flags().BoolVarP(&h.yes, "yes", "y", false, "do not ask for confirmation")
}

// profile is the home directory.
func (h *home) profile() (profile.Dir, error) {
	if h.dir != "" {
		return profile.Dir(h.dir), nil
	}
	return profile.Default()
}

// at returns the path of a file in the home directory.
func (h *home) at(name string) (string, error) {
	d, err := h.profile()
	return d.Path(name), err
}

// make is at, and the directory exists afterwards.
func (h *home) make(name string) (string, error) {
	d, err := h.profile()
	if err == nil {
		err = d.Make()
	}
	return d.Path(name), err
}

// A hostChoice is --host, with --host-key or --registry where the host is not recorded.
type hostChoice struct{ url, key, registry string }

func (o *hostChoice) flags(h *home, c *cobra.Command) {
	c.Flags().StringVar(&o.url, "host", "", "use this host alone: the URL or name of one that host add recorded, another's URL, adnl:ID, or with --registry its name there")
	c.Flags().StringVar(&o.key, "host-key", "", "the host's identity key, 64 hexadecimal digits; an ADNL id needs none")
	c.Flags().StringVar(&o.registry, "registry", "", "take the host from this registry: EQ... or 0:...")
	c.MarkFlagsMutuallyExclusive("host-key", "registry")
	c.RegisterFlagCompletionFunc("host", h.completeHosts)
}

// hosts returns whom to use: the host that was chosen, or all that are recorded.
func (h *home) hosts(cmd *cobra.Command, o hostChoice) ([]profile.Host, error) {
	if o == (hostChoice{}) {
		d, err := h.profile()
		if err != nil {
			return nil, err
		}
		return d.Hosts()
	}
	c, err := h.chosen(cmd, o)
	if err != nil {
		return nil, err
	}
	return []profile.Host{*c}, nil
}

// host is hosts where there can be one only, and its key.
func (h *home) host(cmd *cobra.Command, o hostChoice) (*profile.Host, ed25519.PublicKey, error) {
	all, err := h.hosts(cmd, o)
	if err != nil {
		return nil, nil, err
	}
	if len(all) > 1 {
		return nil, nil, cli.Errorf(cli.Usage, "name one with --host: bombyx host list shows them", "there are %d hosts", len(all))
	}
	key, err := all[0].PublicKey()
	return &all[0], key, err
}

// chosen is the host that flags name. One that is not recorded is asked for its card, and the prices there are the limit.
func (h *home) chosen(cmd *cobra.Command, o hostChoice) (*profile.Host, error) {
	if o.url == "" {
		return nil, cli.Errorf(cli.Usage, "give --host too", "--host-key or --registry alone names no host")
	}
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	var recorded []profile.Host
	if d.Has(profile.HostsFile) {
		if recorded, err = d.Hosts(); err != nil {
			return nil, err
		}
	}
	var c *profile.Host
	var card *client.Card
	if o.registry != "" {
		if c, card, err = h.fromRegistry(cmd.Context(), o.registry, o.url); err != nil {
			return nil, err
		}
		for _, r := range recorded {
			if c.Registry == r.Registry && c.Name == r.Name && strings.EqualFold(c.Key, r.Key) {
				c.Model, c.MaxPrices, c.Window = r.Model, r.MaxPrices, r.Window // as the user accepted them
				return c, nil
			}
		}
	} else {
		recorded = slices.DeleteFunc(recorded, func(r profile.Host) bool { return o.key != "" && !strings.EqualFold(o.key, r.Key) })
		if i, err := find(recorded, o.url); err == nil {
			return &recorded[i], nil
		} else if !errors.Is(err, errUnrecorded) {
			return nil, err
		}
		c = &profile.Host{URL: o.url, Key: o.key}
		if o.key == "" && !c.OverADNL() {
			return nil, cli.Errorf(cli.Usage, "--host URL --host-key KEY, --host adnl:ID, or --host NAME --registry REGISTRY", "a host takes its key, or a registry that lists it, unless it is recorded")
		}
		key, err := c.PublicKey()
		if err != nil {
			return nil, err
		}
		if card, err = h.fetchCard(cmd.Context(), c, key); err != nil {
			return nil, err
		}
		c.Key = strings.ToLower(card.Host)
	}
	accept(c, card, "")
	fmt.Fprintf(cmd.ErrOrStderr(), "%s asks %s\n", c.URL, pricesText(c.MaxPrices))
	return c, nil
}

var errUnrecorded = errors.New("no such host is recorded")

// find returns which of the hosts has this URL, key, or name in its registry. Several may have one URL or name.
func find(hosts []profile.Host, name string) (int, error) {
	at := -1
	for i, h := range hosts {
		if name == "" || name != h.URL && !strings.EqualFold(name, h.Key) && name != h.Name {
			continue
		}
		if at >= 0 {
			return -1, cli.Errorf(cli.Usage, "name it by its key: bombyx host list shows them", "several hosts go by %.80q", name)
		}
		at = i
	}
	if at < 0 {
		return -1, cli.Errorf(cli.Usage, "bombyx host list shows those that are", "%w: %.80q", errUnrecorded, name)
	}
	return at, nil
}

// completeHosts offers the recorded hosts. It asks nobody: completing a word must not tell a host that one is at work.
func (h *home) completeHosts(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
	if d, err := h.profile(); err == nil {
		all, _ := d.Hosts()
		for _, c := range all {
			names = append(names, c.URL)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeModel offers the recorded hosts' models, and asks nobody either.
func (h *home) completeModel(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
	if d, err := h.profile(); err == nil {
		all, _ := d.Hosts()
		for _, c := range all {
			names = append(names, c.Model)
		}
	}
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// accept takes a card's prices for the limit and its window for ours.
func accept(c *profile.Host, card *client.Card, model string) {
	c.Model, c.Window = model, card.Window
	if c.Model == "" {
		c.Model = card.Enclaves[0].Models[0]
	}
	c.MaxPrices = card.Prices[c.Model]
}

// fetchCard asks a host for its card. A host that was taken from a registry must still be listed there.
func (h *home) fetchCard(ctx context.Context, host *profile.Host, key ed25519.PublicKey) (*client.Card, error) {
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	cfg, err := d.Reach(host.URL, key)
	if err != nil {
		return nil, err
	}
	cfg.Listed, cfg.Timeout = host.Listed(h.proven), 20*time.Second
	c, err := client.FetchCard(ctx, cfg)
	if err != nil {
		return nil, fault(err)
	}
	if len(c.Enclaves) == 0 || len(c.Enclaves[0].Models) == 0 || c.Window == 0 {
		return nil, cli.Errorf(cli.Refused, "use another host", "the host's card offers nothing")
	}
	return c, nil
}

func pricesText(p client.Prices) string {
	return fmt.Sprintf("GRAM per million tokens: prompt %s (cached %s), completion %s (reasoning %s)",
		ton.Nano(p.Prompt), ton.Nano(p.Cached), ton.Nano(p.Completion), ton.Nano(p.Reasoning))
}

// globalID is the id of the network that network.json describes. It connects only where the file does not tell.
func (h *home) globalID(ctx context.Context) (int32, error) {
	d, err := h.profile()
	if err != nil {
		return 0, err
	}
	_, c, err := d.Network()
	if err != nil {
		return 0, err
	}
	if id, ok := c.GlobalID(); ok {
		return id, nil
	}
	chain, err := h.chain(ctx)
	if err != nil {
		return 0, err
	}
	defer chain.Close()
	return chain.GlobalID(), nil
}

// chain connects to the network that network.json describes.
func (h *home) chain(ctx context.Context) (*ton.Client, error) {
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	return d.Chain(ctx, chainOptions)
}

var chainOptions = ton.Options{
	Progress: func(seqno, newest uint32) {
		fmt.Fprintf(os.Stderr, "bombyx: proving the chain once, from its pinned block: at block %d of %d\n", seqno, newest)
	},
	Warn: func(err error) { fmt.Fprintln(os.Stderr, "bombyx: warning:", err) },
}

// proven is chain, once, for what a session looks up on the way.
func (h *home) proven(ctx context.Context) (*ton.Client, error) {
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	if h.lookups == nil {
		h.lookups = profile.NewLookups(d, chainOptions)
	}
	l := h.lookups
	h.mu.Unlock()
	return l.Chain(ctx)
}

// hangUp ends what proven began.
func (h *home) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lookups != nil {
		h.lookups.Close()
	}
}

// openWallet decrypts the wallet. Wipe it.
func (h *home) openWallet(ctx context.Context, chain ton.Chain) (*wallet.Wallet, error) {
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	w, err := d.Wallet(ctx, h.walletPassphrase)
	if err != nil {
		return nil, err
	}
	w.OnWait(func() {
		fmt.Fprintln(os.Stderr, "bombyx: waiting: another process is sending from this wallet")
	})
	if chain != nil {
		if err := belongs(w, chain); err != nil {
			w.Wipe()
			return nil, err
		}
	}
	return w, nil
}

func (h *home) walletPassphrase(ctx context.Context, file string) (string, error) {
	return h.askPassphrase(ctx, "Passphrase of "+file+": ")
}

// belongs refuses a wallet of another network than the chain's.
func belongs(w *wallet.Wallet, chain ton.Chain) error {
	if chain.GlobalID() != w.GlobalID() {
		return cli.Errorf(cli.Usage, "use the network.json that belongs to this wallet, or another --home", "the wallet is for network %d, %s for %d", w.GlobalID(), profile.NetworkFile, chain.GlobalID())
	}
	return nil
}

func (h *home) askPassphrase(ctx context.Context, prompt string) (string, error) {
	if h.passphrase != "" {
		b, err := cli.ReadSecret(h.passphrase)
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	if !isTerminal(os.Stdin) {
		return "", cli.Errorf(cli.Usage, "give --passphrase-file FILE", "the wallet's passphrase is needed, and there is no terminal to ask on")
	}
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	var line string
	err := withoutEcho(os.Stdin, func() (err error) {
		line, err = readLine(ctx, os.Stdin)
		return err
	})
	return line, err
}

// readLine reads one line byte by byte, so that nothing after it is swallowed. It gives up when ctx ends.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	c := make(chan result, 1)
	go func() {
		var line []byte
		b := make([]byte, 1)
		for len(line) < 4096 {
			n, err := r.Read(b)
			if n > 0 && b[0] != '\n' {
				line = append(line, b[0])
				continue
			}
			if n > 0 {
				err = nil
			}
			if err == io.EOF && len(line) > 0 {
				err = nil
			}
			c <- result{strings.TrimRight(string(line), "\r"), err}
			return
		}
		c <- result{"", errors.New("the line is too long")}
	}()
	select {
	case r := <-c:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// confirm asks before something that cannot be undone. What was agreed to with --yes, its fees among it, is shown all the same.
func (h *home) confirm(cmd *cobra.Command, question string) error {
	if h.yes {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s yes\n", question)
		return nil
	}
	if !isTerminal(os.Stdin) {
		return cli.Errorf(cli.Usage, "give --yes", "this needs a confirmation, and there is no terminal to ask on")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	line, err := readLine(cmd.Context(), os.Stdin)
	if err != nil {
		return err
	}
	if s := strings.ToLower(strings.TrimSpace(line)); s != "y" && s != "yes" {
		return cli.Errorf(cli.Refused, "answer y, or give --yes", "not confirmed: nothing was done")
	}
	return nil
}

// store opens the record of channels and receipts. Close it.
func (h *home) store(ctx context.Context) (*store.Store, error) {
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	return d.Store(ctx)
}

func walletFault(err error) error {
	switch {
	case errors.Is(err, wallet.ErrBalance):
		return cli.Errorf(cli.Money, "fund the wallet: bombyx wallet show prints its address and a link for a phone wallet", "%w", err)
	case errors.Is(err, wallet.ErrNetwork):
		return cli.Errorf(cli.Usage, "ask for the receiver's address on this network", "%w", err)
	case errors.Is(err, wallet.ErrNotSent):
		return cli.Errorf(cli.Refused, "only the fee is spent: look at the balance, bombyx wallet show, and try again", "%w", err)
	case errors.Is(err, ton.ErrOvertaken):
		return cli.Errorf(cli.Refused, "nothing was sent, and this payment never will be: somebody with the same words, such as a phone wallet, paid meanwhile; look whether it was the same payment, then try again", "%w", err)
	case errors.Is(err, ton.ErrRefused):
		return cli.Errorf(cli.Refused, "another program may have used the wallet at the same time: look first, bombyx wallet show, then try again", "%w", err)
	case errors.Is(err, ton.ErrUnreachable), errors.Is(err, ton.ErrUnconfirmed), errors.Is(err, ton.ErrExpired):
		return chainFault(err)
	case errors.Is(err, wallet.ErrFile), errors.Is(err, wallet.ErrWords):
		return cli.Errorf(cli.Usage, "is the file damaged? put your copy in its place, or bombyx wallet import into another --home", "%w", err)
	}
	return cli.Errorf(cli.Usage, "", "%w", err)
}

func chainFault(err error) error {
	switch {
	case errors.Is(err, ton.ErrUnconfirmed):
		return cli.Errorf(cli.Unreachable, "look before you send again: bombyx wallet show, bombyx channel show", "%w", err)
	case errors.Is(err, ton.ErrExpired):
		return cli.Errorf(cli.Unreachable, "nothing was spent: try again", "%w", err)
	}
	return cli.Errorf(cli.Unreachable, "check network.json, and whether its liteservers are up", "%w", err)
}

// fault gives an error of the client library its exit code.
func fault(err error) error {
	var f *client.Error
	if !errors.As(err, &f) {
		return cli.Errorf(cli.Usage, "check the host's address and key: https://NAME KEY, or adnl:ID", "%w", err)
	}
	code := cli.Refused
	switch {
	case f.Status == 402 && f.Code != "too_expensive":
		code = cli.Money
	case f.Code == "host_unreachable" || f.Code == "timeout" || f.Status == 503 || f.Status == 504:
		code = cli.Unreachable
	case f.Status == 400 || f.Status == 404 || f.Status == 405 || f.Status == 413:
		code = cli.Usage
	}
	what, hint := f.Message, f.Hint
	if i := strings.LastIndex(what, "; "); hint == "" && i > 0 { // a peer's message ends with what to do about it
		what, hint = what[:i], what[i+2:]
	}
	switch f.Code {
	case "model_not_found":
		hint = "bombyx host show lists what it serves"
	case "attestation_failed":
		hint = "bombyx chat -v shows every check, with what was seen and what policy.json wants"
	case "no_collateral":
		hint = "save its evidence (docs/verifying.md, A host's evidence) and put what bombyx collateral fetch makes of it into the home directory as collateral, or use another host"
	case "insufficient_credit", "channel_exhausted":
		hint = "bombyx channel top-up AMOUNT, shorten the prompt, or lower --max-tokens"
	}
	return cli.Errorf(code, hint, "%s", what)
}

// printJSON writes one line for machines.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// lines scans long lines.
func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 8<<20)
	return s
}
