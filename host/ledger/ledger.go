// Package ledger is the host's money: which channels it knows, their vouchers,
// and what has been spent. Nothing that it has acknowledged is lost when the
// process or the machine dies.
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

const (
	// maxBatch writes share a transaction at most.
	maxBatch = 512
	// maxVouchers of one channel are kept above what is earned, and the
	// highest. Nothing authorised is lost with those between, but a claim at
	// the deadline may have to present a coarser total.
	maxVouchers = 128
)

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
	Spent      uint64 // by ended requests
	Answers    uint64
	Claimed    uint64
	Closed     bool
}

// A Voucher is one that the ledger keeps.
type Voucher struct {
	Total uint64 // nanogram
	Wire  []byte
	At    time.Time // when it came
}

// A Stream is a running request that has been allotted more than one window.
type Stream struct {
	Channel string
	ID      string
	Enclave string
	Cost    uint64 // nanogram, as the enclave last said
}

// A Ledger is safe for concurrent use.
type Ledger struct {
	db     *sql.DB
	now    func() time.Time
	writes chan *write
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once

	statements map[string]*sql.Stmt // prepared; the writer's alone
}

// A transaction prepares each statement once in the ledger's life.
type transaction struct {
	*sql.Tx
	l *Ledger
}

func (t *transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s := t.l.statements[query]
	if s == nil {
		var err error
		if s, err = t.l.db.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
		t.l.statements[query] = s
	}
	return t.StmtContext(ctx, s).ExecContext(ctx, args...)
}

type write struct {
	do     func(context.Context, *transaction) error
	prunes []string // channels whose vouchers changed
	err    chan error
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
	l := &Ledger{db: db, now: now, writes: make(chan *write, maxBatch), quit: make(chan struct{}), done: make(chan struct{}), statements: map[string]*sql.Stmt{}}
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
	changed := map[string]bool{}
	err := func() error {
		begun, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer begun.Rollback()
		tx := &transaction{begun, l}
		for i, w := range batch {
			var refused *refusal
			if err := w.do(ctx, tx); errors.As(err, &refused) {
				results[i] = refused.error
			} else if err != nil {
				return err
			}
			for _, address := range w.prunes {
				changed[address] = true
			}
		}
		for address := range changed {
			if err := prune(ctx, tx, address); err != nil {
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

func (l *Ledger) write(ctx context.Context, do func(context.Context, *transaction) error, prunes ...string) error {
	w := &write{do, prunes, make(chan error, 1)}
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
	return l.write(ctx, func(ctx context.Context, tx *transaction) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO channels (address, key, opened_at) VALUES ($1, $2, $3) ON CONFLICT (address) DO NOTHING`,
			address, hex.EncodeToString(key), l.now().Unix())
		return err
	})
}

// BeginSession records the time of a session request; one that is not later
// than the channel's last is a replay and ErrStale.
func (l *Ledger) BeginSession(ctx context.Context, address string, unixNano int64) error {
	return l.write(ctx, func(ctx context.Context, tx *transaction) error {
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
	return l.write(ctx, func(ctx context.Context, tx *transaction) error {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET authorised = $1 WHERE address = $2 AND authorised < $1`, int64(total), address)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			var is int
			if err := tx.QueryRowContext(ctx, `SELECT 1 FROM channels WHERE address = $1`, address).Scan(&is); errors.Is(err, sql.ErrNoRows) {
				return &refusal{ErrUnknown}
			} else {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO vouchers (address, total, voucher, at) VALUES ($1, $2, $3, $4)`,
			address, int64(total), hex.EncodeToString(voucher), l.now().Unix())
		return err
	}, address)
}

// prune forgets vouchers that no claim needs any more.
func prune(ctx context.Context, tx *transaction, address string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM vouchers WHERE address = $1 AND total < (SELECT MAX(total) FROM vouchers WHERE address = $1) AND (
		total < (SELECT MAX(total) FROM vouchers WHERE address = $1 AND total <= `+delivered+`)
		OR total > (SELECT total FROM vouchers WHERE address = $1 ORDER BY total LIMIT 1 OFFSET $2))`, address, maxVouchers)
	return err
}

// delivered is what the enclaves have said that channel $1 owes: by ended
// requests, and by those that run.
const delivered = `(SELECT spent + CAST(COALESCE((SELECT SUM(cost) FROM streams WHERE address = $1), 0) AS BIGINT) FROM channels WHERE address = $1)`

// Payable returns the highest voucher that what was delivered has earned, and
// the lowest one that covers all of it, which may be the same. Either is nil
// when there is none; both are before anything was delivered.
func (l *Ledger) Payable(ctx context.Context, address string) (earned, covers *Voucher, err error) {
	if earned, err = l.voucher(ctx, address, `total <= `+delivered+` ORDER BY total DESC`); err != nil {
		return nil, nil, err
	}
	covers, err = l.voucher(ctx, address, `total >= `+delivered+` AND `+delivered+` > 0 ORDER BY total`)
	return earned, covers, err
}

func (l *Ledger) voucher(ctx context.Context, address, where string) (*Voucher, error) {
	var total, at int64
	var wire string
	err := l.db.QueryRowContext(ctx, `SELECT total, voucher, at FROM vouchers WHERE address = $1 AND `+where+` LIMIT 1`, address).Scan(&total, &wire, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	b, err := hex.DecodeString(wire)
	if err != nil {
		return nil, fmt.Errorf("ledger: a voucher of channel %s is damaged", address)
	}
	return &Voucher{uint64(total), b, time.Unix(at, 0)}, nil
}

// SetStream records a running request and what it has cost so far.
func (l *Ledger) SetStream(ctx context.Context, s Stream) error {
	if s.Cost > math.MaxInt64 {
		return fmt.Errorf("ledger: cost %d nanogram is out of range", s.Cost)
	}
	return l.write(ctx, func(ctx context.Context, tx *transaction) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO streams (address, stream, enclave, cost) VALUES ($1, $2, $3, $4)
			ON CONFLICT (address, stream) DO UPDATE SET cost = excluded.cost`, s.Channel, s.ID, s.Enclave, int64(s.Cost))
		return err
	})
}

// Streams lists the requests that SetStream has recorded and EndStream has not.
func (l *Ledger) Streams(ctx context.Context) ([]Stream, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT address, stream, enclave, cost FROM streams`)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	var list []Stream
	for rows.Next() {
		var s Stream
		var cost int64
		if err := rows.Scan(&s.Channel, &s.ID, &s.Enclave, &cost); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		s.Cost = uint64(cost)
		list = append(list, s)
	}
	return list, rows.Err()
}

// EndStream records what an ended request has cost and forgets that it ran.
// Without an ID it is one that SetStream never recorded.
func (l *Ledger) EndStream(ctx context.Context, s Stream) error {
	if s.Cost > math.MaxInt64 {
		return fmt.Errorf("ledger: cost %d nanogram is out of range", s.Cost)
	}
	return l.write(ctx, func(ctx context.Context, tx *transaction) error {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET spent = spent + $1, answers = answers + 1 WHERE address = $2`, int64(s.Cost), s.Channel)
		if err != nil {
			return err
		}
		if err := one(r, ErrUnknown); err != nil {
			return err
		}
		if s.ID != "" {
			if _, err := tx.ExecContext(ctx, `DELETE FROM streams WHERE address = $1 AND stream = $2`, s.Channel, s.ID); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO earnings (day, enclave, answers, earned) VALUES ($1, $2, 1, $3)
			ON CONFLICT (day, enclave) DO UPDATE SET answers = earnings.answers + 1, earned = earnings.earned + excluded.earned`,
			l.now().Unix()/86400, s.Enclave, int64(s.Cost))
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
	return l.write(ctx, func(ctx context.Context, tx *transaction) error {
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

const columns = `address, key, authorised, spent, answers, claimed, closed_at,
	COALESCE((SELECT voucher FROM vouchers v WHERE v.address = channels.address ORDER BY total DESC LIMIT 1), '')`

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
		var authorised, spent, answers, claimed, closedAt int64
		if err := rows.Scan(&c.Address, &key, &authorised, &spent, &answers, &claimed, &closedAt, &voucher); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		k, err1 := hex.DecodeString(key)
		v, err2 := hex.DecodeString(voucher)
		if err := errors.Join(err1, err2); err != nil || len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("ledger: row of channel %s is damaged", c.Address)
		}
		c.Key, c.Authorised, c.Spent, c.Answers, c.Claimed = k, uint64(authorised), uint64(spent), uint64(answers), uint64(claimed)
		if len(v) > 0 {
			c.Voucher = v
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
