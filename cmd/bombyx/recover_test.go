package main

import (
	"slices"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// Nobody can bury a wallet's channels under transfers of nothing.
func TestRecoverLooksPastDust(t *testing.T) {
	chain, err := devnet.New(devnet.Config{SealOnSend: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), ton.Options{Resend: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w, err := wallet.New(chain.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.Fund(w.Address(), uint64(ton.Gram)); err != nil {
		t.Fatal(err)
	}
	want := channel.Address{1}
	if _, err = w.Send(t.Context(), c, wallet.Message{To: want.Std(), Amount: 1}); err != nil {
		t.Fatal(err)
	}
	for range 1001 {
		if err = chain.Fund(w.Address(), 1); err != nil {
			t.Fatal(err)
		}
	}
	got, err := (&payer{chain: c, wallet: w}).candidates(t.Context(), nil)
	if err != nil || !slices.Contains(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
}
