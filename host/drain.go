package host

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
)

// A DrainFile lists enclaves, an id a line, that are to get no new requests: those that run end in their own time, and then
// the enclave can be stopped without cutting an answer. It may be written while the host runs, and need not be there.
type DrainFile struct {
	file file
	ids  []string // of all enclaves
	log  *slog.Logger
	list []string
}

// OpenDrain reads the list at path. The log, which may be nil, hears of changes.
func OpenDrain(path string, enclaves []Enclave, log *slog.Logger) (*DrainFile, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &DrainFile{file: file{path: path, limit: 1 << 16}, log: log}
	for _, e := range enclaves {
		f.ids = append(f.ids, e.ID)
	}
	return f, f.refresh()
}

// List returns the list as the file has it now. One that cannot be read, or names an enclave that is not there, changes
// nothing. It is for one goroutine at a time.
func (f *DrainFile) List() []string {
	if err := f.refresh(); err != nil {
		f.log.Error("drain: the list before holds", "err", err)
	}
	return f.list
}

func (f *DrainFile) refresh() error {
	b, err := f.file.changed()
	if errors.Is(err, fs.ErrNotExist) {
		b, err = []byte{}, nil
	}
	if err != nil || b == nil {
		return err
	}
	list := strings.Fields(string(b))
	for _, id := range list {
		if !slices.Contains(f.ids, id) {
			return fmt.Errorf("%s: there is no enclave %.40q", f.file.path, id)
		}
	}
	if !slices.Equal(list, f.list) {
		f.log.Info("drain", "enclaves", list)
	}
	f.list = list
	return nil
}
