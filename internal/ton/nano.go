package ton

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/xssnick/tonutils-go/tlb"
)

// Nano is an amount in nanogram: 1 GRAM is 1e9. All there is of GRAM fits.
type Nano uint64

// Gram is one GRAM.
const Gram Nano = 1_000_000_000

const decimals = 9

// ErrAmount is what every refused amount is.
var ErrAmount = errors.New("bad amount")

// ParseNano reads an amount in GRAM, as in "12", "0.5" or "0.000000001". It
// refuses signs, exponents, spaces, more than nine decimals and anything above
// 18446744073.709551615: nothing is ever rounded.
func ParseNano(s string) (Nano, error) {
	whole, frac, point := strings.Cut(s, ".")
	switch {
	case !digits(whole) || (point && !digits(frac)):
		return 0, fmt.Errorf("%w %q: write GRAM as in 12 or 0.5", ErrAmount, clip(s))
	case len(whole) > 1 && whole[0] == '0':
		return 0, fmt.Errorf("%w %q: remove the leading zero", ErrAmount, clip(s))
	case len(frac) > decimals:
		return 0, fmt.Errorf("%w %q: GRAM has at most %d decimals", ErrAmount, clip(s), decimals)
	}
	n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", decimals-len(frac)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w %q: more than there can be", ErrAmount, clip(s))
	}
	return Nano(n), nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// clip shortens foreign text for an error message.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// String formats the amount in GRAM without trailing zeros; ParseNano reads it back.
func (n Nano) String() string {
	frac := strings.TrimRight(fmt.Sprintf("%0*d", decimals, uint64(n%Gram)), "0")
	if frac != "" {
		frac = "." + frac
	}
	return strconv.FormatUint(uint64(n/Gram), 10) + frac
}

// NanoFromBig converts a chain's amount, which may be up to 120 bits.
func NanoFromBig(v *big.Int) (Nano, error) {
	if v == nil || !v.IsUint64() {
		return 0, fmt.Errorf("%w: %v nanogram do not fit 64 bits", ErrAmount, v)
	}
	return Nano(v.Uint64()), nil
}

// Coins converts to the chain's type.
func (n Nano) Coins() tlb.Coins { return tlb.FromNanoTONU(uint64(n)) }

// Add returns n + m, or an error when that overflows.
func (n Nano) Add(m Nano) (Nano, error) {
	if n > math.MaxUint64-m {
		return 0, fmt.Errorf("%w: %s + %s overflows", ErrAmount, n, m)
	}
	return n + m, nil
}

// Sub returns n - m, or an error when m is more than n.
func (n Nano) Sub(m Nano) (Nano, error) {
	if m > n {
		return 0, fmt.Errorf("%w: %s - %s is negative", ErrAmount, n, m)
	}
	return n - m, nil
}
