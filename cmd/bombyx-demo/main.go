// Command bombyx-demo runs the whole of Bombyx on one machine, in separate
// processes over real sockets: a local TON network, an enclave on mock
// hardware, a host, and a client that attests, asks, pays and closes. Then it
// attacks, and shows how each attack is refused.
//
// The mock hardware signs structurally real evidence with authorities made for
// this run; the client's policy pins them. Everything else is what runs in
// production.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/cli/command"
)

func main() { command.Main(root()) }

func root() *cobra.Command {
	var o options
	c := &cobra.Command{Use: "bombyx-demo", Short: "See a private, attested, paid answer end to end", Args: cobra.NoArgs,
		Long: `bombyx-demo starts a local TON network, an enclave on mock hardware and a host, each in
a process of its own, asks the model a question, pays for the answer, closes the
channel, and then attacks. It exits 0 only if every step and every refusal was seen.`}
	f := c.Flags()
	f.StringVar(&o.question, "question", "What is remote attestation?", "what to ask the model")
	f.BoolVar(&o.stay, "stay", false, "keep everything running and print how to use it from any OpenAI SDK")
	f.BoolVar(&o.json, "json", false, "print a summary for machines, and nothing else")
	c.MarkFlagsMutuallyExclusive("stay", "json") // the summary comes at the end
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		d := &demo{options: o, out: newScreen(cmd.OutOrStdout(), o.json), began: time.Now()}
		err := d.run(cmd.Context())
		if o.json {
			d.summary.OK = err == nil
			d.summary.Seconds = time.Since(d.began).Seconds()
			if err != nil {
				d.summary.Error = err.Error()
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			enc.Encode(d.summary)
		}
		return err
	}
	c.AddCommand(enclaveCommand())
	return c
}

type options struct {
	question   string
	stay, json bool
}

// summary is what --json prints.
type summary struct {
	OK       bool     `json:"ok"`
	Error    string   `json:"error,omitempty"`
	Seconds  float64  `json:"seconds"`
	Checks   int      `json:"checks_passed"`
	Answer   string   `json:"answer"`
	Receipt  string   `json:"receipt"`
	Tokens   uint64   `json:"completion_tokens"`
	Cost     uint64   `json:"cost_nanogram"`
	Vouchers []uint64 `json:"voucher_totals_nanogram"`
	Host     struct {
		SealedRequest int64 `json:"sealed_request_bytes"`
		SealedAnswer  int64 `json:"sealed_answer_bytes"`
	} `json:"host_saw"`
	Money   *books   `json:"money"`
	Attacks []attack `json:"attacks"`
}

// A demo is one run.
type demo struct {
	options
	out     *screen
	began   time.Time
	summary summary

	dir     string
	procs   []*process
	parties parties
}

func (d *demo) run(parent context.Context) (err error) {
	ctx, cancel := context.WithTimeout(parent, 3*time.Minute)
	defer cancel()
	if d.dir, err = os.MkdirTemp("", "bombyx-demo-"); err != nil {
		return err
	}
	defer func() {
		if err != nil && parent.Err() == nil {
			for _, p := range d.procs {
				p.showLog(os.Stderr)
			}
		}
		for i := len(d.procs) - 1; i >= 0; i-- {
			d.procs[i].stop()
		}
		os.RemoveAll(d.dir)
	}()
	for _, step := range []func(context.Context) error{d.startAll, d.openChannel, d.ask, d.claim, d.attackAll} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.stay {
		return d.serveUntilInterrupted(parent)
	}
	if err := d.close(ctx); err != nil {
		return err
	}
	d.out.title("Done")
	d.out.line("One private, attested, paid answer, and %d attacks refused, in %.1f s.", len(d.summary.Attacks), time.Since(d.began).Seconds())
	return nil
}

func unexpected(what string, err error) error {
	return cli.Errorf(cli.Refused, "please report this with the log above", "%s: %w", what, err)
}

var errNotRefused = fmt.Errorf("the attack was not refused")
