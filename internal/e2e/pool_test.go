package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/internal/apierror"
)

// A hurdle is what stands between the client and a host. Nil lets everything through.
type hurdle func(r *http.Request, next http.RoundTripper) (*http.Response, error)

// A pooled pair is two hosts, the first behind a hurdle.
type pair struct {
	first, second *Stack
	hurdle        hurdle
	pool          *client.Pool
	passed        []string // codes of what the second was asked for

	mu    sync.Mutex
	asked []string // paths that the first was asked
}

func startPair(t *testing.T, a, b Options) *pair {
	t.Helper()
	p := &pair{}
	a.Outside = func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			p.mu.Lock()
			p.asked = append(p.asked, r.URL.Path)
			p.mu.Unlock()
			if p.hurdle != nil {
				return p.hurdle(r, rt)
			}
			return rt.RoundTrip(r)
		})
	}
	p.first, p.second = start(t, a), start(t, b)
	p.pool = &client.Pool{Hosts: []*client.Transport{p.first.Client, p.second.Client}, Passed: func(host string, why *client.Error) {
		if host == p.second.URL {
			p.passed = append(p.passed, "second: "+why.Code)
			return
		}
		p.passed = append(p.passed, why.Code)
	}}
	return p
}

// ask returns who was paid for an answer, 1 or 2, or the code of the error.
func (p *pair) ask(t *testing.T, body string) (paid int, code string) {
	t.Helper()
	before := [2]uint64{p.first.Client.State().Settled, p.second.Client.State().Settled}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", client.BaseURL+"/chat/completions", strings.NewReader(body))
	resp, err := p.pool.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if code = apierror.Read(resp).Code; resp.StatusCode < 400 {
			t.Errorf("an error has the status %d", resp.StatusCode)
		}
	} else if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "[DONE]") {
		t.Errorf("%q, %v", b, err)
	}
	for i, s := range []*Stack{p.first, p.second} {
		if s.Client.State().Settled > before[i] {
			paid += i + 1
		}
	}
	return paid, code
}

// sent counts the sealed requests that the first host got.
func (p *pair) sent() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, path := range p.asked {
		if strings.HasSuffix(path, "/sealed") {
			n++
		}
	}
	return n
}

// at is a hurdle on one path alone.
func at(path string, h hurdle) hurdle {
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, path) {
			return h(r, next)
		}
		return next.RoundTrip(r)
	}
}

func dead(*http.Request, http.RoundTripper) (*http.Response, error) { return nil, errDead }

func answers(status int, code string) hurdle {
	return func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		r.Body.Close()
		f := apierror.New(status, code, "no", "")
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(f.JSON())), Request: r}, nil
	}
}

// A request goes on to the next host if it is certain that this one has not run it, and only then.
func TestPoolMovesOn(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  Options
		poor   bool // the first's channel is empty
		dear   bool // the first asks more than is accepted
		hurdle hurdle
		body   string
		moves  string // why the second is asked; empty: it is not
		fails  string
		sent   int // sealed requests to the first
	}{
		{name: "nothing wrong", sent: 1},
		{name: "down", hurdle: dead, moves: "host_unreachable"},
		{name: "evidence altered", moves: "attestation_failed", hurdle: at("/evidence", func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				resp.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(b, []byte("A"), []byte("B"))))
			}
			return resp, err
		})},
		{name: "too expensive", dear: true, moves: "too_expensive"},
		{name: "channel empty", poor: true, moves: "channel_exhausted"},
		{name: "no session", hurdle: at("/v1/session", answers(503, "ledger_down")), moves: "ledger_down"},
		{name: "no connection for it", sent: 1, moves: "host_unreachable", hurdle: at("/sealed", func(*http.Request, http.RoundTripper) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errDead}
		})},
		{name: "refused by the host", sent: 3, hurdle: at("/sealed", answers(404, "unknown_enclave")), moves: "unknown_enclave"},
		{name: "full, says the host", sent: 1, hurdle: at("/sealed", answers(429, "busy")), moves: "busy"},
		{name: "engine down", first: Options{Engine: &Script{Refuse: ErrEngine}}, sent: 1, moves: "engine_error"},
		{name: "engine full", first: Options{Engine: &Script{Refuse: &engine.RequestError{Status: 429, Message: "busy", Code: "queue_full"}}}, sent: 1, moves: "queue_full"},
		// What follows stays with the first.
		{name: "host fails", sent: 1, hurdle: at("/sealed", answers(503, "busy")), fails: "busy"},
		{name: "host fails, and names a remedy", sent: 1, hurdle: at("/sealed", answers(502, "unknown_key")), fails: "unknown_key"},
		{name: "host runs it already", sent: 1, hurdle: at("/sealed", answers(409, "duplicate_stream")), fails: "duplicate_stream"},
		{name: "host runs it already, and names a remedy", sent: 1, hurdle: at("/sealed", answers(409, "unknown_session")), fails: "unknown_session"},
		{name: "host refuses nothing", sent: 1, hurdle: at("/sealed", answers(202, "later")), fails: "later"},
		{name: "host sends it elsewhere", sent: 1, hurdle: at("/sealed", answers(307, "unknown_session")), fails: "unknown_session"},
		{name: "connection breaks", sent: 1, hurdle: at("/sealed", dead), fails: "host_unreachable"},
		{name: "request at fault", first: Options{Engine: &Script{Refuse: &engine.RequestError{Status: 400, Message: "no", Code: "bad_parameter"}}}, sent: 1, fails: "bad_parameter"},
		{name: "no request", body: `{"model":`, fails: "malformed_json"},
		{name: "absurd limit", body: `{"model":"test-model","max_tokens":9223372036854775807}`, fails: "max_tokens_out_of_range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.first.Engine == nil {
				c.first.Engine = &Script{Chunks: 3, Size: 8}
			}
			p := startPair(t, c.first, Options{Engine: &Script{Chunks: 3, Size: 8}})
			p.hurdle = c.hurdle
			cfg := p.first.Config
			if c.poor {
				cfg.Payment.State.Settled = cfg.Payment.Deposit
			}
			if c.dear {
				cfg.MaxPrices.Completion--
			}
			var err error
			if p.first.Client, err = client.New(cfg); err != nil {
				t.Fatal(err)
			}
			p.pool.Hosts[0] = p.first.Client
			if c.body == "" {
				c.body = streaming
			}
			paid, code := p.ask(t, c.body)
			want, passed := 1, []string(nil)
			switch {
			case c.fails != "":
				want = 0
			case c.moves != "":
				want, passed = 2, []string{c.moves}
			}
			if paid != want || code != c.fails || !slices.Equal(p.passed, passed) || p.sent() != c.sent {
				t.Errorf("%d was paid, error %q, passed over for %q, %d sent; want %d, %q, %q, %d", paid, code, p.passed, p.sent(), want, c.fails, passed, c.sent)
			}
		})
	}
}

// What mends a sealed request mends nothing where none was sent: a host may answer anything with such a code.
func TestRemedyForNothing(t *testing.T) {
	p := startPair(t, Options{Engine: &Script{Chunks: 3, Size: 8}}, Options{Engine: &Script{Chunks: 3, Size: 8}})
	for _, path := range []string{"/v1/card", "/v1/collateral", "/evidence", "/manifest"} {
		for _, code := range []string{"unknown_key", "unknown_evidence", "other_prices", "malformed_envelope", "truncated_request", "unknown_session", "insufficient_credit"} {
			p.passed, p.asked, p.hurdle = nil, nil, at(path, answers(404, code))
			paid, failed := p.ask(t, streaming)
			asked := 0
			for _, a := range p.asked {
				if strings.HasSuffix(a, path) {
					asked++
				}
			}
			if paid != 2 || failed != "" || !slices.Equal(p.passed, []string{code}) || asked != 1 {
				t.Errorf("%s answers %s: %d was paid, error %q, passed over for %q, asked %d times", path, code, paid, failed, p.passed, asked)
			}
		}
	}
}

// With nobody left, the first speaks for all, unless it just has no such model.
func TestPoolFails(t *testing.T) {
	p := startPair(t, Options{Engine: &Script{Chunks: 1, Size: 8}}, Options{Engine: &Script{Refuse: ErrEngine}})
	if _, code := p.ask(t, `{"model":"another","stream":true,"messages":[]}`); code != "model_not_found" {
		t.Error(code)
	}
	p.hurdle = at("/sealed", answers(404, "unknown_enclave"))
	if _, code := p.ask(t, streaming); code != "unknown_enclave" {
		t.Error(code)
	}
}

// A host that failed is left alone for a while, longer each time, and asked all the same where no other helps.
func TestPoolRests(t *testing.T) {
	c := &clock{at: time.Now()}
	first, second := &Script{Chunks: 3, Size: 8}, &Script{Chunks: 3, Size: 8}
	p := startPair(t, Options{Engine: first, Now: c.now}, Options{Engine: second, Now: c.now})
	expect := func(what string, paid int, asked bool) {
		t.Helper()
		p.asked = nil
		got, code := p.ask(t, streaming)
		if got != paid || (len(p.asked) > 0) != asked {
			t.Errorf("%s: %d was paid (%s), the first was asked: %t", what, got, code, len(p.asked) > 0)
		}
	}
	models := func(what string, asked bool) {
		t.Helper()
		p.asked = nil
		req, _ := http.NewRequestWithContext(t.Context(), "GET", client.BaseURL+"/models", nil)
		resp, err := p.pool.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || strings.Count(string(b), `"id":"test-model"`) != 1 || (len(p.asked) > 0) != asked {
			t.Errorf("%s: %s, %v, the first was asked: %t", what, b, err, len(p.asked) > 0)
		}
	}
	p.hurdle = dead
	expect("first failure", 2, true)
	expect("at rest", 2, false)
	models("at rest", false)
	c.advance(10 * time.Second)
	expect("second failure", 2, true)
	c.advance(10 * time.Second)
	expect("still at rest", 2, false)
	c.advance(10 * time.Second)
	p.hurdle = nil
	models("up again", true)
	expect("up again", 1, true)
	p.hurdle = at("/sealed", answers(503, "busy"))
	expect("a failure after a success", 0, true)
	c.advance(9 * time.Second)
	expect("at rest once more", 2, false)
	p.hurdle, second.Refuse = nil, errors.New("out of order")
	expect("the other fails", 1, true)

	// Whoever goes away has not found fault with a host.
	second.Refuse = nil
	ctx, cancel := context.WithCancel(t.Context())
	p.hurdle = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		cancel()
		return nil, context.Canceled
	}
	req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
	if resp, err := p.pool.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", resp, err)
	}
	p.hurdle = nil
	expect("after a cancelled request", 1, true)
}

// A host that begins an answer and does not end it has failed, too.
func TestPoolRestsBroken(t *testing.T) {
	c := &clock{at: time.Now()}
	p := startPair(t, Options{Engine: &Script{Chunks: 200, Size: 400}, Now: c.now}, Options{Engine: &Script{Chunks: 3, Size: 8}, Now: c.now})
	breaks := func(when string, h hurdle) {
		t.Helper()
		p.hurdle = h
		req, _ := http.NewRequestWithContext(t.Context(), "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
		resp, err := p.pool.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err == nil {
			t.Fatalf("%s: the answer did not break off: %d %s", when, resp.StatusCode, b)
		}
		resp.Body.Close()
		p.hurdle = nil
	}
	expect := func(when string, want int) {
		t.Helper()
		if paid, code := p.ask(t, streaming); paid != want {
			t.Errorf("%s: %d was paid (%s), want %d", when, paid, code, want)
		}
	}
	cut := at("/sealed", func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Body = &cutShort{ReadCloser: resp.Body, keep: 30000}
		}
		return resp, err
	})
	breaks("first", cut)
	expect("at rest", 2)
	c.advance(10 * time.Second)
	breaks("second", cut)
	c.advance(10 * time.Second)
	expect("still at rest", 2)
	c.advance(10 * time.Second)
	expect("up again", 1)
	breaks("a failure after a success", cut)
	c.advance(10 * time.Second)
	expect("up again soon", 1)
}

// A cutShort ends after so many bytes, as a connection that breaks does.
type cutShort struct {
	io.ReadCloser
	keep int
}

func (c *cutShort) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p[:min(len(p), c.keep)])
	if c.keep -= n; c.keep == 0 && err == nil {
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// SDKs may send again what was refused for now and has not been run, and nothing else.
func TestShouldRetry(t *testing.T) {
	for _, c := range []struct {
		name   string
		engine error
		hurdle hurdle
		code   string
		again  bool
		after  string // Retry-After
	}{
		{name: "engine full", engine: &engine.RequestError{Status: 429, Message: "later", Code: "queue_full"}, code: "queue_full", again: true},
		{name: "no session now", hurdle: at("/v1/session", func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
			w := httptest.NewRecorder()
			apierror.New(503, "chain_down", "no", "").After(7 * time.Second).Write(w)
			return w.Result(), nil
		}), code: "chain_down", again: true, after: "7"},
		{name: "the host says that it is full", hurdle: at("/sealed", answers(429, "busy")), code: "busy"},
		{name: "request at fault", engine: &engine.RequestError{Status: 400, Message: "no", Code: "bad_parameter"}, code: "bad_parameter"},
		{name: "engine fails", engine: ErrEngine, code: "engine_error"},
		{name: "host fails", hurdle: at("/sealed", answers(503, "busy")), code: "busy"},
		{name: "connection breaks", hurdle: at("/sealed", dead), code: "host_unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startPair(t, Options{Engine: &Script{Chunks: 1, Size: 8, Refuse: c.engine}}, Options{Engine: &Script{Refuse: c.engine}})
			p.hurdle = c.hurdle
			p.pool.Hosts = p.pool.Hosts[:1]
			for name, rt := range map[string]http.RoundTripper{"pool": p.pool, "transport": p.first.Client} {
				req, _ := http.NewRequestWithContext(t.Context(), "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				h := resp.Header
				if code := apierror.Read(resp).Code; code != c.code || (h.Get("X-Should-Retry") == "") != c.again || h.Get("Retry-After") != c.after {
					t.Errorf("%s: %s, %v", name, code, h)
				}
			}
		})
	}
}

// What a host alone says that it has not run counts as long as the request does, whoever else refuses it for certain.
func TestShouldNotRetryOnAnybodysWord(t *testing.T) {
	full := &engine.RequestError{Status: 429, Message: "later", Code: "queue_full"}
	retry := func(rt http.RoundTripper) (code string, again bool) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return apierror.Read(resp).Code, resp.Header.Get("X-Should-Retry") == ""
	}
	p := startPair(t, Options{Engine: &Script{}}, Options{Engine: &Script{Refuse: full}})
	p.hurdle = at("/sealed", answers(429, "busy"))
	slices.Reverse(p.pool.Hosts)
	if code, again := retry(p.pool); code != "queue_full" || again {
		t.Errorf("the second host: %s, again: %t", code, again)
	}
	s := startSeveral(t, Options{})
	mine, _ := s.served(t)
	s.engines[1-mine].Refuse = full
	s.hurdle = at(fmt.Sprintf("e%d/sealed", mine), answers(429, "busy"))
	if code, again := retry(s.Client); code != "queue_full" || again {
		t.Errorf("the first enclave: %s, again: %t", code, again)
	}
}
