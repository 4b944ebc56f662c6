package sqlite

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestOpen(t *testing.T) {
	first := fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (x TEXT);")}}
	path := filepath.Join(t.TempDir(), "a ?%#&.db") // every byte of a path is the file's, not the URL's
	for range 2 {
		db, err := Open(t.Context(), path, first)
		if err != nil {
			t.Fatal(err)
		}
		// Every connection waits for the disk.
		for range 3 {
			c, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var mode string
			var sync int
			if err := c.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
				t.Errorf("journal %s, %v", mode, err)
			}
			if err := c.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&sync); err != nil || sync != 2 {
				t.Errorf("synchronous %d, %v; want FULL", sync, err)
			}
		}
		defer db.Close()
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none", "x"), first); err == nil {
		t.Error("a file in no directory")
	}
	broken := fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\nCREATE NONSENSE;")}}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "x"), broken); err == nil {
		t.Error("a migration that fails")
	}
}
