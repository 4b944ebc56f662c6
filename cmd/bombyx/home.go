package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// A home is the user's directory and how to ask the user.
type home struct {
	dir        string
	passphrase string // file
	yes        bool
	lookups    proven
}

// Files in the home directory.
const (
	walletFile     = "wallet.age"
	networkFile    = "network.json"
	hostFile       = "host.json"
	policyFile     = "policy.json"
	collateralPath = "collateral" // a file or a folder
	storeFile      = "client.db"
	keyBlockFile   = "key-block.json" // how far the chain has been proven
)

func (h *home) flags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&h.dir, "home", "", "directory of wallet, network, host, policy and channels (default $BOMBYX_HOME, else bombyx in the user's configuration directory)")
}

// passphraseFlag is for commands that open the wallet.
func (h *home) passphraseFlag(c *cobra.Command) {
	c.Flags().StringVar(&h.passphrase, "passphrase-file", "", "read the wallet's passphrase from this file (mode 600) instead of the terminal")
}

// yesFlag is for commands that ask before they send money.
func (h *home) yesFlag(c *cobra.Command) {
	c.Flags().BoolVarP(&h.yes, "yes", "y", false, "do not ask for confirmation")
}

// at returns the path of a file in the home directory.
func (h *home) at(name string) (string, error) {
	dir := h.dir
	if dir == "" {
		dir = os.Getenv("BOMBYX_HOME")
	}
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", cli.Errorf(cli.Usage, "give --home DIR", "no configuration directory: %w", err)
		}
		dir = filepath.Join(base, "bombyx")
	}
	return filepath.Join(dir, name), nil
}

// make is at, and the directory exists afterwards.
func (h *home) make(name string) (string, error) {
	path, err := h.at(name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", cli.Errorf(cli.Usage, "choose another --home", "%w", err)
	}
	return path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// A hostConfig is host.json: which host to use, who it is, and what the user accepts to pay.
type hostConfig struct {
	Version   int           `json:"v"`
	URL       string        `json:"url"`
	Key       string        `json:"key"` // Ed25519, 64 hexadecimal digits
	Model     string        `json:"model"`
	MaxPrices client.Prices `json:"max_prices"` // nanogram per million tokens
	Window    uint64        `json:"window"`     // nanogram ahead of delivery

	Registry string `json:"registry,omitempty"` // the registry that must list the host for as long as it is used
	Name     string `json:"name,omitempty"`     // what the registry calls it
}

// overADNL says that a host is named by its ADNL id.
func overADNL(host string) bool { return strings.HasPrefix(host, adnl.Scheme) }

// parseHostKey reads the key of a host. Without one, an ADNL id stands for it: nil.
func parseHostKey(host, s string) (ed25519.PublicKey, error) {
	if s == "" && overADNL(host) {
		return nil, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, cli.Errorf(cli.Usage, "ask the provider for its key, or take it from a registry that you trust", "host key %.80q is not 64 hexadecimal digits", s)
	}
	return b, nil
}

// A hostChoice is --host with --host-key, or with --registry.
type hostChoice struct{ url, key, registry string }

func (o *hostChoice) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.url, "host", "", "use this host instead of the one that host add recorded: its URL, adnl:ID, or with --registry its name there")
	c.Flags().StringVar(&o.key, "host-key", "", "the host's identity key, 64 hexadecimal digits; an ADNL id needs none")
	c.Flags().StringVar(&o.registry, "registry", "", "take the host from this registry: EQ... or 0:...")
	c.MarkFlagsMutuallyExclusive("host-key", "registry")
}

// host returns which host to use. One that was given on the command line, not recorded, is asked for its card, and the prices
// there are the limit.
func (h *home) host(cmd *cobra.Command, o hostChoice) (*hostConfig, ed25519.PublicKey, error) {
	switch given := o.key != "" || o.registry != ""; {
	case o.url == "" && given:
		return nil, nil, cli.Errorf(cli.Usage, "give --host too", "--host-key or --registry alone names no host")
	case o.url != "" && !given && !overADNL(o.url):
		return nil, nil, cli.Errorf(cli.Usage, "--host URL --host-key KEY, --host adnl:ID, or --host NAME --registry REGISTRY", "a host takes its key, or a registry that lists it")
	}
	var c hostConfig
	path, err := h.at(hostFile)
	if err != nil {
		return nil, nil, err
	}
	if exists(path) {
		if _, err := cli.ReadConfig(path, &c); err != nil {
			return nil, nil, err
		}
		if c.Version != 1 {
			return nil, nil, cli.Errorf(cli.Usage, "write it anew: bombyx host add URL KEY", "%s: version %d, this program reads 1", path, c.Version)
		}
	}
	if o.registry != "" {
		listed, card, err := h.fromRegistry(cmd.Context(), o.registry, o.url)
		if err != nil {
			return nil, nil, err
		}
		if c.Registry == listed.Registry && c.Name == listed.Name && c.Key == listed.Key {
			listed.Model, listed.MaxPrices, listed.Window = c.Model, c.MaxPrices, c.Window // as the user accepted them
		} else {
			listed.accept(card, "")
			fmt.Fprintf(cmd.ErrOrStderr(), "%s asks %s\n", listed.URL, pricesText(listed.MaxPrices))
		}
		c = *listed
	} else if o.url != "" && (o.url != c.URL || o.key != c.Key && (o.key != "" || !overADNL(o.url))) {
		c = hostConfig{Version: 1, URL: o.url, Key: o.key}
	} else if c.URL == "" {
		return nil, nil, cli.Errorf(cli.Usage, "bombyx host add URL KEY, or give --host and --host-key", "no host is known")
	}
	key, err := parseHostKey(c.URL, c.Key)
	if err != nil {
		return nil, nil, err
	}
	if c.Window == 0 {
		card, err := h.fetchCard(cmd.Context(), &c, key)
		if err != nil {
			return nil, nil, err
		}
		key, c.Key = card.Key(), card.Host
		c.accept(card, "")
		fmt.Fprintf(cmd.ErrOrStderr(), "%s asks %s\n", c.URL, pricesText(c.MaxPrices))
	}
	return &c, key, nil
}

// completeModel offers the recorded host's model. It asks nobody: completing a word must not tell a host that one is at work.
func (h *home) completeModel(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var c hostConfig
	if path, err := h.at(hostFile); err == nil {
		if _, err := cli.ReadConfig(path, &c); err == nil {
			return []string{c.Model}, cobra.ShellCompDirectiveNoFileComp
		}
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// accept takes a card's prices for the limit and its window for ours.
func (c *hostConfig) accept(card *client.Card, model string) {
	c.Model, c.Window = model, card.Window
	if c.Model == "" {
		c.Model = card.Enclaves[0].Models[0]
	}
	c.MaxPrices = card.Prices[c.Model]
}

// reach is the part of a client's configuration that says where a host is.
func (h *home) reach(url string, key ed25519.PublicKey) (cfg client.Config, err error) {
	cfg.Host, cfg.HostKey = url, key
	if overADNL(url) {
		cfg.Network, err = h.network()
	}
	return cfg, err
}

// fetchCard asks a host for its card. A host that was taken from a registry must still be listed there.
func (h *home) fetchCard(ctx context.Context, host *hostConfig, key ed25519.PublicKey) (*client.Card, error) {
	cfg, err := h.reach(host.URL, key)
	if err != nil {
		return nil, err
	}
	cfg.Listed, cfg.Timeout = host.listed(h), 20*time.Second
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

// policy reads the policy of requests: there is no default, because only the user can say which images to trust.
func (h *home) policy() (*policy.Policy, error) {
	path, err := h.at(policyFile)
	if err != nil {
		return nil, err
	}
	if !exists(path) {
		return nil, cli.Errorf(cli.Usage, "put one there: only you can say which guest images and builds you trust; bombyx policy example prints one to start from",
			"%s: no appraisal policy", path)
	}
	return readPolicy(path)
}

func readPolicy(path string) (*policy.Policy, error) {
	b, err := cli.ReadFile(path, policy.MaxDocument)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(b)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, cli.EncodingOr(b, "fix the policy: every member is required, unknown ones are refused"), "%s: %w", path, err)
	}
	return p, nil
}

// collateral reads the user's own collateral; nil when there is none, so that the host is asked for it.
func (h *home) collateral() (*collateral.Bundle, error) {
	path, err := h.at(collateralPath)
	if err != nil {
		return nil, err
	}
	if !exists(path) {
		return nil, nil
	}
	inputs, err := readCollateral(path, io.Discard)
	if err != nil {
		return nil, err
	}
	return newBundle(inputs)
}

// network reads network.json.
func (h *home) network() ([]byte, error) {
	path, err := h.at(networkFile)
	if err != nil {
		return nil, err
	}
	if !exists(path) {
		return nil, cli.Errorf(cli.Usage, "put the network's global.config.json there (TON's is https://ton.org/global.config.json; bombyx devnet --config writes one)", "%s: no network", path)
	}
	return cli.ReadFile(path, 1<<20)
}

// config reads network.json.
func (h *home) config() (raw []byte, c *ton.Config, err error) {
	if raw, err = h.network(); err != nil {
		return nil, nil, err
	}
	if c, err = ton.ParseConfig(raw); err != nil {
		return nil, nil, cli.Errorf(cli.Usage, "put the network's global.config.json there, as TON publishes it", "%s: %w", networkFile, err)
	}
	return raw, c, nil
}

// globalID is the id of the network that network.json describes. It connects only where the file does not tell.
func (h *home) globalID(ctx context.Context) (int32, error) {
	_, c, err := h.config()
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
	b, _, err := h.config()
	if err != nil {
		return nil, err
	}
	memory, err := h.at(keyBlockFile)
	if err != nil {
		return nil, err
	}
	c, err := ton.Dial(ctx, b, ton.Options{Memory: memory,
		Progress: func(seqno, newest uint32) {
			fmt.Fprintf(os.Stderr, "bombyx: proving the chain once, from its pinned block: at block %d of %d\n", seqno, newest)
		},
		Warn: func(err error) { fmt.Fprintln(os.Stderr, "bombyx: warning:", err) }})
	if err != nil {
		return nil, chainFault(err)
	}
	return c, nil
}

// openWallet decrypts the wallet. Wipe it.
func (h *home) openWallet(ctx context.Context, chain ton.Chain) (*wallet.Wallet, error) {
	path, err := h.at(walletFile)
	if err != nil {
		return nil, err
	}
	if !exists(path) {
		return nil, cli.Errorf(cli.Usage, "bombyx wallet new, or bombyx wallet import", "%s: no wallet", path)
	}
	pass, err := h.askPassphrase(ctx, "Passphrase of "+path+": ")
	if err != nil {
		return nil, err
	}
	w, err := wallet.Load(path, pass)
	if err != nil {
		return nil, walletFault(err)
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

// belongs refuses a wallet of another network than the chain's.
func belongs(w *wallet.Wallet, chain ton.Chain) error {
	if chain.GlobalID() != w.GlobalID() {
		return cli.Errorf(cli.Usage, "use the network.json that belongs to this wallet, or another --home", "the wallet is for network %d, %s for %d", w.GlobalID(), networkFile, chain.GlobalID())
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
	path, err := h.make(storeFile)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, path, time.Now)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "restore the file, or move it away: bombyx channel recover finds the channels again", "%w", err)
	}
	return s, nil
}

// channelKey derives the key that signs a channel's vouchers from the wallet, so that no file holds it.
func channelKey(w *wallet.Wallet, salt uint64, payee channel.Address) (ed25519.PrivateKey, error) {
	var b [40]byte
	for i := range 8 {
		b[i] = byte(salt >> (56 - 8*i))
	}
	copy(b[8:], payee[:])
	seed, err := w.DeriveKey(b[:], "bombyx/1 channel key")
	if err != nil {
		return nil, err
	}
	defer clear(seed[:])
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

func walletFault(err error) error {
	switch {
	case errors.Is(err, wallet.ErrPassphrase):
		return cli.Errorf(cli.Usage, "try again; without passphrase only the 24 words bring the wallet back: bombyx wallet import", "%w", err)
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
