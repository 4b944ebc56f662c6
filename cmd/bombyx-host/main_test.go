package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// A network is what a host.json needs of a local one.
type network struct {
	config, bare []byte // bare is without a DHT
	globalID     int32
}

func localNetwork(t *testing.T) network {
	t.Helper()
	chain, err := devnet.New(devnet.Config{SealOnSend: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	if _, err := chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	bare := chain.GlobalConfig()
	if _, err := chain.ServeDHT(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return network{chain.GlobalConfig(), bare, chain.GlobalID()}
}

// configure writes a host.json for a network, and an identity. The enclave that it names is not there.
func configure(t *testing.T, n network, change func(map[string]any)) (path string) {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "network.json"), n.config, 0o600), os.WriteFile(filepath.Join(dir, "nodht.json"), n.bare, 0o600)); err != nil {
		t.Fatal(err)
	}
	c := map[string]any{"listen": "127.0.0.1:0", "identity": "identity", "network": "network.json", "global_id": n.globalID,
		"payee": address.NewAddress(0, 0, make([]byte, 32)).String(), "prices": map[string]any{"m": map[string]any{"prompt": 1, "cached_prompt": 1, "completion": 1, "reasoning": 1}},
		"window": 1, "min_deposit": 1, "closing_delay": 3600, "card_lifetime": 3600, "ledger": "ledger.db",
		"claims":   map[string]any{"every": 3600, "threshold": 1, "age": 3600, "margin": 60},
		"enclaves": []any{map[string]any{"id": "a", "address": "unix:" + filepath.Join(dir, "enclave.sock")}}}
	if change != nil {
		change(c)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "host.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t.Context(), "init", filepath.Join(dir, "identity")); err != nil {
		t.Fatal(out, err)
	}
	return path
}

func run(ctx context.Context, args ...string) (string, error) {
	c := root()
	c.SilenceUsage = true
	var out strings.Builder
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SetArgs(args)
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

// start serves until the test ends and returns what the host said of itself, by pattern.
func start(t *testing.T, path string, patterns ...string) (said [][]string) {
	t.Helper()
	r, w := io.Pipe()
	c := root()
	c.SetOut(w)
	c.SetErr(io.Discard)
	c.SetArgs([]string{"serve", "--config", path})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := c.ExecuteContext(ctx)
		w.CloseWithError(fmt.Errorf("the host ended: %w", err))
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewReader(r)
	for _, p := range patterns {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(p).FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q does not match %s", line, p)
		}
		said = append(said, m)
	}
	return said
}

// The same host answers at both entrances, and is found in the DHT.
func TestServesOverADNL(t *testing.T) {
	n := localNetwork(t)
	path := configure(t, n, func(c map[string]any) { c["adnl"] = map[string]any{"listen": "127.0.0.1:0"} })
	said := start(t, path, `^host ([0-9a-f]{64}) serves on (127\.0\.0\.1:\d+)\n$`, `^host (adnl:[0-9a-f]{64}) serves on (\S+), published as (\S+)\n$`)
	id, err := adnl.ParseID(said[1][1])
	if err != nil || said[1][2] != said[1][3] {
		t.Fatal(said, err)
	}
	dht, err := adnl.ParseNetwork(n.config)
	if err != nil {
		t.Fatal(err)
	}
	var record *adnl.Record
	for begin := time.Now(); record == nil; { // publishing takes a moment
		if record, err = dht.Find(t.Context(), id); err != nil && time.Since(begin) > 20*time.Second {
			t.Fatal(err)
		}
	}
	if fmt.Sprintf("%x", record.Key) != said[0][1] || record.Addrs[0].String() != said[1][2] {
		t.Fatalf("%+v, want %v", record, said)
	}
	d := &adnl.Dialer{Network: dht, ID: id}
	for url, tr := range map[string]http.RoundTripper{"http://" + said[0][2]: http.DefaultTransport, "http://host": d.Transport()} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/card", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), "no_enclave") || err != nil {
			t.Errorf("%s: %s %s, %v", url, resp.Status, b, err)
		}
	}
}

// documented is a configuration that docs/operating.md shows.
func documented(t *testing.T, name string) (c map[string]any) {
	t.Helper()
	b, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "```json "+name+"\n")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatalf("docs/operating.md shows no %s", name)
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// The configuration in docs/operating.md serves as it stands, but for what belongs to a machine and a network.
func TestDocumentedConfiguration(t *testing.T) {
	n := localNetwork(t)
	start(t, configure(t, n, func(c map[string]any) {
		shown := documented(t, "host.json")
		for _, own := range []string{"listen", "network", "global_id", "payee"} {
			if shown[own] == nil {
				t.Errorf("%s is not shown", own)
			}
			shown[own] = c[own]
		}
		for _, own := range []string{"tls_cert", "tls_key"} {
			delete(shown, own)
		}
		shown["monitor"] = strings.Replace(shown["monitor"].(string), ":9480", ":0", 1)
		if a, b := shown["prices"], documented(t, "enclave.json")["prices"]; !reflect.DeepEqual(a, b) {
			t.Errorf("prices of the host %v, of the enclave %v", a, b)
		}
		clear(c)
		maps.Copy(c, shown)
	}), `^host [0-9a-f]{64} serves on`, `^host shows itself on http://127\.0\.0\.1:\d+\n$`)
}

// Relative paths are relative to the file, the enclave's socket as well.
func TestPathsAreRelativeToTheFile(t *testing.T) {
	path := configure(t, localNetwork(t), func(c map[string]any) {
		c["enclaves"] = []any{map[string]any{"id": "a", "address": "unix:here.sock"}}
	})
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(path), "here.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.Close()
		}
		asked <- err
	}()
	start(t, path, `^host [0-9a-f]{64} serves on`) // and asks for what to put on its card
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if out, err := run(t.Context(), "earnings", "--json", "--config", path); err != nil || out != "[]\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestServesOverADNLAlone(t *testing.T) {
	start(t, configure(t, localNetwork(t), func(c map[string]any) {
		delete(c, "listen")
		c["adnl"] = map[string]any{"listen": "127.0.0.1:0", "address": "192.0.2.1:443"}
	}), `^host adnl:[0-9a-f]{64} serves on 127\.0\.0\.1:\d+, published as 192\.0\.2\.1:443\n$`)
}

// Two processes do not serve one enclave: the later one does, and the earlier
// one ends and says why. Looking at the books takes nothing over, nor does a
// process that cannot serve, such as the same one started twice.
func TestOneProcessPerEnclave(t *testing.T) {
	path := configure(t, localNetwork(t), func(c map[string]any) { c["claims"].(map[string]any)["every"] = 1 })
	first := root()
	first.SilenceUsage = true
	r, w := io.Pipe()
	first.SetOut(w)
	first.SetErr(io.Discard)
	first.SetArgs([]string{"serve", "--config", path})
	ended := make(chan error, 1)
	go func() {
		err := first.ExecuteContext(t.Context())
		w.CloseWithError(fmt.Errorf("the host ended: %w", err))
		ended <- err
	}()
	said, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t.Context(), "earnings", "--config", path); err != nil {
		t.Fatal(out, err)
	}
	owner := func() (process string) {
		db, err := sql.Open("sqlite", filepath.Join(filepath.Dir(path), "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow("SELECT process FROM owners").Scan(&process); err != nil {
			t.Fatal(err)
		}
		return process
	}
	_, taken, _ := strings.Cut(strings.TrimSpace(said), "serves on ")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := owner()
	for member, twice := range map[string]string{
		"listen":  strings.Replace(string(b), "127.0.0.1:0", taken, 1),
		"monitor": strings.Replace(string(b), "{", `{"monitor":"tcp:`+taken+`",`, 1),
	} {
		again := filepath.Join(filepath.Dir(path), "again.json")
		if err := os.WriteFile(again, []byte(twice), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(t.Context(), "serve", "--config", again); err == nil || !strings.Contains(err.Error(), member+": listen") || before == "" || owner() != before {
			t.Errorf("%s in use: %q, %v; the enclave was %s's and is %s's", member, out, err, before, owner())
		}
	}
	select {
	case err := <-ended:
		t.Fatal("it ended because somebody looked at its earnings: ", err)
	default:
	}
	start(t, path, "^host ") // and does not end before the test does
	err = <-ended
	var e *cli.Error
	if !errors.Is(err, ledger.ErrTaken) || !errors.As(err, &e) || e.Code != cli.Usage || !strings.Contains(e.Hint, "ids of their own") {
		t.Errorf("the earlier one ended with %v", err)
	}
}

func TestServeRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	n := localNetwork(t)
	overADNL := func(listen, address string) func(map[string]any) {
		return func(c map[string]any) { c["adnl"] = map[string]any{"listen": listen, "address": address} }
	}
	for want, change := range map[string]func(map[string]any){
		"no address to listen on":          func(c map[string]any) { delete(c, "listen") },
		"is not a loopback address":        func(c map[string]any) { c["listen"] = "0.0.0.0:0" },
		"no address to connect to":         overADNL("0.0.0.0:0", ""),
		"adnl.address":                     overADNL("127.0.0.1:0", "host.example:443"),
		"adnl.address: adnl: 0.0.0.0:44":   overADNL("127.0.0.1:0", "0.0.0.0:44"),
		"adnl.listen":                      overADNL(taken.Addr().String(), ""),
		"listen: listen":                   func(c map[string]any) { c["listen"] = taken.Addr().String() },
		"payee is missing":                 func(c map[string]any) { delete(c, "payee") },
		"passphrase is missing":            func(c map[string]any) { c["wallet"] = "w" },
		"tls_cert and tls_key: open /":     func(c map[string]any) { c["tls_cert"] = "none"; c["tls_key"] = "none" },
		"window is a JSON string":          func(c map[string]any) { c["window"] = "2000000" },
		"a window of zero":                 func(c map[string]any) { c["window"] = 0 },
		`enclave id "A B"`:                 func(c map[string]any) { c["enclaves"].([]any)[0].(map[string]any)["id"] = "A B" },
		"identity: network configuration:": func(c map[string]any) { c["network"] = "identity" },
		"not a loopback address":           func(c map[string]any) { c["monitor"] = "tcp:0.0.0.0:9480" },
		"monitor: address":                 func(c map[string]any) { c["monitor"] = "127.0.0.1:9480" },
		"monitor: guests reach vsock:1:":   func(c map[string]any) { c["monitor"] = "vsock:1:9480" },
		"monitor: listen":                  func(c map[string]any) { c["monitor"] = "tcp:" + taken.Addr().String() },
		"monitor is a JSON":                func(c map[string]any) { c["monitor"] = true },
		"no DHT node": func(c map[string]any) {
			c["network"] = "nodht.json"
			overADNL("127.0.0.1:0", "")(c)
		},
	} {
		if out, err := run(t.Context(), "serve", "--config", configure(t, n, change)); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("want %q: %q, %v", want, out, err)
		}
	}
}

// A database that does not answer is no mistake of the configuration: whoever starts the host may try again.
func TestDatabaseUnreachable(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	n := localNetwork(t)
	for source, code := range map[string]int{
		"postgres://me:secret@" + gone.Addr().String() + "/x": cli.Unreachable,
		"postgres://me:secret@localhost/x?sslmode=perhaps":    cli.Usage,
		"nowhere/ledger.db": cli.Usage,
	} {
		path := configure(t, n, func(c map[string]any) { c["ledger"] = source })
		for _, command := range []string{"serve", "earnings"} {
			_, err := run(t.Context(), command, "--config", path)
			var e *cli.Error
			if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Hint, "whether the database runs") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s with %s: %+v", command, source, err)
			}
		}
	}
}

// The monitor is on its own listener, and the public one knows nothing of it.
func TestMonitorOnItsOwn(t *testing.T) {
	path := configure(t, localNetwork(t), func(c map[string]any) { c["monitor"] = "unix:monitor.sock" })
	said := start(t, path, `^host [0-9a-f]{64} serves on (127\.0\.0\.1:\d+)\n$`, `^host shows itself on unix:monitor\.sock\n$`)
	socket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(filepath.Dir(path), "monitor.sock"))
	}}}
	for _, page := range []string{"/", "/metrics", "/status.json"} {
		resp, err := socket.Get("http://localhost" + page)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", page, resp.Status)
		}
		if resp, err = http.Get("http://" + said[0][1] + page); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%s in public: %s", page, resp.Status)
		}
	}
}

// An enclave whose id is written into the file that drain names gets no new requests from then on, and some again when it is
// taken out.
func TestDrainFile(t *testing.T) {
	n := localNetwork(t)
	path := configure(t, n, func(c map[string]any) { c["drain"], c["monitor"] = "drain", "tcp:127.0.0.1:0" })
	list := filepath.Join(filepath.Dir(path), "drain")
	said := start(t, path, `^host [0-9a-f]{64} serves on (127\.0\.0\.1:\d+)\n$`, `^host shows itself on (http://127\.0\.0\.1:\d+)\n$`)
	drained := func(want string) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			resp, err := http.Get(said[1][1] + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), `bombyx_host_enclave_drained{enclave="a"} `+want+"\n") {
				return
			}
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("the enclave is not drained: %s, by\n%s", want, b)
			}
		}
	}
	drained("0")
	if err := os.WriteFile(list, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	drained("1")
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	drained("0")

	wrong := configure(t, n, func(c map[string]any) { c["drain"] = "network.json" })
	_, err := run(t.Context(), "serve", "--config", wrong)
	var e *cli.Error
	if !errors.As(err, &e) || e.Code != cli.Usage || !strings.Contains(e.Error(), "there is no enclave") {
		t.Errorf("a list of something else: %v", err)
	}
}
