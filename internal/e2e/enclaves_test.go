package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

// A several is a host with two enclaves.
type several struct {
	*Stack
	engines [2]*Script
	hurdle  hurdle // between client and host
	cards   atomic.Int64
}

func startSeveral(t *testing.T, o Options) *several {
	t.Helper()
	s := &several{engines: [2]*Script{{Chunks: 2, Size: 8}, {Chunks: 2, Size: 8}}}
	o.Engine, o.More = s.engines[0], []engine.Engine{s.engines[1]}
	o.Outside = func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/card" {
				s.cards.Add(1)
			}
			if s.hurdle != nil {
				return s.hurdle(r, rt)
			}
			return rt.RoundTrip(r)
		})
	}
	s.Stack = start(t, o)
	return s
}

// served asks once and returns which enclave's engine answered, -1 for none, and the code of the error.
func (s *several) served(t *testing.T) (which int, code string) {
	t.Helper()
	before := [2]int64{s.engines[0].Events.Load(), s.engines[1].Events.Load()}
	code = ask(t, s.Client, streaming)
	which = -1
	for i, e := range s.engines {
		if e.Events.Load() > before[i] {
			which = i
		}
	}
	return which, code
}

// A client stays with one enclave, whose engine knows its prompts, while that serves it, and goes to another when it does not.
func TestSeveralEnclaves(t *testing.T) {
	for _, c := range []struct {
		name   string
		hurdle func(id string) hurdle // in the way to the enclave that the client prefers
		refuse error                  // of its engine
		gone   bool                   // its process
		code   string                 // of the request that meets it first; empty: it is served elsewhere
	}{
		{name: "its engine fails", refuse: ErrEngine},
		{name: "its engine is full", refuse: &engine.RequestError{Status: 429, Message: "later", Code: "queue_full"}},
		{name: "it is gone", gone: true},
		{name: "it is drained", hurdle: func(id string) hurdle { return at(id+"/sealed", answers(421, "enclave_drained")) }},
		{name: "the host says that it does not answer", code: "enclave_down", hurdle: func(id string) hurdle {
			return at(id+"/sealed", answers(502, "enclave_down"))
		}},
		{name: "the answer breaks off", code: "answer_broken", hurdle: func(id string) hurdle {
			return at(id+"/sealed", func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				resp, err := next.RoundTrip(r)
				if err == nil {
					b, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					resp.Body = io.NopCloser(bytes.NewReader(b[:len(b)-10]))
				}
				return resp, err
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startSeveral(t, Options{})
			mine, code := s.served(t)
			for range 3 {
				if again, _ := s.served(t); again != mine || code != "" {
					t.Fatalf("%d served after %d, %q", again, mine, code)
				}
			}
			if c.hurdle != nil {
				s.hurdle = c.hurdle(fmt.Sprintf("e%d", mine))
			}
			s.engines[mine].Refuse = c.refuse
			if c.gone {
				s.Enclaves[mine].Close()
			}
			if which, code := s.served(t); code != c.code || c.code == "" && which != 1-mine {
				t.Errorf("%d answered, %q; the client prefers %d", which, code, mine)
			}
			s.hurdle, s.engines[mine].Refuse = nil, nil
			if which, code := s.served(t); which != 1-mine || code != "" {
				t.Errorf("after the failure %d answered, %q; the client prefers %d", which, code, mine)
			}
		})
	}
}

// What the host refuses is not blamed on the enclave that would have got the request, and not asked for again for the next.
func TestHostRefusesForAll(t *testing.T) {
	for _, path := range []string{"/v1/session", "/v1/voucher"} {
		t.Run(path, func(t *testing.T) {
			s := startSeveral(t, Options{})
			asked, mine := 0, ""
			s.hurdle = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if id, ok := strings.CutSuffix(r.URL.Path, "/evidence"); ok && mine == "" {
					mine = id
				}
				if r.URL.Path != path {
					return next.RoundTrip(r)
				}
				asked++
				return answers(503, "ledger_down")(r, next)
			}
			if which, code := s.served(t); which >= 0 || code != "ledger_down" || asked != 1 {
				t.Errorf("%d answered, %q, the host was asked %d times", which, code, asked)
			}
			s.hurdle = nil
			if which, code := s.served(t); mine != fmt.Sprintf("/v1/enclaves/e%d", which) || code != "" {
				t.Errorf("%d answered, %q; the client prefers %s", which, code, mine)
			}
		})
	}
}

// What one request makes of the card does not keep another from going on to the next enclave.
func TestOthersForgetTheCard(t *testing.T) {
	s := startSeveral(t, Options{})
	mine, _ := s.served(t)
	asked := 0
	s.hurdle = at(fmt.Sprintf("e%d/sealed", mine), func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if asked++; asked > 1 {
			return answers(422, "unknown_key")(r, next)
		}
		if code := ask(t, s.Client, streaming); code != "unknown_key" {
			t.Errorf("the other request: %q", code)
		}
		return answers(421, "enclave_drained")(r, next)
	})
	if which, code := s.served(t); which != 1-mine || code != "" {
		t.Errorf("%d answered, %q; the client prefers %d", which, code, mine)
	}
}

// One whose evidence does not hold is passed over before anything is sent to it.
func TestOneEnclaveAttests(t *testing.T) {
	s := startSeveral(t, Options{})
	sent := map[string]int{}
	var mu sync.Mutex
	bad := ""
	s.hurdle = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		resp, err := next.RoundTrip(r)
		switch _, id, _ := strings.Cut(r.URL.Path, "/v1/enclaves/"); {
		case err != nil:
		case strings.HasSuffix(id, "/sealed"):
			sent[id]++
		case strings.HasSuffix(id, "/evidence") && bad == "": // the first that is asked
			bad = strings.TrimSuffix(id, "evidence")
			resp.Body.Close()
			resp.Body = io.NopCloser(strings.NewReader("{}"))
		}
		return resp, err
	}
	if which, code := s.served(t); which < 0 || code != "" || len(sent) != 1 || sent[bad+"sealed"] != 0 {
		t.Errorf("%d answered, %q; sent %v, %s has no evidence", which, code, sent, bad)
	}
}

// With no enclave left, the card is asked for anew: there may be others by now.
func TestNoEnclaveServes(t *testing.T) {
	s := startSeveral(t, Options{})
	s.served(t)
	cards := s.cards.Load()
	for _, e := range s.engines {
		e.Refuse = ErrEngine
	}
	if which, code := s.served(t); which >= 0 || code != "engine_error" {
		t.Errorf("%d answered, %q", which, code)
	}
	s.engines[0].Refuse = nil
	if which, code := s.served(t); which != 0 || code != "" {
		t.Errorf("%d answered, %q", which, code)
	}
	if n := s.cards.Load() - cards; n < 1 || n > 2 {
		t.Errorf("the card was asked for %d times", n)
	}
}

// Many requests at once of one client spill over to the other enclave.
func TestManyRequestsSpill(t *testing.T) {
	s := startSeveral(t, Options{Window: 10_000_000})
	mine, code := s.served(t)
	if code != "" {
		t.Fatal(code)
	}
	for _, e := range s.engines {
		e.Step = make(chan struct{})
	}
	var all sync.WaitGroup
	counts := [2]int{}
	for i := range 12 {
		began := [2]int64{s.engines[0].Started.Load(), s.engines[1].Started.Load()}
		all.Go(func() {
			if code := ask(t, s.Client, streaming); code != "" {
				t.Errorf("request %d: %s", i, code)
			}
		})
		waitFor(t, "the request to begin", func() bool {
			for j, e := range s.engines {
				if e.Started.Load() > began[j] {
					counts[j]++
					return true
				}
			}
			return false
		})
	}
	if counts[mine] != 8 || counts[1-mine] != 4 {
		t.Errorf("%v requests at each, the client prefers %d", counts, mine)
	}
	for _, e := range s.engines {
		close(e.Step)
	}
	all.Wait()
}
