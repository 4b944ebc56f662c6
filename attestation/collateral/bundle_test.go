package collateral_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
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
	node, err := auth.NewNode(attestationtest.NodeConfig{Name: "a", GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now, OCSP: []*attestationtest.Node{node}})
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
	perQuoteWithout := bytes.ReplaceAll(perQuote, []byte(`_crl":"`), []byte(`_crl":"","was":"`))
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	part := func(format string, a ...any) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, format, a...))
	}
	token := []byte(part(`{"alg":"EdDSA","typ":"JWT","kid":"%x"}`, key.Public()) + "." +
		part(`{"quote_hash":"%064x","machine_id":"%064x","label":"rack"}`, 1, 2))
	token = append(token, "."+part("%s", ed25519.Sign(key, token))...)
	bundle, err := auth.Collateral(attestationtest.CollateralOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := collateral.New(signed, token); err != nil || len(b.Registry().Lists) != 1 || len(b.Registry().Tokens) != 1 {
		t.Errorf("a list and a token: %v", err)
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
		{"collateral of one quote, no CRLs", perQuoteWithout, "map[certificate:2 qe-identity:1 tcb-info:1]"},
		{"hardware list", signed, "map[hardware:1]"},
		{"Proof of Cloud token", token, "map[token:1]"},
		{"Proof of Cloud token in a file", append(token, '\n'), "map[token:1]"},
		{"OCSP answer", e.OCSP[0], "map[ocsp:1]"},
		{"OCSP refusal", []byte{0x30, 3, 0x0a, 1, 6}, "map[ocsp:1]"},
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
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{5, 0}}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"empty":                 {nil, "input 1: empty"},
		"nothing in an item":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"}), "not collateral"},
		"text":                  {[]byte("hello"), "not collateral"},
		"other JSON":            {[]byte(`{"a":1}`), "not collateral"},
		"half of a JSON object": {[]byte(`{"tcbInfo":{}`), "not collateral"},
		"private key":           {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), `PEM block "PRIVATE KEY"`},
		"broken PEM":            {[]byte("-----BEGIN CERTIFICATE-----\nhello"), "no PEM block that can be read"},
		"HTTP error":            {[]byte("HTTP/1.1 404 Not Found\r\n\r\nnot found"), "not collateral"},
		"HTTP head":             {[]byte("HTTP/1.1 200 OK\r\nA: b\r\n"), "without a body"},
		"HTTP, nothing in it":   {[]byte("HTTP/1.1 200 OK\r\nA: b\r\n\r\n"), "input 1: empty"},
		"bad chain header":      {[]byte("HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: %zz\r\n\r\n" + string(e.TCBInfo)), "not URL-encoded"},
		"broken TCB info":       {bytes.Replace(e.TCBInfo, []byte(`"version":3`), []byte(`"version":9`), 1), "value 9"},
		"broken QE identity":    {bytes.Replace(e.QEIdentity, []byte(`"version":2`), []byte(`"version":9`), 1), "value 9"},
		"broken list":           {bytes.Replace(signed, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1), "hardware list"},
		"broken token":          {[]byte("eyJ"), "Proof of Cloud token"},
		"broken token in form":  {[]byte("eyJ.eyJ.eyJ"), "Proof of Cloud token"},
		"other XML":             {[]byte("<a/>"), "SoftwareIdentity"},
		"truncated CRL":         {e.RootCRL[:100], "not collateral"},
		"Intel's CRL":           {crl(t, "Intel SGX Root CA", critical), "critical extension"},
		"AMD's CRL":             {crl(t, "ARK-Genoa", critical), "critical extension"},
		"RIM that is a number":  {[]byte(`{"rim":1}`), "cannot unmarshal"},
		"RIM not in base64":     {[]byte(`{"rim":"?"}`), "not base64"},
		"quote's, signature":    {[]byte(`{"tcb_info_signature":1}`), "cannot unmarshal"},
		"quote's, CRL":          {[]byte(`{"tcb_info_signature":"","root_ca_crl":"x"}`), "not hexadecimal"},
		"quote's, no chain":     {[]byte(`{"tcb_info_signature":"","root_ca_crl":"","pck_crl":""}`), "no PEM block"},
		"oversized":             {make([]byte, collateral.MaxBundle+1), "input 1: 16777217 bytes"},
		"oversized item":        {make([]byte, collateral.MaxBundle), ": 16777216 bytes, limit 4194304"},
		"item of the limit + 1": {make([]byte, collateral.MaxItem+1), "limit 4194304"},
		"item of the limit":     {make([]byte, collateral.MaxItem), "not collateral"},
	} {
		if _, err := collateral.New(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
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
	less, err := collateral.New(in[1:]...)
	if err != nil || less.Digest() == a.Digest() {
		t.Errorf("one item less has the same digest: %v", err)
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
	for name, c := range map[string]struct{ in, want string }{
		"version":        {strings.Replace(good, `"bombyx_collateral":1`, `"bombyx_collateral":2`, 1), "version 2"},
		"unknown member": {strings.Replace(good, `"items"`, `"x":1,"items"`, 1), "unknown"},
		"wrong digest":   {strings.Replace(good, `"sha256":"`+good[first+11:first+12], `"sha256":"f`, 1), "items[0]: content does not have the stated digest"},
		"item twice":     {good[:first] + good[first:second] + good[first:], "items[1]: not sorted"},
		"unsorted":       {good[:first] + good[second:len(good)-2] + "," + strings.TrimSuffix(good[first:second], ",") + "]}", "not sorted"},
		"trailing data":  {good + "{}", "bundle"},
	} {
		if c.in == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := collateral.Parse([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
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
	slices.SortFunc(many, func(a, b []byte) int {
		x, y := sha256.Sum256(a), sha256.Sum256(b)
		return bytes.Compare(x[:], y[:])
	})
	for n, want := range map[int]string{collateral.MaxItems: "", collateral.MaxItems + 1: "more than 1024 items"} {
		doc := []byte(`{"bombyx_collateral":1,"items":[`)
		for i, in := range many[:n] {
			if i > 0 {
				doc = append(doc, ',')
			}
			doc = fmt.Appendf(doc, `{"sha256":"%x","content":"%s"}`, sha256.Sum256(in), base64.StdEncoding.EncodeToString(in))
		}
		if _, err := collateral.Parse(append(doc, "]}"...)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d items: %v, want %q", n, err, want)
		}
	}
	// Each of these is no larger than it may be, all of them are.
	key := newKey(t, elliptic.P256())
	many = nil
	for i := range 4 {
		padding := append(make([]byte, 3<<20+1<<19), byte(i))
		many = append(many, certificate(t, pkix.Name{}, &key.PublicKey, key, false, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: padding}))
	}
	b, err := collateral.New(many...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Encode(); err == nil || !strings.Contains(err.Error(), "limit 16777216") {
		t.Errorf("encoded a bundle that cannot be parsed: %v", err)
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
	// One with a higher number that has expired does not hide one in force.
	expired := auth.Endorsements(attestationtest.CollateralOptions{Now: now.Add(-2 * attestationtest.Lifetime), TCBEvaluation: 21})
	if both, err := collateral.New(expired.TCBInfo, cur.TCBInfo); err != nil || both.TCBInfo("TDX", fmspc, now).TCBEvaluationDataNumber != 20 {
		t.Errorf("an expired TCB info hides one in force: %v", err)
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
