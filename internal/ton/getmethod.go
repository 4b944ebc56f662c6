package ton

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
	"github.com/xssnick/tonutils-go/tvm/vm"
)

// methodGas is the gas that a get method may use, as on a liteserver.
const methodGas = 1_000_000

// MethodCall is a get method call on one account state.
type MethodCall struct {
	Address *address.Address
	Code    *cell.Cell
	Data    *cell.Cell
	Balance *big.Int // nanogram
	Time    uint32   // unix time of the block
	LT      uint64   // logical time of the block
	Method  uint64   // id, see tlb.MethodNameHash
	Args    []any    // *big.Int, *cell.Cell, *cell.Slice, nil, []any; first argument first
	Config  *tvm.PreparedBlockchainConfig
}

// Run executes the call on this machine and returns the result, first value
// first, and the exit code (0 and 1 are success).
func (m *MethodCall) Run(machine *tvm.TVM) ([]any, int32, error) {
	if m.Code == nil || m.Data == nil || m.Config == nil || m.Address == nil || m.Balance == nil {
		return nil, 0, errors.New("get method: incomplete call")
	}
	stack := vm.NewStack()
	for _, a := range m.Args {
		if err := stack.PushHostValue(a); err != nil {
			return nil, 0, fmt.Errorf("get method: argument: %w", err)
		}
	}
	if err := stack.PushInt(new(big.Int).SetUint64(m.Method)); err != nil {
		return nil, 0, err
	}
	c7, err := m.environment()
	if err != nil {
		return nil, 0, err
	}
	res, err := machine.ExecuteGetMethod(m.Code, m.Data, c7, vm.GasWithLimit(methodGas), stack, tvm.ExecutionConfig{Config: m.Config})
	if err != nil {
		return nil, 0, fmt.Errorf("get method: %w", err)
	}
	out, err := tlb.NewStackFromVM(res.Stack)
	if err != nil {
		return nil, 0, fmt.Errorf("get method: result: %w", err)
	}
	var values []any
	for out.Depth() > 0 {
		v, err := out.Pop()
		if err != nil {
			return nil, 0, fmt.Errorf("get method: result: %w", err)
		}
		values = append(values, v)
	}
	return values, int32(res.ExitCode), nil
}

// environment is register c7: SmartContractInfo as of TVM version 11 and later.
func (m *MethodCall) environment() (tuple.Tuple, error) {
	block, err := m.Config.NewBlockContext(tvm.BlockOptions{Now: m.Time, BlockLT: int64(m.LT)})
	if err != nil {
		return tuple.Tuple{}, err
	}
	unpacked, ok := block.UnpackedConfig()
	if !ok {
		return tuple.Tuple{}, errors.New("get method: the configuration lacks its fee parameters")
	}
	self, err := addressSlice(m.Address)
	if err != nil {
		return tuple.Tuple{}, err
	}
	none, err := addressSlice(address.NewAddressNone())
	if err != nil {
		return tuple.Tuple{}, err
	}
	n := big.NewInt
	lt := new(big.Int).SetUint64(m.LT)
	return tuple.NewTupleValue(tuple.NewTupleValue(
		n(0x076ef1ea), n(0), n(0), n(int64(m.Time)), lt, lt, n(0), // magic, actions, messages, time, block lt, lt, random seed
		tuple.NewTupleValue(m.Balance, nil), self, m.Config.Root(), m.Code,
		tuple.NewTupleValue(n(0), nil), n(0), nil, // incoming value, storage fees, previous blocks
		unpacked, n(0), nil, // configuration, due payment, precompiled gas
		tuple.NewTupleValue(n(0), n(0), none, n(0), n(0), n(0), n(0), n(0), nil, nil), // inbound message
	)), nil
}

func addressSlice(a *address.Address) (*cell.Slice, error) {
	b := cell.BeginCell()
	if err := b.StoreAddr(a); err != nil {
		return nil, err
	}
	return b.EndCell().BeginParse()
}

// Int is a get method's result number i as an integer.
func Int(results []any, i int) (*big.Int, error) {
	if i < 0 || i >= len(results) {
		return nil, fmt.Errorf("get method: no result %d of %d", i, len(results))
	}
	n, ok := results[i].(*big.Int)
	if !ok {
		return nil, fmt.Errorf("get method: result %d is %T, not an integer", i, results[i])
	}
	return n, nil
}
