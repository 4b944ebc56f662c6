package fetch_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

var (
	now   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	auth  = attestationtest.New("fetch tests")
	nonce = [32]byte{4}
)

// makers serves what Intel, AMD and NVIDIA serve, over real sockets.
type makers struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
	// fail answers a request instead, when it is not nil and returns true.
	fail func(w http.ResponseWriter, r *http.Request) bool
	held []*attestationtest.Node
	vcek []byte // DER
}

func serve(t *testing.T) *makers {
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	rims := map[string][]byte{"NV_GPU_DRIVER_GH100_590.12": e.RIMs[0], "NV_GPU_VBIOS_G520_0200_885_9600A50001": e.RIMs[1],
		"NV_SWITCH_BIOS_5612_0002_890_9610730001": e.RIMs[2]}
	m := &makers{}
	mux := http.NewServeMux()
	chained := func(header string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, url.PathEscape(string(e.TCBSigner)))
			w.Write(body)
		}
	}
	mux.HandleFunc("GET /tdx/certification/v4/tcb", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("fmspc") != "70a06d070000" {
			http.NotFound(w, r)
			return
		}
		chained("Tcb-Info-Issuer-Chain", e.TCBInfo)(w, r)
	})
	mux.HandleFunc("GET /tdx/certification/v4/qe/identity", chained("Sgx-Enclave-Identity-Issuer-Chain", e.QEIdentity))
	mux.HandleFunc("GET /sgx/certification/v4/pckcrl", func(w http.ResponseWriter, r *http.Request) {
		w.Write(map[string][]byte{"platform": e.PlatformCRL, "processor": e.ProcessorCRL}[r.FormValue("ca")])
	})
	mux.HandleFunc("GET /root.der", func(w http.ResponseWriter, _ *http.Request) { w.Write(e.RootCRL) })
	mux.HandleFunc("GET /vcek/v1/Genoa/crl", func(w http.ResponseWriter, _ *http.Request) { w.Write(e.AMDCRL) })
	mux.HandleFunc("GET /vcek/v1/Genoa/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84" || len(r.PathValue("id")) != 128 {
			http.NotFound(w, r)
			return
		}
		w.Write(m.vcek)
	})
	mux.HandleFunc("GET /v1/rim/{id}", func(w http.ResponseWriter, r *http.Request) {
		rim := rims[r.PathValue("id")]
		if rim == nil {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"id": r.PathValue("id"), "rim": base64.StdEncoding.EncodeToString(rim)})
	})
	mux.HandleFunc("POST /ocsp", func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		// The nonce is the last 32 bytes of the request, its only extension.
		answer, err := auth.AnswerOCSP(request, attestationtest.OCSPOptions{Now: now, Held: m.held, Nonce: request[len(request)-32:]})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Write(answer)
	})
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.paths = append(m.paths, r.URL.Path)
		fail := m.fail
		m.mu.Unlock()
		if fail == nil || !fail(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *makers) fetcher(dir string, change func(*fetch.Config)) *fetch.Fetcher {
	c := fetch.Config{Dir: dir, Now: func() time.Time { return now }, Sleep: func(context.Context, time.Duration) error { return nil },
		Services: fetch.Services{PCS: m.URL, Root: m.URL + "/root.der", KDS: m.URL, RIM: m.URL, OCSP: m.URL + "/ocsp"}}
	if change != nil {
		change(&c)
	}
	return fetch.New(c)
}

func (m *makers) requests() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.paths)
}

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
	m.vcek = block.Bytes
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
	m.held = []*attestationtest.Node{n}
	inputs, err := m.fetcher("", nil).For(t.Context(), ev, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := appraise(t, inputs, ev).Check("gpu0.nvidia.ocsp.device"); c == nil || c.Status != attestation.Fail {
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
	later := func(c *fetch.Config) { c.Now = func() time.Time { return now.Add(13 * time.Hour) } }
	if _, err := m.fetcher(dir, later).For(t.Context(), ev, nil); err != nil || m.requests() != 2*first {
		t.Errorf("an old cache was used: %d requests, error %v", m.requests(), err)
	}
}

func TestBusyService(t *testing.T) {
	m := serve(t)
	failures := 2
	m.fail = func(w http.ResponseWriter, r *http.Request) bool {
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
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t)
			m.fail = c.fail
			dir := t.TempDir()
			inputs, err := m.fetcher(dir, nil).For(t.Context(), ev, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			r := appraise(t, inputs, ev)
			if !errors.Is(r.Err(), attestation.ErrCollateralMissing) {
				t.Errorf("appraisal: %v, want missing collateral", r.Err())
			}
		})
	}
}

func TestCancel(t *testing.T) {
	m := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.fail = func(w http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	ev, _ := collect(t, attestationtest.NodeConfig{})
	if _, err := m.fetcher("", nil).For(ctx, ev, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestNotEvidence(t *testing.T) {
	if _, err := fetch.New(fetch.Config{}).For(t.Context(), []byte("hello"), nil); err == nil {
		t.Error("fetched for what is no evidence")
	}
}
