package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

// Card is what a host offers, signed by it.
type Card = card.Card

// Entry is what a registry says of a host: it pins what the host's cards may say.
type Entry = card.Entry

// Chain reads a TON network, with proofs.
type Chain = ton.Chain

// DialChain connects to the TON network that a global.config.json describes. The
// file memory, if any, keeps how far the chain has been proven: without it every
// start on mainnet proves years of key blocks again. Keep it where only this
// program writes; what is wrong with it costs that time, and no error.
func DialChain(ctx context.Context, config []byte, memory string) (*ton.Client, error) {
	return ton.Dial(ctx, config, ton.Options{Memory: memory})
}

// RegistriesOn returns a function for Config.Registries: it reads registries from a chain.
func RegistriesOn(chain Chain) func(context.Context, []policy.Publisher) ([]*policy.Snapshot, error) {
	return func(ctx context.Context, publishers []policy.Publisher) ([]*policy.Snapshot, error) {
		return registry.Snapshots(ctx, chain, publishers)
	}
}

// ListedIn returns a function for Config.Listed: it reads the entry that a registry, an account of the chain, has of a host under
// a name.
func ListedIn(chain Chain, at *address.Address, name string) func(context.Context) (*Entry, error) {
	return func(ctx context.Context) (*Entry, error) {
		r, err := registry.Load(ctx, chain, at)
		if err != nil {
			return nil, err
		}
		rec, err := r.Lookup(registry.Card, name, "", uint32(r.Account.Head.Time.Unix()))
		if err != nil {
			return nil, err
		}
		return card.ParseEntry(rec.Document)
	}
}

// Error is a refusal or failure as the OpenAI API has it. Errors of this package's functions wrap one where they can.
type Error = apierror.Error

// FetchCard asks a host for its card and verifies it under the host's key. Whoever opens a channel needs it: it names the
// payee, the closing delay and the prices. Only Host, Network, HostKey, Listed, Timeout, Base and Now of the configuration are
// used.
func FetchCard(ctx context.Context, cfg Config) (*Card, error) {
	t, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	c, _, fault := t.fetchCard(ctx)
	if fault != nil {
		return nil, fault
	}
	return c, nil
}

func badCard(err error) *apierror.Error {
	return apierror.New(403, "bad_card", "the host's card is refused: "+err.Error(), "check the host key")
}

// CloseTogether is [Transport.Close] where no Transport pays from the channel. Policy, MaxPrices and Window of the
// configuration are not used.
func CloseTogether(ctx context.Context, cfg Config) error {
	t, err := connect(cfg)
	if err != nil {
		return err
	}
	if t.purse, err = newPurse(t, cfg.Payment); err != nil {
		return err
	}
	return t.Close(ctx)
}

// Close asks the host to close the channel at once, as [Transport.Settlement] says, and returns once it says that
// it has: the chain has the last word. It wants no request to be running, and takes none from then on. A host may refuse; the
// client can always close alone. The error is an [*Error].
func (t *Transport) Close(ctx context.Context) error {
	if fault := t.purse.close(); fault != nil {
		return fault
	}
	if fault := t.closeTogether(ctx); fault != nil {
		t.purse.reopen()
		return fault
	}
	return nil
}

func (t *Transport) closeTogether(ctx context.Context) *apierror.Error {
	token, fault := t.purse.openSession(ctx)
	if fault != nil {
		return fault
	}
	a := t.Settlement()
	wire, err := a.MarshalBinary()
	if err != nil {
		return apierror.New(500, "internal", err.Error(), "")
	}
	_, fault = t.call(ctx, http.MethodPost, "/v1/close", wire, "Authorization", "Bearer "+token, "Content-Type", "application/octet-stream")
	return fault
}

// Forgive asks the host what has been spent and takes its word for it: what it says beyond what was delivered no longer counts
// against the limit. It returns how much that was. This is for users who know why answers broke off: a host that lies gets
// another limit by it.
func (t *Transport) Forgive(ctx context.Context) (uint64, error) {
	if fault := t.purse.ask(ctx); fault != nil {
		return 0, fault
	}
	return t.purse.forgive()
}

// Forgive is [Transport.Forgive] where no Transport pays from the channel. Policy, MaxPrices and Window of the configuration
// are not used.
func Forgive(ctx context.Context, cfg Config) (uint64, error) {
	t, err := connect(cfg)
	if err != nil {
		return 0, err
	}
	if t.purse, err = newPurse(t, cfg.Payment); err != nil {
		return 0, err
	}
	return t.Forgive(ctx)
}

// connect is a Transport that can talk to its host, and no more than that.
func connect(cfg Config) (*Transport, error) {
	if strings.HasPrefix(cfg.Host, adnl.Scheme) {
		return overADNL(cfg)
	}
	if err := card.CheckURL(cfg.Host); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if len(cfg.HostKey) != ed25519.PublicKeySize {
		return nil, errors.New("client: host key is missing")
	}
	return newTransport(cfg), nil
}
