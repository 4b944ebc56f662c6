package enclave

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/bhttp"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/strictjson"
)

const (
	// maxGathered is how many bytes of events are gathered at most before
	// they are sent.
	maxGathered = 8 << 10
	// flushInterval is the least time between two flushes of an answer. Events
	// that come faster are merged, which spares every hop their cost and the
	// observer their lengths.
	flushInterval = time.Millisecond
)

// A stream is one running request as the host knows it.
type stream struct {
	meter  *meter
	tab    *tab
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when its cost is final

	// The enclave's lock guards these.
	link    *http.ResponseController
	settled bool // with its channel: nobody reads any more, and the link has to go
}

var (
	errSettled   = errors.New("enclave: the host ended the channel's streams")
	errCancelled = errors.New("enclave: the client or the host ended the stream")
)

// serveSealed opens, runs and answers one sealed request.
func (e *Enclave) serveSealed(w http.ResponseWriter, r *http.Request) {
	id, ok := parseStreamID(r.Header.Get("Bombyx-Stream"))
	channel := r.Header.Get("Bombyx-Channel")
	credit, err := strconv.ParseUint(r.Header.Get("Bombyx-Credit"), 10, 63)
	if !ok || !validChannel(channel) || err != nil {
		apierror.New(400, "malformed_header", "Bombyx-Stream, Bombyx-Channel or Bombyx-Credit is malformed", "see docs/protocol.md").Write(w)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	s := &stream{meter: newMeter(credit), cancel: cancel, done: make(chan struct{}), link: http.NewResponseController(w)}
	if fault := e.begin(id, channel, r.Header.Get(processHeader), s); fault != nil {
		fault.Write(w)
		return
	}
	end := sync.OnceValue(func() string { return e.end(id, s) })
	defer func() {
		if end(); s.settled {
			panic(http.ErrAbortHandler)
		}
	}()

	inner, sealer, err := e.opener.Open(ctx, r.Body)
	if sealer == nil {
		openError(err).Write(w)
		return
	}
	w.Header().Set("Content-Type", envelope.ResponseMediaType)
	w.Header().Set("Trailer", "Bombyx-Cost, Bombyx-Tab")
	rw := sealer.Respond(w, s.link.Flush)
	j := &job{e: e, s: s, ctx: ctx, w: rw, answer: sha256.New()}
	var fault *apierror.Error
	if err != nil {
		fault = openError(err)
	} else {
		fault = j.run(inner)
	}
	why := context.Cause(ctx) // read once: what is cancelled from here on has ended
	cancelled := why == errCancelled
	if fault != nil {
		if cancelled {
			fault = apierror.New(502, "cancelled", "the request was ended before its answer began", "send it again")
		}
		fault.Write(rw)
	}
	// Only Close ends the answer: without it the client sees a truncated stream.
	// Who cancels still reads: what was released, and the receipt over it.
	if why == nil || cancelled {
		if err := rw.Close(); err != nil {
			e.cfg.Log.Debug("answer not delivered", "err", err)
		}
	}
	w.Header().Set("Bombyx-Tab", end())
	w.Header().Set("Bombyx-Cost", strconv.FormatUint(s.meter.spent(), 10))
}

func (e *Enclave) begin(id streamID, channel, process string, s *stream) *apierror.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if fault := e.serves(process); fault != nil {
		return fault
	}
	if len(e.streams) >= maxStreams {
		return apierror.New(503, "busy", "the enclave serves as many streams as it can", "try again later")
	}
	_, ended := e.ended.cost[id]
	if e.streams[id] != nil || ended {
		return apierror.New(409, "duplicate_stream", "a stream with this Bombyx-Stream runs or ran already", "choose a random one")
	}
	if s.tab = e.tabs.open(channel, e.cfg.Now()); s.tab == nil {
		return apierror.New(503, "busy", "the enclave serves as many channels as it can", "try again in ten minutes")
	}
	e.streams[id] = s
	return nil
}

// end makes a stream's cost final and returns its channel's tab with it.
func (e *Enclave) end(id streamID, s *stream) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.streams, id)
	now := e.cfg.Now()
	s.tab.close(s.meter.spent(), now)
	e.ended.add(id, s.meter.spent(), s.tab, now)
	close(s.done)
	return s.tab.String()
}

func openError(err error) *apierror.Error {
	var date *envelope.DateError
	switch {
	case errors.Is(err, envelope.ErrReplayed):
		return apierror.New(409, "replayed", "this sealed request was seen before", "seal the request again")
	case errors.As(err, &date):
		return apierror.New(400, "stale", date.Error(), "set the client's clock right and seal again")
	case errors.Is(err, envelope.ErrGuardFull):
		return apierror.New(503, "busy", "the replay guard is full", "try again in a minute")
	case errors.Is(err, envelope.ErrUnknownKey), errors.Is(err, envelope.ErrKeyClosed):
		return apierror.New(422, "unknown_key", "the request is sealed to a key that is not in use", "fetch and appraise new Evidence")
	case errors.Is(err, envelope.ErrTruncated):
		return apierror.New(400, "truncated_request", "the sealed request is incomplete", "send it again")
	case errors.Is(err, bhttp.ErrLimit):
		return apierror.New(431, "request_too_large", "the request's header is too large", "shorten it")
	}
	return apierror.New(400, "malformed_envelope", "the sealed request does not open", "seal it again with the attested key")
}

// A job runs one opened request.
type job struct {
	e      *Enclave
	s      *stream
	ctx    context.Context
	w      *envelope.ResponseWriter
	answer hash.Hash
	rec    receipt.Receipt
	gen    *generation
	prices price.Prices
	asked  time.Time // when the engine was
}

// run answers the request. A fault is returned only while nothing has been
// written; it is sealed like any answer, without a receipt, and costs nothing.
func (j *job) run(r *http.Request) *apierror.Error {
	if fault := j.meta(r); fault != nil {
		return fault
	}
	defer j.e.release(j.gen)
	if r.Header.Get("Bombyx-Prices") != hex.EncodeToString(j.e.prices[:]) {
		return apierror.New(422, "other_prices", "the enclave has another price list than the request names", "take a new card; while the host shows that one, use another host")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return apierror.New(400, "truncated_request", "the sealed request is incomplete", "send it again")
	}
	if len(body) > maxRequest {
		return apierror.New(413, "request_too_large", fmt.Sprintf("the request is larger than %d bytes", maxRequest), "shorten it")
	}
	if err := strictjson.CheckObject(body, maxRequest); err != nil {
		return apierror.New(400, "malformed_json", "the request is not strict JSON: "+err.Error(), "send one JSON object without duplicate members")
	}
	j.rec.Request = sha256.Sum256(body)
	var ask struct {
		Model     string `json:"model"`
		Stream    bool   `json:"stream"`
		MaxTokens *int64 `json:"max_tokens"`
		MaxCompl  *int64 `json:"max_completion_tokens"`
	}
	if err := json.Unmarshal(body, &ask); err != nil {
		return apierror.New(400, "malformed_json", "model, stream or max_tokens has the wrong type", "see the OpenAI API reference")
	}
	prices, ok := j.e.cfg.Prices[ask.Model]
	if !ok {
		f := apierror.New(404, "model_not_found", fmt.Sprintf("this enclave does not serve %.100q", ask.Model), "ask for a model on the host's card")
		f.Param = "model"
		return f
	}
	j.prices, j.rec.Model = prices, ask.Model
	fault := j.advance(len(body), r.URL.Path)
	if fault == nil && !ask.Stream {
		fault = j.fund(len(body), r.URL.Path, ask.MaxTokens, ask.MaxCompl)
	}
	if fault != nil {
		return fault
	}
	var salt [32]byte
	hex.Decode(salt[:], []byte(r.Header.Get("Bombyx-Salt"))) // meta has checked it
	j.asked = time.Now()
	st, err := j.e.cfg.Engine.Start(j.ctx, engine.Request{Path: r.URL.Path, Body: body, Stream: ask.Stream, Salt: salt})
	if err != nil {
		return j.engineFault(err)
	}
	defer st.Close()
	if ask.Stream {
		return j.stream(st)
	}
	return j.whole(st)
}

// meta takes what the client says about the request itself.
func (j *job) meta(r *http.Request) *apierror.Error {
	bad := func(what, hint string) *apierror.Error { return apierror.New(400, "malformed_request", what, hint) }
	for name, values := range r.Header {
		switch name {
		case "Date", "Bombyx-Id", "Bombyx-Channel", "Bombyx-Evidence", "Bombyx-Prices", "Bombyx-Salt", "Content-Type", "Accept", "Content-Length":
		default:
			return bad(fmt.Sprintf("the sealed request has the unknown field %.60q", name), "leave it out")
		}
		if len(values) != 1 {
			return bad(fmt.Sprintf("the sealed request repeats the field %.60q", name), "send it once")
		}
	}
	if r.Method != http.MethodPost || r.URL.RawQuery != "" {
		return apierror.New(405, "method_not_allowed", "sealed requests are POST and have no query", "")
	}
	h := r.Header
	id, ch, ev := h.Get("Bombyx-Id"), h.Get("Bombyx-Channel"), h.Get("Bombyx-Evidence")
	if !receipt.IsHex(id, 16) || !receipt.IsHex(ev, 32) || !receipt.IsHex(h.Get("Bombyx-Prices"), 32) || !receipt.IsHex(h.Get("Bombyx-Salt"), 32) || !validChannel(ch) {
		return bad("bombyx-id, bombyx-channel, bombyx-evidence, bombyx-prices or bombyx-salt is malformed", "see docs/protocol.md")
	}
	var digest receipt.Digest
	hex.Decode(digest[:], []byte(ev))
	if j.gen = j.e.acquire(digest); j.gen == nil {
		return apierror.New(422, "unknown_evidence", "this enclave did not issue the Evidence that the request names, or its keys have expired",
			"fetch and appraise new Evidence")
	}
	j.rec = receipt.Receipt{Version: 1, ID: id, Channel: ch, Evidence: digest, Manifest: sha256.Sum256(j.e.cfg.Manifest), Prices: j.e.prices}
	return nil
}

// advance waits until the credit covers about what the prompt will cost, so
// that nobody has prompts worked through for nothing. It charges nothing.
func (j *job) advance(body int, path string) *apierror.Error {
	const bytesPerToken = 8 // longer than the average token of any tokenizer in use
	least := price.Usage{Prompt: uint64(body / bytesPerToken), Completion: 1}
	if path == engine.PathEmbeddings {
		least.Completion = 0
	}
	need, err := j.prices.Cost(least)
	if err != nil {
		return apierror.New(413, "request_too_large", "the request is too large to be paid for", "shorten it")
	}
	return j.await(need)
}

// fund waits until the credit covers what a request without streaming can cost at
// most: nobody has an answer generated that the credit turns out not to cover.
// No token of the prompt is shorter than a byte. Embeddings have no other tokens.
func (j *job) fund(body int, path string, limits ...*int64) *apierror.Error {
	most := int64(-1)
	if path == engine.PathEmbeddings {
		need, err := j.prices.Dearest().Cost(price.Usage{Prompt: uint64(body)})
		if err != nil {
			return apierror.New(413, "request_too_large", "the request is too large to be paid for", "shorten it")
		}
		return j.await(need)
	}
	for _, l := range limits {
		if l != nil && *l > most {
			most = *l
		}
	}
	if most < 1 {
		models, err := j.e.cfg.Engine.Models(j.ctx)
		if err != nil {
			return j.engineFault(err)
		}
		for _, m := range models {
			if m.ID == j.rec.Model {
				if most = int64(m.MaxTokens); most <= 0 {
					most = int64(m.ContextLength)
				}
			}
		}
	}
	if most < 1 {
		f := apierror.New(400, "max_tokens_required", "without streaming this model needs a limit to pay for", "set max_tokens, or stream")
		f.Param = "max_tokens"
		return f
	}
	need, err := j.prices.Dearest().Cost(price.Usage{Prompt: uint64(body), Completion: uint64(most)})
	if err != nil {
		return apierror.New(400, "max_tokens_out_of_range", "max_tokens is out of range", "ask for less")
	}
	return j.await(need)
}

// await waits for credit before anything has been answered.
func (j *job) await(need uint64) *apierror.Error {
	if credit, _ := j.s.meter.limit(); credit >= need {
		return nil
	} else {
		h := j.w.Header()
		setMeter(h, j.s.meter.spent(), credit, need)
		j.w.WriteHeader(102)
		for name := range h {
			if strings.HasPrefix(name, "Bombyx-") {
				delete(h, name)
			}
		}
	}
	if err := j.s.meter.wait(j.ctx, need, j.e.cfg.Patience); err != nil {
		return apierror.New(402, "insufficient_credit", "the request needs more credit than the channel gave it in time",
			fmt.Sprintf("allot %d nanogram, or lower max_tokens", need))
	}
	return nil
}

func setMeter(h http.Header, cost, credit, need uint64) {
	h.Set("Bombyx-Cost", strconv.FormatUint(cost, 10))
	h.Set("Bombyx-Credit", strconv.FormatUint(credit, 10))
	h.Set("Bombyx-Need", strconv.FormatUint(need, 10))
}

// whole answers without streaming.
func (j *job) whole(st engine.Stream) *apierror.Error {
	ev, err := st.Next()
	if err != nil {
		return j.engineFault(err)
	}
	cost, used, err := j.cost(ev.Usage)
	if err != nil {
		return j.engineFault(err)
	}
	if fault := j.await(cost); fault != nil {
		return fault
	}
	j.s.meter.charge(cost)
	j.rec.Usage = used
	j.answer.Write(ev.Data)
	h := j.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Trailer", "Bombyx-Receipt")
	j.w.WriteHeader(http.StatusOK)
	j.w.Write(ev.Data)
	j.sign(receipt.Complete)
	return nil
}

// stream answers event by event. What the engine has ready goes out together;
// a slow transport holds the engine up.
func (j *job) stream(st engine.Stream) *apierror.Error {
	// The first event decides between a fault and an answer.
	ev, err := st.Next()
	if err != nil && err != io.EOF {
		return j.engineFault(err)
	}
	h := j.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Trailer", "Bombyx-Receipt")
	j.w.WriteHeader(http.StatusOK)
	j.sign(j.pump(st, ev, err))
	return nil
}

// pump meters and sends events until the answer ends. What came last is left
// for Close to send.
func (j *job) pump(st engine.Stream, ev engine.Event, err error) receipt.Finish {
	out := outlet{w: j.w, fail: j.s.cancel}
	defer out.close()
	if !j.e.busy() {
		out.flushed = j.asked
	}
	content := func(parts ...[]byte) {
		for _, b := range parts {
			j.answer.Write(b)
		}
		out.write(j.s.meter.spent(), parts...)
	}
	for err == nil {
		cost, used, cerr := j.cost(ev.Usage)
		if cerr != nil {
			err = cerr
			break
		}
		if credit, _ := j.s.meter.limit(); credit < cost {
			out.tell(j.s.meter.spent(), credit, cost)
			out.flush()
			if werr := j.s.meter.wait(j.ctx, cost, j.e.cfg.Patience); werr != nil {
				if errors.Is(werr, errNoCredit) {
					content(errorEvent(apierror.New(402, "insufficient_credit", "the answer stopped because credit ran out", "give the request a larger window")))
					return receipt.OutOfCredit
				}
				return receipt.Cancelled
			}
		}
		credit, low := j.s.meter.charge(cost)
		j.rec.Usage = used
		content(eventStart, ev.Data, eventEnd)
		if low {
			out.tell(cost, credit, 0)
		}
		if !st.Ready() {
			out.pause()
		}
		if j.ctx.Err() != nil {
			return receipt.Cancelled
		}
		ev, err = st.Next()
	}
	if j.ctx.Err() != nil {
		return receipt.Cancelled
	}
	if err != io.EOF {
		content(errorEvent(j.engineFault(err)))
		return receipt.Failed
	}
	content(doneEvent)
	return receipt.Complete
}

var (
	eventStart = []byte("data: ")
	eventEnd   = []byte("\n\n")
	doneEvent  = []byte("data: [DONE]\n\n")
)

// busy reports whether streams share processors, so that what one spares
// helps another.
func (e *Enclave) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.streams) > runtime.GOMAXPROCS(0)
}

// An outlet gathers what is written to it and flushes it when there is a pause,
// but not twice within flushInterval. Each flush ends with what all up to there
// has cost: should the rest never arrive, the client knows what did.
type outlet struct {
	w interface {
		io.Writer
		FlushError() error
	}
	fail context.CancelCauseFunc // is told when the transport fails

	mu       sync.Mutex
	cost     uint64      // of what has been written
	said     uint64      // of it, what the client has been told
	line     []byte      // to tell it with
	gathered int         // bytes since the last flush
	flushed  time.Time   // zero: the interval begins with the first pause
	later    *time.Timer // flushes when the interval is over
	waiting  bool        // for it
	closed   bool
}

// write adds parts, with which the answer has come to a cost.
func (o *outlet) write(cost uint64, parts ...[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cost = cost
	o.put(parts...)
}

// tell says how credit stands.
func (o *outlet) tell(cost, credit, need uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = cost
	o.line = appendComment(o.line[:0], cost, credit, need)
	o.put(o.line)
}

func (o *outlet) put(parts ...[]byte) {
	for _, b := range parts {
		if _, err := o.w.Write(b); err != nil {
			o.fail(err)
			return
		}
		o.gathered += len(b)
	}
	if o.gathered >= maxGathered {
		o.send()
	}
}

// pause says that nothing more comes for a while.
func (o *outlet) pause() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gathered == 0 || o.waiting {
		return
	}
	now := time.Now()
	if o.flushed.IsZero() {
		o.flushed = now
	}
	wait := flushInterval - now.Sub(o.flushed)
	if wait <= 0 {
		o.send()
		return
	}
	o.waiting = true
	if o.later != nil {
		o.later.Reset(wait)
		return
	}
	o.later = time.AfterFunc(wait, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.waiting = false; o.gathered > 0 && !o.closed {
			o.send()
		}
	})
}

func (o *outlet) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.send()
}

func (o *outlet) send() {
	if o.cost > o.said {
		o.said = o.cost
		o.line = append(appendCost(o.line[:0], o.cost), eventEnd...)
		if _, err := o.w.Write(o.line); err != nil {
			o.fail(err)
		}
	}
	if err := o.w.FlushError(); err != nil {
		o.fail(err)
	}
	o.gathered, o.flushed = 0, time.Now()
}

// close leaves what is gathered to the writer's Close.
func (o *outlet) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.later != nil {
		o.later.Stop()
	}
}

func errorEvent(f *apierror.Error) []byte {
	return append(append([]byte("data: "), f.JSON()...), "\n\n"...)
}

func appendCost(b []byte, cost uint64) []byte {
	return strconv.AppendUint(append(b, ": bombyx cost="...), cost, 10)
}

func appendComment(b []byte, cost, credit, need uint64) []byte {
	b = append(appendCost(b, cost), " credit="...)
	b = strconv.AppendUint(b, credit, 10)
	if need > 0 {
		b = append(b, " need="...)
		b = strconv.AppendUint(b, need, 10)
	}
	return append(b, eventEnd...)
}

// cost prices what the engine says it used.
func (j *job) cost(e engine.Usage) (cost uint64, u price.Usage, err error) {
	if min(e.Prompt, e.Cached, e.Completion, e.Reasoning) < 0 {
		return 0, u, errors.New("enclave: the engine counts backwards")
	}
	u = price.Usage{Prompt: uint64(e.Prompt), Cached: uint64(e.Cached), Completion: uint64(e.Completion), Reasoning: uint64(e.Reasoning)}
	cost, err = j.prices.Cost(u)
	return cost, u, err
}

// sign ends the answer with its receipt.
func (j *job) sign(f receipt.Finish) {
	j.rec.Finish = f
	j.rec.Cost = j.s.meter.spent()
	j.rec.Time = j.e.cfg.Now().Unix()
	j.answer.Sum(j.rec.Answer[:0])
	s, err := receipt.Sign(&j.rec, j.gen.receipts)
	if err != nil {
		j.e.cfg.Log.Error("no receipt", "err", err)
		return
	}
	j.w.Header().Set("Bombyx-Receipt", s)
}

// engineFault turns an engine's error into the client's. Only a RequestError's
// text is meant for the client.
func (j *job) engineFault(err error) *apierror.Error {
	var re *engine.RequestError
	switch {
	case errors.As(err, &re):
		f := apierror.New(re.Status, re.Code, re.Message, "")
		if re.Type != "" {
			f.Type = re.Type
		}
		f.Param = re.Param
		return f
	case errors.Is(err, engine.ErrUnsupported):
		return apierror.New(404, "unknown_path", "this enclave, or its engine, does not serve that path", "use /v1/chat/completions")
	case errors.Is(err, context.DeadlineExceeded):
		return apierror.New(504, "engine_timeout", "the engine did not answer in time", "try again")
	}
	j.e.cfg.Log.Warn("engine failed", "err", err)
	return apierror.New(502, "engine_error", "the engine failed", "try again, or another host")
}

func validChannel(s string) bool {
	wc, id, ok := strings.Cut(s, ":")
	return ok && (wc == "0" || wc == "-1") && receipt.IsHex(id, 32)
}
