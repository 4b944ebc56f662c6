package ton

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/xssnick/tonutils-go/liteclient"
	tonapi "github.com/xssnick/tonutils-go/ton"
)

const (
	maxConfig      = 1 << 20 // bytes; mainnet's has 30 KB
	maxLiteservers = 1000
	masterchain    = int32(-1)
	fullShard      = int64(-1 << 63)
)

// Config is what a client needs of a global.config.json.
type Config struct {
	Liteservers []Liteserver
	// Init is the trusted key block: the one that this program pins where it
	// knows the network by its zero state, else the configuration's own.
	Init tonapi.BlockIDExt

	zero    [32]byte           // root hash of the network's zero state
	network *network           // nil for a private network
	claimed *tonapi.BlockIDExt // the configuration's init block, where Init is another: to be proven
}

// GlobalID is the network's id, where this program knows the network: no connection is needed to tell. The chain is
// held to it. It is false for a private network, which only its chain can name.
func (c *Config) GlobalID() (int32, bool) {
	if c.network == nil {
		return 0, false
	}
	return c.network.globalID, true
}

// Liteserver is where a liteserver listens and the Ed25519 key that it must hold.
type Liteserver struct {
	Addr netip.AddrPort
	Key  [32]byte
}

// ParseConfig reads a global.config.json. Members that it does not need may be
// anything: the file belongs to the network, not to us.
func ParseConfig(raw []byte) (*Config, error) {
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("network configuration: %d bytes, at most %d", len(raw), maxConfig)
	}
	var g struct { // only what is used, so that a foreign part cannot break the rest
		Liteservers []liteclient.LiteserverConfig `json:"liteservers"`
		Validator   struct {
			InitBlock *liteclient.ConfigBlock `json:"init_block"`
			ZeroState *liteclient.ConfigBlock `json:"zero_state"`
		} `json:"validator"`
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		return nil, fmt.Errorf("network configuration: not a global.config.json: %w", err)
	}
	b, zero := g.Validator.InitBlock, g.Validator.ZeroState
	switch {
	case b == nil:
		return nil, errors.New("network configuration: no validator.init_block to trust: get the network's complete global.config.json")
	case b.Workchain != masterchain || b.Shard != fullShard || b.SeqNo == 0 || len(b.RootHash) != 32 || len(b.FileHash) != 32:
		return nil, errors.New("network configuration: validator.init_block is not a masterchain block")
	case zero == nil || zero.Workchain != masterchain || zero.SeqNo != 0 || len(zero.RootHash) != 32:
		return nil, errors.New("network configuration: no validator.zero_state to tell the network by: get the network's complete global.config.json")
	case len(g.Liteservers) == 0:
		return nil, errors.New("network configuration: no liteservers")
	case len(g.Liteservers) > maxLiteservers:
		return nil, fmt.Errorf("network configuration: %d liteservers, at most %d", len(g.Liteservers), maxLiteservers)
	}
	c := &Config{Init: tonapi.BlockIDExt(*b), zero: [32]byte(zero.RootHash), network: knownNetwork([32]byte(zero.RootHash))}
	if n := c.network; n != nil && !c.Init.Equals(&n.pin) {
		if c.Init.SeqNo == n.pin.SeqNo {
			return nil, fmt.Errorf("network configuration: validator.init_block %d is not %s's: its hashes contradict those that this program pins; "+
				"get global.config.json from https://ton.org", c.Init.SeqNo, n.name)
		}
		claimed := c.Init
		c.Init, c.claimed = n.pin, &claimed
	}
	for i, ls := range g.Liteservers {
		key, err := base64.StdEncoding.Strict().DecodeString(ls.ID.Key)
		if err != nil || len(key) != 32 || ls.ID.Type != "pub.ed25519" {
			return nil, fmt.Errorf("network configuration: liteserver %d: its id is not an Ed25519 key", i)
		}
		if ls.Port < 1 || ls.Port > 65535 {
			return nil, fmt.Errorf("network configuration: liteserver %d: no port %d", i, ls.Port)
		}
		// a signed or unsigned 32-bit number, by custom
		if ls.IP < -1<<31 || ls.IP >= 1<<32 {
			return nil, fmt.Errorf("network configuration: liteserver %d: no IPv4 address %d", i, ls.IP)
		}
		ip := uint32(ls.IP)
		addr := netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)})
		c.Liteservers = append(c.Liteservers, Liteserver{Addr: netip.AddrPortFrom(addr, uint16(ls.Port)), Key: [32]byte(key)})
	}
	return c, nil
}
