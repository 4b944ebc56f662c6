package enclave

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
)

const (
	id1  = "00000000000000000000000000000001"
	id2  = "00000000000000000000000000000002"
	body = `{"model":"m","stream":true}`
)

// A channel, as the host names it.
var channelA = "0:" + strings.Repeat("a", 64)

// A collector answers with a document that names nonce and keyset.
type collector struct {
	mu   sync.Mutex
	hold chan struct{}
	err  error
}

func (c *collector) Collect(_ context.Context, nonce [32]byte, keys []byte) ([]byte, error) {
	c.mu.Lock()
	hold, err := c.hold, c.err
	c.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return fmt.Appendf(nil, "evidence %x %x", nonce, sha256.Sum256(keys)), err
}

// An eng is an engine whose events are numbered tokens.
type eng struct {
	mu     sync.Mutex
	models []engine.Model
	err    error         // of Models
	refuse error         // of Start
	fail   error         // of Next, after events
	events int           // of an answer
	size   int           // bytes of each event
	usage  *engine.Usage // of every event, instead of its number
	hold   bool          // Next waits for the end of the request

	begun  atomic.Int64
	given  atomic.Int64
	closed atomic.Int64
}

func (e *eng) Models(context.Context) ([]engine.Model, error) { return e.models, e.err }

func (e *eng) Start(ctx context.Context, _ engine.Request) (engine.Stream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuse != nil {
		return nil, e.refuse
	}
	e.begun.Add(1)
	return &engStream{e: e, ctx: ctx}, nil
}

type engStream struct {
	e    *eng
	ctx  context.Context
	n    int
	once sync.Once
}

func (s *engStream) Next() (engine.Event, error) {
	if s.e.hold {
		<-s.ctx.Done()
	}
	if err := s.ctx.Err(); err != nil {
		return engine.Event{}, err
	}
	if s.n == s.e.events {
		if s.e.fail != nil {
			return engine.Event{}, s.e.fail
		}
		return engine.Event{}, io.EOF
	}
	s.n++
	s.e.given.Add(1)
	u := engine.Usage{Completion: int64(s.n)}
	if s.e.usage != nil {
		u = *s.e.usage
	}
	return engine.Event{Data: fmt.Appendf(nil, `{"n":%d,"x":%q}`, s.n, strings.Repeat("x", s.e.size)), Usage: u}, nil
}

func (s *engStream) Ready() bool { return !s.e.hold }

func (s *engStream) Close() error {
	s.once.Do(func() { s.e.closed.Add(1) })
	return nil
}

type rig struct {
	t         *testing.T
	e         *Enclave
	engine    *eng
	collector *collector
	url       string
	mu        sync.Mutex
	clock     time.Time
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

func (r *rig) config() Config {
	return Config{Engine: r.engine, Collector: r.collector, Manifest: []byte("{}"), Prices: price.List{"m": {Completion: 1_000_000}},
		KeyLifetime: time.Hour, Patience: 50 * time.Millisecond, Window: 2 * time.Minute, Now: r.now}
}

func newRig(t *testing.T, e *eng) *rig {
	t.Helper()
	r := &rig{t: t, engine: e, collector: new(collector), clock: time.Unix(1_800_000_000, 0)}
	if e.models == nil {
		e.models = []engine.Model{{ID: "m", ContextLength: 10}}
	}
	var err error
	if r.e, err = New(r.config()); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(r.e.Handler())
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// call sends what a host sends.
func (r *rig) call(ctx context.Context, path string, body io.Reader, header ...string) *http.Response {
	r.t.Helper()
	method := "POST"
	if body == nil {
		method = "GET"
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// fault reads an error object.
func fault(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		Error struct{ Message, Code string }
	}
	if err := json.Unmarshal(b, &o); err != nil || o.Error.Message == "" {
		t.Errorf("%d %q is no OpenAI error object", resp.StatusCode, b)
	}
	return fmt.Sprint(resp.StatusCode, " ", o.Error.Code)
}

// A peer seals requests to one generation of keys.
type peer struct {
	r        *rig
	evidence [32]byte
	keys     *keyset.Keyset
	sender   *envelope.Sender
}

func (r *rig) peer() *peer {
	r.t.Helper()
	resp := r.call(r.t.Context(), "/keyset", nil)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	k, err := keyset.Parse(b)
	if err != nil {
		r.t.Fatal(err)
	}
	configs, err := envelope.ParseKeyConfigs(k.KeyConfigs)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &peer{r: r, keys: k}
	if p.sender, err = envelope.NewSender(configs[0]); err != nil {
		r.t.Fatal(err)
	}
	doc, err := io.ReadAll(r.call(r.t.Context(), "/evidence", bytes.NewReader(make([]byte, 32))).Body)
	if err != nil || len(doc) == 0 {
		r.t.Fatal(err, len(doc))
	}
	p.evidence = sha256.Sum256(doc)
	return p
}

func (p *peer) seal(content string, change func(*http.Request)) ([]byte, *envelope.ResponseOpener) {
	p.r.t.Helper()
	req, err := http.NewRequest("POST", "https://bombyx/v1/chat/completions", strings.NewReader(content))
	if err != nil {
		p.r.t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Date": {p.r.now().UTC().Format(http.TimeFormat)}, "Bombyx-Id": {id1},
		"Bombyx-Channel": {"0:" + strings.Repeat("a", 64)}, "Bombyx-Evidence": {hex.EncodeToString(p.evidence[:])}, "Bombyx-Prices": {hex.EncodeToString(p.r.e.prices[:])}, "Bombyx-Salt": {strings.Repeat("b", 64)}}
	if change != nil {
		change(req)
	}
	sealed, opener, err := p.sender.Seal(req)
	if err != nil {
		p.r.t.Fatal(err)
	}
	b, err := io.ReadAll(sealed)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return b, opener
}

var streams atomic.Int64

func newID() string { return fmt.Sprintf("%032x", streams.Add(1)) }

func (p *peer) send(ctx context.Context, wire []byte, stream, credit string) *http.Response {
	p.r.t.Helper()
	return p.r.call(ctx, "/sealed", bytes.NewReader(wire), "Bombyx-Stream", stream, "Bombyx-Channel", channelA, "Bombyx-Credit", credit)
}

// ask returns the opened answer, "STATUS CODE" for a sealed fault.
func (p *peer) ask(content, credit string, change func(*http.Request)) (answer string, resp *http.Response) {
	p.r.t.Helper()
	wire, opener := p.seal(content, change)
	out := p.send(p.r.t.Context(), wire, newID(), credit)
	if out.StatusCode != 200 {
		return fault(p.r.t, out), nil
	}
	resp, err := opener.Open(out.Body, nil)
	if err != nil {
		p.r.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		return fault(p.r.t, resp), resp
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.r.t.Fatal(err)
	}
	io.Copy(io.Discard, out.Body)
	resp.Header = out.Trailer
	return string(b), resp
}

func (p *peer) receipt(resp *http.Response) *receipt.Receipt {
	p.r.t.Helper()
	rec, err := receipt.Verify(resp.Trailer.Get("Bombyx-Receipt"), p.keys.ReceiptKey)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return rec
}

func TestAnswer(t *testing.T) {
	r := newRig(t, &eng{events: 3})
	p := r.peer()
	answer, resp := p.ask(body, "100", nil)
	rec := p.receipt(resp)
	if !strings.HasSuffix(answer, "data: [DONE]\n\n") || rec.Cost != 3 || rec.Finish != receipt.Complete || resp.Header.Get("Bombyx-Cost") != "3" ||
		rec.Request != sha256.Sum256([]byte(body)) || rec.ID != id1 {
		t.Fatalf("%q %+v %v", answer, rec, resp.Header)
	}
	answer, resp = p.ask(`{"model":"m","max_tokens":5}`, "100", nil)
	if rec := p.receipt(resp); answer[0] != '{' || rec.Answer != sha256.Sum256([]byte(answer)) || rec.Cost != 1 {
		t.Fatalf("%q %+v", answer, rec)
	}
}

// Events that are ready together go out as one chunk, with the end of the
// answer.
func TestReadyEventsMerge(t *testing.T) {
	for _, c := range []struct{ events, chunks int }{{1, 1}, {20, 1}, {1000, 3}} {
		r := newRig(t, &eng{events: c.events})
		p := r.peer()
		wire, _ := p.seal(body, nil)
		sealed, err := io.ReadAll(p.send(t.Context(), wire, newID(), "10000").Body)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rest := sealed[32:]; ; n++ { // behind the response nonce
			prefix := 1 << (rest[0] >> 6)
			size := int(rest[0] & 0x3f)
			for _, b := range rest[1:prefix] {
				size = size<<8 | int(b)
			}
			if size == 0 {
				break
			}
			rest = rest[prefix+size:]
		}
		if n+1 != c.chunks {
			t.Errorf("%d events: %d chunks, want %d", c.events, n+1, c.chunks)
		}
	}
}

// flushes records what an outlet gives out, and when.
type flushes struct {
	began time.Time
	buf   []byte
	sent  []string
	err   error
}

func (f *flushes) Write(p []byte) (int, error) {
	f.buf = append(f.buf, p...)
	return len(p), f.err
}

func (f *flushes) FlushError() error {
	text := strings.ReplaceAll(strings.ReplaceAll(string(f.buf), ": bombyx cost=", "="), "\n\n", "")
	f.sent = append(f.sent, fmt.Sprintf("%s@%s", text, time.Since(f.began)))
	f.buf = nil
	return f.err
}

// What is waited for goes out at once, but not twice in a millisecond, each time
// with what all so far has cost.
func TestOutlet(t *testing.T) {
	const us = time.Microsecond
	for _, c := range []struct {
		name  string
		busy  bool            // the interval begins with the first event, not with the request
		gaps  []time.Duration // before each event, and before the end
		sent  []string
		close string // what is left to Close
	}{
		{"slow engine", false, []time.Duration{5000 * us, 5000 * us, 2000 * us, 0}, []string{"a=1@5ms", "b=2@10ms", "c=3@12ms"}, ""},
		{"slow engine, busy", true, []time.Duration{5000 * us, 5000 * us, 2000 * us, 0}, []string{"a=1@6ms", "b=2@10ms", "c=3@12ms"}, ""},
		{"fast engine", false, []time.Duration{100 * us, 100 * us, 100 * us, 100 * us}, nil, "abc"},
		{"fast after its prompt", false, []time.Duration{5000 * us, 400 * us, 400 * us, 400 * us, 400 * us, 0}, []string{"a=1@5ms", "bc=3@6ms"}, "de"},
		{"fast after its prompt, busy", true, []time.Duration{5000 * us, 400 * us, 400 * us, 400 * us, 400 * us, 0}, []string{"abc=3@6ms"}, "de"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &flushes{began: time.Now()}
				o := outlet{w: f, fail: func(err error) { t.Error(err) }}
				if !c.busy {
					o.flushed = time.Now()
				}
				for i, gap := range c.gaps {
					time.Sleep(gap)
					if i < len(c.gaps)-1 {
						o.write(uint64(i+1), []byte{'a' + byte(i)})
						o.pause()
					}
				}
				o.close()
				time.Sleep(time.Second)
				if !slices.Equal(f.sent, c.sent) || string(f.buf) != c.close {
					t.Errorf("sent %q and left %q, want %q and %q", f.sent, f.buf, c.sent, c.close)
				}
			})
		})
	}
}

// A transport that fails ends the request, from wherever it is noticed.
func TestOutletFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		failed := make(chan error, 2)
		o := outlet{w: &flushes{began: time.Now(), err: broken}, fail: func(err error) { failed <- err }, flushed: time.Now()}
		o.gathered = 1
		o.pause()
		if err := <-failed; err != broken {
			t.Fatal(err)
		}
		o.write(0, []byte("b"))
		if err := <-failed; err != broken {
			t.Fatal(err)
		}
	})
}

func TestHeaderRefusals(t *testing.T) {
	r := newRig(t, &eng{events: 1})
	p := r.peer()
	wire, _ := p.seal(body, nil)
	for _, c := range [][2]string{{"", "1"}, {id1[1:], "1"}, {id1 + "0", "1"}, {strings.Repeat("A", 32), "1"}, {id1, ""}, {id1, "-1"}, {id1, "1.5"}, {id1, "9223372036854775808"}} {
		if got := fault(t, p.send(t.Context(), wire, c[0], c[1])); got != "400 malformed_header" {
			t.Errorf("%q: %s", c, got)
		}
	}
	for _, n := range []int{0, 31, 33} {
		if got := fault(t, r.call(t.Context(), "/evidence", bytes.NewReader(make([]byte, n)))); got != "400 malformed_nonce" {
			t.Errorf("nonce of %d bytes: %s", n, got)
		}
	}
	if got := fault(t, r.call(t.Context(), "/credit", http.NoBody, "Bombyx-Stream", id1, "Bombyx-Credit", "x")); got != "400 malformed_header" {
		t.Error(got)
	}
	if got := fault(t, r.call(t.Context(), "/credit", http.NoBody, "Bombyx-Stream", id1, "Bombyx-Credit", "5")); got != "404 unknown_stream" {
		t.Error(got)
	}
	if got := fault(t, r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Stream", id1)); got != "404 unknown_stream" {
		t.Error(got)
	}
}

func TestSealedRefusals(t *testing.T) {
	r := newRig(t, &eng{events: 1})
	p := r.peer()
	set := func(name string, values ...string) func(*http.Request) {
		return func(req *http.Request) { req.Header[name] = values }
	}
	for _, c := range []struct {
		name, content string
		change        func(*http.Request)
		want          string
	}{
		{"unknown field", body, set("Cookie", "a"), "400 malformed_request"},
		{"unknown bombyx field", body, set("Bombyx-Debug", "1"), "400 malformed_request"},
		{"repeated field", body, set("Bombyx-Id", id1, id2), "400 malformed_request"},
		{"no id", body, set("Bombyx-Id"), "400 malformed_request"},
		{"short id", body, set("Bombyx-Id", id1[1:]), "400 malformed_request"},
		{"upper-case id", body, set("Bombyx-Id", strings.Repeat("A", 32)), "400 malformed_request"},
		{"no channel", body, set("Bombyx-Channel"), "400 malformed_request"},
		{"user-friendly channel", body, set("Bombyx-Channel", "EQ"+strings.Repeat("a", 46)), "400 malformed_request"},
		{"another workchain", body, set("Bombyx-Channel", "1:"+strings.Repeat("a", 64)), "400 malformed_request"},
		{"no prices", body, set("Bombyx-Prices"), "400 malformed_request"},
		{"short prices", body, set("Bombyx-Prices", "ab"), "400 malformed_request"},
		{"other prices", body, set("Bombyx-Prices", strings.Repeat("0", 64)), "422 other_prices"},
		{"no salt", body, set("Bombyx-Salt"), "400 malformed_request"},
		{"short salt", body, set("Bombyx-Salt", "ab"), "400 malformed_request"},
		{"no evidence", body, set("Bombyx-Evidence"), "400 malformed_request"},
		{"another enclave's evidence", body, set("Bombyx-Evidence", strings.Repeat("0", 64)), "422 unknown_evidence"},
		{"get", body, func(r *http.Request) { r.Method = "GET" }, "405 method_not_allowed"},
		{"query", body, func(r *http.Request) { r.URL.RawQuery = "a=b" }, "405 method_not_allowed"},
		{"stale", body, set("Date", r.now().Add(-3*time.Minute).UTC().Format(http.TimeFormat)), "400 stale"},
		{"from the future", body, set("Date", r.now().Add(3*time.Minute).UTC().Format(http.TimeFormat)), "400 stale"},
		{"no date", body, set("Date"), "400 stale"},
		{"garbage date", body, set("Date", "yesterday"), "400 stale"},
		{"not JSON", "hello", nil, "400 malformed_json"},
		{"empty", "", nil, "400 malformed_json"},
		{"array", "[]", nil, "400 malformed_json"},
		{"two objects", "{}{}", nil, "400 malformed_json"},
		{"duplicate member", `{"model":"m","model":"m"}`, nil, "400 malformed_json"},
		{"not UTF-8", "{\"model\":\"\xff\"}", nil, "400 malformed_json"},
		{"deep", strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000), nil, "400 malformed_json"},
		{"wrong type", `{"model":1}`, nil, "400 malformed_json"},
		{"fractional limit", `{"model":"m","max_tokens":1.5}`, nil, "400 malformed_json"},
		{"no model", `{}`, nil, "404 model_not_found"},
		{"another model", `{"model":"n"}`, nil, "404 model_not_found"},
		{"too large", `{"model":"m","x":"` + strings.Repeat("x", maxRequest) + `"}`, nil, "413 request_too_large"},
		{"limit beyond credit", `{"model":"m","max_tokens":101}`, nil, "402 insufficient_credit"},
		{"negative limit", `{"model":"m","max_tokens":-1}`, nil, ""}, // as without one: the context's length
		{"limit out of range", `{"model":"m","max_tokens":9223372036854775807}`, nil, "400 max_tokens_out_of_range"},
	} {
		before := r.engine.begun.Load()
		got, _ := p.ask(c.content, "100", c.change)
		if c.want != "" && got != c.want {
			t.Errorf("%s: %.100s, want %s", c.name, got, c.want)
		}
		if c.want != "" && r.engine.begun.Load() != before {
			t.Errorf("%s: reached the engine", c.name)
		}
	}
	r.engine.models = nil
	if got, _ := p.ask(`{"model":"m"}`, "100", nil); got != "400 max_tokens_required" {
		t.Error(got)
	}
	for _, g := range r.e.generations {
		if g.users != 0 {
			t.Errorf("%d users of keys after the last request", g.users)
		}
	}
}

func TestEnvelopeRefusals(t *testing.T) {
	r := newRig(t, &eng{events: 1})
	p := r.peer()
	wire, _ := p.seal(body, nil)
	flip := func(i int) []byte { b := bytes.Clone(wire); b[i] ^= 1; return b }
	for _, c := range []struct {
		name string
		wire []byte
		want string
	}{
		{"empty", nil, "400 truncated_request"},
		{"header alone", wire[:7], "400 truncated_request"},
		{"unknown key", flip(0), "422 unknown_key"},
		{"another KEM", flip(2), "422 unknown_key"},
		{"flipped encapsulation", flip(20), "400 truncated_request"}, // all of it is one final chunk: only its end is missed
	} {
		if got := fault(t, p.send(t.Context(), c.wire, newID(), "100")); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if _, err := io.ReadAll(p.send(t.Context(), wire, newID(), "100").Body); err != nil {
		t.Fatal(err)
	}
	if got := fault(t, p.send(t.Context(), wire, newID(), "100")); got != "409 replayed" {
		t.Error(got)
	}
	if n := r.engine.begun.Load(); n != 1 {
		t.Errorf("the engine ran %d times", n)
	}
	// A request cut in its last chunk.
	cut, opener := p.seal(`{"model":"m","stream":true,"x":"`+strings.Repeat("x", 200_000)+`"}`, nil)
	out := p.send(t.Context(), cut[:len(cut)-1], newID(), "1000000")
	got := ""
	if out.StatusCode == 200 {
		if resp, err := opener.Open(out.Body, nil); err != nil {
			t.Fatal(err)
		} else {
			got = fault(t, resp)
		}
	} else {
		got = fault(t, out)
	}
	if got != "400 truncated_request" {
		t.Error(got)
	}
}

// A request of its own for every way in which an engine can fail.
func TestEngineFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		e    *eng
		want string
	}{
		{"refuses", &eng{refuse: &engine.RequestError{Status: 400, Code: "context_length_exceeded", Message: "too long"}}, "400 context_length_exceeded"},
		{"path", &eng{refuse: fmt.Errorf("no: %w", engine.ErrUnsupported)}, "404 unknown_path"},
		{"down", &eng{refuse: errors.New("secret detail")}, "502 engine_error"},
		{"timeout", &eng{refuse: context.DeadlineExceeded}, "504 engine_timeout"},
		{"fails at once", &eng{fail: errors.New("secret detail")}, "502 engine_error"},
		{"counts backwards", &eng{events: 1, usage: &engine.Usage{Completion: -1}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.e)
			p := r.peer()
			got, resp := p.ask(body, "100", nil)
			if c.want != "" && got != c.want || strings.Contains(got, "secret") {
				t.Errorf("%s, want %s", got, c.want)
			}
			if c.want == "" && (!strings.Contains(got, "engine_error") || p.receipt(resp).Finish != receipt.Failed || p.receipt(resp).Cost != 0) {
				t.Errorf("%s", got)
			}
			if got, _ := p.ask(`{"model":"m","max_tokens":2}`, "100", nil); c.want != "" && got != c.want || !strings.Contains(got, "50") && c.want == "" {
				t.Errorf("without streaming: %s, want %s", got, c.want)
			}
		})
	}
	r := newRig(t, &eng{events: 2, fail: errors.New("secret detail")})
	p := r.peer()
	got, resp := p.ask(body, "100", nil)
	if !strings.Contains(got, "engine_error") || strings.Contains(got, "secret") || strings.Contains(got, "[DONE]") {
		t.Error(got)
	}
	if rec := p.receipt(resp); rec.Finish != receipt.Failed || rec.Cost != 2 {
		t.Errorf("%+v", rec)
	}
	r.engine.err = errors.New("down")
	if got := fault(t, r.call(t.Context(), "/health", nil)); got != "503 engine_down" {
		t.Error(got)
	}
	r.engine.err = nil
	if resp := r.call(t.Context(), "/health", nil); resp.StatusCode != 204 {
		t.Error(resp.StatusCode)
	}
}

func TestCreditEnds(t *testing.T) {
	r := newRig(t, &eng{events: 100})
	p := r.peer()
	got, resp := p.ask(body, "5", nil)
	if n := strings.Count(got, `{"n":`); n != 5 || !strings.Contains(got, "insufficient_credit") || !strings.Contains(got, ": bombyx cost=5 credit=5 need=6\n\n") {
		t.Errorf("%d events: %s", n, got)
	}
	if rec := p.receipt(resp); rec.Cost != 5 || rec.Usage.Completion != 5 || rec.Finish != receipt.OutOfCredit {
		t.Errorf("%+v", rec)
	}
	if n := r.engine.given.Load(); n > 6 {
		t.Errorf("the engine gave %d events for a credit of 5", n)
	}
}

// Nobody has a whole answer generated for nothing, by credit that covers the
// completion or the prompt, but not both.
func TestWholeAnswerIsFunded(t *testing.T) {
	const ask = `{"model":"m","max_tokens":10}` // 29 bytes
	for _, c := range []struct {
		prices price.Prices
		credit string
		begun  int64
	}{
		{price.Prices{Prompt: 1_000_000, Completion: 1_000_000}, "38", 0},
		{price.Prices{Prompt: 1_000_000, Completion: 1_000_000}, "39", 1},
		{price.Prices{Cached: 1_000_000, Reasoning: 1_000_000}, "38", 0},
		{price.Prices{Cached: 1_000_000, Reasoning: 1_000_000}, "39", 1},
	} {
		r := newRig(t, &eng{events: 1, usage: &engine.Usage{Prompt: 29, Cached: 29, Completion: 10, Reasoning: 10}})
		r.e.cfg.Prices = price.List{"m": c.prices}
		got, _ := r.peer().ask(ask, c.credit, nil)
		if n := r.engine.begun.Load(); n != c.begun || n == 0 && got != "402 insufficient_credit" || n == 1 && !strings.Contains(got, `{"n":1`) {
			t.Errorf("credit %s at %+v: %s, %d answers generated", c.credit, c.prices, got, n)
		}
	}
}

// Embeddings have the prompt's tokens and no others: no more is waited for.
func TestEmbeddingsAreFunded(t *testing.T) {
	const ask = `{"model":"m","input":"texts"}` // 29 bytes
	at := func(r *http.Request) { r.URL.Path = engine.PathEmbeddings }
	for _, c := range []struct {
		prices price.Prices
		credit string
		begun  int64
	}{
		{price.Prices{Prompt: 1_000_000, Completion: 900_000_000}, "28", 0},
		{price.Prices{Prompt: 1_000_000, Completion: 900_000_000}, "29", 1},
		{price.Prices{Prompt: 1_000, Cached: 1_000_000}, "28", 0},
		{price.Prices{Prompt: 1_000_000, Cached: 1_000}, "29", 1},
	} {
		r := newRig(t, &eng{events: 1, usage: &engine.Usage{Prompt: 20}})
		r.e.cfg.Prices = price.List{"m": c.prices}
		p := r.peer()
		got, resp := p.ask(ask, c.credit, at)
		if n := r.engine.begun.Load(); n != c.begun || n == 0 && got != "402 insufficient_credit" || n == 1 && !strings.Contains(got, `{"n":1`) {
			t.Errorf("credit %s at %+v: %s, %d answers generated", c.credit, c.prices, got, n)
		}
		if c.begun == 1 && resp.Header.Get("Bombyx-Cost") != "20" {
			t.Errorf("at %+v it cost %q", c.prices, resp.Header.Get("Bombyx-Cost"))
		}
	}
	r := newRig(t, &eng{refuse: engine.ErrUnsupported})
	r.e.cfg.Prices = price.List{"m": {Prompt: 1_000_000}}
	if got, _ := r.peer().ask(ask, "29", at); got != "404 unknown_path" {
		t.Errorf("an engine without embeddings: %s", got)
	}
}

// readUntil reads what comes up to where mark has come.
func readUntil(t *testing.T, body io.Reader, mark string) string {
	t.Helper()
	buf, text := make([]byte, 1000), ""
	for !strings.Contains(text, mark) {
		n, err := body.Read(buf)
		if err != nil {
			t.Fatal(err, text)
		}
		text += string(buf[:n])
	}
	return text
}

// Raised credit resumes an answer that waits; a lower one changes nothing.
func TestCreditRaised(t *testing.T) {
	r := newRig(t, &eng{events: 10})
	r.e.cfg.Patience = time.Minute
	p := r.peer()
	wire, opener := p.seal(body, nil)
	out := p.send(t.Context(), wire, id1, "4")
	resp, err := opener.Open(out.Body, nil)
	if err != nil {
		t.Fatal(err)
	}
	readUntil(t, resp.Body, "need=5")
	for _, credit := range []string{"3", "10"} {
		raised := r.call(t.Context(), "/credit", http.NoBody, "Bombyx-Stream", id1, "Bombyx-Credit", credit)
		if raised.StatusCode != 204 || raised.Header.Get("Bombyx-Cost") != "4" {
			t.Fatalf("%d, cost %q", raised.StatusCode, raised.Header.Get("Bombyx-Cost"))
		}
	}
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(rest), "[DONE]\n\n") {
		t.Fatalf("%q, %v", rest, err)
	}
	if rec := p.receipt(resp); rec.Cost != 10 || rec.Finish != receipt.Complete {
		t.Errorf("%+v", rec)
	}
	// The name is used up, and settling tells what it cost.
	wire, _ = p.seal(body, nil)
	if got := fault(t, p.send(t.Context(), wire, id1, "4")); got != "409 duplicate_stream" {
		t.Error(got)
	}
	for range 2 {
		if got := r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Stream", id1).Header.Get("Bombyx-Cost"); got != "10" {
			t.Errorf("settled at %q", got)
		}
	}
}

// Settling ends a running stream, and the engine with it.
func TestSettleEnds(t *testing.T) {
	r := newRig(t, &eng{hold: true})
	p := r.peer()
	wire, _ := p.seal(body, nil)
	go func() {
		req, _ := http.NewRequest("POST", r.url+"/sealed", bytes.NewReader(wire))
		req.Header.Set("Bombyx-Stream", id1)
		req.Header.Set("Bombyx-Channel", channelA)
		req.Header.Set("Bombyx-Credit", "5")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return r.engine.begun.Load() == 1 })
	again, _ := p.seal(body, nil)
	if got := fault(t, p.send(t.Context(), again, id1, "4")); got != "409 duplicate_stream" {
		t.Error(got)
	}
	if got := r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Stream", id1).Header.Get("Bombyx-Cost"); got != "0" {
		t.Errorf("settled at %q", got)
	}
	if r.engine.closed.Load() != 1 {
		t.Error("the engine still runs")
	}
}

// Who cancels a stream gets the end of its answer and the receipt over what was
// released, or a sealed fault where nothing was. What ends with its channel is
// cut.
func TestCancel(t *testing.T) {
	settle := func(r *rig, header ...string) {
		t.Helper()
		if resp := r.call(t.Context(), "/settle", http.NoBody, header...); resp.StatusCode != 204 {
			t.Fatal(resp.StatusCode)
		}
	}
	t.Run("within the answer", func(t *testing.T) {
		for _, header := range [][]string{{"Bombyx-Stream", id1}, {"Bombyx-Channel", channelA}} {
			r := newRig(t, &eng{events: 10})
			r.e.cfg.Patience = time.Minute
			p := r.peer()
			wire, opener := p.seal(body, nil)
			out := p.send(t.Context(), wire, id1, "4")
			resp, err := opener.Open(out.Body, nil)
			if err != nil {
				t.Fatal(err)
			}
			text := readUntil(t, resp.Body, "need=5")
			settle(r, header...)
			rest, err := io.ReadAll(resp.Body)
			if header[0] == "Bombyx-Channel" {
				if err == nil {
					t.Errorf("an answer that ended with its channel ended well: %q", rest)
				}
				continue
			}
			content := regexp.MustCompile(`: bombyx [^\n]*\n\n`).ReplaceAllString(text+string(rest), "")
			rec := p.receipt(resp)
			if err != nil || rec.Cost != 4 || rec.Usage.Completion != 4 || rec.Finish != receipt.Cancelled || rec.Answer != sha256.Sum256([]byte(content)) || strings.Contains(content, "[DONE]") {
				t.Errorf("%q, %v, %+v", content, err, rec)
			}
			io.Copy(io.Discard, out.Body)
			if got := out.Trailer.Get("Bombyx-Cost"); got != "4" {
				t.Errorf("the host is told %q", got)
			}
		}
	})
	for name, c := range map[string]struct {
		eng     *eng
		content string
		credit  string
	}{
		"before the answer":        {&eng{hold: true}, body, "5"},
		"before a whole answer":    {&eng{hold: true}, `{"model":"m","max_tokens":5}`, "1000"},
		"while it waits for money": {&eng{}, body, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.eng)
			r.e.cfg.Patience = time.Minute
			p := r.peer()
			wire, opener := p.seal(c.content, nil)
			var cancelled sync.WaitGroup
			defer cancelled.Wait()
			cancelled.Go(func() {
				waitFor(t, func() bool {
					r.e.mu.Lock()
					defer r.e.mu.Unlock()
					id, _ := parseStreamID(id1)
					return r.e.streams[id] != nil && (c.credit == "0" || r.engine.begun.Load() == 1)
				})
				settle(r, "Bombyx-Stream", id1)
			})
			out := p.send(t.Context(), wire, id1, c.credit)
			resp, err := opener.Open(out.Body, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := fault(t, resp); got != "502 cancelled" {
				t.Error(got)
			}
			io.Copy(io.Discard, out.Body)
			if got := out.Trailer.Get("Bombyx-Cost"); got != "0" {
				t.Errorf("cost %q", got)
			}
		})
	}
}

// A process of the host that settles a channel takes the enclave over: what an
// earlier one has running ends, and it gets no more.
func TestTakenOver(t *testing.T) {
	r := newRig(t, &eng{hold: true})
	p := r.peer()
	send := func(process, stream string) string {
		t.Helper()
		wire, _ := p.seal(body, nil)
		req, _ := http.NewRequest("POST", r.url+"/sealed", bytes.NewReader(wire))
		req.Header = http.Header{"Bombyx-Stream": {stream}, "Bombyx-Channel": {channelA}, "Bombyx-Credit": {"5"}, "Bombyx-Process": {process}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "cut"
		}
		defer resp.Body.Close()
		if resp.StatusCode == 200 {
			io.Copy(io.Discard, resp.Body)
			return "200"
		}
		return fault(t, resp)
	}
	ended := make(chan string, 1)
	go func() { ended <- send("first", id1) }()
	waitFor(t, func() bool { return r.engine.begun.Load() == 1 })
	const another = "0:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	if got := fault(t, r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Channel", another, "Bombyx-Process", "first")); got != "404 unknown_stream" {
		t.Error(got)
	}
	select {
	case got := <-ended:
		t.Fatal("its own settling ended it: ", got)
	default:
	}
	if got := fault(t, r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Channel", another, "Bombyx-Process", "second")); got != "404 unknown_stream" {
		t.Error(got)
	}
	if got := <-ended; got != "cut" || r.engine.closed.Load() != 1 {
		t.Errorf("%s; %d ended at the engine", got, r.engine.closed.Load())
	}
	for _, process := range []string{"first", "", strings.Repeat("x", 65)} {
		if got := send(process, id2); got != "409 taken_over" {
			t.Errorf("%q: %s", process, got)
		}
		if got := fault(t, r.call(t.Context(), "/credit", http.NoBody, "Bombyx-Stream", id1, "Bombyx-Credit", "9", "Bombyx-Process", process)); got != "409 taken_over" {
			t.Errorf("%q: %s", process, got)
		}
	}
	go func() { ended <- send("second", id2) }()
	waitFor(t, func() bool { return r.engine.begun.Load() == 2 })
	if got := r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Stream", id2, "Bombyx-Process", "first").Header.Get("Bombyx-Cost"); got == "" {
		t.Error("what it had may be asked for")
	}
	<-ended
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("timed out")
		}
	}
}

// stuck waits until the engine is held up by whoever does not read, and returns
// how many events it gave: socket buffers take some megabytes.
func (r *rig) stuck() (given int64) {
	r.t.Helper()
	waitFor(r.t, func() bool {
		time.Sleep(50 * time.Millisecond)
		now := r.engine.given.Load()
		still := now == given && now > 0
		given = now
		return still
	})
	return given
}

// A process of the host that has stopped, and holds its connections, does not keep
// the next one from settling what it left.
func TestTakenOverUnread(t *testing.T) {
	r := newRig(t, &eng{events: 1 << 20, size: 32 << 10})
	p := r.peer()
	first := []string{"Bombyx-Channel", channelA, "Bombyx-Credit", strconv.Itoa(1 << 40), "Bombyx-Process", "first", "Bombyx-Stream"}
	wire, _ := p.seal(body, nil)
	r.call(t.Context(), "/sealed", bytes.NewReader(wire), append(first, id1)...)
	r.stuck()
	stopped, rest := io.Pipe() // a request that it was passing on
	defer rest.Close()
	go func() {
		req, _ := http.NewRequest("POST", r.url+"/sealed", stopped)
		req.Header = http.Header{"Bombyx-Stream": {id2}, "Bombyx-Channel": {channelA}, "Bombyx-Credit": {"5"}, "Bombyx-Process": {"first"}}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	rest.Write(wire[:len(wire)/2])
	waitFor(t, func() bool {
		r.e.mu.Lock()
		defer r.e.mu.Unlock()
		return len(r.e.streams) == 2
	})
	settled := r.call(t.Context(), "/settle", http.NoBody, "Bombyx-Channel", channelA, "Bombyx-Process", "second")
	if _, total, ok := strings.Cut(settled.Header.Get("Bombyx-Tab"), " "); !ok || total != strconv.FormatInt(r.engine.given.Load(), 10) {
		t.Errorf("settled at %q, and %d were released", settled.Header.Get("Bombyx-Tab"), r.engine.given.Load())
	}
	waitFor(t, func() bool { return r.engine.closed.Load() == 1 })
}

// A host or client that does not read stops the engine, within bounded memory;
// when it goes away, the request ends.
func TestBackPressure(t *testing.T) {
	const size = 32 << 10
	r := newRig(t, &eng{events: 1 << 20, size: size})
	p := r.peer()
	wire, _ := p.seal(body, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.send(ctx, wire, id1, strconv.Itoa(1<<40))
	last := r.stuck()
	if last*size > 64<<20 {
		t.Errorf("the engine gave %d MiB that nobody read", last*size>>20)
	}
	cancel()
	waitFor(t, func() bool { return r.engine.closed.Load() == 1 })
}

func TestKeyRotation(t *testing.T) {
	r := newRig(t, &eng{events: 10})
	r.e.cfg.Patience = time.Minute
	old := r.peer()
	wire, opener := old.seal(body, nil)
	out := old.send(t.Context(), wire, id1, "4") // runs until it waits for credit
	resp, err := opener.Open(out.Body, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.advance(31 * time.Minute)
	fresh := r.peer()
	if bytes.Equal(fresh.keys.ReceiptKey, old.keys.ReceiptKey) || fresh.keys.NotAfter.Equal(old.keys.NotAfter) {
		t.Fatal("the keys did not rotate at half of their life")
	}
	for name, p := range map[string]*peer{"old": old, "fresh": fresh} {
		if got, resp := p.ask(body, "100", nil); !strings.HasSuffix(got, "[DONE]\n\n") || p.receipt(resp).Finish != receipt.Complete {
			t.Errorf("%s keys: %s", name, got)
		}
	}
	r.advance(30 * time.Minute) // the old keys expire, and are still in use
	r.peer()
	if got, _ := old.ask(body, "100", nil); got != "422 unknown_evidence" && got != "422 unknown_key" {
		t.Errorf("expired keys: %s", got)
	}
	if raised := r.call(t.Context(), "/credit", http.NoBody, "Bombyx-Stream", id1, "Bombyx-Credit", "10"); raised.StatusCode != 204 {
		t.Fatal(raised.StatusCode)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(b), "[DONE]\n\n") || old.receipt(resp).Finish != receipt.Complete {
		t.Fatalf("a stream that outlived its keys: %q, %v", b, err)
	}
	// With nobody left, the old keys are gone.
	waitFor(t, func() bool { r.e.current(nil); r.e.mu.Lock(); defer r.e.mu.Unlock(); return len(r.e.generations) < 3 })
	if got, _ := old.ask(body, "100", nil); got != "422 unknown_key" {
		t.Errorf("dropped keys: %s", got)
	}
	for _, g := range r.e.evidence {
		if g.notAfter.Equal(old.keys.NotAfter) {
			t.Error("evidence of dropped keys is remembered")
		}
	}
}

func TestEvidenceBusy(t *testing.T) {
	r := newRig(t, &eng{})
	hold := make(chan struct{})
	r.collector.hold = hold
	var wg sync.WaitGroup
	for range maxCollected {
		wg.Go(func() {
			if _, err := r.e.Evidence(t.Context(), [32]byte{}); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, func() bool { r.e.mu.Lock(); defer r.e.mu.Unlock(); return r.e.collecting == maxCollected })
	resp := r.call(t.Context(), "/evidence", bytes.NewReader(make([]byte, 32)))
	if got := fault(t, resp); got != "429 busy" || resp.Header.Get("Retry-After") == "" {
		t.Error(got, resp.Header)
	}
	close(hold)
	wg.Wait()
	r.collector.mu.Lock()
	r.collector.err = errors.New("secret detail")
	r.collector.mu.Unlock()
	if got := fault(t, r.call(t.Context(), "/evidence", bytes.NewReader(make([]byte, 32)))); got != "503 no_evidence" {
		t.Error(got)
	}
	// What was issued under one generation of keys is bounded.
	r.collector.mu.Lock()
	r.collector.err = nil
	r.collector.mu.Unlock()
	r.e.generations[0].issued = maxEvidence
	if got := fault(t, r.call(t.Context(), "/evidence", bytes.NewReader(make([]byte, 32)))); got != "429 busy" {
		t.Error(got)
	}
}

func TestTooManyStreams(t *testing.T) {
	r := newRig(t, &eng{events: 1})
	for i := range maxStreams {
		r.e.streams[streamID{byte(i), byte(i >> 8)}] = nil
	}
	p := r.peer()
	wire, _ := p.seal(body, nil)
	if got := fault(t, p.send(t.Context(), wire, newID(), "1")); got != "503 busy" {
		t.Error(got)
	}
}

func TestConfigRefusals(t *testing.T) {
	r := newRig(t, &eng{})
	for name, change := range map[string]func(*Config){
		"no engine":    func(c *Config) { c.Engine = nil },
		"no collector": func(c *Config) { c.Collector = nil },
		"no clock":     func(c *Config) { c.Now = nil },
		"no manifest":  func(c *Config) { c.Manifest = nil },
		"no prices":    func(c *Config) { c.Prices = nil },
		"short keys":   func(c *Config) { c.KeyLifetime = time.Second },
		"no patience":  func(c *Config) { c.Patience = 0 },
		"no window":    func(c *Config) { c.Window = 0 },
	} {
		c := r.config()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Keys rotate with the epoch: Evidence of a block never binds keys from before the host named it.
func TestEpochEvidence(t *testing.T) {
	r := newRig(t, &eng{events: 1})
	before := r.peer()
	ask := func(seqno uint32) ([]byte, *generation) {
		t.Helper()
		epoch := attestation.Epoch{Seqno: seqno, RootHash: [32]byte{1}}
		resp := r.call(t.Context(), "/epoch", bytes.NewReader(epoch.AppendEncoded(nil)))
		doc, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, doc)
		}
		r.e.mu.Lock()
		defer r.e.mu.Unlock()
		g := r.e.generations[len(r.e.generations)-1]
		if want, _ := r.collector.Collect(t.Context(), epoch.Nonce(), g.encoded); !bytes.Equal(doc, want) {
			t.Errorf("epoch %d: %s, want %s", seqno, doc, want)
		}
		if r.e.evidence[sha256.Sum256(doc)] != g {
			t.Errorf("epoch %d: the evidence is not on record", seqno)
		}
		return doc, g
	}
	_, first := ask(100)
	if bytes.Equal(first.encoded, r.e.generations[0].encoded) {
		t.Error("the epoch's keys are older than the epoch")
	}
	if _, again := ask(100); again != first {
		t.Error("the same epoch got other keys")
	}
	if _, next := ask(101); next == first {
		t.Error("another epoch got the same keys")
	}
	// Older keys serve until they expire.
	if got, _ := before.ask(body, "100", nil); !strings.HasSuffix(got, "[DONE]\n\n") {
		t.Errorf("keys from before: %s", got)
	}
	for _, n := range []int{0, 35, 37} {
		if got := fault(t, r.call(t.Context(), "/epoch", bytes.NewReader(make([]byte, n)))); got != "400 malformed_epoch" {
			t.Errorf("%d bytes: %s", n, got)
		}
	}
	// A host that names ever new epochs does not fill the memory, and gets evidence for nonces all the same.
	for n := uint32(200); len(r.e.generations) < maxGenerations; n++ {
		ask(n)
	}
	flood := attestation.Epoch{Seqno: 1}.AppendEncoded(nil)
	if got := fault(t, r.call(t.Context(), "/epoch", bytes.NewReader(flood))); got != "429 busy" {
		t.Error(got)
	}
	r.peer()
	r.advance(time.Hour)
	if resp := r.call(t.Context(), "/epoch", bytes.NewReader(flood)); resp.StatusCode != 200 || len(r.e.generations) != 1 {
		t.Errorf("after the flood's keys expired: %d, %d generations", resp.StatusCode, len(r.e.generations))
	}
}
