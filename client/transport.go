// Package client sends OpenAI-style requests to models in confidential VMs on
// other people's machines, and pays for the answers.
//
// Its [Transport] is an http.RoundTripper to one host, a [Pool] to several. Before anything leaves this machine
// it appraises the enclave's Evidence under the user's policy; it then seals
// each request to the attested key, signs vouchers while the answer streams,
// and checks the enclave's receipt before the answer counts as complete:
//
//	t, err := client.New(client.Config{ ... })
//	ai := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: t}), option.WithBaseURL(client.BaseURL))
//
// The host's machine is hostile by assumption. It sees which enclave and
// channel a request uses, sizes and times, and can refuse to serve. An answer
// that it cut short ends in an error, never in a shorter answer.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client/responses"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/direct"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/strictjson"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// BaseURL is what an OpenAI SDK gets as its base URL over a [Transport]. Its
// host part is never looked up.
const BaseURL = "https://bombyx/v1"

const (
	maxRequest  = 8 << 20         // bytes of a request's content
	maxDocument = 4 << 20         // bytes of Evidence, manifest or collateral
	attempts    = 3               // at one request, as sessions and keys change under it
	leaveWithin = 2 * time.Second // is waited for the end of an answer that nobody wants any more
)

// Receipt is what the enclave signed about an answer.
type Receipt = receipt.Receipt

// Prices are nanogram per million tokens.
type Prices = price.Prices

// Config is what a Transport needs. Fields are required unless they say so.
type Config struct {
	// Host is the provider's URL: https, or http on a loopback address. Or it
	// is "adnl:" and the provider's ADNL id, 64 hexadecimal digits: then the
	// host is found in TON's DHT and reached over ADNL.
	Host string
	// Network is TON's global.config.json, which names the nodes of the DHT.
	// Only ADNL hosts need it.
	Network []byte
	// HostKey is the provider's identity, 32 bytes, from a source that the
	// user trusts: a registry, or the provider's own word. Prices and the
	// payee are believed only under its signature. Nil is the key behind the
	// ADNL id, where Host is one.
	HostKey ed25519.PublicKey
	// Policy decides which Evidence to believe.
	Policy *policy.Policy
	// Collateral endorses the hardware. Nil asks the host for it, which is
	// safe: everything in it is signed and none of it is trusted unsigned.
	Collateral *collateral.Bundle
	// Blocks lets the client accept Evidence that answers a recent TON block,
	// if the policy allows that: it spares the host a quote for every client.
	// Nil asks for fresh Evidence always.
	Blocks Blocks
	// Registries reads, at each appraisal, the registries that the policy
	// names; required when it names any. [RegistriesOn] reads them with proofs.
	Registries func(context.Context, []policy.Publisher) ([]*policy.Snapshot, error)
	// Listed reads the host's entry in a registry, each time that its card is
	// fetched, and must fail when there is none in force. Nil demands none.
	Listed func(context.Context) (*Entry, error)
	// Payment is the channel to pay from.
	Payment Payment
	// MaxPrices are the highest prices that the user accepts, for any model.
	MaxPrices Prices
	// Window is how much, in nanogram, is signed for ahead of delivery, by all
	// requests together: the most that a host can take without delivering, now
	// and over the life of the channel. A request that needs more at once still
	// runs, alone. Some thirty run at once if it is a hundred times what their
	// prompts cost at one token a byte; others wait for their turn.
	Window uint64
	// Timeout bounds the wait for the next sign of life of host and enclave,
	// the prompt's processing included. Zero is two minutes.
	Timeout time.Duration
	// Base carries the requests to the host. Nil is an http.Transport of its
	// own, with HTTP/2 and without proxies; to an ADNL host, nil is all.
	Base http.RoundTripper
	// Now is the clock that judges expiry. Nil is time.Now.
	Now func() time.Time
	// Trace is told what happens. Its functions must not block.
	Trace Trace
}

// Trace holds functions that a Transport calls, those that are not nil.
type Trace struct {
	Appraised func(enclave string, evidence []byte, r *attestation.Result) // whatever the verdict
	NoEpoch   func(enclave string, err error)                              // why a fresh nonce was needed after all
	Voucher   func(v *channel.SignedVoucher)
	Sealed    func(bytes int64) // -1 for a request that streams
	Metered   func(cost, credit uint64)
	Receipt   func(r *Receipt, serialized string)
}

// A Transport is an http.RoundTripper for POST /v1/chat/completions,
// POST /v1/completions, POST /v1/embeddings and GET /v1/models, and for
// POST /v1/responses, which it makes a chat completion of. It is safe for
// concurrent use. What goes wrong comes back as a response with an OpenAI error
// object.
//
// A request whose context ends, or whose body is closed before its end, is
// cancelled down to the engine. RoundTrip, Read or Close then wait, two seconds at
// most, for what was released by then and its receipt: that is what it costs.
type Transport struct {
	cfg   Config
	base  string
	adnl  *adnl.Dialer // nil over HTTP
	purse *purse

	jitter func(time.Duration) time.Duration // random, below its argument; nil is math/rand/v2's

	appraisals singleflight.Group // by enclave
	appraising sync.Mutex         // held by one at a time; guards what follows
	bundle     *collateral.Bundle
	verifier   *attestation.Verifier

	rests rests // of enclaves, by id
	rest  rests // of the host, by its URL: for a [Pool]

	mu       sync.Mutex
	card     *offer
	enclaves map[string]*attested
	running  map[string]int  // requests at each enclave
	lost     map[string]bool // enclaves that no longer knew what they had shown: an epoch's Evidence may outlive its enclave
}

// New checks the configuration; it makes no connection.
func New(cfg Config) (*Transport, error) {
	t, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Policy == nil:
		return nil, errors.New("client: policy is missing")
	case len(cfg.Policy.Registries) > 0 && cfg.Registries == nil:
		return nil, errors.New("client: the policy names registries, and nothing was given to read them with")
	case cfg.Window == 0 || cfg.Window > receipt.MaxCost:
		return nil, errors.New("client: window is zero or absurd")
	}
	if t.purse, err = newPurse(t, cfg.Payment); err != nil {
		return nil, err
	}
	return t, nil
}

func newTransport(cfg Config) *Transport {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.Base == nil {
		p := new(http.Protocols)
		p.SetHTTP1(true)
		p.SetHTTP2(true)
		own := &http.Transport{Protocols: p, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true, ReadBufferSize: 16 << 10,
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second}
		cfg.Base = own
		if u, err := url.Parse(cfg.Host); err == nil && u.Scheme == "http" {
			cfg.Base = direct.New(own, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
		}
	}
	return &Transport{cfg: cfg, base: strings.TrimSuffix(cfg.Host, "/"), bundle: cfg.Collateral, enclaves: map[string]*attested{}, running: map[string]int{}, lost: map[string]bool{}}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return respond(req, func(body []byte) (*http.Response, *apierror.Error, bool) { return t.serve(req, body) })
}

// respond reads a request's body and answers with a fault as with anything else.
func respond(req *http.Request, serve func(body []byte) (*http.Response, *apierror.Error, bool)) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		defer req.Body.Close()
		var err error
		if body, err = io.ReadAll(io.LimitReader(req.Body, maxRequest+1)); err != nil {
			return nil, fmt.Errorf("client: reading the request: %w", err)
		}
	}
	resp, fault, unrun := serve(body)
	if fault != nil {
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		return faultResponse(req, fault, unrun), nil
	}
	resp.Request = req
	return resp, nil
}

// faultResponse keeps SDKs from sending again what may have run, and would be paid for twice.
func faultResponse(req *http.Request, f *apierror.Error, unrun bool) *http.Response {
	b := f.JSON()
	h := http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(b))}}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if !unrun || f.Final || f.Status != http.StatusTooManyRequests && f.Status != http.StatusServiceUnavailable {
		h.Set("X-Should-Retry", "false")
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", f.Status, http.StatusText(f.Status)), StatusCode: f.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: h, ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b)),
	}
}

// serve answers a request, or says whether another host may have it: this one has not run it, and what is wrong is not the
// request itself.
func (t *Transport) serve(req *http.Request, body []byte) (resp *http.Response, fault *apierror.Error, unrun bool) {
	path := req.URL.Path
	if req.Method == http.MethodGet && path == modelsPath {
		resp, fault = t.models(req.Context())
		return resp, fault, true
	}
	if fault := acceptable(req, body); fault != nil {
		return nil, fault, false
	}
	a := ask{path: path, body: body}
	if path == responses.Path {
		resp, fault = responses.Serve(body, t.cfg.Now(), func(chat []byte) (*http.Response, *apierror.Error) {
			a.path, a.body = "/v1/chat/completions", chat
			return t.complete(req.Context(), &a)
		})
	} else {
		resp, fault = t.complete(req.Context(), &a)
	}
	return resp, fault, a.unrun
}

// acceptable refuses what no host serves.
func acceptable(req *http.Request, body []byte) *apierror.Error {
	switch path := req.URL.Path; {
	case path != "/v1/chat/completions" && path != "/v1/completions" && path != embeddings && path != responses.Path:
		return apierror.New(404, "unknown_path", "Bombyx serves /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings and /v1/models", "")
	case req.Method != http.MethodPost:
		return apierror.New(405, "method_not_allowed", req.Method+" is not served here", "use POST")
	case len(body) > maxRequest:
		return apierror.New(413, "request_too_large", fmt.Sprintf("the request is larger than %d bytes", maxRequest), "shorten it")
	}
	if err := strictjson.CheckObject(body, maxRequest); err != nil {
		return apierror.New(400, "malformed_json", "the request is not strict JSON: "+err.Error(), "send one JSON object")
	}
	return nil
}

// complete asks an enclave for a completion.
func (t *Transport) complete(ctx context.Context, a *ask) (*http.Response, *apierror.Error) {
	if err := json.Unmarshal(a.body, a); err != nil {
		return nil, apierror.New(400, "malformed_json", "model, stream or max_tokens has the wrong type", "see the OpenAI API reference")
	}
	var fault *apierror.Error
	for range attempts {
		var resp *http.Response
		if resp, fault = t.try(ctx, a); fault == nil {
			return resp, nil
		}
		if ctx.Err() != nil || !t.recover(a, fault) && !t.elsewhere(a, fault) {
			break
		}
	}
	return nil, final(fault, a.word)
}

// final keeps programs from asking again by themselves, if it is so.
func final(f *apierror.Error, so bool) *apierror.Error {
	if !so {
		return f
	}
	own := *f // requests that waited for the same thing share it
	own.Final = true
	return &own
}

// elsewhere has an enclave rest that failed, and says whether another of this host may have the request.
func (t *Transport) elsewhere(a *ask, f *apierror.Error) bool {
	if a.enclave == nil || !failure(f) {
		return false
	}
	a.tried = append(a.tried, a.enclave.id)
	if !t.failed(a.enclave.id, a.Model) {
		t.forgetCard() // there may be others by now
	}
	return a.unrun && a.enclave.others
}

const (
	modelsPath = "/v1/models"
	embeddings = "/v1/embeddings"
)

// An ask is one request, as far as paying for it needs to know.
type ask struct {
	path string
	body []byte

	Model     string `json:"model"`
	Stream    bool   `json:"stream"`
	MaxTokens uint64 `json:"max_tokens"`
	MaxCompl  uint64 `json:"max_completion_tokens"`

	enclave *attested // that it was sent to
	tried   []string  // enclaves that failed
	session string
	allot   uint64
	resync  balances
	word    bool // of the host alone it is that some attempt has not run: one that lies would be paid each time
	unrun   bool // the last attempt failed, and another host may have it: see serve
}

// recover prepares another attempt after a fault that one can help.
func (t *Transport) recover(a *ask, f *apierror.Error) bool {
	if f.Status >= 500 || f.Status == http.StatusConflict { // it may have run
		return false
	}
	if a.enclave == nil && f.Code != "unknown_enclave" { // nothing was sent: the others answer what was
		return false
	}
	switch f.Code {
	case "unknown_session":
		t.purse.dropSession(a.session)
	case "unknown_evidence", "unknown_key", "other_prices", "malformed_envelope", "truncated_request":
		// Started again, an enclave has other keys; one may have the number of one of before. Other prices are on a new card.
		t.forget(a.enclave)
	case "unknown_enclave":
		t.forgetCard()
	case "insufficient_credit":
		t.purse.refused(a.resync, a.allot)
	default:
		return false
	}
	return true
}

// try makes one attempt.
func (t *Transport) try(ctx context.Context, a *ask) (*http.Response, *apierror.Error) {
	a.unrun, a.enclave = true, nil
	e, fault := t.attest(ctx, a.Model, a.tried...)
	if fault != nil {
		return nil, fault
	}
	n, fault := a.needs(e.prices, e.models[a.Model], t.cfg.Window)
	if fault != nil {
		a.unrun = false
		return nil, fault
	}
	keep, token, fault := t.purse.reserve(ctx, n)
	if fault != nil {
		return nil, fault
	}
	a.unrun = false
	a.enclave, a.session, a.allot = e, token, keep
	s := &exchange{t: t, e: e, needs: n, keep: keep, allot: keep, granted: keep, token: token, path: a.path, id: randomHex(16), stream: randomHex(16), request: sha256.Sum256(a.body), model: a.Model}
	t.runs(e.id, 1)
	resp, fault := s.send(ctx, a)
	if fault != nil {
		t.purse.end(s.end())
		return nil, fault
	}
	return resp, nil
}

// runs counts the requests at an enclave.
func (t *Transport) runs(enclave string, more int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[enclave] += more; t.running[enclave] == 0 {
		delete(t.running, enclave)
	}
}

// needs are amounts, in nanogram, that a request is given credit by.
type needs struct {
	bound  uint64 // what it can cost at most
	whole  uint64 // of it, what it needs at once: all, unless it streams
	least  uint64 // what it begins with beside others
	bare   uint64 // what the enclave wants before it runs anything
	prompt uint64 // what its prompt costs at most
	step   uint64 // least that an answer gets ahead of its delivery
	window uint64
}

// ahead is how much an answer gets ahead of its delivery when so much is free:
// a thirty-second, so that few seldom have to ask for more, and many can run.
func (n *needs) ahead(free uint64) uint64 { return max(n.step, free/32) }

// want is what a request begins with when so much is free.
func (n *needs) want(free uint64) uint64 {
	if n.whole > 0 {
		return n.whole
	}
	return min(n.bound, n.window, n.prompt+n.ahead(free))
}

// needs works out what a request needs. No token is shorter than a byte;
// templates add a few, for which the enclave asks if it comes to that. The host
// reads the allotment: the length is taken as padded, or it would undo the
// padding. One that does not stream and that sets no limit has the model's
// context length as its limit.
func (a *ask) needs(p Prices, context, window uint64) (n needs, fault *apierror.Error) {
	most := max(a.MaxTokens, a.MaxCompl)
	if !a.Stream && most == 0 {
		most = context
	}
	dear := p.Dearest()
	cost := func(prompt int64, completion uint64) uint64 {
		c, err := dear.Cost(price.Usage{Prompt: uint64(prompt), Completion: completion})
		if err != nil || c > receipt.MaxCost {
			return receipt.MaxCost + 1
		}
		return max(c, 1)
	}
	size := int64(len(a.body))
	padded := envelope.PaddedLen(size)
	n = needs{bound: receipt.MaxCost, window: window, prompt: cost(padded, 0)}
	if a.path == embeddings { // these have no tokens but the prompt's
		n.bound, n.whole, n.least, n.bare = n.prompt, n.prompt, n.prompt, cost(size, 0)
		return n, nil
	}
	if most > 0 {
		if n.bound = cost(padded, most); n.bound > receipt.MaxCost {
			return n, apierror.New(400, "max_tokens_out_of_range", "max_tokens is out of range", "ask for less")
		}
	}
	if !a.Stream {
		n.whole, n.least, n.bare = n.bound, n.bound, cost(0, most)
		return n, nil
	}
	// A sixty-fourth of the window; where that is little, sixteen tokens.
	n.step = max(window/64, min(window/4, cost(0, 16)), 1)
	n.least = min(n.bound, window, n.prompt+n.step)
	n.bare = min(n.least, cost(size/8, 1))
	return n, nil
}

// An exchange is one sealed request and its answer.
type exchange struct {
	t       *Transport
	e       *attested
	path    string
	id      string
	stream  string
	token   string
	model   string
	request [32]byte
	user    context.Context // of the request
	ctx     context.Context // of the answer, which ends after it
	cancel  context.CancelCauseFunc
	needs

	// The purse's lock guards these.
	keep  uint64 // what is held for it, beyond its cost
	need  uint64 // cost at which the enclave goes on
	acked uint64 // allotment that the host has on its books

	mu      sync.Mutex
	allot   uint64
	granted uint64 // part of allot that the host has acknowledged
	offered uint64 // most that it was ever told: it may have acted on what it did not acknowledge
	raising bool
	cost    uint64 // as the enclave last said to get credit; changed under the purse's lock, too
	heard   uint64 // as it said with what arrived
	begun   bool   // something of the answer has arrived
	refused bool   // and so without cost
	ended   bool
	left    error // why nobody wants more of the answer
}

func (s *exchange) send(ctx context.Context, a *ask) (*http.Response, *apierror.Error) {
	if err := ctx.Err(); err != nil { // from here on ctx no longer ends what is under way
		return nil, s.t.unreachable(ctx, err)
	}
	inner, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://bombyx"+s.path, bytes.NewReader(a.body))
	if err != nil {
		return nil, apierror.New(500, "internal", err.Error(), "")
	}
	inner.Header = http.Header{
		"Content-Type":    {"application/json"},
		"Date":            {s.t.cfg.Now().UTC().Format(http.TimeFormat)},
		"Bombyx-Id":       {s.id},
		"Bombyx-Channel":  {s.t.purse.name},
		"Bombyx-Evidence": {hex.EncodeToString(s.e.evidence[:])},
		"Bombyx-Prices":   {hex.EncodeToString(s.e.list[:])},
		"Bombyx-Salt":     {s.t.purse.salt},
	}
	sealed, opener, err := s.e.sender.Seal(inner)
	if err != nil {
		return nil, apierror.New(500, "not_sealed", "the request cannot be sealed: "+err.Error(), "")
	}
	s.user = ctx
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(s.user))
	s.ctx, s.cancel = ctx, cancel
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, s.t.base+"/v1/enclaves/"+s.e.id+"/sealed", nil)
	if err != nil {
		cancel(nil)
		return nil, apierror.New(500, "internal", err.Error(), "")
	}
	sealed.Apply(post)
	post.Header["Authorization"] = []string{"Bearer " + s.token}
	post.Header["Bombyx-Stream"] = []string{s.stream}
	post.Header["Bombyx-Allot"] = []string{strconv.FormatUint(s.allot, 10)}
	if s.t.cfg.Trace.Sealed != nil {
		s.t.cfg.Trace.Sealed(sealed.Len())
	}
	s.offered = s.allot
	life := newWatchdog(s.t.cfg.Timeout, func() { cancel(errSilence) })
	stop := context.AfterFunc(s.user, func() { s.leave(s.user.Err()) })
	go s.e.sender.Prepare() // for the next request, while this one is on its way
	resp, err := s.t.cfg.Base.RoundTrip(post)
	if err != nil {
		life.stop()
		stop()
		cancel(nil)
		a.unrun = direct.Unconnected(err)
		return nil, s.t.unreachable(ctx, err)
	}
	fail := func(f *apierror.Error) (*http.Response, *apierror.Error) {
		life.stop()
		stop()
		resp.Body.Close()
		cancel(nil)
		return nil, f
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != envelope.ResponseMediaType {
		a.resync = readBalances(resp.Header)
		if resp.StatusCode == http.StatusOK {
			return fail(apierror.New(502, "not_sealed", "the host's answer is not sealed", "use another host"))
		}
		// The host's word that it did not run the request. Its own failures
		// say no such thing, and neither does a stream that runs already, or what is no refusal.
		s.refused = resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusConflict
		a.unrun = s.refused
		a.word = true
		return fail(apierror.Read(resp))
	}
	s.t.purse.acknowledged(s, s.allot)
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	answer, err := opener.Open(&living{resp.Body, life}, func(_ int, h http.Header) { s.informed(h) })
	if err != nil {
		return fail(s.t.broken(ctx, err))
	}
	if answer.StatusCode != http.StatusOK {
		s.refused = true // by the enclave
		switch answer.StatusCode {
		case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge:
		default:
			a.unrun = true
		}
		return fail(apierror.Read(answer))
	}
	b := &answerBody{s: s, stop: stop, life: life, resp: answer, src: answer.Body, hash: sha256.New(),
		events: strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream")}
	out := &http.Response{Status: "200 OK", StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {answer.Header.Get("Content-Type")}, "X-Request-Id": {s.id}},
		ContentLength: -1, Body: b}
	return out, nil
}

// informed handles a 102: before its header, an answer waits for credit.
func (s *exchange) informed(h http.Header) {
	cost, err1 := strconv.ParseUint(h.Get("Bombyx-Cost"), 10, 63)
	credit, err2 := strconv.ParseUint(h.Get("Bombyx-Credit"), 10, 63)
	need, err3 := strconv.ParseUint(h.Get("Bombyx-Need"), 10, 63)
	if errors.Join(err1, err2, err3) == nil {
		s.metered(cost, credit, need)
	}
}

// delivered learns what all that has arrived costs.
func (s *exchange) delivered(cost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = max(s.heard, min(cost, s.offered))
}

// metered learns it as credit runs low, and pays ahead.
func (s *exchange) metered(cost, credit, need uint64) {
	if s.t.cfg.Trace.Metered != nil {
		s.t.cfg.Trace.Metered(cost, credit)
	}
	s.delivered(cost)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted() {
		s.t.purse.advance(s, min(cost, s.offered), min(need, receipt.MaxCost))
		s.lift()
	}
}

// wanted says that it goes on. The caller holds s.mu.
func (s *exchange) wanted() bool { return !s.ended && s.left == nil }

// leave cancels it. The enclave then ends the answer with its receipt, which
// whoever reads it waits for, but not for long.
func (s *exchange) leave(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wanted() {
		return
	}
	s.left = why
	go func() {
		defer s.cancel(why)
		ctx, stop := context.WithTimeout(context.WithoutCancel(s.ctx), leaveWithin)
		defer stop()
		for pause := 10 * time.Millisecond; ; pause *= 2 {
			_, fault := s.t.call(ctx, http.MethodPost, "/v1/cancel", nil, "Authorization", "Bearer "+s.token, "Bombyx-Stream", s.stream)
			var again <-chan time.Time
			switch {
			case fault == nil, fault.Code == "unknown_stream" && s.arrives(): // the end is on the way
			case fault.Code == "unknown_stream": // the request is, or the answer
				again = time.After(pause)
			default:
				return
			}
			select {
			case <-again:
			case <-ctx.Done():
				return
			case <-s.ctx.Done():
				return
			}
		}
	}()
}

// gone returns why nobody wants more of the answer, nil if somebody does.
func (s *exchange) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// arrives says that the host's answer has begun: its end may be on the way.
func (s *exchange) arrives() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// relieved tells a request that waited for more that there is.
func (s *exchange) relieved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted() {
		s.lift()
	}
}

// lift allots what is held.
func (s *exchange) lift() {
	if s.allot = max(s.allot, s.t.purse.most(s)); s.granted < s.allot && !s.raising {
		s.raising = true
		go s.raise()
	}
}

// raise has the host raise the credit to what is allotted, one step after the
// other: an overtaken step that fails would take back what the next has given.
func (s *exchange) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.wanted() && s.granted < s.allot {
		want := s.allot
		s.offered = max(s.offered, want)
		s.mu.Unlock()
		fault := s.t.purse.raise(s.ctx, s.stream, want)
		s.mu.Lock()
		if fault != nil {
			// The failure shows in the answer, which ends for want of credit.
			s.allot = s.granted
			break
		}
		if s.granted = want; !s.ended {
			s.t.purse.acknowledged(s, want)
		}
	}
	s.raising = false
}

// counted is what the host has on its books for it beyond its cost, as far as
// that is known.
func (s *exchange) counted() uint64 { return s.acked - min(s.acked, s.cost) }

// end is what the exchange has come to without a receipt: what arrived counts as
// delivered. Nothing changes afterwards.
func (s *exchange) end() outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.t.runs(s.e.id, -1)
	return outcome{of: s, told: s.cost, cost: max(s.cost, s.heard), offered: s.offered, unsure: !s.refused}
}

// models answers GET /v1/models from the card.
func (t *Transport) models(ctx context.Context) (*http.Response, *apierror.Error) {
	c, fault := t.currentCard(ctx)
	if fault != nil {
		return nil, fault
	}
	return modelList([]*card.Card{c.Card})
}

// modelList answers it from the cards of several hosts.
func modelList(cards []*card.Card) (*http.Response, *apierror.Error) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	list := struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", []model{}}
	seen := map[string]bool{}
	for _, c := range cards {
		for _, e := range c.Enclaves {
			for _, m := range e.Models {
				if !seen[m] {
					seen[m] = true
					list.Data = append(list.Data, model{m, "model", c.NotBefore, "bombyx host " + c.Host[:8]})
				}
			}
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil, apierror.New(500, "internal", err.Error(), "")
	}
	return &http.Response{Status: "200 OK", StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b))}, nil
}

var errSilence = errors.New("client: no sign of life from host or enclave in time")

// unreachable says that the host does not answer.
func (t *Transport) unreachable(ctx context.Context, err error) *apierror.Error {
	if errors.Is(context.Cause(ctx), errSilence) {
		return apierror.New(504, "timeout", "neither host nor enclave gave a sign of life in time", "try again, or another host")
	}
	return apierror.New(502, "host_unreachable", "the host does not answer: "+err.Error(), "check the URL, or use another host")
}

// broken says that a sealed answer does not open.
func (t *Transport) broken(ctx context.Context, err error) *apierror.Error {
	if errors.Is(context.Cause(ctx), errSilence) {
		return t.unreachable(ctx, err)
	}
	return apierror.New(502, "answer_broken", "the sealed answer was altered or cut short: "+err.Error(), "use another host if it happens again")
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// call asks the host for something, and returns a document of limited size.
func (t *Transport) call(ctx context.Context, method, path string, body []byte, header ...string) ([]byte, *apierror.Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.Timeout, errSilence)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, apierror.New(500, "internal", err.Error(), "")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := t.cfg.Base.RoundTrip(req)
	if err != nil {
		return nil, t.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, apierror.Read(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, t.unreachable(ctx, err)
	}
	if len(b) > maxDocument {
		return nil, apierror.New(502, "document_too_large", fmt.Sprintf("the host's %s is larger than %d bytes", path, maxDocument), "use another host")
	}
	return b, nil
}
