// Package kernel holds the arithmetic of a transformer: products of weight matrices in F32, F16 and Q8_0 with
// activations, and the vector operations of attention and feed-forward layers.
//
// On amd64 with AVX2, FMA and F16C the inner loops are assembly; elsewhere they are portable Go. On one machine a result depends only on the operands: neither the number of threads nor the
// other vectors of a batch change a bit of it.
package kernel

import "math"

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

// panel is the number of rows that are multiplied together, and tile the number of their elements that F32 and F16 take at
// a time. A [Matrix] is stored in that order: a tile (in Q8_0 a Block) of each of the panel's rows, then the next ones, so
// that multiplying reads memory from front to back, once.
const (
	panel = 4
	tile  = 8
)

// Matrix is a matrix of weights.
type Matrix struct {
	Rows, Cols int
	Format     Format

	f32   []float32
	f16   []uint16
	q     []int8
	scale []float32 // Q8_0: one for each Block of q
}

// NewF32 makes a matrix from its rows, back to back; cols is a multiple of 8.
func NewF32(rows, cols int, data []float32) *Matrix {
	mustHold(cols%tile == 0 && len(data) == rows*cols)
	return &Matrix{Rows: rows, Cols: cols, Format: F32, f32: interleave(data, rows, cols, tile)}
}

// NewF16 makes a matrix of IEEE 754 binary16 elements from its rows, back to back; cols is a multiple of 8.
func NewF16(rows, cols int, data []uint16) *Matrix {
	mustHold(cols%tile == 0 && len(data) == rows*cols)
	return &Matrix{Rows: rows, Cols: cols, Format: F16, f16: interleave(data, rows, cols, tile)}
}

// NewQ8 makes a matrix of the elements q[i]*scale[i/Block] from its rows, back to back; cols is a multiple of Block. No
// element of q is -128.
func NewQ8(rows, cols int, q []int8, scale []float32) *Matrix {
	mustHold(cols%Block == 0 && len(q) == rows*cols && len(scale) == rows*cols/Block)
	return &Matrix{Rows: rows, Cols: cols, Format: Q8_0, q: interleave(q, rows, cols, Block), scale: interleave(scale, rows, cols/Block, 1)}
}

// interleave puts rows into panels of n elements of each row. A last panel with fewer rows is filled with zeros.
func interleave[T any](data []T, rows, cols, n int) []T {
	out := make([]T, (rows+panel-1)/panel*panel*cols)
	for r := range rows {
		from, to := data[r*cols:(r+1)*cols], out[place(r, cols, n):]
		for i := 0; i < cols; i += n {
			copy(to[i*panel:], from[i:i+n])
		}
	}
	return out
}

// place is where row r begins; its next n elements follow n*panel elements later.
func place(r, cols, n int) int { return r/panel*panel*cols + r%panel*n }

func mustHold(ok bool) {
	if !ok {
		panic("kernel: dimensions do not match")
	}
}

// Row writes row r as float32 to dst.
func (m *Matrix) Row(dst []float32, r int) {
	switch m.Format {
	case F32:
		at := place(r, m.Cols, tile)
		for i := 0; i < m.Cols; i += tile {
			copy(dst[i:i+tile], m.f32[at+i*panel:])
		}
	case F16:
		at := place(r, m.Cols, tile)
		for i := 0; i < m.Cols; i += tile {
			for j, h := range m.f16[at+i*panel : at+i*panel+tile] {
				dst[i+j] = Float16(h)
			}
		}
	case Q8_0:
		at, scaleAt := place(r, m.Cols, Block), place(r, m.Cols/Block, 1)
		for i := 0; i < m.Cols; i += Block {
			f := m.scale[scaleAt+i/Block*panel]
			for j, q := range m.q[at+i*panel : at+i*panel+Block] {
				dst[i+j] = float32(q) * f
			}
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
	panels := (m.Rows + panel - 1) / panel
	p.Run(parts, func(i int) {
		m.mulRows(dst, in, panels*i/parts*panel, min(panels*(i+1)/parts*panel, m.Rows))
	})
}

// mulRows computes the rows from, a multiple of panel, to to. A panel stays in the processor's nearest cache while it is
// multiplied with every vector.
func (m *Matrix) mulRows(dst []float32, in *Input, from, to int) {
	blocks := m.Cols / Block
	for r := from; r < to; r += panel {
		begin, end := r*m.Cols, (r+panel)*m.Cols
		for i := range in.n {
			var out [panel]float32
			switch m.Format {
			case F32:
				dotF32(&out, m.f32[begin:end], tile, panel*tile, in.x[i*m.Cols:(i+1)*m.Cols])
			case F16:
				dotF16(&out, m.f16[begin:end], in.x[i*m.Cols:(i+1)*m.Cols])
			case Q8_0:
				dotQ8(&out, m.q[begin:end], m.scale[r*blocks:(r+panel)*blocks], in.q[i*m.Cols:(i+1)*m.Cols], in.scale[i*blocks:(i+1)*blocks])
			}
			copy(dst[i*m.Rows+r:i*m.Rows+to], out[:])
		}
	}
}

// DotRows writes the dot product of x with each of the len(dst) rows of w to dst; row r begins at w[r*stride]. The length
// of x is a multiple of 8.
func DotRows(dst, w, x []float32, stride int) {
	mustHold(len(x)%tile == 0)
	for ; len(dst) >= panel; dst = dst[panel:] {
		dotF32((*[panel]float32)(dst), w[:(panel-1)*stride+len(x)], stride, tile, x)
		w = w[min(panel*stride, len(w)):]
	}
	for r := range dst {
		var out [panel]float32
		dotF32(&out, w[r*stride:r*stride+len(x)], 0, tile, x)
		dst[r] = out[0]
	}
}

// AddRows adds weight[r] times row r of v to dst for every r; row r begins at v[r*stride] and is as long as dst, a multiple
// of 8.
func AddRows(dst, v, weight []float32, stride int) {
	mustHold(len(dst)%tile == 0)
	if len(weight) == 0 || len(dst) == 0 {
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
