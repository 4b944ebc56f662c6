package ton_test

import (
	"errors"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

var fast = ton.Options{Timeout: 2 * time.Second, Resend: 50 * time.Millisecond}

// start is a devnet with n liteservers and a client of it.
func start(t testing.TB, n int) (*devnet.Chain, []*devnet.Liteserver, *ton.Client) {
	t.Helper()
	chain, err := devnet.New(devnet.Config{SealOnSend: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	var ls []*devnet.Liteserver
	for range n {
		s, err := chain.Serve(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, s)
	}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), fast)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return chain, ls, c
}

func TestClientReadsProvenState(t *testing.T) {
	chain, _, c := start(t, 1)
	if c.GlobalID() != devnet.DefaultGlobalID {
		t.Fatalf("global id %d", c.GlobalID())
	}
	to := address.NewAddress(0, 0, make([]byte, 32))
	acc, err := c.Account(t.Context(), to)
	if err != nil || acc.Status != tlb.AccountStatusNonExist || acc.LastLT != 0 {
		t.Fatalf("%+v %v", acc, err)
	}
	if err = chain.Fund(to, uint64(5*ton.Gram)); err != nil {
		t.Fatal(err)
	}
	acc, err = c.Account(t.Context(), to)
	if err != nil || acc.Balance != 5*ton.Gram || acc.Status != tlb.AccountStatusUninit {
		t.Fatalf("%+v %v", acc, err)
	}
	txs, err := c.Transactions(t.Context(), to, 0)
	if err != nil || len(txs) != 1 || txs[0].LT != acc.LastLT {
		t.Fatalf("%d transactions, %v", len(txs), err)
	}
	out, err := c.RunGetMethod(t.Context(), chain.Giver(), "seqno")
	if err != nil || len(out) != 1 {
		t.Fatalf("%v %v", out, err)
	}
	if _, err = c.RunGetMethod(t.Context(), to, "seqno"); !errors.Is(err, ton.ErrNoCode) {
		t.Fatalf("get method of no contract: %v", err)
	}
	head, err := c.MasterchainHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, none := range []uint32{0, head.Seqno + 1, 1<<32 - 1} {
		if _, err = c.MasterchainBlock(t.Context(), none); err == nil || errors.Is(err, ton.ErrUnreachable) {
			t.Errorf("block %d: %v", none, err)
		}
	}
	if same, err := c.MasterchainBlock(t.Context(), head.Seqno); err != nil || same != head {
		t.Fatalf("%+v %v", same, err)
	}
	old, err := c.MasterchainBlock(t.Context(), head.Seqno-1)
	if err != nil || old.Seqno != head.Seqno-1 || old.RootHash == head.RootHash {
		t.Fatalf("%+v %v", old, err)
	}
}
