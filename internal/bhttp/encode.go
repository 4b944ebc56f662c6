package bhttp

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// AppendRequestHead appends framing indicator, control data and header section of req (RFC 9292 sections 3.3 to 3.6).
//
// With length >= 0 the message is of known length and the content length is appended too: exactly length bytes of
// content follow. With length < 0 it is of indeterminate length: content chunks, each after its own AppendVarint length,
// and a zero byte follow. Then comes [AppendTrailer].
//
// The authority is req.Host or, when empty, req.URL.Host; the scheme defaults to https. Content-Length is left out: the
// framing says it.
func AppendRequestHead(b []byte, req *http.Request, length int64) ([]byte, error) {
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	if !validToken(method) || method == http.MethodConnect {
		return nil, fmt.Errorf("bhttp: cannot encode method %q", method)
	}
	if req.URL == nil {
		return nil, errors.New("bhttp: cannot encode a request without a URL")
	}
	scheme := req.URL.Scheme
	if scheme == "" {
		scheme = "https"
	}
	authority := req.Host
	if authority == "" {
		authority = req.URL.Host
	}
	path := req.URL.RequestURI()
	if err := checkTarget(method, scheme, authority, path); err != nil {
		return nil, err
	}
	framing := uint64(knownRequest)
	if length < 0 {
		framing = indeterminateRequest
	}
	b = AppendVarint(b, framing)
	for _, s := range [...]string{method, scheme, authority, path} {
		b = AppendVarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b, err := appendFields(b, req.Header, length >= 0, requestHeader)
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		b = AppendVarint(b, uint64(length))
	}
	return b, nil
}

// AppendResponseFraming appends the framing indicator that starts a response of indeterminate length. Any number of
// [AppendInformational] and then one [AppendResponseHead] follow.
func AppendResponseFraming(b []byte) []byte { return append(b, indeterminateResponse) }

// AppendInformational appends one informational response (RFC 9292 section 3.5.1) of a message of indeterminate length.
// Status 101 is refused: there is no connection to switch.
func AppendInformational(b []byte, status int, h http.Header) ([]byte, error) {
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("bhttp: cannot encode informational status %d", status)
	}
	return appendFields(AppendVarint(b, uint64(status)), h, false, responseHeader)
}

// AppendResponseHead appends final status (200 to 599) and header section of a message of indeterminate length. Content
// chunks, a zero byte and [AppendTrailer] follow.
func AppendResponseHead(b []byte, status int, h http.Header) ([]byte, error) {
	if status < 200 || status > 599 {
		return nil, fmt.Errorf("bhttp: cannot encode final status %d", status)
	}
	return appendFields(AppendVarint(b, uint64(status)), h, false, responseHeader)
}

// AppendTrailer appends a trailer section; known must match the framing of the message. Fields that must not be trailers
// (RFC 9110 section 6.5.1) are an error.
func AppendTrailer(b []byte, h http.Header, known bool) ([]byte, error) {
	return appendFields(b, h, known, trailer)
}

type section int

const (
	requestHeader section = iota
	responseHeader
	trailer
)

// appendFields writes the field lines sorted by name, so that equal messages have equal encodings.
func appendFields(b []byte, h http.Header, known bool, sec section) ([]byte, error) {
	var room [32]string
	names := room[:0]
	conn := h["Connection"]
	for name := range h {
		if name == http.CanonicalHeaderKey(name) && omit(name, conn, sec) {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	size := 0
	for _, name := range names {
		if !validToken(name) {
			return nil, fmt.Errorf("bhttp: cannot encode field name %q", name)
		}
		if sec == trailer && !httpguts.ValidTrailerHeader(name) {
			return nil, fmt.Errorf("bhttp: field %q cannot be a trailer", name)
		}
		for _, v := range h[name] {
			v = trim(v)
			if !validValue(v) {
				// The value may be a secret: name the field only.
				return nil, fmt.Errorf("bhttp: cannot encode the value of field %q: control characters", name)
			}
			size += VarintLen(uint64(len(name))) + len(name) + VarintLen(uint64(len(v))) + len(v)
		}
	}
	if known {
		b = AppendVarint(b, uint64(size))
	}
	for _, name := range names {
		for _, v := range h[name] {
			v = trim(v)
			b = AppendVarint(b, uint64(len(name)))
			at := len(b)
			b = append(b, name...)
			for i, c := range b[at:] {
				if 'A' <= c && c <= 'Z' {
					b[at+i] = c + 'a' - 'A'
				}
			}
			b = AppendVarint(b, uint64(len(v)))
			b = append(b, v...)
		}
	}
	if !known {
		b = append(b, 0)
	}
	return b, nil
}

// omit says whether a canonical field name stays out of the encoding: control data or framing says it, or it belongs to
// a connection (RFC 9110 section 7.6.1).
func omit(name string, connection []string, sec section) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Te":
		return true
	case "Host", "Content-Length":
		// A response keeps Content-Length: it means something of its own for HEAD and 304.
		return sec == requestHeader
	}
	for _, line := range connection {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(trim(option), name) {
				return true
			}
		}
	}
	return false
}

// checkTarget applies RFC 9113 section 8.3.1 to the control data of a request.
func checkTarget(method, scheme, authority, path string) error {
	if scheme != "https" && scheme != "http" {
		return invalid("scheme %.20q is neither http nor https", scheme)
	}
	if !httpguts.ValidHostHeader(authority) || strings.ContainsAny(authority, "@/?# ") {
		return invalid("authority %.80q", authority)
	}
	if path != "*" && !strings.HasPrefix(path, "/") || path == "*" && method != http.MethodOptions {
		return invalid("path does not start with a slash")
	}
	for _, c := range []byte(path) {
		if c <= ' ' || c == 0x7f || c == '#' {
			return invalid("path contains byte %#02x", c)
		}
	}
	return nil
}

func validToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

// validValue applies RFC 9113 section 8.2.1 and, beyond it, refuses the other control characters as RFC 9110 section 5.5
// recommends.
func validValue(s string) bool {
	return s == trim(s) && httpguts.ValidHeaderFieldValue(s)
}

func trim(s string) string { return strings.Trim(s, " \t") }
