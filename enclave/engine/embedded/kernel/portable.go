package kernel

import "math"

// portableDotF32 computes the products of x with a panel's rows: row r begins at w[r*stride], and its next tile follows
// step elements later.
func portableDotF32(out *[panel]float32, w []float32, stride, step int, x []float32) {
	for r := range out {
		var s [4]float32
		for i := 0; i < len(x); i += tile {
			p, q := w[r*stride+i/tile*step:][:tile], x[i:i+tile]
			s[0] += p[0]*q[0] + p[4]*q[4]
			s[1] += p[1]*q[1] + p[5]*q[5]
			s[2] += p[2]*q[2] + p[6]*q[6]
			s[3] += p[3]*q[3] + p[7]*q[7]
		}
		out[r] = s[0] + s[1] + s[2] + s[3]
	}
}

func portableDotF16(out *[panel]float32, w []uint16, x []float32) {
	for r := range out {
		var s float32
		for i := 0; i < len(x); i += tile {
			for j, h := range w[i*panel+r*tile:][:tile] {
				s += Float16(h) * x[i+j]
			}
		}
		out[r] = s
	}
}

func portableDotQ8(out *[panel]float32, w []int8, wScale []float32, x []int8, xScale []float32) {
	for r := range out {
		var s float32
		for b, xs := range xScale {
			p, q := w[(b*panel+r)*Block:][:Block], x[b*Block:][:Block]
			var t int32
			for i := range p {
				t += int32(p[i]) * int32(q[i])
			}
			s += float32(t) * (wScale[b*panel+r] * xs)
		}
		out[r] = s
	}
}

func portableAddRows(dst, v, weight []float32, stride int) {
	for r, f := range weight {
		row := v[r*stride : r*stride+len(dst)]
		for i, x := range row {
			dst[i] += f * x
		}
	}
}

// negligible is a magnitude up to which a block counts as zeros: 127 divided by much less is infinite.
const negligible = 1.0 / (1 << 55) / (1 << 55)

func portableQuantize(q []int8, scale, x []float32) {
	for b := range scale {
		v := x[b*Block : (b+1)*Block]
		var top float32
		for _, f := range v {
			top = max(top, f, -f)
		}
		scale[b] = top / 127
		var inverse float32
		if top > negligible {
			inverse = 127 / top
		}
		o := q[b*Block : (b+1)*Block]
		for i, f := range v {
			o[i] = int8(math.RoundToEven(float64(f * inverse)))
		}
	}
}

func portableExpSum(x []float32, top float32) float32 {
	var sum float32
	for i, v := range x {
		e := float32(math.Exp(float64(v - top)))
		x[i] = e
		sum += e
	}
	return sum
}

func portableSwiGLU(gate, up []float32) {
	for i, g := range gate {
		gate[i] = g / (1 + float32(math.Exp(float64(-g)))) * up[i]
	}
}
