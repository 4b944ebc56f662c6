//go:build !linux || !cgo

package tee

import (
	"strings"
	"testing"
)

func TestBuildWithoutNVML(t *testing.T) {
	k := &kernel{provider: providerTDX, quote: func(d [64]byte) []byte { return d[:] }}
	if _, err := open(k, Devices{}, "", ""); err != nil {
		t.Errorf("without devices: %v", err)
	}
	if _, err := open(k, Devices{GPUs: 1}, "", ""); err == nil || !strings.Contains(err.Error(), "make enclave-gpu") {
		t.Errorf("got %v", err)
	}
}
