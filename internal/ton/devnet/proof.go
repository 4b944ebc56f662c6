package devnet

import (
	"errors"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// prove builds a Merkle proof that holds exactly the cells visit read.
func prove(root *cell.Cell, visit func(root *cell.Cell) error) (*cell.Cell, error) {
	b := cell.NewMerkleProofBuilder(root)
	if err := visit(b.Root()); err != nil {
		return nil, err
	}
	return b.CreateProof()
}

// proveHeader proves a block's header and the hash of its state.
func proveHeader(b *block) (*cell.Cell, error) {
	return prove(b.root, func(r *cell.Cell) error {
		_, err := openBlock(r)
		return err
	})
}

func openBlock(r *cell.Cell) (*tlb.Block, error) {
	var b tlb.Block
	if err := tlb.Parse(&b, r); err != nil {
		return nil, err
	}
	_, err := b.StateUpdate.BeginParse()
	return &b, err
}

// proveConfigBlock proves a key block's catchain and validator parameters.
func proveConfigBlock(b *block) (*cell.Cell, error) {
	return prove(b.root, func(r *cell.Cell) error {
		blk, err := openBlock(r)
		if err != nil {
			return err
		}
		if blk.Extra == nil || blk.Extra.Custom == nil || blk.Extra.Custom.ConfigParams == nil {
			return errors.New("not a key block")
		}
		for _, id := range []int64{28, 34} {
			v, err := blk.Extra.Custom.ConfigParams.Config.Params.LoadValueByIntKey(big.NewInt(id))
			if err != nil {
				return err
			}
			ref, err := v.LoadRefCell()
			if err != nil {
				return err
			}
			if err = readAll(ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// proveRegistered proves a masterchain block's list of shards.
func proveRegistered(m *block) (*cell.Cell, error) {
	return prove(m.root, func(r *cell.Cell) error {
		blk, err := openBlock(r)
		if err != nil {
			return err
		}
		if blk.Extra == nil || blk.Extra.Custom == nil {
			return errors.New("not a masterchain block")
		}
		_, err = tonapi.LoadShardsFromHashes(blk.Extra.Custom.ShardHashes, false)
		return err
	})
}

// readAll marks a whole tree as read.
func readAll(c *cell.Cell) error {
	s, err := c.BeginParse()
	if err != nil {
		return err
	}
	for s.RefsNum() > 0 {
		ref, err := s.LoadRefCell()
		if err != nil {
			return err
		}
		if err = readAll(ref); err != nil {
			return err
		}
	}
	return nil
}

func openState(r *cell.Cell) (*tlb.ShardStateUnsplit, error) {
	var st tlb.ShardStateUnsplit
	return &st, tlb.Parse(&st, r)
}

func openMasterState(r *cell.Cell) (*tlb.McStateExtra, error) {
	st, err := openState(r)
	if err != nil {
		return nil, err
	}
	if st.McStateExtra == nil {
		return nil, errors.New("not a masterchain state")
	}
	var ex tlb.McStateExtra
	return &ex, tlb.Parse(&ex, st.McStateExtra)
}

// proveShards proves the list of shards in a masterchain state.
func proveShards(m *block) (*cell.Cell, error) {
	return prove(m.state, func(r *cell.Cell) error {
		ex, err := openMasterState(r)
		if err != nil {
			return err
		}
		_, err = tonapi.LoadShardsFromHashes(ex.ShardHashes, false)
		return err
	})
}

// proveConfig proves configuration parameters, all of them without ids.
func proveConfig(m *block, ids []int32) (*cell.Cell, error) {
	return prove(m.state, func(r *cell.Cell) error {
		ex, err := openMasterState(r)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return readAll(ex.ConfigParams.Config.Params.AsCell())
		}
		for _, id := range ids {
			v, err := ex.ConfigParams.Config.Params.LoadValueByIntKey(big.NewInt(int64(id)))
			if errors.Is(err, cell.ErrNoSuchKeyInDict) {
				continue // the proof shows its absence
			}
			if err != nil {
				return err
			}
			ref, err := v.LoadRefCell()
			if err != nil {
				return err
			}
			if err = readAll(ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// proveOld proves that an earlier block is in a masterchain state's history.
func proveOld(m *block, seqno uint32) (*cell.Cell, error) {
	return prove(m.state, func(r *cell.Cell) error {
		ex, err := openMasterState(r)
		if err != nil {
			return err
		}
		var info tlb.McStateExtraBlockInfo
		if err = tlb.Parse(&info, ex.Info); err != nil {
			return err
		}
		v, _, err := info.PrevBlocks.LoadValueExtraByIntKey(big.NewInt(int64(seqno)))
		if err != nil {
			return err
		}
		var ref tlb.KeyExtBlkRef
		return tlb.LoadFromCell(&ref, v)
	})
}

// proveAccount proves an account, or its absence, in a state.
func proveAccount(b *block, id []byte) (*cell.Cell, error) {
	return prove(b.state, func(r *cell.Cell) error {
		_, err := loadAccount(r, id)
		return err
	})
}

// loadAccount reads an account from a state; nil when it does not exist.
func loadAccount(state *cell.Cell, id []byte) (*tlb.ShardAccount, error) {
	st, err := openState(state)
	if err != nil {
		return nil, err
	}
	key, err := key256(id)
	if err != nil {
		return nil, err
	}
	v, _, err := st.Accounts.ShardAccounts.LoadValueExtra(key)
	if errors.Is(err, cell.ErrNoSuchKeyInDict) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var sa tlb.ShardAccount
	if err = tlb.LoadFromCell(&sa, v); err != nil {
		return nil, err
	}
	return &sa, nil
}

// proveTransactions proves transactions of a block.
func proveTransactions(b *block, txs []*txRecord) (*cell.Cell, error) {
	return prove(b.root, func(r *cell.Cell) error {
		blk, err := openBlock(r)
		if err != nil {
			return err
		}
		var list tlb.ShardAccountBlocks
		if err = tlb.Parse(&list, blk.Extra.ShardAccountBlocks); err != nil {
			return err
		}
		for _, t := range txs {
			key, err := key256(t.account[:])
			if err != nil {
				return err
			}
			v, _, err := list.Accounts.LoadValueExtra(key)
			if err != nil {
				return err
			}
			var ab tlb.AccountBlock
			if err = tlb.LoadFromCell(&ab, v); err != nil {
				return err
			}
			if _, _, err = ab.Transactions.LoadValueExtraByIntKey(new(big.Int).SetUint64(t.lt)); err != nil {
				return err
			}
		}
		return nil
	})
}
