package nvidia

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertID hashes: SHA-1 is what RFC 6960 responders know best
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxOCSPSize bounds one OCSP response.
const MaxOCSPSize = 64 << 10

const clauseOCSP = "RFC 6960, 3.2 and 4.2.2.2; RFC 9654"

// RevocationStatus is what an OCSP responder says about a certificate.
type RevocationStatus string

const (
	RevocationGood    RevocationStatus = "good"
	RevocationHold    RevocationStatus = "hold" // revoked with reason certificateHold: may be lifted
	RevocationRevoked RevocationStatus = "revoked"
	RevocationUnknown RevocationStatus = "unknown"
)

// Revocation is one certificate's status, from an answer whose signature,
// signer and nonce have been verified.
type Revocation struct {
	Subject    string // common name of the certificate
	Serial     string // its serial number in decimal
	Status     RevocationStatus
	Reason     int  // CRLReason when revoked or on hold (RFC 5280, 5.3.1)
	Nonced     bool // the answer carries the nonce of the request
	ThisUpdate time.Time
	NextUpdate time.Time
	Stale      bool // the appraisal time is not within ThisUpdate and NextUpdate
}

var (
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidECDSA384  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}

	certIDHashes = []struct {
		oid  asn1.ObjectIdentifier
		hash crypto.Hash
	}{
		{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
		{oidSHA384, crypto.SHA384},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
	}
)

// ocspResponse is a parsed BasicOCSPResponse (RFC 6960, 4.2.1).
type ocspResponse struct {
	raw       []byte
	signed    []byte // tbsResponseData
	signature []byte
	responder []byte // byName: the RDNSequence; byKey: nil
	keyHash   []byte // byKey: SHA-1 of the responder's key
	certs     [][]byte
	nonce     []byte // nil when absent
	singles   []singleResponse
}

type singleResponse struct {
	hash                crypto.Hash
	nameHash, keyHash   []byte
	serial              *big.Int
	status              RevocationStatus
	reason              int
	thisUpdate, nextUpd time.Time
}

var errOCSP = errors.New("not a well-formed OCSP response")

// OCSPError is the responseStatus with which a responder declined to answer (RFC 6960, 4.2.1).
type OCSPError int

func (e OCSPError) Error() string {
	return fmt.Sprintf("OCSP responder answered with error %d (RFC 6960, 4.2.1)", int(e))
}

// OCSPAnswer is what an OCSP response says, with nothing about it verified.
type OCSPAnswer struct {
	Signed      []byte           // tbsResponseData
	Serial      *big.Int         // of the first certificate that it is about
	Status      RevocationStatus // of that certificate
	From, Until time.Time        // thisUpdate and nextUpdate of that; Until is zero if absent
}

// ReadOCSP reads an OCSP response. It looks at no signature: certificates in it are a stranger's, and may have keys that take hours to
// verify with. If the responder declined, the error is an OCSPError.
func ReadOCSP(response []byte) (*OCSPAnswer, error) {
	r, err := parseOCSP(response)
	if err != nil {
		return nil, err
	}
	if len(r.singles) == 0 {
		return nil, errOCSP
	}
	s := r.singles[0]
	return &OCSPAnswer{Signed: r.signed, Serial: s.serial, Status: s.status, From: s.thisUpdate, Until: s.nextUpd}, nil
}

// parseOCSP parses a response strictly. It must be successful, basic, and
// signed with ECDSA-SHA384, as NVIDIA's are.
func parseOCSP(b []byte) (*ocspResponse, error) {
	if len(b) > MaxOCSPSize {
		return nil, fmt.Errorf("OCSP response of %d bytes, the most is %d", len(b), MaxOCSPSize)
	}
	in := cryptobyte.String(b)
	var resp, wrapped, rb, octets cryptobyte.String
	var status int
	if !in.ReadASN1(&resp, cbasn1.SEQUENCE) || !in.Empty() || !resp.ReadASN1Enum(&status) {
		return nil, errOCSP
	}
	if status != 0 {
		return nil, OCSPError(status)
	}
	var typ asn1.ObjectIdentifier
	if !resp.ReadASN1(&wrapped, cbasn1.Tag(0).ContextSpecific().Constructed()) || !resp.Empty() ||
		!wrapped.ReadASN1(&rb, cbasn1.SEQUENCE) || !wrapped.Empty() ||
		!rb.ReadASN1ObjectIdentifier(&typ) || !typ.Equal(oidOCSPBasic) || !rb.ReadASN1(&octets, cbasn1.OCTET_STRING) || !rb.Empty() {
		return nil, errOCSP
	}
	r := &ocspResponse{raw: b}
	var basic, tbs, tbsElement, alg, certs cryptobyte.String
	var algOID asn1.ObjectIdentifier
	var hasCerts bool
	if !octets.ReadASN1(&basic, cbasn1.SEQUENCE) || !octets.Empty() || !basic.ReadASN1Element(&tbsElement, cbasn1.SEQUENCE) {
		return nil, errOCSP
	}
	r.signed = tbsElement
	if !tbsElement.ReadASN1(&tbs, cbasn1.SEQUENCE) || !basic.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&algOID) || !basic.ReadASN1BitStringAsBytes(&r.signature) ||
		!basic.ReadOptionalASN1(&certs, &hasCerts, cbasn1.Tag(0).ContextSpecific().Constructed()) || !basic.Empty() {
		return nil, errOCSP
	}
	if !algOID.Equal(oidECDSA384) {
		return nil, fmt.Errorf("OCSP response is signed with algorithm %v, want ECDSA-SHA384", algOID)
	}
	if hasCerts {
		var list cryptobyte.String
		if !certs.ReadASN1(&list, cbasn1.SEQUENCE) || !certs.Empty() {
			return nil, errOCSP
		}
		for !list.Empty() {
			var c cryptobyte.String
			if len(r.certs) == 8 || !list.ReadASN1Element(&c, cbasn1.SEQUENCE) {
				return nil, errOCSP
			}
			r.certs = append(r.certs, c)
		}
	}
	return r, r.parseData(tbs)
}

// parseData reads ResponseData.
func (r *ocspResponse) parseData(tbs cryptobyte.String) error {
	var responder, version, responses, exts cryptobyte.String
	var hasVersion, hasExts bool
	var tag cbasn1.Tag
	var produced time.Time
	if !tbs.ReadOptionalASN1(&version, &hasVersion, cbasn1.Tag(0).ContextSpecific().Constructed()) || hasVersion || // v1 is the default
		!tbs.ReadAnyASN1(&responder, &tag) || !tbs.ReadASN1GeneralizedTime(&produced) || !tbs.ReadASN1(&responses, cbasn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&exts, &hasExts, cbasn1.Tag(1).ContextSpecific().Constructed()) || !tbs.Empty() {
		return errOCSP
	}
	switch tag {
	case cbasn1.Tag(1).ContextSpecific().Constructed():
		r.responder = responder
	case cbasn1.Tag(2).ContextSpecific().Constructed():
		if !responder.ReadASN1Bytes(&r.keyHash, cbasn1.OCTET_STRING) || !responder.Empty() {
			return errOCSP
		}
	default:
		return errOCSP
	}
	for !responses.Empty() {
		if len(r.singles) == 16 {
			return errors.New("OCSP response covers more than 16 certificates")
		}
		s, err := parseSingle(&responses)
		if err != nil {
			return err
		}
		r.singles = append(r.singles, s)
	}
	if !hasExts {
		return nil
	}
	var list cryptobyte.String
	if !exts.ReadASN1(&list, cbasn1.SEQUENCE) || !exts.Empty() {
		return errOCSP
	}
	for !list.Empty() {
		oid, critical, value, ok := readExtension(&list)
		switch {
		case !ok:
			return errOCSP
		case oid.Equal(oidOCSPNonce):
			// RFC 9654, 2.1: Nonce ::= OCTET STRING(SIZE(1..128))
			if r.nonce != nil || !value.ReadASN1Bytes(&r.nonce, cbasn1.OCTET_STRING) || !value.Empty() || len(r.nonce) == 0 || len(r.nonce) > 128 {
				return errors.New("OCSP nonce is malformed")
			}
		case critical:
			return fmt.Errorf("OCSP response has the unknown critical extension %v", oid)
		}
	}
	return nil
}

func readExtension(in *cryptobyte.String) (oid asn1.ObjectIdentifier, critical bool, value cryptobyte.String, ok bool) {
	var ext cryptobyte.String
	ok = in.ReadASN1(&ext, cbasn1.SEQUENCE) && ext.ReadASN1ObjectIdentifier(&oid) &&
		(!ext.PeekASN1Tag(cbasn1.BOOLEAN) || ext.ReadASN1Boolean(&critical)) && ext.ReadASN1(&value, cbasn1.OCTET_STRING) && ext.Empty()
	return oid, critical, value, ok
}

// parseSingle reads SingleResponse.
func parseSingle(in *cryptobyte.String) (s singleResponse, err error) {
	var single, id, alg, status, next, exts cryptobyte.String
	var oid asn1.ObjectIdentifier
	var tag cbasn1.Tag
	var hasNext, hasExts bool
	s.serial = new(big.Int)
	if !in.ReadASN1(&single, cbasn1.SEQUENCE) || !single.ReadASN1(&id, cbasn1.SEQUENCE) || !id.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!id.ReadASN1Bytes(&s.nameHash, cbasn1.OCTET_STRING) || !id.ReadASN1Bytes(&s.keyHash, cbasn1.OCTET_STRING) || !id.ReadASN1Integer(s.serial) || !id.Empty() ||
		!single.ReadAnyASN1(&status, &tag) || !single.ReadASN1GeneralizedTime(&s.thisUpdate) ||
		!single.ReadOptionalASN1(&next, &hasNext, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!single.ReadOptionalASN1(&exts, &hasExts, cbasn1.Tag(1).ContextSpecific().Constructed()) || !single.Empty() {
		return s, errOCSP
	}
	for _, h := range certIDHashes {
		if oid.Equal(h.oid) {
			s.hash = h.hash
		}
	}
	if s.hash == 0 {
		return s, fmt.Errorf("OCSP response names certificates by the unknown hash %v", oid)
	}
	if hasNext && (!next.ReadASN1GeneralizedTime(&s.nextUpd) || !next.Empty()) {
		return s, errOCSP
	}
	if hasExts {
		var list cryptobyte.String
		if !exts.ReadASN1(&list, cbasn1.SEQUENCE) || !exts.Empty() {
			return s, errOCSP
		}
		for !list.Empty() {
			if oid, critical, _, ok := readExtension(&list); !ok || critical {
				return s, fmt.Errorf("OCSP response has the unknown critical or malformed extension %v", oid)
			}
		}
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific(): // good [0] IMPLICIT NULL
		s.status = RevocationGood
	case cbasn1.Tag(1).ContextSpecific().Constructed(): // revoked [1] IMPLICIT RevokedInfo
		s.status = RevocationRevoked
		var at time.Time
		var reason cryptobyte.String
		var hasReason bool
		if !status.ReadASN1GeneralizedTime(&at) || !status.ReadOptionalASN1(&reason, &hasReason, cbasn1.Tag(0).ContextSpecific().Constructed()) || !status.Empty() {
			return s, errOCSP
		}
		if hasReason && (!reason.ReadASN1Enum(&s.reason) || !reason.Empty()) {
			return s, errOCSP
		}
		if s.reason == 6 {
			s.status = RevocationHold
		}
	case cbasn1.Tag(2).ContextSpecific(): // unknown [2] IMPLICIT NULL
		s.status = RevocationUnknown
	default:
		return s, errOCSP
	}
	return s, nil
}

// about returns the single response about cert, or nil. The issuer counts: two
// authorities may give out the same serial number.
func (r *ocspResponse) about(cert, issuer *x509.Certificate) *singleResponse {
	for i, s := range r.singles {
		if s.serial.Cmp(cert.SerialNumber) != 0 {
			continue
		}
		name, key := s.hash.New(), s.hash.New()
		name.Write(issuer.RawSubject)
		key.Write(publicKeyBits(issuer))
		if bytes.Equal(name.Sum(nil), s.nameHash) && bytes.Equal(key.Sum(nil), s.keyHash) {
			return &r.singles[i]
		}
	}
	return nil
}

// AnswersFor reports whether an OCSP response says something about one of the certificates, whose issuers must be among them, too. It
// looks at no signature.
func AnswersFor(response []byte, certs []*x509.Certificate) bool {
	r, err := parseOCSP(response)
	if err != nil {
		return false
	}
	for _, cert := range certs {
		for _, issuer := range certs {
			if bytes.Equal(cert.RawIssuer, issuer.RawSubject) && r.about(cert, issuer) != nil {
				return true
			}
		}
	}
	return false
}

// publicKeyBits returns the subjectPublicKey bits that key hashes are over.
func publicKeyBits(c *x509.Certificate) []byte {
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	var spki, alg cryptobyte.String
	var bits []byte
	if !in.ReadASN1(&spki, cbasn1.SEQUENCE) || !spki.ReadASN1(&alg, cbasn1.SEQUENCE) || !spki.ReadASN1BitStringAsBytes(&bits) {
		return nil
	}
	return bits
}

// verify checks that the issuer, or a responder to which the issuer delegated
// directly (RFC 6960, 4.2.2.2), signed the response. It returns the period in
// which the responder may sign.
func (r *ocspResponse) verify(issuer *x509.Certificate) (validity, error) {
	candidates := []*x509.Certificate{issuer}
	for _, der := range r.certs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return validity{}, fmt.Errorf("responder certificate: %w", err)
		}
		candidates = append(candidates, c)
	}
	for _, c := range candidates {
		if !r.names(c) {
			continue
		}
		if !c.Equal(issuer) {
			if !bytes.Equal(c.RawIssuer, issuer.RawSubject) || c.SignatureAlgorithm != x509.ECDSAWithSHA384 || len(c.UnhandledCriticalExtensions) != 0 {
				return validity{}, fmt.Errorf("the responder (%s) was not delegated by the issuer (%s)", c.Subject.CommonName, issuer.Subject.CommonName)
			}
			if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
				return validity{}, fmt.Errorf("the responder's certificate (%s) is not one for signing OCSP", c.Subject.CommonName)
			}
			if err := verifyDER(issuer, c.RawTBSCertificate, c.Signature); err != nil {
				return validity{}, fmt.Errorf("the responder's certificate (%s): %w", c.Subject.CommonName, err)
			}
		}
		if err := verifyDER(c, r.signed, r.signature); err != nil {
			return validity{}, fmt.Errorf("OCSP response of %s: %w", c.Subject.CommonName, err)
		}
		return validity{c.NotBefore, c.NotAfter}, nil
	}
	return validity{}, errors.New("the responder's certificate is missing")
}

// names says whether the response's ResponderID is c.
func (r *ocspResponse) names(c *x509.Certificate) bool {
	if r.responder != nil {
		return bytes.Equal(r.responder, c.RawSubject)
	}
	h := crypto.SHA1.New()
	h.Write(publicKeyBits(c))
	return bytes.Equal(h.Sum(nil), r.keyHash)
}

// ocsp checks that certs, from the first one up to but not including the root,
// are good at o.Time. NVIDIA answers for no leaf of a device: first is 1 there.
func (v *Verifier) ocsp(res *Result, o Options, id string, certs []*x509.Certificate, first int) check.Check {
	c := check.Check{ID: id, Status: check.Fail, Clause: clauseOCSP, Wanted: fmt.Sprintf("%d good", len(certs)-1-first)}
	if len(o.Collateral.OCSP) == 0 {
		c.Status, c.Detail = check.Skip, "no OCSP answers were given"
		return c
	}
	if res.answers == nil {
		answers := make([]*ocspResponse, len(o.Collateral.OCSP))
		for i, answer := range o.Collateral.OCSP {
			var err error
			if answers[i], err = parseOCSP(answer.Response); err != nil {
				c.Detail = err.Error()
				return c
			}
		}
		res.answers = answers
	}
	var good int
	var missing string
	until := time.Time{}
	for i := first; i < len(certs)-1; i++ {
		cert, issuer := certs[i], certs[i+1]
		rev, err := v.revocation(res.answers, o, cert, issuer)
		if err != nil {
			c.Detail = fmt.Sprintf("certificate %d (%s): %v", i, cert.Subject.CommonName, err)
			return c
		}
		if rev == nil {
			if missing == "" {
				missing = cert.Subject.CommonName
			}
			continue
		}
		res.Revocations = append(res.Revocations, *rev)
		switch {
		case rev.Status != RevocationGood:
			c.Seen = fmt.Sprintf("%s is %s", rev.Subject, rev.Status)
			c.Detail = fmt.Sprintf("certificate %d (%s) is %s, reason %d", i, rev.Subject, rev.Status, rev.Reason)
			return c
		case rev.Stale:
			c.Seen = fmt.Sprintf("%s to %s", rev.ThisUpdate.Format(time.RFC3339), rev.NextUpdate.Format(time.RFC3339))
			c.Detail = fmt.Sprintf("the answer about certificate %d (%s) is not valid at the appraisal time", i, rev.Subject)
			if o.Time.After(rev.NextUpdate) {
				c.Stale = "OCSP answer about " + rev.Subject
			}
			return c
		}
		good++
		if until.IsZero() || rev.NextUpdate.Before(until) {
			until = rev.NextUpdate
		}
	}
	c.Seen = fmt.Sprintf("%d good", good)
	if missing != "" {
		c.Status, c.Detail = check.Skip, "no OCSP answer about "+missing
		return c
	}
	c.Status = check.Pass
	res.until(until)
	return c
}

// revocation finds the answer about cert and verifies it. Of several answers
// the newest counts, and of two from the same moment the worse; that all is
// good after o.Time counts only where nobody said anything before. Both
// results are nil when there is none.
func (v *Verifier) revocation(answers []*ocspResponse, o Options, cert, issuer *x509.Certificate) (*Revocation, error) {
	var newest *Revocation
	later := func(r *Revocation) bool { return r.Status == RevocationGood && o.Time.Before(r.ThisUpdate) }
	for i, r := range answers {
		nonce := o.Collateral.OCSP[i].Nonce
		s := r.about(cert, issuer)
		if s == nil {
			continue
		}
		responder, err := v.responder(r, issuer)
		if err != nil {
			return nil, err
		}
		if nonce != nil && !bytes.Equal(nonce, r.nonce) {
			return nil, fmt.Errorf("OCSP nonce is %q, want %q: the answer is to another request", hex.EncodeToString(r.nonce), hex.EncodeToString(nonce))
		}
		rev := &Revocation{
			Subject: cert.Subject.CommonName, Serial: cert.SerialNumber.String(),
			Status: s.status, Reason: s.reason, Nonced: nonce != nil,
			ThisUpdate: s.thisUpdate, NextUpdate: s.nextUpd,
			// Without nextUpdate nothing says how long the answer holds.
			Stale: o.Time.Before(s.thisUpdate) || o.Time.After(s.nextUpd) || !responder.contains(o.Time),
		}
		switch {
		case newest == nil, later(newest) && !later(rev):
			newest = rev
		case later(rev) && !later(newest):
		case rev.ThisUpdate.After(newest.ThisUpdate), rev.ThisUpdate.Equal(newest.ThisUpdate) && rev.Status != RevocationGood:
			newest = rev
		}
	}
	return newest, nil
}

// responder verifies who signed r, or recalls it.
func (v *Verifier) responder(r *ocspResponse, issuer *x509.Certificate) (validity, error) {
	h := sha256.New()
	fp := fingerprint(issuer)
	h.Write(fp[:])
	h.Write(r.raw)
	key := [32]byte(h.Sum(nil))
	if p, ok := v.responders.Get(key); ok {
		return p, nil
	}
	p, err := r.verify(issuer)
	if err == nil {
		v.responders.Put(key, p)
	}
	return p, err
}
