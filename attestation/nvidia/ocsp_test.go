package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/ocsp"
)

// delegate makes a responder certificate below issuer.
func delegate(t *testing.T, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey, change func(c *x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "Mock Responder"}, SignatureAlgorithm: x509.ECDSAWithSHA384,
		NotBefore: at.AddDate(0, -1, 0), NotAfter: at.AddDate(0, 1, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestOCSP(t *testing.T) {
	f := newForge(t, layout{})
	e := f.evidence(gpu())
	nonce := bytes.Repeat([]byte{9}, 32)
	unknown := asn1.ObjectIdentifier{1, 2, 3}
	// answers are good ones about every certificate that needs one.
	answers := func(change func(i int, a *answer)) []OCSP {
		var out []OCSP
		for i := 1; i < ChainLength-1; i++ {
			a := answer{cert: f.certs[i], issuer: f.certs[i+1], signer: f.keys[i+1], nonce: nonce}
			if change != nil {
				change(i, &a)
			}
			out = append(out, OCSP{Response: f.ocsp(a), Nonce: nonce})
		}
		return out
	}
	// One verifier for all: what it remembers of an answer says nothing about the next one.
	v := f.verifier()
	verify := func(a []OCSP) *Result {
		return v.Verify(e, Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{OCSP: a}})
	}
	only2 := func(change func(a *answer)) []OCSP {
		return answers(func(i int, a *answer) {
			if i == 2 {
				change(a)
			}
		})
	}

	res := verify(answers(nil))
	wantStatus(t, res, map[string]check.Status{CheckDeviceOCSP: check.Pass})
	if len(res.Revocations) != 3 || !res.ValidUntil.Equal(at.Add(time.Hour)) || !res.Revocations[0].Nonced {
		t.Errorf("%+v, valid until %v", res.Revocations, res.ValidUntil)
	}
	for name, a := range map[string][]OCSP{
		"critical nonce": only2(func(a *answer) {
			a.nonce, a.extensions = nil, []cryptobyteWriter{ocspExtension(oidOCSPNonce, true, append([]byte{4, 32}, nonce...))}
		}),
		"by key":    only2(func(a *answer) { a.byKey = true }),
		"16 in one": only2(func(a *answer) { a.copies = 15 }),
		"extensions": only2(func(a *answer) {
			a.extensions, a.single = []cryptobyteWriter{ocspExtension(unknown, false, nil)}, []cryptobyteWriter{ocspExtension(unknown, false, nil)}
		}),
		"sooner":       only2(func(a *answer) { a.next = at.Add(time.Minute) }),
		"later":        only2(func(a *answer) { a.next = at.Add(2 * time.Hour) }),
		"8 bystanders": only2(func(a *answer) { a.include = slices.Repeat(f.certs[:1], 8) }),
	} {
		t.Run(name, func(t *testing.T) {
			until := at.Add(time.Hour)
			if name == "sooner" {
				until = at.Add(time.Minute)
			}
			res := verify(a)
			wantStatus(t, res, map[string]check.Status{CheckDeviceOCSP: check.Pass})
			if c := res.check(t, CheckDeviceOCSP); c.Seen != "3 good" || !res.ValidUntil.Equal(until) {
				t.Errorf("%q until %v", c.Seen, res.ValidUntil)
			}
		})
	}
	for name, x := range map[string]struct {
		answers []OCSP
		why     string
	}{
		"hold":              {only2(func(a *answer) { a.status, a.reason = RevocationHold, 6 }), "is hold, reason 6"},
		"revoked":           {only2(func(a *answer) { a.status, a.reason = RevocationRevoked, 1 }), "is revoked, reason 1"},
		"unknown":           {only2(func(a *answer) { a.status = RevocationUnknown }), "is unknown"},
		"stale":             {only2(func(a *answer) { a.this, a.next = at.Add(-2*time.Hour), at.Add(-time.Hour) }), "not valid at the appraisal time"},
		"future":            {only2(func(a *answer) { a.this = at.Add(time.Minute) }), "not valid at the appraisal time"},
		"nonce":             {only2(func(a *answer) { a.nonce = bytes.Repeat([]byte{8}, 32) }), "another request"},
		"no nonce":          {only2(func(a *answer) { a.nonce = nil }), "another request"},
		"long nonce":        {only2(func(a *answer) { a.nonce = make([]byte, 129) }), "nonce is malformed"},
		"signature":         {only2(func(a *answer) { a.signer = f.keys[0] }), "signature does not verify"},
		"empty nonce":       {only2(func(a *answer) { a.nonce = []byte{} }), "nonce is malformed"},
		"nine certificates": {only2(func(a *answer) { a.include = slices.Repeat(f.certs[:1], 9) }), "not a well-formed OCSP response"},
		"nonce twice": {only2(func(a *answer) {
			a.extensions = []cryptobyteWriter{ocspExtension(oidOCSPNonce, false, []byte{4, 1, 7})}
		}), "nonce is malformed"},
		"critical extension":            {only2(func(a *answer) { a.extensions = []cryptobyteWriter{ocspExtension(unknown, true, []byte{5, 0})} }), "unknown critical extension"},
		"critical extension of one":     {only2(func(a *answer) { a.single = []cryptobyteWriter{ocspExtension(unknown, true, []byte{5, 0})} }), "unknown critical or malformed"},
		"extension of one that is none": {only2(func(a *answer) { a.single = []cryptobyteWriter{func(b *cryptobyte.Builder) { b.AddASN1Int64(5) }} }), "unknown critical or malformed"},
		"unknown hash":                  {only2(func(a *answer) { a.hash = unknown }), "the unknown hash"},
		"version":                       {only2(func(a *answer) { a.version = true }), "not a well-formed OCSP response"},
		"17 answers in one":             {only2(func(a *answer) { a.copies = 16 }), "more than 16"},
		"another's key":                 {only2(func(a *answer) { a.byKey, a.responder = true, f.certs[4] }), "responder's certificate is missing"},
		"responder with a critical extension": {only2(func(a *answer) {
			c, k := delegate(t, a.issuer, a.signer, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: unknown, Critical: true, Value: []byte{5, 0}}}
			})
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		}), "was not delegated by the issuer"},
		"responder with SHA-256": {only2(func(a *answer) {
			c, k := delegate(t, a.issuer, a.signer, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 })
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		}), "was not delegated by the issuer"},
		"responder whose certificate is none": {only2(func(a *answer) { a.include = []*x509.Certificate{{Raw: []byte{0x30, 0}}} }), "responder certificate"},
		"responder error":                     {only2(func(a *answer) { a.responseStatus = 3 }), "answered with error 3"},
		"self-appointed responder": {only2(func(a *answer) {
			c, k := delegate(t, f.certs[4], f.keys[4], nil) // by the root, not by the issuer
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		}), "was not delegated by the issuer"},
		"responder without the key usage": {only2(func(a *answer) {
			c, k := delegate(t, a.issuer, a.signer, func(c *x509.Certificate) { c.ExtKeyUsage = nil })
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		}), "not one for signing OCSP"},
		"responder with a forged certificate": {only2(func(a *answer) {
			forged := *a.issuer
			forged.PublicKey = &f.keys[0].PublicKey
			c, k := delegate(t, &forged, f.keys[0], nil)
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		}), "signature does not verify"},
		"responder expired": {only2(func(a *answer) {
			c, k := delegate(t, a.issuer, a.signer, func(c *x509.Certificate) { c.NotAfter = at.Add(-time.Second) })
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		}), "not valid at the appraisal time"},
		"responder's certificate missing": {only2(func(a *answer) {
			a.responder, a.signer = delegate(t, a.issuer, a.signer, nil)
		}), "responder's certificate is missing"},
		"malformed": {append(answers(nil), OCSP{Response: []byte{0x30, 0}}), "not a well-formed OCSP response"},
		"too large": {append(answers(nil), OCSP{Response: make([]byte, MaxOCSPSize+1)}), "the most is"},
	} {
		t.Run(name, func(t *testing.T) {
			res := verify(x.answers)
			onlyFails(t, res, CheckDeviceOCSP, x.why)
			c := res.check(t, CheckDeviceOCSP)
			if said := name == "hold" || name == "revoked" || name == "unknown" || name == "stale" || name == "future" || name == "responder expired"; said != (c.Seen != "") {
				t.Errorf("seen %q", c.Seen)
			}
			if want := map[bool]string{true: "OCSP answer about Mock CA 2"}[name == "stale"]; c.Stale != want {
				t.Errorf("stale %q, want %q", c.Stale, want)
			}
		})
	}
	t.Run("the longest nonce", func(t *testing.T) {
		long := make([]byte, 128)
		if r, err := parseOCSP(f.ocsp(answer{cert: f.certs[2], issuer: f.certs[3], signer: f.keys[3], nonce: long})); err != nil || !bytes.Equal(r.nonce, long) {
			t.Error(err)
		}
	})
	t.Run("what answers are read for", func(t *testing.T) {
		b := f.ocsp(answer{cert: f.certs[2], issuer: f.certs[3], signer: f.keys[3]})
		if !AnswersFor(b, f.certs) || AnswersFor(b, f.certs[:3]) || AnswersFor(b, []*x509.Certificate{f.certs[1], f.certs[3]}) || AnswersFor([]byte{0x30, 0}, f.certs) {
			t.Error("an answer is not for whom it is")
		}
		a, err := ReadOCSP(b)
		if err != nil || a.Serial.Cmp(f.certs[2].SerialNumber) != 0 || a.Status != RevocationGood || !a.Until.Equal(at.Add(time.Hour)) {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := ReadOCSP(f.ocsp(answer{cert: f.certs[2], issuer: f.certs[3], signer: f.keys[3], copies: -1})); err == nil {
			t.Error("an answer about nothing")
		}
		if _, err := ReadOCSP([]byte{0x30, 0}); err == nil {
			t.Error("no answer")
		}
		other := bytes.Replace(b, []byte{0x2b, 6, 1, 5, 5, 7, 48, 1, 1}, []byte{0x2b, 6, 1, 5, 5, 7, 48, 1, 9}, 1)
		for name, b := range map[string][]byte{"more behind it": append(bytes.Clone(b), 0), "another type": other} {
			if _, err := parseOCSP(b); err != errOCSP {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, b := range spoiled(t, f.ocsp(answer{cert: f.certs[2], issuer: f.certs[3], signer: f.keys[3], byKey: true})) {
			if _, err := parseOCSP(b); err == nil && strings.HasPrefix(name, "1.0.1.0.0.0.") {
				t.Errorf("responder's key: %s", name)
			}
		}
		if _, err := parseOCSP(make([]byte, MaxOCSPSize)); err != errOCSP {
			t.Error(err)
		}
	})
	for name, a := range map[string][]OCSP{
		"none":        nil,
		"one missing": answers(nil)[1:],
		// The serial number of one authority says nothing about another's.
		"about another certificate of the issuer": only2(func(a *answer) { c := *a.cert; c.SerialNumber = big.NewInt(4711); a.cert = &c }),
		"about another issuer's certificate":      only2(func(a *answer) { a.wrongIssuerHash = true }),
	} {
		t.Run(name, func(t *testing.T) { wantStatus(t, verify(a), map[string]check.Status{CheckDeviceOCSP: check.Skip}) })
	}
	t.Run("delegated responder", func(t *testing.T) {
		wantStatus(t, verify(only2(func(a *answer) {
			c, k := delegate(t, a.issuer, a.signer, nil)
			a.responder, a.signer, a.include = c, k, []*x509.Certificate{c}
		})), map[string]check.Status{CheckDeviceOCSP: check.Pass})
	})
	t.Run("without a request nonce", func(t *testing.T) {
		all := answers(nil)
		for i := range all {
			all[i].Nonce = nil
		}
		res := verify(all)
		wantStatus(t, res, map[string]check.Status{CheckDeviceOCSP: check.Pass})
		if res.Revocations[0].Nonced {
			t.Error("an answer to no request counts as nonced")
		}
	})
	t.Run("the newest answer counts", func(t *testing.T) {
		lifted := append(only2(func(a *answer) { a.status, a.reason, a.this = RevocationHold, 6, at.Add(-3*time.Hour) }), answers(nil)...)
		wantStatus(t, verify(lifted), map[string]check.Status{CheckDeviceOCSP: check.Pass})
		revoked := append(answers(nil), only2(func(a *answer) { a.status, a.reason, a.this = RevocationHold, 6, at.Add(-time.Minute) })...)
		wantStatus(t, verify(revoked), map[string]check.Status{CheckDeviceOCSP: check.Fail})
		same := append(answers(nil), only2(func(a *answer) { a.status = RevocationUnknown })...)
		wantStatus(t, verify(same), map[string]check.Status{CheckDeviceOCSP: check.Fail})
	})
	t.Run("a good answer of later hides none in force", func(t *testing.T) {
		later := only2(func(a *answer) { a.this = at.Add(time.Minute) })
		for _, all := range [][]OCSP{append(later, answers(nil)...), append(answers(nil), later...)} {
			wantStatus(t, verify(all), map[string]check.Status{CheckDeviceOCSP: check.Pass})
		}
		revoked := only2(func(a *answer) { a.status, a.reason, a.this = RevocationRevoked, 1, at.Add(time.Minute) })
		for _, all := range [][]OCSP{append(revoked, answers(nil)...), append(answers(nil), revoked...)} {
			onlyFails(t, verify(all), CheckDeviceOCSP, "is revoked")
		}
	})
	t.Run("manifest signers", func(t *testing.T) {
		driver, vbios := f.goldenRIMs()
		all := append(answers(nil), OCSP{Response: f.ocsp(answer{cert: f.certs[0], issuer: f.certs[1], signer: f.keys[1]})})
		o := Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{OCSP: all, RIMs: []*RIM{driver, vbios}}}
		wantStatus(t, f.verifier().Verify(e, o), map[string]check.Status{CheckDeviceOCSP: check.Pass, CheckDriverRIMOCSP: check.Pass, CheckVBIOSRIMOCSP: check.Pass})
		o.Collateral.OCSP[3] = OCSP{Response: f.ocsp(answer{cert: f.certs[0], issuer: f.certs[1], signer: f.keys[1], status: RevocationRevoked, reason: 4})}
		res := f.verifier().Verify(e, o)
		wantStatus(t, res, map[string]check.Status{CheckDeviceOCSP: check.Pass, CheckDriverRIMOCSP: check.Fail, CheckVBIOSRIMOCSP: check.Fail})
		// One answer that cannot be read spoils every check on answers.
		o.Collateral.OCSP = append(all[:3:3], OCSP{Response: []byte{0x30, 0}})
		wantStatus(t, f.verifier().Verify(e, o), map[string]check.Status{CheckDeviceOCSP: check.Fail, CheckDriverRIMOCSP: check.Fail, CheckVBIOSRIMOCSP: check.Fail})
	})
}

// An answer with one element more or less than the specification has is refused, but for what is optional, and for what is not read.
func TestOCSPStructure(t *testing.T) {
	f := newForge(t, layout{})
	a := answer{cert: f.certs[2], issuer: f.certs[3], signer: f.keys[3], status: RevocationHold, reason: 6, nonce: bytes.Repeat([]byte{9}, 32)}
	a.include = []*x509.Certificate{f.certs[3]}
	a.single = []cryptobyteWriter{ocspExtension(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0})}
	const responder, certificate = "1.0.1.0.0.0.", "1.0.1.0.3.0.0" // compared, and parsed by crypto/x509
	var accepted []string
	for name, b := range spoiled(t, f.ocsp(a)) {
		if _, err := parseOCSP(b); err == nil && !strings.HasPrefix(name, responder) && !strings.HasPrefix(name, certificate) {
			accepted = append(accepted, name)
		}
	}
	slices.Sort(accepted)
	want := []string{
		"1.0.1.0.0.2.0",       // no single response: says nothing about any certificate
		"1.0.1.0.0.2.0.0.0.+", // parameters of the CertID's hash
		"1.0.1.0.0.2.0.1.1",   // no revocationReason
		"1.0.1.0.0.2.0.3",     // no nextUpdate
		"1.0.1.0.0.2.0.4",     // no singleExtensions
		"1.0.1.0.0.2.0.4.0.0", // none among them
		"1.0.1.0.0.3",         // no responseExtensions
		"1.0.1.0.0.3.0.0",     // none among them
		"1.0.1.0.1.+",         // parameters of the signature's algorithm
		"1.0.1.0.3",           // no certificates
	}
	if !slices.Equal(accepted, want) {
		t.Errorf("accepted %q, want %q", accepted, want)
	}
}

// TestOCSPAgainstLibrary reads answers that golang.org/x/crypto/ocsp wrote,
// and has it read ours.
func TestOCSPAgainstLibrary(t *testing.T) {
	f := newForge(t, layout{})
	for status, want := range map[int]RevocationStatus{ocsp.Good: RevocationGood, ocsp.Revoked: RevocationHold, ocsp.Unknown: RevocationUnknown} {
		b, err := ocsp.CreateResponse(f.certs[3], f.certs[3], ocsp.Response{
			Status: status, SerialNumber: f.certs[2].SerialNumber, ThisUpdate: at, NextUpdate: at.Add(time.Hour), RevokedAt: at,
			RevocationReason: ocsp.CertificateHold, SignatureAlgorithm: x509.ECDSAWithSHA384,
		}, f.keys[3])
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseOCSP(b)
		if err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		s := r.about(f.certs[2], f.certs[3])
		if s == nil || s.status != want || !s.thisUpdate.Equal(at) || !s.nextUpd.Equal(at.Add(time.Hour)) {
			t.Errorf("%v: %+v", want, s)
		}
		if _, err := r.verify(f.certs[3]); err != nil {
			t.Errorf("%v: %v", want, err)
		}
		ours := f.ocsp(answer{cert: f.certs[2], issuer: f.certs[3], signer: f.keys[3], status: want, reason: 6})
		theirs, err := ocsp.ParseResponseForCert(ours, f.certs[2], f.certs[3])
		if err != nil || theirs.Status != status {
			t.Errorf("%v: %v, %v", want, theirs, err)
		}
	}
	b, err := ocsp.CreateResponse(f.certs[3], f.certs[3], ocsp.Response{SerialNumber: f.certs[2].SerialNumber, ThisUpdate: at, SignatureAlgorithm: x509.ECDSAWithSHA256}, f.keys[3])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseOCSP(b); err == nil || !strings.Contains(err.Error(), "want ECDSA-SHA384") {
		t.Errorf("a SHA-256 answer: %v", err)
	}
}
