package openai_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

func embed(members string) engine.Request {
	return engine.Request{Path: engine.PathEmbeddings, Body: []byte(`{"model":"tiny",` + members + `}`)}
}

// vectors answers with two embeddings, as vLLM does.
const vectors = `{"id":"embd-1","object":"list","created":1,"model":"tiny","data":[{"index":0,"object":"embedding","embedding":[0.5,-2,1e-3]},` +
	`{"index":1,"object":"embedding","embedding":[1,0,0.1]}],"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0,"prompt_tokens_details":null}}`

func TestEmbeddings(t *testing.T) {
	const numbers = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-2,0.001]},{"object":"embedding","index":1,"embedding":[1,0,0.1]}],` +
		`"model":"tiny","usage":{"prompt_tokens":7,"total_tokens":7}}`
	// Little-endian float32, as OpenAI has it.
	first := base64.StdEncoding.EncodeToString([]byte{0, 0, 0, 0x3f, 0, 0, 0, 0xc0, 0x6f, 0x12, 0x83, 0x3a})
	second := base64.StdEncoding.EncodeToString([]byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0, 0xcd, 0xcc, 0xcc, 0x3d})
	text := strings.NewReplacer("[0.5,-2,0.001]", `"`+first+`"`, "[1,0,0.1]", `"`+second+`"`).Replace(numbers)
	f := newFake(t, whole(vectors))
	d := driver(t, f, openai.VLLM)
	for _, c := range []struct{ ask, sent, want string }{
		{`"input":["a","b"]`, `{"encoding_format":"float","input":["a","b"],"model":"tiny"}`, numbers},
		{`"input":["a","b"],"encoding_format":"float","user":"me","dimensions":null`, `{"encoding_format":"float","input":["a","b"],"model":"tiny"}`, numbers},
		{`"input":["a","b"],"encoding_format":"base64","dimensions":3`, `{"dimensions":3,"encoding_format":"float","input":["a","b"],"model":"tiny"}`, text},
	} {
		got, u, err := collect(t, d, embed(c.ask))
		if err != nil || len(got) != 1 || got[0] != c.want || u[0] != (engine.Usage{Prompt: 7}) {
			t.Errorf("%s: %q, %+v, %v", c.ask, got, u, err)
		}
		if sent := *f.body.Load(); sent != c.sent {
			t.Errorf("%s: %s went to the engine", c.ask, sent)
		}
	}
	f.answer = whole(`{"object":"list","data":[{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":1}}`)
	if got, _, err := collect(t, d, embed(`"input":"a"`)); err != nil || !strings.Contains(got[0], `"embedding":[1]}]`) {
		t.Errorf("one text: %q, %v", got, err)
	}
}

func TestEmbeddingsRefused(t *testing.T) {
	f := newFake(t, whole(vectors))
	long := `["` + strings.Repeat(`a","`, 2048) + `a"]`
	for _, c := range []struct {
		flavour openai.Flavour
		ask     string
		param   string
	}{
		{openai.VLLM, `"user":"me"`, "input"},
		{openai.VLLM, `"input":null`, "input"},
		{openai.VLLM, `"input":""`, "input"},
		{openai.VLLM, `"input":[]`, "input"},
		{openai.VLLM, `"input":["a",""]`, "input"},
		{openai.VLLM, `"input":[1,2]`, "input"},
		{openai.VLLM, `"input":[[1],[2]]`, "input"},
		{openai.VLLM, `"input":{"text":"a"}`, "input"},
		{openai.VLLM, `"input":` + long, "input"},
		{openai.VLLM, `"input":"a","encoding_format":"hex"`, "encoding_format"},
		{openai.VLLM, `"input":"a","encoding_format":1`, "encoding_format"},
		{openai.VLLM, `"input":"a","dimensions":0`, "dimensions"},
		{openai.VLLM, `"input":"a","dimensions":65537`, "dimensions"},
		{openai.LlamaCPP, `"input":"a","dimensions":3`, "dimensions"},
		{openai.Ollama, `"input":"a","dimensions":3`, "dimensions"},
		{openai.VLLM, `"input":"a","stream":false`, "stream"},
		{openai.VLLM, `"input":"a","truncate_prompt_tokens":3`, "truncate_prompt_tokens"},
	} {
		_, err := driver(t, f, c.flavour).Start(t.Context(), embed(c.ask))
		var e *engine.RequestError
		if !errors.As(err, &e) || e.Status != 400 || e.Param != c.param {
			t.Errorf("%s: %.60s: %v", c.flavour, c.ask, err)
		}
	}
	_, err := driver(t, f, openai.VLLM).Start(t.Context(), engine.Request{Path: engine.PathEmbeddings, Body: []byte(`{"model":"other","input":"a"}`)})
	if e := new(engine.RequestError); !errors.As(err, &e) || e.Code != "model_not_found" {
		t.Errorf("another model: %v", err)
	}
	if n := f.hits.Load(); n != 0 {
		t.Errorf("%d of them reached the engine", n)
	}
}

// What an engine answers is passed on whole and in order, or not at all.
func TestEmbeddingsOfTheEngine(t *testing.T) {
	const usage = `"usage":{"prompt_tokens":2}`
	item := func(i int, numbers string) string { return fmt.Sprintf(`{"index":%d,"embedding":%s}`, i, numbers) }
	for name, answer := range map[string]string{
		"no JSON":           `oops`,
		"no list":           `{"object":"list","data":{},` + usage + `}`,
		"nothing":           `{"object":"list","data":[],` + usage + `}`,
		"too few":           `{"object":"list","data":[` + item(0, "[1]") + `],` + usage + `}`,
		"too many":          `{"object":"list","data":[` + item(0, "[1]") + "," + item(1, "[1]") + "," + item(2, "[1]") + `],` + usage + `}`,
		"out of order":      `{"object":"list","data":[` + item(1, "[1]") + "," + item(0, "[1]") + `],` + usage + `}`,
		"one twice":         `{"object":"list","data":[` + item(0, "[1]") + "," + item(0, "[1]") + `],` + usage + `}`,
		"of two lengths":    `{"object":"list","data":[` + item(0, "[1]") + "," + item(1, "[1,2]") + `],` + usage + `}`,
		"empty":             `{"object":"list","data":[` + item(0, "[]") + "," + item(1, "[]") + `],` + usage + `}`,
		"not asked for":     `{"object":"list","data":[` + item(0, "[1]") + "," + item(1, "[1]") + `],` + usage + `}`, // three dimensions were
		"null":              `{"object":"list","data":[` + item(0, "null") + "," + item(1, "null") + `],` + usage + `}`,
		"no number":         `{"object":"list","data":[` + item(0, "[NaN]") + "," + item(1, "[1]") + `],` + usage + `}`,
		"infinite":          `{"object":"list","data":[` + item(0, "[1,2,1e99]") + "," + item(1, "[1,2,3]") + `],` + usage + `}`,
		"in base64":         `{"object":"list","data":[` + item(0, `"AAAA"`) + "," + item(1, `"AAAA"`) + `],` + usage + `}`,
		"null numbers":      `{"object":"list","data":[` + item(0, "[1,null,3]") + "," + item(1, "[1,2,3]") + `],` + usage + `}`,
		"no index":          `{"object":"list","data":[{"embedding":[1,2,3]},` + item(1, "[1,2,3]") + `],` + usage + `}`,
		"index null":        `{"object":"list","data":[{"index":null,"embedding":[1,2,3]},` + item(1, "[1,2,3]") + `],` + usage + `}`,
		"another object":    `{"object":"lists","data":[` + item(0, "[1,2,3]") + "," + item(1, "[1,2,3]") + `],` + usage + `}`,
		"no object":         `{"data":[` + item(0, "[1,2,3]") + "," + item(1, "[1,2,3]") + `],` + usage + `}`,
		"uncounted":         `{"object":"list","data":[` + item(0, "[1,2,3]") + "," + item(1, "[1,2,3]") + `]}`,
		"counted as none":   `{"object":"list","data":[` + item(0, "[1,2,3]") + "," + item(1, "[1,2,3]") + `],"usage":{"prompt_tokens":0}}`,
		"counted backwards": `{"object":"list","data":[` + item(0, "[1,2,3]") + "," + item(1, "[1,2,3]") + `],"usage":{"prompt_tokens":-1}}`,
		"overcounted":       `{"object":"list","data":[` + item(0, "[1,2,3]") + "," + item(1, "[1,2,3]") + `],"usage":{"prompt_tokens":1000}}`,
		"an error":          `{"error":{"message":"no","code":400}}`,
	} {
		got, _, err := collect(t, driver(t, newFake(t, whole(answer)), openai.VLLM), embed(`"input":["a","b"],"dimensions":3`))
		var e *engine.RequestError
		if err == nil || errors.As(err, &e) != (name == "an error") || len(got) > 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, _, err := collect(t, driver(t, newFake(t, status(400, `{"error":{"message":"The model does not support Embeddings API","code":400}}`)), openai.VLLM), embed(`"input":"a"`))
	if e := new(engine.RequestError); !errors.As(err, &e) || e.Status != 400 || !strings.Contains(e.Message, "does not support") {
		t.Errorf("a chat model: %v", err)
	}
}

// sized answers with embeddings of as many numbers as asked for, or of size, each the longest that a float64 can be.
func sized(size int, sent *atomic.Int64) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Input      any
			Dimensions int
		}
		if json.NewDecoder(r.Body).Decode(&q) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		texts, ok := q.Input.([]any)
		if !ok {
			texts = []any{q.Input}
		}
		sent.Add(int64(len(texts)))
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object": "list", "data": [`)
		numbers := strings.TrimSuffix(strings.Repeat("-1.2345678901234567e-05, ", cmp.Or(q.Dimensions, size)), ", ")
		for i := range texts {
			fmt.Fprintf(w, `%s{"object": "embedding", "index": %d, "embedding": [%s]}`, strings.Repeat(", ", min(i, 1)), i, numbers)
		}
		fmt.Fprintf(w, `], "usage": {"prompt_tokens": %d}}`, len(texts))
	}
}

func texts(n int, members string) engine.Request {
	return embed(`"encoding_format":"base64","input":["` + strings.Repeat(`a","`, n-1) + `a"]` + members)
}

// What would not fit into an answer is refused before the engine works on it.
func TestEmbeddingsThatDoNotFit(t *testing.T) {
	var sent atomic.Int64 // texts
	f := newFake(t, sized(4096, &sent))
	d := driver(t, f, openai.VLLM)
	for _, c := range []struct {
		n       int
		members string
		fit     int   // that many would have, where these do not
		sent    int64 // to the engine
	}{
		{1, "", 0, 1},
		{64, "", 0, 64},
		{2048, `,"dimensions":2049`, 2047, 0},
		{65, `,"dimensions":65536`, 64, 0},
		{2048, `,"dimensions":2`, 0, 2048},
		{2048, "", 1024, 1}, // one, for its dimensions
		{2048, "", 1024, 0},
		{1025, "", 1024, 0},
		{65, "", 0, 65},
	} {
		sent.Store(0)
		got, _, err := collect(t, d, texts(c.n, c.members))
		var e *engine.RequestError
		if c.fit == 0 && (err != nil || len(got) != 1) ||
			c.fit > 0 && (!errors.As(err, &e) || e.Status != 400 || e.Param != "input" || !strings.HasSuffix(e.Message, fmt.Sprintf("send up to %d texts at once", c.fit))) {
			t.Errorf("%d texts%s: %d answers, %v", c.n, c.members, len(got), err)
		}
		if n := sent.Load(); n != c.sent {
			t.Errorf("%d texts%s: the engine worked on %d", c.n, c.members, n)
		}
	}
	f.answer = status(400, `{"error":{"message":"The model does not support Embeddings API","code":400}}`)
	_, _, err := collect(t, driver(t, f, openai.VLLM), texts(65, ""))
	if e := new(engine.RequestError); !errors.As(err, &e) || e.Status != 400 || !strings.Contains(e.Message, "does not support") {
		t.Errorf("a chat model: %v", err)
	}
}
