// Package pki judges certificates and revocation lists (RFC 5280) by all but their signatures, which are the caller's to verify.
package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// MaxCRL is the length of the longest revocation list that ParseCRL reads, in bytes.
const MaxCRL = 1 << 20

// Serials are the serial numbers that a list revokes: big-endian, without leading zeros. They are not sorted: a look through the
// longest list takes no longer than a signature, sorting it dozens of times that.
type Serials [][]byte

// Has reports whether cert's serial number is in the set. It does not look at the issuer.
func (s Serials) Has(cert *x509.Certificate) bool {
	serial := cert.SerialNumber.Bytes()
	if len(serial) == 0 {
		serial = []byte{0}
	}
	return slices.ContainsFunc(s, func(revoked []byte) bool { return bytes.Equal(revoked, serial) })
}

// ParseCRL parses a DER certificate revocation list, and nothing behind it. A list or an entry with a critical extension is
// refused, since that narrows what is revoked, and so is a list that never ends. The entries, which may be thousands, are in the
// Serials and not in the RevocationList: crypto/x509 makes far more of them than there is to know.
func ParseCRL(der []byte) (*x509.RevocationList, Serials, error) {
	if len(der) > MaxCRL {
		return nil, nil, fmt.Errorf("CRL of %d bytes (limit %d)", len(der), MaxCRL)
	}
	der = bytes.Clone(der)
	tbs, entries, short, err := splitCRL(der)
	if err != nil {
		return nil, nil, fmt.Errorf("malformed CRL: %w", err)
	}
	list, err := x509.ParseRevocationList(short)
	if err != nil {
		return nil, nil, fmt.Errorf("malformed CRL: %w", err)
	}
	list.Raw, list.RawTBSRevocationList = der, tbs
	for _, x := range list.Extensions {
		if x.Critical {
			return nil, nil, fmt.Errorf("CRL with the unsupported critical extension %v", x.Id)
		}
	}
	if list.NextUpdate.IsZero() {
		return nil, nil, errors.New("CRL without nextUpdate")
	}
	revoked, err := readSerials(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("malformed CRL: %w", err)
	}
	return list, revoked, nil
}

var errTBS = errors.New("tbsCertList is not one of RFC 5280, 5.1")

// splitCRL finds the tbsCertList and its revokedCertificates (RFC 5280, 5.1), and returns the same list without them.
func splitCRL(der []byte) (tbs []byte, entries cryptobyte.String, short []byte, err error) {
	in := cryptobyte.String(der)
	var list, element, fields cryptobyte.String
	if !in.ReadASN1(&list, asn1.SEQUENCE) {
		return nil, nil, nil, errors.New("not a SEQUENCE")
	}
	if !in.Empty() {
		return nil, nil, nil, fmt.Errorf("%d bytes behind it", len(in))
	}
	if !list.ReadASN1Element(&element, asn1.SEQUENCE) {
		return nil, nil, nil, errTBS
	}
	tbs = element
	if signature := list; !signature.SkipASN1(asn1.SEQUENCE) || !signature.SkipASN1(asn1.BIT_STRING) || !signature.Empty() {
		return nil, nil, nil, errors.New("no algorithm and signature behind tbsCertList, or more than that")
	}
	if !element.ReadASN1(&fields, asn1.SEQUENCE) {
		return nil, nil, nil, errTBS
	}
	rest := fields
	if !rest.SkipASN1(asn1.INTEGER) || !rest.SkipASN1(asn1.SEQUENCE) || !rest.SkipASN1(asn1.SEQUENCE) || !skipTime(&rest) {
		return nil, nil, nil, errTBS
	}
	skipTime(&rest) // nextUpdate, optional
	before := fields[:len(fields)-len(rest)]
	if !rest.ReadOptionalASN1(&entries, nil, asn1.SEQUENCE) {
		return nil, nil, nil, errTBS
	}
	if after := rest; !after.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) || !after.Empty() {
		return nil, nil, nil, errTBS
	}
	b := cryptobyte.NewFixedBuilder(make([]byte, 0, len(der)))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(before)
			b.AddBytes(rest)
		})
		b.AddBytes(list)
	})
	short, err = b.Bytes()
	return tbs, entries, short, err
}

// skipTime skips a Time (RFC 5280, 4.1).
func skipTime(s *cryptobyte.String) bool {
	return s.PeekASN1Tag(asn1.UTCTime) && s.SkipASN1(asn1.UTCTime) || s.PeekASN1Tag(asn1.GeneralizedTime) && s.SkipASN1(asn1.GeneralizedTime)
}

var errEntry = errors.New("an entry is not one of RFC 5280, 5.1")

// readSerials reads revokedCertificates. When and why a certificate was revoked makes no difference, and is not looked at.
func readSerials(entries cryptobyte.String) (Serials, error) {
	n := 0
	for rest := entries; !rest.Empty(); n++ {
		if !rest.SkipASN1(asn1.SEQUENCE) {
			return nil, errEntry
		}
	}
	serials := make(Serials, n)
	for i := range serials {
		var entry, extensions cryptobyte.String
		var extended bool
		if !entries.ReadASN1(&entry, asn1.SEQUENCE) || !entry.ReadASN1Integer(&serials[i]) || !skipTime(&entry) ||
			!entry.ReadOptionalASN1(&extensions, &extended, asn1.SEQUENCE) || !entry.Empty() {
			return nil, errEntry
		}
		for !extensions.Empty() {
			var extension cryptobyte.String
			if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.SkipASN1(asn1.OBJECT_IDENTIFIER) {
				return nil, errEntry
			}
			if extension.PeekASN1Tag(asn1.BOOLEAN) {
				var critical bool
				if !extension.ReadASN1Boolean(&critical) {
					return nil, errEntry
				}
				if critical {
					return nil, errors.New("an entry has a critical extension, and none is supported")
				}
			}
			if !extension.SkipASN1(asn1.OCTET_STRING) || !extension.Empty() {
				return nil, errEntry
			}
		}
	}
	return serials, nil
}

// An Algorithm is a signature algorithm and its name in errors.
type Algorithm struct {
	ID   x509.SignatureAlgorithm
	Name string
}

// Issued returns why issuer cannot have issued cert with a signature of that algorithm, or nil if only the signature is left
// to verify (RFC 5280, 6.1, as far as chains of one intermediate CA need it: a path length matters only where it is zero).
func Issued(cert, issuer *x509.Certificate, alg Algorithm) error {
	name := cert.Subject.CommonName
	switch {
	case !bytes.Equal(cert.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("certificate %q names the issuer %q, not %q", name, cert.Issuer.CommonName, issuer.Subject.CommonName)
	case cert.Version != 3 || cert.SignatureAlgorithm != alg.ID:
		return fmt.Errorf("certificate %q is not an X.509 v3 certificate signed with %s", name, alg.Name)
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("certificate %q has the unsupported critical extension %v", name, cert.UnhandledCriticalExtensions[0])
	case !issuer.BasicConstraintsValid || !issuer.IsCA || issuer.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("certificate %q is issued by %q, which is not a CA", name, issuer.Subject.CommonName)
	case cert.IsCA && issuer.MaxPathLenZero:
		return fmt.Errorf("CA certificate %q exceeds the path length of %q", name, issuer.Subject.CommonName)
	}
	return nil
}
