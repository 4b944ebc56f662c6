package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

func appraiseSaved(t *testing.T, data []byte, want attestation.Expected, change func(*policy.Policy)) *attestation.Result {
	t.Helper()
	r, err := verifier(t, attestationtest.CollateralOptions{}, change).AppraiseSaved(now, data, want)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tinfoil makes a version 3 document as its enclaves do; change is made after the quote.
func tinfoil(t *testing.T, c attestationtest.NodeConfig, change func(doc map[string]any)) []byte {
	t.Helper()
	n := node(t, c)
	items := []any{}
	for i, d := range n.Devices(nonce) {
		items = append(items, map[string]any{"id": "gpu" + string(rune('0'+i)), "kind": "gpu", "vendor": "nvidia",
			"format": "https://tinfoil.sh/format/nvidia-gpu-evidence/v1",
			"evidence": map[string]any{"arch": "HOPPER", "certificate": base64.StdEncoding.EncodeToString(d.Certificates),
				"evidence": base64.StdEncoding.EncodeToString(d.Report), "nonce": hex.EncodeToString(nonce[:])}})
	}
	section := func(format string, items []any) []byte {
		b, err := json.Marshal(map[string]any{"format": format, "items": items})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	keys := section("https://tinfoil.sh/crypto-material/v1", []any{map[string]any{"id": "hpke", "format": "https://tinfoil.sh/key/x25519-hpke/v1", "data": strings.Repeat("ab", 32)}})
	devices := section("https://tinfoil.sh/device-evidence/v1", items)
	kh, dh := sha256.Sum256(keys), sha256.Sum256(devices)
	half := sha256.Sum256(slices.Concat([]byte("https://tinfoil.sh/report-data/v1"), nonce[:], kh[:], dh[:]))
	var rd [64]byte
	copy(rd[:], half[:])
	doc := map[string]any{
		"format":    "https://tinfoil.sh/predicate/attestation/v3",
		"challenge": map[string]any{"nonce": hex.EncodeToString(nonce[:]), "report_data": hex.EncodeToString(rd[:]), "report_data_algorithm": "https://tinfoil.sh/report-data/v1"},
		"cpu_evidence": map[string]any{"format": "https://tinfoil.sh/format/tdx-quote/v1", "report_base64": base64.StdEncoding.EncodeToString(n.Quote(rd)),
			"endorsed": map[string]any{"crypto_material_hash": hex.EncodeToString(kh[:]), "device_evidence_hash": hex.EncodeToString(dh[:])}},
		"crypto_material": base64.StdEncoding.EncodeToString(keys),
		"device_evidence": base64.StdEncoding.EncodeToString(devices),
		"collateral":      []any{map[string]any{"id": "x", "data": map[string]any{"anything": []any{1, nil, "}"}}}},
	}
	if change != nil {
		change(doc)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTinfoil(t *testing.T) {
	r := appraiseSaved(t, tinfoil(t, attestationtest.NodeConfig{GPUs: 1}, nil), attestation.Expected{Nonce: nonce[:]}, nil)
	if err := r.Err(); err != nil || r.Kind != attestation.KindTinfoil || r.Claims["key.hpke"] != strings.Repeat("ab", 32) {
		t.Fatalf("%v %s %v", err, r.Kind, r.Claims)
	}
	other := base64.StdEncoding.EncodeToString([]byte(`{"format":"https://tinfoil.sh/crypto-material/v1","items":[]}`))
	section := func(name, old, new string) func(map[string]any) {
		return func(d map[string]any) {
			raw, _ := base64.StdEncoding.DecodeString(d[name].(string))
			changed := strings.Replace(string(raw), old, new, 1)
			if changed == string(raw) {
				t.Fatalf("%s has no %q", name, old)
			}
			d[name] = base64.StdEncoding.EncodeToString([]byte(changed))
		}
	}
	for _, c := range []struct {
		name   string
		change func(doc map[string]any)
		nonce  [32]byte
		policy func(*policy.Policy)
		want   []string
	}{
		{"replay", nil, [32]byte{7}, nil, []string{"composite.nonce"}},
		{"keys exchanged", func(d map[string]any) { d["crypto_material"] = other }, nonce, nil, []string{"foreign.sections", "composite.report_data"}},
		{"keys exchanged, hash too", func(d map[string]any) {
			d["crypto_material"] = other
			raw, _ := base64.StdEncoding.DecodeString(other)
			h := sha256.Sum256(raw)
			d["cpu_evidence"].(map[string]any)["endorsed"].(map[string]any)["crypto_material_hash"] = hex.EncodeToString(h[:])
		}, nonce, nil, []string{"composite.report_data"}},
		{"stated hash exchanged", func(d map[string]any) {
			d["cpu_evidence"].(map[string]any)["endorsed"].(map[string]any)["crypto_material_hash"] = strings.Repeat("00", 32)
		}, nonce, nil, []string{"foreign.sections"}},
		{"unknown device", func(d map[string]any) {
			d["device_evidence"] = base64.StdEncoding.EncodeToString([]byte(`{"format":"https://tinfoil.sh/device-evidence/v1","items":[{"id":"x","kind":"tpu","vendor":"x","format":"x","evidence":{}}]}`))
		}, nonce, nil, []string{"composite.parse"}},
		{"stated hash of devices exchanged", func(d map[string]any) {
			d["cpu_evidence"].(map[string]any)["endorsed"].(map[string]any)["device_evidence_hash"] = strings.Repeat("00", 32)
		}, nonce, nil, []string{"foreign.sections"}},
		{"another document", func(d map[string]any) { d["format"] = "https://tinfoil.sh/predicate/attestation/v4" }, nonce, nil, nil},
		{"another algorithm", func(d map[string]any) { d["challenge"].(map[string]any)["report_data_algorithm"] = "x" }, nonce, nil, []string{"composite.parse"}},
		{"another CPU", func(d map[string]any) { d["cpu_evidence"].(map[string]any)["format"] = "x" }, nonce, nil, []string{"composite.parse"}},
		{"keys of another format", section("crypto_material", "https://tinfoil.sh/crypto-material/v1", "x"), nonce, nil, []string{"composite.parse"}},
		{"devices of another format", section("device_evidence", "https://tinfoil.sh/device-evidence/v1", "x"), nonce, nil, []string{"composite.parse"}},
		{"device of another kind", section("device_evidence", `"gpu"`, `"tpu"`), nonce, nil, []string{"composite.parse"}},
		{"device of another vendor", section("device_evidence", `"nvidia"`, `"amd"`), nonce, nil, []string{"composite.parse"}},
		{"device in another format", section("device_evidence", "nvidia-gpu-evidence/v1", "nvidia-gpu-evidence/v2"), nonce, nil, []string{"composite.parse"}},
		{"too many devices", func(d map[string]any) {
			raw, _ := base64.StdEncoding.DecodeString(d["device_evidence"].(string))
			var s map[string]any
			json.Unmarshal(raw, &s)
			s["items"] = slices.Repeat(s["items"].([]any), attestation.MaxDevices+1)
			raw, _ = json.Marshal(s)
			d["device_evidence"] = base64.StdEncoding.EncodeToString(raw)
		}, nonce, nil, []string{"composite.parse"}},
		{"unknown member", func(d map[string]any) { d["x"] = 1 }, nonce, nil, []string{"composite.parse"}},
		{"builds listed", nil, nonce, func(p *policy.Policy) { p.Workload.Builds = listed() }, []string{"policy.workload.build"}},
		{"GPU not accepted", nil, nonce, func(p *policy.Policy) { p.Devices.Modes = []string{"cpu"} }, []string{"policy.devices.mode"}},
	} {
		doc := tinfoil(t, attestationtest.NodeConfig{GPUs: 1}, c.change)
		if c.want == nil { // it is not one that is known
			if _, _, err := attestation.Recognise(doc); err == nil {
				t.Errorf("%s: recognised", c.name)
			}
			continue
		}
		r := appraiseSaved(t, doc, attestation.Expected{Nonce: c.nonce[:]}, c.policy)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: refused by %q, want %q\n%v", c.name, got, c.want, r.Err())
		}
	}
}

// withoutDevices makes a policy that knows nothing of NVIDIA, as "cocoon-like" does.
func withoutDevices(p *policy.Policy) {
	p.Devices = policy.Devices{Modes: []string{"cpu"}}
	p.Roots.NVIDIADevice, p.Roots.NVIDIARIM = []policy.Hash{}, []policy.Hash{}
}

// Devices that come under a policy without an NVIDIA root are refused in every document.
func TestDevicesWithoutRoot(t *testing.T) {
	composite := attestationtest.NodeConfig{GPUs: 1}
	for _, c := range []struct {
		name string
		doc  []byte
		want string
	}{
		{"evidence", collect(t, composite), attestation.CheckMode},
		{"tinfoil", tinfoil(t, composite, nil), attestation.CheckMode},
		{"list", nvidiaList(t, composite, nil), nvidia.CheckChain},
	} {
		r := appraiseSaved(t, c.doc, attestation.Expected{Nonce: nonce[:]}, withoutDevices)
		if got := failing(r); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: refused by %q, want %q alone", c.name, got, c.want)
		}
	}
}

// foreignDocuments is one good document of each kind that comes from others, by name, all without devices but for the list.
func foreignDocuments(t *testing.T) map[string][]byte {
	t.Helper()
	log, registers := dstackEvents(t, nil)
	dstack, err := json.Marshal(map[string]any{"quote": hex.EncodeToString(node(t, attestationtest.NodeConfig{RTMR: registers}).Quote([64]byte{1})), "event_log": string(log)})
	if err != nil {
		t.Fatal(err)
	}
	p2p, signer := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	return map[string][]byte{
		"Tinfoil":              tinfoil(t, attestationtest.NodeConfig{}, nil),
		"dstack":               dstack,
		"dstack SCALE":         dstackTDX(t, attestationtest.NodeConfig{}, nil),
		"dstack SCALE SEV-SNP": dstackSNP(t, ""),
		"dstack 1":             dstackV1TDX(t, attestationtest.NodeConfig{}, nil, "dstack"),
		"dstack 1 SEV-SNP":     dstackV1SNP(t, ""),
		"NEAR":                 near(t, p2p, signer, composeFile, nearReportData(p2p, signer)),
		"Cocoon":               cocoon(t, attestationtest.NodeConfig{}, nil),
		"list":                 nvidiaList(t, attestationtest.NodeConfig{GPUs: 1}, nil),
	}
}

// No document passes for what it does not show: devices that the policy demands, or builds, configurations and models that it lists.
func TestForeignShowsAll(t *testing.T) {
	listed := func(p *policy.Policy) {
		open := policy.Allowed{Allow: []policy.Named{{Name: "any", Reason: "test"}}}
		p.Workload = policy.Workload{Builds: open, Configs: open, Models: open}
	}
	withDevices := func(p *policy.Policy) { p.Devices.Modes = []string{"single-gpu"} }
	for name, doc := range foreignDocuments(t) {
		for _, c := range []struct {
			change func(*policy.Policy)
			want   []string
		}{
			{func(*policy.Policy) {}, nil},
			{withDevices, []string{attestation.CheckMode}},
			{listed, []string{attestation.CheckBuild, attestation.CheckConfig, attestation.CheckModel}},
		} {
			if name == "list" { // which speaks of devices alone, and promises nothing of what runs beside them
				c.want = nil
			}
			r := appraiseSaved(t, doc, attestation.Expected{}, func(p *policy.Policy) { anyRegisters(p); anyHostData(p); c.change(p) })
			if got := failing(r); !slices.Equal(got, c.want) {
				t.Errorf("%s: refused by %q, want %q", name, got, c.want)
			}
			if errors.Is(r.Err(), check.ErrMissing) { // no collateral could make up for it
				t.Errorf("%s: %v, for want of collateral", name, r.Err())
			}
		}
	}
}

// What carries a quote or devices is taken apart to them; what is broken is an error, never half of it.
func TestTakeApart(t *testing.T) {
	docs := foreignDocuments(t)
	docs["Tinfoil with GPU"] = tinfoil(t, attestationtest.NodeConfig{GPUs: 1}, nil)
	docs["evidence"] = collect(t, attestationtest.NodeConfig{GPUs: 1})
	devices := map[string]int{"Tinfoil with GPU": 1, "evidence": 1, "list": 1}
	for name, doc := range docs {
		p, err := attestation.TakeApart(doc, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		kind, size := attestation.CPUTDX, 4000 // and more
		if strings.Contains(name, "SEV-SNP") {
			kind, size = attestation.CPUSNP, 1000
		}
		if name == "list" {
			kind, size = "", 0
		}
		if p.CPU.Kind != kind || len(p.CPU.Quote) < size || (len(p.CPU.Certificates) > 0) != (kind == attestation.CPUSNP) || len(p.Devices) != devices[name] {
			t.Errorf("%s: %s of %d bytes, certificates of %d bytes, %d devices", name, p.CPU.Kind, len(p.CPU.Quote), len(p.CPU.Certificates), len(p.Devices))
		}
	}
	replace := func(name, old, with string) []byte {
		b := bytes.Replace(docs[name], []byte(old), []byte(with), 1)
		if bytes.Equal(b, docs[name]) {
			t.Fatalf("%s does not hold %q", name, old)
		}
		return b
	}
	section := func(change func(d map[string]any)) []byte { return tinfoil(t, attestationtest.NodeConfig{}, change) }
	many := func(n int) []byte {
		item := `{"id":"x","kind":"gpu","vendor":"nvidia","format":"https://tinfoil.sh/format/nvidia-gpu-evidence/v1","evidence":{"arch":"HOPPER","certificate":"","evidence":"","nonce":"` + strings.Repeat("00", 32) + `"}}`
		return section(func(d map[string]any) {
			d["device_evidence"] = base64.StdEncoding.EncodeToString([]byte(`{"format":"https://tinfoil.sh/device-evidence/v1","items":[` + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + `]}`))
		})
	}
	if p, err := attestation.TakeApart(many(attestation.MaxDevices), nil); err != nil || len(p.Devices) != attestation.MaxDevices {
		t.Errorf("as many devices as there may be: %v", err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"evidence":                    {append(docs["evidence"], '1'), "not evidence"},
		"evidence of another version": {replace("evidence", `"version":1`, `"version":2`), "version"},
		"Tinfoil":                     {section(func(d map[string]any) { delete(d, "challenge") }), "challenge"},
		"Tinfoil's report data":       {section(func(d map[string]any) { d["challenge"].(map[string]any)["report_data_algorithm"] = "x" }), "unknown format"},
		"Tinfoil's keys":              {section(func(d map[string]any) { d["crypto_material"] = "e30=" }), "crypto_material: "},
		"Tinfoil's keys' format": {section(func(d map[string]any) {
			d["crypto_material"] = base64.StdEncoding.EncodeToString([]byte(`{"format":"x","items":[]}`))
		}), "unknown format"},
		"Tinfoil's devices": {section(func(d map[string]any) { d["device_evidence"] = "e30=" }), "device_evidence: "},
		"Tinfoil's devices' format": {section(func(d map[string]any) {
			d["device_evidence"] = base64.StdEncoding.EncodeToString([]byte(`{"format":"x","items":[]}`))
		}), "unknown format"},
		"Tinfoil's CPU":                {section(func(d map[string]any) { d["cpu_evidence"].(map[string]any)["format"] = "x" }), "unknown format"},
		"Tinfoil's devices in a crowd": {many(attestation.MaxDevices + 1), "33 devices, limit 32"},
		"dstack":                       {replace("dstack", `"quote":"0400`, `"quote":"0900`), "version"},
		"dstack SCALE":                 {docs["dstack SCALE"][:len(docs["dstack SCALE"])-1], "dstack: "},
		"NEAR":                         {replace("NEAR", `"quote":[4,`, `"quote":[9,`), "version"},
		"NEAR's member":                {replace("NEAR", `"mrtd":`, `"mrdt":`), "mrdt"},
		"two Cocoons":                  {append(docs["Cocoon"], docs["Cocoon"]...), "exactly one certificate"},
		"Cocoon's name":                {bytes.ReplaceAll(docs["Cocoon"], []byte("CERTIFICATE"), []byte("CERTIFICATION")), "not evidence"},
		"list":                         {replace("list", "HOPPER", "AMPERE"), "architecture"},
		"empty list":                   {[]byte("[]"), "not evidence"},
		"list of something else":       {[]byte(`[{"arch":"HOPPER"}]`), "not evidence"},
		"quote without its log":        {[]byte(`{"quote":"00"}`), "not evidence"},
	} {
		if p, err := attestation.TakeApart(c.data, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, error %v, want %q", name, p, err, c.want)
		}
	}
}

// A result outlives neither its certificate nor its quote.
func TestCocoonValidity(t *testing.T) {
	end := now.Add(time.Minute).Truncate(time.Second)
	r := appraiseSaved(t, cocoon(t, attestationtest.NodeConfig{}, func(c *x509.Certificate, _ *[]byte) { c.NotAfter = end }), attestation.Expected{}, nil)
	if r.Err() != nil || !r.ValidUntil.Equal(end) {
		t.Errorf("%v, valid until %v, want %v", r.Err(), r.ValidUntil, end)
	}
}

// What was expected is compared, or the caller hears that it cannot be: it is never passed over.
func TestExpectedIsCompared(t *testing.T) {
	v := verifier(t, attestationtest.CollateralOptions{}, nil)
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	log, registers := dstackEvents(t, nil)
	dstack, err := json.Marshal(map[string]any{"quote": hex.EncodeToString(node(t, attestationtest.NodeConfig{RTMR: registers}).Quote([64]byte{1})), "event_log": string(log)})
	if err != nil {
		t.Fatal(err)
	}
	other, digest := bytes.Repeat([]byte{9}, 32), bytes.Repeat([]byte{9}, 64)
	for name, c := range map[string]struct {
		data              []byte
		nonce, reportData bool
	}{
		"evidence":   {collect(t, attestationtest.NodeConfig{}), true, false},
		"quote":      {n.Quote([64]byte{}), false, true},
		"SNP report": {node(t, attestationtest.NodeConfig{SNP: true}).SNPReport([64]byte{}), false, true},
		"GPU report": {n.Devices(nonce)[0].Report, true, false},
		"list":       {nvidiaList(t, attestationtest.NodeConfig{GPUs: 1}, nil), true, false},
		"Tinfoil":    {tinfoil(t, attestationtest.NodeConfig{}, nil), true, false},
		"Cocoon":     {cocoon(t, attestationtest.NodeConfig{}, nil), false, false},
		"NEAR":       {[]byte(`{"near_p2p_public_key":"ed25519:"}`), false, false},
		"dstack":     {dstack, false, true},
	} {
		for _, x := range []struct {
			want     attestation.Expected
			compared bool
		}{{attestation.Expected{Nonce: other}, c.nonce}, {attestation.Expected{ReportData: digest}, c.reportData}} {
			r, err := v.AppraiseSaved(now, c.data, x.want)
			switch {
			case !x.compared && err == nil:
				t.Errorf("%s: %+v was passed over", name, x.want)
			case x.compared && err != nil:
				t.Errorf("%s: %v", name, err)
			case x.compared && !slices.ContainsFunc(failing(r), func(id string) bool { return strings.HasSuffix(id, "nonce") || strings.HasSuffix(id, "report_data") }):
				t.Errorf("%s: %+v is not what fails: %q", name, x.want, failing(r))
			}
		}
	}
}

// cocoon makes a certificate as Cocoon's nodes do.
func cocoon(t *testing.T, c attestationtest.NodeConfig, change func(tmpl *x509.Certificate, quoted *[]byte)) []byte {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	quoted := []byte(pub)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cocoon"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	if change != nil {
		change(tmpl, &quoted)
	}
	tmpl.ExtraExtensions = append(tmpl.ExtraExtensions,
		pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, 1}, Critical: true, Value: node(t, c).Quote(sha512.Sum512(quoted))},
		pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, 2}, Critical: true, Value: quoted})
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestCocoon(t *testing.T) {
	r := appraiseSaved(t, cocoon(t, attestationtest.NodeConfig{}, nil), attestation.Expected{}, nil)
	if err := r.Err(); err != nil || r.Kind != attestation.KindCocoon {
		t.Fatalf("%v %s", err, r.Kind)
	}
	for _, c := range []struct {
		name   string
		config attestationtest.NodeConfig
		change func(tmpl *x509.Certificate, quoted *[]byte)
		policy func(*policy.Policy)
		want   []string
	}{
		{"quote for another key", attestationtest.NodeConfig{}, func(_ *x509.Certificate, q *[]byte) { *q = make([]byte, 32) }, nil, []string{"composite.report_data"}},
		{"expired", attestationtest.NodeConfig{}, func(c *x509.Certificate, _ *[]byte) { c.NotAfter = now.Add(-time.Second) }, nil, []string{"foreign.certificate"}},
		{"not yet in force", attestationtest.NodeConfig{}, func(c *x509.Certificate, _ *[]byte) { c.NotBefore = now.Add(time.Second) }, nil, []string{"foreign.certificate"}},
		{"unknown critical extension", attestationtest.NodeConfig{}, func(c *x509.Certificate, _ *[]byte) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, nil, []string{"foreign.certificate"}},
		{"debug", attestationtest.NodeConfig{Debug: true}, nil, nil, []string{"policy.debug"}},
		{"GPU demanded", attestationtest.NodeConfig{}, nil, func(p *policy.Policy) { p.Devices.Modes = []string{"single-gpu"} }, []string{"policy.devices.mode"}},
	} {
		r := appraiseSaved(t, cocoon(t, c.config, c.change), attestation.Expected{}, c.policy)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: refused by %q, want %q\n%v", c.name, got, c.want, r.Err())
		}
	}
}

// A certificate that another key signed, or that is not alone, or not of this kind of key, is none of Cocoon's.
func TestCocoonForgeries(t *testing.T) {
	good := cocoon(t, attestationtest.NodeConfig{}, nil)
	block, _ := pem.Decode(good)
	der := bytes.Clone(block.Bytes)
	der[len(der)-1] ^= 1
	armored := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cert.ExtraExtensions, cert.SignatureAlgorithm, cert.PublicKey = cert.Extensions, 0, nil
	other, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pub, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// Its own key signs it, in another's name.
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "another"}, PublicKey: pub}
	tmpl := *cert
	tmpl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, 1}, Critical: true, Value: node(t, attestationtest.NodeConfig{}).Quote(sha512.Sum512(pub))}}
	tmpl.AuthorityKeyId, tmpl.SubjectKeyId = nil, nil
	renamed, err := x509.CreateCertificate(rand.Reader, &tmpl, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		doc  []byte
		want string
	}{
		"signature":      {armored(der), "foreign.certificate"},
		"another's name": {armored(renamed), "foreign.certificate"},
		"two":            {slices.Concat(good, good), "composite.parse"},
		"ECDSA":          {armored(other), "composite.parse"},
	} {
		r := appraiseSaved(t, c.doc, attestation.Expected{}, nil)
		if got := failing(r); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: refused by %q, want %q\n%v", name, got, c.want, r.Err())
		}
	}
}

// dstackEvents makes an event log as dstack writes it, and the registers that it leads to; change is made to the log afterwards.
func dstackEvents(t testing.TB, change func(events []map[string]any)) (log []byte, registers *[4][48]byte) {
	t.Helper()
	events := []map[string]any{}
	for i := range 3 {
		digest := sha512.Sum384([]byte{byte(i)})
		events = append(events, map[string]any{"imr": i, "event_type": 0x80000008, "digest": hex.EncodeToString(digest[:]), "event": "boot", "event_payload": ""})
	}
	for _, name := range []string{"app-id", "compose-hash"} {
		payload := sha256.Sum256([]byte(name + " of the example"))
		if name == "compose-hash" {
			payload = sha256.Sum256([]byte(composeFile))
		}
		events = append(events, map[string]any{"imr": 3, "event_type": uint32(eventlog.EventDstackRuntime), "digest": "", "event": name, "event_payload": hex.EncodeToString(payload[:])})
	}
	encode := func() []byte {
		b, err := json.Marshal(events)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	parsed, err := eventlog.ParseDstack(encode())
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := eventlog.Replay(parsed)
	if err != nil {
		t.Fatal(err)
	}
	registers = new([4][48]byte)
	for i := range registers {
		registers[i] = [48]byte(replayed[i])
	}
	for i := range events {
		events[i]["digest"] = hex.EncodeToString(parsed.Events[i].Digest)
	}
	if change != nil {
		change(events)
	}
	return encode(), registers
}

const composeFile = `{"manifest_version":2}`

// anyRegisters accepts TDs that an event log explains, whatever it says.
func anyRegisters(p *policy.Policy) {
	for i := range p.TDX.Images[0].RTMR {
		p.TDX.Images[0].RTMR[i] = policy.Want{Any: true}
	}
}

func TestMockDstack(t *testing.T) {
	set := func(i int, member, value string) func([]map[string]any) {
		return func(events []map[string]any) { events[i][member] = value }
	}
	for _, c := range []struct {
		name   string
		change func(events []map[string]any)
		want   []string
	}{
		{"good", nil, nil},
		{"payload exchanged", set(3, "event_payload", strings.Repeat("00", 32)), []string{"eventlog.digests"}},
		{"name exchanged", set(4, "event", "key-provider"), []string{"eventlog.digests"}},
		{"boot event exchanged", set(1, "digest", strings.Repeat("00", 48)), []string{"eventlog.rtmr1"}},
		{"event of another register", func(events []map[string]any) { events[2]["imr"] = 0 }, []string{"eventlog.rtmr0", "eventlog.rtmr2"}},
	} {
		log, registers := dstackEvents(t, c.change)
		doc, err := json.Marshal(map[string]any{"quote": hex.EncodeToString(node(t, attestationtest.NodeConfig{RTMR: registers}).Quote([64]byte{1})), "event_log": string(log)})
		if err != nil {
			t.Fatal(err)
		}
		r := appraiseSaved(t, doc, attestation.Expected{}, anyRegisters)
		if got := failing(r); r.Kind != attestation.KindDstack || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q\n%v", c.name, r.Kind, got, c.want, r.Err())
		}
	}
}

func base58(key []byte) string {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	n, s := new(big.Int).SetBytes(key), ""
	for n.Sign() > 0 {
		digit := new(big.Int)
		n.DivMod(n, big.NewInt(58), digit)
		s = string(alphabet[digit.Int64()]) + s
	}
	return "ed25519:" + s
}

// nearReportData is what a NEAR MPC node with these keys puts into its quote.
func nearReportData(p2p, signer []byte) [64]byte {
	rd := [64]byte{1: 1}
	sum := sha3.Sum384(slices.Concat(p2p, signer))
	copy(rd[2:], sum[:])
	return rd
}

// near makes what a NEAR MPC node publishes.
func near(t *testing.T, p2p, signer []byte, compose string, reportData [64]byte) []byte {
	t.Helper()
	log, registers := dstackEvents(t, nil)
	quote := []int{}
	for _, b := range node(t, attestationtest.NodeConfig{RTMR: registers}).Quote(reportData) {
		quote = append(quote, int(b))
	}
	doc, err := json.Marshal(map[string]any{"near_signer_public_key": base58(signer), "near_p2p_public_key": base58(p2p), "near_responder_public_keys": []string{},
		"tee_participant_info": map[string]any{"Dstack": map[string]any{"quote": quote, "collateral": map[string]any{}, "tcb_info": map[string]any{
			"mrtd": "", "rtmr0": "", "rtmr1": "", "rtmr2": "", "rtmr3": "", "os_image_hash": "", "compose_hash": "", "device_id": "",
			"app_compose": compose, "event_log": json.RawMessage(log)}}}})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestMockNEAR(t *testing.T) {
	p2p, signer := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	rd := nearReportData(p2p, signer)
	for _, c := range []struct {
		name       string
		p2p        []byte
		compose    string
		reportData [64]byte
		want       []string
	}{
		{"good", p2p, composeFile, rd, nil},
		{"another key", signer, composeFile, rd, []string{"composite.report_data"}},
		{"another compose file", p2p, composeFile + " ", rd, []string{"foreign.compose"}},
		{"report data of another version", p2p, composeFile, func() [64]byte { v := rd; v[1] = 2; return v }(), []string{"composite.report_data"}},
	} {
		doc := near(t, c.p2p, signer, c.compose, c.reportData)
		if c.want == nil {
			for what, bad := range map[string][2]string{
				"a number that is no byte": {`"quote":[4,`, `"quote":[260,`},
				"a key of 33 bytes":        {base58(p2p), base58(bytes.Repeat([]byte{0xff}, 33))},
				"a key of 45 digits":       {base58(p2p), "ed25519:" + strings.Repeat("1", 45)},
				"a key of another kind":    {base58(p2p), strings.Replace(base58(p2p), "ed25519", "ed25518", 1)},
				"44 digits of 258 bits":    {base58(p2p), "ed25519:" + strings.Repeat("z", 44)},
				"a digit that is none":     {base58(p2p), base58(p2p)[:len(base58(p2p))-1] + "0"},
				"a log that is none":       {`"event_log":[`, `"event_log":[1,`},
			} {
				changed := strings.Replace(string(doc), bad[0], bad[1], 1)
				r := appraiseSaved(t, []byte(changed), attestation.Expected{}, anyRegisters)
				if got := failing(r); changed == string(doc) || !slices.Equal(got, []string{"composite.parse"}) {
					t.Errorf("%s: refused by %q", what, got)
				}
			}
		}
		r := appraiseSaved(t, doc, attestation.Expected{}, anyRegisters)
		if got := failing(r); r.Kind != attestation.KindNEAR || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q\n%v", c.name, r.Kind, got, c.want, r.Err())
		}
	}
}

// A real dstack quote with its log: every RTMR is explained, and a log with other data is refused.
func TestDstack(t *testing.T) {
	raw := vector(t, "dstack/dstack__verifier__fixtures__quote-report.json")
	p := realPolicy(t)
	p.Devices.Modes = []string{"cpu"}
	p.Workload = policy.Workload{Builds: policy.Allowed{AnyUnsafe: true}, Configs: policy.Allowed{AnyUnsafe: true}, Models: policy.Allowed{AnyUnsafe: true}}
	v, err := attestation.NewVerifier(p, new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.AppraiseSaved(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), raw, attestation.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dcap.quote.signature", "eventlog.rtmr0", "eventlog.rtmr1", "eventlog.rtmr2", "eventlog.rtmr3", "eventlog.digests"} {
		if c := r.Check(id); c == nil || c.Status != check.Pass {
			t.Errorf("%s: %+v", id, c)
		}
	}
	if r.Claims["dstack.compose-hash"] != "3763bc34552cf3a27ff71ad5f7a90471562a1a2df552dfc1998cba2d60da27e7" {
		t.Errorf("compose hash %q", r.Claims["dstack.compose-hash"])
	}
	bad := strings.Replace(string(raw), "3763bc34552cf3a27ff71ad5f7a90471562a1a2df552dfc1998cba2d60da27e7", strings.Repeat("00", 32), 1)
	if bad == string(raw) {
		t.Fatal("the case changes nothing")
	}
	if r, err = v.AppraiseSaved(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), []byte(bad), attestation.Expected{}); err != nil {
		t.Fatal(err)
	}
	if c := r.Check("eventlog.digests"); c == nil || c.Status != check.Fail {
		if c := r.Check("composite.parse"); c == nil || c.Status != check.Fail {
			t.Errorf("a log with another compose hash was not refused: %v", r.Err())
		}
	}
}

// A real NEAR MPC node: its report data is that of its two keys, its compose file is the measured one.
func TestNEAR(t *testing.T) {
	raw := string(vector(t, "near-mpc/crates__test-utils__assets__public_data.json"))
	p := realPolicy(t)
	p.Devices.Modes = []string{"cpu"}
	v, err := attestation.NewVerifier(p, new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 8, 13, 11, 45, 38, 0, time.UTC)
	status := func(data, id string) check.Status {
		t.Helper()
		r, err := v.AppraiseSaved(at, []byte(data), attestation.Expected{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Check(id) == nil {
			t.Fatalf("no check %s: %v", id, r.Err())
		}
		return r.Check(id).Status
	}
	for _, id := range []string{"dcap.quote.signature", "composite.report_data", "eventlog.rtmr3", "eventlog.digests", "foreign.compose"} {
		if got := status(raw, id); got != check.Pass {
			t.Errorf("%s: %s", id, got)
		}
	}
	const p2p = "3FwWphCj47PA3D8ErKeVNzqn2ckAKrfuixrvvfGrDxUx"
	if got := status(strings.Replace(raw, p2p, "J992NeWhuaJXeUVJcDCVwfS5j1G26B5aJDUZ8iuBCYdc", 1), "composite.report_data"); got != check.Fail {
		t.Errorf("another key: %s", got)
	}
	if got := status(strings.Replace(raw, `manifest_version\": 2`, `manifest_version\": 3`, 1), "foreign.compose"); got != check.Fail {
		t.Errorf("another compose file: %s", got)
	}
	if got := status(strings.Replace(raw, p2p, p2p+"0", 1), "composite.parse"); got != check.Fail {
		t.Errorf("a bad key: %s", got)
	}
}

func FuzzAppraiseSaved(f *testing.F) {
	v := verifier(f, attestationtest.CollateralOptions{}, nil)
	n := node(f, attestationtest.NodeConfig{GPUs: 1})
	f.Add(n.Quote([64]byte{}))
	f.Add(n.Devices(nonce)[0].Report)
	f.Add([]byte(`{"format":"https://tinfoil.sh/predicate/attestation/v3"}`))
	f.Add([]byte(`{"quote":"00","event_log":"[]"}`))
	f.Add(dstackTDX(f, attestationtest.NodeConfig{}, nil))
	f.Add(dstackSNP(f, ""))
	f.Add([]byte(`[{"arch":"HOPPER","evidence":"","certificate":"","nonce":""}]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := v.AppraiseSaved(now, in, attestation.Expected{})
		if err == nil && r.Err() == nil && len(r.Checks) < 10 {
			t.Fatalf("verified with %d checks", len(r.Checks))
		}
		if err != nil {
			return
		}
		if x, err := v.Explain(in, attestation.Expected{}, r); err != nil || len(x) != len(r.Checks) {
			t.Fatalf("%d explanations for %d checks, error %v", len(x), len(r.Checks), err)
		}
	})
}

// A host that has both endorsement keys gives both certificates; the one that signed counts, in whatever order.
func TestBothEndorsementKeys(t *testing.T) {
	v := verifier(t, attestationtest.CollateralOptions{}, func(p *policy.Policy) { p.SNP.Keys = []string{"VCEK", "VLEK"} })
	var chains [2][]byte
	for i, vlek := range []bool{false, true} {
		e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true, VLEK: vlek}))
		if err != nil {
			t.Fatal(err)
		}
		chains[i] = e.CPU.Certificates
	}
	for _, vlek := range []bool{false, true} {
		report := node(t, attestationtest.NodeConfig{SNP: true, VLEK: vlek}).SNPReport([64]byte{})
		for _, given := range [][]byte{slices.Concat(chains[0], chains[1]), slices.Concat(chains[1], chains[0])} {
			r, err := v.AppraiseSaved(now, report, attestation.Expected{Certificates: given})
			if err != nil || r.Err() != nil {
				t.Errorf("VLEK %v: %v %v", vlek, err, r.Err())
			}
		}
	}
}
