package enclave

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/internal/apierror"
)

// Handler serves the host: see docs/protocol.md, "Host and enclave".
func (e *Enclave) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keyset", e.serveKeyset)
	mux.HandleFunc("GET /manifest", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Bombyx-Prices", hex.EncodeToString(e.prices[:]))
		w.Write(e.cfg.Manifest)
	})
	mux.HandleFunc("GET /health", e.serveHealth)
	mux.HandleFunc("POST /evidence", e.serveEvidence)
	mux.HandleFunc("POST /epoch", e.serveEpoch)
	mux.HandleFunc("POST /sealed", e.serveSealed)
	mux.HandleFunc("POST /credit", e.serveCredit)
	mux.HandleFunc("POST /settle", e.serveSettle)
	return mux
}

func (e *Enclave) serveKeyset(w http.ResponseWriter, r *http.Request) {
	g, err := e.current(nil)
	if err != nil {
		apierror.New(503, "no_keys", "the enclave cannot make keys", "restart it").Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(g.encoded)
}

func (e *Enclave) serveHealth(w http.ResponseWriter, r *http.Request) {
	if _, err := e.cfg.Engine.Models(r.Context()); err != nil {
		apierror.New(503, "engine_down", "the engine does not answer", "start it, or see its log").Write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (e *Enclave) serveEvidence(w http.ResponseWriter, r *http.Request) {
	var nonce [32]byte
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(len(nonce))+1))
	if err != nil || len(b) != len(nonce) {
		apierror.New(400, "malformed_nonce", "the nonce is not 32 bytes", "send 32 random bytes").Write(w)
		return
	}
	copy(nonce[:], b)
	doc, err := e.Evidence(r.Context(), nonce)
	e.writeEvidence(w, doc, err)
}

func (e *Enclave) serveEpoch(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, attestation.EpochSize+1))
	if err != nil {
		b = nil
	}
	epoch, err := attestation.ParseEpoch(b)
	if err != nil {
		apierror.New(400, "malformed_epoch", fmt.Sprintf("the epoch is not %d bytes", attestation.EpochSize), "send a block's seqno and root hash").Write(w)
		return
	}
	doc, err := e.EpochEvidence(r.Context(), epoch)
	e.writeEvidence(w, doc, err)
}

func (e *Enclave) writeEvidence(w http.ResponseWriter, doc []byte, err error) {
	switch {
	case errors.Is(err, errBusy):
		apierror.New(429, "busy", "too much Evidence is being collected", "try again in a second").After(time.Second).Write(w)
	case err != nil:
		e.cfg.Log.Error("no evidence", "err", err)
		apierror.New(503, "no_evidence", "the hardware gave no Evidence", "see the enclave's log").Write(w)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Write(doc)
	}
}

func (e *Enclave) serveCredit(w http.ResponseWriter, r *http.Request) {
	credit, err := strconv.ParseUint(r.Header.Get("Bombyx-Credit"), 10, 63)
	if err != nil {
		apierror.New(400, "malformed_header", "Bombyx-Credit is malformed", "see docs/protocol.md").Write(w)
		return
	}
	e.mu.Lock()
	if fault := e.serves(r.Header.Get(processHeader)); fault != nil {
		e.mu.Unlock()
		fault.Write(w)
		return
	}
	var s *stream
	if id, ok := parseStreamID(r.Header.Get("Bombyx-Stream")); ok {
		s = e.streams[id]
	}
	var tab string
	if s != nil {
		tab = s.tab.String() // while it runs: its cost is not in it
	}
	e.mu.Unlock()
	if s == nil {
		apierror.New(404, "unknown_stream", "no such stream runs", "").Write(w)
		return
	}
	s.meter.raise(credit)
	w.Header().Set("Bombyx-Tab", tab)
	w.Header().Set("Bombyx-Cost", strconv.FormatUint(s.meter.spent(), 10))
	w.WriteHeader(http.StatusNoContent)
}

// processHeader says which of the host's processes speaks. One that settles a
// channel begins to serve it, and its ledger has fenced off the one before, which
// may not have noticed yet: what that one had running ends, and it gets no more.
const processHeader = "Bombyx-Process"

// serves refuses all processes but the last that took the enclave over. The
// caller holds e.mu.
func (e *Enclave) serves(process string) *apierror.Error {
	if e.process == "" && len(process) <= 64 {
		e.process = process
	}
	if process != e.process {
		return apierror.New(409, "taken_over", "another process of the host serves the enclave", "try again")
	}
	return nil
}

// serveSettle ends a stream, or all streams of a channel, and says what it or
// they have cost.
func (e *Enclave) serveSettle(w http.ResponseWriter, r *http.Request) {
	name, channel := r.Header.Get("Bombyx-Stream"), r.Header.Get("Bombyx-Channel")
	if (name == "") == (channel == "") {
		apierror.New(400, "malformed_header", "one of Bombyx-Stream and Bombyx-Channel is needed", "see docs/protocol.md").Write(w)
		return
	}
	id, named := parseStreamID(name)
	var running []*stream
	e.mu.Lock()
	if process := r.Header.Get(processHeader); channel != "" && process != "" && process != e.process && len(process) <= 64 {
		e.process = process
		for _, s := range e.streams {
			running = append(running, s)
		}
	} else if named && e.streams[id] != nil {
		running = append(running, e.streams[id])
	} else if t := e.tabs[channel]; t != nil && t.users > 0 {
		for _, s := range e.streams {
			if s.tab == t {
				running = append(running, s)
			}
		}
	}
	why := errSettled
	if named {
		why = errCancelled
	}
	for _, s := range running {
		s.cancel(why)
		if !named { // a process that was stopped would hold up what it does not read, or has not sent yet
			s.settled = true
			s.link.SetReadDeadline(time.Unix(1, 0))
			s.link.SetWriteDeadline(time.Unix(1, 0))
		}
	}
	e.mu.Unlock()
	for _, s := range running {
		select {
		case <-s.done:
		case <-r.Context().Done():
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tabs[channel]
	if ended, ok := e.ended.cost[id]; named && ok {
		t = ended.tab
		w.Header().Set("Bombyx-Cost", strconv.FormatUint(ended.cost, 10))
	}
	if t == nil {
		apierror.New(404, "unknown_stream", "no such stream ran in the last ten minutes", "").Write(w)
		return
	}
	w.Header().Set("Bombyx-Tab", t.String())
	w.WriteHeader(http.StatusNoContent)
}
