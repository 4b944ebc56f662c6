package channel

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"pgregory.net/rapid"
)

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arr := func(name string) [32]byte {
			return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
		}
		s := State{
			Params: Params{
				Payee: arr("payee"), Client: arr("client"), ClientKey: arr("key"),
				CloseDelay: rapid.Uint32().Draw(t, "delay"), ExpiresAt: rapid.Uint32().Draw(t, "expires"), Salt: rapid.Uint64().Draw(t, "salt"),
			},
			Paid: rapid.Uint64().Draw(t, "paid"), Head: arr("head"), CloseAt: rapid.Uint32().Draw(t, "close at"),
		}
		got, err := ParseState(s.Data())
		if err != nil || got != s {
			t.Fatalf("%+v became %+v, %v", s, got, err)
		}
	})
}

func TestParseStateRefuses(t *testing.T) {
	good := State{Params: params(), Paid: 5, CloseAt: 7}
	data := good.Data()
	closing := data.MustPeekRef(0)
	closingWith := func(f func(*cell.Builder)) *cell.Cell {
		b := closing.ToBuilder()
		f(b)
		root := cell.BeginCell().MustStoreBuilder(data.ToBuilder())
		return rootWith(root, b.EndCell())
	}
	library, err := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(closing.Hash(), 256).EndCellSpecial(true)
	if err != nil {
		t.Fatal(err)
	}
	bigPaid := cell.BeginCell().MustStoreUInt(9, 4).MustStoreUInt(1, 8).MustStoreUInt(0, 64).MustStoreSlice(make([]byte, 32), 256).
		MustStoreUInt(0, 32).MustStoreAddr(payee.Std()).MustStoreSlice(make([]byte, 32), 256).MustStoreRef(closing).EndCell()
	masterchain := cell.BeginCell().MustStoreCoins(5).MustStoreSlice(make([]byte, 32), 256).MustStoreUInt(0, 32).
		MustStoreAddr(address.NewAddress(0, 255, payee[:])).MustStoreSlice(make([]byte, 32), 256).MustStoreRef(closing).EndCell()
	for name, c := range map[string]*cell.Cell{
		"nothing":               nil,
		"empty":                 empty,
		"library":               library,
		"amount beyond 64 bits": bigPaid,
		"masterchain payee":     masterchain,
		"trailing bit":          data.ToBuilder().MustStoreUInt(1, 1).EndCell(),
		"second reference":      data.ToBuilder().MustStoreRef(empty).EndCell(),
		"long closing":          closingWith(func(b *cell.Builder) { b.MustStoreUInt(1, 1) }),
		"closing with a ref":    closingWith(func(b *cell.Builder) { b.MustStoreRef(empty) }),
		"library closing":       rootWith(data.ToBuilder(), library),
		"empty closing":         rootWith(data.ToBuilder(), empty),
	} {
		if s, err := ParseState(c); err == nil {
			t.Errorf("%s: read as %+v", name, s)
		}
	}
	if got, err := ParseState(rootWith(data.ToBuilder(), closing)); err != nil || got != good {
		t.Fatalf("the helper of this test breaks a good state: %v", err)
	}
}

// rootWith returns the root's bits with another reference.
func rootWith(root *cell.Builder, ref *cell.Cell) *cell.Cell {
	r := root.EndCell().MustBeginParse()
	n := r.BitsLeft()
	return cell.BeginCell().MustStoreSlice(r.MustLoadSlice(n), n).MustStoreRef(ref).EndCell()
}

// proven is a chain of one proven account.
type proven struct {
	ton.Chain
	account ton.Account
}

func (p proven) Account(context.Context, *address.Address) (*ton.Account, error) {
	return &p.account, nil
}

// account is the bench's account as a proven one.
func (b *bench) account() (a ton.Account) {
	s := b.chain.Account(b.at)
	a = ton.Account{Address: b.at, Status: s.Status, Balance: ton.Nano(b.balance()), Head: ton.Head{Time: time.Unix(int64(b.chain.Now), 0)}}
	if s.StateInit != nil {
		a.Code, a.Data = s.StateInit.Code, s.StateInit.Data
	}
	return a
}

func (b *bench) load() (*Account, error) {
	return Load(context.Background(), proven{account: b.account()}, b.addr())
}

func TestLoad(t *testing.T) {
	b := opened(t, gram)
	b.want(b.send(payee, Claim(b.voucher(gram/2), GasValue)), 0)
	got, err := b.load()
	if err != nil || got.Paid != gram/2 || got.Params != b.Params || got.Balance != b.balance() || got.Time.Unix() != start {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(*ton.Account){
		"no account":   func(a *ton.Account) { *a = ton.Account{Status: tlb.AccountStatusNonExist} },
		"uninit":       func(a *ton.Account) { *a = ton.Account{Status: tlb.AccountStatusUninit} },
		"another code": func(a *ton.Account) { a.Code = empty },
		"no data":      func(a *ton.Account) { a.Data = nil },
		// The contract's code with data that it did not start from has another address.
		"other terms": func(a *ton.Account) {
			s := b.state()
			s.Payee = stranger
			a.Data = s.Data()
		},
	} {
		a := b.account()
		change(&a)
		if _, err := Load(context.Background(), proven{account: a}, b.addr()); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	head := State{Params: b.Params, Paid: 1, CloseAt: b.ExpiresAt}
	init, err := tlb.ToCell(head.StateInit())
	if err != nil {
		t.Fatal(err)
	}
	if Address(init.HashKey()) == b.addr() {
		t.Error("a head start does not change the address")
	}
}

// What ExternalClaimable promises the contract keeps.
func TestExternalClaimable(t *testing.T) {
	for _, c := range []struct {
		deposit, total uint64
		want           bool
	}{
		{gram, gram / 2, true}, {gram, MinExternalClaim, false}, {gram, MinExternalClaim + maxImportFee, true}, {gram, 2 * gram, false}, {gram, 0, false},
	} {
		b := opened(t, c.deposit)
		if got := b.state().ExternalClaimable(b.balance(), c.total); got != c.want {
			t.Errorf("%d of %d: %v", c.total, c.deposit, got)
		}
		if _, err := b.sendExternal(ClaimExternal(b.voucher(c.total))); c.want != (err == nil) {
			t.Errorf("%d of %d: %v", c.total, c.deposit, err)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := params().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Params){
		"payee":       func(p *Params) { p.Payee = Address{} },
		"client":      func(p *Params) { p.Client = Address{} },
		"client key":  func(p *Params) { p.ClientKey = [32]byte{} },
		"short delay": func(p *Params) { p.CloseDelay = MinCloseDelay - 1 },
		"long delay":  func(p *Params) { p.CloseDelay = MaxCloseDelay + 1 },
		"expiry":      func(p *Params) { p.ExpiresAt = 0 },
	} {
		p := params()
		change(&p)
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAddressOf(t *testing.T) {
	for name, a := range map[string]*address.Address{
		"nil":         nil,
		"none":        address.NewAddressNone(),
		"masterchain": address.NewAddress(0, 255, payee[:]),
	} {
		if _, err := AddressOf(a); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if got, err := AddressOf(payee.Std()); err != nil || got != payee {
		t.Errorf("%v, %v", got, err)
	}
}

func TestClaimable(t *testing.T) {
	s := State{Params: params(), Paid: 100}
	for _, c := range []struct{ balance, total, want uint64 }{
		{gram, 100, 0}, {gram, 50, 0}, {gram, 150, 50}, {Reserve, 150, 0}, {0, 150, 0}, {Reserve + 20, 150, 20},
	} {
		if got := s.Claimable(c.balance, c.total); got != c.want {
			t.Errorf("balance %d, voucher %d: %d, want %d", c.balance, c.total, got, c.want)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add(State{Params: params(), Paid: 5, CloseAt: 7}.Data().ToBOC())
	f.Add(empty.ToBOC())
	f.Fuzz(func(t *testing.T, boc []byte) {
		if len(boc) > 1<<16 {
			return
		}
		c, err := cell.FromBOC(boc)
		if err != nil {
			return
		}
		s, err := ParseState(c)
		if err != nil {
			return
		}
		again, err := ParseState(s.Data())
		if err != nil || again != s {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}

// The worked example of docs/protocol.md is what this package computes.
func TestProtocolVector(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(i)
	}
	key := ed25519.NewKeyFromSeed(seed[:])
	fill := func(b byte) (a [32]byte) {
		for i := range a {
			a[i] = b
		}
		return a
	}
	p := Params{
		Payee: fill(0x11), Client: fill(0x22), ClientKey: [32]byte(key.Public().(ed25519.PublicKey)),
		CloseDelay: 86400, ExpiresAt: 1_800_000_000, Salt: 7,
	}
	v := Voucher{GlobalID: -239, Channel: p.Address(), Total: 1_234_567_890, Head: fill(0x33)}
	sv, sa := v.Sign(key), Agreement(v).Sign(key)
	vb, _ := sv.MarshalBinary()
	ab, _ := sa.MarshalBinary()
	vh, ah, code := v.Hash(), sa.Hash(), CodeHash()
	external, err := tlb.ToCell(ClaimExternal(&sv))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{
		"code hash":                code[:],
		"client key":               p.ClientKey[:],
		"data hash":                p.StateInit().Data.Hash(),
		"channel":                  v.Channel[:],
		"voucher cell hash":        vh[:],
		"voucher":                  vb,
		"agreement cell hash":      ah[:],
		"agreement":                ab,
		"claim body hash":          Claim(&sv, 0).Body.Hash(),
		"external message hash":    external.Hash(),
		"close-together body hash": CloseTogether(&sa, 0).Body.Hash(),
		"state init BoC":           mustCell(t, p.StateInit()).ToBOC(),
	} {
		if !strings.Contains(strings.Join(strings.Fields(string(doc)), ""), hex.EncodeToString(want)) {
			t.Errorf("docs/protocol.md lacks the %s: %x", name, want)
		}
	}
}

func mustCell(t *testing.T, v any) *cell.Cell {
	t.Helper()
	c, err := tlb.ToCell(v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
