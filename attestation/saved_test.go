package attestation_test

import (
	"slices"
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
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
