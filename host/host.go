// Package host is the provider's side: it offers enclaves on a signed card,
// admits requests against vouchers, relays ciphertext both ways, keeps the
// ledger and claims on TON.
//
// The host is trusted with nothing. It sees which enclave and channel a
// request names, sizes and times; the rest is sealed. What this package
// protects is the provider's own money: nothing is relayed back that a durable
// voucher and a funded channel do not cover.
package host

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A Chain is what the host needs of TON.
type Chain interface {
	// Channel reads a channel's account. ErrNoChannel when there is none or
	// its code is not the channel contract's.
	Channel(ctx context.Context, address channel.Address) (*OnChain, error)
	// Claim presents a voucher and returns when that is in a block. What it
	// paid shows in the channel's state. The fee is what is known of the cost,
	// in nanogram.
	Claim(ctx context.Context, v *channel.SignedVoucher) (fee uint64, err error)
	// CloseTogether closes a channel as its client agreed, and returns when
	// that is in a block. ErrNoWallet when this host cannot send what only
	// the payee can; ErrMayClose when it was sent and may still take effect,
	// for some minutes.
	CloseTogether(ctx context.Context, a *channel.SignedAgreement) error
}

// ErrNoChannel means that an address holds no channel.
var ErrNoChannel = errors.New("host: no channel at this address")

// ErrNoWallet means that the host does not hold the payee's wallet.
var ErrNoWallet = errors.New("host: no wallet of the payee")

// ErrMayClose means that a close was sent, and is not seen to have worked.
var ErrMayClose = errors.New("host: the channel may still close")

// OnChain is a channel as the chain has it.
type OnChain = channel.Account

// An Enclave is one that this host relays to.
type Enclave struct {
	ID        string // as on the card
	Transport http.RoundTripper
	// Authority names the enclave in requests over Transport.
	Authority string
}

// Config is what a host needs. Amounts are nanogram.
type Config struct {
	Identity     ed25519.PrivateKey // signs the card; its public key is what clients pin
	Network      int32              // TON global id
	Payee        channel.Address
	Prices       price.List
	Window       uint64        // suggested on the card
	MinDeposit   uint64        // a channel must have held this much to be served
	ClosingDelay time.Duration // a channel must give this long to claim
	CardLifetime time.Duration
	Collateral   func() []byte   // bundle handed to clients; nil, or one that returns nil, serves none
	Drain        func() []string // ids of enclaves that get no new requests, asked for each second; nil for none
	Claims       Claims
	Epochs       Epochs // optional
	Enclaves     []Enclave
	Ledger       *ledger.Ledger
	Chain        Chain
	Now          func() time.Time
	Log          *slog.Logger // nil for silence
}

// Claims says when the host turns vouchers into money.
type Claims struct {
	Every     time.Duration // between looks at all channels
	Threshold uint64        // claim when this much is unclaimed
	Age       time.Duration // or when the voucher is this old
	Margin    time.Duration // or when a channel's deadline is this near
}

// A Host serves clients. Create one with New.
type Host struct {
	cfg      Config
	key      [32]byte
	enclaves map[string]*upstream
	accounts accounts
	reads    *reads
	counts   *counts
	began    time.Time

	bodyWithin time.Duration // that a sealed request may take to arrive
	takeWithin time.Duration // that a client may take nothing of an answer
	holdWithin time.Duration // that it may wait for another process
	holdFor    time.Duration // that a channel is held when it is not used

	recording sync.WaitGroup // costs on their way to the ledger
	ending    sync.RWMutex   // none sets out while Close begins to wait for them
	quit      chan struct{}
	once      sync.Once
}

// New checks the configuration and takes the enclaves over from an earlier
// process on the same ledger, which stops if it still runs: see [Host.Run]. What
// that one left running is settled when its channel is used or looked at.
func New(ctx context.Context, cfg Config) (*Host, error) {
	switch {
	case len(cfg.Identity) != ed25519.PrivateKeySize:
		return nil, errors.New("host: identity key is missing")
	case cfg.Ledger == nil || cfg.Chain == nil || cfg.Now == nil:
		return nil, errors.New("host: ledger, chain or clock is missing")
	case len(cfg.Enclaves) == 0:
		return nil, errors.New("host: no enclaves")
	case cfg.ClosingDelay < channel.MinCloseDelay*time.Second || cfg.ClosingDelay > channel.MaxCloseDelay*time.Second:
		return nil, fmt.Errorf("host: closing delay %s, want %d to %d s", cfg.ClosingDelay, channel.MinCloseDelay, channel.MaxCloseDelay)
	case cfg.Claims.Every <= 0 || cfg.Claims.Age <= 0 || cfg.Claims.Margin <= 0 || cfg.Claims.Margin >= cfg.ClosingDelay:
		return nil, errors.New("host: claim interval, age and margin must be positive, and the margin below the closing delay")
	case cfg.Epochs.Lifetime < 0 || cfg.Epochs.Lifetime > 0 && cfg.Epochs.Newest == nil:
		return nil, errors.New("host: epochs need a positive lifetime and a chain")
	case cfg.Window == 0:
		return nil, errors.New("host: a window of zero: nobody could pay ahead of delivery")
	case cfg.CardLifetime < time.Minute:
		return nil, errors.New("host: card lifetime is under a minute")
	}
	if err := cfg.Prices.Check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	count := newCounts()
	cfg.Chain = countedChain{cfg.Chain, count, cfg.Now}
	h := &Host{cfg: cfg, counts: count, key: [32]byte(cfg.Identity.Public().(ed25519.PublicKey)), enclaves: map[string]*upstream{}, began: cfg.Now(), quit: make(chan struct{}), bodyWithin: 2 * time.Minute, takeWithin: takeWithin, holdWithin: holdWithin, holdFor: holdFor}
	h.reads = newReads(cfg.Chain, cfg.Now)
	h.accounts.most = maxAccounts
	h.accounts.open = map[string]*account{}
	h.accounts.tokens = map[[32]byte]token{}
	for _, e := range cfg.Enclaves {
		if !card.ValidID(e.ID) {
			return nil, fmt.Errorf("host: enclave id %.80q, want 1 to 64 of a-z, 0-9 and -", e.ID)
		}
		if _, ok := h.enclaves[e.ID]; ok || e.Transport == nil {
			return nil, fmt.Errorf("host: enclave %q is listed twice or has no transport", e.ID)
		}
		h.enclaves[e.ID] = &upstream{Enclave: e, process: cfg.Ledger.Process(), slots: make(chan struct{}, maxEvidence), epochs: make(chan struct{}, 1)}
	}
	if err := cfg.Ledger.Take(ctx, slices.Collect(maps.Keys(h.enclaves))...); err != nil {
		return nil, err
	}
	h.drain()
	return h, nil
}

// Key is the host's identity, which clients pin.
func (h *Host) Key() ed25519.PublicKey { return h.key[:] }

// Close waits for the costs that are on their way to the ledger, unless it or
// the enclave does not answer, and lets go of the channels of which everything is
// booked. Stop the server first.
func (h *Host) Close() {
	h.once.Do(func() {
		h.ending.Lock()
		close(h.quit)
		h.ending.Unlock()
	})
	h.recording.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), holdWithin)
	defer cancel()
	h.letGo(ctx, h.cfg.Now())
}

// aside runs what Close waits for, beside the caller until the host ends.
func (h *Host) aside(record func()) {
	h.ending.RLock()
	defer h.ending.RUnlock()
	select {
	case <-h.quit:
		record()
	default:
		h.recording.Go(record)
	}
}

// Card signs a card that says what the enclaves serve now. Enclaves that do
// not answer are left off it.
func (h *Host) Card(ctx context.Context) (string, error) {
	now := h.cfg.Now()
	hash := channel.CodeHash()
	c := &card.Card{
		Version: 1, Host: hex.EncodeToString(h.key[:]), Network: h.cfg.Network,
		Payee: h.cfg.Payee.Raw(), ChannelCode: hex.EncodeToString(hash[:]),
		ClosingDelay: uint32(h.cfg.ClosingDelay / time.Second), MinDeposit: h.cfg.MinDeposit, Window: h.cfg.Window,
		Prices: h.cfg.Prices, NotBefore: now.Add(-time.Minute).Unix(), NotAfter: now.Add(h.cfg.CardLifetime).Unix(),
	}
	entries, errs := make([]*card.Enclave, len(h.cfg.Enclaves)), make([]error, len(h.cfg.Enclaves))
	var all sync.WaitGroup
	for i, e := range h.cfg.Enclaves { // at once: those that hang delay the card as one does
		up := h.enclaves[e.ID]
		if up.drained.Load() {
			errs[i] = errors.New("it is drained")
			continue
		}
		all.Go(func() { entries[i], errs[i] = up.describe(ctx, &h.cfg, now) })
	}
	all.Wait()
	var down []error
	for i, e := range h.cfg.Enclaves {
		if errs[i] != nil {
			down = append(down, fmt.Errorf("enclave %s: %w", e.ID, errs[i]))
			continue
		}
		c.Enclaves = append(c.Enclaves, *entries[i])
	}
	if len(c.Enclaves) == 0 {
		return "", fmt.Errorf("host: no enclave answers: %w", errors.Join(down...))
	}
	return card.Sign(c, h.cfg.Identity)
}
