package launch

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/model"
)

// document is a configuration that launches the model that ships.
func document(t *testing.T, change func(map[string]any)) []byte {
	t.Helper()
	d := map[string]any{
		"listen": "unix:/nowhere", "engine": map[string]any{"kind": "embedded", "threads": 1},
		"prices":       map[string]any{model.Name: map[string]any{"prompt": 1, "cached_prompt": 1, "completion": 1, "reasoning": 1}},
		"key_lifetime": 3600, "patience": 10, "replay_window": 120,
	}
	if change != nil {
		change(d)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func node(t *testing.T) *attestationtest.Node {
	t.Helper()
	n, err := attestationtest.New("launch").NewNode(attestationtest.NodeConfig{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLaunchAndServe(t *testing.T) {
	e, err := Load(t.Context(), document(t, nil), node(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if m := e.Manifest.Models[0]; m.ID != model.Name || m.SHA256 != model.SHA256 || m.Format != "gguf" {
		t.Errorf("%+v", m)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://enclave/health")
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	engine := func(e map[string]any) func(map[string]any) {
		return func(d map[string]any) { d["engine"] = e }
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"unknown member":     {func(d map[string]any) { d["x"] = 1 }, "unknown JSON member"},
		"unknown engine":     {engine(map[string]any{"kind": "magic"}), "unknown kind"},
		"missing file":       {engine(map[string]any{"kind": "embedded", "file": "/nonexistent/model.gguf"}), "no such file"},
		"mixed engine":       {engine(map[string]any{"kind": "embedded", "address": "unix:/x"}), "takes no address"},
		"mixed driver":       {engine(map[string]any{"kind": "openai", "file": "x"}), "takes no file"},
		"unknown flavour":    {engine(map[string]any{"kind": "openai", "flavour": "x"}), "unknown flavour"},
		"remote engine":      {engine(map[string]any{"kind": "openai", "flavour": "vllm", "address": "http://example.com"}), "openai:"},
		"no models":          {engine(map[string]any{"kind": "openai", "flavour": "vllm", "address": "http://127.0.0.1:1"}), "0 models"},
		"no price":           {func(d map[string]any) { d["prices"] = map[string]any{"other": map[string]any{}} }, "has no price"},
		"short key lifetime": {func(d map[string]any) { d["key_lifetime"] = 1 }, "lifetime"},
		"no patience":        {func(d map[string]any) { d["patience"] = 0 }, "patience"},
	} {
		e, err := Load(t.Context(), document(t, c.change), node(t), nil)
		if err == nil {
			e.Close()
			t.Errorf("%s: loaded", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
