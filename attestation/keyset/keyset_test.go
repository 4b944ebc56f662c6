package keyset

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() *Keyset {
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	return &Keyset{
		KeyConfigs:    []byte("configs"),
		ReceiptKey:    ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey),
		TLSSPKI:       [32]byte{1},
		NotAfter:      time.Unix(1_800_000_000, 0).UTC(),
		ModelManifest: [32]byte{2},
		Build:         [32]byte{3},
		Config:        [32]byte{4},
	}
}

func TestRoundTrip(t *testing.T) {
	k := sample()
	b, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, k) {
		t.Fatalf("got %+v, want %+v", got, k)
	}
	// The vector of docs/protocol.md.
	const want = "e2c3f6a52aa8446a7b5651c52d5cf10978c34b6e218cc7fb225cc0ce8b2a0121"
	if d := Digest(b); hex.EncodeToString(d[:]) != want {
		t.Errorf("digest %x, want %s", d, want)
	}
}

// The largest of everything that has a limit, and one beyond each.
func TestLimits(t *testing.T) {
	k := sample()
	k.KeyConfigs = make([]byte, MaxKeyConfigs)
	k.NotAfter = time.Unix(maxExpiry, 0).UTC()
	b, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, k) {
		t.Errorf("not parsed: %v", err)
	}
	later := bytes.Clone(b)
	binary.BigEndian.PutUint64(later[len(magic)+2+MaxKeyConfigs+64:], maxExpiry+1)
	longer := slices.Insert(bytes.Clone(b), len(magic)+2, 0)
	binary.BigEndian.PutUint16(longer[len(magic):], MaxKeyConfigs+1)
	for want, b := range map[string][]byte{"out of range": later, "want 1 to": longer} {
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Keyset){
		"no configs":    func(k *Keyset) { k.KeyConfigs = nil },
		"huge configs":  func(k *Keyset) { k.KeyConfigs = make([]byte, MaxKeyConfigs+1) },
		"short key":     func(k *Keyset) { k.ReceiptKey = k.ReceiptKey[:31] },
		"sub-second":    func(k *Keyset) { k.NotAfter = k.NotAfter.Add(1) },
		"no expiry":     func(k *Keyset) { k.NotAfter = time.Time{} },
		"far expiry":    func(k *Keyset) { k.NotAfter = time.Unix(maxExpiry+1, 0) },
		"expiry at 0 s": func(k *Keyset) { k.NotAfter = time.Unix(0, 0) },
	} {
		k := sample()
		spoil(k)
		if _, err := k.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good, _ := sample().Encode()
	spoil := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":          {nil, "version 1"},
		"another format": {spoil(func(b []byte) []byte { b[7] = '2'; return b }), "version 1"},
		"truncated":      {good[:len(good)-1], "bytes, want"},
		"only magic":     {good[:len(magic)], "truncated"},
		"half a length":  {good[:len(magic)+1], "truncated"},
		"only a length":  {good[:len(magic)+2], "bytes, want"},
		"trailing":       {append(bytes.Clone(good), 0), "bytes, want"},
		"no configs":     {spoil(func(b []byte) []byte { b[15], b[16] = 0, 0; return append(b[:17], b[24:]...) }), "want 1 to"},
		"longer configs": {spoil(func(b []byte) []byte { b[16]++; return b }), "bytes, want"},
		"expiry zero":    {spoil(func(b []byte) []byte { clear(b[17+7+64 : 17+7+72]); return b }), "out of range"},
		"expiry huge":    {spoil(func(b []byte) []byte { b[17+7+64] = 0xff; return b }), "out of range"},
	} {
		if _, err := Parse(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, _ := sample().Encode()
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Parse(b)
		if err != nil {
			return
		}
		again, err := k.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("not canonical: %x -> %x, %v", b, again, err)
		}
	})
}
