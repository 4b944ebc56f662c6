package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

type network struct {
	*testing.T
	chain  *devnet.Chain
	client *ton.Client
	owner  *wallet.Wallet
	at     *address.Address
}

// published is a registry on the local network, read through a real liteserver connection.
func published(t *testing.T) *network {
	t.Helper()
	chain, err := devnet.New(devnet.Config{SealOnSend: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	n := &network{T: t, chain: chain}
	if n.client, err = ton.Dial(t.Context(), chain.GlobalConfig(), ton.Options{Resend: 50 * time.Millisecond, Now: chain.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.client.Close)
	if n.owner, err = wallet.New(chain.GlobalID()); err != nil {
		t.Fatal(err)
	}
	if err = chain.Fund(n.owner.Address(), uint64(10*ton.Gram)); err != nil {
		t.Fatal(err)
	}
	open, err := registry.Open(registry.Params{Owner: n.owner.Address(), Delay: 3600}, uint64(ton.Gram))
	if err != nil {
		t.Fatal(err)
	}
	n.at = open.DstAddr
	n.send(open)
	return n
}

func (n *network) send(m *tlb.InternalMessage) {
	n.Helper()
	amount, err := ton.NanoFromBig(m.Amount.Nano())
	if err != nil {
		n.Fatal(err)
	}
	if _, err := n.owner.Send(n.Context(), n.client, wallet.Message{To: m.DstAddr, Amount: amount, Bounce: m.StateInit == nil, Init: m.StateInit, Body: m.Body}); err != nil {
		n.Fatal(err)
	}
}

func (n *network) announce(version string, status registry.Status) [32]byte {
	n.Helper()
	now := uint32(n.chain.Now().Unix())
	r := &registry.Record{Kind: registry.Manifest, Status: status, NotBefore: now, NotAfter: now + 1_000_000, Name: "models", Version: version, Document: []byte(version)}
	m, err := registry.Announce(n.at, r, registry.GasValue)
	if err != nil {
		n.Fatal(err)
	}
	n.send(m)
	return r.Key()
}

func (n *network) snapshot() *policy.Snapshot {
	n.Helper()
	s, err := registry.Snapshots(n.Context(), n.client, []policy.Publisher{{Name: "test", Network: n.chain.GlobalID(), Address: policy.Account(n.at.Data())}})
	if err != nil {
		n.Fatal(err)
	}
	return s[0]
}

func TestDevnet(t *testing.T) {
	n := published(t)
	one := n.announce("1", registry.Current)
	n.announce("2", registry.Current)
	if s := n.snapshot(); len(s.Records) != 0 || s.Delay != 3600 || s.Network != n.chain.GlobalID() || !s.Time.Equal(time.Unix(s.Time.Unix(), 0)) {
		t.Fatalf("announced, and already supplied: %+v", s)
	}
	n.send(registry.Apply(n.at, one, registry.GasValue)) // too early: refused by the contract
	if s := n.snapshot(); len(s.Records) != 0 {
		t.Fatalf("in effect before its time: %+v", s)
	}
	if err := n.chain.Advance(time.Hour); err != nil {
		t.Fatal(err)
	}
	n.send(registry.Apply(n.at, one, registry.GasValue))
	s := n.snapshot()
	if len(s.Records) != 1 || s.Changes != 1 || s.Records[0].Kind != policy.RecordManifest || s.Records[0].Version != "1" || !bytes.Equal(s.Records[0].Document, []byte("1")) {
		t.Fatalf("%+v", s)
	}

	// Saved, and read again without the network: the same.
	r, err := registry.Load(t.Context(), n.client, n.at)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := r.Account.Save()
	if err != nil {
		t.Fatal(err)
	}
	again, err := registry.OpenSaved(saved)
	if err != nil {
		t.Fatal(err)
	}
	s2, err := again.Snapshot()
	if err != nil || fmt.Sprint(s2.Records) != fmt.Sprint(s.Records) || s2.Network != s.Network || s2.Address != s.Address || again.Account.Head.RootHash != r.Account.Head.RootHash {
		t.Fatalf("%+v %v", s2, err)
	}
	on, err := n.client.MasterchainBlock(t.Context(), again.Account.Head.Seqno)
	if err != nil || on.RootHash != again.Account.Head.RootHash {
		t.Fatalf("%+v %v", on, err)
	}
	// No byte of the proof can be changed. (Some bytes of the envelope carry nothing: case of hexadecimal digits, say.)
	for i := range saved {
		if i%7 != 0 { // a sample
			continue
		}
		bad := bytes.Clone(saved)
		bad[i] ^= 1
		if x, err := registry.OpenSaved(bad); err == nil {
			if x.Account.Head.Seqno == r.Account.Head.Seqno && x.Account.Head.RootHash == r.Account.Head.RootHash && (x.Seqno != r.Seqno || x.History != r.History) {
				t.Fatalf("byte %d of a saved registry can be changed to another registry", i)
			}
		}
	}

	// A withdrawal at once; strangers' rent leaves no mark; the history is complete.
	n.send(registry.Withdraw(n.at, one, registry.GasValue))
	for range 20 {
		if err := n.chain.Fund(n.at, 1); err != nil {
			t.Fatal(err)
		}
	}
	if s := n.snapshot(); len(s.Records) != 0 || s.Changes != 2 {
		t.Fatalf("%+v", s)
	}
	_, steps, err := registry.History(t.Context(), n.client, n.at)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, fmt.Sprintf("%d %s", s.Seqno, s.Action))
	}
	if fmt.Sprint(got) != "[0 announced 0 announced 1 applied 2 withdrawn]" {
		t.Errorf("%q", got)
	}
}

func TestSnapshotsFailClosed(t *testing.T) {
	n := published(t)
	here := policy.Publisher{Name: "test", Network: n.chain.GlobalID(), Address: policy.Account(n.at.Data())}
	elsewhere, nobody := here, here
	elsewhere.Network, nobody.Address = -239, policy.Account{1}
	for name, p := range map[string][]policy.Publisher{"another network": {elsewhere}, "no contract": {nobody}, "one of two": {here, nobody}} {
		if s, err := registry.Snapshots(t.Context(), n.client, p); err == nil || s != nil {
			t.Errorf("%s: %v", name, s)
		}
	}
	if _, err := registry.Snapshots(t.Context(), n.client, []policy.Publisher{nobody}); !errors.Is(err, registry.ErrNotRegistry) {
		t.Errorf("%v", err)
	}
}
