package responses

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bombyx-network/bombyx/internal/apierror"
)

// A request is what became of one for a response.
type request struct {
	chat   []byte // the request for a chat completion
	head   obj    // what the response object repeats
	stream bool
}

// completion is a request for a chat completion.
type completion struct {
	Model       json.RawMessage `json:"model,omitempty"`
	Messages    []*turn         `json:"messages"`
	Stream      bool            `json:"stream,omitempty"`
	Options     obj             `json:"stream_options,omitempty"`
	MaxTokens   json.RawMessage `json:"max_completion_tokens,omitempty"`
	Temperature json.RawMessage `json:"temperature,omitempty"`
	TopP        json.RawMessage `json:"top_p,omitempty"`
	Tools       []obj           `json:"tools,omitempty"`
	ToolChoice  any             `json:"tool_choice,omitempty"`
	Parallel    json.RawMessage `json:"parallel_tool_calls,omitempty"`
	Format      obj             `json:"response_format,omitempty"`
	Effort      string          `json:"reasoning_effort,omitempty"`
}

// A turn is one of its messages.
type turn struct {
	Role    string `json:"role"`
	Content any    `json:"content,omitempty"` // a string or parts
	Calls   []obj  `json:"tool_calls,omitempty"`
	CallID  string `json:"tool_call_id,omitempty"`
}

const (
	sendAll = "nothing is kept between requests: send the whole conversation as input"
	ownTool = "nothing runs at the provider but the model: offer a function, and run it yourself"
	inline  = "nothing is stored or fetched here: put the text into the input, or an image as a data: URL"
)

// hints say what to do instead of what a request may not have. What is not here can only be left out.
var hints = map[string]string{
	"previous_response_id": sendAll,
	"conversation":         sendAll,
	"item_reference":       sendAll + ", and store as false (AI SDK: providerOptions.openai.store)",
	"prompt":               "no templates are kept here: send instructions and input",
	"context_management":   "the conversation is yours to shorten",
	"input_file":           inline,
	"file_id":              inline,
	"logprobs":             "/v1/chat/completions has them",
	"allowed_tools":        "offer the tools that may be called, and no others",
}

// A reader reads a request and keeps the first thing that is wrong with it.
type reader struct{ fault *apierror.Error }

// translate reads a request, which is a strict JSON object.
func translate(body []byte) (*request, *apierror.Error) {
	var r reader
	in := r.object(body, "", "model", "input", "instructions", "stream", "stream_options", "max_output_tokens", "temperature", "top_p",
		"tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "text", "reasoning", "include", "truncation", "store", "background", "top_logprobs",
		"metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier")
	r.is(in, "store", "nothing is stored here: leave it out", "false")
	r.is(in, "background", "nothing runs on after its request: stream, and read on", "false")
	r.is(in, "truncation", "nothing is dropped unseen: shorten the input yourself", `"disabled"`)
	r.is(in, "top_logprobs", hints["logprobs"], "0")
	r.is(in, "stream", "", "true", "false")
	r.is(in, "parallel_tool_calls", "", "true", "false")
	for i, v := range r.list(in["include"], "include") {
		// Reasoning is in the answer as it is: nothing of it is encrypted.
		r.oneOf(v, at("include", i), "leave it out", "reasoning.encrypted_content")
	}
	for _, name := range []string{"temperature", "top_p"} {
		if v, ok := in[name]; ok && json.Unmarshal(v, new(float64)) != nil {
			r.bad(name, "must be a number")
		}
	}
	for _, name := range []string{"max_output_tokens", "max_tool_calls"} { // of which only hosted tools would count
		if v, ok := in[name]; ok && json.Unmarshal(v, new(uint64)) != nil {
			r.bad(name, "must be a whole number")
		}
	}
	for _, name := range []string{"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"} {
		r.text(in[name], name) // for OpenAI's own servers; they go no further
	}
	if r.text(in["model"], "model"); in["model"] == nil {
		r.bad("model", "is missing")
	}
	options := r.object(in["stream_options"], "stream_options", "include_obfuscation")
	r.is(options, "stream_options.include_obfuscation", "", "true", "false") // sealed answers are padded anyway
	if v, ok := in["metadata"]; ok {
		var m map[string]string
		if json.Unmarshal(v, &m) != nil {
			r.bad("metadata", "must be an object of strings")
		}
	}

	out := completion{Model: in["model"], MaxTokens: in["max_output_tokens"], Temperature: in["temperature"], TopP: in["top_p"]}
	if out.Stream = string(in["stream"]) == "true"; out.Stream {
		out.Options = obj{"include_usage": true}
	}
	if s := r.text(in["instructions"], "instructions"); s != "" {
		out.Messages = append(out.Messages, &turn{Role: "system", Content: s})
	}
	r.input(&out, in["input"])
	r.tools(&out, in)
	r.form(&out, in["text"])
	thinking := r.object(in["reasoning"], "reasoning", "effort", "summary", "generate_summary")
	out.Effort = r.text(thinking["effort"], "reasoning.effort")
	for _, where := range []string{"reasoning.summary", "reasoning.generate_summary"} {
		r.is(thinking, where, "reasoning is never summed up: leave it out", `"auto"`)
	}
	if r.fault != nil {
		return nil, r.fault
	}

	head := obj{"object": "response", "store": false, "background": false, "previous_response_id": nil, "service_tier": "default", "truncation": "disabled",
		"top_logprobs": 0, "instructions": nil, "max_output_tokens": nil, "max_tool_calls": nil, "temperature": nil, "top_p": nil, "user": nil,
		"tools": []obj{}, "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": obj{"effort": nil, "summary": nil},
		"text": obj{"format": obj{"type": "text"}}, "metadata": obj{}}
	for _, name := range []string{"model", "instructions", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "user", "safety_identifier",
		"prompt_cache_key", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "metadata"} {
		if v, ok := in[name]; ok {
			head[name] = v
		}
	}
	return &request{chat: encode(out), head: head, stream: out.Stream}, nil
}

func (r *reader) input(out *completion, v json.RawMessage) {
	if len(v) > 0 && v[0] == '"' {
		out.Messages = append(out.Messages, &turn{Role: "user", Content: r.text(v, "input")})
		return
	}
	items := r.list(v, "input")
	if len(items) == 0 {
		r.bad("input", "must be a text, or a list of at least one item")
	}
	for i, v := range items {
		if r.fault != nil {
			return
		}
		r.item(out, v, at("input", i))
	}
}

func (r *reader) item(out *completion, v json.RawMessage, where string) {
	kind := "message" // which a message need not say
	if v := r.object(v, where, anything)["type"]; v != nil {
		kind = r.text(v, where+".type")
	}
	switch kind {
	case "message":
		m := r.object(v, where, "type", "id", "status", "role", "content", "phase")
		role := r.oneOf(m["role"], where+".role", "", "user", "assistant", "system", "developer")
		t := &turn{Role: role, Content: r.content(m["content"], where+".content")}
		// Engines write text after calls, too, but templates want the calls' outputs right behind them.
		if n := len(out.Messages); n > 0 && role == "assistant" && out.Messages[n-1].Calls != nil {
			last := out.Messages[n-1]
			if t.Calls, last.Calls = last.Calls, nil; last.Content == nil {
				out.Messages = out.Messages[:n-1]
			}
		}
		out.Messages = append(out.Messages, t)
	case "function_call":
		m := r.object(v, where, "type", "id", "status", "call_id", "name", "arguments")
		call := obj{"id": r.name(m, "call_id", where), "type": "function",
			"function": obj{"name": r.name(m, "name", where), "arguments": r.text(m["arguments"], where+".arguments")}}
		// A chat completion has its text and all of its calls in one message.
		if n := len(out.Messages); n > 0 && out.Messages[n-1].Role == "assistant" {
			out.Messages[n-1].Calls = append(out.Messages[n-1].Calls, call)
			return
		}
		out.Messages = append(out.Messages, &turn{Role: "assistant", Calls: []obj{call}})
	case "function_call_output":
		m := r.object(v, where, "type", "id", "status", "call_id", "name", "output")
		out.Messages = append(out.Messages, &turn{Role: "tool", CallID: r.name(m, "call_id", where), Content: r.content(m["output"], where+".output")})
	case "reasoning":
		// Of earlier answers. Templates leave it out, and so does whoever uses chat completions.
		r.object(v, where, "type", "id", "status", "summary", "content", "encrypted_content")
	default:
		r.unsupported(where, "items of type "+clip(kind)+" are not supported", cmp.Or(hints[kind], ownTool))
	}
}

// content reads a text, or parts of a message.
func (r *reader) content(v json.RawMessage, where string) any {
	if len(v) > 0 && v[0] == '"' {
		return r.text(v, where)
	}
	parts := []obj{}
	for i, v := range r.list(v, where) {
		if r.fault != nil {
			return nil
		}
		where := at(where, i)
		m := r.object(v, where, anything)
		switch kind := r.text(m["type"], where+".type"); kind {
		case "input_text", "output_text":
			// annotations and logprobs come with an answer that is sent back
			m = r.object(v, where, "type", "text", "annotations", "logprobs")
			parts = append(parts, obj{"type": "text", "text": r.required(m, "text", where)})
		case "refusal":
			m = r.object(v, where, "type", "refusal")
			parts = append(parts, obj{"type": "refusal", "refusal": r.required(m, "refusal", where)})
		case "input_image":
			m = r.object(v, where, "type", "image_url", "detail")
			image := obj{"url": r.required(m, "image_url", where)}
			if m["detail"] != nil {
				image["detail"] = r.text(m["detail"], where+".detail")
			}
			parts = append(parts, obj{"type": "image_url", "image_url": image})
		case "input_audio":
			m = r.object(v, where, "type", "input_audio")
			audio := r.object(m["input_audio"], where+".input_audio", "data", "format")
			parts = append(parts, obj{"type": "input_audio", "input_audio": audio})
		default:
			r.unsupported(where, "parts of type "+clip(kind)+" are not supported", cmp.Or(hints[kind], "send input_text or input_image"))
		}
	}
	switch {
	case len(parts) == 0:
		r.bad(where, "must be a text, or a list of at least one part")
	case len(parts) == 1 && parts[0]["type"] == "text":
		return parts[0]["text"] // every template takes it
	}
	return parts
}

func (r *reader) tools(out *completion, in fields) {
	for i, v := range r.list(in["tools"], "tools") {
		where := at("tools", i)
		kind := r.text(r.object(v, where, anything)["type"], where+".type")
		if r.fault == nil && kind != "function" {
			r.unsupported(where, "tools of type "+clip(kind)+" are not supported", ownTool)
		}
		if r.fault != nil {
			return
		}
		m := r.object(v, where, "type", "name", "description", "parameters", "strict")
		r.name(m, "name", where)
		delete(m, "type")
		out.Tools = append(out.Tools, obj{"type": "function", "function": m})
	}
	v := in["tool_choice"]
	if len(v) > 0 && v[0] == '"' {
		out.ToolChoice = r.oneOf(v, "tool_choice", "", "none", "auto", "required")
	} else if v != nil {
		m := r.object(v, "tool_choice", anything)
		if kind := r.text(m["type"], "tool_choice.type"); r.fault == nil && kind != "function" {
			r.unsupported("tool_choice", "a choice of type "+clip(kind)+" is not supported", cmp.Or(hints[kind], ownTool))
		}
		m = r.object(v, "tool_choice", "type", "name")
		out.ToolChoice = obj{"type": "function", "function": obj{"name": r.name(m, "name", "tool_choice")}}
	}
	if len(out.Tools) > 0 {
		out.Parallel = in["parallel_tool_calls"]
		return
	}
	if out.ToolChoice != nil && out.ToolChoice != "none" && out.ToolChoice != "auto" {
		r.bad("tool_choice", "needs tools")
	}
	out.ToolChoice = nil // without tools, SDKs still say auto, and engines refuse that
}

func (r *reader) form(out *completion, v json.RawMessage) {
	m := r.object(v, "text", "format", "verbosity")
	r.is(m, "text.verbosity", "say in the instructions how long answers should be", `"medium"`)
	if m["format"] == nil {
		return
	}
	switch r.oneOf(r.object(m["format"], "text.format", anything)["type"], "text.format.type", "", "text", "json_object", "json_schema") {
	case "text":
		r.object(m["format"], "text.format", "type")
	case "json_object":
		r.object(m["format"], "text.format", "type")
		out.Format = obj{"type": "json_object"}
	case "json_schema":
		f := r.object(m["format"], "text.format", "type", "name", "description", "schema", "strict")
		delete(f, "type")
		out.Format = obj{"type": "json_schema", "json_schema": f}
	}
}

// fields are an object's members that are not null.
type fields map[string]json.RawMessage

// anything among the names of object stands for every other.
const anything = "*"

// object reads an object that has these members and no others; absent, it has none. A null is as good as nothing.
func (r *reader) object(v json.RawMessage, where string, names ...string) fields {
	var m fields
	if v == nil || r.fault != nil {
		return m
	}
	if json.Unmarshal(v, &m) != nil || m == nil {
		r.bad(where, "must be an object")
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if string(m[name]) == "null" {
			delete(m, name)
		} else if names[0] != anything && !slices.Contains(names, name) {
			r.unsupported(strings.TrimPrefix(where+"."+clip(name), "."), "this member is not supported", cmp.Or(hints[name], "leave it out"))
		}
	}
	return m
}

func (r *reader) list(v json.RawMessage, where string) (list []json.RawMessage) {
	if v != nil && r.fault == nil && json.Unmarshal(v, &list) != nil {
		r.bad(where, "must be a list")
	}
	return list
}

// text reads a string; absent, it is empty.
func (r *reader) text(v json.RawMessage, where string) (s string) {
	if v != nil && r.fault == nil && (v[0] != '"' || json.Unmarshal(v, &s) != nil) {
		r.bad(where, "must be a string")
	}
	return s
}

func (r *reader) required(m fields, name, where string) string {
	if m[name] == nil {
		r.bad(where+"."+name, "is missing")
	}
	return r.text(m[name], where+"."+name)
}

// name reads a string that may not be empty.
func (r *reader) name(m fields, name, where string) string {
	s := r.required(m, name, where)
	if s == "" {
		r.bad(where+"."+name, "is empty")
	}
	return s
}

func (r *reader) oneOf(v json.RawMessage, where, hint string, values ...string) string {
	s := r.text(v, where)
	if !slices.Contains(values, s) {
		r.must(where, hint, values)
	}
	return s
}

// is checks that the last member that where names, if it is there, has one of these values, as JSON.
func (r *reader) is(m fields, where, hint string, values ...string) {
	if v, ok := m[where[strings.LastIndexByte(where, '.')+1:]]; ok && !slices.Contains(values, string(v)) {
		r.must(where, hint, values)
	}
}

func (r *reader) must(where, hint string, values []string) {
	if r.fault == nil {
		r.bad(where, "must be "+strings.Join(values, " or "))
		r.fault.Hint = hint
	}
}

// bad and unsupported say that something is wrong, unless something was already.
func (r *reader) bad(where, what string) {
	if r.fault == nil {
		r.fault = apierror.New(400, "invalid_value", where+" "+what, "")
		r.fault.Param = where
	}
}

func (r *reader) unsupported(where, what, hint string) {
	if r.fault == nil {
		r.fault = apierror.New(400, "unsupported_parameter", where+": "+what, hint)
		r.fault.Param = where
	}
}

func at(where string, i int) string { return fmt.Sprintf("%s[%d]", where, i) }

// clip makes a foreign name fit to print.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
