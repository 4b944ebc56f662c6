package card

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/jws"
	"github.com/bombyx-network/bombyx/internal/price"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
var pub = key.Public().(ed25519.PublicKey)
var now = time.Unix(1_800_000_000, 0)

func sample() *Card {
	return &Card{Version: 1, Host: hex.EncodeToString(pub), Network: -3, Payee: "0:" + strings.Repeat("11", 32),
		ChannelCode: strings.Repeat("22", 32), ClosingDelay: 3600, Prices: price.List{"m": {Prompt: 1}},
		Enclaves:  []Enclave{{ID: "a", Models: []string{"m"}}},
		NotBefore: now.Unix() - 10, NotAfter: now.Unix() + 10}
}

func TestRoundTrip(t *testing.T) {
	s, err := Sign(sample(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Verify(s, pub, now)
	if err != nil || !reflect.DeepEqual(c, sample()) {
		t.Fatalf("%+v, %v", c, err)
	}
	if len(c.Serving("m")) != 1 || len(c.Serving("other")) != 0 {
		t.Error("wrong enclave for model")
	}
	for _, at := range []time.Time{now.Add(-time.Minute), now.Add(10 * time.Second)} {
		if _, err := Verify(s, pub, at); err == nil {
			t.Errorf("valid at %s", at)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Card){
		"version":     func(c *Card) { c.Version = 2 },
		"host":        func(c *Card) { c.Host = "11" },
		"other host":  func(c *Card) { c.Host = strings.Repeat("11", 32) },
		"code":        func(c *Card) { c.ChannelCode = "" },
		"payee":       func(c *Card) { c.Payee = "" },
		"validity":    func(c *Card) { c.NotAfter = c.NotBefore },
		"no prices":   func(c *Card) { c.Prices = nil },
		"no enclaves": func(c *Card) { c.Enclaves = nil },
		"enclave id":  func(c *Card) { c.Enclaves[0].ID = "../x" },
		"enclave ids": func(c *Card) { c.Enclaves = append(c.Enclaves, c.Enclaves[0]) },
		"no models":   func(c *Card) { c.Enclaves[0].Models = nil },
		"unpriced":    func(c *Card) { c.Enclaves[0].Models = []string{"x"} },
	} {
		c := sample()
		spoil(c)
		if _, err := Sign(c, key); err == nil {
			t.Errorf("%s: signed", name)
		}
		b, _ := json.Marshal(c)
		if _, err := Verify(jws.Sign(jws.Card, key, b), pub, now); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	b, _ := json.Marshal(sample())
	if _, err := Verify(jws.Sign(jws.Receipt, key, b), pub, now); err == nil {
		t.Error("a receipt passes for a card")
	}
}

func FuzzVerify(f *testing.F) {
	b, _ := json.Marshal(sample())
	f.Add(b)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if c, err := Verify(jws.Sign(jws.Card, key, payload), pub, now); err == nil {
			if _, err := Sign(c, key); err != nil {
				t.Fatal(err)
			}
		}
	})
}
