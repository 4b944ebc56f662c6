// Package engine defines what the enclave needs from a language-model runtime: it takes an OpenAI-compatible request
// and yields OpenAI-compatible JSON objects with token counts.
//
// Two runtimes implement [Engine]. Package embedded runs a GGUF model inside the enclave's own process; package openai
// drives a server (vLLM, SGLang, llama.cpp) over loopback. The gateway frames the objects as server-sent events, meters
// their [Usage] and stops a [Stream] by closing it.
package engine

import (
	"context"
	"errors"
	"fmt"
)

// The paths that an [Engine] may serve.
const (
	PathChatCompletions = "/v1/chat/completions"
	PathCompletions     = "/v1/completions"
	PathEmbeddings      = "/v1/embeddings" // not streamed, and without completion tokens
)

// ErrUnsupported is wrapped by the error of Start when the engine does not serve the request's path.
var ErrUnsupported = errors.New("engine: path not supported")

// Engine runs OpenAI-compatible requests. It is safe for concurrent use.
type Engine interface {
	// Models lists the models that requests may name. The order is stable and the first one is the default.
	Models(ctx context.Context) ([]Model, error)

	// Start begins one request and returns once the engine has admitted it, which for a busy engine may mean a wait in
	// its queue. The context bounds the whole request, not only Start: when it ends, so does the Stream.
	//
	// A request that the engine will not run is a *[RequestError]; any other error is the engine's own failure, and its
	// text is not for the client.
	Start(ctx context.Context, req Request) (Stream, error)
}

// Model describes one model of an [Engine].
type Model struct {
	ID            string // as in the request's "model" member
	ContextLength int    // prompt and completion together, in tokens; 0 when the engine does not say
	MaxTokens     int    // most completion tokens of one request; 0 when only ContextLength bounds it
	Created       int64  // Unix time in seconds; 0 when unknown
	OwnedBy       string // free text; may be empty
}

// Request is one request as the client sealed it.
type Request struct {
	// Path is one of those above. An engine refuses a path that it does not serve with an error that wraps
	// [ErrUnsupported].
	Path string

	// Body is one JSON object. The gateway has checked that it is strict JSON: UTF-8, no duplicate member and nothing
	// after the object. The engine does not keep or change it.
	Body []byte

	// Stream says how the answer is wanted and equals the body's "stream" member.
	Stream bool

	// Salt partitions prefix caches: two requests may share cached prompt state only when their salts are equal. The
	// zero value shares with nobody.
	Salt [32]byte
}

// Stream is one running request. Next and Close may be called from different goroutines; Next itself from one at a time.
type Stream interface {
	// Next waits for the next event. After the last one it returns io.EOF, once the engine has finished properly; any
	// other error means that the answer is incomplete. A *[RequestError] carries what the engine said about it.
	//
	// The engine does not run ahead of Next by more than a small fixed number of tokens, so a caller that stops calling
	// stops the generation.
	Next() (Event, error)

	// Ready reports whether the next event has arrived, so that Next returns it, or the end, without much of a wait. It is
	// called between two calls of Next.
	Ready() bool

	// Close cancels the generation at once and frees what the request holds. It is idempotent, and a Next in progress
	// returns soon with an error.
	Close() error
}

// Event is one JSON object of an answer.
type Event struct {
	// Data is a "chat.completion.chunk" (or a chunk of a "text_completion") of a streamed answer, or the whole completion
	// or "list" of embeddings otherwise. It contains no line break, and it is valid until the following Next.
	Data []byte

	// Usage counts the tokens of the request up to and including this event. An event may bring nothing else: text that
	// the engine holds back does not hold back the count.
	Usage Usage
}

// Usage counts tokens, cumulatively from the start of one request. Every count only grows.
type Usage struct {
	Prompt     int64 // tokens of the prompt, cached ones included
	Cached     int64 // prompt tokens that were served from the prefix cache
	Completion int64 // generated tokens, reasoning ones included
	Reasoning  int64 // generated tokens that belong to the reasoning part
}

// RequestError is an engine's refusal in OpenAI's terms.
type RequestError struct {
	Status  int    // HTTP status, 400 to 599
	Message string // for the client: what is wrong and what to do
	Type    string // for example "invalid_request_error"; empty takes the usual one for Status
	Param   string // the request member at fault; may be empty
	Code    string // for example "context_length_exceeded"; may be empty
}

// Error returns the message with its status.
func (e *RequestError) Error() string {
	if e.Param != "" {
		return fmt.Sprintf("engine: %d: %s (%s)", e.Status, e.Message, e.Param)
	}
	return fmt.Sprintf("engine: %d: %s", e.Status, e.Message)
}
