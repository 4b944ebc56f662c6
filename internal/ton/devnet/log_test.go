package devnet

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var fixed = time.Unix(1_800_000_000, 0)

// open opens a chain whose clock stands still, so that storage costs nothing.
func open(t testing.TB, dir string) *Chain {
	t.Helper()
	c, err := New(Config{Dir: dir, Clock: func() time.Time { return fixed }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChainContinuesAfterRestart(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	give(t, c, addr(0, 1), 5, false)
	c.DelayMessages(3)
	give(t, c, addr(0, 2), 6, false) // still on its way when the chain stops
	if err := c.Advance(24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	head, config, supply := c.last().id, c.blocks[masterchain][1].id, c.balanceOf(t, c.giver)
	if _, err := New(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("two chains in one directory: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Seal(); err == nil {
		t.Fatal("sealed after Close")
	}

	c = open(t, dir)
	defer c.Close()
	if !c.last().id.Equals(head) || !c.blocks[masterchain][1].id.Equals(config) || c.balanceOf(t, c.giver) != supply || c.balanceOf(t, addr(0, 1)) != 5 {
		t.Fatal("another chain came back")
	}
	if got := c.Now().Sub(fixed); got != 24*time.Hour {
		t.Fatalf("the advanced time is lost: %s ahead", got)
	}
	for range 3 {
		if err := c.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	if c.balanceOf(t, addr(0, 2)) != 6 {
		t.Fatal("the message on its way is lost")
	}
}

func TestLogRefused(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	give(t, c, addr(0, 1), 5, false)
	give(t, c, addr(0, 1), 6, false)
	head := c.last().id
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, logName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	swap := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	for name, v := range map[string]struct {
		log []byte
		cfg Config
	}{
		"a block is missing":  {log: join(lines[0], lines[1], lines[3])},
		"blocks in disorder":  {log: join(lines[0], lines[2], lines[1], lines[3])},
		"another root":        {log: swap(`"root":"`, `"root":"00`)},
		"not JSON":            {log: append(bytes.Clone(good), "hello\n"...)},
		"unknown member":      {log: append(bytes.Clone(good), "{\"x\":1}\n"...)},
		"a later version":     {log: swap(`"version":1`, `"version":2`)},
		"no seed":             {log: swap(`"seed":"`, `"seed":"","x":"`)},
		"another time":        {log: swap(`{"time":1`, `{"time":2`)},
		"the wrong network":   {log: good, cfg: Config{GlobalID: -5}},
		"the wrong seed":      {log: good, cfg: Config{Seed: []byte("other")}},
		"a public network":    {log: swap(`"global_id":-217`, `"global_id":-239`)},
		"mainnet asked for":   {cfg: Config{GlobalID: -239}},
		"not a chain's first": {log: lines[1]},
	} {
		dir := t.TempDir()
		if v.log != nil {
			if err := os.WriteFile(filepath.Join(dir, logName), v.log, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v.cfg.Dir = dir
		if c, err := New(v.cfg); err == nil {
			_ = c.Close()
			t.Errorf("%s: opened", name)
		}
	}
	// what a kill leaves: any part of a last line
	for cut := range len(lines[3]) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, logName), good[:len(good)-len(lines[3])+cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if cut%50 != 0 { // each opens a whole chain
			continue
		}
		c := open(t, dir)
		if c.last().id.SeqNo != head.SeqNo-1 {
			t.Fatalf("cut at %d: block %d", cut, c.last().id.SeqNo)
		}
		give(t, c, addr(0, 1), 7, false)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = open(t, dir)
		if c.balanceOf(t, addr(0, 1)) != 12 {
			t.Fatal("the block after the cut is lost")
		}
		_ = c.Close()
	}
}

// TestKilled kills a process in the middle of sealing blocks; what it had
// announced is there afterwards.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("DEVNET_KILLED_DIR"); dir != "" { // the victim
		c := open(t, dir)
		for n := uint64(1); ; n++ {
			give(t, c, addr(0, 1), 1, false)
			fmt.Printf("sealed %d %x\n", c.last().id.SeqNo, c.last().id.RootHash)
		}
	}
	dir := t.TempDir()
	var seqno uint32
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "DEVNET_KILLED_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var root string
		for i := 0; i < 5+round && lines.Scan(); i++ {
			if _, err = fmt.Sscanf(lines.Text(), "sealed %d %s", &seqno, &root); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
		}
		if err = cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		c := open(t, dir)
		list := c.blocks[masterchain]
		if int(seqno) >= len(list) || fmt.Sprintf("%x", list[seqno].id.RootHash) != root {
			t.Fatalf("round %d: announced block %d is not there", round, seqno)
		}
		if err = c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkReopen executes a log of 200 transfers again.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	c := open(b, dir)
	for range 200 {
		if err := c.Fund(addr(0, 1), 1); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := open(b, dir).Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/200, "us/block")
}
