package host

import (
	"fmt"
	"os"
	"time"
)

// A file may be replaced while the host runs.
type file struct {
	path  string
	limit int64 // bytes

	modified time.Time // of what was read last
	size     int64
}

// changed reads the file once, whatever it holds, until it changes again: nil if it has not.
func (f *file) changed() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		f.modified, f.size = time.Time{}, 0
		return nil, err
	}
	if info.ModTime().Equal(f.modified) && info.Size() == f.size {
		return nil, nil
	}
	f.modified, f.size = info.ModTime(), info.Size()
	if info.Size() > f.limit {
		return nil, fmt.Errorf("%s: %d bytes, limit %d", f.path, info.Size(), f.limit)
	}
	b, err := os.ReadFile(f.path)
	if b == nil && err == nil {
		b = []byte{}
	}
	return b, err
}
