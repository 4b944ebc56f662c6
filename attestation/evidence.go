package attestation

import (
	"context"
	"fmt"

	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// Limits on a composite Evidence document. A node with eight GPUs and four switches needs about 200 KiB.
const (
	MaxEvidence     = 2 << 20  // bytes of the whole document
	MaxQuote        = 64 << 10 // bytes of a quote or CPU report
	MaxReport       = 64 << 10 // bytes of a device report
	MaxCertificates = 64 << 10 // bytes of a certificate chain
	MaxDevices      = 32       // GPUs and switches together
)

// EvidenceVersion is the version of the composite document that this package reads and writes.
const EvidenceVersion = 1

// A Mode says how the node's devices are tied together. Evidence states one, and the appraisal checks that the devices
// are what the mode promises.
type Mode string

const (
	ModeCPU       Mode = "cpu"        // no devices: the model runs on the CPU
	ModeSingleGPU Mode = "single-gpu" // exactly one GPU in confidential-computing mode
	ModeMultiGPU  Mode = "multi-gpu"  // several GPUs and the switches between them in protected-PCIe mode
)

// UnmarshalText refuses every mode but the three above.
func (m *Mode) UnmarshalText(b []byte) error {
	switch v := Mode(b); v {
	case ModeCPU, ModeSingleGPU, ModeMultiGPU:
		*m = v
		return nil
	}
	return fmt.Errorf("unknown mode %q", b)
}

// A CPUKind names the technology of the confidential VM.
type CPUKind string

const (
	CPUTDX CPUKind = "tdx"     // Intel TDX: Quote is a DCAP quote, version 4 or 5
	CPUSNP CPUKind = "sev-snp" // AMD SEV-SNP: Quote is an attestation report, Certificates its VCEK or VLEK chain
)

// UnmarshalText refuses every kind but the two above.
func (k *CPUKind) UnmarshalText(b []byte) error {
	switch v := CPUKind(b); v {
	case CPUTDX, CPUSNP:
		*k = v
		return nil
	}
	return fmt.Errorf("unknown CPU kind %q", b)
}

// A DeviceKind names a kind of device Evidence.
type DeviceKind string

const (
	DeviceGPU    DeviceKind = "nvidia-gpu"    // SPDM report of a Hopper or Blackwell GPU
	DeviceSwitch DeviceKind = "nvidia-switch" // SPDM report of an LS10 NVSwitch
)

// UnmarshalText refuses every kind but the two above.
func (k *DeviceKind) UnmarshalText(b []byte) error {
	switch v := DeviceKind(b); v {
	case DeviceGPU, DeviceSwitch:
		*k = v
		return nil
	}
	return fmt.Errorf("unknown device kind %q", b)
}

// CPU is the Evidence of the confidential VM itself.
type CPU struct {
	Kind CPUKind `json:"kind"`
	// Quote is the raw quote or report as the hardware gave it.
	Quote []byte `json:"quote"`
	// Certificates is the chain of an AMD endorsement key, leaf first, in PEM or DER. Absent for TDX, whose quote carries its own.
	Certificates []byte `json:"certificates,optional"`
}

// A Device is the Evidence of one GPU or switch.
type Device struct {
	Kind DeviceKind `json:"kind"`
	// Report is the raw SPDM exchange: GET_MEASUREMENTS request, MEASUREMENTS response and signature.
	Report []byte `json:"report"`
	// Certificates is the device's PEM chain, leaf first.
	Certificates []byte `json:"certificates"`
}

// Evidence is the composite document: one confidential VM, its devices, and the keys it vouches for, all answering one
// nonce. Binding says how the parts hold together.
type Evidence struct {
	Version int      `json:"version"`
	Nonce   [32]byte `json:"nonce"`
	// Keyset is the canonical keyset as bound; package keyset reads it.
	Keyset  []byte   `json:"keyset"`
	Mode    Mode     `json:"mode"`
	CPU     CPU      `json:"cpu"`
	Devices []Device `json:"devices"`
}

// A Collector gathers composite Evidence on the machine it runs on: in production from the confidential VM's quote
// provider and its GPUs, in tests from package attestationtest.
type Collector interface {
	// Collect returns an encoded Evidence document for nonce and the canonical keyset.
	Collect(ctx context.Context, nonce [32]byte, keyset []byte) ([]byte, error)
}

// Encode returns the document as JSON that ParseEvidence accepts.
func (e *Evidence) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return strictjson.Marshal(*e)
}

// ParseEvidence decodes a composite document. Unknown, missing, duplicate and case-variant members, non-canonical
// base64, trailing data and sizes above the limits are errors.
func ParseEvidence(data []byte) (*Evidence, error) {
	e := new(Evidence)
	if err := strictjson.Unmarshal(data, e, MaxEvidence); err != nil {
		return nil, fmt.Errorf("attestation: evidence document: %w", err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Evidence) check() error {
	fail := func(format string, a ...any) error {
		return fmt.Errorf("attestation: evidence document: "+format, a...)
	}
	if e.Version != EvidenceVersion {
		return fail("version %d, this program reads version %d", e.Version, EvidenceVersion)
	}
	if len(e.Keyset) == 0 {
		return fail("empty keyset")
	}
	if len(e.CPU.Quote) == 0 || len(e.CPU.Quote) > MaxQuote {
		return fail("CPU quote of %d bytes, want 1 to %d", len(e.CPU.Quote), MaxQuote)
	}
	if len(e.CPU.Certificates) > MaxCertificates {
		return fail("CPU certificates of %d bytes, limit %d", len(e.CPU.Certificates), MaxCertificates)
	}
	if e.CPU.Kind == CPUTDX && e.CPU.Certificates != nil {
		return fail("a TDX quote carries its own certificates, yet the document adds some")
	}
	if len(e.Devices) > MaxDevices {
		return fail("%d devices, limit %d", len(e.Devices), MaxDevices)
	}
	for i, d := range e.Devices {
		if len(d.Report) == 0 || len(d.Report) > MaxReport {
			return fail("device %d: report of %d bytes, want 1 to %d", i, len(d.Report), MaxReport)
		}
		if len(d.Certificates) == 0 || len(d.Certificates) > MaxCertificates {
			return fail("device %d: certificates of %d bytes, want 1 to %d", i, len(d.Certificates), MaxCertificates)
		}
	}
	return nil
}
