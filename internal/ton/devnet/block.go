package devnet

import (
	"bytes"
	"math/big"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

const (
	masterchain = int32(-1)
	basechain   = int32(0)
	fullShard   = int64(-1 << 63)
)

// block is a sealed block, or the zero state (seqno 0, no root).
type block struct {
	id             *tonapi.BlockIDExt
	root           *cell.Cell
	state          *cell.Cell // the state after it
	utime          uint32
	startLT, endLT uint64
	txs            []*txRecord // ordered by account, then by logical time

	// masterchain only
	shard     *block // the basechain block that it registers
	key       bool   // carries the configuration
	signature []byte
}

type txRecord struct {
	account [32]byte
	lt      uint64
	prevLT  uint64 // of the account's transaction before, as the chain has it
	cell    *cell.Cell
	block   *block
}

func blockID(wc int32, seqno uint32, root *cell.Cell) *tonapi.BlockIDExt {
	return &tonapi.BlockIDExt{Workchain: wc, Shard: fullShard, SeqNo: seqno, RootHash: root.Hash(), FileHash: cell.ComputeFileHash(root)}
}

// fileBOC serialises a block or a state as its file hash covers it.
func fileBOC(root *cell.Cell) []byte {
	return root.ToBOCWithOptions(cell.BOCSerializeOptions{WithCRC32C: true, WithIndex: true, WithCacheBits: true, WithTopHash: true, WithIntHashes: true})
}

// extRef is ExtBlkRef.
func (b *block) extRef() *writer {
	return newWriter().uint(b.endLT, 64).uint(uint64(b.id.SeqNo), 32).bytes(b.id.RootHash).bytes(b.id.FileHash)
}

// shardIdent is shard_ident$00 of the one shard of a workchain.
func (w *writer) shardIdent(wc int32) *writer { return w.uint(0, 2).uint(0, 6).int32(wc).uint(0, 64) }

// stateInput is what ShardStateUnsplit is built from.
type stateInput struct {
	globalID  int32
	wc        int32
	seqno     uint32
	minRef    uint32
	utime     uint32
	lt        uint64
	accounts  *tlb.ShardAccountsAugDict
	queue     *tlb.OutMsgQueueAugDict
	queued    int
	total     *big.Int // balance of all accounts
	fees      *big.Int // total_validator_fees
	masterRef *block   // not for the masterchain
	custom    *cell.Cell
}

func (in *stateInput) cell() (*cell.Cell, error) {
	// OutMsgQueueInfo with out_queue_size in its extra
	queue := newWriter().augmented(in.queue).bool(false).bool(true).
		uint(0, 4).bool(false).uint(0, 64). // out_msg_queue_extra#0, empty dispatch queue
		bool(true).uint(uint64(in.queued), 48)
	stats := newWriter().uint(0, 64).uint(0, 64).currency(in.total).currency(in.fees).bool(false)
	if in.masterRef == nil {
		stats.bool(false)
	} else {
		stats.bool(true).inlineWriter(in.masterRef.extRef())
	}
	return newWriter().uint(0x9023afe2, 32).int32(in.globalID).shardIdent(in.wc).
		uint(uint64(in.seqno), 32).uint(0, 32).uint(uint64(in.utime), 32).uint(in.lt, 64).uint(uint64(in.minRef), 32).
		sub(queue).bool(false).sub(newWriter().augmented(in.accounts)).sub(stats).maybeRef(in.custom).cell()
}

// blockInput is what Block is built from.
type blockInput struct {
	globalID           int32
	wc                 int32
	seqno              uint32
	utime              uint32
	startLT, endLT     uint64
	valHash            uint32
	keyBlock           bool
	prevKey            uint32
	minRef             uint32
	prev, master       *block // master: not for the masterchain
	oldState, newState *cell.Cell
	flow               *writer
	inMsgs             *tlb.InMsgDescrAugDict
	outMsgs            *tlb.OutMsgDescrAugDict
	accounts           *tlb.ShardAccountBlocksAugDict
	seed               []byte
	custom             *cell.Cell
}

func (in *blockInput) cell() (*cell.Cell, error) {
	update, err := merkleUpdate(in.oldState, in.newState)
	if err != nil {
		return nil, err
	}
	info := newWriter().uint(0x9bc7a987, 32).uint(0, 32).bool(in.master != nil).uint(0, 5).
		bool(in.keyBlock).bool(false).uint(0, 8).uint(uint64(in.seqno), 32).uint(0, 32).shardIdent(in.wc).
		uint(uint64(in.utime), 32).uint(in.startLT, 64).uint(in.endLT, 64).uint(uint64(in.valHash), 32).
		uint(0, 32).uint(uint64(in.minRef), 32).uint(uint64(in.prevKey), 32)
	if in.master != nil {
		info.sub(in.master.extRef())
	}
	info.sub(in.prev.extRef())
	extra := newWriter().uint(0x4a33f6fd, 32).
		sub(newWriter().augmented(in.inMsgs)).sub(newWriter().augmented(in.outMsgs)).sub(newWriter().augmented(in.accounts)).
		bytes(in.seed).bytes(make([]byte, 32)).maybeRef(in.custom)
	return newWriter().uint(0x11ef55aa, 32).int32(in.globalID).sub(info).sub(in.flow).ref(update).sub(extra).cell()
}

// valueFlow is value_flow#b8e48dfb. It always balances:
// before + imported + shard fees = after + exported + fees.
type valueFlow struct {
	before, after, imported, exported, fees, shardFees *big.Int
}

func (f *valueFlow) balanced() bool {
	in := new(big.Int).Add(f.before, f.imported)
	in.Add(in, f.shardFees)
	out := new(big.Int).Add(f.after, f.exported)
	return in.Cmp(out.Add(out, f.fees)) == 0
}

func (f *valueFlow) writer() *writer {
	zero := new(big.Int)
	return newWriter().uint(0xb8e48dfb, 32).
		sub(newWriter().currency(f.before).currency(f.after).currency(f.imported).currency(f.exported)).
		currency(f.fees).
		sub(newWriter().currency(f.shardFees).currency(zero).currency(zero).currency(zero))
}

// oldBlocks is the augmentation of OldMcBlocksInfo, HashmapAugE 32
// KeyExtBlkRef KeyMaxLt: whether a key block is below, and the largest end_lt.
type oldBlocks struct{}

func (oldBlocks) SkipExtra(s *cell.Slice) error {
	_, err := s.LoadSlice(65)
	return err
}

func (oldBlocks) EmptyExtra() (*cell.Cell, error) { return newWriter().bool(false).uint(0, 64).cell() }

func (oldBlocks) LeafExtra(v *cell.Slice) (*cell.Cell, error) {
	key, err := v.LoadBoolBit()
	if err != nil {
		return nil, err
	}
	lt, err := v.LoadUInt(64)
	if err != nil {
		return nil, err
	}
	return newWriter().bool(key).uint(lt, 64).cell()
}

func (oldBlocks) CombineExtra(l, r *cell.Slice) (*cell.Cell, error) {
	key, lt := false, uint64(0)
	for _, s := range []*cell.Slice{l, r} {
		k, err := s.LoadBoolBit()
		if err != nil {
			return nil, err
		}
		n, err := s.LoadUInt(64)
		if err != nil {
			return nil, err
		}
		key, lt = key || k, max(lt, n)
	}
	return newWriter().bool(key).uint(lt, 64).cell()
}

// envelope is msg_envelope#4 of a message whose remaining forward fee is fee.
func envelope(hops uint64, fee *big.Int, msg *cell.Cell) (*cell.Cell, error) {
	// interm_addr_regular$0: hops of 96 destination bits are behind the message
	return newWriter().uint(4, 4).uint(hops, 8).uint(96, 8).grams(fee).ref(msg).cell()
}

// queueKey is the key of OutMsgQueue: next hop and message hash.
func queueKey(dst *address.Address, msg *cell.Cell) (*cell.Cell, error) {
	return newWriter().int32(dst.Workchain()).bytes(dst.Data()[:8]).bytes(msg.Hash()).cell()
}

// byAccount orders transactions as a block's account blocks do.
func byAccount(a, b *txRecord) int {
	if c := bytes.Compare(a.account[:], b.account[:]); c != 0 {
		return c
	}
	if a.lt < b.lt {
		return -1
	}
	return 1
}
