package collateral_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

var (
	now  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	auth = attestationtest.New("collateral tests")
)

// kinds counts a bundle's items.
func kinds(b *collateral.Bundle) string {
	n := map[collateral.Kind]int{}
	for _, it := range b.Items() {
		n[it.Kind]++
	}
	return fmt.Sprint(n)
}

func TestRecognise(t *testing.T) {
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	list := policy.HardwareList{Version: 1, Issued: now, Expires: now, Machines: []policy.ListedMachine{}, Denied: []policy.Machine{}}
	signed, err := list.Sign(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	rimService, err := json.Marshal(map[string]string{"id": "x", "rim": base64.StdEncoding.EncodeToString(e.RIMs[0])})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		TCBInfo   json.RawMessage `json:"tcbInfo"`
		Signature string          `json:"signature"`
	}
	if err := json.Unmarshal(e.TCBInfo, &doc); err != nil {
		t.Fatal(err)
	}
	var qe struct {
		Identity  json.RawMessage `json:"enclaveIdentity"`
		Signature string          `json:"signature"`
	}
	if err := json.Unmarshal(e.QEIdentity, &qe); err != nil {
		t.Fatal(err)
	}
	perQuote, err := json.Marshal(map[string]string{"tcb_info": string(doc.TCBInfo), "tcb_info_signature": doc.Signature,
		"qe_identity": string(qe.Identity), "qe_identity_signature": qe.Signature, "tcb_info_issuer_chain": string(e.TCBSigner),
		"qe_identity_issuer_chain": string(e.TCBSigner), "pck_crl_issuer_chain": string(e.TCBSigner),
		"root_ca_crl": hex.EncodeToString(e.RootCRL), "pck_crl": hex.EncodeToString(e.PlatformCRL)})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := auth.Collateral(attestationtest.CollateralOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"TCB info", e.TCBInfo, "map[tcb-info:1]"},
		{"TCB info with white space", append([]byte("\n "), e.TCBInfo...), "map[tcb-info:1]"},
		{"QE identity", e.QEIdentity, "map[qe-identity:1]"},
		{"PCS response", []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTCB-Info-Issuer-Chain: " + url.PathEscape(string(e.TCBSigner)) +
			"\r\n\r\n" + string(e.TCBInfo)), "map[certificate:2 tcb-info:1]"},
		{"PCS response, lower case and bare line feeds", []byte("HTTP/2 200\nsgx-enclave-identity-issuer-chain: " + url.PathEscape(string(e.TCBSigner)) +
			"\n\n" + string(e.QEIdentity)), "map[certificate:2 qe-identity:1]"},
		{"PCS CRL response", append([]byte("HTTP/1.1 200 OK\r\nSGX-PCK-CRL-Issuer-Chain: "+url.PathEscape(string(e.TCBSigner))+"\r\n\r\n"), e.PlatformCRL...),
			"map[certificate:2 crl:1]"},
		{"CRL in DER", e.RootCRL, "map[crl:1]"},
		{"CRL in hexadecimal", []byte(hex.EncodeToString(e.RootCRL)), "map[crl:1]"},
		{"CRL in PEM", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: e.RootCRL}), "map[crl:1]"},
		{"certificate in DER", e.IntelRoot, "map[certificate:1]"},
		{"certificates in PEM with text between", append([]byte("subject=...\n"), e.TCBSigner...), "map[certificate:2]"},
		{"RIM", e.RIMs[0], "map[rim:1]"},
		{"RIM service response", rimService, "map[rim:1]"},
		{"collateral of one quote", perQuote, "map[certificate:2 crl:2 qe-identity:1 tcb-info:1]"},
		{"hardware list", signed, "map[hardware:1]"},
		{"bundle", bundle, "map[certificate:3 crl:4 qe-identity:1 rim:3 tcb-info:1]"},
	} {
		b, err := collateral.New(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := kinds(b); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	for name, in := range map[string][]byte{
		"empty":            nil,
		"text":             []byte("hello"),
		"other JSON":       []byte(`{"a":1}`),
		"private key":      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		"HTTP error":       []byte("HTTP/1.1 404 Not Found\r\n\r\nnot found"),
		"bad chain header": []byte("HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: %zz\r\n\r\n" + string(e.TCBInfo)),
		"broken TCB info":  bytes.Replace(e.TCBInfo, []byte(`"version":3`), []byte(`"version":9`), 1),
		"broken list":      bytes.Replace(signed, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1),
		"other XML":        []byte("<a/>"),
		"truncated CRL":    e.RootCRL[:100],
	} {
		if _, err := collateral.New(in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A saved response with a DER body must keep its last byte, whatever it is.
func TestBinaryBody(t *testing.T) {
	const day = 79 // of this authority, the CRL whose signature ends so
	der := auth.Endorsements(attestationtest.CollateralOptions{Now: now.AddDate(0, 0, day)}).RootCRL
	if last := der[len(der)-1]; last != ' ' && last != '\n' && last != '\r' && last != '\t' {
		t.Fatalf("the CRL ends in %#x, not in white space; look for another day", last)
	}
	b, err := collateral.New(append([]byte("HTTP/1.1 200 OK\r\n\r\n"), der...))
	if err != nil || !bytes.Equal(b.Items()[0].Content, der) {
		t.Fatalf("the body was cut: %v", err)
	}
}

// The encoding is canonical: order and repetition of the inputs leave no trace.
func TestCanonical(t *testing.T) {
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	in := e.Inputs()
	a, err := collateral.New(in...)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(in)-1; i < j; i, j = i+1, j-1 {
		in[i], in[j] = in[j], in[i]
	}
	b, err := collateral.New(append(in, in[0])...)
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Encode()
	if err != nil || !bytes.Equal(x, y) || a.Digest() != b.Digest() {
		t.Errorf("two bundles of the same items differ: %v", err)
	}
	c, err := collateral.Parse(x)
	if err != nil || c.Digest() != a.Digest() {
		t.Errorf("the digest changed: %v", err)
	}
}

func TestParseRefusals(t *testing.T) {
	encoded, err := auth.Collateral(attestationtest.CollateralOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	good := string(encoded)
	first := strings.Index(good, `{"sha256"`)
	second := first + 1 + strings.Index(good[first+1:], `{"sha256"`)
	for name, in := range map[string]string{
		"version":        strings.Replace(good, `"bombyx_collateral":1`, `"bombyx_collateral":2`, 1),
		"unknown member": strings.Replace(good, `"items"`, `"x":1,"items"`, 1),
		"wrong digest":   strings.Replace(good, `"sha256":"`+good[first+11:first+12], `"sha256":"f`, 1),
		"item twice":     good[:first] + good[first:second] + good[first:],
		"unsorted":       good[:first] + good[second:len(good)-2] + "," + strings.TrimSuffix(good[first:second], ",") + "]}",
		"trailing data":  good + "{}",
	} {
		if in == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := collateral.Parse([]byte(in)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A bundle from a hostile host must not keep its reader busy.
func TestLimits(t *testing.T) {
	rim := auth.Endorsements(attestationtest.CollateralOptions{Now: now}).RIMs[0]
	var many [][]byte
	for i := range collateral.MaxRIMs + 1 {
		many = append(many, append(bytes.Clone(rim), bytes.Repeat([]byte("\n"), i+1)...))
	}
	if _, err := collateral.New(many...); err == nil || !strings.Contains(err.Error(), "more than 128 RIMs") {
		t.Errorf("error %v", err)
	}
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	many = nil
	for i := range collateral.MaxItems + 1 {
		many = append(many, append(bytes.Clone(e.QEIdentity), bytes.Repeat([]byte(" "), i+1)...))
	}
	if _, err := collateral.New(many...); err != nil {
		t.Errorf("one item in many dresses: %v", err)
	}
	if _, err := collateral.New(make([]byte, collateral.MaxItem+1)); err == nil {
		t.Error("an item above the limit was accepted")
	}
}

// An older document that is still valid must not hide a newer one, nor an expired one that is newer a valid one.
func TestNewest(t *testing.T) {
	fmspc := [6]byte{0x70, 0xa0, 0x6d, 0x07}
	old := auth.Endorsements(attestationtest.CollateralOptions{Now: now.AddDate(0, 0, -10), TCBEvaluation: 19})
	cur := auth.Endorsements(attestationtest.CollateralOptions{Now: now, TCBEvaluation: 20})
	b, err := collateral.New(append(old.Inputs(), cur.Inputs()...)...)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.TCBInfo("TDX", fmspc, now).TCBEvaluationDataNumber; got != 20 {
		t.Errorf("TCB info %d at now, want 20", got)
	}
	if got := b.QEIdentity("TD_QE", now).TCBEvaluationDataNumber; got != 20 {
		t.Errorf("QE identity %d at now, want 20", got)
	}
	// Before the newer one was issued only the older one was in force.
	if got := b.TCBInfo("TDX", fmspc, now.AddDate(0, 0, -5)).TCBEvaluationDataNumber; got != 19 {
		t.Errorf("TCB info %d five days ago, want 19", got)
	}
	// When both have expired the newer one says so.
	if got := b.TCBInfo("TDX", fmspc, now.AddDate(1, 0, 0)).TCBEvaluationDataNumber; got != 20 {
		t.Errorf("TCB info %d next year, want 20", got)
	}
	if b.TCBInfo("SGX", fmspc, now) != nil || b.TCBInfo("TDX", [6]byte{}, now) != nil || b.QEIdentity("QE", now) != nil {
		t.Error("found what is not there")
	}
}

func FuzzNew(f *testing.F) {
	// RIMs have a target of their own where they are parsed; each costs four P-384 verifications.
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	for _, in := range [][]byte{e.TCBInfo, e.QEIdentity, e.TCBSigner, e.RootCRL} {
		f.Add(in)
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: x\r\n\r\n{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := collateral.New(in)
		if err != nil {
			return
		}
		encoded, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := collateral.Parse(encoded); err != nil || again.Digest() != b.Digest() {
			t.Fatalf("does not survive encoding: %v", err)
		}
	})
}
