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
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/internal/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// maxBatch writes share a transaction at most.
	maxBatch = 1024
	// maxVouchers of one channel are kept above what is earned, and the
	// highest. Nothing authorised is lost with those between, but a claim at
	// the deadline may have to present a coarser total.
	maxVouchers = 128
	// pruneEvery so many vouchers of a channel the rest is looked through.
	pruneEvery = 64

	// leaseRenewed this often, a process says in the ledger that it lives;
	// leaseFor so long after it last did it serves from memory. One that has
	// been silent for leaseGone, and whose enclaves no other has taken over,
	// is gone: then its channels may be held by others.
	leaseRenewed = 5 * time.Second
	leaseFor     = time.Minute
	leaseGone    = 5 * time.Minute
)

// Errors that callers act on.
var (
	ErrUnknown = errors.New("ledger: unknown channel")
	ErrStale   = errors.New("ledger: session request is not newer than the last")
	ErrClosed  = errors.New("ledger: closed")
	ErrTaken   = errors.New("ledger: another process has taken over an enclave of this one")
	ErrHeld    = errors.New("ledger: another process serves the channel")
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
	Closing    time.Time // until then an agreement that was sent may close it
	Deadline   time.Time // as last seen; the Unix epoch before that
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
	Tab     string // of the channel at the enclave
	Booked  uint64 // nanogram, the tab's total when the enclave said the cost, which is not in it
	Cost    uint64 // nanogram, as the enclave last said
}

// A Tab is what an enclave says the ended requests of a channel have cost, in
// all, since it began to add up.
type Tab struct {
	Channel string
	Enclave string
	ID      string // another one when it began anew
	Total   uint64 // nanogram
}

// A Ledger is safe for concurrent use.
type Ledger struct {
	db  *sql.DB
	now func() time.Time
	dialect
	writes chan *write
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once

	process   string // random: this one
	enclaves  int    // that Take has taken
	taken     chan struct{}
	lease     atomic.Pointer[lease]
	turn      chan struct{} // capacity 1: held by who has, or waits for, a turn
	committed func(took time.Duration, writes int, err error)

	// The writer's alone:
	statements map[string]*sql.Stmt // prepared
	unpruned   map[string]int       // vouchers that came since a channel was last pruned
	renewed    time.Time            // when the lease last was
}

// A lease is for how long a process may rely on what it holds.
type lease struct {
	number uint64 // another one after a lapse
	until  time.Time
}

// A dialect is what the stores' SQL differs in.
type dialect struct {
	unpack    string // unpacks a JSON array, $1, into rows of value
	forUpdate string // locks the rows of a SELECT
	forShare  string // keeps others from changing them
	patient   string // lets a statement wait for locks as long as another process may hold them
	clock     string // one for all processes, Unix seconds
	alone     string // keeps other processes from the same statement until the transaction ends
}

var (
	// SQLite has one writer, and what a killed process left is gone.
	sqliteDialect   = dialect{unpack: "json_each($1)", patient: "SELECT 1", clock: "unixepoch()", alone: "SELECT 1"}
	postgresDialect = dialect{"json_array_elements(CAST($1 AS json))", " FOR UPDATE", " FOR SHARE",
		"SET LOCAL statement_timeout = " + milliseconds(3*statementTimeout), "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)",
		fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %s; SELECT pg_advisory_xact_lock(%d)", milliseconds(turnTimeout), int64(walletLock))}
)

// Open opens or creates a ledger for reading; [Ledger.Take] opens it for
// writing. The source is the path of an SQLite file or a postgres:// URL.
func Open(ctx context.Context, source string, now func() time.Time) (*Ledger, error) {
	fsys, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	var db *sql.DB
	d := sqliteDialect
	if strings.HasPrefix(source, "postgres://") || strings.HasPrefix(source, "postgresql://") {
		db, err = openPostgres(ctx, source, fsys)
		d = postgresDialect
	} else {
		db, err = sqlite.Open(ctx, source, fsys)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: cannot open the store: %w", err)
	}
	db.SetMaxOpenConns(4)
	l := &Ledger{db: db, now: now, dialect: d, writes: make(chan *write, maxBatch), quit: make(chan struct{}), done: make(chan struct{}),
		process: rand.Text(), taken: make(chan struct{}), turn: make(chan struct{}, 1), committed: func(time.Duration, int, error) {}, statements: map[string]*sql.Stmt{}, unpruned: map[string]int{}}
	go l.run()
	return l, nil
}

// Close finishes the writes under way and closes the store.
func (l *Ledger) Close() error {
	l.once.Do(func() { close(l.quit) })
	<-l.done
	return l.db.Close()
}

// Take makes this process the one that serves the enclaves with these ids. It
// comes once, before the first write. It waits for what an earlier process has
// under way, which PostgreSQL ends within a minute even if that process was
// killed or its machine is gone; from then on everything that the earlier one
// writes fails with ErrTaken. Nobody else holds the channels that it held before
// this one has settled them (see Unsettled), and all that took others of its
// enclaves have.
func (l *Ledger) Take(ctx context.Context, enclaves ...string) error {
	ids := map[string]bool{}
	for _, id := range enclaves {
		ids[id] = true
	}
	if len(ids) == 0 {
		return errors.New("ledger: no enclave to take")
	}
	began := l.now()
	err := func() error {
		begun, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer begun.Rollback()
		tx := &transaction{Tx: begun, l: l}
		if _, err := begun.ExecContext(ctx, l.patient); err != nil {
			return err
		}
		mine := func() rows { return sorted(ids, func(id string, _ bool) []any { return []any{id} }) }
		// Rows that all who start at once can see, and wait for.
		if _, err := tx.ExecContext(ctx, `INSERT INTO owners (enclave, process, since, alive) SELECT value ->> 0, '', 0, 0 FROM ROWS WHERE true ORDER BY 1 ON CONFLICT (enclave) DO NOTHING`, mine()); err != nil {
			return err
		}
		before, err := tx.strings(ctx, `SELECT process FROM owners WHERE enclave IN (SELECT value ->> 0 FROM ROWS) ORDER BY enclave`+l.forUpdate, mine())
		if err != nil {
			return err
		}
		if slices.ContainsFunc(before, func(process string) bool { return process != "" }) {
			if _, err := tx.ExecContext(ctx, `INSERT INTO unsettled (address, enclave) SELECT channels.address, owners.enclave FROM owners JOIN channels ON channels.process = owners.process
				WHERE owners.process <> '' AND owners.enclave IN (SELECT value ->> 0 FROM ROWS) ORDER BY 1, 2 ON CONFLICT (address, enclave) DO NOTHING`, mine()); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE owners SET process = CAST($2 AS TEXT), since = CAST($3 AS BIGINT), alive = `+l.clock+` WHERE enclave IN (SELECT value ->> 0 FROM ROWS)`,
			mine(), l.process, l.now().Unix()); err != nil {
			return err
		}
		return tx.Commit()
	}()
	if err != nil {
		return fmt.Errorf("ledger: cannot take over from an earlier process: %w", err)
	}
	l.enclaves = len(ids)
	l.lease.Store(&lease{1, began.Add(leaseFor)})
	return nil
}

// Process names this process among all that ever used the ledger.
func (l *Ledger) Process() string { return l.process }

// Taken is closed when this process learns that another has taken over.
func (l *Ledger) Taken() <-chan struct{} { return l.taken }

// Confirm is an empty write: ErrTaken when another process has taken over.
func (l *Ledger) Confirm(ctx context.Context) error {
	return l.write(ctx, "", func(context.Context, *transaction) (refused, failed error) { return nil, nil })
}

// Lease numbers the time in which what Hold has returned may be relied on. It
// is another one after this process could not tell the ledger for a minute that
// it lives, and 0 until it can again: see Holds.
func (l *Ledger) Lease() uint64 {
	at, now := l.lease.Load(), l.now()
	// By the wall clock as well: Go's other one stands still while a machine is suspended.
	if at == nil || !now.Before(at.until) || !now.Round(0).Before(at.until.Round(0)) {
		return 0
	}
	return at.number
}

// Hold makes this process the one that serves a channel, and returns the channel
// as it then is: nobody else adds to what it has spent before Release. Its
// Spent includes what was last recorded of requests of a process that is gone,
// at enclaves that nobody has taken over. It is ErrHeld while another process
// serves the channel, or has to settle what an earlier one left of it.
func (l *Ledger) Hold(ctx context.Context, address string) (*Channel, error) {
	h := &hold{}
	err := l.put(ctx, &write{channels: []string{address}, hold: h})
	return h.row, err
}

// Holds confirms that a channel is this process's: ErrHeld when it is not.
func (l *Ledger) Holds(ctx context.Context, address string) error {
	return l.write(ctx, address, func(_ context.Context, tx *transaction) (refused, failed error) {
		if tx.locked[address].process != l.process {
			return ErrHeld, nil
		}
		return nil, nil
	})
}

// Unsettled lists the channels of which an earlier process may have left costs at
// enclaves of this one: see Resume.
func (l *Ledger) Unsettled(ctx context.Context) ([]*Channel, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT `+columns+` FROM channels WHERE address IN
		(SELECT unsettled.address FROM unsettled JOIN owners ON owners.enclave = unsettled.enclave WHERE owners.process = $1)`, l.process)
	return scan(rows, err)
}

// Release lets others hold channels. Everything that they have cost must be
// booked.
func (l *Ledger) Release(ctx context.Context, addresses ...string) error {
	return l.put(ctx, &write{channels: addresses, do: func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.ExecContext(ctx, `UPDATE channels SET process = '' WHERE process = $2 AND address IN (SELECT value ->> 0 FROM ROWS)`, column(addresses), l.process)
		return nil, err
	}})
}

// Turn waits until no other process of the fleet has its turn at what all share
// beside the ledger, the payee's wallet. The turn ends with done, with this
// process, and after half a minute for one that does not go on.
func (l *Ledger) Turn(ctx context.Context) (done func(), err error) {
	select {
	case l.turn <- struct{}{}: // one connection for all that wait
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	tx, err := l.db.BeginTx(ctx, nil)
	if err == nil {
		if _, err = tx.ExecContext(ctx, l.patient); err == nil {
			_, err = tx.ExecContext(ctx, l.alone)
		}
		if err != nil {
			tx.Rollback()
		}
	}
	if err != nil {
		<-l.turn
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return func() { tx.Rollback(); <-l.turn }, nil
}

// AddChannel records a channel that the chain has shown; one that is already
// known is left as it is.
func (l *Ledger) AddChannel(ctx context.Context, address string, key ed25519.PublicKey) error {
	return l.put(ctx, &write{channels: []string{address}, adds: true, do: func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO channels (address, key, opened_at) VALUES ($1, $2, $3) ON CONFLICT (address) DO NOTHING`,
			address, hex.EncodeToString(key), l.now().Unix())
		return nil, err
	}})
}

// BeginSession records the time of a session request; one that is not later
// than the channel's last is a replay and ErrStale.
func (l *Ledger) BeginSession(ctx context.Context, address string, unixNano int64) error {
	return l.write(ctx, address, func(ctx context.Context, tx *transaction) (refused, failed error) {
		r, err := tx.ExecContext(ctx, `UPDATE channels SET session_time = $1 WHERE address = $2 AND session_time < $1`, unixNano, address)
		if err != nil {
			return nil, err
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			return ErrStale, err
		}
		return nil, nil
	})
}

// PutVoucher stores a verified voucher, unless a higher one is there already.
// When it returns nil the voucher, or a higher one, is durable.
func (l *Ledger) PutVoucher(ctx context.Context, address string, total uint64, wire []byte) error {
	if total > math.MaxInt64 {
		return fmt.Errorf("ledger: total %d nanogram is out of range", total)
	}
	return l.put(ctx, &write{channels: []string{address}, voucher: &voucher{address, total, wire}})
}

// The enclaves have said that channel $1 owes at least delivered and at most
// running: by ended requests, and by those that seem to run. One of these may
// have ended, and be in a tab that was booked with the end of another, before
// this process heard of it; but not while the tab has grown by less than it
// cost.
const (
	delivered = `(SELECT spent + CAST(COALESCE((SELECT SUM(cost) FROM streams WHERE address = $1 AND ` + unbooked + `), 0) AS BIGINT) FROM channels WHERE address = $1)`
	running   = `(SELECT spent + CAST(COALESCE((SELECT SUM(cost) FROM streams WHERE address = $1), 0) AS BIGINT) FROM channels WHERE address = $1)`
	unbooked  = `cost > COALESCE((SELECT total FROM tabs t WHERE t.address = streams.address AND t.enclave = streams.enclave AND t.tab = streams.tab), booked) - booked`
)

// Payable returns the highest voucher that what was delivered has earned, and
// the lowest one that covers all of it, which may be the same. Either is nil
// when there is none; both are before anything was delivered.
func (l *Ledger) Payable(ctx context.Context, address string) (earned, covers *Voucher, err error) {
	if earned, err = l.voucher(ctx, address, `total <= `+delivered+` ORDER BY total DESC`); err != nil {
		return nil, nil, err
	}
	covers, err = l.voucher(ctx, address, `total >= `+running+` AND `+running+` > 0 ORDER BY total`)
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
	if s.Cost > math.MaxInt64 || s.Booked > math.MaxInt64 {
		return fmt.Errorf("ledger: cost %d or total %d nanogram is out of range", s.Cost, s.Booked)
	}
	return l.write(ctx, s.Channel, func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO streams (address, stream, enclave, tab, booked, cost) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (address, stream) DO UPDATE SET cost = excluded.cost, tab = excluded.tab, booked = excluded.booked`, s.Channel, s.ID, s.Enclave, s.Tab, int64(s.Booked), int64(s.Cost))
		return nil, err
	})
}

// Streams lists the requests that SetStream has recorded and EndStream has not.
func (l *Ledger) Streams(ctx context.Context) ([]Stream, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT address, stream, enclave, tab, booked, cost FROM streams`)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer rows.Close()
	var list []Stream
	for rows.Next() {
		var s Stream
		var booked, cost int64
		if err := rows.Scan(&s.Channel, &s.ID, &s.Enclave, &s.Tab, &booked, &cost); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		s.Booked, s.Cost = uint64(booked), uint64(cost)
		list = append(list, s)
	}
	return list, rows.Err()
}

// Book records what a channel's ended requests have cost in all, and forgets
// that those named ran. Only the tab's growth since the last booking counts: the
// same one again changes nothing, and one that was lost is in the next.
func (l *Ledger) Book(ctx context.Context, t Tab, ended ...string) error {
	if t.Total > math.MaxInt64 {
		return fmt.Errorf("ledger: total %d nanogram is out of range", t.Total)
	}
	return l.put(ctx, &write{channels: []string{t.Channel}, booking: &booking{t, ended}})
}

// Resume books what an earlier process left at an enclave and returns it. A
// running request that the tab does not include, because the enclave began anew
// or forgot, has cost what was last recorded of it, unless that may be in what
// has been booked. The zero ID is no tab.
func (l *Ledger) Resume(ctx context.Context, t Tab) (due uint64, err error) {
	if t.Total > math.MaxInt64 {
		return 0, fmt.Errorf("ledger: total %d nanogram is out of range", t.Total)
	}
	err = l.write(ctx, t.Channel, func(ctx context.Context, tx *transaction) (refused, failed error) {
		if err := tx.prune(ctx, t.Channel); err != nil { // the count of what came ended with its process
			return nil, err
		}
		if due, failed = tx.lose(ctx, `address = $1 AND enclave = $2 AND tab <> $3`, t.Channel, t.Enclave, t.ID); failed != nil {
			return nil, failed
		}
		for _, settled := range []string{`DELETE FROM streams WHERE address = $1 AND enclave = $2`, `DELETE FROM unsettled WHERE address = $1 AND enclave = $2`} {
			if _, err := tx.ExecContext(ctx, settled, t.Channel, t.Enclave); err != nil {
				return nil, err
			}
		}
		if t.ID == "" {
			return nil, nil
		}
		costs, err := tx.grow(ctx, map[string]Tab{t.key(): t})
		if err != nil {
			return nil, err
		}
		for i := range costs {
			due += costs[i].nano
			costs[i].answers = 1 // or more: nobody counted
		}
		return nil, tx.spend(ctx, costs)
	})
	return due, err
}

// Lose ends a request whose cost nobody knows any more, at what was last
// recorded of it.
func (l *Ledger) Lose(ctx context.Context, channel, id string) error {
	return l.write(ctx, channel, func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.lose(ctx, `address = $1 AND stream = $2`, channel, id)
		return nil, err
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
	return l.write(ctx, address, func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.ExecContext(ctx, `UPDATE channels SET claimed = $1, closed_at = CASE WHEN closed_at = 0 THEN $2 ELSE closed_at END WHERE address = $3`,
			int64(claimed), at, address)
		return nil, err
	})
}

// SetDeadline records when a channel ends, so that a host without the chain knows.
func (l *Ledger) SetDeadline(ctx context.Context, address string, at time.Time) error {
	return l.write(ctx, address, func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.ExecContext(ctx, `UPDATE channels SET deadline = $1 WHERE address = $2`, at.Unix(), address)
		return nil, err
	})
}

// SetClosing records until when an agreement that is about to be sent may close
// the channel; the zero time takes that back.
func (l *Ledger) SetClosing(ctx context.Context, address string, until time.Time) error {
	at := int64(0)
	if !until.IsZero() {
		at = until.Unix()
	}
	return l.write(ctx, address, func(ctx context.Context, tx *transaction) (refused, failed error) {
		_, err := tx.ExecContext(ctx, `UPDATE channels SET closing_until = $1 WHERE address = $2`, at, address)
		return nil, err
	})
}

const columns = `address, key, authorised, spent, answers, claimed, closed_at, closing_until, deadline,
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
		var authorised, spent, answers, claimed, closedAt, closing, deadline int64
		if err := rows.Scan(&c.Address, &key, &authorised, &spent, &answers, &claimed, &closedAt, &closing, &deadline, &voucher); err != nil {
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
		c.Closed, c.Closing, c.Deadline = closedAt != 0, time.Unix(closing, 0), time.Unix(deadline, 0)
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
