// Package tee collects Evidence from the hardware that the enclave runs on:
// Intel TDX and AMD SEV-SNP through Linux's configfs-tsm (kernel 6.7 and
// later, /sys/kernel/config/tsm/report), NVIDIA GPUs through NVML and
// NVSwitches through NSCQ, the libraries of NVIDIA's driver.
//
// NVIDIA's libraries are loaded when devices are asked for, which takes cgo: a
// build without it collects CPU Evidence and refuses devices.
package tee

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// Devices is what the node must have beside its CPU. Evidence of more or fewer
// is refused, never shortened.
type Devices struct {
	GPUs     int // 0 for none
	Switches int // NVSwitches; with any, the GPUs are in protected-PCIe mode
}

// Mode is what Evidence of these devices says about them.
func (d Devices) Mode() attestation.Mode {
	switch d {
	case Devices{}:
		return attestation.ModeCPU
	case Devices{GPUs: 1}:
		return attestation.ModeSingleGPU
	}
	return attestation.ModeMultiGPU
}

// devices collects the Evidence of a node's devices: of every GPU, then of
// every switch, each answering the nonce.
type devices interface {
	collect(nonce [32]byte) ([]attestation.Device, error)
}

// A Collector is an attestation.Collector for this machine.
type Collector struct {
	tsm     configfsi.Client
	kind    attestation.CPUKind
	mode    attestation.Mode
	devices devices       // nil for ModeCPU
	busy    chan struct{} // capacity 1: kernel and driver make one report at a time
}

// Providers of configfs-tsm.
const (
	providerTDX = "tdx_guest"
	providerSNP = "sev_guest"
)

// Open finds out which hardware this is by asking it for a report. Of GPUs it
// collects Evidence once, and lets them accept work only then: see
// docs/operating.md, "GPUs".
func Open(want Devices) (*Collector, error) {
	tsm, err := linuxtsm.MakeClient()
	if err != nil {
		return nil, fmt.Errorf("tee: no confidential VM here: %w", err)
	}
	return open(tsm, want, "", "")
}

// open takes the paths of NVIDIA's libraries, "" for their usual names.
func open(tsm configfsi.Client, want Devices, nvmlPath, nscqPath string) (*Collector, error) {
	r, err := report.Get(tsm, &report.Request{InBlob: make([]byte, 64)})
	if err != nil {
		return nil, fmt.Errorf("tee: the kernel gives no report: %w", err)
	}
	c := &Collector{tsm: tsm, mode: want.Mode(), busy: make(chan struct{}, 1)}
	switch name := string(bytes.TrimSpace([]byte(r.Provider))); name {
	case providerTDX:
		c.kind = attestation.CPUTDX
	case providerSNP:
		c.kind = attestation.CPUSNP
	default:
		return nil, fmt.Errorf("tee: unknown report provider %q, want %s or %s", name, providerTDX, providerSNP)
	}
	if want != (Devices{}) {
		if c.devices, err = openDevices(want, nvmlPath, nscqPath); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Kind is the hardware found.
func (c *Collector) Kind() attestation.CPUKind { return c.kind }

// Collect implements attestation.Collector. A driver that hangs keeps later
// calls waiting until their contexts end.
func (c *Collector) Collect(ctx context.Context, nonce [32]byte, keyset []byte) ([]byte, error) {
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("tee: %w", ctx.Err())
	}
	type result struct {
		doc []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-c.busy }()
		doc, err := c.collect(nonce, keyset)
		done <- result{doc, err}
	}()
	select {
	case r := <-done:
		return r.doc, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("tee: the hardware does not answer: %w", ctx.Err())
	}
}

func (c *Collector) collect(nonce [32]byte, keyset []byte) ([]byte, error) {
	statement := attestation.Statement(nonce, keyset)
	e := attestation.Evidence{Version: attestation.EvidenceVersion, Nonce: nonce, Keyset: keyset, Mode: c.mode, Devices: []attestation.Device{}}
	var err error
	if c.devices != nil {
		if e.Devices, err = c.devices.collect(attestation.DeviceNonce(statement)); err != nil {
			return nil, err
		}
	}
	data := attestation.ReportData(statement, e.Devices)
	r, err := report.Get(c.tsm, &report.Request{InBlob: data[:], GetAuxBlob: c.kind == attestation.CPUSNP})
	if err != nil {
		return nil, fmt.Errorf("tee: %w", err)
	}
	e.CPU = attestation.CPU{Kind: c.kind, Quote: r.OutBlob}
	if c.kind == attestation.CPUSNP {
		if e.CPU.Certificates, err = chain(r.AuxBlob); err != nil {
			return nil, err
		}
	}
	return e.Encode()
}

// chain turns the host's certificate table into PEM, the endorsement key
// first. Nothing in it is trusted: the verifier checks it to a pinned root.
func chain(table []byte) ([]byte, error) {
	certs, err := snp.ParseTable(table)
	if err != nil {
		return nil, fmt.Errorf("tee: %w", err)
	}
	var out []byte
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out, nil
}
