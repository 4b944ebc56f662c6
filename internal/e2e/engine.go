package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

// Script is an engine that answers as it is told, so that a test can hold it,
// break it or see that it was stopped.
type Script struct {
	Chunks int           // events of an answer
	Size   int           // bytes of content in each
	Step   chan struct{} // if not nil, one receive before each event
	Fail   error         // if not nil, returned by Next after FailAt events
	FailAt int
	Refuse error // if not nil, returned by Start

	Started atomic.Int64 // streams
	Events  atomic.Int64 // handed out
	Closed  atomic.Int64 // streams closed before their end
	Last    engine.Request
	mu      sync.Mutex
}

// Models implements engine.Engine.
func (s *Script) Models(context.Context) ([]engine.Model, error) {
	return []engine.Model{{ID: Model, ContextLength: 4096}}, nil
}

// Start implements engine.Engine.
func (s *Script) Start(ctx context.Context, req engine.Request) (engine.Stream, error) {
	if s.Refuse != nil {
		return nil, s.Refuse
	}
	s.Started.Add(1)
	s.mu.Lock()
	s.Last = req
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	return &scripted{s: s, ctx: ctx, cancel: cancel, whole: !req.Stream}, nil
}

type scripted struct {
	s      *Script
	ctx    context.Context
	cancel context.CancelFunc
	n      int
	whole  bool
	ended  atomic.Bool
	closed atomic.Bool
}

func (r *scripted) Next() (engine.Event, error) {
	if r.s.Fail != nil && r.n >= r.s.FailAt {
		return engine.Event{}, r.s.Fail
	}
	if r.n >= r.s.Chunks || r.whole && r.n > 0 {
		r.ended.Store(true)
		return engine.Event{}, io.EOF
	}
	if r.s.Step != nil {
		select {
		case <-r.s.Step:
		case <-r.ctx.Done():
			return engine.Event{}, r.ctx.Err()
		}
	}
	if r.ctx.Err() != nil {
		return engine.Event{}, r.ctx.Err()
	}
	r.n++
	r.s.Events.Add(1)
	u := engine.Usage{Prompt: 10, Completion: int64(r.n)}
	if r.whole {
		u.Completion = int64(r.s.Chunks)
		return engine.Event{Data: fmt.Appendf(nil, `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}`,
			r.content(0), u.Completion, 10+u.Completion), Usage: u}, nil
	}
	return engine.Event{Data: fmt.Appendf(nil, `{"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%q}}]}`, r.content(r.n)), Usage: u}, nil
}

// Ready implements engine.Stream.
func (r *scripted) Ready() bool { return r.s.Step == nil || r.n >= r.s.Chunks }

func (r *scripted) content(i int) string {
	b := make([]byte, max(r.s.Size, 1))
	for k := range b {
		b[k] = 'a' + byte((i+k)%26)
	}
	return string(b)
}

func (r *scripted) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.cancel()
	if !r.ended.Load() {
		r.s.Closed.Add(1)
	}
	return nil
}

// ErrEngine is a failure that is the engine's own.
var ErrEngine = errors.New("the engine broke")
