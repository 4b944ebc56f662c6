package channel

import (
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
	"github.com/xssnick/tonutils-go/tlb"
)

// The life of a channel as its parties live it: wallets, liteserver, proofs, blocks.
func TestOnDevnet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	chain, err := devnet.New(devnet.Config{SealOnSend: true})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if _, err = chain.Serve(ctx, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	api, err := ton.Dial(ctx, chain.GlobalConfig(), ton.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()

	newWallet := func(nano uint64) (*wallet.Wallet, Address) {
		w, err := wallet.New(chain.GlobalID())
		if err != nil {
			t.Fatal(err)
		}
		a, err := AddressOf(w.Address())
		if err != nil {
			t.Fatal(err)
		}
		if nano > 0 {
			if err = chain.Fund(w.Address(), nano); err != nil {
				t.Fatal(err)
			}
		}
		return w, a
	}
	payer, payerAt := newWallet(10 * gram)
	host, hostAt := newWallet(0) // not a nanogram for gas
	p := Params{
		Payee: hostAt, Client: payerAt, ClientKey: [32]byte(clientKey.Public().(ed25519.PublicKey)),
		CloseDelay: 3600, ExpiresAt: uint32(chain.Now().Add(30 * 24 * time.Hour).Unix()),
	}
	at := p.Address()
	send := func(w *wallet.Wallet, m *tlb.InternalMessage) {
		t.Helper()
		msg := wallet.Message{To: m.DstAddr, Amount: ton.Nano(m.Amount.Nano().Uint64()), Bounce: m.Bounce, Body: m.Body, Init: m.StateInit}
		if _, err := w.Send(ctx, api, msg); err != nil {
			t.Fatal(err)
		}
	}
	load := func() *Account {
		t.Helper()
		// messages between accounts may take another block
		if err := chain.Seal(); err != nil {
			t.Fatal(err)
		}
		acc, err := Load(ctx, api, at)
		if err != nil {
			t.Fatal(err)
		}
		return acc
	}
	balance := func(w *wallet.Wallet) uint64 {
		t.Helper()
		n, err := w.Balance(ctx, api)
		if err != nil {
			t.Fatal(err)
		}
		return uint64(n)
	}

	send(payer, Open(p, 3*gram))
	if on := load(); on.Paid != 0 || on.Closing() || on.Params != p || on.Balance < 3*gram-1_000_000 {
		t.Fatalf("opened: %+v", on)
	}

	v := Voucher{GlobalID: chain.GlobalID(), Channel: at, Total: gram, Head: named("head")}.Sign(clientKey)
	external, err := tlb.ToCell(ClaimExternal(&v))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = api.SendExternal(ctx, external.ToBOC(), chain.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if on := load(); on.Paid != gram || on.Head != named("head") {
		t.Fatalf("claimed: %+v", on)
	}
	if got := balance(host); got < gram-2_600_000 || got > gram {
		t.Fatalf("the host, who had nothing, has %d", got)
	}
	if _, err = api.SendExternal(ctx, external.ToBOC(), chain.Now().Add(time.Minute)); err != nil {
		t.Logf("claimed again: %v", err) // found, or refused; in no case paid again
	}

	send(payer, CloseStart(at, GasValue))
	if on := load(); !on.Closing() || on.CloseAt <= uint32(chain.Now().Unix()) {
		t.Fatalf("closing: %+v", on)
	}
	last := Voucher{GlobalID: chain.GlobalID(), Channel: at, Total: gram * 3 / 2, Head: named("last")}.Sign(clientKey)
	send(host, Claim(&last, GasValue))
	if on := load(); on.Paid != gram*3/2 {
		t.Fatalf("last claim: %+v", on)
	}
	if err = chain.Advance(time.Hour + time.Second); err != nil {
		t.Fatal(err)
	}
	send(payer, CloseFinish(at, GasValue))
	if on := load(); on.Balance != 0 || on.Paid != gram*3/2 {
		t.Fatalf("finished: %+v", on)
	}
	paid, kept := balance(host), balance(payer)
	if paid > gram*3/2 || paid < gram*3/2-20_000_000 || kept < 10*gram-gram*3/2-40_000_000 {
		t.Fatalf("in the end the host has %d, the client %d of %d", paid, kept, uint64(10*gram))
	}
}
