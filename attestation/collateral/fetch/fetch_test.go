package fetch_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch/fetchtest"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

var (
	now   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	auth  = attestationtest.New("fetch tests")
	nonce = [32]byte{4}
)

// makers serves mock makers over real sockets.
type makers struct {
	*fetchtest.Makers
	server *httptest.Server
}

func serve(t *testing.T) *makers {
	m := fetchtest.New(auth, now)
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return &makers{m, s}
}

func (m *makers) fetcher(dir string, change func(*fetch.Config)) *fetch.Fetcher {
	c := fetch.Config{Dir: dir, Now: func() time.Time { return now }, Sleep: func(context.Context, time.Duration) error { return nil },
		Services: fetchtest.Services(m.server.URL)}
	if change != nil {
		change(&c)
	}
	return fetch.New(c)
}

func (m *makers) requests() int { return len(m.Requests()) }

func collect(t *testing.T, c attestationtest.NodeConfig) ([]byte, *attestationtest.Node) {
	t.Helper()
	c.Name = "node"
	n, err := auth.NewNode(c)
	if err != nil {
		t.Fatal(err)
	}
	k := keyset.Keyset{KeyConfigs: []byte("k"), ReceiptKey: make(ed25519.PublicKey, 32), NotAfter: now.Add(time.Hour)}
	ks, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ev, err := n.Collect(t.Context(), nonce, ks)
	if err != nil {
		t.Fatal(err)
	}
	return ev, n
}

func appraise(t *testing.T, inputs [][]byte, data []byte) *attestation.Result {
	t.Helper()
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	// The mock AMD root is no part of what is fetched; a real one is known.
	b, err := collateral.New(append(inputs, e.AMDRoot, e.IntelRoot)...)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Policy(now)
	p.Devices.GPU.OCSP, p.Devices.Switch.OCSP = policy.Required, policy.Required
	v, err := attestation.NewVerifier(p, b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.AppraiseSaved(now, data, attestation.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is fetched for Evidence is all that appraising it takes, revocation included.
func TestEvidence(t *testing.T) {
	for name, c := range map[string]attestationtest.NodeConfig{
		"TDX":           {},
		"processor CA":  {ProcessorCA: true},
		"one GPU":       {GPUs: 1},
		"with switches": {GPUs: 2, Switches: 1},
		"SEV-SNP":       {SNP: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t)
			ev, _ := collect(t, c)
			inputs, err := m.fetcher("", nil).For(t.Context(), ev, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := appraise(t, inputs, ev).Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A bare SNP report names its chip; the key is fetched.
func TestBareSNP(t *testing.T) {
	m := serve(t)
	ev, _ := collect(t, attestationtest.NodeConfig{SNP: true})
	e, err := attestation.ParseEvidence(ev)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(e.CPU.Certificates)
	m.VCEK = block.Bytes
	inputs, err := m.fetcher("", nil).For(t.Context(), e.CPU.Quote, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The mock ASK is not among AMD's, which are known.
	if err := appraise(t, append(inputs, rest), e.CPU.Quote).Err(); err != nil {
		t.Error(err)
	}
}

func TestHeldGPU(t *testing.T) {
	m := serve(t)
	ev, n := collect(t, attestationtest.NodeConfig{GPUs: 1})
	m.Held = []*attestationtest.Node{n}
	inputs, err := m.fetcher("", nil).For(t.Context(), ev, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := appraise(t, inputs, ev).Check("gpu0.nvidia.ocsp.device"); c == nil || c.Status != check.Fail {
		t.Errorf("%+v", c)
	}
}

// The cache saves requests while it is young, and its files are collateral by themselves.
func TestCache(t *testing.T) {
	m := serve(t)
	dir := filepath.Join(t.TempDir(), "collateral")
	ev, _ := collect(t, attestationtest.NodeConfig{})
	if _, err := m.fetcher(dir, nil).For(t.Context(), ev, nil); err != nil {
		t.Fatal(err)
	}
	first := m.requests()
	if _, err := m.fetcher(dir, nil).For(t.Context(), ev, nil); err != nil || m.requests() != first {
		t.Errorf("%d requests more, error %v", m.requests()-first, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%v %v", files, err)
	}
	var inputs [][]byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, b)
	}
	if err := appraise(t, inputs, ev).Err(); err != nil {
		t.Error(err)
	}
	after := func(d time.Duration) func(*fetch.Config) {
		return func(c *fetch.Config) { c.Now = func() time.Time { return now.Add(d) } }
	}
	if _, err := m.fetcher(dir, after(12*time.Hour-1)).For(t.Context(), ev, nil); err != nil || m.requests() != first {
		t.Errorf("a cache of less than 12 hours was not used: %d requests, error %v", m.requests(), err)
	}
	if _, err := m.fetcher(dir, after(12*time.Hour)).For(t.Context(), ev, nil); err != nil || m.requests() != 2*first {
		t.Errorf("an old cache was used: %d requests, error %v", m.requests(), err)
	}
	// What is no longer collateral, or larger than any, is asked for again.
	for _, junk := range [][]byte{[]byte("junk"), append(inputs[0], bytes.Repeat([]byte(" "), collateral.MaxItem+32<<10)...)} {
		before := m.requests()
		if err := os.WriteFile(files[0], junk, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(files[0], now, now); err != nil {
			t.Fatal(err)
		}
		if _, err := m.fetcher(dir, nil).For(t.Context(), ev, nil); err != nil || m.requests() != before+1 {
			t.Errorf("%d requests for a spoilt file, error %v", m.requests()-before, err)
		}
	}
	// A cache that cannot be written is an error, not a cache that is silently none.
	if _, err := m.fetcher(files[0], nil).For(t.Context(), ev, nil); err == nil || !strings.Contains(err.Error(), "fetch: cache: ") {
		t.Errorf("cache below a file: %v", err)
	}
}

// Of a node's devices every RIM is asked for once and kept; every certificate is asked about once, and the answers are not kept.
func TestNodeAsksOnce(t *testing.T) {
	m := serve(t)
	dir := t.TempDir()
	ev, _ := collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
	count := func() (rims, revocations, others int) {
		for _, u := range m.Requests() {
			switch {
			case strings.HasPrefix(u, "/v1/rim/"):
				rims++
			case u == "/ocsp":
				revocations++
			default:
				others++
			}
		}
		return
	}
	if _, err := m.fetcher("", nil).For(t.Context(), ev, nil); err != nil {
		t.Fatal(err)
	}
	rims, revocations, others := count()
	// The devices have two certificates each of their own to ask about, GPUs, switches and RIM signers some in common.
	parts, err := attestation.TakeApart(ev, nil)
	if err != nil {
		t.Fatal(err)
	}
	certs := map[string]bool{}
	for _, d := range parts.Devices {
		for b, i := d.Certificates, 0; i < 4; i++ {
			var block *pem.Block
			if block, b = pem.Decode(b); i > 0 {
				certs[string(block.Bytes)] = true
			}
		}
	}
	signers := map[string]bool{}
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	for _, rim := range e.RIMs[:3] {
		b, err := collateral.New(rim)
		if err != nil {
			t.Fatal(err)
		}
		chain := b.RIMs()[0].Signers()
		for _, c := range chain[:len(chain)-1] {
			signers[string(c.Raw)] = true
		}
	}
	if rims != 3 || others != 4 || revocations != len(certs)+len(signers) {
		t.Errorf("%d RIMs, %d answers about %d certificates, %d others", rims, revocations, len(certs)+len(signers), others)
	}
	for range 2 {
		if _, err := m.fetcher(dir, nil).For(t.Context(), ev, nil); err != nil {
			t.Fatal(err)
		}
	}
	if r, o, x := count(); r != 2*rims || o != 3*revocations || x != 2*others {
		t.Errorf("with and from a cache %d RIMs, %d answers, %d others", r-rims, o-revocations, x-others)
	}
}

// A response is kept with its issuer chain, and with no other header.
func TestKeptHeaders(t *testing.T) {
	ev, _ := collect(t, attestationtest.NodeConfig{})
	for name, c := range map[string]struct {
		header, value string
		twice, kept   bool
	}{
		"issuer chain": {"X-Issuer-Chain", "kept", false, true},
		"other":        {"X-Other", "not kept", false, false},
		"twice":        {"X-Issuer-Chain", "not kept", true, false},
		"endless":      {"X-Issuer-Chain", strings.Repeat("x", 32<<10), false, false},
		"largest":      {"X-Issuer-Chain", strings.Repeat("x", 32<<10-1), false, true},
	} {
		m := serve(t)
		m.Fail = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Add(c.header, c.value)
			if c.twice {
				w.Header().Add(c.header, c.value)
			}
			return false
		}
		inputs, err := m.fetcher("", nil).For(t.Context(), ev, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range inputs {
			if head, _, _ := bytes.Cut(in, []byte("\r\n\r\n")); bytes.Contains(head, []byte(c.value)) != c.kept || bytes.Contains(head, []byte("Content-Length")) {
				t.Errorf("%s: kept %.200s", name, head)
			}
		}
	}
}

// Without a word of the user's the makers' own services are asked, in the form that they document.
func TestMakersOwnServices(t *testing.T) {
	quote := func(c attestationtest.NodeConfig) []byte {
		_, n := collect(t, c)
		return n.Quote([64]byte{})
	}
	report := func(c attestationtest.NodeConfig, change func(b []byte)) []byte {
		c.SNP = true
		_, n := collect(t, c)
		b := n.SNPReport([64]byte{})
		change(b)
		return b
	}
	nobody := func(b []byte) { b[0] = 2; clear(b[0x188:0x18b]) }
	const intel, amd = "https://api.trustedservices.intel.com", "https://kdsintf.amd.com"
	unchanged := report(attestationtest.NodeConfig{}, func([]byte) {})
	chip := hex.EncodeToString(unchanged[0x1a0:0x1e0])
	tdx := []string{intel + "/tdx/certification/v4/qe/identity", "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
		intel + "/tdx/certification/v4/tcb?fmspc=70a06d070000", intel + "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"}
	encrypted := quote(attestationtest.NodeConfig{})
	encrypted[bytes.Index(encrypted, []byte("-----BEGIN"))-6] = dcap.CertPPIDEncrypted3072 // the type of the certification data
	for name, c := range map[string]struct {
		data []byte
		want []string
		err  string
	}{
		"TDX":                {quote(attestationtest.NodeConfig{}), tdx, ""},
		"processor CA":       {quote(attestationtest.NodeConfig{ProcessorCA: true}), append(tdx[:3:3], intel+"/sgx/certification/v4/pckcrl?ca=processor&encoding=der"), ""},
		"no PCK certificate": {encrypted, tdx[:2], "the quote carries no PCK certificate"},
		"Genoa":              {unchanged, []string{amd + "/vcek/v1/Genoa/crl", amd + "/vcek/v1/Genoa/" + chip + "?blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84"}, ""},
		"Turin": {report(attestationtest.NodeConfig{}, func(b []byte) { b[0x188], b[0x189] = 0x1a, 0x02; copy(b[0x180:], "\x01\x02\x03\x04\x00\x00\x00\x05") }),
			[]string{amd + "/vcek/v1/Turin/crl", amd + "/vcek/v1/Turin/" + chip[:16] + "?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=5"}, ""},
		"version 2":      {report(attestationtest.NodeConfig{}, nobody), []string{amd + "/vcek/v1/Milan/crl", amd + "/vcek/v1/Genoa/crl"}, "the endorsement key cannot be asked for"},
		"VLEK":           {report(attestationtest.NodeConfig{VLEK: true}, func([]byte) {}), []string{amd + "/vlek/v1/Genoa/crl"}, ""},
		"VLEK version 2": {report(attestationtest.NodeConfig{VLEK: true}, nobody), []string{amd + "/vlek/v1/Milan/crl", amd + "/vlek/v1/Genoa/crl"}, "the endorsement key cannot be asked for"},
	} {
		var asked []string
		var waited []time.Duration
		f := fetch.New(fetch.Config{Now: func() time.Time { return now }, Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.String())
			return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}, nil
		})}, Sleep: func(_ context.Context, d time.Duration) error { waited = append(waited, d); return nil }})
		inputs, err := f.For(t.Context(), c.data, nil)
		if !slices.Equal(asked, c.want) || len(inputs) != 0 {
			t.Errorf("%s: asked for\n%s, want\n%s", name, strings.Join(asked, "\n"), strings.Join(c.want, "\n"))
		}
		// What is not there is not asked for again.
		if status := new(fetch.StatusError); !errors.As(err, &status) || status.Code != 404 || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		hosts := map[string]time.Duration{} // the clock stands still: each request to a host waits for 200 ms more than the last
		var waits []time.Duration
		for _, u := range c.want {
			host := strings.Split(u, "/")[2]
			if hosts[host] > 0 {
				waits = append(waits, hosts[host])
			}
			hosts[host] += 200 * time.Millisecond
		}
		if !slices.Equal(waited, waits) {
			t.Errorf("%s: waited %v between requests, want %v", name, waited, waits)
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// What is kept and has expired by its own words is asked for again, however young the file.
func TestExpiredCache(t *testing.T) {
	m := serve(t)
	dir := t.TempDir()
	ev, _ := collect(t, attestationtest.NodeConfig{})
	after := func(d time.Duration) func(*fetch.Config) {
		return func(c *fetch.Config) { c.MaxAge, c.Now = 1000*24*time.Hour, func() time.Time { return now.Add(d) } }
	}
	if _, err := m.fetcher(dir, after(0)).For(t.Context(), ev, nil); err != nil {
		t.Fatal(err)
	}
	first := m.requests()
	if _, err := m.fetcher(dir, after(attestationtest.Lifetime-2*time.Hour)).For(t.Context(), ev, nil); err != nil || m.requests() != first {
		t.Errorf("%d requests more for what is in force, error %v", m.requests()-first, err)
	}
	if _, err := m.fetcher(dir, after(attestationtest.Lifetime)).For(t.Context(), ev, nil); err != nil || m.requests() != 2*first {
		t.Errorf("%d requests more for what has expired, want %d, error %v", m.requests()-first, first, err)
	}
}

// Progress hears of each request, and of no other: what is kept is not asked for.
func TestProgress(t *testing.T) {
	m := serve(t)
	dir := t.TempDir()
	ev, _ := collect(t, attestationtest.NodeConfig{})
	var heard []string
	for range 2 {
		f := m.fetcher(dir, func(c *fetch.Config) { c.Progress = func(url string) { heard = append(heard, url) } })
		if _, err := f.For(t.Context(), ev, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(heard) != 4 || m.requests() != 4 || !strings.HasPrefix(heard[0], m.server.URL+"/") {
		t.Errorf("heard %q of %d requests", heard, m.requests())
	}
}

// The address of a PCCS is taken as its configuration files have it.
func TestPCCSAddress(t *testing.T) {
	for _, suffix := range []string{"", "/", "/sgx/certification/v4", "/sgx/certification/v4/"} {
		m := serve(t)
		ev, _ := collect(t, attestationtest.NodeConfig{})
		f := m.fetcher("", func(c *fetch.Config) { c.Services.PCS += suffix })
		if _, err := f.For(t.Context(), ev, nil); err != nil {
			t.Errorf("%q: %v", suffix, err)
		}
	}
}

func TestBusyService(t *testing.T) {
	m := serve(t)
	failures := 2
	m.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if failures == 0 {
			return false
		}
		failures--
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	var pauses []time.Duration
	ev, _ := collect(t, attestationtest.NodeConfig{})
	f := m.fetcher("", func(c *fetch.Config) {
		c.Interval = time.Nanosecond
		c.Sleep = func(_ context.Context, d time.Duration) error {
			if d > time.Millisecond {
				pauses = append(pauses, d)
			}
			return nil
		}
	})
	if _, err := f.For(t.Context(), ev, nil); err != nil {
		t.Fatal(err)
	}
	if len(pauses) != 2 || pauses[0] != 7*time.Second {
		t.Errorf("paused %v", pauses)
	}
}

// The pauses double, unless the service names another of at most a minute; nobody waits after the last attempt.
func TestPauses(t *testing.T) {
	ev, _ := collect(t, attestationtest.NodeConfig{})
	for after, want := range map[string][]time.Duration{"": {1, 2, 4}, "0": {0, 0, 0}, "60": {60, 60, 60}, "61": {1, 2, 4}, "-1": {1, 2, 4}, "soon": {1, 2, 4}} {
		for _, code := range []int{http.StatusTooManyRequests, http.StatusInternalServerError} {
			m := serve(t)
			m.Fail = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/tcb") {
					return false
				}
				w.Header().Set("Retry-After", after)
				w.WriteHeader(code)
				return true
			}
			var pauses []time.Duration
			clock := now
			f := m.fetcher("", func(c *fetch.Config) {
				c.Now = func() time.Time { clock = clock.Add(time.Hour); return clock } // so that only pauses are slept
				c.Sleep = func(_ context.Context, d time.Duration) error { pauses = append(pauses, d/time.Second); return nil }
			})
			if _, err := f.For(t.Context(), ev, nil); err == nil || !slices.Equal(pauses, want) {
				t.Errorf("%d, Retry-After %q: paused %v, want %v, error %v", code, after, pauses, want, err)
			}
		}
	}
}

func TestRateLimit(t *testing.T) {
	m := serve(t)
	var waited time.Duration
	ev, _ := collect(t, attestationtest.NodeConfig{})
	f := m.fetcher("", func(c *fetch.Config) {
		c.Interval = time.Second
		c.Sleep = func(_ context.Context, d time.Duration) error { waited = max(waited, d); return nil }
	})
	if _, err := f.For(t.Context(), ev, nil); err != nil {
		t.Fatal(err)
	}
	// The clock stands still: the fourth request to the one host comes three intervals after the first.
	if waited != 3*time.Second {
		t.Errorf("waited up to %v", waited)
	}
}

// Whatever a service does, there is an error that names it, and everything else is still there.
func TestBadServices(t *testing.T) {
	ev, _ := collect(t, attestationtest.NodeConfig{GPUs: 1})
	for name, c := range map[string]struct {
		fail func(w http.ResponseWriter, r *http.Request) bool
		want string
	}{
		"not found": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/tcb") {
				http.NotFound(w, r)
				return true
			}
			return false
		}, "answered 404"},
		"down": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/tcb") {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			return false
		}, "gave up after 4 attempts"},
		"captive portal": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/tcb") {
				w.Write([]byte("<html>log in</html>"))
				return true
			}
			return false
		}, "did not answer with collateral"},
		"endless": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/tcb") {
				block := make([]byte, 1<<20)
				for range 5 {
					w.Write(block)
				}
				return true
			}
			return false
		}, "more than 4194304 bytes"},
		"largest": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/tcb") {
				w.Write(make([]byte, collateral.MaxItem))
				return true
			}
			return false
		}, "did not answer with collateral"},
		"OCSP answers to another request": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/ocsp" {
				request, _ := io.ReadAll(r.Body)
				answer, err := auth.AnswerOCSP(request, attestationtest.OCSPOptions{Now: now, Nonce: make([]byte, 32)})
				if err != nil {
					panic(err)
				}
				w.Write(answer)
				return true
			}
			return false
		}, "does not carry the nonce"},
		"old OCSP answers with the nonce outside of what is signed": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/ocsp" {
				request, _ := io.ReadAll(r.Body)
				answer, err := auth.AnswerOCSP(request, attestationtest.OCSPOptions{Now: now, Nonce: make([]byte, 32)})
				if err != nil {
					t.Error(err)
				}
				w.Write(withParameters(t, answer, request[len(request)-32:]))
			}
			return r.URL.Path == "/ocsp"
		}, "does not carry the nonce"},
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t)
			m.Fail = c.fail
			dir := t.TempDir()
			inputs, err := m.fetcher(dir, nil).For(t.Context(), ev, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			r := appraise(t, inputs, ev)
			if !errors.Is(r.Err(), check.ErrMissing) {
				t.Errorf("appraisal: %v, want missing collateral", r.Err())
			}
		})
	}
}

// What a request says of a platform is not for those on the way: no service can move it from HTTPS to HTTP, or about without end.
func TestRedirects(t *testing.T) {
	ev, _ := collect(t, attestationtest.NodeConfig{})
	m := serve(t)
	mux := http.NewServeMux()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	mux.Handle("/plain/", http.StripPrefix("/plain", http.RedirectHandler(m.server.URL, http.StatusFound)))
	mux.HandleFunc("/round/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.RequestURI, http.StatusFound) })
	mux.Handle("/moved/", http.StripPrefix("/moved", m.Makers))
	mux.HandleFunc("/old/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/moved/"+strings.TrimPrefix(r.RequestURI, "/old/"), http.StatusFound)
	})
	for from, to := range map[string]string{"/one/": "/two/", "/two/": "/old/", "/four/": "/one/"} {
		mux.HandleFunc(from, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, to+strings.TrimPrefix(r.RequestURI, from), http.StatusFound)
		})
	}
	for path, want := range map[string]string{"/one": "", "/four": "more than 3 redirects", "/plain": "a redirect from HTTPS to http://", "/round": "more than 3 redirects", "/old": ""} {
		before := m.requests()
		inputs, err := m.fetcher("", func(c *fetch.Config) {
			c.Services, c.Client = fetchtest.Services(secure.URL+path), secure.Client()
		}).For(t.Context(), ev, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
		if want != "" && (len(inputs) != 0 || m.requests() != before) {
			t.Errorf("%s: %d inputs, %d requests", path, len(inputs), m.requests()-before)
		}
	}
}

// A host that cannot be reached is tried as often as configured for the first request, and not at all for the others.
func TestUnreachable(t *testing.T) {
	m := serve(t)
	m.server.Close()
	ev, _ := collect(t, attestationtest.NodeConfig{})
	asked := 0
	f := m.fetcher("", func(c *fetch.Config) { c.Progress = func(string) { asked++ } })
	inputs, err := f.For(t.Context(), ev, nil)
	if err == nil || len(inputs) != 0 || asked != 4 || strings.Count(err.Error(), "was not asked for") != 3 {
		t.Errorf("%d inputs after %d requests: %v", len(inputs), asked, err)
	}
}

func TestCancel(t *testing.T) {
	m := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if ctx.Err() != nil {
			return false
		}
		cancel()
		<-r.Context().Done()
		return true
	}
	ev, _ := collect(t, attestationtest.NodeConfig{})
	f := m.fetcher("", nil)
	if _, err := f.For(ctx, ev, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	// Whoever asks next gets an answer: the host was not what failed.
	if _, err := f.For(t.Context(), ev, nil); err != nil {
		t.Errorf("after one that was given up: %v", err)
	}
}

// Evidence of which a part cannot be read is fetched for as far as the others go.
func TestBrokenParts(t *testing.T) {
	_, n := collect(t, attestationtest.NodeConfig{GPUs: 1})
	_, amd := collect(t, attestationtest.NodeConfig{SNP: true})
	quote := func(ev, broken []byte) []byte {
		e, err := attestation.ParseEvidence(ev)
		if err != nil {
			t.Fatal(err)
		}
		old, b := base64.StdEncoding.EncodeToString(e.CPU.Quote), base64.StdEncoding.EncodeToString(broken)
		return bytes.Replace(ev, []byte(old), []byte(b), 1)
	}
	with := func(n *attestationtest.Node, change func(d *attestation.Device)) []byte {
		devices := n.Devices([32]byte{})
		for i := range devices {
			change(&devices[i])
		}
		ev, err := n.CollectWith(nonce, []byte("k"), devices)
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	same := func(*attestation.Device) {}
	// The first certificate's version, in base64 of its first line.
	leaf := bytes.Replace(n.Quote([64]byte{}), []byte("-----BEGIN CERTIFICATE-----\nMII"), []byte("-----BEGIN CERTIFICATE-----\nAII"), 1)
	for name, c := range map[string]struct {
		data []byte
		want string
		got  int
	}{
		"quote":               {quote(with(n, same), []byte("q")), "quote", 8},
		"PCK certificate":     {leaf, "x509: ", 2},
		"report":              {quote(with(amd, same), []byte("r")), "report", 0},
		"device report":       {with(n, func(d *attestation.Device) { d.Report = []byte("r") }), "nvidia: ", 4},
		"device certificates": {with(n, func(d *attestation.Device) { d.Certificates = []byte("c") }), "nvidia: ", 4},
	} {
		inputs, err := serve(t).fetcher("", nil).For(t.Context(), c.data, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(inputs) != c.got {
			t.Errorf("%s: %d inputs, error %v", name, len(inputs), err)
		}
	}
}

func TestNotEvidence(t *testing.T) {
	if _, err := fetch.New(fetch.Config{}).For(t.Context(), []byte("hello"), nil); err == nil {
		t.Error("fetched for what is no evidence")
	}
}

// withParameters puts b into an OCSP response as parameters of its signature algorithm, which nothing signs.
func withParameters(t *testing.T, response, b []byte) []byte {
	t.Helper()
	var outer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type  asn1.ObjectIdentifier
			Basic []byte
		} `asn1:"explicit,tag:0"`
	}
	var basic struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(response, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Bytes.Basic, &basic); err != nil {
		t.Fatal(err)
	}
	basic.Algorithm.Parameters = asn1.RawValue{Tag: asn1.TagOctetString, Bytes: b}
	var err error
	if outer.Bytes.Basic, err = asn1.Marshal(basic); err == nil {
		response, err = asn1.Marshal(outer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return response
}
