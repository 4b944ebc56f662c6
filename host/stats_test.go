package host

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// Each way in which a request ends counts as what it is.
func TestStats(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	if status, code := r.pay(auth, 1000); status != 204 {
		t.Fatal(status, code)
	}
	answer := func(serve http.HandlerFunc) {
		r.enclave.mu.Lock()
		defer r.enclave.mu.Unlock()
		r.enclave.sealed = serve
	}
	n := 0
	ask := func() (int, string) {
		n++
		return r.ask(auth, strings.Repeat("0", 30)+string(rune('0'+n/10))+string(rune('0'+n%10)), "10")
	}
	want := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}

	answer(costs("3"))
	status, code := ask()
	r.want("an answer", 200, "", status, code)
	s := r.h.Stats()
	want("complete", s.Answers["complete"], 1)
	want("bytes in", s.BytesIn, uint64(len("sealed")))
	want("bytes out", s.BytesOut, uint64(len("sealed answer")))
	want("sealed requests", s.Requests["sealed"], 1)
	want("sessions", uint64(s.Sessions), 1)

	answer(func(w http.ResponseWriter, r *http.Request) { apierror.New(422, "unknown_key", "unknown", "").Write(w) })
	status, code = ask()
	r.want("a refusal", 422, "unknown_key", status, code)
	answer(func(w http.ResponseWriter, r *http.Request) {
		apierror.New(418, "made_up", "by the enclave", "").Write(w)
	})
	status, code = ask()
	r.want("a refusal of an unknown kind", 418, "made_up", status, code)
	answer(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half of it")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, code = ask(); code != "cut" {
		t.Fatal(code)
	}
	answer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "without its cost") })
	ask()

	// One that runs, and that its client abandons.
	answer(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "begun")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/enclaves/e0/sealed", strings.NewReader("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Authorization": auth, "Bombyx-Stream": stream1[:31] + "f", "Bombyx-Allot": "10", "Content-Type": requestType} {
		req.Header.Set(k, v)
	}
	read, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			io.ReadFull(resp.Body, make([]byte, 1))
			close(read)
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	<-read
	s = r.h.Stats()
	want("running", uint64(s.Enclaves[0].Running), 1)
	want("reserved", s.Reserved, 10)
	want("running on the channel", uint64(r.h.Running(r.params.Address().Raw())), 1)
	want("running on another", uint64(r.h.Running("0:none")), 0)
	leave()
	<-gone
	waitFor(t, func() bool { return r.h.Stats().Answers["abandoned"] == 1 })

	// Before its answer begins, too.
	begun := make(chan struct{})
	answer(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(begun)
		<-r.Context().Done()
	})
	ctx, leave = context.WithCancel(t.Context())
	req = req.Clone(ctx)
	req.Header.Set("Bombyx-Stream", stream1[:31]+"e")
	req.Body = io.NopCloser(strings.NewReader("sealed"))
	go func() { <-begun; leave() }()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		t.Error(resp.Status)
	}
	waitFor(t, func() bool { return r.h.Stats().Answers["abandoned"] == 2 })

	// Refused before an enclave hears of it.
	status, code = r.ask(auth, stream1, "-1")
	r.want("a malformed amount", 400, "malformed_header", status, code)
	status, code = r.pay("Bearer none", 1)
	r.want("no session", 401, "unknown_session", status, code)

	s = r.h.Stats()
	for outcome, n := range map[string]uint64{"complete": 1, "refused": 2, "broken": 2, "abandoned": 2} {
		want(outcome, s.Answers[outcome], n)
	}
	for code, n := range map[string]uint64{"unknown_key": 1, "other": 1, "malformed_header": 1, "unknown_session": 1, "cancelled": 1, "enclave_down": 0} {
		want(code, s.Refused[code], n)
	}
	waitFor(t, func() bool { return r.h.Stats().Enclaves[0].Running == 0 }) // once it is booked
}

func TestStatsOfTheChain(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 500)
	r.spend(auth, stream1, "200")
	r.pay(auth, 200)
	s := r.h.Stats()
	if c := s.Chain["channel"]; c.Made == 0 || c.Failed != 0 || !s.LastBlock.Equal(r.chain.channels[r.params.Address()].Time) || !s.LastClaim.IsZero() {
		t.Fatalf("%+v", s)
	}
	read := s.Chain["channel"].Made
	r.chain.mu.Lock()
	r.chain.err = errors.New("down")
	r.chain.mu.Unlock()
	if err := r.h.ClaimDue(t.Context()); err == nil {
		t.Fatal("claimed without a chain")
	}
	if c := r.h.Stats().Chain["channel"]; c.Made != read+1 || c.Failed != 1 {
		t.Errorf("%+v", c)
	}
	if _, err := r.h.Newest(t.Context()); err == nil {
		t.Error("a block without a chain")
	}

	count := newCounts()
	for want, err := range map[string]error{"paid": nil, "too_small": ErrTooSmall, "failed": errors.New("down")} {
		c := countedChain{claiming{r.chain, err}, count, r.now}
		if fee, got := c.Claim(t.Context(), nil); fee != 7 || !errors.Is(got, err) {
			t.Errorf("%d, %v", fee, got)
		}
		if n := count.claims.counts()[want]; n != 1 {
			t.Errorf("%s: %d", want, n)
		}
	}
	if count.claimFees.Load() != 7 || count.claimed.Load() != r.now().Unix() || count.chain.counts()["claim"] != 2 || count.chainFailed.counts()["claim"] != 1 {
		t.Errorf("%+v", count)
	}
	// Time does not go back.
	count.newest(time.Unix(20, 0))
	count.newest(time.Unix(10, 0))
	if count.seen.Load() != 20 {
		t.Error(count.seen.Load())
	}
}

type claiming struct {
	Chain
	err error
}

func (c claiming) Claim(context.Context, *channel.SignedVoucher) (uint64, error) { return 7, c.err }

func TestHealth(t *testing.T) {
	r := newRig(t)
	if errs := r.h.Health(t.Context()); len(errs) != 1 || errs[0] == nil { // the test's enclave answers 200, and has no such path
		t.Error(errs)
	}
	r.h.enclaves["e0"].Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != "GET" || r.URL.Path != "/health" {
			t.Error(r.Method, r.URL)
		}
		return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
	})
	if errs := r.h.Health(t.Context()); errs[0] != nil {
		t.Error(errs)
	}
}

// The codes that count by name are those of docs/protocol.md that host and enclaves have.
func TestCodes(t *testing.T) {
	b, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile("(?m)^\\| [0-9]{3} \\| `([a-z_]+)` \\| [^|]*[HE]").FindAllStringSubmatch(string(b), -1) {
		want = append(want, m[1])
	}
	want = append(want, "other")
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(codes, want) {
		t.Errorf("codes are %q,\ndocs/protocol.md has %q", codes, want)
	}
}
