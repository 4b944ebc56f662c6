// Package price computes what an answer costs. Amounts are integers in
// nanogram (1 GRAM = 1e9 nanogram); there is no floating point and no wrap.
package price

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const magic = "bombyx/1 prices"

// Limits of a price list.
const (
	MaxModels    = 256
	MaxModelName = 128       // bytes
	MaxPrice     = 1e9 * 1e6 // nanogram per million tokens: a million GRAM
	MaxTokens    = 1 << 40   // of one kind in one request
	perTokens    = 1_000_000
)

// Prices of one model, in nanogram per million tokens.
type Prices struct {
	Prompt     uint64 `json:"prompt"`
	Cached     uint64 `json:"cached_prompt"` // prompt tokens that the engine's prefix cache answered
	Completion uint64 `json:"completion"`
	Reasoning  uint64 `json:"reasoning"`
}

// AtMost reports whether none of the prices is above the limit's.
func (p Prices) AtMost(limit Prices) bool {
	return p.Prompt <= limit.Prompt && p.Cached <= limit.Cached && p.Completion <= limit.Completion && p.Reasoning <= limit.Reasoning
}

// Dearest are the prices at which a request of so many tokens costs most, whichever kind they turn out to be.
func (p Prices) Dearest() Prices {
	return Prices{Prompt: max(p.Prompt, p.Cached), Completion: max(p.Completion, p.Reasoning)}
}

// Usage counts the tokens of one request as OpenAI's usage object does: Prompt
// includes Cached, and Completion includes Reasoning.
type Usage struct {
	Prompt     uint64 `json:"prompt"`
	Cached     uint64 `json:"cached"`
	Completion uint64 `json:"completion"`
	Reasoning  uint64 `json:"reasoning"`
}

// Check reports whether the counts make sense together.
func (u Usage) Check() error {
	if u.Cached > u.Prompt || u.Reasoning > u.Completion {
		return fmt.Errorf("price: usage %+v has a part larger than its whole", u)
	}
	if u.Prompt > MaxTokens || u.Completion > MaxTokens {
		return fmt.Errorf("price: usage %+v is out of range", u)
	}
	return nil
}

// Cost of a request in nanogram: the sum over the four kinds, rounded up once.
// It fails when the counts or prices are out of range.
func (p Prices) Cost(u Usage) (uint64, error) {
	if err := u.Check(); err != nil {
		return 0, err
	}
	if err := p.check(); err != nil {
		return 0, err
	}
	var hi, lo uint64
	for _, x := range [...][2]uint64{
		{u.Prompt - u.Cached, p.Prompt},
		{u.Cached, p.Cached},
		{u.Completion - u.Reasoning, p.Completion},
		{u.Reasoning, p.Reasoning},
	} {
		h, l := bits.Mul64(x[0], x[1])
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi += h + carry
	}
	lo, carry := bits.Add64(lo, perTokens-1, 0)
	hi += carry
	if hi >= perTokens {
		return 0, errors.New("price: cost does not fit 64 bits")
	}
	q, _ := bits.Div64(hi, lo, perTokens)
	return q, nil
}

func (p Prices) check() error {
	if m := max(p.Prompt, p.Cached, p.Completion, p.Reasoning); m > MaxPrice {
		return fmt.Errorf("price: %d nanogram per million tokens, limit %d", m, uint64(MaxPrice))
	}
	return nil
}

// Tokens returns how many tokens at price (nanogram per million) amount pays
// for; math.MaxUint64 when they are free.
func Tokens(amount, price uint64) uint64 {
	if price == 0 {
		return math.MaxUint64
	}
	hi, lo := bits.Mul64(amount, perTokens)
	if hi >= price {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, price)
	return q
}

// A List maps model names to prices.
type List map[string]Prices

// Check reports whether the list is usable.
func (l List) Check() error {
	if len(l) == 0 || len(l) > MaxModels {
		return fmt.Errorf("price: list of %d models, want 1 to %d", len(l), MaxModels)
	}
	for name, p := range l {
		if name == "" || len(name) > MaxModelName {
			return fmt.Errorf("price: model name of %d bytes, want 1 to %d", len(name), MaxModelName)
		}
		if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("price: model name %q has characters that do not print", name)
		}
		if err := p.check(); err != nil {
			return fmt.Errorf("model %q: %w", name, err)
		}
	}
	return nil
}

// Digest names a price list: SHA-256 over the magic, the number of models
// (16 bits) and, by ascending name, the name (8-bit length first) and the four
// prices (64 bits each), all big-endian.
func (l List) Digest() ([32]byte, error) {
	if err := l.Check(); err != nil {
		return [32]byte{}, err
	}
	names := make([]string, 0, len(l))
	for n := range l {
		names = append(names, n)
	}
	slices.Sort(names)
	b := []byte(magic)
	b = binary.BigEndian.AppendUint16(b, uint16(len(l)))
	for _, n := range names {
		p := l[n]
		b = append(b, byte(len(n)))
		b = append(b, n...)
		for _, v := range [...]uint64{p.Prompt, p.Cached, p.Completion, p.Reasoning} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
	}
	return sha256.Sum256(b), nil
}
