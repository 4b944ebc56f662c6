//go:build linux

package kernel

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkMul prints the parameters per second of processor time on one thread, for one vector and for a batch of 32; the
// matrix is in the cache or, with 40 times as many rows, comes from memory.
func BenchmarkMul(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	p := NewPool(1)
	defer p.Close()
	for _, f := range []Format{F32, F16, Q8_0} {
		for _, rows := range []int{512, 20480} {
			m := randomMatrix(r, f, rows, 576)
			for _, n := range []int{1, 32} {
				b.Run(fmt.Sprintf("%s/rows=%d/batch=%d", [...]string{"F32", "F16", "Q8_0"}[f], rows, n), func(b *testing.B) {
					var in Input
					x, dst := randomF32(r, n*m.Cols), make([]float32, n*rows)
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					start := threadSeconds(b)
					for b.Loop() {
						in.Set(x, n, m.Cols)
						m.Mul(dst, &in, p)
					}
					b.ReportMetric(float64(b.N)*float64(rows)*float64(m.Cols)*float64(n)/(threadSeconds(b)-start)/1e9, "Gparam/s")
				})
			}
		}
	}
}

func threadSeconds(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
