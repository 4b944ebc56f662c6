package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
)

func start(t *testing.T, o Options) *Stack {
	t.Helper()
	o.Dir, o.ErrorLog = t.TempDir(), log.New(noPanics{t}, "", 0)
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// noPanics fails a test when a server reports that a handler panicked.
type noPanics struct{ t *testing.T }

func (l noPanics) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "panic") {
		l.t.Errorf("%s", b)
	}
	return len(b), nil
}

func post(s *Stack, body string) (*http.Response, error) { return postTo(s, "/chat/completions", body) }

func postTo(s *Stack, path, body string) (*http.Response, error) {
	req, _ := http.NewRequest("POST", client.BaseURL+path, strings.NewReader(body))
	return s.Client.RoundTrip(req)
}

const streaming = `{"model":"test-model","stream":true,"messages":[{"role":"user","content":"hello"}]}`

func read(t *testing.T, resp *http.Response) (string, error) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestStream(t *testing.T) {
	var receipts []*client.Receipt
	e := &Script{Chunks: 50, Size: 128}
	s := start(t, Options{Engine: e, Trace: client.Trace{Receipt: func(r *client.Receipt, _ string) { receipts = append(receipts, r) }}})
	for range 3 {
		resp, err := post(s, streaming)
		if err != nil {
			t.Fatal(err)
		}
		body, err := read(t, resp)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d %q: %v", resp.StatusCode, body, err)
		}
		if n := strings.Count(body, "data: {"); n != 50 || !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Contains(body, ": bombyx") {
			t.Fatalf("%d events in %q", n, body)
		}
	}
	if len(receipts) != 3 || receipts[0].Usage.Completion != 50 || receipts[0].Cost != 510 {
		t.Fatalf("%+v", receipts)
	}
	s.Host.Close()
	if st := s.Client.State(); st.Settled != 3*510 {
		t.Errorf("settled %d", st.Settled)
	}
	address := s.Config.Payment.Channel.Address()
	row, err := s.Ledger.Channel(t.Context(), "0:"+hex.EncodeToString(address[:]))
	if err != nil || row.Spent != 3*510 || row.Authorised < row.Spent || row.Answers != 3 {
		t.Errorf("%+v, %v", row, err)
	}
}

// A window far smaller than the answer: vouchers are signed while it streams.
func TestVouchersWhileStreaming(t *testing.T) {
	e := &Script{Chunks: 300, Size: 8}
	s := start(t, Options{Engine: e, Window: 200})
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	body, err := read(t, resp)
	if err != nil || strings.Count(body, "data: {") != 300 {
		t.Fatalf("%d events, %v", strings.Count(body, "data: {"), err)
	}
	if st := s.Client.State(); st.Settled != 3010 || st.Signed > st.Settled+3*200 {
		t.Errorf("%+v", st)
	}
}

// A client that stops paying gets no more than it paid for.
func TestCreditEnds(t *testing.T) {
	e := &Script{Chunks: 300, Size: 8}
	s := start(t, Options{Engine: e, Window: 200, Deposit: 1000, Patience: 50 * time.Millisecond})
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	body, err := read(t, resp)
	if err != nil || !strings.Contains(body, "insufficient_credit") {
		t.Fatalf("%q, %v", body[max(0, len(body)-300):], err)
	}
	if n := strings.Count(body, `"delta"`); n > 99 || int64(n) < e.Events.Load()-2 {
		t.Errorf("%d events delivered, engine gave %d, paid for at most 99", n, e.Events.Load())
	}
	if st := s.Client.State(); st.Settled > 1000 || st.Signed > 1000 {
		t.Errorf("%+v", st)
	}
}

// A prompt that the deposit cannot pay for is not promised the deposit.
func TestPromptBeyondTheDeposit(t *testing.T) {
	s := start(t, Options{Engine: &Script{Chunks: 3, Size: 8}, Window: 200, Deposit: 1000, Patience: 50 * time.Millisecond})
	resp, err := post(s, strings.Replace(streaming, `"content":"`, `"content":"`+strings.Repeat("long ", 20_000), 1))
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := read(t, resp); resp.StatusCode != 402 || !strings.Contains(body, "insufficient_credit") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if st := s.Client.State(); st.Signed > 200 || st.Settled != 0 {
		t.Errorf("%+v", st)
	}
}

func TestEngineFaults(t *testing.T) {
	e := &Script{Chunks: 5, Fail: ErrEngine, FailAt: 0}
	s := start(t, Options{Engine: e})
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := read(t, resp)
	if resp.StatusCode != 502 || !strings.Contains(body, "engine_error") || strings.Contains(body, "broke") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	e.FailAt = 3
	resp, err = post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	body, err = read(t, resp)
	if err != nil || strings.Count(body, `"delta"`) != 3 || !strings.Contains(body, "engine_error") || strings.Contains(body, "[DONE]") {
		t.Fatalf("%q, %v", body, err)
	}
}

// The user goes away: the engine stops, and host and client agree on the cost.
func TestCancelReachesEngine(t *testing.T) {
	e := &Script{Chunks: 50, Size: 8, Step: make(chan struct{})}
	s := start(t, Options{Engine: e})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
	go func() {
		for range 3 {
			e.Step <- struct{}{}
		}
	}()
	resp, err := s.Client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	if _, err := resp.Body.Read(buf); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Fatal("a cancelled answer ended well")
	}
	resp.Body.Close()
	waitFor(t, "the engine to stop", func() bool { return e.Closed.Load() == 1 })
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// tamper changes the sealed answers on their way.
type tamper struct {
	http.RoundTripper
	change func(*http.Response)
}

func (r *tamper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err == nil && strings.HasSuffix(req.URL.Path, "/sealed") {
		r.change(resp)
	}
	return resp, err
}

func TestHostileNetwork(t *testing.T) {
	var change func(*http.Response)
	s := start(t, Options{Engine: &Script{Chunks: 50, Size: 128},
		Outside: func(rt http.RoundTripper) http.RoundTripper {
			return &tamper{rt, func(r *http.Response) { change(r) }}
		}})
	rewrite := func(f func([]byte) []byte) func(*http.Response) {
		return func(r *http.Response) {
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			r.Body = io.NopCloser(bytes.NewReader(f(b)))
		}
	}
	for name, f := range map[string]func([]byte) []byte{
		"truncated at a byte":  func(b []byte) []byte { return b[:len(b)-1] },
		"truncated in half":    func(b []byte) []byte { return b[:len(b)/2] },
		"one bit flipped":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"last bit flipped":     func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"trailing byte":        func(b []byte) []byte { return append(b, 0) },
		"nothing after header": func(b []byte) []byte { return b[:40] },
	} {
		change = rewrite(f)
		resp, err := post(s, streaming)
		if err != nil {
			t.Fatal(err)
		}
		body, err := read(t, resp)
		if resp.StatusCode == 200 && err == nil || strings.Contains(body, "[DONE]") {
			t.Errorf("%s: answer accepted: %d, %v, %q", name, resp.StatusCode, err, body)
		}
	}
}
