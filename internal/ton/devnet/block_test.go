package devnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/big"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

func memory(t testing.TB) *Chain {
	t.Helper()
	c, err := New(Config{Seed: []byte("test"), Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// give makes the giver send one message.
func give(t testing.TB, c *Chain, to *address.Address, nano uint64, bounce bool) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	msg, err := c.giverMessage(to, nano, bounce)
	if err == nil {
		err = c.push(msg)
	}
	if err == nil {
		err = c.seal()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *Chain) balanceOf(t testing.TB, a *address.Address) uint64 {
	t.Helper()
	list := c.blocks[a.Workchain()]
	sa, err := loadAccount(list[len(list)-1].state, a.Data())
	if err != nil {
		t.Fatal(err)
	}
	if sa == nil {
		return 0
	}
	var st tlb.AccountState
	if err = tlb.Parse(&st, sa.Account); err != nil {
		t.Fatal(err)
	}
	return st.Balance.Nano().Uint64()
}

func addr(wc int8, b byte) *address.Address {
	return address.NewAddress(0, byte(wc), bytes.Repeat([]byte{b}, 32))
}

// busy is a chain with transfers, a bounce, masterchain traffic and delays.
func busy(t testing.TB) *Chain {
	c := memory(t)
	for i := range byte(5) {
		give(t, c, addr(0, i+1), uint64(i+1)*1e9, false)
	}
	give(t, c, addr(0, 99), 1e9, true) // bounces
	give(t, c, addr(-1, 1), 3e9, false)
	give(t, c, addr(-1, 2), 1e9, true) // bounces across workchains
	c.DelayMessages(2)
	give(t, c, addr(0, 7), 1e9, false)
	give(t, c, addr(0, 99), 1e9, true)
	c.DelayMessages(0)
	for range 6 {
		if err := c.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Every block is what a validator would accept of it: hashes, descriptors that
// evaluate to their sums, a state update that applies, and money that adds up.
func TestBlocksAreWhole(t *testing.T) {
	c := busy(t)
	for _, wc := range []int32{basechain, masterchain} {
		list := c.blocks[wc]
		for i, b := range list[1:] {
			prev := list[i]
			if h := sha256.Sum256(fileBOC(b.root)); !bytes.Equal(h[:], b.id.FileHash) {
				t.Fatalf("block %d:%d: file hash", wc, b.id.SeqNo)
			}
			var blk tlb.Block
			if err := tlb.Parse(&blk, b.root); err != nil {
				t.Fatal(err)
			}
			if blk.BlockInfo.PrevRef.Prev1.SeqNo != prev.id.SeqNo || !bytes.Equal(blk.BlockInfo.PrevRef.Prev1.RootHash, prev.id.RootHash) {
				t.Fatalf("block %d:%d does not follow %d", wc, b.id.SeqNo, prev.id.SeqNo)
			}
			if blk.BlockInfo.StartLt >= blk.BlockInfo.EndLt || blk.BlockInfo.StartLt <= prev.endLT {
				t.Fatalf("block %d:%d: logical times %d to %d after %d", wc, b.id.SeqNo, blk.BlockInfo.StartLt, blk.BlockInfo.EndLt, prev.endLT)
			}
			if err := cell.ValidateMerkleUpdate(blk.StateUpdate); err != nil {
				t.Fatal(err)
			}
			state, _, err := cell.ApplyMerkleUpdate(prev.state, blk.StateUpdate)
			if err != nil || !bytes.Equal(state.Hash(), b.state.Hash()) {
				t.Fatalf("block %d:%d: the state update does not apply: %v", wc, b.id.SeqNo, err)
			}
			var in tlb.InMsgDescrAugDict
			var out tlb.OutMsgDescrAugDict
			var accounts tlb.ShardAccountBlocksAugDict
			for _, d := range []struct {
				name string
				root *cell.Cell
				load interface{ LoadFromCell(*cell.Slice) error }
				ok   func() bool
			}{
				{"in_msg_descr", blk.Extra.InMsgDesc, &in, func() bool { return in.ValidateAll() }},
				{"out_msg_descr", blk.Extra.OutMsgDesc, &out, func() bool { return out.ValidateAll() }},
				{"account_blocks", blk.Extra.ShardAccountBlocks, &accounts, func() bool { return accounts.ValidateAll() }},
			} {
				s, err := d.root.BeginParse()
				if err != nil {
					t.Fatal(err)
				}
				if err = d.load.LoadFromCell(s); err != nil || !d.ok() {
					t.Fatalf("block %d:%d: %s: %v", wc, b.id.SeqNo, d.name, err)
				}
			}
			txs, err := blk.ListTransactions()
			if err != nil || len(txs) != len(b.txs) {
				t.Fatalf("block %d:%d lists %d of %d transactions: %v", wc, b.id.SeqNo, len(txs), len(b.txs), err)
			}
		}
	}
}

// Balances, queues and collected fees always make up the first supply.
func TestNothingIsLost(t *testing.T) {
	c := busy(t)
	total := new(big.Int)
	for _, l := range c.lanes {
		b, err := l.balance()
		if err != nil {
			t.Fatal(err)
		}
		total.Add(total, b)
		if len(l.queued) != 0 || !l.queue.IsEmpty() {
			t.Fatalf("workchain %d: %d messages still wait", l.wc, len(l.queued))
		}
	}
	// the masterchain's fees include the basechain's
	total.Add(total, c.lanes[masterchain].fees)
	if total.Cmp(big.NewInt(supply)) != 0 {
		t.Fatalf("%s nanogram, want %d", total, uint64(supply))
	}
	if c.balanceOf(t, addr(0, 3)) != 3e9 || c.balanceOf(t, addr(-1, 1)) != 3e9 || c.balanceOf(t, addr(0, 7)) != 1e9 {
		t.Fatal("a receiver has another balance")
	}
	if c.balanceOf(t, addr(0, 99)) != 0 || c.balanceOf(t, addr(-1, 2)) != 0 {
		t.Fatal("what bounced stayed")
	}
}

// A bounced message comes back to its sender, less fees, marked as bounced.
func TestBounce(t *testing.T) {
	for _, v := range []struct {
		name   string
		to     *address.Address
		blocks int
	}{{"basechain", addr(0, 1), 0}, {"masterchain", addr(-1, 1), 1}} {
		t.Run(v.name, func(t *testing.T) {
			c := memory(t)
			before := c.balanceOf(t, c.giver)
			give(t, c, v.to, 1e9, true)
			for range v.blocks {
				if err := c.Seal(); err != nil {
					t.Fatal(err)
				}
			}
			lost := before - c.balanceOf(t, c.giver)
			if lost == 0 || lost > 1e8 {
				t.Fatalf("the giver lost %d nanogram", lost)
			}
			list := c.txs[accountID{0, [32]byte(c.giver.Data())}]
			var tx tlb.Transaction
			if err := tlb.Parse(&tx, list[len(list)-1].cell); err != nil {
				t.Fatal(err)
			}
			if m := tx.IO.In.AsInternal(); !m.Bounced || !m.SrcAddr.Equals(v.to) {
				t.Fatalf("the giver's last message: %+v", m)
			}
		})
	}
}

func TestDelayedMessage(t *testing.T) {
	c := memory(t)
	c.DelayMessages(3)
	give(t, c, addr(0, 1), 1e9, false)
	for i := range 3 {
		if got := c.balanceOf(t, addr(0, 1)); got != 0 {
			t.Fatalf("arrived after %d blocks", i)
		}
		if l := c.lanes[basechain]; len(l.queued) != 1 || l.queue.IsEmpty() {
			t.Fatal("the message is not in the queue")
		}
		if err := c.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.balanceOf(t, addr(0, 1)); got != 1e9 {
		t.Fatalf("the receiver holds %d", got)
	}
}

// A fixed seed and clock give the same chain, hash for hash.
func TestChainsRepeat(t *testing.T) {
	a, b := busy(t), busy(t)
	if !a.last().id.Equals(b.last().id) {
		t.Fatal("two equal histories differ")
	}
}

func TestAccountsCanDisappear(t *testing.T) {
	c := memory(t)
	give(t, c, addr(0, 1), 0, false) // a transaction that leaves no account
	if sa, err := loadAccount(c.blocks[basechain][2].state, addr(0, 1).Data()); err != nil || sa != nil {
		t.Fatalf("%v %v", sa, err)
	}
	if len(c.txs[accountID{0, [32]byte(addr(0, 1).Data())}]) != 1 {
		t.Fatal("no transaction")
	}
}

func TestTimeOnlyMovesForward(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, err := New(Config{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err = c.Advance(-time.Second); err == nil {
		t.Fatal("went back")
	}
	if err = c.Advance(1 << 62); err == nil {
		t.Fatal("left the range of times")
	}
	if err = c.Advance(time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := c.last().utime; got != 1_800_003_600 {
		t.Fatalf("block time %d", got)
	}
	now = now.Add(-24 * time.Hour) // the clock was set back
	if err = c.Seal(); err != nil {
		t.Fatal(err)
	}
	if got := c.last().utime; got != 1_800_003_600 {
		t.Fatalf("block time %d went back", got)
	}
}

func TestMerkleUpdateSharesSubtrees(t *testing.T) {
	c := busy(t)
	mc := c.blocks[masterchain]
	b := mc[len(mc)-1]
	if n, all := len(b.root.ToBOC()), len(b.state.ToBOC()); n > all {
		t.Fatalf("an empty block has %d bytes, its state %d: the update carries the whole state", n, all)
	}
}

func BenchmarkTransferBlock(b *testing.B) {
	c := memory(b)
	for b.Loop() {
		if err := c.Fund(addr(0, 1), 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGenesis(b *testing.B) {
	for b.Loop() {
		c, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

func FuzzSend(f *testing.F) {
	c := memory(f)
	c.mu.Lock()
	msg, err := c.giverMessage(addr(0, 1), 1, false)
	c.mu.Unlock()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg.ToBOC())
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, boc []byte) {
		seqno := c.last().id.SeqNo
		if c.Send(boc) == nil {
			if err := c.Seal(); err != nil || c.last().id.SeqNo != seqno+1 {
				t.Fatalf("an accepted message stops the chain: %v", err)
			}
		}
	})
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(`{"time":1,"root":"` + string(bytes.Repeat([]byte("ab"), 32)) + `"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if s, err := parseBlockLine(line); err == nil && s.Root == ([32]byte{}) {
			t.Fatal("a line without a root")
		}
	})
}

func FuzzArguments(f *testing.F) {
	s := tlb.NewStack()
	s.Push(big.NewInt(1))
	s.Push(nil)
	c, err := s.ToCell()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.ToBOC())
	f.Fuzz(func(t *testing.T, boc []byte) { _, _ = parseStack(boc) })
}

// FuzzQuery gives a liteserver whatever a client can send.
func FuzzQuery(f *testing.F) {
	c := busy(f)
	ctx, cancel := context.WithCancel(f.Context())
	cancel() // waits end at once
	s := &Liteserver{chain: c, ctx: ctx, stop: cancel}
	master, shard := c.last().id, c.last().shard.id
	acc := tonapi.AccountID{ID: c.giver.Data()}
	for _, q := range []tl.Serializable{
		tonapi.GetTime{}, tonapi.GetVersion{}, tonapi.GetMasterchainInf{}, tonapi.GetMasterchainInfoExt{},
		tonapi.LookupBlock{Mode: 1, ID: &tonapi.BlockInfoShort{Workchain: -1, Shard: fullShard, Seqno: 3}},
		tonapi.LookupBlock{Mode: 2, ID: &tonapi.BlockInfoShort{Workchain: 0, Shard: fullShard}, LT: 5_000_000},
		tonapi.LookupBlock{Mode: 4, ID: &tonapi.BlockInfoShort{Workchain: 0, Shard: fullShard}, UTime: 1_800_000_000},
		tonapi.LookupBlockWithProof{Mode: 1, ID: &tonapi.BlockInfoShort{Workchain: -1, Shard: fullShard, Seqno: 3}, MCBlockID: master},
		tonapi.LookupBlockWithProof{Mode: 2, ID: &tonapi.BlockInfoShort{Workchain: 0, Shard: fullShard}, MCBlockID: master, LT: 5_000_000},
		tonapi.LookupBlockWithProof{Mode: 4, ID: &tonapi.BlockInfoShort{Workchain: 0, Shard: fullShard}, MCBlockID: master, UTime: 1_800_000_000},
		tonapi.GetShardBlockProof{ID: shard}, tonapi.GetShardBlockProof{ID: master},
		tonapi.GetBlockHeader{ID: master}, tonapi.GetBlockData{ID: shard}, tonapi.GetAllShardsInfo{ID: master},
		tonapi.GetShardInfo{ID: master, Shard: fullShard}, tonapi.GetConfigAll{BlockID: master}, tonapi.GetConfigParams{BlockID: master, Params: []int32{18, 99}},
		tonapi.GetBlockProof{Mode: 1, KnownBlock: c.blocks[masterchain][2].id, TargetBlock: master}, tonapi.GetBlockProof{KnownBlock: master},
		tonapi.GetAccountState{ID: master, Account: acc}, tonapi.GetAccountState{ID: shard, Account: acc},
		tonapi.RunSmcMethod{Mode: 7, ID: master, Account: acc, MethodID: tlb.MethodNameHash("seqno"), Params: cell.BeginCell().MustStoreUInt(0, 24).EndCell().ToBOC()},
		tonapi.SendMessage{Body: []byte("hello")},
		tonapi.GetTransactions{Limit: 3, AccID: &acc, LT: int64(c.txs[accountID{0, [32]byte(acc.ID)}][0].lt), TxHash: c.txs[accountID{0, [32]byte(acc.ID)}][0].cell.Hash()},
		tonapi.GetOneTransaction{ID: shard, AccID: &acc, LT: 1},
		tonapi.ListBlockTransactions{ID: c.blocks[basechain][2].id, Mode: 0b100111, Count: 1, WantProof: &tonapi.True{}},
		tonapi.ListBlockTransactionsExt{ID: c.blocks[basechain][2].id, Mode: 0b100111, Count: 1, WantProof: &tonapi.True{}},
		tonapi.GetLibraries{LibraryList: [][]byte{make([]byte, 32)}},
	} {
		raw, err := tl.Serialize(q, true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var q tl.Serializable
		if _, err := tl.Parse(&q, raw, true); err != nil {
			return
		}
		if e, ok := s.answer(q).(tonapi.LSError); ok && e.Code == 500 {
			t.Fatalf("%T: %s", q, e.Text)
		}
	})
}

// A client refuses a chain whose newest block is old: one that comes back after a night, or whose blocks are rare, has a new one at once.
func TestNewestBlockIsRecent(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1_800_000_000, 0)
	cfg := Config{Dir: dir, Clock: func() time.Time { return now }}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err = c.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(8 * time.Hour)
	if c, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	next := c.head().id.SeqNo + 1
	go func() { done <- c.Run(ctx, time.Hour) }()
	if !c.wait(t.Context(), next, 10*time.Second) || c.head().utime != uint32(now.Unix()) {
		t.Errorf("block %d of %d, at %d", c.head().id.SeqNo, c.head().utime, now.Unix())
	}
	cancel()
	if err = <-done; err != nil {
		t.Fatal(err)
	}
}
