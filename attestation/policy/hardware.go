package policy

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// Hardware says which machines are acceptable, by identity. Whoever holds a machine can attack its memory bus, and a key
// recovered that way signs evidence for any software; a list of machines whose place is known is what stands against it.
type Hardware struct {
	// CPU says whether the CPU's identity (Intel PPID, AMD CHIP_ID) must be listed.
	CPU Rule `json:"cpu"`
	// GPU says whether the identity of every GPU and switch must be listed.
	GPU Rule `json:"gpu"`
	// MinLevel is the lowest verification level that counts. Levels are the issuers'; Proof of Cloud has 1 (witnessed by
	// people), 2 and 3.
	MinLevel uint8 `json:"min_level"`
	// ListKeys pins who may sign hardware lists (Ed25519).
	ListKeys []PublicKey `json:"list_keys"`
	// ProofOfCloudKeys pins who may sign Proof of Cloud tokens (Ed25519). A token counts as level 1 for the CPU of the one
	// quote that it names.
	ProofOfCloudKeys []PublicKey `json:"proof_of_cloud_keys"`
	// Deny lists machines that are refused whatever anybody else says. A report signed with a VLEK names no chip: who denies chips
	// accepts the VCEK alone.
	Deny []Machine `json:"deny"`
}

// PublicKey is an Ed25519 public key, in JSON 64 lower-case hexadecimal characters.
type PublicKey = [32]byte

// A MachineKind says what kind of identity names a machine.
type MachineKind string

const (
	MachinePPID   MachineKind = "intel-ppid"  // 16 bytes, from the PCK certificate
	MachineChipID MachineKind = "amd-chip-id" // 64 bytes, from the report
	MachineGPU    MachineKind = "nvidia"      // SHA-256 of the device's identity certificate (the second of its chain)
)

// UnmarshalText refuses unknown kinds.
func (k *MachineKind) UnmarshalText(b []byte) error {
	switch v := MachineKind(b); v {
	case MachinePPID, MachineChipID, MachineGPU:
		*k = v
		return nil
	}
	return fmt.Errorf("unknown kind of machine %q", b)
}

// A Machine names one piece of hardware without publishing its identity.
type Machine struct {
	// Kind says what the identity is.
	Kind MachineKind `json:"kind"`
	// ID is the SHA-256 of the identity's raw bytes. Proof of Cloud calls it machine_id.
	ID Hash `json:"id_sha256"`
}

// NameMachine returns the name of a machine from its raw identity.
func NameMachine(kind MachineKind, identity []byte) Machine {
	return Machine{kind, sha256.Sum256(identity)}
}

// A HardwareList is a signed statement about machines, in force between two dates.
type HardwareList struct {
	// Version must be 1.
	Version int `json:"bombyx_hardware_list"`
	// Issuer is a name for people; the key is what counts.
	Issuer string `json:"issuer"`
	// Issued and Expires bound the time in which the list vouches for machines. What it denies stays denied.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Machines lists those vouched for.
	Machines []ListedMachine `json:"machines"`
	// Denied lists those known to be compromised or gone astray.
	Denied []Machine `json:"denied"`
}

// A ListedMachine is one machine that an issuer vouches for.
type ListedMachine struct {
	// Kind and ID name the machine as in Machine.
	Kind MachineKind `json:"kind"`
	ID   Hash        `json:"id_sha256"`
	// Level says how well its place was verified, in the issuer's terms; higher is better.
	Level uint8 `json:"level"`
	// Label says where it is, for people.
	Label string `json:"label"`
}

// HardwareListType is the DSSE payload type of a hardware list.
const HardwareListType = "application/vnd.bombyx.hardware-list+json"

// envelope is a DSSE envelope (in-toto, Dead Simple Signing Envelope 1.0.0) with one Ed25519 signature; keyid is the key
// itself in hexadecimal.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID PublicKey `json:"keyid"`
	Sig   []byte    `json:"sig"`
}

// pae is DSSE's pre-authentication encoding.
func pae(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Sign returns the list in a DSSE envelope.
func (l *HardwareList) Sign(key ed25519.PrivateKey) ([]byte, error) {
	payload, err := strictjson.Marshal(*l)
	if err != nil {
		return nil, err
	}
	return strictjson.Marshal(envelope{payload, HardwareListType,
		[]signature{{PublicKey(key.Public().(ed25519.PublicKey)), ed25519.Sign(key, pae(HardwareListType, payload))}}})
}

// A SignedHardwareList is a hardware list together with the key that signed it. Whether to listen to that key is for a
// policy to say.
type SignedHardwareList struct {
	HardwareList
	Key PublicKey
}

// maxHardwareList bounds an envelope: some ten thousand machines.
const maxHardwareList = 4 << 20

// ParseHardwareList reads a DSSE envelope and verifies its signature.
func ParseHardwareList(data []byte) (*SignedHardwareList, error) {
	var e envelope
	if err := strictjson.Unmarshal(data, &e, maxHardwareList); err != nil {
		return nil, fmt.Errorf("policy: hardware list: %w", err)
	}
	if e.PayloadType != HardwareListType || len(e.Signatures) != 1 {
		return nil, fmt.Errorf("policy: hardware list: payload type %q with %d signatures, want %q with 1", e.PayloadType, len(e.Signatures), HardwareListType)
	}
	l := &SignedHardwareList{Key: e.Signatures[0].KeyID}
	if !ed25519.Verify(l.Key[:], pae(e.PayloadType, e.Payload), e.Signatures[0].Sig) {
		return nil, errors.New("policy: hardware list: the signature does not verify")
	}
	if err := strictjson.Unmarshal(e.Payload, &l.HardwareList, maxHardwareList); err != nil {
		return nil, fmt.Errorf("policy: hardware list: %w", err)
	}
	if l.Version != 1 {
		return nil, fmt.Errorf("policy: hardware list: version %d, this program reads 1", l.Version)
	}
	return l, nil
}

// A ProofOfCloudToken says that Proof of Cloud has the machine behind one quote in its registry.
type ProofOfCloudToken struct {
	QuoteHash Hash // SHA-256 of the raw quote
	MachineID Hash // SHA-256 of PPID or CHIP_ID
	Label     string
	Key       PublicKey
}

// ParseProofOfCloudToken reads a token of Proof of Cloud's trust servers: a JWT (RFC 7519) signed with EdDSA under the key
// that its kid names. Tokens of single servers, signed with RS256, are not accepted. The token carries no date: its age is
// that of the quote.
func ParseProofOfCloudToken(token []byte) (*ProofOfCloudToken, error) {
	fail := func(why string) (*ProofOfCloudToken, error) {
		return nil, fmt.Errorf("policy: Proof of Cloud token: %s", why)
	}
	if len(token) > 8<<10 {
		return fail("too long")
	}
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return fail("want three parts with dots between them")
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil {
			return fail("a part is not base64url")
		}
		raw[i] = b
	}
	var header struct{ Alg, Kid string }
	if err := json.Unmarshal(raw[0], &header); err != nil {
		return fail("the header is not JSON")
	}
	t := &ProofOfCloudToken{}
	if header.Alg != "EdDSA" || unhex(t.Key[:], header.Kid) != nil {
		return fail("the header does not say EdDSA with a key of 64 hexadecimal characters as kid")
	}
	if !ed25519.Verify(t.Key[:], []byte(parts[0]+"."+parts[1]), raw[2]) {
		return fail("the signature does not verify")
	}
	var claims struct {
		QuoteHash string `json:"quote_hash"`
		MachineID string `json:"machine_id"`
		Label     string `json:"label"`
	}
	if err := json.Unmarshal(raw[1], &claims); err != nil {
		return fail("the claims are not JSON")
	}
	if unhex(t.QuoteHash[:], claims.QuoteHash) != nil || unhex(t.MachineID[:], claims.MachineID) != nil {
		return fail("quote_hash and machine_id must be SHA-256 in hexadecimal")
	}
	t.Label = claims.Label
	return t, nil
}

// A Registry is what issuers say about machines: signed lists and tokens, from whoever.
type Registry struct {
	Lists  []*SignedHardwareList
	Tokens []*ProofOfCloudToken
}

// Judge decides about one machine. The quote is the SHA-256 of the raw quote that shows a CPU, for tokens. listed is false
// when nobody whom the policy listens to vouches for the machine; without an error the rule then decides.
func (h *Hardware) Judge(now time.Time, m Machine, quote Hash, r Registry) (f Finding, listed bool) {
	name := fmt.Sprintf("%s %x...", m.Kind, m.ID[:8])
	f = Finding{Seen: name + " on no list", Wanted: fmt.Sprintf("listed at level %d or above", h.MinLevel)}
	if slices.Contains(h.Deny, m) {
		f.Seen, f.Err = name+" denied by the policy", errors.New("the policy denies this machine")
		return f, false
	}
	for _, l := range r.Lists {
		// An expired list vouches for nothing, but what it denied stays denied.
		if slices.Contains(h.ListKeys, l.Key) && slices.Contains(l.Denied, m) {
			f.Seen, f.Err = name+" denied by "+l.Issuer, fmt.Errorf("%s denies this machine", l.Issuer)
			return f, false
		}
	}
	for _, l := range r.Lists {
		if !slices.Contains(h.ListKeys, l.Key) || now.Before(l.Issued) || !now.Before(l.Expires) {
			continue
		}
		for _, e := range l.Machines {
			if (Machine{e.Kind, e.ID}) == m && e.Level >= h.MinLevel && (!listed || l.Expires.After(f.Until)) {
				f.Seen = fmt.Sprintf("%s listed by %s at level %d (%s)", name, l.Issuer, e.Level, e.Label)
				f.Until, listed = l.Expires, true
			}
		}
	}
	if listed {
		return f, true
	}
	for _, t := range r.Tokens {
		if slices.Contains(h.ProofOfCloudKeys, t.Key) && t.QuoteHash == quote && t.MachineID == m.ID && m.Kind != MachineGPU && h.MinLevel <= 1 {
			f.Seen = fmt.Sprintf("%s vouched for by Proof of Cloud (%s)", name, t.Label)
			return f, true
		}
	}
	return f, false
}

func (h *Hardware) check() error {
	if (h.CPU == Required || h.GPU == Required) && len(h.ListKeys) == 0 && (h.GPU == Required || len(h.ProofOfCloudKeys) == 0) {
		return errors.New("list_keys: empty, though machines must be listed")
	}
	return nil
}
