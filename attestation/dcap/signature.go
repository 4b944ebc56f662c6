package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// signature is an ECDSA P-256 signature to be verified.
type signature struct {
	pub    *ecdsa.PublicKey
	digest [32]byte
	der    []byte
	name   [32]byte // SHA-256 of all the above
}

func newSignature(pub *ecdsa.PublicKey, encoded []byte, digest [32]byte, der []byte) *signature {
	h := sha256.New()
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(encoded)))
	h.Write(n[:])
	h.Write(encoded)
	h.Write(digest[:])
	h.Write(der)
	s := &signature{pub: pub, digest: digest, der: der}
	h.Sum(s.name[:0])
	return s
}

// certificate is a parsed certificate with what its appraisal needs more than once.
type certificate struct {
	*x509.Certificate
	digest [32]byte // SHA-256 of what its issuer signed
	pck    *PCK     // nil unless it is the certificate of a PCK
	pckErr error
}

func newCertificate(c *x509.Certificate) *certificate {
	k := &certificate{Certificate: c, digest: sha256.Sum256(c.RawTBSCertificate)}
	k.pck, k.pckErr = ParsePCK(c)
	return k
}

func newChain(certs []*x509.Certificate) (chain []*certificate) {
	for _, c := range certs {
		chain = append(chain, newCertificate(c))
	}
	return chain
}

// signedBy is a signature by a certificate's key.
func signedBy(issuer *certificate, digest [32]byte, der []byte) (*signature, error) {
	pub, err := p256Key(issuer)
	if err != nil {
		return nil, err
	}
	return newSignature(pub, issuer.RawSubjectPublicKeyInfo, digest, der), nil
}

func p256Key(cert *certificate) (*ecdsa.PublicKey, error) {
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("certificate %q has no P-256 key", cert.Subject.CommonName)
	}
	return pub, nil
}

// qeReport is the signature of the QE report by the PCK.
func (a *appraisal) qeReport() (*signature, error) {
	return signedBy(a.leaf, sha256.Sum256(a.q.QEReportSigned), derSignature(a.q.QEReportSignature))
}

// quote is the signature of the quote by the attestation key.
func (a *appraisal) quote() (*signature, error) {
	if a.quoteSig == nil {
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, a.q.AttestationKey[:]...))
		if err != nil {
			return nil, errors.New("attestation key is not a point of P-256")
		}
		a.quoteSig = newSignature(pub, a.q.AttestationKey[:], sha256.Sum256(a.q.Signed), derSignature(a.q.Signature))
	}
	return a.quoteSig, nil
}

// verdict is a verification that is done once, on whichever core gets to it first.
type verdict struct {
	once sync.Once
	s    *signature
	ok   bool
}

func (d *verdict) reach() bool {
	d.once.Do(func() { d.ok = ecdsa.VerifyASN1(d.s.pub, d.s.digest[:], d.s.der) })
	return d.ok
}

const (
	maxSignatures = 10 // in one appraisal: two each for the PCK chain, CRLs, TCB info, QE identity and the quote
	unaided       = 2  // of them are left in a warm appraisal, and not worth a handover
	maxHelpers    = 4  // goroutines beside the caller's
)

// ahead prepares the certificates, and lets other cores verify what the checks are going to ask for. It decides nothing: whatever
// it cannot make sense of it leaves to the checks. The caller calls the function that it returns, which waits for the others.
func (a *appraisal) ahead() (wait func()) {
	helpers := min(runtime.GOMAXPROCS(0)-1, maxHelpers)
	if helpers == 0 { // the checks verify one by one, up to the first failure
		a.issuers()
		a.certificates()
		return func() {}
	}
	a.verdicts = make([]*verdict, 0, maxSignatures)
	queue := make(chan *verdict, maxSignatures) // so that sending never blocks
	var group sync.WaitGroup
	want := func(s *signature, err error) {
		if err != nil || a.find(s) != nil {
			return
		}
		if _, ok := a.v.signatures.Get(s.name); ok {
			return
		}
		d := &verdict{s: s}
		a.verdicts = append(a.verdicts, d)
		queue <- d
		if n := len(a.verdicts) - unaided; n > 0 && n <= helpers {
			group.Go(func() {
				for d := range queue {
					d.reach()
				}
			})
		}
	}
	issued := func(cert, issuer *certificate) {
		if cert != nil && issuer != nil {
			want(signedBy(issuer, cert.digest, cert.Signature))
		}
	}
	listed := func(crl *CRL, issuer *certificate) {
		if crl != nil && issuer != nil {
			want(signedBy(issuer, crl.digest, crl.List.Signature))
		}
	}
	stated := func(chain []*certificate, digest [32]byte, sig [64]byte) {
		if len(chain) > 0 {
			root, _ := a.v.anchor(chain[0], chain[1:])
			issued(chain[0], root)
			want(signedBy(chain[0], digest, derSignature(sig)))
		}
	}
	want(a.quote())
	a.issuers()
	if t := a.c.TCBInfo; t != nil {
		stated(a.tcbInfoChain, t.digest, t.Signature)
	}
	if e := a.c.QEIdentity; e != nil {
		stated(a.qeIdentityChain, e.digest, e.Signature)
	}
	a.certificates() // while the first are being verified
	var root *certificate
	if a.intermediate != nil {
		root, _ = a.v.anchor(a.intermediate, a.pckChain[2:])
	}
	if a.leaf != nil {
		want(a.qeReport())
	}
	issued(a.leaf, a.intermediate)
	issued(a.intermediate, root)
	listed(a.c.RootCRL, root)
	listed(a.c.PCKCRL, a.intermediate)
	close(queue)
	for d := range queue {
		d.reach()
	}
	return group.Wait
}

// find returns the verdict on a signature that ahead asked for, or nil.
func (a *appraisal) find(s *signature) *verdict {
	for _, d := range a.verdicts {
		if d.s.name == s.name {
			return d
		}
	}
	return nil
}

// verdict verifies a signature, unless another core has.
func (a *appraisal) verdict(s *signature) bool {
	if d := a.find(s); d != nil {
		return d.reach()
	}
	return (&verdict{s: s}).reach()
}

// verified verifies a signature, or finds it verified in an earlier appraisal. It remembers successes only.
func (a *appraisal) verified(s *signature) bool {
	if _, ok := a.v.signatures.Get(s.name); ok {
		return true
	}
	if !a.verdict(s) {
		return false
	}
	a.v.signatures.Put(s.name, struct{}{})
	return true
}

// issuers prepares the chains of Intel's statements.
func (a *appraisal) issuers() {
	a.tcbInfoChain, a.qeIdentityChain = newChain(a.c.TCBInfoChain), newChain(a.c.QEIdentityChain)
}

// certificates parses the PCK chain as far as it goes.
func (a *appraisal) certificates() {
	if a.q.CertificationDataType != CertPCKChain {
		a.pckChain = newChain(a.c.PCKChain)
	} else if a.pckChainErr = a.q.chainErr; a.pckChainErr == nil {
		for i, der := range a.q.PCKChain {
			cert, err := a.v.parse(der)
			if err != nil {
				a.pckChain, a.pckChainErr = nil, fmt.Errorf("certificate %d: %w", i+1, err)
				break
			}
			a.pckChain = append(a.pckChain, cert)
		}
	}
	if len(a.pckChain) > 0 {
		a.leaf = a.pckChain[0]
	}
	if len(a.pckChain) > 1 {
		a.intermediate = a.pckChain[1]
	}
}

// parse parses a certificate, or finds it parsed.
func (v *Verifier) parse(der []byte) (*certificate, error) {
	for _, r := range v.anchors {
		if bytes.Equal(r.Raw, der) {
			return r, nil
		}
	}
	key := sha256.Sum256(der)
	if c, ok := v.certs.Get(key); ok {
		return c, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := newCertificate(cert)
	v.certs.Put(key, c)
	return c, nil
}

// derSignature encodes r || s as an ECDSA-Sig-Value.
func derSignature(sig [64]byte) []byte {
	integer := func(out, v []byte) []byte {
		for len(v) > 1 && v[0] == 0 {
			v = v[1:]
		}
		n := len(v)
		if v[0] >= 0x80 {
			n++
		}
		out = append(out, 2, byte(n))
		if n > len(v) {
			out = append(out, 0)
		}
		return append(out, v...)
	}
	out := append(make([]byte, 0, 72), 0x30, 0)
	out = integer(out, sig[:32])
	out = integer(out, sig[32:])
	out[1] = byte(len(out) - 2)
	return out
}
