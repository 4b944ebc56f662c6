package e2e

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// transport is a RoundTripper in a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f(r)
	if err != nil && r.Body != nil {
		r.Body.Close() // as http.RoundTripper demands
	}
	return resp, err
}

var errDead = errors.New("connection refused")

func (s *Stack) row(t *testing.T) *ledger.Channel {
	t.Helper()
	address := s.Config.Payment.Channel.Address()
	row, err := s.Ledger.Channel(t.Context(), "0:"+hex.EncodeToString(address[:]))
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// patience ends soon where the test waits for that, though not before what must come first, and otherwise later than any
// machine is slow.
func patience(ends bool) time.Duration {
	if ends {
		return 2 * time.Second
	}
	return time.Minute
}

// A dead party gives an OpenAI-style error in time, and costs no more than one
// window.
func TestDeadParties(t *testing.T) {
	const window = 200
	for _, c := range []struct {
		name string
		o    Options
		kill func(*Stack)
		want string
	}{
		{"engine refuses", Options{Engine: &Script{Refuse: ErrEngine}}, nil, "engine_error"},
		{"engine hangs", Options{Engine: &Script{Chunks: 5, Step: make(chan struct{})}}, nil, "timeout"},
		{"enclave is gone", Options{Between: func(http.RoundTripper) http.RoundTripper {
			return transport(func(*http.Request) (*http.Response, error) { return nil, errDead })
		}}, nil, "no_enclave"},
		{"enclave dies before the request", Options{Between: func(rt http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/sealed" {
					return nil, errDead
				}
				return rt.RoundTrip(r)
			})
		}}, nil, "enclave_down"},
		{"enclave hangs", Options{Between: func(rt http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/sealed" {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				return rt.RoundTrip(r)
			})
		}}, nil, "timeout"},
		{"host is gone", Options{}, (*Stack).KillHost, "host_unreachable"},
		{"host hangs", Options{Outside: func(http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
		}}, nil, "timeout"},
		{"chain is gone", Options{}, func(s *Stack) { s.Chain.Down = true }, "chain_down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.o.Engine == nil {
				c.o.Engine = &Script{Chunks: 300, Size: 8}
			}
			c.o.Window, c.o.Timeout = window, patience(c.want == "timeout")
			s := start(t, c.o)
			if c.kill != nil {
				c.kill(s)
			}
			resp, err := post(s, streaming)
			if err != nil {
				t.Fatal(err)
			}
			body, err := read(t, resp)
			var o struct {
				Error struct{ Message, Type, Code string }
			}
			if err != nil || resp.StatusCode < 400 || json.Unmarshal([]byte(body), &o) != nil || o.Error.Code != c.want || o.Error.Message == "" || o.Error.Type == "" {
				t.Errorf("%d %q, %v; want %s", resp.StatusCode, body, err, c.want)
			}
			if st := s.Client.State(); st.Signed > window || st.Settled != 0 {
				t.Errorf("it cost %+v", st)
			}
		})
	}
}

// A party that dies under an answer: an error, never a shorter answer.
func TestDeathUnderAnAnswer(t *testing.T) {
	const window = 200
	after := func(n int, end func(r *http.Request) error) func(http.RoundTripper) http.RoundTripper {
		return func(rt http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				resp, err := rt.RoundTrip(r)
				if err == nil && strings.HasSuffix(r.URL.Path, "/sealed") {
					resp.Body = &dying{resp.Body, n, func() error { return end(r) }}
				}
				return resp, err
			})
		}
	}
	cut := after(9000, func(*http.Request) error { return io.ErrUnexpectedEOF })
	end := after(9000, func(*http.Request) error { return io.EOF })
	hang := after(9000, func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() })
	for name, o := range map[string]Options{
		"enclave cut": {Between: cut}, "enclave ended": {Between: end}, "enclave hangs": {Between: hang},
		"host cut": {Outside: cut}, "host ended": {Outside: end}, "host hangs": {Outside: hang},
	} {
		for _, ask := range []struct{ path, body, event, end, broken string }{
			{"/chat/completions", streaming, "data: {", "[DONE]", ""},
			{"/responses", `{"model":"test-model","stream":true,"input":"hello"}`, "event: response.output_text.delta\n", "response.completed", "event: response.failed\n"},
		} {
			t.Run(name+ask.path, func(t *testing.T) {
				t.Parallel()
				e := &Script{Chunks: 300, Size: 100}
				o := o
				o.Engine, o.Window, o.Timeout = e, window, patience(strings.HasSuffix(name, "hangs"))
				s := start(t, o)
				resp, err := postTo(s, ask.path, ask.body)
				if err != nil {
					t.Fatal(err)
				}
				body, err := read(t, resp)
				if err == nil || strings.Contains(body, ask.end) || !strings.Contains(body, ask.broken) {
					t.Errorf("an answer that broke off ended well: %q, %v", body, err)
				}
				// Each event that arrived is 10 nanogram, the prompt 10.
				got := uint64(10 + 10*strings.Count(body, ask.event))
				if st := s.Client.State(); st.Signed > got+2*window || st.Settled != got {
					t.Errorf("%d nanogram arrived, and it cost %+v", got, st)
				}
			})
		}
	}
}

// dying ends after left bytes.
type dying struct {
	io.ReadCloser
	left int
	end  func() error
}

func (d *dying) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, d.end()
	}
	n, err := d.ReadCloser.Read(p[:min(len(p), d.left)])
	d.left -= n
	return n, err
}

// The host is killed under an answer. Its next process knows what it
// acknowledged and what it delivered; the client goes on.
func TestHostKilled(t *testing.T) {
	const window = 200
	e := &Script{Chunks: 300, Size: 8, Step: make(chan struct{})}
	var acknowledged atomic.Uint64
	s := start(t, Options{Engine: e, Window: window, Outside: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/v1/voucher" {
				return rt.RoundTrip(r)
			}
			wire, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(wire)))
			resp, err := rt.RoundTrip(r)
			if v, perr := channel.ParseVoucher(wire); err == nil && perr == nil && resp.StatusCode == 204 {
				acknowledged.Store(v.Total)
			}
			return resp, err
		})
	}})
	go func() {
		for range 150 {
			e.Step <- struct{}{}
		}
	}()
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	text, buf := "", make([]byte, 4096)
	for strings.Count(text, "data: {") < 150 {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		text += string(buf[:n])
	}
	s.KillHost()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Fatal("a cut answer ended well")
	}
	resp.Body.Close()
	if err := s.RestartHost(); err != nil {
		t.Fatal(err)
	}
	if err := s.Host.ClaimDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	row := s.row(t)
	if row.Authorised < acknowledged.Load() || acknowledged.Load() == 0 {
		t.Errorf("authorised %d, and %d were acknowledged", row.Authorised, acknowledged.Load())
	}
	if row.Spent != 1510 {
		t.Errorf("spent %d, and 1510 were delivered", row.Spent)
	}
	e.Step = nil
	resp, err = post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := read(t, resp); err != nil || strings.Count(body, "data: {") != 300 {
		t.Fatalf("after the restart: %d %q, %v", resp.StatusCode, body, err)
	}
}

// A host that sends a sealed request twice gets one answer.
func TestReplayByHost(t *testing.T) {
	var replays atomic.Int64
	e := &Script{Chunks: 3, Size: 8}
	s := start(t, Options{Engine: e, Between: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/sealed" {
				return rt.RoundTrip(r)
			}
			wire, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil {
				return nil, err
			}
			again := r.Clone(r.Context())
			again.Header.Set("Bombyx-Stream", strings.Repeat("f", 32))
			again.Body = io.NopCloser(strings.NewReader(string(wire)))
			r.Body = io.NopCloser(strings.NewReader(string(wire)))
			resp, err := rt.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body = io.NopCloser(strings.NewReader(string(b)))
			if second, rerr := rt.RoundTrip(again); rerr == nil {
				if refusal, _ := io.ReadAll(second.Body); second.StatusCode == 409 && strings.Contains(string(refusal), "replayed") {
					replays.Add(1)
				}
				second.Body.Close()
			}
			return resp, err
		})
	}})
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := read(t, resp); err != nil || replays.Load() != 1 || e.Events.Load() != 3 {
		t.Fatalf("%q, %v, %d replays refused, %d events", body, err, replays.Load(), e.Events.Load())
	}
}

// A request as an SDK makes it by default, neither streaming nor with a limit,
// is paid for up to the model's context; a deposit that cannot is said so.
func TestNoLimit(t *testing.T) {
	s := start(t, Options{Engine: &Script{Chunks: 5, Size: 8}})
	const plain = `{"model":"test-model","messages":[{"role":"user","content":"hello"}]}`
	resp, err := post(s, plain)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := read(t, resp); err != nil || resp.StatusCode != 200 || !strings.Contains(body, `"chat.completion"`) {
		t.Fatalf("%d %q, %v", resp.StatusCode, body, err)
	}
}

// An answer that costs more than it was allotted before it begins waits, and
// goes on once the client has paid.
func TestWaitsBeforeTheAnswer(t *testing.T) {
	s := start(t, Options{Engine: &Script{Chunks: 5, Size: 8}, Window: 20})
	resp, err := post(s, `{"model":"test-model","max_tokens":5,"messages":[{"role":"user","content":"`+strings.Repeat("x", 2000)+`"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := read(t, resp); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %q, %v", resp.StatusCode, body, err)
	}
	resp, err = post(s, `{"model":"test-model","stream":true,"messages":[{"role":"user","content":"`+strings.Repeat("x", 2000)+`"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := read(t, resp); err != nil || strings.Count(body, "data: {") != 5 {
		t.Fatalf("%d %q, %v", resp.StatusCode, body, err)
	}
}

func TestCloseTogether(t *testing.T) {
	e := &Script{Chunks: 50, Size: 8, Step: make(chan struct{})}
	s := start(t, Options{Engine: e, Window: 200})
	go func() { e.Step <- struct{}{} }()
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "running") {
		t.Fatalf("closed under a running request: %v", err)
	}
	close(e.Step)
	if body, err := read(t, resp); err != nil {
		t.Fatalf("%q, %v", body, err)
	}
	s.Chain.NoWallet = true
	if err := s.Client.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "wallet") {
		t.Fatalf("closed without a wallet: %v", err)
	}
	s.Chain.NoWallet = false
	if err := s.Client.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	on, err := s.Chain.Channel(t.Context(), s.Config.Payment.Channel.Address())
	if err != nil || on.Paid != 510 || on.Balance != 0 {
		t.Errorf("%+v, %v", on, err)
	}
	if row := s.row(t); !row.Closed || row.Claimed != 510 {
		t.Errorf("%+v", row)
	}
	resp, err = post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := read(t, resp); resp.StatusCode != 402 || !strings.Contains(body, "channel_closed") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if err := s.Client.Close(t.Context()); err == nil {
		t.Error("closed twice")
	}
}

// A client that lets an answer wait until its channel has ended, to read the
// rest for nothing, finds it ended, and what was delivered claimed.
func TestNoAnswerOutlivesItsChannel(t *testing.T) {
	c := &clock{at: time.Now()}
	e := &Script{Chunks: 300, Size: 8, Step: make(chan struct{})}
	s := start(t, Options{Engine: e, Now: c.now})
	go func() {
		for range 50 {
			e.Step <- struct{}{}
		}
	}()
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, buf := "", make([]byte, 4096)
	for strings.Count(text, "data: {") < 50 {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		text += string(buf[:n])
	}
	address := s.Config.Payment.Channel.Address()
	s.Chain.mu.Lock()
	s.Chain.channels[address].CloseAt = uint32(c.now().Add(time.Hour).Unix())
	s.Chain.mu.Unlock()
	if err := s.Host.ClaimDue(t.Context()); err != nil || e.Closed.Load() != 0 {
		t.Fatalf("an hour before the end: %v, %d answers ended", err, e.Closed.Load())
	}
	c.advance(59*time.Minute + 30*time.Second)
	if err := s.Host.ClaimDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e.Closed.Load() != 1 {
		t.Error("the answer goes on")
	}
	if row := s.row(t); row.Spent != 510 || row.Claimed < 510 {
		t.Errorf("spent %d, claimed %d; 510 were delivered", row.Spent, row.Claimed)
	}
	if e.Closed.Load() == 1 {
		if rest, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("it ended well: %q", rest)
		}
	}
}

// A host that gives an answer more credit than the client did is not paid for it.
func TestCreditBeyondTheOffer(t *testing.T) {
	const window = 1000
	s := start(t, Options{Engine: &Script{Chunks: 200, Size: 50}, Window: window, Between: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/sealed" {
				r.Header.Set("Bombyx-Credit", "1000000")
			}
			return rt.RoundTrip(r)
		})
	}})
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	body, err := read(t, resp)
	if err == nil || !strings.Contains(err.Error(), "it costs 2010 nanogram, and ") || strings.Contains(body, "[DONE]") {
		t.Errorf("%.100q, %v", body, err)
	}
	if st := s.Client.State(); st.Settled > window || st.Signed > window || st.Head != [32]byte{} {
		t.Errorf("%+v", st)
	}
}
