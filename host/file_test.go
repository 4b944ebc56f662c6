//go:build unix

package host

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pipe or a directory in a file's place is refused, and not waited for.
func TestNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for name, put := range map[string]func() error{
		"directory": func() error { return os.Mkdir(path, 0o700) },
		"pipe":      func() error { return syscall.Mkfifo(path, 0o600) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := (&file{path: path, limit: 10}).changed()
			read <- err
		}()
		select {
		case err := <-read:
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("a %s is waited for", name)
		}
		os.Remove(path)
	}
}

// A file that could not be opened, as when the process has too many open, is read once it can be, though it has not changed since.
func TestFileReadAgain(t *testing.T) {
	f := file{path: filepath.Join(t.TempDir(), "f"), limit: 10}
	if err := os.WriteFile(f.path, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	var most syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most); err != nil {
		t.Fatal(err)
	}
	none := most
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err := f.changed()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &most); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Fatal("opened without a descriptor")
	}
	if b, err := f.changed(); string(b) != "a" || err != nil {
		t.Errorf("afterwards: %q, %v", b, err)
	}
}
