package nvidia

import "time"

// Fingerprint is the SHA-256 of a DER certificate. Trust roots are pinned by
// it.
type Fingerprint [32]byte

// NVIDIA's production roots. Nothing uses them unless a caller puts them into
// a [Config].
var (
	// ProductionDeviceRoot is "NVIDIA Device Identity CA".
	ProductionDeviceRoot = Fingerprint{
		0x10, 0x2b, 0xf6, 0x59, 0xd5, 0x41, 0x96, 0x14, 0xc9, 0xd8, 0xe6, 0xae, 0xce, 0xbc, 0x80, 0x45,
		0x4e, 0xb2, 0x6b, 0x1d, 0xf6, 0xa7, 0x69, 0xac, 0x72, 0x0b, 0x9a, 0x69, 0x0b, 0x16, 0x7b, 0x48,
	}
	// ProductionRIMRoot is "NVIDIA CoRIM signing Root CA".
	ProductionRIMRoot = Fingerprint{
		0x12, 0x97, 0x7b, 0x51, 0x15, 0xac, 0xb0, 0x38, 0x11, 0x79, 0x27, 0x9f, 0xff, 0xeb, 0x5a, 0x8c,
		0x4d, 0x26, 0x49, 0x71, 0xeb, 0xb3, 0x22, 0x98, 0x02, 0x3a, 0x46, 0x5f, 0xa4, 0x1d, 0xf5, 0xd1,
	}
)

// Config fixes what a [Verifier] trusts.
type Config struct {
	DeviceRoots []Fingerprint // at least one
	RIMRoots    []Fingerprint // may be empty: then no RIM is ever believed
	// CacheSize is the number of certificate chains and RIMs whose
	// time-independent checks are remembered; 0 means 256, the most is 65536.
	CacheSize int
}

// Evidence is what one device answered.
type Evidence struct {
	Report []byte // see ParseReport
	Chain  []byte // five certificates leaf to root, PEM or concatenated DER
}

// OCSP is one OCSP response and the nonce of the request it answers.
type OCSP struct {
	Response []byte // DER OCSPResponse (RFC 6960)
	Nonce    []byte // value of the request's nonce extension (RFC 9654); nil if none was sent
}

// Collateral is what others say about a device. Every part may be missing; the
// checks that need it are then skipped.
type Collateral struct {
	DriverRIM []byte // SWID tag with XML signature
	VBIOSRIM  []byte
	OCSP      []OCSP // in any order, for certificates of the device chain and of the RIMs
}

// Options are the inputs of one appraisal.
type Options struct {
	Nonce      []byte    // 32 bytes; nil skips the nonce check
	Time       time.Time // the one clock of the appraisal; required
	Collateral Collateral
}

// Device is what the certificate chain says about the device.
type Device struct {
	Model       string      // leaf subject up to the first space: "GH100", "GB100", "LS_10"
	PDI         PDI         // from the second certificate's subject serial number
	Leaf        Fingerprint // of the attestation certificate
	Identity    Fingerprint // of the second certificate, which outlives firmware updates
	FWID        []byte      // DICE firmware id in the leaf
	NotAfter    time.Time   // earliest of the chain
	DICEVersion string      // layout of the DICE extension: "CompositeDeviceID" or "TcbInfo"
}

// Result is the appraisal of one device. It holds no decision.
type Result struct {
	Checks     []Check
	Report     *Report // nil when it did not parse
	Device     *Device // nil when the chain did not verify
	Mismatches []Mismatch
	ValidUntil time.Time // earliest expiry among everything that passed
}

// Mismatch is one golden measurement that the report does not match.
type Mismatch struct {
	Index  int    // golden index; SPDM block Index+1
	Source string // "driver" or "vbios"
	Name   string
	Want   []string // hexadecimal, any of them
	Got    string   // hexadecimal; empty when the report has no such block
}
