package results_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/results"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func appraise(t *testing.T, c attestationtest.NodeConfig) *attestation.Result {
	t.Helper()
	auth := attestationtest.New("results")
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
	ev, err := n.Collect(t.Context(), [32]byte{1}, ks)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := auth.Collateral(attestationtest.CollateralOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	b, err := collateral.Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(auth.Policy(now), b)
	if err != nil {
		t.Fatal(err)
	}
	return v.Appraise(now, ev, [32]byte{1})
}

func TestJSON(t *testing.T) {
	for _, c := range []struct {
		config  attestationtest.NodeConfig
		verdict string
		tcb     string
	}{
		{attestationtest.NodeConfig{GPUs: 1}, "verified", "UpToDate"},
		// Rejected for another reason, the TCB status is still Intel's word.
		{attestationtest.NodeConfig{Debug: true, Platform: attestationtest.SWHardeningNeeded}, "rejected", "SWHardeningNeeded"},
	} {
		var got map[string]json.RawMessage
		if err := json.Unmarshal(results.JSON(appraise(t, c.config)), &got); err != nil {
			t.Fatal(err)
		}
		for _, member := range []string{"kind", "verdict", "tcb_status", "advisories", "checks", "claims", "valid_until"} {
			if got[member] == nil || string(got[member]) == "null" {
				t.Errorf("%s is missing", member)
			}
		}
		if len(got) != 7 {
			t.Errorf("%d members, want 7", len(got))
		}
		if string(got["verdict"]) != `"`+c.verdict+`"` || string(got["tcb_status"]) != `"`+c.tcb+`"` {
			t.Errorf("verdict %s, tcb_status %s", got["verdict"], got["tcb_status"])
		}
		if (string(got["valid_until"]) == `""`) != (c.verdict == "rejected") {
			t.Errorf("valid_until %s", got["valid_until"])
		}
	}
}

// A Result that no appraisal made must not be written as verified.
func TestZeroResult(t *testing.T) {
	d := results.FromResult(&attestation.Result{Verdict: attestation.Verified})
	if d.Verdict != "rejected" {
		t.Errorf("verdict %q", d.Verdict)
	}
	var b bytes.Buffer
	if err := results.Table(&b, &attestation.Result{Verdict: attestation.Verified}, results.TableOptions{}); err != nil || strings.Contains(b.String(), "VERIFIED") {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	r := appraise(t, attestationtest.NodeConfig{GPUs: 1, Debug: true})
	if err := results.Table(&b, r, results.TableOptions{Width: 200}); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{"  1  PASS  policy is in force [Bombyx policy] seen 2026-11-22T12:00:00Z; wanted before ",
		"FAIL  closed to its host (not debug) [Bombyx policy] seen TUD bits 0x01; wanted 0x00\n           policy.debug: the TD is debuggable",
		"SKIP  gpu0 firmware is in production state [", "(not required: ", "Verdict      REJECTED under policy"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "\n"); n < len(r.Checks) {
		t.Errorf("%d lines for %d checks", n, len(r.Checks))
	}
}

func TestDetail(t *testing.T) {
	for _, c := range []struct {
		check check.Check
		want  string
	}{
		{check.Check{Status: check.Pass}, ""},
		{check.Check{Status: check.Pass, Detail: "d"}, "d"},
		{check.Check{Status: check.Pass, Seen: "s", Wanted: "s"}, "seen s"},
		{check.Check{Status: check.Pass, Seen: "s", Wanted: "w"}, "seen s; wanted w"},
		{check.Check{Status: check.Fail, Seen: "s", Wanted: "s", Detail: "d"}, "d; seen s; wanted s"},
		{check.Check{Status: check.Skip, Wanted: "w"}, "wanted w"},
	} {
		if got := results.Detail(c.check); got != c.want {
			t.Errorf("%+v: %q, want %q", c.check, got, c.want)
		}
	}
}

// Members that nothing fills are empty, not null, and text stays as it is.
func TestEmptyMembers(t *testing.T) {
	r := &attestation.Result{Kind: "k", Checks: []check.Check{{ID: "c", Status: check.Fail, Seen: "<&>"}}}
	const want = `{"kind":"k","verdict":"rejected","tcb_status":"","advisories":[],"checks":[{"id":"c","status":"FAIL","detail":"seen <&>"}],"claims":{},"valid_until":""}` + "\n"
	if got := string(results.JSON(r)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// table writes a result and returns its lines.
func table(t *testing.T, r *attestation.Result, o results.TableOptions) []string {
	t.Helper()
	var b bytes.Buffer
	if err := results.Table(&b, r, o); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func TestTableLines(t *testing.T) {
	r := &attestation.Result{Policy: "p", TCBStatus: "OutOfDate", Missing: []string{"m1", "m2"}, Stale: []string{"s1"}, Checks: []check.Check{
		{ID: "switch3.x", Title: "t", Clause: "c", Status: check.Pass, Seen: "s", Wanted: "w", Detail: "d"},
		{ID: "gpu12.x", Title: "t", Clause: "c", Status: check.Fail, Detail: "d"},
		{ID: "x", Title: "t", Clause: "c", Status: check.Skip, Detail: "d"},
		{ID: "y", Title: "t", Clause: "c", Status: check.Skip, Detail: "d", Required: true},
		{ID: "z", Title: "t", Clause: "c", Status: check.Pass, Required: true},
		{ID: "no", Title: "t", Clause: "c"},
	}}
	want := []string{
		"  1  PASS  switch3 t [c] seen s; wanted w (d)",
		"  2  FAIL  gpu12 t [c]",
		"           gpu12.x: d",
		"  3  SKIP  t [c] (not required: d)",
		"  4  SKIP  t [c]",
		"           y: d",
		"  5  PASS  t [c]",
		"  6  NONE  t [c]",
		"",
		"TCB status   OutOfDate",
		`Verdict      REJECTED under policy "p"`,
		"Missing      m1, m2",
		"Expired      s1",
	}
	if got := table(t, r, results.TableOptions{}); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	r.Advisories, r.Missing, r.Stale = []string{"A", "B"}, nil, nil
	want[9] = "TCB status   OutOfDate (A, B)"
	if got := table(t, r, results.TableOptions{}); !slices.Equal(got, want[:11]) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	r.TCBStatus = ""
	if got := table(t, r, results.TableOptions{}); !slices.Equal(got, append(want[:9:9], want[10])) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	// Words are styled, widths are those of the text, and three columns are too few to cut anything to.
	style := func(s check.Status, text string) string { return "<" + string(s) + text + ">" }
	got := table(t, r, results.TableOptions{Width: 8, Style: style})
	if got[0] != "  1  <PASSPASS>  switc..." || got[6] != "  5  <PASSPASS>  t [c]" || got[9] != "Verdict      <FAILREJECTED> unde..." {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if got := table(t, r, results.TableOptions{Width: 5})[6]; got != "  5  PASS  t [c]" {
		t.Errorf("a line of the width itself is cut: %q", got)
	}
	if got := table(t, r, results.TableOptions{Width: 4})[6]; got != "  5  PASS  t..." {
		t.Errorf("%q", got)
	}
	if got := table(t, r, results.TableOptions{Width: 3})[0]; got != want[0] {
		t.Errorf("%q", got)
	}
}

func TestTableVerified(t *testing.T) {
	r := appraise(t, attestationtest.NodeConfig{})
	got := table(t, r, results.TableOptions{Style: func(s check.Status, text string) string { return "<" + text + ">" }})
	want := []string{"", "TCB status   UpToDate", `Verdict      <VERIFIED> under policy "` + r.Policy + `"`, "Valid until  " + r.ValidUntil.UTC().Format(time.RFC3339)}
	if n := len(got) - len(want); n < 1 || !slices.Equal(got[n:], want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// Names in certificates are the attacker's: they must not reach the terminal as control sequences.
func TestTableEscapes(t *testing.T) {
	var b bytes.Buffer
	r := &attestation.Result{Checks: []check.Check{{ID: "x", Title: "x", Status: check.Fail, Seen: "\x1b[2J\r\u202e", Detail: "a\nb\u0080\u009b\u009f\x7f\u200f\u202a\u202d\u2066\u2069 stays: é~"}}}
	if err := results.Table(&b, r, results.TableOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\u202e\u0080\u009b\u009f\x7f\u200f\u202a\u202d\u2066\u2069") || strings.Contains(b.String(), "a\nb") ||
		!strings.Contains(b.String(), " stays: é~") {
		t.Errorf("%q", b.String())
	}
}
