package session

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
var pub = key.Public().(ed25519.PublicKey)
var now = time.Unix(1_800_000_000, 5)

func TestSession(t *testing.T) {
	r := &Request{Host: [32]byte{1}, Workchain: -1, Channel: [32]byte{2}, Time: now.UnixNano()}
	b := r.Sign(key)
	if len(b) != Size {
		t.Fatalf("%d bytes, want %d", len(b), Size)
	}
	got, err := Verify(b, r.Host, pub, now.Add(MaxAge))
	if err != nil || *got != *r {
		t.Fatalf("%+v, %v", got, err)
	}
	flip := func(i int) []byte { c := bytes.Clone(b); c[i] ^= 1; return c }
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)).Public().(ed25519.PublicKey)
	for name, f := range map[string]func() error{
		"another host":   func() error { _, err := Verify(b, [32]byte{9}, pub, now); return err },
		"another key":    func() error { _, err := Verify(b, r.Host, other, now); return err },
		"no key":         func() error { _, err := Verify(b, r.Host, nil, now); return err },
		"too old":        func() error { _, err := Verify(b, r.Host, pub, now.Add(MaxAge+1)); return err },
		"from later":     func() error { _, err := Verify(b, r.Host, pub, now.Add(-MaxAge-1)); return err },
		"truncated":      func() error { _, err := Verify(b[:Size-1], r.Host, pub, now); return err },
		"trailing":       func() error { _, err := Verify(append(bytes.Clone(b), 0), r.Host, pub, now); return err },
		"another format": func() error { _, err := Verify(flip(0), r.Host, pub, now); return err },
		"other channel":  func() error { _, err := Verify(flip(60), r.Host, pub, now); return err },
		"signature":      func() error { _, err := Verify(flip(Size-1), r.Host, pub, now); return err },
	} {
		if f() == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add((&Request{Time: 1}).Sign(key))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Parse(b); err == nil && !bytes.Equal(r.Sign(key)[:Size-64], b[:Size-64]) {
			t.Fatal("not canonical")
		}
	})
}
