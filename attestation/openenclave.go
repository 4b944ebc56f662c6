package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// What enclave programs of EGo and Open Enclave show: a report, which is an SGX quote behind a header, the certificate of a TLS
// server that carries one, and MarbleRun's certificates beside one.
const (
	KindOEReport      Kind = "open-enclave-report" // what EGo's enclave.GetRemoteReport returns
	KindOECertificate Kind = "open-enclave-ra-tls" // a certificate of EGo's or Open Enclave's with a report in an extension
	KindMarbleRun     Kind = "marblerun-quote"     // a MarbleRun Coordinator's answer to GET /quote or /api/v2/quote
)

// oe_report_header_t of Open Enclave's include/openenclave/internal/report.h: version (4 bytes), type (4) and size of what follows
// (8), little-endian.
const (
	oeHeader  = 16
	oeVersion = 1
	oeLocal   = 1 // an SGX report
	oeRemote  = 2 // an SGX quote

	clauseOEReport = "Open Enclave, oe_report_header_t"
	clauseOECert   = "Open Enclave, X509_OID_FOR_NEW_QUOTE_STRING"
)

// isOEReport tells a report from anything else by its header or the quote behind it; parseOEReport says the rest.
func isOEReport(b []byte) bool {
	if len(b) < oeHeader {
		return false
	}
	version, kind := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if version == oeVersion && (kind == oeLocal || kind == oeRemote) {
		return true
	}
	switch bareKind(b[oeHeader:]) {
	case KindSGXQuote, KindTDXQuote:
		return version < 256 && kind < 256
	}
	return false
}

// parseOEReport returns the quote of a remote report. The header must be right to the byte.
func parseOEReport(b []byte) (*dcap.Quote, error) {
	if len(b) < oeHeader {
		return nil, fmt.Errorf("report of %d bytes, shorter than its header", len(b))
	}
	version, kind, size := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])
	switch {
	case version != oeVersion:
		return nil, fmt.Errorf("header of version %d; this program reads version %d", version, oeVersion)
	case kind == oeLocal:
		return nil, errors.New("a local report, which another enclave on the same machine alone can check; ask for a remote one (EGo: GetRemoteReport)")
	case kind != oeRemote:
		return nil, fmt.Errorf("report of the unknown type %d", kind)
	case size != uint64(len(b)-oeHeader):
		return nil, fmt.Errorf("the header states %d bytes, and %d follow", size, len(b)-oeHeader)
	}
	q, err := dcap.ParseQuote(b[oeHeader:])
	switch {
	case err != nil:
		return nil, err
	case q.TEEType != dcap.TEESGX:
		return nil, fmt.Errorf("the header announces SGX, and a quote of %s follows", q.TEEType)
	case len(q.Trailing) > 0:
		return nil, fmt.Errorf("%d bytes after the quote", len(q.Trailing))
	}
	return q, nil
}

// oeReport appraises a report like the quote that it holds. Report data is padded with zeros as EGo pads it.
func (a *appraisal) oeReport(raw, reportData []byte) {
	q, err := parseOEReport(raw)
	if err != nil {
		a.fail(CheckParse, clauseOEReport, err)
		return
	}
	a.pass(CheckParse, clauseOEReport, fmt.Sprintf("version %d, remote, %d bytes", oeVersion, len(q.Raw)))
	if reportData != nil {
		reportData = append(bytes.Clone(reportData), make([]byte, 64-len(reportData))...)
	}
	a.intel(q, dcap.TEESGX, reportData)
	a.bare()
}

var (
	oidOEQuote    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 105, 1}
	oidOldOEQuote = asn1.ObjectIdentifier{1, 2, 840, 113556, 10, 1, 1} // Open Enclave's until 2020; its verifiers still take it
)

// isOECertificate tells whether a DER certificate carries a report.
func isOECertificate(der []byte) bool {
	if len(der) == 0 || der[0] != 0x30 {
		return false
	}
	c, err := x509.ParseCertificate(der)
	return err == nil && (extension(c, oidOEQuote) != nil || extension(c, oidOldOEQuote) != nil)
}

// parseOECertificate returns the certificate, its quote, and the report data that its key demands: its digest, as EGo or as Open
// Enclave takes it, whichever of the two the quote carries.
func parseOECertificate(der []byte) (*x509.Certificate, *dcap.Quote, []byte, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, nil, err
	}
	report, old := extension(c, oidOEQuote), extension(c, oidOldOEQuote)
	if report != nil && old != nil {
		return nil, nil, nil, errors.New("the certificate carries two reports")
	}
	if report == nil {
		report = old
	}
	q, err := parseOEReport(report)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	if err != nil {
		return nil, nil, nil, err
	}
	ego := sha256.Sum256(key)
	// Open Enclave hashes the PEM text, and the zero byte that ends a C string.
	oe := sha256.Sum256(append(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key}), 0))
	want := make([]byte, 64)
	if copy(want, ego[:]); bytes.Equal(q.SGX.ReportData[:32], oe[:]) {
		copy(want, oe[:])
	}
	return c, q, want, nil
}

// oeCertificate appraises the certificate that a TLS server in an enclave shows. As with Cocoon's, there is no nonce. EGo's clients
// leave its signature to the handshake and accept any issuer; here it must be its own key's, since nothing else vouches for what
// stands in it beside the key.
func (a *appraisal) oeCertificate(der []byte) {
	cert, q, want, err := parseOECertificate(der)
	if err != nil {
		a.fail(CheckParse, clauseOECert, err)
		return
	}
	a.pass(CheckParse, clauseOECert, cert.Subject.CommonName)
	a.raTLS(cert, q, dcap.TEESGX, want, oidOEQuote, oidOldOEQuote)
	key := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	a.res.Claims["key.tls.sha256"] = fmt.Sprintf("%x", key)
}

const notItsOwn = "the certificate is not signed by its own key"

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// certificate checks a certificate that a quote vouches for: without the fault, when there is one, in force, and without critical
// extensions but the known.
func (a *appraisal) certificate(cert *x509.Certificate, fault string, known ...asn1.ObjectIdentifier) {
	c := check.Check{ID: CheckCertificate, Clause: "RFC 5280, 4.1.2.5 and 6.1", Status: check.Pass,
		Seen: stamp(cert.NotBefore) + " to " + stamp(cert.NotAfter), Wanted: stamp(a.now)}
	switch unknown := unknownCritical(cert, known); {
	case fault != "":
		c.Status, c.Detail = check.Fail, fault
	case a.now.Before(cert.NotBefore) || a.now.After(cert.NotAfter):
		c.Status, c.Detail = check.Fail, "the certificate is not in force"
	case unknown != nil:
		c.Status, c.Detail = check.Fail, fmt.Sprintf("the certificate has the unknown critical extension %v", unknown)
	}
	a.add(c)
	a.res.until(cert.NotAfter)
}

// clauseMarbleRun names the two forms of the answer, which differ in the case of their members.
const clauseMarbleRun = "MarbleRun client API, CertQuoteResponse"

// isMarbleRun judges by the members that data holds, in either case.
func isMarbleRun(data json.RawMessage) bool {
	var m struct {
		Cert  json.RawMessage `json:"cert"`
		Quote json.RawMessage `json:"quote"`
	}
	return json.Unmarshal(data, &m) == nil && m.Cert != nil && m.Quote != nil
}

// parseMarbleRun returns the Coordinator's intermediate and root certificates, and its quote.
func parseMarbleRun(raw []byte) (intermediate, root *x509.Certificate, q *dcap.Quote, err error) {
	type answer struct {
		Status string `json:"status"`
		Data   struct {
			Cert  string `json:"cert"`
			Quote []byte `json:"quote"`
		} `json:"data"`
	}
	var v2 answer
	var v1 struct {
		Status string `json:"status"`
		Data   struct {
			Cert  string `json:"Cert"`
			Quote []byte `json:"Quote"`
		} `json:"data"`
	}
	if err = strictjson.Unmarshal(raw, &v2, MaxEvidence); err != nil && strictjson.Unmarshal(raw, &v1, MaxEvidence) == nil {
		v2, err = answer(v1), nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if v2.Status != "success" {
		return nil, nil, nil, fmt.Errorf("an answer of status %.20q", v2.Status)
	}
	var chain []*x509.Certificate
	rest := []byte(v2.Data.Cert)
	for range 2 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, nil, err
		}
		chain = append(chain, c)
	}
	if len(chain) != 2 || len(bytes.TrimSpace(rest)) != 0 {
		return nil, nil, nil, errors.New("cert is not two certificates in PEM, intermediate and root")
	}
	if len(v2.Data.Quote) == 0 {
		return nil, nil, nil, errors.New("there is no quote: the Coordinator runs in simulation")
	}
	q, err = parseOEReport(v2.Data.Quote)
	return chain[0], chain[1], q, err
}

// marbleRunData is what the quote of a Coordinator with this root certificate carries for a nonce, nil when it was asked without.
func marbleRunData(root *x509.Certificate, nonce []byte) []byte {
	h := sha256.New()
	h.Write(root.Raw)
	h.Write(nonce)
	return h.Sum(make([]byte, 0, 64))[:64] // the second half is zero
}

// marbleRun appraises a Coordinator. Its manifest is another of its answers, and not looked at.
func (a *appraisal) marbleRun(raw, nonce []byte) {
	intermediate, root, q, err := parseMarbleRun(raw)
	if err != nil {
		a.fail(CheckParse, clauseMarbleRun, err)
		return
	}
	a.pass(CheckParse, clauseMarbleRun, root.Subject.CommonName)
	if nonce == nil {
		a.append(check.Check{ID: CheckNonce, Clause: clauseMarbleRun, Status: check.Skip, Detail: "no nonce was given to ask with: nothing says how old the quote is"})
	}
	fault := ""
	switch {
	case !selfSigned(root):
		fault = notItsOwn
	case intermediate.CheckSignatureFrom(root) != nil:
		fault = "the intermediate certificate is not signed by the root"
	case a.now.Before(intermediate.NotBefore) || a.now.After(intermediate.NotAfter):
		fault = "the intermediate certificate is not in force"
	case len(intermediate.UnhandledCriticalExtensions) > 0:
		fault = "the intermediate certificate has an unknown critical extension"
	}
	a.certificate(root, fault)
	a.res.until(intermediate.NotAfter)
	a.intel(q, dcap.TEESGX, marbleRunData(root, nonce))
	a.judge(CheckMode, a.v.policy.Devices.JudgeMode(string(ModeCPU), 0, 0))
	a.unstated(true, elsewhere)
	a.res.Claims["certificate.root.sha256"] = fmt.Sprintf("%x", sha256.Sum256(root.Raw))
	a.res.Claims["certificate.intermediate.sha256"] = fmt.Sprintf("%x", sha256.Sum256(intermediate.Raw))
}
