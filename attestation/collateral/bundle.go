// Package collateral holds Endorsements and reference values (RFC 9334) for offline appraisal: Intel TCB info, QE
// identities, certificate revocation lists, certificates, NVIDIA RIMs, OCSP answers and hardware lists.
//
// A [Bundle] recognises its items by what they contain, never by their names. It is not trusted: every item carries its
// own signature, which the appraisal checks against the policy's roots, so a host can serve a bundle to its clients. The
// bundle only says what is there; its digest names it.
package collateral

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// Limits on a bundle. All collateral for an eight-GPU Intel node takes about 200 KiB. They also bound the work that a hostile
// bundle can make: reading one RIM takes four P-384 verifications.
const (
	MaxBundle = 16 << 20 // bytes of the encoded document
	MaxItem   = 4 << 20  // bytes of one item
	MaxItems  = 1024
	MaxRIMs   = 128

	maxSigners = 16 // certificates tried for TCB infos and QE identities
	maxIssuers = 16 // certificates tried for the chain of one of them
)

// BundleVersion is the version of the encoded document.
const BundleVersion = 1

// A Kind says what an item was recognised as.
type Kind string

const (
	KindTCBInfo     Kind = "tcb-info"    // PCS "Get TCB Info" response body
	KindQEIdentity  Kind = "qe-identity" // PCS "Get QE Identity" response body
	KindCRL         Kind = "crl"         // DER (RFC 5280)
	KindCertificate Kind = "certificate" // DER (RFC 5280)
	KindRIM         Kind = "rim"         // NVIDIA reference integrity manifest, XML
	KindOCSP        Kind = "ocsp"        // DER OCSP response (RFC 6960)
	KindHardware    Kind = "hardware"    // signed list of machines, DSSE envelope
	KindToken       Kind = "token"       // Proof of Cloud token, JWT
)

// An Item is one recognised piece of collateral.
type Item struct {
	Kind   Kind
	Digest [32]byte // SHA-256 of Content
	// Content is the piece exactly as signed by its issuer; it must not be modified.
	Content []byte
	// About says for people what the piece is for. Nothing about it has been checked.
	About string
	// From and Until bound the time in which the piece, or a RIM's signer, says that it holds; zero where it says nothing.
	From, Until time.Time
}

// A Bundle is an immutable set of items; it is safe for concurrent use. The zero Bundle is empty.
type Bundle struct {
	items []Item // by digest

	tcbInfos     []*dcap.TCBInfo
	qeIdentities []*dcap.QEIdentity
	crls         []*dcap.CRL
	amdCRLs      []*snp.CRL
	certificates []*x509.Certificate
	rims         []*nvidia.RIM
	ocsp         [][]byte
	registry     policy.Registry

	signers map[[64]byte][][]*x509.Certificate // chains, by signature of a TCB info or QE identity
}

// document is the encoded form: items sorted by digest, each digest that of its content.
type document struct {
	Version int        `json:"bombyx_collateral"`
	Items   []docItems `json:"items"`
}

type docItems struct {
	Digest  [32]byte `json:"sha256"`
	Content []byte   `json:"content"`
}

// New returns a bundle of everything that the inputs contain. An input may be any single item, a PEM or hexadecimal form
// of one, a PEM list of certificates, a PCS response with its headers, an NVIDIA RIM service response, or an encoded
// bundle. An input that is none of these is an error.
func New(inputs ...[]byte) (*Bundle, error) {
	var contents [][]byte
	for i, in := range inputs {
		c, err := split(in)
		if err != nil {
			return nil, fmt.Errorf("collateral: input %d: %w", i+1, err)
		}
		contents = append(contents, c...)
	}
	return build(contents)
}

// Parse decodes a bundle. Its items must be sorted by digest, without repetition, each with its right digest.
func Parse(encoded []byte) (*Bundle, error) {
	contents, err := parseDocument(encoded)
	if err != nil {
		return nil, fmt.Errorf("collateral: bundle: %w", err)
	}
	return build(contents)
}

func parseDocument(encoded []byte) ([][]byte, error) {
	var d document
	if err := strictjson.Unmarshal(encoded, &d, MaxBundle); err != nil {
		return nil, err
	}
	if d.Version != BundleVersion {
		return nil, fmt.Errorf("version %d, this program reads version %d", d.Version, BundleVersion)
	}
	var contents [][]byte
	for i, it := range d.Items {
		if sha256.Sum256(it.Content) != it.Digest {
			return nil, fmt.Errorf("items[%d]: content does not have the stated digest", i)
		}
		if i > 0 && bytes.Compare(d.Items[i-1].Digest[:], it.Digest[:]) >= 0 {
			return nil, fmt.Errorf("items[%d]: not sorted by digest", i)
		}
		contents = append(contents, it.Content)
	}
	return contents, nil
}

func build(contents [][]byte) (*Bundle, error) {
	b := new(Bundle)
	for _, c := range contents {
		d := sha256.Sum256(c)
		at, found := slices.BinarySearchFunc(b.items, d, func(i Item, d [32]byte) int { return bytes.Compare(i.Digest[:], d[:]) })
		if found {
			continue
		}
		if len(b.items) == MaxItems {
			return nil, fmt.Errorf("collateral: more than %d items", MaxItems)
		}
		item, err := b.add(c)
		if err != nil {
			return nil, fmt.Errorf("collateral: item %x: %w", d[:8], err)
		}
		item.Digest, item.Content = d, c
		b.items = slices.Insert(b.items, at, item)
	}
	b.findSigners()
	return b, nil
}

// Encode returns the document that Parse reads.
func (b *Bundle) Encode() ([]byte, error) {
	d := document{Version: BundleVersion, Items: []docItems{}}
	for _, it := range b.items {
		d.Items = append(d.Items, docItems{it.Digest, it.Content})
	}
	out, err := strictjson.Marshal(d)
	if err == nil && len(out) > MaxBundle {
		err = fmt.Errorf("%d bytes, limit %d", len(out), MaxBundle)
	}
	if err != nil {
		return nil, fmt.Errorf("collateral: encode: %w", err)
	}
	return out, nil
}

// Digest names the bundle: the SHA-256 of its items' digests in order. It does not depend on the encoding.
func (b *Bundle) Digest() [32]byte {
	h := sha256.New()
	for _, it := range b.items {
		h.Write(it.Digest[:])
	}
	return [32]byte(h.Sum(nil))
}

// Items returns what the bundle holds, sorted by digest.
func (b *Bundle) Items() []Item { return slices.Clone(b.items) }

// newest returns the element to use at now: of those in force the one that newer prefers, or, when none is in force, of
// all. The caller's checks then say that it is expired, which is more useful than saying that there is none.
func newest[T any](all []T, inForce func(T) bool, newer func(a, b T) int) (best T, ok bool) {
	var pool []T
	for _, v := range all {
		if inForce(v) {
			pool = append(pool, v)
		}
	}
	if len(pool) == 0 {
		pool = all
	}
	if len(pool) == 0 {
		return best, false
	}
	return slices.MaxFunc(pool, newer), true
}

// TCBInfo returns the newest TCB info for a platform family at now, or nil. The id is "SGX" or "TDX". Newest means the
// highest tcbEvaluationDataNumber, then the latest issue date: an older one that is still valid never hides a newer one.
func (b *Bundle) TCBInfo(id string, fmspc [6]byte, now time.Time) *dcap.TCBInfo {
	var fit []*dcap.TCBInfo
	for _, t := range b.tcbInfos {
		if t.ID == id && t.FMSPC == fmspc {
			fit = append(fit, t)
		}
	}
	t, _ := newest(fit, func(t *dcap.TCBInfo) bool { return within(now, t.IssueDate, t.NextUpdate) },
		func(x, y *dcap.TCBInfo) int {
			return cmp.Or(cmp.Compare(x.TCBEvaluationDataNumber, y.TCBEvaluationDataNumber), x.IssueDate.Compare(y.IssueDate))
		})
	return t
}

// QEIdentity returns the newest QE identity at now, or nil. The id is "QE" or "TD_QE".
func (b *Bundle) QEIdentity(id string, now time.Time) *dcap.QEIdentity {
	var fit []*dcap.QEIdentity
	for _, t := range b.qeIdentities {
		if t.ID == id {
			fit = append(fit, t)
		}
	}
	t, _ := newest(fit, func(t *dcap.QEIdentity) bool { return within(now, t.IssueDate, t.NextUpdate) },
		func(x, y *dcap.QEIdentity) int {
			return cmp.Or(cmp.Compare(x.TCBEvaluationDataNumber, y.TCBEvaluationDataNumber), x.IssueDate.Compare(y.IssueDate))
		})
	return t
}

// CRL returns the newest revocation list at now by the issuer with that name and key identifier, or nil. The identifier
// tells apart issuers of the same name, such as Intel's production and test roots.
func (b *Bundle) CRL(issuer, keyID []byte, now time.Time) *dcap.CRL {
	var fit []*dcap.CRL
	for _, c := range b.crls {
		if bytes.Equal(c.List.RawIssuer, issuer) && bytes.Equal(c.List.AuthorityKeyId, keyID) {
			fit = append(fit, c)
		}
	}
	c, _ := newest(fit, func(c *dcap.CRL) bool { return within(now, c.List.ThisUpdate, c.List.NextUpdate) },
		func(x, y *dcap.CRL) int {
			return cmp.Or(crlNumber(x).Cmp(crlNumber(y)), x.List.ThisUpdate.Compare(y.List.ThisUpdate))
		})
	return c
}

// AMDCRLs returns the revocation lists of AMD's root keys: those in force at now first, and the newest of these before the others.
// None is left out for a newer one of the same root, because the KDS keeps a list beside its VCEKs and one beside its VLEKs.
func (b *Bundle) AMDCRLs(now time.Time) []*snp.CRL {
	lists := slices.Clone(b.amdCRLs)
	slices.SortStableFunc(lists, func(x, y *snp.CRL) int {
		if inForce := within(now, x.List.ThisUpdate, x.List.NextUpdate); inForce != within(now, y.List.ThisUpdate, y.List.NextUpdate) {
			if inForce {
				return -1
			}
			return 1
		}
		return y.List.ThisUpdate.Compare(x.List.ThisUpdate)
	})
	return lists
}

func crlNumber(c *dcap.CRL) *big.Int {
	if c.List.Number == nil {
		return new(big.Int)
	}
	return c.List.Number
}

func within(now, from, to time.Time) bool { return !now.Before(from) && now.Before(to) }

// intelSigners holds Intel's "Intel SGX TCB Signing" certificates, one key, 2018 and 2025: saved TCB info and QE identities
// often come without their issuer chain. They are trusted no more than anything else in a bundle.
//
//go:embed intel.pem
var intelSigners []byte

// Signer returns the chain, leaf first, of the certificate that signed a TCB info or QE identity of this bundle, or nil. Of
// several certificates for one key it is the one valid at now. The chain is what the bundle holds of it; nothing about it
// has been checked but that one signature.
func (b *Bundle) Signer(signature [64]byte, now time.Time) []*x509.Certificate {
	chain, _ := newest(b.signers[signature], func(c []*x509.Certificate) bool { return within(now, c[0].NotBefore, c[0].NotAfter) },
		func(x, y []*x509.Certificate) int { return x[0].NotAfter.Compare(y[0].NotAfter) })
	return chain
}

// findSigners pairs signed documents with certificates by trying, since neither names the other.
func (b *Bundle) findSigners() {
	var candidates []*x509.Certificate
	chains := map[*x509.Certificate][]*x509.Certificate{}
	add := func(c *x509.Certificate) {
		if isP256(c) && !c.IsCA && c.Subject.CommonName == "Intel SGX TCB Signing" && len(candidates) < maxSigners {
			candidates = append(candidates, c)
		}
	}
	for block, rest := pem.Decode(intelSigners); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(err) // a constant
		}
		add(c)
	}
	for _, c := range b.certificates {
		add(c)
	}
	b.signers = make(map[[64]byte][][]*x509.Certificate)
	find := func(signed []byte, signature [64]byte) {
		digest := sha256.Sum256(signed)
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		for _, c := range candidates {
			if ecdsa.Verify(c.PublicKey.(*ecdsa.PublicKey), digest[:], r, s) {
				if chains[c] == nil {
					chains[c] = b.chain(c)
				}
				b.signers[signature] = append(b.signers[signature], chains[c])
			}
		}
	}
	for _, t := range b.tcbInfos {
		find(t.Raw, t.Signature)
	}
	for _, q := range b.qeIdentities {
		find(q.Raw, q.Signature)
	}
}

// isP256 reports whether a certificate's key is of the kind that Intel's are. With others, that anybody can put into a bundle, verifying
// can take hours.
func isP256(c *x509.Certificate) bool {
	k, ok := c.PublicKey.(*ecdsa.PublicKey)
	return ok && k.Curve == elliptic.P256()
}

// chain follows issuers through the bundle.
func (b *Bundle) chain(leaf *x509.Certificate) []*x509.Certificate {
	chain, tried := []*x509.Certificate{leaf}, 0
	for len(chain) < 8 {
		last := chain[len(chain)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		i := slices.IndexFunc(b.certificates, func(c *x509.Certificate) bool {
			if !bytes.Equal(c.RawSubject, last.RawIssuer) || !isP256(c) || tried == maxIssuers {
				return false
			}
			tried++
			return last.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			break
		}
		chain = append(chain, b.certificates[i])
	}
	return chain
}

// Certificates returns every certificate.
func (b *Bundle) Certificates() []*x509.Certificate { return slices.Clone(b.certificates) }

// RIMs returns every reference integrity manifest; the appraisal picks by product and version.
func (b *Bundle) RIMs() []*nvidia.RIM { return slices.Clone(b.rims) }

// OCSP returns every OCSP response, DER.
func (b *Bundle) OCSP() [][]byte { return slices.Clone(b.ocsp) }

// Registry returns what the bundle holds about machines.
func (b *Bundle) Registry() policy.Registry {
	return policy.Registry{Lists: slices.Clone(b.registry.Lists), Tokens: slices.Clone(b.registry.Tokens)}
}
