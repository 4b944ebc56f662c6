package openai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

var (
	errStalled    = errors.New("openai: the engine sent nothing for too long")
	errSlow       = errors.New("openai: the engine took too long over the answer")
	errClosed     = errors.New("openai: the stream is closed")
	errTruncated  = fmt.Errorf("openai: the engine ended the answer before it was finished: %w", io.ErrUnexpectedEOF)
	errAborted    = errors.New("openai: the engine gave up in the middle of the answer")
	errUncounted  = errors.New("openai: the engine did not say how many tokens the answer has")
	errOvercount  = errors.New("openai: the engine counts more tokens than the request allows")
	errEventLimit = fmt.Errorf("openai: an event exceeds %d bytes", maxEvent)
	errNotSSE     = errors.New("openai: the engine sent a line that is no server-sent event")
)

// stream is one running request.
type stream struct {
	options
	embedding *embedding // nil for completions

	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	wait   time.Duration
	stall  *time.Timer // runs while a read waits
	limit  *time.Timer
	closed atomic.Bool // by Close, or because the answer ended

	// Of Next alone:
	events   sse
	usage    engine.Usage
	final    bool   // a usage report came after or with the last finish_reason
	finished uint64 // choices that have ended
	held     []byte // the event before this one, once a choice has ended: the last one shall carry the final usage
	holding  bool
	done     error // what Next returns from now on
}

// Read reads the body under the stall timer.
func (s *stream) Read(p []byte) (int, error) {
	s.stall.Reset(s.wait)
	n, err := s.body.Read(p)
	s.stall.Stop()
	return n, err
}

// why picks the error to report when reading failed.
func (s *stream) why(cause, err error) error {
	switch {
	case s.closed.Load():
		return errClosed
	case s.parent.Err() != nil:
		return context.Cause(s.parent)
	case cause != nil:
		return cause
	}
	return err
}

func (s *stream) Next() (engine.Event, error) {
	if s.done != nil {
		return engine.Event{}, s.done
	}
	if s.closed.Load() {
		return engine.Event{}, errClosed
	}
	ev, err := s.next()
	if err != nil {
		s.end(err)
		return engine.Event{}, s.done
	}
	return ev, nil
}

// Ready implements [engine.Stream].
func (s *stream) Ready() bool { return s.done != nil || s.holding || s.stream && s.events.ready() }

func (s *stream) next() (engine.Event, error) {
	if !s.stream {
		return s.whole()
	}
	for {
		data, err := s.events.next()
		if err == io.EOF {
			if s.holding {
				s.holding = false
				if err := s.complete(); err != nil {
					return engine.Event{}, err
				}
				s.done = io.EOF
				s.release()
				return engine.Event{Data: s.held, Usage: s.usage}, nil
			}
			if err := s.complete(); err != nil {
				return engine.Event{}, err
			}
			return engine.Event{}, io.EOF
		}
		if err != nil {
			return engine.Event{}, s.why(context.Cause(s.ctx), err)
		}
		e, err := scan(data)
		if err != nil {
			return engine.Event{}, err
		}
		if e.err != nil {
			return engine.Event{}, requestError(http.StatusInternalServerError, e.err)
		}
		if e.failed {
			return engine.Event{}, errAborted
		}
		s.finished |= e.finished
		if err := s.count(&e); err != nil {
			return engine.Event{}, err
		}
		switch {
		case e.choices > 0 && s.everyUsage:
			data = blank(data, e.timingsAt)
		case e.choices > 0 || !s.wantUsage:
			data = blank(data, e.usageAt, e.timingsAt)
		default:
			data = blank(data, e.timingsAt)
		}
		if e.choices == 0 && e.counted && !s.wantUsage {
			continue // the final usage event, which only we asked for
		}
		if s.finished == 0 {
			return engine.Event{Data: data, Usage: s.usage}, nil
		}
		if !s.holding {
			s.held, s.holding = append(s.held[:0], data...), true
			continue
		}
		// data lives in the reader's buffer until the following Next; the one before it goes out.
		out := s.held
		s.held = append([]byte(nil), data...)
		return engine.Event{Data: out, Usage: s.usage}, nil
	}
}

// whole reads an answer that is not streamed.
func (s *stream) whole() (engine.Event, error) {
	if s.final {
		return engine.Event{}, io.EOF
	}
	limit := int64(maxAnswer)
	if s.embedding != nil {
		limit = maxEmbeddings
	}
	b, err := readAll(s.body, limit)
	if err != nil {
		return engine.Event{}, s.why(context.Cause(s.ctx), err)
	}
	if s.embedding != nil {
		if b, s.usage, err = s.embedding.answer(b); err != nil {
			return engine.Event{}, err
		}
		s.final = true
		return engine.Event{Data: b, Usage: s.usage}, nil
	}
	e, err := scan(b)
	if err != nil {
		return engine.Event{}, err
	}
	if e.err != nil {
		return engine.Event{}, requestError(http.StatusInternalServerError, e.err)
	}
	if e.failed {
		return engine.Event{}, errAborted
	}
	s.finished = e.finished
	if err := s.count(&e); err != nil {
		return engine.Event{}, err
	}
	if err := s.complete(); err != nil {
		return engine.Event{}, err
	}
	b = blank(b, e.timingsAt)
	if bytes.ContainsAny(b, "\r\n") {
		var c bytes.Buffer
		if json.Compact(&c, b) != nil {
			return engine.Event{}, errMalformed
		}
		b = c.Bytes()
	}
	return engine.Event{Data: b, Usage: s.usage}, nil
}

// count takes the event's counts, which never fall. An event with text and without counts is at least a token of each
// choice in it, so that a server which counts only at the end is metered too.
func (s *stream) count(e *seen) error {
	most := int64(maxCount)
	if s.tokens > 0 {
		most = int64(s.tokens) * int64(s.options.choices)
	}
	if !e.counted {
		s.usage.Completion = min(s.usage.Completion+int64(e.written), most)
		return nil
	}
	u := e.usage
	if u.Completion > most {
		return errOvercount
	}
	s.usage.Prompt = max(s.usage.Prompt, u.Prompt)
	s.usage.Cached = max(s.usage.Cached, min(u.Cached, u.Prompt))
	s.usage.Completion = max(s.usage.Completion, u.Completion)
	s.usage.Reasoning = max(s.usage.Reasoning, min(u.Reasoning, u.Completion))
	s.final = s.allFinished()
	return nil
}

func (s *stream) allFinished() bool { return bits.OnesCount64(s.finished) >= s.choices }

// complete reports whether the answer may end here.
func (s *stream) complete() error {
	if !s.allFinished() {
		return errTruncated
	}
	if !s.final {
		return errUncounted
	}
	return nil
}

// end makes err what Next returns, and lets go of the connection.
func (s *stream) end(err error) {
	s.done = err
	if err == io.EOF {
		s.release()
		return
	}
	s.Close()
	s.events.free()
}

// release gives the connection back after a complete answer. What follows it is at most the end of the chunked body; a
// server that sends more, or keeps the body open, loses the connection.
func (s *stream) release() {
	if s.closed.Swap(true) {
		return
	}
	s.events.free()
	s.limit.Stop()
	s.stall.Reset(time.Second)
	go func() {
		io.CopyN(io.Discard, s.body, 256)
		s.stall.Stop()
		s.body.Close()
		s.cancel(nil)
	}()
}

func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.cancel(errClosed)
	s.stall.Stop()
	s.limit.Stop()
	if s.body != nil {
		s.body.Close()
	}
	return nil
}

// sse reads the data lines of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). These
// servers put every event on one line, so a line is handed on before the blank line that ends its event arrives, and an
// event of several lines fails as the JSON that it then is not.
type sse struct {
	r    *bufio.Reader
	long []byte // a line longer than r's buffer
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 8<<10) }}

func (e *sse) reset(r io.Reader) {
	e.r = readers.Get().(*bufio.Reader)
	e.r.Reset(r)
}

func (e *sse) free() {
	if e.r != nil {
		e.r.Reset(nil)
		readers.Put(e.r)
		e.r = nil
	}
}

// next returns the data of the next event, without line breaks and valid until the next call. It returns io.EOF at
// "[DONE]" and at the end of the body.
func (e *sse) next() ([]byte, error) {
	for {
		line, err := e.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 || line[0] == ':' { // comments keep a connection alive
			continue
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = bytes.TrimPrefix(data, []byte(" "))
			if string(data) == "[DONE]" {
				return nil, io.EOF
			}
			if bytes.IndexByte(data, '\r') >= 0 {
				return nil, errNotSSE
			}
			return data, nil
		}
		switch name, _, _ := strings.Cut(string(line[:min(len(line), 8)]), ":"); name {
		case "event", "id", "retry":
		default:
			return nil, errNotSSE
		}
	}
}

// ready reports whether the data of an event has been read from the body.
func (e *sse) ready() bool {
	for e.r != nil && e.r.Buffered() > 0 {
		b, err := e.r.Peek(e.r.Buffered())
		if err != nil {
			return false
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return false
		}
		if bytes.HasPrefix(b, []byte("data:")) {
			return true
		}
		if end > 1 { // not the blank line after an event
			return false
		}
		e.r.Discard(end + 1)
	}
	return false
}

func (e *sse) line() ([]byte, error) {
	line, err := e.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		e.long = append(e.long[:0], line...)
		for err == bufio.ErrBufferFull {
			if line, err = e.r.ReadSlice('\n'); len(e.long)+len(line) > maxEvent {
				return nil, errEventLimit
			}
			e.long = append(e.long, line...)
		}
		line = e.long
	}
	if err != nil {
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// refusal turns an answer that is not 200 into an error. Only what concerns the request itself reaches the client; what
// the engine says about its own trouble is not repeated, not even in our error's text, because engines quote the prompt
// and error texts end up in logs.
func refusal(resp *http.Response) error {
	switch code := resp.StatusCode; code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusTooManyRequests:
		b, err := readAll(resp.Body, maxError)
		if err != nil {
			b = nil
		}
		return requestError(code, b)
	case http.StatusServiceUnavailable:
		return &engine.RequestError{Status: code, Message: "the engine is busy or still loading its model: try again in a moment"}
	default:
		return fmt.Errorf("openai: the engine answered with status %d", code)
	}
}

// requestError reads the error objects of the four servers: OpenAI's {"error":{...}}, its inner part alone (SGLang, and
// what follows "error": in a stream), {"error":"text"} and FastAPI's {"detail":...}.
func requestError(status int, b []byte) *engine.RequestError {
	type object struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Param   json.RawMessage `json:"param"`
		Code    json.RawMessage `json:"code"`
	}
	var outer struct {
		object
		Error  json.RawMessage `json:"error"`
		Detail json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(b, &outer) != nil && json.Unmarshal(b, &outer.Message) != nil {
		outer.Message = ""
	}
	if len(outer.Error) > 0 && json.Unmarshal(outer.Error, &outer.object) != nil {
		outer.Message = str(outer.Error)
	}
	e := &engine.RequestError{Status: status, Message: outer.Message, Type: outer.Type, Param: str(outer.Param), Code: str(outer.Code)}
	if e.Message == "" {
		e.Message = str(outer.Detail)
	}
	if e.Message == "" {
		e.Message = "the engine refused the request without saying why"
	}
	var code int
	if json.Unmarshal(outer.Code, &code) == nil { // a status, not one of OpenAI's codes
		e.Code = ""
		if code >= 400 && code <= 599 {
			e.Status = code
		}
	}
	e.Message, e.Type, e.Param, e.Code = printable(e.Message, 1000), printable(e.Type, 64), printable(e.Param, 64), printable(e.Code, 64)
	return e
}

// str is the text of a JSON string, and nothing for any other value.
func str(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
