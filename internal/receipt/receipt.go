// Package receipt defines what an enclave signs at the end of an answer, and
// the hash chain that ties receipts to vouchers (docs/protocol.md, "Receipt").
package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/bombyx-network/bombyx/internal/jws"
	"github.com/bombyx-network/bombyx/internal/price"
)

const (
	// MaxSize of a receipt's compact serialization in bytes.
	MaxSize = 4096
	// MaxCost of one request in nanogram, so that every JSON reader can hold it.
	MaxCost = 1<<53 - 1

	headMagic = "bombyx/1 receipts"
)

// A Digest is a SHA-256, written as 64 lower-case hexadecimal digits.
type Digest [32]byte

// String returns the hexadecimal form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText accepts only the form that MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 64 || strings.ContainsAny(string(b), "ABCDEF") {
		return errors.New("digest is not 64 lower-case hexadecimal digits")
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// Finish says why an answer ended.
type Finish string

// The ways an answer ends.
const (
	Complete    Finish = "complete"      // the engine finished
	OutOfCredit Finish = "out-of-credit" // the client stopped paying
	Cancelled   Finish = "cancelled"     // the client or the host went away
	Failed      Finish = "failed"        // the engine reported an error
)

// A Receipt is what the enclave says about one request.
type Receipt struct {
	Version  int         `json:"v"`
	ID       string      `json:"id"`       // chosen by the client, 32 hexadecimal digits
	Channel  string      `json:"channel"`  // TON address in raw form, workchain:hex
	Evidence Digest      `json:"evidence"` // of the Evidence that the client appraised
	Manifest Digest      `json:"manifest"` // of the model manifest
	Model    string      `json:"model"`
	Request  Digest      `json:"request"` // of the request's content
	Answer   Digest      `json:"answer"`  // of the answer's content, meter comments left out
	Usage    price.Usage `json:"usage"`   // tokens
	Prices   Digest      `json:"prices"`  // of the price list applied
	Cost     uint64      `json:"cost"`    // nanogram
	Finish   Finish      `json:"finish"`
	Time     int64       `json:"time"` // Unix seconds by the enclave's clock, which the host controls
}

// IsHex reports whether s is n bytes in lower-case hexadecimal, as ids, digests
// and addresses are written.
func IsHex(s string, n int) bool {
	if len(s) != 2*n {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (r *Receipt) check() error {
	switch r.Finish {
	case Complete, OutOfCredit, Cancelled, Failed:
	default:
		return fmt.Errorf("receipt: unknown finish %q", r.Finish)
	}
	switch {
	case r.Version != 1:
		return fmt.Errorf("receipt: version %d, want 1", r.Version)
	case r.Cost > MaxCost:
		return fmt.Errorf("receipt: cost %d nanogram, limit %d", r.Cost, uint64(MaxCost))
	case !IsHex(r.ID, 16) || len(r.Channel) > 100 || r.Model == "" || len(r.Model) > price.MaxModelName:
		return errors.New("receipt: id, channel or model is malformed")
	}
	return r.Usage.Check()
}

// Sign returns the receipt's compact serialization.
func Sign(r *Receipt, key ed25519.PrivateKey) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	return jws.Sign(jws.Receipt, key, r.appendJSON(make([]byte, 0, 1024))), nil
}

// Verify checks a serialized receipt under the enclave's receipt key.
func Verify(s string, key ed25519.PublicKey) (*Receipt, error) {
	if len(s) > MaxSize {
		return nil, fmt.Errorf("receipt: %d bytes, limit %d", len(s), MaxSize)
	}
	b, err := jws.Verify(jws.Receipt, key, s)
	if err != nil {
		return nil, err
	}
	r, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// NextHead extends the hash chain over a channel's receipts:
//
//	head' = SHA-256("bombyx/1 receipts" || head || SHA-256(receipt))
//
// It starts from 32 zero bytes; receipt is the compact serialization.
func NextHead(head [32]byte, receipt string) [32]byte {
	d := sha256.Sum256([]byte(receipt))
	b := make([]byte, 0, len(headMagic)+64)
	b = append(b, headMagic...)
	b = append(b, head[:]...)
	return sha256.Sum256(append(b, d[:]...))
}
