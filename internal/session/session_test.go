package session

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
var now = time.Unix(1_800_000_000, 5)

func request() *Request {
	return &Request{Host: [32]byte{1}, Time: now.UnixNano(), Terms: channel.Params{Payee: channel.Address{2}, Client: channel.Address{3},
		ClientKey: [32]byte(key.Public().(ed25519.PublicKey)), CloseDelay: 4, ExpiresAt: 5, Salt: 6}}
}

func TestSession(t *testing.T) {
	r := request()
	b := r.Sign(key)
	if len(b) != Size {
		t.Fatalf("%d bytes, want %d", len(b), Size)
	}
	got, err := Verify(b, r.Host, now.Add(MaxAge))
	if err != nil || *got != *r {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := Verify(b, r.Host, now.Add(-MaxAge)); err != nil {
		t.Errorf("as far ahead as may be: %v", err)
	}
	for name, f := range map[string]func() error{
		"another host": func() error { _, err := Verify(b, [32]byte{9}, now); return err },
		"another key": func() error {
			_, err := Verify(r.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))), r.Host, now)
			return err
		},
		"too old":    func() error { _, err := Verify(b, r.Host, now.Add(MaxAge+1)); return err },
		"from later": func() error { _, err := Verify(b, r.Host, now.Add(-MaxAge-1)); return err },
	} {
		if err := f(); err == nil || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range b { // every byte counts
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, err := Verify(c, r.Host, now); err == nil || errors.Is(err, ErrMalformed) != (i < len(magic)) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for name, c := range map[string][]byte{"empty": {}, "truncated": b[:Size-1], "trailing": append(bytes.Clone(b), 0)} {
		if _, err := Verify(c, r.Host, now); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(request().Sign(key))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parse(b); err == nil && !bytes.Equal(r.Sign(key)[:Size-64], b[:Size-64]) {
			t.Fatal("not canonical")
		}
		if r, err := Verify(b, [32]byte{1}, now); err == nil && r.Terms.Address() == (channel.Address{}) {
			t.Fatal("no address")
		}
	})
}
