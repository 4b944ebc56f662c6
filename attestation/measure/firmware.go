package measure

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/internal/le"
)

const (
	// MaxFirmware is the size of the largest firmware image in bytes.
	MaxFirmware = 16 << 20

	page = 4096
	top  = 4 << 30 // where firmware ends in the guest's memory

	// maxMemory bounds what all sections of one kind may cover, so that a few bytes of foreign firmware cannot cost hours of hashing.
	maxMemory   = 64 << 20
	maxSections = 256
)

// A guid is in its binary order: the first three groups are little-endian.
type guid [16]byte

func mustGUID(s string) (g guid) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(g) {
		panic("no GUID: " + s)
	}
	binary.LittleEndian.PutUint32(g[:], binary.BigEndian.Uint32(b))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(b[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(b[6:]))
	copy(g[8:], b[8:])
	return g
}

// GUIDs of OVMF's table (OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm).
var (
	tableFooter    = mustGUID("96b582de-1fb2-45f7-baea-a366c55a082d")
	sevHashTable   = mustGUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
	sevResetBlock  = mustGUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
	sevMetadata    = mustGUID("dc886566-984a-4798-a75e-5585a7bf67cc")
	tdxMetadata    = mustGUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
	tdxMetadataTag = mustGUID("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")
)

// Firmware is a firmware image: what QEMU takes with -bios.
type Firmware struct {
	image []byte
	table map[guid][]byte // OVMF's GUIDed table
}

// ParseFirmware reads the table of an OVMF image, which it keeps.
func ParseFirmware(image []byte) (*Firmware, error) {
	if len(image) > MaxFirmware || len(image) < page || len(image)%page != 0 {
		return nil, fmt.Errorf("firmware: %d bytes, want whole pages of %d, %d bytes at most", len(image), page, MaxFirmware)
	}
	table, err := parseTable(image)
	if err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	return &Firmware{image, table}, nil
}

// address is the first member of several entries.
func address(entry []byte) (uint32, error) {
	r := le.Reader{Format: "entry", Bytes: entry}
	v := r.Uint32("address")
	return v, r.Err
}

// parseTable reads the GUIDed table, which lies below the reset vector and is read
// from its end: each entry is data, length of all three, GUID.
func parseTable(image []byte) (map[guid][]byte, error) {
	const vector, header = 32, 2 + 16
	end := len(image) - vector
	rest, total, id, err := lastEntry(image[:end])
	if err != nil || id != tableFooter {
		return nil, errors.New("no OVMF table at its end: a build of edk2 for confidential guests has one, files of variables and legacy BIOS have none")
	}
	if total < header || total > end {
		return nil, fmt.Errorf("table of %d bytes", total)
	}
	rest = rest[end-total:]
	table := make(map[guid][]byte)
	for len(rest) > 0 {
		head, size, id, err := lastEntry(rest)
		if err != nil {
			return nil, err
		}
		if size < header || size > len(rest) {
			return nil, fmt.Errorf("table entry of %d bytes, %d are left", size, len(rest))
		}
		if _, ok := table[id]; ok {
			return nil, fmt.Errorf("table entry %x is there twice", id)
		}
		table[id], rest = head[len(rest)-size:], rest[:len(rest)-size]
	}
	return table, nil
}

// lastEntry takes length and GUID off the end of b.
func lastEntry(b []byte) (head []byte, size int, id guid, err error) {
	if len(b) < 18 {
		return nil, 0, id, fmt.Errorf("table entry cut off: %d bytes", len(b))
	}
	head = b[:len(b)-18]
	copy(id[:], b[len(b)-16:])
	return head, int(binary.LittleEndian.Uint16(b[len(head):])), id, nil
}

// fromEnd returns the image from an offset that an entry states from the end.
func (f *Firmware) fromEnd(entry []byte) ([]byte, error) {
	offset, err := address(entry)
	if err != nil {
		return nil, err
	}
	if int64(offset) > int64(len(f.image)) {
		return nil, fmt.Errorf("it begins %d bytes before the end of an image of %d", offset, len(f.image))
	}
	return f.image[len(f.image)-int(offset):], nil
}

// A region is guest memory that a section covers.
type region struct{ address, size uint64 }

// pages checks that regions are whole pages, apart from each other, and not too large in all.
func pages(regions []region) error {
	var sum uint64
	for i, r := range regions {
		if r.address%page != 0 || r.size%page != 0 || r.size == 0 {
			return fmt.Errorf("section %d: %#x bytes at %#x are not whole pages", i, r.size, r.address)
		}
		if r.size > maxMemory || sum+r.size > maxMemory {
			return fmt.Errorf("section %d: more than %d bytes in all", i, maxMemory)
		}
		if r.address > math.MaxUint64-r.size {
			return fmt.Errorf("section %d: it ends beyond the address space", i)
		}
		sum += r.size
		for j, o := range regions[:i] {
			if r.address < o.address+o.size && o.address < r.address+r.size {
				return fmt.Errorf("section %d: it overlaps section %d", i, j)
			}
		}
	}
	return nil
}

// tagged reports whether a GUID precedes the part of the image that begins at b.
func (f *Firmware) tagged(b []byte, id guid) bool {
	at := len(f.image) - len(b)
	return at >= len(id) && bytes.Equal(f.image[at-len(id):at], id[:])
}
