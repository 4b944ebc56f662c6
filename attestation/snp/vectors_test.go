package snp

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/alone"
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

func vectorCert(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(vectorFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func vectorReport(t testing.TB, name string) *Report {
	t.Helper()
	r, err := ParseReport(vectorFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func amdVerifier(t testing.TB) *Verifier {
	t.Helper()
	v, err := NewVerifier(AMDRoots()...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// realCRLs are AMD's lists of 2024, current until November 2025.
func realCRLs(t testing.TB) (lists []*CRL) {
	t.Helper()
	for block, rest := pem.Decode(vectorFile(t, "openpcc/sev_certificates.txt")); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		c, err := ParseCRL(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, c)
	}
	return lists
}

// with returns the checks of one outcome.
func with(r *Result, status check.Status) (ids []string) {
	for _, c := range r.Checks {
		if c.Status == status {
			ids = append(ids, c.ID)
		}
	}
	if status == check.Fail {
		failures.Failed(ids)
	}
	return ids
}

// failures is what the tests of this package saw fail.
var failures alone.Recorder

// Every check must have been seen to fail alone: see package alone.
func TestMain(m *testing.M) { failures.Main(m, nil) }

type expectation struct {
	File         string `json:"file"`
	Key          string `json:"endorsement_key"`
	Issuer       string `json:"ek_issuer"`
	NotAfter     string `json:"ek_not_after"`
	FMS          string `json:"fms"`
	PlatformInfo string `json:"platform_info"`
	Policy       string `json:"policy"`
	Debug        bool   `json:"policy_debug"`
	MigrateMA    bool   `json:"policy_migrate_ma"`
	SMT          bool   `json:"policy_smt"`
	ReportData   string `json:"report_data"`
	Current      string `json:"current_tcb"`
	Committed    string `json:"committed_tcb"`
	Reported     string `json:"reported_tcb"`
	Signature    string `json:"signature"`
	Signer       string `json:"signer"`
	Version      uint32 `json:"version"`
	VMPL         uint32 `json:"vmpl"`
}

// fms writes family, model and stepping as CPUID leaf 1 does.
func fms(c [3]uint8) string {
	if c == [3]uint8{} {
		return "000000"
	}
	return fmt.Sprintf("%x%x0f%x%x", c[0]-0xf, c[1]>>4, c[1]&0xf, c[2])
}

func TestRealReports(t *testing.T) {
	var es []expectation
	if err := json.Unmarshal(vectorFile(t, "snp/expected.json"), &es); err != nil {
		t.Fatal(err)
	}
	if len(es) != 17 {
		t.Errorf("%d reports, want 17", len(es))
	}
	v := amdVerifier(t)
	for _, e := range es {
		t.Run(e.File, func(t *testing.T) {
			r := vectorReport(t, e.File)
			hexTCB := func(v TCB) string { return strconv.FormatUint(uint64(v), 16) }
			if r.Version != e.Version || r.VMPL != e.VMPL || r.SigningKey.String() != e.Signer || hex.EncodeToString(r.ReportData[:]) != e.ReportData ||
				strconv.FormatUint(uint64(r.Policy), 16) != e.Policy || strconv.FormatUint(uint64(r.PlatformInfo), 16) != e.PlatformInfo ||
				r.Policy.Debug() != e.Debug || r.Policy.Has(PolicySMT) != e.SMT || r.Policy.Has(PolicyMigrateMA) != e.MigrateMA ||
				hexTCB(r.CurrentTCB) != e.Current || hexTCB(r.CommittedTCB) != e.Committed || hexTCB(r.ReportedTCB) != e.Reported ||
				fms(r.CPUID) != e.FMS {
				t.Errorf("%+v", r)
			}
			if e.Key == "none in vectors" {
				if _, err := v.Verify(time.Now(), r, nil); err == nil {
					t.Error("accepted without endorsement key")
				}
				return
			}
			c := &Collateral{Key: vectorCert(t, e.Key), Intermediates: AMDIntermediates()}
			at := c.Key.NotAfter
			if at.Format(time.RFC3339) != e.NotAfter || c.Key.Issuer.CommonName != e.Issuer {
				t.Errorf("key of %s until %s", c.Key.Issuer.CommonName, at)
			}
			res, err := v.Verify(at, r, c)
			if err == nil || len(with(res, check.Fail)) != 0 || !slices.Equal(with(res, check.Skip), []string{CheckCRL, CheckRevocation}) {
				t.Errorf("without CRL: %+v", res.Checks)
			}
			res, err = v.Verify(at.Add(time.Second), r, c)
			if err == nil || !slices.Equal(with(res, check.Fail), []string{CheckChainValidity}) {
				t.Errorf("after expiry: %+v", res.Checks)
			}
			// A real list, where one was current while the key was valid.
			c.CRLs = realCRLs(t)
			at = time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC)
			if c.Key.NotBefore.Before(at) && res.Key.Product != Turin {
				if res, err = v.Verify(at, r, c); err != nil {
					t.Errorf("with CRL: %v", err)
				}
			}
			t.Logf("%s %s chip %x", res.Key.Kind, res.Key.ProductName, res.Key.HWID)
		})
	}
}

// A report of the version that AMD has not described, from a machine of Google's: it reads as version 3 would. Its key is not
// in the vectors, so nothing more is shown.
func TestRealVersion4(t *testing.T) {
	block, _ := pem.Decode(vectorFile(t, "openpcc/gce_sevsnp_report.txt"))
	r, err := ParseReport(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Product()
	if err != nil || r.Version != 4 || p != Milan || r.CPUID != [3]uint8{0x19, 1, 1} || r.CommittedVersion != (FirmwareVersion{1, 55, 31}) ||
		!r.LaunchTCB.AtLeast(r.ReportedTCB) || r.Policy.Debug() {
		t.Errorf("%v, %+v", err, r)
	}
	if _, err := amdVerifier(t).Verify(time.Now(), r, nil); err == nil {
		t.Error("accepted without endorsement key")
	}
}

// A VLEK of a cloud provider: genuine while it was valid, from VMPL 1.
func TestRealVLEK(t *testing.T) {
	v := amdVerifier(t)
	r := vectorReport(t, "snp/decdab949afc.bin")
	c := &Collateral{Key: vectorCert(t, "snp/decdab949afc.ek.der"), Intermediates: AMDIntermediates(), CRLs: realCRLs(t)}
	res, err := v.Verify(time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC), r, c)
	if err != nil || r.VMPL != 1 || res.Key.CSPID != "CN=cc-us-east-2.amazonaws.com" {
		t.Errorf("%v, VMPL %d, %+v", err, r.VMPL, res.Key)
	}
	res, err = v.Verify(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), r, c)
	if err == nil || !slices.Equal(with(res, check.Fail), []string{CheckChainValidity, CheckCRL}) {
		t.Errorf("after expiry: %v", with(res, check.Fail))
	}
}

// Certificates that were tampered with, and the key of another chip.
func TestRealNegatives(t *testing.T) {
	v := amdVerifier(t)
	at := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	r := vectorReport(t, "coco-trustee/snp__test-report.bin")
	c := &Collateral{Intermediates: AMDIntermediates(), CRLs: realCRLs(t)}
	for name, good := range map[string]bool{
		"coco-trustee/snp__test-vcek.der": true, "coco-trustee/snp__test-vcek-invalid-legacy.der": false,
		"coco-trustee/snp__test-vcek-invalid-new.der": false, "snp/377e6241d3b3.ek.der": false, "coco-trustee/snp__test-vlek.der": false,
	} {
		cert, err := x509.ParseCertificate(vectorFile(t, name))
		if err != nil {
			if good {
				t.Error(err)
			}
			continue
		}
		c.Key = cert
		res, err := v.Verify(at, r, c)
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(name, with(res, check.Fail))
	}
}
