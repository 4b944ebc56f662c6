package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"strings"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
)

// Card is what a host offers, signed by it.
type Card = card.Card

// Error is a refusal or failure as the OpenAI API has it. Errors of this package's functions wrap one where they can.
type Error = apierror.Error

// FetchCard asks a host for its card and verifies it under the host's key. Whoever opens a channel needs it: it names the
// payee, the closing delay and the prices. Only Host, Network, HostKey, Timeout, Base and Now of the configuration are
// used.
func FetchCard(ctx context.Context, cfg Config) (*Card, error) {
	t, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	b, fault := t.call(ctx, http.MethodGet, "/v1/card", nil)
	if fault != nil {
		return nil, fault
	}
	key, fault := t.hostKey(ctx)
	if fault != nil {
		return nil, fault
	}
	c, err := card.Verify(string(b), key, t.cfg.Now())
	if err != nil {
		return nil, badCard(err)
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

// Close asks the host to close the channel at once, for exactly what the receipts add up to, and returns once it says that
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

// connect is a Transport that can talk to its host, and no more than that.
func connect(cfg Config) (*Transport, error) {
	if strings.HasPrefix(cfg.Host, adnl.Scheme) {
		return overADNL(cfg)
	}
	if err := checkHost(cfg.Host); err != nil {
		return nil, err
	}
	if len(cfg.HostKey) != ed25519.PublicKeySize {
		return nil, errors.New("client: host key is missing")
	}
	return newTransport(cfg), nil
}
