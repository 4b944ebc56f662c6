package responses

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// What SDKs send, and the chat completion that it becomes.
func TestRequests(t *testing.T) {
	const hi = `"messages":[{"role":"user","content":"hi"}]`
	for in, want := range map[string]string{
		`{"model":"m","input":"hi"}`: `{"model":"m",` + hi + `}`,
		`{"model":"m","input":"hi","stream":true,"stream_options":{"include_obfuscation":true}}`:                                                                                                                                                                                      `{"model":"m",` + hi + `,"stream":true,"stream_options":{"include_usage":true}}`,
		`{"model":"m","input":"hi","stream":false,"store":false,"background":null,"previous_response_id":null,"conversation":null,"truncation":"disabled","top_logprobs":0,"tools":[],"include":[]}`:                                                                                  `{"model":"m",` + hi + `}`,
		`{"model":"m","input":"hi","tool_choice":"auto","parallel_tool_calls":true,"include":["reasoning.encrypted_content"],"metadata":{"a":"b"},"user":"u","service_tier":"auto","max_tool_calls":3,"prompt_cache_key":"k","prompt_cache_retention":"24h","safety_identifier":"s"}`: `{"model":"m",` + hi + `}`,
		`{"model":"m","instructions":"Be <brief>.","input":"hi","max_output_tokens":9,"temperature":0.5,"top_p":1e-1,"reasoning":{"effort":"low","summary":"auto"}}`:                                                                                                                  `{"model":"m","messages":[{"role":"system","content":"Be <brief>."},{"role":"user","content":"hi"}],"max_completion_tokens":9,"temperature":0.5,"top_p":1e-1,"reasoning_effort":"low"}`,

		`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]}`:                                                                                              `{"model":"m",` + hi + `}`,
		`{"model":"m","input":[{"type":"message","role":"developer","content":"d","id":"x","status":"completed"},{"role":"user","content":"hi"}]}`:                                           `{"model":"m","messages":[{"role":"developer","content":"d"},{"role":"user","content":"hi"}]}`,
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"low"}]}]}`:                `{"model":"m","messages":[{"role":"user","content":[{"text":"a","type":"text"},{"image_url":{"detail":"low","url":"data:image/png;base64,AA=="},"type":"image_url"}]}]}`,
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}]}`:                                                            `{"model":"m","messages":[{"role":"user","content":[{"input_audio":{"data":"AA==","format":"wav"},"type":"input_audio"}]}]}`,
		`{"model":"m","input":[{"role":"assistant","id":"msg_1","phase":"final_answer","status":"completed","content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[]}]}]}`: `{"model":"m","messages":[{"role":"assistant","content":"a"}]}`,
		`{"model":"m","input":[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}]}`:                                                                                         `{"model":"m","messages":[{"role":"assistant","content":[{"refusal":"no","type":"refusal"}]}]}`,

		// An answer with calls is one message of chat completions, and reasoning none.
		`{"model":"m","input":[{"role":"user","content":"hi"},{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"t"}],"status":"completed"},
		  {"role":"assistant","content":"Let me see."},{"type":"function_call","id":"fc_1","call_id":"1","name":"f","arguments":"{}","status":"completed"},{"type":"reasoning","summary":[]},
		  {"type":"function_call","call_id":"2","name":"g","arguments":"{\"a\":1}"},{"type":"function_call_output","call_id":"1","output":"one"},
		  {"type":"function_call_output","call_id":"2","output":[{"type":"input_text","text":"two"}]}]}`: `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"Let me see.","tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"1","type":"function"},` +
			`{"function":{"arguments":"{\"a\":1}","name":"g"},"id":"2","type":"function"}]},{"role":"tool","content":"one","tool_call_id":"1"},{"role":"tool","content":"two","tool_call_id":"2"}]}`,
		`{"model":"m","input":[{"type":"function_call","call_id":"1","name":"f","arguments":""}]}`: `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":"","name":"f"},"id":"1","type":"function"}]}]}`,

		// Text that came after calls stays in their message, which the outputs follow.
		`{"model":"m","input":[{"role":"assistant","content":"a"},{"type":"function_call","call_id":"1","name":"f","arguments":""},{"role":"assistant","content":"b"},{"type":"function_call_output","call_id":"1","output":"c"},
		  {"type":"function_call","call_id":"2","name":"f","arguments":""},{"role":"assistant","content":"d"},{"type":"function_call_output","call_id":"2","output":"e"}]}`: `{"model":"m","messages":[{"role":"assistant","content":"a"},` +
			`{"role":"assistant","content":"b","tool_calls":[{"function":{"arguments":"","name":"f"},"id":"1","type":"function"}]},{"role":"tool","content":"c","tool_call_id":"1"},` +
			`{"role":"assistant","content":"d","tool_calls":[{"function":{"arguments":"","name":"f"},"id":"2","type":"function"}]},{"role":"tool","content":"e","tool_call_id":"2"}]}`,

		`{"model":"m","input":"hi","tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":true}],"tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false}`: `{"model":"m",` + hi +
			`,"tools":[{"function":{"description":"d","name":"f","parameters":{"type":"object"},"strict":true},"type":"function"}],"tool_choice":{"function":{"name":"f"},"type":"function"},"parallel_tool_calls":false}`,
		`{"model":"m","input":"hi","tools":[{"type":"function","name":"f","strict":null}],"tool_choice":"required"}`: `{"model":"m",` + hi + `,"tools":[{"function":{"name":"f"},"type":"function"}],"tool_choice":"required"}`,

		`{"model":"m","input":"hi","text":{"format":{"type":"text"},"verbosity":"medium"}}`: `{"model":"m",` + hi + `}`,
		`{"model":"m","input":"hi","text":{"format":{"type":"json_object"}}}`:               `{"model":"m",` + hi + `,"response_format":{"type":"json_object"}}`,
		`{"model":"m","input":"hi","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}}}`: `{"model":"m",` + hi +
			`,"response_format":{"json_schema":{"name":"n","schema":{"type":"object"},"strict":true},"type":"json_schema"}}`,
	} {
		r, fault := translate([]byte(in))
		if fault != nil {
			t.Errorf("%s: %v", in, fault)
		} else if string(r.chat) != want {
			t.Errorf("%s became\n%s, want\n%s", in, r.chat, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	item := func(s string) string { return `"input":[` + s + `]` }
	part := func(s string) string { return item(`{"role":"user","content":[` + s + `]}`) }
	for _, c := range []struct{ members, param, says string }{
		{`"input":"x","frobnicate":1`, "frobnicate", "leave it out"},
		{`"input":"x","previous_response_id":"resp_1"`, "previous_response_id", "send the whole conversation"},
		{`"input":"x","conversation":"conv_1"`, "conversation", "send the whole conversation"},
		{`"input":"x","prompt":{"id":"p"}`, "prompt", "send instructions and input"},
		{`"input":"x","context_management":[]`, "context_management", "yours to shorten"},
		{`"input":"x","background":true`, "background", "stream"},
		{`"input":"x","store":true`, "store", "nothing is stored"},
		{`"input":"x","truncation":"auto"`, "truncation", "shorten the input"},
		{`"input":"x","top_logprobs":3`, "top_logprobs", "/v1/chat/completions"},
		{`"input":"x","include":["message.output_text.logprobs"]`, "include[0]", "leave it out"},
		{`"input":"x","include":"reasoning"`, "include", "a list"},
		{`"input":"x","stream":"yes"`, "stream", "true or false"},
		{`"input":"x","stream_options":{"x":1}`, "stream_options.x", "leave it out"},
		{`"input":"x","stream_options":{"include_obfuscation":1}`, "stream_options.include_obfuscation", "true or false"},
		{`"input":"x","temperature":"hot"`, "temperature", "a number"},
		{`"input":"x","top_p":[]`, "top_p", "a number"},
		{`"input":"x","max_output_tokens":"9"`, "max_output_tokens", "a whole number"},
		{`"input":"x","max_output_tokens":1.5`, "max_output_tokens", "a whole number"},
		{`"input":"x","max_output_tokens":-1`, "max_output_tokens", "a whole number"},
		{`"input":"x","max_tool_calls":{}`, "max_tool_calls", "a whole number"},
		{`"input":"x","user":1`, "user", "a string"},
		{`"input":"x","metadata":{"a":1}`, "metadata", "strings"},
		{`"input":"x","instructions":[]`, "instructions", "a string"},
		{`"input":"x","parallel_tool_calls":1`, "parallel_tool_calls", "true or false"},
		{`"input":"x","reasoning":{"effort":1}`, "reasoning.effort", "a string"},
		{`"input":"x","reasoning":{"summary":"detailed"}`, "reasoning.summary", "never summed up"},
		{`"input":"x","reasoning":{"mode":"x"}`, "reasoning.mode", "leave it out"},
		{`"input":"x","text":{"verbosity":"low"}`, "text.verbosity", "in the instructions"},
		{`"input":"x","text":{"format":{"type":"grammar"}}`, "text.format.type", "json_schema"},
		{`"input":"x","text":{"format":{"type":"text","x":1}}`, "text.format.x", "leave it out"},
		{`"input":"x","text":{"format":{"type":"json_object","x":1}}`, "text.format.x", "leave it out"},
		{`"input":"x","text":{"format":{"type":"json_schema","x":1}}`, "text.format.x", "leave it out"},
		{`"input":"x","text":[]`, "text", "an object"},

		{`"input":"x","tools":{}`, "tools", "a list"},
		{`"input":"x","tools":[null]`, "tools[0]", "an object"},
		{`"input":"x","tools":[{"type":"web_search"}]`, "tools[0]", "run it yourself"},
		{`"input":"x","tools":[{"type":"function","name":"f"},{"type":"mcp"}]`, "tools[1]", "run it yourself"},
		{`"input":"x","tools":[{"type":"custom","name":"f"}]`, "tools[0]", "offer a function"},
		{`"input":"x","tools":[{"type":"function"}]`, "tools[0].name", "missing"},
		{`"input":"x","tools":[{"type":"function","name":""}]`, "tools[0].name", "empty"},
		{`"input":"x","tools":[{"type":"function","name":"f","defer_loading":true}]`, "tools[0].defer_loading", "leave it out"},
		{`"input":"x","tool_choice":"required"`, "tool_choice", "needs tools"},
		{`"input":"x","tool_choice":{"type":"function","name":"f"}`, "tool_choice", "needs tools"},
		{`"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":"some"`, "tool_choice", "none or auto or required"},
		{`"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[]}`, "tool_choice", "no others"},
		{`"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"web_search"}`, "tool_choice", "run it yourself"},
		{`"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"function"}`, "tool_choice.name", "missing"},
		{`"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":1`, "tool_choice", "an object"},

		{`"instructions":"x"`, "input", "at least one item"},
		{`"input":1`, "input", "a list"},
		{`"input":[]`, "input", "at least one item"},
		{item(`null`), "input[0]", "an object"},
		{item(`{"role":"user","content":"a"},"b"`), "input[1]", "an object"},
		{item(`{"type":1}`), "input[0].type", "a string"},
		{item(`{"content":"a"}`), "input[0].role", "user or assistant"},
		{item(`{"role":"tool","content":"a"}`), "input[0].role", "user or assistant"},
		{item(`{"role":"user"}`), "input[0].content", "at least one part"},
		{item(`{"role":"user","content":[]}`), "input[0].content", "at least one part"},
		{item(`{"role":"user","content":"a","name":"n"}`), "input[0].name", "leave it out"},
		{item(`{"type":"item_reference","id":"msg_1"}`), "input[0]", "providerOptions.openai.store"},
		{item(`{"type":"web_search_call","id":"ws_1"}`), "input[0]", "run it yourself"},
		{item(`{"type":"computer_call_output","call_id":"1"}`), "input[0]", "run it yourself"},
		{item(`{"type":"reasoning","x":1}`), "input[0].x", "leave it out"},
		{item(`{"type":"function_call","name":"f","arguments":""}`), "input[0].call_id", "missing"},
		{item(`{"type":"function_call","call_id":"1","arguments":""}`), "input[0].name", "missing"},
		{item(`{"type":"function_call","call_id":"1","name":"f","arguments":{}}`), "input[0].arguments", "a string"},
		{item(`{"type":"function_call","call_id":"1","name":"f","arguments":"","namespace":"n"}`), "input[0].namespace", "leave it out"},
		{item(`{"type":"function_call_output","output":"a"}`), "input[0].call_id", "missing"},
		{item(`{"type":"function_call_output","call_id":"1"}`), "input[0].output", "at least one part"},
		{part(`"a"`), "input[0].content[0]", "an object"},
		{part(`{"type":"text","text":"a"}`), "input[0].content[0]", "send input_text"},
		{part(`{"type":"input_text"}`), "input[0].content[0].text", "missing"},
		{part(`{"type":"input_text","text":"a","prompt_cache_breakpoint":{}}`), "input[0].content[0].prompt_cache_breakpoint", "leave it out"},
		{part(`{"type":"input_image","file_id":"file_1"}`), "input[0].content[0].file_id", "a data: URL"},
		{part(`{"type":"input_image"}`), "input[0].content[0].image_url", "missing"},
		{part(`{"type":"input_file","file_data":"data:application/pdf;base64,AA=="}`), "input[0].content[0]", "put the text into the input"},
		{part(`{"type":"input_audio","input_audio":{"url":"x"}}`), "input[0].content[0].input_audio.url", "leave it out"},
		{part(`{"type":"refusal","text":"a"}`), "input[0].content[0].text", "leave it out"},
	} {
		_, fault := translate([]byte(`{"model":"m",` + c.members + `}`))
		if fault == nil {
			t.Errorf("%s passed", c.members)
		} else if fault.Status != 400 || fault.Code != "invalid_value" && fault.Code != "unsupported_parameter" || fault.Param != c.param || !strings.Contains(fault.Error(), c.says) {
			t.Errorf("%s: %s at %s, want %q at %s", c.members, fault, fault.Param, c.says, c.param)
		}
	}
	for _, in := range []string{`{"input":"x"}`, `{"model":null,"input":"x"}`, `{"model":7,"input":"x"}`} {
		if _, fault := translate([]byte(in)); fault == nil || fault.Param != "model" {
			t.Errorf("%s: %v", in, fault)
		}
	}
}

// serve has that body answer a request.
func serve(t testing.TB, request string, body io.Reader) (*http.Response, *apierror.Error) {
	t.Helper()
	return Serve([]byte(request), time.Unix(7, 0), func([]byte) (*http.Response, *apierror.Error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"X-Request-Id": {"1d"}}, Body: io.NopCloser(body)}, nil
	})
}

// events gives what a stream says, and how it ends.
func events(t testing.TB, body io.Reader) (list []obj, err error) {
	t.Helper()
	resp, fault := serve(t, `{"model":"m","input":"hi","stream":true,"metadata":{"a":"b\n"}}`, body)
	if fault != nil {
		t.Fatal(fault)
	}
	b, err := io.ReadAll(resp.Body)
	for i, e := range strings.Split(strings.TrimSuffix(string(b), "\n\n"), "\n\n") {
		head, data, _ := strings.Cut(e, "\ndata: ")
		var o obj
		if json.Unmarshal([]byte(data), &o) != nil || head != fmt.Sprint("event: ", o["type"]) || o["sequence_number"] != float64(i) {
			t.Fatalf("event %d is %q", i, e)
		}
		list = append(list, o)
	}
	return list, err
}

func chat(deltas ...string) string {
	var b strings.Builder
	for _, d := range deltas {
		fmt.Fprintf(&b, "data: {\"choices\":[{\"index\":0,%s}]}\n\n", d)
	}
	return b.String()
}

const (
	stop  = `"delta":{},"finish_reason":"stop"`
	count = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n"
	done  = "data: [DONE]\n\n"
)

// All kinds of items, as they stream, and the same answer in one piece.
func TestAnswer(t *testing.T) {
	list, err := events(t, strings.NewReader(": a comment\n\n"+chat(`"delta":{"role":"assistant","content":""}`, `"delta":{"reasoning_content":"Hm"}`, `"delta":{"reasoning":"m.","reasoning_content":"m."}`,
		`"delta":{"content":"<a>"}`, `"delta":{"content":" b"}`, `"delta":{"refusal":"no"}`,
		`"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":""}},{"index":1,"function":{"name":"g","arguments":"{"}}]}`,
		`"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`, `"delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}`,
		`"delta":{},"finish_reason":"tool_calls"`)+count+done))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, e := range list {
		s := strings.TrimPrefix(e["type"].(string), "response.")
		if i, ok := e["output_index"]; ok {
			s += fmt.Sprint(" ", i)
		}
		for _, name := range []string{"delta", "text", "refusal", "arguments"} {
			if v, ok := e[name]; ok {
				s += fmt.Sprintf(" %q", v)
			}
		}
		said = append(said, s)
	}
	want := []string{"created", "in_progress",
		"output_item.added 0", "content_part.added 0", `reasoning_text.delta 0 "Hm"`, `reasoning_text.delta 0 "m."`, `reasoning_text.done 0 "Hmm."`, "content_part.done 0", "output_item.done 0",
		"output_item.added 1", "content_part.added 1", `output_text.delta 1 "<a>"`, `output_text.delta 1 " b"`, `output_text.done 1 "<a> b"`, "content_part.done 1", "output_item.done 1",
		"output_item.added 2", "content_part.added 2", `refusal.delta 2 "no"`, `refusal.done 2 "no"`, "content_part.done 2", "output_item.done 2",
		"output_item.added 3", "output_item.added 4", `function_call_arguments.delta 4 "{"`, `function_call_arguments.delta 3 "{}"`, `function_call_arguments.delta 4 "}"`,
		`function_call_arguments.done 3 "{}"`, "output_item.done 3", `function_call_arguments.done 4 "{}"`, "output_item.done 4", "completed"}
	if got := strings.Join(said, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("it said\n%s\nnot\n%s", got, strings.Join(want, "\n"))
	}
	const response = `{"background":false,"created_at":7,"error":null,"id":"resp_1d","incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{"a":"b\n"},"model":"m","object":"response",` +
		`"output":[{"content":[{"text":"Hmm.","type":"reasoning_text"}],"id":"rs_1d0","status":"completed","summary":[],"type":"reasoning"},` +
		`{"content":[{"annotations":[],"logprobs":[],"text":"<a> b","type":"output_text"}],"id":"msg_1d1","role":"assistant","status":"completed","type":"message"},` +
		`{"content":[{"refusal":"no","type":"refusal"}],"id":"msg_1d2","role":"assistant","status":"completed","type":"message"},` +
		`{"arguments":"{}","call_id":"1","id":"fc_1d3","name":"f","status":"completed","type":"function_call"},{"arguments":"{}","call_id":"call_1d4","id":"fc_1d4","name":"g","status":"completed","type":"function_call"}],` +
		`"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"service_tier":"default","status":"completed","store":false,"temperature":null,"text":{"format":{"type":"text"}},` +
		`"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":null,"truncation":"disabled","usage":{"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":9},"user":null}`
	if got := string(encode(list[len(list)-1]["response"])); got != response {
		t.Errorf("the response is\n%s, not\n%s", got, response)
	}
	resp, fault := serve(t, `{"model":"m","input":"hi","metadata":{"a":"b\n"}}`, strings.NewReader(`{"choices":[{"message":{"role":"assistant","content":"<a> b","refusal":"no","reasoning":"Hmm.","tool_calls":[`+
		`{"id":"1","function":{"name":"f","arguments":"{}"}},{"function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}],`+strings.TrimSuffix(count, "\n\n")[len(`data: {"choices":[],`):]))
	if fault != nil {
		t.Fatal(fault)
	}
	if whole, _ := io.ReadAll(resp.Body); string(whole) != response || resp.ContentLength != int64(len(response)) {
		t.Errorf("in one piece it is\n%s, not\n%s", whole, response)
	}
}

func TestEnds(t *testing.T) {
	const hi = `"delta":{"content":"hi"}`
	for _, c := range []struct{ chat, end, items string }{
		{chat(hi, stop), "completed", `[message completed]`},
		{chat(hi, `"delta":{},"finish_reason":"length"`), "incomplete max_output_tokens", `[message incomplete]`},
		{chat(hi, `"delta":{},"finish_reason":"content_filter"`), "incomplete content_filter", `[message incomplete]`},
		{chat(stop), "completed", `[message completed]`}, // agents ask again if there is none
		{chat(`"delta":{"reasoning":"a"}`, stop), "completed", `[reasoning completed message completed]`},
		{chat(`"delta":{"reasoning":"a"}`, `"delta":{},"finish_reason":"length"`), "incomplete max_output_tokens", `[reasoning incomplete]`},
	} {
		list, err := events(t, strings.NewReader(c.chat+done))
		last := list[len(list)-1]
		r := last["response"].(obj)
		var items []string
		for _, it := range r["output"].([]any) {
			items = append(items, fmt.Sprint(it.(obj)["type"], " ", it.(obj)["status"]))
		}
		end := r["status"].(string)
		if why, ok := r["incomplete_details"].(obj); ok {
			end += fmt.Sprint(" ", why["reason"])
		}
		if err != nil || end != c.end || last["type"] != "response."+r["status"].(string) || fmt.Sprint(items) != c.items {
			t.Errorf("%s: %s %v, %v", c.chat, end, items, err)
		}
	}
}

// An answer that is not whole and not the engine's never ends as one that is.
func TestFailures(t *testing.T) {
	const hi = `"delta":{"content":"hi"}`
	cut := errors.New("cut")
	long := `"delta":{"content":"` + strings.Repeat("a", maxAnswer/2) + `"}`
	name := strings.Repeat("f", maxAnswer/2)
	call := func(index int, id, name string) string {
		return fmt.Sprintf(`"delta":{"tool_calls":[{"index":%d,"id":%q,"function":{"name":%q,"arguments":"{}"}}]}`, index, id, name)
	}
	for name, c := range map[string]struct {
		chat io.Reader
		says string
		err  error // nil for ours
	}{
		"cut":                  {io.MultiReader(strings.NewReader(chat(hi)), iotest.ErrReader(cut)), "cut", cut},
		"cut after its finish": {io.MultiReader(strings.NewReader(chat(hi, stop)), iotest.ErrReader(cut)), "cut", cut},
		"cut at its end":       {io.MultiReader(strings.NewReader(chat(hi, stop)+count+done), iotest.ErrReader(cut)), "cut", cut},
		"cut in an event":      {io.MultiReader(strings.NewReader(chat(hi, stop)[:40]), iotest.ErrReader(cut)), "cut", cut},
		"ends in an event":     {strings.NewReader(chat(hi, stop)[:40]), "unexpected EOF", io.ErrUnexpectedEOF},
		"ends early":           {strings.NewReader(chat(hi, stop)), "ends early", nil},
		"no finish":            {strings.NewReader(chat(hi) + done), "why it ended", nil},
		"unknown finish":       {strings.NewReader(chat(hi, `"delta":{},"finish_reason":"abort"`) + done), "why it ended", nil},
		"goes on":              {strings.NewReader(chat(hi, stop) + done + chat(hi)), "one answer", nil},
		"no event":             {strings.NewReader(`{"choices":[]}` + "\n"), "one answer", nil},
		"malformed":            {strings.NewReader("data: {\n\n"), "malformed", nil},
		"two choices":          {strings.NewReader("data: {\"choices\":[{},{}]}\n\n"), "2 choices", nil},
		"a second choice":      {strings.NewReader(chat(hi) + strings.Replace(chat(hi, stop), `"index":0`, `"index":1`, 2) + done), "more than one choice", nil},
		"calls out of order":   {strings.NewReader(chat(`"delta":{"tool_calls":[{"index":1,"function":{"name":"f"}}]}`)), "out of order", nil},
		"another call's index": {strings.NewReader(chat(call(0, "1", "f"), call(0, "2", "f"), stop) + done), "one index", nil},
		"another call's name":  {strings.NewReader(chat(call(0, "1", "f"), call(0, "1", "g"), stop) + done), "one index", nil},
		"long names":           {strings.NewReader(chat(call(0, "1", name), call(1, "2", name), call(2, name, "f"), stop) + done), "longer than", nil},
		"negative call":        {strings.NewReader(chat(`"delta":{"tool_calls":[{"index":-1,"function":{"name":"f"}}]}`)), "out of order", nil},
		"nameless call":        {strings.NewReader(chat(`"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`)), "no name", nil},
		"long event":           {strings.NewReader("data: " + strings.Repeat(" ", maxEvent) + "\n\n"), "longer than", nil},
		"long answer":          {strings.NewReader(chat(long, long, hi, stop) + done), "longer than", nil},
	} {
		list, err := events(t, c.chat)
		last := list[len(list)-1]
		if last["type"] != "response.failed" || err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: it ends in %s, %v", name, last["type"], err)
			continue
		}
		var fault *apierror.Error
		if c.err == nil && (!errors.As(err, &fault) || fault.Code != "untranslatable") {
			t.Errorf("%s: %v", name, err)
		}
		r := last["response"].(obj)
		if says := fmt.Sprint(r["error"].(obj)["message"]); r["status"] != "failed" || !strings.Contains(says, c.says) || strings.Contains(string(encode(r["output"])), "in_progress") {
			t.Errorf("%s: %s", name, encode(r))
		}
	}

	// What the enclave itself says of a failure is an answer, and ends with its receipt.
	list, err := events(t, strings.NewReader(chat(hi)+"data: {\"error\":{\"message\":\"the answer stopped because credit ran out\",\"code\":\"insufficient_credit\",\"param\":null}}\n\n"))
	r := list[len(list)-1]["response"].(obj)
	if says := string(encode(r["error"])); err != nil || r["status"] != "failed" || says != `{"code":"insufficient_credit","message":"the answer stopped because credit ran out"}` {
		t.Errorf("%s, %v", encode(r), err)
	}

	for name, c := range map[string]struct {
		chat io.Reader
		code string
	}{
		"cut":       {io.MultiReader(strings.NewReader(`{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}`), iotest.ErrReader(cut)), "answer_broken"},
		"fault":     {iotest.ErrReader(apierror.New(504, "timeout", "silence", "")), "timeout"},
		"malformed": {strings.NewReader(`{`), "untranslatable"},
		"no finish": {strings.NewReader(`{"choices":[{"message":{"content":"hi"}}]}`), "untranslatable"},
		"error":     {strings.NewReader(`{"error":{"message":"no","code":"queue_full"}}`), "queue_full"},
		"long":      {io.LimitReader(endless{}, maxWhole+1), "untranslatable"},
	} {
		if _, fault := serve(t, `{"model":"m","input":"hi"}`, c.chat); fault == nil || fault.Code != c.code || fault.Status < 500 {
			t.Errorf("%s in one piece: %v", name, fault)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }

// Events come as what they tell of arrives, and closing ends the wait for more.
func TestStreamWaits(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	resp, fault := Serve([]byte(`{"model":"m","input":"hi","stream":true}`), time.Unix(7, 0), func([]byte) (*http.Response, *apierror.Error) {
		return &http.Response{Header: http.Header{}, Body: r}, nil
	})
	if fault != nil {
		t.Fatal(fault)
	}
	p := make([]byte, 8<<10)
	n, err := resp.Body.Read(p) // nothing has been written
	if !strings.Contains(string(p[:n]), "response.created") || err != nil {
		t.Fatalf("%q, %v", p[:n], err)
	}
	go w.Write([]byte(chat(`"delta":{"content":"hi"}`)))
	n, err = resp.Body.Read(p)
	if !strings.Contains(string(p[:n]), `"delta":"hi"`) || err != nil {
		t.Fatalf("%q, %v", p[:n], err)
	}
	read := make(chan error)
	go func() {
		_, err := io.ReadAll(resp.Body)
		read <- err
	}()
	resp.Body.Close()
	if err := <-read; err == nil {
		t.Error("a closed stream ends well")
	}
}

func TestAskRefuses(t *testing.T) {
	_, fault := Serve([]byte(`{"model":"m","input":"hi"}`), time.Unix(7, 0), func([]byte) (*http.Response, *apierror.Error) {
		return nil, apierror.New(404, "model_not_found", "no", "")
	})
	if fault == nil || fault.Code != "model_not_found" {
		t.Error(fault)
	}
}

func FuzzTranslate(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","input":"hi","stream":true,"tools":[{"type":"function","name":"f","parameters":{}}],"tool_choice":"auto","text":{"format":{"type":"json_schema","name":"n"}}}`,
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"data:"}]},{"type":"function_call","call_id":"1","name":"f","arguments":""},{"type":"function_call_output","call_id":"1","output":"x"},{"type":"reasoning","summary":[]}]}`,
		`{"model":"m","input":[{"role":"user","content":null}],"include":[null],"reasoning":{"effort":null},"metadata":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if strictjson.CheckObject(b, 1<<20) != nil {
			return
		}
		r, fault := translate(b)
		if fault != nil {
			if fault.Status != 400 || fault.Message == "" {
				t.Fatalf("%+v", fault)
			}
			return
		}
		if bytes.ContainsAny(encode(r.head), "\r\n") {
			t.Fatalf("a line break in %s", encode(r.head))
		}
		var c struct{ Messages []struct{ Role string } }
		if err := json.Unmarshal(r.chat, &c); err != nil || len(r.chat) > 4*len(b)+256 {
			t.Fatalf("%s became %s, %v", b, r.chat, err)
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add([]byte(chat(`"delta":{"content":"hi"}`, stop) + count + done))
	f.Add([]byte(chat(`"delta":{"reasoning":"a"}`, `"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}`, stop) + done))
	f.Add([]byte("data: {\"error\":{\"message\":\"x\",\"code\":null}}\n\n"))
	f.Add([]byte(": x\n\ndata: {\"choices\":null}\n\ndata: [DONE]\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := events(t, bytes.NewReader(b))
		slow, err2 := events(t, iotest.OneByteReader(bytes.NewReader(b)))
		if fmt.Sprint(err) != fmt.Sprint(err2) || !bytes.Equal(encode(all), encode(slow)) {
			t.Fatalf("%s %v at once, %s %v byte by byte", encode(all), err, encode(slow), err2)
		}
		// Only what says that it failed may end in either way: the enclave's word is an end, too.
		if last := all[len(all)-1]["type"]; last != "response.failed" && (err != nil || last != "response.completed" && last != "response.incomplete") {
			t.Fatalf("%v after %s", err, last)
		}
		serve(t, `{"model":"m","input":"hi"}`, bytes.NewReader(b))
	})
}
