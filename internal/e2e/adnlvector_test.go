package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"net/netip"

	"github.com/xssnick/tonutils-go/adnl/address"
	"github.com/xssnick/tonutils-go/adnl/dht"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"

	ours "github.com/bombyx-network/bombyx/internal/ton/adnl"
)

// adnlVector builds the bytes with the other implementation alone, and has ours take them.
func adnlVector(v *vector) {
	t := v.t
	serialize := func(m any) []byte { return must[[]byte](t)(tl.Serialize(m, true)) }
	host, client := v.key("host seed"), v.key("client seed")
	hostKey, clientKey := host.Public().(ed25519.PublicKey), client.Public().(ed25519.PublicKey)
	id := must[[]byte](t)(tl.Hash(keys.PublicKeyED25519{Key: hostKey}))
	v.want("id", id)
	if ours.IDOf(hostKey) != ours.ID(id) {
		t.Error("the id is another")
	}
	v.want("dht key", must[[]byte](t)(tl.Hash(dht.Key{ID: id, Name: []byte(v.text("dht name, ascii"))})))
	at := must[netip.AddrPort](t)(netip.ParseAddrPort(v.text("address")))
	published := int32(v.number("published"))
	list := address.List{Addresses: []address.Address{must[address.Address](t)(address.NewAddress(at.Addr().AsSlice(), int32(at.Port())))},
		Version: published, ReinitDate: published, ExpireAt: published + 3600}
	v.want("value", serialize(list))

	params := v.hex("parameters")
	sum := sha256.Sum256(params)
	shared := must[[]byte](t)(keys.SharedKey(client, hostKey))
	sealed := bytes.Clone(params)
	cipher, err := keys.BuildSharedCipher(shared, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	cipher.XORKeyStream(sealed, sealed)
	hello := bytes.Join([][]byte{id, clientKey, sum[:], sealed}, nil)
	v.want("handshake", hello)

	rx, err := keys.NewCipherCtr(params[:32], params[64:80])
	if err != nil {
		t.Fatal(err)
	}
	tx, err := keys.NewCipherCtr(params[32:64], params[80:96])
	if err != nil {
		t.Fatal(err)
	}
	pack := func(payload []byte) []byte {
		p := append(v.hex("nonce of packets"), payload...)
		sum := sha256.Sum256(p)
		p = append(binary.LittleEndian.AppendUint32(nil, uint32(len(p)+32)), append(p, sum[:]...)...)
		tx.XORKeyStream(p, p)
		return p
	}
	unpack := func(c net.Conn) []byte {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err)
		}
		rx.XORKeyStream(size[:], size[:])
		p := make([]byte, min(binary.LittleEndian.Uint32(size[:]), 1<<16))
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatal(err)
		}
		rx.XORKeyStream(p, p)
		if sum := sha256.Sum256(p[:len(p)-32]); !bytes.Equal(sum[:], p[len(p)-32:]) {
			t.Fatal("the host's packet does not decrypt")
		}
		return p[32 : len(p)-32]
	}
	complete := func(nonce []byte) []byte {
		return serialize(liteclient.TCPAuthenticationComplete{PublicKey: keys.PublicKeyED25519{Key: clientKey},
			Signature: ed25519.Sign(client, append(v.hex("client nonce"), nonce...))})
	}
	v.want("tcp.authentificationComplete, payload", complete(v.hex("server nonce")))
	data := []byte(v.text("data, ascii"))
	message := append(binary.LittleEndian.AppendUint32(nil, tl.CRC("adnl.message.custom data:bytes = adnl.Message")), must[[]byte](t)(tl.AppendBytes(nil, data))...)
	v.want("adnl.message.custom, payload", message)
	auth := pack(serialize(liteclient.TCPAuthenticate{Nonce: v.hex("client nonce")}))
	v.want("tcp.authentificate, packet", auth)

	// Our host takes all of it and reads the data.
	l := ours.Listen(must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), host)
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		b := make([]byte, len(data))
		if _, err := io.ReadFull(c, b); err != nil {
			b = []byte(err.Error())
		}
		got <- string(b)
	}()
	c := must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
	defer c.Close()
	c.Write(append(hello, auth...))
	if p := unpack(c); len(p) > 0 {
		t.Fatalf("the first packet is %x", p)
	}
	var theirs liteclient.TCPAuthenticationNonce
	if _, err := tl.Parse(&theirs, unpack(c), true); err != nil || len(theirs.Nonce) != 32 {
		t.Fatalf("%x, %v", theirs.Nonce, err)
	}
	c.Write(append(pack(complete(theirs.Nonce)), pack(message)...))
	if s := <-got; s != string(data) {
		t.Errorf("the host read %q", s)
	}
}
