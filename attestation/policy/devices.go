package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/nvidia"
)

// A Floor is the lowest acceptable version of driver or firmware: up to eight parts with dots between them. Driver parts
// are decimal, VBIOS and BIOS parts hexadecimal.
type Floor string

// UnmarshalText refuses what is not a dotted version.
func (f *Floor) UnmarshalText(b []byte) error {
	if _, err := versionParts(string(b), 16); err != nil {
		return err
	}
	*f = Floor(b)
	return nil
}

func versionParts(s string, base int) ([]uint64, error) {
	parts := strings.Split(s, ".")
	if len(parts) > 8 {
		return nil, fmt.Errorf("version %q has more than 8 parts", s)
	}
	out := make([]uint64, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, base, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a version such as 96.00.5E.00.01", s)
		}
		out[i] = n
	}
	return out, nil
}

// judge decides whether version is at least the floor. A version that cannot be read is refused.
func (f Floor) judge(what, version string, base int) Finding {
	r := Finding{Seen: version, Wanted: string(f) + " or later"}
	have, err := versionParts(version, base)
	want, err2 := versionParts(string(f), base)
	if err = errors.Join(err, err2); err != nil {
		r.Err = err
	} else if slices.Compare(have, want) < 0 {
		r.Err = fmt.Errorf("%s %s is older than %s", what, version, f)
	}
	return r
}

// JudgeMode decides about the node's mode and the number of its devices.
func (d *Devices) JudgeMode(mode string, gpus, switches int) Finding {
	f := Finding{Seen: fmt.Sprintf("%s with %d GPUs and %d switches", mode, gpus, switches), Wanted: strings.Join(d.Modes, " or ")}
	if !slices.Contains(d.Modes, mode) {
		f.Err = fmt.Errorf("the policy does not accept mode %q", mode)
		return f
	}
	bad := false
	switch mode {
	case modeCPU:
		bad = gpus != 0 || switches != 0
		f.Wanted = "cpu with no devices"
	case modeSingleGPU:
		bad = gpus != 1 || switches != 0
		f.Wanted = "single-gpu with 1 GPU and 0 switches"
	case modeMultiGPU:
		bad = gpus < int(d.GPU.MinCount) || gpus > int(d.GPU.MaxCount) || switches < int(d.Switch.MinCount) || switches > int(d.Switch.MaxCount)
		f.Wanted = fmt.Sprintf("multi-gpu with %d to %d GPUs and %d to %d switches", d.GPU.MinCount, d.GPU.MaxCount, d.Switch.MinCount, d.Switch.MaxCount)
	}
	if bad {
		f.Err = errors.New("the node does not have the devices that its mode and the policy demand")
	}
	return f
}

// JudgeGPUMode decides whether a GPU is in the confidential-computing mode that the node's mode demands: single-GPU
// passthrough for one, protected PCIe or multi-GPU passthrough for several. GPUs with old firmware do not state a mode;
// protected PCIe then shows in its own field.
func JudgeGPUMode(mode string, gpu nvidia.Mode, ppcie nvidia.Toggle) Finding {
	f := Finding{Seen: fmt.Sprintf("%s, protected PCIe %s", gpu, ppcie)}
	protected := ppcie == nvidia.ToggleEnabled
	var good bool
	switch mode {
	case modeSingleGPU:
		f.Wanted = "spt or unknown, protected PCIe not enabled"
		good = (gpu == nvidia.ModeSinglePass || gpu == nvidia.ModeUnknown) && !protected
	case modeMultiGPU:
		f.Wanted = "ppcie or unknown with protected PCIe enabled, or mpt"
		good = (gpu == nvidia.ModeProtectedPCIe || gpu == nvidia.ModeUnknown) && protected || gpu == nvidia.ModeMultiPass && !protected
	}
	if !good {
		f.Err = fmt.Errorf("the GPU is not in the confidential-computing mode of a %s node", mode)
	}
	return f
}

func judgeModel(models []string, model string) Finding {
	f := Finding{Seen: model, Wanted: strings.Join(models, " or ")}
	if !slices.Contains(models, model) {
		f.Err = fmt.Errorf("the policy does not accept the model %q", model)
	}
	return f
}

// JudgeModel decides about the chip.
func (g *GPU) JudgeModel(model string) Finding { return judgeModel(g.Models, model) }

// JudgeDriver decides about the driver's version.
func (g *GPU) JudgeDriver(version string) Finding { return g.Driver.judge("driver", version, 10) }

// JudgeVBIOS decides about the VBIOS version of a model.
func (g *GPU) JudgeVBIOS(model, version string) Finding {
	floor, ok := g.VBIOS[model]
	if !ok {
		return Finding{Seen: version, Wanted: "a floor for " + model, Err: fmt.Errorf("the policy has no min_vbios for %s", model)}
	}
	return floor.judge("VBIOS", version, 16)
}

// JudgeModel decides about the chip.
func (s *Switch) JudgeModel(model string) Finding { return judgeModel(s.Models, model) }

// JudgeBIOS decides about the BIOS version.
func (s *Switch) JudgeBIOS(version string) Finding { return s.BIOS.judge("BIOS", version, 16) }

// Judge decides about one digest of the keyset.
func (a Allowed) Judge(d Hash) Finding {
	f := Finding{Seen: hex.EncodeToString(d[:]), Wanted: AnyUnsafe}
	if !a.AnyUnsafe {
		names := make([]string, len(a.Allow))
		for i, n := range a.Allow {
			names[i] = n.Name
		}
		f.Wanted = oneOf(names)
	}
	n, ok := a.Find(d)
	if !ok {
		f.Err = errors.New("the digest is not on the list")
		return f
	}
	f.Seen = n.Name
	if a.AnyUnsafe {
		f.Seen = hex.EncodeToString(d[:])
	}
	return f
}

// JudgeExpiry decides whether the policy itself still holds.
func (p *Policy) JudgeExpiry(now time.Time) Finding {
	f := Finding{Seen: now.UTC().Format(time.RFC3339), Wanted: "before " + p.NotAfter.Format(time.RFC3339), Until: p.NotAfter}
	if !now.Before(p.NotAfter) {
		f.Err = errors.New("the policy has expired; review it and set a later not_after")
	}
	return f
}

// maxAhead is how far the chain's clock may be ahead of the verifier's.
const maxAhead = 2 * time.Minute

// JudgeEpoch decides whether Evidence may answer the masterchain block seqno, which was made at the given time.
func (p *Policy) JudgeEpoch(now time.Time, seqno uint32, made time.Time) Finding {
	f := Finding{Seen: fmt.Sprintf("block %d of %s", seqno, made.UTC().Format(time.RFC3339)), Wanted: "a nonce of our own"}
	if p.Epoch == nil {
		f.Err = errors.New("the policy accepts no epoch evidence: ask with a nonce")
		return f
	}
	age := time.Duration(p.Epoch.MaxAge) * time.Second
	f.Wanted, f.Until = fmt.Sprintf("at most %s old", age), made.Add(age)
	switch {
	case !now.Before(f.Until):
		f.Err = errors.New("the epoch's block is too old")
	case made.Sub(now) > maxAhead:
		f.Err = errors.New("the epoch's block is from the future: set the clock right")
	}
	return f
}

// Age is MaxAge as a duration.
func (p *Policy) Age() time.Duration { return time.Duration(p.MaxAge) * time.Second }
