package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/ton"
)

// Blocks proves masterchain blocks of a TON network, as [ton.Client] does.
type Blocks interface {
	// MasterchainBlock is the block with this sequence number. An error means that it could not be proven.
	MasterchainBlock(ctx context.Context, seqno uint32) (ton.Head, error)
}

// blockTimeout bounds the wait for the chain: a nonce needs none.
const blockTimeout = 10 * time.Second

// epochEvidence gets and appraises Evidence that answers a recent block instead of a nonce of this client's own. The host
// names the block; that it exists, and when it was made, is this client's own chain's word. Whatever is wrong, nothing was
// sent and nothing is lost: the caller asks again with a nonce, which is the stricter question.
func (t *Transport) epochEvidence(ctx context.Context, id string) (doc []byte, r *attestation.Result, err error) {
	b, fault := t.call(ctx, http.MethodGet, "/v1/enclaves/"+id+"/epoch", nil)
	if fault != nil {
		return nil, nil, fault
	}
	epoch, err := attestation.ParseEpoch(b[:min(len(b), attestation.EpochSize)])
	if err != nil {
		return nil, nil, err
	}
	doc = b[attestation.EpochSize:]
	ctx, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	block, err := t.cfg.Blocks.MasterchainBlock(ctx, epoch.Seqno)
	if err != nil {
		return nil, nil, fmt.Errorf("client: the epoch's block: %w", err)
	}
	if block.Seqno != epoch.Seqno || block.RootHash != epoch.RootHash {
		return nil, nil, fmt.Errorf("client: the host's block %d is not this network's", epoch.Seqno)
	}
	epoch.Time = block.Time
	r = t.verifier.AppraiseEpoch(t.cfg.Now(), doc, epoch)
	t.appraised(id, doc, r)
	return doc, r, r.Err()
}

// evidence gets and appraises Evidence of an enclave: of an epoch where policy and host allow it, else for a nonce.
func (t *Transport) evidence(ctx context.Context, id string) ([]byte, *attestation.Result, *apierror.Error) {
	t.mu.Lock()
	lost := t.lost[id]
	delete(t.lost, id)
	t.mu.Unlock()
	if t.cfg.Blocks != nil && t.cfg.Policy.Epoch != nil && !lost {
		doc, r, err := t.epochEvidence(ctx, id)
		if err == nil {
			return doc, r, nil
		}
		if t.cfg.Trace.NoEpoch != nil {
			t.cfg.Trace.NoEpoch(id, err)
		}
	}
	return t.freshEvidence(ctx, id)
}
