package dcap

import (
	"bytes"
	"encoding/pem"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"crypto/x509"
)

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Whatever comes in, parsing it takes a small multiple of its size: 2 for quotes, 4 for CRLs, 9 for JSON, 12 for certificates.
func TestAllocation(t *testing.T) {
	_, quote, _ := newWorld(4).build(t)
	w := newWorld(4)
	w.tcbInfo["tcbLevels"] = []any{}
	levels := make([]any, maxLevels)
	for i := range levels {
		l := level(5, 5, i, "UpToDate", date1)
		l["advisoryIDs"] = make([]string, 256)
		levels[i] = l
	}
	w.tcbInfo["tcbLevels"] = levels
	tcbInfo := signJSON(t, w.tcbInfo, "tcbInfo", w.tcbInfoKey)
	w = newWorld(4)
	for i := range 5000 {
		w.pckCRL.RevokedCertificateEntries = append(w.pckCRL.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 1)), RevocationTime: w.now})
	}
	_, _, c := w.build(t)
	crl := c.PCKCRL.List.Raw
	chain := bytes.Repeat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.TCBInfoChain[0].Raw}), maxChain)
	for _, x := range []struct {
		name  string
		input []byte
		parse func([]byte)
	}{
		{"quote", quote, func(b []byte) { ParseQuote(b) }},
		{"padded quote", append(quote, make([]byte, MaxQuoteSize-len(quote))...), func(b []byte) { ParseQuote(b) }},
		{"oversized quote", make([]byte, 10*MaxQuoteSize), func(b []byte) { ParseQuote(b) }},
		{"TCB info", tcbInfo, func(b []byte) { ParseTCBInfo(b) }},
		{"deep JSON", []byte(`{"tcbInfo":` + strings.Repeat(`{"a":`, 100_000)), func(b []byte) { ParseTCBInfo(b) }},
		{"deep arrays", []byte(`{"tcbInfo":{"tcbLevels":` + strings.Repeat(`[`, 100_000)), func(b []byte) { ParseTCBInfo(b) }},
		{"CRL", crl, func(b []byte) { ParseCRL(b) }},
		{"chain", chain, func(b []byte) { ParseChain(b) }},
		{"endless chain", bytes.Repeat(chain, 50), func(b []byte) { ParseChain(b) }},
	} {
		n := allocated(func() { x.parse(x.input) })
		if n > 12*uint64(len(x.input))+64<<10 {
			t.Errorf("%s: %d bytes for %d", x.name, n, len(x.input))
		}
		t.Logf("%s: %d bytes for %d", x.name, n, len(x.input))
	}
}

// BenchmarkManyPlatforms appraises quotes of ever new platforms with one verifier. heap-KiB, the heap at the end, must not depend
// on their number: compare -benchtime 10000x with 100000x.
func BenchmarkManyPlatforms(b *testing.B) {
	w := newWorld(4)
	v, _, c := w.build(b)
	root := c.TCBInfoChain[1]
	ca := w.issue(b, w.ca, root, w.keys.ca, w.keys.root)
	crl := *w.pckCRL
	i := int64(0)
	c.PCKCRL = mustCRL(b, &crl, ca, w.keys.ca)
	for b.Loop() {
		i++
		w.pck.SerialNumber = big.NewInt(1000 + i)
		pck := w.issue(b, w.pck, ca, w.keys.pck, w.keys.ca)
		q, err := ParseQuote(w.quote(b, pck, ca, root))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Verify(w.now, q, c); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(v)
	b.ReportMetric(float64(m.HeapAlloc>>10), "heap-KiB")
}
