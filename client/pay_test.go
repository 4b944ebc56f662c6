package client

import "testing"

// What the host's books include when they are taken over does not count again
// when it ends here, and what cannot have been spent is not taken over. Two
// requests run, others have left 110 in doubt.
func TestResyncCountsOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		host    balances
		adopts  bool
		settled uint64 // then
		ended   uint64 // after two requests that cost 70 each have ended here
	}{
		{"everything has ended there", balances{Spent: 240}, true, 240, 240},
		{"as here", balances{Spent: 100}, false, 100, 100},
		{"behind", balances{Spent: 99}, false, 100, 240},
		{"beyond what was signed", balances{Spent: 1001}, false, 100, 240},
		{"beyond what was offered", balances{Spent: 1000}, true, 350, 350},
		{"beyond what is in doubt", balances{Spent: 1000, Reserved: 70}, true, 210, 350},
		{"one runs", balances{Spent: 350, Reserved: 70}, true, 210, 350},
		{"both run", balances{Spent: 100, Reserved: 140}, false, 100, 240},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &purse{state: PaymentState{Signed: 1000, Settled: 100}, reserved: 140, offered: 140, doubt: 110}
			if got := u.resync(c.host); got != c.adopts || u.state.Settled != c.settled {
				t.Errorf("%v, settled %d; want %v and %d", got, u.state.Settled, c.adopts, c.settled)
			}
			u.end(outcome{allot: 70, offered: 70, cost: 70, unsure: true}) // cut
			u.settle(outcome{allot: 70, offered: 70, cost: 70}, "receipt")
			if u.state.Settled != c.ended || u.reserved != 0 {
				t.Errorf("settled %d, want %d", u.state.Settled, c.ended)
			}
			u.offer(5, u.era)
			u.end(outcome{era: u.era, offered: 5, cost: 5}) // one that began since
			if u.state.Settled != c.ended+5 {
				t.Errorf("settled %d, want %d", u.state.Settled, c.ended+5)
			}
		})
	}
}

// A cut leaves in doubt what it was offered and has not cost, a refusal
// nothing, and what was in doubt is taken over once.
func TestDoubtIsBounded(t *testing.T) {
	u := &purse{state: PaymentState{Signed: 1000}, reserved: 300}
	u.offer(300, 0)
	u.end(outcome{allot: 100, offered: 100, cost: 30, unsure: true})
	u.end(outcome{allot: 100, offered: 100}) // refused
	u.settle(outcome{allot: 100, offered: 100, cost: 60}, "receipt")
	if u.state.Settled != 90 || u.doubt != 70 || u.offered != 0 {
		t.Fatalf("settled %d, in doubt %d, offered %d", u.state.Settled, u.doubt, u.offered)
	}
	for range 3 {
		u.resync(balances{Spent: u.state.Signed})
	}
	if u.state.Settled != 160 || u.doubt != 0 {
		t.Fatalf("settled %d, in doubt %d", u.state.Settled, u.doubt)
	}
	// One of an era that has ended: the host's view may lack it still.
	u.offer(50, 0)
	u.end(outcome{allot: 0, offered: 50, cost: 20})
	if u.state.Settled != 160 || u.doubt != 20 {
		t.Fatalf("settled %d, in doubt %d", u.state.Settled, u.doubt)
	}
}
