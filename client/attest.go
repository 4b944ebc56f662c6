package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

// An attested enclave is one whose Evidence the policy has accepted.
type attested struct {
	id       string
	evidence [32]byte
	keys     *keyset.Keyset
	sender   *envelope.Sender
	until    time.Time // earliest of all expiries
	prices   Prices
	list     [32]byte          // digest of the price list
	others   bool              // are on the card beside it and those that were tried before
	models   map[string]uint64 // context length in tokens of each that the manifest lists
}

// An offer is a host's card.
type offer struct {
	*card.Card
	listed *card.Entry // in the registry, if it has to be in one
	list   [32]byte    // digest of its price list
}

// currentCard returns the host's card, fetching it when the last has expired.
func (t *Transport) currentCard(ctx context.Context) (*offer, *apierror.Error) {
	t.mu.Lock()
	c := t.card
	t.mu.Unlock()
	if c != nil && t.cfg.Now().Unix() < c.NotAfter {
		return c, nil
	}
	shown, listed, fault := t.fetchCard(ctx)
	if fault != nil {
		return nil, fault
	}
	if fault := t.purse.suits(shown); fault != nil {
		return nil, fault
	}
	list, err := shown.Prices.Digest()
	if err != nil {
		return nil, badCard(err)
	}
	t.prefer(shown.Enclaves)
	c = &offer{shown, listed, list}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.enclaves) > 4*card.MaxEnclaves { // each process of a host has a card of its own; more were made up
		clear(t.enclaves)
	}
	t.card = c
	return c, nil
}

// cardWithin is enough for what a host only has to show: where it is silent, another is asked all the sooner.
const cardWithin = 20 * time.Second

// fetchCard asks the host for its card and verifies it, with the registry entry that it has been held against, if any.
func (t *Transport) fetchCard(ctx context.Context) (*card.Card, *card.Entry, *apierror.Error) {
	soon, cancel := context.WithTimeoutCause(ctx, cardWithin, errSilence)
	b, fault := t.call(soon, http.MethodGet, "/v1/card", nil)
	cancel()
	if fault != nil {
		return nil, nil, fault
	}
	key, fault := t.hostKey(ctx)
	if fault != nil {
		return nil, nil, fault
	}
	c, err := card.Verify(string(b), key, t.cfg.Now())
	if err != nil {
		return nil, nil, badCard(err)
	}
	listed, fault := t.entry(ctx, c)
	return c, listed, fault
}

// entry reads the host's registry entry, if it has to have one, and holds the card against it.
func (t *Transport) entry(ctx context.Context, c *card.Card) (*card.Entry, *apierror.Error) {
	if t.cfg.Listed == nil {
		return nil, nil
	}
	e, err := t.cfg.Listed(ctx)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, apierror.New(403, "bad_card", "the registry that the host was taken from does not list it now: "+err.Error(), "use another host: bombyx registry show lists those in force")
	}
	if err != nil {
		return nil, noRegistry(err)
	}
	if err := e.Allows(c); err != nil {
		return nil, badCard(err)
	}
	return e, nil
}

func noRegistry(err error) *apierror.Error {
	return apierror.New(503, "no_registry", "nothing was sent: a registry that has to be read cannot be: "+err.Error(), "check the network configuration, and the registry with bombyx registry show")
}

const modelNotFound = "model_not_found" // the code

// attest returns an enclave that serves the model and whose Evidence holds
// now: the first of those on the card, but those that were tried. Nothing of
// the request has left this machine before it returns.
func (t *Transport) attest(ctx context.Context, model string, tried ...string) (*attested, *apierror.Error) {
	c, fault := t.currentCard(ctx)
	if fault != nil {
		return nil, fault
	}
	prices, found := c.Prices[model]
	if c.listed != nil {
		_, vouched := c.listed.Prices[model] // or the registry does not vouch for its price
		found = found && vouched
	}
	var entries []*card.Enclave
	var several bool
	if found {
		entries, several = t.candidates(c.Card, model, tried)
	}
	if len(entries) == 0 {
		f := apierror.New(404, modelNotFound, fmt.Sprintf("the host does not serve %.100q", model), "GET /v1/models lists what it serves")
		f.Param = "model"
		return nil, f
	}
	if m := t.cfg.MaxPrices; !prices.AtMost(m) {
		return nil, apierror.New(402, "too_expensive", fmt.Sprintf("the host asks %+v nanogram per million tokens, the limit is %+v", prices, m), "raise the limit, or use another host")
	}
	for _, entry := range entries {
		e, f := t.attestOne(ctx, entry, model)
		if f == nil {
			own := *e // at the prices of this card, whichever it was appraised under
			own.prices, own.list, own.others = prices, c.list, several
			return &own, nil
		}
		fault = cmp.Or(fault, f)
		if ctx.Err() != nil {
			break
		}
		if failure(f) {
			t.rests.failed(entry.ID, t.cfg.Now())
		}
	}
	return nil, fault
}

// attestOne appraises an enclave, unless that was done before.
func (t *Transport) attestOne(ctx context.Context, entry *card.Enclave, model string) (*attested, *apierror.Error) {
	e := t.known(entry.ID, model)
	if e == nil {
		// One appraisal at a time: concurrent requests share it, and it outlives those that are cancelled.
		type appraised struct {
			*attested
			fault *apierror.Error
		}
		look := t.appraisals.DoChan(entry.ID, func() (any, error) {
			if e := t.known(entry.ID, model); e != nil { // by now
				return appraised{e, nil}, nil
			}
			e, fault := t.appraise(context.WithoutCancel(ctx), entry)
			return appraised{e, fault}, nil
		})
		select {
		case r := <-look:
			if fault := r.Val.(appraised).fault; fault != nil {
				return nil, fault
			}
			e = r.Val.(appraised).attested
		case <-ctx.Done():
			return nil, t.unreachable(ctx, ctx.Err())
		}
	}
	if e.models[model] == 0 {
		return nil, refused(fmt.Sprintf("the attested model manifest does not list %.100q", model))
	}
	return e, nil
}

// spill is how many of this client's requests an enclave runs before another gets some: it runs many at once, and keeps what
// it computed for the prompts that it has seen.
const spill = 8

// candidates are enclaves that serve a model, in the order in which to ask them: those that were not tried, which may be several,
// or all if there is none.
func (t *Transport) candidates(c *card.Card, model string, tried []string) (all []*card.Enclave, several bool) {
	all = slices.DeleteFunc(c.Serving(model), func(e *card.Enclave) bool { return slices.Contains(tried, e.ID) })
	several = len(all) > 1
	if len(all) == 0 {
		all = c.Serving(model)
	}
	if len(all) < 2 {
		return all, several
	}
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(all, func(a, b *card.Enclave) int {
		if x, y := t.rests.resting(a.ID, now), t.rests.resting(b.ID, now); x != y {
			if x {
				return 1
			}
			return -1
		}
		return cmp.Compare(t.running[a.ID]/spill, t.running[b.ID]/spill)
	})
	return all[:min(len(all), attempts)], several
}

// prefer brings enclaves into an order of this client's own: clients spread over them, and each one's prompts meet the same cache.
func (t *Transport) prefer(all []card.Enclave) {
	rank := func(e card.Enclave) string {
		sum := sha256.Sum256([]byte(t.purse.salt + e.ID))
		return string(sum[:])
	}
	slices.SortFunc(all, func(a, b card.Enclave) int { return cmp.Compare(rank(a), rank(b)) })
}

// known is an enclave that serves the model and whose Evidence holds now, if it
// was appraised before.
func (t *Transport) known(id, model string) *attested {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.enclaves[id]; e != nil && t.cfg.Now().Before(e.until) && e.models[model] > 0 {
		return e
	}
	return nil
}

// Attest appraises the enclave that serves a model now, without sending
// anything to it but a nonce.
func (t *Transport) Attest(ctx context.Context, model string) error {
	if _, fault := t.attest(ctx, model); fault != nil {
		return fault
	}
	return nil
}

// forget makes the next request appraise the enclave anew, at the prices of a new card.
func (t *Transport) forget(e *attested) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.card = nil
	if cur := t.enclaves[e.id]; cur != nil && cur.evidence == e.evidence {
		delete(t.enclaves, e.id)
		if len(t.lost) >= maxRests { // a host can make up enclaves
			clear(t.lost)
		}
		t.lost[e.id] = true
	}
}

// forgetCard makes the next request ask for a card: each process of a host has enclaves of its own, and a card that lists them.
func (t *Transport) forgetCard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.card = nil
}

func refused(why string) *apierror.Error {
	return apierror.New(403, "attestation_failed", "nothing was sent: "+why, "run bombyx verify on the evidence for details")
}

// appraise gets and appraises Evidence of an enclave on a card, and remembers it.
func (t *Transport) appraise(ctx context.Context, entry *card.Enclave) (*attested, *apierror.Error) {
	t.appraising.Lock()
	defer t.appraising.Unlock()
	if fault := t.prepare(ctx); fault != nil {
		return nil, fault
	}
	doc, r, fault := t.evidence(ctx, entry.ID)
	if fault != nil {
		return nil, fault
	}
	now, k := t.cfg.Now(), r.Keyset
	if k == nil {
		return nil, refused("the evidence binds no keyset")
	}
	until := r.ValidUntil
	if k.NotAfter.Before(until) {
		until = k.NotAfter
	}
	if !now.Before(until) {
		return nil, refused("the evidence or its keys have expired")
	}
	configs, err := envelope.ParseKeyConfigs(k.KeyConfigs)
	if err != nil {
		return nil, refused(err.Error())
	}
	e := &attested{id: entry.ID, evidence: sha256.Sum256(doc), keys: k, until: until, models: map[string]uint64{}}
	for _, c := range configs {
		if c.KEM == envelope.XWing {
			if e.sender, err = envelope.NewSender(c); err != nil {
				return nil, refused(err.Error())
			}
			break
		}
	}
	if e.sender == nil {
		return nil, refused("the enclave offers no X-Wing key")
	}
	if fault := t.readManifest(ctx, e); fault != nil {
		return nil, fault
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enclaves[entry.ID] = e
	return e, nil
}

// freshEvidence gets and appraises Evidence that answers a nonce of this client.
func (t *Transport) freshEvidence(ctx context.Context, id string) ([]byte, *attestation.Result, *apierror.Error) {
	var nonce [32]byte
	rand.Read(nonce[:])
	doc, fault := t.patiently(ctx, func() ([]byte, *apierror.Error) {
		return t.call(ctx, http.MethodPost, "/v1/enclaves/"+id+"/evidence", nonce[:], "Content-Type", "application/octet-stream")
	})
	if fault != nil {
		return nil, nil, fault
	}
	r := t.verifier.Appraise(t.cfg.Now(), doc, nonce)
	t.appraised(id, doc, r)
	if err := r.Err(); err != nil {
		t.verifier = collateralMayBeStale(t)
		return nil, nil, refused(err.Error())
	}
	return doc, r, nil
}

func (t *Transport) appraised(id string, doc []byte, r *attestation.Result) {
	if t.cfg.Trace.Appraised != nil {
		t.cfg.Trace.Appraised(id, doc, r)
	}
}

// prepare makes the verifier. One whose policy names registries is made anew
// for each appraisal, from what they say then.
func (t *Transport) prepare(ctx context.Context) *apierror.Error {
	if t.verifier != nil && len(t.cfg.Policy.Registries) == 0 {
		return nil
	}
	if t.bundle == nil {
		b, fault := t.call(ctx, http.MethodGet, "/v1/collateral", nil)
		if fault != nil {
			return fault
		}
		var err error
		if t.bundle, err = collateral.Parse(b); err != nil {
			return refused("the host's collateral is malformed: " + err.Error())
		}
	}
	var snapshots []*policy.Snapshot
	if r := t.cfg.Policy.Registries; len(r) > 0 {
		var err error
		if snapshots, err = t.cfg.Registries(ctx, r); err != nil {
			return noRegistry(err)
		}
	}
	v, err := attestation.NewVerifier(t.cfg.Policy, t.bundle, snapshots...)
	if err != nil {
		return refused(err.Error())
	}
	t.verifier = v
	return nil
}

// collateralMayBeStale drops a verifier that was built on the host's
// collateral, so that the next attempt asks for newer.
func collateralMayBeStale(t *Transport) *attestation.Verifier {
	if t.cfg.Collateral == nil {
		t.bundle = nil
		return nil
	}
	return t.verifier
}

// readManifest fetches what the attested digest names: which models run there.
func (t *Transport) readManifest(ctx context.Context, e *attested) *apierror.Error {
	b, fault := t.call(ctx, http.MethodGet, "/v1/enclaves/"+e.id+"/manifest", nil)
	if fault != nil {
		return fault
	}
	if sha256.Sum256(b) != e.keys.ModelManifest {
		return refused("the model manifest is not the attested one")
	}
	m, err := manifest.Parse(b)
	if err != nil {
		return refused("the attested model manifest is malformed")
	}
	for _, m := range m.Models {
		e.models[m.ID] = uint64(m.ContextLength)
	}
	return nil
}
