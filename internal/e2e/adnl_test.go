package e2e

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

// overADNL publishes a stack's host in a DHT of its own, under key, and turns the stack's client to it by nothing but the id.
func (s *Stack) overADNL(t *testing.T, key ed25519.PrivateKey) {
	t.Helper()
	chain, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	if _, err := chain.ServeDHT(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := host.NewServer(s.Host)
	go srv.Serve(adnl.Listen(l, key))
	t.Cleanup(func() { srv.Close() })
	s.Config.Network = chain.GlobalConfig()
	network, err := adnl.ParseNetwork(s.Config.Network)
	if err != nil {
		t.Fatal(err)
	}
	if err := network.Publish(t.Context(), key, l.Addr().(*net.TCPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	s.Config.Host, s.Config.HostKey = adnl.IDOf(key.Public().(ed25519.PublicKey)).String(), nil
	if s.Client, err = client.New(s.Config); err != nil {
		t.Fatal(err)
	}
}

func TestADNL(t *testing.T) {
	e := &Script{Chunks: 50, Size: 128}
	s := start(t, Options{Engine: e})
	s.overADNL(t, s.host.Identity)
	card, err := client.FetchCard(t.Context(), s.Config)
	if err != nil || !card.Key().Equal(s.Host.Key()) {
		t.Fatalf("%+v, %v", card, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := post(s, streaming)
			if err != nil {
				t.Error(err)
				return
			}
			if body, err := read(t, resp); err != nil || strings.Count(body, "data: {") != 50 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
	wg.Wait()
	s.Host.Close()
	if st, row := s.Client.State(), s.row(t); st.Settled != 8*510 || row.Spent != st.Settled || row.Authorised < row.Spent {
		t.Errorf("%+v, %+v", st, row)
	}
	if err := s.Client.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A request that its caller gives up ends at the engine, and the connection serves on.
func TestCancelOverADNL(t *testing.T) {
	e := &Script{Chunks: 50, Size: 8, Step: make(chan struct{})}
	s := start(t, Options{Engine: e})
	s.overADNL(t, s.host.Identity)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range 3 {
			e.Step <- struct{}{}
		}
	}()
	req, _ := http.NewRequestWithContext(ctx, "POST", client.BaseURL+"/chat/completions", strings.NewReader(streaming))
	resp, err := s.Client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Fatal("a cancelled answer ended well")
	}
	resp.Body.Close()
	waitFor(t, "the engine to stop", func() bool { return e.Closed.Load() == 1 })
	if _, err := client.FetchCard(t.Context(), s.Config); err != nil {
		t.Fatal(err)
	}
}

// Whoever answers must hold the key behind the id, and the card must be signed with it.
func TestADNLRefusals(t *testing.T) {
	s := start(t, Options{Engine: &Script{Chunks: 1}})
	right := s.Config
	other := ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32)))
	s.overADNL(t, other) // the card of a host whose identity is another
	code := func(err error) string {
		var f *client.Error
		if errors.As(err, &f) {
			return f.Code
		}
		return ""
	}
	_, err := client.FetchCard(t.Context(), s.Config)
	if code(err) != "bad_card" {
		t.Errorf("another's card: %v", err)
	}
	if err := s.Client.Attest(t.Context(), Model); code(err) != "bad_card" {
		t.Errorf("another's card: %v", err)
	}
	cfg := s.Config
	cfg.Host = adnl.ID{}.String()
	if _, err = client.FetchCard(t.Context(), cfg); code(err) != "host_unreachable" || !strings.Contains(err.Error(), adnl.ErrNotFound.Error()) {
		t.Errorf("an unknown id: %v", err)
	}
	cfg = s.Config
	for name, spoil := range map[string]func(*client.Config){
		"another key":  func(c *client.Config) { c.HostKey = right.HostKey },
		"no network":   func(c *client.Config) { c.Network = nil },
		"a base":       func(c *client.Config) { c.Base = http.DefaultTransport },
		"no id":        func(c *client.Config) { c.Host = "adnl:" },
		"a URL":        func(c *client.Config) { c.Host = "adnl://" + c.Host[5:] },
		"upper case":   func(c *client.Config) { c.Host = "adnl:" + strings.ToUpper(c.Host[5:]) },
		"short":        func(c *client.Config) { c.Host = c.Host[:68] },
		"another name": func(c *client.Config) { c.Host = "ADNL:" + c.Host[5:] },
	} {
		c := cfg
		spoil(&c)
		if _, err := client.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg.HostKey = other.Public().(ed25519.PublicKey) // right, if superfluous
	if _, err := client.New(cfg); err != nil {
		t.Error(err)
	}
}
