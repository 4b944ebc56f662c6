package nvidia

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
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
		if c.Status != Pass {
			t.Errorf("%s is %v: seen %q, want %q, %s", c.ID, c.Status, c.Seen, c.Want, c.Detail)
		}
	}
	for _, r := range res.GPUs {
		wantStatus(t, r, map[string]Status{CheckSignature: Pass, CheckNonce: Pass})
	}
	for _, r := range res.Switches {
		wantStatus(t, r, map[string]Status{CheckSignature: Pass, CheckNonce: Pass, CheckModel: Pass})
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
		}, CheckNodeTopology, "wired to other GPUs"},
	} {
		t.Run(name, func(t *testing.T) {
			g, s := x.change(clone(good.GPUs), clone(good.Switches))
			for _, c := range Node(g, s) {
				if (c.Status == Fail) != (c.ID == x.id) || c.ID == x.id && !strings.Contains(c.Detail, x.why) {
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
		for i, want := range []Status{Pass, Fail, Pass, Fail} {
			if res.Checks[i].Status != want {
				t.Errorf("%+v", res.Checks[i])
			}
		}
	})
	t.Run("a switch listed as GPU", func(t *testing.T) {
		for _, c := range Node(append(clone(good.GPUs), good.Switches[0]), good.Switches[1:]) {
			if c.ID == CheckNodeDistinct && (c.Status != Fail || !strings.Contains(c.Detail, "not what it is listed as")) {
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
			if c.Status != Fail {
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
		if c := Node(nil, nil); c[0].Status != Fail || c[2].Status != Fail {
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
