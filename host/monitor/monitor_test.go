package monitor

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/price"
)

type noChain struct{ host.Chain }

type deadEnclave struct{}

func (deadEnclave) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("the enclave is dead")
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A scene is a host with a dead enclave and a dead chain.
type scene struct {
	http.Handler
	journal *Journal
	ledger  *ledger.Ledger
	passed  atomic.Int64 // since noon
}

func watched(t *testing.T) *scene {
	t.Helper()
	s := &scene{}
	now := func() time.Time { return noon.Add(time.Duration(s.passed.Load())) }
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	journal, writes := NewJournal(slog.DiscardHandler), Measure(l)
	h, err := host.New(t.Context(), host.Config{Identity: ed25519.NewKeyFromSeed(make([]byte, 32)), Prices: price.List{"m": {Prompt: 1}}, Window: 1, ClosingDelay: time.Hour, CardLifetime: time.Hour,
		Claims: host.Claims{Every: time.Hour, Age: time.Hour, Margin: time.Minute}, Enclaves: []host.Enclave{{ID: "e", Transport: deadEnclave{}, Authority: "enclave"}},
		Epochs: host.Epochs{Newest: func(context.Context) (attestation.Epoch, error) { return attestation.Epoch{}, errors.New("no chain") }},
		Ledger: l, Chain: noChain{}, Now: now, Log: slog.New(journal)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	s.journal, s.ledger = journal, l
	s.Handler = Handler(Config{Host: h, Ledger: l, Writes: writes, Journal: journal, Margin: time.Minute, Now: now,
		Accounts: []Account{{"payee", address.NewAddress(0, 0, make([]byte, 32))}},
		Balance:  func(context.Context, *address.Address) (uint64, error) { return 0, errors.New("no chain") }})
	return s
}

func TestRefuses(t *testing.T) {
	h := watched(t)
	ask := func(change func(*http.Request)) (int, string, http.Header) {
		r := httptest.NewRequest("GET", "/status.json", nil)
		r.Host = "127.0.0.1:9480"
		change(r)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String(), w.Header()
	}
	for _, host := range []string{"127.0.0.1:9480", "127.0.0.1", "localhost", "localhost:1", "[::1]:9480", "::1", "127.9.9.9"} {
		if code, body, _ := ask(func(r *http.Request) { r.Host = host }); code != 200 {
			t.Errorf("host %s: %d %s", host, code, body)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"403 not_local: a rebound name":          func(r *http.Request) { r.Host = "evil.example:9480" },
		"403 not_local: one that looks local":    func(r *http.Request) { r.Host = "localhost.evil.example" },
		"403 not_local: another address":         func(r *http.Request) { r.Host = "192.0.2.1" },
		"403 not_local: every address":           func(r *http.Request) { r.Host = "0.0.0.0:9480" },
		"403 not_local: no name":                 func(r *http.Request) { r.Host = "" },
		"403 not_local: another site's page":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"403 not_local: of another local port":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"403 not_local: a page's script":         func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"405 method_not_allowed: POST":           func(r *http.Request) { r.Method = "POST" },
		"405 method_not_allowed: HEAD":           func(r *http.Request) { r.Method = "HEAD" },
		"405 method_not_allowed: OPTIONS":        func(r *http.Request) { r.Method = "OPTIONS" },
		"404 unknown_path: a path":               func(r *http.Request) { r.URL.Path = "/v1/card" },
		"404 unknown_path: the page's name":      func(r *http.Request) { r.URL.Path = "/index.html" },
		"404 unknown_path: no profile":           func(r *http.Request) { r.URL.Path = "/debug/pprof/" },
		"404 unknown_path: below another's name": func(r *http.Request) { r.URL.Path = "/metrics/x" },
	} {
		code, body, header := ask(change)
		want, _, _ := strings.Cut(name, ":")
		status, word, _ := strings.Cut(want, " ")
		if strconv.Itoa(code) != status || !strings.Contains(body, word) || strings.Contains(body, "earned") {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if code == 405 && header.Get("Allow") != "GET" {
			t.Errorf("%s: Allow %q", name, header.Get("Allow"))
		}
	}
	// Whatever it answers, a browser runs only what is its own, and shows it in no frame.
	for _, path := range []string{"/", "/page.js", "/style.css", "/metrics", "/status.json", "/none"} {
		_, _, header := ask(func(r *http.Request) { r.URL.Path = path })
		if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			header.Get("Cross-Origin-Resource-Policy") != "same-origin" || header.Get("Cache-Control") != "no-store" || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, header)
		}
	}
}

// Before anything went wrong, or came, a list is an empty one: the page goes through all.
func TestNothingYet(t *testing.T) {
	r := httptest.NewRequest("GET", "/status.json", nil)
	r.Host = "127.0.0.1"
	w := httptest.NewRecorder()
	watched(t).ServeHTTP(w, r)
	var s map[string]json.RawMessage
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"enclaves", "balances", "channels", "problems"} {
		if len(s[name]) == 0 || s[name][0] != '[' {
			t.Errorf("%s: %s", name, s[name])
		}
	}
}

// Without enclave, chain, and then without a ledger it says so, and shows what it still knows.
func TestNothingAnswers(t *testing.T) {
	h := watched(t)
	ask := func(path string) string {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	slog.New(h.journal).Error("ledger failed", "err", errors.New("disk full"))
	var s Status
	if err := json.Unmarshal([]byte(ask("/status.json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Enclaves[0].Up || s.Enclaves[0].Error != "the enclave is dead" || s.Chain.Up || s.Chain.Error != "no chain" || s.Balances[0].Error != "no chain" || s.Earned == nil || s.Money == nil ||
		s.Chain.Time != nil || s.LastClaim != nil || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Hint, "free the disk") || s.Problems[0].Detail != "err: disk full" {
		t.Errorf("%+v", s)
	}
	text := ask("/metrics")
	for _, want := range []string{`bombyx_host_enclave_up{enclave="e"} 0`, "bombyx_host_chain_up 0", "bombyx_host_ledger_up 1", `bombyx_host_log_lines_total{level="ERROR"} 1`, "bombyx_host_open_channels 0",
		`bombyx_host_chain_errors_total{call="block"} 1`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, no := range []string{"bombyx_host_balance", "bombyx_host_last_block"} {
		if strings.Contains(text, "\n"+no) {
			t.Errorf("%s of what is not known", no)
		}
	}
	h.ledger.Close()
	if !strings.Contains(ask("/metrics"), "bombyx_host_ledger_up 1") {
		t.Error("the ledger is asked at each look")
	}
	h.passed.Add(int64(lookAgain))
	text = ask("/metrics")
	if !strings.Contains(text, "bombyx_host_ledger_up 0") || strings.Contains(text, "bombyx_host_earned") || strings.Contains(text, "bombyx_host_open_channels") {
		t.Error("what does a ledger say that is closed?")
	}
	s = Status{}
	if err := json.Unmarshal([]byte(ask("/status.json")), &s); err != nil || s.Earned != nil || s.Money != nil || !strings.Contains(s.Ledger, "closed") || len(s.Enclaves) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestEarned(t *testing.T) {
	day := func(n int) time.Time { return noon.Truncate(24*time.Hour).AddDate(0, 0, -n) }
	e := earned([]ledger.Earning{{Day: day(400), Enclave: "a", Answers: 1, Earned: 1}, {Day: day(29), Enclave: "a", Answers: 1, Earned: 10}, {Day: day(7), Enclave: "a", Answers: 1, Earned: 100},
		{Day: day(6), Enclave: "b", Answers: 1, Earned: 1000}, {Day: day(0), Enclave: "a", Answers: 1, Earned: 10000}, {Day: day(0), Enclave: "b", Answers: 2, Earned: 100000}}, noon)
	if e.Today != 110000 || e.Week != 111000 || e.All != 111111 || len(e.Days) != 30 || e.Days[29] != (Day{"2026-11-22", 3, 110000}) || e.Days[0] != (Day{"2026-10-24", 1, 10}) ||
		e.Days[22].Earned != 100 || e.today["b"] != 100000 || e.all["a"] != 10111 {
		t.Errorf("%+v", e)
	}
}

func TestState(t *testing.T) {
	for want, c := range map[string]ledger.Channel{
		"open":    {Deadline: noon.Add(2 * time.Hour), Closing: noon},
		"closing": {Deadline: noon.Add(2 * time.Hour), Closing: noon.Add(time.Second)},
		"ending":  {Deadline: noon.Add(time.Hour), Closing: time.Unix(0, 0)},
		"ended":   {Deadline: noon, Closing: noon.Add(time.Second)},
	} {
		if got := state(&c, noon, time.Hour); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if c := (ledger.Channel{Deadline: time.Unix(0, 0), Closing: time.Unix(0, 0)}); state(&c, noon, time.Hour) != "open" || deadline(&c) != nil {
		t.Error("a channel at which nobody has looked yet")
	}
}

func TestJournal(t *testing.T) {
	var out strings.Builder
	j := NewJournal(slog.NewTextHandler(&out, nil))
	log := slog.New(j)
	log.Info("claimed", "paid", 1)
	log.Warn("enclave does not answer", "enclave", "e", "err", errors.New("one"))
	log.With("a", 1).WithGroup("g").Warn("enclave does not answer", "err", errors.New("two"))
	log.Error("of no table", "text", strings.Repeat("x", 5000))
	got := j.recent()
	if len(got) != 2 || got[1].Count != 2 || got[1].Detail != "err: two" || got[1].Hint != hints["enclave does not answer"] || got[0].Level != "ERROR" || got[0].Hint != "" || len(got[0].Detail) != maxDetail {
		t.Errorf("%+v", got)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 5 || strings.Contains(lines[0], "hint") || !strings.Contains(lines[1], `hint="see the enclave's log`) || strings.Contains(lines[3], "hint") {
		t.Errorf("%s", out.String())
	}
	for n := range 3 * maxEntries {
		log.Warn(fmt.Sprint("line ", n))
	}
	if got = j.recent(); len(got) != maxEntries || got[0].Message != fmt.Sprint("line ", 3*maxEntries-1) {
		t.Errorf("%d kept, the newest %q", len(got), got[0].Message)
	}
}

// Every warning and error of the host has a hint, and docs/operating.md says the same.
func TestHints(t *testing.T) {
	logged := map[string]bool{}
	var files []string
	for _, pattern := range []string{"../*.go", "../../cmd/bombyx-host/*.go", "../../internal/ton/adnl/*.go"} {
		list, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			text, literal := call.Args[0].(*ast.BasicLit)
			if ok && literal && (method.Sel.Name == "Warn" || method.Sel.Name == "Error") {
				message, err := strconv.Unquote(text.Value)
				if err != nil {
					t.Fatal(err)
				}
				logged[message] = true
			}
			return true
		})
	}
	b, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| host (`.*`) \\| .* \\| (.*) \\|$").FindAllStringSubmatch(string(b), -1) {
		for _, name := range strings.Split(m[1], ", `") {
			documented[strings.Trim(name, "`")] = strings.ReplaceAll(m[2], "`", "")
		}
	}
	if len(logged) < 10 {
		t.Fatalf("found %v", logged)
	}
	for message := range logged {
		if hints[message] == "" {
			t.Errorf("no hint for %q", message)
		}
	}
	for message, hint := range hints {
		if !logged[message] {
			t.Errorf("a hint for %q, which nobody logs", message)
		}
		if documented[message] != hint {
			t.Errorf("%q: the hint is %q, docs/operating.md says %q", message, hint, documented[message])
		}
	}
}
