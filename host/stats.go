package host

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A tally counts by name. Its names are those that it was made with, whoever
// says them: what is not among them counts as "other".
type tally map[string]*atomic.Uint64

func newTally(names ...string) tally {
	t := tally{}
	for _, name := range names {
		t[name] = new(atomic.Uint64)
	}
	return t
}

func (t tally) add(name string) {
	n := t[name]
	if n == nil {
		n = t["other"]
	}
	n.Add(1)
}

func (t tally) counts() map[string]uint64 {
	m := make(map[string]uint64, len(t))
	for name, n := range t {
		m[name] = n.Load()
	}
	return m
}

// counts is what this process has done so far. Nothing in it names a client, a
// channel or a request.
type counts struct {
	requests      tally // by route
	refused       tally // by code
	answers       tally // by how they ended
	chain         tally // calls
	chainFailed   tally // of these
	claims        tally // by result
	claimFees     atomic.Uint64
	claimed, seen atomic.Int64 // last claim, newest block: Unix seconds, 0 for none
	in, out       atomic.Uint64
}

var (
	routes  = []string{"card", "collateral", "session", "voucher", "cancel", "close", "manifest", "evidence", "epoch", "sealed"}
	endings = []string{"complete", "abandoned", "broken", "refused"}
	calls   = []string{"channel", "claim", "close", "block"}
	results = []string{"paid", "too_small", "failed"}
	// codes are those of docs/protocol.md, "Errors", that host and enclaves answer with.
	codes = []string{"bad_session", "bad_signature", "busy", "cancelled", "chain_down", "channel_ended", "channel_held", "close_failed", "closing", "duplicate_stream",
		"enclave_down", "enclave_drained", "engine_down", "engine_error", "engine_timeout", "insufficient_credit", "ledger_down", "malformed_agreement", "malformed_body", "malformed_envelope",
		"malformed_epoch", "malformed_header", "malformed_json", "malformed_nonce", "malformed_request", "malformed_session", "malformed_voucher",
		"max_tokens_out_of_range", "max_tokens_required", "method_not_allowed", "model_not_found", "no_collateral", "no_enclave", "no_epoch", "no_evidence", "no_keys",
		"no_wallet", "other", "other_prices", "replayed", "request_too_large", "slow_request", "stale", "stale_session", "streams_running", "taken_over", "truncated_request",
		"underpaid", "unknown_channel", "unknown_enclave", "unknown_evidence", "unknown_key", "unknown_path", "unknown_session", "unknown_stream",
		"unsuitable_channel", "wrong_agreement", "wrong_type", "wrong_voucher"}
)

func newCounts() *counts {
	return &counts{requests: newTally(routes...), refused: newTally(codes...), answers: newTally(endings...),
		chain: newTally(calls...), chainFailed: newTally(calls...), claims: newTally(results...)}
}

// counted counts the requests of a route.
func (h *Host) counted(route string, serve http.HandlerFunc) http.HandlerFunc {
	n := h.counts.requests[route]
	return func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		serve(w, r)
	}
}

// fail answers a request with a fault.
func (h *Host) fail(w http.ResponseWriter, f *apierror.Error) {
	h.counts.refused.add(f.Code)
	f.Write(w)
}

// ended counts a relayed request by how it ended.
func (h *Host) ended(ctx context.Context, answered bool, err error) {
	switch {
	case err != nil && (errors.Is(err, errGone) || ctx.Err() != nil):
		h.counts.answers.add("abandoned")
	case !answered:
		h.counts.answers.add("refused")
	case err == nil:
		h.counts.answers.add("complete")
	default:
		h.counts.answers.add("broken")
	}
}

// A countedChain counts the calls of another, and notes the newest block.
type countedChain struct {
	Chain
	*counts
	now func() time.Time
}

func (c countedChain) call(name string, err error) {
	c.chain.add(name)
	if err != nil {
		c.chainFailed.add(name)
	}
}

// newest notes a block's time.
func (c *counts) newest(at time.Time) {
	for now := at.Unix(); ; {
		if old := c.seen.Load(); now <= old || c.seen.CompareAndSwap(old, now) {
			return
		}
	}
}

func (c countedChain) Channel(ctx context.Context, a channel.Address) (*OnChain, error) {
	on, err := c.Chain.Channel(ctx, a)
	if errors.Is(err, ErrNoChannel) { // the chain has answered
		c.call("channel", nil)
		return on, err
	}
	if c.call("channel", err); err == nil {
		c.newest(on.Time)
	}
	return on, err
}

func (c countedChain) Claim(ctx context.Context, v *channel.SignedVoucher) (uint64, error) {
	fee, err := c.Chain.Claim(ctx, v)
	switch {
	case errors.Is(err, ErrTooSmall):
		c.claims.add("too_small")
		return fee, err
	case err != nil:
		c.claims.add("failed")
	default:
		c.claims.add("paid")
		c.claimFees.Add(fee)
		c.claimed.Store(c.now().Unix())
	}
	c.call("claim", err)
	return fee, err
}

func (c countedChain) CloseTogether(ctx context.Context, a *channel.SignedAgreement) error {
	err := c.Chain.CloseTogether(ctx, a)
	if !errors.Is(err, ErrNoWallet) {
		c.call("close", err)
	}
	return err
}

// Newest is Epochs.Newest of the host's configuration.
func (h *Host) Newest(ctx context.Context) (attestation.Epoch, error) {
	if h.cfg.Epochs.Newest == nil {
		return attestation.Epoch{}, errors.New("host: no chain to ask for blocks")
	}
	block, err := h.cfg.Epochs.Newest(ctx)
	if h.counts.chain.add("block"); err != nil {
		h.counts.chainFailed.add("block")
		return block, err
	}
	h.counts.newest(block.Time)
	return block, nil
}

// Stats is what this process has done since it began and does now: counts, and
// nothing of any one client.
type Stats struct {
	Began     time.Time
	Requests  map[string]uint64 // by route
	Refused   map[string]uint64 // by code of docs/protocol.md, or "other"
	Answers   map[string]uint64 // to sealed requests that were admitted: "complete", "abandoned" by the client, "broken" on this side, "refused" by the enclave
	BytesIn   uint64            // of sealed requests
	BytesOut  uint64            // of sealed answers
	Sessions  int
	Reserved  uint64 // nanogram that running requests may cost
	Chain     map[string]Calls
	LastBlock time.Time         // the newest block seen; zero for none
	Claims    map[string]uint64 // by result: "paid", "too_small" to pay for itself, "failed"
	ClaimFees uint64            // nanogram: see [Chain]
	LastClaim time.Time         // that was paid; zero for none
	Enclaves  []EnclaveStats
}

// Calls counts calls.
type Calls struct{ Made, Failed uint64 }

// EnclaveStats are of one enclave.
type EnclaveStats struct {
	ID       string
	Running  int   // requests
	Drained  bool  // takes no new ones
	Evidence Calls // documents made for clients, and for epochs
}

// Stats reads memory alone.
func (h *Host) Stats() *Stats {
	c := h.counts
	s := &Stats{Began: h.began, Requests: c.requests.counts(), Refused: c.refused.counts(), Answers: c.answers.counts(), BytesIn: c.in.Load(), BytesOut: c.out.Load(),
		Chain: map[string]Calls{}, LastBlock: instant(c.seen.Load()), Claims: c.claims.counts(), ClaimFees: c.claimFees.Load(), LastClaim: instant(c.claimed.Load())}
	failed := c.chainFailed.counts()
	for name, made := range c.chain.counts() {
		s.Chain[name] = Calls{made, failed[name]}
	}
	running := map[*upstream]int{}
	now := h.cfg.Now()
	h.accounts.mu.Lock()
	for _, t := range h.accounts.tokens {
		if now.Before(t.until) {
			s.Sessions++
		}
	}
	list := make([]*account, 0, len(h.accounts.open))
	for _, a := range h.accounts.open {
		list = append(list, a)
	}
	h.accounts.mu.Unlock()
	for _, a := range list {
		a.mu.Lock()
		s.Reserved += a.reserved
		for _, r := range a.streams {
			running[r.enclave]++
		}
		a.mu.Unlock()
	}
	for _, e := range h.cfg.Enclaves {
		up := h.enclaves[e.ID]
		s.Enclaves = append(s.Enclaves, EnclaveStats{e.ID, running[up], up.drained.Load(), Calls{up.evidence.Load(), up.evidenceFailed.Load()}})
	}
	return s
}

func instant(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0)
}

// Running counts a channel's requests.
func (h *Host) Running(address string) int {
	h.accounts.mu.Lock()
	a := h.accounts.open[address]
	h.accounts.mu.Unlock()
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.streams)
}

func (e *upstream) health(ctx context.Context) error {
	req, err := e.request(ctx, http.MethodGet, "/health", nil)
	if err != nil {
		return err
	}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return apierror.Read(resp)
	}
	return nil
}

// collect has the enclave make an Evidence document.
func (e *upstream) collect(ctx context.Context, path string, body []byte) ([]byte, http.Header, error) {
	doc, header, err := e.get(ctx, http.MethodPost, path, body)
	if e.evidence.Add(1); err != nil && !errors.Is(err, context.Canceled) { // a client that did not wait says nothing of the enclave
		e.evidenceFailed.Add(1)
	}
	return doc, header, err
}

// Health asks each enclave whether it and its engine answer. An error for each,
// in the order of the configuration; nil for one that does.
func (h *Host) Health(ctx context.Context) []error {
	errs := make([]error, len(h.cfg.Enclaves))
	var all sync.WaitGroup
	for i, e := range h.cfg.Enclaves {
		all.Go(func() { errs[i] = h.enclaves[e.ID].health(ctx) })
	}
	all.Wait()
	return errs
}
