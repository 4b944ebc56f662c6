package client

import (
	"testing"

	"github.com/bombyx-network/bombyx/internal/receipt"
)

// What the host's books include when they are taken over does not count again
// when it ends here.
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
		{"one runs", balances{Spent: 350, Reserved: 70}, true, 210, 350},
		{"both run", balances{Spent: 100, Reserved: 140}, false, 100, 240},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &purse{state: PaymentState{Signed: 1000, Settled: 100}, reserved: 140}
			if got := u.resync(c.host); got != c.adopts || u.state.Settled != c.settled {
				t.Errorf("%v, settled %d; want %v and %d", got, u.state.Settled, c.adopts, c.settled)
			}
			u.release(70, 70, 0) // cut
			u.settle(70, 0, &receipt.Receipt{Cost: 70}, "receipt")
			if u.state.Settled != c.ended || u.reserved != 0 {
				t.Errorf("settled %d, want %d", u.state.Settled, c.ended)
			}
			u.release(0, 5, u.era) // one that began since
			if u.state.Settled != c.ended+5 {
				t.Errorf("settled %d, want %d", u.state.Settled, c.ended+5)
			}
		})
	}
}
