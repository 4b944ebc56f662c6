// Package apierror is the OpenAI-style error object in which every Bombyx
// program answers over HTTP, so that any OpenAI SDK shows its text.
package apierror

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// An Error is one failure as a client of the OpenAI API sees it.
type Error struct {
	Status  int    // HTTP status
	Type    string // class: "invalid_request_error", "authentication_error", "insufficient_credit", "server_error"...
	Code    string // stable machine-readable code
	Param   string // the request's member at fault, if one is
	Message string // what went wrong
	Hint    string // what to do about it

	RetryAfter int  // seconds; 0 for nothing to say
	Final      bool // programs are not to ask again by themselves
}

// New returns an error with the type that usually goes with the status.
func New(status int, code, message, hint string) *Error {
	return &Error{Status: status, Type: typeOf(status), Code: code, Message: message, Hint: hint}
}

// After says when to try again: Retry-After, in whole seconds and at least one.
func (e *Error) After(wait time.Duration) *Error {
	e.RetryAfter = max(1, int((wait+time.Second-1)/time.Second))
	return e
}

func typeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "authentication_error"
	case status == http.StatusPaymentRequired:
		return "insufficient_credit"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status < 500:
		return "invalid_request_error"
	}
	return "server_error"
}

// Error implements error.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

type object struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	} `json:"error"`
}

// JSON returns the error object.
func (e *Error) JSON() []byte {
	var o object
	o.Error.Message = e.Error()
	o.Error.Type = e.Type
	if e.Param != "" {
		o.Error.Param = &e.Param
	}
	if e.Code != "" {
		o.Error.Code = &e.Code
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings always encode
	}
	return b
}

// Write answers a request with the error object.
func (e *Error) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	w.Write(e.JSON())
}

// Read turns an HTTP answer that is not what was asked for into an Error, whatever
// its body: at most 64 KiB of it are read. One that states no error is a bad gateway's.
func Read(resp *http.Response) *Error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	status := resp.StatusCode
	if status < 400 || status > 599 {
		status = http.StatusBadGateway
	}
	e := New(status, "", "", "")
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = int(s)
	}
	var o object
	if json.Unmarshal(b, &o) != nil || o.Error.Message == "" {
		e.Message = fmt.Sprintf("peer answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
		return e
	}
	e.Message = printable(o.Error.Message, 4096)
	if o.Error.Type != "" {
		e.Type = printable(o.Error.Type, 64)
	}
	if o.Error.Param != nil {
		e.Param = printable(*o.Error.Param, 256)
	}
	if o.Error.Code != nil {
		e.Code = printable(*o.Error.Code, 64)
	}
	return e
}

// printable keeps a foreign text from steering the terminal or log that it ends
// up in.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}
