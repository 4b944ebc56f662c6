package ton

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// MaxSaved is the longest saved account, in bytes.
const MaxSaved = 64 << 20

// saved is an account with its proof, as a file keeps it.
type saved struct {
	Version  int    `json:"bombyx_saved_account"` // 1
	Address  string `json:"address"`              // raw form
	Seqno    uint32 `json:"seqno"`                // of the masterchain block that the proof begins at
	RootHash string `json:"root_hash"`            // of that block, hexadecimal
	FileHash string `json:"file_hash"`
	Answer   []byte `json:"account_state"` // TL liteServer.accountState, boxed, as a liteserver sent it
}

// Save returns the account as a document that [OpenSaved] reads: what a
// liteserver answered, with its Merkle proofs from the block acc.Head.
func (a *Account) Save() ([]byte, error) {
	if a.answer == nil {
		return nil, errors.New("ton: an account that no liteserver proved cannot be saved")
	}
	answer, err := tl.Serialize(*a.answer, true)
	if err != nil {
		return nil, fmt.Errorf("ton: save: %w", err)
	}
	return json.Marshal(saved{1, a.Address.StringRaw(), a.Head.Seqno, hex.EncodeToString(a.Head.RootHash[:]), hex.EncodeToString(a.Head.FileHash[:]), answer})
}

// OpenSaved reads a document of [Account.Save] and checks its proofs, offline.
// They show what the account was in the masterchain block a.Head, and on which
// network; that this block is on the network's chain, the caller must know or
// ask [Client.MasterchainBlock]. Head.Time is the account's own block's.
func OpenSaved(b []byte) (a *Account, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("ton: saved account: malformed proof: %v", r)
		}
	}()
	var s saved
	if err := strictjson.Decode(b, MaxSaved, &s); err != nil {
		return nil, fmt.Errorf("ton: saved account: %w", err)
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("ton: saved account: version %d, this program reads 1", s.Version)
	}
	at, err := address.ParseRawAddr(s.Address)
	if err != nil {
		return nil, fmt.Errorf("ton: saved account: %w", err)
	}
	root, err1 := hex.DecodeString(s.RootHash)
	file, err2 := hex.DecodeString(s.FileHash)
	if err1 != nil || err2 != nil || len(root) != 32 || len(file) != 32 {
		return nil, errors.New("ton: saved account: the block's hashes are not 64 hexadecimal digits")
	}
	var st tonapi.AccountState
	rest, err := tl.Parse(&st, s.Answer, true)
	if err == nil && len(rest) > 0 {
		err = errors.New("data after the answer")
	}
	if err != nil {
		return nil, fmt.Errorf("ton: saved account: %w", err)
	}
	id := &tonapi.BlockIDExt{Workchain: masterchain, Shard: fullShard, SeqNo: s.Seqno, RootHash: root, FileHash: file}
	if a, err = openAccount(&st, id, at); err != nil {
		return nil, fmt.Errorf("ton: saved account: %w", err)
	}
	a.Head = Head{Seqno: s.Seqno, RootHash: [32]byte(root), FileHash: [32]byte(file), Time: time.Unix(int64(a.time), 0)}
	return a, nil
}
