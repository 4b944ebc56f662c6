// Package responses serves OpenAI's Responses API, POST /v1/responses, from
// chat completions: it turns the request into one of those, and the answer, in
// one piece or as events, into a response object.
//
// It keeps nothing between requests. What OpenAI keeps for its users (earlier
// responses, conversations, files) and runs for them (hosted tools, work in the
// background) is refused with what to do instead, and so is every member that
// it does not know. See https://platform.openai.com/docs/api-reference/responses.
package responses

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
)

// Path is what Serve answers.
const Path = "/v1/responses"

const (
	maxEvent  = 4 << 20       // bytes of an event of the chat completion
	maxAnswer = 4 << 20       // bytes of an answer's text, which its last events repeat
	maxWhole  = 4 * maxAnswer // bytes of a chat completion in one piece
)

// obj is a JSON object that is made here.
type obj = map[string]any

// Serve answers a request whose body is a strict JSON object. ask answers a
// chat completion: its body must end in io.EOF only once the answer is known
// to be whole, and in an error otherwise. So does the body that Serve returns:
// events then end in response.failed and that error, never in
// response.completed. Closing it closes the other.
func Serve(body []byte, now time.Time, ask func(chat []byte) (*http.Response, *apierror.Error)) (*http.Response, *apierror.Error) {
	req, fault := translate(body)
	if fault != nil {
		return nil, fault
	}
	resp, fault := ask(req.chat)
	if fault != nil {
		return nil, fault
	}
	id := resp.Header.Get("X-Request-Id") // as in the receipt
	req.head["id"], req.head["created_at"] = "resp_"+id, now.Unix()
	a := &answer{head: req.head, id: id}
	if req.stream {
		resp.Body = newStream(a, resp.Body)
		return resp, nil
	}
	defer resp.Body.Close()
	whole, fault := a.whole(resp.Body)
	if fault != nil {
		return nil, fault
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(whole)), int64(len(whole))
	return resp, nil
}

// whole reads a chat completion that is not streamed.
func (a *answer) whole(src io.Reader) ([]byte, *apierror.Error) {
	b, err := io.ReadAll(io.LimitReader(src, maxWhole+1))
	if err != nil {
		return nil, broken(err)
	}
	if len(b) > maxWhole {
		return nil, untranslatable("it is longer than %d bytes", maxWhole)
	}
	if fault := a.take(b); fault != nil {
		return nil, fault
	}
	out, fault := a.end()
	if fault != nil {
		return nil, fault
	}
	return encode(out), nil
}

// A stream turns a streamed chat completion into events, as it is read.
type stream struct {
	a     *answer
	src   io.ReadCloser
	lines *bufio.Reader
	line  []byte
	done  bool // the chat completion has said that it ends
	out   bytes.Buffer
	err   error // after out
}

func newStream(a *answer, src io.ReadCloser) *stream {
	s := &stream{a: a, src: src, lines: bufio.NewReaderSize(src, 8<<10)}
	e := encoder(&s.out)
	a.emit = func(event string, data any) {
		s.out.WriteString("event: " + event + "\ndata: ")
		must(e.Encode(data)) // which ends the line
		s.out.WriteByte('\n')
	}
	a.begin()
	return s
}

// Close may be called while Read waits.
func (s *stream) Close() error { return s.src.Close() }

func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for s.err == nil && (s.out.Len() == 0 || s.out.Len() < len(p) && s.arrived()) {
		s.err = s.next()
	}
	if s.out.Len() > 0 {
		return s.out.Read(p)
	}
	return 0, s.err
}

// arrived reports whether next would not wait.
func (s *stream) arrived() bool {
	b, _ := s.lines.Peek(s.lines.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

// next takes one line.
func (s *stream) next() error {
	line, err := s.read()
	var fault *apierror.Error
	switch data, isData := bytes.CutPrefix(line, []byte("data: ")); {
	case err == io.EOF && (s.done || s.a.failed != nil):
		if _, fault = s.a.end(); fault == nil || fault == s.a.failed {
			return io.EOF
		}
	case err == io.EOF:
		fault = untranslatable("it ends early")
	case err != nil:
		s.a.fail(broken(err))
		return err
	case len(line) == 0 || line[0] == ':':
		return nil
	case !isData || s.done || s.a.failed != nil:
		fault = untranslatable("it is not the event stream of one answer")
	case string(data) == "[DONE]":
		s.done = true
		return nil
	default:
		if fault = s.a.take(data); fault == nil || fault == s.a.failed {
			return nil // what the enclave says of a failure, too, counts with the stream's end only
		}
	}
	s.a.fail(fault)
	return fault
}

// read returns the next line without its end, valid until the following read.
func (s *stream) read() ([]byte, error) {
	s.line = s.line[:0]
	for {
		part, err := s.lines.ReadSlice('\n')
		s.line = append(s.line, part...)
		switch {
		case len(s.line) > maxEvent:
			return nil, untranslatable("an event is longer than %d bytes", maxEvent)
		case err == nil:
			return s.line[:len(s.line)-1], nil
		case err == io.EOF && len(s.line) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}

func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

func encode(v any) []byte {
	var b bytes.Buffer
	must(encoder(&b).Encode(v))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// must is for what is made of strings, numbers and JSON that has been checked.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// broken is what became of the sealed answer.
func broken(err error) *apierror.Error {
	var f *apierror.Error
	if !errors.As(err, &f) {
		f = apierror.New(502, "answer_broken", err.Error(), "")
	}
	return f
}

func untranslatable(format string, args ...any) *apierror.Error {
	return apierror.New(502, "untranslatable", "the engine's answer cannot be put as a response: "+fmt.Sprintf(format, args...), "use /v1/chat/completions")
}
