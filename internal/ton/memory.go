package ton

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/bombyx-network/bombyx/internal/strictjson"
	"github.com/bombyx-network/bombyx/internal/wholefile"
)

// The way from the pinned key block to the newest block grows by some ten key
// blocks a week, each with the signatures of a hundred validators. What was
// proven once is remembered in a file.

const maxMemory = 4096 // bytes of the file

// remembered is the file.
type remembered struct {
	Version   int    `json:"bombyx_key_block"` // 1
	ZeroState string `json:"zero_state"`       // of the network: root hash, hexadecimal
	From      string `json:"from"`             // root hash of the trusted block that the way began at, hexadecimal
	Seqno     uint32 `json:"seqno"`            // of the key block
	RootHash  string `json:"root_hash"`        // hexadecimal
	FileHash  string `json:"file_hash"`
}

// recall reads the file; nil means that there is none.
func recall(path string, cfg *Config) (*tonapi.BlockIDExt, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others may write it: its mode is %04o, want 0600", info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxMemory+1))
	if err != nil {
		return nil, err
	}
	return parseMemory(b, cfg)
}

func parseMemory(b []byte, cfg *Config) (*tonapi.BlockIDExt, error) {
	var m remembered
	if err := strictjson.Decode(b, maxMemory, &m); err != nil {
		return nil, err
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("version %d, this program reads 1", m.Version)
	}
	var hashes [4][]byte
	for i, s := range []string{m.ZeroState, m.From, m.RootHash, m.FileHash} {
		h, err := hex.DecodeString(s)
		if err != nil || len(h) != 32 {
			return nil, fmt.Errorf("%q is no hash: not 64 hexadecimal digits", clipLong(s))
		}
		hashes[i] = h
	}
	id := &tonapi.BlockIDExt{Workchain: masterchain, Shard: fullShard, SeqNo: m.Seqno, RootHash: hashes[2], FileHash: hashes[3]}
	switch {
	case [32]byte(hashes[0]) != cfg.zero:
		return nil, errors.New("it is for another network")
	case [32]byte(hashes[1]) != [32]byte(cfg.Init.RootHash):
		return nil, fmt.Errorf("it was proven from another block than the trusted one, %d", cfg.Init.SeqNo)
	case m.Seqno < cfg.Init.SeqNo:
		return nil, fmt.Errorf("its block %d is before the trusted one, %d", m.Seqno, cfg.Init.SeqNo)
	case m.Seqno == cfg.Init.SeqNo && !id.Equals(&cfg.Init):
		return nil, fmt.Errorf("it contradicts the trusted block %d", m.Seqno)
	}
	return id, nil
}

func encodeMemory(id *tonapi.BlockIDExt, cfg *Config) []byte {
	b, _ := json.Marshal(remembered{1, hex.EncodeToString(cfg.zero[:]), hex.EncodeToString(cfg.Init.RootHash),
		id.SeqNo, hex.EncodeToString(id.RootHash), hex.EncodeToString(id.FileHash)}) // strings and numbers do not fail
	return append(b, '\n')
}

// A memory is where a client remembers.
type memory struct {
	path string
	cfg  *Config
	opts *Options

	mu     sync.Mutex
	newest uint32    // key block in the file
	failed bool      // to write it: said once
	told   time.Time // progress
	moved  time.Time // by this machine's clock: some of a long way was proven
}

func (m *memory) warn(format string, args ...any) {
	if m.opts.Warn != nil {
		m.opts.Warn(fmt.Errorf("ton: "+format, args...))
	}
}

// recall is the block to trust, and whether it is a remembered one.
func (m *memory) recall() (tonapi.BlockIDExt, bool) {
	if m.path == "" {
		return m.cfg.Init, false
	}
	id, err := recall(m.path, m.cfg)
	if err != nil {
		m.warn("%s, which remembers how far the chain was proven, is of no use: %w; it will be written anew, from the trusted block on", m.path, err)
	}
	if err != nil || id == nil {
		return m.cfg.Init, false
	}
	m.newest = id.SeqNo
	return *id, true
}

// remember takes a proven key block.
func (m *memory) remember(id *tonapi.BlockIDExt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" || id.SeqNo <= m.newest {
		return
	}
	err := wholefile.Write(m.path, encodeMemory(id, m.cfg), 0o600)
	if err == nil {
		m.newest = id.SeqNo
	} else if !m.failed {
		m.failed = true
		m.warn("cannot remember how far the chain was proven, so that every start proves it again: %w", err)
	}
}

// forget lets the file be written from the start again.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest = 0
}

// moving says whether some of a long way was proven lately.
func (m *memory) moving(lately time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.moved) < lately
}

const progressEvery = 3 * time.Second

// progress says how far a long way has been followed.
func (m *memory) progress(seqno, newest uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved = time.Now()
	if now := m.opts.Now(); m.opts.Progress != nil && now.Sub(m.told) >= progressEvery {
		m.told = now
		m.opts.Progress(seqno, newest)
	}
}

// A trail is one way from a trusted block to a server's newest one, as the
// library follows it. What an answer leads through is proven when the library
// asks for the rest of the way, or has accepted the whole.
type trail struct {
	memory *memory
	end    *tonapi.BlockIDExt // of the last answer
	key    *tonapi.BlockIDExt // the last key block in it
}

type trailKey struct{}

// follow returns a context whose queries leave a trail.
func (m *memory) follow(ctx context.Context) (context.Context, *trail) {
	t := &trail{memory: m}
	return context.WithValue(ctx, trailKey{}, t), t
}

func (t *trail) accepted() {
	if t.key != nil {
		t.memory.remember(t.key)
		t.key = nil
	}
}

// asks notes a query before it is made.
func (t *trail) asks(q tl.Serializable) {
	p, ok := q.(tonapi.GetBlockProof)
	if !ok || p.TargetBlock == nil || p.TargetBlock.SeqNo <= p.KnownBlock.SeqNo {
		return
	}
	if t.end != nil && t.end.Equals(p.KnownBlock) {
		t.accepted()
		t.memory.progress(p.KnownBlock.SeqNo, p.TargetBlock.SeqNo)
	}
	t.end, t.key = nil, nil
}

// hears notes its answer.
func (t *trail) hears(q, answer tl.Serializable) {
	p, ok := q.(tonapi.GetBlockProof)
	a, ok2 := answer.(tonapi.PartialBlockProof)
	if !ok || !ok2 || p.TargetBlock == nil || p.TargetBlock.SeqNo <= p.KnownBlock.SeqNo || a.To == nil {
		return
	}
	t.end = a.To
	for _, step := range a.Steps {
		if forward, ok := step.(tonapi.BlockLinkForward); ok && forward.ToKeyBlock && forward.To != nil {
			t.key = forward.To
		}
	}
}
