package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/cmd/bombyx/internal/inspect"
	"github.com/bombyx-network/bombyx/internal/cli"
)

func inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "inspect FILE", Short: "Show everything that evidence says, believed or not", Args: cobra.ExactArgs(1),
		Long: `inspect shows every field of a quote, report or composite document, or of a bare event log
its events and the registers that they lead to. It verifies nothing: anybody can write
these bytes. "bombyx verify" says whether to believe them.`,
		Example: "  bombyx inspect quote.bin\n  bombyx inspect --json evidence.json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := cli.ReadInput(cmd.InOrStdin(), args[0], attestation.MaxInput)
		if err != nil {
			return err
		}
		n, err := inspect.Read(data)
		if err != nil {
			return cli.Errorf(cli.Usage, cli.EncodingOr(data, "is it the right file?"), "%s: %w", args[0], err)
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), n)
		}
		fmt.Fprintln(cmd.OutOrStdout(), "not verified: anybody can write this")
		n.Print(cmd.OutOrStdout())
		return nil
	}
	return c
}
