package attestation_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// explained fails the test when a check that passed or failed has no bytes behind it. It returns the excerpts by check.
func explained(t *testing.T, v *attestation.Verifier, at time.Time, data []byte, want attestation.Expected) map[string][]attestation.Excerpt {
	t.Helper()
	r, err := v.AppraiseSaved(at, data, want)
	if err != nil {
		t.Fatal(err)
	}
	excerpts, err := v.Explain(data, want, r)
	if err != nil {
		t.Fatal(err)
	}
	if len(excerpts) != len(r.Checks) {
		t.Fatalf("%d explanations for %d checks", len(excerpts), len(r.Checks))
	}
	by := map[string][]attestation.Excerpt{}
	for i, c := range r.Checks {
		by[c.ID] = excerpts[i]
		if len(excerpts[i]) == 0 && c.Status != check.Skip && c.ID != attestation.CheckPolicyExpiry {
			t.Errorf("%s: nothing behind %s %s", r.Kind, c.Status, c.ID)
		}
		for _, e := range excerpts[i] {
			if e.Name == "" || e.In == "" || len(e.Bytes) == 0 {
				t.Errorf("%s: %s rests on %+v", r.Kind, c.ID, e)
			}
		}
	}
	return by
}

// Every check of every kind of evidence has bytes behind it, and testdata/explain.txt says which: what is added to it or taken from it
// is to be read.
func TestExplain(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
	v := verifier(t, attestationtest.CollateralOptions{OCSP: []*attestationtest.Node{n}}, func(p *policy.Policy) { anyRegisters(p); anyHostData(p); acceptEnclaves(p) })
	log, registers := dstackEvents(t, nil)
	events, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	epoch := attestation.Epoch{Seqno: 7}
	answer, err := n.Collect(t.Context(), epoch.Nonce(), encodeKeyset(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	devices := n.Devices(nonce)
	asked := attestation.Expected{Nonce: nonce[:]}
	quote := node(t, attestationtest.NodeConfig{QuoteVersion: 5, RTMR: registers}).Quote([64]byte{2})
	documents := foreignDocuments(t)
	type document struct {
		name string
		data []byte
		want attestation.Expected
	}
	list := []document{
		{"evidence of a node, as a host answers for an epoch", epoch.AppendEncoded(nil), attestation.Expected{}},
		{"evidence, SEV-SNP", collect(t, attestationtest.NodeConfig{SNP: true}), asked},
		{"TDX quote with its log", quote, attestation.Expected{EventLog: events, ReportData: make([]byte, 64)}},
		{"SGX quote", enclaveQuote(node(t, attestationtest.NodeConfig{}).Quote([64]byte{})), attestation.Expected{}},
		{"SEV-SNP report without its key", node(t, attestationtest.NodeConfig{SNP: true, Name: "unknown"}).SNPReport([64]byte{}), attestation.Expected{}},
		{"GPU report", devices[0].Report, attestation.Expected{Nonce: nonce[:], Certificates: devices[0].Certificates}},
		{"switch report", devices[2].Report, attestation.Expected{Nonce: nonce[:], Certificates: devices[2].Certificates}},
		{"switches alone", nvidiaList(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}, func(l []listItem) []listItem { return l[2:] }), asked},
	}
	list[0].data = append(list[0].data, answer...)
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		list = append(list, document{name, documents[name], attestation.Expected{}})
	}
	var b strings.Builder
	for _, d := range list {
		r, err := v.AppraiseSaved(now, d.data, d.want)
		if err != nil {
			t.Fatal(d.name, err)
		}
		by := explained(t, v, now, d.data, d.want)
		fmt.Fprintf(&b, "== %s\n", d.name)
		for _, c := range r.Checks {
			_, foreign := documents[d.name]
			if strings.HasPrefix(c.ID, "gpu1.") || foreign && !regexp.MustCompile(`^(composite|foreign|eventlog|policy\.devices)`).MatchString(c.ID) {
				continue // as above
			}
			fmt.Fprintf(&b, "%s %s", c.Status, c.ID)
			measurements, in := 0, ""
			for _, e := range by[c.ID] {
				if strings.HasPrefix(e.Name, "measurement ") {
					measurements++
					continue
				}
				if in != e.In {
					fmt.Fprintf(&b, " | %s:", regexp.MustCompile(`[0-9a-f]{40,}`).ReplaceAllString(e.In, "..."))
					in = e.In
				}
				fmt.Fprintf(&b, " %s", e.Name)
				if e.Offset >= 0 && e.In != "document" && e.Name != "all of it" {
					fmt.Fprintf(&b, " at %#x", e.Offset)
				}
				b.WriteString(",")
			}
			if measurements > 0 {
				fmt.Fprintf(&b, " %d measurements", measurements)
			}
			b.WriteString("\n")
		}
	}
	golden, err := os.ReadFile("testdata/explain.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(golden) {
		file := filepath.Join(t.ArtifactDir(), "explain.txt")
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Errorf("checks rest on other bytes than testdata/explain.txt says; see %s (go test -artifacts keeps it)", file)
	}
}

// What cannot be read is shown as far as it can be.
func TestExplainBroken(t *testing.T) {
	v := verifier(t, attestationtest.CollateralOptions{}, nil)
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	devices := n.Devices(nonce)
	cut := func(doc []byte, part []byte) []byte {
		return bytes.Replace(doc, []byte(base64.StdEncoding.EncodeToString(part)), []byte(base64.StdEncoding.EncodeToString(part[:60])), 1)
	}
	evidence := collect(t, attestationtest.NodeConfig{GPUs: 1})
	e, err := attestation.ParseEvidence(evidence)
	if err != nil {
		t.Fatal(err)
	}
	amd := collect(t, attestationtest.NodeConfig{SNP: true})
	a, err := attestation.ParseEvidence(amd)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data         []byte
		certificates []byte
		check        string // that fails, and shows what it could not read
	}{
		"quote":                {n.Quote([64]byte{})[:100], nil, dcap.CheckParse},
		"GPU report":           {devices[0].Report[:60], devices[0].Certificates, nvidia.CheckParse},
		"certificates":         {devices[0].Report, []byte("c"), nvidia.CheckChain},
		"document":             {bytes.Replace(evidence, []byte(`"version":1`), []byte(`"version":2`), 1), nil, attestation.CheckParse},
		"document's quote":     {cut(evidence, e.CPU.Quote), nil, dcap.CheckParse},
		"document's device":    {cut(evidence, e.Devices[0].Report), nil, "gpu0." + nvidia.CheckParse},
		"document's report":    {cut(amd, a.CPU.Quote), nil, snp.CheckParse},
		"report's key":         {a.CPU.Quote, []byte("c"), snp.CheckChain},
		"Tinfoil":              {tinfoil(t, attestationtest.NodeConfig{}, func(d map[string]any) { delete(d, "challenge") }), nil, attestation.CheckParse},
		"dstack":               {[]byte(`{"quote":"00","event_log":"[]"}`), nil, attestation.CheckParse},
		"NEAR":                 {[]byte(`{"near_p2p_public_key":""}`), nil, attestation.CheckParse},
		"Cocoon":               {bytes.Repeat(cocoon(t, attestationtest.NodeConfig{}, nil), 2), nil, attestation.CheckParse},
		"list":                 {nvidiaList(t, attestationtest.NodeConfig{GPUs: 1}, func(l []listItem) []listItem { l[0]["arch"] = "x"; return l }), nil, attestation.CheckParse},
		"epoch of no evidence": {append(attestation.Epoch{}.AppendEncoded(nil), bytes.Replace(evidence, []byte(`"version":1`), []byte(`"version":2`), 1)...), nil, attestation.CheckParse},
	} {
		by := explained(t, v, now, c.data, attestation.Expected{Certificates: c.certificates})
		if len(by[c.check]) == 0 {
			t.Errorf("%s: nothing behind %s", name, c.check)
		}
	}
	if _, err := v.Explain([]byte("x"), attestation.Expected{}, new(attestation.Result)); err == nil {
		t.Error("explained what is no evidence")
	}
}

// The offsets are right: an excerpt is where it says, and is the field that it names.
func TestExplainOffsets(t *testing.T) {
	raw := node(t, attestationtest.NodeConfig{}).Quote([64]byte{2})
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	by := explained(t, verifier(t, attestationtest.CollateralOptions{}, nil), now, raw, attestation.Expected{})
	fields := map[string][]byte{"MRTD": q.TD.MRTD[:], "RTMR0": q.TD.RTMR[0][:], "RTMR3": q.TD.RTMR[3][:], "MRCONFIGID": q.TD.MRCONFIGID[:],
		"MROWNER": q.TD.MROWNER[:], "MROWNERCONFIG": q.TD.MROWNERCONFIG[:], "MRSEAM": q.TD.MRSEAM[:], "TEE_TCB_SVN": q.TD.TEETCBSVN[:]}
	found := 0
	for id, excerpts := range by {
		for _, e := range excerpts {
			if e.In != "quote" {
				continue
			}
			if e.Offset >= 0 && !bytes.Equal(q.Raw[e.Offset:e.Offset+len(e.Bytes)], e.Bytes) {
				t.Errorf("%s: %s is not at %d", id, e.Name, e.Offset)
			}
			if want := fields[e.Name]; want != nil {
				found++
				if !bytes.Equal(e.Bytes, want) {
					t.Errorf("%s: %s is %x, want %x", id, e.Name, e.Bytes, want)
				}
			}
		}
	}
	if found < len(fields) {
		t.Errorf("%d of %d fields", found, len(fields))
	}
	if !slices.ContainsFunc(by[attestation.CheckDebug], func(e attestation.Excerpt) bool {
		return e.Name == "TDATTRIBUTES" && len(e.Bytes) == 8 && e.Bytes[3] == 0x10
	}) {
		t.Errorf("%s rests on %+v", attestation.CheckDebug, by[attestation.CheckDebug])
	}
}

// The real documents of others, and real bare evidence of every kind.
func TestExplainReal(t *testing.T) {
	p := realPolicy(t)
	p.Devices.Modes = []string{"cpu", "single-gpu", "multi-gpu"}
	open := policy.Allowed{AnyUnsafe: true}
	p.Workload = policy.Workload{Builds: open, Configs: open, Models: open}
	bundle, err := collateral.New(vector(t, "near-mpc/crates__test-utils__assets__collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(p, bundle)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 8, 13, 11, 45, 38, 0, time.UTC)
	for _, name := range []string{
		"dstack/dstack__verifier__fixtures__quote-report.json", "near-mpc/crates__test-utils__assets__public_data.json",
		"quotes/SGX-v3-0d413117f5b51f28.bin", "quotes/TDX-v4-48cf141d027646f9.bin", "quotes/TDX-v5-2818453bae1eddb0.bin",
		"snp/85da705e19cd.bin", "snp/120d77b213c8.bin",
	} {
		t.Run(name, func(t *testing.T) { explained(t, v, at, vector(t, name), attestation.Expected{}) })
	}
}
