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

// A write is a voucher, a booking, a hold, or any other: do. What do returns
// first refuses this write, before it changed a row; what it returns second is
// the store's failure. A write that names a channel which is not there is
// refused, but for one that adds it.
type write struct {
	channels []string // all of which it touches a row
	adds     bool
	voucher  *voucher
	booking  *booking
	hold     *hold
	do       func(context.Context, *transaction) (refused, failed error)
	err      chan error
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

type hold struct{ row *Channel }

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

// write is one that concerns a channel, or none.
func (l *Ledger) write(ctx context.Context, channel string, do func(context.Context, *transaction) (refused, failed error)) error {
	w := &write{do: do}
	if channel != "" {
		w.channels = []string{channel}
	}
	return l.put(ctx, w)
}

// patience is how long a booking may wait for a transaction to share.
const patience = 20 * time.Millisecond

// run is the only writer.
func (l *Ledger) run() {
	defer close(l.done)
	tick := time.NewTicker(leaseRenewed)
	defer tick.Stop()
	for {
		select {
		case w := <-l.writes:
			l.commit(l.gather(w))
		case <-tick.C:
			if l.lease.Load() != nil {
				l.renewed = time.Time{}
				l.commit(nil)
			}
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
// spoil the others; a store that fails fails them all. Holds go together, and
// vouchers, and bookings, and the rest in the order of its channels: nobody has
// been told yet that one came before the other.
func (l *Ledger) commit(batch []*write) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	results := make(map[*write]error, len(batch))
	began := l.now()
	renew, lapsed := began.Sub(l.renewed) >= leaseRenewed, false
	err := func() error {
		begun, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer begun.Rollback()
		tx := &transaction{Tx: begun, l: l}
		if lapsed, err = tx.own(ctx, renew); err != nil {
			return err
		}
		if err := tx.lock(ctx, batch); err != nil {
			return err
		}
		var others, holds, vouchers, bookings []*write
		for _, w := range batch {
			switch {
			case !w.adds && !tx.knows(w.channels):
				results[w] = ErrUnknown
			case w.voucher != nil:
				vouchers = append(vouchers, w)
			case w.booking != nil:
				bookings = append(bookings, w)
			case w.hold != nil:
				holds = append(holds, w)
			default:
				others = append(others, w)
			}
		}
		slices.SortStableFunc(others, func(a, b *write) int { return slices.Compare(a.channels, b.channels) })
		for _, w := range others {
			if results[w], err = w.do(ctx, tx); err != nil {
				return err
			}
		}
		for _, together := range []struct {
			batch []*write
			do    func(context.Context, []*write, map[*write]error) error
		}{{vouchers, tx.putVouchers}, {bookings, tx.book}, {holds, tx.hold}} { // holds read what the others write
			if len(together.batch) > 0 {
				if err := together.do(ctx, together.batch, results); err != nil {
					return err
				}
			}
		}
		return tx.Commit()
	}()
	l.committed(l.now().Sub(began), len(batch), err)
	switch {
	case errors.Is(err, ErrTaken):
		l.lease.Store(nil)
		select {
		case <-l.taken:
		default:
			close(l.taken)
		}
	case err == nil && renew:
		number := l.lease.Load().number
		if lapsed || l.Lease() == 0 {
			number++ // meanwhile others may have held what this process did
		}
		l.lease.Store(&lease{number, began.Add(leaseFor)})
		l.renewed = began
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
	l      *Ledger
	locked map[string]locked // channels of the batch that are there
}

// locked is what a channel's row said when it was locked.
type locked struct {
	authorised uint64
	process    string
}

type rows [][]any

func column(values []string) (r rows) {
	for _, v := range values {
		r = append(r, []any{v})
	}
	return r
}

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

// strings returns a statement's only column.
func (t *transaction) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	return only[string](t.QueryContext(ctx, query, args...))
}

// only returns the only column of what a query found.
func only[V any](rows *sql.Rows, err error) (list []V, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v V
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// own fences off a process whose enclaves another has taken: it fails when that
// has happened, and keeps it from happening until the transaction ends. With
// renew it also says that this process lives, and whether the others may have
// missed it: by their clock, for in a machine that was suspended all others may
// have stood still.
func (t *transaction) own(ctx context.Context, renew bool) (lapsed bool, err error) {
	if t.l.enclaves == 0 {
		return false, errors.New("this ledger is open for reading: nothing was taken")
	}
	how := t.l.forShare
	if renew {
		how = t.l.forUpdate
	}
	silent, err := only[int64](t.QueryContext(ctx, `SELECT `+t.l.clock+` - alive FROM owners WHERE process = $1 ORDER BY enclave`+how, t.l.process))
	if err != nil {
		return false, err
	}
	if len(silent) != t.l.enclaves {
		return false, ErrTaken
	}
	if renew {
		_, err = t.ExecContext(ctx, `UPDATE owners SET alive = `+t.l.clock+` WHERE process = $1`, t.l.process)
	}
	return slices.Max(silent) >= int64(leaseFor/time.Second), err
}

// lock keeps the other processes of a fleet off all channels of a batch, before
// any is read or written, in one order: else two processes would wait for each
// other, and the database would end one of them with everything in its batch.
// SQLite has one writer anyway.
func (t *transaction) lock(ctx context.Context, batch []*write) error {
	addresses := map[string]bool{}
	for _, w := range batch {
		for _, address := range w.channels {
			addresses[address] = true
		}
	}
	t.locked = make(map[string]locked, len(addresses))
	if len(addresses) == 0 {
		return nil
	}
	list, err := t.QueryContext(ctx, `SELECT address, authorised, process FROM channels WHERE address IN (SELECT value ->> 0 FROM ROWS) ORDER BY address`+t.l.forUpdate,
		sorted(addresses, func(address string, _ bool) []any { return []any{address} }))
	if err != nil {
		return err
	}
	defer list.Close()
	for list.Next() {
		var address string
		var authorised int64
		var c locked
		if err := list.Scan(&address, &authorised, &c.process); err != nil {
			return err
		}
		c.authorised = uint64(authorised)
		t.locked[address] = c
	}
	return list.Err()
}

func (t *transaction) knows(addresses []string) bool {
	for _, address := range addresses {
		if _, ok := t.locked[address]; !ok {
			return false
		}
	}
	return true
}

// hold takes channels that no living process holds, or has to settle.
func (t *transaction) hold(ctx context.Context, batch []*write, results map[*write]error) error {
	granted := map[string]*Channel{}
	addresses := func() rows { return sorted(granted, func(address string, _ *Channel) []any { return []any{address} }) }
	for _, w := range batch {
		granted[w.channels[0]] = nil
	}
	// One that is taken over stops living when what it left begins to be
	// unsettled: whoever sees the first must see the second.
	living, err := t.strings(ctx, `SELECT process FROM owners WHERE alive > `+t.l.clock+` - CAST($1 AS BIGINT)`, int64(leaseGone/time.Second))
	if err != nil {
		return err
	}
	unsettled, err := t.strings(ctx, `SELECT unsettled.address FROM unsettled JOIN owners ON owners.enclave = unsettled.enclave
		WHERE unsettled.address IN (SELECT value ->> 0 FROM ROWS) AND owners.process <> $2 AND owners.alive > `+t.l.clock+` - CAST($3 AS BIGINT)`,
		addresses(), t.l.process, int64(leaseGone/time.Second))
	if err != nil {
		return err
	}
	for _, w := range batch {
		address := w.channels[0]
		process := t.locked[address].process
		if process != t.l.process && (slices.Contains(living, process) || slices.Contains(unsettled, address)) {
			results[w] = ErrHeld
			delete(granted, address)
		}
	}
	if len(granted) == 0 {
		return nil
	}
	if _, err := t.ExecContext(ctx, `UPDATE channels SET process = $2 WHERE process <> $2 AND address IN (SELECT value ->> 0 FROM ROWS)`, addresses(), t.l.process); err != nil {
		return err
	}
	found, err := t.QueryContext(ctx, `SELECT `+columns+` FROM channels WHERE address IN (SELECT value ->> 0 FROM ROWS)`, addresses())
	list, err := scan(found, err)
	if err != nil {
		return err
	}
	for _, c := range list {
		granted[c.Address] = c
	}
	left, err := t.QueryContext(ctx, `SELECT address, CAST(SUM(cost) AS BIGINT) FROM streams
		WHERE address IN (SELECT value ->> 0 FROM ROWS) AND enclave NOT IN (SELECT enclave FROM owners WHERE process = $2) GROUP BY address`, addresses(), t.l.process)
	if err != nil {
		return err
	}
	defer left.Close()
	for left.Next() {
		var address string
		var cost int64
		if err := left.Scan(&address, &cost); err != nil {
			return err
		}
		granted[address].Spent += uint64(cost)
	}
	for _, w := range batch {
		if results[w] == nil {
			w.hold.row = granted[w.channels[0]]
		}
	}
	return left.Err()
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
	var keep rows
	for _, w := range batch {
		v := w.voucher
		if v.total > t.locked[v.address].authorised {
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
func (t *transaction) book(ctx context.Context, batch []*write, _ map[*write]error) error {
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
	_, err := t.ExecContext(ctx, `UPDATE channels SET spent = channels.spent + v.nano, answers = channels.answers + v.answers
		FROM (SELECT value ->> 0 AS address, CAST(value ->> 1 AS BIGINT) AS nano, CAST(value ->> 2 AS BIGINT) AS answers FROM ROWS) AS v
		WHERE channels.address = v.address`, sorted(channels, row))
	if err != nil {
		return err
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
