package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/cli/command"
)

// TestVerifyRealQuotes appraises every real quote whose status somebody else has computed, as a user would.
func TestVerifyRealQuotes(t *testing.T) {
	const dir = "../../../shared/vectors"
	b, err := os.ReadFile(filepath.Join(dir, "quotes/expected.json"))
	if err != nil {
		t.Skip("no real evidence at ../shared/vectors")
	}
	var quotes []struct {
		File, Signature string
		Appraisals      []struct{ At, TcbInfo, QeIdentity, Overall string }
	}
	if err := json.Unmarshal(b, &quotes); err != nil {
		t.Fatal(err)
	}
	// The quotes are from before the recoveries that strict asks for.
	p := policy.Strict()
	p.TDX.TCB.MinEvaluation, p.TDX.TCB.MinDate = 1, time.Unix(0, 0).UTC()
	p.SGX.TCB.MinEvaluation, p.SGX.TCB.MinDate = 1, time.Unix(0, 0).UTC()
	encoded, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old.json")
	if err := os.WriteFile(old, encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	appraisals, verified := 0, 0
	for _, q := range quotes {
		for _, a := range q.Appraisals {
			appraisals++
			file := filepath.Join(dir, q.File)
			args := []string{"verify", "--home", t.TempDir(), "--policy", old, "--offline", "--json", "--at", a.At, file}
			for _, c := range []string{a.TcbInfo, a.QeIdentity} {
				args = append(args, "--collateral", filepath.Join(dir, c))
			}
			var out, errs bytes.Buffer
			c := root()
			c.SetArgs(args)
			c.SetOut(&out)
			c.SetErr(&errs)
			code := command.Run(t.Context(), c)
			var r struct {
				Verdict   string
				TCBStatus string `json:"tcb_status"`
			}
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Errorf("%s at %s: %v\n%s", q.File, a.At, err, errs.Bytes())
				continue
			}
			if r.TCBStatus != a.Overall {
				t.Errorf("%s at %s: tcb_status %q, want %q", q.File, a.At, r.TCBStatus, a.Overall)
			}
			// Most of these collateral sets have no CRLs: then even a platform that is up to date is not verified.
			switch code {
			case 0:
				if r.Verdict != "verified" || a.Overall != "UpToDate" {
					t.Errorf("%s at %s: %s, exit code 0, though the platform is %s", q.File, a.At, r.Verdict, a.Overall)
				}
				verified++
			case cli.Refused, cli.Missing:
				if r.Verdict != "rejected" {
					t.Errorf("%s at %s: %s, exit code %d", q.File, a.At, r.Verdict, code)
				}
			default:
				t.Errorf("%s at %s: exit code %d\n%s", q.File, a.At, code, errs.Bytes())
			}
		}
	}
	if appraisals < 17 || verified == 0 {
		t.Errorf("%d appraisals, want 17; %d verified", appraisals, verified)
	}
}
