package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	launcher "github.com/bombyx-network/bombyx/enclave/launch" // launch is a function of this package
	"github.com/bombyx-network/bombyx/host"
)

const enclaveVariable = "BOMBYX_TEST_ENCLAVE" // the configuration document of a process that is an enclave

// beEnclave is what bombyx-enclave does, on mock hardware.
func beEnclave(config string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	document, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	node, err := attestationtest.New("e2e").NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		return err
	}
	e, err := launcher.Load(ctx, document, node, nil)
	if err != nil {
		return err
	}
	defer e.Close()
	c, err := launcher.Parse(document)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", strings.TrimPrefix(c.Listen, "unix:"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if err := e.Serve(ctx, l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// An enclave is one process, writes no file and connects to nothing but its engine: every system call that could do
// otherwise is looked at while it serves.
func TestEnclaveIsConfined(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: nothing was looked at")
	}
	if out, err := exec.Command(strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace is not allowed here: nothing was looked at: %v %s", err, out)
	}
	engine := httptest.NewServer(stubEngine(0))
	defer engine.Close()
	for _, c := range []struct {
		name, port string
		engine     map[string]any
	}{
		{"embedded engine", "", map[string]any{"kind": "embedded", "model_id": Model, "threads": 1}},
		{"engine on loopback", strconv.Itoa(engine.Listener.Addr().(*net.TCPAddr).Port), map[string]any{"kind": "openai", "address": engine.URL,
			"flavour": "vllm", "models": []any{map[string]any{"id": Model, "format": "safetensors", "sha256": strings.Repeat("0", 64), "size": 1, "context_length": 4096}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			socket, config, trace := filepath.Join(dir, "s"), filepath.Join(dir, "enclave.json"), filepath.Join(dir, "trace")
			document, err := json.Marshal(map[string]any{"listen": "unix:" + socket, "engine": c.engine, "prices": Prices,
				"key_lifetime": 3600, "patience": 5, "replay_window": 120})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config, document, 0o600); err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			// Whatever touches a file by name, a socket, a process or memory of others, and the ways around system calls.
			cmd := exec.Command(strace, "-f", "-qq", "-s", "256", "-o", trace,
				"-e", "trace=%file,%network,%process,io_uring_setup,memfd_create,process_vm_writev,ptrace,bpf", self)
			cmd.Env = append(os.Environ(), enclaveVariable+"="+config)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := false
			defer func() {
				if !exited {
					cmd.Process.Kill()
					cmd.Wait()
				}
			}()
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
				t.Fatalf("the enclave did not start: %q, %v", line, err)
			}
			s := start(t, Options{Engine: &Script{}, Deposit: 1 << 50, Window: 1 << 30, Between: func(http.RoundTripper) http.RoundTripper {
				return host.EnclaveTransport(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", socket) })
			}})
			for body, status := range map[string]int{streaming: 200, `{"model":"test-model","stream":true,"n":7}`: 400} {
				for range 2 {
					resp, err := post(s, body)
					if err != nil {
						t.Fatal(err)
					}
					if answer, err := read(t, resp); err != nil || resp.StatusCode != status {
						t.Errorf("%s: %d %s %v", body, resp.StatusCode, answer, err)
					}
				}
			}
			// strace passes the signal on to the enclave alone when sent to its only child.
			enclave := child(t, cmd.Process.Pid)
			if err := syscall.Kill(enclave, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			exited = true
			if err != nil {
				t.Errorf("the enclave ended with %v", err)
			}
			calls, err := os.ReadFile(trace)
			if err != nil {
				t.Fatal(err)
			}
			for _, what := range unconfined(string(calls), socket, c.port) {
				t.Error(what)
			}
		})
	}
}

// child is the only child of a process.
func child(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatalf("children of strace: %q", b)
	}
	return n
}

var (
	// What only looks.
	looks = regexp.MustCompile(`^(readlink|readlinkat|access|faccessat2?|stat|lstat|newfstatat|statx|statfs|getcwd|uname)\(`)
	// What only reads: no flag beside these. A call that another thread interrupts in the trace shows its arguments all the same.
	reads = regexp.MustCompile(`^open(at)?\((AT_FDCWD, )?"[^"]*", O_RDONLY(\|O_CLOEXEC|\|O_NONBLOCK|\|O_LARGEFILE|\|O_DIRECTORY)*(\)| <unfinished)`)
	// Threads of the one process, their preemption, and its end.
	threads = regexp.MustCompile(`^(clone3?\(.*CLONE_VM.*CLONE_THREAD|exit\(|exit_group\(|arch_prctl\(|set_tid_address\(|tgkill\(\d+, \d+, SIGURG\b)`)
	// What serves: sockets, but nothing that reaches out.
	serves = regexp.MustCompile(`^(socket|listen|accept4?|getsockname|getpeername|[gs]etsockopt|recvfrom|recvmsg|shutdown)\(`)
	// Go asks at its start whether IPv6 is there: sockets on loopback that never listen.
	probes = regexp.MustCompile(`^bind\(\d+, \{sa_family=AF_INET6?, .*(127\.0\.0\.1|"::1"|"::ffff:127\.0\.0\.1").*\}, \d+`)
	port   = regexp.MustCompile(`^connect\(\d+, \{sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\("127\.0\.0\.1"\)\}`)
)

// unconfined checks a trace line by line and says what an enclave must not do. What it does not know, it refuses.
func unconfined(trace, socket, engine string) (out []string) {
	var executed, connected int
	var ending bool
	prefix := regexp.MustCompile(`^\d+ +`)
	for line := range strings.Lines(trace) {
		call := prefix.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")
		at := port.FindStringSubmatch(call)
		ending = ending || strings.HasPrefix(call, "exit_group(")
		switch {
		case strings.HasPrefix(call, "<... "), strings.HasPrefix(call, "--- SIG"), strings.HasPrefix(call, "+++ exited with"):
		case strings.HasPrefix(call, "execve("):
			executed++
		case ending && strings.HasPrefix(call, "???("): // a thread that the end of the process caught
		case looks.MatchString(call), reads.MatchString(call), threads.MatchString(call), serves.MatchString(call):
		case probes.MatchString(call) && strings.Contains(call, "htons(0)"):
		case strings.HasPrefix(call, "bind(") && strings.Contains(call, strconv.Quote(socket)):
		case strings.HasPrefix(call, "unlink") && strings.Contains(call, strconv.Quote(socket)): // its own, at the end
		case at != nil && at[1] == engine:
			connected++
		default:
			out = append(out, "the enclave did what it must not: "+call)
		}
	}
	if executed != 1 {
		out = append(out, fmt.Sprintf("%d programs were executed, want the enclave alone", executed))
	}
	if (connected > 0) != (engine != "") {
		out = append(out, fmt.Sprintf("%d connections to an engine at port %q: the trace does not show what it should", connected, engine))
	}
	return out
}

// The check itself sees what it is there for.
func TestUnconfinedSees(t *testing.T) {
	for _, call := range []string{
		`1 openat(AT_FDCWD, "/tmp/x", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3`,
		`1 openat(AT_FDCWD, "/tmp/x", O_RDWR|O_CLOEXEC) = 3`,
		`1 open("/tmp/x", O_RDONLY|O_CREAT, 0666) = 3`,
		`1 mkdirat(AT_FDCWD, "/tmp/x", 0777) = 0`,
		`1 renameat(AT_FDCWD, "/a", AT_FDCWD, "/b") = 0`,
		`1 unlinkat(AT_FDCWD, "/other", 0) = 0`,
		`1 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("127.0.0.1")}, 16) = 0`,
		`1 connect(3, {sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr("10.0.0.1")}, 16) = 0`,
		`1 connect(3, {sa_family=AF_INET6, sin6_port=htons(8000), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0`,
		`1 connect(3, {sa_family=AF_UNIX, sun_path="/run/other"}, 16) = 0`,
		`1 sendto(3, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.1.1.1")}, 16) = 1`,
		`1 bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("0.0.0.0")}, 16) = 0`,
		`1 bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0`,
		`1 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD) = 2`,
		`1 fork() = 2`,
		`1 io_uring_setup(8, {}) = 3`,
		`1 ???( <unfinished ...>`,
		`1 tgkill(1, 2, SIGKILL) = 0`,
		`1 execve("/bin/sh", ["sh"], 0x0) = 0`,
	} {
		const good = "1 execve(\"/self\", [\"self\"], 0x0) = 0\n1 connect(3, {sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = 0\n"
		if got := unconfined(good, "/s", "8000"); got != nil {
			t.Fatal(got)
		}
		if unconfined(good+call+"\n", "/s", "8000") == nil {
			t.Errorf("not seen: %s", call)
		}
	}
}
