package tee

import (
	"bytes"
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

// What an SEV-SNP host's certificate table says ends up in the evidence.
func TestCollectSNP(t *testing.T) {
	authority := attestationtest.New("tee")
	node, err := authority.NewNode(attestationtest.NodeConfig{Name: "n", SNP: true})
	if err != nil {
		t.Fatal(err)
	}
	nonce, keyset := [32]byte{1}, []byte("keyset")
	doc, err := node.CollectWith(nonce, keyset, []attestation.Device{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := attestation.ParseEvidence(doc)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{provider: "sev_guest", quote: node.SNPReport, aux: node.AuxBlob()}
	c, err := open(k, Devices{}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Collect(t.Context(), nonce, keyset)
	if err != nil {
		t.Fatal(err)
	}
	e, err := attestation.ParseEvidence(got)
	if err != nil {
		t.Fatal(err)
	}
	// The report's signature is random.
	if e.CPU.Kind != attestation.CPUSNP || !bytes.Equal(e.CPU.Certificates, want.CPU.Certificates) || !bytes.Equal(e.CPU.Quote[:0x2a0], want.CPU.Quote[:0x2a0]) {
		t.Errorf("got %.200s\nwant %.200s", got, doc)
	}

	for name, aux := range map[string][]byte{"no table": nil, "no end": k.aux[:24]} {
		c, err := open(&kernel{provider: "sev_guest", quote: node.SNPReport, aux: aux}, Devices{}, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Collect(t.Context(), nonce, keyset); err == nil {
			t.Errorf("%s: evidence without certificates", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := open(&kernel{provider: "cca_guest", quote: func(d [64]byte) []byte { return d[:] }}, Devices{}, "", ""); err == nil {
		t.Error("unknown hardware accepted")
	}
}
