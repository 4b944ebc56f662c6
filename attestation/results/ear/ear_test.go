package ear_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	veraison "github.com/veraison/ear"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/results/ear"
	"github.com/bombyx-network/bombyx/attestation/snp"
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
	r := appraise(t, attestationtest.NodeConfig{GPUs: 1, Platform: attestationtest.SWHardeningNeeded}, func(p *policy.Policy) {
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
	if a := doc.Submods["gpu0"]; *a.Status != veraison.TrustTierAffirming { // the CPU's weakness is not the GPU's
		t.Errorf("%v %+v", *a.Status, a.TrustVector)
	}
}

// What each group of checks says in the trust vector, whatever the other groups say.
func TestTrustVector(t *testing.T) {
	pass := func(id string) check.Check { return check.Check{ID: id, Status: check.Pass, Required: true} }
	fail := func(id string) check.Check { return check.Check{ID: id, Status: check.Fail, Required: true} }
	undecided := func(id string) check.Check { return check.Check{ID: id, Status: check.Skip, Required: true} }
	optional := func(id string) check.Check { return check.Check{ID: id, Status: check.Skip} }
	for name, c := range map[string]struct {
		checks []check.Check
		tcb    string
		want   veraison.TrustVector
	}{
		"nothing of a group":                 {[]check.Check{pass(attestation.CheckNonce), fail(attestation.CheckMode)}, "", veraison.TrustVector{}},
		"chain":                              {[]check.Check{pass(dcap.CheckChain)}, "", veraison.TrustVector{Hardware: 2}},
		"a later one fails":                  {[]check.Check{pass(snp.CheckChain), fail(snp.CheckSignature)}, "", veraison.TrustVector{Hardware: 97}},
		"a required one is open":             {[]check.Check{undecided(snp.CheckChain), pass(snp.CheckSignature)}, "", veraison.TrustVector{}},
		"a required one is open, one fails":  {[]check.Check{undecided(snp.CheckChain), fail(snp.CheckSignature)}, "", veraison.TrustVector{Hardware: 97}},
		"an optional one is open":            {[]check.Check{optional(nvidia.CheckFWID), pass(nvidia.CheckSignature)}, "", veraison.TrustVector{Hardware: 2}},
		"only an optional one":               {[]check.Check{optional(nvidia.CheckFWID)}, "", veraison.TrustVector{}},
		"revoked":                            {[]check.Check{pass(dcap.CheckChain), fail(dcap.CheckRevocation)}, "", veraison.TrustVector{Hardware: 96}},
		"revoked, and not genuine":           {[]check.Check{fail(dcap.CheckChain), fail(dcap.CheckRevocation)}, "", veraison.TrustVector{Hardware: 97}},
		"revoked, and nothing else is known": {[]check.Check{fail(dcap.CheckRevocation)}, "", veraison.TrustVector{}},
		"up to date":                         {[]check.Check{pass(dcap.CheckChain)}, "UpToDate", veraison.TrustVector{Hardware: 2}},
		"tolerated":                          {[]check.Check{pass(dcap.CheckChain), pass(attestation.CheckTCB)}, "OutOfDate", veraison.TrustVector{Hardware: 32}},
		"not tolerated":                      {[]check.Check{pass(dcap.CheckChain), fail(attestation.CheckTCB)}, "OutOfDate", veraison.TrustVector{Hardware: 96}},
		"tolerated, and not genuine":         {[]check.Check{fail(dcap.CheckChain), pass(attestation.CheckTCB)}, "OutOfDate", veraison.TrustVector{Hardware: 97}},
		"configuration":                      {[]check.Check{pass(attestation.CheckAttributes)}, "", veraison.TrustVector{Configuration: 2}},
		"closed":                             {[]check.Check{pass(attestation.CheckDebug)}, "", veraison.TrustVector{Configuration: 2, RuntimeOpaque: 2}},
		"debug":                              {[]check.Check{fail(attestation.CheckDebug)}, "", veraison.TrustVector{Configuration: 96, RuntimeOpaque: 96}},
		"image":                              {[]check.Check{pass(attestation.CheckImage)}, "", veraison.TrustVector{Executables: 2}},
		"unknown image":                      {[]check.Check{fail(attestation.CheckImage)}, "", veraison.TrustVector{Executables: 33}},
		"machine":                            {[]check.Check{pass(attestation.CheckMachine)}, "", veraison.TrustVector{InstanceIdentity: 2}},
		"denied machine":                     {[]check.Check{fail(attestation.CheckMachine)}, "", veraison.TrustVector{InstanceIdentity: 96}},
	} {
		token, err := ear.Sign(&attestation.Result{Kind: attestation.KindEvidence, Checks: c.checks, TCBStatus: c.tcb, AppraisedAt: now}, ear.Options{Key: key, Build: "b", Developer: "d"})
		if err != nil {
			t.Fatal(err)
		}
		_, doc := open(t, token)
		if a := doc.Submods[ear.CPU]; *a.TrustVector != c.want || *a.Status != veraison.TrustTierContraindicated {
			t.Errorf("%s: %+v, want %+v", name, *a.TrustVector, c.want)
		}
	}
}

// Each device has its own submodule with its own checks and claims, and the CPU's has what belongs to no device.
func TestSubmodules(t *testing.T) {
	pass := func(ids ...string) (out []check.Check) {
		for _, id := range ids {
			out = append(out, check.Check{ID: id, Status: check.Pass})
		}
		return out
	}
	node := map[string]string{"cpu.kind": "TDX", "gpu0.driver": "590", "gpu1.driver": "591", "switch0.vbios": "96", "chain": "x"}
	device := map[string]string{"driver": "590", "vbios": "96"} // as a bare report's result has them
	for kind, c := range map[attestation.Kind]struct {
		checks []check.Check
		claims map[string]string
		want   map[string]map[string]any
	}{
		attestation.KindEvidence: {pass(dcap.CheckChain, "gpu0."+nvidia.CheckChain, "gpu1."+nvidia.CheckChain, "switch0."+nvidia.CheckChain), node, map[string]map[string]any{
			"cpu": {"kind": "TDX", "chain": "x"}, "gpu0": {"driver": "590"}, "gpu1": {"driver": "591"}, "switch0": {"vbios": "96"}}},
		attestation.KindGPUReport:    {pass(nvidia.CheckChain, attestation.CheckDriver), device, map[string]map[string]any{"gpu0": {"driver": "590", "vbios": "96"}}},
		attestation.KindSwitchReport: {pass(nvidia.CheckChain), map[string]string{"vbios": "96"}, map[string]map[string]any{"switch0": {"vbios": "96"}}},
		attestation.KindNVIDIAList:   {pass(nvidia.CheckNodeNonce, "gpu1."+nvidia.CheckChain), map[string]string{"gpu1.driver": "591"}, map[string]map[string]any{"node": {}, "gpu1": {"driver": "591"}}},
		attestation.KindTDXQuote:     {pass(dcap.CheckChain), map[string]string{"cpu.kind": "TDX", "tdx.mrtd": "x"}, map[string]map[string]any{"cpu": {"kind": "TDX", "tdx.mrtd": "x"}}},
	} {
		token, err := ear.Sign(&attestation.Result{Kind: kind, Checks: c.checks, Claims: c.claims, AppraisedAt: now}, ear.Options{Key: key, Build: "b", Developer: "d"})
		if err != nil {
			t.Fatal(err)
		}
		std, doc := open(t, token)
		if !std.Expiry.Time().Equal(now) {
			t.Errorf("%s: a rejection expires at %v, not at once", kind, std.Expiry.Time())
		}
		got := map[string]map[string]any{}
		for name, a := range doc.Submods {
			got[name] = *a.VeraisonAnnotatedEvidence
			if got[name]["evidence.sha256"] != strings.Repeat("00", 32) {
				t.Errorf("%s: %s names no evidence", kind, name)
			}
			delete(got[name], "evidence.sha256")
			if want := veraison.GenuineHardwareClaim; name != "node" && a.TrustVector.Hardware != want {
				t.Errorf("%s: %s: hardware %v", kind, name, a.TrustVector.Hardware)
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", kind, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	if _, err := ear.Sign(&attestation.Result{Verdict: attestation.Verified}, ear.Options{Key: key, Build: "b", Developer: "d"}); err == nil || !strings.Contains(err.Error(), "nothing was appraised") {
		t.Errorf("a result that no appraisal made: %v", err)
	}
	for _, k := range []ed25519.PrivateKey{nil, key[:63], append(slices.Clone(key), 0)} {
		if _, err := ear.Sign(appraise(t, attestationtest.NodeConfig{}, nil), ear.Options{Key: k, Build: "b", Developer: "d"}); err == nil || !strings.Contains(err.Error(), "no Ed25519 key") {
			t.Errorf("a key of %d bytes: %v", len(k), err)
		}
	}
	if _, err := ear.Sign(appraise(t, attestationtest.NodeConfig{}, nil), ear.Options{Key: key, Nonce: "short"}); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("short nonce: %v", err)
	}
}
