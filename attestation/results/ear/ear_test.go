package ear_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	veraison "github.com/veraison/ear"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/results/ear"
)

var (
	now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32))
)

func appraise(t *testing.T, c attestationtest.NodeConfig, change func(*policy.Policy)) *attestation.Result {
	t.Helper()
	auth := attestationtest.New("ear")
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
	b, err := collateral.New(auth.Endorsements(attestationtest.CollateralOptions{Now: now}).Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Policy(now)
	if change != nil {
		change(p)
	}
	v, err := attestation.NewVerifier(p, b)
	if err != nil {
		t.Fatal(err)
	}
	return v.Appraise(now, ev, [32]byte{1})
}

// open verifies the token with a JOSE library and reads it with Veraison's own.
func open(t *testing.T, token string) (jwt.Claims, veraison.AttestationResult) {
	t.Helper()
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var std jwt.Claims
	if err := parsed.Claims(key.Public(), &std); err != nil {
		t.Fatal(err)
	}
	var doc veraison.AttestationResult
	payload, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.UnmarshalJSON(payload.UnsafePayloadWithoutVerification()); err != nil {
		t.Fatal(err)
	}
	return std, doc
}

func TestVerified(t *testing.T) {
	r := appraise(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, nil)
	token, err := ear.Sign(r, ear.Options{Key: key, Build: "test", Developer: "bombyx", Nonce: "01234567"})
	if err != nil {
		t.Fatal(err)
	}
	std, doc := open(t, token)
	if !std.Expiry.Time().Equal(r.ValidUntil) {
		t.Errorf("expires at %v, the result at %v", std.Expiry.Time(), r.ValidUntil)
	}
	for _, name := range []string{"cpu", "gpu0", "gpu1", "switch0"} {
		a := doc.Submods[name]
		if a == nil || *a.Status != veraison.TrustTierAffirming || a.TrustVector.Hardware != veraison.GenuineHardwareClaim {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if len(doc.Submods) != 4 || *doc.Nonce != "01234567" {
		t.Errorf("%d submodules, nonce %v", len(doc.Submods), doc.Nonce)
	}
}

// A list of devices says nothing of a CPU, and nor does its token.
func TestDevicesAlone(t *testing.T) {
	auth := attestationtest.New("ear")
	n, err := auth.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	d := n.Devices([32]byte{1})[0]
	list, err := json.Marshal([]any{map[string]any{"arch": "HOPPER", "certificate": d.Certificates, "evidence": d.Report, "nonce": "01" + strings.Repeat("00", 31)}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := collateral.New(auth.Endorsements(attestationtest.CollateralOptions{Now: now}).Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(auth.Policy(now), b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.AppraiseSaved(now, list, attestation.Expected{})
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	token, err := ear.Sign(r, ear.Options{Key: key, Build: "test", Developer: "bombyx"})
	if err != nil {
		t.Fatal(err)
	}
	_, doc := open(t, token)
	if len(doc.Submods) != 2 || doc.Submods[ear.CPU] != nil || doc.Submods[ear.Node] == nil || doc.Submods["gpu0"] == nil {
		t.Errorf("submodules %v", slices.Collect(maps.Keys(doc.Submods)))
	}
}

func TestRejected(t *testing.T) {
	// A good GPU of a bad node is not good.
	token, err := ear.Sign(appraise(t, attestationtest.NodeConfig{GPUs: 1, Debug: true}, nil), ear.Options{Key: key, Build: "test", Developer: "bombyx"})
	if err != nil {
		t.Fatal(err)
	}
	std, doc := open(t, token)
	for _, name := range []string{"cpu", "gpu0"} {
		if *doc.Submods[name].Status != veraison.TrustTierContraindicated {
			t.Errorf("%s: %v", name, *doc.Submods[name].Status)
		}
	}
	if v := doc.Submods["cpu"].TrustVector; v.RuntimeOpaque != veraison.VisibleMemoryRuntimeClaim || v.Configuration != veraison.UnsupportableConfigClaim {
		t.Errorf("%+v", v)
	}
	if std.Expiry.Time().After(now) {
		t.Errorf("a rejection expires at %v", std.Expiry.Time())
	}
}

func TestTolerated(t *testing.T) {
	r := appraise(t, attestationtest.NodeConfig{Platform: attestationtest.SWHardeningNeeded}, func(p *policy.Policy) {
		p.TDX.TCB.Tolerated = []policy.Tolerance{{Status: attestationtest.SWHardeningNeeded, Until: now.Add(time.Hour), Advisories: []string{"INTEL-SA-00615"}, Reason: "test"}}
	})
	token, err := ear.Sign(r, ear.Options{Key: key, Build: "test", Developer: "bombyx"})
	if err != nil {
		t.Fatal(err)
	}
	_, doc := open(t, token)
	if a := doc.Submods["cpu"]; *a.Status != veraison.TrustTierWarning || a.TrustVector.Hardware != veraison.UnsafeHardwareClaim {
		t.Errorf("%v %+v", *a.Status, a.TrustVector)
	}
}

func TestRefusals(t *testing.T) {
	if _, err := ear.Sign(&attestation.Result{Verdict: attestation.Verified}, ear.Options{Key: key}); err == nil {
		t.Error("a result that no appraisal made was signed")
	}
	if _, err := ear.Sign(appraise(t, attestationtest.NodeConfig{}, nil), ear.Options{}); err == nil {
		t.Error("signed without a key")
	}
	if _, err := ear.Sign(appraise(t, attestationtest.NodeConfig{}, nil), ear.Options{Key: key, Nonce: "short"}); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("short nonce: %v", err)
	}
}
