package attestationtest

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"time"
)

// amdPEM holds the mock AMD: the keys of ARK and of ASK and ASVK, then their certificates. RSA keys of 4096 bits take
// seconds to make, so every seed shares these. Nobody trusts them.
//
//go:embed amd.pem
var amdPEM []byte

// AMD's names for the mock product.
const amdProduct = "Genoa"

type amd struct {
	arkKey, subKey *rsa.PrivateKey
	ark, ask, asvk *x509.Certificate
}

func newAMD() amd {
	var keys []*rsa.PrivateKey
	var certs []*x509.Certificate
	for block, rest := pem.Decode(amdPEM); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certs = append(certs, must(x509.ParseCertificate(block.Bytes)))
		} else {
			keys = append(keys, must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey))
		}
	}
	return amd{keys[0], keys[1], certs[0], certs[1], certs[2]}
}

// snpTCB is the TCB of mock nodes: boot loader 10, SNP 23, microcode 84. outdated takes one off the microcode.
func snpTCB(outdated bool) uint64 {
	t := uint64(84)<<56 | 23<<48 | 10
	if outdated {
		t -= 1 << 56
	}
	return t
}

// snpPlatform is the provisioning of an AMD machine.
type snpPlatform struct {
	key    *key
	cert   *x509.Certificate
	chain  []byte // PEM, leaf first
	chipID [64]byte
	tcb    uint64
}

func (a *Authority) newSNPPlatform(c NodeConfig) *snpPlatform {
	p := &snpPlatform{key: a.key(elliptic.P384(), "snp endorsement key ", c.Name), tcb: snpTCB(c.Platform == OutOfDate)}
	copy(p.chipID[:], a.bytes(64, "chip id ", c.Name))
	name := func(cn string) pkix.Name {
		return pkix.Name{CommonName: cn, Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"},
			Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"}}
	}
	extension := func(value []byte, arc ...int) pkix.Extension {
		return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...), Value: value}
	}
	number := func(n uint64, arc ...int) pkix.Extension { return extension(must(asn1.Marshal(int(n&0xff))), arc...) }
	ia5 := func(s string) []byte { return must(asn1.MarshalWithParams(s, "ia5")) }
	t := &x509.Certificate{Subject: name("SEV-VCEK"), SerialNumber: new(big.Int).SetBytes(append([]byte{1}, a.bytes(8, "snp serial ", c.Name)...)),
		NotBefore: time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions: []pkix.Extension{number(1, 1), extension(ia5(amdProduct+"-B1"), 2), number(p.tcb, 3, 1), number(p.tcb>>8, 3, 2),
			number(p.tcb>>16, 3, 4), number(p.tcb>>24, 3, 5), number(p.tcb>>32, 3, 6), number(p.tcb>>40, 3, 7), number(p.tcb>>48, 3, 3), number(p.tcb>>56, 3, 8)}}
	issuer := a.amd.ask
	if c.VLEK {
		t.Subject, issuer = name("SEV-VLEK"), a.amd.asvk
		t.ExtraExtensions = append(t.ExtraExtensions, extension(ia5("mock cloud"), 5))
		p.chipID = [64]byte{}
	} else {
		t.ExtraExtensions = append(t.ExtraExtensions, extension(p.chipID[:], 4))
	}
	p.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, issuer, &p.key.PublicKey, a.amd.subKey))))
	var b bytes.Buffer
	for _, cert := range []*x509.Certificate{p.cert, issuer, a.amd.ark} {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	p.chain = b.Bytes()
	return p
}

// AuxBlob returns the certificate table that the node's host gives its guests beside a report (GHCB, 4.1.8.1): VCEK or VLEK, ASK or
// ASVK, and ARK.
func (n *Node) AuxBlob() []byte {
	key := "63da758de6644564adc5f4b93be8accd"
	if n.config.VLEK {
		key = "a8074bc2a25a483eaae639c045a0b8a1"
	}
	ids := []string{key, "4ab7b379bbac4fe4a02f05aef327c782", "c0b406a4a803495297433fb6014cd0ae"}
	dir, blobs, chain := []byte{}, []byte{}, n.snp.chain
	for _, id := range ids {
		var block *pem.Block
		block, chain = pem.Decode(chain)
		dir = append(dir, must(hex.DecodeString(id))...)
		dir = binary.LittleEndian.AppendUint32(dir, uint32(24*(len(ids)+1)+len(blobs)))
		dir = binary.LittleEndian.AppendUint32(dir, uint32(len(block.Bytes)))
		blobs = append(blobs, block.Bytes...)
	}
	return slices.Concat(dir, make([]byte, 24), blobs)
}

// SNPReport returns a version 3 attestation report of the node's guest that carries reportData (SEV-SNP ABI,
// ATTESTATION_REPORT).
func (n *Node) SNPReport(reportData [64]byte) []byte {
	p := n.snp
	b := make([]byte, 1184)
	le := binary.LittleEndian
	le.PutUint32(b[0:], 3)
	policy := uint64(1)<<17 | 1<<16 | 1<<8 // SMT, ABI 1.0
	if n.config.Debug {
		policy |= 1 << 19
	}
	le.PutUint64(b[8:], policy)
	le.PutUint32(b[0x30:], n.config.VMPL)
	copy(b[0xc0:], n.config.HostData[:])
	le.PutUint32(b[0x34:], 1) // ECDSA P-384 with SHA-384
	le.PutUint64(b[0x38:], p.tcb)
	le.PutUint64(b[0x40:], 1|1<<5) // SMT, alias check complete
	if n.config.VLEK {
		le.PutUint32(b[0x48:], 1<<2)
	}
	copy(b[0x50:], reportData[:])
	m := n.auth.Image(n.config.Image)
	copy(b[0x90:], m.MRTD[:]) // the launch digest takes the place of MRTD
	copy(b[0x140:], n.auth.bytes(32, "report id ", n.config.Name))
	copy(b[0x160:], bytes.Repeat([]byte{0xff}, 32))
	le.PutUint64(b[0x180:], p.tcb)
	copy(b[0x188:], []byte{0x19, 0x11, 0x01}) // Genoa
	copy(b[0x1a0:], p.chipID[:])
	le.PutUint64(b[0x1e0:], p.tcb)
	copy(b[0x1e8:], []byte{1, 55, 1, 0, 1, 55, 1, 0}) // build, minor, major, reserved; current and committed
	le.PutUint64(b[0x1f0:], p.tcb)
	sig := p.key.raw(b[:0x2a0])
	slices.Reverse(sig[:48])
	slices.Reverse(sig[48:])
	copy(b[0x2a0:], sig[:48])
	copy(b[0x2e8:], sig[48:])
	return b
}

// amdCRL is signed by the ARK and covers everything below it.
func (a *Authority) amdCRL(issued, next time.Time, number int64, revoked ...*x509.Certificate) []byte {
	t := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: issued, NextUpdate: next, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: issued})
	}
	return must(x509.CreateRevocationList(rand.Reader, t, a.amd.ark, a.amd.arkKey))
}
