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
	"strconv"
	"sync"

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
	// at a time, and not waited for by answers; receipt is empty when only a
	// voucher was signed. Nil keeps no record: after a restart the host's word
	// bounds the loss to one window.
	Save func(s PaymentState, receipt string)
}

// PaymentState is the progress of a channel.
type PaymentState struct {
	Signed  uint64   // total of the highest voucher
	Settled uint64   // sum of the costs on the receipts
	Head    [32]byte // of the receipts' hash chain
}

// A purse pays for concurrent requests from one channel. What is signed and
// not yet settled is the client's risk: the allotments of running requests, or
// one window when they are less.
type purse struct {
	t       *Transport
	p       Payment
	address channel.Address
	name    string // raw address
	salt    string // partition of the engine's prefix cache, secret to this channel

	mu       sync.Mutex
	state    PaymentState
	reserved uint64
	offered  uint64 // most that the host was told the running requests of this era may cost
	doubt    uint64 // most that others may have cost, unknown to us: what is settled never grows by more on the host's word
	era      uint64 // grows when the host's books are taken over: what began before is in state.Settled
	token    string
	sent     uint64     // total of the highest voucher that the host has acknowledged
	closed   bool       // by agreement, or about to be
	talk     sync.Mutex // one session or voucher exchange at a time
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
	u := &purse{t: t, p: p, address: p.Channel.Address(), state: p.State}
	u.doubt = p.State.Signed - min(p.State.Signed, p.State.Settled) // of an earlier life
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

// reserve sets allot aside for a request and makes sure that the host holds a
// voucher that covers it. It returns the session's token, and the era in which
// the request begins.
func (u *purse) reserve(ctx context.Context, allot uint64) (token string, era uint64, fault *apierror.Error) {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return "", 0, apierror.New(402, "channel_closed", "the channel is closed", "open another")
	}
	u.reserved += allot
	token, era = u.token, u.era
	enough := u.sent >= u.state.Settled+u.reserved
	u.mu.Unlock()
	if token != "" && enough {
		return token, era, nil
	}
	if token, fault = u.fund(ctx, nil); fault != nil {
		u.release(allot)
		return "", 0, fault
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return token, u.era, nil
}

// offer notes that the host is about to be told that a request may cost more.
func (u *purse) offer(more, era uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if era == u.era {
		u.offered += more
	} else {
		u.doubt += more
	}
}

// hold sets more aside for a running request, as far as the deposit goes, and
// returns how much. Less than least would buy nothing, and none is set aside.
func (u *purse) hold(more, least uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	more = min(more, u.p.Deposit-min(u.p.Deposit, u.state.Settled+u.reserved))
	if more < least {
		return 0
	}
	u.reserved += more
	return more
}

// raise has the host give a running request credit up to want, which is held
// already.
func (u *purse) raise(ctx context.Context, stream string, want uint64) *apierror.Error {
	_, fault := u.fund(ctx, []string{"Bombyx-Stream", stream, "Bombyx-Allot", strconv.FormatUint(want, 10)})
	return fault
}

// release takes back a part of a reservation.
func (u *purse) release(allot uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reserved -= allot
}

// An outcome is what a request has come to.
type outcome struct {
	era     uint64 // in which it began
	allot   uint64 // what it held
	offered uint64 // most that the host was told it may cost
	cost    uint64
	unsure  bool // it may have cost more, up to what was offered
}

// end ends a request without a receipt.
func (u *purse) end(o outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spend(o); o.cost > 0 && o.era == u.era {
		u.save("")
	}
}

// settle ends a request with a verified receipt.
func (u *purse) settle(o outcome, serialized string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spend(o)
	u.state.Head = receipt.NextHead(u.state.Head, serialized)
	u.save(serialized)
}

func (u *purse) spend(o outcome) {
	u.reserved -= o.allot
	rest := o.offered - min(o.cost, o.offered)
	switch {
	case o.era != u.era && !o.unsure: // it was in doubt since that era ended
		u.doubt -= min(u.doubt, rest)
	case o.era == u.era:
		u.offered -= o.offered
		u.state.Settled += o.offered - rest
		if o.unsure {
			u.doubt += rest
		}
	}
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

// Settlement signs a voucher for exactly what the receipts add up to, for a
// close by agreement.
func (t *Transport) Settlement() channel.SignedAgreement {
	u := t.purse
	u.mu.Lock()
	defer u.mu.Unlock()
	return channel.Agreement{GlobalID: u.p.Network, Channel: u.address, Total: u.state.Settled, Head: u.state.Head}.Sign(u.p.Key)
}

// fund opens a session where there is none and sends a voucher that covers all
// reservations. With headers, it sends one in any case: they
// raise a stream's credit.
func (u *purse) fund(ctx context.Context, headers []string) (string, *apierror.Error) {
	u.talk.Lock()
	defer u.talk.Unlock()
	for try := 1; ; try++ {
		token, fault := u.openSession(ctx)
		if fault != nil {
			return "", fault
		}
		v, covered, fault := u.sign()
		if fault != nil {
			return "", fault
		}
		if covered && headers == nil {
			return token, nil
		}
		wire, err := v.MarshalBinary()
		if err != nil {
			return "", apierror.New(500, "internal", err.Error(), "")
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

// sign returns a voucher over what is settled and either what is reserved or
// one window, whichever is more, as far as the deposit goes; covered says that
// the host has as much already.
func (u *purse) sign() (v channel.SignedVoucher, covered bool, fault *apierror.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	need := u.state.Settled + u.reserved
	if need > u.p.Deposit {
		return v, false, apierror.New(402, "channel_exhausted",
			fmt.Sprintf("the channel's deposit of %d nanogram does not cover %d settled and %d reserved", u.p.Deposit, u.state.Settled, u.reserved),
			"top it up (bombyx channel top-up), or limit max_completion_tokens")
	}
	if u.sent >= need {
		covered = true
	} else {
		u.state.Signed = max(u.state.Signed, min(u.state.Settled+max(u.reserved, u.t.cfg.Window), u.p.Deposit))
		u.save("")
	}
	v = channel.Voucher{GlobalID: u.p.Network, Channel: u.address, Total: u.state.Signed, Head: u.state.Head}.Sign(u.p.Key)
	if !covered && u.t.cfg.Trace.Voucher != nil {
		u.t.cfg.Trace.Voucher(&v)
	}
	return v, covered, nil
}

// close stops further requests and drops the session: a new one says what the
// host has on its books.
func (u *purse) close() *apierror.Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return apierror.New(409, "channel_closed", "the channel is closed, or about to be", "")
	}
	if u.reserved > 0 {
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
	req := session.Request{Host: [32]byte(key), Terms: u.p.Channel, Time: u.t.cfg.Now().UnixNano()}
	b, fault := u.t.call(ctx, http.MethodPost, "/v1/session", req.Sign(u.p.Key), "Content-Type", "application/octet-stream")
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
	// A voucher beyond our record is one that a crash made us forget: our own
	// signature proves it.
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
	u.token, u.sent = s.Token, known
	u.doubt += known - min(known, u.state.Signed)
	u.state.Signed = max(u.state.Signed, known)
	u.mu.Unlock()
	u.resync(s.balances)
	return s.Token, nil
}

func (u *purse) dropSession(token string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.token == token {
		u.token = ""
	}
}

// resync takes over the host's view of what has been spent, which may be ahead
// of ours after a crash or a cut, as far as we are in doubt ourselves: a host
// that makes it up gets no second voucher for what the first has paid, and no
// more than was at risk. It reports whether that changed anything.
//
// Requests that end here later must not count twice. When nothing runs at the
// host, its view includes all that began; otherwise any of those that run here
// may be in it, up to what they were allotted.
func (u *purse) resync(b balances) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	spent := b.Spent
	if b.Reserved > 0 {
		spent -= min(spent, u.reserved)
	}
	if spent < u.state.Settled || spent > u.state.Signed {
		return false
	}
	if b.Reserved == 0 {
		u.era++
		u.doubt, u.offered = u.doubt+u.offered, 0
	}
	more := min(spent-u.state.Settled, u.doubt)
	if more == 0 {
		return false
	}
	u.doubt -= more
	u.state.Settled += more
	u.save("")
	return true
}
