package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel/emulator"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"pgregory.net/rapid"
)

const (
	gram  = 1_000_000_000
	start = 1_800_000_000
	day   = 24 * 3600
)

func account(name string) *address.Address {
	h := sha256.Sum256([]byte(name))
	return address.NewAddress(0, 0, h[:])
}

var owner, stranger = account("owner"), account("stranger")

// tb is what *testing.T and *rapid.T have in common, as far as it is used here.
type tb interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

type bench struct {
	tb
	chain *emulator.Chain
	Params
	at *address.Address
}

func opened(t *testing.T) *bench {
	t.Helper()
	chain, err := emulator.New(-239, start)
	if err != nil {
		t.Fatal(err)
	}
	if err = chain.RecordTo(os.Getenv("BOMBYX_CONTRACT_RECORD"), t.Name()); err != nil {
		t.Fatal(err)
	}
	b := &bench{tb: t, chain: chain, Params: Params{Owner: owner, Delay: 7 * day, Salt: 1}}
	if b.at, err = b.Params.Address(); err != nil {
		t.Fatal(err)
	}
	open, err := Open(b.Params, gram)
	if err != nil {
		t.Fatal(err)
	}
	b.ok(stranger, open)
	return b
}

// send delivers a message and checks that the transaction accounts for every nanogram.
func (b *bench) send(from *address.Address, m *tlb.InternalMessage) emulator.Tx {
	b.Helper()
	m.SrcAddr = from
	had := b.chain.Balance(b.at) + m.Amount.Nano().Uint64()
	txs, err := b.chain.Send(m)
	if err != nil || len(txs) != 1 {
		b.Fatalf("%d transactions, %v", len(txs), err)
	}
	has := b.chain.Balance(b.at) + txs[0].Fees + txs[0].Forward
	for _, o := range txs[0].Out {
		has += o.Amount.Nano().Uint64()
		if !o.DstAddr.Equals(from) {
			b.Fatalf("money to %s", o.DstAddr)
		}
	}
	if has != had {
		b.Fatalf("%d in, %d accounted for", had, has)
	}
	return txs[0]
}

func (b *bench) ok(from *address.Address, m *tlb.InternalMessage) {
	b.Helper()
	if tx := b.send(from, m); !tx.Success {
		b.Fatalf("exit code %d", tx.ExitCode)
	}
}

func (b *bench) refused(from *address.Address, m *tlb.InternalMessage, code ExitCode) {
	b.Helper()
	before := b.chain.Account(b.at).StateInit.Data.HashKey()
	tx := b.send(from, m)
	if tx.Success || tx.ExitCode != int64(code) {
		b.Fatalf("success %v, exit code %d, want %d", tx.Success, tx.ExitCode, code)
	}
	if b.chain.Account(b.at).StateInit.Data.HashKey() != before {
		b.Fatal("a refused message changed the state")
	}
}

// proven is a chain of one proven account.
type proven struct {
	ton.Chain
	account ton.Account
}

func (p proven) Account(context.Context, *address.Address) (*ton.Account, error) {
	return &p.account, nil
}

func (b *bench) account() ton.Account {
	s := b.chain.Account(b.at)
	return ton.Account{Address: b.at, Status: s.Status, Code: s.StateInit.Code, Data: s.StateInit.Data}
}

func (b *bench) read() *Registry {
	b.Helper()
	r, err := Load(context.Background(), proven{account: b.account()}, b.at)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *bench) announce(r *Record) *tlb.InternalMessage {
	b.Helper()
	m, err := Announce(b.at, r, GasValue)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func record(version string) *Record {
	return &Record{
		Kind: Reference, Status: Current, NotBefore: start, NotAfter: start + 365*day, Recipe: sha256.Sum256([]byte("recipe")),
		Name: "enclave", Version: version, Document: []byte(`{"mrtd":"` + strings.Repeat("ab", 48) + `"}`),
	}
}

func TestLife(t *testing.T) {
	b := opened(t)
	one, two := record("1"), record("2")
	b.refused(owner, Apply(b.at, one.Key(), GasValue), ExitUnknown)
	b.ok(owner, b.announce(one))
	b.ok(owner, b.announce(two))
	r := b.read()
	if len(r.Records) != 0 || len(r.Announced) != 2 || r.Announced[one.Key()].At != start+7*day || r.Seqno != 0 {
		t.Fatalf("%+v", r)
	}
	if _, err := r.Lookup(Reference, "enclave", "1", start); !errors.Is(err, ErrNotFound) {
		t.Fatalf("announced, and already in effect: %v", err)
	}

	b.chain.Now = start + 7*day - 1
	b.refused(owner, Apply(b.at, one.Key(), GasValue), ExitEarly)
	b.chain.Now++
	b.ok(stranger, Apply(b.at, one.Key(), GasValue)) // anyone may
	b.refused(owner, Apply(b.at, one.Key(), GasValue), ExitUnknown)
	b.chain.Now += 5
	b.ok(owner, Apply(b.at, two.Key(), GasValue))
	r = b.read()
	got, err := r.Lookup(Reference, "enclave", "1", b.chain.Now)
	if err != nil || got.Key() != one.Key() || !bytes.Equal(got.Document, one.Document) || got.Recipe != one.Recipe {
		t.Fatalf("%+v, %v", got, err)
	}
	if v := r.Valid(Reference, b.chain.Now); len(v) != 2 || v[0].Version != "1" || v[1].Version != "2" {
		t.Fatalf("%+v", v)
	}
	if v := r.Valid(Card, b.chain.Now); len(v) != 0 {
		t.Fatalf("%+v", v)
	}

	b.ok(owner, Withdraw(b.at, one.Key(), GasValue)) // at once
	after := b.read()
	if _, err = after.Lookup(Reference, "enclave", "1", b.chain.Now); !errors.Is(err, ErrNotFound) {
		t.Fatalf("withdrawn: %v", err)
	}
	b.refused(owner, Withdraw(b.at, one.Key(), GasValue), ExitUnknown)

	// The history is what a reader of the changes computes.
	hash := func(r *Record) [32]byte {
		c, err := r.Cell()
		if err != nil {
			t.Fatal(err)
		}
		return c.HashKey()
	}
	var head [32]byte
	for i, c := range []Change{
		{At: start + 7*day, Key: one.Key(), Content: hash(one)},
		{At: start + 7*day + 5, Key: two.Key(), Content: hash(two)},
		{At: start + 7*day + 5, Key: one.Key()},
	} {
		c.Previous, c.Seqno = head, uint32(i+1)
		head = c.Hash()
	}
	if after.History != head || after.Seqno != 3 {
		t.Fatalf("history %x after %d changes, want %x", after.History, after.Seqno, head)
	}
}

func TestOnlyTheOwner(t *testing.T) {
	b := opened(t)
	one := record("1")
	b.refused(stranger, b.announce(one), ExitSender)
	b.ok(owner, b.announce(one))
	b.refused(stranger, Cancel(b.at, one.Key(), GasValue), ExitSender)
	b.refused(stranger, Withdraw(b.at, one.Key(), GasValue), ExitSender)
}

// A change cannot be slipped into an announcement that has waited already.
func TestAnnouncingAgainWaitsAgain(t *testing.T) {
	b := opened(t)
	good, evil := record("1"), record("1")
	evil.Document = []byte(`{"mrtd":"evil"}`)
	b.ok(owner, b.announce(good))
	b.chain.Now += 7*day - 1
	b.ok(owner, b.announce(evil))
	b.chain.Now++
	b.refused(owner, Apply(b.at, evil.Key(), GasValue), ExitEarly)
	b.ok(owner, Cancel(b.at, evil.Key(), GasValue))
	b.refused(owner, Cancel(b.at, evil.Key(), GasValue), ExitUnknown)
	b.chain.Now += 7 * day
	b.refused(owner, Apply(b.at, evil.Key(), GasValue), ExitUnknown)
}

// A record in effect is replaced only after the delay, and a withdrawal takes a waiting replacement with it.
func TestWithdrawalIsFinal(t *testing.T) {
	b := opened(t)
	one := record("1")
	b.ok(owner, b.announce(one))
	b.chain.Now += 7 * day
	b.ok(owner, Apply(b.at, one.Key(), GasValue))
	again := record("1")
	again.Status = Deprecated
	b.ok(owner, b.announce(again))
	if got, err := b.read().Lookup(Reference, "enclave", "1", b.chain.Now); err != nil || got.Status != Current {
		t.Fatalf("%+v, %v", got, err)
	}
	b.ok(owner, Withdraw(b.at, one.Key(), GasValue))
	b.chain.Now += 7 * day
	b.refused(stranger, Apply(b.at, one.Key(), GasValue), ExitUnknown)
}

// To lift a revocation is to make readers trust, and waits as any announcement does.
func TestRevocationStays(t *testing.T) {
	b := opened(t)
	bad := record("1")
	bad.Status = Revoked
	b.ok(owner, b.announce(bad))
	b.ok(owner, Withdraw(b.at, bad.Key(), GasValue)) // it revokes nothing yet
	b.ok(owner, b.announce(bad))
	b.chain.Now += 7 * day
	b.ok(owner, Apply(b.at, bad.Key(), GasValue))
	b.refused(owner, Withdraw(b.at, bad.Key(), GasValue), ExitRevoked)
	b.ok(owner, b.announce(record("1")))
	b.refused(owner, Withdraw(b.at, bad.Key(), GasValue), ExitRevoked)
	b.refused(owner, Apply(b.at, bad.Key(), GasValue), ExitEarly)
	b.chain.Now += 7 * day
	b.ok(owner, Apply(b.at, bad.Key(), GasValue))
	b.ok(owner, Withdraw(b.at, bad.Key(), GasValue))
	if r := b.read(); len(r.Records) != 0 || len(r.Announced) != 0 || r.Seqno != 3 {
		t.Fatalf("%+v", r)
	}
}

// The contract looks at a content's status without a reader's care, and takes whatever it is for what readers do.
func TestUnreadableContentIsWithdrawn(t *testing.T) {
	hash := [32]byte{4: 3} // a status that revokes, were this a record
	library, err := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(hash[:], 256).EndCellSpecial(true)
	if err != nil {
		t.Fatal(err)
	}
	b := opened(t)
	for version, content := range map[string]*cell.Cell{
		"empty":   cell.BeginCell().EndCell(),
		"short":   cell.BeginCell().MustStoreUInt(3, 47).EndCell(),
		"library": library,
	} {
		key := record(version).Key()
		b.ok(owner, message(b.at, GasValue, cell.BeginCell().MustStoreUInt(opAnnounce, 32).MustStoreSlice(key[:], 256).MustStoreRef(content).EndCell()))
		b.chain.Now += 7 * day
		b.ok(owner, Apply(b.at, key, GasValue))
		if _, err := ParseRecord(b.read().Records[key].Content); err == nil {
			t.Fatalf("%s: it can be read", version)
		}
		b.ok(owner, Withdraw(b.at, key, GasValue))
	}
}

func TestLargestRecord(t *testing.T) {
	b := opened(t)
	big := record(strings.Repeat("v", MaxText))
	big.Document = make([]byte, MaxDocument)
	for i := range big.Document { // distinct cells
		big.Document[i] = byte(i / snakeBytes)
	}
	b.ok(owner, b.announce(big))
	b.chain.Now += 7 * day
	b.ok(owner, Apply(b.at, big.Key(), GasValue))
	if _, err := b.read().Lookup(Reference, big.Name, big.Version, b.chain.Now); err != nil {
		t.Fatal(err)
	}
	key := big.Key()
	of := func(cells int) *tlb.InternalMessage {
		content := cell.BeginCell().EndCell()
		for i := 1; i < cells; i++ {
			content = cell.BeginCell().MustStoreUInt(uint64(i), 16).MustStoreRef(content).EndCell()
		}
		return message(b.at, GasValue, cell.BeginCell().MustStoreUInt(opAnnounce, 32).MustStoreSlice(key[:], 256).MustStoreRef(content).EndCell())
	}
	b.ok(owner, of(64))
	b.refused(owner, of(65), ExitTooLarge)
}

// Reclaim leaves what the owner names, or all that there is; and nothing that the registry sends asks to bounce.
func TestReclaim(t *testing.T) {
	b := opened(t)
	for _, c := range []struct {
		keep, left uint64
		out        int
	}{{gram / 2, gram / 2, 1}, {gram, gram / 2, 0}, {0, 0, 1}} {
		tx := b.send(owner, Reclaim(b.at, c.keep, GasValue))
		got := b.chain.Balance(b.at)
		if !tx.Success || len(tx.Out) != c.out || got < c.left || c.out == 1 && (got != c.left || tx.Out[0].Bounce) {
			t.Fatalf("keep %d: success %v, %d messages out, %d left, want %d", c.keep, tx.Success, len(tx.Out), got, c.left)
		}
	}
	if tx := b.send(owner, b.announce(record("1"))); !tx.Success || len(tx.Out) != 1 || tx.Out[0].Bounce {
		t.Fatalf("success %v, %d messages out", tx.Success, len(tx.Out))
	}
}

func TestHundredRecords(t *testing.T) {
	b := opened(t)
	for i := range 100 {
		b.ok(owner, b.announce(record(strings.Repeat("x", i%10)+string(rune('a'+i/10)))))
	}
	b.chain.Now += 7 * day
	for _, key := range sortedKeys(b.read().Announced) {
		b.ok(stranger, Apply(b.at, key, GasValue))
	}
	r := b.read()
	if len(r.Records) != 100 || len(r.Announced) != 0 || r.Seqno != 100 || len(r.Valid(Reference, b.chain.Now)) != 100 {
		t.Fatalf("%d records, %d announced, seqno %d", len(r.Records), len(r.Announced), r.Seqno)
	}
}

func sortedKeys(m map[[32]byte]Entry) (keys [][32]byte) {
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	return keys
}

func TestUnknownAndBouncedMessages(t *testing.T) {
	b := opened(t)
	b.refused(owner, message(b.at, GasValue, cell.BeginCell().MustStoreUInt(0x42585210, 32).EndCell()), 63)
	one := record("1")
	m := b.announce(one)
	m.Bounced, m.Bounce = true, false
	b.send(owner, m)
	if len(b.read().Announced) != 0 {
		t.Fatal("a bounced message had an effect")
	}
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Record{
			Kind: Kind(rapid.IntRange(1, 3).Draw(t, "kind")), Status: Status(rapid.IntRange(1, 3).Draw(t, "status")),
			NotBefore: rapid.Uint32Range(0, 1<<31).Draw(t, "from"), NotAfter: rapid.Uint32Range(1<<31+1, 1<<32-1).Draw(t, "to"),
			Name: rapid.StringMatching(`[a-z0-9 -]{1,64}`).Draw(t, "name"), Version: rapid.StringMatching(`[a-z0-9.]{0,64}`).Draw(t, "version"),
			Document: make([]byte, rapid.SampledFrom([]int{0, 1, 126, 127, 128, 254, 255, 3000, MaxDocument}).Draw(t, "length")),
		}
		c, err := r.Cell()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRecord(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.Cell()
		if err != nil || again.HashKey() != c.HashKey() || len(got.Document) != len(r.Document) || got.Key() != r.Key() {
			t.Fatalf("%+v became %+v, %v", r, got, err)
		}
	})
}

func TestRecordRefusals(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"kind 0":            func(r *Record) { r.Kind = 0 },
		"kind 4":            func(r *Record) { r.Kind = 4 },
		"status 0":          func(r *Record) { r.Status = 0 },
		"status 4":          func(r *Record) { r.Status = 4 },
		"never valid":       func(r *Record) { r.NotAfter = r.NotBefore },
		"no name":           func(r *Record) { r.Name = "" },
		"long name":         func(r *Record) { r.Name = strings.Repeat("n", MaxText+1) },
		"control character": func(r *Record) { r.Name = "a\nb" },
		"not UTF-8":         func(r *Record) { r.Version = "\xff" },
		"long document":     func(r *Record) { r.Document = make([]byte, MaxDocument+1) },
	} {
		r := record("1")
		change(r)
		if _, err := r.Cell(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	good, err := record("1").Cell()
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]*cell.Cell, 3)
	for i := range refs {
		refs[i] = good.MustPeekRef(i)
	}
	root := func(edit func([]byte), refs ...*cell.Cell) *cell.Cell {
		bits := good.MustBeginParse().MustLoadSlice(368)
		if edit != nil {
			edit(bits)
		}
		b := cell.BeginCell().MustStoreSlice(bits, 368)
		for _, r := range refs {
			b.MustStoreRef(r)
		}
		return b.EndCell()
	}
	if _, err = ParseRecord(root(nil, refs...)); err != nil {
		t.Fatal(err)
	}
	library, err := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(refs[0].Hash(), 256).EndCellSpecial(true)
	if err != nil {
		t.Fatal(err)
	}
	tail := cell.BeginCell().MustStoreUInt(1, 8).EndCell()
	for name, c := range map[string]*cell.Cell{
		"nothing":          nil,
		"unknown version":  root(func(b []byte) { b[3]++ }, refs...),
		"unknown kind":     root(func(b []byte) { b[4] = 9 }, refs...),
		"missing document": root(nil, refs[0], refs[1]),
		"fourth reference": root(nil, refs[0], refs[1], refs[2], tail),
		"library name":     root(nil, library, refs[1], refs[2]),
		"short snake":      root(nil, refs[0], refs[1], cell.BeginCell().MustStoreUInt(1, 8).MustStoreRef(tail).EndCell()),
		"empty tail":       root(nil, refs[0], refs[1], cell.BeginCell().MustStoreSlice(make([]byte, 127), 1016).MustStoreRef(cell.BeginCell().EndCell()).EndCell()),
		"odd bits":         root(nil, refs[0], refs[1], cell.BeginCell().MustStoreUInt(1, 7).EndCell()),
		"name in a snake":  root(nil, cell.BeginCell().MustStoreSlice(bytes.Repeat([]byte("n"), 127), 1016).MustStoreRef(tail).EndCell(), refs[1], refs[2]),
	} {
		if r, err := ParseRecord(c); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}

func TestLookupRefuses(t *testing.T) {
	put := func(r *Record, key [32]byte) *Registry {
		c, err := r.Cell()
		if err != nil {
			t.Fatal(err)
		}
		return &Registry{Records: map[[32]byte]Entry{key: {start, c}}}
	}
	r := record("1")
	if _, err := put(r, r.Key()).Lookup(Reference, "enclave", "1", start); err != nil {
		t.Fatal(err)
	}
	for name, now := range map[string]uint32{"too early": start - 1, "too late": r.NotAfter} {
		if _, err := put(r, r.Key()).Lookup(Reference, "enclave", "1", now); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := put(r, Key(Reference, "enclave", "2")).Lookup(Reference, "enclave", "2", start); err == nil {
		t.Error("found under another's key")
	}
	if v := put(r, Key(Reference, "enclave", "2")).Valid(Reference, start); len(v) != 0 {
		t.Error("listed under another's key")
	}
	r.Status = Revoked
	if _, err := put(r, r.Key()).Lookup(Reference, "enclave", "1", start); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoked: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	b := opened(t)
	for name, change := range map[string]func(*ton.Account){
		"no account":   func(a *ton.Account) { *a = ton.Account{Status: tlb.AccountStatusNonExist} },
		"frozen":       func(a *ton.Account) { *a = ton.Account{Status: tlb.AccountStatusFrozen} },
		"another code": func(a *ton.Account) { a.Code = cell.BeginCell().EndCell() },
		"another delay": func(a *ton.Account) {
			p := b.Params
			p.Delay = 0
			init, err := p.StateInit()
			if err != nil {
				t.Fatal(err)
			}
			a.Data = init.Data
		},
		"no data":    func(a *ton.Account) { a.Data = nil },
		"empty data": func(a *ton.Account) { a.Data = cell.BeginCell().EndCell() },
	} {
		a := b.account()
		change(&a)
		if _, err := Load(context.Background(), proven{account: a}, b.at); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b.read()
}

// Sixty-four forks whose branches are one and the same cell are 2^64 records in a few hundred bytes.
func TestDictionaryBomb(t *testing.T) {
	entry := cell.BeginCell().MustStoreRef(cell.BeginCell().MustStoreUInt(0, 32).MustStoreRef(cell.BeginCell().EndCell()).EndCell())
	const forks = 64
	// hml_same$11 v:Bit n:(#<= m), m being the key bits that are left: 256 - 64 = 192, whose length takes 8 bits
	node := cell.BeginCell().MustStoreUInt(0b110, 3).MustStoreUInt(256-forks, 8).MustStoreBuilder(entry).EndCell()
	for range forks {
		node = cell.BeginCell().MustStoreUInt(0, 2).MustStoreRef(node).MustStoreRef(node).EndCell() // hml_short$0, empty
	}
	data := cell.BeginCell().MustStoreAddr(owner).MustStoreUInt(0, 32).MustStoreUInt(0, 64).MustStoreUInt(0, 32).
		MustStoreSlice(make([]byte, 32), 256).MustStoreBoolBit(true).MustStoreRef(node).MustStoreBoolBit(false).EndCell()
	if _, err := Parse(data); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatalf("%v", err)
	}
}

// The worked example of docs/protocol.md is what this package computes.
func TestProtocolVector(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	p := Params{Owner: address.NewAddress(0, 0, bytes.Repeat([]byte{0x11}, 32)), Delay: 604800, Salt: 7}
	at, err := p.Address()
	if err != nil {
		t.Fatal(err)
	}
	r := &Record{
		Kind: Reference, Status: Current, NotBefore: 1_800_000_000, NotAfter: 1_900_000_000, Recipe: [32]byte(bytes.Repeat([]byte{0x22}, 32)),
		Name: "enclave", Version: "1.2.3", Document: []byte("{}"),
	}
	content, err := r.Cell()
	if err != nil {
		t.Fatal(err)
	}
	key := r.Key()
	change := Change{Seqno: 1, At: 1_800_604_800, Key: key, Content: content.HashKey()}.Hash()
	for name, want := range map[string][]byte{
		"code hash":   code.Hash(),
		"registry":    at.Data(),
		"key":         key[:],
		"record hash": content.Hash(),
		"record BoC":  content.ToBOC(),
		"history":     change[:],
	} {
		if !strings.Contains(strings.Join(strings.Fields(string(doc)), ""), hex.EncodeToString(want)) {
			t.Errorf("docs/protocol.md lacks the %s: %x", name, want)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	c, err := record("1").Cell()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.ToBOC())
	f.Fuzz(func(t *testing.T, boc []byte) {
		if len(boc) > 1<<16 {
			return
		}
		c, err := cell.FromBOC(boc)
		if err != nil {
			return
		}
		r, err := ParseRecord(c)
		if err != nil {
			return
		}
		if again, err := r.Cell(); err != nil || again.HashKey() != c.HashKey() {
			t.Fatalf("a record has two encodings: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	init, err := Params{Owner: owner, Delay: 1}.StateInit()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(init.Data.ToBOC())
	f.Fuzz(func(t *testing.T, boc []byte) {
		if len(boc) > 1<<16 {
			return
		}
		c, err := cell.FromBOC(boc)
		if err != nil {
			return
		}
		if r, err := Parse(c); err == nil {
			r.Valid(Reference, start)
		}
	})
}
