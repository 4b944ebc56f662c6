package devnet

import (
	"crypto/ed25519"
	_ "embed"
	"fmt"
	"hash/crc32"
	"math/big"

	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// mainnetParams is the dictionary of the TON mainnet's own configuration
// parameters listed in mainnetParamIDs: gas, storage and forwarding prices,
// limits, TVM version. A test compares it with the source it was cut from.
//
//go:embed mainnet_params.boc
var mainnetParams []byte

var mainnetParamIDs = []int32{0, 1, 2, 8, 17, 18, 20, 21, 22, 23, 24, 25, 29, 45}

// validator is the one validator that signs every masterchain block.
type validator struct {
	key     ed25519.PrivateKey
	id      []byte // short id: hash of the TL public key
	setHash uint32 // gen_validator_list_hash_short of blocks signed by it
}

func newValidator(key ed25519.PrivateKey) (*validator, error) {
	pub := key.Public().(ed25519.PublicKey)
	id, err := tl.Hash(keys.PublicKeyED25519{Key: pub})
	if err != nil {
		return nil, err
	}
	set, err := tl.Serialize(tonapi.ValidatorSetHashable{
		Validators: []tonapi.ValidatorItemHashable{{Key: pub, Weight: 1, Addr: make([]byte, 32)}},
	}, true)
	if err != nil {
		return nil, err
	}
	return &validator{key: key, id: id, setHash: crc32.Checksum(set, crc32.MakeTable(crc32.Castagnoli))}, nil
}

// sign signs a masterchain block as its validators do (TL ton.blockId).
func (v *validator) sign(root, file []byte) ([]byte, error) {
	msg, err := tl.Serialize(tonapi.BlockID{RootHash: root, FileHash: file}, true)
	if err != nil {
		return nil, err
	}
	return ed25519.Sign(v.key, msg), nil
}

// buildConfig returns the root of the configuration dictionary: mainnet's
// prices and limits, this network's global id, workchain and validator.
func buildConfig(globalID int32, tvmVersion, genesis uint32, val *validator, shardRoot, shardFile []byte) (*cell.Cell, error) {
	src, err := cell.FromBOC(mainnetParams)
	if err != nil {
		return nil, fmt.Errorf("embedded parameters: %w", err)
	}
	from := tlb.BlockchainConfig{Root: src}
	dict := cell.NewDict(32)
	put := func(id int32, w *writer) {
		if err != nil {
			return
		}
		var v *cell.Cell
		if v, err = newWriter().sub(w).cell(); err == nil {
			err = dict.SetIntKey(big.NewInt(int64(id)), v)
		}
	}
	for _, id := range mainnetParamIDs {
		v := from.Get(id)
		if v == nil {
			return nil, fmt.Errorf("embedded parameters lack %d", id)
		}
		put(id, newWriter().inline(v))
	}
	if tvmVersion != 0 { // capabilities#c4 version:uint32 capabilities:uint64
		put(8, newWriter().uint(0xc4, 8).uint(uint64(tvmVersion), 32).uint(0, 64))
	}

	// workchain#a6 with wfmt_basic#1, one shard that never splits
	basechain, err := newWriter().uint(0xa6, 8).uint(uint64(genesis), 32).uint(0, 8).uint(0, 8).uint(0, 8).
		bool(true).bool(true).bool(true).uint(0, 13).bytes(shardRoot).bytes(shardFile).uint(0, 32).
		uint(1, 4).int32(-1).uint(0, 64).cell()
	if err != nil {
		return nil, err
	}
	workchains := cell.NewDict(32)
	if err = workchains.SetIntKey(big.NewInt(0), basechain); err != nil {
		return nil, err
	}
	put(12, newWriter().dict(workchains))
	put(19, newWriter().int32(globalID))
	// catchain_config_new#c2, no shuffling
	put(28, newWriter().uint(0xc2, 8).uint(0, 8).uint(250, 32).uint(250, 32).uint(1000, 32).uint(1, 32))

	// validator_addr#73 { ed25519_pubkey#8e81278a, weight 1, adnl address }
	descr, err2 := newWriter().uint(0x73, 8).uint(0x8e81278a, 32).bytes(val.key.Public().(ed25519.PublicKey)).
		uint(1, 64).bytes(make([]byte, 32)).cell()
	if err2 != nil {
		return nil, err2
	}
	set := cell.NewDict(16)
	if err2 = set.SetIntKey(big.NewInt(0), descr); err2 != nil {
		return nil, err2
	}
	// validators_ext#12
	put(34, newWriter().uint(0x12, 8).uint(uint64(genesis), 32).uint(0xffffffff, 32).uint(1, 16).uint(1, 16).uint(1, 64).dict(set))
	if err != nil {
		return nil, err
	}
	return dict.AsCell(), nil
}
