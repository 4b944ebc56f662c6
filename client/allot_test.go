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
		a := ask{body: bytes.Repeat([]byte{' '}, bytesLong), Stream: true, MaxTokens: 100}
		n, fault := a.needs(prices, 4096, 1_000_000)
		if fault != nil {
			t.Fatal(fault)
		}
		a.Stream = false
		whole, fault := a.needs(prices, 4096, 1_000_000)
		if fault != nil {
			t.Fatal(fault)
		}
		return n.want(1_000_000) + whole.want(1_000_000)
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
func TestNeeds(t *testing.T) {
	prices := Prices{Prompt: 1_000_000, Completion: 1_000_000, Reasoning: 1_000_000} // one nanogram a token
	body := make([]byte, 800)
	for _, x := range []struct {
		name  string
		ask   ask
		want  needs
		gets  uint64 // beginning alone
		gets2 uint64 // with little free
	}{
		{"whole, no limit", ask{}, needs{bound: 5120, whole: 5120, least: 5120, bare: 4096, window: 12_800}, 5120, 5120},
		{"whole", ask{MaxCompl: 9}, needs{bound: 1033, whole: 1033, least: 1033, bare: 9, window: 12_800}, 1033, 1033},
		{"stream", ask{Stream: true}, needs{bound: 1<<53 - 1, least: 1224, bare: 101, prompt: 1024, step: 200, window: 12_800}, 1424, 1224},
		{"short stream", ask{Stream: true, MaxTokens: 9}, needs{bound: 1033, least: 1033, bare: 101, prompt: 1024, step: 200, window: 12_800}, 1033, 1033},
	} {
		x.ask.body = body
		n, fault := x.ask.needs(prices, 4096, 12_800)
		if fault != nil {
			t.Fatal(fault)
		}
		if !x.ask.Stream {
			n.prompt = 0
		}
		if n != x.want || n.want(12_800) != x.gets || n.want(300) != x.gets2 {
			t.Errorf("%s: %+v, %d, %d", x.name, n, n.want(12_800), n.want(300))
		}
	}
}
