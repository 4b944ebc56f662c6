package adnl

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	tonadnl "github.com/xssnick/tonutils-go/adnl"
	"github.com/xssnick/tonutils-go/adnl/address"
	"github.com/xssnick/tonutils-go/adnl/dht"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
)

const (
	// recordName is the name of the DHT key under the host's id. It is not "address": that is where an id's UDP addresses are,
	// and an adnl.addressList has no constructor for TCP.
	recordName = "bombyx/1 tcp"
	// recordLife is how long a record is good for. DHT nodes refuse an hour and a minute.
	recordLife = time.Hour
	// renewal leaves time for two more attempts before a record ends, and retry is between attempts after a failure.
	renewal = 20 * time.Minute
	retry   = time.Minute

	maxAddrs      = 4
	maxConfig     = 1 << 20 // bytes of a global.config.json
	maxNodes      = 1000    // that bootstrap the DHT
	lookups       = 4       // nodes whose false answers a lookup survives
	lookupTimeout = 20 * time.Second
)

// ErrNotFound means that no node of the DHT knows the address of an id.
var ErrNotFound = errors.New("adnl: the DHT has no address of this host: it is down, or on another network")

// A Record is where a host says it is.
type Record struct {
	Key     ed25519.PublicKey // whose hash is the id
	Addrs   []netip.AddrPort  // TCP, 1 to 4
	Expires time.Time
}

// Network is the part of a global.config.json that names the DHT's first nodes.
type Network struct{ config liteclient.GlobalConfig }

// ParseNetwork reads a global.config.json. It wants one node at least whose description is signed by its key; the others, and
// the rest of the file, may be anything.
func ParseNetwork(raw []byte) (*Network, error) {
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("adnl: network configuration: %d bytes, at most %d", len(raw), maxConfig)
	}
	var g struct {
		DHT liteclient.DHTConfig `json:"dht"`
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		return nil, fmt.Errorf("adnl: network configuration: not a global.config.json: %w", err)
	}
	if n := len(g.DHT.StaticNodes.Nodes); n > maxNodes {
		return nil, fmt.Errorf("adnl: network configuration: %d DHT nodes, at most %d", n, maxNodes)
	}
	n := &Network{liteclient.GlobalConfig{DHT: g.DHT}}
	nodes, err := dht.BootstrapNodesFromConfig(&n.config)
	if err != nil {
		return nil, fmt.Errorf("adnl: network configuration: %w", err)
	}
	if !slices.ContainsFunc(nodes, func(n *dht.Node) bool { return n.CheckSignature() == nil }) {
		return nil, errors.New("adnl: network configuration: no DHT node: get the network's complete global.config.json")
	}
	return n, nil
}

// ask runs f with a client of the DHT that lives no longer.
func (n *Network) ask(ctx context.Context, f func(context.Context, *dht.Client) error) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	// The library's own listener asks for 5 MB of queue and 64 of socket buffers.
	g := tonadnl.NewGatewayWithNetManager(key, tonadnl.NewSingleNetReader(func(addr string) (net.PacketConn, error) { return net.ListenPacket("udp", addr) }))
	if err := g.StartClient(); err != nil {
		return fmt.Errorf("adnl: DHT: %w", err)
	}
	c, err := dht.NewClientFromConfig(g, &n.config)
	if err != nil {
		g.Close()
		return fmt.Errorf("adnl: DHT: %w", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return f(ctx, c)
}

// Find looks a host up. It returns ErrNotFound when the network's DHT does not know it.
func (n *Network) Find(ctx context.Context, id ID) (r *Record, err error) {
	err = n.ask(ctx, func(ctx context.Context, c *dht.Client) error {
		var seen *dht.Continuation
		bad := ErrNotFound
		for range lookups {
			v, next, err := c.FindValue(ctx, &dht.Key{ID: id[:], Name: []byte(recordName)}, seen)
			if errors.Is(err, dht.ErrDHTValueIsNotFound) {
				return bad
			}
			if err != nil {
				return fmt.Errorf("adnl: the DHT does not answer: %w", err)
			}
			if r, err = parseRecord(v, id, time.Now()); err == nil {
				return nil
			}
			bad, seen = err, next
		}
		return bad
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// parseRecord reads a value of the DHT, whose signatures the client of the DHT has verified.
func parseRecord(v *dht.Value, id ID, now time.Time) (*Record, error) {
	k, ok := v.KeyDescription.ID.(keys.PublicKeyED25519)
	if _, signed := v.KeyDescription.UpdateRule.(dht.UpdateRuleSignature); !ok || !signed || len(k.Key) != ed25519.PublicKeySize || IDOf(k.Key) != id {
		return nil, errors.New("adnl: a record that the host did not sign")
	}
	var l address.List
	if rest, err := tl.Parse(&l, v.Data, true); err != nil || len(rest) > 0 {
		return nil, errors.New("adnl: the host's record is malformed")
	}
	r := &Record{Key: k.Key, Expires: time.Unix(int64(min(v.TTL, l.ExpireAt)), 0)}
	if !now.Before(r.Expires) {
		return nil, fmt.Errorf("adnl: the host's record ended at %s: it is down, or the clock is wrong", r.Expires.UTC().Format(time.RFC3339))
	}
	if len(l.Addresses) == 0 || len(l.Addresses) > maxAddrs {
		return nil, fmt.Errorf("adnl: the host's record has %d addresses, want 1 to %d", len(l.Addresses), maxAddrs)
	}
	for _, a := range l.Addresses {
		if _, err := address.DialString(a); err != nil { // neither udp nor udp6
			return nil, errors.New("adnl: the host's record has an address of an unknown kind")
		}
		ip, ok := netip.AddrFromSlice(address.IPValue(a))
		port := address.PortValue(a)
		if !ok || port < 1 || port > 65535 {
			return nil, errors.New("adnl: the host's record has a malformed address")
		}
		addr := netip.AddrPortFrom(ip, uint16(port))
		if err := CheckAddr(addr); err != nil {
			return nil, err
		}
		r.Addrs = append(r.Addrs, addr)
	}
	return r, nil
}

// CheckAddr refuses addresses that nobody can connect to.
func CheckAddr(a netip.AddrPort) error {
	if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Addr().Zone() != "" {
		return fmt.Errorf("adnl: %s is no address to connect to", a)
	}
	return nil
}

// Publish stores a host's addresses in the DHT, signed with its key, for an hour.
func (n *Network) Publish(ctx context.Context, key ed25519.PrivateKey, addrs ...netip.AddrPort) error {
	if len(addrs) == 0 || len(addrs) > maxAddrs {
		return fmt.Errorf("adnl: %d addresses to publish, want 1 to %d", len(addrs), maxAddrs)
	}
	now := time.Now()
	l := address.List{Version: int32(now.Unix()), ReinitDate: int32(now.Unix()), ExpireAt: int32(now.Add(recordLife).Unix())}
	for _, a := range addrs {
		if err := CheckAddr(a); err != nil {
			return err
		}
		entry, err := address.NewAddress(a.Addr().AsSlice(), int32(a.Port()))
		if err != nil {
			return fmt.Errorf("adnl: %w", err)
		}
		l.Addresses = append(l.Addresses, entry)
	}
	data, err := tl.Serialize(l, true)
	if err != nil {
		return fmt.Errorf("adnl: %w", err)
	}
	return n.ask(ctx, func(ctx context.Context, c *dht.Client) error {
		_, _, err := c.Store(ctx, keys.PublicKeyED25519{Key: key.Public().(ed25519.PublicKey)}, []byte(recordName), 0, data, dht.UpdateRuleSignature{}, recordLife, key)
		if err != nil {
			return fmt.Errorf("adnl: the DHT does not take the address: %w", err)
		}
		return nil
	})
}

// Announce keeps a host's addresses published until ctx ends.
func (n *Network) Announce(ctx context.Context, log *slog.Logger, key ed25519.PrivateKey, addrs ...netip.AddrPort) {
	announce(ctx, log, func(ctx context.Context) error { return n.Publish(ctx, key, addrs...) })
}

func announce(ctx context.Context, log *slog.Logger, publish func(context.Context) error) {
	for {
		wait := renewal
		if err := publish(ctx); err != nil && ctx.Err() == nil {
			log.Warn("not published", "error", err)
			wait = retry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}
