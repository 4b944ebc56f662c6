package inspect

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/keyset"
)

func FuzzInspect(f *testing.F) {
	node, err := attestationtest.New("fuzz").NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		f.Fatal(err)
	}
	amd, err := attestationtest.New("fuzz").NewNode(attestationtest.NodeConfig{Name: "node", SNP: true})
	if err != nil {
		f.Fatal(err)
	}
	doc, err := node.CollectWith([32]byte{}, []byte("keys"), node.Devices([32]byte{}))
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{doc, node.Quote([64]byte{}), amd.SNPReport([64]byte{}), node.Devices([32]byte{})[0].Report} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Read(b)
		if err != nil {
			return
		}
		n.Print(io.Discard)
		if out, err := json.Marshal(n); err != nil || !json.Valid(out) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

// Every quote that is recognised is shown down to its certificates.
func TestInspectRealEvidence(t *testing.T) {
	files, err := filepath.Glob("../../../../../shared/vectors/quotes/*.bin")
	if err != nil || len(files) == 0 {
		t.Skip("no real evidence at ../shared/vectors")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Read(b)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		if len(n.children) < 15 {
			t.Errorf("%s: only %d fields", filepath.Base(file), len(n.children))
		}
	}
}

var auth = attestationtest.New("inspect")

// text reads evidence, prints it, and demands that the JSON says the same.
func text(t *testing.T, data []byte) string {
	t.Helper()
	tree, err := Read(data)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	tree.Print(&b)
	encoded, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(encoded, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["kind"] != tree.name {
		t.Errorf("kind %v", doc["kind"])
	}
	delete(doc, "kind")
	var lines []string
	var walk func(indent string, names []Tree, m map[string]any)
	walk = func(indent string, names []Tree, m map[string]any) {
		if len(names) != len(m) {
			t.Errorf("%d members in JSON, %d lines", len(m), len(names))
		}
		for _, n := range names {
			switch v := m[n.name].(type) {
			case map[string]any:
				lines = append(lines, indent+n.name)
				walk(indent+"  ", n.children, v)
			case string:
				lines = append(lines, fmt.Sprintf("%s%-*s  %s", indent, max(0, 24-len(indent)), n.name, visible(v)))
			default:
				t.Errorf("%s is missing", n.name)
			}
		}
	}
	walk("  ", tree.children, doc)
	if want := tree.name + "\n" + strings.Join(lines, "\n") + "\n"; b.String() != want {
		t.Errorf("printed\n%s\nin JSON\n%s", b.String(), want)
	}
	return b.String()
}

func evidence(t *testing.T, c attestationtest.NodeConfig) (*attestationtest.Node, []byte) {
	t.Helper()
	c.Name = "node"
	n, err := auth.NewNode(c)
	if err != nil {
		t.Fatal(err)
	}
	k := keyset.Keyset{KeyConfigs: []byte{1, 2}, ReceiptKey: make(ed25519.PublicKey, 32), NotAfter: time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("", 3600))}
	ks, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	epoch := attestation.Epoch{Seqno: 7, RootHash: [32]byte{9}}
	doc, err := n.Collect(t.Context(), epoch.Nonce(), ks)
	if err != nil {
		t.Fatal(err)
	}
	return n, append(epoch.AppendEncoded(nil), doc...)
}

// Each kind of value has its form: bytes in hexadecimal, flags, named numbers, instants; what is signed or parsed shows as its parts.
func TestForms(t *testing.T) {
	n, tdx := evidence(t, attestationtest.NodeConfig{GPUs: 1})
	amd, snp := evidence(t, attestationtest.NodeConfig{SNP: true})
	log := []byte(`[{"imr":3,"event_type":134217729,"digest":"","event":"app-id","event_payload":"0a"},{"imr":0,"event_type":4,"digest":"` + strings.Repeat("00", 48) + `","event":"","event_payload":""}]`)
	broken := func(doc []byte, quote []byte) []byte {
		e, err := attestation.ParseEvidence(doc[attestation.EpochSize:])
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Replace(doc, []byte(base64.StdEncoding.EncodeToString(e.CPU.Quote)), []byte(base64.StdEncoding.EncodeToString(quote)), 1)
	}
	other, err := n.CollectWith([32]byte{}, []byte("keys"), []attestation.Device{{Kind: attestation.DeviceGPU, Report: []byte("r"), Certificates: []byte("c")}})
	if err != nil {
		t.Fatal(err)
	}
	// Certification data that names no certificates.
	encrypted := n.Quote([64]byte{})
	encrypted[bytes.Index(encrypted, []byte("-----BEGIN"))-6] = dcap.CertPPIDEncrypted3072
	dstack, err := json.Marshal(map[string]any{"quote": hex.EncodeToString(n.Quote([64]byte{})), "event_log": string(log), "more": uint64(math.MaxUint64)})
	if err != nil {
		t.Fatal(err)
	}
	openEnclave := func(name string) []byte {
		b, err := os.ReadFile("../../../../attestation/testdata/openenclave/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		data     []byte
		has, not []string
	}{
		"Open Enclave report": {openEnclave("sgx_report_bad.bin"), []string{"open-enclave-report\n  bytes                   4596\n", "  CPU sgx\n", "    SGX\n", "      MRENCLAVE "}, []string{"document", "CPU tdx"}},
		"Open Enclave certificate": {openEnclave("sgx_cert_ec_bad_tcb.der"), []string{"open-enclave-ra-tls\n", "  certificate\n    Subject               CN=Open Enclave SDK,", "  CPU sgx\n"},
			[]string{"document", "CPU tdx"}},
		"MarbleRun": {[]byte(`{"status":"success","data":{"cert":"c","quote":""}}`), []string{"marblerun-quote\n", "      cert                c\n", "  evidence                attestation: cert is not two certificates"}, []string{"CPU"}},
		"evidence, TDX and a GPU": {tdx, []string{"bombyx-evidence\n", "  epoch\n    seqno                 7\n    root_hash             09000000", "  Mode                    single-gpu\n",
			"  Keyset\n", "    KeyConfigs            0102\n", "    NotAfter              2026-11-22T11:00:00Z\n", "  CPU tdx\n    Trailing              \n    Version               4\n",
			"    TEEType               TDX (129)\n", "      TDAttributes        0x10000000\n", "      XFAM                0x61ae7\n", "        RTMR[3]           0000", "    PCKChain[2]\n      Subject             CN=Intel SGX Root CA,",
			"    PCK\n      CA                  Intel SGX PCK Platform CA\n", "      SGXType             0x1\n", "        SMTEnabled        true\n", "  Device[0] nvidia-gpu\n    Kind                  GPU (1)\n",
			"        Index             64\n", "    DriverVersion         590.12\n", "  Device[0] nvidia-gpu certificates\n    certificate[0]\n", "    certificate[4]\n"},
			[]string{"    Raw ", "    Signed ", "CertificationData  ", "    SGX\n", "CPU certificates"}},
		"evidence, SEV-SNP": {snp, []string{"  CPU sev-snp\n    Version               3\n", "    Policy                0x30100\n", "    SigningKey            VCEK (0)\n", "    CurrentVersion\n      Major               1\n",
			"    Product               Genoa\n", "    Signature             ", "  CPU certificates\n    certificate[0]\n", "    certificate[2]\n"}, []string{"    Raw ", "Device["}},
		"quote without certificates":   {encrypted, []string{"tdx-quote\n  bytes                   49", "  CertificationDataType   3\n", "  CertificationData       2d2d2d2d"}, []string{"PCK"}},
		"quote that is none":           {broken(tdx, []byte{4, 0}), []string{"  CPU tdx                 dcap: malformed quote at byte", "  Device[0] nvidia-gpu\n"}, nil},
		"report that is none":          {broken(snp, []byte{4, 0}), []string{"  CPU sev-snp             snp: ", "  CPU certificates\n"}, nil},
		"keys and devices that are no": {other, []string{"  Keyset                  6b657973 (keyset: ", "  Device[0] nvidia-gpu    nvidia: ", "  Device[0] nvidia-gpu certificates  x509: "}, []string{"epoch"}},
		"bare report":                  {amd.SNPReport([64]byte{5}), []string{"sev-snp-report\n", "  ReportData              05000000"}, nil},
		"report of an unknown product": {func() []byte { b := amd.SNPReport([64]byte{}); b[0x189] = 0xf0; return b }(), []string{"  CPUID                   19f001\n"}, []string{"Product"}},
		"event log": {log, []string{"event-log\n", "  algorithm               SHA-384\n", "  digests\n    bound                 1\n", "    unbound               1\n", "  registers\n    rtmr0                 ", "    rtmr3                 ",
			"    event[0]\n      register            rtmr3\n      type                dstack runtime event\n", "      name                app-id\n      data                0a\n", "    event[1]\n      register            rtmr0\n"},
			[]string{"name                \n"}},
		"dstack": {dstack, []string{"dstack-quote\n", "  document\n    event_log             [{", "    more                  18446744073709551615\n", "  evidence                attestation: "}, []string{"CPU"}},
	} {
		got := text(t, c.data)
		for _, s := range c.has {
			if !strings.Contains(got, s) {
				t.Errorf("%s: lacks %q\n%.4000s", name, s, got)
			}
		}
		for _, s := range c.not {
			if strings.Contains(got, s) {
				t.Errorf("%s: has %q", name, s)
			}
		}
	}
	if got := visible("a\x1b[2J\u202e\n"); got != "a\ufffd[2J\ufffd\ufffd" {
		t.Errorf("%q", got)
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "log of two values": append(log, log...), "quote cut short": n.Quote([64]byte{})[:100], "report cut short": n.Devices([32]byte{})[0].Report[:60]} {
		if tree, err := Read(b); err == nil {
			t.Errorf("%s: %+v", name, tree)
		}
	}
}
