package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// forge is a mock NVIDIA that makes evidence which is right in everything but
// what a test changes.
type forge struct {
	t     testing.TB
	certs []*x509.Certificate // leaf first
	keys  []*ecdsa.PrivateKey
}

// layout says how to make a device chain; the zero value is a Hopper GPU.
type layout struct {
	model   string // "GH100"
	serial  string // of the identity certificate
	tcbInfo bool
	flags   []byte                                   // content of the BIT STRING
	dice    func(issuerSPKI []byte) []pkix.Extension // replaces the DICE extension
	change  func(i int, c *x509.Certificate)         // before signing
	// signer replaces the issuer of certificate i; a nil key keeps it.
	signer func(i int, issuer *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey)
	curve  elliptic.Curve // of the leaf
	n      int            // certificates, 5 unless set
}

var forgedFWID = bytes.Repeat([]byte{0xF1}, DigestSize)

func newForge(t testing.TB, l layout) *forge {
	t.Helper()
	if l.model == "" {
		l.model = "GH100"
	}
	if l.serial == "" {
		l.serial = "410102030405060708"
	}
	if l.n == 0 {
		l.n = ChainLength
	}
	f := &forge{t: t, certs: make([]*x509.Certificate, l.n), keys: make([]*ecdsa.PrivateKey, l.n)}
	for i := l.n - 1; i >= 0; i-- {
		curve := elliptic.P384()
		if i == 0 && l.curve != nil {
			curve = l.curve
		}
		key := forgedKey(t, curve, i)
		f.keys[i] = key
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(1000 + i)),
			Subject:      pkix.Name{CommonName: fmt.Sprintf("Mock CA %d", i)},
			NotBefore:    at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0),
			SignatureAlgorithm:    x509.ECDSAWithSHA384,
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
		switch i {
		case 0:
			c.Subject.CommonName = l.model + " A01 GSP FMC LF"
			c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
			spki, err := x509.MarshalPKIXPublicKey(&f.keys[1].PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case l.dice != nil:
				c.ExtraExtensions = l.dice(spki)
			case l.tcbInfo:
				c.ExtraExtensions = []pkix.Extension{{Id: OIDTcbInfo, Value: tcbInfoDER(l.flags, forgedFWID)}}
			default:
				c.ExtraExtensions = []pkix.Extension{{Id: OIDCompositeDeviceID, Value: compositeDER(1, spki, forgedFWID)}}
			}
		case 1:
			c.Subject = pkix.Name{CommonName: l.model + " A01 GSP BROM", SerialNumber: l.serial}
		}
		if l.change != nil {
			l.change(i, c)
		}
		parent, signer := c, any(key)
		if i < l.n-1 {
			parent, signer = f.certs[i+1], f.keys[i+1]
		}
		if l.signer != nil {
			if p, k := l.signer(i, parent); k != nil {
				parent, signer = p, k
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		if f.certs[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

var (
	forgedMu   sync.Mutex
	forgedKeys = map[string]int{} // keys made so far, by test
)

// forgedKey makes the same keys in the same order in every run of a test, so
// that a fuzzing corpus stays meaningful.
func forgedKey(t testing.TB, curve elliptic.Curve, i int) *ecdsa.PrivateKey {
	t.Helper()
	forgedMu.Lock()
	forgedKeys[t.Name()]++
	seed := sha512.Sum512(fmt.Appendf(nil, "%s %d %d", t.Name(), forgedKeys[t.Name()], i))
	forgedMu.Unlock()
	d := seed[:(curve.Params().BitSize+7)/8]
	d[0] = 0 // below the order
	key, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func compositeDER(version int64, spki, fwid []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddBytes(spki)
		addFWID(b, oidSHA384, fwid)
	})
	return b.BytesOrPanic()
}

func tcbInfoDER(flags []byte, fwids ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte("MOCK")) })
		b.AddASN1(cbasn1.Tag(3).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(1) })
		b.AddASN1(cbasn1.Tag(6).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, f := range fwids {
				addFWID(b, oidSHA384, f)
			}
		})
		if flags != nil {
			b.AddASN1(cbasn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(flags) })
		}
	})
	return b.BytesOrPanic()
}

func addFWID(b *cryptobyte.Builder, alg asn1.ObjectIdentifier, digest []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(alg)
		b.AddASN1OctetString(digest)
	})
}

// pem returns the chain as PEM.
func (f *forge) pem() []byte {
	var b bytes.Buffer
	for _, c := range f.certs {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			f.t.Fatal(err)
		}
	}
	return b.Bytes()
}

func (f *forge) roots() []Fingerprint { return []Fingerprint{fingerprint(f.certs[len(f.certs)-1])} }

// verifier pins the forge as root of devices and RIMs.
func (f *forge) verifier() *Verifier {
	v, err := NewVerifier(Config{DeviceRoots: f.roots(), RIMRoots: f.roots()})
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// transcript is a report before it is signed.
type transcript struct {
	request, response []byte // headers
	nonce, respNonce  [NonceSize]byte
	blocks            [][]byte
	count             int // of blocks, when it is to be a lie
	fields            []Field
	tail              []byte // of the opaque data
}

func block(index byte, value []byte) []byte {
	b := []byte{index, MeasurementSpecDMTF}
	b = binary.LittleEndian.AppendUint16(b, uint16(3+len(value)))
	b = append(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func forgedMeasurement(index int) []byte {
	d := sha512.Sum384([]byte{byte(index)})
	return d[:]
}

// gpu is a Hopper GPU in single-GPU mode.
func gpu() *transcript {
	x := &transcript{
		request: []byte{SPDMVersion, CodeGetMeasurements, RequestSignature, RequestAllMeasurements}, response: []byte{SPDMVersion, CodeMeasurements, 0, 0},
		fields: []Field{
			{FieldVBIOSVersion, []byte{0x00, 0x5E, 0x00, 0x96, 0x01, 0, 0, 0}},
			{FieldBoardID, []byte{1, 2, 3, 4}},
			{FieldChipSKU, []byte("882\x00")},
			{FieldProject, []byte("1010\x00")},
			{FieldProjectSKU, []byte("0200\x00")},
			{FieldDriverVersion, []byte("545.00\x00")},
			{FieldNVDEC0, []byte{0x55}},
			{FieldFWID, forgedFWID},
			{FieldProtectedPCIe, []byte{0x55}},
			{FieldOpaqueVersion, []byte{1, 0}},
			{FieldFeatureFlag, []byte{0, 0}},
		},
	}
	for i := range 64 {
		x.blocks = append(x.blocks, block(byte(i+1), forgedMeasurement(i)))
	}
	x.nonce[0], x.respNonce[0] = 7, 8
	return x
}

// nvswitch is an LS10 switch with the given id.
func nvswitch(id PDI, gpus ...PDI) *transcript {
	x := gpu()
	x.blocks = x.blocks[:31]
	wired := bytes.Repeat([]byte{0}, 64)
	for i, g := range gpus {
		copy(wired[8*i:], g[:])
	}
	x.fields = []Field{
		{FieldVBIOSVersion, []byte("96.10.55.00.01")},
		{FieldDevicePDI, id[:]},
		{FieldGPUPDIs, append(wired, bytes.Repeat([]byte{0xFF}, 64)...)},
		{FieldLockStatus, []byte{1, 0}},
	}
	return x
}

// set replaces, or with a nil value removes, an opaque field.
func (x *transcript) set(id uint16, value []byte) *transcript {
	x.fields = slices.DeleteFunc(x.fields, func(f Field) bool { return f.ID == id })
	if value != nil {
		x.fields = append(x.fields, Field{id, value})
	}
	return x
}

// tbs encodes everything that is signed.
func (x *transcript) tbs() []byte {
	b := slices.Concat(x.request, x.nonce[:], []byte{0}, x.response)
	record := slices.Concat(x.blocks...)
	count := len(x.blocks)
	if x.count != 0 {
		count = x.count
	}
	b = append(b, byte(count), byte(len(record)), byte(len(record)>>8), byte(len(record)>>16))
	b = append(b, record...)
	b = append(b, x.respNonce[:]...)
	var opaque []byte
	for _, f := range x.fields {
		opaque = binary.LittleEndian.AppendUint16(opaque, f.ID)
		opaque = binary.LittleEndian.AppendUint16(opaque, uint16(len(f.Value)))
		opaque = append(opaque, f.Value...)
	}
	opaque = append(opaque, x.tail...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(opaque)))
	return append(b, opaque...)
}

func (x *transcript) sign(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	b := x.tbs()
	return append(b, rawSignature(t, key, b)...)
}

func rawSignature(t testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	t.Helper()
	d := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, d[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
}

// evidence signs a transcript with the forge's leaf.
func (f *forge) evidence(x *transcript) Evidence {
	return Evidence{Report: x.sign(f.t, f.keys[0]), Chain: f.pem()}
}

// manifest says how to make a RIM; the zero value is a driver RIM for gpu().
type manifest struct {
	product, version string
	golden           map[int][]string // index to alternatives in hexadecimal
	resources        string           // instead of golden
	body             func(string) string
	signed           func(string) string // changes the document after it was signed
	info             func(string) string // changes SignedInfo before it is signed
	certs            []*x509.Certificate
	key              *ecdsa.PrivateKey
}

// rim makes a manifest signed by the forge's leaf. Its document is written in
// canonical form so that the digest is over exactly what is written.
func (f *forge) rim(m manifest) []byte {
	f.t.Helper()
	if m.product == "" {
		m.product = "GH100"
	}
	if m.version == "" {
		m.version = "545.00"
	}
	if m.certs == nil {
		m.certs = f.certs
	}
	if m.key == nil {
		m.key = f.keys[0]
	}
	resources := m.resources
	if resources == "" {
		indices := []int{}
		for i := range m.golden {
			indices = append(indices, i)
		}
		slices.Sort(indices)
		for _, i := range indices {
			var hashes string
			for j, h := range m.golden[i] {
				hashes += fmt.Sprintf(` ns2:Hash%d="%s"`, j, h)
			}
			resources += fmt.Sprintf(`<ns0:Resource active="True" alternatives="%d" index="%d" name="Measurement_%d" size="48" type="Measurement"%s></ns0:Resource>`, len(m.golden[i]), i, i, hashes)
		}
	}
	const namespaces = ` xmlns="` + SWIDNamespace + `" xmlns:ns0="` + SWIDNamespace + `" xmlns:ns2="` + SHA384Namespace + `"`
	head := `<SoftwareIdentity` + namespaces + ` name="` + m.product + `" tagId="mock" version="1.0">` +
		`<ns0:Meta colloquialVersion="` + m.version + `" edition="GPU" product="` + m.product + `"></ns0:Meta>` +
		`<ns0:Payload>` + resources + `</ns0:Payload>`
	if m.body != nil {
		head = m.body(head)
	}
	const tail = `</SoftwareIdentity>`
	digest := sha512.Sum384([]byte(head + tail))
	inner := `<ds:CanonicalizationMethod Algorithm="` + AlgorithmC14N11 + `"></ds:CanonicalizationMethod>` +
		`<ds:SignatureMethod Algorithm="` + AlgorithmECDSASHA384 + `"></ds:SignatureMethod>` +
		`<ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="` + AlgorithmEnveloped + `"></ds:Transform><ds:Transform Algorithm="` + AlgorithmC14N11 + `"></ds:Transform></ds:Transforms>` +
		`<ds:DigestMethod Algorithm="` + AlgorithmSHA384 + `"></ds:DigestMethod><ds:DigestValue>` + base64.StdEncoding.EncodeToString(digest[:]) + `</ds:DigestValue></ds:Reference></ds:SignedInfo>`
	if m.info != nil {
		inner = m.info(inner)
	}
	// In its place SignedInfo inherits the namespaces of its ancestors.
	signedInfo := `<ds:SignedInfo xmlns="` + SWIDNamespace + `" xmlns:ds="` + DSigNamespace + `" xmlns:ns0="` + SWIDNamespace + `" xmlns:ns2="` + SHA384Namespace + `">` + inner
	var certs string
	for _, c := range m.certs {
		certs += `<ds:X509Certificate>` + base64.StdEncoding.EncodeToString(c.Raw) + `</ds:X509Certificate>`
	}
	doc := head + `<ds:Signature xmlns:ds="` + DSigNamespace + `"><ds:SignedInfo>` + inner +
		`<ds:SignatureValue>` + base64.StdEncoding.EncodeToString(rawSignature(f.t, m.key, []byte(signedInfo))) + `</ds:SignatureValue>` +
		`<ds:KeyInfo><ds:X509Data>` + certs + `</ds:X509Data></ds:KeyInfo></ds:Signature>` + tail
	if m.signed != nil {
		doc = m.signed(doc)
	}
	return []byte(doc)
}

// goldenRIMs returns the manifests that gpu() matches.
func (f *forge) goldenRIMs() (driver, vbios *RIM) {
	golden := func(indices ...int) map[int][]string {
		g := map[int][]string{}
		for _, i := range indices {
			g[i] = []string{strings.Repeat("00", DigestSize), hex.EncodeToString(forgedMeasurement(i))}
		}
		return g
	}
	// 35 does not match, and must not have to while NVDEC0 is disabled.
	d := golden(7, 9, 35)
	d[nvdec0Index] = []string{strings.Repeat("00", DigestSize)}
	driver, err := ParseRIM(f.rim(manifest{golden: d}))
	if err != nil {
		f.t.Fatal(err)
	}
	if vbios, err = ParseRIM(f.rim(manifest{version: "96.00.5E.00.01", golden: golden(0, 8, 10)})); err != nil {
		f.t.Fatal(err)
	}
	return driver, vbios
}

// answer says how to make an OCSP response.
type answer struct {
	cert, issuer    *x509.Certificate
	signer          *ecdsa.PrivateKey
	responder       *x509.Certificate // the issuer when nil
	status          RevocationStatus
	reason          int64
	nonce           []byte
	this, next      time.Time
	wrongIssuerHash bool
	responseStatus  int64
	include         []*x509.Certificate
	byKey           bool               // the responder is named by its key
	extensions      []cryptobyteWriter // of the response, after the nonce
	single          []cryptobyteWriter // of the one answer
	hash            asn1.ObjectIdentifier
	version         bool // write the default version
	copies          int  // of the one answer, beside it
}

type cryptobyteWriter = func(*cryptobyte.Builder)

func ocspExtension(id asn1.ObjectIdentifier, critical bool, value []byte) cryptobyteWriter {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(value)
		})
	}
}

func (f *forge) ocsp(a answer) []byte {
	f.t.Helper()
	if a.responder == nil {
		a.responder = a.issuer
	}
	if a.status == "" {
		a.status = RevocationGood
	}
	if a.this.IsZero() {
		a.this = at.Add(-time.Hour)
	}
	if a.next.IsZero() {
		a.next = at.Add(time.Hour)
	}
	name, key := sha512.Sum384(a.issuer.RawSubject), sha512.Sum384(publicKeyBits(a.issuer))
	if a.wrongIssuerHash {
		key[0] ^= 1
	}
	if a.hash == nil {
		a.hash = oidSHA384
	}
	if a.nonce != nil {
		value, err := asn1.Marshal(a.nonce)
		if err != nil {
			f.t.Fatal(err)
		}
		a.extensions = append([]cryptobyteWriter{ocspExtension(oidOCSPNonce, false, value)}, a.extensions...)
	}
	list := func(b *cryptobyte.Builder, extensions []cryptobyteWriter) {
		if extensions != nil {
			b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, x := range extensions {
						x(b)
					}
				})
			})
		}
	}
	var tbs cryptobyte.Builder
	tbs.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if a.version {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(0) })
		}
		if a.byKey {
			b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				hash := sha1.Sum(publicKeyBits(a.responder))
				b.AddASN1OctetString(hash[:])
			})
		} else {
			b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(a.responder.RawSubject) })
		}
		b.AddASN1GeneralizedTime(a.this)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for range 1 + a.copies {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(a.hash) })
						b.AddASN1OctetString(name[:])
						b.AddASN1OctetString(key[:])
						b.AddASN1BigInt(a.cert.SerialNumber)
					})
					switch a.status {
					case RevocationGood:
						b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
					case RevocationUnknown:
						b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
					default:
						b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
							b.AddASN1GeneralizedTime(a.this)
							b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Enum(a.reason) })
						})
					}
					b.AddASN1GeneralizedTime(a.this)
					b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.next) })
					list(b, a.single)
				})
			}
		})
		list(b, a.extensions)
	})
	data := tbs.BytesOrPanic()
	digest := sha512.Sum384(data)
	sig, err := ecdsa.SignASN1(rand.Reader, a.signer, digest[:])
	if err != nil {
		f.t.Fatal(err)
	}
	var basic cryptobyte.Builder
	basic.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(data)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSA384) })
		b.AddASN1BitString(sig)
		if len(a.include) != 0 {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, c := range a.include {
						b.AddBytes(c.Raw)
					}
				})
			})
		}
	})
	var out cryptobyte.Builder
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(a.responseStatus)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1OctetString(basic.BytesOrPanic())
			})
		})
	})
	return out.BytesOrPanic()
}

// element is one of a DER document; what it holds, an OCTET STRING included, is in children where that is DER again.
type element struct {
	tag      cbasn1.Tag
	content  []byte
	children []*element
}

func elements(der cryptobyte.String) (out []*element, ok bool) {
	for !der.Empty() {
		e, content := &element{}, cryptobyte.String{}
		if !der.ReadAnyASN1(&content, &e.tag) {
			return nil, false
		}
		e.content = content
		if e.tag&0x20 != 0 || e.tag == cbasn1.OCTET_STRING && len(content) > 1 && (content[0] == 0x30 || content[0] == 0x04) {
			e.children, _ = elements(content)
		}
		out = append(out, e)
	}
	return out, true
}

func (e *element) encode(b *cryptobyte.Builder) {
	b.AddASN1(e.tag, func(b *cryptobyte.Builder) {
		if e.children == nil {
			b.AddBytes(e.content)
		}
		for _, c := range e.children {
			c.encode(b)
		}
	})
}

// spoiled returns the document in every form that has one element more, or one less. Their names are the way there, by index, and "+"
// for an element more.
func spoiled(t *testing.T, der []byte) map[string][]byte {
	t.Helper()
	top, ok := elements(der)
	if !ok || len(top) != 1 {
		t.Fatalf("%x is not DER", der)
	}
	out := map[string][]byte{}
	emit := func(name string) {
		var b cryptobyte.Builder
		top[0].encode(&b)
		out[name] = b.BytesOrPanic()
	}
	var visit func(e *element, name string)
	visit = func(e *element, name string) {
		children := e.children
		if children == nil {
			return
		}
		e.children = append(slices.Clone(children), &element{tag: cbasn1.NULL})
		emit(name + "+")
		for i, c := range children {
			e.children = slices.Delete(slices.Clone(children), i, i+1)
			emit(fmt.Sprintf("%s%d", name, i))
			e.children = children
			visit(c, fmt.Sprintf("%s%d.", name, i))
		}
		e.children = children
	}
	visit(top[0], "")
	return out
}
