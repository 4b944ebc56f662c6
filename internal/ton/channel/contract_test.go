package channel

import (
	"errors"
	"os"
	"testing"

	"github.com/bombyx-network/bombyx/internal/ton/channel/emulator"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// slack is what an external claim leaves in the deposit beyond the exact sum: eight bits of import, at 400 nanogram each.
const slack = 8 * 400

// importFee is what an external claim charges the payee for its import, in nanogram: lump price, one cell, 264 bits.
const importFee = 400_000 + 40_000 + 264*400

// life opens, tops up, claims twice, closes and finishes, and accounts for every nanogram of it.
func TestLife(t *testing.T) {
	b := opened(t, 2*gram)
	deposit := b.balance()
	tx := b.send(stranger, TopUp(b.addr(), gram))
	b.want(tx, 0)
	if got := b.balance(); got != deposit+gram-tx.Fees {
		t.Fatalf("after the top-up %d, want %d", got, deposit+gram-tx.Fees)
	}

	deposit = b.balance()
	tx = b.send(payee, Claim(b.voucher(gram/2), GasValue))
	b.want(tx, 0)
	b.only(tx, payee, gram/2+GasValue-b.fees(tx))
	if b.balance() != deposit-gram/2 {
		t.Fatalf("a claim of %d took %d from the deposit", gram/2, deposit-b.balance())
	}
	if s := b.state(); s.Paid != gram/2 || s.Head != named("head") || s.Closing() {
		t.Fatalf("state %+v", s)
	}

	deposit = b.balance()
	tx, err := b.sendExternal(ClaimExternal(b.voucher(gram)))
	if err != nil {
		t.Fatal(err)
	}
	b.want(tx, 0)
	b.only(tx, payee, gram/2-slack-b.fees(tx))
	if b.balance() != deposit-gram/2+slack {
		t.Fatalf("an external claim of %d took %d from the deposit", gram/2, deposit-b.balance())
	}

	deposit = b.balance()
	tx = b.send(client, CloseStart(b.addr(), GasValue))
	b.want(tx, 0)
	if b.balance() != deposit+GasValue-tx.Fees || len(tx.Out) != 0 {
		t.Fatalf("close start left %d", b.balance())
	}
	if s := b.state(); !s.Closing() || s.CloseAt != start+b.CloseDelay {
		t.Fatalf("state %+v", s)
	}

	b.chain.Now += b.CloseDelay - 1
	tx = b.send(stranger, Claim(b.voucher(gram*5/4), GasValue)) // the last claim, by anyone
	b.want(tx, 0)
	b.only(tx, payee, gram/4+GasValue-b.fees(tx)+tx.Storage)

	b.chain.Now++
	deposit = b.balance()
	tx = b.send(stranger, CloseFinish(b.addr(), GasValue))
	b.want(tx, 0)
	b.only(tx, client, deposit+GasValue-b.fees(tx))
	if b.balance() != 0 {
		t.Fatalf("%d left behind", b.balance())
	}
	if s := b.state(); s.Paid != gram*5/4 {
		t.Fatalf("state %+v", s)
	}
}

func TestCloseTogether(t *testing.T) {
	b := opened(t, 2*gram)
	b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0)
	deposit := b.balance()
	tx := b.send(payee, CloseTogether(b.agreement(gram), GasValue))
	b.want(tx, 0)
	if len(tx.Out) != 2 || b.balance() != 0 {
		t.Fatalf("%d messages out, %d left", len(tx.Out), b.balance())
	}
	forward := uint64(400_000) // one message without cells below its root
	if got, want := amountTo(tx, client), deposit-gram/2-forward; got != want {
		t.Errorf("client got %d, want %d", got, want)
	}
	if got, want := amountTo(tx, payee), gram/2+GasValue-(b.fees(tx)-forward); got != want {
		t.Errorf("payee got %d, want %d", got, want)
	}
	if s := b.state(); s.Paid != gram || s.Head != named("last head") || s.CloseAt != start {
		t.Errorf("state %+v", s)
	}
}

// The agreement may say that the payee has had enough, and then the payee still gets its gas back.
func TestCloseTogetherForNothingMore(t *testing.T) {
	b := opened(t, gram)
	deposit := b.balance()
	tx := b.send(payee, CloseTogether(b.agreement(0), GasValue))
	b.want(tx, 0)
	if got, want := amountTo(tx, client), deposit-400_000; got != want {
		t.Errorf("client got %d, want %d", got, want)
	}
}

// The agreement may give the payee the whole deposit, to the nanogram, and nothing beyond it: then nothing is left to send to the
// client, and a rest that would not pay for its own delivery waits for CloseFinish.
func TestCloseTogetherForEverything(t *testing.T) {
	for _, rest := range []uint64{0, 1, 399_999} {
		b := opened(t, gram)
		deposit := b.balance()
		b.refused(b.send(payee, CloseTogether(b.agreement(deposit+1), GasValue)), ExitFunds)
		tx := b.send(payee, CloseTogether(b.agreement(deposit-rest), GasValue))
		b.want(tx, 0)
		b.only(tx, payee, deposit-rest+GasValue-b.fees(tx))
		if b.balance() != rest {
			t.Fatalf("%d left, want %d", b.balance(), rest)
		}
		tx = b.send(stranger, CloseFinish(b.addr(), GasValue))
		b.want(tx, 0)
		b.only(tx, client, rest+GasValue-b.fees(tx))
	}
}

func TestCloseTogetherRefusals(t *testing.T) {
	b := opened(t, gram)
	b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0)
	b.refused(b.send(client, CloseTogether(b.agreement(gram*3/4), GasValue)), ExitSender)
	b.refused(b.send(stranger, CloseTogether(b.agreement(gram*3/4), GasValue)), ExitSender)
	b.refused(b.send(payee, CloseTogether(b.agreement(gram/2-1), GasValue)), ExitStale)
	b.refused(b.send(payee, CloseTogether(b.agreement(2*gram), GasValue)), ExitFunds)
	forged := Agreement{GlobalID: global, Channel: b.addr(), Total: gram}.Sign(keyOf("payee key"))
	b.refused(b.send(payee, CloseTogether(&forged, GasValue)), ExitSignature)
	v := b.voucher(gram * 3 / 4)
	b.refused(b.send(payee, CloseTogether(&SignedAgreement{Agreement(v.Voucher), v.Signature}, GasValue)), ExitSignature)
}

func TestForgedVouchers(t *testing.T) {
	b := opened(t, gram)
	forged := Voucher{GlobalID: global, Channel: b.addr(), Total: gram / 2}.Sign(keyOf("payee key"))
	b.refused(b.send(payee, Claim(&forged, GasValue)), ExitSignature)
	b.notAccepted(ClaimExternal(&forged))
	v := b.voucher(gram / 2)
	v.Total++
	b.refused(b.send(payee, Claim(v, GasValue)), ExitSignature)
	v = b.voucher(gram / 2)
	v.Head[0] ^= 1
	b.refused(b.send(payee, Claim(v, GasValue)), ExitSignature)
	a := b.agreement(gram / 2)
	b.refused(b.send(payee, Claim(&SignedVoucher{Voucher(a.Agreement), a.Signature}, GasValue)), ExitSignature)
}

func TestReplayAcrossChannels(t *testing.T) {
	b := opened(t, gram)
	other := b.Params
	other.Salt++
	v := Voucher{GlobalID: global, Channel: other.Address(), Total: gram / 2}.Sign(clientKey)
	v.Channel = b.addr() // as delivered to this channel
	b.refused(b.send(payee, Claim(&v, GasValue)), ExitSignature)
	b.notAccepted(ClaimExternal(&v))
	a := Agreement{GlobalID: global, Channel: other.Address(), Total: gram / 2}.Sign(clientKey)
	a.Channel = b.addr()
	b.refused(b.send(payee, CloseTogether(&a, GasValue)), ExitSignature)
}

// The same parties' channel has the same address on every network: the network's own id tells its vouchers apart.
func TestReplayAcrossNetworks(t *testing.T) {
	test := opened(t, gram)
	v, a := test.voucher(gram/2), test.agreement(gram/2)
	chain, err := emulator.New(-239, start)
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.RecordTo(os.Getenv("BOMBYX_CONTRACT_RECORD"), t.Name()); err != nil {
		t.Fatal(err)
	}
	b := &bench{TB: t, chain: chain, Params: test.Params, at: test.at}
	b.want(b.send(client, Open(b.Params, gram)), 0)
	b.refused(b.send(payee, Claim(v, GasValue)), ExitSignature)
	b.notAccepted(ClaimExternal(v))
	b.refused(b.send(payee, CloseTogether(a, GasValue)), ExitSignature)
	test.want(test.send(payee, Claim(v, GasValue)), 0)
}

func TestOutOfOrderVouchers(t *testing.T) {
	b := opened(t, 2*gram)
	first, second := b.voucher(gram/2), b.voucher(gram)
	b.want(b.send(payee, Claim(second, GasValue)), 0)
	b.refused(b.send(payee, Claim(first, GasValue)), ExitStale)
	b.refused(b.send(payee, Claim(second, GasValue)), ExitStale)
	b.notAccepted(ClaimExternal(first))
	b.notAccepted(ClaimExternal(second))
}

// Messages of different accounts overtake each other. Whatever comes too early returns, and can come again.
func TestOutOfOrderMessages(t *testing.T) {
	b := newBench(t)
	if err := b.chain.Track(b.at); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*tlb.InternalMessage{ // before the deployment
		"claim": Claim(b.voucher(gram/2), GasValue), "start": CloseStart(b.addr(), GasValue), "finish": CloseFinish(b.addr(), GasValue),
		"together": CloseTogether(b.agreement(0), GasValue), "top-up": TopUp(b.addr(), gram),
	} {
		tx := b.send(client, m)
		if !tx.Skipped || len(tx.Out) != 1 || !tx.Out[0].Bounced || b.balance() != 0 {
			t.Fatalf("%s: skipped %v, %d messages out, %d kept", name, tx.Skipped, len(tx.Out), b.balance())
		}
	}
	b.want(b.send(client, Open(b.Params, gram)), 0)
	b.refused(b.send(client, CloseFinish(b.addr(), GasValue)), ExitNotEnded) // before the start
	b.want(b.send(client, CloseStart(b.addr(), GasValue)), 0)
	b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0) // the last claim, behind the start
	b.chain.Now += b.CloseDelay
	b.want(b.send(stranger, CloseFinish(b.addr(), GasValue)), 0)
	b.refused(b.send(client, TopUp(b.addr(), gram)), ExitEnded) // behind the end
	b.refused(b.send(payee, CloseTogether(b.agreement(gram), GasValue)), ExitEnded)
	b.refused(b.send(client, Open(b.Params, gram)), ExitEnded)
}

// A voucher above the deposit pays what is there but the reserve, and the rest after a top-up; never more.
func TestUnderfunded(t *testing.T) {
	b := opened(t, gram)
	v := b.voucher(2 * gram)
	b.notAccepted(ClaimExternal(v))
	deposit := b.balance()
	tx := b.send(payee, Claim(v, GasValue))
	b.want(tx, 0)
	if got := b.state().Paid; got != deposit-Reserve || b.balance() != Reserve {
		t.Fatalf("paid %d of %d", got, deposit)
	}
	b.refused(b.send(payee, Claim(v, GasValue)), ExitFunds)
	b.want(b.send(client, TopUp(b.addr(), 3*gram)), 0)
	b.want(b.send(payee, Claim(v, GasValue)), 0)
	if got := b.state().Paid; got != 2*gram {
		t.Fatalf("paid %d", got)
	}
	b.refused(b.send(payee, Claim(v, GasValue)), ExitStale)
}

func TestOldVoucherAfterClose(t *testing.T) {
	after := func(t *testing.T, b *bench) {
		t.Helper()
		b.refused(b.send(payee, Claim(b.voucher(gram*3/2), GasValue)), ExitEnded)
		b.notAccepted(ClaimExternal(b.voucher(gram * 3 / 2)))
		b.refused(b.send(payee, CloseTogether(b.agreement(gram*3/2), GasValue)), ExitEnded)
		b.refused(b.send(client, CloseStart(b.addr(), GasValue)), ExitEnded)
		// Deploying again neither resets the state nor keeps the money.
		kept := b.state()
		b.refused(b.send(payee, Open(b.Params, gram)), ExitEnded)
		if b.state() != kept {
			t.Fatal("the state changed")
		}
		// Money sent so that it cannot bounce still has only one way to go.
		lost := TopUp(b.addr(), gram)
		lost.Bounce = false
		b.send(stranger, lost)
		b.refused(b.send(payee, Claim(b.voucher(gram*3/2), GasValue)), ExitEnded)
		tx := b.send(stranger, CloseFinish(b.addr(), GasValue))
		b.want(tx, 0)
		if len(tx.Out) != 1 || amountTo(tx, client) < gram || b.balance() != 0 {
			t.Fatalf("swept %d", amountTo(tx, client))
		}
	}
	t.Run("alone", func(t *testing.T) {
		b := opened(t, 2*gram)
		b.want(b.send(payee, Claim(b.voucher(gram), GasValue)), 0)
		b.want(b.send(client, CloseStart(b.addr(), GasValue)), 0)
		b.chain.Now += b.CloseDelay
		b.want(b.send(client, CloseFinish(b.addr(), GasValue)), 0)
		after(t, b)
	})
	t.Run("together", func(t *testing.T) {
		b := opened(t, 2*gram)
		b.want(b.send(payee, CloseTogether(b.agreement(gram), GasValue)), 0)
		after(t, b)
	})
	t.Run("expired", func(t *testing.T) {
		b := opened(t, 2*gram)
		b.chain.Now = b.ExpiresAt
		after(t, b)
	})
}

func TestEarlyFinish(t *testing.T) {
	b := opened(t, gram)
	for _, who := range []Address{client, payee, stranger} {
		b.refused(b.send(who, CloseFinish(b.addr(), GasValue)), ExitNotEnded)
	}
	b.want(b.send(client, CloseStart(b.addr(), GasValue)), 0)
	b.chain.Now += b.CloseDelay - 1
	b.refused(b.send(client, CloseFinish(b.addr(), GasValue)), ExitNotEnded)
	b.chain.Now++
	b.want(b.send(client, CloseFinish(b.addr(), GasValue)), 0)
}

func TestCloseStartRefusals(t *testing.T) {
	b := opened(t, gram)
	b.refused(b.send(payee, CloseStart(b.addr(), GasValue)), ExitSender)
	b.refused(b.send(stranger, CloseStart(b.addr(), GasValue)), ExitSender)
	b.want(b.send(client, CloseStart(b.addr(), GasValue)), 0)
	b.chain.Now += 60 // a second request must not postpone the first
	b.refused(b.send(client, CloseStart(b.addr(), GasValue)), ExitClosing)
}

// Near its expiry a channel closes no later for being asked to close.
func TestCloseStartNearExpiry(t *testing.T) {
	b := opened(t, gram)
	b.chain.Now = b.ExpiresAt - b.CloseDelay
	b.refused(b.send(client, CloseStart(b.addr(), GasValue)), ExitClosing)
	b = opened(t, gram)
	b.chain.Now = b.ExpiresAt - b.CloseDelay - 1
	b.want(b.send(client, CloseStart(b.addr(), GasValue)), 0)
}

// Whoever disappears, and even if both do, the money is out after the expiry without any key.
func TestAbandoned(t *testing.T) {
	b := opened(t, gram)
	b.chain.Now = b.ExpiresAt - 1
	b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0) // the client is gone, the payee is not
	b.refused(b.send(stranger, CloseFinish(b.addr(), GasValue)), ExitNotEnded)
	b.chain.Now = b.ExpiresAt
	deposit := b.balance()
	tx := b.send(stranger, CloseFinish(b.addr(), GasValue))
	b.want(tx, 0)
	b.only(tx, client, deposit+GasValue-b.fees(tx))
}

func TestTopUpDuringClose(t *testing.T) {
	b := opened(t, gram)
	b.want(b.send(client, CloseStart(b.addr(), GasValue)), 0)
	b.want(b.send(stranger, TopUp(b.addr(), gram)), 0)
	if s := b.state(); s.CloseAt != start+b.CloseDelay {
		t.Fatal("a top-up moved the deadline")
	}
	b.want(b.send(payee, Claim(b.voucher(gram*3/2), GasValue)), 0) // up to what was signed, and no further
	b.chain.Now += b.CloseDelay
	b.refused(b.send(stranger, TopUp(b.addr(), gram)), ExitEnded)
	deposit := b.balance()
	tx := b.send(client, CloseFinish(b.addr(), GasValue))
	b.want(tx, 0)
	b.only(tx, client, deposit+GasValue-b.fees(tx))
}

// Whatever a message brings for gas, it succeeds as a whole or changes nothing, and the deposit pays for neither.
func TestTooLittleGas(t *testing.T) {
	for name, message := range map[string]func(*bench, uint64) *tlb.InternalMessage{
		"claim":    func(b *bench, value uint64) *tlb.InternalMessage { return Claim(b.voucher(gram/2), value) },
		"dust":     func(b *bench, value uint64) *tlb.InternalMessage { return Claim(b.voucher(1), value) },
		"together": func(b *bench, value uint64) *tlb.InternalMessage { return CloseTogether(b.agreement(0), value) },
	} {
		t.Run(name, func(t *testing.T) {
			refused, paid := 0, 0
			for value := uint64(0); value <= 3_600_000; value += 100_000 {
				b := opened(t, gram)
				before, was := b.state(), b.balance()
				tx := b.send(payee, message(b, value))
				switch {
				case tx.Success:
					paid++
					if name == "together" {
						if b.balance() != 0 || amountTo(tx, client) != was-400_000 {
							t.Fatalf("value %d: client got %d of %d", value, amountTo(tx, client), was)
						}
					} else if due := b.state().Paid; b.balance() != was-due {
						t.Fatalf("value %d: the deposit paid %d for a claim of %d", value, was-b.balance(), due)
					}
				case b.state() != before:
					t.Fatalf("value %d: failed and changed the state", value)
				case b.balance() < was:
					t.Fatalf("value %d: failed and cost the deposit %d", value, was-b.balance())
				default:
					refused++
				}
			}
			if refused == 0 || paid == 0 {
				t.Fatalf("refused %d, paid %d: want both", refused, paid)
			}
		})
	}
}

// A bounced message says nothing, whatever its body looks like.
func TestBouncedMessages(t *testing.T) {
	b := opened(t, gram)
	before, was := b.state(), b.balance()
	for _, m := range []*tlb.InternalMessage{
		Claim(b.voucher(gram/2), GasValue), CloseStart(b.addr(), GasValue), CloseTogether(b.agreement(0), GasValue), TopUp(b.addr(), GasValue),
	} {
		for _, from := range []Address{client, payee, stranger} {
			m.Bounced, m.Bounce = true, false
			tx := b.send(from, m)
			b.want(tx, 0)
			if b.state() != before || len(tx.Out) != 0 || b.balance() < was {
				t.Fatal("a bounced message had an effect")
			}
			was = b.balance()
		}
	}
}

// What the channel sends cannot come back, even from an account that refuses it.
func TestPayoutsDoNotBounce(t *testing.T) {
	b := opened(t, gram)
	claimed := b.send(payee, Claim(b.voucher(gram/4), GasValue))
	gasless, err := b.sendExternal(ClaimExternal(b.voucher(gram / 2)))
	if err != nil {
		t.Fatal(err)
	}
	b.chain.Now = b.ExpiresAt
	finished := b.send(payee, CloseFinish(b.addr(), GasValue))
	b = opened(t, gram)
	together := b.send(payee, CloseTogether(b.agreement(gram/2), GasValue))
	for name, c := range map[string]struct {
		tx  emulator.Tx
		out int
	}{"claim": {claimed, 1}, "claim-external": {gasless, 1}, "close-finish": {finished, 1}, "close-together": {together, 2}} {
		if len(c.tx.Out) != c.out {
			t.Errorf("%s: %d messages out, want %d", name, len(c.tx.Out), c.out)
		}
		for _, m := range c.tx.Out {
			if m.Bounce {
				t.Errorf("%s: a payout asks to bounce", name)
			}
		}
	}
}

// Anyone may deploy the channel, with any message, before its client does: only its terms are at its address.
func TestDeploymentSquatting(t *testing.T) {
	open := func(b *bench, m *tlb.InternalMessage) *tlb.InternalMessage {
		m.StateInit = b.Params.StateInit()
		return m
	}
	for name, squat := range map[string]func(*bench) *tlb.InternalMessage{
		"with dust":     func(b *bench) *tlb.InternalMessage { return Open(b.Params, 1_000_000) },
		"with a claim":  func(b *bench) *tlb.InternalMessage { return open(b, Claim(b.voucher(gram/2), GasValue)) },
		"with a start":  func(b *bench) *tlb.InternalMessage { return open(b, CloseStart(b.addr(), GasValue)) },
		"with a finish": func(b *bench) *tlb.InternalMessage { return open(b, CloseFinish(b.addr(), GasValue)) },
		"with an end":   func(b *bench) *tlb.InternalMessage { return open(b, CloseTogether(b.agreement(0), GasValue)) },
		"with no money": func(b *bench) *tlb.InternalMessage { return Open(b.Params, 0) },
		"with other terms": func(b *bench) *tlb.InternalMessage {
			m := Open(b.Params, GasValue)
			other := b.Params
			other.Payee = stranger
			m.StateInit = other.StateInit()
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.send(stranger, squat(b))
			b.want(b.send(client, Open(b.Params, gram)), 0)
			if s := b.state(); s != (State{Params: b.Params, CloseAt: b.ExpiresAt}) {
				t.Fatalf("state %+v", s)
			}
			b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0)
			if _, err := b.load(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// An external claim is accepted in its one cheapest form or not at all: padding would be paid for by somebody else.
func TestOversizedAndExoticExternals(t *testing.T) {
	b := opened(t, gram)
	v := b.voucher(gram / 2)
	good := ClaimExternal(v)
	head := cell.BeginCell().MustStoreSlice(v.Head[:], 256)
	body := func(head *cell.Cell) *cell.Builder {
		return cell.BeginCell().MustStoreSlice(v.Signature[:], 512).MustStoreCoins(v.Total).MustStoreRef(head)
	}
	wrap := func(c *cell.Cell) *cell.Cell { return cell.BeginCell().MustStoreRef(c).EndCell() }
	junk := cell.BeginCell().MustStoreSlice(make([]byte, 127), 1016).EndCell()
	library := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(head.EndCell().Hash(), 256)
	exotic, err := library.EndCellSpecial(true)
	if err != nil {
		t.Fatal(err)
	}
	external := func(init, body *cell.Cell, ref bool) *cell.Cell {
		m := cell.BeginCell().MustStoreUInt(0b10, 2).MustStoreUInt(0, 2).MustStoreAddr(b.at).MustStoreCoins(0)
		if init == nil {
			m.MustStoreBoolBit(false)
		} else {
			m.MustStoreUInt(0b11, 2).MustStoreRef(init)
		}
		m.MustStoreBoolBit(ref)
		if ref {
			return m.MustStoreRef(body).EndCell()
		}
		return m.MustStoreBuilder(body.ToBuilder()).EndCell()
	}
	init, err := tlb.ToCell(b.Params.StateInit())
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*cell.Cell{
		"body by reference":     external(nil, good.Body, true),
		"own state init":        external(init, good.Body, false),
		"own init and ref body": external(init, good.Body, true),
		"head with a tail":      external(nil, body(cell.BeginCell().MustStoreSlice(v.Head[:], 256).MustStoreSlice(make([]byte, 64), 512).EndCell()).EndCell(), false),
		"head with a reference": external(nil, body(cell.BeginCell().MustStoreSlice(v.Head[:], 256).MustStoreRef(junk).EndCell()).EndCell(), false),
		"second reference":      external(nil, body(head.EndCell()).MustStoreRef(junk).EndCell(), false),
		"trailing bit":          external(nil, body(head.EndCell()).MustStoreUInt(0, 1).EndCell(), false),
		"no head":               external(nil, cell.BeginCell().MustStoreSlice(v.Signature[:], 512).MustStoreCoins(v.Total).EndCell(), false),
		"short head":            external(nil, body(cell.BeginCell().MustStoreSlice(v.Head[:], 255).EndCell()).EndCell(), false),
		"deep head":             external(nil, body(wrap(head.EndCell())).EndCell(), false),
		"library head":          external(nil, body(exotic).EndCell(), false),
		"exotic body":           external(nil, exotic, true),
		"empty":                 external(nil, empty, false),
		"junk":                  external(nil, junk, true),
	} {
		was := b.balance()
		if _, err := b.chain.SendCell(m); !errors.Is(err, emulator.ErrNotAccepted) {
			t.Errorf("%s: %v", name, err)
		}
		if b.balance() != was {
			t.Errorf("%s: cost the deposit %d", name, was-b.balance())
		}
	}
	root, err := tlb.ToCell(good)
	if err != nil {
		t.Fatal(err)
	}
	if same := external(nil, good.Body, false); same.HashKey() != root.HashKey() {
		t.Fatal("this test does not build what the package builds")
	}
	// A source address and an import fee of the sender's invention cost nothing, so they need no refusal.
	padded := cell.BeginCell().MustStoreUInt(0b10, 2).MustStoreUInt(0b01, 2).MustStoreUInt(64, 9).MustStoreUInt(1, 64).MustStoreAddr(b.at).
		MustStoreCoins(1<<63).MustStoreUInt(0, 2).
		MustStoreSlice(v.Signature[:], 512).MustStoreCoins(v.Total).MustStoreRef(head.EndCell())
	if padded.BitsUsed() > 1023 {
		t.Fatalf("%d bits", padded.BitsUsed())
	}
	was := b.balance()
	txs, err := b.chain.SendCell(padded.EndCell())
	if err != nil || len(txs) != 1 || !txs[0].Success {
		t.Fatalf("%v %v", txs, err)
	}
	if b.balance() != was-gram/2+slack {
		t.Fatalf("the deposit paid %d", was-b.balance())
	}
}

// The body of an internal message may be anything: its sender pays for it, and it changes nothing.
func TestOversizedAndExoticInternals(t *testing.T) {
	b := opened(t, gram)
	deep := empty
	for range 200 {
		deep = cell.BeginCell().MustStoreSlice(make([]byte, 64), 500).MustStoreRef(deep).EndCell()
	}
	library, err := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(deep.Hash(), 256).EndCellSpecial(true)
	if err != nil {
		t.Fatal(err)
	}
	cut := Claim(b.voucher(gram/2), 0).Body
	for name, body := range map[string]*cell.Cell{
		"unknown operation": opBody(0x42584300),
		"comment":           cell.BeginCell().MustStoreUInt(0, 32).MustStoreSlice([]byte("hello"), 40).EndCell(),
		"one bit":           cell.BeginCell().MustStoreUInt(1, 1).EndCell(),
		"deep":              deep,
		"library":           library,
		"cut claim":         cell.BeginCell().MustStoreSlice(cut.MustBeginParse().MustLoadSlice(500), 500).EndCell(),
	} {
		before, was := b.state(), b.balance()
		tx := b.send(stranger, internal(b.addr(), GasValue, body))
		if tx.Success || b.state() != before || b.balance() != was || amountTo(tx, stranger) == 0 {
			t.Errorf("%s: success %v, exit code %d, deposit %d to %d, returned %d", name, tx.Success, tx.ExitCode, was, b.balance(), amountTo(tx, stranger))
		}
	}
}

// Accepted once, an external claim is never accepted again, and refusals are free: nobody can grind the deposit down.
func TestExternalClaimsCannotDrain(t *testing.T) {
	b := opened(t, 2*gram)
	b.notAccepted(ClaimExternal(b.voucher(MinExternalClaim)))                  // below the minimum after import
	b.notAccepted(ClaimExternal(b.voucher(MinExternalClaim + importFee - 1)))  // by a nanogram
	b.notAccepted(ClaimExternal(b.voucher(2 * gram)))                          // above the deposit
	b.notAccepted(ClaimExternal(b.voucher(b.balance() - Reserve + slack + 1))) // into the reserve
	deposit := b.balance()
	total := uint64(0)
	for i := uint64(1); i <= 10; i++ {
		total += MinExternalClaim + importFee // the least that is accepted
		m := ClaimExternal(b.voucher(total))
		tx, err := b.sendExternal(m)
		if err != nil {
			t.Fatal(err)
		}
		b.want(tx, 0)
		if b.balance() != deposit-total+i*slack {
			t.Fatalf("%d claims over %d took %d", i, total, deposit-b.balance())
		}
		for range 3 {
			b.notAccepted(m)
		}
	}
}

func TestMalleableSignatureOnChain(t *testing.T) {
	b := opened(t, gram)
	v := b.voucher(gram / 2)
	v.Signature = addOrder(v.Signature)
	b.refused(b.send(payee, Claim(v, GasValue)), ExitSignature)
	b.notAccepted(ClaimExternal(v))
	// Any valid signature over a voucher is as good as any other: none of them pays twice.
	b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0)
	b.refused(b.send(payee, Claim(b.voucher(gram/2), GasValue)), ExitStale)
}

// After decades without rent the account is frozen. Its last state, which everyone can reconstruct, revives it, and the
// client is paid; nothing else revives it, so vouchers do not come back to life.
func TestFrozenAccount(t *testing.T) {
	b := opened(t, gram)
	b.want(b.send(payee, Claim(b.voucher(2*gram), GasValue)), 0)
	if b.balance() != Reserve {
		t.Fatalf("%d left", b.balance())
	}
	last := b.state()
	b.chain.Now += 25 * 365 * 24 * 3600
	poke := TopUp(b.addr(), 1_000_000)
	b.send(stranger, poke)
	if acc := b.chain.Account(b.at); acc.Status != tlb.AccountStatusFrozen {
		t.Fatalf("status %v, balance %d: not frozen", acc.Status, b.balance())
	}
	if _, err := b.load(); !errors.Is(err, ErrFrozen) {
		t.Fatalf("a frozen account reads as %v", err)
	}
	again := Open(b.Params, gram) // the original state init is not its state any more
	tx := b.send(payee, again)
	if tx.Success || amountTo(tx, payee) == 0 || b.chain.Account(b.at).Status != tlb.AccountStatusFrozen {
		t.Fatal("revived with the state of its deployment")
	}
	revive := CloseFinish(b.addr(), gram)
	revive.StateInit = last.StateInit()
	tx = b.send(stranger, revive)
	b.want(tx, 0)
	if len(tx.Out) != 1 || amountTo(tx, client) == 0 || b.balance() != 0 {
		t.Fatalf("client got %d, %d left", amountTo(tx, client), b.balance())
	}
	if b.state() != last {
		t.Fatal("revived with another state")
	}
}

// The reserve pays the rent of a channel claimed to the last nanogram for three years.
func TestReserveCoversRent(t *testing.T) {
	b := opened(t, gram)
	b.want(b.send(payee, Claim(b.voucher(2*gram), GasValue)), 0)
	b.chain.Now = start + 3*365*24*3600
	tx := b.send(stranger, CloseFinish(b.addr(), GasValue))
	b.want(tx, 0)
	if tx.Storage == 0 || tx.Storage > Reserve {
		t.Fatalf("three years of rent are %d, the reserve is %d", tx.Storage, Reserve)
	}
}

// An external message to an account that is not deployed yet, or is deployed by it, changes nothing.
func TestExternalCannotDeploy(t *testing.T) {
	b := newBench(t)
	if err := b.chain.Track(b.at); err != nil {
		t.Fatal(err)
	}
	early := TopUp(b.addr(), gram)
	early.Bounce = false
	b.send(client, early) // money before the state init
	m := ClaimExternal(b.voucher(gram / 2))
	b.notAccepted(m)
	m.StateInit = b.Params.StateInit()
	b.notAccepted(m)
	b.want(b.send(client, Open(b.Params, gram)), 0)
	if b.balance() < gram*3/2 {
		t.Fatalf("balance %d", b.balance())
	}
}

// refused checks that a message was refused with code, that nothing changed, and that the rest of its value went back.
func (b *bench) refused(tx emulator.Tx, code ExitCode) {
	b.Helper()
	b.want(tx, code)
	if len(tx.Out) != 1 || !tx.Out[0].Bounced {
		b.Fatalf("exit code %d, but nothing bounced", tx.ExitCode)
	}
}

func (b *bench) notAccepted(m *tlb.ExternalMessage) {
	b.Helper()
	was := b.balance()
	if _, err := b.sendExternal(m); !errors.Is(err, emulator.ErrNotAccepted) {
		b.Fatalf("external message: %v", err)
	}
	if b.balance() != was {
		b.Fatal("a refused external message cost the deposit")
	}
}

func (b *bench) addr() Address { return b.Params.Address() }

func (b *bench) balance() uint64 { return b.chain.Balance(b.at) }

// fees are all that a transaction and the delivery of its messages cost.
func (b *bench) fees(tx emulator.Tx) uint64 { return tx.Fees + tx.Forward }

// only checks that a transaction sent one message, to to, with amount.
func (b *bench) only(tx emulator.Tx, to Address, amount uint64) {
	b.Helper()
	if len(tx.Out) != 1 || !sameAddress(tx.Out[0].DstAddr, to) || tx.Out[0].Amount.Nano().Uint64() != amount {
		b.Fatalf("sent %d messages, %d to %s, want %d", len(tx.Out), amountTo(tx, to), to, amount)
	}
}

func amountTo(tx emulator.Tx, to Address) (sum uint64) {
	for _, m := range tx.Out {
		if sameAddress(m.DstAddr, to) {
			sum += m.Amount.Nano().Uint64()
		}
	}
	return sum
}

func sameAddress(a *address.Address, b Address) bool {
	got, err := AddressOf(a)
	return err == nil && got == b
}
