// Package cli is what the commands share: errors with a hint and an exit code
// for each class of failure, strict configuration files, text that is safe on a
// terminal, and the addresses that host and enclave listen on. Its room command
// runs them.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// Exit codes.
const (
	Refused     = 1 // evidence, answer or peer was judged, and refused
	Usage       = 2 // the command line, a file or a configuration is wrong
	Missing     = 3 // collateral is missing: more of it could change the verdict
	Unreachable = 4 // host, enclave, engine or chain does not answer
	Money       = 5 // balance or credit does not suffice

	Interrupted = 130 // by a signal, as shells count it
	Unread      = 141 // whoever read the output has left, as shells count it
)

// An Error ends a command.
type Error struct {
	Code int // exit code
	Err  error
	Hint string // what to do about it; may be empty
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error.
func Errorf(code int, hint, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...), hint}
}

// ReadFile reads a file, pipe or device of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Errorf(Usage, "check the path", "%s: no such file", path)
	}
	if err != nil {
		return nil, Errorf(Usage, "check the path and its permissions", "%w", err)
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err == nil && info.IsDir():
		return nil, Errorf(Usage, "name a file in it", "%s is a directory", path)
	case err == nil && info.Size() > limit:
		return nil, Errorf(Usage, "is it the right file?", "%s: %d bytes, limit %d", path, info.Size(), limit)
	}
	return read(f, path, limit)
}

// ReadInput is ReadFile, and "-" is standard input.
func ReadInput(stdin io.Reader, path string, limit int64) ([]byte, error) {
	if path == "-" {
		return read(stdin, "standard input", limit)
	}
	return ReadFile(path, limit)
}

func read(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, Errorf(Usage, "check the path and its permissions", "%w", err)
	}
	if int64(len(b)) > limit {
		return nil, Errorf(Usage, "is it the right file?", "%s: more than %d bytes", name, limit)
	}
	return b, nil
}

// EncodingOr is a hint for who could not read a document: about its encoding, if that is why.
func EncodingOr(document []byte, hint string) string {
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(string(document), mark) {
			return "it begins with a byte order mark: save it as UTF-8 without one"
		}
	}
	return hint
}

// ReadConfig decodes a JSON configuration file strictly.
func ReadConfig(path string, v any) ([]byte, error) {
	b, err := ReadFile(path, 1<<20)
	if err != nil {
		return nil, err
	}
	if err := strictjson.Decode(b, 1<<20, v); err != nil {
		return nil, ConfigError(path, b, err)
	}
	return b, nil
}

// ConfigError is why the configuration file at path could not be decoded.
func ConfigError(path string, document []byte, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return Errorf(Usage, "give "+want(wrong.Type), "%s: %s is a JSON %s", path, wrong.Field, wrong.Value)
	}
	return Errorf(Usage, EncodingOr(document, "fix the file: unknown and repeated members are refused"), "%s: %w", path, err)
}

// want describes what JSON a type takes.
func want(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 to %d, without quotes", uint64(1)<<(t.Bits()-1)<<1-1)
	case reflect.Int32, reflect.Int64:
		return "a whole number, without quotes"
	case reflect.String:
		return "a text in quotes"
	case reflect.Slice:
		return "a list in [ ]"
	case reflect.Struct, reflect.Map:
		return "an object in { }"
	}
	return "a " + t.String()
}

// ReadSecret reads a small file that only its owner may read.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Errorf(Usage, "check the path", "%s: no such file", path)
	}
	if err != nil {
		return nil, Errorf(Usage, "check the path", "%w", err)
	}
	if info.IsDir() {
		return nil, Errorf(Usage, "name a file in it", "%s is a directory", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, Errorf(Usage, "chmod 600 "+path, "%s: others may read it", path)
	}
	return ReadFile(path, 1<<16)
}
