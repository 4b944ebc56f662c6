package client

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// Payment is the channel that a Transport pays from, and what is known of it.
// Amounts are nanogram.
type Payment struct {
	Network int32 // TON global id
	Channel channel.Params
	Key     ed25519.PrivateKey // signs vouchers; its public key is the channel's
	Deposit uint64             // vouchers never promise more than this

	// State is where an earlier Transport left off; its zero value is a fresh
	// channel.
	State PaymentState
	// Save records progress. It is called often, in order, from one goroutine
	// at a time, and not waited for by answers; receipt is empty when none came
	// with it. Nil keeps no record: then every start of the client puts another
	// limit at risk.
	Save func(s PaymentState, receipt string)
	// Flush returns once all that was saved survives a crash. No voucher leaves
	// before that: what the record lacks could be taken again. Nil where Save
	// is, or where Save itself waits.
	Flush func() error
}

// PaymentState is the progress of a channel.
type PaymentState struct {
	Signed  uint64   // total of the highest voucher
	Settled uint64   // delivered: the costs on receipts and, without one, the enclave's last word
	Head    [32]byte // of the receipts' hash chain
}

// A purse pays for concurrent requests from one channel, within one limit: it
// never signs for more than that beyond what was delivered. The limit is the
// window, or what one request needs where that is more; it then runs alone.
// What runs shares it with what was lost before, and nothing that a host says
// makes it larger.
type purse struct {
	t       *Transport
	p       Payment
	address channel.Address
	name    string // raw address
	salt    string // partition of the engine's prefix cache, secret to this channel

	mu      sync.Mutex
	state   PaymentState
	lost    uint64 // spent by the host's word, beyond what was delivered
	limbo   uint64 // most that answers which broke off may have cost beyond that, until the host says
	held    uint64 // kept for running requests, beyond what they are known to have cost
	acked   uint64 // of it, what the host is known to have on its books
	running int
	dear    uint64          // most that the one that runs alone may need, in all
	short   []*exchange     // running requests that wait for more, the first come first
	queue   []chan struct{} // requests that wait to begin, likewise; each has room for one signal
	token   string
	sent    uint64        // total of the highest voucher that the host has acknowledged
	closed  bool          // by agreement, or about to be
	talk    chan struct{} // capacity 1: held by one session or voucher exchange at a time
}

func newPurse(t *Transport, p Payment) (*purse, error) {
	if len(p.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("client: channel key is missing")
	}
	if err := p.Channel.Validate(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if !ed25519.PublicKey(p.Channel.ClientKey[:]).Equal(p.Key.Public()) {
		return nil, errors.New("client: key is not the channel's")
	}
	u := &purse{t: t, p: p, address: p.Channel.Address(), state: p.State, talk: make(chan struct{}, 1)}
	u.name = u.address.Raw()
	salt, err := hkdf.Key(sha256.New, p.Key.Seed(), u.address[:], "bombyx/1 cache salt", 32)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	u.salt = hex.EncodeToString(salt)
	return u, nil
}

// suits refuses a card that this channel does not pay.
func (u *purse) suits(c *card.Card) *apierror.Error {
	hash := channel.CodeHash()
	wrong := func(what string) *apierror.Error {
		return apierror.New(402, "unsuitable_channel", "the channel does not suit this host: "+what, "open a channel for it: bombyx channel open")
	}
	switch {
	case c.Network != u.p.Network:
		return wrong(fmt.Sprintf("the host is on network %d, the channel on %d", c.Network, u.p.Network))
	case c.Payee != u.p.Channel.Payee.Raw():
		return wrong("it pays another payee")
	case c.ChannelCode != hex.EncodeToString(hash[:]):
		return wrong("the host expects another contract")
	case c.ClosingDelay > u.p.Channel.CloseDelay:
		return wrong(fmt.Sprintf("the host wants %d s to claim, the channel gives %d", c.ClosingDelay, u.p.Channel.CloseDelay))
	}
	return nil
}

// limit is how far vouchers may go. What has been signed can be used, whatever
// the limit is now.
func (u *purse) limit() uint64 {
	return max(u.state.Signed, min(u.state.Settled+max(u.t.cfg.Window, u.dear), u.p.Deposit))
}

// used is how far they must go for all that is held.
func (u *purse) used() uint64 { return u.state.Settled + u.lost + u.limbo + u.held }

// free is how much more may be held.
func (u *purse) free() uint64 { return u.limit() - min(u.limit(), u.used()) }

// covered reports whether the host has the voucher that it needs, or all that
// it gets.
func (u *purse) covered() bool { return u.sent >= min(u.used(), u.limit()) }

// headroom is what part of the window a voucher covers beyond what is held. A host that is left alone with it claims all of
// it; without any, each request would wait for a voucher.
const headroom = 8

// ample reports whether the voucher that the host has will do for some more requests.
func (u *purse) ample() bool {
	return u.closed || u.sent >= min(u.used()+u.t.cfg.Window/headroom/2, u.limit())
}

// take begins a request, if there is room, and returns what it holds for it. It
// begins only with enough to go on without waiting for others; alone, once the
// host has been asked, it makes do with what there is.
func (u *purse) take(n needs, alone bool) uint64 {
	least := n.least
	if u.running == 0 {
		if u.dear = n.whole; alone {
			least = n.bare
		}
	} else if u.dear > u.t.cfg.Window {
		return 0
	}
	free := u.free()
	if free < least {
		if u.running == 0 {
			u.dear = 0
		}
		return 0
	}
	keep := min(n.want(free), free)
	u.running++
	u.held += keep
	return keep
}

// reserve waits for a request's turn, holds what it begins with, and makes sure
// that the host has a voucher that covers it. It returns the session's token.
func (u *purse) reserve(ctx context.Context, n needs) (keep uint64, token string, fault *apierror.Error) {
	if fault := u.session(ctx); fault != nil {
		return 0, "", fault
	}
	if keep, fault = u.begin(ctx, n); fault != nil {
		return 0, "", fault
	}
	u.mu.Lock()
	token = u.token
	covered, ample := token != "" && u.covered(), u.ample()
	u.mu.Unlock()
	if covered {
		if !ample {
			u.refill(ctx)
		}
		return keep, token, nil
	}
	if token, fault = u.fund(ctx, nil); fault != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.drop(keep)
		return 0, "", fault
	}
	return keep, token, nil
}

// begin takes, in the order in which requests came.
func (u *purse) begin(ctx context.Context, n needs) (uint64, *apierror.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.queue)+len(u.short) == 0 && !u.closed {
		if keep := u.take(n, false); keep > 0 {
			return keep, nil
		}
	}
	turn := make(chan struct{}, 1)
	u.queue = append(u.queue, turn)
	defer func() {
		u.queue = slices.DeleteFunc(u.queue, func(c chan struct{}) bool { return c == turn })
		u.kick()
	}()
	for asked, alone := false, false; ; {
		if u.closed {
			return 0, apierror.New(402, "channel_closed", "the channel is closed", "open another")
		}
		if u.queue[0] == turn && len(u.short) == 0 {
			if keep := u.take(n, alone); keep > 0 {
				return keep, nil
			}
			if alone {
				return 0, u.spentUp(n)
			}
			alone = u.running == 0
			if alone || u.doubtful() && !asked {
				asked = true
				u.mu.Unlock()
				fault := u.ask(ctx)
				u.mu.Lock()
				if fault != nil {
					return 0, fault
				}
				continue
			}
		}
		u.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
		}
		u.mu.Lock()
		if err := ctx.Err(); err != nil {
			return 0, u.t.unreachable(ctx, err)
		}
	}
}

// spentUp says why a request that runs alone cannot begin.
func (u *purse) spentUp(n needs) *apierror.Error {
	if gone := u.state.Settled + u.lost + u.limbo; gone+n.bare > u.p.Deposit {
		return apierror.New(402, "channel_exhausted",
			fmt.Sprintf("the channel's deposit of %d nanogram does not cover %d spent and %d for this request", u.p.Deposit, gone, n.bare),
			"top it up (bombyx channel top-up), or limit max_completion_tokens")
	}
	return apierror.New(402, "window_spent",
		fmt.Sprintf("by the host's word, answers that broke off cost %d nanogram; no more than %d is put at risk with it, and this request needs %d",
			u.lost+u.limbo, max(u.t.cfg.Window, n.whole), n.bare),
		"close the channel and use another host, or believe this one: bombyx channel forgive")
}

// doubtful reports whether it is worth to ask the host what answers that broke
// off have cost.
func (u *purse) doubtful() bool {
	return u.limbo > 0 && (u.running == 0 || u.limbo > u.t.cfg.Window/8)
}

// ask has the host say what has been spent. What ends there just now is waited
// for.
func (u *purse) ask(ctx context.Context) *apierror.Error {
	for pause := 20 * time.Millisecond; ; pause *= 2 {
		u.mu.Lock()
		u.token = ""
		u.mu.Unlock()
		if fault := u.session(ctx); fault != nil {
			return fault
		}
		u.mu.Lock()
		doubtful := u.doubtful()
		u.mu.Unlock()
		if !doubtful || pause > time.Second {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// acknowledged notes that the host has an allotment on its books.
func (u *purse) acknowledged(s *exchange, allot uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.acked -= s.counted()
	s.acked = max(s.acked, allot)
	u.acked += s.counted()
}

// advance takes the enclave's word on what a running request has cost and, if
// need is not zero, needs to go on, and holds for it what it is to get ahead.
// What it held before it gets again without waiting: so running requests do
// not wait for each other, unless one needs more at once than any request
// begins with.
func (u *purse) advance(s *exchange, cost, need uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if more := cost - min(cost, s.cost); more > 0 {
		u.acked -= s.counted()
		s.cost = cost
		u.acked += s.counted()
		u.state.Settled += more
		u.save("")
		more = min(more, s.keep)
		s.keep -= more
		u.held -= more
	}
	s.need = max(s.need, need)
	if !u.extend(s) && !slices.Contains(u.short, s) {
		u.short = append(u.short, s)
	}
	u.kick()
}

// extend holds more for a running request, and reports false if that is less
// than it needs: then it is nothing.
func (u *purse) extend(s *exchange) bool {
	need := s.need - min(s.need, s.cost)
	if u.running == 1 {
		u.dear = max(need, s.whole)
	}
	free := u.free()
	if need > s.keep+free {
		return false
	}
	want := max(need, min(s.ahead(free+s.keep), s.bound-min(s.bound, s.cost)))
	more := min(want-min(want, s.keep), free)
	s.keep += more
	u.held += more
	return true
}

// kick hands out what has become free: to running requests first, then to the
// next that wants to begin.
func (u *purse) kick() {
	for len(u.short) > 0 {
		if !u.extend(u.short[0]) {
			return
		}
		go u.short[0].relieved()
		u.short = u.short[1:]
	}
	if len(u.queue) > 0 {
		select {
		case u.queue[0] <- struct{}{}:
		default:
		}
	}
}

// raise has the host give a running request credit up to want, which is held
// already.
func (u *purse) raise(ctx context.Context, stream string, want uint64) *apierror.Error {
	_, fault := u.fund(ctx, []string{"Bombyx-Stream", stream, "Bombyx-Allot", strconv.FormatUint(want, 10)})
	return fault
}

// An outcome is what a request has come to.
type outcome struct {
	of      *exchange
	told    uint64 // of what it cost, what counts as delivered already
	cost    uint64 // not less than told, without a receipt
	offered uint64 // most that the host was told it may cost
	unsure  bool   // it may have cost more, up to what was offered
}

// end ends a request without a receipt.
func (u *purse) end(o outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o.cost > o.told {
		u.state.Settled += o.cost - o.told
		u.save("")
	}
	u.spend(o)
}

// settle ends a request with a verified receipt.
func (u *purse) settle(o outcome, serialized string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Head = receipt.NextHead(u.state.Head, serialized)
	u.state.Settled = u.state.Settled - o.told + o.cost // less than was told, if the engine found its prompt cached
	u.save(serialized)
	u.spend(o)
}

func (u *purse) spend(o outcome) {
	if o.unsure {
		u.limbo += o.offered - min(o.cost, o.offered)
	}
	u.short = slices.DeleteFunc(u.short, func(s *exchange) bool { return s == o.of })
	u.acked -= o.of.counted()
	u.drop(o.of.keep)
}

// drop ends what take has begun.
func (u *purse) drop(keep uint64) {
	u.held -= keep
	if u.running--; u.running == 0 {
		u.dear = 0
	}
	u.kick()
}

// most is the credit that a request may be given.
func (u *purse) most(s *exchange) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return s.cost + s.keep
}

func (u *purse) save(receipt string) {
	if u.p.Save != nil {
		u.p.Save(u.state, receipt)
	}
}

// State is the channel's progress now.
func (t *Transport) State() PaymentState {
	t.purse.mu.Lock()
	defer t.purse.mu.Unlock()
	return t.purse.state
}

// Settlement signs an agreement over what was delivered and what else the host,
// when it was last asked, said had been spent: no more than was signed already.
func (t *Transport) Settlement() channel.SignedAgreement {
	u := t.purse
	u.mu.Lock()
	defer u.mu.Unlock()
	return channel.Agreement{GlobalID: u.p.Network, Channel: u.address, Total: u.state.Settled + u.lost, Head: u.state.Head}.Sign(u.p.Key)
}

// session opens a session where there is none.
func (u *purse) session(ctx context.Context) *apierror.Error {
	u.mu.Lock()
	open := u.token != ""
	u.mu.Unlock()
	if open {
		return nil
	}
	if fault := u.startTalk(ctx); fault != nil {
		return fault
	}
	defer u.endTalk()
	_, fault := u.openSession(ctx)
	return fault
}

// startTalk waits for its turn to talk to the host about the channel.
func (u *purse) startTalk(ctx context.Context) *apierror.Error {
	select {
	case u.talk <- struct{}{}:
		return nil
	case <-ctx.Done():
		return u.t.unreachable(ctx, ctx.Err())
	}
}

func (u *purse) endTalk() { <-u.talk }

// fund opens a session where there is none and sends a voucher that covers all
// that is held. With headers, it sends one in any case: they raise a stream's
// credit.
func (u *purse) fund(ctx context.Context, headers []string) (string, *apierror.Error) {
	if fault := u.startTalk(ctx); fault != nil {
		return "", fault
	}
	defer u.endTalk()
	return u.give(ctx, headers)
}

// refill is fund before it is needed: one request waits for it, not all that come then. What fails now fails again once it is.
func (u *purse) refill(ctx context.Context) {
	select {
	case u.talk <- struct{}{}:
		defer u.endTalk()
		u.give(ctx, nil)
	default: // it is under way
	}
}

// give is fund for who has the talk.
func (u *purse) give(ctx context.Context, headers []string) (string, *apierror.Error) {
	for try := 1; ; try++ {
		token, fault := u.openSession(ctx)
		if fault != nil {
			return "", fault
		}
		v, ample := u.sign()
		if ample && headers == nil {
			return token, nil
		}
		wire, err := v.MarshalBinary()
		if err == nil && !ample && u.p.Flush != nil {
			err = u.p.Flush()
		}
		if err != nil {
			return "", apierror.New(500, "internal", "no voucher can be given: "+err.Error(), "")
		}
		_, fault = u.t.call(ctx, http.MethodPost, "/v1/voucher", wire,
			append([]string{"Authorization", "Bearer " + token, "Content-Type", "application/octet-stream"}, headers...)...)
		if fault != nil && fault.Code == "unknown_session" && headers == nil && try < attempts {
			u.dropSession(token)
			continue
		}
		if fault != nil {
			return "", fault
		}
		u.mu.Lock()
		u.sent = max(u.sent, v.Total)
		u.mu.Unlock()
		return token, nil
	}
}

// sign returns a voucher for what is held, and some more; ample says that the host
// needs no other than it has.
func (u *purse) sign() (v channel.SignedVoucher, ample bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ample = u.ample(); !ample {
		u.state.Signed = max(u.state.Signed, min(u.used()+u.t.cfg.Window/headroom, u.limit()))
		u.save("")
	}
	v = channel.Voucher{GlobalID: u.p.Network, Channel: u.address, Total: u.state.Signed, Head: u.state.Head}.Sign(u.p.Key)
	if !ample && u.t.cfg.Trace.Voucher != nil {
		u.t.cfg.Trace.Voucher(&v)
	}
	return v, ample
}

// close stops further requests and drops the session: a new one says what the
// host has on its books.
func (u *purse) close() *apierror.Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return apierror.New(409, "channel_closed", "the channel is closed, or about to be", "")
	}
	if u.running > 0 || len(u.queue) > 0 {
		return apierror.New(409, "requests_running", "requests are running on the channel", "let them end first")
	}
	u.closed, u.token = true, ""
	return nil
}

func (u *purse) reopen() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = false
}

type balances struct {
	Authorised uint64 `json:"authorised"`
	Spent      uint64 `json:"spent"`
	Reserved   uint64 `json:"reserved"`
}

func readBalances(h http.Header) balances {
	var b balances
	for name, to := range map[string]*uint64{"Bombyx-Authorised": &b.Authorised, "Bombyx-Spent": &b.Spent, "Bombyx-Reserved": &b.Reserved} {
		*to, _ = strconv.ParseUint(h.Get(name), 10, 63) // zero changes nothing
	}
	return b
}

// openSession returns the session's token, opening one where there is none.
func (u *purse) openSession(ctx context.Context) (string, *apierror.Error) {
	u.mu.Lock()
	token := u.token
	u.mu.Unlock()
	if token != "" {
		return token, nil
	}
	key, fault := u.t.hostKey(ctx)
	if fault != nil {
		return "", fault
	}
	b, fault := u.t.patiently(ctx, func() ([]byte, *apierror.Error) { // each try is signed anew: a session request must be later than the last
		req := session.Request{Host: [32]byte(key), Terms: u.p.Channel, Time: u.t.cfg.Now().UnixNano()}
		return u.t.call(ctx, http.MethodPost, "/v1/session", req.Sign(u.p.Key), "Content-Type", "application/octet-stream")
	})
	if fault != nil {
		return "", fault
	}
	var s struct {
		balances
		Token   string `json:"token"`
		Voucher string `json:"voucher"`
	}
	if err := json.Unmarshal(b, &s); err != nil || s.Token == "" || len(s.Token) > 200 {
		return "", apierror.New(502, "bad_session", "the host's session is malformed", "use another host")
	}
	// A voucher beyond our record says that the record was lost or is an old
	// copy, for no voucher leaves before it is recorded. Our own signature
	// proves it; what it paid for, only the host can tell.
	known := uint64(0)
	if s.Voucher != "" {
		wire, err := hex.DecodeString(s.Voucher)
		var v channel.SignedVoucher
		if err == nil {
			v, err = channel.ParseVoucher(wire)
		}
		if err != nil || v.Channel != u.address || v.GlobalID != u.p.Network || v.Verify(u.p.Channel.ClientKey) != nil {
			return "", apierror.New(502, "bad_session", "the host shows a voucher that this channel's key did not sign", "use another host")
		}
		known = v.Total
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.token, u.sent = s.Token, known
	if known > u.state.Signed {
		spent := min(s.Spent, known)
		u.state.Settled += min(spent-min(spent, u.state.Settled), known-u.state.Signed)
		u.state.Signed = known
		u.save("")
	}
	u.believe(s.balances)
	return s.Token, nil
}

func (u *purse) dropSession(token string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.token == token {
		u.token = ""
	}
}

// believe takes the host's word on what has been spent. It is never worth more
// than room within the limit: a host that makes it up, or that cuts answers,
// leaves less for itself.
func (u *purse) believe(b balances) {
	spent, reserved := min(b.Spent, u.state.Signed), min(b.Reserved, receipt.MaxCost)
	if u.running == 0 {
		u.lost = spent - min(spent, u.state.Settled)
		u.limbo = reserved
		return
	}
	// What ends just now counts there and not yet here, or the other way: this
	// says only how much of what broke off is certainly over.
	ours := u.state.Settled + u.lost + u.acked
	u.limbo = min(u.limbo, spent+reserved-min(spent+reserved, ours))
}

// forgive counts what is lost as delivered.
func (u *purse) forgive() (lost uint64, err error) {
	u.mu.Lock()
	lost, u.lost = u.lost, 0
	u.state.Settled += lost
	u.save("")
	u.kick()
	u.mu.Unlock()
	if u.p.Flush != nil {
		err = u.p.Flush()
	}
	return lost, err
}

// refused notes that the host wants more credit than it has for an allotment:
// by its books, less is free than by ours.
func (u *purse) refused(b balances, allot uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = min(u.sent, b.Authorised)
	if u.believe(b); u.running > 0 {
		used := min(b.Spent, receipt.MaxCost) + min(b.Reserved, receipt.MaxCost) + allot
		u.limbo += min(used-min(used, u.state.Signed), allot)
	}
}
