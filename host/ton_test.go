package host

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/pgtest"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// runDevnet is a local chain that makes blocks until the test ends.
func runDevnet(t *testing.T) *devnet.Chain {
	t.Helper()
	chain, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); chain.Run(running, 50*time.Millisecond) }()
	t.Cleanup(func() { stop(); <-ended })
	return chain
}

// Claims and a close by agreement on the local chain: wallets, liteserver,
// proofs, the contract.
func TestOnDevnet(t *testing.T) {
	const gram = 1_000_000_000
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	chain := runDevnet(t)
	api, err := ton.Dial(ctx, chain.GlobalConfig(), ton.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	newWallet := func() (*wallet.Wallet, channel.Address) {
		w, err := wallet.New(chain.GlobalID())
		if err != nil {
			t.Fatal(err)
		}
		a, err := channel.AddressOf(w.Address())
		if err != nil {
			t.Fatal(err)
		}
		if err := chain.Fund(w.Address(), 10*gram); err != nil {
			t.Fatal(err)
		}
		return w, a
	}
	payer, payerAt := newWallet()
	payee, payeeAt := newWallet()
	stranger, _ := newWallet()
	p := channel.Params{Payee: payeeAt, Client: payerAt, ClientKey: [32]byte(clientKey.Public().(ed25519.PublicKey)),
		CloseDelay: 3600, ExpiresAt: uint32(chain.Now().Add(30 * 24 * time.Hour).Unix())}
	at := p.Address()
	rich, poor, foreign := &TON{Client: api, Wallet: payee}, &TON{Client: api}, &TON{Client: api, Wallet: stranger}
	if _, err := rich.Channel(ctx, at); !errors.Is(err, ErrNoChannel) {
		t.Fatalf("before it is open: %v", err)
	}
	open := channel.Open(p, 2*gram)
	if _, err := payer.Send(ctx, api, wallet.Message{To: at.Std(), Amount: 2 * gram, Init: open.StateInit}); err != nil {
		t.Fatal(err)
	}
	until := func(what string, ok func(*OnChain) bool) *OnChain {
		t.Helper()
		for {
			on, err := rich.Channel(ctx, at)
			if err == nil && ok(on) {
				return on
			}
			if ctx.Err() != nil || err != nil && !errors.Is(err, ErrNoChannel) {
				t.Fatalf("%s: %+v, %v", what, on, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	until("open", func(*OnChain) bool { return true })
	voucher := func(total uint64) *channel.SignedVoucher {
		v := channel.Voucher{GlobalID: chain.GlobalID(), Channel: at, Total: total}.Sign(clientKey)
		return &v
	}
	if _, err := poor.Claim(ctx, voucher(1_000_000)); !errors.Is(err, ErrTooSmall) {
		t.Fatalf("a small claim without a wallet: %v", err)
	}
	if _, err := rich.Claim(ctx, voucher(1_000_000)); err != nil {
		t.Fatal(err)
	}
	until("a small claim", func(on *OnChain) bool { return on.Paid == 1_000_000 })
	fee, err := poor.Claim(ctx, voucher(200_000_000))
	if err != nil {
		t.Fatal(err)
	}
	until("a claim without a wallet", func(on *OnChain) bool { return on.Paid == 200_000_000 })
	// The fee is what the payee got less, but for a few thousand nanogram that stay in the channel.
	paid := uint64(0)
	for paid < 100_000_000 {
		txs, err := api.Transactions(ctx, payee.Address(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range txs {
			if in := tx.IO.In; in.MsgType == tlb.MsgTypeInternal && in.AsInternal().SrcAddr.Equals(at.Std()) {
				paid = in.AsInternal().Amount.Nano().Uint64()
			}
		}
	}
	if lost := 199_000_000 - paid; lost < fee || lost-fee > 10_000 {
		t.Errorf("the payee got %d, the fee is %d", paid, fee)
	}

	agreement := channel.Agreement{GlobalID: chain.GlobalID(), Channel: at, Total: 300_000_000, Head: [32]byte{7}}.Sign(clientKey)
	for name, c := range map[string]*TON{"no wallet": poor, "a stranger's wallet": foreign} {
		if err := c.CloseTogether(ctx, &agreement); !errors.Is(err, ErrNoWallet) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// What the contract refuses does not count as closed.
	forged := agreement
	forged.Signature[0] ^= 1
	short, done := context.WithTimeout(ctx, time.Second)
	defer done()
	if err := rich.CloseTogether(short, &forged); err == nil {
		t.Fatal("a forged agreement closed the channel")
	}
	before, err := payer.Balance(ctx, api)
	if err != nil {
		t.Fatal(err)
	}
	if err := rich.CloseTogether(ctx, &agreement); err != nil {
		t.Fatal(err)
	}
	on := until("closed", func(*OnChain) bool { return true })
	if on.Paid != 300_000_000 || on.Head != agreement.Head || on.Balance > channel.Reserve || on.Time.Before(time.Unix(int64(on.CloseAt), 0)) {
		t.Errorf("%+v", on)
	}
	for {
		after, err := payer.Balance(ctx, api)
		if err != nil {
			t.Fatal(err)
		}
		if after-before > 2*gram-300_000_000-50_000_000 && after > before {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the rest did not come back: %s, then %s", before, after)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Processes of a fleet whose wallets are one, on machines of their own, claim at
// once: all are paid, once, and none waits until an order expires.
func TestOneWallet(t *testing.T) {
	const gram, claims, due = 1_000_000_000, 3, 1_000_000
	source := pgtest.Scratch(t)
	ctx, cancel := context.WithTimeout(t.Context(), wallet.TTL)
	defer cancel()
	chain := runDevnet(t)
	payer, err := wallet.New(chain.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	payee, err := wallet.New(chain.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*wallet.Wallet{payer, payee} {
		if err := chain.Fund(w.Address(), 10*gram); err != nil {
			t.Fatal(err)
		}
	}
	var processes []*TON
	for range claims {
		api, err := ton.Dial(ctx, chain.GlobalConfig(), ton.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer api.Close()
		w, err := wallet.FromWords(payee.Words(), chain.GlobalID())
		if err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(ctx, source, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		processes = append(processes, &TON{Client: api, Wallet: w, Turn: l.Turn})
	}
	payeeAt, _ := channel.AddressOf(payee.Address())
	payerAt, _ := channel.AddressOf(payer.Address())
	var open []channel.Address
	for n := range claims {
		p := channel.Params{Payee: payeeAt, Client: payerAt, ClientKey: [32]byte(clientKey.Public().(ed25519.PublicKey)),
			CloseDelay: 3600, ExpiresAt: uint32(chain.Now().Add(30 * 24 * time.Hour).Unix()), Salt: uint64(n)}
		at := p.Address()
		if _, err := payer.Send(ctx, processes[n].Client, wallet.Message{To: at.Std(), Amount: gram, Init: channel.Open(p, gram).StateInit}); err != nil {
			t.Fatal(err)
		}
		open = append(open, at)
	}
	paid := func(n int, want uint64) {
		t.Helper()
		for {
			on, err := processes[n].Channel(ctx, open[n])
			if err == nil && on.Paid == want {
				return
			} else if ctx.Err() != nil {
				t.Fatalf("%+v, %v, want %d paid", on, err, want)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for n := range claims {
		paid(n, 0)
	}
	for total := uint64(due); total <= 2*due; total += due { // the wallet's first order deploys it
		var all sync.WaitGroup
		for n, process := range processes {
			v := channel.Voucher{GlobalID: chain.GlobalID(), Channel: open[n], Total: total}.Sign(clientKey)
			all.Go(func() {
				if _, err := process.Claim(ctx, &v); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for n := range claims {
			paid(n, total)
		}
	}
	// What another has claimed meanwhile is not claimed again.
	v := channel.Voucher{GlobalID: chain.GlobalID(), Channel: open[0], Total: 3 * due}.Sign(clientKey)
	var all sync.WaitGroup
	for _, process := range processes {
		all.Go(func() {
			if _, err := process.Claim(ctx, &v); err != nil && !errors.Is(err, ErrTooSmall) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	paid(0, 3*due)
}
