package registry

import (
	"errors"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/bombyx-network/bombyx/internal/ton/channel/emulator"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"pgregory.net/rapid"
)

// TestModel runs random sequences of messages from the owner and from strangers, in any order and at any time, against the contract
// in the TVM and against the few lines of Go below that say what it should do. BOMBYX_REGISTRY_SEQUENCES sets their number; 300 by
// default.
func TestModel(t *testing.T) {
	n := os.Getenv("BOMBYX_REGISTRY_SEQUENCES")
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

// model is what the state should be.
type model struct {
	*bench
	rt                 *rapid.T
	records, announced map[[32]byte]Entry
	seqno              uint32
	history            [32]byte
	txs                []*tlb.Transaction
}

func sequence(rt *rapid.T) {
	chain, err := emulator.New(-239, start)
	if err != nil {
		rt.Fatal(err)
	}
	if err = chain.RecordTo(os.Getenv("BOMBYX_CONTRACT_RECORD"), "TestModel"); err != nil {
		rt.Fatal(err)
	}
	b := &bench{tb: rt, chain: chain, Params: Params{Owner: owner, Delay: rapid.SampledFrom([]uint32{0, 60, 7 * day}).Draw(rt, "delay"), Salt: 1}}
	if b.at, err = b.Params.Address(); err != nil {
		rt.Fatal(err)
	}
	m := &model{bench: b, rt: rt, records: map[[32]byte]Entry{}, announced: map[[32]byte]Entry{}}
	open, err := Open(b.Params, rapid.SampledFrom([]uint64{50_000_000, gram}).Draw(rt, "rent"))
	if err != nil {
		rt.Fatal(err)
	}
	m.does(rapid.SampledFrom([]*address.Address{owner, stranger}).Draw(rt, "opener"), open, 0, nil)
	for range rapid.IntRange(1, 25).Draw(rt, "length") {
		m.step()
	}
	// The owner can always have the money back, to the last nanogram that the network does not take.
	had := m.chain.Balance(m.at)
	tx := m.send(owner, Reclaim(m.at, 0, GasValue))
	if !tx.Success || m.chain.Balance(m.at) != 0 || len(tx.Out) != 1 || tx.Out[0].Amount.Nano().Uint64()+tx.Fees+tx.Forward != had+GasValue {
		rt.Fatalf("no way out: exit code %d, %d of %d left", tx.ExitCode, m.chain.Balance(m.at), had)
	}
	m.keep(tx)
	// Whoever follows the transactions learns everything that happened, and ends where the contract is.
	r := m.read()
	steps, err := r.replay(m.txs)
	if err != nil {
		rt.Fatal(err)
	}
	changes := uint32(0)
	for _, s := range steps {
		if s.Seqno != 0 {
			changes++
			if s.Seqno != changes {
				rt.Fatalf("change %d is numbered %d", changes, s.Seqno)
			}
		}
	}
	if changes != m.seqno {
		rt.Fatalf("%d changes in the history, want %d", changes, m.seqno)
	}
	// One change left out, and it no longer adds up.
	for i, tx := range m.txs {
		if op, _ := request(tx); op == opApply {
			if _, err := r.replay(slices.Delete(slices.Clone(m.txs), i, i+1)); !errors.Is(err, ErrHistory) {
				rt.Fatalf("a history without a change: %v", err)
			}
		}
	}
}

func (m *model) keep(tx emulator.Tx) {
	var parsed tlb.Transaction
	if err := tlb.Parse(&parsed, tx.Cell); err != nil {
		m.rt.Fatal(err)
	}
	m.txs = append(m.txs, &parsed)
}

func (m *model) step() {
	rt := m.rt
	who := rapid.SampledFrom([]*address.Address{owner, owner, stranger}).Draw(rt, "who")
	value := rapid.SampledFrom([]uint64{0, 1_000_000, GasValue, GasValue, GasValue}).Draw(rt, "value")
	rec := record(rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "version"))
	key := rec.Key()
	sender := func(code ExitCode) ExitCode {
		if who != owner {
			return ExitSender
		}
		return code
	}
	code := ExitCode(0)
	switch rapid.IntRange(0, 9).Draw(rt, "action") {
	case 0, 1:
		rec.Document = []byte(rapid.StringN(0, 300, 300).Draw(rt, "document"))
		rec.Status = Status(rapid.IntRange(1, 3).Draw(rt, "status"))
		msg, err := Announce(m.at, rec, value)
		if err != nil {
			rt.Fatal(err)
		}
		content, err := rec.Cell()
		if err != nil {
			rt.Fatal(err)
		}
		m.does(who, msg, sender(0), func() { m.announced[key] = Entry{m.chain.Now + m.Delay, content} })
	case 2, 3, 4: // anyone
		e, ok := m.announced[key]
		switch {
		case !ok:
			code = ExitUnknown
		case m.chain.Now < e.At:
			code = ExitEarly
		}
		m.does(who, Apply(m.at, key, value), code, func() {
			delete(m.announced, key)
			m.records[key] = Entry{m.chain.Now, e.Content}
			m.change(key, e.Content.HashKey())
		})
	case 5:
		if _, ok := m.announced[key]; !ok {
			code = ExitUnknown
		}
		m.does(who, Cancel(m.at, key, value), sender(code), func() { delete(m.announced, key) })
	case 6:
		_, announced := m.announced[key]
		e, recorded := m.records[key]
		switch {
		case !announced && !recorded:
			code = ExitUnknown
		case recorded:
			if rec, err := ParseRecord(e.Content); err != nil {
				rt.Fatal(err)
			} else if rec.Status == Revoked {
				code = ExitRevoked
			}
		}
		m.does(who, Withdraw(m.at, key, value), sender(code), func() {
			delete(m.announced, key)
			if delete(m.records, key); recorded {
				m.change(key, [32]byte{})
			}
		})
	case 7:
		m.does(who, Reclaim(m.at, rapid.Uint64Range(0, 2*gram).Draw(rt, "keep"), value), sender(0), nil)
	case 8: // rent, nonsense, and messages that pretend to have bounced
		body := cell.BeginCell()
		if rapid.Bool().Draw(rt, "operation") {
			body.MustStoreUInt(rapid.Uint64Range(0, 1<<32-1).Draw(rt, "op"), 32)
			code = 63
		}
		msg := message(m.at, value, body.EndCell())
		if msg.Bounced = rapid.Bool().Draw(rt, "bounced"); msg.Bounced {
			msg.Bounce, code = false, 0
		}
		m.does(who, msg, code, nil)
	case 9:
		step := rapid.SampledFrom([]uint32{1, 59, 60, m.Delay, 30 * day}).Draw(rt, "time")
		for _, e := range m.announced { // to the edge of a wait
			if e.At > m.chain.Now && rapid.Bool().Draw(rt, "edge") {
				step = e.At - m.chain.Now - uint32(rapid.IntRange(0, 1).Draw(rt, "before"))
				break
			}
		}
		m.chain.Now += step
	}
}

func (m *model) change(key, content [32]byte) {
	m.seqno++
	m.history = Change{Previous: m.history, Seqno: m.seqno, At: m.chain.Now, Key: key, Content: content}.Hash()
}

// does sends a message and checks what the contract makes of it. With too little value for gas it may also do nothing.
func (m *model) does(who *address.Address, msg *tlb.InternalMessage, code ExitCode, effect func()) {
	m.rt.Helper()
	before, value := m.chain.Balance(m.at), msg.Amount.Nano().Uint64()
	tx := m.send(who, msg) // checks that all money is accounted for, and that it goes to nobody but the sender
	m.keep(tx)
	rent := min(tx.Storage, before+value)
	enough := value >= GasValue && rent <= before
	reclaim := false
	if op, _ := request(m.txs[len(m.txs)-1]); op == opReclaim {
		reclaim = true
	}
	switch {
	case code != 0 && tx.Success:
		m.rt.Fatalf("success, want exit code %d", code)
	case enough && (tx.ExitCode != int64(code) || tx.Success != (code == 0)):
		m.rt.Fatalf("exit code %d, success %v, want %d", tx.ExitCode, tx.Success, code)
	}
	if has := m.chain.Balance(m.at); !reclaim && has+rent < before {
		m.rt.Fatalf("a message cost the registry %d of its rent", before-rent-has)
	}
	if tx.Success && effect != nil {
		effect()
	}
	if m.chain.Account(m.at).Status != tlb.AccountStatusActive {
		if tx.Success {
			m.rt.Fatal("success without a contract")
		}
		return
	}
	r := m.read()
	if r.Seqno != m.seqno || r.History != m.history || !same(r.Records, m.records) || !same(r.Announced, m.announced) {
		m.rt.Fatalf("seqno %d, %d records, %d announced; want %d, %d, %d", r.Seqno, len(r.Records), len(r.Announced), m.seqno, len(m.records), len(m.announced))
	}
}
