package e2e

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	enclavelaunch "github.com/bombyx-network/bombyx/enclave/launch"
)

// The enclave.json in docs/operating.md starts an enclave that serves the model it prices.
func TestDocumentedEnclave(t *testing.T) {
	b, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "```json enclave.json\n")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatal("docs/operating.md shows no enclave.json")
	}
	node, err := attestationtest.New("documented").NewNode(attestationtest.NodeConfig{Name: "node"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := enclavelaunch.Load(t.Context(), []byte(text), node, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cfg, err := enclavelaunch.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Manifest.Models) != 1 || len(cfg.Prices) != 1 {
		t.Fatalf("%+v, %+v", e.Manifest.Models, cfg.Prices)
	}
	if _, ok := cfg.Prices[e.Manifest.Models[0].ID]; !ok {
		t.Errorf("%q has no price", e.Manifest.Models[0].ID)
	}
}
