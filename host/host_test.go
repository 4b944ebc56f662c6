package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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
	network = -217
	window  = 1000
	stream1 = "00000000000000000000000000000001"
	stream2 = "00000000000000000000000000000002"
)

var (
	identity  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	clientKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	otherKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
)

// A testChain is a chain of channels alone.
type testChain struct {
	mu       sync.Mutex
	channels map[channel.Address]*OnChain
	err      error // of every reading
	reads    int
	hold     chan struct{} // if not nil, readings wait until it is closed
	closeErr error
	claims   []uint64
	closed   []uint64
}

func (c *testChain) Channel(_ context.Context, a channel.Address) (*OnChain, error) {
	c.mu.Lock()
	c.reads++
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		<-hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if c.channels[a] == nil {
		return nil, ErrNoChannel
	}
	on := *c.channels[a]
	return &on, nil
}

func (c *testChain) Claim(_ context.Context, v *channel.SignedVoucher) (fee uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on := c.channels[v.Channel]
	due := on.Claimable(on.Balance, v.Total)
	on.Paid += due
	on.Balance -= due
	c.claims = append(c.claims, v.Total)
	return 0, nil
}

func (c *testChain) CloseTogether(_ context.Context, a *channel.SignedAgreement) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closeErr != nil {
		return c.closeErr
	}
	c.closed = append(c.closed, a.Total)
	on := c.channels[a.Channel]
	on.Paid, on.Balance, on.CloseAt = a.Total, 0, uint32(on.Time.Unix())
	return nil
}

// A testEnclave answers as a test tells it to.
type testEnclave struct {
	mu       sync.Mutex
	manifest []byte
	prices   price.List
	sealed   http.HandlerFunc
	cost     map[string]string // what /settle and /credit say of a stream or channel
	tab      string
	evidence http.HandlerFunc
	epoch    http.HandlerFunc
	process  string // that it serves
}

func (e *testEnclave) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	if by := r.Header.Get("Bombyx-Process"); r.Header.Get("Bombyx-Channel") != "" && r.URL.Path == "/settle" || e.process == "" {
		e.process = by
	} else if by != e.process && (r.URL.Path == "/sealed" || r.URL.Path == "/credit") {
		e.mu.Unlock()
		apierror.New(409, "taken_over", "another", "").Write(w)
		return
	}
	key := r.Header.Get("Bombyx-Stream")
	if key == "" {
		key = r.Header.Get("Bombyx-Channel")
	}
	sealed, doc, evidence, epoch, cost := e.sealed, e.manifest, e.evidence, e.epoch, e.cost[key]
	prices, _ := e.prices.Digest()
	tab := e.tab
	e.mu.Unlock()
	switch r.URL.Path {
	case "/manifest":
		w.Header().Set("Bombyx-Prices", hex.EncodeToString(prices[:]))
		w.Write(doc)
	case "/sealed":
		sealed(w, r)
	case "/evidence":
		evidence(w, r)
	case "/epoch":
		epoch(w, r)
	case "/credit", "/settle":
		if cost == "" {
			w.WriteHeader(404)
			io.WriteString(w, `{"error":{"message":"none","type":"invalid_request_error","code":"unknown_stream"}}`)
			return
		}
		w.Header().Set("Bombyx-Cost", cost)
		if r.URL.Path == "/credit" {
			cost = "0" // of what has ended
		}
		w.Header().Set("Bombyx-Tab", tab+" "+cost)
		w.WriteHeader(204)
	}
}

// costs answers at once, at a cost, on a tab of its own.
func costs(cost string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Bombyx-Cost, Bombyx-Tab")
		io.WriteString(w, "sealed answer")
		w.Header().Set("Bombyx-Cost", cost)
		w.Header().Set("Bombyx-Tab", newTab()+" "+cost)
	}
}

func newTab() string { return strings.ToLower(rand.Text()[:16]) }

type rig struct {
	t       *testing.T
	cfg     Config
	h       *Host
	url     string
	chain   *testChain
	enclave *testEnclave
	upURL   string
	params  channel.Params
	mu      sync.Mutex
	clock   time.Time
	path    string // of the ledger
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, clock: time.Unix(1_800_000_000, 0), path: filepath.Join(t.TempDir(), "ledger.db")}
	m := manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: "m", Format: "gguf", SHA256: strings.Repeat("0", 64), Size: 1, ContextLength: 10}}}
	doc, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	prices := price.List{"m": {Prompt: 1}}
	r.enclave = &testEnclave{manifest: doc, prices: prices, sealed: costs("0"), cost: map[string]string{}, tab: newTab()}
	up := httptest.NewServer(r.enclave)
	t.Cleanup(up.Close)
	r.upURL = up.Listener.Addr().String()
	r.params = channel.Params{Payee: channel.Address{1}, Client: channel.Address{2}, ClientKey: [32]byte(clientKey.Public().(ed25519.PublicKey)),
		CloseDelay: 3600, ExpiresAt: uint32(r.clock.Add(30 * 24 * time.Hour).Unix())}
	r.chain = &testChain{channels: map[channel.Address]*OnChain{r.params.Address(): {
		State: channel.State{Params: r.params, CloseAt: r.params.ExpiresAt}, Balance: 1_000_000 + channel.Reserve, Time: r.clock}}}
	r.cfg = Config{Identity: identity, Network: network, Payee: r.params.Payee, Prices: prices, Window: window,
		MinDeposit: 1_000_000 + channel.Reserve, ClosingDelay: time.Hour, CardLifetime: time.Hour,
		Claims:   Claims{Every: time.Hour, Threshold: 100, Age: time.Hour, Margin: 10 * time.Minute},
		Enclaves: []Enclave{{ID: "e0", Transport: &http.Transport{}, Authority: r.upURL}}, Chain: r.chain, Now: r.now}
	r.start()
	return r
}

// start runs a host on the ledger, as a new process would.
func (r *rig) start() {
	r.t.Helper()
	l, err := ledger.Open(r.t.Context(), r.path, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	r.cfg.Ledger = l
	if r.h, err = New(r.t.Context(), r.cfg); err != nil {
		r.t.Fatal(err)
	}
	srv := httptest.NewServer(r.h.Handler())
	r.t.Cleanup(srv.Close)
	r.url = srv.URL
}

// call returns the status and, of an error object, the code.
func (r *rig) call(method, path string, body []byte, header ...string) (int, string, *http.Response) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, "cut", resp
	}
	if resp.StatusCode < 400 {
		return resp.StatusCode, string(b), resp
	}
	var o struct {
		Error struct{ Message, Code string }
	}
	if err := json.Unmarshal(b, &o); err != nil || o.Error.Message == "" {
		r.t.Errorf("%s %s: %d %q is no OpenAI error object", method, path, resp.StatusCode, b)
	}
	return resp.StatusCode, o.Error.Code, resp
}

func (r *rig) want(what string, status int, code string, gotStatus int, gotCode string) {
	r.t.Helper()
	if status != gotStatus || status >= 400 && code != gotCode {
		r.t.Errorf("%s: %d %s, want %d %s", what, gotStatus, gotCode, status, code)
	}
}

func (r *rig) session(change func(*session.Request), key ed25519.PrivateKey) []byte {
	req := session.Request{Host: [32]byte(identity.Public().(ed25519.PublicKey)), Terms: r.params, Time: r.now().UnixNano()}
	if change != nil {
		change(&req)
	}
	return req.Sign(key)
}

// open opens a session and returns its authorization.
func (r *rig) open() string {
	r.t.Helper()
	r.advance(time.Millisecond)
	status, body, _ := r.call("POST", "/v1/session", r.session(nil, clientKey))
	var s struct{ Token string }
	if err := json.Unmarshal([]byte(body), &s); status != 200 || err != nil || s.Token == "" {
		r.t.Fatalf("session: %d %s", status, body)
	}
	return "Bearer " + s.Token
}

func (r *rig) voucher(total uint64) []byte {
	v := channel.Voucher{GlobalID: network, Channel: r.params.Address(), Total: total}.Sign(clientKey)
	b, _ := v.MarshalBinary()
	return b
}

func (r *rig) pay(auth string, total uint64, header ...string) (int, string) {
	r.t.Helper()
	status, code, _ := r.call("POST", "/v1/voucher", r.voucher(total), append(header, "Authorization", auth)...)
	return status, code
}

func (r *rig) ask(auth, stream, allot string) (int, string) {
	r.t.Helper()
	status, code, _ := r.call("POST", "/v1/enclaves/e0/sealed", []byte("sealed"), "Authorization", auth,
		"Bombyx-Stream", stream, "Bombyx-Allot", allot, "Content-Type", requestType)
	return status, code
}

func (r *rig) row() *ledger.Channel {
	r.t.Helper()
	r.h.recording.Wait()
	c, err := r.cfg.Ledger.Channel(r.t.Context(), r.params.Address().Raw())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestSessionRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*rig, *OnChain)
		req    func(*session.Request)
		key    ed25519.PrivateKey
		raw    []byte
		status int
		code   string
	}{
		{name: "none", status: 200},
		{name: "empty", raw: []byte{}, status: 400, code: "malformed_body"},
		{name: "garbage", raw: make([]byte, session.Size), status: 400, code: "malformed_session"},
		{name: "too long", raw: make([]byte, session.Size+1), status: 400, code: "malformed_body"},
		{name: "two minutes and more old", req: func(s *session.Request) { s.Time -= int64(121 * time.Second) }, status: 403, code: "bad_session"},
		{name: "from the future", req: func(s *session.Request) { s.Time += int64(121 * time.Second) }, status: 403, code: "bad_session"},
		{name: "another host", req: func(s *session.Request) { s.Host[0] ^= 1 }, status: 403, code: "bad_session"},
		{name: "another key", key: otherKey, status: 403, code: "bad_session"},
		{name: "unknown channel", req: func(s *session.Request) { s.Terms.Salt++ }, status: 404, code: "unknown_channel"},
		{name: "another payee", req: func(s *session.Request) { s.Terms.Payee[0] ^= 1 }, status: 403, code: "unsuitable_channel"},
		{name: "short delay", req: func(s *session.Request) { s.Terms.CloseDelay-- }, status: 403, code: "unsuitable_channel"},
		{name: "closing", change: func(_ *rig, on *OnChain) { on.CloseAt -= 3600 }, status: 403, code: "unsuitable_channel"},
		{name: "about to expire", req: func(s *session.Request) {
			s.Terms.ExpiresAt = uint32(time.Unix(0, s.Time).Add(time.Hour - time.Second).Unix())
		}, status: 403, code: "unsuitable_channel"},
		{name: "fees and rent out of the reserve", change: func(_ *rig, on *OnChain) { on.Balance = 1_000_000 }, status: 200},
		{name: "small deposit", change: func(_ *rig, on *OnChain) { on.Balance = 999_999 }, status: 403, code: "unsuitable_channel"},
		{name: "chain down", change: func(r *rig, _ *OnChain) { r.chain.err = errors.New("no answer") }, status: 503, code: "chain_down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			if c.change != nil {
				c.change(r, r.chain.channels[r.params.Address()])
			}
			if c.key == nil {
				c.key = clientKey
			}
			body := c.raw
			if body == nil {
				body = r.session(c.req, c.key)
			}
			status, code, _ := r.call("POST", "/v1/session", body)
			r.want("session", c.status, c.code, status, code)
			if status == 200 {
				status, code, _ = r.call("POST", "/v1/session", body)
				r.want("replayed", 403, "stale_session", status, code)
			}
		})
	}
}

func TestTokenRefusals(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	for name, a := range map[string]string{"none": "", "unknown": "Bearer " + strings.Repeat("A", 43), "basic": strings.Replace(auth, "Bearer", "Basic", 1), "cut": auth[:len(auth)-1]} {
		for _, path := range []string{"/v1/voucher", "/v1/cancel", "/v1/close", "/v1/enclaves/e0/sealed"} {
			status, code, _ := r.call("POST", path, nil, "Authorization", a)
			r.want(name+" "+path, 401, "unknown_session", status, code)
		}
	}
	if status, _ := r.pay(auth, 1); status != 204 {
		t.Fatalf("a good token: %d", status)
	}
	r.advance(tokenLifetime)
	status, code := r.pay(auth, 2)
	r.want("expired", 401, "unknown_session", status, code)
}

// A client ends its own requests, through the enclave: nobody else's, and none
// that the enclave does not know.
func TestCancel(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	cancel := func(what string, want int, wantCode string) {
		t.Helper()
		status, code, _ := r.call("POST", "/v1/cancel", nil, "Authorization", auth, "Bombyx-Stream", stream1)
		r.want(what, want, wantCode, status, code)
	}
	cancel("before it runs", 404, "unknown_stream")
	begun, ended, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.enclave.sealed = func(w http.ResponseWriter, q *http.Request) {
		close(begun)
		<-ended
		costs("60")(w, q)
	}
	go func() {
		defer close(done)
		if status, code := r.ask(auth, stream1, "100"); status != 200 {
			t.Errorf("%d %s", status, code)
		}
	}()
	<-begun
	cancel("on its way to the enclave", 404, "unknown_stream")
	r.enclave.mu.Lock()
	r.enclave.cost[stream1] = "no number"
	r.enclave.mu.Unlock()
	other := r.h.accounts.get("another", channel.Address{9}, r.now())
	token, fault := r.h.accounts.issue(other, r.now())
	if fault != nil {
		t.Fatal(fault)
	}
	status, code, _ := r.call("POST", "/v1/cancel", nil, "Authorization", "Bearer "+token, "Bombyx-Stream", stream1)
	r.want("of another channel", 404, "unknown_stream", status, code)
	up := r.h.enclaves["e0"].Transport
	r.h.enclaves["e0"].Transport = failing{}
	cancel("with an enclave that does not answer", 502, "enclave_down")
	r.h.enclaves["e0"].Transport = up
	cancel("while it runs", 204, "")
	close(ended)
	<-done
	cancel("after it", 404, "unknown_stream")
	if row := r.row(); row.Spent != 60 {
		t.Errorf("spent %d", row.Spent)
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no answer") }

func TestVoucherRefusals(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	sign := func(change func(*channel.Voucher), key ed25519.PrivateKey) []byte {
		v := channel.Voucher{GlobalID: network, Channel: r.params.Address(), Total: 100}
		change(&v)
		s := v.Sign(key)
		b, _ := s.MarshalBinary()
		return b
	}
	none := func(*channel.Voucher) {}
	agreement := channel.Agreement{GlobalID: network, Channel: r.params.Address(), Total: 100}.Sign(clientKey)
	agreed, _ := agreement.MarshalBinary()
	dressed := append(r.voucher(1)[:4:4], agreed[4:]...) // an agreement's signature under a voucher's magic
	for _, c := range []struct {
		name   string
		body   []byte
		status int
		code   string
	}{
		{"another key", sign(none, otherKey), 403, "bad_signature"},
		{"another channel", sign(func(v *channel.Voucher) { v.Channel[0] ^= 1 }, clientKey), 403, "wrong_voucher"},
		{"another network", sign(func(v *channel.Voucher) { v.GlobalID = -239 }, clientKey), 403, "wrong_voucher"},
		{"raised after signing", func() []byte { b := sign(none, clientKey); b[47]++; return b }(), 403, "bad_signature"},
		{"another head", func() []byte { b := sign(none, clientKey); b[48]++; return b }(), 403, "bad_signature"},
		{"an agreement", agreed, 400, "malformed_voucher"},
		{"a dressed agreement", dressed, 403, "bad_signature"},
		{"short", sign(none, clientKey)[1:], 400, "malformed_body"},
		{"two", append(sign(none, clientKey), sign(none, clientKey)...), 400, "malformed_body"},
		{"beyond 63 bits", sign(func(v *channel.Voucher) { v.Total = 1 << 63 }, clientKey), 400, "malformed_voucher"},
	} {
		status, code, _ := r.call("POST", "/v1/voucher", c.body, "Authorization", auth)
		r.want(c.name, c.status, c.code, status, code)
	}
	if c := r.row(); c.Authorised != 0 || c.Voucher != nil {
		t.Fatalf("a refused voucher counts: %+v", c)
	}
	for _, total := range []uint64{100, 70, 100} { // lower and replayed ones change nothing
		if status, code := r.pay(auth, total); status != 204 {
			t.Fatalf("%d: %d %s", total, status, code)
		}
	}
	if c := r.row(); c.Authorised != 100 || !bytes.Equal(c.Voucher, r.voucher(100)) {
		t.Fatalf("%+v", c)
	}
	status, code := r.pay(auth, 100, "Bombyx-Stream", stream1, "Bombyx-Allot", "50")
	r.want("a stream that does not run", 404, "unknown_stream", status, code)
	status, code = r.pay(auth, 100, "Bombyx-Stream", stream1, "Bombyx-Allot", "-1")
	r.want("a malformed allotment", 400, "malformed_header", status, code)
}

func TestAdmission(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	if status, code := r.pay(auth, 1000); status != 204 {
		t.Fatal(status, code)
	}
	hold := make(chan struct{})
	r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) { <-hold; costs("70")(w, req) }
	done := make(chan string)
	go func() {
		status, body := r.ask(auth, stream1, "600")
		done <- fmt.Sprint(status, body)
	}()
	for {
		r.h.accounts.mu.Lock()
		a := r.h.accounts.open[r.params.Address().Raw()]
		r.h.accounts.mu.Unlock()
		if a.running(stream1) != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, c := range []struct {
		name, stream, allot string
		status              int
		code                string
	}{
		{"more than is left", stream2, "401", 402, "insufficient_credit"},
		{"overflow", stream2, "9223372036854775807", 402, "insufficient_credit"},
		{"the same stream", stream1, "1", 409, "duplicate_stream"},
		{"no stream", "", "1", 400, "malformed_header"},
		{"short stream", stream2[1:], "1", 400, "malformed_header"},
		{"upper case", strings.Repeat("A", 32), "1", 400, "malformed_header"},
		{"negative", stream2, "-1", 400, "malformed_header"},
		{"beyond 63 bits", stream2, "9223372036854775808", 400, "malformed_header"},
		{"no allotment", stream2, "", 400, "malformed_header"},
	} {
		status, code := r.ask(auth, c.stream, c.allot)
		r.want(c.name, c.status, c.code, status, code)
	}
	status, code, _ := r.call("POST", "/v1/enclaves/e0/sealed", []byte("x"), "Authorization", auth, "Bombyx-Stream", stream2, "Bombyx-Allot", "1", "Content-Type", "application/json")
	r.want("another type", 415, "wrong_type", status, code)
	for _, path := range []string{"sealed", "evidence"} {
		status, code, _ = r.call("POST", "/v1/enclaves/e9/"+path, make([]byte, 32), "Authorization", auth, "Bombyx-Stream", stream2, "Bombyx-Allot", "1", "Content-Type", requestType)
		r.want("unknown enclave", 404, "unknown_enclave", status, code)
	}
	status, code = r.pay(auth, 1000, "Bombyx-Stream", stream1, "Bombyx-Allot", "1001")
	r.want("a raise beyond the voucher", 402, "insufficient_credit", status, code)
	_, _, resp := r.call("POST", "/v1/enclaves/e0/sealed", nil, "Authorization", auth, "Bombyx-Stream", stream2, "Bombyx-Allot", "401", "Content-Type", requestType)
	if h := resp.Header; h.Get("Bombyx-Authorised") != "1000" || h.Get("Bombyx-Reserved") != "600" || h.Get("Bombyx-Spent") != "0" {
		t.Errorf("balances on a refusal: %v", h)
	}
	close(hold)
	if got := <-done; got != "200sealed answer" {
		t.Fatal(got)
	}
	if c := r.row(); c.Spent != 70 || c.Answers != 1 {
		t.Errorf("%+v", c)
	}
	// A voucher beyond the deposit is worth the deposit.
	if status, code := r.pay(auth, 1<<40); status != 204 {
		t.Fatal(status, code)
	}
	status, code = r.ask(auth, stream2, "1000000")
	r.want("beyond the deposit", 402, "insufficient_credit", status, code)
	// Nothing is admitted on a chain that cannot be read, or a channel that closes.
	r.advance(chainFresh)
	r.chain.err = errors.New("no answer")
	status, code = r.ask(auth, stream2, "1")
	r.want("chain down", 503, "chain_down", status, code)
	r.chain.err = nil
	r.chain.channels[r.params.Address()].CloseAt -= 3600
	r.advance(readAgain)
	for range 2 {
		status, code = r.ask(auth, stream2, "1")
		r.want("closing", 403, "unsuitable_channel", status, code)
	}
}

// The cost is what the enclave says, and never more than the client allowed.
func TestCosts(t *testing.T) {
	const sealed = "sealed answer"
	cut := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, sealed)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, c := range []struct {
		name   string
		sealed http.HandlerFunc
		settle string
		status int
		spent  uint64
	}{
		{"as stated", costs("33"), "", 200, 33},
		{"more than allotted", costs("5000"), "", 200, 100},
		{"garbage, settled", costs("-1"), "44", 200, 44},
		{"no trailer, settled", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, sealed) }, "45", 200, 45},
		{"cut, settled", cut, "46", 200, 46},
		{"cut, and the enclave forgot", cut, "", 200, 0},
		{"cut, and the enclave talks nonsense", cut, "x", 200, 0},
		{"refused", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, "", 503, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			auth := r.open()
			r.pay(auth, 100)
			r.enclave.sealed = c.sealed
			if c.settle != "" {
				r.enclave.cost[stream1] = c.settle
			}
			if status, body := r.ask(auth, stream1, "100"); status != c.status {
				t.Errorf("%d %s", status, body)
			}
			// The client may have its answer before the host has its cost.
			waitFor(t, func() bool { return r.account().balances().Reserved == 0 })
			if got := r.account().balances().Spent; got != c.spent {
				t.Errorf("spent %d, want %d", got, c.spent)
			}
			if c.name == "more than allotted" {
				return // the ledger takes the enclave's word
			}
			waitFor(t, func() bool {
				row, err := r.cfg.Ledger.Channel(t.Context(), r.params.Address().Raw())
				return err == nil && row.Spent == c.spent
			})
		})
	}
}

func (r *rig) account() *account {
	r.h.accounts.mu.Lock()
	defer r.h.accounts.mu.Unlock()
	return r.h.accounts.open[r.params.Address().Raw()]
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("timed out")
		}
	}
}

// The card says what the enclaves serve now: one may be started again with other
// models, or not at all, while the host runs.
func TestCardFollowsItsEnclaves(t *testing.T) {
	r := newRig(t)
	r.cfg.Prices = price.List{"m": {Prompt: 1}, "n": {Prompt: 2}}
	r.enclave.prices = r.cfg.Prices
	r.start()
	models := func() string {
		t.Helper()
		status, body, _ := r.call("GET", "/v1/card", nil)
		if status != 200 {
			return body
		}
		c, err := card.Verify(body, r.h.Key(), r.now())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(c.Enclaves[0].Models, " ")
	}
	serves := func(id string) {
		t.Helper()
		doc, err := (&manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: id, Format: "gguf", SHA256: strings.Repeat("0", 64), Size: 1, ContextLength: 10}}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		r.enclave.mu.Lock()
		defer r.enclave.mu.Unlock()
		r.enclave.manifest = doc
	}
	for i, want := range []string{"m", "n", "m"} {
		serves(want)
		r.advance(manifestFresh)
		if got := models(); got != want {
			t.Errorf("%d: the card lists %q, the enclave serves %q", i, got, want)
		}
	}
	serves("n")
	if got := models(); got != "m" {
		t.Errorf("every card asks the enclave: %q", got)
	}
	// With other prices than the card's no client would believe its receipts.
	for _, prices := range []price.List{{"m": {Prompt: 1}}, {"m": {Prompt: 1}, "n": {Prompt: 3}}, {"m": {Prompt: 1}, "n": {Prompt: 2}, "o": {}}, nil, r.cfg.Prices} {
		r.enclave.mu.Lock()
		r.enclave.prices = prices
		r.enclave.mu.Unlock()
		r.advance(manifestFresh)
		want := "no_enclave"
		if len(prices) == 2 && prices["n"].Prompt == 2 {
			want = "n"
		}
		if got := models(); got != want {
			t.Errorf("an enclave with the prices %v: the card lists %q, not %q", prices, got, want)
		}
	}
	r.h.enclaves["e0"].Authority = "127.0.0.1:1"
	r.advance(manifestFresh)
	if got := models(); got != "no_enclave" {
		t.Errorf("an enclave that is gone is on the card: %q", got)
	}
}

func TestEnclaveFaults(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	var garbage = func(doc string) {
		r.enclave.mu.Lock()
		r.enclave.manifest = []byte(doc)
		r.enclave.mu.Unlock()
	}
	for name, doc := range map[string]string{"garbage": "\x00", "unpriced": `{"v":1,"models":[{"id":"x","format":"gguf","sha256":"` + strings.Repeat("0", 64) + `","size":1,"context_length":1}]}`,
		"huge": strings.Repeat("x", maxDocument+1)} {
		garbage(doc)
		status, code, _ := r.call("GET", "/v1/card", nil)
		r.want(name+" manifest", 503, "no_enclave", status, code)
	}
	r.enclave.evidence = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(429)
		io.WriteString(w, `{"error":{"message":"busy","code":"busy"}}`)
	}
	status, code, _ := r.call("POST", "/v1/enclaves/e0/evidence", make([]byte, 32))
	r.want("an enclave's refusal", 429, "busy", status, code)
	for _, n := range []int{0, 31, 33} {
		status, code, _ = r.call("POST", "/v1/enclaves/e0/evidence", make([]byte, n))
		r.want("a nonce of another length", 400, "malformed_body", status, code)
	}
	// It is gone.
	r.h.enclaves["e0"].Authority = "127.0.0.1:1"
	for _, c := range []struct {
		method, path string
		body         []byte
	}{{"GET", "/v1/enclaves/e0/manifest", nil}, {"POST", "/v1/enclaves/e0/evidence", make([]byte, 32)}} {
		status, code, _ := r.call(c.method, c.path, c.body)
		r.want(c.path, 502, "enclave_down", status, code)
	}
	status, code = r.ask(auth, stream1, "10")
	r.want("sealed", 421, "enclave_down", status, code)
	r.advance(settleWithin + time.Second) // it stays away
	if c := r.row(); c.Spent != 0 {
		t.Errorf("a dead enclave was paid %d", c.Spent)
	}
	status, code, _ = r.call("GET", "/v1/collateral", nil)
	r.want("no collateral", 404, "no_collateral", status, code)
}

// A request passes whole, whatever its length; connections go on, even when the
// enclave answers before it has read it.
func TestSealedBodies(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	for i, size := range []int{1, relayBuffer, relayBuffer + 1, 256 << 10} {
		body := bytes.Repeat([]byte{'a' + byte(i)}, size)
		for round := range 5 {
			for _, early := range []bool{false, true} {
				r.enclave.mu.Lock()
				r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) {
					if early {
						w.WriteHeader(409)
						io.WriteString(w, `{"error":{"message":"seen","code":"replayed"}}`)
						return
					}
					if got, err := io.ReadAll(req.Body); err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d of %d bytes arrive: %v", len(got), size, err)
					}
					costs("0")(w, req)
				}
				r.enclave.mu.Unlock()
				status, code, _ := r.call("POST", "/v1/enclaves/e0/sealed", body, "Authorization", auth,
					"Bombyx-Stream", fmt.Sprintf("%031x%d", 10*i+round, map[bool]int{true: 1}[early]), "Bombyx-Allot", "10", "Content-Type", requestType)
				if early {
					r.want("early answer", 409, "replayed", status, code)
				} else {
					r.want("answer", 200, "sealed answer", status, code)
				}
			}
		}
	}
}

// A client that sends less than it announced costs nothing, and no enclave.
func TestTruncatedBody(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	r.enclave.sealed = func(http.ResponseWriter, *http.Request) { t.Error("the enclave was asked") }
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/enclaves/e0/sealed HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nBombyx-Stream: %s\r\nBombyx-Allot: 10\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nsealed",
		auth, stream1, requestType)
	c.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if f := apierror.Read(resp); resp.StatusCode != 400 || f.Code != "truncated_request" {
		t.Error(resp.StatusCode, f)
	}
	waitFor(t, func() bool { return r.account().balances().Reserved == 0 })
	if row := r.row(); row.Spent != 0 {
		t.Errorf("it cost %d", row.Spent)
	}
}

func TestEvidenceRate(t *testing.T) {
	r := newRig(t)
	hold, began := make(chan struct{}), make(chan struct{}, maxEvidence)
	r.enclave.evidence = func(w http.ResponseWriter, _ *http.Request) { began <- struct{}{}; <-hold; io.WriteString(w, "{}") }
	var wg sync.WaitGroup
	for range maxEvidence {
		wg.Go(func() {
			if status, code, _ := r.call("POST", "/v1/enclaves/e0/evidence", make([]byte, 32)); status != 200 {
				t.Error(status, code)
			}
		})
		<-began
	}
	status, code, resp := r.call("POST", "/v1/enclaves/e0/evidence", make([]byte, 32))
	r.want("one more", 429, "busy", status, code)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(hold)
	wg.Wait()
	if status, code, _ = r.call("POST", "/v1/enclaves/e0/evidence", make([]byte, 32)); status != 200 {
		t.Errorf("afterwards: %d %s", status, code)
	}
}

func TestCard(t *testing.T) {
	r := newRig(t)
	status, body, _ := r.call("GET", "/v1/card", nil)
	c, err := card.Verify(body, r.h.Key(), r.now())
	if status != 200 || err != nil || c.Payee != r.params.Payee.Raw() || len(c.Serving("m")) != 1 || c.Window != window {
		t.Fatalf("%d %+v, %v", status, c, err)
	}
}

func TestConfigRefusals(t *testing.T) {
	good := newRig(t).cfg
	for name, change := range map[string]func(*Config){
		"no identity":      func(c *Config) { c.Identity = nil },
		"no ledger":        func(c *Config) { c.Ledger = nil },
		"no chain":         func(c *Config) { c.Chain = nil },
		"no clock":         func(c *Config) { c.Now = nil },
		"no enclave":       func(c *Config) { c.Enclaves = nil },
		"enclave twice":    func(c *Config) { c.Enclaves = append(c.Enclaves[:1:1], c.Enclaves[0]) },
		"no transport":     func(c *Config) { c.Enclaves = []Enclave{{ID: "e"}} },
		"short delay":      func(c *Config) { c.ClosingDelay = time.Second },
		"margin too large": func(c *Config) { c.Claims.Margin = c.ClosingDelay },
		"no claim age":     func(c *Config) { c.Claims.Age = 0 },
		"short card":       func(c *Config) { c.CardLifetime = time.Second },
		"no prices":        func(c *Config) { c.Prices = nil },
	} {
		c := good
		change(&c)
		if _, err := New(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// One client cannot take the sessions or requests of all.
func TestOneChannelIsOneOfMany(t *testing.T) {
	r := newRig(t)
	first := r.open()
	for range maxSessions - 1 {
		r.open()
	}
	if status, code := r.pay(first, 10); status != 204 {
		t.Fatalf("%d sessions: %d %s", maxSessions, status, code)
	}
	last := r.open()
	status, code := r.pay(first, 10)
	r.want("the oldest session", 401, "unknown_session", status, code)
	if status, code := r.pay(last, 10); status != 204 {
		t.Fatal(status, code)
	}
	if n := len(r.h.accounts.tokens); n != maxSessions {
		t.Errorf("%d sessions in memory", n)
	}
	a, to := r.account(), r.h.enclaves["e0"]
	for i := range maxStreams {
		if f := a.admit(fmt.Sprintf("%032x", i), 0, to, r.now()); f != nil {
			t.Fatal(i, f)
		}
	}
	status, code = r.ask(last, strings.Repeat("f", 32), "0")
	r.want("one request more", 429, "busy", status, code)
	a.settle(fmt.Sprintf("%032x", 0), nil)
	if status, code = r.ask(last, strings.Repeat("f", 32), "0"); status != 200 {
		t.Fatal(status, code)
	}
}

// A request that comes in drips is not waited for; nor is the rest of one that
// is answered already. Neither holds on to its allotment.
func TestSlowRequest(t *testing.T) {
	for _, c := range []struct {
		name   string
		http2  bool
		length int64 // said beforehand
		early  bool
		status int
		code   string
	}{
		{"HTTP/1", false, -1, false, 408, "slow_request"},
		{"HTTP/1, short", false, 100, false, 408, "slow_request"},
		{"HTTP/2", true, -1, false, 408, "slow_request"},
		{"HTTP/2, short", true, 100, false, 408, "slow_request"},
		{"HTTP/1, answered", false, -1, true, 422, "unknown_key"},
		{"HTTP/2, answered", true, -1, true, 422, "unknown_key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			if c.early {
				r.enclave.sealed = func(w http.ResponseWriter, _ *http.Request) {
					http.NewResponseController(w).EnableFullDuplex() // as one does that reads no more
					apierror.New(422, "unknown_key", "unknown key", "").Write(w)
				}
			} else {
				r.h.bodyWithin = 50 * time.Millisecond
			}
			auth := r.open()
			r.pay(auth, 100)
			srv := httptest.NewUnstartedServer(r.h.Handler())
			srv.EnableHTTP2 = c.http2
			srv.StartTLS()
			defer srv.Close()
			body, drip := io.Pipe()
			defer drip.Close()
			req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/v1/enclaves/e0/sealed", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = c.length
			req.Header = http.Header{"Authorization": {auth}, "Bombyx-Stream": {stream1}, "Bombyx-Allot": {"100"}, "Content-Type": {requestType}}
			go io.WriteString(drip, "drip")
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || !strings.Contains(string(b), c.code) {
				t.Errorf("%d %s", resp.StatusCode, b)
			}
			waitFor(t, func() bool { return r.account().balances().Reserved == 0 })
		})
	}
}

// A cost that falls before it is final, as when the engine finds the prompt
// cached, is not charged at its highest.
func TestCostMayFall(t *testing.T) {
	r := newRig(t)
	auth := r.open()
	r.pay(auth, 1000)
	raised := make(chan struct{})
	r.enclave.cost[stream1] = "90"
	r.enclave.sealed = func(w http.ResponseWriter, req *http.Request) { <-raised; costs("70")(w, req) }
	done := make(chan struct{})
	go func() { r.ask(auth, stream1, "100"); close(done) }()
	waitFor(t, func() bool { return r.account().running(stream1) != nil })
	if status, code := r.pay(auth, 1000, "Bombyx-Stream", stream1, "Bombyx-Allot", "200"); status != 204 {
		t.Fatal(status, code)
	}
	close(raised)
	<-done
	if c := r.row(); c.Spent != 70 {
		t.Errorf("the ledger has %d", c.Spent)
	}
	if b := r.account().balances(); b.Spent != 70 || b.Reserved != 0 {
		t.Errorf("%+v, want 70 spent", b)
	}
	a, to := r.account(), r.h.enclaves["e0"] // one whose cost is known late
	if f := a.admit(stream2, 100, to, r.now()); f != nil {
		t.Fatal(f)
	}
	s := a.running(stream2)
	a.note(stream2, s, 50)
	a.settle(stream2, nil)
	if b := a.balances(); b.Spent != 120 {
		t.Errorf("%+v, want the last word", b)
	}
	a.correct(s, 30)
	if b := a.balances(); b.Spent != 100 {
		t.Errorf("%+v, want 100", b)
	}
}
