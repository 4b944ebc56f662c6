package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/receipt"
)

// leave asks, reads a few events and goes: with the request's context, or by
// closing the body.
func leave(t *testing.T, s *Stack, body string, events int, closing bool) (text string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if events < 0 {
		time.AfterFunc(time.Duration(-events)*100*time.Microsecond, cancel)
	}
	resp, err := s.Client.RoundTrip(req)
	if err != nil {
		if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return ""
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d %s", resp.StatusCode, b)
	}
	buf := make([]byte, 4096)
	for strings.Count(text, "data: {") < events {
		n, err := resp.Body.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if !closing {
		cancel()
		if n, err := resp.Body.Read(buf); n > 0 || !errors.Is(err, context.Canceled) && events >= 0 {
			t.Errorf("%d bytes for who has gone, %v", n, err)
		}
	}
	return text
}

// counting counts the sessions that a client asks for: each says what the host has on its books.
func counting(sessions *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	return func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/session" {
				sessions.Add(1)
			}
			return rt.RoundTrip(r)
		})
	}
}

// Two hundred answers that were cancelled cost what arrived of them, and leave the
// whole window and no doubt: their receipts came, and host and client agree to the
// nanogram without the client's asking.
func TestCancels(t *testing.T) {
	const window = 5000
	var mu sync.Mutex
	finished := map[receipt.Finish]int{}
	var sessions atomic.Int64
	e := &Script{Chunks: 200, Size: 50}
	s := start(t, Options{Engine: e, Window: window, Deposit: 1 << 40, Trace: client.Trace{Receipt: func(r *client.Receipt, _ string) {
		mu.Lock()
		defer mu.Unlock()
		finished[r.Finish]++
	}}, Outside: counting(&sessions)})
	whole := strings.Replace(streaming, `"stream":true`, `"max_tokens":200`, 1)
	for i := range 200 {
		switch i % 5 {
		case 0:
			leave(t, s, streaming, 0, true)
		case 1:
			leave(t, s, streaming, 1, false)
		case 2:
			leave(t, s, streaming, 1+i%30, true)
		case 3:
			leave(t, s, streaming, -1-i%20, false)
		case 4:
			leave(t, s, whole, -1-i%20, false)
		}
	}
	if finished[receipt.Cancelled] < 80 || finished[receipt.OutOfCredit] > 0 {
		t.Errorf("%v", finished)
	}
	if code := ask(t, s.Client, streaming); code != "" {
		t.Fatal(code)
	}
	if n := sessions.Load(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	// The host knows the last cost a moment after the client.
	var spent uint64
	st := s.Client.State()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if spent = s.row(t).Spent; spent == st.Settled || time.Now().After(end) {
			break
		}
	}
	if spent != st.Settled || st.Signed > st.Settled+window {
		t.Errorf("the host was paid %d for, the client counts %+v", spent, st)
	}
	if lost, err := client.Forgive(t.Context(), s.Config); err != nil || lost != 0 {
		t.Errorf("%d were lost, %v", lost, err)
	}
}

// A host that does not pass on that an answer was cancelled, or what came of it,
// holds nobody up for long and gets no more than one window.
func TestCancelRefused(t *testing.T) {
	const window, together = 3000, 12
	onCancel := func(answer func(r *http.Request) (*http.Response, error)) func(http.RoundTripper) http.RoundTripper {
		return func(rt http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/v1/cancel" {
					return answer(r)
				}
				return rt.RoundTrip(r)
			})
		}
	}
	last := []byte("of another answer") // the end of the answer before
	onEnd := func(change func(b []byte) []byte) func(http.RoundTripper) http.RoundTripper {
		return func(rt http.RoundTripper) http.RoundTripper {
			var left atomic.Bool
			return transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/v1/cancel" {
					left.Store(true)
				}
				resp, err := rt.RoundTrip(r)
				if err == nil && strings.HasSuffix(r.URL.Path, "/sealed") {
					left.Store(false)
					resp.Body = &altered{ReadCloser: resp.Body, when: &left, change: change}
				}
				return resp, err
			})
		}
	}
	for name, o := range map[string]Options{
		"not known":   {Outside: onCancel(func(*http.Request) (*http.Response, error) { return refusal(404, "unknown_path"), nil })},
		"not running": {Outside: onCancel(func(*http.Request) (*http.Response, error) { return refusal(404, "unknown_stream"), nil })},
		"not done":    {Outside: onCancel(func(*http.Request) (*http.Response, error) { return refusal(204, ""), nil })},
		"no answer": {Outside: onCancel(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})},
		"enclave gone": {Between: func(rt http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/settle" && r.Header.Get("Bombyx-Stream") != "" {
					return nil, errDead
				}
				return rt.RoundTrip(r)
			})
		}},
		"end withheld": {Outside: onEnd(func([]byte) []byte { return nil })},
		"end forged":   {Outside: onEnd(func(b []byte) []byte { b[len(b)-1] ^= 1; return b })},
		"end swapped":  {Outside: onEnd(func(b []byte) []byte { b, last = last, b; return b })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &Script{Chunks: 200, Size: 50}
			o.Engine, o.Window, o.Deposit = e, window, 1<<40
			var receipts atomic.Int64
			o.Trace.Receipt = func(*client.Receipt, string) { receipts.Add(1) }
			s := start(t, o)
			arrived := uint64(0)
			for i := range together {
				began := time.Now()
				text := leave(t, s, streaming, 5, i%2 == 0)
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it took %s", took)
				}
				arrived += 10 + 10*uint64(strings.Count(text, "data: {"))
				if i == 1 && (name == "not done" || name == "not running" || name == "no answer") {
					break // each takes as long as a client waits
				}
			}
			if st := s.Client.State(); receipts.Load() > 0 || st.Settled < arrived || st.Signed > st.Settled+window {
				t.Errorf("%d receipts, at least %d arrived, %+v", receipts.Load(), arrived, st)
			}
			if row := s.row(t); s.Client.State().Settled > row.Spent {
				for end := time.Now().Add(10 * time.Second); s.Client.State().Settled > s.row(t).Spent; time.Sleep(time.Millisecond) {
					if name == "enclave gone" {
						break // its host cannot know yet
					}
					if time.Now().After(end) {
						t.Fatalf("the client counts %+v as delivered, and %+v was", s.Client.State(), s.row(t))
					}
				}
			}
		})
	}
}

// altered changes what comes after a moment.
type altered struct {
	io.ReadCloser
	when   *atomic.Bool
	change func([]byte) []byte
	rest   []byte
	over   bool
}

func (a *altered) Read(p []byte) (int, error) {
	for !a.over {
		n, err := a.ReadCloser.Read(p)
		if !a.when.Load() {
			return n, err
		}
		b := append([]byte{}, p[:n]...)
		if err == nil {
			more, _ := io.ReadAll(a.ReadCloser)
			b = append(b, more...)
		}
		a.over = true
		if len(b) > 0 {
			a.rest = a.change(b)
		}
	}
	n := copy(p, a.rest)
	if a.rest = a.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Connections that break cost what arrived before, however many: what the client
// knows of an answer's cost is what it has of the answer.
func TestCuts(t *testing.T) {
	const window, cuts, events = 2000, 60, 6
	e := &Script{Chunks: 200, Size: 50, Step: make(chan struct{})}
	var cut atomic.Pointer[context.CancelFunc]
	s := start(t, Options{Engine: e, Window: window, Deposit: 1 << 40, Outside: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(r.URL.Path, "/sealed") {
				return rt.RoundTrip(r)
			}
			ctx, cancel := context.WithCancel(r.Context())
			cut.Store(&cancel)
			return rt.RoundTrip(r.WithContext(ctx))
		})
	}})
	for i := range cuts {
		for e.Closed.Load() < int64(i) { // nothing is on the way any more
			time.Sleep(time.Millisecond)
		}
		go func() {
			for range events {
				e.Step <- struct{}{}
			}
		}()
		resp, err := post(s, streaming)
		if err != nil {
			t.Fatal(err)
		}
		text, buf := "", make([]byte, 4096)
		for strings.Count(text, "data: {") < events {
			n, err := resp.Body.Read(buf)
			if text += string(buf[:n]); err != nil {
				t.Fatalf("cut %d: %d %q, %v", i, resp.StatusCode, text, err)
			}
		}
		(*cut.Load())()
		if rest, err := read(t, resp); err == nil {
			t.Fatalf("a cut answer ended well: %q", rest)
		}
		if got, want := s.Client.State().Settled, uint64((i+1)*(10+10*events)); got != want {
			t.Fatalf("after %d cuts %d count as delivered, and %d were", i+1, got, want)
		}
	}
	close(e.Step)
	if code := ask(t, s.Client, streaming); code != "" {
		t.Error(code)
	}
}

// A host that has an answer ended which nobody cancelled ends it with its receipt.
// The client counts what arrived, and does not take it for the whole answer.
func TestHostEndsAnAnswer(t *testing.T) {
	e := &Script{Chunks: 50, Size: 8, Step: make(chan struct{})}
	stream := make(chan string, 1)
	var up http.RoundTripper
	s := start(t, Options{Engine: e, Between: func(rt http.RoundTripper) http.RoundTripper {
		up = rt
		return transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/sealed" {
				stream <- r.Header.Get("Bombyx-Stream")
			}
			return rt.RoundTrip(r)
		})
	}})
	go func() {
		for range 7 {
			e.Step <- struct{}{}
		}
		req, _ := http.NewRequest("POST", "http://enclave/settle", nil)
		req.Header.Set("Bombyx-Stream", <-stream)
		if resp, err := up.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	}()
	resp, err := post(s, streaming)
	if err != nil {
		t.Fatal(err)
	}
	body, err := read(t, resp)
	if n := strings.Count(body, "data: {"); err == nil || n != 7 || strings.Contains(body, "[DONE]") || !strings.Contains(err.Error(), "ended") {
		t.Errorf("%d events, %q, %v", n, body, err)
	}
	if st := s.Client.State(); st.Settled != 80 || st.Head == [32]byte{} {
		t.Errorf("%+v", st)
	}
}

// What was cancelled before it was sent is not sent any more.
func TestCancelledBeforeSent(t *testing.T) {
	var sealed atomic.Int64
	s := start(t, Options{Engine: &Script{Chunks: 5, Size: 10}, Outside: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/sealed") {
				sealed.Add(1)
			}
			return rt.RoundTrip(r)
		})
	}})
	if code := ask(t, s.Client, streaming); code != "" {
		t.Fatal(code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
	if resp, err := s.Client.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", resp, err)
	}
	if n := sealed.Load(); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}

// Who waits for what another request asks the host for leaves when it is
// cancelled, however long the host takes over that.
func TestCancelledWhileWaiting(t *testing.T) {
	for _, path := range []string{"/v1/enclaves/e0/evidence", "/v1/session", "/v1/voucher"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			held, release := make(chan struct{}), make(chan struct{})
			var first sync.Once
			s := start(t, Options{Engine: &Script{Chunks: 5, Size: 10}, Outside: func(rt http.RoundTripper) http.RoundTripper {
				return transport(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == path {
						first.Do(func() {
							close(held)
							<-release
						})
					}
					return rt.RoundTrip(r)
				})
			}})
			var all sync.WaitGroup
			defer all.Wait()
			defer close(release)
			all.Go(func() {
				if code := ask(t, s.Client, streaming); code != "" {
					t.Error(code)
				}
			})
			<-held
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() {
				req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
				_, err := s.Client.RoundTrip(req)
				left <- err
			}()
			cancel()
			select {
			case err := <-left:
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("it waits on")
			}
		})
	}
}
