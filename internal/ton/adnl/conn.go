package adnl

import (
	"bufio"
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
)

// Sizes in bytes.
const (
	maxData   = 64 << 10             // of a stream in one message
	maxPacket = 64 + 4 + 4 + maxData // nonce and hash, constructor, length, data: a multiple of 4
	minPacket = 64
	nonceSize = 32 // of authentication
)

// handshakeTimeout bounds the handshake, and at the server the wait for the first data too.
const handshakeTimeout = 10 * time.Second

var (
	errSize     = errors.New("adnl: a packet of impossible size")
	errHash     = errors.New("adnl: an altered packet")
	errMessage  = errors.New("adnl: a message that is none of a stream")
	errAuth     = errors.New("adnl: the authentication does not answer this session")
	errTooEarly = errors.New("adnl: a server writes only after the handshake, which its first Read completes")
)

// customMessage is the TL constructor of adnl.message.custom data:bytes = adnl.Message, little-endian.
var customMessage = binary.LittleEndian.AppendUint32(nil, tl.CRC("adnl.message.custom data:bytes = adnl.Message"))

// conn is a stream over ADNL packets.
type conn struct {
	net.Conn
	src *bufio.Reader

	reading sync.Mutex
	accept  func() error // the server's part in the handshake; nil once it is done
	rx      cipher.Stream
	packet  []byte // backs data
	data    []byte // received and not yet read
	rerr    error  // for ever: after an error the key stream is out of step

	writing sync.Mutex
	tx      cipher.Stream
	out     []byte
	werr    error // for ever, likewise
}

// Dial connects to the host that listens on addr and holds key. The error is of the network's, or says that the other end does
// not hold the key.
func Dial(ctx context.Context, addr string, key ed25519.PublicKey) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	a, err := client(ctx, c, key)
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // and not what it broke
		}
		return nil, fmt.Errorf("adnl: %s does not answer as %s: %w", addr, IDOf(key), err)
	}
	return a, nil
}

// params are the secrets of a session, which the client chooses: keys and counters as the server uses them, then padding.
type params [160]byte

func (p *params) serverTx() (cipher.Stream, error) { return keys.NewCipherCtr(p[:32], p[64:80]) }
func (p *params) serverRx() (cipher.Stream, error) { return keys.NewCipherCtr(p[32:64], p[80:96]) }

// crypt encrypts or decrypts the parameters in place.
func (p *params) crypt(ours ed25519.PrivateKey, theirs ed25519.PublicKey, checksum []byte) error {
	shared, err := keys.SharedKey(ours, theirs)
	if err != nil {
		return err
	}
	defer clear(shared)
	stream, err := keys.BuildSharedCipher(shared, checksum)
	if err != nil {
		return err
	}
	stream.XORKeyStream(p[:], p[:])
	return nil
}

// client makes the handshake with the holder of key.
func client(ctx context.Context, c net.Conn, server ed25519.PublicKey) (*conn, error) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	var p params
	defer clear(p[:])
	rand.Read(p[:])
	a := newConn(c)
	if a.rx, err = p.serverTx(); err != nil {
		return nil, err
	}
	if a.tx, err = p.serverRx(); err != nil {
		return nil, err
	}
	id, checksum := IDOf(server), sha256.Sum256(p[:])
	if err = p.crypt(key, server, checksum[:]); err != nil {
		return nil, err
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	auth, err := tl.Serialize(liteclient.TCPAuthenticate{Nonce: nonce}, true)
	if err != nil {
		return nil, err
	}
	if _, err = c.Write(bytes.Join([][]byte{id[:], pub, checksum[:], p[:], a.pack(append(a.begin(), auth...))}, nil)); err != nil {
		return nil, err
	}
	var theirs liteclient.TCPAuthenticationNonce
	if err = a.hear(&theirs); err != nil {
		return nil, err
	}
	if len(theirs.Nonce) != nonceSize {
		return nil, errAuth
	}
	sig := ed25519.Sign(key, append(nonce, theirs.Nonce...))
	if err = a.tell(liteclient.TCPAuthenticationComplete{PublicKey: keys.PublicKeyED25519{Key: pub}, Signature: sig}); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return a, nil
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, src: bufio.NewReader(c)} }

// server is the other end for the holder of key. Its first Read makes the handshake.
func server(c net.Conn, key ed25519.PrivateKey) *conn {
	a := newConn(c)
	a.accept = func() error { return a.serve(key) }
	return a
}

func (c *conn) serve(key ed25519.PrivateKey) error {
	var hello [256]byte // id, client's key, checksum, encrypted parameters
	if _, err := io.ReadFull(c.src, hello[:]); err != nil {
		return err
	}
	id, pub, checksum := hello[:32], ed25519.PublicKey(hello[32:64]), hello[64:96]
	p := params(hello[96:])
	defer clear(p[:])
	if ours := IDOf(key.Public().(ed25519.PublicKey)); !bytes.Equal(id, ours[:]) {
		return errors.New("adnl: a handshake for another id")
	}
	if err := p.crypt(key, pub, checksum); err != nil {
		return fmt.Errorf("adnl: a malformed handshake: %w", err)
	}
	if sum := sha256.Sum256(p[:]); subtle.ConstantTimeCompare(sum[:], checksum) != 1 {
		return errors.New("adnl: an altered handshake")
	}
	rx, err := p.serverRx()
	if err != nil {
		return err
	}
	tx, err := p.serverTx()
	if err != nil {
		return err
	}
	c.rx = rx
	c.writing.Lock()
	defer c.writing.Unlock()
	// Nobody else writes before authentication is complete: what goes out until then says nothing, whoever sent the handshake.
	c.tx = tx
	defer func() { c.werr = err }()
	if err = c.send(nil); err == nil {
		err = c.authenticate(pub)
	}
	return err
}

// authenticate makes the client sign a nonce of ours with the key of its handshake.
func (c *conn) authenticate(pub ed25519.PublicKey) error {
	var theirs liteclient.TCPAuthenticate
	if err := c.hear(&theirs); err != nil {
		return err
	}
	if len(theirs.Nonce) != nonceSize {
		return errAuth
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	if err := c.tell(liteclient.TCPAuthenticationNonce{Nonce: nonce}); err != nil {
		return err
	}
	var done liteclient.TCPAuthenticationComplete
	if err := c.hear(&done); err != nil {
		return err
	}
	if k, ok := done.PublicKey.(keys.PublicKeyED25519); !ok || !k.Key.Equal(pub) || !ed25519.Verify(pub, append(theirs.Nonce, nonce...), done.Signature) {
		return errAuth
	}
	return nil
}

// tell sends a message of the handshake.
func (c *conn) tell(m tl.Serializable) error {
	b, err := tl.Serialize(m, true)
	if err != nil {
		return err
	}
	return c.send(b)
}

// hear expects a message of the handshake.
func (c *conn) hear(m tl.Serializable) error {
	p, err := c.receive()
	if err != nil {
		return err
	}
	if rest, err := tl.Parse(m, p, true); err != nil || len(rest) > 0 {
		return errMessage
	}
	return nil
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for len(c.data) == 0 && c.rerr == nil {
		c.rerr = c.fill()
	}
	if len(c.data) == 0 {
		return 0, c.rerr
	}
	n := copy(b, c.data)
	c.data = c.data[n:]
	return n, nil
}

// fill gets the next data of the stream.
func (c *conn) fill() error {
	if c.accept != nil {
		if err := c.accept(); err != nil {
			return err
		}
		c.accept = nil
	}
	p, err := c.receive()
	if err != nil {
		return err
	}
	body, ok := bytes.CutPrefix(p, customMessage)
	if !ok {
		return errMessage
	}
	data, rest, err := tl.FromBytesNoCopy(body)
	if err != nil || len(rest) > 0 {
		return errMessage
	}
	c.data = data
	return nil
}

// receive returns the payload of the next packet that has one, valid until the next call.
func (c *conn) receive() ([]byte, error) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(c.src, size[:]); err != nil {
			return nil, err
		}
		c.rx.XORKeyStream(size[:], size[:])
		n := int64(binary.LittleEndian.Uint32(size[:]))
		if n < minPacket || n > maxPacket {
			return nil, errSize
		}
		if n > int64(cap(c.packet)) {
			c.packet = make([]byte, n)
		}
		p := c.packet[:n]
		if _, err := io.ReadFull(c.src, p); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		c.rx.XORKeyStream(p, p)
		if sum := sha256.Sum256(p[:n-32]); subtle.ConstantTimeCompare(sum[:], p[n-32:]) != 1 {
			return nil, errHash
		}
		if payload := p[32 : n-32]; len(payload) > 0 { // an empty one keeps the connection alive
			return payload, nil
		}
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.tx == nil {
		return 0, errTooEarly
	}
	for len(b) > 0 && c.werr == nil {
		part := b[:min(len(b), maxData)]
		if c.werr = c.sendData(part); c.werr == nil {
			n += len(part)
			b = b[len(part):]
		}
	}
	return n, c.werr
}

// begin starts a packet: room for its size, and a nonce, without which the hash would not authenticate anything.
func (c *conn) begin() []byte {
	p := append(c.out[:0], make([]byte, 4+32)...)
	rand.Read(p[4:])
	return p
}

// pack completes a packet with its size and hash, and encrypts it.
func (c *conn) pack(p []byte) []byte {
	sum := sha256.Sum256(p[4:])
	p = append(p, sum[:]...)
	binary.LittleEndian.PutUint32(p, uint32(len(p)-4))
	c.tx.XORKeyStream(p, p)
	c.out = p[:0]
	return p
}

func (c *conn) send(payload []byte) error {
	_, err := c.Conn.Write(c.pack(append(c.begin(), payload...)))
	return err
}

func (c *conn) sendData(data []byte) error {
	p, err := tl.AppendBytes(append(c.begin(), customMessage...), data)
	if err != nil {
		return err
	}
	_, err = c.Conn.Write(c.pack(p))
	return err
}
