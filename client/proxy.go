package client

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
)

// Proxy serves the OpenAI API over a [Transport] (or any other RoundTripper
// that answers alike) to programs on this machine.
//
// It takes requests for loopback names only, and none that a web page could
// have sent: whoever reaches it can spend the channel.
func Proxy(t http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := guard(r); f != nil {
			f.Write(w)
			return
		}
		serveProxy(t, w, r)
	})
}

// guard keeps web pages out: a page's requests carry an Origin or, where they
// do not, Sec-Fetch-Site, and a rebound DNS name shows in Host.
func guard(r *http.Request) *apierror.Error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !card.Loopback(host) {
		return apierror.New(403, "not_local", "the proxy serves loopback names only", "use http://127.0.0.1")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") != "" || site != "" && site != "none" {
		return apierror.New(403, "not_local", "the proxy does not serve web pages", "call it from a program")
	}
	return nil
}

const (
	eventStream = "text/event-stream"
	maxWhole    = 64 << 20 // bytes that are kept back of an answer that is no stream: as many as enclaves give
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

func serveProxy(t http.RoundTripper, w http.ResponseWriter, r *http.Request) {
	out := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "https", Host: "bombyx", Path: r.URL.Path}, Header: http.Header{}, Body: r.Body}
	resp, err := t.RoundTrip(out.WithContext(r.Context()))
	if err != nil {
		apierror.New(502, "not_sent", err.Error(), "").Write(w)
		return
	}
	defer resp.Body.Close()
	var whole []byte
	if resp.Header.Get("Content-Type") != eventStream {
		// SDKs send again what breaks off under them, and it would be paid for twice.
		if whole, err = io.ReadAll(io.LimitReader(resp.Body, maxWhole+1)); err != nil {
			w.Header().Set("X-Should-Retry", "false")
			faultOf(err).Write(w)
			return
		}
	}
	for name, v := range resp.Header {
		w.Header()[name] = v
	}
	w.WriteHeader(resp.StatusCode)
	if _, err := w.Write(whole); err != nil {
		return
	}
	rc := http.NewResponseController(w)
	p := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(p)
	for {
		n, err := resp.Body.Read(*p)
		if n > 0 {
			if _, werr := w.Write((*p)[:n]); werr != nil {
				return
			}
			if err == nil && rc.Flush() != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			abort(w, rc, resp, err)
		}
	}
}

// faultOf is what an answer ended with.
func faultOf(err error) (f *apierror.Error) {
	if !errors.As(err, &f) {
		f = apierror.New(502, "answer_broken", err.Error(), "")
	}
	return f
}

// abort tells an event stream's reader what happened, and ends the response
// so that nobody takes it for complete.
func abort(w http.ResponseWriter, rc *http.ResponseController, resp *http.Response, err error) {
	if resp.Header.Get("Content-Type") == eventStream {
		w.Write(append(append([]byte("data: "), faultOf(err).JSON()...), "\n\n"...))
		rc.Flush()
	}
	panic(http.ErrAbortHandler)
}
