package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/ton"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bombyx": main, "mock": mockMain, "program": programMain})
}

// TestSessions plays the sessions in testdata: what a user types, and what must come back.
func TestSessions(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(8 * time.Minute),
		Setup: func(e *testscript.Env) error {
			control, err := freePort()
			if err != nil {
				return err
			}
			proxy, err := freePort()
			if err != nil {
				return err
			}
			if vectors, err := filepath.Abs("../../../shared/vectors"); err == nil {
				e.Setenv("V", vectors)
			}
			if image, err := filepath.Abs("../../attestation/measure/testdata"); err == nil {
				e.Setenv("IMAGE", image)
			}
			e.Setenv("SDKS", os.Getenv("BOMBYX_SDKS"))
			e.Setenv("CONTROL", control)
			e.Setenv("PROXY", proxy)
			e.Setenv("BOMBYX_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("PASS", filepath.Join(e.WorkDir, "passphrase"))
			if err := os.MkdirAll(filepath.Join(e.WorkDir, "home"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "passphrase"), []byte("correct horse battery\n"), 0o600)
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "vectors":
				_, err := os.Stat("../../../shared/vectors")
				return err == nil, nil
			case "sdks":
				return os.Getenv("BOMBYX_SDKS") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fund": fund, "control": tell, "advance": advance, "keep": keep, "read": read, "spent": spent, "await": await, "get": get, "post": post, "exit": exit,
		},
	})
}

var loopback atomic.Uint32

// freePort returns an address that nothing listens on. Each is on a loopback
// address of its own where the system has them: on 127.0.0.1 a connection or a
// listener of another script may take the port before its script does.
func freePort() (string, error) {
	n := loopback.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.%d.%d:0", 1+n/250, 1+n%250))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// eventually polls until ok says so; a script that waits in vain fails.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("waited in vain for %s", what)
		}
	}
}

// fund ADDRESS GRAM asks the devnet's faucet.
func fund(ts *testscript.TestScript, neg bool, args []string) {
	n, err := ton.ParseNano(args[1])
	ts.Check(err)
	control(ts, "/fund", fmt.Sprintf(`{"address":%q,"amount":%q}`, args[0], n))
}

// advance SECONDS lets the devnet's time pass.
func advance(ts *testscript.TestScript, neg bool, args []string) {
	control(ts, "/advance", fmt.Sprintf(`{"seconds":%s}`, args[0]))
}

// control PATH BODY asks the devnet for something.
func tell(ts *testscript.TestScript, neg bool, args []string) { control(ts, args[0], args[1]) }

func control(ts *testscript.TestScript, path, body string) {
	resp, err := http.Post("http://"+ts.Getenv("CONTROL")+path, "application/json", strings.NewReader(body))
	ts.Check(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("devnet: %s to %s", resp.Status, path)
	}
}

// keep NAME PATTERN sets a variable to the pattern's first group in the last standard output.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("nothing in standard output matches %s", args[1])
	}
	ts.Setenv(args[0], m[len(m)-1])
}

// spent NANO GRAM waits until the wallet holds less than NANO by less than GRAM, but by more than half of it.
func spent(ts *testscript.TestScript, neg bool, args []string) {
	before, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	limit, err := ton.ParseNano(args[1])
	ts.Check(err)
	eventually(ts, "the wallet to have spent less than "+args[1]+" of "+args[0], func() bool {
		ts.Check(ts.Exec("bombyx", "wallet", "show", "--json", "--passphrase-file", ts.Getenv("PASS")))
		var w struct{ Balance int64 }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &w))
		lost := before - w.Balance
		return lost > int64(limit)/2 && lost < int64(limit)
	})
}

// read FILE waits for a file of NAME=VALUE lines and sets the variables.
func read(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	var b []byte
	eventually(ts, args[0], func() bool { b, _ = os.ReadFile(path); return bytes.HasSuffix(b, []byte("\n")) })
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		name, value, _ := strings.Cut(l, "=")
		ts.Setenv(name, value)
	}
}

// await PATTERN COMMAND... runs a command until its output matches; await exists FILE waits for a file.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if args[0] == "exists" {
		eventually(ts, args[1], func() bool { info, err := os.Stat(ts.MkAbs(args[1])); return err == nil && info.Size() > 0 })
		return
	}
	re := regexp.MustCompile(args[0])
	eventually(ts, strings.Join(args, " "), func() bool {
		ts.Exec(args[1], args[2:]...)
		return re.MatchString(ts.ReadFile("stdout"))
	})
}

// get URL PATTERN and post URL FILE PATTERN talk to the proxy as an SDK would.
func get(ts *testscript.TestScript, neg bool, args []string) {
	talk(ts, neg, http.MethodGet, args[0], "", args[1])
}

func post(ts *testscript.TestScript, neg bool, args []string) {
	talk(ts, neg, http.MethodPost, args[0], ts.ReadFile(args[1]), args[2])
}

func talk(ts *testscript.TestScript, neg bool, method, url, body, pattern string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	if key := ts.Getenv("API_KEY"); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if neg { // as a web page's would
		req.Header.Set("Origin", "https://page.example")
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	ts.Check(err)
	if (resp.StatusCode == http.StatusOK) == neg || !regexp.MustCompile(pattern).Match(b.Bytes()) {
		ts.Fatalf("%s %s: %s\n%s", method, url, resp.Status, b.Bytes())
	}
}

// exit CODE COMMAND... runs a command that must end with this exit code.
func exit(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var e *exec.ExitError
	if errors.As(err, &e) {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// A key is the same in capitals: a host that is found by it is not recorded a second time. Of several by one name none is taken.
func TestFindHost(t *testing.T) {
	all := []profile.Host{{URL: "https://a", Key: "0a", Name: "x"}, {URL: "https://b", Key: "0B", Name: "b"}, {URL: "https://b", Key: "0c", Name: "x"}}
	for name, want := range map[string]int{"https://a": 0, "0a": 0, "0A": 0, "0b": 1, "b": 1, "0C": 2, "B": -1, "HTTPS://A": -1, "": -1, "https://b": -2, "x": -2} {
		got, err := find(all, name)
		if want < 0 {
			if err == nil || errors.Is(err, errUnrecorded) != (want == -1) {
				t.Errorf("%q: %v", name, err)
			}
		} else if got != want || err != nil {
			t.Errorf("%q is %d, %v; want %d", name, got, err, want)
		}
	}
}

// Of several hosts at one URL --host-key chooses, and what the user accepted of that one counts: nobody is asked for new prices.
func TestChosenHost(t *testing.T) {
	h := &home{dir: t.TempDir()}
	d, _ := h.profile()
	keys := []string{strings.Repeat("1a", 32), strings.Repeat("2b", 32)}
	if err := d.ChangeHosts(func([]profile.Host) ([]profile.Host, error) {
		return []profile.Host{{URL: "https://127.0.0.1:1", Key: keys[0], Window: 1}, {URL: "https://127.0.0.1:1", Key: keys[1], Window: 2}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	cmd := new(cobra.Command)
	cmd.SetContext(t.Context())
	for _, key := range []string{keys[1], strings.ToUpper(keys[1])} {
		if c, err := h.chosen(cmd, hostChoice{url: "https://127.0.0.1:1", key: key}); err != nil || c.Window != 2 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if c, err := h.chosen(cmd, hostChoice{url: "https://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "several hosts") {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := h.chosen(cmd, hostChoice{url: keys[0]}); err != nil || c.Window != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}
