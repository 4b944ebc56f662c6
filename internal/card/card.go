// Package card defines the host's card: what a provider offers, signed by its
// identity key (docs/protocol.md, "Card"). A client pins that key; prices and
// the payee come from nowhere else.
package card

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/internal/jws"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// MaxSize of a card's compact serialization in bytes.
const MaxSize = 64 << 10

// MaxEnclaves on one card.
const MaxEnclaves = 256

// A Card is what a host offers.
type Card struct {
	Version      int        `json:"v"`
	Host         string     `json:"host"`          // identity key, Ed25519, 64 hexadecimal digits
	Network      int32      `json:"network"`       // TON global id: -239 mainnet, -3 testnet
	Payee        string     `json:"payee"`         // TON address, raw form
	ChannelCode  string     `json:"channel_code"`  // hash of the channel contract's code, 64 hexadecimal digits
	ClosingDelay uint32     `json:"closing_delay"` // seconds that a channel must give the host to claim
	MinDeposit   uint64     `json:"min_deposit"`   // nanogram
	Window       uint64     `json:"window"`        // nanogram of credit ahead of delivery that serves well
	Prices       price.List `json:"prices"`        // nanogram per million tokens, by model
	Enclaves     []Enclave  `json:"enclaves"`
	NotBefore    int64      `json:"not_before"` // Unix seconds
	NotAfter     int64      `json:"not_after"`  // Unix seconds
}

// An Enclave serves models behind a host.
type Enclave struct {
	ID       string         `json:"id"` // names the enclave in the host's paths: 1 to 64 of a-z 0-9 -
	Models   []string       `json:"models"`
	Manifest receipt.Digest `json:"manifest"` // of the model manifest
}

// Key returns the host's identity key.
func (c *Card) Key() ed25519.PublicKey {
	b, err := hex.DecodeString(c.Host)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil
	}
	return b
}

// Serving returns the enclaves that serve the model.
func (c *Card) Serving(model string) (all []*Enclave) {
	for i := range c.Enclaves {
		if e := &c.Enclaves[i]; slices.Contains(e.Models, model) {
			all = append(all, e)
		}
	}
	return all
}

func (c *Card) check() error {
	if c.Version != 1 {
		return fmt.Errorf("card: version %d, want 1", c.Version)
	}
	if c.Key() == nil {
		return errors.New("card: host key is not 64 hexadecimal digits")
	}
	if b, err := hex.DecodeString(c.ChannelCode); err != nil || len(b) != 32 {
		return errors.New("card: channel code hash is not 64 hexadecimal digits")
	}
	if c.Payee == "" || len(c.Payee) > 100 {
		return errors.New("card: payee is malformed")
	}
	if c.NotAfter <= c.NotBefore {
		return errors.New("card: validity is empty")
	}
	if err := c.Prices.Check(); err != nil {
		return fmt.Errorf("card: %w", err)
	}
	if len(c.Enclaves) == 0 || len(c.Enclaves) > MaxEnclaves {
		return fmt.Errorf("card: %d enclaves, want 1 to %d", len(c.Enclaves), MaxEnclaves)
	}
	seen := map[string]bool{}
	for _, e := range c.Enclaves {
		if !ValidID(e.ID) || seen[e.ID] {
			return fmt.Errorf("card: enclave id %q is malformed or repeated", e.ID)
		}
		seen[e.ID] = true
		if len(e.Models) == 0 {
			return fmt.Errorf("card: enclave %s serves no model", e.ID)
		}
		for _, m := range e.Models {
			if _, ok := c.Prices[m]; !ok {
				return fmt.Errorf("card: model %q has no price", m)
			}
		}
	}
	return nil
}

// ValidID reports whether s can be an enclave's id: 1 to 64 of a-z, 0-9 and -.
func ValidID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}

// Sign returns the card's compact serialization. The key must be the one that
// the card names.
func Sign(c *Card, key ed25519.PrivateKey) (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	if !c.Key().Equal(key.Public()) {
		return "", errors.New("card: signing key is not the card's host key")
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return jws.Sign(jws.Card, key, b), nil
}

// Verify checks a serialized card under the pinned host key at now.
func Verify(s string, key ed25519.PublicKey, now time.Time) (*Card, error) {
	if len(s) > MaxSize {
		return nil, fmt.Errorf("card: %d bytes, limit %d", len(s), MaxSize)
	}
	b, err := jws.Verify(jws.Card, key, s)
	if err != nil {
		return nil, fmt.Errorf("card: %w", err)
	}
	c := new(Card)
	if err := strictjson.Decode(b, MaxSize, c); err != nil {
		return nil, fmt.Errorf("card: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if !c.Key().Equal(key) {
		return nil, errors.New("card: names another host key than the one that signed it")
	}
	if t := now.Unix(); t < c.NotBefore || t >= c.NotAfter {
		return nil, fmt.Errorf("card: valid from %s to %s, and it is %s",
			time.Unix(c.NotBefore, 0).UTC().Format(time.RFC3339), time.Unix(c.NotAfter, 0).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return c, nil
}
