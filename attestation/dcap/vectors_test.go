package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// vectors is where real evidence lies when the repository is checked out beside it.
const vectors = "../../../shared/vectors"

func vectorFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Skipf("real evidence is absent: %v", err)
	}
	return b
}

// found is every endorsement of Intel's among the vectors, for tests to pick from by time.
var found = sync.OnceValue(func() (f struct {
	crls    []*CRL
	signers []*x509.Certificate
}) {
	seen := map[string]bool{}
	cert := func(der []byte) {
		c, err := x509.ParseCertificate(der)
		if err == nil && c.Subject.CommonName == cnTCBSigning && !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			f.signers = append(f.signers, c)
		}
	}
	crl := func(der []byte) {
		if c, err := ParseCRL(der); err == nil && !seen[string(der)] {
			seen[string(der)] = true
			f.crls = append(f.crls, c)
		}
	}
	var text func(b []byte)
	text = func(b []byte) {
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			cert(block.Bytes)
			crl(block.Bytes)
		}
		var members map[string]string
		if json.Unmarshal(b, &members) == nil {
			for name, m := range members {
				if strings.HasSuffix(name, "crl") {
					der, _ := hex.DecodeString(m)
					crl(der)
				} else {
					text([]byte(m))
				}
			}
		}
	}
	filepath.WalkDir(vectors, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > 100<<10 {
			return nil
		}
		b, _ := os.ReadFile(path)
		if len(b) > 2 && b[0] == 0x30 {
			cert(b)
			crl(b)
		} else if !strings.Contains(path, "nvidia") {
			text(b)
		}
		return nil
	})
	return f
})

// crlAt finds a real CRL of the issuer that was current then. (Some vectors hold lists of a test root with the same names.)
func crlAt(issuer string, at time.Time) *CRL {
	for _, c := range found().crls {
		if slices.Contains(intelCAKeyIDs, hex.EncodeToString(c.List.AuthorityKeyId)) && c.List.Issuer.CommonName == issuer && !at.Before(c.List.ThisUpdate) && !at.After(c.List.NextUpdate) {
			return c
		}
	}
	return nil
}

// Key identifiers of Intel's root, Platform and Processor CA.
var intelCAKeyIDs = []string{"22650cd65a9d3489f383b49552bf501b392706ac", "956f5dcdbd1be1e94049c9d4f433ce01570bde54", "d0e8aada75d7f92e4917983c7b1465d0d5f2594d"}

func signerAt(at time.Time) []*x509.Certificate {
	for _, c := range found().signers {
		if !at.Before(c.NotBefore) && !at.After(c.NotAfter) && c.CheckSignatureFrom(IntelRoot()) == nil {
			return []*x509.Certificate{c}
		}
	}
	return nil
}

// pcsDocument reads a PCS response, or the shape in which some tools keep all collateral in one file.
func pcsDocument(t testing.TB, name, member string) (raw []byte, sig [64]byte) {
	t.Helper()
	b := vectorFile(t, name)
	if bytes.Contains(b, []byte(`"pck_crl_issuer_chain"`)) {
		var m map[string]string
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if err := hexBytes(sig[:], m[member+"_signature"]); err != nil {
			t.Fatal(err)
		}
		return []byte(m[member]), sig
	}
	if member == "tcb_info" {
		i, err := ParseTCBInfo(b)
		if err != nil {
			t.Fatal(err)
		}
		return i.Raw, i.Signature
	}
	i, err := ParseQEIdentity(b)
	if err != nil {
		t.Fatal(err)
	}
	return i.Raw, i.Signature
}

// realCollateral assembles what the vectors hold for one appraisal. CRLs that no vector covers at that time stay nil.
func realCollateral(t testing.TB, tcbInfo, qeIdentity, ca string, at time.Time) *Collateral {
	t.Helper()
	c := &Collateral{TCBInfoChain: signerAt(at), QEIdentityChain: signerAt(at), RootCRL: crlAt("Intel SGX Root CA", at), PCKCRL: crlAt(ca, at)}
	var err error
	raw, sig := pcsDocument(t, tcbInfo, "tcb_info")
	if c.TCBInfo, err = ParseSignedTCBInfo(raw, sig); err != nil {
		t.Fatal(err)
	}
	raw, sig = pcsDocument(t, qeIdentity, "qe_identity")
	if c.QEIdentity, err = ParseSignedQEIdentity(raw, sig); err != nil {
		t.Fatal(err)
	}
	return c
}

type expectation struct {
	File, Kind, Signature     string
	Version                   uint16
	BodyType                  BodyType
	Debug                     bool
	Attributes, ReportData    string
	TeeTcbSvn, Fmspc, Ca      string
	PckNotBefore, PckNotAfter time.Time
	Appraisals                []struct {
		At                            time.Time
		TcbInfo, QeIdentity           string
		TcbEval, QeEval               uint32
		Platform, Module, QE, Overall string
		Advisories                    []string
	}
}

func expectations(t testing.TB) (es []expectation) {
	t.Helper()
	if err := json.Unmarshal(vectorFile(t, "quotes/expected.json"), &es); err != nil {
		t.Fatal(err)
	}
	return es
}

func intelVerifier(t testing.TB) *Verifier {
	t.Helper()
	v, err := NewVerifier(IntelRoot())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// outcome returns the status of one check.
func outcome(r *Result, id string) check.Status {
	for _, c := range r.Checks {
		if c.ID == id {
			return c.Status
		}
	}
	return ""
}

func TestRealQuotes(t *testing.T) {
	v := intelVerifier(t)
	appraisals := 0
	for _, e := range expectations(t) {
		t.Run(strings.TrimPrefix(e.File, "quotes/"), func(t *testing.T) {
			q, err := ParseQuote(vectorFile(t, e.File))
			if err != nil {
				t.Fatal(err)
			}
			attributes := uint64(0)
			if q.TD != nil {
				attributes = uint64(q.TD.TDAttributes)
				if got := hex.EncodeToString(q.TD.TEETCBSVN[:]); got != e.TeeTcbSvn {
					t.Errorf("TEE_TCB_SVN %s, want %s", got, e.TeeTcbSvn)
				}
			} else {
				attributes = q.SGX.Flags()
			}
			data := q.ReportData()
			bodyType := e.BodyType
			if q.TEEType.String() != e.Kind || q.Version != e.Version || q.BodyType != bodyType || q.Debug() != e.Debug ||
				fmt.Sprintf("%016x", attributes) != e.Attributes || hex.EncodeToString(data[:]) != e.ReportData {
				t.Errorf("got %s v%d %s debug %v attributes %016x data %x", q.TEEType, q.Version, q.BodyType, q.Debug(), attributes, data)
			}

			r, err := v.Verify(e.PckNotBefore.Add(time.Hour), q, nil)
			if e.Signature != "ok" {
				if outcome(r, CheckChain) == check.Pass {
					t.Error("chain accepted")
				}
				return
			}
			for _, id := range []string{CheckChain, CheckChainValidity, CheckQESignature, CheckQEBinding, CheckQuoteSignature} {
				if outcome(r, id) != check.Pass {
					t.Errorf("%s: %+v", id, r.Checks)
				}
			}
			if got := hex.EncodeToString(r.PCK.FMSPC[:]); got != e.Fmspc || r.PCK.CA != e.Ca {
				t.Errorf("FMSPC %s of %s", got, r.PCK.CA)
			}
			if err == nil {
				t.Error("accepted without collateral")
			}

			for _, a := range e.Appraisals {
				appraisals++
				c := realCollateral(t, a.TcbInfo, a.QeIdentity, e.Ca, a.At)
				r, err := v.Verify(a.At, q, c)
				missing := false
				for _, k := range r.Checks {
					switch {
					case k.Status == check.Fail && k.ID != CheckParse:
						t.Errorf("%s: %s", k.ID, k.Detail)
					case k.Missing == "root CA CRL" || k.Missing == "PCK CRL":
						missing = true
					case k.Status == check.Skip && k.ID != CheckRevocation:
						t.Errorf("%s skipped: %s", k.ID, k.Detail)
					}
				}
				if err == nil && missing {
					t.Error("accepted without CRLs")
				}
				t.Logf("%s at %s: %s, err %v", q.TEEType, a.At.Format(time.DateOnly), r.Status, err)
				module := string(r.Module.Status)
				if module == "" {
					module = "-"
				}
				if string(r.Status) != a.Overall || string(r.Platform.Status) != a.Platform || module != a.Module || string(r.QE.Status) != a.QE {
					t.Errorf("platform %s module %s QE %s: %s", r.Platform.Status, r.Module.Status, r.QE.Status, r.Status)
				}
				if r.TCBEvaluationDataNumber != a.TcbEval || r.QEEvaluationDataNumber != a.QeEval {
					t.Errorf("evaluation data numbers %d and %d", r.TCBEvaluationDataNumber, r.QEEvaluationDataNumber)
				}
				got := slices.Concat(r.Platform.AdvisoryIDs, r.Module.AdvisoryIDs, r.QE.AdvisoryIDs)
				slices.Sort(got)
				want := slices.Sorted(slices.Values(a.Advisories))
				if !slices.Equal(got, want) {
					t.Errorf("advisories %v, want %v", got, want)
				}
			}
		})
	}
	if appraisals != 17 {
		t.Errorf("%d timed appraisals, want 17", appraisals)
	}
}

// Every TCB info version 3 and QE identity version 2 among the vectors is genuine: strictness must not refuse one.
func TestRealStatements(t *testing.T) {
	vectorFile(t, "INDEX.md")
	a := &appraisal{v: intelVerifier(t)}
	seen := map[[32]byte]bool{}
	filepath.WalkDir(vectors, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "intel-qvl") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 || b[0] != '{' {
			return nil
		}
		type statement struct {
			body json.RawMessage
			sig  string
		}
		var tcbInfos, identities []statement
		var doc struct {
			TCBInfo           json.RawMessage `json:"tcbInfo"`
			EnclaveIdentity   json.RawMessage `json:"enclaveIdentity"`
			Signature         string          `json:"signature"`
			TCBInfoText       string          `json:"tcb_info"`
			TCBInfoSignature  string          `json:"tcb_info_signature"`
			IdentityText      string          `json:"qe_identity"`
			IdentitySignature string          `json:"qe_identity_signature"`
		}
		if json.Unmarshal(b, &doc) != nil {
			return nil
		}
		tcbInfos = append(tcbInfos, statement{doc.TCBInfo, doc.Signature}, statement{json.RawMessage(doc.TCBInfoText), doc.TCBInfoSignature})
		identities = append(identities, statement{doc.EnclaveIdentity, doc.Signature}, statement{json.RawMessage(doc.IdentityText), doc.IdentitySignature})
		check := func(s statement, version int, parse func([]byte, [64]byte) ([32]byte, time.Time, error)) {
			var v struct{ Version int }
			var sig [64]byte
			if len(s.body) == 0 || json.Unmarshal(s.body, &v) != nil || v.Version != version || hexBytes(sig[:], s.sig) != nil {
				return
			}
			digest, issued, err := parse(s.body, sig)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			if seen[digest] {
				return
			}
			seen[digest] = true
			signer := signerAt(issued)
			if signer == nil {
				t.Errorf("%s: no signer for %v", path, issued)
			} else if err := a.signed(newChain(signer), digest, sig); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		for _, s := range tcbInfos {
			check(s, 3, func(b []byte, sig [64]byte) ([32]byte, time.Time, error) {
				i, err := ParseSignedTCBInfo(b, sig)
				if err != nil {
					return [32]byte{}, time.Time{}, err
				}
				return i.digest, i.IssueDate, nil
			})
		}
		for _, s := range identities {
			check(s, 2, func(b []byte, sig [64]byte) ([32]byte, time.Time, error) {
				i, err := ParseSignedQEIdentity(b, sig)
				if err != nil {
					return [32]byte{}, time.Time{}, err
				}
				return i.digest, i.IssueDate, nil
			})
		}
		return nil
	})
	if len(seen) < 30 {
		t.Errorf("%d statements", len(seen))
	}
	t.Logf("%d statements", len(seen))
}

// Intel's own sample for its QVL, under Intel's test root: everything but the TCB info (version 2) is in order there. Its QE
// identity is the only one at hand with a MISCSELECT, which is little endian.
func TestIntelSample(t *testing.T) {
	const sample = "intel-qvl/Src__AttestationApp__sampleData__"
	certs := func(name string) []*x509.Certificate {
		c, err := ParseChain(vectorFile(t, sample+name))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	q, err := ParseQuote(vectorFile(t, "quotes/SGX-v3-0e71002973f0af7d.bin"))
	if err != nil {
		t.Fatal(err)
	}
	c := &Collateral{QEIdentityChain: certs("tcbSignChain.pem"), PCKChain: append(certs("pckCert.pem"), certs("pckSignChain.pem")...)}
	if c.QEIdentity, err = ParseQEIdentity(vectorFile(t, sample+"qeIdentity.json")); err != nil {
		t.Fatal(err)
	}
	if c.RootCRL, err = ParseCRL(vectorFile(t, sample+"rootCaCrl.der")); err != nil {
		t.Fatal(err)
	}
	if c.PCKCRL, err = ParseCRL(vectorFile(t, sample+"intermediateCaCrl.der")); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	v, err := NewVerifier(certs("trustedRootCaCert.pem")...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Verify(at, q, c)
	for _, k := range r.Checks {
		t.Logf("%s %s %s", k.Status, k.ID, k.Detail)
	}
	if err == nil || len(wrong(r, check.Fail)) != 0 {
		t.Errorf("failed %v", wrong(r, check.Fail))
	}
	r, _ = intelVerifier(t).Verify(at, q, c)
	if outcome(r, CheckChain) != check.Fail || outcome(r, CheckQEIDSignature) != check.Fail || outcome(r, CheckRootCRL) != check.Fail {
		t.Error("test root accepted")
	}
}
