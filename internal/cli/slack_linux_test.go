package cli

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const slackVariable = "BOMBYX_CLI_SLACK"

// TestMain lets this program be a command, which says what slack the threads of its process have.
func TestMain(m *testing.M) {
	if os.Getenv(slackVariable) == "" {
		os.Exit(m.Run())
	}
	say := func(c *cobra.Command, args []string) {
		n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		fmt.Fprintln(c.OutOrStdout(), n, err, os.Getpid(), args)
	}
	root := &cobra.Command{Use: "x"}
	root.PersistentFlags().String("home", "", "")
	root.AddCommand(&cobra.Command{Use: "serve", Annotations: Serves, Run: say}, &cobra.Command{Use: "ask", Run: say})
	Main(root)
}

func TestServersMayBeWokenLate(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"serve": max(ours, slack), "ask": ours} {
		cmd := exec.Command(self, "--home", "serve", command, "a", "b c")
		cmd.Env = append(os.Environ(), slackVariable+"=1")
		out, err := cmd.CombinedOutput()
		if line := fmt.Sprintln(want, nil, cmd.Process.Pid, []string{"a", "b c"}); err != nil || string(out) != line {
			t.Errorf("%s: %q, %v; want %q", command, out, err, line)
		}
	}
}
