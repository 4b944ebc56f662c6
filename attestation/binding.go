package attestation

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// The binding ties one nonce, one keyset, one confidential VM and its devices together (docs/protocol.md, "Binding"):
//
//	statement   = SHA-256("bombyx/1 statement" || nonce || SHA-256(keyset))
//	gpu nonce   = SHA-256("bombyx/1 gpu" || statement)                     carried by every GPU and switch report
//	report data = SHA-512("bombyx/1 report" || statement || devices)       carried by the CPU quote
//	devices     = SHA-256(for each device in order: len||kind, len||report, len||certificates)
//
// where len is a 4-byte big-endian count and every value is the raw bytes as received. The GPU nonce shows that the
// devices answered this statement; the report data shows that the confidential VM chose exactly these devices.

// Statement returns what the Evidence vouches for: these keys, at the time of this nonce.
func Statement(nonce [32]byte, keyset []byte) [32]byte {
	k := sha256.Sum256(keyset)
	h := sha256.New()
	h.Write([]byte("bombyx/1 statement"))
	h.Write(nonce[:])
	h.Write(k[:])
	return [32]byte(h.Sum(nil))
}

// DeviceNonce returns the nonce that every GPU and switch report must carry.
func DeviceNonce(statement [32]byte) [32]byte {
	h := sha256.New()
	h.Write([]byte("bombyx/1 gpu"))
	h.Write(statement[:])
	return [32]byte(h.Sum(nil))
}

// DevicesDigest hashes the raw device Evidence in order. The length prefixes make it injective: no two lists of devices
// share their input.
func DevicesDigest(devices []Device) [32]byte {
	h := sha256.New()
	field := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	for _, d := range devices {
		field([]byte(d.Kind))
		field(d.Report)
		field(d.Certificates)
	}
	return [32]byte(h.Sum(nil))
}

// ReportData returns the 64 bytes that the CPU quote must carry.
func ReportData(statement [32]byte, devices []Device) [64]byte {
	d := DevicesDigest(devices)
	h := sha512.New()
	h.Write([]byte("bombyx/1 report"))
	h.Write(statement[:])
	h.Write(d[:])
	return [64]byte(h.Sum(nil))
}
