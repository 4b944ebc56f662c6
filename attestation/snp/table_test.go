package snp

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
)

type entry struct {
	id  [16]byte
	der string
}

func table(entries ...entry) []byte {
	head := 24 * (len(entries) + 1)
	var dir, blobs []byte
	for _, e := range entries {
		dir = append(dir, e.id[:]...)
		dir = binary.LittleEndian.AppendUint32(dir, uint32(head+len(blobs)))
		dir = binary.LittleEndian.AppendUint32(dir, uint32(len(e.der)))
		blobs = append(blobs, e.der...)
	}
	return append(append(dir, make([]byte, 24)...), blobs...)
}

func TestParseTable(t *testing.T) {
	got, err := ParseTable(table(entry{guidARK, "ark"}, entry{[16]byte{1}, "a CRL"}, entry{guidVCEK, "vcek"}, entry{guidASK, "ask"}))
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.Join([]string{string(got[0]), string(got[1]), string(got[2])}, " "); len(got) != 3 || s != "vcek ask ark" {
		t.Errorf("%q", got)
	}
	// It may point into itself, and end with its end.
	short := append(append(slices.Clone(guidVCEK[:]), 0, 0, 0, 0, 1, 0, 0, 0), make([]byte, 24)...)
	if got, err := ParseTable(short); err != nil || len(got) != 1 || len(got[0]) != 1 {
		t.Errorf("%q, %v", got, err)
	}
	many := slices.Repeat([]entry{{der: "x"}}, MaxTableCertificates)
	for i := range many {
		many[i].id = [16]byte{0: 1, 1: byte(i)}
	}
	for name, bad := range map[string]struct {
		table []byte
		why   string
	}{
		"empty":        {nil, "no end"},
		"no end":       {append(guidVCEK[:], make([]byte, 8)...), "no end"},
		"no key":       {table(entry{guidASK, "ask"}), "no VCEK or VLEK"},
		"out of range": {append(append(guidVCEK[:], 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0), make([]byte, 24)...), "outside itself"},
		"twice":        {table(entry{guidVCEK, "a"}, entry{guidVCEK, "b"}), "two entries"},
		"endless":      {table(many...), "more than"},
	} {
		if _, err := ParseTable(bad.table); err == nil || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIsTable(t *testing.T) {
	pem, err := os.ReadFile("testdata/ark.pem")
	if err != nil {
		t.Fatal(err)
	}
	if !IsTable(table(entry{guidVLEK, "vlek"})) || IsTable(nil) || IsTable(pem) || IsTable([]byte{0x30, 0x82}) {
		t.Error("a table is not told from PEM and DER")
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(table(entry{guidVCEK, "vcek"}, entry{guidASK, "ask"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := ParseTable(b)
		n := 0
		for _, c := range certs {
			n += len(c)
		}
		if err == nil && (len(certs) == 0 || n > len(certs)*len(b)) {
			t.Errorf("%d bytes of certificates from a table of %d", n, len(b))
		}
	})
}
