// Package policy is the Appraisal Policy for Evidence (RFC 9334, section 8.5) and the only place that decides: the rooms
// that read Evidence report facts and statuses, and the methods here say which of them are good enough.
//
// A policy is one strict JSON document. There are no defaults: every member is required, an unknown member or value is
// refused, and a check can only be given up by writing the word "unsafe". Debuggable environments, revoked platforms and
// wrong signatures are refused whatever a policy says.
package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// Version is the version of the document that this package reads.
const Version = 1

// MaxDocument is the longest document accepted, in bytes.
const MaxDocument = 1 << 20

// Policy is an Appraisal Policy. It must not be modified once a Verifier uses it.
type Policy struct {
	// Version must be 1.
	Version int `json:"bombyx_policy"`
	// Name is what results call the policy.
	Name string `json:"name"`
	// NotAfter ends the policy: nothing is verified from then on, and no result outlives it. Review it before.
	NotAfter time.Time `json:"not_after"`
	// MaxAge is how many seconds a verified result may be relied on.
	MaxAge uint32 `json:"max_age_seconds"`
	// Epoch accepts Evidence that answers a recent TON block under these rules; absent, it must answer the verifier's own
	// nonce.
	Epoch *Epoch `json:"epoch,optional"`
	// Roots pins whom to believe.
	Roots Roots `json:"roots"`
	// TDX accepts Intel TDX under these rules; absent, it is refused.
	TDX *TDX `json:"tdx,optional"`
	// SGX accepts bare Intel SGX quotes under these rules; absent, they are refused.
	SGX *SGX `json:"sgx,optional"`
	// SNP accepts AMD SEV-SNP under these rules; absent, it is refused.
	SNP *SNP `json:"sev_snp,optional"`
	// Devices says which GPUs and switches a node must have.
	Devices Devices `json:"devices"`
	// Hardware says which machines are acceptable.
	Hardware Hardware `json:"hardware"`
	// Workload says which programs and models may speak for the node.
	Workload Workload `json:"workload"`
	// Registries names the registries on TON whose reference values count beside the lists of this document; absent, none.
	Registries []Publisher `json:"registries,optional"`
}

// Epoch holds the rules for Evidence that many verifiers share.
type Epoch struct {
	// MaxAge is how many seconds old the block may be, for as long as the result is relied on. All of that time a machine
	// that was taken over after the block can go on showing the Evidence from before.
	MaxAge uint32 `json:"max_age_seconds"`
}

// Roots pins trust anchors by the SHA-256 of their DER certificates. An empty list trusts nobody of that kind.
type Roots struct {
	// Intel pins the roots of PCK certificates, TCB info and QE identity.
	Intel []Hash `json:"intel"`
	// AMD pins ARK certificates.
	AMD []Hash `json:"amd"`
	// NVIDIADevice pins the roots of GPU and switch certificates.
	NVIDIADevice []Hash `json:"nvidia_device"`
	// NVIDIARIM pins the roots of reference integrity manifests.
	NVIDIARIM []Hash `json:"nvidia_rim"`
}

// Hash is a SHA-256 digest, in JSON 64 lower-case hexadecimal characters.
type Hash = [32]byte

// Digest is a SHA-384 digest, in JSON 96 lower-case hexadecimal characters.
type Digest = [48]byte

// AnyUnsafe is the word that gives up one comparison.
const AnyUnsafe = "any_unsafe"

// A Want is a digest that a register must have, or the explicit choice not to look: "any_unsafe". The zero Want demands
// an all-zero register.
type Want struct {
	// Any gives the comparison up.
	Any bool
	// Value is the wanted digest unless Any.
	Value Digest
}

// UnmarshalText reads 96 lower-case hexadecimal characters or "any_unsafe".
func (w *Want) UnmarshalText(b []byte) (err error) {
	*w = Want{}
	w.Any, err = unwant(w.Value[:], string(b))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (w Want) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// String returns the digest in hexadecimal, or "any_unsafe".
func (w Want) String() string { return want(w.Any, w.Value[:]) }

// Accepts reports whether a register's value is good.
func (w Want) Accepts(v Digest) bool { return w.Any || w.Value == v }

// Want32 is a Want of 32 bytes, 64 lower-case hexadecimal characters.
type Want32 struct {
	// Any gives the comparison up.
	Any bool
	// Value is the wanted digest unless Any.
	Value Hash
}

// UnmarshalText reads 64 lower-case hexadecimal characters or "any_unsafe".
func (w *Want32) UnmarshalText(b []byte) (err error) {
	*w = Want32{}
	w.Any, err = unwant(w.Value[:], string(b))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (w Want32) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// String returns the digest in hexadecimal, or "any_unsafe".
func (w Want32) String() string { return want(w.Any, w.Value[:]) }

// Accepts reports whether a register's value is good.
func (w Want32) Accepts(v Hash) bool { return w.Any || w.Value == v }

func unwant(dst []byte, s string) (any bool, err error) {
	if s == AnyUnsafe {
		return true, nil
	}
	if err := unhex(dst, s); err != nil {
		return false, fmt.Errorf("%w or %q", err, AnyUnsafe)
	}
	return false, nil
}

func unhex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) || strings.ToLower(s) != s {
		return fmt.Errorf("want %d lower-case hexadecimal characters", 2*len(dst))
	}
	copy(dst, b)
	return nil
}

func want(any bool, value []byte) string {
	if any {
		return AnyUnsafe
	}
	return hex.EncodeToString(value)
}

// A Rule says what to do when the collateral for a check is missing. A check that fails is a refusal under either rule.
type Rule string

const (
	Required   Rule = "required"    // refuse
	SkipUnsafe Rule = "skip_unsafe" // go on without it
)

// UnmarshalText refuses every other word.
func (r *Rule) UnmarshalText(b []byte) error {
	switch v := Rule(b); v {
	case Required, SkipUnsafe:
		*r = v
		return nil
	}
	return fmt.Errorf("%q, want %q or %q", b, Required, SkipUnsafe)
}

// Devices says what a node must be made of.
type Devices struct {
	// Modes lists the acceptable modes: "cpu", "single-gpu", "multi-gpu".
	Modes []string `json:"modes"`
	// GPU holds the rules for GPUs; required when a mode with GPUs is acceptable.
	GPU *GPU `json:"gpu,optional"`
	// Switch holds the rules for NVSwitches; required when "multi-gpu" is acceptable.
	Switch *Switch `json:"switch,optional"`
}

// GPU holds the rules for every GPU of a node.
type GPU struct {
	// Models lists the acceptable chips, as in the device certificate: "GH100", "GB100".
	Models []string `json:"models"`
	// MinCount and MaxCount bound the number of GPUs in "multi-gpu" mode.
	MinCount uint8 `json:"min_count"`
	MaxCount uint8 `json:"max_count"`
	// Driver is the floor of the driver's version, such as "570.124.03".
	Driver Floor `json:"min_driver"`
	// VBIOS is the floor of the VBIOS version by model, such as "96.00.5E.00.01". A model without one is refused.
	VBIOS map[string]Floor `json:"min_vbios"`
	// RIM says whether reference manifests of driver and VBIOS must be there and match.
	RIM Rule `json:"rim"`
	// OCSP says whether the issuer's word on revocation must be there.
	OCSP Rule `json:"ocsp"`
}

// Switch holds the rules for every NVSwitch of a node.
type Switch struct {
	// Models lists the acceptable chips: "LS_10".
	Models []string `json:"models"`
	// MinCount and MaxCount bound the number of switches in "multi-gpu" mode.
	MinCount uint8 `json:"min_count"`
	MaxCount uint8 `json:"max_count"`
	// BIOS is the floor of the switch's BIOS version.
	BIOS Floor `json:"min_bios"`
	// RIM says whether the BIOS's reference manifest must be there and match.
	RIM Rule `json:"rim"`
	// OCSP says whether the issuer's word on revocation must be there.
	OCSP Rule `json:"ocsp"`
}

// Workload says what may run, by the digests that the keyset states. They are as good as the measured image that states
// them: name the images under "tdx" and "sev_snp".
type Workload struct {
	// Builds lists the acceptable enclave executables.
	Builds Allowed `json:"builds"`
	// Configs lists the acceptable enclave configurations.
	Configs Allowed `json:"configs"`
	// Models lists the acceptable model manifests.
	Models Allowed `json:"models"`
}

// Allowed is a list of digests, or the explicit choice to accept all.
type Allowed struct {
	// AnyUnsafe accepts every digest; Allow must then be empty.
	AnyUnsafe bool `json:"any_unsafe"`
	// Allow lists what is accepted. It may be empty without AnyUnsafe only if a registry supplies such digests.
	Allow []Named `json:"allow"`
}

// Named is one accepted digest.
type Named struct {
	// Name is what results call it.
	Name string `json:"name"`
	// Reason says why it is trusted, for whoever reviews the policy.
	Reason string `json:"reason"`
	// Digest is the SHA-256.
	Digest Hash `json:"sha256"`
}

// Find returns the entry for a digest. Under AnyUnsafe an entry is made up.
func (a Allowed) Find(d Hash) (Named, bool) {
	for _, n := range a.Allow {
		if n.Digest == d {
			return n, true
		}
	}
	if a.AnyUnsafe {
		return Named{Name: AnyUnsafe, Digest: d}, true
	}
	return Named{}, false
}

// Parse reads a policy and checks that it makes sense as a whole.
func Parse(data []byte) (*Policy, error) {
	p := new(Policy)
	if err := strictjson.Unmarshal(data, p, MaxDocument); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

// Encode returns the document that Parse reads.
func (p *Policy) Encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return strictjson.Marshal(*p)
}

// modes in the words of Evidence documents.
const (
	modeCPU       = "cpu"
	modeSingleGPU = "single-gpu"
	modeMultiGPU  = "multi-gpu"
)

func (p *Policy) check() error {
	switch {
	case p.Version != Version:
		return fmt.Errorf("bombyx_policy is %d, this program reads %d", p.Version, Version)
	case p.Name == "":
		return fmt.Errorf("name is empty")
	case p.NotAfter.IsZero():
		return fmt.Errorf("not_after is missing")
	case p.MaxAge == 0:
		return fmt.Errorf("max_age_seconds is 0: no result could ever be used")
	case p.Epoch != nil && p.Epoch.MaxAge == 0:
		return fmt.Errorf("epoch.max_age_seconds is 0: no block is that young")
	case p.TDX == nil && p.SGX == nil && p.SNP == nil:
		return fmt.Errorf("none of tdx, sgx and sev_snp is accepted: nothing could be verified")
	case (p.TDX != nil || p.SGX != nil) && len(p.Roots.Intel) == 0:
		return fmt.Errorf("roots.intel is empty, though tdx or sgx is accepted")
	case p.SNP != nil && len(p.Roots.AMD) == 0:
		return fmt.Errorf("roots.amd is empty, though sev_snp is accepted")
	case len(p.Devices.Modes) == 0:
		return fmt.Errorf("devices.modes is empty")
	}
	for i := range p.Registries {
		r := &p.Registries[i]
		if err := r.check(); err != nil {
			return fmt.Errorf("registries[%d]: %w", i, err)
		}
		if slices.ContainsFunc(p.Registries[:i], func(o Publisher) bool { return o.Network == r.Network && o.Address == r.Address }) {
			return fmt.Errorf("registries[%d]: the same registry again", i)
		}
	}
	if p.TDX != nil {
		if err := p.TDX.check(p.supplied(Images)); err != nil {
			return fmt.Errorf("tdx.%w", err)
		}
	}
	if p.SGX != nil {
		if err := p.SGX.check(); err != nil {
			return fmt.Errorf("sgx.%w", err)
		}
	}
	if p.SNP != nil {
		if err := p.SNP.check(p.supplied(Images)); err != nil {
			return fmt.Errorf("sev_snp.%w", err)
		}
	}
	if err := p.Devices.check(p.Roots); err != nil {
		return fmt.Errorf("devices.%w", err)
	}
	if err := p.Hardware.check(); err != nil {
		return fmt.Errorf("hardware.%w", err)
	}
	for name, a := range map[Supply]Allowed{Builds: p.Workload.Builds, Configs: p.Workload.Configs, Models: p.Workload.Models} {
		if some := len(a.Allow) > 0 || p.supplied(name); a.AnyUnsafe && len(a.Allow) > 0 || !a.AnyUnsafe && !some {
			return fmt.Errorf("workload.%s: want either any_unsafe or a list in allow, or a registry that supplies %s", name, name)
		}
		for i, n := range a.Allow {
			if n.Name == "" || n.Reason == "" {
				return fmt.Errorf("workload.%s.allow[%d]: needs a name and a reason", name, i)
			}
		}
	}
	return nil
}

func (d *Devices) check(r Roots) error {
	for i, m := range d.Modes {
		if m != modeCPU && m != modeSingleGPU && m != modeMultiGPU {
			return fmt.Errorf("modes[%d]: unknown mode %q, want %q, %q or %q", i, m, modeCPU, modeSingleGPU, modeMultiGPU)
		}
		if slices.Contains(d.Modes[:i], m) {
			return fmt.Errorf("modes[%d]: %q again", i, m)
		}
	}
	multi := slices.Contains(d.Modes, modeMultiGPU)
	if multi || slices.Contains(d.Modes, modeSingleGPU) {
		g := d.GPU
		switch {
		case g == nil:
			return fmt.Errorf("gpu: missing, though a mode with GPUs is accepted")
		case len(r.NVIDIADevice) == 0:
			return fmt.Errorf("gpu: GPUs are accepted but roots.nvidia_device is empty")
		case g.RIM == Required && len(r.NVIDIARIM) == 0:
			return fmt.Errorf("gpu.rim: required but roots.nvidia_rim is empty")
		case len(g.Models) == 0:
			return fmt.Errorf("gpu.models: empty")
		case multi && (g.MinCount == 0 || g.MaxCount < g.MinCount):
			return fmt.Errorf("gpu: counts %d to %d make no sense", g.MinCount, g.MaxCount)
		}
	}
	if multi {
		s := d.Switch
		switch {
		case s == nil:
			return fmt.Errorf("switch: missing, though multi-gpu is accepted")
		case s.RIM == Required && len(r.NVIDIARIM) == 0:
			return fmt.Errorf("switch.rim: required but roots.nvidia_rim is empty")
		case len(s.Models) == 0:
			return fmt.Errorf("switch.models: empty")
		case s.MaxCount < s.MinCount:
			return fmt.Errorf("switch: counts %d to %d make no sense", s.MinCount, s.MaxCount)
		}
	}
	return nil
}
