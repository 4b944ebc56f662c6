package attestationtest

import (
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/policy"
)

// Policy returns a strict policy that pins this authority's roots and accepts up-to-date nodes running the named images
// ("" is the default image), with any GPU arrangement, until a year after now. Builds, configurations and models are left
// open; set them under Workload. The result is the caller's to change.
func (a *Authority) Policy(now time.Time, images ...string) *policy.Policy {
	if len(images) == 0 {
		images = []string{""}
	}
	open := policy.Allowed{AnyUnsafe: true, Allow: []policy.Named{}}
	p := &policy.Policy{
		Version:  policy.Version,
		Name:     "mock hardware",
		NotAfter: now.UTC().Truncate(time.Second).AddDate(1, 0, 0),
		MaxAge:   3600,
		Roots: policy.Roots{
			Intel:        []policy.Hash{fingerprint(a.intel.root.cert.Raw)},
			AMD:          []policy.Hash{fingerprint(a.amd.ark.Raw)},
			NVIDIADevice: []policy.Hash{fingerprint(a.nvidia.deviceRoot.cert.Raw)},
			NVIDIARIM:    []policy.Hash{fingerprint(a.nvidia.rimRoot.cert.Raw)},
		},
		TDX: &policy.TDX{
			TCB: policy.IntelTCB{MinEvaluation: 20, MinDate: now.UTC().Truncate(24*time.Hour).AddDate(-1, 0, 0),
				Tolerated: []policy.Tolerance{}, AllowSMT: true, AllowDynamicPlatform: true},
			RequiredAttributes: []policy.TDAttribute{"SEPT_VE_DISABLE"},
			AllowedAttributes:  []policy.TDAttribute{"PKS"},
		},
		SNP: &policy.SNP{MinTCB: map[string]policy.SNPTCB{amdProduct: {BootLoader: 10, SNP: 23, Microcode: 84}}, Keys: []string{"VCEK"}, RequireMitigations: map[string][]int{},
			AllowSMT: true, RequireAliasCheck: true},
		Devices: policy.Devices{
			Modes: []string{"cpu", "single-gpu", "multi-gpu"},
			GPU: &policy.GPU{Models: []string{"GH100"}, MinCount: 2, MaxCount: 8, Driver: DriverVersion,
				VBIOS: map[string]policy.Floor{"GH100": VBIOSVersion}, RIM: policy.Required, OCSP: policy.SkipUnsafe},
			Switch: &policy.Switch{Models: []string{"LS_10"}, MinCount: 1, MaxCount: 4, BIOS: SwitchVersion,
				RIM: policy.Required, OCSP: policy.SkipUnsafe},
		},
		Hardware: policy.Hardware{CPU: policy.SkipUnsafe, GPU: policy.SkipUnsafe, MinLevel: 1, ListKeys: []policy.PublicKey{},
			ProofOfCloudKeys: []policy.PublicKey{}, Deny: []policy.Machine{}},
		Workload: policy.Workload{Builds: open, Configs: open, Models: open},
	}
	for _, name := range images {
		m := a.Image(name)
		image := policy.TDImage{Name: strings.TrimSpace("mock image " + name), Reason: "made by package attestationtest", MRTD: policy.Want{Value: m.MRTD}}
		for _, r := range m.RTMR {
			image.RTMR = append(image.RTMR, policy.Want{Value: r})
		}
		p.TDX.Images = append(p.TDX.Images, image)
		p.SNP.Images = append(p.SNP.Images, policy.SNPImage{Name: image.Name, Reason: image.Reason, Measurement: image.MRTD})
	}
	return p
}
