// Package session defines how a client proves to a host that it holds a
// channel's key (docs/protocol.md, "Session"). Vouchers become public when
// they are claimed, so a voucher alone must not open a session.
package session

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

const (
	magic = "bombyx/1 session"
	// Size of an encoded request in bytes.
	Size = len(magic) + 32 + 3*32 + 4 + 4 + 8 + 8 + ed25519.SignatureSize
	// MaxAge is how far a request's time may lie from the host's clock.
	MaxAge = 2 * time.Minute
)

// A Request asks a host for a session on a channel. It names the channel by its
// terms, which the channel's address commits to: so whether the channel's key
// signed it shows before anybody has asked the chain.
type Request struct {
	Host  [32]byte       // the host's identity key: another host cannot replay the request
	Terms channel.Params // of the channel
	Time  int64          // Unix nanoseconds by the client's clock; each request's is later than the one before
}

// Sign encodes the request and signs it with the channel's key.
func (r *Request) Sign(key ed25519.PrivateKey) []byte {
	b := make([]byte, 0, Size)
	b = append(b, magic...)
	b = append(b, r.Host[:]...)
	b = append(b, r.Terms.Payee[:]...)
	b = append(b, r.Terms.Client[:]...)
	b = append(b, r.Terms.ClientKey[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Terms.CloseDelay)
	b = binary.BigEndian.AppendUint32(b, r.Terms.ExpiresAt)
	b = binary.BigEndian.AppendUint64(b, r.Terms.Salt)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	return append(b, ed25519.Sign(key, b)...)
}

// ErrMalformed means that a request is not one of this version.
var ErrMalformed = errors.New("session: not a version 1 session request")

func parse(b []byte) (*Request, error) {
	if len(b) != Size || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, ErrMalformed
	}
	p := b[len(magic):]
	return &Request{Host: [32]byte(p),
		Terms: channel.Params{Payee: channel.Address(p[32:]), Client: channel.Address(p[64:]), ClientKey: [32]byte(p[96:]),
			CloseDelay: binary.BigEndian.Uint32(p[128:]), ExpiresAt: binary.BigEndian.Uint32(p[132:]), Salt: binary.BigEndian.Uint64(p[136:])},
		Time: int64(binary.BigEndian.Uint64(p[144:]))}, nil
}

// Verify decodes a request and checks that it is for host, no further than
// MaxAge from now, and signed by the key in its terms. That there is a channel
// of these terms is for the chain to show.
func Verify(b []byte, host [32]byte, now time.Time) (*Request, error) {
	r, err := parse(b)
	if err != nil {
		return nil, err
	}
	if r.Host != host {
		return nil, errors.New("session: request is for another host")
	}
	if d := now.Sub(time.Unix(0, r.Time)); d > MaxAge || d < -MaxAge {
		return nil, fmt.Errorf("session: request is %s off this clock; set the clock right", d.Round(time.Second))
	}
	n := Size - ed25519.SignatureSize
	if !ed25519.Verify(r.Terms.ClientKey[:], b[:n], b[n:]) {
		return nil, errors.New("session: not signed by the channel's key")
	}
	return r, nil
}
