package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/enclave/launch"
	"github.com/bombyx-network/bombyx/internal/cli"
)

// A machine is mock hardware and who vouches for it.
type machine struct {
	Authority string                     `json:"authority"` // seed of the mock authorities
	Node      attestationtest.NodeConfig `json:"node"`
}

// enclaveCommand runs the real enclave on a mock machine. It lives here and
// not in bombyx-enclave, which knows no mock hardware.
func enclaveCommand() *cobra.Command {
	var config, file string
	c := &cobra.Command{Use: "enclave", Short: "Run an enclave on mock hardware", Hidden: true, Args: cobra.NoArgs}
	c.Flags().StringVar(&config, "config", "enclave.json", "configuration document")
	c.Flags().StringVar(&file, "machine", "machine.json", "the mock machine")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		document, err := cli.ReadFile(config, launch.MaxConfig)
		if err != nil {
			return err
		}
		cfg, err := launch.Parse(document)
		if err != nil {
			return cli.ConfigError(config, document, err)
		}
		var m machine
		if _, err := cli.ReadConfig(file, &m); err != nil {
			return err
		}
		n, err := attestationtest.New(m.Authority).NewNode(m.Node)
		if err != nil {
			return err
		}
		addr, err := cli.ParseAddr(cfg.Listen)
		if err != nil {
			return err
		}
		e, err := launch.Load(cmd.Context(), document, n, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		if err != nil {
			return cli.Errorf(cli.Usage, "fix the configuration", "%w", err)
		}
		defer e.Close()
		l, err := addr.Listen()
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "enclave serves %s on %s\n", e.Manifest.Models[0].ID, addr)
		cli.TuneServer()
		return e.Serve(cmd.Context(), l)
	}
	return c
}
