package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

// proven is the chain of network.json for what a session looks up on the way, connected to when first needed.
type proven struct {
	mu    sync.Mutex
	chain *ton.Client
}

func (h *home) proven(ctx context.Context) (*ton.Client, error) {
	p := &h.lookups
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chain == nil {
		c, err := h.chain(ctx)
		if err != nil {
			return nil, err
		}
		p.chain = c
	}
	return p.chain, nil
}

func (p *proven) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chain != nil {
		p.chain.Close()
		p.chain = nil
	}
}

// blocks proves blocks of the channel's network.
type blocks struct {
	home    *home
	network int32
}

// MasterchainBlock implements client.Blocks.
func (b blocks) MasterchainBlock(ctx context.Context, seqno uint32) (ton.Head, error) {
	c, err := b.home.proven(ctx)
	if err != nil {
		return ton.Head{}, err
	}
	if c.GlobalID() != b.network {
		return ton.Head{}, fmt.Errorf("%s is of network %d, the channel of %d", networkFile, c.GlobalID(), b.network)
	}
	return c.MasterchainBlock(ctx, seqno)
}

// registries reads the registries that a policy names.
func (h *home) registries(ctx context.Context, publishers []policy.Publisher) ([]*policy.Snapshot, error) {
	c, err := h.proven(ctx)
	if err != nil {
		return nil, err
	}
	return registry.Snapshots(ctx, c, publishers)
}

// listed returns what reads the host's entry in the registry that it was taken from; nil for a host that the user pinned.
func (c *hostConfig) listed(h *home) func(context.Context) (*client.Entry, error) {
	if c.Registry == "" {
		return nil
	}
	return func(ctx context.Context) (*client.Entry, error) {
		at, err := registryAddress(c.Registry)
		if err != nil {
			return nil, err
		}
		return h.entry(ctx, at, c.Name)
	}
}

func (h *home) entry(ctx context.Context, at *address.Address, name string) (*client.Entry, error) {
	chain, err := h.proven(ctx)
	if err != nil {
		return nil, err
	}
	return client.ListedIn(chain, at, name)(ctx)
}

// fromRegistry finds a host by its name in a registry. Of its endpoints it takes the first that answers with a card that the
// entry allows.
func (h *home) fromRegistry(ctx context.Context, where, name string) (*hostConfig, *client.Card, error) {
	at, err := registryAddress(where)
	if err != nil {
		return nil, nil, err
	}
	e, err := h.entry(ctx, at, name)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, nil, cli.Errorf(cli.Refused, "bombyx registry show lists what is in force", "the registry vouches for no host %.80q now: %w", name, err)
	case errors.Is(err, registry.ErrNotRegistry):
		return nil, nil, cli.Errorf(cli.Refused, "check the address", "%w", err)
	case errors.Is(err, ton.ErrUnreachable):
		return nil, nil, chainFault(err)
	case err != nil:
		return nil, nil, err
	}
	var failures error
	for _, url := range e.Endpoints {
		c := &hostConfig{Version: 1, URL: url, Key: e.Host, Registry: at.String(), Name: name}
		card, err := h.fetchCard(ctx, c, e.Key())
		if err == nil {
			return c, card, nil
		}
		failures = errors.Join(failures, fmt.Errorf("%s: %w", url, err))
		var f *cli.Error
		if errors.As(err, &f) && f.Code == cli.Refused {
			return nil, nil, failures // it answered, and lied
		}
	}
	return nil, nil, cli.Errorf(cli.Unreachable, "try again later, or take another host", "no endpoint of %q answers: %w", name, failures)
}
