package attestation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// EpochSize is the encoded length of an [Epoch] in bytes: seqno, big-endian, and root hash.
const EpochSize = 4 + 32

// An Epoch is the TON masterchain block that Evidence answers when it does not answer a nonce of the verifier's own. Such
// Evidence cannot predate the block, and one document serves every client whose policy accepts the block's age.
type Epoch struct {
	// Seqno is the block's sequence number in the masterchain.
	Seqno uint32
	// RootHash is the representation hash of the block.
	RootHash [32]byte
	// Time is when the block was made, by the chain's clock. It is not encoded: who needs it proves the block.
	Time time.Time
}

// AppendEncoded appends the epoch's EpochSize bytes.
func (e Epoch) AppendEncoded(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, e.Seqno), e.RootHash[:]...)
}

// ParseEpoch reads exactly EpochSize bytes. What it returns is what somebody says: without a Time, and not proven.
func ParseEpoch(b []byte) (Epoch, error) {
	if len(b) != EpochSize {
		return Epoch{}, fmt.Errorf("attestation: epoch of %d bytes, want %d", len(b), EpochSize)
	}
	return Epoch{Seqno: binary.BigEndian.Uint32(b), RootHash: [32]byte(b[4:])}, nil
}

// SplitEpoch takes apart what a host answers to GET /v1/enclaves/{id}/epoch, saved as it came: EpochSize bytes, and the composite
// document that answers them. ok is false for anything else. The epoch is what the host says: without a Time, and not proven.
func SplitEpoch(data []byte) (epoch Epoch, document []byte, ok bool) {
	if len(data) < EpochSize || !isComposite(data[EpochSize:]) {
		return Epoch{}, nil, false
	}
	epoch, err := ParseEpoch(data[:EpochSize])
	return epoch, data[EpochSize:], err == nil
}

// Nonce returns SHA-256("bombyx/1 epoch" || encoded epoch), which Evidence of the epoch answers.
func (e Epoch) Nonce() [32]byte {
	return sha256.Sum256(e.AppendEncoded([]byte("bombyx/1 epoch")))
}
