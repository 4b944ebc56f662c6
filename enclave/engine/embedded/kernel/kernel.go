// Package kernel holds the arithmetic of a transformer: products of weight matrices in F32, F16 and Q8_0 with
// activations, and the vector operations of attention and feed-forward layers.
//
// On amd64 with AVX2, FMA and F16C the inner loops are assembly; elsewhere, and for lengths that are no multiple of 8,
// they are portable Go. On one machine a result depends only on the operands: neither the number of threads nor the
// other vectors of a batch change a bit of it.
package kernel

import (
	"math"
)

// Block is the number of elements that share a scale in Q8_0.
const Block = 32

// Format is how a [Matrix] holds its elements.
type Format int

// The formats, as GGUF defines them.
const (
	F32 Format = iota
	F16
	Q8_0
)

// Matrix is a matrix of weights. Its rows are contiguous.
type Matrix struct {
	Rows, Cols int
	Format     Format

	f32   []float32
	f16   []uint16
	q     []int8
	scale []float32 // Q8_0: one for each Block of q
}

// NewF32 makes a matrix of rows*cols elements; it keeps data.
func NewF32(rows, cols int, data []float32) *Matrix {
	mustHold(len(data) == rows*cols)
	return &Matrix{Rows: rows, Cols: cols, Format: F32, f32: data}
}

// NewF16 makes a matrix of rows*cols IEEE 754 binary16 elements; it keeps data.
func NewF16(rows, cols int, data []uint16) *Matrix {
	mustHold(len(data) == rows*cols)
	return &Matrix{Rows: rows, Cols: cols, Format: F16, f16: data}
}

// NewQ8 makes a matrix of rows*cols elements q[i]*scale[i/Block]; cols is a multiple of Block. It keeps both slices.
func NewQ8(rows, cols int, q []int8, scale []float32) *Matrix {
	mustHold(cols%Block == 0 && len(q) == rows*cols && len(scale) == rows*cols/Block)
	return &Matrix{Rows: rows, Cols: cols, Format: Q8_0, q: q, scale: scale}
}

func mustHold(ok bool) {
	if !ok {
		panic("kernel: dimensions do not match")
	}
}

// Row writes row r as float32 to dst.
func (m *Matrix) Row(dst []float32, r int) {
	from := r * m.Cols
	switch m.Format {
	case F32:
		copy(dst, m.f32[from:from+m.Cols])
	case F16:
		for i, h := range m.f16[from : from+m.Cols] {
			dst[i] = Float16(h)
		}
	case Q8_0:
		for i, q := range m.q[from : from+m.Cols] {
			dst[i] = float32(q) * m.scale[(from+i)/Block]
		}
	}
}

// Input is a batch of activation vectors, the right operand of products. Several products can share one.
type Input struct {
	n, cols   int
	x         []float32
	quantized bool
	q         []int8
	scale     []float32
}

// Set makes the input n vectors of cols elements, back to back in x, which it keeps.
func (in *Input) Set(x []float32, n, cols int) {
	mustHold(len(x) == n*cols)
	in.x, in.n, in.cols, in.quantized = x, n, cols, false
}

// quantize rounds every block to int8 with the scale that maps its largest magnitude to 127.
func (in *Input) quantize() {
	if in.quantized {
		return
	}
	in.q = resize(in.q, len(in.x))
	in.scale = resize(in.scale, len(in.x)/Block)
	quantize(in.q, in.scale, in.x)
	in.quantized = true
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// groupRows rows are multiplied together. Work is split between threads at multiples of it, so that the split does not
// change which rows go together.
const groupRows = 4

// parallelWork is the number of multiplications from which handing a part to another thread pays.
const parallelWork = 1 << 19

// Mul writes m·x to dst for every vector x of in: element r of product i to dst[i*m.Rows+r].
func (m *Matrix) Mul(dst []float32, in *Input, p *Pool) {
	mustHold(in.cols == m.Cols && len(dst) == in.n*m.Rows)
	if m.Format == Q8_0 {
		in.quantize()
	}
	if parts := min(p.Threads(), m.Rows*m.Cols*in.n/parallelWork); parts > 1 {
		m.mulParallel(dst, in, p, parts)
		return
	}
	m.mulRows(dst, in, 0, m.Rows)
}

func (m *Matrix) mulParallel(dst []float32, in *Input, p *Pool, parts int) {
	groups := (m.Rows + groupRows - 1) / groupRows
	p.Run(parts, func(i int) {
		from, to := groups*i/parts*groupRows, groups*(i+1)/parts*groupRows
		m.mulRows(dst, in, from, min(to, m.Rows))
	})
}

func (m *Matrix) mulRows(dst []float32, in *Input, from, to int) {
	switch m.Format {
	case F32:
		for r := from; r < to; r += groupRows {
			n := min(groupRows, to-r)
			w := m.f32[r*m.Cols : (r+n)*m.Cols]
			for i := range in.n {
				dotRowsF32(dst[i*m.Rows+r:i*m.Rows+r+n], w, in.x[i*m.Cols:(i+1)*m.Cols], m.Cols)
			}
		}
	case F16:
		for r := from; r < to; r += groupRows {
			n := min(groupRows, to-r)
			w := m.f16[r*m.Cols : (r+n)*m.Cols]
			for i := range in.n {
				dotRowsF16(dst[i*m.Rows+r:i*m.Rows+r+n], w, in.x[i*m.Cols:(i+1)*m.Cols])
			}
		}
	case Q8_0:
		blocks := m.Cols / Block
		for r := from; r < to; r += groupRows {
			n := min(groupRows, to-r)
			w, ws := m.q[r*m.Cols:(r+n)*m.Cols], m.scale[r*blocks:(r+n)*blocks]
			for i := range in.n {
				dotRowsQ8(dst[i*m.Rows+r:i*m.Rows+r+n], w, ws, in.q[i*m.Cols:(i+1)*m.Cols], in.scale[i*blocks:(i+1)*blocks])
			}
		}
	}
}

// DotRows writes the dot product of x with each of the len(dst) rows of w to dst; row r begins at w[r*stride].
func DotRows(dst, w, x []float32, stride int) {
	for len(dst) > 0 {
		n := min(groupRows, len(dst))
		dotRowsF32(dst[:n], w[:(n-1)*stride+len(x)], x, stride)
		dst = dst[n:]
		if len(dst) > 0 {
			w = w[n*stride:]
		}
	}
}

// AddRows adds weight[r] times row r of v to dst for every r; row r begins at v[r*stride] and is as long as dst.
func AddRows(dst, v, weight []float32, stride int) {
	if len(weight) == 0 {
		return
	}
	_ = v[(len(weight)-1)*stride+len(dst)-1]
	addRows(dst, v, weight, stride)
}

// RMSNorm writes x, divided by its root mean square and multiplied elementwise with weight, to dst, which may be x.
func RMSNorm(dst, x, weight []float32, epsilon float32) {
	var sum float64
	for _, v := range x {
		sum += float64(v * v)
	}
	f := 1 / float32(math.Sqrt(float64(float32(sum/float64(len(x)))+epsilon)))
	for i, v := range x {
		dst[i] = v * f * weight[i]
	}
}

// Softmax replaces x by its softmax. It does nothing to an empty x.
func Softmax(x []float32) {
	if len(x) == 0 {
		return
	}
	top := x[0]
	for _, v := range x[1:] {
		top = max(top, v)
	}
	sum := expSum(x, top)
	f := 1 / sum
	for i := range x {
		x[i] *= f
	}
}

// SwiGLU replaces gate by silu(gate)*up, elementwise, where silu(x) = x/(1+exp(-x)).
func SwiGLU(gate, up []float32) {
	mustHold(len(gate) == len(up))
	swiglu(gate, up)
}

// Add adds x to dst, elementwise.
func Add(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += x[i]
	}
}

// Float16 converts an IEEE 754 binary16 number.
func Float16(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exponent {
	case 0:
		f := float32(fraction) / (1 << 24)
		return math.Float32frombits(sign | math.Float32bits(f))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
