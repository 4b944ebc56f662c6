package nvidia

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// TestListedNegatives takes the bad evidence that the capturing projects
// publish; each must fail for its own reason.
func TestListedNegatives(t *testing.T) {
	v := newVerifier(t)
	const data = sdk + "sample_attestation_data__"
	for _, x := range []struct {
		report, chain string
		id, why       string // empty: everything passes
	}{
		{data + "gpu__hopperAttestationReport.txt", data + "gpu__hopperCertChain.txt", "", ""},
		{data + "gpu__blackwellAttestationReport.txt", data + "gpu__blackwellCertChain.txt", "", ""},
		{data + "switch__switchAttestationReport.txt", data + "switch__switchCertChain.txt", "", ""},
		{data + "switch__switchAttestationReportInvalidSignature.txt", data + "switch__switchCertChain.txt", CheckParse, "neither a GPU report"},
		{sdk + "hopperAttestationReport.txt", sdk + "hopperCertChain.txt", "", ""},
		{"go-nvtrust/pkg__gonvtrust__mocks__attestationReport.txt", "go-nvtrust/pkg__gonvtrust__mocks__invalidCertChain.txt", CheckChain, "4 certificates"},
		{"coco-trustee/nvidia__hopperAttestationReport.txt", "coco-trustee/nvidia__hopper_cert_chain_case1.txt", "", ""},
		{"coco-trustee/nvidia__hopperAttestationReport.txt", "coco-trustee/nvidia__hopper_cert_chain_case2.txt", CheckChain, "1 certificates"},
		{"coco-trustee/nvidia__hopperAttestationReport.txt", "coco-trustee/nvidia__hopper_cert_chain_case3.txt", CheckChain, "4 certificates"},
		{"coco-trustee/nvidia__hopperAttestationReport.txt", "coco-trustee/nvidia__hopper_cert_chain_case4.txt", CheckChain, "4 certificates"},
		{"coco-trustee/nvidia__hopper_coco_report1.txt", "coco-trustee/nvidia__hopper_coco_certs1.txt", CheckParse, "1 trailing bytes"},
	} {
		t.Run(x.report+" "+x.chain, func(t *testing.T) {
			res := v.Verify(Evidence{Report: reportFile(t, x.report), Chain: vector(t, x.chain)}, Options{Time: at})
			if x.id == "" {
				wantStatus(t, res, map[string]check.Status{CheckSignature: check.Pass, CheckChain: check.Pass})
				return
			}
			onlyFails(t, res, x.id, x.why)
		})
	}
	t.Run("Hopper report with an invalid signature", func(t *testing.T) {
		e := Evidence{Report: reportFile(t, data+"gpu__hopperAttestationReportInvalidSignature.txt"), Chain: vector(t, data+"gpu__hopperCertChain.txt")}
		res := v.Verify(e, Options{Time: at})
		if parse, sig := res.check(t, CheckParse), res.check(t, CheckSignature); parse.Status == check.Pass && sig.Status != check.Fail {
			t.Errorf("%+v, %+v", parse, sig)
		}
	})
	t.Run("trailing byte removed", func(t *testing.T) {
		b := reportFile(t, "coco-trustee/nvidia__hopper_coco_report1.txt")
		res := v.Verify(Evidence{Report: b[:len(b)-1], Chain: vector(t, "coco-trustee/nvidia__hopper_coco_certs1.txt")}, Options{Time: at})
		wantStatus(t, res, map[string]check.Status{CheckSignature: check.Pass})
	})
}

// TestCache shows that a remembered chain changes no verdict, that failures
// are not remembered, and that the memory is bounded.
func TestCache(t *testing.T) {
	f := newForge(t, layout{})
	v := f.verifier()
	good := f.evidence(gpu())
	for range 3 {
		wantStatus(t, v.Verify(good, Options{Nonce: forgedNonce, Time: at}), map[string]check.Status{CheckSignature: check.Pass})
		wantStatus(t, v.Verify(good, Options{Nonce: forgedNonce, Time: at.AddDate(3, 0, 0)}), map[string]check.Status{CheckValidity: check.Fail})
		bad := Evidence{Report: gpu().sign(t, f.keys[1]), Chain: good.Chain}
		onlyFails(t, v.Verify(bad, Options{Nonce: forgedNonce, Time: at}), CheckSignature, "does not verify")
	}
	before := v.chains.Len()
	v.Verify(Evidence{Report: good.Report, Chain: good.Chain[1:]}, Options{Time: at})
	if after := v.chains.Len(); after != before || after != 1 {
		t.Errorf("%d chains remembered, then %d", before, after)
	}
}

// TestResultIsOwn shows that callers cannot reach what the verifier remembers.
func TestResultIsOwn(t *testing.T) {
	f := newForge(t, layout{})
	v := f.verifier()
	e := f.evidence(gpu())
	res := v.Verify(e, Options{Nonce: forgedNonce, Time: at})
	res.Device.Model = "changed"
	res.Device.FWID[0] ^= 1
	wantStatus(t, v.Verify(e, Options{Nonce: forgedNonce, Time: at}), map[string]check.Status{CheckFWID: check.Pass, CheckModel: check.Pass})
}

func TestConcurrent(t *testing.T) {
	f := newForge(t, layout{})
	v, err := NewVerifier(Config{DeviceRoots: f.roots(), RIMRoots: f.roots(), CacheSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	driver, vbios := f.goldenRIMs()
	e := f.evidence(gpu())
	a := OCSP{Response: f.ocsp(answer{cert: f.certs[1], issuer: f.certs[2], signer: f.keys[2]})}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 8 {
				res := v.Verify(e, Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{driver, vbios}, OCSP: []OCSP{a}}})
				if i := slices.IndexFunc(res.Checks, func(c check.Check) bool { return c.Status == check.Fail }); i >= 0 {
					t.Errorf("%+v", res.Checks[i])
				}
			}
		})
	}
	wg.Wait()
}

// TestConstantMemory appraises many evidences through one verifier.
func TestConstantMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	f := newForge(t, layout{})
	v, err := NewVerifier(Config{DeviceRoots: f.roots(), CacheSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	e := f.evidence(gpu())
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run := func(n int) {
		for i := range n {
			// Chains that differ in white space are new to the cache.
			chain := append(slices.Clone(e.Chain), make([]byte, i%8)...)
			for j := len(e.Chain); j < len(chain); j++ {
				chain[j] = '\n'
			}
			if res := v.Verify(Evidence{Report: e.Report, Chain: chain}, Options{Nonce: forgedNonce, Time: at}); res.Device == nil {
				t.Fatalf("%+v", res.Checks)
			}
		}
	}
	run(20)
	before := heap()
	run(200)
	if after := heap(); after > before+256<<10 {
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
}

// TestTampering changes single bytes of real evidence: no report and no
// certificate chain survives it.
func TestTampering(t *testing.T) {
	n, o := realNode(t)
	v := newVerifier(t)
	for name, e := range map[string]Evidence{"GPU": n.GPUs[0], "switch": n.Switches[0]} {
		good := v.Verify(e, o)
		wantStatus(t, good, map[string]check.Status{CheckSignature: check.Pass, CheckNonce: check.Pass})
		for i := 0; i < len(e.Report); i += 29 {
			b := slices.Clone(e.Report)
			b[i] ^= 0x10
			if res := v.Verify(Evidence{Report: b, Chain: e.Chain}, o); res.check(t, CheckSignature).Status == check.Pass {
				t.Errorf("byte %d of the %s report changed unseen", i, name)
			}
		}
		for i := 0; i < len(e.Chain); i += 61 {
			b := slices.Clone(e.Chain)
			b[i] ^= 0x01
			if res := v.Verify(Evidence{Report: e.Report, Chain: b}, o); res.check(t, CheckChain).Status == check.Pass && identity(res) != identity(good) {
				t.Errorf("byte %d of the %s chain changed unseen", i, name)
			}
		}
	}
}

// identity is what identifies the device of a result.
func identity(res *Result) [3]Fingerprint {
	d := res.Device
	return [3]Fingerprint{d.Leaf, d.Identity, Fingerprint(d.FWID[:32])}
}
