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
		{[]string{"ok", "-n"}, Usage, "unknown shorthand flag: 'n' in -n\ntool: hint: see tool ok --help"},
		{[]string{"ok", "-1.5"}, Usage, "error: -1.5: amounts and numbers have no sign\ntool: hint: see tool ok --help"},
		{[]string{"ok", "-.5"}, Usage, "error: -.5: amounts and numbers have no sign"},
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

// A command whose output is lost, or that a signal ends, has not succeeded; and what a peer says does not steer the terminal.
func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	run := func(ctx context.Context, out io.Writer, f func(*cobra.Command) error) (int, string) {
		root := &cobra.Command{Use: "tool", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return f(c) }}
		var stderr bytes.Buffer
		root.SetErr(&stderr)
		root.SetOut(out)
		root.SetArgs(nil)
		return Run(ctx, root), stderr.String()
	}
	full, w := io.Pipe()
	full.CloseWithError(errors.New("no space left"))
	if code, text := run(ctx, w, func(c *cobra.Command) error { c.OutOrStdout().Write([]byte("x")); return nil }); code != Usage || !strings.Contains(text, "tool: hint: make room") {
		t.Errorf("full: %d, %s", code, text)
	}
	peer := Errorf(Refused, "ask \x1b[2J again", "it says \x1b]0;owned\x07 \u009b31m \u202eno")
	if code, text := run(ctx, io.Discard, func(*cobra.Command) error { return peer }); code != Refused || strings.ContainsAny(text, "\x1b\x07\u009b\u202e") {
		t.Errorf("peer: %d, %q", code, text)
	}
	cancel()
	if code, text := run(ctx, io.Discard, func(c *cobra.Command) error { return c.Context().Err() }); code != Interrupted || text != "tool: error: interrupted\n" {
		t.Errorf("signal: %d, %s", code, text)
	}
	if code, text := run(ctx, io.Discard, func(c *cobra.Command) error {
		return Errorf(Unreachable, "look again", "it hangs: %w", c.Context().Err())
	}); code != Interrupted || !strings.Contains(text, "hint: look again") {
		t.Errorf("signal with a hint: %d, %s", code, text)
	}
}

func TestScreen(t *testing.T) {
	const text = "caf\u00e9 \u65e5\u672c \U0001f9f5\n\x1b[31mred\x07\u0085end\xff\tx\r"
	for size := 1; size < 9; size++ {
		var b bytes.Buffer
		o := &output{w: &b, screen: true}
		for i := 0; i < len(text); i += size {
			if _, err := o.Write([]byte(text[i:min(i+size, len(text))])); err != nil {
				t.Fatal(err)
			}
		}
		if want := "caf\u00e9 \u65e5\u672c \U0001f9f5\n\ufffd[31mred\ufffd\ufffdend\ufffd\tx\ufffd"; b.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size, b.String(), want)
		}
	}
}

func TestHelpFits(t *testing.T) {
	root := &cobra.Command{Use: "tool", RunE: func(*cobra.Command, []string) error { return nil }}
	root.PersistentFlags().String("home", "", strings.Repeat("long words ", 20))
	sub := &cobra.Command{Use: "sub", RunE: root.RunE, Long: strings.Repeat("words, ", 30) + "end.\n\n  a table\n  as it is\n\nIt\nends."}
	sub.Flags().String("flag", "", strings.Repeat("more words ", 20))
	root.AddCommand(sub)
	for i, args := range [][]string{{"--help"}, {"sub", "--help"}} {
		var b bytes.Buffer
		root.SetOut(&b)
		root.SetArgs(args)
		if Run(t.Context(), root) != 0 || !strings.Contains(b.String(), "long words") ||
			i == 1 && !strings.Contains(b.String(), "end.\n\n  a table\n  as it is\n\nIt ends.\n\nUsage:") {
			t.Fatal(b.String())
		}
		for l := range strings.Lines(b.String()) {
			if len(l) > 81 {
				t.Errorf("%d columns: %s", len(l), l)
			}
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
