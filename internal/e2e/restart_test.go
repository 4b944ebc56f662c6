package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/enclave"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
)

// another starts another enclave in the place of the stack's, as after a restart,
// and returns the transport to it.
func (s *Stack) another(t *testing.T, e *Script, prices price.List) http.RoundTripper {
	t.Helper()
	node, err := s.Authority.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := (&manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: Model, Format: "gguf", SHA256: hex.EncodeToString(make([]byte, 32)), Size: 1, ContextLength: 4096}}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	next, err := enclave.New(enclave.Config{Engine: e, Collector: node, Manifest: doc, Prices: prices, Build: sha256.Sum256([]byte("build")), Digest: sha256.Sum256([]byte("config")),
		KeyLifetime: time.Hour, Patience: 5 * time.Second, Window: 2 * time.Minute, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "enclave.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(l, next.Handler())
	return host.EnclaveTransport(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) })
}

// An enclave and its host are started again with other prices, within the limit:
// the clients that know their last keys and card go on. Where host and enclave
// disagree for a while, nothing is taken at prices that the card does not name.
func TestRestartedAtOtherPrices(t *testing.T) {
	half := Prices[Model]
	half.Prompt, half.Cached, half.Completion, half.Reasoning = half.Prompt/2, half.Cached/2, half.Completion/2, half.Reasoning/2
	for name, disagree := range map[string]bool{"at once": false, "the enclave first": true} {
		t.Run(name, func(t *testing.T) {
			var costs []uint64
			var up atomic.Pointer[http.RoundTripper]
			e := &Script{Chunks: 5, Size: 10}
			s := start(t, Options{Engine: e, Trace: client.Trace{Receipt: func(r *client.Receipt, _ string) { costs = append(costs, r.Cost) }},
				Between: func(first http.RoundTripper) http.RoundTripper {
					up.Store(&first)
					return transport(func(r *http.Request) (*http.Response, error) { return (*up.Load()).RoundTrip(r) })
				}})
			if code := ask(t, s.Client, streaming); code != "" {
				t.Fatal(code)
			}
			next := s.another(t, e, price.List{Model: half})
			up.Store(&next)
			if disagree {
				settled := s.Client.State().Settled
				if code := ask(t, s.Client, streaming); code != "other_prices" || s.Client.State().Settled != settled {
					t.Errorf("%q, %+v", code, s.Client.State())
				}
			}
			s.KillHost()
			s.host.Prices = price.List{Model: half}
			if err := s.RestartHost(); err != nil {
				t.Fatal(err)
			}
			if code := ask(t, s.Client, streaming); code != "" {
				t.Error(code)
			}
			if len(costs) != 2 || costs[1] != costs[0]/2 {
				t.Errorf("%v", costs)
			}
		})
	}
}

// A request that does not open may be sealed to a key of before that had the same
// number: the client gets new Evidence, and asks once more.
func TestRequestDoesNotOpen(t *testing.T) {
	for code, want := range map[string]int{"unknown_key": 2, "malformed_envelope": 2, "truncated_request": 2, "malformed_header": 1} {
		t.Run(code, func(t *testing.T) {
			evidence, sealed := 0, 0
			s := start(t, Options{Engine: &Script{Chunks: 5, Size: 10}, Between: func(rt http.RoundTripper) http.RoundTripper {
				return transport(func(r *http.Request) (*http.Response, error) {
					switch r.URL.Path {
					case "/evidence":
						evidence++
					case "/sealed":
						if sealed++; sealed == 1 {
							r.Body.Close()
							return &http.Response{StatusCode: 400, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(apierror.New(400, code, "it does not open", "").JSON())), Request: r}, nil
						}
					}
					return rt.RoundTrip(r)
				})
			}})
			failed := ask(t, s.Client, streaming)
			if evidence != want || sealed != want || (failed == "") != (want == 2) {
				t.Errorf("%d Evidence, %d requests, %q", evidence, sealed, failed)
			}
		})
	}
}
