package dcap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// decoder reads Intel's signed JSON strictly and once: no unknown, repeated or differently cased member, no number but plain
// integers, nothing behind the document. encoding/json forgives all of those and takes ten times as long.
type decoder struct {
	s   string // so that what is read out of it need not be copied
	pos int
}

func (d *decoder) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s", d.pos, fmt.Sprintf(format, args...))
}

func (d *decoder) space() {
	for d.pos < len(d.s) {
		switch d.s[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// next skips white space and consumes c.
func (d *decoder) next(c byte) error {
	d.space()
	if d.pos >= len(d.s) || d.s[d.pos] != c {
		return d.errorf("want %q", c)
	}
	d.pos++
	return nil
}

// peek skips white space and reports whether c follows.
func (d *decoder) peek(c byte) bool {
	d.space()
	return d.pos < len(d.s) && d.s[d.pos] == c
}

// end requires that nothing but white space follows.
func (d *decoder) end() error {
	d.space()
	if d.pos != len(d.s) {
		return d.errorf("data behind the document")
	}
	return nil
}

// fields maps member names to what reads their values. A name that ends in "?" may be absent.
type fields []struct {
	name string
	read func() error
}

// object reads an object that has exactly the given members, in any order.
func (d *decoder) object(fs fields) error {
	if err := d.next('{'); err != nil {
		return err
	}
	var seen uint32
	for first := true; ; first = false {
		if d.peek('}') {
			d.pos++
			break
		}
		if !first {
			if err := d.next(','); err != nil {
				return err
			}
		}
		name, err := d.str()
		if err != nil {
			return err
		}
		if err := d.next(':'); err != nil {
			return err
		}
		at := -1
		for i, f := range fs {
			if strings.TrimSuffix(f.name, "?") == name {
				at = i
				break
			}
		}
		switch {
		case at < 0:
			return d.errorf("unknown member %q", name)
		case seen&(1<<at) != 0:
			return d.errorf("member %q twice", name)
		}
		seen |= 1 << at
		if err := fs[at].read(); err != nil {
			return err
		}
	}
	for i, f := range fs {
		if seen&(1<<i) == 0 && !strings.HasSuffix(f.name, "?") {
			return d.errorf("member %q is missing", strings.Clone(f.name)) // a copy, so that fs stays on the stack
		}
	}
	return nil
}

// array reads an array of at most limit values.
func (d *decoder) array(limit int, read func() error) error {
	if err := d.next('['); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if d.peek(']') {
			d.pos++
			return nil
		}
		if n == limit {
			return d.errorf("more than %d elements", limit)
		}
		if n > 0 {
			if err := d.next(','); err != nil {
				return err
			}
		}
		if err := read(); err != nil {
			return err
		}
	}
}

// str reads a string.
func (d *decoder) str() (string, error) {
	if err := d.next('"'); err != nil {
		return "", err
	}
	for i := d.pos; i < len(d.s); i++ {
		switch c := d.s[i]; {
		case c == '"':
			s := d.s[d.pos:i]
			d.pos = i + 1
			return s, nil
		case c == '\\' || c < 0x20:
			return d.escaped(i)
		case c >= utf8.RuneSelf:
			return d.escaped(i)
		}
	}
	return "", d.errorf("unterminated string")
}

// escaped reads the rest of a string that is not plain ASCII from its first unusual byte at i.
func (d *decoder) escaped(i int) (string, error) {
	for ; i < len(d.s); i++ {
		switch d.s[i] {
		case '\\':
			i++
		case '"':
			token := d.s[d.pos-1 : i+1]
			var s string
			if !utf8.ValidString(token) {
				return "", d.errorf("string is not UTF-8")
			}
			if err := json.Unmarshal([]byte(token), &s); err != nil {
				return "", d.errorf("%v", err)
			}
			d.pos = i + 1
			return s, nil
		}
	}
	return "", d.errorf("unterminated string")
}

// uint reads an unsigned integer of at most bits bits.
func (d *decoder) uint(bits int) (uint64, error) {
	d.space()
	i := d.pos
	for i < len(d.s) && d.s[i] >= '0' && d.s[i] <= '9' {
		i++
	}
	digits := d.s[d.pos:i]
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return 0, d.errorf("want an unsigned integer")
	}
	v, err := strconv.ParseUint(digits, 10, bits)
	if err != nil {
		return 0, d.errorf("%s does not fit into %d bits", digits, bits)
	}
	d.pos = i // no fraction and no exponent may follow: nothing takes them
	return v, nil
}

// Readers for the fields function.

func (d *decoder) into(p *string) func() error {
	return func() (err error) {
		*p, err = d.str()
		return err
	}
}

func (d *decoder) hex(dst []byte) func() error {
	return func() error {
		s, err := d.str()
		if err != nil {
			return err
		}
		if err := hexBytes(dst, s); err != nil {
			return d.errorf("%v", err)
		}
		return nil
	}
}

func (d *decoder) time(p *time.Time) func() error {
	return func() error {
		s, err := d.str()
		if err != nil {
			return err
		}
		t, err := time.Parse(time.RFC3339, s) // of which this form, and no other, is as long
		if err != nil || len(s) != len("2006-01-02T15:04:05Z") || s[len(s)-1] != 'Z' {
			return d.errorf("%q is not a time like 2006-01-02T15:04:05Z", s)
		}
		*p = t
		return nil
	}
}

func (d *decoder) uint8(p *uint8) func() error {
	return func() error {
		v, err := d.uint(8)
		*p = uint8(v)
		return err
	}
}

func (d *decoder) uint16(p *uint16) func() error {
	return func() error {
		v, err := d.uint(16)
		*p = uint16(v)
		return err
	}
}

func (d *decoder) uint32(p *uint32) func() error {
	return func() error {
		v, err := d.uint(32)
		*p = uint32(v)
		return err
	}
}

// constant reads an unsigned integer that must have one value.
func (d *decoder) constant(want uint64) func() error {
	return func() error {
		v, err := d.uint(32)
		if err == nil && v != want {
			err = d.errorf("value %d; only %d is supported", v, want)
		}
		return err
	}
}

func (d *decoder) strings(p *[]string) func() error {
	return func() error {
		return d.array(256, func() error {
			s, err := d.str()
			*p = append(*p, s)
			return err
		})
	}
}

// skipString reads a string that only informs people.
func (d *decoder) skipString() error {
	_, err := d.str()
	return err
}

// signedDocument reads {"<name>": {...}, "signature": "<hex>"}, the object with parse, and returns its exact bytes, which are what is
// signed, and the signature.
func signedDocument(b []byte, name string, parse func(*decoder) error) (body []byte, sig [64]byte, err error) {
	if len(b) > maxCollateral {
		return nil, sig, fmt.Errorf("%d bytes (limit %d)", len(b), maxCollateral)
	}
	d := &decoder{s: string(b)}
	err = d.object(fields{
		{name, func() error {
			d.space()
			start := d.pos
			err := parse(d)
			body = bytes.Clone(b[start:d.pos])
			return err
		}},
		{"signature", d.hex(sig[:])},
	})
	if err == nil {
		err = d.end()
	}
	return body, sig, err
}

// signedBody reads with parse an object that is kept apart from its signature.
func signedBody(b []byte, parse func(*decoder) error) ([]byte, error) {
	if len(b) > maxCollateral {
		return nil, fmt.Errorf("%d bytes (limit %d)", len(b), maxCollateral)
	}
	d := &decoder{s: string(b)}
	if err := parse(d); err != nil {
		return nil, err
	}
	return bytes.Clone(b), d.end()
}
