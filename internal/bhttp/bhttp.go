// Package bhttp reads and writes the binary representation of HTTP messages (RFC 9292), as streams.
//
// The writing half appends to a byte slice: [AppendRequestHead], [AppendResponseHead], [AppendInformational],
// [AppendTrailer] and, for the content between them, [AppendVarint]. The reading half, [ReadRequest] and [ReadResponse],
// takes a [Reader] and hands back net/http messages whose Body streams: memory is bounded by [Limits] whatever the peer
// sends.
//
// Reading is strict. A message is refused unless it follows RFC 9292 and the field rules of RFC 9113 section 8.2.1, and
// bytes after its end are refused unless they are zero padding. A Body returns io.EOF only when the whole message, with
// trailers and padding, has been read and the Reader itself has reported io.EOF; whoever acts on a message must have seen
// that io.EOF.
//
// Both framings, known and indeterminate length, are read and written. Fields that belong to a connection (RFC 9110
// section 7.6.1) are dropped in both directions, since no connection is carried here.
package bhttp

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrInvalid is wrapped by every error about a message that breaks RFC 9292.
	ErrInvalid = errors.New("invalid binary HTTP message")
	// ErrLimit is wrapped by every error about a message that is larger than the [Limits].
	ErrLimit = errors.New("binary HTTP message exceeds a limit")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("bhttp: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func overLimit(format string, args ...any) error {
	return fmt.Errorf("bhttp: %w: %s", ErrLimit, fmt.Sprintf(format, args...))
}

// Limits bounds what reading one message may cost. A zero member means its default; there is no "unlimited".
type Limits struct {
	// HeaderBytes bounds the encoded size of control data plus header section, of each informational response, and of
	// the trailer section, each by itself. Default 64 KiB.
	HeaderBytes int
	// Fields bounds the number of field lines in one section. Default 256.
	Fields int
	// Informational bounds the number of 1xx responses before the final one. Default 4096.
	Informational int
}

func (l Limits) withDefaults() Limits {
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = 64 << 10
	}
	if l.Fields <= 0 {
		l.Fields = 256
	}
	if l.Informational <= 0 {
		l.Informational = 4096
	}
	return l
}

// Reader is the source of a message: a *bufio.Reader, or a decrypting reader with the same methods.
type Reader interface {
	io.Reader
	io.ByteReader
	// Buffered is the number of bytes that can be read without waiting for the peer.
	Buffered() int
	// Peek returns the next n bytes without reading them. It waits for the first if need be; n is otherwise at most
	// Buffered.
	Peek(n int) ([]byte, error)
	// Discard reads n bytes, at most Buffered, and drops them.
	Discard(n int) (int, error)
}

// A completer is what a [Reader] may have: it reports that all of the message is buffered. The end of the content is then known,
// and returned, with its last bytes.
type completer interface{ Complete() bool }

// Framing indicators, RFC 9292 section 3.3.
const (
	knownRequest          = 0
	knownResponse         = 1
	indeterminateRequest  = 2
	indeterminateResponse = 3
)

// maxVarint is the largest value of RFC 9000 section 16.
const maxVarint = 1<<62 - 1

// VarintLen is the length in bytes of the shortest encoding of v: 1, 2, 4 or 8.
func VarintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	default:
		return 8
	}
}

// AppendVarint appends v in the shortest encoding of RFC 9000 section 16. It panics if v does not fit 62 bits.
func AppendVarint(b []byte, v uint64) []byte {
	switch VarintLen(v) {
	case 1:
		return append(b, byte(v))
	case 2:
		return append(b, 0x40|byte(v>>8), byte(v))
	case 4:
		return append(b, 0x80|byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	if v > maxVarint {
		panic("bhttp: integer does not fit a variable-length integer")
	}
	return append(b, 0xc0|byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}
