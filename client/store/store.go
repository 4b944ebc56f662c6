// Package store keeps a client's channels and receipts in an SQLite file: what was promised, what was delivered for it, and
// every receipt, so that anyone can check later what was paid for.
//
// It holds no secret. A channel's private key is derived from the wallet whenever it is needed.
package store

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/sqlite"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors that callers act on.
var (
	ErrUnknown = errors.New("store: unknown channel")
	ErrExists  = errors.New("store: the channel is there already")
	ErrBusy    = errors.New("store: another process uses the channel")
	ErrClosed  = errors.New("store: closed")
)

// A State says how far a channel's life has come, as last seen.
type State string

// The life of a channel.
const (
	StateOpening State = "opening" // its deposit has been sent, perhaps
	StateOpen    State = "open"
	StateClosing State = "closing" // the client has asked for its money
	StateClosed  State = "closed"  // everything is paid out
)

// A Channel is what the client knows of one channel. Amounts are nanogram.
type Channel struct {
	Network int32 // TON global id
	Params  channel.Params
	Host    string            // URL of the host that it pays
	HostKey ed25519.PublicKey // identity of that host
	Deposit uint64            // what vouchers may promise at most
	State   State
	Created time.Time
	// Progress is what has been signed and settled. Save functions advance it; nothing else does.
	Progress client.PaymentState
}

// Address is the channel's account.
func (c *Channel) Address() channel.Address { return c.Params.Address() }

// Left is what can still be spent, in nanogram.
func (c *Channel) Left() uint64 {
	if c.State == StateClosed {
		return 0
	}
	return c.Deposit - min(c.Deposit, c.Progress.Settled)
}

// A Receipt is one link of a channel's chain of receipts.
type Receipt struct {
	Serialized string   // JWS compact serialization, as the enclave signed it
	Head       [32]byte // of the chain after it
}

// A Store is safe for concurrent use. Several processes may have the same file open; Acquire keeps them off each other's
// channels.
type Store struct {
	db   *sql.DB
	path string
	now  func() time.Time

	mu      sync.Mutex
	more    sync.Cond // signalled when pending or saved changes
	pending []save
	queued  uint64 // saves accepted so far
	written uint64 // of them, those on disk
	failure error  // of the writer; it has stopped
	closed  bool
	hurry   chan struct{} // capacity 1: somebody waits for the writer
	failed  chan struct{}
	done    chan struct{}
}

type save struct {
	address string
	state   client.PaymentState
	receipt string
}

// Open opens or creates the file, readable by its owner alone. Close it.
func Open(ctx context.Context, path string, now func() time.Time) (*Store, error) {
	fsys, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := sqlite.Open(ctx, path, fsys)
	if err != nil {
		return nil, fmt.Errorf("store: cannot open %s: %w", path, err)
	}
	db.SetMaxOpenConns(2)
	s := &Store{db: db, path: path, now: now, hurry: make(chan struct{}, 1), failed: make(chan struct{}), done: make(chan struct{})}
	s.more.L = &s.mu
	go s.write()
	return s, nil
}

// Add records a new channel. Add it before its deposit is sent: money in a channel that nobody remembers is hard to find.
func (s *Store) Add(ctx context.Context, c Channel) error {
	if err := c.Params.Validate(); err != nil {
		return err
	}
	if len(c.HostKey) != ed25519.PublicKeySize {
		return errors.New("store: host key is missing")
	}
	if c.Deposit > math.MaxInt64 {
		return errors.New("store: deposit is out of range")
	}
	switch c.State {
	case StateOpening, StateOpen, StateClosing, StateClosed:
	default:
		return fmt.Errorf("store: unknown state %q", c.State)
	}
	p := c.Params
	r, err := s.db.ExecContext(ctx, `INSERT INTO channels (address, network, payee, client, client_key, close_delay, expires_at, salt, host, host_key,
		deposit, signed, settled, head, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		p.Address().Raw(), c.Network, p.Payee.Raw(), p.Client.Raw(), hex.EncodeToString(p.ClientKey[:]), p.CloseDelay, p.ExpiresAt, fmt.Sprintf("%016x", p.Salt),
		c.Host, hex.EncodeToString(c.HostKey), int64(c.Deposit), int64(c.Progress.Signed), int64(c.Progress.Settled), hex.EncodeToString(c.Progress.Head[:]),
		c.State, s.now().Unix())
	return changed(r, err, ErrExists)
}

// SetState records how far the channel has come.
func (s *Store) SetState(ctx context.Context, a channel.Address, to State) error {
	r, err := s.db.ExecContext(ctx, `UPDATE channels SET state = ? WHERE address = ?`, to, a.Raw())
	return changed(r, err, ErrUnknown)
}

// SetDeposit records what vouchers may promise at most, as the chain has it after the transaction of the channel with this
// logical time, unless what it had after a later one is recorded.
func (s *Store) SetDeposit(ctx context.Context, a channel.Address, nano, lt uint64) error {
	if nano > math.MaxInt64 || lt > math.MaxInt64 {
		return errors.New("store: deposit is out of range")
	}
	r, err := s.db.ExecContext(ctx, `UPDATE channels SET deposit = iif(?2 >= deposit_lt, ?1, deposit), deposit_lt = max(?2, deposit_lt) WHERE address = ?3`, int64(nano), int64(lt), a.Raw())
	return changed(r, err, ErrUnknown)
}

// SetHost names the host of a channel that was recorded without one: its host key is zero. ErrUnknown is that there is none such.
func (s *Store) SetHost(ctx context.Context, a channel.Address, url string, key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return errors.New("store: host key is missing")
	}
	r, err := s.db.ExecContext(ctx, `UPDATE channels SET host = ?, host_key = ? WHERE address = ? AND host_key = ?`, url, hex.EncodeToString(key), a.Raw(),
		hex.EncodeToString(make([]byte, ed25519.PublicKeySize)))
	return changed(r, err, ErrUnknown)
}

// Forget removes a channel that is still Opening, once it is certain that its deposit was never sent.
func (s *Store) Forget(ctx context.Context, a channel.Address) error {
	r, err := s.db.ExecContext(ctx, `DELETE FROM channels WHERE address = ? AND state = ? AND signed = 0`, a.Raw(), StateOpening)
	return changed(r, err, ErrUnknown)
}

func changed(r sql.Result, err error, none error) error {
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(none, err)
	}
	return nil
}

const columns = `network, payee, client, client_key, close_delay, expires_at, salt, host, host_key, deposit, signed, settled, head, state, created_at, address`

// Channel returns one channel, or ErrUnknown.
func (s *Store) Channel(ctx context.Context, a channel.Address) (Channel, error) {
	c, err := scan(s.db.QueryRowContext(ctx, `SELECT `+columns+` FROM channels WHERE address = ?`, a.Raw()))
	if errors.Is(err, sql.ErrNoRows) {
		return c, ErrUnknown
	}
	return c, err
}

// Channels returns all channels, the newest first.
func (s *Store) Channels(ctx context.Context) ([]Channel, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM channels ORDER BY created_at DESC, rowid DESC`)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer rows.Close()
	var all []Channel
	for rows.Next() {
		c, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

func scan(row interface{ Scan(...any) error }) (c Channel, err error) {
	var payee, owner, key, salt, hostKey, head, address string
	var created int64
	if err = row.Scan(&c.Network, &payee, &owner, &key, &c.Params.CloseDelay, &c.Params.ExpiresAt, &salt, &c.Host, &hostKey, &c.Deposit,
		&c.Progress.Signed, &c.Progress.Settled, &head, &c.State, &created, &address); err != nil {
		return c, fmt.Errorf("store: %w", err)
	}
	c.Created = time.Unix(created, 0)
	c.HostKey = make(ed25519.PublicKey, ed25519.PublicKeySize)
	var s [8]byte
	for _, f := range []struct {
		to   []byte
		text string
	}{{c.Params.Payee[:], strings.TrimPrefix(payee, "0:")}, {c.Params.Client[:], strings.TrimPrefix(owner, "0:")}, {c.Params.ClientKey[:], key},
		{s[:], salt}, {c.HostKey, hostKey}, {c.Progress.Head[:], head}} {
		if len(f.text) != 2*len(f.to) {
			return c, fmt.Errorf("store: channel %s: a damaged record", address)
		}
		if _, err := hex.Decode(f.to, []byte(f.text)); err != nil {
			return c, fmt.Errorf("store: channel %s: a damaged record: %w", address, err)
		}
	}
	for _, b := range s {
		c.Params.Salt = c.Params.Salt<<8 | uint64(b)
	}
	// The address commits to the terms: no damage to them goes unseen.
	if c.Params.Address().Raw() != address {
		return c, fmt.Errorf("store: channel %s: its record belongs to another address", address)
	}
	return c, nil
}

// Receipts returns a channel's receipts in the order of their hash chain.
func (s *Store) Receipts(ctx context.Context, a channel.Address) ([]Receipt, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT receipt, head FROM receipts WHERE channel = ? ORDER BY seq`, a.Raw())
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer rows.Close()
	var all []Receipt
	for rows.Next() {
		var r Receipt
		var head string
		if err := rows.Scan(&r.Serialized, &head); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		if n, err := hex.Decode(r.Head[:], []byte(head[:min(len(head), 64)])); err != nil || n != 32 {
			return nil, fmt.Errorf("store: receipt %d: a damaged record", len(all)+1)
		}
		all = append(all, r)
	}
	return all, rows.Err()
}
