package attestationtest

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Identifiers of the mock Intel. The QE and its vendor carry Intel's own values.
const (
	fmspc      = "70a06d070000"
	qeMRSIGNER = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"
)

var qeVendorID = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// TCB statuses, in Intel's words.
const (
	UpToDate                          = "UpToDate"
	SWHardeningNeeded                 = "SWHardeningNeeded"
	ConfigurationNeeded               = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                         = "OutOfDate"
	OutOfDateConfigurationNeeded      = "OutOfDateConfigurationNeeded"
	Revoked                           = "Revoked"
	NotSupported                      = "NotSupported" // matches no level
)

// ladder lists the statuses from the newest platform to the oldest; its security version numbers are their distance
// from the end, and 0 matches no level.
var ladder = []string{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate,
	OutOfDateConfigurationNeeded, Revoked}

// enclaveLadder holds the statuses that TDX modules and Quoting Enclaves can have.
var enclaveLadder = []string{UpToDate, OutOfDate, Revoked}

// svnOf returns the security version number that stands for status, and an error for a status the ladder lacks.
func svnOf(ladder []string, status string) (byte, error) {
	if status == "" {
		status = UpToDate
	}
	if status == NotSupported {
		return 0, nil
	}
	for i, s := range ladder {
		if s == status {
			return byte(len(ladder) - i), nil
		}
	}
	return 0, fmt.Errorf("attestationtest: no TCB status %q here, want one of %q or %q", status, ladder, NotSupported)
}

// advisories that come with a status.
func advisories(status string) []string {
	switch status {
	case UpToDate, ConfigurationNeeded:
		return nil
	case SWHardeningNeeded, ConfigurationAndSWHardeningNeeded:
		return []string{"INTEL-SA-00615"}
	}
	return []string{"INTEL-SA-00837", "INTEL-SA-00960"}
}

type intel struct {
	root, platformCA, processorCA, tcbSigner *signer
}

func intelName(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"},
		Province: []string{"CA"}, Country: []string{"US"}}
}

// Intel's certificates live from 2018 to the end of 2049; so do these.
var (
	intelFrom = time.Date(2018, 5, 21, 10, 45, 10, 0, time.UTC)
	intelTo   = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

func (a *Authority) newIntel() intel {
	cert := func(cn string, pathLen int) *x509.Certificate {
		return &x509.Certificate{Subject: intelName(cn), NotBefore: intelFrom, NotAfter: intelTo, IsCA: true, MaxPathLen: pathLen,
			MaxPathLenZero: pathLen == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			CRLDistributionPoints: []string{"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"}}
	}
	p256 := elliptic.P256()
	root := (*signer)(nil).issue(cert("Intel SGX Root CA", 1), a.key(p256, "intel root"))
	return intel{
		root:        root,
		platformCA:  root.issue(cert("Intel SGX PCK Platform CA", 0), a.key(p256, "intel platform CA")),
		processorCA: root.issue(cert("Intel SGX PCK Processor CA", 0), a.key(p256, "intel processor CA")),
		tcbSigner: root.issue(&x509.Certificate{Subject: intelName("Intel SGX TCB Signing"), NotBefore: intelFrom, NotAfter: intelTo,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment},
			a.key(p256, "intel tcb signing")),
	}
}

var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

func sgxOID(arc ...int) asn1.ObjectIdentifier {
	return append(oidSGX[:len(oidSGX):len(oidSGX)], arc...)
}

// sgxEntry is one SEQUENCE { OBJECT IDENTIFIER, value } of the SGX extension.
type sgxEntry struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// sgxExtension encodes the SGX extension of a PCK certificate (Intel SGX PCK Certificate and CRL Profile Specification,
// section 1.3.5).
func sgxExtension(ppid, instance []byte, svn [16]byte, pceSVN int, platform bool) []byte {
	var tcb []sgxEntry
	for i, v := range svn {
		tcb = append(tcb, sgxEntry{sgxOID(2, i+1), int(v)})
	}
	tcb = append(tcb, sgxEntry{sgxOID(2, 17), pceSVN}, sgxEntry{sgxOID(2, 18), svn[:]})
	all := []sgxEntry{
		{sgxOID(1), ppid},
		{sgxOID(2), tcb},
		{sgxOID(3), []byte{0, 0}},
		{sgxOID(4), must(hex.DecodeString(fmspc))},
	}
	if platform {
		all = append(all, sgxEntry{sgxOID(5), asn1.Enumerated(1)}, sgxEntry{sgxOID(6), instance},
			sgxEntry{sgxOID(7), []sgxEntry{{sgxOID(7, 1), true}, {sgxOID(7, 2), false}, {sgxOID(7, 3), true}}})
	} else {
		all = append(all, sgxEntry{sgxOID(5), asn1.Enumerated(0)})
	}
	return must(asn1.Marshal(sgxSequence(all)))
}

// sgxSequence replaces nested entry lists by raw values, which encoding/asn1 needs for values of mixed types.
func sgxSequence(entries []sgxEntry) []asn1.RawValue {
	var out []asn1.RawValue
	for _, e := range entries {
		if nested, ok := e.Value.([]sgxEntry); ok {
			e.Value = sgxSequence(nested)
		}
		body := append(must(asn1.Marshal(e.ID)), must(asn1.Marshal(e.Value))...)
		out = append(out, asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: body})
	}
	return out
}

// platform is one machine's provisioning: its PCK certificate and Quoting Enclave.
type platform struct {
	pck      *signer
	chain    []byte // PEM, leaf first
	svn      [16]byte
	ppid     []byte
	attKey   *key
	authData []byte
	qeSVN    uint16
}

const pceSVN = 13

func (a *Authority) newPlatform(c NodeConfig) (*platform, error) {
	svn, err := svnOf(ladder, c.Platform)
	if err != nil {
		return nil, err
	}
	qeSVN, err := svnOf(enclaveLadder, c.QE)
	if err != nil {
		return nil, err
	}
	p := &platform{ppid: a.bytes(16, "ppid ", c.Name), qeSVN: uint16(qeSVN), authData: a.bytes(32, "qe auth ", c.Name),
		attKey: a.key(elliptic.P256(), "attestation key ", c.Name)}
	p.svn = [16]byte{svn, svn, 2, 2, 3, 1, 0, 3}
	ca, url := a.intel.platformCA, "platform"
	if c.ProcessorCA {
		ca, url = a.intel.processorCA, "processor"
	}
	p.pck = ca.issue(&x509.Certificate{
		Subject: intelName("Intel SGX PCK Certificate"), NotBefore: intelFrom, NotAfter: intelTo, BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		CRLDistributionPoints: []string{"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=" + url + "&encoding=der"},
		ExtraExtensions: []pkix.Extension{{Id: oidSGX,
			Value: sgxExtension(p.ppid, a.bytes(16, "platform instance ", c.Name), p.svn, pceSVN, !c.ProcessorCA)}},
	}, a.key(elliptic.P256(), "pck ", c.Name, p.svn))
	p.chain = pemChain(p.pck, ca, a.intel.root)
	return p, nil
}

// tdReport lays out a TD report body: 584 bytes for TDX 1.0, 648 for 1.5.
func (n *Node) tdReport(reportData [64]byte) []byte {
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	var tcb [16]byte
	tcb[0], tcb[1], tcb[2] = n.moduleSVN, 1, n.platform.svn[0]
	b.Write(tcb[:])
	mrseam := n.auth.digest("tdx module ", n.moduleSVN)
	b.Write(mrseam[:])
	b.Write(make([]byte, 48+8)) // MRSIGNERSEAM and SEAM attributes: zero for Intel's module
	le(n.config.TDAttributes)
	le(uint64(0x61ae7)) // XFAM of a Sapphire Rapids guest: x87 to AMX
	m := n.auth.Image(n.config.Image)
	if n.config.RTMR != nil {
		m.RTMR = *n.config.RTMR
	}
	b.Write(m.MRTD[:])
	b.Write(make([]byte, 3*48)) // MRCONFIGID, MROWNER, MROWNERCONFIG
	for _, r := range m.RTMR {
		b.Write(r[:])
	}
	b.Write(reportData[:])
	if n.config.QuoteVersion == 5 {
		tcb[0] = n.moduleNow
		b.Write(tcb[:])
		b.Write(make([]byte, 48)) // MRSERVICETD: none bound
	}
	return b.Bytes()
}

// Quote returns a DCAP quote of the node's TD that carries reportData (Intel TDX DCAP Quoting Library API, appendix 3).
func (n *Node) Quote(reportData [64]byte) []byte {
	p := n.platform
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }

	le(uint16(n.config.QuoteVersion))
	le(uint16(2)) // ECDSA-256 with P-256
	le(uint32(0x81))
	le(uint32(0)) // reserved
	b.Write(qeVendorID[:])
	b.Write(append(n.auth.bytes(16, "qe id ", n.config.Name), 0, 0, 0, 0))
	body := n.tdReport(reportData)
	if n.config.QuoteVersion == 5 {
		le(uint16(3)) // TD report 1.5
		le(uint32(len(body)))
	}
	b.Write(body)
	signature := p.attKey.raw(b.Bytes())

	nested := n.certification(tdQE)
	le(uint32(64 + 64 + 6 + len(nested)))
	b.Write(signature)
	b.Write(p.attKey.point())
	le(uint16(6)) // QE report certification data
	le(uint32(len(nested)))
	b.Write(nested)
	return b.Bytes()
}

// EnclaveQuote returns a version 3 DCAP quote of an SGX enclave on the node's machine that carries reportData (Intel SGX ECDSA
// Quote Library API, appendix A.4). The enclave is [Authority.Enclave]; with NodeConfig.Debug it is a debug enclave.
func (n *Node) EnclaveQuote(reportData [64]byte) []byte {
	p, e := n.platform, n.auth.Enclave()
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	for _, v := range []uint16{3, 2, 0, 0, 8, pceSVN} { // version, ECDSA-256 with P-256, reserved, QE and PCE SVN
		le(v)
	}
	b.Write(qeVendorID[:])
	b.Write(append(n.auth.bytes(16, "qe id ", n.config.Name), 0, 0, 0, 0))
	body := make([]byte, 384)
	copy(body, p.svn[:])
	body[48], body[56] = 0x05, 0xe7 // ATTRIBUTES: INIT and MODE64BIT; XFRM
	if n.config.Debug {
		body[48] |= 0x02
	}
	copy(body[64:], e.MRENCLAVE[:])
	copy(body[128:], e.MRSIGNER[:])
	binary.LittleEndian.PutUint16(body[256:], e.ISVProdID)
	binary.LittleEndian.PutUint16(body[258:], e.ISVSVN)
	copy(body[320:], reportData[:])
	b.Write(body)
	signature := p.attKey.raw(b.Bytes())

	nested := n.certification(sgxQE)
	le(uint32(64 + 64 + len(nested)))
	b.Write(signature)
	b.Write(p.attKey.point())
	b.Write(nested)
	return b.Bytes()
}

// An Enclave is what SGX measures and states of an enclave.
type Enclave struct {
	MRENCLAVE, MRSIGNER [32]byte
	ISVProdID, ISVSVN   uint16
}

// Enclave returns the SGX enclave that the nodes run.
func (a *Authority) Enclave() Enclave {
	return Enclave{[32]byte(a.bytes(32, "mrenclave")), [32]byte(a.bytes(32, "mrsigner")), 1, 3}
}

// ISVPRODIDs of Intel's Quoting Enclaves.
const (
	sgxQE = 1
	tdQE  = 2
)

// certification is what vouches for the attestation key: the Quoting Enclave's report, and the PCK chain that signed it.
func (n *Node) certification(product uint16) []byte {
	p := n.platform
	qe := n.qeReport(product)
	var b bytes.Buffer
	b.Write(qe)
	b.Write(p.pck.key.raw(qe))
	binary.Write(&b, binary.LittleEndian, uint16(len(p.authData)))
	b.Write(p.authData)
	binary.Write(&b, binary.LittleEndian, uint16(5)) // PCK chain in PEM
	binary.Write(&b, binary.LittleEndian, uint32(len(p.chain)))
	b.Write(p.chain)
	return b.Bytes()
}

// qeReport is the Quoting Enclave's report, 384 bytes (Intel SDM volume 3D, 38.15).
func (n *Node) qeReport(product uint16) []byte {
	p := n.platform
	b := make([]byte, 384)
	copy(b, p.svn[:])
	b[48] = 0x11 // ATTRIBUTES: INIT and PROVISION_KEY
	b[56] = 0xe7 // XFRM
	copy(b[64:], n.auth.bytes(32, "qe mrenclave"))
	copy(b[128:], must(hex.DecodeString(qeMRSIGNER)))
	binary.LittleEndian.PutUint16(b[256:], product)
	binary.LittleEndian.PutUint16(b[258:], p.qeSVN)
	d := sha256.Sum256(append(p.attKey.point(), p.authData...))
	copy(b[320:], d[:])
	return b
}

// The types below keep Intel's order of members, so that the signed bytes look like the real ones.
type tcbComponent struct {
	SVN      int    `json:"svn"`
	Category string `json:"category,omitempty"`
	Type     string `json:"type,omitempty"`
}

type tcbLevel struct {
	TCB        any      `json:"tcb"`
	Date       string   `json:"tcbDate"`
	Status     string   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs,omitempty"`
}

func components(svn ...byte) []tcbComponent {
	out := make([]tcbComponent, 16)
	for i, v := range svn {
		out[i].SVN = int(v)
	}
	return out
}

const intelTime = "2006-01-02T15:04:05Z"

// enclaveLevels are the levels of a TDX module or Quoting Enclave.
func enclaveLevels(date string) []tcbLevel {
	var out []tcbLevel
	for i, status := range enclaveLadder {
		tcb := struct {
			ISVSVN int `json:"isvsvn"`
		}{len(enclaveLadder) - i}
		out = append(out, tcbLevel{tcb, date, status, advisories(status)})
	}
	return out
}

// tcbInfo returns the mock PCS's answer to a TCB info request for "TDX" or "SGX": the document and its signature.
func (a *Authority) tcbInfo(id string, issued, next time.Time, evaluation int) []byte {
	type identity struct {
		ID             string     `json:"id,omitempty"`
		MRSIGNER       string     `json:"mrsigner"`
		Attributes     string     `json:"attributes"`
		AttributesMask string     `json:"attributesMask"`
		Levels         []tcbLevel `json:"tcbLevels,omitempty"`
	}
	date := issued.AddDate(0, -6, 0).Format("2006-01-02T00:00:00Z")
	zero := fmt.Sprintf("%096d", 0)
	var levels []tcbLevel
	for i, status := range ladder {
		svn := byte(len(ladder) - i)
		sgx := components(svn, svn, 2, 2, 3, 1, 0, 3)
		sgx[0].Category, sgx[0].Type = "BIOS", "Early Microcode Update"
		sgx[1].Category, sgx[1].Type = "OS/VMM", "SGX Late Microcode Update"
		tdx := components(1, 0, svn)
		tdx[0].Category, tdx[0].Type = "OS/VMM", "TDX Module"
		tdx[1].Category, tdx[1].Type = "OS/VMM", "TDX Module"
		tdx[2].Category, tdx[2].Type = "OS/VMM", "TDX Late Microcode Update"
		if id == "SGX" {
			tdx = nil
		}
		levels = append(levels, tcbLevel{struct {
			SGX    []tcbComponent `json:"sgxtcbcomponents"`
			PCESVN int            `json:"pcesvn"`
			TDX    []tcbComponent `json:"tdxtcbcomponents,omitempty"`
		}{sgx, pceSVN, tdx}, date, status, advisories(status)})
	}
	doc := struct {
		ID         string     `json:"id"`
		Version    int        `json:"version"`
		Issued     string     `json:"issueDate"`
		Next       string     `json:"nextUpdate"`
		FMSPC      string     `json:"fmspc"`
		PCEID      string     `json:"pceId"`
		Type       int        `json:"tcbType"`
		Evaluation int        `json:"tcbEvaluationDataNumber"`
		Module     *identity  `json:"tdxModule,omitempty"`
		Modules    []identity `json:"tdxModuleIdentities,omitempty"`
		Levels     []tcbLevel `json:"tcbLevels"`
	}{id, 3, issued.Format(intelTime), next.Format(intelTime), fmspc, "0000", 0, evaluation, nil, nil, levels}
	if id == "TDX" {
		doc.Module = &identity{"", zero, "0000000000000000", "FFFFFFFFFFFFFFFF", nil}
		doc.Modules = []identity{{"TDX_01", zero, "0000000000000000", "FFFFFFFFFFFFFFFF", enclaveLevels(date)}}
	}
	return a.signedJSON("tcbInfo", doc)
}

// qeIdentity returns the mock PCS's answer to a QE identity request for "TD_QE" or "QE", whose ISVPRODID is product.
func (a *Authority) qeIdentity(id string, product int, issued, next time.Time, evaluation int) []byte {
	doc := struct {
		ID             string     `json:"id"`
		Version        int        `json:"version"`
		Issued         string     `json:"issueDate"`
		Next           string     `json:"nextUpdate"`
		Evaluation     int        `json:"tcbEvaluationDataNumber"`
		MiscSelect     string     `json:"miscselect"`
		MiscSelectMask string     `json:"miscselectMask"`
		Attributes     string     `json:"attributes"`
		AttributesMask string     `json:"attributesMask"`
		MRSIGNER       string     `json:"mrsigner"`
		ISVProdID      int        `json:"isvprodid"`
		Levels         []tcbLevel `json:"tcbLevels"`
	}{id, 2, issued.Format(intelTime), next.Format(intelTime), evaluation, "00000000", "FFFFFFFF",
		"11000000000000000000000000000000", "FBFFFFFFFFFFFFFF0000000000000000", qeMRSIGNER, product,
		enclaveLevels(issued.AddDate(0, -6, 0).Format("2006-01-02T00:00:00Z"))}
	return a.signedJSON("enclaveIdentity", doc)
}

func (a *Authority) signedJSON(member string, doc any) []byte {
	body := must(json.Marshal(doc))
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, member, body, a.intel.tcbSigner.key.raw(body))
}
