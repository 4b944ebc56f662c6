// Command bombyx-host is the provider's side: it offers enclaves on a signed
// card, relays sealed requests, keeps the ledger and claims on TON. It sees
// ciphertext only. docs/operating.md is its manual.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/host/monitor"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/cli/command"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// config is host.json. Every member is required unless it says optional.
type config struct {
	Listen       string     `json:"listen"`        // address and port; without TLS a loopback address; optional with adnl
	TLSCert      string     `json:"tls_cert"`      // optional: PEM chain; clients pin the host key, this hides who talks to whom
	TLSKey       string     `json:"tls_key"`       // optional: PEM key
	Identity     string     `json:"identity"`      // file with the Ed25519 seed in hexadecimal: lose it, and every client must be told a new key
	Network      string     `json:"network"`       // TON's global.config.json; its chain decides what a channel holds
	GlobalID     int32      `json:"global_id"`     // -239 mainnet, -3 testnet: a voucher for another network is refused
	Payee        string     `json:"payee"`         // the only account that claims pay: check it twice
	Wallet       string     `json:"wallet"`        // optional: wallet file that pays for small claims
	Passphrase   string     `json:"passphrase"`    // optional: file with the wallet's passphrase
	Prices       price.List `json:"prices"`        // nanogram per million tokens, by model; the enclave must have the same
	Window       uint64     `json:"window"`        // nanogram of credit ahead of delivery that clients should give
	MinDeposit   uint64     `json:"min_deposit"`   // nanogram a channel must hold
	ClosingDelay uint32     `json:"closing_delay"` // seconds a channel must leave for claims: longer than any outage of yours
	CardLifetime uint32     `json:"card_lifetime"` // seconds: how long clients may keep prices
	Ledger       string     `json:"ledger"`        // SQLite file or postgres:// URL: the money; back it up
	Collateral   string     `json:"collateral"`    // optional: bundle handed to clients; a new one is taken up when the file is replaced
	Drain        string     `json:"drain"`         // optional: file that lists enclaves which get no new requests, an id a line; taken up when it changes
	Monitor      string     `json:"monitor"`       // optional: unix:PATH or tcp:127.0.0.1:PORT, where metrics and a page are served to you
	Epoch        uint32     `json:"epoch"`         // optional: seconds that one evidence document serves all clients whose policies accept it; without, each has its own made
	ADNL         struct {
		Listen  string `json:"listen"`  // address and port
		Address string `json:"address"` // optional: what is published, where it is another; IP and port
	} `json:"adnl"` // optional: clients find the host by its ADNL id, without a name or a certificate
	Claims struct {
		Every     uint32 `json:"every"`     // seconds between looks at the channels
		Threshold uint64 `json:"threshold"` // nanogram worth a claim's fee
		Age       uint32 `json:"age"`       // seconds after which less is claimed too
		Margin    uint32 `json:"margin"`    // seconds before a deadline that everything is claimed
	} `json:"claims"`
	Enclaves []struct {
		ID      string `json:"id"`      // in URLs and on the card
		Address string `json:"address"` // unix:PATH, tcp:127.0.0.1:PORT or vsock:CID:PORT
	} `json:"enclaves"`
}

// ledgerClock is the ledger's, by which processes of a fleet tell whether they are
// missed; a test lets minutes of it pass.
var ledgerClock = time.Now

func main() { command.Main(root()) }

func root() *cobra.Command {
	c := &cobra.Command{Use: "bombyx-host", Short: "Relay sealed requests to enclaves and be paid on TON",
		Long: "bombyx-host offers enclaves on a signed card, admits requests against vouchers, relays\nciphertext both ways, and claims what it earned on TON. It can read nothing it relays."}
	var path string
	withConfig := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().StringVar(&path, "config", "host.json", "configuration file")
		cmd.Args = cobra.NoArgs
		return cmd
	}
	var asJSON bool
	earnings := withConfig(&cobra.Command{Use: "earnings", Short: "Show what each enclave earned, day by day",
		RunE: func(cmd *cobra.Command, _ []string) error { return earnings(cmd, path, asJSON) }})
	earnings.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(
		withConfig(&cobra.Command{Use: "serve", Short: "Serve clients until interrupted",
			Long: `serve offers the enclaves of the configuration (docs/operating.md describes every member)
on a signed card, relays requests to them, and claims what they earn. It prints where it
serves, logs to standard error, and can be ended and started again at any time: nothing
is lost.`,
			RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd, path) }}),
		&cobra.Command{Use: "init FILE", Short: "Make an identity key in FILE and print the public key that clients pin", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return initIdentity(cmd, args[0]) }},
		earnings, withConfig(entryCommand(&path)))
	return c
}

// entryCommand prints what a registry should say of this host.
func entryCommand(path *string) *cobra.Command {
	var endpoints []string
	var ceiling uint64
	c := &cobra.Command{Use: "entry", Short: "Print this host's entry for a registry",
		Long: `entry prints the document that lists this host in a registry: identity key, ADNL address,
endpoints, payee, and the configured prices as the most that you will ask. Clients who
take the host from the registry refuse a card with another payee or higher prices, so
leave yourself room with --ceiling: a new entry waits for the registry's delay. Whoever
owns the registry publishes it, you or somebody else:

  bombyx registry propose REGISTRY entry.json --kind card --name NAME`,
		Example: "  bombyx-host entry --config host.json --endpoint https://host.example > entry.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printEntry(cmd, *path, endpoints, ceiling)
		}}
	c.Flags().StringArrayVar(&endpoints, "endpoint", nil, "where clients reach you: https://... or adnl:..., in order of preference (repeatable)")
	c.Flags().Uint64Var(&ceiling, "ceiling", 100, "the listed prices in percent of the configured ones")
	c.MarkFlagRequired("endpoint")
	return c
}

func printEntry(cmd *cobra.Command, path string, endpoints []string, ceiling uint64) error {
	var c config
	if _, err := cli.ReadConfig(path, &c); err != nil {
		return err
	}
	if ceiling < 100 || ceiling > 10_000 {
		return cli.Errorf(cli.Usage, "choose 100 to 10000", "--ceiling %d is out of range", ceiling)
	}
	if err := c.Prices.Check(); err != nil {
		return cli.Errorf(cli.Usage, "fix the prices in the configuration", "%w", err)
	}
	identity := c.Identity
	if !filepath.IsAbs(identity) {
		identity = filepath.Join(filepath.Dir(path), identity)
	}
	key, err := readIdentity(identity)
	if err != nil {
		return err
	}
	defer clear(key)
	pub := key.Public().(ed25519.PublicKey)
	payee, err := parsePayee(c.Payee)
	if err != nil {
		return err
	}
	e := &card.Entry{Version: 1, Host: hex.EncodeToString(pub), ADNL: strings.TrimPrefix(adnl.IDOf(pub).String(), adnl.Scheme), Endpoints: endpoints, Network: c.GlobalID, Payee: payee.Raw(), Prices: price.List{}}
	for model, p := range c.Prices {
		for _, x := range []*uint64{&p.Prompt, &p.Cached, &p.Completion, &p.Reasoning} {
			*x = min(*x*ceiling/100, price.MaxPrice) // at most 10^15 * 10^4
		}
		e.Prices[model] = p
	}
	b, err := e.Encode()
	if err != nil {
		return cli.Errorf(cli.Usage, "see bombyx-host entry --help", "%w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
	return err
}

func parsePayee(s string) (channel.Address, error) {
	a, err := address.ParseAddr(s)
	var out channel.Address
	if err == nil {
		out, err = channel.AddressOf(a)
	}
	if err != nil {
		return out, cli.Errorf(cli.Usage, "give a basechain address such as UQ...", "payee: %w", err)
	}
	return out, nil
}

func initIdentity(cmd *cobra.Command, path string) error {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return cli.Errorf(cli.Usage, "choose another file; an identity is never overwritten", "%w", err)
	}
	_, werr := fmt.Fprintf(f, "%x\n", key.Seed())
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%x\n", pub)
	return nil
}

func readIdentity(path string) (ed25519.PrivateKey, error) {
	b, err := cli.ReadSecret(path)
	if err != nil {
		return nil, of("identity", err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, cli.Errorf(cli.Usage, "make one with bombyx-host init", "identity: %s holds none", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// of says which member of the configuration a file's error is of.
func of(member string, err error) error {
	var e *cli.Error
	if errors.As(err, &e) {
		return cli.Errorf(e.Code, e.Hint, "%s: %w", member, e.Err)
	}
	return err
}

// A setup is what a configuration describes.
type setup struct {
	*host.Host
	doors   []entrance
	monitor http.Handler // shows it to the provider
	window  net.Listener // where; nil for nowhere
	close   func()
}

// setUp builds a host from its configuration. The caller closes it.
func setUp(ctx context.Context, c *config, dir string, journal *monitor.Journal) (s *setup, err error) {
	log := slog.New(journal)
	var closers []func()
	end := func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	at := func(path string) string { return in(dir, path) }
	cfg := host.Config{Network: c.GlobalID, Prices: c.Prices, Window: c.Window, MinDeposit: c.MinDeposit,
		ClosingDelay: seconds(c.ClosingDelay), CardLifetime: seconds(c.CardLifetime),
		Claims: host.Claims{Every: seconds(c.Claims.Every), Threshold: c.Claims.Threshold, Age: seconds(c.Claims.Age), Margin: seconds(c.Claims.Margin)},
		Now:    time.Now, Log: log}
	required := map[string]string{"identity": c.Identity, "payee": c.Payee, "network": c.Network, "ledger": c.Ledger}
	if c.Wallet != "" {
		required["passphrase"] = c.Passphrase
	}
	for name, value := range required {
		if value == "" {
			return nil, cli.Errorf(cli.Usage, "docs/operating.md describes every member", "%s is missing", name)
		}
	}
	if cfg.Identity, err = readIdentity(at(c.Identity)); err != nil {
		return nil, err
	}
	if cfg.Payee, err = parsePayee(c.Payee); err != nil {
		return nil, err
	}
	if c.Collateral != "" {
		file, err := host.OpenCollateral(at(c.Collateral), log)
		if err != nil {
			return nil, cli.Errorf(cli.Usage, "make one: bombyx collateral fetch -o "+c.Collateral+" EVIDENCE", "collateral: %w", err)
		}
		cfg.Collateral = file.Bundle
	}
	network, err := cli.ReadFile(at(c.Network), 1<<20)
	if err != nil {
		return nil, of("network", err)
	}
	if _, err := ton.ParseConfig(network); err != nil {
		return nil, cli.Errorf(cli.Usage, "give the network's global.config.json, as TON publishes it", "%s: %w", at(c.Network), err)
	}
	source, state := c.Ledger, dir
	if !strings.Contains(source, "://") {
		source = at(source)
		state = filepath.Dir(source)
	}
	chain, err := ton.Dial(ctx, network, ton.Options{Memory: filepath.Join(state, "key-block.json"),
		Progress: func(seqno, newest uint32) {
			log.Info("proving the chain once, from its pinned block", "block", seqno, "of", newest)
		},
		Warn: func(err error) { log.Warn(err.Error()) }})
	if err != nil {
		return nil, cli.Errorf(cli.Unreachable, "check the network file, and whether its liteservers are up", "%w", err)
	}
	closers = append(closers, chain.Close)
	if chain.GlobalID() != c.GlobalID {
		return nil, cli.Errorf(cli.Usage, "make global_id and network agree", "the chain's global id is %d, the configuration's %d", chain.GlobalID(), c.GlobalID)
	}
	t := &host.TON{Client: chain}
	if c.Wallet != "" {
		pass, err := cli.ReadSecret(at(c.Passphrase))
		if err != nil {
			return nil, of("passphrase", err)
		}
		if t.Wallet, err = wallet.Load(at(c.Wallet), strings.TrimRight(string(pass), "\r\n")); err != nil {
			hint := "check the passphrase file"
			if !errors.Is(err, wallet.ErrPassphrase) {
				hint = "check wallet: bombyx wallet new makes one"
			}
			return nil, cli.Errorf(cli.Usage, hint, "%w", err)
		}
		closers = append(closers, t.Wallet.Wipe)
	}
	// Before the ledger: whoever cannot serve, such as the same host started twice, must not take the enclaves from one that does.
	doors, err := entrances(c, dir, cfg.Identity.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() { shut(doors) })
	window, err := monitorListener(c, dir)
	if err != nil {
		return nil, err
	}
	if window != nil {
		closers = append(closers, func() { window.Close() })
	}
	cfg.Chain, cfg.Epochs = t, host.Epochs{Lifetime: seconds(c.Epoch), Newest: t.Newest}
	if cfg.Ledger, err = openLedger(ctx, source, ledgerClock); err != nil {
		return nil, err
	}
	writes := monitor.Measure(cfg.Ledger)
	t.Turn = cfg.Ledger.Turn
	closers = append(closers, func() { cfg.Ledger.Close() })
	for _, e := range c.Enclaves {
		a, err := cli.ParseAddr(e.Address)
		if err != nil {
			return nil, err
		}
		cfg.Enclaves = append(cfg.Enclaves, host.Enclave{ID: e.ID, Authority: "enclave", Transport: host.EnclaveTransport(a.In(dir).Dial)})
	}
	if c.Drain != "" {
		file, err := host.OpenDrain(at(c.Drain), cfg.Enclaves, log)
		if err != nil {
			return nil, cli.Errorf(cli.Usage, "write ids of enclaves of this configuration, one a line", "drain: %w", err)
		}
		cfg.Drain = file.List
	}
	h, err := host.New(ctx, cfg)
	if err != nil {
		return nil, ofLedger(err, "fix the configuration, or start it again if the database broke off")
	}
	closers = append(closers, h.Close)
	accounts := []monitor.Account{{Role: "payee", Address: cfg.Payee.Std().Bounce(false)}}
	if t.Wallet != nil && !t.Wallet.Address().Equals(cfg.Payee.Std()) {
		accounts = append(accounts, monitor.Account{Role: "wallet", Address: t.Wallet.Address()})
	}
	show := monitor.Handler(monitor.Config{Host: h, Ledger: cfg.Ledger, Writes: writes, Journal: journal, Margin: cfg.Claims.Margin,
		Accounts: accounts, Balance: t.Balance, Now: time.Now})
	return &setup{h, doors, show, window, end}, nil
}

func openLedger(ctx context.Context, source string, now func() time.Time) (*ledger.Ledger, error) {
	l, err := ledger.Open(ctx, source, now)
	if err != nil {
		return nil, ofLedger(err, "ledger is the path of a SQLite file, or a postgres:// URL: check it, and whether the database runs")
	}
	return l, nil
}

// ofLedger tells a database that does not answer from what has to be put right.
func ofLedger(err error, hint string) error {
	code := cli.Usage
	if ledger.Unreachable(err) {
		code = cli.Unreachable
	}
	return cli.Errorf(code, hint, "%w", err)
}

// in makes a path of the configuration absolute: relative ones are relative to the file.
func in(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func serve(cmd *cobra.Command, path string) error {
	ctx := cmd.Context()
	var c config
	if _, err := cli.ReadConfig(path, &c); err != nil {
		return err
	}
	journal := monitor.NewJournal(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	log := slog.New(journal)
	h, err := setUp(ctx, &c, filepath.Dir(path), journal)
	if err != nil {
		return err
	}
	defer h.close()
	srv := host.NewServer(h.Host)
	cli.TuneServer()
	done := make(chan error, len(h.doors)+2)
	running, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		if err := h.Run(running); err != nil {
			done <- cli.Errorf(cli.Usage, "let one process serve an enclave: stop one of the two, or give its enclaves ids of their own", "%w", err)
		}
	})
	work.Go(func() { // clients are told as much; the provider should not have to ask
		if _, err := h.Card(running); err != nil && running.Err() == nil {
			log.Error("no card", "err", err)
		}
	})
	for _, d := range h.doors {
		go func() { done <- d.serve(srv) }()
		if d.announce != nil {
			work.Go(func() { d.announce(running, log) })
		}
		fmt.Fprintln(cmd.OutOrStdout(), "host", d.name)
	}
	if h.window != nil {
		s := &http.Server{Handler: h.monitor, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
		defer s.Close()
		go func() { done <- s.Serve(h.window) }()
		name := c.Monitor
		if h.window.Addr().Network() == "tcp" {
			name = "http://" + h.window.Addr().String()
		}
		fmt.Fprintln(cmd.OutOrStdout(), "host shows itself on", name)
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		srv.Shutdown(grace)
		srv.Close()
	}
	stop()
	work.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func earnings(cmd *cobra.Command, path string, asJSON bool) error {
	var c config
	if _, err := cli.ReadConfig(path, &c); err != nil {
		return err
	}
	source := c.Ledger
	if !strings.Contains(source, "://") && !filepath.IsAbs(source) {
		source = filepath.Join(filepath.Dir(path), source)
	}
	l, err := openLedger(cmd.Context(), source, time.Now)
	if err != nil {
		return err
	}
	defer l.Close()
	list, err := l.Earnings(cmd.Context(), time.Unix(0, 0))
	if err != nil {
		return ofLedger(err, "look at the database, and try again")
	}
	if asJSON {
		if list == nil {
			list = []ledger.Earning{}
		}
		return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "day\tenclave\tanswers\tGRAM")
	for _, e := range list {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", e.Day.Format(time.DateOnly), e.Enclave, e.Answers, ton.Nano(e.Earned))
	}
	return w.Flush()
}
