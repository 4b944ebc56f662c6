package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A greedy host says of every voucher that it is spent, and then that it is not
// enough: the next one would be worth a window more.
type greedy struct {
	rt         http.RoundTripper
	authorised uint64
	sessions   int
	lie        func(*http.Request) (*http.Response, error) // to what it does not answer itself
}

func (g *greedy) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Path {
	case "/v1/session":
		g.sessions++
		resp, err := g.rt.RoundTrip(r)
		if err != nil {
			return resp, err
		}
		var s map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			return nil, err
		}
		resp.Body.Close()
		s["spent"], s["reserved"] = g.authorised, 0
		b, err := json.Marshal(s)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		return resp, err
	case "/v1/voucher":
		wire, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		v, err := channel.ParseVoucher(wire)
		if err != nil {
			return nil, err
		}
		g.authorised = max(g.authorised, v.Total)
		r.Body = io.NopCloser(bytes.NewReader(wire))
	}
	if resp, err := g.lie(r); resp != nil || err != nil {
		r.Body.Close()
		return resp, err
	}
	return g.rt.RoundTrip(r)
}

func refusal(status int, code string, header ...string) *http.Response {
	b := apierror.New(status, code, code, "").JSON()
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b))}
}

// A host that delivers nothing gets one window, however often it is asked and
// whatever it says has been spent; one that cuts answers gets what it was told
// those may cost.
func TestGreedyHost(t *testing.T) {
	const window, requests = 1000, 5
	for name, c := range map[string]struct {
		lie  func(*greedy) func(*http.Request) (*http.Response, error)
		most uint64
	}{
		"forgets the session": {func(*greedy) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/v1/voucher" {
					return refusal(401, "unknown_session"), nil
				}
				return nil, nil
			}
		}, window},
		"forgets it later": {func(*greedy) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/sealed") {
					return refusal(401, "unknown_session"), nil
				}
				return nil, nil
			}
		}, window},
		"wants more credit": {func(g *greedy) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/sealed") {
					a := strconv.FormatUint(g.authorised, 10)
					return refusal(402, "insufficient_credit", "Bombyx-Authorised", a, "Bombyx-Spent", a, "Bombyx-Reserved", "0"), nil
				}
				return nil, nil
			}
		}, window},
		"cuts, and wants more credit": {func(g *greedy) func(*http.Request) (*http.Response, error) {
			cut := false
			return func(r *http.Request) (*http.Response, error) {
				if !strings.HasSuffix(r.URL.Path, "/sealed") {
					return nil, nil
				}
				if cut = !cut; cut {
					return nil, errDead
				}
				a := strconv.FormatUint(g.authorised, 10)
				return refusal(402, "insufficient_credit", "Bombyx-Authorised", a, "Bombyx-Spent", a, "Bombyx-Reserved", "0"), nil
			}
		}, window * (requests + 1)},
	} {
		t.Run(name, func(t *testing.T) {
			g := new(greedy)
			g.lie = c.lie(g)
			s := start(t, Options{Engine: &Script{Chunks: 5, Size: 8}, Window: window, Deposit: 100 * window, Outside: func(rt http.RoundTripper) http.RoundTripper {
				g.rt = rt
				return transport(g.RoundTrip)
			}})
			for range requests {
				resp, err := post(s, streaming)
				if err != nil {
					t.Fatal(err)
				}
				if body, _ := read(t, resp); resp.StatusCode < 400 {
					t.Fatalf("%d %q", resp.StatusCode, body)
				}
			}
			if st := s.Client.State(); st.Signed > c.most {
				t.Errorf("%+v: signed for nothing, want %d at most", st, c.most)
			}
			if g.sessions > 9*requests+1 {
				t.Errorf("%d sessions for %d requests", g.sessions, requests)
			}
		})
	}
}

// A host cannot pass one model off under the price of another: only what the
// attested manifest lists is asked for.
func TestModelThatIsNotThere(t *testing.T) {
	const other = "dear-model"
	sealed := 0
	var s *Stack
	s = start(t, Options{Engine: &Script{Chunks: 5, Size: 8}, Outside: func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/sealed") {
				sealed++
			}
			resp, err := rt.RoundTrip(r)
			if err != nil || r.URL.Path != "/v1/card" {
				return resp, err
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			c, err := card.Verify(string(b), s.Host.Key(), time.Now())
			if err != nil {
				return nil, err
			}
			c.Enclaves[0].Models = append(c.Enclaves[0].Models, other)
			c.Prices[other] = Prices[Model]
			text, err := card.Sign(c, s.host.Identity)
			resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			return resp, err
		})
	}})
	for range 2 {
		resp, err := post(s, strings.ReplaceAll(streaming, Model, other))
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := read(t, resp); resp.StatusCode != 403 || !strings.Contains(body, "attestation_failed") || sealed != 0 {
			t.Errorf("%d %q, %d requests sent", resp.StatusCode, body, sealed)
		}
	}
}
