package main

import "testing"

// The fees are a promise: they come from the TVM and do not vary.
func TestLimits(t *testing.T) {
	costs, err := measure()
	if err != nil {
		t.Fatal(err)
	}
	fee := map[string]uint64{}
	for _, c := range costs {
		fee[c.name] = c.fee
	}
	for name, limit := range map[string]uint64{
		"open": 1_000_000, "claim": 2_500_000, "claim-external": 2_500_000, "close-together": 3_000_000,
	} {
		if got := fee[name]; got == 0 || got > limit {
			t.Errorf("%s costs %d nanogram, limit %d", name, got, limit)
		}
	}
	if got := fee["close-start"] + fee["close-finish"]; got == 0 || got > 4_000_000 {
		t.Errorf("close-start and close-finish cost %d nanogram, limit 4000000", got)
	}
}
