package ton

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// server is one liteserver. It dials when it is asked, and again after a loss.
type server struct {
	addr    string
	key     string
	timeout time.Duration
	pool    *liteclient.ConnectionPool
	api     *tonapi.APIClient

	answered atomic.Bool // anything, ever

	dialing sync.Mutex
	mu      sync.Mutex
	last    Head
}

func newServer(ls Liteserver, trusted tonapi.BlockIDExt, timeout time.Duration) *server {
	s := &server{addr: ls.Addr.String(), key: base64.StdEncoding.EncodeToString(ls.Key[:]), timeout: timeout, pool: liteclient.NewConnectionPool()}
	s.pool.SetOnDisconnect(func(string, string) {}) // the pool's own would retry for ever, even after Stop
	s.api = tonapi.NewAPIClient(s, tonapi.ProofCheckPolicySecure)
	s.api.SetTrustedBlock(&trusted)
	return s
}

func (s *server) heard() bool { return s.answered.Load() }

// guarded runs ask and turns a panic in the parsing of a hostile answer into an error.
func (s *server) guarded(ctx context.Context, ask func(context.Context, *server) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed answer: %v", r)
		}
	}()
	return ask(ctx, s)
}

// QueryLiteserver implements the library's LiteClient for this one server.
func (s *server) QueryLiteserver(ctx context.Context, q tl.Serializable, result tl.Serializable) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	trail, _ := ctx.Value(trailKey{}).(*trail)
	if trail != nil {
		trail.asks(q)
	}
	err := s.pool.QueryLiteserver(ctx, q, result)
	if errors.Is(err, liteclient.ErrNoActiveConnections) {
		if err = s.dial(ctx); err == nil {
			err = s.pool.QueryLiteserver(ctx, q, result)
		}
	}
	if err != nil {
		return err
	}
	s.answered.Store(true)
	answer, ok := result.(*tl.Serializable)
	if _, asked := q.(tonapi.GetBlockProof); !ok || !asked {
		return nil
	}
	if proof, ok := (*answer).(tonapi.PartialBlockProof); ok {
		if err := numbered(&proof); err != nil {
			return err
		}
	}
	if trail != nil {
		trail.hears(q, *answer)
	}
	return nil
}

// numbered refuses a proof that leads forward to a block under another number than its header's. Validators sign hashes, and the
// library compares no more: a true block under a number of the liteserver's making would be trusted from then on, and no other
// liteserver knows it. A link back finds its block by the number.
func numbered(p *tonapi.PartialBlockProof) error {
	for _, step := range p.Steps {
		link, ok := step.(tonapi.BlockLinkForward)
		if !ok {
			continue
		}
		dest, err := cell.FromBOC(link.DestProof)
		if err != nil {
			return err
		}
		if link.To == nil {
			return errors.New("a link to no block")
		}
		b, err := tonapi.CheckBlockProof(dest, link.To.RootHash)
		if err != nil {
			return err
		}
		if b.BlockInfo.SeqNo != link.To.SeqNo {
			return fmt.Errorf("block number %d under the number %d", b.BlockInfo.SeqNo, link.To.SeqNo)
		}
	}
	return nil
}

func (s *server) dial(ctx context.Context) error {
	s.dialing.Lock()
	defer s.dialing.Unlock()
	var probe tl.Serializable // another call may have dialed meanwhile
	if err := s.pool.QueryLiteserver(ctx, tonapi.GetTime{}, &probe); !errors.Is(err, liteclient.ErrNoActiveConnections) {
		return err
	}
	return s.pool.AddConnection(ctx, s.addr, s.key)
}

// One server is one node: there is nothing to stick to and no next one.

func (s *server) StickyContext(ctx context.Context) context.Context { return ctx }
func (s *server) StickyNodeID(context.Context) uint32               { return 1 }
func (s *server) StickyContextNextNode(ctx context.Context) (context.Context, error) {
	return ctx, liteclient.ErrNoNodesLeft
}
func (s *server) StickyContextNextNodeBalanced(ctx context.Context) (context.Context, error) {
	return ctx, liteclient.ErrNoNodesLeft
}

// head is the server's newest block, proven and recent.
func (s *server) head(ctx context.Context, c *Client) (*tonapi.BlockIDExt, Head, error) {
	following, trail := c.memory.follow(ctx)
	id, err := s.api.GetMasterchainInfo(following)
	if err != nil {
		return nil, Head{}, err
	}
	trail.accepted()
	h, err := s.header(ctx, id)
	if err != nil {
		return nil, Head{}, err
	}
	if lag := c.opts.Now().Sub(h.Time); lag > c.opts.MaxLag {
		return nil, Head{}, fmt.Errorf("its newest block is %s old by this machine's clock", lag.Round(time.Second))
	}
	return id, h, nil
}

// proveInit shows that a configuration's init block is on the chain of the proven head.
func (s *server) proveInit(ctx context.Context, head, init *tonapi.BlockIDExt) error {
	if init.SeqNo > head.SeqNo {
		return fmt.Errorf("the configuration's init block %d is newer than the newest block %d", init.SeqNo, head.SeqNo)
	}
	if err := s.api.VerifyProofChain(ctx, head, init); err != nil {
		return fmt.Errorf("the configuration's init block %d is not shown to be on the chain from the pinned block: %w", init.SeqNo, err)
	}
	return nil
}

// header completes a proven block id with the block's time.
func (s *server) header(ctx context.Context, id *tonapi.BlockIDExt) (Head, error) {
	s.mu.Lock()
	h := s.last
	s.mu.Unlock()
	if h.Seqno == id.SeqNo && h.RootHash == [32]byte(id.RootHash) {
		return h, nil
	}
	info, err := s.api.GetBlockHeader(ctx, id)
	if err != nil {
		return Head{}, err
	}
	h = Head{Seqno: id.SeqNo, RootHash: [32]byte(id.RootHash), FileHash: [32]byte(id.FileHash), Time: time.Unix(int64(info.GenUtime), 0)}
	s.mu.Lock()
	if h.Seqno > s.last.Seqno {
		s.last = h
	}
	s.mu.Unlock()
	return h, nil
}

// config is the network's proven configuration dictionary.
func (s *server) config(ctx context.Context, c *Client) (*cell.Cell, Head, error) {
	id, h, err := s.head(ctx, c)
	if err != nil {
		return nil, Head{}, err
	}
	conf, err := s.api.GetBlockchainConfig(ctx, id)
	if err != nil {
		return nil, Head{}, err
	}
	return conf.Root, h, nil
}

// account reads and proves an account's state. The library's own GetAccount
// takes a pruned proof for the proof of absence, so the proof is opened here.
func (s *server) account(ctx context.Context, c *Client, a *address.Address) (*Account, error) {
	id, h, err := s.head(ctx, c)
	if err != nil {
		return nil, err
	}
	var resp tl.Serializable
	if err = s.QueryLiteserver(ctx, tonapi.GetAccountState{ID: id, Account: tonapi.AccountID{Workchain: a.Workchain(), ID: a.Data()}}, &resp); err != nil {
		return nil, err
	}
	st, ok := resp.(tonapi.AccountState)
	if !ok {
		if ls, ok := resp.(tonapi.LSError); ok {
			return nil, ls
		}
		return nil, fmt.Errorf("unexpected answer %T", resp)
	}
	acc, err := openAccount(&st, id, a)
	if err != nil {
		return nil, err
	}
	acc.Head = h
	return acc, nil
}

// openAccount reads an account out of a liteserver's answer, which must prove it from the masterchain block id. All that is left
// to trust is that this block is the network's.
func openAccount(st *tonapi.AccountState, id *tonapi.BlockIDExt, a *address.Address) (*Account, error) {
	if st.ID == nil || !st.ID.Equals(id) {
		return nil, errors.New("answer for another block")
	}
	root := id.RootHash
	if a.Workchain() != masterchain {
		if st.Shard == nil {
			return nil, errors.New("no shard block")
		}
		if err := tonapi.CheckShardInMasterProofForAccount(id, st.ShardProof, st.Shard, a); err != nil {
			return nil, err
		}
		root = st.Shard.RootHash
	}
	state, err := tonapi.CheckBlockShardStateProof(st.Proof, root)
	if err != nil {
		return nil, err
	}
	if state.Accounts.ShardAccounts == nil {
		return nil, errors.New("the proof leaves the accounts out")
	}
	acc := &Account{Address: a, Status: tlb.AccountStatusNonExist, time: state.GenUTime, lt: state.GenLT, globalID: state.GlobalID, answer: st}
	value, _, err := state.Accounts.ShardAccounts.LoadValueExtra(cell.BeginCell().MustStoreSlice(a.Data(), 256).EndCell())
	if errors.Is(err, cell.ErrNoSuchKeyInDict) {
		if st.State != nil {
			return nil, errors.New("a state for an account that the proof does not have")
		}
		return acc, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the proof does not show the account: %w", err)
	}
	var shardAcc tlb.ShardAccount
	if err = tlb.LoadFromCell(&shardAcc, value); err != nil {
		return nil, fmt.Errorf("account in the proof: %w", err)
	}
	if st.State == nil || shardAcc.Account.HashKey(0) != st.State.HashKey() {
		return nil, errors.New("the state is not the one that the proof shows")
	}
	var parsed tlb.AccountState
	if err = tlb.Parse(&parsed, st.State); err != nil {
		return nil, fmt.Errorf("account state: %w", err)
	}
	acc.LastLT, acc.LastHash = shardAcc.LastTransLT, shardAcc.LastTransHash
	if !parsed.IsValid {
		return acc, nil
	}
	acc.Status, acc.state = parsed.Status, st.State
	if acc.Balance, err = NanoFromBig(parsed.Balance.Nano()); err != nil {
		return nil, permanent{err}
	}
	if acc.Active() {
		acc.Code, acc.Data = parsed.StateInit.Code, parsed.StateInit.Data
	}
	return acc, nil
}

// history reads the account's transactions above afterLT, oldest first.
func (s *server) history(ctx context.Context, acc *Account, afterLT uint64) ([]*tlb.Transaction, error) {
	txs, all, err := s.newest(ctx, acc, afterLT, historyLimit)
	if err == nil && !all {
		return nil, permanent{fmt.Errorf("ton: %s has more than %d new transactions: ask from a later one", acc.Address, historyLimit)}
	}
	slices.Reverse(txs)
	return txs, err
}

// newest reads up to limit transactions above afterLT, newest first, and
// whether that is all. Each is proven by the hash that the account, or the
// transaction after it, holds of it.
func (s *server) newest(ctx context.Context, acc *Account, afterLT uint64, limit int) (out []*tlb.Transaction, all bool, err error) {
	lt, hash := acc.LastLT, acc.LastHash
	for lt > afterLT {
		page, err := s.page(ctx, acc.Address, lt, hash)
		if err != nil {
			return nil, false, err
		}
		for _, tx := range page {
			switch {
			case tx.LT <= afterLT:
				return out, true, nil
			case len(out) >= limit:
				return out, false, nil
			}
			out = append(out, tx)
			lt, hash = tx.PrevTxLT, tx.PrevTxHash
		}
	}
	return out, true, nil
}

// page reads some transactions, newest first, from the one with this logical time and hash back.
func (s *server) page(ctx context.Context, a *address.Address, lt uint64, hash []byte) ([]*tlb.Transaction, error) {
	page, err := s.api.ListTransactions(ctx, a, 16, lt, hash)
	if err != nil {
		return nil, err
	}
	if len(page) == 0 {
		return nil, errors.New("an empty page of transactions")
	}
	slices.Reverse(page)
	for _, tx := range page {
		if tx.LT != lt {
			return nil, errors.New("a transaction with another logical time than announced")
		}
		lt = tx.PrevTxLT
	}
	return page, nil
}
