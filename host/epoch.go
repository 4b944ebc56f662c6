package host

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/internal/apierror"
)

// Epochs says whether one Evidence document of each enclave serves many clients.
type Epochs struct {
	Lifetime time.Duration                                    // of one document; 0 for none: every client sends its nonce
	Newest   func(context.Context) (attestation.Epoch, error) // the chain's newest masterchain block
}

// An epochDocument is what clients get: the encoded epoch and the Evidence.
type epochDocument struct {
	body  []byte
	until time.Time
}

func (h *Host) serveEpoch(w http.ResponseWriter, r *http.Request) {
	e := h.enclaves[r.PathValue("id")]
	switch {
	case e == nil:
		h.fail(w, unknownEnclave())
		return
	case h.cfg.Epochs.Lifetime == 0:
		h.fail(w, apierror.New(404, "no_epoch", "this host offers no Evidence of an epoch", "ask with a nonce"))
		return
	}
	body, fault := h.epoch(r.Context(), e)
	if fault != nil {
		h.fail(w, fault)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(body)
}

// epoch returns the current document. Whoever comes first after it has expired
// has the next one made; the others wait for it.
func (h *Host) epoch(ctx context.Context, e *upstream) ([]byte, *apierror.Error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case e.epochs <- struct{}{}:
		defer func() { <-e.epochs }()
	case <-ctx.Done():
		return nil, h.upstreamFault(e, ctx.Err())
	}
	if d := e.epoch; d.body != nil && h.cfg.Now().Before(d.until) {
		return d.body, nil
	}
	block, err := h.Newest(ctx)
	if err != nil {
		h.cfg.Log.Warn("chain does not answer", "err", err)
		return nil, apierror.New(503, "chain_down", "the host cannot read the chain", "try again later")
	}
	encoded := block.AppendEncoded(nil)
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return nil, h.upstreamFault(e, ctx.Err())
	}
	doc, _, err := e.collect(ctx, "/epoch", encoded)
	if err != nil {
		return nil, h.upstreamFault(e, err)
	}
	e.epoch = epochDocument{append(encoded, doc...), h.cfg.Now().Add(h.cfg.Epochs.Lifetime)}
	return e.epoch.body, nil
}

// Newest is for [Epochs]: the newest masterchain block, proven.
func (t *TON) Newest(ctx context.Context) (attestation.Epoch, error) {
	h, err := t.Client.MasterchainHead(ctx)
	if err != nil {
		return attestation.Epoch{}, err
	}
	if h.Seqno == 0 {
		return attestation.Epoch{}, errors.New("host: the chain has no blocks yet")
	}
	return attestation.Epoch{Seqno: h.Seqno, RootHash: h.RootHash, Time: h.Time}, nil
}
