package devnet_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// start is a chain that seals as messages come, with one liteserver.
func start(t testing.TB, cfg devnet.Config) (*devnet.Chain, *devnet.Liteserver) {
	t.Helper()
	chain, err := devnet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := chain.Close(); err != nil {
			t.Error(err)
		}
	})
	ls, err := chain.Serve(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return chain, ls
}

// dial is the client that everyone uses, with its strictest proof policy.
func dial(t testing.TB, chain *devnet.Chain) tonapi.APIClientWrapped {
	t.Helper()
	var cfg liteclient.GlobalConfig
	if err := json.Unmarshal(chain.GlobalConfig(), &cfg); err != nil {
		t.Fatal(err)
	}
	pool := liteclient.NewConnectionPool()
	pool.SetOnDisconnect(func(string, string) {})
	t.Cleanup(pool.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := pool.AddConnectionsFromConfig(ctx, &cfg); err != nil {
		t.Fatal(err)
	}
	api := tonapi.NewAPIClient(pool, tonapi.ProofCheckPolicySecure).WithRetryTimeout(1, 5*time.Second)
	api.SetTrustedBlockFromConfig(&cfg)
	return api
}

func newWallet(t testing.TB, api tonapi.APIClientWrapped, chain *devnet.Chain) *wallet.Wallet {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return openWallet(t, api, chain, key)
}

func openWallet(t testing.TB, api tonapi.APIClientWrapped, chain *devnet.Chain, key ed25519.PrivateKey) *wallet.Wallet {
	t.Helper()
	w, err := wallet.FromPrivateKey(api, key, wallet.ConfigV5R1Final{NetworkGlobalID: chain.GlobalID()})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func balance(t testing.TB, api tonapi.APIClientWrapped, a *address.Address) tlb.Coins {
	t.Helper()
	head, err := api.GetMasterchainInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(t.Context(), head, a)
	if err != nil {
		t.Fatal(err)
	}
	if acc.State == nil {
		return tlb.Coins{}
	}
	return acc.State.Balance
}

// The unmodified client of tonutils-go, checking every proof, sees transfers.
func TestUnmodifiedClientTransfers(t *testing.T) {
	now := time.Now() // stands still, so that storage costs nothing
	chain, _ := start(t, devnet.Config{SealOnSend: true, Clock: func() time.Time { return now }})
	api := dial(t, chain)
	from, to := newWallet(t, api, chain), newWallet(t, api, chain)

	if got := balance(t, api, from.WalletAddress()); got.Nano().Sign() != 0 {
		t.Fatalf("new wallet holds %s", got)
	}
	if err := chain.Fund(from.WalletAddress(), 1_000_000_000_000); err != nil {
		t.Fatal(err)
	}
	if got := balance(t, api, from.WalletAddress()); got.Nano().Uint64() != 1_000_000_000_000 {
		t.Fatalf("funded wallet holds %s", got)
	}
	for i := range 3 { // the first one deploys the wallet
		msg, err := from.BuildTransfer(to.WalletAddress(), tlb.MustFromTON("12.5"), false, "hello")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		// a new client each time: it caches the newest block for a second, and with it the wallet's seqno
		tx, _, err := openWallet(t, dial(t, chain), chain, from.PrivateKey()).SendWaitTransaction(ctx, msg)
		cancel()
		if err != nil {
			t.Fatalf("transfer %d: %v", i, err)
		}
		if tx.TotalFees.Coins.Nano().Sign() <= 0 {
			t.Fatal("a transfer without fees")
		}
	}
	if got := balance(t, api, to.WalletAddress()); got.String() != "37.5" {
		t.Fatalf("receiver holds %s, want 37.5", got)
	}
	head, err := api.GetMasterchainInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := api.RunGetMethod(t.Context(), head, from.WalletAddress(), "seqno")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.Int(0); err != nil || n.Int64() != 3 {
		t.Fatalf("seqno %v %v, want 3", n, err)
	}
}

// Blocks, headers, lists and single transactions prove themselves to the client.
func TestUnmodifiedClientReadsBlocks(t *testing.T) {
	chain, _ := start(t, devnet.Config{SealOnSend: true})
	api := dial(t, chain)
	ctx := t.Context()
	const n = 20 // more than a page
	to := address.NewAddress(0, 0, make([]byte, 32))
	for range n {
		if err := chain.Fund(to, 1_000_000_000); err != nil {
			t.Fatal(err)
		}
	}
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	shards, err := api.GetBlockShardsInfo(ctx, head)
	if err != nil || len(shards) != 1 {
		t.Fatalf("%d shards, %v", len(shards), err)
	}
	blk, err := api.GetBlockData(ctx, shards[0])
	if err != nil {
		t.Fatal(err)
	}
	inBlock, err := blk.ListTransactions()
	if err != nil || len(inBlock) != 2 {
		t.Fatalf("%d transactions in the block, %v", len(inBlock), err)
	}
	h, err := api.GetBlockHeader(ctx, head)
	if err != nil || h.SeqNo != head.SeqNo || h.NotMaster {
		t.Fatalf("%+v %v", h, err)
	}
	found, err := api.LookupBlock(ctx, 0, shards[0].Shard, shards[0].SeqNo)
	if err != nil || !found.Equals(shards[0]) {
		t.Fatalf("%v %v", found, err)
	}
	if _, err = api.LookupBlock(ctx, 0, shards[0].Shard, 1_000_000); !errors.Is(err, tonapi.ErrBlockNotFound) {
		t.Fatalf("a block to come: %v", err)
	}
	// one at a time, continued
	var ids []tonapi.TransactionShortInfo
	for more, after := true, (*tonapi.TransactionID3)(nil); more; {
		var page []tonapi.TransactionShortInfo
		if page, more, err = api.GetBlockTransactionsV2(ctx, shards[0], 1, after); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, page...)
		after = page[len(page)-1].ID3()
	}
	if len(ids) != 2 {
		t.Fatalf("%d transactions listed", len(ids))
	}
	for _, id := range ids {
		tx, err := api.GetTransaction(ctx, shards[0], address.NewAddress(0, 0, id.Account), id.LT)
		if err != nil || !bytes.Equal(tx.Hash, id.Hash) {
			t.Fatalf("transaction %d: %v", id.LT, err)
		}
	}
	acc, err := api.GetAccount(ctx, head, to)
	if err != nil {
		t.Fatal(err)
	}
	page, err := api.ListTransactions(ctx, to, 100, acc.LastTxLT, acc.LastTxHash)
	if err != nil || len(page) != 16 {
		t.Fatalf("%d transactions in a page, %v", len(page), err)
	}
	page, err = api.ListTransactions(ctx, to, 100, page[0].PrevTxLT, page[0].PrevTxHash)
	if err != nil || len(page) != n-16 {
		t.Fatalf("%d transactions in the second page, %v", len(page), err)
	}
	cfg, err := api.GetBlockchainConfig(ctx, head)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := cfg.GetGlobalID(); err != nil || id.GlobalID != devnet.DefaultGlobalID {
		t.Fatalf("%v %v", id, err)
	}
	if _, err = api.GetBlockchainConfig(ctx, head, 18, 21, 25); err != nil {
		t.Fatal(err)
	}
	// an account of the masterchain
	if err = chain.Fund(address.NewAddress(0, 255, make([]byte, 32)), 7_000_000_000); err != nil {
		t.Fatal(err)
	}
	if got := balance(t, api, address.NewAddress(0, 255, make([]byte, 32))); got.String() != "7" {
		t.Fatalf("masterchain account holds %s", got)
	}
	if now, err := api.GetTime(ctx); err != nil || now == 0 {
		t.Fatal(err)
	}
}

// A refusal says why.
func TestRefusedExternals(t *testing.T) {
	chain, _ := start(t, devnet.Config{})
	root, err := tlb.ToCell(&tlb.ExternalMessage{DstAddr: chain.Giver(), Body: cell.BeginCell().EndCell()})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := tlb.ToCell(&tlb.ExternalMessage{DstAddr: address.NewAddress(0, 5, make([]byte, 32)), Body: cell.BeginCell().EndCell()})
	if err != nil {
		t.Fatal(err)
	}
	for name, boc := range map[string][]byte{"unsigned": root.ToBOC(), "no workchain": foreign.ToBOC(), "bytes": {1, 2, 3}} {
		if err := chain.Send(boc); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Readers, senders and the block clock at once.
func TestConcurrentUse(t *testing.T) {
	chain, _ := start(t, devnet.Config{})
	api := dial(t, chain)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := chain.Run(ctx, time.Millisecond); err != nil {
			t.Error(err)
		}
	})
	var work sync.WaitGroup
	for i := range byte(4) {
		to := address.NewAddress(0, 0, bytes.Repeat([]byte{i}, 32))
		work.Go(func() {
			for range 5 {
				if err := chain.Fund(to, 1_000_000_000); err != nil {
					t.Error(err)
				}
			}
		})
		work.Go(func() {
			for range 5 {
				head, err := api.GetMasterchainInfo(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err = api.GetAccount(ctx, head, to); err != nil {
					t.Error(err)
				}
				if _, err = api.RunGetMethod(ctx, head, chain.Giver(), "seqno"); err != nil && head.SeqNo > 1 {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	cancel()
	wg.Wait()
	for i := range byte(4) {
		if got := balance(t, api, address.NewAddress(0, 0, bytes.Repeat([]byte{i}, 32))); got.Nano().Uint64() < 4_999_999_000 {
			t.Errorf("account %d holds %s", i, got)
		}
	}
}

func BenchmarkGetAccountProven(b *testing.B) {
	chain, _ := start(b, devnet.Config{SealOnSend: true})
	api := dial(b, chain)
	head, err := api.GetMasterchainInfo(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := api.GetAccount(b.Context(), head, chain.Giver()); err != nil {
			b.Fatal(err)
		}
	}
}

// On a chain with key blocks that come again, proofs lead from one to the next,
// some in each answer, for the client that everyone uses, too.
func TestKeyBlocks(t *testing.T) {
	dir := t.TempDir()
	cfg := devnet.Config{KeyEvery: 3, Dir: dir}
	chain, ls := start(t, cfg)
	for range 100 {
		if err := chain.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	api := dial(t, chain)
	var asked atomic.Int32
	ls.Watch(func(q tl.Serializable) {
		if _, ok := q.(tonapi.GetBlockProof); ok {
			asked.Add(1)
		}
	})
	head, err := api.GetMasterchainInfo(t.Context()) // from the first block
	if err != nil || head.SeqNo != 101 {
		t.Fatal(head, err)
	}
	ls.Watch(nil)
	if got := asked.Load(); got != 3 { // 34 steps
		t.Errorf("%d proofs, want 3", got)
	}
	for _, seqno := range []uint32{1, 2, 3, 4, 5, 49, 50, 51, 99, 100} {
		old, err := api.LookupBlock(t.Context(), -1, -1<<63, seqno)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.VerifyProofChain(t.Context(), old, head); err != nil {
			t.Errorf("from %d to the newest: %v", seqno, err)
		}
		if err := api.VerifyProofChain(t.Context(), head, old); err != nil {
			t.Errorf("from the newest to %d: %v", seqno, err)
		}
		b, err := api.GetBlockData(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		key := seqno%3 == 1
		before := (seqno+1)/3*3 - 2
		if seqno == 1 {
			before = 0
		}
		if b.BlockInfo.KeyBlock != key || b.BlockInfo.PrevKeyBlockSeqno != before || (b.Extra.Custom.ConfigParams != nil) != key {
			t.Errorf("block %d: key block %v, the last before is %d", seqno, b.BlockInfo.KeyBlock, b.BlockInfo.PrevKeyBlockSeqno)
		}
	}
	if err := chain.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := devnet.New(devnet.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := again.Status().Seqno; n != 101 {
		t.Errorf("%d blocks come back", n)
	}
}

// boc parses a proof.
func boc(t testing.TB, b []byte) *cell.Cell {
	t.Helper()
	c, err := cell.FromBOC(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// registers checks that a link leads from a masterchain block to a block that it registers.
func registers(t testing.TB, m *tonapi.BlockIDExt, link tonapi.ShardBlockLink) {
	t.Helper()
	b, err := tonapi.CheckBlockProof(boc(t, link.Proof), m.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	shards, err := tonapi.LoadShardsFromHashes(b.Extra.Custom.ShardHashes, true)
	if err != nil || !slices.ContainsFunc(shards, link.ID.Equals) {
		t.Fatalf("%v of %v, %v", link.ID, shards, err)
	}
}

// What a client need not know of a block it can be shown, from a masterchain block that it knows.
func TestLookupsAreProven(t *testing.T) {
	chain, _ := start(t, devnet.Config{})
	for range 5 {
		if err := chain.Advance(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	api := dial(t, chain)
	head, err := api.GetMasterchainInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(q tl.Serializable) tl.Serializable {
		t.Helper()
		var resp tl.Serializable
		if err := api.Client().QueryLiteserver(t.Context(), q, &resp); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	const seqno, shard = 4, -1 << 63
	for _, wc := range []int32{-1, 0} {
		id, err := api.LookupBlock(t.Context(), wc, shard, seqno)
		if err != nil {
			t.Fatal(err)
		}
		h, err := api.GetBlockHeader(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		proof, ok := ask(tonapi.GetShardBlockProof{ID: id}).(tonapi.ShardBlockProof)
		switch {
		case !ok:
			t.Fatal("no proof")
		case wc == -1:
			if len(proof.Links) != 0 || !proof.MasterchainID.Equals(id) {
				t.Fatalf("%+v", proof)
			}
		case len(proof.Links) != 1 || !proof.Links[0].ID.Equals(id):
			t.Fatalf("%+v", proof)
		default:
			registers(t, proof.MasterchainID, proof.Links[0])
		}
		short := &tonapi.BlockInfoShort{Workchain: wc, Shard: shard, Seqno: seqno}
		for name, q := range map[string]tonapi.LookupBlockWithProof{
			"number":                       {Mode: 1, ID: short, MCBlockID: head},
			"number, from its masterchain": {Mode: 1, ID: short, MCBlockID: proof.MasterchainID},
			"first logical time":           {Mode: 2, ID: short, MCBlockID: head, LT: h.StartLt},
			"last logical time":            {Mode: 2, ID: short, MCBlockID: head, LT: h.EndLt},
			"time":                         {Mode: 4, ID: short, MCBlockID: head, UTime: h.GenUtime},
			"time before":                  {Mode: 4, ID: short, MCBlockID: head, UTime: h.GenUtime - 1},
		} {
			r, ok := ask(q).(tonapi.LookupBlockResult)
			if !ok || !r.ID.Equals(id) || !r.MCBlockID.Equals(proof.MasterchainID) {
				t.Fatalf("%s: %+v", name, r)
			}
			// as tonlib checks it: the masterchain block is on the client's chain, ...
			if !r.MCBlockID.Equals(q.MCBlockID) {
				ex, err := tonapi.CheckShardMcStateExtraProof(q.MCBlockID, []*cell.Cell{boc(t, r.ClientMCStateProof), boc(t, r.MCBlockProof)})
				if err != nil {
					t.Fatal(err)
				}
				var info tlb.McStateExtraBlockInfo
				if err = tlb.LoadFromCellAsProof(&info, ex.Info.MustBeginParse()); err != nil {
					t.Fatal(err)
				}
				v, _, err := info.PrevBlocks.LoadValueExtraByIntKey(big.NewInt(int64(r.MCBlockID.SeqNo)))
				var ref tlb.KeyExtBlkRef
				if err == nil {
					err = tlb.LoadFromCellAsProof(&ref, v)
				}
				if err != nil || !bytes.Equal(ref.BlkRef.RootHash, r.MCBlockID.RootHash) {
					t.Fatalf("%s: %v", name, err)
				}
			} else if len(r.ClientMCStateProof)+len(r.MCBlockProof) != 0 {
				t.Fatalf("%s: a proof that the block is itself", name)
			}
			// ... the block is its or its shard's, ...
			if wc == 0 {
				registers(t, r.MCBlockID, r.ShardLinks[0])
			}
			b, err := tonapi.CheckBlockProof(boc(t, r.Header), r.ID.RootHash)
			if err != nil || b.BlockInfo.SeqNo != seqno {
				t.Fatalf("%s: %v", name, err)
			}
			// ... and the one before is not what was asked for.
			if q.Mode == 1 {
				continue
			}
			parents, err := tonapi.GetParentBlocks(&b.BlockInfo)
			if err != nil {
				t.Fatal(err)
			}
			prev, err := tonapi.CheckBlockProof(boc(t, r.PrevHeader), parents[0].RootHash)
			if err != nil || prev.BlockInfo.SeqNo != seqno-1 || q.Mode == 2 && prev.BlockInfo.EndLt >= q.LT || q.Mode == 4 && prev.BlockInfo.GenUtime >= q.UTime {
				t.Fatalf("%s: %+v %v", name, prev, err)
			}
		}
		for name, q := range map[string]tl.Serializable{
			"to come":           tonapi.LookupBlockWithProof{Mode: 1, ID: &tonapi.BlockInfoShort{Workchain: wc, Shard: shard, Seqno: 1000}, MCBlockID: head},
			"zero state":        tonapi.LookupBlockWithProof{Mode: 1, ID: &tonapi.BlockInfoShort{Workchain: wc, Shard: shard}, MCBlockID: head},
			"later than known":  tonapi.LookupBlockWithProof{Mode: 1, ID: &tonapi.BlockInfoShort{Workchain: wc, Shard: shard, Seqno: seqno + 1}, MCBlockID: proof.MasterchainID},
			"before the first":  tonapi.LookupBlockWithProof{Mode: 2, ID: short, MCBlockID: head},
			"two questions":     tonapi.LookupBlockWithProof{Mode: 3, ID: short, MCBlockID: head},
			"from no block":     tonapi.LookupBlockWithProof{Mode: 1, ID: short, MCBlockID: &tonapi.BlockIDExt{Workchain: -1, Shard: shard, SeqNo: 9, RootHash: make([]byte, 32), FileHash: make([]byte, 32)}},
			"of no such block":  tonapi.GetShardBlockProof{ID: &tonapi.BlockIDExt{Workchain: wc, Shard: shard, SeqNo: seqno, RootHash: make([]byte, 32), FileHash: make([]byte, 32)}},
			"from another's id": tonapi.LookupBlockWithProof{Mode: 1, ID: short, MCBlockID: &tonapi.BlockIDExt{Workchain: 0, Shard: shard, SeqNo: 1, RootHash: make([]byte, 32), FileHash: make([]byte, 32)}},
		} {
			if e, ok := ask(q).(tonapi.LSError); !ok || e.Code == 500 {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}
