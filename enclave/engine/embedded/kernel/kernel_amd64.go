package kernel

import "golang.org/x/sys/cpu"

// accelerated says whether the processor has what the assembly needs. Tests clear it.
var accelerated = cpu.X86.HasAVX2 && cpu.X86.HasFMA && hasF16C()

// hasF16C reads the F16C bit, which x/sys/cpu leaves out. That the system saves the wide registers is part of HasAVX2.
func hasF16C() bool

// The assembly works on four rows at a time, of which row r begins stride bytes after row r-1; n counts elements and is
// a positive multiple of 8 (of Block for Q8).

//go:noescape
func dot4F32(w *float32, stride int, x *float32, n int, out *[4]float32)

//go:noescape
func dot4F16(w *uint16, stride int, x *float32, n int, out *[4]float32)

//go:noescape
func dot4Q8(w *int8, stride int, wScale *float32, scaleStride int, x *int8, xScale *float32, blocks int, out *[4]float32)

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

func dotRowsF32(dst, w, x []float32, stride int) {
	if !accelerated || len(x)%8 != 0 || len(x) == 0 {
		portableDotRowsF32(dst, w, x, stride)
		return
	}
	if len(dst) == 4 {
		dot4F32(&w[0], 4*stride, &x[0], len(x), (*[4]float32)(dst))
		return
	}
	for r := range dst {
		var out [4]float32
		dot4F32(&w[r*stride], 0, &x[0], len(x), &out)
		dst[r] = out[0]
	}
}

func dotRowsF16(dst []float32, w []uint16, x []float32) {
	if !accelerated || len(x)%8 != 0 || len(x) == 0 {
		portableDotRowsF16(dst, w, x)
		return
	}
	if len(dst) == 4 {
		dot4F16(&w[0], 2*len(x), &x[0], len(x), (*[4]float32)(dst))
		return
	}
	for r := range dst {
		var out [4]float32
		dot4F16(&w[r*len(x)], 0, &x[0], len(x), &out)
		dst[r] = out[0]
	}
}

func dotRowsQ8(dst []float32, w []int8, wScale []float32, x []int8, xScale []float32) {
	if !accelerated || len(x) == 0 {
		portableDotRowsQ8(dst, w, wScale, x, xScale)
		return
	}
	if len(dst) == 4 {
		dot4Q8(&w[0], len(x), &wScale[0], 4*len(xScale), &x[0], &xScale[0], len(xScale), (*[4]float32)(dst))
		return
	}
	for r := range dst {
		var out [4]float32
		dot4Q8(&w[r*len(x)], 0, &wScale[r*len(xScale)], 0, &x[0], &xScale[0], len(xScale), &out)
		dst[r] = out[0]
	}
}

func addRows(dst, v, weight []float32, stride int) {
	if !accelerated || len(dst)%8 != 0 || len(dst) == 0 {
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
