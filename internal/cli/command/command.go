// Package command runs a program's commands: their errors with a hint on
// standard error and as an exit code, help texts that fit a terminal, and
// nothing on it that a peer could steer it with.
package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli"
)

// Main runs a command and exits. An interrupt cancels the command's context;
// a second one kills the process. A reader of the output that leaves, such as
// head, does not: the command ends in good order, as Run says.
func Main(root *cobra.Command) {
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, root))
}

// Run runs a command and returns its exit code. A command whose standard
// output could not be written has failed. One that nobody reads any more is
// cancelled, says nothing, and returns cli.Unread.
func Run(ctx context.Context, root *cobra.Command) int {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.Version = version()
	fill(root)
	root.SetUsageFunc(usage)
	var unknown error // cobra takes a wrong word after a group of commands for a wish to see its help
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if rest := c.Flags().Args(); !c.Runnable() && len(rest) > 0 {
			unknown = unknownCommand(c, rest[0])
			return
		}
		help(c, args)
	})
	root.InitDefaultHelpCmd()
	if c, _, _ := root.Find([]string{"help"}); c != root { // that command passes over a wrong word, too
		c.Args = func(_ *cobra.Command, words []string) error {
			if c, rest, _ := root.Find(words); len(rest) > 0 {
				return unknownCommand(c, rest[0])
			}
			return nil
		}
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &output{w: root.OutOrStdout(), screen: terminal(os.Stdout), unread: cancel}
	root.SetOut(out)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		hint := "see " + c.CommandPath() + " --help"
		var unknown interface{ GetSpecifiedShortnames() string } // of pflag's errors
		if errors.As(err, &unknown) {
			if s := unknown.GetSpecifiedShortnames(); s != "" && s[0] >= '0' && s[0] <= '9' || strings.HasPrefix(s, ".") {
				return cli.Errorf(cli.Usage, hint, "-%s: amounts and numbers have no sign", s)
			}
		}
		text, _, _ := strings.Cut(err.Error(), ": strconv.") // what is wrong, without how Go says why
		return cli.Errorf(cli.Usage, hint, "%s", text)
	})
	c, err := root.ExecuteContextC(running)
	if errors.Is(out.err, syscall.EPIPE) {
		return cli.Unread
	}
	if err == nil {
		err = cmp.Or(unknown, out.err)
	}
	if err == nil {
		return 0
	}
	if out.err != nil && errors.Is(err, out.err) {
		err = cli.Errorf(cli.Usage, "make room where the output goes: what is there is not complete", "standard output: %w", out.err)
	}
	var e *cli.Error
	if !errors.As(err, &e) {
		e = &cli.Error{Code: cli.Refused, Err: err}
		if c != nil && (c.Args != nil && c.ValidateArgs(c.Flags().Args()) != nil || c.ValidateFlagGroups() != nil || c.ValidateRequiredFlags() != nil) ||
			isUnknownCommand(err) {
			e = &cli.Error{Code: cli.Usage, Err: err, Hint: "see " + c.CommandPath() + " --help"}
		}
	}
	if ctx.Err() != nil {
		if e.Code = cli.Interrupted; errors.Is(e, context.Canceled) && e.Hint == "" {
			e.Err = errors.New("interrupted")
		}
	}
	fmt.Fprintf(root.ErrOrStderr(), "%s: error: %s\n", root.Name(), cli.Printable(e.Error()))
	if e.Hint != "" {
		fmt.Fprintf(root.ErrOrStderr(), "%s: hint: %s\n", root.Name(), cli.Printable(e.Hint))
	}
	return e.Code
}

// version is what the Go command stamped into the program: the module's
// version, which outside a release names time and commit, and the toolchain.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

func unknownCommand(c *cobra.Command, word string) error {
	return cli.Errorf(cli.Usage, "see "+c.CommandPath()+" --help", "unknown command %q for %q", word, c.CommandPath())
}

func isUnknownCommand(err error) bool {
	return len(err.Error()) > 15 && err.Error()[:15] == "unknown command"
}
