package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A payer is the client process of the crash test: the client library and its
// store, put together as bombyx proxy does, under a load of its own.
type payer struct {
	Host      string
	HostKey   []byte
	Authority string // seed
	Network   int32
	Channel   channel.Params
	Key       []byte // seed
	Deposit   uint64
	Store     string // file
	Account   string // file: what it has seen, a line each, as it happened
	Workers   int
}

// run plays one of: "load" asks without end, "look" opens a session and says
// how far the channel has come, "close" closes by agreement.
func (p *payer) run(mode string) error {
	ctx := context.Background()
	f, err := os.OpenFile(p.Account, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// One write each: what is written before a kill is there after it.
	note := func(format string, args ...any) { fmt.Fprintf(f, format+"\n", args...) }
	s, err := store.Open(ctx, p.Store, time.Now)
	if err != nil {
		return err
	}
	address := p.Channel.Address()
	if err := s.Add(ctx, store.Channel{Network: p.Network, Params: p.Channel, Host: p.Host, HostKey: p.HostKey, Deposit: p.Deposit, State: store.StateOpen}); err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	release, err := s.Acquire(address)
	if err != nil {
		return err
	}
	defer release()
	known, err := s.Channel(ctx, address)
	if err != nil {
		return err
	}
	a := attestationtest.New(p.Authority)
	cfg := client.Config{Host: p.Host, HostKey: p.HostKey, Policy: a.Policy(time.Now()), MaxPrices: killPrices, Window: killWindow, Timeout: 5 * time.Second,
		Payment: client.Payment{Network: p.Network, Channel: p.Channel, Key: ed25519.NewKeyFromSeed(p.Key), Deposit: p.Deposit, State: known.Progress, Save: s.Save(address), Flush: s.Flush},
		Base:    &acknowledged{http.DefaultTransport.(*http.Transport).Clone(), note},
		Trace: client.Trace{
			Voucher: func(v *channel.SignedVoucher) { note("signed %d", v.Total) },
			Receipt: func(r *client.Receipt, _ string) { note("receipt %s %d", r.ID, r.Cost) },
		}}
	cfg.Policy.Devices.Modes = []string{"cpu"}
	if mode == "close" {
		if err := client.CloseTogether(ctx, cfg); err != nil {
			return err
		}
		return s.Close()
	}
	t, err := client.New(cfg)
	if err != nil {
		return err
	}
	if mode == "look" {
		if _, err := t.Forgive(ctx); err != nil {
			return err
		}
		resp, err := p.ask(t, `{"model":"m","stream":true,"max_tokens":1,"messages":[]}`)
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		st := t.State()
		note("state %d %d", st.Signed, st.Settled)
		return s.Close()
	}
	var wg sync.WaitGroup
	for range p.Workers {
		wg.Go(func() {
			for {
				p.work(t, note)
			}
		})
	}
	wg.Wait()
	return nil
}

func (p *payer) ask(t *client.Transport, body string) (*http.Response, error) {
	req, err := http.NewRequest("POST", client.BaseURL+"/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

// work asks once, in one of the ways that clients do.
func (p *payer) work(t *client.Transport, note func(string, ...any)) {
	body := `{"model":"m","stream":true,"messages":[]}`
	switch rand.IntN(5) {
	case 0:
		body = `{"model":"m","max_tokens":20,"messages":[]}`
	case 1:
		body = fmt.Sprintf(`{"model":"m","stream":true,"max_tokens":%d,"messages":[]}`, 1+rand.IntN(60))
	}
	resp, err := p.ask(t, body)
	if err != nil {
		note("error %v", err)
		return
	}
	defer resp.Body.Close()
	var content []byte
	if rand.IntN(10) == 0 {
		content, err = io.ReadAll(io.LimitReader(resp.Body, int64(rand.IntN(5000)))) // loses interest
	} else {
		content, err = io.ReadAll(resp.Body)
	}
	if resp.StatusCode != 200 {
		note("refused %d %s", resp.StatusCode, bytes.ReplaceAll(content, []byte("\n"), []byte(" ")))
		if bytes.Contains(content, []byte("window_spent")) {
			// It has had a window of answers that a kill kept from it.
			n, err := t.Forgive(context.Background())
			note("forgiven %d %v", n, err)
			return
		}
		time.Sleep(20 * time.Millisecond) // the host may be down
		return
	}
	note("answer %d %v", len(content), err)
}

// acknowledged notes vouchers that the host has acknowledged.
type acknowledged struct {
	http.RoundTripper
	note func(string, ...any)
}

func (a *acknowledged) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/v1/voucher") {
		return a.RoundTripper.RoundTrip(r)
	}
	wire, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(wire))
	resp, err := a.RoundTripper.RoundTrip(r)
	if v, perr := channel.ParseVoucher(wire); err == nil && perr == nil && resp.StatusCode == 204 {
		a.note("acknowledged %d", v.Total)
	}
	return resp, err
}

// play runs one process of the crash test.
func play(role string) error {
	var p payer
	b, err := os.ReadFile(os.Getenv("BOMBYX_KILLS_PAYER"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	return p.run(role)
}
