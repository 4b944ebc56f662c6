package host

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

const (
	tokenLifetime = time.Hour
	maxTokens     = 1 << 16 // sessions in memory
	maxSessions   = 64      // of one channel: a new one ends the oldest
	maxStreams    = 512     // of one channel at once, an eighth of what an enclave serves
	maxAccounts   = 1 << 16 // channels in memory
	chainFresh    = 30 * time.Second
)

// An account is a channel in use: its ledger row and its reservations, in
// memory.
type account struct {
	address channel.Address
	name    string
	key     [32]byte

	loading sync.Mutex // held while it is taken, loaded or let go, and while what an earlier process left is booked
	refused time.Time  // when another process held it; loading guards it

	tokens [][32]byte // of its sessions, the oldest first; accounts' lock guards them

	mu         sync.Mutex
	held       uint64          // the lease under which this process alone serves it, and what follows is true; 0 when it may not be
	kept       bool            // the ledger may say that this process holds it
	stale      bool            // the ledger may have booked what spent lacks
	used       time.Time       // when somebody last wanted to use it
	abandoned  bool            // a cost is left to the next process
	resumed    map[string]bool // enclaves at which nothing is left of an earlier process
	authorised uint64          // total of the highest durable voucher
	spent      uint64          // of ended requests
	reserved   uint64          // allotments of running ones
	streams    map[string]*admission
	recording  int // ended requests on their way to the ledger
	chain      OnChain
	seen       time.Time // when chain was read
	until      time.Time // end of the last token
	closed     bool      // by agreement, or about to be
	closing    time.Time // until then an agreement that was sent may close it
}

// An admission is one running request's part of an account.
type admission struct {
	allot   uint64
	enclave *upstream
	cost    uint64 // as the enclave last said while it ran

	books sync.Mutex // held while the ledger writes of it; guards what follows
	kept  bool       // the ledger knows of it
	ended bool       // it is over: the ledger learns nothing more of it
}

// covered is the part of the vouchers that the deposit covers.
func (a *account) covered() uint64 {
	most := a.chain.Paid
	if a.chain.Balance > channel.Reserve {
		most += a.chain.Balance - channel.Reserve
	}
	return min(a.authorised, most)
}

// admit reserves allot for a stream, or raises its reservation to allot.
func (a *account) admit(id string, allot uint64, to *upstream, now time.Time) *apierror.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.streams[id]
	held := uint64(0)
	switch {
	case to == nil && s == nil:
		return apierror.New(404, "unknown_stream", "no such stream runs", "")
	case to != nil && s != nil:
		return apierror.New(409, "duplicate_stream", "a stream with this Bombyx-Stream runs already", "choose a random one")
	case s != nil:
		if held = s.allot; allot <= held {
			return nil
		}
	}
	if a.closed || now.Before(a.closing) {
		return errClosing
	}
	if a.held == 0 || a.stale {
		return errHeld
	}
	if s == nil && len(a.streams) >= maxStreams {
		return apierror.New(429, "busy", fmt.Sprintf("%d requests run on this channel, as many as one may", maxStreams), "let some end first")
	}
	used := a.spent + a.reserved - held
	if free := a.covered(); used > free || free-used < allot {
		return apierror.New(402, "insufficient_credit",
			fmt.Sprintf("the channel has authorised %d nanogram (%d covered by its deposit), spent %d and reserved %d; the request wants %d",
				a.authorised, free, a.spent, a.reserved-held, allot), "send a higher voucher, or top up the channel")
	}
	a.reserved += allot - held
	if s == nil {
		s = &admission{enclave: to}
		a.streams[id] = s
	}
	s.allot = allot
	return nil
}

var errClosing = apierror.New(403, "unsuitable_channel", "the channel is closing", "open another")

// running returns a running stream, nil if there is none.
func (a *account) running(id string) *admission {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.streams[id]
}

// note takes what the enclave says of a running stream's cost.
func (a *account) note(id string, s *admission, cost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams[id] == s {
		s.cost = max(s.cost, cost)
	}
}

// settle ends a stream. Its cost is never more than its reservation. Nil is a
// cost that the enclave cannot tell, or not now: then its last word counts.
func (a *account) settle(id string, cost *uint64) *admission {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.streams[id]
	delete(a.streams, id)
	if cost != nil {
		s.cost = *cost // less than it said before, if the engine found its prompt cached
	}
	a.reserved -= s.allot
	a.spent += min(s.cost, s.allot)
	a.recording++
	return s
}

// correct takes a cost that the enclave could tell only later.
func (a *account) correct(s *admission, cost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spent = a.spent - min(s.cost, s.allot) + min(cost, s.allot)
	s.cost = cost
}

type balances struct {
	Authorised uint64 `json:"authorised"`
	Spent      uint64 `json:"spent"`
	Reserved   uint64 `json:"reserved"`
}

func (a *account) balances() balances {
	a.mu.Lock()
	defer a.mu.Unlock()
	return balances{a.authorised, a.spent, a.reserved}
}

// accounts holds sessions and the accounts that they are on.
type accounts struct {
	most int // accounts

	mu     sync.Mutex
	open   map[string]*account
	tokens map[[32]byte]token // by SHA-256, so that a look-up leaks no token through time
}

type token struct {
	account *account
	until   time.Time
}

var errTooManySessions = apierror.New(503, "busy", "the host serves as many sessions as it can", "try again later")

func (s *accounts) issue(a *account, now time.Time) (string, *apierror.Error) {
	var raw [32]byte
	rand.Read(raw[:])
	t := base64.RawURLEncoding.EncodeToString(raw[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[a.name] != a { // forgotten while it was being loaded: another may be in its place
		return "", errTooManySessions
	}
	if len(s.tokens) >= maxTokens {
		for k, v := range s.tokens {
			if !now.Before(v.until) {
				delete(s.tokens, k)
			}
		}
		if len(s.tokens) >= maxTokens {
			return "", errTooManySessions
		}
	}
	until := now.Add(tokenLifetime)
	digest := sha256.Sum256([]byte(t))
	s.tokens[digest] = token{a, until}
	if a.tokens = append(a.tokens, digest); len(a.tokens) > maxSessions {
		delete(s.tokens, a.tokens[0])
		a.tokens = a.tokens[1:]
	}
	a.mu.Lock()
	a.until = until
	a.mu.Unlock()
	return t, nil
}

// get returns a channel's account, making one where there is none. It forgets
// accounts that nobody uses when there are too many, and nil means that there
// are none.
func (s *accounts) get(name string, address channel.Address, now time.Time) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.open[name]
	if a == nil && len(s.open) >= s.most {
		for k, old := range s.open {
			if old.idle(now) {
				delete(s.open, k)
			}
		}
		if len(s.open) >= s.most {
			return nil
		}
	}
	if a == nil {
		a = &account{address: address, name: name, until: now.Add(time.Minute), streams: map[string]*admission{}, resumed: map[string]bool{}}
		s.open[name] = a
	}
	return a
}

// idle says that nobody needs an account, and that the ledger knows as much.
func (a *account) idle(now time.Time) bool {
	if !a.loading.TryLock() {
		return false
	}
	defer a.loading.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.kept && a.booked() && !now.Before(a.until)
}

// booked says that all there is to know of an account is in the ledger. The
// caller holds a.mu.
func (a *account) booked() bool {
	return len(a.streams) == 0 && a.recording == 0 && !a.closed && !a.abandoned
}

func (s *accounts) find(t string, now time.Time) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.tokens[sha256.Sum256([]byte(t))]
	if !ok || !now.Before(k.until) {
		return nil
	}
	return k.account
}

// openSession verifies a session request of a peer and returns its account. The
// chain is asked last: whatever can be told without it is.
func (h *Host) openSession(ctx context.Context, body []byte, peer netip.Prefix) (*account, *apierror.Error) {
	req, err := session.Verify(body, h.key, h.cfg.Now())
	if errors.Is(err, session.ErrMalformed) {
		return nil, apierror.New(400, "malformed_session", "the body is not a session request", "see docs/protocol.md")
	} else if err != nil {
		return nil, apierror.New(403, "bad_session", err.Error(), "sign with the channel's key for this host")
	}
	if fault := h.refuseTerms(req.Terms); fault != nil {
		return nil, fault
	}
	address := req.Terms.Address()
	name := address.Raw()
	row, err := h.cfg.Ledger.Channel(ctx, name)
	if err != nil && !errors.Is(err, ledger.ErrUnknown) {
		return nil, h.ledgerFault(err)
	}
	on, fault := h.readChannel(ctx, address, reader{stranger: row == nil || row.Closed, peer: peer})
	if fault != nil {
		return nil, fault
	}
	if err := h.cfg.Ledger.AddChannel(ctx, name, ed25519.PublicKey(on.ClientKey[:])); err != nil {
		return nil, h.ledgerFault(err)
	}
	if err := h.cfg.Ledger.BeginSession(ctx, name, req.Time); errors.Is(err, ledger.ErrStale) {
		return nil, apierror.New(403, "stale_session", "this session request is not newer than the channel's last", "sign a new one")
	} else if err != nil {
		return nil, h.ledgerFault(err)
	}
	a := h.accounts.get(name, address, h.cfg.Now())
	if a == nil {
		return nil, errTooManySessions
	}
	if fault := h.hold(ctx, a); fault != nil {
		return nil, fault
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chain, a.seen = *on, h.cfg.Now()
	return a, nil
}

// readChannel reads a channel from the chain and refuses one that would not
// pay this host.
func (h *Host) readChannel(ctx context.Context, address channel.Address, by reader) (*OnChain, *apierror.Error) {
	on, err := h.reads.read(ctx, address, by)
	var fault *apierror.Error
	if errors.As(err, &fault) {
		return nil, fault
	} else if errors.Is(err, ErrNoChannel) {
		return nil, apierror.New(404, "unknown_channel", "there is no channel at "+address.Raw(), "open one, and wait until it is in a block").After(readAgain)
	} else if err != nil {
		h.cfg.Log.Error("chain does not answer", "err", err)
		return nil, apierror.New(503, "chain_down", "the host cannot read the chain", "try again, or another host")
	}
	if on.Closing() {
		return nil, unsuitable("is closing", "open another")
	}
	if fault := h.refuseTerms(on.Params); fault != nil {
		return nil, fault
	}
	if on.Balance+on.Paid+channel.Reserve < h.cfg.MinDeposit { // fees and rent come out of the reserve
		return nil, unsuitable(fmt.Sprintf("holds less than %d nanogram", h.cfg.MinDeposit), "top it up")
	}
	return on, nil
}

func unsuitable(why, hint string) *apierror.Error {
	return apierror.New(403, "unsuitable_channel", "the channel "+why, hint)
}

// refuseTerms refuses a channel whose terms would not pay this host.
func (h *Host) refuseTerms(p channel.Params) *apierror.Error {
	end := time.Unix(int64(p.ExpiresAt), 0)
	switch {
	case p.Payee != h.cfg.Payee:
		return unsuitable("pays another payee", "open one for this host's payee")
	case time.Duration(p.CloseDelay)*time.Second < h.cfg.ClosingDelay:
		return unsuitable(fmt.Sprintf("closes within %d s, and this host needs %s to claim", p.CloseDelay, h.cfg.ClosingDelay), "open one with a longer delay")
	case end.Sub(h.cfg.Now()) < h.cfg.ClosingDelay:
		return unsuitable("ends at "+end.UTC().Format(time.RFC3339), "open another")
	}
	return nil
}

// refresh reads an account's channel again when what is known is old. The
// requests that are running go on meanwhile.
func (h *Host) refresh(ctx context.Context, a *account) *apierror.Error {
	a.mu.Lock()
	if h.cfg.Now().Sub(a.seen) < chainFresh {
		a.mu.Unlock()
		return nil
	}
	a.seen = h.cfg.Now() // others need not wait for this read
	a.mu.Unlock()
	on, fault := h.readChannel(ctx, a.address, reader{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if fault != nil {
		a.seen = time.Time{}
		if fault.Status == 503 {
			return fault
		}
		a.chain = OnChain{} // covers nothing from now on
		return fault
	}
	a.chain = *on
	return nil
}

// putVoucher verifies a voucher and makes it durable; only then does it count.
func (h *Host) putVoucher(ctx context.Context, a *account, wire []byte) *apierror.Error {
	v, err := channel.ParseVoucher(wire)
	if err == nil && v.Total > math.MaxInt64 { // as ledgers count
		err = fmt.Errorf("the total of %d nanogram is out of range", v.Total)
	}
	if err != nil {
		return apierror.New(400, "malformed_voucher", err.Error(), "see docs/protocol.md")
	}
	if v.GlobalID != h.cfg.Network || v.Channel != a.address {
		return apierror.New(403, "wrong_voucher", "the voucher is for another channel or network", "sign one for this channel")
	}
	if err := v.Verify(a.key); err != nil {
		return apierror.New(403, "bad_signature", "the voucher is not signed by the channel's key", "sign it again")
	}
	a.mu.Lock()
	known := v.Total <= a.authorised
	a.mu.Unlock()
	if known {
		return nil
	}
	if err := h.cfg.Ledger.PutVoucher(ctx, a.name, v.Total, wire); err != nil {
		return h.ledgerFault(err)
	}
	a.mu.Lock()
	a.authorised = max(a.authorised, v.Total)
	a.mu.Unlock()
	return nil
}

func (h *Host) ledgerFault(err error) *apierror.Error {
	h.cfg.Log.Error("ledger failed", "err", err)
	return apierror.New(503, "ledger_down", "the host cannot keep its books", "try again, or another host")
}

func setBalances(set func(k, v string), b balances) {
	set("Bombyx-Authorised", strconv.FormatUint(b.Authorised, 10))
	set("Bombyx-Spent", strconv.FormatUint(b.Spent, 10))
	set("Bombyx-Reserved", strconv.FormatUint(b.Reserved, 10))
}
