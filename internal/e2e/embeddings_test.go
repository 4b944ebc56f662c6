package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

// embedder answers as vLLM does for an embedding model: four numbers for each text, the first of which is its length.
func embedder(w http.ResponseWriter, r *http.Request) {
	var q struct{ Input []string }
	if r.URL.Path != "/v1/embeddings" || json.NewDecoder(r.Body).Decode(&q) != nil {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":{"message":"this model has embeddings and nothing else","type":"BadRequestError","code":400}}`)
		return
	}
	var items []string
	tokens := 0
	for i, s := range q.Input {
		items = append(items, fmt.Sprintf(`{"index":%d,"object":"embedding","embedding":[%d,0.25,-1,3e-05]}`, i, len(s)))
		tokens += len(strings.Fields(s))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":"embd-1","object":"list","created":1,"model":%q,"data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d}}`, Model, strings.Join(items, ","), tokens, tokens)
}

func startEmbedder(t *testing.T, o Options) *Stack {
	srv := httptest.NewServer(http.HandlerFunc(embedder))
	t.Cleanup(srv.Close)
	var err error
	if o.Engine, err = openai.New(openai.Config{Address: srv.URL, Flavour: openai.VLLM, Models: []engine.Model{{ID: Model, ContextLength: 4096}}}); err != nil {
		t.Fatal(err)
	}
	return start(t, o)
}

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
	s := startEmbedder(t, Options{Window: 5_000, Trace: client.Trace{Receipt: func(r *client.Receipt, _ string) { last = r }}})
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
