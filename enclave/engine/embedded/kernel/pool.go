package kernel

import (
	"sync"
)

// Pool runs parts of a computation at the same time. Its methods are for one goroutine at a time.
type Pool struct {
	threads int
	jobs    chan job
	wg      sync.WaitGroup
}

type job struct {
	f    func(part int)
	part int
}

// NewPool starts a pool that uses as many threads as given, counting the caller's own. Close ends it.
func NewPool(threads int) *Pool {
	p := &Pool{threads: max(threads, 1)}
	p.jobs = make(chan job, p.threads)
	for range p.threads - 1 {
		go func() {
			for j := range p.jobs {
				j.f(j.part)
				p.wg.Done()
			}
		}()
	}
	return p
}

// Threads is the number of parts that run at the same time.
func (p *Pool) Threads() int { return p.threads }

// Run calls f for every part from 0 to parts-1 and returns when all calls have.
func (p *Pool) Run(parts int, f func(part int)) {
	if p.threads == 1 {
		for i := range parts {
			f(i)
		}
		return
	}
	p.wg.Add(parts - 1)
	for i := 1; i < parts; i++ {
		p.jobs <- job{f, i}
	}
	f(0)
	p.wg.Wait()
}

// Close ends the pool's goroutines.
func (p *Pool) Close() { close(p.jobs) }
