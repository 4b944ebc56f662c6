package attestation_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
)

// A client chooses a nonce, gets Evidence for it from a node, and appraises it before it sends anything. The node here is a
// mock one, so the policy pins the mock authority's roots; nothing else differs from production.
func Example() {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	authority := attestationtest.New("example")
	node, err := authority.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		log.Fatal(err)
	}
	keys := keyset.Keyset{KeyConfigs: []byte("HPKE key configurations"), ReceiptKey: make(ed25519.PublicKey, 32), NotAfter: now.Add(10 * time.Minute)}
	encoded, err := keys.Encode()
	if err != nil {
		log.Fatal(err)
	}
	nonce := [32]byte{1, 2, 3} // from crypto/rand
	evidence, err := node.Collect(context.Background(), nonce, encoded)
	if err != nil {
		log.Fatal(err)
	}

	published, err := authority.Collateral(attestationtest.CollateralOptions{Now: now})
	if err != nil {
		log.Fatal(err)
	}
	bundle, err := collateral.Parse(published)
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := attestation.NewVerifier(authority.Policy(now), bundle)
	if err != nil {
		log.Fatal(err)
	}
	result := verifier.Appraise(now, evidence, nonce)
	fmt.Println(result.Verdict, result.TCBStatus, "until", result.ValidUntil.Format(time.Kitchen))

	// The same evidence answers no other nonce.
	fmt.Println(verifier.Appraise(now, evidence, [32]byte{9}).Err())
	// Output:
	// verified UpToDate until 12:10PM
	// attestation: rejected: composite.nonce: the evidence answers another request: it may be a replay
}
