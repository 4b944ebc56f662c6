package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
)

// KindNVIDIAList is the list of device evidence that NVIDIA's attestation SDK and nvtrust save, one object for each GPU or
// switch. It speaks of devices alone: nothing in it says which machine they are in.
const KindNVIDIAList Kind = "nvidia-evidence-list"

const clauseNVIDIAList = "NVIDIA attestation SDK, serialized evidence"

// nvidiaItem is one device in NVIDIA's list. The versions repeat what the report says, and only the report is believed.
type nvidiaItem struct {
	Arch        string   `json:"arch"`
	Certificate []byte   `json:"certificate"`
	Evidence    []byte   `json:"evidence"`
	Nonce       [32]byte `json:"nonce"`
	Driver      *string  `json:"driver_version,optional"`
	VBIOS       *string  `json:"vbios_version,optional"`
	Version     *string  `json:"version,optional"`
}

func isNVIDIAList(b []byte) bool {
	var items []struct {
		Arch     string `json:"arch"`
		Evidence string `json:"evidence"`
	}
	return len(b) <= MaxEvidence && bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) && json.Unmarshal(b, &items) == nil &&
		len(items) > 0 && items[0].Arch != "" && items[0].Evidence != ""
}

// parseNVIDIAList returns the devices of a list and the one nonce that it says they answer.
func parseNVIDIAList(raw []byte) (devices []Device, nonce [32]byte, err error) {
	var items []nvidiaItem
	if err := strictjson.Unmarshal(raw, &items, MaxEvidence); err != nil {
		return nil, nonce, err
	}
	if len(items) == 0 || len(items) > MaxDevices {
		return nil, nonce, fmt.Errorf("%d devices, want 1 to %d", len(items), MaxDevices)
	}
	for i, item := range items {
		d := Device{Report: item.Evidence, Certificates: item.Certificate}
		switch item.Arch {
		case "HOPPER", "BLACKWELL":
			d.Kind = DeviceGPU
		case "LS10":
			d.Kind = DeviceSwitch
		default:
			return nil, nonce, fmt.Errorf("device %d is of the unknown architecture %.40q", i, item.Arch)
		}
		switch {
		case item.Version != nil && *item.Version != "1.0":
			return nil, nonce, fmt.Errorf("device %d is in the unknown version %.40q", i, *item.Version)
		case item.Nonce != items[0].Nonce:
			return nil, nonce, fmt.Errorf("device %d answers another nonce than device 0", i)
		case len(d.Report) > MaxReport || len(d.Certificates) > MaxCertificates:
			return nil, nonce, fmt.Errorf("device %d is larger than any device's evidence", i)
		}
		devices = append(devices, d)
	}
	return devices, items[0].Nonce, nil
}

func (a *appraisal) nvidiaList(raw, want []byte) {
	list, nonce, err := parseNVIDIAList(raw)
	if err != nil {
		a.fail(CheckParse, clauseNVIDIAList, err)
		return
	}
	a.pass(CheckParse, clauseNVIDIAList, fmt.Sprintf("%d devices", len(list)))
	a.nonce(nonce, want)
	rules := &a.v.policy.Devices
	d := a.v.appraiseDevices(a.now, &Evidence{Devices: list}, nonce)
	switch {
	case d == nil:
		a.fail(nvidia.CheckChain, clausePolicy, errors.New("the policy pins no NVIDIA root"))
		return
	case len(d.gpus) > 0 && rules.GPU == nil, len(d.switches) > 0 && rules.Switch == nil:
		a.fail(CheckMode, clausePolicy, fmt.Errorf("the policy %q has no rules for these devices", a.v.policy.Name))
		return
	}
	for i, r := range d.gpus {
		a.gpu(fmt.Sprintf("gpu%d.", i), r)
	}
	for i, r := range d.switches {
		a.nvswitch(fmt.Sprintf("switch%d.", i), r)
	}
	// Lists are saved for GPUs and for switches apart: only one that holds both shows what is wired to what.
	both := len(d.gpus) > 0 && len(d.switches) > 0
	for _, c := range d.node {
		required := true
		switch {
		case c.ID == nvidia.CheckNodeMode && len(d.gpus) == 0:
			continue
		case c.ID == nvidia.CheckNodeTopology && !both:
			c = check.Check{ID: c.ID, Clause: c.Clause, Status: check.Skip, Detail: "the list holds only GPUs, or only switches"}
			required = false
		}
		a.nvidiaCheck("", c, required)
	}
}
