package envelope

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func config(t testing.TB, id uint8, k KEM, aeads ...AEAD) KeyConfig {
	t.Helper()
	kp, err := GenerateKey(id, k, aeads...)
	if err != nil {
		t.Fatal(err)
	}
	return kp.Config()
}

func TestKeyConfigs(t *testing.T) {
	want := []KeyConfig{config(t, 200, XWing, AES256GCM, ChaCha20Poly1305), config(t, 0, X25519, ChaCha20Poly1305)}
	b, err := MarshalKeyConfigs(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseKeyConfigs(b)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("configurations changed")
	}
	first := 2 + int(binary.BigEndian.Uint16(b)) // where the collection could end too
	for i := range b {
		if _, err := ParseKeyConfigs(b[:i]); (err == nil) != (i == first) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func TestKeyConfigRefused(t *testing.T) {
	good, err := config(t, 1, X25519, AES256GCM, ChaCha20Poly1305).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKeyConfig(good); err != nil {
		t.Fatal(err)
	}
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	wing, err := config(t, 1, XWing, AES256GCM).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // coefficients out of range: refused by the ML-KEM encapsulation key check
		wing[3+i] = 0xff
	}
	for name, b := range map[string][]byte{
		"empty":                nil,
		"trailing byte":        append(bytes.Clone(good), 0),
		"cut":                  good[:len(good)-1],
		"unknown KEM":          edit(func(b []byte) []byte { b[1] = 0x11; return b }),
		"unknown KDF":          edit(func(b []byte) []byte { b[len(b)-3] = 2; return b }),
		"unknown AEAD":         edit(func(b []byte) []byte { b[len(b)-1] = 9; return b }),
		"export-only AEAD":     edit(func(b []byte) []byte { b[len(b)-2], b[len(b)-1] = 0xff, 0xff; return b }),
		"AEAD twice":           edit(func(b []byte) []byte { b[len(b)-1] = 2; return b }),
		"no AEAD":              edit(func(b []byte) []byte { b = b[:35]; return append(b, 0, 0) }),
		"half an AEAD":         edit(func(b []byte) []byte { b = b[:35]; return append(b, 0, 2, 0, 1) }),
		"wrong length":         edit(func(b []byte) []byte { b[36]++; return b }),
		"X-Wing key invalid":   wing,
		"X-Wing key too short": edit(func(b []byte) []byte { b[1], b[2] = 0x64, 0x7a; return b }),
	} {
		if c, err := ParseKeyConfig(b); err == nil {
			t.Errorf("%s: accepted %+v", name, c)
		}
		if len(b) > 0 {
			whole := binary.BigEndian.AppendUint16(nil, uint16(len(b)))
			if _, err := ParseKeyConfigs(append(whole, b...)); err == nil {
				t.Errorf("%s: accepted in a collection", name)
			}
		}
	}
	one := append(binary.BigEndian.AppendUint16(nil, uint16(len(good))), good...)
	if _, err := ParseKeyConfigs(append(one, one...)); err == nil || !strings.Contains(err.Error(), "identifier 1") {
		t.Errorf("one identifier twice: %v", err)
	}
	if _, err := ParseKeyConfigs(nil); err == nil {
		t.Error("empty collection accepted")
	}
	if _, err := MarshalKeyConfigs(nil); err == nil {
		t.Error("empty collection written")
	}
	if _, err := MarshalKeyConfigs([]KeyConfig{{}}); err == nil {
		t.Error("zero configuration written")
	}
	if _, err := NewSender(KeyConfig{KEM: XWing, PublicKey: make([]byte, 5), AEADs: []AEAD{AES256GCM}}); err == nil {
		t.Error("sender with a short key")
	}
}

func TestKeyPairRefused(t *testing.T) {
	for name, f := range map[string]func() (*KeyPair, error){
		"KEM":        func() (*KeyPair, error) { return GenerateKey(1, 0x10, AES256GCM) },
		"no AEAD":    func() (*KeyPair, error) { return GenerateKey(1, XWing) },
		"AEAD":       func() (*KeyPair, error) { return GenerateKey(1, XWing, 7) },
		"short key":  func() (*KeyPair, error) { return NewKeyPair(1, XWing, make([]byte, 31), AES256GCM) },
		"AEAD twice": func() (*KeyPair, error) { return GenerateKey(1, XWing, AES256GCM, AES256GCM) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKeyPairClose(t *testing.T) {
	private := text(PrivateKeySize)
	kp, err := NewKeyPair(1, XWing, private, AES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	sk := kp.sk
	for _, s := range []string{fmt.Sprint(kp), fmt.Sprintf("%+v", kp), fmt.Sprintf("%#v", kp), fmt.Sprintf("%x", kp), fmt.Sprintf("%v", kp.Config())} {
		if bytes.Contains([]byte(s), []byte(fmt.Sprintf("%x", private[:8]))) {
			t.Error("the private key is printed")
		}
	}
	kp.Close()
	kp.Close()
	left, err := sk.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(left, make([]byte, PrivateKeySize)) {
		t.Error("the private key is still in memory")
	}
}
