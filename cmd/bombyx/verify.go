package main

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/results"
	"github.com/bombyx-network/bombyx/cmd/bombyx/internal/inspect"
	"github.com/bombyx-network/bombyx/internal/cli"
)

// builtinStrict judges platforms under the vendors' production roots. It trusts nobody else.
//
//go:embed policy_strict.json
var builtinStrict []byte

const strictName = "strict"

type verifyOptions struct {
	policy, at, nonce, reportData, certChain string
	collateral, rims                         []string
	offline, json, explain                   bool
}

func verifyCommand(h *home) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{Use: "verify FILE...", Short: "Appraise saved evidence", Args: cobra.MinimumNArgs(1),
		Long: `verify appraises saved evidence: a TDX or SGX quote, an SEV-SNP report, an NVIDIA GPU or
switch report, or a composite document. A file may be raw, hexadecimal, base64 or PEM;
its kind is recognised. Nothing is fetched and nothing leaves this machine: collateral
(TCB info, QE identity, CRLs, certificates, RIMs, OCSP answers, bundles) comes from
--collateral, and is recognised by its contents, whatever the files are called.

One line per check: PASS, FAIL or SKIP, the clause of its specification, the value seen
and the value wanted. A skip is never a pass. Nothing given with --nonce or
--expect-report-data means that nothing says what the evidence was made for, or when.

The policy is --policy FILE, else policy.json in the home directory, else the built-in
one, which "--policy strict" names and every result shows: the vendors' production
roots, debug refused, TCB status UpToDate and current collateral. It accepts any guest:
only a policy of your own can say what may run there.

Exit codes: 0 every file verified, 1 one was rejected, 2 usage or policy, 3 nothing
speaks against the evidence, but collateral is missing.`,
		Example: `  bombyx verify --policy policy.json --collateral ./collateral quote.bin
  bombyx verify --policy strict --collateral bundle.json --at 2026-01-02T03:04:05Z --json quote.hex
  bombyx verify --cert-chain vcek.pem --expect-report-data $HEX report.bin
  bombyx verify --nonce $HEX --cert-chain gpu-chain.pem --rim driver.xml --rim vbios.xml gpu-report.bin`}
	f := c.Flags()
	f.StringVar(&o.policy, "policy", "", `appraisal policy: a file, or "strict" for the built-in one`)
	f.StringArrayVar(&o.collateral, "collateral", nil, "collateral: a file, or a folder with everything in it (repeatable; default collateral in the home directory)")
	f.StringVar(&o.at, "at", "", "appraise as of this instant, RFC 3339 (default now)")
	f.StringVar(&o.nonce, "nonce", "", "the nonce that the evidence must answer, 64 hexadecimal digits")
	f.StringVar(&o.reportData, "expect-report-data", "", "the report data that a bare quote or SNP report must carry, 128 hexadecimal digits")
	f.StringVar(&o.certChain, "cert-chain", "", "certificate chain of a bare SNP, GPU or switch report, leaf first, PEM or DER")
	f.StringArrayVar(&o.rims, "rim", nil, "NVIDIA reference manifest (repeatable)")
	f.BoolVar(&o.offline, "offline", false, "fail rather than fetch collateral; verify never fetches, so this only says so in scripts")
	f.BoolVar(&o.json, "json", false, "print one JSON object for each file")
	f.BoolVar(&o.explain, "explain", false, "show the bytes behind each check")
	c.MarkFlagsMutuallyExclusive("json", "explain")
	c.RunE = func(cmd *cobra.Command, files []string) error { return verify(cmd, h, &o, files) }
	return c
}

func verify(cmd *cobra.Command, h *home, o *verifyOptions, files []string) error {
	v, at, want, err := o.prepare(cmd, h)
	if err != nil {
		return err
	}
	var rejected, missing []string
	for i, file := range files {
		data, err := cli.ReadFile(file, attestation.MaxInput)
		if err != nil {
			return err
		}
		r, err := v.AppraiseSaved(at, data, want)
		if err != nil {
			return cli.Errorf(cli.Usage, "is it the right file? bombyx inspect shows what a file says", "%s: %w", file, err)
		}
		if err := o.show(cmd, i, len(files), file, data, r); err != nil {
			return err
		}
		switch err := r.Err(); {
		case errors.Is(err, attestation.ErrCollateralMissing):
			missing = append(missing, file)
		case err != nil:
			rejected = append(rejected, file)
		}
	}
	switch {
	case len(rejected) > 0:
		return cli.Errorf(cli.Refused, "the checks marked FAIL say why", "%s: rejected", rejected[0])
	case len(missing) > 0:
		return cli.Errorf(cli.Missing, "add it with --collateral PATH; nothing speaks against the evidence so far", "%s: collateral is missing", missing[0])
	}
	return nil
}

// prepare reads everything but the evidence.
func (o *verifyOptions) prepare(cmd *cobra.Command, h *home) (v *attestation.Verifier, at time.Time, want attestation.Expected, err error) {
	at = time.Now()
	if o.at != "" {
		if at, err = time.Parse(time.RFC3339, o.at); err != nil {
			return nil, at, want, cli.Errorf(cli.Usage, "write it as in 2026-01-02T03:04:05Z", "--at: %w", err)
		}
	}
	for _, x := range []struct {
		flag, text string
		size       int
		to         *[]byte
	}{{"--nonce", o.nonce, 32, &want.Nonce}, {"--expect-report-data", o.reportData, 64, &want.ReportData}} {
		if x.text == "" {
			continue
		}
		b, err := hex.DecodeString(x.text)
		if err != nil || len(b) != x.size {
			return nil, at, want, cli.Errorf(cli.Usage, "give it in hexadecimal, without 0x", "%s: want %d hexadecimal digits", x.flag, 2*x.size)
		}
		*x.to = b
	}
	if o.certChain != "" {
		if want.Certificates, err = cli.ReadFile(o.certChain, attestation.MaxCertificates); err != nil {
			return nil, at, want, err
		}
	}
	p, err := o.readPolicy(cmd, h)
	if err != nil {
		return nil, at, want, err
	}
	paths := append([]string{}, o.collateral...)
	if len(paths) == 0 {
		own, err := h.at(collateralPath)
		if err != nil {
			return nil, at, want, err
		}
		if exists(own) {
			paths = append(paths, own)
		}
	}
	var inputs [][]byte
	for _, path := range append(paths, o.rims...) {
		more, err := readCollateral(path, cmd.ErrOrStderr())
		if err != nil {
			return nil, at, want, err
		}
		inputs = append(inputs, more...)
	}
	bundle, err := newBundle(inputs)
	if err != nil {
		return nil, at, want, err
	}
	if v, err = attestation.NewVerifier(p, bundle); err != nil {
		return nil, at, want, cli.Errorf(cli.Missing, "give the root certificates that the policy pins with --collateral", "%w", err)
	}
	return v, at, want, nil
}

func (o *verifyOptions) readPolicy(cmd *cobra.Command, h *home) (*policy.Policy, error) {
	path := o.policy
	if path == "" {
		own, err := h.at(policyFile)
		if err != nil {
			return nil, err
		}
		if exists(own) {
			path = own
		} else {
			fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: no policy given: using the built-in one (--policy %s), which accepts any guest\n", strictName)
			path = strictName
		}
	}
	if path == strictName {
		return policy.Parse(builtinStrict)
	}
	return readPolicy(path)
}

func (o *verifyOptions) show(cmd *cobra.Command, i, n int, file string, data []byte, r *attestation.Result) error {
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
	if o.explain {
		return inspect.Explain(w, data, r)
	}
	return nil
}

const maxCollateralFiles = 10_000

// readCollateral reads a file, or every file in a folder that is collateral; others there are left out, and counted on log.
func readCollateral(path string, log io.Writer) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "check the path", "collateral: %w", err)
	}
	if !info.IsDir() {
		b, err := cli.ReadFile(path, collateral.MaxBundle)
		if err != nil {
			return nil, err
		}
		if _, err := collateral.New(b); err != nil {
			return nil, cli.Errorf(cli.Usage, "give TCB info, QE identity, CRL, certificate, RIM, OCSP answer or bundle", "%s: %w", path, err)
		}
		return [][]byte{b}, nil
	}
	var inputs [][]byte
	files, left, size := 0, 0, int64(0)
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, size = files+1, size+info.Size()
		if files > maxCollateralFiles || size > 4*collateral.MaxBundle {
			return fmt.Errorf("more than %d files or %d bytes: is it the right folder?", maxCollateralFiles, 4*collateral.MaxBundle)
		}
		if info.Size() > collateral.MaxBundle {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if _, err := collateral.New(b); err != nil {
			left++
			return nil
		}
		inputs = append(inputs, b)
		return nil
	})
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "check the path and its permissions", "collateral: %w", err)
	}
	if left > 0 {
		fmt.Fprintf(log, "bombyx: %d of %d files in %s are no collateral\n", left, files, path)
	}
	return inputs, nil
}

func newBundle(inputs [][]byte) (*collateral.Bundle, error) {
	b, err := collateral.New(inputs...)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "remove it", "%w", err)
	}
	return b, nil
}
