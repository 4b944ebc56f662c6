package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/pki"
)

func TestWorldIsGenuine(t *testing.T) {
	for _, p := range []Product{Milan, Genoa, Turin} {
		for _, kind := range []SigningKey{VCEK, VLEK} {
			w := newWorld(p, kind)
			r, err := w.appraise(t)
			if err != nil || len(with(r, check.Pass)) != len(r.Checks) {
				t.Errorf("%s %s: %v", p, kind, err)
				continue
			}
			if !r.ValidUntil.Equal(w.crl.NextUpdate) || !r.ValidFrom.Equal(w.crl.ThisUpdate) {
				t.Errorf("valid from %v until %v, want those of the CRL", r.ValidFrom, r.ValidUntil)
			}
			want := TCBParts{BootLoader: 4, TEE: 1, SNP: 24, Microcode: 219}
			if p == Turin {
				want.FMC = 2
			}
			if r.Key.TCB != want || r.Key.Kind != kind || r.Key.Product != p || (kind == VLEK) != (r.Key.CSPID != "") {
				t.Errorf("%+v", r.Key)
			}
		}
	}
}

// TestRejected has one way to be wrong per line; nothing but the named check may fail.
func TestRejected(t *testing.T) {
	k := testKeys()
	keyChecks := []string{CheckKeyKind, CheckKeyProduct, CheckKeyChip, CheckKeyTCB}
	noCRL := []string{CheckRevocation}
	noRoot := []string{CheckCRL, CheckRevocation}
	good, err := newWorld(Genoa, VCEK).appraise(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		bend func(*world)
		fail string
		skip []string
	}{
		{"key signed by a stranger", func(w *world) { w.ekBy = k.other }, CheckChain, nil},
		{"ASK signed by a stranger", func(w *world) { w.askBy = k.other }, CheckChain, nil},
		{"ASK under another root's name", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				other := *w.ark
				other.Subject = amdName("ARK-Other")
				root := w.issue(t, &other, &other, &k.other.PublicKey, k.other)
				c.Intermediates[0] = w.issue(t, w.ask, root, &k.ask.PublicKey, k.other)
			}
		}, CheckChain, noRoot},
		{"ASK of another product", func(w *world) { w.ask.Subject = amdName("SEV-Milan") }, CheckChain, nil},
		{"ARK of another product", func(w *world) { w.ark.Subject = amdName("ARK-Milan") }, CheckChain, nil},
		{"VCEK under the ASVK", func(w *world) { w.ask.Subject = amdName("SEV-VLEK-Genoa") }, CheckChain, nil},
		{"ASK is no CA", func(w *world) { w.ask.IsCA, w.ask.MaxPathLenZero = false, false }, CheckChain, nil},
		{"ASK may not sign certificates", func(w *world) { w.ask.KeyUsage = x509.KeyUsageDigitalSignature }, CheckChain, nil},
		{"key with an unknown critical extension", func(w *world) {
			w.ek.ExtraExtensions = append(w.ek.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}, CheckChain, nil},
		{"key signed with PKCS #1 v1.5", func(w *world) { w.ek.SignatureAlgorithm = x509.SHA384WithRSA }, CheckChain, nil},
		{"ASK signed with SHA-256", func(w *world) { w.ask.SignatureAlgorithm = x509.SHA256WithRSAPSS }, CheckChain, nil},
		{"key under another name", func(w *world) { w.ek.Subject = amdName("SEV-OTHER") }, CheckChain, keyChecks},
		{"key without TCB", func(w *world) { delete(w.extensions, "3.8") }, CheckChain, keyChecks},
		{"key without product", func(w *world) { delete(w.extensions, "2") }, CheckChain, keyChecks},
		{"key of an unknown product", func(w *world) { w.extensions["2"] = der("Venice", "ia5") }, CheckChain, keyChecks},
		{"key with an unknown extension of AMD's", func(w *world) { w.extensions["7"] = der(1, "") }, CheckChain, keyChecks},
		{"key with FMC on Genoa", func(w *world) { w.extensions["3.9"] = der(1, "") }, CheckChain, keyChecks},
		{"key with another version of the extensions", func(w *world) { w.extensions["1"] = der(2, "") }, CheckChain, keyChecks},
		{"key with a short hardware id", func(w *world) { w.extensions["4"] = make([]byte, 8) }, CheckChain, keyChecks},
		{"VCEK with a provider", func(w *world) { w.extensions["5"] = der("CN=x", "ia5") }, CheckChain, keyChecks},
		{"TCB that is no integer", func(w *world) { w.extensions["3.8"] = der("x", "ia5") }, CheckChain, keyChecks},

		{"product that is no text", func(w *world) { w.extensions["2"] = der(5, "") }, CheckChain, keyChecks},
		{"product that is not printable", func(w *world) { w.extensions["2"] = []byte{0x16, 2, 'x', 7} }, CheckChain, keyChecks},
		{"chain longer than the ARK allows", func(w *world) { w.ark.MaxPathLen, w.ark.MaxPathLenZero = 0, true }, CheckChain, nil},

		{"ASK with a short key", func(w *world) {
			small, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			keys := *w.keys
			keys.ask, w.keys, w.ekBy = small, &keys, small
		}, CheckChain, nil},
		{"ASK with a key of another kind", func(w *world) {
			w.bendCollateral = func(c *Collateral) { c.Intermediates[0] = w.issue(t, w.ask, w.ark, &k.otherEK.PublicKey, k.ark) }
		}, CheckChain, nil},

		{"key expired", func(w *world) { w.ek.NotAfter = w.now.Add(-time.Second) }, CheckChainValidity, nil},
		{"key not yet valid", func(w *world) { w.ek.NotBefore = w.now.Add(time.Second) }, CheckChainValidity, nil},
		{"ASK expired", func(w *world) { w.ask.NotAfter = w.now.Add(-time.Second) }, CheckChainValidity, nil},
		{"ARK expired", func(w *world) { w.ark.NotAfter = w.now.Add(-time.Second) }, CheckChainValidity, nil},

		{"CRL signed by a stranger", func(w *world) { w.crlBy = k.other }, CheckCRL, noCRL},
		{"CRL stale", func(w *world) { w.crl.NextUpdate = w.now.Add(-time.Second) }, CheckCRL, noCRL},
		{"CRL from the future", func(w *world) { w.crl.ThisUpdate = w.now.Add(time.Second) }, CheckCRL, noCRL},
		{"CRL signed with PKCS #1 v1.5", func(w *world) { w.crl.SignatureAlgorithm = x509.SHA384WithRSA }, CheckCRL, noCRL},
		{"CRL that says another algorithm", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				list := *c.CRLs[0].List
				list.SignatureAlgorithm, c.CRLs[0].List = x509.SHA384WithRSA, &list
			}
		}, CheckCRL, noCRL},
		{"ARK may not sign CRLs", func(w *world) { w.ark.KeyUsage = x509.KeyUsageCertSign }, CheckCRL, noCRL},

		{"ASK revoked", func(w *world) { revoke(w, w.ask) }, CheckRevocation, nil},
		{"key revoked", func(w *world) { w.ek.SerialNumber = big.NewInt(77); revoke(w, w.ek) }, CheckRevocation, nil},
		{"ARK revoked", func(w *world) { revoke(w, w.ark) }, CheckRevocation, nil},

		{"report says VLEK", func(w *world) { w.report[0x48] = 1 << 2 }, CheckKeyKind, nil},
		{"report from another product", func(w *world) { copy(w.report[0x188:], []byte{0x19, 0x01, 1}) }, CheckKeyProduct, nil},
		{"report from an unknown processor", func(w *world) { copy(w.report[0x188:], []byte{0x1a, 0x50, 1}) }, CheckKeyProduct, nil},
		{"report from another chip", func(w *world) { w.report[0x1a0] ^= 1 }, CheckKeyChip, nil},
		{"chip id masked", func(w *world) { clear(w.report[0x1a0:0x1e0]) }, CheckKeyChip, nil},
		{"report claims more microcode than the key", func(w *world) { w.extensions["3.8"] = der(218, "") }, CheckKeyTCB, nil},
		{"report claims less than the key", func(w *world) { w.report[0x186]-- }, CheckKeyTCB, nil},
		{"reserved patch level differs", func(w *world) { w.extensions["3.5"] = der(1, "") }, CheckKeyTCB, nil},

		{"signed by another key", func(w *world) { w.reportKey = k.otherEK }, CheckSignature, nil},
		{"report data changed", func(w *world) { w.bendSigned = func(b []byte) { b[0x50] ^= 1 } }, CheckSignature, nil},
		// go-sev-guest loses these bits and accepts.
		{"stepping changed beyond four bits", func(w *world) { w.bendSigned = func(b []byte) { b[0x18a] ^= 0x10 } }, CheckSignature, nil},
		{"s of zero", func(w *world) { w.bendSigned = func(b []byte) { clear(b[0x2e8:0x330]) } }, CheckSignature, nil},
		{"r of zero", func(w *world) { w.bendSigned = func(b []byte) { clear(b[0x2a0:0x2e8]) } }, CheckSignature, nil},
		{"r beyond the order", func(w *world) {
			w.bendSigned = func(b []byte) {
				for i := range 48 {
					b[0x2a0+i] = 0xff
				}
			}
		}, CheckSignature, nil},
		{"key on another curve", func(w *world) {
			p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			w.ekKey = &p256.PublicKey
		}, CheckSignature, nil},

		{"key of another kind", func(w *world) { w.ekKey = &k.other.PublicKey }, CheckSignature, nil},

		{"committed TCB beyond the current", func(w *world) { w.report[0x1e7]++ }, CheckTCB, nil},
		{"launch TCB beyond the current", func(w *world) { w.report[0x1f6]++ }, CheckTCB, nil},
		{"reported TCB beyond the current", func(w *world) { w.report[0x3f]--; w.report[0x1e7]--; w.report[0x1f7]-- }, CheckTCB, nil},
		{"committed version beyond the current", func(w *world) { w.report[0x1ec]++ }, CheckTCB, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(Genoa, VCEK)
			c.bend(w)
			r, err := w.appraise(t)
			if got := with(r, check.Fail); !slices.Equal(got, []string{c.fail}) {
				t.Errorf("failed %v, want %v", got, c.fail)
			}
			if got := with(r, check.Skip); !slices.Equal(got, c.skip) {
				t.Errorf("skipped %v, want %v", got, c.skip)
			}
			if got := listed(r); !slices.Equal(got, listed(good)) {
				t.Errorf("listed %v", got)
			}
			for _, seen := range r.Checks {
				if want := map[bool]string{true: `CRL of "ARK-Genoa"`}[c.name == "CRL stale" && seen.ID == CheckCRL]; seen.Stale != want {
					t.Errorf("%s is stale for %q, want %q", seen.ID, seen.Stale, want)
				}
			}
			var ce *check.Error
			if !errors.As(err, &ce) || ce.Check.Status != check.Fail || errors.Is(err, check.ErrMissing) {
				t.Errorf("error %v", err)
			}
			t.Log(err)
		})
	}
}

// listed returns the identifiers of all checks: none may be left out, whatever fails.
func listed(r *Result) (ids []string) {
	for _, c := range r.Checks {
		ids = append(ids, c.ID)
	}
	return ids
}

func revoke(w *world, cert *x509.Certificate) {
	w.crl.RevokedCertificateEntries = []x509.RevocationListEntry{
		{SerialNumber: big.NewInt(5), RevocationTime: w.crl.ThisUpdate}, {SerialNumber: cert.SerialNumber, RevocationTime: w.crl.ThisUpdate}}
}

func TestVLEKRejected(t *testing.T) {
	for name, bend := range map[string]func(*world){
		"no provider":     func(w *world) { delete(w.extensions, "5") },
		"hardware id":     func(w *world) { w.extensions["4"] = make([]byte, 64) },
		"under the ASK":   func(w *world) { w.ask.Subject = amdName("SEV-Milan") },
		"without FMC arc": func(w *world) { w.extensions["3.9"] = der(1, "") },
	} {
		w := newWorld(Milan, VLEK)
		bend(w)
		if r, err := w.appraise(t); err == nil || !slices.Equal(with(r, check.Fail), []string{CheckChain}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := newWorld(Turin, VCEK)
	w.extensions["3.4"] = der(0, "")
	if _, err := w.appraise(t); err == nil {
		t.Error("fourth reserved patch level on Turin")
	}
}

func TestCRLRefuses(t *testing.T) {
	_, _, c := newWorld(Milan, VCEK).build(t)
	good := c.CRLs[0].List.Raw
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("-----BEGIN X509 CRL-----"), "truncated": good[:len(good)-1],
		"behind": append(slices.Clone(good), 0), "oversized": make([]byte, pki.MaxCRL+1)} {
		if _, err := ParseCRL(b); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	w := newWorld(Milan, VCEK)
	w.crl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}}}
	w.crlBy = w.keys.ark
	b, err := x509.CreateRevocationList(rand.Reader, w.crl, &x509.Certificate{Subject: amdName("x"), SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign, PublicKey: &w.crlBy.PublicKey}, w.crlBy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCRL(b); err == nil {
		t.Error("list for other issuers' certificates accepted")
	}
}

// What people read.
func TestErrors(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	w.bendCollateral = func(c *Collateral) { c.CRLs = nil }
	if _, err := w.appraise(t); err.Error() != `snp.crl: collateral is missing: CRL of "ARK-Genoa"` {
		t.Error(err)
	}
	e := &check.Error{Check: check.Check{ID: "snp.crl", Status: check.Skip, Detail: "no chain to check for"}}
	if e.Error() != "snp.crl: not decided: no chain to check for" || errors.Is(e, check.ErrMissing) {
		t.Error(e)
	}
	if _, err := ParseReport(nil); err.Error() != "snp: malformed report at byte 0x0: 0 bytes, want 1184" {
		t.Error(err)
	}
	r, err := ParseReport(w.report)
	if err != nil {
		t.Fatal(err)
	}
	if major, minor := (r.Policy | 0x0137).ABI(); major != 1 || minor != 0x37 || r.PlatformInfo.Has(PlatformSMT) || !r.Policy.Has(PolicySMT) {
		t.Errorf("ABI %d.%d", major, minor)
	}
}

// The lists that go-sev-guest never looks into.
func TestRevokedVLEK(t *testing.T) {
	for _, pick := range []func(*world) *x509.Certificate{func(w *world) *x509.Certificate { return w.ask }, func(w *world) *x509.Certificate { return w.ek }} {
		w := newWorld(Milan, VLEK)
		revoke(w, pick(w))
		if r, err := w.appraise(t); err == nil || !slices.Equal(with(r, check.Fail), []string{CheckRevocation}) {
			t.Errorf("%s: %v", pick(w).Subject.CommonName, err)
		}
	}
}

// A stale list clears nobody, but what it names stays revoked.
func TestRevokedByStaleList(t *testing.T) {
	w := newWorld(Milan, VCEK)
	revoke(w, w.ask)
	w.crl.NextUpdate = w.now.Add(-time.Second)
	if r, _ := w.appraise(t); !slices.Equal(with(r, check.Fail), []string{CheckCRL, CheckRevocation}) {
		t.Errorf("%v", with(r, check.Fail))
	}
}

func TestVersion2OnTurin(t *testing.T) {
	w := newWorld(Turin, VCEK)
	w.report[0] = 2
	clear(w.report[0x188:0x18b])
	if r, err := w.appraise(t); err == nil || !slices.Equal(with(r, check.Fail), []string{CheckKeyProduct}) {
		t.Errorf("%v", err)
	}
}

func TestVersion4(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	w.report[0] = 4
	if _, err := w.appraise(t); err != nil {
		t.Error(err)
	}
}

// On Turin eight bytes identify the chip; nothing may follow them.
func TestTurinChipID(t *testing.T) {
	w := newWorld(Turin, VCEK)
	w.report[0x1a0+8] = 1
	if r, err := w.appraise(t); err == nil || !slices.Equal(with(r, check.Fail), []string{CheckKeyChip}) {
		t.Errorf("%v", err)
	}
}

func TestMissingCollateral(t *testing.T) {
	for what, drop := range map[string]func(*Collateral){
		"endorsement key certificate": func(c *Collateral) { c.Key = nil },
		`certificate of "SEV-Genoa"`:  func(c *Collateral) { c.Intermediates = nil },
		`CRL of "ARK-Genoa"`:          func(c *Collateral) { c.CRLs = nil },
	} {
		w := newWorld(Genoa, VCEK)
		w.bendCollateral = drop
		r, err := w.appraise(t)
		var ce *check.Error
		if !errors.Is(err, check.ErrMissing) || !errors.As(err, &ce) || ce.Check.Missing != what || len(with(r, check.Fail)) != 0 {
			t.Errorf("without %s: %v", what, err)
		}
		if want := []string{CheckParse, CheckChain, CheckChainValidity, CheckCRL, CheckRevocation, CheckKeyKind, CheckKeyProduct, CheckKeyChip, CheckKeyTCB, CheckSignature, CheckTCB}; !slices.Equal(listed(r), want) {
			t.Errorf("without %s: listed %v", what, listed(r))
		}
		for _, c := range r.Checks {
			lacks := map[string]string{"endorsement key certificate": "chain ek report.signature", `certificate of "SEV-Genoa"`: "chain", `CRL of "ARK-Genoa"`: "crl revocation"}[what]
			for prefix := range strings.FieldsSeq(lacks) {
				if strings.HasPrefix(c.ID, "snp."+prefix) && c.Missing != what {
					t.Errorf("without %s: %s misses %q", what, c.ID, c.Missing)
				}
			}
		}
	}
	w := newWorld(Genoa, VCEK)
	v, b, _ := w.build(t)
	r, _ := ParseReport(b)
	if _, err := v.Verify(w.now, r, nil); !errors.Is(err, check.ErrMissing) {
		t.Errorf("without collateral: %v", err)
	}
}

// Beside a list that is in order, older ones do no harm; what any of them names stays revoked.
func TestSeveralCRLs(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		w := newWorld(Genoa, VCEK)
		w.bendCollateral = func(c *Collateral) {
			old := newWorld(Genoa, VCEK)
			old.crl.NextUpdate = w.now.Add(-time.Second)
			if revoked {
				revoke(old, w.ask)
			}
			_, _, oc := old.build(t)
			c.CRLs = append(oc.CRLs, c.CRLs...)
		}
		r, err := w.appraise(t)
		if !revoked && err != nil || revoked && !slices.Equal(with(r, check.Fail), []string{CheckRevocation}) {
			t.Errorf("revoked %v: %v", revoked, err)
		}
		if !r.ValidUntil.Equal(w.crl.NextUpdate) {
			t.Errorf("valid until %v", r.ValidUntil)
		}
	}
}

// Two roots of one name are told apart by their keys.
func TestTwinRoots(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	_, b, c := w.build(t)
	ark := w.issue(t, w.ark, w.ark, &w.keys.ark.PublicKey, w.keys.ark)
	twin := w.issue(t, w.ark, w.ark, &w.keys.other.PublicKey, w.keys.other)
	r, err := ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, roots := range [][]*x509.Certificate{{ark, twin}, {twin, ark}} {
		v, err := NewVerifier(roots...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(w.now, r, c); err != nil {
			t.Error(err)
		}
	}
}

// AMD has issued two keys named SEV-Genoa.
func TestTwoASKs(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	w.bendCollateral = func(c *Collateral) {
		twin := *w.ask
		twin.SerialNumber = big.NewInt(0x20001)
		c.Intermediates = []*x509.Certificate{w.issue(t, &twin, w.ark, &w.keys.other.PublicKey, w.keys.ark), c.Intermediates[0], AMDIntermediates()[0]}
	}
	if _, err := w.appraise(t); err != nil {
		t.Error(err)
	}
}

// Lists of strangers neither help nor hurt.
func TestForeignCRLs(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	w.bendCollateral = func(c *Collateral) {
		other := newWorld(Milan, VCEK)
		revoke(other, w.ask)
		_, _, oc := other.build(t)
		c.CRLs = oc.CRLs
	}
	if _, err := w.appraise(t); !errors.Is(err, check.ErrMissing) {
		t.Errorf("%v", err)
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	if _, err := NewVerifier(); err == nil {
		t.Error("no trust anchors accepted")
	}
	if _, err := NewVerifier(AMDIntermediates()[0]); err == nil {
		t.Error("intermediate accepted as a trust anchor")
	}
	w := newWorld(Milan, VCEK)
	if _, err := NewVerifier(w.issue(t, w.ark, w.ark, &w.keys.ek.PublicKey, w.keys.ark)); err == nil {
		t.Error("root with an ECDSA key accepted")
	}
	w.ark.IsCA = false
	if _, err := NewVerifier(w.issue(t, w.ark, w.ark, &w.keys.ark.PublicKey, w.keys.ark)); err == nil {
		t.Error("root that is no CA accepted")
	}
}

func TestUntrustedRoot(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	_, b, c := w.build(t)
	r, err := ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	// AMD's ARK-Genoa has the same common name, but another subject and key.
	res, err := amdVerifier(t).Verify(w.now, r, c)
	if err == nil || !slices.Equal(with(res, check.Fail), []string{CheckChain}) {
		t.Errorf("%v", with(res, check.Fail))
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		product Product
		bend    func([]byte)
		what    string
	}{
		{"version 6", Turin, func(b []byte) { b[0] = 6 }, "version 6"},
		{"version 1", Turin, func(b []byte) { b[0] = 1 }, "version 1"},
		{"policy without its constant bit", Turin, func(b []byte) { b[0x0a] &^= 2 }, "guest policy"},
		{"unknown policy bit", Turin, func(b []byte) { b[0x0b] = 4 }, "guest policy"},
		{"VMPL 4", Turin, func(b []byte) { b[0x30] = 4 }, "VMPL"},
		{"host's report", Turin, func(b []byte) { copy(b[0x30:], "\xff\xff\xff\xff") }, "VMPL"},
		{"other algorithm", Turin, func(b []byte) { b[0x34] = 2 }, "algorithm"},
		{"unknown flag", Turin, func(b []byte) { b[0x48] |= 0x20 }, "flags"},
		{"unsigned", Turin, func(b []byte) { b[0x48] |= 7 << 2 }, "signed with none"},
		{"unknown signing key", Turin, func(b []byte) { b[0x48] |= 2 << 2 }, "signing key 2"},
		{"reserved 4C", Turin, func(b []byte) { b[0x4c] = 1 }, "reserved"},
		{"reserved 18B", Turin, func(b []byte) { b[0x18b] = 1 }, "reserved"},
		{"reserved 1EB", Turin, func(b []byte) { b[0x1eb] = 1 }, "reserved"},
		{"reserved 1EF", Turin, func(b []byte) { b[0x1ef] = 1 }, "reserved"},
		{"reserved 208", Turin, func(b []byte) { b[0x208] = 1 }, "reserved"},
		{"reserved at the end", Turin, func(b []byte) { b[ReportSize-1] = 1 }, "reserved"},
		{"mitigations in version 3", Genoa, func(b []byte) { b[0x1f8] = 1 }, "reserved"},
		{"mitigations in version 4", Genoa, func(b []byte) { b[0], b[0x200] = 4, 1 }, "reserved"},
		{"CPUID in version 2", Milan, func(b []byte) { b[0x188] = 0x19 }, "reserved"},
		{"long r", Turin, func(b []byte) { b[0x2a0+48] = 1 }, "384 bits"},
		{"long s", Turin, func(b []byte) { b[0x2e8+71] = 1 }, "384 bits"},
	} {
		b := newWorld(c.product, VCEK).report
		c.bend(b)
		_, err := ParseReport(b)
		var pe *ParseError
		if !errors.As(err, &pe) || !strings.Contains(pe.What, c.what) {
			t.Errorf("%s: %v", c.name, err)
		}
		failures.Failed([]string{CheckParse}) // without a report nothing else is checked
	}
	for _, n := range []int{0, 1, ReportSize - 1, ReportSize + 1, 1 << 20} {
		if _, err := ParseReport(make([]byte, n)); err == nil {
			t.Errorf("%d bytes accepted", n)
		}
	}
}

// Every extension of the product's is required, and nothing may hide in one.
func TestEndorsementKeyRefuses(t *testing.T) {
	for _, p := range []Product{Milan, Genoa, Turin} {
		for _, kind := range []SigningKey{VCEK, VLEK} {
			parse := func(extensions map[string][]byte, more ...pkix.Extension) (*EndorsementKey, error) {
				c := &x509.Certificate{Subject: amdName("SEV-" + kind.String()), Extensions: more}
				for id, value := range extensions {
					arcs := slices.Clone(oidAMD)
					for arc := range strings.SplitSeq(id, ".") {
						arcs = append(arcs, int(arc[0]-'0'))
					}
					c.Extensions = append(c.Extensions, pkix.Extension{Id: arcs, Value: value})
				}
				return ParseEndorsementKey(c)
			}
			good := newWorld(p, kind).extensions
			if _, err := parse(good, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3705, 1, 9, 9}}, pkix.Extension{Id: oidAMD}); err != nil {
				t.Errorf("%s %s with extensions of others: %v", p, kind, err)
			}
			for id := range good {
				less := maps.Clone(good)
				delete(less, id)
				if _, err := parse(less); err == nil {
					t.Errorf("%s %s without extension %s", p, kind, id)
				}
				less[id] = append(slices.Clone(good[id]), 0)
				if _, err := parse(less); err == nil {
					t.Errorf("%s %s with more in extension %s", p, kind, id)
				}
			}
		}
	}
	for text, ok := range map[string]bool{" ~": true, "\x1f": false, "\x7f": false, strings.Repeat("x", 256): true, strings.Repeat("x", 257): false} {
		b := asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(text)}
		if got, err := ia5(der(b, "")); (err == nil) != ok || ok && got != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := ia5(der("text", "utf8")); err == nil {
		t.Error("UTF8String taken for an IA5String")
	}
}

// Every field is read from where the specification has it (ABI, ATTESTATION_REPORT).
func TestFields(t *testing.T) {
	b := make([]byte, ReportSize)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*0x5b
	}
	// What must have some value has it.
	clear(b[0:4])
	b[0] = 5
	copy(b[0x08:], []byte{7, 8, 0xfe, 3, 0, 0, 0, 0})
	copy(b[0x30:], []byte{3, 0, 0, 0, 1, 0, 0, 0})
	copy(b[0x48:], []byte{1 | 2 | 1<<2, 0, 0, 0, 0, 0, 0, 0})
	clear(b[0x18b:0x1a0])
	b[0x1eb], b[0x1ef] = 0, 0
	clear(b[0x208:signedSize])
	clear(b[0x2d0:0x2e8])
	clear(b[0x318:])
	r, err := ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	version := func(v FirmwareVersion) []byte { return []byte{v.Build, v.Minor, v.Major, 0} }
	flags := uint64(r.SigningKey) << 2
	if r.AuthorKeyEnabled {
		flags |= 1
	}
	if r.MaskChipKey {
		flags |= 2
	}
	slices.Reverse(r.r[:])
	slices.Reverse(r.s[:])
	var again []byte
	for _, v := range []any{r.Version, r.GuestSVN, r.Policy, r.FamilyID, r.ImageID, r.VMPL, uint32(1), r.CurrentTCB, r.PlatformInfo, flags, r.ReportData, r.Measurement, r.HostData,
		r.IDKeyDigest, r.AuthorKeyDigest, r.ReportID, r.ReportIDMA, r.ReportedTCB, r.CPUID, make([]byte, 21), r.ChipID, r.CommittedTCB, version(r.CurrentVersion),
		version(r.CommittedVersion), r.LaunchTCB, r.LaunchMitigations, r.CurrentMitigations, make([]byte, signedSize-0x208), r.r, make([]byte, 24), r.s, make([]byte, ReportSize-0x318)} {
		again, _ = binary.Append(again, binary.LittleEndian, v)
	}
	if !bytes.Equal(again, b) || !bytes.Equal(r.Raw, b) {
		t.Errorf("report\n%x\nis read as\n%x", b, again)
	}
	if clear(b); r.Raw[0] != 5 {
		t.Error("shares memory with the input")
	}
	if p := PlatformInfo(PlatformTSME | PlatformECC); !p.Has(PlatformECC) || p.Has(PlatformECC|PlatformSMT) {
		t.Error("platform information is misread")
	}
}

func TestProducts(t *testing.T) {
	for cpu, want := range map[[2]uint8]Product{{0x19, 0}: Milan, {0x19, 0x0f}: Milan, {0x19, 0x10}: Genoa, {0x19, 0x1f}: Genoa, {0x19, 0x20}: "", {0x19, 0x9f}: "", {0x19, 0xa0}: Genoa,
		{0x19, 0xaf}: Genoa, {0x19, 0xb0}: "", {0x1a, 0}: Turin, {0x1a, 0x1f}: Turin, {0x1a, 0x20}: "", {0x18, 0}: "", {0x1b, 0}: ""} {
		r := &Report{Version: 3, CPUID: [3]uint8{cpu[0], cpu[1]}}
		if p, err := r.Product(); p != want || (err == nil) != (want != "") {
			t.Errorf("%x: %q, %v", cpu, p, err)
		}
		r.Version = 2
		if _, err := r.Product(); err == nil || !strings.Contains(err.Error(), "does not name") {
			t.Error(err)
		}
	}
}

// What one key has signed, no other is taken to have.
func TestSignatureMemory(t *testing.T) {
	w := newWorld(Genoa, VCEK)
	v, _, c := w.build(t)
	digest := sha512.Sum384(c.Key.RawTBSCertificate)
	ask := c.Intermediates[0]
	for range 2 { // the second time it is remembered
		if !v.verify(ask, digest, c.Key.Signature) {
			t.Fatal("a good signature is refused")
		}
	}
	other := digest
	other[0] ^= 1
	if v.verify(v.anchors[0], digest, c.Key.Signature) || v.verify(ask, other, c.Key.Signature) || v.verify(ask, digest, ask.Signature) {
		t.Error("a signature was mistaken for another")
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		t, u TCB
		want bool
	}{{0, 0, true}, {0x0102, 0x0101, true}, {0x0200, 0x0001, false}, {0x01ff, 0x0200, false}, {1 << 56, 0, true}, {0, 1 << 56, false}} {
		if c.t.AtLeast(c.u) != c.want {
			t.Errorf("%x at least %x: %v", c.t, c.u, !c.want)
		}
	}
}
