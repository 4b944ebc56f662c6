package attestation_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// What a policy demands of devices and workload, a bare quote cannot show: the
// result says so.
func TestBareShowsWhatItCannotSay(t *testing.T) {
	workload := []string{attestation.CheckBuild, attestation.CheckConfig, attestation.CheckModel}
	listed := func(p *policy.Policy) {
		one := policy.Allowed{Allow: []policy.Named{{Name: "one", Reason: "the test's", Digest: [32]byte{1}}}}
		p.Workload = policy.Workload{Builds: one, Configs: one, Models: one}
		p.Devices.Modes = slices.DeleteFunc(p.Devices.Modes, func(m string) bool { return m == "cpu" })
	}
	open := func(p *policy.Policy) {
		anything := policy.Allowed{AnyUnsafe: true, Allow: []policy.Named{}}
		p.Workload = policy.Workload{Builds: anything, Configs: anything, Models: anything}
	}
	snp := node(t, attestationtest.NodeConfig{SNP: true})
	for name, x := range map[string]struct {
		change func(*policy.Policy)
		data   []byte
		want   []string
	}{
		"quote, open":    {open, node(t, attestationtest.NodeConfig{}).Quote([64]byte{}), nil},
		"quote, listed":  {listed, node(t, attestationtest.NodeConfig{}).Quote([64]byte{}), append([]string{attestation.CheckMode}, workload...)},
		"report, listed": {listed, snp.SNPReport([64]byte{}), append([]string{attestation.CheckMode}, workload...)},
	} {
		r, err := verifier(t, attestationtest.CollateralOptions{}, x.change).AppraiseSaved(now, x.data, attestation.Expected{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var skipped []string
		for _, c := range r.Checks {
			if c.Status == check.Skip && (c.ID == attestation.CheckMode || slices.Contains(workload, c.ID)) {
				skipped = append(skipped, c.ID)
			}
		}
		if !slices.Equal(skipped, x.want) {
			t.Errorf("%s: skipped %v, want %v", name, skipped, x.want)
		}
	}
}

// What the policy has no rules for is refused, and what makes no sense is an error.
func TestSavedRefusals(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
	devices := n.Devices(nonce)
	gpu, nvswitch := devices[0], devices[2]
	quote := n.Quote([64]byte{})
	single := func(p *policy.Policy) { p.Devices.Modes, p.Devices.Switch = []string{"cpu", "single-gpu"}, nil }
	for _, c := range []struct {
		name   string
		data   []byte
		chain  []byte
		policy func(*policy.Policy)
		want   []string
	}{
		{"GPU report", gpu.Report, gpu.Certificates, nil, nil},
		{"switch report", nvswitch.Report, nvswitch.Certificates, nil, nil},
		{"GPU report without a root", gpu.Report, gpu.Certificates, withoutDevices, []string{attestation.CheckMode}},
		{"switch report without rules", nvswitch.Report, nvswitch.Certificates, single, []string{attestation.CheckMode}},
		{"GPU report without rules", gpu.Report, gpu.Certificates, func(p *policy.Policy) { p.Devices = policy.Devices{Modes: []string{"cpu"}} }, []string{attestation.CheckMode}},
		{"list of GPUs without rules", nvidiaList(t, attestationtest.NodeConfig{GPUs: 1}, nil), nil, func(p *policy.Policy) { p.Devices = policy.Devices{Modes: []string{"cpu"}} }, []string{attestation.CheckMode}},
		{"list of switches without rules", nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, func(l []listItem) []listItem { return l[2:] }), nil, single, []string{attestation.CheckMode}},
		{"list of switches", nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, func(l []listItem) []listItem { return l[2:] }), nil, nil, nil},
		{"quote cut short", quote[:len(quote)-1], nil, nil, []string{"dcap.parse"}},
		{"SGX quote where none is accepted", enclaveQuote(quote), nil, nil, []string{attestation.CheckCPU}},
		{"TDX quote where SGX is accepted", quote, nil, func(p *policy.Policy) { acceptEnclaves(p); p.TDX = nil }, []string{attestation.CheckCPU}},
	} {
		r := appraiseSaved(t, c.data, attestation.Expected{Certificates: c.chain}, c.policy)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q", c.name, r.Kind, got, c.want)
		}
	}
	v := verifier(t, attestationtest.CollateralOptions{}, nil)
	for _, size := range []int{31, 33} {
		if _, err := v.AppraiseSaved(now, gpu.Report, attestation.Expected{Nonce: make([]byte, size)}); err == nil {
			t.Errorf("a nonce of %d bytes", size)
		}
		if _, err := v.AppraiseSaved(now, quote, attestation.Expected{ReportData: make([]byte, 2*size)}); err == nil {
			t.Errorf("report data of %d bytes", 2*size)
		}
	}
	if _, _, err := attestation.Recognise(make([]byte, attestation.MaxInput+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Error(err)
	}
	for want, data := range map[attestation.Kind][]byte{attestation.KindGPUReport: gpu.Report, attestation.KindSwitchReport: nvswitch.Report} {
		if kind, _, err := attestation.Recognise(data); kind != want {
			t.Errorf("%s, %v, want %s", kind, err, want)
		}
	}
	if _, err := attestation.NewVerifier(nil, new(collateral.Bundle)); err == nil {
		t.Error("a verifier without a policy")
	}
	if _, err := attestation.NewVerifier(auth.Policy(now), nil); err == nil {
		t.Error("a verifier without collateral")
	}
	if _, err := attestation.NewVerifier(auth.Policy(now), new(collateral.Bundle)); err == nil || !strings.Contains(err.Error(), "lacks the root certificate") {
		t.Errorf("a verifier without its roots: %v", err)
	}
}
