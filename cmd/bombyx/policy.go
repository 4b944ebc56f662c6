package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/cli"
)

func policyCommand() *cobra.Command {
	return &cobra.Command{Use: "policy NAME", Short: "Print a built-in appraisal policy", ValidArgs: policy.Builtin(), Args: cobra.ExactArgs(1),
		Long: `policy prints a built-in appraisal policy, to read or to start from:

  genuine      what the makers vouch for, of any age, and any guest on it: to
               look at evidence, not to send a prompt under
  strict       genuine, closed, up-to-date hardware, and any guest on it
  cocoon-like  how Cocoon judges: an out-of-date TCB tolerated for a while, no
               GPU evidence
  example      strict about the guest as well; refuses everything until you
               replace its placeholders with measurements and digests that you
               trust
  registry     the same, but takes them from a registry on TON, whose address
               you put in

Every member is explained in "go doc -all" of package attestation/policy, and the numbers
of strict, with their sources, in "go doc" of policy.Strict.`,
		Example: "  bombyx policy example > policy.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			document, ok := policy.Document(args[0])
			if !ok {
				return cli.Errorf(cli.Usage, "there are "+strings.Join(policy.Builtin(), ", "), "no built-in policy %.80q", args[0])
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s", document)
			return err
		}}
}
