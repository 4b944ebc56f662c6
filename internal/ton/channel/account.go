package channel

import (
	"context"
	"errors"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton"
)

// ErrNone means that an address holds no channel.
var ErrNone = errors.New("channel: there is no channel at this address")

// Account is a channel as a proven block has it.
type Account struct {
	State
	Balance uint64    // nanogram
	Time    time.Time // of the block
}

// Load reads a channel's account. It is a channel only if its code is the contract's and its address commits to the terms
// in its data: a foreign contract could have set this code over data of its own. Otherwise the error is [ErrNone].
func Load(ctx context.Context, chain ton.Chain, a Address) (*Account, error) {
	acc, err := chain.Account(ctx, a.Std())
	if err != nil {
		return nil, err
	}
	if !acc.Active() || acc.Code == nil || acc.Code.HashKey() != CodeHash() {
		return nil, ErrNone
	}
	s, err := ParseState(acc.Data)
	if err != nil || s.Params.Address() != a {
		return nil, ErrNone
	}
	return &Account{State: s, Balance: uint64(acc.Balance), Time: acc.Head.Time}, nil
}
