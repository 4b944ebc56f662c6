package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/price"
)

func TestEntry(t *testing.T) {
	dir := t.TempDir()
	key, err := run(t.Context(), "init", filepath.Join(dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(payee string) string {
		t.Helper()
		b, err := json.Marshal(map[string]any{"identity": "identity", "global_id": -239, "payee": payee,
			"prices": price.List{"m": {Prompt: 10, Cached: 1, Completion: 30, Reasoning: price.MaxPrice}}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "host.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write(address.NewAddress(0, 0, bytes.Repeat([]byte{0x11}, 32)).Bounce(false).String())
	out, err := run(t.Context(), "entry", "--config", config, "--endpoint", "https://host.example", "--ceiling", "150")
	if err != nil {
		t.Fatal(err)
	}
	e, err := card.ParseEntry([]byte(strings.TrimSpace(out)))
	if err != nil {
		t.Fatal(err)
	}
	if e.Host != strings.TrimSpace(key) || e.Network != -239 || e.Payee != "0:"+strings.Repeat("11", 32) ||
		e.Prices["m"] != (price.Prices{Prompt: 15, Cached: 1, Completion: 45, Reasoning: price.MaxPrice}) {
		t.Errorf("%+v", e)
	}
	for name, args := range map[string][]string{
		"no endpoint":      {"entry", "--config", config},
		"a file":           {"entry", "--config", config, "--endpoint", "file:///x"},
		"ceiling too low":  {"entry", "--config", config, "--endpoint", "https://a", "--ceiling", "99"},
		"ceiling too high": {"entry", "--config", config, "--endpoint", "https://a", "--ceiling", "10001"},
		"no payee":         {"entry", "--config", write(""), "--endpoint", "https://a"},
	} {
		if out, err := run(t.Context(), args...); err == nil {
			t.Errorf("%s: %s", name, out)
		}
	}
}
