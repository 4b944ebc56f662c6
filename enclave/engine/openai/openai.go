// Package openai drives a language-model server that speaks OpenAI's HTTP API: vLLM, SGLang, llama.cpp's server and, for
// development, ollama. It implements [engine.Engine].
//
// The server runs inside the same confidential VM, on a loopback address or a Unix socket; no other address is accepted,
// nothing is proxied and no redirect is followed. Its port must be closed to everybody else, because an API key does not
// guard all of a server's endpoints: a Unix socket is the better choice.
//
// A request is never passed on as it came. Its members are held against an allow-list of the server's [Flavour], and an
// unknown one is refused by name: these servers take members that load adapters, fetch addresses, return hidden states or
// name another request's cache. What must be set is overwritten: the usage reports that the meter needs and the salt
// that keeps clients from probing each other's prompt cache.
//
// An answer passes through byte by byte, with members that this package does not know. It is complete when every choice
// has a finish_reason and the server has counted its tokens; "[DONE]" alone proves nothing.
//
// An HTTP server cannot be paused: when the caller stops calling Next, the server runs on until the connection's buffers
// are full. Close ends the generation.
package openai

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/internal/direct"
)

// Defaults and limits.
const (
	DefaultStallTimeout  = 2 * time.Minute
	DefaultAnswerTimeout = 30 * time.Minute

	maxEvent    = 1 << 20  // bytes of one event of a stream
	maxAnswer   = 64 << 20 // bytes of a completion that is not streamed
	maxError    = 64 << 10 // bytes of an error answer that are read
	maxModels   = 1000
	maxListing  = 4 << 20
	maxModelID  = 256
	maxChoices  = 16
	keepIdle    = 4 * time.Second // below the 5 s after which uvicorn, under vLLM and SGLang, closes an idle connection
	modelsLimit = 30 * time.Second
)

// Config describes one server.
type Config struct {
	// Address is http://127.0.0.1:8000, http://[::1]:8000 or unix:/run/engine.sock. Names are not looked up.
	Address string

	// Flavour says which server it is.
	Flavour Flavour

	// APIKey, when not empty, is sent as a bearer token.
	APIKey string

	// Models, when not empty, are the only models offered. Otherwise the server's own list is, adapters included.
	Models []engine.Model

	// MaxChoices bounds the request's n; 0 means 1, and 16 is the most.
	MaxChoices int

	// MaxTokens bounds the completion tokens of a request and is the limit of one that names none; 0 leaves both to the
	// server.
	MaxTokens int

	// StallTimeout bounds each wait for bytes of a streamed answer, the first included; 0 means DefaultStallTimeout.
	StallTimeout time.Duration

	// AnswerTimeout bounds a whole answer; 0 means DefaultAnswerTimeout.
	AnswerTimeout time.Duration
}

// Driver drives one server. It is safe for concurrent use.
type Driver struct {
	cfg       Config
	spec      *spec
	base      string
	transport *direct.Transport
	models    atomic.Pointer[[]engine.Model]
	sizes     sync.Map // numbers of an embedding, by model
}

var _ engine.Engine = (*Driver)(nil)

// New checks the configuration and returns a driver. It does not connect.
func New(cfg Config) (*Driver, error) {
	network, address, base, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	s, ok := specs[cfg.Flavour]
	if !ok {
		return nil, fmt.Errorf("openai: unknown flavour %q: use one of %s", string(cfg.Flavour), flavourNames())
	}
	if cfg.MaxChoices == 0 {
		cfg.MaxChoices = 1
	}
	if cfg.MaxChoices < 1 || cfg.MaxChoices > maxChoices {
		return nil, fmt.Errorf("openai: MaxChoices %d is not between 1 and %d", cfg.MaxChoices, maxChoices)
	}
	if cfg.MaxTokens < 0 || cfg.StallTimeout < 0 || cfg.AnswerTimeout < 0 {
		return nil, errors.New("openai: a limit is negative")
	}
	if strings.ContainsFunc(cfg.APIKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("openai: the API key must be printable ASCII without spaces")
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = DefaultStallTimeout
	}
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = DefaultAnswerTimeout
	}
	d := &Driver{cfg: cfg, spec: s, base: base}
	d.transport = direct.New(&http.Transport{
		Proxy: nil, // never the environment's
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    64,
		ReadBufferSize:         16 << 10,
		IdleConnTimeout:        keepIdle,
		MaxResponseHeaderBytes: 64 << 10,
	}, address)
	if len(cfg.Models) > 0 {
		if err := checkModels(cfg.Models); err != nil {
			return nil, err
		}
		models := append([]engine.Model(nil), cfg.Models...)
		d.models.Store(&models)
	}
	return d, nil
}

// parseAddress returns what to dial and the base of the request's URL.
func parseAddress(s string) (network, address, base string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = "/" + strings.TrimLeft(path, "/")
		if !strings.HasPrefix(s, "unix:/") || path != filepath.Clean(path) || path == "/" {
			return "", "", "", fmt.Errorf("openai: %q is no absolute socket path: use unix:/run/engine.sock", s)
		}
		return "unix", path, "http://engine", nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", "", "", errors.New("openai: the engine's address must be http://127.0.0.1:PORT, http://[::1]:PORT or unix:/PATH")
	}
	ap, err := netip.ParseAddrPort(u.Host)
	if err != nil {
		return "", "", "", fmt.Errorf("openai: %q is no numeric address with a port: names are not looked up", u.Host)
	}
	if !ap.Addr().Unmap().IsLoopback() || ap.Port() == 0 {
		return "", "", "", fmt.Errorf("openai: %s is not a loopback address: prompts must not leave the machine", ap)
	}
	return "tcp", ap.String(), "http://" + ap.String(), nil
}

// Models lists the configured models or asks the server for its own.
func (d *Driver) Models(ctx context.Context) ([]engine.Model, error) {
	if len(d.cfg.Models) == 0 {
		ms, err := d.listModels(ctx)
		if err != nil {
			return nil, err
		}
		d.models.Store(&ms)
	}
	return append([]engine.Model(nil), *d.models.Load()...), nil
}

func (d *Driver) listModels(ctx context.Context) ([]engine.Model, error) {
	ctx, cancel := context.WithTimeout(ctx, modelsLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/v1/models", nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.send(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	b, err := readAll(resp.Body, maxListing)
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []struct {
			ID      string `json:"id"`
			Created int64  `json:"created"`
			OwnedBy string `json:"owned_by"`
			Length  int    `json:"max_model_len"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, errors.New("openai: the engine's list of models is not the expected JSON")
	}
	var ms []engine.Model
	for _, m := range list.Data {
		ms = append(ms, engine.Model{ID: m.ID, ContextLength: max(m.Length, 0), MaxTokens: d.cfg.MaxTokens, Created: m.Created, OwnedBy: m.OwnedBy})
	}
	return ms, checkModels(ms)
}

func checkModels(ms []engine.Model) error {
	if len(ms) == 0 || len(ms) > maxModels {
		return fmt.Errorf("openai: the engine offers %d models, need 1 to %d", len(ms), maxModels)
	}
	seen := map[string]bool{}
	for _, m := range ms {
		if m.ID == "" || len(m.ID) > maxModelID || seen[m.ID] {
			return errors.New("openai: a model has no name, an overlong one or the name of another")
		}
		seen[m.ID] = true
	}
	return nil
}

// Start sends one request. For an answer that is not streamed it returns when the answer begins, which for these servers
// is when it is complete.
func (d *Driver) Start(ctx context.Context, req engine.Request) (engine.Stream, error) {
	switch req.Path {
	case engine.PathChatCompletions, engine.PathCompletions, engine.PathEmbeddings:
	default:
		return nil, fmt.Errorf("openai: %s: %w", req.Path, engine.ErrUnsupported)
	}
	models := d.models.Load()
	if models == nil {
		if _, err := d.Models(ctx); err != nil {
			return nil, err
		}
		models = d.models.Load()
	}
	var body *bytes.Reader
	var o options
	var e *embedding
	var err error
	if req.Path == engine.PathEmbeddings {
		if body, e, err = d.rewriteEmbeddings(req, *models); err == nil {
			err = d.fits(ctx, e)
		}
	} else {
		body, o, err = d.rewrite(req, *models)
	}
	if err != nil {
		return nil, err
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(parent)
	s := &stream{options: o, embedding: e, parent: parent, cancel: cancel}
	s.limit = time.AfterFunc(d.cfg.AnswerTimeout, func() { cancel(errSlow) })
	s.stall = time.AfterFunc(d.cfg.StallTimeout, func() { cancel(errStalled) })
	s.wait = d.cfg.StallTimeout
	if !req.Stream {
		s.stall.Stop()
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+req.Path, body)
	if err != nil {
		s.Close()
		return nil, err
	}
	hr.Header["Content-Type"] = []string{"application/json"}
	// Lets the transport try again when the server closes a kept connection at that very moment; not sent.
	hr.Header["Idempotency-Key"] = []string{}
	resp, err := d.send(hr)
	if err != nil {
		err = s.why(context.Cause(ctx), err)
		s.Close()
		return nil, err
	}
	s.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		s.stall.Reset(s.wait)
		err := refusal(resp)
		s.Close()
		return nil, err
	}
	want := "application/json"
	if req.Stream {
		want = "text/event-stream"
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t != want || resp.Header.Get("Content-Encoding") != "" {
		s.Close()
		return nil, fmt.Errorf("openai: the engine did not answer with %s", want)
	}
	s.stall.Stop()
	s.ctx = ctx
	if req.Stream {
		s.events.reset(s)
	}
	return s, nil
}

// send bypasses http.Client, which would follow redirects.
func (d *Driver) send(req *http.Request) (*http.Response, error) {
	req.Header["User-Agent"] = nil
	if d.cfg.APIKey != "" {
		req.Header["Authorization"] = []string{"Bearer " + d.cfg.APIKey}
	}
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("openai: cannot reach the engine: %w", err)
	}
	return resp, nil
}

// CloseIdle closes the connections that no request uses.
func (d *Driver) CloseIdle() { d.transport.CloseIdleConnections() }

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("openai: reading the engine's answer: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("openai: the engine's answer exceeds %d bytes", limit)
	}
	return b, nil
}

func saltText(salt [32]byte) string { return hex.EncodeToString(salt[:]) }
