package embedded

import (
	"slices"
	"sync/atomic"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/kernel"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/llama"
)

// sequence is one request as the computing goroutine sees it. Only that goroutine touches it, but for the members with a
// comment that says otherwise.
type sequence struct {
	out       chan step   // to the reader; closed after the last step
	cancelled atomic.Bool // set by the reader

	salt      [32]byte
	prompt    int   // tokens
	input     []int // tokens to compute next: the rest of the prompt, or the token chosen last
	history   []int // all tokens so far
	cache     llama.Cache
	shared    []*keptPage // the first of the cache's pages
	cached    int         // tokens in them
	reserved  int         // pages
	maxTokens int
	tokens    int // generated
	reasoning int // of them, inside <think> and </think>
	thinking  bool
	sampler   *sampler
	text      assembler
	logprobs  int
}

// step is what one token brings to the reader. There is one for every token, also when its text is held back, so that no
// answer runs ahead of its reader.
type step struct {
	text    string
	usage   engine.Usage
	choices []choice
	finish  string // "stop" or "length" in the last step
	err     error  // instead of everything else
}

// choice is a token with the probabilities that the request asked for.
type choice struct {
	tokenProb
	alternatives []tokenProb
}

func newSequence(p *params, prompt []int, salt [32]byte, spacePrefix bool) *sequence {
	return &sequence{
		out:       make(chan step, ahead),
		salt:      salt,
		prompt:    len(prompt),
		input:     prompt,
		history:   prompt,
		reserved:  (len(prompt) + p.maxTokens + llama.PageTokens - 1) / llama.PageTokens,
		maxTokens: p.maxTokens,
		sampler:   newSampler(p),
		text:      assembler{stop: p.stop, trim: spacePrefix && p.chat},
		logprobs:  p.logprobs,
	}
}

// think follows the tokens that open and close the reasoning part of an answer, and reports whether it is open.
func (s *sequence) think(e *Engine, id int) bool {
	if id == e.beginThink {
		s.thinking = true
	} else if id == e.endThink {
		s.thinking = false
	}
	return s.thinking
}

// usage counts the sequence's tokens so far.
func (s *sequence) usage() engine.Usage {
	return engine.Usage{Prompt: int64(s.prompt), Cached: int64(s.cached), Completion: int64(s.tokens), Reasoning: int64(s.reasoning)}
}

// ready reports whether the reader has room for another step.
func (s *sequence) ready() bool { return len(s.out) < cap(s.out) }

// scheduler is the state of the computing goroutine.
type scheduler struct {
	e        *Engine
	runner   *llama.Runner
	active   []*sequence
	pages    pages
	reserved int // pages of active sequences
	rows     []llama.Row
	owners   []*sequence // of the rows with scores
}

// run computes until the engine is closed.
func (e *Engine) run() {
	defer close(e.done)
	pool := kernel.NewPool(e.options.Threads)
	defer pool.Close()
	s := &scheduler{e: e, runner: e.model.NewRunner(pool, batchRows)}
	s.pages = pages{model: e.model, limit: e.pages, kept: map[pageKey]*keptPage{}}
	for s.admit() {
		s.batch()
		if len(s.rows) == 0 {
			<-e.wake
			continue
		}
		for i, scores := range s.runner.Forward(s.rows) {
			s.choose(s.owners[i], scores)
		}
	}
	e.mu.Lock()
	queue := e.queue
	e.queue = nil
	e.mu.Unlock()
	for _, q := range append(s.active, queue...) {
		if q.ready() {
			q.out <- step{err: errClosed}
		}
		close(q.out)
	}
}

// admit drops cancelled sequences and begins waiting ones while there is room. It returns false when the engine is closed.
func (s *scheduler) admit() bool {
	active := s.active[:0]
	for _, q := range s.active {
		if q.cancelled.Load() {
			s.end(q)
		} else {
			active = append(active, q)
		}
	}
	clear(s.active[len(active):])
	s.active = active
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	waiting := s.e.queue[:0]
	for _, q := range s.e.queue {
		switch {
		case q.cancelled.Load():
			close(q.out)
		case len(waiting) > 0 || len(s.active) == s.e.options.MaxSequences || s.reserved+q.reserved > s.e.pages:
			waiting = append(waiting, q) // first come, first served
		default:
			s.reserved += q.reserved
			s.active = append(s.active, q)
			s.pages.reuse(q)
		}
	}
	clear(s.e.queue[len(waiting):])
	s.e.queue = waiting
	return !s.e.closed
}

// batch collects the rows of the next step: one for each answer in progress whose reader keeps up, and an equal share of
// what is left for each prompt.
func (s *scheduler) batch() {
	s.rows, s.owners = s.rows[:0], s.owners[:0]
	prompts := 0
	for _, q := range s.active {
		if len(q.input) > 1 {
			prompts++
		} else if q.ready() {
			s.add(q, 1)
		}
	}
	for _, q := range s.active {
		if len(q.input) > 1 {
			s.add(q, min(len(q.input), (s.runner.MaxRows()-len(s.rows))/prompts))
			prompts--
		}
	}
}

// add puts the next n tokens of a sequence into the batch.
func (s *scheduler) add(q *sequence, n int) {
	for len(q.cache.Pages)*llama.PageTokens < q.cache.Tokens+n {
		q.cache.Pages = append(q.cache.Pages, s.pages.get())
	}
	for i, id := range q.input[:n] {
		last := i == len(q.input)-1
		s.rows = append(s.rows, llama.Row{Cache: &q.cache, Token: id, Logits: last})
		if last {
			s.owners = append(s.owners, q)
		}
	}
	q.input = q.input[n:]
}

// choose takes the scores for a sequence's next token, chooses it and hands the outcome to the reader.
func (s *scheduler) choose(q *sequence, scores []float32) {
	id, ok := q.sampler.sample(scores)
	if !ok {
		s.finish(q, step{err: errNotFinite})
		return
	}
	q.tokens++
	if open := q.thinking; q.think(s.e, id) || open {
		q.reasoning++
	}
	out := step{usage: q.usage()}
	if s.e.tokenizer.IsEnd(id) {
		out.text, out.finish = q.text.rest(), "stop"
		s.finish(q, out)
		return
	}
	if q.logprobs >= 0 {
		own, alternatives := logprobs(scores, id, q.logprobs)
		out.choices = []choice{{own, alternatives}}
	}
	var stopped bool
	out.text, stopped = q.text.add(s.e.tokenizer.Text(id))
	switch {
	case stopped:
		out.finish = "stop"
		s.finish(q, out)
	case q.tokens == q.maxTokens:
		out.text += q.text.rest()
		out.finish = "length"
		s.finish(q, out)
	default:
		q.history = append(q.history, id)
		q.input = q.history[len(q.history)-1:]
		q.out <- out // batch has seen room for it
	}
}

// finish sends a sequence's last step and ends it.
func (s *scheduler) finish(q *sequence, last step) {
	q.out <- last
	s.active = slices.DeleteFunc(s.active, func(a *sequence) bool { return a == q })
	s.end(q)
}

// end frees what a sequence holds.
func (s *scheduler) end(q *sequence) {
	close(q.out)
	s.reserved -= q.reserved
	s.pages.put(q)
}
