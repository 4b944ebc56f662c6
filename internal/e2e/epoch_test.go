package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// A clock is one for chain, host and client.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// network is a devnet with some blocks and a client of it.
func network(t *testing.T, c *clock) (*devnet.Chain, *ton.Client) {
	t.Helper()
	chain, err := devnet.New(devnet.Config{Clock: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	for range 3 {
		if err := chain.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	cl, err := ton.Dial(t.Context(), chain.GlobalConfig(), ton.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return chain, cl
}

// quotes counts the Evidence that a node makes, and the nonces that it answers.
type quotes struct {
	node   attestation.Collector
	mu     sync.Mutex
	nonces [][32]byte
}

func (q *quotes) Collect(ctx context.Context, nonce [32]byte, keyset []byte) ([]byte, error) {
	q.mu.Lock()
	q.nonces = append(q.nonces, nonce)
	q.mu.Unlock()
	return q.node.Collect(ctx, nonce, keyset)
}

func (q *quotes) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.nonces)
}

// An epochStack is a stack whose client may take an epoch's Evidence, and what it said about it.
type epochStack struct {
	*Stack
	quotes  *quotes
	results []*attestation.Result
	refused []error // why not an epoch's
}

func startEpochs(t *testing.T, c *clock, chain *ton.Client, change func(*Options)) *epochStack {
	t.Helper()
	node, err := attestationtest.New("e2e").NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := &epochStack{quotes: &quotes{node: node}}
	o := Options{Engine: &Script{Chunks: 3, Size: 8}, Collector: s.quotes, Now: c.now, EpochAge: 600, Blocks: chain,
		Epochs: host.Epochs{Lifetime: 5 * time.Minute, Newest: (&host.TON{Client: chain}).Newest},
		Trace: client.Trace{
			Appraised: func(_ string, _ []byte, r *attestation.Result) { s.results = append(s.results, r) },
			NoEpoch:   func(_ string, err error) { s.refused = append(s.refused, err) },
		}}
	if change != nil {
		change(&o)
	}
	s.Stack = start(t, o)
	return s
}

// ask gets one answer and reports whether it rests on an epoch's Evidence.
func (s *epochStack) ask(t *testing.T) (epoch bool) {
	t.Helper()
	resp, err := post(s.Stack, streaming)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := read(t, resp); err != nil || resp.StatusCode != 200 || !strings.HasSuffix(b, "data: [DONE]\n\n") {
		t.Fatalf("%d %q %v", resp.StatusCode, b, err)
	}
	return ofEpoch(s.results[len(s.results)-1])
}

func ofEpoch(r *attestation.Result) bool {
	return slices.ContainsFunc(r.Checks, func(c check.Check) bool { return c.ID == attestation.CheckEpoch })
}

// One quote serves every client until its block is too old; then there are new keys and a new quote.
func TestEpochServesManyClients(t *testing.T) {
	c := &clock{at: time.Now()}
	chain, cl := network(t, c)
	s := startEpochs(t, c, cl, nil)
	if !s.ask(t) || len(s.refused) != 0 {
		t.Fatalf("the epoch's evidence was not used: %v", s.refused)
	}
	first := s.results[0]
	for range 3 {
		other, err := client.New(s.Config)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Attest(t.Context(), Model); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.quotes.count(); n != 1 || len(s.results) != 4 || !ofEpoch(s.results[3]) {
		t.Errorf("%d quotes for 4 clients, %d appraisals", n, len(s.results))
	}
	if want := chain.Status().Time.Add(10 * time.Minute); first.ValidUntil.After(want) {
		t.Errorf("valid until %v, the block is too old from %v on", first.ValidUntil, want)
	}
	c.advance(6 * time.Minute) // the host's epoch is over, the policy's not
	if err := chain.Seal(); err != nil {
		t.Fatal(err)
	}
	if s.ask(t); s.quotes.count() != 1 {
		t.Error("the client did not keep what it had appraised")
	}
	c.advance(5 * time.Minute)
	if err := chain.Seal(); err != nil {
		t.Fatal(err)
	}
	if !s.ask(t) || s.quotes.count() != 2 {
		t.Errorf("%d quotes after the block became too old: %v", s.quotes.count(), s.refused)
	}
	if last := s.results[len(s.results)-1]; bytes.Equal(last.Keyset.KeyConfigs, first.Keyset.KeyConfigs) {
		t.Error("the keys did not rotate with the epoch")
	}
}

// Whatever is wrong with an epoch's Evidence, it is not used: the client asks with a nonce of its own.
func TestEpochRefusals(t *testing.T) {
	c := &clock{at: time.Now()}
	chain, cl := network(t, c)
	_, foreign := network(t, c) // same global id and times, other validators
	head := func(change func(*attestation.Epoch)) func(*Options) {
		return func(o *Options) {
			o.Epochs.Newest = func(ctx context.Context) (attestation.Epoch, error) {
				e, err := (&host.TON{Client: cl}).Newest(ctx)
				change(&e)
				return e, err
			}
		}
	}
	answer := func(change func([]byte) []byte) func(*Options) {
		return func(o *Options) {
			o.Outside = func(next http.RoundTripper) http.RoundTripper {
				return transport(func(r *http.Request) (*http.Response, error) {
					resp, err := next.RoundTrip(r)
					if err == nil && strings.HasSuffix(r.URL.Path, "/epoch") {
						b, _ := io.ReadAll(resp.Body)
						resp.Body.Close()
						resp.Body = io.NopCloser(bytes.NewReader(change(b)))
					}
					return resp, err
				})
			}
		}
	}
	for _, k := range []struct {
		name   string
		change func(*Options)
		err    string
	}{
		{"a block that does not exist yet", head(func(e *attestation.Epoch) { e.Seqno += 1000 }), "there is no masterchain block"},
		{"no block", head(func(e *attestation.Epoch) { e.Seqno = 0 }), "there is no masterchain block"},
		{"another block under the number", head(func(e *attestation.Epoch) { e.RootHash[0] ^= 1 }), "is not this network's"},
		{"a block of another network", func(o *Options) { o.Epochs.Newest = (&host.TON{Client: foreign}).Newest }, "is not this network's"},
		{"a block too old", func(o *Options) {
			o.Epochs.Newest = func(ctx context.Context) (attestation.Epoch, error) {
				h, err := cl.MasterchainBlock(ctx, 1)
				return attestation.Epoch{Seqno: h.Seqno, RootHash: h.RootHash}, err
			}
		}, "policy.epoch"},
		{"evidence of another block", answer(func(b []byte) []byte {
			h, err := cl.MasterchainBlock(t.Context(), 2)
			if err != nil {
				t.Error(err)
			}
			return append(attestation.Epoch{Seqno: h.Seqno, RootHash: h.RootHash}.AppendEncoded(nil), b[attestation.EpochSize:]...)
		}), "composite.nonce"},
		{"no epoch", answer(func(b []byte) []byte { return b[:10] }), "10 bytes"},
		{"no evidence", answer(func(b []byte) []byte { return b[:attestation.EpochSize] }), "composite.parse"},
		{"altered evidence", answer(func(b []byte) []byte { return append(b, 'x') }), "composite.parse"},
		{"a host without epochs", func(o *Options) { o.Epochs = host.Epochs{} }, "no Evidence of an epoch"},
		{"a client without a chain", func(o *Options) { o.Blocks = unreachable{} }, "no liteserver gave"},
	} {
		t.Run(k.name, func(t *testing.T) {
			if k.name == "a block too old" {
				c.advance(time.Hour)
				if err := chain.Seal(); err != nil {
					t.Fatal(err)
				}
			}
			s := startEpochs(t, c, cl, k.change)
			if s.ask(t) {
				t.Error("the epoch's evidence was used")
			}
			if len(s.refused) != 1 || !strings.Contains(s.refused[0].Error(), k.err) {
				t.Errorf("got %v, want %q", s.refused, k.err)
			}
		})
	}
}

type unreachable struct{}

func (unreachable) MasterchainBlock(context.Context, uint32) (ton.Head, error) {
	return ton.Head{}, ton.ErrUnreachable
}

// A policy without the rule wants a nonce: no epoch is asked for, and one that is pushed is a replay.
func TestPolicyWantsNonce(t *testing.T) {
	c := &clock{at: time.Now()}
	_, cl := network(t, c)
	var asked, swapped bool
	swap := func(o *Options) {
		o.EpochAge = 0
		o.Outside = func(next http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				asked = asked || strings.HasSuffix(r.URL.Path, "/epoch")
				if !swapped || !strings.HasSuffix(r.URL.Path, "/evidence") {
					return next.RoundTrip(r)
				}
				r = r.Clone(r.Context())
				r.Method, r.Body, r.ContentLength = "GET", nil, 0
				r.URL.Path = strings.TrimSuffix(r.URL.Path, "evidence") + "epoch"
				resp, err := next.RoundTrip(r)
				if err == nil {
					io.CopyN(io.Discard, resp.Body, attestation.EpochSize)
				}
				return resp, err
			})
		}
	}
	s := startEpochs(t, c, cl, swap)
	if s.ask(t) || asked || len(s.refused) != 0 {
		t.Errorf("an epoch was asked for: %v %v", asked, s.refused)
	}
	swapped = true
	s = startEpochs(t, c, cl, swap)
	resp, err := post(s.Stack, streaming)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if f := apierror.Read(resp); f.Code != "attestation_failed" || !strings.Contains(f.Message, "composite.nonce") {
		t.Errorf("%+v", f)
	}
}

// A host goes on serving an epoch's Evidence though its enclave was restarted: the client finds out, and asks with a nonce.
func TestEpochOutlivesItsEnclave(t *testing.T) {
	c := &clock{at: time.Now()}
	_, cl := network(t, c)
	var restarted sync.Once
	s := startEpochs(t, c, cl, func(o *Options) {
		o.Between = func(next http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (resp *http.Response, err error) {
				if r.URL.Path == "/sealed" {
					restarted.Do(func() {
						io.Copy(io.Discard, r.Body)
						r.Body.Close()
						w := apierror.New(422, "unknown_key", "the request is sealed to a key that is not in use", "")
						resp = &http.Response{StatusCode: 422, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(w.JSON())), Request: r}
					})
				}
				if resp == nil {
					resp, err = next.RoundTrip(r)
				}
				return resp, err
			})
		}
	})
	if s.ask(t) {
		t.Error("the client believed the host's epoch again")
	}
	if len(s.results) != 2 || !ofEpoch(s.results[0]) || len(s.refused) != 0 {
		t.Errorf("%d appraisals, %v", len(s.results), s.refused)
	}
}
