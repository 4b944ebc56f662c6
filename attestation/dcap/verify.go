package dcap

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/cache"
	"github.com/bombyx-network/bombyx/attestation/internal/pki"
	"github.com/bombyx-network/bombyx/attestation/internal/record"
)

// Check identifiers, in the order in which Verify reports them. They are stable.
const (
	CheckParse            = "dcap.parse"             // the quote is well formed and nothing but zeros follows it
	CheckChain            = "dcap.chain"             // PCK certificate -> Platform or Processor CA -> trust anchor
	CheckChainValidity    = "dcap.chain.validity"    // every certificate of that chain is valid now
	CheckRootCRL          = "dcap.crl.root"          // root CA CRL: signed by the anchor, current
	CheckPCKCRL           = "dcap.crl.pck"           // PCK CRL: signed by the PCK's issuer, current
	CheckTCBInfoSignature = "dcap.tcbinfo.signature" // TCB info -> TCB signing certificate -> trust anchor
	CheckTCBInfoValidity  = "dcap.tcbinfo.validity"  // TCB info and its signer are valid now
	CheckTCBInfoMatch     = "dcap.tcbinfo.match"     // TCB info is for this TEE, FMSPC and PCEID
	CheckQEIDSignature    = "dcap.qeid.signature"    // QE identity -> TCB signing certificate -> trust anchor
	CheckQEIDValidity     = "dcap.qeid.validity"     // QE identity and its signer are valid now
	CheckRevocation       = "dcap.revocation"        // no certificate in use is revoked
	CheckQESignature      = "dcap.qe.signature"      // QE report is signed by the PCK
	CheckQEBinding        = "dcap.qe.binding"        // QE report data vouches for the attestation key
	CheckQEMatch          = "dcap.qe.match"          // QE report fits the QE identity: it is Intel's Quoting Enclave
	CheckQuoteSignature   = "dcap.quote.signature"   // quote is signed by the attestation key
	CheckTCBPlatform      = "dcap.tcb.platform"      // the platform's TCB level was found
	CheckTCBModule        = "dcap.tcb.module"        // the TDX module is Intel's and its TCB level was found (TDX only)
	CheckTCBQE            = "dcap.tcb.qe"            // the Quoting Enclave's TCB level was found
	CheckTCBStatus        = "dcap.tcb.status"        // the three converged to Result.Status
)

// Component is the state of one part of the platform.
type Component struct {
	Status      TCBStatus // empty if not evaluated
	Date        time.Time // tcbDate of the matched level: fixes known by then are in place
	AdvisoryIDs []string  // advisories that the matched level is exposed to
}

// Result is what an appraisal found.
type Result struct {
	Checks []check.Check

	// Status is Intel's word for platform, module and Quoting Enclave together; empty if it could not be determined.
	Status   TCBStatus
	Platform Component
	Module   Component // not evaluated for SGX and for TDX modules older than 1.5
	ModuleID string    // TDX module identity that was matched, such as "TDX_01"
	QE       Component

	AdvisoryIDs []string  // union of all three, sorted
	TCBDate     time.Time // earliest date of all three

	// Evaluation data numbers of TCB info and QE identity. Genuine bundles may mix two numbers; a policy states a minimum.
	TCBEvaluationDataNumber uint32
	QEEvaluationDataNumber  uint32

	PCK *PCK // nil without a PCK certificate; shared between results, not to be modified

	// Between these instants, inclusive, every certificate, list and statement that was used is valid.
	ValidFrom  time.Time
	ValidUntil time.Time
}

// Verifier appraises quotes. It is safe for concurrent use, and its memory does not grow with use.
type Verifier struct {
	anchors    []*certificate
	certs      *cache.Cache[*certificate]
	signatures *cache.Cache[struct{}]
}

// remembered is the most certificates, and the most signatures, that a Verifier keeps.
const remembered = 2048

// Intel's production root for SGX and TDX, "Intel SGX Root CA": SHA-256 of the certificate is
// 44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3.
const intelRootPEM = `-----BEGIN CERTIFICATE-----
MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIw
aDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENv
cnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJ
BgNVBAYTAlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgG
A1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0
aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYT
AlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi7
1OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOB
uzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJ
MEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50
ZWwuY29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInzg7SV
Ur9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYI
KoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94BgwTwg
AiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI=
-----END CERTIFICATE-----
`

var intelRoot = sync.OnceValue(func() *x509.Certificate {
	block, _ := pem.Decode([]byte(intelRootPEM))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err) // a constant
	}
	return cert
})

// IntelRoot returns Intel's production root certificate for SGX and TDX. Nothing in this package trusts it by itself: pass
// it to NewVerifier, or pass your own copy of it.
func IntelRoot() *x509.Certificate { return intelRoot() }

// NewVerifier returns a Verifier that trusts exactly the given roots. As trust anchors they need no proof: their own signatures
// are not looked at. Chains must end in one of them, byte for byte.
func NewVerifier(roots ...*x509.Certificate) (*Verifier, error) {
	if len(roots) == 0 {
		return nil, errors.New("dcap: no trust anchors; for genuine Intel platforms pass IntelRoot()")
	}
	v := &Verifier{anchors: newChain(roots),
		certs: cache.New[*certificate](remembered), signatures: cache.New[struct{}](remembered)}
	for _, r := range v.anchors {
		if _, err := p256Key(r); err != nil || !r.IsCA || !bytes.Equal(r.RawIssuer, r.RawSubject) {
			return nil, fmt.Errorf("dcap: trust anchor %q is not the certificate of a root CA with a P-256 key", r.Subject.CommonName)
		}
	}
	return v, nil
}

// Verify appraises q against c at the instant now. The result is never nil and says all that could be found out. The error
// is nil only if every check passed; else it is a *check.Error. Result.Status is not judged: see the package comment.
func (v *Verifier) Verify(now time.Time, q *Quote, c *Collateral) (*Result, error) {
	return v.VerifyWith(now, q, func([]*x509.Certificate, *PCK) *Collateral { return c })
}

// VerifyWith is Verify with the collateral that find returns for the platform of q; what q carries is verified on other cores
// meanwhile. find is called once, on the caller's goroutine. It is given the PCK certificate chain in q, leaf first, and what the leaf
// says, of which nothing is proven yet. The chain is nil where q has none or it cannot be parsed, pck also where the leaf does not
// describe a platform. A nil Collateral is an empty one.
func (v *Verifier) VerifyWith(now time.Time, q *Quote, find func(chain []*x509.Certificate, pck *PCK) *Collateral) (*Result, error) {
	a := &appraisal{Run: record.Run{Now: now, Checks: make([]check.Check, 0, 20)}, v: v, q: q, crew: newCrew(), res: &Result{}}
	defer a.crew.group.Wait()
	a.ahead(find)
	a.crew.verify()
	a.parse()
	a.chain()
	a.rootCRL()
	a.pckCRL()
	a.tcbInfo()
	a.qeIdentity()
	a.revocation()
	at := len(a.Checks)
	a.qeBinding()
	a.qeMatch()
	a.quoteSignature()
	a.tcb()
	// The QE report's signature was queued last, and another core may still be at it: its check, which is reported before the
	// others, is made last.
	a.qeSignature()
	last := len(a.Checks) - 1
	a.Checks = slices.Insert(a.Checks[:last], at, a.Checks[last])
	return a.finish()
}

// appraisal is one run of Verify.
type appraisal struct {
	record.Run

	v   *Verifier
	q   *Quote
	c   *Collateral
	res *Result

	pckChain                      []*certificate // nil after pckChainErr
	pckChainErr                   error
	leaf, intermediate, root      *certificate // set as far as they could be parsed; root is an anchor
	tcbInfoChain, qeIdentityChain []*certificate
	quoteSig                      *signature

	signatures []*signature // all that it came across, at most maxSignatures
	crew       *crew
}

// finish hands the findings over.
func (a *appraisal) finish() (*Result, error) {
	a.res.Checks, a.res.ValidFrom, a.res.ValidUntil = a.Checks, a.From, a.Until
	return a.res, a.Err()
}

func (a *appraisal) certsValid(certs ...*certificate) (errs error) {
	for _, c := range certs {
		if c != nil {
			if err := a.Within("certificate", c.Subject.CommonName, c.NotBefore, c.NotAfter); err != nil && errs == nil {
				errs = err
			}
		}
	}
	return errs
}

func (a *appraisal) parse() {
	const clause = "TDX DCAP Quoting Library API, A.3 and A.4; SGX ECDSA Quote Library API, A.4"
	for _, x := range a.q.Trailing {
		if x != 0 {
			a.Fail(CheckParse, clause, "%d bytes follow the quote and are not all zero", len(a.q.Trailing))
			return
		}
	}
	a.Pass(CheckParse, clause, "version %d, %s, %d bytes", a.q.Version, a.q.BodyType, len(a.q.Raw))
}

// Common names that Intel's PCK Certificate and CRL Profile Specification lays down. They keep the roles apart: all of these
// certificates hang under one root.
const (
	cnPCK         = "Intel SGX PCK Certificate"
	cnPlatformCA  = "Intel SGX PCK Platform CA"
	cnProcessorCA = "Intel SGX PCK Processor CA"
	cnTCBSigning  = "Intel SGX TCB Signing"
)

func (a *appraisal) chain() {
	const (
		clause   = "PCK Certificate and CRL Profile, 1.3; QVL 4.1.2.4.4"
		validity = "RFC 5280, 4.1.2.5"
	)
	chain := a.pckChain
	switch {
	case a.pckChainErr != nil:
		a.Fail(CheckChain, clause, "PCK certificate chain in the quote: %v", a.pckChainErr)
		a.Skip(CheckChainValidity, validity, "the chain could not be parsed")
		return
	case len(chain) == 0:
		a.Missing(CheckChain, clause, "PCK certificate chain")
		a.Missing(CheckChainValidity, validity, "PCK certificate chain")
		return
	}
	err := func() (err error) {
		if len(chain) != 2 && len(chain) != 3 {
			return fmt.Errorf("%d certificates, want PCK, intermediate CA and root CA", len(chain))
		}
		if a.root, err = a.v.anchor(chain[1], chain[2:]); err != nil {
			return err
		}
		if cn := chain[1].Subject.CommonName; cn != cnPlatformCA && cn != cnProcessorCA {
			return fmt.Errorf("intermediate CA is %q, want %q or %q", cn, cnPlatformCA, cnProcessorCA)
		}
		if cn := a.leaf.Subject.CommonName; cn != cnPCK || a.leaf.IsCA {
			return fmt.Errorf("leaf is %q, want %q", cn, cnPCK)
		}
		if err := a.link(a.intermediate, a.root); err != nil {
			return err
		}
		return a.link(a.leaf, a.intermediate)
	}()
	a.res.PCK = a.leaf.pck
	if err == nil {
		err = a.leaf.pckErr
	}
	if err != nil {
		a.Fail(CheckChain, clause, "%v", err)
	} else {
		a.Pass(CheckChain, clause, "%s, serial %x, FMSPC %x", a.leaf.Issuer.CommonName, a.leaf.SerialNumber, a.res.PCK.FMSPC)
	}
	a.Decide(CheckChainValidity, validity, a.certsValid(a.leaf, a.intermediate, a.root), "every certificate is valid")
}

// anchor returns the trust anchor that issued cert. A root that came along must be that anchor, byte for byte.
func (v *Verifier) anchor(cert *certificate, rest []*certificate) (*certificate, error) {
	if len(rest) > 1 {
		return nil, fmt.Errorf("%d certificates too many", len(rest)-1)
	}
	for _, r := range v.anchors {
		if len(rest) == 1 && bytes.Equal(rest[0].Raw, r.Raw) || len(rest) == 0 && bytes.Equal(cert.RawIssuer, r.RawSubject) && sameKey(cert.AuthorityKeyId, r.SubjectKeyId) {
			return r, nil
		}
	}
	if len(rest) == 1 {
		return nil, fmt.Errorf("root certificate %q (SHA-256 %x) is not a trust anchor", rest[0].Subject.CommonName, sha256.Sum256(rest[0].Raw))
	}
	return nil, fmt.Errorf("issuer %q is not a trust anchor", cert.Issuer.CommonName)
}

// sameKey compares key identifiers as far as there are any: they tell anchors of one name apart.
func sameKey(authority, subject []byte) bool {
	return len(authority) == 0 || len(subject) == 0 || bytes.Equal(authority, subject)
}

// algorithm is what certificates and revocation lists are signed with.
var algorithm = pki.Algorithm{ID: x509.ECDSAWithSHA256, Name: "ECDSA and SHA-256"}

// link verifies that issuer, a CA, issued cert (RFC 5280, 6.1, as far as two-link chains need it).
func (a *appraisal) link(cert, issuer *certificate) error {
	if err := pki.Issued(cert.Certificate, issuer.Certificate, algorithm); err != nil {
		return err
	}
	s, err := a.signedBy(issuer, cert.digest, cert.Signature)
	if err != nil {
		return err
	}
	if !a.verified(s) {
		return fmt.Errorf("signature of certificate %q does not verify", cert.Subject.CommonName)
	}
	return nil
}

func (a *appraisal) rootCRL() {
	const clause = "PCK Certificate and CRL Profile, 3; QVL 4.1.2.5"
	if a.c.RootCRL == nil {
		a.Missing(CheckRootCRL, clause, "root CA CRL")
		return
	}
	// Without a PCK chain any anchor may have issued it.
	issuer := a.root
	for _, r := range a.v.anchors {
		if l := a.c.RootCRL.List; issuer == nil && bytes.Equal(r.RawSubject, l.RawIssuer) && sameKey(l.AuthorityKeyId, r.SubjectKeyId) {
			issuer = r
		}
	}
	a.crl(CheckRootCRL, clause, "root CA CRL", a.c.RootCRL, issuer)
}

func (a *appraisal) pckCRL() {
	const clause = "PCK Certificate and CRL Profile, 3; QVL 4.1.2.4.6"
	switch {
	case a.c.PCKCRL == nil:
		a.Missing(CheckPCKCRL, clause, "PCK CRL")
	case a.intermediate == nil:
		a.Skip(CheckPCKCRL, clause, "no intermediate CA to verify it with")
	default:
		a.crl(CheckPCKCRL, clause, "PCK CRL", a.c.PCKCRL, a.intermediate)
	}
}

func (a *appraisal) crl(id, clause, what string, crl *CRL, issuer *certificate) {
	err := func() error {
		if issuer == nil || !bytes.Equal(issuer.RawSubject, crl.List.RawIssuer) {
			want := "a trust anchor"
			if issuer != nil {
				want = fmt.Sprintf("%q", issuer.Subject.CommonName)
			}
			return fmt.Errorf("CRL is issued by %q, want %s", crl.List.Issuer.CommonName, want)
		}
		if issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
			return fmt.Errorf("%q may not sign CRLs", issuer.Subject.CommonName)
		}
		s, err := a.signedBy(issuer, crl.digest, crl.List.Signature)
		if err != nil {
			return err
		}
		if crl.List.SignatureAlgorithm != algorithm.ID || !a.verified(s) {
			return fmt.Errorf("signature of the CRL of %q does not verify", crl.List.Issuer.CommonName)
		}
		return a.Within("CRL of", crl.List.Issuer.CommonName, crl.List.ThisUpdate, crl.List.NextUpdate)
	}()
	if err != nil {
		a.Fail(id, clause, "%v", err)
		a.Stale(err, what)
		return
	}
	a.Pass(id, clause, "%s, %d revoked, next update %s", crl.List.Issuer.CommonName, len(crl.revoked), record.Stamp(crl.List.NextUpdate))
}

// signed verifies a statement of Intel's TCB signing certificate, which must be issued by an anchor itself.
func (a *appraisal) signed(chain []*certificate, digest [32]byte, sig [64]byte) error {
	signer := chain[0]
	root, err := a.v.anchor(signer, chain[1:])
	if err != nil {
		return err
	}
	if a.root != nil && a.root != root {
		return errors.New("signed under another trust anchor than the PCK certificate")
	}
	if cn := signer.Subject.CommonName; cn != cnTCBSigning || signer.IsCA || signer.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fmt.Errorf("signed by %q, want %q", cn, cnTCBSigning)
	}
	if err := a.link(signer, root); err != nil {
		return err
	}
	s, err := a.signedBy(signer, digest, derSignature(sig))
	if err != nil {
		return err
	}
	if !a.verified(s) {
		return errors.New("signature does not verify")
	}
	return nil
}

func (a *appraisal) tcbInfo() {
	const (
		signature = "PCS API v4, Get TCB Info; QVL 4.1.2.7"
		validity  = "PCS API v4, Get TCB Info, issueDate and nextUpdate"
		match     = "QVL 4.1.2.4.9 and 4.1.2.4.10"
	)
	t := a.c.TCBInfo
	switch {
	case t == nil:
		for _, id := range []string{CheckTCBInfoSignature, CheckTCBInfoValidity, CheckTCBInfoMatch} {
			a.Missing(id, signature, "TCB info")
		}
		return
	case len(a.tcbInfoChain) == 0:
		a.Missing(CheckTCBInfoSignature, signature, "TCB info issuer chain")
	default:
		a.Decide(CheckTCBInfoSignature, signature, a.signed(a.tcbInfoChain, t.digest, t.Signature), "signed by "+cnTCBSigning)
	}
	a.res.TCBEvaluationDataNumber = t.TCBEvaluationDataNumber
	err := a.Within("TCB info", "", t.IssueDate, t.NextUpdate)
	if certs := a.certsValid(a.tcbInfoChain...); err == nil {
		err = certs
	}
	a.Decide(CheckTCBInfoValidity, validity, err, fmt.Sprintf("issued %s, next update %s", record.Stamp(t.IssueDate), record.Stamp(t.NextUpdate)))
	a.Stale(err, "TCB info")
	switch {
	case t.ID != a.q.TEEType.String():
		a.Fail(CheckTCBInfoMatch, match, "TCB info is for %s, the quote for %s", t.ID, a.q.TEEType)
	case a.res.PCK == nil:
		a.Skip(CheckTCBInfoMatch, match, "no PCK certificate to compare with")
	case t.FMSPC != a.res.PCK.FMSPC:
		a.Fail(CheckTCBInfoMatch, match, "TCB info is for FMSPC %x, the platform has %x", t.FMSPC, a.res.PCK.FMSPC)
	case t.PCEID != a.res.PCK.PCEID:
		a.Fail(CheckTCBInfoMatch, match, "TCB info is for PCEID %x, the platform has %x", t.PCEID, a.res.PCK.PCEID)
	default:
		a.Pass(CheckTCBInfoMatch, match, "%s, FMSPC %x, PCEID %x, evaluation data number %d", t.ID, t.FMSPC, t.PCEID, t.TCBEvaluationDataNumber)
	}
}

func (a *appraisal) qeIdentity() {
	const (
		signature = "PCS API v4, Get QE Identity; QVL 4.1.2.8"
		validity  = "PCS API v4, Get QE Identity, issueDate and nextUpdate"
	)
	e := a.c.QEIdentity
	switch {
	case e == nil:
		a.Missing(CheckQEIDSignature, signature, "QE identity")
		a.Missing(CheckQEIDValidity, validity, "QE identity")
		return
	case len(a.qeIdentityChain) == 0:
		a.Missing(CheckQEIDSignature, signature, "QE identity issuer chain")
	default:
		a.Decide(CheckQEIDSignature, signature, a.signed(a.qeIdentityChain, e.digest, e.Signature), "signed by "+cnTCBSigning)
	}
	a.res.QEEvaluationDataNumber = e.TCBEvaluationDataNumber
	err := a.Within("QE identity", "", e.IssueDate, e.NextUpdate)
	if certs := a.certsValid(a.qeIdentityChain...); err == nil {
		err = certs
	}
	a.Decide(CheckQEIDValidity, validity, err, fmt.Sprintf("issued %s, next update %s", record.Stamp(e.IssueDate), record.Stamp(e.NextUpdate)))
	a.Stale(err, "QE identity")
}

func (a *appraisal) revocation() {
	const clause = "RFC 5280, 6.3; QVL 4.1.2.4.7"
	lists := []struct {
		crl   *CRL
		check string
		what  string
		certs []*certificate
	}{
		{a.c.RootCRL, CheckRootCRL, "root CA CRL", []*certificate{a.intermediate, first(a.tcbInfoChain), first(a.qeIdentityChain)}},
		{a.c.PCKCRL, CheckPCKCRL, "PCK CRL", []*certificate{a.leaf}},
	}
	// A list that is stale or unproven can still refute, but never clear.
	for _, l := range lists {
		for _, cert := range l.certs {
			if l.crl != nil && cert != nil && bytes.Equal(cert.RawIssuer, l.crl.List.RawIssuer) && l.crl.Revoked(cert.Certificate) {
				a.Fail(CheckRevocation, clause, "certificate %q, serial %x, is revoked", cert.Subject.CommonName, cert.SerialNumber)
				return
			}
		}
	}
	for _, l := range lists {
		if l.crl == nil {
			a.Missing(CheckRevocation, clause, l.what)
			return
		}
		if !a.Passed(l.check) {
			a.Skip(CheckRevocation, clause, "%s did not pass", l.check)
			return
		}
	}
	a.Pass(CheckRevocation, clause, "no certificate is revoked")
}

func first(chain []*certificate) *certificate {
	if len(chain) == 0 {
		return nil
	}
	return chain[0]
}

func (a *appraisal) qeSignature() {
	const clause = "QVL 4.1.2.4.12"
	if a.leaf == nil {
		a.Skip(CheckQESignature, clause, "no PCK certificate to verify it with")
		return
	}
	s, err := a.qeReport()
	if err == nil && !s.verify() {
		err = errors.New("QE report is not signed by the PCK")
	}
	a.Decide(CheckQESignature, clause, err, "QE report is signed by the PCK")
}

func (a *appraisal) qeBinding() {
	const clause = "QVL 4.1.2.4.13"
	h := sha256.New()
	h.Write(a.q.AttestationKey[:])
	h.Write(a.q.QEAuthData)
	var want [64]byte
	h.Sum(want[:0])
	if subtle.ConstantTimeCompare(want[:], a.q.QEReport.ReportData[:]) != 1 {
		a.Fail(CheckQEBinding, clause, "QE report data is %x, want %x", a.q.QEReport.ReportData, want)
		return
	}
	a.Pass(CheckQEBinding, clause, "QE report vouches for the attestation key")
}

func (a *appraisal) quoteSignature() {
	const clause = "QVL 4.1.2.4.16"
	s, err := a.quote()
	if err != nil {
		a.Fail(CheckQuoteSignature, clause, "%v", err)
		return
	}
	if !s.verify() {
		a.Fail(CheckQuoteSignature, clause, "quote is not signed by the attestation key")
		return
	}
	a.Pass(CheckQuoteSignature, clause, "quote is signed by the attestation key")
}

// join lists advisories for a check's detail.
func join(status TCBStatus, c Component) string {
	s := string(status)
	if !c.Date.IsZero() {
		s += ", TCB date " + c.Date.Format(time.DateOnly)
	}
	if len(c.AdvisoryIDs) > 0 {
		s += ", " + strings.Join(c.AdvisoryIDs, " ")
	}
	return s
}
