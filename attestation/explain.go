package attestation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// An Excerpt is a run of bytes that a check rests on.
type Excerpt struct {
	// Name says what the bytes are.
	Name string
	// In says what they are a part of, such as "quote" or "TCB info", and Offset where it has them; -1 when it has them in another
	// form or in several places.
	In     string
	Offset int
	Bytes  []byte
}

// Explain returns for each check of a Result, in order, the bytes of evidence and collateral that it looked at. The arguments are those
// that AppraiseSaved got. A check without any looked at the policy and the clock alone, or had nothing to look at.
func (v *Verifier) Explain(data []byte, want Expected, r *Result) ([][]Excerpt, error) {
	kind, raw, err := Recognise(data)
	if err != nil {
		return nil, err
	}
	x := &explainer{v: v, now: r.AppraisedAt}
	if _, _, ok := SplitEpoch(data); ok {
		x.add("file", data, "epoch", 0, EpochSize, CheckEpoch, CheckNonce)
	}
	x.document(kind, raw, want)
	out := make([][]Excerpt, len(r.Checks))
	for i, c := range r.Checks {
		prefix, id := splitDevice(c.ID)
		for _, s := range x.sources {
			// What stands behind every device stands behind checks of the node, too.
			if s.device == prefix || prefix == "" && strings.HasPrefix(id, "nvidia.node.") {
				if slices.ContainsFunc(s.checks, func(p string) bool { return strings.HasPrefix(id, p) }) {
					out[i] = append(out[i], s.Excerpt)
				}
			}
		}
	}
	return out, nil
}

// splitDevice takes the device's prefix off a check's identifier.
func splitDevice(id string) (device, rest string) {
	device, rest, _ = strings.Cut(id, ".")
	if strings.HasPrefix(device, "gpu") || strings.HasPrefix(device, "switch") {
		return device + ".", rest
	}
	return "", id
}

// A source is an excerpt and the checks that rest on it, by the beginning of their identifiers.
type source struct {
	Excerpt
	device string
	checks []string
}

type explainer struct {
	v       *Verifier
	now     time.Time
	sources []source
	device  string // of what is added
}

// add appends bytes by their place.
func (x *explainer) add(in string, all []byte, name string, from, to int, checks ...string) {
	if 0 <= from && from < to && to <= len(all) {
		x.sources = append(x.sources, source{Excerpt{name, in, from, all[from:to]}, x.device, checks})
	}
}

// find appends bytes that are somewhere in all, or come from it in another form.
func (x *explainer) find(in string, all []byte, name string, part []byte, checks ...string) {
	if len(part) == 0 {
		return
	}
	at := -1
	if bytes.Count(all, part) == 1 {
		at = bytes.Index(all, part)
	}
	x.sources = append(x.sources, source{Excerpt{name, in, at, part}, x.device, checks})
}

func (x *explainer) whole(in string, all []byte, checks ...string) {
	x.find(in, all, "all of it", all, checks...)
}

// certificates appends each certificate of a chain.
func (x *explainer) certificates(name string, chain []*x509.Certificate, checks ...string) {
	for _, c := range chain {
		x.whole(name+" "+c.Subject.CommonName, c.Raw, checks...)
	}
}

func (x *explainer) document(kind Kind, raw []byte, want Expected) {
	switch kind {
	case KindTDXQuote, KindSGXQuote:
		q, err := dcap.ParseQuote(raw)
		if err == nil && want.EventLog != nil {
			x.logged(q, want.EventLog)
		} else {
			x.quote(raw)
		}
	case KindSNPReport:
		x.snp(raw, want.Certificates)
	case KindGPUReport:
		x.nvidia(Device{DeviceGPU, raw, want.Certificates})
	case KindSwitchReport:
		x.nvidia(Device{DeviceSwitch, raw, want.Certificates})
	default:
		x.whole("document", raw, CheckParse)
	}
	switch kind {
	case KindEvidence:
		e, err := ParseEvidence(raw)
		if err != nil {
			return
		}
		x.find("document", raw, "nonce", e.Nonce[:], CheckNonce, CheckReportData)
		x.find("document", raw, "keyset", e.Keyset, CheckKeyset, CheckReportData, CheckBuild, CheckConfig, CheckModel)
		x.find("document", raw, "mode", []byte(e.Mode), CheckMode)
		digest := DevicesDigest(e.Devices)
		x.find("devices", nil, "digest over all", digest[:], CheckReportData)
		x.cpu(&e.CPU)
		x.devices(e.Devices)
	case KindTinfoil:
		d, _, e, err := parseTinfoil(raw)
		if err != nil {
			return
		}
		x.find("document", raw, "challenge.nonce", d.Challenge.Nonce[:], CheckNonce, CheckReportData)
		x.find("document", raw, "crypto_material", d.CryptoMaterial, CheckSections, CheckReportData)
		x.find("document", raw, "device_evidence", d.DeviceEvidence, CheckSections, CheckReportData, CheckMode)
		x.find("document", raw, "endorsed.crypto_material_hash", d.CPUEvidence.Endorsed.CryptoMaterial[:], CheckSections)
		x.find("document", raw, "endorsed.device_evidence_hash", d.CPUEvidence.Endorsed.DeviceEvidence[:], CheckSections)
		x.cpu(&e.CPU)
		x.devices(e.Devices)
	case KindDstack:
		d, err := parseDstack(raw)
		if err == nil && d.payload != nil {
			x.find("document", raw, "payload", []byte(*d.payload), CheckPayload)
		}
		switch {
		case err != nil:
		case d.quote != nil:
			x.logged(d.quote, d.log)
		default:
			x.find("document", raw, "configuration", d.config, CheckHostData)
			x.add("report", d.report, "HOST_DATA", 0xc0, 0xe0, CheckHostData)
			x.find("document", raw, "report", d.report, CheckMode)
			x.snp(d.report, d.certificates)
		}
	case KindNEAR:
		q, log, reportData, compose, err := parseNEAR(raw)
		if err != nil {
			return
		}
		x.find("document", raw, "report data for its keys", reportData, CheckReportData)
		x.find("document", raw, "SHA-256 of app_compose", compose[:], CheckCompose)
		if payload, err := log.Runtime("compose-hash"); err == nil {
			x.find("event log", nil, "compose-hash", payload, CheckCompose)
		}
		x.logged(q, log)
	case KindNVIDIAList:
		devices, nonce, err := parseNVIDIAList(raw)
		if err != nil {
			return
		}
		x.find("document", raw, "nonce", nonce[:], CheckNonce)
		x.devices(devices)
	case KindOEReport:
		q, err := parseOEReport(raw)
		if err != nil {
			return
		}
		x.add("report", raw, "header", 0, oeHeader, CheckParse)
		x.quote(q.Raw)
	case KindOECertificate:
		cert, q, want, err := parseOECertificate(raw)
		if err != nil {
			return
		}
		x.find("certificate", cert.Raw, "what is signed", cert.RawTBSCertificate, CheckCertificate)
		x.find("certificate", cert.Raw, "signature", cert.Signature, CheckCertificate)
		x.find("certificate", cert.Raw, "public key", cert.RawSubjectPublicKeyInfo, CheckCertificate, CheckReportData)
		x.find("certificate", nil, "report data for its key", want, CheckReportData)
		x.find("certificate", cert.Raw, "quote", q.Raw, CheckMode)
		x.quote(q.Raw)
	case KindMarbleRun:
		_, root, q, err := parseMarbleRun(raw)
		if err != nil {
			return
		}
		x.find("root certificate", root.Raw, "what is signed", root.RawTBSCertificate, CheckCertificate, CheckReportData)
		x.find("root certificate", root.Raw, "signature", root.Signature, CheckCertificate)
		x.find("document", nil, "report data for it", marbleRunData(root, want.Nonce), CheckReportData)
		x.find("document", nil, "quote", q.Raw, CheckMode)
		x.quote(q.Raw)
	case KindCocoon:
		cert, key, q, err := parseCocoon(raw)
		if err != nil {
			return
		}
		x.find("certificate", cert.Raw, "what is signed", cert.RawTBSCertificate, CheckCertificate)
		x.find("certificate", cert.Raw, "signature", cert.Signature, CheckCertificate)
		x.find("certificate", cert.Raw, "Ed25519 key", key, CheckCertificate, CheckReportData)
		x.find("certificate", cert.Raw, "quote", q.Raw, CheckMode)
		x.quote(q.Raw)
	}
}

// logged explains a quote with an event log.
func (x *explainer) logged(q *dcap.Quote, log *eventlog.Log) {
	x.find("document", nil, "quote", q.Raw, CheckMode)
	x.quote(q.Raw)
	if q.TD != nil {
		for i := range q.TD.RTMR {
			x.find("quote", q.Raw, fmt.Sprintf("RTMR%d", i), q.TD.RTMR[i][:], fmt.Sprintf("eventlog.rtmr%d", i))
		}
	}
	for i, e := range log.Events {
		name := fmt.Sprintf("event %d, %v", i, e.Type)
		if e.Name != "" {
			name += ", " + e.Name
		}
		register := fmt.Sprintf("eventlog.%v%d", log.Registers, e.Register)
		x.find("event log", nil, name+": digest", e.Digest, register, eventlog.CheckDigests)
		x.find("event log", nil, name+": data", e.Data, eventlog.CheckDigests)
	}
}

func (x *explainer) cpu(c *CPU) {
	if c.Kind == CPUSNP {
		x.snp(c.Quote, c.Certificates)
	} else {
		x.quote(c.Quote)
	}
}

func (x *explainer) quote(raw []byte) {
	const in = "quote"
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		x.whole(in, raw, dcap.CheckParse)
		return
	}
	intelTCB := []string{dcap.CheckTCBPlatform, dcap.CheckTCBModule, dcap.CheckTCBStatus, "policy.tcb."}
	x.whole(in, q.Raw, dcap.CheckParse)
	x.add(in, q.Raw, "version, key and TEE type", 0, 8, CheckCPU)
	x.find(in, q.Raw, "header and body, signed", q.Signed, dcap.CheckQuoteSignature)
	x.find(in, q.Raw, "quote signature", q.Signature[:], dcap.CheckQuoteSignature)
	x.find(in, q.Raw, "attestation key", q.AttestationKey[:], dcap.CheckQuoteSignature, dcap.CheckQEBinding)
	x.find(in, q.Raw, "QE report, signed", q.QEReportSigned, dcap.CheckQESignature, dcap.CheckQEMatch, dcap.CheckTCBQE)
	x.find(in, q.Raw, "QE report data", q.QEReport.ReportData[:], dcap.CheckQEBinding)
	x.find(in, q.Raw, "QE authentication data", q.QEAuthData, dcap.CheckQEBinding)
	x.find(in, q.Raw, "QE report signature", q.QEReportSignature[:], dcap.CheckQESignature)
	x.find(in, q.Raw, "certification data", q.CertificationData, dcap.CheckChain)
	data := q.ReportData()
	x.find(in, q.Raw, "report data", data[:], CheckReportData, CheckPayload)
	if td := q.TD; td != nil {
		at := len(q.Signed) - 584
		if q.BodyType == dcap.BodyTD15 {
			at = len(q.Signed) - 648
		}
		tdField := func(name string, from, size int, checks ...string) {
			x.add(in, q.Raw, name, at+from, at+from+size, checks...)
		}
		// Offsets as in Intel's TDX DCAP Quoting Library API, A.3.2 and A.3.3.
		tdField("TEE_TCB_SVN", 0, 16, append(intelTCB, dcap.CheckTCBInfoMatch)...)
		tdField("MRSEAM", 16, 48, dcap.CheckTCBModule)
		tdField("MRSIGNERSEAM", 64, 48, dcap.CheckTCBModule)
		tdField("SEAMATTRIBUTES", 112, 8, dcap.CheckTCBModule)
		tdField("TDATTRIBUTES", 120, 8, CheckDebug, CheckAttributes)
		tdField("MRTD", 136, 48, CheckImage)
		tdField("MRCONFIGID", 184, 48, CheckImage)
		tdField("MROWNER", 232, 48, CheckImage)
		tdField("MROWNERCONFIG", 280, 48, CheckImage)
		for i := range td.RTMR {
			tdField(fmt.Sprintf("RTMR%d", i), 328+48*i, 48, CheckImage)
		}
		if q.BodyType == dcap.BodyTD15 {
			tdField("TEE_TCB_SVN2", 584, 16, intelTCB...)
		}
	} else {
		const at = 48
		x.add(in, q.Raw, "ATTRIBUTES", at+48, at+64, CheckDebug)
		x.add(in, q.Raw, "MRENCLAVE", at+64, at+96, CheckImage)
		x.add(in, q.Raw, "MRSIGNER", at+128, at+160, CheckImage)
		x.add(in, q.Raw, "ISVPRODID, ISVSVN", at+256, at+260, CheckImage)
	}

	pck := []string{dcap.CheckChain, dcap.CheckRevocation, CheckConfiguration, CheckMachine, dcap.CheckQESignature, dcap.CheckTCBInfoMatch}
	var chain []*x509.Certificate
	var platform *dcap.PCK
	for i, der := range q.PCKChain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			break
		}
		chain = append(chain, c)
		checks := []string{dcap.CheckChain, dcap.CheckRevocation}
		if i == 0 {
			checks = slices.Concat(pck, intelTCB)
			platform, _ = dcap.ParsePCK(c)
		}
		x.certificates("certificate", []*x509.Certificate{c}, checks...)
	}
	c := x.v.intelCollateral(x.now, q.TEEType, chain, platform)
	if t := c.TCBInfo; t != nil {
		x.whole("TCB info", t.Raw, slices.Concat(intelTCB, []string{"dcap.tcbinfo."})...)
		x.find("TCB info", nil, "signature", t.Signature[:], dcap.CheckTCBInfoSignature)
		x.certificates("signer of TCB info", c.TCBInfoChain, dcap.CheckTCBInfoSignature, dcap.CheckTCBInfoValidity)
	}
	if e := c.QEIdentity; e != nil {
		x.whole("QE identity", e.Raw, "dcap.qeid.", dcap.CheckQEMatch, dcap.CheckTCBQE, dcap.CheckTCBStatus, "policy.tcb.")
		x.find("QE identity", nil, "signature", e.Signature[:], dcap.CheckQEIDSignature)
		x.certificates("signer of QE identity", c.QEIdentityChain, dcap.CheckQEIDSignature, dcap.CheckQEIDValidity)
	}
	for _, l := range []struct {
		name, check string
		crl         *dcap.CRL
	}{{"root CRL", dcap.CheckRootCRL, c.RootCRL}, {"PCK CRL", dcap.CheckPCKCRL, c.PCKCRL}} {
		if l.crl != nil {
			x.whole(l.name, l.crl.List.Raw, l.check, dcap.CheckRevocation)
		}
	}
}

func (x *explainer) snp(raw, certificates []byte) {
	const in = "report"
	r, err := snp.ParseReport(raw)
	if err != nil {
		x.whole(in, raw, snp.CheckParse, CheckCPU)
		return
	}
	// Offsets as in the ABI's table of ATTESTATION_REPORT.
	at := func(name string, from, to int, checks ...string) { x.add(in, r.Raw, name, from, to, checks...) }
	x.whole(in, r.Raw, snp.CheckParse)
	at("VERSION", 0x00, 0x04, CheckCPU)
	at("all that is signed", 0x00, 0x2a0, snp.CheckSignature)
	at("GUEST_SVN", 0x04, 0x08, CheckImage)
	at("POLICY", 0x08, 0x10, CheckDebug, CheckAttributes)
	at("VMPL", 0x30, 0x34, CheckVMPL)
	at("CURRENT_TCB", 0x38, 0x40, snp.CheckTCB)
	at("PLATFORM_INFO", 0x40, 0x48, CheckConfiguration)
	at("SIGNING_KEY and flags", 0x48, 0x4c, snp.CheckKeyKind, snp.CheckKeyChip, CheckKeyKind)
	at("REPORT_DATA", 0x50, 0x90, CheckReportData, CheckPayload)
	at("MEASUREMENT", 0x90, 0xc0, CheckImage)
	at("HOST_DATA", 0xc0, 0xe0, CheckImage)
	at("ID_KEY_DIGEST", 0xe0, 0x110, CheckImage)
	at("AUTHOR_KEY_DIGEST", 0x110, 0x140, CheckImage)
	at("REPORTED_TCB", 0x180, 0x188, snp.CheckKeyTCB, snp.CheckTCB, CheckTCB)
	at("CPUID", 0x188, 0x18b, snp.CheckKeyProduct, CheckTCB)
	at("CHIP_ID", 0x1a0, 0x1e0, snp.CheckKeyChip, CheckMachine)
	at("COMMITTED_TCB", 0x1e0, 0x1e8, snp.CheckTCB, CheckTCB)
	at("LAUNCH_TCB", 0x1f0, 0x1f8, snp.CheckTCB, CheckTCB)
	at("LAUNCH_MIT_VECTOR", 0x1f8, 0x200, CheckMitigations)
	at("CURRENT_MIT_VECTOR", 0x200, 0x208, CheckMitigations)
	at("SIGNATURE", 0x2a0, snp.ReportSize, snp.CheckSignature)

	a := &appraisal{v: x.v, now: x.now}
	c, err := a.snpCollateral(r, certificates)
	if err != nil {
		x.find("certificates", certificates, "all of it", certificates, snp.CheckChain)
		return
	}
	chain := []string{snp.CheckChain, snp.CheckRevocation}
	for cert, i := c.Key, 0; cert != nil && i < 4; i++ {
		checks := chain
		if i == 0 {
			checks = append(chain, "snp.ek.", snp.CheckSignature, CheckKeyKind, CheckTCB, CheckMitigations)
		}
		x.certificates("certificate", []*x509.Certificate{cert}, checks...)
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			break
		}
		next := slices.IndexFunc(c.Intermediates, func(up *x509.Certificate) bool { return bytes.Equal(up.RawSubject, cert.RawIssuer) })
		if next < 0 {
			break
		}
		cert = c.Intermediates[next]
	}
	for _, l := range c.CRLs {
		x.whole("CRL of "+l.List.Issuer.CommonName, l.List.Raw, snp.CheckCRL, snp.CheckRevocation)
	}
}

func (x *explainer) devices(devices []Device) {
	count := map[DeviceKind]int{}
	for _, d := range devices {
		name := "gpu"
		if d.Kind == DeviceSwitch {
			name = "switch"
		}
		x.device = fmt.Sprintf("%s%d.", name, count[d.Kind])
		count[d.Kind]++
		x.nvidia(d)
	}
	x.device = ""
}

func (x *explainer) nvidia(d Device) {
	in := x.device + "report"
	chain, err := nvidia.ParseChain(d.Certificates, nvidia.ChainLength)
	if err != nil {
		x.whole(x.device+"certificates", d.Certificates, nvidia.CheckChain)
	}
	for i, c := range chain {
		checks := []string{nvidia.CheckChain, nvidia.CheckValidity, nvidia.CheckDeviceOCSP}
		switch i {
		case 0:
			checks = append(checks, nvidia.CheckDebug, nvidia.CheckModel, nvidia.CheckFWID, nvidia.CheckSignature, nvidia.CheckNodeDistinct, CheckDeviceModel)
		case 1:
			checks = append(checks, CheckMachine, nvidia.CheckNodeDistinct)
		}
		x.certificates(x.device+"certificate", []*x509.Certificate{c}, checks...)
	}
	r, err := nvidia.ParseReport(d.Report)
	if err != nil {
		x.whole(in, d.Report, nvidia.CheckParse, "nvidia.node.")
		return
	}
	x.whole(in, d.Report, nvidia.CheckParse)
	x.find(in, d.Report, "nonce of the request", r.Nonce[:], nvidia.CheckNonce, nvidia.CheckNodeNonce)
	x.find(in, d.Report, "all that is signed", r.Signed, nvidia.CheckSignature)
	x.find(in, d.Report, "signature", r.Signature[:], nvidia.CheckSignature)
	behind := map[uint16][]string{
		nvidia.FieldDriverVersion: {nvidia.CheckModel, "nvidia.rim.driver.version", CheckDriver},
		nvidia.FieldVBIOSVersion:  {"nvidia.rim.vbios.version", CheckVBIOS},
		nvidia.FieldNVDEC0:        {nvidia.CheckMeasurements},
		nvidia.FieldFWID:          {nvidia.CheckFWID},
		nvidia.FieldProtectedPCIe: {CheckDeviceCC, nvidia.CheckNodeMode},
		nvidia.FieldSwitchPDIs:    {nvidia.CheckModel, nvidia.CheckNodeTopology, nvidia.CheckNodeDistinct},
		nvidia.FieldGPUPDIs:       {nvidia.CheckModel, nvidia.CheckNodeTopology},
		nvidia.FieldChipInfo:      {nvidia.CheckModel},
		nvidia.FieldLockStatus:    {nvidia.CheckLock},
		nvidia.FieldFeatureFlag:   {CheckDeviceCC, nvidia.CheckNodeMode},
	}
	for _, f := range r.Fields {
		if checks := behind[f.ID]; checks != nil {
			x.find(in, d.Report, fmt.Sprintf("opaque field %d", f.ID), f.Value, checks...)
		}
	}
	for _, m := range r.Measurements {
		x.find(in, d.Report, fmt.Sprintf("measurement %d", m.Index), m.Value, nvidia.CheckMeasurements)
	}
	if len(chain) == 0 {
		return
	}
	model, _, _ := strings.Cut(chain[0].Subject.CommonName, " ")
	used := slices.Clone(chain)
	for _, rim := range x.v.gpu.RIMs {
		role, version := "driver", r.DriverVersion
		if rim.VBIOS() {
			role, version = "vbios", r.VBIOSVersion
		}
		if rim.Product != strings.ReplaceAll(model, "_", "") || rim.Version != version {
			continue
		}
		x.whole(role+" RIM "+rim.TagID, rim.Raw, "nvidia.rim."+role+".", nvidia.CheckMeasurements)
		x.certificates("signer of the "+role+" RIM,", rim.Signers(), "nvidia.rim."+role+".", "nvidia.ocsp.rim."+role)
		used = append(used, rim.Signers()...)
	}
	for _, answer := range x.v.gpu.OCSP {
		if nvidia.AnswersFor(answer.Response, used) {
			x.whole("OCSP answer", answer.Response, "nvidia.ocsp.")
		}
	}
}
