package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
)

func read(b []byte) (*gguf.File, error) { return gguf.Read(bytes.NewReader(b), int64(len(b))) }

// builder writes GGUF piece by piece, also wrongly.
type builder struct{ bytes.Buffer }

func (b *builder) put(values ...any) *builder {
	for _, v := range values {
		if s, ok := v.(string); ok {
			v = append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
		}
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b
}

// file begins a file of version 3.
func file(tensors, keys uint64) *builder {
	b := &builder{}
	b.WriteString("GGUF")
	return b.put(uint32(3), tensors, keys)
}

func (b *builder) pad() *builder {
	b.Write(make([]byte, -b.Len()&31))
	return b
}

func TestRead(t *testing.T) {
	b := file(3, 14)
	b.put("u8", uint32(0), uint8(200), "i8", uint32(1), int8(-3), "u16", uint32(2), uint16(60000), "i16", uint32(3), int16(-300))
	b.put("u32", uint32(4), uint32(1<<31), "i32", uint32(5), int32(-1), "f32", uint32(6), float32(1.5), "bool", uint32(7), uint8(1))
	b.put("text", uint32(8), "hello", "u64", uint32(10), uint64(math.MaxUint64), "i64", uint32(11), int64(-1), "f64", uint32(12), 2.5)
	b.put("texts", uint32(9), uint32(8), uint64(2), "a", "", "numbers", uint32(9), uint32(5), uint64(3), []int32{1, -2, 3})
	b.put("first", uint32(2), uint64(3), uint64(2), uint32(0), uint64(0))
	b.put("second", uint32(1), uint64(64), uint32(8), uint64(32))
	b.put("third", uint32(1), uint64(5), uint32(1), uint64(128))
	b.pad().put([]float32{1, 2, 3, 4, 5, 6}).pad().put(make([]byte, 68)).pad().put([]uint16{1, 2, 3, 4, 5})
	for _, padded := range []bool{false, true} {
		if padded {
			b.pad()
		}
		f, err := read(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"u8": uint8(200), "i8": int8(-3), "u16": uint16(60000), "i16": int16(-300), "u32": uint32(1 << 31), "i32": int32(-1), "f32": float32(1.5),
			"bool": true, "text": "hello", "u64": uint64(math.MaxUint64), "i64": int64(-1), "f64": 2.5, "texts": []string{"a", ""}, "numbers": []int32{1, -2, 3},
		}
		if !reflect.DeepEqual(f.Metadata, want) {
			t.Errorf("metadata %v, want %v", f.Metadata, want)
		}
		tensor, ok := f.Tensor("first")
		if !ok || tensor.Type != gguf.F32 || !reflect.DeepEqual(tensor.Dims, []int{3, 2}) {
			t.Fatalf("tensor %v", tensor)
		}
		r, n := f.Data(tensor)
		data, err := io.ReadAll(r)
		if err != nil || n != 24 || len(data) != 24 || math.Float32frombits(binary.LittleEndian.Uint32(data[20:])) != 6 {
			t.Errorf("data %x, %v", data, err)
		}
		third, _ := f.Tensor("third")
		r, _ = f.Data(third)
		if data, _ := io.ReadAll(r); !bytes.Equal(data, []byte{1, 0, 2, 0, 3, 0, 4, 0, 5, 0}) {
			t.Errorf("third tensor %x", data)
		}
		if _, ok := f.Tensor("fourth"); ok {
			t.Error("a fourth tensor")
		}
	}
}

func TestRefuses(t *testing.T) {
	tensor := func(name string, dims []uint64, kind uint32, offset uint64) *builder {
		b := &builder{}
		return b.put(name, uint32(len(dims)), dims, kind, offset)
	}
	one := func(t *builder) []byte {
		b := file(1, 0)
		b.Write(t.Bytes())
		b.pad().Write(make([]byte, 64))
		return b.Bytes()
	}
	two := func(second *builder) []byte {
		b := file(2, 0)
		b.Write(tensor("a", []uint64{8}, 0, 0).Bytes())
		b.Write(second.Bytes())
		b.pad().Write(make([]byte, 64))
		return b.Bytes()
	}
	if _, err := read(one(tensor("a", []uint64{16}, 0, 0))); err != nil {
		t.Fatal(err)
	}
	if _, err := read(two(tensor("b", []uint64{8}, 0, 32))); err != nil {
		t.Fatal(err)
	}
	with := func(values ...any) []byte { return file(0, 1).put(values...).Bytes() }
	for name, b := range map[string][]byte{
		"ends within":                  []byte("GG"),
		"starts with":                  []byte("GGML\x03\x00\x00\x00\x00\x00\x00\x00"),
		"version 1":                    (&builder{}).put([]byte("GGUF"), uint32(1), uint64(0), uint64(0)).Bytes(),
		"big-endian":                   (&builder{}).put([]byte("GGUF"), uint32(3<<24), uint64(0), uint64(0)).Bytes(),
		"18446744073709551615 tensors": file(math.MaxUint64, 0).Bytes(),
		"5000 metadata keys":           file(0, 5000).Bytes(),
		"a string of 1099511627776":    with(uint64(1 << 40)),
		"occurs twice":                 file(0, 2).put("a", uint32(7), uint8(0), "a", uint32(7), uint8(0)).Bytes(),
		"value type 13":                with("a", uint32(13)),
		"value type 77":                with("a", uint32(9), uint32(77), uint64(1)),
		"neither 0 nor 1":              with("a", uint32(7), uint8(2)),
		"not UTF-8":                    with("a", uint32(8), "\xff"),
		"arrays of arrays":             with("a", uint32(9), uint32(9), uint64(1)),
		"an array of 1073741824":       with("a", uint32(9), uint32(0), uint64(1<<30)),
		"within its metadata":          with("a", uint32(9), uint32(8), uint64(1<<20)),
		"general.alignment is 7":       with("general.alignment", uint32(4), uint32(7)),
		"general.alignment is 48":      with("general.alignment", uint32(4), uint32(48)),
		"general.alignment is -1":      with("general.alignment", uint32(5), int32(-1)),
		"0 dimensions":                 one(tensor("a", nil, 0, 0)),
		"5 dimensions":                 one(tensor("a", []uint64{1, 1, 1, 1, 1}, 0, 0)),
		"a dimension of 0":             one(tensor("a", []uint64{0}, 0, 0)),
		"a dimension of 4294967296":    one(tensor("a", []uint64{1 << 32}, 0, 0)),
		"more than the file can hold":  one(tensor("a", []uint64{100, 100}, 0, 0)),
		"past the end":                 one(tensor("a", []uint64{40}, 0, 0)),
		"its tensors need":             one(tensor("a", []uint64{17}, 0, 0)),
		"not a multiple of 32":         one(tensor("a", []uint64{16}, 8, 0)),
		"has type 2;":                  one(tensor("a", []uint64{32}, 2, 0)),
		"\"a\" occurs twice":           two(tensor("a", []uint64{8}, 0, 32)),
		"at offset 0, expected 32":     two(tensor("b", []uint64{8}, 0, 0)),
		"at offset 64, expected 32":    two(tensor("b", []uint64{8}, 0, 64)),
		"follow the last tensor":       append(one(tensor("a", []uint64{16}, 0, 0)), make([]byte, 32)...),
	} {
		if _, err := read(b); !errors.Is(err, gguf.ErrFormat) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// No beginning of a file is a file.
	whole := modeltest.Make(modeltest.Spec{Architecture: "llama", Type: "Q8_0", Width: 32, Layers: 1, FeedForward: 32})
	if _, err := read(whole); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole)-64; n += 97 {
		if _, err := read(whole[:n]); !errors.Is(err, gguf.ErrFormat) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	broken := errors.New("broken disk")
	if _, err := gguf.Read(brokenReader{broken}, 1000); !errors.Is(err, broken) || errors.Is(err, gguf.ErrFormat) {
		t.Errorf("a read error: %v", err)
	}
}

type brokenReader struct{ err error }

func (b brokenReader) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func TestTypeString(t *testing.T) {
	if got := fmt.Sprint(gguf.F32, gguf.F16, gguf.Q8_0, gguf.Type(12)); got != "F32 F16 Q8_0 type 12" {
		t.Error(got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(modeltest.Make(modeltest.Spec{Architecture: "llama", Type: "Q8_0", Width: 32, Layers: 1, FeedForward: 32})[:20000])
	f.Add(file(1, 1).put("a", uint32(9), uint32(8), uint64(1), "b", "t", uint32(1), uint64(8), uint32(0), uint64(0)).pad().put(make([]float32, 8)).Bytes())
	f.Add(file(0, 1).put("general.alignment", uint32(4), uint32(64)).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := read(b)
		if err != nil {
			if !errors.Is(err, gguf.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for i := range file.Tensors {
			r, n := file.Data(&file.Tensors[i])
			if m, err := io.Copy(io.Discard, r); err != nil || m != n {
				t.Fatalf("%d of %d bytes: %v", m, n, err)
			}
		}
	})
}
