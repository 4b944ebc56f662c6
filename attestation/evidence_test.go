package attestation_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
)

// The binding's known answers; docs/protocol.md holds the same.
func TestBindingVectors(t *testing.T) {
	var nonce [32]byte
	for i := range nonce {
		nonce[i] = byte(i)
	}
	statement := attestation.Statement(nonce, []byte("keyset"))
	device := attestation.DeviceNonce(statement)
	devices := []attestation.Device{
		{Kind: attestation.DeviceGPU, Report: []byte("report"), Certificates: []byte("chain")},
		{Kind: attestation.DeviceSwitch, Report: []byte("report 2"), Certificates: []byte("chain 2")},
	}
	digest := attestation.DevicesDigest(devices)
	none := attestation.DevicesDigest(nil)
	report := attestation.ReportData(statement, devices)
	epoch := attestation.Epoch{Seqno: 0x01020304, RootHash: nonce}.Nonce()
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"statement", statement[:], "6ab43438c16ad46a6fa8cfd714eafa583bbc201784df21dcfe600ecb2b8b749f"},
		{"device nonce", device[:], "06a5b6e4eb7b9f4ff56fc61ee80f2a0dc608d8a07fcd4bd1f56bf46d2ad82dd1"},
		{"devices", digest[:], "3698850b851f40f03ea3e42e612f0a13360de3d51d3737bba4a7751da5576255"},
		{"no devices", none[:], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"report data", report[:], "da9355bac860113e2c6aa6db2995e694b9cf61afe047cc047fd40f7372554f47b65a28ad9d67ca94a4a04dcaf2a903aaa8387a5bf30d1553ed5214f44955fca2"},
		{"epoch nonce", epoch[:], "83883b96a676e4829f1a7e10d22af675951a02d03cc13e8da992546d3e27e899"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Two different lists of devices never share a digest: no byte can move across a field's border.
func TestDevicesDigestIsInjective(t *testing.T) {
	device := func(kind attestation.DeviceKind, report, certs string) attestation.Device {
		return attestation.Device{Kind: kind, Report: []byte(report), Certificates: []byte(certs)}
	}
	seen := map[[32]byte]int{}
	for i, l := range [][]attestation.Device{
		nil,
		{device("a", "b", "c")},
		{device("ab", "", "c")},
		{device("a", "bc", "")},
		{device("a", "", "bc")},
		{device("a", "b", ""), device("c", "", "")},
		{device("a", "b", "c"), device("", "", "")},
	} {
		d := attestation.DevicesDigest(l)
		if j, ok := seen[d]; ok {
			t.Errorf("lists %d and %d share a digest", i, j)
		}
		seen[d] = i
	}
}

func TestParseEvidenceRefusals(t *testing.T) {
	good := string(collect(t, attestationtest.NodeConfig{GPUs: 1}))
	if _, err := attestation.ParseEvidence([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"version", `"version":1`, `"version":2`, "version 2"},
		{"unknown member", `"version":1`, `"version":1,"x":1`, "x: unknown member"},
		{"duplicate member", `"version":1`, `"version":1,"version":1`, "version: duplicate"},
		{"case variant", `"nonce"`, `"Nonce"`, "Nonce: unknown"},
		{"unknown mode", `"single-gpu"`, `"debug"`, "mode: unknown mode"},
		{"unknown CPU", `"tdx"`, `"tdx2"`, "cpu.kind: unknown"},
		{"unknown device", `"nvidia-gpu"`, `"nvidia"`, "devices[0].kind: unknown"},
		{"case of a value", `"nvidia-gpu"`, `"NVIDIA-GPU"`, "devices[0].kind: unknown"},
		{"empty keyset", `"keyset":"`, `"keyset":"","x":"`, "x: unknown member"},
		{"short nonce", `"nonce":"01`, `"nonce":"`, "nonce: want 64"},
		{"upper-case nonce", `"nonce":"0102`, `"nonce":"AB02`, "nonce: want 64"},
		{"certificates beside a TDX quote", `"cpu":{`, `"cpu":{"certificates":"AAAA",`, "carries its own"},
		{"devices null", `"devices":[`, `"devices":null,"x":[`, "devices: want an array"},
		{"trailing data", `}]}`, `}]}{}`, "data after"},
		{"base64 with white space", `"report":"`, `"report":" `, "canonical base64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(good, c.old, c.new, 1)
			if in == good {
				t.Fatal("the case changes nothing")
			}
			_, err := attestation.ParseEvidence([]byte(in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestEvidenceLimits(t *testing.T) {
	base := func() *attestation.Evidence {
		e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{GPUs: 1}))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	devices := func(n int) func(*attestation.Evidence) {
		return func(e *attestation.Evidence) { e.Devices = slices.Repeat(e.Devices, n) }
	}
	cpuChain := func(n int) func(*attestation.Evidence) {
		return func(e *attestation.Evidence) { e.CPU.Kind, e.CPU.Certificates = attestation.CPUSNP, make([]byte, n) }
	}
	for name, c := range map[string]struct {
		change func(*attestation.Evidence)
		want   string // empty: no error
	}{
		"no keyset":         {func(e *attestation.Evidence) { e.Keyset = nil }, "empty keyset"},
		"no quote":          {func(e *attestation.Evidence) { e.CPU.Quote = nil }, "CPU quote of 0 bytes"},
		"large quote":       {func(e *attestation.Evidence) { e.CPU.Quote = make([]byte, attestation.MaxQuote+1) }, "CPU quote of"},
		"largest quote":     {func(e *attestation.Evidence) { e.CPU.Quote = make([]byte, attestation.MaxQuote) }, ""},
		"no report":         {func(e *attestation.Evidence) { e.Devices[0].Report = nil }, "report of 0 bytes"},
		"large report":      {func(e *attestation.Evidence) { e.Devices[0].Report = make([]byte, attestation.MaxReport+1) }, "report of"},
		"largest report":    {func(e *attestation.Evidence) { e.Devices[0].Report = make([]byte, attestation.MaxReport) }, ""},
		"no certificates":   {func(e *attestation.Evidence) { e.Devices[0].Certificates = nil }, "certificates of 0 bytes"},
		"large chain":       {func(e *attestation.Evidence) { e.Devices[0].Certificates = make([]byte, attestation.MaxCertificates+1) }, "device 0: certificates of"},
		"largest chain":     {func(e *attestation.Evidence) { e.Devices[0].Certificates = make([]byte, attestation.MaxCertificates) }, ""},
		"too many devices":  {devices(attestation.MaxDevices + 1), "devices, limit"},
		"most devices":      {devices(attestation.MaxDevices), ""},
		"large CPU chain":   {cpuChain(attestation.MaxCertificates + 1), "CPU certificates of"},
		"largest CPU chain": {cpuChain(attestation.MaxCertificates), ""},
	} {
		e := base()
		c.change(e)
		if _, err := e.Encode(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := attestation.ParseEvidence(bytes.Repeat([]byte(" "), attestation.MaxEvidence+1)); err == nil {
		t.Error("a document above the limit was accepted")
	}
}

func FuzzParseEvidence(f *testing.F) {
	f.Add(collect(f, attestationtest.NodeConfig{GPUs: 1}))
	f.Add([]byte(`{"version":1,"nonce":"","keyset":"","mode":"cpu","cpu":{"kind":"tdx","quote":""},"devices":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := attestation.ParseEvidence(in)
		if err != nil {
			return
		}
		out, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := attestation.ParseEvidence(out); err != nil || attestation.DevicesDigest(again.Devices) != attestation.DevicesDigest(e.Devices) {
			t.Fatalf("does not survive encoding: %v", err)
		}
	})
}

// Appraise must never panic, and never verify what was changed.
func FuzzAppraise(f *testing.F) {
	good := collect(f, attestationtest.NodeConfig{GPUs: 1})
	v := verifier(f, attestationtest.CollateralOptions{}, nil)
	f.Add(good)
	f.Fuzz(func(t *testing.T, in []byte) {
		r := v.Appraise(now, in, nonce)
		if r.Err() != nil {
			return
		}
		// White space and member order are free; what is said is not.
		e, err := attestation.ParseEvidence(in)
		if err != nil {
			t.Fatal(err)
		}
		g, _ := attestation.ParseEvidence(good)
		if !bytes.Equal(e.Keyset, g.Keyset) || attestation.DevicesDigest(e.Devices) != attestation.DevicesDigest(g.Devices) {
			t.Fatalf("verified something else: %s", in)
		}
	})
}
