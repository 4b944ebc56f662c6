// Package emulator runs whole transactions of contracts in the pure-Go TVM of tonutils-go, with mainnet's prices and
// limits, on a clock and a network id of the caller's choosing. There are no blocks: it is for tests of contracts and for their fees.
//
// Only accounts that have been sent a state init, or were made by [Chain.Put], are executed. Everything else is a [Chain.Received] total.
package emulator

import (
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// mainnetParams holds the mainnet's configuration parameters paramIDs; a test compares it with its source.
//
//go:embed mainnet_params.boc
var mainnetParams []byte

var paramIDs = []int32{0, 8, 12, 18, 20, 21, 24, 25}

// ErrNotAccepted says that an external message was refused: it costs nobody anything and leaves no trace.
var ErrNotAccepted = errors.New("external message not accepted")

// Chain is the state of the accounts.
type Chain struct {
	Now uint32 // Unix time of the next transaction

	machine  *tvm.TVM
	config   *tvm.PreparedBlockchainConfig
	globalID int32
	lt       uint64
	accounts map[string]*account
	record   func(message *cell.Cell, txs []Tx, err error)
}

type account struct {
	state *tvm.PreparedAccount
	stat  *cell.Cell
}

// Tx is one transaction.
type Tx struct {
	Account  *address.Address
	ExitCode int64 // of the compute phase; 0 and 1 are success
	Skipped  bool  // the compute phase did not run
	Gas      uint64
	Success  bool   // compute and action phase both
	Fees     uint64 // collected by validators, without the forwarding that Out carries
	Forward  uint64 // forwarding fees carried by Out
	Storage  uint64 // part of Fees that is rent
	Out      []*tlb.InternalMessage
	Cell     *cell.Cell
}

// New returns an empty chain with the given global id at time now.
func New(globalID int32, now uint32) (*Chain, error) {
	root, err := cell.FromBOC(mainnetParams)
	if err != nil {
		return nil, err
	}
	dict := cell.NewDict(32)
	from := tlb.BlockchainConfig{Root: root}
	for _, id := range paramIDs {
		if err = dict.SetIntKey(big.NewInt(int64(id)), cell.BeginCell().MustStoreRef(from.Get(id)).EndCell()); err != nil {
			return nil, err
		}
	}
	own := cell.BeginCell().MustStoreInt(int64(globalID), 32).EndCell()
	if err = dict.SetIntKey(big.NewInt(19), cell.BeginCell().MustStoreRef(own).EndCell()); err != nil {
		return nil, err
	}
	config, err := tvm.PrepareBlockchainConfig(dict.AsCell())
	if err != nil {
		return nil, err
	}
	return &Chain{
		Now: now, machine: tvm.NewTVM(), config: config, globalID: globalID, lt: 1_000_000,
		accounts: map[string]*account{},
	}, nil
}

// Account returns the state of an executed account, or nil.
func (c *Chain) Account(a *address.Address) *tlb.AccountState {
	if acc := c.accounts[string(a.Data())]; acc != nil {
		return acc.state.State()
	}
	return nil
}

// Balance returns the balance of an executed account in nanogram.
func (c *Chain) Balance(a *address.Address) uint64 {
	if s := c.Account(a); s != nil && s.IsValid {
		return s.Balance.Nano().Uint64()
	}
	return 0
}

// Rent is what an account owes for storage at the chain's time.
func (c *Chain) Rent(a *address.Address) (uint64, error) {
	s := c.Account(a)
	if s == nil || !s.IsValid || s.StorageInfo.StorageUsed.BitsUsed == nil {
		return 0, nil
	}
	info := s.StorageInfo
	config := tlb.BlockchainConfig{Root: c.config.Root()}
	fee, err := config.ComputeStorageFee(false, info.LastPaid, c.Now, info.StorageUsed.BitsUsed.Uint64(), info.StorageUsed.CellsUsed.Uint64())
	if err != nil {
		return 0, err
	}
	if info.DuePayment != nil {
		fee.Add(fee, info.DuePayment.Nano())
	}
	return fee.Uint64(), nil
}

// DeliveryFee is what the sender of a message pays the network to deliver it in the basechain, in nanogram: a lump sum, and
// the price of every cell and bit below the root.
func (c *Chain) DeliveryFee(m *tlb.InternalMessage) (uint64, error) {
	root, err := tlb.ToCell(m)
	if err != nil {
		return 0, err
	}
	prices, err := tlb.BlockchainConfig{Root: c.config.Root()}.GetMsgForwardPrices(false)
	if err != nil {
		return 0, err
	}
	seen := map[cell.Hash]bool{root.HashKey(): true}
	cells, bits := uint64(0), uint64(0)
	for queue := []*cell.Cell{root}; len(queue) > 0; queue = queue[1:] {
		for i := range int(queue[0].RefsNum()) {
			ref, err := queue[0].PeekRef(i)
			if err != nil {
				return 0, err
			}
			if seen[ref.HashKey()] {
				continue
			}
			seen[ref.HashKey()] = true
			cells, bits = cells+1, bits+uint64(ref.BitsSize())
			queue = append(queue, ref)
		}
	}
	return prices.ComputeForwardFee(cells, bits).Uint64(), nil
}

// Send delivers an internal message. It returns the transactions that follow, in order.
func (c *Chain) Send(m *tlb.InternalMessage) ([]Tx, error) {
	sent := *m
	c.lt += 10
	sent.CreatedLT, sent.CreatedAt = c.lt, c.Now
	if m.SrcAddr == nil {
		return nil, errors.New("emulator: a message needs a sender")
	}
	root, err := tlb.ToCell(&sent)
	if err != nil {
		return nil, err
	}
	return c.deliver(root)
}

// SendExternal delivers an external message, or returns [ErrNotAccepted].
func (c *Chain) SendExternal(m *tlb.ExternalMessage) ([]Tx, error) {
	root, err := tlb.ToCell(m)
	if err != nil {
		return nil, err
	}
	return c.deliver(root)
}

// SendCell delivers a message given as a cell.
func (c *Chain) SendCell(root *cell.Cell) ([]Tx, error) { return c.deliver(root) }

func (c *Chain) deliver(root *cell.Cell) (txs []Tx, err error) {
	if c.record != nil {
		defer func() { c.record(root, txs, err) }()
	}
	for queue := []*cell.Cell{root}; len(queue) > 0; queue = queue[1:] {
		msg, err := tvm.PrepareMessage(queue[0])
		if err != nil {
			return txs, err
		}
		var dst *address.Address
		deploys := false
		switch m := msg.Message().Msg.(type) {
		case *tlb.InternalMessage:
			dst, deploys = m.DstAddr, m.StateInit != nil
		case *tlb.ExternalMessage:
			dst, deploys = m.DstAddr, m.StateInit != nil
		}
		acc := c.accounts[string(dst.Data())]
		if acc == nil && !deploys {
			if _, ok := msg.Message().Msg.(*tlb.InternalMessage); !ok {
				return txs, ErrNotAccepted
			}
			continue
		}
		if acc == nil {
			if acc, err = c.empty(dst); err != nil {
				return txs, err
			}
			c.accounts[string(dst.Data())] = acc
		}
		tx, out, err := c.execute(acc, dst, msg)
		if err != nil {
			return txs, err
		}
		txs = append(txs, tx)
		queue = append(queue, out...)
	}
	return txs, nil
}

func (c *Chain) empty(a *address.Address) (*account, error) {
	none := &tlb.ShardAccount{Account: cell.BeginCell().MustStoreBoolBit(false).EndCell(), LastTransHash: make([]byte, 32)}
	p, err := tvm.PrepareAccount(none, a)
	return &account{state: p}, err
}

// Track makes a an executed account although it does not exist yet.
func (c *Chain) Track(a *address.Address) error {
	acc, err := c.empty(a)
	c.accounts[string(a.Data())] = acc
	return err
}

func (c *Chain) execute(acc *account, dst *address.Address, msg *tvm.PreparedMessage) (tx Tx, out []*cell.Cell, err error) {
	c.lt += 100
	block, err := c.config.NewBlockContext(tvm.BlockOptions{Now: c.Now, BlockLT: int64(c.lt), RandSeed: make([]byte, 32), GlobalID: c.globalID})
	if err != nil {
		return tx, nil, err
	}
	res, err := c.machine.EmulateTransaction(block, acc.state, msg, tvm.TransactionOptions{LogicalTime: int64(c.lt), AccountStorageStat: acc.stat})
	if err != nil {
		if msg.Message().MsgType == tlb.MsgTypeExternalIn && strings.Contains(err.Error(), "import fees exceed") {
			err = ErrNotAccepted
		}
		return tx, nil, fmt.Errorf("emulator: %s: %w", dst, err)
	}
	if res.TransactionCell == nil {
		return tx, nil, fmt.Errorf("%w: exit code %d", ErrNotAccepted, res.ExitCode)
	}
	parsed, err := res.ParseTransaction()
	if err != nil {
		return tx, nil, err
	}
	acc.state, acc.stat = res.NextAccount, res.AccountStorageStat
	c.lt = max(c.lt, res.EndLT)
	tx = Tx{Account: dst, ExitCode: res.ExitCode, Fees: parsed.TotalFees.Coins.Nano().Uint64(), Cell: res.TransactionCell}
	desc, ok := parsed.Description.(tlb.TransactionDescriptionOrdinary)
	if !ok {
		return tx, nil, fmt.Errorf("emulator: transaction of kind %T", parsed.Description)
	}
	if desc.StoragePhase != nil {
		tx.Storage = desc.StoragePhase.StorageFeesCollected.Nano().Uint64()
	}
	switch p := desc.ComputePhase.Phase.(type) {
	case tlb.ComputePhaseVM:
		tx.Gas = p.Details.GasUsed.Uint64()
		tx.Success = p.Success && desc.ActionPhase != nil && desc.ActionPhase.Success
	default:
		tx.Skipped = true
	}
	for _, o := range res.OutMessages {
		m, ok := o.Msg.Msg.(*tlb.InternalMessage)
		if !ok {
			return tx, nil, fmt.Errorf("emulator: unexpected outbound %T", o.Msg.Msg)
		}
		tx.Out = append(tx.Out, m)
		tx.Forward += m.FwdFee.Nano().Uint64()
		out = append(out, o.Cell)
	}
	return tx, out, nil
}
