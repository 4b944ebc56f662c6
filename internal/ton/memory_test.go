package ton_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// A far chain has 67 key blocks, and writes down from where proofs are asked.
type far struct {
	t      *testing.T
	chain  *devnet.Chain
	ls     *devnet.Liteserver
	path   string
	mu     sync.Mutex
	proofs []uint32 // known blocks of the queries for proofs
}

func newFar(t *testing.T) *far {
	f := &far{t: t, path: filepath.Join(t.TempDir(), "key-block.json")}
	var err error
	if f.chain, err = devnet.New(devnet.Config{KeyEvery: 3}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.chain.Close() })
	if f.ls, err = f.chain.Serve(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.ls.Watch(func(q tl.Serializable) {
		if p, ok := q.(tonapi.GetBlockProof); ok {
			f.mu.Lock()
			f.proofs = append(f.proofs, p.KnownBlock.SeqNo)
			f.mu.Unlock()
		}
	})
	f.seal(199)
	return f
}

func (f *far) seal(n int) {
	for range n {
		if err := f.chain.Seal(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// dial returns from where proofs were asked, what was warned of, and the error.
func (f *far) dial(config []byte, change ...func(*ton.Options)) (proofs []uint32, warned string, err error) {
	f.t.Helper()
	f.mu.Lock()
	f.proofs = nil
	f.mu.Unlock()
	opts := fast
	opts.Memory = f.path
	opts.Warn = func(err error) { warned += err.Error() }
	for _, c := range change {
		c(&opts)
	}
	c, err := ton.Dial(f.t.Context(), config, opts)
	if err == nil {
		if h, err := c.MasterchainHead(f.t.Context()); err != nil || h.Seqno != f.chain.Status().Seqno {
			f.t.Errorf("%+v %v", h, err)
		}
		c.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proofs, warned, err
}

func (f *far) want(what string, want []uint32, warning string, proofs []uint32, warned string, err error) {
	f.t.Helper()
	if err != nil || !slices.Equal(proofs, want) || (warned == "") != (warning == "") || !strings.Contains(warned, warning) {
		f.t.Errorf("%s: proofs from %d, want %d; warned %q, want %q; %v", what, proofs, want, warned, warning, err)
	}
}

func (f *far) file() map[string]any {
	f.t.Helper()
	b, err := os.ReadFile(f.path)
	var m map[string]any
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *far) write(m map[string]any) {
	f.t.Helper()
	b, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(f.path, b, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// The whole way, 67 key blocks in answers of 16.
var fromThePin = []uint32{1, 49, 97, 145, 193}

func TestMemory(t *testing.T) {
	f := newFar(t)
	config := f.chain.GlobalConfig()
	var progress [][2]uint32
	proofs, warned, err := f.dial(config, func(o *ton.Options) {
		o.Progress = func(seqno, newest uint32) { progress = append(progress, [2]uint32{seqno, newest}) }
	})
	f.want("the first time", fromThePin, "", proofs, warned, err)
	if len(progress) == 0 || progress[0] != [2]uint32{49, 200} {
		t.Errorf("progress: %d", progress)
	}
	if info, err := os.Stat(f.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if n := f.file()["seqno"]; n != 199. {
		t.Errorf("it remembers %v", n)
	}
	proofs, warned, err = f.dial(config)
	f.want("the second time", []uint32{199}, "", proofs, warned, err)

	// What comes meanwhile is remembered, too, and by clients that run on.
	f.seal(100)
	proofs, warned, err = f.dial(config)
	f.want("100 blocks later", []uint32{199, 247, 295}, "", proofs, warned, err)
	opts := fast
	opts.Memory = f.path
	c, err := ton.Dial(t.Context(), config, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f.seal(5)
	if _, err := c.MasterchainHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := f.file()["seqno"]; n != 304. {
		t.Errorf("it remembers %v", n)
	}

	// Nor does who has no file begin anywhere else.
	proofs, warned, err = f.dial(config, func(o *ton.Options) { o.Memory = "" })
	f.want("without a file", []uint32{1, 49, 97, 145, 193, 241, 289}, "", proofs, warned, err)
}

// A file that is not ours, or not right, is said to be, and costs time only.
func TestMemoryRefusals(t *testing.T) {
	f := newFar(t)
	config := f.chain.GlobalConfig()
	if _, _, err := f.dial(config); err != nil {
		t.Fatal(err)
	}
	good := f.file()
	pin := edit(good, "seqno", 1.)
	zeros := strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		content any // or bytes
		warning string
	}{
		"empty":                         {[]byte{}, "is of no use"},
		"no JSON":                       {[]byte("{"), "is of no use"},
		"long":                          {append(bytes.Repeat([]byte(" "), 5000), "{}"...), "is of no use"},
		"an unknown member":             {edit(good, "x", 1), "is of no use"},
		"another version":               {edit(good, "bombyx_key_block", 2), "version 2"},
		"no hash":                       {edit(good, "root_hash", "00"), "no hash"},
		"another network":               {edit(good, "zero_state", zeros), "another network"},
		"another beginning":             {edit(good, "from", zeros), "another block than the trusted one, 1"},
		"before the trusted block":      {edit(good, "seqno", 0.), "before the trusted one"},
		"against the trusted block":     {pin, "contradicts the trusted block 1"},
		"a block that nobody has":       {edit(good, "root_hash", zeros), "no way from key block 199"},
		"a block with another file":     {edit(good, "file_hash", zeros), "no way from key block 199"},
		"a block of the future":         {edit(good, "seqno", 1000.), "no way from key block 1000"},
		"a sequence number that is not": {edit(good, "seqno", 196.), "no way from key block 196"},
	} {
		if b, ok := c.content.([]byte); ok {
			if err := os.WriteFile(f.path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			f.write(c.content.(map[string]any))
		}
		proofs, warned, err := f.dial(config)
		if n := len(proofs) - len(fromThePin); strings.Contains(c.warning, "no way") && n > 0 {
			proofs = proofs[n:] // it was tried
		}
		f.want(name, fromThePin, c.warning, proofs, warned, err)
		if now := f.file(); now["seqno"] != 199. || now["root_hash"] != good["root_hash"] {
			t.Errorf("%s: it remembers %v", name, now)
		}
	}
	if err := os.Chmod(f.path, 0o660); err != nil {
		t.Fatal(err)
	}
	proofs, warned, err := f.dial(config)
	f.want("others may write it", fromThePin, "want 0600", proofs, warned, err)
	if info, err := os.Stat(f.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := errors.Join(os.Remove(f.path), os.Mkdir(f.path, 0o700)); err != nil {
		t.Fatal(err)
	}
	proofs, warned, err = f.dial(config)
	f.want("a folder", fromThePin, "not a file", proofs, warned, err)
	f.path = filepath.Join(f.path, "none", "key-block.json")
	proofs, warned, err = f.dial(config)
	f.want("a folder that is not there", fromThePin, "cannot remember", proofs, warned, err)
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(f.path))), ".*-[0-9]*")); err != nil || len(left) > 0 {
		t.Errorf("%s, %v", left, err)
	}
}

func edit(m map[string]any, member string, to any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	out[member] = to
	return out
}

// The file follows the trusted block: whoever replaces that means it.
func TestMemoryOfAnotherPin(t *testing.T) {
	f := newFar(t)
	config := f.chain.GlobalConfig()
	if _, _, err := f.dial(config); err != nil {
		t.Fatal(err)
	}
	m := f.file()
	later := edited(t, config, func(v *liteclient.ValidatorConfig) {
		v.InitBlock.SeqNo = 199
		v.InitBlock.RootHash, _ = hex.DecodeString(m["root_hash"].(string))
		v.InitBlock.FileHash, _ = hex.DecodeString(m["file_hash"].(string))
	})
	f.seal(3)
	proofs, warned, err := f.dial(later)
	f.want("a later init block", []uint32{199}, "another block than the trusted one, 199", proofs, warned, err)

	// A known network is trusted from the pin, whatever its file says.
	ton.Pin(t, config, devnet.DefaultGlobalID)
	proofs, warned, err = f.dial(later)
	f.want("a known network", []uint32{1, 49, 97, 145, 193, 203}, "another block than the trusted one, 1", proofs, warned, err)
	proofs, warned, err = f.dial(later)
	f.want("a known network again", []uint32{202, 203}, "", proofs, warned, err)
}

// What a liteserver leads through counts only once it is proven.
func TestMemoryOfALie(t *testing.T) {
	f := newFar(t)
	f.seal(2) // the newest is a key block
	lie := func(l devnet.Lie) {
		if err := f.ls.SetFaults(devnet.Faults{Lie: l}); err != nil {
			t.Fatal(err)
		}
	}
	lie(devnet.LieHead)
	if _, _, err := f.dial(f.chain.GlobalConfig()); !errors.Is(err, ton.ErrUnreachable) || !strings.Contains(err.Error(), "signature") {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it remembers %v", f.file())
	}
	lie("")
	if _, _, err := f.dial(f.chain.GlobalConfig()); err != nil {
		t.Fatal(err)
	}
	before := f.file()
	f.seal(3)
	lie(devnet.LieHead)
	if _, warned, err := f.dial(f.chain.GlobalConfig()); !errors.Is(err, ton.ErrUnreachable) || !strings.Contains(warned, "no way") {
		t.Error(warned, err)
	}
	if now := f.file(); !maps.Equal(now, before) || now["seqno"] != 202. {
		t.Errorf("it remembers %v", now)
	}
}

func FuzzMemory(f *testing.F) {
	chain, err := devnet.New(devnet.Config{Seed: make([]byte, 32), Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { chain.Close() })
	if _, err := chain.Serve(f.Context(), "127.0.0.1:0"); err != nil {
		f.Fatal(err)
	}
	c, err := ton.ParseConfig(chain.GlobalConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(ton.Remembered(c)))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := ton.ParseMemory(b, c)
		if err == nil && (id.SeqNo < c.Init.SeqNo || len(id.RootHash) != 32 || len(id.FileHash) != 32 || id.Workchain != -1 || id.Shard != -1<<63) {
			t.Errorf("%+v", id)
		}
	})
}
