package snp

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// ReportSize is the size of an attestation report in bytes.
const ReportSize = 0x4A0

const signedSize = 0x2A0

// Product is a line of AMD processors with one root key.
type Product string

// Products.
const (
	Milan Product = "Milan" // EPYC 7003
	Genoa Product = "Genoa" // EPYC 9004, 8004 (Genoa, Bergamo, Siena)
	Turin Product = "Turin" // EPYC 9005
)

// SigningKey is the kind of key that signed a report.
type SigningKey uint8

// Signing keys (ABI, ATTESTATION_REPORT, SIGNING_KEY).
const (
	VCEK  SigningKey = 0 // derived from the chip's own secret
	VLEK  SigningKey = 1 // loaded by a cloud provider; says nothing about which chip it is
	NoKey SigningKey = 7 // the report is not signed
)

// String names the key.
func (k SigningKey) String() string {
	switch k {
	case VCEK:
		return "VCEK"
	case VLEK:
		return "VLEK"
	case NoKey:
		return "none"
	}
	return fmt.Sprintf("signing key %d", uint8(k))
}

// Policy is the guest policy that was fixed at launch (ABI, Guest Policy).
type Policy uint64

// Bits of the guest policy. The low two bytes are the least ABI version, minor and major.
const (
	PolicySMT                  Policy = 1 << 16 // may run on a core whose sibling thread runs something else
	policyReservedOne          Policy = 1 << 17
	PolicyMigrateMA            Policy = 1 << 18 // may be migrated by a migration agent
	PolicyDebug                Policy = 1 << 19 // the host may decrypt the guest's memory
	PolicySingleSocket         Policy = 1 << 20 // runs on one socket only
	PolicyCXLAllow             Policy = 1 << 21 // memory may be on CXL devices
	PolicyMemAES256XTS         Policy = 1 << 22 // requires AES-256-XTS
	PolicyRAPLDisable          Policy = 1 << 23 // requires power metering to be off
	PolicyCiphertextHidingDRAM Policy = 1 << 24 // requires ciphertext hiding
	PolicyPageSwapDisable      Policy = 1 << 25 // the host may not move or swap pages
	policyKnown                Policy = 1<<26 - 1
)

// Has reports whether all bits of b are set.
func (p Policy) Has(b Policy) bool { return p&b == b }

// Debug reports whether the host may decrypt the guest's memory: nothing that it says can be trusted.
func (p Policy) Debug() bool { return p.Has(PolicyDebug) }

// ABI returns the least firmware ABI version that the guest accepts.
func (p Policy) ABI() (major, minor uint8) { return uint8(p >> 8), uint8(p) }

// PlatformInfo describes the platform's configuration (ABI, PLATFORM_INFO). Bits without a name here are reported as they are.
type PlatformInfo uint64

// Bits of the platform information.
const (
	PlatformSMT                  PlatformInfo = 1 << 0
	PlatformTSME                 PlatformInfo = 1 << 1
	PlatformECC                  PlatformInfo = 1 << 2
	PlatformRAPLDisabled         PlatformInfo = 1 << 3
	PlatformCiphertextHidingDRAM PlatformInfo = 1 << 4
	PlatformAliasCheckComplete   PlatformInfo = 1 << 5 // memory aliases were looked for since the last reset (AMD-SB-3015)
	PlatformTIO                  PlatformInfo = 1 << 7
)

// Has reports whether all bits of b are set.
func (p PlatformInfo) Has(b PlatformInfo) bool { return p&b == b }

// FirmwareVersion is a version of the SNP firmware.
type FirmwareVersion struct{ Major, Minor, Build uint8 }

// Compare orders versions like cmp.Compare.
func (v FirmwareVersion) Compare(w FirmwareVersion) int {
	return slices.Compare([]uint8{v.Major, v.Minor, v.Build}, []uint8{w.Major, w.Minor, w.Build})
}

// TCB is a TCB_VERSION as found. Which byte means what depends on the product.
type TCB uint64

// TCBParts are the security patch levels in a TCB.
type TCBParts struct {
	FMC        uint8 // Turin only
	BootLoader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
	Reserved   [4]uint8 // in the order of the bytes; three on Turin
}

// Parts splits a TCB (ABI, TCB_VERSION).
func (t TCB) Parts(p Product) TCBParts {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(t))
	if p == Turin {
		return TCBParts{FMC: b[0], BootLoader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7], Reserved: [4]uint8{b[4], b[5], b[6]}}
	}
	return TCBParts{BootLoader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7], Reserved: [4]uint8(b[2:6])}
}

// AtLeast reports whether every component of t reaches that of u. It holds for every product's layout.
func (t TCB) AtLeast(u TCB) bool {
	for i := 0; i < 64; i += 8 {
		if uint8(t>>i) < uint8(u>>i) {
			return false
		}
	}
	return true
}

// Report is a parsed attestation report (ABI, ATTESTATION_REPORT). It owns its bytes and must not be modified once it has been
// given to a Verifier.
type Report struct {
	Raw []byte // ReportSize bytes

	Version          uint32 // 2 to 5
	GuestSVN         uint32
	Policy           Policy
	FamilyID         [16]byte
	ImageID          [16]byte
	VMPL             uint32 // 0 to 3, of the software that asked for the report; 0 is the most privileged
	CurrentTCB       TCB    // of the firmware that runs now
	PlatformInfo     PlatformInfo
	AuthorKeyEnabled bool // AuthorKeyDigest is meaningful
	MaskChipKey      bool
	SigningKey       SigningKey
	ReportData       [64]byte // chosen by the guest
	Measurement      [48]byte // of the guest at launch
	HostData         [32]byte // chosen by the host at launch
	IDKeyDigest      [48]byte // SHA-384 of the key that signed the ID block, or zero
	AuthorKeyDigest  [48]byte // SHA-384 of the key that signed the ID key, or zero
	ReportID         [32]byte
	ReportIDMA       [32]byte
	ReportedTCB      TCB      // what the signing key was derived for
	CPUID            [3]uint8 // family, model, stepping; zero in version 2
	ChipID           [64]byte // zero if masked or if signed with a VLEK
	CommittedTCB     TCB      // the firmware cannot be rolled back below it
	CurrentVersion   FirmwareVersion
	CommittedVersion FirmwareVersion
	LaunchTCB        TCB // current when the guest was launched

	// Version 5 only: mitigations of which the firmware reports that they are in place.
	LaunchMitigations  uint64
	CurrentMitigations uint64

	r, s [48]byte // big endian
}

// ParseError says where a report is malformed. Its check identifier is "snp.parse".
type ParseError struct {
	Offset int    // in bytes from the start of the report
	What   string // the field and what is wrong with it
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("snp: malformed report at byte %#x: %s", e.Offset, e.What)
}

// Product returns the product line that the report's CPUID names. It fails for version 2, which has none, and for processors
// that this package does not know.
func (r *Report) Product() (Product, error) {
	family, model := r.CPUID[0], r.CPUID[1]
	switch {
	case r.Version < 3:
		return "", fmt.Errorf("a version %d report does not name its processor", r.Version)
	case family == 0x19 && model <= 0x0f:
		return Milan, nil
	case family == 0x19 && (model >= 0x10 && model <= 0x1f || model >= 0xa0 && model <= 0xaf):
		return Genoa, nil
	case family == 0x1a && model <= 0x1f:
		return Turin, nil
	}
	return "", fmt.Errorf("processor family %#x, model %#x is not known", family, model)
}

// ParseReport parses a version 2, 3, 4 or 5 report of exactly ReportSize bytes. Reserved fields must be zero. The result shares
// nothing with b. Every error is a *ParseError.
//
// AMD has published no description of version 4. Firmware 1.55.31 on Milan signs it in the layout of version 3, so that is how
// it is read, and nothing beyond it may be set.
//
// Parsing proves nothing: until Verifier.Verify returns a nil error, every field is merely a claim.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, &ParseError{0, fmt.Sprintf("%d bytes, want %d", len(b), ReportSize)}
	}
	b = slices.Clone(b)
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	version := func(at int) FirmwareVersion { return FirmwareVersion{Build: b[at], Minor: b[at+1], Major: b[at+2]} }
	flags := u32(b[0x48:])
	r := &Report{
		Raw:              b,
		Version:          u32(b[0x00:]),
		GuestSVN:         u32(b[0x04:]),
		Policy:           Policy(u64(b[0x08:])),
		FamilyID:         [16]byte(b[0x10:]),
		ImageID:          [16]byte(b[0x20:]),
		VMPL:             u32(b[0x30:]),
		CurrentTCB:       TCB(u64(b[0x38:])),
		PlatformInfo:     PlatformInfo(u64(b[0x40:])),
		AuthorKeyEnabled: flags&1 != 0,
		MaskChipKey:      flags&2 != 0,
		SigningKey:       SigningKey(flags >> 2 & 7),
		ReportData:       [64]byte(b[0x50:]),
		Measurement:      [48]byte(b[0x90:]),
		HostData:         [32]byte(b[0xc0:]),
		IDKeyDigest:      [48]byte(b[0xe0:]),
		AuthorKeyDigest:  [48]byte(b[0x110:]),
		ReportID:         [32]byte(b[0x140:]),
		ReportIDMA:       [32]byte(b[0x160:]),
		ReportedTCB:      TCB(u64(b[0x180:])),
		CPUID:            [3]uint8(b[0x188:]),
		ChipID:           [64]byte(b[0x1a0:]),
		CommittedTCB:     TCB(u64(b[0x1e0:])),
		CurrentVersion:   version(0x1e8),
		CommittedVersion: version(0x1ec),
		LaunchTCB:        TCB(u64(b[0x1f0:])),
	}
	reserved := []struct{ from, to int }{{0x4c, 0x50}, {0x18b, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {0x208, signedSize}, {0x330, ReportSize}}
	switch r.Version {
	case 2:
		reserved = append(reserved, struct{ from, to int }{0x188, 0x18b}, struct{ from, to int }{0x1f8, 0x208})
	case 3, 4:
		reserved = append(reserved, struct{ from, to int }{0x1f8, 0x208})
	case 5:
		r.LaunchMitigations, r.CurrentMitigations = u64(b[0x1f8:]), u64(b[0x200:])
	default:
		return nil, &ParseError{0, fmt.Sprintf("version %d; 2 to 5 are supported", r.Version)}
	}
	for _, z := range reserved {
		for i := z.from; i < z.to; i++ {
			if b[i] != 0 {
				return nil, &ParseError{i, fmt.Sprintf("reserved byte is %#x in a version %d report", b[i], r.Version)}
			}
		}
	}
	switch algorithm := u32(b[0x34:]); {
	case r.Policy&policyReservedOne == 0 || r.Policy&^policyKnown != 0:
		return nil, &ParseError{0x08, fmt.Sprintf("guest policy %#x has unknown bits", uint64(r.Policy))}
	case r.VMPL > 3:
		return nil, &ParseError{0x30, fmt.Sprintf("VMPL %#x; a guest has 0 to 3", r.VMPL)}
	case algorithm != 1:
		return nil, &ParseError{0x34, fmt.Sprintf("signature algorithm %d; only 1 (ECDSA P-384 with SHA-384) is supported", algorithm)}
	case flags>>5 != 0:
		return nil, &ParseError{0x48, fmt.Sprintf("reserved flags in %#x", flags)}
	case r.SigningKey != VCEK && r.SigningKey != VLEK:
		return nil, &ParseError{0x48, fmt.Sprintf("signed with %s; VCEK and VLEK are supported", r.SigningKey)}
	}
	// r and s are 72 bytes each, little endian; P-384 fills 48.
	for i, at := range []int{0x2a0, 0x2e8} {
		for j := at + 48; j < at+72; j++ {
			if b[j] != 0 {
				return nil, &ParseError{j, "signature component exceeds 384 bits"}
			}
		}
		v := &r.r
		if i == 1 {
			v = &r.s
		}
		copy(v[:], b[at:at+48])
		slices.Reverse(v[:])
	}
	return r, nil
}
