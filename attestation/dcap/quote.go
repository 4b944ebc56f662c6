package dcap

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// MaxQuoteSize is the largest input, in bytes, that ParseQuote looks at. Real quotes take 5 KB; some producers pad to 8 KB.
const MaxQuoteSize = 64 << 10

// TEEType is the kind of environment that a quote speaks for.
type TEEType uint32

// TEE types of the quote header.
const (
	TEESGX TEEType = 0x00
	TEETDX TEEType = 0x81
)

// String returns "SGX" or "TDX".
func (t TEEType) String() string {
	switch t {
	case TEESGX:
		return "SGX"
	case TEETDX:
		return "TDX"
	}
	return fmt.Sprintf("TEE type %#x", uint32(t))
}

// BodyType is the kind of report in the body. Version 5 quotes state it; for older ones it follows from the TEE type.
type BodyType uint16

// Body types.
const (
	BodySGX  BodyType = 1 // SGX enclave report, 384 bytes
	BodyTD10 BodyType = 2 // TD report of TDX 1.0, 584 bytes
	BodyTD15 BodyType = 3 // TD report of TDX 1.5, 648 bytes
)

// String names the body type.
func (t BodyType) String() string {
	switch t {
	case BodySGX:
		return "SGX enclave report"
	case BodyTD10:
		return "TD report 1.0"
	case BodyTD15:
		return "TD report 1.5"
	}
	return fmt.Sprintf("body type %d", uint16(t))
}

// Certification data types: what the Quoting Enclave was certified with.
const (
	CertPPIDPlain         = 1 // PPID in plain text, CPUSVN, PCESVN, PCEID
	CertPPIDEncrypted2048 = 2 // the same, PPID encrypted with RSA-2048
	CertPPIDEncrypted3072 = 3 // the same, PPID encrypted with RSA-3072
	CertPCK               = 4 // PCK certificate
	CertPCKChain          = 5 // PCK certificate chain in PEM, leaf first
	certQEReport          = 6 // QE report with nested certification data (versions 4 and 5)
)

const (
	headerSize        = 48
	bodyHeaderSize    = 6
	enclaveReportSize = 384
	tdReport10Size    = 584
	tdReport15Size    = 648
	signatureSize     = 64

	maxCertificationData = 16 << 10
	maxChain             = 4
)

// intelQEVendorID identifies Intel's Quoting Enclave: 939A7233-F79C-4CA9-940A-0DB3957F0607.
var intelQEVendorID = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// Quote is a parsed quote. It owns its bytes and must not be modified once it has been given to a Verifier.
type Quote struct {
	Raw      []byte // everything that was parsed, without Trailing
	Trailing []byte // what followed the quote in the input; authenticated by nothing. Zero padding is common

	// Header, 48 bytes.
	Version            uint16 // 3, 4 or 5
	AttestationKeyType uint16 // always 2: ECDSA-256 with P-256
	TEEType            TEEType
	HeaderSVN          [4]byte  // version 3: QE SVN and PCE SVN; reserved in later versions
	QEVendorID         [16]byte // always Intel's
	UserData           [20]byte // the first 16 bytes identify the Quoting Enclave's platform

	// Body: exactly one of SGX and TD is set.
	BodyType BodyType
	SGX      *EnclaveReport
	TD       *TDReport

	// Signature data.
	Signed                []byte   // header and body: what Signature covers
	Signature             [64]byte // r || s, by AttestationKey
	AttestationKey        [64]byte // x || y, P-256
	QEReport              EnclaveReport
	QEReportSigned        []byte   // the 384 bytes that QEReportSignature covers
	QEReportSignature     [64]byte // r || s, by the PCK
	QEAuthData            []byte
	CertificationDataType uint16   // one of the Cert constants
	CertificationData     []byte   // as found
	PCKChain              [][]byte // DER, leaf first; nil unless CertificationData is a well-formed CertPCKChain

	chainErr error
}

// EnclaveReport is the body of an SGX REPORT (Intel SDM volume 3D, 38.15).
type EnclaveReport struct {
	CPUSVN     [16]byte
	MiscSelect uint32
	Attributes [16]byte // flags and XFRM, both 64-bit little endian
	MRENCLAVE  [32]byte
	MRSIGNER   [32]byte
	ISVProdID  uint16
	ISVSVN     uint16
	ReportData [64]byte
}

// Flags returns the low half of ATTRIBUTES.
func (r *EnclaveReport) Flags() uint64 { return binary.LittleEndian.Uint64(r.Attributes[:8]) }

// Debug reports whether the enclave's memory is open to its host: nothing that it says can be trusted.
func (r *EnclaveReport) Debug() bool { return r.Attributes[0]&0x02 != 0 }

// TDReport is the body of a TD quote.
type TDReport struct {
	TEETCBSVN      [16]byte
	MRSEAM         [48]byte // measurement of the TDX module
	MRSIGNERSEAM   [48]byte // zero for Intel's module
	SEAMAttributes [8]byte
	TDAttributes   TDAttributes
	XFAM           uint64
	MRTD           [48]byte // measurement of the initial contents
	MRCONFIGID     [48]byte
	MROWNER        [48]byte
	MROWNERCONFIG  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte

	// Only in a TD report 1.5, else zero.
	TEETCBSVN2  [16]byte // the module loaded now; TEETCBSVN is the one that the TD was started with
	MRSERVICETD [48]byte
}

// TDAttributes are the attributes that a TD was created with (Intel TDX module ABI specification, ATTRIBUTES).
type TDAttributes uint64

// Defined TD attributes.
const (
	TDDebug         TDAttributes = 1 << 0  // memory and registers are open to the host
	TDSeptVEDisable TDAttributes = 1 << 28 // no #VE when the host removes a page
	TDMigratable    TDAttributes = 1 << 29 // may be moved to another machine
	TDPKS           TDAttributes = 1 << 30 // supervisor protection keys
	TDKL            TDAttributes = 1 << 31 // key locker
	TDPerfmon       TDAttributes = 1 << 63 // performance counters
)

// Debug reports whether any bit of the TUD group ("TD under debug", bits 7:0) is set: the TD is then not to be trusted.
func (a TDAttributes) Debug() bool { return a&0xff != 0 }

// Has reports whether all bits of b are set.
func (a TDAttributes) Has(b TDAttributes) bool { return a&b == b }

// ReportData returns the 64 bytes that the attested program chose.
func (q *Quote) ReportData() [64]byte {
	if q.TD != nil {
		return q.TD.ReportData
	}
	return q.SGX.ReportData
}

// Debug reports whether the enclave or TD is open to its host.
func (q *Quote) Debug() bool {
	if q.TD != nil {
		return q.TD.TDAttributes.Debug()
	}
	return q.SGX.Debug()
}

// ParseError says where a quote is malformed. Its check identifier is "dcap.parse".
type ParseError struct {
	Offset int    // in bytes from the start of the input
	What   string // the field and what is wrong with it
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("dcap: malformed quote at byte %d: %s", e.Offset, e.What)
}

// cursor reads little-endian fields of foreign bytes. The first failure sticks.
type cursor struct {
	b   []byte
	pos int
	err error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = &ParseError{Offset: c.pos, What: fmt.Sprintf(format, args...)}
	}
}

// take returns the next n bytes, or nil after a failure.
func (c *cursor) take(n int, field string) []byte {
	if c.err != nil {
		return nil
	}
	if n > len(c.b)-c.pos {
		c.fail("%s needs %d bytes, %d are left", field, n, len(c.b)-c.pos)
		return nil
	}
	s := c.b[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return s
}

func (c *cursor) u16(field string) uint16 {
	if s := c.take(2, field); s != nil {
		return binary.LittleEndian.Uint16(s)
	}
	return 0
}

func (c *cursor) u32(field string) uint32 {
	if s := c.take(4, field); s != nil {
		return binary.LittleEndian.Uint32(s)
	}
	return 0
}

// sub returns a cursor over the next n bytes that keeps the offsets of the whole input.
func (c *cursor) sub(n int, field string) *cursor {
	start := c.pos
	c.take(n, field)
	return &cursor{b: c.b[:c.pos], pos: start, err: c.err}
}

// ParseQuote parses a version 3, 4 or 5 quote. Lengths inside the quote must agree exactly; bytes after it are kept in
// Quote.Trailing. The result shares nothing with b. Every error is a *ParseError.
//
// Parsing proves nothing: until Verifier.Verify returns a nil error, every field is merely a claim.
func ParseQuote(b []byte) (*Quote, error) {
	if len(b) > MaxQuoteSize {
		return nil, &ParseError{0, fmt.Sprintf("input of %d bytes is larger than any quote (limit %d)", len(b), MaxQuoteSize)}
	}
	c := &cursor{b: bytes.Clone(b)}
	q := &Quote{}
	parseHeader(c, q)
	parseBody(c, q)
	if c.err == nil {
		q.Signed = c.b[:c.pos:c.pos]
	}
	n := c.u32("signature data length")
	if c.err == nil && n > uint32(len(c.b)-c.pos) {
		c.fail("signature data length %d, but %d bytes are left", n, len(c.b)-c.pos)
	}
	sig := c.sub(int(n), "signature data")
	if sig.err == nil {
		parseSignatureData(sig, q)
	}
	if sig.err != nil {
		return nil, sig.err
	}
	q.Raw, q.Trailing = c.b[:c.pos:c.pos], c.b[c.pos:]
	return q, nil
}

func parseHeader(c *cursor, q *Quote) {
	q.Version = c.u16("version")
	if c.err == nil && (q.Version < 3 || q.Version > 5) {
		c.pos = 0
		c.fail("version %d; 3, 4 and 5 are supported", q.Version)
	}
	q.AttestationKeyType = c.u16("attestation key type")
	if c.err == nil && q.AttestationKeyType != 2 {
		c.fail("attestation key type %d; only 2 (ECDSA P-256) is supported", q.AttestationKeyType)
	}
	q.TEEType = TEEType(c.u32("TEE type"))
	switch {
	case c.err != nil:
	case q.TEEType != TEESGX && q.TEEType != TEETDX:
		c.fail("TEE type %#x; 0 (SGX) and 0x81 (TDX) are supported", uint32(q.TEEType))
	case q.TEEType == TEETDX && q.Version == 3:
		c.fail("version 3 quotes cannot carry a TD")
	}
	copy(q.HeaderSVN[:], c.take(4, "header"))
	copy(q.QEVendorID[:], c.take(16, "QE vendor id"))
	if c.err == nil && q.QEVendorID != intelQEVendorID {
		c.fail("QE vendor id %x is not Intel's", q.QEVendorID)
	}
	copy(q.UserData[:], c.take(20, "user data"))
}

func parseBody(c *cursor, q *Quote) {
	if c.err != nil {
		return
	}
	switch {
	case q.Version >= 5:
		q.BodyType = BodyType(c.u16("body type"))
		size := c.u32("body size")
		want := map[BodyType]uint32{BodySGX: enclaveReportSize, BodyTD10: tdReport10Size, BodyTD15: tdReport15Size}[q.BodyType]
		switch {
		case c.err != nil:
		case want == 0:
			c.fail("body type %d; 1 (SGX), 2 (TDX 1.0) and 3 (TDX 1.5) are supported", uint16(q.BodyType))
		case size != want:
			c.fail("body size %d; a %s has %d bytes", size, q.BodyType, want)
		case (q.BodyType == BodySGX) != (q.TEEType == TEESGX):
			c.fail("%s in a quote for %s", q.BodyType, q.TEEType)
		}
	case q.TEEType == TEESGX:
		q.BodyType = BodySGX
	default:
		q.BodyType = BodyTD10
	}
	if q.BodyType == BodySGX {
		q.SGX = parseEnclaveReport(c.take(enclaveReportSize, "enclave report"))
		return
	}
	size := tdReport10Size
	if q.BodyType == BodyTD15 {
		size = tdReport15Size
	}
	q.TD = parseTDReport(c.take(size, "TD report"))
}

// parseEnclaveReport parses 384 bytes; anything shorter, which only a failed read yields, gives nil.
func parseEnclaveReport(b []byte) *EnclaveReport {
	if len(b) != enclaveReportSize {
		return nil
	}
	r := &EnclaveReport{
		CPUSVN:     [16]byte(b[0:16]),
		MiscSelect: binary.LittleEndian.Uint32(b[16:20]),
		Attributes: [16]byte(b[48:64]),
		MRENCLAVE:  [32]byte(b[64:96]),
		MRSIGNER:   [32]byte(b[128:160]),
		ISVProdID:  binary.LittleEndian.Uint16(b[256:258]),
		ISVSVN:     binary.LittleEndian.Uint16(b[258:260]),
		ReportData: [64]byte(b[320:384]),
	}
	return r
}

func parseTDReport(b []byte) *TDReport {
	if len(b) < tdReport10Size {
		return nil
	}
	r := &TDReport{
		TEETCBSVN:      [16]byte(b[0:16]),
		MRSEAM:         [48]byte(b[16:64]),
		MRSIGNERSEAM:   [48]byte(b[64:112]),
		SEAMAttributes: [8]byte(b[112:120]),
		TDAttributes:   TDAttributes(binary.LittleEndian.Uint64(b[120:128])),
		XFAM:           binary.LittleEndian.Uint64(b[128:136]),
		MRTD:           [48]byte(b[136:184]),
		MRCONFIGID:     [48]byte(b[184:232]),
		MROWNER:        [48]byte(b[232:280]),
		MROWNERCONFIG:  [48]byte(b[280:328]),
		ReportData:     [64]byte(b[520:584]),
	}
	for i := range r.RTMR {
		r.RTMR[i] = [48]byte(b[328+48*i:])
	}
	if len(b) == tdReport15Size {
		r.TEETCBSVN2 = [16]byte(b[584:600])
		r.MRSERVICETD = [48]byte(b[600:648])
	}
	return r
}

// parseSignatureData parses "ECDSA 256-bit quote signature data". From version 4 on the QE report and what certifies it
// are wrapped in certification data of type 6; every length must account for every byte.
func parseSignatureData(c *cursor, q *Quote) {
	copy(q.Signature[:], c.take(signatureSize, "quote signature"))
	copy(q.AttestationKey[:], c.take(64, "attestation key"))
	if q.Version >= 4 {
		t := c.u16("certification data type")
		if c.err == nil && t != certQEReport {
			c.fail("certification data type %d; a version %d quote needs 6 (QE report)", t, q.Version)
		}
		n := c.u32("certification data length")
		if c.err == nil && n != uint32(len(c.b)-c.pos) {
			c.fail("certification data length %d, but %d bytes are left in the signature data", n, len(c.b)-c.pos)
		}
	}
	q.QEReportSigned = c.take(enclaveReportSize, "QE report")
	copy(q.QEReportSignature[:], c.take(signatureSize, "QE report signature"))
	q.QEAuthData = c.take(int(c.u16("QE authentication data length")), "QE authentication data")
	q.CertificationDataType = c.u16("PCK certification data type")
	n := c.u32("PCK certification data length")
	if c.err == nil && n != uint32(len(c.b)-c.pos) {
		c.fail("PCK certification data length %d, but %d bytes are left", n, len(c.b)-c.pos)
	}
	if c.err == nil && n > maxCertificationData {
		c.fail("PCK certification data of %d bytes (limit %d)", n, maxCertificationData)
	}
	if c.err == nil && (q.CertificationDataType < CertPPIDPlain || q.CertificationDataType > CertPCKChain) {
		c.fail("PCK certification data type %d; 1 to 5 are supported", q.CertificationDataType)
	}
	q.CertificationData = c.take(int(n), "PCK certification data")
	if c.err != nil {
		return
	}
	q.QEReport = *parseEnclaveReport(q.QEReportSigned)
	if q.CertificationDataType == CertPCKChain {
		// The structure of the quote stands without it; CheckChain reports the error.
		q.PCKChain, q.chainErr = splitPEM(q.CertificationData)
	}
}

var errNotPEM = errors.New("not a sequence of PEM certificates")

// splitPEM decodes a sequence of PEM certificates. White space and NUL may surround them, nothing else: encoding/pem would skip
// what it cannot read.
func splitPEM(b []byte) ([][]byte, error) {
	const (
		begin = "-----BEGIN CERTIFICATE-----"
		end   = "-----END CERTIFICATE-----"
		space = " \t\r\n\x00"
	)
	var ders [][]byte
	for b = bytes.Trim(b, space); len(b) > 0; b = bytes.TrimLeft(b, space) {
		armored, ok := bytes.CutPrefix(b, []byte(begin))
		if !ok {
			return nil, errNotPEM
		}
		armored, rest, ok := bytes.Cut(armored, []byte(end))
		if !ok {
			return nil, errNotPEM
		}
		if len(ders) == maxChain {
			return nil, fmt.Errorf("more than %d certificates", maxChain)
		}
		der := make([]byte, base64.StdEncoding.DecodedLen(len(armored)))
		n, err := base64.StdEncoding.Strict().Decode(der, armored) // skips line ends
		if err != nil || n == 0 {
			return nil, errNotPEM
		}
		ders = append(ders, der[:n])
		b = rest
	}
	if len(ders) == 0 {
		return nil, errNotPEM
	}
	return ders, nil
}

// hexBytes decodes exactly len(dst) bytes of hexadecimal in either case.
func hexBytes(dst []byte, s string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%d hexadecimal digits, want %d", len(s), 2*len(dst))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}
