#include "textflag.h"

// func hasF16C() bool
TEXT ·hasF16C(SB), NOSPLIT, $0-1
	MOVL $1, AX
	XORL CX, CX
	CPUID
	SHRL $29, CX
	ANDL $1, CX
	MOVB CX, ret+0(FP)
	RET

// sums of the eight lanes of Y0 to Y3, as the four lanes of X0
#define SUM4 \
	VHADDPS Y1, Y0, Y0; \
	VHADDPS Y3, Y2, Y2; \
	VHADDPS Y2, Y0, Y0; \
	VEXTRACTF128 $1, Y0, X1; \
	VADDPS X1, X0, X0

// func dot4F32(w *float32, stride, step int, x *float32, n int, out *[4]float32)
TEXT ·dot4F32(SB), NOSPLIT, $0-48
	MOVQ w+0(FP), SI
	MOVQ stride+8(FP), R8
	MOVQ step+16(FP), BX
	MOVQ x+24(FP), DI
	MOVQ n+32(FP), CX
	MOVQ out+40(FP), DX
	LEAQ (SI)(R8*1), R9
	LEAQ (SI)(R8*2), R10
	LEAQ (R9)(R8*2), R11
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	XORQ AX, AX
	SUBQ $16, CX
	JL f32tail
f32loop:
	VMOVUPS (DI), Y8
	VMOVUPS 32(DI), Y9
	VFMADD231PS (SI)(AX*1), Y8, Y0
	VFMADD231PS (R9)(AX*1), Y8, Y1
	VFMADD231PS (R10)(AX*1), Y8, Y2
	VFMADD231PS (R11)(AX*1), Y8, Y3
	ADDQ BX, AX
	VFMADD231PS (SI)(AX*1), Y9, Y4
	VFMADD231PS (R9)(AX*1), Y9, Y5
	VFMADD231PS (R10)(AX*1), Y9, Y6
	VFMADD231PS (R11)(AX*1), Y9, Y7
	ADDQ BX, AX
	ADDQ $64, DI
	SUBQ $16, CX
	JGE f32loop
f32tail:
	ADDQ $16, CX
	JZ f32done
	VMOVUPS (DI), Y8
	VFMADD231PS (SI)(AX*1), Y8, Y0
	VFMADD231PS (R9)(AX*1), Y8, Y1
	VFMADD231PS (R10)(AX*1), Y8, Y2
	VFMADD231PS (R11)(AX*1), Y8, Y3
f32done:
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	VADDPS Y6, Y2, Y2
	VADDPS Y7, Y3, Y3
	SUM4
	VMOVUPS X0, (DX)
	VZEROUPPER
	RET

// func dot4F16(w *uint16, x *float32, n int, out *[4]float32)
TEXT ·dot4F16(SB), NOSPLIT, $0-32
	MOVQ w+0(FP), SI
	MOVQ x+8(FP), DI
	MOVQ n+16(FP), CX
	MOVQ out+24(FP), DX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
f16loop:
	PREFETCHT0 1024(SI)
	VMOVUPS (DI), Y8
	VCVTPH2PS (SI), Y4
	VCVTPH2PS 16(SI), Y5
	VCVTPH2PS 32(SI), Y6
	VCVTPH2PS 48(SI), Y7
	VFMADD231PS Y4, Y8, Y0
	VFMADD231PS Y5, Y8, Y1
	VFMADD231PS Y6, Y8, Y2
	VFMADD231PS Y7, Y8, Y3
	ADDQ $64, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JG f16loop
	SUM4
	VMOVUPS X0, (DX)
	VZEROUPPER
	RET

// One row of one block: t = 8 sums of w*x, with x in Y4, |x| in Y5 and ones in Y15. VPMADDUBSW wants one unsigned operand,
// so |x| takes x's signs to w. Neither is -128, so pairs stay within int16.
#define ROWQ8(at, t) \
	VMOVDQU at(SI), t; \
	VPSIGNB Y4, t, t; \
	VPMADDUBSW t, Y5, t; \
	VPMADDWD Y15, t, t

// func dot4Q8(w *int8, wScale *float32, x *int8, xScale *float32, blocks int, out *[4]float32)
TEXT ·dot4Q8(SB), NOSPLIT, $0-48
	MOVQ w+0(FP), SI
	MOVQ wScale+8(FP), R9
	MOVQ x+16(FP), DI
	MOVQ xScale+24(FP), R11
	MOVQ blocks+32(FP), CX
	MOVQ out+40(FP), DX
	VXORPS Y0, Y0, Y0
	VPCMPEQW Y15, Y15, Y15
	VPSRLW $15, Y15, Y15
q8loop:
	PREFETCHT0 1024(SI)
	PREFETCHT0 1088(SI)
	VMOVDQU (DI), Y4
	VPABSB Y4, Y5
	ROWQ8(0, Y6)
	ROWQ8(32, Y7)
	ROWQ8(64, Y8)
	ROWQ8(96, Y9)
	VPHADDD Y7, Y6, Y6
	VPHADDD Y9, Y8, Y8
	VPHADDD Y8, Y6, Y6 // rows 0 to 3, twice
	VCVTDQ2PS Y6, Y6
	VBROADCASTSS (R11), Y10
	VBROADCASTF128 (R9), Y11
	VMULPS Y10, Y11, Y11
	VFMADD231PS Y11, Y6, Y0
	ADDQ $128, SI
	ADDQ $16, R9
	ADDQ $32, DI
	ADDQ $4, R11
	DECQ CX
	JG q8loop
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VMOVUPS X0, (DX)
	VZEROUPPER
	RET

// func addRowsF32(dst, v *float32, stride int, weight *float32, rows, n int)
TEXT ·addRowsF32(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ v+8(FP), SI
	MOVQ stride+16(FP), R8
	MOVQ weight+24(FP), R9
	MOVQ rows+32(FP), R10
	MOVQ n+40(FP), CX
add32:
	SUBQ $32, CX
	JL add8first
	VMOVUPS (DI), Y0
	VMOVUPS 32(DI), Y1
	VMOVUPS 64(DI), Y2
	VMOVUPS 96(DI), Y3
	MOVQ SI, R11
	MOVQ R9, R12
	MOVQ R10, R13
add32row:
	VBROADCASTSS (R12), Y4
	VFMADD231PS (R11), Y4, Y0
	VFMADD231PS 32(R11), Y4, Y1
	VFMADD231PS 64(R11), Y4, Y2
	VFMADD231PS 96(R11), Y4, Y3
	ADDQ R8, R11
	ADDQ $4, R12
	DECQ R13
	JG add32row
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	ADDQ $128, DI
	ADDQ $128, SI
	JMP add32
add8first:
	ADDQ $32, CX
add8:
	SUBQ $8, CX
	JL adddone
	VMOVUPS (DI), Y0
	MOVQ SI, R11
	MOVQ R9, R12
	MOVQ R10, R13
add8row:
	VBROADCASTSS (R12), Y4
	VFMADD231PS (R11), Y4, Y0
	ADDQ R8, R11
	ADDQ $4, R12
	DECQ R13
	JG add8row
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	JMP add8
adddone:
	VZEROUPPER
	RET

DATA bits<>+0(SB)/4, $0x7fffffff // all but the sign
DATA bits<>+4(SB)/4, $0x42fe0000 // 127.0
DATA bits<>+8(SB)/4, $0x3f800000 // 1.0
DATA bits<>+12(SB)/4, $0x80000000 // the sign
DATA bits<>+16(SB)/4, $0x08800000 // negligible, 2^-110
GLOBL bits<>(SB), RODATA|NOPTR, $20

DATA order<>+0(SB)/4, $0
DATA order<>+4(SB)/4, $4
DATA order<>+8(SB)/4, $1
DATA order<>+12(SB)/4, $5
DATA order<>+16(SB)/4, $2
DATA order<>+20(SB)/4, $6
DATA order<>+24(SB)/4, $3
DATA order<>+28(SB)/4, $7
GLOBL order<>(SB), RODATA|NOPTR, $32

// func quantizeQ8(q *int8, scale, x *float32, blocks int)
TEXT ·quantizeQ8(SB), NOSPLIT, $0-32
	MOVQ q+0(FP), DI
	MOVQ scale+8(FP), DX
	MOVQ x+16(FP), SI
	MOVQ blocks+24(FP), CX
	VBROADCASTSS bits<>+0(SB), Y15
	VMOVSS bits<>+4(SB), X14
	VMOVDQU order<>(SB), Y13
	VMOVSS bits<>+16(SB), X12
quantloop:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	VMOVUPS 64(SI), Y2
	VMOVUPS 96(SI), Y3
	VANDPS Y15, Y0, Y4
	VANDPS Y15, Y1, Y5
	VANDPS Y15, Y2, Y6
	VANDPS Y15, Y3, Y7
	VPMAXUD Y5, Y4, Y4       // positive numbers are ordered like integers, and above them all, NaN
	VPMAXUD Y7, Y6, Y6
	VPMAXUD Y6, Y4, Y4
	VEXTRACTF128 $1, Y4, X5
	VPMAXUD X5, X4, X4
	VPERMILPS $0x4e, X4, X5
	VPMAXUD X5, X4, X4
	VPERMILPS $0xb1, X4, X5
	VPMAXUD X5, X4, X4
	VDIVSS X14, X4, X5       // top/127
	VMOVSS X5, (DX)
	VDIVSS X4, X14, X6       // 127/top, or 0 when top is too small or NaN
	VUCOMISS X12, X4
	JHI quantscale
	VXORPS X6, X6, X6
quantscale:
	VBROADCASTSS X6, Y6
	VMULPS Y6, Y0, Y0
	VMULPS Y6, Y1, Y1
	VMULPS Y6, Y2, Y2
	VMULPS Y6, Y3, Y3
	VCVTPS2DQ Y0, Y0
	VCVTPS2DQ Y1, Y1
	VCVTPS2DQ Y2, Y2
	VCVTPS2DQ Y3, Y3
	VPACKSSDW Y1, Y0, Y0
	VPACKSSDW Y3, Y2, Y2
	VPACKSSWB Y2, Y0, Y0
	VPERMD Y0, Y13, Y0
	VMOVDQU Y0, (DI)
	ADDQ $128, SI
	ADDQ $32, DI
	ADDQ $4, DX
	DECQ CX
	JG quantloop
	VZEROUPPER
	RET

// exp(x) = 2^n * exp(r), n = round(x*log2(e)), r = x - n*ln(2) in two parts, exp(r) by its Taylor polynomial of degree 7:
// |r| <= 0.347, so the relative error stays below 2e-7. x is clamped to where 2^n is a normal number.
DATA expc<>+0(SB)/4, $0x3fb8aa3b  // log2(e)
DATA expc<>+4(SB)/4, $0x3f318000  // ln(2), high part
DATA expc<>+8(SB)/4, $0xb95e8083  // ln(2), low part
DATA expc<>+12(SB)/4, $0x42b00000 // 88
DATA expc<>+16(SB)/4, $0xc2ae0000 // -87
DATA expc<>+20(SB)/4, $0x39500d01 // 1/5040
DATA expc<>+24(SB)/4, $0x3ab60b61 // 1/720
DATA expc<>+28(SB)/4, $0x3c088889 // 1/120
DATA expc<>+32(SB)/4, $0x3d2aaaab // 1/24
DATA expc<>+36(SB)/4, $0x3e2aaaab // 1/6
DATA expc<>+40(SB)/4, $0x3f000000 // 1/2
DATA expc<>+44(SB)/4, $0x3f800000 // 1
GLOBL expc<>(SB), RODATA|NOPTR, $48

#define EXPCONST \
	VBROADCASTSS expc<>+0(SB), Y4; \
	VBROADCASTSS expc<>+4(SB), Y5; \
	VBROADCASTSS expc<>+8(SB), Y6; \
	VBROADCASTSS expc<>+12(SB), Y7; \
	VBROADCASTSS expc<>+16(SB), Y8; \
	VBROADCASTSS expc<>+20(SB), Y9; \
	VBROADCASTSS expc<>+24(SB), Y10; \
	VBROADCASTSS expc<>+28(SB), Y11; \
	VBROADCASTSS expc<>+32(SB), Y12; \
	VBROADCASTSS expc<>+36(SB), Y13; \
	VBROADCASTSS expc<>+40(SB), Y14; \
	VBROADCASTSS expc<>+44(SB), Y15

// Y0 = exp(Y0), using Y1 and Y2. A NaN stays one: VMINPS and VMAXPS return their second source, here x.
#define EXP \
	VMINPS Y0, Y7, Y0; \
	VMAXPS Y0, Y8, Y0; \
	VMULPS Y4, Y0, Y1; \
	VROUNDPS $0, Y1, Y1; \
	VFNMADD231PS Y5, Y1, Y0; \
	VFNMADD231PS Y6, Y1, Y0; \
	VMOVAPS Y9, Y2; \
	VFMADD213PS Y10, Y0, Y2; \
	VFMADD213PS Y11, Y0, Y2; \
	VFMADD213PS Y12, Y0, Y2; \
	VFMADD213PS Y13, Y0, Y2; \
	VFMADD213PS Y14, Y0, Y2; \
	VFMADD213PS Y15, Y0, Y2; \
	VFMADD213PS Y15, Y0, Y2; \
	VCVTPS2DQ Y1, Y1; \
	VPSLLD $23, Y1, Y1; \
	VPADDD Y1, Y2, Y0

// func expSumF32(x *float32, n int, top float32) float32
TEXT ·expSumF32(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	EXPCONST
	VXORPS Y3, Y3, Y3
expsumloop:
	VMOVUPS (SI), Y0
	VBROADCASTSS top+16(FP), Y1
	VSUBPS Y1, Y0, Y0
	EXP
	VMOVUPS Y0, (SI)
	VADDPS Y0, Y3, Y3
	ADDQ $32, SI
	SUBQ $8, CX
	JG expsumloop
	VEXTRACTF128 $1, Y3, X0
	VADDPS X0, X3, X3
	VHADDPS X3, X3, X3
	VHADDPS X3, X3, X3
	VMOVSS X3, ret+24(FP)
	VZEROUPPER
	RET

// func swigluF32(gate, up *float32, n int)
TEXT ·swigluF32(SB), NOSPLIT, $0-24
	MOVQ gate+0(FP), SI
	MOVQ up+8(FP), DI
	MOVQ n+16(FP), CX
	EXPCONST
swigluloop:
	VMOVUPS (SI), Y3
	VBROADCASTSS bits<>+12(SB), Y0
	VXORPS Y0, Y3, Y0
	EXP
	VADDPS Y15, Y0, Y0
	VDIVPS Y0, Y3, Y3
	VMULPS (DI), Y3, Y3
	VMOVUPS Y3, (SI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JG swigluloop
	VZEROUPPER
	RET
