package manifest

import (
	"reflect"
	"strings"
	"testing"
)

func sample() *Manifest {
	return &Manifest{1, []Model{{"m", "gguf", strings.Repeat("0a", 32), 5, 1024}}}
}

func TestRoundTrip(t *testing.T) {
	b, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(b)
	if err != nil || !reflect.DeepEqual(m, sample()) || !m.Has("m") || m.Has("x") {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Manifest){
		"version": func(m *Manifest) { m.Version = 2 },
		"empty":   func(m *Manifest) { m.Models = nil },
		"twice":   func(m *Manifest) { m.Models = append(m.Models, m.Models[0]) },
		"id":      func(m *Manifest) { m.Models[0].ID = "" },
		"digest":  func(m *Manifest) { m.Models[0].SHA256 = strings.Repeat("0A", 32) },
		"size":    func(m *Manifest) { m.Models[0].Size = 0 },
	} {
		m := sample()
		spoil(m)
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	if _, err := Parse([]byte(`{"v":1,"models":[],"x":1}`)); err == nil {
		t.Error("unknown member accepted")
	}
}

func FuzzParse(f *testing.F) {
	b, _ := sample().Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Parse(b); err == nil {
			if _, err := m.Encode(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
