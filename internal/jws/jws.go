// Package jws signs and verifies the one form of JSON Web Signature that
// Bombyx uses: compact serialization (RFC 7515, section 7.1), EdDSA with
// Ed25519 (RFC 8037), and exactly the protected header
//
//	{"alg":"EdDSA","typ":TYPE}
//
// TYPE separates the domains. Any other header is refused unread, so there is
// no algorithm to confuse, no embedded key and no critical extension.
package jws

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
)

// Type separates what is signed; none can be taken for another.
type Type string

// The types of protocol version 1.
const (
	Receipt Type = "bombyx/1 receipt"
	Card    Type = "bombyx/1 card"
)

var encoding = base64.RawURLEncoding.Strict()

// ErrSignature means that the signature does not verify under the key.
var ErrSignature = errors.New("jws: signature does not verify")

func (t Type) header() string {
	return encoding.EncodeToString([]byte(`{"alg":"EdDSA","typ":"` + string(t) + `"}`))
}

// Sign returns the compact serialization of payload.
func Sign(t Type, key ed25519.PrivateKey, payload []byte) string {
	h := t.header()
	n := len(h) + 1 + encoding.EncodedLen(len(payload))
	b := make([]byte, 0, n+1+encoding.EncodedLen(ed25519.SignatureSize))
	b = append(b, h...)
	b = append(b, '.')
	b = encoding.AppendEncode(b, payload)
	sig := ed25519.Sign(key, b)
	b = append(b, '.')
	return string(encoding.AppendEncode(b, sig))
}

// Verify returns the payload of s when its signature verifies under key.
// Callers bound the length of s.
func Verify(t Type, key ed25519.PublicKey, s string) ([]byte, error) {
	payload, err := Payload(t, s)
	if err != nil {
		return nil, err
	}
	dot := strings.LastIndexByte(s, '.')
	sig, err := encoding.DecodeString(s[dot+1:])
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, errors.New("jws: malformed signature")
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, errors.New("jws: malformed public key")
	}
	if !ed25519.Verify(key, []byte(s[:dot]), sig) {
		return nil, ErrSignature
	}
	return payload, nil
}

// Payload returns what s says, unverified: for finding the key to verify with.
func Payload(t Type, s string) ([]byte, error) {
	rest, ok := strings.CutPrefix(s, t.header()+".")
	if !ok {
		return nil, errors.New("jws: not a " + string(t))
	}
	body, sig, ok := strings.Cut(rest, ".")
	if !ok || strings.ContainsAny(s, "\r\n") || strings.Contains(sig, ".") {
		return nil, errors.New("jws: not a compact serialization")
	}
	payload, err := encoding.DecodeString(body)
	if err != nil {
		return nil, errors.New("jws: malformed payload")
	}
	return payload, nil
}
