package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"ok"}, 0, ""},
		{[]string{"refuse"}, Refused, "tool: error: no\n"},
		{[]string{"money"}, Money, "tool: error: empty\ntool: hint: top up\n"},
		{[]string{"ok", "extra"}, Usage, "hint: see tool ok --help"},
		{[]string{"ok", "--nope"}, Usage, "hint: see tool ok --help"},
		{[]string{"nope"}, Usage, "hint: see tool --help"},
	} {
		root := &cobra.Command{Use: "tool"}
		run := func(err error) func(*cobra.Command, []string) error {
			return func(*cobra.Command, []string) error { return err }
		}
		root.AddCommand(&cobra.Command{Use: "ok", Args: cobra.NoArgs, RunE: run(nil)},
			&cobra.Command{Use: "refuse", RunE: run(errors.New("no"))},
			&cobra.Command{Use: "money", RunE: run(Errorf(Money, "top up", "empty"))})
		var stderr bytes.Buffer
		root.SetErr(&stderr)
		root.SetOut(io.Discard)
		root.SetArgs(c.args)
		if code := Run(context.Background(), root); code != c.code || !strings.Contains(stderr.String(), c.err) {
			t.Errorf("%v: exit %d, %q; want %d, %q", c.args, code, stderr.String(), c.code, c.err)
		}
	}
}

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
		"missing file":   second(ReadFile(filepath.Join(dir, "none"), 10)),
		"too long":       second(ReadFile(write("long", "0123456789a", 0o600), 10)),
		"open secret":    second(ReadSecret(write("open", "x", 0o644))),
	} {
		var e *Error
		if !errors.As(err, &e) || e.Code != Usage || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
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
	a, _ := ParseAddr("unix:" + path)
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
