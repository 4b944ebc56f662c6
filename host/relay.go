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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
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
	mux.HandleFunc("GET /v1/card", h.serveCard)
	mux.HandleFunc("GET /v1/collateral", func(w http.ResponseWriter, r *http.Request) {
		var bundle []byte
		if h.cfg.Collateral != nil {
			bundle = h.cfg.Collateral()
		}
		if len(bundle) == 0 {
			apierror.New(404, "no_collateral", "this host serves no collateral", "fetch it from Intel, AMD and NVIDIA").Write(w)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(bundle)
	})
	mux.HandleFunc("POST /v1/session", h.serveSession)
	mux.HandleFunc("POST /v1/voucher", h.serveVoucher)
	mux.HandleFunc("POST /v1/close", h.serveClose)
	mux.HandleFunc("GET /v1/enclaves/{id}/manifest", h.serveManifest)
	mux.HandleFunc("POST /v1/enclaves/{id}/evidence", h.serveEvidence)
	mux.HandleFunc("GET /v1/enclaves/{id}/epoch", h.serveEpoch)
	mux.HandleFunc("POST /v1/enclaves/{id}/sealed", h.serveSealed)
	return mux
}

func (h *Host) serveCard(w http.ResponseWriter, r *http.Request) {
	s, err := h.Card(r.Context())
	if err != nil {
		h.cfg.Log.Error("no card", "err", err)
		apierror.New(503, "no_enclave", "no enclave of this host answers", "try again, or another host").Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/jose")
	io.WriteString(w, s)
}

func (h *Host) serveSession(w http.ResponseWriter, r *http.Request) {
	body, fault := readBody(r, session.Size)
	if fault != nil {
		fault.Write(w)
		return
	}
	a, fault := h.openSession(r.Context(), body)
	if fault != nil {
		fault.Write(w)
		return
	}
	t, fault := h.accounts.issue(a, h.cfg.Now())
	if fault != nil {
		fault.Write(w)
		return
	}
	row, err := h.cfg.Ledger.Channel(r.Context(), a.address.Raw())
	if err != nil {
		h.ledgerFault(err).Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(struct {
		Token string `json:"token"`
		balances
		Voucher string `json:"voucher"`
	}{t, a.balances(), hex.EncodeToString(row.Voucher)})
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
		fault.Write(w)
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

// raise gives a running stream more credit.
func (h *Host) raise(ctx context.Context, a *account, id, amount string) *apierror.Error {
	allot, fault := parseAllot(amount)
	if fault != nil {
		return fault
	}
	if fault := a.admit(id, allot, nil); fault != nil {
		return fault
	}
	s := a.running(id)
	if s == nil {
		return apierror.New(404, "unknown_stream", "the stream has just ended", "")
	}
	cost, fault := s.enclave.credit(ctx, id, allot)
	if fault != nil {
		return fault
	}
	return h.keepStream(ctx, a, s, id, cost)
}

// keepStream makes durable what a running request has cost so far, so that a
// host that is killed forgets no more than what came after.
func (h *Host) keepStream(ctx context.Context, a *account, s *admission, id string, cost uint64) *apierror.Error {
	a.note(s, cost)
	s.books.Lock()
	defer s.books.Unlock()
	if s.ended {
		return nil
	}
	s.kept = true
	if err := h.cfg.Ledger.SetStream(ctx, ledger.Stream{Channel: a.address.Raw(), ID: id, Enclave: s.enclave.ID, Cost: cost}); err != nil {
		return h.ledgerFault(err)
	}
	return nil
}

func (h *Host) serveManifest(w http.ResponseWriter, r *http.Request) {
	h.forward(w, r, http.MethodGet, "/manifest", nil)
}

func (h *Host) serveEvidence(w http.ResponseWriter, r *http.Request) {
	nonce, fault := readBody(r, 32)
	if fault != nil {
		fault.Write(w)
		return
	}
	e := h.enclaves[r.PathValue("id")]
	if e != nil {
		select {
		case e.slots <- struct{}{}:
			defer func() { <-e.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			apierror.New(429, "busy", "too much Evidence is being collected", "try again in a second").Write(w)
			return
		}
	}
	h.forward(w, r, http.MethodPost, "/evidence", nonce)
}

// forward passes on a small public document of an enclave.
func (h *Host) forward(w http.ResponseWriter, r *http.Request, method, path string, body []byte) {
	e := h.enclaves[r.PathValue("id")]
	if e == nil {
		unknownEnclave().Write(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	b, kind, err := e.get(ctx, method, path, body)
	if err != nil {
		h.upstreamFault(e, err).Write(w)
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
	h.cfg.Log.Warn("enclave does not answer", "enclave", e.ID, "err", err)
	return apierror.New(502, "enclave_down", "the enclave does not answer", "try again, or another host")
}

// serveSealed admits a request and relays it as it comes.
func (h *Host) serveSealed(w http.ResponseWriter, r *http.Request) {
	a, fault := h.account(r)
	if fault != nil {
		fault.Write(w)
		return
	}
	e := h.enclaves[r.PathValue("id")]
	if e == nil {
		unknownEnclave().Write(w)
		return
	}
	id := r.Header.Get("Bombyx-Stream")
	allot, fault := parseAllot(r.Header.Get("Bombyx-Allot"))
	switch {
	case fault != nil:
	case !validStream(id):
		fault = apierror.New(400, "malformed_header", "Bombyx-Stream is not 32 lower-case hexadecimal digits", "choose a random one")
	case r.Header.Get("Content-Type") != requestType:
		fault = apierror.New(415, "wrong_type", "the request is not "+requestType, "seal it: see docs/protocol.md")
	default:
		if fault = h.refresh(r.Context(), a); fault == nil {
			fault = a.admit(id, allot, e)
		}
	}
	if fault != nil {
		h.refuse(w, a, fault)
		return
	}
	cost, err := h.relay(w, r, a, e, id, allot)
	cut, known := errors.Is(err, errCut), &cost
	if err != nil {
		// The client or the enclave went away: only the enclave knows the cost.
		if cost, err = e.settle(id); err != nil {
			h.cfg.Log.Warn("cost unknown, charging what the enclave said last", "enclave", e.ID, "err", err)
			known = nil
		}
	}
	s, due := a.settle(id, known)
	h.recording.Go(func() { h.recordSpent(a, s, id, due) })
	if cut {
		// The client must see a cut, not an end, whatever repairs framing in
		// between.
		panic(http.ErrAbortHandler)
	}
}

// errCut means that an answer broke off after its header.
var errCut = errors.New("host: the answer broke off")

func (h *Host) recordSpent(a *account, s *admission, id string, cost uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.books.Lock()
	defer s.books.Unlock()
	s.ended = true
	if !s.kept {
		if cost == 0 {
			return
		}
		id = ""
	}
	if err := h.cfg.Ledger.EndStream(ctx, ledger.Stream{Channel: a.address.Raw(), ID: id, Enclave: s.enclave.ID, Cost: cost}); err != nil {
		h.cfg.Log.Error("cost not recorded", "err", err)
	}
}

// settleLeft charges what a killed process left running. The enclaves know,
// for ten minutes; after that, or when they were killed too, it is what they
// said last.
func (h *Host) settleLeft() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	left, err := h.cfg.Ledger.Streams(ctx)
	if err != nil {
		return err
	}
	failed := make([]error, len(left))
	var wg sync.WaitGroup
	for i, s := range left {
		wg.Go(func() {
			if e := h.enclaves[s.Enclave]; e != nil {
				if cost, err := e.settle(s.ID); err == nil {
					s.Cost = max(s.Cost, cost)
				}
			}
			failed[i] = h.cfg.Ledger.EndStream(ctx, s)
			h.cfg.Log.Info("settled a request that a killed process left", "channel", s.Channel, "cost", s.Cost)
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, relayBuffer); return &b }}

// relay passes the sealed request on and the sealed answer back, a piece at a
// time, and returns the cost that the enclave states at its end.
func (h *Host) relay(w http.ResponseWriter, r *http.Request, a *account, e *upstream, id string, allot uint64) (uint64, error) {
	if allot > h.cfg.Window {
		if fault := h.keepStream(r.Context(), a, a.running(id), id, 0); fault != nil {
			fault.Write(w)
			return 0, nil
		}
	}
	// An HTTP/1 server would close the request's body when the answer begins,
	// under the hands of the transport that is still looking for its end.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		return 0, err
	}
	req, err := e.request(r.Context(), http.MethodPost, "/sealed", r.Body)
	if err != nil {
		return 0, err
	}
	req.ContentLength = r.ContentLength
	req.Header["Content-Type"] = []string{requestType}
	req.Header["Bombyx-Stream"] = []string{id}
	req.Header["Bombyx-Credit"] = []string{strconv.FormatUint(allot, 10)}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		h.upstreamFault(e, err).Write(w)
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f := apierror.Read(resp)
		f.Write(w)
		return 0, nil // the enclave refused before it ran anything
	}
	w.Header()["Content-Type"] = []string{responseType}
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	for {
		n, err := resp.Body.Read(*p)
		if n > 0 {
			if _, werr := w.Write((*p)[:n]); werr != nil {
				return 0, errors.Join(errCut, werr)
			}
			if err == nil {
				if ferr := rc.Flush(); ferr != nil {
					return 0, errors.Join(errCut, ferr)
				}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, errors.Join(errCut, err)
		}
	}
	return strconv.ParseUint(resp.Trailer.Get("Bombyx-Cost"), 10, 63)
}

// refuse answers with a fault; for want of credit it says what the host knows.
func (h *Host) refuse(w http.ResponseWriter, a *account, f *apierror.Error) {
	if f.Status == http.StatusPaymentRequired {
		setBalances(w.Header().Set, a.balances())
	}
	f.Write(w)
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

func validStream(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// An upstream is an enclave behind its transport.
type upstream struct {
	Enclave
	slots  chan struct{} // Evidence being collected
	epochs chan struct{} // capacity 1: held by who reads or replaces epoch
	epoch  epochDocument

	mu   sync.Mutex
	card *card.Enclave // the manifest does not change while an enclave runs
}

func (e *upstream) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, "http://"+e.Authority+path, body)
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

// credit raises a stream's credit and returns its cost so far.
func (e *upstream) credit(ctx context.Context, id string, credit uint64) (uint64, *apierror.Error) {
	resp, err := e.post(ctx, "/credit", map[string]string{"Bombyx-Stream": id, "Bombyx-Credit": strconv.FormatUint(credit, 10)})
	var f *apierror.Error
	if errors.As(err, &f) {
		return 0, f
	}
	if err == nil {
		var cost uint64
		if cost, err = strconv.ParseUint(resp.Header.Get("Bombyx-Cost"), 10, 63); err == nil {
			return cost, nil
		}
	}
	return 0, apierror.New(502, "enclave_down", "the enclave does not answer", "try again, or another host")
}

// settle asks the enclave what a stream cost, ending it if it still runs.
func (e *upstream) settle(id string) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := e.post(ctx, "/settle", map[string]string{"Bombyx-Stream": id})
	var f *apierror.Error
	if errors.As(err, &f) && f.Code == "unknown_stream" {
		return 0, nil // the request never reached it
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(resp.Header.Get("Bombyx-Cost"), 10, 63)
}

// describe reads what an enclave serves from its manifest.
func (e *upstream) describe(ctx context.Context, prices price.List) (*card.Enclave, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.card != nil {
		return e.card, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
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
	e.card = c
	return c, nil
}
