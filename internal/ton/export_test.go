package ton

import (
	"encoding/json"
	"testing"

	"github.com/xssnick/tonutils-go/liteclient"
	tonapi "github.com/xssnick/tonutils-go/ton"
)

// Pin makes a devnet a network that this program knows, until the test ends.
func Pin(t testing.TB, config []byte, globalID int32) {
	var g liteclient.GlobalConfig
	if err := json.Unmarshal(config, &g); err != nil {
		t.Fatal(err)
	}
	was := networks
	t.Cleanup(func() { networks = was })
	networks = append(networks[:len(networks):len(networks)], network{name: "test network", globalID: globalID,
		zero: [32]byte(g.Validator.ZeroState.RootHash), pin: tonapi.BlockIDExt(g.Validator.InitBlock)})
}

// ParseMemory reads the file that remembers a key block.
var ParseMemory = parseMemory

// Remembered is a file that remembers the trusted block itself.
func Remembered(c *Config) []byte { return encodeMemory(&c.Init, c) }
