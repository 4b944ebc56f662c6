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
	"slices"
	"sync"
)

// signature is an ECDSA P-256 signature. It is verified once, on whichever core gets to it first.
type signature struct {
	pub    *ecdsa.PublicKey
	key    []byte // pub, encoded
	digest [32]byte
	der    []byte
	name   [32]byte // SHA-256 of key, digest and der

	once sync.Once
	ok   bool
}

func (s *signature) verify() bool {
	s.once.Do(func() { s.ok = ecdsa.VerifyASN1(s.pub, s.digest[:], s.der) })
	return s.ok
}

// signature returns what stands for that signature throughout the appraisal.
func (a *appraisal) signature(pub *ecdsa.PublicKey, key []byte, digest [32]byte, der []byte) *signature {
	for _, s := range a.signatures {
		if s.digest == digest && bytes.Equal(s.der, der) && bytes.Equal(s.key, key) {
			return s
		}
	}
	s := &signature{pub: pub, key: key, digest: digest, der: der}
	name := binary.BigEndian.AppendUint32(make([]byte, 0, 256), uint32(len(key)))
	s.name = sha256.Sum256(append(append(append(name, key...), digest[:]...), der...))
	a.signatures = append(a.signatures, s)
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

func newChain(certs []*x509.Certificate) []*certificate {
	chain := make([]*certificate, len(certs))
	for i, c := range certs {
		chain[i] = newCertificate(c)
	}
	return chain
}

// signedBy is a signature by a certificate's key.
func (a *appraisal) signedBy(issuer *certificate, digest [32]byte, der []byte) (*signature, error) {
	pub, err := p256Key(issuer)
	if err != nil {
		return nil, err
	}
	return a.signature(pub, issuer.RawSubjectPublicKeyInfo, digest, der), nil
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
	return a.signedBy(a.leaf, sha256.Sum256(a.q.QEReportSigned), derSignature(a.q.QEReportSignature))
}

// quote is the signature of the quote by the attestation key.
func (a *appraisal) quote() (*signature, error) {
	if a.quoteSig == nil {
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, a.q.AttestationKey[:]...))
		if err != nil {
			return nil, errors.New("attestation key is not a point of P-256")
		}
		a.quoteSig = a.signature(pub, a.q.AttestationKey[:], sha256.Sum256(a.q.Signed), derSignature(a.q.Signature))
	}
	return a.quoteSig, nil
}

const (
	maxSignatures = 10 // in one appraisal: two each for the PCK chain, CRLs, TCB info, QE identity and the quote
	maxHelpers    = 5  // goroutines beside the caller's
)

// crew verifies, on other cores too, what the checks are going to ask for.
type crew struct {
	queue   chan *signature
	waiting int // helpers that are not called yet
	group   sync.WaitGroup
}

func newCrew() *crew {
	return &crew{
		queue:   make(chan *signature, maxSignatures), // so that sending never blocks
		waiting: min(runtime.GOMAXPROCS(0)-1, maxHelpers),
	}
}

// call calls two helpers, as far as there are cores for them. The scheduler is slow to hand another core the goroutine that was
// started last; let that be one of which nothing is wanted, so that Verify does not end by waiting for a helper that comes late.
func (w *crew) call() {
	if w.waiting == 0 {
		return
	}
	for range min(2, w.waiting) {
		w.waiting--
		w.group.Go(w.verify)
	}
	go func() {}()
}

func (w *crew) verify() {
	for s := range w.queue {
		s.verify()
	}
}

// ahead finds what the checks are going to need, and queues the signatures. It decides nothing: whatever it cannot make sense of
// it leaves to the checks. To wake another core takes about as long as to parse a certificate, so that helpers are called as soon
// as something turns out to be new to the Verifier; a warm appraisal does without them.
func (a *appraisal) ahead(find func([]*x509.Certificate, *PCK) *Collateral) {
	defer close(a.crew.queue)
	once := func(issuer *certificate, digest [32]byte, der []byte) { // queues what an earlier appraisal may have verified
		known := len(a.signatures)
		if s, err := a.signedBy(issuer, digest, der); err == nil && len(a.signatures) > known && !a.remembered(s) {
			a.crew.queue <- s
			a.crew.call()
		}
	}
	var root *certificate
	platform := func() {
		if len(a.pckChain) > 0 {
			a.leaf = a.pckChain[0]
		}
		if len(a.pckChain) > 1 {
			a.intermediate = a.pckChain[1]
			once(a.intermediate, a.leaf.digest, a.leaf.Signature)
			if root, _ = a.v.anchor(a.intermediate, a.pckChain[2:]); root != nil {
				once(root, a.intermediate.digest, a.intermediate.Signature)
			}
		}
	}
	stated := func(chain []*certificate, digest [32]byte, sig [64]byte) {
		if len(chain) > 0 {
			once(chain[0], digest, derSignature(sig))
			if root, err := a.v.anchor(chain[0], chain[1:]); err == nil {
				once(root, chain[0].digest, chain[0].Signature)
			}
		}
	}
	if s, err := a.quote(); err == nil {
		a.crew.queue <- s
	}
	embedded := a.q.CertificationDataType == CertPCKChain
	if embedded {
		a.parsePCKChain()
		platform()
	}
	a.find(find)
	if !embedded {
		a.pckChain = newChain(a.c.PCKChain)
		platform()
	}
	if t := a.c.TCBInfo; t != nil {
		stated(a.tcbInfoChain, t.digest, t.Signature)
	}
	if e := a.c.QEIdentity; e != nil {
		stated(a.qeIdentityChain, e.digest, e.Signature)
	}
	if crl := a.c.PCKCRL; crl != nil && a.intermediate != nil {
		once(a.intermediate, crl.digest, crl.List.Signature)
	}
	if crl := a.c.RootCRL; crl != nil && root != nil {
		once(root, crl.digest, crl.List.Signature)
	}
	if a.leaf != nil { // last, since the checks ask for it last
		if s, err := a.qeReport(); err == nil {
			a.crew.queue <- s
		}
	}
}

func (a *appraisal) remembered(s *signature) bool {
	_, ok := a.v.signatures.Get(s.name)
	return ok
}

// verified verifies a signature, or finds it verified in an earlier appraisal. It remembers successes only.
func (a *appraisal) verified(s *signature) bool {
	if a.remembered(s) {
		return true
	}
	if !s.verify() {
		return false
	}
	a.v.signatures.Put(s.name, struct{}{})
	return true
}

// parsePCKChain parses the PCK chain in the quote as far as it goes.
func (a *appraisal) parsePCKChain() {
	if a.pckChainErr = a.q.chainErr; a.pckChainErr != nil {
		return
	}
	for i, der := range a.q.PCKChain {
		cert, err := a.certificate(der)
		if err != nil {
			a.pckChain, a.pckChainErr = nil, fmt.Errorf("certificate %d: %w", i+1, err)
			return
		}
		a.pckChain = append(a.pckChain, cert)
	}
}

// find asks for the collateral and prepares the chains of Intel's statements.
func (a *appraisal) find(find func([]*x509.Certificate, *PCK) *Collateral) {
	var chain []*x509.Certificate
	var pck *PCK
	for _, c := range a.pckChain {
		chain = append(chain, c.Certificate)
	}
	if a.leaf != nil {
		pck = a.leaf.pck
	}
	if a.c = find(chain, pck); a.c == nil {
		a.c = &Collateral{}
	}
	a.tcbInfoChain = newChain(a.c.TCBInfoChain)
	a.qeIdentityChain = a.tcbInfoChain
	if !slices.Equal(a.c.QEIdentityChain, a.c.TCBInfoChain) {
		a.qeIdentityChain = newChain(a.c.QEIdentityChain)
	}
}

// certificate parses a certificate, or finds it parsed.
func (a *appraisal) certificate(der []byte) (*certificate, error) {
	for _, r := range a.v.anchors {
		if bytes.Equal(r.Raw, der) {
			return r, nil
		}
	}
	key := sha256.Sum256(der)
	if c, ok := a.v.certs.Get(key); ok {
		return c, nil
	}
	a.crew.call()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := newCertificate(cert)
	a.v.certs.Put(key, c)
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
