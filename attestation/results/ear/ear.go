// Package ear writes Attestation Results as EAR tokens (draft-ietf-rats-ear, EAT Attestation Results): a signed JWT with one
// submodule per device. It is a room of its own because the library behind it links net/http, which nothing that appraises
// may do.
package ear

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/veraison/ear"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// Names of submodules. Devices are called "gpu0", "switch0" and so on.
const (
	CPU  = "cpu"  // the confidential VM
	Node = "node" // what holds between the devices of a list that says nothing of a confidential VM
)

// Options says who speaks.
type Options struct {
	// Key signs the token (EdDSA).
	Key ed25519.PrivateKey
	// Build and Developer name the verifier (AR4SI, section 2.2.2).
	Build, Developer string
	// Nonce echoes the relying party's nonce, 8 to 88 characters; empty for none.
	Nonce string
}

// Sign returns the Result as a compact JWT that expires with the Result. A rejected Result becomes a token, too: every
// submodule in it is contraindicated, so that nobody can take one good device for a good node.
func Sign(r *attestation.Result, o Options) (string, error) {
	if len(o.Key) != ed25519.PrivateKeySize {
		return "", errors.New("ear: no Ed25519 key to sign with")
	}
	verified := r.Err() == nil
	if len(r.Checks) == 0 {
		return "", errors.New("ear: nothing was appraised")
	}
	profile, iat := ear.EatProfile, r.AppraisedAt.Unix()
	doc := ear.AttestationResult{Profile: &profile, IssuedAt: &iat, Submods: map[string]*ear.Appraisal{},
		VerifierID: &ear.VerifierIdentity{Build: &o.Build, Developer: &o.Developer}}
	if o.Nonce != "" {
		doc.Nonce = &o.Nonce
	}
	for name, checks := range bySubmodule(r) {
		doc.Submods[name] = appraisal(name, checks, r, verified)
	}
	// Marshalling is what validates the document.
	if _, err := doc.MarshalJSON(); err != nil {
		return "", fmt.Errorf("ear: %w", err)
	}
	claims := doc.AsMap()
	claims["exp"] = r.ValidUntil.Unix()
	if !verified {
		claims["exp"] = iat // it says what was so at that instant, and nothing can be rested on it
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: o.Key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("ear: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("ear: %w", err)
	}
	return token, nil
}

// bySubmodule groups the checks.
func bySubmodule(r *attestation.Result) map[string][]check.Check {
	out := map[string][]check.Check{}
	for _, c := range r.Checks {
		var name string
		name, c.ID = submodule(r.Kind, c.ID)
		out[name] = append(out[name], c)
	}
	return out
}

// submodule says to which submodule a check or claim belongs, and what it is called there. What belongs to no device belongs to the
// CPU, where there is one.
func submodule(kind attestation.Kind, id string) (name, rest string) {
	device, rest, _ := strings.Cut(id, ".")
	switch {
	case strings.HasPrefix(device, "gpu"), strings.HasPrefix(device, "switch"):
		return device, rest
	case kind == attestation.KindGPUReport:
		return "gpu0", id
	case kind == attestation.KindSwitchReport:
		return "switch0", id
	case kind == attestation.KindNVIDIAList:
		return Node, id
	}
	return CPU, strings.TrimPrefix(id, "cpu.")
}

// Groups of checks by what they say in AR4SI's vector.
var (
	hardware = set(dcap.CheckChain, dcap.CheckQESignature, dcap.CheckQEBinding, dcap.CheckQEMatch, dcap.CheckQuoteSignature,
		snp.CheckChain, snp.CheckKeyChip, snp.CheckKeyTCB, snp.CheckSignature,
		nvidia.CheckChain, nvidia.CheckFWID, nvidia.CheckSignature)
	revoked       = set(dcap.CheckRevocation, snp.CheckRevocation, nvidia.CheckDeviceOCSP, attestation.CheckTCB)
	configuration = set(attestation.CheckDebug, attestation.CheckAttributes, attestation.CheckConfiguration, attestation.CheckDeviceCC, attestation.CheckVMPL)
	executables   = set(attestation.CheckImage, attestation.CheckBuild, nvidia.CheckMeasurements)
	memory        = set(attestation.CheckDebug)
	instance      = set(attestation.CheckMachine)
)

func set(ids ...string) map[string]bool {
	m := map[string]bool{}
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// claim is bad when a check of the group failed, good when one passed and none that is required was skipped, and no claim
// otherwise: a skip says nothing.
func claim(checks []check.Check, group map[string]bool, good, bad ear.TrustClaim) ear.TrustClaim {
	out, open := ear.NoClaim, false
	for _, c := range checks {
		switch {
		case !group[c.ID]:
		case c.Status == check.Fail:
			return bad
		case c.Status == check.Pass:
			out = good
		case c.Required:
			open = true
		}
	}
	if open {
		return ear.NoClaim
	}
	return out
}

func appraisal(name string, checks []check.Check, r *attestation.Result, verified bool) *ear.Appraisal {
	v := &ear.TrustVector{
		Hardware:         claim(checks, hardware, ear.GenuineHardwareClaim, ear.UnrecognizedHardwareClaim),
		Configuration:    claim(checks, configuration, ear.ApprovedConfigClaim, ear.UnsupportableConfigClaim),
		Executables:      claim(checks, executables, ear.ApprovedRuntimeClaim, ear.UnrecognizedRuntimeClaim),
		RuntimeOpaque:    claim(checks, memory, ear.EncryptedMemoryRuntimeClaim, ear.VisibleMemoryRuntimeClaim),
		InstanceIdentity: claim(checks, instance, ear.TrustworthyInstanceClaim, ear.UntrustworthyInstanceClaim),
	}
	if v.Hardware == ear.GenuineHardwareClaim && claim(checks, revoked, ear.GenuineHardwareClaim, ear.ContraindicatedHardwareClaim) == ear.ContraindicatedHardwareClaim {
		v.Hardware = ear.ContraindicatedHardwareClaim
	}
	// A tolerated TCB is genuine but known to be weak.
	if name == CPU && v.Hardware == ear.GenuineHardwareClaim && r.TCBStatus != "" && r.TCBStatus != string(dcap.UpToDate) {
		v.Hardware = ear.UnsafeHardwareClaim
	}
	status := ear.TrustTierAffirming
	if !verified {
		status = ear.TrustTierContraindicated
	}
	evidence := map[string]any{"evidence.sha256": hex.EncodeToString(r.EvidenceDigest[:])}
	for k, val := range r.Claims {
		if owner, rest := submodule(r.Kind, k); owner == name {
			evidence[rest] = val
		}
	}
	policy := r.Policy
	a := &ear.Appraisal{Status: &status, TrustVector: v, AppraisalPolicyID: &policy}
	a.VeraisonAnnotatedEvidence = &evidence
	a.UpdateStatusFromTrustVector()
	return a
}
