package kernel

import "math"

func portableDotRowsF32(dst, w, x []float32, stride int) {
	for r := range dst {
		row := w[r*stride : r*stride+len(x)]
		var s [4]float32
		i := 0
		for ; i+4 <= len(x); i += 4 {
			s[0] += row[i] * x[i]
			s[1] += row[i+1] * x[i+1]
			s[2] += row[i+2] * x[i+2]
			s[3] += row[i+3] * x[i+3]
		}
		for ; i < len(x); i++ {
			s[0] += row[i] * x[i]
		}
		dst[r] = s[0] + s[1] + s[2] + s[3]
	}
}

func portableDotRowsF16(dst []float32, w []uint16, x []float32) {
	for r := range dst {
		row := w[r*len(x) : (r+1)*len(x)]
		var s float32
		for i, h := range row {
			s += Float16(h) * x[i]
		}
		dst[r] = s
	}
}

func portableDotRowsQ8(dst []float32, w []int8, wScale []float32, x []int8, xScale []float32) {
	for r := range dst {
		row, scale := w[r*len(x):(r+1)*len(x)], wScale[r*len(xScale):(r+1)*len(xScale)]
		var s float32
		for b, xs := range xScale {
			p, q := row[b*Block:(b+1)*Block], x[b*Block:(b+1)*Block]
			var t int32
			for i := range p {
				t += int32(p[i]) * int32(q[i])
			}
			s += float32(t) * (scale[b] * xs)
		}
		dst[r] = s
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

func portableQuantize(q []int8, scale, x []float32) {
	for b := range scale {
		v := x[b*Block : (b+1)*Block]
		var top float32
		for _, f := range v {
			top = max(top, f, -f)
		}
		scale[b] = top / 127
		var inverse float32
		if top > 0 {
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
