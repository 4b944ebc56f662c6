package devnet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

const (
	// ltStep aligns the first logical time of a block, as on the real chain.
	ltStep = 1_000_000
	// blockTxLimit ends a block; what is left is delivered by the next ones.
	blockTxLimit = 2000
)

// lane is the state of one workchain between two blocks.
type lane struct {
	wc       int32
	accounts *tlb.ShardAccountsAugDict
	live     map[[32]byte]*account // parsed accounts; a cache of accounts
	queue    *tlb.OutMsgQueueAugDict
	queued   []*queuedMsg // what queue holds, oldest first
	fees     *big.Int     // total_validator_fees
}

type account struct {
	prepared *tvm.PreparedAccount
	stat     *cell.Cell // storage statistics, carried by the executor
}

// queuedMsg is an internal message that waits in the out message queue of the
// workchain that sent it.
type queuedMsg struct {
	msg, env *cell.Cell
	dst      *address.Address
	key      *cell.Cell // its key in the queue
	due      uint32     // first block that may deliver it
	imported uint64     // logical time of the foreign block that delivered it
}

func newLane(wc int32) (*lane, error) {
	accounts, err := tlb.NewShardAccountsAugDict()
	if err != nil {
		return nil, err
	}
	queue, err := tlb.NewOutMsgQueueAugDict()
	if err != nil {
		return nil, err
	}
	return &lane{wc: wc, accounts: accounts, queue: queue, live: map[[32]byte]*account{}, fees: new(big.Int)}, nil
}

// fork is a copy to collate on, so that a failed block leaves no trace.
func (l *lane) fork() *lane {
	n := &lane{wc: l.wc, live: maps.Clone(l.live), fees: new(big.Int).Set(l.fees)}
	n.accounts = &tlb.ShardAccountsAugDict{AugmentedDictionary: l.accounts.Copy()}
	n.queue = &tlb.OutMsgQueueAugDict{AugmentedDictionary: l.queue.Copy()}
	for _, q := range l.queued {
		c := *q
		n.queued = append(n.queued, &c)
	}
	return n
}

func (l *lane) account(a *address.Address) (*account, error) {
	k := [32]byte(a.Data())
	if acc := l.live[k]; acc != nil {
		return acc, nil
	}
	none := &tlb.ShardAccount{Account: accountNone, LastTransHash: make([]byte, 32)}
	p, err := tvm.PrepareAccount(none, a)
	if err != nil {
		return nil, err
	}
	return &account{prepared: p}, nil
}

// balance is the sum over all accounts, as the augmentation has it.
func (l *lane) balance() (*big.Int, error) {
	extra, err := l.accounts.LoadRootExtra()
	if err != nil {
		return nil, err
	}
	var info tlb.DepthBalanceInfo
	if err = tlb.LoadFromCell(&info, extra); err != nil {
		return nil, err
	}
	return info.Currencies.Coins.Nano(), nil
}

// accountNone is account_none$0.
var accountNone = cell.BeginCell().MustStoreBoolBit(false).EndCell()

// job is one message to execute.
type job struct {
	msg *tvm.PreparedMessage
	// imm: the transaction of this block that sent it; queued: where it waited
	sender *cell.Cell
	queued *queuedMsg
	from   *lane // of queued
}

// collation is a block of one workchain in the making.
type collation struct {
	lane    *lane
	machine *tvm.TVM
	ctx     *tvm.BlockContext
	seqno   uint32
	delay   uint32 // blocks that an internal message waits
	startLT uint64
	lt      uint64 // of the latest event

	before  *big.Int
	inMsgs  *tlb.InMsgDescrAugDict
	outMsgs *tlb.OutMsgDescrAugDict
	oldHash map[[32]byte][]byte
	txs     []*txRecord
	dropped []error // externals that were no longer accepted
}

func newCollation(l *lane, m *tvm.TVM, ctx *tvm.BlockContext, seqno, delay uint32, lt uint64) (*collation, error) {
	in, err := tlb.NewInMsgDescrAugDict()
	if err != nil {
		return nil, err
	}
	out, err := tlb.NewOutMsgDescrAugDict()
	if err != nil {
		return nil, err
	}
	before, err := l.balance()
	if err != nil {
		return nil, err
	}
	return &collation{lane: l, machine: m, ctx: ctx, seqno: seqno, delay: delay, startLT: lt, lt: lt, before: before,
		inMsgs: in, outMsgs: out, oldHash: map[[32]byte][]byte{}}, nil
}

// run delivers what is due from the queues, then the externals, then what
// these produce. It returns the externals that did not fit.
func (c *collation) run(externals []*tvm.PreparedMessage, neighbour *lane) ([]*tvm.PreparedMessage, error) {
	if err := c.cleanQueue(); err != nil {
		return nil, err
	}
	var jobs []job
	for _, from := range []*lane{c.lane, neighbour} {
		for _, q := range from.queued {
			if q.dst.Workchain() != c.lane.wc || q.imported != 0 || q.due > c.seqno {
				continue
			}
			pm, err := tvm.PrepareMessage(q.msg)
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, job{msg: pm, queued: q, from: from})
		}
	}
	for len(jobs) > 0 || len(externals) > 0 {
		if len(jobs) == 0 {
			if len(c.txs) >= blockTxLimit {
				break
			}
			jobs, externals = append(jobs, job{msg: externals[0]}), externals[1:]
		}
		more, err := c.execute(jobs[0])
		if err != nil {
			return nil, err
		}
		jobs = append(jobs[1:], more...)
	}
	c.lane.queued = slices.DeleteFunc(c.lane.queued, func(q *queuedMsg) bool { return q.imported != 0 })
	return externals, nil
}

// cleanQueue drops what the neighbour delivered since the last block.
func (c *collation) cleanQueue() error {
	for _, q := range c.lane.queued {
		if q.imported == 0 {
			continue
		}
		// msg_export_deq_short$1101
		out, err := newWriter().uint(0b1101, 4).bytes(q.env.Hash()).int32(q.dst.Workchain()).bytes(q.dst.Data()[:8]).uint(q.imported, 64).cell()
		if err != nil {
			return err
		}
		if err = c.setOut(q.msg, out); err != nil {
			return err
		}
		if err = c.lane.queue.Delete(q.key); err != nil {
			return err
		}
	}
	c.lane.queued = slices.DeleteFunc(c.lane.queued, func(q *queuedMsg) bool { return q.imported != 0 })
	return nil
}

// execute runs one message and returns the messages to run in the same block.
func (c *collation) execute(j job) ([]job, error) {
	msg := j.msg.Message()
	var dst *address.Address
	external := msg.MsgType == tlb.MsgTypeExternalIn
	if external {
		dst = msg.AsExternalIn().DstAddr
	} else {
		dst = msg.AsInternal().DstAddr
	}
	k := [32]byte(dst.Data())
	acc, err := c.lane.account(dst)
	if err != nil {
		return nil, err
	}
	res, err := c.machine.EmulateTransaction(c.ctx, acc.prepared, j.msg, tvm.TransactionOptions{LogicalTime: int64(c.lt), AccountStorageStat: acc.stat})
	switch {
	case err != nil && external:
		c.dropped = append(c.dropped, err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("execute a message to %s: %w", dst.StringRaw(), err)
	case res.TransactionCell == nil && external:
		c.dropped = append(c.dropped, errNotAccepted)
		return nil, nil
	case res.TransactionCell == nil:
		return nil, fmt.Errorf("a message to %s made no transaction", dst.StringRaw())
	}
	tx, err := res.ParseTransaction()
	if err != nil {
		return nil, err
	}
	c.lt = max(c.lt, res.EndLT)
	if c.oldHash[k] == nil {
		c.oldHash[k] = acc.prepared.ShardAccount().Account.Hash()
	}
	if err = c.store(k, &account{prepared: res.NextAccount, stat: res.AccountStorageStat}); err != nil {
		return nil, err
	}
	c.txs = append(c.txs, &txRecord{account: k, lt: tx.LT, prevLT: tx.PrevTxLT, cell: res.TransactionCell})
	if err = c.describeIn(j, dst, res.TransactionCell); err != nil {
		return nil, err
	}
	var next []job
	for _, o := range res.OutMessages {
		imm, err := c.send(o, res.TransactionCell)
		if err != nil {
			return nil, err
		}
		if imm != nil {
			next = append(next, *imm)
		}
	}
	return next, nil
}

// store puts an account after its transaction into the state.
func (c *collation) store(k [32]byte, acc *account) error {
	key, err := key256(k[:])
	if err != nil {
		return err
	}
	if bytes.Equal(acc.prepared.ShardAccount().Account.Hash(), accountNone.Hash()) {
		delete(c.lane.live, k)
		if _, err := c.lane.accounts.LoadValue(key); errors.Is(err, cell.ErrNoSuchKeyInDict) {
			return nil
		}
		return c.lane.accounts.Delete(key)
	}
	c.lane.live[k] = acc
	return c.lane.accounts.Set(key, acc.prepared.ShardAccountCell())
}

// describeIn writes how the block imported the message of transaction tx.
func (c *collation) describeIn(j job, dst *address.Address, tx *cell.Cell) error {
	msg := j.msg.Cell()
	key, err := key256(msg.Hash())
	if err != nil {
		return err
	}
	if j.sender == nil && j.queued == nil { // msg_import_ext$000
		in, err := newWriter().uint(0, 3).ref(msg).ref(tx).cell()
		if err != nil {
			return err
		}
		return c.inMsgs.Set(key, in)
	}
	fee := j.msg.Message().AsInternal().FwdFee.Nano()
	if q := j.queued; q != nil { // msg_import_fin$100
		in, err := newWriter().uint(0b100, 3).ref(q.env).ref(tx).grams(fee).cell()
		if err != nil {
			return err
		}
		if err = c.inMsgs.Set(key, in); err != nil {
			return err
		}
		q.imported = c.lt
		if j.from != c.lane { // its sender dequeues it in a later block
			return nil
		}
		// msg_export_deq_imm$100
		out, err := newWriter().uint(0b100, 3).ref(q.env).ref(in).cell()
		if err != nil {
			return err
		}
		if err = c.setOut(msg, out); err != nil {
			return err
		}
		return c.lane.queue.Delete(q.key)
	}
	// msg_import_imm$011 and msg_export_imm$010
	env, err := envelope(96, fee, msg)
	if err != nil {
		return err
	}
	in, err := newWriter().uint(0b011, 3).ref(env).ref(tx).grams(fee).cell()
	if err != nil {
		return err
	}
	if err = c.inMsgs.Set(key, in); err != nil {
		return err
	}
	out, err := newWriter().uint(0b010, 3).ref(env).ref(j.sender).ref(in).cell()
	if err != nil {
		return err
	}
	return c.setOut(msg, out)
}

// send takes a message that transaction tx emitted: to run now, or to queue.
func (c *collation) send(o tvm.OutMessage, tx *cell.Cell) (*job, error) {
	if o.Msg.MsgType != tlb.MsgTypeInternal { // msg_export_ext$000
		out, err := newWriter().uint(0, 3).ref(o.Cell).ref(tx).cell()
		if err != nil {
			return nil, err
		}
		return nil, c.setOut(o.Cell, out)
	}
	m := o.Msg.AsInternal()
	if m.DstAddr.Workchain() == c.lane.wc && c.delay == 0 && len(c.txs) < blockTxLimit {
		pm, err := tvm.PrepareMessage(o.Cell)
		if err != nil {
			return nil, err
		}
		return &job{msg: pm, sender: tx}, nil
	}
	env, err := envelope(0, m.FwdFee.Nano(), o.Cell)
	if err != nil {
		return nil, err
	}
	key, err := queueKey(m.DstAddr, o.Cell)
	if err != nil {
		return nil, err
	}
	// msg_export_new$001
	out, err := newWriter().uint(0b001, 3).ref(env).ref(tx).cell()
	if err != nil {
		return nil, err
	}
	if err = c.setOut(o.Cell, out); err != nil {
		return nil, err
	}
	enqueued, err := newWriter().uint(m.CreatedLT, 64).ref(env).cell()
	if err != nil {
		return nil, err
	}
	if err = c.lane.queue.Set(key, enqueued); err != nil {
		return nil, err
	}
	due := c.seqno + c.delay
	if m.DstAddr.Workchain() == c.lane.wc {
		due = c.seqno + max(c.delay, 1)
	}
	c.lane.queued = append(c.lane.queued, &queuedMsg{msg: o.Cell, env: env, dst: m.DstAddr, key: key, due: due})
	return nil, nil
}

func (c *collation) setOut(msg, out *cell.Cell) error {
	key, err := key256(msg.Hash())
	if err != nil {
		return err
	}
	return c.outMsgs.Set(key, out)
}

// accountBlocks returns ShardAccountBlocks and the fees of its transactions.
func (c *collation) accountBlocks() (*tlb.ShardAccountBlocksAugDict, error) {
	blocks, err := tlb.NewShardAccountBlocksAugDict()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(c.txs, byAccount)
	for i := 0; i < len(c.txs); {
		k := c.txs[i].account
		txs, err := tlb.NewAccountTransactionsAugDict()
		if err != nil {
			return nil, err
		}
		for ; i < len(c.txs) && c.txs[i].account == k; i++ {
			ref, err := newWriter().ref(c.txs[i].cell).cell()
			if err != nil {
				return nil, err
			}
			if err = txs.SetIntKey(new(big.Int).SetUint64(c.txs[i].lt), ref); err != nil {
				return nil, err
			}
		}
		list, err := txs.InlineCell()
		if err != nil {
			return nil, err
		}
		newHash := accountNone.Hash()
		if acc := c.lane.live[k]; acc != nil {
			newHash = acc.prepared.ShardAccount().Account.Hash()
		}
		// acc_trans#5 with update_hashes#72
		ab, err := newWriter().uint(5, 4).bytes(k[:]).inline(list).
			sub(newWriter().uint(0x72, 8).bytes(c.oldHash[k]).bytes(newHash)).cell()
		if err != nil {
			return nil, err
		}
		key, err := key256(k[:])
		if err != nil {
			return nil, err
		}
		if err = blocks.Set(key, ab); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// flow computes the value flow from the block's own dictionaries, and refuses
// a block in which money appears or vanishes.
func (c *collation) flow(blocks *tlb.ShardAccountBlocksAugDict, shardFees *big.Int) (*valueFlow, error) {
	var txFees tlb.CurrencyCollection
	var imported tlb.ImportFees
	var exported tlb.CurrencyCollection
	for _, l := range []struct {
		root func() (*cell.Slice, error)
		into any
	}{{blocks.LoadRootExtra, &txFees}, {c.inMsgs.LoadRootExtra, &imported}, {c.outMsgs.LoadRootExtra, &exported}} {
		s, err := l.root()
		if err != nil {
			return nil, err
		}
		if err = tlb.LoadFromCell(l.into, s); err != nil {
			return nil, err
		}
	}
	after, err := c.lane.balance()
	if err != nil {
		return nil, err
	}
	fees := new(big.Int).Add(txFees.Coins.Nano(), imported.FeesCollected.Nano())
	f := &valueFlow{before: c.before, after: after, imported: imported.ValueImported.Coins.Nano(), exported: exported.Coins.Nano(),
		fees: fees.Add(fees, shardFees), shardFees: shardFees}
	if !f.balanced() {
		return nil, fmt.Errorf("block %d of workchain %d does not balance: before %s + imported %s + shard fees %s, after %s + exported %s + fees %s",
			c.seqno, c.lane.wc, f.before, f.imported, f.shardFees, f.after, f.exported, f.fees)
	}
	return f, nil
}
