package tongo

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tonkeeper/tongo/boc"
	"github.com/tonkeeper/tongo/liteapi"
	"github.com/tonkeeper/tongo/liteclient"
	"github.com/tonkeeper/tongo/tlb"
	"github.com/tonkeeper/tongo/ton"
	"github.com/tonkeeper/tongo/wallet"
)

// globalID is the local network's.
const globalID = -217

// The client makes a wallet, which is funded, deploys itself, pays, and reads back what it did.
func TestSends(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := dial(t)
	for _, v := range []wallet.Version{wallet.V5R1, wallet.V4R2, wallet.V3R2} {
		t.Run(v.ToString(), func(t *testing.T) {
			_, key, err := ed25519.GenerateKey(nil)
			if err != nil {
				t.Fatal(err)
			}
			w, err := wallet.New(key, v, client, wallet.WithNetworkGlobalID(globalID))
			if err != nil {
				t.Fatal(err)
			}
			control(t, "/fund", fmt.Sprintf(`{"address":%q,"amount":"10"}`, w.GetAddress().ToHuman(false, false)))
			reach(t, ctx, client, w.GetAddress(), 10_000_000_000)
			to := *ton.NewAccountID(0, [32]byte(key.Public().(ed25519.PublicKey)))
			for i := range 3 { // the first deploys the wallet
				if err = w.Send(ctx, wallet.SimpleTransfer{Amount: 1_000_000_000, Address: to, Comment: fmt.Sprint("payment ", i)}); err != nil {
					t.Fatalf("transfer %d: %v", i, err)
				}
				reach(t, ctx, client, to, tlb.Grams(i+1)*1_000_000_000)
			}
			if n, err := client.GetSeqno(ctx, w.GetAddress()); err != nil || n != 3 { // a get method
				t.Fatalf("seqno %d, %v", n, err)
			}
			txs, err := client.GetLastTransactions(ctx, w.GetAddress(), 100)
			if err != nil || len(txs) != 4 {
				t.Fatalf("%d transactions, %v", len(txs), err)
			}
			for _, tx := range txs {
				one, err := client.GetOneTransactionFromBlock(ctx, w.GetAddress(), tx.BlockID, tx.Lt)
				if err != nil || one.Hash() != tx.Hash() {
					t.Fatalf("transaction %d: %v", tx.Lt, err)
				}
			}
		})
	}
	if _, err := client.SendMessage(ctx, []byte("no message")); err == nil {
		t.Error("sent what is no message")
	}
}

// reach waits until an account holds nano, less a little rent.
func reach(t *testing.T, ctx context.Context, c *liteapi.Client, a ton.AccountID, nano tlb.Grams) {
	t.Helper()
	for {
		head, err := c.GetMasterchainInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.WithBlock(head.Last.ToBlockIdExt()).GetAccountState(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Account.Account.Storage.Balance.Grams
		if got > nano-1000 && got <= nano {
			return
		}
		if err = c.WaitMasterchainSeqno(ctx, head.Last.Seqno+1, 10*time.Second); err != nil {
			t.Fatalf("%s holds %d, not %d: %v", a, got, nano, err)
		}
	}
}

// The client reads blocks, states, lists and the configuration.
func TestReads(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := dial(t)
	info, err := client.GetMasterchainInfoExt(ctx, 0)
	if err != nil || info.Last.Seqno < 100 || info.Init.Workchain != 0xffffffff {
		t.Fatalf("%+v, %v", info, err)
	}
	head := info.Last.ToBlockIdExt()
	if now, err := client.GetTime(ctx); err != nil || now < info.LastUtime {
		t.Errorf("time %d, %v", now, err)
	}
	if v, err := client.GetVersion(ctx); err != nil || v.Version == 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if id, err := client.GetNetworkGlobalID(ctx); err != nil || id != globalID { // from a block, whose hash the policy checks
		t.Errorf("global id %d, %v", id, err)
	}
	block, err := client.GetBlock(ctx, head)
	if err != nil || block.Info.SeqNo != head.Seqno {
		t.Fatalf("block %d, %v", block.Info.SeqNo, err)
	}
	other := head
	other.RootHash[0] ^= 1
	if _, err = client.GetBlock(ctx, other); err == nil {
		t.Error("a block under another hash")
	}
	if header, err := client.GetBlockHeader(ctx, head, 0); err != nil || header.EndLt != block.Info.EndLt {
		t.Errorf("%+v, %v", header, err)
	}
	shards, err := client.GetAllShardsInfo(ctx, head)
	if err != nil || len(shards) != 1 || shards[0].Seqno != head.Seqno {
		t.Fatalf("%v, %v", shards, err)
	}
	if s, err := client.GetShardInfoRaw(ctx, head, 0, 1<<63, true); err != nil || s.Shardblk.ToBlockIdExt() != shards[0] {
		t.Errorf("%+v, %v", s.Shardblk, err)
	}
	for name, mode := range map[string]uint32{"seqno": 1, "lt": 2, "time": 4} {
		lt, utime := block.Info.EndLt, block.Info.GenUtime
		id := ton.BlockID{Workchain: -1, Shard: 1 << 63, Seqno: head.Seqno}
		found, _, err := client.LookupBlock(ctx, id, mode, optional(mode == 2, lt), optional(mode == 4, utime))
		if err != nil || mode != 4 && found != head {
			t.Errorf("lookup by %s: %v, %v", name, found, err)
		}
	}
	for id, links := range map[ton.BlockIDExt]int{head: 0, shards[0]: 1} {
		p, err := client.WithBlock(id).GetShardBlockProof(ctx)
		if err != nil || p.MasterchainId.ToBlockIdExt() != head || len(p.Links) != links {
			t.Fatalf("%+v, %v", p, err)
		}
		for _, l := range p.Links {
			if l.Id.ToBlockIdExt() != id || proves(t, l.Proof) != head.RootHash {
				t.Errorf("a link to %v", l.Id)
			}
		}
	}
	proof, err := client.GetBlockProof(ctx, ton.BlockIDExt(head), nil)
	if err != nil || !proof.Complete {
		t.Errorf("%+v, %v", proof, err)
	}
	first, _, err := client.LookupBlock(ctx, ton.BlockID{Workchain: -1, Shard: 1 << 63, Seqno: 1}, 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if proof, err = client.GetBlockProof(ctx, first, &head); err != nil || !proof.Complete || len(proof.Steps) != 1 || proof.Steps[0].SumType != "LiteServerBlockLinkForward" {
		t.Errorf("%+v, %v", proof, err)
	}
	for _, id := range []ton.BlockIDExt{head, shards[0]} {
		raw, root, _, err := client.GetState(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		cells, err := boc.DeserializeBoc(raw)
		if err != nil || len(cells) != 1 {
			t.Fatalf("%d cells, %v", len(cells), err)
		}
		if h, err := cells[0].Hash256(); err != nil || h != root {
			t.Errorf("state of %v: %v", id, err)
		}
	}
	if q, err := client.GetOutMsgQueueSizes(ctx); err != nil || len(q.Shards) != 2 {
		t.Errorf("%+v, %v", q, err)
	}
	if libs, err := client.GetLibraries(ctx, []ton.Bits256{{1}}); err != nil || len(libs) != 0 {
		t.Errorf("%v, %v", libs, err)
	}

	params, err := client.GetConfigAll(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := ton.ConvertBlockchainConfigStrict(params); err != nil || c.ConfigParam34 == nil || c.ConfigParam20 == nil {
		t.Errorf("configuration: %v", err)
	}
	if some, err := client.GetConfigParams(ctx, 0, []uint32{8, 18, 20, 21, 24, 25, 34}); err != nil || len(some.Config.Keys()) != 7 {
		t.Errorf("%d parameters, %v", len(some.Config.Keys()), err)
	}

	// lists of a block, whole and one by one
	busiest := shards[0]
	for seqno := uint32(2); seqno < 300; seqno++ {
		id, _, err := client.LookupBlock(ctx, ton.BlockID{Workchain: 0, Shard: 1 << 63, Seqno: seqno}, 1, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids, _, err := client.ListBlockTransactions(ctx, id, 7, 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) < 3 {
			continue
		}
		busiest = id
		var after *liteclient.LiteServerTransactionId3C
		for i, want := range ids {
			one, more, err := client.ListBlockTransactions(ctx, id, 7|optionalBit(after != nil, 7), 1, after)
			if err != nil || len(one) != 1 || *one[0].Hash != *want.Hash || more != (i < len(ids)-1) {
				t.Fatalf("transaction %d of %v: %+v %v %v", i, id, one, more, err)
			}
			after = &liteclient.LiteServerTransactionId3C{Account: *want.Account, Lt: *want.Lt}
		}
		break
	}
	if busiest == shards[0] {
		t.Error("no block has three transactions")
	}

	// accounts that do not exist, and what cannot be asked of them
	none := *ton.NewAccountID(0, [32]byte{1, 2, 3})
	if s, err := client.GetAccountState(ctx, none); err != nil || s.Account.SumType != "AccountNone" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := client.GetSeqno(ctx, none); err == nil {
		t.Error("a get method of an account that does not exist")
	}
	if _, err := client.GetTransactions(ctx, 10, none, 5, ton.Bits256{}); !errors.As(err, new(liteclient.LiteServerErrorC)) {
		t.Errorf("transactions of an account that does not exist: %v", err)
	}
}

// proves returns the hash of the block that a Merkle proof is of.
func proves(t *testing.T, proof []byte) ton.Bits256 {
	t.Helper()
	cells, err := boc.DeserializeBoc(proof)
	if err != nil || len(cells) != 1 {
		t.Fatalf("%d cells, %v", len(cells), err)
	}
	var p struct {
		Proof tlb.MerkleProof[tlb.BlockHeader]
	}
	if err = tlb.Unmarshal(cells[0], &p); err != nil {
		t.Fatal(err)
	}
	return ton.Bits256(p.Proof.VirtualHash)
}

func optional[T any](given bool, v T) *T {
	if !given {
		return nil
	}
	return &v
}

func optionalBit(set bool, bit int) uint32 {
	if !set {
		return 0
	}
	return 1 << bit
}
