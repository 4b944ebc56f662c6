package nvidia

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/cache"
)

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
	// CacheSize bounds the certificate chains whose signatures are remembered;
	// 0 means 256, the most is 65536. One takes about 12 KiB.
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

// Collateral is what others say about devices. Every part may be missing: the
// checks that need it are then skipped.
type Collateral struct {
	// RIMs in any order. A device uses those for its product with the version
	// in its report; when there are some for the product but not for the
	// version, that is a failure, not a skip.
	RIMs []*RIM
	// OCSP answers in any order, for certificates of the device chain and of
	// the RIMs' signers.
	OCSP []OCSP
}

// Options are the inputs of one appraisal.
type Options struct {
	Nonce      []byte    // 32 bytes; nil skips the nonce check
	Time       time.Time // the one clock of the appraisal; required
	Collateral Collateral
}

// Device is what the certificate chain says about the device.
type Device struct {
	Model     string      // leaf subject up to the first space: "GH100", "GB100", "LS_10"
	PDI       PDI         // from the second certificate's subject serial number
	Leaf      Fingerprint // of the attestation certificate
	Identity  Fingerprint // of the second certificate, which outlives firmware updates
	FWID      []byte      // DICE firmware id in the leaf
	NotAfter  time.Time   // earliest of the chain
	DICEFlags uint32      // operational flags of a TcbInfo extension, bit 0 lowest; 0 on Hopper
	Serial    string      // the leaf's serial number in decimal: NVIDIA's "ueid"
	HWModel   string      // the second certificate's common name: NVIDIA's "hwmodel"
}

// Result is the appraisal of one device. It holds no decision.
type Result struct {
	Checks      []check.Check
	Report      *Report // nil when it did not parse
	Device      *Device // nil when the chain did not verify
	Mismatches  []Mismatch
	Revocations []Revocation
	ValidUntil  time.Time // earliest expiry among everything that passed

	answers []*ocspResponse // Collateral.OCSP, parsed once for all chains
}

// Verifier appraises evidence against pinned roots. It is immutable but for a
// bounded cache, and safe for concurrent use.
type Verifier struct {
	deviceRoots, rimRoots []Fingerprint
	chains                *cache.Cache[*chain]
	responders            *cache.Cache[validity] // who may answer for a certificate
}

// NewVerifier returns a verifier that trusts what c says and nothing else.
func NewVerifier(c Config) (*Verifier, error) {
	const most = 1 << 16
	if len(c.DeviceRoots) == 0 {
		return nil, errors.New("nvidia: Config.DeviceRoots is empty: pin at least one root, for example ProductionDeviceRoot")
	}
	if c.CacheSize < 0 || c.CacheSize > most {
		return nil, fmt.Errorf("nvidia: Config.CacheSize is %d, want 0 to %d", c.CacheSize, most)
	}
	if c.CacheSize == 0 {
		c.CacheSize = 256
	}
	return &Verifier{
		deviceRoots: append([]Fingerprint(nil), c.DeviceRoots...),
		rimRoots:    append([]Fingerprint(nil), c.RIMRoots...),
		chains:      cache.New[*chain](c.CacheSize),
		responders:  cache.New[validity](16 * c.CacheSize),
	}, nil
}

// Clauses of the checks.
const (
	clauseReport    = "DMTF DSP0274 1.1.0, GET_MEASUREMENTS and MEASUREMENTS"
	clauseChain     = "RFC 5280, 6.1; NVIDIA device identity PKI"
	clauseValidity  = "RFC 5280, 4.1.2.5"
	clauseModel     = "NVIDIA opaque data fields 3, 22, 26, 35"
	clauseFWID      = "TCG DICE Attestation Architecture 1.1, 6.1; NVIDIA opaque data field 20"
	clauseDebug     = "TCG DICE Attestation Architecture 1.1, 6.1.1"
	clauseLock      = "NVIDIA protected PCIe, NVSwitch lock mode; opaque data field 25"
	clauseNonce     = "DMTF DSP0274 1.1.0, GET_MEASUREMENTS and MEASUREMENTS"
	clauseSignature = "DMTF DSP0274 1.1.0, MEASUREMENTS signature"
)

// Verify appraises the evidence of one device. It always returns every check
// that applies to the device; a check whose input failed another check is
// skipped. When the report does not parse, the kind of device is unknown and
// only the checks up to the signature are listed.
func (v *Verifier) Verify(e Evidence, o Options) *Result {
	res := &Result{}
	add := func(c check.Check) { res.Checks = append(res.Checks, c) }

	r, err := ParseReport(e.Report)
	if err != nil {
		add(failed(CheckParse, clauseReport, err))
	} else {
		res.Report = r
		add(check.Check{ID: CheckParse, Status: check.Pass, Clause: clauseReport, Seen: r.Kind.String()})
	}

	ch, err := v.chain(e.Chain)
	if err != nil {
		add(failed(CheckChain, clauseChain, err))
		for _, s := range []struct{ id, clause string }{{CheckValidity, clauseValidity}, {CheckDebug, clauseDebug}, {CheckDeviceOCSP, clauseOCSP}} {
			add(skipped(s.id, s.clause, "the certificate chain did not verify"))
		}
	} else {
		device := ch.device
		device.FWID = bytes.Clone(device.FWID) // the chain is shared, the result is the caller's
		res.Device = &device
		add(check.Check{ID: CheckChain, Status: check.Pass, Clause: clauseChain, Seen: device.HWModel + ", serial " + device.Serial})
		add(res.validity(CheckValidity, ch.validity, o.Time))
		add(debugCheck(&device))
		add(v.ocsp(res, o, CheckDeviceOCSP, ch.certs, 1))
	}

	if r == nil || ch == nil {
		why := "the report did not parse"
		if r != nil {
			why = "the certificate chain did not verify"
		}
		add(skipped(CheckModel, clauseModel, why))
		add(skipped(CheckFWID, clauseFWID, why))
		if r == nil {
			add(skipped(CheckNonce, clauseNonce, why))
		} else {
			add(nonceCheck(r, o.Nonce))
		}
		add(skipped(CheckSignature, clauseSignature, why))
		if r != nil {
			skipRIMs(res, why)
		}
	} else {
		add(modelCheck(r, res.Device))
		add(fwidCheck(r, res.Device))
		add(nonceCheck(r, o.Nonce))
		if r.Kind == KindSwitch {
			add(lockCheck(r))
		}
		sig := check.Check{ID: CheckSignature, Clause: clauseSignature, Status: check.Pass, Seen: "ECDSA P-384, SHA-384"}
		if err := verifyRaw(ch.key, r.Signed, r.Signature[:]); err != nil {
			sig = failed(CheckSignature, clauseSignature, err)
		}
		add(sig)
		driver, vbios := v.rims(res, o)
		if sig.Status == check.Pass {
			add(measure(res, driver, vbios))
		} else {
			add(skipped(CheckMeasurements, clauseMeasurements, "the report's signature does not verify"))
		}
	}
	return res
}

func failed(id, clause string, err error) check.Check {
	return check.Check{ID: id, Status: check.Fail, Clause: clause, Detail: err.Error()}
}

func skipped(id, clause, why string) check.Check {
	return check.Check{ID: id, Status: check.Skip, Clause: clause, Detail: why}
}

// compare passes when seen is want.
func compare(id, clause, seen, want, detail string) check.Check {
	c := check.Check{ID: id, Status: check.Pass, Clause: clause, Seen: seen, Wanted: want}
	if seen != want {
		c.Status, c.Detail = check.Fail, detail
	}
	return c
}

// validity checks a chain's period at t and keeps the earliest end.
func (res *Result) validity(id string, v validity, t time.Time) check.Check {
	c := check.Check{ID: id, Status: check.Fail, Clause: clauseValidity, Seen: v.String(), Wanted: t.UTC().Format(time.RFC3339)}
	switch {
	case t.IsZero():
		c.Detail = "no appraisal time was given"
	case !v.contains(t):
		c.Detail = "a certificate is not valid at the appraisal time"
	default:
		c.Status = check.Pass
		res.until(v.to)
	}
	return c
}

func (res *Result) until(t time.Time) {
	if res.ValidUntil.IsZero() || t.Before(res.ValidUntil) {
		res.ValidUntil = t
	}
}

func nonceCheck(r *Report, want []byte) check.Check {
	if want == nil {
		return skipped(CheckNonce, clauseNonce, "no nonce was given to compare with")
	}
	return compare(CheckNonce, clauseNonce, hex.EncodeToString(r.Nonce[:]), hex.EncodeToString(want),
		"the report answers another request: it may be a replay")
}

// modelCheck compares what certificate and report call the device.
func modelCheck(r *Report, d *Device) check.Check {
	c := check.Check{ID: CheckModel, Status: check.Fail, Clause: clauseModel, Seen: d.Model + ", report of a " + r.Kind.String()}
	var kind Kind
	switch {
	case strings.HasPrefix(d.Model, "GH"), strings.HasPrefix(d.Model, "GB"):
		kind = KindGPU
	case strings.HasPrefix(d.Model, "LS"):
		kind = KindSwitch
	default:
		c.Detail = "the certificate is for a model that is neither a Hopper or Blackwell GPU nor an LS switch"
		return c
	}
	c.Wanted = d.Model + ", report of a " + kind.String()
	switch {
	case r.Kind != kind:
		c.Detail = "certificate and report are of different kinds of device"
	case r.ChipInfo != "" && r.ChipInfo != d.Model:
		c.Detail = "the report names the chip " + r.ChipInfo
	case r.Kind == KindSwitch && r.DevicePDI != d.PDI:
		c.Detail = fmt.Sprintf("the report is of switch %s, the certificate of %s", r.DevicePDI, d.PDI)
	default:
		c.Status = check.Pass
	}
	return c
}

// lockCheck is about switches in protected-PCIe mode: what passes through them is not encrypted, and who can configure one can have it sent
// elsewhere.
func lockCheck(r *Report) check.Check {
	if r.Lock == ToggleAbsent {
		return skipped(CheckLock, clauseLock, "the report carries no lock status")
	}
	return compare(CheckLock, clauseLock, "lock "+r.Lock.String(), "lock "+ToggleEnabled.String(), "the host can still configure the switch")
}

func fwidCheck(r *Report, d *Device) check.Check {
	if r.FWID == nil {
		return skipped(CheckFWID, clauseFWID, "the report carries no firmware id: switches and old drivers send none")
	}
	return compare(CheckFWID, clauseFWID, hex.EncodeToString(r.FWID), hex.EncodeToString(d.FWID),
		"the firmware that signs is not the firmware that the certificate was made for")
}

func debugCheck(d *Device) check.Check {
	const bad = DICENotSecure | DICERecovery | DICEDebug
	if d.DICEFlags == 0 {
		return skipped(CheckDebug, clauseDebug, "the certificate carries no operational flags: only the measurements tell")
	}
	c := check.Check{ID: CheckDebug, Status: check.Fail, Clause: clauseDebug, Seen: fmt.Sprintf("flags %#08x", d.DICEFlags), Wanted: fmt.Sprintf("none of %#x", bad)}
	if d.DICEFlags&bad != 0 {
		c.Detail = "the firmware is in a debug, recovery or insecure state"
	} else {
		c.Status = check.Pass
	}
	return c
}

// String returns the id in hexadecimal.
func (p PDI) String() string { return hex.EncodeToString(p[:]) }

// chain verifies a device chain or recalls that it did.
func (v *Verifier) chain(b []byte) (*chain, error) {
	key := sha256.Sum256(b)
	if c, ok := v.chains.Get(key); ok {
		return c, nil
	}
	c, err := verifyChain(b, v.deviceRoots)
	if err != nil {
		return nil, err // failures are not remembered: they are free to make
	}
	v.chains.Put(key, c)
	return c, nil
}
