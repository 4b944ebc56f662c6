//go:build !js

package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/google/go-sev-guest/abi"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	sevverify "github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
)

// subject is a report with all that is needed to appraise it with either library.
type subject struct {
	name     string
	raw, key []byte
	crl      []byte // of the product; nil if no vector holds one
	at       time.Time
	asvk     bool // give go-sev-guest the ASVK, which its default roots lack
}

func subjects(t testing.TB) (ss []subject) {
	var es []expectation
	if err := json.Unmarshal(vectorFile(t, "snp/expected.json"), &es); err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if e.Signature != "ok" {
			continue
		}
		s := subject{name: e.File, raw: vectorFile(t, e.File), key: vectorFile(t, e.Key), at: time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC)}
		key, err := x509.ParseCertificate(s.key)
		if err != nil {
			t.Fatal(err)
		}
		if s.at.Before(key.NotBefore) {
			s.at = key.NotBefore
		}
		product := key.Issuer.CommonName[strings.LastIndex(key.Issuer.CommonName, "-")+1:]
		for _, l := range realCRLs(t) {
			if l.List.Issuer.CommonName == "ARK-"+product {
				s.crl = l.List.Raw
			}
		}
		ss = append(ss, s)
		if key.Subject.CommonName == "SEV-VLEK" {
			s.asvk = true
			ss = append(ss, s)
		}
	}
	return ss
}

// ours names the check that refused.
func ours(v *Verifier, s subject) (accepted bool, why string) {
	r, err := ParseReport(s.raw)
	if err != nil {
		if len(s.raw) > ReportSize {
			return false, "malformed report (bytes behind it)"
		}
		return false, "malformed report"
	}
	c := &Collateral{Intermediates: AMDIntermediates()}
	if c.Key, err = x509.ParseCertificate(s.key); err != nil {
		return false, "malformed certificate"
	}
	if s.crl != nil {
		l, err := ParseCRL(s.crl)
		if err != nil {
			if strings.Contains(err.Error(), "behind it") {
				return false, "malformed CRL (bytes behind it)"
			}
			return false, "malformed CRL"
		}
		c.CRLs = []*CRL{l}
	}
	if _, err := v.Verify(s.at, r, c); err != nil {
		check := err.(*check.Error).Check
		switch {
		case check.Missing != "":
			return false, check.ID + " (missing)"
		case check.ID == CheckCRL && strings.Contains(check.Detail, "signature"):
			return false, check.ID + " (signature)"
		}
		return false, check.ID
	}
	return true, ""
}

type crlGetter []byte

func (g crlGetter) Get(string) ([]byte, error) {
	if g == nil {
		return nil, errors.New("no CRL")
	}
	return g, nil
}

// theirs appraises with go-sev-guest.
func theirs(s subject) (accepted bool, why string) {
	defer func() {
		if p := recover(); p != nil {
			accepted, why = false, "panic"
		}
	}()
	report, err := abi.ReportToProto(s.raw)
	if err != nil {
		return false, "report: " + err.Error()
	}
	chain := &pb.CertificateChain{VcekCert: s.key}
	if report.SignerInfo>>2&7 == 1 {
		chain = &pb.CertificateChain{VlekCert: s.key}
	}
	options := &sevverify.Options{DisableCertFetching: true, CheckRevocations: s.crl != nil, Getter: crlGetter(s.crl), Now: s.at}
	// Fresh roots each time: they remember the CRL. Like the KDS's own chains, they hold either ASK or ASVK.
	options.TrustedRoots = map[string][]*trust.AMDRootCerts{}
	for _, ark := range AMDRoots() {
		product := strings.TrimPrefix(ark.Subject.CommonName, "ARK-")
		certs := &trust.ProductCerts{Ark: ark}
		for _, c := range AMDIntermediates() {
			switch c.Subject.CommonName {
			case "SEV-" + product:
				if !s.asvk {
					certs.Ask = c
				}
			case "SEV-VLEK-" + product:
				if s.asvk {
					certs.Asvk = c
				}
			}
		}
		options.TrustedRoots[product] = []*trust.AMDRootCerts{{Product: product, ProductLine: product, ProductCerts: certs}}
	}
	err = sevverify.SnpAttestation(&pb.Attestation{Report: report, CertificateChain: chain}, options)
	if err != nil {
		if strings.Contains(err.Error(), "missing intermediate certificate authority certificate for key VLEK") {
			return false, "no ASVK"
		}
		return false, err.Error()
	}
	if b, err := abi.ReportToAbiBytes(report); err == nil && len(s.raw) == len(b) && !bytes.Equal(b, s.raw) {
		return true, "re-encoded"
	}
	return true, ""
}

// explained are the disagreements that docs/differences.md explains.
var explained = map[string]string{
	"they accept: " + CheckSignature + " re-encoded": "signed bits that they lose",
	"they accept: " + CheckCRL + " re-encoded":       "CRLs that are not current",
	"they panic":                                      "VLEK with revocation checks",
	"we accept: no ASVK":                              "VLEK with default roots",
	"they accept: " + CheckCRL:                        "CRLs that are not current",
	"they accept: malformed CRL (bytes behind it)":    "bytes behind a CRL",
	"they accept: malformed report (bytes behind it)": "bytes behind the report",
}

func mutate(rnd *rand.Rand, s subject) subject {
	bend := func(b []byte) []byte {
		b = bytes.Clone(b)
		at := rnd.IntN(len(b))
		switch rnd.IntN(10) {
		case 0, 1, 2, 3, 4:
			b[at] ^= 1 << rnd.IntN(8)
		case 5, 6:
			b[at] = byte(rnd.Uint32())
		case 7:
			b = b[:at]
		case 8:
			b = slices.Delete(b, at, min(at+1+rnd.IntN(8), len(b)))
		case 9:
			b = append(b, byte(rnd.Uint32()))
		}
		return b
	}
	switch n := rnd.IntN(20); {
	case n < 14:
		s.raw = bend(s.raw)
	case n < 17:
		s.key = bend(s.key)
	case n < 19 && s.crl != nil:
		s.crl = bend(s.crl)
	default:
		s.at = s.at.AddDate(0, 0, rnd.IntN(4000)-2000)
	}
	return s
}

// TestDifferential compares our verdict with go-sev-guest's, over the real reports and mutations of them. Every disagreement
// must be one that docs/differences.md explains. BOMBYX_MUTATIONS sets the number of mutations; 300 by default, 100000 in a long run.
func TestDifferential(t *testing.T) {
	n := 300
	if s := os.Getenv("BOMBYX_MUTATIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	v := amdVerifier(t)
	ss := subjects(t)
	if len(ss) == 0 {
		t.Fatal("no subjects")
	}
	counts := map[string]int{}
	compare := func(s subject) {
		us, why := ours(v, s)
		them, theirWhy := theirs(s)
		key := "agree"
		switch {
		case theirWhy == "panic":
			key = "they panic"
		case them && !us:
			key = strings.TrimSpace("they accept: " + why + " " + theirWhy)
		case us && !them:
			key = "we accept: " + theirWhy
		}
		if _, ok := explained[key]; !ok && key != "agree" {
			t.Errorf("%s: %s", s.name, key)
		}
		counts[key]++
	}
	for _, s := range ss {
		compare(s)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range n {
		compare(mutate(rnd, ss[rnd.IntN(len(ss))]))
	}
	for k, c := range counts {
		t.Logf("%6d %s (%s)", c, k, explained[k])
	}
}
