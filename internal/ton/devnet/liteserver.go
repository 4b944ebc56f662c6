package devnet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/bombyx-network/bombyx/internal/ton"
)

const (
	lsVersion      = 0x101
	lsCapabilities = 7
	// pageLimit is how many transactions a liteserver gives at once.
	pageLimit = 16
	// queriesAtOnce bounds the queries that one liteserver works on.
	queriesAtOnce = 256
	maxWait       = 10 * time.Second
)

var (
	errNoBlock  = tonapi.LSError{Code: 651, Text: "block is not applied"}
	errNoInit   = tonapi.LSError{Code: tonapi.ErrCodeContractNotInitialized, Text: "contract is not initialized"}
	errTimeout  = tonapi.LSError{Code: 652, Text: "timeout"}
	errTooMany  = tonapi.LSError{Code: 429, Text: "too many queries at once"}
	errNotInDB  = tonapi.LSError{Code: -400, Text: "cannot compute block with specified transaction: lt not in db"}
	errZeroData = tonapi.LSError{Code: 651, Text: "the zero state is not a block"}
)

// Liteserver answers the liteserver protocol (ADNL over TCP) for a chain.
type Liteserver struct {
	chain *Chain
	key   ed25519.PrivateKey
	addr  *net.TCPAddr
	srv   *liteclient.Server
	stop  context.CancelFunc
	ctx   context.Context
	done  chan struct{}
	slots chan struct{}

	mu     sync.Mutex
	faults Faults
	watch  func(tl.Serializable)
	conns  map[*liteclient.ServerClient]struct{}
}

// Serve starts a liteserver on addr ("127.0.0.1:0" picks a port). It stops
// when ctx ends, or with Close. Several may serve one chain; each has a key of its own.
func (c *Chain) Serve(ctx context.Context, addr string) (*Liteserver, error) {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("devnet: liteserver address %q: %w (a global.config.json holds IPv4 addresses only)", addr, err)
	}
	// The server does not tell the port it got, and whoever has the port already would answer for it.
	if tcp, err = freePort(tcp); err != nil {
		return nil, fmt.Errorf("devnet: liteserver: %w", err)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errClosed
	}
	s := &Liteserver{chain: c, key: c.key("liteserver " + strconv.Itoa(len(c.servers))), addr: tcp,
		done: make(chan struct{}), slots: make(chan struct{}, queriesAtOnce), conns: map[*liteclient.ServerClient]struct{}{}}
	c.servers = append(c.servers, s)
	c.mu.Unlock()
	s.ctx, s.stop = context.WithCancel(ctx)
	s.srv = liteclient.NewServer([]ed25519.PrivateKey{s.key})
	s.srv.SetQueryHandler(s.handle)
	s.srv.SetConnectionHook(func(cl *liteclient.ServerClient) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		s.conns[cl] = struct{}{}
		return nil
	})
	s.srv.SetDisconnectHook(func(cl *liteclient.ServerClient) {
		s.mu.Lock()
		delete(s.conns, cl)
		s.mu.Unlock()
	})
	failed := make(chan error, 1)
	go func() {
		failed <- s.srv.Listen(tcp.String())
		close(s.done)
	}()
	if err = s.ready(failed); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("devnet: liteserver on %s: %w", addr, err)
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return s, nil
}

// ready waits until the server accepts connections.
func (s *Liteserver) ready(failed <-chan error) error {
	for range 200 {
		if conn, err := net.DialTimeout("tcp4", s.addr.String(), time.Second); err == nil {
			return conn.Close()
		}
		select {
		case err := <-failed:
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
	return errors.New("does not accept connections")
}

func freePort(a *net.TCPAddr) (*net.TCPAddr, error) {
	l, err := net.ListenTCP("tcp4", a)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr), nil
}

// Addr is the address that the liteserver listens on.
func (s *Liteserver) Addr() *net.TCPAddr { return s.addr }

// Close stops the liteserver and drops its connections.
func (s *Liteserver) Close() error {
	s.stop()
	err := s.srv.Close()
	s.mu.Lock()
	conns := s.conns
	s.conns = map[*liteclient.ServerClient]struct{}{}
	s.mu.Unlock()
	for cl := range conns {
		cl.Close()
	}
	return err
}

// GlobalConfig describes the network to any TON client: the liteservers and
// DHT nodes that are served, and the key block to trust.
func (c *Chain) GlobalConfig() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg := liteclient.GlobalConfig{Type: "config.global"}
	cfg.DHT = liteclient.DHTConfig{Type: "dht.config.global", K: 6, A: 3, StaticNodes: liteclient.DHTNodes{Type: "dht.nodes", Nodes: []liteclient.DHTNode{}}}
	for _, n := range c.dht {
		cfg.DHT.StaticNodes.Nodes = append(cfg.DHT.StaticNodes.Nodes, n.config())
	}
	cfg.Liteservers = []liteclient.LiteserverConfig{}
	for _, s := range c.servers {
		cfg.Liteservers = append(cfg.Liteservers, liteclient.LiteserverConfig{IP: int64(ipNumber(s.addr.IP)), Port: s.addr.Port,
			ID: liteclient.ServerID{Type: "pub.ed25519", Key: base64.StdEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey))}})
	}
	mc := c.blocks[masterchain]
	cfg.Validator = liteclient.ValidatorConfig{Type: "validator.config.global", ZeroState: liteclient.ConfigBlock(*mc[0].id),
		InitBlock: liteclient.ConfigBlock(*mc[1].id), Hardforks: []liteclient.ConfigBlock{}}
	out, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil { // plain strings and numbers always marshal
		return nil
	}
	return append(out, '\n')
}

// Watch shows every query to f from now on, for tests that count them; nil ends
// that. Queries come at once.
func (s *Liteserver) Watch(f func(q tl.Serializable)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch = f
}

func (s *Liteserver) handle(_ context.Context, cl *liteclient.ServerClient, id []byte, q tl.Serializable) {
	select {
	case s.slots <- struct{}{}:
	default:
		cl.Answer(id, errTooMany)
		return
	}
	go func() {
		defer func() { <-s.slots }()
		if a := s.answer(q); a != nil {
			cl.Answer(id, a)
		}
	}()
}

// answer returns nil when a fault swallows the query.
func (s *Liteserver) answer(q tl.Serializable) (resp tl.Serializable) {
	defer func() { // foreign code and messages run in the executor: its bugs must not end the chain
		if r := recover(); r != nil {
			resp = tonapi.LSError{Code: 500, Text: fmt.Sprint("internal error: ", r)}
		}
	}()
	s.mu.Lock()
	f, watch := s.faults, s.watch
	s.mu.Unlock()
	if watch != nil {
		watch(q)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-s.ctx.Done():
			return nil
		}
	}
	if f.Dead {
		return nil
	}
	if list, ok := q.([]tl.Serializable); ok {
		if len(list) != 2 {
			return tonapi.LSError{Code: 621, Text: "a wait prefix and one query are understood"}
		}
		w, ok := list[0].(tonapi.WaitMasterchainSeqno)
		if !ok {
			return tonapi.LSError{Code: 621, Text: "a wait prefix and one query are understood"}
		}
		if !s.chain.wait(s.ctx, uint32(max(w.Seqno, 0)), min(time.Duration(w.Timeout)*time.Millisecond, maxWait)) {
			return errTimeout
		}
		q = list[1]
	}
	if f.Lie != "" {
		return s.lie(f.Lie, q)
	}
	return s.honest(q)
}

func (s *Liteserver) honest(q tl.Serializable) tl.Serializable {
	a, err := s.query(q)
	var ls tonapi.LSError
	if errors.As(err, &ls) {
		return ls
	}
	if err != nil {
		return tonapi.LSError{Code: 500, Text: err.Error()}
	}
	return a
}

// wait blocks until the masterchain has a block.
func (c *Chain) wait(ctx context.Context, seqno uint32, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		c.mu.Lock()
		reached, grown := c.last().id.SeqNo >= seqno, c.grown
		c.mu.Unlock()
		if reached {
			return true
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

func (c *Chain) head() *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last()
}

// sealedBlock is find for queries that need a block, not the zero state.
func (c *Chain) sealedBlock(id *tonapi.BlockIDExt) (*block, error) {
	b := c.find(id)
	if b == nil {
		return nil, errNoBlock
	}
	if b.root == nil {
		return nil, errZeroData
	}
	return b, nil
}

// masterBlock is sealedBlock for masterchain blocks.
func (c *Chain) masterBlock(id *tonapi.BlockIDExt) (*block, error) {
	b, err := c.sealedBlock(id)
	if err == nil && id.Workchain != masterchain {
		return nil, tonapi.LSError{Code: -400, Text: "a masterchain block is needed"}
	}
	return b, err
}

func (c *Chain) zero() *tonapi.ZeroStateIDExt {
	z := c.masterAt(0).id
	return &tonapi.ZeroStateIDExt{Workchain: masterchain, RootHash: z.RootHash, FileHash: z.FileHash}
}

func (s *Liteserver) query(q tl.Serializable) (tl.Serializable, error) {
	c := s.chain
	switch v := q.(type) {
	case tonapi.GetTime:
		return tonapi.CurrentTime{Now: unix32(c.Now())}, nil
	case tonapi.GetVersion:
		return tonapi.Version{Version: lsVersion, Capabilities: lsCapabilities, Now: unix32(c.Now())}, nil
	case tonapi.GetMasterchainInf:
		b := c.head()
		return tonapi.MasterchainInfo{Last: b.id, StateRootHash: b.state.Hash(), Init: c.zero()}, nil
	case tonapi.GetMasterchainInfoExt:
		b := c.head()
		return tonapi.MasterchainInfoExt{Version: lsVersion, Capabilities: lsCapabilities, Last: b.id, LastUTime: b.utime,
			Now: unix32(c.Now()), StateRootHash: b.state.Hash(), Init: c.zero()}, nil
	case tonapi.LookupBlock:
		b, err := c.lookup(v.Mode, v.ID, v.LT, v.UTime)
		if err != nil {
			return nil, err
		}
		return header(b)
	case tonapi.LookupBlockWithProof:
		return c.lookupWithProof(v)
	case tonapi.GetShardBlockProof:
		return c.shardBlockProof(v.ID)
	case tonapi.GetBlockHeader:
		b, err := c.sealedBlock(v.ID)
		if err != nil {
			return nil, err
		}
		return header(b)
	case tonapi.GetBlockData:
		b, err := c.sealedBlock(v.ID)
		if err != nil {
			return nil, err
		}
		return tonapi.BlockData{ID: b.id, Payload: fileBOC(b.root)}, nil
	case tonapi.GetState:
		b := c.find(v.ID)
		if b == nil {
			return nil, errNoBlock
		}
		return tonapi.BlockState{ID: b.id, RootHash: b.state.Hash(), FileHash: cell.ComputeFileHash(b.state), Data: fileBOC(b.state)}, nil
	case tonapi.GetOutMsgQueueSizes:
		return c.queueSizes(v)
	case tonapi.GetAllShardsInfo:
		return c.allShards(v.ID)
	case tonapi.GetShardInfo:
		return c.shardInfo(v)
	case tonapi.GetBlockProof:
		return c.blockProof(v)
	case tonapi.GetConfigAll:
		return c.configInfo(v.BlockID, v.Mode, nil)
	case tonapi.GetConfigParams:
		if len(v.Params) == 0 {
			return nil, tonapi.LSError{Code: 621, Text: "no parameters asked for"}
		}
		return c.configInfo(v.BlockID, v.Mode, v.Params)
	case tonapi.GetAccountState:
		return c.accountState(v.ID, v.Account)
	case tonapi.RunSmcMethod:
		return c.runMethod(&v)
	case *tonapi.RunSmcMethod:
		return c.runMethod(v)
	case tonapi.SendMessage:
		if s.loses() {
			return tonapi.SendMessageStatus{Status: 1}, nil
		}
		if err := c.Send(v.Body); err != nil {
			return nil, tonapi.LSError{Code: 0, Text: "cannot apply external message to current state : " + err.Error()}
		}
		return tonapi.SendMessageStatus{Status: 1}, nil
	case tonapi.GetTransactions:
		return c.transactions(v)
	case tonapi.GetOneTransaction:
		return c.transaction(v)
	case tonapi.ListBlockTransactions:
		return c.listBlock(v)
	case tonapi.ListBlockTransactionsExt:
		return c.listBlockExt(v)
	case tonapi.GetLibraries:
		return tonapi.LibraryResult{Result: []*tonapi.LibraryEntry{}}, nil
	}
	return nil, tonapi.LSError{Code: 621, Text: fmt.Sprintf("the devnet does not know the query %T", q)}
}

func header(b *block) (tl.Serializable, error) {
	p, err := proveHeader(b)
	if err != nil {
		return nil, err
	}
	return tonapi.BlockHeader{ID: b.id, HeaderProof: p.ToBOC()}, nil
}

// lookup finds a block by its number, or the first that ends at or after a logical time, or that was made at or after a time.
func (c *Chain) lookup(mode uint32, id *tonapi.BlockInfoShort, lt uint64, utime uint32) (*block, error) {
	c.mu.Lock()
	list := c.blocks[id.Workchain]
	c.mu.Unlock()
	if id.Shard != fullShard {
		return nil, errNoBlock
	}
	var found func(*block) bool
	switch mode & 7 {
	case 1:
		found = func(b *block) bool { return b.id.SeqNo == uint32(id.Seqno) }
	case 2:
		found = func(b *block) bool { return b.endLT >= lt }
	case 4:
		found = func(b *block) bool { return b.utime >= utime }
	default:
		return nil, tonapi.LSError{Code: -400, Text: "exactly one of seqno, lt and time"}
	}
	i := slices.IndexFunc(list, func(b *block) bool { return b.root != nil && found(b) })
	if i < 0 {
		return nil, errNoBlock
	}
	return list[i], nil
}

// registrar is the masterchain block that registers b, or b itself. The two are made together and have the same number.
func (c *Chain) registrar(b *block) *block { return c.masterAt(b.id.SeqNo) }

// shardLinks lead from a masterchain block to the basechain's block that it registers.
func shardLinks(m *block) ([]tonapi.ShardBlockLink, error) {
	p, err := proveRegistered(m)
	if err != nil {
		return nil, err
	}
	return []tonapi.ShardBlockLink{{ID: m.shard.id, Proof: p.ToBOC()}}, nil
}

// shardBlockProof links a block to the masterchain block that registers it. One of the masterchain needs no link.
func (c *Chain) shardBlockProof(id *tonapi.BlockIDExt) (tl.Serializable, error) {
	b, err := c.sealedBlock(id)
	if err != nil {
		return nil, err
	}
	m := c.registrar(b)
	r := tonapi.ShardBlockProof{MasterchainID: m.id, Links: []tonapi.ShardBlockLink{}}
	if m != b {
		r.Links, err = shardLinks(m)
	}
	return r, err
}

// lookupWithProof proves, from a masterchain block that the client knows, that the block is on the chain, and by the header of the
// one before that none earlier is what was asked for.
func (c *Chain) lookupWithProof(v tonapi.LookupBlockWithProof) (tl.Serializable, error) {
	known, err := c.masterBlock(v.MCBlockID)
	if err != nil {
		return nil, err
	}
	b, err := c.lookup(v.Mode, v.ID, v.LT, v.UTime)
	if err != nil {
		return nil, err
	}
	m := c.registrar(b)
	if m.id.SeqNo > known.id.SeqNo {
		return nil, tonapi.LSError{Code: -400, Text: "the masterchain block is older than the block looked up"}
	}
	r := tonapi.LookupBlockResult{ID: b.id, Mode: v.Mode, MCBlockID: m.id, ShardLinks: []tonapi.ShardBlockLink{}}
	if m != known {
		head, err := proveHeader(known)
		if err != nil {
			return nil, err
		}
		old, err := proveOld(known, m.id.SeqNo)
		if err != nil {
			return nil, err
		}
		r.ClientMCStateProof, r.MCBlockProof = head.ToBOC(), old.ToBOC()
	}
	if m != b {
		if r.ShardLinks, err = shardLinks(m); err != nil {
			return nil, err
		}
	}
	head, err := proveHeader(b)
	if err != nil {
		return nil, err
	}
	r.Header = head.ToBOC()
	if v.Mode&6 != 0 {
		c.mu.Lock()
		prev := c.blocks[b.id.Workchain][b.id.SeqNo-1]
		c.mu.Unlock()
		if prev.root == nil {
			return nil, errZeroData
		}
		head, err := proveHeader(prev)
		if err != nil {
			return nil, err
		}
		r.PrevHeader = head.ToBOC()
	}
	return r, nil
}

// queueSizes counts the messages that wait after the newest blocks.
func (c *Chain) queueSizes(v tonapi.GetOutMsgQueueSizes) (tl.Serializable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := tonapi.OutMsgQueueSizes{Shards: []tonapi.OutMsgQueueSize{}, ExtMsgQueueSizeLimit: poolLimit}
	for _, wc := range []int32{masterchain, basechain} {
		if v.Mode&1 != 0 && v.WC != wc {
			continue
		}
		list := c.blocks[wc]
		r.Shards = append(r.Shards, tonapi.OutMsgQueueSize{ID: list[len(list)-1].id, Size: int32(len(c.lanes[wc].queued))})
	}
	return r, nil
}

// masterProof is the pair of proofs from a masterchain block to its shards.
func masterProof(m *block) ([]*cell.Cell, error) {
	h, err := proveHeader(m)
	if err != nil {
		return nil, err
	}
	s, err := proveShards(m)
	return []*cell.Cell{h, s}, err
}

func (c *Chain) allShards(id *tonapi.BlockIDExt) (tl.Serializable, error) {
	b, err := c.masterBlock(id)
	if err != nil {
		return nil, err
	}
	proof, err := masterProof(b)
	if err != nil {
		return nil, err
	}
	ex, err := openMasterState(b.state)
	if err != nil {
		return nil, err
	}
	data, err := newWriter().dict(ex.ShardHashes).cell()
	return tonapi.AllShardsInfo{ID: b.id, Proof: proof, Data: data}, err
}

func (c *Chain) shardInfo(v tonapi.GetShardInfo) (tl.Serializable, error) {
	b, err := c.masterBlock(v.ID)
	if err != nil {
		return nil, err
	}
	if v.Workchain != basechain || (v.Exact && v.Shard != fullShard) {
		return nil, tonapi.LSError{Code: -400, Text: "no such shard"}
	}
	proof, err := masterProof(b)
	if err != nil {
		return nil, err
	}
	ex, err := openMasterState(b.state)
	if err != nil {
		return nil, err
	}
	kv, err := ex.ShardHashes.LoadAll()
	if err != nil || len(kv) != 1 {
		return nil, errors.Join(err, errors.New("one shard expected"))
	}
	leaf, err := kv[0].Value.LoadRef()
	if err != nil {
		return nil, err
	}
	if _, err = leaf.LoadBoolBit(); err != nil { // bt_leaf$0
		return nil, err
	}
	descr, err := leaf.ToCell()
	return tonapi.ShardInfo{ID: b.id, ShardBlock: b.shard.id, ShardProof: proof, ShardDescription: descr}, err
}

func (c *Chain) configInfo(id *tonapi.BlockIDExt, mode int32, ids []int32) (tl.Serializable, error) {
	b, err := c.masterBlock(id)
	if err != nil {
		return nil, err
	}
	h, err := proveHeader(b)
	if err != nil {
		return nil, err
	}
	p, err := proveConfig(b, ids)
	if err != nil {
		return nil, err
	}
	return tonapi.ConfigAll{Mode: int(mode), ID: b.id, StateProof: h.ToBOC(), ConfigProof: p.ToBOC()}, nil
}

// maxSteps of a proof come in one answer.
const maxSteps = 16

// blockProof links two masterchain blocks: back through the history, to the key
// block where the other is newer, and forward by the validator's signatures
// from key block to key block.
func (c *Chain) blockProof(v tonapi.GetBlockProof) (tl.Serializable, error) {
	from, err := c.masterBlock(v.KnownBlock)
	if err != nil {
		return nil, err
	}
	to := c.head()
	if v.TargetBlock != nil {
		if to, err = c.masterBlock(v.TargetBlock); err != nil {
			return nil, err
		}
	}
	res := tonapi.PartialBlockProof{From: from.id, Steps: []any{}}
	for forward := from.id.SeqNo < to.id.SeqNo; from != to && len(res.Steps) < maxSteps; {
		next, link := to, any(nil)
		switch {
		case !forward:
			link, err = linkBack(from, next)
		case !from.key:
			next = c.masterAt(c.lastKey(from.id.SeqNo))
			link, err = linkBack(from, next)
		default:
			if c.keyEvery > 0 && to.id.SeqNo-from.id.SeqNo > c.keyEvery {
				next = c.masterAt(from.id.SeqNo + c.keyEvery)
			}
			link, err = c.linkForward(from, next)
		}
		if err != nil {
			return nil, err
		}
		res.Steps, from = append(res.Steps, link), next
	}
	res.Complete, res.To = from == to, from.id
	return res, nil
}

func (c *Chain) masterAt(seqno uint32) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[masterchain][seqno]
}

func linkBack(from, to *block) (any, error) {
	dest, err := proveHeader(to)
	if err != nil {
		return nil, err
	}
	head, err := proveHeader(from)
	if err != nil {
		return nil, err
	}
	state, err := proveOld(from, to.id.SeqNo)
	if err != nil {
		return nil, err
	}
	return tonapi.BlockLinkBackward{ToKeyBlock: to.key, From: from.id, To: to.id, DestProof: dest.ToBOC(), Proof: head.ToBOC(), StateProof: state.ToBOC()}, nil
}

func (c *Chain) linkForward(key, to *block) (any, error) {
	dest, err := proveHeader(to)
	if err != nil {
		return nil, err
	}
	config, err := proveConfigBlock(key)
	if err != nil {
		return nil, err
	}
	return tonapi.BlockLinkForward{ToKeyBlock: to.key, From: key.id, To: to.id, DestProof: dest.ToBOC(), ConfigProof: config.ToBOC(),
		SignatureSet: tonapi.SignatureSet{ValidatorSetHash: int32(c.val.setHash),
			Signatures: []tonapi.Signature{{NodeIDShort: c.val.id, Signature: to.signature}}}}, nil
}

// where an account's state is, seen from block b, with the proofs to it.
func (c *Chain) accountProof(b *block, a tonapi.AccountID) (at *block, shardProof, proof []*cell.Cell, err error) {
	if len(a.ID) != 32 {
		return nil, nil, nil, tonapi.LSError{Code: -400, Text: "an account id has 32 bytes"}
	}
	at = b
	switch {
	case a.Workchain == b.id.Workchain:
	case b.id.Workchain == masterchain && a.Workchain == basechain:
		at = b.shard
		if at.root == nil {
			return nil, nil, nil, errZeroData
		}
		if shardProof, err = masterProof(b); err != nil {
			return nil, nil, nil, err
		}
	default:
		return nil, nil, nil, tonapi.LSError{Code: -400, Text: "the account is not in this block's workchain"}
	}
	h, err := proveHeader(at)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := proveAccount(at, a.ID)
	return at, shardProof, []*cell.Cell{h, p}, err
}

func (c *Chain) accountState(id *tonapi.BlockIDExt, a tonapi.AccountID) (tl.Serializable, error) {
	b, err := c.sealedBlock(id)
	if err != nil {
		return nil, err
	}
	at, shardProof, proof, err := c.accountProof(b, a)
	if err != nil {
		return nil, err
	}
	r := tonapi.AccountState{ID: b.id, Shard: at.id, ShardProof: shardProof, Proof: proof}
	sa, err := loadAccount(at.state, a.ID)
	if err != nil {
		return nil, err
	}
	if sa != nil {
		r.State = sa.Account
	}
	return r, nil
}

func (c *Chain) runMethod(v *tonapi.RunSmcMethod) (tl.Serializable, error) {
	b, err := c.sealedBlock(v.ID)
	if err != nil {
		return nil, err
	}
	at, shardProof, proof, err := c.accountProof(b, v.Account)
	if err != nil {
		return nil, err
	}
	sa, err := loadAccount(at.state, v.Account.ID)
	if err != nil {
		return nil, err
	}
	if sa == nil {
		return nil, errNoInit
	}
	var st tlb.AccountState
	if err = tlb.Parse(&st, sa.Account); err != nil {
		return nil, err
	}
	if st.Status != tlb.AccountStatusActive {
		return nil, errNoInit
	}
	args, err := parseStack(v.Params)
	if err != nil {
		return nil, tonapi.LSError{Code: -400, Text: "arguments: " + err.Error()}
	}
	call := ton.MethodCall{Address: address.NewAddress(0, byte(v.Account.Workchain), v.Account.ID), Code: st.StateInit.Code, Data: st.StateInit.Data,
		Balance: st.Balance.Nano(), Time: at.utime, LT: at.endLT, Method: v.MethodID, Args: args, Config: c.config}
	result, exit, err := call.Run(c.machine)
	if err != nil {
		return nil, err
	}
	r := tonapi.RunMethodResult{Mode: v.Mode, ID: b.id, ShardBlock: at.id, ExitCode: exit}
	if v.Mode&1 != 0 {
		r.ShardProof, r.Proof = shardProof, proof
	}
	if v.Mode&2 != 0 {
		if r.StateProof, err = cell.CreateMerkleProof(sa.Account); err != nil {
			return nil, err
		}
	}
	if v.Mode&4 != 0 {
		stack := tlb.NewStack()
		for _, x := range slices.Backward(result) {
			stack.Push(x)
		}
		if r.Result, err = stack.ToCell(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// parseStack reads a serialised stack, first argument first.
func parseStack(boc []byte) ([]any, error) {
	root, err := cell.FromBOC(boc)
	if err != nil {
		return nil, err
	}
	var in tlb.Stack
	if err = tlb.Parse(&in, root); err != nil {
		return nil, err
	}
	var args []any
	for in.Depth() > 0 {
		a, err := in.Pop()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
	}
	return args, nil
}

// transactions lists an account's transactions from (lt, hash) back.
func (c *Chain) transactions(v tonapi.GetTransactions) (tl.Serializable, error) {
	if len(v.AccID.ID) != 32 {
		return nil, tonapi.LSError{Code: -400, Text: "an account id has 32 bytes"}
	}
	c.mu.Lock()
	list := c.txs[accountID{v.AccID.Workchain, [32]byte(v.AccID.ID)}]
	c.mu.Unlock()
	i, ok := slices.BinarySearchFunc(list, uint64(v.LT), func(t *txRecord, lt uint64) int {
		return cmpUint(t.lt, lt)
	})
	if !ok || !bytes.Equal(list[i].cell.Hash(), v.TxHash) {
		return nil, errNotInDB
	}
	var ids []*tonapi.BlockIDExt
	var cells []*cell.Cell
	for ; i >= 0 && len(cells) < int(min(max(v.Limit, 0), pageLimit)); i-- {
		ids, cells = append(ids, list[i].block.id), append(cells, list[i].cell)
		if i > 0 && list[i].prevLT != list[i-1].lt { // the account was deleted in between
			break
		}
	}
	return tonapi.TransactionList{IDs: ids, Transactions: cell.ToBOCWithOptions(cells, cell.BOCSerializeOptions{})}, nil
}

func cmpUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (c *Chain) transaction(v tonapi.GetOneTransaction) (tl.Serializable, error) {
	b, err := c.sealedBlock(v.ID)
	if err != nil {
		return nil, err
	}
	for _, t := range b.txs {
		if t.lt != uint64(v.LT) || !bytes.Equal(t.account[:], v.AccID.ID) || v.AccID.Workchain != b.id.Workchain {
			continue
		}
		p, err := proveTransactions(b, []*txRecord{t})
		if err != nil {
			return nil, err
		}
		return tonapi.TransactionInfo{ID: b.id, Proof: p.ToBOC(), Transaction: t.cell.ToBOC()}, nil
	}
	return tonapi.TransactionInfo{ID: b.id}, nil
}

// page selects what a block listing asks for.
func page(b *block, count uint32, after *tonapi.TransactionID3, reverse bool) (txs []*txRecord, incomplete bool) {
	list := slices.Clone(b.txs)
	if reverse {
		slices.Reverse(list)
	}
	for i, t := range list {
		if after != nil {
			mark := &txRecord{lt: after.LT}
			copy(mark.account[:], after.Account)
			d := byAccount(t, mark)
			if t.account == mark.account && t.lt == mark.lt {
				d = 0
			}
			if reverse {
				d = -d
			}
			if d <= 0 {
				continue
			}
		}
		if uint32(len(txs)) == min(count, math.MaxUint16) {
			return txs, i < len(list)
		}
		txs = append(txs, t)
	}
	return txs, false
}

func (c *Chain) listBlock(v tonapi.ListBlockTransactions) (tl.Serializable, error) {
	b, err := c.sealedBlock(v.ID)
	if err != nil {
		return nil, err
	}
	r := tonapi.BlockTransactions{ID: b.id, ReqCount: int32(v.Count), TransactionIds: []tonapi.TransactionID{}}
	txs, incomplete := page(b, v.Count, v.After, v.Mode&(1<<6) != 0)
	r.Incomplete = incomplete
	for _, t := range txs {
		r.TransactionIds = append(r.TransactionIds, tonapi.TransactionID{Flags: 7, Account: t.account[:], LT: t.lt, Hash: t.cell.Hash()})
	}
	if v.Mode&(1<<5) != 0 {
		r.Proof, err = proveTransactions(b, txs)
	}
	return r, err
}

func (c *Chain) listBlockExt(v tonapi.ListBlockTransactionsExt) (tl.Serializable, error) {
	b, err := c.sealedBlock(v.ID)
	if err != nil {
		return nil, err
	}
	txs, incomplete := page(b, v.Count, v.After, v.Mode&(1<<6) != 0)
	r := tonapi.BlockTransactionsExt{ID: b.id, ReqCount: int32(v.Count), Incomplete: incomplete}
	for _, t := range txs {
		r.Transactions = append(r.Transactions, t.cell)
	}
	if v.Mode&(1<<5) != 0 {
		p, err := proveTransactions(b, txs)
		if err != nil {
			return nil, err
		}
		r.Proof = p.ToBOC()
	}
	return r, nil
}
