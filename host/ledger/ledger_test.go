package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/pgtest"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public().(ed25519.PublicKey)

func clock() time.Time { return time.Unix(1_800_000_000, 0) }

// stores runs a test on SQLite and, where BOMBYX_TEST_POSTGRES names a scratch
// database (a postgres:// URL with a query), on PostgreSQL, in a schema of its
// own.
func stores(t *testing.T, f func(t *testing.T, source string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "ledger.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, pgtest.Scratch(t)) })
}

// open is a host that starts, with enclaves e and f unless others are named.
func open(t *testing.T, source string, enclaves ...string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), source, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if enclaves == nil {
		enclaves = []string{"e", "f"}
	}
	if err := l.Take(t.Context(), enclaves...); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLife(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		l := open(t, source)
		if _, err := l.Channel(ctx, "0:a"); !errors.Is(err, ErrUnknown) {
			t.Fatalf("unknown channel: %v", err)
		}
		for _, err := range []error{
			l.AddChannel(ctx, "0:a", key), l.AddChannel(ctx, "0:a", key),
			l.PutVoucher(ctx, "0:a", 50, []byte{5}), l.PutVoucher(ctx, "0:a", 70, []byte{7}), l.PutVoucher(ctx, "0:a", 60, []byte{6}),
			l.Book(ctx, Tab{"0:a", "e", "t", 30}), l.Book(ctx, Tab{"0:a", "e", "t", 40}),
			l.BeginSession(ctx, "0:a", 5), l.SetChainState(ctx, "0:a", 20, false),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for name, err := range map[string]error{
			"same session time": l.BeginSession(ctx, "0:a", 5),
			"voucher":           l.PutVoucher(ctx, "0:b", 1, nil),
			"spent":             l.Book(ctx, Tab{"0:b", "e", "t", 1}),
			"chain state":       l.SetChainState(ctx, "0:b", 1, false),
			"huge voucher":      l.PutVoucher(ctx, "0:a", 1<<63, nil),
		} {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		// What was acknowledged is there after the process is gone.
		l.Close()
		l = open(t, source)
		c, err := l.Channel(ctx, "0:a")
		if err != nil {
			t.Fatal(err)
		}
		if c.Authorised != 70 || !bytes.Equal(c.Voucher, []byte{7}) || c.Spent != 40 || c.Answers != 2 || c.Claimed != 20 || !c.Key.Equal(key) || c.Closed {
			t.Errorf("%+v", c)
		}
		if e, err := l.Earnings(ctx, clock()); err != nil || len(e) != 1 || e[0].Earned != 40 || e[0].Answers != 2 {
			t.Errorf("%+v, %v", e, err)
		}
		if err := l.SetChainState(ctx, "0:a", 70, true); err != nil {
			t.Fatal(err)
		}
		if list, err := l.OpenChannels(ctx); err != nil || len(list) != 0 {
			t.Errorf("open channels: %v, %v", list, err)
		}
	})
}

func TestConcurrentVouchersKeepTheHighest(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"))
	if err := l.AddChannel(t.Context(), "0:a", key); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := l.PutVoucher(context.Background(), "0:a", uint64(i), []byte{byte(i)}); err != nil {
				t.Error(err)
			}
			if err := l.Book(context.Background(), Tab{"0:a", "e", "t", uint64(i + 1)}); err != nil {
				t.Error(err)
			}
			// A refused write in the same batch spoils nothing.
			if err := l.PutVoucher(context.Background(), "0:none", 1, nil); !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := l.Channel(t.Context(), "0:a")
	if err != nil || c.Authorised != 199 || c.Voucher[0] != 199 || c.Spent != 200 {
		t.Fatalf("%+v, %v", c, err)
	}
}

func payable(t *testing.T, l *Ledger, earned, covers uint64) {
	t.Helper()
	e, c, err := l.Payable(t.Context(), "0:a")
	if err != nil {
		t.Fatal(err)
	}
	got := [2]uint64{}
	for i, v := range []*Voucher{e, c} {
		if v == nil {
			continue
		}
		if got[i] = v.Total; !bytes.Equal(v.Wire, []byte{byte(v.Total)}) || !v.At.Equal(clock()) {
			t.Errorf("%+v", v)
		}
	}
	if got != [2]uint64{earned, covers} {
		t.Errorf("payable %d, want %d and %d", got, earned, covers)
	}
}

func TestPayable(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		l := open(t, source)
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		do(l.AddChannel(ctx, "0:a", key))
		do(l.AddChannel(ctx, "0:b", key))
		payable(t, l, 0, 0)
		for _, v := range []uint64{10, 20, 30, 40} {
			do(l.PutVoucher(ctx, "0:a", v, []byte{byte(v)}))
		}
		payable(t, l, 0, 0)                                                                     // nothing delivered
		do(l.Book(ctx, Tab{"0:b", "e", "t", 25}))                                               // to another
		do(l.SetStream(ctx, Stream{Channel: "0:b", ID: "s", Enclave: "e", Tab: "t", Cost: 25})) // the same
		do(l.SetStream(ctx, Stream{Channel: "0:a", ID: "s", Enclave: "e", Tab: "t", Cost: 5}))  // running
		payable(t, l, 0, 10)
		do(l.SetStream(ctx, Stream{Channel: "0:a", ID: "s", Enclave: "ignored", Cost: 11})) // runs on
		payable(t, l, 10, 20)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 20}, "s")) // the final word
		payable(t, l, 20, 20)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 21}, "never"))
		payable(t, l, 20, 30)
		do(l.PutVoucher(ctx, "0:a", 50, []byte{50}))
		payable(t, l, 20, 30)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 121}))
		payable(t, l, 50, 0) // more than was ever authorised cannot be claimed
		left, err := l.Streams(ctx)
		if err != nil || len(left) != 1 || left[0] != (Stream{"0:b", "s", "e", "t", 0, 25}) {
			t.Errorf("%+v, %v", left, err)
		}
		if err := l.Book(ctx, Tab{Channel: "0:a", Total: 1 << 63}); err == nil {
			t.Error("a cost out of range")
		}
		if _, err := l.Resume(ctx, Tab{Channel: "0:a", Total: 1 << 63}); err == nil {
			t.Error("a cost out of range")
		}
		if err := l.SetStream(ctx, Stream{Channel: "0:a", Cost: 1 << 63}); err == nil {
			t.Error("a running cost out of range")
		}
		if err := l.SetStream(ctx, Stream{Channel: "0:a", Booked: 1 << 63}); err == nil {
			t.Error("a running request's tab out of range")
		}
	})
}

// What an enclave's tab says is booked once, however often, in whatever order
// and by whom it is told.
func TestTabs(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		l := open(t, source)
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		spent := func(want uint64) {
			t.Helper()
			c, err := l.Channel(ctx, "0:a")
			do(err)
			e, err := l.Earnings(ctx, clock())
			do(err)
			sum := uint64(0)
			for _, e := range e {
				sum += e.Earned
			}
			if c.Spent != want || sum != want {
				t.Errorf("spent %d, earned %d, want %d", c.Spent, sum, want)
			}
		}
		resume := func(tab Tab, want uint64) {
			t.Helper()
			if due, err := l.Resume(ctx, tab); err != nil || due != want {
				t.Errorf("%+v is due %d, %v; want %d", tab, due, err, want)
			}
		}
		do(l.AddChannel(ctx, "0:a", key))
		var wg sync.WaitGroup
		for i := range 50 { // in any order
			wg.Go(func() {
				if err := l.Book(ctx, Tab{"0:a", "e", "t", uint64(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		spent(49)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 49})) // again
		do(l.Book(ctx, Tab{"0:a", "e", "t", 7}))  // late
		do(l.Book(ctx, Tab{"0:a", "f", "t", 1}))  // another enclave
		do(l.Book(ctx, Tab{"0:a", "e", "u", 10})) // begun anew
		do(l.Book(ctx, Tab{"0:a", "e", "t", 50})) // from before, late
		spent(49 + 1 + 10 + 1)

		// A process is killed with requests running. The enclave's tab has what
		// they cost; it was not killed.
		do(l.SetStream(ctx, Stream{Channel: "0:a", ID: "1", Enclave: "e", Tab: "u", Cost: 5}))
		do(l.SetStream(ctx, Stream{Channel: "0:a", ID: "2", Enclave: "f", Tab: "t", Cost: 3}))
		resume(Tab{"0:a", "e", "u", 30}, 20)
		resume(Tab{"0:a", "e", "u", 30}, 0)
		spent(81)
		// This one was, and knows nothing: what was last recorded counts.
		resume(Tab{Channel: "0:a", Enclave: "f"}, 3)
		resume(Tab{Channel: "0:a", Enclave: "f"}, 0)
		spent(84)
		// This one was, and has begun anew.
		do(l.SetStream(ctx, Stream{Channel: "0:a", ID: "3", Enclave: "f", Tab: "t", Cost: 100}))
		resume(Tab{"0:a", "f", "v", 2}, 102)
		spent(186)
		do(l.SetStream(ctx, Stream{Channel: "0:a", ID: "4", Enclave: "f", Tab: "v", Cost: 14}))
		do(l.Lose(ctx, "0:a", "4"))
		do(l.Lose(ctx, "0:a", "4"))
		spent(200)
		if left, err := l.Streams(ctx); err != nil || len(left) != 0 {
			t.Errorf("%+v, %v", left, err)
		}
	})
}

// A request may have ended, and be in a tab that was booked with the end of
// another, while it still seems to run. It counts once.
func TestEndedRequestThatSeemsToRun(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		l := open(t, source)
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		do(l.AddChannel(ctx, "0:a", key))
		for v := range uint64(20) {
			do(l.PutVoucher(ctx, "0:a", 5*v+5, []byte{byte(5*v + 5)}))
		}
		do(l.Book(ctx, Tab{"0:a", "e", "t", 10}))
		stream := Stream{Channel: "0:a", ID: "s", Enclave: "e", Tab: "t", Booked: 10, Cost: 20}
		do(l.SetStream(ctx, stream))
		payable(t, l, 30, 30)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 25})) // others: of 15, so it is not in it
		payable(t, l, 45, 45)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 35})) // of 25: it may be
		payable(t, l, 35, 55)
		stream.Booked = 35 // it was not
		do(l.SetStream(ctx, stream))
		payable(t, l, 55, 55)
		do(l.Book(ctx, Tab{"0:a", "e", "t", 60}, "s"))
		payable(t, l, 60, 60)

		// Nor when host and enclave are killed before the host hears of its end.
		stream.ID, stream.Booked = "u", 60
		do(l.SetStream(ctx, stream))
		do(l.Book(ctx, Tab{"0:a", "e", "t", 80}))
		if due, err := l.Resume(ctx, Tab{Channel: "0:a", Enclave: "e"}); err != nil || due != 0 {
			t.Errorf("due %d, %v", due, err)
		}
		payable(t, l, 80, 80)
	})
}

// The processes of a fleet write at once, on one channel, too.
func TestFleet(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		a, b := open(t, source, "e"), open(t, source, "f")
		if err := a.AddChannel(t.Context(), "0:a", key); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 100 {
			for enclave, l := range map[string]*Ledger{"e": a, "f": b} {
				wg.Go(func() {
					if _, err := l.Resume(context.Background(), Tab{"0:a", enclave, "t", uint64(i + 1)}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if c, err := a.Channel(t.Context(), "0:a"); err != nil || c.Spent != 200 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestClosing(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		l := open(t, source)
		until := clock().Add(time.Minute)
		for _, err := range []error{l.AddChannel(t.Context(), "0:a", key), l.SetClosing(t.Context(), "0:a", until)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if c, err := l.Channel(t.Context(), "0:a"); err != nil || !c.Closing.Equal(until) || c.Closed {
			t.Errorf("%+v, %v", c, err)
		}
		if err := l.SetClosing(t.Context(), "0:b", until); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}

func count(t *testing.T, l *Ledger) (n int) {
	t.Helper()
	if err := l.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM vouchers WHERE address = '0:a'`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A client that sends vouchers without end fills no disk, and the highest is
// never lost.
func TestVouchersAreBounded(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"))
	if err := l.AddChannel(t.Context(), "0:a", key); err != nil {
		t.Fatal(err)
	}
	const last = maxVouchers + 3*pruneEvery/2
	for i := range last {
		if err := l.PutVoucher(t.Context(), "0:a", uint64(i+1), []byte{byte(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, l); n > maxVouchers+2+pruneEvery || n == last {
		t.Errorf("%d vouchers are kept", n)
	}
	c, err := l.Channel(t.Context(), "0:a")
	if err != nil || c.Authorised != last || !bytes.Equal(c.Voucher, []byte{last & 0xff}) {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := l.Book(t.Context(), Tab{"0:a", "e", "t", 7}); err != nil {
		t.Fatal(err)
	}
	payable(t, l, 7, 7)
	// What has been paid for by a higher one is not kept either.
	if err := l.Book(t.Context(), Tab{"0:a", "e", "t", 100}); err != nil {
		t.Fatal(err)
	}
	for i := range pruneEvery {
		if err := l.PutVoucher(t.Context(), "0:a", last+uint64(i)+1, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	var lowest int
	if err := l.db.QueryRowContext(t.Context(), `SELECT MIN(total) FROM vouchers`).Scan(&lowest); err != nil || lowest != 100 {
		t.Errorf("the lowest kept is over %d, %v", lowest, err)
	}
}

func TestAfterClose(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"))
	l.Close()
	if err := l.AddChannel(t.Context(), "0:a", key); !errors.Is(err, ErrClosed) {
		t.Fatalf("write after close: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not-a-database")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(t.Context(), path, clock); err == nil {
		l.Close()
		t.Error("opened a file that is no database")
	} else if Unreachable(err) {
		t.Errorf("unreachable: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Join(path, "l.db"), clock); err == nil || Unreachable(err) {
		t.Errorf("unreachable: %v", err)
	}
}

// A server that is not there, or says nothing, is unreachable, and waited for no longer than the URL says, or a while.
func TestUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close() // takes connections, and never answers
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone.Close()
	usual := connectTimeout
	defer func() { connectTimeout = usual }()
	connectTimeout = 50 * time.Millisecond
	for source, want := range map[string]bool{
		"postgres://me:secret@" + silent.Addr().String() + "/x?sslmode=disable": true,
		"postgres://me:secret@" + gone.Addr().String() + "/x":                   true,
		"postgres://me:secret@/x?host=" + t.TempDir():                           true,
		"postgres://me:secret@localhost/x?sslmode=perhaps":                      false,
		"postgres://me:secret@localhost/x?sslrootcert=/nowhere":                 false,
	} {
		if _, err := Open(t.Context(), source, clock); err == nil || Unreachable(err) != want || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: unreachable should be %t: %v", source, want, err)
		}
	}
	if !Unreachable(fmt.Errorf("looked up: %w", &net.DNSError{})) {
		t.Error("a name that is not found")
	}
	connectTimeout = usual
	pg := pgtest.Start(t)
	_, err = Open(t.Context(), strings.Replace(pg.URL, "postgres@", "nobody@", 1), clock)
	if err == nil || Unreachable(err) {
		t.Errorf("a role that is not there: %v", err)
	}
	pg.Stop()
	if _, err := Open(t.Context(), pg.URL, clock); err == nil || !Unreachable(err) {
		t.Errorf("a server that was stopped: %v", err)
	}
	pg.Start()
}

// BenchmarkPutVoucher stores vouchers durably, from as many clients at once as
// wait for it, on one channel or on one each.
func BenchmarkPutVoucher(b *testing.B) {
	for _, store := range []struct {
		name   string
		source func(testing.TB) string
	}{{"sqlite", func(t testing.TB) string { return filepath.Join(t.TempDir(), "l.db") }}, {"postgres", pgtest.Scratch}} {
		for _, channels := range []int{1, clients} {
			b.Run(fmt.Sprintf("%s/%d-channels", store.name, channels), func(b *testing.B) {
				l, err := Open(b.Context(), store.source(b), clock)
				if err != nil {
					b.Fatal(err)
				}
				defer l.Close()
				if err := l.Take(b.Context(), "e"); err != nil {
					b.Fatal(err)
				}
				run := rand.Text()
				for i := range channels {
					if err := l.AddChannel(b.Context(), fmt.Sprint("0:", run, i), key); err != nil {
						b.Fatal(err)
					}
				}
				var n atomic.Uint64
				wire := make([]byte, 150)
				var wg sync.WaitGroup
				b.ResetTimer()
				for c := range clients {
					wg.Go(func() {
						address := fmt.Sprint("0:", run, c%channels)
						for v := n.Add(1); v <= uint64(b.N); v = n.Add(1) {
							if err := l.PutVoucher(b.Context(), address, v, wire); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "vouchers/s")
			})
		}
	}
}

// clients that pay at once.
const clients = 512
