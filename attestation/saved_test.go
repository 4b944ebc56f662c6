package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// What a policy demands of devices and workload, a bare quote cannot show: the
// result says so.
func TestBareShowsWhatItCannotSay(t *testing.T) {
	workload := []string{attestation.CheckBuild, attestation.CheckConfig, attestation.CheckModel}
	listed := func(p *policy.Policy) {
		one := policy.Allowed{Allow: []policy.Named{{Name: "one", Reason: "the test's", Digest: [32]byte{1}}}}
		p.Workload = policy.Workload{Builds: one, Configs: one, Models: one}
		p.Devices.Modes = slices.DeleteFunc(p.Devices.Modes, func(m string) bool { return m == "cpu" })
	}
	open := func(p *policy.Policy) {
		anything := policy.Allowed{AnyUnsafe: true, Allow: []policy.Named{}}
		p.Workload = policy.Workload{Builds: anything, Configs: anything, Models: anything}
	}
	snp := node(t, attestationtest.NodeConfig{SNP: true})
	for name, x := range map[string]struct {
		change func(*policy.Policy)
		data   []byte
		want   []string
	}{
		"quote, open":    {open, node(t, attestationtest.NodeConfig{}).Quote([64]byte{}), nil},
		"quote, listed":  {listed, node(t, attestationtest.NodeConfig{}).Quote([64]byte{}), append([]string{attestation.CheckMode}, workload...)},
		"report, listed": {listed, snp.SNPReport([64]byte{}), append([]string{attestation.CheckMode}, workload...)},
	} {
		r, err := verifier(t, attestationtest.CollateralOptions{}, x.change).AppraiseSaved(now, x.data, attestation.Expected{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var skipped []string
		for _, c := range r.Checks {
			if c.Status == check.Skip && (c.ID == attestation.CheckMode || slices.Contains(workload, c.ID)) {
				skipped = append(skipped, c.ID)
			}
		}
		if !slices.Equal(skipped, x.want) {
			t.Errorf("%s: skipped %v, want %v", name, skipped, x.want)
		}
	}
}

// What the policy has no rules for is refused, and what makes no sense is an error.
func TestSavedRefusals(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
	devices := n.Devices(nonce)
	gpu, nvswitch := devices[0], devices[2]
	quote := n.Quote([64]byte{})
	single := func(p *policy.Policy) { p.Devices.Modes, p.Devices.Switch = []string{"cpu", "single-gpu"}, nil }
	for _, c := range []struct {
		name   string
		data   []byte
		chain  []byte
		policy func(*policy.Policy)
		want   []string
	}{
		{"GPU report", gpu.Report, gpu.Certificates, nil, nil},
		{"switch report", nvswitch.Report, nvswitch.Certificates, nil, nil},
		{"GPU report without a root", gpu.Report, gpu.Certificates, withoutDevices, []string{attestation.CheckMode}},
		{"GPU report without rules for switches", gpu.Report, gpu.Certificates, single, nil},
		{"GPU report, rules without a root", gpu.Report, gpu.Certificates, func(p *policy.Policy) {
			p.Devices.Modes, p.Roots.NVIDIADevice, p.Roots.NVIDIARIM = []string{"cpu"}, []policy.Hash{}, []policy.Hash{}
		}, []string{attestation.CheckMode}},
		{"switch report without rules for GPUs", nvswitch.Report, nvswitch.Certificates, func(p *policy.Policy) { p.Devices.Modes, p.Devices.GPU = []string{"cpu"}, nil }, nil},
		{"switch report without rules", nvswitch.Report, nvswitch.Certificates, single, []string{attestation.CheckMode}},
		{"GPU report without rules", gpu.Report, gpu.Certificates, func(p *policy.Policy) { p.Devices = policy.Devices{Modes: []string{"cpu"}} }, []string{attestation.CheckMode}},
		{"list of GPUs without rules", nvidiaList(t, attestationtest.NodeConfig{GPUs: 1}, nil), nil, func(p *policy.Policy) { p.Devices = policy.Devices{Modes: []string{"cpu"}} }, []string{attestation.CheckMode}},
		{"list of switches without rules", nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, func(l []listItem) []listItem { return l[2:] }), nil, single, []string{attestation.CheckMode}},
		{"list of switches", nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, func(l []listItem) []listItem { return l[2:] }), nil, nil, nil},
		{"quote cut short", quote[:len(quote)-1], nil, nil, []string{"dcap.parse"}},
		{"SGX quote where none is accepted", enclaveQuote(quote), nil, nil, []string{attestation.CheckCPU}},
		{"TDX quote where SGX is accepted", quote, nil, func(p *policy.Policy) { acceptEnclaves(p); p.TDX = nil }, []string{attestation.CheckCPU}},
	} {
		r := appraiseSaved(t, c.data, attestation.Expected{Certificates: c.chain}, c.policy)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q", c.name, r.Kind, got, c.want)
		}
	}
	r := appraiseSaved(t, enclaveQuote(quote), attestation.Expected{}, func(p *policy.Policy) { acceptEnclaves(p); p.TDX = nil })
	if c := r.Check(attestation.CheckCPU); c.Status != check.Pass || r.Claims["sgx.mrenclave"] == "" || r.Claims["sgx.isvsvn"] == "" {
		t.Errorf("SGX quote where SGX alone is accepted: %+v", c)
	}
	v := verifier(t, attestationtest.CollateralOptions{}, nil)
	for _, size := range []int{31, 33} {
		if _, err := v.AppraiseSaved(now, gpu.Report, attestation.Expected{Nonce: make([]byte, size)}); err == nil {
			t.Errorf("a nonce of %d bytes", size)
		}
		if _, err := v.AppraiseSaved(now, quote, attestation.Expected{ReportData: make([]byte, 2*size)}); err == nil {
			t.Errorf("report data of %d bytes", 2*size)
		}
	}
	if _, _, err := attestation.Recognise(make([]byte, attestation.MaxInput+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Error(err)
	}
	for want, data := range map[attestation.Kind][]byte{attestation.KindGPUReport: gpu.Report, attestation.KindSwitchReport: nvswitch.Report} {
		if kind, _, err := attestation.Recognise(data); kind != want {
			t.Errorf("%s, %v, want %s", kind, err, want)
		}
	}
	if _, err := attestation.NewVerifier(nil, new(collateral.Bundle)); err == nil {
		t.Error("a verifier without a policy")
	}
	if _, err := attestation.NewVerifier(auth.Policy(now), nil); err == nil {
		t.Error("a verifier without collateral")
	}
	if _, err := attestation.NewVerifier(auth.Policy(now), new(collateral.Bundle)); err == nil || !strings.Contains(err.Error(), "lacks the root certificate") {
		t.Errorf("a verifier without its roots: %v", err)
	}
}

// Each kind is told by its own first bytes and length; a byte beside them is not evidence.
func TestRecogniseBounds(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	with := func(b []byte, at int, v byte) []byte { b = bytes.Clone(b); b[at] = v; return b }
	quote, gpu, snp := n.Quote([64]byte{}), n.Devices(nonce)[0].Report, node(t, attestationtest.NodeConfig{SNP: true}).SNPReport([64]byte{})
	sgx3 := with(with(quote, 0, 3), 4, 0)
	wrapped := pem.EncodeToMemory(&pem.Block{Type: "QUOTE", Bytes: quote})
	document := collect(t, attestationtest.NodeConfig{})
	large := append(bytes.Clone(document), bytes.Repeat([]byte(" "), attestation.MaxEvidence+1-len(document))...)
	for name, c := range map[string]struct {
		data []byte
		want attestation.Kind
	}{
		"quote's header":                        {quote[:48], attestation.KindTDXQuote},
		"less than that":                        {quote[:47], ""},
		"quote of version 2":                    {with(quote, 0, 2), ""},
		"quote of version 5":                    {with(quote, 0, 5), attestation.KindTDXQuote},
		"quote of version 6":                    {with(quote, 0, 6), ""},
		"quote of version 260":                  {with(quote, 1, 1), ""},
		"quote with a P-384 key":                {with(quote, 2, 3), ""},
		"SGX":                                   {with(quote, 4, 0), attestation.KindSGXQuote},
		"another TEE":                           {with(quote, 4, 1), ""},
		"version 3":                             {sgx3, attestation.KindSGXQuote},
		"version 3 with something reserved set": {with(sgx3, 5, 1), attestation.KindSGXQuote}, // which the parser judges
		"report of version 1":                   {with(snp, 0, 1), ""},
		"report of version 2":                   {with(snp, 0, 2), attestation.KindSNPReport},
		"report of version 5":                   {with(snp, 0, 5), attestation.KindSNPReport},
		"report of version 6":                   {with(snp, 0, 6), ""},
		"report and a byte":                     {append(bytes.Clone(snp), 0), ""},
		"SPDM 1.2":                              {with(gpu, 0, 0x12), ""},
		"SPDM GET_DIGESTS":                      {with(gpu, 1, 0x81), ""},
		"request without an answer":             {gpu[:37], ""},
		"request and a byte":                    {gpu[:38], attestation.KindGPUReport},
		"GPU report, garbled":                   {with(gpu, 40, 0xff), attestation.KindGPUReport},
		"PEM":                                   {append(wrapped, " \n"...), attestation.KindTDXQuote},
		"PEM with something behind it":          {append(bytes.Clone(wrapped), 'x'), ""},
		"two of them":                           {append(bytes.Clone(wrapped), wrapped...), ""},
		"document":                              {append(bytes.Clone(document), ' '), attestation.KindEvidence},
		"largest document":                      {large[:attestation.MaxEvidence], attestation.KindEvidence},
		"larger document":                       {large, ""},
		"document without a CPU":                {[]byte(`{"keyset":1}`), ""},
		"document without keys":                 {[]byte(`{"cpu":1}`), ""},
		"list of documents":                     {[]byte(`[{"cpu":1,"keyset":1}]`), ""},
		"document cut short":                    {[]byte(`{"cpu":1,"keyset":1`), ""},
		"as much as is looked at":               {make([]byte, attestation.MaxInput), ""},
	} {
		kind, _, err := attestation.Recognise(c.data)
		if kind != c.want || (err == nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), "not evidence") {
			t.Errorf("%s: %q, %v, want %q", name, kind, err, c.want)
		}
	}
}

// A rejection names its first three reasons and counts the others, and is for want of collateral, or for old collateral, only if that
// alone stands in the way.
func TestRejectedError(t *testing.T) {
	many := appraiseSaved(t, collect(t, attestationtest.NodeConfig{GPUs: 1, Debug: true, Platform: attestationtest.OutOfDate, Image: "other"}), attestation.Expected{Nonce: make([]byte, 32)}, nil)
	err := many.Err()
	if got := failing(many); len(got) < 4 || strings.Count(err.Error(), "; ") != 3 || !strings.HasSuffix(err.Error(), fmt.Sprintf("; and %d more", len(got)-3)) ||
		!strings.HasPrefix(err.Error(), "attestation: rejected: "+got[0]+": ") {
		t.Errorf("%d: %v", len(got), err)
	}
	if errors.Is(err, check.ErrMissing) || errors.Is(err, check.ErrStale) {
		t.Errorf("debug is for want of collateral: %v", err)
	}
	empty := new(attestation.Result)
	if err := empty.Err(); err == nil || err.Error() != "attestation: not appraised" || errors.Is(err, check.ErrMissing) || errors.Is(err, check.ErrStale) {
		t.Errorf("%v", err)
	}
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	roots, err := collateral.New(e.IntelRoot, e.AMDRoot, e.DeviceRoot, e.RIMRoot)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(auth.Policy(now), roots)
	if err != nil {
		t.Fatal(err)
	}
	missing := v.Appraise(now, collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}), nonce)
	stale, err := verifier(t, attestationtest.CollateralOptions{}, nil).AppraiseSaved(now.Add(attestationtest.Lifetime), node(t, attestationtest.NodeConfig{}).Quote([64]byte{}), attestation.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r       *attestation.Result
		is, not error
		what    []string
	}{"missing": {missing, check.ErrMissing, check.ErrStale, missing.Missing}, "stale": {stale, check.ErrStale, check.ErrMissing, stale.Stale}} {
		err := c.r.Err()
		if !errors.Is(err, c.is) || errors.Is(err, c.not) || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		if what := slices.Compact(slices.Sorted(slices.Values(c.what))); len(what) == 0 || len(what) != len(c.what) {
			t.Errorf("%s: %q", name, c.what)
		}
	}
}

// A result ends with the first of what it rests on, and says what it claims of the evidence.
func TestValidUntil(t *testing.T) {
	forever := func(p *policy.Policy) { p.MaxAge = 1 << 30; p.NotAfter = now.AddDate(20, 0, 0) }
	end := now.Add(attestationtest.Lifetime - time.Hour) // of collateral
	n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
	gpu := n.Devices(nonce)[0]
	parts, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data   []byte
		want   attestation.Expected
		claims map[string]string
	}{
		"TDX": {n.Quote([64]byte{}), attestation.Expected{}, map[string]string{"cpu.kind": "TDX", "image": "mock image", "quote.version": "4", "tdx.xfam": "0000000000061ae7", "tdx.mrservicetd": "",
			"platform.fmspc": "70a06d070000", "platform.ppid": fmt.Sprintf("%x", n.Identity()), "platform.ca": "Intel SGX PCK Platform CA", "tcb.platform": "UpToDate", "tcb.module": "UpToDate", "tcb.qe": "UpToDate"}},
		"TDX 1.5": {node(t, attestationtest.NodeConfig{QuoteVersion: 5}).Quote([64]byte{}), attestation.Expected{}, map[string]string{"quote.version": "5", "tdx.mrservicetd": strings.Repeat("00", 48),
			"tdx.mrtd": fmt.Sprintf("%x", auth.Image("").MRTD)}},
		"SEV-SNP": {parts.CPU.Quote, attestation.Expected{Certificates: parts.CPU.Certificates}, map[string]string{"cpu.kind": "SEV-SNP", "image": "mock image",
			"snp.product": "Genoa", "snp.key": "VCEK", "snp.measurement": fmt.Sprintf("%x", auth.Image("").MRTD), "snp.version": "3", "snp.policy": "0x30100", "snp.vmpl": "0"}},
		"GPU": {gpu.Report, attestation.Expected{Certificates: gpu.Certificates}, map[string]string{"driver": attestationtest.DriverVersion, "vbios": attestationtest.VBIOSVersion, "model": "GH100"}},
	} {
		v := verifier(t, attestationtest.CollateralOptions{OCSP: []*attestationtest.Node{n}}, func(p *policy.Policy) { forever(p); requireOCSP(p) })
		r, err := v.AppraiseSaved(now, c.data, c.want)
		if err != nil || r.Err() != nil {
			t.Fatal(name, err, r.Err())
		}
		// Nor longer than the policy lets any result hold.
		v = verifier(t, attestationtest.CollateralOptions{}, nil)
		if r, err := v.AppraiseSaved(now, c.data, c.want); err != nil || !r.ValidUntil.Equal(now.Add(time.Hour)) {
			t.Errorf("%s: %v, valid until %v, the policy allows an hour", name, err, r.ValidUntil)
		}
		if name != "GPU" && !r.ValidUntil.Equal(end) || name == "GPU" && !r.ValidUntil.Before(end) { // an OCSP answer is younger than its signer
			t.Errorf("%s: valid until %v, collateral until %v", name, r.ValidUntil, end)
		}
		for k, want := range c.claims {
			if r.Claims[k] != want {
				t.Errorf("%s: claims %s %q, want %q", name, k, r.Claims[k], want)
			}
		}
	}
}

// Every kind comes in every encoding, and the verdict is that of the bytes.
func TestEncodings(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	device := n.Devices(nonce)[0]
	amd, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true}))
	if err != nil {
		t.Fatal(err)
	}
	wrap := func(s string) string {
		var b strings.Builder
		for i := 0; i < len(s); i += 64 {
			b.WriteString(s[i:min(i+64, len(s))] + "\r\n")
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		data []byte
		want attestation.Expected
	}{
		"evidence":       {collect(t, attestationtest.NodeConfig{GPUs: 1}), attestation.Expected{Nonce: nonce[:]}},
		"evidence, old":  {collect(t, attestationtest.NodeConfig{GPUs: 1}), attestation.Expected{}},
		"quote":          {n.Quote([64]byte{1}), attestation.Expected{}},
		"SEV-SNP report": {amd.CPU.Quote, attestation.Expected{Certificates: amd.CPU.Certificates}},
		"GPU report":     {device.Report, attestation.Expected{Certificates: device.Certificates}},
		"dstack":         {dstackV1TDX(t, attestationtest.NodeConfig{}, nil, "dstack"), attestation.Expected{}},
	} {
		for encoding, encoded := range map[string]string{
			"raw":             string(c.data),
			"hexadecimal":     hex.EncodeToString(c.data),
			"with 0x":         "0x" + hex.EncodeToString(c.data) + "\n",
			"in capitals":     strings.ToUpper(hex.EncodeToString(c.data)),
			"in lines":        wrap(hex.EncodeToString(c.data)),
			"base64":          base64.StdEncoding.EncodeToString(c.data),
			"base64 in lines": wrap(base64.StdEncoding.EncodeToString(c.data)),
			"PEM":             "\n" + string(pem.EncodeToMemory(&pem.Block{Type: "EVIDENCE", Bytes: c.data})) + "\n",
		} {
			r := appraiseSaved(t, []byte(encoded), c.want, anyRegisters)
			if err := r.Err(); err != nil || r.EvidenceDigest != sha256.Sum256(c.data) {
				t.Errorf("%s, %s: %v, digest of other bytes: %v", name, encoding, err, r.EvidenceDigest != sha256.Sum256(c.data))
			}
		}
	}
}

// Who gives no nonce does without that check alone.
func TestReportWithoutNonce(t *testing.T) {
	device := node(t, attestationtest.NodeConfig{GPUs: 1}).Devices(nonce)[0]
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	e.RIMs = nil
	b, err := collateral.New(e.Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(auth.Policy(now), b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.AppraiseSaved(now, device.Report, attestation.Expected{Certificates: device.Certificates})
	if err != nil || !errors.Is(r.Err(), check.ErrMissing) || r.Check(nvidia.CheckNonce).Required || !r.Check(nvidia.CheckMeasurements).Required {
		t.Errorf("%v, %v", err, r.Err())
	}
}
