package attestation_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// vector reads a file of real evidence, which is kept outside the repository.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "shared", "vectors", filepath.FromSlash(name)))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the real evidence is not here (%s)", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// realPolicy pins the production roots and leaves open what real evidence of strangers cannot meet: which image runs.
func realPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	p := policy.Example()
	any48, any32 := policy.Want{Any: true}, policy.Want32{Any: true}
	p.NotAfter = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	p.TDX.TCB.MinEvaluation, p.TDX.TCB.MinDate = 1, time.Unix(0, 0).UTC()
	p.TDX.Images = []policy.TDImage{{Name: "any", Reason: "test", MRTD: any48, RTMR: []policy.Want{any48, any48, any48, any48},
		MRCONFIGID: any48, MROWNER: any48, MROWNERCONFIG: any48}}
	p.SGX = &policy.SGX{TCB: p.TDX.TCB}
	for id := range uint16(4) {
		p.SGX.Enclaves = append(p.SGX.Enclaves, policy.SGXEnclave{Name: "any", Reason: "test", MRENCLAVE: any32, MRSIGNER: any32, ISVProdID: id})
	}
	p.SNP.Images = []policy.SNPImage{{Name: "any", Reason: "test", Measurement: any48, HostData: any32, IDKeyDigest: any48, AuthorKeyDigest: any48}}
	p.SNP.MinTCB = map[string]policy.SNPTCB{"Milan": {}, "Genoa": {}, "Turin": {}}
	p.SNP.Keys, p.SNP.RequireAliasCheck = []string{"VCEK", "VLEK"}, false
	p.Hardware.CPU = policy.SkipUnsafe
	p.Devices.GPU.OCSP, p.Devices.Switch.OCSP = policy.SkipUnsafe, policy.SkipUnsafe
	return p
}

// A bare quote with nothing but TCB info and QE identity beside it must come out with Intel's word, though the missing
// CRLs reject it.
func TestRealQuotes(t *testing.T) {
	var quotes []struct {
		File       string
		Debug      bool
		Signature  string
		Appraisals []struct {
			At, TcbInfo, QeIdentity, Overall string
			Advisories                       []string
		}
	}
	if err := json.Unmarshal(vector(t, "quotes/expected.json"), &quotes); err != nil {
		t.Fatal(err)
	}
	noSeptVE := map[string]bool{"quotes/TDX-v4-6dde5548bec99147.bin": true, "quotes/TDX-v4-991b8722ae19fd8d.bin": true, "quotes/TDX-v4-df0e703df2203aa4.bin": true}
	appraisals, debug := 0, 0
	for _, q := range quotes {
		raw := vector(t, q.File)
		for _, a := range q.Appraisals {
			appraisals++
			at, err := time.Parse(time.RFC3339, a.At)
			if err != nil {
				t.Fatal(err)
			}
			b, err := collateral.New(vector(t, a.TcbInfo), vector(t, a.QeIdentity))
			if err != nil {
				t.Fatalf("%s: %v", q.File, err)
			}
			v, err := attestation.NewVerifier(realPolicy(t), b)
			if err != nil {
				t.Fatal(err)
			}
			r, err := v.AppraiseSaved(at, raw, attestation.Expected{})
			if err != nil {
				t.Fatal(err)
			}
			if r.TCBStatus != a.Overall {
				t.Errorf("%s at %s: TCB status %q, want %q\n%v", q.File, a.At, r.TCBStatus, a.Overall, r.Err())
			}
			slices.Sort(a.Advisories)
			a.Advisories = slices.Compact(a.Advisories)
			if !slices.Equal(r.Advisories, a.Advisories) {
				t.Errorf("%s: advisories %v, want %v", q.File, r.Advisories, a.Advisories)
			}
			// Azure's TDs leave SEPT_VE_DISABLE clear; one module of 2023 does, too.
			if c := r.Check("policy.attributes"); c != nil && (c.Status == check.Fail) != noSeptVE[q.File] {
				t.Errorf("%s: attributes check %+v", q.File, c)
			}
			if c := r.Check("policy.debug"); c == nil || (c.Status == check.Fail) != q.Debug {
				t.Errorf("%s: debug check %+v, want debug %v", q.File, c, q.Debug)
			}
		}
		// Without any collateral it is refused, and when nothing else is wrong the refusal says what to fetch.
		v, err := attestation.NewVerifier(realPolicy(t), new(collateral.Bundle))
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.AppraiseSaved(time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC), raw, attestation.Expected{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Err() == nil {
			t.Errorf("%s: verified without collateral", q.File)
		}
		// Debug is refused of every quote that has it, and of no other.
		if c := r.Check("policy.debug"); c == nil || (c.Status == check.Fail) != q.Debug {
			t.Errorf("%s: debug check %+v, want debug %v", q.File, c, q.Debug)
		}
		if q.Debug {
			debug++
		}
		genuine := q.Signature == "ok" && r.Check("dcap.chain.validity").Status == check.Pass
		if c := r.Check("dcap.quote.signature"); genuine && (c == nil || c.Status != check.Pass) {
			t.Errorf("%s: quote signature %+v", q.File, c)
		}
		if c := r.Check("dcap.chain"); q.Signature != "ok" && c != nil && c.Status == check.Pass {
			t.Errorf("%s: the chain of a quote that is %s passed", q.File, q.Signature)
		}
	}
	if len(quotes) != 27 || appraisals != 17 || debug < 3 {
		t.Errorf("%d quotes, %d appraisals, %d of debug; want 27, 17, at least 3", len(quotes), appraisals, debug)
	}
}

// With everything that Intel publishes at the time, a genuine up-to-date quote is verified from end to end.
func TestRealQuoteVerified(t *testing.T) {
	b, err := collateral.New(vector(t, "phala-dcap-qvl/tests__near__contracts__gas-test__tests__quote__quote_collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = collateral.Parse(encoded); err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(realPolicy(t), b)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 9, 2, 8, 41, 59, 0, time.UTC)
	raw := vector(t, "quotes/TDX-v4-eedf1e79778eee0c.bin")
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	rd := q.ReportData()
	// Every encoding of the file gives the same verdict.
	for name, data := range map[string][]byte{
		"raw": raw, "hex": []byte(hex.EncodeToString(raw) + "\n"), "0x": []byte("0x" + hex.EncodeToString(raw)),
		"base64": []byte(base64.StdEncoding.EncodeToString(raw)), "PEM": pem.EncodeToMemory(&pem.Block{Type: "QUOTE", Bytes: raw}),
	} {
		r, err := v.AppraiseSaved(at, data, attestation.Expected{ReportData: rd[:]})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := r.Err(); err != nil || r.TCBStatus != "UpToDate" || r.Kind != attestation.KindTDXQuote {
			t.Errorf("%s: %v %s", name, err, r.TCBStatus)
		}
	}
	rd[0] ^= 1
	r, err := v.AppraiseSaved(at, raw, attestation.Expected{ReportData: rd[:]})
	if err != nil || !slices.Equal(failing(r), []string{"composite.report_data"}) {
		t.Errorf("wrong report data: %v %v", err, failing(r))
	}
	// One year later the collateral has expired.
	r, err = v.AppraiseSaved(at.AddDate(1, 0, 0), raw, attestation.Expected{})
	if err != nil || !slices.Contains(failing(r), "dcap.tcbinfo.validity") {
		t.Errorf("expired collateral: %v %v", err, failing(r))
	}
}

func TestRealSNP(t *testing.T) {
	var reports []struct {
		File           string
		EndorsementKey string `json:"endorsement_key"`
		Signature      string
		Debug          bool `json:"policy_debug"`
		VMPL           int
	}
	if err := json.Unmarshal(vector(t, "snp/expected.json"), &reports); err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(realPolicy(t), new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range reports {
		var chain []byte
		if strings.HasPrefix(c.EndorsementKey, "snp/") {
			chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vector(t, c.EndorsementKey)})
		}
		r, err := v.AppraiseSaved(time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC), vector(t, c.File), attestation.Expected{Certificates: chain})
		if err != nil {
			t.Fatal(err)
		}
		// No CRL is given, so that nothing is verified; what else stands in the way must be what is known of the report.
		var want []string
		if strings.HasPrefix(c.File, "snp/decdab94") {
			want = append(want, "snp.chain.validity") // its VLEK expired on 2025-12-10
		}
		if c.Debug {
			want = append(want, "policy.debug")
		}
		if c.VMPL > 0 {
			want = append(want, "policy.vmpl")
		}
		var fails []string
		for _, k := range r.Checks {
			if k.Status == check.Fail {
				fails = append(fails, k.ID)
			}
		}
		if chain != nil && c.Signature == "ok" && !slices.Equal(fails, want) {
			t.Errorf("%s: failed %v, want %v\n%v", c.File, fails, want, r.Err())
		}
		if r.Err() == nil {
			t.Errorf("%s: verified without a CRL", c.File)
		}
		if len(want) == 0 && c.Signature == "ok" && !errors.Is(r.Err(), check.ErrMissing) {
			t.Errorf("%s: %v, want missing collateral", c.File, r.Err())
		}
	}
}

func TestRealGPUs(t *testing.T) {
	type evidence struct{ Certificate, Evidence, Nonce string }
	var hopper []evidence
	if err := json.Unmarshal(vector(t, "nvidia-attestation-sdk/common-test-data__serialized_test_evidence__hopper_evidence.json"), &hopper); err != nil {
		t.Fatal(err)
	}
	p := realPolicy(t)
	p.Devices.GPU.RIM = policy.SkipUnsafe
	v, err := attestation.NewVerifier(p, new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	at := time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)
	nonce, err := hex.DecodeString(hopper[0].Nonce)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.AppraiseSaved(at, decode(hopper[0].Evidence), attestation.Expected{Nonce: nonce, Certificates: decode(hopper[0].Certificate)})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	nonce[0] ^= 1
	r, err = v.AppraiseSaved(at, decode(hopper[0].Evidence), attestation.Expected{Nonce: nonce, Certificates: decode(hopper[0].Certificate)})
	if err != nil || !slices.Equal(failing(r), []string{"nvidia.nonce"}) {
		t.Errorf("wrong nonce: %v %v", err, failing(r))
	}

	// The one complete set of golden measurements, 21 and 12; one of them does not count while NVDEC0 is disabled.
	const samples = "nvidia-nvtrust/guest_tools__gpu_verifiers__local_gpu_verifier__src__verifier__samples__"
	b, err := collateral.New(vector(t, samples+"Driver_RIM_test_no_gpu.swidtag"), vector(t, samples+"1010_0200_882_96005E0001_test_no_gpu.swidtag"))
	if err != nil {
		t.Fatal(err)
	}
	p = realPolicy(t)
	p.Devices.GPU.Driver, p.Devices.GPU.VBIOS = "545", map[string]policy.Floor{"GH100": "96.00.5E.00.01"}
	if v, err = attestation.NewVerifier(p, b); err != nil {
		t.Fatal(err)
	}
	report := vector(t, "go-nvtrust/pkg__gonvtrust__mocks__attestationReport.txt")
	chain := vector(t, "go-nvtrust/pkg__gonvtrust__mocks__gpuAkCertChain.txt")
	at = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	if r, err = v.AppraiseSaved(at, report, attestation.Expected{Certificates: chain}); err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if c := r.Check("nvidia.measurements"); c == nil || c.Status != check.Pass || c.Seen != "32 match" {
		t.Errorf("measurements: %+v", c)
	}
	if r, err = v.AppraiseSaved(at, report, attestation.Expected{Certificates: vector(t, "go-nvtrust/pkg__gonvtrust__mocks__invalidCertChain.txt")}); err != nil || !slices.Contains(failing(r), "nvidia.chain") {
		t.Errorf("invalid chain: %v %v", err, failing(r))
	}
}
