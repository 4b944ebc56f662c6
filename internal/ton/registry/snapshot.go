package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/xssnick/tonutils-go/address"
)

// Snapshot returns what the registry says, as an appraisal policy takes it. The registry must have been read from a chain or a
// saved account. Records that this program cannot read vouch for nothing and are left out.
func (r *Registry) Snapshot() (*policy.Snapshot, error) {
	if r.Account == nil {
		return nil, errors.New("registry: nothing proves what it says")
	}
	s := &policy.Snapshot{Network: r.Account.GlobalID(), Address: policy.Account(r.Account.Address.Data()), Delay: r.Delay, Time: r.Account.Head.Time, Changes: r.Seqno}
	for key, e := range r.Records {
		rec, err := ParseRecord(e.Content)
		if err != nil || rec.Key() != key || e.At > uint32(s.Time.Unix()) {
			continue
		}
		s.Records = append(s.Records, policy.Record{Kind: policy.RecordKind(rec.Kind), Status: policy.RecordStatus(rec.Status),
			NotBefore: time.Unix(int64(rec.NotBefore), 0), NotAfter: time.Unix(int64(rec.NotAfter), 0), Name: rec.Name, Version: rec.Version, Document: bytes.Clone(rec.Document)})
	}
	slices.SortFunc(s.Records, func(a, b policy.Record) int { // the same snapshot for the same block
		return bytes.Compare([]byte(a.Name+"\x00"+a.Version), []byte(b.Name+"\x00"+b.Version))
	})
	return s, nil
}

// Snapshots reads the registries that a policy names, with proofs. It fails if one of them cannot be read.
func Snapshots(ctx context.Context, chain ton.Chain, publishers []policy.Publisher) ([]*policy.Snapshot, error) {
	var out []*policy.Snapshot
	for _, p := range publishers {
		if p.Network != chain.GlobalID() {
			return nil, fmt.Errorf("registry: %q is on network %d, the chain is %d", p.Name, p.Network, chain.GlobalID())
		}
		r, err := Load(ctx, chain, address.NewAddress(0, 0, p.Address[:]))
		if err != nil {
			return nil, fmt.Errorf("registry %q: %w", p.Name, err)
		}
		s, err := r.Snapshot()
		if err != nil {
			return nil, fmt.Errorf("registry %q: %w", p.Name, err)
		}
		out = append(out, s)
	}
	return out, nil
}
