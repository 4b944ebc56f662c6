package dcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// at finds the offset of the signature data's length field.
func signatureDataAt(version uint16) int {
	switch version {
	case 3:
		return headerSize + enclaveReportSize
	case 4:
		return headerSize + tdReport10Size
	}
	return headerSize + bodyHeaderSize + tdReport15Size
}

// Offsets from the length of the signature data in a version 4 or 5 quote.
const (
	qeDataType = 4 + 128
	qeDataLen  = qeDataType + 2
	qeReportAt = qeDataLen + 4
	authLen    = qeReportAt + enclaveReportSize + signatureSize
	pckType    = authLen + 2 + 32
	pckLen     = pckType + 2
)

func TestParseRefuses(t *testing.T) {
	u16 := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], v) }
	}
	u32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	add := func(at int, n int32) func([]byte) {
		return func(b []byte) {
			binary.LittleEndian.PutUint32(b[at:], uint32(int32(binary.LittleEndian.Uint32(b[at:]))+n))
		}
	}
	sig4, sig5 := signatureDataAt(4), signatureDataAt(5)
	_, genuine, _ := newWorld(4).build(t)
	for _, c := range []struct {
		name    string
		version uint16
		bend    func([]byte)
		what    string
	}{
		{"version 2", 4, u16(0, 2), "version 2"},
		{"version 6", 4, u16(0, 6), "version 6"},
		{"P-384 attestation key", 4, u16(2, 3), "attestation key type 3"},
		{"unknown TEE", 4, u32(4, 0x82), "TEE type"},
		{"TD in a version 3 quote", 3, u32(4, 0x81), "cannot carry a TD"},
		{"vendor other than Intel", 4, func(b []byte) { b[12] ^= 1 }, "vendor"},
		{"unknown body type", 5, u16(headerSize, 4), "body type 4"},
		{"unknown body type without a body", 5, func(b []byte) { u16(headerSize, 4)(b); u32(headerSize+2, 0)(b) }, "; 1 (SGX), 2"},
		{"body type 0", 5, u16(headerSize, 0), "body type 0"},
		{"enclave in a TDX quote", 5, func(b []byte) { u16(headerSize, 1)(b); u32(headerSize+2, enclaveReportSize)(b) }, "in a quote for TDX"},
		{"TD in an SGX quote", 5, u32(4, 0), "in a quote for SGX"},
		{"body size of the other TD report", 5, u32(headerSize+2, tdReport10Size), "body size"},
		{"body size huge", 5, u32(headerSize+2, 0xffffffff), "body size"},
		// go-tdx-guest panics at both of these.
		{"no signature data", 4, u32(sig4, 0), "quote signature needs"},
		{"QE authentication data beyond the quote", 4, u16(sig4+authLen, 0xffff), "QE authentication data needs"},
		{"signature data beyond the quote", 4, u32(sig4, 0xffffffff), "signature data length"},
		{"signature data a byte short", 4, add(sig4, -1), "certification data length"},
		{"signature data a byte short in version 3", 3, add(signatureDataAt(3), -1), "PCK certification data length"},
		{"no QE report", 4, u16(sig4+qeDataType, 5), "needs 6"},
		{"QE report a byte short", 4, add(sig4+qeDataLen, -1), "certification data length"},
		{"QE report beyond the quote", 5, u32(sig5+qeDataLen, 0xffffffff), "certification data length"},
		{"QE authentication data a byte long", 4, u16(sig4+authLen, 33), "PCK certification data"},
		{"certification data type 0", 4, u16(sig4+pckType, 0), "type 0"},
		{"certification data type 6 inside", 4, u16(sig4+pckType, 6), "type 6"},
		{"certificates a byte short", 4, add(sig4+pckLen, -1), "PCK certification data length"},
		{"certificates beyond the quote", 4, u32(sig4+pckLen, 0x7fffffff), "PCK certification data length"},
	} {
		_, b, _ := newWorld(c.version).build(t)
		c.bend(b)
		_, err := ParseQuote(b)
		var pe *ParseError
		if !errors.As(err, &pe) || !strings.Contains(pe.What, c.what) || strings.HasPrefix(c.name, "version") && pe.Offset != 0 {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for over := range 2 {
		w := newWorld(4)
		w.chainInQuote = func([]byte) []byte { return bytes.Repeat([]byte{' '}, maxCertificationData+over) }
		_, b, _ := w.build(t)
		if _, err := ParseQuote(b); (err == nil) != (over == 0) {
			t.Errorf("certificates of %d bytes: %v", maxCertificationData+over, err)
		}
		if _, err := ParseQuote(append(genuine, make([]byte, MaxQuoteSize+over-len(genuine))...)); (err == nil) != (over == 0) {
			t.Errorf("%d bytes: %v", MaxQuoteSize+over, err)
		}
	}
}

// Every prefix is refused, and the result does not share memory with the input.
func TestParseTruncated(t *testing.T) {
	for _, version := range []uint16{3, 4, 5} {
		_, b, _ := newWorld(version).build(t)
		for n := range b {
			if _, err := ParseQuote(b[:n]); err == nil {
				t.Fatalf("version %d: %d of %d bytes accepted", version, n, len(b))
			}
		}
		q, err := ParseQuote(slices.Concat(b, []byte{0, 7}))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(q.Raw, b) || !bytes.Equal(q.Trailing, []byte{0, 7}) {
			t.Errorf("version %d: %d bytes and %x behind", version, len(q.Raw), q.Trailing)
		}
		clear(b)
		if q.Raw[0] != byte(version) {
			t.Error("shares memory with the input")
		}
	}
}

// A version 5 quote may carry the older TD report, and versions 4 and 5 an enclave.
func TestParseBodies(t *testing.T) {
	td := newWorld(4).body
	w := newWorld(5)
	w.body = binary.LittleEndian.AppendUint32([]byte{byte(BodyTD10), 0}, tdReport10Size)
	w.body = append(w.body, td...)
	if r, err := w.appraise(t); err != nil || r.Status != UpToDate {
		t.Errorf("TD report 1.0 in version 5: %v", err)
	}
	for _, version := range []byte{4, 5} {
		w := newWorld(3)
		w.header[0] = version
		if version == 5 {
			w.body = append(binary.LittleEndian.AppendUint32([]byte{byte(BodySGX), 0}, enclaveReportSize), w.body...)
		}
		if r, err := w.appraise(t); err != nil || r.Status != UpToDate {
			t.Errorf("enclave in version %d: %v", version, err)
		}
	}
}

// Every field is read from where the specification has it (TDX DCAP Quoting Library API, A.3; Intel SDM volume 3D, 38.15).
func TestFields(t *testing.T) {
	b := make([]byte, tdReport15Size)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*0x5b
	}
	td := parseTDReport(b)
	var again []byte
	for _, v := range []any{td.TEETCBSVN, td.MRSEAM, td.MRSIGNERSEAM, td.SEAMAttributes, td.TDAttributes, td.XFAM, td.MRTD, td.MRCONFIGID, td.MROWNER,
		td.MROWNERCONFIG, td.RTMR, td.ReportData, td.TEETCBSVN2, td.MRSERVICETD} {
		again, _ = binary.Append(again, binary.LittleEndian, v)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("TD report\n%x\nis read as\n%x", b, again)
	}
	r := parseEnclaveReport(b[:enclaveReportSize])
	again = again[:0]
	for _, v := range []any{r.CPUSVN, r.MiscSelect, b[20:48], r.Attributes, r.MRENCLAVE, b[96:128], r.MRSIGNER, b[160:256], r.ISVProdID, r.ISVSVN, b[260:320], r.ReportData} {
		again, _ = binary.Append(again, binary.LittleEndian, v)
	}
	if !bytes.Equal(again, b[:enclaveReportSize]) {
		t.Errorf("enclave report\n%x\nis read as\n%x", b[:enclaveReportSize], again)
	}
}

func TestDebug(t *testing.T) {
	for bit := range 8 {
		w := newWorld(4)
		w.td()[120] = 1 << bit
		_, b, _ := w.build(t)
		if q, err := ParseQuote(b); err != nil || !q.Debug() {
			t.Errorf("TUD bit %d: %v", bit, err)
		}
	}
	w := newWorld(3)
	w.body[48] |= 2
	_, b, _ := w.build(t)
	if q, err := ParseQuote(b); err != nil || !q.Debug() || q.SGX.Flags() != 7 {
		t.Errorf("SGX: %v", err)
	}
	w = newWorld(4)
	w.td()[123] |= 0x20
	_, b, _ = w.build(t)
	if q, err := ParseQuote(b); err != nil || q.Debug() || !q.TD.TDAttributes.Has(TDMigratable) || !q.TD.TDAttributes.Has(TDSeptVEDisable) || q.TD.TDAttributes.Has(TDPKS) {
		t.Errorf("migratable: %v", err)
	}
}

func TestChainRefuses(t *testing.T) {
	_, b, _ := newWorld(4).build(t)
	q, err := ParseQuote(b)
	if err != nil {
		t.Fatal(err)
	}
	chain := string(q.CertificationData)
	one := chain[:strings.Index(chain, "-----END")+len("-----END CERTIFICATE-----\n")]
	for name, s := range map[string]string{
		"empty":              "",
		"text":               "hello",
		"text before":        "x" + chain,
		"text behind":        chain + "x",
		"text between":       one + "x\n" + one,
		"key":                strings.ReplaceAll(one, "CERTIFICATE", "EC PRIVATE KEY"),
		"header":             strings.Replace(one, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1),
		"no end":             one[:len(one)-20],
		"five":               strings.Repeat(one, maxChain+1),
		"nested begin":       "-----BEGIN CERTIFICATE-----\n" + one,
		"rubbish in base 64": strings.Replace(one, "\nM", "\n*", 1),
		"no certificate":     "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
	} {
		if _, err := ParseChain([]byte(s)); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if c, err := ParseChain([]byte(chain)); err != nil || len(c) != 3 {
		t.Errorf("%d certificates, %v", len(c), err)
	}
}
