package devnet

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Faults are what a liteserver does wrong. The zero value is an honest one.
type Faults struct {
	// DropExternals acknowledges that many external messages and loses them; negative loses all.
	DropExternals int `json:"drop_externals,omitempty"`
	// Delay passes before every answer.
	Delay time.Duration `json:"delay_ns,omitempty"`
	// Dead takes queries and never answers.
	Dead bool `json:"dead,omitempty"`
	// Lie answers with something false.
	Lie Lie `json:"lie,omitempty"`
}

// Lie is something false that a liteserver says.
type Lie string

const (
	// LieBalance gives accounts another balance, beside the proof of the true one.
	LieBalance Lie = "balance"
	// LieAbsent says that accounts do not exist, and prunes them from the proof.
	LieAbsent Lie = "absent"
	// LieHead names a newest block that the validator did not sign: well formed,
	// with a proof whose signature is another key's.
	LieHead Lie = "head"
	// LieStale answers as if the chain had stopped at its first block.
	LieStale Lie = "stale"
	// LieResult gives get methods another result, beside the proof of the true
	// state. Only running the method oneself finds out.
	LieResult Lie = "result"
	// LieHistory leaves the newest transaction out of transaction lists.
	LieHistory Lie = "history"
	// LieConfig gives the first block's configuration as every block's.
	LieConfig Lie = "config"
	// LieKeyless links to the newest block from an ordinary block as if it were
	// a key block, which makes careless verifiers crash.
	LieKeyless Lie = "keyless"
	// LieNumber gives the newest block, which the validator signed, a higher
	// number: signatures are of a block's hashes, and its header has the number.
	LieNumber Lie = "number"
)

// Lies lists every Lie.
var Lies = []Lie{LieBalance, LieAbsent, LieHead, LieStale, LieResult, LieHistory, LieConfig, LieKeyless, LieNumber}

func (f Faults) check() error {
	if f.Lie != "" && !slices.Contains(Lies, f.Lie) {
		return fmt.Errorf("devnet: no lie %q: one of %q", f.Lie, Lies)
	}
	if f.Delay < 0 {
		return errors.New("devnet: a negative delay")
	}
	return nil
}

// SetFaults replaces the liteserver's faults.
func (s *Liteserver) SetFaults(f Faults) error {
	if err := f.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
	return nil
}

// loses says whether to lose the external message at hand.
func (s *Liteserver) loses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.DropExternals == 0 {
		return false
	}
	if s.faults.DropExternals > 0 {
		s.faults.DropExternals--
	}
	return true
}

// lie turns the honest answer to q into a false one.
func (s *Liteserver) lie(l Lie, q tl.Serializable) tl.Serializable {
	a, err := s.falsify(l, q)
	if err != nil {
		return tonapi.LSError{Code: 500, Text: err.Error()}
	}
	if a == nil {
		return s.honest(q)
	}
	return a
}

// falsify returns nil where the lie has nothing to say.
func (s *Liteserver) falsify(l Lie, q tl.Serializable) (tl.Serializable, error) {
	c := s.chain
	switch v := q.(type) {
	case tonapi.GetMasterchainInf:
		switch l {
		case LieStale:
			b := c.masterAt(1)
			return tonapi.MasterchainInfo{Last: b.id, StateRootHash: b.state.Hash(), Init: c.zero()}, nil
		case LieHead:
			b, err := c.forged()
			if err != nil {
				return nil, err
			}
			return tonapi.MasterchainInfo{Last: b.id, StateRootHash: b.state.Hash(), Init: c.zero()}, nil
		case LieNumber:
			b := c.head()
			return tonapi.MasterchainInfo{Last: renumbered(b.id, falseNumber), StateRootHash: b.state.Hash(), Init: c.zero()}, nil
		}
	case tonapi.GetBlockHeader:
		if l == LieNumber && c.find(v.ID) == nil {
			return s.honest(tonapi.GetBlockHeader{ID: renumbered(v.ID, -falseNumber)}), nil
		}
	case tonapi.GetBlockProof:
		if l == LieNumber && v.TargetBlock != nil && c.find(v.TargetBlock) == nil {
			r, ok := s.honest(tonapi.GetBlockProof{Mode: v.Mode, KnownBlock: v.KnownBlock, TargetBlock: renumbered(v.TargetBlock, -falseNumber)}).(tonapi.PartialBlockProof)
			if !ok || !r.Complete {
				return nil, nil
			}
			if forward, ok := r.Steps[len(r.Steps)-1].(tonapi.BlockLinkForward); ok {
				forward.To, r.To = v.TargetBlock, v.TargetBlock
				r.Steps[len(r.Steps)-1] = forward
			}
			return r, nil
		}
		from := c.find(v.KnownBlock)
		if from == nil || from.root == nil || v.TargetBlock == nil {
			return nil, nil
		}
		switch l {
		case LieHead:
			to, err := c.forged()
			if err != nil {
				return nil, err
			}
			if !to.id.Equals(v.TargetBlock) {
				return nil, nil
			}
			res := tonapi.PartialBlockProof{Complete: true, From: from.id, To: to.id}
			if !from.key {
				key := c.masterAt(c.lastKey(from.id.SeqNo))
				back, err := linkBack(from, key)
				if err != nil {
					return nil, err
				}
				res.Steps, from = append(res.Steps, back), key
			}
			forward, err := c.linkForward(from, to)
			res.Steps = append(res.Steps, forward)
			return res, err
		case LieKeyless:
			to := c.find(v.TargetBlock)
			if to == nil || from.key || from.id.SeqNo >= to.id.SeqNo {
				return nil, nil
			}
			forward, err := c.linkForward(c.masterAt(1), to)
			if err != nil {
				return nil, err
			}
			link := forward.(tonapi.BlockLinkForward)
			link.From = from.id
			whole, err := cell.CreateMerkleProof(from.root)
			if err != nil {
				return nil, err
			}
			link.ConfigProof = whole.ToBOC()
			return tonapi.PartialBlockProof{Complete: true, From: from.id, To: to.id, Steps: []any{link}}, nil
		}
	case tonapi.GetAccountState:
		a, ok := s.honest(q).(tonapi.AccountState)
		if !ok || a.State == nil {
			return nil, nil
		}
		switch l {
		case LieBalance:
			var st tlb.AccountState
			if err := tlb.Parse(&st, a.State); err != nil {
				return nil, err
			}
			st.Balance = tlb.FromNanoTONU(supply)
			var err error
			a.State, err = toCell(&st)
			return a, err
		case LieAbsent:
			b := c.find(a.Shard)
			if b == nil {
				return nil, nil
			}
			pruned, err := prove(b.state, func(r *cell.Cell) error {
				_, err := openState(r)
				return err
			})
			a.State, a.Proof = nil, []*cell.Cell{a.Proof[0], pruned}
			return a, err
		}
	case tonapi.RunSmcMethod, *tonapi.RunSmcMethod:
		if r, ok := s.honest(q).(tonapi.RunMethodResult); ok && l == LieResult {
			stack := tlb.NewStack()
			stack.Push(big.NewInt(supply))
			var err error
			r.Result, err = stack.ToCell()
			return r, err
		}
	case tonapi.GetTransactions:
		if r, ok := s.honest(q).(tonapi.TransactionList); ok && l == LieHistory {
			txs, err := cell.FromBOCMultiRoot(r.Transactions)
			if err != nil {
				return nil, err
			}
			r.IDs, r.Transactions = r.IDs[1:], nil
			if len(txs) > 1 {
				r.Transactions = cell.ToBOCWithOptions(txs[1:], cell.BOCSerializeOptions{})
			}
			return r, nil
		}
	case tonapi.GetConfigAll:
		switch {
		case l == LieConfig:
			return c.oldConfig(v.BlockID)
		case l == LieNumber && c.find(v.BlockID) == nil:
			v.BlockID = renumbered(v.BlockID, -falseNumber)
			return s.honest(v), nil
		}
	case tonapi.GetConfigParams:
		if l == LieConfig {
			return c.oldConfig(v.BlockID)
		}
	}
	return nil, nil
}

// falseNumber is by how much LieNumber is wrong.
const falseNumber = 1 << 20

func renumbered(id *tonapi.BlockIDExt, by int) *tonapi.BlockIDExt {
	other := id.Copy()
	other.SeqNo = uint32(int(id.SeqNo) + by)
	return other
}

func (c *Chain) oldConfig(as *tonapi.BlockIDExt) (tl.Serializable, error) {
	a, err := c.configInfo(c.masterAt(1).id, 0, nil)
	if r, ok := a.(tonapi.ConfigAll); ok {
		r.ID = as
		return r, nil
	}
	return nil, err
}

// forged is the newest block with another random seed and another's signature.
func (c *Chain) forged() (*block, error) {
	b := *c.head()
	list, err := refs(b.root)
	if err != nil {
		return nil, err
	}
	extra := list[3]
	s, err := extra.BeginParse()
	if err != nil {
		return nil, err
	}
	data, err := s.LoadSlice(s.BitsLeft())
	if err != nil {
		return nil, err
	}
	data[4] ^= 1 // in rand_seed
	inner, err := refs(extra)
	if err != nil {
		return nil, err
	}
	w := newWriter().do(func(x *cell.Builder) error { return x.StoreSlice(data, extra.BitsSize()) })
	for _, r := range inner {
		w.ref(r)
	}
	if list[3], err = w.cell(); err != nil {
		return nil, err
	}
	if b.root, err = withRefs(b.root, list); err != nil {
		return nil, err
	}
	b.id = blockID(masterchain, b.id.SeqNo, b.root)
	forger := &validator{key: c.key("forger")}
	b.signature, err = forger.sign(b.id.RootHash, b.id.FileHash)
	return &b, err
}
