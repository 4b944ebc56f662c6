package profile

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// Options are how to dial. Only Passphrase is required.
type Options struct {
	// Passphrase returns the passphrase of the wallet in a file.
	Passphrase func(ctx context.Context, file string) (string, error)
	// Hosts says whom to use, in which order, once policy and collateral are read. Nil is those that "bombyx host add" recorded.
	Hosts func(context.Context) ([]Host, error)
	// Passed is told why a host was passed over: here one that cannot be paid, later as [client.Pool] says. It must not block.
	Passed func(host string, why error)
	// Timeout is [client.Config]'s.
	Timeout time.Duration
	// Trace is told what happens.
	Trace client.Trace
	// Chain connects to TON, once, where the policy accepts epoch evidence or names registries, or a host was taken from
	// one. Nil is the profile's network.
	Chain func(context.Context) (*ton.Client, error)
}

// A Line is attested, paid connections to hosts. It holds its channels: until it is closed no other process pays from those.
type Line struct {
	*client.Pool
	Ends []*End // one for each host of the pool, in its order

	store  *store.Store
	chain  func(context.Context) (*ton.Client, error)
	hangUp func()
}

// An End is a line's connection to one host.
type End struct {
	*client.Transport
	Host    Host
	Channel store.Channel // as it was when the line was dialled

	key     ed25519.PrivateKey
	release func()
}

// Left is what the channel can still pay, in nanogram.
func (e *End) Left() uint64 {
	c := e.Channel
	c.Progress = e.State()
	return c.Left()
}

// Dial prepares a line to every host that can be paid, each from the open channel to it that has the most left. It unlocks the
// wallet and connects to nothing: a host is asked at the first request, TON when that is needed.
func (d Dir) Dial(ctx context.Context, o Options) (_ *Line, err error) {
	l := &Line{Pool: &client.Pool{}, chain: o.Chain, hangUp: func() {}}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	pol, err := d.Policy()
	if err != nil {
		return nil, err
	}
	bundle, err := d.Collateral()
	if err != nil {
		return nil, err
	}
	if o.Hosts == nil {
		o.Hosts = func(context.Context) ([]Host, error) { return d.Hosts() }
	}
	hosts, err := o.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	if l.store, err = d.Store(ctx); err != nil {
		return nil, err
	}
	if err := l.reserve(ctx, hosts, o.Passed); err != nil {
		return nil, err
	}
	w, err := d.Wallet(ctx, o.Passphrase)
	if err != nil {
		return nil, err
	}
	defer w.Wipe()
	if l.chain == nil {
		lookups := NewLookups(d, ton.Options{})
		l.chain, l.hangUp = lookups.Chain, lookups.Close
	}
	for _, e := range l.Ends {
		cfg, err := d.Reach(e.Host.URL, e.Channel.HostKey)
		if err != nil {
			return nil, err
		}
		pay, err := Payment(w, l.store, e.Channel)
		if err != nil {
			return nil, err
		}
		e.key = pay.Key
		cfg.Policy, cfg.Collateral, cfg.Payment, cfg.MaxPrices, cfg.Window = pol, bundle, pay, e.Host.MaxPrices, e.Host.Window
		cfg.Timeout, cfg.Trace = o.Timeout, o.Trace
		if pol.Epoch != nil {
			cfg.Blocks = blocks{l.chain, pay.Network}
		}
		if len(pol.Registries) > 0 {
			cfg.Registries = l.registries
		}
		cfg.Listed = e.Host.Listed(l.chain)
		if e.Transport, err = client.New(cfg); err != nil {
			return nil, cli.Errorf(cli.Usage, "bombyx host add URL KEY", "%w", err)
		}
		l.Pool.Hosts = append(l.Pool.Hosts, e.Transport)
	}
	if o.Passed != nil {
		l.Pool.Passed = func(host string, why *client.Error) { o.Passed(host, why) }
	}
	return l, nil
}

func (l *Line) registries(ctx context.Context, publishers []policy.Publisher) ([]*policy.Snapshot, error) {
	c, err := l.chain(ctx)
	if err != nil {
		return nil, err
	}
	return client.RegistriesOn(c)(ctx, publishers)
}

// reserve takes for each host the channel to it that has the most left and that no other process uses. Hosts without one are
// passed over, unless that is all.
func (l *Line) reserve(ctx context.Context, hosts []Host, passed func(string, error)) error {
	all, err := l.store.Channels(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b store.Channel) int { return cmp.Compare(b.Left(), a.Left()) })
	var first error
	for _, h := range hosts {
		key, err := h.PublicKey()
		if err != nil {
			return err
		}
		e := &End{Host: h}
		why, err := e.reserve(l.store, all, key)
		switch {
		case err != nil:
			return err
		case why == nil:
			l.Ends = append(l.Ends, e)
			continue
		case first == nil:
			first = why
		}
		if passed != nil && len(hosts) > 1 {
			passed(h.URL, why)
		}
	}
	if len(l.Ends) == 0 {
		return first
	}
	return nil
}

// reserve takes the first of the channels that pays the host of this key, or says why there is none.
func (e *End) reserve(s *store.Store, all []store.Channel, host ed25519.PublicKey) (why, err error) {
	why = cli.Errorf(cli.Money, "bombyx channel open AMOUNT, or bombyx channel top-up AMOUNT", "no open channel to %s has money left", e.Host.URL)
	for _, c := range all {
		if !c.HostKey.Equal(host) || c.State == store.StateClosed || c.State == store.StateClosing || c.Left() == 0 {
			continue
		}
		release, err := s.Acquire(c.Address())
		if errors.Is(err, store.ErrBusy) {
			why = Busy(c, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		e.Channel, e.release = c, release
		return nil, nil
	}
	return why, nil
}

// Busy says what to do where another process holds a channel.
func Busy(c store.Channel, err error) error {
	if errors.Is(err, store.ErrBusy) {
		return cli.Errorf(cli.Usage, "stop the other bombyx, or use its proxy; a second channel serves a second program", "another process is paying from %s", c.Address())
	}
	return err
}

// Failed is closed when the record of what was paid can no longer be written: stop then, and Close says why.
func (l *Line) Failed() <-chan struct{} { return l.store.Failed() }

// Close writes what is still to be recorded, and lets go of the channel. Answers that run end first: close their bodies.
func (l *Line) Close() error {
	var err error
	if l.store != nil {
		err = l.store.Close()
	}
	l.hangUp()
	for _, e := range l.Ends {
		e.release()
		clear(e.key)
	}
	return err
}

// ChannelKey derives the key that signs a channel's vouchers from the wallet, so that no file holds it.
func ChannelKey(w *wallet.Wallet, salt uint64, payee channel.Address) (ed25519.PrivateKey, error) {
	seed, err := w.DeriveKey(append(binary.BigEndian.AppendUint64(nil, salt), payee[:]...), "bombyx/1 channel key")
	if err != nil {
		return nil, err
	}
	defer clear(seed[:])
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

// Payment is a channel as the client library pays from it. Clear its key.
func Payment(w *wallet.Wallet, s *store.Store, c store.Channel) (client.Payment, error) {
	key, err := ChannelKey(w, c.Params.Salt, c.Params.Payee)
	if err != nil {
		return client.Payment{}, err
	}
	if !ed25519.PublicKey(c.Params.ClientKey[:]).Equal(key.Public()) {
		clear(key)
		return client.Payment{}, cli.Errorf(cli.Usage, "use the wallet that opened it", "%s was opened from another wallet", c.Address())
	}
	return client.Payment{Network: c.Network, Channel: c.Params, Key: key, Deposit: c.Deposit, State: c.Progress, Save: s.Save(c.Address()), Flush: s.Flush}, nil
}

// Lookups is a profile's chain, connected to when first needed.
type Lookups struct {
	dir  Dir
	opts ton.Options

	mu    sync.Mutex
	chain *ton.Client
}

// NewLookups connects to nothing yet.
func NewLookups(d Dir, o ton.Options) *Lookups { return &Lookups{dir: d, opts: o} }

// Chain returns the connection.
func (l *Lookups) Chain(ctx context.Context) (*ton.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chain == nil {
		c, err := l.dir.Chain(ctx, l.opts)
		if err != nil {
			return nil, err
		}
		l.chain = c
	}
	return l.chain, nil
}

// Close closes it, if there is one.
func (l *Lookups) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chain != nil {
		l.chain.Close()
		l.chain = nil
	}
}

// blocks proves blocks of the channel's network.
type blocks struct {
	chain   func(context.Context) (*ton.Client, error)
	network int32
}

// MasterchainBlock implements client.Blocks.
func (b blocks) MasterchainBlock(ctx context.Context, seqno uint32) (ton.Head, error) {
	c, err := b.chain(ctx)
	if err != nil {
		return ton.Head{}, err
	}
	if c.GlobalID() != b.network {
		return ton.Head{}, fmt.Errorf("%s is of network %d, the channel of %d", NetworkFile, c.GlobalID(), b.network)
	}
	return c.MasterchainBlock(ctx, seqno)
}
