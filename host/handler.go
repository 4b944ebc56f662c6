package host

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

const maxEvidence = 2 // documents being collected at once, for each enclave

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

func (h *Host) serveManifest(w http.ResponseWriter, r *http.Request) {
	h.forward(w, r, func(ctx context.Context, e *upstream) ([]byte, http.Header, error) {
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
	h.forward(w, r, func(ctx context.Context, e *upstream) ([]byte, http.Header, error) {
		return e.collect(ctx, "/evidence", nonce)
	})
}

// forward passes on a small public document of an enclave.
func (h *Host) forward(w http.ResponseWriter, r *http.Request, get func(context.Context, *upstream) ([]byte, http.Header, error)) {
	e := h.enclaves[r.PathValue("id")]
	if e == nil {
		h.fail(w, unknownEnclave())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	b, from, err := get(ctx, e)
	if err != nil {
		h.fail(w, h.upstreamFault(e, err))
		return
	}
	w.Header().Set("Content-Type", from.Get("Content-Type"))
	w.Write(b)
}

func unknownEnclave() *apierror.Error {
	return apierror.New(404, "unknown_enclave", "this host has no such enclave", "take its id from the card")
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
