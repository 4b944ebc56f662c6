package responses

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bombyx-network/bombyx/internal/apierror"
)

// An answer is a response object in the making, and the events that tell of it.
type answer struct {
	head  obj // what the response says from its beginning
	id    string
	emit  func(event string, data any) // nil when nobody wants events
	seq   int
	items []*item
	open  *item   // text or reasoning, while it grows
	calls []*item // by the engine's index; they end with the answer: it may go on with any of them
	size  int

	finish string
	usage  *usage
	failed *apierror.Error // the enclave's word
}

// A form is how one kind of item is told.
type form struct {
	item, prefix string // its type, and how its id begins
	event        string // of which a delta or the end tells
	partType     string // of its one content part, if it has any
	text         string // the member that holds it
}

var (
	reasoning = &form{"reasoning", "rs_", "response.reasoning_text", "reasoning_text", "text"}
	message   = &form{"message", "msg_", "response.output_text", "output_text", "text"}
	refusal   = &form{"message", "msg_", "response.refusal", "refusal", "refusal"}
	function  = &form{"function_call", "fc_", "response.function_call_arguments", "", "arguments"}
)

// An item is one of the response's output.
type item struct {
	*form
	index        int
	id           string
	callID, name string // of a function's call
	content      strings.Builder
	status       string
}

// chunk is what is read of a chat completion, whole or an event.
type chunk struct {
	Error *struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	} `json:"error"`
	Choices []struct {
		Index   int    `json:"index"`
		Delta   delta  `json:"delta"`
		Message delta  `json:"message"`
		Finish  string `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage `json:"usage"`
}

type delta struct {
	Reasoning        string `json:"reasoning"`
	ReasoningContent string `json:"reasoning_content"` // its older name
	Content          string `json:"content"`
	Refusal          string `json:"refusal"`
	Calls            []struct {
		Index    *int   `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

type usage struct {
	Prompt        int64 `json:"prompt_tokens"`
	Completion    int64 `json:"completion_tokens"`
	PromptDetails struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func (a *answer) begin() {
	a.tell("response.created", obj{"response": a.response("in_progress")})
	a.tell("response.in_progress", obj{"response": a.response("in_progress")})
}

// take adds what a chat completion, or an event of one, says.
func (a *answer) take(data []byte) *apierror.Error {
	var c chunk
	if json.Unmarshal(data, &c) != nil {
		return untranslatable("it is malformed")
	}
	if c.Error != nil {
		a.failed = apierror.New(502, "engine_error", c.Error.Message, "")
		if c.Error.Code != "" {
			a.failed.Code = c.Error.Code
		}
		return a.failed
	}
	if len(c.Choices) > 1 {
		return untranslatable("it has %d choices", len(c.Choices))
	}
	if c.Usage != nil {
		a.usage = c.Usage
	}
	for _, choice := range c.Choices {
		if choice.Index != 0 {
			return untranslatable("it has more than one choice")
		}
		for _, d := range []*delta{&choice.Delta, &choice.Message} {
			if fault := a.add(d); fault != nil {
				return fault
			}
		}
		if choice.Finish != "" {
			a.finish = choice.Finish
		}
	}
	return nil
}

func (a *answer) add(d *delta) *apierror.Error {
	thought := d.Reasoning
	if thought == "" {
		thought = d.ReasoningContent
	}
	for _, s := range []struct {
		form *form
		text string
	}{{reasoning, thought}, {message, d.Content}, {refusal, d.Refusal}} {
		if s.text == "" {
			continue
		}
		if a.open == nil || a.open.form != s.form {
			a.close(a.open, "completed")
			a.open = a.start(&item{form: s.form})
		}
		a.grow(a.open, s.text)
	}
	for i, c := range d.Calls {
		if c.Index != nil {
			i = *c.Index
		}
		switch {
		case i < 0 || i > len(a.calls):
			return untranslatable("a tool call is out of order")
		case i == len(a.calls):
			if c.Function.Name == "" {
				return untranslatable("a tool call has no name")
			}
			if c.ID == "" {
				c.ID = fmt.Sprintf("call_%s%d", a.id, len(a.items))
			}
			a.close(a.open, "completed")
			a.open = nil
			a.calls = append(a.calls, a.start(&item{form: function, callID: c.ID, name: c.Function.Name}))
			a.size += len(c.ID) + len(c.Function.Name)
		case c.Function.Name != "" && c.Function.Name != a.calls[i].name, c.ID != "" && c.ID != a.calls[i].callID:
			return untranslatable("two tool calls have one index")
		}
		if c.Function.Arguments != "" {
			a.grow(a.calls[i], c.Function.Arguments)
		}
	}
	if a.size > maxAnswer {
		return untranslatable("it is longer than %d bytes", maxAnswer)
	}
	return nil
}

// end ends the answer and returns the response object.
func (a *answer) end() (obj, *apierror.Error) {
	status, why := "completed", any(nil)
	switch a.finish {
	case "stop", "tool_calls":
	case "length":
		status, why = "incomplete", obj{"reason": "max_output_tokens"}
	case "content_filter":
		status, why = "incomplete", obj{"reason": "content_filter"}
	default:
		if a.failed == nil {
			return nil, untranslatable("it does not say why it ended")
		}
	}
	if a.failed != nil {
		a.fail(a.failed)
		return nil, a.failed
	}
	if len(a.calls) == 0 && (a.open == nil || a.open.form == reasoning) && status == "completed" {
		a.close(a.open, status)
		a.open = a.start(&item{form: message}) // agents ask again when there is none
	}
	// What was being written when the answer was cut off is the last of it.
	for i, it := range append([]*item{a.open}, a.calls...) {
		if i == len(a.calls) {
			a.close(it, status)
		} else {
			a.close(it, "completed")
		}
	}
	r := a.response(status)
	r["incomplete_details"] = why
	if u := a.usage; u != nil {
		r["usage"] = obj{"input_tokens": u.Prompt, "output_tokens": u.Completion, "total_tokens": u.Prompt + u.Completion,
			"input_tokens_details":  obj{"cached_tokens": u.PromptDetails.Cached},
			"output_tokens_details": obj{"reasoning_tokens": u.CompletionDetails.Reasoning}}
	}
	a.tell("response."+status, obj{"response": r})
	return r, nil
}

// fail tells of the answer's end by an error.
func (a *answer) fail(f *apierror.Error) {
	for _, it := range a.items {
		if it.status == "in_progress" {
			it.status = "incomplete"
		}
	}
	r := a.response("failed")
	r["error"] = obj{"code": f.Code, "message": f.Error()}
	a.tell("response.failed", obj{"response": r})
}

// start adds an item.
func (a *answer) start(it *item) *item {
	it.index, it.id, it.status = len(a.items), fmt.Sprintf("%s%s%d", it.prefix, a.id, len(a.items)), "in_progress"
	a.items = append(a.items, it)
	a.size += 256 // of bookkeeping
	bare := it.object()
	if it.partType != "" {
		bare["content"] = []obj{}
	}
	a.tell("response.output_item.added", obj{"output_index": it.index, "item": bare})
	if it.partType != "" {
		a.about("response.content_part.added", it, obj{"part": it.part()})
	}
	return it
}

func (a *answer) grow(it *item, s string) {
	it.content.WriteString(s)
	a.size += len(s)
	if a.emit == nil {
		return
	}
	d := piece{Delta: s, ItemID: it.id, Index: it.index, Seq: a.seq, Type: it.event + ".delta"}
	if it.partType != "" {
		d.Content = new(int)
	}
	if it.form == message {
		d.Logprobs = []obj{}
	}
	a.seq++
	a.emit(d.Type, &d)
}

// A piece is the event of what an item grows by. Most events are one.
type piece struct {
	Content  *int   `json:"content_index,omitempty"`
	Delta    string `json:"delta"`
	ItemID   string `json:"item_id"`
	Logprobs []obj  `json:"logprobs,omitzero"`
	Index    int    `json:"output_index"`
	Seq      int    `json:"sequence_number"`
	Type     string `json:"type"`
}

// close ends an item; nil is none.
func (a *answer) close(it *item, status string) {
	if it == nil {
		return
	}
	it.status = status
	whole := obj{it.text: it.content.String()}
	if it.form == function {
		whole["name"] = it.name
	}
	a.about(it.event+".done", it, whole)
	if it.partType != "" {
		a.about("response.content_part.done", it, obj{"part": it.part()})
	}
	a.tell("response.output_item.done", obj{"output_index": it.index, "item": it.object()})
}

// about tells something about an item's content.
func (a *answer) about(event string, it *item, o obj) {
	o["item_id"], o["output_index"] = it.id, it.index
	if it.partType != "" {
		o["content_index"] = 0
	}
	if event == message.event+".done" {
		o["logprobs"] = []obj{}
	}
	a.tell(event, o)
}

func (a *answer) tell(event string, o obj) {
	if a.emit == nil {
		return
	}
	o["type"], o["sequence_number"] = event, a.seq
	a.seq++
	a.emit(event, o)
}

// part is the item's one part.
func (it *item) part() obj {
	p := obj{"type": it.partType, it.text: it.content.String()}
	if it.form == message {
		p["annotations"], p["logprobs"] = []obj{}, []obj{}
	}
	return p
}

func (it *item) object() obj {
	o := obj{"type": it.item, "id": it.id, "status": it.status}
	switch it.item {
	case "message":
		o["role"], o["content"] = "assistant", []obj{it.part()}
	case "reasoning":
		o["summary"], o["content"] = []obj{}, []obj{it.part()}
	default:
		o["call_id"], o["name"], o["arguments"] = it.callID, it.name, it.content.String()
	}
	return o
}

func (a *answer) response(status string) obj {
	r := obj{"status": status, "error": nil, "incomplete_details": nil, "usage": nil}
	for name, v := range a.head {
		r[name] = v
	}
	out := make([]obj, len(a.items))
	for i, it := range a.items {
		out[i] = it.object()
	}
	r["output"] = out
	return r
}
