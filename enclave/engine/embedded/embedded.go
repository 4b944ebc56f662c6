// Package embedded is an [engine.Engine] that runs a GGUF model in the enclave's own process, on its processors.
//
// It runs Llama-family models (see package llama) in F32, F16 or Q8_0 with the model's own BPE and chat template. One
// goroutine computes; every step is one batch with the next token of each answer in progress and a part of the prompts
// that wait, so many requests share each pass over the weights and a long prompt does not hold up others. What a request
// is answered depends on nothing but the request: not on other requests, not on the number of threads.
//
// Memory is bounded: keys and values live in pages of a fixed budget, a request's pages are reserved before it begins, and
// when there are none it waits in a queue of limited length. Full pages outlive their request to serve as a prefix cache
// for requests with the same salt, until their memory is needed; all others are overwritten when it ends.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/chat"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/llama"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/tokenizer"
)

// Options configure an [Engine]. Zero values take the defaults.
type Options struct {
	ModelID       string // what requests call the model; default: the file's general.name
	Threads       int    // default: GOMAXPROCS
	ContextLength int    // tokens of prompt and answer together; default and limit: the model's own, or what CacheBytes hold
	MaxSequences  int    // requests computed at the same time; default 16
	MaxQueue      int    // requests that wait; default 64
	CacheBytes    int64  // memory for keys and values; default 256 MiB. It may limit ContextLength

	Now func() time.Time // for the answers' "created" member; default time.Now
}

// ahead is how many tokens an answer is computed ahead of its reader.
const ahead = 8

// batchRows is the number of tokens computed together at most. Larger batches make prompts faster, to a point, and other
// answers wait longer.
const batchRows = 64

// Engine runs one model. It implements [engine.Engine].
type Engine struct {
	info      engine.Model
	tokenizer *tokenizer.Tokenizer
	template  *chat.Template // nil when the model has none
	model     *llama.Model
	options   Options
	pages     int // limit

	beginThink, endThink int // tokens around the reasoning part of an answer; -1 for none

	wake chan struct{}
	done chan struct{} // closed when the computing goroutine has ended

	mu     sync.Mutex
	queue  []*sequence // not yet begun
	closed bool
}

var _ engine.Engine = (*Engine)(nil)

// New loads the model in the size bytes of r and starts the engine. Close ends it.
func New(r io.ReaderAt, size int64, o Options) (*Engine, error) {
	f, err := gguf.Read(r, size)
	if err != nil {
		return nil, fmt.Errorf("loading the model: %w", err)
	}
	e := &Engine{wake: make(chan struct{}, 1), done: make(chan struct{})}
	if e.tokenizer, err = tokenizer.New(f); err != nil {
		return nil, fmt.Errorf("loading the model: %w", err)
	}
	e.beginThink, e.endThink = e.tokenizer.Special("<think>"), e.tokenizer.Special("</think>")
	if source, ok := f.Metadata["tokenizer.chat_template"].(string); ok {
		if e.template, err = chat.New(source, e.tokenizer); err != nil {
			return nil, fmt.Errorf("loading the model: %w", err)
		}
	}
	if e.model, err = llama.Load(f, e.tokenizer.Len()); err != nil {
		return nil, fmt.Errorf("loading the model: %w", err)
	}
	name, _ := f.Metadata["general.name"].(string)
	if err := e.configure(o, name); err != nil {
		return nil, err
	}
	go e.run()
	return e, nil
}

func (e *Engine) configure(o Options, name string) error {
	if o.Threads < 0 || o.ContextLength < 0 || o.MaxSequences < 0 || o.MaxQueue < 0 || o.CacheBytes < 0 {
		return errors.New("embedded: an option is negative")
	}
	or := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&o.Threads, runtime.GOMAXPROCS(0))
	or(&o.MaxSequences, 16)
	or(&o.MaxQueue, 64)
	o.MaxSequences = min(o.MaxSequences, batchRows)
	if o.CacheBytes == 0 {
		o.CacheBytes = 256 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ModelID == "" {
		o.ModelID = name
	}
	if o.ModelID == "" {
		return errors.New("embedded: the model has no name of its own; set Options.ModelID")
	}
	e.pages = int(o.CacheBytes / int64(e.model.PageBytes()))
	if e.pages == 0 {
		return fmt.Errorf("embedded: Options.CacheBytes is %d; this model needs %d for every %d tokens", o.CacheBytes, e.model.PageBytes(), llama.PageTokens)
	}
	most := min(e.model.ContextLength, e.pages*llama.PageTokens)
	if o.ContextLength > most {
		return fmt.Errorf("embedded: a context of %d tokens; the model was made for %d, and %d bytes hold the keys and values of %d: ask for %d or fewer", o.ContextLength, e.model.ContextLength, o.CacheBytes, e.pages*llama.PageTokens, most)
	}
	or(&o.ContextLength, most)
	e.options = o
	e.info = engine.Model{ID: o.ModelID, ContextLength: o.ContextLength, Created: o.Now().Unix(), OwnedBy: "bombyx"}
	return nil
}

// Models returns the one model.
func (e *Engine) Models(context.Context) ([]engine.Model, error) { return []engine.Model{e.info}, nil }

// Start checks a request and puts it into the queue.
func (e *Engine) Start(ctx context.Context, req engine.Request) (engine.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := parse(req, e.info.ID)
	if err != nil {
		return nil, err
	}
	if least := p.textLength() / e.tokenizer.Longest(); least >= e.info.ContextLength { // before much work is done on it
		return nil, e.tooLong(p, fmt.Sprintf("more than %d", least))
	}
	prompt, err := e.promptTokens(p)
	if err != nil {
		return nil, err
	}
	room := e.info.ContextLength - len(prompt)
	if room < 1 || p.maxTokens > room {
		return nil, e.tooLong(p, strconv.Itoa(len(prompt)))
	}
	if p.maxTokens == 0 {
		p.maxTokens = room
	}
	s := newSequence(p, prompt, req.Salt, e.tokenizer.SpacePrefix())
	for _, id := range prompt { // a template may open the reasoning part
		s.think(e, id)
	}
	if err := e.enqueue(s); err != nil {
		return nil, err
	}
	return newStream(ctx, e, p, s, len(prompt)), nil
}

// tooLong is the refusal of a prompt with so many tokens.
func (e *Engine) tooLong(p *params, tokens string) *engine.RequestError {
	param := "prompt"
	if p.chat {
		param = "messages"
	}
	return &engine.RequestError{
		Status: http.StatusBadRequest, Param: param, Code: "context_length_exceeded",
		Message: fmt.Sprintf("the prompt has %s tokens and the answer may have %d, together more than the context of %d; shorten the prompt or lower max_tokens", tokens, max(p.maxTokens, 1), e.info.ContextLength),
	}
}

func (e *Engine) promptTokens(p *params) ([]int, error) {
	switch {
	case p.chat && e.template == nil:
		return nil, invalid("messages", "the model %q has no chat template; use %s", e.info.ID, engine.PathCompletions)
	case p.chat:
		ids, err := e.template.Render(nil, p.messages)
		if reason, ok := chat.Refused(err); ok {
			return nil, invalid("messages", "%s", reason)
		}
		if err == nil && len(ids) == 0 {
			err = errors.New("the chat template yields nothing")
		}
		if err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
		return ids, nil
	case p.promptIDs != nil:
		for _, id := range p.promptIDs {
			if id < 0 || id >= e.tokenizer.Len() {
				return nil, invalid("prompt", "there is no token %d; the vocabulary has %d", id, e.tokenizer.Len())
			}
		}
		return p.promptIDs, nil
	}
	var ids []int
	if bos, always := e.tokenizer.BOS(); always {
		ids = append(ids, bos)
	}
	ids = e.tokenizer.Encode(ids, p.prompt)
	if len(ids) == 0 {
		return nil, invalid("prompt", "the vocabulary has no token for the prompt")
	}
	return ids, nil
}

func (e *Engine) enqueue(s *sequence) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return &engine.RequestError{Status: http.StatusServiceUnavailable, Message: "the engine has been shut down"}
	}
	if len(e.queue) >= e.options.MaxQueue {
		return &engine.RequestError{Status: http.StatusTooManyRequests, Code: "queue_full", Message: "the engine is busy; try again in a few seconds"}
	}
	e.queue = append(e.queue, s)
	e.signal()
	return nil
}

// signal makes the computing goroutine look again.
func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Close cancels all requests and waits until the engine has stopped.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.signal()
	<-e.done
	return nil
}

// errNotFinite is what a broken model leads to.
var errNotFinite = &engine.RequestError{Status: http.StatusInternalServerError, Message: "the model computes no finite numbers"}

// errClosed ends answers when the engine is closed.
var errClosed = &engine.RequestError{Status: http.StatusServiceUnavailable, Message: "the engine has been shut down"}
