package tongo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tonkeeper/tongo/config"
	"github.com/tonkeeper/tongo/liteapi"
)

// net is the network of these tests: `bombyx devnet` in a process of its own, on a chain with a history.
var net struct {
	config  *config.GlobalConfigurationFile
	control string
}

func TestMain(m *testing.M) { os.Exit(start(m)) }

func start(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tongo")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	for _, p := range []string{"./cmd/bombyx", "./internal/ton/history"} {
		build := exec.Command("go", "build", "-o", dir+"/", p)
		build.Dir = "../../.."
		if out, err := build.CombinedOutput(); err != nil {
			return failed(fmt.Errorf("build %s: %w\n%s", p, err, out))
		}
	}
	chain, file := filepath.Join(dir, "chain"), filepath.Join(dir, "global.config.json")
	if out, err := exec.Command(filepath.Join(dir, "history"), chain).CombinedOutput(); err != nil {
		return failed(fmt.Errorf("history: %w\n%s", err, out))
	}
	ctx, stop := context.WithCancel(context.Background())
	devnet := exec.CommandContext(ctx, filepath.Join(dir, "bombyx"), "devnet", "--dir", chain, "--config", file, "--block-time", "50ms")
	devnet.Stderr = os.Stderr
	out, err := devnet.StdoutPipe()
	if err == nil {
		err = devnet.Start()
	}
	if err != nil {
		stop()
		return failed(err)
	}
	defer devnet.Wait()
	defer stop()
	var up struct{ Control string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &up)
	}
	if err != nil {
		return failed(fmt.Errorf("devnet: %w", err))
	}
	net.control = up.Control
	if net.config, err = config.ParseConfigFile(file); err != nil {
		return failed(err)
	}
	return m.Run()
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// dial is tongo's client, with the strictest proof policy that it has.
func dial(t *testing.T) *liteapi.Client {
	t.Helper()
	c, err := liteapi.NewClient(liteapi.WithConfigurationFile(*net.config), liteapi.WithProofPolicy(liteapi.ProofPolicyFast),
		liteapi.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// control asks the network for something.
func control(t *testing.T, path, body string) {
	t.Helper()
	res, err := http.Post(net.control+path, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if out, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, res.Status, out, err)
	}
}
