// Package strictjson decodes JSON that foreigners sign or send, refusing what
// encoding/json lets pass: unknown, duplicate and case-variant members,
// trailing data, invalid UTF-8 and documents over a size limit. Two parties
// that decode the same bytes must see the same values.
//
// attestation, which imports nothing else of the module, has a codec of its own:
// there the Go type is the whole schema; here encoding/json decodes, and
// CheckObject passes bodies of any shape without allocating.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"
)

const maxDepth = 32

// Decode decodes the single JSON value in b, at most limit bytes, into v.
// Every member of an object that decodes into a struct must be spelled as its
// json tag spells it.
func Decode(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("JSON document of %d bytes, limit %d", len(b), limit)
	}
	if !utf8.Valid(b) {
		return errors.New("JSON document is not UTF-8")
	}
	if err := syntax(b); err != nil {
		return err
	}
	if _, err := check(b, 0, reflect.TypeOf(v), 0); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// syntax checks the grammar, so that check need not.
func syntax(b []byte) error {
	if json.Valid(b) {
		return nil
	}
	var v any
	switch err := json.Unmarshal(b, &v); {
	case err == nil:
		return errors.New("malformed JSON")
	case err.Error() == "unexpected end of JSON input":
		return errors.New("JSON document is cut short")
	default:
		return fmt.Errorf("malformed JSON: %w", err)
	}
}

// CheckObject reports whether b is one JSON object, at most limit bytes, with
// no duplicate member at any depth. It does not look at names.
func CheckObject(b []byte, limit int) error {
	if len(b) > limit {
		return fmt.Errorf("JSON document of %d bytes, limit %d", len(b), limit)
	}
	if !utf8.Valid(b) {
		return errors.New("JSON document is not UTF-8")
	}
	if err := syntax(b); err != nil {
		return err
	}
	if i := space(b, 0); b[i] != '{' {
		return errors.New("JSON document is not an object")
	}
	_, err := check(b, 0, nil, 0)
	return err
}

// check walks the well-formed value at b[i:] and returns what comes after it.
// t, where it is a struct, decides the member names.
func check(b []byte, i int, t reflect.Type, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("JSON nested deeper than %d", maxDepth)
	}
	i = space(b, i)
	switch b[i] {
	case '"':
		return str(b, i), nil
	case '{', '[':
	default:
		for i < len(b) && !bytes.ContainsRune(ends, rune(b[i])) {
			i++
		}
		return i, nil
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var names map[string]reflect.Type
	var elem reflect.Type
	if t != nil {
		switch t.Kind() {
		case reflect.Struct:
			names = members(t)
		case reflect.Map, reflect.Slice, reflect.Array:
			elem = t.Elem()
		}
	}
	object := b[i] == '{'
	var seen memberSet
	for i = space(b, i+1); b[i] != '}' && b[i] != ']'; i = space(b, i) {
		if b[i] == ',' {
			i = space(b, i+1)
		}
		next := elem
		if object {
			end := str(b, i)
			name, err := unquote(b[i:end])
			if err != nil {
				return 0, err
			}
			if !seen.add(name) {
				return 0, fmt.Errorf("JSON member %q appears twice", clip(string(name)))
			}
			if names != nil {
				var ok bool
				if next, ok = names[string(name)]; !ok {
					return 0, fmt.Errorf("unknown JSON member %q", clip(string(name)))
				}
			}
			i = space(b, end) + 1 // the colon
		}
		var err error
		if i, err = check(b, i, next, depth+1); err != nil {
			return 0, err
		}
	}
	return i + 1, nil
}

// ends are the bytes that can follow a number or a literal.
var ends = []byte(",]} \t\r\n")

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// str returns what comes after the string at b[i:].
func str(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote returns what a member's name says, whatever its spelling.
func unquote(s []byte) ([]byte, error) {
	if bytes.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1], nil
	}
	var name string
	err := json.Unmarshal(s, &name)
	return []byte(name), err
}

// A memberSet finds duplicates without allocating for ordinary objects.
type memberSet struct {
	few  [16][]byte
	n    int
	many map[string]struct{}
}

func (m *memberSet) add(name []byte) bool {
	if m.many == nil {
		for _, s := range m.few[:m.n] {
			if bytes.Equal(s, name) {
				return false
			}
		}
		if m.n < len(m.few) {
			m.few[m.n] = name
			m.n++
			return true
		}
		m.many = make(map[string]struct{}, 2*m.n)
		for _, s := range m.few[:m.n] {
			m.many[string(s)] = struct{}{}
		}
	}
	if _, ok := m.many[string(name)]; ok {
		return false
	}
	m.many[string(name)] = struct{}{}
	return true
}

var types sync.Map // of members, by reflect.Type

// members maps the member names of a struct to their types.
func members(t reflect.Type) map[string]reflect.Type {
	if m, ok := types.Load(t); ok {
		return m.(map[string]reflect.Type)
	}
	m := make(map[string]reflect.Type, t.NumField())
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			m[name] = f.Type
		}
	}
	types.Store(t, m)
	return m
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
