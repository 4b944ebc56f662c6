package nvidia

import (
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// MaxDevices bounds the devices of a node.
const MaxDevices = 64

// NodeEvidence is what all devices of one machine answered.
type NodeEvidence struct {
	GPUs     []Evidence
	Switches []Evidence
}

// NodeResult is the appraisal of a node: of each device, in the order of the
// evidence, and of what must hold between them.
type NodeResult struct {
	GPUs     []*Result
	Switches []*Result
	Checks   []check.Check // only those between devices
}

// VerifyNode appraises every device of a node on all processors, and then the
// node: see [Node].
func (v *Verifier) VerifyNode(n NodeEvidence, o Options) (*NodeResult, error) {
	devices := slices.Concat(n.GPUs, n.Switches)
	if len(devices) == 0 || len(devices) > MaxDevices {
		return nil, fmt.Errorf("nvidia: node of %d devices, want 1 to %d", len(devices), MaxDevices)
	}
	results := make([]*Result, len(devices))
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), len(devices)) {
		wg.Go(func() {
			for i := range next {
				results[i] = v.Verify(devices[i], o)
			}
		})
	}
	for i := range devices {
		next <- i
	}
	close(next)
	wg.Wait()
	gpus, switches := results[:len(n.GPUs):len(n.GPUs)], results[len(n.GPUs):]
	return &NodeResult{GPUs: gpus, Switches: switches, Checks: Node(gpus, switches)}, nil
}

const clauseNode = "NVIDIA protected PCIe, topology validation; opaque data fields 21, 22, 26 and 36"

// Node checks what must hold between the devices of one machine:
//
//   - every report carries the same nonce;
//   - every GPU is a GPU and every switch a switch, and no two are the same
//     device by leaf certificate, identity certificate or PDI;
//   - all GPUs are in the same mode with the same protected-PCIe status, and
//     several GPUs are in a mode that is for several;
//   - the switch ids that each GPU is wired to are exactly the attested
//     switches, and the GPU ids that each switch is wired to are exactly the
//     attested GPUs. A switch or GPU that nobody attested could read or forge
//     NVLink traffic.
//
// The results must be of the same appraisal. A device whose report or chain
// failed makes the checks that need it fail.
func Node(gpus, switches []*Result) []check.Check {
	for _, r := range slices.Concat(gpus, switches) {
		if r == nil || r.Report == nil || r.Device == nil {
			why := "a device's report did not parse or its certificate chain did not verify"
			return []check.Check{
				{ID: CheckNodeNonce, Status: check.Fail, Clause: clauseNonce, Detail: why},
				{ID: CheckNodeDistinct, Status: check.Fail, Clause: clauseNode, Detail: why},
				{ID: CheckNodeMode, Status: check.Fail, Clause: clauseNode, Detail: why},
				{ID: CheckNodeTopology, Status: check.Fail, Clause: clauseNode, Detail: why},
			}
		}
	}
	return []check.Check{nodeNonce(gpus, switches), nodeDistinct(gpus, switches), nodeMode(gpus), nodeTopology(gpus, switches)}
}

func nodeNonce(gpus, switches []*Result) check.Check {
	c := check.Check{ID: CheckNodeNonce, Status: check.Fail, Clause: clauseNonce}
	var first *Report
	for _, r := range slices.Concat(gpus, switches) {
		if first == nil {
			first = r.Report
			c.Wanted = hex.EncodeToString(first.Nonce[:])
		}
		c.Seen = hex.EncodeToString(r.Report.Nonce[:])
		if r.Report.Nonce != first.Nonce {
			c.Detail = "two devices answered different nonces"
			return c
		}
	}
	if first == nil {
		c.Detail = "no devices"
		return c
	}
	c.Status = check.Pass
	return c
}

func nodeDistinct(gpus, switches []*Result) check.Check {
	c := check.Check{ID: CheckNodeDistinct, Status: check.Fail, Clause: clauseNode}
	seen := map[string]bool{}
	for i, r := range slices.Concat(gpus, switches) {
		want := KindGPU
		if i >= len(gpus) {
			want = KindSwitch
		}
		if r.Report.Kind != want {
			c.Seen, c.Wanted = r.Report.Kind.String(), want.String()
			c.Detail = fmt.Sprintf("device %d is not what it is listed as", i)
			return c
		}
		ids := []string{"leaf certificate " + r.Device.Leaf.String(), "identity certificate " + r.Device.Identity.String()}
		if r.Device.PDI != (PDI{}) {
			ids = append(ids, "PDI "+r.Device.PDI.String())
		}
		for _, id := range ids {
			if seen[id] {
				c.Seen, c.Detail = id, "one device is listed twice"
				return c
			}
			seen[id] = true
		}
	}
	c.Status, c.Seen = check.Pass, fmt.Sprintf("%d GPUs, %d switches", len(gpus), len(switches))
	return c
}

func nodeMode(gpus []*Result) check.Check {
	c := check.Check{ID: CheckNodeMode, Status: check.Fail, Clause: clauseNode}
	if len(gpus) == 0 {
		c.Detail = "no GPUs"
		return c
	}
	first := gpus[0].Report
	for i, g := range gpus {
		if g.Report.Mode != first.Mode || g.Report.ProtectedPCIe != first.ProtectedPCIe {
			c.Seen = fmt.Sprintf("%v with protected PCIe %v", g.Report.Mode, g.Report.ProtectedPCIe)
			c.Wanted = fmt.Sprintf("%v with protected PCIe %v", first.Mode, first.ProtectedPCIe)
			c.Detail = fmt.Sprintf("GPU %d is in another mode than GPU 0", i)
			return c
		}
	}
	c.Seen = fmt.Sprintf("%v with protected PCIe %v", first.Mode, first.ProtectedPCIe)
	switch {
	case first.Mode == ModeProtectedPCIe && first.ProtectedPCIe != ToggleEnabled,
		first.Mode != ModeProtectedPCIe && first.Mode != ModeUnknown && first.ProtectedPCIe == ToggleEnabled:
		c.Detail = "mode and protected-PCIe status contradict each other"
	case len(gpus) > 1 && first.Mode == ModeSinglePass:
		c.Detail = fmt.Sprintf("%d GPUs are in the mode for one", len(gpus))
	default:
		c.Status = check.Pass
	}
	return c
}

func nodeTopology(gpus, switches []*Result) check.Check {
	c := check.Check{ID: CheckNodeTopology, Status: check.Fail, Clause: clauseNode}
	wired := slices.ContainsFunc(gpus, func(g *Result) bool { return len(ids(g.Report.SwitchPDIs)) != 0 })
	if !wired && len(switches) == 0 {
		c.Status, c.Detail = check.Skip, "no GPU is wired to a switch"
		return c
	}
	gpuIDs, switchIDs := make([]PDI, 0, len(gpus)), make([]PDI, 0, len(switches))
	for i, g := range gpus {
		if g.Device.PDI == (PDI{}) {
			c.Detail = fmt.Sprintf("the certificate of GPU %d names no PDI: nothing shows what it is wired to", i)
			return c
		}
		gpuIDs = append(gpuIDs, g.Device.PDI)
	}
	for _, s := range switches {
		switchIDs = append(switchIDs, s.Report.DevicePDI)
	}
	for i, g := range gpus {
		if seen, want := ids(g.Report.SwitchPDIs), ids(switchIDs); !slices.Equal(seen, want) {
			c.Seen, c.Wanted = strings.Join(seen, " "), strings.Join(want, " ")
			c.Detail = fmt.Sprintf("GPU %d is wired to other switches than the attested ones", i)
			return c
		}
	}
	for i, s := range switches {
		if seen, want := ids(s.Report.GPUPDIs), ids(gpuIDs); !slices.Equal(seen, want) {
			c.Seen, c.Wanted = strings.Join(seen, " "), strings.Join(want, " ")
			c.Detail = fmt.Sprintf("switch %d is wired to other GPUs than the attested ones", i)
			return c
		}
	}
	c.Status, c.Seen = check.Pass, fmt.Sprintf("%d GPUs and %d switches, each wired to all of the other kind", len(gpus), len(switches))
	return c
}

// ids returns the distinct non-zero ids in order.
func ids(pdis []PDI) []string {
	var out []string
	for _, p := range pdis {
		if p != (PDI{}) {
			out = append(out, p.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
