package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

func (h *home) entry(ctx context.Context, at *address.Address, name string) (*client.Entry, error) {
	chain, err := h.proven(ctx)
	if err != nil {
		return nil, err
	}
	return client.ListedIn(chain, at, name)(ctx)
}

// fromRegistry finds a host by its name in a registry. Of its endpoints it takes the first that answers with a card that the
// entry allows.
func (h *home) fromRegistry(ctx context.Context, where, name string) (*profile.Host, *client.Card, error) {
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
		c := &profile.Host{URL: url, Key: e.Host, Registry: at.String(), Name: name}
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
