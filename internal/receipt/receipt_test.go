package receipt

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/internal/jws"
	"github.com/bombyx-network/bombyx/internal/price"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
var pub = key.Public().(ed25519.PublicKey)

func sample() *Receipt {
	return &Receipt{Version: 1, ID: strings.Repeat("0a", 16), Channel: "0:" + strings.Repeat("11", 32), Model: "m",
		Usage: price.Usage{Prompt: 3, Completion: 2}, Cost: 7, Finish: Complete, Time: 1_800_000_000}
}

func TestRoundTrip(t *testing.T) {
	s, err := Sign(sample(), key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(s, pub)
	if err != nil || *got != *sample() {
		t.Fatalf("%+v, %v", got, err)
	}
	h := NextHead([32]byte{}, s)
	if h == NextHead(h, s) || h == NextHead([32]byte{}, s+"x") {
		t.Error("head does not depend on its input")
	}
}

func TestRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Receipt){
		"version": func(r *Receipt) { r.Version = 2 },
		"finish":  func(r *Receipt) { r.Finish = "well" },
		"cost":    func(r *Receipt) { r.Cost = MaxCost + 1 },
		"id":      func(r *Receipt) { r.ID = "1" },
		"id case": func(r *Receipt) { r.ID = strings.ToUpper(r.ID) },
		"model":   func(r *Receipt) { r.Model = "" },
		"usage":   func(r *Receipt) { r.Usage.Cached = 9 },
	} {
		r := sample()
		spoil(r)
		if _, err := Sign(r, key); err == nil {
			t.Errorf("%s: signed", name)
		}
		b, _ := json.Marshal(r)
		if _, err := Verify(jws.Sign(jws.Receipt, key, b), pub); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	good, _ := json.Marshal(sample())
	for name, s := range map[string]string{
		"unknown member": jws.Sign(jws.Receipt, key, append(bytes.Clone(good[:len(good)-1]), `,"x":1}`...)),
		"card":           jws.Sign(jws.Card, key, good),
		"long":           jws.Sign(jws.Receipt, key, append(good, bytes.Repeat([]byte(" "), MaxSize)...)),
		"upper case":     jws.Sign(jws.Receipt, key, bytes.Replace(good, []byte(`"answer":"00`), []byte(`"answer":"AA`), 1)),
	} {
		if _, err := Verify(s, pub); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s, _ := Sign(sample(), key)
	p, _ := jws.Payload(jws.Receipt, s)
	f.Add(p)
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := Verify(jws.Sign(jws.Receipt, key, payload), pub)
		if err == nil {
			if _, err := Sign(r, key); err != nil {
				t.Fatal(err)
			}
		}
	})
}
