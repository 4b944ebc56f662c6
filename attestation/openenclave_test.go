package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

var (
	oidOE    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 105, 1}
	oidOldOE = asn1.ObjectIdentifier{1, 2, 840, 113556, 10, 1, 1}
)

// oeReport puts Open Enclave's header before a quote.
func oeReport(quote []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint32(b, 2)
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(quote))), quote...)
}

// sgxVerifier accepts the one enclave of the mock world, and has what SGX needs.
func sgxVerifier(t testing.TB, change func(*policy.Policy)) *attestation.Verifier {
	t.Helper()
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	b, err := collateral.New(append(e.Inputs(), e.SGXTCBInfo, e.SGXQEIdentity)...)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Policy(now)
	x := auth.Enclave()
	p.SGX = &policy.SGX{TCB: p.TDX.TCB, Enclaves: []policy.SGXEnclave{{Name: "ego", Reason: "test",
		MRENCLAVE: policy.Want32{Value: x.MRENCLAVE}, MRSIGNER: policy.Want32{Value: x.MRSIGNER}, ISVProdID: x.ISVProdID, MinISVSVN: x.ISVSVN}}}
	if change != nil {
		change(p)
	}
	v, err := attestation.NewVerifier(p, b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func appraiseSGX(t testing.TB, data []byte, want attestation.Expected, change func(*policy.Policy)) *attestation.Result {
	t.Helper()
	r, err := sgxVerifier(t, change).AppraiseSaved(now, data, want)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What GetRemoteReport returns is appraised like the quote in it, and report data as EGo's callers give it: shorter than 64 bytes.
func TestOEReport(t *testing.T) {
	digest := sha256.Sum256([]byte("what the program speaks for"))
	var reportData [64]byte
	copy(reportData[:], digest[:])
	report := oeReport(node(t, attestationtest.NodeConfig{}).EnclaveQuote(reportData))
	for name, c := range map[string]struct {
		data, want []byte
	}{
		"raw":              {report, nil},
		"digest":           {report, digest[:]},
		"64 bytes":         {report, reportData[:]},
		"one byte, padded": {oeReport(node(t, attestationtest.NodeConfig{}).EnclaveQuote([64]byte{7})), []byte{7}},
		"hexadecimal":      {[]byte(hex.EncodeToString(report)), digest[:]},
		"base64":           {[]byte(base64.StdEncoding.EncodeToString(report)), digest[:]},
	} {
		r := appraiseSGX(t, c.data, attestation.Expected{ReportData: c.want}, nil)
		if r.Err() != nil || r.Kind != attestation.KindOEReport || r.TCBStatus != "UpToDate" || r.Check(attestation.CheckImage).Seen != "ego" {
			t.Errorf("%s: %s %s: %v", name, r.Kind, r.TCBStatus, r.Err())
		}
		if got := r.Check(attestation.CheckReportData).Status == check.Pass; got != (c.want != nil) {
			t.Errorf("%s: report data: %+v", name, r.Check(attestation.CheckReportData))
		}
	}
	kind, claims, err := attestation.Inspect(report, nil)
	if err != nil || kind != attestation.KindOEReport || claims["cpu.kind"] != "SGX" || claims["sgx.isvsvn"] != "3" {
		t.Errorf("%s %v %v", kind, claims, err)
	}
}

func TestOEReportRefusals(t *testing.T) {
	digest := sha256.Sum256([]byte("x"))
	n := node(t, attestationtest.NodeConfig{})
	good := oeReport(n.EnclaveQuote([64]byte(append(digest[:], make([]byte, 32)...))))
	with := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	sized := func(b []byte) []byte {
		b = bytes.Clone(b)
		binary.LittleEndian.PutUint64(b[8:], uint64(len(b)-16))
		return b
	}
	x := auth.Enclave()
	for _, c := range []struct {
		name   string
		data   []byte
		want   attestation.Expected
		policy func(*policy.Policy)
		by     string
		detail string
	}{
		{"version 0", with(0, 0), attestation.Expected{}, nil, "composite.parse", "version 0"},
		{"version 3, of Open Enclave's evidence", with(0, 3), attestation.Expected{}, nil, "composite.parse", "version 3"},
		{"unknown type", with(4, 3), attestation.Expected{}, nil, "composite.parse", "unknown type 3"},
		{"local report", with(4, 1), attestation.Expected{}, nil, "composite.parse", "a local report"},
		{"less than it says", good[:len(good)-1], attestation.Expected{}, nil, "composite.parse", "and 4"},
		{"more than it says", append(bytes.Clone(good), 0), attestation.Expected{}, nil, "composite.parse", "the header states"},
		{"size of 2^56", with(15, 1), attestation.Expected{}, nil, "composite.parse", "the header states"},
		{"bytes after the quote", sized(append(good[:len(good):len(good)], 0)), attestation.Expected{}, nil, "composite.parse", "1 bytes after the quote"},
		{"quote cut short", sized(good[: len(good)-1 : len(good)-1]), attestation.Expected{}, nil, "composite.parse", "left"},
		{"header alone", good[:16], attestation.Expected{}, nil, "composite.parse", "the header states"},
		{"TDX", oeReport(n.Quote([64]byte{})), attestation.Expected{}, nil, "composite.parse", "quote of TDX"},
		{"other report data", good, attestation.Expected{ReportData: make([]byte, 32)}, nil, "composite.report_data", ""},
		{"report data of less", good, attestation.Expected{ReportData: digest[:31]}, nil, "composite.report_data", ""},
		{"debug", oeReport(node(t, attestationtest.NodeConfig{Debug: true}).EnclaveQuote([64]byte{})), attestation.Expected{}, nil, "policy.debug", ""},
		{"damaged", with(16+48+64, 0xff), attestation.Expected{}, func(p *policy.Policy) { p.SGX.Enclaves[0].MRENCLAVE = policy.Want32{Any: true} }, "dcap.quote.signature", ""},
		{"no SGX in the policy", good, attestation.Expected{}, func(p *policy.Policy) { p.SGX = nil }, "composite.cpu", ""},
		{"another MRENCLAVE", good, attestation.Expected{}, func(p *policy.Policy) { p.SGX.Enclaves[0].MRENCLAVE.Value[0] ^= 1 }, "policy.image", ""},
		{"another MRSIGNER", good, attestation.Expected{}, func(p *policy.Policy) { p.SGX.Enclaves[0].MRSIGNER.Value[0] ^= 1 }, "policy.image", ""},
		{"another product", good, attestation.Expected{}, func(p *policy.Policy) { p.SGX.Enclaves[0].ISVProdID = x.ISVProdID + 1 }, "policy.image", ""},
		{"older than the signer's floor", good, attestation.Expected{}, func(p *policy.Policy) {
			p.SGX.Enclaves[0].MRENCLAVE, p.SGX.Enclaves[0].MinISVSVN = policy.Want32{Any: true}, x.ISVSVN+1
		}, "policy.image", ""},
	} {
		r := appraiseSGX(t, c.data, c.want, c.policy)
		if got := failing(r); r.Kind != attestation.KindOEReport || !slices.Equal(got, []string{c.by}) || !strings.Contains(r.Err().Error(), c.detail) {
			t.Errorf("%s: %s refused by %q, want %q\n%v", c.name, r.Kind, got, c.by, r.Err())
		}
	}
	v := sgxVerifier(t, nil)
	for name, c := range map[string]struct {
		data []byte
		want attestation.Expected
	}{
		"65 bytes of report data":   {good, attestation.Expected{ReportData: make([]byte, 65)}},
		"32 bytes for a bare quote": {good[16:], attestation.Expected{ReportData: make([]byte, 32)}},
		"a nonce":                   {good, attestation.Expected{Nonce: make([]byte, 32)}},
		"header cut short":          {good[:15], attestation.Expected{}},
		"type, and nothing known":   {append(with(4, 3)[:16], 1, 2, 3), attestation.Expected{}},
	} {
		if r, err := v.AppraiseSaved(now, c.data, c.want); err == nil {
			t.Errorf("%s: %v", name, r.Kind)
		}
	}
}

// egoCertificate does what EGo's CreateAttestationCertificate does: with oe its variant for Open Enclave's clients.
func egoCertificate(t testing.TB, c attestationtest.NodeConfig, oe bool, change func(tmpl *x509.Certificate, reportData *[64]byte)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if oe {
		spki = append(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0)
	}
	var reportData [64]byte
	digest := sha256.Sum256(spki)
	copy(reportData[:], digest[:])
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "EGo"}, NotAfter: now.AddDate(1, 0, 0)}
	if change != nil {
		change(tmpl, &reportData)
	}
	if !slices.ContainsFunc(tmpl.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(oidOE) }) {
		tmpl.ExtraExtensions = append(tmpl.ExtraExtensions, pkix.Extension{Id: oidOE, Value: oeReport(node(t, c).EnclaveQuote(reportData))})
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOECertificate(t *testing.T) {
	for _, oe := range []bool{false, true} {
		der := egoCertificate(t, attestationtest.NodeConfig{}, oe, nil)
		armored := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		for _, data := range [][]byte{der, armored, []byte(base64.StdEncoding.EncodeToString(der))} {
			r := appraiseSGX(t, data, attestation.Expected{}, nil)
			if r.Err() != nil || r.Kind != attestation.KindOECertificate || r.Check(attestation.CheckReportData).Status != check.Pass {
				t.Errorf("Open Enclave's digest %v: %s %v", oe, r.Kind, r.Err())
			}
			c, _ := x509.ParseCertificate(der)
			if want := sha256.Sum256(c.RawSubjectPublicKeyInfo); r.Claims["key.tls.sha256"] != hex.EncodeToString(want[:]) {
				t.Errorf("claims %v", r.Claims)
			}
		}
	}
	old := func(c *x509.Certificate, rd *[64]byte) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidOldOE, Value: oeReport(node(t, attestationtest.NodeConfig{}).EnclaveQuote(*rd))}}
	}
	extra := func(id asn1.ObjectIdentifier, critical bool, value []byte) func(c *x509.Certificate, rd *[64]byte) {
		return func(c *x509.Certificate, _ *[64]byte) {
			c.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: value}}
		}
	}
	soon := now.Add(time.Minute).Truncate(time.Second)
	r := appraiseSGX(t, egoCertificate(t, attestationtest.NodeConfig{}, false, func(c *x509.Certificate, _ *[64]byte) { c.NotAfter = soon }), attestation.Expected{}, nil)
	if r.Err() != nil || !r.ValidUntil.Equal(soon) {
		t.Errorf("%v, valid until %v, want %v", r.Err(), r.ValidUntil, soon)
	}
	for _, c := range []struct {
		name   string
		config attestationtest.NodeConfig
		change func(tmpl *x509.Certificate, reportData *[64]byte)
		policy func(*policy.Policy)
		want   []string
	}{
		{"report for another key", attestationtest.NodeConfig{}, func(_ *x509.Certificate, rd *[64]byte) { rd[0] ^= 1 }, nil, []string{"composite.report_data"}},
		{"something after the digest", attestationtest.NodeConfig{}, func(_ *x509.Certificate, rd *[64]byte) { rd[63] = 1 }, nil, []string{"composite.report_data"}},
		{"expired", attestationtest.NodeConfig{}, func(c *x509.Certificate, _ *[64]byte) { c.NotAfter = now.Add(-time.Second) }, nil, []string{"foreign.certificate"}},
		{"not yet in force", attestationtest.NodeConfig{}, func(c *x509.Certificate, _ *[64]byte) { c.NotBefore = now.Add(time.Second) }, nil, []string{"foreign.certificate"}},
		{"unknown critical extension", attestationtest.NodeConfig{}, extra(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}), nil, []string{"foreign.certificate"}},
		{"two reports", attestationtest.NodeConfig{}, func(c *x509.Certificate, rd *[64]byte) {
			old(c, rd)
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidOE, Value: c.ExtraExtensions[0].Value})
		}, nil, []string{"composite.parse"}},
		{"bare quote in the extension", attestationtest.NodeConfig{}, extra(oidOE, false, node(t, attestationtest.NodeConfig{}).EnclaveQuote([64]byte{})), nil, []string{"composite.parse"}},
		{"empty extension", attestationtest.NodeConfig{}, extra(oidOE, false, []byte{}), nil, []string{"composite.parse"}},
		{"debug", attestationtest.NodeConfig{Debug: true}, nil, nil, []string{"policy.debug"}},
		{"no SGX in the policy", attestationtest.NodeConfig{}, nil, func(p *policy.Policy) { p.SGX = nil }, []string{"composite.cpu"}},
		{"GPU demanded", attestationtest.NodeConfig{}, nil, func(p *policy.Policy) { p.Devices.Modes = []string{"single-gpu"} }, []string{"policy.devices.mode"}},
		{"builds listed", attestationtest.NodeConfig{}, nil, func(p *policy.Policy) { p.Workload.Builds = listed() }, []string{"policy.workload.build"}},
	} {
		r := appraiseSGX(t, egoCertificate(t, c.config, false, c.change), attestation.Expected{}, c.policy)
		if got := failing(r); r.Kind != attestation.KindOECertificate || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q\n%v", c.name, r.Kind, got, c.want, r.Err())
		}
	}

	der := egoCertificate(t, attestationtest.NodeConfig{}, false, nil)
	damaged := bytes.Clone(der)
	damaged[len(damaged)-1] ^= 1
	if got := failing(appraiseSGX(t, damaged, attestation.Expected{}, nil)); !slices.Equal(got, []string{"foreign.certificate"}) {
		t.Errorf("another signature: refused by %q", got)
	}
	// Recognised by its report alone: another certificate is no evidence.
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.AddDate(1, 0, 0)}
	plain, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	v := sgxVerifier(t, nil)
	for name, data := range map[string][]byte{
		"cut short":        der[:len(der)-1],
		"without a report": plain,
		"a byte behind it": append(bytes.Clone(der), 0),
		"two":              bytes.Repeat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 2),
	} {
		if _, err := v.AppraiseSaved(now, data, attestation.Expected{}); err == nil {
			t.Errorf("%s: recognised", name)
		}
	}
	for _, want := range []attestation.Expected{{Nonce: make([]byte, 32)}, {ReportData: make([]byte, 64)}} {
		if _, err := v.AppraiseSaved(now, der, want); err == nil {
			t.Errorf("%+v was passed over", want)
		}
	}
}

// A real quote behind a header that is ours: the header changes nothing about what is found.
func TestOEReportOfRealQuote(t *testing.T) {
	quote := vector(t, "quotes/SGX-v3-0d413117f5b51f28.bin")
	v, err := attestation.NewVerifier(realPolicy(t), new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	bare, err := v.AppraiseSaved(at, quote, attestation.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := v.AppraiseSaved(at, oeReport(quote), attestation.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	if c := wrapped.Check(dcap.CheckQuoteSignature); wrapped.Kind != attestation.KindOEReport || c == nil || c.Status != check.Pass {
		t.Errorf("%s: %+v", wrapped.Kind, c)
	}
	for _, c := range bare.Checks {
		if got := wrapped.Check(c.ID); got == nil || *got != c {
			t.Errorf("%s: %+v behind a header, %+v without", c.ID, got, c)
		}
	}
	if len(wrapped.Checks) != len(bare.Checks)+1 {
		t.Errorf("%d checks, %d without the header", len(wrapped.Checks), len(bare.Checks))
	}
}

// Reports and certificates that Open Enclave's own tests carry, made by debug enclaves on real machines in 2019 (testdata/openenclave).
func TestRealOpenEnclave(t *testing.T) {
	p := realPolicy(t)
	p.Devices.Modes = append(p.Devices.Modes, "cpu")
	v, err := attestation.NewVerifier(p, new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	// The root in these chains is not the certificate that Intel publishes today, and all are debug enclaves.
	always := []string{attestation.CheckDebug, dcap.CheckChain}
	for _, c := range []struct {
		file string
		kind attestation.Kind
		want []string // fails as well
	}{
		{"sgx_report_bad.bin", attestation.KindOEReport, nil},
		{"sgx_report_bad_tcb.bin", attestation.KindOEReport, []string{dcap.CheckQuoteSignature}},
		{"sgx_cert_ec_bad_tcb.der", attestation.KindOECertificate, nil},
		{"sgx_cert_ec_bad.der", attestation.KindOECertificate, []string{attestation.CheckCertificate}},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", "openenclave", c.file))
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.AppraiseSaved(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), data, attestation.Expected{})
		if err != nil || r.Kind != c.kind {
			t.Fatalf("%s: %v", c.file, err)
		}
		var got []string
		for _, x := range r.Checks {
			if x.Status == check.Fail {
				got = append(got, x.ID)
			}
		}
		want := slices.Sorted(slices.Values(append(c.want, always...)))
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: refused by %q, want %q\n%v", c.file, got, want, r.Err())
		}
		if x := r.Check(attestation.CheckReportData); c.kind == attestation.KindOECertificate && x.Status != check.Pass {
			t.Errorf("%s: the report is not for its key: %+v", c.file, x)
		}
	}
}

// What is taken for a report has a header that says what follows, and nothing behind.
func FuzzOpenEnclave(f *testing.F) {
	quote := node(f, attestationtest.NodeConfig{}).EnclaveQuote([64]byte{})
	f.Add(oeReport(quote))
	f.Add(oeReport(quote)[:100])
	f.Add(egoCertificate(f, attestationtest.NodeConfig{}, true, nil))
	f.Add(marbleRun(f, attestationtest.NodeConfig{}, 1, nil, nil, nil))
	v := sgxVerifier(f, nil)
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, raw, err := attestation.Recognise(in)
		if err != nil || !slices.Contains([]attestation.Kind{attestation.KindOEReport, attestation.KindOECertificate, attestation.KindMarbleRun}, kind) {
			return
		}
		p, err := attestation.TakeApart(in, nil)
		if err == nil && kind == attestation.KindOEReport && !bytes.Equal(oeReport(p.CPU.Quote), raw) {
			t.Fatal("a report that is not its header and its quote")
		}
		r, appraised := v.AppraiseSaved(now, in, attestation.Expected{})
		if appraised != nil || err != nil && r.Err() == nil {
			t.Fatalf("%v; not to be taken apart (%v), and yet verified", appraised, err)
		}
		if x, err := v.Explain(in, attestation.Expected{}, r); err != nil || len(x) != len(r.Checks) {
			t.Fatalf("%d explanations for %d checks, error %v", len(x), len(r.Checks), err)
		}
	})
}

// marbleRun makes a Coordinator's answer: version 1 or 2 of its API, its quote made for nonce. Change is made before the certificates
// are, alter to the answer.
func marbleRun(t testing.TB, c attestationtest.NodeConfig, version int, nonce []byte, change func(root, intermediate *x509.Certificate), alter func(answer, data map[string]any)) []byte {
	t.Helper()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
	}
	root, intermediate := template(1, "MarbleRun Coordinator"), template(2, "MarbleRun Coordinator - Intermediate CA")
	if change != nil {
		change(root, intermediate)
	}
	create := func(c, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	rootDER := create(root, root, keys[0], keys[0])
	var chain []byte
	for _, der := range [][]byte{create(intermediate, root, keys[1], keys[0]), rootDER} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	digest := sha256.Sum256(append(bytes.Clone(rootDER), nonce...))
	report := oeReport(node(t, c).EnclaveQuote([64]byte(append(digest[:], make([]byte, 32)...))))
	data := map[string]any{"cert": string(chain), "quote": base64.StdEncoding.EncodeToString(report)}
	if version == 1 {
		data = map[string]any{"Cert": data["cert"], "Quote": data["quote"]}
	}
	answer := map[string]any{"status": "success", "data": data}
	if alter != nil {
		alter(answer, data)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMarbleRun(t *testing.T) {
	config := attestationtest.NodeConfig{}
	for _, version := range []int{1, 2} {
		for _, asked := range [][]byte{nil, nonce[:]} {
			r := appraiseSGX(t, marbleRun(t, config, version, asked, nil, nil), attestation.Expected{Nonce: asked}, nil)
			if r.Err() != nil || r.Kind != attestation.KindMarbleRun || r.Check(attestation.CheckReportData).Status != check.Pass || len(r.Claims["certificate.root.sha256"]) != 64 {
				t.Errorf("version %d, nonce %x: %s %v", version, asked, r.Kind, r.Err())
			}
		}
	}
	soon := now.Add(time.Minute).Truncate(time.Second)
	r := appraiseSGX(t, marbleRun(t, config, 2, nil, func(_, i *x509.Certificate) { i.NotAfter = soon }, nil), attestation.Expected{}, nil)
	if r.Err() != nil || !r.ValidUntil.Equal(soon) {
		t.Errorf("%v, valid until %v, want %v", r.Err(), r.ValidUntil, soon)
	}
	// Another root under the same quote, and one certificate too many or too few.
	other, otherNonce := marbleRun(t, config, 2, nil, nil, nil), [32]byte{7}
	var o struct {
		Data struct{ Cert, Quote string }
	}
	if err := json.Unmarshal(other, &o); err != nil {
		t.Fatal(err)
	}
	set := func(name string, v any) func(_, d map[string]any) { return func(_, d map[string]any) { d[name] = v } }
	first := func(chain string) string {
		return chain[:strings.Index(chain, "-----END")] + "-----END CERTIFICATE-----\n"
	}
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	for _, c := range []struct {
		name   string
		config attestationtest.NodeConfig
		nonce  []byte
		change func(root, intermediate *x509.Certificate)
		alter  func(answer, data map[string]any)
		policy func(*policy.Policy)
		want   []string
	}{
		{"another request's nonce", config, otherNonce[:], nil, nil, nil, []string{"composite.report_data"}},
		{"made without a nonce", config, nil, nil, set("quote", o.Data.Quote), nil, []string{"composite.report_data"}},
		{"another root", config, nonce[:], nil, set("cert", o.Data.Cert), nil, []string{"composite.report_data"}},
		{"another intermediate", config, nonce[:], nil, func(_, d map[string]any) {
			own := d["cert"].(string)
			d["cert"] = first(o.Data.Cert) + strings.TrimPrefix(own, first(own))
		}, nil, []string{"foreign.certificate"}},
		{"root expired", config, nonce[:], func(r, _ *x509.Certificate) { r.NotAfter = now.Add(-time.Second) }, nil, nil, []string{"foreign.certificate"}},
		{"intermediate expired", config, nonce[:], func(_, i *x509.Certificate) { i.NotAfter = now.Add(-time.Second) }, nil, nil, []string{"foreign.certificate"}},
		{"intermediate not yet in force", config, nonce[:], func(_, i *x509.Certificate) { i.NotBefore = now.Add(time.Second) }, nil, nil, []string{"foreign.certificate"}},
		{"root is no CA", config, nonce[:], func(r, _ *x509.Certificate) { r.IsCA, r.KeyUsage = false, x509.KeyUsageDigitalSignature }, nil, nil, []string{"foreign.certificate"}},
		{"unknown critical extension", config, nonce[:], func(r, _ *x509.Certificate) { r.ExtraExtensions = critical }, nil, nil, []string{"foreign.certificate"}},
		{"unknown critical extension in the intermediate", config, nonce[:], func(_, i *x509.Certificate) { i.ExtraExtensions = critical }, nil, nil, []string{"foreign.certificate"}},
		{"root alone", config, nonce[:], nil, func(_, d map[string]any) {
			d["cert"] = strings.TrimPrefix(d["cert"].(string), first(d["cert"].(string)))
		}, nil, []string{"composite.parse"}},
		{"three certificates", config, nonce[:], nil, func(_, d map[string]any) { d["cert"] = d["cert"].(string) + first(o.Data.Cert) }, nil, []string{"composite.parse"}},
		{"no certificate", config, nonce[:], nil, set("cert", ""), nil, []string{"composite.parse"}},
		{"garbled certificate", config, nonce[:], nil, func(_, d map[string]any) { d["cert"] = strings.Replace(d["cert"].(string), "MII", "MIJ", 1) }, nil, []string{"composite.parse"}},
		{"simulation", config, nonce[:], nil, set("quote", ""), nil, []string{"composite.parse"}},
		{"quote without its header", config, nonce[:], nil, set("quote", base64.StdEncoding.EncodeToString(node(t, config).EnclaveQuote([64]byte{}))), nil, []string{"composite.parse"}},
		{"failure", config, nonce[:], nil, func(a, _ map[string]any) { a["status"] = "error" }, nil, []string{"composite.parse"}},
		{"unknown member", config, nonce[:], nil, set("x", 1), nil, []string{"composite.parse"}},
		{"both cases", config, nonce[:], nil, set("Cert", "x"), nil, []string{"composite.parse"}},
		{"debug", attestationtest.NodeConfig{Debug: true}, nonce[:], nil, nil, nil, []string{"policy.debug"}},
		{"GPU demanded", config, nonce[:], nil, nil, func(p *policy.Policy) { p.Devices.Modes = []string{"single-gpu"} }, []string{"policy.devices.mode"}},
		{"builds listed", config, nonce[:], nil, nil, func(p *policy.Policy) { p.Workload.Builds = listed() }, []string{"policy.workload.build"}},
	} {
		r := appraiseSGX(t, marbleRun(t, c.config, 2, c.nonce, c.change, c.alter), attestation.Expected{Nonce: nonce[:]}, c.policy)
		if got := failing(r); r.Kind != attestation.KindMarbleRun || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q\n%v", c.name, r.Kind, got, c.want, r.Err())
		}
	}
	if got := failing(appraiseSGX(t, marbleRun(t, config, 2, nonce[:], nil, nil), attestation.Expected{}, nil)); !slices.Equal(got, []string{"composite.report_data"}) {
		t.Errorf("a nonce that is not given: refused by %q", got)
	}
	if _, err := sgxVerifier(t, nil).AppraiseSaved(now, other, attestation.Expected{ReportData: make([]byte, 64)}); err == nil {
		t.Error("report data was passed over")
	}
}
