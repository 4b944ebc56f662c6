// Package e2e runs enclave, host and client against each other over real
// sockets, for tests and benchmarks of the whole.
package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/enclave"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/corked"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// Model is the name that the stack's engine serves.
const Model = "test-model"

// Network is the TON global id of the stack.
const Network = -3

// Options vary a stack. Zero values are ordinary.
type Options struct {
	Dir       string // for sockets and the ledger; required
	Engine    engine.Engine
	More      []engine.Engine       // of further enclaves, behind the same host: e1, e2...
	Collector attestation.Collector // default: a GPU node of the mock authority
	Node      attestationtest.NodeConfig
	Deposit   uint64
	Window    uint64
	Patience  time.Duration
	Timeout   time.Duration
	Now       func() time.Time
	// Between sees every request of the host to its enclave, and Outside of
	// the client to its host: where a hostile host or network sits.
	Between, Outside func(http.RoundTripper) http.RoundTripper
	Trace            client.Trace
	// Epochs of the host, and what the client needs to accept them: a chain,
	// and the seconds that its policy allows.
	Epochs   host.Epochs
	Blocks   client.Blocks
	EpochAge uint32
	// ErrorLog is where the servers report connections that panicked.
	ErrorLog *log.Logger
}

// A Stack is one enclave behind one host, with one client.
type Stack struct {
	Authority *attestationtest.Authority
	Enclave   *enclave.Enclave
	Enclaves  []io.Closer // end the processes
	Host      *host.Host
	Ledger    *ledger.Ledger
	Chain     *Chain
	Client    *client.Transport
	Config    client.Config // of Client
	URL       string        // of the host

	errorLog *log.Logger
	host     host.Config
	at       string // ledger
	hostStop func()
	closers  []func()
}

// Prices of the stack's model.
var Prices = price.List{Model: {Prompt: 1_000_000, Cached: 100_000, Completion: 10_000_000, Reasoning: 10_000_000}}

// Start runs a stack. Close it.
func Start(o Options) (s *Stack, err error) {
	s = &Stack{errorLog: o.ErrorLog}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Deposit == 0 {
		o.Deposit = 1_000_000_000
	}
	if o.Window == 0 {
		o.Window = 1_000_000
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Node.Name == "" {
		o.Node = attestationtest.NodeConfig{Name: "node", GPUs: 1}
	}
	s.Authority = attestationtest.New("e2e")
	if o.Collector == nil {
		if o.Collector, err = s.Authority.NewNode(o.Node); err != nil {
			return s, err
		}
	}
	m := &manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: Model, Format: "gguf", SHA256: hex.EncodeToString(make([]byte, 32)), Size: 1, ContextLength: 4096}}}
	doc, err := m.Encode()
	if err != nil {
		return s, err
	}
	var enclaves []host.Enclave
	for i, engine := range append([]engine.Engine{o.Engine}, o.More...) {
		e, err := enclave.New(enclave.Config{Engine: engine, Collector: o.Collector, Manifest: doc, Prices: Prices,
			Build: sha256.Sum256([]byte("build")), Digest: sha256.Sum256([]byte("config")),
			KeyLifetime: time.Hour, Patience: o.Patience, Window: 2 * time.Minute, Now: o.Now})
		if err != nil {
			return s, err
		}
		path := filepath.Join(o.Dir, fmt.Sprintf("enclave%d.sock", i))
		l, err := net.Listen("unix", path)
		if err != nil {
			return s, err
		}
		s.Enclaves = append(s.Enclaves, s.serve(l, e.Handler()))
		up := host.EnclaveTransport(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) })
		if o.Between != nil {
			up = o.Between(up)
		}
		enclaves = append(enclaves, host.Enclave{ID: fmt.Sprintf("e%d", i), Transport: up, Authority: "enclave"})
		if i == 0 {
			s.Enclave = e
		}
	}

	s.at = filepath.Join(o.Dir, "ledger.db")
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return s, err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return s, err
	}
	params := channel.Params{Payee: channel.Address{1}, Client: channel.Address{2}, ClientKey: [32]byte(pub),
		CloseDelay: 3600, ExpiresAt: uint32(o.Now().Add(30 * 24 * time.Hour).Unix())}
	s.Chain = &Chain{channels: map[channel.Address]*host.OnChain{
		params.Address(): {State: channel.State{Params: params, CloseAt: params.ExpiresAt}, Balance: o.Deposit + channel.Reserve, Time: o.Now()},
	}}
	bundle, err := s.Authority.Collateral(attestationtest.CollateralOptions{Now: o.Now()})
	if err != nil {
		return s, err
	}
	s.host = host.Config{Identity: identity, Network: Network, Payee: params.Payee, Prices: Prices, Window: o.Window,
		ClosingDelay: time.Hour, CardLifetime: time.Hour, Collateral: func() []byte { return bundle },
		Epochs:   o.Epochs,
		Claims:   host.Claims{Every: time.Hour, Threshold: 1, Age: time.Hour, Margin: time.Minute},
		Enclaves: enclaves, Chain: s.Chain, Now: o.Now}
	if err = s.startHost("127.0.0.1:0"); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func() { s.hostStop(); s.Host.Close(); s.Ledger.Close() })

	p := s.Authority.Policy(o.Now())
	p.Devices.GPU.MinCount = 1
	if o.EpochAge > 0 {
		p.Epoch = &policy.Epoch{MaxAge: o.EpochAge}
	}
	s.Config = client.Config{Host: s.URL, HostKey: s.Host.Key(), Policy: p, Blocks: o.Blocks,
		Payment:   client.Payment{Network: Network, Channel: params, Key: key, Deposit: o.Deposit},
		MaxPrices: Prices[Model], Window: o.Window, Timeout: o.Timeout, Now: o.Now, Trace: o.Trace}
	if o.Outside != nil {
		s.Config.Base = o.Outside(http.DefaultTransport.(*http.Transport).Clone())
	}
	s.Client, err = client.New(s.Config)
	return s, err
}

func (s *Stack) startHost(addr string) (err error) {
	if s.Ledger, err = ledger.Open(context.Background(), s.at, s.host.Now); err != nil {
		return err
	}
	s.host.Ledger = s.Ledger
	if s.Host, err = host.New(context.Background(), s.host); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.URL = "http://" + l.Addr().String()
	srv := host.NewServer(s.Host)
	srv.ErrorLog = s.errorLog
	s.hostStop = func() { srv.Close() }
	go srv.Serve(corked.Listener(l))
	return nil
}

// KillHost ends the host as a kill does: what its ledger does not hold now is
// lost. RestartHost starts another on the same ledger and address.
func (s *Stack) KillHost() {
	s.Ledger.Close()
	s.hostStop()
}

// RestartHost follows KillHost.
func (s *Stack) RestartHost() error { return s.startHost(strings.TrimPrefix(s.URL, "http://")) }

func (s *Stack) serve(l net.Listener, h http.Handler) io.Closer {
	srv := &http.Server{Handler: corked.Handler(h), ConnContext: corked.ConnContext, ReadHeaderTimeout: 10 * time.Second, ErrorLog: s.errorLog}
	go srv.Serve(corked.Listener(l))
	s.closers = append(s.closers, func() { srv.Close() })
	return srv
}

// Close ends everything, the last started first.
func (s *Stack) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// Chain is a chain of channels alone, in memory.
type Chain struct {
	mu       sync.Mutex
	channels map[channel.Address]*host.OnChain
	Down     bool
	NoWallet bool // cannot close together
	Claims   []channel.SignedVoucher
}

// Channel implements host.Chain.
func (c *Chain) Channel(_ context.Context, a channel.Address) (*host.OnChain, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Down {
		return nil, errors.New("the chain is down")
	}
	on := c.channels[a]
	if on == nil {
		return nil, fmt.Errorf("%s: %w", a, host.ErrNoChannel)
	}
	copy := *on
	return &copy, nil
}

// Claim implements host.Chain.
func (c *Chain) Claim(_ context.Context, v *channel.SignedVoucher) (fee uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on := c.channels[v.Channel]
	if on == nil || v.Verify(on.ClientKey) != nil {
		return 0, os.ErrInvalid
	}
	paid := on.Claimable(on.Balance, v.Total)
	on.Paid += paid
	on.Balance -= paid
	c.Claims = append(c.Claims, *v)
	return 0, nil
}

// CloseTogether implements host.Chain.
func (c *Chain) CloseTogether(_ context.Context, a *channel.SignedAgreement) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.NoWallet {
		return host.ErrNoWallet
	}
	on := c.channels[a.Channel]
	if on == nil || a.Verify(on.ClientKey) != nil || a.Total < on.Paid || a.Total-on.Paid > on.Balance {
		return os.ErrInvalid
	}
	on.Paid, on.Head, on.Balance, on.CloseAt = a.Total, a.Head, 0, uint32(on.Time.Unix())
	return nil
}
