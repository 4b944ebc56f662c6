package channel

import (
	"context"
	"errors"
	"time"

	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/internal/ton"
)

var (
	// ErrNone means that an address holds no channel.
	ErrNone = errors.New("channel: there is no channel at this address")
	// ErrFrozen means that the account has owed rent for many years. A message with [State.StateInit] of its last state
	// revives it.
	ErrFrozen = errors.New("channel: the account is frozen: revive it with the state init of its last state")
)

// Account is a channel as a proven block has it.
type Account struct {
	State
	Balance uint64    // nanogram
	Time    time.Time // of the block
	LT      uint64    // logical time of its last transaction
}

// Load reads a channel's account. It is a channel only if its code is the contract's and its address commits to the terms
// in its data: a foreign contract could have set this code over data of its own. Otherwise the error is
// [ErrNone], or [ErrFrozen].
func Load(ctx context.Context, chain ton.Chain, a Address) (*Account, error) {
	acc, err := chain.Account(ctx, a.Std())
	if err != nil {
		return nil, err
	}
	if acc.Status == tlb.AccountStatusFrozen {
		return nil, ErrFrozen
	}
	if !acc.Active() || acc.Code == nil || acc.Code.HashKey() != CodeHash() {
		return nil, ErrNone
	}
	s, err := ParseState(acc.Data)
	if err != nil || s.Params.Address() != a {
		return nil, ErrNone
	}
	return &Account{State: s, Balance: uint64(acc.Balance), Time: acc.Head.Time, LT: acc.LastLT}, nil
}
