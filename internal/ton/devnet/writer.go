package devnet

import (
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// writer builds one cell field by field and remembers the first error, so that
// a TL-B record reads as the list of its fields.
type writer struct {
	b   *cell.Builder
	err error
}

func newWriter() *writer { return &writer{b: cell.BeginCell()} }

func (w *writer) do(f func(*cell.Builder) error) *writer {
	if w.err == nil {
		w.err = f(w.b)
	}
	return w
}

func (w *writer) uint(v uint64, bits uint) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreUInt(v, bits) })
}

func (w *writer) int32(v int32) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreInt(int64(v), 32) })
}

func (w *writer) bool(v bool) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreBoolBit(v) })
}

func (w *writer) bytes(v []byte) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreSlice(v, uint(len(v))*8) })
}

func (w *writer) ref(c *cell.Cell) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreRef(c) })
}

func (w *writer) maybeRef(c *cell.Cell) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreMaybeRef(c) })
}

func (w *writer) dict(d *cell.Dictionary) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreDict(d) })
}

// grams stores a Grams amount (VarUInteger 16).
func (w *writer) grams(v *big.Int) *writer {
	return w.do(func(b *cell.Builder) error { return b.StoreBigCoins(v) })
}

// currency stores a CurrencyCollection without extra currencies.
func (w *writer) currency(v *big.Int) *writer { return w.grams(v).bool(false) }

// inline stores the bits and references of c, not a reference to it.
func (w *writer) inline(c *cell.Cell) *writer {
	return w.do(func(b *cell.Builder) error {
		s, err := c.BeginParse()
		if err != nil {
			return err
		}
		return b.StoreBuilder(s.ToBuilder())
	})
}

// sub stores the cell that v builds as a reference.
func (w *writer) sub(v *writer) *writer {
	if w.err == nil && v.err != nil {
		w.err = v.err
	}
	if w.err != nil {
		return w
	}
	return w.ref(v.b.EndCell())
}

// augmented stores what tonutils-go serialises (an augmented dictionary) inline.
func (w *writer) augmented(d interface{ ToCell() (*cell.Cell, error) }) *writer {
	if w.err != nil {
		return w
	}
	c, err := d.ToCell()
	if err != nil {
		w.err = err
		return w
	}
	return w.inline(c)
}

func (w *writer) cell() (*cell.Cell, error) {
	if w.err != nil {
		return nil, w.err
	}
	return w.b.EndCell(), nil
}

// key256 is the dictionary key of an account or a message.
func key256(k []byte) (*cell.Cell, error) { return newWriter().bytes(k).cell() }

// toCell serialises a tlb structure.
func toCell(v any) (*cell.Cell, error) { return tlb.ToCell(v) }

// inlineWriter stores what v holds, not a reference to it.
func (w *writer) inlineWriter(v *writer) *writer {
	if w.err == nil && v.err != nil {
		w.err = v.err
	}
	return w.do(func(b *cell.Builder) error { return b.StoreBuilder(v.b) })
}
