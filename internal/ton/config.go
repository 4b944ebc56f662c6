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
	// Init is the trusted key block. Its zero state is on no path of trust.
	Init tonapi.BlockIDExt
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
		} `json:"validator"`
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		return nil, fmt.Errorf("network configuration: not a global.config.json: %w", err)
	}
	b := g.Validator.InitBlock
	switch {
	case b == nil:
		return nil, errors.New("network configuration: no validator.init_block to trust: get the network's complete global.config.json")
	case b.Workchain != masterchain || b.Shard != fullShard || b.SeqNo == 0 || len(b.RootHash) != 32 || len(b.FileHash) != 32:
		return nil, errors.New("network configuration: validator.init_block is not a masterchain block")
	case len(g.Liteservers) == 0:
		return nil, errors.New("network configuration: no liteservers")
	case len(g.Liteservers) > maxLiteservers:
		return nil, fmt.Errorf("network configuration: %d liteservers, at most %d", len(g.Liteservers), maxLiteservers)
	}
	c := &Config{Init: tonapi.BlockIDExt(*b)}
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
