package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/netutil"

	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/corked"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
)

// An entrance is where clients come in.
type entrance struct {
	net.Listener
	name  string
	serve func(*http.Server) error
	// announce tells the world where it is until ctx ends; nil when there is nothing to tell.
	announce func(ctx context.Context, log *slog.Logger)
}

// entrances listens as the configuration says.
func entrances(c *config, dir string, key ed25519.PublicKey) (all []entrance, err error) {
	defer func() {
		if err != nil {
			shut(all)
		}
	}()
	if c.Listen == "" && c.ADNL.Listen == "" {
		return nil, cli.Errorf(cli.Usage, "set listen, adnl.listen, or both", "there is no address to listen on")
	}
	cert, certKey := in(dir, c.TLSCert), in(dir, c.TLSKey)
	if cert != "" || certKey != "" {
		if _, err := tls.LoadX509KeyPair(cert, certKey); err != nil {
			return nil, cli.Errorf(cli.Usage, "give PEM files of a certificate chain and its key", "tls_cert and tls_key: %w", err)
		}
	}
	if c.Listen != "" {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return all, cli.Errorf(cli.Usage, "choose another address", "listen: %w", err)
		}
		e := entrance{Listener: l, name: fmt.Sprintf("%x serves on %s", key, l.Addr()), serve: func(s *http.Server) error {
			return s.ServeTLS(netutil.LimitListener(l, adnl.MaxConns), cert, certKey) // strangers must not use up the files that the ledger needs
		}}
		if c.TLSCert == "" {
			e.serve = func(s *http.Server) error { return s.Serve(corked.Listener(l)) }
		}
		all = append(all, e)
		if c.TLSCert == "" && !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			return all, cli.Errorf(cli.Usage, "set tls_cert and tls_key, or listen on 127.0.0.1 behind a proxy", "%s is not a loopback address", c.Listen)
		}
	}
	if c.ADNL.Listen != "" {
		e, err := overADNL(c, dir)
		if err != nil {
			return all, err
		}
		all = append(all, *e)
	}
	return all, nil
}

// monitorListener listens where the provider looks at the host, nil for nowhere.
func monitorListener(c *config, dir string) (net.Listener, error) {
	if c.Monitor == "" {
		return nil, nil
	}
	const hint = "use tcp:127.0.0.1:PORT or unix:PATH; from elsewhere through a tunnel, such as ssh -L"
	if strings.HasPrefix(c.Monitor, "vsock:") {
		return nil, cli.Errorf(cli.Usage, hint, "monitor: guests reach %s", c.Monitor)
	}
	at, err := cli.ParseAddr(c.Monitor)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, hint, "monitor: %w", err)
	}
	l, err := at.In(dir).Listen()
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "choose another address", "monitor: %w", err)
	}
	return l, nil
}

func shut(all []entrance) {
	for _, e := range all {
		e.Close()
	}
}

func overADNL(c *config, dir string) (*entrance, error) {
	key, err := readIdentity(in(dir, c.Identity))
	if err != nil {
		return nil, err
	}
	raw, err := cli.ReadFile(in(dir, c.Network), 1<<20)
	if err != nil {
		return nil, err
	}
	network, err := adnl.ParseNetwork(raw)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "clients find the host in the network's DHT", "%w", err)
	}
	l, err := net.Listen("tcp", c.ADNL.Listen)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "choose another address", "adnl.listen: %w", err)
	}
	public := l.Addr().(*net.TCPAddr).AddrPort()
	if c.ADNL.Address != "" {
		public, err = netip.ParseAddrPort(c.ADNL.Address)
	}
	if err == nil {
		err = adnl.CheckAddr(public)
	}
	if err != nil {
		l.Close()
		return nil, cli.Errorf(cli.Usage, "set adnl.address to the IP address and port at which clients reach this host", "adnl.address: %w", err)
	}
	id := adnl.IDOf(key.Public().(ed25519.PublicKey))
	al := adnl.Listen(l, key)
	return &entrance{Listener: al, name: fmt.Sprintf("%s serves on %s, published as %s", id, l.Addr(), public), serve: func(s *http.Server) error { return s.Serve(corked.Listener(al)) },
		announce: func(ctx context.Context, log *slog.Logger) { network.Announce(ctx, log, key, public) }}, nil
}
