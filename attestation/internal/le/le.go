// Package le reads little-endian fields of foreign bytes within their bounds.
package le

import (
	"encoding/binary"
	"fmt"
)

// Reader walks a byte slice. After the first error it returns zero values.
type Reader struct {
	Format string // whose fields they are: errors begin with it
	Bytes  []byte
	Off    int // how much was read
	Err    error
}

// Next returns the next n bytes, which cannot be appended to in place, or nil after an error, which a negative n is.
func (r *Reader) Next(n int, what string) []byte {
	if r.Err == nil && (n < 0 || n > len(r.Bytes)-r.Off) {
		r.Err = fmt.Errorf("%s: truncated in the %s: %d bytes wanted at offset %d of %d", r.Format, what, n, r.Off, len(r.Bytes))
	}
	if r.Err != nil {
		return nil
	}
	v := r.Bytes[r.Off : r.Off+n : r.Off+n]
	r.Off += n
	return v
}

// Uint16 reads 16 bits.
func (r *Reader) Uint16(what string) int {
	if v := r.Next(2, what); v != nil {
		return int(binary.LittleEndian.Uint16(v))
	}
	return 0
}

// Uint32 reads 32 bits.
func (r *Reader) Uint32(what string) uint32 {
	if v := r.Next(4, what); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// Uint64 reads 64 bits.
func (r *Reader) Uint64(what string) uint64 {
	if v := r.Next(8, what); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}
