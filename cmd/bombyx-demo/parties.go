package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/model"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// Amounts of the demo, in nanogram. A completion token costs 0.0001 GRAM.
const (
	clientFunds = 3_000_000_000
	hostFunds   = 1_000_000_000
	deposit     = 1_000_000_000
	window      = 2_000_000 // twenty tokens ahead
)

var modelPrices = price.Prices{Prompt: 20_000_000_000, Cached: 2_000_000_000, Completion: 100_000_000_000, Reasoning: 100_000_000_000}

const closeDelay = channel.MinCloseDelay

// modelContext is the context of the model that ships with Bombyx, in tokens.
const modelContext = 1024

// parties is what the demo's client knows of the others.
type parties struct {
	control   string // devnet's
	config    []byte // global.config.json
	chain     *ton.Client
	authority *attestationtest.Authority
	node      attestationtest.NodeConfig
	bundle    *collateral.Bundle
	policy    *policy.Policy
	model     string
	hostURL   string
	hostKey   ed25519.PublicKey

	client, host *wallet.Wallet
	channel      channel.Params
	key          ed25519.PrivateKey
	opened       *books
	transport    *client.Transport
	wire         *wiretap
}

func (d *demo) startAll(ctx context.Context) error {
	d.out.title("The parties, each a process of its own")
	p := &d.parties
	netFile := filepath.Join(d.dir, "global.config.json")
	dev, err := d.start(ctx, "TON network", "bombyx", "devnet", "--config", netFile, "--block-time", "200ms")
	if err != nil {
		return err
	}
	line, err := dev.line(ctx)
	if err != nil {
		return err
	}
	var dn struct {
		Control     string
		Liteservers []string
	}
	if err := json.Unmarshal([]byte(line), &dn); err != nil || len(dn.Liteservers) == 0 {
		return unexpected("devnet", fmt.Errorf("it said %q: %v", line, err))
	}
	p.control = dn.Control
	if p.config, err = os.ReadFile(netFile); err != nil {
		return err
	}
	if p.chain, err = ton.Dial(ctx, p.config, ton.Options{Resend: time.Second}); err != nil {
		return unexpected("chain", err)
	}
	d.out.pass("TON network  pid %-7d liteserver %s, global id %d, proofs checked", dev.cmd.Process.Pid, dn.Liteservers[0], p.chain.GlobalID())

	// Authorities for this run alone: their seed is random and nothing else
	// trusts them.
	seed := make([]byte, 16)
	rand.Read(seed)
	p.authority = attestationtest.New(hex.EncodeToString(seed))
	p.node = attestationtest.NodeConfig{Name: "node-a", GPUs: 1}
	prices := price.List{}
	if p.model, err = d.writeEnclaveConfig(prices); err != nil {
		return err
	}
	m, err := json.Marshal(machine{p.authority.Seed(), p.node})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "machine.json"), m, 0o600); err != nil {
		return err
	}
	enc, err := d.start(ctx, "enclave", "bombyx-demo", "enclave", "--config", filepath.Join(d.dir, "enclave.json"), "--machine", filepath.Join(d.dir, "machine.json"))
	if err != nil {
		return err
	}
	if line, err = enc.line(ctx); err != nil {
		return err
	}
	d.out.pass("enclave      pid %-7d %s", enc.cmd.Process.Pid, strings.ReplaceAll(line, d.dir+"/", ""))

	if p.client, err = wallet.New(p.chain.GlobalID()); err != nil {
		return err
	}
	if p.host, err = wallet.New(p.chain.GlobalID()); err != nil {
		return err
	}
	for _, w := range []struct {
		w    *wallet.Wallet
		nano uint64
	}{{p.client, clientFunds}, {p.host, hostFunds}} {
		if err := d.fund(ctx, w.w.Address(), w.nano); err != nil {
			return err
		}
	}
	hostLine, pid, err := d.startHost(ctx, prices)
	if err != nil {
		return err
	}
	f := strings.Fields(hostLine) // "host KEY serves on ADDRESS"
	if len(f) != 5 {
		return unexpected("host", fmt.Errorf("it said %q", hostLine))
	}
	key, err := hex.DecodeString(f[1])
	if err != nil {
		return unexpected("host", err)
	}
	p.hostKey, p.hostURL = key, "http://"+f[4]
	d.out.pass("host         pid %-7d %s, key %s…", pid, p.hostURL, f[1][:16])
	d.out.pass("client       pid %-7d this program", os.Getpid())

	bundle, err := p.authority.Collateral(attestationtest.CollateralOptions{Now: time.Now()})
	if err != nil {
		return err
	}
	if p.bundle, err = collateral.Parse(bundle); err != nil {
		return err
	}
	p.policy = p.authority.Policy(time.Now())
	p.policy.Devices.GPU.MinCount, p.policy.Devices.GPU.MaxCount = 1, 1
	p.policy.Devices.Modes = []string{"single-gpu"}
	p.policy.Devices.Switch = nil
	return d.pinWorkload()
}

// pinWorkload allows exactly the program, the configuration and the model that
// this demo published, as a user's policy names what a publisher released.
func (d *demo) pinWorkload() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(d.dir, "enclave.json"))
	if err != nil {
		return err
	}
	m := manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: d.parties.model, Format: "gguf", SHA256: model.SHA256,
		Size: int64(len(model.GGUF())), ContextLength: modelContext}}}
	doc, err := m.Encode()
	if err != nil {
		return err
	}
	only := func(name string, content []byte) policy.Allowed {
		return policy.Allowed{Allow: []policy.Named{{Name: name, Digest: sha256.Sum256(content), Reason: "published by this demo"}}}
	}
	w := &d.parties.policy.Workload
	w.Builds, w.Configs, w.Models = only("bombyx-demo", program), only("enclave.json", config), only(d.parties.model, doc)
	return nil
}

// writeEnclaveConfig writes the document that the enclave measures.
func (d *demo) writeEnclaveConfig(prices price.List) (string, error) {
	const id = "bombyx-tiny"
	prices[id] = modelPrices
	b, err := json.MarshalIndent(map[string]any{
		"listen": "unix:" + filepath.Join(d.dir, "enclave.sock"),
		"engine": map[string]any{"kind": "embedded", "model_id": id, "threads": 1},
		"prices": prices, "key_lifetime": 3600, "patience": 20, "replay_window": 120}, "", "  ")
	if err != nil {
		return "", err
	}
	return id, os.WriteFile(filepath.Join(d.dir, "enclave.json"), b, 0o600)
}

func (d *demo) startHost(ctx context.Context, prices price.List) (string, int, error) {
	p := &d.parties
	at := func(name string) string { return filepath.Join(d.dir, name) }
	pass := make([]byte, 16)
	rand.Read(pass)
	phrase := hex.EncodeToString(pass)
	if err := os.WriteFile(at("passphrase"), []byte(phrase), 0o600); err != nil {
		return "", 0, err
	}
	if err := p.host.Save(at("host-wallet.age"), phrase); err != nil {
		return "", 0, err
	}
	bundle, err := p.authority.Collateral(attestationtest.CollateralOptions{Now: time.Now()})
	if err != nil {
		return "", 0, err
	}
	if err := os.WriteFile(at("collateral.json"), bundle, 0o600); err != nil {
		return "", 0, err
	}
	b, err := json.MarshalIndent(map[string]any{
		"listen": "127.0.0.1:0", "identity": "identity", "network": "global.config.json", "global_id": p.chain.GlobalID(),
		"payee": p.host.Address().String(), "wallet": "host-wallet.age", "passphrase": "passphrase",
		"prices": prices, "window": window, "min_deposit": 100_000_000, "closing_delay": closeDelay, "card_lifetime": 3600,
		"ledger": "ledger.db", "collateral": "collateral.json",
		"claims":   map[string]any{"every": 1, "threshold": 1_000_000, "age": 3600, "margin": closeDelay / 2},
		"enclaves": []any{map[string]any{"id": "a", "address": "unix:" + at("enclave.sock")}},
	}, "", "  ")
	if err != nil {
		return "", 0, err
	}
	if err := os.WriteFile(at("host.json"), b, 0o600); err != nil {
		return "", 0, err
	}
	init, err := d.start(ctx, "host init", "bombyx-host", "init", at("identity"))
	if err != nil {
		return "", 0, err
	}
	if _, err := init.line(ctx); err != nil {
		return "", 0, err
	}
	h, err := d.start(ctx, "host", "bombyx-host", "serve", "--config", at("host.json"))
	if err != nil {
		return "", 0, err
	}
	line, err := h.line(ctx)
	return line, h.cmd.Process.Pid, err
}

// fund asks the devnet's faucet.
func (d *demo) fund(ctx context.Context, a *address.Address, nano uint64) error {
	return d.devnet(ctx, "/fund", map[string]any{"address": a.String(), "amount": ton.Nano(nano).String()})
}

func (d *demo) devnet(ctx context.Context, path string, body map[string]any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.parties.control+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("devnet answers %s to %s", resp.Status, path)
	}
	return nil
}
