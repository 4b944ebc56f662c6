package inspect

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
)

func FuzzInspect(f *testing.F) {
	node, err := attestationtest.New("fuzz").NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		f.Fatal(err)
	}
	amd, err := attestationtest.New("fuzz").NewNode(attestationtest.NodeConfig{Name: "node", SNP: true})
	if err != nil {
		f.Fatal(err)
	}
	doc, err := node.CollectWith([32]byte{}, []byte("keys"), node.Devices([32]byte{}))
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{doc, node.Quote([64]byte{}), amd.SNPReport([64]byte{}), node.Devices([32]byte{})[0].Report} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Read(b)
		if err != nil {
			return
		}
		n.Print(io.Discard)
		if out, err := json.Marshal(n); err != nil || !json.Valid(out) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

// Every quote that is recognised is shown down to its certificates.
func TestInspectRealEvidence(t *testing.T) {
	files, err := filepath.Glob("../../../../../shared/vectors/quotes/*.bin")
	if err != nil || len(files) == 0 {
		t.Skip("no real evidence at ../shared/vectors")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Read(b)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		if len(n.children) < 15 {
			t.Errorf("%s: only %d fields", filepath.Base(file), len(n.children))
		}
	}
}
