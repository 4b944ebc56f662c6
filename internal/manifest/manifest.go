// Package manifest defines the model manifest: which model weights an enclave
// runs. Evidence binds its SHA-256 (docs/protocol.md, "Model manifest").
package manifest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// MaxSize of a manifest in bytes.
const MaxSize = 1 << 20

// A Manifest lists the models of one enclave.
type Manifest struct {
	Version int     `json:"v"`
	Models  []Model `json:"models"`
}

// A Model is one set of weights.
type Model struct {
	ID            string `json:"id"`             // as requests name it
	Format        string `json:"format"`         // of the weights: "gguf", "safetensors"
	SHA256        string `json:"sha256"`         // of the weights, 64 lower-case hexadecimal digits: the file's, or a repository's content digest
	Size          int64  `json:"size"`           // of the weights in bytes
	ContextLength int    `json:"context_length"` // tokens
}

// Has reports whether the manifest lists the model.
func (m *Manifest) Has(id string) bool {
	for _, x := range m.Models {
		if x.ID == id {
			return true
		}
	}
	return false
}

// Encode returns the document.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// Parse reads a document. Its name is the SHA-256 of b, not of what Encode
// would make of it.
func Parse(b []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := strictjson.Decode(b, MaxSize, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, m.check()
}

func (m *Manifest) check() error {
	if m.Version != 1 {
		return fmt.Errorf("manifest: version %d, want 1", m.Version)
	}
	if len(m.Models) == 0 || len(m.Models) > price.MaxModels {
		return fmt.Errorf("manifest: %d models, want 1 to %d", len(m.Models), price.MaxModels)
	}
	seen := map[string]bool{}
	for _, x := range m.Models {
		if x.ID == "" || len(x.ID) > price.MaxModelName || seen[x.ID] {
			return fmt.Errorf("manifest: model id %.40q is malformed or repeated", x.ID)
		}
		seen[x.ID] = true
		if d, err := hex.DecodeString(x.SHA256); err != nil || len(d) != 32 || hex.EncodeToString(d) != x.SHA256 {
			return fmt.Errorf("manifest: model %.40q: sha256 is not 64 lower-case hexadecimal digits", x.ID)
		}
		if x.Format == "" || x.Size <= 0 || x.ContextLength <= 0 {
			return errors.New("manifest: a model lacks its format, size or context length")
		}
	}
	return nil
}
