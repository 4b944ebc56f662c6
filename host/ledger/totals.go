package ledger

import (
	"context"
	"fmt"
	"time"
)

// Totals sums the ledger up. Amounts are nanogram.
type Totals struct {
	Open       uint64  // channels
	Unsettled  uint64  // channels of which an earlier process may have left costs
	Authorised float64 // by the highest vouchers of open channels: clients may sign for more than there is
	Spent      uint64  // by ended requests, on all channels
	Claimed    uint64  // on all channels
	Unclaimed  uint64  // spent on open channels and not claimed
	AtRisk     uint64  // of that what no voucher covers, and all of it on channels that end before the given time
	Lost       uint64  // spent on closed channels and never claimed
}

// Totals sums up all channels; AtRisk is what a provider may not get unless a
// claim takes effect before the given time.
func (l *Ledger) Totals(ctx context.Context, before time.Time) (t Totals, err error) {
	const due = `CASE WHEN spent > claimed THEN spent - claimed ELSE 0 END`
	var n [7]int64
	err = l.db.QueryRowContext(ctx, `SELECT
		CAST(COALESCE(SUM(CASE WHEN closed_at = 0 THEN 1 ELSE 0 END), 0) AS BIGINT),
		(SELECT COUNT(DISTINCT address) FROM unsettled),
		COALESCE(SUM(CASE WHEN closed_at = 0 THEN CAST(authorised AS DOUBLE PRECISION) ELSE 0 END), 0),
		CAST(COALESCE(SUM(spent), 0) AS BIGINT),
		CAST(COALESCE(SUM(claimed), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN closed_at = 0 THEN `+due+` ELSE 0 END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN closed_at <> 0 THEN 0 WHEN deadline > 0 AND deadline < $1 THEN `+due+` WHEN spent > authorised THEN spent - authorised ELSE 0 END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN closed_at <> 0 THEN `+due+` ELSE 0 END), 0) AS BIGINT)
		FROM channels`, before.Unix()).Scan(&n[0], &n[1], &t.Authorised, &n[2], &n[3], &n[4], &n[5], &n[6])
	if err != nil {
		return Totals{}, fmt.Errorf("ledger: %w", err)
	}
	for i, to := range []*uint64{&t.Open, &t.Unsettled, &t.Spent, &t.Claimed, &t.Unclaimed, &t.AtRisk, &t.Lost} {
		*to = uint64(n[i])
	}
	return t, nil
}

// MostUnclaimed returns so many open channels, those first of which the most is
// spent and not claimed.
func (l *Ledger) MostUnclaimed(ctx context.Context, most int) ([]*Channel, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT `+columns+` FROM channels WHERE closed_at = 0 ORDER BY spent - claimed DESC, address LIMIT $1`, most)
	return scan(rows, err)
}

// OnCommit has f told of every transaction of writes: how long it took, how many
// writes shared it, and why it failed if it did. Set it before Take.
func (l *Ledger) OnCommit(f func(took time.Duration, writes int, err error)) { l.committed = f }
