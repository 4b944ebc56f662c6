package attestation

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// Composite documents of other networks. An auditor's tool must read more than its own format; each is appraised by what
// that network itself binds, under the same policy.
const (
	KindTinfoil Kind = "tinfoil-v3"    // Tinfoil's attestation document, version 3
	KindDstack  Kind = "dstack-quote"  // dstack's quote with its event log
	KindNEAR    Kind = "near-mpc"      // NEAR MPC node's public data
	KindCocoon  Kind = "cocoon-ra-tls" // Cocoon's RA-TLS certificate
	tinfoilV3        = "https://tinfoil.sh/predicate/attestation/v3"
)

// elsewhere says why nothing is known of the workloads that a policy lists.
const elsewhere = "documents of this network do not state it"

// Identifiers of the checks that only documents of others need.
const (
	CheckSections    = "foreign.sections"    // the document's sections have the hashes that it states
	CheckCompose     = "foreign.compose"     // the compose file shown is the one measured
	CheckCertificate = "foreign.certificate" // the certificate is signed by its own key and in force
)

// foreignKind tells whose document b is, "" when nobody's that is known.
func foreignKind(b []byte) Kind {
	if block, _ := pem.Decode(b); block != nil && block.Type == "CERTIFICATE" {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && extension(c, oidCocoonQuote) != nil {
			return KindCocoon
		}
		return ""
	}
	if isNVIDIAList(b) {
		return KindNVIDIAList
	}
	var m struct {
		Format   string          `json:"format"`
		Quote    string          `json:"quote"`
		EventLog json.RawMessage `json:"event_log"`
		NEAR     json.RawMessage `json:"near_p2p_public_key"`
		Data     json.RawMessage `json:"data"`
	}
	if json.Unmarshal(b, &m) != nil {
		return ""
	}
	switch {
	case m.Format == tinfoilV3:
		return KindTinfoil
	case m.NEAR != nil:
		return KindNEAR
	case m.Quote != "" && m.EventLog != nil:
		return KindDstack
	case m.Data != nil && isMarbleRun(m.Data):
		return KindMarbleRun
	}
	return ""
}

func (v *Verifier) appraiseForeign(now time.Time, kind Kind, raw []byte, want Expected) *Result {
	a := v.begin(now, kind, raw)
	defer a.res.finish()
	switch kind {
	case KindTinfoil:
		a.tinfoil(raw, want.Nonce)
	case KindDstack:
		a.dstack(raw, want.ReportData)
	case KindNEAR:
		a.near(raw)
	case KindCocoon:
		a.cocoon(raw)
	case KindNVIDIAList:
		a.nvidiaList(raw, want.Nonce)
	case KindOEReport:
		a.oeReport(raw, want.ReportData)
	case KindOECertificate:
		a.oeCertificate(raw)
	case KindMarbleRun:
		a.marbleRun(raw, want.Nonce)
	}
	return a.res
}

// tinfoilDocument is the wire form of Tinfoil's version 3. The two sections travel as base64 and are hashed as they are.
type tinfoilDocument struct {
	Format    string `json:"format"`
	Challenge struct {
		Nonce               [32]byte `json:"nonce"`
		ReportData          [64]byte `json:"report_data"`
		ReportDataAlgorithm string   `json:"report_data_algorithm"`
	} `json:"challenge"`
	CPUEvidence struct {
		Format   string `json:"format"`
		Report   []byte `json:"report_base64"`
		Endorsed struct {
			CryptoMaterial [32]byte `json:"crypto_material_hash"`
			DeviceEvidence [32]byte `json:"device_evidence_hash"`
		} `json:"endorsed"`
	} `json:"cpu_evidence"`
	CryptoMaterial []byte         `json:"crypto_material"`
	DeviceEvidence []byte         `json:"device_evidence"`
	Collateral     strictjson.Raw `json:"collateral"` // untrusted transport; what is appraised comes from the bundle
}

type tinfoilKeys struct {
	Format string `json:"format"`
	Items  []struct {
		ID     string `json:"id"`
		Format string `json:"format"`
		Data   string `json:"data"`
	} `json:"items"`
}

type tinfoilDevices struct {
	Format string          `json:"format"`
	Items  []tinfoilDevice `json:"items"`
}

type tinfoilDevice struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Vendor   string `json:"vendor"`
	Format   string `json:"format"`
	Evidence struct {
		Arch        string   `json:"arch"`
		Certificate []byte   `json:"certificate"`
		Evidence    []byte   `json:"evidence"`
		Nonce       [32]byte `json:"nonce"`
	} `json:"evidence"`
}

const (
	tinfoilReportData = "https://tinfoil.sh/report-data/v1"
	clauseTinfoil     = "Tinfoil attestation document v3"
)

// parseTinfoil returns the document, its keys, and what of it is appraised as Evidence.
func parseTinfoil(raw []byte) (d *tinfoilDocument, keys *tinfoilKeys, e *Evidence, err error) {
	d, keys = new(tinfoilDocument), new(tinfoilKeys)
	var devices tinfoilDevices
	if err := strictjson.Unmarshal(raw, d, MaxEvidence); err != nil {
		return nil, nil, nil, err
	}
	if err := strictjson.Unmarshal(d.CryptoMaterial, keys, MaxEvidence); err != nil {
		return nil, nil, nil, fmt.Errorf("crypto_material: %w", err)
	}
	if err := strictjson.Unmarshal(d.DeviceEvidence, &devices, MaxEvidence); err != nil {
		return nil, nil, nil, fmt.Errorf("device_evidence: %w", err)
	}
	if d.Format != tinfoilV3 || d.Challenge.ReportDataAlgorithm != tinfoilReportData ||
		keys.Format != "https://tinfoil.sh/crypto-material/v1" || devices.Format != "https://tinfoil.sh/device-evidence/v1" {
		return nil, nil, nil, errors.New("the document or a section of it is of an unknown format")
	}
	e = &Evidence{CPU: CPU{Quote: d.CPUEvidence.Report}}
	switch d.CPUEvidence.Format {
	case "https://tinfoil.sh/format/tdx-quote/v1":
		e.CPU.Kind = CPUTDX
	case "https://tinfoil.sh/format/sev-snp-report/v1":
		e.CPU.Kind = CPUSNP
	default:
		return nil, nil, nil, fmt.Errorf("CPU evidence of the unknown format %q", d.CPUEvidence.Format)
	}
	for _, item := range devices.Items {
		if item.Kind != "gpu" || item.Vendor != "nvidia" || item.Format != "https://tinfoil.sh/format/nvidia-gpu-evidence/v1" {
			return nil, nil, nil, fmt.Errorf("device %q is of an unknown format", item.ID)
		}
		e.Devices = append(e.Devices, Device{Kind: DeviceGPU, Report: item.Evidence.Evidence, Certificates: item.Evidence.Certificate})
	}
	switch n := len(e.Devices); {
	case n == 0:
		e.Mode = ModeCPU
	case n == 1:
		e.Mode = ModeSingleGPU
	case n <= MaxDevices:
		e.Mode = ModeMultiGPU
	default:
		return nil, nil, nil, fmt.Errorf("%d devices, limit %d", n, MaxDevices)
	}
	return d, keys, e, nil
}

func (a *appraisal) tinfoil(raw, nonce []byte) {
	d, keys, e, err := parseTinfoil(raw)
	if err != nil {
		a.fail(CheckParse, clauseTinfoil, err)
		return
	}
	a.pass(CheckParse, clauseTinfoil, fmt.Sprintf("%d keys, %d devices", len(keys.Items), len(e.Devices)))
	a.nonce(d.Challenge.Nonce, nonce)

	material, evidence := sha256.Sum256(d.CryptoMaterial), sha256.Sum256(d.DeviceEvidence)
	c := check.Check{ID: CheckSections, Clause: clauseTinfoil, Status: check.Pass, Seen: fmt.Sprintf("%x, %x", material, evidence),
		Wanted: fmt.Sprintf("%x, %x", d.CPUEvidence.Endorsed.CryptoMaterial, d.CPUEvidence.Endorsed.DeviceEvidence)}
	if material != d.CPUEvidence.Endorsed.CryptoMaterial || evidence != d.CPUEvidence.Endorsed.DeviceEvidence {
		c.Status, c.Detail = check.Fail, "a section was exchanged"
	}
	a.add(c)
	h := sha256.New()
	h.Write([]byte(tinfoilReportData))
	h.Write(d.Challenge.Nonce[:])
	h.Write(material[:])
	h.Write(evidence[:])
	reportData := h.Sum(make([]byte, 0, 64))[:64] // the second half is zero

	// Every GPU answers the challenge's nonce itself.
	found := a.v.appraiseDevices(a.now, e, d.Challenge.Nonce)
	a.cpu(&e.CPU, reportData)
	a.devices(e, found)
	a.unstated(true, elsewhere)
	for _, k := range keys.Items {
		a.res.Claims["key."+k.ID] = k.Data
	}
}

// nearDocument is what a NEAR MPC node publishes.
type nearDocument struct {
	Signer     string         `json:"near_signer_public_key"`
	P2P        string         `json:"near_p2p_public_key"`
	Responders strictjson.Raw `json:"near_responder_public_keys"` // bound by nothing
	Info       struct {
		Dstack struct {
			Quote      []uint16       `json:"quote"` // bytes
			Collateral strictjson.Raw `json:"collateral"`
			TCBInfo    struct {
				MRTD       strictjson.Raw `json:"mrtd"` // these repeat the quote
				RTMR0      strictjson.Raw `json:"rtmr0"`
				RTMR1      strictjson.Raw `json:"rtmr1"`
				RTMR2      strictjson.Raw `json:"rtmr2"`
				RTMR3      strictjson.Raw `json:"rtmr3"`
				Image      strictjson.Raw `json:"os_image_hash"`
				Compose    strictjson.Raw `json:"compose_hash"`
				Device     strictjson.Raw `json:"device_id"`
				AppCompose string         `json:"app_compose"`
				EventLog   strictjson.Raw `json:"event_log"`
			} `json:"tcb_info"`
		} `json:"Dstack"`
	} `json:"tee_participant_info"`
}

// parseNEAR returns the quote, its log, the report data that the node's keys demand, and the digest of its compose file.
func parseNEAR(raw []byte) (q *dcap.Quote, log *eventlog.Log, reportData []byte, compose [32]byte, err error) {
	var d nearDocument
	if err = strictjson.Unmarshal(raw, &d, MaxEvidence); err != nil {
		return
	}
	quote := make([]byte, 0, len(d.Info.Dstack.Quote))
	for _, b := range d.Info.Dstack.Quote {
		if b > 255 {
			err = errors.New("quote: not a list of bytes")
			return
		}
		quote = append(quote, byte(b))
	}
	// Version 1: SHA3-384 of the two Ed25519 keys, peer to peer first.
	reportData = make([]byte, 64)
	reportData[1] = 1
	h := sha3.New384()
	for _, name := range []string{d.P2P, d.Signer} {
		var key []byte
		if key, err = nearKey(name); err != nil {
			return
		}
		h.Write(key)
	}
	h.Sum(reportData[:2])
	if log, err = eventlog.ParseDstack(d.Info.Dstack.TCBInfo.EventLog); err != nil {
		return
	}
	compose = sha256.Sum256([]byte(d.Info.Dstack.TCBInfo.AppCompose))
	q, err = dcap.ParseQuote(quote)
	return
}

// nearKey decodes "ed25519:" and 32 bytes in base58.
func nearKey(s string) ([]byte, error) {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	digits, ok := strings.CutPrefix(s, "ed25519:")
	n := new(big.Int)
	for _, c := range digits {
		i := strings.IndexRune(alphabet, c)
		if i < 0 || len(digits) > 44 {
			ok = false
			break
		}
		n.Add(n.Mul(n, big.NewInt(58)), big.NewInt(int64(i)))
	}
	if !ok || n.BitLen() > 256 {
		return nil, errors.New("a key is not ed25519: and 32 bytes in base58")
	}
	return n.FillBytes(make([]byte, 32)), nil
}

func (a *appraisal) near(raw []byte) {
	q, log, reportData, compose, err := parseNEAR(raw)
	if err != nil {
		a.fail(CheckParse, "NEAR MPC node", err)
		return
	}
	a.pass(CheckParse, "NEAR MPC node", fmt.Sprintf("%d events", len(log.Events)))
	a.logged(q, log, reportData)
	c := check.Check{ID: CheckCompose, Clause: "NEAR MPC node", Status: check.Pass, Seen: a.res.Claims["dstack.compose-hash"], Wanted: fmt.Sprintf("%x", compose)}
	if c.Seen != c.Wanted {
		c.Status, c.Detail = check.Fail, "the compose file shown is not the one that was measured"
	}
	a.add(c)
}

var (
	oidCocoonQuote  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, 1}
	oidCocoonClaims = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, 2}
)

func extension(c *x509.Certificate, id asn1.ObjectIdentifier) []byte {
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
	if i < 0 {
		return nil
	}
	return c.Extensions[i].Value
}

func parseCocoon(raw []byte) (*x509.Certificate, ed25519.PublicKey, *dcap.Quote, error) {
	block, rest := pem.Decode(raw)
	if block == nil || len(rest) != 0 {
		return nil, nil, nil, errors.New("want exactly one certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, nil, err
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, nil, nil, errors.New("the certificate's key is not Ed25519")
	}
	q, err := dcap.ParseQuote(extension(cert, oidCocoonQuote))
	return cert, key, q, err
}

// Parts is Evidence taken apart, with nothing about it checked: what a fetcher of collateral looks at.
type Parts struct {
	Kind    Kind
	CPU     CPU // Quote is nil in a bare device report
	Devices []Device
}

// TakeApart returns the parts of anything that Recognise understands. Certificates is the chain of a bare device or SEV-SNP
// report, nil otherwise.
func TakeApart(data, certificates []byte) (*Parts, error) {
	kind, raw, err := Recognise(data)
	if err != nil {
		return nil, err
	}
	p := &Parts{Kind: kind}
	switch kind {
	case KindEvidence:
		e, err := ParseEvidence(raw)
		if err != nil {
			return nil, err
		}
		p.CPU, p.Devices = e.CPU, e.Devices
	case KindTDXQuote, KindSGXQuote:
		p.CPU = CPU{Kind: CPUTDX, Quote: raw} // of SGX quotes, too: a DCAP quote says itself which it is
	case KindSNPReport:
		p.CPU = CPU{Kind: CPUSNP, Quote: raw, Certificates: certificates}
	case KindGPUReport:
		p.Devices = []Device{{DeviceGPU, raw, certificates}}
	case KindSwitchReport:
		p.Devices = []Device{{DeviceSwitch, raw, certificates}}
	case KindTinfoil:
		_, _, e, err := parseTinfoil(raw)
		if err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
		p.CPU, p.Devices = e.CPU, e.Devices
	case KindDstack:
		d, err := parseDstack(raw)
		if err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
		if p.CPU = (CPU{Kind: CPUSNP, Quote: d.report, Certificates: d.certificates}); d.quote != nil {
			p.CPU = CPU{Kind: CPUTDX, Quote: d.quote.Raw}
		}
	case KindNEAR, KindCocoon, KindOEReport, KindOECertificate, KindMarbleRun:
		q, err := quoteIn(kind, raw)
		if err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
		p.CPU = CPU{Kind: CPUTDX, Quote: q.Raw}
	case KindNVIDIAList:
		if p.Devices, _, err = parseNVIDIAList(raw); err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
	}
	return p, nil
}

// quoteIn is the one quote of Intel's in a document of these kinds.
func quoteIn(kind Kind, raw []byte) (q *dcap.Quote, err error) {
	switch kind {
	case KindNEAR:
		q, _, _, _, err = parseNEAR(raw)
	case KindCocoon:
		_, _, q, err = parseCocoon(raw)
	case KindOEReport:
		q, err = parseOEReport(raw)
	case KindOECertificate:
		_, q, _, err = parseOECertificate(raw)
	case KindMarbleRun:
		_, _, q, err = parseMarbleRun(raw)
	}
	return q, err
}

// cocoon appraises the certificate that a Cocoon node shows in its TLS handshake: it carries a quote whose report data is the
// SHA-512 of the certificate's Ed25519 key. There is no nonce: nothing says how old the quote is, beyond the certificate's
// own validity, which the node's clock wrote.
func (a *appraisal) cocoon(raw []byte) {
	const clause = "Cocoon RA-TLS"
	cert, key, q, err := parseCocoon(raw)
	if err != nil {
		a.fail(CheckParse, clause, err)
		return
	}
	a.pass(CheckParse, clause, cert.Subject.CommonName)
	want := sha512.Sum512(key)
	a.raTLS(cert, q, dcap.TEETDX, want[:], oidCocoonQuote, oidCocoonClaims)
	a.res.Claims["key.tls"] = fmt.Sprintf("%x", []byte(key))
}

// raTLS appraises a certificate, which must be signed by its own key, and the quote in it, which must vouch for that key.
func (a *appraisal) raTLS(cert *x509.Certificate, q *dcap.Quote, tee dcap.TEEType, want []byte, known ...asn1.ObjectIdentifier) {
	fault := ""
	if !selfSigned(cert) {
		fault = notItsOwn
	}
	a.certificate(cert, fault, known...)
	a.intel(q, tee, want)
	a.judge(CheckMode, a.v.policy.Devices.JudgeMode(string(ModeCPU), 0, 0))
	a.unstated(true, elsewhere)
}

func unknownCritical(c *x509.Certificate, known []asn1.ObjectIdentifier) asn1.ObjectIdentifier {
	for _, id := range c.UnhandledCriticalExtensions {
		if !slices.ContainsFunc(known, id.Equal) {
			return id
		}
	}
	return nil
}
