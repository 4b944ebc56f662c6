package measure

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/bombyx-network/bombyx/attestation/internal/le"
)

// MaxVCPUs bounds a guest's virtual CPUs: each is a page to measure.
const MaxVCPUs = 4096

// Kinds of sections in OVMF's SEV metadata (OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
const (
	sevMemory       = 1    // SNP_SEC_MEM: zero
	sevSecrets      = 2    // SNP_SECRETS
	sevCPUID        = 3    // CPUID
	sevCAA          = 4    // SVSM_CAA: zero
	sevKernelHashes = 0x10 // SNP_KERNEL_HASHES: zero, or the hashes
)

type sevSection struct {
	region
	kind uint32
}

// sevSections reads "ASEV", length, version 1, number, and 12 bytes for each section.
func (f *Firmware) sevSections() ([]sevSection, error) {
	b, err := f.fromEnd(f.table[sevMetadata])
	if err != nil {
		return nil, err
	}
	r := le.Reader{Format: "metadata", Bytes: b}
	magic, length, version, n := string(r.Next(4, "magic")), r.Uint32("length"), r.Uint32("version"), r.Uint32("number of sections")
	switch {
	case r.Err != nil:
		return nil, r.Err
	case magic != "ASEV" || version != 1:
		return nil, fmt.Errorf("begins with %q, version %d; this program knows ASEV, version 1", magic, version)
	case n == 0 || n > maxSections || int64(length) != int64(r.Off)+12*int64(n) || int64(length) > int64(len(b)):
		return nil, fmt.Errorf("%d sections in %d bytes", n, length)
	}
	var sections []sevSection
	var regions []region
	kinds := map[uint32]int{}
	for range n {
		s := sevSection{region{uint64(r.Uint32("address")), uint64(r.Uint32("size"))}, r.Uint32("kind")}
		switch s.kind {
		case sevMemory, sevCAA:
		case sevSecrets, sevCPUID, sevKernelHashes:
			if s.size != page {
				return nil, fmt.Errorf("section %d: %d bytes of kind %d, want one page", len(sections), s.size, s.kind)
			}
		default:
			return nil, fmt.Errorf("section %d: unknown kind %d", len(sections), s.kind)
		}
		sections, regions = append(sections, s), append(regions, s.region)
		kinds[s.kind]++
	}
	if kinds[sevSecrets] != 1 || kinds[sevCPUID] != 1 || kinds[sevKernelHashes] > 1 {
		return nil, fmt.Errorf("%d pages for secrets, %d for CPUID, %d for kernel hashes; want one, one, and one at most", kinds[sevSecrets], kinds[sevCPUID], kinds[sevKernelHashes])
	}
	return sections, pages(regions)
}

// SNP describes how QEMU launches a SEV-SNP guest (-object sev-snp-guest).
type SNP struct {
	VCPUs         int     // -smp, all of them
	CPUSignature  uint32  // CPUID Fn0000_0001_EAX as the guest sees it, see [CPUSignature]
	GuestFeatures uint64  // SEV_FEATURES of each virtual CPU; Linux as host sets bit 0, SNPActive, and nothing else unless told to
	Boot          *Direct // kernel-hashes=on; nil without a kernel, or where it is not measured
}

// LaunchDigest returns the MEASUREMENT that reports of such a guest carry
// (SEV Secure Nested Paging Firmware ABI Specification, 56860, section 8.17.2): the firmware, the pages that its metadata names, and a
// VMSA for each virtual CPU.
func (f *Firmware) LaunchDigest(g SNP) ([48]byte, error) {
	if g.VCPUs < 1 || g.VCPUs > MaxVCPUs {
		return [48]byte{}, fmt.Errorf("%d virtual CPUs, want 1 to %d", g.VCPUs, MaxVCPUs)
	}
	if g.GuestFeatures&1 == 0 {
		return [48]byte{}, fmt.Errorf("guest features %#x: bit 0, SNPActive, is set in every SEV-SNP guest", g.GuestFeatures)
	}
	if f.table[sevMetadata] == nil {
		return [48]byte{}, errors.New("this firmware has no SEV-SNP metadata: " + amdSev)
	}
	sections, err := f.sevSections()
	if err != nil {
		return [48]byte{}, fmt.Errorf("firmware: SEV metadata: %w", err)
	}
	reset, err := address(f.table[sevResetBlock])
	if err != nil {
		return [48]byte{}, fmt.Errorf("firmware: SEV-ES reset block: %w", err)
	}
	hashes, err := f.hashes(g.Boot, sections)
	if err != nil {
		return [48]byte{}, err
	}
	var d launchDigest
	d.normal(top-uint64(len(f.image)), f.image)
	for _, s := range sections {
		switch {
		case s.kind == sevSecrets:
			d.update(pageSecrets, s.address, [48]byte{})
		case s.kind == sevCPUID:
			d.update(pageCPUID, s.address, [48]byte{})
		case s.kind == sevKernelHashes && hashes != nil:
			d.normal(s.address, hashes)
		default:
			d.zero(s.region)
		}
	}
	first, other := vmsa(0xffff_fff0, g), vmsa(reset, g)
	for i := range g.VCPUs {
		p := &other
		if i == 0 {
			p = &first
		}
		d.update(pageVMSA, vmsaAddress, sha512.Sum384(p[:]))
	}
	return d, nil
}

const amdSev = "build edk2's OvmfPkg/AmdSev/AmdSevX64.dsc"

// hashes is the page with the hashes of what is booted, which the firmware
// checks; nil without a kernel.
func (f *Firmware) hashes(boot *Direct, sections []sevSection) ([]byte, error) {
	i := slices.IndexFunc(sections, func(s sevSection) bool { return s.kind == sevKernelHashes })
	if boot == nil {
		return nil, nil
	}
	if err := boot.check(); err != nil {
		return nil, err
	}
	if f.table[sevHashTable] == nil || i < 0 {
		return nil, errors.New("this firmware does not check what it boots: any kernel would run under this measurement; " + amdSev)
	}
	at, err := address(f.table[sevHashTable])
	if err != nil {
		return nil, fmt.Errorf("firmware: SEV hash table: %w", err)
	}
	table, s := boot.sevHashes(), sections[i]
	if uint64(at) < s.address || uint64(at)+uint64(len(table)) > s.address+s.size {
		return nil, fmt.Errorf("firmware: the hash table at %#x lies outside of its section at %#x", at, s.address)
	}
	p := make([]byte, page)
	copy(p[uint64(at)-s.address:], table)
	return p, nil
}

// A launchDigest grows by PAGE_INFO structures.
type launchDigest [48]byte

// PAGE_TYPE of SNP_LAUNCH_UPDATE.
const (
	pageNormal  = 1
	pageVMSA    = 2
	pageZero    = 3
	pageSecrets = 5
	pageCPUID   = 6

	// vmsaAddress is the guest physical address that KVM gives to every VMSA (INITIAL_VMSA_GPA).
	vmsaAddress = 0xffff_ffff_f000
)

// update extends the digest with one page: it becomes SHA-384(PAGE_INFO).
func (d *launchDigest) update(kind byte, gpa uint64, contents [48]byte) {
	const length = 0x70
	b := make([]byte, 0, length)
	b = append(append(b, d[:]...), contents[:]...)
	b = binary.LittleEndian.AppendUint16(b, length)
	b = append(b, kind, 0 /* no IMI page */, 0, 0, 0 /* no permissions of VMPL 3, 2, 1 */, 0)
	b = binary.LittleEndian.AppendUint64(b, gpa)
	*d = sha512.Sum384(b)
}

func (d *launchDigest) normal(gpa uint64, b []byte) {
	for ; len(b) > 0; gpa, b = gpa+page, b[page:] {
		d.update(pageNormal, gpa, sha512.Sum384(b[:page]))
	}
}

func (d *launchDigest) zero(r region) {
	for at := r.address; at < r.address+r.size; at += page {
		d.update(pageZero, at, [48]byte{})
	}
}

// sevHashes is the table that QEMU writes and OVMF checks
// (target/i386/sev.c, SevHashTable): GUID, length and SHA-256 of command line,
// initrd and kernel, padded to 16 bytes.
func (b *Direct) sevHashes() []byte {
	id := func(s string, length uint16) []byte {
		g := mustGUID(s)
		return binary.LittleEndian.AppendUint16(g[:], length)
	}
	const entry = 16 + 2 + 32
	t := id("9438d606-4f22-4cc9-b479-a793d411fd21", 18+3*entry)
	for _, e := range []struct {
		guid string
		data []byte
	}{
		{"97d02dd8-bd20-4c94-aa78-e7714d36ab2a", append([]byte(b.Cmdline), 0)},
		{"44baf731-3a2f-4bd7-9af1-41e29169781d", b.Initrd},
		{"4de79437-abd2-427f-b835-d5b172d2045b", b.Kernel},
	} {
		sum := sha256.Sum256(e.data)
		t = append(append(t, id(e.guid, entry)...), sum[:]...)
	}
	return append(t, make([]byte, (16-len(t)%16)%16)...)
}

// vmsa is the save area of a virtual CPU that begins at eip, as QEMU and KVM
// leave it for the launch (AMD64 Architecture Programmer's Manual, volume 2,
// table B-4).
func vmsa(eip uint32, g SNP) (p [page]byte) {
	segment := func(at int, selector, attributes uint16, base uint64) {
		binary.LittleEndian.PutUint16(p[at:], selector)
		binary.LittleEndian.PutUint16(p[at+2:], attributes)
		binary.LittleEndian.PutUint32(p[at+4:], 0xffff)
		binary.LittleEndian.PutUint64(p[at+8:], base)
	}
	segment(0x00, 0, 0x93, 0)                                // ES
	segment(0x10, 0xf000, 0x9b, uint64(eip)&^uint64(0xffff)) // CS
	segment(0x20, 0, 0x93, 0)                                // SS
	segment(0x30, 0, 0x93, 0)                                // DS
	segment(0x40, 0, 0x93, 0)                                // FS
	segment(0x50, 0, 0x93, 0)                                // GS
	segment(0x60, 0, 0, 0)                                   // GDTR
	segment(0x70, 0, 0x82, 0)                                // LDTR
	segment(0x80, 0, 0, 0)                                   // IDTR
	segment(0x90, 0, 0x8b, 0)                                // TR
	for at, v := range map[int]uint64{
		0x0d0: 0x1000,                 // EFER: SVME, which KVM sets
		0x148: 0x40,                   // CR4: MCE, which KVM sets
		0x158: 0x10,                   // CR0
		0x160: 0x400,                  // DR7
		0x168: 0xffff_0ff0,            // DR6
		0x170: 0x2,                    // RFLAGS
		0x178: uint64(eip) & 0xffff,   // RIP
		0x268: 0x0007_0406_0007_0406,  // PAT
		0x310: uint64(g.CPUSignature), // RDX
		0x3b0: g.GuestFeatures,        // SEV_FEATURES
		0x3e8: 0x1,                    // XCR0
	} {
		binary.LittleEndian.PutUint64(p[at:], v)
	}
	binary.LittleEndian.PutUint32(p[0x408:], 0x1f80) // MXCSR
	binary.LittleEndian.PutUint16(p[0x410:], 0x37f)  // x87 control word
	return p
}

// Families, models and steppings of QEMU's AMD server CPUs (target/i386/cpu.c); all versions of a model share them.
var cpus = map[string][3]uint32{
	"EPYC":       {0x17, 0x01, 2},
	"EPYC-Rome":  {0x17, 0x31, 0},
	"EPYC-Milan": {0x19, 0x01, 1},
	"EPYC-Genoa": {0x19, 0x11, 0},
	"EPYC-Turin": {0x1a, 0x00, 0},
}

// CPUs lists the names of CPU models that [CPUSignature] knows.
func CPUs() []string {
	return []string{"EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"}
}

var cpuVersion = regexp.MustCompile(`-v[1-9][0-9]?$`)

// CPUSignature returns CPUID Fn0000_0001_EAX of one of QEMU's CPU models, such
// as "EPYC-Genoa" or "EPYC-Genoa-v1", or of a number, such as "0x00a10f11":
// with -cpu host it is the real CPU's.
func CPUSignature(model string) (uint32, error) {
	if n, err := strconv.ParseUint(model, 0, 32); err == nil && n != 0 {
		return uint32(n), nil
	}
	c, ok := cpus[cpuVersion.ReplaceAllString(model, "")]
	if !ok {
		return 0, fmt.Errorf("unknown CPU model %.40q", model)
	}
	// CPUID Specification, 25481, Fn0000_0001_EAX: families above 15 are 15 plus the extended family.
	return (c[0]-15)<<20 | c[1]>>4<<16 | 15<<8 | c[1]&15<<4 | c[2], nil
}
