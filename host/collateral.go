package host

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/bombyx-network/bombyx/attestation/collateral"
)

// A CollateralFile is a bundle in a file that may be replaced while the host runs: collateral expires within weeks, OCSP answers
// within hours.
type CollateralFile struct {
	log *slog.Logger

	mu     sync.Mutex
	file   file
	bundle []byte
}

// OpenCollateral reads the bundle at path. The log, which may be nil, hears of replacements.
func OpenCollateral(path string, log *slog.Logger) (*CollateralFile, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &CollateralFile{file: file{path: path, limit: maxDocument}, log: log}
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

func (f *CollateralFile) refresh() error {
	b, err := f.file.changed()
	if err != nil || b == nil {
		return err
	}
	parsed, err := collateral.Parse(b)
	if err != nil {
		return fmt.Errorf("%s: %w", f.file.path, err)
	}
	f.bundle = b
	f.log.Info("collateral", "items", len(parsed.Items()), "bundle", fmt.Sprintf("%x", parsed.Digest()))
	return nil
}
