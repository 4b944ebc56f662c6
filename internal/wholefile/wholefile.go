// Package wholefile replaces files in one step.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write puts a file of this content and mode in the place of what is at path. Whoever reads it, after a crash or a power cut,
// too, finds the one or the other.
func Write(path string, content []byte, mode os.FileMode) error {
	t, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.Write(content)
	if err = errors.Join(err, t.Sync(), t.Close(), os.Chmod(t.Name(), mode)); err != nil {
		return err
	}
	return os.Rename(t.Name(), path)
}
