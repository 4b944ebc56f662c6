// Package c14n reads XML documents of a strict subset as a stream of tokens, and writes tokens in canonical form (Canonical XML 1.1,
// without comments). No tree is built: memory does not depend on a document's size, but for values with references in them.
//
// The subset is UTF-8 with ASCII names, without DOCTYPE, processing instructions and attributes of the xml namespace. Whatever is
// outside of it is an error, as is everything that XML 1.0 and Namespaces in XML 1.0 forbid.
package c14n

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a document: how deep elements may nest, how many there may be, and how many attributes and namespace
// declarations each may have.
type Limits struct{ Depth, Elements, Attrs int }

// Kind is the kind of a token.
type Kind int

const (
	Start Kind = iota + 1
	End
	Text
)

// Name is an expanded name: the namespace's URI, empty for none, and the local name.
type Name struct{ Space, Local string }

// Attr is an attribute with its normalized value (XML 1.0, 3.3.3, as of type CDATA).
type Attr struct {
	Name
	Value  string
	prefix string
}

// Binding is what a prefix stands for; the prefix of the default namespace is empty.
type Binding struct{ Prefix, URI string }

// Token is a start tag, an end tag or a piece of an element's text; an element without content has both tags.
// It is valid until the next one is read.
type Token struct {
	Kind  Kind
	Name  Name
	Attrs []Attr // of a Start, by namespace and then name
	Text  string // of a Text: one stretch of it, what is escaped already read

	qname    string
	declared []Binding // of a Start: those that change what is in force, by prefix
}

// Attr returns the value of an attribute, and whether there is one.
func (t *Token) Attr(space, local string) (string, bool) {
	for i := range t.Attrs {
		if a := &t.Attrs[i]; a.Local == local && a.Space == space {
			return a.Value, true
		}
	}
	return "", false
}

// Reader reads one document.
type Reader struct {
	s        string
	limits   Limits
	elements int
	rootDone bool
	pending  bool // the last Start was that of an element without content
	open     []element
	scope    []Binding // all declared in open elements, innermost last
	token    Token
}

type element struct {
	qname string
	name  Name
	scope int // length of Reader.scope outside it
}

// NewReader returns a reader of doc.
func NewReader(doc string, limits Limits) (*Reader, error) {
	for i, c := range doc {
		if c == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(doc[i:]); size == 1 {
				return nil, errors.New("XML: not UTF-8")
			}
		}
		if !isChar(c) {
			return nil, fmt.Errorf("XML: character %U is not allowed", c)
		}
	}
	r := &Reader{s: doc, limits: limits}
	if rest, ok := strings.CutPrefix(doc, "<?xml"); ok && rest != "" && isSpace(rest[0]) {
		r.s = rest
		if err := r.declaration(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// isChar is Char of XML 1.0.
func isChar(c rune) bool {
	return c >= 0x20 && c != 0xfffe && c != 0xffff && (c < 0xd800 || c > 0xdfff) && c <= 0x10ffff || c == '\t' || c == '\n' || c == '\r'
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// declaration reads what follows "<?xml" (XML 1.0, 2.8).
func (r *Reader) declaration() error {
	malformed := errors.New("XML: the declaration is not one of XML 1.0 in UTF-8")
	for _, p := range []struct {
		name     string
		required bool
		values   []string
	}{{"version", true, []string{"1.0"}}, {"encoding", false, []string{"utf-8"}}, {"standalone", false, []string{"yes", "no"}}} {
		before := r.s
		spaced := r.space()
		if !strings.HasPrefix(r.s, p.name) {
			if p.required {
				return malformed
			}
			r.s = before
			continue
		}
		r.s = r.s[len(p.name):]
		value, err := r.value()
		if err != nil || !spaced || !slices.Contains(p.values, strings.ToLower(value)) {
			return malformed
		}
	}
	r.space()
	rest, ok := strings.CutPrefix(r.s, "?>")
	if !ok {
		return malformed
	}
	r.s = rest
	return nil
}

// space skips white space, and says whether there was any.
func (r *Reader) space() bool {
	n := 0
	for n < len(r.s) && isSpace(r.s[n]) {
		n++
	}
	r.s = r.s[n:]
	return n > 0
}

// Next returns the next token, or nil after the last.
func (r *Reader) Next() (*Token, error) {
	if r.pending {
		r.pending = false
		return r.end(r.open[len(r.open)-1].qname)
	}
	for {
		if len(r.open) == 0 {
			r.space()
			if r.s == "" {
				if !r.rootDone {
					return nil, errors.New("XML: no element")
				}
				return nil, nil
			}
			if r.s[0] != '<' {
				return nil, errors.New("XML: text outside the root element")
			}
		} else if r.s == "" {
			return nil, fmt.Errorf("XML: element %s is not closed", r.open[len(r.open)-1].qname)
		}
		switch {
		case r.s[0] != '<':
			n := strings.IndexByte(r.s, '<')
			if n < 0 {
				n = len(r.s)
			}
			if strings.Contains(r.s[:n], "]]>") {
				return nil, errors.New(`XML: "]]>" in text`)
			}
			raw := r.s[:n]
			r.s = r.s[n:]
			return r.text(raw, inText)
		case strings.HasPrefix(r.s, "<!--"):
			_, rest, ok := strings.Cut(r.s[4:], "--")
			if !ok || !strings.HasPrefix(rest, ">") {
				return nil, errors.New("XML: malformed comment")
			}
			r.s = rest[1:]
		case strings.HasPrefix(r.s, "<![CDATA[") && len(r.open) > 0:
			text, rest, ok := strings.Cut(r.s[9:], "]]>")
			if !ok {
				return nil, errors.New("XML: a CDATA section is not closed")
			}
			r.s = rest
			return r.text(text, inCDATA)
		case strings.HasPrefix(r.s, "<!DOCTYPE"):
			return nil, errors.New("XML: a DOCTYPE is not allowed")
		case strings.HasPrefix(r.s, "<?"):
			return nil, errors.New("XML: processing instructions are not allowed")
		case strings.HasPrefix(r.s, "</"):
			r.s = r.s[2:]
			qname := r.name()
			r.space()
			if rest, ok := strings.CutPrefix(r.s, ">"); ok {
				r.s = rest
				return r.end(qname)
			}
			return nil, errors.New("XML: malformed end tag")
		default:
			r.s = r.s[1:]
			return r.start()
		}
	}
}

func (r *Reader) text(raw, special string) (*Token, error) {
	s, err := unescape(raw, special)
	if err != nil {
		return nil, err
	}
	r.token = Token{Kind: Text, Text: s, Attrs: r.token.Attrs[:0], declared: r.token.declared[:0]}
	return &r.token, nil
}

func (r *Reader) end(qname string) (*Token, error) {
	if len(r.open) == 0 || r.open[len(r.open)-1].qname != qname {
		return nil, fmt.Errorf("XML: end tag %.64q closes nothing", qname)
	}
	e := r.open[len(r.open)-1]
	r.open, r.scope = r.open[:len(r.open)-1], r.scope[:e.scope]
	r.rootDone = len(r.open) == 0
	r.token = Token{Kind: End, Name: e.name, qname: qname, Attrs: r.token.Attrs[:0], declared: r.token.declared[:0]}
	return &r.token, nil
}

// start reads what follows "<".
func (r *Reader) start() (*Token, error) {
	if r.rootDone {
		return nil, errors.New("XML: more than one root element")
	}
	if r.elements++; len(r.open) >= r.limits.Depth || r.elements > r.limits.Elements {
		return nil, fmt.Errorf("XML: more than %d nested or %d elements", r.limits.Depth, r.limits.Elements)
	}
	e := element{qname: r.name(), scope: len(r.scope)}
	prefix, local, err := split(e.qname)
	if err != nil {
		return nil, err
	}
	t := &r.token
	*t = Token{Kind: Start, qname: e.qname, Attrs: t.Attrs[:0], declared: t.declared[:0]}
	for {
		spaced := r.space()
		if rest, ok := strings.CutPrefix(r.s, ">"); ok {
			r.s = rest
			break
		}
		if rest, ok := strings.CutPrefix(r.s, "/>"); ok {
			r.s, r.pending = rest, true
			break
		}
		if !spaced {
			return nil, fmt.Errorf("XML: malformed tag %.64q", e.qname)
		}
		if len(t.Attrs)+len(t.declared) == r.limits.Attrs {
			return nil, fmt.Errorf("XML: an element with more than %d attributes", r.limits.Attrs)
		}
		prefix, local, err := split(r.name())
		if err != nil {
			return nil, err
		}
		raw, err := r.value()
		if err != nil {
			return nil, err
		}
		value, err := unescape(raw, inAttr)
		switch {
		case err != nil:
			return nil, err
		case prefix == "xml":
			return nil, errors.New("XML: attributes of the xml namespace are not supported")
		case prefix == "xmlns":
			t.declared = append(t.declared, Binding{local, value})
		case prefix == "" && local == "xmlns":
			t.declared = append(t.declared, Binding{"", value})
		default:
			t.Attrs = append(t.Attrs, Attr{Name: Name{Local: local}, prefix: prefix, Value: value})
		}
	}
	if err := r.declare(); err != nil {
		return nil, err
	}
	e.name.Local = local
	if e.name.Space, err = r.lookup(prefix); err != nil {
		return nil, err
	}
	for i := range t.Attrs {
		if a := &t.Attrs[i]; a.prefix != "" { // the default namespace is not that of attributes
			if a.Space, err = r.lookup(a.prefix); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(t.Attrs, func(a, b Attr) int { return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Local, b.Local)) })
	for i := range t.Attrs[min(1, len(t.Attrs)):] {
		if t.Attrs[i].Name == t.Attrs[i+1].Name {
			return nil, fmt.Errorf("XML: attribute %.64q appears twice", t.Attrs[i].Local)
		}
	}
	t.Name = e.name
	r.open = append(r.open, e)
	return t, nil
}

const (
	xmlURI   = "http://www.w3.org/XML/1998/namespace"
	xmlnsURI = "http://www.w3.org/2000/xmlns/"
)

// declare brings the declarations of the token into force, and leaves in it those that changed something.
func (r *Reader) declare() error {
	declared := r.token.declared
	slices.SortFunc(declared, func(a, b Binding) int { return cmp.Compare(a.Prefix, b.Prefix) })
	for i, d := range declared {
		switch {
		case i > 0 && declared[i-1].Prefix == d.Prefix:
			return fmt.Errorf("XML: prefix %.64q is declared twice", d.Prefix)
		case d.Prefix == "xml", d.Prefix == "xmlns", d.URI == xmlURI, d.URI == xmlnsURI:
			return errors.New("XML: a declaration of xml or xmlns")
		case d.Prefix != "" && d.URI == "":
			return fmt.Errorf("XML: prefix %.64q is declared as nothing", d.Prefix)
		case d.URI != "" && !strings.Contains(d.URI, ":"): // Canonical XML 1.1, 1.3: relative ones fail
			return fmt.Errorf("XML: namespace %.64q is not an absolute URI", d.URI)
		}
	}
	r.token.declared = slices.DeleteFunc(declared, func(d Binding) bool {
		outer, err := r.lookup(d.Prefix)
		return err == nil && outer == d.URI
	})
	r.scope = append(r.scope, r.token.declared...)
	return nil
}

// lookup returns what prefix stands for.
func (r *Reader) lookup(prefix string) (string, error) {
	for _, b := range slices.Backward(r.scope) {
		if b.Prefix == prefix {
			return b.URI, nil
		}
	}
	if prefix != "" {
		return "", fmt.Errorf("XML: prefix %.64q is not declared", prefix)
	}
	return "", nil
}

// inScope returns all that is in force, by prefix.
func (r *Reader) inScope() []Binding {
	var all []Binding
	for _, b := range slices.Backward(r.scope) {
		if !slices.ContainsFunc(all, func(a Binding) bool { return a.Prefix == b.Prefix }) {
			all = append(all, b)
		}
	}
	all = slices.DeleteFunc(all, func(b Binding) bool { return b.URI == "" })
	slices.SortFunc(all, func(a, b Binding) int { return cmp.Compare(a.Prefix, b.Prefix) })
	return all
}

// name takes a name from the input; it is empty when there is none.
func (r *Reader) name() string {
	n := 0
	for n < len(r.s) {
		c := r.s[n]
		first := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		if !first && (n == 0 || !(c >= '0' && c <= '9' || c == '-' || c == '.' || c == ':')) {
			break
		}
		n++
	}
	name := r.s[:n]
	r.s = r.s[n:]
	return name
}

// split returns prefix and local part of a qualified name.
func split(qname string) (prefix, local string, err error) {
	prefix, local, colon := strings.Cut(qname, ":")
	if !colon {
		prefix, local = "", qname
	}
	if c := (&Reader{s: local}).name(); local == "" || c != local || strings.Contains(local, ":") {
		return "", "", fmt.Errorf("XML: %.64q is not a name in ASCII letters with at most one prefix", qname)
	}
	return prefix, local, nil
}

// value takes "= 'value'" from the input.
func (r *Reader) value() (string, error) {
	r.space()
	rest, ok := strings.CutPrefix(r.s, "=")
	if !ok {
		return "", errors.New("XML: an attribute without a value")
	}
	r.s = rest
	r.space()
	if r.s == "" || r.s[0] != '"' && r.s[0] != '\'' {
		return "", errors.New("XML: an attribute's value without quotes")
	}
	n := strings.IndexByte(r.s[1:], r.s[0])
	if n < 0 {
		return "", errors.New("XML: an attribute's value without an end")
	}
	value := r.s[1 : 1+n]
	if strings.IndexByte(value, '<') >= 0 {
		return "", errors.New(`XML: "<" in an attribute's value`)
	}
	r.s = r.s[n+2:]
	return value, nil
}

// What has to be replaced in text, in attributes and in CDATA sections: references, and line ends (XML 1.0, 2.11) or white space (3.3.3).
const (
	inText  = "&\r"
	inAttr  = "&\r\n\t"
	inCDATA = "\r"
)

// unescape replaces what is special. The result is never longer.
func unescape(raw, special string) (string, error) {
	n := strings.IndexAny(raw, special)
	if n < 0 {
		return raw, nil
	}
	var b strings.Builder
	b.Grow(len(raw))
	for ; n >= 0; n = strings.IndexAny(raw, special) {
		b.WriteString(raw[:n])
		c := raw[n]
		raw = raw[n+1:]
		if c == '&' {
			name, rest, ok := strings.Cut(raw, ";")
			c, err := reference(name)
			if !ok || err != nil {
				return "", fmt.Errorf("XML: unknown entity or malformed reference &%.16s", name)
			}
			b.WriteRune(c)
			raw = rest
			continue
		}
		if c == '\r' {
			raw = strings.TrimPrefix(raw, "\n")
		}
		if special == inAttr {
			b.WriteByte(' ')
		} else {
			b.WriteByte('\n')
		}
	}
	b.WriteString(raw)
	return b.String(), nil
}

// reference returns the character that &name; stands for.
func reference(name string) (rune, error) {
	switch name {
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "amp":
		return '&', nil
	case "quot":
		return '"', nil
	case "apos":
		return '\'', nil
	}
	digits, ok := strings.CutPrefix(name, "#")
	base := 10
	if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
		digits, base = hex, 16
	}
	// ParseUint takes no sign, and with a base given no underscores.
	c, err := strconv.ParseUint(digits, base, 31)
	if !ok || err != nil || !isChar(rune(c)) {
		return 0, errors.New("malformed")
	}
	return rune(c), nil
}
