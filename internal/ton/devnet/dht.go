package devnet

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/xssnick/tonutils-go/adnl"
	"github.com/xssnick/tonutils-go/adnl/address"
	"github.com/xssnick/tonutils-go/adnl/dht"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
)

// DHT is a node of the network's distributed hash table (ADNL over UDP). Its
// values live in memory, by this machine's clock and not the chain's.
type DHT struct {
	addr  *net.UDPAddr
	self  *dht.Node
	close func() error
}

// ServeDHT starts a node on addr ("127.0.0.1:0" picks a port), which knows
// those that the chain has started before. It stops when ctx ends, or with
// Close.
func (c *Chain) ServeDHT(ctx context.Context, addr string) (*DHT, error) {
	udp, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return nil, fmt.Errorf("devnet: DHT address %q: %w (a global.config.json holds IPv4 addresses only)", addr, err)
	}
	conn, err := net.ListenUDP("udp4", udp)
	if err != nil {
		return nil, fmt.Errorf("devnet: DHT: %w", err)
	}
	n, err := c.serveDHT(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("devnet: DHT: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = n.Close() })
	return n, nil
}

func (c *Chain) serveDHT(conn *net.UDPConn) (*DHT, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	n := &DHT{addr: conn.LocalAddr().(*net.UDPAddr)}
	key := c.key("dht " + strconv.Itoa(len(c.dht)))
	at, err := address.NewAddress(reachable(n.addr.IP), int32(n.addr.Port))
	if err != nil {
		return nil, err
	}
	// A node's description is the same after a restart: those who have it need no other.
	list := &address.List{Addresses: []address.Address{at}, Version: 1, ReinitDate: 1}
	if n.self, err = dht.BuildSignedNode(keys.PublicKeyED25519{Key: key.Public().(ed25519.PublicKey)}, list, 1, -1, key); err != nil {
		return nil, err
	}
	var known []*dht.Node
	for _, other := range c.dht {
		known = append(known, other.self)
	}
	g := adnl.NewGatewayWithNetManager(key, adnl.NewSingleNetReader(func(string) (net.PacketConn, error) { return conn, nil }))
	g.SetAddressList(list.Addresses)
	if err := g.StartServer(n.addr.String()); err != nil {
		return nil, err
	}
	srv, err := dht.NewServer(g, key, known, nil)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	n.close = sync.OnceValue(srv.Close)
	c.dht = append(c.dht, n)
	return n, nil
}

// Addr is the address that the node listens on.
func (n *DHT) Addr() *net.UDPAddr { return n.addr }

// Close stops the node.
func (n *DHT) Close() error { return n.close() }

// config is the node as a global.config.json has it.
func (n *DHT) config() liteclient.DHTNode {
	at := n.self.AddrList
	return liteclient.DHTNode{Type: "dht.node",
		ID: liteclient.ServerID{Type: "pub.ed25519", Key: base64.StdEncoding.EncodeToString(n.self.ID.(keys.PublicKeyED25519).Key)},
		AddrList: liteclient.DHTAddressList{Type: "adnl.addressList", Version: int(at.Version), ReinitDate: int(at.ReinitDate),
			Addrs: []liteclient.DHTAddress{{Type: "adnl.address.udp", IP: int(ipNumber(n.addr.IP)), Port: n.addr.Port}}},
		Version: int(n.self.Version), Signature: base64.StdEncoding.EncodeToString(n.self.Signature)}
}

// reachable is where to reach what listens on ip.
func reachable(ip net.IP) net.IP {
	if ip = ip.To4(); ip == nil || ip.IsUnspecified() {
		return net.IPv4(127, 0, 0, 1).To4()
	}
	return ip
}

// ipNumber is an address as a global.config.json has it: a signed number.
func ipNumber(ip net.IP) int32 { return int32(binary.BigEndian.Uint32(reachable(ip))) }
