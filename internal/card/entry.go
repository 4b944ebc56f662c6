package card

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/strictjson"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
)

// MaxEntry is the longest entry, in bytes: what a registry's record holds.
const MaxEntry = 7620

// An Entry is what a registry says of a host (docs/protocol.md, "Host entry"). It outlives many cards and pins what they may
// say: the key that signs them, the payee, and the highest prices.
type Entry struct {
	Version   int        `json:"v"`         // 1
	Host      string     `json:"host"`      // identity key, Ed25519, 64 hexadecimal digits
	ADNL      string     `json:"adnl"`      // the key's ADNL id, 64 hexadecimal digits: its SHA-256 as TL pub.ed25519
	Endpoints []string   `json:"endpoints"` // where it is reached, in order of preference: https://..., adnl:...
	Network   int32      `json:"network"`   // TON global id
	Payee     string     `json:"payee"`     // TON address, raw form
	Prices    price.List `json:"prices"`    // the most that it may ask, nanogram per million tokens, by model
}

// maxEndpoints of one entry, and their longest.
const (
	maxEndpoints = 16
	maxEndpoint  = 256 // bytes
)

// Key returns the host's identity key.
func (e *Entry) Key() ed25519.PublicKey { return (&Card{Host: e.Host}).Key() }

// Encode returns the document.
func (e *Entry) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(e)
	if err == nil && len(b) > MaxEntry {
		err = fmt.Errorf("card: entry of %d bytes, at most %d: list fewer models or endpoints", len(b), MaxEntry)
	}
	return b, err
}

// ParseEntry reads the document.
func ParseEntry(b []byte) (*Entry, error) {
	e := new(Entry)
	if err := strictjson.Decode(b, MaxEntry, e); err != nil {
		return nil, fmt.Errorf("card: entry: %w", err)
	}
	return e, e.check()
}

func (e *Entry) check() error {
	key := e.Key()
	switch {
	case e.Version != 1:
		return fmt.Errorf("card: entry: version %d, want 1", e.Version)
	case key == nil:
		return errors.New("card: entry: host key is not 64 hexadecimal digits")
	case adnl.Scheme+e.ADNL != adnl.IDOf(key).String():
		return errors.New("card: entry: adnl is not the host key's ADNL id")
	case e.Payee == "" || len(e.Payee) > 100:
		return errors.New("card: entry: payee is malformed")
	case len(e.Endpoints) == 0 || len(e.Endpoints) > maxEndpoints:
		return fmt.Errorf("card: entry: %d endpoints, want 1 to %d", len(e.Endpoints), maxEndpoints)
	}
	for _, p := range e.Endpoints {
		if len(p) > maxEndpoint || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f }) ||
			!strings.HasPrefix(p, adnl.Scheme) && CheckURL(p) != nil {
			return fmt.Errorf("card: entry: endpoint %.80q: want a URL of https, of http on loopback, or an adnl: id", p)
		}
		if strings.HasPrefix(p, adnl.Scheme) && p != adnl.IDOf(key).String() {
			return fmt.Errorf("card: entry: endpoint %.80q is not the host key's ADNL id", p)
		}
	}
	if err := e.Prices.Check(); err != nil {
		return fmt.Errorf("card: entry: %w", err)
	}
	return nil
}

// ErrNotListed says that a card contradicts the host's entry in a registry.
var ErrNotListed = errors.New("card: the registry says otherwise")

// Allows refuses a card of another host, network or payee than the entry's, and one that asks more for a model that is in both. A
// model that the entry does not list is none of the entry's.
func (e *Entry) Allows(c *Card) error {
	switch {
	case !e.Key().Equal(c.Key()):
		return fmt.Errorf("%w: another host key", ErrNotListed)
	case e.Network != c.Network:
		return fmt.Errorf("%w: network %d, the card says %d", ErrNotListed, e.Network, c.Network)
	case e.Payee != c.Payee:
		return fmt.Errorf("%w: payee %s, the card says %.100q", ErrNotListed, e.Payee, c.Payee)
	}
	for model, most := range e.Prices {
		if p, ok := c.Prices[model]; ok && !p.AtMost(most) {
			return fmt.Errorf("%w: %q costs at most %+v, the card asks %+v", ErrNotListed, model, most, p)
		}
	}
	return nil
}

// CheckURL says why clients do not speak to a host at a URL: it is not of https, nor, on loopback, of http.
func CheckURL(host string) error {
	u, err := url.Parse(host)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return errors.New("host is not an http or https URL")
	}
	if u.Scheme == "http" && !Loopback(u.Hostname()) {
		return errors.New("plain http is for loopback addresses only; use https")
	}
	return nil
}

// Loopback reports whether a name or IP address is this machine's own.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
