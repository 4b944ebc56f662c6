package devnet

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// The chain's log is one JSON object a line: the genesis, then for every block
// its inputs and the root hash that came out. Opening it executes the inputs
// again and compares the hashes, so a damaged log cannot pass for a chain. A
// last line without its end, left by a kill, is cut off: nobody saw that block.

const (
	logName    = "chain.jsonl"
	logVersion = 1
)

// ErrInUse means that another process has the chain's directory.
var ErrInUse = errors.New("in use by another devnet")

type blockLog struct {
	f    *os.File
	size int64
}

type genesisLine struct {
	Version int `json:"version"`
	genesis
}

type blockLine struct {
	Time      uint32        `json:"time"`
	Offset    time.Duration `json:"offset_ns,omitempty"`
	Delay     uint32        `json:"delay,omitempty"`
	Externals [][]byte      `json:"externals,omitempty"`
	Root      string        `json:"root"`
}

// openLog opens or creates the log in dir and returns the blocks in it. The
// genesis of an existing log replaces g.
func openLog(dir string, cfg Config, g *genesis) (_ *blockLog, _ []*sealed, err error) {
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("devnet: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, logName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("devnet: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err = lockFile(f); err != nil {
		return nil, nil, fmt.Errorf("devnet: %s: %w: %w", f.Name(), ErrInUse, err)
	}
	l := &blockLog{f: f}
	r := bufio.NewReader(f)
	first, err := r.ReadBytes('\n')
	if errors.Is(err, io.EOF) { // new, or killed before the first line was whole
		if err = g.check(); err != nil {
			return nil, nil, fmt.Errorf("devnet: %w", err)
		}
		if err = l.reset(0); err != nil {
			return nil, nil, err
		}
		return l, nil, l.write(genesisLine{logVersion, *g})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("devnet: %w", err)
	}
	var head genesisLine
	if err = strictLine(first, &head); err != nil {
		return nil, nil, fmt.Errorf("devnet: %s: first line: %w", f.Name(), err)
	}
	switch {
	case head.Version != logVersion:
		return nil, nil, fmt.Errorf("devnet: %s has version %d, this program reads %d: use another directory", f.Name(), head.Version, logVersion)
	case cfg.GlobalID != 0 && cfg.GlobalID != head.GlobalID:
		return nil, nil, fmt.Errorf("devnet: %s holds network %d, not %d: use another directory", f.Name(), head.GlobalID, cfg.GlobalID)
	case cfg.Seed != nil && !bytes.Equal(cfg.Seed, head.Seed):
		return nil, nil, fmt.Errorf("devnet: %s was made with another seed: use another directory", f.Name())
	case len(head.Seed) == 0:
		return nil, nil, fmt.Errorf("devnet: %s: first line: no seed", f.Name())
	}
	*g = head.genesis
	size := int64(len(first))
	var blocks []*sealed
	for n := 2; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("devnet: %w", err)
		}
		s, err := parseBlockLine(line)
		if err != nil {
			return nil, nil, fmt.Errorf("devnet: %s: line %d: %w", f.Name(), n, err)
		}
		blocks = append(blocks, s)
		size += int64(len(line))
	}
	return l, blocks, l.reset(size)
}

func strictLine(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("trailing data")
	}
	return nil
}

func parseBlockLine(line []byte) (*sealed, error) {
	var b blockLine
	if err := strictLine(line, &b); err != nil {
		return nil, err
	}
	s := &sealed{Time: b.Time, Offset: b.Offset, Delay: b.Delay}
	root, err := hex.DecodeString(b.Root)
	if err != nil || len(root) != 32 {
		return nil, errors.New("root is not 32 bytes of hex")
	}
	s.Root = [32]byte(root)
	if s.Root == ([32]byte{}) {
		return nil, errors.New("root is zero")
	}
	if b.Offset < 0 {
		return nil, errors.New("offset is negative")
	}
	for _, raw := range b.Externals {
		c, err := cell.FromBOC(raw)
		if err != nil {
			return nil, fmt.Errorf("external message: %w", err)
		}
		s.Externals = append(s.Externals, c)
	}
	return s, nil
}

// reset cuts the file to size and goes there.
func (l *blockLog) reset(size int64) error {
	if err := l.f.Truncate(size); err != nil {
		return fmt.Errorf("devnet: %w", err)
	}
	_, err := l.f.Seek(size, io.SeekStart)
	l.size = size
	return err
}

func (l *blockLog) append(s *sealed) error {
	line := blockLine{Time: s.Time, Offset: s.Offset, Delay: s.Delay, Root: hex.EncodeToString(s.Root[:])}
	for _, c := range s.Externals {
		line.Externals = append(line.Externals, c.ToBOC())
	}
	return l.write(line)
}

// write appends a line and makes it durable; a failed write leaves no half line.
func (l *blockLog) write(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if _, err = l.f.Write(raw); err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("devnet: write the chain's log: %w", err), l.reset(l.size))
	}
	l.size += int64(len(raw))
	return nil
}

func (l *blockLog) close() error { return l.f.Close() }

// replay executes saved blocks again.
func (c *Chain) replay(saved []*sealed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range saved {
		c.pool, c.pooled = nil, map[[32]byte]bool{}
		if err := c.sealWith(s); err != nil {
			return fmt.Errorf("replay block %d: %w", i+1, err)
		}
		c.offset, c.delay = s.Offset, s.Delay
	}
	c.pool, c.pooled = nil, map[[32]byte]bool{}
	return nil
}
