package openai

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

// FuzzScan holds the scan against encoding/json: what it reads of a valid event is what a full decoder reads.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`{"choices":[{"index":0,"delta":{"content":"a\"b"},"finish_reason":null}],"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}}}`,
		`{"choices":[{"index":1,"text":"x","finish_reason":"stop"}],"timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}}`,
		`{"error":{"message":"x"}}`, `{"object":"error","message":"x"}`, `{"usage":null,"choices":null}`, `{}`, ` { "choices" : [ ] } `, `{"a":"\\","usage":{}}`,
		`{"usage":{"completion_tokens":1e3}}`, `{"choices":[{"finish_reason":"abort"}]}`, `{"a":{"usage":{"completion_tokens":9}}}`, `{"a":[}`, `{"a":1,}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := scan(b)
		if e.written > e.choices || err != nil && e.choices != 0 {
			t.Fatalf("%+v, %v", e, err)
		}
		if err != nil || !json.Valid(b) {
			return
		}
		c := blank(append([]byte(nil), b...), e.usageAt, e.timingsAt)
		if !json.Valid(c) || len(c) > len(b) {
			t.Fatalf("%q became %q", b, c)
		}
		if hasDuplicates(b) || strings.Contains(string(b), `\u`) { // the meaning of both is open; our scan need not share encoding/json's
			return
		}
		// encoding/json takes "Usage" and "uſage" for "usage"; our scan does not.
		if strings.ContainsFunc(string(b), func(r rune) bool { return r >= 0x80 || r >= 'A' && r <= 'Z' }) {
			return
		}
		var full map[string]json.RawMessage
		if json.Unmarshal(b, &full) != nil {
			t.Fatalf("accepted %q", b)
		}
		var choices []struct {
			Index  int64   `json:"index"`
			Finish *string `json:"finish_reason"`
		}
		if json.Unmarshal(full["choices"], &choices) == nil {
			var finished uint64
			for _, c := range choices {
				if c.Finish != nil && *c.Finish != "" {
					finished |= 1 << c.Index
				}
			}
			if len(choices) != e.choices || finished != e.finished {
				t.Fatalf("%q: %d choices, finished %b; scanned %+v", b, len(choices), finished, e)
			}
		}
		var usage *struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
		}
		if json.Unmarshal(full["usage"], &usage) == nil && usage != nil {
			if !e.counted || e.usage.Prompt != usage.Prompt || e.usage.Completion != usage.Completion {
				t.Fatalf("%q: scanned %+v", b, e.usage)
			}
		}
	})
}

// hasDuplicates also counts members that differ in case only, which encoding/json takes for the same.
func hasDuplicates(b []byte) bool {
	d := json.NewDecoder(bytes.NewReader(b))
	var stack []map[string]bool
	key := false
	for {
		t, err := d.Token()
		if err != nil {
			return false
		}
		top := len(stack) - 1
		if s, ok := t.(string); ok && key && top >= 0 && stack[top] != nil {
			if s = strings.ToLower(s); stack[top][s] {
				return true
			}
			if strings.ToLower(s) != s {
				return true
			}
			stack[top][s] = true
			key = false
			continue
		}
		switch t {
		case json.Delim('{'):
			stack = append(stack, map[string]bool{})
		case json.Delim('['):
			stack = append(stack, nil)
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
		}
		key = len(stack) > 0 && stack[len(stack)-1] != nil
	}
}

// FuzzSSE checks that the reader's answer does not depend on how the bytes arrive, and that its events are whole lines.
func FuzzSSE(f *testing.F) {
	for _, s := range []string{"data: {}\n\ndata: [DONE]\n\n", ": ping\r\ndata:{}\r\n\r\n", "event: x\nid: 1\nretry: 2\n", "data: {}", "error: x\n", "data\n", "\n\n\n", "data: a\rb\n"} {
		f.Add([]byte(s))
	}
	read := func(t *testing.T, r io.Reader) (out []string, err error) {
		var e sse
		e.reset(r)
		defer e.free()
		for {
			b, err := e.next()
			if err != nil {
				return out, err
			}
			if bytes.ContainsAny(b, "\r\n") {
				t.Fatalf("a line break in %q", b)
			}
			out = append(out, string(b))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := read(t, bytes.NewReader(b))
		slow, err2 := read(t, iotest.OneByteReader(bytes.NewReader(b)))
		if err != err2 || strings.Join(all, "\n") != strings.Join(slow, "\n") {
			t.Fatalf("%q %v at once, %q %v byte by byte", all, err, slow, err2)
		}
	})
}

// FuzzRewrite feeds requests: whatever comes out is one JSON object with what must be forced, and nothing outside the
// allow-list.
func FuzzRewrite(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","messages":[{"role":"user","content":"hi"}]}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"n":2}`,
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}`, `{"messages":[],"cache_salt":"x"}`, `{"messages":[null]}`,
		`{"messages":[{"role":"user","content":null}],"tools":[null],"stop":null,"response_format":{"type":"text"}}`,
	} {
		f.Add([]byte(s))
	}
	d, err := New(Config{Address: "http://127.0.0.1:1", Flavour: VLLM})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := d.rewrite(engine.Request{Path: engine.PathChatCompletions, Body: b, Salt: [32]byte{9}}, []engine.Model{{ID: "m"}})
		if err != nil {
			if _, ok := err.(*engine.RequestError); !ok {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		out, _ := io.ReadAll(r)
		var m map[string]json.RawMessage
		if err := json.Unmarshal(out, &m); err != nil {
			t.Fatalf("%q became %q: %v", b, out, err)
		}
		if string(m["cache_salt"]) != `"09`+strings.Repeat("00", 31)+`"` || string(m["model"]) != `"m"` || string(m["stream"]) != "false" {
			t.Fatalf("%q became %q", b, out)
		}
		for k := range m {
			if _, ok := specs[VLLM].chat[k]; !ok && k != "cache_salt" && k != "model" && k != "stream" && k != "max_tokens" {
				t.Fatalf("%q let %q through", b, k)
			}
		}
	})
}

// FuzzEmbeddings: whatever an engine answers, what comes of it is JSON with as many embeddings as were asked for, of one length.
func FuzzEmbeddings(f *testing.F) {
	for _, s := range []string{
		`{"object":"list","data":[{"index":0,"embedding":[0.5,-2]},{"index":1,"embedding":[1e-30,3]}],"usage":{"prompt_tokens":7}}`,
		`{"data":[{"index":0,"embedding":[]}],"usage":{"prompt_tokens":1}}`, `{"error":"x"}`, `{"data":null}`, `[]`, `{"data":[null,null],"usage":{"prompt_tokens":1}}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, text bool) {
		e := &embedding{model: "m", inputs: 2, base64: text, most: 100}
		out, u, err := e.answer(b)
		if err != nil {
			if out != nil || u != (engine.Usage{}) {
				t.Fatalf("%q: %v, and yet %q, %+v", b, err, out, u)
			}
			return
		}
		var got struct {
			Data []struct{ Embedding json.RawMessage }
		}
		if err := json.Unmarshal(out, &got); err != nil || len(got.Data) != 2 || u.Prompt < 1 || u.Prompt > 100 || bytes.ContainsAny(out, "\r\n") {
			t.Fatalf("%q became %q, %+v: %v", b, out, u, err)
		}
		var size [2]int
		for i, d := range got.Data {
			if !text {
				var v []float32
				if err := json.Unmarshal(d.Embedding, &v); err != nil {
					t.Fatal(err)
				}
				size[i] = len(v)
				continue
			}
			var v []byte
			if err := json.Unmarshal(d.Embedding, &v); err != nil || len(v)%4 != 0 {
				t.Fatalf("%d bytes, %v", len(v), err)
			}
			size[i] = len(v) / 4
		}
		if size[0] == 0 || size[0] != size[1] {
			t.Fatalf("%q became embeddings of %d numbers", b, size)
		}
	})
}
