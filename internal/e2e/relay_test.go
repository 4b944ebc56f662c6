package e2e

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloudflare/circl/kem/xwing"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// The relay benchmark is Cocoon's: a stub engine that answers with 50 chunks
// of 128 bytes, keep-alive connections, everything on the cores of one
// machine. The load generator calls the engine directly and through bombyx
// proxy, bombyx-host and an enclave, attested, sealed, metered and paid on a
// local TON network, in one run. Each is a process of its own, built and
// started as docs/operating.md does it; only the enclave's hardware is mock. Processor
// time and memory are those of proxy, host and enclave together. The peer is
// what so many hops cost by themselves: three processes of net/http's reverse
// proxy in a row, which neither encrypt, nor count, nor pay.

const (
	roleVariable   = "BOMBYX_BENCH_ENGINE_PACE"
	socketVariable = "BOMBYX_BENCH_ENGINE_SOCKET"
	plainVariable  = "BOMBYX_BENCH_PLAIN_RELAY_TO"
)

// TestMain lets this program be an enclave, the stub engine, or a plain relay.
func TestMain(m *testing.M) {
	if config := os.Getenv(enclaveVariable); config != "" {
		if err := beEnclave(config); err != nil {
			fmt.Fprintln(os.Stderr, "enclave:", err)
			os.Exit(1)
		}
		return
	}
	if to := os.Getenv(plainVariable); to != "" {
		fmt.Fprintln(os.Stderr, "relay:", bePlainRelay(to))
		os.Exit(1)
	}
	text := os.Getenv(roleVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	pace, err := time.ParseDuration(text)
	if err == nil {
		err = beEngine(pace, os.Getenv(socketVariable))
	}
	fmt.Fprintln(os.Stderr, "engine:", err)
	os.Exit(1)
}

// beEngine serves the stub engine over TCP, for whoever calls it directly, and
// on a Unix socket, which docs/operating.md recommends, for the enclave.
func beEngine(pace time.Duration, socket string) error {
	direct, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	own, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	cli.TuneServer()
	fmt.Println(direct.Addr())
	h := stubEngine(pace)
	go http.Serve(own, h)
	return http.Serve(direct, h)
}

// bePlainRelay passes requests on to an address as they are.
func bePlainRelay(to string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cli.TuneServer()
	fmt.Println(l.Addr())
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	proxy.FlushInterval = -1 // as it comes
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Whole, or net/http now and then closes the body while its other half still looks for its end, and cuts the answer.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
}

// stubEngine answers like vLLM with continuous usage.
func stubEngine(pace time.Duration) http.Handler {
	var events [][]byte
	for i := range 50 {
		finish := "null"
		if i == 49 {
			finish = `"stop"`
		}
		e := fmt.Sprintf(`{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""},"finish_reason":%s}],"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}`, finish, i+1, i+11)
		fill := max(0, 128-8-len(e))
		e = strings.Replace(e, `"content":""`, `"content":"`+strings.Repeat("x", fill)+`"`, 1)
		events = append(events, []byte("data: "+e+"\n\n"))
	}
	last := []byte("data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":50,\"total_tokens\":60}}\n\ndata: [DONE]\n\n")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":50,"total_tokens":60}}`, strings.Repeat("x", 200))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		f := w.(http.Flusher)
		began := time.Now()
		for i, e := range events {
			// By the clock: each sleep is late by what else the machine does, and fifty of them would add up to more than the relay adds.
			time.Sleep(time.Until(began.Add(time.Duration(i+1) * pace)))
			w.Write(e)
			f.Flush()
		}
		w.Write(last)
	})
}

// service is the environment that docs/operating.md, Services, gives programs that serve.
var service = []string{"GODEBUG=schedtrace=2147483647"}

// A party is a process of the benchmark.
type party struct {
	name string
	cmd  *exec.Cmd
	out  *bufio.Scanner
	at   string // address that it serves on
}

// begin starts a program that runs until the benchmark ends.
func begin(b testing.TB, env []string, program string, args ...string) *party {
	b.Helper()
	p := &party{name: filepath.Base(program), cmd: exec.Command(program, args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.cmd.Process.Signal(os.Interrupt); p.cmd.Wait() })
	p.out = bufio.NewScanner(out)
	return p
}

// self is this program, which can be other things too.
func self(b testing.TB) string {
	b.Helper()
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// line is the next line that the program prints.
func (p *party) line(b testing.TB) string {
	b.Helper()
	if !p.out.Scan() {
		b.Fatalf("%s did not start", p.name)
	}
	return p.out.Text()
}

// usage is the party's CPU time so far, to the clock tick of 10 ms, and its
// resident memory in bytes.
func (p *party) usage(b testing.TB) (cpu time.Duration, resident int) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Skip("needs Linux's /proc")
	}
	// The second field is the program's name in parentheses: count behind it.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime, rss = 14 - 3, 15 - 3, 24 - 3
	for _, at := range []int{utime, stime} {
		ticks, err := strconv.Atoi(f[at])
		if err != nil {
			b.Fatal(err)
		}
		cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	pages, err := strconv.Atoi(f[rss])
	if err != nil {
		b.Fatal(err)
	}
	return cpu, pages * os.Getpagesize()
}

// do runs a program to its end and returns what it prints.
func do(b testing.TB, program string, args ...string) string {
	b.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s %s: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// parties are all who take part, each a process of its own.
type parties struct {
	engine, proxy, host, enclave *party

	bin string // folder of the programs
	dir string // the client's home, and what provider.json names
}

// launch starts everything, in front of an engine of that pace.
func launch(b testing.TB, pace time.Duration) *parties {
	b.Helper()
	dir, bin := b.TempDir(), b.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	program := func(name string) string { return filepath.Join(bin, name) }
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	object := func(name string, v any) {
		b.Helper()
		doc, err := json.Marshal(v)
		must(err)
		must(os.WriteFile(at(name), doc, 0o600))
	}
	// As make build does it.
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s", "-o", bin, "../../cmd/bombyx", "../../cmd/bombyx-host", "../../cmd/bombyx-demo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}

	p := &parties{bin: bin, dir: dir}
	p.engine = begin(b, []string{roleVariable + "=" + pace.String(), socketVariable + "=" + at("engine.sock")}, self(b))
	p.engine.at = p.engine.line(b)

	var net struct {
		Control string
		ID      int32 `json:"global_id"`
	}
	must(json.Unmarshal([]byte(begin(b, nil, program("bombyx"), "devnet", "--config", at("network.json"), "--block-time", "100ms").line(b)), &net))
	fund := func(address string) {
		b.Helper()
		resp, err := http.Post(net.Control+"/fund", "application/json", strings.NewReader(fmt.Sprintf(`{"address":%q,"amount":"100"}`, address)))
		must(err)
		resp.Body.Close()
	}

	authority := attestationtest.New("relay benchmark")
	// 0.1 and 0.3 GRAM per million tokens: a voucher for a window of 0.01 GRAM
	// covers some six hundred answers.
	prices := price.List{Model: {Prompt: 100_000_000, Cached: 10_000_000, Completion: 300_000_000, Reasoning: 300_000_000}}
	object("machine.json", map[string]any{"authority": authority.Seed(), "node": attestationtest.NodeConfig{Name: "node", GPUs: 1}})
	object("enclave.json", map[string]any{"listen": "unix:" + at("enclave.sock"), "prices": prices, "key_lifetime": 3600, "patience": 20, "replay_window": 120,
		"engine": map[string]any{"kind": "openai", "address": "unix:" + at("engine.sock"), "flavour": "vllm",
			"models": []manifest.Model{{ID: Model, Format: "gguf", SHA256: strings.Repeat("00", 32), Size: 1, ContextLength: 4096}}}})
	p.enclave = begin(b, service, program("bombyx-demo"), "enclave", "--config", at("enclave.json"), "--machine", at("machine.json"))
	p.enclave.line(b)

	payee, err := wallet.New(net.ID)
	must(err)
	bundle, err := authority.Collateral(attestationtest.CollateralOptions{Now: time.Now()})
	must(err)
	must(os.WriteFile(at("collateral.json"), bundle, 0o600))
	object("provider.json", map[string]any{"listen": "127.0.0.1:0", "identity": "identity", "network": "network.json", "global_id": net.ID,
		"payee": payee.Address().String(), "prices": prices, "window": 10_000_000, "min_deposit": 1, "closing_delay": channel.MinCloseDelay,
		"card_lifetime": 3600, "ledger": "ledger.db", "collateral": "collateral.json",
		"claims":   map[string]any{"every": 60, "threshold": 1_000_000_000, "age": 3600, "margin": channel.MinCloseDelay / 2},
		"enclaves": []any{map[string]any{"id": "a", "address": "unix:" + at("enclave.sock")}}})
	do(b, program("bombyx-host"), "init", at("identity"))
	p.host = begin(b, service, program("bombyx-host"), "serve", "--config", at("provider.json"))
	said := strings.Fields(p.host.line(b)) // "host KEY serves on ADDRESS"
	if len(said) != 5 {
		b.Fatalf("the host says %q", said)
	}

	pol := authority.Policy(time.Now())
	pol.Devices.Modes, pol.Devices.Switch = []string{"single-gpu"}, nil
	pol.Devices.GPU.MinCount, pol.Devices.GPU.MaxCount = 1, 1
	doc, err := pol.Encode()
	must(err)
	must(os.WriteFile(at("policy.json"), doc, 0o600))
	must(os.WriteFile(at("passphrase"), []byte("of the benchmark alone"), 0o600))
	client := func(args ...string) string {
		b.Helper()
		return do(b, program("bombyx"), append([]string{"--home", dir}, args...)...)
	}
	created := client("wallet", "new", "--passphrase-file", at("passphrase"))
	own := regexp.MustCompile(`UQ[\w-]{46}|0Q[\w-]{46}`).FindString(created)
	fund(own)
	client("host", "add", "--yes", "http://"+said[4], said[1])
	client("channel", "open", "--yes", "--passphrase-file", at("passphrase"), "50")
	p.proxy = begin(b, service, program("bombyx"), "--home", dir, "proxy", "--listen", "127.0.0.1:0", "--passphrase-file", at("passphrase"))
	p.proxy.at = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(p.proxy.line(b))
	return p
}

// keepAlive keeps connections until the test ends.
func keepAlive(b testing.TB, connections int) *http.Transport {
	tr := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	b.Cleanup(tr.CloseIdleConnections)
	return tr
}

// warmUp has an address serve as many at once as later, and leaves no connection behind.
func warmUp(b testing.TB, at string) {
	b.Helper()
	tr := keepAlive(b, 30)
	load(b, tr, at, 300, 0)
	tr.CloseIdleConnections()
}

// load sends n requests, one at a time over each of a transport's connections,
// and returns how long that took, and each one, sorted. The connections begin
// one after the other, so far apart.
func load(b testing.TB, tr *http.Transport, at string, n int, apart time.Duration) (time.Duration, []time.Duration) {
	b.Helper()
	body := []byte(`{"model":"test-model","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`)
	took := make([]time.Duration, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for c := range tr.MaxIdleConnsPerHost {
		wg.Go(func() {
			time.Sleep(time.Duration(c) * apart)
			buf := make([]byte, 32<<10)
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				t := time.Now()
				resp, err := tr.RoundTrip(newRequest(at, body))
				if err != nil {
					b.Error(err)
					return
				}
				size := 0
				var last []byte // its end, however it is cut
				for {
					k, err := resp.Body.Read(buf)
					size += k
					last = append(last, buf[:k]...)
					last = last[:copy(last, last[max(0, len(last)-300):])]
					if err == io.EOF {
						break
					} else if err != nil {
						b.Errorf("%v after %s", err, last)
						return
					}
				}
				resp.Body.Close()
				if resp.StatusCode != 200 || size < 6400 || !bytes.HasSuffix(last, []byte("[DONE]\n\n")) {
					b.Errorf("status %d, %d bytes, which end in %s", resp.StatusCode, size, last)
					return
				}
				took[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	slices.Sort(took)
	return elapsed, took
}

func newRequest(at string, body []byte) *http.Request {
	r, _ := http.NewRequest("POST", "http://"+at+"/v1/chat/completions", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// BenchmarkRelay reports, for 1, 10 and 30 connections, requests per second
// through Bombyx, and through three plain relays, over those of the engine
// called directly, and the CPU time that each request costs all of our
// processes, each of them, and the plain relays. The cpu-ratio is the
// ratio that the processor time of everybody, engine and load generator
// included, would allow on cores that are busy with nothing else: what else
// runs on the machine disturbs it less. The bound-ratio is the same for
// programs that do nothing but the cryptography of an answer.
func BenchmarkRelay(b *testing.B) {
	all := launch(b, 0)
	engine, proxy, host, enclave := all.engine, all.proxy, all.host, all.enclave
	warmUp(b, proxy.at) // attest, open the session
	warmUp(b, engine.at)
	var plain []*party
	for at := engine.at; len(plain) < 3; {
		p := begin(b, append([]string{plainVariable + "=" + at}, service...), self(b))
		p.at = p.line(b)
		plain, at = append(plain, p), p.at
	}
	warmUp(b, plain[2].at)
	sealing := primitives(b)
	for _, c := range []int{1, 10, 30} {
		b.Run(strconv.Itoa(c), func(b *testing.B) {
			const rounds = 10
			n := max(b.N/rounds, 10*c)
			var direct, bare, through result
			tr := keepAlive(b, c)
			for range rounds { // in turns: what else the machine does changes from second to second
				direct.add(measure(b, tr, engine.at, n, 0, engine))
				bare.add(measure(b, tr, plain[2].at, n, 0, append(plain, engine)...))
				through.add(measure(b, tr, proxy.at, n, 0, engine, proxy, host, enclave))
			}
			n *= rounds
			p, h, e := through.cpu[proxy], through.cpu[host], through.cpu[enclave]
			var resident int
			for _, p := range []*party{proxy, host, enclave} {
				_, rss := p.usage(b)
				resident += rss
			}
			each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) / 1000 }
			b.ReportMetric(0, "ns/op")
			rate := func(r result) float64 { return float64(n) / r.elapsed.Seconds() }
			b.ReportMetric(rate(through), "req/s")
			b.ReportMetric(rate(direct), "direct-req/s")
			b.ReportMetric(rate(through)/rate(direct), "ratio")
			b.ReportMetric(float64(direct.total)/float64(through.total), "cpu-ratio")
			others := through.total - p - h - e // the engine, and the load generator
			b.ReportMetric(float64(direct.total)/float64(others+time.Duration(n)*sealing), "bound-ratio")
			b.ReportMetric(rate(bare)/rate(direct), "plain-ratio")
			b.ReportMetric(each(bare.cpu[plain[0]]+bare.cpu[plain[1]]+bare.cpu[plain[2]]), "plain-cpu-ms/req")
			b.ReportMetric(each(p+h+e), "cpu-ms/req")
			b.ReportMetric(each(p), "proxy-ms/req")
			b.ReportMetric(each(h), "host-ms/req")
			b.ReportMetric(each(e), "enclave-ms/req")
			b.ReportMetric(float64(resident)/(1<<20), "MiB")
			p50 := func(r result) time.Duration { slices.Sort(r.took); return r.took[n/2] }
			b.ReportMetric(float64((p50(through)-p50(direct)).Microseconds())/1000, "added-ms-p50")
		})
	}
}

// primitives is the CPU time of what no answer can do without: one X-Wing
// encapsulation and decapsulation, one Ed25519 signature and its verification.
func primitives(b *testing.B) time.Duration {
	b.Helper()
	scheme := xwing.Scheme()
	pk, sk, err := scheme.GenerateKeyPair()
	if err != nil {
		b.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 800) // as long as a receipt
	took := make([]time.Duration, 1000)
	for i := range took {
		began := time.Now()
		sealed, _, err := scheme.Encapsulate(pk)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := scheme.Decapsulate(sk, sealed); err != nil {
			b.Fatal(err)
		}
		if !ed25519.Verify(public, message, ed25519.Sign(private, message)) {
			b.Fatal("a signature does not verify")
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// A result is what a load did, and what it cost.
type result struct {
	elapsed time.Duration
	took    []time.Duration // each request
	cpu     map[*party]time.Duration
	total   time.Duration // of CPU: theirs, and the load generator's
}

// add adds what another load did and cost.
func (r *result) add(more result) {
	r.elapsed += more.elapsed
	r.took = append(r.took, more.took...)
	r.total += more.total
	if r.cpu == nil {
		r.cpu = map[*party]time.Duration{}
	}
	for p, d := range more.cpu {
		r.cpu[p] += d
	}
}

// measure loads one address and takes the CPU time of those who serve it.
func measure(b *testing.B, tr *http.Transport, at string, n int, apart time.Duration, serve ...*party) result {
	b.Helper()
	r := result{cpu: map[*party]time.Duration{}}
	count := func(sign time.Duration) {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		r.total += sign * time.Duration(u.Utime.Nano()+u.Stime.Nano())
		for _, p := range serve {
			cpu, _ := p.usage(b)
			r.cpu[p] += sign * cpu
			r.total += sign * cpu
		}
	}
	count(-1)
	r.elapsed, r.took = load(b, tr, at, n, apart)
	count(1)
	return r
}

// BenchmarkRelayPaced is the same at 5 ms a chunk: what matters is what is
// added to the slowest answers. The clients are spread over the time that an
// answer takes, or all begin at once, and wait for one another.
func BenchmarkRelayPaced(b *testing.B) {
	const pace = 5 * time.Millisecond
	all := launch(b, pace)
	warmUp(b, all.proxy.at)
	for _, begin := range []struct {
		name  string
		apart time.Duration
	}{{"spread", 50 * pace / 30}, {"at_once", 0}} {
		b.Run(begin.name, func(b *testing.B) {
			const rounds = 10
			tr := keepAlive(b, 30)
			n := max(b.N/rounds, 60)
			var direct, through result
			for range rounds { // in turns, as above
				direct.add(measure(b, tr, all.engine.at, n, begin.apart))
				through.add(measure(b, tr, all.proxy.at, n, begin.apart))
			}
			percentile := func(r result, p int) float64 {
				slices.Sort(r.took)
				return float64(r.took[len(r.took)*p/100].Microseconds()) / 1000
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(percentile(through, 99), "p99-ms")
			b.ReportMetric(percentile(direct, 99), "direct-p99-ms")
			b.ReportMetric(percentile(through, 99)-percentile(direct, 99), "added-ms-p99")
			b.ReportMetric(percentile(through, 50)-percentile(direct, 50), "added-ms-p50")
		})
	}
}
