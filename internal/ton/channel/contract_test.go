package channel

import (
	"testing"
)

func TestLife(t *testing.T) {
	b := opened(t, 2*gram)
	show := func(n string, f func()) { f() }
	show("topup", func() {
		tx := b.send(stranger, TopUp(b.Params.Address(), gram))
		b.want(tx, 0)
		t.Logf("topup %+v %+v", tx, b.state())
	})
	tx := b.send(payee, Claim(b.voucher(gram/2), GasValue))
	b.want(tx, 0)
	t.Logf("claim gas %d fees %d fwd %d: %d", tx.Gas, tx.Fees, tx.Forward, tx.Fees+tx.Forward)
	tx, err := b.sendExternal(ClaimExternal(b.voucher(gram)))
	if err != nil {
		t.Fatal(err)
	}
	b.want(tx, 0)
	t.Logf("ext gas %d fees %d fwd %d: %d", tx.Gas, tx.Fees, tx.Forward, tx.Fees+tx.Forward)
	tx = b.send(client, CloseStart(b.Params.Address(), GasValue))
	b.want(tx, 0)
	t.Logf("start gas %d fees %d fwd %d: %d", tx.Gas, tx.Fees, tx.Forward, tx.Fees+tx.Forward)
	b.chain.Now += 3600
	tx = b.send(client, CloseFinish(b.Params.Address(), GasValue))
	b.want(tx, 0)
	t.Logf("finish gas %d fees %d fwd %d: %d", tx.Gas, tx.Fees, tx.Forward, tx.Fees+tx.Forward)
	t.Logf("balance %d %+v", b.chain.Balance(b.at), b.state())
	b = opened(t, 2*gram)
	tx = b.send(payee, CloseTogether(b.agreement(gram), GasValue))
	b.want(tx, 0)
	t.Logf("together gas %d fees %d fwd %d: %d", tx.Gas, tx.Fees, tx.Forward, tx.Fees+tx.Forward)
}
