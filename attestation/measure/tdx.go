package measure

import (
	"crypto"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"

	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/internal/le"
)

// Kinds of sections in TDVF metadata (Intel TDX Virtual Firmware Design Guide, 344991, section 11).
const (
	tdxBFV     = 0 // boot firmware volume: code
	tdxCFV     = 1 // configuration firmware volume: variables
	tdxHOB     = 2 // where the VMM describes the guest's memory
	tdxTempMem = 3
)

// tdxExtend is the attribute of a section whose contents are measured, not its place alone.
const tdxExtend = 1

type tdxSection struct {
	region
	data []byte // nil if it begins as zero
	kind uint32
	// extend: the contents go into MRTD.
	extend bool
}

// tdxSections reads "TDVF", length, version 1, number, and 32 bytes for each section.
func (f *Firmware) tdxSections() ([]tdxSection, error) {
	b, err := f.fromEnd(f.table[tdxMetadata])
	if err != nil {
		return nil, err
	}
	r := le.Reader{Format: "metadata", Bytes: b}
	magic, length, version, n := string(r.Next(4, "magic")), r.Uint32("length"), r.Uint32("version"), r.Uint32("number of sections")
	switch {
	case r.Err != nil:
		return nil, r.Err
	case magic != "TDVF" || version != 1 || !f.tagged(b, tdxMetadataTag):
		return nil, fmt.Errorf("begins with %q, version %d; this program knows TDVF, version 1, behind its GUID", magic, version)
	case n == 0 || n > maxSections || int64(length) != int64(r.Off)+32*int64(n) || int64(length) > int64(len(b)):
		return nil, fmt.Errorf("%d sections in %d bytes", n, length)
	}
	var sections []tdxSection
	var regions []region
	seen := map[uint32]int{}
	for i := range int(n) {
		offset, size := int64(r.Uint32("offset")), int64(r.Uint32("size"))
		s := tdxSection{region: region{r.Uint64("address"), r.Uint64("memory size")}, kind: r.Uint32("kind")}
		attributes := r.Uint32("attributes")
		if attributes&^tdxExtend != 0 {
			return nil, fmt.Errorf("section %d: unknown attributes %#x", i, attributes)
		}
		s.extend = attributes&tdxExtend != 0
		switch s.kind {
		case tdxBFV, tdxCFV:
			if uint64(size) != s.size || offset+size > int64(len(f.image)) {
				return nil, fmt.Errorf("section %d: %d bytes at offset %d of the image for %d bytes of memory", i, size, offset, s.size)
			}
			if s.kind == tdxBFV && !s.extend {
				return nil, fmt.Errorf("section %d: code that is not measured", i)
			}
			s.data = f.image[offset : offset+size]
		case tdxHOB, tdxTempMem:
			if size != 0 || s.extend {
				return nil, fmt.Errorf("section %d: contents where the VMM or nobody writes", i)
			}
		default:
			return nil, fmt.Errorf("section %d: unknown kind %d", i, s.kind)
		}
		seen[s.kind]++
		sections, regions = append(sections, s), append(regions, s.region)
	}
	if seen[tdxBFV] == 0 || seen[tdxHOB] != 1 {
		return nil, fmt.Errorf("%d volumes of code, %d TD HOBs; want one or more, and one", seen[tdxBFV], seen[tdxHOB])
	}
	return sections, pages(regions)
}

// MRTD returns the measurement of a TD's initial contents as QEMU and Linux
// build it: section by section, each page added (TDH.MEM.PAGE.ADD) and, where
// the metadata says so, measured (TDH.MR.EXTEND, 256 bytes at a time) before
// the next (Intel TDX Module Base Architecture Specification, 348549, "MRTD:
// Build-Time Measurement Register"). It covers the firmware alone.
func (f *Firmware) MRTD() (m [48]byte, err error) {
	if f.table[tdxMetadata] == nil {
		return m, errors.New("this firmware has no TDX metadata: it does not run as a TD")
	}
	sections, err := f.tdxSections()
	if err != nil {
		return m, fmt.Errorf("firmware: TDX metadata: %w", err)
	}
	h := sha512.New384()
	for _, s := range sections {
		for at := uint64(0); at < s.size; at += page {
			mrtd(h, "MEM.PAGE.ADD", s.address+at)
			if !s.extend {
				continue
			}
			for c := at; c < at+page; c += 256 {
				mrtd(h, "MR.EXTEND", s.address+c)
				h.Write(s.data[c : c+256])
			}
		}
	}
	h.Sum(m[:0])
	return m, nil
}

// mrtd extends with 128 bytes: the function's name, and from byte 16 on the address.
func mrtd(h hash.Hash, function string, gpa uint64) {
	var b [128]byte
	copy(b[:], function)
	binary.LittleEndian.PutUint64(b[16:], gpa)
	h.Write(b[:])
}

// EventLog returns what a TD that boots so extends into RTMR 1 and 2:
// [eventlog.Replay] leads to them. RTMR 0 depends on the machine that QEMU
// builds (memory, ACPI tables) and is not computed; nothing extends RTMR 3.
//
// It holds for edk2 from 2025.02 on, built with CC_MEASUREMENT_ENABLE, under QEMU
// from 10.0 on (with older ones the kernel's header changes before it is
// measured), and for Linux from 6.9 on with CONFIG_EFI_STUB.
func (b *Direct) EventLog() (*eventlog.Log, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if len(b.Initrd) == 0 || b.Cmdline == "" {
		return nil, errors.New("a TD's measured boot is known with an initrd and a command line only: give both")
	}
	kernel, err := authenticode(b.Kernel, crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	l := &eventlog.Log{Registers: eventlog.RTMR, Algorithm: crypto.SHA384}
	add := func(register int, kind eventlog.Type, name string, digest []byte) {
		l.Events = append(l.Events, eventlog.Event{Register: register, Type: kind, Name: name, Digest: digest, Binding: eventlog.Unbound})
	}
	sum := func(b []byte) []byte { d := sha512.Sum384(b); return d[:] }
	action := func(s string) { add(1, eventlog.EventEFIAction, s, sum([]byte(s))) }

	add(1, eventlog.EventEFIBootServicesApplication, "kernel", kernel)
	action("Calling EFI Application from Boot Option")
	add(1, eventlog.EventSeparator, "separator", sum(make([]byte, 4)))
	// OVMF appends the initrd's name; Linux measures its load options as they are, in UTF-16 with their end.
	var options []byte
	for _, c := range utf16.Encode([]rune(b.Cmdline + " initrd=initrd\x00")) {
		options = binary.LittleEndian.AppendUint16(options, c)
	}
	add(2, eventlog.EventTag, "command line", sum(options))
	add(2, eventlog.EventTag, "initrd", sum(b.Initrd))
	action("Exit Boot Services Invocation")
	action("Exit Boot Services Returned with Success")
	return l, nil
}
