package store_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func sample(salt uint64) store.Channel {
	return store.Channel{Network: -217, Host: "https://host.example", HostKey: bytes.Repeat([]byte{7}, ed25519.PublicKeySize), Deposit: 1_000_000, State: store.StateOpening,
		Params: channel.Params{Payee: channel.Address{1}, Client: channel.Address{2}, ClientKey: [32]byte{3}, CloseDelay: 3600, ExpiresAt: 2_000_000_000, Salt: salt}}
}

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestWhatWasAddedComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a ?%#&.db") // every byte of a path is the file's, not the URL's
	s := open(t, path)
	c := sample(1<<63 + 5)
	if err := s.Add(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), c); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same channel again: %v", err)
	}
	a := c.Address()
	if err := errors.Join(s.SetState(t.Context(), a, store.StateOpen), s.SetDeposit(t.Context(), a, 5_000_000, 7), s.Close()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("file: %v %v", info, err)
	}
	s = open(t, path)
	got, err := s.Channel(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	c.State, c.Deposit, c.Created = store.StateOpen, 5_000_000, noon
	if !got.Created.Equal(noon) || got.Params != c.Params || got.State != c.State || got.Deposit != c.Deposit || got.Host != c.Host || !got.HostKey.Equal(c.HostKey) || got.Network != c.Network {
		t.Fatalf("got %+v\nwant %+v", got, c)
	}
	if _, err := s.Channel(t.Context(), channel.Address{9}); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("unknown channel: %v", err)
	}
	if err := s.SetState(t.Context(), channel.Address{9}, store.StateOpen); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("unknown channel: %v", err)
	}
}

// Of two processes that read a deposit from the chain the later reading counts, whoever records it last.
func TestDepositInOrder(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "client.db"))
	c := sample(1)
	a := c.Address()
	if err := s.Add(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct{ nano, lt, want uint64 }{{10, 5, 10}, {30, 7, 30}, {20, 6, 30}, {29, 7, 29}, {3, 8, 3}} {
		if err := s.SetDeposit(t.Context(), a, at.nano, at.lt); err != nil {
			t.Fatal(err)
		}
		if c, err := s.Channel(t.Context(), a); err != nil || c.Deposit != at.want {
			t.Errorf("%d at %d: %d is recorded, want %d, %v", at.nano, at.lt, c.Deposit, at.want, err)
		}
	}
	for name, err := range map[string]error{
		"unknown": s.SetDeposit(t.Context(), channel.Address{9}, 1, 9),
		"deposit": s.SetDeposit(t.Context(), a, 1<<63, 9),
		"time":    s.SetDeposit(t.Context(), a, 1, 1<<63),
	} {
		if err == nil || name == "unknown" && !errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The host of a channel is named once: nothing leads its money to another one later.
func TestHostIsNamedOnce(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "client.db"))
	known, found := sample(1), sample(2)
	found.Host, found.HostKey = "", make(ed25519.PublicKey, ed25519.PublicKeySize)
	if err := errors.Join(s.Add(t.Context(), known), s.Add(t.Context(), found)); err != nil {
		t.Fatal(err)
	}
	key := ed25519.PublicKey(bytes.Repeat([]byte{7}, ed25519.PublicKeySize))
	if err := s.SetHost(t.Context(), known.Address(), "https://other", key); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("a channel with a host: %v", err)
	}
	if err := s.SetHost(t.Context(), found.Address(), "https://other", key[:31]); err == nil {
		t.Fatal("a short key")
	}
	if err := s.SetHost(t.Context(), found.Address(), "https://other", key); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Channel(t.Context(), found.Address()); err != nil || c.Host != "https://other" || !c.HostKey.Equal(key) {
		t.Fatalf("%+v %v", c, err)
	}
	if c, err := s.Channel(t.Context(), known.Address()); err != nil || c.Host != known.Host || !c.HostKey.Equal(known.HostKey) {
		t.Fatalf("%+v %v", c, err)
	}
}

func TestOnlyWhatNeverOpenedIsForgotten(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "client.db"))
	c, d := sample(1), sample(2)
	d.State = store.StateOpen
	if err := errors.Join(s.Add(t.Context(), c), s.Add(t.Context(), d)); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), d.Address()); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("an open channel: %v", err)
	}
	if err := s.Forget(t.Context(), c.Address()); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Channels(t.Context()); err != nil || len(all) != 1 || all[0].Address() != d.Address() {
		t.Fatalf("%v %v", all, err)
	}
}

func TestSavesAreOrderedAndFlushedOnClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.db")
	s := open(t, path)
	c := sample(1)
	if err := s.Add(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	save := s.Save(c.Address())
	var p client.PaymentState
	const n = 500
	for i := range n {
		p.Signed += 3
		save(p, "")
		r := fmt.Sprint("receipt ", i)
		p.Settled += 2
		p.Head = receipt.NextHead(p.Head, r)
		save(p, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	save(client.PaymentState{Signed: 1 << 40}, "after the end")

	s = open(t, path)
	got, err := s.Channel(t.Context(), c.Address())
	if err != nil || got.Progress != p {
		t.Fatalf("progress %+v, want %+v (%v)", got.Progress, p, err)
	}
	receipts, err := s.Receipts(t.Context(), c.Address())
	if err != nil || len(receipts) != n {
		t.Fatalf("%d receipts, want %d (%v)", len(receipts), n, err)
	}
	var head [32]byte
	for i, r := range receipts {
		if head = receipt.NextHead(head, r.Serialized); r.Serialized != fmt.Sprint("receipt ", i) || r.Head != head {
			t.Fatalf("receipt %d: %+v is not the next link of the chain", i, r)
		}
	}
}

func TestSignaturesAreNotTakenBack(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "client.db"))
	c := sample(1)
	if err := s.Add(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	save := s.Save(c.Address())
	save(client.PaymentState{Signed: 10, Settled: 8}, "r")
	save(client.PaymentState{Signed: 9, Settled: 7}, "r")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Channel(t.Context(), c.Address()); err != nil || got.Progress.Signed != 10 || got.Progress.Settled != 7 {
		t.Fatalf("%+v %v", got.Progress, err)
	}
}

func TestFailureIsToldAndSticks(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "client.db"))
	s.Save(channel.Address{9})(client.PaymentState{Signed: 1}, "")
	if err := s.Flush(); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("flush: %v", err)
	}
	<-s.Failed()
	if err := s.Close(); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("close: %v", err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	for _, change := range []string{"salt = '0000000000000009'", "payee = 'x'", "close_delay = 60", "expires_at = 1", "client_key = replace(client_key, '0', 'z')"} {
		path := filepath.Join(t.TempDir(), "client.db")
		s := open(t, path)
		if err := s.Add(t.Context(), sample(1)); err != nil {
			t.Fatal(err)
		}
		store.Exec(t, s, "UPDATE channels SET "+change)
		if got, err := s.Channels(t.Context()); err == nil {
			t.Errorf("%s: read as %+v", change, got)
		}
	}
}

func TestOneProcessPerChannel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.db")
	a, b := open(t, path), open(t, path)
	release, err := a.Acquire(channel.Address{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Acquire(channel.Address{1}); !errors.Is(err, store.ErrBusy) {
		t.Fatalf("a second holder: %v", err)
	}
	other, err := b.Acquire(channel.Address{2})
	if err != nil {
		t.Fatal(err)
	}
	other()
	release()
	if release, err = b.Acquire(channel.Address{1}); err != nil {
		t.Fatal(err)
	}
	release()
}

// TestKilled kills a process that saves as fast as it can: what is on disk is a whole prefix of it.
func TestKilled(t *testing.T) {
	if path := os.Getenv("BOMBYX_STORE_KILLED"); path != "" {
		saveForever(path)
	}
	for round := range 5 {
		path := filepath.Join(t.TempDir(), "client.db")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "BOMBYX_STORE_KILLED="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It says one byte for each flush; kill it a little later each round.
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for range round * 7 {
			out.Read(make([]byte, 1))
		}
		cmd.Process.Kill()
		cmd.Wait()
		cancel()

		s := open(t, path)
		c := sample(1)
		got, err := s.Channel(t.Context(), c.Address())
		if err != nil {
			t.Fatal(err)
		}
		receipts, err := s.Receipts(t.Context(), c.Address())
		if err != nil || len(receipts) == 0 {
			t.Fatalf("%d receipts (%v)", len(receipts), err)
		}
		var head [32]byte
		for i, r := range receipts {
			if head = receipt.NextHead(head, r.Serialized); r.Head != head || r.Serialized != strings.Repeat("x", i%100+1) {
				t.Fatalf("receipt %d breaks the chain", i)
			}
		}
		if got.Progress.Head != head || got.Progress.Settled != uint64(len(receipts)) {
			t.Fatalf("%d receipts, yet progress is %+v", len(receipts), got.Progress)
		}
	}
}

func saveForever(path string) {
	s, err := store.Open(context.Background(), path, time.Now)
	if err != nil {
		panic(err)
	}
	c := sample(1)
	if err := s.Add(context.Background(), c); err != nil {
		panic(err)
	}
	save := s.Save(c.Address())
	var p client.PaymentState
	for i := 0; ; i++ {
		r := strings.Repeat("x", i%100+1)
		p.Signed, p.Settled, p.Head = p.Signed+2, p.Settled+1, receipt.NextHead(p.Head, r)
		save(p, r)
		if i%10 == 0 {
			if err := s.Flush(); err != nil {
				panic(err)
			}
			os.Stdout.Write([]byte("."))
		}
	}
}
