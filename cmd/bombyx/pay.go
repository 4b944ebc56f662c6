package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/results"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A line is what chat and proxy talk through, and what they say of it. Close it.
type line struct {
	*profile.Line
	home *home

	mu       sync.Mutex
	quiet    bool                // an answer is on the screen:
	held     []string            // what there is to say waits for its end
	result   *attestation.Result // the last appraisal
	receipt  *client.Receipt     // the last one
	vouchers int
	reasons  map[string]string // why hosts were passed over last
	log      io.Writer
}

// A lineOptions is what chat and proxy have in common.
type lineOptions struct {
	host    hostChoice
	verbose bool
	timeout time.Duration
}

func (o *lineOptions) flags(h *home, c *cobra.Command) {
	o.host.flags(h, c)
	h.passphraseFlag(c)
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show every check of the evidence, vouchers and receipts on standard error")
	c.Flags().DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long host and enclave may give no sign of life")
}

// dial prepares a line.
func (h *home) dial(cmd *cobra.Command, o lineOptions) (*line, error) {
	if o.timeout <= 0 {
		return nil, cli.Errorf(cli.Usage, "give a time such as 2m", "--timeout %s is out of range", o.timeout)
	}
	d, err := h.profile()
	if err != nil {
		return nil, err
	}
	l := &line{home: h, log: cmd.ErrOrStderr(), reasons: map[string]string{}}
	l.Line, err = d.Dial(cmd.Context(), profile.Options{
		Passphrase: h.walletPassphrase,
		Hosts:      func(context.Context) ([]profile.Host, error) { return h.hosts(cmd, o.host) },
		Passed:     l.passed,
		Timeout:    o.timeout,
		Trace:      l.trace(o.verbose),
		Chain:      h.proven,
	})
	if err != nil {
		h.hangUp()
		return nil, err
	}
	return l, nil
}

// passed says why a host was passed over, once as long as it is the same.
func (l *line) passed(host string, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reasons[host] == why.Error() {
		return
	}
	l.reasons[host] = why.Error()
	fmt.Fprintf(l.log, "bombyx: passed over %s: %s\n", host, cli.Printable(why.Error()))
}

func (l *line) trace(verbose bool) client.Trace {
	say := func(format string, args ...any) {
		if !verbose {
			return
		}
		text := fmt.Sprintf("bombyx: "+format+"\n", args...)
		if l.quiet {
			l.held = append(l.held, text)
		} else {
			io.WriteString(l.log, text)
		}
	}
	return client.Trace{
		Appraised: func(enclave string, evidence []byte, r *attestation.Result) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.result = r
			if verbose {
				say("evidence of enclave %s, %d bytes:", enclave, len(evidence))
				results.Table(l.log, r, results.TableOptions{})
			}
		},
		NoEpoch: func(enclave string, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			say("no epoch evidence of enclave %s, asking with a nonce: %v", enclave, err)
		},
		Voucher: func(v *channel.SignedVoucher) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.vouchers++
			say("voucher %d: %d nanogram in all", l.vouchers, v.Total)
		},
		Sealed: func(n int64) {
			l.mu.Lock()
			defer l.mu.Unlock()
			say("sealed request: %d bytes", n)
		},
		Receipt: func(r *client.Receipt, _ string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.receipt = r
			say("receipt %s: %s, %d nanogram", r.ID, r.Finish, r.Cost)
		},
	}
}

// hush keeps what --verbose has to say out of the middle of an answer, until unhush.
func (l *line) hush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = true
}

func (l *line) unhush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range l.held {
		io.WriteString(l.log, text)
	}
	l.quiet, l.held = false, nil
}

// end is the line's end that pays from a channel.
func (l *line) end(channel string) *profile.End {
	for _, e := range l.Ends {
		if e.Channel.Params.Address().Raw() == channel {
			return e
		}
	}
	return nil
}

// take returns what the last answer left, and forgets the receipt.
func (l *line) take() (*attestation.Result, *client.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receipt
	l.receipt = nil
	return l.result, r
}

// close writes what is still to be recorded.
func (l *line) close() error {
	err := l.Close()
	l.home.hangUp()
	return err
}
