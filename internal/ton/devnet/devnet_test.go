package devnet_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"

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
	chain, _ := start(t, devnet.Config{SealOnSend: true})
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
