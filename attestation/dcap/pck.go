package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// PCK is what Intel certifies about a platform in the SGX extension of its PCK certificate (PCK Certificate and CRL Profile
// Specification, 1.3.5).
type PCK struct {
	CA            string // common name of the issuer: "Intel SGX PCK Platform CA" or "Intel SGX PCK Processor CA"
	PPID          [16]byte
	FMSPC         [6]byte
	PCEID         [2]byte
	CPUSVN        [16]byte
	TCBComponents [16]uint8 // the SVNs to compare with TCB levels
	PCESVN        uint16
	SGXType       SGXType

	// Only from the Platform CA.
	PlatformInstanceID *[16]byte
	Configuration      *PCKConfiguration
}

// SGXType tells how the platform protects enclave memory.
type SGXType uint8

// SGX types. Only SGXScalableIntegrity detects tampering with memory contents.
const (
	SGXStandard          SGXType = 0
	SGXScalable          SGXType = 1
	SGXScalableIntegrity SGXType = 2
)

// PCKConfiguration is the configuration of a multi-package platform. A nil field is undefined.
type PCKConfiguration struct {
	DynamicPlatform *bool // packages may be added through the Registration Service
	CachedKeys      *bool // Intel keeps the platform root keys
	SMTEnabled      *bool
}

var (
	oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	arcSGX = []byte{0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1} // the same in DER

	errNoSGX     = errors.New("dcap: PCK certificate without SGX extension")
	errExtension = errors.New("malformed")
)

// ParsePCK reads the SGX extension of a PCK certificate. It verifies nothing.
func ParsePCK(cert *x509.Certificate) (*PCK, error) {
	var value []byte
	for _, x := range cert.Extensions {
		if x.Id.Equal(oidSGX) {
			value = x.Value
		}
	}
	if value == nil {
		return nil, errNoSGX
	}
	p := &PCK{CA: cert.Issuer.CommonName}
	var tcb, configuration cryptobyte.String
	var sgxType uint8
	var instance [16]byte
	var seen [8]bool
	err := sgxSequence(value, arcSGX, func(arc int, v *cryptobyte.String) error {
		if arc < 1 || arc > 7 {
			return fmt.Errorf("unknown field .%d", arc)
		}
		seen[arc] = true
		switch arc {
		case 1:
			return octets(v, p.PPID[:])
		case 2:
			return sequence(v, &tcb)
		case 3:
			return octets(v, p.PCEID[:])
		case 4:
			return octets(v, p.FMSPC[:])
		case 5:
			return smallInt(v, casn1.ENUM, &sgxType)
		case 6:
			return octets(v, instance[:])
		default:
			return sequence(v, &configuration)
		}
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("dcap: SGX extension: %w", err)
	case !seen[1] || !seen[2] || !seen[3] || !seen[4] || !seen[5]:
		return nil, errors.New("dcap: SGX extension lacks PPID, TCB, PCEID, FMSPC or SGX type")
	case sgxType > uint8(SGXScalableIntegrity):
		return nil, fmt.Errorf("dcap: unknown SGX type %d", sgxType)
	}
	p.SGXType = SGXType(sgxType)
	if err := p.parseTCB(tcb); err != nil {
		return nil, fmt.Errorf("dcap: TCB of the SGX extension: %w", err)
	}
	if seen[6] {
		p.PlatformInstanceID = &instance
	}
	if seen[7] {
		p.Configuration = &PCKConfiguration{}
		err := tuples(configuration, append(slices.Clone(arcSGX), 7), func(arc int, v *cryptobyte.String) error {
			var b bool
			if !v.ReadASN1Boolean(&b) {
				return errExtension
			}
			switch arc {
			case 1:
				p.Configuration.DynamicPlatform = &b
			case 2:
				p.Configuration.CachedKeys = &b
			case 3:
				p.Configuration.SMTEnabled = &b
			default:
				return fmt.Errorf("unknown field .%d", arc)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("dcap: configuration of the SGX extension: %w", err)
		}
	}
	return p, nil
}

// parseTCB reads the eighteen fields of the TCB: sixteen component SVNs, PCESVN, CPUSVN.
func (p *PCK) parseTCB(s cryptobyte.String) error {
	n := 0
	err := tuples(s, append(slices.Clone(arcSGX), 2), func(arc int, v *cryptobyte.String) error {
		n++
		switch {
		case arc >= 1 && arc <= 16:
			return smallInt(v, casn1.INTEGER, &p.TCBComponents[arc-1])
		case arc == 17:
			if !v.ReadASN1Integer(&p.PCESVN) {
				return errExtension
			}
			return nil
		case arc == 18:
			return octets(v, p.CPUSVN[:])
		}
		return fmt.Errorf("unknown field .%d", arc)
	})
	if err == nil && n != 18 {
		err = fmt.Errorf("%d fields, want 18", n)
	}
	return err
}

func sgxSequence(value, prefix []byte, f func(int, *cryptobyte.String) error) error {
	s := cryptobyte.String(value)
	var inner cryptobyte.String
	if !s.ReadASN1(&inner, casn1.SEQUENCE) || !s.Empty() {
		return errExtension
	}
	return tuples(inner, prefix, f)
}

// tuples reads a series of SEQUENCE { OBJECT IDENTIFIER prefix.arc, value }, refusing repeated arcs.
func tuples(s cryptobyte.String, prefix []byte, f func(arc int, v *cryptobyte.String) error) error {
	var seen [256]bool
	for !s.Empty() {
		var tuple, oid cryptobyte.String
		if !s.ReadASN1(&tuple, casn1.SEQUENCE) || !tuple.ReadASN1(&oid, casn1.OBJECT_IDENTIFIER) {
			return errExtension
		}
		if len(oid) != len(prefix)+1 || !bytes.HasPrefix(oid, prefix) {
			return fmt.Errorf("unknown field, object identifier %x", []byte(oid))
		}
		arc := int(oid[len(prefix)])
		if seen[arc] {
			return fmt.Errorf("field .%d is repeated", arc)
		}
		seen[arc] = true
		if err := f(arc, &tuple); err != nil {
			return fmt.Errorf("field .%d: %w", arc, err)
		}
		if !tuple.Empty() {
			return fmt.Errorf("field .%d: %w", arc, errExtension)
		}
	}
	return nil
}

func octets(s *cryptobyte.String, dst []byte) error {
	var v cryptobyte.String
	if !s.ReadASN1(&v, casn1.OCTET_STRING) || len(v) != len(dst) {
		return errExtension
	}
	copy(dst, v)
	return nil
}

func sequence(s *cryptobyte.String, dst *cryptobyte.String) error {
	if !s.ReadASN1(dst, casn1.SEQUENCE) {
		return errExtension
	}
	return nil
}

// smallInt reads an INTEGER or ENUMERATED of 0 to 255 in minimal encoding.
func smallInt(s *cryptobyte.String, tag casn1.Tag, dst *uint8) error {
	var v cryptobyte.String
	if !s.ReadASN1(&v, tag) {
		return errExtension
	}
	switch {
	case len(v) == 1 && v[0] < 0x80:
		*dst = v[0]
	case len(v) == 2 && v[0] == 0 && v[1] >= 0x80:
		*dst = v[1]
	default:
		return errExtension
	}
	return nil
}
