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

// BenchmarkManyPlatforms issues certificates and quotes of ever new platforms, and appraises them with one Verifier. The metrics are the live heap after a tenth of
// them, after half and at the end: with -benchtime 100000x (make memory) the proof that memory does not grow with use.
func BenchmarkManyPlatforms(b *testing.B) {
	w := newWorld(4)
	v, _, c := w.build(b)
	root := c.TCBInfoChain[1]
	ca := w.issue(b, w.ca, root, w.keys.ca, w.keys.root)
	crl := *w.pckCRL
	c.PCKCRL = mustCRL(b, &crl, ca, w.keys.ca)
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	b.ResetTimer()
	for i := range b.N {
		w.pck.SerialNumber = big.NewInt(1000 + int64(i))
		pck := w.issue(b, w.pck, ca, w.keys.pck, w.keys.ca)
		q, err := ParseQuote(w.quote(b, pck, ca, root))
		if err != nil {
			b.Fatal(err)
		}
		for name, at := range map[string]int{"start": b.N / 10, "middle": b.N / 2} {
			if i == at {
				b.ReportMetric(heap(), "MiB-"+name)
			}
		}
		if _, err := v.Verify(w.now, q, c); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(heap(), "MiB-end")
	runtime.KeepAlive(v)
}
