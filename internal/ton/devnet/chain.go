package devnet

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// DefaultGlobalID is neither mainnet's (-239) nor testnet's (-3), so nothing
// signed for the devnet is valid there.
const DefaultGlobalID = -217

// supply is what the giver holds in the zero state, in nanogram: 5e9 GRAM.
const supply = 5_000_000_000_000_000_000

// giverSubwallet is the wallet id of the giver, a V3R2 wallet.
const giverSubwallet = 698983191

// poolLimit bounds the external messages that wait for a block.
const poolLimit = 1000

var (
	errNotAccepted = errors.New("the contract did not accept the external message")
	errClosed      = errors.New("devnet: closed")
)

// Config describes a chain. The zero value is a fresh chain in memory.
type Config struct {
	// Dir keeps the chain across restarts; empty means memory only. An existing
	// chain continues with its own GlobalID and Seed, which must then be zero or equal.
	Dir string
	// GlobalID is the network's global id; 0 means DefaultGlobalID. Mainnet's
	// and testnet's ids are refused.
	GlobalID int32
	// Seed derives the validator's, the giver's and the liteservers' keys. Nil
	// means random. A fixed seed and clock make every hash of the chain repeat.
	Seed []byte
	// TVMVersion is the version of the virtual machine that the network's
	// configuration states; 0 means mainnet's. A later one than this program
	// knows shows what a client does after an upgrade.
	TVMVersion uint32
	// KeyEvery makes a key block of the first masterchain block and of each one
	// that comes this many after another, as elections do on mainnet; 0 of the
	// first alone.
	KeyEvery uint32
	// Clock is where chain time comes from, plus what Advance added; nil means time.Now.
	Clock func() time.Time
	// SealOnSend seals a block as soon as a liteserver accepts an external
	// message, which suits tests. Otherwise blocks come from Seal and Run.
	SealOnSend bool
}

// Chain is a local TON network: one validator, a masterchain and a basechain
// of one shard. Its methods may be called from several goroutines.
type Chain struct {
	globalID int32
	keyEvery uint32
	seed     []byte
	clock    func() time.Time
	instant  bool

	machine  *tvm.TVM
	config   *tvm.PreparedBlockchainConfig
	cfgRoot  *cell.Cell
	val      *validator
	giverKey ed25519.PrivateKey
	giver    *address.Address

	mu      sync.Mutex
	closed  bool
	offset  time.Duration
	lt      uint64
	lanes   map[int32]*lane
	blocks  map[int32][]*block // index is the seqno
	history *cell.AugmentedDictionary
	txs     map[accountID][]*txRecord
	pool    []*tvm.PreparedMessage
	pooled  map[[32]byte]bool
	delay   uint32
	grown   chan struct{} // closed at the next block
	servers []*Liteserver
	dht     []*DHT
	log     *blockLog
}

type accountID struct {
	wc   int32
	hash [32]byte
}

// New starts a chain, or continues the one in cfg.Dir.
func New(cfg Config) (*Chain, error) {
	clock := cfg.Clock
	if clock == nil {
		clock = time.Now
	}
	g := genesis{GlobalID: cfg.GlobalID, Seed: cfg.Seed, Time: unix32(clock()), TVMVersion: cfg.TVMVersion, KeyEvery: cfg.KeyEvery}
	if g.GlobalID == 0 {
		g.GlobalID = DefaultGlobalID
	}
	var log *blockLog
	var saved []*sealed
	if cfg.Dir != "" {
		var err error
		if log, saved, err = openLog(cfg.Dir, cfg, &g); err != nil {
			return nil, err
		}
	}
	c, err := start(g, clock)
	if err == nil {
		err = c.replay(saved)
	}
	if err == nil && len(saved) == 0 {
		c.log = log
		err = c.Seal() // the key block that clients trust
	}
	if err != nil {
		if log != nil {
			_ = log.close()
		}
		return nil, fmt.Errorf("devnet: %w", err)
	}
	c.log, c.instant = log, cfg.SealOnSend
	return c, nil
}

// genesis is all that the zero state depends on.
type genesis struct {
	GlobalID int32  `json:"global_id"`
	Seed     []byte `json:"seed"`
	Time     uint32 `json:"time"`

	TVMVersion uint32 `json:"tvm_version,omitempty"`
	KeyEvery   uint32 `json:"key_every,omitempty"`
}

func (g *genesis) check() error {
	if g.GlobalID == -239 || g.GlobalID == -3 {
		return fmt.Errorf("global id %d belongs to a public network: choose another", g.GlobalID)
	}
	if len(g.Seed) == 0 {
		g.Seed = make([]byte, 32)
		_, _ = rand.Read(g.Seed) // never fails
	}
	return nil
}

func start(g genesis, clock func() time.Time) (*Chain, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	c := &Chain{globalID: g.GlobalID, keyEvery: g.KeyEvery, seed: g.Seed, clock: clock, machine: tvm.NewTVM(), lt: ltStep,
		blocks: map[int32][]*block{}, lanes: map[int32]*lane{}, txs: map[accountID][]*txRecord{},
		pooled: map[[32]byte]bool{}, grown: make(chan struct{})}
	c.giverKey = c.key("giver")
	var err error
	if c.val, err = newValidator(c.key("validator")); err != nil {
		return nil, err
	}
	if c.history, err = cell.NewAugDict(32, oldBlocks{}); err != nil {
		return nil, err
	}
	for _, wc := range []int32{masterchain, basechain} {
		if c.lanes[wc], err = newLane(wc); err != nil {
			return nil, err
		}
	}
	if err = c.createGiver(g.Time); err != nil {
		return nil, err
	}
	// the zero states: basechain first, its hash is in the configuration
	shard, err := c.zeroState(basechain, g.Time, nil)
	if err != nil {
		return nil, err
	}
	if c.cfgRoot, err = buildConfig(c.globalID, g.TVMVersion, g.Time, c.val, shard.id.RootHash, shard.id.FileHash); err != nil {
		return nil, err
	}
	if c.config, err = tvm.PrepareBlockchainConfig(c.cfgRoot); err != nil {
		return nil, err
	}
	custom, err := c.stateExtra(nil, shard)
	if err != nil {
		return nil, err
	}
	master, err := c.zeroState(masterchain, g.Time, custom)
	if err != nil {
		return nil, err
	}
	master.shard, master.key = shard, true
	c.blocks[basechain] = []*block{shard}
	c.blocks[masterchain] = []*block{master}
	return c, nil
}

// lastKey is the sequence number of the newest key block up to a masterchain
// block; 0, the zero state, before the first.
func (c *Chain) lastKey(seqno uint32) uint32 {
	switch {
	case seqno == 0:
		return 0
	case c.keyEvery == 0:
		return 1
	}
	return seqno - (seqno-1)%c.keyEvery
}

// key derives one of the chain's keys from its seed.
func (c *Chain) key(name string) ed25519.PrivateKey {
	h := hmac.New(sha256.New, c.seed)
	h.Write([]byte("bombyx/1 devnet " + name))
	return ed25519.NewKeyFromSeed(h.Sum(nil))
}

// createGiver puts the whole supply into one wallet of the zero state.
func (c *Chain) createGiver(now uint32) error {
	init, err := wallet.GetStateInit(c.giverKey.Public().(ed25519.PublicKey), wallet.V3R2, giverSubwallet)
	if err != nil {
		return err
	}
	initCell, err := toCell(init)
	if err != nil {
		return err
	}
	c.giver = address.NewAddress(0, 0, initCell.Hash())
	// account$1 with storage_info: cells and bits used, no extra, last_paid, no due payment
	storage := newWriter().uint(0, 64).currency(big.NewInt(supply)).bool(true).inline(initCell)
	storageCell, err := storage.cell()
	if err != nil {
		return err
	}
	cells, bits := measure(storageCell, map[cell.Hash]bool{})
	acc, err := newWriter().bool(true).do(func(b *cell.Builder) error { return b.StoreAddr(c.giver) }).
		do(func(b *cell.Builder) error { return b.StoreVarUInt(cells, 7) }).
		do(func(b *cell.Builder) error { return b.StoreVarUInt(bits, 7) }).
		uint(0, 3).uint(uint64(now), 32).bool(false).inline(storageCell).cell()
	if err != nil {
		return err
	}
	p, err := tvm.PrepareAccount(&tlb.ShardAccount{Account: acc, LastTransHash: make([]byte, 32)}, c.giver)
	if err != nil {
		return err
	}
	key, err := key256(c.giver.Data())
	if err != nil {
		return err
	}
	l := c.lanes[basechain]
	l.live[[32]byte(c.giver.Data())] = &account{prepared: p}
	return l.accounts.Set(key, p.ShardAccountCell())
}

// measure counts the distinct cells of a tree and their bits.
func measure(c *cell.Cell, seen map[cell.Hash]bool) (cells, bits uint64) {
	if seen[c.HashKey()] {
		return 0, 0
	}
	seen[c.HashKey()] = true
	cells, bits = 1, uint64(c.BitsSize())
	for i := range int(c.RefsNum()) {
		if r, err := c.PeekRef(i); err == nil {
			n, b := measure(r, seen)
			cells, bits = cells+n, bits+b
		}
	}
	return cells, bits
}

func (c *Chain) zeroState(wc int32, now uint32, custom *cell.Cell) (*block, error) {
	l := c.lanes[wc]
	total, err := l.balance()
	if err != nil {
		return nil, err
	}
	in := stateInput{globalID: c.globalID, wc: wc, utime: now, minRef: math.MaxUint32, accounts: l.accounts, queue: l.queue, total: total, fees: l.fees, custom: custom}
	state, err := in.cell()
	if err != nil {
		return nil, err
	}
	return &block{id: blockID(wc, 0, state), state: state, utime: now}, nil
}

// Now is the chain's time.
func (c *Chain) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Chain) now() time.Time { return c.clock().Add(c.offset) }

func unix32(t time.Time) uint32 { return uint32(max(0, min(t.Unix(), math.MaxUint32))) }

// Advance moves the chain's time forward by d and seals a block in it.
func (c *Chain) Advance(d time.Duration) error {
	if d < 0 {
		return errors.New("devnet: time cannot go back: give a positive duration")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.now().Add(d).Unix(); t < 0 || t > math.MaxUint32/2 {
		return fmt.Errorf("devnet: advancing by %s leaves the range of unix times", d)
	}
	c.offset += d
	return c.seal()
}

// DelayMessages makes internal messages wait the given number of blocks before
// they are delivered; 0 delivers them in the block that sends them.
func (c *Chain) DelayMessages(blocks uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = min(blocks, 1000)
}

// Giver is the address of the wallet that Fund pays from. It holds the whole supply at first.
func (c *Chain) Giver() *address.Address { return c.giver.Copy() }

// GlobalID is the network's global id, part of every wallet id.
func (c *Chain) GlobalID() int32 { return c.globalID }

// Fund transfers nano nanogram from the giver to an account and seals the block.
func (c *Chain) Fund(to *address.Address, nano uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	msg, err := c.giverMessage(to, nano, false)
	if err != nil {
		return fmt.Errorf("devnet: fund: %w", err)
	}
	before := len(c.blocks[masterchain])
	if err = c.push(msg); err != nil {
		return fmt.Errorf("devnet: fund: %w", err)
	}
	if len(c.blocks[masterchain]) > before { // sealed by push
		return nil
	}
	return c.seal()
}

// giverMessage is a signed V3R2 transfer of exactly nano, fees paid by the giver.
func (c *Chain) giverMessage(to *address.Address, nano uint64, bounce bool) (*cell.Cell, error) {
	if to == nil || to.Type() != address.StdAddress {
		return nil, errors.New("a standard address is needed")
	}
	acc, err := c.lanes[basechain].account(c.giver)
	if err != nil {
		return nil, err
	}
	data, err := acc.prepared.State().StateInit.Data.BeginParse()
	if err != nil {
		return nil, err
	}
	seqno, err := data.LoadUInt(32)
	if err != nil {
		return nil, err
	}
	transfer, err := toCell(&tlb.InternalMessage{IHRDisabled: true, Bounce: bounce, DstAddr: to, Amount: tlb.FromNanoTONU(nano), Body: cell.BeginCell().EndCell()})
	if err != nil {
		return nil, err
	}
	body := newWriter().uint(giverSubwallet, 32).uint(uint64(unix32(c.now()))+60, 32).uint(seqno, 32).uint(3, 8).ref(transfer)
	unsigned, err := body.cell()
	if err != nil {
		return nil, err
	}
	signed, err := newWriter().bytes(unsigned.Sign(c.giverKey)).inline(unsigned).cell()
	if err != nil {
		return nil, err
	}
	return toCell(&tlb.ExternalMessage{DstAddr: c.giver, Body: signed})
}

// Send queues an external message (a bag of cells) as a liteserver would: it
// must be well formed and the contract must accept it in the current state.
func (c *Chain) Send(boc []byte) error {
	root, err := cell.FromBOC(boc)
	if err != nil {
		return fmt.Errorf("not a bag of cells: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.push(root)
}

func (c *Chain) push(root *cell.Cell) error {
	pm, err := tvm.PrepareMessage(root)
	if err != nil {
		return err
	}
	if pm.Message().MsgType != tlb.MsgTypeExternalIn {
		return errors.New("not an inbound external message")
	}
	dst := pm.Message().AsExternalIn().DstAddr
	l := c.lanes[dst.Workchain()]
	if l == nil || dst.Type() != address.StdAddress {
		return fmt.Errorf("no workchain %d on this network", dst.Workchain())
	}
	if c.pooled[root.HashKey()] {
		return nil // it waits already
	}
	if len(c.pool) >= poolLimit {
		return errors.New("too many external messages wait for a block: try again later")
	}
	acc, err := l.account(dst)
	if err != nil {
		return err
	}
	ctx, err := c.config.NewBlockContext(tvm.BlockOptions{Now: c.nextTime(), BlockLT: int64(c.lt), RandSeed: make([]byte, 32), GlobalID: c.globalID})
	if err != nil {
		return err
	}
	options := tvm.TransactionOptions{LogicalTime: int64(c.lt)}
	ok, err := c.machine.CheckExternalMessageAccepted(ctx, acc.prepared, pm, options)
	if err != nil {
		return err
	}
	if !ok { // say why, as a liteserver does
		res, err := c.machine.EmulateTransaction(ctx, acc.prepared, pm, options)
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: exitcode=%d", errNotAccepted, res.ExitCode)
	}
	c.pool = append(c.pool, pm)
	c.pooled[root.HashKey()] = true
	if c.instant {
		return c.seal()
	}
	return nil
}

// Seal makes one masterchain and one basechain block from what waits, and
// from nothing if nothing does.
func (c *Chain) Seal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seal()
}

// nextTime is the time of the next block: never before the last one.
func (c *Chain) nextTime() uint32 { return max(unix32(c.now()), c.last().utime) }

func (c *Chain) last() *block {
	list := c.blocks[masterchain]
	return list[len(list)-1]
}

func (c *Chain) seal() error {
	if c.closed {
		return errClosed
	}
	in := &sealed{Time: c.nextTime(), Offset: c.offset, Delay: c.delay}
	for _, m := range c.pool {
		in.Externals = append(in.Externals, m.Cell())
	}
	c.pool, c.pooled = nil, map[[32]byte]bool{}
	return c.sealWith(in)
}

// sealed is everything a block depends on besides the state before it.
type sealed struct {
	Time      uint32
	Offset    time.Duration
	Delay     uint32
	Externals []*cell.Cell
	Root      [32]byte // root hash of the masterchain block it gave
}

func (c *Chain) sealWith(in *sealed) error {
	prev := c.last()
	seqno := prev.id.SeqNo + 1
	externals := map[int32][]*tvm.PreparedMessage{}
	for _, root := range in.Externals {
		pm, err := tvm.PrepareMessage(root)
		if err != nil {
			return err
		}
		wc := pm.Message().AsExternalIn().DstAddr.Workchain()
		externals[wc] = append(externals[wc], pm)
	}
	shardLane, masterLane := c.lanes[basechain].fork(), c.lanes[masterchain].fork()
	history := c.history.Copy()
	if err := appendHistory(history, prev); err != nil {
		return err
	}

	shardDone, left, err := c.collate(shardLane, masterLane, seqno, c.lt, in, externals[basechain])
	if err != nil {
		return err
	}
	flow, accounts, err := shardDone.finish(nil)
	if err != nil {
		return err
	}
	shard, err := c.sealBlock(shardDone, flow, accounts, in, nil)
	if err != nil {
		return err
	}

	masterDone, leftMaster, err := c.collate(masterLane, shardLane, seqno, shard.endLT, in, externals[masterchain])
	if err != nil {
		return err
	}
	masterFlow, masterAccounts, err := masterDone.finish(flow.fees)
	if err != nil {
		return err
	}
	master, err := c.sealBlock(masterDone, masterFlow, masterAccounts, in, &registration{shard: shard, flow: flow, history: history})
	if err != nil {
		return err
	}
	if master.signature, err = c.val.sign(master.id.RootHash, master.id.FileHash); err != nil {
		return err
	}

	// durable before anyone can see it
	root := [32]byte(master.id.RootHash)
	if in.Root != ([32]byte{}) && in.Root != root {
		return fmt.Errorf("block %d came out as %x, not %x as recorded: the log is from another version", seqno, root, in.Root)
	}
	in.Root = root
	if c.log != nil {
		if err = c.log.append(in); err != nil {
			return err
		}
	}
	c.lanes[basechain], c.lanes[masterchain], c.history = shardLane, masterLane, history
	c.lt = master.endLT
	for _, b := range []*block{shard, master} {
		c.blocks[b.id.Workchain] = append(c.blocks[b.id.Workchain], b)
		for _, t := range b.txs {
			id := accountID{b.id.Workchain, t.account}
			c.txs[id] = append(c.txs[id], t)
		}
	}
	for _, pm := range append(left, leftMaster...) {
		c.pool, c.pooled[pm.Cell().HashKey()] = append(c.pool, pm), true
	}
	close(c.grown)
	c.grown = make(chan struct{})
	return nil
}

// collate executes the messages of one workchain's next block.
func (c *Chain) collate(l, neighbour *lane, seqno uint32, after uint64, in *sealed, externals []*tvm.PreparedMessage) (*collation, []*tvm.PreparedMessage, error) {
	lt := (after/ltStep + 1) * ltStep
	ctx, err := c.config.NewBlockContext(tvm.BlockOptions{Now: in.Time, BlockLT: int64(lt), RandSeed: c.blockSeed(l.wc, seqno), GlobalID: c.globalID})
	if err != nil {
		return nil, nil, err
	}
	co, err := newCollation(l, c.machine, ctx, seqno, in.Delay, lt)
	if err != nil {
		return nil, nil, err
	}
	left, err := co.run(externals, neighbour)
	return co, left, err
}

// finish closes the accounts and the money of a block.
func (c *collation) finish(shardFees *big.Int) (*valueFlow, *tlb.ShardAccountBlocksAugDict, error) {
	if shardFees == nil {
		shardFees = new(big.Int)
	}
	accounts, err := c.accountBlocks()
	if err != nil {
		return nil, nil, err
	}
	flow, err := c.flow(accounts, shardFees)
	if err != nil {
		return nil, nil, err
	}
	c.lane.fees.Add(c.lane.fees, flow.fees)
	return flow, accounts, nil
}

// blockSeed is the block's random seed. It is public: a devnet's randomness is worth nothing.
func (c *Chain) blockSeed(wc int32, seqno uint32) []byte {
	h := hmac.New(sha256.New, c.seed)
	h.Write([]byte("bombyx/1 devnet block"))
	h.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(wc)), seqno))
	return h.Sum(nil)
}

// registration is what a masterchain block says about the basechain.
type registration struct {
	shard   *block
	flow    *valueFlow // of shard
	history *cell.AugmentedDictionary
}

// sealBlock builds the state and the block of a collation; reg is nil on the basechain.
func (c *Chain) sealBlock(co *collation, flow *valueFlow, accounts *tlb.ShardAccountBlocksAugDict, in *sealed, reg *registration) (*block, error) {
	wc := co.lane.wc
	list := c.blocks[wc]
	prev := list[len(list)-1]
	b := &block{utime: in.Time, startLT: co.startLT, endLT: co.lt + 1, txs: co.txs}
	si := stateInput{globalID: c.globalID, wc: wc, seqno: co.seqno, utime: in.Time, lt: b.endLT, accounts: co.lane.accounts,
		queue: co.lane.queue, queued: len(co.lane.queued), total: flow.after, fees: co.lane.fees}
	bi := blockInput{globalID: c.globalID, wc: wc, seqno: co.seqno, utime: in.Time, startLT: b.startLT, endLT: b.endLT,
		prev: prev, oldState: prev.state, flow: flow.writer(), inMsgs: co.inMsgs, outMsgs: co.outMsgs, accounts: accounts,
		seed: c.blockSeed(wc, co.seqno)}
	var err error
	if reg == nil {
		si.masterRef, bi.master = c.last(), c.last()
		si.minRef, bi.minRef = c.last().id.SeqNo, c.last().id.SeqNo
		bi.prevKey = c.lastKey(c.last().id.SeqNo)
	} else {
		si.minRef, bi.minRef = co.seqno-1, co.seqno-1
		bi.prevKey = c.lastKey(co.seqno - 1)
		bi.valHash, bi.keyBlock = c.val.setHash, c.lastKey(co.seqno) == co.seqno
		b.shard, b.key = reg.shard, bi.keyBlock
		if si.custom, err = c.stateExtra(reg, reg.shard); err != nil {
			return nil, err
		}
		if bi.custom, err = c.blockExtra(reg, bi.keyBlock); err != nil {
			return nil, err
		}
	}
	if b.state, err = si.cell(); err != nil {
		return nil, err
	}
	bi.newState = b.state
	if b.root, err = bi.cell(); err != nil {
		return nil, err
	}
	b.id = blockID(wc, co.seqno, b.root)
	for _, t := range b.txs {
		t.block = b
	}
	return b, nil
}

// shardHashes is ShardHashes with the descriptor of the one shard.
func (c *Chain) shardHashes(reg *registration, shard *block) (*cell.Dictionary, error) {
	fees := new(big.Int)
	if reg != nil {
		fees = reg.flow.fees
	}
	seqno := uint64(shard.id.SeqNo)
	// bt_leaf$0 with shard_descr#a
	leaf := newWriter().bool(false).uint(0xa, 4).uint(seqno, 32).uint(seqno, 32).uint(shard.startLT, 64).uint(shard.endLT, 64).
		bytes(shard.id.RootHash).bytes(shard.id.FileHash).uint(0, 5).uint(0, 3).uint(0, 32).uint(1<<63, 64).
		uint(max(seqno, 1)-1, 32).uint(uint64(shard.utime), 32).bool(false).
		sub(newWriter().currency(fees).currency(new(big.Int)))
	entry, err := newWriter().sub(leaf).cell()
	if err != nil {
		return nil, err
	}
	d := cell.NewDict(32)
	return d, d.SetIntKey(big.NewInt(0), entry)
}

// configParams is ConfigParams: the configuration contract's address and the parameters.
func (c *Chain) configParams() (*writer, error) {
	addr, err := tlb.BlockchainConfig{Root: c.cfgRoot}.GetConfigAddress()
	if err != nil {
		return nil, err
	}
	return newWriter().bytes(addr).ref(c.cfgRoot), nil
}

// stateExtra is masterchain_state_extra#cc26.
func (c *Chain) stateExtra(reg *registration, shard *block) (*cell.Cell, error) {
	hashes, err := c.shardHashes(reg, shard)
	if err != nil {
		return nil, err
	}
	params, err := c.configParams()
	if err != nil {
		return nil, err
	}
	history, seqno, lastKey := c.history, uint32(len(c.blocks[masterchain])), (*block)(nil)
	if reg != nil {
		history = reg.history
	}
	if seqno > 1 {
		lastKey = c.blocks[masterchain][c.lastKey(seqno-1)]
	}
	info := newWriter().uint(0, 16).uint(uint64(c.val.setHash), 32).uint(0, 32).bool(false).augmented(history).
		bool(reg != nil && c.lastKey(seqno) == seqno).bool(lastKey != nil)
	if lastKey != nil {
		info.inlineWriter(lastKey.extRef())
	}
	return newWriter().uint(0xcc26, 16).dict(hashes).inlineWriter(params).sub(info).currency(big.NewInt(supply)).cell()
}

// blockExtra is masterchain_block_extra#cca5.
func (c *Chain) blockExtra(reg *registration, key bool) (*cell.Cell, error) {
	hashes, err := c.shardHashes(reg, reg.shard)
	if err != nil {
		return nil, err
	}
	fees, err := tlb.NewShardFeesAugDict()
	if err != nil {
		return nil, err
	}
	shardKey, err := newWriter().int32(basechain).uint(1<<63, 64).cell()
	if err != nil {
		return nil, err
	}
	fee, err := newWriter().currency(reg.flow.fees).currency(new(big.Int)).cell()
	if err != nil {
		return nil, err
	}
	if err = fees.Set(shardKey, fee); err != nil {
		return nil, err
	}
	w := newWriter().uint(0xcca5, 16).bool(key).dict(hashes).augmented(fees).sub(newWriter().uint(0, 3))
	if key {
		params, err := c.configParams()
		if err != nil {
			return nil, err
		}
		w.inlineWriter(params)
	}
	return w.cell()
}

// appendHistory adds a block to the masterchain's list of old blocks.
func appendHistory(d *cell.AugmentedDictionary, b *block) error {
	ref, err := newWriter().bool(b.key).inlineWriter(b.extRef()).cell()
	if err != nil {
		return err
	}
	return d.SetIntKey(big.NewInt(int64(b.id.SeqNo)), ref)
}

// find returns the block that id names, or nil.
func (c *Chain) find(id *tonapi.BlockIDExt) *block {
	if id == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.blocks[id.Workchain]
	if int64(id.SeqNo) >= int64(len(list)) || !list[id.SeqNo].id.Equals(id) {
		return nil
	}
	return list[id.SeqNo]
}

// Close releases the chain's directory and stops its liteservers and DHT nodes.
func (c *Chain) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	servers, nodes, log := c.servers, c.dht, c.log
	c.servers, c.dht = nil, nil
	c.mu.Unlock()
	var err error
	for _, s := range servers {
		err = errors.Join(err, s.Close())
	}
	for _, n := range nodes {
		err = errors.Join(err, n.Close())
	}
	if log != nil {
		err = errors.Join(err, log.close())
	}
	return err
}
