package openai

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

// Flavour is the kind of server, which decides what a request may say.
type Flavour string

const (
	VLLM     Flavour = "vllm"
	SGLang   Flavour = "sglang"
	LlamaCPP Flavour = "llamacpp"
	// Ollama is for development: it can neither partition its prompt cache nor count an answer before its end.
	Ollama Flavour = "ollama"
)

// ParseFlavour returns the flavour of that name.
func ParseFlavour(s string) (Flavour, error) {
	if _, ok := specs[Flavour(s)]; !ok {
		return "", fmt.Errorf("openai: unknown flavour %q: use one of %s", s, flavourNames())
	}
	return Flavour(s), nil
}

func flavourNames() string { return "vllm, sglang, llamacpp, ollama" }

// rule checks the value of one member. A nil rule passes any value.
type rule func(v json.RawMessage) error

// spec is what one flavour takes.
type spec struct {
	chat, completions map[string]rule
	choices           int  // most choices whatever the configuration says
	salt              bool // takes cache_salt
	dimensions        bool // of embeddings can be asked for
	forced            []member
	streamForced      []member
}

type member struct{ name, value string }

// Members that mean nothing to a local server. They are taken and go no further.
var dropped = map[string]rule{"user": nil, "safety_identifier": nil, "prompt_cache_key": nil, "metadata": nil, "service_tier": nil, "store": isFalse}

// Members that this package sets itself. "stream" and "stream_options" have their own treatment.
var handled = []string{"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"}

var (
	sampling = map[string]rule{"temperature": isNumber, "top_p": isNumber, "stop": stops, "seed": isNumber,
		"presence_penalty": isNumber, "frequency_penalty": isNumber}
	chatBase = with(sampling, map[string]rule{"messages": messages, "tools": tools, "response_format": responseFormat})
	textBase = with(sampling, map[string]rule{"prompt": prompt})
	biased   = map[string]rule{"logit_bias": biases}
	chatFull = with(chatBase, biased, map[string]rule{"logprobs": isBool, "top_logprobs": upTo(20), "tool_choice": toolChoice,
		"parallel_tool_calls": isBool, "reasoning_effort": isText})
	textFull = with(textBase, biased, map[string]rule{"logprobs": upTo(20)})
	thinking = map[string]rule{"chat_template_kwargs": templateSwitches}
	extended = map[string]rule{"top_k": isNumber, "min_p": isNumber, "repetition_penalty": isNumber, "min_tokens": isNumber}
	llama    = map[string]rule{"top_k": isNumber, "min_p": isNumber, "repeat_penalty": isNumber}

	usageEveryEvent = []member{{"stream_options", `{"include_usage":true,"continuous_usage_stats":true}`}}
	usageAtTheEnd   = []member{{"stream_options", `{"include_usage":true}`}}
)

var specs = map[Flavour]*spec{
	VLLM:   {chat: with(chatFull, extended, thinking), completions: with(textFull, extended), choices: maxChoices, salt: true, dimensions: true, streamForced: usageEveryEvent},
	SGLang: {chat: with(chatFull, extended, thinking), completions: with(textFull, extended), choices: maxChoices, salt: true, dimensions: true, streamForced: usageEveryEvent},
	// llama.cpp takes a function that is named as tool_choice for "auto".
	LlamaCPP: {chat: with(chatFull, llama, thinking, map[string]rule{"tool_choice": toolChoiceWord}), completions: with(textFull, llama), choices: 1,
		forced:       []member{{"cache_prompt", "false"}}, // its cache is per slot, not per client
		streamForced: append([]member{{"timings_per_token", "true"}}, usageAtTheEnd...)},
	// ollama ignores what it does not know, so that an answer would silently not be what was asked for.
	Ollama: {chat: chatBase, completions: textBase, choices: 1, streamForced: usageAtTheEnd},
}

func with(ms ...map[string]rule) map[string]rule {
	out := map[string]rule{}
	for _, m := range ms {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// options is what the rest of the driver must know of a request.
type options struct {
	stream     bool
	choices    int
	tokens     int  // most completion tokens of each choice; 0 when there is no limit
	wantUsage  bool // the client asked for the final usage event
	everyUsage bool // the client asked for usage in every event
}

// rewrite returns the body to send.
func (d *Driver) rewrite(req engine.Request, models []engine.Model) (*bytes.Reader, options, error) {
	o := options{stream: req.Stream, choices: 1}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(req.Body, &in); err != nil || in == nil {
		return nil, o, invalid("", "the body is not a JSON object")
	}
	rules := d.spec.chat
	needed := "messages"
	if req.Path == engine.PathCompletions {
		rules, needed = d.spec.completions, "prompt"
	}
	names := make([]string, 0, len(in))
	for name, v := range in {
		if string(v) == "null" { // as if absent, for every member of the API
			continue
		}
		if slices.Contains(handled, name) {
			continue
		}
		check, known := rules[name]
		if known {
			names = append(names, name)
		} else if check, known = dropped[name]; !known {
			return nil, o, unsupported(name, "this engine (%s) does not take the parameter %q: leave it out", d.cfg.Flavour, clip(name))
		}
		if check != nil {
			if err := check(v); err != nil {
				return nil, o, at(name, err)
			}
		}
	}
	if !slices.Contains(names, needed) {
		return nil, o, invalid(needed, "%s is missing", needed)
	}
	slices.Sort(names)

	model, err := pickModel(in["model"], models)
	if err != nil {
		return nil, o, err
	}
	if v, err := flag(in, "stream"); err != nil {
		return nil, o, err
	} else if v != req.Stream {
		return nil, o, invalid("stream", "stream is not what the request was opened with")
	}
	if err := o.streamOptions(in["stream_options"]); err != nil {
		return nil, o, err
	}
	if o.choices, err = number(in, "n", min(d.cfg.MaxChoices, d.spec.choices), 1); err != nil {
		return nil, o, err
	}
	if o.tokens, err = d.tokenLimit(in, model.MaxTokens); err != nil {
		return nil, o, err
	}

	var b bytes.Buffer
	b.Grow(len(req.Body) + 256)
	b.WriteString(`{"model":`)
	quoted, err := json.Marshal(model.ID)
	if err != nil {
		return nil, o, err
	}
	b.Write(quoted)
	put := func(name, value string) {
		b.WriteString(`,"` + name + `":`)
		b.WriteString(value)
	}
	for _, name := range names {
		b.WriteString(`,"` + name + `":`)
		b.Write(in[name])
	}
	if o.choices > 1 {
		put("n", strconv.Itoa(o.choices))
	}
	if o.tokens > 0 {
		put("max_tokens", strconv.Itoa(o.tokens)) // the older name, which all four know
	}
	put("stream", strconv.FormatBool(req.Stream))
	if d.spec.salt {
		salt := req.Salt
		if salt == ([32]byte{}) { // shares with nobody
			rand.Read(salt[:])
		}
		put("cache_salt", `"`+saltText(salt)+`"`)
	}
	for _, m := range d.spec.forced {
		put(m.name, m.value)
	}
	if req.Stream {
		for _, m := range d.spec.streamForced {
			put(m.name, m.value)
		}
	}
	b.WriteByte('}')
	return bytes.NewReader(b.Bytes()), o, nil
}

func pickModel(v json.RawMessage, models []engine.Model) (engine.Model, error) {
	if absent(v) {
		return models[0], nil
	}
	var id string
	if json.Unmarshal(v, &id) != nil {
		return engine.Model{}, invalid("model", "model is not a string")
	}
	for _, m := range models {
		if m.ID == id {
			return m, nil
		}
	}
	return engine.Model{}, &engine.RequestError{Status: 404, Message: fmt.Sprintf("the model %q is not served here: /v1/models lists those that are", clip(id)),
		Type: "invalid_request_error", Param: "model", Code: "model_not_found"}
}

// tokenLimit joins the two names of the limit.
func (d *Driver) tokenLimit(in map[string]json.RawMessage, most int) (int, error) {
	if most == 0 || d.cfg.MaxTokens > 0 && d.cfg.MaxTokens < most {
		most = d.cfg.MaxTokens
	}
	bound := most
	if bound == 0 {
		bound = 1 << 30
	}
	a, err := number(in, "max_tokens", bound, 0)
	if err != nil {
		return 0, err
	}
	b, err := number(in, "max_completion_tokens", bound, 0)
	if err != nil {
		return 0, err
	}
	switch {
	case a != 0 && b != 0 && a != b:
		return 0, invalid("max_tokens", "max_tokens and max_completion_tokens differ: give one of them")
	case a != 0:
		return a, nil
	case b != 0:
		return b, nil
	}
	return most, nil
}

// number reads a positive integer up to most.
func number(in map[string]json.RawMessage, name string, most, missing int) (int, error) {
	v := in[name]
	if absent(v) {
		return missing, nil
	}
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 || n > most {
		return 0, invalid(name, "%s must be a whole number from 1 to %d", name, most)
	}
	return n, nil
}

func flag(in map[string]json.RawMessage, name string) (bool, error) {
	switch v := in[name]; {
	case absent(v), string(v) == "false":
		return false, nil
	case string(v) == "true":
		return true, nil
	}
	return false, invalid(name, "%s must be true or false", name)
}

func (o *options) streamOptions(v json.RawMessage) error {
	if absent(v) {
		return nil
	}
	m, err := object(v, "include_usage", "continuous_usage_stats", "include_obfuscation")
	if err != nil {
		return at("stream_options", err)
	}
	if !o.stream {
		return invalid("stream_options", "stream_options needs stream: true")
	}
	if o.wantUsage, err = flag(m, "include_usage"); err != nil {
		return err
	}
	o.everyUsage, err = flag(m, "continuous_usage_stats")
	if err == nil {
		_, err = flag(m, "include_obfuscation") // padding is the envelope's work
	}
	return err
}

func absent(v json.RawMessage) bool { return len(v) == 0 || string(v) == "null" }

// object decodes an object that has no other members than these. Nulls count as absent.
func object(v json.RawMessage, names ...string) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(v, &m); err != nil || m == nil {
		return nil, invalid("", "must be an object")
	}
	for k, v := range m {
		if absent(v) {
			delete(m, k)
		} else if !slices.Contains(names, k) {
			return nil, unsupported(k, "the member %q is not supported: leave it out", clip(k))
		}
	}
	return m, nil
}

func text(v json.RawMessage) (string, error) {
	var s string
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", invalid("", "must be a string")
	}
	return s, nil
}

func isFalse(v json.RawMessage) error {
	if string(v) != "false" {
		return invalid("", "must be false: nothing is stored here")
	}
	return nil
}

func isBool(v json.RawMessage) error {
	if s := string(v); s != "true" && s != "false" {
		return invalid("", "must be true or false")
	}
	return nil
}

func isNumber(v json.RawMessage) error {
	if v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return invalid("", "must be a number")
	}
	return nil
}

func isText(v json.RawMessage) error {
	_, err := text(v)
	return err
}

func biases(v json.RawMessage) error {
	var m map[string]float64
	if json.Unmarshal(v, &m) != nil || len(m) > 1024 {
		return invalid("", "must be an object of up to 1024 numbers by token id")
	}
	return nil
}

func upTo(most int) rule {
	return func(v json.RawMessage) error {
		if n, err := strconv.Atoi(string(v)); err != nil || n < 0 || n > most {
			return invalid("", "must be a whole number from 0 to %d", most)
		}
		return nil
	}
}

// prompt takes one text: a list would multiply the choices.
func prompt(v json.RawMessage) error {
	if _, err := text(v); err != nil {
		return invalid("", "must be one string")
	}
	return nil
}

func stops(v json.RawMessage) error {
	if _, err := text(v); err == nil {
		return nil
	}
	var list []string
	if json.Unmarshal(v, &list) != nil || len(list) > 16 {
		return invalid("", "must be a string or up to 16 strings")
	}
	return nil
}

// What OpenAI's Agents SDK sends back of a message, in every part of its content, and what older ones (0.4) send back of a
// call, beside the message's calls. No engine reads it there.
var (
	ofMessage = []string{"role", "annotations", "reasoning", "reasoning_content", "tool_calls"}
	ofCall    = []string{"type", "function"}
)

var roles = []string{"system", "developer", "user", "assistant", "tool"}

func messages(v json.RawMessage) error {
	var list []json.RawMessage
	if err := json.Unmarshal(v, &list); err != nil || len(list) == 0 {
		return invalid("", "must be a list of at least one message")
	}
	for i, v := range list {
		if err := message(v); err != nil {
			return at(fmt.Sprintf("[%d]", i), err)
		}
	}
	return nil
}

func message(v json.RawMessage) error {
	m, err := object(v, append(ofCall, "role", "content", "name", "refusal", "annotations", "reasoning", "reasoning_content", "tool_calls", "tool_call_id")...)
	if err != nil {
		return err
	}
	if role, err := text(m["role"]); err != nil || !slices.Contains(roles, role) {
		return invalid("role", "the role must be one of %s", strings.Join(roles, ", "))
	}
	content, ok := m["content"]
	if !ok {
		return nil
	}
	if content[0] == '"' {
		return nil
	}
	var parts []json.RawMessage
	if json.Unmarshal(content, &parts) != nil {
		return invalid("content", "content must be a string or a list of parts")
	}
	for i, p := range parts {
		if err := part(p); err != nil {
			return at(fmt.Sprintf("content[%d]", i), err)
		}
	}
	return nil
}

// part takes text and media that the request itself contains. An engine must never fetch an address or open a file for a
// client, nor look up media by a name that another client gave them.
func part(v json.RawMessage) error {
	m, err := object(v, append(ofMessage, "type", "text", "refusal", "image_url", "input_audio")...)
	if err != nil {
		return err
	}
	for _, name := range ofMessage {
		delete(m, name)
	}
	kind, err := text(m["type"])
	if err != nil {
		return at("type", err)
	}
	if len(m) != 2 || absent(m[kind]) || kind == "type" {
		return invalid("", "a part has a type and the member of that name: text, image_url or input_audio")
	}
	switch kind {
	case "image_url":
		inner, err := object(m[kind], "url", "detail")
		if err != nil {
			return at(kind, err)
		}
		u, err := text(inner["url"])
		if err != nil {
			return at("image_url.url", err)
		}
		if !strings.HasPrefix(u, "data:image/") {
			return invalid("image_url.url", "an image must be in the request itself, as a data:image/...;base64, URL: this engine fetches nothing")
		}
	case "input_audio":
		inner, err := object(m[kind], "data", "format")
		if err != nil {
			return at(kind, err)
		}
		data, err := text(inner["data"])
		if err != nil || strings.Contains(data, ":") {
			return invalid("input_audio.data", "audio must be in the request itself, in base64: this engine fetches nothing")
		}
	default:
		_, err = text(m[kind])
	}
	return at(kind, err)
}

func tools(v json.RawMessage) error {
	var list []json.RawMessage
	if json.Unmarshal(v, &list) != nil || len(list) > 128 {
		return invalid("", "must be a list of up to 128 tools")
	}
	for i, v := range list {
		m, err := object(v, "type", "function")
		if err == nil {
			if kind, e := text(m["type"]); e != nil || kind != "function" {
				err = invalid("type", "only tools of type function are supported")
			} else {
				_, err = object(m["function"], "name", "description", "parameters", "strict")
			}
		}
		if err != nil {
			return at(fmt.Sprintf("[%d]", i), err)
		}
	}
	return nil
}

func toolChoice(v json.RawMessage) error {
	if s, err := text(v); err == nil {
		if s != "none" && s != "auto" && s != "required" {
			return invalid("", "must be none, auto, required or a function")
		}
		return nil
	}
	m, err := object(v, "type", "function")
	if err == nil {
		_, err = object(m["function"], "name")
	}
	return err
}

func toolChoiceWord(v json.RawMessage) error {
	if v[0] == '{' {
		return invalid("", "must be none, auto or required: this engine cannot be made to call a certain function; offer that one alone, and require it")
	}
	return toolChoice(v)
}

func responseFormat(v json.RawMessage) error {
	m, err := object(v, "type", "json_schema")
	if err != nil {
		return err
	}
	switch kind, _ := text(m["type"]); kind {
	case "text", "json_object":
		return nil
	case "json_schema":
		_, err := object(m["json_schema"], "name", "description", "schema", "strict")
		return at("json_schema", err)
	}
	return invalid("type", "the type must be text, json_object or json_schema")
}

// templateSwitches takes the two switches that templates use for reasoning. Anything else in chat_template_kwargs reaches
// into the template's internals.
func templateSwitches(v json.RawMessage) error {
	m, err := object(v, "enable_thinking", "thinking")
	if err != nil {
		return err
	}
	for k, v := range m {
		if err := isBool(v); err != nil {
			return at(k, err)
		}
	}
	return nil
}

func invalid(param, format string, args ...any) error {
	return &engine.RequestError{Status: 400, Message: fmt.Sprintf(format, args...), Type: "invalid_request_error", Param: param, Code: "invalid_value"}
}

func unsupported(param, format string, args ...any) error {
	return &engine.RequestError{Status: 400, Message: fmt.Sprintf(format, args...), Type: "invalid_request_error", Param: clip(param), Code: "unsupported_parameter"}
}

// at says where in the request an error lies.
func at(where string, err error) error {
	e, ok := err.(*engine.RequestError)
	if !ok {
		return err
	}
	switch {
	case e.Param == "":
		e.Param = where
		e.Message = where + " " + e.Message
	case e.Param[0] == '[':
		e.Param = where + e.Param
	default:
		e.Param = where + "." + e.Param
	}
	return e
}

func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
