package openai_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
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
