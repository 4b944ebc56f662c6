package ton_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/liteclient"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// published holds the validator sections of TON's own files, at the commits that network.go names.
var published = map[string]string{
	"mainnet": `"zero_state":{"workchain":-1,"shard":-9223372036854775808,"seqno":0,"root_hash":"F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=","file_hash":"XplPz01CXAps5qeSWUtxcyBfdAo5zVb1N979KLSKD24="},
		"init_block":{"workchain":-1,"shard":-9223372036854775808,"seqno":43792209,"root_hash":"AvaCaskwbUZCAOkULgK9zqtArFavpqg/KMTu9qO4M1U=","file_hash":"mlMbjSH0ahszX7yNIQOOawmCJxzofpaTeqlsrQspqUk="}`,
	"testnet": `"zero_state":{"workchain":-1,"shard":-9223372036854775808,"seqno":0,"root_hash":"gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg=","file_hash":"Z+IKwYS54DmmJmesw/nAD5DzWadnOCMzee+kdgSYDOg="},
		"init_block":{"workchain":-1,"shard":-9223372036854775808,"seqno":17908219,"root_hash":"y6qWqhCnLgzWHjUFmXysaiOljuK5xVoCRMLzUwGInVM=","file_hash":"Y/GziXxwuYte0AM4WT7tTWsCx+6rcfLpGmRaEQwhUKI="}`,
}

func configOf(validator string) []byte {
	return []byte(`{"liteservers":[{"ip":2130706433,"port":1,"id":{"@type":"pub.ed25519","key":"n4VDnSCUuSpjnCyUk9e3QOOd6o0ItSWYbTnW3Wnn8wk="}}],"validator":{` + validator + `}}`)
}

func TestPublicNetworksArePinned(t *testing.T) {
	for name, v := range published {
		c, err := ton.ParseConfig(configOf(v))
		if err != nil {
			t.Fatal(err)
		}
		seqno := c.Init.SeqNo
		// An older or newer file of the same network names another block: the pin is what counts.
		other := strings.Replace(v, `"seqno":4379`, `"seqno":3379`, 1)
		other = strings.Replace(other, `"seqno":1790`, `"seqno":2790`, 1)
		if c, err = ton.ParseConfig(configOf(other)); err != nil || other == v || c.Init.SeqNo != seqno {
			t.Errorf("%s: %+v %v", name, c, err)
		}
		// The pinned block under another hash, either of them, contradicts it.
		for _, swap := range [][2]string{{"AvaC", "BvaC"}, {"mlMb", "nlMb"}, {"y6qW", "z6qW"}, {"Y/Gz", "Z/Gz"}} {
			bad := strings.Replace(v, swap[0], swap[1], 1)
			if bad == v {
				continue
			}
			if _, err = ton.ParseConfig(configOf(bad)); err == nil || !strings.Contains(err.Error(), "contradict") {
				t.Errorf("%s with %s: %v", name, swap[1], err)
			}
		}
		// Without a zero state nobody knows which network it is.
		if _, err = ton.ParseConfig(configOf(v[strings.Index(v, `"init_block"`):])); err == nil || !strings.Contains(err.Error(), "zero_state") {
			t.Errorf("%s without zero state: %v", name, err)
		}
	}
}

// edited is a devnet's configuration with another validator section.
func edited(t *testing.T, config []byte, edit func(*liteclient.ValidatorConfig)) []byte {
	t.Helper()
	var g liteclient.GlobalConfig
	if err := json.Unmarshal(config, &g); err != nil {
		t.Fatal(err)
	}
	edit(&g.Validator)
	b, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPinnedNetwork(t *testing.T) {
	chain, _, c := start(t, 1)
	config := chain.GlobalConfig()
	for range 3 {
		if err := chain.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	later, err := c.MasterchainBlock(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(config []byte) error {
		t.Helper()
		c, err := ton.Dial(t.Context(), config, fast)
		if err == nil {
			c.Close()
		}
		return err
	}
	initAt := func(seqno uint32, root, file [32]byte) []byte {
		return edited(t, config, func(v *liteclient.ValidatorConfig) {
			v.InitBlock.SeqNo, v.InitBlock.RootHash, v.InitBlock.FileHash = seqno, root[:], file[:]
		})
	}

	// A private network that poses as mainnet cannot be proven from mainnet's block.
	asMainnet := edited(t, config, func(v *liteclient.ValidatorConfig) {
		if err := json.Unmarshal([]byte("{"+published["mainnet"]+"}"), v); err != nil {
			t.Fatal(err)
		}
	})
	if err := dial(asMainnet); !errors.Is(err, ton.ErrUnreachable) {
		t.Errorf("a devnet as mainnet: %v", err)
	}

	ton.Pin(t, config, devnet.DefaultGlobalID)
	if err := dial(config); err != nil {
		t.Errorf("the pinned network: %v", err)
	}
	// A file with a later block of the same chain: proven from the pin.
	if err := dial(initAt(later.Seqno, later.RootHash, later.FileHash)); err != nil {
		t.Errorf("a later init block: %v", err)
	}
	// Blocks that are not on the chain, and one that is not there yet.
	forged := later.RootHash
	forged[0] ^= 1
	if err := dial(initAt(later.Seqno, forged, later.FileHash)); !errors.Is(err, ton.ErrUnreachable) || !strings.Contains(err.Error(), "init block 3") {
		t.Errorf("a forged init block: %v", err)
	}
	if err := dial(initAt(1000, later.RootHash, later.FileHash)); !errors.Is(err, ton.ErrUnreachable) || !strings.Contains(err.Error(), "newer than") {
		t.Errorf("an init block of the future: %v", err)
	}

	// The chain must be the network that its zero state makes it.
	ton.Pin(t, asMainnet, -1) // shadows nothing: mainnet's own entry is found first
	ton.Pin(t, edited(t, config, func(v *liteclient.ValidatorConfig) { v.ZeroState.RootHash[0] ^= 1 }), devnet.DefaultGlobalID)
	private := edited(t, config, func(v *liteclient.ValidatorConfig) { v.ZeroState.RootHash[1] ^= 1 })
	if err := dial(private); err == nil || !strings.Contains(err.Error(), "its zero state is not") {
		t.Errorf("a private network under a known network's id: %v", err)
	}
}

func TestKnownNetworkUnderAnotherID(t *testing.T) {
	chain, _, _ := start(t, 1)
	ton.Pin(t, chain.GlobalConfig(), -239)
	if _, err := ton.Dial(t.Context(), chain.GlobalConfig(), fast); err == nil || !strings.Contains(err.Error(), "global id -217, but test network has -239") {
		t.Errorf("%v", err)
	}
}

// After an upgrade to a virtual machine that this program does not know, what would have to run it is refused with a word on
// what to do, and money goes on: wallets, channels and registries are read from their state, no code is run for them.
func TestNetworkUpgrade(t *testing.T) {
	chain, err := devnet.New(devnet.Config{SealOnSend: true, TVMVersion: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	if _, err = chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c, err := ton.Dial(t.Context(), chain.GlobalConfig(), fast)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := funded(t, chain)
	order, err := w.Sign(t.Context(), c, wallet.Message{To: someone, Amount: 5})
	if err != nil {
		t.Fatal(err)
	}
	_, method := c.RunGetMethod(t.Context(), chain.Giver(), "seqno")
	_, simulated := c.Simulate(t.Context(), order.BOC)
	for what, err := range map[string]error{"get method": method, "simulation": simulated} {
		if !errors.Is(err, ton.ErrUpgraded) || !strings.Contains(err.Error(), "get a newer release") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err = order.Send(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if acc, err := c.Account(t.Context(), someone); err != nil || acc.Balance != 5 {
		t.Errorf("%+v %v", acc, err)
	}
}
