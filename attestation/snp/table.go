package snp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// MaxTableCertificates is how many entries ParseTable reads.
const MaxTableCertificates = 16

// GUIDs of the certificates in a host's table, in order and without dashes.
var (
	guidVLEK = guid("a8074bc2a25a483eaae639c045a0b8a1")
	guidVCEK = guid("63da758de6644564adc5f4b93be8accd")
	guidASK  = guid("4ab7b379bbac4fe4a02f05aef327c782") // or ASVK
	guidARK  = guid("c0b406a4a803495297433fb6014cd0ae")
)

func guid(s string) [16]byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant above is wrong
	}
	return [16]byte(b)
}

// IsTable tells whether the bytes begin as a host's certificate table does: with the GUID of an AMD certificate.
func IsTable(b []byte) bool {
	for _, id := range [][16]byte{guidVLEK, guidVCEK, guidASK, guidARK} {
		if bytes.HasPrefix(b, id[:]) {
			return true
		}
	}
	return false
}

// ParseTable reads the certificate table that a host gives its guests beside a report (GHCB specification 2.03, 4.1.8.1; Linux's
// configfs-tsm calls it auxblob): entries of a GUID, an offset and a length, a zero entry, and what they point to. It returns the AMD
// certificates in DER, the endorsement key's first, and passes over what other GUIDs name. Nothing in a table is authenticated:
// whether the certificates lead to AMD is for Verifier to say.
func ParseTable(table []byte) ([][]byte, error) {
	found := map[[16]byte][]byte{}
	for at := 0; ; at += 24 {
		if at == 24*MaxTableCertificates {
			return nil, fmt.Errorf("snp: the host's certificate table has more than %d entries", MaxTableCertificates)
		}
		if len(table) < at+24 {
			return nil, errors.New("snp: the host's certificate table has no end")
		}
		id := [16]byte(table[at:])
		if id == ([16]byte{}) {
			break
		}
		off, n := binary.LittleEndian.Uint32(table[at+16:]), binary.LittleEndian.Uint32(table[at+20:])
		if uint64(off)+uint64(n) > uint64(len(table)) {
			return nil, errors.New("snp: the host's certificate table points outside itself")
		}
		if found[id] != nil {
			return nil, fmt.Errorf("snp: the host's certificate table has two entries %x", id)
		}
		found[id] = table[off : off+n : off+n]
	}
	if found[guidVCEK] == nil && found[guidVLEK] == nil {
		return nil, errors.New("snp: the host gave no VCEK or VLEK certificate; load it with the hypervisor's certificate option")
	}
	var out [][]byte
	for _, id := range [][16]byte{guidVCEK, guidVLEK, guidASK, guidARK} {
		if der, ok := found[id]; ok {
			out = append(out, der)
		}
	}
	return out, nil
}
