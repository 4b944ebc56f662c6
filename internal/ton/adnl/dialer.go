package adnl

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Dialer connects to one host, wherever the DHT says that it is. It is safe for concurrent use.
type Dialer struct {
	Network *Network
	ID      ID

	mu     sync.Mutex
	record *Record
	key    ed25519.PublicKey // of any record so far: an id has one
}

// Key returns the host's key, from its record in the DHT: the one whose hash is the id.
func (d *Dialer) Key(ctx context.Context) (ed25519.PublicKey, error) {
	d.mu.Lock()
	key := d.key
	d.mu.Unlock()
	if key != nil {
		return key, nil
	}
	r, _, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	return r.Key, nil
}

// Dial connects to the first address of the host that answers.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	for {
		r, fresh, err := d.find(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range r.Addrs {
			var c net.Conn
			if c, err = Dial(ctx, a.String(), r.Key); err == nil {
				return c, nil
			}
		}
		if fresh || ctx.Err() != nil {
			return nil, err
		}
		d.forget(r) // the host may have moved
	}
}

// Transport returns an HTTP client's end: every URL leads to this host. URLs are of the form http://...: what encrypts is ADNL.
func (d *Dialer) Transport() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: p, DisableCompression: true, IdleConnTimeout: time.Minute,
		HTTP2:       &http.HTTP2Config{MaxReadFrameSize: maxData}, // or each message carries a quarter of what it could
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx) }}
}

// find returns the host's record, and whether it was looked up for this call.
func (d *Dialer) find(ctx context.Context) (r *Record, fresh bool, err error) {
	d.mu.Lock()
	r = d.record
	d.mu.Unlock()
	if r != nil && time.Now().Before(r.Expires) {
		return r, false, nil
	}
	if r, err = d.Network.Find(ctx, d.ID); err != nil {
		return nil, false, err
	}
	d.mu.Lock()
	d.record, d.key = r, r.Key
	d.mu.Unlock()
	return r, true, nil
}

func (d *Dialer) forget(r *Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.record == r {
		d.record = nil
	}
}
