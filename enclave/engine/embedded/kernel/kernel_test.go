package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// bothWays runs a test with the assembly, where the processor has it, and with portable Go.
func bothWays(t *testing.T, f func(t *testing.T)) {
	if setAccelerated(true) {
		t.Run("assembly", f)
	}
	old := setAccelerated(false)
	t.Run("portable", f)
	setAccelerated(old)
}

func randomF32(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// toFloat16 rounds to binary16 by search, which needs no knowledge of the format but its order.
func toFloat16(f float32) uint16 {
	var sign uint16
	if f < 0 {
		sign, f = 0x8000, -f
	}
	lo, hi := uint16(0), uint16(0x7bff)
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if Float16(mid) <= f {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return sign | lo
}

func randomMatrix(r *rand.Rand, f Format, rows, cols int) *Matrix {
	x := randomF32(r, rows*cols)
	switch f {
	case F16:
		h := make([]uint16, len(x))
		for i := range h {
			h[i] = toFloat16(x[i])
		}
		return NewF16(rows, cols, h)
	case Q8_0:
		q, scale := make([]int8, len(x)), make([]float32, len(x)/Block)
		portableQuantize(q, scale, x)
		return NewQ8(rows, cols, q, scale)
	}
	return NewF32(rows, cols, x)
}

func TestMul(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		p := NewPool(1)
		defer p.Close()
		for _, f := range []Format{F32, F16, Q8_0} {
			for _, size := range [][3]int{{1, 32, 1}, {3, 64, 2}, {4, 32, 1}, {5, 96, 3}, {17, 160, 5}, {8, 288, 1}, {7, 40, 2}, {2, 8, 1}} {
				rows, cols, n := size[0], size[1], size[2]
				if f == Q8_0 && cols%Block != 0 {
					continue
				}
				m := randomMatrix(r, f, rows, cols)
				x := randomF32(r, n*cols)
				var in Input
				in.Set(x, n, cols)
				dst := make([]float32, n*rows)
				m.Mul(dst, &in, p)
				row := make([]float32, cols)
				for i := range n {
					for j := range rows {
						m.Row(row, j)
						var want, scale float64
						for k, w := range row {
							v := float64(x[i*cols+k])
							if f == Q8_0 {
								v = float64(in.q[i*cols+k]) * float64(in.scale[(i*cols+k)/Block])
							}
							want += float64(w) * v
							scale += math.Abs(float64(w) * v)
						}
						if got := float64(dst[i*rows+j]); math.Abs(got-want) > 1e-6*scale {
							t.Fatalf("format %d, %d×%d, vector %d, row %d: %v, want %v", f, rows, cols, i, j, got, want)
						}
					}
				}
			}
		}
	})
}

// The answer to one request must not depend on what else the engine is doing.
func TestMulDependsOnOperandsOnly(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		const rows, cols, n = 1030, 256, 9
		one, three := NewPool(1), NewPool(3)
		defer one.Close()
		defer three.Close()
		for _, f := range []Format{F32, F16, Q8_0} {
			m := randomMatrix(r, f, rows, cols)
			x := randomF32(r, n*cols)
			var in Input
			in.Set(x, n, cols)
			together := make([]float32, n*rows)
			m.Mul(together, &in, three)
			alone := make([]float32, rows)
			for i := range n {
				in.Set(x[i*cols:(i+1)*cols], 1, cols)
				m.Mul(alone, &in, one)
				if !slices.Equal(alone, together[i*rows:(i+1)*rows]) {
					t.Fatalf("format %d: vector %d differs when multiplied alone", f, i)
				}
			}
		}
	})
}

func TestQuantize(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		x := randomF32(r, 8*Block)
		clear(x[Block : 2*Block])
		for i := range x[2*Block : 3*Block] {
			x[2*Block+i] *= 1e-30
		}
		q, scale := make([]int8, len(x)), make([]float32, len(x)/Block)
		quantize(q, scale, x)
		for i, v := range x {
			if got := float32(q[i]) * scale[i/Block]; math.Abs(float64(got-v)) > 0.501*float64(scale[i/Block]) {
				t.Errorf("element %d: %v became %v, scale %v", i, v, got, scale[i/Block])
			}
			if q[i] == -128 {
				t.Errorf("element %d is -128", i)
			}
		}
	})
}

func TestAttentionRows(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, n := range []int{8, 16, 32, 40, 64, 96, 128} {
			for _, rows := range []int{1, 3, 4, 10} {
				stride := n + 8
				v, x, w := randomF32(r, rows*stride), randomF32(r, n), randomF32(r, rows)
				dst := make([]float32, rows)
				DotRows(dst, v, x, stride)
				sum := slices.Clone(x)
				AddRows(sum, v, w, stride)
				for i := range rows {
					var want float64
					for k := range n {
						want += float64(v[i*stride+k]) * float64(x[k])
					}
					if math.Abs(float64(dst[i])-want) > 1e-4 {
						t.Fatalf("DotRows of %d: %v, want %v", n, dst[i], want)
					}
				}
				for k := range n {
					want := float64(x[k])
					for i := range rows {
						want += float64(w[i]) * float64(v[i*stride+k])
					}
					if math.Abs(float64(sum[k])-want) > 1e-4 {
						t.Fatalf("AddRows of %d×%d: %v, want %v", rows, n, sum[k], want)
					}
				}
			}
		}
	})
}

func TestExp(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for v := float32(-100); v <= 0; v += 0.037 {
			x := []float32{v, 0, -1}
			sum := expSum(x, 0)
			want := math.Exp(float64(v))
			if err := math.Abs(float64(x[0]) - want); err > 3e-7*want && err > 1e-37 {
				t.Fatalf("exp(%v) = %v, want %v", v, x[0], want)
			}
			if want := float32(want + 1 + math.Exp(-1)); math.Abs(float64(sum-want)) > 1e-6*float64(want) {
				t.Fatalf("sum %v, want %v", sum, want)
			}
		}
		for v := float32(-200); v <= 200; v += 0.173 {
			gate := []float32{v, v, v, v, v, v, v, v, v}
			swiglu(gate, []float32{2, 2, 2, 2, 2, 2, 2, 2, 2})
			want := 2 * float64(v) / (1 + math.Exp(-float64(v)))
			for _, got := range gate {
				if math.Abs(float64(got)-want) > 1e-6*math.Abs(want)+1e-30 {
					t.Fatalf("2*silu(%v) = %v, want %v", v, got, want)
				}
			}
		}
		nan := []float32{float32(math.NaN()), 0, 0, 0, 0, 0, 0, 0}
		if Softmax(nan); nan[0] == nan[0] {
			t.Error("a NaN got lost")
		}
	})
}

func TestSoftmaxAndRMSNorm(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 10))
		for _, n := range []int{1, 5, 8, 13, 64} {
			x := randomF32(r, n)
			y := slices.Clone(x)
			Softmax(y)
			var z float64
			for _, v := range x {
				z += math.Exp(float64(v))
			}
			for i := range x {
				if want := math.Exp(float64(x[i])) / z; math.Abs(float64(y[i])-want) > 1e-6 {
					t.Fatalf("softmax: %v, want %v", y[i], want)
				}
			}
			w := randomF32(r, n)
			RMSNorm(y, x, w, 1e-5)
			var ss float64
			for _, v := range x {
				ss += float64(v) * float64(v)
			}
			for i := range x {
				if want := float64(x[i]) / math.Sqrt(ss/float64(n)+1e-5) * float64(w[i]); math.Abs(float64(y[i])-want) > 1e-5 {
					t.Fatalf("RMSNorm: %v, want %v", y[i], want)
				}
			}
		}
		Softmax(nil)
	})
}

func TestFloat16(t *testing.T) {
	for h, want := range map[uint16]float64{
		0x0000: 0, 0x0001: math.Ldexp(1, -24), 0x03ff: math.Ldexp(1023, -24), 0x0400: math.Ldexp(1, -14), 0x3c00: 1, 0xc000: -2,
		0x7bff: 65504, 0x3555: 0.333251953125, 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1),
	} {
		if got := float64(Float16(h)); got != want {
			t.Errorf("%04x: %v, want %v", h, got, want)
		}
	}
	if !math.IsNaN(float64(Float16(0x7e00))) || !math.Signbit(float64(Float16(0x8000))) {
		t.Error("NaN or negative zero")
	}
}
