package channel

import (
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

const (
	opClaim         = 0x42584301 // "BXC\x01"
	opCloseTogether = 0x42584302
	opCloseStart    = 0x42584303
	opCloseFinish   = 0x42584304
)

// GasValue is enough value, in nanogram, for any message but [Open] and [TopUp]. What the fees of a claim or a close together
// leave of it goes to the payee; what those of CloseStart and CloseFinish leave goes to the client.
const GasValue = 20_000_000

// Open returns the message that deploys the channel with a deposit, from anyone. Nothing but the address that it goes to
// says what the channel is: check it against [Params.Address]. [Reserve] of the deposit cannot be claimed.
func Open(p Params, deposit uint64) *tlb.InternalMessage {
	m := internal(p.Address(), deposit, empty)
	m.StateInit = p.StateInit()
	return m
}

// TopUp returns the message that adds to the deposit, from anyone: a plain transfer.
func TopUp(channel Address, amount uint64) *tlb.InternalMessage {
	return internal(channel, amount, empty)
}

// Claim returns the message that pays the payee what the voucher promises and it has not had yet, from anyone. What the fees
// leave of value goes to the payee too.
func Claim(v *SignedVoucher, value uint64) *tlb.InternalMessage {
	return internal(v.Channel, value, signedBody(opClaim, &v.Voucher, &v.Signature))
}

// ClaimExternal returns the message that claims without a wallet: all fees come out of the payee's share. It is accepted only
// when the deposit covers the voucher in full and it pays [MinExternalClaim] or more.
//
// Its body must stand beside the header, as tonutils-go serialises it; wrapped in any other way it is refused.
func ClaimExternal(v *SignedVoucher) *tlb.ExternalMessage {
	head := cell.BeginCell().MustStoreSlice(v.Head[:], 256).EndCell()
	body := cell.BeginCell().MustStoreSlice(v.Signature[:], 512).MustStoreCoins(v.Total).MustStoreRef(head).EndCell()
	return &tlb.ExternalMessage{DstAddr: v.Channel.Std(), Body: body}
}

// CloseTogether returns the message by which the payee, and nobody else, closes at once as the client agreed.
func CloseTogether(a *SignedAgreement, value uint64) *tlb.InternalMessage {
	return internal(a.Channel, value, signedBody(opCloseTogether, (*Voucher)(&a.Agreement), &a.Signature))
}

// CloseStart returns the message by which the client, and nobody else, begins to close.
func CloseStart(channel Address, value uint64) *tlb.InternalMessage {
	return internal(channel, value, opBody(opCloseStart))
}

// CloseFinish returns the message that, after the deadline, sends everything to the client, from anyone.
func CloseFinish(channel Address, value uint64) *tlb.InternalMessage {
	return internal(channel, value, opBody(opCloseFinish))
}

var empty = cell.BeginCell().EndCell()

// internal messages bounce: what the contract refuses comes back.
func internal(to Address, value uint64, body *cell.Cell) *tlb.InternalMessage {
	return &tlb.InternalMessage{IHRDisabled: true, Bounce: true, DstAddr: to.Std(), Amount: tlb.FromNanoTONU(value), Body: body}
}

func opBody(op uint32) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(uint64(op), 32).EndCell()
}

func signedBody(op uint32, v *Voucher, sig *[64]byte) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(uint64(op), 32).
		MustStoreSlice(sig[:], 512).
		MustStoreCoins(v.Total).
		MustStoreSlice(v.Head[:], 256).
		EndCell()
}
