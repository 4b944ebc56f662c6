package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
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
	c := &cobra.Command{Use: "host", Short: "Choose the host that serves you",
		Long: `A host is pinned by its identity key: its prices and the account that it is paid on count
only under that key's signature. The host itself is not trusted with anything else.`,
		Example: "  bombyx host add https://host.example 5f3c...\n  bombyx host show"}
	c.AddCommand(hostAdd(h), hostShow(h))
	return c
}

func hostAdd(h *home) *cobra.Command {
	var model, window, from string
	c := &cobra.Command{Use: "add URL KEY | add adnl:ID | add --registry REGISTRY NAME", Short: "Pin a host and accept its prices", Args: cobra.RangeArgs(1, 2),
		Long: `add asks the host for its card, verifies it under KEY (64 hexadecimal digits, from a
registry or from the provider itself), and records in host.json: URL, key, the model to
use, its present prices as the limit, and the window: the credit that all running requests
together get ahead of delivery. A host that raises its prices is refused until you add it again. It replaces the
host that was there before; channels with that one stay.

A host that is named by its ADNL id needs no key: the id is its hash. It is found in the DHT
of the network that network.json describes, without DNS or certificates.

With --registry it takes URL and key from the host's entry there. The entry also pins the
payee and the highest prices, and has to stay: whenever the host's card is fetched the
registry is read, and a host that it no longer lists, or lists otherwise, is refused.
Which registries to believe is up to you.`,
		Example: "  bombyx host add https://host.example 5f3c... --model qwen3-8b\n  bombyx host add adnl:3b6a...\n  bombyx host add --registry EQ... alice"}
	c.Flags().StringVarP(&model, "model", "m", "", "model to use unless a request names another (default the first on the card)")
	c.Flags().StringVar(&window, "window", "", "the most, in GRAM, that the host can take without delivering, all requests together (default the card's)")
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
			cfg = &profile.Host{Version: 1, URL: args[0]}
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
		if model != "" && card.Enclave(model) == nil {
			return cli.Errorf(cli.Usage, "choose one of "+strings.Join(models(card), ", "), "the host does not serve %.100q", model)
		}
		cfg.Key = card.Host
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
		return h.keepHost(cfg)
	}
	return c
}

// keepHost replaces host.json in one step.
func (h *home) keepHost(c *profile.Host) error {
	path, err := h.make(profile.HostFile)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = os.WriteFile(path+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return cli.Errorf(cli.Usage, "make sure that the home directory can be written, and that the disk is not full", "%w", err)
	}
	return nil
}

func hostShow(h *home) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show", Short: "Show the host and what it offers now", Args: cobra.NoArgs,
		Long:    "show prints the recorded host and fetches its card as it is now.",
		Example: "  bombyx host show\n  bombyx host show --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print the host's card as JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, key, err := h.host(cmd, hostChoice{})
		if err != nil {
			return err
		}
		card, err := h.fetchCard(cmd.Context(), cfg, key)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), card)
		}
		showCard(cmd, cfg, card)
		return nil
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
