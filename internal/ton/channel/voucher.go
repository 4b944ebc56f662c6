package channel

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

const (
	magicVoucher   = 0x42585631 // "BXV1"
	magicAgreement = 0x42584131 // "BXA1"

	unsignedSize = 4 + 4 + 32 + 8 + 32

	// VoucherSize is the length in bytes of an encoded [SignedVoucher] or [SignedAgreement].
	VoucherSize = unsignedSize + ed25519.SignatureSize
)

// ErrSignature says that a voucher or agreement was not signed by the channel's client key.
var ErrSignature = errors.New("channel: the signature is not by the channel's client key")

// Voucher is the client's promise that the payee may have Total from the channel. Vouchers are cumulative: each
// replaces all before it.
type Voucher struct {
	GlobalID int32    // the network: -239 mainnet, -3 testnet
	Channel  Address  // the channel's account
	Total    uint64   // everything promised since the channel was opened, nanogram
	Head     [32]byte // head of the chain of receipts that Total pays for
}

// Agreement is the client's consent to close at once with Total, in all, going to the payee and the rest to the client.
// It becomes final when the payee sends it. Until then it binds the client as a voucher over Total would.
type Agreement Voucher

// SignedVoucher is a voucher with the client's Ed25519 signature.
type SignedVoucher struct {
	Voucher
	Signature [ed25519.SignatureSize]byte
}

// SignedAgreement is an agreement with the client's Ed25519 signature.
type SignedAgreement struct {
	Agreement
	Signature [ed25519.SignatureSize]byte
}

// Hash is what is signed: the representation hash of the voucher's cell.
func (v *Voucher) Hash() [32]byte { return signedHash(magicVoucher, v) }

// Hash is what is signed: the representation hash of the agreement's cell.
func (a *Agreement) Hash() [32]byte { return signedHash(magicAgreement, (*Voucher)(a)) }

// signedHash computes the representation hash of
//
//	magic:uint32 global_id:int32 channel:MsgAddressInt total:Coins head:bits256
//
// without building the cell: SHA-256 over two descriptor bytes and the 591+8n bits, closed by one completion bit,
// where n is the length of total in bytes.
func signedHash(magic uint32, v *Voucher) [32]byte {
	var b [2 + 74 + 8]byte
	n := (bits.Len64(v.Total) + 7) / 8
	b[1] = byte(73 + n + 74 + n) // no references; whole bytes plus started bytes
	d := b[2 : 2+74+n]
	binary.BigEndian.PutUint32(d[0:], magic)
	binary.BigEndian.PutUint32(d[4:], uint32(v.GlobalID))
	d[8] = 0b100 << 5 // addr_std$10, no anycast, workchain 0 in the next eight bits
	putBits(d[9:], 3, v.Channel[:])
	d[41] |= byte(n) << 1
	var total [8]byte
	binary.BigEndian.PutUint64(total[:], v.Total)
	putBits(d[41:], 7, total[8-n:])
	putBits(d[41+n:], 7, v.Head[:])
	d[73+n] |= 1 // completion bit
	return sha256.Sum256(b[:2+74+n])
}

// putBits writes src into dst from bit offset shift (1 to 7) of its first byte on, over bits that are still zero.
func putBits(dst []byte, shift uint, src []byte) {
	for i, c := range src {
		dst[i] |= c >> shift
		dst[i+1] = c << (8 - shift)
	}
}

// Sign signs the voucher with the channel's client key.
func (v Voucher) Sign(key ed25519.PrivateKey) SignedVoucher {
	h := v.Hash()
	return SignedVoucher{v, [64]byte(ed25519.Sign(key, h[:]))}
}

// Sign signs the agreement with the channel's client key.
func (a Agreement) Sign(key ed25519.PrivateKey) SignedAgreement {
	h := a.Hash()
	return SignedAgreement{a, [64]byte(ed25519.Sign(key, h[:]))}
}

// Verify checks the signature against the channel's client key. It returns nil or [ErrSignature]. That the voucher is for
// the right network and channel, and says enough, is for the caller to check.
func (s *SignedVoucher) Verify(key [32]byte) error {
	h := s.Hash()
	return verify(&key, &h, &s.Signature)
}

// Verify checks the signature against the channel's client key. It returns nil or [ErrSignature].
func (s *SignedAgreement) Verify(key [32]byte) error {
	h := s.Hash()
	return verify(&key, &h, &s.Signature)
}

func verify(key, hash *[32]byte, sig *[64]byte) error {
	if !ed25519.Verify(key[:], hash[:], sig[:]) {
		return ErrSignature
	}
	return nil
}

// AppendBinary appends the [VoucherSize] bytes of the voucher's wire form.
func (s *SignedVoucher) AppendBinary(b []byte) ([]byte, error) {
	return appendSigned(b, magicVoucher, &s.Voucher, &s.Signature), nil
}

// MarshalBinary returns the [VoucherSize] bytes of the voucher's wire form.
func (s *SignedVoucher) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// AppendBinary appends the [VoucherSize] bytes of the agreement's wire form.
func (s *SignedAgreement) AppendBinary(b []byte) ([]byte, error) {
	return appendSigned(b, magicAgreement, (*Voucher)(&s.Agreement), &s.Signature), nil
}

// MarshalBinary returns the [VoucherSize] bytes of the agreement's wire form.
func (s *SignedAgreement) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// ParseVoucher decodes exactly [VoucherSize] bytes: magic "BXV1", global id, channel, total, head, signature, all
// big-endian. It does not verify the signature.
func ParseVoucher(b []byte) (SignedVoucher, error) {
	var s SignedVoucher
	err := parseSigned(b, magicVoucher, "voucher", &s.Voucher, &s.Signature)
	return s, err
}

// ParseAgreement decodes exactly [VoucherSize] bytes: as [ParseVoucher], with magic "BXA1".
func ParseAgreement(b []byte) (SignedAgreement, error) {
	var s SignedAgreement
	err := parseSigned(b, magicAgreement, "agreement", (*Voucher)(&s.Agreement), &s.Signature)
	return s, err
}

func appendSigned(b []byte, magic uint32, v *Voucher, sig *[64]byte) []byte {
	b = binary.BigEndian.AppendUint32(b, magic)
	b = binary.BigEndian.AppendUint32(b, uint32(v.GlobalID))
	b = append(b, v.Channel[:]...)
	b = binary.BigEndian.AppendUint64(b, v.Total)
	b = append(b, v.Head[:]...)
	return append(b, sig[:]...)
}

func parseSigned(b []byte, magic uint32, what string, v *Voucher, sig *[64]byte) error {
	if len(b) != VoucherSize {
		return fmt.Errorf("channel: %s has %d bytes, want %d", what, len(b), VoucherSize)
	}
	if got := binary.BigEndian.Uint32(b); got != magic {
		return fmt.Errorf("channel: %s begins with %08x, want %08x: not one, or of a version that this program does not know", what, got, magic)
	}
	v.GlobalID = int32(binary.BigEndian.Uint32(b[4:]))
	v.Channel = Address(b[8:])
	v.Total = binary.BigEndian.Uint64(b[40:])
	v.Head = [32]byte(b[48:])
	*sig = [64]byte(b[80:])
	return nil
}
