package nvidia

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/bombyx-network/bombyx/attestation/internal/p384"
)

// ParseChain reads exactly n certificates, leaf first, from PEM (nothing but
// CERTIFICATE blocks and white space) or from concatenated DER.
func ParseChain(b []byte, n int) ([]*x509.Certificate, error) {
	if len(b) > MaxChainSize {
		return nil, fmt.Errorf("nvidia: certificate chain of %d bytes, the most is %d", len(b), MaxChainSize)
	}
	var certs []*x509.Certificate
	add := func(der []byte) error {
		if len(certs) == n {
			return fmt.Errorf("nvidia: more than %d certificates", n)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("nvidia: certificate %d: %w", len(certs), err)
		}
		certs = append(certs, c)
		return nil
	}
	if len(b) > 0 && b[0] == 0x30 { // DER SEQUENCE; PEM begins with '-'
		for rest := cryptobyte.String(b); !rest.Empty(); {
			var der cryptobyte.String
			if !rest.ReadASN1Element(&der, cbasn1.SEQUENCE) {
				return nil, fmt.Errorf("nvidia: DER certificate %d is truncated", len(certs))
			}
			if err := add(der); err != nil {
				return nil, err
			}
		}
	} else {
		const begin = "-----BEGIN CERTIFICATE-----"
		for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
			// pem.Decode skips what is not PEM; nothing may be skipped here.
			if !bytes.HasPrefix(rest, []byte(begin)) {
				return nil, fmt.Errorf("nvidia: certificate %d does not begin with %q", len(certs), begin)
			}
			block, after := pem.Decode(rest)
			if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 || bytes.Count(rest[:len(rest)-len(after)], []byte("-----BEGIN")) != 1 {
				return nil, fmt.Errorf("nvidia: certificate %d is not well-formed PEM", len(certs))
			}
			if err := add(block.Bytes); err != nil {
				return nil, err
			}
			rest = after
		}
	}
	if len(certs) != n {
		return nil, fmt.Errorf("nvidia: %d certificates, want %d", len(certs), n)
	}
	return certs, nil
}

// verifyLinks checks that certs is one path from leaf to a self-issued root
// (RFC 5280, section 6), all ECDSA P-384 with SHA-384, root first so that no
// key is used before it is known to be genuine. Neither validity periods nor
// trust in the root are checked.
func verifyLinks(certs []*x509.Certificate) error {
	last := len(certs) - 1
	for i := last; i >= 0; i-- {
		c := certs[i]
		if _, err := p384Key(c); err != nil {
			return fmt.Errorf("certificate %d (%s): %w", i, c.Subject.CommonName, err)
		}
		if c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
			return fmt.Errorf("certificate %d (%s) is signed with %v, want ECDSA-SHA384", i, c.Subject.CommonName, c.SignatureAlgorithm)
		}
		if len(c.UnhandledCriticalExtensions) != 0 {
			return fmt.Errorf("certificate %d (%s) has the unknown critical extension %v", i, c.Subject.CommonName, c.UnhandledCriticalExtensions[0])
		}
		if i == 0 {
			if c.IsCA || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
				return fmt.Errorf("leaf certificate (%s) is not one for signatures", c.Subject.CommonName)
			}
		} else {
			if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
				return fmt.Errorf("certificate %d (%s) is not a certificate authority", i, c.Subject.CommonName)
			}
			if (c.MaxPathLen > 0 || c.MaxPathLenZero) && i-1 > c.MaxPathLen {
				return fmt.Errorf("certificate %d (%s) allows %d intermediates below it, found %d", i, c.Subject.CommonName, c.MaxPathLen, i-1)
			}
		}
		issuer := certs[min(i+1, last)]
		if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
			return fmt.Errorf("certificate %d (%s) was issued by %q, not by certificate %d (%s)",
				i, c.Subject.CommonName, c.Issuer.CommonName, min(i+1, last), issuer.Subject.CommonName)
		}
		if len(c.AuthorityKeyId) != 0 && len(issuer.SubjectKeyId) != 0 && !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
			return fmt.Errorf("certificate %d (%s) names another key of its issuer", i, c.Subject.CommonName)
		}
		if i == last {
			continue // the root is pinned byte for byte; its own signature adds nothing
		}
		if err := verifyDER(issuer, c.RawTBSCertificate, c.Signature); err != nil {
			return fmt.Errorf("certificate %d (%s): %w", i, c.Subject.CommonName, err)
		}
	}
	return nil
}

func p384Key(c *x509.Certificate) (*ecdsa.PublicKey, error) {
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() {
		return nil, errors.New("public key is not an ECDSA P-384 key")
	}
	return pub, nil
}

var errSignature = errors.New("signature does not verify")

// verifyDER verifies an ECDSA-SHA384 signature in DER (SEC 1, C.5).
func verifyDER(signer *x509.Certificate, message, sig []byte) error {
	pub, err := p384Key(signer)
	if err != nil {
		return err
	}
	in, r, s := cryptobyte.String(sig), new(big.Int), new(big.Int)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) || !seq.Empty() {
		return errors.New("signature is not DER")
	}
	digest := sha512.Sum384(message)
	if !p384.Verify(pub, &digest, r, s) {
		return errSignature
	}
	return nil
}

// verifyRaw verifies an ECDSA-SHA384 signature as r||s, 48 bytes each.
func verifyRaw(pub *ecdsa.PublicKey, message, sig []byte) error {
	digest := sha512.Sum384(message)
	return verifyDigest(pub, &digest, sig)
}

func verifyDigest(pub *ecdsa.PublicKey, digest *[sha512.Size384]byte, sig []byte) error {
	if len(sig) != SignatureSize {
		return fmt.Errorf("signature of %d bytes, want %d", len(sig), SignatureSize)
	}
	r, s := new(big.Int).SetBytes(sig[:SignatureSize/2]), new(big.Int).SetBytes(sig[SignatureSize/2:])
	if !p384.Verify(pub, digest, r, s) {
		return errSignature
	}
	return nil
}

// validity is the intersection of the validity periods of a chain.
type validity struct{ from, to time.Time }

func chainValidity(certs []*x509.Certificate) (v validity) {
	for i, c := range certs {
		if i == 0 || c.NotBefore.After(v.from) {
			v.from = c.NotBefore
		}
		if i == 0 || c.NotAfter.Before(v.to) {
			v.to = c.NotAfter
		}
	}
	return v
}

func (v validity) contains(t time.Time) bool { return !t.Before(v.from) && !t.After(v.to) }

func (v validity) String() string {
	return v.from.UTC().Format(time.RFC3339) + " to " + v.to.UTC().Format(time.RFC3339)
}

func fingerprint(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// String returns the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// chain is a device chain that has passed every check but those of time.
type chain struct {
	certs    []*x509.Certificate
	key      *ecdsa.PublicKey
	device   Device
	validity validity
}

// verifyChain does everything about a device chain that does not depend on the
// time.
func verifyChain(b []byte, roots []Fingerprint) (*chain, error) {
	certs, err := ParseChain(b, ChainLength)
	if err != nil {
		return nil, err
	}
	root := fingerprint(certs[ChainLength-1])
	if !pinned(roots, root) {
		return nil, fmt.Errorf("root certificate %s is not among the pinned ones", root)
	}
	if err := verifyLinks(certs); err != nil {
		return nil, err
	}
	leaf, identity := certs[0], certs[1]
	fwid, flags, err := diceFWID(leaf, identity)
	if err != nil {
		return nil, err
	}
	key, err := p384Key(leaf)
	if err != nil {
		return nil, err
	}
	model, _, _ := strings.Cut(leaf.Subject.CommonName, " ")
	v := chainValidity(certs)
	return &chain{
		certs:    certs,
		key:      key,
		validity: v,
		device: Device{
			Model:     model,
			HWModel:   identity.Subject.CommonName,
			Serial:    leaf.SerialNumber.String(),
			PDI:       devicePDI(identity.Subject.SerialNumber),
			Leaf:      fingerprint(leaf),
			Identity:  fingerprint(identity),
			FWID:      fwid,
			DICEFlags: flags,
			NotAfter:  v.to,
		},
	}, nil
}

func pinned(roots []Fingerprint, f Fingerprint) bool {
	for _, r := range roots {
		if r == f {
			return true
		}
	}
	return false
}

// devicePDI reads the device's PDI from its identity certificate's subject
// serial number: one byte of device class (0x41 GPU, 0x50 switch), then the
// eight bytes that reports of its neighbours call it by.
func devicePDI(serial string) (p PDI) {
	b, err := hex.DecodeString(serial)
	if err != nil || len(b) != 1+len(p) {
		return PDI{}
	}
	copy(p[:], b[1:])
	return p
}

// The DICE extensions of the leaf (TCG DICE Attestation Architecture 1.1).
var (
	// OIDCompositeDeviceID is tcg-dice: Hopper and LS10 put the device's key
	// and firmware id there.
	OIDCompositeDeviceID = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	// OIDTcbInfo is tcg-dice-TcbInfo, section 6.1.1: Blackwell.
	OIDTcbInfo = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}

	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

// Bits of a TcbInfo's OperationalFlags (section 6.1.1).
const (
	DICENotConfigured uint32 = 1 << 0
	DICENotSecure     uint32 = 1 << 1
	DICERecovery      uint32 = 1 << 2
	DICEDebug         uint32 = 1 << 3
)

// diceFWID returns the firmware id in the leaf's one DICE extension, and the
// operational flags where it has them.
func diceFWID(leaf, issuer *x509.Certificate) (fwid []byte, flags uint32, err error) {
	for _, ext := range leaf.Extensions {
		composite := ext.Id.Equal(OIDCompositeDeviceID)
		if !composite && !ext.Id.Equal(OIDTcbInfo) {
			continue
		}
		if fwid != nil {
			return nil, 0, errors.New("leaf certificate has two DICE extensions")
		}
		if composite {
			fwid, err = compositeDeviceID(ext.Value, issuer)
		} else {
			fwid, flags, err = tcbInfo(ext.Value)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("DICE extension %v: %w", ext.Id, err)
		}
	}
	if fwid == nil {
		return nil, 0, errors.New("leaf certificate has no DICE extension")
	}
	return fwid, flags, nil
}

// compositeDeviceID reads
//
//	CompositeDeviceID ::= SEQUENCE { version INTEGER, deviceID SubjectPublicKeyInfo, fwid FWID }
//
// in which the 48 bytes of the firmware id come last, and checks that deviceID
// is the key that signed the leaf.
func compositeDeviceID(der []byte, issuer *x509.Certificate) ([]byte, error) {
	in := cryptobyte.String(der)
	var seq, spki cryptobyte.String
	var version int
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || !seq.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return nil, errors.New("not a CompositeDeviceID")
	}
	if version != 1 {
		return nil, fmt.Errorf("CompositeDeviceID version %d, want 1", version)
	}
	fwid, ok := readFWID(&seq)
	if !ok || !seq.Empty() {
		return nil, errors.New("CompositeDeviceID without one SHA-384 firmware id")
	}
	if !bytes.Equal(spki, issuer.RawSubjectPublicKeyInfo) {
		return nil, errors.New("CompositeDeviceID names another device key than the issuer's")
	}
	return fwid, nil
}

// tcbInfo reads DiceTcbInfo: the first of its fwids [6] and its flags [7].
func tcbInfo(der []byte) (fwid []byte, flags uint32, err error) {
	in := cryptobyte.String(der)
	var seq, list, bits cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, 0, errors.New("not a DiceTcbInfo")
	}
	var hasList, hasFlags bool
	for tag := range uint8(11) { // vendor [0] to flagsMask [10], each optional, in order
		var field cryptobyte.String
		var present bool
		t := cbasn1.Tag(tag).ContextSpecific()
		if tag == 6 {
			t = t.Constructed()
		}
		if !seq.ReadOptionalASN1(&field, &present, t) {
			return nil, 0, fmt.Errorf("field [%d] of DiceTcbInfo is malformed", tag)
		}
		switch {
		case present && tag == 6:
			list, hasList = field, true
		case present && tag == 7:
			bits, hasFlags = field, true
		}
	}
	if !seq.Empty() {
		return nil, 0, errors.New("DiceTcbInfo has unknown fields")
	}
	fwid, ok := readFWID(&list)
	if !hasList || !ok {
		return nil, 0, errors.New("DiceTcbInfo without a SHA-384 firmware id")
	}
	for !list.Empty() {
		if _, ok := readFWID(&list); !ok {
			return nil, 0, errors.New("DiceTcbInfo with a malformed firmware id")
		}
	}
	if hasFlags {
		// BIT STRING: one byte of unused bits, then bit 0 in the highest bit.
		if len(bits) < 1 || len(bits) > 5 || bits[0] > 7 || len(bits) == 1 && bits[0] != 0 {
			return nil, 0, errors.New("flags of DiceTcbInfo are malformed")
		}
		for i, b := range bits[1:] {
			for j := range 8 {
				if b&(0x80>>j) != 0 {
					flags |= 1 << (8*i + j)
				}
			}
		}
	}
	return fwid, flags, nil
}

// readFWID reads FWID ::= SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET
// STRING } with SHA-384.
func readFWID(in *cryptobyte.String) ([]byte, bool) {
	var seq cryptobyte.String
	var alg asn1.ObjectIdentifier
	var digest []byte
	ok := in.ReadASN1(&seq, cbasn1.SEQUENCE) && seq.ReadASN1ObjectIdentifier(&alg) && alg.Equal(oidSHA384) &&
		seq.ReadASN1Bytes(&digest, cbasn1.OCTET_STRING) && len(digest) == crypto.SHA384.Size() && seq.Empty()
	return digest, ok
}
