// Package msgpack reads MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) within its bounds: integers, strings,
// bytes, arrays and maps, every length and integer in its shortest form, map members in the order that the reader asks for.
package msgpack

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// Reader walks a byte slice. After the first error it returns zero values.
type Reader struct {
	Format string // whose fields they are: errors begin with it
	Bytes  []byte
	Off    int // how much was read
	Err    error
}

func (r *Reader) failf(format string, args ...any) {
	if r.Err == nil {
		r.Err = fmt.Errorf(r.Format+": "+format, args...)
	}
}

func (r *Reader) next(n uint64, what string) []byte {
	if left := uint64(len(r.Bytes) - r.Off); r.Err == nil && n > left {
		r.failf("truncated in the %s: %d bytes wanted at offset %d of %d", what, n, r.Off, len(r.Bytes))
	}
	if r.Err != nil {
		return nil
	}
	end := r.Off + int(n)
	v := r.Bytes[r.Off:end:end]
	r.Off = end
	return v
}

// A form is one way to write a length or an integer: in the first byte itself, as base | n for n up to most, or, with base as the
// first byte, in the size bytes that follow.
type form struct {
	base byte
	size int
	most uint64
}

var (
	uintForms  = []form{{0x00, 0, 0x7f}, {0xcc, 1, math.MaxUint8}, {0xcd, 2, math.MaxUint16}, {0xce, 4, math.MaxUint32}, {0xcf, 8, math.MaxUint64}}
	strForms   = []form{{0xa0, 0, 31}, {0xd9, 1, math.MaxUint8}, {0xda, 2, math.MaxUint16}, {0xdb, 4, math.MaxUint32}}
	binForms   = []form{{0xc4, 1, math.MaxUint8}, {0xc5, 2, math.MaxUint16}, {0xc6, 4, math.MaxUint32}}
	arrayForms = []form{{0x90, 0, 15}, {0xdc, 2, math.MaxUint16}, {0xdd, 4, math.MaxUint32}}
	mapForms   = []form{{0x80, 0, 15}, {0xde, 2, math.MaxUint16}, {0xdf, 4, math.MaxUint32}}
)

// number reads a number in the first of the forms that can hold it.
func (r *Reader) number(forms []form, what, kind string) uint64 {
	b := r.next(1, what)
	if b == nil {
		return 0
	}
	var shorter uint64 // the most that a shorter form can hold, and 1
	for _, f := range forms {
		if f.size == 0 {
			if b[0] >= f.base && uint64(b[0]-f.base) <= f.most {
				return uint64(b[0] - f.base)
			}
		} else if b[0] == f.base {
			var wide [8]byte
			copy(wide[8-f.size:], r.next(uint64(f.size), what))
			n := binary.BigEndian.Uint64(wide[:])
			if r.Err == nil && n < shorter {
				r.failf("the %s is %d in %d bytes, more than it takes", what, n, 1+f.size)
				return 0
			}
			return n
		}
		shorter = f.most + 1
	}
	r.failf("the %s begins with %#02x, want %s", what, b[0], kind)
	return 0
}

// Uint reads an integer of at most most.
func (r *Reader) Uint(most uint64, what string) uint64 {
	n := r.number(uintForms, what, "an integer")
	if n > most {
		r.failf("the %s is %d, the most is %d", what, n, most)
		return 0
	}
	return n
}

// String reads a string in UTF-8.
func (r *Reader) String(what string) string {
	b := r.next(r.number(strForms, what, "a string"), what)
	if !utf8.Valid(b) {
		r.failf("the %s is not UTF-8", what)
		return ""
	}
	return string(b)
}

// Bin reads bytes, which it does not copy.
func (r *Reader) Bin(what string) []byte { return r.next(r.number(binForms, what, "bytes"), what) }

// Array reads the length of an array: never more than there are bytes left, of which every element takes one or more.
func (r *Reader) Array(what string) int {
	n := r.number(arrayForms, what, "an array")
	if left := len(r.Bytes) - r.Off; n > uint64(left) {
		r.failf("the %s has %d elements, with %d bytes left", what, n, left)
	}
	if r.Err != nil {
		return 0
	}
	return int(n)
}

// Octets reads an array of integers that are bytes.
func (r *Reader) Octets(what string) []byte {
	b := make([]byte, 0, r.Array(what))
	for range cap(b) {
		b = append(b, byte(r.Uint(math.MaxUint8, what)))
	}
	if r.Err != nil {
		return nil
	}
	return b
}

// Map reads how many members a map has; each is a Key and a value.
func (r *Reader) Map(what string) int {
	n := r.number(mapForms, what, "a map")
	if r.Err != nil || n > math.MaxUint16 {
		r.failf("the %s has %d members", what, n)
		return 0
	}
	return int(n)
}

// Members reads the head of a map that must have n members.
func (r *Reader) Members(n int, what string) {
	if got := r.Map(what); r.Err == nil && got != n {
		r.failf("the %s has %d members, want %d", what, got, n)
	}
}

// Key reads a member's name, which must be name.
func (r *Reader) Key(name string) {
	if got := r.String("name of member " + name); r.Err == nil && got != name {
		r.failf("member %.64q where %q is expected", got, name)
	}
}

// End reports an error of all that was read, or that there is more.
func (r *Reader) End() error {
	if r.Err == nil && r.Off != len(r.Bytes) {
		r.failf("%d bytes behind the document", len(r.Bytes)-r.Off)
	}
	return r.Err
}
