// Package launch turns an enclave's configuration document into a running
// enclave: it loads the engine, computes the model manifest from what it
// loaded, and serves the host. The SHA-256 of the document and of the
// executable become part of what Evidence binds.
package launch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/enclave"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/model"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
	"github.com/bombyx-network/bombyx/internal/corked"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// MaxConfig is the longest configuration document in bytes.
const MaxConfig = 1 << 20

// Config is the configuration document, strict JSON. Every member is required
// unless it says optional.
type Config struct {
	Listen       string     `json:"listen"` // vsock:PORT, unix:PATH or tcp:127.0.0.1:PORT
	Engine       Engine     `json:"engine"`
	Prices       price.List `json:"prices"`             // nanogram per million tokens, by model; the host's card must say the same
	KeyLifetime  uint32     `json:"key_lifetime"`       // seconds; new keys begin at half of it
	Patience     uint32     `json:"patience"`           // seconds that an answer waits for credit
	ReplayWindow uint32     `json:"replay_window"`      // seconds around a request's Date
	GPUs         int        `json:"gpus,omitempty"`     // optional: NVIDIA GPUs whose Evidence the node shows, exactly this many; default none
	Switches     int        `json:"switches,omitempty"` // optional: NVSwitches, as gpus
}

// Engine chooses what runs the model.
type Engine struct {
	Kind string `json:"kind"` // "embedded" runs a GGUF file in this process; "openai" drives a server on loopback

	// Embedded.
	File          string `json:"file,omitempty"`           // optional: GGUF file; without one, the small model that Bombyx ships
	ModelID       string `json:"model_id,omitempty"`       // optional: what requests call the model; default: the file's own name
	Threads       int    `json:"threads,omitempty"`        // optional: default all
	ContextLength int    `json:"context_length,omitempty"` // optional: tokens; default the model's own

	// OpenAI-compatible server.
	Address   string           `json:"address,omitempty"`    // http://127.0.0.1:PORT or unix:PATH
	Flavour   string           `json:"flavour,omitempty"`    // vllm, sglang, llamacpp or ollama
	Models    []manifest.Model `json:"models,omitempty"`     // what the server was started with: measured with this document
	MaxTokens int              `json:"max_tokens,omitempty"` // optional: most completion tokens of a request
}

// Parse reads a configuration document.
func Parse(b []byte) (*Config, error) {
	c := new(Config)
	if err := strictjson.Decode(b, MaxConfig, c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// An Enclave is loaded and ready to serve.
type Enclave struct {
	*enclave.Enclave
	Manifest *manifest.Manifest
	closers  []func()
}

// Close ends the engine.
func (e *Enclave) Close() {
	for _, f := range e.closers {
		f()
	}
}

// Load loads what the document says. The document's bytes are measured as they
// are.
func Load(ctx context.Context, document []byte, collector attestation.Collector, log *slog.Logger) (*Enclave, error) {
	c, err := Parse(document)
	if err != nil {
		return nil, err
	}
	build, err := executable()
	if err != nil {
		return nil, err
	}
	out := new(Enclave)
	eng, m, err := c.Engine.load(ctx, out)
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("engine: %w", err)
	}
	doc, err := m.Encode()
	if err != nil {
		out.Close()
		return nil, err
	}
	for _, x := range m.Models {
		if _, ok := c.Prices[x.ID]; !ok {
			out.Close()
			return nil, fmt.Errorf("configuration: model %q has no price", x.ID)
		}
	}
	out.Manifest = m
	out.Enclave, err = enclave.New(enclave.Config{Engine: eng, Collector: collector, Manifest: doc, Prices: c.Prices,
		Build: build, Digest: sha256.Sum256(document), KeyLifetime: seconds(c.KeyLifetime), Patience: seconds(c.Patience),
		Window: seconds(c.ReplayWindow), Now: time.Now, Log: log})
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func (e *Engine) load(ctx context.Context, out *Enclave) (engine.Engine, *manifest.Manifest, error) {
	switch e.Kind {
	case "embedded":
		if e.Address != "" || e.Flavour != "" || e.Models != nil || e.MaxTokens != 0 {
			return nil, nil, errors.New("an embedded engine takes no address, flavour, models or max_tokens")
		}
		return e.loadEmbedded(ctx, out)
	case "openai":
		if e.File != "" || e.ModelID != "" || e.Threads != 0 || e.ContextLength != 0 {
			return nil, nil, errors.New("an openai engine takes no file, model_id, threads or context_length")
		}
		return e.loadOpenAI()
	}
	return nil, nil, fmt.Errorf("unknown kind %q, want embedded or openai", e.Kind)
}

func (e *Engine) loadEmbedded(ctx context.Context, out *Enclave) (engine.Engine, *manifest.Manifest, error) {
	weights := model.GGUF()
	if e.File != "" {
		var err error
		if weights, err = os.ReadFile(e.File); err != nil {
			return nil, nil, err
		}
	}
	eng, err := embedded.New(bytes.NewReader(weights), int64(len(weights)), embedded.Options{ModelID: e.ModelID, Threads: e.Threads, ContextLength: e.ContextLength})
	if err != nil {
		return nil, nil, err
	}
	out.closers = append(out.closers, func() { eng.Close() })
	models, err := eng.Models(ctx)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(weights)
	return eng, &manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: models[0].ID, Format: "gguf",
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(weights)), ContextLength: models[0].ContextLength}}}, nil
}

func (e *Engine) loadOpenAI() (engine.Engine, *manifest.Manifest, error) {
	flavour, err := openai.ParseFlavour(e.Flavour)
	if err != nil {
		return nil, nil, err
	}
	cfg := openai.Config{Address: e.Address, Flavour: flavour, MaxTokens: e.MaxTokens}
	for _, m := range e.Models {
		cfg.Models = append(cfg.Models, engine.Model{ID: m.ID, ContextLength: m.ContextLength, MaxTokens: e.MaxTokens})
	}
	drv, err := openai.New(cfg)
	return drv, &manifest.Manifest{Version: 1, Models: e.Models}, err
}

// executable is the SHA-256 of the running program.
func executable() (d [32]byte, err error) {
	path, err := os.Executable()
	if err != nil {
		return d, err
	}
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return d, err
	}
	h.Sum(d[:0])
	return d, nil
}

// Serve serves the host on l until ctx ends.
func (e *Enclave) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: corked.Handler(e.Handler()), ConnContext: corked.ConnContext, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(corked.Listener(l)) }()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := e.Rotate(); err != nil {
				srv.Close()
				return err
			}
		case err := <-done:
			return err
		case <-ctx.Done():
			grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			srv.Shutdown(grace)
			return srv.Close()
		}
	}
}
