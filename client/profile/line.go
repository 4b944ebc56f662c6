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
	// Host says whom to use, once policy and collateral are read. Nil is the host that "bombyx host add" recorded.
	Host func(context.Context) (*Host, error)
	// Timeout is [client.Config]'s.
	Timeout time.Duration
	// Trace is told what happens.
	Trace client.Trace
	// Chain connects to TON, once, where the policy accepts epoch evidence or names registries, or the host was taken
	// from one. Nil is the profile's network.
	Chain func(context.Context) (*ton.Client, error)
}

// A Line is an attested, paid connection to a host. It holds its channel: until it is closed no other process pays from that.
type Line struct {
	*client.Transport
	Host    Host
	Channel store.Channel // as it was when the line was dialled

	store   *store.Store
	key     ed25519.PrivateKey
	chain   func(context.Context) (*ton.Client, error)
	release func()
	hangUp  func()
}

// Dial prepares a line, paid from the open channel to the host that has the most left. It unlocks the wallet and connects to
// nothing: the host is asked at the first request, TON when that is needed.
func (d Dir) Dial(ctx context.Context, o Options) (_ *Line, err error) {
	l := &Line{chain: o.Chain, release: func() {}, hangUp: func() {}}
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
	if o.Host == nil {
		o.Host = func(context.Context) (*Host, error) { return d.Host() }
	}
	host, err := o.Host(ctx)
	if err != nil {
		return nil, err
	}
	l.Host = *host
	key, err := l.Host.PublicKey()
	if err != nil {
		return nil, err
	}
	if l.store, err = d.Store(ctx); err != nil {
		return nil, err
	}
	if err := l.reserve(ctx, key); err != nil {
		return nil, err
	}
	w, err := d.Wallet(ctx, o.Passphrase)
	if err != nil {
		return nil, err
	}
	defer w.Wipe()
	pay, err := Payment(w, l.store, l.Channel)
	if err != nil {
		return nil, err
	}
	l.key = pay.Key
	cfg, err := d.Reach(l.Host.URL, key)
	if err != nil {
		return nil, err
	}
	if l.chain == nil {
		lookups := NewLookups(d, ton.Options{})
		l.chain, l.hangUp = lookups.Chain, lookups.Close
	}
	cfg.Policy, cfg.Collateral, cfg.Payment, cfg.MaxPrices, cfg.Window = pol, bundle, pay, l.Host.MaxPrices, l.Host.Window
	cfg.Timeout, cfg.Trace = o.Timeout, o.Trace
	if pol.Epoch != nil {
		cfg.Blocks = blocks{l.chain, pay.Network}
	}
	if len(pol.Registries) > 0 {
		cfg.Registries = func(ctx context.Context, publishers []policy.Publisher) ([]*policy.Snapshot, error) {
			c, err := l.chain(ctx)
			if err != nil {
				return nil, err
			}
			return client.RegistriesOn(c)(ctx, publishers)
		}
	}
	cfg.Listed = l.Host.Listed(l.chain)
	if l.Transport, err = client.New(cfg); err != nil {
		return nil, cli.Errorf(cli.Usage, "bombyx host add URL KEY", "%w", err)
	}
	return l, nil
}

// reserve takes the channel to this host that has the most left and that no other process uses.
func (l *Line) reserve(ctx context.Context, host ed25519.PublicKey) error {
	all, err := l.store.Channels(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c store.Channel) bool {
		return !c.HostKey.Equal(host) || c.State == store.StateClosed || c.State == store.StateClosing || c.Left() == 0
	})
	slices.SortStableFunc(all, func(a, b store.Channel) int { return cmp.Compare(b.Left(), a.Left()) })
	err = cli.Errorf(cli.Money, "bombyx channel open AMOUNT, or bombyx channel top-up AMOUNT", "no open channel to %s has money left", l.Host.URL)
	for _, c := range all {
		release, e := l.store.Acquire(c.Address())
		if errors.Is(e, store.ErrBusy) {
			err = Busy(c, e)
			continue
		}
		if e != nil {
			return e
		}
		l.Channel, l.release = c, release
		return nil
	}
	return err
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
	l.release()
	clear(l.key)
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
