package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
)

func (s *Stack) embed(t *testing.T, body string) (int, string) {
	t.Helper()
	resp, err := (&http.Client{Transport: s.Client, Timeout: time.Minute}).Post(client.BaseURL+"/embeddings", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Embeddings are sealed, paid by their prompt tokens to the nanogram, and never held more for than their prompt can cost.
func TestEmbeddings(t *testing.T) {
	var last *client.Receipt
	// A window that no completion of the model's context would fit: 4096 tokens of it cost 40,960 nanogram.
	s := startVLLM(t, Options{Window: 5_000, Trace: client.Trace{Receipt: func(r *client.Receipt, _ string) { last = r }}})
	code, got := s.embed(t, `{"model":"test-model","input":["one two three","four five"]}`)
	const want = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[13,0.25,-1,3e-05]},{"object":"embedding","index":1,"embedding":[9,0.25,-1,3e-05]}],` +
		`"model":"test-model","usage":{"prompt_tokens":5,"total_tokens":5}}`
	if code != 200 || got != want {
		t.Fatalf("%d %s", code, got)
	}
	if last.Usage.Prompt != 5 || last.Usage.Completion != 0 || last.Cost != 5 || last.Finish != "complete" {
		t.Errorf("%+v", last)
	}
	if state := s.Client.State(); state.Settled != 5 || state.Signed > 5_000+5 {
		t.Errorf("%+v", state)
	}

	// Two thousand documents of a kilobyte: an answer of many sealed chunks.
	documents := make([]string, 2000)
	for i := range documents {
		documents[i] = strings.Repeat("word ", 200)
	}
	body, err := json.Marshal(map[string]any{"model": Model, "input": documents, "encoding_format": "base64"})
	if err != nil {
		t.Fatal(err)
	}
	code, got = s.embed(t, string(body))
	var list struct{ Data []struct{ Embedding []byte } }
	if err := json.Unmarshal([]byte(got), &list); code != 200 || err != nil || len(list.Data) != 2000 ||
		base64.StdEncoding.EncodeToString(list.Data[1999].Embedding[:4]) != "AAB6RA==" { // 1000 as float32
		t.Fatalf("%d, %v, %d embeddings", code, err, len(list.Data))
	}
	if last.Cost != 400_000 || s.Client.State().Settled != 400_005 {
		t.Errorf("%+v, %+v", last, s.Client.State())
	}

	for code, body := range map[string]string{
		"send up to 64 texts":   `{"model":"test-model","dimensions":65536,"input":["a"` + strings.Repeat(`,"a"`, 64) + `]}`,
		"invalid_value":         `{"model":"test-model","input":[1,2]}`,
		"unsupported_parameter": `{"model":"test-model","input":"a","instruct":"b"}`,
		"model_not_found":       `{"model":"other","input":"a"}`,
		"malformed_json":        `{"model":"test-model","input":"a","input":"b"}`,
	} {
		if status, got := s.embed(t, body); status < 400 || !strings.Contains(got, code) {
			t.Errorf("%s: %d %s", code, status, got)
		}
	}
	if s.Client.State().Settled != 400_005 {
		t.Errorf("refusals cost something: %+v", s.Client.State())
	}
}

// Whoever leaves while the engine works stops it and owes nothing, for nothing was released; nobody has to ask the host about it.
func TestEmbeddingsCancelled(t *testing.T) {
	const window = 2_100 // each of these requests may cost 1024
	var receipts, sessions atomic.Int64
	s := startVLLM(t, Options{Window: window, Trace: client.Trace{Receipt: func(*client.Receipt, string) { receipts.Add(1) }}, Outside: counting(&sessions)})
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		left := make(chan error, 1)
		go func() {
			req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/embeddings", strings.NewReader(`{"model":"test-model","input":"wait"}`))
			_, err := s.Client.RoundTrip(req)
			left <- err
		}()
		if code, got := s.embed(t, `{"model":"test-model","input":"waiting?"}`); code != 200 {
			t.Fatalf("%d %s", code, got)
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if code, got := s.embed(t, `{"model":"test-model","input":"dropped?"}`); code != 200 {
			t.Fatalf("%d %s", code, got)
		}
	}
	const answered = 6 // with a token each
	if st := s.Client.State(); st.Settled != answered || st.Signed > answered+window || receipts.Load() != answered || sessions.Load() != 1 {
		t.Errorf("%+v, %d receipts, %d sessions", st, receipts.Load(), sessions.Load())
	}
	s.Host.Close()
	if row := s.row(t); row.Spent != answered {
		t.Errorf("%d on the host's books", row.Spent)
	}
}

// An engine that dies over embeddings is a fault that costs nothing, and nothing that it said gets out; the channel pays for what
// is asked next.
func TestEngineDiesOverEmbeddings(t *testing.T) {
	const window = 1_100
	var sessions atomic.Int64
	s := startVLLM(t, Options{Window: window, Outside: counting(&sessions)})
	settled := uint64(0)
	for _, when := range []string{"die", "break"} {
		status, got := s.embed(t, `{"model":"test-model","input":["`+when+`","now"]}`)
		var o struct {
			Error struct{ Message, Type, Code string }
		}
		if err := json.Unmarshal([]byte(got), &o); err != nil || status != 502 || o.Error.Code != "engine_error" || o.Error.Message == "" || o.Error.Type == "" ||
			strings.Contains(got, "0.25") {
			t.Errorf("%s: %d %s", when, status, got)
		}
		if st := s.Client.State(); st.Settled != settled || st.Signed > settled+window {
			t.Errorf("%s: it cost %+v", when, st)
		}
		if status, got := s.embed(t, `{"model":"test-model","input":"one two"}`); status != 200 || !strings.Contains(got, "[7,0.25,-1,3e-05]") {
			t.Errorf("after %s: %d %s", when, status, got)
		}
		if settled += 2; s.Client.State().Settled != settled || sessions.Load() != 1 {
			t.Errorf("after %s: %+v, %d sessions", when, s.Client.State(), sessions.Load())
		}
	}
	s.Host.Close()
	if row := s.row(t); row.Spent != settled {
		t.Errorf("%d on the host's books", row.Spent)
	}
}

// Whoever leaves while the embeddings arrive pays for all of them, for all had been released: with their receipt, or, where that
// does not come any more, out of the window by the host's word. Either way they are booked once, and the next request runs.
func TestEmbeddingsLeft(t *testing.T) {
	const window, whole = 12_000, 2002                                                       // tokens of a nanogram each
	body := `{"model":"test-model","input":["one two"` + strings.Repeat(`,"a"`, 2000) + `]}` // its answer is several sealed chunks
	for name, want := range map[string]struct {
		withheld bool
		receipts int64
		settled  uint64
	}{
		"receipt":      {false, 1, whole},
		"end withheld": {true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var receipts, sessions atomic.Int64
			left := make(chan struct{})
			s := startVLLM(t, Options{Window: window, Trace: client.Trace{Receipt: func(*client.Receipt, string) { receipts.Add(1) }}, Outside: func(rt http.RoundTripper) http.RoundTripper {
				rt = counting(&sessions)(rt)
				return transport(func(r *http.Request) (*http.Response, error) {
					resp, err := rt.RoundTrip(r)
					if err == nil && want.withheld && strings.HasSuffix(r.URL.Path, "/sealed") {
						resp.Body = &half{ReadCloser: resp.Body, more: 20_000, until: left}
					}
					if r.URL.Path == "/v1/cancel" {
						close(left)
					}
					return resp, err
				})
			}})
			resp, err := (&http.Client{Transport: s.Client}).Post(client.BaseURL+"/embeddings", "application/json", strings.NewReader(body))
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if st := s.Client.State(); st.Settled != want.settled || st.Signed > whole+window || receipts.Load() != want.receipts {
				t.Errorf("%+v, %d receipts", st, receipts.Load())
			}
			if code, got := s.embed(t, `{"model":"test-model","input":"one two"}`); code != 200 {
				t.Fatalf("%d %s", code, got)
			}
			if st := s.Client.State(); st.Settled != want.settled+2 || st.Signed > whole+2+window || sessions.Load() != 1 {
				t.Errorf("%+v, %d sessions", st, sessions.Load())
			}
			s.Host.Close()
			if row := s.row(t); row.Spent != whole+2 {
				t.Errorf("%d on the host's books", row.Spent)
			}
		})
	}
}

// half passes some more bytes, and then waits and ends.
type half struct {
	io.ReadCloser
	more  int64
	until chan struct{}
}

func (h *half) Read(p []byte) (int, error) {
	if h.more == 0 {
		<-h.until
		return 0, io.EOF
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.more)])
	h.more -= int64(n)
	return n, err
}
