package eventlog

import (
	"crypto"
	"testing"
	"time"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/testdata"
)

// BenchmarkTCG parses and replays a real TPM log and checks all of its data, in
// turn with github.com/google/go-eventlog, which checks none.
func BenchmarkTCG(b *testing.B) {
	raw := testdata.Ubuntu2404AmdSevSnpEventLog
	l, err := ParseTCG(raw, crypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	want, err := Replay(l)
	if err != nil {
		b.Fatal(err)
	}
	var mrs []register.MR
	for i, v := range want {
		mrs = append(mrs, register.PCR{Index: i, Digest: v, DigestAlg: crypto.SHA256})
	}
	var ours, theirs time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		l, err := ParseTCG(raw, crypto.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Verify(want, l); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)
		b.StopTimer()
		start = time.Now()
		if _, err := tcg.ParseAndReplay(raw, mrs, tcg.ParseOpts{}); err != nil {
			b.Fatal(err)
		}
		theirs += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(theirs), "x/go-eventlog")
}
