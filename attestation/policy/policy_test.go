package policy_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, ok := policy.Document(name)
	if !ok {
		t.Fatalf("no policy %q", name)
	}
	return string(b)
}

func parse(t testing.TB, name string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(read(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The examples must load, and survive being written again.
func TestExamples(t *testing.T) {
	for _, name := range policy.Builtin() {
		p := parse(t, name)
		b, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := policy.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		c, err := again.Encode()
		if err != nil || !bytes.Equal(b, c) {
			t.Errorf("%s: written twice it differs (%v)", name, err)
		}
	}
}

func TestParseRefusals(t *testing.T) {
	strict := read(t, "example")
	zero := strings.Repeat("0", 96)
	for _, c := range []struct{ name, old, new, want string }{
		{"version", `"bombyx_policy": 1`, `"bombyx_policy": 2`, "bombyx_policy is 2"},
		{"unknown member", `"name": "example"`, `"name": "example", "skip": true`, "skip: unknown member"},
		{"missing member", `"allow_smt": true,`, ``, "allow_smt: missing"},
		{"case variant", `"tdx": {`, `"TDX": {`, "TDX: unknown member"},
		{"empty name", `"name": "example"`, `"name": ""`, "name is empty"},
		{"no age", `"max_age_seconds": 600`, `"max_age_seconds": 0`, "max_age_seconds is 0"},
		{"no epoch age", `"max_age_seconds": 600`, `"max_age_seconds": 600, "epoch": {"max_age_seconds": 0}`, "epoch.max_age_seconds is 0"},
		{"epoch without age", `"max_age_seconds": 600`, `"max_age_seconds": 600, "epoch": {}`, "epoch.max_age_seconds: missing"},
		{"no Intel root", `"intel": ["44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"]`, `"intel": []`, "roots.intel is empty"},
		{"no NVIDIA root", `"nvidia_device": ["102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a69b167b48"]`, ``, ""},
		{"no RIM root", `"nvidia_rim": ["12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"]`, `"nvidia_rim": []`, "roots.nvidia_rim is empty"},
		{"short fingerprint", `"44a0196b`, `"44a019`, "roots.intel[0]: want 64"},
		{"DEBUG allowed", `["PKS"]`, `["DEBUG"]`, "allowed_attributes[0]: \"DEBUG\" is no TD attribute"},
		{"no evaluation floor", `"min_evaluation_data_number": 19`, `"min_evaluation_data_number": 0`, "tdx.tcb.min_evaluation_data_number"},
		{"Revoked tolerated", `"tolerated_statuses": []`, `"tolerated_statuses": [{"status":"Revoked","until":"2027-01-01T00:00:00Z","advisories":[],"reason":"x"}]`, "cannot be tolerated"},
		{"NotSupported tolerated", `"tolerated_statuses": []`, `"tolerated_statuses": [{"status":"NotSupported","until":"2027-01-01T00:00:00Z","advisories":[],"reason":"x"}]`, "cannot be tolerated"},
		{"status tolerated without a reason", `"tolerated_statuses": []`, `"tolerated_statuses": [{"status":"OutOfDate","until":"2027-01-01T00:00:00Z","advisories":[],"reason":""}]`, "needs a reason"},
		{"status tolerated without an end", `"tolerated_statuses": []`, `"tolerated_statuses": [{"status":"OutOfDate","advisories":[],"reason":"x"}]`, "until: missing"},
		{"three RTMRs", `"rtmr": [
          "` + zero + `",`, `"rtmr": [`, "3 registers, want 4"},
		{"register given up by another word", `"mrowner": "` + zero + `"`, `"mrowner": "any"`, "tdx.images[0].mrowner: want 96"},
		{"unknown mode", `["single-gpu", "multi-gpu"]`, `["gpu"]`, "unknown mode"},
		{"mode twice", `["single-gpu", "multi-gpu"]`, `["single-gpu", "single-gpu"]`, "again"},
		{"no mode", `["single-gpu", "multi-gpu"]`, `[]`, "devices.modes is empty"},
		{"counts", `"max_count": 8`, `"max_count": 1`, "counts 8 to 1"},
		{"RIM rule", `"rim": "required"`, `"rim": "optional"`, "rim: \"optional\""},
		{"floor", `"570.124.06"`, `"latest"`, "min_driver"},
		{"unknown product", `"Genoa/191101": {`, `"Rome": {`, "unknown product"},
		{"unknown product of a processor", `"Genoa/191101": {`, `"Rome/191101": {`, "unknown product"},
		{"short processor", `"Genoa/191101": {`, `"Genoa/1911": {`, "want family, model and stepping"},
		{"processor in capitals", `"Genoa/19a002": {`, `"Genoa/19A002": {`, "want family, model and stepping"},
		{"processor of nothing", `"Genoa/191101": {`, `"Genoa/": {`, "want family, model and stepping"},
		{"mitigations absent", `"require_mitigations": {},`, ``, "require_mitigations"},
		{"mitigations of an unknown product", `"require_mitigations": {}`, `"require_mitigations": {"Rome": [0]}`, "require_mitigations: unknown product"},
		{"mitigations of a misspelt processor", `"require_mitigations": {}`, `"require_mitigations": {"Genoa/19": [0]}`, "family, model and stepping"},
		{"mitigation bit 64", `"require_mitigations": {}`, `"require_mitigations": {"Genoa": [64]}`, "require_mitigations.Genoa: bit 64"},
		{"mitigation bit -1", `"require_mitigations": {}`, `"require_mitigations": {"Genoa": [-1]}`, "require_mitigations.Genoa: bit -1"},
		{"mitigation bit twice", `"require_mitigations": {}`, `"require_mitigations": {"Genoa": [1, 1]}`, "at most once"},
		{"FMC on Genoa", `"Genoa/191101": {"fmc": 0`, `"Genoa/191101": {"fmc": 1`, "min_tcb.Genoa/191101.fmc"},
		{"unknown key", `["VCEK"]`, `["VCEK2"]`, "unknown key"},
		{"VMPL", `"max_vmpl": 0`, `"max_vmpl": 4`, "max_vmpl: 4"},
		{"list and any", `"any_unsafe": false,
      "allow": [
        {
          "name": "example model"`, `"any_unsafe": true,
      "allow": [
        {
          "name": "example model"`, "workload.models: want either"},
		{"hardware without issuers", `"proof_of_cloud_keys": ["5ea69fede5bcf71054395b273bad67f67158c242d77945d436374020ece525cb"]`, `"proof_of_cloud_keys": []`, "hardware.list_keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(strict, c.old, c.new, 1)
			if c.want == "" {
				// Emptying one root pins on a document where text replacement is awkward.
				p := parse(t, "example")
				p.Roots.NVIDIADevice = nil
				if _, err := p.Encode(); err == nil || !strings.Contains(err.Error(), "roots.nvidia_device is empty") {
					t.Errorf("error %v", err)
				}
				return
			}
			if in == strict {
				t.Fatal("the case changes nothing")
			}
			if _, err := policy.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := policy.Parse([]byte(`{"bombyx_policy":1}`)); err == nil {
		t.Error("an all but empty policy was accepted")
	}
	p := parse(t, "cocoon-like")
	p.TDX = nil
	if _, err := p.Encode(); err == nil {
		t.Error("a policy that accepts no CPU was accepted")
	}
}

func TestRegistryRefusals(t *testing.T) {
	doc := read(t, "registry")
	for _, c := range []struct{ name, old, new, want string }{
		{"no reason", `"reason": "EXAMPLE: put the address`, `"reason": "", "x": "`, "x: unknown member"},
		{"no name", `"name": "example registry"`, `"name": ""`, "registries[0]: needs a name"},
		{"friendly address", `"0:`, `"EQ`, "registries[0].address: want"},
		{"short address", `"0:00`, `"0:`, "registries[0].address: want"},
		{"no time lock", `"min_delay_seconds": 604800`, `"min_delay_seconds": 0`, "min_delay_seconds is 0"},
		{"no age", `"max_age_seconds": 3600,
      "supplies"`, `"max_age_seconds": 0,
      "supplies"`, "max_age_seconds is 0"},
		{"unknown supply", `"builds", "configs"`, `"builds", "everything"`, `"everything", want`},
		{"supply twice", `"builds", "configs"`, `"builds", "builds"`, "again"},
		{"no supply", `["images", "builds", "configs", "models"]`, `[]`, "supplies is empty"},
		{"images from nowhere", `["images", "builds"`, `["builds"`, "tdx.images: empty, and no registry"},
		{"models from nowhere", `"configs", "models"]`, `"configs"]`, "workload.models: want either"},
		{"missing member", `"network": -239,`, ``, "registries[0].network: missing"},
	} {
		in := strings.Replace(doc, c.old, c.new, 1)
		if in == doc {
			t.Fatalf("%s: the case changes nothing", c.name)
		}
		if _, err := policy.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	p := parse(t, "registry")
	p.Registries = append(p.Registries, p.Registries[0])
	if _, err := p.Encode(); err == nil || !strings.Contains(err.Error(), "the same registry again") {
		t.Errorf("named twice: %v", err)
	}
}

func TestReferenceValueRefusals(t *testing.T) {
	good := `{"bombyx_reference_values":1,"tdx":[],"sev_snp":[],"builds":["` + strings.Repeat("0", 64) + `"],"configs":[]}`
	if _, err := policy.ParseReferenceValues([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{
		"another version": strings.Replace(good, ":1", ":2", 1),
		"unknown member":  strings.Replace(good, `"tdx"`, `"sgx":[],"tdx"`, 1),
		"missing member":  strings.Replace(good, `"tdx":[],`, ``, 1),
		"any":             strings.Replace(good, strings.Repeat("0", 64), "any_unsafe", 1),
		"nothing":         `{"bombyx_reference_values":1,"tdx":[],"sev_snp":[],"builds":[],"configs":[]}`,
		"three registers": strings.Replace(good, `"tdx":[]`, `"tdx":[{"mrtd":"`+strings.Repeat("0", 96)+`","rtmr":[],"mrconfigid":"`+strings.Repeat("0", 96)+`","mrowner":"`+strings.Repeat("0", 96)+`","mrownerconfig":"`+strings.Repeat("0", 96)+`"}]`, 1),
		"too long":        good + strings.Repeat(" ", policy.MaxReferenceValues),
	} {
		if _, err := policy.ParseReferenceValues([]byte(in)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseReferenceValues(f *testing.F) {
	f.Add([]byte(`{"bombyx_reference_values":1,"tdx":[],"sev_snp":[],"builds":["` + strings.Repeat("0", 64) + `"],"configs":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := policy.ParseReferenceValues(in)
		if err != nil {
			return
		}
		b, err := v.Encode()
		if err != nil && len(in) <= policy.MaxReferenceValues && len(b) <= policy.MaxReferenceValues {
			t.Fatalf("%v", err)
		}
	})
}

func TestFloors(t *testing.T) {
	g := parse(t, "example").Devices.GPU
	for version, ok := range map[string]bool{
		"570.124.06": true, "570.124.6": true, "570.124.07": true, "570.124.06.1": true, "590.12": true, "1000": true,
		"570.124.05": false, "570.124": false, "570": false, "535.86.09": false, "": false, "570.x": false, "570..1": false, "-1": false,
		"99999999999999999999": false, "1.2.3.4.5.6.7.8.9": false,
	} {
		if f := g.JudgeDriver(version); (f.Err == nil) != ok {
			t.Errorf("driver %q: %v", version, f.Err)
		}
	}
	for version, ok := range map[string]bool{"96.00.A5.00.00": true, "96.00.A5.00.01": true, "96.00.B0.00.00": true, "96.00.9F.00.01": false, "96.00.74.00.1A": false} {
		if f := g.JudgeVBIOS("GH100", version); (f.Err == nil) != ok {
			t.Errorf("VBIOS %q: %v", version, f.Err)
		}
	}
	if g.JudgeVBIOS("GA100", "99.00.00.00.00").Err == nil {
		t.Error("a model without a floor was accepted")
	}
}

func TestGPUMode(t *testing.T) {
	for _, c := range []struct {
		mode  string
		gpu   nvidia.Mode
		ppcie nvidia.Toggle
		ok    bool
	}{
		{"single-gpu", nvidia.ModeSinglePass, nvidia.ToggleDisabled, true},
		{"single-gpu", nvidia.ModeUnknown, nvidia.ToggleAbsent, true},
		{"single-gpu", nvidia.ModeUnknown, nvidia.ToggleEnabled, false},
		{"single-gpu", nvidia.ModeProtectedPCIe, nvidia.ToggleEnabled, false},
		{"single-gpu", nvidia.ModeMultiPass, nvidia.ToggleDisabled, false},
		{"multi-gpu", nvidia.ModeProtectedPCIe, nvidia.ToggleEnabled, true},
		{"multi-gpu", nvidia.ModeUnknown, nvidia.ToggleEnabled, true},
		{"multi-gpu", nvidia.ModeMultiPass, nvidia.ToggleDisabled, true},
		{"multi-gpu", nvidia.ModeSinglePass, nvidia.ToggleDisabled, false},
		{"multi-gpu", nvidia.ModeUnknown, nvidia.ToggleDisabled, false},
		{"multi-gpu", nvidia.ModeUnknown, nvidia.ToggleAbsent, false},
		{"multi-gpu", nvidia.ModeProtectedPCIe, nvidia.ToggleDisabled, false},
		{"cpu", nvidia.ModeSinglePass, nvidia.ToggleDisabled, false},
	} {
		if f := policy.JudgeGPUMode(c.mode, c.gpu, c.ppcie); (f.Err == nil) != c.ok {
			t.Errorf("%s with %v and %v: %v", c.mode, c.gpu, c.ppcie, f.Err)
		}
	}
}

func TestTDX(t *testing.T) {
	p := parse(t, "cocoon-like").TDX
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status     dcap.TCBStatus
		advisories []string
		ok         bool
	}{
		{dcap.UpToDate, nil, true},
		{dcap.SWHardeningNeeded, []string{"INTEL-SA-00615"}, true},
		{dcap.SWHardeningNeeded, []string{"INTEL-SA-00615", "INTEL-SA-99999"}, false},
		{dcap.OutOfDate, []string{"INTEL-SA-00837"}, true},
		{dcap.ConfigurationNeeded, nil, false},
		{dcap.Revoked, nil, false},
		{dcap.NotSupported, nil, false},
		{"", nil, false},
	} {
		if f := p.TCB.JudgeStatus(now, c.status, c.advisories); (f.Err == nil) != c.ok {
			t.Errorf("%s %v: %v", c.status, c.advisories, f.Err)
		}
	}
	if f := p.TCB.JudgeStatus(now.AddDate(0, 3, 0), dcap.OutOfDate, nil); f.Err == nil {
		t.Error("a tolerance outlived its end")
	}
	for a, ok := range map[dcap.TDAttributes]bool{
		dcap.TDSeptVEDisable: true, 0: false, dcap.TDSeptVEDisable | dcap.TDPKS: false, dcap.TDSeptVEDisable | 1<<27: false,
	} {
		if f := p.JudgeAttributes(a); (f.Err == nil) != ok {
			t.Errorf("attributes %#x: %v", uint64(a), f.Err)
		}
	}
	// Every bit of the debug group counts, not only the lowest.
	for bit := range 8 {
		if p.JudgeDebug(1<<bit).Err == nil {
			t.Errorf("TUD bit %d was accepted", bit)
		}
	}
	yes, no := true, false
	strictCPU := parse(t, "example").TDX.TCB
	strictCPU.AllowSMT, strictCPU.AllowCachedKeys, strictCPU.AllowDynamicPlatform = false, false, false
	for _, c := range []struct {
		config *dcap.PCKConfiguration
		ok     bool
	}{
		{nil, true}, {&dcap.PCKConfiguration{}, true}, {&dcap.PCKConfiguration{SMTEnabled: &no}, true},
		{&dcap.PCKConfiguration{SMTEnabled: &yes}, false}, {&dcap.PCKConfiguration{CachedKeys: &yes}, false},
		{&dcap.PCKConfiguration{DynamicPlatform: &yes}, false},
	} {
		if f := strictCPU.JudgeConfiguration(&dcap.PCK{Configuration: c.config}); (f.Err == nil) != c.ok {
			t.Errorf("configuration %+v: %v", c.config, f.Err)
		}
	}
	strictCPU.RequireMemoryIntegrity = true
	if strictCPU.JudgeConfiguration(&dcap.PCK{SGXType: dcap.SGXScalable}).Err == nil {
		t.Error("memory without integrity was accepted")
	}
	if strictCPU.JudgeConfiguration(&dcap.PCK{SGXType: dcap.SGXScalableIntegrity}).Err != nil {
		t.Error("memory with integrity was refused")
	}
}

// Every register that an image names must count.
func TestTDImageRegisters(t *testing.T) {
	p := parse(t, "example").TDX // all zero
	if f := p.JudgeImage(&dcap.TDReport{}); f.Err != nil {
		t.Fatal(f.Err)
	}
	for i, change := range []func(*dcap.TDReport){
		func(r *dcap.TDReport) { r.MRTD[0] = 1 }, func(r *dcap.TDReport) { r.RTMR[0][0] = 1 }, func(r *dcap.TDReport) { r.RTMR[1][0] = 1 },
		func(r *dcap.TDReport) { r.RTMR[2][0] = 1 }, func(r *dcap.TDReport) { r.RTMR[3][47] = 1 }, func(r *dcap.TDReport) { r.MRCONFIGID[0] = 1 },
		func(r *dcap.TDReport) { r.MROWNER[0] = 1 }, func(r *dcap.TDReport) { r.MROWNERCONFIG[0] = 1 },
	} {
		r := &dcap.TDReport{}
		change(r)
		if p.JudgeImage(r).Err == nil {
			t.Errorf("change %d was accepted", i)
		}
	}
}

func TestSNP(t *testing.T) {
	p := parse(t, "example").SNP
	if f := p.JudgeGuest(&snp.Report{}); f.Err != nil {
		t.Fatal(f.Err)
	}
	for i, change := range []func(*snp.Report){
		func(r *snp.Report) { r.Measurement[0] = 1 }, func(r *snp.Report) { r.HostData[0] = 1 },
		func(r *snp.Report) { r.IDKeyDigest[0] = 1 }, func(r *snp.Report) { r.AuthorKeyDigest[0] = 1 },
	} {
		r := &snp.Report{}
		change(r)
		if p.JudgeGuest(r).Err == nil {
			t.Errorf("change %d was accepted", i)
		}
	}
	if p.JudgeDebug(snp.PolicyDebug).Err == nil || p.JudgeDebug(0).Err != nil {
		t.Error("debug")
	}
	for bits, ok := range map[snp.Policy]bool{0: true, snp.PolicySMT: true, snp.PolicyMigrateMA: false, snp.PolicyCXLAllow: false} {
		if f := p.JudgeGuestPolicy(bits); (f.Err == nil) != ok {
			t.Errorf("guest policy %#x: %v", uint64(bits), f.Err)
		}
	}
	if p.JudgeVMPL(0).Err != nil || p.JudgeVMPL(1).Err == nil {
		t.Error("VMPL")
	}
	if p.JudgePlatform(0).Err == nil || p.JudgePlatform(snp.PlatformAliasCheckComplete).Err != nil {
		t.Error("alias check")
	}
	if p.JudgeKey(&snp.EndorsementKey{Kind: snp.VLEK}).Err == nil || p.JudgeKey(&snp.EndorsementKey{Kind: snp.VCEK}).Err != nil {
		t.Error("kind of key")
	}
	p.RequireMitigations = map[string][]int{"Turin": {0, 3}, "Turin/1a0201": {63}}
	all := ^uint64(0)
	for _, c := range []struct {
		version         uint32
		product         snp.Product
		stepping        byte
		launch, current uint64
		why             string
	}{
		{5, snp.Turin, 0, 0b1001, 0b1001, ""}, {5, snp.Turin, 0, all, all, ""},
		{5, snp.Turin, 0, 0b0001, 0b1001, "0000000000000008 were not in place when the guest was launched"},
		{5, snp.Turin, 0, 0b1001, 0b1000, "0000000000000001 are not in place"},
		{5, snp.Turin, 0, 0, 0, "0000000000000009 were not"},
		{5, snp.Turin, 1, 1 << 63, 1 << 63, ""}, // the processor's own list counts
		{5, snp.Turin, 1, all >> 1, all >> 1, "8000000000000000 were not"},
		{3, snp.Turin, 0, 0, 0, "older than the mitigation vectors"}, {2, snp.Turin, 0, all, all, "older than the mitigation vectors"},
		{5, snp.Genoa, 0, 0, 0, ""}, {3, snp.Genoa, 0, 0, 0, ""},
	} {
		r := &snp.Report{Version: c.version, CPUID: [3]byte{0x1a, 0x02, c.stepping}, LaunchMitigations: c.launch, CurrentMitigations: c.current}
		if f := p.JudgeMitigations(r, c.product); (f.Err == nil) != (c.why == "") || f.Err != nil && !strings.Contains(f.Err.Error(), c.why) {
			t.Errorf("%+v: %+v", c, f)
		}
	}
	p.MinTCB = map[string]policy.SNPTCB{"Genoa": {BootLoader: 10, SNP: 23, Microcode: 84}}
	good := snp.TCB(84<<56 | 23<<48 | 10)
	for _, c := range []struct {
		reported, committed, launch snp.TCB
		product                     snp.Product
		ok                          bool
	}{
		{good, good, good, snp.Genoa, true}, {good - 1, good, good, snp.Genoa, false}, {good, good - 1, good, snp.Genoa, false},
		{good, good, good, snp.Milan, false}, {good - 1<<56, good, good, snp.Genoa, false}, {good - 1<<48, good, good, snp.Genoa, false},
		{good, good, good - 1<<48, snp.Genoa, false}, // launched by older firmware, updated since
	} {
		if f := p.JudgeTCB(&snp.Report{ReportedTCB: c.reported, CommittedTCB: c.committed, LaunchTCB: c.launch}, c.product); (f.Err == nil) != c.ok {
			t.Errorf("%+v: %v", c, f.Err)
		}
	}
}

// A processor's own floor counts before its product's, for reports that name their processor.
func TestProcessorFloor(t *testing.T) {
	p := &policy.SNP{MinTCB: map[string]policy.SNPTCB{"Genoa": {SNP: 9}, "Genoa/191102": {SNP: 5}, "Turin/1a0201": {SNP: 4}}}
	for _, c := range []struct {
		name    string
		version uint32
		cpuid   [3]uint8
		product snp.Product
		snp     uint8
		want    string
	}{
		{"own floor reached", 3, [3]uint8{0x19, 0x11, 2}, snp.Genoa, 5, ""},
		{"own floor missed", 3, [3]uint8{0x19, 0x11, 2}, snp.Genoa, 4, "older"},
		{"product's floor reached", 5, [3]uint8{0x19, 0x11, 1}, snp.Genoa, 9, ""},
		{"product's floor missed", 5, [3]uint8{0x19, 0x11, 1}, snp.Genoa, 8, "older"},
		{"version 2 has the product's", 2, [3]uint8{}, snp.Genoa, 8, "older"},
		{"no floor for the stepping", 5, [3]uint8{0x1a, 2, 2}, snp.Turin, 255, "no min_tcb for Turin/1a0202"},
		{"no floor for an unnamed processor", 2, [3]uint8{}, snp.Turin, 255, "does not name its stepping"},
		{"another product's processor", 5, [3]uint8{0x19, 0x11, 2}, snp.Milan, 255, "no min_tcb"},
	} {
		tcb := snp.TCB(uint64(c.snp) << 48)
		if c.product == snp.Turin {
			tcb = snp.TCB(uint64(c.snp) << 24)
		}
		f := p.JudgeTCB(&snp.Report{Version: c.version, CPUID: c.cpuid, ReportedTCB: tcb, CommittedTCB: tcb, LaunchTCB: tcb}, c.product)
		if c.want == "" && f.Err != nil || c.want != "" && (f.Err == nil || !strings.Contains(f.Err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, f.Err, c.want)
		}
	}
}

// The built-in policies are what their documentation says.
func TestBuiltin(t *testing.T) {
	s := policy.Strict()
	if s.TDX.TCB.MinEvaluation != 19 || s.SGX.TCB.MinEvaluation != 19 || len(s.TDX.TCB.Tolerated)+len(s.SGX.TCB.Tolerated) != 0 {
		t.Errorf("strict about Intel: %+v %+v", s.TDX.TCB, s.SGX.TCB)
	}
	for processor := range s.SNP.MinTCB {
		if strings.HasPrefix(processor, "Milan") {
			t.Error("strict accepts Milan")
		}
	}
	g := policy.Genuine()
	for _, p := range []snp.Product{snp.Milan, snp.Genoa, snp.Turin} {
		if f := g.SNP.JudgeTCB(&snp.Report{Version: 2}, p); f.Err != nil {
			t.Errorf("genuine: %v", f.Err)
		}
	}
	if len(g.TDX.TCB.Tolerated)+len(g.SGX.TCB.Tolerated) != 0 || g.Devices.GPU.RIM != policy.Required || g.Devices.GPU.OCSP != policy.Required {
		t.Errorf("genuine tolerates %+v", g)
	}
	if len(policy.CocoonLike().TDX.TCB.Tolerated) == 0 || policy.Example().TDX.Images[0].MRTD.Any || policy.Example().SGX.Enclaves[0].MRENCLAVE.Any || policy.Example().SGX.Enclaves[0].MRSIGNER.Any {
		t.Error("cocoon-like tolerates nothing, or the example accepts any guest or enclave")
	}
	if _, ok := policy.Document("lenient"); ok {
		t.Error("there is a document of an unknown policy")
	}
}

func TestSGX(t *testing.T) {
	s := &policy.SGX{Enclaves: []policy.SGXEnclave{
		{Name: "one", Reason: "r", MRENCLAVE: policy.Want32{Value: [32]byte{9}}, MRSIGNER: policy.Want32{Value: [32]byte{8}}, ISVProdID: 3},
		{Name: "signer", Reason: "r", MRENCLAVE: policy.Want32{Any: true}, MRSIGNER: policy.Want32{Value: [32]byte{1}}, ISVProdID: 3, MinISVSVN: 5}}}
	good := dcap.EnclaveReport{MRSIGNER: [32]byte{1}, ISVProdID: 3, ISVSVN: 5}
	for want, r := range map[string]dcap.EnclaveReport{"signer": good, "one": {MRENCLAVE: [32]byte{9}, MRSIGNER: [32]byte{8}, ISVProdID: 3}} {
		if f := s.JudgeEnclave(&r); f.Err != nil || f.Seen != want {
			t.Fatalf("%+v, want %s", f, want)
		}
	}
	if s.JudgeEnclave(&dcap.EnclaveReport{MRENCLAVE: [32]byte{8}, MRSIGNER: [32]byte{8}, ISVProdID: 3}).Err == nil {
		t.Error("another MRENCLAVE was accepted")
	}
	for i, change := range []func(*dcap.EnclaveReport){
		func(r *dcap.EnclaveReport) { r.MRSIGNER[0] = 2 }, func(r *dcap.EnclaveReport) { r.ISVProdID = 4 }, func(r *dcap.EnclaveReport) { r.ISVSVN = 4 },
	} {
		r := good
		change(&r)
		if s.JudgeEnclave(&r).Err == nil {
			t.Errorf("change %d was accepted", i)
		}
	}
	good.Attributes[0] = 2
	if s.JudgeDebug(&good).Err == nil {
		t.Error("a debug enclave was accepted")
	}
}

func TestHardware(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	pub := policy.PublicKey(key.Public().(ed25519.PublicKey))
	m := policy.NameMachine(policy.MachinePPID, []byte("ppid"))
	list := func(signer ed25519.PrivateKey, level uint8, expires time.Time, denied ...policy.Machine) *policy.SignedHardwareList {
		l := policy.HardwareList{Version: 1, Issuer: "test", Issued: now.Add(-time.Hour), Expires: expires,
			Machines: []policy.ListedMachine{{Kind: m.Kind, ID: m.ID, Level: level, Label: "rack"}}, Denied: append([]policy.Machine{}, denied...)}
		b, err := l.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		s, err := policy.ParseHardwareList(b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	h := &policy.Hardware{CPU: policy.Required, GPU: policy.SkipUnsafe, MinLevel: 2, ListKeys: []policy.PublicKey{pub}}
	later := now.Add(time.Hour)
	for _, c := range []struct {
		name   string
		lists  []*policy.SignedHardwareList
		denied bool
		listed bool
	}{
		{"on no list", nil, false, false},
		{"listed", []*policy.SignedHardwareList{list(key, 2, later)}, false, true},
		{"level too low", []*policy.SignedHardwareList{list(key, 1, later)}, false, false},
		{"expired", []*policy.SignedHardwareList{list(key, 2, now)}, false, false},
		{"another signer", []*policy.SignedHardwareList{list(other, 2, later)}, false, false},
		{"denied beside listed", []*policy.SignedHardwareList{list(key, 2, later), list(key, 2, later, m)}, true, false},
		{"denied by an expired list", []*policy.SignedHardwareList{list(key, 2, later), list(key, 2, now, m)}, true, false},
		{"denied by a stranger", []*policy.SignedHardwareList{list(key, 2, later), list(other, 2, later, m)}, false, true},
	} {
		f, listed := h.Judge(now, m, policy.Hash{}, policy.Registry{Lists: c.lists})
		if listed != c.listed || (f.Err != nil) != c.denied {
			t.Errorf("%s: listed %v, error %v", c.name, listed, f.Err)
		}
		if listed && !f.Until.Equal(later) {
			t.Errorf("%s: until %v", c.name, f.Until)
		}
	}
	// A GPU with the same digest is another machine.
	if _, listed := h.Judge(now, policy.Machine{Kind: policy.MachineGPU, ID: m.ID}, policy.Hash{}, policy.Registry{Lists: []*policy.SignedHardwareList{list(key, 2, later)}}); listed {
		t.Error("the kind of machine does not count")
	}
	h.Deny = []policy.Machine{m}
	if f, _ := h.Judge(now, m, policy.Hash{}, policy.Registry{Lists: []*policy.SignedHardwareList{list(key, 2, later)}}); f.Err == nil {
		t.Error("the policy's own deny-list does not count")
	}

	// A flipped byte anywhere in an envelope is refused.
	l := policy.HardwareList{Version: 1, Issuer: "test", Issued: now, Expires: later, Machines: []policy.ListedMachine{}, Denied: []policy.Machine{}}
	b, err := l.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if s, err := policy.ParseHardwareList(bad); err == nil {
			t.Fatalf("byte %d flipped and accepted: %+v", i, s)
		}
	}
}

func token(key ed25519.PrivateKey, header, claims string) []byte {
	e := base64.RawURLEncoding
	signed := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(claims))
	return []byte(signed + "." + e.EncodeToString(ed25519.Sign(key, []byte(signed))))
}

func TestProofOfCloud(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	pub := policy.PublicKey(key.Public().(ed25519.PublicKey))
	header := fmt.Sprintf(`{"alg":"EdDSA","typ":"JWT","kid":"%x"}`, pub)
	m := policy.NameMachine(policy.MachinePPID, []byte("ppid"))
	quote := policy.Hash{7}
	claims := fmt.Sprintf(`{"quote_hash":"%x","machine_id":"%x","label":"rack"}`, quote, m.ID)
	tok, err := policy.ParseProofOfCloudToken(token(key, header, claims))
	if err != nil {
		t.Fatal(err)
	}
	h := &policy.Hardware{MinLevel: 1, ProofOfCloudKeys: []policy.PublicKey{pub}}
	r := policy.Registry{Tokens: []*policy.ProofOfCloudToken{tok}}
	now := time.Now()
	if _, listed := h.Judge(now, m, quote, r); !listed {
		t.Error("a good token does not count")
	}
	if _, listed := h.Judge(now, m, policy.Hash{8}, r); listed {
		t.Error("a token for another quote counts")
	}
	if _, listed := h.Judge(now, policy.NameMachine(policy.MachinePPID, []byte("other")), quote, r); listed {
		t.Error("a token for another machine counts")
	}
	h.MinLevel = 2
	if _, listed := h.Judge(now, m, quote, r); listed {
		t.Error("a token counts as level 2")
	}
	h.MinLevel, h.ProofOfCloudKeys = 1, nil
	if _, listed := h.Judge(now, m, quote, r); listed {
		t.Error("a token of an unknown signer counts")
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	for name, b := range map[string][]byte{
		"wrong signature": token(other, header, claims),
		"RS256":           token(key, strings.Replace(header, "EdDSA", "RS256", 1), claims),
		"none":            token(key, strings.Replace(header, "EdDSA", "none", 1), claims),
		"no kid":          token(key, `{"alg":"EdDSA"}`, claims),
		"short hash":      token(key, header, `{"quote_hash":"00","machine_id":"00","label":""}`),
		"two parts":       []byte("a.b"),
		"not base64":      []byte("a.b.%"),
		"too long":        bytes.Repeat([]byte("a"), 10000),
		"empty":           nil,
	} {
		if _, err := policy.ParseProofOfCloudToken(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(read(f, "example")))
	f.Add([]byte(read(f, "cocoon-like")))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := policy.Parse(in)
		if err != nil {
			return
		}
		b, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Parse(b); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseHardware(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	l := policy.HardwareList{Version: 1, Machines: []policy.ListedMachine{}, Denied: []policy.Machine{}}
	b, err := l.Sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(token(key, `{}`, `{}`))
	f.Fuzz(func(_ *testing.T, in []byte) {
		policy.ParseHardwareList(in)
		policy.ParseProofOfCloudToken(in)
	})
}

// Every rule about a policy as a whole, broken alone.
func TestMakesSense(t *testing.T) {
	soon := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	sgx := func() *policy.SGX {
		return &policy.SGX{TCB: policy.IntelTCB{MinEvaluation: 1, MinDate: soon, Tolerated: []policy.Tolerance{}}, Enclaves: []policy.SGXEnclave{{Name: "e", Reason: "r"}}}
	}
	tolerance := policy.Tolerance{Status: "OutOfDate", Until: soon, Advisories: []string{}, Reason: "r"}
	for _, c := range []struct {
		want string
		bend func(*policy.Policy)
	}{
		{"", func(p *policy.Policy) {}},
		{"", func(p *policy.Policy) { p.SGX, p.TDX = sgx(), nil }},
		{"", func(p *policy.Policy) { p.SNP.MaxVMPL = 3 }},
		{"", func(p *policy.Policy) { p.SNP.RequireMitigations = map[string][]int{"Turin": {0, 63}} }},
		{"", func(p *policy.Policy) {
			p.Devices.GPU.RIM, p.Devices.Switch.RIM, p.Roots.NVIDIARIM = policy.SkipUnsafe, policy.SkipUnsafe, nil
		}},
		{"gpu.rim: required", func(p *policy.Policy) { p.Devices.Switch.RIM, p.Roots.NVIDIARIM = policy.SkipUnsafe, nil }},
		{"", func(p *policy.Policy) { p.Devices.Modes, p.Devices.GPU, p.Devices.Switch = []string{"cpu"}, nil, nil }},
		{"", func(p *policy.Policy) {
			p.Devices.Modes, p.Devices.Switch, p.Devices.GPU.MinCount = []string{"single-gpu"}, nil, 0
		}},
		{"", func(p *policy.Policy) { p.Devices.Switch.MinCount, p.Devices.Switch.MaxCount = 0, 0 }},
		{"not_after is missing", func(p *policy.Policy) { p.NotAfter = time.Time{} }},
		{"roots.intel is empty", func(p *policy.Policy) { p.SGX, p.TDX, p.Roots.Intel = sgx(), nil, nil }},
		{"roots.amd is empty", func(p *policy.Policy) { p.Roots.AMD = nil }},
		{"tdx.tcb.tolerated_statuses[1]: \"OutOfDate\" again", func(p *policy.Policy) { p.TDX.TCB.Tolerated = []policy.Tolerance{tolerance, tolerance} }},
		{"sgx.tcb.min_evaluation_data_number", func(p *policy.Policy) { p.SGX = sgx(); p.SGX.TCB.MinEvaluation = 0 }},
		{"sgx.enclaves: empty", func(p *policy.Policy) { p.SGX = sgx(); p.SGX.Enclaves = nil }},
		{"sgx.enclaves[0]: needs", func(p *policy.Policy) { p.SGX = sgx(); p.SGX.Enclaves[0].Name = "" }},
		{"sgx.enclaves[0]: needs", func(p *policy.Policy) { p.SGX = sgx(); p.SGX.Enclaves[0].Reason = "" }},
		{"tdx.images[0]: needs", func(p *policy.Policy) { p.TDX.Images[0].Name = "" }},
		{"tdx.images[0]: needs", func(p *policy.Policy) { p.TDX.Images[0].Reason = "" }},
		{"again", func(p *policy.Policy) { p.TDX.Images = append(p.TDX.Images, p.TDX.Images[0]) }},
		{"sev_snp.min_tcb: empty", func(p *policy.Policy) { p.SNP.MinTCB = nil }},
		{"sev_snp.keys: empty", func(p *policy.Policy) { p.SNP.Keys = nil }},
		{"sev_snp.images: empty", func(p *policy.Policy) { p.SNP.Images = nil }},
		{"sev_snp.images[0]: needs", func(p *policy.Policy) { p.SNP.Images[0].Name = "" }},
		{"sev_snp.images[0]: needs", func(p *policy.Policy) { p.SNP.Images[0].Reason = "" }},
		{"gpu: missing", func(p *policy.Policy) { p.Devices.Modes, p.Devices.GPU = []string{"single-gpu"}, nil }},
		{"gpu: missing", func(p *policy.Policy) { p.Devices.Modes, p.Devices.GPU = []string{"multi-gpu"}, nil }},
		{"gpu.models: empty", func(p *policy.Policy) { p.Devices.GPU.Models = nil }},
		{"gpu: counts 0 to 8", func(p *policy.Policy) { p.Devices.GPU.MinCount, p.Devices.GPU.MaxCount = 0, 8 }},
		{"switch: missing", func(p *policy.Policy) { p.Devices.Switch = nil }},
		{"switch.rim: required", func(p *policy.Policy) { p.Roots.NVIDIARIM, p.Devices.GPU.RIM = nil, policy.SkipUnsafe }},
		{"switch.models: empty", func(p *policy.Policy) { p.Devices.Switch.Models = nil }},
		{"switch: counts 2 to 1", func(p *policy.Policy) { p.Devices.Switch.MinCount, p.Devices.Switch.MaxCount = 2, 1 }},
		{"workload.models.allow[0]: needs", func(p *policy.Policy) { p.Workload.Models.Allow[0].Name = "" }},
		{"workload.models.allow[0]: needs", func(p *policy.Policy) { p.Workload.Models.Allow[0].Reason = "" }},
		{"workload.models: want either", func(p *policy.Policy) { p.Workload.Models.Allow = nil }},
		// A token speaks for a CPU alone.
		{"hardware.list_keys: empty", func(p *policy.Policy) {
			p.Hardware.CPU, p.Hardware.GPU, p.Hardware.ListKeys = policy.SkipUnsafe, policy.Required, nil
		}},
		{"hardware.list_keys: empty", func(p *policy.Policy) {
			p.Hardware.CPU, p.Hardware.GPU, p.Hardware.ListKeys = policy.Required, policy.Required, nil
		}},
	} {
		p := parse(t, "example")
		c.bend(p)
		if _, err := p.Encode(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	p := parse(t, "registry")
	p.Registries[0].Reason = ""
	if _, err := p.Encode(); err == nil || !strings.Contains(err.Error(), "registries[0]: needs") {
		t.Error(err)
	}
}

func TestMode(t *testing.T) {
	d := &policy.Devices{Modes: []string{"cpu", "single-gpu", "multi-gpu"}, GPU: &policy.GPU{MinCount: 2, MaxCount: 8}, Switch: &policy.Switch{MinCount: 1, MaxCount: 4}}
	for _, c := range []struct {
		mode           string
		gpus, switches int
		ok             bool
	}{
		{"cpu", 0, 0, true}, {"cpu", 1, 0, false}, {"cpu", 0, 1, false},
		{"single-gpu", 1, 0, true}, {"single-gpu", 0, 0, false}, {"single-gpu", 2, 0, false}, {"single-gpu", 1, 1, false},
		{"multi-gpu", 2, 1, true}, {"multi-gpu", 8, 4, true}, {"multi-gpu", 1, 1, false}, {"multi-gpu", 9, 4, false}, {"multi-gpu", 8, 0, false}, {"multi-gpu", 8, 5, false},
		{"any", 0, 0, false},
	} {
		f := d.JudgeMode(c.mode, c.gpus, c.switches)
		if (f.Err == nil) != c.ok || !strings.HasPrefix(f.Wanted, c.mode+" with ") && c.mode != "any" {
			t.Errorf("%s with %d and %d: %+v", c.mode, c.gpus, c.switches, f)
		}
	}
	d.Modes = d.Modes[:1]
	if f := d.JudgeMode("single-gpu", 1, 0); f.Err == nil || !strings.Contains(f.Err.Error(), `mode "single-gpu"`) {
		t.Error(f.Err)
	}
}

func TestEpoch(t *testing.T) {
	made := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	p := &policy.Policy{Epoch: &policy.Epoch{MaxAge: 60}}
	for age, ok := range map[time.Duration]bool{0: true, 59 * time.Second: true, time.Minute: false, -2 * time.Minute: true, -2*time.Minute - 1: false} {
		if f := p.JudgeEpoch(made.Add(age), 7, made); (f.Err == nil) != ok || !f.Until.Equal(made.Add(time.Minute)) {
			t.Errorf("%s old: %+v", age, f)
		}
	}
	if f := (&policy.Policy{}).JudgeEpoch(made, 7, made); f.Err == nil {
		t.Error("an epoch was accepted that nobody asked for")
	}
}

func TestFreshness(t *testing.T) {
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	p := &policy.IntelTCB{MinEvaluation: 19, MinDate: day}
	for _, c := range []struct {
		tcb, qe uint32
		date    time.Time
		ok      bool
	}{{19, 19, day, true}, {20, 21, day.Add(1), true}, {18, 19, day, false}, {19, 18, day, false}, {19, 19, day.Add(-1), false}} {
		if f := p.JudgeFreshness(c.tcb, c.qe, c.date); (f.Err == nil) != c.ok {
			t.Errorf("%+v: %v", c, f.Err)
		}
	}
}

// A tolerated status is tolerated with the advisories that are named, until its day, and no longer is what rests on it.
func TestTolerance(t *testing.T) {
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	p := &policy.IntelTCB{Tolerated: []policy.Tolerance{{Status: "OutOfDate", Until: day, Advisories: []string{"INTEL-SA-1"}}}}
	f := p.JudgeStatus(day.Add(-1), dcap.OutOfDate, []string{"INTEL-SA-1"})
	if f.Err != nil || !f.Until.Equal(day) || f.Seen != "OutOfDate (INTEL-SA-1)" || f.Wanted != "UpToDate or OutOfDate until 2026-11-01T00:00:00Z" {
		t.Errorf("%+v", f)
	}
	for why, f := range map[string]policy.Finding{
		"tolerated OutOfDate until": p.JudgeStatus(day, dcap.OutOfDate, nil),
		"not with INTEL-SA-2":       p.JudgeStatus(day.Add(-1), dcap.OutOfDate, []string{"INTEL-SA-1", "INTEL-SA-2"}),
		"is not accepted":           p.JudgeStatus(day.Add(-1), dcap.ConfigurationNeeded, nil),
		"not determined is not":     p.JudgeStatus(day.Add(-1), "", nil),
	} {
		if f.Err == nil || !strings.Contains(f.Err.Error(), why) {
			t.Errorf("%v, want %q", f.Err, why)
		}
	}
	if f := p.JudgeStatus(day, dcap.UpToDate, nil); f.Err != nil || !f.Until.IsZero() {
		t.Errorf("%+v", f)
	}
}

// Each patch level counts by itself, in each of the three TCBs.
func TestEachPatchLevel(t *testing.T) {
	p := &policy.SNP{MinTCB: map[string]policy.SNPTCB{"Turin": {FMC: 1, BootLoader: 1, TEE: 1, SNP: 1, Microcode: 1}}}
	const floor = snp.TCB(0x0100000001010101)
	good := snp.Report{Version: 3, CPUID: [3]uint8{0x1a, 2, 1}, ReportedTCB: floor, CommittedTCB: floor, LaunchTCB: floor}
	if f := p.JudgeTCB(&good, snp.Turin); f.Err != nil || f.Wanted != "fmc 1, bootloader 1, tee 1, snp 1, microcode 1 or later" {
		t.Errorf("%+v", f)
	}
	for _, at := range []int{0, 8, 16, 24, 56} {
		for name, pick := range map[string]func(*snp.Report) *snp.TCB{"reported": func(r *snp.Report) *snp.TCB { return &r.ReportedTCB },
			"committed": func(r *snp.Report) *snp.TCB { return &r.CommittedTCB }, "launch": func(r *snp.Report) *snp.TCB { return &r.LaunchTCB }} {
			r := good
			*pick(&r) -= 1 << at
			if f := p.JudgeTCB(&r, snp.Turin); f.Err == nil || !strings.Contains(f.Err.Error(), "the "+name+" TCB") {
				t.Errorf("%s, bit %d: %v", name, at, f.Err)
			}
		}
	}
	r := good
	r.Version = 2
	if f := p.JudgeTCB(&r, snp.Milan); f.Err == nil || !strings.Contains(f.Err.Error(), "does not name its stepping") {
		t.Error(f.Err)
	}
	if f := p.JudgeTCB(&good, snp.Genoa); f.Err == nil || strings.Contains(f.Err.Error(), "stepping") || f.Wanted != "a floor for Genoa" {
		t.Errorf("%+v", f)
	}
}

// sealed is a DSSE envelope with as many signatures as there are keys.
func sealed(payloadType, payload string, keys ...ed25519.PrivateKey) []byte {
	var sigs []string
	for _, k := range keys {
		sig := ed25519.Sign(k, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
		sigs = append(sigs, fmt.Sprintf(`{"keyid":"%x","sig":"%s"}`, k.Public(), base64.StdEncoding.EncodeToString(sig)))
	}
	return fmt.Appendf(nil, `{"payload":"%s","payloadType":"%s","signatures":[%s]}`, base64.StdEncoding.EncodeToString([]byte(payload)), payloadType, strings.Join(sigs, ","))
}

// What is well signed may still not be a hardware list.
func TestHardwareListRefuses(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	const list = `{"bombyx_hardware_list":1,"issuer":"i","issued":"2026-01-01T00:00:00Z","expires":"2027-01-01T00:00:00Z","machines":[],"denied":[]}`
	if _, err := policy.ParseHardwareList(sealed(policy.HardwareListType, list, key)); err != nil {
		t.Fatal(err)
	}
	for why, b := range map[string][]byte{
		"payload type":        sealed("application/json", list, key),
		"with 2 signatures":   sealed(policy.HardwareListType, list, key, key),
		"with 0 signatures":   sealed(policy.HardwareListType, list),
		"version 2":           sealed(policy.HardwareListType, strings.Replace(list, ":1", ":2", 1), key),
		"more: unknown":       sealed(policy.HardwareListType, strings.Replace(list, `"issuer"`, `"more":1,"issuer"`, 1), key),
		"hardware list: ":     []byte("{}"),
		"issued: ":            sealed(policy.HardwareListType, strings.Replace(list, "2026-01-01T", "2026-01-01 ", 1), key),
		"issuer: missing":     sealed(policy.HardwareListType, strings.Replace(list, `"issuer":"i",`, "", 1), key),
		"issuer: ":            sealed(policy.HardwareListType, strings.Replace(list, `"issuer":"i"`, `"issuer":"i","issuer":"j"`, 1), key),
		"signature does not ": bytes.Replace(sealed(policy.HardwareListType, list, key), []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1),
	} {
		if _, err := policy.ParseHardwareList(b); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("error %v, want %q", err, why)
		}
	}
	l, err := policy.ParseHardwareList(sealed(policy.HardwareListType, strings.Replace(list, `"machines":[]`, `"machines":[{"kind":"nvidia","id_sha256":"`+strings.Repeat("0", 64)+`","level":2,"label":"rack 9"}]`, 1), key))
	if err != nil {
		t.Fatal(err)
	}
	longer := *l
	longer.Expires = l.Expires.AddDate(1, 0, 0)
	h := &policy.Hardware{MinLevel: 2, ListKeys: []policy.PublicKey{l.Key}}
	m := policy.Machine{Kind: policy.MachineGPU}
	for _, lists := range [][]*policy.SignedHardwareList{{l, &longer}, {&longer, l}} {
		f, listed := h.Judge(l.Issued, m, policy.Hash{}, policy.Registry{Lists: lists})
		if !listed || !f.Until.Equal(longer.Expires) || !strings.HasSuffix(f.Seen, "listed by i at level 2 (rack 9)") || f.Wanted != "listed at level 2 or above" {
			t.Errorf("%v %+v", listed, f)
		}
	}
	if _, listed := h.Judge(l.Issued.Add(-1), m, policy.Hash{}, policy.Registry{Lists: []*policy.SignedHardwareList{l}}); listed {
		t.Error("a list vouches before it is issued")
	}
}

func TestTokenRefuses(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	header := fmt.Sprintf(`{"alg":"EdDSA","kid":"%x"}`, key.Public())
	zeros := strings.Repeat("0", 64)
	claims := `{"quote_hash":"` + zeros + `","machine_id":"` + zeros + `","label":"rack"}`
	if k, err := policy.ParseProofOfCloudToken(token(key, header, claims)); err != nil || k.Label != "rack" {
		t.Fatal(k, err)
	}
	for why, b := range map[string][]byte{
		"want three parts":           append(token(key, header, claims), ".AA"...),
		"not base64url":              []byte("a.b.c"),
		"header is not JSON":         token(key, "x", claims),
		"claims are not JSON":        token(key, header, "x"),
		"does not say EdDSA":         token(key, `{"alg":"EdDSA","kid":"00"}`, claims),
		"must be SHA-256":            token(key, header, strings.Replace(claims, `"quote_hash":"00`, `"quote_hash":"`, 1)),
		"must be SHA-256 in hexadec": token(key, header, strings.Replace(claims, `"machine_id":"00`, `"machine_id":"`, 1)),
		"too long":                   bytes.Repeat([]byte("a"), 8<<10+1),
		"want three parts with dots": bytes.Repeat([]byte("a"), 8<<10),
	} {
		if _, err := policy.ParseProofOfCloudToken(b); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("error %v, want %q", err, why)
		}
	}
}

func TestWords(t *testing.T) {
	var floor policy.Floor
	var account policy.Account
	if err := floor.UnmarshalText([]byte("1.2.3.4.5.6.7.8")); err != nil {
		t.Error(err)
	}
	if floor.UnmarshalText([]byte("1.2.3.4.5.6.7.8.9")) == nil || account.UnmarshalText([]byte(strings.Repeat("0", 64))) == nil {
		t.Error("nine parts, or an account without a workchain")
	}
	var w policy.Want
	var h policy.Want32
	if err := w.UnmarshalText([]byte(strings.Repeat("AB", 48))); err == nil {
		t.Error("capitals accepted")
	}
	for _, text := range []string{"any_unsafe", strings.Repeat("ab", 48), "any_unsafe"} {
		if err := w.UnmarshalText([]byte(text)); err != nil || w.String() != text || w.Any != (text == "any_unsafe") || w.Accepts(policy.Digest{1}) != w.Any {
			t.Errorf("%s: %+v, %v", text, w, err)
		}
	}
	for _, text := range []string{"any_unsafe", strings.Repeat("ab", 32), "any_unsafe"} {
		if err := h.UnmarshalText([]byte(text)); err != nil || h.String() != text || h.Any != (text == "any_unsafe") || h.Accepts(policy.Hash{1}) != h.Any {
			t.Errorf("%s: %+v, %v", text, h, err)
		}
	}
	allowed := policy.Allowed{Allow: []policy.Named{{Name: "one", Digest: policy.Hash{1}}, {Name: "two", Digest: policy.Hash{2}}}}
	if f := allowed.Judge(policy.Hash{2}); f.Err != nil || f.Seen != "two" || f.Wanted != "one of one, two" {
		t.Errorf("%+v", f)
	}
	if f := allowed.Judge(policy.Hash{3}); f.Err == nil || f.Seen == "" {
		t.Errorf("%+v", f)
	}
	if f := (policy.Allowed{AnyUnsafe: true}).Judge(policy.Hash{3}); f.Err != nil || !strings.HasPrefix(f.Seen, "0300") || f.Wanted != "any_unsafe" {
		t.Errorf("%+v", f)
	}
	tdx := &policy.TDX{RequiredAttributes: []policy.TDAttribute{"SEPT_VE_DISABLE"}, AllowedAttributes: []policy.TDAttribute{"PKS", "KL"}}
	for a, want := range map[dcap.TDAttributes]string{
		dcap.TDSeptVEDisable:                          "",
		dcap.TDSeptVEDisable | dcap.TDPKS | dcap.TDKL: "",
		dcap.TDPKS: "attribute SEPT_VE_DISABLE is missing",
		dcap.TDSeptVEDisable | dcap.TDPerfmon | dcap.TDMigratable: "attribute MIGRATABLE_unsafe+PERFMON is not allowed",
		dcap.TDSeptVEDisable | 1<<40:                              "attribute 0x10000000000 is not allowed",
	} {
		if f := tdx.JudgeAttributes(a); fmt.Sprint(f.Err) != map[bool]string{true: "<nil>", false: want}[want == ""] || f.Wanted != "SEPT_VE_DISABLE, optional PKS+KL" {
			t.Errorf("%#x: %+v", uint64(a), f)
		}
	}
}

// What the host sets is no way around a revocation, where the policy leaves it open; a value that vouches has to be met in full.
func TestReferences(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	values := policy.ReferenceValues{Version: 1, TDX: []policy.TDXValues{{RTMR: make([]policy.Digest, 4)}}, SNP: []policy.SNPValues{{MinGuestSVN: 5}}, Builds: []policy.Hash{{1}}, Configs: []policy.Hash{{2}}}
	doc, err := values.Encode()
	if err != nil {
		t.Fatal(err)
	}
	references := func(change func(*policy.Snapshot)) *policy.References {
		t.Helper()
		s := &policy.Snapshot{Network: -239, Delay: 9, Time: now, Records: []policy.Record{
			{Kind: policy.RecordReference, Status: policy.RecordCurrent, NotBefore: now, NotAfter: now.Add(time.Hour), Name: "guest", Version: "1", Document: doc}}}
		change(s)
		p := &policy.Policy{Registries: []policy.Publisher{{Name: "reg", Network: -239, MinDelay: 9, MaxAge: 60, Supplies: []policy.Supply{policy.Images, policy.Builds, policy.Configs, policy.Models}}}}
		r, err := p.References([]*policy.Snapshot{nil, {Network: -3}, {Network: -239, Address: policy.Account{1}}, s})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	status := func(s policy.RecordStatus) *policy.References {
		return references(func(x *policy.Snapshot) { x.Records[0].Status = s })
	}
	current, revoked := status(policy.RecordCurrent), status(policy.RecordRevoked)

	open := policy.Want{Any: true}
	td := &policy.TDX{Images: []policy.TDImage{{Name: "own", MRTD: policy.Want{}, RTMR: make([]policy.Want, 4), MRCONFIGID: open, MROWNER: open, MROWNERCONFIG: open}}}
	shut := &policy.TDX{Images: []policy.TDImage{{Name: "own", MRTD: policy.Want{}, RTMR: make([]policy.Want, 4), MRCONFIGID: policy.Want{Value: policy.Digest{1}}, MROWNER: policy.Want{Value: policy.Digest{1}}, MROWNERCONFIG: policy.Want{Value: policy.Digest{1}}}}}
	set := map[string]func(*dcap.TDReport){"MRCONFIGID": func(r *dcap.TDReport) { r.MRCONFIGID[0] = 1 }, "MROWNER": func(r *dcap.TDReport) { r.MROWNER[0] = 1 }, "MROWNERCONFIG": func(r *dcap.TDReport) { r.MROWNERCONFIG[0] = 1 }}
	all := &dcap.TDReport{}
	for name, set := range set {
		r := &dcap.TDReport{}
		set(r)
		set(all)
		if f := current.JudgeTD(now, &policy.TDX{}, r); f.Err == nil {
			t.Errorf("%s is not what the registry vouches for, and it does", name)
		}
		if f := revoked.JudgeTD(now, td, r); f.Err == nil || f.Seen != "guest 1 (reg), revoked" {
			t.Errorf("another %s hides a revocation: %+v", name, f)
		}
		if f := current.JudgeTD(now, td, r); f.Err != nil || f.Seen != "own" {
			t.Errorf("%+v", f)
		}
	}
	if f := revoked.JudgeTD(now, shut, all); f.Err != nil {
		t.Errorf("what the policy demands is not what was revoked: %v", f.Err)
	}
	for name, set := range map[string]func(*dcap.TDReport){"MRTD": func(r *dcap.TDReport) { r.MRTD[0] = 1 }, "RTMR": func(r *dcap.TDReport) { r.RTMR[3][0] = 1 }} {
		r := &dcap.TDReport{}
		set(r)
		if f := current.JudgeTD(now, &policy.TDX{}, r); f.Err == nil {
			t.Errorf("another %s is vouched for", name)
		}
	}

	guest := &policy.SNP{Images: []policy.SNPImage{{Name: "own", HostData: policy.Want32{Any: true}, IDKeyDigest: open, AuthorKeyDigest: open}}}
	for name, set := range map[string]func(*snp.Report){"host data": func(r *snp.Report) { r.HostData[0] = 1 }, "id key": func(r *snp.Report) { r.IDKeyDigest[0] = 1 }, "author key": func(r *snp.Report) { r.AuthorKeyDigest[0] = 1 }} {
		r := &snp.Report{GuestSVN: 5}
		set(r)
		if f := current.JudgeGuest(now, &policy.SNP{}, r); f.Err == nil {
			t.Errorf("%s is not what the registry vouches for, and it does", name)
		}
		if f := revoked.JudgeGuest(now, guest, r); f.Err == nil || f.Seen != "guest 1 (reg), revoked" {
			t.Errorf("another %s hides a revocation: %+v", name, f)
		}
	}
	for svn, ok := range map[uint32]bool{4: false, 5: true, 6: true} {
		if f := current.JudgeGuest(now, &policy.SNP{}, &snp.Report{GuestSVN: svn}); (f.Err == nil) != ok {
			t.Errorf("SVN %d: %v", svn, f.Err)
		}
		if f := revoked.JudgeGuest(now, guest, &snp.Report{GuestSVN: svn}); f.Err == nil {
			t.Errorf("SVN %d escapes a revocation", svn)
		}
	}

	if f := status(policy.RecordDeprecated).JudgeTD(now, &policy.TDX{}, &dcap.TDReport{}); f.Err != nil || f.Seen != "guest 1 (reg), deprecated" || !f.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", f)
	}
	for why, r := range map[string]*policy.References{
		"status 0":      status(0),
		"status 4":      status(policy.RecordRevoked + 1),
		"another form":  references(func(s *policy.Snapshot) { s.Records[0].Document = []byte("{}") }),
		"an other kind": references(func(s *policy.Snapshot) { s.Records[0].Kind = 99 }),
	} {
		if f := r.JudgeTD(now, &policy.TDX{}, &dcap.TDReport{}); f.Err == nil {
			t.Errorf("a record of %s vouches", why)
		}
		if f := r.Judge(now)[0]; f.Err != nil || strings.HasSuffix(f.Seen, "; 1 records that this program cannot read") != (why != "an other kind") {
			t.Errorf("%s: %+v", why, f)
		}
	}
	if f := current.Judge(now)[0]; f.Err != nil || f.Seen != "reg: block of 2026-11-01T00:00:00Z, 0 changes, time lock 9 s" {
		t.Errorf("%+v", f)
	}
	for s, d := range map[policy.Supply]policy.Hash{policy.Builds: {1}, policy.Configs: {2}} {
		refused := policy.Allowed{Allow: []policy.Named{}}
		if f := current.JudgeDigest(now, s, refused.Judge(d), d); f.Err != nil {
			t.Error(f.Err)
		}
		for _, other := range []policy.Supply{policy.Builds, policy.Configs, policy.Models} {
			if f := current.JudgeDigest(now, other, refused.Judge(d), d); other != s && f.Err == nil {
				t.Errorf("%s taken for %s", s, other)
			}
		}
	}
}
