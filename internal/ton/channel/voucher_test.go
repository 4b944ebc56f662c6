package channel

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/tvm/cell"
	"pgregory.net/rapid"
)

// voucherCell builds the cell that is signed from its TL-B scheme, with the library.
func voucherCell(magic uint32, v Voucher) *cell.Cell {
	return cell.BeginCell().
		MustStoreUInt(uint64(magic), 32).
		MustStoreInt(int64(v.GlobalID), 32).
		MustStoreAddr(v.Channel.Std()).
		MustStoreCoins(v.Total).
		MustStoreSlice(v.Head[:], 256).
		EndCell()
}

func drawVoucher(t *rapid.T) Voucher {
	arr := func(name string) [32]byte {
		return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
	}
	// every length of the amount, not only the long ones
	total := rapid.Uint64().Draw(t, "total") >> rapid.IntRange(0, 64).Draw(t, "shift")
	return Voucher{GlobalID: rapid.Int32().Draw(t, "network"), Channel: arr("channel"), Total: total, Head: arr("head")}
}

// The hash computed over the known layout is the library's hash of the cell.
func TestHashIsTheCellsHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawVoucher(t)
		if got, want := v.Hash(), voucherCell(magicVoucher, v).HashKey(); got != want {
			t.Fatalf("voucher hash %x, want %x", got, want)
		}
		a := Agreement(v)
		if got, want := a.Hash(), voucherCell(magicAgreement, v).HashKey(); got != want {
			t.Fatalf("agreement hash %x, want %x", got, want)
		}
	})
	for shift := range 65 {
		v := Voucher{GlobalID: -239, Channel: named("channel"), Total: math.MaxUint64 >> shift, Head: named("head")}
		if got, want := v.Hash(), voucherCell(magicVoucher, v).HashKey(); got != want {
			t.Fatalf("total %d: hash %x, want %x", v.Total, got, want)
		}
	}
}

func TestVoucherRoundTrip(t *testing.T) {
	pub := [32]byte(clientKey.Public().(ed25519.PublicKey))
	rapid.Check(t, func(t *rapid.T) {
		s := drawVoucher(t).Sign(clientKey)
		b, err := s.MarshalBinary()
		if err != nil || len(b) != VoucherSize {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		got, err := ParseVoucher(b)
		if err != nil || got != s {
			t.Fatalf("parsed %+v, %v", got, err)
		}
		if err = got.Verify(pub); err != nil {
			t.Fatal(err)
		}
		// Whatever bit is flipped, the voucher no longer parses or no longer verifies.
		i := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[i/8] ^= 1 << (i % 8)
		if got, err = ParseVoucher(b); err == nil && !errors.Is(got.Verify(pub), ErrSignature) {
			t.Fatalf("bit %d flipped and still valid", i)
		}
	})
}

func TestVoucherAndAgreementDoNotMix(t *testing.T) {
	pub := [32]byte(clientKey.Public().(ed25519.PublicKey))
	v := Voucher{GlobalID: global, Channel: named("c"), Total: 5, Head: named("h")}
	sv, sa := v.Sign(clientKey), Agreement(v).Sign(clientKey)
	vb, _ := sv.MarshalBinary()
	ab, _ := sa.MarshalBinary()
	if _, err := ParseAgreement(vb); err == nil {
		t.Error("a voucher was read as an agreement")
	}
	if _, err := ParseVoucher(ab); err == nil {
		t.Error("an agreement was read as a voucher")
	}
	if err := (&SignedVoucher{v, sa.Signature}).Verify(pub); !errors.Is(err, ErrSignature) {
		t.Errorf("an agreement's signature on a voucher: %v", err)
	}
	if err := (&SignedAgreement{Agreement(v), sv.Signature}).Verify(pub); !errors.Is(err, ErrSignature) {
		t.Errorf("a voucher's signature on an agreement: %v", err)
	}
	if err := sa.Verify(pub); err != nil {
		t.Error(err)
	}
}

func TestParseVoucherRefuses(t *testing.T) {
	s := Voucher{GlobalID: global, Channel: named("c"), Total: 5}.Sign(clientKey)
	good, _ := s.MarshalBinary()
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"short":           good[:len(good)-1],
		"trailing byte":   append(bytes.Clone(good), 0),
		"unknown version": append([]byte("BXV2"), good[4:]...),
		"agreement":       append([]byte("BXA1"), good[4:]...),
	} {
		if _, err := ParseVoucher(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// A signature with S+L in place of S satisfies the equation too: it must not pass, here as on chain.
func TestMalleableSignature(t *testing.T) {
	pub := [32]byte(clientKey.Public().(ed25519.PublicKey))
	s := Voucher{GlobalID: global, Channel: named("c"), Total: 5}.Sign(clientKey)
	s.Signature = addOrder(s.Signature)
	if err := s.Verify(pub); !errors.Is(err, ErrSignature) {
		t.Fatalf("S+L: %v", err)
	}
}

// addOrder adds the order of the base point to the S half of a signature.
func addOrder(sig [64]byte) [64]byte {
	order := [32]byte{
		0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
	}
	carry := 0
	for i := range 32 {
		sum := int(sig[32+i]) + int(order[i]) + carry
		sig[32+i], carry = byte(sum), sum>>8
	}
	return sig
}

func FuzzParseVoucher(f *testing.F) {
	s := Voucher{GlobalID: -239, Channel: named("c"), Total: 5, Head: named("h")}.Sign(clientKey)
	b, _ := s.MarshalBinary()
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVoucher(b)
		if err != nil {
			return
		}
		if again, _ := v.MarshalBinary(); !bytes.Equal(again, b) {
			t.Fatal("a voucher has two encodings")
		}
		_ = v.Verify([32]byte{1})
	})
}

func FuzzParseAgreement(f *testing.F) {
	s := Agreement{GlobalID: -239, Channel: named("c"), Total: 5, Head: named("h")}.Sign(clientKey)
	b, _ := s.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAgreement(b)
		if err != nil {
			return
		}
		if again, _ := a.MarshalBinary(); !bytes.Equal(again, b) {
			t.Fatal("an agreement has two encodings")
		}
	})
}

func TestVoucherAllocations(t *testing.T) {
	pub := [32]byte(clientKey.Public().(ed25519.PublicKey))
	s := Voucher{GlobalID: global, Channel: named("c"), Total: math.MaxUint64}.Sign(clientKey)
	b, _ := s.MarshalBinary()
	bare := testing.AllocsPerRun(20, func() { ed25519.Verify(pub[:], b[:32], s.Signature[:]) })
	if n := testing.AllocsPerRun(20, func() {
		v, err := ParseVoucher(b)
		if err != nil || v.Verify(pub) != nil {
			t.Fatal("refused")
		}
	}); n > bare+1 {
		t.Errorf("parse and verify allocate %v times, bare Ed25519 %v", n, bare)
	}
}

// BenchmarkVoucher reports signing and verifying, each with its encoding, as a ratio to bare Ed25519 over 32 bytes in the same run.
func BenchmarkVoucher(b *testing.B) {
	pub := [32]byte(clientKey.Public().(ed25519.PublicKey))
	var hash [32]byte
	rand.Read(hash[:])
	v := Voucher{GlobalID: -239, Channel: named("c"), Total: 123_456_789_012, Head: named("h")}
	var bare, ours []time.Duration // medians: a preempted iteration must not count
	buf := make([]byte, 0, VoucherSize)
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		sig := ed25519.Sign(clientKey, hash[:])
		if !ed25519.Verify(pub[:], hash[:], sig) {
			b.Fatal("bare signature refused")
		}
		middle := time.Now()
		s := v.Sign(clientKey)
		wire, _ := s.AppendBinary(buf)
		got, err := ParseVoucher(wire)
		if err != nil || got.Verify(pub) != nil {
			b.Fatal("voucher refused")
		}
		bare = append(bare, middle.Sub(start))
		ours = append(ours, time.Since(middle))
	}
	slices.Sort(bare)
	slices.Sort(ours)
	b.ReportMetric(float64(ours[len(ours)/2])/float64(bare[len(bare)/2]), "x-bare-Ed25519")
}
