package snp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/cache"
	"github.com/bombyx-network/bombyx/attestation/internal/p384"
	"github.com/bombyx-network/bombyx/attestation/internal/pki"
	"github.com/bombyx-network/bombyx/attestation/internal/record"
)

// Check identifiers, in the order in which Verify reports them. They are stable.
const (
	CheckParse         = "snp.parse"            // the report is well formed
	CheckChain         = "snp.chain"            // endorsement key -> ASK or ASVK -> trust anchor
	CheckChainValidity = "snp.chain.validity"   // every certificate of that chain is valid now
	CheckCRL           = "snp.crl"              // AMD's revocation lists: signed by the anchor, current
	CheckRevocation    = "snp.revocation"       // no certificate in use is revoked
	CheckKeyKind       = "snp.ek.kind"          // VCEK or VLEK, as the report says
	CheckKeyProduct    = "snp.ek.product"       // endorsement key, chain and report name one product
	CheckKeyChip       = "snp.ek.chip"          // VCEK: it is that of the chip which the report names
	CheckKeyTCB        = "snp.ek.tcb"           // the key was derived for the TCB that the report claims
	CheckSignature     = "snp.report.signature" // the report is signed by the endorsement key
	CheckTCB           = "snp.report.tcb"       // reported, committed and launch TCB and versions do not exceed the current
)

// Collateral is what AMD publishes about a chip. Any part may be missing; checks that need it are then skipped and
// Verifier.Verify returns an error that says which. It must not be modified once it has been given to a Verifier.
type Collateral struct {
	Key           *x509.Certificate   // VCEK or VLEK certificate
	Intermediates []*x509.Certificate // ASK or ASVK; others, and the ARK, are ignored
	CRLs          []*CRL              // of the ARK: at least one must be in order; those of other issuers are ignored
}

// CRL is a certificate revocation list.
type CRL struct {
	List *x509.RevocationList // without its entries, for which there is Revoked

	digest  [48]byte
	revoked pki.Serials
}

// ParseCRL parses a DER certificate revocation list.
func ParseCRL(der []byte) (*CRL, error) {
	list, revoked, err := pki.ParseCRL(der)
	if err != nil {
		return nil, fmt.Errorf("snp: %w", err)
	}
	return &CRL{List: list, digest: sha512.Sum384(list.RawTBSRevocationList), revoked: revoked}, nil
}

// Revoked reports whether the list names the certificate's serial number. It does not look at the issuer.
func (c *CRL) Revoked(cert *x509.Certificate) bool { return c.revoked.Has(cert) }

// amdPEM is the ARK, ASK and ASVK of every product, as the KDS serves them (/vcek/v1/{product}/cert_chain and
// /vlek/v1/{product}/cert_chain).
//
//go:embed amd.pem
var amdPEM []byte

var amd = sync.OnceValue(func() (certs struct{ roots, intermediates []*x509.Certificate }) {
	for block, rest := pem.Decode(amdPEM); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(err) // a constant
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			certs.roots = append(certs.roots, c)
		} else {
			certs.intermediates = append(certs.intermediates, c)
		}
	}
	return certs
})

// AMDRoots returns AMD's production root keys (ARK) for Milan, Genoa and Turin. Nothing in this package trusts them by itself:
// pass them to NewVerifier, or pass your own copies. SHA-256 of the certificates:
//
//	Milan 69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd
//	Genoa 4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1
//	Turin 1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a
func AMDRoots() []*x509.Certificate { return slices.Clone(amd().roots) }

// AMDIntermediates returns AMD's ASK and ASVK for the same products, for Collateral.Intermediates. They are not trusted but
// verified, and need not be fetched.
func AMDIntermediates() []*x509.Certificate { return slices.Clone(amd().intermediates) }

// Result is what an appraisal found.
type Result struct {
	Checks []check.Check
	Key    *EndorsementKey // what AMD certifies about the signing key; nil without its certificate

	// Between these instants, inclusive, every certificate and list that was used is valid.
	ValidFrom  time.Time
	ValidUntil time.Time
}

// Verifier appraises reports. It is safe for concurrent use, and its memory does not grow with use.
type Verifier struct {
	anchors    []*x509.Certificate
	signatures *cache.Cache[struct{}]
}

// NewVerifier returns a Verifier that trusts exactly the given roots (ARK). As trust anchors they need no proof: their own
// signatures are not looked at.
func NewVerifier(roots ...*x509.Certificate) (*Verifier, error) {
	if len(roots) == 0 {
		return nil, errors.New("snp: no trust anchors; for genuine AMD platforms pass AMDRoots()")
	}
	v := &Verifier{anchors: slices.Clone(roots), signatures: cache.New[struct{}](2048)}
	for _, r := range roots {
		if _, ok := r.PublicKey.(*rsa.PublicKey); !ok || !r.IsCA || !bytes.Equal(r.RawIssuer, r.RawSubject) {
			return nil, fmt.Errorf("snp: trust anchor %q is not the certificate of a root CA with an RSA key", r.Subject.CommonName)
		}
	}
	return v, nil
}

// Verify appraises r against c at the instant now. The result is never nil and says all that could be found out. The error is
// nil only if every check passed; else it is a *check.Error.
func (v *Verifier) Verify(now time.Time, r *Report, c *Collateral) (*Result, error) {
	if c == nil {
		c = &Collateral{}
	}
	a := &appraisal{Run: record.Run{Now: now, Checks: make([]check.Check, 0, 11)}, v: v, r: r, c: c, res: &Result{}}
	a.Pass(CheckParse, "ABI, ATTESTATION_REPORT", "version %d, signed with a %s", r.Version, r.SigningKey)
	a.chain()
	a.crl()
	a.revocation()
	a.key()
	a.signature()
	a.tcb()
	return a.finish()
}

// appraisal is one run of Verify.
type appraisal struct {
	record.Run

	v   *Verifier
	r   *Report
	c   *Collateral
	res *Result

	intermediate, root *x509.Certificate // set if found
}

// finish hands the findings over.
func (a *appraisal) finish() (*Result, error) {
	a.res.Checks, a.res.ValidFrom, a.res.ValidUntil = a.Checks, a.From, a.Until
	return a.res, a.Err()
}

func (a *appraisal) chain() {
	const (
		clause   = "KDS, 2 and 3"
		validity = "RFC 5280, 4.1.2.5"
	)
	key := a.c.Key
	if key == nil {
		a.Missing(CheckChain, clause, "endorsement key certificate")
		a.Missing(CheckChainValidity, validity, "endorsement key certificate")
		return
	}
	ek, ekErr := ParseEndorsementKey(key)
	if ekErr == nil {
		a.res.Key = ek
	}
	// AMD has issued more than one ASK of the same name: take the one whose key fits, or any to explain the failure with.
	for _, c := range a.c.Intermediates {
		if bytes.Equal(c.RawSubject, key.RawIssuer) && (a.intermediate == nil || a.v.link(key, c) == nil) {
			a.intermediate = c
		}
	}
	if a.intermediate == nil {
		what := fmt.Sprintf("certificate of %q", key.Issuer.CommonName)
		a.Missing(CheckChain, clause, what)
		a.Missing(CheckChainValidity, validity, what)
		return
	}
	err := func() error {
		for _, r := range a.v.anchors {
			if bytes.Equal(r.RawSubject, a.intermediate.RawIssuer) && (a.root == nil || a.v.link(a.intermediate, r) == nil) {
				a.root = r
			}
		}
		if ekErr != nil {
			return ekErr
		}
		if a.root == nil {
			return fmt.Errorf("issuer %q is not a trust anchor", a.intermediate.Issuer.CommonName)
		}
		// Every ASK and ASVK hangs under its product's ARK; the names keep products and kinds of key apart.
		want := "SEV-" + string(ek.Product)
		if ek.Kind == VLEK {
			want = "SEV-VLEK-" + string(ek.Product)
		}
		if cn := a.intermediate.Subject.CommonName; cn != want {
			return fmt.Errorf("%s for %s is issued by %q, want %q", ek.Kind, ek.Product, cn, want)
		}
		if cn := a.root.Subject.CommonName; cn != "ARK-"+string(ek.Product) {
			return fmt.Errorf("%q is issued by %q, want %q", want, cn, "ARK-"+string(ek.Product))
		}
		if err := a.v.link(a.intermediate, a.root); err != nil {
			return err
		}
		return a.v.link(key, a.intermediate)
	}()
	if err != nil {
		a.Fail(CheckChain, clause, "%v", err)
	} else {
		a.Pass(CheckChain, clause, "%s of %s, issued by %s", ek.Kind, ek.ProductName, key.Issuer.CommonName)
	}
	for _, c := range []*x509.Certificate{key, a.intermediate, a.root} {
		if c == nil {
			continue
		}
		if err := a.Within("certificate", c.Subject.CommonName, c.NotBefore, c.NotAfter); err != nil {
			a.Fail(CheckChainValidity, validity, "%v", err)
			return
		}
	}
	a.Pass(CheckChainValidity, validity, "every certificate is valid")
}

// algorithm is what certificates and revocation lists are signed with.
var algorithm = pki.Algorithm{ID: x509.SHA384WithRSAPSS, Name: "RSASSA-PSS and SHA-384"}

// link verifies that issuer, a CA, issued cert with RSASSA-PSS and SHA-384.
func (v *Verifier) link(cert, issuer *x509.Certificate) error {
	if err := pki.Issued(cert, issuer, algorithm); err != nil {
		return err
	}
	if !v.verify(issuer, sha512.Sum384(cert.RawTBSCertificate), cert.Signature) {
		return fmt.Errorf("signature of certificate %q does not verify", cert.Subject.CommonName)
	}
	return nil
}

// verify verifies an RSASSA-PSS signature, or finds it verified. It remembers only what does not change with time, and only
// successes, so that nobody can fill the memory with rubbish.
func (v *Verifier) verify(issuer *x509.Certificate, digest [48]byte, sig []byte) bool {
	pub, ok := issuer.PublicKey.(*rsa.PublicKey)
	if !ok || pub.N.BitLen() != 4096 {
		return false
	}
	h := sha256.New()
	h.Write(issuer.RawSubjectPublicKeyInfo) // DER says itself where it ends
	h.Write(digest[:])
	h.Write(sig)
	key := [32]byte(h.Sum(nil))
	if _, ok := v.signatures.Get(key); ok {
		return true
	}
	if rsa.VerifyPSS(pub, crypto.SHA384, digest[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) != nil {
		return false
	}
	v.signatures.Put(key, struct{}{})
	return true
}

func (a *appraisal) crl() {
	const clause = "KDS, 4; RFC 5280, 6.3"
	if a.root == nil {
		if a.c.Key == nil || a.intermediate == nil {
			a.Skip(CheckCRL, clause, "no chain to check for")
		} else {
			a.Skip(CheckCRL, clause, "the chain leads to no trust anchor")
		}
		return
	}
	// One list that is in order is enough: folders of collateral hold old ones, too.
	var err error
	for _, l := range a.c.CRLs {
		if !bytes.Equal(l.List.RawIssuer, a.root.RawSubject) {
			continue
		}
		if e := a.list(l); e == nil {
			a.Narrow(l.List.ThisUpdate, l.List.NextUpdate)
			a.Pass(CheckCRL, clause, "%s, %d revoked, next update %s", a.root.Subject.CommonName, len(l.revoked), record.Stamp(l.List.NextUpdate))
			return
		} else if err == nil {
			err = e
		}
	}
	if err == nil {
		a.Missing(CheckCRL, clause, fmt.Sprintf("CRL of %q", a.root.Subject.CommonName))
		return
	}
	a.Fail(CheckCRL, clause, "%v", err)
	a.Stale(err, fmt.Sprintf("CRL of %q", a.root.Subject.CommonName))
}

// list tells whether a list of the anchor's is genuine and current.
func (a *appraisal) list(l *CRL) error {
	cn := a.root.Subject.CommonName
	switch {
	case a.root.KeyUsage&x509.KeyUsageCRLSign == 0:
		return fmt.Errorf("%q may not sign CRLs", cn)
	case l.List.SignatureAlgorithm != algorithm.ID || !a.v.verify(a.root, l.digest, l.List.Signature):
		return fmt.Errorf("signature of the CRL of %q does not verify", cn)
	}
	return a.Current("CRL of", cn, l.List.ThisUpdate, l.List.NextUpdate)
}

func (a *appraisal) revocation() {
	const clause = "KDS, 4; RFC 5280, 6.3"
	if a.root == nil {
		a.Skip(CheckRevocation, clause, "no chain to check")
		return
	}
	// A list that is stale or unproven can still refute, but never clear, even beside one that is in order. The ARK's lists speak for the whole product: for ASK
	// and ASVK, and for the endorsement keys below them, which have no lists of their own.
	for _, l := range a.c.CRLs {
		if !bytes.Equal(l.List.RawIssuer, a.root.RawSubject) {
			continue
		}
		for _, cert := range []*x509.Certificate{a.root, a.intermediate, a.c.Key} {
			if l.Revoked(cert) {
				a.Fail(CheckRevocation, clause, "certificate %q, serial %x, is revoked", cert.Subject.CommonName, cert.SerialNumber)
				return
			}
		}
	}
	if !a.Passed(CheckCRL) {
		missing := a.Last().Missing
		a.Skip(CheckRevocation, clause, "%s did not pass", CheckCRL)
		a.Last().Missing = missing
		return
	}
	a.Pass(CheckRevocation, clause, "no certificate is revoked")
}

func (a *appraisal) key() {
	const (
		kind    = "ABI, ATTESTATION_REPORT, SIGNING_KEY"
		product = "ABI, ATTESTATION_REPORT, CPUID_FAM_ID; KDS, 3.1, productName"
		chip    = "ABI, ATTESTATION_REPORT, CHIP_ID; KDS, 3.1, hwID"
		tcb     = "ABI, ATTESTATION_REPORT, REPORTED_TCB; KDS, 3.1, SPL"
	)
	r, k := a.r, a.res.Key
	if k == nil {
		for _, c := range [][2]string{{CheckKeyKind, kind}, {CheckKeyProduct, product}, {CheckKeyChip, chip}, {CheckKeyTCB, tcb}} {
			if a.c.Key == nil {
				a.Missing(c[0], c[1], "endorsement key certificate")
			} else {
				a.Skip(c[0], c[1], "the certificate is not one of a VCEK or VLEK")
			}
		}
		return
	}

	if k.Kind != r.SigningKey {
		a.Fail(CheckKeyKind, kind, "the report is signed with a %s, the certificate is of a %s", r.SigningKey, k.Kind)
	} else {
		a.Pass(CheckKeyKind, kind, "%s", k.Kind)
	}

	switch p, err := r.Product(); {
	case r.Version < 3:
		// Version 2 precedes Turin, and its report does not name the processor.
		if k.Product == Turin {
			a.Fail(CheckKeyProduct, product, "a version 2 report cannot come from %s", k.Product)
		} else {
			a.Pass(CheckKeyProduct, product, "%s, by the certificate alone", k.Product)
		}
	case err != nil:
		a.Fail(CheckKeyProduct, product, "%v", err)
	case p != k.Product:
		a.Fail(CheckKeyProduct, product, "the report is from %s, the certificate for %s", p, k.Product)
	default:
		a.Pass(CheckKeyProduct, product, "%s", p)
	}

	switch {
	case k.Kind == VLEK:
		a.Pass(CheckKeyChip, chip, "a VLEK of %q is not tied to a chip", k.CSPID)
	case r.ChipID == [64]byte{}:
		a.Fail(CheckKeyChip, chip, "the chip id is masked, so that the report does not say which chip it is from")
	case !bytes.Equal(r.ChipID[:len(k.HWID)], k.HWID) || !allZero(r.ChipID[len(k.HWID):]):
		a.Fail(CheckKeyChip, chip, "the report is from chip %x, the certificate for %x", r.ChipID, k.HWID)
	default:
		a.Pass(CheckKeyChip, chip, "chip %x", k.HWID)
	}

	if got := r.ReportedTCB.Parts(k.Product); got != k.TCB {
		a.Fail(CheckKeyTCB, tcb, "the report claims %+v, the key is for %+v", got, k.TCB)
	} else {
		a.Pass(CheckKeyTCB, tcb, "%+v", got)
	}
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func (a *appraisal) signature() {
	const clause = "ABI, ATTESTATION_REPORT, SIGNATURE"
	if a.c.Key == nil {
		a.Missing(CheckSignature, clause, "endorsement key certificate")
		return
	}
	pub, ok := a.c.Key.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() {
		a.Fail(CheckSignature, clause, "the endorsement key is not a P-384 key")
		return
	}
	digest := sha512.Sum384(a.r.Raw[:signedSize])
	if !p384.Verify(pub, &digest, new(big.Int).SetBytes(a.r.r[:]), new(big.Int).SetBytes(a.r.s[:])) {
		a.Fail(CheckSignature, clause, "the report is not signed by the endorsement key")
		return
	}
	a.Pass(CheckSignature, clause, "the report is signed by the endorsement key")
}

func (a *appraisal) tcb() {
	const clause = "ABI, ATTESTATION_REPORT, CURRENT_TCB, COMMITTED_TCB, LAUNCH_TCB, REPORTED_TCB"
	r := a.r
	for _, c := range []struct {
		name string
		tcb  TCB
	}{{"reported", r.ReportedTCB}, {"committed", r.CommittedTCB}, {"launch", r.LaunchTCB}} {
		if !r.CurrentTCB.AtLeast(c.tcb) {
			a.Fail(CheckTCB, clause, "the %s TCB %016x exceeds the current one %016x", c.name, uint64(c.tcb), uint64(r.CurrentTCB))
			return
		}
	}
	if r.CommittedVersion.Compare(r.CurrentVersion) > 0 {
		a.Fail(CheckTCB, clause, "the committed firmware version %v exceeds the current one %v", r.CommittedVersion, r.CurrentVersion)
		return
	}
	a.Pass(CheckTCB, clause, "current %016x, committed %016x, launch %016x, reported %016x", uint64(r.CurrentTCB), uint64(r.CommittedTCB),
		uint64(r.LaunchTCB), uint64(r.ReportedTCB))
}
