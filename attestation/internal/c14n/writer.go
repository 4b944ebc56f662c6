package c14n

import (
	"io"
	"strings"
)

// Writer writes a subtree in canonical form (Canonical XML 1.1, 2.3): all tokens from a Start to its End.
type Writer struct {
	w     io.Writer
	buf   []byte
	begun bool
}

// flushAt is how much a Writer collects: small writes are slow for a hash.
const flushAt = 1 << 10

// NewWriter returns a writer to w, which must not fail, as a hash does not.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, buf: make([]byte, 0, 2*flushAt)} }

// Write writes the token that r returned last. The first one that a Writer gets is the apex: it takes the namespaces of all its
// ancestors with it (2.4).
func (w *Writer) Write(r *Reader) {
	t := &r.token
	switch t.Kind {
	case Start:
		declared := t.declared
		if !w.begun {
			w.begun = true
			declared = r.inScope()
		}
		w.raw("<")
		w.raw(t.qname)
		for _, d := range declared {
			w.raw(" xmlns")
			if d.Prefix != "" {
				w.raw(":")
				w.raw(d.Prefix)
			}
			w.value(d.URI)
		}
		for i := range t.Attrs {
			a := &t.Attrs[i]
			w.raw(" ")
			if a.prefix != "" {
				w.raw(a.prefix)
				w.raw(":")
			}
			w.raw(a.Local)
			w.value(a.Value)
		}
		w.raw(">")
	case End:
		w.raw("</")
		w.raw(t.qname)
		w.raw(">")
	case Text:
		w.escaped(t.Text, "&<>\r")
	}
}

func (w *Writer) value(s string) {
	w.raw(`="`)
	w.escaped(s, "&<\"\t\n\r")
	w.raw(`"`)
}

func (w *Writer) escaped(s, special string) {
	for {
		n := strings.IndexAny(s, special)
		if n < 0 {
			w.raw(s)
			return
		}
		w.raw(s[:n])
		switch s[n] {
		case '&':
			w.raw("&amp;")
		case '<':
			w.raw("&lt;")
		case '>':
			w.raw("&gt;")
		case '"':
			w.raw("&quot;")
		case '\t':
			w.raw("&#x9;")
		case '\n':
			w.raw("&#xA;")
		case '\r':
			w.raw("&#xD;")
		}
		s = s[n+1:]
	}
}

func (w *Writer) raw(s string) {
	for len(s) > 0 {
		n := min(len(s), flushAt)
		w.buf, s = append(w.buf, s[:n]...), s[n:]
		if len(w.buf) >= flushAt {
			w.Flush()
		}
	}
}

// Flush must be called after the last token.
func (w *Writer) Flush() {
	w.w.Write(w.buf)
	w.buf = w.buf[:0]
}
