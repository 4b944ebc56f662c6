package price

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCost(t *testing.T) {
	p := Prices{Prompt: 100, Cached: 10, Completion: 1_000_000, Reasoning: 2_000_000}
	for _, c := range []struct {
		u    Usage
		want uint64
	}{
		{Usage{}, 0},
		{Usage{Prompt: 1}, 1}, // a ten-thousandth of a nanogram rounds up
		{Usage{Prompt: 10_000}, 1},
		{Usage{Prompt: 10_001}, 2},
		{Usage{Completion: 3}, 3},
		{Usage{Completion: 3, Reasoning: 1}, 4},
		{Usage{Prompt: 1_000_000, Cached: 1_000_000}, 10},
	} {
		if got, err := p.Cost(c.u); err != nil || got != c.want {
			t.Errorf("%+v: %d, %v, want %d", c.u, got, err, c.want)
		}
	}
}

func TestCostRefuses(t *testing.T) {
	for name, f := range map[string]func() (uint64, error){
		"more cached than prompt":    func() (uint64, error) { return Prices{}.Cost(Usage{Cached: 1}) },
		"more reasoning than answer": func() (uint64, error) { return Prices{}.Cost(Usage{Reasoning: 1}) },
		"too many tokens":            func() (uint64, error) { return Prices{}.Cost(Usage{Prompt: MaxTokens + 1}) },
		"price too high":             func() (uint64, error) { return Prices{Prompt: MaxPrice + 1}.Cost(Usage{}) },
		"does not fit":               func() (uint64, error) { return Prices{Prompt: MaxPrice}.Cost(Usage{Prompt: MaxTokens}) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: priced", name)
		}
	}
}

func TestCostAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prices := rapid.Uint64Max(MaxPrice)
		p := Prices{prices.Draw(t, "p"), prices.Draw(t, "c"), prices.Draw(t, "o"), prices.Draw(t, "r")}
		tokens := rapid.Uint64Max(MaxTokens)
		u := Usage{Prompt: tokens.Draw(t, "prompt"), Completion: tokens.Draw(t, "completion")}
		u.Cached = rapid.Uint64Max(u.Prompt).Draw(t, "cached")
		u.Reasoning = rapid.Uint64Max(u.Completion).Draw(t, "reasoning")
		sum := new(big.Int)
		for _, x := range [][2]uint64{{u.Prompt - u.Cached, p.Prompt}, {u.Cached, p.Cached}, {u.Completion - u.Reasoning, p.Completion}, {u.Reasoning, p.Reasoning}} {
			sum.Add(sum, new(big.Int).Mul(new(big.Int).SetUint64(x[0]), new(big.Int).SetUint64(x[1])))
		}
		sum.Add(sum, big.NewInt(perTokens-1)).Div(sum, big.NewInt(perTokens))
		got, err := p.Cost(u)
		if sum.IsUint64() != (err == nil) || err == nil && got != sum.Uint64() {
			t.Fatalf("%d, %v, want %s", got, err, sum)
		}
	})
}

func TestTokens(t *testing.T) {
	for _, c := range [][3]uint64{
		{0, 100, 0}, {1, 1_000_000, 1}, {100, 100_000_000, 1}, {99, 100_000_000, 0}, {5, 0, math.MaxUint64}, {math.MaxUint64, 1, math.MaxUint64},
	} {
		if got := Tokens(c[0], c[1]); got != c[2] {
			t.Errorf("Tokens(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

func TestList(t *testing.T) {
	a := List{"x": {1, 2, 3, 4}, "y": {5, 6, 7, 8}}
	d, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]List{
		"price":  {"x": {1, 2, 3, 4}, "y": {5, 6, 7, 9}},
		"name":   {"x": {1, 2, 3, 4}, "z": {5, 6, 7, 8}},
		"fewer":  {"x": {1, 2, 3, 4}},
		"swaped": {"y": {1, 2, 3, 4}, "x": {5, 6, 7, 8}},
	} {
		if o, err := l.Digest(); err != nil || o == d {
			t.Errorf("%s: digest %x, %v", name, o, err)
		}
	}
	for name, l := range map[string]List{
		"empty": {}, "no name": {"": {}}, "long name": {strings.Repeat("x", 129): {}}, "price": {"x": {Prompt: MaxPrice + 1}},
		"line": {"x\ny": {}}, "escape": {"\x1b[2J": {}}, "not UTF-8": {"\xff": {}}, "right to left": {"\u202ex": {}},
	} {
		if _, err := l.Digest(); err == nil {
			t.Errorf("%s: digested", name)
		}
	}
}
