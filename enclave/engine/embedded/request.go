package embedded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/chat"
)

// Limits on a request, beside the context length.
const (
	maxMessages   = 4096
	maxStops      = 16
	maxStopLength = 1024 // bytes
)

// params is a request after its checks.
type params struct {
	chat         bool
	messages     []chat.Message
	prompt       string
	promptIDs    []int // instead of prompt when not nil
	stream       bool
	includeUsage bool
	maxTokens    int // 0 when the request leaves it open
	temperature  float64
	topP         float64
	topK         int // 0 for all
	seed         *int64
	stop         []string
	logprobs     int // -1 for none, else the number of alternatives
}

func invalid(param, format string, args ...any) *engine.RequestError {
	return &engine.RequestError{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...), Param: param}
}

// member reads one member of the request. Null is treated like absence before it is called.
type member func(p *params, name string, v json.RawMessage) error

// commonMembers are understood at both paths. Members that ask for something which is not implemented are accepted with
// the one value that asks for nothing.
var commonMembers = map[string]member{
	"stream": func(p *params, name string, v json.RawMessage) error { return decode(v, name, "a boolean", &p.stream) },
	"stream_options": func(p *params, name string, v json.RawMessage) error {
		return object(v, name, map[string]func(json.RawMessage) error{
			"include_usage": func(v json.RawMessage) error {
				return decode(v, name+".include_usage", "a boolean", &p.includeUsage)
			},
			"include_obfuscation": func(v json.RawMessage) error { return only(v, name+".include_obfuscation", "false") },
		})
	},
	"max_tokens": func(p *params, name string, v json.RawMessage) error { return p.setMaxTokens(name, v) },
	"temperature": func(p *params, name string, v json.RawMessage) error {
		return number(v, name, 0, 2, &p.temperature)
	},
	"top_p": func(p *params, name string, v json.RawMessage) error {
		if err := number(v, name, 0, 1, &p.topP); err != nil || p.topP > 0 {
			return err
		}
		return invalid(name, "top_p must be greater than 0")
	},
	"top_k": func(p *params, name string, v json.RawMessage) error {
		n, err := integer(v, name, -1, math.MaxInt32)
		p.topK = max(int(n), 0)
		return err
	},
	"seed": func(p *params, name string, v json.RawMessage) error {
		n, err := integer(v, name, math.MinInt64, math.MaxInt64)
		p.seed = &n
		return err
	},
	"stop": func(p *params, name string, v json.RawMessage) error { return p.setStop(name, v) },
	"n": func(p *params, name string, v json.RawMessage) error {
		_, err := integer(v, name, 1, 1)
		return err
	},
	"user":              ignoreString,
	"presence_penalty":  onlyZero,
	"frequency_penalty": onlyZero,
	"logit_bias": func(_ *params, name string, v json.RawMessage) error {
		return object(v, name, nil)
	},
}

var chatMembers = map[string]member{
	"messages": func(p *params, name string, v json.RawMessage) error { return p.setMessages(name, v) },
	"max_completion_tokens": func(p *params, name string, v json.RawMessage) error {
		return p.setMaxTokens(name, v)
	},
	"response_format": func(_ *params, name string, v json.RawMessage) error {
		return object(v, name, map[string]func(json.RawMessage) error{
			"type": func(v json.RawMessage) error { return only(v, name+".type", `"text"`) },
		})
	},
	"logprobs": func(p *params, name string, v json.RawMessage) error {
		var on bool
		if err := decode(v, name, "a boolean", &on); err != nil || !on {
			return err
		}
		p.logprobs = max(p.logprobs, 0)
		return nil
	},
	"top_logprobs": func(p *params, name string, v json.RawMessage) error {
		n, err := integer(v, name, 0, maxAlternatives)
		p.logprobs = int(n)
		return err
	},
	"tools":               func(_ *params, name string, v json.RawMessage) error { return only(v, name, "[]") },
	"tool_choice":         func(_ *params, name string, v json.RawMessage) error { return only(v, name, `"none"`, `"auto"`) },
	"parallel_tool_calls": ignoreBool,
	"modalities":          func(_ *params, name string, v json.RawMessage) error { return only(v, name, `["text"]`) },
	"store":               func(_ *params, name string, v json.RawMessage) error { return only(v, name, "false") },
	"service_tier":        func(_ *params, name string, v json.RawMessage) error { return only(v, name, `"auto"`, `"default"`) },
	"safety_identifier":   ignoreString,
	"prompt_cache_key":    ignoreString,
	"metadata": func(_ *params, name string, v json.RawMessage) error {
		return decode(v, name, "an object", &map[string]string{})
	},
}

var completionMembers = map[string]member{
	"prompt":  func(p *params, name string, v json.RawMessage) error { return p.setPrompt(name, v) },
	"echo":    func(_ *params, name string, v json.RawMessage) error { return only(v, name, "false") },
	"suffix":  func(_ *params, name string, v json.RawMessage) error { return only(v, name, `""`) },
	"best_of": func(_ *params, name string, v json.RawMessage) error { return only(v, name, "1") },
}

func ignoreString(_ *params, name string, v json.RawMessage) error {
	var s string
	return decode(v, name, "a string", &s)
}

func ignoreBool(_ *params, name string, v json.RawMessage) error {
	var b bool
	return decode(v, name, "a boolean", &b)
}

func onlyZero(_ *params, name string, v json.RawMessage) error {
	var f float64
	if err := number(v, name, -2, 2, &f); err != nil || f == 0 {
		return err
	}
	return invalid(name, "this engine does not support %s; leave it out or set it to 0", name)
}

// parse checks a request for the model called model.
func parse(req engine.Request, model string) (*params, error) {
	p := &params{temperature: 1, topP: 1, logprobs: -1}
	members := completionMembers
	switch req.Path {
	case engine.PathChatCompletions:
		p.chat, members = true, chatMembers
	case engine.PathCompletions:
	default:
		return nil, fmt.Errorf("%w: %.64q", engine.ErrUnsupported, req.Path)
	}
	body, err := jsonMembers(req.Body)
	if err != nil {
		return nil, invalid("", "the request is not a JSON object: %v", err)
	}
	var name string
	if v, ok := body["model"]; !ok {
		return nil, invalid("model", "model is missing; this engine has %q", model)
	} else if err := decode(v, "model", "a string", &name); err != nil {
		return nil, err
	}
	if name != model {
		return nil, &engine.RequestError{Status: http.StatusNotFound, Param: "model", Code: "model_not_found", Message: fmt.Sprintf("there is no model %.128q; this engine has %q", name, model)}
	}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if name == "model" {
			continue
		}
		v := body[name]
		read := commonMembers[name]
		if read == nil {
			read = members[name]
		}
		if read == nil {
			return nil, &engine.RequestError{Status: http.StatusBadRequest, Param: name, Code: "unknown_parameter", Message: fmt.Sprintf("this engine does not support %.64q; leave it out", name)}
		}
		if isNull(v) {
			continue
		}
		if err := read(p, name, v); err != nil {
			return nil, err
		}
	}
	return p, p.check(body, req.Stream)
}

// check looks at what members say together.
func (p *params) check(body map[string]json.RawMessage, stream bool) error {
	has := func(name string) bool { v, ok := body[name]; return ok && !isNull(v) }
	switch {
	case p.chat && len(p.messages) == 0:
		return invalid("messages", "messages is missing or empty")
	case !p.chat && p.prompt == "" && len(p.promptIDs) == 0:
		return invalid("prompt", "prompt is missing or empty")
	case p.stream != stream:
		return fmt.Errorf("engine: the request says stream=%v, its body %v", stream, p.stream)
	case has("stream_options") && !p.stream:
		return invalid("stream_options", "stream_options is for streams; set stream to true")
	case has("max_tokens") && has("max_completion_tokens"):
		return invalid("max_tokens", "max_tokens and max_completion_tokens exclude each other")
	case has("top_logprobs") && (!has("logprobs") || string(body["logprobs"]) != "true"):
		return invalid("top_logprobs", "top_logprobs needs logprobs to be true")
	}
	return nil
}

// textLength is the number of bytes in all messages or the prompt.
func (p *params) textLength() int {
	n := len(p.prompt)
	for _, m := range p.messages {
		n += len(m.Content)
	}
	return n
}

func (p *params) setMaxTokens(name string, v json.RawMessage) error {
	n, err := integer(v, name, 1, math.MaxInt32)
	p.maxTokens = int(n)
	return err
}

func (p *params) setStop(name string, v json.RawMessage) error {
	if v[0] == '"' {
		p.stop = make([]string, 1)
		if err := decode(v, name, "a string", &p.stop[0]); err != nil {
			return err
		}
	} else if err := decode(v, name, "a string or an array of strings", &p.stop); err != nil {
		return err
	}
	if len(p.stop) > maxStops {
		return invalid(name, "%d stop strings; at most %d are supported", len(p.stop), maxStops)
	}
	for _, s := range p.stop {
		if s == "" || len(s) > maxStopLength {
			return invalid(name, "a stop string has %d bytes; 1 to %d are supported", len(s), maxStopLength)
		}
	}
	return nil
}

// setPrompt reads text, in which nothing is a special token, or tokens, which may be any.
func (p *params) setPrompt(name string, v json.RawMessage) error {
	if v[0] == '"' {
		return decode(v, name, "a string", &p.prompt)
	}
	return decode(v, name, "a string or an array of tokens (one prompt per request)", &p.promptIDs)
}

func (p *params) setMessages(name string, v json.RawMessage) error {
	var list []json.RawMessage
	if err := decode(v, name, "an array", &list); err != nil {
		return err
	}
	if len(list) > maxMessages {
		return invalid(name, "%d messages; at most %d are supported", len(list), maxMessages)
	}
	for i, v := range list {
		m, err := message(v, fmt.Sprintf("%s[%d]", name, i))
		if err != nil {
			return err
		}
		p.messages = append(p.messages, m)
	}
	return nil
}

func message(v json.RawMessage, where string) (chat.Message, error) {
	var m chat.Message
	hasContent := false
	err := object(v, where, map[string]func(json.RawMessage) error{
		"role": func(v json.RawMessage) error { return decode(v, where+".role", "a string", &m.Role) },
		"name": func(v json.RawMessage) error { return decode(v, where+".name", "a string", new(string)) },
		"content": func(v json.RawMessage) (err error) {
			hasContent = true
			m.Content, err = content(v, where+".content")
			return err
		},
		"refusal": func(v json.RawMessage) error { return only(v, where+".refusal") },
	})
	if err != nil {
		return m, err
	}
	switch m.Role {
	case "system", "user", "assistant":
	case "developer": // OpenAI's later name for system
		m.Role = "system"
	default:
		return m, invalid(where+".role", "the role is %.32q; system, developer, user and assistant are supported", m.Role)
	}
	if !hasContent {
		return m, invalid(where+".content", "the message has no content")
	}
	return m, nil
}

// content reads a string or an array of text parts, which are joined with line breaks.
func content(v json.RawMessage, where string) (string, error) {
	if v[0] == '"' {
		var s string
		return s, decode(v, where, "a string", &s)
	}
	var parts []json.RawMessage
	if err := decode(v, where, "a string or an array of text parts", &parts); err != nil {
		return "", err
	}
	var texts []string
	for i, v := range parts {
		where := fmt.Sprintf("%s[%d]", where, i)
		var text string
		var kind string
		err := object(v, where, map[string]func(json.RawMessage) error{
			"type": func(v json.RawMessage) error { kind = "text"; return only(v, where+".type", `"text"`) },
			"text": func(v json.RawMessage) error { return decode(v, where+".text", "a string", &text) },
			// An answer of this engine that OpenAI's Agents SDK sends back has the message's members in its part.
			"role":    func(v json.RawMessage) error { return only(v, where+".role", `"assistant"`) },
			"refusal": func(v json.RawMessage) error { return only(v, where+".refusal") },
		})
		if err != nil {
			return "", err
		}
		if kind == "" {
			return "", invalid(where+".type", "the part has no type")
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "\n"), nil
}

func isNull(v json.RawMessage) bool { return string(v) == "null" }

// jsonMembers reads an object with its members' exact names: encoding/json ignores their case when it fills a struct.
func jsonMembers(b []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	var m map[string]json.RawMessage
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the object")
	}
	if m == nil {
		return nil, fmt.Errorf("it is null")
	}
	return m, nil
}

// object reads an object whose members are all in known. Null members are skipped.
func object(v json.RawMessage, where string, known map[string]func(json.RawMessage) error) error {
	m, err := jsonMembers(v)
	if err != nil {
		return invalid(where, "%s must be an object", where)
	}
	for name, v := range m {
		read, ok := known[name]
		if !ok {
			param := where + "." + name
			return &engine.RequestError{Status: http.StatusBadRequest, Param: param, Code: "unknown_parameter", Message: fmt.Sprintf("this engine does not support %.128q; leave it out", param)}
		}
		if isNull(v) {
			continue
		}
		if err := read(v); err != nil {
			return err
		}
	}
	return nil
}

func decode(v json.RawMessage, name, want string, to any) error {
	if err := json.Unmarshal(v, to); err != nil {
		return invalid(name, "%s must be %s", name, want)
	}
	return nil
}

func number(v json.RawMessage, name string, least, most float64, to *float64) error {
	if err := decode(v, name, "a number", to); err != nil {
		return err
	}
	if !(*to >= least && *to <= most) {
		return invalid(name, "%s is %v; it must be from %v to %v", name, *to, least, most)
	}
	return nil
}

func integer(v json.RawMessage, name string, least, most int64) (int64, error) {
	var n int64
	if err := decode(v, name, "an integer", &n); err != nil {
		return 0, err
	}
	if n < least || n > most {
		if least == most {
			return 0, invalid(name, "%s is %d; this engine supports only %d", name, n, least)
		}
		return 0, invalid(name, "%s is %d; it must be from %d to %d", name, n, least, most)
	}
	return n, nil
}

// only accepts the given JSON values, spelled without space.
func only(v json.RawMessage, name string, values ...string) error {
	var b bytes.Buffer
	if err := json.Compact(&b, v); err == nil {
		for _, s := range values {
			if b.String() == s {
				return nil
			}
		}
	}
	if len(values) == 0 {
		return invalid(name, "this engine does not support %s; leave it out", name)
	}
	return invalid(name, "this engine supports %s only as %s; leave it out", name, strings.Join(values, " or "))
}
