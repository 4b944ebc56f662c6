package le

import (
	"bytes"
	"testing"
)

func TestReader(t *testing.T) {
	r := Reader{Format: "test", Bytes: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}}
	if n := r.Uint16("a"); n != 0x0201 {
		t.Errorf("%#x", n)
	}
	if n := r.Uint32("b"); n != 0x06050403 {
		t.Errorf("%#x", n)
	}
	v := r.Next(2, "c")
	if !bytes.Equal(v, []byte{7, 8}) || r.Next(0, "d") == nil || r.Err != nil {
		t.Fatal(v, r.Err)
	}
	if _ = append(v, 0); r.Bytes[8] != 9 {
		t.Error("appending to a field overwrites the next")
	}
	if r.Next(2, "e") != nil || r.Err == nil || r.Err.Error() != "test: truncated in the e: 2 bytes wanted at offset 8 of 9" {
		t.Error(r.Err)
	}
	if n := (&Reader{Bytes: []byte{1, 2, 3, 4, 5, 6, 7, 8}}).Uint64("i"); n != 0x0807060504030201 {
		t.Errorf("%#x", n)
	}
	if n := (&Reader{Bytes: []byte{1}, Off: 1}); n.Next(-1, "size") != nil || n.Err == nil || n.Off != 1 {
		t.Error("a negative length goes backwards")
	}
	first := r.Err
	if r.Next(1, "f") != nil || r.Uint16("g") != 0 || r.Uint32("h") != 0 || r.Uint64("j") != 0 || r.Err != first || r.Off != 8 {
		t.Error("the first error does not stick")
	}
}

// FuzzReader reads fields of the lengths that lengths says: together they are what was read, and no more.
func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{1, 0, 2, 9})
	f.Fuzz(func(t *testing.T, b, lengths []byte) {
		r := Reader{Bytes: b}
		var got []byte
		for _, n := range lengths {
			got = append(got, r.Next(int(n), "field")...)
		}
		if !bytes.Equal(got, b[:r.Off]) {
			t.Errorf("%x of %x", got, b)
		}
	})
}
