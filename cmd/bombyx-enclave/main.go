// Command bombyx-enclave is the program inside the confidential VM. It holds
// the keys that the hardware vouches for, opens sealed requests, runs the
// model, and signs receipts. It writes no file and connects to nothing but its
// engine. docs/operating.md is its manual.
package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/enclave/launch"
	"github.com/bombyx-network/bombyx/enclave/tee"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/cli/command"
)

func main() { command.Main(root()) }

func root() *cobra.Command {
	c := &cobra.Command{Use: "bombyx-enclave", Short: "Serve sealed requests inside a confidential VM",
		Long: `bombyx-enclave runs inside an Intel TDX or AMD SEV-SNP guest. It refuses to start
anywhere else: without hardware there is nothing to attest. To try Bombyx without
such hardware, run bombyx-demo.`}
	var config string
	serve := &cobra.Command{Use: "serve", Short: "Serve the host until interrupted", Args: cobra.NoArgs}
	serve.Flags().StringVar(&config, "config", "enclave.json", "configuration document; its SHA-256 is part of what the hardware vouches for")
	serve.RunE = func(cmd *cobra.Command, _ []string) error {
		document, err := cli.ReadFile(config, launch.MaxConfig)
		if err != nil {
			return err
		}
		cfg, err := launch.Parse(document)
		if err != nil {
			return cli.ConfigError(config, document, err)
		}
		addr, err := cli.ParseAddr(cfg.Listen)
		if err != nil {
			return err
		}
		devices := tee.Devices{GPUs: cfg.GPUs, Switches: cfg.Switches}
		collector, err := tee.Open(devices)
		if err != nil {
			return cli.Errorf(cli.Refused, "run it in a TDX or SEV-SNP guest with /sys/kernel/config/tsm and the devices that the configuration promises", "%w", err)
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
		e, err := launch.Load(cmd.Context(), document, collector, log)
		if err != nil {
			return cli.Errorf(cli.Usage, "fix the configuration", "%w", err)
		}
		defer e.Close()
		l, err := addr.Listen()
		if err != nil {
			return cli.Errorf(cli.Usage, "choose another address", "%w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "enclave on %s (%s) serves %d models on %s\n", collector.Kind(), devices.Mode(), len(e.Manifest.Models), addr)
		cli.TuneServer()
		return e.Serve(cmd.Context(), l)
	}
	c.AddCommand(serve)
	return c
}
