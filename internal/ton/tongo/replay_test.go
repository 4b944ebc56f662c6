package tongo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tonkeeper/tongo/boc"
	"github.com/tonkeeper/tongo/liteapi"
	"github.com/tonkeeper/tongo/tlb"
	"github.com/tonkeeper/tongo/ton"
	"github.com/tonkeeper/tongo/txemulator"
)

// ops names the operations of the channel and registry contracts.
var ops = map[uint32]string{
	0x42584301: "channel claim", 0x42584302: "channel close together", 0x42584303: "channel close start", 0x42584304: "channel close finish",
	0x42585211: "registry announce", 0x42585212: "registry cancel", 0x42585213: "registry apply", 0x42585214: "registry withdraw",
}

// Every transaction of the network, executed again by the C++ TVM from the same account, message, time and seed, has the same
// hash, and leaves the account with the same hash.
func TestSameTransactions(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	client := dial(t)
	params, err := client.GetConfigAll(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	root := boc.NewCell()
	if err = tlb.Marshal(root, params.Config); err != nil {
		t.Fatal(err)
	}
	if err = new(txemulator.Emulator).SetVerbosityLevel(0); err != nil { // of the library
		t.Fatal(err)
	}
	emulator, err := txemulator.NewEmulator(root, txemulator.LogTruncated)
	if err != nil {
		t.Fatal(err)
	}
	head, err := client.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := replay{t: t, client: client, emulator: emulator, matched: map[string]int{}}
	for _, wc := range []int32{0, -1} {
		prev := r.lookup(ctx, wc, 1)
		for seqno := uint32(2); seqno <= head.Last.Seqno; seqno++ {
			id := r.lookup(ctx, wc, seqno)
			r.block(ctx, prev, id)
			prev = id
		}
	}
	total := 0
	kinds := slices.Sorted(maps.Keys(r.matched))
	for _, kind := range kinds {
		t.Logf("%4d  %s", r.matched[kind], kind)
		total += r.matched[kind]
	}
	t.Logf("%4d of %d transactions have the same hash", total, total+r.failed)
	if total < 500 {
		t.Errorf("%d transactions: that is not the whole history", total)
	}
	for _, want := range essential {
		if !slices.ContainsFunc(kinds, func(k string) bool { return strings.Contains(k, want) }) {
			t.Errorf("nothing in the history is of the kind %q", want)
		}
	}
}

// essential is what the history must have shown.
var essential = []string{
	"channel claim", "channel claim, exit code 51, bounces", "channel claim, exit code 52, bounces", "channel claim, exit code -14",
	"channel claim, skipped: cskip_no_gas", "channel close start", "channel close finish", "channel close finish, exit code 56, bounces",
	"channel close together", "registry announce", "registry apply", "registry apply, exit code 53, bounces", "registry cancel",
	"registry withdraw", "bounced", "external, with state init", "external, exit code -14", "nonexist to uninit", "nonexist to active",
	"active to nonexist", "in debt", "active to frozen", "frozen to active", "frozen, in debt", "uninit to nonexist", "cskip_no_state",
	"cskip_bad_state", "cannot pay for its bounce", "action result 33", "action result 34", "action result 36", "action result 37",
	"action result 37, bounces",
}

type replay struct {
	t        *testing.T
	client   *liteapi.Client
	emulator *txemulator.Emulator
	matched  map[string]int
	failed   int
}

func (r *replay) lookup(ctx context.Context, wc int32, seqno uint32) ton.BlockIDExt {
	r.t.Helper()
	id, _, err := r.client.LookupBlock(ctx, ton.BlockID{Workchain: wc, Shard: 1 << 63, Seqno: seqno}, 1, nil, nil)
	if err != nil {
		r.t.Fatalf("block %d of workchain %d: %v", seqno, wc, err)
	}
	return id
}

// block executes the transactions of a block again, each account's from its state in the block before.
func (r *replay) block(ctx context.Context, prev, id ton.BlockIDExt) {
	b, err := r.client.GetBlock(ctx, id)
	if err != nil {
		r.t.Fatalf("%v: %v", id, err)
	}
	if err = r.emulator.SetUnixtime(b.Info.GenUtime); err != nil {
		r.t.Fatal(err)
	}
	if err = r.emulator.SetRandomSeed(b.Extra.RandSeed); err != nil {
		r.t.Fatal(err)
	}
	for _, account := range b.Extra.AccountBlocks.Values() {
		at := *ton.NewAccountID(id.Workchain, account.AccountAddr)
		state := r.state(ctx, prev, at)
		if got := hash(r.t, state.Account); got != account.StateUpdate.OldHash {
			r.t.Fatalf("%s before block %v: hash %x, the block says %x", at, id, got, account.StateUpdate.OldHash)
		}
		for _, tx := range account.Transactions.Values() {
			next, err := r.transaction(state, tx.Value)
			if err != nil {
				r.failed++
				r.t.Errorf("block %v, account %s, lt %d (%s): %v", id, at, tx.Value.Lt, kind(tx.Value), err)
				return // the account's next transaction has another account to start from
			}
			if len(r.matched) == 0 { // were a second off not seen, nothing here would mean anything
				r.differs(state, tx.Value, b.Info.GenUtime)
			}
			r.matched[kind(tx.Value)]++
			state = next
		}
		after := r.state(ctx, id, at)
		if hash(r.t, after.Account) != account.StateUpdate.NewHash || hash(r.t, state.Account) != account.StateUpdate.NewHash {
			r.t.Errorf("%s after block %v has another hash", at, id)
		}
	}
}

func (r *replay) state(ctx context.Context, at ton.BlockIDExt, a ton.AccountID) tlb.ShardAccount {
	r.t.Helper()
	s, err := r.client.WithBlock(at).GetAccountState(ctx, a)
	if err != nil {
		r.t.Fatalf("%s in %v: %v", a, at, err)
	}
	return s
}

// transaction executes tx again and returns the account after it.
func (r *replay) transaction(before tlb.ShardAccount, tx tlb.Transaction) (after tlb.ShardAccount, err error) {
	if err = r.emulator.SetLT(tx.Lt); err != nil {
		return after, err
	}
	msg := tx.Msgs.InMsg.Value.Value
	if hash(r.t, msg) != msg.Hash(false) {
		return after, fmt.Errorf("tongo writes the message as another cell")
	}
	res, err := r.emulator.Emulate(before, msg)
	if err != nil {
		return after, err
	}
	if !res.Success {
		return after, fmt.Errorf("refused: %s (exit code %d)", res.Error.Text, res.Error.ExitCode)
	}
	if got, want := res.Emulation.Transaction.Hash(), tx.Hash(); got != want {
		return after, fmt.Errorf("hash %x, recorded %x\nC++ %+v\nrecorded %+v", got, want, res.Emulation.Transaction.Description, tx.Description)
	}
	return res.Emulation.ShardAccount, nil
}

// differs executes tx a second later, which must show.
func (r *replay) differs(before tlb.ShardAccount, tx tlb.Transaction, utime uint32) {
	if err := r.emulator.SetUnixtime(utime + 1); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.transaction(before, tx); err == nil {
		r.t.Fatal("another time gives the same hash")
	}
	if err := r.emulator.SetUnixtime(utime); err != nil {
		r.t.Fatal(err)
	}
}

// hash is the representation hash of a TL-B value.
func hash(t *testing.T, v any) tlb.Bits256 {
	t.Helper()
	c := boc.NewCell()
	if err := tlb.Marshal(c, v); err != nil {
		t.Fatal(err)
	}
	h, err := c.Hash256()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// kind says in words what a transaction did.
func kind(tx tlb.Transaction) string {
	var words []string
	d := tx.Description.TransOrd
	msg := tx.Msgs.InMsg.Value.Value
	body := boc.Cell(msg.Body.Value)
	switch {
	case msg.Info.SumType == "ExtInMsgInfo":
		words = append(words, "external")
	case msg.Info.IntMsgInfo.Bounced:
		words = append(words, "bounced")
	default:
		op := uint64(0)
		if body.BitSize() >= 32 {
			op, _ = body.PickUint(32)
		}
		if name := ops[uint32(op)]; name != "" {
			words = append(words, name)
		} else {
			words = append(words, "internal")
		}
	}
	if msg.Init.Exists {
		words = append(words, "with state init")
	}
	if tx.OrigStatus != tx.EndStatus {
		words = append(words, fmt.Sprintf("%s to %s", tx.OrigStatus, tx.EndStatus))
	} else if tx.EndStatus != tlb.AccountActive {
		words = append(words, string(tx.EndStatus))
	}
	if d.StoragePh.Exists && d.StoragePh.Value.StorageFeesDue.Exists {
		words = append(words, "in debt")
	}
	switch c := d.ComputePh; c.SumType {
	case "TrPhaseComputeSkipped":
		words = append(words, "skipped: "+string(c.TrPhaseComputeSkipped.Reason))
	default:
		if code := c.TrPhaseComputeVm.Vm.ExitCode; code != 0 {
			words = append(words, fmt.Sprintf("exit code %d", code))
		}
	}
	if d.Action.Exists && d.Action.Value.Value.ResultCode != 0 {
		words = append(words, fmt.Sprintf("action result %d", d.Action.Value.Value.ResultCode))
	}
	if d.Bounce.Exists {
		words = append(words, map[tlb.SumType]string{"TrPhaseBounceOk": "bounces", "TrPhaseBounceNofunds": "cannot pay for its bounce",
			"TrPhaseBounceNegfunds": "has nothing to bounce"}[d.Bounce.Value.SumType])
	}
	return strings.Join(words, ", ")
}
