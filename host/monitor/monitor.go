// Package monitor shows a provider its host: metrics for Prometheus, a JSON
// document, and a page that renders it. It shows money, and nothing that was
// asked or answered; it changes nothing.
package monitor

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
)

//go:embed page
var page embed.FS

// Config is what a monitor watches.
type Config struct {
	Host     *host.Host
	Ledger   *ledger.Ledger
	Writes   *Writes
	Journal  *Journal
	Margin   time.Duration // of the host's claims
	Accounts []Account     // whose balances are shown
	Balance  func(context.Context, *address.Address) (uint64, error)
	Now      func() time.Time
}

// Account is one of the provider's.
type Account struct {
	Role    string // "payee" or "wallet"
	Address *address.Address
}

// Handler serves GET /metrics, /status.json, and the page at /. It belongs on a
// listener that only the provider reaches: loopback, or a Unix socket. A web
// page of somebody else's cannot read it, under whatever name it is reached.
func Handler(cfg Config) http.Handler {
	w := &watch{Config: cfg}
	registry := prometheus.NewRegistry()
	registry.MustRegister(w, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(cfg.Writes.took, cfg.Writes.shared, cfg.Writes.failed, cfg.Journal.lines)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/status.json", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		json.NewEncoder(rw).Encode(w.status())
	})
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the name above
	}
	for _, name := range []string{"style.css", "page.js"} {
		mux.HandleFunc("/"+name, func(rw http.ResponseWriter, r *http.Request) { http.ServeFileFS(rw, r, files, name) })
	}
	mux.HandleFunc("/{$}", func(rw http.ResponseWriter, r *http.Request) { http.ServeFileFS(rw, r, files, "index.html") })
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		apierror.New(404, "unknown_path", "there is nothing here", "look at /, /metrics or /status.json").Write(rw)
	})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"Cache-Control":                "no-store",
			"Allow":                        http.MethodGet,
		} {
			rw.Header().Set(name, value)
		}
		if f := refuse(r); f != nil {
			f.Write(rw)
			return
		}
		mux.ServeHTTP(rw, r)
	})
}

// refuse keeps out other sites' pages: a name that was rebound to this machine
// shows in Host, and what another page asks for in Sec-Fetch-Site or Origin.
func refuse(r *http.Request) *apierror.Error {
	if !local(r.Host) {
		return apierror.New(403, "not_local", "the monitor answers to loopback names only", "use http://127.0.0.1, through a tunnel from elsewhere")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") != "" || site != "" && site != "none" && site != "same-origin" {
		return apierror.New(403, "not_local", "the monitor does not answer other sites' pages", "open it by its address")
	}
	if r.Method != http.MethodGet {
		return apierror.New(405, "method_not_allowed", "the monitor shows, and changes nothing", "use GET")
	}
	return nil
}

func local(name string) bool {
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	at, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && at.Unmap().IsLoopback()
}
