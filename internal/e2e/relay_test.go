package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
	"github.com/bombyx-network/bombyx/internal/cli"
)

// The relay benchmark is Cocoon's: a stub engine that answers with 50 chunks
// of 128 bytes, keep-alive connections, everything on the cores of one
// machine. The load generator calls the engine directly and through the
// client's proxy, host and enclave, attested, sealed, metered and paid, in one
// run. Engine and load generator are processes of their own; the other three
// share one, whose processor time and memory are what is reported, and speak
// to each other over sockets all the same.

const roleVariable = "BOMBYX_BENCH_ROLE"

func TestMain(m *testing.M) {
	if config := os.Getenv(enclaveVariable); config != "" {
		if err := beEnclave(config); err != nil {
			fmt.Fprintln(os.Stderr, "enclave:", err)
			os.Exit(1)
		}
		return
	}
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

// play runs one party: it prints where it listens, and its CPU time when asked
// for a line on standard input.
func play(role string) error {
	cli.TuneServer()
	dir := os.Getenv("BOMBYX_BENCH_DIR")
	var where string
	switch role {
	case "engine":
		pace, err := time.ParseDuration(os.Getenv("BOMBYX_BENCH_PACE"))
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go http.Serve(l, stubEngine(pace))
		where = l.Addr().String()
	case "stack":
		e, err := openai.New(openai.Config{Address: "http://" + os.Getenv("BOMBYX_BENCH_ENGINE"), Flavour: openai.VLLM,
			Models: []engine.Model{{ID: Model, ContextLength: 4096}}})
		if err != nil {
			return err
		}
		s, err := Start(Options{Dir: dir, Engine: e, Deposit: 1 << 50, Window: 1 << 30})
		if err != nil {
			return err
		}
		defer s.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go http.Serve(l, client.Proxy(s.Client))
		where = l.Addr().String()
	default:
		return fmt.Errorf("unknown role")
	}
	fmt.Println(where)
	signal.Ignore(os.Interrupt)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return err
		}
		fmt.Println(time.Duration(u.Utime.Nano()+u.Stime.Nano()).Microseconds(), resident())
	}
	return nil
}

// resident is the process's resident memory in KiB.
func resident() int {
	b, _ := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n * os.Getpagesize() >> 10
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
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		f := w.(http.Flusher)
		for _, e := range events {
			if pace > 0 {
				time.Sleep(pace)
			}
			w.Write(e)
			f.Flush()
		}
		w.Write(last)
	})
}

// A party is a process of the benchmark.
type party struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	at  string
}

func launch(b testing.TB, role string, env ...string) *party {
	b.Helper()
	p := &party{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), append(env, roleVariable+"="+role, "BOMBYX_BENCH_DIR="+b.TempDir())...)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.in.Close(); p.cmd.Wait() })
	p.out = bufio.NewScanner(out)
	if !p.out.Scan() {
		b.Fatalf("%s did not start", role)
	}
	p.at = p.out.Text()
	return p
}

// usage is a party's CPU time so far and resident memory in KiB.
func (p *party) usage(b testing.TB) (cpu time.Duration, rss int) {
	b.Helper()
	fmt.Fprintln(p.in)
	if !p.out.Scan() {
		b.Fatal("a party is gone")
	}
	var us int64
	if _, err := fmt.Sscan(p.out.Text(), &us, &rss); err != nil {
		b.Fatal(err)
	}
	return time.Duration(us) * time.Microsecond, rss
}

// load sends n requests over as many keep-alive connections and returns the
// requests per second and each one's duration, sorted.
func load(b testing.TB, at string, connections, n int) (float64, []time.Duration) {
	b.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	defer tr.CloseIdleConnections()
	body := []byte(`{"model":"test-model","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`)
	took := make([]time.Duration, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range connections {
		wg.Go(func() {
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
				size, done := 0, false
				var last string
				for {
					k, err := resp.Body.Read(buf)
					size += k
					if k > 0 {
						last = string(buf[max(0, k-300):k])
					}
					done = done || bytes.HasSuffix(buf[:k], []byte("[DONE]\n\n"))
					if err == io.EOF {
						break
					} else if err != nil {
						b.Errorf("%v after %s", err, last)
						return
					}
				}
				resp.Body.Close()
				if resp.StatusCode != 200 || size < 6400 || !done {
					b.Errorf("status %d, %d bytes, end seen: %v: %.300s", resp.StatusCode, size, done, buf)
					return
				}
				took[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	slices.Sort(took)
	return float64(n) / elapsed.Seconds(), took
}

func newRequest(at string, body []byte) *http.Request {
	r, _ := http.NewRequest("POST", "http://"+at+"/v1/chat/completions", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// BenchmarkRelay reports, for 1, 10 and 30 connections, requests per second
// through Bombyx over those of the engine called directly, and the CPU time
// that each request costs all of our processes.
func BenchmarkRelay(b *testing.B) {
	engine := launch(b, "engine", "BOMBYX_BENCH_PACE=0s")
	stack := launch(b, "stack", "BOMBYX_BENCH_ENGINE="+engine.at)
	load(b, stack.at, 30, 200) // attest, open the session, warm up
	load(b, engine.at, 30, 200)
	for _, c := range []int{1, 10, 30} {
		b.Run(strconv.Itoa(c), func(b *testing.B) {
			n := max(b.N, 30*c)
			direct, dt := load(b, engine.at, c, n)
			before, _ := stack.usage(b)
			through, tt := load(b, stack.at, c, n)
			after, rss := stack.usage(b)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(through, "req/s")
			b.ReportMetric(direct, "direct-req/s")
			b.ReportMetric(through/direct, "ratio")
			b.ReportMetric(float64((after-before).Microseconds())/float64(n)/1000, "cpu-ms/req")
			b.ReportMetric(float64(rss)/1024, "MiB")
			b.ReportMetric(float64((tt[n/2]-dt[n/2]).Microseconds())/1000, "added-ms-p50")
		})
	}
}

// BenchmarkRelayPaced is the same at 5 ms a chunk: what matters is what is
// added to the slowest answers.
func BenchmarkRelayPaced(b *testing.B) {
	engine := launch(b, "engine", "BOMBYX_BENCH_PACE=5ms")
	stack := launch(b, "stack", "BOMBYX_BENCH_ENGINE="+engine.at)
	load(b, stack.at, 30, 60)
	n := max(b.N, 600)
	_, dt := load(b, engine.at, 30, n)
	_, tt := load(b, stack.at, 30, n)
	p99 := func(d []time.Duration) time.Duration { return d[len(d)*99/100] }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(p99(tt).Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(p99(dt).Microseconds())/1000, "direct-p99-ms")
	b.ReportMetric(float64((p99(tt)-p99(dt)).Microseconds())/1000, "added-ms-p99")
}
