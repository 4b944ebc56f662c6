// Package enclave is the program inside the confidential VM: it holds the keys
// that Evidence binds, opens sealed requests, runs them on an engine, meters
// them against the credit that the host reports, and signs a receipt for each
// answer. It holds no money, no wallet and no database, writes no file and
// connects to nothing but its engine.
//
// Everything that reaches it comes through a hostile host: the clock, the
// credit, the sealed requests and the order in which they come. The host can
// stop it; it cannot read, alter or replay what a client sealed.
package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/internal/bhttp"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/price"
)

// Limits of one enclave. Beyond them it refuses; it never forgets.
const (
	maxRequest     = 8 << 20 // bytes of a request's content
	maxStreams     = 4096    // running at once
	maxEvidence    = 1 << 16 // Evidence documents remembered for each generation of keys
	maxCollected   = 2       // Evidence documents being collected at once: a quote and GPU reports cost seconds
	maxGenerations = 64      // of keys alive at once, however many epochs the host names
)

// Config is what an enclave needs. Every field is required but Log.
type Config struct {
	Engine    engine.Engine
	Collector attestation.Collector
	Manifest  []byte     // the model manifest that clients compare with their policy
	Prices    price.List // by model
	Build     [32]byte   // SHA-256 of this executable
	Digest    [32]byte   // SHA-256 of the configuration document

	KeyLifetime time.Duration // of one generation of keys; the next begins at half of it
	Patience    time.Duration // how long a stream waits for credit before it ends
	Window      time.Duration // of the replay guard, around a request's Date
	Now         func() time.Time
	Log         *slog.Logger // sees no content, key or digest of content; nil for silence
}

// An Enclave serves sealed requests. Create one with New.
type Enclave struct {
	cfg    Config
	prices [32]byte
	opener *envelope.Receiver

	mu          sync.Mutex
	generations []*generation // the current one last; an older one while it is valid
	evidence    map[[32]byte]*generation
	collecting  int
	streams     map[streamID]*stream
	ended       endedStreams
	tabs        tabs
	process     string // of the host, that it serves; empty before any said which it is
}

// A generation is one set of keys and what binds them.
type generation struct {
	keys     *envelope.KeyPair
	receipts ed25519.PrivateKey
	encoded  []byte // canonical keyset
	notAfter time.Time
	epoch    *attestation.Epoch // that they were made for; nil when the clock was the reason
	issued   int                // Evidence documents
	users    int                // running streams
}

// New checks the configuration and makes the first keys.
func New(cfg Config) (*Enclave, error) {
	if cfg.Engine == nil || cfg.Collector == nil || cfg.Now == nil || len(cfg.Manifest) == 0 {
		return nil, errors.New("enclave: configuration lacks an engine, a collector, a manifest or a clock")
	}
	if cfg.KeyLifetime < time.Minute || cfg.Patience <= 0 || cfg.Window <= 0 {
		return nil, errors.New("enclave: key lifetime (at least a minute), patience and replay window must be positive")
	}
	digest, err := cfg.Prices.Digest()
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Enclave{cfg: cfg, prices: digest, evidence: map[[32]byte]*generation{}, streams: map[streamID]*stream{}, tabs: tabs{}}
	// Of an enclave that is started again the keys have other numbers: a request
	// that is sealed to one of before names no key, mostly, instead of a wrong one.
	var id [1]byte
	rand.Read(id[:])
	first, err := e.generate(id[0], cfg.Now())
	if err != nil {
		return nil, err
	}
	e.generations = []*generation{first}
	guard := envelope.NewReplayGuard(cfg.Window, 0, cfg.Now)
	if e.opener, err = envelope.NewReceiver(guard, bhttp.Limits{}, first.keys); err != nil {
		return nil, err
	}
	return e, nil
}

// Rotate makes new keys when they are due and forgets those that have expired.
// Serving does so too; call it now and then for an enclave that nobody asks.
func (e *Enclave) Rotate() error {
	_, err := e.current(nil)
	return err
}

// current returns the newest generation. It makes one when the newest is past
// half of its life or was not made for the epoch, if there is one, and drops
// those that have expired.
func (e *Enclave) current(epoch *attestation.Epoch) (*generation, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Now()
	kept := e.generations[:0:0]
	var dropped []*generation
	for _, g := range e.generations {
		if now.Before(g.notAfter) || g.users > 0 {
			kept = append(kept, g)
		} else {
			dropped = append(dropped, g)
		}
	}
	newest := e.generations[len(e.generations)-1]
	due := newest.notAfter.Sub(now) <= e.cfg.KeyLifetime/2
	if epoch != nil && (newest.epoch == nil || *newest.epoch != *epoch) {
		if len(kept) >= maxGenerations {
			return nil, errBusy
		}
		due = true
	}
	if due {
		next, err := e.generate(newest.keys.Config().ID+1, now)
		if err != nil {
			return nil, err
		}
		next.epoch = epoch
		kept, newest = append(kept, next), next
		e.cfg.Log.Info("new keys", "not_after", next.notAfter)
	} else if len(dropped) == 0 {
		return newest, nil
	}
	keys := make([]*envelope.KeyPair, len(kept))
	for i, g := range kept {
		keys[i] = g.keys
	}
	if err := e.opener.SetKeys(keys...); err != nil {
		return nil, err
	}
	e.generations = kept
	for _, old := range dropped {
		for d, g := range e.evidence {
			if g == old {
				delete(e.evidence, d)
			}
		}
		old.keys.Close()
		clear(old.receipts)
	}
	return newest, nil
}

func (e *Enclave) generate(id byte, now time.Time) (*generation, error) {
	keys, err := envelope.GenerateKey(id, envelope.XWing, envelope.AES256GCM, envelope.ChaCha20Poly1305)
	if err != nil {
		return nil, err
	}
	configs, err := envelope.MarshalKeyConfigs([]envelope.KeyConfig{keys.Config()})
	if err != nil {
		return nil, err
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(e.cfg.KeyLifetime).Truncate(time.Second).UTC()
	k := keyset.Keyset{
		KeyConfigs: configs, ReceiptKey: pub, NotAfter: notAfter,
		ModelManifest: sha256.Sum256(e.cfg.Manifest), Build: e.cfg.Build, Config: e.cfg.Digest,
	}
	encoded, err := k.Encode()
	if err != nil {
		return nil, err
	}
	return &generation{keys: keys, receipts: priv, encoded: encoded, notAfter: notAfter}, nil
}

// errBusy means that too many Evidence documents are being collected.
var errBusy = errors.New("enclave: busy collecting evidence")

// Evidence collects an Evidence document for nonce and the current keys.
func (e *Enclave) Evidence(ctx context.Context, nonce [32]byte) ([]byte, error) {
	g, err := e.current(nil)
	if err != nil {
		return nil, err
	}
	return e.collect(ctx, g, nonce)
}

// EpochEvidence collects an Evidence document for an epoch that the host names.
// Its keys are not older than the host's first mention of the epoch; that the
// block exists, and when it was made, is for clients to find out.
func (e *Enclave) EpochEvidence(ctx context.Context, epoch attestation.Epoch) ([]byte, error) {
	g, err := e.current(&epoch)
	if err != nil {
		return nil, err
	}
	return e.collect(ctx, g, epoch.Nonce())
}

func (e *Enclave) collect(ctx context.Context, g *generation, nonce [32]byte) ([]byte, error) {
	e.mu.Lock()
	if e.collecting >= maxCollected || g.issued >= maxEvidence {
		e.mu.Unlock()
		return nil, errBusy
	}
	e.collecting++
	g.issued++
	e.mu.Unlock()
	doc, err := e.cfg.Collector.Collect(ctx, nonce, g.encoded)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.collecting--
	if err != nil {
		g.issued--
		return nil, fmt.Errorf("enclave: collecting evidence: %w", err)
	}
	e.evidence[sha256.Sum256(doc)] = g
	return doc, nil
}

// acquire returns the generation that an Evidence document binds, nil when this
// enclave did not issue it or its keys have expired. The caller releases it.
func (e *Enclave) acquire(evidence [32]byte) *generation {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.evidence[evidence]
	if g == nil || !e.cfg.Now().Before(g.notAfter) {
		return nil
	}
	g.users++
	return g
}

func (e *Enclave) release(g *generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g.users--
}
