package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// What measure prints goes into a policy as it is, and the policy then accepts that guest and no other.
func TestMeasuredImageInPolicy(t *testing.T) {
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, []byte("initrd"), 0o600); err != nil {
		t.Fatal(err)
	}
	const testdata = "../../attestation/measure/testdata/"
	c := root()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs([]string{"measure", "snp", "--json", "--firmware", testdata + "ovmf_AmdSev_suffix.bin", "--kernel", testdata + "kernel.efi", "--initrd", initrd,
		"--cmdline", "quiet", "--vcpus", "2", "--vcpu-type", "EPYC-Genoa"})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	document, _ := policy.Document("example")
	var whole map[string]any
	if err := json.Unmarshal([]byte(document), &whole); err != nil {
		t.Fatal(err)
	}
	whole["sev_snp"].(map[string]any)["images"] = []any{json.RawMessage(out.Bytes())}
	b, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	r := &snp.Report{Measurement: p.SNP.Images[0].Measurement.Value}
	if f := p.SNP.JudgeGuest(r); f.Err != nil {
		t.Error(f.Err)
	}
	r.Measurement[0] ^= 1
	if f := p.SNP.JudgeGuest(r); f.Err == nil {
		t.Error("another measurement is accepted")
	}
}
