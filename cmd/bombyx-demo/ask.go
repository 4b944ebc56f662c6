package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// openChannel deposits money that pays this host and nobody else.
func (d *demo) openChannel(ctx context.Context) (err error) {
	p := &d.parties
	d.out.title("A payment channel on TON")
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	p.key = key
	p.channel = channel.Params{ClientKey: [32]byte(pub), CloseDelay: closeDelay, ExpiresAt: uint32(time.Now().Add(30 * 24 * time.Hour).Unix())}
	if p.channel.Payee, err = channel.AddressOf(p.host.Address()); err != nil {
		return err
	}
	if p.channel.Client, err = channel.AddressOf(p.client.Address()); err != nil {
		return err
	}
	if p.opened, err = d.audit(ctx); err != nil {
		return err
	}
	m := channel.Open(p.channel, deposit)
	if _, err := p.client.Send(ctx, p.chain, wallet.Message{To: p.channel.Address().Std(), Amount: deposit, Bounce: false, Init: m.StateInit}); err != nil {
		return unexpected("open channel", err)
	}
	if err := until(ctx, "the channel", func() (bool, error) {
		_, err := channel.Load(ctx, p.chain, p.channel.Address())
		return err == nil, err
	}); err != nil {
		return err
	}
	d.out.pass("deposited %s GRAM in %s", ton.Nano(deposit), p.channel.Address())
	d.out.line("    pays only %s", p.host.Address())
	d.out.line("    returns the rest to %s, %d s after the client asks, whether or not the host agrees", p.client.Address(), closeDelay)
	return nil
}

// clientConfig is the client as a library user configures it.
func (d *demo) clientConfig() client.Config {
	p := &d.parties
	return client.Config{Host: p.hostURL, HostKey: p.hostKey, Policy: p.policy, Collateral: p.bundle, MaxPrices: modelPrices, Window: window,
		Payment: client.Payment{Network: p.chain.GlobalID(), Channel: p.channel, Key: p.key, Deposit: deposit - channel.Reserve},
		Timeout: 20 * time.Second}
}

// ask sends the question and shows everything that happens.
func (d *demo) ask(ctx context.Context) error {
	p := &d.parties
	d.out.title("Evidence, appraised before a word is sent")
	p.wire = &wiretap{next: http.DefaultTransport}
	cfg := d.clientConfig()
	cfg.Base = p.wire
	var mu sync.Mutex
	var receipts []string
	cfg.Trace = client.Trace{
		Appraised: func(_ string, _ []byte, r *attestation.Result) {
			d.showChecks(r)
		},
		Voucher: func(v *channel.SignedVoucher) {
			mu.Lock()
			defer mu.Unlock()
			d.summary.Vouchers = append(d.summary.Vouchers, v.Total)
		},
		Receipt: func(r *client.Receipt, s string) {
			mu.Lock()
			defer mu.Unlock()
			receipts = append(receipts, s)
			d.summary.Receipt, d.summary.Tokens = s, r.Usage.Completion
			d.summary.Cost += r.Cost
		},
	}
	t, err := client.New(cfg)
	if err != nil {
		return err
	}
	p.transport = t
	if err := t.Attest(ctx, p.model); err != nil {
		return unexpected("attestation", err)
	}

	d.out.title("The question, sealed; the answer, as it streams")
	d.out.line("you: %s", d.question)
	d.out.raw("  " + p.model + ": ")
	answer, err := d.chat(ctx, t, d.question, func(s string) { d.out.raw(s) })
	d.out.raw("\n")
	if err != nil {
		return unexpected("answer", err)
	}
	d.summary.Answer = answer
	mu.Lock()
	defer mu.Unlock()
	if len(receipts) != 1 || answer == "" {
		return unexpected("answer", fmt.Errorf("%d receipts for an answer of %d bytes", len(receipts), len(answer)))
	}
	d.out.line("")
	payload := strings.Split(receipts[0], ".")
	d.out.pass("receipt verified under the attested key: %d tokens for %s GRAM", d.summary.Tokens, ton.Nano(d.summary.Cost))
	d.out.line("    %s…", clip(payload[1], 80))
	d.out.pass("%d vouchers signed while it streamed, each at most %s GRAM ahead of delivery:", len(d.summary.Vouchers), ton.Nano(window))
	var totals []string
	for _, v := range d.summary.Vouchers {
		totals = append(totals, ton.Nano(v).String())
	}
	d.out.line("    %s", strings.Join(totals, ", "))

	d.out.title("What the host saw")
	sent, got := p.wire.bytes()
	d.summary.Host.SealedRequest, d.summary.Host.SealedAnswer = int64(len(sent)), int64(len(got))
	d.out.line("request   %6d bytes  %s…", len(sent), hex.EncodeToString(sent[:32]))
	d.out.line("answer    %6d bytes  %s…", len(got), hex.EncodeToString(got[:32]))
	for _, text := range []string{d.question, answer, clip(answer, 16), p.model} {
		if bytes.Contains(sent, []byte(text)) || bytes.Contains(got, []byte(text)) {
			return unexpected("privacy", fmt.Errorf("%q passed the host in the clear", text))
		}
	}
	d.out.pass("neither question nor answer is in it")
	return nil
}

// showChecks prints one line a check; bombyx verify shows more of each.
func (d *demo) showChecks(r *attestation.Result) {
	skipped := 0
	for i, c := range r.Checks {
		switch c.Status {
		case check.Pass:
			d.summary.Checks++
		case check.Skip:
			skipped++
		}
		seen := c.Seen
		if seen == "" {
			seen = c.Detail
		}
		d.out.line("%3d  %s  %-52s %s", i+1, d.out.status(string(c.Status)), clip(c.Title, 52), clip(seen, 44))
	}
	d.out.line("")
	verdict := "REJECTED"
	if r.Err() == nil {
		verdict = "VERIFIED"
	}
	d.out.line("%s under policy %q: platform %s, %d checks passed, %d skipped that the policy does not require", verdict, r.Policy, r.TCBStatus, d.summary.Checks, skipped)
	d.out.line("holds until %s", r.ValidUntil.UTC().Format(time.RFC3339))
}

// chat asks one question and returns the whole answer.
func (d *demo) chat(ctx context.Context, t http.RoundTripper, question string, show func(string)) (string, error) {
	body, err := json.Marshal(map[string]any{"model": d.parties.model, "stream": true, "temperature": 0, "max_tokens": 200,
		"messages": []any{map[string]string{"role": "user", "content": question}}})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, client.BaseURL+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var o struct {
			Error struct{ Message, Code string }
		}
		if err := json.NewDecoder(resp.Body).Decode(&o); err != nil {
			return "", err
		}
		return "", &refusal{resp.StatusCode, o.Error.Code, o.Error.Message}
	}
	var answer strings.Builder
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		data, ok := strings.CutPrefix(s.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var c struct {
			Choices []struct{ Delta struct{ Content string } }
			Error   *struct{ Message, Code string }
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			return answer.String(), err
		}
		if c.Error != nil {
			return answer.String(), &refusal{0, c.Error.Code, c.Error.Message}
		}
		for _, x := range c.Choices {
			answer.WriteString(x.Delta.Content)
			if show != nil {
				show(x.Delta.Content)
			}
		}
	}
	return answer.String(), s.Err()
}

// A refusal is an error object in place of an answer.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.message }

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// A wiretap keeps what passes the host: the sealed request and answer.
type wiretap struct {
	next http.RoundTripper

	mu        sync.Mutex
	sent, got bytes.Buffer
	last      *http.Request
}

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/sealed") {
		return w.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.sent.Write(body)
	w.last = r.Clone(context.WithoutCancel(r.Context()))
	w.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := w.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, w), resp.Body}
	}
	return resp, err
}

func (w *wiretap) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(b)
}

func (w *wiretap) bytes() (sent, got []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.sent.Bytes()), bytes.Clone(w.got.Bytes())
}
