package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestProxyGuards(t *testing.T) {
	called := 0
	h := Proxy(tripper(func(r *http.Request) (*http.Response, error) {
		called++
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
	}))
	for _, c := range []struct {
		host, origin, site string
		want               int
	}{
		{"127.0.0.1:8080", "", "", 200}, {"localhost", "", "", 200}, {"[::1]:1", "", "none", 200},
		{"evil.example", "", "", 403}, {"127.0.0.1.evil.example:80", "", "", 403}, {"127.0.0.1", "https://evil.example", "", 403}, {"127.0.0.1", "null", "", 403},
		{"127.0.0.1", "", "cross-site", 403}, {"127.0.0.1", "", "same-site", 403}, {"127.0.0.1", "", "same-origin", 403},
	} {
		r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader("{}"))
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("host %q origin %q: %d, want %d", c.host, c.origin, w.Code, c.want)
		}
	}
	if called != 3 {
		t.Errorf("transport called %d times, want 3", called)
	}
}

// An answer that breaks off must not look complete to any reader.
func TestProxyShowsTheBreak(t *testing.T) {
	srv := httptest.NewServer(Proxy(tripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}},
			Body: io.NopCloser(io.MultiReader(strings.NewReader("data: {}\n\n"), errReader{}))}, nil
	})))
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/v1/chat/completions", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil || !strings.Contains(string(b), "answer_broken") {
		t.Fatalf("%q, %v", b, err)
	}
}

// SDKs send a request again when its answer breaks off before they have it whole, but not when they are told not to: it may have
// run, and would be paid for twice.
func TestProxyKeepsSDKsFromPayingTwice(t *testing.T) {
	var body io.Reader
	srv := httptest.NewServer(Proxy(tripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(body)}, nil
	})))
	defer srv.Close()
	ask := func() (*http.Response, []byte, error) {
		t.Helper()
		resp, err := http.Post(srv.URL+"/v1/chat/completions", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, b, err
	}
	body = io.MultiReader(strings.NewReader(`{"choices":[`), errReader{})
	if resp, b, err := ask(); err != nil || resp.StatusCode != 502 || resp.Header.Get("X-Should-Retry") != "false" || !strings.Contains(string(b), "answer_broken") || strings.Contains(string(b), "choices") {
		t.Errorf("%d %v %q, %v", resp.StatusCode, resp.Header, b, err)
	}
	body = strings.NewReader("{}")
	if resp, b, err := ask(); err != nil || resp.StatusCode != 200 || string(b) != "{}" {
		t.Errorf("%d %q, %v", resp.StatusCode, b, err)
	}
	// What is longer than is kept back passes all the same, and does not look complete if it breaks off.
	body = strings.NewReader(strings.Repeat("x", maxWhole+2))
	if _, b, err := ask(); err != nil || len(b) != maxWhole+2 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	body = io.MultiReader(strings.NewReader(strings.Repeat("x", maxWhole+1)), errReader{})
	if _, b, err := ask(); err == nil {
		t.Errorf("%d bytes of a broken answer look complete", len(b))
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("cut") }

// What the transport holds for an answer is released when its reader goes.
func TestProxyClosesAnswers(t *testing.T) {
	closed := make(chan struct{})
	srv := httptest.NewServer(Proxy(tripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: endless(closed)}, nil
	})))
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/v1/chat/completions", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Read(make([]byte, 1))
	resp.Body.Close()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the answer is not closed")
	}
}

type endless chan struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "data: {}\n\n"), nil }

func (e endless) Close() error {
	close(e)
	return nil
}
