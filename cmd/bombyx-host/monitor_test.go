package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/host/monitor"
	"github.com/bombyx-network/bombyx/internal/chromium"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A scrape is what a Prometheus server would keep.
type scrape map[string]*dto.MetricFamily

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s %s, %v", url, resp.Status, b, err)
	}
	return b
}

func scrapeOf(t *testing.T, url string) scrape {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	s, err := parser.TextToMetricFamilies(bytes.NewReader(get(t, url+"/metrics")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value is that of the series with these values of labels, in the order of their names.
func (s scrape) value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range s[name].GetMetric() {
		var have []string
		for _, l := range m.Label {
			have = append(have, l.GetValue())
		}
		if slices.Equal(have, labels) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Fatalf("there is no %s%v", name, labels)
	return 0
}

func statusOf(t *testing.T, url string) (s monitor.Status) {
	t.Helper()
	if err := json.Unmarshal(get(t, url+"/status.json"), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A meddler counts what passes between client and host, and sends each voucher with a broken signature first.
type meddler struct {
	http.RoundTripper
	in, out, forged atomic.Int64
}

func (m *meddler) RoundTrip(r *http.Request) (*http.Response, error) {
	sealed := strings.HasSuffix(r.URL.Path, "/sealed")
	if sealed || strings.HasSuffix(r.URL.Path, "/v1/voucher") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if !sealed {
			forged := r.Clone(context.WithoutCancel(r.Context()))
			broken := bytes.Clone(body)
			broken[len(broken)-1] ^= 1
			forged.Body = io.NopCloser(bytes.NewReader(broken))
			resp, err := m.RoundTripper.RoundTrip(forged)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			if resp.StatusCode != 403 {
				return nil, fmt.Errorf("a forged voucher: %s", resp.Status)
			}
			m.forged.Add(1)
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		if sealed {
			m.in.Add(int64(len(body)))
		}
	}
	resp, err := m.RoundTripper.RoundTrip(r)
	if err == nil && sealed {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, counter{&m.out}), resp.Body}
	}
	return resp, err
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// What a host that is a process of its own shows, compared with the receipts, the books, the wire and the chain: while it
// is paid, after it was killed, and without its chain. Of its two enclaves one is dead.
func TestMonitor(t *testing.T) {
	k := newKiller(t, 1, 1)
	m := k.hosts[0]
	const threshold = 20_000_000 // half again of it is spent, and a little: one claim is made, and what is shown then holds still
	at := unusedAddress(t)
	url := "http://" + at
	m.change = func(c map[string]any) {
		c["monitor"] = "tcp:" + at
		c["epoch"] = 300
		c["claims"].(map[string]any)["threshold"] = threshold
		c["enclaves"] = append(c["enclaves"].([]any), map[string]any{"id": "dead", "address": "unix:" + k.at("dead.sock")})
	}
	k.ledger = k.at("ledger.db")
	db, err := sql.Open("sqlite", "file:"+k.ledger+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	k.books = &books{db}
	k.tap.books = k.books
	k.startHost(m)
	defer func() {
		kill(m.process)
		if log, _ := os.ReadFile(k.at(m.name + ".log")); t.Failed() {
			t.Logf("%s", log)
		}
	}()
	if !k.wait("the host to start", k.serving) {
		return
	}
	c := k.open()

	wire := &meddler{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
	var cost atomic.Uint64
	cfg := client.Config{Host: k.hostURL, HostKey: k.hostKey, Policy: attestationtest.New("kills").Policy(time.Now()), MaxPrices: killPrices, Window: killWindow, Base: wire,
		Payment: client.Payment{Network: k.chain.GlobalID(), Channel: c.params, Key: ed25519.NewKeyFromSeed(c.payer.Key), Deposit: c.payer.Deposit},
		Trace:   client.Trace{Receipt: func(r *client.Receipt, _ string) { cost.Add(r.Cost) }}}
	cfg.Policy.Devices.Modes = []string{"cpu"}
	paying, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for ; cost.Load() < threshold*3/2; asked++ {
		resp, err := c.payer.ask(paying, `{"model":"m","stream":true,"messages":[]}`)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.Status, err)
		}
		resp.Body.Close()
	}
	var row bookRow
	var on *channel.Account
	k.wait("the costs to be booked", func() bool { row, _ = k.books.channel(c.name); return row.spent >= cost.Load() })
	k.wait("a claim", func() bool {
		on, err = channel.Load(k.ctx, k.api, c.params.Address())
		row, _ = k.books.channel(c.name)
		return err == nil && on.Paid > 0 && row.claimed == on.Paid
	})
	if t.Failed() {
		return
	}

	var s scrape
	k.wait("what is shown to be of now", func() bool {
		s = scrapeOf(t, url)
		return s.value(t, "bombyx_host_claimed_nanogram_total") == float64(on.Paid) && len(s["bombyx_host_last_claim_timestamp_seconds"].GetMetric()) == 1 &&
			s.value(t, "bombyx_host_refused_total", "bad_signature") == float64(wire.forged.Load())
	})
	same := func(what string, got, want float64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v shown, want %v", what, got, want)
		}
	}
	money := func(s scrape) {
		t.Helper()
		same("earned, by the receipts", s.value(t, "bombyx_host_earned_nanogram_total", "e0"), float64(cost.Load()))
		same("earned by the dead one", s.value(t, "bombyx_host_earned_nanogram_total", "dead"), 0)
		same("authorised", s.value(t, "bombyx_host_authorised_nanogram"), float64(row.authorised))
		same("claimed", s.value(t, "bombyx_host_claimed_nanogram_total"), float64(row.claimed))
		same("unclaimed", s.value(t, "bombyx_host_unclaimed_nanogram"), float64(row.spent-min(row.spent, row.claimed)))
		same("at risk", s.value(t, "bombyx_host_at_risk_nanogram"), 0)
		same("lost", s.value(t, "bombyx_host_lost_nanogram_total"), 0)
		same("channels", s.value(t, "bombyx_host_open_channels"), 1)
		same("ledger", s.value(t, "bombyx_host_ledger_up"), 1)
		same("enclave", s.value(t, "bombyx_host_enclave_up", "e0"), 1)
		same("dead enclave", s.value(t, "bombyx_host_enclave_up", "dead"), 0)
	}
	money(s)
	if row.spent != cost.Load() || on.Paid > row.spent {
		t.Errorf("receipts over %d, books %+v, paid %d", cost.Load(), row, on.Paid)
	}
	same("complete answers", s.value(t, "bombyx_host_answers_total", "complete"), float64(asked))
	same("broken answers", s.value(t, "bombyx_host_answers_total", "broken"), 0)
	same("sealed requests", s.value(t, "bombyx_host_requests_total", "sealed"), float64(asked))
	same("bytes in", s.value(t, "bombyx_host_request_bytes_total"), float64(wire.in.Load()))
	same("bytes out", s.value(t, "bombyx_host_answer_bytes_total"), float64(wire.out.Load()))
	same("running", s.value(t, "bombyx_host_running_requests", "e0"), 0)
	same("sessions", s.value(t, "bombyx_host_sessions"), 1)
	same("chain", s.value(t, "bombyx_host_chain_up"), 1)
	same("chain errors", s.value(t, "bombyx_host_chain_errors_total", "channel"), 0)
	if wire.forged.Load() == 0 {
		t.Error("no voucher was sent beside a request")
	}
	if n := s.value(t, "bombyx_host_evidence_requests_total", "e0"); n == 0 {
		t.Error("no evidence")
	}
	if n, fees := s.value(t, "bombyx_host_claims_total", "paid"), s.value(t, "bombyx_host_claim_fees_nanogram_total"); n == 0 || fees == 0 || fees > n*10_000_000 {
		t.Errorf("%v claims, fees %v", n, fees)
	}
	for _, name := range []string{"bombyx_host_last_claim_timestamp_seconds", "bombyx_host_last_block_timestamp_seconds"} {
		if age := time.Since(time.Unix(int64(s.value(t, name)), 0)); age.Abs() > time.Minute {
			t.Errorf("%s: %s ago", name, age)
		}
	}
	if b := s.value(t, "bombyx_host_balance_nanogram", "payee"); b == 0 {
		t.Error("the payee holds nothing")
	}
	if s.value(t, "bombyx_host_ledger_commit_seconds") == 0 || s.value(t, "bombyx_host_ledger_commit_writes") == 0 || s["go_goroutines"] == nil || s["process_cpu_seconds_total"] == nil {
		t.Error("the ledger's transactions or the process are not measured")
	}

	t.Run("conventions", func(t *testing.T) {
		problems, err := promlint.New(bytes.NewReader(get(t, url+"/metrics"))).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		for name, f := range s {
			for _, m := range f.GetMetric() {
				for _, l := range m.Label {
					if strings.Contains(name, "bombyx") && len(l.GetValue()) > 24 {
						t.Errorf("%s: label %s", name, l)
					}
				}
			}
		}
		if text := get(t, url+"/metrics"); bytes.Contains(text, []byte(c.name[2:])) || bytes.Contains(text, []byte(c.params.Address().String())) {
			t.Error("a channel is named")
		}
	})
	t.Run("documented", func(t *testing.T) { documentedMetrics(t, s) })
	t.Run("page", func(t *testing.T) { showsMoney(t, url, cost.Load(), on.Paid) })

	got := statusOf(t, url)
	if got.Earned.All != cost.Load() || got.Money.Claimed != on.Paid || len(got.Earned.Days) != 30 || len(got.Channels) != 1 || got.Channels[0].Address != c.name ||
		got.Channels[0].Spent != row.spent || got.Channels[0].State != "open" || got.Answers["complete"] != uint64(asked) || got.Refused["bad_signature"] != uint64(wire.forged.Load()) ||
		!got.Enclaves[0].Up || got.Enclaves[1].Up || got.Enclaves[1].Error == "" || !got.Chain.Up || got.Balances[0].Role != "payee" || got.Balances[0].Error != "" {
		t.Errorf("%+v", got)
	}
	if i := slices.IndexFunc(got.Problems, func(e monitor.Entry) bool { return e.Message == "enclave does not answer" }); i < 0 || !strings.Contains(got.Problems[i].Hint, "log") {
		t.Errorf("%+v", got.Problems)
	}

	// What counts money is the ledger's, what counts events the process's.
	kill(m.process)
	k.startHost(m)
	k.wait("the host to start again", func() bool {
		resp, err := http.Get(url + "/status.json")
		return err == nil && resp.Body.Close() == nil
	})
	s = scrapeOf(t, url)
	money(s)
	same("answers of a new process", s.value(t, "bombyx_host_answers_total", "complete"), 0)
	same("its refusals", s.value(t, "bombyx_host_refused_total", "bad_signature"), 0)

	k.chain.Close()
	k.wait("the chain's end to show", func() bool { return scrapeOf(t, url).value(t, "bombyx_host_chain_up") == 0 })
	s = scrapeOf(t, url)
	money(s)
	if s.value(t, "bombyx_host_chain_errors_total", "block") == 0 {
		t.Error("no call of the chain failed")
	}
	if got := statusOf(t, url); got.Chain.Up || got.Chain.Error == "" || got.Balances[0].Error == "" {
		t.Errorf("%+v", got)
	}
}

// docs/operating.md names every metric with its type, and none that is not there; its alerts use those that are there.
func documentedMetrics(t *testing.T, s scrape) {
	b, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	have, documented := map[string]string{}, map[string]string{}
	for name, f := range s {
		if strings.HasPrefix(name, "bombyx_host_") {
			have[name] = strings.ToLower(f.GetType().String())
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(bombyx_host_[a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(b), -1) {
		documented[m[1]] = m[2]
	}
	if !maps.Equal(have, documented) {
		t.Errorf("the host shows %v\ndocs/operating.md %v", have, documented)
	}
	_, alerts, _ := strings.Cut(string(b), "```yaml\ngroups:")
	alerts, _, _ = strings.Cut(alerts, "```")
	used := regexp.MustCompile(`bombyx_host_[a-z_]+`).FindAllString(alerts, -1)
	if len(used) < 5 {
		t.Errorf("the alerts use %v", used)
	}
	for _, name := range used {
		if have[name] == "" {
			t.Errorf("the alerts use %s, which is not there", name)
		}
	}
}

// showsMoney opens the page as a user does.
func showsMoney(t *testing.T, url string, earned, claimed uint64) {
	b := chromium.Start(t)
	b.Do("Page.navigate", map[string]any{"url": url + "/"}, nil)
	b.Await(`document.getElementById("page")?.dataset.state === "attention"`)
	for id, want := range map[string]string{"all": ton.Nano(earned).String(), "today": ton.Nano(earned).String(), "claimed": ton.Nano(claimed).String(), "at_risk": "0"} {
		if got := b.Eval(`document.getElementById("` + id + `").textContent`); got != want {
			t.Errorf("%s: %v, want %s", id, got, want)
		}
	}
	if got := b.Eval(`document.getElementById("state").textContent`); got != "enclave dead does not answer" {
		t.Errorf("state: %v", got)
	}
	if got := b.Eval(`[...document.querySelectorAll("#chart rect.bar")].filter((r) => r.getAttribute("height") > 0).length`); got != 1.0 {
		t.Errorf("%v bars", got)
	}
	if got := b.Eval(`document.querySelectorAll("#channels tr").length + "," + document.querySelectorAll("#enclaves tr").length`); got != "1,2" {
		t.Errorf("rows: %v", got)
	}
	if got := b.Eval(`document.getElementById("problems").textContent`); !strings.Contains(got.(string), "see the enclave's log") {
		t.Errorf("problems: %v", got)
	}
	// On a phone nothing but tables is wider than the screen.
	b.Do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true}, nil)
	if got := b.Eval(`document.documentElement.scrollWidth`); got != 360.0 {
		t.Errorf("the page is %v pixels wide on a phone", got)
	}
	for _, asked := range b.Requested() {
		if !strings.HasPrefix(asked, url) && !strings.HasPrefix(asked, "data:") && asked != "about:blank" {
			t.Errorf("the page asks for %s", asked)
		}
	}
}
