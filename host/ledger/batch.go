package ledger

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A write is a voucher, a booking, or any other: do. What do returns first
// refuses this write, before it changed a row; what it returns second is the
// store's failure.
type write struct {
	voucher *voucher
	booking *booking
	do      func(context.Context, *transaction) (refused, failed error)
	err     chan error
}

type voucher struct {
	address string
	total   uint64
	wire    []byte
}

type booking struct {
	Tab
	ended []string // streams
}

// put hands a write to the writer and waits until it is durable, or refused.
func (l *Ledger) put(ctx context.Context, w *write) error {
	w.err = make(chan error, 1)
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

func (l *Ledger) write(ctx context.Context, do func(context.Context, *transaction) (refused, failed error)) error {
	return l.put(ctx, &write{do: do})
}

// patience is how long a booking may wait for a transaction to share.
const patience = 20 * time.Millisecond

// run is the only writer.
func (l *Ledger) run() {
	defer close(l.done)
	for {
		select {
		case w := <-l.writes:
			l.commit(l.gather(w))
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

// gather adds to a write what else is to be written now. Bookings alone, for
// which no token waits, wait a little for others.
func (l *Ledger) gather(w *write) []*write {
	batch := append(make([]*write, 0, 16), w)
	patient := w.booking != nil
	var timeout <-chan time.Time
	for len(batch) < maxBatch {
		select {
		case w := <-l.writes:
			batch = append(batch, w)
			patient = patient && w.booking != nil
			continue
		default:
		}
		if !patient {
			return batch
		}
		if timeout == nil {
			t := time.NewTimer(patience)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case w := <-l.writes:
			batch = append(batch, w)
			patient = w.booking != nil
		case <-timeout:
			patient = false
		case <-l.quit:
			patient = false
		}
	}
	return batch
}

const commitTimeout = 30 * time.Second

// commit applies a batch in one transaction. A write that is refused does not
// spoil the others; a store that fails fails them all. Vouchers go together,
// and bookings: nobody has been told yet that one came before the other.
func (l *Ledger) commit(batch []*write) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	results := make(map[*write]error, len(batch))
	err := func() error {
		begun, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer begun.Rollback()
		tx := &transaction{begun, l}
		if err := tx.own(ctx); err != nil {
			return err
		}
		var vouchers, bookings []*write
		for _, w := range batch {
			switch {
			case w.voucher != nil:
				vouchers = append(vouchers, w)
			case w.booking != nil:
				bookings = append(bookings, w)
			default:
				if results[w], err = w.do(ctx, tx); err != nil {
					return err
				}
			}
		}
		if len(vouchers) > 0 {
			if err := tx.putVouchers(ctx, vouchers, results); err != nil {
				return err
			}
		}
		if len(bookings) > 0 {
			if err := tx.book(ctx, bookings); err != nil {
				return err
			}
		}
		return tx.Commit()
	}()
	if errors.Is(err, ErrTaken) {
		select {
		case <-l.taken:
		default:
			close(l.taken)
		}
	}
	for _, w := range batch {
		if err != nil {
			w.err <- fmt.Errorf("ledger: not stored: %w", err)
		} else {
			w.err <- results[w]
		}
	}
}

// A transaction prepares each statement once in the ledger's life. A statement
// over many rows takes them as one parameter, a JSON array of arrays: ROWS in
// it unpacks the first.
type transaction struct {
	*sql.Tx
	l *Ledger
}

type rows [][]any

func (t *transaction) prepare(ctx context.Context, query string, args []any) (*sql.Stmt, error) {
	if len(args) > 0 {
		if r, ok := args[0].(rows); ok {
			b, err := json.Marshal(r)
			if err != nil {
				return nil, err
			}
			args[0] = string(b)
		}
	}
	s := t.l.statements[query]
	if s == nil {
		var err error
		if s, err = t.l.db.PrepareContext(ctx, strings.ReplaceAll(query, "ROWS", t.l.unpack)); err != nil {
			return nil, err
		}
		t.l.statements[query] = s
	}
	return t.StmtContext(ctx, s), nil
}

func (t *transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := t.prepare(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (t *transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := t.prepare(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// own fences off a process whose enclaves another has taken: it fails when that
// has happened, and keeps it from happening until the transaction ends.
func (t *transaction) own(ctx context.Context) error {
	if t.l.enclaves == 0 {
		return errors.New("this ledger is open for reading: nothing was taken")
	}
	list, err := t.QueryContext(ctx, `SELECT enclave FROM owners WHERE process = $1 ORDER BY enclave`+t.l.forShare, t.l.process)
	if err != nil {
		return err
	}
	defer list.Close()
	n := 0
	for list.Next() {
		n++
	}
	if err := list.Err(); err != nil {
		return err
	}
	if n != t.l.enclaves {
		return ErrTaken
	}
	return nil
}

// sorted is a set of values as rows, in one order: else two processes of a
// fleet would wait for each other's locks.
func sorted[V any](m map[string]V, row func(string, V) []any) rows {
	list := make(rows, 0, len(m))
	for k, v := range m {
		list = append(list, row(k, v))
	}
	slices.SortFunc(list, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	return list
}

func (t *transaction) putVouchers(ctx context.Context, batch []*write, results map[*write]error) error {
	highest := map[string]uint64{}
	for _, w := range batch {
		highest[w.voucher.address] = max(highest[w.voucher.address], w.voucher.total)
	}
	list, err := t.QueryContext(ctx, `SELECT address, authorised FROM channels WHERE address IN (SELECT value ->> 0 FROM ROWS)`,
		sorted(highest, func(address string, _ uint64) []any { return []any{address} }))
	if err != nil {
		return err
	}
	defer list.Close()
	authorised := map[string]uint64{}
	for list.Next() {
		var address string
		var total int64
		if err := list.Scan(&address, &total); err != nil {
			return err
		}
		authorised[address] = uint64(total)
	}
	if err := list.Err(); err != nil {
		return err
	}
	var keep rows
	for _, w := range batch {
		v := w.voucher
		if was, known := authorised[v.address]; !known {
			results[w] = ErrUnknown
		} else if v.total > was {
			keep = append(keep, []any{v.address, v.total, hex.EncodeToString(v.wire)})
			t.l.unpruned[v.address]++
		}
	}
	if len(keep) == 0 {
		return nil
	}
	if _, err := t.ExecContext(ctx, `UPDATE channels SET authorised = v.total
		FROM (SELECT value ->> 0 AS address, CAST(value ->> 1 AS BIGINT) AS total FROM ROWS) AS v
		WHERE channels.address = v.address AND channels.authorised < v.total`,
		sorted(highest, func(address string, total uint64) []any { return []any{address, total} })); err != nil {
		return err
	}
	if _, err := t.ExecContext(ctx, `INSERT INTO vouchers (address, total, voucher, at)
		SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, CAST($2 AS BIGINT) FROM ROWS WHERE true
		ON CONFLICT (address, total) DO NOTHING`, keep, t.l.now().Unix()); err != nil {
		return err
	}
	for address := range highest {
		if t.l.unpruned[address] < pruneEvery {
			continue
		}
		if err := t.prune(ctx, address); err != nil {
			return err
		}
		delete(t.l.unpruned, address)
	}
	return nil
}

// prune forgets vouchers that no claim needs any more.
func (t *transaction) prune(ctx context.Context, address string) error {
	_, err := t.ExecContext(ctx, `DELETE FROM vouchers WHERE address = $1 AND total < (SELECT MAX(total) FROM vouchers WHERE address = $1) AND (
		total < (SELECT MAX(total) FROM vouchers WHERE address = $1 AND total <= `+delivered+`)
		OR total > (SELECT total FROM vouchers WHERE address = $1 ORDER BY total LIMIT 1 OFFSET $2))`, address, maxVouchers)
	return err
}

// book applies bookings. Of a tab only its highest total matters.
func (t *transaction) book(ctx context.Context, batch []*write) error {
	last, answers := map[string]Tab{}, map[string]uint64{}
	var ended rows
	for _, w := range batch {
		b := w.booking
		if old, ok := last[b.key()]; !ok || b.Total > old.Total {
			last[b.key()] = b.Tab
		}
		answers[b.key()]++
		for _, id := range b.ended {
			ended = append(ended, []any{b.Channel, id})
		}
	}
	costs, err := t.grow(ctx, last)
	if err != nil {
		return err
	}
	for i, c := range costs {
		costs[i].answers = answers[c.tab.key()]
	}
	if err := t.spend(ctx, costs); err != nil || len(ended) == 0 {
		return err
	}
	return t.forget(ctx, ended)
}

func (t *Tab) key() string { return t.Channel + " " + t.Enclave + " " + t.ID }

// grow records the totals of tabs and returns by how much they have grown,
// those that have.
func (t *transaction) grow(ctx context.Context, tabs map[string]Tab) ([]cost, error) {
	channels := map[string]bool{}
	for _, tab := range tabs {
		channels[tab.Channel] = true
	}
	if err := t.lock(ctx, channels); err != nil {
		return nil, err
	}
	list, err := t.QueryContext(ctx, `SELECT address, enclave, tab, total FROM tabs
		WHERE (address, enclave, tab) IN (SELECT value ->> 1, value ->> 2, value ->> 3 FROM ROWS)`, sorted(tabs, tabRow))
	if err != nil {
		return nil, err
	}
	defer list.Close()
	booked := map[string]uint64{}
	for list.Next() {
		var b Tab
		var total int64
		if err := list.Scan(&b.Channel, &b.Enclave, &b.ID, &total); err != nil {
			return nil, err
		}
		booked[b.key()] = uint64(total)
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	var costs []cost
	for key, tab := range tabs {
		if tab.Total <= booked[key] {
			delete(tabs, key)
			continue
		}
		costs = append(costs, cost{tab: tab, nano: tab.Total - booked[key]})
	}
	if len(costs) == 0 {
		return nil, nil
	}
	_, err = t.ExecContext(ctx, `INSERT INTO tabs (address, enclave, tab, total)
		SELECT value ->> 1, value ->> 2, value ->> 3, CAST(value ->> 4 AS BIGINT) FROM ROWS WHERE true
		ON CONFLICT (address, enclave, tab) DO UPDATE SET total = excluded.total`, sorted(tabs, tabRow))
	return costs, err
}

func tabRow(key string, t Tab) []any { return []any{key, t.Channel, t.Enclave, t.ID, t.Total} }

// lock keeps the other processes of a fleet off channels whose costs are about
// to be read and written. SQLite has one writer anyway.
func (t *transaction) lock(ctx context.Context, channels map[string]bool) error {
	list, err := t.QueryContext(ctx, `SELECT address FROM channels WHERE address IN (SELECT value ->> 0 FROM ROWS) ORDER BY address`+t.l.forUpdate,
		sorted(channels, func(address string, _ bool) []any { return []any{address} }))
	if err != nil {
		return err
	}
	defer list.Close()
	for list.Next() {
	}
	return list.Err()
}

// A cost is what an enclave has earned from a channel.
type cost struct {
	tab           Tab
	nano, answers uint64
}

func (t *transaction) spend(ctx context.Context, costs []cost) error {
	channels, enclaves := map[string]cost{}, map[string]cost{}
	for _, c := range costs {
		ch, en := channels[c.tab.Channel], enclaves[c.tab.Enclave]
		channels[c.tab.Channel] = cost{nano: ch.nano + c.nano, answers: ch.answers + c.answers}
		enclaves[c.tab.Enclave] = cost{nano: en.nano + c.nano, answers: en.answers + c.answers}
	}
	if len(channels) == 0 {
		return nil
	}
	row := func(key string, c cost) []any { return []any{key, c.nano, c.answers} }
	r, err := t.ExecContext(ctx, `UPDATE channels SET spent = channels.spent + v.nano, answers = channels.answers + v.answers
		FROM (SELECT value ->> 0 AS address, CAST(value ->> 1 AS BIGINT) AS nano, CAST(value ->> 2 AS BIGINT) AS answers FROM ROWS) AS v
		WHERE channels.address = v.address`, sorted(channels, row))
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil {
		return err
	} else if n != int64(len(channels)) {
		return ErrUnknown // the host books only what it has admitted
	}
	_, err = t.ExecContext(ctx, `INSERT INTO earnings (day, enclave, answers, earned)
		SELECT CAST($2 AS BIGINT), value ->> 0, CAST(value ->> 2 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM ROWS WHERE true
		ON CONFLICT (day, enclave) DO UPDATE SET answers = earnings.answers + excluded.answers, earned = earnings.earned + excluded.earned`,
		sorted(enclaves, row), t.l.now().Unix()/86400)
	return err
}

// lose forgets running requests at what was last recorded of them, unless that
// may be booked already.
func (t *transaction) lose(ctx context.Context, where string, args ...any) (due uint64, err error) {
	list, err := t.QueryContext(ctx, `SELECT address, stream, enclave, CASE WHEN `+unbooked+` THEN cost ELSE 0 END FROM streams WHERE `+where, args...)
	if err != nil {
		return 0, err
	}
	defer list.Close()
	var costs []cost
	var gone rows
	for list.Next() {
		var c cost
		var id string
		var nano int64
		if err := list.Scan(&c.tab.Channel, &id, &c.tab.Enclave, &nano); err != nil {
			return 0, err
		}
		c.nano, c.answers = uint64(nano), 1
		due += c.nano
		costs, gone = append(costs, c), append(gone, []any{c.tab.Channel, id})
	}
	if err := list.Err(); err != nil || len(gone) == 0 {
		return 0, err
	}
	if err := t.spend(ctx, costs); err != nil {
		return 0, err
	}
	return due, t.forget(ctx, gone)
}

func (t *transaction) forget(ctx context.Context, streams rows) error {
	_, err := t.ExecContext(ctx, `DELETE FROM streams WHERE (address, stream) IN (SELECT value ->> 0, value ->> 1 FROM ROWS)`, streams)
	return err
}
