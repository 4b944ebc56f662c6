package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
)

const maxDocument = 4 << 20 // bytes of Evidence or manifest

// An upstream is an enclave behind its transport.
type upstream struct {
	Enclave
	process string        // this one
	slots   chan struct{} // Evidence being collected
	epochs  chan struct{} // capacity 1: held by who reads or replaces epoch
	epoch   epochDocument

	evidence, evidenceFailed atomic.Uint64 // documents asked for
	drained                  atomic.Bool   // takes no new requests

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

// get fetches a small document and its header; an enclave's own refusal is an apierror.
func (e *upstream) get(ctx context.Context, method, path string, body []byte) ([]byte, http.Header, error) {
	req, err := e.request(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, apierror.Read(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, nil, err
	}
	if len(b) > maxDocument {
		return nil, nil, fmt.Errorf("host: %s is larger than %d bytes", path, maxDocument)
	}
	return b, resp.Header, nil
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
func (e *upstream) describe(ctx context.Context, cfg *Config, now time.Time) (*card.Enclave, error) {
	e.mu.Lock()
	c, age := e.card, now.Sub(e.read)
	e.mu.Unlock()
	if c != nil && age >= 0 && age < manifestFresh {
		return c, nil
	}
	look := e.look.DoChan("", func() (any, error) {
		c, err := e.readManifest(cfg.Prices)
		if err != nil {
			cfg.Log.Warn("enclave is not on the card", "enclave", e.ID, "err", err)
		}
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
	b, h, err := e.get(ctx, http.MethodGet, "/manifest", nil)
	if err != nil {
		return nil, err
	}
	own, err := prices.Digest()
	if err != nil {
		return nil, err
	}
	if h.Get("Bombyx-Prices") != hex.EncodeToString(own[:]) { // every client would refuse its receipts
		return nil, errors.New("its prices are not the host's: enclave.json and host.json must have the same list")
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

// An ending is what the enclave says of a request that has ended, or runs: then
// the tab is without its cost. Without a tab it knows nothing of it, or nothing
// that costs.
type ending struct {
	cost uint64
	tab  ledger.Tab
}

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
