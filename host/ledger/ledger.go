// Package ledger is the host's money: which channels it knows, the highest
// voucher of each, and what has been spent. Nothing that it has acknowledged
// is lost when the process or the machine dies.
//
// Two stores share one schema: SQLite for a single host, PostgreSQL for a
// fleet. Writes of concurrent requests share one transaction (group commit),
// because a durable commit costs the same for one voucher as for a hundred.
package ledger

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
	"net/url"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// maxBatch writes share a transaction at most.
const maxBatch = 512

// Errors that callers act on.
var (
	ErrUnknown = errors.New("ledger: unknown channel")
	ErrStale   = errors.New("ledger: session request is not newer than the last")
	ErrClosed  = errors.New("ledger: closed")
)

// A Channel is one row of the ledger. Amounts are in nanogram.
type Channel struct {
	Address    string
	Key        ed25519.PublicKey
	Authorised uint64 // total of the highest voucher
	Voucher    []byte // the highest voucher, nil before the first
	Spent      uint64
	Answers    uint64
	Claimed    uint64
	VoucherAt  time.Time // zero before the first voucher
	Closed     bool
}

// Unclaimed is what the highest voucher would pay now.
func (c *Channel) Unclaimed() uint64 {
	if c.Authorised < c.Claimed {
		return 0
	}
	return c.Authorised - c.Claimed
}

// A Ledger is safe for concurrent use.
type Ledger struct {
	db     *sql.DB
	now    func() time.Time
	writes chan *write
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once
}

type write struct {
	do  func(context.Context, *sql.Tx) error
	err chan error
}

// Open opens or creates a ledger. The source is the path of an SQLite file or
// a postgres:// URL.
func Open(ctx context.Context, source string, now func() time.Time) (*Ledger, error) {
	driver, dsn, dialect := "sqlite", "", goose.DialectSQLite3
	if strings.HasPrefix(source, "postgres://") || strings.HasPrefix(source, "postgresql://") {
		driver, dsn, dialect = "pgx", source, goose.DialectPostgres
	} else {
		// FULL: a commit that returned survives power loss, WAL or not.
		q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
		dsn = "file:" + (&url.URL{Path: source}).EscapedPath() + "?" + q.Encode()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	db.SetMaxOpenConns(4)
	fsys, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(dialect, db, fsys)
	if err == nil {
		_, err = p.Up(ctx)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("ledger: cannot open the store: %w", err)
	}
	l := &Ledger{db: db, now: now, writes: make(chan *write, maxBatch), quit: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l, nil
}

// Close finishes the writes under way and closes the store.
func (l *Ledger) Close() error {
	l.once.Do(func() { close(l.quit) })
	<-l.done
	return l.db.Close()
}

// run is the only writer.
func (l *Ledger) run() {
	defer close(l.done)
	for {
		select {
		case w := <-l.writes:
			batch := append(make([]*write, 0, 16), w)
			for len(batch) < maxBatch {
				select {
				case w := <-l.writes:
					batch = append(batch, w)
					continue
				default:
				}
				break
			}
			l.commit(batch)
		case <-l.quit:
			for {
				select {
				case w := <-l.writes:
					w.err <- ErrClosed
				default:
					return
				}
			}
		}
	}
}

// commit applies a batch in one transaction. A write that refuses (returns an
// error before changing a row) does not spoil the others; a store that fails
// fails them all.
func (l *Ledger) commit(batch []*write) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	results := make([]error, len(batch))
	err := func() error {
		tx, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for i, w := range batch {
			var refused *refusal
			if err := w.do(ctx, tx); errors.As(err, &refused) {
				results[i] = refused.error
			} else if err != nil {
				return err
			}
		}
		return tx.Commit()
	}()
	for i, w := range batch {
		if err != nil {
			w.err <- fmt.Errorf("ledger: not stored: %w", err)
		} else {
			w.err <- results[i]
		}
	}
}

// refusal is an error that leaves the transaction usable.
type refusal struct{ error }

func (l *Ledger) write(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	w := &write{do, make(chan error, 1)}
	select {
	case l.writes <- w:
	case <-l.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.err:
		return err
	case <-l.done:
		select {
		case err := <-w.err:
			return err
		default:
			return ErrClosed
		}
	}
}

// AddChannel records a channel that the chain has shown; one that is already
// known is left as it is.
func (l *Ledger) AddChannel(ctx context.Context, address string, key ed25519.PublicKey) error {
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO channels (address, key, opened_at) VALUES ($1, $2, $3) ON CONFLICT (address) DO NOTHING`,
			address, hex.EncodeToString(key), l.now().Unix())
		return err
	})
}

// BeginSession records the time of a session request; one that is not later
// than the channel's last is a replay and ErrStale.
func (l *Ledger) BeginSession(ctx context.Context, address string, unixNano int64) error {
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET session_time = $1 WHERE address = $2 AND session_time < $1`, unixNano, address)
		if err != nil {
			return err
		}
		return one(r, ErrStale)
	})
}

// PutVoucher stores a verified voucher, unless a higher one is there already.
// When it returns nil the voucher, or a higher one, is durable.
func (l *Ledger) PutVoucher(ctx context.Context, address string, total uint64, voucher []byte) error {
	if total > math.MaxInt64 {
		return fmt.Errorf("ledger: total %d nanogram is out of range", total)
	}
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET authorised = CASE WHEN authorised < $1 THEN $1 ELSE authorised END,
			voucher = CASE WHEN authorised < $1 THEN $2 ELSE voucher END,
			voucher_at = CASE WHEN authorised < $1 THEN $3 ELSE voucher_at END WHERE address = $4`,
			int64(total), hex.EncodeToString(voucher), l.now().Unix(), address)
		if err != nil {
			return err
		}
		return one(r, ErrUnknown)
	})
}

// AddSpent records the cost of an ended request.
func (l *Ledger) AddSpent(ctx context.Context, address, enclave string, cost uint64) error {
	if cost > math.MaxInt64 {
		return fmt.Errorf("ledger: cost %d nanogram is out of range", cost)
	}
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET spent = spent + $1, answers = answers + 1 WHERE address = $2`, int64(cost), address)
		if err != nil {
			return err
		}
		if err := one(r, ErrUnknown); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO earnings (day, enclave, answers, earned) VALUES ($1, $2, 1, $3)
			ON CONFLICT (day, enclave) DO UPDATE SET answers = earnings.answers + 1, earned = earnings.earned + excluded.earned`,
			l.now().Unix()/86400, enclave, int64(cost))
		return err
	})
}

// SetChainState records what the chain says of a channel.
func (l *Ledger) SetChainState(ctx context.Context, address string, claimed uint64, closed bool) error {
	if claimed > math.MaxInt64 {
		return fmt.Errorf("ledger: claimed %d nanogram is out of range", claimed)
	}
	at := int64(0)
	if closed {
		at = l.now().Unix()
	}
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET claimed = $1, closed_at = CASE WHEN closed_at = 0 THEN $2 ELSE closed_at END WHERE address = $3`,
			int64(claimed), at, address)
		if err != nil {
			return err
		}
		return one(r, ErrUnknown)
	})
}

func one(r sql.Result, otherwise error) error {
	n, err := r.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return &refusal{otherwise}
	}
	return nil
}

const columns = `address, key, authorised, voucher, spent, answers, claimed, voucher_at, closed_at`

// Channel returns one channel or ErrUnknown.
func (l *Ledger) Channel(ctx context.Context, address string) (*Channel, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT `+columns+` FROM channels WHERE address = $1`, address)
	list, err := scan(rows, err)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, ErrUnknown
	}
	return list[0], nil
}

// OpenChannels returns the channels that are not closed, the most unclaimed first.
func (l *Ledger) OpenChannels(ctx context.Context) ([]*Channel, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT `+columns+` FROM channels WHERE closed_at = 0 ORDER BY authorised - claimed DESC, address`)
	return scan(rows, err)
}

func scan(rows *sql.Rows, err error) ([]*Channel, error) {
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	var list []*Channel
	for rows.Next() {
		var c Channel
		var key, voucher string
		var authorised, spent, answers, claimed, voucherAt, closedAt int64
		if err := rows.Scan(&c.Address, &key, &authorised, &voucher, &spent, &answers, &claimed, &voucherAt, &closedAt); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		k, err1 := hex.DecodeString(key)
		v, err2 := hex.DecodeString(voucher)
		if err := errors.Join(err1, err2); err != nil || len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("ledger: row of channel %s is damaged", c.Address)
		}
		c.Key, c.Authorised, c.Spent, c.Answers, c.Claimed = k, uint64(authorised), uint64(spent), uint64(answers), uint64(claimed)
		if len(v) > 0 {
			c.Voucher, c.VoucherAt = v, time.Unix(voucherAt, 0)
		}
		c.Closed = closedAt != 0
		list = append(list, &c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return list, nil
}

// Earning is what an enclave earned on one day.
type Earning struct {
	Day     time.Time `json:"day"` // midnight UTC
	Enclave string    `json:"enclave"`
	Answers uint64    `json:"answers"`
	Earned  uint64    `json:"earned"` // nanogram
}

// Earnings lists earnings since a day, the oldest first.
func (l *Ledger) Earnings(ctx context.Context, since time.Time) ([]Earning, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT day, enclave, answers, earned FROM earnings WHERE day >= $1 ORDER BY day, enclave`, since.Unix()/86400)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	var list []Earning
	for rows.Next() {
		var e Earning
		var day, answers, earned int64
		if err := rows.Scan(&day, &e.Enclave, &answers, &earned); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		e.Day, e.Answers, e.Earned = time.Unix(day*86400, 0).UTC(), uint64(answers), uint64(earned)
		list = append(list, e)
	}
	return list, rows.Err()
}
