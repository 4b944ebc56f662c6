package adnl

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xssnick/tonutils-go/adnl/address"
	"github.com/xssnick/tonutils-go/adnl/dht"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/tl"

	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func idOf(key ed25519.PrivateKey) ID { return IDOf(public(key)) }

// privateDHT starts n nodes that know each other.
func privateDHT(t testing.TB, n int) (*Network, []*devnet.DHT) {
	t.Helper()
	chain, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	var nodes []*devnet.DHT
	for range n {
		node, err := chain.ServeDHT(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	network, err := ParseNetwork(chain.GlobalConfig())
	if err != nil {
		t.Fatal(err)
	}
	return network, nodes
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestPublishAndFind(t *testing.T) {
	network, _ := privateDHT(t, 3)
	want := []netip.AddrPort{at("127.0.0.1:4433"), at("[2001:db8::1]:4434")}
	if _, err := network.Find(t.Context(), idOf(identity(1))); !errors.Is(err, ErrNotFound) {
		t.Fatalf("before publication: %v", err)
	}
	if err := network.Publish(t.Context(), identity(1), want...); err != nil {
		t.Fatal(err)
	}
	r, err := network.Find(t.Context(), idOf(identity(1)))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Key.Equal(public(identity(1))) || len(r.Addrs) != 2 || r.Addrs[0] != want[0] || r.Addrs[1] != want[1] {
		t.Fatalf("found %+v", r)
	}
	// As docs/protocol.md has it.
	err = network.ask(t.Context(), func(ctx context.Context, c *dht.Client) error {
		id := idOf(identity(1))
		v, _, err := c.FindValue(ctx, &dht.Key{ID: id[:], Name: []byte("bombyx/1 tcp")})
		if err != nil {
			return err
		}
		var l address.List
		if _, err := tl.Parse(&l, v.Data, true); err != nil {
			return err
		}
		if l.ReinitDate != l.Version || l.Priority != 0 || l.ExpireAt != l.Version+3600 || v.TTL < l.ExpireAt || v.TTL > l.ExpireAt+60 {
			t.Errorf("published %+v until %d", l, v.TTL)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(r.Expires); left < 59*time.Minute || left > time.Hour {
		t.Fatalf("it ends in %s", left)
	}
	if _, err := network.Find(t.Context(), idOf(identity(2))); !errors.Is(err, ErrNotFound) {
		t.Fatalf("an id that nobody published: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := network.Find(ctx, idOf(identity(1))); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	for _, addrs := range [][]netip.AddrPort{{}, {at("0.0.0.0:1")}, {at("1.2.3.4:0")}, {at("224.0.0.1:1")}, {at("[fe80::1%eth0]:1")}, {{}}, make([]netip.AddrPort, maxAddrs+1)} {
		if err := network.Publish(t.Context(), identity(1), addrs...); err == nil {
			t.Errorf("published %s", addrs)
		}
	}
}

func TestUnreachableDHT(t *testing.T) {
	network, nodes := privateDHT(t, 1)
	nodes[0].Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := network.Find(ctx, idOf(identity(1))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("find: %v", err)
	}
	if err := network.Publish(ctx, identity(1), at("127.0.0.1:1")); err == nil {
		t.Error("published")
	}
}

// A host that has signed an old record, or nonsense, is not found.
func TestFindRefusesRecords(t *testing.T) {
	network, _ := privateDHT(t, 1)
	data, err := tl.Serialize(address.List{Addresses: []address.Address{&address.UDP{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 1}}, ExpireAt: 1}, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct {
		want string
		data []byte
	}{{"ended at", data}, {"malformed", []byte("nonsense")}} {
		key := identity(byte(i))
		err := network.ask(t.Context(), func(ctx context.Context, c *dht.Client) error {
			_, _, err := c.Store(ctx, keys.PublicKeyED25519{Key: public(key)}, []byte(recordName), 0, tc.data, dht.UpdateRuleSignature{}, time.Hour, key)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := network.Find(t.Context(), idOf(key)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("want %q: %v", tc.want, err)
		}
	}
}

func TestParseRecord(t *testing.T) {
	now := time.Unix(1<<29, 0)
	udp := func(ip string, port int32) address.Address {
		return &address.UDP{IP: net.ParseIP(ip).To4(), Port: port}
	}
	good := address.List{Addresses: []address.Address{udp("127.0.0.1", 1)}, ExpireAt: 1<<29 + 10}
	for name, tc := range map[string]struct {
		list  func(*address.List)
		value func(*dht.Value)
		ok    bool
	}{
		"good":           {nil, nil, true},
		"another key":    {nil, func(v *dht.Value) { v.KeyDescription.ID = keys.PublicKeyED25519{Key: public(identity(2))} }, false},
		"no key":         {nil, func(v *dht.Value) { v.KeyDescription.ID = keys.PublicKeyOverlay{} }, false},
		"not signed":     {nil, func(v *dht.Value) { v.KeyDescription.UpdateRule = dht.UpdateRuleAnybody{} }, false},
		"ended":          {nil, func(v *dht.Value) { v.TTL = 1 << 29 }, false},
		"trailing bytes": {nil, func(v *dht.Value) { v.Data = append(v.Data, 0, 0, 0, 0) }, false},
		"cut":            {nil, func(v *dht.Value) { v.Data = v.Data[:len(v.Data)-4] }, false},
		"list ended":     {func(l *address.List) { l.ExpireAt = 1 << 29 }, nil, false},
		"no end":         {func(l *address.List) { l.ExpireAt = 0 }, nil, false},
		"no address":     {func(l *address.List) { l.Addresses = nil }, nil, false},
		"five": {func(l *address.List) {
			for range maxAddrs {
				l.Addresses = append(l.Addresses, udp("127.0.0.1", 2))
			}
		}, nil, false},
		"another kind": {func(l *address.List) {
			l.Addresses = []address.Address{&address.QUIC{IP: net.IPv4(1, 2, 3, 4).To4(), Port: 1}}
		}, nil, false},
		"unspecified":      {func(l *address.List) { l.Addresses = []address.Address{udp("0.0.0.0", 1)} }, nil, false},
		"no port":          {func(l *address.List) { l.Addresses = []address.Address{udp("127.0.0.1", 0)} }, nil, false},
		"port beyond":      {func(l *address.List) { l.Addresses = []address.Address{udp("127.0.0.1", 65536)} }, nil, false},
		"negative port":    {func(l *address.List) { l.Addresses = []address.Address{udp("127.0.0.1", -1)} }, nil, false},
		"good among wrong": {func(l *address.List) { l.Addresses = append(l.Addresses, udp("127.0.0.1", 0)) }, nil, false},
	} {
		l := good
		if tc.list != nil {
			tc.list(&l)
		}
		data, err := tl.Serialize(l, true)
		if err != nil {
			t.Fatal(err)
		}
		v := recordOf(data, 1<<29+10)
		if tc.value != nil {
			tc.value(v)
		}
		if _, err := parseRecord(v, idOf(identity(1)), now); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseNetworkRefuses(t *testing.T) {
	for name, raw := range map[string]string{
		"no JSON":      "dht",
		"no nodes":     `{"dht":{"static_nodes":{"nodes":[]}}}`,
		"no DHT":       `{"liteservers":[]}`,
		"unsigned":     `{"dht":{"static_nodes":{"nodes":[{"@type":"dht.node","id":{"@type":"pub.ed25519","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},"addr_list":{"addrs":[{"@type":"adnl.address.udp","ip":1,"port":1}]},"version":1,"signature":""}]}}}`,
		"too many":     `{"dht":{"static_nodes":{"nodes":[` + strings.Repeat("{},", maxNodes) + `{}]}}}`,
		"too large":    strings.Repeat(" ", maxConfig+1),
		"wrong member": `{"dht":{"static_nodes":7}}`,
	} {
		if _, err := ParseNetwork([]byte(raw)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseID(t *testing.T) {
	id := idOf(identity(1))
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Fatalf("%s, %v", got, err)
	}
	want, err := tl.Hash(keys.PublicKeyED25519{Key: public(identity(1))})
	if err != nil || string(want) != string(id[:]) {
		t.Fatalf("the id is %s, want %x", id, want)
	}
	for _, s := range []string{"", "adnl:", id.String()[5:], id.String() + "0", id.String()[:68], strings.ToUpper(id.String()), "adnl:" + strings.ToUpper(id.String()[5:]), "adnl://" + id.String()[5:], "adnl:" + strings.Repeat("g", 64)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q is an id", s)
		}
	}
}

func TestDialer(t *testing.T) {
	network, _ := privateDHT(t, 1)
	addr := at(listenTCP(t, identity(1), 8, echo))
	dead := at(freeAddr(t))
	d := &Dialer{Network: network, ID: idOf(identity(1))}
	connect := func() error {
		c, err := d.Dial(t.Context())
		if err != nil {
			return err
		}
		return c.Close()
	}
	if err := connect(); !errors.Is(err, ErrNotFound) {
		t.Fatalf("before publication: %v", err)
	}
	publish := func(key ed25519.PrivateKey, addrs ...netip.AddrPort) {
		t.Helper()
		if err := network.Publish(t.Context(), key, addrs...); err != nil {
			t.Fatal(err)
		}
	}
	publish(identity(1), dead, addr)
	if err := connect(); err != nil {
		t.Fatalf("the second of its addresses: %v", err)
	}
	if key, err := d.Key(t.Context()); err != nil || !key.Equal(public(identity(1))) {
		t.Fatalf("%x, %v", key, err)
	}
	// The host moves: what the dialer remembers leads nowhere, and it asks again.
	d.record = &Record{Key: public(identity(1)), Addrs: []netip.AddrPort{dead}, Expires: time.Now().Add(time.Hour)}
	if err := connect(); err != nil {
		t.Fatalf("moved: %v", err)
	}
	// Somebody else's record leads here.
	publish(identity(2), addr)
	d = &Dialer{Network: network, ID: idOf(identity(2))}
	if err := connect(); err == nil || !strings.Contains(err.Error(), "does not answer as "+d.ID.String()) {
		t.Fatalf("another's address: %v", err)
	}
	publish(identity(3), dead)
	d = &Dialer{Network: network, ID: idOf(identity(3))}
	if err := connect(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("a dead address: %v", err)
	}
}

// A lookup leaves nothing running.
func TestNothingIsLeft(t *testing.T) {
	network, _ := privateDHT(t, 1)
	look := func() { network.Find(t.Context(), idOf(identity(1))) }
	look()
	before := runtime.NumGoroutine()
	for range 10 {
		look()
	}
	for begin := time.Now(); runtime.NumGoroutine() > before+10; {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
	}
}

func TestAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var at []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			announce(ctx, slog.New(slog.DiscardHandler), func(context.Context) error {
				if at = append(at, time.Since(begin)); len(at) == 2 {
					return errors.New("no node answers")
				}
				return nil
			})
		}()
		time.Sleep(time.Hour)
		cancel()
		<-done
		want := []time.Duration{0, renewal, renewal + retry, 2*renewal + retry}
		if len(at) != len(want) {
			t.Fatalf("published at %s, want %s", at, want)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Fatalf("published at %s, want %s", at, want)
			}
		}
	})
}
