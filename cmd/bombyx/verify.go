package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/results"
	"github.com/bombyx-network/bombyx/attestation/snp"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/cli"
)

const defaultPolicy = "genuine"

type verifyOptions struct {
	policy, at, nonce, epoch, reportData, certChain, eventLog string
	collateral, rims, snapshots, blocks                       []string
	offline, json, explain                                    bool
	from                                                      services
}

func verifyCommand(h *home) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{Use: "verify FILE...", Short: "Appraise saved evidence", Args: cobra.MinimumNArgs(1),
		Long: `verify appraises saved evidence. What it reads:

  TDX or SGX quote, SEV-SNP report, NVIDIA GPU or switch report, a list of these two
  composite document of Bombyx
  report of an EGo or Open Enclave program (enclave.GetRemoteReport), and the
    certificate of its TLS server
  documents of Tinfoil, dstack, NEAR MPC nodes, Cocoon and MarbleRun Coordinators

A file may be raw, hexadecimal, base64 or PEM; its kind is recognised; "-" is standard
input. Collateral (TCB info, QE identity, CRLs, certificates, RIMs, OCSP
answers, bundles) comes from --collateral, and is recognised by its contents, whatever
the files are called. What is missing there, or without --at has expired, is fetched from
Intel, AMD and NVIDIA, who then learn which machine you ask about; HTTPS_PROXY is obeyed,
and what was fetched is kept for 12 hours in "cache" in the home directory. With --offline
no connection is made.

One line per check: PASS, FAIL or SKIP, the clause of its specification, the value seen
and the value wanted. A skip is never a pass. Nothing given with --nonce or
--expect-report-data means that nothing says what the evidence was made for, or when.
With --event-log a bare TDX quote's registers are compared with what its log leads to, and
every event with its digest; a log by itself proves nothing.
Evidence of an epoch, saved as a host gives it (GET /v1/enclaves/ID/epoch), names the block
that it answers; the network of network.json proves that block, or --epoch states it. The
policy must accept epochs.

The policy is --policy FILE, else policy.json in the home directory, else the built-in
one "genuine": the makers' production roots, debug refused, TCB status UpToDate and
collateral in force. "--policy strict" adds the patch levels of today. Both accept any
guest: only a policy of your own can say what may run there; "bombyx policy" prints some
to start from.

Exit codes: 0 every file verified, 1 one was rejected (expired
collateral rejects, too), 2 usage or policy, 3 nothing
speaks against the evidence, but collateral is missing.`,
		Example: `  bombyx verify --policy policy.json --collateral ./collateral quote.bin
  bombyx verify --policy strict --pccs https://pccs.example:8081 quote.bin
  bombyx verify --policy strict --offline --collateral bundle.json --at 2026-01-02T03:04:05Z --json quote.hex
  bombyx verify --cert-chain vcek.pem --expect-report-data $HEX report.bin
  bombyx verify --nonce $HEX --cert-chain gpu-chain.pem --rim driver.xml --rim vbios.xml gpu-report.bin`}
	f := c.Flags()
	f.StringVar(&o.policy, "policy", "", "appraisal policy: a file, or the name of a built-in one (bombyx policy)")
	f.StringArrayVar(&o.collateral, "collateral", nil, "collateral: a file, or a folder with everything in it (repeatable; default collateral in the home directory)")
	f.StringVar(&o.at, "at", "", "appraise as of this instant, RFC 3339 (default now)")
	f.StringVar(&o.nonce, "nonce", "", "the nonce that the evidence must answer, 64 hexadecimal digits")
	f.StringVar(&o.epoch, "epoch", "", "the masterchain block that the evidence answers in place of a nonce, SEQNO:ROOTHASH@TIME (default: the one that a host's saved answer names, proven by the network)")
	f.StringVar(&o.reportData, "expect-report-data", "", "the report data that a bare quote or SNP report must carry, 128 hexadecimal digits; of an EGo or Open Enclave report what the program gave, such as a SHA-256: zeros follow")
	f.StringVar(&o.certChain, "cert-chain", "", "certificate chain of a bare SNP, GPU or switch report, leaf first, PEM or DER; of an SNP report its auxblob, too")
	f.StringVar(&o.eventLog, "event-log", "", "the event log of a bare TDX quote: the data of its CCEL, or dstack's JSON")
	f.StringArrayVar(&o.rims, "rim", nil, "NVIDIA reference manifest (repeatable)")
	f.StringArrayVar(&o.snapshots, "registry-snapshot", nil, "what a registry said, from bombyx registry save (repeatable; default: read the policy's registries from the network)")
	f.StringArrayVar(&o.blocks, "registry-block", nil, "the block that a snapshot must be from, SEQNO:ROOTHASH (repeatable; default: ask the network whether it is on its chain)")
	f.BoolVar(&o.offline, "offline", false, "make no connection: fail with exit code 3 rather than fetch what collateral lacks or read registries")
	o.from.flags(c)
	f.BoolVar(&o.json, "json", false, "print one JSON object for each file")
	f.BoolVar(&o.explain, "explain", false, "show the bytes behind each check")
	c.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(policy.Builtin(), cobra.ShellCompDirectiveDefault))
	c.MarkFlagsMutuallyExclusive("json", "explain")
	c.MarkFlagsMutuallyExclusive("nonce", "epoch")
	for _, name := range []string{"pccs", "kds", "rim-service", "ocsp"} {
		c.MarkFlagsMutuallyExclusive("offline", name)
	}
	c.RunE = func(cmd *cobra.Command, files []string) error { return verify(cmd, h, &o, files) }
	return c
}

func verify(cmd *cobra.Command, h *home, o *verifyOptions, files []string) error {
	defer h.hangUp()
	a, err := o.prepare(cmd, h)
	if err != nil {
		return err
	}
	var rejected, missing, stale, unproven []string
	for i, file := range files {
		data, err := cli.ReadInput(cmd.InOrStdin(), file, attestation.MaxInput)
		if err != nil {
			return err
		}
		r, err := a.appraise(cmd.Context(), file, data)
		if err != nil {
			return err
		}
		if err := o.show(cmd, a, i, len(files), file, data, r); err != nil {
			return err
		}
		switch err := r.Err(); {
		case errors.Is(err, check.ErrMissing) && lacksProof(r):
			unproven = append(unproven, file)
		case errors.Is(err, check.ErrMissing):
			missing = append(missing, file)
		case errors.Is(err, check.ErrStale):
			stale = append(stale, file)
		case err != nil:
			rejected = append(rejected, file)
		}
	}
	switch {
	case len(rejected) > 0:
		return cli.Errorf(cli.Refused, "the checks marked FAIL say why", "%s: rejected", rejected[0])
	case len(stale) > 0:
		hint := "add newer with --collateral PATH: none could be fetched"
		switch {
		case o.at != "":
			hint = "appraise as of an instant when it was in force, or add newer with --collateral PATH"
		case o.offline:
			hint = "add newer with --collateral PATH, leave --offline out, or appraise as of the time when it was in force with --at"
		}
		return cli.Errorf(cli.Refused, hint+"; nothing else speaks against the evidence", "%s: collateral has expired", stale[0])
	case len(missing) > 0 && o.offline:
		return cli.Errorf(cli.Missing, "add it with --collateral PATH, or leave --offline out; nothing speaks against the evidence so far", "%s: collateral is missing", missing[0])
	case len(missing) > 0:
		return cli.Errorf(cli.Missing, "add it with --collateral PATH: it could not be fetched; nothing speaks against the evidence so far", "%s: collateral is missing", missing[0])
	case len(unproven) > 0:
		return cli.Errorf(cli.Missing, "put network.json in the home directory and leave --offline out, or name the block if you know it: --epoch SEQNO:ROOTHASH@TIME; nothing speaks against the evidence so far",
			"%s: nothing proves the block that it answers", unproven[0])
	}
	return nil
}

// lacksProof tells whether nothing proves the block that evidence answers.
func lacksProof(r *attestation.Result) bool {
	c := r.Check(attestation.CheckEpoch)
	return c != nil && c.Missing != ""
}

// An appraiser holds everything but the evidence.
type appraiser struct {
	policy     *policy.Policy
	inputs     [][]byte // collateral
	registries []*policy.Snapshot
	verifier   *attestation.Verifier
	at         time.Time
	want       attestation.Expected
	epoch      *attestation.Epoch // given
	fetcher    *fetch.Fetcher     // nil: never connect
	renew      bool               // expired collateral is fetched anew
	prove      func(context.Context, attestation.Epoch) (*attestation.Epoch, error)
	log        io.Writer
}

// appraise fetches what the collateral at hand lacks, if it may: what is missing, and what has expired.
func (a *appraiser) appraise(ctx context.Context, file string, data []byte) (*attestation.Result, error) {
	a.want.Epoch = a.epoch
	if stated, _, ok := attestation.SplitEpoch(data); ok && a.epoch == nil && a.want.Nonce == nil && a.policy.Epoch != nil {
		var err error
		if a.want.Epoch, err = a.prove(ctx, stated); err != nil {
			return nil, err
		}
	}
	r, err := a.verifier.AppraiseSaved(a.at, data, a.want)
	if err != nil && eventlog.Recognise(data) {
		return nil, cli.Errorf(cli.Usage, "give the quote whose registers it explains as FILE, and the log with --event-log; bombyx inspect shows the log",
			"%s: an event log by itself proves nothing: anybody can write one", file)
	}
	if err != nil {
		return nil, cli.Errorf(cli.Usage, cli.EncodingOr(data, "is it the right file? bombyx inspect shows what a file says"), "%s: %w", file, err)
	}
	renew := a.renew && len(r.Stale) > 0
	if a.fetcher == nil || lacksProof(r) || !renew && !errors.Is(r.Err(), check.ErrMissing) {
		return r, nil
	}
	if renew {
		fmt.Fprintf(a.log, "bombyx: %s: expired, asking for newer: %s\n", file, cli.Printable(strings.Join(r.Stale, ", ")))
	}
	fetched, _, err := fetchFor(ctx, a.fetcher, data, a.want.Certificates, a.log)
	if err != nil || len(fetched) == 0 {
		return r, err
	}
	bundle, err := profile.NewBundle(slices.Concat(a.inputs, fetched))
	if err != nil {
		return nil, err
	}
	// The next file is appraised with what was fetched for this one as well.
	a.inputs = slices.Concat(a.inputs, fetched)
	if a.verifier, err = attestation.NewVerifier(a.policy, bundle, a.registries...); err != nil {
		return nil, cli.Errorf(cli.Usage, "", "%w", err)
	}
	renewed, err := a.verifier.AppraiseSaved(a.at, data, a.want)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "", "%s: %w", file, err)
	}
	for i := range renewed.Checks {
		c := &renewed.Checks[i]
		if old := r.Check(c.ID); old != nil && old.Stale != "" && c.Status == check.Pass {
			c.Detail = "fetched anew: " + old.Detail
		}
	}
	return renewed, nil
}

// prepare reads everything but the evidence.
func (o *verifyOptions) prepare(cmd *cobra.Command, h *home) (*appraiser, error) {
	a := &appraiser{at: time.Now(), log: cmd.ErrOrStderr()}
	var err error
	if o.at != "" {
		if a.at, err = time.Parse(time.RFC3339, o.at); err != nil {
			return nil, cli.Errorf(cli.Usage, "write it as in 2026-01-02T03:04:05Z", "--at: %w", err)
		}
	}
	for _, x := range []struct {
		flag, text, want string
		min, max         int
		to               *[]byte
	}{{"--nonce", o.nonce, "64", 32, 32, &a.want.Nonce},
		{"--expect-report-data", o.reportData, "128 (of an EGo or Open Enclave report: up to 128)", 1, 64, &a.want.ReportData}} {
		if x.text == "" {
			continue
		}
		b, err := hex.DecodeString(x.text)
		if err != nil || len(b) < x.min || len(b) > x.max {
			return nil, cli.Errorf(cli.Usage, "give it in hexadecimal, without 0x", "%s: want %s hexadecimal digits", x.flag, x.want)
		}
		*x.to = b
	}
	if o.eventLog != "" {
		b, err := cli.ReadFile(o.eventLog, eventlog.MaxSize)
		if err != nil {
			return nil, err
		}
		if a.want.EventLog, err = eventlog.Parse(b); err != nil {
			return nil, cli.Errorf(cli.Usage, "give the data of the guest's CCEL, or dstack's JSON", "%s: %w", o.eventLog, err)
		}
	}
	if o.epoch != "" {
		if a.epoch, err = parseEpoch(o.epoch); err != nil {
			return nil, err
		}
	}
	a.prove = func(ctx context.Context, stated attestation.Epoch) (*attestation.Epoch, error) {
		return h.proveEpoch(ctx, stated, o.offline)
	}
	if o.certChain != "" {
		if a.want.Certificates, err = cli.ReadFile(o.certChain, attestation.MaxCertificates); err != nil {
			return nil, err
		}
		if snp.IsTable(a.want.Certificates) {
			certs, err := snp.ParseTable(a.want.Certificates)
			if err != nil {
				return nil, cli.Errorf(cli.Usage, "give the auxblob that configfs-tsm wrote with this report, or the certificates as PEM", "%s: %w", o.certChain, err)
			}
			a.want.Certificates = slices.Concat(certs...)
		}
	}
	if a.policy, err = o.readPolicy(cmd, h); err != nil {
		return nil, err
	}
	paths := append([]string{}, o.collateral...)
	if len(paths) == 0 {
		own, err := h.at(profile.CollateralPath)
		if err != nil {
			return nil, err
		}
		if profile.Exists(own) {
			paths = append(paths, own)
		}
	}
	if a.inputs, err = readAllCollateral(append(paths, o.rims...), cmd.ErrOrStderr()); err != nil {
		return nil, err
	}
	bundle, err := profile.NewBundle(a.inputs)
	if err != nil {
		return nil, err
	}
	if a.registries, err = h.readRegistries(cmd.Context(), a.policy, o.snapshots, o.blocks, o.offline); err != nil {
		return nil, err
	}
	if a.verifier, err = attestation.NewVerifier(a.policy, bundle, a.registries...); err != nil {
		return nil, cli.Errorf(cli.Missing, "give the root certificates that the policy pins with --collateral", "%w", err)
	}
	if !o.offline {
		a.fetcher, err = o.from.fetcher(h, cmd.ErrOrStderr())
		a.renew = o.at == ""
	}
	return a, err
}

// parseEpoch reads SEQNO:ROOTHASH@TIME.
func parseEpoch(s string) (*attestation.Epoch, error) {
	block, made, timed := strings.Cut(s, "@")
	number, hash, _ := strings.Cut(block, ":")
	seqno, err := strconv.ParseUint(number, 10, 32)
	root, hashErr := hex.DecodeString(hash)
	at, timeErr := time.Parse(time.RFC3339, made)
	if err != nil || hashErr != nil || len(root) != 32 || !timed || timeErr != nil {
		return nil, cli.Errorf(cli.Usage, "write it as SEQNO:ROOTHASH@TIME: the block's number, 64 hexadecimal digits, and when it was made as in 2026-01-02T03:04:05Z", "--epoch: %.120q is no block", s)
	}
	return &attestation.Epoch{Seqno: uint32(seqno), RootHash: [32]byte(root), Time: at}, nil
}

// proveEpoch asks the network about the block that evidence answers. It returns nil when there is no network to ask.
func (h *home) proveEpoch(ctx context.Context, stated attestation.Epoch, offline bool) (*attestation.Epoch, error) {
	path, err := h.at(profile.NetworkFile)
	if err != nil {
		return nil, err
	}
	if offline || !profile.Exists(path) {
		return nil, nil
	}
	chain, err := h.proven(ctx)
	if err != nil {
		return nil, err
	}
	block, err := chain.MasterchainBlock(ctx, stated.Seqno)
	switch {
	case err != nil:
		return nil, chainFault(err)
	case block.RootHash != stated.RootHash:
		return nil, cli.Errorf(cli.Refused, "do not rely on it", "block %d:%x, which the evidence answers, is not on the network's chain", stated.Seqno, stated.RootHash)
	}
	stated.Time = block.Time
	return &stated, nil
}

func (o *verifyOptions) readPolicy(cmd *cobra.Command, h *home) (*policy.Policy, error) {
	path := o.policy
	if path == "" {
		own, err := h.at(profile.PolicyFile)
		if err != nil {
			return nil, err
		}
		if profile.Exists(own) {
			path = own
		} else {
			fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: no policy given: using the built-in one (--policy %s), which accepts any guest\n", defaultPolicy)
			path = defaultPolicy
		}
	}
	if document, ok := policy.Document(path); ok {
		return policy.Parse(document)
	}
	return profile.ReadPolicy(path)
}

func (o *verifyOptions) show(cmd *cobra.Command, a *appraiser, i, n int, file string, data []byte, r *attestation.Result) error {
	w := cmd.OutOrStdout()
	if o.json {
		_, err := w.Write(results.JSON(r))
		return err
	}
	if n > 1 {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n", file)
	}
	if err := results.Table(w, r, results.TableOptions{}); err != nil {
		return err
	}
	if !o.explain {
		return nil
	}
	excerpts, err := a.verifier.Explain(data, a.want, r)
	if err != nil {
		return err
	}
	return results.Explain(w, r, excerpts)
}
