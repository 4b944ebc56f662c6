package ton_test

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/internal/ton"
)

func TestNano(t *testing.T) {
	for _, v := range []struct {
		text string
		nano ton.Nano
	}{
		{"0", 0}, {"0.000000001", 1}, {"0.5", 500_000_000}, {"1", ton.Gram}, {"12.34", 12_340_000_000},
		{"5000000000", 5_000_000_000 * ton.Gram}, {"18446744073.709551615", math.MaxUint64},
	} {
		if n, err := ton.ParseNano(v.text); err != nil || n != v.nano {
			t.Errorf("ParseNano(%q) = %d, %v", v.text, n, err)
		}
		if s := v.nano.String(); s != v.text {
			t.Errorf("%d prints as %q, want %q", v.nano, s, v.text)
		}
	}
	if n, err := ton.ParseNano("1.500000000"); err != nil || n != 3*ton.Gram/2 {
		t.Errorf("trailing zeros: %d %v", n, err)
	}
	for _, bad := range []string{"", ".", "1.", ".5", "-1", "+1", "1e9", " 1", "1 ", "1,5", "01", "00", "1.0000000000", "0.0000000001",
		"18446744073.709551616", "99999999999999999999", "0x10", "1_000", "١", "1.5.5", strings.Repeat("9", 1000)} {
		_, err := ton.ParseNano(bad)
		if !errors.Is(err, ton.ErrAmount) {
			t.Errorf("ParseNano(%q): %v", bad, err)
		} else if len(err.Error()) > 200 {
			t.Errorf("%d bytes of error", len(err.Error()))
		}
	}
	if _, err := ton.Nano(math.MaxUint64).Add(1); !errors.Is(err, ton.ErrAmount) {
		t.Error("Add overflows")
	}
	if _, err := ton.Nano(1).Sub(2); !errors.Is(err, ton.ErrAmount) {
		t.Error("Sub underflows")
	}
	for _, bad := range []*big.Int{nil, big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 64)} {
		if _, err := ton.NanoFromBig(bad); !errors.Is(err, ton.ErrAmount) {
			t.Errorf("NanoFromBig(%v): %v", bad, err)
		}
	}
	if n, err := ton.NanoFromBig(ton.Nano(math.MaxUint64).Coins().Nano()); err != nil || n != math.MaxUint64 {
		t.Errorf("%d %v", n, err)
	}
}

func FuzzParseNano(f *testing.F) {
	for _, s := range []string{"0.5", "18446744073.709551615", "1.", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ton.ParseNano(s)
		if err != nil {
			return
		}
		// the amount is exactly what the text says
		want, ok := new(big.Rat).SetString(s)
		if !ok || want.Mul(want, big.NewRat(1e9, 1)).Cmp(new(big.Rat).SetFrac(new(big.Int).SetUint64(uint64(n)), big.NewInt(1))) != 0 {
			t.Fatalf("%q became %d", s, n)
		}
		if back, err := ton.ParseNano(n.String()); err != nil || back != n {
			t.Fatalf("%d prints as %q, which reads as %d, %v", n, n.String(), back, err)
		}
	})
}
