package attestation_test

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

type listItem map[string]any

// nvidiaList is a node's devices as NVIDIA's SDK saves them.
func nvidiaList(t testing.TB, c attestationtest.NodeConfig, change func([]listItem) []listItem) []byte {
	t.Helper()
	var items []listItem
	for _, d := range node(t, c).Devices(nonce) {
		arch := "HOPPER"
		if d.Kind == attestation.DeviceSwitch {
			arch = "LS10"
		}
		items = append(items, listItem{"arch": arch, "certificate": d.Certificates, "evidence": d.Report, "nonce": hex.EncodeToString(nonce[:]), "version": "1.0"})
	}
	if change != nil {
		items = change(items)
	}
	b, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNVIDIAList(t *testing.T) {
	for what, c := range map[string]attestationtest.NodeConfig{
		"one GPU": {GPUs: 1}, "a whole node": {GPUs: 8, Switches: 4},
	} {
		r := appraiseSaved(t, nvidiaList(t, c, nil), attestation.Expected{Nonce: nonce[:]}, nil)
		if err := r.Err(); err != nil || r.Kind != attestation.KindNVIDIAList {
			t.Errorf("%s: %s: %v", what, r.Kind, err)
		}
	}
	// The rules of a list that holds both are those of a node, and devices that are not in it need none.
	whole := appraiseSaved(t, nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, nil), attestation.Expected{}, nil)
	for _, id := range []string{nvidia.CheckNodeMode, nvidia.CheckNodeTopology} {
		if c := whole.Check(id); c == nil || c.Status != check.Pass || !c.Required {
			t.Errorf("%s: %+v", id, c)
		}
	}
	for what, part := range map[string]func([]listItem) []listItem{"switches": func(l []listItem) []listItem { return l[2:] }, "GPUs": func(l []listItem) []listItem { return l[:2] }} {
		r := appraiseSaved(t, nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, part), attestation.Expected{}, func(p *policy.Policy) {
			if p.Devices.Modes = []string{"cpu"}; what == "switches" {
				p.Devices.GPU = nil
			} else {
				p.Devices.Switch = nil
			}
		})
		if r.Err() != nil || (r.Check(nvidia.CheckNodeMode) != nil) != (what == "GPUs") {
			t.Errorf("%s alone: %v, %+v", what, r.Err(), r.Check(nvidia.CheckNodeMode))
		}
	}
	// The largest list of the largest devices is read.
	large := nvidiaList(t, attestationtest.NodeConfig{GPUs: 1}, func(l []listItem) []listItem {
		small := listItem{}
		maps.Copy(small, l[0])
		small["evidence"], small["certificate"] = []byte{1}, []byte{1}
		l[0]["evidence"], l[0]["certificate"] = make([]byte, attestation.MaxReport), make([]byte, attestation.MaxCertificates)
		return append(l, slices.Repeat([]listItem{small}, attestation.MaxDevices-1)...)
	})
	if p, err := attestation.TakeApart(large, nil); err != nil || len(p.Devices) != attestation.MaxDevices {
		t.Errorf("largest list: %v", err)
	}
	// GPUs alone: nothing shows what they are wired to, and the result says so.
	apart := func(l []listItem) []listItem { return l[:8] }
	r := appraiseSaved(t, nvidiaList(t, attestationtest.NodeConfig{GPUs: 8, Switches: 4}, apart), attestation.Expected{}, nil)
	i := slices.IndexFunc(r.Checks, func(c check.Check) bool { return c.ID == nvidia.CheckNodeTopology })
	if r.Err() != nil || i < 0 || r.Checks[i].Status != check.Skip {
		t.Errorf("GPUs apart: %v", r.Err())
	}
}

func TestNVIDIAListRefusals(t *testing.T) {
	set := func(i int, name string, v any) func([]listItem) []listItem {
		return func(l []listItem) []listItem { l[i][name] = v; return l }
	}
	full := attestationtest.NodeConfig{GPUs: 2, Switches: 1}
	for what, c := range map[string]struct {
		change func([]listItem) []listItem
		want   string // the one check that fails
		why    string // in the error
	}{
		"unknown architecture":    {set(0, "arch", "AMPERE"), attestation.CheckParse, "unknown architecture"},
		"unknown version":         {set(0, "version", "2.0"), attestation.CheckParse, "unknown version"},
		"unknown member":          {set(1, "debug", true), attestation.CheckParse, "debug"},
		"nonces differ":           {set(1, "nonce", strings.Repeat("00", 32)), attestation.CheckParse, "another nonce"},
		"large report":            {set(0, "evidence", make([]byte, attestation.MaxReport+1)), attestation.CheckParse, "larger than any"},
		"large chain":             {set(0, "certificate", make([]byte, attestation.MaxCertificates+1)), attestation.CheckParse, "larger than any"},
		"no report":               {set(1, "evidence", []byte{}), "gpu1." + nvidia.CheckParse, ""},
		"a device twice":          {func(l []listItem) []listItem { l[1] = l[0]; return l }, nvidia.CheckNodeDistinct, ""},
		"too many devices":        {func(l []listItem) []listItem { return slices.Repeat(l, 20) }, attestation.CheckParse, "60 devices, want 1 to"},
		"switch passed off a GPU": {set(2, "arch", "HOPPER"), "gpu2.", ""},
	} {
		r := appraiseSaved(t, nvidiaList(t, full, c.change), attestation.Expected{Nonce: nonce[:]}, nil)
		if failed := failing(r); len(failed) == 0 || !strings.HasPrefix(failed[0], c.want) || !strings.Contains(r.Err().Error(), c.why) {
			t.Errorf("%s: %v, failed %q", what, r.Err(), failed)
		}
	}
	other := [32]byte{1}
	r := appraiseSaved(t, nvidiaList(t, full, nil), attestation.Expected{Nonce: other[:]}, nil)
	if failed := failing(r); !slices.Equal(failed, []string{attestation.CheckNonce}) {
		t.Errorf("replayed: failed %q", failed)
	}
}

// Real lists: every device is genuine, and answers the list's nonce.
func TestRealNVIDIALists(t *testing.T) {
	p := realPolicy(t)
	p.Devices.GPU.RIM, p.Devices.Switch.RIM = policy.SkipUnsafe, policy.SkipUnsafe
	v, err := attestation.NewVerifier(p, new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("../../shared/vectors/*/*.json")
	devices := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if k, _, err := attestation.Recognise(b); err != nil || k != attestation.KindNVIDIAList {
			continue
		}
		r, err := v.AppraiseSaved(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), b, attestation.Expected{})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for _, c := range r.Checks {
			_, id, _ := strings.Cut(c.ID, ".")
			switch id {
			case nvidia.CheckNonce, nvidia.CheckChain, nvidia.CheckSignature:
				if c.Status != check.Pass {
					t.Errorf("%s: %s: %s", file, c.ID, c.Detail)
				}
				if id == nvidia.CheckSignature {
					devices++
				}
			}
		}
	}
	if len(files) == 0 {
		t.Skip("real evidence is absent: ../shared/vectors")
	}
	if devices < 20 {
		t.Errorf("%d devices appraised", devices)
	}
}
