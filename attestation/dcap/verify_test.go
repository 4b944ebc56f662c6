package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

func TestWorldIsGenuine(t *testing.T) {
	for _, version := range []uint16{3, 4, 5} {
		for _, bend := range map[string]func(*world){
			"as is":        func(*world) {},
			"processor CA": func(w *world) { w.ca.Subject = name(cnProcessorCA); w.ext.instance, w.ext.configuration = nil, false },
			"no root":      func(w *world) { w.rootInChain = false },
			"padding":      func(w *world) { w.bendQuote = func(b []byte) []byte { return append(b, make([]byte, 100)...) } },
			"no QE auth":   func(w *world) { w.qeAuth = nil },
			"NUL":          func(w *world) { w.chainInQuote = func(b []byte) []byte { return append(b, 0) } },
		} {
			w := newWorld(version)
			bend(w)
			r, err := w.appraise(t)
			if err != nil || r.Status != UpToDate || len(wrong(r, check.Fail))+len(wrong(r, check.Skip)) != 0 {
				t.Errorf("version %d: %v, status %q", version, err, r.Status)
			}
			if want := time.Date(2026, 6, 8, 12, 0, 0, 0, time.UTC); !r.ValidUntil.Equal(want) {
				t.Errorf("valid until %v, want that of the CRLs", r.ValidUntil)
			}
			if want := time.Date(2026, 5, 25, 12, 0, 0, 0, time.UTC); !r.ValidFrom.Equal(want) {
				t.Errorf("valid from %v, want that of the CRLs", r.ValidFrom)
			}
		}
	}
}

// allChecks are the checks of a TD, in the order in which they are reported, whichever is made first.
var allChecks = []string{CheckParse, CheckChain, CheckChainValidity, CheckRootCRL, CheckPCKCRL, CheckTCBInfoSignature, CheckTCBInfoValidity, CheckTCBInfoMatch,
	CheckQEIDSignature, CheckQEIDValidity, CheckRevocation, CheckQESignature, CheckQEBinding, CheckQEMatch, CheckQuoteSignature,
	CheckTCBPlatform, CheckTCBModule, CheckTCBQE, CheckTCBStatus}

// afterTCB is what cannot be said once the platform is not proven to be Intel's.
var afterTCB = []string{CheckTCBPlatform, CheckTCBModule, CheckTCBStatus}

// TestRejected has one way to be wrong per line; nothing but the named check may fail.
func TestRejected(t *testing.T) {
	k := testKeys()
	for _, c := range []struct {
		name string
		bend func(*world)
		fail string
		skip []string
	}{
		{"bytes behind the quote", func(w *world) { w.bendQuote = func(b []byte) []byte { return append(b, 1) } }, CheckParse, nil},

		{"PCK signed by a stranger", func(w *world) { w.pckCAKey = k.other }, CheckChain, afterTCB},
		{"CA signed by a stranger", func(w *world) { w.caIssuerKey = k.other }, CheckChain, afterTCB},
		{"CA under another name", func(w *world) { w.ca.Subject = name("Intel SGX PCK Test CA") }, CheckChain, afterTCB},
		{"leaf under another name", func(w *world) { w.pck.Subject = name(cnTCBSigning) }, CheckChain, afterTCB},
		{"leaf is a CA", func(w *world) { w.pck.IsCA, w.pck.KeyUsage = true, x509.KeyUsageCertSign }, CheckChain, afterTCB},
		{"intermediate is no CA", func(w *world) { w.ca.IsCA, w.ca.MaxPathLenZero = false, false }, CheckChain, afterTCB},
		{"intermediate may not sign certificates", func(w *world) { w.ca.KeyUsage = x509.KeyUsageCRLSign }, CheckChain, afterTCB},
		{"unknown critical extension", func(w *world) {
			w.pck.ExtraExtensions = append(w.pck.ExtraExtensions, criticalExtension)
		}, CheckChain, afterTCB},
		{"leaf alone", func(w *world) {
			w.chainInQuote = func(b []byte) []byte {
				return b[:bytes.Index(b, []byte("-----END"))+len("-----END CERTIFICATE-----\n")]
			}
		}, CheckChain, slices.Concat([]string{CheckPCKCRL, CheckRevocation}, afterTCB)},
		{"root twice", func(w *world) {
			w.chainInQuote = func(b []byte) []byte { return append(b, b[bytes.LastIndex(b, []byte("-----BEGIN")):]...) }
		}, CheckChain, afterTCB},
		{"chain in DER", func(w *world) { w.chainInQuote = func(b []byte) []byte { return []byte{0x30, 0} } }, CheckChain,
			slices.Concat([]string{CheckChainValidity, CheckPCKCRL, CheckTCBInfoMatch, CheckRevocation, CheckQESignature}, afterTCB)},
		{"certificate in the chain is rubbish", func(w *world) {
			w.chainInQuote = func(b []byte) []byte {
				return append([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), b...)
			}
		}, CheckChain, slices.Concat([]string{CheckChainValidity, CheckPCKCRL, CheckTCBInfoMatch, CheckRevocation, CheckQESignature}, afterTCB)},
		{"SGX type unknown", func(w *world) { w.ext.sgxType = 9 }, CheckChain, slices.Concat([]string{CheckTCBInfoMatch}, afterTCB)},

		{"leaf is a CA where the path is long enough", func(w *world) {
			w.root.MaxPathLen, w.ca.MaxPathLen, w.ca.MaxPathLenZero = 2, 1, false
			w.pck.IsCA, w.pck.KeyUsage = true, x509.KeyUsageCertSign
		}, CheckChain, afterTCB},
		{"PCK signed with SHA-384", func(w *world) { w.pck.SignatureAlgorithm = x509.ECDSAWithSHA384 }, CheckChain, afterTCB},
		{"chain longer than the root allows", func(w *world) { w.root.MaxPathLen, w.root.MaxPathLenZero = 0, true }, CheckChain, afterTCB},
		{"issuer other than named", func(w *world) {
			w.bendCollateral = func(c *Collateral) {}
			w.chainInQuote = func(b []byte) []byte {
				other := newWorld(4)
				other.ca.Subject = name(cnProcessorCA)
				root := w.issue(t, w.root, w.root, k.root, k.root)
				ca := w.issue(t, other.ca, root, k.ca, k.root)
				return bytes.Replace(b, armored(b, 1), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 1)
			}
		}, CheckChain, afterTCB},

		{"PCK expired", func(w *world) { w.pck.NotAfter = w.now.Add(-time.Second) }, CheckChainValidity, nil},
		{"PCK not yet valid", func(w *world) { w.pck.NotBefore = w.now.Add(time.Second) }, CheckChainValidity, nil},
		{"CA expired", func(w *world) { w.ca.NotAfter = w.now.Add(-time.Second) }, CheckChainValidity, nil},

		{"root CRL signed by a stranger", func(w *world) { w.rootCRLKey = k.other }, CheckRootCRL, []string{CheckRevocation}},
		{"root CRL stale", func(w *world) { w.rootCRL.NextUpdate = w.now.Add(-time.Second) }, CheckRootCRL, []string{CheckRevocation}},
		{"root CRL from the future", func(w *world) { w.rootCRL.ThisUpdate = w.now.Add(time.Second) }, CheckRootCRL, []string{CheckRevocation}},
		{"PCK CRL in place of the root's", func(w *world) {
			w.bendCollateral = func(c *Collateral) { c.RootCRL = c.PCKCRL }
		}, CheckRootCRL, []string{CheckRevocation}},
		{"PCK CRL signed by a stranger", func(w *world) { w.pckCRLKey = k.other }, CheckPCKCRL, []string{CheckRevocation}},
		{"PCK CRL stale", func(w *world) { w.pckCRL.NextUpdate = w.now.Add(-time.Second) }, CheckPCKCRL, []string{CheckRevocation}},
		{"PCK CRL from the future", func(w *world) { w.pckCRL.ThisUpdate = w.now.Add(time.Second) }, CheckPCKCRL, []string{CheckRevocation}},
		{"PCK CRL of the other CA", func(w *world) {
			w.crlIssuer = new(x509.Certificate)
			*w.crlIssuer = *w.ca
			w.crlIssuer.Subject = name(cnProcessorCA)
		}, CheckPCKCRL, []string{CheckRevocation}},
		{"CA may not sign CRLs", func(w *world) { w.ca.KeyUsage = x509.KeyUsageCertSign }, CheckPCKCRL, []string{CheckRevocation}},

		{"PCK revoked", func(w *world) { revoke(w.pckCRL, w.pck) }, CheckRevocation, nil},
		{"CA revoked", func(w *world) { revoke(w.rootCRL, w.ca) }, CheckRevocation, nil},
		{"TCB signing certificate revoked", func(w *world) { revoke(w.rootCRL, w.signer) }, CheckRevocation, nil},

		{"TCB info signed by a stranger", func(w *world) { w.tcbInfoKey = k.other }, CheckTCBInfoSignature, afterTCB},
		{"TCB info signed by the PCK", func(w *world) {
			w.tcbInfoKey = k.pck
			w.bendCollateral = func(c *Collateral) { c.TCBInfoChain[0] = w.issue(t, w.pck, w.ca, k.pck, k.ca) }
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info signed by a certificate of another role", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				bad := *w.signer
				bad.Subject = name("Intel SGX Something")
				c.TCBInfoChain = []*x509.Certificate{w.issue(t, &bad, w.root, k.signer, k.root)}
			}
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info signed by a certificate that may not", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				bad := *w.signer
				bad.KeyUsage = x509.KeyUsageContentCommitment
				c.TCBInfoChain = []*x509.Certificate{w.issue(t, &bad, w.root, k.signer, k.root)}
			}
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info signed by a CA", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				bad := *w.signer
				bad.IsCA, bad.KeyUsage = true, bad.KeyUsage|x509.KeyUsageCertSign
				c.TCBInfoChain = []*x509.Certificate{w.issue(t, &bad, w.root, k.signer, k.root)}
			}
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info's signer expired", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				old := *w.signer
				old.NotAfter = w.now.Add(-time.Second)
				c.TCBInfoChain = []*x509.Certificate{w.issue(t, &old, w.root, k.signer, k.root)}
			}
		}, CheckTCBInfoValidity, nil},
		{"QE identity's signer expired", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				old := *w.signer
				old.NotAfter = w.now.Add(-time.Second)
				c.QEIdentityChain = []*x509.Certificate{w.issue(t, &old, w.root, k.signer, k.root)}
			}
		}, CheckQEIDValidity, nil},
		{"root CRL signed with another algorithm than it says", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				// SHA-256 it is, and SHA-384 it says in both places.
				der := bytes.ReplaceAll(c.RootCRL.List.Raw, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3})
				list, err := ParseCRL(der)
				if err != nil {
					t.Fatal(err)
				}
				if list.List.Signature, err = ecdsa.SignASN1(rand.Reader, k.root, list.digest[:]); err != nil {
					t.Fatal(err)
				}
				c.RootCRL = list
			}
		}, CheckRootCRL, []string{CheckRevocation}},
		{"TCB info signed with a key of another curve", func(w *world) {
			p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			w.bendCollateral = func(c *Collateral) {
				c.TCBInfoChain = []*x509.Certificate{w.issue(t, w.signer, w.root, p384, k.root)}
			}
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info altered", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				c.TCBInfo, _ = ParseSignedTCBInfo(bytes.Replace(c.TCBInfo.Raw, []byte(`"svn":5`), []byte(`"svn":4`), 1), c.TCBInfo.Signature)
			}
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info changed behind the parser's back", func(w *world) {
			w.bendCollateral = func(c *Collateral) {
				c.TCBInfo = &TCBInfo{ID: c.TCBInfo.ID, FMSPC: c.TCBInfo.FMSPC, IssueDate: c.TCBInfo.IssueDate, NextUpdate: c.TCBInfo.NextUpdate, TCBLevels: c.TCBInfo.TCBLevels}
			}
		}, CheckTCBInfoSignature, afterTCB},
		{"TCB info expired", func(w *world) { w.tcbInfo["nextUpdate"] = "2026-06-01T11:59:59Z" }, CheckTCBInfoValidity, nil},
		{"TCB info not yet issued", func(w *world) { w.tcbInfo["issueDate"] = "2026-06-01T12:00:01Z" }, CheckTCBInfoValidity, nil},
		{"TCB info for another FMSPC", func(w *world) { w.tcbInfo["fmspc"] = "90C06F000001" }, CheckTCBInfoMatch, afterTCB},
		{"TCB info for another PCEID", func(w *world) { w.tcbInfo["pceId"] = "0001" }, CheckTCBInfoMatch, afterTCB},
		{"TCB info for SGX", func(w *world) {
			w.tcbInfo = newWorld(3).tcbInfo
		}, CheckTCBInfoMatch, afterTCB},

		{"QE identity signed by a stranger", func(w *world) { w.qeIDKey = k.other }, CheckQEIDSignature, []string{CheckTCBQE, CheckTCBStatus}},
		{"QE identity expired", func(w *world) { w.qeIdentity["nextUpdate"] = "2026-06-01T11:59:59Z" }, CheckQEIDValidity, nil},
		{"QE identity not yet issued", func(w *world) { w.qeIdentity["issueDate"] = "2026-06-01T12:00:01Z" }, CheckQEIDValidity, nil},
		{"QE identity of the SGX QE", func(w *world) { w.qeIdentity["id"] = "QE" }, CheckQEMatch, []string{CheckTCBQE, CheckTCBStatus}},
		{"QE of another signer", func(w *world) { w.qeReport[128] ^= 1 }, CheckQEMatch, []string{CheckTCBQE, CheckTCBStatus}},
		{"QE with another product id", func(w *world) { w.qeReport[256] ^= 1 }, CheckQEMatch, []string{CheckTCBQE, CheckTCBStatus}},
		{"QE in debug mode", func(w *world) { w.qeReport[48] |= 2 }, CheckQEMatch, []string{CheckTCBQE, CheckTCBStatus}},
		{"module whose attributes must be set", func(w *world) {
			w.tcbInfo["tdxModuleIdentities"].([]any)[0].(map[string]any)["attributes"] = "0100000000000000"
		}, CheckTCBModule, nil},
		{"module with attributes that TCB info names", func(w *world) {
			w.tcbInfo["tdxModuleIdentities"].([]any)[0].(map[string]any)["attributes"] = "0100000000000000"
			w.td()[112] = 1
		}, CheckTCBModule, nil},
		{"module with attributes that are masked", func(w *world) {
			w.tcbInfo["tdxModuleIdentities"].([]any)[0].(map[string]any)["attributesMask"] = zeros(8)
			w.td()[112] = 1
		}, CheckTCBModule, nil},
		{"QE with MISCSELECT", func(w *world) { w.qeReport[16] = 1 }, CheckQEMatch, []string{CheckTCBQE, CheckTCBStatus}},

		{"QE report signed by a stranger", func(w *world) { w.qeKey = k.other }, CheckQESignature, nil},
		{"PCK of another curve", func(w *world) {
			p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			w.pckKey = p384
		}, CheckQESignature, nil},
		{"QE vouches for another key", func(w *world) { w.bind = false; w.qeReport[320] = 1 }, CheckQEBinding, nil},
		{"QE report data beyond the digest", func(w *world) { w.qeReport[352] = 1 }, CheckQEBinding, nil},
		{"quote signed by a stranger", func(w *world) { w.quoteKey = k.other }, CheckQuoteSignature, nil},
		{"report data changed", func(w *world) { w.bendQuote = flip(headerSize + 520) }, CheckQuoteSignature, nil},
		{"header changed", func(w *world) { w.bendQuote = flip(30) }, CheckQuoteSignature, nil},
		{"attestation key off the curve", func(w *world) {
			w.bendQuote = func(b []byte) []byte {
				at := headerSize + tdReport10Size + 4 + 64
				clear(b[at : at+64])
				return b
			}
		}, CheckQuoteSignature, nil},

		{"module signed by a stranger", func(w *world) { w.td()[64] = 1 }, CheckTCBModule, nil},
		{"module with attributes", func(w *world) { w.td()[112] = 1 }, CheckTCBModule, nil},
		{"module unknown", func(w *world) { w.td()[1] = 9 }, CheckTCBModule, nil},
		{"old module signed by a stranger", func(w *world) { w.td()[0], w.td()[1], w.td()[64] = 6, 0, 1 }, CheckTCBModule, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(4)
			c.bend(w)
			r, err := w.appraise(t)
			want := []string{c.fail}
			if c.name == "attestation key off the curve" {
				want = []string{CheckQEBinding, CheckQuoteSignature} // the QE did not vouch for it either
			}
			if c.name == "issuer other than named" {
				want = []string{CheckChain, CheckPCKCRL} // the list names the true issuer
				c.skip = append(slices.Clone(c.skip), CheckRevocation)
			}
			if got := wrong(r, check.Fail); !slices.Equal(got, want) {
				t.Errorf("failed %v, want %v", got, want)
			}
			if !slices.Equal(listed(r), allChecks) {
				t.Errorf("listed %v, want %v", listed(r), allChecks)
			}
			for _, seen := range r.Checks {
				stale := map[string]string{"root CRL stale": "root CA CRL", "PCK CRL stale": "PCK CRL", "TCB info expired": "TCB info", "QE identity expired": "QE identity",
					"TCB info's signer expired": "TCB info", "QE identity's signer expired": "QE identity"}[c.name]
				if want := map[bool]string{true: stale}[seen.ID == c.fail]; seen.Stale != want {
					t.Errorf("%s is stale for %q, want %q", seen.ID, seen.Stale, want)
				}
			}
			if c.fail == CheckTCBModule && r.Status != NotSupported {
				t.Errorf("status %s with another module", r.Status)
			}
			slices.Sort(c.skip)
			if got := slices.Sorted(slices.Values(wrong(r, check.Skip))); !slices.Equal(got, c.skip) {
				t.Errorf("skipped %v, want %v", got, c.skip)
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

// armored returns the PEM block with index i.
func armored(b []byte, i int) []byte {
	for range i {
		_, b = pem.Decode(b)
	}
	block, _ := pem.Decode(b)
	return pem.EncodeToMemory(block)
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

func revoke(list *x509.RevocationList, cert *x509.Certificate) {
	list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
		x509.RevocationListEntry{SerialNumber: big.NewInt(7), RevocationTime: list.ThisUpdate},
		x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: list.ThisUpdate})
}

func TestUntrustedRoot(t *testing.T) {
	w := newWorld(4)
	w.anchors = []*x509.Certificate{IntelRoot()}
	r, err := w.appraise(t)
	if got := wrong(r, check.Fail); err == nil || !slices.Equal(got, []string{CheckChain, CheckRootCRL, CheckTCBInfoSignature, CheckQEIDSignature}) {
		t.Errorf("failed %v", got)
	}
	if r.Status != "" {
		t.Errorf("status %s on a stranger's word", r.Status)
	}

	// The same when the chain leaves its root out and the name is all there is to find the anchor by.
	w = newWorld(4)
	w.root.Subject = name("Somebody's Root CA")
	w.anchors, w.rootInChain = []*x509.Certificate{IntelRoot()}, false
	if r, err := w.appraise(t); err == nil || outcome(r, CheckChain) != check.Fail || !strings.Contains(err.Error(), "is not a trust anchor") {
		t.Errorf("%v", err)
	}
}

// A CA with a key of another curve signs well, and not for Intel.
func TestCurveOfCA(t *testing.T) {
	w := newWorld(4)
	keys := *w.keys
	var err error
	if keys.ca, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	w.keys, w.pckCAKey, w.pckCRLKey = &keys, keys.ca, keys.ca
	w.pck.SignatureAlgorithm, w.pckCRL.SignatureAlgorithm = x509.ECDSAWithSHA256, x509.ECDSAWithSHA256
	r, _ := w.appraise(t)
	if got := wrong(r, check.Fail); !slices.Equal(got, []string{CheckChain, CheckPCKCRL}) {
		t.Errorf("failed %v", got)
	}
}

// What Intel masks of its Quoting Enclave may differ.
func TestQEMasks(t *testing.T) {
	w := newWorld(4)
	w.qeIdentity["miscselectMask"] = "feffffff"
	w.qeReport[16], w.qeReport[48] = 1, 0x11|4 // MODE64BIT is masked
	if _, err := w.appraise(t); err != nil {
		t.Error(err)
	}
}

// Two roots of one name are told apart by their keys, even when no chain brings its root along.
func TestTwinRoots(t *testing.T) {
	w := newWorld(4)
	w.rootInChain = false
	w.bendCollateral = func(c *Collateral) {
		twin := *w.root
		w.anchors = []*x509.Certificate{w.issue(t, &twin, &twin, w.keys.other, w.keys.other), c.TCBInfoChain[1]}
		c.TCBInfoChain, c.QEIdentityChain = c.TCBInfoChain[:1], c.QEIdentityChain[:1]
	}
	if _, err := w.appraise(t); err != nil {
		t.Error(err)
	}
}

// A list that is stale clears nobody, but what it names stays revoked.
func TestRevokedByStaleList(t *testing.T) {
	w := newWorld(4)
	revoke(w.pckCRL, w.pck)
	w.pckCRL.NextUpdate = w.now.Add(-time.Second)
	if r, _ := w.appraise(t); !slices.Equal(wrong(r, check.Fail), []string{CheckPCKCRL, CheckRevocation}) {
		t.Errorf("%v", wrong(r, check.Fail))
	}
}

// Two roots may be trusted, but not mixed: what one says about the platforms of the other counts for nothing.
func TestMixedRoots(t *testing.T) {
	w, other := newWorld(4), newWorld(4)
	other.root.Subject = name("Intel SGX Root CA 2")
	ov, _, oc := other.build(t)
	w.bendCollateral = func(c *Collateral) {
		w.anchors = []*x509.Certificate{ov.anchors[0].Certificate, c.TCBInfoChain[1]}
		c.TCBInfoChain = oc.TCBInfoChain
		c.TCBInfo = oc.TCBInfo
	}
	r, err := w.appraise(t)
	if got := wrong(r, check.Fail); err == nil || !slices.Equal(got, []string{CheckTCBInfoSignature}) {
		t.Errorf("failed %v", got)
	}
}

// A certificate that merely carries the root's name and key is not the root.
func TestRootByteForByte(t *testing.T) {
	w := newWorld(4)
	twin := *w.root
	twin.SerialNumber = big.NewInt(999)
	w.anchors = []*x509.Certificate{w.issue(t, &twin, &twin, w.keys.root, w.keys.root)}
	r, err := w.appraise(t)
	if err == nil || outcome(r, CheckChain) != check.Fail {
		t.Error("accepted")
	}
}

func TestMissingCollateral(t *testing.T) {
	for what, drop := range map[string]func(*Collateral){
		"TCB info":                 func(c *Collateral) { c.TCBInfo = nil },
		"TCB info issuer chain":    func(c *Collateral) { c.TCBInfoChain = nil },
		"QE identity":              func(c *Collateral) { c.QEIdentity = nil },
		"QE identity issuer chain": func(c *Collateral) { c.QEIdentityChain = nil },
		"root CA CRL":              func(c *Collateral) { c.RootCRL = nil },
		"PCK CRL":                  func(c *Collateral) { c.PCKCRL = nil },
	} {
		good, err := newWorld(4).appraise(t)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(4)
		w.bendCollateral = drop
		r, err := w.appraise(t)
		if !slices.Equal(listed(r), listed(good)) {
			t.Errorf("without %s: listed %v", what, listed(r))
		}
		var ce *check.Error
		if !errors.Is(err, check.ErrMissing) || !errors.As(err, &ce) || ce.Check.Missing != what || len(wrong(r, check.Fail)) != 0 {
			t.Errorf("without %s: %v", what, err)
		}
	}
}

// The chain may come as collateral when the quote carries none, but never instead of the quote's own.
func TestChainAsCollateral(t *testing.T) {
	w := newWorld(3)
	var chain []byte
	w.chainInQuote = func(b []byte) []byte { chain = b; return b }
	v, raw, c := w.build(t)
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	q.CertificationDataType, q.PCKChain = CertPPIDPlain, nil
	without, err := v.Verify(w.now, q, c)
	if !errors.Is(err, check.ErrMissing) {
		t.Errorf("without any chain: %v", err)
	}
	if c.PCKChain, err = ParseChain(chain); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Verify(w.now, q, c); err != nil || !slices.Equal(listed(r), listed(without)) {
		t.Error(listed(without), err)
	}
	q.CertificationDataType, q.chainErr = CertPCKChain, errNotPEM
	if _, err := v.Verify(w.now, q, c); err == nil || !strings.Contains(err.Error(), CheckChain) {
		t.Errorf("chain in the quote was overruled: %v", err)
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	if _, err := NewVerifier(); err == nil {
		t.Error("no trust anchors accepted")
	}
	w := newWorld(4)
	w.root.IsCA, w.root.MaxPathLen = false, 0
	if _, err := NewVerifier(w.issue(t, w.root, w.root, w.keys.root, w.keys.root)); err == nil {
		t.Error("root that is no CA accepted")
	}
	w = newWorld(4)
	if _, err := NewVerifier(w.issue(t, w.ca, w.root, w.keys.ca, w.keys.root)); err == nil {
		t.Error("root that is not self-signed accepted")
	}
}

// What people read.
func TestErrors(t *testing.T) {
	w := newWorld(4)
	w.bendCollateral = func(c *Collateral) { c.RootCRL = nil }
	if _, err := w.appraise(t); err.Error() != "dcap.crl.root: collateral is missing: root CA CRL" {
		t.Error(err)
	}
	e := &check.Error{Check: check.Check{ID: "dcap.tcb.status", Status: check.Skip, Detail: "not all parts could be evaluated"}}
	if e.Error() != "dcap.tcb.status: not decided: not all parts could be evaluated" || errors.Is(e, check.ErrMissing) {
		t.Error(e)
	}
	if _, err := ParseQuote(nil); err.Error() != "dcap: malformed quote at byte 0: version needs 2 bytes, 0 are left" {
		t.Error(err)
	}
	for v, want := range map[interface{ String() string }]string{TEESGX: "SGX", TEETDX: "TDX", TEEType(7): "TEE type 0x7", BodyTD10: "TD report 1.0",
		BodyTD15: "TD report 1.5", BodySGX: "SGX enclave report", BodyType(9): "body type 9"} {
		if v.String() != want {
			t.Errorf("%s, want %s", v, want)
		}
	}
}
