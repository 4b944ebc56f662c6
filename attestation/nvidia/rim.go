package nvidia

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/c14n"
)

// Limits of a reference integrity manifest. NVIDIA's have 26 KiB and about
// 130 elements.
const (
	MaxRIMSize     = 128 << 10
	maxRIMElements = 1024
	maxRIMDepth    = 12
	maxRIMAttrs    = 72 // 63 alternatives and all other attributes
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
// fails the checks of every appraisal that uses it. It allocates no more than
// four times the manifest's size, and 96 KiB for certificates and signatures.
func ParseRIM(b []byte) (*RIM, error) {
	if len(b) > MaxRIMSize {
		return nil, fmt.Errorf("nvidia: manifest of %d bytes, the most is %d", len(b), MaxRIMSize)
	}
	r := &RIM{Raw: b}
	if err := r.parse(string(b)); err != nil {
		return nil, fmt.Errorf("nvidia: manifest: %w", err)
	}
	return r, nil
}

// parse reads document and signature in one pass. Every value is taken from the very token that is written, in canonical form, to the
// digest that covers it, so that nothing can be read that was not signed.
func (r *RIM) parse(doc string) error {
	x, err := c14n.NewReader(doc, c14n.Limits{Depth: maxRIMDepth, Elements: maxRIMElements, Attrs: maxRIMAttrs})
	if err != nil {
		return err
	}
	var (
		digest = sha512.New384()
		signed = c14n.NewWriter(digest)
		path   = make([]c14n.Name, 0, maxRIMDepth) // of the open elements
		metas  int
		sig    *signature
	)
	for {
		t, err := x.Next()
		if err != nil {
			return err
		}
		if t == nil {
			break
		}
		if t.Kind == c14n.Start {
			path = append(path, t.Name)
			// The one signature is a child of the root and no part of what it signs (XML Signature 1.1, 6.6.4).
			if len(path) == 2 && t.Name.Local == "Signature" {
				switch {
				case sig != nil:
					return errors.New("more than one signature")
				case t.Name.Space != DSigNamespace:
					return errors.New("the signature is not an XML signature")
				}
				if sig, err = readSignature(x); err != nil {
					return err
				}
				path = path[:1]
				continue
			}
			switch {
			case len(path) == 1 && t.Name != swid("SoftwareIdentity"):
				return errors.New("the root element is no SoftwareIdentity of ISO/IEC 19770-2")
			case len(path) == 1:
				r.TagID, _ = t.Attr("", "tagId")
			case len(path) == 2 && t.Name == swid("Meta"):
				metas++
				r.Version, _ = t.Attr("", "colloquialVersion")
				r.Edition, _ = t.Attr("", "edition")
				r.Product, _ = t.Attr("", "product")
			case len(path) == 3 && path[1] == swid("Payload") && t.Name == swid("Resource"):
				if err := r.readResource(t); err != nil {
					return err
				}
			}
		}
		signed.Write(x)
		if t.Kind == c14n.End {
			path = path[:len(path)-1]
		}
	}
	signed.Flush()
	switch {
	case sig == nil:
		return errors.New("no signature")
	case metas != 1:
		return fmt.Errorf("%d Meta elements, want 1", metas)
	case r.Version == "" || r.Product == "":
		return errors.New("no colloquialVersion or no product")
	case len(r.Golden) == 0:
		return errors.New("no active measurement")
	}
	slices.SortFunc(r.Golden, func(a, b Golden) int { return cmp.Compare(a.Index, b.Index) })
	r.certs, r.root = sig.certs, fingerprint(sig.certs[len(sig.certs)-1])
	r.validity = chainValidity(r.certs)
	r.chainErr = verifyLinks(r.certs)
	r.sigErr = sig.verify(digest.Sum(nil))
	return nil
}

func swid(local string) c14n.Name { return c14n.Name{Space: SWIDNamespace, Local: local} }
func ds(local string) c14n.Name   { return c14n.Name{Space: DSigNamespace, Local: local} }

// signature is what a ds:Signature says.
type signature struct {
	info   [sha512.Size384]byte // digest of the canonical SignedInfo
	digest []byte               // DigestValue
	value  []byte               // SignatureValue
	certs  []*x509.Certificate
}

// signedInfo is the one SignedInfo that is accepted, element by element: its depth, its name, and its only attribute.
// XML Signature 1.1, 4.4, demands the same order.
var signedInfo = []struct {
	depth             int
	name, attr, value string
}{
	{1, "SignedInfo", "", ""},
	{2, "CanonicalizationMethod", "Algorithm", AlgorithmC14N11},
	{2, "SignatureMethod", "Algorithm", AlgorithmECDSASHA384},
	{2, "Reference", "URI", ""}, // the whole document
	{3, "Transforms", "", ""},
	{4, "Transform", "Algorithm", AlgorithmEnveloped},
	{4, "Transform", "Algorithm", AlgorithmC14N11},
	{3, "DigestMethod", "Algorithm", AlgorithmSHA384},
	{3, "DigestValue", "", ""},
}

// readSignature reads on to the end of the ds:Signature whose start tag was read last.
func readSignature(x *c14n.Reader) (*signature, error) {
	var (
		s      = &signature{}
		hash   = sha512.New384()
		signed = c14n.NewWriter(hash)
		path   = make([]c14n.Name, 0, maxRIMDepth) // below the signature
		infos  int                                 // elements of SignedInfo
		values int
		text   []byte // of the innermost element, without white space
	)
	for {
		t, err := x.Next()
		if err != nil {
			return nil, err
		}
		if t.Kind == c14n.Start {
			path, text = append(path, t.Name), text[:0]
		}
		if len(path) == 0 {
			if t.Kind == c14n.End {
				break
			}
			continue // white space
		}
		// SignedInfo is canonicalized where it stands: with the namespaces of its ancestors in scope.
		info := path[0].Local == "SignedInfo"
		if info {
			signed.Write(x)
		}
		switch t.Kind {
		case c14n.Start:
			if info {
				if err := isSignedInfo(infos, len(path), t); err != nil {
					return nil, err
				}
				infos++
			}
		case c14n.Text:
			for field := range strings.FieldsSeq(t.Text) {
				text = append(text, field...)
			}
		case c14n.End:
			switch {
			case info && infos == len(signedInfo) && len(path) == 3 && t.Name == ds("DigestValue"):
				if s.digest, err = unbase64(text); err != nil {
					return nil, fmt.Errorf("DigestValue: %w", err)
				}
			case len(path) == 1 && t.Name == ds("SignatureValue"):
				if values++; values > 1 {
					return nil, errors.New("the signature has more than one SignatureValue")
				}
				if s.value, err = unbase64(text); err != nil {
					return nil, fmt.Errorf("SignatureValue: %w", err)
				}
			case len(path) == 3 && path[0] == ds("KeyInfo") && path[1] == ds("X509Data") && t.Name == ds("X509Certificate"):
				if len(s.certs) == maxRIMCerts {
					return nil, fmt.Errorf("the signature carries more than %d certificates", maxRIMCerts)
				}
				der, err := unbase64(text)
				if err != nil {
					return nil, fmt.Errorf("certificate %d: %w", len(s.certs), err)
				}
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					return nil, fmt.Errorf("certificate %d: %w", len(s.certs), err)
				}
				s.certs = append(s.certs, cert)
			}
			path, text = path[:len(path)-1], text[:0]
		}
	}
	signed.Flush()
	hash.Sum(s.info[:0])
	switch {
	case infos != len(signedInfo):
		return nil, errors.New("the signature has no SignedInfo, or one that says less than all")
	case values == 0:
		return nil, errors.New("the signature has no SignatureValue")
	case len(s.certs) == 0:
		return nil, errors.New("the signature carries no certificates")
	}
	return s, nil
}

// isSignedInfo says why a start tag is not the nth of the SignedInfo that is accepted.
func isSignedInfo(n, depth int, t *c14n.Token) error {
	if n == len(signedInfo) {
		return fmt.Errorf("the signature has a second SignedInfo, or %.64q too much in it", t.Name.Local)
	}
	want := signedInfo[n]
	attrs := 0
	if want.attr != "" {
		attrs = 1
	}
	value, has := t.Attr("", want.attr)
	switch {
	case t.Name != ds(want.name), depth != want.depth, len(t.Attrs) != attrs, attrs == 1 && !has:
		return fmt.Errorf("SignedInfo: element %.64q or its attributes are not what is expected there, %q", t.Name.Local, want.name)
	case value != want.value && want.attr == "URI":
		return errors.New("the signature refers to something else than the whole document")
	case value != want.value:
		return errors.New("the signature uses other algorithms than c14n 1.1, ECDSA-SHA384 and SHA-384 over the enveloping document")
	}
	return nil
}

func unbase64(b []byte) ([]byte, error) {
	return base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(b))), b)
}

// verify checks digest and signature; the key is the first certificate's,
// whose own worth is another check.
func (s *signature) verify(digest []byte) error {
	if !bytes.Equal(digest, s.digest) {
		return errors.New("the document's digest is not the signed one")
	}
	pub, err := p384Key(s.certs[0])
	if err != nil {
		return err
	}
	return verifyDigest(pub, &s.info, s.value)
}

// readResource reads one measurement of the payload.
func (r *RIM) readResource(t *c14n.Token) error {
	attr := func(name string) string { v, _ := t.Attr("", name); return v }
	if attr("type") != "Measurement" {
		return fmt.Errorf("resource of type %.64q, want Measurement", attr("type"))
	}
	g := Golden{Name: attr("name")}
	index, err := strconv.ParseUint(attr("index"), 10, 8)
	if err != nil || index > 253 {
		return fmt.Errorf("measurement index %.64q, want 0 to 253", attr("index"))
	}
	g.Index = int(index)
	switch attr("active") {
	case "True":
	case "False":
		return nil
	default:
		return fmt.Errorf("measurement %d is neither active nor inactive: %.64q", index, attr("active"))
	}
	size, err := strconv.ParseUint(attr("size"), 10, 8)
	if err != nil || size != DigestSize {
		return fmt.Errorf("measurement %d has size %.64q, want %d", index, attr("size"), DigestSize)
	}
	alternatives, err := strconv.ParseUint(attr("alternatives"), 10, 6)
	if err != nil || alternatives == 0 {
		return fmt.Errorf("measurement %d has %.64q alternatives, want 1 to 63", index, attr("alternatives"))
	}
	for i := range alternatives {
		hash, _ := t.Attr(SHA384Namespace, "Hash"+strconv.FormatUint(i, 10))
		v, err := hex.DecodeString(hash)
		if err != nil || len(v) != DigestSize {
			return fmt.Errorf("measurement %d: alternative %d is not a SHA-384 digest", index, i)
		}
		g.Values = append(g.Values, v)
	}
	if slices.ContainsFunc(r.Golden, func(o Golden) bool { return o.Index == g.Index }) {
		return fmt.Errorf("measurement %d is active twice", index)
	}
	r.Golden = append(r.Golden, g)
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
	r, others := v.pickRIM(o.Collateral.RIMs, product(res.Device), role == vbiosRole, version, o.Time)
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
	period := res.validity(role.validity, r.validity, o.Time)
	if o.Time.After(r.validity.to) {
		period.Stale = role.source + " RIM " + r.Version
	}
	add(period)
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

// pickRIM returns the manifest for product and version, of several one that is
// authentic and whose signers are valid at t: NVIDIA signs manifests anew when
// signers expire. Without any for the version it returns the versions there are.
func (v *Verifier) pickRIM(rims []*RIM, product string, vbios bool, version string, t time.Time) (pick *RIM, others []string) {
	worth := func(r *RIM) int {
		switch {
		case r.sigErr != nil || v.rimChain(r) != nil:
			return 1
		case !r.validity.contains(t):
			return 2
		}
		return 3
	}
	best := 0
	for _, r := range rims {
		switch {
		case r == nil || r.Product != product || r.VBIOS() != vbios:
		case r.Version != version:
			others = append(others, r.Version)
		case worth(r) > best:
			pick, best = r, worth(r)
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
