package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bombyx-network/bombyx/internal/pgtest"
	"github.com/bombyx-network/bombyx/internal/sqlite"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// held takes a channel and says what it had spent.
func held(t *testing.T, l *Ledger, address string, spent uint64) {
	t.Helper()
	c, err := l.Hold(t.Context(), address)
	must(t, err)
	if c.Address != address || c.Spent != spent || !c.Key.Equal(key) {
		t.Errorf("%+v, want %d spent", c, spent)
	}
	must(t, l.Holds(t.Context(), address))
}

func refused(t *testing.T, l *Ledger, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		if c, err := l.Hold(t.Context(), address); !errors.Is(err, ErrHeld) || c != nil {
			t.Errorf("%s: %+v, %v", address, c, err)
		}
		if err := l.Holds(t.Context(), address); !errors.Is(err, ErrHeld) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// One process of a fleet serves a channel.
func TestHold(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		a, b := open(t, source, "e", "f"), open(t, source, "g")
		for _, address := range []string{"0:a", "0:b"} {
			must(t, a.AddChannel(ctx, address, key))
		}
		held(t, a, "0:a", 0)
		held(t, a, "0:a", 0)
		refused(t, b, "0:a")
		held(t, b, "0:b", 0)
		refused(t, a, "0:b")
		must(t, b.PutVoucher(ctx, "0:a", 7, []byte{7})) // what the client has signed counts wherever it comes
		must(t, a.Book(ctx, Tab{"0:a", "e", "t", 5}))
		must(t, b.Release(ctx, "0:a"))
		refused(t, b, "0:a")
		must(t, a.Release(ctx, "0:a", "0:b"))
		refused(t, a, "0:b")
		if err := a.Holds(ctx, "0:a"); !errors.Is(err, ErrHeld) {
			t.Errorf("released: %v", err)
		}
		held(t, b, "0:a", 5)
		if c, err := b.Hold(ctx, "0:a"); err != nil || c.Authorised != 7 {
			t.Errorf("%+v, %v", c, err)
		}
		if _, err := a.Hold(ctx, "0:c"); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		must(t, b.Release(ctx, "0:a", "0:b"))

		// What a process leaves that is taken over is settled first, by each of
		// those that have its enclaves then.
		held(t, a, "0:a", 5)
		left := func(l *Ledger, want ...string) {
			t.Helper()
			list, err := l.Unsettled(ctx)
			must(t, err)
			var got []string
			for _, c := range list {
				got = append(got, c.Address)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v are unsettled, want %v", got, want)
			}
		}
		first := open(t, source, "e")
		left(first, "0:a")
		refused(t, b, "0:a")
		refused(t, first, "0:a")
		if _, err := a.Hold(ctx, "0:b"); !errors.Is(err, ErrTaken) || a.Lease() != 0 {
			t.Errorf("a process that was taken over: %v, lease %d", err, a.Lease())
		}
		second := open(t, source, "f")
		left(second, "0:a")
		refused(t, b, "0:a")
		refused(t, first, "0:a")
		refused(t, second, "0:a")
		settled := func(l *Ledger, tab Tab, want uint64) {
			t.Helper()
			if due, err := l.Resume(ctx, tab); err != nil || due != want {
				t.Errorf("%d are due, want %d, %v", due, want, err)
			}
		}
		settled(first, Tab{"0:a", "e", "t", 8}, 3)
		left(first)
		refused(t, first, "0:a")
		refused(t, b, "0:a")
		held(t, second, "0:a", 8) // it knows of itself what it has not asked
		must(t, second.Release(ctx, "0:a"))
		third := open(t, source, "f") // in its place
		left(third, "0:a")
		refused(t, b, "0:a")
		settled(third, Tab{"0:a", "f", "u", 4}, 4)
		left(third)
		held(t, b, "0:a", 12)

		// One that is silent for long is gone. What it had running counts until
		// its enclaves say more.
		must(t, b.SetStream(ctx, Stream{Channel: "0:a", ID: "s", Enclave: "g", Tab: "t", Cost: 20}))
		silent := func(d time.Duration) {
			t.Helper()
			_, err := b.db.ExecContext(ctx, `UPDATE owners SET alive = alive - $1 WHERE enclave = 'g'`, int64(d/time.Second))
			must(t, err)
		}
		silent(leaseGone - 30*time.Second)
		refused(t, first, "0:a")
		silent(time.Minute)
		held(t, first, "0:a", 32)
		refused(t, b, "0:a")
		must(t, b.Book(ctx, Tab{"0:a", "g", "t", 22}, "s")) // it was not gone
		held(t, first, "0:a", 34)
	})
}

// Of many that want a channel at once one gets it.
func TestHoldRace(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		fleet := []*Ledger{open(t, source, "e"), open(t, source, "f"), open(t, source, "g")}
		for i := range 20 {
			address := fmt.Sprint("0:", i)
			must(t, fleet[0].AddChannel(t.Context(), address, key))
			var wg sync.WaitGroup
			var got atomic.Int32
			for _, l := range fleet {
				wg.Go(func() {
					if _, err := l.Hold(context.Background(), address); err == nil {
						got.Add(1)
					} else if !errors.Is(err, ErrHeld) {
						t.Error(err)
					}
				})
			}
			if wg.Wait(); got.Load() != 1 {
				t.Errorf("%d hold it", got.Load())
			}
		}
	})
}

// A process that could not tell the others that it lives relies on nothing until
// it has asked.
func TestLease(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		var now atomic.Int64
		l, err := Open(t.Context(), source, func() time.Time { return clock().Add(time.Duration(now.Load())) })
		must(t, err)
		defer l.Close()
		if l.Lease() != 0 {
			t.Error("a lease without enclaves")
		}
		must(t, l.Take(t.Context(), "e"))
		first := l.Lease()
		now.Add(int64(leaseFor - 1))
		if first == 0 || l.Lease() != first {
			t.Errorf("lease %d, then %d", first, l.Lease())
		}
		must(t, l.Confirm(t.Context())) // any write renews it
		now.Add(int64(leaseFor - 1))
		if l.Lease() != first {
			t.Errorf("lease %d, then %d", first, l.Lease())
		}
		now.Add(1)
		if l.Lease() != 0 {
			t.Error("it does not end")
		}
		must(t, l.Confirm(t.Context()))
		if second := l.Lease(); second == 0 || second == first {
			t.Errorf("lease %d after %d", second, first)
		}
	})
}

// In a machine that was suspended all clocks may have stood still: then the
// others' says that a process was missed.
func TestLeaseSuspended(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		var now atomic.Int64
		a, err := Open(ctx, source, func() time.Time { return clock().Add(time.Duration(now.Load())) })
		must(t, err)
		defer a.Close()
		must(t, a.Take(ctx, "e"))
		b := open(t, source, "f")
		must(t, a.AddChannel(ctx, "0:a", key))
		held(t, a, "0:a", 0)
		before := a.Lease()
		suspended := func(d time.Duration) {
			t.Helper()
			_, err := b.db.ExecContext(ctx, `UPDATE owners SET alive = alive - $1 WHERE enclave = 'e'`, int64(d/time.Second))
			must(t, err)
			now.Add(int64(leaseRenewed))
			must(t, a.Confirm(ctx))
		}
		suspended(leaseFor - leaseRenewed)
		if a.Lease() != before {
			t.Errorf("lease %d after %d, which nobody else could have taken", a.Lease(), before)
		}
		suspended(leaseFor)
		if after := a.Lease(); after == before || after == 0 {
			t.Errorf("lease %d after %d: others may serve what this process held", after, before)
		}
	})
}

// A ledger of a version before, with rows in it, goes on; a process of that
// version does not.
func TestMigrateHolds(t *testing.T) {
	t.Run("without holds", func(t *testing.T) {
		migrates(t, 4, `INSERT INTO owners (enclave, process, since) VALUES ('e', 'old', 1)`, ``, 0)
	})
	t.Run("with holds", func(t *testing.T) {
		migrates(t, 5, `INSERT INTO owners (enclave, process, since, seen) VALUES ('e', 'old', 1, 1)`, `UPDATE channels SET process = 'old'`, 1)
	})
}

// migrates begins with so many migrations, and expects so much unsettled.
func migrates(t *testing.T, version int, begin, hold string, unsettled int) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		before := fstest.MapFS{}
		all, err := fs.Glob(migrations, "migrations/*.sql")
		must(t, err)
		for _, name := range all[:version] {
			b, err := migrations.ReadFile(name)
			must(t, err)
			before[path.Base(name)] = &fstest.MapFile{Data: b}
		}
		var db *sql.DB
		if strings.Contains(source, "://") {
			config, err := pgx.ParseConfig(source)
			must(t, err)
			must(t, migrate(ctx, config, before))
			db, err = sql.Open("pgx", source)
			must(t, err)
		} else {
			db, err = sqlite.Open(ctx, source, before)
			must(t, err)
		}
		defer db.Close()
		const alive = `SELECT COUNT(*) FROM owners WHERE process = 'old'`
		for _, q := range []string{begin,
			`INSERT INTO channels (address, key, authorised, spent, opened_at) VALUES ('0:a', '` + fmt.Sprintf("%x", key) + `', 50, 20, 1)`,
			`INSERT INTO vouchers (address, total, voucher, at) VALUES ('0:a', 50, '32', 1)`,
			`INSERT INTO tabs (address, enclave, tab, total) VALUES ('0:a', 'e', 't', 20)`,
			`INSERT INTO streams (address, stream, enclave, tab, booked, cost) VALUES ('0:a', 's', 'e', 't', 20, 3)`, hold} {
			_, err := db.ExecContext(ctx, q)
			must(t, err)
		}
		l := open(t, source, "e", "f")
		var n int
		if err := db.QueryRowContext(ctx, alive).Scan(&n); err != nil || n != 0 {
			t.Errorf("the earlier process is alive: %d, %v", n, err)
		}
		if _, err := db.ExecContext(ctx, begin); err == nil {
			t.Error("a process of the earlier version may begin")
		}
		if list, err := l.Unsettled(ctx); err != nil || len(list) != unsettled {
			t.Errorf("%d are unsettled, want %d, %v", len(list), unsettled, err)
		}
		if due, err := l.Resume(ctx, Tab{"0:a", "e", "t", 25}); err != nil || due != 5 {
			t.Errorf("due %d, %v", due, err)
		}
		held(t, l, "0:a", 25)
		c, err := l.Channel(ctx, "0:a")
		if err != nil || c.Authorised != 50 || c.Voucher[0] != 50 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

// Two processes that write to the same channels at once do not wait for each
// other: PostgreSQL would end one of them, with what others had in its batch.
// Nor does what a role or a server prefers of transactions matter.
func TestFleetInAnyOrder(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		if strings.Contains(source, "://") {
			source += "&default_transaction_isolation=serializable"
		}
		fleet := []*Ledger{open(t, source, "e"), open(t, source, "f")}
		const channels, rounds = 24, 25
		var wg sync.WaitGroup
		for i := range channels {
			for n, l := range fleet {
				address := fmt.Sprint("0:", (i*(1+6*n))%channels) // in another order
				wg.Go(func() {
					if err := l.AddChannel(context.Background(), address, key); err != nil {
						t.Error(err)
					}
					for v := range uint64(rounds) {
						if err := l.BeginSession(context.Background(), address, int64(v)); err != nil && !errors.Is(err, ErrStale) {
							t.Error(err)
							return
						}
						if err := l.PutVoucher(context.Background(), address, v+1, []byte{byte(v)}); err != nil {
							t.Error(err)
							return
						}
						if err := l.Book(context.Background(), Tab{address, []string{"e", "f"}[n], "t", v + 1}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
		list, err := fleet[0].OpenChannels(t.Context())
		if err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		for _, c := range list {
			if c.Authorised != rounds || c.Spent%rounds != 0 || c.Spent == 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}

// A process that was stopped within a commit soon keeps nobody from the rows that
// it has locked; but its turn at the wallet it keeps for a while.
func TestStoppedWithinCommit(t *testing.T) {
	t.Parallel()
	pg := pgtest.Scratch(t)
	ctx := t.Context()
	stopped, l := open(t, pg, "e"), open(t, pg, "f")
	must(t, l.AddChannel(ctx, "0:a", key))
	begun, err := stopped.db.BeginTx(ctx, nil)
	must(t, err)
	defer begun.Rollback()
	must(t, (&transaction{Tx: begun, l: stopped}).lock(ctx, []*write{{channels: []string{"0:a"}}}))
	done, err := stopped.Turn(ctx)
	must(t, err)
	began := time.Now()
	must(t, l.PutVoucher(ctx, "0:a", 5, []byte{5}))
	if took := time.Since(began); took < time.Second {
		t.Errorf("nothing was locked: it took %s", took)
	}
	if err := begun.Commit(); err == nil {
		t.Error("what was stopped commits later")
	}
	soon, cancel := context.WithTimeout(ctx, time.Second) // past idleTimeout, too
	defer cancel()
	if _, err := l.Turn(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two have their turn: %v", err)
	}
	done()
	other, err := l.Turn(ctx)
	must(t, err)
	other()
}

// A server that is started anew, and then acknowledges before the disk has it,
// stores nothing more.
func TestPostgresTurnsUnsafe(t *testing.T) {
	pg := pgtest.Start(t)
	l := open(t, pg.URL)
	must(t, l.AddChannel(t.Context(), "0:a", key))
	pg.Stop()
	pg.Start("fsync=off")
	for range 3 { // connections of before have ended
		if err := l.PutVoucher(t.Context(), "0:a", 5, []byte{5}); err == nil {
			t.Fatal("stored")
		}
	}
	pg.Stop()
	pg.Start()
	var err error
	for range 5 {
		if err = l.PutVoucher(t.Context(), "0:a", 5, []byte{5}); err == nil {
			return
		}
	}
	t.Error(err)
}

// A commit of which nobody hears how it ended has ended one way or the other:
// what comes again counts once.
func TestCommitUnheard(t *testing.T) {
	pg := pgtest.Start(t)
	config, err := pgx.ParseConfig(pg.URL)
	must(t, err)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer front.Close()
	var cut atomic.Bool // the next commit's answer
	go func() {
		for {
			c, err := front.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", fmt.Sprintf("%s/.s.PGSQL.%d", config.Host, config.Port))
			if err != nil {
				c.Close()
				continue
			}
			go func() {
				defer up.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					commit := strings.Contains(string(buf[:n]), "Q\x00\x00\x00\x0bcommit\x00") && cut.CompareAndSwap(true, false)
					if commit {
						c.Close() // and nobody hears of it
					}
					if _, err := up.Write(buf[:n]); err != nil {
						return
					}
					if commit {
						up.Read(buf) // the server's answer: it is done
						return
					}
				}
			}()
			go func() { io.Copy(c, up); c.Close() }()
		}
	}()
	l := open(t, "postgres://postgres@"+front.Addr().String()+"/postgres?sslmode=disable")
	ctx := t.Context()
	must(t, l.AddChannel(ctx, "0:a", key))
	must(t, l.SetStream(ctx, Stream{Channel: "0:a", ID: "s", Enclave: "f", Tab: "t", Cost: 100}))
	twice := func(what string, do func() error) {
		t.Helper()
		cut.Store(true)
		if err := do(); err == nil {
			t.Errorf("%s: heard of it", what)
		}
		if cut.Load() {
			t.Fatal("nothing was cut")
		}
		for try := 0; ; try++ { // connections that the cut has broken
			err := do()
			if err == nil {
				return
			} else if try == 5 {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	twice("a voucher", func() error { return l.PutVoucher(ctx, "0:a", 50, []byte{50}) })
	twice("a booking", func() error { return l.Book(ctx, Tab{"0:a", "e", "t", 7}) })
	twice("a loss", func() error { return l.Lose(ctx, "0:a", "s") })
	var due uint64
	twice("a settlement", func() (err error) { due, err = l.Resume(ctx, Tab{"0:a", "e", "t", 20}); return err })
	if due != 0 {
		t.Errorf("due %d again: it was booked", due)
	}
	twice("a hold", func() error { _, err := l.Hold(ctx, "0:a"); return err })
	held(t, l, "0:a", 120) // so the channel's own word is taken, not the sum of what was heard
	twice("a release", func() error { return l.Release(ctx, "0:a") })
	if c, err := l.Channel(ctx, "0:a"); err != nil || c.Authorised != 50 || c.Spent != 120 {
		t.Errorf("%+v, %v", c, err)
	}
	if e, err := l.Earnings(ctx, clock()); err != nil || len(e) != 2 || e[0].Earned+e[1].Earned != 120 {
		t.Errorf("%+v, %v", e, err)
	}
}
