package client

import (
	"bytes"
	"testing"
)

// The host reads the allotment: two requests that padding makes alike must not
// differ by it.
func TestAllotmentTellsNoLength(t *testing.T) {
	prices := Prices{Prompt: 2_000_000, Cached: 1_000_000, Completion: 3_000_000, Reasoning: 3_000_000}
	allot := func(bytesLong int) uint64 {
		a := ask{body: bytes.Repeat([]byte{' '}, bytesLong), MaxTokens: 100}
		n, _, fault := a.allotment(prices, 1)
		if fault != nil {
			t.Fatal(fault)
		}
		return n
	}
	if short, long := allot(40), allot(1000); short != long {
		t.Errorf("%d bytes ask for %d nanogram, %d for %d", 40, short, 1000, long)
	}
	if short, long := allot(1000), allot(1100); short >= long {
		t.Errorf("1100 bytes ask for %d nanogram, 1000 for %d", long, short)
	}
}
