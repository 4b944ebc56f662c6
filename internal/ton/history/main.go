// Command history makes a local chain on which most of what can happen to an account has happened: the lives of channels and of a
// registry, refusals, bounces, failures of every phase, debt, freezing and deletion, in both workchains. The chain lies in the
// directory given (package devnet). The job in internal/ton/tongo executes its transactions again in the C++ TVM.
//
//	go run ./internal/ton/history DIR
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

const (
	gram = 1_000_000_000
	day  = 24 * time.Hour
	year = 365 * day
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: history DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "history: error:", err)
		os.Exit(1)
	}
}

// write makes the chain in dir. It ends before today, so that the chain can go on by the clock.
func write(dir string) (err error) {
	h := &history{now: time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.chain, err = devnet.New(devnet.Config{Dir: dir, Seed: []byte("history"), SealOnSend: true, Clock: func() time.Time { return h.now }})
	if err != nil {
		return err
	}
	if h.chain.Status().Seqno != 1 {
		return errors.Join(errors.New("the directory holds a chain already: choose another"), h.chain.Close())
	}
	for _, chapter := range []func(*history){plain, channels, registries, phases, machine, masterchain, delays, debts} {
		chapter(h)
	}
	return errors.Join(h.err, h.chain.Close())
}

// history is the chain in the making; after an error nothing more happens.
type history struct {
	chain *devnet.Chain
	now   time.Time
	err   error
}

func (h *history) do(what string, err error) {
	if h.err == nil && err != nil {
		h.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (h *history) seal(blocks int) {
	for range blocks {
		h.now = h.now.Add(time.Second)
		h.do("seal", h.chain.Seal())
	}
}

func (h *history) advance(d time.Duration) {
	h.now = h.now.Add(d)
	h.seal(1)
}

func (h *history) fund(to *address.Address, nano uint64) {
	if h.err == nil {
		h.now = h.now.Add(time.Second)
		h.do("fund", h.chain.Fund(to, nano))
	}
}

func (h *history) external(m *tlb.ExternalMessage) {
	if h.err != nil {
		return
	}
	root, err := tlb.ToCell(m)
	if err == nil {
		h.now = h.now.Add(time.Second)
		err = h.chain.Send(root.ToBOC())
	}
	h.do("external message", err)
}

// A puppet is an account that runs the program in the first reference of any message's body, and keeps the money of a message
// without one. Its code drops the selector, returns from a body without references, and else executes the reference:
//
//	DROP DUP SREFS IFNOTRET LDREF DROP CTOS BLESS EXECUTE
type puppet struct {
	init *tlb.StateInit
	at   *address.Address
}

var puppetCode = code("3020d74addd430d0ed1ed8")

func newPuppet(wc byte, data *cell.Cell) puppet {
	p := puppet{init: &tlb.StateInit{Code: puppetCode, Data: data}}
	p.at = p.init.CalcAddress(int(int8(wc)))
	return p
}

func named(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func name(s string) *cell.Cell {
	return cell.BeginCell().MustStoreSlice([]byte(s), uint(len(s))*8).EndCell()
}

// code is a cell of TVM instructions, in hexadecimal, and references.
func code(instructions string, refs ...*cell.Cell) *cell.Cell {
	raw, err := hex.DecodeString(instructions)
	if err != nil {
		panic("history: " + err.Error())
	}
	b := cell.BeginCell().MustStoreSlice(raw, uint(len(raw))*8)
	for _, r := range refs {
		b.MustStoreRef(r)
	}
	return b.EndCell()
}

// program is the body that has a puppet run something.
func program(p *cell.Cell) *cell.Cell { return cell.BeginCell().MustStoreRef(p).EndCell() }

// puppet makes a deployed account.
func (h *history) puppet(wc byte, who string, nano uint64) puppet {
	p := newPuppet(wc, name(who))
	h.fund(p.at, nano)
	if wc != 0 {
		h.seal(1)
	}
	h.external(&tlb.ExternalMessage{DstAddr: p.at, StateInit: p.init, Body: program(code("f800"))}) // ACCEPT
	return p
}

// run has a puppet accept an external message and execute instructions.
func (h *history) run(p puppet, instructions string, refs ...*cell.Cell) {
	h.external(&tlb.ExternalMessage{DstAddr: p.at, Body: program(code("f800"+instructions, refs...))})
}

// send has a puppet send messages: PUSHREF, PUSHINT, SENDRAWMSG for each.
func (h *history) send(from puppet, mode uint16, msgs ...*tlb.InternalMessage) {
	var instructions string
	var refs []*cell.Cell
	for _, m := range msgs {
		root, err := tlb.ToCell(m)
		if err != nil {
			h.do("message", err)
			return
		}
		instructions += fmt.Sprintf("8881%04xfb00", mode)
		refs = append(refs, root)
	}
	h.run(from, instructions, refs...)
}

// call sends a puppet a program by internal message.
func call(to puppet, nano uint64, instructions string, refs ...*cell.Cell) *tlb.InternalMessage {
	return pay(to.at, nano, true, program(code(instructions, refs...)))
}

func pay(to *address.Address, nano uint64, bounce bool, body *cell.Cell) *tlb.InternalMessage {
	return &tlb.InternalMessage{IHRDisabled: true, Bounce: bounce, DstAddr: to, Amount: tlb.FromNanoTONU(nano), Body: body}
}

var empty = cell.BeginCell().EndCell()

func nobody(wc, b byte) *address.Address {
	return address.NewAddress(0, wc, bytes.Repeat([]byte{b}, 32))
}

// plain has money move between accounts that exist and that do not.
func plain(h *history) {
	a, b := h.puppet(0, "plain a", 10*gram), h.puppet(0, "plain b", 10*gram)
	for i := range byte(6) {
		h.send(a, 1, pay(b.at, uint64(i+1)*gram/10, i%2 == 0, empty))
	}
	h.send(a, 3, pay(b.at, gram/10, true, name("a comment without an operation code")), pay(nobody(0, 1), gram/10, false, empty))
	h.send(b, 1, pay(nobody(0, 2), gram/10, true, empty)) // bounces
	h.send(b, 1, pay(nobody(0, 2), gram/10, true, wide(3, "bounces without its body")))
	h.send(b, 1, pay(nobody(0, 3), 0, false, empty))  // leaves no account
	h.send(b, 1, pay(nobody(0, 3), 100, true, empty)) // too little to bounce
	h.send(a, 1, pay(nobody(0, 1), gram/10, true, empty))
	h.fund(a.at, gram)
	h.fund(nobody(0, 4), gram)
}

// channels lives the lives of two channels, with everything that the contract refuses.
func channels(h *history) {
	client, payee, stranger := h.puppet(0, "client", 50*gram), h.puppet(0, "payee", 5*gram), h.puppet(0, "stranger", 10*gram)
	seed := named("channel key")
	key := ed25519.NewKeyFromSeed(seed[:])
	at := func(p puppet) channel.Address { return channel.Address(p.at.Data()) }
	open := func(salt uint64) channel.Params {
		p := channel.Params{Payee: at(payee), Client: at(client), ClientKey: [32]byte(key.Public().(ed25519.PublicKey)),
			CloseDelay: 3600, ExpiresAt: uint32(h.now.Add(30 * day).Unix()), Salt: salt}
		h.send(client, 1, channel.Open(p, 5*gram))
		return p
	}
	voucher := func(p channel.Params, total uint64) *channel.SignedVoucher {
		v := channel.Voucher{GlobalID: h.chain.GlobalID(), Channel: p.Address(), Total: total, Head: named("head")}.Sign(key)
		return &v
	}
	agreement := func(p channel.Params, total uint64) *channel.SignedAgreement {
		a := channel.Agreement{GlobalID: h.chain.GlobalID(), Channel: p.Address(), Total: total, Head: named("last")}.Sign(key)
		return &a
	}
	value := uint64(channel.GasValue)

	p := open(1)
	h.send(client, 1, channel.Open(p, gram)) // again
	h.send(stranger, 1, channel.TopUp(p.Address(), gram))
	for i := range uint64(4) {
		h.send(payee, 1, channel.Claim(voucher(p, (i+1)*gram/10), value))
	}
	h.send(stranger, 1, channel.Claim(voucher(p, gram/2), value))
	for i := range uint64(4) {
		h.external(channel.ClaimExternal(voucher(p, gram*3/5+i*gram/10)))
	}
	h.send(payee, 1, channel.Claim(voucher(p, gram/10), value)) // stale
	forged := voucher(p, 2*gram)
	forged.Signature[0] ^= 1
	h.send(payee, 1, channel.Claim(forged, value))
	forged = voucher(p, 2*gram)
	forged.Total++
	h.send(payee, 1, channel.Claim(forged, value))
	h.send(stranger, 1, channel.CloseStart(p.Address(), value))
	h.send(stranger, 1, channel.CloseFinish(p.Address(), value))
	h.send(stranger, 1, channel.CloseTogether(agreement(p, gram), value))
	for _, little := range []uint64{0, 300_000, 800_000, 1_300_000, 1_800_000, 2_300_000, 2_800_000} { // for gas
		h.send(payee, 1, channel.Claim(voucher(p, gram), little))
	}
	h.send(stranger, 1, pay(p.Address().Std(), value, true, name("what?")))
	h.send(stranger, 1, pay(p.Address().Std(), value, true, cell.BeginCell().MustStoreUInt(1, 3).EndCell()))
	h.advance(day)
	h.send(client, 1, channel.CloseStart(p.Address(), value))
	h.send(client, 1, channel.CloseStart(p.Address(), value)) // twice
	h.send(stranger, 1, channel.TopUp(p.Address(), gram/10))
	h.send(payee, 1, channel.Claim(voucher(p, gram*3/2), value))
	h.send(client, 1, channel.CloseFinish(p.Address(), value)) // early
	h.advance(time.Hour)
	h.send(payee, 1, channel.Claim(voucher(p, 2*gram), value)) // late
	h.send(stranger, 1, channel.TopUp(p.Address(), gram/10))
	h.send(stranger, 1, channel.CloseFinish(p.Address(), value))
	h.send(client, 1, channel.Open(p, gram))

	q := open(2)
	h.send(payee, 1, channel.Claim(voucher(q, 20*gram), value)) // all but the reserve
	h.send(client, 1, channel.TopUp(q.Address(), 20*gram))
	h.send(payee, 1, channel.CloseTogether(agreement(q, 9*gram), value))
	h.send(payee, 1, channel.CloseTogether(agreement(q, 9*gram), value)) // ended
	r := open(3)
	h.send(payee, 1, channel.CloseTogether(agreement(r, 4*gram), 500_000)) // too little gas
	h.advance(31 * day)
	h.send(stranger, 1, channel.CloseFinish(r.Address(), value))
}

// registries has a registry announce, cancel, apply and withdraw.
func registries(h *history) {
	owner, stranger := h.puppet(0, "owner", 20*gram), h.puppet(0, "passer-by", 5*gram)
	params := registry.Params{Owner: owner.at, Delay: 3600, Salt: 1}
	at, err := params.Address()
	h.do("registry", err)
	m, err := registry.Open(params, gram)
	h.do("registry", err)
	h.send(owner, 1, m)
	value := uint64(registry.GasValue)
	announce := func(from puppet, r *registry.Record) {
		m, err := registry.Announce(at, r, value)
		h.do("announce", err)
		if err == nil {
			h.send(from, 1, m)
		}
	}
	var keys [][32]byte
	for i := range 5 {
		r := &registry.Record{Kind: registry.Reference, Status: registry.Current, NotAfter: 1 << 31, Name: "image", Version: fmt.Sprint(i),
			Document: bytes.Repeat([]byte("measurement "), 20*(i+1))}
		announce(owner, r)
		keys = append(keys, r.Key())
		if i == 0 {
			announce(stranger, r)
			h.send(stranger, 1, registry.Apply(at, r.Key(), value)) // early
		}
	}
	h.send(owner, 1, registry.Cancel(at, keys[4], value))
	h.send(owner, 1, registry.Cancel(at, keys[4], value)) // unknown
	h.advance(time.Hour)
	for _, k := range keys[:4] {
		h.send(stranger, 1, registry.Apply(at, k, value))
	}
	h.send(stranger, 1, registry.Withdraw(at, keys[0], value))
	h.send(owner, 1, registry.Withdraw(at, keys[0], value))
	h.send(owner, 1, pay(at, value, true, cell.BeginCell().MustStoreUInt(0x42585211, 32).MustStoreSlice(keys[0][:], 256).
		MustStoreRef(wide(100, "too large")).EndCell()))
	h.send(owner, 1, registry.Apply(at, keys[1], 5_000_000)) // too little gas
}

// phases fails in the compute and in the action phase, in every way that a contract can.
func phases(h *history) {
	a, b := h.puppet(0, "phases a", 50*gram), h.puppet(0, "phases b", 50*gram)
	const value = gram / 20
	calls := func(instructions string, refs ...*cell.Cell) { h.send(a, 1, call(b, value, instructions, refs...)) }
	calls("f22a")       // THROW 42
	calls("f2c00539")   // THROW 1337
	calls("30303030")   // stack underflow
	calls("9100ea")     // for ever: out of gas
	calls("f800")       // ACCEPT, and nothing
	calls("f80f9100ea") // COMMIT, then out of gas
	calls("7f7fa8ff")   // an instruction that does not exist
	calls("8aff")       // not enough bits for the instruction
	calls("c8c9d0d4")   // cell underflow
	calls("7070a904")   // division by zero
	h.run(a, "f22a")    // an external message that was accepted fails
	h.run(a, "9100ea")
	h.send(a, 1, pay(newPuppet(0, name("never")).at, value, true, empty))
	other := newPuppet(0, name("another"))
	wrong := pay(other.at, value, true, empty)
	wrong.StateInit = a.init // not what the address commits to
	h.send(a, 1, wrong)
	broke := newPuppet(0, name("broke"))
	deploy := pay(broke.at, 1, false, empty)
	deploy.StateInit = broke.init // no gas
	h.send(a, 1, deploy)
	lent := newPuppet(0, name("deployed by message"))
	deploy = pay(lent.at, value, true, program(code("f22a")))
	deploy.StateInit = lent.init // fails as it is deployed
	h.send(a, 1, deploy)
	deploy = pay(lent.at, value, true, empty)
	deploy.StateInit = lent.init
	h.send(a, 1, deploy, pay(lent.at, value, true, empty))

	raw := func(m *tlb.InternalMessage) *cell.Cell {
		root, err := tlb.ToCell(m)
		h.do("message", err)
		return root
	}
	nowhere := raw(pay(nobody(5, 1), value, true, empty))
	far := raw(pay(b.at, 1_000_000*gram, true, empty))
	small := raw(pay(b.at, 1_000, true, empty))
	const send0, send1, send2, send16, send64, send80, send128 = "88810000fb00", "88810001fb00", "88810002fb00", "88810010fb00", "88810040fb00", "88810050fb00", "88810080fb00"
	calls(send0, far)                                              // more money than there is
	calls(send2, far)                                              // the same, skipped
	calls(send16, far)                                             // the same, and bounces
	calls(send0, nowhere)                                          // no such workchain
	calls(send2, nowhere)                                          // the same, skipped
	calls(send0, small)                                            // less than its delivery costs
	calls("888100fffb00", small)                                   // no such mode
	calls(send0, name("not a message"))                            // no message
	calls("88ed55", name("not a list of actions"))                 // POP c5
	calls(send64, raw(pay(a.at, 0, false, empty)))                 // the change
	calls(send80, raw(pay(a.at, 0, false, empty)))                 // the same, or bounces
	calls(send1+send1, small, small)                               // a batch
	calls("81100070fb02"+send1, raw(pay(a.at, 1000, true, empty))) // RAWRESERVE of 4096, mode 0
	calls("83107afb02"+send128, raw(pay(a.at, 0, true, empty)))    // RAWRESERVE of 2^17 beside what there was, mode 10
	calls("832870fb02")                                            // RAWRESERVE of more than there is
	calls("832872fb02")                                            // RAWRESERVE of that or what there is
	// many messages: PUSHINT, PUSHREFCONT, REPEAT
	loop := code("8871fb00", small)
	calls("802a8ae4", loop)                             // 42
	h.send(a, 1, call(b, 2*gram, "8101008ae4", loop))   // 256: one too many
	h.send(a, 1, call(b, gram/100, "8101008ae4", loop)) // too many for the gas
	// messages outward, and of every size
	log := cell.BeginCell().MustStoreUInt(0b11, 2).MustStoreUInt(0, 2).MustStoreUInt(0, 2).MustStoreUInt(0, 96).MustStoreUInt(0, 1).
		MustStoreUInt(1, 1).MustStoreRef(name("an event")).EndCell()
	calls("8870fb00", log)
	for _, n := range []int{1, 10, 100, 300} {
		h.send(a, 1, pay(b.at, value, true, wide(n, "payload")))
	}
	// code and libraries
	h.run(b, "88fb04", code("f2c00065")) // SETCODE: throws 101 from the next message on
	calls("f800")
	h.send(a, 1, pay(b.at, value, false, empty))
	c := h.puppet(0, "phases c", 5*gram)
	h.run(c, "8872fb06", name("a library")) // SETLIBCODE
	h.run(c, "8871fb06", name("a library"))
	h.run(c, "8870fb06", name("a library"))
	h.run(c, "8870fb06", name("no library"))
	library, err := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(name("unknown").Hash(), 256).EndCellSpecial(true)
	h.do("library", err)
	if err == nil {
		h.send(a, 1, call(c, value, "88d0", library)) // CTOS of a library that nobody has
	}
	// the end of accounts: everything goes, and the account with it
	h.send(c, 128+32, pay(a.at, 0, false, empty))
	h.send(a, 1, call(c, value, "f800"))
	h.puppet(0, "phases c", gram) // and begins again
	h.send(a, 128, pay(lent.at, 0, false, empty))
}

// machine reads what the TVM says of its surroundings, and writes it down.
func machine(h *history) {
	a := h.puppet(0, "machine", 20*gram)
	// x NEWC STU ENDC POP c4, for each x that fits 256 bits
	const keep = "c8cbffc9ed54"
	for _, x := range []string{
		"f823", "f824", "f825", "f826", // NOW BLOCKLT LTIME RANDSEED
		"f8276f10", "f82b6f10", // BALANCE, INCOMINGVALUE: the first of a pair
		"f82c", "f82f", // STORAGEFEES DUEPAYMENT
		"f829f900", "f82af900", // CONFIGROOT MYCODE, HASHCU
		"8013f83230f900",               // CONFIGPARAM 19
		"f810", "f810f810", "8064f811", // RANDU256, twice, RAND
		"8064f815f810",   // ADDRAND
		"f807", "f835a3", // GASCONSUMED, GLOBALID NEGATE
		"8101f470f836", "8101f47ff836", "8101f470f83b", // GETGASFEE here and in the masterchain, GETGASFEESIMPLE
		"7a8103e88101f470f837", "7a8103e870f838", "7a8103e870f83c", // GETSTORAGEFEE, GETFORWARDFEE, GETFORWARDFEESIMPLE
		"8103e870f83a",         // GETORIGINALFWDFEE
		"ed44f900", "ed45f900", // c4 and c5, HASHCU
		"88f900", "88d0f901", "88d0f902", "88d0d749", "88d0d70b3f", // a cell's hashes, size and first bits
		"88d071f90400", "88d071f90403", // HASHEXT: SHA-256, Keccak-256
		"88d071f904016f10", // SHA-512: the first half
		"88d0801ff912",     // ECRECOVER of nonsense: fails
		"f814",             // SETRAND without an argument: fails
	} {
		var refs []*cell.Cell // code that ends jumps to the reference that it left
		if strings.HasPrefix(x, "88") {
			refs = append(refs, name("some data that is longer than eight bytes"))
		}
		h.run(a, x+keep, refs...)
	}
	// an external message with its body in a reference
	h.do("external message", h.chain.Send(cell.BeginCell().MustStoreUInt(0b10, 2).MustStoreUInt(0, 2).MustStoreAddr(a.at).MustStoreCoins(0).
		MustStoreUInt(0b01, 2).MustStoreRef(program(code("f800"))).EndCell().ToBOC()))
}

// masterchain does the same where gas and storage cost more, and across workchains.
func masterchain(h *history) {
	a := h.puppet(0xff, "master", 100*gram)
	b := h.puppet(0, "base", 20*gram)
	for _, m := range []struct {
		from puppet
		to   *address.Address
		n    uint64
		b    bool
		body *cell.Cell
	}{
		{a, b.at, gram, true, empty}, {b, a.at, gram, true, empty}, {a, nobody(0, 9), gram, true, empty}, {b, nobody(0xff, 9), gram, true, empty},
		{b, nobody(0xff, 9), gram, false, empty}, {a, a.at, gram, true, program(code("f22a"))}, {b, a.at, gram, true, program(code("9100ea"))},
		{b, a.at, 1_000, true, program(code("f800"))}, {a, b.at, gram, true, wide(50, "across")},
	} {
		h.send(m.from, 1, pay(m.to, m.n, m.b, m.body))
		h.seal(2)
	}
	h.run(a, "88fb04", puppetCode)
	h.run(a, "9100ea")
	h.advance(year / 2)
	h.run(a, "f800")
	h.fund(a.at, gram)
	h.seal(2)
}

// delays lets messages wait in the queue.
func delays(h *history) {
	a, b := h.puppet(0, "delays a", 20*gram), h.puppet(0, "delays b", 20*gram)
	h.chain.DelayMessages(2)
	for i := range 4 {
		h.send(a, 1, call(b, gram/20, "f800"), call(b, gram/20, "f22a"), pay(nobody(0, byte(20+i)), gram/20, i%2 == 0, empty))
	}
	h.seal(8)
	h.chain.DelayMessages(0)
}

// debts leaves accounts without money for rent until they are frozen and deleted.
func debts(h *history) {
	a, tenants := h.puppet(0, "debts", 50*gram), 0
	poke := func(p puppet, nano uint64, bounce bool) { h.send(a, 1, pay(p.at, nano, bounce, empty)) }
	deploy := func(nano uint64) puppet {
		tenants++
		p := newPuppet(0, wide(300, fmt.Sprint("tenant ", tenants)))
		m := pay(p.at, nano, false, empty)
		m.StateInit = p.init
		h.send(a, 1, m)
		return p
	}
	// the same, with a state that it did not start with: PUSH c4, NEWC, STREF, ENDC, POP c4
	changed := func(nano uint64) puppet {
		p := deploy(nano)
		h.run(p, "ed44c8ccc9ed54")
		p.init = &tlb.StateInit{Code: p.init.Code, Data: cell.BeginCell().MustStoreRef(p.init.Data).EndCell()}
		return p
	}
	revive := func(p puppet, init *tlb.StateInit, nano uint64) {
		m := pay(p.at, nano, true, empty)
		m.StateInit = init
		h.send(a, 1, m)
	}
	fresh, rich, lost := deploy(gram/10), deploy(gram/10), deploy(gram/10)
	frozen, thawed, late, gone := changed(gram/10), changed(gram/10), changed(gram/10), changed(gram/10)
	all := []puppet{fresh, rich, lost, frozen, thawed, late, gone}
	uninit := nobody(0, 77)
	h.fund(uninit, 1_000_000)
	h.advance(90 * day)
	for _, p := range all { // rent is paid
		poke(p, 1000, false)
	}
	h.advance(120 * day)
	for _, p := range all { // in debt
		poke(p, 1000, false)
	}
	poke(rich, gram, true) // pays it
	h.advance(year)
	for _, p := range all { // too much: frozen or, those in their first state, undeployed
		poke(p, 1000, false)
	}
	for _, p := range []puppet{fresh, thawed} {
		poke(p, gram/2, true)          // comes back
		revive(p, frozen.init, gram/2) // with another's state
		revive(p, newPuppet(0, name("a")).init, gram/2)
		revive(p, p.init, gram)
	}
	h.run(thawed, "f800")
	poke(late, gram, false) // pays the debt, and stays frozen
	h.advance(year / 2)
	revive(late, late.init, gram)
	h.advance(6 * year)
	for _, p := range all { // deleted
		poke(p, 1000, false)
	}
	poke(gone, 1000, true)
	revive(lost, lost.init, gram) // begins again
	revive(gone, gone.init, gram) // cannot: that is not the state of its address
	poke(puppet{at: uninit}, 1000, false)
	h.run(a, "f800")
}

// wide is a tree with n cells.
func wide(n int, text string) *cell.Cell {
	level := []*cell.Cell{}
	for i := range n {
		level = append(level, cell.BeginCell().MustStoreUInt(uint64(i), 32).MustStoreSlice(bytes.Repeat([]byte{byte(i)}, 100), 800).EndCell())
	}
	for len(level) > 1 {
		var up []*cell.Cell
		for i := 0; i < len(level); i += 4 {
			b := cell.BeginCell().MustStoreUInt(uint64(i), 32)
			for _, c := range level[i:min(i+4, len(level))] {
				b.MustStoreRef(c)
			}
			up = append(up, b.EndCell())
		}
		level = up
	}
	b := cell.BeginCell().MustStoreSlice([]byte(text), uint(len(text))*8)
	if len(level) == 1 {
		b.MustStoreRef(level[0])
	}
	return b.EndCell()
}
