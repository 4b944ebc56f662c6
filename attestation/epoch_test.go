package attestation_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// Evidence that answers a block is as good as the block is young, and only where the policy says so.
func TestAppraiseEpoch(t *testing.T) {
	epoch := attestation.Epoch{Seqno: 50_000_000, RootHash: [32]byte{1}, Time: now.Add(-time.Minute)}
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	doc, err := n.Collect(t.Context(), epoch.Nonce(), encodeKeyset(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	allow := func(p *policy.Policy) { p.Epoch = &policy.Epoch{MaxAge: 600} }
	at := func(change func(*attestation.Epoch)) attestation.Epoch {
		e := epoch
		change(&e)
		return e
	}
	for _, c := range []struct {
		name   string
		policy func(*policy.Policy)
		epoch  attestation.Epoch
		want   []string
	}{
		{"recent block", allow, epoch, nil},
		{"the policy wants a nonce", nil, epoch, []string{"policy.epoch"}},
		{"block too old", allow, at(func(e *attestation.Epoch) { e.Time = now.Add(-10 * time.Minute) }), []string{"policy.epoch"}},
		{"almost too old", allow, at(func(e *attestation.Epoch) { e.Time = now.Add(-10*time.Minute + time.Second) }), nil},
		{"clock behind the chain's", allow, at(func(e *attestation.Epoch) { e.Time = now.Add(time.Minute) }), nil},
		{"block from the future", allow, at(func(e *attestation.Epoch) { e.Time = now.Add(3 * time.Minute) }), []string{"policy.epoch"}},
		{"time never set", allow, at(func(e *attestation.Epoch) { e.Time = time.Time{} }), []string{"policy.epoch"}},
		{"another block", allow, at(func(e *attestation.Epoch) { e.Seqno++ }), []string{"composite.nonce"}},
		{"another root hash", allow, at(func(e *attestation.Epoch) { e.RootHash[31] ^= 1 }), []string{"composite.nonce"}},
	} {
		r := verifier(t, attestationtest.CollateralOptions{}, c.policy).AppraiseEpoch(now, doc, c.epoch)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v stand in the way, want %v", c.name, got, c.want)
		}
		if c.want == nil && !r.ValidUntil.Equal(c.epoch.Time.Add(10*time.Minute)) {
			t.Errorf("%s: valid until %v", c.name, r.ValidUntil)
		}
	}
	// Nor does it pass for an answer to a nonce.
	if got := failing(verifier(t, attestationtest.CollateralOptions{}, allow).Appraise(now, doc, nonce)); !slices.Equal(got, []string{"composite.nonce"}) {
		t.Errorf("as an answer to a nonce: %v", got)
	}
}

func TestEpochEncoding(t *testing.T) {
	e := attestation.Epoch{Seqno: 0x01020304, RootHash: [32]byte{5}}
	b := e.AppendEncoded(nil)
	if got, err := attestation.ParseEpoch(b); err != nil || got != e || !bytes.Equal(b[:5], []byte{1, 2, 3, 4, 5}) {
		t.Errorf("%x: %+v, %v", b, got, err)
	}
	for _, bad := range [][]byte{nil, b[:35], append(b, 0)} {
		if _, err := attestation.ParseEpoch(bad); err == nil {
			t.Errorf("%d bytes accepted", len(bad))
		}
	}
}
