package openai

import (
	"bytes"
	"errors"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

// seen is what the driver needs to know of one event. Everything else in it is the client's and stays unread.
type seen struct {
	choices  int          // entries of "choices"
	written  int          // of these, those that carry text, reasoning or a tool call
	finished uint64       // bit i: choice i has a finish_reason
	failed   bool         // a finish_reason that says the engine gave up
	counted  bool         // usage holds counts
	usage    engine.Usage // of the whole request so far
	err      []byte       // an error object, wrapped or not

	usageAt, timingsAt span // values to blank
}

type span struct{ from, to int }

var errMalformed = errors.New("openai: the engine sent an event that is not the expected JSON")

// most tokens that are believed; keeps sums far from overflow
const maxCount = 1 << 40

// scan walks over one event once. It checks the shape of what it reads and only skips the rest.
func scan(b []byte) (seen, error) {
	var e seen
	s := scanner{b: b}
	isError := false
	ok := s.object(func(key []byte) bool {
		switch string(key) {
		case "choices":
			return s.choices(&e)
		case "usage":
			e.usageAt.from = s.at
			if s.null() {
				e.usageAt = span{}
				return true
			}
			e.counted = true
			ok := s.usage(&e.usage)
			e.usageAt.to = s.at
			return ok
		case "timings":
			e.timingsAt.from = s.at
			if s.null() {
				e.timingsAt = span{}
				return true
			}
			ok := s.timings(&e)
			e.timingsAt.to = s.at
			return ok
		case "error":
			from := s.at
			if s.null() {
				return true
			}
			ok := s.skip()
			e.err = b[from:s.at]
			return ok
		case "object":
			from := s.at
			ok := s.skip()
			isError = string(b[from:s.at]) == `"error"`
			return ok
		}
		return s.skip()
	})
	s.space()
	if !ok || s.at != len(b) {
		return seen{}, errMalformed
	}
	if isError && e.err == nil {
		e.err = b
	}
	return e, nil
}

// blank overwrites the values at these places with null, in place, and returns the shorter event.
func blank(b []byte, spans ...span) []byte {
	if len(spans) == 2 && spans[0].from < spans[1].from { // the last one first, so that the other stays where it is
		spans[0], spans[1] = spans[1], spans[0]
	}
	for _, p := range spans {
		if p.to-p.from >= len("null") { // an empty object says nothing
			n := p.from + copy(b[p.from:], "null")
			b = b[:n+copy(b[n:], b[p.to:])]
		}
	}
	return b
}

type scanner struct {
	b  []byte
	at int
}

func (s *scanner) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// take consumes c after white space.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.at < len(s.b) && s.b[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) null() bool {
	if bytes.HasPrefix(s.b[s.at:], []byte("null")) {
		s.at += 4
		return true
	}
	return false
}

// object calls member at the start of each value; member consumes it. A member that appears twice is the caller's affair:
// the later one counts, as in encoding/json.
func (s *scanner) object(member func(key []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		s.space()
		from := s.at + 1
		if !s.text() {
			return false
		}
		key := s.b[from : s.at-1]
		if !s.take(':') {
			return false
		}
		s.space()
		if !member(key) {
			return false
		}
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

// text consumes a string.
func (s *scanner) text() bool {
	if s.at >= len(s.b) || s.b[s.at] != '"' {
		return false
	}
	i := s.at + 1
	for {
		n := bytes.IndexByte(s.b[i:], '"')
		if n < 0 {
			return false
		}
		i += n
		slashes := 0
		for j := i - 1; j > s.at && s.b[j] == '\\'; j-- {
			slashes++
		}
		i++
		if slashes%2 == 0 {
			s.at = i
			return true
		}
	}
}

// skip consumes a value without looking into it.
func (s *scanner) skip() bool {
	depth := 0
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case '"':
			if !s.text() {
				return false
			}
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			depth--
			s.at++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return false
			}
			s.at++
			continue
		default: // a number or a literal
			from := s.at
			for s.at < len(s.b) && isPlain(s.b[s.at]) {
				s.at++
			}
			if s.at == from {
				return false
			}
		}
		if depth == 0 {
			return true
		}
		if depth < 0 {
			return false
		}
	}
	return false
}

func isPlain(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E'
}

// count consumes a number of tokens; null is 0.
func (s *scanner) count(n *int64) bool {
	if s.null() {
		return true
	}
	from := s.at
	v := int64(0)
	for s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9' {
		if v = v*10 + int64(s.b[s.at]-'0'); v > maxCount {
			return false
		}
		s.at++
	}
	*n = v
	return s.at > from
}

func (s *scanner) choices(e *seen) bool {
	if s.null() {
		return true
	}
	if !s.take('[') {
		return false
	}
	if s.take(']') {
		return true
	}
	for {
		s.space()
		if !s.choice(e) {
			return false
		}
		if s.take(']') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *scanner) choice(e *seen) bool {
	var index int64
	done, written := false, false
	ok := s.object(func(key []byte) bool {
		switch string(key) {
		case "index":
			return s.count(&index)
		case "finish_reason":
			if s.null() {
				return true
			}
			from := s.at
			if !s.text() {
				return false
			}
			switch string(s.b[from:s.at]) {
			case `""`:
				return true
			case `"abort"`, `"error"`:
				e.failed = true
			}
			done = true
			return true
		case "delta", "message":
			if s.null() {
				return true
			}
			return s.object(func(key []byte) bool {
				from := s.at
				if !s.skip() {
					return false
				}
				switch v := s.b[from:s.at]; {
				case string(key) == "role", string(v) == "null", string(v) == `""`, string(v) == "[]", string(v) == "{}":
				default:
					written = true
				}
				return true
			})
		case "text":
			from := s.at
			if !s.skip() {
				return false
			}
			switch string(s.b[from:s.at]) {
			case `""`, "null":
			default:
				written = true
			}
			return true
		}
		return s.skip()
	})
	if !ok || index >= maxChoices {
		return false
	}
	e.choices++
	if written {
		e.written++
	}
	if done {
		e.finished |= 1 << index
	}
	return true
}

func (s *scanner) usage(u *engine.Usage) bool {
	return s.object(func(key []byte) bool {
		switch string(key) {
		case "prompt_tokens":
			return s.count(&u.Prompt)
		case "completion_tokens":
			return s.count(&u.Completion)
		case "reasoning_tokens": // SGLang
			return s.count(&u.Reasoning)
		case "prompt_tokens_details":
			return s.detail("cached_tokens", &u.Cached)
		case "completion_tokens_details":
			return s.detail("reasoning_tokens", &u.Reasoning)
		}
		return s.skip()
	})
}

func (s *scanner) detail(name string, n *int64) bool {
	if s.null() {
		return true
	}
	return s.object(func(key []byte) bool {
		if string(key) == name {
			return s.count(n)
		}
		return s.skip()
	})
}

// timings reads llama.cpp's counts, which it gives while it has no usage to give.
func (s *scanner) timings(e *seen) bool {
	var cached, prompt, predicted int64
	ok := s.object(func(key []byte) bool {
		switch string(key) {
		case "cache_n":
			return s.count(&cached)
		case "prompt_n":
			return s.count(&prompt)
		case "predicted_n":
			return s.count(&predicted)
		}
		return s.skip()
	})
	if ok && !e.counted {
		e.counted = true
		e.usage = engine.Usage{Prompt: cached + prompt, Cached: cached, Completion: predicted}
	}
	return ok
}
