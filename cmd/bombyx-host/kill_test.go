package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	crand "crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/enclave"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/pgtest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// The crash test runs bombyx-host, and a client of the library with its store,
// as processes of their own over real sockets and files and a local chain, and
// kills them at random moments: while they start, migrate, serve, claim and
// close; PostgreSQL, too. After every kill and at the end it compares what lies
// in the databases with what its witnesses saw (kill_oracle_test.go): no
// acknowledged voucher is lost, nothing counts twice, nothing is released
// without a durable voucher, and nobody signs for more than one window ahead of
// what was released, however many requests run. In the end the chain accounts for every nanogram.
// The same holds of a fleet, whose processes also stop for a while, and are taken over
// or missed meanwhile (kill_fleet_test.go).
//
//	make kills KILLS=1000            each database, and a fleet; SEED=N repeats the moments of run N

const (
	killWindow  = 4_000_000 // forty tokens, for all workers together
	killWorkers = 4
	killDeposit = 5_000_000_000
	killEpoch   = 40 // kills in the life of one channel
)

var killPrices = price.Prices{Completion: 100_000_000_000, Reasoning: 100_000_000_000}

func TestMain(m *testing.M) {
	switch role := os.Getenv("BOMBYX_KILLS_ROLE"); role {
	case "":
		os.Exit(m.Run())
	case "host":
		ledgerClock = warpedClock(os.Getenv("BOMBYX_KILLS_CLOCK"))
		os.Args = []string{"bombyx-host", "serve", "--config", os.Getenv("BOMBYX_KILLS_CONFIG")}
		main()
	default:
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
	}
}

func TestKills(t *testing.T) {
	kills := 20
	if s := os.Getenv("KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil || kills < 1 {
			t.Fatalf("KILLS=%q is no number of kills", s)
		}
	}
	seed := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		k := newKiller(t, seed, 1)
		k.run(kills, k.at("ledger.db"), "sqlite", "file:"+k.at("ledger.db")+"?_pragma=busy_timeout(10000)")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		k := newKiller(t, seed, 1)
		k.pg = pgtest.Start(t)
		k.run(kills, k.pg.URL, "pgx", k.pg.URL)
	})
	t.Run("fleet", func(t *testing.T) {
		t.Parallel()
		k := newKiller(t, seed, killHosts)
		k.pg = pgtest.Start(t)
		k.run(kills, k.pg.URL, "pgx", k.pg.URL)
	})
}

// A killer runs the parties and kills them.
type killer struct {
	t        *testing.T
	ctx      context.Context
	seed     uint64
	rng      *rand.Rand
	dir      string
	began    time.Time
	tap      *tap
	talker   *talker
	books    *books
	receipts []ed25519.PublicKey // of the enclaves
	chain    *devnet.Chain
	api      *ton.Client
	owner    *wallet.Wallet // pays for channels
	payee    *wallet.Wallet
	hosts    []*member
	front    *front // of a fleet
	clock    *warp
	pg       *pgtest.Server
	ledger   string
	hostURL  string // for clients
	hostKey  []byte
	startup  time.Duration // of the hosts
	old      []*killChannel

	count    map[string]int // kills
	together int            // channels closed by agreement
}

func (k *killer) fault(format string, args ...any) {
	k.t.Helper()
	k.t.Errorf("seed %d, after %v: "+format, append([]any{k.seed, k.count}, args...)...)
}

// A member is one of the host's processes, with the enclave that it serves.
type member struct {
	name    string // of both
	address string // where it listens
	change  func(config map[string]any)
	process *process
}

// newKiller makes everything but the ledger, for so many hosts.
func newKiller(t *testing.T, seed uint64, hosts int) *killer {
	k := &killer{t: t, ctx: t.Context(), seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), began: time.Now(),
		tap: &tap{streams: map[string]*released{}, ended: map[string]uint64{}, risk: map[string]uint64{}}, talker: &talker{}, count: map[string]int{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	k.chain, err = devnet.New(devnet.Config{KeyEvery: 10})
	must(err)
	t.Cleanup(func() { k.chain.Close() })
	_, err = k.chain.Serve(k.ctx, "127.0.0.1:0")
	must(err)
	running, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); k.chain.Run(running, 100*time.Millisecond) }()
	t.Cleanup(func() { stop(); <-ended })
	must(os.WriteFile(k.at("network.json"), k.chain.GlobalConfig(), 0o600))
	k.api, err = ton.Dial(k.ctx, k.chain.GlobalConfig(), ton.Options{})
	must(err)
	t.Cleanup(k.api.Close)

	authority := attestationtest.New("kills")
	for n := range hosts {
		k.hosts = append(k.hosts, &member{name: fmt.Sprint("e", n), address: unusedAddress(t)})
		k.enclave(authority, k.hosts[n].name)
	}
	k.hostURL = "http://" + k.hosts[0].address
	if hosts > 1 {
		k.front = newFront(t, k.hosts)
		k.hostURL = "http://" + k.front.Addr().String()
	}
	k.clock = newWarp(t, k.at("clock"))

	k.owner, err = wallet.New(k.chain.GlobalID())
	must(err)
	k.payee, err = wallet.New(k.chain.GlobalID())
	must(err)
	must(k.chain.Fund(k.owner.Address(), 1000*killDeposit))
	must(k.chain.Fund(k.payee.Address(), 10_000_000_000))
	must(os.WriteFile(k.at("passphrase"), []byte("kills"), 0o600))
	must(sealQuickly(k.payee, k.at("wallet.age")))

	pub, identity, err := ed25519.GenerateKey(crand.Reader)
	must(err)
	k.hostKey = pub
	must(os.WriteFile(k.at("identity"), fmt.Appendf(nil, "%x\n", identity.Seed()), 0o600))
	bundle, err := authority.Collateral(attestationtest.CollateralOptions{Now: time.Now()})
	must(err)
	must(os.WriteFile(k.at("collateral"), bundle, 0o600))
	return k
}

// enclave runs an enclave behind a tap.
func (k *killer) enclave(authority *attestationtest.Authority, name string) {
	t := k.t
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	node, err := authority.NewNode(attestationtest.NodeConfig{Name: name})
	must(err)
	m := manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: "m", Format: "gguf", SHA256: strings.Repeat("0", 64), Size: 1, ContextLength: 4096}}}
	doc, err := m.Encode()
	must(err)
	prices := price.List{"m": killPrices}
	e, err := enclave.New(enclave.Config{Engine: k.talker, Collector: node, Manifest: doc, Prices: prices, Build: sha256.Sum256([]byte("build")),
		Digest: sha256.Sum256([]byte("config")), KeyLifetime: 24 * time.Hour, Patience: 3 * time.Second, Window: 2 * time.Minute, Now: time.Now})
	must(err)
	l, err := net.Listen("unix", k.at(name+".sock"))
	must(err)
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: k.tap.before(name, e.Handler()), Protocols: p, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	rec := httptest.NewRecorder()
	e.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/keyset", nil))
	keys, err := keyset.Parse(rec.Body.Bytes())
	must(err)
	k.receipts = append(k.receipts, keys.ReceiptKey)
}

func unusedAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (k *killer) at(name string) string { return filepath.Join(k.dir, name) }

// config writes a host's configuration and returns its path.
func (k *killer) config(m *member) string {
	config := map[string]any{
		"listen": m.address, "identity": k.at("identity"), "network": k.at("network.json"), "global_id": k.chain.GlobalID(),
		"payee": k.payee.Address().String(), "wallet": k.at("wallet.age"), "passphrase": k.at("passphrase"),
		"prices": price.List{"m": killPrices}, "window": killWindow, "min_deposit": 1_000_000, "closing_delay": channel.MinCloseDelay, "card_lifetime": 86400,
		"ledger": k.ledger, "collateral": k.at("collateral"),
		"claims":   map[string]any{"every": 1, "threshold": 60_000_000, "age": 86400, "margin": channel.MinCloseDelay / 2},
		"enclaves": []any{map[string]any{"id": m.name, "address": "unix:" + k.at(m.name+".sock")}}}
	if m.change != nil {
		m.change(config)
	}
	b, err := json.Marshal(config)
	path := k.at(filepath.Join(m.name, "host.json"))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return path
}

// A process is one that can be killed. Its end is known.
type process struct {
	*exec.Cmd
	ended chan struct{}
	err   error // then
}

// start runs this program again in a role. It logs to a file of that name.
func (k *killer) start(role, name string, env ...string) *process {
	k.t.Helper()
	log, err := os.OpenFile(k.at(name+".log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "BOMBYX_KILLS_ROLE="+role)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	p := &process{Cmd: cmd, ended: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	return p
}

func kill(p *process) {
	if p != nil {
		p.Process.Kill()
		<-p.ended
	}
}

func (k *killer) startHost(m *member) {
	m.process = k.start("host", m.name, "BOMBYX_KILLS_CONFIG="+k.config(m), "BOMBYX_KILLS_CLOCK="+k.clock.path)
}

func (k *killer) startHosts() {
	for _, m := range k.hosts {
		k.startHost(m)
	}
}

func (k *killer) killHosts() {
	for _, m := range k.hosts {
		kill(m.process)
	}
}

// some is one of the hosts.
func (k *killer) some() *member { return k.hosts[k.rng.IntN(len(k.hosts))] }

// play runs a client in a role.
func (k *killer) play(c *killChannel, role string) *process {
	return k.start(role, role, "BOMBYX_KILLS_PAYER="+c.config)
}

func (k *killer) startClient(c *killChannel) { c.client = k.play(c, "load") }

// moment waits for a random part of the longest.
func (k *killer) moment(longest time.Duration) {
	time.Sleep(time.Duration(k.rng.Int64N(int64(longest))))
}

// wait waits for something that the parties bring about.
func (k *killer) wait(what string, ok func() bool) bool {
	k.t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			k.fault("%s: not within a minute", what)
			return false
		}
	}
	return true
}

// serving says that all hosts serve. One that gave up, because PostgreSQL was
// not there when it started, is started again, as a supervisor would.
func (k *killer) serving() bool {
	for _, m := range k.hosts {
		select {
		case <-m.process.ended:
			k.startHost(m)
		default:
		}
	}
	for _, m := range k.hosts {
		if !answers(m.address) {
			return false
		}
	}
	return true
}

// answers asks for something: a host listens before it has its ledger, and answers only then.
func answers(address string) bool {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	resp, err := c.Get("http://" + address + "/v1/collateral")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

func (k *killer) run(kills int, source, driver, dsn string) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	k.books = &books{db}
	k.tap.books = k.books
	k.ledger = source
	defer func() {
		k.killHosts()
		files := []string{k.at("load.log"), k.at("look.log")}
		for _, m := range k.hosts {
			files = append(files, k.at(m.name+".log"))
		}
		for _, c := range k.old {
			kill(c.client)
			files = append(files, c.payer.Account)
		}
		if k.t.Failed() {
			for _, f := range files {
				b, _ := os.ReadFile(f)
				k.t.Logf("--- the end of %s\n%s", filepath.Base(f), b[max(0, len(b)-2000):])
			}
		}
	}()
	// Killed while it makes its schema: as often as not before it serves.
	for range 3 + kills/20 {
		k.startHosts()
		k.moment(300 * time.Millisecond)
		k.killHosts()
		k.count["starting"]++
	}
	began := time.Now()
	k.startHosts()
	k.wait("the hosts to start", k.serving)
	k.startup = time.Since(began)

	for k.sum() < kills && !k.t.Failed() {
		var all []*killChannel
		for range min(len(k.hosts), 2) {
			all = append(all, k.open())
		}
		k.epoch(all, kills)
		for _, c := range all {
			if k.t.Failed() {
				return
			}
			k.close(c)
		}
	}
	k.finish()
	k.report(kills)
}

func (k *killer) sum() (n int) {
	for _, v := range k.count {
		n += v
	}
	return n
}

// open opens a channel, and makes its client.
func (k *killer) open() *killChannel {
	t := k.t
	c := &killChannel{}
	pub, key, _ := ed25519.GenerateKey(crand.Reader)
	owner, _ := channel.AddressOf(k.owner.Address())
	payee, _ := channel.AddressOf(k.payee.Address())
	c.params = channel.Params{Payee: payee, Client: owner, ClientKey: [32]byte(pub), CloseDelay: channel.MinCloseDelay,
		ExpiresAt: uint32(k.chain.Now().Add(30 * 24 * time.Hour).Unix()), Salt: k.rng.Uint64()}
	address := c.params.Address()
	c.name = address.Raw()
	m := channel.Open(c.params, killDeposit)
	if _, err := k.owner.Send(k.ctx, k.api, wallet.Message{To: address.Std(), Amount: killDeposit, Init: m.StateInit}); err != nil {
		t.Fatal(err)
	}
	k.wait("the channel to open", func() bool { _, err := channel.Load(k.ctx, k.api, address); return err == nil })
	id := fmt.Sprint(len(k.old))
	c.payer = payer{Host: k.hostURL, HostKey: k.hostKey, Authority: "kills", Network: k.chain.GlobalID(), Channel: c.params, Key: key.Seed(),
		Deposit: killDeposit - channel.Reserve - 100_000_000, Store: k.at("client" + id + ".db"), Account: k.at("client" + id + ".txt"), Workers: killWorkers}
	b, err := json.Marshal(c.payer)
	if err != nil {
		t.Fatal(err)
	}
	c.config = k.at("client" + id + ".json")
	if err := os.WriteFile(c.config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	k.old = append(k.old, c)
	return c
}

// epoch kills under load.
func (k *killer) epoch(all []*killChannel, kills int) {
	for _, c := range all {
		k.startClient(c)
	}
	for range min(killEpoch, kills-k.sum()) {
		if k.front != nil {
			k.front.shift(k.rng)
		}
		// While they start, or while they serve.
		if k.rng.IntN(3) == 0 {
			k.moment(k.startup)
		} else {
			k.wait("the hosts to serve", k.serving)
			k.moment(500 * time.Millisecond)
		}
		m, c := k.some(), all[k.rng.IntN(len(all))]
		switch n := k.rng.IntN(100); {
		case k.pg != nil && n < 4:
			k.pg.Stop()
			k.count["postgres"]++
			k.moment(200 * time.Millisecond)
			k.pg.Start()
			k.wait("PostgreSQL", func() bool { return k.books.db.Ping() == nil })
			k.check(all)
		case k.front != nil && n < 15:
			k.stop(m)
			k.check(all)
		case n < 50:
			kill(m.process)
			k.count["host"]++
			k.check(all)
			k.startHost(m)
		case n < 90:
			kill(c.client)
			k.count["client"]++
			k.check(all)
			k.checkStore(c)
			k.startClient(c)
		default:
			k.killHosts()
			for _, c := range all {
				kill(c.client)
			}
			k.count["all"]++
			k.check(all)
			k.startHosts()
			for _, c := range all {
				k.checkStore(c)
				k.startClient(c)
			}
		}
		if k.t.Failed() {
			return
		}
	}
	if k.front != nil && k.rng.IntN(2) == 0 {
		k.miss(k.some(), all)
	}
	for _, c := range all {
		kill(c.client)
	}
	k.wait("the hosts to serve", k.serving)
	for _, c := range all {
		k.settle(c)
	}
	k.total()
	k.t.Logf("%s: %d kills so far", time.Since(k.began).Round(time.Second), k.sum())
}

// settle lets everything end: then all books agree to the nanogram.
func (k *killer) settle(c *killChannel) {
	k.wait("requests to end", func() bool { _, _, n := k.tap.state(c.name); return n == 0 })
	ended, _, _ := k.tap.state(c.name)
	var row bookRow
	if !k.wait("the ledger to have everything that was released", func() bool { row, _ = k.books.channel(c.name); return row.spent >= ended }) || row.spent != ended {
		k.fault("UNPAID or TWICE: the ledger says %d were delivered, the tap %d", row.spent, ended)
		return
	}
	k.check([]*killChannel{c})
	if k.front != nil {
		// Whoever took the channel from a host that was missed learns what that one
		// booked later when it takes the channel again.
		if !k.wait("the hosts to let go of the channel", func() bool {
			var free bool
			err := k.books.db.QueryRow(`SELECT process NOT IN (SELECT process FROM owners) FROM channels WHERE address = '` + c.name + `'`).Scan(&free)
			return err == nil && free
		}) {
			return
		}
	}
	// The client goes on from its store and the host's word, with one token.
	var look *process
	if !k.wait("the client to come back", func() bool { look = k.play(c, "look"); <-look.ended; return look.err == nil }) {
		return
	}
	k.wait("the last request to end", func() bool { _, _, n := k.tap.state(c.name); return n == 0 })
	ended, _, _ = k.tap.state(c.name)
	if signed, _, settled, _, _ := c.noted(); settled != ended {
		k.fault("the client says %d are due, the tap %d (%d signed)", settled, ended, signed)
	}
	if !k.wait("the ledger to have the last request", func() bool { row, _ = k.books.channel(c.name); return row.spent == ended }) {
		return
	}
	k.checkStore(c)
}

// total compares sums over all channels.
func (k *killer) total() {
	var spent, earned int64
	if err := k.books.db.QueryRow(`SELECT (SELECT COALESCE(SUM(spent), 0) FROM channels), (SELECT COALESCE(SUM(earned), 0) FROM earnings)`).Scan(&spent, &earned); err != nil || spent != earned {
		k.fault("channels have spent %d, earnings are %d, %v", spent, earned, err)
	}
	k.talker.mu.Lock()
	defer k.talker.mu.Unlock()
	k.tap.mu.Lock()
	defer k.tap.mu.Unlock()
	var all uint64
	for _, n := range k.tap.ended {
		all += n
	}
	// The engine's own count; of each answer that was cut, one token may have waited for credit.
	if price := killPrices.Completion / 1_000_000; all > k.talker.tokens*price || all+k.talker.spoke*20*price < k.talker.tokens*price {
		k.fault("the enclaves charged %d for %d tokens", all, k.talker.tokens)
	}
}

// close ends a channel, with kills: together, or alone.
func (k *killer) close(c *killChannel) {
	ended, _, _ := k.tap.state(c.name)
	address := c.params.Address()
	if k.rng.IntN(2) == 0 {
		closing := k.play(c, "close")
		k.moment(time.Second)
		if m := k.some(); k.rng.IntN(2) == 0 {
			kill(m.process)
			k.count["host, closing"]++
			k.startHost(m)
		} else {
			kill(closing)
			k.count["client, closing"]++
		}
		<-closing.ended
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if on, err := channel.Load(k.ctx, k.api, address); err == nil && on.Closing() && on.Balance == 0 {
				if on.Paid != ended {
					k.fault("closed together over %d, and %d were released", on.Paid, ended)
				}
				k.together++
				return
			}
		}
	}
	// It did not come to that, or was not to: the client leaves alone.
	if _, err := k.owner.Send(k.ctx, k.api, wallet.Message{To: address.Std(), Amount: channel.GasValue, Bounce: true, Body: channel.CloseStart(address, channel.GasValue).Body}); err != nil {
		k.t.Fatal(err)
	}
	c.closing, c.ended = true, ended
	for range 1 + k.rng.IntN(3) {
		k.moment(k.startup + time.Second)
		m := k.some()
		kill(m.process)
		k.count["host, closing"]++
		k.startHost(m)
	}
}

// finish waits for the last claims, lets the deadline pass, and accounts.
func (k *killer) finish() {
	if k.t.Failed() {
		return
	}
	var most uint64
	for _, c := range k.old {
		if !c.closing {
			continue
		}
		k.wait("the last claim of "+c.name, func() bool {
			k.serving()
			on, err := channel.Load(k.ctx, k.api, c.params.Address())
			return err == nil && on.Paid >= c.ended
		})
	}
	k.killHosts()
	if err := k.chain.Advance((channel.MinCloseDelay + 60) * time.Second); err != nil {
		k.t.Fatal(err)
	}
	for _, c := range k.old {
		a := c.params.Address()
		if c.closing {
			if _, err := k.owner.Send(k.ctx, k.api, wallet.Message{To: a.Std(), Amount: channel.GasValue, Bounce: true, Body: channel.CloseFinish(a, channel.GasValue).Body}); err != nil {
				k.t.Fatal(err)
			}
		}
		k.wait("the rest to come back from "+c.name, func() bool {
			on, err := channel.Load(k.ctx, k.api, a)
			return err == nil && on.Balance == 0
		})
		on, err := channel.Load(k.ctx, k.api, a)
		if err != nil {
			k.t.Fatal(err)
		}
		ended, _, _ := k.tap.state(c.name)
		if on.Paid < ended {
			k.fault("UNPAID: the chain has paid %d, %d were released", on.Paid, ended)
		}
		if over := on.Paid - min(on.Paid, ended); over > killWindow {
			k.fault("OVERPAID: the chain has paid %d, %d were released", on.Paid, ended)
		} else {
			most = max(most, over)
		}
		k.account(c, on.Paid)
	}
	k.t.Logf("at most %d nanogram were paid ahead, of %d that may run ahead", most, killWindow)
}

// account adds up what the chain says went into a channel and out of it.
func (k *killer) account(c *killChannel, paid uint64) {
	txs, err := k.api.Transactions(k.ctx, c.params.Address().Std(), 0)
	if err != nil {
		k.t.Fatal(err)
	}
	var in, out, toPayee, fees uint64
	payee, owner := k.payee.Address().String(), k.owner.Address().String()
	for _, tx := range txs {
		if m := tx.IO.In; m != nil && m.MsgType == tlb.MsgTypeInternal {
			in += m.AsInternal().Amount.Nano().Uint64()
		}
		fees += tx.TotalFees.Coins.Nano().Uint64()
		if tx.IO.Out == nil {
			continue
		}
		list, err := tx.IO.Out.ToSlice()
		if err != nil {
			k.t.Fatal(err)
		}
		for _, m := range list {
			i := m.AsInternal()
			n := i.Amount.Nano().Uint64()
			out += n
			fees += i.FwdFee.Nano().Uint64()
			switch to := i.DstAddr.Bounce(k.payee.Address().IsBounceable()).String(); to {
			case payee:
				toPayee += n
			case owner:
			default:
				k.fault("%s was paid", to)
			}
		}
	}
	if in != out+fees {
		k.fault("%s: %d came in, %d went out and %d were fees", c.name, in, out, fees)
	}
	if toPayee > paid+10*uint64(len(txs))*channel.GasValue || toPayee+fees < paid {
		k.fault("%s: %d went to the payee, %d are paid", c.name, toPayee, paid)
	}
}

func (k *killer) report(kills int) {
	k.tap.mu.Lock()
	defer k.tap.mu.Unlock()
	for _, f := range k.tap.faults {
		k.fault("%s", f)
	}
	var released uint64
	for _, n := range k.tap.ended {
		released += n
	}
	var receipts, refused int
	var claimed int64
	for _, c := range k.old {
		_, _, _, r, x := c.noted()
		receipts, refused = receipts+r, refused+x
	}
	k.books.db.QueryRow(`SELECT SUM(claimed) FROM channels`).Scan(&claimed)
	k.t.Logf("seed %d: %d kills in %.0f s: %v; %d channels (%d closed together), %d requests, %d receipts, %d refusals, %s GRAM released, %d releases compared with the ledger",
		k.seed, k.sum(), time.Since(k.began).Seconds(), k.count, len(k.old), k.together, k.talker.spoke, receipts, refused, ton.Nano(released), k.tap.checked)
	for _, m := range k.hosts {
		state := k.at(m.name)
		if k.pg == nil {
			state = k.dir // beside the ledger
		}
		if _, err := os.Stat(filepath.Join(state, "key-block.json")); err != nil {
			k.fault("at block %d the host does not remember how far the chain was proven: %v", k.chain.Status().Seqno, err)
		}
		if log, err := os.ReadFile(k.at(m.name + ".log")); err != nil || bytes.Contains(log, []byte("key-block.json")) {
			k.fault("the host warns of its file, %v", err)
		}
	}
	if k.sum() < kills || k.tap.checked == 0 || receipts == 0 {
		k.fault("too little happened for a test")
	}
}

// sealQuickly writes a wallet that takes no second to open.
func sealQuickly(w *wallet.Wallet, path string) error {
	sealed, err := w.Seal("kills")
	if err != nil {
		return err
	}
	id, err := age.NewScryptIdentity("kills")
	if err != nil {
		return err
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
	if err != nil {
		return err
	}
	to, err := age.NewScryptRecipient("kills")
	if err != nil {
		return err
	}
	to.SetWorkFactor(2)
	var buf bytes.Buffer
	a := armor.NewWriter(&buf)
	e, err := age.Encrypt(a, to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(e, r); err != nil {
		return err
	}
	if err := e.Close(); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o600)
}
