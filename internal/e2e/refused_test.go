package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
)

// token opens a session of the stack's client over a connection of the test's.
func (s *Stack) token(t *testing.T, rt http.RoundTripper, url string) string {
	t.Helper()
	req := session.Request{Host: [32]byte(s.Host.Key()), Terms: s.Config.Payment.Channel, Time: time.Now().UnixNano()}
	post, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/session", bytes.NewReader(req.Sign(s.Config.Payment.Key)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(post)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var o struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || o.Token == "" {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	return o.Token
}

// What host or enclave refuses before it has read all of a long request, it
// refuses with the error that it is: the client hears of it while it still
// sends, over whatever connection.
func TestLongRequestRefusedEarly(t *testing.T) {
	s := start(t, Options{Engine: &Script{}})
	rec := httptest.NewRecorder()
	s.Enclave.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/keyset", nil))
	keys, err := keyset.Parse(rec.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	configs, err := envelope.ParseKeyConfigs(keys.KeyConfigs)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := envelope.NewSender(configs[0])
	if err != nil {
		t.Fatal(err)
	}

	overTLS := httptest.NewUnstartedServer(nil)
	overTLS.Config, overTLS.EnableHTTP2 = host.NewServer(s.Host), true
	overTLS.StartTLS()
	t.Cleanup(overTLS.Close)
	plain := s.URL
	s.overADNL(t, s.host.Identity)
	network, err := adnl.ParseNetwork(s.Config.Network)
	if err != nil {
		t.Fatal(err)
	}
	id := adnl.IDOf(s.Host.Key())
	for _, over := range []struct {
		name, url string
		rt        http.RoundTripper
	}{
		{"HTTP/1.1", plain, &http.Transport{}},
		{"HTTP/2 over TLS", overTLS.URL, overTLS.Client().Transport},
		{"ADNL", "http://" + hex.EncodeToString(id[:]), (&adnl.Dialer{Network: network, ID: id}).Transport()},
	} {
		token := s.token(t, over.rt, over.url)
		for _, c := range []struct {
			name   string
			token  string
			spoil  func(sealed []byte)
			status int
			code   string
			sealed bool // the refusal is
		}{
			{name: "by the host", token: "none", status: 401, code: "unknown_session"},
			{name: "by the enclave", token: token, spoil: func(b []byte) { b[0] ^= 0xff }, status: 422, code: "unknown_key"},
			{name: "by the enclave, of its beginning", token: token, spoil: func(b []byte) { b[2000] ^= 1 }, status: 400, code: "malformed_envelope", sealed: true},
			{name: "by the enclave under seal", token: token, status: 422, code: "unknown_evidence", sealed: true},
		} {
			for _, size := range []int{100 << 10, 1 << 20, 7 << 20} {
				for _, how := range []string{"", ", of no known length", ", half of it"} {
					// Where the rest of the request comes after the answer. HTTP/1 needs
					// some of it to get there, and all to see the end of a sealed one.
					half := strings.HasSuffix(how, "half of it")
					if half && (size < 1<<20 || c.sealed && over.name == "HTTP/1.1") {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s, %d KiB%s", over.name, c.name, size>>10, how), func(t *testing.T) {
						inner, _ := http.NewRequestWithContext(t.Context(), "POST", "https://bombyx/v1/chat/completions", strings.NewReader(strings.Repeat("x", size)))
						inner.Header = http.Header{"Bombyx-Id": {randomHex(16)}, "Bombyx-Channel": {s.Config.Payment.Channel.Address().Raw()},
							"Bombyx-Evidence": {strings.Repeat("0", 64)}, "Bombyx-Prices": {strings.Repeat("0", 64)}, "Bombyx-Salt": {strings.Repeat("0", 64)}}
						sealed, opener, err := sender.Seal(inner)
						if err != nil {
							t.Fatal(err)
						}
						body, err := io.ReadAll(sealed)
						if err != nil {
							t.Fatal(err)
						}
						if c.spoil != nil {
							c.spoil(body)
						}
						var from io.Reader = bytes.NewReader(body)
						if half {
							rest, _ := io.Pipe()
							from = struct {
								io.Reader
								io.Closer
							}{io.MultiReader(bytes.NewReader(body[:len(body)/2]), rest), rest}
						}
						post, _ := http.NewRequestWithContext(t.Context(), "POST", over.url+"/v1/enclaves/e0/sealed", from)
						post.Header = http.Header{"Authorization": {"Bearer " + c.token}, "Bombyx-Stream": {randomHex(16)}, "Bombyx-Allot": {"0"}, "Content-Type": {envelope.RequestMediaType}}
						if post.ContentLength = int64(len(body)); strings.Contains(how, "no known") {
							post.ContentLength = -1
						}
						resp, err := over.rt.RoundTrip(post)
						if err != nil {
							t.Fatal(err)
						}
						defer resp.Body.Close()
						answer := resp
						if c.sealed && resp.StatusCode == 200 {
							if answer, err = opener.Open(resp.Body, nil); err != nil {
								t.Fatal(err)
							}
						}
						if f := apierror.Read(answer); f.Status != c.status || f.Code != c.code {
							t.Errorf("%d %s: %v", f.Status, f.Code, f)
						}
						if _, err := io.Copy(io.Discard, resp.Body); err != nil {
							t.Errorf("the answer's end: %v", err)
						}
					})
				}
			}
		}
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// A balancer sends a client to another process of the host, with an enclave of its
// own: the client takes that one from the process's card, and gives up in time.
func TestOtherProcessOtherEnclave(t *testing.T) {
	for name, c := range map[string]struct{ times, status int }{"once": {1, 200}, "always": {1 << 30, 404}} {
		t.Run(name, func(t *testing.T) {
			cards, sealed := 0, 0
			s := start(t, Options{Engine: &Script{Chunks: 1, Size: 8}, Outside: func(rt http.RoundTripper) http.RoundTripper {
				return transport(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/v1/card" {
						cards++
					}
					if strings.HasSuffix(r.URL.Path, "/sealed") {
						if sealed++; sealed <= c.times {
							r.Body.Close()
							return refusal(404, "unknown_enclave"), nil
						}
					}
					return rt.RoundTrip(r)
				})
			}})
			resp, err := post(s, streaming)
			if err != nil {
				t.Fatal(err)
			}
			if read(t, resp); resp.StatusCode != c.status || cards != sealed || cards > 3 {
				t.Errorf("%d after %d cards and %d requests, want %d", resp.StatusCode, cards, sealed, c.status)
			}
		})
	}
}
