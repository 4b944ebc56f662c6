package ton

import "github.com/xssnick/tonutils-go/tlb"

// FeesOf is what the network took for a transaction: its own fees, and what its
// messages carry along to pay for their way.
func FeesOf(tx *tlb.Transaction) (Nano, error) {
	n, err := NanoFromBig(tx.TotalFees.Coins.Nano())
	if err != nil || tx.IO.Out == nil {
		return n, err
	}
	out, err := tx.IO.Out.ToSlice()
	if err != nil {
		return 0, err
	}
	for _, m := range out {
		if m.MsgType != tlb.MsgTypeInternal {
			continue
		}
		fwd, err := NanoFromBig(m.AsInternal().FwdFee.Nano())
		if err == nil {
			n, err = n.Add(fwd)
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}
