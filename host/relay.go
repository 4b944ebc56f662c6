package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"golang.org/x/sync/singleflight"
)

const (
	maxEvidence = 2       // documents being collected at once, for each enclave
	maxDocument = 4 << 20 // bytes of Evidence or manifest
	relayBuffer = 16 << 10
)

const (
	requestType  = "message/ohttp-chunked-req"
	responseType = "message/ohttp-chunked-res"
)

// Handler serves clients: see docs/protocol.md, "Client and host".
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/card", h.counted("card", h.serveCard))
	mux.HandleFunc("GET /v1/collateral", h.counted("collateral", func(w http.ResponseWriter, r *http.Request) {
		var bundle []byte
		if h.cfg.Collateral != nil {
			bundle = h.cfg.Collateral()
		}
		if len(bundle) == 0 {
			h.fail(w, apierror.New(404, "no_collateral", "this host serves no collateral", "fetch it from Intel, AMD and NVIDIA"))
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(bundle)
	}))
	mux.HandleFunc("POST /v1/session", h.counted("session", h.serveSession))
	mux.HandleFunc("POST /v1/voucher", h.counted("voucher", h.serveVoucher))
	mux.HandleFunc("POST /v1/cancel", h.counted("cancel", h.serveCancel))
	mux.HandleFunc("POST /v1/close", h.counted("close", h.serveClose))
	mux.HandleFunc("GET /v1/enclaves/{id}/manifest", h.counted("manifest", h.serveManifest))
	mux.HandleFunc("POST /v1/enclaves/{id}/evidence", h.counted("evidence", h.serveEvidence))
	mux.HandleFunc("GET /v1/enclaves/{id}/epoch", h.counted("epoch", h.serveEpoch))
	mux.HandleFunc("POST /v1/enclaves/{id}/sealed", h.counted("sealed", h.serveSealed))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody { // whoever reads it, or, like an HTTP/1 server, looks for its end
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(smallWithin))
		}
		mux.ServeHTTP(w, r)
	})
}

func (h *Host) serveCard(w http.ResponseWriter, r *http.Request) {
	s, err := h.Card(r.Context())
	if err != nil {
		h.cfg.Log.Error("no card", "err", err)
		h.fail(w, apierror.New(503, "no_enclave", "no enclave of this host answers", "try again, or another host"))
		return
	}
	w.Header().Set("Content-Type", "application/jose")
	io.WriteString(w, s)
}

func (h *Host) serveSession(w http.ResponseWriter, r *http.Request) {
	body, fault := readBody(r, session.Size)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	a, fault := h.openSession(r.Context(), body, peerOf(r))
	if fault != nil {
		h.fail(w, fault)
		return
	}
	t, fault := h.accounts.issue(a, h.cfg.Now())
	if fault != nil {
		h.fail(w, fault)
		return
	}
	row, err := h.cfg.Ledger.Channel(r.Context(), a.name)
	if err != nil {
		h.fail(w, h.ledgerFault(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(struct {
		Token string `json:"token"`
		balances
		Voucher string `json:"voucher"`
	}{t, a.balances(), hex.EncodeToString(row.Voucher)})
}

// peerOf is where a request comes from, as far as one party can be told from
// another by that: an IPv4 address, or an IPv6 network of 64 bits. Whoever comes
// over loopback comes through a proxy of the provider's, with all others.
func peerOf(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || at.Addr().Unmap().IsLoopback() {
		return netip.Prefix{}
	}
	a := at.Addr().Unmap().WithZone("")
	p, _ := a.Prefix(min(64, a.BitLen()))
	return p
}

// account authenticates a request by its bearer token.
func (h *Host) account(r *http.Request) (*account, *apierror.Error) {
	t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if ok {
		if a := h.accounts.find(t, h.cfg.Now()); a != nil {
			return a, nil
		}
	}
	return nil, apierror.New(401, "unknown_session", "the session is unknown or has ended", "open a new one")
}

func (h *Host) serveVoucher(w http.ResponseWriter, r *http.Request) {
	a, fault := h.account(r)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	body, fault := readBody(r, channel.VoucherSize)
	if fault == nil {
		fault = h.putVoucher(r.Context(), a, body)
	}
	if fault == nil && r.Header.Get("Bombyx-Stream") != "" {
		fault = h.raise(r.Context(), a, r.Header.Get("Bombyx-Stream"), r.Header.Get("Bombyx-Allot"))
	}
	if fault != nil {
		h.refuse(w, a, fault)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveCancel ends a running request at its enclave, which then ends the answer
// with the receipt for what it has released.
func (h *Host) serveCancel(w http.ResponseWriter, r *http.Request) {
	a, fault := h.account(r)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	id := r.Header.Get("Bombyx-Stream")
	s := a.running(id)
	if s == nil {
		h.fail(w, unknownStream())
		return
	}
	switch known, err := s.enclave.ask(r.Context(), "Bombyx-Stream", id); {
	case err != nil:
		h.fail(w, h.upstreamFault(s.enclave, err))
	case known == nil: // it has not got there yet
		h.fail(w, unknownStream())
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func unknownStream() *apierror.Error {
	return apierror.New(404, "unknown_stream", "no such stream runs", "")
}

// raise gives a running stream more credit.
func (h *Host) raise(ctx context.Context, a *account, id, amount string) *apierror.Error {
	allot, fault := parseAllot(amount)
	if fault != nil {
		return fault
	}
	if fault := h.sure(ctx, a); fault != nil {
		return fault
	}
	if fault := a.admit(id, allot, nil, h.cfg.Now()); fault != nil {
		return fault
	}
	s := a.running(id)
	if s == nil {
		return apierror.New(404, "unknown_stream", "the stream has just ended", "")
	}
	now, fault := s.enclave.credit(ctx, id, allot)
	if fault != nil {
		return fault
	}
	return h.keepStream(ctx, a, s, id, now)
}

// keepStream makes durable what a running request has cost so far: should host
// and enclave be killed at once, no more is forgotten than what came after.
func (h *Host) keepStream(ctx context.Context, a *account, s *admission, id string, now ending) *apierror.Error {
	a.note(id, s, now.cost)
	s.books.Lock()
	defer s.books.Unlock()
	if s.ended {
		return nil
	}
	s.kept = true
	if err := h.cfg.Ledger.SetStream(ctx, ledger.Stream{Channel: a.name, ID: id, Enclave: s.enclave.ID, Tab: now.tab.ID, Booked: now.tab.Total, Cost: now.cost}); err != nil {
		return h.ledgerFault(err)
	}
	return nil
}

func (h *Host) serveManifest(w http.ResponseWriter, r *http.Request) {
	h.forward(w, r, func(ctx context.Context, e *upstream) ([]byte, string, error) {
		return e.get(ctx, http.MethodGet, "/manifest", nil)
	})
}

func (h *Host) serveEvidence(w http.ResponseWriter, r *http.Request) {
	nonce, fault := readBody(r, 32)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	e := h.enclaves[r.PathValue("id")]
	if e != nil {
		select {
		case e.slots <- struct{}{}:
			defer func() { <-e.slots }()
		default:
			h.fail(w, apierror.New(429, "busy", "too much Evidence is being collected", "try again in a second").After(time.Second))
			return
		}
	}
	h.forward(w, r, func(ctx context.Context, e *upstream) ([]byte, string, error) {
		return e.collect(ctx, "/evidence", nonce)
	})
}

// forward passes on a small public document of an enclave.
func (h *Host) forward(w http.ResponseWriter, r *http.Request, get func(context.Context, *upstream) ([]byte, string, error)) {
	e := h.enclaves[r.PathValue("id")]
	if e == nil {
		h.fail(w, unknownEnclave())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	b, kind, err := get(ctx, e)
	if err != nil {
		h.fail(w, h.upstreamFault(e, err))
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Write(b)
}

func unknownEnclave() *apierror.Error {
	return apierror.New(404, "unknown_enclave", "this host has no such enclave", "take its id from the card")
}

func (h *Host) upstreamFault(e *upstream, err error) *apierror.Error {
	var f *apierror.Error
	if errors.As(err, &f) {
		return f
	}
	f = noAnswer(err)
	if f.Code == "enclave_down" {
		h.cfg.Log.Warn("enclave does not answer", "enclave", e.ID, "err", err)
	}
	return f
}

// noAnswer tells an enclave that does not answer from a client that did not wait.
func noAnswer(err error) *apierror.Error {
	if errors.Is(err, context.Canceled) {
		return apierror.New(502, "cancelled", "the client went away", "")
	}
	return apierror.New(502, "enclave_down", "the enclave does not answer", "try again, or another host")
}

// serveSealed admits a request and relays it as it comes.
func (h *Host) serveSealed(w http.ResponseWriter, r *http.Request) {
	a, fault := h.account(r)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	e := h.enclaves[r.PathValue("id")]
	if e == nil {
		h.fail(w, unknownEnclave())
		return
	}
	id := r.Header.Get("Bombyx-Stream")
	allot, fault := parseAllot(r.Header.Get("Bombyx-Allot"))
	switch {
	case fault != nil:
	case !receipt.IsHex(id, 16):
		fault = apierror.New(400, "malformed_header", "Bombyx-Stream is not 32 lower-case hexadecimal digits", "choose a random one")
	case r.Header.Get("Content-Type") != requestType:
		fault = apierror.New(415, "wrong_type", "the request is not "+requestType, "seal it: see docs/protocol.md")
	default:
		if fault = h.ready(r.Context(), a, e); fault == nil {
			fault = a.admit(id, allot, e, h.cfg.Now())
		}
	}
	if fault != nil {
		h.refuse(w, a, fault)
		return
	}
	end, lent, err := h.relay(w, r, a, e, id, allot)
	cut := errors.Is(err, errCut)
	if err != nil {
		// The client or the enclave went away: only the enclave knows the cost.
		if end, err = e.settle(id); err != nil {
			h.cfg.Log.Warn("cost unknown yet", "enclave", e.ID, "err", err)
		}
	}
	var cost *uint64
	if err == nil && end.tab.ID != "" {
		cost = &end.cost
	}
	s := a.settle(id, cost)
	h.aside(func() { h.record(a, s, id, end, err == nil) })
	// Only now: what the request holds has been given back.
	if recalled := lent == nil || lent.recall(cut); cut || !recalled {
		// A client whose answer broke off must see that, not an end, whatever
		// repairs framing in between.
		panic(http.ErrAbortHandler)
	}
}

// errCut means that an answer broke off after its header.
var errCut = errors.New("host: the answer broke off")

// errGone means that the client broke it off.
var errGone = fmt.Errorf("%w: the client is gone", errCut)

var errStalled = errors.New("host: the client takes nothing more of its answer")

// ready makes sure that the chain was read lately, that no other process serves
// the channel, and that nothing of an earlier one is left at the enclave.
func (h *Host) ready(ctx context.Context, a *account, e *upstream) *apierror.Error {
	select {
	case <-h.cfg.Ledger.Taken():
		return h.ledgerFault(ledger.ErrTaken)
	default:
	}
	if fault := h.refresh(ctx, a); fault != nil {
		return fault
	}
	if fault := h.hold(ctx, a); fault != nil {
		return fault
	}
	a.mu.Lock()
	resumed := a.resumed[e.ID]
	a.mu.Unlock()
	if resumed {
		return nil
	}
	a.loading.Lock()
	defer a.loading.Unlock()
	return h.resume(ctx, a, e)
}

// An ending is what the enclave says of a request that has ended, or runs: then
// the tab is without its cost. Without a tab it knows nothing of it, or nothing
// that costs.
type ending struct {
	cost uint64
	tab  ledger.Tab
}

const (
	retryLeast, retryMost = 100 * time.Millisecond, 5 * time.Second
	settleWithin          = 10 * time.Minute // as long as enclaves remember
)

// record books an ended request. It tries again until the ledger has it and,
// where the cost is not known yet, until the enclave tells; what it has not
// done when the host ends is left to the next process.
func (h *Host) record(a *account, s *admission, id string, end ending, known bool) {
	booked := false
	defer func() {
		a.mu.Lock()
		a.recording--
		a.abandoned = a.abandoned || !booked
		a.mu.Unlock()
	}()
	s.books.Lock()
	s.ended = true
	var kept []string
	if s.kept {
		kept = []string{id}
	}
	s.books.Unlock()
	ctx := context.Background()
	for began, pause := h.cfg.Now(), retryLeast; ; pause = min(2*pause, retryMost) {
		var err error
		if !known {
			if end, err = s.enclave.settle(id); err == nil {
				if known = true; end.tab.ID != "" {
					a.correct(s, end.cost)
				}
			} else if h.cfg.Now().Sub(began) > settleWithin {
				h.cfg.Log.Warn("cost unknown, charging what the enclave said last", "enclave", s.enclave.ID, "err", err)
				end, known = ending{}, true
			}
		}
		if known {
			switch {
			case end.tab.ID != "":
				tab := end.tab
				tab.Channel, tab.Enclave = a.name, s.enclave.ID
				err = h.cfg.Ledger.Book(ctx, tab, kept...)
			case kept != nil:
				err = h.cfg.Ledger.Lose(ctx, a.name, id)
			}
			booked = err == nil
			if err == nil || errors.Is(err, ledger.ErrClosed) || errors.Is(err, ledger.ErrTaken) {
				return // the next process hears of it from the enclave
			}
			h.cfg.Log.Error("cost not recorded yet", "err", err)
		}
		select {
		case <-time.After(pause):
		case <-h.quit:
			return
		}
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, relayBuffer); return &b }}

// relay passes the sealed request on and the sealed answer back, a piece at a
// time. It returns what the enclave states at its end, and the request's body if
// the transport may still hold it.
func (h *Host) relay(w http.ResponseWriter, r *http.Request, a *account, e *upstream, id string, allot uint64) (end ending, lent *lentBody, err error) {
	answered := false
	defer func() { h.ended(r.Context(), answered, err) }()
	if allot > h.cfg.Window {
		if fault := h.keepStream(r.Context(), a, a.running(id), id, ending{}); fault != nil {
			h.fail(w, fault)
			return ending{}, nil, nil
		}
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{})
	on := newArrival(rc, h.bodyWithin)
	defer on.ended()
	var req *http.Request
	if r.ContentLength > 0 && r.ContentLength <= relayBuffer {
		// The transport sends what is in memory together with its header.
		whole := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, whole); err != nil {
			f := apierror.New(400, "truncated_request", "the sealed request is incomplete", "send it again")
			if on.late() {
				f = errSlow
			}
			h.fail(w, f)
			return ending{}, nil, nil
		}
		on.ended()
		h.counts.in.Add(uint64(len(whole)))
		if req, err = e.request(r.Context(), http.MethodPost, "/sealed", bytes.NewReader(whole)); err != nil {
			return ending{}, nil, err
		}
	} else {
		// An HTTP/1 server would close the request's body when the answer begins,
		// under the hands of the transport that is still looking for its end.
		if err := rc.EnableFullDuplex(); err != nil {
			return ending{}, nil, err
		}
		body := &lentBody{src: r.Body, left: r.ContentLength, count: &h.counts.in, on: on, back: make(chan struct{}), rc: rc, http1: r.ProtoMajor == 1}
		if req, err = e.request(r.Context(), http.MethodPost, "/sealed", body); err != nil {
			return ending{}, nil, err
		}
		lent = body
		req.ContentLength = r.ContentLength
	}
	req.Header["Content-Type"] = []string{requestType}
	req.Header["Bombyx-Stream"] = []string{id}
	req.Header["Bombyx-Channel"] = []string{a.name}
	req.Header["Bombyx-Credit"] = []string{strconv.FormatUint(allot, 10)}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		f := h.upstreamFault(e, err)
		if on.late() {
			f = errSlow
		}
		h.early(w, f)
		return ending{}, lent, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f := apierror.Read(resp)
		if f.Code == "taken_over" && h.cfg.Ledger.Confirm(r.Context()) == nil {
			// By an earlier process that had not noticed yet that it is one.
			if _, err := e.end(r.Context(), a.name); err != nil {
				h.upstreamFault(e, err)
			}
		}
		h.early(w, f)
		return ending{}, lent, nil // the enclave refused before it ran anything
	}
	w.Header()["Content-Type"] = []string{responseType}
	w.WriteHeader(http.StatusOK)
	answered = true
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	ended := make(chan struct{})
	stalled := time.AfterFunc(h.takeWithin, func() {
		defer close(ended)
		rc.SetWriteDeadline(time.Unix(1, 0))
	})
	stalled.Stop() // it runs while the client is written to
	for {
		n, err := resp.Body.Read(*p)
		if n > 0 {
			if h.sure(r.Context(), a) != nil {
				return ending{}, lent, errCut
			}
			h.counts.out.Add(uint64(n))
			stalled.Reset(h.takeWithin)
			_, werr := w.Write((*p)[:n])
			if werr == nil && err == nil {
				werr = rc.Flush()
			}
			if !stalled.Stop() {
				<-ended // rc is no longer ours once this has returned
				werr = errors.Join(errStalled, werr)
			}
			if werr != nil {
				return ending{}, lent, errors.Join(errGone, werr)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return ending{}, lent, errors.Join(errCut, err)
		}
	}
	end, err = readEnding(resp.Trailer)
	return end, lent, err
}

// A lentBody is a request's body in the hands of a transport, which may read it
// and close it after RoundTrip has returned. The server must not go on to the
// connection's next request meanwhile: both would read from it.
type lentBody struct {
	src   io.Reader
	left  int64 // bytes to come, negative if unknown; the transport's
	end   bool  // seen; likewise
	count *atomic.Uint64
	once  sync.Once
	on    *arrival
	rc    *http.ResponseController
	http1 bool
	back  chan struct{} // closed by Close
}

func (b *lentBody) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.count.Add(uint64(n))
	b.left -= int64(n)
	b.end = b.end || err == io.EOF || b.left == 0
	if b.end {
		b.on.ended()
	}
	return n, err
}

func (b *lentBody) Close() error {
	b.once.Do(func() { close(b.back) })
	return nil
}

// recall waits until the transport has let go of the body, and reports whether
// the connection has a future. An HTTP/1 server with full duplex does not survive
// to look for the rest of a request itself, and one that closed the connection on
// it would take from the client an answer that it has not read yet. So unless the
// answer is cut anyway the rest is read here, as far as a request goes and in the
// time that it has.
func (b *lentBody) recall(cut bool) bool {
	grace, rest := graceForBody, b.http1 && !cut
	if rest {
		b.rc.Flush()
		grace = time.Until(b.on.until) // the transport lets go when it sees the next piece
	}
	select {
	case <-b.back:
	case <-time.After(grace):
		b.rc.SetReadDeadline(time.Unix(1, 0))
		<-b.back
	}
	if b.end || !rest {
		return true
	}
	b.rc.SetReadDeadline(b.on.until)
	io.CopyN(io.Discard, b, maxSealed)
	return b.end
}

// An arrival ends the reading of a request that takes too long to come.
type arrival struct {
	until time.Time
	clock *time.Timer
	state atomic.Int32 // 0 while it comes, 1 once that has ended, 2 if it is late
}

func newArrival(rc *http.ResponseController, within time.Duration) *arrival {
	a := &arrival{until: time.Now().Add(within)}
	a.clock = time.AfterFunc(within, func() {
		if a.state.CompareAndSwap(0, 2) {
			rc.SetReadDeadline(time.Unix(1, 0))
		}
	})
	return a
}

func (a *arrival) ended() {
	if a.state.CompareAndSwap(0, 1) {
		a.clock.Stop()
	}
}

func (a *arrival) late() bool { return a.state.Load() == 2 }

var errSlow = apierror.New(408, "slow_request", "the request did not arrive in time", "send it again, over a faster link")

const (
	takeWithin   = time.Minute            // that a client may take nothing of an answer: it would hold the engine's place for what it has paid ahead
	smallWithin  = time.Minute            // that a body may take to arrive which is no admitted sealed request
	graceForBody = 100 * time.Millisecond // for a transport to let go of the body of a request that is answered
	maxSealed    = 9 << 20                // bytes of a sealed request: 8 MiB of content, and padding
)

// readEnding reads the fields Bombyx-Cost and Bombyx-Tab.
func readEnding(h http.Header) (end ending, err error) {
	if end.cost, err = strconv.ParseUint(h.Get("Bombyx-Cost"), 10, 63); err != nil {
		return end, fmt.Errorf("host: the enclave states no cost: %w", err)
	}
	end.tab, err = readTab(h)
	return end, err
}

func readTab(h http.Header) (t ledger.Tab, err error) {
	id, total, ok := strings.Cut(h.Get("Bombyx-Tab"), " ")
	if t.Total, err = strconv.ParseUint(total, 10, 63); err != nil || !ok || len(id) != 16 {
		return ledger.Tab{}, errors.New("host: the enclave shows no tab")
	}
	t.ID = id
	return t, nil
}

// early answers with a fault while the client may still be sending. It is whole
// before the handler ends.
func (h *Host) early(w http.ResponseWriter, f *apierror.Error) {
	w.Header().Set("Content-Length", strconv.Itoa(len(f.JSON())))
	h.fail(w, f)
}

// refuse answers with a fault; for want of credit it says what the host knows.
func (h *Host) refuse(w http.ResponseWriter, a *account, f *apierror.Error) {
	if f.Status == http.StatusPaymentRequired {
		setBalances(w.Header().Set, a.balances())
	}
	h.fail(w, f)
}

func readBody(r *http.Request, size int) ([]byte, *apierror.Error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(size)+1))
	if err != nil || len(b) != size {
		return nil, apierror.New(400, "malformed_body", fmt.Sprintf("the body is not %d bytes", size), "see docs/protocol.md")
	}
	return b, nil
}

func parseAllot(s string) (uint64, *apierror.Error) {
	v, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, apierror.New(400, "malformed_header", "Bombyx-Allot is not a decimal amount of nanogram", "see docs/protocol.md")
	}
	return v, nil
}

// An upstream is an enclave behind its transport.
type upstream struct {
	Enclave
	process string        // this one
	slots   chan struct{} // Evidence being collected
	epochs  chan struct{} // capacity 1: held by who reads or replaces epoch
	epoch   epochDocument

	evidence, evidenceFailed atomic.Uint64 // documents asked for

	mu   sync.Mutex
	card *card.Enclave
	read time.Time // when card was: an enclave may be started again, with other models

	look singleflight.Group // an enclave that does not answer is not waited for once by each, one after the other
}

func (e *upstream) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+e.Authority+path, body)
	if err == nil {
		req.Header["Bombyx-Process"] = []string{e.process}
	}
	return req, err
}

// get fetches a small document; an enclave's own refusal is an apierror.
func (e *upstream) get(ctx context.Context, method, path string, body []byte) ([]byte, string, error) {
	req, err := e.request(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", apierror.Read(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, "", err
	}
	if len(b) > maxDocument {
		return nil, "", fmt.Errorf("host: %s is larger than %d bytes", path, maxDocument)
	}
	return b, resp.Header.Get("Content-Type"), nil
}

// post sends a header-only command.
func (e *upstream) post(ctx context.Context, path string, header map[string]string) (*http.Response, error) {
	req, err := e.request(ctx, http.MethodPost, path, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, apierror.Read(resp)
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	return resp, nil
}

// credit raises a stream's credit and returns its cost so far, and the tab, which
// does not include it.
func (e *upstream) credit(ctx context.Context, id string, credit uint64) (ending, *apierror.Error) {
	resp, err := e.post(ctx, "/credit", map[string]string{"Bombyx-Stream": id, "Bombyx-Credit": strconv.FormatUint(credit, 10)})
	var f *apierror.Error
	if errors.As(err, &f) {
		return ending{}, f
	}
	if err == nil {
		var now ending
		if now, err = readEnding(resp.Header); err == nil {
			return now, nil
		}
	}
	return ending{}, noAnswer(err)
}

// settle asks the enclave what a stream cost, ending it if it still runs. One
// that the enclave does not know has no tab.
func (e *upstream) settle(id string) (ending, error) {
	resp, err := e.ask(context.Background(), "Bombyx-Stream", id)
	if resp == nil || err != nil {
		return ending{}, err
	}
	return readEnding(resp.Header)
}

// end ends all streams of a channel and returns its tab, one without an id when
// the enclave has none.
func (e *upstream) end(ctx context.Context, name string) (ledger.Tab, error) {
	resp, err := e.ask(ctx, "Bombyx-Channel", name)
	if err != nil {
		return ledger.Tab{}, err
	}
	var t ledger.Tab
	if resp != nil {
		t, err = readTab(resp.Header)
	}
	t.Channel, t.Enclave = name, e.ID
	return t, err
}

// ask is a /settle; nil means that the enclave knows nothing of it.
func (e *upstream) ask(ctx context.Context, field, value string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := e.post(ctx, "/settle", map[string]string{field: value})
	var f *apierror.Error
	if errors.As(err, &f) && f.Code == "unknown_stream" {
		return nil, nil
	}
	return resp, err
}

// manifestFresh is for how long an enclave is not asked again what it serves.
const manifestFresh = 10 * time.Second

// describe says what an enclave serves.
func (e *upstream) describe(ctx context.Context, prices price.List, now time.Time) (*card.Enclave, error) {
	e.mu.Lock()
	c, age := e.card, now.Sub(e.read)
	e.mu.Unlock()
	if c != nil && age >= 0 && age < manifestFresh {
		return c, nil
	}
	look := e.look.DoChan("", func() (any, error) {
		c, err := e.readManifest(prices)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.card, e.read = c, now
		return c, err
	})
	select {
	case r := <-look:
		return r.Val.(*card.Enclave), r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *upstream) readManifest(prices price.List) (*card.Enclave, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b, _, err := e.get(ctx, http.MethodGet, "/manifest", nil)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(b)
	if err != nil {
		return nil, err
	}
	c := &card.Enclave{ID: e.ID, Manifest: sha256.Sum256(b)}
	for _, m := range m.Models {
		if _, ok := prices[m.ID]; ok {
			c.Models = append(c.Models, m.ID)
		}
	}
	if len(c.Models) == 0 {
		return nil, errors.New("none of its models has a price")
	}
	return c, nil
}
