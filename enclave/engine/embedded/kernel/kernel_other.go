//go:build !amd64

package kernel

func dotF32(out *[panel]float32, w []float32, stride, step int, x []float32) {
	portableDotF32(out, w, stride, step, x)
}

func dotF16(out *[panel]float32, w []uint16, x []float32) { portableDotF16(out, w, x) }

func dotQ8(out *[panel]float32, w []int8, wScale []float32, x []int8, xScale []float32) {
	portableDotQ8(out, w, wScale, x, xScale)
}

func addRows(dst, v, weight []float32, stride int) { portableAddRows(dst, v, weight, stride) }

func quantize(q []int8, scale, x []float32) { portableQuantize(q, scale, x) }

func expSum(x []float32, top float32) float32 { return portableExpSum(x, top) }

func swiglu(gate, up []float32) { portableSwiGLU(gate, up) }
