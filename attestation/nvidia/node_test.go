package nvidia

import (
	"encoding/hex"
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
