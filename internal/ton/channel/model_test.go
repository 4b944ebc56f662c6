package channel

import (
	"crypto/ed25519"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/bombyx-network/bombyx/internal/ton/channel/emulator"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"pgregory.net/rapid"
)

// enough is a value with which no message can fail for want of gas.
const enough = 5_000_000

// TestModel runs random sequences of honest and hostile messages against the contract in the TVM and against the few lines of
// Go below that say what it should do. BOMBYX_CHANNEL_SEQUENCES sets their number; 300 by default.
func TestModel(t *testing.T) {
	n := os.Getenv("BOMBYX_CHANNEL_SEQUENCES")
	if n == "" {
		n = "300"
	}
	was := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", n); err != nil {
		t.Fatal(err)
	}
	defer flag.Set("rapid.checks", was)
	rapid.Check(t, sequence)
}

// model is what the parties know: what was signed, and what the state should be.
type model struct {
	*bench
	rt       *rapid.T
	vouchers []SignedVoucher
	agreed   []SignedAgreement
	state    State
	promised uint64 // highest total that the client signed, in a voucher or in an agreement that was used
	received uint64 // by the payee
	brought  uint64 // value of messages that paid the payee
}

func sequence(rt *rapid.T) {
	b := newBench(rt)
	b.Params.CloseDelay = rapid.Uint32Range(MinCloseDelay, MaxCloseDelay).Draw(rt, "close delay")
	b.Params.ExpiresAt = start + rapid.Uint32Range(0, 60*24*3600).Draw(rt, "lifetime")
	b.at = b.addr().Std()
	if err := b.chain.Track(b.at); err != nil {
		rt.Fatal(err)
	}
	m := &model{bench: b, rt: rt, state: State{Params: b.Params, CloseAt: b.ExpiresAt}}
	deposit := rapid.SampledFrom([]uint64{10_000_000, 30_000_000, 100_000_000, gram, 3 * gram}).Draw(rt, "deposit")
	if b.ended() {
		m.expect(stranger, Open(b.Params, deposit), ExitEnded, false)
		return // refused, so there is no contract either
	}
	m.expect(rapid.SampledFrom(parties).Draw(rt, "opener"), Open(b.Params, deposit), 0, true)
	for range rapid.IntRange(1, 20).Draw(rt, "length") {
		m.step()
	}
	m.escape()
}

var parties = []Address{client, payee, stranger}

func (b *bench) ended() bool { return b.chain.Now >= b.ExpiresAt }

func (m *model) step() {
	rt := m.rt
	who := rapid.SampledFrom(parties).Draw(rt, "who")
	value := rapid.SampledFrom([]uint64{0, 500_000, 1_500_000, 2_500_000, enough, GasValue, GasValue}).Draw(rt, "value")
	ended := m.chain.Now >= m.state.CloseAt
	switch rapid.IntRange(0, 13).Draw(rt, "action") {
	case 0: // the client signs, most often for more than before
		total := m.promised + rapid.Uint64Range(0, gram).Draw(rt, "more")
		switch rapid.IntRange(0, 6).Draw(rt, "sum") {
		case 0: // less
			total = rapid.Uint64Range(0, 2*gram).Draw(rt, "total")
		case 1, 2: // about as much as there is
			if b := m.balance(); b > Reserve {
				total = m.state.Paid + b - Reserve + slack + rapid.Uint64Range(0, 2).Draw(rt, "edge") - 1
			}
		}
		v := Voucher{GlobalID: global, Channel: m.addr(), Total: total, Head: named(rapid.StringN(0, 4, 4).Draw(rt, "head"))}.Sign(clientKey)
		m.vouchers = append(m.vouchers, v)
		m.promised = max(m.promised, total)
	case 1, 2, 3: // somebody claims with any voucher there is
		if len(m.vouchers) == 0 {
			return
		}
		v := rapid.SampledFrom(m.vouchers).Draw(rt, "voucher")
		next, rent := m.state, m.rent()
		due := m.state.Claimable(m.balance()-rent, v.Total)
		code := ExitCode(0)
		switch {
		case ended:
			code = ExitEnded
		case v.Total <= m.state.Paid:
			code = ExitStale
		case due == 0:
			code = ExitFunds
		default:
			next.Paid, next.Head = m.state.Paid+due, v.Head
		}
		m.brought += value
		m.expectState(who, Claim(&v, value), outcome{code: code, kind: claims, due: due, certain: value >= enough, next: next})
	case 4, 5: // or without gas of its own
		if len(m.vouchers) == 0 {
			return
		}
		v := rapid.SampledFrom(m.vouchers).Draw(rt, "voucher")
		m.external(&v, ended)
	case 6: // the client signs an agreement; the payee may keep it
		total := rapid.Uint64Range(0, m.promised+gram/10).Draw(rt, "total")
		a := Agreement{GlobalID: global, Channel: m.addr(), Total: total, Head: named("last")}.Sign(clientKey)
		m.agreed = append(m.agreed, a)
	case 7:
		if len(m.agreed) == 0 {
			return
		}
		a := rapid.SampledFrom(m.agreed).Draw(rt, "agreement")
		next, had := m.state, m.balance()-m.rent()
		code, due, rest := ExitCode(0), uint64(0), uint64(0)
		switch {
		case who != payee:
			code = ExitSender
		case ended:
			code = ExitEnded
		case a.Total < m.state.Paid:
			code = ExitStale
		case a.Total-m.state.Paid > had:
			code = ExitFunds
		default:
			due, rest = a.Total-m.state.Paid, had-(a.Total-m.state.Paid)
			next.Paid, next.Head, next.CloseAt = a.Total, a.Head, m.chain.Now
			m.promised = max(m.promised, a.Total) // an agreement binds the client as a voucher would
		}
		m.brought += value
		m.expectState(who, CloseTogether(&a, value), outcome{code: code, kind: ends, due: due, rest: rest, certain: value >= enough, next: next})
	case 8:
		next := m.state
		code := ExitCode(0)
		switch {
		case who != client:
			code = ExitSender
		case ended:
			code = ExitEnded
		case m.chain.Now+m.CloseDelay >= m.state.CloseAt:
			code = ExitClosing
		default:
			next.CloseAt = m.chain.Now + m.CloseDelay
		}
		m.expectState(who, CloseStart(m.addr(), value), outcome{code: code, certain: value >= enough, next: next})
	case 9:
		if !ended {
			m.expect(who, CloseFinish(m.addr(), value), ExitNotEnded, value >= enough)
			return
		}
		m.finish(who, value)
	case 10: // top up, in any way, or deploy again
		t := TopUp(m.addr(), value)
		if rapid.Bool().Draw(rt, "deploy") {
			t = Open(m.Params, value)
		}
		code := ExitCode(0)
		if ended {
			code = ExitEnded
		}
		t.Bounce = rapid.Bool().Draw(rt, "bounce")
		m.expect(who, t, code, value >= enough)
	case 11: // forgeries
		v := Voucher{GlobalID: global, Channel: m.addr(), Total: m.state.Paid + gram/10, Head: named("forged")}
		key := clientKey
		switch rapid.IntRange(0, 3).Draw(rt, "forgery") {
		case 0:
			key = keyOf("somebody else")
		case 1:
			v.GlobalID = -239
		case 2:
			v.Channel[31] ^= 1
		case 3:
			a := Agreement(v).Sign(key)
			m.forged(who, &SignedVoucher{v, a.Signature}, value, ended)
			return
		}
		s := v.Sign(ed25519.PrivateKey(key))
		s.Channel = m.addr()
		m.forged(who, &s, value, ended)
	case 12: // nonsense, and messages that pretend to have bounced
		body := cell.BeginCell().MustStoreUInt(rapid.Uint64Range(0, 1<<32-1).Draw(rt, "operation"), 32).EndCell()
		t := internal(m.addr(), value, body)
		if t.Bounced = rapid.Bool().Draw(rt, "bounced"); t.Bounced {
			t.Bounce = false
			m.expect(who, t, 0, value >= enough)
			return
		}
		m.expect(who, t, 63, value >= enough)
	case 13:
		step := rapid.SampledFrom([]uint32{1, 59, m.CloseDelay - 1, m.CloseDelay, 24 * 3600, 31 * 24 * 3600}).Draw(rt, "time")
		if d := m.state.CloseAt; d > m.chain.Now && rapid.Bool().Draw(rt, "to the deadline") {
			step = d - m.chain.Now - uint32(rapid.IntRange(0, 1).Draw(rt, "before"))
		}
		m.chain.Now += step
	}
}

// rent is what the next transaction will collect for storage, which the model takes from a copy of the chain's own rules: it asks
// the emulator what an empty message would be charged.
func (m *model) rent() uint64 {
	due, err := m.chain.Rent(m.at)
	if err != nil {
		m.rt.Fatal(err)
	}
	return min(due, m.balance())
}

func (m *model) forged(who Address, v *SignedVoucher, value uint64, ended bool) {
	code := ExitSignature
	if ended {
		code = ExitEnded
	}
	m.expect(who, Claim(v, value), code, value >= enough)
	if _, err := m.sendExternal(ClaimExternal(v)); !errors.Is(err, emulator.ErrNotAccepted) {
		m.rt.Fatalf("forged external claim: %v", err)
	}
}

// What a message that is not refused does with money.
const (
	stays  = iota // what the fees leave of its value joins the deposit
	claims        // the deposit pays the payee due
	ends          // the deposit pays the payee due and the client rest
)

type outcome struct {
	code      ExitCode // 0 for success
	kind      int
	due, rest uint64
	certain   bool // the value pays for the gas; otherwise the message may also do nothing
	next      State
}

func (m *model) expect(who Address, msg *tlb.InternalMessage, code ExitCode, certain bool) {
	m.expectState(who, msg, outcome{code: code, certain: certain, next: m.state})
}

// expectState sends a message and checks what the contract makes of it, to the nanogram. It reports whether the contract did it.
func (m *model) expectState(who Address, msg *tlb.InternalMessage, want outcome) bool {
	value, before := msg.Amount.Nano().Uint64(), m.balance()
	fresh := m.chain.Account(m.at).Status != tlb.AccountStatusActive
	tx := m.send(who, msg)
	kept := before - min(tx.Storage, before)
	if want.code != 0 && tx.Success {
		m.rt.Fatalf("success, want exit code %d", want.code)
	}
	if want.certain && (tx.ExitCode != int64(want.code) || tx.Success != (want.code == 0)) {
		m.rt.Fatalf("exit code %d, success %v, want %d", tx.ExitCode, tx.Success, want.code)
	}
	if !tx.Success {
		if !fresh && m.bench.state() != m.state {
			m.rt.Fatalf("a refused message changed the state from %+v to %+v", m.state, m.bench.state())
		}
		if m.balance() < kept {
			m.rt.Fatalf("a refused message cost the deposit %d", kept-m.balance())
		}
		return false
	}
	m.state = want.next
	if got := m.bench.state(); got != m.state {
		m.rt.Fatalf("state %+v, want %+v", got, m.state)
	}
	toPayee, toClient := amountTo(tx, payee), amountTo(tx, client)
	costs := tx.Fees - (before - kept) + tx.Forward // of the message; rent is the deposit's
	m.received += toPayee
	switch want.kind {
	case stays:
		if len(tx.Out) != 0 || m.balance() != kept+value-costs {
			m.rt.Fatalf("%d messages out, deposit %d, want %d", len(tx.Out), m.balance(), kept+value-costs)
		}
	case claims:
		if toPayee != want.due+value-costs || m.balance() != kept-want.due {
			m.rt.Fatalf("payee got %d, want %d; deposit %d, want %d", toPayee, want.due+value-costs, m.balance(), kept-want.due)
		}
	case ends: // each side's message pays for its own delivery
		const forward = 400_000
		if want.rest >= forward {
			if toClient != want.rest-forward || toPayee != want.due+value-(costs-forward) || m.balance() != 0 {
				m.rt.Fatalf("client got %d of %d, payee %d of %d, %d left", toClient, want.rest, toPayee, want.due, m.balance())
			}
		} else if toClient != 0 || m.balance() != want.rest || toPayee != want.due+value-costs {
			m.rt.Fatalf("client got %d, payee %d of %d, %d left of %d", toClient, toPayee, want.due, m.balance(), want.rest)
		}
	}
	m.bounds()
	return true
}

func (m *model) external(v *SignedVoucher, ended bool) {
	before := m.balance()
	tx, err := m.sendExternal(ClaimExternal(v))
	owed := uint64(0)
	if v.Total > m.state.Paid {
		owed = v.Total - m.state.Paid
	}
	kept := before - min(tx.Storage, before)
	payable := !ended && owed >= MinExternalClaim+importFee && kept+slack >= owed+Reserve
	if err != nil {
		if !errors.Is(err, emulator.ErrNotAccepted) {
			m.rt.Fatal(err)
		}
		if m.balance() != before {
			m.rt.Fatal("a refused external message cost the deposit")
		}
		if payable && m.balance()-m.rent()+slack >= owed+Reserve {
			m.rt.Fatalf("external claim of %d refused: %v", owed, err)
		}
		return
	}
	if !payable {
		m.rt.Fatalf("external claim of %d accepted", owed)
	}
	m.state.Paid, m.state.Head = v.Total, v.Head
	if got := m.bench.state(); got != m.state {
		m.rt.Fatalf("state %+v, want %+v", got, m.state)
	}
	got := amountTo(tx, payee)
	if want := owed - slack - (tx.Fees - tx.Storage + tx.Forward); got != want || m.balance() != kept-owed+slack {
		m.rt.Fatalf("payee got %d, want %d; deposit %d, want %d", got, want, m.balance(), kept-owed+slack)
	}
	m.received += got
	m.bounds()
}

func (m *model) finish(who Address, value uint64) {
	before := m.balance()
	tx := m.send(who, CloseFinish(m.addr(), value))
	if !tx.Success {
		if value >= enough && before > 0 {
			m.rt.Fatalf("finish failed with exit code %d", tx.ExitCode)
		}
		return
	}
	if len(tx.Out) != 1 || amountTo(tx, client) != before+value-m.fees(tx) || m.balance() != 0 {
		m.rt.Fatalf("client got %d of %d", amountTo(tx, client), before)
	}
	m.bounds()
}

// bounds holds at any time: the payee never has more than was signed, but for the value that messages brought it.
func (m *model) bounds() {
	m.rt.Helper()
	if m.state.Paid > m.promised {
		m.rt.Fatalf("paid %d, signed for %d", m.state.Paid, m.promised)
	}
	if m.received > m.state.Paid+m.brought {
		m.rt.Fatalf("payee received %d for %d signed and %d brought", m.received, m.state.Paid, m.brought)
	}
}

// escape shows that from any state the rest reaches the client without anybody's key.
func (m *model) escape() {
	m.chain.Now = max(m.chain.Now, m.state.CloseAt)
	before := m.balance()
	tx := m.send(stranger, CloseFinish(m.addr(), GasValue))
	if !tx.Success || m.balance() != 0 || len(tx.Out) != 1 || amountTo(tx, client) != before+GasValue-m.fees(tx) {
		m.rt.Fatalf("no way out: exit code %d, %d of %d left", tx.ExitCode, m.balance(), before)
	}
}
