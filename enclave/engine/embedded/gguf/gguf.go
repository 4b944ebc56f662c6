// Package gguf reads model files in the GGUF format, versions 2 and 3, little-endian.
//
// The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A file is a header, metadata, tensor
// descriptions and the tensors' data. [Read] checks all of it but the weights themselves: every length is bounded by the
// file's size and by the limits below before anything is allocated, tensors lie back to back as llama.cpp writes them,
// and nothing follows the last one. Tensor types other than F32, F16 and Q8_0 are refused.
package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"unicode/utf8"
)

// Limits of what [Read] accepts. The largest vocabularies in use have about 260,000 tokens.
const (
	maxMetadataBytes = 64 << 20 // header, metadata and tensor descriptions together
	maxKeys          = 4096
	maxTensors       = 1 << 16
	maxKeyLength     = 1024
	maxNameLength    = 256
	maxStringLength  = 4 << 20
	maxArrayLength   = 1 << 21
	maxDimension     = 1 << 31
)

// ErrFormat is wrapped by every error about the file's content.
var ErrFormat = errors.New("not a usable GGUF file")

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Type is a tensor's element type, by its number in the format.
type Type uint32

// The element types that are supported.
const (
	F32  Type = 0
	F16  Type = 1
	Q8_0 Type = 8 // blocks of 32 elements: a float16 scale, then 32 int8
)

// BlockLength is the number of elements in a Q8_0 block, and BlockSize its length in bytes.
const (
	BlockLength = 32
	BlockSize   = 34
)

func (t Type) String() string {
	switch t {
	case F32:
		return "F32"
	case F16:
		return "F16"
	case Q8_0:
		return "Q8_0"
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Tensor describes one tensor.
type Tensor struct {
	Name string
	Type Type
	Dims []int // Dims[0] is the contiguous dimension: a matrix has Dims[1] rows of Dims[0] elements

	offset, size int64 // of the data, in the file
}

// File is an opened model file. Its metadata and descriptions are in memory; tensor data is read on demand.
type File struct {
	Version  uint32
	Metadata map[string]any // bool, sized integers, floats, string, or a slice of one of these
	Tensors  []Tensor       // in file order

	r      io.ReaderAt
	byName map[string]int
}

// Tensor returns the tensor called name.
func (f *File) Tensor(name string) (*Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return nil, false
	}
	return &f.Tensors[i], true
}

// Data returns a reader of the raw data of t, which must be a tensor of f, and its length in bytes.
func (f *File) Data(t *Tensor) (io.Reader, int64) {
	return io.NewSectionReader(f.r, t.offset, t.size), t.size
}

// Read reads the header, metadata and tensor descriptions of the size bytes in r. The file keeps r for tensor data.
// Errors about the content wrap [ErrFormat].
func Read(r io.ReaderAt, size int64) (*File, error) {
	limit := min(size, maxMetadataBytes)
	d := &decoder{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, limit), 1<<16), limit: limit, size: size}
	f := &File{r: r, Metadata: map[string]any{}, byName: map[string]int{}}
	if magic := d.bytes(4); d.err == nil && string(magic) != "GGUF" {
		return nil, formatError("it starts with %q, not with \"GGUF\"", magic)
	}
	f.Version = d.u32()
	if d.err == nil && f.Version != 2 && f.Version != 3 {
		if v := bits.ReverseBytes32(f.Version); v == 2 || v == 3 {
			return nil, formatError("it is big-endian; convert it to little-endian")
		}
		return nil, formatError("version %d; only 2 and 3 are supported", f.Version)
	}
	tensors, keys := d.u64(), d.u64()
	if d.err == nil && (tensors > maxTensors || keys > maxKeys) {
		return nil, formatError("%d tensors and %d metadata keys; at most %d and %d are supported", tensors, keys, maxTensors, maxKeys)
	}
	for range keys {
		if d.err != nil {
			break
		}
		key := d.string(maxKeyLength)
		kind := valueType(d.u32())
		value := d.value(kind)
		if d.err != nil {
			d.err = fmt.Errorf("metadata key %.64q: %w", key, d.err)
			break
		}
		if _, ok := f.Metadata[key]; ok {
			return nil, formatError("metadata key %.64q occurs twice", key)
		}
		f.Metadata[key] = value
	}
	if d.err != nil {
		return nil, d.err
	}
	alignment, err := f.alignment()
	if err != nil {
		return nil, err
	}
	if err := f.readTensors(d, int(tensors), alignment); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) alignment() (int64, error) {
	const key = "general.alignment"
	v, ok := f.Metadata[key]
	if !ok {
		return 32, nil
	}
	a, ok := v.(uint32)
	if !ok || a < 8 || a > 1<<16 || a&(a-1) != 0 {
		return 0, formatError("%s is %v; a uint32 power of two from 8 to 65536 is expected", key, v)
	}
	return int64(a), nil
}

// readTensors reads n descriptions and places them: data starts at the next multiple of the alignment, and every tensor
// at the next multiple after its predecessor.
func (f *File) readTensors(d *decoder, n int, alignment int64) error {
	var end int64 // of the tensors so far, relative to the data's start
	for range n {
		t := Tensor{Name: d.string(maxNameLength)}
		dims := d.u32()
		if d.err == nil && (dims < 1 || dims > 4) {
			return formatError("tensor %.64q has %d dimensions; 1 to 4 are supported", t.Name, dims)
		}
		elements := int64(1)
		for range dims {
			dim := d.u64()
			if d.err != nil {
				return d.err
			}
			if dim < 1 || dim > maxDimension || elements > d.size/int64(dim) {
				return formatError("tensor %.64q has a dimension of %d, more than the file can hold", t.Name, dim)
			}
			elements *= int64(dim)
			t.Dims = append(t.Dims, int(dim))
		}
		t.Type = Type(d.u32())
		offset := d.u64()
		if d.err != nil {
			return d.err
		}
		switch t.Type {
		case F32:
			t.size = 4 * elements // elements is at most the file's size
		case F16:
			t.size = 2 * elements
		case Q8_0:
			if t.Dims[0]%BlockLength != 0 {
				return formatError("tensor %.64q is Q8_0 with rows of %d elements, not a multiple of %d", t.Name, t.Dims[0], BlockLength)
			}
			t.size = elements / BlockLength * BlockSize
		default:
			return formatError("tensor %.64q has %v; F32, F16 and Q8_0 are supported: convert the model to one of them", t.Name, t.Type)
		}
		if _, ok := f.byName[t.Name]; ok {
			return formatError("tensor %.64q occurs twice", t.Name)
		}
		if offset != uint64(end) {
			return formatError("tensor %.64q is at offset %d, expected %d", t.Name, offset, end)
		}
		if t.size > d.size-end {
			return formatError("tensor %.64q reaches past the end of the file; is the download complete?", t.Name)
		}
		t.offset = end
		end = align(end+t.size, alignment)
		f.byName[t.Name] = len(f.Tensors)
		f.Tensors = append(f.Tensors, t)
	}
	if d.err != nil {
		return d.err
	}
	start := align(d.off, alignment)
	last := start // end of the data without padding
	for i := range f.Tensors {
		f.Tensors[i].offset += start
		last = f.Tensors[i].offset + f.Tensors[i].size
	}
	if last > d.size && n > 0 {
		return formatError("the file has %d bytes, its tensors need %d; is the download complete?", d.size, last)
	}
	if d.size > start+end {
		return formatError("%d bytes follow the last tensor", d.size-start-end)
	}
	return nil
}

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

// valueType is the type of a metadata value, by its number in the format.
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// decoder reads little-endian values and remembers the first error.
type decoder struct {
	r     *bufio.Reader
	off   int64 // bytes read
	limit int64 // bytes that may be read
	size  int64 // of the whole file
	err   error
	buf   [8]byte
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = formatError(format, args...)
	}
}

// need reports whether n more bytes may be read.
func (d *decoder) need(n int64) bool {
	if d.err != nil {
		return false
	}
	if n > d.limit-d.off {
		if d.limit < d.size {
			d.fail("its metadata exceeds %d bytes", int64(maxMetadataBytes))
		} else {
			d.fail("it ends within its metadata; is the download complete?")
		}
		return false
	}
	return true
}

// bytes reads n bytes, at most maxStringLength.
func (d *decoder) bytes(n int) []byte {
	if !d.need(int64(n)) {
		return nil
	}
	b := d.buf[:]
	if n > len(b) {
		b = make([]byte, n)
	}
	b = b[:n]
	if _, err := io.ReadFull(d.r, b); err != nil {
		d.err = fmt.Errorf("reading GGUF metadata: %w", err)
		return nil
	}
	d.off += int64(n)
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) bool() bool {
	switch d.u8() {
	case 0:
		return false
	case 1:
		return true
	}
	d.fail("a bool is neither 0 nor 1")
	return false
}

func (d *decoder) string(limit uint64) string {
	n := d.u64()
	if d.err != nil {
		return ""
	}
	if n > limit {
		d.fail("a string of %d bytes; at most %d are supported", n, limit)
		return ""
	}
	s := string(d.bytes(int(n)))
	if d.err == nil && !utf8.ValidString(s) {
		d.fail("the string %.64q is not UTF-8", s)
	}
	return s
}

func (d *decoder) value(kind valueType) any {
	switch kind {
	case typeUint8:
		return d.u8()
	case typeInt8:
		return int8(d.u8())
	case typeUint16:
		return d.u16()
	case typeInt16:
		return int16(d.u16())
	case typeUint32:
		return d.u32()
	case typeInt32:
		return int32(d.u32())
	case typeFloat32:
		return math.Float32frombits(d.u32())
	case typeBool:
		return d.bool()
	case typeString:
		return d.string(maxStringLength)
	case typeUint64:
		return d.u64()
	case typeInt64:
		return int64(d.u64())
	case typeFloat64:
		return math.Float64frombits(d.u64())
	case typeArray:
		return d.array()
	}
	d.fail("value type %d is unknown", kind)
	return nil
}

func (d *decoder) array() any {
	kind, n := valueType(d.u32()), d.u64()
	if d.err != nil {
		return nil
	}
	if n > maxArrayLength {
		d.fail("an array of %d elements; at most %d are supported", n, maxArrayLength)
		return nil
	}
	switch kind {
	case typeUint8:
		return array(d, n, 1, d.u8)
	case typeInt8:
		return array(d, n, 1, func() int8 { return int8(d.u8()) })
	case typeUint16:
		return array(d, n, 2, d.u16)
	case typeInt16:
		return array(d, n, 2, func() int16 { return int16(d.u16()) })
	case typeUint32:
		return array(d, n, 4, d.u32)
	case typeInt32:
		return array(d, n, 4, func() int32 { return int32(d.u32()) })
	case typeFloat32:
		return array(d, n, 4, func() float32 { return math.Float32frombits(d.u32()) })
	case typeBool:
		return array(d, n, 1, d.bool)
	case typeString:
		return array(d, n, 8, func() string { return d.string(maxStringLength) })
	case typeUint64:
		return array(d, n, 8, d.u64)
	case typeInt64:
		return array(d, n, 8, func() int64 { return int64(d.u64()) })
	case typeFloat64:
		return array(d, n, 8, func() float64 { return math.Float64frombits(d.u64()) })
	case typeArray:
		d.fail("arrays of arrays are not supported")
		return nil
	}
	d.fail("value type %d is unknown", kind)
	return nil
}

// array reads n elements, each of which takes at least size bytes of the file.
func array[T any](d *decoder, n uint64, size int64, next func() T) []T {
	if !d.need(int64(n) * size) {
		return nil
	}
	a := make([]T, 0, n)
	for range n {
		v := next()
		if d.err != nil {
			return nil
		}
		a = append(a, v)
	}
	return a
}
