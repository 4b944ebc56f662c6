package host

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/collateral"
)

// A CollateralFile is a bundle in a file that may be replaced while the host runs: collateral expires within weeks, OCSP answers
// within hours.
type CollateralFile struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	bundle []byte
	read   fileState // of the last attempt
}

type fileState struct {
	modified time.Time
	size     int64
}

// OpenCollateral reads the bundle at path. The log, which may be nil, hears of replacements.
func OpenCollateral(path string, log *slog.Logger) (*CollateralFile, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &CollateralFile{path: path, log: log}
	return f, f.refresh()
}

// Bundle returns the bundle as the file has it now. When that cannot be read it stays with the last one that could.
func (f *CollateralFile) Bundle() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		f.log.Error("collateral: clients get the old bundle", "err", err)
	}
	return f.bundle
}

// refresh looks at a file once, whatever it holds, until it changes again.
func (f *CollateralFile) refresh() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	now := fileState{info.ModTime(), info.Size()}
	if now == f.read {
		return nil
	}
	f.read = now
	if info.Size() > maxDocument {
		return fmt.Errorf("%s: %d bytes, clients take %d", f.path, info.Size(), maxDocument)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	parsed, err := collateral.Parse(b)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.bundle = b
	f.log.Info("collateral", "items", len(parsed.Items()), "bundle", fmt.Sprintf("%x", parsed.Digest()))
	return nil
}
