package ton_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// sample has the form of mainnet's: a signed address, members that clients ignore. Its zero state is nobody's.
const sample = `{
  "@type": "config.global",
  "dht": {"@type": "dht.config.global", "k": 6, "a": 3, "static_nodes": {"nodes": [{"version": "anything"}]}},
  "liteservers": [
    {"ip": 84478511, "port": 19949, "id": {"@type": "pub.ed25519", "key": "n4VDnSCUuSpjnCyUk9e3QOOd6o0ItSWYbTnW3Wnn8wk="}},
    {"ip": -2018135749, "port": 53312, "id": {"@type": "pub.ed25519", "key": "aF91CuUHuuOv9rm2W5+O/4h38M3sRm40DtSdRxQhmtQ="}}
  ],
  "validator": {
    "@type": "validator.config.global",
    "zero_state": {"workchain": -1, "shard": -9223372036854775808, "seqno": 0, "root_hash": "E6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=", "file_hash": "XplPz01CXAps5qeSWUtxcyBfdAo5zVb1N979KLSKD24="},
    "init_block": {"file_hash": "XplPz01CXAps5qeSWUtxcyBfdAo5zVb1N979KLSKD24=", "root_hash": "F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=", "seqno": 7, "shard": -9223372036854775808, "workchain": -1},
    "hardforks": [{"seqno": "anything"}]
  }
}`

func TestParseConfig(t *testing.T) {
	c, err := ton.ParseConfig([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Liteservers) != 2 || c.Liteservers[0].Addr != netip.MustParseAddrPort("5.9.10.47:19949") || c.Liteservers[1].Addr != netip.MustParseAddrPort("135.181.177.59:53312") {
		t.Errorf("%v", c.Liteservers)
	}
	if c.Init.SeqNo != 7 || c.Init.RootHash[0] != 0x17 {
		t.Errorf("%+v", c.Init)
	}
	for name, v := range map[string][2]string{
		"not JSON":          {sample, "hello"},
		"no init block":     {`"init_block"`, `"other_block"`},
		"zero state only":   {`"seqno": 7`, `"seqno": 0`},
		"basechain block":   {`"workchain": -1}`, `"workchain": 0}`},
		"short hash":        {`F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=", "seqno": 7`, `F6Op", "seqno": 7`},
		"no zero state":     {`"zero_state"`, `"first_state"`},
		"later zero state":  {`"seqno": 0`, `"seqno": 1`},
		"no liteservers":    {`"liteservers"`, `"lightservers"`},
		"short key":         {"n4VDnSCUuSpjnCyUk9e3QOOd6o0ItSWYbTnW3Wnn8wk=", "n4VD"},
		"another key":       {"pub.ed25519", "pub.aes"},
		"port 0":            {"19949", "0"},
		"port 65536":        {"19949", "65536"},
		"33-bit address":    {"84478511", "8447851100"},
		"text for a number": {"19949", `"19949"`},
	} {
		if _, err := ton.ParseConfig([]byte(strings.Replace(sample, v[0], v[1], 1))); err == nil || !strings.Contains(err.Error(), "network configuration") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ton.ParseConfig(make([]byte, 1<<20+1)); err == nil {
		t.Error("2^20+1 bytes taken")
	}
	if _, err := ton.Dial(t.Context(), []byte("{}"), ton.Options{}); err == nil {
		t.Error("dialed nothing")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ton.ParseConfig(raw)
		if err != nil {
			return
		}
		if len(c.Liteservers) == 0 || len(c.Init.RootHash) != 32 || len(c.Init.FileHash) != 32 {
			t.Fatalf("%+v", c)
		}
	})
}

func FuzzOpenSaved(f *testing.F) {
	chain, err := devnet.New(devnet.Config{Seed: make([]byte, 32), Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		f.Fatal(err)
	}
	defer chain.Close()
	if err = chain.Fund(someone, 5); err != nil {
		f.Fatal(err)
	}
	if _, err = chain.Serve(f.Context(), "127.0.0.1:0"); err != nil {
		f.Fatal(err)
	}
	c, err := ton.Dial(f.Context(), chain.GlobalConfig(), ton.Options{Now: chain.Now})
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	acc, err := c.Account(f.Context(), someone)
	if err != nil {
		f.Fatal(err)
	}
	saved, err := acc.Save()
	if err != nil {
		f.Fatal(err)
	}
	again, err := ton.OpenSaved(saved)
	if err != nil || again.Balance != 5 || again.Head.RootHash != acc.Head.RootHash || again.GlobalID() != chain.GlobalID() {
		f.Fatalf("%+v %v", again, err)
	}
	f.Add(saved)
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := ton.OpenSaved(in)
		if err == nil && a.Head.RootHash == acc.Head.RootHash && a.Address.Equals(someone) && a.Balance != 5 {
			t.Fatalf("another balance proven from the same block: %+v", a)
		}
	})
}
