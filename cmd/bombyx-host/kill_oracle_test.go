package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// The oracle of the crash test has three witnesses: a tap before the enclave
// that sees what is released, the client's own account of what it signed and
// what was acknowledged to it, and the chain. It compares them with what lies in
// the databases, which it reads with SQL of its own.

// A tap sits between hosts and enclaves.
type tap struct {
	books *books

	mu      sync.Mutex
	streams map[string]*released
	ended   map[string]uint64 // by channel
	risk    map[string]uint64 // by channel: what may be released unpaid, as docs/operating.md says of a fleet
	checked int               // grants compared with the ledger
	faults  []string
}

type released struct {
	channel string
	enclave string
	credit  uint64 // what the enclave may release
	over    bool
	done    chan struct{}
}

// before is the tap before one enclave.
func (t *tap) before(name string, enclave http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.serve(name, enclave, w, r) })
}

func (t *tap) serve(at string, enclave http.Handler, w http.ResponseWriter, r *http.Request) {
	id, name := r.Header.Get("Bombyx-Stream"), r.Header.Get("Bombyx-Channel")
	credit, _ := strconv.ParseUint(r.Header.Get("Bombyx-Credit"), 10, 63)
	switch r.URL.Path {
	case "/sealed":
		t.mu.Lock()
		t.streams[id] = &released{channel: name, enclave: at, done: make(chan struct{})}
		t.mu.Unlock()
		t.grant(id, credit)
		defer func() {
			cost, _ := strconv.ParseUint(w.Header().Get("Bombyx-Cost"), 10, 63)
			t.end(id, cost)
		}()
	case "/credit":
		t.grant(id, credit)
	case "/settle":
		enclave.ServeHTTP(w, r)
		// The host may act on this answer at once.
		for _, s := range t.running(at, id, name) {
			select {
			case <-s.done:
			case <-time.After(5 * time.Second):
				t.fault("a settled stream runs on")
			}
		}
		return
	}
	enclave.ServeHTTP(w, r)
}

func (t *tap) fault(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

func (t *tap) running(enclave, id, name string) (list []*released) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, s := range t.streams {
		if !s.over && s.enclave == enclave && (k == id || s.channel == name) {
			list = append(list, s)
		}
	}
	return list
}

// grant checks, before the enclave may release more, that a voucher which is
// in the ledger already covers all of it.
func (t *tap) grant(id string, credit uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.streams[id]
	if s == nil || s.over || credit <= s.credit {
		return
	}
	s.credit = credit
	row, err := t.books.channel(s.channel)
	if err != nil {
		return // the database has been stopped
	}
	t.checked++
	if sum := t.sum(s.channel); sum > row.authorised+t.risk[s.channel] {
		t.faults = append(t.faults, fmt.Sprintf("UNPAID: %d may have been released to %s, and durable vouchers are over %d", sum, s.channel, row.authorised))
	}
}

// sum is the most that may have been released.
func (t *tap) sum(name string) uint64 {
	sum := t.ended[name]
	for _, s := range t.streams {
		if s.channel == name && !s.over {
			sum += s.credit
		}
	}
	return sum
}

func (t *tap) end(id string, cost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.streams[id]
	if cost > s.credit {
		t.faults = append(t.faults, fmt.Sprintf("UNPAID: a stream with credit %d cost %d", s.credit, cost))
	}
	t.ended[s.channel] += cost
	s.over = true
	close(s.done)
	delete(t.streams, id)
}

// state is what was released for certain, and at most.
func (t *tap) state(name string) (ended, most uint64, running int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.streams {
		if s.channel == name {
			running++
		}
	}
	return t.ended[name], t.sum(name), running
}

// A talker is an engine whose answers have random lengths and take their time.
// It counts what it says.
type talker struct {
	mu            sync.Mutex
	tokens, spoke uint64 // tokens handed out, and streams
}

func (e *talker) Models(context.Context) ([]engine.Model, error) {
	return []engine.Model{{ID: "m", ContextLength: 4096, MaxTokens: 20}}, nil
}

func (e *talker) Start(ctx context.Context, r engine.Request) (engine.Stream, error) {
	e.mu.Lock()
	e.spoke++
	e.mu.Unlock()
	n := 1 + rand.IntN(80)
	if bytes.Contains(r.Body, []byte(`"max_tokens":1,`)) {
		n = 1
	}
	return &talk{e: e, ctx: ctx, left: n, whole: !r.Stream}, nil
}

type talk struct {
	e     *talker
	ctx   context.Context
	n     int
	left  int
	whole bool
}

func (s *talk) Next() (engine.Event, error) {
	if s.left == 0 {
		return engine.Event{}, io.EOF
	}
	select {
	case <-s.ctx.Done():
		return engine.Event{}, s.ctx.Err()
	case <-time.After(time.Millisecond):
	}
	step := 1
	if s.whole {
		step = min(s.left, 20)
		s.left = step
	}
	s.n += step
	s.left -= step
	s.e.mu.Lock()
	s.e.tokens += uint64(step)
	s.e.mu.Unlock()
	return engine.Event{Data: []byte(`{"choices":[{"index":0,"delta":{"content":"word"}}]}`), Usage: engine.Usage{Completion: int64(s.n)}}, nil
}

func (s *talk) Ready() bool { return false }

func (s *talk) Close() error { return nil }

// books reads a ledger as a stranger would.
type books struct{ db *sql.DB }

type bookRow struct{ authorised, spent, claimed uint64 }

func (b *books) channel(name string) (r bookRow, err error) {
	var v [3]int64
	err = b.db.QueryRow(`SELECT authorised, spent, claimed FROM channels WHERE address = '`+name+`'`).Scan(&v[0], &v[1], &v[2])
	if err == sql.ErrNoRows || err != nil && (strings.Contains(err.Error(), "no such table") || strings.Contains(err.Error(), "does not exist")) {
		return r, nil // it has not come that far
	}
	return bookRow{uint64(v[0]), uint64(v[1]), uint64(v[2])}, err
}

// An account is what the oracle knows of one channel.
type killChannel struct {
	params  channel.Params
	name    string
	payer   payer
	config  string // file of payer
	client  *process
	closing bool   // alone
	ended   uint64 // what was released in all, once it is closing
}

// noted reads the client's own account.
func (c *killChannel) noted() (signed, acknowledged, settled uint64, receipts, refused int) {
	b, _ := os.ReadFile(c.payer.Account)
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseUint(f[1], 10, 63)
		switch f[0] {
		case "signed":
			signed = max(signed, n)
		case "acknowledged":
			acknowledged = max(acknowledged, n)
		case "receipt":
			receipts++
		case "refused":
			refused++
		case "state":
			settled, _ = strconv.ParseUint(f[2], 10, 63)
		}
	}
	return signed, acknowledged, settled, receipts, refused
}

// check compares the witnesses at any moment.
func (k *killer) check(all []*killChannel) {
	for _, c := range all {
		k.checkChannel(c)
	}
}

func (k *killer) checkChannel(c *killChannel) {
	_, acknowledged, _, _, _ := c.noted()
	row, err := k.books.channel(c.name)
	if err != nil {
		k.t.Fatalf("the ledger: %v", err)
	}
	if row.authorised < acknowledged {
		k.fault("LOST: a voucher over %d was acknowledged, the ledger's highest is over %d", acknowledged, row.authorised)
	}
	signed, _, _, _, _ := c.noted()
	if row.authorised > signed {
		k.fault("FORGED: the ledger has a voucher over %d, the client signed %d", row.authorised, signed)
	}
	if row.authorised > 0 {
		var total int64
		var wire string
		if err := k.books.db.QueryRow(`SELECT total, voucher FROM vouchers WHERE address = '`+c.name+`' ORDER BY total DESC LIMIT 1`).Scan(&total, &wire); err != nil {
			k.fault("LOST: the highest voucher cannot be read: %v", err)
		}
		b, _ := hex.DecodeString(wire)
		v, err := channel.ParseVoucher(b)
		if err != nil || v.Total < row.authorised || v.Verify(c.params.ClientKey) != nil {
			k.fault("LOST: %d are authorised, the highest voucher is over %d, %v", row.authorised, v.Total, err)
		}
	}
	if _, most, _ := k.tap.state(c.name); row.spent > most {
		k.fault("TWICE: the ledger says %d were delivered, the tap saw %d at most", row.spent, most)
	}
	_, most, _ := k.tap.state(c.name)
	if signed > most+killWindow {
		k.fault("OVERPAID: %d were signed, %d released at most, and %d may run ahead", signed, most, killWindow)
	}
	if on, err := channel.Load(k.ctx, k.api, channel.Address(c.params.Address())); err == nil && !c.closing {
		if _, most, _ := k.tap.state(c.name); on.Paid > most {
			k.fault("OVERPAID: the chain has paid %d, %d were released at most", on.Paid, most)
		}
	}
}

// checkStore reads the client's store as a stranger would.
func (k *killer) checkStore(c *killChannel) {
	db, err := sql.Open("sqlite", "file:"+c.payer.Store+"?_pragma=busy_timeout(10000)")
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	var signed, settled int64
	var head string
	err = db.QueryRow(`SELECT signed, settled, head FROM channels`).Scan(&signed, &settled, &head)
	if err == sql.ErrNoRows || err != nil && strings.Contains(err.Error(), "no such table") {
		return
	} else if err != nil {
		k.t.Fatal(err)
	}
	_, most, _ := k.tap.state(c.name)
	if uint64(settled) > most {
		k.fault("TWICE: the client's store says %d are due, the tap saw %d at most", settled, most)
	}
	rows, err := db.Query(`SELECT seq, receipt, head FROM receipts ORDER BY seq`)
	if err != nil {
		k.t.Fatal(err)
	}
	defer rows.Close()
	var chain [32]byte
	seen := map[string]bool{}
	sum := uint64(0)
	for n := 1; rows.Next(); n++ {
		var seq int
		var wire, h string
		if err := rows.Scan(&seq, &wire, &h); err != nil {
			k.t.Fatal(err)
		}
		// docs/protocol.md, Receipt
		d := sha256.Sum256([]byte(wire))
		chain = sha256.Sum256(append(append([]byte("bombyx/1 receipts"), chain[:]...), d[:]...))
		var r *receipt.Receipt
		err := errors.New("no enclave signed it")
		for i := 0; i < len(k.receipts) && err != nil; i++ {
			r, err = receipt.Verify(wire, k.receipts[i])
		}
		if err != nil || seq != n || h != hex.EncodeToString(chain[:]) || seen[r.ID] || r.Channel != c.name {
			k.fault("CHAIN: receipt %d (row %d) breaks the chain: %v", seq, n, err)
			break
		}
		seen[r.ID] = true
		sum += r.Cost
	}
	if head != hex.EncodeToString(chain[:]) {
		k.fault("CHAIN: the channel's head is not its last receipt's")
	}
	if ended, _, _ := k.tap.state(c.name); sum > ended {
		k.fault("TWICE: receipts over %d, released %d", sum, ended)
	}
}
