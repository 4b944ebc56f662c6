package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

const models = `{"object":"list","data":[{"id":"tiny","object":"model","created":7,"owned_by":"us","max_model_len":1024}]}`

// fake is a scripted engine on a real socket.
type fake struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request)
	body   atomic.Pointer[string] // of the last request
	header atomic.Pointer[http.Header]
	hits   atomic.Int64
}

func newFake(t testing.TB, answer func(w http.ResponseWriter, r *http.Request)) *fake {
	f := &fake{answer: answer}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/models" {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, models)
		return
	}
	f.hits.Add(1)
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s := string(b)
	f.body.Store(&s)
	f.header.Store(&r.Header)
	r.Body = io.NopCloser(strings.NewReader(s))
	f.answer(w, r)
}

// events answers with these lines, one flush each.
func events(lines ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, l := range lines {
			io.WriteString(w, l+"\n\n")
			w.(http.Flusher).Flush()
		}
	}
}

func whole(body string) func(http.ResponseWriter, *http.Request) { return status(200, body) }

func status(code int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

func driver(t testing.TB, f *fake, flavour openai.Flavour, change ...func(*openai.Config)) *openai.Driver {
	t.Helper()
	cfg := openai.Config{Address: f.URL, Flavour: flavour}
	for _, c := range change {
		c(&cfg)
	}
	d, err := openai.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.CloseIdle)
	return d
}

func chat(stream bool, extra string) engine.Request {
	return engine.Request{Path: engine.PathChatCompletions, Stream: stream, Salt: [32]byte{1},
		Body: fmt.Appendf(nil, `{"model":"tiny","messages":[{"role":"user","content":"hi"}],"stream":%v%s}`, stream, extra)}
}

// collect reads a stream to its end.
func collect(t testing.TB, d *openai.Driver, req engine.Request) (data []string, usage []engine.Usage, err error) {
	t.Helper()
	s, err := d.Start(t.Context(), req)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	for {
		ev, err := s.Next()
		if err == io.EOF {
			if _, again := s.Next(); again != io.EOF {
				t.Errorf("Next after the end: %v", again)
			}
			return data, usage, nil
		}
		if err != nil {
			return data, usage, err
		}
		if !json.Valid(ev.Data) || strings.ContainsAny(string(ev.Data), "\r\n") {
			t.Errorf("bad event %q", ev.Data)
		}
		data, usage = append(data, string(ev.Data)), append(usage, ev.Usage)
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"http://127.0.0.1:8000", "http://127.0.0.1:8000/", "http://127.9.9.9:1", "http://[::1]:8000", "unix:/run/engine.sock", "unix:///run/engine.sock"} {
		if _, err := openai.New(openai.Config{Address: good, Flavour: openai.VLLM}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:8000", "https://127.0.0.1:8000", "http://localhost:8000", "http://engine:8000", "http://10.0.0.1:8000",
		"http://0.0.0.0:8000", "http://[::]:8000", "http://169.254.169.254:80", "http://127.0.0.1", "http://127.0.0.1:0", "http://u:p@127.0.0.1:8000",
		"http://127.0.0.1:8000/v1", "http://127.0.0.1:8000?x=1", "http://127.0.0.1:8000#x", "http://127.0.0.1.evil.example:8000", "http://[::ffff:10.0.0.1]:80",
		"unix:engine.sock", "unix:/../x", "unix:/", "unix:", "file:///x", "http://2130706433:80"} {
		if _, err := openai.New(openai.Config{Address: bad, Flavour: openai.VLLM}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]openai.Config{
		"flavour":        {Flavour: "gpt"},
		"no flavour":     {},
		"choices":        {Flavour: openai.VLLM, MaxChoices: 17},
		"tokens":         {Flavour: openai.VLLM, MaxTokens: -1},
		"key":            {Flavour: openai.VLLM, APIKey: "a\r\nX: y"},
		"model":          {Flavour: openai.VLLM, Models: []engine.Model{{}}},
		"models":         {Flavour: openai.VLLM, Models: []engine.Model{{ID: "a"}, {ID: "a"}}},
		"stall negative": {Flavour: openai.VLLM, StallTimeout: -1},
	} {
		c.Address = "http://127.0.0.1:1"
		if _, err := openai.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "X: y") {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
	if _, err := openai.ParseFlavour("tgi"); err == nil {
		t.Error("unknown flavour parsed")
	}
	if f, err := openai.ParseFlavour("sglang"); err != nil || f != openai.SGLang {
		t.Errorf("sglang: %v, %v", f, err)
	}
}

func TestModels(t *testing.T) {
	f := newFake(t, whole(""))
	ms, err := driver(t, f, openai.VLLM, func(c *openai.Config) { c.MaxTokens = 9 }).Models(t.Context())
	want := engine.Model{ID: "tiny", ContextLength: 1024, MaxTokens: 9, Created: 7, OwnedBy: "us"}
	if err != nil || len(ms) != 1 || ms[0] != want {
		t.Errorf("got %+v, %v", ms, err)
	}
	only := []engine.Model{{ID: "a"}, {ID: "b"}}
	ms, err = driver(t, f, openai.VLLM, func(c *openai.Config) { c.Models = only }).Models(t.Context())
	if err != nil || len(ms) != 2 || ms[0].ID != "a" {
		t.Errorf("got %+v, %v", ms, err)
	}
	for name, body := range map[string]string{"not JSON": "<html>", "none": `{"data":[]}`, "unnamed": `{"data":[{"id":""}]}`, "twice": `{"data":[{"id":"a"},{"id":"a"}]}`} {
		srv := httptest.NewServer(http.HandlerFunc(status(200, body)))
		d, err := openai.New(openai.Config{Address: srv.URL, Flavour: openai.VLLM})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Models(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
		srv.Close()
	}
}

const (
	role  = `data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`
	hello = `data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"x_new":{"a":[1,"}"]}}`
	think = `data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}`
	tool  = `data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\": 1}"}}]},"finish_reason":null}]}`
	stop  = `data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usage = `data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}`
	done  = `data: [DONE]`
)

func TestStreamPassesBytesThrough(t *testing.T) {
	in := []string{role, hello, think, tool, stop}
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"plain", append(append([]string{}, in...), usage, done)},
		{"comments", []string{": ping", role, ":", hello, "event: x\nid: 4\nretry: 1", think, tool, ": a\n: b", stop, usage, done, ": bye"}},
		{"CRLF and no space", []string{strings.ReplaceAll(role, "data: ", "data:") + "\r", hello + "\r", think, tool, stop, usage + "\r", done + "\r"}},
		{"no DONE", append(append([]string{}, in...), usage)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, events(c.lines...))
			data, us, err := collect(t, driver(t, f, openai.Ollama), chat(true, ""))
			if err != nil {
				t.Fatal(err)
			}
			if len(data) != len(in) {
				t.Fatalf("%d events: %q", len(data), data)
			}
			for i := range in {
				if data[i] != strings.TrimPrefix(in[i], "data: ") {
					t.Errorf("event %d:\ngot  %s\nwant %s", i, data[i], in[i])
				}
			}
			// One token per event that carries something; the last event settles.
			if us[0].Completion != 0 || us[1].Completion != 1 || us[2].Completion != 2 || us[3].Completion != 3 {
				t.Errorf("estimates %v", us)
			}
			if want := (engine.Usage{Prompt: 5, Cached: 2, Completion: 4, Reasoning: 1}); us[4] != want {
				t.Errorf("final usage %+v", us[4])
			}
		})
	}
}

func TestUsageEventOnlyWhenAsked(t *testing.T) {
	f := newFake(t, events(hello, stop, usage, done))
	d := driver(t, f, openai.Ollama)
	data, us, err := collect(t, d, chat(true, `,"stream_options":{"include_usage":true}`))
	if err != nil || len(data) != 3 || !strings.Contains(data[2], `"total_tokens":9`) || us[2].Completion != 4 {
		t.Errorf("asked: %q %v %v", data, us, err)
	}
	data, _, err = collect(t, d, chat(true, `,"stream_options":{"include_usage":false}`))
	if err != nil || len(data) != 2 {
		t.Errorf("not asked: %q %v", data, err)
	}
}

func TestContinuousUsage(t *testing.T) {
	line := func(n int, finish string) string {
		return fmt.Sprintf(`data: {"choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":%s}],"usage":{"prompt_tokens":7,"total_tokens":%d,"completion_tokens":%d},"z":1}`, finish, 7+n, n)
	}
	f := newFake(t, events(line(2, "null"), line(5, "null"), line(6, `"length"`), `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":6}}`, done))
	d := driver(t, f, openai.VLLM)
	data, us, err := collect(t, d, chat(true, ""))
	if err != nil || len(us) != 3 {
		t.Fatal(data, us, err)
	}
	for i, n := range []int64{2, 5, 6} { // the server's counts, not one an event
		if want := (engine.Usage{Prompt: 7, Completion: n}); us[i] != want {
			t.Errorf("event %d: %+v", i, us[i])
		}
	}
	// A client that adds up what it finds would count too much: only the last event has usage, and only when asked for.
	if data[0] != `{"choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":null}],"usage":null,"z":1}` {
		t.Errorf("usage left in %s", data[0])
	}
	data, _, err = collect(t, d, chat(true, `,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`))
	if err != nil || len(data) != 4 || !strings.Contains(data[0], `"completion_tokens":2`) {
		t.Errorf("asked: %q %v", data, err)
	}
}

// A server that should count as it goes, and does not, is metered by its events until it does.
func TestUncountedEvents(t *testing.T) {
	for _, flavour := range []openai.Flavour{openai.VLLM, openai.SGLang, openai.LlamaCPP, openai.Ollama} {
		f := newFake(t, events(role, hello, think, tool, stop, usage, done))
		_, us, err := collect(t, driver(t, f, flavour), chat(true, ""))
		if err != nil || len(us) != 5 || us[0].Completion != 0 || us[1].Completion != 1 || us[3].Completion != 3 || us[4].Completion != 4 {
			t.Errorf("%s: %v %v", flavour, us, err)
		}
	}
}

// More tokens than the request allows are a lie, which nobody shall pay.
func TestCountAboveTheLimit(t *testing.T) {
	counted := func(n int) string {
		return fmt.Sprintf(`data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":%d}}`, n)
	}
	for n, honest := range map[int]bool{4: true, 5: false, 1 << 30: false} {
		f := newFake(t, events(hello, stop, counted(n), done))
		_, us, err := collect(t, driver(t, f, openai.VLLM), chat(true, `,"max_tokens":4`))
		if honest != (err == nil) || len(us) > 0 && us[len(us)-1].Completion > 4 {
			t.Errorf("%d tokens: %v %v", n, us, err)
		}
		f = newFake(t, whole(fmt.Sprintf(`{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":%d}}`, n)))
		if _, _, err := collect(t, driver(t, f, openai.VLLM), chat(false, `,"max_tokens":4`)); honest != (err == nil) {
			t.Errorf("%d tokens at once: %v", n, err)
		}
	}
	two := func(c *openai.Config) { c.MaxChoices = 2 }
	f := newFake(t, events(hello, stop, strings.ReplaceAll(stop, `"index":0`, `"index":1`), counted(8), done))
	if _, _, err := collect(t, driver(t, f, openai.VLLM, two), chat(true, `,"max_tokens":4,"n":2`)); err != nil {
		t.Errorf("two choices: %v", err)
	}
}

func TestLlamaTimings(t *testing.T) {
	line := func(n int) string {
		return fmt.Sprintf(`data: {"choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":null}],"timings":{"cache_n":3,"prompt_n":4,"prompt_ms":1.5,"predicted_n":%d}}`, n)
	}
	f := newFake(t, events(line(1), line(3), stop, `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":4},"timings":{"prompt_n":4,"predicted_n":4}}`, done))
	data, us, err := collect(t, driver(t, f, openai.LlamaCPP), chat(true, ""))
	if err != nil || len(us) != 3 || us[0] != (engine.Usage{Prompt: 7, Cached: 3, Completion: 1}) || us[1].Completion != 3 || us[2].Completion != 4 {
		t.Errorf("%v %v", us, err)
	}
	if strings.Contains(data[0], "prompt_ms") {
		t.Errorf("timings left in %s", data[0])
	}
}

func TestSeveralChoices(t *testing.T) {
	one := func(i int, finish string) string {
		return fmt.Sprintf(`data: {"choices":[{"index":%d,"delta":{"content":"a"},"finish_reason":%s}]}`, i, finish)
	}
	u := `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":4}}`
	two := func(c *openai.Config) { c.MaxChoices = 2 }
	f := newFake(t, events(one(0, "null"), one(0, `"stop"`), one(1, "null"), one(1, `"stop"`), u, done))
	data, us, err := collect(t, driver(t, f, openai.VLLM, two), chat(true, `,"n":2`))
	if err != nil || len(data) != 4 || us[3].Completion != 4 {
		t.Errorf("%q %v %v", data, us, err)
	}
	if !strings.Contains(*f.body.Load(), `"n":2`) {
		t.Errorf("n is missing in %s", *f.body.Load())
	}
	f = newFake(t, events(one(0, "null"), one(0, `"stop"`), one(1, "null"), u, done))
	if _, _, err = collect(t, driver(t, f, openai.VLLM, two), chat(true, `,"n":2`)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("one of two choices unfinished: %v", err)
	}
}

func TestIncompleteAnswers(t *testing.T) {
	for name, lines := range map[string][]string{
		"DONE without finish_reason": {role, hello, usage, done},
		"end without finish_reason":  {role, hello},
		"nothing":                    {},
		"only DONE":                  {done},
		"no usage":                   {role, hello, stop, done},
		"abort":                      {hello, strings.ReplaceAll(stop, `"stop"`, `"abort"`), usage, done},
		"error reason":               {hello, strings.ReplaceAll(stop, `"stop"`, `"error"`), usage, done},
		"empty reason":               {hello, strings.ReplaceAll(stop, `"stop"`, `""`), usage, done},
		"not JSON":                   {hello, `data: <html>`, stop, usage, done},
		"cut JSON":                   {hello, `data: {"choices":[`, stop, usage, done},
		"array":                      {`data: []`},
		"two lines":                  {hello, "data: {\ndata: }", stop, usage, done},
		"not SSE":                    {hello, `error: {"code":500}`, stop, usage, done},
		"negative usage":             {hello, stop, `data: {"choices":[],"usage":{"completion_tokens":-4}}`, done},
		"huge usage":                 {hello, stop, `data: {"choices":[],"usage":{"completion_tokens":99999999999999999999}}`, done},
		"fractional usage":           {hello, stop, `data: {"choices":[],"usage":{"completion_tokens":1.5}}`, done},
		"huge index":                 {strings.ReplaceAll(stop, `"index":0`, `"index":64`), usage, done},
		"carriage return inside":     {"data: {\"a\":\r1}", stop, usage, done},
		"overlong event":             {`data: {"a":"` + strings.Repeat("x", 1<<20) + `"}`, stop, usage, done},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, events(lines...))
			data, _, err := collect(t, driver(t, f, openai.Ollama), chat(true, ""))
			if err == nil {
				t.Errorf("accepted: %q", data)
			}
		})
	}
}

func TestErrorAfter200(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		want engine.RequestError
	}{
		"wrapped":   {`data: {"error":{"message":"out of memory","type":"InternalServerError","code":500}}`, engine.RequestError{Status: 500, Message: "out of memory", Type: "InternalServerError"}},
		"unwrapped": {`data: {"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}`, engine.RequestError{Status: 400, Message: "too long", Type: "BadRequestError"}},
		"text":      {`data: {"error":"no slot"}`, engine.RequestError{Status: 500, Message: "no slot"}},
		"named":     {"event: error\n" + `data: {"error":{"message":"x\ny","code":"context_length_exceeded"}}`, engine.RequestError{Status: 500, Message: "x y", Code: "context_length_exceeded"}},
		"empty":     {`data: {"error":{}}`, engine.RequestError{Status: 500, Message: "the engine refused the request without saying why"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, events(hello, c.line, done))
			data, _, err := collect(t, driver(t, f, openai.VLLM), chat(true, ""))
			var re *engine.RequestError
			if !errors.As(err, &re) || *re != c.want || len(data) != 1 {
				t.Errorf("got %#v after %q", err, data)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		body string
		want *engine.RequestError // nil: the engine's own failure
	}{
		"OpenAI":   {400, `{"error":{"message":"bad","type":"BadRequestError","param":"temperature","code":400}}`, &engine.RequestError{Status: 400, Message: "bad", Type: "BadRequestError", Param: "temperature"}},
		"SGLang":   {400, `{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}`, &engine.RequestError{Status: 400, Message: "bad", Type: "BadRequestError"}},
		"FastAPI":  {422, `{"detail":"bad"}`, &engine.RequestError{Status: 422, Message: "bad"}},
		"list":     {422, `{"detail":[{"loc":["body"],"input":"secret"}]}`, &engine.RequestError{Status: 422, Message: "the engine refused the request without saying why"}},
		"busy":     {429, `{"error":{"message":"queue full"}}`, &engine.RequestError{Status: 429, Message: "queue full"}},
		"html":     {400, `<html>`, &engine.RequestError{Status: 400, Message: "the engine refused the request without saying why"}},
		"loading":  {503, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`, &engine.RequestError{Status: 503, Message: "the engine is busy or still loading its model: try again in a moment"}},
		"crash":    {500, `{"error":{"message":"secret prompt"}}`, nil},
		"key":      {401, `{"error":"Unauthorized secret"}`, nil},
		"path":     {404, `{"detail":"Not Found secret"}`, nil},
		"redirect": {307, ``, nil},
	} {
		for _, stream := range []bool{false, true} {
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/v1/elsewhere")
				status(c.code, c.body)(w, r)
			})
			_, err := driver(t, f, openai.VLLM).Start(t.Context(), chat(stream, ""))
			var re *engine.RequestError
			switch {
			case err == nil:
				t.Errorf("%s: accepted", name)
			case c.want == nil && errors.As(err, &re):
				t.Errorf("%s: the client would see %v", name, re)
			case c.want != nil && (!errors.As(err, &re) || *re != *c.want):
				t.Errorf("%s: got %#v", name, err)
			case strings.Contains(err.Error(), "secret"):
				t.Errorf("%s: the error quotes the engine: %v", name, err)
			}
			if f.hits.Load() != 1 {
				t.Errorf("%s: %d requests", name, f.hits.Load())
			}
		}
	}
}

func TestWrongContentType(t *testing.T) {
	f := newFake(t, whole(`{"choices":[]}`))
	if _, err := driver(t, f, openai.VLLM).Start(t.Context(), chat(true, "")); err == nil {
		t.Error("JSON accepted for a stream")
	}
	f = newFake(t, events(stop, done))
	if _, err := driver(t, f, openai.VLLM).Start(t.Context(), chat(false, "")); err == nil {
		t.Error("a stream accepted for JSON")
	}
	f = newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		events(stop, usage, done)(w, r)
	})
	if _, err := driver(t, f, openai.VLLM).Start(t.Context(), chat(true, "")); err == nil {
		t.Error("an encoded answer was accepted")
	}
}

func TestWholeAnswer(t *testing.T) {
	const answer = `{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"a\nb"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2},"x":1}`
	f := newFake(t, whole(answer))
	data, us, err := collect(t, driver(t, f, openai.VLLM), chat(false, ""))
	if err != nil || len(data) != 1 || data[0] != answer || us[0] != (engine.Usage{Prompt: 3, Completion: 2}) {
		t.Errorf("%q %v %v", data, us, err)
	}
	f = newFake(t, whole("{\n \"choices\": [ {\"index\": 0, \"finish_reason\": \"stop\"} ],\r\n \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 2}\n}\n"))
	data, _, err = collect(t, driver(t, f, openai.VLLM), chat(false, ""))
	if err != nil || data[0] != `{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}` {
		t.Errorf("%q %v", data, err)
	}
	for name, body := range map[string]string{
		"unfinished": `{"choices":[{"index":0,"finish_reason":null}],"usage":{"completion_tokens":2}}`,
		"uncounted":  `{"choices":[{"index":0,"finish_reason":"stop"}]}`,
		"no choices": `{"choices":[],"usage":{"completion_tokens":2}}`,
		"aborted":    `{"choices":[{"index":0,"finish_reason":"abort"}],"usage":{"completion_tokens":2}}`,
		"error":      `{"object":"error","message":"x","code":400}`,
		"empty":      ``,
		"trailing":   answer + `{}`,
	} {
		f := newFake(t, whole(body))
		if _, _, err := collect(t, driver(t, f, openai.VLLM), chat(false, "")); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{answer: events(hello, stop, usage, done)}
	srv := &http.Server{Handler: f}
	go srv.Serve(l)
	defer srv.Close()
	d, err := openai.New(openai.Config{Address: "unix:" + path, Flavour: openai.VLLM, APIKey: "sk-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, us, err := collect(t, d, chat(true, "")); err != nil || us[len(us)-1].Completion != 4 {
		t.Error(us, err)
	}
	h := *f.header.Load()
	if h.Get("Authorization") != "Bearer sk-1" || h.Get("User-Agent") != "" || h.Get("Accept-Encoding") != "" || h["Idempotency-Key"] != nil {
		t.Errorf("headers %v", h)
	}
}

func TestConnectionIsReused(t *testing.T) {
	remotes := map[string]bool{}
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		events(hello, stop, usage, done)(w, r)
	})
	d := driver(t, f, openai.Ollama)
	for range 5 {
		if _, _, err := collect(t, d, chat(true, "")); err != nil {
			t.Fatal(err)
		}
	}
	if len(remotes) > 3 { // the previous connection may still be on its way back
		t.Errorf("%d connections for 5 requests", len(remotes))
	}
}

func TestIgnoresProxyEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	f := newFake(t, events(hello, stop, usage, done))
	if _, _, err := collect(t, driver(t, f, openai.Ollama), chat(true, "")); err != nil {
		t.Error(err)
	}
}

// endless streams until the client is gone, and says when that is.
func endless(gone chan<- struct{}) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, hello+"\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	}
}

func TestCloseCancelsTheEngine(t *testing.T) {
	gone := make(chan struct{})
	f := newFake(t, endless(gone))
	s, err := driver(t, f, openai.Ollama).Start(t.Context(), chat(true, ""))
	if err != nil {
		t.Fatal(err)
	}
	if ev, err := s.Next(); err != nil || ev.Usage.Completion != 1 {
		t.Fatal(ev, err)
	}
	failed := make(chan error)
	go func() { _, err := s.Next(); failed <- err }()
	s.Close()
	if err := <-failed; err == nil {
		t.Error("Next went on after Close")
	}
	<-gone // the test's own deadline is the limit
	s.Close()
	if _, err := s.Next(); err == nil || err == io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
}

func TestContextEndsTheStream(t *testing.T) {
	gone := make(chan struct{})
	f := newFake(t, endless(gone))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := driver(t, f, openai.Ollama).Start(ctx, chat(true, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-gone
}

func TestDeadAndSilentEngines(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "http://" + l.Addr().String()
	fast := openai.Config{Address: addr, Flavour: openai.VLLM, StallTimeout: 50 * time.Millisecond, Models: []engine.Model{{ID: "tiny"}}}
	d, err := openai.New(fast)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), chat(true, "")); err == nil || !strings.Contains(err.Error(), "too long") { // listens, never answers
		t.Errorf("silent: %v", err)
	}
	fast.StallTimeout, fast.AnswerTimeout = time.Minute, 50*time.Millisecond
	if d, err = openai.New(fast); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), chat(false, "")); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("silent: %v", err)
	}
	l.Close()
	var re *engine.RequestError
	if _, err := d.Start(t.Context(), chat(true, "")); err == nil || errors.As(err, &re) {
		t.Errorf("dead: %v", err)
	}

	gone := make(chan struct{})
	f := newFake(t, endless(gone))
	s, err := driver(t, f, openai.VLLM, func(c *openai.Config) { c.StallTimeout = 50 * time.Millisecond }).Start(t.Context(), chat(true, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("stalled: %v", err)
	}
	<-gone
}

func TestUnsupportedPath(t *testing.T) {
	f := newFake(t, whole("{}"))
	req := chat(false, "")
	req.Path = "/v1/images/generations"
	if _, err := driver(t, f, openai.VLLM).Start(t.Context(), req); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if f.hits.Load() != 0 {
		t.Error("the request went out")
	}
}
