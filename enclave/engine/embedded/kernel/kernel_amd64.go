package kernel

import "golang.org/x/sys/cpu"

// accelerated says whether the processor has what the assembly needs. Tests clear it.
var accelerated = cpu.X86.HasAVX2 && cpu.X86.HasFMA && hasF16C()

// hasF16C reads the F16C bit, which x/sys/cpu leaves out. That the system saves the wide registers is part of HasAVX2.
func hasF16C() bool

// The dot products are of x, n elements (a positive multiple of tile), with the four rows of a panel. dot4F32 is told in
// bytes how far apart rows begin and tiles follow each other; the others know it.

//go:noescape
func dot4F32(w *float32, stride, step int, x *float32, n int, out *[4]float32)

//go:noescape
func dot4F16(w *uint16, x *float32, n int, out *[4]float32)

//go:noescape
func dot4Q8(w *int8, wScale *float32, x *int8, xScale *float32, blocks int, out *[4]float32)

// addRowsF32 adds Σ weight[r]*v[r] to the n elements of dst.
//
//go:noescape
func addRowsF32(dst, v *float32, stride int, weight *float32, rows, n int)

//go:noescape
func quantizeQ8(q *int8, scale, x *float32, blocks int)

// expSumF32 replaces the n elements of x by exp(x-top) and returns their sum.
//
//go:noescape
func expSumF32(x *float32, n int, top float32) float32

//go:noescape
func swigluF32(gate, up *float32, n int)

func dotF32(out *[panel]float32, w []float32, stride, step int, x []float32) {
	if !accelerated || len(x) == 0 {
		portableDotF32(out, w, stride, step, x)
		return
	}
	_ = w[(panel-1)*stride+(len(x)/tile-1)*step+tile-1]
	dot4F32(&w[0], 4*stride, 4*step, &x[0], len(x), out)
}

func dotF16(out *[panel]float32, w []uint16, x []float32) {
	if !accelerated || len(x) == 0 {
		portableDotF16(out, w, x)
		return
	}
	_ = w[panel*len(x)-1]
	dot4F16(&w[0], &x[0], len(x), out)
}

func dotQ8(out *[panel]float32, w []int8, wScale []float32, x []int8, xScale []float32) {
	if !accelerated || len(x) == 0 {
		portableDotQ8(out, w, wScale, x, xScale)
		return
	}
	_, _ = w[panel*len(x)-1], wScale[panel*len(xScale)-1]
	dot4Q8(&w[0], &wScale[0], &x[0], &xScale[0], len(xScale), out)
}

func addRows(dst, v, weight []float32, stride int) {
	if !accelerated {
		portableAddRows(dst, v, weight, stride)
		return
	}
	addRowsF32(&dst[0], &v[0], 4*stride, &weight[0], len(weight), len(dst))
}

func quantize(q []int8, scale, x []float32) {
	if !accelerated || len(x) == 0 {
		portableQuantize(q, scale, x)
		return
	}
	quantizeQ8(&q[0], &scale[0], &x[0], len(scale))
}

func expSum(x []float32, top float32) float32 {
	if !accelerated {
		return portableExpSum(x, top)
	}
	var sum float32
	if n := len(x) &^ 7; n > 0 {
		sum = expSumF32(&x[0], n, top)
		x = x[n:]
	}
	if len(x) > 0 { // the rest, padded, so that an element's value does not depend on its place
		var tail [8]float32
		for i := copy(tail[:], x); i < len(tail); i++ {
			tail[i] = top - 1e4 // adds nothing
		}
		sum += expSumF32(&tail[0], len(tail), top)
		copy(x, tail[:])
	}
	return sum
}

func swiglu(gate, up []float32) {
	if !accelerated {
		portableSwiGLU(gate, up)
		return
	}
	n := len(gate) &^ 7
	if n > 0 {
		swigluF32(&gate[0], &up[0], n)
	}
	portableSwiGLU(gate[n:], up[n:])
}
