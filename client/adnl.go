package client

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
)

// overADNL is connect for a host that is named by its ADNL id: whoever answers holds the key behind the id.
func overADNL(cfg Config) (*Transport, error) {
	id, err := adnl.ParseID(cfg.Host)
	if err != nil {
		return nil, fmt.Errorf("client: host: %w", err)
	}
	network, err := adnl.ParseNetwork(cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	switch {
	case cfg.Base != nil:
		return nil, errors.New("client: Base carries nothing to an ADNL host")
	case cfg.HostKey != nil && adnl.IDOf(cfg.HostKey) != id:
		return nil, fmt.Errorf("client: the host key is not the one of %s", id)
	}
	d := &adnl.Dialer{Network: network, ID: id}
	cfg.Base, cfg.Host = d.Transport(), "http://"+hex.EncodeToString(id[:])
	t := newTransport(cfg)
	t.adnl = d
	return t, nil
}

// hostKey is the key that the user pinned, or the one whose hash is the ADNL id that the user pinned.
func (t *Transport) hostKey(ctx context.Context) (ed25519.PublicKey, *apierror.Error) {
	if t.cfg.HostKey != nil {
		return t.cfg.HostKey, nil
	}
	key, err := t.adnl.Key(ctx)
	if err != nil {
		return nil, t.unreachable(ctx, err)
	}
	return key, nil
}
