//go:build !amd64

package kernel

func dotRowsF32(dst, w, x []float32, stride int) { portableDotRowsF32(dst, w, x, stride) }

func dotRowsF16(dst []float32, w []uint16, x []float32) { portableDotRowsF16(dst, w, x) }

func dotRowsQ8(dst []float32, w []int8, wScale []float32, x []int8, xScale []float32) {
	portableDotRowsQ8(dst, w, wScale, x, xScale)
}

func addRows(dst, v, weight []float32, stride int) { portableAddRows(dst, v, weight, stride) }

func quantize(q []int8, scale, x []float32) { portableQuantize(q, scale, x) }

func expSum(x []float32, top float32) float32 { return portableExpSum(x, top) }

func swiglu(gate, up []float32) { portableSwiGLU(gate, up) }
