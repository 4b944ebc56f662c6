package devnet

import (
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// merkleUpdate returns the MERKLE_UPDATE from one state to the next: both
// trees with every subtree that they share pruned.
func merkleUpdate(from, to *cell.Cell) (*cell.Cell, error) {
	a, b, err := diff(from, to)
	if err != nil {
		return nil, err
	}
	return cell.CreateMerkleUpdate(a, b)
}

// diff returns the two sides of a Merkle update. It follows the places where
// the trees differ, child by child. A subtree of b that a also has at the same
// place is pruned on both sides; anything else of b stays whole, so a moved
// subtree costs space and never correctness.
func diff(a, b *cell.Cell) (left, right *cell.Cell, err error) {
	if same(a, b) {
		p, err := prune(a)
		return p, p, err
	}
	if a.IsSpecial() || b.IsSpecial() {
		left, err = prune(a)
		return left, b, err
	}
	old, err := refs(a)
	if err != nil {
		return nil, nil, err
	}
	now, err := refs(b)
	if err != nil {
		return nil, nil, err
	}
	olds := make([]*cell.Cell, len(old))
	news := make([]*cell.Cell, len(now))
	for i, c := range now {
		j := i
		for k, o := range old { // the same cell may have moved to another slot
			if same(o, c) {
				j = k
				break
			}
		}
		if j >= len(old) || (olds[j] != nil && !same(old[j], c)) {
			news[i] = c
			continue
		}
		var l *cell.Cell
		if l, news[i], err = diff(old[j], c); err != nil {
			return nil, nil, err
		}
		if olds[j] == nil {
			olds[j] = l
		}
	}
	for i, o := range old {
		if olds[i] == nil {
			if olds[i], err = prune(o); err != nil {
				return nil, nil, err
			}
		}
	}
	if left, err = withRefs(a, olds); err != nil {
		return nil, nil, err
	}
	right, err = withRefs(b, news)
	return left, right, err
}

func same(a, b *cell.Cell) bool { return a.HashKey() == b.HashKey() }

// prune replaces a subtree by its hash; a leaf is no larger than that.
func prune(c *cell.Cell) (*cell.Cell, error) { return cell.CreatePrunedBranch(c, 1, 0) }

func refs(c *cell.Cell) ([]*cell.Cell, error) {
	out := make([]*cell.Cell, c.RefsNum())
	for i := range out {
		r, err := c.PeekRef(i)
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}

// withRefs is c with other references.
func withRefs(c *cell.Cell, refs []*cell.Cell) (*cell.Cell, error) {
	s, err := c.BeginParse()
	if err != nil {
		return nil, err
	}
	bits := s.BitsLeft()
	data, err := s.LoadSlice(bits)
	if err != nil {
		return nil, err
	}
	w := newWriter().do(func(b *cell.Builder) error { return b.StoreSlice(data, bits) })
	for _, r := range refs {
		w.ref(r)
	}
	return w.cell()
}
