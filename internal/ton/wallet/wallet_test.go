package wallet

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/internal/filelock"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func TestMain(m *testing.M) {
	workFactor = 2 // the file format is under test, not scrypt's cost
	os.Exit(m.Run())
}

// phrase was made by @ton/crypto 3.3.0; the key and the addresses are what
// @ton/crypto and @ton/ton's WalletContractV5R1 derive from it.
const phrase = "visa borrow club split benefit much arrest rich number initial farm code exchange lazy unaware dragon time rack language luggage lab live either soap"

func TestKnownAddresses(t *testing.T) {
	for _, v := range []struct {
		id   int32
		want string
	}{
		{-239, "UQB-KzH7iTTeHwvg61qEAPnulm99PeEUL3vmPtXW_D1lKYER"},
		{-3, "0QA5--VWEa0xet5a-5iD9iClEjA2nJWuFwuaN256nTf9zp7V"},
		{-217, "UQBg6YIMvnTTs-NgJbE9AMVcGLbt23b56puEeo3hp6Jxequ9"},
	} {
		w, err := FromWords(phrase, v.id)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Address().String(); got != v.want {
			t.Errorf("network %d: %s, want %s", v.id, got, v.want)
		}
	}
}

func TestLink(t *testing.T) {
	w, err := FromWords(phrase, -239)
	if err != nil {
		t.Fatal(err)
	}
	const addr = "ton://transfer/UQB-KzH7iTTeHwvg61qEAPnulm99PeEUL3vmPtXW_D1lKYER"
	if w.Link(0) != addr || w.Link(ton.Gram/2) != addr+"?amount=500000000" {
		t.Fatal(w.Link(0), w.Link(ton.Gram/2))
	}
}

func TestWordsRefused(t *testing.T) {
	words := strings.Fields(phrase)
	swapped := append([]string{words[1], words[0]}, words[2:]...)
	bip39 := strings.Repeat("abandon ", 23) + "art"
	for name, bad := range map[string]string{
		"empty": "", "twelve": strings.Join(words[:12], " "), "twenty-five": phrase + " soap",
		"unknown word": strings.Replace(phrase, "club", "klub", 1), "order": strings.Join(swapped, " "), "BIP-39": bip39,
	} {
		_, err := FromWords(bad, -217)
		if !errors.Is(err, ErrWords) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range strings.Fields(bad) {
			if len(w) > 4 && strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error quotes %q", name, w)
			}
		}
	}
	if w, err := FromWords("  "+strings.ToUpper(strings.ReplaceAll(phrase, " ", "\n\t"))+" ", -217); err != nil || w.Words() != phrase {
		t.Errorf("spaces and case: %v", err)
	}
}

func TestFreshWalletsDiffer(t *testing.T) {
	a, err := New(-217)
	if err != nil {
		t.Fatal(err)
	}
	b, err := FromWords(a.Words(), -217)
	if err != nil || !a.Address().Equals(b.Address()) {
		t.Fatalf("words do not bring the wallet back: %v", err)
	}
	c, err := New(-217)
	if err != nil || c.Address().Equals(a.Address()) {
		t.Fatalf("two new wallets are one: %v", err)
	}
}

func TestFile(t *testing.T) {
	w, err := FromWords(phrase, -217)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "wallet.age")
	if err = w.Save(path, ""); err == nil {
		t.Fatal("saved without a passphrase")
	}
	if err = w.Save(path, "correct horse"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	if err = w.Save(path, "other"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("replaced a wallet file: %v", err)
	}
	got, err := Load(path, "correct horse")
	if err != nil || got.Words() != phrase || got.GlobalID() != -217 {
		t.Fatalf("%v", err)
	}
	if _, err = Load(path, "wrong horse"); !errors.Is(err, ErrPassphrase) {
		t.Fatalf("wrong passphrase: %v", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("visa")) {
		t.Fatal("the words are in the file in clear")
	}
	// every changed byte of the armored text is noticed
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if opened, err := Open(bad, "correct horse"); err == nil && opened.Words() != phrase {
			t.Fatalf("byte %d changed the wallet", i)
		} else if err != nil && !errors.Is(err, ErrFile) && !errors.Is(err, ErrPassphrase) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "text": []byte("hello"), "cut": raw[:len(raw)/2], "large": make([]byte, maxFile+1)} {
		if _, err := Open(bad, "correct horse"); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got.Wipe()
	if strings.Contains(got.Words(), "visa") {
		t.Fatal("words survive Wipe")
	}
}

// A file that would take minutes and gigabytes to open is refused at once.
func TestFileWorkFactorIsBounded(t *testing.T) {
	w, err := FromWords(phrase, -217)
	if err != nil {
		t.Fatal(err)
	}
	saved := workFactor
	workFactor = 2
	sealed, err := w.Seal("x")
	workFactor = saved
	if err != nil {
		t.Fatal(err)
	}
	plain := dearmor(t, sealed)
	i := bytes.Index(plain, []byte(" 2\n"))
	if i < 0 {
		t.Fatal("no work factor in the header")
	}
	big := append(append(bytes.Clone(plain[:i]), " 25\n"...), plain[i+3:]...)
	if _, err = Open(rearmor(t, big), "x"); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "work factor") {
		t.Fatalf("%v", err)
	}
}

// start is a devnet whose clock stands still, so that storage costs nothing.
func start(t *testing.T) (*devnet.Chain, *ton.Client) {
	t.Helper()
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	chain, err := devnet.New(devnet.Config{SealOnSend: true, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), ton.Options{Resend: 50 * time.Millisecond, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return chain, c
}

func TestSend(t *testing.T) {
	chain, c := start(t)
	w, err := FromWords(phrase, c.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	to := address.NewAddress(0, 0, bytes.Repeat([]byte{7}, 32))
	if n, err := w.Balance(t.Context(), c); err != nil || n != 0 {
		t.Fatalf("%v %v", n, err)
	}
	pay := func(n ton.Nano) Message { return Message{To: to, Amount: n} }
	if _, err = w.Send(t.Context(), c, pay(1)); !errors.Is(err, ErrBalance) {
		t.Fatalf("empty wallet: %v", err)
	}
	if err = chain.Fund(w.Address(), uint64(10*ton.Gram)); err != nil {
		t.Fatal(err)
	}
	comment, err := Comment("thanks")
	if err != nil {
		t.Fatal(err)
	}
	var fees ton.Nano
	for i := range 3 {
		m := pay(ton.Gram / 2)
		m.Body = comment
		tx, err := w.Send(t.Context(), c, m, pay(1))
		if err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
		if tx.IO.In == nil {
			t.Fatal("no inbound message")
		}
		before := 10*ton.Gram - fees - ton.Nano(i)*(ton.Gram/2+1)
		after, err := w.Balance(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		fees += before - after - (ton.Gram/2 + 1)
	}
	got, err := c.Account(t.Context(), to)
	if err != nil || got.Balance != 3*(ton.Gram/2+1) {
		t.Fatalf("receiver holds %s, %v", got.Balance, err)
	}
	if fees == 0 || fees > 3*2*FeeReserve {
		t.Fatalf("fees %s for 6 messages, reserve %s each", fees, FeeReserve)
	}
	txs, err := c.Transactions(t.Context(), to, 0)
	if err != nil || len(txs) != 6 || txs[0].IO.In.AsInternal().Comment() != "thanks" {
		t.Fatalf("%d transactions, %v", len(txs), err)
	}
}

func TestSendersOfOneFileTakeTurns(t *testing.T) {
	chain, c := start(t)
	w, err := FromWords(phrase, c.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.Fund(w.Address(), uint64(10*ton.Gram)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "wallet.age")
	if err = os.WriteFile(path, nil, 0o600); err != nil { // its lock is all that counts here
		t.Fatal(err)
	}
	to := address.NewAddress(0, 0, bytes.Repeat([]byte{7}, 32))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			w, err := FromWords(phrase, c.GlobalID())
			if err != nil {
				t.Error(err)
				return
			}
			w.path = path
			for range 3 {
				if _, err := w.Send(t.Context(), c, Message{To: to, Amount: 1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := c.Account(t.Context(), to); err != nil || got.Balance != 12 {
		t.Fatalf("receiver holds %d nanogram, %v", got.Balance, err)
	}

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err = filelock.Try(f); err != nil {
		t.Fatal(err)
	}
	w.path = path
	told := 0
	w.OnWait(func() { told++ })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = w.Send(ctx, c, Message{To: to, Amount: 1}); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing was sent") {
		t.Fatalf("while another sends: %v", err)
	}
	if told != 1 {
		t.Fatalf("told %d times that it waits", told)
	}
}

func TestSendRefused(t *testing.T) {
	chain, c := start(t)
	w, err := FromWords(phrase, c.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.Fund(w.Address(), uint64(ton.Gram)); err != nil {
		t.Fatal(err)
	}
	self := Message{To: w.Address(), Amount: 1}
	foreign, err := FromWords(w.Words(), -239)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = foreign.Send(t.Context(), c, self); !errors.Is(err, ErrNetwork) {
		t.Errorf("mainnet wallet on the devnet: %v", err)
	}
	if _, err = foreign.Balance(t.Context(), c); !errors.Is(err, ErrNetwork) {
		t.Errorf("mainnet balance on the devnet: %v", err)
	}
	testnet := w.Address()
	testnet.SetTestnetOnly(true)
	for name, msgs := range map[string][]Message{
		"none": nil, "too many": make([]Message, MaxMessages+1), "no receiver": {{Amount: 1}},
		"testnet receiver": {{To: testnet, Amount: 1}}, "overflow": {{To: w.Address(), Amount: ton.Nano(1<<64 - 1)}},
	} {
		if _, err := w.Send(t.Context(), c, msgs...); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
	if _, err = w.Send(t.Context(), c, Message{To: w.Address(), Amount: ton.Gram}); !errors.Is(err, ErrBalance) {
		t.Errorf("no room for fees: %v", err)
	}
	// the contract skips what the network cannot deliver, and says nothing
	if _, err = w.Send(t.Context(), c, self, Message{To: address.NewAddress(0, 7, make([]byte, 32)), Amount: 1}); !errors.Is(err, ErrNotSent) {
		t.Errorf("no such workchain: %v", err)
	}
}

// An order is spent once, however often it is sent.
func TestOrderIsSpentOnce(t *testing.T) {
	chain, c := start(t)
	w, err := FromWords(phrase, c.GlobalID())
	if err != nil {
		t.Fatal(err)
	}
	to := address.NewAddress(0, 0, bytes.Repeat([]byte{7}, 32))
	if err = chain.Fund(w.Address(), uint64(ton.Gram)); err != nil {
		t.Fatal(err)
	}
	order, err := w.Sign(t.Context(), c, Message{To: to, Amount: 5})
	if err != nil {
		t.Fatal(err)
	}
	first, err := order.Send(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := order.Send(t.Context(), c) // as after a crash
	if err != nil || !bytes.Equal(again.Hash, first.Hash) {
		t.Fatalf("sent again: %v", err)
	}
	acc, err := c.Account(t.Context(), to)
	if err != nil || acc.Balance != 5 {
		t.Fatalf("receiver holds %v, %v", acc.Balance, err)
	}
	// signed, then too late
	late, err := w.Sign(t.Context(), c, Message{To: to, Amount: 5})
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.Advance(TTL + time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err = late.Send(t.Context(), c); !errors.Is(err, ton.ErrRefused) {
		t.Fatalf("expired order: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	w, err := FromWords(phrase, -217)
	if err != nil {
		f.Fatal(err)
	}
	workFactor = 1
	sealed, err := w.Seal("x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decrypt(b, "x"); err == nil && got.Words != phrase {
			t.Fatal("another wallet came out")
		}
	})
}

func FuzzFromWords(f *testing.F) {
	f.Add("abandon abandon")
	f.Add(strings.Repeat("abandonn ", wordCount))
	f.Fuzz(func(t *testing.T, s string) {
		w, err := FromWords(s, -217)
		if err == nil && len(strings.Fields(w.Words())) != wordCount {
			t.Fatal("a wallet of another number of words")
		}
	})
}
