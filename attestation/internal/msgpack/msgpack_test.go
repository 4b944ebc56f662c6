package msgpack

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// Every form of the specification that is read, at its bounds, and what comes just outside of them.
func TestForms(t *testing.T) {
	length := func(n int) string { return hex.EncodeToString(bytes.Repeat([]byte{'a'}, n)) }
	octets := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	number := func(r *Reader) uint64 { return r.Uint(math.MaxUint64, "x") }
	str := func(r *Reader) uint64 { return uint64(len(r.String("x"))) }
	bin := func(r *Reader) uint64 { return uint64(len(r.Bin("x"))) }
	array := func(r *Reader) uint64 { return uint64(len(r.Octets("x"))) }
	members := func(r *Reader) uint64 { return uint64(r.Map("x")) }
	for name, c := range map[string]struct {
		read func(*Reader) uint64
		in   string
		want uint64
		why  string
	}{
		"0": {number, "00", 0, ""}, "127": {number, "7f", 127, ""}, "128": {number, "cc80", 128, ""}, "255": {number, "ccff", 255, ""},
		"256": {number, "cd0100", 256, ""}, "65536": {number, "ce00010000", 1 << 16, ""}, "2^32": {number, "cf0000000100000000", 1 << 32, ""},
		"most":           {number, "cfffffffffffffffff", math.MaxUint64, ""},
		"127 in 2":       {number, "cc7f", 0, "more than it takes"},
		"255 in 3":       {number, "cd00ff", 0, "more than it takes"},
		"65535 in 5":     {number, "ce0000ffff", 0, "more than it takes"},
		"2^32-1 in 9":    {number, "cf00000000ffffffff", 0, "more than it takes"},
		"-1":             {number, "ff", 0, "want an integer"},
		"negative":       {number, "d0ff", 0, "want an integer"},
		"nil":            {number, "c0", 0, "want an integer"},
		"float":          {number, "ca00000000", 0, "want an integer"},
		"cut":            {number, "cd01", 0, "truncated"},
		"nothing":        {number, "", 0, "truncated"},
		"empty string":   {str, "a0", 0, ""},
		"string 31":      {str, "bf" + length(31), 31, ""},
		"string 32":      {str, "d920" + length(32), 32, ""},
		"string 256":     {str, "da0100" + length(256), 256, ""},
		"string 65536":   {str, "db00010000" + length(1<<16), 1 << 16, ""},
		"string 31 in 2": {str, "d91f" + length(31), 0, "more than it takes"},
		"string cut":     {str, "a261", 0, "truncated"},
		"huge string":    {str, "dbffffffff", 0, "truncated"},
		"not UTF-8":      {str, "a1ff", 0, "UTF-8"},
		"bytes as text":  {str, "c40161", 0, "want a string"},
		"no bytes":       {bin, "c400", 0, ""},
		"bytes 256":      {bin, "c50100" + length(256), 256, ""},
		"bytes 65536":    {bin, "c600010000" + length(1<<16), 1 << 16, ""},
		"bytes 255 in 3": {bin, "c500ff" + length(255), 0, "more than it takes"},
		"text as bytes":  {bin, "a161", 0, "want bytes"},
		"huge bytes":     {bin, "c6ffffffff", 0, "truncated"},
		"no octets":      {array, "90", 0, ""},
		"octets 15":      {array, "9f" + octets(15), 15, ""},
		"octets 16":      {array, "dc0010" + octets(16), 16, ""},
		"octets 65536":   {array, "dd00010000" + octets(1<<16), 1 << 16, ""},
		"octets 15 in 3": {array, "dc000f" + octets(15), 0, "more than it takes"},
		"octet 256":      {array, "91cd0100", 0, "the most is 255"},
		"octet 1 in 2":   {array, "91cc01", 0, "more than it takes"},
		"huge array":     {array, "ddffffffff", 0, "elements, with 0 bytes left"},
		"array of text":  {array, "91a0", 0, "want an integer"},
		"map 15":         {members, "8f", 15, ""},
		"map 16":         {members, "de0010", 16, ""},
		"map 15 in 3":    {members, "de000f", 0, "more than it takes"},
		"huge map":       {members, "dfffffffff", 0, "members"},
		"array as map":   {members, "90", 0, "want a map"},
		"extension":      {bin, "c7010041", 0, "want bytes"},
		"never used":     {number, "c1", 0, "want an integer"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(c.in)
			if err != nil {
				t.Fatal(err)
			}
			r := &Reader{Format: "test", Bytes: b}
			got := c.read(r)
			err = r.End()
			if got != c.want || (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("%d, %v, want %d and %q", got, err, c.want, c.why)
			}
		})
	}
}

func TestMembers(t *testing.T) {
	read := func(b string, members int, key string) error {
		r := &Reader{Format: "test", Bytes: []byte(b)}
		r.Members(members, "x")
		r.Key(key)
		return r.End()
	}
	if err := read("\x81\xa1a", 1, "a"); err != nil {
		t.Error(err)
	}
	for why, err := range map[string]error{
		"2 members, want 1": read("\x82\xa1a", 1, "a"), `"b" where "a"`: read("\x81\xa1b", 1, "a"), "1 bytes behind": read("\x81\xa1a\x00", 1, "a"),
	} {
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	// The first error stays.
	r := &Reader{Format: "test", Bytes: []byte{0xc0}}
	r.Uint(1, "first")
	r.String("second")
	r.Array("third")
	if err := r.End(); err == nil || !strings.Contains(err.Error(), "first") {
		t.Error(err)
	}
}

// FuzzReader reads whatever comes, and writes it again: there is one form of everything.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x82\xa1a\x93\x00\xcc\x80\xcd\x01\x00\xa1b\xc4\x02\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Reader{Format: "test", Bytes: b}
		var out []byte
		for values := 1; values > 0 && r.Err == nil && r.Off < len(b); values-- {
			switch c := b[r.Off]; {
			case c < 0x80, c >= 0xcc && c <= 0xcf:
				out = put(out, uintForms, r.Uint(math.MaxUint64, "integer"))
			case c < 0x90, c == 0xde, c == 0xdf:
				n := r.Map("map")
				out, values = put(out, mapForms, uint64(n)), values+2*n
			case c < 0xa0, c == 0xdc, c == 0xdd:
				n := r.Array("array")
				out, values = put(out, arrayForms, uint64(n)), values+n
			case c < 0xc0, c >= 0xd9 && c <= 0xdb:
				s := r.String("string")
				out = append(put(out, strForms, uint64(len(s))), s...)
			default:
				s := r.Bin("bytes")
				out = append(put(out, binForms, uint64(len(s))), s...)
			}
		}
		if r.Err == nil && !bytes.Equal(out, b[:r.Off]) {
			t.Fatalf("%x is %x", b[:r.Off], out)
		}
	})
}

func put(out []byte, forms []form, n uint64) []byte {
	for _, f := range forms {
		if n > f.most {
			continue
		}
		if f.size == 0 {
			return append(out, f.base|byte(n))
		}
		wide := binary.BigEndian.AppendUint64(nil, n)
		return append(append(out, f.base), wide[8-f.size:]...)
	}
	return out
}
