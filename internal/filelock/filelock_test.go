package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestTry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	if err := Try(first); err != nil {
		t.Fatal(err)
	}
	if err := Try(second); !errors.Is(err, ErrHeld) {
		t.Fatalf("a second holder: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "content" {
		t.Fatalf("a locked file is not readable: %q, %v", b, err)
	}
	first.Close()
	if err := Try(second); err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
}
