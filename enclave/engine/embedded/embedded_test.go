package embedded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/llama"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/tokenizer"
)

var spec = modeltest.Spec{Architecture: "qwen3", Type: "Q8_0", Width: 64, Layers: 2, FeedForward: 96, ContextLength: 256, Seed: 21}

func start(tb testing.TB, s modeltest.Spec, o embedded.Options) *embedded.Engine {
	tb.Helper()
	data := modeltest.Make(s)
	if o.ModelID == "" {
		o.ModelID = "tiny"
	}
	if o.Now == nil {
		o.Now = func() time.Time { return time.Unix(1800000000, 0) }
	}
	e, err := embedded.New(bytes.NewReader(data), int64(len(data)), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close() })
	return e
}

// body writes a chat request with further members.
func body(content string, members string) string {
	b, _ := json.Marshal(content)
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(`{"model":"tiny","messages":[{"role":"user","content":%s}]%s}`, b, members)
}

func request(body string) engine.Request {
	r := engine.Request{Path: engine.PathChatCompletions, Body: []byte(body)}
	if !strings.Contains(body, `"messages"`) {
		r.Path = engine.PathCompletions
	}
	r.Stream = strings.Contains(body, `"stream":true`)
	return r
}

// object is any of the answers' objects.
type object struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Index         int
		Text          *string
		Delta         *struct{ Role, Content *string }
		Message       *struct{ Role, Content, Refusal *string }
		Logprobs      *struct{ Content []prob }
		Finish_Reason *string
	}
	Usage *struct {
		Prompt_Tokens, Completion_Tokens, Total_Tokens int64
		Prompt_Tokens_Details                          struct{ Cached_Tokens int64 }
		Completion_Tokens_Details                      struct{ Reasoning_Tokens int64 }
	}
}

type prob struct {
	Token        string
	Logprob      float64
	Bytes        []byte `json:"-"`
	Top_Logprobs []prob
}

// ask runs a request to its end and returns its text, its finish reason and its last usage.
func ask(tb testing.TB, e engine.Engine, body string) (text, finish string, usage engine.Usage) {
	tb.Helper()
	st, err := e.Start(tb.Context(), request(body))
	if err != nil {
		tb.Fatalf("%s: %v", body, err)
	}
	defer st.Close()
	for {
		ev, err := st.Next()
		if err == io.EOF {
			return text, finish, usage
		}
		if err != nil {
			tb.Fatalf("%s: %v", body, err)
		}
		usage = ev.Usage
		var o object
		if err := json.Unmarshal(ev.Data, &o); err != nil {
			tb.Fatalf("%s: %v", ev.Data, err)
		}
		for _, c := range o.Choices {
			switch {
			case c.Text != nil:
				text += *c.Text
			case c.Delta != nil && c.Delta.Content != nil:
				text += *c.Delta.Content
			case c.Message != nil:
				text += *c.Message.Content
			}
			if c.Finish_Reason != nil {
				finish = *c.Finish_Reason
			}
		}
	}
}

func TestShapes(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	models, err := e.Models(t.Context())
	if err != nil || len(models) != 1 || models[0] != (engine.Model{ID: "tiny", ContextLength: 256, Created: 1800000000, OwnedBy: "bombyx"}) {
		t.Errorf("models %v, %v", models, err)
	}
	for _, c := range []struct {
		body string
		want []string // with ID for the identifier, TEXT for any string
	}{
		{
			body("Hi", `"max_tokens":3,"temperature":0`),
			[]string{`{"id":"ID","object":"chat.completion","created":1800000000,"model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"TEXT","refusal":null},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":17,"completion_tokens":3,"total_tokens":20,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`},
		},
		{
			body("Hi", `"max_tokens":2,"temperature":0,"stream":true`),
			[]string{
				`{"id":"ID","object":"chat.completion.chunk","created":1800000000,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}`,
				`{"id":"ID","object":"chat.completion.chunk","created":1800000000,"model":"tiny","choices":[{"index":0,"delta":{"content":"TEXT"},"logprobs":null,"finish_reason":null}]}`,
				`{"id":"ID","object":"chat.completion.chunk","created":1800000000,"model":"tiny","choices":[{"index":0,"delta":{"content":"TEXT"},"logprobs":null,"finish_reason":"length"}]}`,
			},
		},
		{
			body("Hi", `"max_tokens":1,"temperature":0,"stream":true,"stream_options":{"include_usage":true}`),
			[]string{
				`{"id":"ID","object":"chat.completion.chunk","created":1800000000,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}`,
				`{"id":"ID","object":"chat.completion.chunk","created":1800000000,"model":"tiny","choices":[{"index":0,"delta":{"content":"TEXT"},"logprobs":null,"finish_reason":"length"}],"usage":null}`,
				`{"id":"ID","object":"chat.completion.chunk","created":1800000000,"model":"tiny","choices":[],"usage":{"prompt_tokens":17,"completion_tokens":1,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`,
			},
		},
		{
			`{"model":"tiny","prompt":"Hello","max_tokens":2,"temperature":0}`,
			[]string{`{"id":"ID","object":"text_completion","created":1800000000,"model":"tiny","choices":[{"index":0,"text":"TEXT","logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`},
		},
		{
			`{"model":"tiny","prompt":[300,301],"max_tokens":1,"temperature":0,"stream":true}`,
			[]string{`{"id":"ID","object":"text_completion","created":1800000000,"model":"tiny","choices":[{"index":0,"text":"TEXT","logprobs":null,"finish_reason":"length"}]}`},
		},
	} {
		st, err := e.Start(t.Context(), request(c.body))
		if err != nil {
			t.Fatal(err)
		}
		var id string
		for i := 0; ; i++ {
			ev, err := st.Next()
			if err == io.EOF && i == len(c.want) {
				break
			}
			if err != nil || i == len(c.want) {
				t.Fatalf("%s: event %d: %s, %v", c.body, i, ev.Data, err)
			}
			var o object
			if err := json.Unmarshal(ev.Data, &o); err != nil {
				t.Fatal(err)
			}
			if id == "" {
				id = o.ID
			}
			got := strings.Replace(string(ev.Data), id, "ID", 1)
			for _, key := range []string{`"content":"`, `"text":"`} { // replace the text
				if at := strings.Index(got, key); at >= 0 && !strings.HasPrefix(got[at+len(key):], `"`) {
					at += len(key)
					end := at
					for got[end] != '"' {
						if got[end] == '\\' {
							end++
						}
						end++
					}
					got = got[:at] + "TEXT" + got[end:]
				}
			}
			if got != c.want[i] {
				t.Errorf("got  %s\nwant %s", got, c.want[i])
			}
		}
		if _, err := st.Next(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		st.Close()
	}
}

// A stream says the same as a whole answer, whatever else the engine is doing.
func TestAnswersDependOnTheRequestOnly(t *testing.T) {
	for _, kind := range []string{"Q8_0", "F32"} {
		s := spec
		s.Type = kind
		alone := start(t, s, embedded.Options{Threads: 1, MaxSequences: 1})
		busy := start(t, s, embedded.Options{Threads: 3, MaxSequences: 5})
		type answer struct {
			text, finish string
			usage        engine.Usage
		}
		var bodies []string
		var want []answer
		for i := range 12 {
			b := body(strings.Repeat("What is the answer? ", 1+i%5), fmt.Sprintf(`"max_tokens":%d,"seed":%d,"temperature":%d`, 10+i, i, i%3))
			bodies = append(bodies, b)
			text, finish, usage := ask(t, alone, b)
			want = append(want, answer{text, finish, usage})
		}
		var wg sync.WaitGroup
		for i, b := range bodies {
			for _, stream := range []string{"", `,"stream":true`} {
				wg.Go(func() {
					text, finish, usage := ask(t, busy, strings.TrimSuffix(b, "}")+stream+"}")
					if got := (answer{text, finish, usage}); got != want[i] {
						t.Errorf("request %d%s: got %v, want %v", i, stream, got, want[i])
					}
				})
			}
		}
		wg.Wait()
	}
}

// Agents send an answer back in parts that have what the message had.
func TestAnswerSentBack(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	const conversation = `{"model":"tiny","max_tokens":9,"temperature":0,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":%s},{"role":"user","content":"b"}]}`
	want, _, _ := ask(t, e, fmt.Sprintf(conversation, `"hm"`))
	got, _, _ := ask(t, e, fmt.Sprintf(conversation, `[{"type":"text","text":"hm","role":"assistant","refusal":null}]`))
	if got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestSampling(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	text := func(members string) string {
		text, _, _ := ask(t, e, body("Hello", `"max_tokens":20,`+members))
		return text
	}
	greedy := text(`"temperature":0`)
	for _, m := range []string{`"temperature":0,"seed":9`, `"top_k":1`, `"top_p":0.000001`, `"temperature":0.0001`} {
		if got := text(m); got != greedy {
			t.Errorf("%s: %q, greedy %q", m, got, greedy)
		}
	}
	if first, second := text(`"seed":1`), text(`"seed":1`); first != second {
		t.Error("one seed, two answers")
	}
	if text(`"seed":1`) == text(`"seed":2`) {
		t.Error("two seeds, one answer")
	}
	if first, second := text(`"temperature":2`), text(`"temperature":2`); first == second {
		t.Error("answers without a seed are predictable")
	}
}

// With SentencePiece, an answer in a chat is shown without the space that begins every text there; a completion has it.
func TestSentencePiece(t *testing.T) {
	spaces := 0
	for seed := range uint64(24) {
		spec := modeltest.Spec{Architecture: "llama", Type: "F32", Seed: seed, Width: 32, Layers: 1, FeedForward: 32, PreTokenizer: "default"}
		data := modeltest.Make(spec)
		f, err := gguf.Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		tok, err := tokenizer.New(f)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := json.Marshal(tok.EncodeMarkup(nil, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"))
		if err != nil {
			t.Fatal(err)
		}
		e := start(t, spec, embedded.Options{})
		answer, _, usage := ask(t, e, body("Hello", `"max_tokens":8,"temperature":0`))
		whole, _, same := ask(t, e, `{"model":"tiny","prompt":`+string(ids)+`,"max_tokens":8,"temperature":0}`)
		if strings.HasPrefix(whole, " ") {
			spaces++
		}
		if answer != strings.TrimPrefix(whole, " ") || usage != same {
			t.Errorf("seed %d: the answer is %q, the completion %q", seed, answer, whole)
		}
	}
	if spaces == 0 {
		t.Error("no answer begins with a space; use other seeds")
	}
}

func TestStopStrings(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	full, _, all := ask(t, e, body("Hello", `"max_tokens":40,"temperature":0`))
	for at := 1; at+3 < len(full); at += 5 {
		for at < len(full) && !utf8.RuneStart(full[at]) {
			at++
		}
		end := min(at+4, len(full))
		for end < len(full) && !utf8.RuneStart(full[end]) {
			end++
		}
		stop := full[at:end]
		if stop == "" || strings.Contains(stop, "\uFFFD") {
			continue
		}
		quoted, _ := json.Marshal([]string{"never said", stop})
		for _, stream := range []string{"", `,"stream":true`} {
			got, finish, usage := ask(t, e, body("Hello", `"max_tokens":40,"temperature":0,"stop":`+string(quoted)+stream))
			if want := full[:strings.Index(full, stop)]; got != want || finish != "stop" {
				t.Errorf("stop %q%s: %q (%s), want %q", stop, stream, got, finish, want)
			}
			if usage.Completion > all.Completion {
				t.Errorf("stop %q: %d tokens", stop, usage.Completion)
			}
		}
	}
}

// Tokens between <think> (3) and </think> (4) count as reasoning, also when the prompt ends inside.
func TestReasoningTokens(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	for prompt, want := range map[string]bool{"[300,301]": false, "[300,3,301]": true, "[3,300,4,301]": false, "[3,4,3]": true} {
		_, _, usage := ask(t, e, `{"model":"tiny","prompt":`+prompt+`,"max_tokens":9,"temperature":0}`)
		if usage.Completion == 0 || want != (usage.Reasoning == usage.Completion) || !want && usage.Reasoning != 0 {
			t.Errorf("prompt %s: %+v", prompt, usage)
		}
	}
}

func TestLogprobs(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	st, err := e.Start(t.Context(), request(body("Hello", `"max_tokens":6,"temperature":0,"logprobs":true,"top_logprobs":3`)))
	if err != nil {
		t.Fatal(err)
	}
	ev, err := st.Next()
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(ev.Data, &o); err != nil {
		t.Fatal(err)
	}
	list := o.Choices[0].Logprobs.Content
	if len(list) != 6 {
		t.Fatalf("%d tokens: %s", len(list), ev.Data)
	}
	for _, p := range list {
		if len(p.Top_Logprobs) != 3 || p.Top_Logprobs[0].Token != p.Token || p.Top_Logprobs[0].Logprob != p.Logprob || p.Logprob > 0 ||
			p.Top_Logprobs[1].Logprob > p.Logprob || p.Top_Logprobs[2].Logprob > p.Top_Logprobs[1].Logprob {
			t.Errorf("%+v", p)
		}
	}
}

func TestRefusals(t *testing.T) {
	e := start(t, spec, embedded.Options{})
	for _, c := range []struct {
		body        string
		status      int
		param, code string
	}{
		{`nonsense`, 400, "", ""},
		{`null`, 400, "", ""},
		{`[]`, 400, "", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":"x"}]} {}`, 400, "", ""},
		{"{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", 400, "", ""},
		{`{"messages":[]}`, 400, "model", ""},
		{`{"model":7,"messages":[]}`, 400, "model", ""},
		{`{"model":"other","messages":[]}`, 404, "model", "model_not_found"},
		{`{"model":"tiny","messages":[]}`, 400, "messages", ""},
		{`{"model":"tiny","messages":null}`, 400, "messages", ""},
		{`{"model":"tiny","messages":"x"}`, 400, "messages", ""},
		{`{"model":"tiny","messages":[7]}`, 400, "messages[0]", ""},
		{`{"model":"tiny","messages":[{"content":"x"}]}`, 400, "messages[0].role", ""},
		{`{"model":"tiny","messages":[{"role":"tool","content":"x"}]}`, 400, "messages[0].role", ""},
		{`{"model":"tiny","messages":[{"role":"user\n<|im_end|>","content":"x"}]}`, 400, "messages[0].role", ""},
		{`{"model":"tiny","messages":[{"role":"user"}]}`, 400, "messages[0].content", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":null}]}`, 400, "messages[0].content", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":7}]}`, 400, "messages[0].content", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}`, 400, "", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":[{"type":"audio"}]}]}`, 400, "messages[0].content[0].type", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":[{"text":"x"}]}]}`, 400, "messages[0].content[0].type", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":[{"type":"text","text":"x","role":"system"}]}]}`, 400, "messages[0].content[0].role", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":[{"type":"text","text":"x","refusal":"y"}]}]}`, 400, "messages[0].content[0].refusal", ""},
		{`{"model":"tiny","messages":[{"role":"user","content":"x","Content":"y"}]}`, 400, "messages[0].Content", "unknown_parameter"},
		{`{"model":"tiny","messages":[{"role":"assistant","content":"x","tool_calls":[]}]}`, 400, "messages[0].tool_calls", "unknown_parameter"},
		{body("\uFDD0", ""), 400, "messages", ""},
		{body("x", `"Temperature":1`), 400, "Temperature", "unknown_parameter"},
		{body("x", `"min_p":0.1`), 400, "min_p", "unknown_parameter"},
		{body("x", `"cache_salt":"x"`), 400, "cache_salt", "unknown_parameter"},
		{body("x", `"prompt":"x"`), 400, "prompt", "unknown_parameter"},
		{body("x", `"tools":[{"type":"function"}]`), 400, "tools", ""},
		{body("x", `"tool_choice":"required"`), 400, "tool_choice", ""},
		{body("x", `"response_format":{"type":"json_object"}`), 400, "response_format.type", ""},
		{body("x", `"n":2`), 400, "n", ""},
		{body("x", `"n":0`), 400, "n", ""},
		{body("x", `"temperature":2.5`), 400, "temperature", ""},
		{body("x", `"temperature":-1`), 400, "temperature", ""},
		{body("x", `"temperature":"hot"`), 400, "temperature", ""},
		{body("x", `"temperature":1e999`), 400, "temperature", ""},
		{body("x", `"top_p":0`), 400, "top_p", ""},
		{body("x", `"top_p":1.1`), 400, "top_p", ""},
		{body("x", `"top_k":-2`), 400, "top_k", ""},
		{body("x", `"seed":1.5`), 400, "seed", ""},
		{body("x", `"max_tokens":0`), 400, "max_tokens", ""},
		{body("x", `"max_tokens":-1`), 400, "max_tokens", ""},
		{body("x", `"max_tokens":5,"max_completion_tokens":5`), 400, "max_tokens", ""},
		{body("x", `"max_tokens":5000`), 400, "messages", "context_length_exceeded"},
		{body(strings.Repeat("word and ", 300), ""), 400, "messages", "context_length_exceeded"},
		{body(strings.Repeat("<", 1<<20), ""), 400, "messages", "context_length_exceeded"},
		{`{"model":"tiny","prompt":"` + strings.Repeat("word ", 300) + `"}`, 400, "prompt", "context_length_exceeded"},
		{body("x", `"stop":""`), 400, "stop", ""},
		{body("x", `"stop":["a",""]`), 400, "stop", ""},
		{body("x", `"stop":{"a":1}`), 400, "stop", ""},
		{body("x", `"stop":"`+strings.Repeat("a", 2000)+`"`), 400, "stop", ""},
		{body("x", `"stop":[`+strings.Repeat(`"a",`, 20)+`"b"]`), 400, "stop", ""},
		{body("x", `"presence_penalty":1`), 400, "presence_penalty", ""},
		{body("x", `"logit_bias":{"5":1}`), 400, "logit_bias.5", "unknown_parameter"},
		{body("x", `"stream_options":{"include_usage":true}`), 400, "stream_options", ""},
		{body("x", `"stream":true,"stream_options":{"usage":true}`), 400, "stream_options.usage", "unknown_parameter"},
		{body("x", `"top_logprobs":2`), 400, "top_logprobs", ""},
		{body("x", `"logprobs":true,"top_logprobs":21`), 400, "top_logprobs", ""},
		{`{"model":"tiny"}`, 400, "prompt", ""},
		{`{"model":"tiny","prompt":""}`, 400, "prompt", ""},
		{`{"model":"tiny","prompt":[]}`, 400, "prompt", ""},
		{`{"model":"tiny","prompt":["a","b"]}`, 400, "prompt", ""},
		{`{"model":"tiny","prompt":[-1]}`, 400, "prompt", ""},
		{`{"model":"tiny","prompt":[100000]}`, 400, "prompt", ""},
		{`{"model":"tiny","prompt":"x","echo":true}`, 400, "echo", ""},
		{`{"model":"tiny","prompt":"x","suffix":"y"}`, 400, "suffix", ""},
		{`{"model":"tiny","prompt":"x","logprobs":1}`, 400, "logprobs", "unknown_parameter"},
	} {
		req := request(c.body)
		if !strings.Contains(c.body, "{") || strings.HasPrefix(c.body, "{\"model\":7") {
			req.Path = engine.PathChatCompletions
		}
		_, err := e.Start(t.Context(), req)
		var re *engine.RequestError
		if !errors.As(err, &re) {
			t.Errorf("%.90s: %v", c.body, err)
			continue
		}
		if re.Status != c.status || c.param != "" && re.Param != c.param || re.Code != c.code && c.param != "" {
			t.Errorf("%.90s: status %d, param %q, code %q: %s", c.body, re.Status, re.Param, re.Code, re.Message)
		}
	}
	if _, err := e.Start(t.Context(), engine.Request{Path: "/v1/embeddings", Body: []byte("{}")}); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("another path: %v", err)
	}
	// What asks for nothing is fine.
	if _, finish, _ := ask(t, e, body("x", `"max_completion_tokens":1,"n":1,"tools":[],"tool_choice":"none","presence_penalty":0,"logit_bias":{},"user":"u","response_format":{"type":"text"},"stop":null,"metadata":{"a":"b"},"store":false,"service_tier":"auto","logprobs":false,"top_k":-1,"seed":-5`)); finish == "" {
		t.Error("no finish reason")
	}
}

// With back-pressure the engine computes a few tokens ahead of the reader and no more.
func TestBackPressureAndCancel(t *testing.T) {
	e := start(t, spec, embedded.Options{MaxSequences: 2, MaxQueue: 1})
	long := body("Hello", `"temperature":0,"stream":true`)
	var streams []engine.Stream
	for range 3 { // two active that nobody reads, one waiting
		st, err := e.Start(t.Context(), request(long))
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		streams = append(streams, st)
		for len(streams) < 3 { // until it is active
			if ev, err := st.Next(); err != nil {
				t.Fatal(err)
			} else if ev.Usage.Completion > 0 {
				break
			}
		}
	}
	var re *engine.RequestError
	if _, err := e.Start(t.Context(), request(long)); !errors.As(err, &re) || re.Status != 429 {
		t.Errorf("a full queue: %v", err)
	}
	streams[0].Close()
	streams[0].Close()
	if _, err := streams[0].Next(); err == nil || err == io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
	for { // the waiting one takes its place
		ev, err := streams[2].Next()
		if err != nil {
			t.Fatal(err)
		}
		if ev.Usage.Completion > 0 {
			break
		}
	}
	streams[2].Close()

	ctx, cancel := context.WithCancel(t.Context())
	st, err := e.Start(ctx, request(long))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = st.Next()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Next after the context's end: %v", err)
	}
	if _, err := e.Start(ctx, request(long)); !errors.Is(err, context.Canceled) {
		t.Errorf("Start after the context's end: %v", err)
	}
}

// Memory for keys and values is reserved before a request begins: requests wait for it, and one that never fits is refused.
func TestCacheBudget(t *testing.T) {
	s := spec
	page := int64(s.Layers * 2 * 2 * llama.PageTokens * 16 * 4)
	e := start(t, s, embedded.Options{CacheBytes: 3*page + page/2, Threads: 1})
	models, _ := e.Models(t.Context())
	if models[0].ContextLength != 3*llama.PageTokens {
		t.Fatalf("context of %d", models[0].ContextLength)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ask(t, e, body("Hello", fmt.Sprintf(`"max_tokens":%d`, 20+15*i)))
		})
	}
	wg.Wait()
	var re *engine.RequestError
	if _, err := e.Start(t.Context(), request(body("Hello", `"max_tokens":190`))); !errors.As(err, &re) || re.Code != "context_length_exceeded" {
		t.Errorf("too long: %v", err)
	}
	data := modeltest.Make(s)
	if _, err := embedded.New(bytes.NewReader(data), int64(len(data)), embedded.Options{CacheBytes: page - 1}); err == nil {
		t.Error("no page fits, but the engine started")
	}
	for _, c := range []struct {
		o    embedded.Options
		fits bool
	}{
		{embedded.Options{CacheBytes: 3 * page, ContextLength: 3 * llama.PageTokens}, true},
		{embedded.Options{CacheBytes: 3 * page, ContextLength: 3*llama.PageTokens + 1}, false},
		{embedded.Options{ContextLength: 256}, true},
		{embedded.Options{ContextLength: 257}, false},
	} {
		e, err := embedded.New(bytes.NewReader(data), int64(len(data)), c.o)
		if c.fits != (err == nil) {
			t.Errorf("a context of %d in %d bytes: %v", c.o.ContextLength, c.o.CacheBytes, err)
		}
		if err == nil {
			e.Close()
		}
	}
	if _, err := embedded.New(bytes.NewReader(data), int64(len(data)), embedded.Options{Threads: -1}); err == nil {
		t.Error("a negative option was accepted")
	}
}

// Requests share computed prompts under one salt only, and what they are answered does not change.
func TestPrefixCache(t *testing.T) {
	s := spec
	page := int64(s.Layers * 2 * 2 * llama.PageTokens * 16 * 4)
	e := start(t, s, embedded.Options{CacheBytes: 16 * page})
	long := strings.Repeat("word ", 60)
	run := func(salt byte, text string) (string, int64) {
		t.Helper()
		r := request(body(text, `"temperature":0,"max_tokens":30`))
		r.Salt = [32]byte{salt}
		st, err := e.Start(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		ev, err := st.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ev.Usage.Cached > ev.Usage.Prompt-1 {
			t.Errorf("%d of %d tokens cached", ev.Usage.Cached, ev.Usage.Prompt)
		}
		var o object
		if err := json.Unmarshal(ev.Data, &o); err != nil {
			t.Fatal(err)
		}
		if o.Usage.Prompt_Tokens_Details.Cached_Tokens != ev.Usage.Cached {
			t.Errorf("usage %v in %s", ev.Usage, ev.Data)
		}
		return *o.Choices[0].Message.Content, ev.Usage.Cached
	}
	want, cached := run(1, long)
	if cached != 0 {
		t.Fatalf("%d tokens cached at first", cached)
	}
	for _, c := range []struct {
		salt   byte
		text   string
		cached bool
	}{{1, long, true}, {2, long, false}, {2, long, true}, {0, long, false}, {0, long, false}, {1, "x" + long, false}, {1, long, true}} {
		got, cached := run(c.salt, c.text)
		if (cached > 0) != c.cached {
			t.Errorf("salt %d: %d tokens cached", c.salt, cached)
		}
		if c.text == long && got != want {
			t.Errorf("salt %d: %q, want %q", c.salt, got, want)
		}
	}
	// Many salts evict the old pages; many requests at once share them.
	for i := range 20 {
		if got, _ := run(byte(10+i), long); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, cached := run(1, long); cached != 0 {
		t.Error("a page outlived all others")
	}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			if got, _ := run(byte(1+i%2), long); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	wg.Wait()
}

func TestClose(t *testing.T) {
	e := start(t, spec, embedded.Options{MaxSequences: 1})
	var streams []engine.Stream
	for range 3 {
		st, err := e.Start(t.Context(), request(body("Hello", `"stream":true`)))
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, st)
	}
	e.Close()
	for _, st := range streams {
		var err error
		for err == nil {
			_, err = st.Next()
		}
		var re *engine.RequestError
		if !errors.As(err, &re) || re.Status != 503 {
			t.Errorf("Next after the engine's end: %v", err)
		}
	}
	var re *engine.RequestError
	if _, err := e.Start(t.Context(), request(body("Hello", ""))); !errors.As(err, &re) || re.Status != 503 {
		t.Errorf("Start after the engine's end: %v", err)
	}
}

func TestBrokenWeights(t *testing.T) {
	s := spec
	s.Type = "F32"
	data := modeltest.Make(s)
	copy(data[len(data)-4000:], bytes.Repeat([]byte{0, 0, 0xc0, 0x7f}, 1000)) // NaN
	e, err := embedded.New(bytes.NewReader(data), int64(len(data)), embedded.Options{ModelID: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	st, err := e.Start(t.Context(), request(body("Hello", "")))
	if err != nil {
		t.Fatal(err)
	}
	var re *engine.RequestError
	if _, err := st.Next(); !errors.As(err, &re) || re.Status != 500 {
		t.Errorf("got %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		body("Hello", `"max_tokens":2`), body("Hello", `"stream":true,"stream_options":{"include_usage":true},"max_tokens":1`),
		`{"model":"tiny","prompt":[300],"max_tokens":1,"logprobs":null}`, `{"model":"tiny","prompt":"x","max_tokens":1,"stop":["a"],"seed":1,"top_p":0.5,"top_k":3}`,
		`{"model":"tiny","messages":[{"role":"user","content":[{"type":"text","text":"<|im_end|>"}]}],"max_tokens":1,"logprobs":true,"top_logprobs":2}`,
	} {
		f.Add([]byte(s))
	}
	s := spec
	s.ContextLength = 64
	e := start(f, s, embedded.Options{Threads: 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range []string{engine.PathChatCompletions, engine.PathCompletions} {
			for _, stream := range []bool{true, false} {
				st, err := e.Start(t.Context(), engine.Request{Path: path, Body: b, Stream: stream})
				if err != nil {
					continue
				}
				for {
					ev, err := st.Next()
					if err != nil {
						if err != io.EOF {
							t.Fatal(err)
						}
						break
					}
					if !json.Valid(ev.Data) || !utf8.Valid(ev.Data) || bytes.ContainsAny(ev.Data, "\r\n") {
						t.Fatalf("%q", ev.Data)
					}
				}
				st.Close()
			}
		}
	})
}

// BenchmarkConcurrent answers 16 requests at once and prints the tokens per second of all together, beside one alone.
func BenchmarkConcurrent(b *testing.B) {
	e := start(b, modeltest.Spec{Architecture: "llama", Type: "Q8_0", Width: 384, Layers: 9, Heads: 6, KVHeads: 2, FeedForward: 1024}, embedded.Options{})
	const tokens = 64
	speed := func(n int) float64 {
		var total atomic.Int64
		start := time.Now()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				_, _, usage := ask(b, e, body("What is the answer?", fmt.Sprintf(`"stream":true,"seed":%d,"max_tokens":%d`, i, tokens)))
				total.Add(usage.Completion)
			})
		}
		wg.Wait()
		return float64(total.Load()) / time.Since(start).Seconds()
	}
	var one, many float64
	for b.Loop() {
		one, many = max(one, speed(1)), max(many, speed(16))
	}
	b.ReportMetric(one, "tok/s-alone")
	b.ReportMetric(many, "tok/s-16")
	b.ReportMetric(many/one, "×alone")
}
