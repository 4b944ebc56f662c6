package profile

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/store"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

const (
	passphrase = "correct horse battery"
	hostURL    = "https://host.example"
)

var hostKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)

// whole makes a copy of a profile that can be dialled: everything but the host is real.
func whole(t *testing.T) Dir {
	t.Helper()
	d := Dir(filepath.Join(t.TempDir(), "profile"))
	check(t, os.CopyFS(string(d), os.DirFS(string(template(t)))))
	check(t, os.Chmod(d.Path(WalletFile), 0o600))
	return d
}

var made Dir

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(string(made))
	os.Exit(code)
}

func template(t *testing.T) Dir {
	t.Helper()
	if made != "" {
		return made
	}
	dir, err := os.MkdirTemp("", "profile")
	check(t, err)
	d := Dir(dir)
	a := attestationtest.New("profile")
	policy, err := a.Policy(time.Now()).Encode()
	check(t, err)
	write(t, d, PolicyFile, string(policy))
	bundle, err := a.Collateral(attestationtest.CollateralOptions{Now: time.Now()})
	check(t, err)
	check(t, os.Mkdir(d.Path(CollateralPath), 0o700))
	write(t, d, filepath.Join(CollateralPath, "bundle"), string(bundle))
	write(t, d, filepath.Join(CollateralPath, "README"), "no collateral")
	write(t, d, HostsFile, hostJSON(1, hostURL, hex.EncodeToString(hostKey)))
	w := newWallet(t, d.Path(WalletFile))
	s, err := d.Store(t.Context())
	check(t, err)
	defer s.Close()
	for salt, deposit := range []uint64{1e9, 3e9, 2e9} {
		add(t, s, w, uint64(salt), deposit)
	}
	made = d
	return d
}

// newWallet saves a wallet under a passphrase that is cheap to try.
func newWallet(t *testing.T, path string) *wallet.Wallet {
	t.Helper()
	w, err := wallet.New(-217)
	check(t, err)
	t.Cleanup(w.Wipe)
	check(t, w.Save(path, passphrase))
	sealed, err := os.ReadFile(path)
	check(t, err)
	id, err := age.NewScryptIdentity(passphrase)
	check(t, err)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
	check(t, err)
	to, err := age.NewScryptRecipient(passphrase)
	check(t, err)
	to.SetWorkFactor(4)
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	e, err := age.Encrypt(a, to)
	check(t, err)
	_, err = io.Copy(e, r)
	check(t, errors.Join(err, e.Close(), a.Close(), os.WriteFile(path, out.Bytes(), 0o600)))
	return w
}

// add records an open channel of a wallet's.
func add(t *testing.T, s *store.Store, w *wallet.Wallet, salt, deposit uint64) channel.Address {
	t.Helper()
	c := open(t, w, salt, deposit)
	check(t, s.Add(t.Context(), c))
	return c.Address()
}

func open(t *testing.T, w *wallet.Wallet, salt, deposit uint64) store.Channel {
	t.Helper()
	payee := channel.Address{1}
	key, err := ChannelKey(w, salt, payee)
	check(t, err)
	me, err := channel.AddressOf(w.Address())
	check(t, err)
	return store.Channel{Network: w.GlobalID(), Host: hostURL, HostKey: hostKey, Deposit: deposit, State: store.StateOpen, Created: time.Now(),
		Params: channel.Params{Client: me, ClientKey: [32]byte(key[32:]), Payee: payee, Salt: salt, CloseDelay: 3600, ExpiresAt: 4e9}}
}

// hostJSON is hosts.json with one host.
func hostJSON(version int, url, key string) string { return hostsJSON(version, oneHost(url, key)) }

func hostsJSON(version int, hosts ...Host) string {
	b, err := json.Marshal(hostsDocument{version, hosts})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func oneHost(url, key string) Host {
	return Host{URL: url, Key: key, Model: "m", MaxPrices: client.Prices{Prompt: 1, Cached: 1, Completion: 1, Reasoning: 1}, Window: 1000}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, d Dir, name, content string) {
	t.Helper()
	check(t, os.WriteFile(d.Path(name), []byte(content), 0o600))
}

func ask(context.Context, string) (string, error) { return passphrase, nil }

func TestDefault(t *testing.T) {
	t.Setenv("BOMBYX_HOME", "/there")
	if d, err := Default(); err != nil || d != "/there" || d.Path("x") != "/there/x" {
		t.Errorf("%s, %v", d, err)
	}
	t.Setenv("BOMBYX_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "/config")
	t.Setenv("HOME", "/home")
	if d, err := Default(); err != nil || filepath.Base(string(d)) != "bombyx" {
		t.Errorf("%s, %v", d, err)
	}
}

// A line pays from the channel with the most left, and nobody else does while it is there.
func TestDial(t *testing.T) {
	d := whole(t)
	var left []uint64
	for range 3 {
		l, err := d.Dial(t.Context(), Options{Passphrase: ask})
		check(t, err)
		defer l.Close()
		if len(l.Ends) != 1 || l.Ends[0].Host.URL != hostURL || l.Ends[0].Host.Model != "m" || l.Pool.Hosts[0] != l.Ends[0].Transport {
			t.Errorf("%+v", l.Ends)
		}
		left = append(left, l.Ends[0].Left())
	}
	if left[0] != 3e9 || left[1] != 2e9 || left[2] != 1e9 {
		t.Errorf("channels of %d were taken", left)
	}
	l, err := d.Dial(t.Context(), Options{Passphrase: ask})
	var e *Error
	if l != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), "another process is paying from") || e.Code != cli.Usage {
		t.Errorf("a fourth line: %v", err)
	}
}

// Hosts are asked in the order in which they are recorded. One that cannot be paid is passed over, and that is said.
func TestDialSeveral(t *testing.T) {
	d := whole(t)
	second, third := strings.Repeat("2", 64), strings.Repeat("3", 64)
	check(t, set(d, oneHost("https://third", third), oneHost("https://second", second), oneHost(hostURL, hex.EncodeToString(hostKey))))
	s, err := d.Store(t.Context())
	check(t, err)
	defer s.Close()
	w, err := d.Wallet(t.Context(), ask)
	check(t, err)
	defer w.Wipe()
	c := open(t, w, 7, 5e9)
	c.HostKey, err = hex.DecodeString(second)
	check(t, err)
	check(t, s.Add(t.Context(), c))

	var passed []string
	o := Options{Passphrase: ask, Passed: func(host string, why error) { passed = append(passed, host+": "+why.Error()) }}
	l, err := d.Dial(t.Context(), o)
	check(t, err)
	defer l.Close()
	if len(l.Ends) != 2 || len(l.Pool.Hosts) != 2 || l.Ends[0].Host.URL != "https://second" || l.Ends[0].Left() != 5e9 || l.Ends[1].Host.URL != hostURL || l.Ends[1].Left() != 3e9 {
		t.Fatalf("%+v", l.Ends)
	}
	if len(passed) != 1 || passed[0] != "https://third: no open channel to https://third has money left" {
		t.Errorf("passed over: %q", passed)
	}
	// Another program gets what is left.
	passed = nil
	again, err := d.Dial(t.Context(), o)
	check(t, err)
	defer again.Close()
	if len(again.Ends) != 1 || again.Ends[0].Left() != 2e9 || len(passed) != 2 || !strings.Contains(passed[1], "another process is paying from "+c.Address().String()) {
		t.Errorf("%+v, passed over: %q", again.Ends, passed)
	}
	check(t, errors.Join(again.Close(), l.Close()))

	// With nobody to pay, the first speaks for all.
	check(t, set(d, oneHost("https://third", third), oneHost("https://fourth", strings.Repeat("4", 64))))
	if l, err := d.Dial(t.Context(), o); l != nil || err == nil || !strings.Contains(err.Error(), "no open channel to https://third") {
		t.Errorf("%v", err)
	}
}

func set(d Dir, hosts ...Host) error {
	return d.ChangeHosts(func([]Host) ([]Host, error) { return hosts, nil })
}

func TestChangeHosts(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "new"))
	want := []Host{oneHost("https://a", "0a"), oneHost("https://b", "0b")}
	check(t, set(d, want...))
	got, err := d.Hosts()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := os.Stat(d.Path(HostsFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	var e *Error
	if err := set(d, slices.Repeat(want, 33)...); !errors.As(err, &e) || !strings.Contains(err.Error(), "64 hosts already") {
		t.Errorf("too many: %v", err)
	}
	refuse := errors.New("no")
	if err := d.ChangeHosts(func(hosts []Host) ([]Host, error) { return nil, refuse }); !errors.Is(err, refuse) {
		t.Errorf("a change that fails: %v", err)
	}
	// Two that change it at once do not lose each other's.
	check(t, d.ChangeHosts(func(hosts []Host) ([]Host, error) {
		if err := set(d); !errors.As(err, &e) || !strings.Contains(err.Error(), "another bombyx is writing") || e.Hint != "try again" {
			t.Errorf("a change within a change: %v", err)
		}
		return append(hosts, oneHost("https://c", "0c")), nil
	}))
	if got, err := d.Hosts(); err != nil || len(got) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	check(t, os.WriteFile(d.Path(HostsFile), []byte("{}"), 0o600))
	if err := set(d, want...); !errors.As(err, &e) {
		t.Error("what cannot be read was overwritten")
	}
	check(t, os.Remove(d.Path(HostsFile)))
	check(t, set(d, want...))
	check(t, set(d))
	if d.Has(HostsFile) {
		t.Error("an empty list is left")
	}
}

// A line that was closed has given its channel back.
func TestClose(t *testing.T) {
	d := whole(t)
	for range 4 {
		l, err := d.Dial(t.Context(), Options{Passphrase: ask})
		check(t, err)
		if l.Ends[0].Left() != 3e9 {
			t.Errorf("%d left", l.Ends[0].Left())
		}
		check(t, l.Close())
		if !errors.Is(l.Close(), store.ErrClosed) {
			t.Error("closed twice")
		}
		for _, b := range l.Ends[0].key {
			if b != 0 {
				t.Fatal("the key is still there")
			}
		}
	}
}

// What is wrong with a profile is said, with what to do about it, and nothing stays held.
func TestRefusals(t *testing.T) {
	remove := func(name string) func(*testing.T, Dir) {
		return func(t *testing.T, d Dir) { check(t, os.RemoveAll(d.Path(name))) }
	}
	put := func(name, content string) func(*testing.T, Dir) {
		return func(t *testing.T, d Dir) {
			check(t, os.RemoveAll(d.Path(name)))
			write(t, d, name, content)
		}
	}
	refuse := errors.New("no passphrase today")
	for name, c := range map[string]struct {
		damage     func(*testing.T, Dir)
		opts       Options
		code       int
		want, hint string
	}{
		"no policy":           {remove(PolicyFile), Options{}, cli.Usage, "no appraisal policy", "only you can say"},
		"malformed policy":    {put(PolicyFile, `{"v":1}`), Options{}, cli.Usage, "policy.json: ", "every member is required"},
		"policy in UTF-16":    {put(PolicyFile, "\xff\xfe{"), Options{}, cli.Usage, "policy.json: ", "save it as UTF-8"},
		"bad collateral":      {put(CollateralPath, "x"), Options{}, cli.Usage, "collateral: ", "give TCB info"},
		"no host":             {remove(HostsFile), Options{}, cli.Usage, "no host is known", "bombyx host add"},
		"hosts, but none":     {put(HostsFile, `{"v":1,"hosts":[]}`), Options{}, cli.Usage, "names 0 hosts", "bombyx host add"},
		"too many hosts":      {put(HostsFile, hostsJSON(1, slices.Repeat([]Host{{}}, 65)...)), Options{}, cli.Usage, "names 65 hosts", "bombyx host add"},
		"a host twice":        {put(HostsFile, hostsJSON(1, Host{URL: "https://a", Key: "00"}, Host{URL: "https://b", Key: "00"})), Options{}, cli.Usage, "twice", "bombyx host add"},
		"a host in two cases": {put(HostsFile, hostsJSON(1, Host{URL: "https://a", Key: "ab"}, Host{URL: "https://b", Key: "AB"})), Options{}, cli.Usage, "twice", "bombyx host add"},
		"unknown member":      {put(HostsFile, `{"v":1,"hosts":[],"extra":1}`), Options{}, cli.Usage, "hosts.json: ", "unknown and repeated members"},
		"later version":       {put(HostsFile, hostJSON(2, hostURL, hex.EncodeToString(hostKey))), Options{}, cli.Usage, "version 2, this program reads 1", "bombyx host add"},
		"no URL":              {put(HostsFile, hostJSON(1, "", hex.EncodeToString(hostKey))), Options{}, cli.Usage, "a host has no URL", "bombyx host add"},
		"malformed key":       {put(HostsFile, hostJSON(1, hostURL, "00")), Options{}, cli.Usage, "is not 64 hexadecimal digits", "ask the provider"},
		"no key":              {put(HostsFile, hostJSON(1, hostURL, "")), Options{}, cli.Usage, "is not 64 hexadecimal digits", "ask the provider"},
		"host without TLS":    {put(HostsFile, hostJSON(1, "http://host.example", hex.EncodeToString(hostKey))), Options{}, cli.Usage, "https", "bombyx host add"},
		"ADNL, no network":    {put(HostsFile, hostJSON(1, "adnl:"+strings.Repeat("0", 64), hex.EncodeToString(hostKey))), Options{}, cli.Usage, "no network", "global.config.json"},
		"no channel":          {remove(StoreFile), Options{}, cli.Money, "no open channel to " + hostURL, "bombyx channel open"},
		"another host":        {put(HostsFile, hostJSON(1, hostURL, strings.Repeat("0", 64))), Options{}, cli.Money, "no open channel", "bombyx channel open"},
		"damaged record":      {put(StoreFile, strings.Repeat("no database ", 100)), Options{}, cli.Usage, "store: ", "bombyx channel recover"},
		"no wallet":           {remove(WalletFile), Options{}, cli.Usage, "no wallet", "bombyx wallet new"},
		"damaged wallet":      {put(WalletFile, "x"), Options{}, cli.Usage, "wallet", "is the file damaged?"},
		"wrong passphrase":    {nil, Options{Passphrase: func(context.Context, string) (string, error) { return "wrong", nil }}, cli.Usage, "passphrase", "24 words"},
		"passphrase withheld": {nil, Options{Passphrase: func(context.Context, string) (string, error) { return "", refuse }}, 0, refuse.Error(), ""},
		"another wallet": {func(t *testing.T, d Dir) {
			newWallet(t, d.Path("another"))
			check(t, os.Rename(d.Path("another"), d.Path(WalletFile)))
		}, Options{}, cli.Usage, "was opened from another wallet", "use the wallet that opened it"},
	} {
		t.Run(name, func(t *testing.T) {
			d := whole(t)
			if c.damage != nil {
				c.damage(t, d)
			}
			if c.opts.Passphrase == nil {
				c.opts.Passphrase = ask
			}
			l, err := d.Dial(t.Context(), c.opts)
			var e *Error
			if l != nil || err == nil || !strings.Contains(err.Error(), c.want) || c.code != 0 && (!errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Hint, c.hint)) {
				t.Fatalf("%+v, %v, hint %+v; want %q", l, err, e, c.want)
			}
			if s, err := d.Store(t.Context()); err == nil { // unless that is what is damaged
				defer s.Close()
				all, err := s.Channels(t.Context())
				check(t, err)
				for _, c := range all {
					release, err := s.Acquire(c.Address())
					if err != nil {
						t.Fatal("still held:", err)
					}
					release()
				}
			}
		})
	}
}

// A folder of collateral may hold other files; they are counted.
func TestReadCollateral(t *testing.T) {
	d := whole(t)
	var n, of int
	inputs, err := ReadCollateral(d.Path(CollateralPath), func(a, b int) { n, of = a, b })
	if err != nil || len(inputs) != 1 || n != 1 || of != 2 {
		t.Errorf("%d inputs, %d of %d left out, %v", len(inputs), n, of, err)
	}
	if _, err := ReadCollateral(d.Path("nothing"), nil); err == nil {
		t.Error("a path that is not there was read")
	}
	large := d.Path(filepath.Join(CollateralPath, "large"))
	for i := range 5 {
		f, err := os.Create(large + string(rune('0'+i)))
		check(t, err)
		check(t, f.Truncate(collateral.MaxBundle)) // sparse
		f.Close()
	}
	if _, err := ReadCollateral(d.Path(CollateralPath), nil); err == nil || !strings.Contains(err.Error(), "is it the right folder?") {
		t.Errorf("a huge folder: %v", err)
	}
}
