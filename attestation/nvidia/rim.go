package nvidia

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/beevik/etree"
	"github.com/bombyx-network/bombyx/attestation/check"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

// Limits of a reference integrity manifest. NVIDIA's have 26 KiB and about
// 130 elements. The XML is read, copied and canonicalized as a tree, which
// allocates about 40 times its size in all, most of it freed on the way: so
// that no manifest makes more than 5 MiB of that.
const (
	MaxRIMSize     = 128 << 10
	maxRIMElements = 1024
	maxRIMDepth    = 12
	maxRIMCerts    = 8
)

// Namespaces and algorithms of a manifest (ISO/IEC 19770-2:2015; TCG RIM
// Information Model 1.01; W3C XML Signature 1.1).
const (
	SWIDNamespace   = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
	SHA384Namespace = "http://www.w3.org/2001/04/xmlenc#sha384" // of the attributes Hash0, Hash1, ...
	DSigNamespace   = "http://www.w3.org/2000/09/xmldsig#"

	AlgorithmC14N11      = "http://www.w3.org/2006/12/xml-c14n11"
	AlgorithmEnveloped   = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	AlgorithmSHA384      = "http://www.w3.org/2001/04/xmldsig-more#sha384"
	AlgorithmECDSASHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384" // r||s, 48 bytes each
)

// RIM is a parsed reference integrity manifest: golden measurements of one
// driver or VBIOS version, with an XML signature and the certificates of its
// signer. It is immutable and may be shared; what can be known about it
// without a clock and without trusted roots was computed once, by ParseRIM.
type RIM struct {
	Product string // "GH100", "GB100", "LS10"
	Edition string // "GPU" or "SWITCH"
	Version string // of the driver ("550.144.03") or VBIOS ("96.00.5E.00.01")
	TagID   string
	Golden  []Golden // active measurements, by ascending index
	Raw     []byte   // the document as it came

	certs    []*x509.Certificate // leaf first
	root     Fingerprint
	validity validity
	sigErr   error // why the XML signature does not hold
	chainErr error // why the certificates are no path to certs' last
}

// Golden is one active reference measurement.
type Golden struct {
	Index  int // SPDM block Index+1
	Name   string
	Values [][]byte // any of them
}

// Mismatch is one golden measurement that the report does not match.
type Mismatch struct {
	Index  int    // golden index; SPDM block Index+1
	Source string // "driver" or "vbios"
	Name   string
	Want   []string // hexadecimal, any of them
	Got    string   // hexadecimal; empty when the report has no such block
}

// VBIOS says whether the manifest is for a VBIOS, by the form of its version;
// otherwise it is for a driver. A manifest has no other mark.
func (r *RIM) VBIOS() bool {
	parts := strings.Split(r.Version, ".")
	for _, p := range parts {
		if b, err := hex.DecodeString(p); err != nil || len(b) != 1 {
			return false
		}
	}
	return len(parts) == 5
}

// Signers returns the certificates that the manifest carries, the signer's first. What they are worth an appraisal says.
func (r *RIM) Signers() []*x509.Certificate { return slices.Clone(r.certs) }

// ParseRIM parses a manifest, which it keeps. An error means that it is malformed. A manifest
// with a wrong signature or an incomplete certificate path is returned, and
// fails the checks of every appraisal that uses it.
func ParseRIM(b []byte) (*RIM, error) {
	if len(b) > MaxRIMSize {
		return nil, fmt.Errorf("nvidia: manifest of %d bytes, the most is %d", len(b), MaxRIMSize)
	}
	if err := scanXML(b); err != nil {
		return nil, fmt.Errorf("nvidia: manifest: %w", err)
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(b); err != nil {
		return nil, fmt.Errorf("nvidia: manifest: %w", err)
	}
	root := doc.Root()
	if root == nil {
		return nil, errors.New("nvidia: manifest is empty")
	}
	sig, err := takeSignature(root)
	if err != nil {
		return nil, fmt.Errorf("nvidia: manifest: %w", err)
	}
	// Values are read from the bytes that the digest covers, not from the
	// document as it came, so that nothing can be read that was not signed.
	signed, err := dsig.MakeC14N11Canonicalizer().Canonicalize(root)
	if err != nil {
		return nil, fmt.Errorf("nvidia: manifest: %w", err)
	}
	r := &RIM{Raw: b, certs: sig.certs, root: fingerprint(sig.certs[len(sig.certs)-1])}
	if err := r.parseTag(signed); err != nil {
		return nil, fmt.Errorf("nvidia: manifest: %w", err)
	}
	r.validity = chainValidity(r.certs)
	r.chainErr = verifyLinks(r.certs)
	r.sigErr = sig.verify(signed)
	return r, nil
}

// scanXML refuses documents that would be expensive or ambiguous: deep, wide,
// with a DOCTYPE or with processing instructions other than the XML
// declaration.
func scanXML(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	for depth, elements := 0, 0; ; {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			elements++
			if depth > maxRIMDepth || elements > maxRIMElements || len(t.Attr) > 64 {
				return fmt.Errorf("more than %d nested or %d elements, or 64 attributes", maxRIMDepth, maxRIMElements)
			}
		case xml.EndElement:
			depth--
		case xml.Directive:
			return errors.New("a DOCTYPE is not allowed")
		case xml.ProcInst:
			if t.Target != "xml" || elements != 0 {
				return errors.New("processing instructions are not allowed")
			}
		}
	}
}

// signature is a ds:Signature taken out of its document.
type signature struct {
	signedInfo []byte // canonical
	digest     []byte // DigestValue
	value      []byte // SignatureValue
	certs      []*x509.Certificate
}

// takeSignature removes the one enveloped signature from root (XML Signature
// 1.1, 6.6.4) and reads it.
func takeSignature(root *etree.Element) (*signature, error) {
	var el *etree.Element
	for _, child := range root.ChildElements() {
		if child.Tag == "Signature" {
			if el != nil {
				return nil, errors.New("more than one signature")
			}
			el = child
		}
	}
	if el == nil {
		return nil, errors.New("no signature")
	}
	// SignedInfo is canonicalized where it stands: with the namespaces of its
	// ancestors in scope.
	scope, err := etreeutils.NSBuildParentContext(el)
	if err != nil {
		return nil, err
	}
	if ns, err := subNamespace(scope, el); err != nil || ns != DSigNamespace {
		return nil, errors.New("the signature is not an XML signature")
	}
	if scope, err = scope.SubContext(el); err != nil {
		return nil, err
	}
	infos := el.SelectElements("SignedInfo")
	if len(infos) != 1 {
		return nil, fmt.Errorf("the signature has %d SignedInfo elements, want 1", len(infos))
	}
	s := &signature{}
	if s.signedInfo, err = canonical(scope, infos[0]); err != nil {
		return nil, err
	}
	if err := s.parseSignedInfo(); err != nil {
		return nil, err
	}
	rest, err := canonical(scope, el)
	if err != nil {
		return nil, err
	}
	var x struct {
		XMLName      xml.Name `xml:"http://www.w3.org/2000/09/xmldsig# Signature"`
		Value        []string `xml:"http://www.w3.org/2000/09/xmldsig# SignatureValue"`
		Certificates []string `xml:"http://www.w3.org/2000/09/xmldsig# KeyInfo>X509Data>X509Certificate"`
	}
	if err := xml.Unmarshal(rest, &x); err != nil {
		return nil, err
	}
	if len(x.Value) != 1 {
		return nil, fmt.Errorf("the signature has %d SignatureValue elements, want 1", len(x.Value))
	}
	if s.value, err = unbase64(x.Value[0]); err != nil {
		return nil, fmt.Errorf("SignatureValue: %w", err)
	}
	if len(x.Certificates) == 0 || len(x.Certificates) > maxRIMCerts {
		return nil, fmt.Errorf("the signature carries %d certificates, want 1 to %d", len(x.Certificates), maxRIMCerts)
	}
	for i, c := range x.Certificates {
		der, err := unbase64(c)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		s.certs = append(s.certs, cert)
	}
	for _, child := range root.ChildElements() {
		if child.Tag == "Signature" {
			root.RemoveChild(child)
		}
	}
	return s, nil
}

// canonical returns an element in canonical form with the namespaces that it
// inherits.
func canonical(scope etreeutils.NSContext, el *etree.Element) ([]byte, error) {
	detached, err := etreeutils.NSDetatch(scope, el)
	if err != nil {
		return nil, err
	}
	return dsig.MakeC14N11Canonicalizer().Canonicalize(detached)
}

// parseSignedInfo reads SignedInfo from the bytes that the signature is over.
func (s *signature) parseSignedInfo() error {
	var x struct {
		XMLName                xml.Name    `xml:"http://www.w3.org/2000/09/xmldsig# SignedInfo"`
		CanonicalizationMethod []algorithm `xml:"http://www.w3.org/2000/09/xmldsig# CanonicalizationMethod"`
		SignatureMethod        []algorithm `xml:"http://www.w3.org/2000/09/xmldsig# SignatureMethod"`
		Reference              []struct {
			URI        *string     `xml:"URI,attr"`
			Transforms []algorithm `xml:"http://www.w3.org/2000/09/xmldsig# Transforms>Transform"`
			Method     []algorithm `xml:"http://www.w3.org/2000/09/xmldsig# DigestMethod"`
			Value      []string    `xml:"http://www.w3.org/2000/09/xmldsig# DigestValue"`
		} `xml:"http://www.w3.org/2000/09/xmldsig# Reference"`
	}
	if err := xml.Unmarshal(s.signedInfo, &x); err != nil {
		return err
	}
	if len(x.Reference) != 1 || len(x.Reference[0].Value) != 1 {
		return errors.New("SignedInfo needs one Reference with one DigestValue")
	}
	ref := x.Reference[0]
	switch {
	case !is(x.CanonicalizationMethod, AlgorithmC14N11), !is(x.SignatureMethod, AlgorithmECDSASHA384), !is(ref.Method, AlgorithmSHA384),
		!is(ref.Transforms, AlgorithmEnveloped, AlgorithmC14N11):
		return errors.New("the signature uses other algorithms than c14n 1.1, ECDSA-SHA384 and SHA-384 over the enveloping document")
	case ref.URI == nil || *ref.URI != "":
		return errors.New("the signature refers to something else than the whole document")
	}
	digest, err := unbase64(ref.Value[0])
	if err != nil {
		return fmt.Errorf("DigestValue: %w", err)
	}
	s.digest = digest
	return nil
}

type algorithm struct {
	Algorithm string `xml:",attr"`
}

func is(got []algorithm, want ...string) bool {
	return slices.EqualFunc(got, want, func(a algorithm, w string) bool { return a.Algorithm == w })
}

// subNamespace returns the namespace of an element below scope.
func subNamespace(scope etreeutils.NSContext, el *etree.Element) (string, error) {
	scope, err := scope.SubContext(el)
	if err != nil {
		return "", err
	}
	return scope.LookupPrefix(el.Space)
}

func unbase64(s string) ([]byte, error) {
	return base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(s), ""))
}

// verify checks digest and signature; the key is the first certificate's,
// whose own worth is another check.
func (s *signature) verify(signed []byte) error {
	if digest := sha512.Sum384(signed); !bytes.Equal(digest[:], s.digest) {
		return errors.New("the document's digest is not the signed one")
	}
	var pub *ecdsa.PublicKey
	pub, err := p384Key(s.certs[0])
	if err != nil {
		return err
	}
	return verifyRaw(pub, s.signedInfo, s.value)
}

// parseTag reads the SWID tag from its canonical bytes.
func (r *RIM) parseTag(b []byte) error {
	var x struct {
		XMLName xml.Name `xml:"http://standards.iso.org/iso/19770/-2/2015/schema.xsd SoftwareIdentity"`
		TagID   string   `xml:"tagId,attr"`
		Meta    []struct {
			Version string `xml:"colloquialVersion,attr"`
			Edition string `xml:"edition,attr"`
			Product string `xml:"product,attr"`
		} `xml:"http://standards.iso.org/iso/19770/-2/2015/schema.xsd Meta"`
		Resources []struct {
			Attrs []xml.Attr `xml:",any,attr"`
		} `xml:"http://standards.iso.org/iso/19770/-2/2015/schema.xsd Payload>Resource"`
	}
	if err := xml.Unmarshal(b, &x); err != nil {
		return err
	}
	if len(x.Meta) != 1 {
		return fmt.Errorf("%d Meta elements, want 1", len(x.Meta))
	}
	r.TagID, r.Version, r.Edition, r.Product = x.TagID, x.Meta[0].Version, x.Meta[0].Edition, x.Meta[0].Product
	if r.Version == "" || r.Product == "" {
		return errors.New("no colloquialVersion or no product")
	}
	for _, resource := range x.Resources {
		attrs := map[xml.Name]string{}
		for _, a := range resource.Attrs {
			if _, twice := attrs[a.Name]; twice {
				return fmt.Errorf("attribute %s appears twice", a.Name.Local)
			}
			attrs[a.Name] = a.Value
		}
		attr := func(name string) string { return attrs[xml.Name{Local: name}] }
		if attr("type") != "Measurement" {
			return fmt.Errorf("resource of type %q, want Measurement", attr("type"))
		}
		g := Golden{Name: attr("name")}
		index, err := strconv.ParseUint(attr("index"), 10, 8)
		if err != nil || index > 253 {
			return fmt.Errorf("measurement index %q, want 0 to 253", attr("index"))
		}
		g.Index = int(index)
		switch attr("active") {
		case "True":
		case "False":
			continue
		default:
			return fmt.Errorf("measurement %d is neither active nor inactive: %q", index, attr("active"))
		}
		size, err := strconv.ParseUint(attr("size"), 10, 8)
		if err != nil || size != DigestSize {
			return fmt.Errorf("measurement %d has size %q, want %d", index, attr("size"), DigestSize)
		}
		alternatives, err := strconv.ParseUint(attr("alternatives"), 10, 6)
		if err != nil || alternatives == 0 {
			return fmt.Errorf("measurement %d has %q alternatives, want 1 to 63", index, attr("alternatives"))
		}
		for i := range alternatives {
			v, err := hex.DecodeString(attrs[xml.Name{Space: SHA384Namespace, Local: fmt.Sprintf("Hash%d", i)}])
			if err != nil || len(v) != DigestSize {
				return fmt.Errorf("measurement %d: alternative %d is not a SHA-384 digest", index, i)
			}
			g.Values = append(g.Values, v)
		}
		if slices.ContainsFunc(r.Golden, func(o Golden) bool { return o.Index == g.Index }) {
			return fmt.Errorf("measurement %d is active twice", index)
		}
		r.Golden = append(r.Golden, g)
	}
	if len(r.Golden) == 0 {
		return errors.New("no active measurement")
	}
	slices.SortFunc(r.Golden, func(a, b Golden) int { return cmp.Compare(a.Index, b.Index) })
	return nil
}

// role is what a manifest is used for.
type role struct {
	source                                    string
	signature, chain, validity, version, ocsp string
}

var (
	driverRole = role{"driver", CheckDriverRIMSignature, CheckDriverRIMChain, CheckDriverRIMValidity, CheckDriverRIMVersion, CheckDriverRIMOCSP}
	vbiosRole  = role{"vbios", CheckVBIOSRIMSignature, CheckVBIOSRIMChain, CheckVBIOSRIMValidity, CheckVBIOSRIMVersion, CheckVBIOSRIMOCSP}
)

const (
	clauseRIMSignature = "W3C XML Signature 1.1, 3.2"
	clauseRIMChain     = "RFC 5280, 6.1; TCG RIM Information Model 1.01"
	clauseRIMVersion   = "ISO/IEC 19770-2:2015, Meta colloquialVersion and product"
	clauseMeasurements = "TCG RIM Information Model 1.01; DMTF DSP0274 1.1.0, measurement block"
)

// product returns what manifests call the device: its chip.
func product(d *Device) string { return strings.ReplaceAll(d.Model, "_", "") }

// rims appends the checks on manifests and returns the authentic ones, by
// role. v.rimRoots says which are.
func (v *Verifier) rims(res *Result, o Options) (driver, vbios *RIM) {
	if res.Report.Kind == KindGPU {
		driver = v.rim(res, o, driverRole, res.Report.DriverVersion)
	}
	return driver, v.rim(res, o, vbiosRole, res.Report.VBIOSVersion)
}

// skipRIMs lists what rims and measure would have checked.
func skipRIMs(res *Result, why string) {
	roles := []role{driverRole, vbiosRole}
	if res.Report.Kind == KindSwitch {
		roles = roles[1:]
	}
	for _, r := range roles {
		res.Checks = append(res.Checks, skipped(r.version, clauseRIMVersion, why), skipped(r.signature, clauseRIMSignature, why),
			skipped(r.chain, clauseRIMChain, why), skipped(r.validity, clauseValidity, why), skipped(r.ocsp, clauseOCSP, why))
	}
	res.Checks = append(res.Checks, skipped(CheckMeasurements, clauseMeasurements, why))
}

func (v *Verifier) rim(res *Result, o Options, role role, version string) *RIM {
	add := func(c check.Check) { res.Checks = append(res.Checks, c) }
	skip := func(why string) {
		add(skipped(role.signature, clauseRIMSignature, why))
		add(skipped(role.chain, clauseRIMChain, why))
		add(skipped(role.validity, clauseValidity, why))
	}
	r, others := v.pickRIM(o.Collateral.RIMs, product(res.Device), role == vbiosRole, version)
	if r == nil {
		why := "no " + role.source + " RIM for " + product(res.Device) + " was given"
		if len(others) == 0 {
			add(skipped(role.version, clauseRIMVersion, why))
		} else {
			why = "the given " + role.source + " RIMs are for other versions"
			add(check.Check{ID: role.version, Status: check.Fail, Clause: clauseRIMVersion, Seen: strings.Join(others, ", "), Wanted: version, Detail: why})
		}
		skip(why)
		add(skipped(role.ocsp, clauseOCSP, why))
		return nil
	}
	add(check.Check{ID: role.version, Status: check.Pass, Clause: clauseRIMVersion, Seen: r.Product + " " + r.Version, Wanted: product(res.Device) + " " + version})
	if r.sigErr != nil {
		add(failed(role.signature, clauseRIMSignature, r.sigErr))
	} else {
		add(check.Check{ID: role.signature, Status: check.Pass, Clause: clauseRIMSignature, Seen: "ECDSA P-384, SHA-384"})
	}
	if err := v.rimChain(r); err != nil {
		add(failed(role.chain, clauseRIMChain, err))
		add(skipped(role.validity, clauseValidity, "the RIM's certificate chain did not verify"))
		add(skipped(role.ocsp, clauseOCSP, "the RIM's certificate chain did not verify"))
		return nil
	}
	add(check.Check{ID: role.chain, Status: check.Pass, Clause: clauseRIMChain, Seen: r.certs[0].Subject.CommonName + ", serial " + r.certs[0].SerialNumber.String()})
	add(res.validity(role.validity, r.validity, o.Time))
	add(v.ocsp(res, o, role.ocsp, r.certs, 0))
	if r.sigErr != nil {
		return nil
	}
	return r
}

func (v *Verifier) rimChain(r *RIM) error {
	if !pinned(v.rimRoots, r.root) {
		return fmt.Errorf("root certificate %s (%s) is not among the pinned ones", r.root, r.certs[len(r.certs)-1].Subject.CommonName)
	}
	return r.chainErr
}

// pickRIM returns the manifest for product and version, an authentic one if
// there are several, or else the versions that there are.
func (v *Verifier) pickRIM(rims []*RIM, product string, vbios bool, version string) (pick *RIM, others []string) {
	for _, r := range rims {
		switch {
		case r == nil || r.Product != product || r.VBIOS() != vbios:
		case r.Version != version:
			others = append(others, r.Version)
		case pick == nil || v.rimChain(pick) != nil || pick.sigErr != nil:
			pick = r
		}
	}
	return pick, others
}

// nvdec0Index is the golden index of NVDEC0, which measures nothing when the
// engine is disabled.
const nvdec0Index = 35

// measure compares the report with the golden measurements of both manifests.
func measure(res *Result, driver, vbios *RIM) check.Check {
	c := check.Check{ID: CheckMeasurements, Status: check.Fail, Clause: clauseMeasurements}
	r := res.Report
	if driver == nil && vbios == nil {
		c.Status, c.Detail = check.Skip, "no authentic RIM"
		return c
	}
	blocks := map[int][]byte{}
	for _, m := range r.Measurements {
		blocks[int(m.Index)-1] = m.Value
	}
	source := map[int]string{}
	var matched, all int
	for _, set := range []struct {
		rim    *RIM
		source string
	}{{driver, "driver"}, {vbios, "vbios"}} {
		if set.rim == nil {
			continue
		}
		for _, g := range set.rim.Golden {
			if other := source[g.Index]; other != "" {
				c.Detail = fmt.Sprintf("measurement %d is active in the %s RIM and in the %s RIM", g.Index, other, set.source)
				return c
			}
			source[g.Index] = set.source
			if g.Index == nvdec0Index && r.NVDEC0 == ToggleDisabled {
				continue
			}
			all++
			got := blocks[g.Index]
			if slices.ContainsFunc(g.Values, func(want []byte) bool { return bytes.Equal(want, got) }) {
				matched++
				continue
			}
			m := Mismatch{Index: g.Index, Source: set.source, Name: g.Name, Got: hex.EncodeToString(got)}
			for _, want := range g.Values {
				m.Want = append(m.Want, hex.EncodeToString(want))
			}
			res.Mismatches = append(res.Mismatches, m)
		}
	}
	c.Seen, c.Wanted = fmt.Sprintf("%d match", matched), fmt.Sprintf("%d match", all)
	switch {
	case len(res.Mismatches) != 0:
		m := res.Mismatches[0]
		c.Detail = fmt.Sprintf("%d of %d differ, the first is %s measurement %d (%s): the device does not run what NVIDIA released, or runs it in a debug mode",
			len(res.Mismatches), all, m.Source, m.Index, m.Name)
	case r.Kind == KindGPU && driver == nil:
		c.Status, c.Detail = check.Skip, "no authentic driver RIM: only the VBIOS was compared"
	case vbios == nil:
		c.Status, c.Detail = check.Skip, "no authentic VBIOS RIM: only the driver was compared"
	default:
		c.Status = check.Pass
	}
	return c
}
