package ton_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

var someone = address.NewAddress(0, 0, []byte("0123456789abcdef0123456789abcdef"))

// read makes a call of every kind.
func read(ctx context.Context, chain *devnet.Chain, c ton.Chain) map[string]error {
	out := map[string]error{}
	_, out["head"] = c.MasterchainHead(ctx)
	_, out["account"] = c.Account(ctx, someone)
	_, out["method"] = c.RunGetMethod(ctx, chain.Giver(), "seqno")
	_, out["transactions"] = c.Transactions(ctx, someone, 0)
	return out
}

// Each lie makes the calls that depend on it fail when there is no one else to
// ask, and costs nothing when there is.
func TestLyingLiteserver(t *testing.T) {
	for _, v := range []struct {
		lie   devnet.Lie
		fails []string
		why   string
	}{
		{devnet.LieBalance, []string{"account", "method", "transactions"}, "not the one that the proof shows"},
		{devnet.LieAbsent, []string{"account", "method", "transactions"}, "does not show the account"},
		{devnet.LieHead, []string{"head", "account", "method", "transactions"}, "incorrect signature"},
		{devnet.LieStale, []string{"head", "account", "method", "transactions"}, "old"},
		{devnet.LieResult, nil, ""},
		{devnet.LieHistory, []string{"transactions"}, ""},
		{devnet.LieConfig, []string{"method"}, "proof"},
		{devnet.LieKeyless, []string{"head", "account", "method", "transactions"}, "malformed answer"},
		{devnet.LieNumber, []string{"head", "account", "method", "transactions"}, "number"},
	} {
		t.Run(string(v.lie), func(t *testing.T) {
			chain, servers, c := start(t, 2)
			for range 2 {
				if err := chain.Fund(someone, 1000); err != nil {
					t.Fatal(err)
				}
				if _, err := c.MasterchainHead(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			opts := fast
			opts.Now = chain.Now
			if v.lie == devnet.LieStale {
				if err := chain.Advance(time.Hour); err != nil {
					t.Fatal(err)
				}
			} else if err := chain.Fund(someone, 1000); err != nil { // a newest block to lie about
				t.Fatal(err)
			}
			c2, err := ton.Dial(t.Context(), chain.GlobalConfig(), opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c2.Close)
			if err := chain.Fund(someone, 1000); err != nil {
				t.Fatal(err)
			}
			set := func(f ...devnet.Faults) {
				for i, f := range f {
					if err := servers[i].SetFaults(f); err != nil {
						t.Fatal(err)
					}
				}
			}
			lie := devnet.Faults{Lie: v.lie}
			set(lie, lie)
			for call, err := range read(t.Context(), chain, c2) {
				want := strings.Contains(" "+strings.Join(v.fails, " ")+" ", " "+call+" ")
				if (err != nil) != want {
					t.Errorf("%s: %v, want failure: %v", call, err, want)
				}
				if want && (!errors.Is(err, ton.ErrUnreachable) || !strings.Contains(err.Error(), v.why)) {
					t.Errorf("%s: %v, want the reason %q", call, err, v.why)
				}
			}
			for _, f := range [][]devnet.Faults{{lie, {}}, {{}, lie}} {
				set(f...)
				for call, err := range read(t.Context(), chain, c2) {
					if err != nil {
						t.Errorf("one honest liteserver of two: %s: %v", call, err)
					}
				}
			}
		})
	}
}

// Who answers first does not decide what the others must prove from: a true block under a false number is none that they know.
func TestFirstLiteserverDoesNotCapture(t *testing.T) {
	chain, servers, _ := start(t, 2)
	if err := chain.Fund(someone, 1000); err != nil {
		t.Fatal(err)
	}
	if err := servers[0].SetFaults(devnet.Faults{Lie: devnet.LieNumber}); err != nil {
		t.Fatal(err)
	}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), fast)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := servers[0].SetFaults(devnet.Faults{Dead: true}); err != nil {
		t.Fatal(err)
	}
	if h, err := c.MasterchainHead(t.Context()); err != nil || h.Seqno != chain.Status().Seqno {
		t.Fatalf("block %d, %v; the chain has %d", h.Seqno, err, chain.Status().Seqno)
	}
}

// A liteserver that lags behind, as little as is tolerated, does not hide a block that another one has.
func TestLaggingLiteserver(t *testing.T) {
	chain, servers, c := start(t, 2)
	if err := chain.Fund(someone, 1000); err != nil {
		t.Fatal(err)
	}
	newest := chain.Status().Seqno
	for i := range servers {
		for j := range servers {
			f := devnet.Faults{}
			if j == i {
				f.Lie = devnet.LieStale
			}
			if err := servers[j].SetFaults(f); err != nil {
				t.Fatal(err)
			}
		}
		if h, err := c.MasterchainBlock(t.Context(), newest); err != nil || h.Seqno != newest {
			t.Errorf("liteserver %d lags: %+v %v", i, h, err)
		}
	}
	if _, err := c.MasterchainBlock(t.Context(), newest+1); err == nil || !strings.Contains(err.Error(), "no masterchain block") {
		t.Error(err)
	}
}

// Results of get methods carry no proof: a client that takes them on trust is
// told anything, ours runs the method itself.
func TestGetMethodResultsAreNotTrusted(t *testing.T) {
	chain, servers, c := start(t, 1)
	if err := servers[0].SetFaults(devnet.Faults{Lie: devnet.LieResult}); err != nil {
		t.Fatal(err)
	}
	var cfg liteclient.GlobalConfig
	if err := json.Unmarshal(chain.GlobalConfig(), &cfg); err != nil {
		t.Fatal(err)
	}
	pool := liteclient.NewConnectionPool()
	pool.SetOnDisconnect(func(string, string) {})
	t.Cleanup(pool.Stop)
	if err := pool.AddConnectionsFromConfig(t.Context(), &cfg); err != nil {
		t.Fatal(err)
	}
	api := tonapi.NewAPIClient(pool, tonapi.ProofCheckPolicySecure)
	api.SetTrustedBlockFromConfig(&cfg)
	head, err := api.GetMasterchainInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told, err := api.RunGetMethod(t.Context(), head, chain.Giver(), "seqno")
	if err != nil || told.MustInt(0).Int64() == 0 {
		t.Fatalf("the library now checks results: %v; use it", err)
	}
	out, err := c.RunGetMethod(t.Context(), chain.Giver(), "seqno")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := ton.Int(out, 0); err != nil || n.Sign() != 0 {
		t.Fatalf("seqno %v %v, want 0", n, err)
	}
}

func TestDeadAndSlowLiteservers(t *testing.T) {
	chain, servers, _ := start(t, 3)
	for i, f := range []devnet.Faults{{Dead: true}, {Delay: time.Hour}} {
		if err := servers[i].SetFaults(f); err != nil {
			t.Fatal(err)
		}
	}
	opts := ton.Options{Timeout: 100 * time.Millisecond}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for call, err := range read(t.Context(), chain, c) {
		if err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
	// now the good one goes away, connections and all
	if err = servers[2].Close(); err != nil {
		t.Fatal(err)
	}
	for call, err := range read(t.Context(), chain, c) {
		if !errors.Is(err, ton.ErrUnreachable) {
			t.Errorf("%s without a liteserver: %v", call, err)
		}
	}
	// and another recovers: the client dials again by itself
	if err = servers[0].SetFaults(devnet.Faults{}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.MasterchainHead(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCanceledCallEnds(t *testing.T) {
	_, servers, c := start(t, 1)
	if err := servers[0].SetFaults(devnet.Faults{Dead: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Account(ctx, someone); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := c.WaitTransaction(ctx, someone, 0, func(*tlb.Transaction) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func funded(t *testing.T, chain *devnet.Chain) *wallet.Wallet {
	t.Helper()
	w, err := wallet.FromWords(phrase, chain.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.Fund(w.Address(), uint64(ton.Gram)); err != nil {
		t.Fatal(err)
	}
	return w
}

// A message that liteservers acknowledge and lose is sent again.
func TestLostExternalIsResent(t *testing.T) {
	chain, servers, c := start(t, 1)
	w := funded(t, chain)
	if err := servers[0].SetFaults(devnet.Faults{DropExternals: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Send(t.Context(), c, wallet.Message{To: someone, Amount: 5}); err != nil {
		t.Fatal(err)
	}
	acc, err := c.Account(t.Context(), someone)
	if err != nil || acc.Balance != 5 {
		t.Fatalf("%v %v", acc.Balance, err)
	}
}

// Sending works when blocks come by the clock, as on a real network.
func TestSendUnderABlockClock(t *testing.T) {
	chain, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w := funded(t, chain)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx, 20*time.Millisecond) }()
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), fast)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for n := range ton.Nano(3) {
		if _, err = w.Send(t.Context(), c, wallet.Message{To: someone, Amount: ton.Gram/100 + n}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err = <-done; err != nil {
		t.Fatal(err)
	}
}

// A message that never arrives ends as expired once the chain is past its
// expiry, and as unconfirmed when the caller gives up before.
func TestExternalThatNeverArrives(t *testing.T) {
	chain, servers, c := start(t, 1)
	w := funded(t, chain)
	if err := servers[0].SetFaults(devnet.Faults{DropExternals: -1}); err != nil {
		t.Fatal(err)
	}
	order, err := w.Sign(t.Context(), c, wallet.Message{To: someone, Amount: 5})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err = order.Send(ctx, c); !errors.Is(err, ton.ErrUnconfirmed) {
		t.Fatalf("gave up: %v", err)
	}
	if err = chain.Advance(wallet.TTL + time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err = order.Send(t.Context(), c); !errors.Is(err, ton.ErrExpired) {
		t.Fatalf("expired: %v", err)
	}
}

// An order that another one of the same wallet overtook, as a phone with the same words sends it, ends at once, whether it was
// overtaken before it was sent or while liteservers lost it, and before its wallet was deployed or after.
func TestOrderOvertaken(t *testing.T) {
	chain, servers, c := start(t, 1)
	w := funded(t, chain)
	for n, lost := range []bool{false, true, false, true} {
		mine, err := w.Sign(t.Context(), c, wallet.Message{To: someone, Amount: 5})
		if err != nil {
			t.Fatal(err)
		}
		phone, err := w.Sign(t.Context(), c, wallet.Message{To: someone, Amount: 7})
		if err != nil || phone.Seqno != mine.Seqno {
			t.Fatal(phone.Seqno, mine.Seqno, err)
		}
		var once sync.Once
		overtake := func() {
			once.Do(func() {
				if err := chain.Send(phone.BOC); err != nil {
					t.Error(err)
				}
			})
		}
		faults := devnet.Faults{}
		if lost {
			faults.DropExternals = -1
			servers[0].Watch(func(q tl.Serializable) {
				if _, ok := q.(tonapi.SendMessage); ok {
					overtake()
				}
			})
		} else {
			servers[0].Watch(nil)
			overtake()
		}
		if err := servers[0].SetFaults(faults); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		tx, err := mine.Send(ctx, c)
		cancel()
		if tx != nil || !errors.Is(err, ton.ErrOvertaken) {
			t.Fatalf("%d: %v, %v", n, tx, err)
		}
		if tx, err = phone.Send(t.Context(), c); err != nil || tx == nil { // it is said of no order that took effect
			t.Fatalf("%d: the other: %v", n, err)
		}
		if got, err := c.Transactions(t.Context(), someone, 0); err != nil || len(got) != n+1 {
			t.Fatalf("%d: %d payments arrived, %v", n, len(got), err)
		}
	}
}

// A message that took effect is not said to have expired because a liteserver acknowledges it once more.
func TestSentAgainAfterItsEffect(t *testing.T) {
	chain, servers, c := start(t, 1)
	w := funded(t, chain)
	order, err := w.Sign(t.Context(), c, wallet.Message{To: someone, Amount: 5})
	if err != nil {
		t.Fatal(err)
	}
	first, err := order.Send(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := servers[0].SetFaults(devnet.Faults{DropExternals: -1}); err != nil {
		t.Fatal(err)
	}
	if err = chain.Advance(wallet.TTL + time.Minute); err != nil {
		t.Fatal(err)
	}
	if again, err := order.Send(t.Context(), c); err != nil || string(again.Hash) != string(first.Hash) {
		t.Fatalf("%v", err)
	}
}

// When every liteserver goes away in the middle, sending ends, and does not say more than is known.
func TestSendEndsWithoutLiteservers(t *testing.T) {
	chain, servers, _ := start(t, 1)
	var late atomic.Bool
	now := chain.Now()
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), ton.Options{Resend: 50 * time.Millisecond, Now: func() time.Time {
		if late.Load() {
			return now.Add(wallet.TTL + 10*time.Minute)
		}
		return now
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := funded(t, chain)
	if err := servers[0].SetFaults(devnet.Faults{DropExternals: -1}); err != nil {
		t.Fatal(err)
	}
	servers[0].Watch(func(q tl.Serializable) {
		if _, ok := q.(tonapi.SendMessage); ok {
			late.Store(true)
			go servers[0].Close()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err = w.Send(ctx, c, wallet.Message{To: someone, Amount: 5}); !errors.Is(err, ton.ErrUnconfirmed) || ctx.Err() != nil {
		t.Fatalf("%v, %v", err, ctx.Err())
	}
}

func TestSendExternalRefusesWhatIsNone(t *testing.T) {
	chain, _, c := start(t, 1)
	internal, err := tlb.ToCell(&tlb.InternalMessage{IHRDisabled: true, SrcAddr: someone, DstAddr: someone})
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := tlb.ToCell(&tlb.ExternalMessage{DstAddr: someone})
	if err != nil {
		t.Fatal(err)
	}
	for name, boc := range map[string][]byte{"bytes": []byte("hello"), "empty": nil, "internal": internal.ToBOC()} {
		if _, err := c.SendExternal(t.Context(), boc, chain.Now()); err == nil || errors.Is(err, ton.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err = c.SendExternal(t.Context(), nobody.ToBOC(), chain.Now()); !errors.Is(err, ton.ErrRefused) {
		t.Errorf("to no contract: %v", err)
	}
}

func TestWaitTransaction(t *testing.T) {
	chain, _, c := start(t, 1)
	got := make(chan error, 1)
	go func() {
		_, err := c.WaitTransaction(t.Context(), someone, 0, func(tx *tlb.Transaction) bool {
			return tx.IO.In.AsInternal().Amount.Nano().Uint64() == 2
		})
		got <- err
	}()
	for n := range uint64(3) {
		if err := chain.Fund(someone, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// phrase is of no worth: it was made for tests.
const phrase = "visa borrow club split benefit much arrest rich number initial farm code exchange lazy unaware dragon time rack language luggage lab live either soap"

// What a simulation says a message will cost is what it costs.
func TestSimulate(t *testing.T) {
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	chain, err := devnet.New(devnet.Config{SealOnSend: true, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), ton.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := funded(t, chain)
	for i := range 2 { // with deployment, and without
		before, err := w.Balance(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		order, err := w.Sign(t.Context(), c, wallet.Message{To: someone, Amount: 5}, wallet.Message{To: someone, Amount: 6})
		if err != nil {
			t.Fatal(err)
		}
		sim, err := c.Simulate(t.Context(), order.BOC)
		if err != nil || sim.Messages != 2 || sim.Sent != 11 || sim.Fees == 0 {
			t.Fatalf("%d: %+v %v", i, sim, err)
		}
		if again, err := w.Balance(t.Context(), c); err != nil || again != before {
			t.Fatalf("%d: simulating cost %s, %v", i, before-again, err)
		}
		if _, err = order.Send(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		after, err := w.Balance(t.Context(), c)
		if err != nil || before-after != sim.Fees+sim.Sent {
			t.Fatalf("%d: cost %s, simulated %s + %s, %v", i, before-after, sim.Fees, sim.Sent, err)
		}
		if _, err = c.Simulate(t.Context(), order.BOC); !errors.Is(err, ton.ErrRefused) {
			t.Fatalf("%d: a spent order: %v", i, err)
		}
	}
	if _, err = c.Simulate(t.Context(), []byte("hello")); err == nil {
		t.Fatal("simulated bytes")
	}
}
