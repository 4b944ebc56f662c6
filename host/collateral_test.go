package host

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
)

// A bundle that was replaced is served at once; one that is none, or too long for clients, is not, and the log says so.
func TestCollateralFile(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a := attestationtest.New("collateral")
	bundle := func(at time.Time) []byte {
		b, err := a.Collateral(attestationtest.CollateralOptions{Now: at})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	old, fresh := bundle(now), bundle(now.Add(24*time.Hour))
	path := filepath.Join(t.TempDir(), "collateral.json")
	changes := 0
	write := func(b []byte) {
		changes++
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if at := now.Add(time.Duration(changes) * time.Second); os.Chtimes(path, at, at) != nil {
			t.Fatal("no times can be set")
		}
	}
	if _, err := OpenCollateral(path, nil); err == nil {
		t.Error("opened what is not there")
	}
	write([]byte("{}"))
	if _, err := OpenCollateral(path, nil); err == nil {
		t.Error("opened what is no bundle")
	}
	write(old)
	var log bytes.Buffer
	f, err := OpenCollateral(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Bundle(), old) {
		t.Error("not the bundle in the file")
	}
	write(fresh)
	if !bytes.Equal(f.Bundle(), fresh) {
		t.Error("not the new bundle")
	}
	for name, b := range map[string][]byte{"truncated": fresh[:len(fresh)/2], "too long": append(bytes.Clone(fresh), make([]byte, maxDocument)...)} {
		log.Reset()
		write(b)
		if !bytes.Equal(f.Bundle(), fresh) || !strings.Contains(log.String(), "old bundle") {
			t.Errorf("%s: log %q", name, log.String())
		}
		if log.Reset(); !bytes.Equal(f.Bundle(), fresh) || log.Len() > 0 {
			t.Errorf("%s: read again though it had not changed: %q", name, log.String())
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Bundle(), fresh) {
		t.Error("forgotten with the file")
	}
}
