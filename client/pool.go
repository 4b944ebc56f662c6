package client

import (
	"cmp"
	"context"
	"net/http"
	"sync"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
)

// A Pool is an http.RoundTripper over several hosts, each with a channel of its own. It answers as a [Transport] does.
//
// A request goes to the first host that takes it. It goes on to the next only if this one did not get it, or it or its enclave
// says that it has not run it: what one has perhaps run is paid for there, and another would be paid for it again. A host that
// says so and has run it takes that from its own window. A host that failed is asked last for a while. It is safe for
// concurrent use.
type Pool struct {
	// Hosts are asked in this order. There is at least one, and they do not change.
	Hosts []*Transport
	// Passed is told why the next host is asked, unless this one just does not serve the model. It must not block. Nil tells
	// nobody.
	Passed func(host string, why *Error)
}

// RoundTrip implements http.RoundTripper.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	return respond(req, func(body []byte) (*http.Response, *apierror.Error, bool) {
		if req.Method == http.MethodGet && req.URL.Path == modelsPath {
			resp, fault := p.models(req.Context())
			return resp, fault, true
		}
		return p.serve(req, body)
	})
}

func (p *Pool) serve(req *http.Request, body []byte) (*http.Response, *apierror.Error, bool) {
	var first *apierror.Error // speaks for the host that the user likes best
	last := false             // for one of them it is final
	awake, resting := p.order()
	for left := append(awake, resting...); len(left) > 0; left = left[1:] {
		t := left[0]
		resp, fault, unrun := t.serve(req, body)
		if req.Context().Err() != nil {
			return resp, fault, unrun
		}
		t.note(fault)
		if fault == nil || !unrun {
			return resp, fault, unrun
		}
		if p.Passed != nil && len(left) > 1 && fault.Code != modelNotFound {
			p.Passed(t.cfg.Host, fault)
		}
		last = last || fault.Final
		if first == nil || first.Code == modelNotFound {
			first = fault
		}
	}
	return nil, final(first, last), true
}

// order is the hosts, and those that rest.
func (p *Pool) order() (awake, resting []*Transport) {
	for _, t := range p.Hosts {
		if t.resting() {
			resting = append(resting, t)
		} else {
			awake = append(awake, t)
		}
	}
	return awake, resting
}

// failure says that whoever answers so is down, overloaded, or not to be trusted.
func failure(f *apierror.Error) bool {
	return f.Status >= 500 || f.Status == http.StatusForbidden || f.Status == http.StatusTooManyRequests || f.Status == http.StatusMisdirectedRequest
}

// models answers GET /v1/models for the hosts that answer. Those that rest are asked if no other does.
func (p *Pool) models(ctx context.Context) (*http.Response, *apierror.Error) {
	awake, resting := p.order()
	cards, first := p.cards(ctx, awake)
	if len(cards) == 0 && ctx.Err() == nil {
		var fault *apierror.Error
		cards, fault = p.cards(ctx, resting)
		first = cmp.Or(first, fault)
	}
	if len(cards) == 0 {
		return nil, first
	}
	return modelList(cards)
}

func (p *Pool) cards(ctx context.Context, hosts []*Transport) (cards []*card.Card, first *apierror.Error) {
	got, faults := make([]*offer, len(hosts)), make([]*apierror.Error, len(hosts))
	var all sync.WaitGroup
	for i, t := range hosts {
		all.Go(func() { got[i], faults[i] = t.currentCard(ctx) })
	}
	all.Wait()
	if ctx.Err() == nil {
		for i, t := range hosts {
			t.note(faults[i])
		}
	}
	for _, c := range got {
		if c != nil {
			cards = append(cards, c.Card)
		}
	}
	return cards, cmp.Or(faults...)
}
