package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/alone"
)

// world is an authority with one platform and one quote of it, all in order. A test bends one thing and builds it.
type world struct {
	now                    time.Time
	root, ca, pck, signer  *x509.Certificate // templates
	keys                   *worldKeys
	pckKey                 *ecdsa.PrivateKey // what the PCK certificate certifies
	rootCRL, pckCRL        *x509.RevocationList
	rootCRLKey, pckCRLKey  *ecdsa.PrivateKey
	crlIssuer              *x509.Certificate // of the PCK CRL; ca if nil
	signerIssuer           *x509.Certificate // of the TCB signing certificate; root if nil
	signerIssuerKey        *ecdsa.PrivateKey
	caIssuerKey, pckCAKey  *ecdsa.PrivateKey
	ext                    sgxExt
	tcbInfo, qeIdentity    map[string]any
	tcbInfoKey, qeIDKey    *ecdsa.PrivateKey
	header, body, qeReport []byte
	qeAuth                 []byte
	quoteKey               *ecdsa.PrivateKey // signs the quote
	qeKey                  *ecdsa.PrivateKey // signs the QE report
	bind                   bool              // write the QE's report data
	chainInQuote           func(pemChain []byte) []byte
	bendQuote              func([]byte) []byte
	bendCollateral         func(*Collateral)
	anchors                []*x509.Certificate
	rootInChain, pemChain  bool
}

type worldKeys struct{ root, ca, pck, signer, attestation, other *ecdsa.PrivateKey }

var testKeys = sync.OnceValue(func() *worldKeys {
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	}
	return &worldKeys{key(), key(), key(), key(), key(), key()}
})

type sgxExt struct {
	ppid, fmspc, pceid, cpusvn []byte
	components                 [16]int
	pcesvn                     int
	sgxType                    int
	instance                   []byte
	configuration              bool
	extra                      func(fields []asn1.RawValue) []asn1.RawValue
}

func name(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"}}
}

func level(sgx, tdx, pcesvn int, status, date string, advisories ...string) map[string]any {
	components := func(svn int, tdx bool) []any {
		s := make([]any, 16)
		for i := range s {
			v := 0
			if i < 3 && !(tdx && i == 1) { // [1] is the module's major version
				v = svn
			}
			s[i] = map[string]any{"svn": v, "category": "BIOS"}
		}
		return s
	}
	l := map[string]any{
		"tcb":       map[string]any{"sgxtcbcomponents": components(sgx, false), "pcesvn": pcesvn},
		"tcbDate":   date,
		"tcbStatus": status,
	}
	if tdx >= 0 {
		l["tcb"].(map[string]any)["tdxtcbcomponents"] = components(tdx, true)
	}
	if len(advisories) > 0 {
		l["advisoryIDs"] = advisories
	}
	return l
}

func isvLevel(svn int, status, date string, advisories ...string) map[string]any {
	l := map[string]any{"tcb": map[string]any{"isvsvn": svn}, "tcbDate": date, "tcbStatus": status}
	if len(advisories) > 0 {
		l["advisoryIDs"] = advisories
	}
	return l
}

func moduleIdentity(id string, levels ...any) map[string]any {
	return map[string]any{"id": id, "mrsigner": zeros(48), "attributes": zeros(8), "attributesMask": "FFFFFFFFFFFFFFFF", "tcbLevels": levels}
}

func zeros(n int) string { return hex.EncodeToString(make([]byte, n)) }

const (
	date1 = "2026-03-01T00:00:00Z"
	date2 = "2025-06-01T00:00:00Z"
	date3 = "2024-01-01T00:00:00Z"
)

// newWorld is a TDX world whose quote has the given version (4 or 5, with a TD report 1.5 in the latter), or an SGX one
// for version 3.
func newWorld(version uint16) *world {
	k := testKeys()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	serial := int64(100)
	cert := func(cn string, ca bool, pathLen int) *x509.Certificate {
		serial++
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name(cn), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, BasicConstraintsValid: true}
		if ca {
			c.IsCA, c.MaxPathLen, c.MaxPathLenZero = true, pathLen, pathLen == 0
			c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
		return c
	}
	crl := func() *x509.RevocationList {
		return &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -7), NextUpdate: now.AddDate(0, 0, 7)}
	}
	w := &world{
		now:  now,
		keys: k, pckKey: k.pck, quoteKey: k.attestation, qeKey: k.pck, rootCRLKey: k.root, pckCRLKey: k.ca, signerIssuerKey: k.root,
		caIssuerKey: k.root, pckCAKey: k.ca, tcbInfoKey: k.signer, qeIDKey: k.signer,
		root: cert("Intel SGX Root CA", true, 1), ca: cert(cnPlatformCA, true, 0), pck: cert(cnPCK, false, 0), signer: cert(cnTCBSigning, false, 0),
		rootCRL: crl(), pckCRL: crl(),
		bind: true, rootInChain: true, pemChain: true,
		qeAuth: bytes.Repeat([]byte{0x20}, 32),
		ext: sgxExt{ppid: bytes.Repeat([]byte{0x11}, 16), fmspc: []byte{0x90, 0xc0, 0x6f, 0, 0, 0}, pceid: []byte{0, 0}, cpusvn: make([]byte, 16),
			components: [16]int{5, 5, 5}, pcesvn: 13, sgxType: 1, instance: bytes.Repeat([]byte{0x22}, 16), configuration: true},
	}
	w.tcbInfo = map[string]any{
		"version": 3, "issueDate": "2026-05-20T00:00:00Z", "nextUpdate": "2026-06-19T00:00:00Z", "fmspc": "90C06F000000", "pceId": "0000",
		"tcbType": 0, "tcbEvaluationDataNumber": 20,
	}
	w.qeIdentity = map[string]any{
		"version": 2, "issueDate": "2026-05-20T00:00:00Z", "nextUpdate": "2026-06-20T00:00:00Z", "tcbEvaluationDataNumber": 19,
		"miscselect": zeros(4), "miscselectMask": "ffffffff", "attributes": "11000000000000000000000000000000",
		"attributesMask": "fbffffffffffffff0000000000000000", "mrsigner": "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5",
		"tcbLevels": []any{isvLevel(6, "UpToDate", date1), isvLevel(4, "OutOfDate", date2, "INTEL-SA-00004"), isvLevel(2, "Revoked", date3)},
	}
	w.header = make([]byte, headerSize)
	binary.LittleEndian.PutUint16(w.header, version)
	w.header[2] = 2
	copy(w.header[12:], intelQEVendorID[:])
	w.qeReport = make([]byte, enclaveReportSize)
	w.qeReport[48] = 0x11
	hex.Decode(w.qeReport[128:], []byte(w.qeIdentity["mrsigner"].(string)))
	w.qeReport[258] = 6
	if version == 3 {
		w.tcbInfo["id"], w.qeIdentity["id"], w.qeIdentity["isvprodid"] = "SGX", "QE", 1
		w.qeReport[256] = 1
		w.tcbInfo["tcbLevels"] = []any{level(5, -1, 13, "UpToDate", date1), level(3, -1, 13, "OutOfDate", date2, "INTEL-SA-00001"), level(1, -1, 5, "Revoked", date3)}
		w.body = make([]byte, enclaveReportSize)
		w.body[48] = 0x05
		return w
	}
	w.header[4] = 0x81
	w.tcbInfo["id"], w.qeIdentity["id"], w.qeIdentity["isvprodid"] = "TDX", "TD_QE", 2
	w.qeReport[256] = 2
	w.tcbInfo["tdxModule"] = map[string]any{"mrsigner": zeros(48), "attributes": zeros(8), "attributesMask": "FFFFFFFFFFFFFFFF"}
	w.tcbInfo["tdxModuleIdentities"] = []any{
		moduleIdentity("TDX_01", isvLevel(6, "UpToDate", date1), isvLevel(4, "OutOfDate", date2, "INTEL-SA-00002"), isvLevel(2, "Revoked", date3)),
		moduleIdentity("TDX_03", isvLevel(3, "UpToDate", date1)),
	}
	w.tcbInfo["tcbLevels"] = []any{level(5, 5, 13, "UpToDate", date1), level(3, 3, 13, "OutOfDate", date2, "INTEL-SA-00001"), level(1, 1, 5, "Revoked", date3)}
	td := make([]byte, tdReport10Size)
	td[0], td[1], td[2] = 6, 1, 5 // TEE_TCB_SVN
	binary.LittleEndian.PutUint64(td[120:], uint64(TDSeptVEDisable))
	w.body = td
	if version == 5 {
		td = append(td, make([]byte, tdReport15Size-tdReport10Size)...)
		copy(td[584:], td[:16]) // TEE_TCB_SVN_2
		w.setTD15(td)
	}
	return w
}

// setTD15 makes td, a TD report 1.5, the body.
func (w *world) setTD15(td []byte) {
	w.body = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(nil, uint16(BodyTD15)), uint32(len(td)))
	w.body = append(w.body, td...)
}

// td gives access to the TD or enclave report in the body.
func (w *world) td() []byte {
	if w.header[0] == 5 {
		return w.body[bodyHeaderSize:]
	}
	return w.body
}

func (e *sgxExt) der(t testing.TB) []byte {
	marshal := func(v any) asn1.RawValue {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{FullBytes: b}
	}
	oid := func(arcs ...int) asn1.ObjectIdentifier { return append(slices.Clone(oidSGX), arcs...) }
	tuple := func(id asn1.ObjectIdentifier, v any) asn1.RawValue {
		return marshal([]asn1.RawValue{marshal(id), marshal(v)})
	}
	var tcb []asn1.RawValue
	for i, svn := range e.components {
		tcb = append(tcb, tuple(oid(2, i+1), svn))
	}
	tcb = append(tcb, tuple(oid(2, 17), e.pcesvn), tuple(oid(2, 18), e.cpusvn))
	fields := []asn1.RawValue{tuple(oid(1), e.ppid), tuple(oid(2), tcb), tuple(oid(3), e.pceid), tuple(oid(4), e.fmspc), tuple(oid(5), asn1.Enumerated(e.sgxType))}
	if e.instance != nil {
		fields = append(fields, tuple(oid(6), e.instance))
	}
	if e.configuration {
		fields = append(fields, tuple(oid(7), []asn1.RawValue{tuple(oid(7, 1), true), tuple(oid(7, 2), false), tuple(oid(7, 3), true)}))
	}
	if e.extra != nil {
		fields = e.extra(fields)
	}
	return marshal(fields).FullBytes
}

func rawSignature(t testing.TB, key *ecdsa.PrivateKey, message []byte) (sig [64]byte) {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig
}

func rawPublic(t testing.TB, key *ecdsa.PrivateKey) []byte {
	b, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b[1:]
}

func (w *world) issue(t testing.TB, template, parent *x509.Certificate, pub *ecdsa.PrivateKey, by *ecdsa.PrivateKey) *x509.Certificate {
	issuer := *parent // crypto/x509 refuses to sign with a key that is not the parent's
	issuer.PublicKey = &by.PublicKey
	der, err := x509.CreateCertificate(rand.Reader, template, &issuer, &pub.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func signJSON(t testing.TB, doc map[string]any, member string, key *ecdsa.PrivateKey) []byte {
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	sig := rawSignature(t, key, body)
	return []byte(`{"` + member + `":` + string(body) + `,"signature":"` + hex.EncodeToString(sig[:]) + `"}`)
}

// quote assembles and signs the quote around a PCK chain.
func (w *world) quote(t testing.TB, chain ...*x509.Certificate) []byte {
	attestationKey := rawPublic(t, w.keys.attestation)
	if w.bind {
		h := sha256.Sum256(append(slices.Clone(attestationKey), w.qeAuth...))
		copy(w.qeReport[320:], h[:])
	}
	var certification []byte
	for _, c := range chain {
		certification = append(certification, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if w.chainInQuote != nil {
		certification = w.chainInQuote(certification)
	}
	qeSig := rawSignature(t, w.qeKey, w.qeReport)
	inner := slices.Concat(w.qeReport, qeSig[:])
	inner = binary.LittleEndian.AppendUint16(inner, uint16(len(w.qeAuth)))
	inner = append(inner, w.qeAuth...)
	inner = binary.LittleEndian.AppendUint16(inner, CertPCKChain)
	inner = binary.LittleEndian.AppendUint32(inner, uint32(len(certification)))
	inner = append(inner, certification...)
	signed := slices.Concat(w.header, w.body)
	sig := rawSignature(t, w.quoteKey, signed)
	data := slices.Concat(sig[:], attestationKey)
	if w.header[0] >= 4 {
		data = binary.LittleEndian.AppendUint16(data, certQEReport)
		data = binary.LittleEndian.AppendUint32(data, uint32(len(inner)))
	}
	data = append(data, inner...)
	raw := binary.LittleEndian.AppendUint32(signed, uint32(len(data)))
	raw = append(raw, data...)
	if w.bendQuote != nil {
		raw = w.bendQuote(raw)
	}
	return raw
}

func mustCRL(t testing.TB, template *x509.RevocationList, issuer *x509.Certificate, key *ecdsa.PrivateKey) *CRL {
	if len(issuer.SubjectKeyId) == 0 {
		issuer.SubjectKeyId = []byte{1} // crypto/x509 wants one
	}
	issuer = &x509.Certificate{RawSubject: issuer.RawSubject, Subject: issuer.Subject, SubjectKeyId: issuer.SubjectKeyId, KeyUsage: x509.KeyUsageCRLSign}
	issuer.PublicKey = &key.PublicKey
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCRL(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// build makes everything as bent.
func (w *world) build(t testing.TB) (*Verifier, []byte, *Collateral) {
	t.Helper()
	k := w.keys
	w.pck.ExtraExtensions = append(w.pck.ExtraExtensions, pkix.Extension{Id: oidSGX, Value: w.ext.der(t)})
	root := w.issue(t, w.root, w.root, k.root, k.root)
	ca := w.issue(t, w.ca, root, k.ca, w.caIssuerKey)
	pck := w.issue(t, w.pck, ca, w.pckKey, w.pckCAKey)
	if w.signerIssuer == nil {
		w.signerIssuer = root
	}
	signer := w.issue(t, w.signer, w.signerIssuer, k.signer, w.signerIssuerKey)
	crlIssuer := ca
	if w.crlIssuer != nil {
		crlIssuer = w.issue(t, w.crlIssuer, root, k.ca, k.root)
	}
	c := &Collateral{RootCRL: mustCRL(t, w.rootCRL, root, w.rootCRLKey), PCKCRL: mustCRL(t, w.pckCRL, crlIssuer, w.pckCRLKey),
		TCBInfoChain: []*x509.Certificate{signer, root}, QEIdentityChain: []*x509.Certificate{signer, root}}
	var err error
	if c.TCBInfo, err = ParseTCBInfo(signJSON(t, w.tcbInfo, "tcbInfo", w.tcbInfoKey)); err != nil {
		t.Fatal(err)
	}
	if c.QEIdentity, err = ParseQEIdentity(signJSON(t, w.qeIdentity, "enclaveIdentity", w.qeIDKey)); err != nil {
		t.Fatal(err)
	}
	if w.bendCollateral != nil {
		w.bendCollateral(c)
	}
	anchors := w.anchors
	if anchors == nil {
		anchors = []*x509.Certificate{root}
	}
	v, err := NewVerifier(anchors...)
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{pck, ca}
	if w.rootInChain {
		chain = append(chain, root)
	}
	return v, w.quote(t, chain...), c
}

// appraise builds and appraises.
func (w *world) appraise(t testing.TB) (*Result, error) {
	t.Helper()
	v, raw, c := w.build(t)
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	return v.Verify(w.now, q, c)
}

// wrong returns the checks that did not pass.
func wrong(r *Result, status check.Status) (ids []string) {
	for _, c := range r.Checks {
		if c.Status == status {
			ids = append(ids, c.ID)
		}
	}
	if status == check.Fail {
		failures.Failed(ids)
	}
	return ids
}

// failures is what the tests of this package saw fail.
var failures alone.Recorder

// Every check must have been seen to fail alone: see package alone.
func TestMain(m *testing.M) {
	const fact = "it states which level was found; whether that is good enough is for a policy"
	failures.Main(m, map[string]string{CheckTCBPlatform: fact, CheckTCBQE: fact})
}

var criticalExtension = pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
