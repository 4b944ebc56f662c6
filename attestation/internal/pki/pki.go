// Package pki judges certificates and revocation lists (RFC 5280) by all but their signatures, which are the caller's to verify.
package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// MaxCRL is the length of the longest revocation list that ParseCRL reads, in bytes.
const MaxCRL = 1 << 20

// Serials is the set of the serial numbers that a list revokes.
type Serials map[string]struct{}

// Has reports whether cert's serial number is in the set. It does not look at the issuer.
func (s Serials) Has(cert *x509.Certificate) bool {
	_, ok := s[string(cert.SerialNumber.Bytes())]
	return ok
}

// ParseCRL parses a DER certificate revocation list, and nothing behind it. A list with a critical extension is refused, since
// that narrows what the list covers, and so is one that never ends.
func ParseCRL(der []byte) (*x509.RevocationList, Serials, error) {
	if len(der) > MaxCRL {
		return nil, nil, fmt.Errorf("CRL of %d bytes (limit %d)", len(der), MaxCRL)
	}
	list, err := x509.ParseRevocationList(bytes.Clone(der))
	if err != nil {
		return nil, nil, fmt.Errorf("malformed CRL: %w", err)
	}
	if len(list.Raw) != len(der) {
		return nil, nil, fmt.Errorf("malformed CRL: %d bytes behind it", len(der)-len(list.Raw))
	}
	for _, x := range list.Extensions {
		if x.Critical {
			return nil, nil, fmt.Errorf("CRL with the unsupported critical extension %v", x.Id)
		}
	}
	if list.NextUpdate.IsZero() {
		return nil, nil, errors.New("CRL without nextUpdate")
	}
	revoked := make(Serials, len(list.RevokedCertificateEntries))
	for _, r := range list.RevokedCertificateEntries {
		revoked[string(r.SerialNumber.Bytes())] = struct{}{}
	}
	return list, revoked, nil
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
	case cert.IsCA && issuer.MaxPathLen == 0 && issuer.MaxPathLenZero:
		return fmt.Errorf("CA certificate %q exceeds the path length of %q", name, issuer.Subject.CommonName)
	}
	return nil
}
