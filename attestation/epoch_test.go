package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
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

// The same, saved as a host gives it: the file states the block, and somebody else must prove it.
func TestSavedEpoch(t *testing.T) {
	epoch := attestation.Epoch{Seqno: 50_000_000, RootHash: [32]byte{1}, Time: now.Add(-time.Minute)}
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	doc, err := n.Collect(t.Context(), epoch.Nonce(), encodeKeyset(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	saved := append(epoch.AppendEncoded(nil), doc...)
	allow := func(p *policy.Policy) { p.Epoch = &policy.Epoch{MaxAge: 600} }
	proven := func(change func(*attestation.Epoch)) attestation.Expected {
		e := epoch
		if change != nil {
			change(&e)
		}
		return attestation.Expected{Epoch: &e}
	}
	another := epoch
	another.Seqno++
	for _, c := range []struct {
		name   string
		data   []byte
		policy func(*policy.Policy)
		want   attestation.Expected
		fails  []string
	}{
		{"proven", saved, allow, proven(nil), nil},
		{"the document alone, proven", doc, allow, proven(nil), nil},
		{"not proven", saved, allow, attestation.Expected{}, []string{"policy.epoch"}},
		{"not proven, and not accepted", saved, nil, attestation.Expected{}, []string{"policy.epoch"}},
		{"proven, and not accepted", saved, nil, proven(nil), []string{"policy.epoch"}},
		{"too old", saved, allow, proven(func(e *attestation.Epoch) { e.Time = now.Add(-10 * time.Minute) }), []string{"policy.epoch"}},
		{"proven without a time", saved, allow, proven(func(e *attestation.Epoch) { e.Time = time.Time{} }), []string{"policy.epoch"}},
		{"another block proven", saved, allow, proven(func(e *attestation.Epoch) { e.Seqno++ }), []string{"composite.nonce"}},
		{"another block stated", append(another.AppendEncoded(nil), doc...), allow, attestation.Expected{}, []string{"composite.nonce", "policy.epoch"}},
		{"a nonce of our own", saved, allow, attestation.Expected{Nonce: nonce[:]}, []string{"composite.nonce"}},
	} {
		r, err := verifier(t, attestationtest.CollateralOptions{}, c.policy).AppraiseSaved(now, c.data, c.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := failing(r); !slices.Equal(got, c.fails) || r.Kind != attestation.KindEvidence {
			t.Errorf("%s: %v stand in the way, want %v", c.name, got, c.fails)
		}
		if missing := errors.Is(r.Err(), check.ErrMissing); missing != (c.name == "not proven") {
			t.Errorf("%s: collateral missing: %v", c.name, r.Missing)
		}
		if r.Err() == nil && r.EvidenceDigest != sha256.Sum256(doc) {
			t.Errorf("%s: not the digest of the document", c.name)
		}
	}
	v := verifier(t, attestationtest.CollateralOptions{}, allow)
	both := proven(nil)
	both.Nonce = nonce[:]
	if _, err := v.AppraiseSaved(now, saved, both); err == nil {
		t.Error("a nonce and an epoch at once")
	}
	if _, err := v.AppraiseSaved(now, n.Quote([64]byte{}), proven(nil)); err == nil {
		t.Error("an epoch for a bare quote")
	}
	for name, b := range map[string][]byte{"document": doc, "epoch": saved[:attestation.EpochSize], "nothing": nil, "shifted": saved[1:], "another document": append(epoch.AppendEncoded(nil), "{}"...)} {
		if _, _, ok := attestation.SplitEpoch(b); ok {
			t.Errorf("%s was taken for evidence of an epoch", name)
		}
	}
	if e, got, ok := attestation.SplitEpoch(saved); !ok || e.Nonce() != epoch.Nonce() || !bytes.Equal(got, doc) {
		t.Error("not split where the document begins")
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
