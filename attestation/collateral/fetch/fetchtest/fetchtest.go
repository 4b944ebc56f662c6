// Package fetchtest serves what Intel, AMD and NVIDIA serve, for the mock authorities of package attestationtest: so that tests of
// whatever fetches collateral need no network.
package fetchtest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch"
)

// Makers answers for every maker at once, as PCCS, KDS, RIM service and OCSP responder.
type Makers struct {
	// Fail answers a request in the makers' stead when it returns true; nil never does.
	Fail func(w http.ResponseWriter, r *http.Request) bool
	// Held lists nodes whose GPU certificates are on hold.
	Held []*attestationtest.Node
	// VCEK is the endorsement key certificate of the one AMD chip that the KDS knows, DER.
	VCEK []byte

	mux  http.ServeMux
	mu   sync.Mutex
	urls []string
}

// New returns the makers that the authority stands for, with collateral issued at now.
func New(a *attestationtest.Authority, now time.Time) *Makers {
	e := a.Endorsements(attestationtest.CollateralOptions{Now: now})
	rims := map[string][]byte{"NV_GPU_DRIVER_GH100_590.12": e.RIMs[0], "NV_GPU_VBIOS_G520_0200_885_9600A50001": e.RIMs[1],
		"NV_SWITCH_BIOS_5612_0002_890_9610730001": e.RIMs[2]}
	m := &Makers{}
	chained := func(header string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, url.PathEscape(string(e.TCBSigner)))
			w.Write(body)
		}
	}
	m.mux.HandleFunc("GET /tdx/certification/v4/tcb", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("fmspc") != "70a06d070000" {
			http.NotFound(w, r)
			return
		}
		chained("Tcb-Info-Issuer-Chain", e.TCBInfo)(w, r)
	})
	m.mux.HandleFunc("GET /tdx/certification/v4/qe/identity", chained("Sgx-Enclave-Identity-Issuer-Chain", e.QEIdentity))
	m.mux.HandleFunc("GET /sgx/certification/v4/pckcrl", func(w http.ResponseWriter, r *http.Request) {
		w.Write(map[string][]byte{"platform": e.PlatformCRL, "processor": e.ProcessorCRL}[r.FormValue("ca")])
	})
	m.mux.HandleFunc("GET /sgx/certification/v4/rootcacrl", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, hex.EncodeToString(e.RootCRL)) // as a PCCS does
	})
	for _, kind := range []string{"vcek", "vlek"} {
		m.mux.HandleFunc("GET /"+kind+"/v1/Genoa/crl", func(w http.ResponseWriter, _ *http.Request) { w.Write(e.AMDCRL) })
	}
	m.mux.HandleFunc("GET /vcek/v1/Genoa/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84" || len(r.PathValue("id")) != 128 {
			http.NotFound(w, r)
			return
		}
		w.Write(m.VCEK)
	})
	m.mux.HandleFunc("GET /v1/rim/{id}", func(w http.ResponseWriter, r *http.Request) {
		rim := rims[r.PathValue("id")]
		if rim == nil {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"id": r.PathValue("id"), "rim": base64.StdEncoding.EncodeToString(rim)})
	})
	m.mux.HandleFunc("POST /ocsp", func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4096))
		// The nonce is the last 32 bytes of the request, its only extension (RFC 9654, 2.1).
		head := []byte("\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x02\x04\x22\x04\x20")
		if err != nil || bytes.Index(request, head) != len(request)-len(head)-32 || r.Header.Get("Content-Type") != "application/ocsp-request" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		answer, err := a.AnswerOCSP(request, attestationtest.OCSPOptions{Now: now, Held: m.Held, Nonce: request[len(request)-32:]})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Write(answer)
	})
	return m
}

// ServeHTTP answers one request.
func (m *Makers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.urls = append(m.urls, r.URL.RequestURI())
	fail := m.Fail
	m.mu.Unlock()
	if fail == nil || !fail(w, r) {
		m.mux.ServeHTTP(w, r)
	}
}

// Requests returns what was asked for so far, paths with their queries.
func (m *Makers) Requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string{}, m.urls...)
}

// Services is where a fetcher finds makers that are served at url.
func Services(url string) fetch.Services {
	return fetch.Services{PCS: url, KDS: url, RIM: url, OCSP: url + "/ocsp"}
}
