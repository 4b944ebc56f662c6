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
		n, _, fault := a.allotment(prices, 4096, 1)
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

// Without streaming and without a limit of its own a request can cost what the
// model's context holds.
func TestAllotmentWithoutLimit(t *testing.T) {
	prices := Prices{Completion: 1_000_000, Reasoning: 1_000_000} // one nanogram a token
	for _, x := range []struct {
		ask                  ask
		wantAllot, wantBound uint64
	}{
		{ask{}, 4096, 4096},
		{ask{MaxCompl: 9}, 9, 9},
		{ask{Stream: true, MaxTokens: 9}, 5, 9},
	} {
		allot, bound, fault := x.ask.allotment(prices, 4096, 5)
		if fault != nil || allot != x.wantAllot || bound != x.wantBound {
			t.Errorf("%+v: %d of %d, %v", x.ask, allot, bound, fault)
		}
	}
}
