package main

import (
	"cmp"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

func hostCommand(h *home) *cobra.Command {
	c := &cobra.Command{Use: "host", Short: "Choose the hosts that serve you",
		Long: `A host is pinned by its identity key: its prices and the account that it is paid on count
only under that key's signature. The host itself is not trusted with anything else.

With several hosts, each paid from a channel of its own, chat and proxy send a request to
the first on the list that takes it: one that is down, fails its appraisal, does not serve
the model or asks more than you accepted is passed over. A request that a host has perhaps
run goes to no other: both would be paid.`,
		Example: "  bombyx host add https://host.example 5f3c...\n  bombyx host list\n  bombyx host show"}
	c.AddCommand(hostAdd(h), hostList(h), hostShow(h), hostRemove(h))
	return c
}

func hostAdd(h *home) *cobra.Command {
	var model, window, from string
	var first bool
	c := &cobra.Command{Use: "add URL KEY | add adnl:ID | add --registry REGISTRY NAME", Short: "Pin a host and accept its prices", Args: cobra.RangeArgs(1, 2),
		Long: `add asks the host for its card, verifies it under KEY (64 hexadecimal digits, from a
registry or from the provider itself), and records in hosts.json: URL, key, the model to
use, its present prices as the limit, and the window: the credit that all running requests
together get ahead of delivery. A host that raises its prices is refused until you add it
again. It comes behind the hosts that are there; one that is there already keeps its place.

A host that is named by its ADNL id needs no key: the id is its hash. It is found in the DHT
of the network that network.json describes, without DNS or certificates.

With --registry it takes URL and key from the host's entry there. The entry also pins the
payee and the highest prices, and has to stay: whenever the host's card is fetched the
registry is read, and a host that it no longer lists, or lists otherwise, is refused.
Which registries to believe is up to you.`,
		Example: "  bombyx host add https://host.example 5f3c... --model qwen3-8b\n  bombyx host add adnl:3b6a...\n  bombyx host add --registry EQ... alice"}
	c.Flags().StringVarP(&model, "model", "m", "", "model to use unless a request names another (default the first on the card)")
	c.Flags().StringVar(&window, "window", "", "the most, in GRAM, that the host can take without delivering, all requests together (default the card's)")
	c.Flags().BoolVar(&first, "first", false, "ask it before the others")
	c.Flags().StringVar(&from, "registry", "", "take the host from this registry: EQ... or 0:...")
	h.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if from != "" && len(args) == 2 || from == "" && len(args) == 1 && !(&profile.Host{URL: args[0]}).OverADNL() {
			return cli.Errorf(cli.Usage, "bombyx host add URL KEY, bombyx host add adnl:ID, or bombyx host add --registry REGISTRY NAME", "a host takes its key, or a registry that lists it")
		}
		var cfg *profile.Host
		var card *client.Card
		var err error
		if from != "" {
			cfg, card, err = h.fromRegistry(cmd.Context(), from, args[0])
		} else {
			cfg = &profile.Host{URL: args[0]}
			if len(args) > 1 {
				cfg.Key = args[1]
			}
			var key ed25519.PublicKey
			if key, err = cfg.PublicKey(); err == nil {
				card, err = h.fetchCard(cmd.Context(), cfg, key)
			}
		}
		if err != nil {
			return err
		}
		if model != "" && len(card.Serving(model)) == 0 {
			return cli.Errorf(cli.Usage, "choose one of "+strings.Join(models(card), ", "), "the host does not serve %.100q", model)
		}
		cfg.Key = strings.ToLower(card.Host)
		accept(cfg, card, model)
		if window != "" {
			n, err := parseAmount(window)
			if err != nil {
				return err
			}
			cfg.Window = uint64(n)
		}
		showCard(cmd, cfg, card)
		if err := h.confirm(cmd, "Use this host at these prices?"); err != nil {
			return err
		}
		return h.keepHost(cfg, first)
	}
	return c
}

// keepHost records a host, in the place of what was known of it.
func (h *home) keepHost(c *profile.Host, first bool) error {
	d, err := h.profile()
	if err != nil {
		return err
	}
	return d.ChangeHosts(func(all []profile.Host) ([]profile.Host, error) {
		i := slices.IndexFunc(all, func(h profile.Host) bool { return strings.EqualFold(h.Key, c.Key) })
		switch {
		case i >= 0 && first:
			return slices.Insert(slices.Delete(all, i, i+1), 0, *c), nil
		case i >= 0:
			all[i] = *c
			return all, nil
		case first:
			return slices.Insert(all, 0, *c), nil
		}
		return append(all, *c), nil
	})
}

func hostRemove(h *home) *cobra.Command {
	return &cobra.Command{Use: "remove HOST", Short: "Use a host no more", Args: cobra.ExactArgs(1),
		Long: `remove takes a host, named by URL, key, or its name in a registry, from hosts.json. Channels
with it stay: bombyx channel close returns what is left in them.`,
		Example:           "  bombyx host remove https://host.example",
		ValidArgsFunction: h.completeHosts,
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := h.profile()
			if err != nil {
				return err
			}
			return d.ChangeHosts(func(all []profile.Host) ([]profile.Host, error) {
				i, err := find(all, args[0])
				if err != nil {
					return nil, err
				}
				return slices.Delete(all, i, i+1), nil
			})
		}}
}

func hostList(h *home) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the recorded hosts in the order in which they are asked", Args: cobra.NoArgs,
		Long: `list prints what hosts.json says: each host, the model that is used unless a request names
another, the prices that were accepted and the window. It asks nobody.`,
		Example: "  bombyx host list\n  bombyx host list --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print the hosts as JSON, one a line")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := h.profile()
		if err != nil || !d.Has(profile.HostsFile) {
			return err
		}
		all, err := d.Hosts()
		if err != nil {
			return err
		}
		for _, one := range all {
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), one); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n    key      %s\n    model    %s\n    accepts  %s\n    window   %s GRAM\n", one.URL, one.Key, one.Model, pricesText(one.MaxPrices), ton.Nano(one.Window))
			if one.Registry != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "    listed   as %q in %s\n", one.Name, one.Registry)
			}
		}
		return nil
	}
	return c
}

func hostShow(h *home) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show [HOST]", Short: "Show what hosts offer now", Args: cobra.MaximumNArgs(1),
		Long: `show fetches the card of a recorded host, named by URL, key, or its name in a registry, or of
all of them.`,
		Example: "  bombyx host show\n  bombyx host show --json https://host.example", ValidArgsFunction: h.completeHosts}
	c.Flags().BoolVar(&asJSON, "json", false, "print the hosts' cards as JSON, one a line")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := h.hosts(cmd, hostChoice{})
		if err != nil {
			return err
		}
		if len(args) > 0 {
			i, err := find(all, args[0])
			if err != nil {
				return err
			}
			all = all[i : i+1]
		}
		var failed error // the first
		shown := false
		for _, one := range all {
			key, err := one.PublicKey()
			if err != nil {
				return err
			}
			card, err := h.fetchCard(cmd.Context(), &one, key)
			switch {
			case err != nil:
				if len(all) > 1 { // the others may answer
					fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: %s: %s\n", one.URL, cli.Printable(err.Error()))
				}
				failed = cmp.Or(failed, err)
				continue
			case asJSON:
				if err := printJSON(cmd.OutOrStdout(), card); err != nil {
					return err
				}
				continue
			case shown:
				fmt.Fprintln(cmd.OutOrStdout())
			}
			showCard(cmd, &one, card)
			shown = true
		}
		return failed
	}
	return c
}

func showCard(cmd *cobra.Command, cfg *profile.Host, card *client.Card) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "host     %s\nkey      %s\npayee    %s on network %d\nclosing  %s, at least %s GRAM deposit\nwindow   %s GRAM ahead of delivery\n",
		cfg.URL, cfg.Key, friendly(card.Payee), card.Network, time.Duration(card.ClosingDelay)*time.Second, ton.Nano(card.MinDeposit), ton.Nano(cfg.Window))
	if cfg.Registry != "" {
		fmt.Fprintf(out, "listed   as %q in %s\n", cfg.Name, cfg.Registry)
	}
	for _, m := range models(card) {
		mark := " "
		if m == cfg.Model {
			mark = "*"
		}
		fmt.Fprintf(out, "%s %s\n    %s\n", mark, m, pricesText(card.Prices[m]))
	}
}

// friendly is a raw address as wallets show it, UQ...
func friendly(raw string) string {
	a, err := channel.ParseRaw(raw)
	if err != nil {
		return fmt.Sprintf("%.80q", raw)
	}
	return a.Std().Bounce(false).String()
}

func models(c *client.Card) []string {
	var all []string
	for _, e := range c.Enclaves {
		all = append(all, e.Models...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
