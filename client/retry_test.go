package client

import (
	"context"
	"crypto/ed25519"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/price"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A session that the host refuses for now is asked for again, no sooner than the host says, each time signed later; any other
// refusal is handed through, and so is the same one when it lasts.
func TestSessionRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		after  string
		lasts  int           // refusals, then a session
		limit  time.Duration // of the request; 0 is none
		tries  int
		waits  time.Duration // all in all; each wait is its Retry-After and a quarter
		want   string
	}{
		"held":            {503, "channel_held", "2", 2, 0, 3, 5 * time.Second, ""},
		"busy":            {503, "busy", "1", 1, 0, 2, 1250 * time.Millisecond, ""},
		"rate limited":    {429, "busy", "1", 4, 0, 5, 5 * time.Second, ""},
		"too often":       {429, "busy", "1", 9, 0, 5, 5 * time.Second, "busy"},
		"too long":        {503, "channel_held", "10", 9, 0, 3, 25 * time.Second, "channel_held"},
		"an hour":         {503, "busy", "3600", 9, 0, 1, 0, "busy"},
		"too late":        {503, "channel_held", "2", 9, 4 * time.Second, 2, 2500 * time.Millisecond, "channel_held"},
		"says not when":   {503, "busy", "", 9, 0, 1, 0, "busy"},
		"not a number":    {503, "busy", "soon", 9, 0, 1, 0, "busy"},
		"chain down":      {503, "chain_down", "1", 9, 0, 1, 0, "chain_down"},
		"another status":  {502, "busy", "1", 9, 0, 1, 0, "busy"},
		"another refusal": {403, "stale_session", "1", 9, 0, 1, 0, "stale_session"},
		"held, wrong 4xx": {409, "channel_held", "1", 9, 0, 1, 0, "channel_held"},
		"none at all":     {0, "", "", 0, 0, 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, key, _ := ed25519.GenerateKey(nil)
				tries, last := 0, ""
				base := roundTrip(func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					if string(body) == last {
						t.Error("the same request again")
					}
					last = string(body)
					if tries++; tries > c.lasts {
						return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"token":"t"}`))}, nil
					}
					f := apierror.New(c.status, c.code, "not now", "")
					return &http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {c.after}}, Body: io.NopCloser(strings.NewReader(string(f.JSON())))}, nil
				})
				tr := newTransport(Config{Host: "http://127.0.0.1:1", HostKey: key.Public().(ed25519.PublicKey), Base: base})
				tr.jitter = func(below time.Duration) time.Duration { return below / 2 }
				u := &purse{t: tr, p: Payment{Key: key}}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.limit)
				}
				defer cancel()
				begin := time.Now()
				token, fault := u.openSession(ctx)
				if got := time.Since(begin).Round(time.Millisecond); got != c.waits || tries != c.tries {
					t.Errorf("%d tries in %s, want %d in %s", tries, got, c.tries, c.waits)
				}
				if c.want == "" && (fault != nil || token != "t") || c.want != "" && (fault == nil || fault.Code != c.want) {
					t.Errorf("%q, %v", token, fault)
				}
			})
		})
	}
}

// A caller who gives up is not kept.
func TestRetryEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin, tries := time.Now(), 0
		_, fault := new(Transport).patiently(ctx, func() ([]byte, *apierror.Error) {
			tries++
			return nil, apierror.New(503, "channel_held", "not now", "").After(5 * time.Second)
		})
		if d := time.Since(begin); fault == nil || tries != 1 || d != time.Second {
			t.Errorf("%d tries in %s: %v", tries, d, fault)
		}
	})
}

// A sealed request is sent once, whatever the host promises: it may have run.
func TestSealedIsNotSentAgain(t *testing.T) {
	for _, refusal := range []*apierror.Error{
		apierror.New(503, "channel_held", "not now", "").After(time.Second), apierror.New(503, "busy", "not now", "").After(time.Second),
		apierror.New(429, "busy", "not now", "").After(time.Second), apierror.New(502, "enclave_down", "not now", "").After(time.Second),
	} {
		t.Run(refusal.Code, func(t *testing.T) {
			k, err := envelope.GenerateKey(1, envelope.XWing, envelope.AES256GCM)
			if err != nil {
				t.Fatal(err)
			}
			sender, err := envelope.NewSender(k.Config())
			if err != nil {
				t.Fatal(err)
			}
			sent := 0
			tr := newTransport(Config{Host: "http://127.0.0.1:1", Window: 1000, MaxPrices: Prices{Prompt: 1}, Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/sealed") {
					sent++
				}
				w := httptest.NewRecorder()
				refusal.Write(w)
				return w.Result(), nil
			})})
			tr.purse = testPurse(1000, 0, 0)
			tr.purse.t = tr
			tr.card = &offer{Card: &card.Card{NotAfter: math.MaxInt64, Enclaves: []card.Enclave{{ID: "e0", Models: []string{"m"}}}, Prices: price.List{"m": {Prompt: 1}}}}
			tr.enclaves["e0"] = &attested{id: "e0", sender: sender, until: time.Now().Add(time.Hour), models: map[string]uint64{"m": 100}}
			req := httptest.NewRequestWithContext(t.Context(), "POST", BaseURL+"/chat/completions", strings.NewReader(`{"model":"m","stream":true}`))
			resp, err := tr.RoundTrip(req)
			if err != nil || resp.StatusCode != refusal.Status || sent != 1 {
				t.Fatalf("sent %d times: %v, %v", sent, resp, err)
			}
		})
	}
}
