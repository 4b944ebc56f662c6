package ton

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/vm"
)

// Chain is what Bombyx needs of a TON network. [Client] is the real one.
type Chain interface {
	// GlobalID is the network's id: -239 mainnet, -3 testnet.
	GlobalID() int32
	// MasterchainHead is the newest proven masterchain block.
	MasterchainHead(ctx context.Context) (Head, error)
	// Account is an account's proven state; an account that does not exist is
	// no error, its status is tlb.AccountStatusNonExist.
	Account(ctx context.Context, a *address.Address) (*Account, error)
	// RunGetMethod runs a get method over proven state.
	RunGetMethod(ctx context.Context, a *address.Address, method string, args ...any) ([]any, error)
	// Transactions lists an account's proven transactions with a logical time
	// above afterLT, oldest first.
	Transactions(ctx context.Context, a *address.Address, afterLT uint64) ([]*tlb.Transaction, error)
	// WaitTransaction waits for a transaction above afterLT that match accepts.
	WaitTransaction(ctx context.Context, a *address.Address, afterLT uint64, match func(*tlb.Transaction) bool) (*tlb.Transaction, error)
	// SendExternal sends an external message, a bag of cells, again and again
	// until its transaction is proven or the chain has passed expires. One that
	// took effect before is found, not repeated.
	SendExternal(ctx context.Context, boc []byte, expires time.Time) (*tlb.Transaction, error)
	// SendUnless is SendExternal for a message that was made above afterLT, and
	// which its receiver accepts in no state that overtaken says so of: then it
	// ends at once, with ErrOvertaken if the message took no effect.
	SendUnless(ctx context.Context, boc []byte, expires time.Time, afterLT uint64, overtaken func(*Account) bool) (*tlb.Transaction, error)
}

// Head is a proven masterchain block.
type Head struct {
	Seqno    uint32
	RootHash [32]byte
	FileHash [32]byte
	Time     time.Time // when it was made, by the chain's clock
}

// Account is an account's state at a proven block.
type Account struct {
	Address    *address.Address
	Status     tlb.AccountStatus
	Balance    Nano
	Code, Data *cell.Cell // of an active account
	LastLT     uint64     // of its newest transaction; 0 when it has none
	LastHash   []byte
	Head       Head   // the block it was proven from
	time       uint32 // of the account's own block
	lt         uint64
	globalID   int32
	state      *cell.Cell // nil when it does not exist
	answer     *tonapi.AccountState
}

// GlobalID is the id of the network that the account was proven on.
func (a *Account) GlobalID() int32 { return a.globalID }

// Active says whether the account has code that can run.
func (a *Account) Active() bool { return a.Status == tlb.AccountStatusActive }

var (
	// ErrUnreachable means that no liteserver gave an answer that could be proven.
	ErrUnreachable = errors.New("no liteserver gave a provable answer")
	// ErrRefused means that the contract did not accept an external message.
	ErrRefused = errors.New("the contract refused the message")
	// ErrExpired means that a message can no longer take effect, and did not.
	ErrExpired = errors.New("the message expired before it was seen")
	// ErrOvertaken means that the message took no effect and never will: the receiver is past it.
	ErrOvertaken = errors.New("another message was accepted instead, and this one cannot be any more")
	// ErrUnconfirmed means that waiting ended before a message's fate was known.
	ErrUnconfirmed = errors.New("the message is not confirmed yet")
	// ErrUpgraded means that the network has a newer virtual machine than this
	// program: what contracts do there cannot be computed here.
	ErrUpgraded = errors.New("the network has been upgraded")
	// ErrNoCode means that an account has no get methods because it is not active.
	ErrNoCode = errors.New("the account is not an active contract")
)

// MethodError is a get method that ended with an exit code.
type MethodError struct {
	Method string
	Code   int32
}

func (e *MethodError) Error() string {
	return fmt.Sprintf("get method %s ended with exit code %d", e.Method, e.Code)
}

// Options tune a client; the zero value is right for most.
type Options struct {
	// Timeout is for one query to one liteserver; 0 means 5 s.
	Timeout time.Duration
	// Resend is how long a message may stay unseen before it is sent again; 0 means 5 s.
	Resend time.Duration
	// MaxLag is how old, by Now, the newest block may be; 0 means 2 minutes.
	// More lets a liteserver hide the present for longer.
	MaxLag time.Duration
	// Now is the local clock; nil means time.Now.
	Now func() time.Time
	// Memory is a file for the newest key block that was proven, so that the
	// next Dial does not begin at the trusted block again: on mainnet that
	// takes minutes. Who can write it and answers for the liteservers decides
	// what the chain is. Empty keeps nothing.
	Memory string
	// Progress hears every few seconds how far the chain is proven while that
	// takes long: up to which block, of how many. It may be nil.
	Progress func(seqno, newest uint32)
	// Warn hears why Memory could not be used or written; nothing fails for
	// that. It may be nil.
	Warn func(error)
}

const (
	// historyLimit bounds the transactions that one call reads.
	historyLimit = 1000
	// lookBack is how many transactions are searched for a message that may
	// have taken effect before it was sent again.
	lookBack = 64
	// settle is how far the head must be past a message's expiry: a basechain
	// block from before it may still be on its way into the masterchain.
	settle = 30 * time.Second
)

// Client is a connection to a TON network. It is safe for concurrent use.
type Client struct {
	opts     Options
	memory   *memory
	servers  []*server
	current  atomic.Int32 // index of the server that answered last
	globalID int32
	machine  func() *tvm.TVM // made when first used: its dispatch tables take 12 MB

	mu         sync.Mutex
	config     *tvm.PreparedBlockchainConfig
	configTime time.Time // chain time of config
}

var _ Chain = (*Client)(nil)

// Dial connects to the network that a global.config.json describes and follows
// it from the trusted block to its newest one. Mainnet and testnet, known by
// their zero state, are trusted from the key blocks that this program pins, and
// a configuration with an init block off their chain is refused; any other
// network from its configuration's init block.
func Dial(ctx context.Context, config []byte, opts Options) (*Client, error) {
	cfg, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&opts.Timeout, 5 * time.Second}, {&opts.Resend, 5 * time.Second}, {&opts.MaxLag, 2 * time.Minute}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < 0 {
			return nil, errors.New("ton: negative duration in options")
		}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	c := &Client{opts: opts, machine: sync.OnceValue(tvm.NewTVM)}
	c.memory = &memory{path: opts.Memory, cfg: cfg, opts: &c.opts}
	trusted, remembered := c.memory.recall()
	for _, ls := range cfg.Liteservers {
		c.servers = append(c.servers, newServer(ls, trusted, opts.Timeout))
	}
	err = c.connect(ctx, cfg)
	if err != nil && remembered && ctx.Err() == nil && slices.ContainsFunc(c.servers, (*server).heard) {
		c.memory.warn("no way from key block %d, which %s remembers: beginning at the trusted block %d: %w", trusted.SeqNo, opts.Memory, cfg.Init.SeqNo, err)
		c.memory.forget()
		for _, s := range c.servers {
			s.api.SetTrustedBlock(&cfg.Init)
		}
		err = c.connect(ctx, cfg)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// stagger is how long one liteserver may think before the next is asked too.
const stagger = 300 * time.Millisecond

// connect finds a liteserver that proves the network's newest block. Public
// configurations list dead ones, so the next is tried before one has timed out.
func (c *Client) connect(ctx context.Context, cfg *Config) error {
	type answer struct {
		server int
		head   Head
		id     int32
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(c.servers))
	ask := func(n int) {
		a := answer{server: n}
		a.err = c.servers[n].guarded(ctx, func(ctx context.Context, s *server) error {
			conf, h, err := s.config(ctx, c)
			if err != nil {
				return err
			}
			id, err := tlb.BlockchainConfig{Root: conf}.GetGlobalID()
			if err != nil {
				return fmt.Errorf("the network does not state its global id: %w", err)
			}
			if err = cfg.network.checkID(id.GlobalID); err != nil {
				return err
			}
			if cfg.claimed != nil {
				if err = s.proveInit(ctx, h.id(), cfg.claimed); err != nil {
					return err
				}
			}
			a.head, a.id = h, id.GlobalID
			return nil
		})
		answers <- a
	}
	var failures []string
	next := time.NewTimer(0)
	defer next.Stop()
	for started := 0; len(failures) < len(c.servers); {
		select {
		case <-ctx.Done():
			return fmt.Errorf("ton: connect: %w", ctx.Err())
		case <-next.C:
			go ask(started)
			if started++; started < len(c.servers) {
				wait := stagger
				if c.memory.moving(c.opts.Timeout) { // a long way, which not all need to go
					wait = c.opts.Timeout
				}
				next.Reset(wait)
			}
		case a := <-answers:
			if a.err != nil {
				failures = append(failures, fmt.Sprintf("%s: %v", c.servers[a.server].addr, a.err))
				if started < len(c.servers) {
					next.Reset(0)
				}
				continue
			}
			c.current.Store(int32(a.server))
			c.globalID = a.id
			proven := a.head.id()
			for n, s := range c.servers { // the others need not prove the long way from the init block again
				if n != a.server {
					s.api.SetTrustedBlock(proven)
				}
			}
			return nil
		}
	}
	return c.unreachable("connect", failures)
}

func (h *Head) id() *tonapi.BlockIDExt {
	return &tonapi.BlockIDExt{Workchain: masterchain, Shard: fullShard, SeqNo: h.Seqno, RootHash: h.RootHash[:], FileHash: h.FileHash[:]}
}

func (c *Client) unreachable(what string, failures []string) error {
	return fmt.Errorf("ton: %s: %w (tried %d: %s); check the network connection, or get a newer global.config.json or a newer release of this program",
		what, ErrUnreachable, len(c.servers), strings.Join(failures[:min(3, len(failures))], "; "))
}

// Close drops all connections.
func (c *Client) Close() {
	for _, s := range c.servers {
		s.pool.Stop()
	}
}

// GlobalID implements Chain.
func (c *Client) GlobalID() int32 { return c.globalID }

// permanent marks an answer of the chain itself, which no other liteserver will change.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// each asks one liteserver after the other until one succeeds.
func (c *Client) each(ctx context.Context, what string, ask func(context.Context, *server) error) error {
	first := int(c.current.Load())
	var failures []string
	for i := range c.servers {
		n := (first + i) % len(c.servers)
		s := c.servers[n]
		err := s.guarded(ctx, ask)
		if err == nil {
			c.current.Store(int32(n))
			return nil
		}
		var p permanent
		if errors.As(err, &p) {
			return p.error
		}
		if ctx.Err() != nil {
			return fmt.Errorf("ton: %s: %w", what, errors.Join(ctx.Err(), err))
		}
		failures = append(failures, fmt.Sprintf("%s: %v", s.addr, err))
	}
	return c.unreachable(what, failures)
}

// MasterchainHead implements Chain.
func (c *Client) MasterchainHead(ctx context.Context) (h Head, err error) {
	err = c.each(ctx, "newest block", func(ctx context.Context, s *server) error {
		_, h, err = s.head(ctx, c)
		return err
	})
	return h, err
}

// MasterchainBlock is the proven masterchain block with a sequence number not
// above the head's: what an epoch's nonce is checked against.
func (c *Client) MasterchainBlock(ctx context.Context, seqno uint32) (h Head, err error) {
	if seqno == 0 {
		return h, errors.New("ton: there is no masterchain block 0: that is the zero state")
	}
	var early error // a liteserver may lag behind whoever names the block
	defer func() {
		if err != nil && early != nil {
			err = early
		}
	}()
	err = c.each(ctx, "masterchain block", func(ctx context.Context, s *server) error {
		id, newest, err := s.head(ctx, c)
		if err != nil {
			return err
		}
		if seqno > newest.Seqno {
			early = fmt.Errorf("ton: there is no masterchain block %d yet: the newest is %d", seqno, newest.Seqno)
			return early
		}
		if seqno == newest.Seqno {
			h = newest
			return nil
		}
		old, err := s.api.LookupBlock(ctx, masterchain, fullShard, seqno)
		if err != nil {
			return err
		}
		if old.Workchain != masterchain || old.Shard != fullShard || old.SeqNo != seqno {
			return errors.New("another block than the one asked for")
		}
		if err = s.api.VerifyProofChain(ctx, id, old); err != nil {
			return err
		}
		h, err = s.header(ctx, old)
		return err
	})
	return h, err
}

// Account implements Chain.
func (c *Client) Account(ctx context.Context, a *address.Address) (acc *Account, err error) {
	if err = checkAddress(a); err != nil {
		return nil, err
	}
	err = c.each(ctx, "account", func(ctx context.Context, s *server) error {
		acc, err = s.account(ctx, c, a)
		return err
	})
	return acc, err
}

func checkAddress(a *address.Address) error {
	if a == nil || a.Type() != address.StdAddress || a.Anycast() != nil {
		return errors.New("ton: a standard address is needed")
	}
	return nil
}

// RunGetMethod implements Chain. Arguments and results are *big.Int,
// *cell.Cell, *cell.Slice, nil and []any; results come first value first.
func (c *Client) RunGetMethod(ctx context.Context, a *address.Address, method string, args ...any) (out []any, err error) {
	if err = checkAddress(a); err != nil {
		return nil, err
	}
	err = c.each(ctx, "get method "+method, func(ctx context.Context, s *server) error {
		acc, err := s.account(ctx, c, a)
		if err != nil {
			return err
		}
		if !acc.Active() {
			return permanent{fmt.Errorf("ton: %s: %w", a, ErrNoCode)}
		}
		cfg, err := c.prepared(ctx, s, acc.Head.Time)
		if err != nil {
			return err
		}
		call := MethodCall{Address: a, Code: acc.Code, Data: acc.Data, Balance: acc.Balance.Coins().Nano(), Time: acc.time, LT: acc.lt,
			Method: tlb.MethodNameHash(method), Args: args, Config: cfg}
		res, exit, err := call.Run(c.machine())
		if err != nil {
			return permanent{fmt.Errorf("ton: %s: %w", method, err)}
		}
		if exit != 0 && exit != 1 {
			return permanent{&MethodError{method, exit}}
		}
		out = res
		return nil
	})
	return out, err
}

// prepared is the network's configuration, read again each hour of chain time.
func (c *Client) prepared(ctx context.Context, s *server, now time.Time) (*tvm.PreparedBlockchainConfig, error) {
	c.mu.Lock()
	cfg, at := c.config, c.configTime
	c.mu.Unlock()
	if cfg != nil && now.Sub(at) < time.Hour {
		return cfg, nil
	}
	root, h, err := s.config(ctx, c)
	if err != nil {
		return nil, err
	}
	// The prepared configuration's own version is cut to what the library knows.
	version, err := tlb.BlockchainConfig{Root: root}.GetGlobalVersion()
	if err != nil {
		return nil, err
	}
	if version.Version > uint32(vm.MaxSupportedGlobalVersion) {
		return nil, permanent{fmt.Errorf("ton: %w: the network runs TVM version %d, this program knows %d: get a newer release", ErrUpgraded, version.Version, vm.MaxSupportedGlobalVersion)}
	}
	if cfg, err = tvm.PrepareBlockchainConfig(root); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.config, c.configTime = cfg, h.Time
	c.mu.Unlock()
	return cfg, nil
}

// Transactions implements Chain. More than 1000 are refused.
func (c *Client) Transactions(ctx context.Context, a *address.Address, afterLT uint64) (txs []*tlb.Transaction, err error) {
	if err = checkAddress(a); err != nil {
		return nil, err
	}
	err = c.each(ctx, "transactions", func(ctx context.Context, s *server) error {
		acc, err := s.account(ctx, c, a)
		if err != nil {
			return err
		}
		txs, err = s.history(ctx, acc, afterLT)
		return err
	})
	return txs, err
}

// WaitTransaction implements Chain. It waits until ctx ends.
func (c *Client) WaitTransaction(ctx context.Context, a *address.Address, afterLT uint64, match func(*tlb.Transaction) bool) (*tlb.Transaction, error) {
	if err := checkAddress(a); err != nil {
		return nil, err
	}
	var seen uint32
	for {
		tx, h, err := c.scan(ctx, a, &afterLT, match)
		if tx != nil {
			return tx, nil
		}
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("ton: wait for a transaction of %s: %w", a, errors.Join(ctx.Err(), err))
		case err == nil:
			seen = h.Seqno
		case !errors.Is(err, ErrUnreachable):
			return nil, err
		}
		c.awaitBlock(ctx, seen+1)
	}
}

// EachTransaction hands over an account's proven transactions, newest first,
// from the state that acc was read in, until do returns false or none is left.
func (c *Client) EachTransaction(ctx context.Context, acc *Account, do func(*tlb.Transaction) bool) error {
	lt, hash := acc.LastLT, acc.LastHash
	for lt != 0 {
		var page []*tlb.Transaction
		err := c.each(ctx, "transactions", func(ctx context.Context, s *server) (err error) {
			page, err = s.page(ctx, acc.Address, lt, hash)
			return err
		})
		if err != nil {
			return err
		}
		for _, tx := range page {
			if !do(tx) {
				return nil
			}
			lt, hash = tx.PrevTxLT, tx.PrevTxHash
		}
	}
	return nil
}

// scan looks for a matching transaction above *afterLT, and moves *afterLT on.
func (c *Client) scan(ctx context.Context, a *address.Address, afterLT *uint64, match func(*tlb.Transaction) bool) (found *tlb.Transaction, h Head, err error) {
	err = c.each(ctx, "transactions", func(ctx context.Context, s *server) error {
		acc, err := s.account(ctx, c, a)
		if err != nil {
			return err
		}
		h = acc.Head
		if acc.LastLT <= *afterLT {
			return nil
		}
		txs, err := s.history(ctx, acc, *afterLT)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(txs, match); i >= 0 {
			found = txs[i]
		}
		*afterLT = acc.LastLT
		return nil
	})
	return found, h, err
}

// search looks for a matching transaction among the newest ones.
func (c *Client) search(ctx context.Context, a *address.Address, match func(*tlb.Transaction) bool) (found *tlb.Transaction, err error) {
	err = c.each(ctx, "transactions", func(ctx context.Context, s *server) error {
		acc, err := s.account(ctx, c, a)
		if err != nil {
			return err
		}
		txs, _, err := s.newest(ctx, acc, 0, lookBack)
		if i := slices.IndexFunc(txs, match); i >= 0 {
			found = txs[i]
		}
		return err
	})
	return found, err
}

// past returns a matching transaction above afterLT, or ErrOvertaken if there is
// none and the account is in a state that overtaken says so of. Both are read of
// one proven state, and all transactions above afterLT are: with the state of one
// block and the transactions of an older one, a message that took effect between
// them would be reported as never sent, and sent once more by the user.
func (c *Client) past(ctx context.Context, a *address.Address, afterLT uint64, match func(*tlb.Transaction) bool, overtaken func(*Account) bool) (found *tlb.Transaction, err error) {
	over := false
	err = c.each(ctx, "transactions", func(ctx context.Context, s *server) error {
		acc, err := s.account(ctx, c, a)
		if err != nil || !overtaken(acc) {
			return err
		}
		txs, err := s.history(ctx, acc, afterLT)
		if err != nil {
			return err
		}
		over = true
		if i := slices.IndexFunc(txs, match); i >= 0 {
			found = txs[i]
		}
		return nil
	})
	if err == nil && over && found == nil {
		err = fmt.Errorf("ton: send to %s: %w", a, ErrOvertaken)
	}
	return found, err
}

// awaitBlock waits for a masterchain block, for Resend at most. It decides
// nothing: what follows is asked and proven anew.
func (c *Client) awaitBlock(ctx context.Context, seqno uint32) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Resend)
	defer cancel()
	s := c.servers[c.current.Load()]
	var resp tl.Serializable
	api := tonapi.NewAPIClient(s).WaitForBlock(seqno)
	if err := api.Client().QueryLiteserver(ctx, tonapi.GetTime{}, &resp); err == nil {
		if _, ok := resp.(tonapi.CurrentTime); ok {
			return
		}
	}
	<-ctx.Done() // never ask in a tight loop
}

// SendExternal implements Chain. The message must carry its own expiry, which
// expires repeats. ErrRefused says that no liteserver takes it and that it is
// not among the account's last 64 transactions; ErrExpired that it took no
// effect and never will; any other error leaves that open until expires.
func (c *Client) SendExternal(ctx context.Context, boc []byte, expires time.Time) (*tlb.Transaction, error) {
	return c.SendUnless(ctx, boc, expires, 0, nil)
}

// SendUnless implements Chain.
func (c *Client) SendUnless(ctx context.Context, boc []byte, expires time.Time, afterLT uint64, overtaken func(*Account) bool) (*tlb.Transaction, error) {
	root, err := cell.FromBOC(boc)
	if err != nil {
		return nil, fmt.Errorf("ton: send: not a bag of cells: %w", err)
	}
	var msg tlb.ExternalMessage
	if err = tlb.Parse(&msg, root); err != nil {
		return nil, fmt.Errorf("ton: send: not an external message: %w", err)
	}
	if err = checkAddress(msg.DstAddr); err != nil {
		return nil, err
	}
	hash := msg.NormalizedHash()
	ours := func(tx *tlb.Transaction) bool {
		return tx.IO.In != nil && tx.IO.In.MsgType == tlb.MsgTypeExternalIn && slices.Equal(tx.IO.In.AsExternalIn().NormalizedHash(), hash)
	}
	acc, err := c.Account(ctx, msg.DstAddr)
	if err != nil {
		return nil, err
	}
	past := func() (tx *tlb.Transaction, err error) {
		if overtaken != nil {
			tx, err = c.past(ctx, msg.DstAddr, afterLT, ours, overtaken)
		}
		return tx, err
	}
	lt, seen := acc.LastLT, acc.Head.Seqno
	for first := true; ; first = false {
		was := lt
		if err = c.post(ctx, boc); errors.Is(err, ErrRefused) {
			// refused perhaps because it took effect already
			if tx, searchErr := c.search(ctx, msg.DstAddr, ours); tx != nil {
				return tx, nil
			} else if first && searchErr == nil {
				if tx, pastErr := past(); tx != nil || errors.Is(pastErr, ErrOvertaken) {
					return tx, pastErr
				}
				return nil, err
			}
		}
		c.awaitBlock(ctx, seen+1)
		tx, h, err := c.scan(ctx, msg.DstAddr, &lt, ours)
		if tx == nil && err == nil && (first || lt != was) {
			if tx, err := past(); tx != nil || errors.Is(err, ErrOvertaken) {
				return tx, err
			}
		}
		switch {
		case tx != nil:
			return tx, nil
		case err == nil && h.Time.After(expires.Add(settle)):
			// or perhaps it took effect before this call, and liteservers acknowledge it without looking
			if tx, err = c.search(ctx, msg.DstAddr, ours); tx != nil {
				return tx, nil
			} else if err != nil {
				return nil, fmt.Errorf("ton: send to %s: %w: %w", msg.DstAddr, ErrUnconfirmed, err)
			}
			return nil, fmt.Errorf("ton: send to %s: %w: send a new one", msg.DstAddr, ErrExpired)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("ton: send to %s: %w; it may still take effect until %s: %w", msg.DstAddr, ErrUnconfirmed, expires.UTC().Format(time.RFC3339), errors.Join(ctx.Err(), err))
		case err == nil:
			seen = h.Seqno
		case !errors.Is(err, ErrUnreachable), c.opts.Now().After(expires.Add(settle + c.opts.MaxLag)): // nobody is left to ask
			return nil, fmt.Errorf("ton: send to %s: %w: %w", msg.DstAddr, ErrUnconfirmed, err)
		}
	}
}

// post hands a message to the first liteserver that takes it. ErrRefused needs
// every liteserver that answers to say so.
func (c *Client) post(ctx context.Context, boc []byte) error {
	var refused error
	err := c.each(ctx, "send", func(ctx context.Context, s *server) error {
		var resp tl.Serializable
		if err := s.QueryLiteserver(ctx, tonapi.SendMessage{Body: boc}, &resp); err != nil {
			return err
		}
		switch r := resp.(type) {
		case tonapi.SendMessageStatus:
			if r.Status == 1 {
				return nil
			}
			return fmt.Errorf("status %d", r.Status)
		case tonapi.LSError:
			if r.Code == 0 {
				refused = fmt.Errorf("ton: %w: %s", ErrRefused, clipLong(r.Text))
			}
			return r
		}
		return fmt.Errorf("unexpected answer %T", resp)
	})
	if err != nil && refused != nil && ctx.Err() == nil {
		return refused
	}
	return err
}

func clipLong(s string) string {
	if len(s) > 300 {
		return s[:300] + "..."
	}
	return s
}
