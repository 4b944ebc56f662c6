package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/wholefile"
)

func collateralCommand(h *home) *cobra.Command {
	c := &cobra.Command{Use: "collateral", Short: "Fetch and bundle what evidence is appraised with",
		Long: `Collateral is what the makers of the hardware sign about it: TCB info, QE identities,
revocation lists, certificates, reference manifests, OCSP answers. A bundle holds any of
it in one file that is named by its contents. Nobody has to trust a bundle or who made
it: every item carries its maker's signature, which bombyx verify checks.`,
		Example: `  bombyx collateral fetch -o new.json evidence.json && mv new.json collateral.json
  bombyx collateral bundle -o collateral.json ./downloads hardware-list.json
  bombyx collateral show collateral.json`}
	c.AddCommand(collateralFetchCommand(h), collateralBundleCommand(), collateralShowCommand())
	return c
}

// services is where collateral comes from.
type services struct{ pccs, kds, rim, ocsp string }

func (s *services) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.pccs, "pccs", "", "Intel PCS or your own PCCS (default "+fetch.IntelPCS+")")
	f.StringVar(&s.kds, "kds", "", "AMD Key Distribution Service or a mirror (default "+fetch.AMDKDS+")")
	f.StringVar(&s.rim, "rim-service", "", "NVIDIA RIM service or a mirror (default "+fetch.NVIDIARIM+")")
	f.StringVar(&s.ocsp, "ocsp", "", "NVIDIA OCSP responder (default "+fetch.NVIDIAOCSP+")")
}

const cacheDir = "cache" // in the home directory: what was fetched, each response a file

// fetcher returns one that keeps what it gets in the home directory, and says on log what it asks for.
func (s *services) fetcher(h *home, log io.Writer) (*fetch.Fetcher, error) {
	for _, x := range []struct{ flag, url string }{{"--pccs", s.pccs}, {"--kds", s.kds}, {"--rim-service", s.rim}, {"--ocsp", s.ocsp}} {
		if u, err := url.Parse(x.url); x.url != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
			return nil, cli.Errorf(cli.Usage, "write it as in https://pccs.example:8081", "%s: %.200q is no service's address", x.flag, x.url)
		}
	}
	dir, err := h.at(cacheDir)
	if err != nil {
		return nil, err
	}
	return fetch.New(fetch.Config{Dir: dir, Services: fetch.Services{PCS: s.pccs, KDS: s.kds, RIM: s.rim, OCSP: s.ocsp},
		Progress: func(url string) { fmt.Fprintf(log, "bombyx: fetching %s\n", url) }}), nil
}

// fetchFor fetches what appraising data takes. What could not be had it says on log; complete is then false.
func fetchFor(ctx context.Context, f *fetch.Fetcher, data, certificates []byte, log io.Writer) (inputs [][]byte, complete bool, err error) {
	inputs, err = f.For(ctx, data, certificates)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if err == nil {
		return inputs, true, nil
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(log, "bombyx: %s\n", line)
	}
	return inputs, false, nil
}

func collateralFetchCommand(h *home) *cobra.Command {
	var from services
	var out, certChain string
	c := &cobra.Command{Use: "fetch EVIDENCE...", Short: "Fetch what appraising evidence takes, as one bundle", Args: cobra.MinimumNArgs(1),
		Long: `fetch asks Intel's PCS or a PCCS, AMD's KDS, and NVIDIA's RIM service and OCSP responder for
what appraising the evidence takes, and writes one bundle. They learn which machine you
ask about. What was fetched is kept for 12 hours in "cache" in the home directory, OCSP
answers excepted; HTTPS_PROXY and NO_PROXY are obeyed.

Exit codes: 0 everything is there, 2 usage, 3 something is missing from the bundle.`,
		Example: "  bombyx collateral fetch -o new.json evidence.json && mv new.json collateral.json"}
	from.flags(c)
	c.Flags().StringVarP(&out, "output", "o", "", "write the bundle to this file (default standard output)")
	c.Flags().StringVar(&certChain, "cert-chain", "", "certificate chain of a bare GPU or switch report, leaf first, PEM or DER")
	c.RunE = func(cmd *cobra.Command, files []string) error {
		f, err := from.fetcher(h, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		var chain []byte
		if certChain != "" {
			if chain, err = cli.ReadFile(certChain, attestation.MaxCertificates); err != nil {
				return err
			}
		}
		var inputs [][]byte
		var partial []string
		for _, file := range files {
			data, err := cli.ReadInput(cmd.InOrStdin(), file, attestation.MaxInput)
			if err != nil {
				return err
			}
			if _, err := attestation.TakeApart(data, chain); err != nil {
				return cli.Errorf(cli.Usage, "is it the right file? bombyx inspect shows what a file says", "%s: %w", file, err)
			}
			more, complete, err := fetchFor(cmd.Context(), f, data, chain, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if inputs = append(inputs, more...); !complete {
				partial = append(partial, file)
			}
		}
		const hint = "the lines above say what, and why"
		if len(inputs) == 0 {
			return cli.Errorf(cli.Missing, hint, "nothing could be fetched")
		}
		if err := writeBundle(cmd, out, inputs); err != nil {
			return err
		}
		if len(partial) > 0 {
			return cli.Errorf(cli.Missing, hint, "%s: not everything could be fetched", partial[0])
		}
		return nil
	}
	return c
}

func collateralBundleCommand() *cobra.Command {
	var out string
	c := &cobra.Command{Use: "bundle PATH...", Short: "Make a bundle of files and folders", Args: cobra.MinimumNArgs(1),
		Long: `bundle puts everything that the files and folders hold into one bundle: PCS responses with or
without their headers, CRLs, certificates, RIMs, OCSP answers, hardware lists and tokens,
other bundles. They are recognised by their contents, whatever the files are called.`,
		Example: "  bombyx collateral bundle -o collateral.json ./downloads hardware-list.json"}
	c.Flags().StringVarP(&out, "output", "o", "", "write the bundle to this file (default standard output)")
	c.RunE = func(cmd *cobra.Command, paths []string) error {
		inputs, err := readAllCollateral(paths, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if len(inputs) == 0 {
			return cli.Errorf(cli.Usage, "give TCB info, QE identity, CRL, certificate, RIM, OCSP answer or bundle", "%s: nothing there is collateral", paths[0])
		}
		return writeBundle(cmd, out, inputs)
	}
	return c
}

// writeBundle writes a bundle whole or not at all.
func writeBundle(cmd *cobra.Command, path string, inputs [][]byte) error {
	b, err := profile.NewBundle(inputs)
	if err != nil {
		return err
	}
	encoded, err := b.Encode()
	if err != nil {
		return cli.Errorf(cli.Usage, "make two bundles", "%w", err)
	}
	if path == "" {
		_, err := cmd.OutOrStdout().Write(encoded)
		return err
	}
	if err := wholefile.Write(path, encoded, 0o644); err != nil { // public, and a host under another account may serve it
		return cli.Errorf(cli.Usage, "choose another --output", "%w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "bombyx: %s: %d items, %d bytes, bundle %x\n", path, len(b.Items()), len(encoded), b.Digest())
	return nil
}

func collateralShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show PATH...", Short: "List what bundles, files and folders hold", Args: cobra.MinimumNArgs(1),
		Long: `show lists every item: its kind, the first bytes of its SHA-256, what it is for, and from
when until when it says that it holds. No signature is checked: bombyx verify does that.`,
		Example: "  bombyx collateral show collateral.json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each item")
	c.RunE = func(cmd *cobra.Command, paths []string) error {
		inputs, err := readAllCollateral(paths, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		b, err := profile.NewBundle(inputs)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if asJSON {
			for _, i := range b.Items() {
				if err := printJSON(w, itemJSON{string(i.Kind), fmt.Sprintf("%x", i.Digest), i.About, len(i.Content), date(i.From), date(i.Until)}); err != nil {
					return err
				}
			}
			return nil
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, i := range b.Items() {
			fmt.Fprintf(t, "%s\t%x\t%s\t%s\t%s\n", i.Kind, i.Digest[:6], date(i.From), date(i.Until), cli.Printable(strings.Join(strings.Fields(i.About), " ")))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%d items, bundle %x\n", len(b.Items()), b.Digest())
		return err
	}
	return c
}

type itemJSON struct {
	Kind   string `json:"kind"`
	SHA256 string `json:"sha256"`
	About  string `json:"about"`
	Bytes  int    `json:"bytes"`
	From   string `json:"from"`  // RFC 3339, empty when it does not say
	Until  string `json:"until"` // likewise
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// readAllCollateral reads files and folders, and counts on log what is no collateral.
func readAllCollateral(paths []string, log io.Writer) (inputs [][]byte, err error) {
	for _, path := range paths {
		more, err := profile.ReadCollateral(path, func(n, of int) {
			fmt.Fprintf(log, "bombyx: %d of %d files in %s are no collateral\n", n, of, path)
		})
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, more...)
	}
	return inputs, nil
}
