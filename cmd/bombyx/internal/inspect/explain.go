package inspect

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// A region is a run of bytes of the evidence that checks rest on.
type region struct {
	name   string
	offset int // in the quote or report
	bytes  []byte
	checks []string // prefixes of check identifiers
}

// Explain writes, for each check of a result, the bytes of the evidence that it looked at. The evidence is as it was appraised.
func Explain(w io.Writer, data []byte, r *attestation.Result) error {
	_, raw, err := attestation.Recognise(data)
	if err != nil {
		return err
	}
	regions := map[string][]region{} // by device prefix of the check
	switch r.Kind {
	case attestation.KindTDXQuote, attestation.KindSGXQuote:
		regions[""] = quoteRegions(raw)
	case attestation.KindSNPReport:
		regions[""] = snpRegions(raw)
	case attestation.KindGPUReport, attestation.KindSwitchReport:
		regions[""] = deviceRegions(raw)
	case attestation.KindEvidence:
		e, err := attestation.ParseEvidence(raw)
		if err != nil {
			break // the table says so
		}
		if e.CPU.Kind == attestation.CPUTDX {
			regions[""] = quoteRegions(e.CPU.Quote)
		} else {
			regions[""] = snpRegions(e.CPU.Quote)
		}
		regions[""] = append(regions[""],
			region{"nonce of the document", -1, e.Nonce[:], []string{"composite.nonce", "composite.report_data"}},
			region{"keyset", -1, e.Keyset, []string{"composite.keyset", "composite.report_data", "policy.workload"}})
		gpus, switches := 0, 0
		for _, d := range e.Devices {
			prefix := fmt.Sprintf("gpu%d.", gpus)
			if d.Kind == attestation.DeviceSwitch {
				prefix = fmt.Sprintf("switch%d.", switches)
				switches++
			} else {
				gpus++
			}
			regions[prefix] = append(deviceRegions(d.Report), region{"certificate chain", -1, d.Certificates, []string{"nvidia.chain"}})
		}
	}
	var b strings.Builder
	b.WriteString("\nThe bytes behind the checks\n")
	for i, c := range r.Checks {
		prefix, id := "", c.ID
		if device, rest, _ := strings.Cut(c.ID, "."); strings.HasPrefix(device, "gpu") || strings.HasPrefix(device, "switch") {
			prefix, id = device+".", rest
		}
		fmt.Fprintf(&b, "%3d  %s %s\n", i+1, c.Status, c.ID)
		for _, g := range regions[prefix] {
			for _, p := range g.checks {
				if strings.HasPrefix(id, p) {
					b.WriteString(g.String())
					break
				}
			}
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func (g region) String() string {
	where := ""
	if g.offset >= 0 {
		where = fmt.Sprintf(" at %d", g.offset)
	}
	s := fmt.Sprintf("       %s, %d bytes%s: ", g.name, len(g.bytes), where)
	if len(g.bytes) <= 96 {
		return s + fmt.Sprintf("%x\n", g.bytes)
	}
	return s + fmt.Sprintf("%x... SHA-256 %x\n", g.bytes[:32], sha256.Sum256(g.bytes))
}

// locate fills in where each region lies.
func locate(raw []byte, regions []region) []region {
	for i := range regions {
		regions[i].offset = bytes.Index(raw, regions[i].bytes)
	}
	return regions
}

func quoteRegions(raw []byte) []region {
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		return []region{{"quote", 0, raw, []string{"dcap.parse", "composite.parse"}}}
	}
	data := q.ReportData()
	g := []region{
		{"quote", 0, q.Raw, []string{dcap.CheckParse}},
		{"header and body, signed", 0, q.Signed, []string{dcap.CheckQuoteSignature}},
		{"quote signature", 0, q.Signature[:], []string{dcap.CheckQuoteSignature}},
		{"attestation key", 0, q.AttestationKey[:], []string{dcap.CheckQuoteSignature, dcap.CheckQEBinding}},
		{"QE report, signed", 0, q.QEReportSigned, []string{dcap.CheckQESignature, dcap.CheckQEMatch, dcap.CheckTCBQE}},
		{"QE report data", 0, q.QEReport.ReportData[:], []string{dcap.CheckQEBinding}},
		{"QE authentication data", 0, q.QEAuthData, []string{dcap.CheckQEBinding}},
		{"QE report signature", 0, q.QEReportSignature[:], []string{dcap.CheckQESignature}},
		{"certification data", 0, q.CertificationData, []string{dcap.CheckChain, dcap.CheckRevocation, dcap.CheckTCBInfoMatch, dcap.CheckTCBPlatform, "policy.platform", "policy.hardware"}},
		{"report data", 0, data[:], []string{attestation.CheckReportData}},
	}
	if q.TD != nil {
		attributes := make([]byte, 8)
		for i := range attributes {
			attributes[i] = byte(q.TD.TDAttributes >> (8 * i))
		}
		g = append(g, region{"TEE TCB SVN", 0, q.TD.TEETCBSVN[:], []string{dcap.CheckTCBPlatform, dcap.CheckTCBModule}},
			region{"MRSEAM", 0, q.TD.MRSEAM[:], []string{dcap.CheckTCBModule}},
			region{"TD attributes", 0, attributes, []string{attestation.CheckDebug, attestation.CheckAttributes}},
			region{"MRTD", 0, q.TD.MRTD[:], []string{attestation.CheckImage}})
		for i := range q.TD.RTMR {
			g = append(g, region{fmt.Sprintf("RTMR%d", i), 0, q.TD.RTMR[i][:], []string{attestation.CheckImage}})
		}
	} else {
		g = append(g, region{"CPUSVN of the enclave", 0, q.SGX.CPUSVN[:], []string{dcap.CheckTCBPlatform}},
			region{"attributes", 0, q.SGX.Attributes[:], []string{attestation.CheckDebug}},
			region{"MRENCLAVE", 0, q.SGX.MRENCLAVE[:], []string{attestation.CheckImage}},
			region{"MRSIGNER", 0, q.SGX.MRSIGNER[:], []string{attestation.CheckImage}})
	}
	return locate(q.Raw, g)
}

func snpRegions(raw []byte) []region {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return []region{{"report", 0, raw, []string{snp.CheckParse}}}
	}
	at := func(name string, from, to int, checks ...string) region {
		return region{name, from, r.Raw[from:to], checks}
	}
	// Offsets as in the ABI's table of ATTESTATION_REPORT.
	return []region{
		at("report", 0, snp.ReportSize, snp.CheckParse),
		at("report, signed", 0, 0x2a0, snp.CheckSignature),
		at("signature", 0x2a0, snp.ReportSize, snp.CheckSignature),
		at("guest policy", 0x08, 0x10, attestation.CheckDebug, attestation.CheckAttributes),
		at("VMPL", 0x30, 0x34, attestation.CheckVMPL),
		at("platform info", 0x40, 0x48, attestation.CheckConfiguration),
		at("report data", 0x50, 0x90, attestation.CheckReportData),
		at("measurement", 0x90, 0xc0, attestation.CheckImage),
		at("host data", 0xc0, 0xe0, attestation.CheckImage),
		at("reported TCB", 0x180, 0x188, snp.CheckKeyTCB, snp.CheckTCB, attestation.CheckTCB),
		at("chip id", 0x1a0, 0x1e0, snp.CheckKeyChip, attestation.CheckMachine),
		at("committed TCB", 0x1e0, 0x1e8, snp.CheckTCB, attestation.CheckTCB),
	}
}

func deviceRegions(raw []byte) []region {
	r, err := nvidia.ParseReport(raw)
	if err != nil {
		return []region{{"report", 0, raw, []string{nvidia.CheckParse}}}
	}
	g := []region{
		{"report", 0, raw, []string{nvidia.CheckParse}},
		{"request nonce", 0, r.Nonce[:], []string{nvidia.CheckNonce}},
		{"report, signed", 0, r.Signed, []string{nvidia.CheckSignature}},
		{"signature", 0, r.Signature[:], []string{nvidia.CheckSignature}},
		{"driver version", 0, []byte(r.DriverVersion), []string{nvidia.CheckDriverRIMVersion, attestation.CheckDriver}},
	}
	if r.FWID != nil {
		g = append(g, region{"firmware identity", 0, r.FWID, []string{nvidia.CheckFWID}})
	}
	for _, m := range r.Measurements {
		g = append(g, region{fmt.Sprintf("measurement %d", m.Index), 0, m.Value, []string{nvidia.CheckMeasurements}})
	}
	return locate(raw, g)
}
