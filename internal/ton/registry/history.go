package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Action is what a message did to a registry.
type Action string

// The actions that leave a mark in a registry's state.
const (
	Announced Action = "announced"
	Cancelled Action = "cancelled"
	Applied   Action = "applied"
	Withdrawn Action = "withdrawn"
)

// Step is one message that changed a registry.
type Step struct {
	Action  Action
	At      uint32     // Unix time of its block
	Key     [32]byte   // of the record
	Content *cell.Cell // announced or applied; of a withdrawal what was in effect, nil if nothing was
	Seqno   uint32     // number of the change that it is; 0 when it changed no record
	Tx      []byte     // hash of the transaction
}

// maxSteps bounds the steps that are read of one registry.
const maxSteps = 100_000

// ErrHistory says that an account's transactions do not add up to its state.
var ErrHistory = errors.New("registry: the transactions do not lead to the registry's state")

// History reads a registry together with every step that led to it, oldest first. It follows the account's proven transactions
// back to its deployment, runs them through a model of the contract, and compares what comes out with the state and the hash of
// the history in it: either the list is complete, or the error is [ErrHistory].
func History(ctx context.Context, chain *ton.Client, at *address.Address) (*Registry, []Step, error) {
	r, err := Load(ctx, chain, at)
	if err != nil {
		return nil, nil, err
	}
	var txs []*tlb.Transaction
	err = chain.EachTransaction(ctx, r.Account, func(tx *tlb.Transaction) bool {
		if op, _ := request(tx); op != 0 { // rent from strangers is not kept: it could fill any memory
			txs = append(txs, tx)
		}
		return len(txs) <= maxSteps
	})
	if err != nil {
		return nil, nil, err
	}
	if len(txs) > maxSteps {
		return nil, nil, fmt.Errorf("registry: more than %d steps", maxSteps)
	}
	slices.Reverse(txs)
	steps, err := r.replay(txs)
	return r, steps, err
}

// request returns the operation and body of a message that the contract took, 0 for any other transaction.
func request(tx *tlb.Transaction) (op uint64, body *cell.Slice) {
	d, ok := tx.Description.(tlb.TransactionDescriptionOrdinary)
	if !ok || d.Aborted || tx.IO.In == nil || tx.IO.In.MsgType != tlb.MsgTypeInternal {
		return 0, nil
	}
	in := tx.IO.In.AsInternal()
	if in.Bounced || in.Body == nil || in.Body.BitsSize() < 32 {
		return 0, nil
	}
	body, err := in.Body.BeginParse()
	if err != nil {
		return 0, nil
	}
	if op, err = body.LoadUInt(32); err != nil {
		return 0, nil
	}
	return op, body
}

// replay runs what the contract took, oldest first, and checks that it leads to r.
func (r *Registry) replay(txs []*tlb.Transaction) ([]Step, error) {
	var steps []Step
	records, announced := map[[32]byte]Entry{}, map[[32]byte]Entry{}
	seqno, history := uint32(0), [32]byte{}
	for _, tx := range txs {
		op, body := request(tx)
		if op == 0 || op == opReclaim {
			continue
		}
		raw, err := body.LoadSlice(256)
		if err != nil {
			return nil, fmt.Errorf("%w: a message without a key", ErrHistory)
		}
		key := [32]byte(raw)
		step := Step{At: tx.Now, Key: key, Tx: tx.Hash}
		change := Change{Previous: history, Seqno: seqno + 1, At: tx.Now, Key: key}
		changed := false
		switch op {
		case opAnnounce:
			if step.Content, err = body.LoadRefCell(); err != nil {
				return nil, fmt.Errorf("%w: an announcement without content", ErrHistory)
			}
			step.Action = Announced
			announced[key] = Entry{tx.Now + r.Delay, step.Content}
		case opCancel:
			step.Action, step.Content = Cancelled, announced[key].Content
			delete(announced, key)
		case opApply:
			e, ok := announced[key]
			if !ok || tx.Now < e.At {
				return nil, fmt.Errorf("%w: something took effect that had not been announced for %d s", ErrHistory, r.Delay)
			}
			step.Action, step.Content = Applied, e.Content
			delete(announced, key)
			records[key] = Entry{tx.Now, e.Content}
			change.Content, changed = e.Content.HashKey(), true
		case opWithdraw:
			var e Entry
			e, changed = records[key]
			step.Action, step.Content = Withdrawn, e.Content
			delete(announced, key)
			delete(records, key)
		default:
			return nil, fmt.Errorf("%w: operation %08x", ErrHistory, op)
		}
		if changed {
			seqno, history = change.Seqno, change.Hash()
			step.Seqno = seqno
		}
		steps = append(steps, step)
	}
	if seqno != r.Seqno || history != r.History || !same(records, r.Records) || !same(announced, r.Announced) {
		return nil, fmt.Errorf("%w: %d changes of %d", ErrHistory, seqno, r.Seqno)
	}
	return steps, nil
}

func same(a, b map[[32]byte]Entry) bool {
	if len(a) != len(b) {
		return false
	}
	for k, e := range a {
		f, ok := b[k]
		if !ok || e.At != f.At || e.Content.HashKey() != f.Content.HashKey() {
			return false
		}
	}
	return true
}
