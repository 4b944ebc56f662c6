// Package nvidia appraises attestation evidence of NVIDIA GPUs (Hopper,
// Blackwell) and NVSwitches (LS10): the SPDM report, the certificate chain
// of its signer, the reference integrity manifests (RIM) of driver and VBIOS,
// and OCSP answers. It is pure, offline and decides nothing: it returns
// [Check] values, and a policy elsewhere says which of them it needs.
//
// # Evidence
//
// A report is the transcript of one SPDM 1.1 exchange (DMTF DSP0274 1.1.0):
// a 37-byte GET_MEASUREMENTS request, the MEASUREMENTS response, and within it
// a 96-byte ECDSA P-384 signature over everything before it:
//
//	request   version 0x11 | code 0xE0 | param1 0x01 | param2 0xFF | nonce [32] | slot
//	response  version 0x11 | code 0x60 | param1 | param2 | blocks [1] | record length [3, LE] |
//	          record | nonce [32] | opaque length [2, LE] | opaque | signature r||s [96]
//	block     index [1, from 1] | specification 0x01 | size [2, LE] | type [1] | value size [2, LE] | value
//	opaque    (field id [2, LE] | size [2, LE] | value)*
//
// The nonce a verifier chose is the one of the request. The response's own
// nonce is the device's.
//
// # What evidence does not say
//
// GPU evidence proves that a genuine GPU answered the nonce, not that this GPU
// is attached to a given virtual machine: bind it from the machine's own
// evidence, by nonce and by hash.
//
// A GPU with confidential computing off makes no report. One in DevTools mode
// does, and no field of the report says so; like NVIDIA's own verifiers, conclude
// that debugging is off only from measurements that all match ([CheckMeasurements]),
// and where they are not compared, from the driver's word inside of the
// attested machine.
package nvidia

// Layout of a report. Lengths in bytes.
const (
	RequestSize   = 37
	NonceSize     = 32
	NonceOffset   = 4 // of the request's nonce in a report
	SignatureSize = 96
	DigestSize    = 48 // SHA-384

	SPDMVersion            = 0x11
	CodeGetMeasurements    = 0xE0
	CodeMeasurements       = 0x60
	RequestSignature       = 0x01 // param1 of the request: a signature is wanted
	RequestAllMeasurements = 0xFF // param2 of the request

	MeasurementSpecDMTF = 0x01

	// MaxReportSize bounds what ParseReport reads. NVML returns at most 8192
	// bytes.
	MaxReportSize = 16 << 10
	// MaxFields bounds the opaque fields of a report.
	MaxFields = 128
	// MaxChainSize bounds a PEM or DER certificate chain.
	MaxChainSize = 32 << 10
	// ChainLength is the number of certificates of a device chain, leaf to root.
	ChainLength = 5
)

// Ids of the opaque fields. 22 and 23 mean different things on GPU and switch.
const (
	FieldCertIssuerName   = 1
	FieldAuthorityKeyID   = 2
	FieldDriverVersion    = 3 // GPU: NUL-terminated text
	FieldGPUInfo          = 4
	FieldSKU              = 5
	FieldVBIOSVersion     = 6 // GPU: 8 bytes, see Report.VBIOSVersion; switch: text
	FieldManufacturerID   = 7
	FieldTamperDetection  = 8
	FieldSMC              = 9
	FieldVPR              = 10
	FieldNVDEC0           = 11 // 1 byte: 0xAA enabled, 0x55 disabled
	FieldMeasurementCount = 12 // uint32 LE per measurement
	FieldCPRInfo          = 13
	FieldBoardID          = 14
	FieldChipSKU          = 15 // text
	FieldChipSKUMod       = 16 // text
	FieldProject          = 17 // text
	FieldProjectSKU       = 18 // text
	FieldProjectSKUMod    = 19 // text
	FieldFWID             = 20 // 48 bytes
	FieldProtectedPCIe    = 21 // 1 byte: 0xAA enabled, 0x55 disabled
	FieldSwitchPDIs       = 22 // GPU: 8 bytes per NVLink, reversed; zero where the link is unused
	FieldDevicePDI        = 22 // switch: 8 bytes, its own
	FieldFloorsweptPorts  = 23 // GPU; on a switch the disabled ports
	FieldPositionID       = 24
	FieldLockStatus       = 25 // switch: 1 to 8 bytes LE, 1 locked, 0 not
	FieldGPUPDIs          = 26 // switch: 8 bytes per GPU, then one byte per port
	FieldGPULinkConn      = 32
	FieldSysEnableStatus  = 33
	FieldOpaqueVersion    = 34 // 1 to 8 bytes LE
	FieldChipInfo         = 35 // text, for example "GB100"
	FieldFeatureFlag      = 36 // 1 to 8 bytes LE, see Mode
)

// MaxOpaqueVersion is the newest layout of opaque data that is understood.
const MaxOpaqueVersion = 1

// Kind says what sort of device made a report.
type Kind uint8

const (
	KindGPU Kind = iota + 1
	KindSwitch
)

// String returns "GPU" or "NVSwitch".
func (k Kind) String() string {
	switch k {
	case KindGPU:
		return "GPU"
	case KindSwitch:
		return "NVSwitch"
	}
	return "unknown device"
}

// Toggle is a two-state field in NVIDIA's redundant encoding.
type Toggle uint8

const (
	ToggleAbsent   Toggle = 0 // the report has no such field
	ToggleDisabled Toggle = 0x55
	ToggleEnabled  Toggle = 0xAA
)

// String returns "absent", "disabled" or "enabled".
func (t Toggle) String() string {
	switch t {
	case ToggleAbsent:
		return "absent"
	case ToggleDisabled:
		return "disabled"
	case ToggleEnabled:
		return "enabled"
	}
	return "invalid"
}

// Mode is the confidential-computing mode that a GPU reports in its feature
// flag. Reports of opaque version 0 have none.
type Mode uint8

const (
	ModeUnknown       Mode = iota // the report does not say
	ModeSinglePass                // SPT: single-GPU passthrough
	ModeMultiPass                 // MPT: multi-GPU passthrough
	ModeProtectedPCIe             // PPCIE: multi-GPU with protected PCIe; NVLink is not encrypted
)

// String returns "unknown", "spt", "mpt" or "ppcie".
func (m Mode) String() string {
	switch m {
	case ModeSinglePass:
		return "spt"
	case ModeMultiPass:
		return "mpt"
	case ModeProtectedPCIe:
		return "ppcie"
	}
	return "unknown"
}

// PDI is a device's per-device identifier, in the byte order of its
// certificate's serial number. The zero PDI stands for none.
type PDI [8]byte

// Measurement is one DMTF measurement block (DSP0274 1.1.0).
type Measurement struct {
	Index uint8 // from 1; a RIM's index is one less
	Type  uint8 // DMTFSpecMeasurementValueType; bit 7 set: raw value, not a digest
	Value []byte
}

// Field is one opaque field as it stands in the report.
type Field struct {
	ID    uint16
	Value []byte
}

// Report is a parsed GPU or switch report. Slices alias the parsed bytes.
type Report struct {
	Kind          Kind
	Nonce         [NonceSize]byte // the request's: the verifier's
	ResponseNonce [NonceSize]byte // the device's
	Measurements  []Measurement
	Fields        []Field // every opaque field, in order
	Unknown       []uint16

	DriverVersion string // GPU
	VBIOSVersion  string // "96.00.A5.00.01"
	ChipSKU       string // GPU, as the next two
	Project       string
	ProjectSKU    string
	ChipInfo      string // GPU from Blackwell on
	BoardID       []byte
	FWID          []byte // 48 bytes, or nil where the report has none
	NVDEC0        Toggle
	ProtectedPCIe Toggle
	OpaqueVersion uint64
	Mode          Mode
	SwitchPDIs    []PDI  // GPU: the switch behind each NVLink, zero where unused
	DevicePDI     PDI    // switch: its own
	GPUPDIs       []PDI  // switch: GPUs connected to it
	Lock          Toggle // switch: enabled when the host can no longer configure it

	Signed    []byte // bytes under the signature
	Signature [SignatureSize]byte
}
