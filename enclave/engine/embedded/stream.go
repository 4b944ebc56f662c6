package embedded

import (
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"sync"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

var _ engine.Stream = (*stream)(nil)

// errCancelled ends an answer that its reader has closed.
var errCancelled = errors.New("engine: the request was cancelled")

// stream is one request as its reader sees it.
type stream struct {
	e       *Engine
	p       *params
	s       *sequence
	ctx     context.Context
	release func() bool // of the watch on ctx
	closed  chan struct{}
	once    sync.Once

	head  []byte // what every object of the answer begins with
	buf   []byte
	usage engine.Usage
	state state
	err   error // ends Next when state is done
}

// state is what Next has delivered.
type state int

const (
	begun state = iota
	inProgress
	finished // all but the chunk with the usage
	done
)

func newStream(ctx context.Context, e *Engine, p *params, s *sequence, prompt int) *stream {
	st := &stream{e: e, p: p, s: s, ctx: ctx, closed: make(chan struct{}), usage: engine.Usage{Prompt: int64(prompt)}}
	prefix, object := "chatcmpl-", "chat.completion"
	if !p.chat {
		prefix, object = "cmpl-", "text_completion"
	} else if p.stream {
		object = "chat.completion.chunk"
	}
	st.head = append(st.head, `{"id":"`...)
	st.head = append(st.head, requestID(prefix)...)
	st.head = append(st.head, `","object":"`...)
	st.head = append(st.head, object...)
	st.head = append(st.head, `","created":`...)
	st.head = strconv.AppendInt(st.head, e.options.Now().Unix(), 10)
	st.head = append(st.head, `,"model":`...)
	st.head = appendString(st.head, e.info.ID)
	st.release = context.AfterFunc(ctx, st.cancel)
	return st
}

func (st *stream) cancel() {
	st.once.Do(func() {
		st.s.cancelled.Store(true)
		close(st.closed)
		st.e.signal()
	})
}

// Close implements [engine.Stream].
func (st *stream) Close() error {
	st.release()
	st.cancel()
	return nil
}

// Next implements [engine.Stream].
func (st *stream) Next() (engine.Event, error) {
	if st.state == done {
		return engine.Event{}, st.err
	}
	ev, err := st.next()
	if err != nil {
		st.release()
		st.state, st.err = done, err
	}
	return ev, err
}

// Ready implements [engine.Stream].
func (st *stream) Ready() bool { return st.state == finished || st.state == done || len(st.s.out) > 0 }

func (st *stream) next() (engine.Event, error) {
	switch {
	case st.state == finished && st.p.stream && st.p.includeUsage:
		st.state, st.err = done, io.EOF
		st.release()
		return st.event(st.appendUsage(append(st.object(), `,"choices":[]`...))), nil
	case st.state == finished:
		return engine.Event{}, io.EOF
	case !st.p.stream:
		return st.whole()
	case st.state == begun && st.p.chat:
		st.state = inProgress
		b := append(st.object(), `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]`...)
		return st.event(st.appendNoUsage(b)), nil
	}
	step, err := st.visible()
	if err != nil {
		return engine.Event{}, err
	}
	if step.finish != "" {
		st.state = finished
	}
	b := append(st.object(), `,"choices":[{"index":0,`...)
	if st.p.chat {
		b = append(b, `"delta":{`...)
		if step.text != "" {
			b = append(b, `"content":`...)
			b = appendString(b, step.text)
		}
		b = append(b, '}')
	} else {
		b = append(b, `"text":`...)
		b = appendString(b, step.text)
	}
	b = st.appendLogprobs(b, step.choices)
	b = appendFinish(b, step.finish)
	return st.event(st.appendNoUsage(append(b, `}]`...))), nil
}

// whole waits for the end and returns the answer as one object.
func (st *stream) whole() (engine.Event, error) {
	var text []byte
	var choices []choice
	for {
		step, err := st.receive()
		if err != nil {
			return engine.Event{}, err
		}
		text = append(text, step.text...)
		choices = append(choices, step.choices...)
		if step.finish == "" {
			continue
		}
		st.state = finished
		b := append(st.object(), `,"choices":[{"index":0,`...)
		if st.p.chat {
			b = append(b, `"message":{"role":"assistant","content":`...)
			b = appendString(b, string(text))
			b = append(b, `,"refusal":null}`...)
		} else {
			b = append(b, `"text":`...)
			b = appendString(b, string(text))
		}
		b = st.appendLogprobs(b, choices)
		b = appendFinish(b, step.finish)
		return st.event(st.appendUsage(append(b, `}]`...))), nil
	}
}

// visible waits for the next step with text and joins those without to it. An event comes after ahead tokens at the latest,
// even without text, so that the usage stays current.
func (st *stream) visible() (step, error) {
	var choices []choice
	for n := 1; ; n++ {
		s, err := st.receive()
		if err != nil {
			return step{}, err
		}
		choices = append(choices, s.choices...)
		if s.text != "" || s.finish != "" || n == ahead {
			s.choices = choices
			return s, nil
		}
	}
}

// receive waits for the next step.
func (st *stream) receive() (step, error) {
	select { // a closed stream ends at once, whatever is ready
	case <-st.closed:
		return step{}, st.cause()
	default:
	}
	select {
	case <-st.closed:
		return step{}, st.cause()
	case s, ok := <-st.s.out:
		if !ok { // the goroutine saw the cancellation first, or the engine was closed while the reader slept
			return step{}, st.cause()
		}
		st.e.signal() // there is room again
		if s.err != nil {
			return step{}, s.err
		}
		st.usage = s.usage
		return s, nil
	}
}

// cause is why an answer ended early.
func (st *stream) cause() error {
	if err := context.Cause(st.ctx); err != nil {
		return err
	}
	if st.s.cancelled.Load() {
		return errCancelled
	}
	return errClosed
}

func (st *stream) object() []byte { return append(st.buf[:0], st.head...) }

func (st *stream) event(b []byte) engine.Event {
	st.buf = append(b, '}')
	return engine.Event{Data: st.buf, Usage: st.usage}
}

func (st *stream) appendUsage(b []byte) []byte {
	u := st.usage
	b = append(b, `,"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, u.Prompt, 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, u.Completion, 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, u.Prompt+u.Completion, 10)
	b = append(b, `,"prompt_tokens_details":{"cached_tokens":`...)
	b = strconv.AppendInt(b, u.Cached, 10)
	b = append(b, `},"completion_tokens_details":{"reasoning_tokens":`...)
	b = strconv.AppendInt(b, u.Reasoning, 10)
	return append(b, `}}`...)
}

// appendNoUsage adds the null that chunks before the one with the usage have.
func (st *stream) appendNoUsage(b []byte) []byte {
	if st.p.includeUsage {
		b = append(b, `,"usage":null`...)
	}
	return b
}

func appendFinish(b []byte, reason string) []byte {
	if reason == "" {
		return append(b, `,"finish_reason":null`...)
	}
	b = append(b, `,"finish_reason":"`...)
	return append(append(b, reason...), '"')
}

func (st *stream) appendLogprobs(b []byte, choices []choice) []byte {
	if st.p.logprobs < 0 || len(choices) == 0 {
		return append(b, `,"logprobs":null`...)
	}
	b = append(b, `,"logprobs":{"content":[`...)
	for i, c := range choices {
		if i > 0 {
			b = append(b, ',')
		}
		b = st.appendTokenProb(append(b, '{'), c.tokenProb)
		b = append(b, `,"top_logprobs":[`...)
		for j, a := range c.alternatives {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(st.appendTokenProb(append(b, '{'), a), '}')
		}
		b = append(b, `]}`...)
	}
	return append(b, `],"refusal":null}`...)
}

func (st *stream) appendTokenProb(b []byte, p tokenProb) []byte {
	text := st.e.tokenizer.Text(p.id)
	b = append(b, `"token":`...)
	b = appendString(b, text)
	b = append(b, `,"logprob":`...)
	b = strconv.AppendFloat(b, max(p.logprob, -math.MaxFloat32), 'g', -1, 32)
	b = append(b, `,"bytes":[`...)
	for i := range len(text) {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(text[i]), 10)
	}
	return append(b, ']')
}

// appendString appends s as a JSON string; what is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
