//go:build !js

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/results"
	"github.com/bombyx-network/bombyx/internal/chromium"
)

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	nonce = [32]byte{1}
)

// A world is mock evidence with everything that its appraisal takes, in files.
type world struct {
	dir              string
	policy, evidence []byte
	inputs           [][]byte
	collateral       []string // paths
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a := attestationtest.New("page")
	node, err := a.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := (&keyset.Keyset{KeyConfigs: []byte("key configurations"), ReceiptKey: make([]byte, 32), NotAfter: noon.Add(time.Hour)}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: t.TempDir()}
	if w.evidence, err = node.Collect(context.Background(), nonce, keys); err != nil {
		t.Fatal(err)
	}
	if w.policy, err = a.Policy(noon).Encode(); err != nil {
		t.Fatal(err)
	}
	w.inputs = a.Endorsements(attestationtest.CollateralOptions{Now: noon}).Inputs()
	for i, in := range w.inputs {
		w.collateral = append(w.collateral, w.file(t, fmt.Sprintf("collateral-%d", i), in))
	}
	w.file(t, "evidence", w.evidence)
	w.file(t, "policy", w.policy)
	// The keyset is what the quote binds: another one must be noticed.
	w.file(t, "tampered", bytes.Replace(w.evidence, []byte(base64.StdEncoding.EncodeToString(keys)), []byte(base64.StdEncoding.EncodeToString(reversed(keys))), 1))
	w.file(t, "quote", node.Quote([64]byte{2}))
	w.file(t, "garbage", []byte("\x00\xff<script>document.title='owned'</script>"))
	w.file(t, "hostile-policy", []byte(`{"<img src=x onerror=alert(1)>`+"\u202e"+`":1}`))
	return w
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}

func (w *world) file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// native is the JSON that the package gives outside of a browser.
func (w *world) native(t *testing.T, name string, want attestation.Expected, inputs [][]byte) string {
	t.Helper()
	p, err := policy.Parse(w.policy)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := collateral.New(inputs...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(p, bundle)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.AppraiseSaved(noon, data, want)
	if err != nil {
		t.Fatal(err)
	}
	return string(results.JSON(r))
}

// TestPage does what a user does: it serves the folder, opens the page, chooses files and reads the outcome.
func TestPage(t *testing.T) {
	b := chromium.Start(t)
	dir := t.TempDir()
	files, err := page()
	if err != nil {
		t.Fatal(err)
	}
	if err := write(dir, files); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	var mu sync.Mutex
	var served []string
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		served = append(served, r.Method+" "+r.RequestURI)
		mu.Unlock()
		http.FileServerFS(os.DirFS(dir)).ServeHTTP(rw, r)
	}))
	defer server.Close()

	state := func(s string) string {
		return fmt.Sprintf("document.querySelector('#outcome').dataset.state === %q", s)
	}
	text := func(id string) string {
		t.Helper()
		return b.Eval("document.getElementById('" + id + "').textContent").(string)
	}
	set := func(id, value string) {
		t.Helper()
		b.Eval(fmt.Sprintf("{const f = document.getElementById(%q); f.value = %q; f.dispatchEvent(new Event('change', {bubbles: true}));}", id, value))
	}
	wantJSON := func(native string) {
		t.Helper()
		if got := text("json"); got != native {
			t.Errorf("the page's JSON is not the package's:\npage   %s\nnative %s", got, native)
		}
	}

	b.Do("Page.navigate", map[string]any{"url": server.URL + "/"}, nil)
	b.Await("document.readyState === 'complete' && document.querySelector('#outcome') && " + state("ready"))
	if got := text("summary"); got != "Choose the evidence." {
		t.Errorf("at first the page says %q", got)
	}
	// The built-in policies are there to choose and to read; genuine is chosen.
	if got := b.Eval("document.getElementById('builtin').value"); got != "genuine" {
		t.Errorf("at first the policy is %v", got)
	}
	for _, name := range []string{"cocoon-like", "example", "strict", "genuine"} {
		set("builtin", name)
		document, _ := policy.Document(name)
		if got := b.Eval("document.getElementById('document').value"); got != string(document) {
			t.Errorf("%s: the page shows %.80q", name, got)
		}
	}
	set("at", noon.Format(time.RFC3339))
	set("nonce", hex.EncodeToString(nonce[:]))
	b.Choose("policy", w.path("policy"))
	b.Choose("collateral", w.collateral...)
	b.Choose("evidence", w.path("evidence"))
	expected := attestation.Expected{Nonce: nonce[:]}

	// Verified.
	b.Await(state("verified"))
	if text("word") != "VERIFIED" {
		t.Errorf("verdict %q", text("word"))
	}
	native := w.native(t, "evidence", expected, w.inputs)
	wantJSON(native)
	var doc results.Document
	if err := json.Unmarshal([]byte(native), &doc); err != nil {
		t.Fatal(err)
	}
	if n := b.Eval("document.querySelectorAll('#checks tr').length").(float64); int(n) != len(doc.Checks) || n == 0 {
		t.Errorf("%v rows, %d checks", n, len(doc.Checks))
	}
	for i, c := range doc.Checks {
		row := b.Eval(fmt.Sprintf("document.querySelectorAll('#checks tr')[%d].innerText", i)).(string)
		if !strings.HasPrefix(row, fmt.Sprint(i+1)) || !strings.Contains(row, c.Status) || !strings.Contains(row, c.ID) {
			t.Errorf("row %d is %q, want number, %s and %s", i+1, row, c.Status, c.ID)
		}
	}

	if got := b.Eval("[...document.querySelectorAll('#checks tr')].find((r) => r.querySelector('code').textContent === 'dcap.quote.signature').querySelector('.bytes').textContent").(string); !strings.Contains(got, "quote, header and body, signed, 632 bytes at 0") {
		t.Errorf("the bytes behind the quote's signature are %q", got)
	}

	// Rejected: the nonce is another, the keyset is another.
	set("nonce", strings.Repeat("ee", 32))
	b.Await(state("rejected"))
	wantJSON(w.native(t, "evidence", attestation.Expected{Nonce: bytes.Repeat([]byte{0xee}, 32)}, w.inputs))
	if row := b.Eval("[...document.querySelectorAll('#checks tr')].find((r) => r.querySelector('code').textContent === 'composite.nonce').innerText").(string); !strings.Contains(row, "FAIL") || !strings.Contains(row, "eeee") {
		t.Errorf("the nonce's row is %q", row)
	}
	set("nonce", hex.EncodeToString(nonce[:]))
	b.Await(state("verified"))
	b.Choose("evidence", w.path("tampered"))
	b.Await(state("rejected"))
	wantJSON(w.native(t, "tampered", expected, w.inputs))

	// Rejected for expired collateral alone: the page names it.
	old := attestationtest.New("page").Endorsements(attestationtest.CollateralOptions{Now: noon.AddDate(0, 0, -60)}).Inputs()
	var oldPaths []string
	for i, in := range old {
		oldPaths = append(oldPaths, w.file(t, fmt.Sprintf("old-%d", i), in))
	}
	b.Choose("evidence", w.path("evidence"))
	b.Await(state("verified"))
	b.Choose("collateral", oldPaths...)
	b.Await(state("expired"))
	wantJSON(w.native(t, "evidence", expected, old))
	if got := text("facts"); !strings.Contains(got, "Expiredroot CA CRL, PCK CRL, TCB info, QE identity") {
		t.Errorf("of expired collateral the page says %q", got)
	}
	if got := text("summary"); !strings.Contains(got, "collateral has expired") {
		t.Errorf("with expired collateral the page says %q", got)
	}
	b.Choose("collateral", w.collateral...)
	b.Await(state("verified"))

	// What cannot be appraised says so, and the page lives on.
	for _, c := range []struct{ field, file, says string }{
		{"evidence", "garbage", "Evidence:"},
		{"policy", "garbage", "Policy:"},
		{"policy", "hostile-policy", "Policy:"},
		{"collateral", "garbage", "Collateral, garbage:"},
	} {
		b.Choose("evidence", w.path("evidence"))
		b.Await(state("verified"))
		b.Choose(c.field, w.path(c.file))
		b.Await(state("error"))
		if got := text("summary"); !strings.Contains(got, c.says) || strings.Contains(got, "\u202e") {
			t.Errorf("%s in %s: the page says %q", c.file, c.field, got)
		}
		if b.Eval("document.getElementById('result').hidden") != true {
			t.Errorf("%s in %s: the last result still shows", c.file, c.field)
		}
		b.Choose("policy", w.path("policy"))
		b.Choose("collateral", w.collateral...)
	}
	b.Choose("evidence", w.path("evidence"))
	b.Await(state("verified"))
	for _, c := range []struct{ field, value, says string }{
		{"nonce", "0x00", "Nonce:"}, {"reportData", "00", "Report data:"}, {"at", "yesterday", "Time:"},
	} {
		before := b.Eval("document.getElementById('" + c.field + "').value").(string)
		set(c.field, c.value)
		b.Await(state("error"))
		if got := text("summary"); !strings.Contains(got, c.says) {
			t.Errorf("%s = %s: the page says %q", c.field, c.value, got)
		}
		set(c.field, before)
		b.Await(state("verified"))
	}
	if got := b.Eval("document.title"); got != "Bombyx: verify evidence" {
		t.Errorf("the title has become %q", got)
	}

	// Too large a file is not even read.
	large := w.path("large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, attestation.MaxInput+1); err != nil {
		t.Fatal(err)
	}
	b.Choose("evidence", large)
	b.Await(state("error"))
	if got := text("summary"); !strings.Contains(got, fmt.Sprint(attestation.MaxInput)) {
		t.Errorf("a file above the limit: the page says %q", got)
	}

	// A dropped quote, in a page that has its policy, and the roots but nothing else.
	a := attestationtest.New("page").Endorsements(attestationtest.CollateralOptions{Now: noon})
	roots := [][]byte{a.IntelRoot, a.AMDRoot, a.DeviceRoot, a.RIMRoot}
	var paths []string
	for i, r := range roots {
		paths = append(paths, w.file(t, fmt.Sprintf("root-%d", i), r))
	}
	set("nonce", "")
	b.Choose("collateral", paths...)
	quote, err := os.ReadFile(w.path("quote"))
	if err != nil {
		t.Fatal(err)
	}
	b.Eval(fmt.Sprintf(`{
		const given = new DataTransfer();
		given.items.add(new File([Uint8Array.from(atob(%q), (c) => c.charCodeAt(0))], "quote"));
		document.querySelector("h1").dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: given }));
	}`, base64.StdEncoding.EncodeToString(quote)))
	b.Await(state("missing"))
	wantJSON(w.native(t, "quote", attestation.Expected{}, roots))

	// A real quote: strict refuses collateral of an old TCB recovery; a policy of that time, made in the page, verifies it.
	t.Run("real quote", func(t *testing.T) {
		vectors, err := filepath.Abs("../../../shared/vectors")
		if err != nil {
			t.Fatal(err)
		}
		quote, from := filepath.Join(vectors, "quotes/TDX-v4-eedf1e79778eee0c.bin"), filepath.Join(vectors, "phala-dcap-qvl/tests__near__contracts__gas-test__tests__quote__quote_collateral.json")
		if _, err := os.Stat(quote); err != nil {
			t.Skip("no real evidence at ../shared/vectors")
		}
		before := b.Eval("document.getElementById('at').value").(string)
		set("builtin", "strict")
		b.Choose("collateral", from)
		b.Choose("evidence", quote)
		set("at", "2025-09-02T08:41:59Z")
		b.Await(state("rejected") + " && document.getElementById('json').textContent.includes('2025-09-02')")
		if failed := b.Eval("[...document.querySelectorAll('#checks tr[data-status=FAIL] code')].map((c) => c.textContent).join()"); failed != "policy.tcb.freshness" {
			t.Errorf("strict refuses for %v", failed)
		}
		set("builtin", "genuine")
		b.Await(state("verified"))
		strict, _ := policy.Document("strict")
		set("document", strings.ReplaceAll(strings.ReplaceAll(string(strict), `"min_evaluation_data_number": 19`, `"min_evaluation_data_number": 17`), `"min_date": "2025-05-14T00:00:00Z"`, `"min_date": "2024-03-13T00:00:00Z"`))
		b.Await(state("verified"))
		if got := b.Eval("document.getElementById('builtin').value"); got != "" {
			t.Errorf("an edited policy is shown as %v", got)
		}
		set("at", before)
		b.Choose("policy", w.path("policy"))
	})

	// The page could not tell anybody even if it tried.
	for _, leak := range []string{
		"fetch('/leak').then(() => 'sent', () => 'refused')",
		"new Promise((done) => { const i = new Image(); i.onload = () => done('sent'); i.onerror = () => done('refused'); i.src = '/leak'; })",
		"new Promise((done) => { const s = document.createElement('script'); s.onload = () => done('sent'); s.onerror = () => done('refused'); s.src = 'data:text/javascript,1'; document.body.append(s); })",
		"new Promise((done) => { addEventListener('securitypolicyviolation', () => done('refused'), { once: true }); navigator.sendBeacon('/leak', 'x'); })",
	} {
		if got := b.Eval(leak); got != "refused" {
			t.Errorf("%s: %v", leak, got)
		}
	}
	if got := b.Eval("localStorage.length + sessionStorage.length + document.cookie.length"); got != 0.0 {
		t.Errorf("the page has stored something: %v", got)
	}

	own := []string{server.URL + "/"}
	for _, f := range files {
		own = append(own, server.URL+"/"+f.name)
	}
	for _, url := range b.Requested() {
		if !slices.Contains(own, url) && !strings.HasSuffix(url, "/leak") && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asked for %s", url)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(served)
	if want := []string{"GET /", "GET /page.js", "GET /style.css", "GET /verifier.js", "GET /wasm_exec.js"}; !slices.Equal(served, want) {
		t.Errorf("the server was asked for %q, want %q", served, want)
	}

	// The same folder without a server.
	b.Do("Page.navigate", map[string]any{"url": "file://" + filepath.Join(dir, "index.html")}, nil)
	b.Await("location.protocol === 'file:' && document.readyState === 'complete' && " + state("ready"))
	b.Choose("policy", w.path("policy"))
	b.Choose("evidence", w.path("garbage"))
	b.Await(state("error"))
}
