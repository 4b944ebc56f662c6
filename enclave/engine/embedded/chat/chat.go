// Package chat renders conversations through a model's own chat template, which is a Jinja2 program in its GGUF file.
//
// The template is part of the model and as trusted as its weights. Messages are not: they reach the template in protected
// form, so that nothing in them becomes a special token.
package chat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/tokens"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/tokenizer"
)

// Limits on what a template may do.
const (
	maxTemplate = 256 << 10 // bytes
	maxRange    = 100_000   // elements of range()
	maxNumber   = 1_000_000 // written out: strings can be multiplied
)

// Message is one message of a conversation.
type Message struct {
	Role    string // system, user, assistant, ...: one of a fixed set, checked by the caller
	Content string
}

// Template is a parsed chat template. It is safe for concurrent use.
type Template struct {
	t         *exec.Template
	tokenizer *tokenizer.Tokenizer
	forgets   bool // leaves the reasoning out of earlier answers
}

// endThink ends the reasoning part of an answer.
const endThink = "</think>"

// refusal is what a template says through raise_exception.
type refusal struct{ message string }

func (r *refusal) Error() string { return r.message }

// Refused reports whether err is a template's own refusal of a conversation, and why. The reason comes from the template.
func Refused(err error) (reason string, ok bool) {
	var r *refusal
	if errors.As(err, &r) {
		return r.message, true
	}
	return "", false
}

// New parses the template in source.
func New(source string, t *tokenizer.Tokenizer) (_ *Template, err error) {
	if len(source) > maxTemplate {
		return nil, fmt.Errorf("the chat template has %d bytes; at most %d are supported", len(source), maxTemplate)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("parsing the chat template: %v", r)
		}
	}()
	// The settings of Hugging Face's transformers, for which templates are written. The loader knows no other template.
	settings := config.New()
	settings.TrimBlocks, settings.LeftStripBlocks = true, true
	for s := tokens.LexAll(source, settings); !s.End(); s.Next() {
		if t := s.Current(); t.Type == tokens.Integer || t.Type == tokens.Float {
			if n, err := strconv.ParseFloat(t.Val, 64); err != nil || n > maxNumber {
				return nil, fmt.Errorf("the chat template has the number %.32s; at most %d is supported", t.Val, maxNumber)
			}
		}
	}
	loader, err := loaders.NewMemoryLoader(map[string]string{"/chat": source})
	if err != nil {
		return nil, err
	}
	parsed, err := exec.NewTemplate("/chat", settings, loader, &exec.Environment{
		Context: exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables).Update(exec.NewContext(map[string]any{
			"range": boundedRange,
		})),
		Filters:           builtins.Filters,
		Tests:             builtins.Tests,
		ControlStructures: builtins.ControlStructures,
		Methods:           methods,
	})
	if err != nil {
		return nil, fmt.Errorf("parsing the chat template: %s", tail(err))
	}
	out := &Template{parsed, t, strings.Contains(source, "split('"+endThink+"'") || strings.Contains(source, `split("`+endThink+`"`)}
	// What the template needs and we lack shows now, and with a text of nobody's.
	_, err = out.render([]Message{{"user", "Hello!"}, {"assistant", "Hello."}, {"user", "Who are you?"}})
	if _, refused := Refused(err); err != nil && !refused {
		return nil, fmt.Errorf("rendering the chat template: %s", tail(err))
	}
	return out, nil
}

// tail is the end of an error's text, which says what is wrong; before it, the whole template may come.
func tail(err error) string {
	const most = 300
	s := err.Error()
	if len(s) > most {
		s = "..." + strings.ToValidUTF8(s[len(s)-most:], "")
	}
	return s
}

// errRender hides why a template failed, because the reason quotes the conversation and errors end up in logs.
var errRender = errors.New("the chat template failed on a conversation")

// Render appends the tokens of a conversation that asks for the assistant's answer to ids. Its errors say nothing of the
// conversation, but for a refusal.
func (t *Template) Render(ids []int, messages []Message) (_ []int, err error) {
	defer func() {
		if recover() != nil {
			err = errRender
		}
	}()
	text, err := t.render(messages)
	if _, refused := Refused(err); err != nil && !refused {
		return nil, errRender
	}
	if err != nil {
		return nil, err
	}
	if bos, always := t.tokenizer.BOS(); always && !strings.HasPrefix(text, t.tokenizer.Literal(bos)) {
		ids = append(ids, bos)
	}
	return t.tokenizer.EncodeMarkup(ids, text), nil
}

// render returns the template's output, in which messages are protected.
func (t *Template) render(messages []Message) (string, error) {
	conversation := make(list, len(messages))
	for i, m := range messages {
		content := m.Content
		if at := strings.LastIndex(content, endThink); at >= 0 && t.forgets && m.Role == "assistant" {
			content = strings.TrimLeft(content[at+len(endThink):], "\n") // the template cannot find it in protected text
		}
		content, err := t.tokenizer.Protect(content)
		if err != nil {
			return "", &refusal{fmt.Sprintf("message %d: %v", i, err)}
		}
		conversation[i] = map[string]any{"role": m.Role, "content": content}
	}
	bos, _ := t.tokenizer.BOS()
	var refused *refusal
	text, err := t.t.ExecuteToString(exec.NewContext(map[string]any{
		"messages":              conversation,
		"add_generation_prompt": true,
		"bos_token":             t.tokenizer.Literal(bos),
		"eos_token":             t.tokenizer.Literal(t.tokenizer.EOS()),
		"tools":                 nil,
		"raise_exception": func(_ *exec.Evaluator, args *exec.VarArgs) (any, error) {
			refused = &refusal{"the chat template refuses the conversation"}
			if len(args.Args) == 1 {
				refused = &refusal{args.Args[0].String()}
			}
			return nil, refused
		},
	}))
	if refused != nil {
		return "", refused
	}
	return text, err
}

// boundedRange is Jinja2's range() without its potential for endless work.
func boundedRange(_ *exec.Evaluator, args *exec.VarArgs) ([]int, error) {
	var n []int
	for _, a := range args.Args {
		if !a.IsInteger() {
			return nil, errors.New("range takes integers")
		}
		n = append(n, a.Integer())
	}
	start, stop, step := 0, 0, 1
	switch len(n) {
	case 1:
		stop = n[0]
	case 2:
		start, stop = n[0], n[1]
	case 3:
		start, stop, step = n[0], n[1], n[2]
	default:
		return nil, errors.New("range takes one to three integers")
	}
	if step == 0 {
		return nil, errors.New("range by steps of 0")
	}
	var out []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) == maxRange {
			return nil, fmt.Errorf("range of more than %d", maxRange)
		}
		out = append(out, i)
	}
	return out, nil
}
