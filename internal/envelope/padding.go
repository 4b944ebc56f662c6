package envelope

import (
	"encoding/binary"
	"math/bits"
)

// PadUnit is the unit, in bytes, to which whole messages are padded at least.
const PadUnit = 1 << 10

// PaddedLen is the size to which a message of n bytes is padded: the next multiple of [PadUnit] up to 32 KiB, and beyond
// that Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019),
// which adds at most 6.25 % there and leaves a message of n bytes O(log log n) bits to tell by its size.
func PaddedLen(n int64) int64 {
	unit := int64(PadUnit)
	if n > 1 {
		e := bits.Len64(uint64(n)) - 1
		unit = max(unit, 1<<(e-bits.Len(uint(e))))
	}
	return max(unit, (n+unit-1)&^(unit-1))
}

// spread pads the content in run, which starts with 2 bytes of room for its length, by up to pad bytes, and returns the new
// end of the run. Content itself does not change: RFC 9292 lets content be cut into chunks anywhere and lets a length take
// more bytes than it needs (sections 3.2 and 3). So some leading bytes become chunks of one byte, each with a length of 8, 4, 2 or 1 bytes; the
// rest follows as one chunk. Few bytes of content take less padding than asked for: n bytes take 8(n-1) at most.
//
// buf[at:end] is the run; buf must have room for pad more bytes.
func spread(buf []byte, at, end, pad int) int {
	n := end - at - 2
	left := max(n-1, 0) // bytes that can be split off: one stays for the last chunk
	wide := min(pad/8, left)
	left -= wide
	odd := 0 // sizes 4, 2 and 1 still to use, as bits
	for size := 4; size > 0 && wide == pad/8; size /= 2 {
		if pad%8&size != 0 && left > 0 {
			odd |= size
			left--
		}
	}
	pad = 8*wide + odd
	split := wide + bits.OnesCount(uint(odd))
	copy(buf[at+2+split+pad:], buf[at+2+split:end])
	// From the last to the first: each lands to the right of those that are still to move.
	pos := at + split + pad
	from := at + 2 + split
	for size := 1; size <= 4; size *= 2 {
		if odd&size != 0 {
			from--
			c := buf[from]
			pos -= size + 1
			clear(buf[pos : pos+size])
			buf[pos] = byte(bits.TrailingZeros(uint(size))) << 6
			buf[pos+size-1] |= 1
			buf[pos+size] = c
		}
	}
	for pos > at {
		from--
		c := buf[from]
		pos -= 9
		binary.BigEndian.PutUint64(buf[pos:], 3<<62|1)
		buf[pos+8] = c
	}
	at += split + pad
	putLen(buf[at:], n-split)
	return at + 2 + n - split
}

// putLen writes a length below 2^14 in 2 bytes.
func putLen(b []byte, n int) {
	b[0], b[1] = 0x40|byte(n>>8), byte(n)
}
