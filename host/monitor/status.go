package monitor

import (
	"context"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
)

const (
	lookAgain  = 2 * time.Second // after which enclaves, chain and ledger are asked anew
	lookWithin = 5 * time.Second
	chartDays  = 30
	mostShown  = 50 // channels
)

// Status is GET /status.json. Amounts are nanogram.
type Status struct {
	Time      time.Time         `json:"time"`
	Began     time.Time         `json:"began"`    // this process
	Earned    *Earned           `json:"earned"`   // null while the ledger does not answer
	Money     *Money            `json:"money"`    // likewise
	Channels  []Channel         `json:"channels"` // those open with the most to claim; likewise
	Ledger    string            `json:"ledger"`   // why it does not answer
	Enclaves  []Enclave         `json:"enclaves"`
	Sessions  int               `json:"sessions"`
	Answers   map[string]uint64 `json:"answers"` // of this process: see docs/operating.md
	Refused   map[string]uint64 `json:"refused"` // by this process, by code; those that occurred
	Claims    map[string]uint64 `json:"claims"`  // by this process
	LastClaim *time.Time        `json:"last_claim"`
	Chain     Chain             `json:"chain"`
	Balances  []Balance         `json:"balances"`
	Problems  []Entry           `json:"problems"` // the newest first
}

// Earned is what the ledger's enclaves earned.
type Earned struct {
	Today uint64 `json:"today"` // since midnight UTC
	Week  uint64 `json:"week"`  // today and the six days before
	All   uint64 `json:"all"`
	Days  []Day  `json:"days"` // the last thirty, today last

	today, all map[string]uint64 // by enclave
}

// Day is one of them.
type Day struct {
	Day     string `json:"day"` // 2006-01-02
	Answers uint64 `json:"answers"`
	Earned  uint64 `json:"earned"`
}

// Money is the sum of the ledger.
type Money struct {
	Open       uint64  `json:"open_channels"`
	Unsettled  uint64  `json:"unsettled_channels"`
	Authorised float64 `json:"authorised"`
	Reserved   uint64  `json:"reserved"`
	Claimed    uint64  `json:"claimed"`
	Unclaimed  uint64  `json:"unclaimed"`
	AtRisk     uint64  `json:"at_risk"`
	Lost       uint64  `json:"lost"`
}

// Channel is one of the ledger's.
type Channel struct {
	Address    string     `json:"address"`
	State      string     `json:"state"` // open, closing, ending or ended
	Authorised uint64     `json:"authorised"`
	Spent      uint64     `json:"spent"`
	Claimed    uint64     `json:"claimed"`
	Answers    uint64     `json:"answers"`
	Running    int        `json:"running"`
	Deadline   *time.Time `json:"deadline"` // null before the first look at the chain
}

// Enclave is one of the configuration's.
type Enclave struct {
	ID       string `json:"id"`
	Up       bool   `json:"up"`
	Error    string `json:"error"`
	Running  int    `json:"running"`
	Drained  bool   `json:"drained"`
	Today    uint64 `json:"earned_today"`
	All      uint64 `json:"earned"`
	Evidence uint64 `json:"evidence_requests"`
	Failed   uint64 `json:"evidence_errors"`
}

// Chain is what is known of TON.
type Chain struct {
	Up    bool       `json:"up"`
	Error string     `json:"error"`
	Block uint32     `json:"block"` // newest masterchain block, if up
	Time  *time.Time `json:"time"`  // of the newest block seen
}

// Balance is what an account holds.
type Balance struct {
	Role    string `json:"role"`
	Address string `json:"address"`
	Balance uint64 `json:"balance"`
	Error   string `json:"error"`
}

// A look is what ledger, enclaves and chain said when they were last asked.
type look struct {
	at       time.Time
	totals   ledger.Totals
	earned   *Earned
	channels []*ledger.Channel
	err      error   // of the ledger
	health   []error // of the enclaves
	block    uint32
	chain    error
	balances []Balance
}

type watch struct {
	Config

	mu   sync.Mutex // held while it looks: others wait for what comes of it
	last *look
}

// look asks all at once, but not again at once.
func (w *watch) look() *look {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.Now()
	if w.last != nil && now.Sub(w.last.at).Abs() < lookAgain {
		return w.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookWithin) // no one reader's
	defer cancel()
	l := &look{at: now}
	var all sync.WaitGroup
	all.Go(func() {
		if l.totals, l.err = w.Ledger.Totals(ctx, now.Add(w.Margin)); l.err != nil {
			return
		}
		var list []ledger.Earning
		if list, l.err = w.Ledger.Earnings(ctx, time.Unix(0, 0)); l.err != nil {
			return
		}
		l.earned = earned(list, now.UTC())
		l.channels, l.err = w.Ledger.MostUnclaimed(ctx, mostShown)
	})
	all.Go(func() { l.health = w.Host.Health(ctx) })
	all.Go(func() {
		block, err := w.Host.Newest(ctx)
		l.block, l.chain = block.Seqno, err
	})
	l.balances = make([]Balance, len(w.Accounts))
	for i, a := range w.Accounts {
		all.Go(func() {
			n, err := w.Config.Balance(ctx, a.Address)
			l.balances[i] = Balance{a.Role, a.Address.String(), n, text(err)}
		})
	}
	all.Wait()
	w.last = l
	return l
}

func (w *watch) status() *Status {
	l, s := w.look(), w.Host.Stats()
	now := w.Now().UTC()
	out := &Status{Time: now, Began: s.Began.UTC(), Enclaves: []Enclave{}, Channels: []Channel{}, Sessions: s.Sessions, Answers: s.Answers, Refused: map[string]uint64{},
		Claims: s.Claims, LastClaim: known(s.LastClaim), Chain: Chain{Up: l.chain == nil, Error: text(l.chain), Block: l.block, Time: known(s.LastBlock)},
		Balances: l.balances, Problems: w.Journal.recent(), Ledger: text(l.err)}
	for code, n := range s.Refused {
		if n > 0 {
			out.Refused[code] = n
		}
	}
	for i, e := range s.Enclaves {
		out.Enclaves = append(out.Enclaves, Enclave{ID: e.ID, Up: l.health[i] == nil, Error: text(l.health[i]), Running: e.Running, Drained: e.Drained, Evidence: e.Evidence.Made, Failed: e.Evidence.Failed})
	}
	if l.err != nil {
		return out
	}
	out.Earned = l.earned
	for i := range out.Enclaves {
		e := &out.Enclaves[i]
		e.Today, e.All = l.earned.today[e.ID], l.earned.all[e.ID]
	}
	t := l.totals
	out.Money = &Money{t.Open, t.Unsettled, t.Authorised, s.Reserved, t.Claimed, t.Unclaimed, t.AtRisk, t.Lost}
	for _, c := range l.channels {
		out.Channels = append(out.Channels, Channel{c.Address, state(c, now, w.Margin), c.Authorised, c.Spent, c.Claimed, c.Answers, w.Host.Running(c.Address), deadline(c)})
	}
	return out
}

// earned sums up days.
func earned(list []ledger.Earning, now time.Time) *Earned {
	today := now.Truncate(24 * time.Hour)
	e := &Earned{today: map[string]uint64{}, all: map[string]uint64{}}
	days := map[string]*Day{}
	for n := chartDays - 1; n >= 0; n-- {
		e.Days = append(e.Days, Day{Day: today.AddDate(0, 0, -n).Format(time.DateOnly)})
	}
	for i := range e.Days {
		days[e.Days[i].Day] = &e.Days[i]
	}
	for _, x := range list {
		e.All += x.Earned
		e.all[x.Enclave] += x.Earned
		if !x.Day.Before(today.AddDate(0, 0, -6)) {
			e.Week += x.Earned
		}
		if x.Day.Equal(today) {
			e.Today += x.Earned
			e.today[x.Enclave] += x.Earned
		}
		if d := days[x.Day.Format(time.DateOnly)]; d != nil {
			d.Answers += x.Answers
			d.Earned += x.Earned
		}
	}
	return e
}

func state(c *ledger.Channel, now time.Time, margin time.Duration) string {
	end := deadline(c)
	switch {
	case end != nil && !now.Before(*end):
		return "ended"
	case now.Before(c.Closing):
		return "closing"
	case end != nil && end.Sub(now) <= margin:
		return "ending"
	}
	return "open"
}

func deadline(c *ledger.Channel) *time.Time {
	if c.Deadline.Unix() <= 0 {
		return nil
	}
	at := c.Deadline.UTC()
	return &at
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
