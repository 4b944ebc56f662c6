package adnl

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tonadnl "github.com/xssnick/tonutils-go/adnl"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"
)

func identity(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// listenTCP starts a listener for key; each of its connections goes to serve.
func listenTCP(t testing.TB, key ed25519.PrivateKey, limit int, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for a := listen(l, key, limit); ; {
			c, err := a.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

func echo(c net.Conn) { io.Copy(c, c) }

func dial(t testing.TB, addr string, key ed25519.PrivateKey) net.Conn {
	t.Helper()
	c, err := Dial(t.Context(), addr, public(key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestStream(t *testing.T) {
	c := dial(t, listenTCP(t, identity(1), 1, echo), identity(1))
	for _, n := range []int{1, 3, 4, 253, 254, 255, maxData - 1, maxData, maxData + 1, 3*maxData + 5, 1 << 20} {
		sent := bytes.Repeat([]byte{byte(n), 1, 2, 3, 4, 5, 6}, n/7+1)[:n]
		var wrote int
		var werr error
		var wg sync.WaitGroup
		wg.Go(func() { wrote, werr = c.Write(sent) })
		got := make([]byte, n)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes came back otherwise: %v", n, err)
		}
		if wg.Wait(); wrote != n || werr != nil {
			t.Fatalf("wrote %d of %d: %v", wrote, n, werr)
		}
	}
}

// The other implementation's server takes our handshake and our packets.
func TestPeerServer(t *testing.T) {
	key := identity(1)
	srv := liteclient.NewServer([]ed25519.PrivateKey{key})
	addr := freeAddr(t)
	go srv.Listen(addr)
	defer srv.Close()
	var c net.Conn
	for begin := time.Now(); ; {
		var err error
		if c, err = Dial(t.Context(), addr, public(key)); err == nil {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
	defer c.Close()
	if err := c.(*conn).tell(liteclient.TCPPing{RandomID: 7}); err != nil {
		t.Fatal(err)
	}
	var pong liteclient.TCPPong
	if err := c.(*conn).hear(&pong); err != nil || pong.RandomID != 7 {
		t.Fatalf("%+v, %v", pong, err)
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The other implementation's client passes our handshake, and what it asks of a liteserver is refused.
func TestPeerClient(t *testing.T) {
	got := make(chan error, 1)
	addr := listenTCP(t, identity(1), 1, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		got <- err
	})
	pool := liteclient.NewConnectionPoolWithAuth(identity(2))
	defer pool.Stop()
	pool.SetOnDisconnect(func(string, string) {})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := pool.AddConnection(ctx, addr, base64Of(public(identity(1))), identity(2)); err != nil {
		t.Fatal(err)
	}
	var out tl.Serializable
	go pool.QueryLiteserver(ctx, tonapi.GetTime{}, &out)
	if err := <-got; !errors.Is(err, errMessage) {
		t.Fatalf("a query: %v", err)
	}
}

// A message is the TL that the other implementation writes.
func TestMessageIsTL(t *testing.T) {
	for _, n := range []int{4, 252, 256, 1 << 10} {
		data := bytes.Repeat([]byte{1, 2, 3, 4}, n/4)
		want, err := tl.Serialize(tonadnl.MessageCustom{Data: tl.Raw(data)}, true)
		if err != nil {
			t.Fatal(err)
		}
		ours, other := net.Pipe()
		c := &conn{Conn: ours, tx: plain{}}
		go c.Write(data)
		packet := make([]byte, 4+64+len(want))
		if _, err := io.ReadFull(other, packet); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(packet[36:36+len(want)], want) {
			t.Fatalf("%d bytes: %x, want %x", n, packet[36:36+len(want)], want)
		}
		ours.Close()
	}
}

// plain is a cipher that leaves everything as it is.
type plain struct{}

func (plain) XORKeyStream(dst, src []byte) { copy(dst, src) }

// recorder keeps what is written.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	out bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.out.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// A connection that somebody has recorded and sends again gets no answer: it would be under the same key stream as the first.
func TestReplayedConnection(t *testing.T) {
	errs := make(chan error, 2)
	addr := listenTCP(t, identity(1), 2, func(c net.Conn) {
		b := make([]byte, 5)
		_, err := io.ReadFull(c, b)
		errs <- err
		c.Write([]byte("answer"))
	})
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Conn: raw}
	c, err := client(t.Context(), r, public(identity(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); string(answer) != "answer" || err != nil {
		t.Fatalf("%q, %v", answer, err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	again, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(r.out.Bytes()); err != nil {
		t.Fatal(err)
	}
	heard, _ := io.ReadAll(again)
	if err := <-errs; !errors.Is(err, errAuth) {
		t.Fatalf("the server read on: %v", err)
	}
	nonce, err := tl.Serialize(liteclient.TCPAuthenticationNonce{Nonce: make([]byte, nonceSize)}, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*(4+64) + len(nonce); len(heard) > want {
		t.Fatalf("the replay got %d bytes, the handshake has %d", len(heard), want)
	}
}

func TestDialRefuses(t *testing.T) {
	raw := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.ReadFull(c, make([]byte, 256))
			serve(c)
		}()
		return l.Addr().String()
	}
	wait := func(c net.Conn) { c.Read(make([]byte, 1<<10)); c.Read(make([]byte, 1)) }
	for name, tc := range map[string]struct {
		addr string
		key  ed25519.PublicKey
	}{
		"nobody there":   {freeAddr(t), public(identity(1))},
		"another's host": {listenTCP(t, identity(2), 1, echo), public(identity(1))},
		"no ADNL":        {raw(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"+strings.Repeat("x", 1000)) }), public(identity(1))},
		"closes":         {raw(func(net.Conn) {}), public(identity(1))},
		"says nothing":   {raw(wait), public(identity(1))},
		"no key":         {listenTCP(t, identity(1), 1, echo), bytes.Repeat([]byte{0xff}, 32)},
		"zero key":       {listenTCP(t, identity(1), 1, echo), make([]byte, 32)},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		c, err := Dial(ctx, tc.addr, tc.key)
		cancel()
		if err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		} else if name == "says nothing" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// session is a server's connection that has come through the handshake, and the stream of packets that its peer writes.
func session(t *testing.T) (c *conn, peer net.Conn, pack func(payload []byte) []byte) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	c = server(ours, identity(1))
	errs := make(chan error, 1)
	go func() { errs <- c.accept() }()
	a, err := client(t.Context(), theirs, public(identity(1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	c.accept = nil
	return c, theirs, func(payload []byte) []byte { return bytes.Clone(a.pack(append(a.begin(), payload...))) }
}

func TestReadRefuses(t *testing.T) {
	message := func(data string) []byte {
		b, err := tl.AppendBytes(bytes.Clone(customMessage), []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ping, err := tl.Serialize(liteclient.TCPPing{}, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		payload []byte
		spoil   func([]byte) []byte
		want    error
	}{
		"another message":   {ping, nil, errMessage},
		"no message":        {[]byte{1}, nil, errMessage},
		"length beyond it":  {append(bytes.Clone(customMessage), 0xfe, 0xff, 0xff, 0xff), nil, errMessage},
		"trailing bytes":    {append(message("data"), 0, 0, 0, 0), nil, errMessage},
		"altered":           {message("data"), func(b []byte) []byte { b[50] ^= 1; return b }, errHash},
		"altered hash":      {message("data"), func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, errHash},
		"altered size":      {message("data"), func(b []byte) []byte { b[2] ^= 0xff; return b }, errSize},
		"oversized":         {make([]byte, maxPacket), nil, errSize},
		"cut":               {message("data"), func(b []byte) []byte { return b[:len(b)-1] }, io.ErrUnexpectedEOF},
		"cut in its size":   {message("data"), func(b []byte) []byte { return b[:2] }, io.ErrUnexpectedEOF},
		"cut after its end": {message(""), nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer, pack := session(t)
			b := pack(tc.payload)
			if tc.spoil != nil {
				b = tc.spoil(b)
			}
			go func() { peer.Write(b); peer.Close() }()
			for range 2 { // and it stays so
				if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, tc.want) {
					t.Fatalf("%d bytes, %v, want %v", n, err, tc.want)
				}
			}
			if cap(c.packet) > maxPacket {
				t.Fatalf("%d bytes of memory", cap(c.packet))
			}
		})
	}
	// Keeping a connection alive is no data.
	c, peer, pack := session(t)
	go peer.Write(append(append(pack(nil), pack(message(""))...), pack(message("data"))...))
	b := make([]byte, 10)
	if n, err := c.Read(b); string(b[:n]) != "data" || err != nil {
		t.Fatalf("%q, %v", b[:n], err)
	}
}

func TestServerRefuses(t *testing.T) {
	serialize := func(m tl.Serializable) []byte {
		b, err := tl.Serialize(m, true)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	nonce := bytes.Repeat([]byte{1}, nonceSize)
	for name, play := range map[string]func(c net.Conn, hello []byte, a *conn){
		"nothing":       func(c net.Conn, _ []byte, _ *conn) {},
		"half a hello":  func(c net.Conn, hello []byte, _ *conn) { c.Write(hello[:100]) },
		"garbage":       func(c net.Conn, _ []byte, _ *conn) { c.Write(make([]byte, 256)) },
		"another id":    func(c net.Conn, hello []byte, _ *conn) { hello[0] ^= 1; c.Write(hello) },
		"altered hello": func(c net.Conn, hello []byte, _ *conn) { hello[200] ^= 1; c.Write(hello) },
		"altered sum":   func(c net.Conn, hello []byte, _ *conn) { hello[70] ^= 1; c.Write(hello) },
		"no key": func(c net.Conn, hello []byte, _ *conn) {
			copy(hello[32:64], bytes.Repeat([]byte{0xff}, 32))
			c.Write(hello)
		},
		"low-order key": func(c net.Conn, hello []byte, _ *conn) {
			copy(hello[32:64], append([]byte{1}, make([]byte, 31)...))
			c.Write(hello)
		},
		"no authenticate": func(c net.Conn, hello []byte, a *conn) { c.Write(hello); a.Write([]byte("data")) },
		"short nonce": func(c net.Conn, hello []byte, a *conn) {
			c.Write(hello)
			a.send(serialize(liteclient.TCPAuthenticate{Nonce: []byte{1}}))
		},
		"no signature": func(c net.Conn, hello []byte, a *conn) {
			c.Write(hello)
			a.send(serialize(liteclient.TCPAuthenticate{Nonce: nonce}))
			a.hear(new(liteclient.TCPAuthenticationNonce))
			a.Write([]byte("data"))
		},
		"another key's signature": func(c net.Conn, hello []byte, a *conn) {
			c.Write(hello)
			a.send(serialize(liteclient.TCPAuthenticate{Nonce: nonce}))
			var theirs liteclient.TCPAuthenticationNonce
			a.hear(&theirs)
			a.send(serialize(liteclient.TCPAuthenticationComplete{PublicKey: keys.PublicKeyED25519{Key: public(identity(3))},
				Signature: ed25519.Sign(identity(3), append(bytes.Clone(nonce), theirs.Nonce...))}))
		},
		"a signature of less": func(c net.Conn, hello []byte, a *conn) {
			c.Write(hello)
			a.send(serialize(liteclient.TCPAuthenticate{Nonce: nonce}))
			a.hear(new(liteclient.TCPAuthenticationNonce))
			a.send(serialize(liteclient.TCPAuthenticationComplete{PublicKey: keys.PublicKeyED25519{Key: public(identity(2))}, Signature: ed25519.Sign(identity(2), nonce)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			addr := listenTCP(t, identity(1), 1, func(c net.Conn) {
				if _, err := c.Write([]byte("data")); !errors.Is(err, errTooEarly) {
					t.Errorf("wrote before the handshake: %v", err)
				}
				_, err := c.Read(make([]byte, 10))
				if _, werr := c.Write([]byte("data")); werr == nil {
					err = errors.Join(err, errors.New("wrote after a failed handshake"))
				}
				got <- err
			})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			hello, a := helloOf(t, c, identity(2))
			play(c, hello, a)
			c.Close()
			if err := <-got; err == nil || strings.Contains(err.Error(), "wrote after") {
				t.Fatal(err)
			} else {
				t.Log(err)
			}
		})
	}
}

// helloOf is the first packet of a client with this key, to identity(1), and its session.
func helloOf(t *testing.T, c net.Conn, key ed25519.PrivateKey) ([]byte, *conn) {
	var p params
	p[0] = 1
	a := newConn(c)
	a.rx, _ = p.serverTx()
	a.tx, _ = p.serverRx()
	id, sum := IDOf(public(identity(1))), sha256.Sum256(p[:])
	if err := p.crypt(key, public(identity(1)), sum[:]); err != nil {
		t.Error(err)
	}
	return bytes.Join([][]byte{id[:], public(key), sum[:], p[:]}, nil), a
}

// A peer that connects and says nothing is gone in ten seconds, whether it has made the handshake or not.
func TestSilentPeer(t *testing.T) {
	for _, handshake := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := pipes(make(chan net.Conn, 1))
			ours, theirs := net.Pipe()
			defer theirs.Close()
			l <- ours
			c, err := Listen(l, identity(1)).Accept()
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			go func() {
				if handshake {
					client(context.Background(), theirs, public(identity(1)))
				}
			}()
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != handshakeTimeout {
				t.Fatalf("after %s: %v", time.Since(begin), err)
			}
			c.Close()
			synctest.Wait()
		})
	}
}

// pipes is a listener for connections that a test makes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) { return <-p, nil }
func (p pipes) Close() error              { return nil }
func (p pipes) Addr() net.Addr            { return nil }

// A peer that stops reading holds a writer until the deadline, and no packet follows half a one.
func TestPeerThatStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := session(t)
		go io.ReadFull(peer, make([]byte, maxPacket+100))
		begin := time.Now()
		c.SetWriteDeadline(begin.Add(5 * time.Second))
		n, err := c.Write(make([]byte, 3*maxData))
		if n != maxData || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != 5*time.Second {
			t.Fatalf("wrote %d in %s: %v", n, time.Since(begin), err)
		}
		c.SetWriteDeadline(time.Time{})
		if n, err := c.Write([]byte("data")); n != 0 || err == nil {
			t.Fatalf("wrote %d after half a packet: %v", n, err)
		}
	})
}

func TestConnectionLimit(t *testing.T) {
	addr := listenTCP(t, identity(1), 2, echo)
	first, second := dial(t, addr, identity(1)), dial(t, addr, identity(1))
	if c, err := Dial(t.Context(), addr, public(identity(1))); err == nil {
		c.Close()
		t.Fatal("a third connection")
	}
	if _, err := second.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	first.Close()
	for begin := time.Now(); ; { // until the server has seen it
		c, err := Dial(t.Context(), addr, public(identity(1)))
		if err == nil {
			c.Close()
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
}
