package envelope

import "github.com/cloudflare/circl/kem"

// A cleanKEM is a KEM of circl that leaves the processor as it found it. The AVX2 assembly of circl's ML-KEM returns
// without VZEROUPPER (v1.6.5: pke/kyber/internal/common, simd/keccakf1600). With the upper halves of the vector registers
// in use, each SHA-256 instruction, which exists in legacy encoding alone, costs Intel's newer cores a microcode assist: a
// block takes 4 µs and not 50 ns (llvm/llvm-project#142368), until something on this thread clears them.
type cleanKEM struct{ kem.Scheme }

func (c cleanKEM) Encapsulate(pk kem.PublicKey) (ct, shared []byte, err error) {
	defer clearUpper()
	return c.Scheme.Encapsulate(pk)
}

func (c cleanKEM) Decapsulate(sk kem.PrivateKey, ct []byte) ([]byte, error) {
	defer clearUpper()
	return c.Scheme.Decapsulate(sk, ct)
}

func (c cleanKEM) UnmarshalBinaryPublicKey(b []byte) (kem.PublicKey, error) {
	defer clearUpper()
	return c.Scheme.UnmarshalBinaryPublicKey(b)
}

func (c cleanKEM) UnmarshalBinaryPrivateKey(b []byte) (kem.PrivateKey, error) {
	defer clearUpper()
	return c.Scheme.UnmarshalBinaryPrivateKey(b)
}
