package envelope

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

// MaxChunk is the largest plaintext of one chunk, in bytes: what every receiver must accept (draft section 3). Larger chunks
// are neither sent nor accepted.
const MaxChunk = 1 << 14

const (
	maxSealed = MaxChunk + tagSize
	maxPrefix = 4 // a length up to maxSealed takes at most 4 bytes
)

// ErrAuthentication means that bytes do not decrypt under the key: altered, reordered, or meant for another key.
var ErrAuthentication = errors.New("envelope: chunk does not authenticate")

// ErrTruncated is wrapped by the error about a stream that ends before its authenticated end. It is an
// io.ErrUnexpectedEOF.
var ErrTruncated = fmt.Errorf("envelope: stream ends before its authenticated end: %w", io.ErrUnexpectedEOF)

// block is memory for a short message, or for the part of a long one in transit. Blocks are used again, and are clear in
// between.
type block [blockSize]byte

const blockSize = 4 << 10

var blocks = sync.Pool{New: func() any { return new(block) }}

func (b *block) free() {
	clear(b[:])
	blocks.Put(b)
}

// bigBlock has room for a whole chunk and what goes with it, for messages that are longer. They are used again likewise.
type bigBlock [maxLead + maxSealed]byte

// maxLead is the room in front of the plaintext of a response's first chunk.
const maxLead = 32 + maxPrefix

var bigBlocks = sync.Pool{New: func() any { return new(bigBlock) }}

func (b *bigBlock) free() {
	clear(b[:])
	bigBlocks.Put(b)
}

// chunkReader decrypts a chunked stream. It returns io.EOF only after the final chunk has authenticated and been read.
// It is a bhttp.Reader.
type chunkReader struct {
	src    io.Reader
	cipher chunkCipher
	plain  []byte // what has been decrypted and not been read; a part of buf
	buf    []byte
	block  *block // what buf is a part of, unless it has grown
	big    *bigBlock
	r, w   int // buf[r:w] is ciphertext that has not been decrypted
	final  bool
	err    error
}

// newChunkReader makes a chunkReader with a buffer of at first size bytes, at most blockSize.
func newChunkReader(src io.Reader, size int) *chunkReader {
	b := blocks.Get().(*block)
	return &chunkReader{src: src, buf: b[:size], block: b}
}

// release gives the block back. Nothing may refer to it any more.
func (c *chunkReader) release() {
	if c.block != nil {
		c.block.free()
		c.block = nil
	}
	if c.big != nil {
		c.big.free()
		c.big = nil
	}
}

// need waits until n bytes of ciphertext are in the buffer.
func (c *chunkReader) need(n int) error {
	if c.w-c.r >= n {
		return nil
	}
	return c.read(n)
}

func (c *chunkReader) read(n int) error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.r+n > len(c.buf) {
		into, grow := c.buf, n > len(c.buf)
		var big *bigBlock
		if grow {
			big = bigBlocks.Get().(*bigBlock)
			into = big[:]
		}
		copy(into, c.buf[c.r:c.w])
		c.buf, c.r, c.w = into, 0, c.w-c.r
		if grow {
			c.release()
			c.big = big
		}
	}
	m, err := io.ReadAtLeast(c.src, c.buf[c.w:], n-(c.w-c.r))
	c.w += m
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrTruncated
	}
	return err
}

// take returns the next n bytes of the stream as they are. They are valid until the next call.
func (c *chunkReader) take(n int) ([]byte, error) {
	if err := c.need(n); err != nil {
		return nil, err
	}
	c.r += n
	return c.buf[c.r-n : c.r], nil
}

// fill decrypts the next chunk once the previous one has been read.
func (c *chunkReader) fill() error {
	if c.err == nil && c.final {
		c.err = io.EOF
		c.buf, c.plain, c.r, c.w = nil, nil, 0, 0 // nothing is left in them
		c.release()
	}
	if c.err == nil {
		c.err = c.next()
	}
	return c.err
}

func (c *chunkReader) next() error {
	if err := c.need(1); err != nil {
		return err
	}
	prefix := 1 << (c.buf[c.r] >> 6)
	if err := c.need(prefix); err != nil {
		return err
	}
	n := uint64(c.buf[c.r] & 0x3f)
	for _, b := range c.buf[c.r+1 : c.r+prefix] {
		n = n<<8 | uint64(b)
	}
	c.r += prefix
	if n == 0 {
		return c.last()
	}
	if n > maxSealed {
		return fmt.Errorf("envelope: chunk of %d bytes, at most %d are accepted", n, maxSealed)
	}
	if n <= tagSize {
		return fmt.Errorf("%w: chunk without data", ErrAuthentication)
	}
	sealed, err := c.take(int(n))
	if err != nil {
		return err
	}
	c.plain, err = c.cipher.open(sealed, nil)
	return err
}

// last reads the chunk that reaches to the end of the stream.
func (c *chunkReader) last() error {
	for {
		size := c.w - c.r
		if size > maxSealed {
			return fmt.Errorf("envelope: final chunk of more than %d bytes", maxSealed)
		}
		// Room for what fits the buffer, and only then for more: most final chunks are small.
		room := len(c.buf)
		if size == room {
			room *= 2
		}
		err := c.need(min(room, maxSealed+1))
		if err == ErrTruncated {
			break
		}
		if err != nil {
			return err
		}
	}
	if c.w-c.r < tagSize {
		return ErrTruncated
	}
	sealed, _ := c.take(c.w - c.r)
	plain, err := c.cipher.open(sealed, finalAAD)
	if err != nil {
		// The end is where tampering and cutting look alike.
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	c.plain, c.final = plain, true
	return nil
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.plain) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

func (c *chunkReader) ReadByte() (byte, error) {
	for len(c.plain) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	b := c.plain[0]
	c.plain = c.plain[1:]
	return b, nil
}

// Complete reports that nothing is left to decrypt.
func (c *chunkReader) Complete() bool { return c.final }

func (c *chunkReader) Buffered() int { return len(c.plain) }

func (c *chunkReader) Peek(n int) ([]byte, error) {
	for n > 0 && len(c.plain) == 0 {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	return c.plain[:n], nil
}

func (c *chunkReader) Discard(n int) (int, error) {
	c.plain = c.plain[n:]
	return n, nil
}

// putPrefix writes the length of a sealed chunk, at most maxSealed, so that it ends at b[at], and returns where it starts.
func putPrefix(b []byte, at, n int) int {
	at -= bhttp.VarintLen(uint64(n))
	bhttp.AppendVarint(b[:at], uint64(n))
	return at
}
