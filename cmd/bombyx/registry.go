package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

// The words for kinds and statuses of records.
var (
	recordKinds    = map[string]registry.Kind{"reference": registry.Reference, "manifest": registry.Manifest, "card": registry.Card}
	recordStatuses = map[string]registry.Status{"current": registry.Current, "deprecated": registry.Deprecated, "revoked": registry.Revoked}
)

func word[T comparable](words map[string]T, v T) string {
	for w, x := range words {
		if x == v {
			return w
		}
	}
	return "unknown"
}

func choices[T any](words map[string]T) string {
	var all []string
	for w := range words {
		all = append(all, w)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func registryCommand(h *home) *cobra.Command {
	c := &cobra.Command{Use: "registry", Short: "Publish what others may trust, and read what others publish",
		Long: `A registry is a small contract on TON that holds one owner's list of records: reference
values of enclave images, model manifests, hosts. A record counts only once the
registry's delay has passed since it was proposed; only a withdrawal is immediate. Every
change leaves its mark in a history that anyone can check.

Anyone can run a registry. It means something only to those whose policy names it
("registries", see bombyx policy registry), or who take a host from it
(bombyx host add --registry).`,
		Example: `  bombyx registry create --delay 168h
  bombyx registry propose EQ... values.json --kind reference --name my-image --version 1.0
  bombyx registry apply EQ...
  bombyx registry show EQ...`}
	c.AddCommand(registryCreate(h), registryShow(h), registryPropose(h), registryApply(h), registryCancel(h), registryWithdraw(h), registryReclaim(h), registryHistory(h), registrySave(h))
	return c
}

// registryAddress reads an address in either form.
func registryAddress(s string) (*address.Address, error) {
	a, err := registry.ParseAddress(s)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "give it as EQ... or 0:..., as bombyx registry create printed it", "%w", err)
	}
	return a, nil
}

// loadRegistry reads a registry with proofs.
func loadRegistry(ctx context.Context, chain ton.Chain, at *address.Address) (*registry.Registry, error) {
	r, err := registry.Load(ctx, chain, at)
	switch {
	case errors.Is(err, registry.ErrNotRegistry):
		return nil, cli.Errorf(cli.Refused, "check the address; a registry whose rent ran out is frozen, and nobody reads it", "%s: %w", at, err)
	case err != nil:
		return nil, chainFault(err)
	}
	return r, nil
}

// openRegistry connects to the chain, which the caller closes, and reads the registry whose address was given.
func (h *home) openRegistry(ctx context.Context, arg string) (*ton.Client, *address.Address, *registry.Registry, error) {
	at, err := registryAddress(arg)
	if err != nil {
		return nil, nil, nil, err
	}
	chain, err := h.chain(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := loadRegistry(ctx, chain, at)
	if err != nil {
		chain.Close()
		return nil, nil, nil, err
	}
	return chain, at, r, nil
}

func registryCreate(h *home) *cobra.Command {
	var delay time.Duration
	var rent string
	c := &cobra.Command{Use: "create", Short: "Make a registry that this wallet owns", Args: cobra.NoArgs,
		Long: `create deploys an empty registry. Owner and delay are part of its address and cannot
change. The delay is what readers have to notice a proposal before it counts, and what a
thief of the wallet's words would have to wait; a policy can demand a minimum.

The rent that storage costs, about 0.002 GRAM a record and year, comes from --rent; any
later transfer adds to it, and bombyx registry reclaim returns what is left. A registry
whose rent is used up freezes, and readers refuse it.`,
		Example: "  bombyx registry create --delay 168h --rent 0.5"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.Flags().DurationVar(&delay, "delay", 7*24*time.Hour, "time from proposal to effect")
	c.Flags().StringVar(&rent, "rent", "0.2", "GRAM that pay for storage")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if delay < time.Second || delay > 10*365*24*time.Hour || delay%time.Second != 0 {
			return cli.Errorf(cli.Usage, "choose whole seconds, at most ten years, as in 168h", "--delay %s is out of range", delay)
		}
		amount, err := parseAmount(rent)
		if err != nil {
			return err
		}
		var salt [8]byte
		rand.Read(salt[:])
		p, err := h.publisher(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		params := registry.Params{Owner: p.wallet.Address(), Delay: uint32(delay / time.Second), Salt: binary.BigEndian.Uint64(salt[:])}
		msg, err := registry.Open(params, uint64(amount))
		if err != nil {
			return err
		}
		if err := p.affords(amount); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "registry  %s\nowner     %s, for good\ndelay     %s, for good\nrent      %s GRAM\nfees      below %s GRAM\n", msg.DstAddr, p.wallet.Address(), delay, amount, feeCreate)
		if err := h.confirm(cmd, "Create it?"); err != nil {
			return err
		}
		if _, err := p.send(msg, amount); err != nil {
			return err
		}
		if err := p.until("the registry", func(ctx context.Context) (bool, error) {
			_, err := registry.Load(ctx, p.chain, msg.DstAddr)
			return err == nil, err
		}); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), msg.DstAddr)
		return nil
	}
	return c
}

// publisher is a payer without a record of channels. Close it.
func (h *home) publisher(cmd *cobra.Command) (_ *payer, err error) {
	p := &payer{h: h, cmd: cmd, again: "bombyx registry show"}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.chain, err = h.chain(cmd.Context()); err != nil {
		return nil, err
	}
	p.wallet, err = h.openWallet(cmd.Context(), p.chain)
	return p, err
}

// owned reads a registry that the wallet must own.
func (p *payer) owned(arg string) (*registry.Registry, error) {
	at, err := registryAddress(arg)
	if err != nil {
		return nil, err
	}
	r, err := loadRegistry(p.cmd.Context(), p.chain, at)
	if err != nil {
		return nil, err
	}
	if !r.Owner.Equals(p.wallet.Address()) {
		return nil, cli.Errorf(cli.Usage, "use the owner's wallet", "%s belongs to %s, not to this wallet", at, r.Owner)
	}
	return r, nil
}

// registryGas is what goes along with a message; what the fees leave comes back.
const registryGas = ton.Nano(registry.GasValue)

// What publishing costs at mainnet's prices at most, wallet and contract together; registry.txt holds it to them.
const (
	feeCreate  = 12 * ton.Gram / 1000
	feePropose = 12 * ton.Gram / 1000 // and, because documents are carried twice,
	feeByte    = 8 * ton.Gram / 1_000_000
	feeApply   = 12 * ton.Gram / 1000
	feeOther   = 10 * ton.Gram / 1000
)

// tell asks, sends a message to a registry and waits until done says so of the registry's state.
func (p *payer) tell(msg *tlb.InternalMessage, question string, fees ton.Nano, done func(*registry.Registry) bool) error {
	if err := p.affords(registryGas + fees); err != nil {
		return err
	}
	fmt.Fprintf(p.cmd.ErrOrStderr(), "fees      below %s GRAM; %s go along, and what the fees leave of them returns\n", fees, registryGas)
	if err := p.h.confirm(p.cmd, question); err != nil {
		return err
	}
	if _, err := p.send(msg, registryGas); err != nil {
		return err
	}
	return p.until("the registry", func(ctx context.Context) (bool, error) {
		r, err := registry.Load(ctx, p.chain, msg.DstAddr)
		return err == nil && done(r), err
	})
}

type proposal struct {
	kind, name, version, status, notBefore, notAfter, recipe string
}

func registryPropose(h *home) *cobra.Command {
	var o proposal
	c := &cobra.Command{Use: "propose REGISTRY FILE", Short: "Announce a record, which may take effect after the delay", Args: cobra.ExactArgs(2),
		Long: `propose announces a record whose document is FILE, at most 7620 bytes:

  reference  reference values of an enclave: measurements, builds, configurations
             (docs/protocol.md, Reference values)
  manifest   a model manifest, as the enclave's GET /v1/.../manifest gives it
  card       a host's entry, as bombyx-host entry prints it

Kind, name and version identify a record: proposing another document under the same three
replaces it, after the delay. A record with --status revoked makes those whose policy names
the registry refuse what it lists. Until bombyx registry apply nothing changes for readers.`,
		Example: `  bombyx registry propose EQ... values.json --kind reference --name image --version 1.2 --recipe recipe.tar
  bombyx registry propose EQ... entry.json --kind card --name alice`}
	h.passphraseFlag(c)
	h.yesFlag(c)
	f := c.Flags()
	f.StringVar(&o.kind, "kind", "", "reference, manifest or card")
	f.StringVar(&o.name, "name", "", "the record's name, 1 to 64 bytes")
	f.StringVar(&o.version, "version", "", "the record's version, at most 64 bytes; a card has none")
	f.StringVar(&o.status, "status", "current", "current, deprecated or revoked")
	f.StringVar(&o.notBefore, "not-before", "", "valid from, RFC 3339 or a date (default now)")
	f.StringVar(&o.notAfter, "not-after", "", "valid until before, RFC 3339 or a date (default in a year)")
	f.StringVar(&o.recipe, "recipe", "", "the build recipe: a file to hash, or its SHA-256 in hexadecimal")
	c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"reference", "manifest", "card"}, cobra.ShellCompDirectiveNoFileComp))
	c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"current", "deprecated", "revoked"}, cobra.ShellCompDirectiveNoFileComp))
	c.MarkFlagRequired("kind")
	c.MarkFlagRequired("name")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		rec, err := o.record(args[1], time.Now())
		if err != nil {
			return err
		}
		p, err := h.publisher(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		r, err := p.owned(args[0])
		if err != nil {
			return err
		}
		msg, err := registry.Announce(r.Account.Address, rec, registry.GasValue)
		if err != nil {
			return err
		}
		content, err := rec.Cell()
		if err != nil {
			return err
		}
		key := rec.Key()
		fmt.Fprintf(cmd.ErrOrStderr(), "registry  %s\nrecord    %s, %s\nvalid     %s to %s\ndocument  %d bytes, SHA-256 %x\n", r.Account.Address, describe(rec), word(recordStatuses, rec.Status),
			stamp(rec.NotBefore), stamp(rec.NotAfter), len(rec.Document), sha256.Sum256(rec.Document))
		var at uint32
		if err := p.tell(msg, "Announce it?", feePropose+ton.Nano(len(rec.Document))*feeByte, func(now *registry.Registry) bool {
			e, ok := now.Announced[key]
			before, was := r.Announced[key]
			at = e.At
			return ok && e.Content.HashKey() == content.HashKey() && (!was || e.At != before.At)
		}); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "announced %s: from %s on, bombyx registry apply %s puts it into effect\n", describe(rec), stamp(at), r.Account.Address)
		return nil
	}
	return c
}

func stamp(unix uint32) string { return time.Unix(int64(unix), 0).UTC().Format(time.RFC3339) }

func describe(r *registry.Record) string {
	return strings.TrimSpace(fmt.Sprintf("%s %q %s", word(recordKinds, r.Kind), r.Name, r.Version))
}

// record makes the record that the flags describe.
func (o *proposal) record(file string, now time.Time) (*registry.Record, error) {
	doc, err := cli.ReadFile(file, registry.MaxDocument)
	if err != nil {
		return nil, err
	}
	r := &registry.Record{Name: o.name, Version: o.version, Document: doc}
	if r.Kind, r.Status = recordKinds[o.kind], recordStatuses[o.status]; r.Kind == 0 || r.Status == 0 {
		return nil, cli.Errorf(cli.Usage, "kinds are "+choices(recordKinds)+"; statuses "+choices(recordStatuses), "there is no record of kind %.40q and status %.40q", o.kind, o.status)
	}
	if err := checkDocument(r); err != nil {
		return nil, cli.Errorf(cli.Usage, "readers would refuse it: see docs/protocol.md, Registry", "%s: %w", file, err)
	}
	for _, d := range []struct {
		flag, text string
		none       time.Time
		to         *uint32
	}{{"--not-before", o.notBefore, now, &r.NotBefore}, {"--not-after", o.notAfter, now.AddDate(1, 0, 0), &r.NotAfter}} {
		t := d.none
		if d.text != "" {
			if t, err = time.Parse(time.RFC3339, d.text); err != nil {
				t, err = time.Parse(time.DateOnly, d.text)
			}
			if err != nil || t.Unix() < 0 || t.Unix() > 1<<32-1 {
				return nil, cli.Errorf(cli.Usage, "write it as in 2027-01-31 or 2027-01-31T12:00:00Z", "%s: %.40q is no date", d.flag, d.text)
			}
		}
		*d.to = uint32(t.Unix())
	}
	if o.recipe != "" {
		if b, err := hex.DecodeString(o.recipe); err == nil && len(b) == 32 {
			r.Recipe = [32]byte(b)
		} else if r.Recipe, err = hashFile(o.recipe); err != nil {
			return nil, cli.Errorf(cli.Usage, "give a file or 64 hexadecimal digits", "--recipe: %w", err)
		}
	}
	if err := r.Validate(); err != nil {
		return nil, cli.Errorf(cli.Usage, "", "%w", err)
	}
	return r, nil
}

// checkDocument refuses a document that is not of the record's kind.
func checkDocument(r *registry.Record) error {
	var err error
	switch r.Kind {
	case registry.Reference:
		_, err = policy.ParseReferenceValues(r.Document)
	case registry.Manifest:
		_, err = manifest.Parse(r.Document)
	case registry.Card:
		if r.Version != "" {
			return errors.New("a card has no version: its entry replaces the one before")
		}
		_, err = card.ParseEntry(r.Document)
	}
	return err
}

func hashFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	d := sha256.New()
	if _, err = io.Copy(d, f); err != nil {
		return sum, err
	}
	return [32]byte(d.Sum(nil)), nil
}

func registryApply(h *home) *cobra.Command {
	c := &cobra.Command{Use: "apply REGISTRY [KIND NAME [VERSION]]", Short: "Put announced records into effect", Args: cobra.RangeArgs(1, 4),
		Long: `apply puts one announced record into effect, or without a name all whose delay has passed.
Anyone may do so, with any wallet: it only carries out what the owner announced.`,
		Example: "  bombyx registry apply EQ...\n  bombyx registry apply EQ... reference image 1.2"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := h.publisher(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		at, err := registryAddress(args[0])
		if err != nil {
			return err
		}
		r, err := loadRegistry(cmd.Context(), p.chain, at)
		if err != nil {
			return err
		}
		now := uint32(r.Account.Head.Time.Unix())
		var due [][32]byte
		if len(args) > 1 {
			key, err := recordKey(args[1:])
			if err != nil {
				return err
			}
			e, ok := r.Announced[key]
			switch {
			case !ok:
				return cli.Errorf(cli.Usage, "bombyx registry show lists what is announced", "nothing is announced under this name")
			case e.At > now:
				return cli.Errorf(cli.Usage, "wait: that is what the delay is for", "it may take effect from %s on", stamp(e.At))
			}
			due = append(due, key)
		} else {
			for key, e := range r.Announced {
				if e.At <= now {
					due = append(due, key)
				}
			}
			slices.SortFunc(due, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
			if len(due) == 0 {
				return cli.Errorf(cli.Usage, "bombyx registry show says when", "no announced record's delay has passed")
			}
		}
		for _, key := range due {
			content := r.Announced[key].Content
			what := fmt.Sprintf("record %x", key[:8])
			if rec, err := registry.ParseRecord(content); err == nil {
				what = describe(rec)
			}
			if err := p.tell(registry.Apply(at, key, registry.GasValue), "Put "+what+" into effect?", feeApply, func(now *registry.Registry) bool {
				_, waiting := now.Announced[key]
				e, ok := now.Records[key]
				return !waiting && ok && e.Content.HashKey() == content.HashKey()
			}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "in effect: %s\n", what)
		}
		return nil
	}
	return c
}

// recordKey reads KIND NAME [VERSION].
func recordKey(args []string) (key [32]byte, err error) {
	kind := recordKinds[args[0]]
	if kind == 0 || len(args) < 2 {
		return key, cli.Errorf(cli.Usage, "kinds are "+choices(recordKinds), "name a record by KIND NAME [VERSION]")
	}
	version := ""
	if len(args) > 2 {
		version = args[2]
	}
	if len(args[1]) > registry.MaxText || len(version) > registry.MaxText {
		return key, cli.Errorf(cli.Usage, "", "a name or version of more than %d bytes", registry.MaxText)
	}
	return registry.Key(kind, args[1], version), nil
}

func registryCancel(h *home) *cobra.Command {
	return h.removal(&cobra.Command{Use: "cancel REGISTRY KIND NAME [VERSION]", Short: "Take an announcement back",
		Long:    "cancel takes back what was announced and is not in effect yet. What is in effect stays.",
		Example: "  bombyx registry cancel EQ... reference image 1.2"},
		"announced", registry.Cancel, func(r *registry.Registry, key [32]byte) bool { _, ok := r.Announced[key]; return ok }, nil)
}

func registryWithdraw(h *home) *cobra.Command {
	return h.removal(&cobra.Command{Use: "withdraw REGISTRY KIND NAME [VERSION]", Short: "Remove a record at once",
		Long: `withdraw removes a record, and what was announced under its name, without delay: it can
make readers refuse, never trust. To keep saying that something is bad, propose it with
--status revoked as well. A revoked record is not withdrawn, but replaced after the delay.`,
		Example: "  bombyx registry withdraw EQ... reference image 1.2"},
		"recorded", registry.Withdraw, func(r *registry.Registry, key [32]byte) bool {
			_, announced := r.Announced[key]
			_, recorded := r.Records[key]
			return announced || recorded
		}, func(r *registry.Registry, key [32]byte) error {
			if rec, err := registry.ParseRecord(r.Records[key].Content); err == nil && rec.Status == registry.Revoked {
				return cli.Errorf(cli.Usage, "bombyx registry propose what replaces it, with another --status", "a revocation is lifted only after the delay")
			}
			return nil
		})
}

// removal completes a command that removes something under a key, unless refuse, where it is given, says why not.
func (h *home) removal(c *cobra.Command, what string, message func(*address.Address, [32]byte, uint64) *tlb.InternalMessage,
	there func(*registry.Registry, [32]byte) bool, refuse func(*registry.Registry, [32]byte) error) *cobra.Command {
	c.Args = cobra.RangeArgs(3, 4)
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := recordKey(args[1:])
		if err != nil {
			return err
		}
		p, err := h.publisher(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		r, err := p.owned(args[0])
		if err != nil {
			return err
		}
		if !there(r, key) {
			return cli.Errorf(cli.Usage, "bombyx registry show lists what is", "nothing is %s under this name", what)
		}
		if refuse != nil {
			if err := refuse(r, key); err != nil {
				return err
			}
		}
		name := strings.Join(args[1:], " ")
		if err := p.tell(message(r.Account.Address, key, registry.GasValue), fmt.Sprintf("%s %s?", strings.ToUpper(c.Name()[:1])+c.Name()[1:], name), feeOther,
			func(now *registry.Registry) bool { return !there(now, key) }); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "removed: %s\n", name)
		return nil
	}
	return c
}

func registryReclaim(h *home) *cobra.Command {
	var keep string
	c := &cobra.Command{Use: "reclaim REGISTRY", Short: "Get back what the rent does not need", Args: cobra.ExactArgs(1),
		Long: `reclaim returns what the registry holds above --keep to its owner. Records stay, for as long
as what is kept pays their rent: a registry that cannot pay freezes, and readers refuse it.`,
		Example: "  bombyx registry reclaim EQ... --keep 0.1"}
	h.passphraseFlag(c)
	h.yesFlag(c)
	c.Flags().StringVar(&keep, "keep", "", "GRAM that stay for rent; 0 to give the registry up")
	c.MarkFlagRequired("keep")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		stay, err := ton.ParseNano(keep)
		if err != nil {
			return cli.Errorf(cli.Usage, "write GRAM as in 12 or 0.5", "%w", err)
		}
		p, err := h.publisher(cmd)
		if err != nil {
			return err
		}
		defer p.close()
		r, err := p.owned(args[0])
		if err != nil {
			return err
		}
		had := r.Account.Balance
		if had <= stay {
			return cli.Errorf(cli.Usage, "keep less", "the registry holds %s GRAM", had)
		}
		if err := p.tell(registry.Reclaim(r.Account.Address, uint64(stay), registry.GasValue), fmt.Sprintf("Return %s GRAM and leave %s?", had-stay, stay), feeOther,
			func(now *registry.Registry) bool { return now.Account.Balance <= stay }); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "returned %s GRAM, less fees\n", had-stay)
		return nil
	}
	return c
}

// recordDocument is a record as --json shows it.
type recordDocument struct {
	Kind      string          `json:"kind"`
	Name      string          `json:"name"`
	Version   string          `json:"version"`
	Status    string          `json:"status"`
	NotBefore time.Time       `json:"not_before"`
	NotAfter  time.Time       `json:"not_after"`
	Recipe    string          `json:"recipe,omitempty"`
	State     string          `json:"state"` // in effect, or announced
	At        time.Time       `json:"at"`    // since when, or from when on it may be
	SHA256    string          `json:"document_sha256"`
	Document  json.RawMessage `json:"document,omitempty"` // where it is JSON
	Unread    string          `json:"unreadable,omitempty"`
}

type registryDocument struct {
	Address  string           `json:"address"`
	Raw      string           `json:"raw_address"`
	Network  int32            `json:"network"`
	Owner    string           `json:"owner"`
	Delay    uint32           `json:"delay_seconds"`
	Balance  uint64           `json:"balance"`
	Changes  uint32           `json:"changes"`
	History  string           `json:"history"`
	Block    uint32           `json:"block"`
	RootHash string           `json:"block_root_hash"`
	Time     time.Time        `json:"block_time"`
	Records  []recordDocument `json:"records"`
}

func documentOf(r *registry.Registry) registryDocument {
	head := r.Account.Head
	d := registryDocument{Address: r.Account.Address.String(), Raw: r.Account.Address.StringRaw(), Network: r.Account.GlobalID(), Owner: r.Owner.Bounce(false).String(), Delay: r.Delay, Balance: uint64(r.Account.Balance),
		Changes: r.Seqno, History: hex.EncodeToString(r.History[:]), Block: head.Seqno, RootHash: hex.EncodeToString(head.RootHash[:]), Time: head.Time.UTC(), Records: []recordDocument{}}
	for _, m := range []struct {
		state   string
		entries map[[32]byte]registry.Entry
	}{{"in effect", r.Records}, {"announced", r.Announced}} {
		for key, e := range m.entries {
			d.Records = append(d.Records, recordOf(key, e, m.state))
		}
	}
	slices.SortFunc(d.Records, func(a, b recordDocument) int {
		return strings.Compare(strings.Join([]string{b.State, a.Kind, a.Name, a.Version}, "\x00"), strings.Join([]string{a.State, b.Kind, b.Name, b.Version}, "\x00"))
	})
	return d
}

func recordOf(key [32]byte, e registry.Entry, state string) recordDocument {
	d := recordDocument{State: state, At: time.Unix(int64(e.At), 0).UTC()}
	rec, err := registry.ParseRecord(e.Content)
	if err == nil && rec.Key() != key {
		err = errors.New("it is kept under another's key")
	}
	if err != nil {
		d.Kind, d.Name, d.Unread = "unknown", hex.EncodeToString(key[:8]), err.Error()
		return d
	}
	sum := sha256.Sum256(rec.Document)
	d.Kind, d.Name, d.Version, d.Status = word(recordKinds, rec.Kind), rec.Name, rec.Version, word(recordStatuses, rec.Status)
	d.NotBefore, d.NotAfter = time.Unix(int64(rec.NotBefore), 0).UTC(), time.Unix(int64(rec.NotAfter), 0).UTC()
	d.SHA256 = hex.EncodeToString(sum[:])
	if rec.Recipe != [32]byte{} {
		d.Recipe = hex.EncodeToString(rec.Recipe[:])
	}
	if utf8.Valid(rec.Document) && json.Valid(rec.Document) {
		d.Document = rec.Document
	}
	return d
}

func registryShow(h *home) *cobra.Command {
	var asJSON, asPolicy bool
	c := &cobra.Command{Use: "show REGISTRY", Short: "Show a registry's records and what is announced", Args: cobra.ExactArgs(1),
		Long: `show reads a registry with proofs and lists its records. With --json the documents come
along. With --policy it prints what to put under "registries" in policy.json to trust
this registry: read what its owner publishes, and how, before you do.`,
		Example: "  bombyx registry show EQ...\n  bombyx registry show EQ... --json\n  bombyx registry show EQ... --policy"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; amounts in nanogram")
	c.Flags().BoolVar(&asPolicy, "policy", false, "print a policy's entry for this registry")
	c.MarkFlagsMutuallyExclusive("json", "policy")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		chain, at, r, err := h.openRegistry(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer chain.Close()
		d, out := documentOf(r), cmd.OutOrStdout()
		if asJSON {
			return printJSON(out, d)
		}
		if asPolicy {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			return e.Encode(policy.Publisher{Name: "NAME IT", Reason: "SAY WHY YOU TRUST ITS OWNER", Network: d.Network, Address: policy.Account(at.Data()), MinDelay: d.Delay, MaxAge: 3600,
				Supplies: []policy.Supply{policy.Images, policy.Builds, policy.Configs, policy.Models}})
		}
		d.print(out)
		return nil
	}
	return c
}

func (d *registryDocument) print(out io.Writer) {
	fmt.Fprintf(out, "registry  %s\n          %s on network %d\nowner     %s\ndelay     %s\nbalance   %s GRAM\nchanges   %d, history %s\nblock     %d of %s, root hash %s\n",
		d.Address, d.Raw, d.Network, d.Owner, time.Duration(d.Delay)*time.Second, ton.Nano(d.Balance), d.Changes, d.History, d.Block, d.Time.Format(time.RFC3339), d.RootHash)
	if len(d.Records) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nkind\tname\tversion\tstatus\tvalid\tstate\tSHA-256 of the document")
	for _, r := range d.Records {
		state := "in effect since " + r.At.Format(time.RFC3339)
		if r.State == "announced" {
			state = "announced, may take effect " + r.At.Format(time.RFC3339)
		}
		if r.Unread != "" {
			fmt.Fprintf(w, "%s\t%s\t\t\t\t%s\tunreadable: %s\n", r.Kind, r.Name, state, r.Unread)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s to %s\t%s\t%s\n", r.Kind, cli.Printable(r.Name), cli.Printable(r.Version), r.Status, r.NotBefore.Format(time.DateOnly), r.NotAfter.Format(time.DateOnly), state, r.SHA256)
	}
	w.Flush()
}

// stepDocument is a step of a history as --json shows it.
type stepDocument struct {
	Change      uint32         `json:"change"` // 0: it changed no record
	Action      string         `json:"action"`
	Time        time.Time      `json:"time"`
	Record      recordDocument `json:"record"`
	Transaction string         `json:"transaction"`
}

func registryHistory(h *home) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "history REGISTRY", Short: "Show every change that a registry has seen", Args: cobra.ExactArgs(1),
		Long: `history follows a registry's proven transactions from its deployment on and checks that they
lead to its present state and to the hash of the history in it. What it lists is complete,
or it fails.`,
		Example: "  bombyx registry history EQ...\n  bombyx registry history EQ... --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		chain, at, _, err := h.openRegistry(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer chain.Close()
		r, steps, err := registry.History(cmd.Context(), chain, at)
		switch {
		case errors.Is(err, registry.ErrHistory):
			return cli.Errorf(cli.Refused, "do not rely on this registry, and report it", "%w", err)
		case err != nil:
			return chainFault(err)
		}
		out := cmd.OutOrStdout()
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, s := range steps {
			d := stepDocument{Change: s.Seqno, Action: string(s.Action), Time: time.Unix(int64(s.At), 0).UTC(), Transaction: hex.EncodeToString(s.Tx)}
			if d.Record = (recordDocument{Kind: "unknown", Name: hex.EncodeToString(s.Key[:8])}); s.Content != nil {
				d.Record = recordOf(s.Key, registry.Entry{At: s.At, Content: s.Content}, "")
			}
			if asJSON {
				if err := printJSON(out, d); err != nil {
					return err
				}
				continue
			}
			number := ""
			if s.Seqno != 0 {
				number = fmt.Sprint(s.Seqno)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s %s %s\t%s\t%s\n", number, d.Time.Format(time.RFC3339), d.Action, d.Record.Kind, cli.Printable(d.Record.Name), cli.Printable(d.Record.Version), d.Record.Status, d.Record.SHA256)
		}
		if asJSON {
			return nil
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "complete: %d changes lead to history %x\n", r.Seqno, r.History)
		return nil
	}
	return c
}

func registrySave(h *home) *cobra.Command {
	c := &cobra.Command{Use: "save REGISTRY FILE", Short: "Save a registry's state with its proofs, for later verification", Args: cobra.ExactArgs(2),
		Long: `save writes what the registry says now, with the Merkle proofs from a masterchain block, for
bombyx verify --registry-snapshot FILE. The file proves the registry's state in that block; that
the block is TON's, bombyx verify asks the network, or takes from --registry-block. Note
the block that save prints: it is all there is to trust.`,
		Example: "  bombyx registry save EQ... registry.json"}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		chain, _, r, err := h.openRegistry(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer chain.Close()
		b, err := r.Account.Save()
		if err == nil {
			err = os.WriteFile(args[1], append(b, '\n'), 0o644)
		}
		if err != nil {
			return cli.Errorf(cli.Usage, "choose another file", "%w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d:%x\n", r.Account.Head.Seqno, r.Account.Head.RootHash)
		return nil
	}
	return c
}

// readRegistries returns a snapshot of each registry that the policy names: from a saved file where there is one, else from the
// network. What a file says counts only if its block is one of blocks, each SEQNO:ROOTHASH, or without those on the network's
// chain. offline forbids connections.
func (h *home) readRegistries(ctx context.Context, p *policy.Policy, files, blocks []string, offline bool) ([]*policy.Snapshot, error) {
	if len(p.Registries) == 0 {
		if len(files) > 0 || len(blocks) > 0 {
			return nil, cli.Errorf(cli.Usage, `name it under "registries" in the policy; bombyx registry show --policy prints how`, "a registry was given, but the policy names none")
		}
		return nil, nil
	}
	var chain *ton.Client
	dial := func() (err error) {
		if chain != nil {
			return nil
		}
		path, err := h.at(profile.NetworkFile)
		if err != nil {
			return err
		}
		if offline || !profile.Exists(path) {
			return cli.Errorf(cli.Missing, "give --registry-snapshot FILE and --registry-block SEQNO:ROOTHASH, both from bombyx registry save; or network.json in the home directory, without --offline",
				"the policy names registries, and there is no network to read them from")
		}
		chain, err = h.chain(ctx)
		return err
	}
	defer func() {
		if chain != nil {
			chain.Close()
		}
	}()
	var out []*policy.Snapshot
	for _, file := range files {
		b, err := cli.ReadFile(file, ton.MaxSaved)
		if err != nil {
			return nil, err
		}
		r, err := registry.OpenSaved(b)
		if err != nil {
			return nil, cli.Errorf(cli.Refused, "save it again: bombyx registry save", "%s: %w", file, err)
		}
		head := r.Account.Head
		known := slices.Contains(blocks, fmt.Sprintf("%d:%x", head.Seqno, head.RootHash))
		if len(blocks) > 0 && !known {
			return nil, cli.Errorf(cli.Refused, "use the file that belongs to the block that you know", "%s was saved from block %d:%x", file, head.Seqno, head.RootHash)
		}
		if !known {
			if err := dial(); err != nil {
				return nil, err
			}
			on, err := chain.MasterchainBlock(ctx, head.Seqno)
			if err != nil {
				return nil, chainFault(err)
			}
			if on.RootHash != head.RootHash || chain.GlobalID() != r.Account.GlobalID() {
				return nil, cli.Errorf(cli.Refused, "do not rely on the file", "%s: block %d:%x is not on the network's chain", file, head.Seqno, head.RootHash)
			}
		}
		s, err := r.Snapshot()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	var rest []policy.Publisher
	for _, r := range p.Registries {
		if !slices.ContainsFunc(out, func(s *policy.Snapshot) bool { return s.Network == r.Network && s.Address == r.Address }) {
			rest = append(rest, r)
		}
	}
	if len(rest) > 0 {
		if err := dial(); err != nil {
			return nil, err
		}
		more, err := registry.Snapshots(ctx, chain, rest)
		if err != nil {
			return nil, chainFault(err)
		}
		out = append(out, more...)
	}
	return out, nil
}
