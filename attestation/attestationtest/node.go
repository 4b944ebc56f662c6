package attestationtest

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bombyx-network/bombyx/attestation"
)

// septVEDisable is the one TD attribute that a production TD must have.
const septVEDisable = 1 << 28

// NodeConfig describes one machine. It is plain data: the same authority and configuration are the same node in another
// process.
type NodeConfig struct {
	// Name tells nodes apart: keys, PPID and device identities derive from it.
	Name string `json:"name"`
	// GPUs is the number of Hopper GPUs: 0 for a CPU-only node, 1, or up to 8 with Switches.
	GPUs int `json:"gpus,omitempty"`
	// Switches is the number of LS10 NVSwitches; with any, the node is in protected-PCIe mode.
	Switches int `json:"switches,omitempty"`
	// MultiPass has the GPUs say that they are in multi-GPU passthrough, in which they encrypt NVLink themselves.
	MultiPass bool `json:"multi_pass,omitempty"`
	// Unwired has the GPUs say that they are in protected-PCIe mode, and wired to no switch.
	Unwired bool `json:"unwired,omitempty"`
	// Image names the measured guest image; "" is the default image.
	Image string `json:"image,omitempty"`
	// RTMR replaces the image's run-time registers, for instance with what an event log leads to.
	RTMR *[4][48]byte `json:"rtmr,omitempty"`
	// QuoteVersion is 4 (the default, a TD 1.0 report) or 5 (a TD 1.5 report).
	QuoteVersion int `json:"quote_version,omitempty"`
	// SNP makes the node an AMD SEV-SNP one (Genoa); of Platform only UpToDate and OutOfDate then count.
	SNP bool `json:"snp,omitempty"`
	// VLEK has the SEV-SNP report signed with a cloud provider's key instead of the chip's.
	VLEK bool `json:"vlek,omitempty"`
	// VMPL is the privilege level that the SEV-SNP report was asked for from.
	VMPL uint32 `json:"vmpl,omitempty"`
	// HostData is what the host had bound into the SEV-SNP report at launch.
	HostData [32]byte `json:"host_data"`
	// Platform, Module and QE are the TCB statuses that the mock Intel gives to the parts; "" is UpToDate.
	Platform string `json:"platform,omitempty"`
	Module   string `json:"module,omitempty"`
	QE       string `json:"qe,omitempty"`
	// ModuleNow is the status of the TDX module loaded by now, when it was updated after the TD was launched; "" is the same
	// as Module. Only version 5 quotes tell.
	ModuleNow string `json:"module_now,omitempty"`
	// ProcessorCA has the PCK certificate signed by the CA of single-socket platforms.
	ProcessorCA bool `json:"processor_ca,omitempty"`
	// Debug opens the TD or guest to its host.
	Debug bool `json:"debug,omitempty"`
	// TDAttributes replaces the attributes of a production TD, SEPT_VE_DISABLE alone.
	TDAttributes uint64 `json:"td_attributes,omitempty"`
	// Driver and VBIOS are the versions that the GPUs run; "" means DriverVersion and VBIOSVersion.
	Driver string `json:"driver,omitempty"`
	VBIOS  string `json:"vbios,omitempty"`
}

// A Node is one machine with a TD and its devices. It is immutable, safe for concurrent use, and an
// [attestation.Collector].
type Node struct {
	auth      *Authority
	config    NodeConfig
	platform  *platform
	snp       *snpPlatform // instead of platform on AMD
	moduleSVN byte
	moduleNow byte
	gpus      []*device
	switches  []*device
}

var _ attestation.Collector = (*Node)(nil)

// NewNode provisions the machine that c describes.
func (a *Authority) NewNode(c NodeConfig) (*Node, error) {
	if c.Name == "" {
		return nil, fmt.Errorf("attestationtest: a node needs a name")
	}
	if c.QuoteVersion == 0 {
		c.QuoteVersion = 4
	}
	if c.QuoteVersion != 4 && c.QuoteVersion != 5 {
		return nil, fmt.Errorf("attestationtest: quote version %d, want 4 or 5", c.QuoteVersion)
	}
	if c.GPUs < 0 || c.GPUs > 8 || c.Switches < 0 || c.Switches > 4 {
		return nil, fmt.Errorf("attestationtest: %d GPUs and %d switches, want at most 8 and 4", c.GPUs, c.Switches)
	}
	if c.TDAttributes == 0 {
		c.TDAttributes = septVEDisable
	}
	if c.Debug {
		c.TDAttributes |= 1
	}
	if c.Driver == "" {
		c.Driver = DriverVersion
	}
	if c.VBIOS == "" {
		c.VBIOS = VBIOSVersion
	}
	n := &Node{auth: a, config: c}
	if c.SNP {
		n.snp = a.newSNPPlatform(c)
	} else {
		var err error
		if n.platform, err = a.newPlatform(c); err != nil {
			return nil, err
		}
		if n.moduleSVN, err = svnOf(enclaveLadder, c.Module); err != nil {
			return nil, err
		}
		if n.moduleNow = n.moduleSVN; c.ModuleNow != "" {
			if n.moduleNow, err = svnOf(enclaveLadder, c.ModuleNow); err != nil {
				return nil, err
			}
		}
	}
	for i := range c.GPUs {
		n.gpus = append(n.gpus, a.newDevice(c.Name, true, i))
	}
	for i := range c.Switches {
		n.switches = append(n.switches, a.newDevice(c.Name, false, i))
	}
	return n, nil
}

// Mode is what the node's Evidence documents say about its devices.
func (n *Node) Mode() attestation.Mode {
	switch {
	case len(n.gpus) == 0:
		return attestation.ModeCPU
	case len(n.gpus) == 1 && len(n.switches) == 0:
		return attestation.ModeSingleGPU
	}
	return attestation.ModeMultiGPU
}

// Devices returns the Evidence of every GPU, then every switch, each answering nonce.
func (n *Node) Devices(nonce [32]byte) []attestation.Device {
	out := []attestation.Device{}
	for _, d := range n.gpus {
		out = append(out, attestation.Device{Kind: attestation.DeviceGPU, Report: n.report(d, nonce), Certificates: d.chain})
	}
	for _, d := range n.switches {
		out = append(out, attestation.Device{Kind: attestation.DeviceSwitch, Report: n.report(d, nonce), Certificates: d.chain})
	}
	return out
}

// Collect returns composite Evidence as an honest node makes it.
func (n *Node) Collect(_ context.Context, nonce [32]byte, keyset []byte) ([]byte, error) {
	statement := attestation.Statement(nonce, keyset)
	return n.CollectWith(nonce, keyset, n.Devices(attestation.DeviceNonce(statement)))
}

// CollectWith returns composite Evidence whose TD or guest vouches for devices that the caller chose, the way a malicious program
// inside a genuine TD could: the binding between quote and devices holds, whatever the devices say.
func (n *Node) CollectWith(nonce [32]byte, keyset []byte, devices []attestation.Device) ([]byte, error) {
	e := &attestation.Evidence{Version: attestation.EvidenceVersion, Nonce: nonce, Keyset: keyset, Mode: n.Mode(), Devices: devices}
	reportData := attestation.ReportData(attestation.Statement(nonce, keyset), devices)
	if n.snp != nil {
		e.CPU = attestation.CPU{Kind: attestation.CPUSNP, Quote: n.SNPReport(reportData), Certificates: n.snp.chain}
	} else {
		e.CPU = attestation.CPU{Kind: attestation.CPUTDX, Quote: n.Quote(reportData)}
	}
	return e.Encode()
}

// Image holds the measurements of one guest image.
type Image struct {
	MRTD [48]byte
	RTMR [4][48]byte
}

// Image returns the measurements that a TD running the named image shows. RTMR 3 is zero: nothing extends it.
func (a *Authority) Image(name string) Image {
	m := Image{MRTD: a.digest("mrtd ", name)}
	for i := range 3 {
		m.RTMR[i] = a.digest("rtmr ", i, " ", name)
	}
	return m
}

// Identity returns what names the CPU: the platform's PPID, 16 bytes, or on AMD the CHIP_ID, 64 bytes.
func (n *Node) Identity() []byte {
	if n.snp != nil {
		return bytes.Clone(n.snp.chipID[:])
	}
	return bytes.Clone(n.platform.ppid)
}
