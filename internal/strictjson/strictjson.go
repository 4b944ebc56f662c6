// Package strictjson decodes JSON that foreigners sign or send, refusing what
// encoding/json lets pass: unknown, duplicate and case-variant members,
// trailing data, invalid UTF-8 and documents over a size limit. Two parties
// that decode the same bytes must see the same values.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
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
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := check(d, reflect.TypeOf(v), 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("data after the JSON document")
	}
	d = json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// CheckObject reports whether b is one JSON object, at most limit bytes, with
// no duplicate member at any depth. It does not look at names.
func CheckObject(b []byte, limit int) error {
	var m map[string]json.RawMessage
	if err := Decode(b, limit, &m); err != nil {
		return err
	}
	if m == nil {
		return errors.New("JSON document is not an object")
	}
	return nil
}

// check walks one value. t, where it is a struct, decides the member names.
func check(d *json.Decoder, t reflect.Type, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("JSON nested deeper than %d", maxDepth)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tok, err := d.Token()
	if err != nil {
		return malformed(err)
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
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
	seen := map[string]bool{}
	for d.More() {
		next := elem
		if delim == '{' {
			tok, err := d.Token()
			if err != nil {
				return malformed(err)
			}
			name := tok.(string) // the decoder admits only strings here
			if seen[name] {
				return fmt.Errorf("JSON member %q appears twice", clip(name))
			}
			seen[name] = true
			if names != nil {
				if next, ok = names[name]; !ok {
					return fmt.Errorf("unknown JSON member %q", clip(name))
				}
			}
		}
		if err := check(d, next, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	return nil
}

func members(t reflect.Type) map[string]reflect.Type {
	m := make(map[string]reflect.Type, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		m[name] = f.Type
	}
	return m
}

func malformed(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("JSON document is cut short")
	}
	return fmt.Errorf("malformed JSON: %w", err)
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
