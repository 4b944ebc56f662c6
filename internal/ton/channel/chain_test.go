package channel

import (
	"crypto/ed25519"
	"crypto/sha256"
	"os"

	"github.com/bombyx-network/bombyx/internal/ton/channel/emulator"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"pgregory.net/rapid"
)

const (
	gram   = 1_000_000_000
	global = -217
	start  = 1_800_000_000
)

func named(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func keyOf(s string) ed25519.PrivateKey {
	seed := named(s)
	return ed25519.NewKeyFromSeed(seed[:])
}

var (
	payee     = Address(named("payee"))
	client    = Address(named("client"))
	stranger  = Address(named("stranger"))
	clientKey = keyOf("client key")
)

func params() Params {
	return Params{
		Payee: payee, Client: client, ClientKey: [32]byte(clientKey.Public().(ed25519.PublicKey)),
		CloseDelay: 3600, ExpiresAt: start + 30*24*3600, Salt: 1,
	}
}

// bench is one channel on an emulated chain.
type bench struct {
	rapid.TB
	chain *emulator.Chain
	Params
	at *address.Address
}

func newBench(t rapid.TB) *bench {
	t.Helper()
	c, err := emulator.New(global, start)
	if err != nil {
		t.Fatal(err)
	}
	if err = c.RecordTo(os.Getenv("BOMBYX_CONTRACT_RECORD"), t.Name()); err != nil {
		t.Fatal(err)
	}
	p := params()
	return &bench{TB: t, chain: c, Params: p, at: p.Address().Std()}
}

// opened returns a bench whose channel holds deposit.
func opened(t rapid.TB, deposit uint64) *bench {
	t.Helper()
	b := newBench(t)
	if tx := b.send(client, Open(b.Params, deposit)); !tx.Success {
		t.Fatalf("open: exit code %d", tx.ExitCode)
	}
	return b
}

// send delivers m from an account and returns the channel's transaction.
func (b *bench) send(from Address, m *tlb.InternalMessage) emulator.Tx {
	b.Helper()
	m.SrcAddr = from.Std()
	before, in := b.chain.Balance(b.at), m.Amount.Nano().Uint64()
	txs, err := b.chain.Send(m)
	if err != nil {
		b.Fatal(err)
	}
	return b.conserved(txs, before+in)
}

// sendExternal delivers m; ok is false when the contract did not accept it.
func (b *bench) sendExternal(m *tlb.ExternalMessage) (tx emulator.Tx, err error) {
	b.Helper()
	before := b.chain.Balance(b.at)
	txs, err := b.chain.SendExternal(m)
	if err != nil {
		return tx, err
	}
	return b.conserved(txs, before), nil
}

// conserved checks that a transaction accounts for every nanogram.
func (b *bench) conserved(txs []emulator.Tx, had uint64) emulator.Tx {
	b.Helper()
	if len(txs) != 1 {
		b.Fatalf("%d transactions, want 1", len(txs))
	}
	has := b.chain.Balance(b.at) + txs[0].Fees + txs[0].Forward
	for _, o := range txs[0].Out {
		has += o.Amount.Nano().Uint64()
	}
	if has != had {
		b.Fatalf("money does not add up: %d in, %d accounted for", had, has)
	}
	return txs[0]
}

func (b *bench) state() State {
	b.Helper()
	acc := b.chain.Account(b.at)
	if acc == nil || acc.StateInit == nil {
		b.Fatal("no state")
	}
	s, err := ParseState(acc.StateInit.Data)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *bench) voucher(total uint64) *SignedVoucher {
	s := Voucher{GlobalID: global, Channel: b.Params.Address(), Total: total, Head: named("head")}.Sign(clientKey)
	return &s
}

func (b *bench) agreement(total uint64) *SignedAgreement {
	s := Agreement{GlobalID: global, Channel: b.Params.Address(), Total: total, Head: named("last head")}.Sign(clientKey)
	return &s
}

func (b *bench) want(tx emulator.Tx, code ExitCode) {
	b.Helper()
	if tx.ExitCode != int64(code) {
		b.Fatalf("exit code %d, want %d (%v)", tx.ExitCode, code, code)
	}
	if tx.Success != (code == 0) {
		b.Fatalf("exit code %d but success is %v", tx.ExitCode, tx.Success)
	}
}
