package main

import (
	"path/filepath"
	"testing"

	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// The history can be written, once, and opened again.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "chain")
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err == nil {
		t.Error("wrote over a chain")
	}
	c, err := devnet.New(devnet.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := c.Status().Seqno; n < 250 {
		t.Errorf("%d blocks", n)
	}
}
