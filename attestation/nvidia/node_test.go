package nvidia

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/check"
)

const (
	nodeGPUs     = "nvidia-nvtrust/guest_tools__ppcie-verifier-sdk-cpp__tests__data__gpu_evidence.json"
	nodeSwitches = "nvidia-nvtrust/guest_tools__ppcie-verifier-sdk-cpp__tests__data__switch_evidence.json"
)

// realNode is one protected-PCIe machine: eight H100 and four NVSwitches.
func realNode(t testing.TB) (NodeEvidence, Options) {
	t.Helper()
	gpus, entries := evidenceFile(t, nodeGPUs)
	switches, _ := evidenceFile(t, nodeSwitches)
	nonce, err := hex.DecodeString(entries[0].Nonce)
	if err != nil {
		t.Fatal(err)
	}
	return NodeEvidence{GPUs: gpus, Switches: switches}, Options{Nonce: nonce, Time: at}
}

func TestRealNode(t *testing.T) {
	n, o := realNode(t)
	res, err := newVerifier(t).VerifyNode(n, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.GPUs) != 8 || len(res.Switches) != 4 || len(res.Checks) != 4 {
		t.Fatalf("%d GPUs, %d switches, %d checks", len(res.GPUs), len(res.Switches), len(res.Checks))
	}
	for _, c := range res.Checks {
		if c.Status != check.Pass {
			t.Errorf("%s is %v: seen %q, want %q, %s", c.ID, c.Status, c.Seen, c.Wanted, c.Detail)
		}
	}
	for _, r := range res.GPUs {
		wantStatus(t, r, map[string]check.Status{CheckSignature: check.Pass, CheckNonce: check.Pass})
	}
	for _, r := range res.Switches {
		wantStatus(t, r, map[string]check.Status{CheckSignature: check.Pass, CheckNonce: check.Pass, CheckModel: check.Pass})
	}
}

// TestNodeNegatives takes the real node apart: each change fails one check.
func TestNodeNegatives(t *testing.T) {
	n, o := realNode(t)
	v := newVerifier(t)
	good, err := v.VerifyNode(n, o)
	if err != nil {
		t.Fatal(err)
	}
	// clone lets a test change reports and devices.
	clone := func(rs []*Result) []*Result {
		out := make([]*Result, len(rs))
		for i, r := range rs {
			report, device := *r.Report, *r.Device
			report.SwitchPDIs, report.GPUPDIs = slices.Clone(report.SwitchPDIs), slices.Clone(report.GPUPDIs)
			out[i] = &Result{Report: &report, Device: &device}
		}
		return out
	}
	for name, x := range map[string]struct {
		change func(gpus, switches []*Result) ([]*Result, []*Result)
		id     string
		why    string
	}{
		"another nonce":      {func(g, s []*Result) ([]*Result, []*Result) { s[3].Report.Nonce[0] ^= 1; return g, s }, CheckNodeNonce, "different nonces"},
		"leaf twice":         {func(g, s []*Result) ([]*Result, []*Result) { g[1].Device.Leaf = g[0].Device.Leaf; return g, s }, CheckNodeDistinct, "twice"},
		"identity twice":     {func(g, s []*Result) ([]*Result, []*Result) { g[1].Device.Identity = g[0].Device.Identity; return g, s }, CheckNodeDistinct, "twice"},
		"modes differ":       {func(g, s []*Result) ([]*Result, []*Result) { g[7].Report.Mode = ModeMultiPass; return g, s }, CheckNodeMode, "another mode"},
		"protection differs": {func(g, s []*Result) ([]*Result, []*Result) { g[7].Report.ProtectedPCIe = ToggleDisabled; return g, s }, CheckNodeMode, "another mode"},
		"mode contradicts protection": {func(g, s []*Result) ([]*Result, []*Result) {
			for _, r := range g {
				r.Report.ProtectedPCIe = ToggleDisabled
			}
			return g, s
		}, CheckNodeMode, "contradict"},
		"protection contradicts mode": {func(g, s []*Result) ([]*Result, []*Result) {
			for _, r := range g {
				r.Report.Mode = ModeMultiPass
			}
			return g, s
		}, CheckNodeMode, "contradict"},
		"single-GPU mode": {func(g, s []*Result) ([]*Result, []*Result) {
			for _, r := range g {
				r.Report.Mode, r.Report.ProtectedPCIe = ModeSinglePass, ToggleDisabled
			}
			return g, s
		}, CheckNodeMode, "in the mode for one"},
		"switch missing":               {func(g, s []*Result) ([]*Result, []*Result) { return g, s[:3] }, CheckNodeTopology, "GPU 0 is wired to other switches"},
		"no switches":                  {func(g, s []*Result) ([]*Result, []*Result) { return g, nil }, CheckNodeTopology, "GPU 0 is wired to other switches"},
		"GPU missing":                  {func(g, s []*Result) ([]*Result, []*Result) { return g[:7], s }, CheckNodeTopology, "switch 0 is wired to other GPUs"},
		"GPU of another node":          {func(g, s []*Result) ([]*Result, []*Result) { g[2].Device.PDI[0] ^= 1; return g, s }, CheckNodeTopology, "switch 0 is wired to other GPUs"},
		"GPU wired to one switch more": {func(g, s []*Result) ([]*Result, []*Result) { g[5].Report.SwitchPDIs[0][0] ^= 1; return g, s }, CheckNodeTopology, "GPU 5 is wired to other switches"},
		"GPU wired to none":            {func(g, s []*Result) ([]*Result, []*Result) { g[5].Report.SwitchPDIs = nil; return g, s }, CheckNodeTopology, "GPU 5 is wired to other switches"},
		"switch wired to another GPU":  {func(g, s []*Result) ([]*Result, []*Result) { s[2].Report.GPUPDIs[0][0] ^= 1; return g, s }, CheckNodeTopology, "switch 2 is wired to other GPUs"},
		"identities without PDI": {func(g, s []*Result) ([]*Result, []*Result) {
			for _, r := range g {
				r.Device.PDI = PDI{}
			}
			return g, s
		}, CheckNodeTopology, "GPU 0 names no PDI"},
		"an identity without PDI that no switch names": {func(g, s []*Result) ([]*Result, []*Result) {
			for _, r := range s {
				r.Report.GPUPDIs = slices.DeleteFunc(r.Report.GPUPDIs, func(p PDI) bool { return p == g[7].Device.PDI })
			}
			g[7].Device.PDI = PDI{}
			return g, s
		}, CheckNodeTopology, "GPU 7 names no PDI"},
		"PDI twice": {func(g, s []*Result) ([]*Result, []*Result) {
			for _, r := range g {
				r.Report.Mode, r.Report.ProtectedPCIe, r.Report.SwitchPDIs = ModeMultiPass, ToggleDisabled, nil
			}
			g[1].Device.PDI = g[0].Device.PDI
			return g, nil
		}, CheckNodeDistinct, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			g, s := x.change(clone(good.GPUs), clone(good.Switches))
			checks := Node(g, s)
			recordFailures(checks)
			for _, c := range checks {
				if c.Status == check.Fail && c.Seen == c.Wanted && x.id != CheckNodeTopology {
					t.Errorf("%+v", c)
				}
				if (c.Status == check.Fail) != (c.ID == x.id) || c.ID == x.id && !strings.Contains(c.Detail, x.why) {
					t.Errorf("%+v", c)
				}
			}
		})
	}
	t.Run("a switch written twice", func(t *testing.T) {
		twice := n
		twice.Switches = []Evidence{n.Switches[0], n.Switches[0], n.Switches[1], n.Switches[2]}
		res, err := v.VerifyNode(twice, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []check.Status{check.Pass, check.Fail, check.Pass, check.Fail} {
			if res.Checks[i].Status != want {
				t.Errorf("%+v", res.Checks[i])
			}
		}
	})
	t.Run("a switch listed as GPU", func(t *testing.T) {
		for _, c := range Node(append(clone(good.GPUs), good.Switches[0]), good.Switches[1:]) {
			if c.ID == CheckNodeDistinct && (c.Status != check.Fail || !strings.Contains(c.Detail, "not what it is listed as")) {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("a device that failed", func(t *testing.T) {
		bad := n
		bad.GPUs = slices.Clone(n.GPUs)
		bad.GPUs[4] = Evidence{Report: n.GPUs[4].Report, Chain: []byte("x")}
		res, err := v.VerifyNode(bad, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range res.Checks {
			if c.Status != check.Fail {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("number of devices", func(t *testing.T) {
		for _, k := range []int{0, MaxDevices + 1} {
			if _, err := v.VerifyNode(NodeEvidence{GPUs: make([]Evidence, k)}, o); err == nil {
				t.Errorf("a node of %d devices", k)
			}
		}
		for _, none := range [][]*Result{{nil}, {{Device: good.GPUs[0].Device}}, {{Report: good.GPUs[0].Report}}} {
			for _, c := range Node(none, nil) {
				if c.Status != check.Fail {
					t.Errorf("%+v", c)
				}
			}
		}
		if c := Node(nil, nil); c[0].Status != check.Fail || c[2].Status != check.Fail || c[0].Detail == "" || c[2].Detail == "" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("single GPU", func(t *testing.T) {
		f := newForge(t, layout{})
		res := f.verifier().Verify(f.evidence(gpu()), Options{Nonce: forgedNonce, Time: at})
		got := ""
		for _, c := range Node([]*Result{res}, nil) {
			got += fmt.Sprintf("%v ", c.Status)
		}
		if got != "PASS PASS PASS SKIP " {
			t.Error(got)
		}
	})
}

// The rules between devices, each broken alone, on a node that nobody had to capture.
func TestNodeRules(t *testing.T) {
	node := func() (gpus, switches []*Result) {
		for i := range byte(2) {
			gpus = append(gpus, &Result{Report: &Report{Kind: KindGPU, Mode: ModeProtectedPCIe, ProtectedPCIe: ToggleEnabled, SwitchPDIs: []PDI{{9}, {8}, {}}},
				Device: &Device{PDI: PDI{1 + i}, Leaf: Fingerprint{1, i}, Identity: Fingerprint{2, i}}})
			switches = append(switches, &Result{Report: &Report{Kind: KindSwitch, DevicePDI: PDI{8 + i}, GPUPDIs: []PDI{{1}, {2}}},
				Device: &Device{PDI: PDI{8 + i}, Leaf: Fingerprint{3, i}, Identity: Fingerprint{4, i}}})
		}
		return gpus, switches
	}
	for name, c := range map[string]struct {
		change func(g, s []*Result)
		id     string // "": nothing fails
	}{
		"good":                    {func(g, s []*Result) {}, ""},
		"switch of another nonce": {func(g, s []*Result) { s[1].Report.Nonce[0] = 1 }, CheckNodeNonce},
		"one leaf":                {func(g, s []*Result) { g[1].Device.Leaf = g[0].Device.Leaf }, CheckNodeDistinct},
		"one identity":            {func(g, s []*Result) { s[1].Device.Identity = s[0].Device.Identity }, CheckNodeDistinct},
		"a switch as GPU":         {func(g, s []*Result) { g[0].Report.Kind = KindSwitch }, CheckNodeDistinct},
		"two modes":               {func(g, s []*Result) { g[1].Report.Mode = ModeUnknown }, CheckNodeMode},
		"contradicting mode": {func(g, s []*Result) {
			g[0].Report.ProtectedPCIe, g[1].Report.ProtectedPCIe = ToggleDisabled, ToggleDisabled
		}, CheckNodeMode},
		"a switch that nobody attested": {func(g, s []*Result) {
			g[0].Report.SwitchPDIs[2] = PDI{7}
		}, CheckNodeTopology},
		"a GPU that nobody attested": {func(g, s []*Result) { s[0].Report.GPUPDIs = append(s[0].Report.GPUPDIs, PDI{3}) }, CheckNodeTopology},
		"a GPU wired to none":        {func(g, s []*Result) { g[1].Report.SwitchPDIs = nil }, CheckNodeTopology},
	} {
		t.Run(name, func(t *testing.T) {
			g, s := node()
			c.change(g, s)
			checks := Node(g, s)
			recordFailures(checks)
			for _, k := range checks {
				if (k.Status == check.Fail) != (k.ID == c.id) {
					t.Errorf("%+v", k)
				}
			}
		})
	}
}
