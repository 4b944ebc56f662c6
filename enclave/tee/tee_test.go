package tee

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path"
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
)

// kernel is configfs-tsm as the kernel shows it: a report whose outblob
// depends on the inblob.
type kernel struct {
	provider string
	aux      []byte
	quote    func(data [64]byte) []byte
	in       []byte
	writes   int
}

func (k *kernel) MkdirTemp(dir, _ string) (string, error) { return path.Join(dir, "entry"), nil }
func (k *kernel) ReadDir(string) ([]os.DirEntry, error)   { return nil, nil }
func (k *kernel) RemoveAll(string) error                  { return nil }
func (k *kernel) WriteFile(name string, content []byte) error {
	if path.Base(name) == "inblob" {
		k.in = bytes.Clone(content)
		k.writes++
	}
	return nil
}
func (k *kernel) ReadFile(name string) ([]byte, error) {
	switch path.Base(name) {
	case "provider":
		return []byte(k.provider + "\n"), nil
	case "generation":
		return []byte{byte('0' + k.writes), '\n'}, nil
	case "outblob":
		return k.quote([64]byte(k.in)), nil
	case "auxblob":
		return k.aux, nil
	}
	return nil, os.ErrNotExist
}

func TestCollectTDX(t *testing.T) {
	node, err := attestationtest.New("tee").NewNode(attestationtest.NodeConfig{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := open(&kernel{provider: "tdx_guest", quote: node.Quote}, Devices{}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Kind() != attestation.CPUTDX {
		t.Fatalf("kind %s", c.Kind())
	}
	nonce, keyset := [32]byte{1}, []byte("keyset")
	got, err := c.Collect(t.Context(), nonce, keyset)
	if err != nil {
		t.Fatal(err)
	}
	// The mock node makes the same document from the same quote.
	want, err := node.CollectWith(nonce, keyset, []attestation.Device{})
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v\n got %.200s\nwant %.200s", err, got, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := open(&kernel{provider: "cca_guest", quote: func(d [64]byte) []byte { return d[:] }}, Devices{}, "", ""); err == nil {
		t.Error("unknown hardware accepted")
	}
}

func table(entries map[[16]byte][]byte) []byte {
	head := 24 * (len(entries) + 1)
	var dir, blobs []byte
	for id, der := range entries {
		dir = append(dir, id[:]...)
		dir = binary.LittleEndian.AppendUint32(dir, uint32(head+len(blobs)))
		dir = binary.LittleEndian.AppendUint32(dir, uint32(len(der)))
		blobs = append(blobs, der...)
	}
	return append(append(dir, make([]byte, 24)...), blobs...)
}

func TestChain(t *testing.T) {
	out, err := chain(table(map[[16]byte][]byte{guidARK: []byte("ark"), guidVCEK: []byte("vcek"), guidASK: []byte("ask")}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vcek", "ask", "ark"} {
		var b *pem.Block
		if b, out = pem.Decode(out); b == nil || string(b.Bytes) != want {
			t.Fatalf("got %v, want %s", b, want)
		}
	}
	for name, bad := range map[string][]byte{
		"empty":        nil,
		"no end":       table(map[[16]byte][]byte{guidVCEK: nil})[:24],
		"no key":       table(map[[16]byte][]byte{guidASK: []byte("ask")}),
		"out of range": append(append(append([]byte{}, guidVCEK[:]...), 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0), make([]byte, 24)...),
	} {
		if _, err := chain(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzChain(f *testing.F) {
	f.Add(table(map[[16]byte][]byte{guidVCEK: []byte("vcek")}))
	f.Fuzz(func(t *testing.T, b []byte) { chain(b) })
}
