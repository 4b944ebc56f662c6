package card

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
)

var entryKey = ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)

func entry() *Entry {
	return &Entry{Version: 1, Host: hex.EncodeToString(entryKey), ADNL: strings.TrimPrefix(adnl.IDOf(entryKey).String(), adnl.Scheme), Endpoints: []string{"https://host.example", adnl.IDOf(entryKey).String()},
		Network: -239, Payee: "0:" + strings.Repeat("11", 32), Prices: price.List{"m": {Prompt: 10, Cached: 1, Completion: 20, Reasoning: 20}}}
}

func TestEntryRefusals(t *testing.T) {
	b, err := entry().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseEntry(b); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Entry){
		"another version": func(e *Entry) { e.Version = 2 },
		"short key":       func(e *Entry) { e.Host = "00" },
		"another's ADNL":  func(e *Entry) { e.ADNL = strings.Repeat("0", 64) },
		"no endpoint":     func(e *Entry) { e.Endpoints = nil },
		"17 endpoints":    func(e *Entry) { e.Endpoints = make([]string, 17) },
		"another's id":    func(e *Entry) { e.Endpoints[1] = "adnl:" + strings.Repeat("0", 64) },
		"a file":          func(e *Entry) { e.Endpoints[0] = "file:///etc/passwd" },
		"plain http":      func(e *Entry) { e.Endpoints[0] = "http://host.example" },
		"no host":         func(e *Entry) { e.Endpoints[0] = "https://" },
		"a control code":  func(e *Entry) { e.Endpoints[0] = "https://a\x1b[2J" },
		"long endpoint":   func(e *Entry) { e.Endpoints[0] = "https://" + strings.Repeat("a", 300) },
		"no payee":        func(e *Entry) { e.Payee = "" },
		"no prices":       func(e *Entry) { e.Prices = price.List{} },
		"absurd price":    func(e *Entry) { e.Prices["m"] = price.Prices{Prompt: price.MaxPrice + 1} },
	} {
		e := entry()
		change(e)
		if _, err := e.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	for name, in := range map[string]string{
		"unknown member": strings.Replace(string(b), `{"v"`, `{"x":1,"v"`, 1),
		"member twice":   strings.Replace(string(b), `{"v"`, `{"v":1,"v"`, 1),
		"case variant":   strings.Replace(string(b), `"payee"`, `"Payee"`, 1),
		"trailing data":  string(b) + "{}",
		"too long":       string(b) + strings.Repeat(" ", MaxEntry),
	} {
		if _, err := ParseEntry([]byte(in)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestEntryPinsTheCard(t *testing.T) {
	e := entry()
	good := func() *Card {
		return &Card{Host: e.Host, Network: e.Network, Payee: e.Payee, Prices: price.List{"m": {Prompt: 10, Completion: 20}, "other": {Prompt: 1000}}}
	}
	if err := e.Allows(good()); err != nil { // cheaper, and with a model that the entry does not know
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Card){
		"another key":       func(c *Card) { c.Host = strings.Repeat("0", 64) },
		"another network":   func(c *Card) { c.Network = -3 },
		"another payee":     func(c *Card) { c.Payee = "0:" + strings.Repeat("22", 32) },
		"dearer prompt":     func(c *Card) { c.Prices["m"] = price.Prices{Prompt: 11} },
		"dearer cache":      func(c *Card) { c.Prices["m"] = price.Prices{Cached: 2} },
		"dearer completion": func(c *Card) { c.Prices["m"] = price.Prices{Completion: 21} },
		"dearer reasoning":  func(c *Card) { c.Prices["m"] = price.Prices{Reasoning: 21} },
	} {
		c := good()
		change(c)
		if err := e.Allows(c); !errors.Is(err, ErrNotListed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	b, err := entry().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := ParseEntry(in)
		if err != nil {
			return
		}
		if e.Key() == nil || len(e.Endpoints) == 0 || e.Allows(&Card{}) == nil {
			t.Fatalf("%+v", e)
		}
	})
}
