//go:build linux && cgo

package tee

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
)

// gpus collects GPU Evidence through NVML, libnvidia-ml.so.1.
type gpus struct {
	lib      nvml.Interface
	want     Devices
	switches *switches // nil without
}

// symbols are what collect calls. go-nvml binds them lazily: calling one that
// the driver's library lacks would end the process.
var symbols = []string{
	"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
	"nvmlSystemGetConfComputeState", "nvmlSystemGetConfComputeSettings",
	"nvmlSystemGetConfComputeGpusReadyState", "nvmlSystemSetConfComputeGpusReadyState",
	"nvmlDeviceGetConfComputeGpuCertificate", "nvmlDeviceGetConfComputeGpuAttestationReport",
}

// openDevices loads the driver's libraries ("" for their usual names), collects
// Evidence once, and then lets the GPUs accept work.
func openDevices(want Devices, nvmlPath, nscqPath string) (devices, error) {
	g := &gpus{want: want}
	if want.GPUs < 1 || want.Switches < 0 || want.GPUs+want.Switches > attestation.MaxDevices {
		return nil, fmt.Errorf("tee: %d GPUs and %d switches, want 1 or more GPUs and at most %d devices", want.GPUs, want.Switches, attestation.MaxDevices)
	}
	var options []nvml.LibraryOption
	if nvmlPath != "" {
		options = append(options, nvml.WithLibraryPath(nvmlPath))
	}
	g.lib = nvml.New(options...)
	if err := g.init(); err != nil {
		return nil, err
	}
	if want.Switches > 0 {
		var err error
		if g.switches, err = openSwitches(nscqPath); err != nil {
			return nil, errors.Join(err, g.close())
		}
	}
	if err := g.release(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *gpus) init() error {
	// Loading comes before the symbols can be looked up, and nvmlInit_v2 is as
	// old as the oldest driver that anybody runs.
	if err := failed("loading libnvidia-ml.so.1", g.lib.Init()); err != nil {
		return err
	}
	for _, s := range symbols {
		if err := g.lib.Extensions().LookupSymbol(s); err != nil {
			return errors.Join(fmt.Errorf("tee: the NVIDIA driver is too old: its NVML lacks %s", s), g.close())
		}
	}
	return nil
}

func (g *gpus) close() error {
	if g.switches != nil {
		g.switches.close()
	}
	return failed("unloading NVML", g.lib.Shutdown())
}

// release lets the GPUs accept work, once they have shown Evidence in the mode
// that this node promises. Until then the driver refuses CUDA clients, so the
// engine cannot load a model into GPUs that nobody could appraise.
func (g *gpus) release() error {
	var nonce [32]byte
	rand.Read(nonce[:])
	if _, err := g.evidence(nonce); err != nil {
		return err
	}
	if err := failed("setting the GPUs' ready state", g.lib.SystemSetConfComputeGpusReadyState(nvml.CC_ACCEPTING_CLIENT_REQUESTS_TRUE)); err != nil {
		return err
	}
	return g.ready()
}

// collect implements devices.
func (g *gpus) collect(nonce [32]byte) ([]attestation.Device, error) {
	if err := g.ready(); err != nil {
		return nil, err
	}
	return g.evidence(nonce)
}

// ready refuses GPUs that were reset since: what is in them is not what they
// were released with.
func (g *gpus) ready() error {
	state, ret := g.lib.SystemGetConfComputeGpusReadyState()
	if err := failed("reading the GPUs' ready state", ret); err != nil {
		return err
	}
	if state != nvml.CC_ACCEPTING_CLIENT_REQUESTS_TRUE {
		return errors.New("tee: the GPUs do not accept work: they were reset or taken out of service; restart the enclave")
	}
	return nil
}

func (g *gpus) evidence(nonce [32]byte) ([]attestation.Device, error) {
	if err := g.mode(); err != nil {
		return nil, err
	}
	n, ret := g.lib.DeviceGetCount()
	if err := failed("counting GPUs", ret); err != nil {
		return nil, err
	}
	if n != g.want.GPUs {
		return nil, fmt.Errorf("tee: the driver shows %d GPUs, the configuration promises %d", n, g.want.GPUs)
	}
	out := make([]attestation.Device, 0, g.want.GPUs+g.want.Switches)
	for i := range n {
		d, err := g.gpu(i, nonce)
		if err != nil {
			return nil, fmt.Errorf("tee: GPU %d: %w", i, err)
		}
		out = append(out, d)
	}
	if g.switches != nil {
		found, err := g.switches.collect(nonce, g.want.Switches)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// mode compares what the driver says about confidential computing with what
// this node promises. The client appraises the same from the reports; but that
// DevTools mode is off no report says (see package nvidia), only the driver.
func (g *gpus) mode() error {
	state, ret := g.lib.SystemGetConfComputeState()
	if err := failed("reading the confidential-computing state", ret); err != nil {
		return err
	}
	settings, ret := g.lib.SystemGetConfComputeSettings()
	if err := failed("reading the confidential-computing settings", ret); err != nil {
		return err
	}
	// Protected PCIe is a mode of its own, in which the feature reads as off.
	protected := settings.MultiGpuMode == nvml.CC_SYSTEM_MULTIGPU_PROTECTED_PCIE
	switch {
	case state.CcFeature != nvml.CC_SYSTEM_FEATURE_ENABLED && !protected:
		return errors.New("tee: confidential computing is off on the GPUs; switch it on (CC mode) and boot again")
	case state.DevToolsMode != nvml.CC_SYSTEM_DEVTOOLS_MODE_OFF || settings.DevToolsMode != nvml.CC_SYSTEM_DEVTOOLS_MODE_OFF:
		return errors.New("tee: the GPUs are in DevTools mode, in which their memory can be read; switch CC mode to on")
	case protected && g.want.Switches == 0:
		return errors.New("tee: the GPUs are in protected-PCIe mode, but the configuration promises no switches")
	case !protected && g.want.Switches > 0:
		return errors.New("tee: the configuration promises switches, but the GPUs are not in protected-PCIe mode")
	case settings.MultiGpuMode == nvml.CC_SYSTEM_MULTIGPU_NONE && g.want.GPUs > 1:
		return fmt.Errorf("tee: the configuration promises %d GPUs, but they are in the mode for one", g.want.GPUs)
	case settings.MultiGpuMode != nvml.CC_SYSTEM_MULTIGPU_NONE && g.want == Devices{GPUs: 1}:
		return errors.New("tee: the configuration promises a single GPU, but it is in a mode for several")
	}
	return nil
}

func (g *gpus) gpu(i int, nonce [32]byte) (out attestation.Device, err error) {
	dev, ret := g.lib.DeviceGetHandleByIndex(i)
	if err := failed("opening", ret); err != nil {
		return out, err
	}
	cert, ret := dev.GetConfComputeGpuCertificate()
	if err := failed("reading the certificate chain", ret); err != nil {
		return out, err
	}
	report := nvml.ConfComputeGpuAttestationReport{Nonce: nonce}
	if err := failed("making the report", dev.GetConfComputeGpuAttestationReport(&report)); err != nil {
		return out, err
	}
	return device(attestation.DeviceGPU, nonce, report.AttestationReport[:], report.AttestationReportSize,
		cert.AttestationCertChain[:], cert.AttestationCertChainSize)
}

// device takes what a driver's library filled in. It checks no more than that
// this is a report about the nonce: the client appraises it.
func device(kind attestation.DeviceKind, nonce [32]byte, report []byte, reportSize uint32, chain []byte, chainSize uint32) (out attestation.Device, err error) {
	if uint64(reportSize) > uint64(len(report)) || uint64(chainSize) > uint64(len(chain)) {
		return out, fmt.Errorf("a report of %d bytes and a chain of %d do not fit the library's own limits", reportSize, chainSize)
	}
	out = attestation.Device{Kind: kind, Report: report[:reportSize], Certificates: chain[:chainSize]}
	r, err := nvidia.ParseReport(out.Report)
	if err != nil {
		return out, err
	}
	if r.Nonce != nonce {
		return out, errors.New("the report answers another nonce")
	}
	return out, nil
}

// failed is the error of a call, nil for success.
func failed(what string, ret nvml.Return) error {
	switch ret {
	case nvml.SUCCESS:
		return nil
	case nvml.ERROR_NO_PERMISSION:
		return fmt.Errorf("tee: %s: %w; run the enclave as root of its VM", what, ret)
	}
	return fmt.Errorf("tee: %s: %w", what, ret)
}
