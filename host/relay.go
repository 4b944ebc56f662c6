package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/direct"
	"github.com/bombyx-network/bombyx/internal/receipt"
)

const (
	requestType  = "message/ohttp-chunked-req"
	responseType = "message/ohttp-chunked-res"

	relayBuffer = 16 << 10
)

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
	if e.drained.Load() {
		h.refuse(w, a, apierror.New(421, "enclave_drained", "the enclave takes no new requests", "use another enclave, or another host"))
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
	ended := h.cfg.Now()
	h.aside(func() { h.record(a, s, id, end, err == nil, ended) })
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

const (
	retryLeast, retryMost = 100 * time.Millisecond, 5 * time.Second
	settleWithin          = 10 * time.Minute // as long as enclaves remember
)

// record books an ended request. It tries again until the ledger has it and,
// where the cost is not known yet, until the enclave tells; what it has not
// done when the host ends is left to the next process.
func (h *Host) record(a *account, s *admission, id string, end ending, known bool, ended time.Time) {
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
	for pause := retryLeast; ; pause = min(2*pause, retryMost) {
		var err error
		if !known {
			if end, err = s.enclave.settle(id); err == nil {
				if known = true; end.tab.ID != "" {
					a.correct(s, end.cost)
				}
			} else if h.cfg.Now().Sub(ended) > settleWithin {
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
		if direct.Unconnected(err) {
			err = nil // it has not run
			f = apierror.New(421, "enclave_down", "there is no connection to the enclave", "use another enclave, or another host")
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

// early answers with a fault while the client may still be sending. It is whole
// before the handler ends.
func (h *Host) early(w http.ResponseWriter, f *apierror.Error) {
	w.Header().Set("Content-Length", strconv.Itoa(len(f.JSON())))
	h.fail(w, f)
}
