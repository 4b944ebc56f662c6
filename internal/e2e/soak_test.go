package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoak uses proxy, host and enclave, each a process of its own, in all the
// ways that a client's program may, for SOAK (a duration; a short cut when it is
// not set), and wants two things of them. What the client has settled is what the
// host has earned, and no more than a window is signed beyond it. And nothing is
// left behind: as many open files as before, and, on a soak long enough for what
// is remembered for some minutes to fill up, no more memory at the end than in
// the middle.
func TestSoak(t *testing.T) {
	const short, whole = 2 * time.Second, 5 * time.Minute
	const spare = 16 // connections that may be kept for the next request
	length := short
	if s := os.Getenv("SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil || length <= 0 {
			t.Fatalf("SOAK=%q is no duration: say SOAK=10m", s)
		}
	}
	all := launch(t, 0)
	serving := []*party{all.proxy, all.host, all.enclave}
	load(t, keepAlive(t, 8), all.proxy.at, 50, 0) // attest, open the session, warm up
	files := make(map[*party]int)
	for _, p := range serving {
		files[p] = p.files(t)
	}

	var counts [len(uses)]atomic.Int64
	var answered atomic.Int64 // to their ends, the warm-up's included
	answered.Store(50)
	resident := map[*party][]int{} // MiB at each quarter
	for quarter := range 4 {
		end := time.Now().Add(length / 4)
		var wg sync.WaitGroup
		for worker := range 8 {
			rng := rand.New(rand.NewPCG(uint64(quarter), uint64(worker)))
			tr := &http.Transport{DisableCompression: true}
			wg.Go(func() {
				defer tr.CloseIdleConnections()
				for time.Now().Before(end) && !t.Failed() {
					i := rng.IntN(len(uses))
					ended, err := uses[i].use(tr, all.proxy.at)
					if err != nil {
						t.Errorf("%s: %v", uses[i].name, err)
					}
					counts[i].Add(1)
					if ended {
						answered.Add(1)
					}
				}
			})
		}
		wg.Wait()
		line := fmt.Sprintf("%3d%%", 25*(quarter+1))
		for _, p := range serving {
			_, rss := p.usage(t)
			resident[p] = append(resident[p], rss>>20)
			line += fmt.Sprintf("  %s %d MiB", p.name, rss>>20)
		}
		t.Log(line)
	}
	for i := range uses {
		t.Logf("%7d x %s", counts[i].Load(), uses[i].name)
	}
	for _, p := range serving {
		if n := p.settled(t, files[p]+spare); n > files[p]+spare {
			t.Errorf("%s has %d files open, and had %d", p.name, n, files[p])
		}
		if r := resident[p]; length >= whole && r[3] > r[1]+r[1]/5 {
			t.Errorf("%s grows: %v MiB", p.name, r)
		}
	}

	all.proxy.stop(t)
	all.host.stop(t)
	var channel struct{ Signed, Settled uint64 }
	if err := json.Unmarshal([]byte(do(t, filepath.Join(all.bin, "bombyx"), "--home", all.dir, "channel", "list", "--json")), &channel); err != nil {
		t.Fatal(err)
	}
	var days []struct{ Earned, Answers uint64 }
	if err := json.Unmarshal([]byte(do(t, filepath.Join(all.bin, "bombyx-host"), "earnings", "--config", filepath.Join(all.dir, "provider.json"), "--json")), &days); err != nil {
		t.Fatal(err)
	}
	var earned uint64
	for _, d := range days {
		earned += d.Earned
	}
	t.Logf("signed %d, settled %d, earned %d nanogram", channel.Signed, channel.Settled, earned)
	const answer, window = 10*100 + 50*300, 10_000_000 // nanogram
	switch {
	case earned > channel.Signed:
		t.Error("the host has earned more than was signed")
	case channel.Signed > channel.Settled+window:
		t.Error("the client has signed for more than a window beyond what was delivered")
	case channel.Settled != earned:
		t.Error("the client has settled another amount than the host has earned: every request here ends with a receipt, or costs nothing")
	case channel.Settled < uint64(answered.Load())*answer:
		t.Errorf("%d answers came whole, for %d nanogram each", answered.Load(), answer)
	}
}

// A use is one thing that a program does with the proxy. It reports whether an
// answer came whole.
type use struct {
	name string
	use  func(tr *http.Transport, at string) (bool, error)
}

var uses = [...]use{
	{"streamed", func(tr *http.Transport, at string) (bool, error) {
		return askProxy(tr, at, streamed, 200, "[DONE]\n\n", -1)
	}},
	{"whole", func(tr *http.Transport, at string) (bool, error) { return askProxy(tr, at, unstreamed, 200, "}", -1) }},
	{"on a new connection", func(_ *http.Transport, at string) (bool, error) {
		tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
		return askProxy(tr, at, streamed, 200, "[DONE]\n\n", -1)
	}},
	{"cancelled", func(tr *http.Transport, at string) (bool, error) { return askProxy(tr, at, streamed, 200, "", 1) }},
	{"of an unknown model", func(tr *http.Transport, at string) (bool, error) {
		return askProxy(tr, at, strings.Replace(streamed, Model, "no-such-model", 1), 404, "}", -1)
	}},
	{"malformed", func(tr *http.Transport, at string) (bool, error) { return askProxy(tr, at, `{"model":`, 400, "}", -1) }},
}

const (
	streamed   = `{"model":"` + Model + `","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`
	unstreamed = `{"model":"` + Model + `","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`
)

// askProxy sends a request and reads so many bytes of its answer, or to its end, which it wants to be this.
func askProxy(tr *http.Transport, at, body string, status int, end string, most int64) (bool, error) {
	resp, err := tr.RoundTrip(newRequest(at, []byte(body)))
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	src := io.Reader(resp.Body)
	if most >= 0 {
		src = io.LimitReader(src, most)
	}
	got, err := io.ReadAll(src)
	if err == nil && (resp.StatusCode != status || !bytes.HasSuffix(bytes.TrimRight(got, "\n"), []byte(strings.TrimRight(end, "\n")))) {
		err = fmt.Errorf("status %d: %.300s", resp.StatusCode, got)
	}
	return err == nil && status == 200 && most < 0, err
}

// files is how many files and sockets the party has open.
func (p *party) files(t testing.TB) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("needs Linux's /proc")
	}
	return len(open)
}

// settled waits for that number of open files to be reached, and returns the last
// that it saw.
func (p *party) settled(t testing.TB, want int) (n int) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if n = p.files(t); n <= want || time.Since(began) > 30*time.Second {
			return n
		}
	}
}

// stop has the party end as on an interrupt from the keyboard.
func (p *party) stop(t testing.TB) {
	t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	if err := p.cmd.Wait(); err != nil {
		if _, ended := err.(*exec.ExitError); !ended {
			t.Fatal(err)
		}
	}
}
