//go:build linux

package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fenced returns n elements that end where memory ends: to touch what lies behind them is a fault.
func fenced[T any](t *testing.T, n int) []T {
	t.Helper()
	var zero T
	size, page := n*int(unsafe.Sizeof(zero)), unix.Getpagesize()
	whole := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	if err := unix.Mprotect(m[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m[whole-size])), n)
}

func fence[T any](t *testing.T, x []T) []T {
	f := fenced[T](t, len(x))
	copy(f, x)
	return f
}

// Nothing is read or written behind the operands, whatever their sizes; nor does it matter where they begin.
func TestStaysWithinOperands(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 12))
		for _, n := range []int{8, 16, 24, 32, 40, 64, 72, 96, 104} {
			x := fence(t, randomF32(r, n))
			for _, rows := range []int{1, 2, 3, 4, 5, 8, 9} {
				for _, f := range []Format{F32, F16, Q8_0} {
					if f == Q8_0 && n%Block != 0 {
						continue
					}
					m := randomMatrix(r, f, rows, n)
					m.f32, m.f16, m.q, m.scale = fence(t, m.f32), fence(t, m.f16), fence(t, m.q), fence(t, m.scale)
					in := Input{q: fenced[int8](t, n), scale: fenced[float32](t, n/Block)}
					in.Set(x, 1, n)
					m.mulRows(fenced[float32](t, rows), in.ready(f), 0, rows)
				}
				stride := n + 8
				v := fence(t, randomF32(r, (rows-1)*stride+n))
				DotRows(fenced[float32](t, rows), v, x, stride)
				AddRows(fence(t, x), v, fence(t, randomF32(r, rows)), stride)
			}
		}
		for n := range 40 {
			Softmax(fence(t, randomF32(r, n)))
			SwiGLU(fence(t, randomF32(r, n)), fence(t, randomF32(r, n)))
		}
	})
}

func (in *Input) ready(f Format) *Input {
	if f == Q8_0 {
		in.quantize()
	}
	return in
}

// FuzzSameAsPortable compares the assembly with portable Go on any numbers at all, also such as are not finite: a broken
// model shows in its results everywhere.
func FuzzSameAsPortable(f *testing.F) {
	if !setAccelerated(true) {
		f.Skip("SKIPPED, NOT PASSED: this processor has no assembly")
	}
	for _, v := range []float32{1, 1e-38, 1e-45, 1e15, float32(math.Inf(1)), float32(math.NaN())} {
		for at := range uint8(4) {
			f.Add(uint64(at), uint8(1), uint8(2), at*9, math.Float32bits(v))
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, blocks, rows, at uint8, bits uint32) {
		if v := math.Abs(float64(math.Float32frombits(bits))); v > 1e15 && !math.IsInf(v, 0) {
			return // whether a sum overflows depends on its order
		}
		n, r := (int(blocks)%5+1)*Block, rand.New(rand.NewPCG(seed, 1))
		x := randomF32(r, n)
		if seed%2 == 1 {
			for i := range x {
				x[i] *= math.Float32frombits(bits)
			}
		}
		x[int(at)%n] = math.Float32frombits(bits)
		x[r.IntN(n)] = math.Float32frombits(bits ^ 1<<31)
		var results [2][][]float32
		var quantized [2][]int8
		matrices := []*Matrix{randomMatrix(r, F32, int(rows)%9+1, n), randomMatrix(r, F16, int(rows)%9+1, n), randomMatrix(r, Q8_0, int(rows)%9+1, n)}
		for way := range results {
			setAccelerated(way == 0)
			for _, m := range matrices {
				var in Input
				in.Set(x, 1, n)
				dst := make([]float32, m.Rows)
				m.mulRows(dst, in.ready(m.Format), 0, m.Rows)
				results[way] = append(results[way], dst)
				if m.Format == Q8_0 {
					results[way] = append(results[way], in.scale)
					quantized[way] = in.q
				}
			}
			soft, gate := append([]float32(nil), x...), append([]float32(nil), x...)
			Softmax(soft)
			SwiGLU(gate, x)
			results[way] = append(results[way], soft, gate)
		}
		setAccelerated(true)
		for i, list := range results[0] {
			for j, got := range list {
				want := results[1][i][j]
				finite := !math.IsNaN(float64(want)) && !math.IsInf(float64(want), 0)
				if gotFinite := !math.IsNaN(float64(got)) && !math.IsInf(float64(got), 0); gotFinite != finite {
					t.Fatalf("result %d[%d]: assembly %v, portable %v", i, j, got, want)
				}
			}
		}
		for i, s := range results[0][3] {
			if s == s && (s != results[1][3][i]) {
				t.Fatalf("scale %d: assembly %v, portable %v", i, s, results[1][3][i])
			}
			for j := i * Block; j < (i+1)*Block && s == s && !math.IsInf(float64(s), 0); j++ {
				if quantized[0][j] != quantized[1][j] || quantized[0][j] == -128 {
					t.Fatalf("element %d, %v with scale %v: assembly %d, portable %d", j, x[j], s, quantized[0][j], quantized[1][j])
				}
			}
		}
	})
}
