package results_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
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

// Names in certificates are the attacker's: they must not reach the terminal as control sequences.
func TestTableEscapes(t *testing.T) {
	var b bytes.Buffer
	r := &attestation.Result{Checks: []check.Check{{ID: "x", Title: "x", Status: check.Fail, Seen: "\x1b[2J\r\u202e", Detail: "a\nb\x9b"}}}
	if err := results.Table(&b, r, results.TableOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\u202e\u009b") || strings.Contains(b.String(), "a\nb") {
		t.Errorf("%q", b.String())
	}
}
