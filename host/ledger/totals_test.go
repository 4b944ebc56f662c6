package ledger

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"
)

// Seven channels: one paid up, one with something due, one of these at its end,
// one that spent what no voucher covers, one closed unpaid, and two whose clients
// sign for more than there is.
func TestTotals(t *testing.T) {
	stores(t, func(t *testing.T, source string) {
		ctx := t.Context()
		l := open(t, source)
		if got, err := l.Totals(ctx, clock()); err != nil || got != (Totals{}) {
			t.Fatalf("of an empty ledger: %+v, %v", got, err)
		}
		for _, c := range []struct {
			name                       string
			authorised, spent, claimed uint64
			deadline                   time.Duration
			closed                     bool
		}{
			{"0:a", 100, 100, 100, time.Hour, false},
			{"0:b", 90, 70, 20, time.Hour, false},
			{"0:c", 90, 60, 30, time.Minute, false},
			{"0:d", 10, 15, 10, time.Hour, false},
			{"0:e", 9, 8, 1, time.Hour, true},
			{"0:f", math.MaxInt64, 0, 0, time.Hour, false},
			{"0:g", math.MaxInt64, 0, 5, 0, false},
		} {
			for _, err := range []error{l.AddChannel(ctx, c.name, key), l.PutVoucher(ctx, c.name, c.authorised, []byte{1}), l.Book(ctx, Tab{c.name, "e", "t", c.spent}),
				l.SetChainState(ctx, c.name, c.claimed, c.closed)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.deadline == 0 {
				continue
			}
			if err := l.SetDeadline(ctx, c.name, clock().Add(c.deadline)); err != nil {
				t.Fatal(err)
			}
		}
		want := Totals{Open: 6, Authorised: 290 + 2*math.MaxInt64, Spent: 253, Claimed: 166, Unclaimed: 50 + 30 + 5, AtRisk: 30 + 5, Lost: 7}
		got, err := l.Totals(ctx, clock().Add(10*time.Minute))
		if err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		list, err := l.MostUnclaimed(ctx, 3)
		if err != nil || len(list) != 3 || list[0].Address != "0:b" || list[1].Address != "0:c" || list[2].Address != "0:d" {
			t.Errorf("%+v, %v", list, err)
		}
		var earned uint64
		days, err := l.Earnings(ctx, time.Unix(0, 0))
		for _, e := range days {
			earned += e.Earned
		}
		if err != nil || earned != got.Spent {
			t.Errorf("earned %d, spent %d, %v", earned, got.Spent, err)
		}
		// What a process that was taken over may have left.
		if _, err := l.Hold(ctx, "0:a"); err != nil {
			t.Fatal(err)
		}
		later := open(t, source)
		if got, err = later.Totals(ctx, clock()); err != nil || got.Unsettled != 1 || got.AtRisk != 5 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestOnCommit(t *testing.T) {
	l, err := Open(t.Context(), t.TempDir()+"/ledger.db", clock)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var writes, failed int
	l.OnCommit(func(took time.Duration, n int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if writes += n; err != nil {
			failed++
		}
	})
	if err := l.Take(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	if err := l.AddChannel(t.Context(), "0:a", key); err != nil {
		t.Fatal(err)
	}
	if err := l.BeginSession(t.Context(), "0:none", 1); !errors.Is(err, ErrUnknown) { // refused, and the store has not failed
		t.Fatal(err)
	}
	l.db.Close()
	if err := l.Confirm(t.Context()); err == nil {
		t.Fatal("written into a closed store")
	}
	l.Close()
	if writes != 3 || failed != 1 {
		t.Errorf("%d writes, %d transactions failed", writes, failed)
	}
}
