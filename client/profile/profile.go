// Package profile reads the directory in which the command bombyx keeps what is
// a user's: wallet, network, hosts, policy and channels. With it a Go program
// pays from a channel that the command opened:
//
//	dir, err := profile.Default()
//	line, err := dir.Dial(ctx, profile.Options{Passphrase: passphrase})
//	defer line.Close()
//	ai := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: line}), option.WithBaseURL(client.BaseURL), option.WithAPIKey("none"))
//
// One process at a time pays from a channel; a second program takes a second
// channel.
package profile

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/filelock"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
	"github.com/bombyx-network/bombyx/internal/wholefile"
)

// Error is a failure with a hint: what to do about it.
type Error = cli.Error

// Files of a profile.
const (
	WalletFile     = "wallet.age"
	NetworkFile    = "network.json" // TON's global.config.json
	HostsFile      = "hosts.json"
	PolicyFile     = "policy.json"
	CollateralPath = "collateral" // a file or a folder
	StoreFile      = "client.db"
	KeyBlockFile   = "key-block.json" // how far the chain has been proven
)

// Dir is a profile's directory.
type Dir string

// Default is the directory that the command uses unless told otherwise:
// $BOMBYX_HOME, else bombyx in the user's configuration directory.
func Default() (Dir, error) {
	if dir := os.Getenv("BOMBYX_HOME"); dir != "" {
		return Dir(dir), nil
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", cli.Errorf(cli.Usage, "set BOMBYX_HOME, or give --home DIR", "no configuration directory: %w", err)
	}
	return Dir(filepath.Join(base, "bombyx")), nil
}

// Path returns the path of a file in the profile.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name) }

// Has says whether there is such a file, or one that cannot be looked at.
func (d Dir) Has(name string) bool { return Exists(d.Path(name)) }

// Exists says whether there is a file at a path, or one that cannot be looked at.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// A Host is one that the user chose: who it is, and what the user accepts to pay.
type Host struct {
	URL       string        `json:"url"` // https://NAME, http:// on loopback, or adnl:ID
	Key       string        `json:"key"` // Ed25519, 64 hexadecimal digits
	Model     string        `json:"model"`
	MaxPrices client.Prices `json:"max_prices"` // nanogram per million tokens
	Window    uint64        `json:"window"`     // nanogram ahead of delivery

	Registry string `json:"registry,omitempty"` // the registry that must list the host for as long as it is used
	Name     string `json:"name,omitempty"`     // what the registry calls it
}

// hostsDocument is hosts.json.
type hostsDocument struct {
	Version int    `json:"v"`
	Hosts   []Host `json:"hosts"`
}

const (
	hostsVersion = 1
	maxHosts     = 64
)

// Hosts reads the hosts that "bombyx host add" recorded, at least one, in the order in which they are asked.
func (d Dir) Hosts() ([]Host, error) {
	var doc hostsDocument
	path := d.Path(HostsFile)
	if !d.Has(HostsFile) {
		return nil, cli.Errorf(cli.Usage, "bombyx host add URL KEY, or give --host and --host-key", "no host is known")
	}
	if _, err := cli.ReadConfig(path, &doc); err != nil {
		return nil, err
	}
	again := "remove it, and write it anew: bombyx host add URL KEY"
	if doc.Version != hostsVersion {
		return nil, cli.Errorf(cli.Usage, again, "%s: version %d, this program reads %d", path, doc.Version, hostsVersion)
	}
	if len(doc.Hosts) == 0 || len(doc.Hosts) > maxHosts {
		return nil, cli.Errorf(cli.Usage, again, "%s names %d hosts, not 1 to %d", path, len(doc.Hosts), maxHosts)
	}
	seen := map[string]bool{}
	for _, h := range doc.Hosts {
		if h.URL == "" {
			return nil, cli.Errorf(cli.Usage, again, "%s: a host has no URL", path)
		}
		key := strings.ToLower(h.Key)
		if seen[key] {
			return nil, cli.Errorf(cli.Usage, again, "%s names the host of key %.80q twice", path, h.Key)
		}
		seen[key] = true
	}
	return doc.Hosts, nil
}

// ChangeHosts replaces hosts.json in one step by what change makes of it. Without hosts there is no such file afterwards.
func (d Dir) ChangeHosts(change func([]Host) ([]Host, error)) error {
	err := d.changeHosts(change)
	var told *Error
	if err != nil && !errors.As(err, &told) {
		err = cli.Errorf(cli.Usage, "make sure that the home directory can be written, and that the disk is not full", "%w", err)
	}
	return err
}

func (d Dir) changeHosts(change func([]Host) ([]Host, error)) error {
	if err := d.Make(); err != nil {
		return err
	}
	path := d.Path(HostsFile)
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if errors.Is(filelock.Try(lock), filelock.ErrHeld) { // a file system without locks has none
		return cli.Errorf(cli.Usage, "try again", "another bombyx is writing %s", path)
	}
	var hosts []Host
	if d.Has(HostsFile) {
		if hosts, err = d.Hosts(); err != nil {
			return err
		}
	}
	if hosts, err = change(hosts); err != nil {
		return err
	}
	if len(hosts) > maxHosts {
		return cli.Errorf(cli.Usage, "bombyx host remove those that you do not use", "there are %d hosts already", maxHosts)
	}
	if len(hosts) == 0 {
		return os.Remove(path)
	}
	b, err := json.MarshalIndent(hostsDocument{hostsVersion, hosts}, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Write(path, append(b, '\n'), 0o600)
}

// OverADNL says that the host is named by its ADNL id.
func (h *Host) OverADNL() bool { return strings.HasPrefix(h.URL, adnl.Scheme) }

// PublicKey is the host's key. Without one, an ADNL id stands for it: nil.
func (h *Host) PublicKey() (ed25519.PublicKey, error) {
	if h.Key == "" && h.OverADNL() {
		return nil, nil
	}
	b, err := hex.DecodeString(h.Key)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, cli.Errorf(cli.Usage, "ask the provider for its key, or take it from a registry that you trust", "host key %.80q is not 64 hexadecimal digits", h.Key)
	}
	return b, nil
}

// Listed returns what reads the host's entry in the registry that it was taken from; nil for a host that the user pinned.
func (h *Host) Listed(chain func(context.Context) (*ton.Client, error)) func(context.Context) (*client.Entry, error) {
	if h.Registry == "" {
		return nil
	}
	return func(ctx context.Context) (*client.Entry, error) {
		at, err := registry.ParseAddress(h.Registry)
		if err != nil {
			return nil, err
		}
		c, err := chain(ctx)
		if err != nil {
			return nil, err
		}
		return client.ListedIn(c, at, h.Name)(ctx)
	}
}

// Reach is the part of a client's configuration that says where a host is.
func (d Dir) Reach(url string, key ed25519.PublicKey) (cfg client.Config, err error) {
	cfg.Host, cfg.HostKey = url, key
	if strings.HasPrefix(url, adnl.Scheme) {
		cfg.Network, err = d.network()
	}
	return cfg, err
}

// Policy reads the policy of requests: there is no default, because only the user can say which images to trust.
func (d Dir) Policy() (*policy.Policy, error) {
	if !d.Has(PolicyFile) {
		return nil, cli.Errorf(cli.Usage, "put one there: only you can say which guest images and builds you trust; bombyx policy example prints one to start from",
			"%s: no appraisal policy", d.Path(PolicyFile))
	}
	return ReadPolicy(d.Path(PolicyFile))
}

// ReadPolicy reads a policy from a file.
func ReadPolicy(path string) (*policy.Policy, error) {
	b, err := cli.ReadFile(path, policy.MaxDocument)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(b)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, cli.EncodingOr(b, "fix the policy: every member is required, unknown ones are refused"), "%s: %w", path, err)
	}
	return p, nil
}

// Collateral reads the user's own collateral; nil when there is none, so that the host is asked for it.
func (d Dir) Collateral() (*collateral.Bundle, error) {
	if !d.Has(CollateralPath) {
		return nil, nil
	}
	inputs, err := ReadCollateral(d.Path(CollateralPath), func(int, int) {})
	if err != nil {
		return nil, err
	}
	return NewBundle(inputs)
}

const maxCollateralFiles = 10_000

// ReadCollateral reads a file, or every file in a folder that is collateral. Others in a folder are left out; left is told how
// many of how many, where there are any.
func ReadCollateral(path string, left func(n, of int)) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "check the path", "collateral: %w", err)
	}
	if !info.IsDir() {
		b, err := cli.ReadFile(path, collateral.MaxBundle)
		if err != nil {
			return nil, err
		}
		if _, err := collateral.New(b); err != nil {
			return nil, cli.Errorf(cli.Usage, "give TCB info, QE identity, CRL, certificate, RIM, OCSP answer or bundle", "%s: %w", path, err)
		}
		return [][]byte{b}, nil
	}
	var inputs [][]byte
	files, others, size := 0, 0, int64(0)
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, size = files+1, size+info.Size()
		if files > maxCollateralFiles || size > 4*collateral.MaxBundle {
			return fmt.Errorf("more than %d files or %d bytes: is it the right folder?", maxCollateralFiles, 4*collateral.MaxBundle)
		}
		if info.Size() > collateral.MaxBundle {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if _, err := collateral.New(b); err != nil {
			others++
			return nil
		}
		inputs = append(inputs, b)
		return nil
	})
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "check the path and its permissions", "collateral: %w", err)
	}
	if others > 0 {
		left(others, files)
	}
	return inputs, nil
}

// NewBundle is collateral.New.
func NewBundle(inputs [][]byte) (*collateral.Bundle, error) {
	b, err := collateral.New(inputs...)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "remove it", "%w", err)
	}
	return b, nil
}

func (d Dir) network() ([]byte, error) {
	if !d.Has(NetworkFile) {
		return nil, cli.Errorf(cli.Usage, "put the network's global.config.json there (TON's is https://ton.org/global.config.json; bombyx devnet --config writes one)", "%s: no network", d.Path(NetworkFile))
	}
	return cli.ReadFile(d.Path(NetworkFile), 1<<20)
}

// Network reads network.json.
func (d Dir) Network() (raw []byte, c *ton.Config, err error) {
	if raw, err = d.network(); err != nil {
		return nil, nil, err
	}
	if c, err = ton.ParseConfig(raw); err != nil {
		return nil, nil, cli.Errorf(cli.Usage, "put the network's global.config.json there, as TON publishes it", "%s: %w", NetworkFile, err)
	}
	return raw, c, nil
}

// Chain connects to the network that network.json describes. Of the options it sets where to keep how far the chain is proven.
func (d Dir) Chain(ctx context.Context, o ton.Options) (*ton.Client, error) {
	b, _, err := d.Network()
	if err != nil {
		return nil, err
	}
	o.Memory = d.Path(KeyBlockFile)
	c, err := ton.Dial(ctx, b, o)
	if err != nil {
		return nil, cli.Errorf(cli.Unreachable, "check network.json, and whether its liteservers are up", "%w", err)
	}
	return c, nil
}

// Wallet decrypts the wallet. Wipe it.
func (d Dir) Wallet(ctx context.Context, passphrase func(ctx context.Context, file string) (string, error)) (*wallet.Wallet, error) {
	path := d.Path(WalletFile)
	if !d.Has(WalletFile) {
		return nil, cli.Errorf(cli.Usage, "bombyx wallet new, or bombyx wallet import", "%s: no wallet", path)
	}
	pass, err := passphrase(ctx, path)
	if err != nil {
		return nil, err
	}
	w, err := wallet.Load(path, pass)
	switch {
	case errors.Is(err, wallet.ErrPassphrase):
		return nil, cli.Errorf(cli.Usage, "try again; without passphrase only the 24 words bring the wallet back: bombyx wallet import", "%w", err)
	case err != nil:
		return nil, cli.Errorf(cli.Usage, "is the file damaged? put your copy in its place, or bombyx wallet import into another --home", "%w", err)
	}
	return w, nil
}

// Make creates the directory if it is not there.
func (d Dir) Make() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return cli.Errorf(cli.Usage, "choose another --home", "%w", err)
	}
	return nil
}

// Store opens the record of channels and receipts. Close it.
func (d Dir) Store(ctx context.Context) (*store.Store, error) {
	if err := d.Make(); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, d.Path(StoreFile), time.Now)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "make sure that it can be written, and that the disk is not full; if it is damaged, restore it, or move it away: bombyx channel recover finds the channels again", "%w", err)
	}
	return s, nil
}
