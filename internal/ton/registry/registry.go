// Package registry reads and writes registries on TON: lists of records (reference values of enclaves, model manifests, hosts'
// cards) that an owner publishes under a time lock, through the contract in contract/registry.tolk.
//
// A record takes effect only [Params.Delay] seconds after it was announced on chain; only its withdrawal is immediate. Each
// change extends a hash chain, so two readers can tell whether they were shown the same past. Anyone may run a registry; which ones
// count is for the reader's policy to say.
package registry

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/bombyx-network/bombyx/internal/ton"
)

//go:embed contract/registry.boc
var codeBOC []byte

const (
	opAnnounce = 0x42585211 // "BXR" and a number
	opCancel   = 0x42585212
	opApply    = 0x42585213
	opWithdraw = 0x42585214
	opReclaim  = 0x42585215

	magicChange = 0x42585201
	magicRecord = 0x42585231

	// MaxText is the longest name or version, in bytes.
	MaxText = 64
	// MaxDocument is the longest document, in bytes: with it a record has 63 of the 64 cells that the contract takes.
	MaxDocument = 60 * snakeBytes

	// MaxEntries is the most records, and the most announcements, that a registry may hold to be read.
	MaxEntries = 4096

	snakeBytes = 127 // in one cell
)

// ExitCode is what the contract throws when it refuses a message.
type ExitCode int32

// The contract's refusals.
const (
	ExitSender   ExitCode = 51 // only the owner announces, cancels, withdraws and reclaims
	ExitUnknown  ExitCode = 52 // nothing is announced or recorded under this key
	ExitEarly    ExitCode = 53 // the delay has not passed yet
	ExitTooLarge ExitCode = 54 // the content has more than 64 cells
	ExitRevoked  ExitCode = 55 // a revocation is not withdrawn, but replaced after the delay
)

// GasValue is enough value, in nanogram, for any message to a registry of a few hundred records. What the fees leave returns.
const GasValue = 100_000_000

// Params are what makes a registry: its address commits to them and to the contract's code.
type Params struct {
	Owner *address.Address // the only account that announces, cancels, withdraws and reclaims
	Delay uint32           // seconds from announcement to effect
	Salt  uint64           // tells apart registries of the same owner
}

var code = func() *cell.Cell {
	c, err := cell.FromBOC(codeBOC)
	if err != nil {
		panic("registry: embedded contract: " + err.Error()) // a build without its contract must not start
	}
	return c
}()

// ParseAddress reads a registry's address as people write it, EQ... or 0:....
func ParseAddress(s string) (*address.Address, error) {
	a, err := address.ParseAddr(s)
	if err != nil {
		a, err = address.ParseRawAddr(s)
	}
	if err == nil && (a.Type() != address.StdAddress || a.Workchain() != 0) {
		err = errors.New("not an account of the basechain")
	}
	if err != nil {
		return nil, fmt.Errorf("%.80q is no registry's address: %w", s, err)
	}
	return a.Bounce(true).Testnet(false), nil
}

// Code returns the contract's code.
func Code() *cell.Cell { return code }

// StateInit returns what deploys the registry: empty, so that its first records wait as any others do.
func (p Params) StateInit() (*tlb.StateInit, error) {
	if p.Owner == nil || p.Owner.Type() != address.StdAddress || p.Owner.Anycast() != nil {
		return nil, errors.New("registry: the owner must be a standard address")
	}
	data := cell.BeginCell().
		MustStoreAddr(p.Owner).
		MustStoreUInt(uint64(p.Delay), 32).
		MustStoreUInt(p.Salt, 64).
		MustStoreUInt(0, 32).
		MustStoreSlice(make([]byte, 32), 256).
		MustStoreUInt(0, 2). // no records, nothing announced
		EndCell()
	return &tlb.StateInit{Code: code, Data: data}, nil
}

// Address returns the registry's address in the basechain.
func (p Params) Address() (*address.Address, error) {
	init, err := p.StateInit()
	if err != nil {
		return nil, err
	}
	return init.CalcAddress(0), nil
}

// Kind says what a record's document is.
type Kind uint8

// The kinds of records.
const (
	Reference Kind = 1 // reference values of an enclave image
	Manifest  Kind = 2 // a model manifest
	Card      Kind = 3 // a host's card
)

// Status is the publisher's word on a record.
type Status uint8

// The statuses of records.
const (
	Current    Status = 1
	Deprecated Status = 2 // still good, soon to be withdrawn
	Revoked    Status = 3 // kept only to say so
)

// Record is what is published. Name and version identify it among those of its kind.
type Record struct {
	Kind      Kind
	Status    Status
	NotBefore uint32   // Unix time
	NotAfter  uint32   // Unix time; the record is void from then on
	Recipe    [32]byte // SHA-256 of the build recipe; zero where there is none
	Name      string   // 1 to MaxText bytes of UTF-8 without control characters
	Version   string   // up to MaxText bytes, the same
	Document  []byte   // up to MaxDocument bytes, in the format of its kind
}

// Validate refuses what [ParseRecord] would.
func (r *Record) Validate() error {
	switch {
	case r.Kind < Reference || r.Kind > Card:
		return fmt.Errorf("registry: unknown kind %d", r.Kind)
	case r.Status < Current || r.Status > Revoked:
		return fmt.Errorf("registry: unknown status %d", r.Status)
	case r.NotBefore >= r.NotAfter:
		return errors.New("registry: the record is never valid: not-before is not below not-after")
	case r.Name == "" || !text(r.Name):
		return fmt.Errorf("registry: name must be 1 to %d bytes of UTF-8 without control characters", MaxText)
	case !text(r.Version):
		return fmt.Errorf("registry: version must be at most %d bytes of UTF-8 without control characters", MaxText)
	case len(r.Document) > MaxDocument:
		return fmt.Errorf("registry: document of %d bytes, at most %d", len(r.Document), MaxDocument)
	}
	return nil
}

func text(s string) bool {
	return len(s) <= MaxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c >= 0x7f && c < 0xa0 })
}

// ValidAt reports whether the record may be relied on at a Unix time.
func (r *Record) ValidAt(now uint32) bool {
	return r.Status != Revoked && r.NotBefore <= now && now < r.NotAfter
}

// Key is where the record of this kind, name and version is kept: SHA-256("bombyx/1 registry" || kind || uint8 length || name ||
// uint8 length || version).
func (r *Record) Key() [32]byte { return Key(r.Kind, r.Name, r.Version) }

// Key is where the record of a kind, name and version is kept.
func Key(kind Kind, name, version string) [32]byte {
	b := append([]byte("bombyx/1 registry"), byte(kind), byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(version)))
	return sha256.Sum256(append(b, version...))
}

// Cell encodes the record:
//
//	record#42585231 kind:uint8 status:uint8 not_before:uint32 not_after:uint32 recipe:bits256
//	  name:^Bytes version:^Bytes document:^Snake = Record;
//
// Bytes are the bits of one cell; a Snake fills each cell with 127 bytes and goes on in its only reference.
func (r *Record) Cell() (*cell.Cell, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	bytes := func(b []byte) *cell.Builder { return cell.BeginCell().MustStoreSlice(b, uint(len(b))*8) }
	var document *cell.Cell
	chunks := slices.Collect(slices.Chunk(r.Document, snakeBytes))
	if len(chunks) == 0 {
		chunks = [][]byte{nil}
	}
	for _, chunk := range slices.Backward(chunks) {
		b := bytes(chunk)
		if document != nil {
			b.MustStoreRef(document)
		}
		document = b.EndCell()
	}
	return cell.BeginCell().MustStoreUInt(magicRecord, 32).
		MustStoreUInt(uint64(r.Kind), 8).MustStoreUInt(uint64(r.Status), 8).
		MustStoreUInt(uint64(r.NotBefore), 32).MustStoreUInt(uint64(r.NotAfter), 32).
		MustStoreSlice(r.Recipe[:], 256).
		MustStoreRef(bytes([]byte(r.Name)).EndCell()).MustStoreRef(bytes([]byte(r.Version)).EndCell()).MustStoreRef(document).
		EndCell(), nil
}

// ParseRecord decodes a record and refuses any other encoding than that of [Record.Cell].
func ParseRecord(c *cell.Cell) (*Record, error) {
	r, err := parseRecord(c)
	if err != nil {
		return nil, fmt.Errorf("registry: malformed record: %w", err)
	}
	if err = r.Validate(); err != nil {
		return nil, err
	}
	return r, nil
}

func parseRecord(c *cell.Cell) (*Record, error) {
	s, err := ordinary(c)
	if err != nil {
		return nil, err
	}
	if s.BitsLeft() != 32+8+8+32+32+256 || s.RefsNum() != 3 {
		return nil, errors.New("unexpected length")
	}
	head, err := s.LoadSlice(s.BitsLeft())
	if err != nil {
		return nil, err
	}
	if magic := binary.BigEndian.Uint32(head); magic != magicRecord {
		return nil, fmt.Errorf("begins with %08x, want %08x", magic, magicRecord)
	}
	r := &Record{
		Kind: Kind(head[4]), Status: Status(head[5]),
		NotBefore: binary.BigEndian.Uint32(head[6:]), NotAfter: binary.BigEndian.Uint32(head[10:]),
		Recipe: [32]byte(head[14:]),
	}
	name, err := loadBytes(s, 1)
	if err != nil {
		return nil, err
	}
	version, err := loadBytes(s, 1)
	if err != nil {
		return nil, err
	}
	r.Name, r.Version = string(name), string(version)
	r.Document, err = loadBytes(s, MaxDocument/snakeBytes)
	return r, err
}

// loadBytes reads a reference as a Snake of at most cells cells.
func loadBytes(s *cell.Slice, cells int) ([]byte, error) {
	ref, err := s.LoadRefCell()
	if err != nil {
		return nil, err
	}
	var out []byte
	for i := 0; ; i++ {
		if i == cells {
			return nil, errors.New("text or document is too long")
		}
		c, err := ordinary(ref)
		if err != nil {
			return nil, err
		}
		bits := c.BitsLeft()
		more := c.RefsNum() > 0
		if bits%8 != 0 || c.RefsNum() > 1 || bits > snakeBytes*8 || more && bits != snakeBytes*8 || i > 0 && bits == 0 {
			return nil, errors.New("bytes in another form than the one there is")
		}
		b, err := c.LoadSlice(bits)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
		if !more {
			return out, nil
		}
		if ref, err = c.LoadRefCell(); err != nil {
			return nil, err
		}
	}
}

// Entry is a record in effect, or announced.
type Entry struct {
	At      uint32 // Unix time: when it took effect or, announced, when it may
	Content *cell.Cell
}

// Registry is what the contract keeps on chain.
type Registry struct {
	Params
	Seqno     uint32   // changes so far
	History   [32]byte // hash of the last change, zero before the first
	Records   map[[32]byte]Entry
	Announced map[[32]byte]Entry
	// Account is where and when it was read; nil after [Parse].
	Account *ton.Account
}

// ErrNotRegistry says that an account is another contract than this version of the registry, or none.
var ErrNotRegistry = errors.New("registry: the account is not a registry of this version")

// ErrNotFound says that a registry vouches for no such record now.
var ErrNotFound = errors.New("registry: no such record in effect")

// Load reads a registry as a proven block has it. It checks that the code is the contract's and that the address commits to the
// owner and delay found; otherwise the error is [ErrNotRegistry].
func Load(ctx context.Context, chain ton.Chain, at *address.Address) (*Registry, error) {
	acc, err := chain.Account(ctx, at)
	if err != nil {
		return nil, err
	}
	return open(acc, at)
}

// OpenSaved reads a registry from a document of [ton.Account.Save]: see [ton.OpenSaved] for what is proven and what is not.
func OpenSaved(b []byte) (*Registry, error) {
	acc, err := ton.OpenSaved(b)
	if err != nil {
		return nil, err
	}
	return open(acc, acc.Address)
}

func open(acc *ton.Account, at *address.Address) (*Registry, error) {
	if !acc.Active() || acc.Code == nil || acc.Code.HashKey() != code.HashKey() {
		return nil, ErrNotRegistry
	}
	r, err := Parse(acc.Data)
	if err != nil {
		return nil, err
	}
	own, err := r.Params.Address()
	if err != nil {
		return nil, err
	}
	if !own.Equals(at) {
		return nil, fmt.Errorf("%w: its address commits to another owner or delay", ErrNotRegistry)
	}
	r.Account = acc
	return r, nil
}

// Parse reads the data cell of a registry. It does not show that the account is one: see [Load].
func Parse(data *cell.Cell) (*Registry, error) {
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("registry: malformed state: %w", err)
	}
	return r, nil
}

func parse(data *cell.Cell) (*Registry, error) {
	s, err := ordinary(data)
	if err != nil {
		return nil, err
	}
	var r Registry
	if r.Owner, err = s.LoadAddr(); err != nil {
		return nil, err
	}
	delay, err := s.LoadUInt(32)
	if err != nil {
		return nil, err
	}
	if r.Salt, err = s.LoadUInt(64); err != nil {
		return nil, err
	}
	seqno, err := s.LoadUInt(32)
	if err != nil {
		return nil, err
	}
	history, err := s.LoadSlice(256)
	if err != nil {
		return nil, err
	}
	r.Delay, r.Seqno, r.History = uint32(delay), uint32(seqno), [32]byte(history)
	if r.Records, err = loadEntries(s); err != nil {
		return nil, err
	}
	if r.Announced, err = loadEntries(s); err != nil {
		return nil, err
	}
	if s.BitsLeft() != 0 || s.RefsNum() != 0 {
		return nil, errors.New("unexpected length")
	}
	return &r, nil
}

// loadEntries reads a HashmapE 256 ^[at:uint32 content:^Cell].
func loadEntries(s *cell.Slice) (map[[32]byte]Entry, error) {
	dict, err := s.LoadDict(256)
	if err != nil {
		return nil, err
	}
	it, err := dict.Iterator(false, false)
	if err != nil {
		return nil, err
	}
	entries := map[[32]byte]Entry{}
	for it.Next() { // not all at once: a dictionary of shared cells can be larger than any memory
		if len(entries) == MaxEntries {
			return nil, fmt.Errorf("more than %d entries", MaxEntries)
		}
		key, err := it.Key().BeginParse()
		if err != nil {
			return nil, err
		}
		k, err := key.LoadSlice(256)
		if err != nil {
			return nil, err
		}
		if entries[[32]byte(k)], err = loadEntry(it.Value()); err != nil {
			return nil, err
		}
	}
	return entries, it.Err()
}

func loadEntry(value *cell.Slice) (Entry, error) {
	if value.BitsLeft() != 0 || value.RefsNum() != 1 {
		return Entry{}, errors.New("unexpected length of an entry")
	}
	ref, err := value.LoadRefCell()
	if err != nil {
		return Entry{}, err
	}
	e, err := ordinary(ref)
	if err != nil {
		return Entry{}, err
	}
	if e.BitsLeft() != 32 || e.RefsNum() != 1 {
		return Entry{}, errors.New("unexpected length of an entry")
	}
	at, err := e.LoadUInt(32)
	if err != nil {
		return Entry{}, err
	}
	content, err := e.LoadRefCell()
	return Entry{uint32(at), content}, err
}

// Lookup returns the record of this kind, name and version that may be relied on at a Unix time, or [ErrNotFound].
func (r *Registry) Lookup(kind Kind, name, version string, now uint32) (*Record, error) {
	e, ok := r.Records[Key(kind, name, version)]
	if !ok {
		return nil, fmt.Errorf("%w: %q %q", ErrNotFound, name, version)
	}
	rec, err := ParseRecord(e.Content)
	if err != nil {
		return nil, err
	}
	if rec.Key() != Key(kind, name, version) {
		return nil, errors.New("registry: a record is kept under another's key")
	}
	if !rec.ValidAt(now) {
		return nil, fmt.Errorf("%w: %q %q is revoked or out of its time", ErrNotFound, name, version)
	}
	return rec, nil
}

// Valid returns all records of a kind that may be relied on at a Unix time, by name and version. Records that this program cannot read
// are not among them.
func (r *Registry) Valid(kind Kind, now uint32) []*Record {
	var out []*Record
	for key, e := range r.Records {
		rec, err := ParseRecord(e.Content)
		if err == nil && rec.Kind == kind && rec.Key() == key && rec.ValidAt(now) {
			out = append(out, rec)
		}
	}
	slices.SortFunc(out, func(a, b *Record) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Version, b.Version)
	})
	return out
}

// Change is one step of a registry's history.
type Change struct {
	Previous [32]byte // History before
	Seqno    uint32   // counting from 1
	At       uint32   // Unix time of the block
	Key      [32]byte
	Content  [32]byte // hash of the record's content, zero for a withdrawal
}

// Hash is the registry's History after the change: the representation hash of
// change#42585201 previous:bits256 seqno:uint32 at:uint32 key:bits256 content:bits256.
func (c Change) Hash() [32]byte {
	return cell.BeginCell().MustStoreUInt(magicChange, 32).
		MustStoreSlice(c.Previous[:], 256).
		MustStoreUInt(uint64(c.Seqno), 32).MustStoreUInt(uint64(c.At), 32).
		MustStoreSlice(c.Key[:], 256).MustStoreSlice(c.Content[:], 256).
		EndCell().HashKey()
}

// Open returns the message that deploys the registry with money for its rent, from anyone.
func Open(p Params, amount uint64) (*tlb.InternalMessage, error) {
	init, err := p.StateInit()
	if err != nil {
		return nil, err
	}
	m := message(init.CalcAddress(0), amount, cell.BeginCell().EndCell())
	m.StateInit = init
	return m, nil
}

// Announce returns the owner's message that lets the record take effect after the delay. Announcing it again starts the delay
// again.
func Announce(registry *address.Address, r *Record, value uint64) (*tlb.InternalMessage, error) {
	content, err := r.Cell()
	if err != nil {
		return nil, err
	}
	key := r.Key()
	body := cell.BeginCell().MustStoreUInt(opAnnounce, 32).MustStoreSlice(key[:], 256).MustStoreRef(content).EndCell()
	return message(registry, value, body), nil
}

// Cancel returns the owner's message that takes an announcement back.
func Cancel(registry *address.Address, key [32]byte, value uint64) *tlb.InternalMessage {
	return message(registry, value, keyBody(opCancel, key))
}

// Apply returns the message by which, after the delay, anyone puts what was announced into effect.
func Apply(registry *address.Address, key [32]byte, value uint64) *tlb.InternalMessage {
	return message(registry, value, keyBody(opApply, key))
}

// Withdraw returns the owner's message that removes a record, and what was announced under its key, at once. The contract refuses
// it for a revoked record.
func Withdraw(registry *address.Address, key [32]byte, value uint64) *tlb.InternalMessage {
	return message(registry, value, keyBody(opWithdraw, key))
}

// Reclaim returns the owner's message that returns to it what the registry holds above keep nanogram.
func Reclaim(registry *address.Address, keep, value uint64) *tlb.InternalMessage {
	return message(registry, value, cell.BeginCell().MustStoreUInt(opReclaim, 32).MustStoreCoins(keep).EndCell())
}

func keyBody(op uint32, key [32]byte) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(uint64(op), 32).MustStoreSlice(key[:], 256).EndCell()
}

func message(to *address.Address, value uint64, body *cell.Cell) *tlb.InternalMessage {
	return &tlb.InternalMessage{IHRDisabled: true, Bounce: true, DstAddr: to, Amount: tlb.FromNanoTONU(value), Body: body}
}

func ordinary(c *cell.Cell) (*cell.Slice, error) {
	if c == nil {
		return nil, errors.New("no cell")
	}
	if c.IsSpecial() {
		return nil, errors.New("exotic cell")
	}
	return c.BeginParse()
}
