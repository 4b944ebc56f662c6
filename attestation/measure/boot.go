package measure

import (
	"bytes"
	"cmp"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/bombyx-network/bombyx/attestation/internal/le"
)

// Limits on what a guest boots.
const (
	MaxKernel  = 256 << 20 // bytes
	MaxInitrd  = 1<<31 - 1 // bytes; what an int holds everywhere
	MaxCmdline = 2047      // bytes; COMMAND_LINE_SIZE of Linux on x86, less its end
)

// Direct is a direct boot: what QEMU takes with -kernel, -initrd and -append.
type Direct struct {
	Kernel  []byte // bzImage
	Initrd  []byte // empty without one
	Cmdline string // printable ASCII
}

func (b *Direct) check() error {
	switch {
	case len(b.Kernel) > MaxKernel:
		return fmt.Errorf("a kernel of %d bytes, limit %d", len(b.Kernel), MaxKernel)
	case len(b.Initrd) > MaxInitrd:
		return fmt.Errorf("an initrd of %d bytes, limit %d", len(b.Initrd), MaxInitrd)
	case len(b.Cmdline) > MaxCmdline:
		return fmt.Errorf("a command line of %d bytes, Linux takes %d", len(b.Cmdline), MaxCmdline)
	}
	for _, c := range []byte(b.Cmdline) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("the command line has a byte %#02x; printable ASCII alone means the same to all who measure it", c)
		}
	}
	return nil
}

// authenticode is a PE image's digest (Windows Authenticode Portable Executable
// Signature Format, "Calculating the PE Image Hash"): of all of the file but
// its checksum, the directory entry of its signatures, and those. What
// verifiers of such digests treat differently, a file whose sections leave gaps
// or that goes on behind its signatures, is refused.
func authenticode(b []byte, alg crypto.Hash) ([]byte, error) {
	if len(b) < 0x40 || string(b[:2]) != "MZ" {
		return nil, errors.New("no PE image: use a bzImage that was built with CONFIG_EFI_STUB")
	}
	r := le.Reader{Format: "PE header", Bytes: b}
	r.Next(0x3c, "DOS header")
	pe := r.Uint32("offset")
	r.Off = int(min(uint64(pe), uint64(len(b))))
	if magic := r.Next(4, "signature"); r.Err != nil || !bytes.Equal(magic, []byte("PE\x00\x00")) {
		return nil, errors.New("no PE image: use a bzImage that was built with CONFIG_EFI_STUB")
	}
	r.Next(2, "machine")
	sections := r.Uint16("number of sections")
	r.Next(12, "symbols")
	optionalSize := r.Uint16("size of the optional header")
	r.Next(2, "characteristics")
	optional := r.Off
	const (
		plus       = 0x20b // PE32+
		atHeaders  = 60    // SizeOfHeaders
		atChecksum = 64
		atNumber   = 108       // NumberOfRvaAndSizes
		atSigned   = 112 + 4*8 // the fifth directory entry
		least      = atSigned + 8
	)
	header := r.Next(optionalSize, "optional header")
	table := r.Next(40*sections, "section table")
	if r.Err != nil {
		return nil, r.Err
	}
	if len(header) < least || binary.LittleEndian.Uint16(header) != plus || binary.LittleEndian.Uint32(header[atNumber:]) < 5 {
		return nil, errors.New("no PE32+ image with five directory entries: use a kernel for x86-64")
	}
	signed, signedSize := int64(binary.LittleEndian.Uint32(header[atSigned:])), int64(binary.LittleEndian.Uint32(header[atSigned+4:]))
	end := int64(len(b))
	if signed != 0 || signedSize != 0 {
		if signedSize == 0 || signed+signedSize != end {
			return nil, fmt.Errorf("signatures of %d bytes at offset %d are not the end of a file of %d", signedSize, signed, end)
		}
		end = signed
	}
	at := int64(binary.LittleEndian.Uint32(header[atHeaders:]))
	if at < int64(r.Off) || at > end {
		return nil, fmt.Errorf("headers of %d bytes", at)
	}
	type span struct{ at, size int64 }
	var spans []span
	for ; len(table) > 0; table = table[40:] {
		if s := (span{int64(binary.LittleEndian.Uint32(table[20:])), int64(binary.LittleEndian.Uint32(table[16:]))}); s.size > 0 {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.at, b.at) })
	for _, s := range spans {
		if s.at != at || s.size > end-at {
			return nil, fmt.Errorf("a section of %d bytes at offset %d, where %d is next: the file's digest would depend on who computes it", s.size, s.at, at)
		}
		at += s.size
	}
	if end%8 != 0 {
		return nil, fmt.Errorf("%d bytes are not a multiple of 8: the file's digest would depend on who computes it", end)
	}
	h := alg.New()
	h.Write(b[:optional+atChecksum])
	h.Write(b[optional+atChecksum+4 : optional+atSigned])
	h.Write(b[optional+atSigned+8 : end])
	return h.Sum(nil), nil
}
