// Command bombyx is for clients and verifiers: it appraises evidence, chats
// with attested models, serves an OpenAI-compatible endpoint on loopback, and
// keeps the wallet and the channels that pay for it. README.md shows a first
// session.
package main

import (
	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli/command"
)

func main() { command.Main(root()) }

func root() *cobra.Command {
	c := &cobra.Command{Use: "bombyx", Short: "Private AI inference on other people's machines",
		Long: `bombyx talks to language models inside confidential VMs. Before a word leaves this
machine it appraises the hardware's evidence; prompts and answers are sealed end to
end; answers are paid for in Gram on TON, token by token.

Exit codes: 0 done, 1 refused (evidence, answer or peer), 2 usage or configuration,
3 collateral missing, 4 unreachable, 5 not enough money, 130 interrupted.`,
		Example: `  bombyx wallet new && bombyx wallet show
  bombyx host add https://host.example KEY
  bombyx channel open 2
  bombyx chat "What is remote attestation?"
  bombyx channel close

  bombyx verify --collateral ./collateral quote.bin`}
	h := new(home)
	h.flags(c)
	c.AddCommand(verifyCommand(h), inspectCommand(), measureCommand(), collateralCommand(h), policyCommand(), hostCommand(h), walletCommand(h), channelCommand(h), registryCommand(h), chatCommand(h), proxyCommand(h), devnetCommand())
	return c
}
