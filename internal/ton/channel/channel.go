// Package channel is the payment channel between one client and one payee on TON: the contract in
// contract/channel.tolk, the messages it takes, the state it keeps, and the vouchers that the client signs.
//
// A client opens a channel by sending a deposit to [Params.Address] with [Open]. It pays by signing
// [Voucher]s, each for the whole amount so far, off chain. The payee turns its highest voucher into money
// with [Claim], or with [ClaimExternal] when it has no money for gas. The client leaves with [CloseStart] and,
// [Params.CloseDelay] later, [CloseFinish]; or at once when the payee sends the client's signed
// [Agreement] with [CloseTogether]. After [Params.ExpiresAt] anyone may finish.
//
// Amounts are in nanogram: 1 GRAM is 1e9. docs/protocol.md has every format bit by bit.
package channel

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

//go:embed contract/channel.boc
var codeBOC []byte

const (
	// Reserve is what a claim leaves in the channel, in nanogram: more than three years of storage rent. It
	// returns to the client with everything else.
	Reserve = 20_000_000
	// MinExternalClaim is the least that [ClaimExternal] can pay, in nanogram, after the network's import fee.
	MinExternalClaim = 50_000_000
)

// ExitCode is what the contract throws when it refuses a message.
type ExitCode int32

// The contract's refusals. A refused internal message bounces; a refused external one never enters a block.
const (
	ExitStale     ExitCode = 51 // the voucher has been paid in full, or is less than has been paid
	ExitSignature ExitCode = 52 // not the client's signature for this channel, network and amount
	ExitSender    ExitCode = 53 // only the client starts a close; only the payee closes together
	ExitFunds     ExitCode = 54 // the deposit does not cover this
	ExitEnded     ExitCode = 55 // the deadline has passed
	ExitNotEnded  ExitCode = 56 // the deadline has not passed yet
	ExitClosing   ExitCode = 57 // the deadline is already as close as this or closer
	ExitTooSmall  ExitCode = 58 // an external claim that pays less than MinExternalClaim
	ExitForm      ExitCode = 59 // an external message in another form than the cheapest
)

var exitText = map[ExitCode]string{
	ExitStale:     "the voucher has been paid in full",
	ExitSignature: "the signature is not the client's for this channel, network and amount",
	ExitSender:    "the sender may not do this",
	ExitFunds:     "the deposit does not cover this: top it up",
	ExitEnded:     "the deadline has passed",
	ExitNotEnded:  "the deadline has not passed yet",
	ExitClosing:   "the channel already closes as early as this",
	ExitTooSmall:  "too small for an external claim: claim by an internal message",
	ExitForm:      "the external message is not in its one form: no state init, body beside the header",
}

// Error says in words why the contract refused.
func (c ExitCode) Error() string {
	if s, ok := exitText[c]; ok {
		return fmt.Sprintf("channel: %s (exit code %d)", s, int32(c))
	}
	return fmt.Sprintf("channel: contract exit code %d", int32(c))
}

// Address is an account of TON's basechain (workchain 0), the only workchain that channels live in.
type Address [32]byte

// AddressOf converts a standard address. It refuses other workchains, anycast and the empty address.
func AddressOf(a *address.Address) (Address, error) {
	if a == nil || a.Type() != address.StdAddress || a.Workchain() != 0 || a.Anycast() != nil || len(a.Data()) != 32 {
		return Address{}, errors.New("channel: need a standard address in workchain 0")
	}
	return Address(a.Data()), nil
}

// Std returns the address as tonutils-go has it, bounceable (EQ...).
func (a Address) Std() *address.Address { return address.NewAddress(0, 0, a[:]) }

// String returns the bounceable user-friendly form, EQ...
func (a Address) String() string { return a.Std().String() }

// Raw returns the raw form, 0: and 64 lower-case hexadecimal digits.
func (a Address) Raw() string { return a.Std().StringRaw() }

// ParseRaw reads what [Address.Raw] writes.
func ParseRaw(s string) (Address, error) {
	id, ok := strings.CutPrefix(s, "0:")
	b, err := hex.DecodeString(id)
	if !ok || err != nil || len(b) != 32 {
		return Address{}, fmt.Errorf("channel: %q is not a raw address", s)
	}
	return Address(b), nil
}

// Params are what makes a channel: its address is a commitment to them and to the contract's code.
type Params struct {
	Payee      Address  // the only account that vouchers pay
	Client     Address  // the account that everything else returns to
	ClientKey  [32]byte // Ed25519 public key that signs vouchers and agreements: a key of the channel's own, not a wallet's
	CloseDelay uint32   // seconds between the client's request to close and the deadline
	ExpiresAt  uint32   // Unix time after which vouchers are void whatever happens
	Salt       uint64   // tells apart channels of the same parties
}

const (
	// MinCloseDelay and MaxCloseDelay bound CloseDelay, in seconds: a payee needs time for its last claim (a host should
	// ask for hours), and a client must not wait longer than this for its money.
	MinCloseDelay = 60
	MaxCloseDelay = 30 * 24 * 3600
)

// Validate refuses parameters under which the contract would not do what this package promises.
func (p Params) Validate() error {
	switch {
	case p.Payee == Address{}:
		return errors.New("channel: payee address is missing")
	case p.Client == Address{}:
		return errors.New("channel: client address is missing")
	case p.ClientKey == [32]byte{}:
		return errors.New("channel: client key is missing")
	case p.CloseDelay < MinCloseDelay || p.CloseDelay > MaxCloseDelay:
		return fmt.Errorf("channel: close delay of %d s is outside %d to %d", p.CloseDelay, MinCloseDelay, MaxCloseDelay)
	case p.ExpiresAt == 0:
		return errors.New("channel: expiry is missing")
	}
	return nil
}

// CodeHash returns the representation hash of the contract's code.
func CodeHash() [32]byte { return code.HashKey() }

var code = func() *cell.Cell {
	c, err := cell.FromBOC(codeBOC)
	if err != nil {
		panic("channel: embedded contract: " + err.Error()) // a build without its contract must not start
	}
	return c
}()

// StateInit returns what deploys the channel.
func (p Params) StateInit() *tlb.StateInit { return State{Params: p, CloseAt: p.ExpiresAt}.StateInit() }

// Address returns the channel's address.
func (p Params) Address() Address {
	init, err := tlb.ToCell(p.StateInit())
	if err != nil {
		panic("channel: state init: " + err.Error()) // fixed layout: cannot fail
	}
	return Address(init.HashKey())
}

// State is what a channel keeps on chain.
type State struct {
	Params
	Paid    uint64   // sent to the payee so far, nanogram
	Head    [32]byte // receipts head of the voucher that was last paid
	CloseAt uint32   // Unix time from which vouchers are void and the rest may be sent to the client
}

// ParseState reads the data cell of a channel account. It does not show that the account is one: see [Load].
func ParseState(data *cell.Cell) (State, error) {
	s, err := parseState(data)
	if err != nil {
		return State{}, fmt.Errorf("channel: malformed state: %w", err)
	}
	return s, nil
}

func parseState(data *cell.Cell) (s State, err error) {
	if data == nil {
		return s, errors.New("no data")
	}
	r, err := ordinary(data)
	if err != nil {
		return s, err
	}
	if s.Paid, err = loadCoins(r); err != nil {
		return s, err
	}
	if err = load256(r, &s.Head); err != nil {
		return s, err
	}
	if s.CloseAt, err = load32(r); err != nil {
		return s, err
	}
	if s.Payee, err = loadAddress(r); err != nil {
		return s, err
	}
	if err = load256(r, &s.ClientKey); err != nil {
		return s, err
	}
	if r.BitsLeft() != 0 || r.RefsNum() != 1 {
		return s, errors.New("unexpected length")
	}
	ref, err := r.LoadRefCell()
	if err != nil {
		return s, err
	}
	c, err := ordinary(ref)
	if err != nil {
		return s, err
	}
	if s.Client, err = loadAddress(c); err != nil {
		return s, err
	}
	if s.CloseDelay, err = load32(c); err != nil {
		return s, err
	}
	if s.ExpiresAt, err = load32(c); err != nil {
		return s, err
	}
	if s.Salt, err = c.LoadUInt(64); err != nil {
		return s, err
	}
	if c.BitsLeft() != 0 || c.RefsNum() != 0 {
		return s, errors.New("unexpected length of closing terms")
	}
	return s, nil
}

// Data returns the state as the contract stores it.
func (s State) Data() *cell.Cell {
	closing := cell.BeginCell().
		MustStoreAddr(s.Client.Std()).
		MustStoreUInt(uint64(s.CloseDelay), 32).
		MustStoreUInt(uint64(s.ExpiresAt), 32).
		MustStoreUInt(s.Salt, 64).
		EndCell()
	return cell.BeginCell().
		MustStoreCoins(s.Paid).
		MustStoreSlice(s.Head[:], 256).
		MustStoreUInt(uint64(s.CloseAt), 32).
		MustStoreAddr(s.Payee.Std()).
		MustStoreSlice(s.ClientKey[:], 256).
		MustStoreRef(closing).
		EndCell()
}

// StateInit returns what revives the account should it ever be frozen with this state.
func (s State) StateInit() *tlb.StateInit { return &tlb.StateInit{Code: code, Data: s.Data()} }

// Closing reports whether a close has begun, or ended, before the channel's expiry.
func (s State) Closing() bool { return s.CloseAt != s.ExpiresAt }

// Claimable is what a claim of a voucher over total would pay now, in nanogram before fees, out of an account that holds
// balance. It does not look at the clock.
func (s State) Claimable(balance, total uint64) uint64 {
	if total <= s.Paid || balance <= Reserve {
		return 0
	}
	return min(total-s.Paid, balance-Reserve)
}

// maxImportFee is well above what the network charges for an external claim, in nanogram: the contract, not this, knows the price.
const maxImportFee = 2_000_000

// ExternalClaimable reports whether [ClaimExternal] can be expected to be accepted: the deposit covers the voucher in full, and the
// payee's share is large enough to carry the fees. Otherwise [Claim] pays what is [State.Claimable].
func (s State) ExternalClaimable(balance, total uint64) bool {
	due := s.Claimable(balance, total)
	return due > 0 && due == total-s.Paid && due >= MinExternalClaim+maxImportFee
}

func ordinary(c *cell.Cell) (*cell.Slice, error) {
	if c.IsSpecial() {
		return nil, errors.New("exotic cell")
	}
	return c.BeginParse()
}

func loadCoins(r *cell.Slice) (uint64, error) {
	v, err := r.LoadBigCoins()
	if err != nil {
		return 0, err
	}
	if !v.IsUint64() {
		return 0, errors.New("amount does not fit 64 bits")
	}
	return v.Uint64(), nil
}

func load32(r *cell.Slice) (uint32, error) {
	v, err := r.LoadUInt(32)
	return uint32(v), err
}

func load256(r *cell.Slice, to *[32]byte) error {
	b, err := r.LoadSlice(256)
	if err != nil {
		return err
	}
	copy(to[:], b)
	return nil
}

func loadAddress(r *cell.Slice) (Address, error) {
	a, err := r.LoadAddr()
	if err != nil {
		return Address{}, err
	}
	return AddressOf(a)
}
