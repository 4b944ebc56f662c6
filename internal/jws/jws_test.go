package jws

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))

func TestRoundTripAndPeer(t *testing.T) {
	pub := key.Public().(ed25519.PublicKey)
	s := Sign(Receipt, key, []byte(`{"v":1}`))
	got, err := Verify(Receipt, pub, s)
	if err != nil || string(got) != `{"v":1}` {
		t.Fatalf("%q, %v", got, err)
	}
	peer, err := jose.ParseSigned(s, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := peer.Verify(pub); err != nil || string(got) != `{"v":1}` {
		t.Fatalf("go-jose: %q, %v", got, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	pub := key.Public().(ed25519.PublicKey)
	good := Sign(Receipt, key, []byte(`{"v":1}`))
	part := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, s := range map[string]string{
		"empty":            "",
		"another type":     Sign(Card, key, []byte(`{"v":1}`)),
		"another header":   none + "." + part[1] + "." + part[2],
		"no signature":     part[0] + "." + part[1],
		"empty signature":  part[0] + "." + part[1] + ".",
		"fourth part":      good + ".x",
		"padded":           part[0] + "." + part[1] + "=." + part[2],
		"line break":       part[0] + "." + part[1] + "\n." + part[2],
		"other payload":    part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"v":2}`)) + "." + part[2],
		"non-zero padding": good[:len(good)-1] + string(good[len(good)-1]+1),
	} {
		if p, err := Verify(Receipt, pub, s); err == nil {
			t.Errorf("%s: verified %q", name, p)
		}
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)).Public().(ed25519.PublicKey)
	if _, err := Verify(Receipt, other, good); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, err := Verify(Receipt, nil, good); err == nil {
		t.Error("no key: verified")
	}
}

func FuzzVerify(f *testing.F) {
	pub := key.Public().(ed25519.PublicKey)
	f.Add(Sign(Receipt, key, []byte(`{"v":1}`)))
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := Verify(Receipt, pub, s); err == nil && Sign(Receipt, key, p) != s {
			t.Fatalf("%q verifies and is not canonical", s)
		}
	})
}
