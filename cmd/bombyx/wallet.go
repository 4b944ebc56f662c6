package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/address"
	"rsc.io/qr"

	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

func walletCommand(h *home) *cobra.Command {
	c := &cobra.Command{Use: "wallet", Short: "Keep the wallet that pays",
		Long: `The wallet is a TON wallet (V5R1), backed up by 24 words. It lies in wallet.age in the
home directory, encrypted with a passphrase (age-encryption.org), and belongs to the
network that network.json in the same place describes: a global.config.json as TON
publishes it, or as "bombyx devnet --config" writes one.`,
		Example: "  bombyx wallet new\n  bombyx wallet show\n  bombyx wallet send UQ... 1.5"}
	c.AddCommand(walletNew(h), walletImport(h), walletShow(h), walletSend(h), walletExport(h))
	return c
}

func walletNew(h *home) *cobra.Command {
	c := &cobra.Command{Use: "new", Short: "Make a wallet with fresh words", Args: cobra.NoArgs,
		Long: `new makes a wallet and prints its address. Write its 24 words down before money comes in:
"bombyx wallet export" shows them. Whoever has the words has the money; without words
and passphrase nobody has it.`,
		Example: "  bombyx wallet new\n  bombyx wallet export"}
	h.passphraseFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		err := h.keepWallet(cmd, func(id int32) (*wallet.Wallet, error) { return wallet.New(id) })
		if err == nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "Write its words down before you fund it: bombyx wallet export")
		}
		return err
	}
	return c
}

func walletImport(h *home) *cobra.Command {
	c := &cobra.Command{Use: "import", Short: "Bring a wallet back from its 24 words", Args: cobra.NoArgs,
		Long: `import reads 24 words (a TON mnemonic, not BIP-39) from the terminal or standard input.
The address depends on the network: the same words are another account on another one.`,
		Example: "  bombyx wallet import\n  bombyx wallet import --passphrase-file pass < words.txt"}
	h.passphraseFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if isTerminal(os.Stdin) {
			fmt.Fprintln(cmd.ErrOrStderr(), "The 24 words, in one line (they are not shown):")
		}
		var words string
		var err error
		if isTerminal(os.Stdin) {
			err = withoutEcho(os.Stdin, func() (err error) {
				words, err = readLine(cmd.Context(), os.Stdin)
				return err
			})
		} else { // a file may have them one a line
			var b []byte
			b, err = io.ReadAll(io.LimitReader(os.Stdin, 4096))
			words = string(b)
		}
		if err == nil && strings.TrimSpace(words) == "" {
			err = errors.New("nothing was given")
		}
		if err != nil {
			return cli.Errorf(cli.Usage, "give the 24 words on standard input", "no words: %w", err)
		}
		return h.keepWallet(cmd, func(id int32) (*wallet.Wallet, error) { return wallet.FromWords(words, id) })
	}
	return c
}

// keepWallet makes a wallet for the network and saves it.
func (h *home) keepWallet(cmd *cobra.Command, make func(globalID int32) (*wallet.Wallet, error)) error {
	path, err := h.make(profile.WalletFile)
	if err != nil {
		return err
	}
	if profile.Exists(path) {
		return cli.Errorf(cli.Usage, "move it away, or use another --home: a wallet is never overwritten", "%s exists", path)
	}
	id, err := h.globalID(cmd.Context())
	if err != nil {
		return err
	}
	w, err := make(id)
	if err != nil {
		return cli.Errorf(cli.Usage, "check the words and their order", "%w", err)
	}
	defer w.Wipe()
	pass, err := h.newPassphrase(cmd)
	if err != nil {
		return err
	}
	if err := w.Save(path, pass); err != nil {
		return cli.Errorf(cli.Usage, "make sure that the home directory can be written, and that the disk is not full", "%w", err)
	}
	fmt.Fprintln(cmd.OutOrStdout(), w.Address())
	return nil
}

func (h *home) newPassphrase(cmd *cobra.Command) (string, error) {
	pass, err := h.askPassphrase(cmd.Context(), "Choose a passphrase, 8 characters or more: ")
	if err != nil {
		return "", err
	}
	if len(pass) < 8 {
		return "", cli.Errorf(cli.Usage, "choose a longer one: it stands between whoever copies the file and the money", "a passphrase of fewer than 8 characters")
	}
	if h.passphrase == "" {
		again, err := h.askPassphrase(cmd.Context(), "Once more: ")
		if err != nil {
			return "", err
		}
		if again != pass {
			return "", cli.Errorf(cli.Usage, "try again", "the two passphrases differ")
		}
	}
	return pass, nil
}

func walletShow(h *home) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show", Short: "Show address and balance, and how to fund it", Args: cobra.NoArgs,
		Long: `show prints the wallet's address, its proven balance, and a ton:// link and
a QR code that a phone wallet opens. Without a connection it prints all but the balance,
and ends with exit code 4.`,
		Example: "  bombyx wallet show\n  bombyx wallet show --json"}
	h.passphraseFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; amounts in nanogram")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		w, err := h.openWallet(cmd.Context(), nil)
		if err != nil {
			return err
		}
		defer w.Wipe()
		balance, missing := h.balance(cmd.Context(), w)
		if missing != nil && !unreachable(missing) {
			return missing
		}
		link := w.Link(0)
		out := cmd.OutOrStdout()
		if asJSON {
			o := map[string]any{"address": w.Address().String(), "network": w.GlobalID(), "link": link}
			if missing == nil {
				o["balance"] = balance
			}
			return errors.Join(printJSON(out, o), missing)
		}
		shown := "unknown"
		if missing == nil {
			shown = balance.String() + " GRAM"
		}
		fmt.Fprintf(out, "address  %s\nnetwork  %d\nbalance  %s\nfund it  %s\n", w.Address(), w.GlobalID(), shown, link)
		if isTerminal(os.Stdout) {
			return errors.Join(showQR(os.Stdout, link), missing)
		}
		return missing
	}
	return c
}

// unreachable says that an error is for want of a connection.
func unreachable(err error) bool {
	var e *cli.Error
	return errors.As(err, &e) && e.Code == cli.Unreachable
}

// balance asks the chain what the wallet holds.
func (h *home) balance(ctx context.Context, w *wallet.Wallet) (ton.Nano, error) {
	chain, err := h.chain(ctx)
	if err != nil {
		return 0, err
	}
	defer chain.Close()
	if err := belongs(w, chain); err != nil {
		return 0, err
	}
	n, err := w.Balance(ctx, chain)
	if err != nil {
		return 0, walletFault(err)
	}
	return n, nil
}

func walletSend(h *home) *cobra.Command {
	var comment string
	var asJSON bool
	c := &cobra.Command{Use: "send ADDRESS AMOUNT", Short: "Send GRAM", Args: cobra.ExactArgs(2),
		Long: `send transfers AMOUNT in GRAM, such as 1.5, and returns once the transfer is proven. The
network's fee, below 0.02 GRAM and mostly a sixth of that, comes on top. An address of the
form EQ... is a contract's, which must be there; one of the form UQ... need not be in use yet.`,
		Example: "  bombyx wallet send UQ... 1.5\n  bombyx wallet send --yes --comment 'for November' UQ... 12"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; amounts in nanogram")
	c.Flags().StringVar(&comment, "comment", "", "text that the receiver sees, at most 500 bytes; it is public")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		to, err := address.ParseAddr(args[0])
		if err != nil {
			return cli.Errorf(cli.Usage, "give an address such as UQ... or EQ...", "%.80q: %w", args[0], err)
		}
		amount, err := parseAmount(args[1])
		if err != nil {
			return err
		}
		chain, err := h.chain(cmd.Context())
		if err != nil {
			return err
		}
		defer chain.Close()
		w, err := h.openWallet(cmd.Context(), chain)
		if err != nil {
			return err
		}
		defer w.Wipe()
		m := wallet.Message{To: to, Amount: amount, Bounce: to.IsBounceable()}
		if comment != "" {
			if m.Body, err = wallet.Comment(comment); err != nil {
				return cli.Errorf(cli.Usage, "shorten it", "%w", err)
			}
		}
		if m.Bounce {
			acc, err := chain.Account(cmd.Context(), to)
			if err != nil {
				return chainFault(err)
			}
			if !acc.Active() {
				return cli.Errorf(cli.Usage, fmt.Sprintf("to fund an account that is not in use yet, write %s", to.Bounce(false)), "nothing is at %s, and to an address of this form the money would come back", to)
			}
		}
		if err := w.Affords(cmd.Context(), chain, amount); err != nil {
			return walletFault(err)
		}
		if err := h.confirm(cmd, fmt.Sprintf("Send %s GRAM to %s, and a fee below %s GRAM?", amount, to, wallet.FeeReserve)); err != nil {
			return err
		}
		tx, err := w.Send(cmd.Context(), chain, m)
		if err != nil {
			return walletFault(err)
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), struct {
				To          string   `json:"to"`
				Amount      ton.Nano `json:"amount"`
				Transaction string   `json:"transaction"`
			}{to.String(), amount, fmt.Sprintf("%x", tx.Hash)})
		}
		fmt.Fprintf(cmd.OutOrStdout(), "sent %s GRAM to %s in transaction %x\n", amount, to, tx.Hash)
		return nil
	}
	return c
}

func walletExport(h *home) *cobra.Command {
	c := &cobra.Command{Use: "export", Short: "Show the 24 words", Args: cobra.NoArgs,
		Long: `export prints the words that back the wallet up. Whoever reads them owns the money in it
and can sign for its channels: no camera, no clipboard, no cloud.`,
		Example: "  bombyx wallet export"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		w, err := h.openWallet(cmd.Context(), nil)
		if err != nil {
			return err
		}
		defer w.Wipe()
		if err := h.confirm(cmd, "Show the words on this screen?"); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), w.Words())
		return nil
	}
	return c
}

func parseAmount(s string) (ton.Nano, error) {
	n, err := ton.ParseNano(s)
	if err == nil && n == 0 {
		err = errors.New("the amount is zero")
	}
	if err != nil {
		return 0, cli.Errorf(cli.Usage, "write GRAM as in 12 or 0.5", "%w", err)
	}
	return n, nil
}

// showQR draws a text as a QR code, two modules a character, dark on light whatever the terminal's colours.
func showQR(w io.Writer, text string) error {
	c, err := qr.Encode(text, qr.M)
	if err != nil {
		return err
	}
	const quiet = 4 // modules of margin (ISO/IEC 18004)
	var b strings.Builder
	for y := -quiet; y < c.Size+quiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quiet; x < c.Size+quiet; x++ {
			switch top, bottom := c.Black(x, y), c.Black(x, y+1); {
			case top && bottom:
				b.WriteString("█")
			case top:
				b.WriteString("▀")
			case bottom:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}
