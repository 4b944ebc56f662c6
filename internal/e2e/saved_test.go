package e2e

import (
	"bytes"
	"crypto/ed25519"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

var update = flag.Bool("update", false, "write testdata/evidence anew")

// Evidence that was saved once must be read the same way by every later
// version: testdata/evidence holds a document with the policy and collateral
// that verify it, on mock hardware.
func TestSavedEvidence(t *testing.T) {
	dir := "../../testdata/evidence"
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	nonce := [32]byte(bytes.Repeat([]byte{0x42}, 32))
	a := attestationtest.New("testdata/evidence")
	ks := &keyset.Keyset{KeyConfigs: []byte("opaque to the appraisal"), ReceiptKey: ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey),
		NotAfter: now.Add(24 * time.Hour), ModelManifest: [32]byte{1}, Build: [32]byte{2}, Config: [32]byte{3}}
	encoded, err := ks.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		node, err := a.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := node.Collect(t.Context(), nonce, encoded)
		if err != nil {
			t.Fatal(err)
		}
		p := a.Policy(now)
		p.Devices.Modes, p.Devices.GPU.MinCount, p.Devices.GPU.MaxCount, p.Devices.Switch = []string{"single-gpu"}, 1, 1, nil
		pol, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := a.Collateral(attestationtest.CollateralOptions{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"evidence.json": doc, "policy.json": pol, "collateral.json": bundle} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pol, err := policy.Parse(read("policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := collateral.Parse(read("collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(pol, bundle)
	if err != nil {
		t.Fatal(err)
	}
	r := v.Appraise(now, read("evidence.json"), nonce)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Keyset.Encode(); err != nil || !bytes.Equal(got, encoded) {
		t.Errorf("keyset %x, %v", got, err)
	}
	for name, r := range map[string]*attestation.Result{
		"another nonce":     v.Appraise(now, read("evidence.json"), [32]byte{}),
		"after all expired": v.Appraise(now.AddDate(0, 2, 0), read("evidence.json"), nonce),
	} {
		if r.Err() == nil {
			t.Errorf("%s: verified", name)
		}
	}
}
