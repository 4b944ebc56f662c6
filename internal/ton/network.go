package ton

import (
	"encoding/base64"
	"fmt"

	tonapi "github.com/xssnick/tonutils-go/ton"
)

// A network is one that this program knows, and trusts from a key block of its own.
type network struct {
	name     string
	globalID int32             // configuration parameter 19
	zero     [32]byte          // root hash of the zero state: what makes a network this one
	pin      tonapi.BlockIDExt // key block that every proof begins at
}

// networks are the public ones. Their hashes are spelled as TON publishes them, in the zero_state and init_block of
// global.config.json (commit 30e3111, 2025-02-20) and testnet-global.config.json (commit f9dc716, 2024-05-07) of
// github.com/ton-blockchain/ton-blockchain.github.io: compare them with any copy of these files.
var networks = []network{
	{"mainnet", -239, hash("F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk="),
		keyBlock(43792209, "AvaCaskwbUZCAOkULgK9zqtArFavpqg/KMTu9qO4M1U=", "mlMbjSH0ahszX7yNIQOOawmCJxzofpaTeqlsrQspqUk=")},
	{"testnet", -3, hash("gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg="),
		keyBlock(17908219, "y6qWqhCnLgzWHjUFmXysaiOljuK5xVoCRMLzUwGInVM=", "Y/GziXxwuYte0AM4WT7tTWsCx+6rcfLpGmRaEQwhUKI=")},
}

func hash(s string) [32]byte {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 32 {
		panic("ton: malformed pin " + s) // a constant of this file: a build without its pins must not start
	}
	return [32]byte(b)
}

func keyBlock(seqno uint32, root, file string) tonapi.BlockIDExt {
	r, f := hash(root), hash(file)
	return tonapi.BlockIDExt{Workchain: masterchain, Shard: fullShard, SeqNo: seqno, RootHash: r[:], FileHash: f[:]}
}

// knownNetwork returns the network with this zero state, nil for a private one.
func knownNetwork(zero [32]byte) *network {
	for i := range networks {
		if networks[i].zero == zero {
			return &networks[i]
		}
	}
	return nil
}

// checkID refuses a chain that states another global id than its zero state stands for: what is signed for one network must
// never be signed on the word of another. n is nil for a private network.
func (n *network) checkID(id int32) error {
	if n != nil {
		if n.globalID != id {
			return fmt.Errorf("the chain states global id %d, but %s has %d", id, n.name, n.globalID)
		}
		return nil
	}
	for _, k := range networks {
		if k.globalID == id {
			return fmt.Errorf("the chain states %s's global id %d, but its zero state is not %s's", k.name, id, k.name)
		}
	}
	return nil
}
