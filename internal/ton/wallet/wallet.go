// Package wallet is a TON wallet: a V5R1 contract owned by one Ed25519 key,
// which a 24-word TON mnemonic (not BIP-39) backs up.
//
// A wallet's address depends on the network's global id, so the same words are
// another account on mainnet (-239), testnet (-3) and the devnet: money sent
// to one never shows up on the other.
package wallet

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	tonwallet "github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/bombyx-network/bombyx/internal/filelock"
	"github.com/bombyx-network/bombyx/internal/ton"
)

const (
	// TTL is how long a signed message may take effect, by the chain's clock.
	TTL = 60 * time.Second
	// MaxMessages is how many messages the contract sends at once.
	MaxMessages = 255
	// FeeReserve is what must remain beside the amounts to pay the fees of one
	// message: several times what a plain transfer costs, and enough for a first
	// order that deploys the wallet and, by it, a contract (0.0112 GRAM).
	FeeReserve = ton.Gram / 50

	wordCount    = 24
	opSignedExt  = 0x7369676e // "sign"
	modePaidFees = 1          // fees come from the balance, not from the amount
	modeNoFail   = 2          // the contract insists: a failed send must not fail the whole
)

var (
	// ErrWords is a mnemonic that is not one.
	ErrWords = errors.New("not a 24-word TON mnemonic")
	// ErrBalance means that the wallet does not hold enough.
	ErrBalance = errors.New("the wallet does not hold enough")
	// ErrNotSent means that the wallet took the order and sent nothing, or not everything.
	ErrNotSent = errors.New("the wallet did not send every message")
	// ErrNetwork means that wallet and chain are of different networks.
	ErrNetwork = errors.New("the wallet belongs to another network")
)

// Wallet is one account. It is safe for concurrent use: sends go one by one.
type Wallet struct {
	globalID int32
	words    []byte // joined by spaces
	key      ed25519.PrivateKey
	init     *tlb.StateInit
	addr     *address.Address

	path    string // of its file; empty for one that has none
	waiting func() // is told once when another process's turn has to be waited for
	sending sync.Mutex
}

// New makes a wallet with fresh words. Save it, or show its words, before it holds money.
func New(globalID int32) (*Wallet, error) {
	return FromWords(strings.Join(tonwallet.NewSeed(), " "), globalID)
}

// FromWords opens the wallet that a mnemonic backs up. Words may be separated
// by any white space and in any case.
func FromWords(mnemonic string, globalID int32) (*Wallet, error) {
	words := strings.Fields(strings.ToLower(mnemonic))
	if len(words) != wordCount {
		return nil, fmt.Errorf("wallet: %w: it has %d words", ErrWords, len(words))
	}
	key, err := tonwallet.SeedToPrivateKeyWithOptions(words)
	if err != nil { // the library's text quotes a word: keep it out
		for i, w := range words {
			if !known(w) {
				return nil, fmt.Errorf("wallet: %w: word %d is not in the list", ErrWords, i+1)
			}
		}
		return nil, fmt.Errorf("wallet: %w: the words do not belong together: check their order, and that it is no BIP-39 phrase", ErrWords)
	}
	w := &Wallet{globalID: globalID, words: []byte(strings.Join(words, " ")), key: key}
	pub := key.Public().(ed25519.PublicKey)
	cfg := tonwallet.ConfigV5R1Final{NetworkGlobalID: globalID}
	if w.init, err = tonwallet.GetStateInit(pub, cfg, 0); err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	root, err := tlb.ToCell(w.init)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	w.addr = address.NewAddress(0, 0, root.Hash())
	w.addr.SetBounce(false)
	w.addr.SetTestnetOnly(globalID == -3)
	return w, nil
}

// known says whether a word is in the mnemonic list.
func known(word string) bool {
	same := make([]string, wordCount)
	for i := range same {
		same[i] = word
	}
	_, err := tonwallet.SeedToPrivateKeyWithOptions(same)
	return err == nil || !strings.HasPrefix(err.Error(), "unknown word")
}

// Words is the mnemonic: whoever reads it owns the money.
func (w *Wallet) Words() string { return string(w.words) }

// Address is the wallet's address; it prints as UQ... (0Q... on testnet).
func (w *Wallet) Address() *address.Address { return w.addr.Copy() }

// Link opens a transfer to the wallet in a wallet app: a ton:// link, also
// fit for a QR code. With amount 0 the sender chooses.
func (w *Wallet) Link(amount ton.Nano) string {
	link := "ton://transfer/" + w.addr.String()
	if amount > 0 {
		link += "?amount=" + strconv.FormatUint(uint64(amount), 10)
	}
	return link
}

// GlobalID is the network that the wallet belongs to.
func (w *Wallet) GlobalID() int32 { return w.globalID }

// PublicKey is the key that owns the wallet.
func (w *Wallet) PublicKey() ed25519.PublicKey { return w.key.Public().(ed25519.PublicKey) }

// Wipe overwrites the secrets. The wallet is of no use afterwards.
func (w *Wallet) Wipe() {
	clear(w.words)
	clear(w.key)
}

// Message is one transfer out of the wallet.
type Message struct {
	To     *address.Address
	Amount ton.Nano
	// Bounce returns the money when the receiver fails or does not exist. Set
	// it for contracts, not for a wallet that may not be deployed yet.
	Bounce bool
	Body   *cell.Cell     // nil is empty
	Init   *tlb.StateInit // deploys the receiver; nil for most
}

// MaxComment is the longest comment, in bytes. FeeReserve pays for it.
const MaxComment = 500

// Comment is a body that wallets show as text.
func Comment(text string) (*cell.Cell, error) {
	if len(text) > MaxComment {
		return nil, fmt.Errorf("wallet: comment: %d bytes, at most %d", len(text), MaxComment)
	}
	c, err := tonwallet.CreateCommentCell(text)
	if err != nil {
		return nil, fmt.Errorf("wallet: comment: %w", err)
	}
	return c, nil
}

// Balance is what the wallet holds; an account that does not exist holds nothing.
func (w *Wallet) Balance(ctx context.Context, chain ton.Chain) (ton.Nano, error) {
	if err := w.check(chain); err != nil {
		return 0, err
	}
	acc, err := chain.Account(ctx, w.addr)
	if err != nil {
		return 0, err
	}
	return acc.Balance, nil
}

// Affords returns ErrBalance unless the wallet holds the amount and FeeReserve.
func (w *Wallet) Affords(ctx context.Context, chain ton.Chain, amount ton.Nano) error {
	need, err := amount.Add(FeeReserve)
	if err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	balance, err := w.Balance(ctx, chain)
	if err != nil {
		return err
	}
	return w.covers(balance, need)
}

func (w *Wallet) covers(balance, need ton.Nano) error {
	if balance < need {
		return fmt.Errorf("wallet: %w: %s GRAM are needed with room for fees, %s holds %s: add GRAM to it", ErrBalance, need, w.addr, balance)
	}
	return nil
}

func (w *Wallet) check(chain ton.Chain) error {
	if id := chain.GlobalID(); id != w.globalID {
		return fmt.Errorf("wallet: %w: wallet %d, chain %d: import the words for this network", ErrNetwork, w.globalID, id)
	}
	return nil
}

// Order is a signed external message. Only one order with the same Seqno can
// ever take effect, so one whose fate is unknown may be sent again as it is.
//
// An order that another one overtook, such as one from a phone with the same
// words, is never signed anew here, under the next Seqno: that would be a second
// payment if the first took effect after all, and only the user knows whether
// the other one was the same payment.
type Order struct {
	BOC     []byte
	Seqno   uint32
	Expires time.Time
	count   int
	after   uint64 // logical time of the wallet's last transaction before it
}

// Sign makes an order for the wallet's present state, after checking that the
// balance covers the amounts and FeeReserve for each message.
func (w *Wallet) Sign(ctx context.Context, chain ton.Chain, msgs ...Message) (*Order, error) {
	if err := w.check(chain); err != nil {
		return nil, err
	}
	if len(msgs) == 0 || len(msgs) > MaxMessages {
		return nil, fmt.Errorf("wallet: %d messages: one to %d can be sent at once", len(msgs), MaxMessages)
	}
	need := ton.Nano(0)
	var err error
	out := make([]*tonwallet.Message, len(msgs))
	for i, m := range msgs {
		if m.To == nil || m.To.Type() != address.StdAddress {
			return nil, fmt.Errorf("wallet: message %d: a standard address is needed", i+1)
		}
		if m.To.IsTestnetOnly() && w.globalID != -3 {
			return nil, fmt.Errorf("wallet: message %d: %s is a testnet address: %w", i+1, m.To, ErrNetwork)
		}
		body := m.Body
		if body == nil {
			body = cell.BeginCell().EndCell()
		}
		out[i] = &tonwallet.Message{Mode: modePaidFees | modeNoFail, InternalMessage: &tlb.InternalMessage{
			IHRDisabled: true, Bounce: m.Bounce, DstAddr: m.To, Amount: m.Amount.Coins(), StateInit: m.Init, Body: body}}
		for _, n := range []ton.Nano{m.Amount, FeeReserve} {
			if need, err = need.Add(n); err != nil {
				return nil, fmt.Errorf("wallet: %w", err)
			}
		}
	}
	acc, err := chain.Account(ctx, w.addr)
	if err != nil {
		return nil, err
	}
	if err = w.covers(acc.Balance, need); err != nil {
		return nil, err
	}
	order := &Order{Expires: acc.Head.Time.Add(TTL), count: len(msgs), after: acc.LastLT}
	msg := &tlb.ExternalMessage{DstAddr: w.addr}
	if acc.Active() {
		if order.Seqno, err = seqno(acc.Data); err != nil {
			return nil, fmt.Errorf("wallet: %s is not a V5R1 wallet: %w", w.addr, err)
		}
	} else {
		msg.StateInit = w.init
	}
	actions, err := tonwallet.PackV5OutActions(out)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	id := tonwallet.V5R1ID{NetworkGlobalID: w.globalID}
	b := cell.BeginCell()
	for _, v := range []uint64{opSignedExt, uint64(id.Serialized()), uint64(order.Expires.Unix()), uint64(order.Seqno)} {
		if err = b.StoreUInt(v, 32); err != nil {
			return nil, fmt.Errorf("wallet: %w", err)
		}
	}
	if err = b.StoreBuilder(actions); err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	signature := b.Copy().EndCell().Sign(w.key)
	if err = b.StoreSlice(signature, 512); err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	msg.Body = b.EndCell()
	root, err := tlb.ToCell(msg)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	order.BOC = root.ToBOC()
	return order, nil
}

// seqno is the order that a deployed wallet waits for:
// is_signature_allowed:Bool seqno:uint32 ...
func seqno(data *cell.Cell) (uint32, error) {
	if data == nil {
		return 0, errors.New("no data")
	}
	s, err := data.BeginParse()
	if err != nil {
		return 0, err
	}
	if _, err = s.LoadBoolBit(); err != nil {
		return 0, err
	}
	n, err := s.LoadUInt(32)
	return uint32(n), err
}

// Send signs the messages, sends them and returns the wallet's transaction
// once it is proven. After ton.ErrUnconfirmed the order may still take effect
// until TTL is over: look before paying again. All who loaded the wallet from one
// file take turns, whatever process they are in: of two orders signed for one
// state the second would be of no effect, which shows only when it expires.
func (w *Wallet) Send(ctx context.Context, chain ton.Chain, msgs ...Message) (*tlb.Transaction, error) {
	w.sending.Lock()
	defer w.sending.Unlock()
	done, err := w.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	order, err := w.Sign(ctx, chain, msgs...)
	if err != nil {
		return nil, err
	}
	return order.Send(ctx, chain)
}

// OnWait has f told, once for each Send, when another process's turn has to be
// waited for. Set it before the first Send.
func (w *Wallet) OnWait(f func()) { w.waiting = f }

// turn waits until no other process sends from the wallet's file.
func (w *Wallet) turn(ctx context.Context) (done func(), err error) {
	if w.path == "" {
		return func() {}, nil
	}
	f, err := os.Open(w.path)
	if err != nil { // moved away or replaced: it is nobody else's turn by it
		return func() {}, nil
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for first := true; errors.Is(filelock.Try(f), filelock.ErrHeld); first = false { // a file system without locks has no turns
		if first && w.waiting != nil {
			w.waiting()
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wallet: nothing was sent: another process is sending from it: %w", ctx.Err())
		}
	}
	return func() { f.Close() }, nil
}

// Send sends the order and returns the wallet's transaction once it is proven, or
// ton.ErrOvertaken once it is proven that another one with its Seqno took effect.
// The contract skips a message that it cannot pay: that is ErrNotSent.
func (o *Order) Send(ctx context.Context, chain ton.Chain) (*tlb.Transaction, error) {
	tx, err := chain.SendUnless(ctx, o.BOC, o.Expires, o.after, func(acc *ton.Account) bool {
		n, err := seqno(acc.Data)
		return err == nil && acc.Active() && n > o.Seqno
	})
	if err != nil {
		return nil, err
	}
	sent := 0
	if tx.IO.Out != nil {
		list, err := tx.IO.Out.ToSlice()
		if err != nil {
			return tx, fmt.Errorf("wallet: messages of the transaction: %w", err)
		}
		sent = len(list)
	}
	if sent != o.count {
		return tx, fmt.Errorf("wallet: %w: %d of %d left it; its balance or a message's size may be the reason", ErrNotSent, sent, o.count)
	}
	return tx, nil
}
