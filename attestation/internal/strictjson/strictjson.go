// Package strictjson reads and writes JSON (RFC 8259) documents that have exactly one meaning.
//
// encoding/json accepts members that differ only in case, keeps the last of duplicate members, ignores unknown ones and
// leaves missing ones at their zero value. In a document that decides what to trust, each of those lets two readers
// disagree. Here every one is an error.
//
// The Go type is the schema:
//
//   - struct: an object with exactly the members named by the json tags. A member is required unless its tag ends in
//     ",optional" (the field is then a pointer, slice or map, nil when absent).
//   - []byte: canonical standard base64 with padding (RFC 4648, section 4).
//   - [N]byte: lower-case hexadecimal, exactly 2N characters.
//   - time.Time: RFC 3339 in UTC with the suffix Z and whole seconds.
//   - string, bool, signed and unsigned integers (no fraction, no exponent), slices and map[string]T.
//   - a type with UnmarshalText and MarshalText: a string, judged by that type.
//   - Raw: any well-formed value, kept as it is written.
//
// null is never accepted.
//
// The module's internal/strictjson guards encoding/json, and checks bodies of any shape without allocating; attestation imports
// nothing else of the module, and its documents want the stricter reading.
package strictjson

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrTooLarge reports a document above the caller's limit.
var ErrTooLarge = errors.New("document too large")

// Unmarshal decodes data, at most limit bytes of it, into v, a non-nil pointer.
func Unmarshal(data []byte, v any, limit int) error {
	if len(data) > limit {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(data), limit)
	}
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	c := &cursor{data: data}
	if err := c.value(reflect.ValueOf(v).Elem()); err != nil {
		return err
	}
	if c.peek() != 0 || c.pos != len(data) {
		return errors.New("data after the document")
	}
	return nil
}

// at puts the member or index name in front of err, so that the user can find the place.
func at(name string, err error) error {
	var p *pathError
	if errors.As(err, &p) {
		sep := "."
		if strings.HasPrefix(p.path, "[") {
			sep = ""
		}
		return &pathError{name + sep + p.path, p.err}
	}
	return &pathError{name, err}
}

type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

// cursor walks the text. It checks the grammar of RFC 8259 as it goes: the Go type says what comes next, so that nothing
// is ever skipped.
type cursor struct {
	data []byte
	pos  int
}

// peek skips white space and returns the first byte of the next token, 0 at the end.
func (c *cursor) peek() byte {
	for c.pos < len(c.data) {
		switch b := c.data[c.pos]; b {
		case ' ', '\t', '\r', '\n':
			c.pos++
		default:
			return b
		}
	}
	return 0
}

// want steps over one byte of punctuation.
func (c *cursor) want(b byte) error {
	if c.peek() != b {
		return fmt.Errorf("want %q, found %s", b, kindOf(c.peek()))
	}
	c.pos++
	return nil
}

// raw returns the inside of a string as written, and whether it holds escapes.
func (c *cursor) raw() (inside []byte, escaped bool, err error) {
	if c.peek() != '"' {
		return nil, false, fmt.Errorf("want a string, found %s", kindOf(c.peek()))
	}
	c.pos++
	start := c.pos
	for ; c.pos < len(c.data); c.pos++ {
		switch b := c.data[c.pos]; {
		case b == '"':
			inside = c.data[start:c.pos]
			c.pos++
			return inside, escaped, nil
		case b == '\\':
			escaped = true
			c.pos++
		case b < 0x20:
			return nil, false, errors.New("control character in a string")
		}
	}
	return nil, false, errors.New("string without an end")
}

func (c *cursor) str() (string, error) {
	inside, escaped, err := c.raw()
	if err != nil || !escaped {
		return string(inside), err
	}
	// Escapes are rare here; encoding/json knows them all.
	var s string
	if err := json.Unmarshal(c.data[c.pos-len(inside)-2:c.pos], &s); err != nil {
		return "", errors.New("string with a bad escape")
	}
	return s, nil
}

// literal returns a number, true, false or null as written.
func (c *cursor) literal() string {
	c.peek()
	start := c.pos
	for c.pos < len(c.data) {
		switch c.data[c.pos] {
		case ' ', '\t', '\r', '\n', ',', ']', '}', ':', '"', '{', '[':
			return string(c.data[start:c.pos])
		}
		c.pos++
	}
	return string(c.data[start:c.pos])
}

// integer returns a number as written, or "" when it is not a plain integer: strconv takes "+1" and "01", JSON does not.
func (c *cursor) integer() string {
	s := c.literal()
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits != "0" && (digits[0] < '1' || digits[0] > '9') {
		return ""
	}
	return s
}

func kindOf(b byte) string {
	switch b {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	case 0:
		return "the end"
	case ']', '}', ',', ':':
		return fmt.Sprintf("%q", b)
	default:
		return "a number"
	}
}

// Raw is the text of a value that somebody else reads.
type Raw []byte

var (
	rawType    = reflect.TypeFor[Raw]()
	timeType   = reflect.TypeFor[time.Time]()
	byteSlice  = reflect.TypeFor[[]byte]()
	textReader = reflect.TypeFor[encoding.TextUnmarshaler]()
	textWriter = reflect.TypeFor[encoding.TextMarshaler]()
)

func (c *cursor) value(v reflect.Value) error {
	t := v.Type()
	switch {
	case t == rawType:
		return c.copy(v)
	case t == timeType:
		s, err := c.str()
		if err != nil {
			return err
		}
		tm, err := parseTime(s)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(tm))
		return nil
	case reflect.PointerTo(t).Implements(textReader):
		s, err := c.str()
		if err != nil {
			return err
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
	case t == byteSlice:
		b, err := c.base64()
		if err != nil {
			return err
		}
		v.SetBytes(b)
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return c.value(v.Elem())
	case reflect.String:
		s, err := c.str()
		if err != nil {
			return err
		}
		v.SetString(s)
		return nil
	case reflect.Bool:
		switch c.literal() {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			return errors.New("want true or false")
		}
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(c.integer(), 10, t.Bits())
		if err != nil {
			return fmt.Errorf("want a whole number of at most %d bits", t.Bits())
		}
		v.SetInt(n)
		return nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(c.integer(), 10, t.Bits())
		if err != nil {
			return fmt.Errorf("want a non-negative whole number of at most %d bits", t.Bits())
		}
		v.SetUint(n)
		return nil
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			s, err := c.str()
			if err != nil {
				return err
			}
			return decodeHex(v, s)
		}
	case reflect.Slice:
		return c.slice(v)
	case reflect.Map:
		return c.dict(v)
	case reflect.Struct:
		return c.object(v)
	}
	panic("strictjson: unsupported type " + t.String()) // a mistake in this module's own types
}

// copy takes one value as it is written.
func (c *cursor) copy(v reflect.Value) error {
	c.peek()
	d := json.NewDecoder(bytes.NewReader(c.data[c.pos:]))
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return errors.New("not well-formed")
	}
	c.pos += int(d.InputOffset())
	v.SetBytes(raw)
	return nil
}

func (c *cursor) slice(v reflect.Value) error {
	if c.peek() != '[' {
		return fmt.Errorf("want an array, found %s", kindOf(c.peek()))
	}
	c.pos++
	out := reflect.MakeSlice(v.Type(), 0, 0)
	for i := 0; c.peek() != ']'; i++ {
		if i > 0 {
			if err := c.want(','); err != nil {
				return err
			}
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := c.value(e); err != nil {
			return at("["+strconv.Itoa(i)+"]", err)
		}
		out = reflect.Append(out, e)
	}
	c.pos++
	v.Set(out)
	return nil
}

// members calls f for each member's name with the cursor at its value.
func (c *cursor) members(f func(name string) error) error {
	if c.peek() != '{' {
		return fmt.Errorf("want an object, found %s", kindOf(c.peek()))
	}
	c.pos++
	for first := true; c.peek() != '}'; first = false {
		if !first {
			if err := c.want(','); err != nil {
				return err
			}
		}
		name, err := c.str()
		if err != nil {
			return err
		}
		if err := c.want(':'); err != nil {
			return at(name, err)
		}
		if err := f(name); err != nil {
			return at(name, err)
		}
	}
	c.pos++
	return nil
}

func (c *cursor) dict(v reflect.Value) error {
	out := reflect.MakeMap(v.Type())
	err := c.members(func(name string) error {
		k := reflect.ValueOf(name).Convert(v.Type().Key())
		if out.MapIndex(k).IsValid() {
			return errors.New("duplicate member")
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := c.value(e); err != nil {
			return err
		}
		out.SetMapIndex(k, e)
		return nil
	})
	if err != nil {
		return err
	}
	v.Set(out)
	return nil
}

func (c *cursor) object(v reflect.Value) error {
	t := v.Type()
	seen := make([]bool, t.NumField())
	err := c.members(func(name string) error {
		for i := range t.NumField() {
			if n, _ := tag(t.Field(i)); n == name {
				if seen[i] {
					return errors.New("duplicate member")
				}
				seen[i] = true
				return c.value(v.Field(i))
			}
		}
		return errors.New("unknown member")
	})
	if err != nil {
		return err
	}
	for i, ok := range seen {
		if n, optional := tag(t.Field(i)); !ok && !optional {
			return at(n, errors.New("missing"))
		}
	}
	return nil
}

func tag(f reflect.StructField) (name string, optional bool) {
	name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, rest == "optional"
}

var errBase64 = errors.New("not canonical base64")

// base64 reads a string of base64. These strings are long, and their alphabet has neither escapes nor control characters: unlike
// raw, it need not look at every byte for those.
func (c *cursor) base64() ([]byte, error) {
	if c.peek() != '"' {
		return nil, fmt.Errorf("want a string, found %s", kindOf(c.peek()))
	}
	c.pos++
	n := bytes.IndexByte(c.data[c.pos:], '"')
	if n < 0 {
		return nil, errors.New("string without an end")
	}
	s := c.data[c.pos : c.pos+n]
	c.pos += n + 1
	if bytes.IndexByte(s, '\n') >= 0 || bytes.IndexByte(s, '\r') >= 0 { // the decoder would skip them
		return nil, errBase64
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(n))
	n, err := base64.StdEncoding.Strict().Decode(b, s)
	if err != nil {
		return nil, errBase64
	}
	return b[:n], nil
}

func decodeHex(v reflect.Value, s string) error {
	if len(s) != 2*v.Len() || strings.ToLower(s) != s {
		return fmt.Errorf("want %d lower-case hexadecimal characters", 2*v.Len())
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return fmt.Errorf("want %d lower-case hexadecimal characters", 2*v.Len())
	}
	reflect.Copy(v, reflect.ValueOf(b))
	return nil
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err != nil || t.Format("2006-01-02T15:04:05Z") != s {
		return time.Time{}, errors.New("want a time such as 2026-01-31T23:59:59Z")
	}
	return t, nil
}

// Marshal encodes v, a value of the kinds above, without white space; Unmarshal accepts the result.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := encode(&b, reflect.ValueOf(v)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func quote(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string always encodes
	b.Truncate(b.Len() - 1)
}

func encode(b *bytes.Buffer, v reflect.Value) error {
	t := v.Type()
	switch {
	case t == rawType:
		b.Write(v.Bytes())
		return nil
	case t == timeType:
		quote(b, v.Interface().(time.Time).UTC().Format("2006-01-02T15:04:05Z"))
		return nil
	case t.Implements(textWriter):
		s, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return err
		}
		quote(b, string(s))
		return nil
	case t == byteSlice:
		quote(b, base64.StdEncoding.EncodeToString(v.Bytes()))
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return encode(b, v.Elem())
	case reflect.String:
		quote(b, v.String())
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Array:
		raw := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(raw), v)
		quote(b, hex.EncodeToString(raw))
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := encode(b, v.Index(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case reflect.Map:
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteByte(',')
			}
			quote(b, k.String())
			b.WriteByte(':')
			if err := encode(b, v.MapIndex(k)); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case reflect.Struct:
		b.WriteByte('{')
		first := true
		for i := range t.NumField() {
			name, optional := tag(t.Field(i))
			if optional && v.Field(i).IsNil() {
				continue
			}
			if !first {
				b.WriteByte(',')
			}
			first = false
			quote(b, name)
			b.WriteByte(':')
			if err := encode(b, v.Field(i)); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		return fmt.Errorf("strictjson: unsupported type %s", t)
	}
	return nil
}
