package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var v struct {
		A int `json:"a"`
	}
	if _, err := ReadConfig(write("good", `{"a":3}`, 0o600), &v); err != nil || v.A != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := ReadSecret(write("secret", "x", 0o600)); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"unknown member": second(ReadConfig(write("bad", `{"b":3}`, 0o600), &v)),
		"wrong type":     second(ReadConfig(write("type", `{"a":"3"}`, 0o600), &v)),
		"no secret":      second(ReadSecret(filepath.Join(dir, "none"))),
		"missing file":   second(ReadFile(filepath.Join(dir, "none"), 10)),
		"folder":         second(ReadFile(dir, 10)),
		"endless":        second(ReadFile("/dev/zero", 10)),
		"endless input":  second(ReadInput(zeros{}, "-", 10)),
		"too long":       second(ReadFile(write("long", "0123456789a", 0o600), 10)),
		"open secret":    second(ReadSecret(write("open", "x", 0o644))),
	} {
		var e *Error
		if !errors.As(err, &e) || e.Code != Usage || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestInput(t *testing.T) {
	if b, err := ReadInput(strings.NewReader("0123456789"), "-", 10); err != nil || len(b) != 10 {
		t.Errorf("%q, %v", b, err)
	}
	var v struct{}
	path := filepath.Join(t.TempDir(), "bom")
	if err := os.WriteFile(path, []byte("\ufeff{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := ReadConfig(path, &v); !errors.As(err, &e) || !strings.Contains(e.Hint, "byte order mark") {
		t.Errorf("%v", err)
	}
}

func second(_ []byte, err error) error { return err }

func TestAddr(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, s := range []string{"unix:" + path, "tcp:127.0.0.1:0", "tcp:[::1]:80", "vsock:3:5000", "vsock:5000"} {
		if a, err := ParseAddr(s); err != nil || a.String() != s {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "unix:", "tcp:0.0.0.0:80", "tcp:example.com:80", "tcp:127.0.0.1", "udp:x", "vsock:a:b", "/path"} {
		if a, err := ParseAddr(s); err == nil {
			t.Errorf("%q: accepted as %v", s, a)
		}
	}
	if r, _ := ParseAddr("unix:s"); r.In("d").String() != "unix:d/s" || r.In("").String() != "unix:s" {
		t.Error("a relative path is not in its folder")
	}
	a, _ := ParseAddr("unix:" + path)
	a = a.In("d")
	// A socket that a killed process left behind is replaced; a live one is not.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.Listen(); err == nil {
		again.Close()
		t.Error("listened where somebody else does")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = a.Listen(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
	}()
	c, err := a.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
