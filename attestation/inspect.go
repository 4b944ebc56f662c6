package attestation

import (
	"crypto/x509"
	"fmt"

	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// Inspect returns everything that Evidence says, with nothing about it verified: for people who look, never for programs that
// decide. Certificates is the chain of a bare device or SEV-SNP report, nil otherwise.
func Inspect(data, certificates []byte) (Kind, map[string]string, error) {
	p, err := TakeApart(data, certificates)
	if err != nil {
		return "", nil, err
	}
	m := map[string]string{}
	if p.CPU.Quote != nil {
		if err := inspectCPU(m, &p.CPU); err != nil {
			return "", nil, err
		}
	}
	count := map[DeviceKind]int{}
	for _, d := range p.Devices {
		name := "gpu"
		if d.Kind == DeviceSwitch {
			name = "switch"
		}
		prefix := fmt.Sprintf("%s%d.", name, count[d.Kind])
		count[d.Kind]++
		if err := inspectDevice(m, prefix, &d); err != nil {
			return "", nil, err
		}
	}
	if p.Kind == KindEvidence {
		if epoch, _, ok := SplitEpoch(data); ok {
			m["epoch.seqno"] = fmt.Sprint(epoch.Seqno)
			hexClaims(m, "epoch.root_hash", epoch.RootHash[:])
		}
		_, raw, err := Recognise(data)
		if err != nil {
			return "", nil, err
		}
		if e, err := ParseEvidence(raw); err == nil {
			m["mode"] = string(e.Mode)
			hexClaims(m, "nonce", e.Nonce[:])
			if ks, err := keyset.Parse(e.Keyset); err == nil {
				keysetClaims(m, e.Keyset, ks)
			}
		}
	}
	return p.Kind, m, nil
}

func inspectCPU(m map[string]string, c *CPU) error {
	if c.Kind == CPUSNP {
		r, err := snp.ParseReport(c.Quote)
		if err != nil {
			return err
		}
		m["cpu.kind"] = "SEV-SNP"
		snpClaims(m, r)
		return nil
	}
	q, err := dcap.ParseQuote(c.Quote)
	if err != nil {
		return err
	}
	m["cpu.kind"] = q.TEEType.String()
	if q.TD != nil {
		tdxClaims(m, q)
	} else {
		sgxClaims(m, q)
	}
	hexClaims(m, "quote.user_data", q.UserData[:], "qe.mrenclave", q.QEReport.MRENCLAVE[:], "qe.mrsigner", q.QEReport.MRSIGNER[:], "qe.cpusvn", q.QEReport.CPUSVN[:])
	m["qe.isvsvn"], m["qe.isvprodid"] = fmt.Sprint(q.QEReport.ISVSVN), fmt.Sprint(q.QEReport.ISVProdID)
	if len(q.PCKChain) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(q.PCKChain[0])
	if err != nil {
		return nil // shown as far as it can be read
	}
	m["pck.serial"], m["pck.not_after"] = fmt.Sprintf("%x", leaf.SerialNumber), stamp(leaf.NotAfter)
	if pck, err := dcap.ParsePCK(leaf); err == nil {
		hexClaims(m, "platform.fmspc", pck.FMSPC[:], "platform.ppid", pck.PPID[:], "platform.cpusvn", pck.CPUSVN[:], "platform.pceid", pck.PCEID[:])
		m["platform.ca"], m["platform.pcesvn"] = pck.CA, fmt.Sprint(pck.PCESVN)
	}
	return nil
}

func inspectDevice(m map[string]string, prefix string, d *Device) error {
	r, err := nvidia.ParseReport(d.Report)
	if err != nil {
		return err
	}
	hexClaims(m, prefix+"nonce", r.Nonce[:], prefix+"fwid", r.FWID)
	m[prefix+"kind"], m[prefix+"vbios"] = r.Kind.String(), r.VBIOSVersion
	if r.Kind == nvidia.KindGPU {
		m[prefix+"driver"], m[prefix+"cc_mode"], m[prefix+"protected_pcie"] = r.DriverVersion, r.Mode.String(), r.ProtectedPCIe.String()
		m[prefix+"board"] = r.Project + " " + r.ProjectSKU + " " + r.ChipSKU
	}
	for _, b := range r.Measurements {
		m[fmt.Sprintf("%smeasurement%02d", prefix, b.Index)] = fmt.Sprintf("%x", b.Value)
	}
	if chain, err := nvidia.ParseChain(d.Certificates, nvidia.ChainLength); err == nil {
		m[prefix+"certificate"] = chain[0].Subject.String()
		m[prefix+"ueid"] = chain[0].SerialNumber.String()
	}
	return nil
}
