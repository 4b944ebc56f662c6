package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A greedy host says of every voucher that it is spent, and then that it is not
// enough: the next one would be worth a window more.
type greedy struct {
	rt         http.RoundTripper
	mu         sync.Mutex
	authorised uint64
	sessions   int
	lie        func(*http.Request) (*http.Response, error) // to what it does not answer itself
}

func (g *greedy) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Path {
	case "/v1/session":
		resp, err := g.rt.RoundTrip(r)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.sessions++
		if err != nil {
			return resp, err
		}
		var s map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			return nil, err
		}
		resp.Body.Close()
		s["spent"], s["reserved"] = g.authorised, 0
		b, err := json.Marshal(s)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		return resp, err
	case "/v1/voucher":
		wire, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		v, err := channel.ParseVoucher(wire)
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		g.authorised = max(g.authorised, v.Total)
		g.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(wire))
	}
	if resp, err := g.lie(r); resp != nil || err != nil {
		r.Body.Close()
		return resp, err
	}
	return g.rt.RoundTrip(r)
}

func refusal(status int, code string, header ...string) *http.Response {
	b := apierror.New(status, code, code, "").JSON()
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b))}
}

// A host that delivers nothing gets one window, however often it is asked,
// whatever it says has been spent, and whether it refuses or cuts.
func TestGreedyHost(t *testing.T) {
	const window, requests = 1000, 5
	for name, lie := range map[string]func(*greedy) func(*http.Request) (*http.Response, error){
		"forgets the session": func(*greedy) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/v1/voucher" {
					return refusal(401, "unknown_session"), nil
				}
				return nil, nil
			}
		},
		"forgets it later": func(*greedy) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/sealed") {
					return refusal(401, "unknown_session"), nil
				}
				return nil, nil
			}
		},
		"wants more credit": func(g *greedy) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/sealed") {
					a := strconv.FormatUint(g.authorised, 10)
					return refusal(402, "insufficient_credit", "Bombyx-Authorised", a, "Bombyx-Spent", a, "Bombyx-Reserved", "0"), nil
				}
				return nil, nil
			}
		},
		"cuts, and wants more credit": func(g *greedy) func(*http.Request) (*http.Response, error) {
			cut := false
			return func(r *http.Request) (*http.Response, error) {
				if !strings.HasSuffix(r.URL.Path, "/sealed") {
					return nil, nil
				}
				if cut = !cut; cut {
					return nil, errDead
				}
				a := strconv.FormatUint(g.authorised, 10)
				return refusal(402, "insufficient_credit", "Bombyx-Authorised", a, "Bombyx-Spent", a, "Bombyx-Reserved", "0"), nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := new(greedy)
			g.lie = lie(g)
			s := start(t, Options{Engine: &Script{Chunks: 5, Size: 8}, Window: window, Deposit: 100 * window, Outside: func(rt http.RoundTripper) http.RoundTripper {
				g.rt = rt
				return transport(g.RoundTrip)
			}})
			for range requests {
				resp, err := post(s, streaming)
				if err != nil {
					t.Fatal(err)
				}
				if body, _ := read(t, resp); resp.StatusCode < 400 {
					t.Fatalf("%d %q", resp.StatusCode, body)
				}
			}
			if st := s.Client.State(); st.Signed > window || st.Settled > 0 {
				t.Errorf("%+v: signed for nothing, want %d at most", st, window)
			}
			if g.sessions > 9*requests+1 {
				t.Errorf("%d sessions for %d requests", g.sessions, requests)
			}
		})
	}
}

// ask reads a whole answer and returns the code of its error, if it has one.
func ask(t *testing.T, rt http.RoundTripper, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", client.BaseURL+"/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	var o struct{ Error struct{ Code string } }
	switch {
	case err != nil:
		return "answer_broken"
	case resp.StatusCode != 200:
		json.Unmarshal(b, &o)
	}
	return o.Error.Code
}

// Many requests run at once, within one window, at a host that cuts all of
// them and says that everything was spent. It gets one window, and every
// request ends.
func TestCutsShareOneWindow(t *testing.T) {
	const window, together = 100_000, 24
	for name, body := range map[string]string{"streaming": streaming, "whole": strings.Replace(streaming, `"stream":true`, `"max_tokens":100`, 1)} {
		for when, after := range map[string]int{"at once": 0, "within the answer": 500} {
			t.Run(name+", "+when, func(t *testing.T) {
				var arrived atomic.Int64
				all := make(chan struct{})
				g := new(greedy)
				g.lie = func(r *http.Request) (*http.Response, error) {
					if !strings.HasSuffix(r.URL.Path, "/sealed") {
						return nil, nil
					}
					if arrived.Add(1) == together {
						close(all)
					}
					<-all // none ends before all run
					if after == 0 {
						return nil, errDead
					}
					resp, err := g.rt.RoundTrip(r)
					if err == nil {
						resp.Body = &dying{resp.Body, after, func() error { return io.ErrUnexpectedEOF }}
					}
					return resp, err
				}
				s := start(t, Options{Engine: &Script{Chunks: 300, Size: 8}, Window: window, Deposit: 100 * window, Outside: func(rt http.RoundTripper) http.RoundTripper {
					g.rt = rt
					return transport(g.RoundTrip)
				}})
				var wg sync.WaitGroup
				for range 2 * together {
					wg.Go(func() {
						if ask(t, s.Client, body) == "" {
							t.Error("an answer")
						}
					})
				}
				wg.Wait()
				code := ""
				for i := 0; code != "window_spent" && i < 2*together; i++ {
					code = ask(t, s.Client, body)
				}
				st := s.Client.State()
				if st.Signed > st.Settled+window || after == 0 && st.Settled > 0 {
					t.Errorf("%+v: more than a window was signed for nothing", st)
				}
				if code != "window_spent" {
					t.Errorf("once it has the whole window: %q, want window_spent", code)
				}
			})
		}
	}
}

// saved starts another client on what an earlier one has left in its store.
func saved(t *testing.T, s *Stack, path string) (*client.Transport, *store.Store) {
	t.Helper()
	db, err := store.Open(t.Context(), path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	p := &s.Config.Payment
	if err := db.Add(t.Context(), store.Channel{Network: Network, Params: p.Channel, Host: s.URL, HostKey: s.Host.Key(), Deposit: p.Deposit, State: store.StateOpen}); err != nil && !errors.Is(err, store.ErrExists) {
		t.Fatal(err)
	}
	c, err := db.Channel(t.Context(), p.Channel.Address())
	if err != nil {
		t.Fatal(err)
	}
	p.State, p.Save, p.Flush = c.Progress, db.Save(p.Channel.Address()), db.Flush
	rt, err := client.New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	return rt, db
}

// A client that is started again and again, at a host that takes all and
// delivers nothing, loses one window in all: it knows on disk what it signed
// before anybody else does. It need not end well for that.
func TestRestartsShareOneWindow(t *testing.T) {
	const window = 1000
	path := filepath.Join(t.TempDir(), "client.db")
	g := new(greedy)
	var s *Stack
	durable := func() (c store.Channel) {
		db, err := store.Open(t.Context(), path, time.Now) // as the next process finds it
		if err == nil {
			defer db.Close()
			c, err = db.Channel(t.Context(), s.Config.Payment.Channel.Address())
		}
		if err != nil {
			t.Error(err)
		}
		return c
	}
	vouchers := 0
	g.lie = func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/v1/voucher" {
			vouchers++
			if c := durable(); c.Progress.Signed < g.authorised {
				t.Errorf("a voucher over %d has left, and the store says %d", g.authorised, c.Progress.Signed)
			}
		}
		if strings.HasSuffix(r.URL.Path, "/sealed") {
			return nil, errDead
		}
		return nil, nil
	}
	s = start(t, Options{Engine: &Script{Chunks: 5, Size: 8}, Window: window, Deposit: 100 * window, Outside: func(rt http.RoundTripper) http.RoundTripper {
		g.rt = rt
		return transport(g.RoundTrip)
	}})
	for i := range 6 {
		rt, db := saved(t, s, path)
		for range 3 {
			if code := ask(t, rt, streaming); code != "host_unreachable" && code != "window_spent" {
				t.Errorf("%q", code)
			}
		}
		if i%2 == 0 { // else it was killed
			db.Close()
		}
	}
	if c := durable(); g.authorised != window || c.Progress.Signed != window || c.Progress.Settled != 0 || vouchers == 0 {
		t.Errorf("%d signed for nothing, %+v in the store, %d vouchers", g.authorised, c.Progress, vouchers)
	}
	// The user may let it have another.
	cfg := s.Config
	if lost, err := client.Forgive(t.Context(), cfg); err != nil || lost != window {
		t.Errorf("forgiven: %d, %v", lost, err)
	}
	if c := durable(); c.Progress.Settled != window {
		t.Errorf("forgiven, and the store says %+v", c.Progress)
	}
	if rt, _ := saved(t, s, path); ask(t, rt, streaming) != "host_unreachable" || g.authorised != 2*window {
		t.Errorf("after that %d were signed", g.authorised)
	}
}

// A client without its record, or with an old copy, goes on from its own
// signature and the host's word.
func TestLostRecord(t *testing.T) {
	const window = 2000
	s := start(t, Options{Engine: &Script{Chunks: 50, Size: 8}, Window: window})
	for range 20 {
		if code := ask(t, s.Client, streaming); code != "" {
			t.Fatal(code)
		}
	}
	rt, err := client.New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if code := ask(t, rt, streaming); code != "" {
			t.Fatal(code)
		}
	}
	if st := rt.State(); st.Settled != 40*510 || st.Signed > st.Settled+window {
		t.Errorf("%+v", st)
	}
}

// Requests that are given up, again and again, beside one that goes on: the
// window is theirs again as soon as the host says that they cost nothing.
func TestGivenUpBesideALongAnswer(t *testing.T) {
	const window = 10_000
	var giveUp atomic.Pointer[context.CancelFunc]
	e := &Script{Chunks: 50, Size: 8, Step: make(chan struct{})}
	s := start(t, Options{Engine: e, Window: window, Between: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if cancel := giveUp.Load(); cancel != nil && r.URL.Path == "/sealed" {
				(*cancel)()
			}
			return rt.RoundTrip(r)
		})
	}})
	go func() { e.Step <- struct{}{} }()
	long, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // each holds an eighth of the window and more
		ctx, cancel := context.WithCancel(t.Context())
		giveUp.Store(&cancel)
		req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
		if resp, err := s.Client.RoundTrip(req); err == nil {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	close(e.Step)
	if body, err := read(t, long); err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if st := s.Client.State(); st.Signed > st.Settled+window {
		t.Errorf("%+v", st)
	}
}

// Honest parties: whatever runs at once, waiting for its turn, gets through, and
// no voucher is ever for more than one limit beyond what was delivered.
func TestManyOnOneWindow(t *testing.T) {
	const window = 3000
	s := start(t, Options{Engine: &Script{Chunks: 300, Size: 8}, Window: window})
	whole := strings.Replace(streaming, `"stream":true`, `"max_tokens":300`, 1) // costs more than a window
	cfg := s.Config
	most := uint64(0)
	cfg.Payment.Save = func(st client.PaymentState, _ string) { most = max(most, st.Signed-min(st.Signed, st.Settled)) }
	rt, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 30 {
		body := streaming
		if i%5 == 0 {
			body = whole
		}
		wg.Go(func() {
			if code := ask(t, rt, body); code != "" {
				t.Error(code)
			}
		})
	}
	wg.Wait()
	if limit := uint64(1024 + 300*10); most > limit || most < window {
		t.Errorf("%d were at risk, want up to %d", most, limit)
	}
	if st := rt.State(); st.Signed > st.Settled+window+1024+300*10 {
		t.Errorf("%+v", st)
	}
}

// shows changes the card that a host answers with, and has the host sign it.
func (s *Stack) shows(resp *http.Response, change func(*card.Card)) (*http.Response, error) {
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	c, err := card.Verify(string(b), s.Host.Key(), time.Now())
	if err != nil {
		return nil, err
	}
	change(c)
	text, err := card.Sign(c, s.host.Identity)
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	return resp, err
}

// A host cannot pass one model off under the price of another: only what the
// attested manifest lists is asked for.
func TestModelThatIsNotThere(t *testing.T) {
	const other = "dear-model"
	sealed := 0
	var s *Stack
	s = start(t, Options{Engine: &Script{Chunks: 5, Size: 8}, Outside: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/sealed") {
				sealed++
			}
			resp, err := rt.RoundTrip(r)
			if err != nil || r.URL.Path != "/v1/card" {
				return resp, err
			}
			return s.shows(resp, func(c *card.Card) {
				c.Enclaves[0].Models = append(c.Enclaves[0].Models, other)
				c.Prices[other] = Prices[Model]
			})
		})
	}})
	for range 2 {
		resp, err := post(s, strings.ReplaceAll(streaming, Model, other))
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := read(t, resp); resp.StatusCode != 403 || !strings.Contains(body, "attestation_failed") || sealed != 0 {
			t.Errorf("%d %q, %d requests sent", resp.StatusCode, body, sealed)
		}
	}
}

// An enclave runs nothing at other prices than those on the card that the client has: a cheap card does not lead to dear answers,
// whether it is the first that the client sees or comes once the enclave was appraised. One that is only old is taken anew.
func TestOtherPrices(t *testing.T) {
	dear := Prices[Model]
	cheap := price.Prices{Prompt: dear.Prompt / 1000, Cached: dear.Cached / 1000, Completion: dear.Completion / 1000, Reasoning: dear.Reasoning / 1000}
	for name, c := range map[string]struct {
		cheap func(card int) bool // which cards are
		codes []string            // of the answers
	}{
		"always": {func(int) bool { return true }, []string{"other_prices", "other_prices", "other_prices"}},
		"later":  {func(n int) bool { return n > 1 }, []string{"", "other_prices", "other_prices"}},
		"old":    {func(n int) bool { return n == 1 }, []string{"", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			const window = 1000
			cards, asked := 0, 0
			e := &Script{Chunks: 50, Size: 8}
			var s *Stack
			s = start(t, Options{Engine: e, Window: window, Outside: func(rt http.RoundTripper) http.RoundTripper {
				return transport(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/sealed") {
						if asked++; asked == 2 { // has the client take another card, and keep what it appraised
							r.Body.Close()
							return refusal(404, "unknown_enclave"), nil
						}
					}
					resp, err := rt.RoundTrip(r)
					if err != nil || r.URL.Path != "/v1/card" {
						return resp, err
					}
					if cards++; !c.cheap(cards) {
						return resp, nil
					}
					return s.shows(resp, func(c *card.Card) { c.Prices[Model] = cheap })
				})
			}})
			served := 0
			for i, want := range c.codes {
				if code := ask(t, s.Client, streaming); code != want {
					t.Errorf("answer %d: %q, want %q", i, code, want)
				}
				if want == "" {
					served++
				}
			}
			if st := s.Client.State(); st.Settled != uint64(served)*510 || st.Signed > st.Settled+window || e.Started.Load() != int64(served) {
				t.Errorf("%+v, %d ran, want %d", st, e.Started.Load(), served)
			}
		})
	}
}
