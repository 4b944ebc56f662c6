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
)

const (
	magic = "bombyx/1 session"
	// Size of an encoded request in bytes.
	Size = len(magic) + 32 + 4 + 32 + 8 + ed25519.SignatureSize
	// MaxAge is how far a request's time may lie from the host's clock.
	MaxAge = 2 * time.Minute
)

// A Request asks a host for a session on a channel.
type Request struct {
	Host      [32]byte // the host's identity key: another host cannot replay the request
	Workchain int32    // of the channel's address
	Channel   [32]byte // account id of the channel's address
	Time      int64    // Unix nanoseconds by the client's clock; each request's is later than the one before
}

// Sign encodes the request and signs it with the channel's key.
func (r *Request) Sign(key ed25519.PrivateKey) []byte {
	b := make([]byte, 0, Size)
	b = append(b, magic...)
	b = append(b, r.Host[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Workchain))
	b = append(b, r.Channel[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	return append(b, ed25519.Sign(key, b)...)
}

// Parse decodes a request without verifying it: it names the channel whose
// key Verify needs.
func Parse(b []byte) (*Request, error) {
	if len(b) != Size || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, errors.New("session: not a version 1 session request")
	}
	p := b[len(magic):]
	r := &Request{Workchain: int32(binary.BigEndian.Uint32(p[32:])), Time: int64(binary.BigEndian.Uint64(p[68:]))}
	copy(r.Host[:], p)
	copy(r.Channel[:], p[36:])
	return r, nil
}

// Verify checks an encoded request: that it is for host, signed by the
// channel's key, and no further than MaxAge from now.
func Verify(b []byte, host [32]byte, key ed25519.PublicKey, now time.Time) (*Request, error) {
	r, err := Parse(b)
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
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, b[:n], b[n:]) {
		return nil, errors.New("session: not signed by the channel's key")
	}
	return r, nil
}
