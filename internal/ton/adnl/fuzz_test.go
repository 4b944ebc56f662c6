package adnl

import (
	"bytes"
	"encoding/base64"
	"io"
	"net"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/adnl/address"
	"github.com/xssnick/tonutils-go/adnl/dht"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"

	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// canned is a connection whose peer has said everything that it will say.
type canned struct {
	net.Conn
	in io.Reader
}

func (c canned) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c canned) Write(b []byte) (int, error)      { return len(b), nil }
func (c canned) SetDeadline(time.Time) error      { return nil }
func (c canned) SetReadDeadline(time.Time) error  { return nil }
func (c canned) SetWriteDeadline(time.Time) error { return nil }

// packets writes each payload as a packet without encryption.
func packets(payloads ...[]byte) []byte {
	var out bytes.Buffer
	c := &conn{Conn: writeTo{nil, &out}, tx: plain{}}
	for _, p := range payloads {
		c.send(p)
	}
	return out.Bytes()
}

type writeTo struct {
	net.Conn
	w io.Writer
}

func (w writeTo) Write(b []byte) (int, error) { return w.w.Write(b) }

// FuzzStream reads what a peer sends once the handshake is over: whole packets with any payload, then any bytes.
func FuzzStream(f *testing.F) {
	f.Add(append(bytes.Clone(customMessage), 3, 'a', 'b', 'c'), []byte{})
	f.Add([]byte{}, packets([]byte("x")))
	f.Add(append(bytes.Clone(customMessage), 0xfe, 0xff, 0xff, 0xff), []byte{64, 0, 0, 0})
	f.Fuzz(func(t *testing.T, payload, rest []byte) {
		c := newConn(canned{in: bytes.NewReader(append(packets(payload), rest...))})
		c.rx = plain{}
		got, err := io.ReadAll(c)
		if len(got) > len(payload)+len(rest) || cap(c.packet) > maxPacket {
			t.Fatalf("%d bytes out of %d, %d of memory, %v", len(got), len(payload)+len(rest), cap(c.packet), err)
		}
	})
}

// FuzzHandshake plays any client to a server: any key and parameters, then any messages.
func FuzzHandshake(f *testing.F) {
	auth, _ := tl.Serialize(liteclient.TCPAuthenticate{Nonce: make([]byte, 32)}, true)
	done, _ := tl.Serialize(liteclient.TCPAuthenticationComplete{PublicKey: keys.PublicKeyED25519{Key: public(identity(2))}, Signature: make([]byte, 64)}, true)
	f.Add([]byte(public(identity(2))), auth, done)
	f.Fuzz(func(t *testing.T, pub, first, second []byte) {
		id := IDOf(public(identity(1)))
		hello := append(append(id[:], pub...), make([]byte, 256)...)[:256]
		if err := server(canned{in: bytes.NewReader(hello)}, identity(1)).accept(); err == nil {
			t.Fatal("a handshake without a secret passed")
		}
		// From here on as if the parameters had been right.
		c := newConn(canned{in: bytes.NewReader(packets(first, second))})
		c.rx, c.tx = plain{}, plain{}
		if err := c.authenticate(public(identity(2))); err == nil {
			t.Fatal("a signature over a nonce that nobody knew")
		}
	})
}

// FuzzRecord reads any value of the DHT that the host itself has signed.
func FuzzRecord(f *testing.F) {
	l := address.List{Addresses: []address.Address{&address.UDP{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 1}, &address.UDP6{IP: net.IPv6loopback, Port: 2}}, ExpireAt: 1 << 30}
	b, err := tl.Serialize(l, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, int32(1<<30))
	now := time.Unix(1<<29, 0)
	f.Fuzz(func(t *testing.T, data []byte, ttl int32) {
		r, err := parseRecord(recordOf(data, ttl), IDOf(public(identity(1))), now)
		if err != nil {
			return
		}
		if len(r.Addrs) == 0 || len(r.Addrs) > maxAddrs || !now.Before(r.Expires) {
			t.Fatalf("%+v", r)
		}
		for _, a := range r.Addrs {
			if CheckAddr(a) != nil {
				t.Fatal(a)
			}
		}
	})
}

func recordOf(data []byte, ttl int32) *dht.Value {
	return &dht.Value{KeyDescription: dht.KeyDescription{ID: keys.PublicKeyED25519{Key: public(identity(1))}, UpdateRule: dht.UpdateRuleSignature{}}, Data: data, TTL: ttl}
}

func FuzzParseNetwork(f *testing.F) {
	chain, err := devnet.New(devnet.Config{})
	if err != nil {
		f.Fatal(err)
	}
	defer chain.Close()
	if _, err := chain.ServeDHT(f.Context(), "127.0.0.1:0"); err != nil {
		f.Fatal(err)
	}
	f.Add(chain.GlobalConfig())
	f.Add([]byte(`{"dht":{"static_nodes":{"nodes":[{"id":{"key":"AA=="},"addr_list":{"addrs":[{"@type":"adnl.address.udp6","ip":"::1"}]}}]}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := ParseNetwork(raw); (n == nil) == (err == nil) {
			t.Fatal(n, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(IDOf(public(identity(1))).String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Fatalf("%q is %s", s, id)
		}
	})
}
