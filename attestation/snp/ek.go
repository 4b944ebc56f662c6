package snp

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// EndorsementKey is what AMD certifies about a VCEK or VLEK in its certificate's extensions (KDS, 3.1).
type EndorsementKey struct {
	Kind        SigningKey
	Product     Product
	ProductName string   // as certified: the product and, on some, a stepping, such as "Milan-B0"
	HWID        []byte   // VCEK: 64 bytes, or 8 on Turin, that identify the chip
	CSPID       string   // VLEK: the cloud provider
	TCB         TCBParts // what the key was derived for
}

// oidAMD is 1.3.6.1.4.1.3704.1, under which all extensions lie.
var oidAMD = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// ParseEndorsementKey reads the extensions of a VCEK or VLEK certificate. Unknown extensions of AMD's are refused, since
// they may restrict what the key vouches for. It verifies nothing.
func ParseEndorsementKey(cert *x509.Certificate) (*EndorsementKey, error) {
	k := &EndorsementKey{}
	switch cert.Subject.CommonName {
	case "SEV-VCEK":
		k.Kind = VCEK
	case "SEV-VLEK":
		k.Kind = VLEK
	default:
		return nil, fmt.Errorf("snp: certificate of %q, want SEV-VCEK or SEV-VLEK", cert.Subject.CommonName)
	}
	var version uint8
	var spl [10]uint8 // by the last arc of 1.3.x
	seen := map[string]bool{}
	for _, x := range cert.Extensions {
		if len(x.Id) <= len(oidAMD) || !x.Id[:len(oidAMD)].Equal(oidAMD) {
			continue
		}
		id := strings.TrimPrefix(x.Id.String(), oidAMD.String()+".")
		seen[id] = true // once: crypto/x509 refuses repeated extensions
		var err error
		switch arcs := x.Id[len(oidAMD):]; {
		case id == "1":
			err = smallInt(x.Value, &version)
		case id == "2":
			k.ProductName, err = ia5(x.Value)
		case id == "4":
			k.HWID = x.Value
		case id == "5":
			k.CSPID, err = ia5(x.Value)
		case len(arcs) == 2 && arcs[0] == 3 && arcs[1] >= 1 && arcs[1] <= 9:
			err = smallInt(x.Value, &spl[arcs[1]])
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return nil, fmt.Errorf("snp: extension %s: %w", id, err)
		}
	}
	line, _, _ := strings.Cut(k.ProductName, "-")
	k.Product = Product(line)
	want := []string{"1", "2", "3.1", "3.2", "3.3", "3.8"}
	hwid := 64
	switch k.Product {
	case Milan, Genoa:
		want = append(want, "3.4", "3.5", "3.6", "3.7")
		k.TCB.Reserved = [4]uint8(spl[4:8])
		if seen["3.9"] {
			return nil, fmt.Errorf("snp: FMC patch level on %s", k.Product)
		}
	case Turin:
		want = append(want, "3.5", "3.6", "3.7", "3.9")
		k.TCB.FMC, k.TCB.Reserved = spl[9], [4]uint8{spl[5], spl[6], spl[7]}
		hwid = 8
		if seen["3.4"] {
			return nil, fmt.Errorf("snp: fourth reserved patch level on %s", k.Product)
		}
	default:
		return nil, fmt.Errorf("snp: unknown product %q", k.ProductName)
	}
	k.TCB.BootLoader, k.TCB.TEE, k.TCB.SNP, k.TCB.Microcode = spl[1], spl[2], spl[3], spl[8]
	for _, id := range want {
		if !seen[id] {
			return nil, fmt.Errorf("snp: extension %s is missing", id)
		}
	}
	switch {
	case version > 1:
		return nil, fmt.Errorf("snp: extensions of version %d", version)
	case k.Kind == VCEK && (len(k.HWID) != hwid || seen["5"]):
		return nil, fmt.Errorf("snp: VCEK with a hardware id of %d bytes, want %d and no provider", len(k.HWID), hwid)
	case k.Kind == VLEK && (k.HWID != nil || k.CSPID == ""):
		return nil, errors.New("snp: VLEK without provider or with a hardware id")
	}
	return k, nil
}

// smallInt reads a DER INTEGER of 0 to 255.
func smallInt(der []byte, dst *uint8) error {
	s := cryptobyte.String(der)
	if !s.ReadASN1Integer(dst) || !s.Empty() {
		return errors.New("not an integer of 0 to 255")
	}
	return nil
}

func ia5(der []byte) (string, error) {
	s := cryptobyte.String(der)
	var v cryptobyte.String
	if !s.ReadASN1(&v, casn1.IA5String) || !s.Empty() || len(v) > 256 {
		return "", errors.New("not a short IA5String")
	}
	for _, c := range v {
		if c < 0x20 || c > 0x7e {
			return "", errors.New("not printable")
		}
	}
	return string(v), nil
}
