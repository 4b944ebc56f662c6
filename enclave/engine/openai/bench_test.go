package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

// timed returns the nanoseconds of one call of f, over as many calls as the benchmark made.
func timed(b *testing.B, f func()) float64 {
	start := time.Now()
	for range b.N {
		f()
	}
	return float64(time.Since(start).Nanoseconds()) / float64(b.N)
}

// benchEvent is a vLLM event of about 128 bytes of text with the usage that the driver asks for.
var benchEvent = []byte(`{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"tiny","choices":[{"index":0,"delta":{"content":"` +
	strings.Repeat("word ", 25) + `"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":12,"total_tokens":37,"completion_tokens":25}}`)

// BenchmarkEvent is the work on one event without the socket: line, scan, usage blanked. The ratio is to decoding the same
// event with encoding/json into the members that the driver needs.
func BenchmarkEvent(b *testing.B) {
	line := append(append([]byte("data: "), benchEvent...), "\n\n"...)
	src := &repeat{line: line}
	s := &stream{options: options{stream: true, choices: 1}}
	s.events.reset(src)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := s.next(); err != nil {
			b.Fatal(err)
		}
	}
	per := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	peer := timed(b, func() {
		var e struct {
			Choices []struct {
				Index  int
				Delta  json.RawMessage
				Finish *string `json:"finish_reason"`
			}
			Usage *struct {
				Prompt     int64 `json:"prompt_tokens"`
				Completion int64 `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal(benchEvent, &e); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(per/peer, "x-encoding/json")
}

type repeat struct {
	line []byte
	at   int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], r.line[r.at:])
		n += c
		r.at = (r.at + c) % len(r.line)
	}
	return n, nil
}

func BenchmarkRewrite(b *testing.B) {
	d, err := New(Config{Address: "http://127.0.0.1:1", Flavour: VLLM})
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"model":"tiny","stream":true,"temperature":0.7,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"` + strings.Repeat("word ", 180) + `"}]}`)
	models := []engine.Model{{ID: "tiny"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.rewrite(engine.Request{Path: engine.PathChatCompletions, Body: body, Stream: true}, models); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnswer is a whole answer of 50 events over a loopback connection. The ratio is to a bare http.Client that reads
// the same answer from the same server and looks at nothing.
func BenchmarkAnswer(b *testing.B) {
	var answer bytes.Buffer
	for range 50 {
		fmt.Fprintf(&answer, "data: %s\n\n", benchEvent)
	}
	answer.WriteString(`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" + `data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":50}}` + "\n\ndata: [DONE]\n\n")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for rest := answer.Bytes(); len(rest) > 0; {
			i := bytes.Index(rest, []byte("\n\n")) + 2
			w.Write(rest[:i])
			w.(http.Flusher).Flush()
			rest = rest[i:]
		}
	}))
	defer srv.Close()
	d, err := New(Config{Address: srv.URL, Flavour: VLLM, Models: []engine.Model{{ID: "tiny"}}})
	if err != nil {
		b.Fatal(err)
	}
	req := engine.Request{Path: engine.PathChatCompletions, Stream: true, Body: []byte(`{"stream":true,"messages":[{"role":"user","content":"hi"}]}`)}
	b.ReportAllocs()
	for b.Loop() {
		s, err := d.Start(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for {
			if _, err = s.Next(); err != nil {
				break
			}
			n++
		}
		s.Close()
		if err != io.EOF || n != 51 {
			b.Fatal(n, err)
		}
	}
	per := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	peer := timed(b, func() {
		resp, err := http.Post(srv.URL, "application/json", bytes.NewReader(req.Body))
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
	b.ReportMetric(per/peer, "x-bare-client")
}
