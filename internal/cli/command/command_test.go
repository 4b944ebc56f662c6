package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"ok"}, 0, ""},
		{[]string{"--version"}, 0, ""},
		{[]string{"refuse"}, cli.Refused, "tool: error: no\n"},
		{[]string{"money"}, cli.Money, "tool: error: empty\ntool: hint: top up\n"},
		{[]string{"ok", "extra"}, cli.Usage, "hint: see tool ok --help"},
		{[]string{"ok", "--nope"}, cli.Usage, "hint: see tool ok --help"},
		{[]string{"ok", "-n"}, cli.Usage, "unknown shorthand flag: 'n' in -n\ntool: hint: see tool ok --help"},
		{[]string{"ok", "-1.5"}, cli.Usage, "error: -1.5: amounts and numbers have no sign\ntool: hint: see tool ok --help"},
		{[]string{"ok", "-.5"}, cli.Usage, "error: -.5: amounts and numbers have no sign"},
		{[]string{"ok", "--count", "x"}, cli.Usage, "error: invalid argument \"x\" for \"--count\" flag\ntool: hint: see tool ok --help"},
		{[]string{"nope"}, cli.Usage, "hint: see tool --help"},
		{[]string{"group"}, 0, ""},
		{[]string{"help", "group"}, 0, ""},
		{[]string{"help"}, 0, ""},
		{[]string{"help", "help"}, 0, ""},
		{[]string{"help", "group", "one"}, 0, ""},
		{[]string{"help", "nope"}, cli.Usage, "error: unknown command \"nope\" for \"tool\"\ntool: hint: see tool --help"},
		{[]string{"help", "group", "nope"}, cli.Usage, "error: unknown command \"nope\" for \"tool group\"\ntool: hint: see tool group --help"},
		{[]string{"help", "ok", "extra"}, cli.Usage, "error: unknown command \"extra\" for \"tool ok\"\ntool: hint: see tool ok --help"},
		{[]string{"group", "nope"}, cli.Usage, "error: unknown command \"nope\" for \"tool group\"\ntool: hint: see tool group --help"},
	} {
		root := &cobra.Command{Use: "tool"}
		run := func(err error) func(*cobra.Command, []string) error {
			return func(*cobra.Command, []string) error { return err }
		}
		ok, group := &cobra.Command{Use: "ok", Args: cobra.NoArgs, RunE: run(nil)}, &cobra.Command{Use: "group"}
		ok.Flags().Int("count", 0, "")
		group.AddCommand(&cobra.Command{Use: "one", RunE: run(nil)})
		root.AddCommand(ok, group,
			&cobra.Command{Use: "refuse", RunE: run(errors.New("no"))},
			&cobra.Command{Use: "money", RunE: run(cli.Errorf(cli.Money, "top up", "empty"))})
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
	if code, text := run(ctx, w, func(c *cobra.Command) error { c.OutOrStdout().Write([]byte("x")); return nil }); code != cli.Usage || !strings.Contains(text, "tool: hint: make room") {
		t.Errorf("full: %d, %s", code, text)
	}
	left, w := io.Pipe() // as head leaves: no failure, nothing to say, and an end in good order
	left.CloseWithError(&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE})
	if code, text := run(ctx, w, func(c *cobra.Command) error {
		c.OutOrStdout().Write([]byte("x"))
		<-c.Context().Done()
		return c.Context().Err()
	}); code != cli.Unread || text != "" {
		t.Errorf("left: %d, %s", code, text)
	}
	peer := cli.Errorf(cli.Refused, "ask \x1b[2J again", "it says \x1b]0;owned\x07 \u009b31m \u202eno")
	if code, text := run(ctx, io.Discard, func(*cobra.Command) error { return peer }); code != cli.Refused || strings.ContainsAny(text, "\x1b\x07\u009b\u202e") {
		t.Errorf("peer: %d, %q", code, text)
	}
	cancel()
	if code, text := run(ctx, io.Discard, func(c *cobra.Command) error { return c.Context().Err() }); code != cli.Interrupted || text != "tool: error: interrupted\n" {
		t.Errorf("signal: %d, %s", code, text)
	}
	if code, text := run(ctx, io.Discard, func(c *cobra.Command) error {
		return cli.Errorf(cli.Unreachable, "look again", "it hangs: %w", c.Context().Err())
	}); code != cli.Interrupted || !strings.Contains(text, "hint: look again") {
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
