package ton

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Simulation is what a message would do to its receiver now.
type Simulation struct {
	// Fees is what the receiver would spend besides what it sends: gas, storage, forwarding.
	Fees Nano
	// Sent is the sum of the messages that it would send.
	Sent Nano
	// Messages is their number.
	Messages int
	// Transaction is the transaction as it would be; its logical time and hash are not final.
	Transaction *tlb.Transaction
}

// Simulate runs an external message (a bag of cells) on this machine over the
// receiver's proven state and the network's proven prices. It sends nothing.
// ErrRefused means that the contract would not accept the message.
func (c *Client) Simulate(ctx context.Context, boc []byte) (sim *Simulation, err error) {
	root, err := cell.FromBOC(boc)
	if err != nil {
		return nil, fmt.Errorf("ton: simulate: not a bag of cells: %w", err)
	}
	msg, err := tvm.PrepareMessage(root)
	if err != nil {
		return nil, fmt.Errorf("ton: simulate: %w", err)
	}
	if msg.Message().MsgType != tlb.MsgTypeExternalIn {
		return nil, errors.New("ton: simulate: not an external message")
	}
	dst := msg.Message().AsExternalIn().DstAddr
	if err = checkAddress(dst); err != nil {
		return nil, err
	}
	err = c.each(ctx, "simulate", func(ctx context.Context, s *server) error {
		acc, err := s.account(ctx, c, dst)
		if err != nil {
			return err
		}
		cfg, err := c.prepared(ctx, s, acc.Head.Time)
		if err != nil {
			return err
		}
		if sim, err = c.simulate(acc, dst, msg, cfg); err != nil {
			return permanent{err}
		}
		return nil
	})
	return sim, err
}

func (c *Client) simulate(acc *Account, dst *address.Address, msg *tvm.PreparedMessage, cfg *tvm.PreparedBlockchainConfig) (*Simulation, error) {
	state := acc.state
	if state == nil { // account_none$0
		state = cell.BeginCell().MustStoreBoolBit(false).EndCell()
	}
	hash := acc.LastHash
	if hash == nil {
		hash = make([]byte, 32)
	}
	prepared, err := tvm.PrepareAccount(&tlb.ShardAccount{Account: state, LastTransHash: hash, LastTransLT: acc.LastLT}, dst)
	if err != nil {
		return nil, fmt.Errorf("ton: simulate: %w", err)
	}
	block, err := cfg.NewBlockContext(tvm.BlockOptions{Now: uint32(acc.Head.Time.Unix()), BlockLT: int64(acc.lt), RandSeed: make([]byte, 32)})
	if err != nil {
		return nil, fmt.Errorf("ton: simulate: %w", err)
	}
	opts := tvm.TransactionOptions{LogicalTime: int64(acc.lt)}
	if ok, err := c.machine().CheckExternalMessageAccepted(block, prepared, msg, opts); err != nil {
		return nil, fmt.Errorf("ton: simulate: %w", err)
	} else if !ok {
		return nil, fmt.Errorf("ton: simulate: %w", ErrRefused)
	}
	res, err := c.machine().EmulateTransaction(block, prepared, msg, opts)
	if err != nil {
		return nil, fmt.Errorf("ton: simulate: %w", err)
	}
	sim := &Simulation{}
	if sim.Transaction, err = res.ParseTransaction(); err != nil {
		return nil, fmt.Errorf("ton: simulate: %w", err)
	}
	sent := new(big.Int)
	for _, m := range res.OutMessages {
		if m.Msg.MsgType == tlb.MsgTypeInternal {
			sim.Messages++
			sent.Add(sent, m.Msg.AsInternal().Amount.Nano())
		}
	}
	if sim.Sent, err = NanoFromBig(sent); err != nil {
		return nil, err
	}
	left := new(big.Int)
	if st := res.NextAccount.State(); st != nil && st.IsValid {
		left = st.Balance.Nano()
	}
	fees := acc.Balance.Coins().Nano()
	fees.Sub(fees, left)
	sim.Fees, err = NanoFromBig(fees.Sub(fees, sent))
	return sim, err
}
