package host

import (
	"fmt"
	"io"
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

// changed reads the file once, whatever it holds, until it changes again: nil if it has not. Where reading fails it tries again.
func (f *file) changed() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err == nil && !info.Mode().IsRegular() { // a pipe would be waited for
		err = fmt.Errorf("%s is not a regular file", f.path)
	}
	if err != nil {
		f.modified, f.size = time.Time{}, 0
		return nil, err
	}
	if info.ModTime().Equal(f.modified) && info.Size() == f.size {
		return nil, nil
	}
	b, err := f.read()
	if err != nil {
		return nil, err
	}
	f.modified, f.size = info.ModTime(), info.Size()
	if int64(len(b)) > f.limit {
		return nil, fmt.Errorf("%s: more than %d bytes", f.path, f.limit)
	}
	return b, nil
}

func (f *file) read() ([]byte, error) {
	from, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	return io.ReadAll(io.LimitReader(from, f.limit+1))
}
