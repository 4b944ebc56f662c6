package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// A Publisher is a registry on TON whose owner's word this policy takes for reference values (RFC 9334, Reference Value
// Provider). What it supplies is accepted beside what the policy lists itself; what it revokes is refused whoever lists it.
// Nothing is verified unless every publisher of the policy can be read, and recently.
type Publisher struct {
	// Name is what results call it.
	Name string `json:"name"`
	// Reason says why it is trusted, for whoever reviews the policy.
	Reason string `json:"reason"`
	// Network is the TON network that the registry is on, by its global id: -239 mainnet, -3 testnet.
	Network int32 `json:"network"`
	// Address is the registry's account in raw form: "0:" and 64 lower-case hexadecimal characters. It commits to the
	// contract's code, the owner and the delay.
	Address Account `json:"address"`
	// MinDelay is the shortest acceptable time lock, in seconds: how long a new record must have been public before it counts.
	MinDelay uint32 `json:"min_delay_seconds"`
	// MaxAge is how many seconds old the block may be that the registry was read from, and how long a result may rest on it. It
	// bounds how long a revocation may be kept from the verifier.
	MaxAge uint32 `json:"max_age_seconds"`
	// Supplies lists what it may vouch for: "images", "builds", "configs", "models".
	Supplies []Supply `json:"supplies"`
}

// An Account is the address of an account in TON's basechain.
type Account [32]byte

// UnmarshalText reads the raw form, "0:" and 64 lower-case hexadecimal characters.
func (a *Account) UnmarshalText(b []byte) error {
	rest, ok := strings.CutPrefix(string(b), "0:")
	if !ok || unhex(a[:], rest) != nil {
		return fmt.Errorf(`want "0:" and 64 lower-case hexadecimal characters; bombyx registry show prints an address in this form`)
	}
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (a Account) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// String returns the raw form.
func (a Account) String() string { return "0:" + hex.EncodeToString(a[:]) }

// A Supply is a kind of reference value.
type Supply string

// What a publisher may supply.
const (
	Images  Supply = "images"  // measurements of guest images
	Builds  Supply = "builds"  // enclave executables
	Configs Supply = "configs" // enclave configurations
	Models  Supply = "models"  // model manifests
)

// UnmarshalText refuses every other word.
func (s *Supply) UnmarshalText(b []byte) error {
	switch v := Supply(b); v {
	case Images, Builds, Configs, Models:
		*s = v
		return nil
	}
	return fmt.Errorf("%q, want %q, %q, %q or %q", b, Images, Builds, Configs, Models)
}

func (p *Publisher) check() error {
	switch {
	case p.Name == "" || p.Reason == "":
		return errors.New("needs a name and a reason")
	case p.MinDelay == 0:
		return errors.New("min_delay_seconds is 0: without a time lock whoever steals the publisher's key is trusted at once")
	case p.MaxAge == 0:
		return errors.New("max_age_seconds is 0: no reading could ever be used")
	case len(p.Supplies) == 0:
		return errors.New("supplies is empty")
	}
	for i, s := range p.Supplies {
		if slices.Contains(p.Supplies[:i], s) {
			return fmt.Errorf("supplies[%d]: %q again", i, s)
		}
	}
	return nil
}

// supplied says whether a registry may vouch for this, so that the policy's own list may be empty.
func (p *Policy) supplied(s Supply) bool {
	return slices.ContainsFunc(p.Registries, func(r Publisher) bool { return slices.Contains(r.Supplies, s) })
}

// A Snapshot is what a registry said in one block. The chain proves it, not this package: whoever makes a Snapshot from
// anything else makes up reference values.
type Snapshot struct {
	// Network is the chain's global id, Address the registry's account, Delay its time lock in seconds.
	Network int32
	Address Account
	Delay   uint32
	// Time is when the block was made, by the chain's clock.
	Time time.Time
	// Changes counts the changes of the registry so far.
	Changes uint32
	// Records holds every record in effect. What is only announced is not among them.
	Records []Record
}

// A RecordKind says what a record's document is. Kinds that are no reference values are passed over.
type RecordKind uint8

// The kinds of records that are reference values.
const (
	RecordReference RecordKind = 1 // a ReferenceValues document
	RecordManifest  RecordKind = 2 // a model manifest, accepted by the SHA-256 of its bytes
)

// A RecordStatus is the publisher's word on a record. Unknown ones vouch for nothing.
type RecordStatus uint8

// The statuses of records.
const (
	RecordCurrent    RecordStatus = 1
	RecordDeprecated RecordStatus = 2 // accepted; results say so
	RecordRevoked    RecordStatus = 3 // what it names is refused, for good
)

// A Record is one record of a registry.
type Record struct {
	Kind          RecordKind
	Status        RecordStatus
	NotBefore     time.Time // it vouches from then on,
	NotAfter      time.Time // and until before then; a revocation has no end
	Name, Version string
	Document      []byte
}

// ReferenceValues is the document of a record that vouches for an enclave's software: one build, or several that belong
// together. Everything in it is a value to be matched; there is no "any".
type ReferenceValues struct {
	// Version must be 1.
	Version int `json:"bombyx_reference_values"`
	// TDX lists measurements of guest images on Intel TDX; more than one where they depend on the machine's shape.
	TDX []TDXValues `json:"tdx"`
	// SNP lists measurements of guest images on AMD SEV-SNP.
	SNP []SNPValues `json:"sev_snp"`
	// Builds lists SHA-256 digests of enclave executables.
	Builds []Hash `json:"builds"`
	// Configs lists SHA-256 digests of enclave configurations.
	Configs []Hash `json:"configs"`
}

// TDXValues are the measurements of one guest image, as in TDImage.
type TDXValues struct {
	// MRTD measures the virtual firmware.
	MRTD Digest `json:"mrtd"`
	// RTMR holds the four runtime registers.
	RTMR []Digest `json:"rtmr"`
	// MRCONFIGID, MROWNER and MROWNERCONFIG are set by the host when it creates the TD.
	MRCONFIGID    Digest `json:"mrconfigid"`
	MROWNER       Digest `json:"mrowner"`
	MROWNERCONFIG Digest `json:"mrownerconfig"`
}

// SNPValues are the measurements of one guest image, as in SNPImage.
type SNPValues struct {
	// Measurement is the launch digest.
	Measurement Digest `json:"measurement"`
	// HostData is what the host passed at launch.
	HostData Hash `json:"host_data"`
	// IDKeyDigest and AuthorKeyDigest name who signed the guest's identity block; zero when nobody did.
	IDKeyDigest     Digest `json:"id_key_digest"`
	AuthorKeyDigest Digest `json:"author_key_digest"`
	// MinGuestSVN is the lowest acceptable security version of the guest.
	MinGuestSVN uint32 `json:"min_guest_svn"`
}

// MaxReferenceValues is the longest document of reference values, in bytes: what a registry's record holds.
const MaxReferenceValues = 7620

// ParseReferenceValues reads a document of reference values.
func ParseReferenceValues(data []byte) (*ReferenceValues, error) {
	v := new(ReferenceValues)
	if err := strictjson.Unmarshal(data, v, MaxReferenceValues); err != nil {
		return nil, fmt.Errorf("policy: reference values: %w", err)
	}
	if v.Version != 1 {
		return nil, fmt.Errorf("policy: reference values: version %d, this program reads 1", v.Version)
	}
	for i, t := range v.TDX {
		if len(t.RTMR) != 4 {
			return nil, fmt.Errorf("policy: reference values: tdx[%d].rtmr: %d registers, want 4", i, len(t.RTMR))
		}
	}
	if len(v.TDX)+len(v.SNP)+len(v.Builds)+len(v.Configs) == 0 {
		return nil, errors.New("policy: reference values: there are none")
	}
	return v, nil
}

// Encode returns the document that ParseReferenceValues reads.
func (v *ReferenceValues) Encode() ([]byte, error) {
	b, err := strictjson.Marshal(*v)
	if err != nil {
		return nil, err
	}
	_, err = ParseReferenceValues(b)
	return b, err
}

// References are the snapshots of all of a policy's publishers.
type References struct {
	publishers []published
}

type published struct {
	*Publisher
	snapshot   *Snapshot
	entries    []entry
	unreadable int
}

// entry is one readable record.
type entry struct {
	*Record
	values   *ReferenceValues // of RecordReference
	manifest Hash             // of RecordManifest
}

// References takes the snapshots of the policy's publishers, in any order, one of each. Whether they are recent is judged when
// they are used.
func (p *Policy) References(snapshots []*Snapshot) (*References, error) {
	r := &References{}
	for i := range p.Registries {
		pub := published{Publisher: &p.Registries[i]}
		for _, s := range snapshots {
			if s == nil || s.Network != pub.Network || s.Address != pub.Address {
				continue
			}
			if pub.snapshot != nil {
				return nil, fmt.Errorf("policy: two snapshots of the registry %q", pub.Name)
			}
			kept := *s
			kept.Records = slices.Clone(s.Records) // the caller's changes cannot reach it
			pub.snapshot = &kept
		}
		if pub.snapshot == nil {
			return nil, fmt.Errorf("%w %q (%s on network %d)", ErrNoSnapshot, pub.Name, pub.Address, pub.Network)
		}
		for j := range pub.snapshot.Records {
			pub.add(&pub.snapshot.Records[j])
		}
		r.publishers = append(r.publishers, pub)
	}
	return r, nil
}

// ErrNoSnapshot says that nothing was given of a registry that the policy names.
var ErrNoSnapshot = errors.New("policy: no snapshot of the registry")

// add keeps a record that can be read. One that cannot vouches for nothing.
func (p *published) add(r *Record) {
	e := entry{Record: r}
	switch {
	case r.Status < RecordCurrent || r.Status > RecordRevoked:
		p.unreadable++
		return
	case r.Kind == RecordReference:
		var err error
		if e.values, err = ParseReferenceValues(r.Document); err != nil {
			p.unreadable++
			return
		}
	case r.Kind == RecordManifest:
		e.manifest = sha256.Sum256(r.Document)
	default:
		return
	}
	p.entries = append(p.entries, e)
}

// ahead is how far a block's time may be ahead of the verifier's clock.
const ahead = time.Minute

// Judge decides about each publisher, in the policy's order: whether its time lock is long enough and its snapshot recent at now.
func (r *References) Judge(now time.Time) []Finding {
	var out []Finding
	for _, p := range r.publishers {
		s := p.snapshot
		f := Finding{Until: s.Time.Add(time.Duration(p.MaxAge) * time.Second),
			Seen:   fmt.Sprintf("%s: block of %s, %d changes, time lock %d s", p.Name, s.Time.UTC().Format(time.RFC3339), s.Changes, s.Delay),
			Wanted: fmt.Sprintf("at most %d s old, time lock at least %d s", p.MaxAge, p.MinDelay)}
		if p.unreadable > 0 {
			f.Seen += fmt.Sprintf("; %d records that this program cannot read", p.unreadable)
		}
		switch {
		case s.Delay < p.MinDelay:
			f.Err = errors.New("the registry's time lock is shorter than the policy accepts")
		case s.Time.After(now.Add(ahead)):
			f.Err = errors.New("the registry was read after the instant of this appraisal: use a snapshot of that time")
		case !now.Before(f.Until):
			f.Err = errors.New("the registry was read too long ago: read it again")
		}
		out = append(out, f)
	}
	return out
}

// judge lets publishers speak about something that own has decided from the policy's lists alone.
func (r *References) judge(now time.Time, s Supply, own Finding, matches func(*entry) bool) Finding {
	var vouched *Finding
	for i := range r.publishers {
		p := &r.publishers[i]
		if !slices.Contains(p.Supplies, s) {
			continue
		}
		own.Wanted = strings.TrimPrefix(own.Wanted+" or in registry "+p.Name, " or ")
		for j := range p.entries {
			e := &p.entries[j]
			if !matches(e) {
				continue
			}
			name := strings.TrimSpace(e.Name+" "+e.Version) + " (" + p.Name + ")"
			switch {
			case e.Status == RecordRevoked:
				own.Seen, own.Err, own.Until = name+", revoked", fmt.Errorf("%s has revoked it", p.Name), time.Time{}
				return own
			case now.Before(e.NotBefore) || !now.Before(e.NotAfter):
				continue
			}
			if e.Status == RecordDeprecated {
				name += ", deprecated"
			}
			if vouched == nil || e.NotAfter.After(vouched.Until) {
				vouched = &Finding{Seen: name, Until: e.NotAfter}
			}
		}
	}
	if own.Err != nil && vouched != nil {
		own.Seen, own.Err, own.Until = vouched.Seen, nil, vouched.Until
	}
	return own
}

// JudgeTD decides about the image of a TD, by the policy's own list and then by what publishers say. A revocation counts although a
// value differs that the policy's image leaves open and the host sets: or the host would set another.
func (r *References) JudgeTD(now time.Time, t *TDX, td *dcap.TDReport) Finding {
	m := t.image(td)
	return r.judge(now, Images, t.JudgeImage(td), func(e *entry) bool {
		open := e.Status == RecordRevoked && m != nil
		return e.values != nil && slices.ContainsFunc(e.values.TDX, func(v TDXValues) bool {
			return v.MRTD == td.MRTD && slices.Equal(v.RTMR, td.RTMR[:]) &&
				(v.MRCONFIGID == td.MRCONFIGID || open && m.MRCONFIGID.Any) &&
				(v.MROWNER == td.MROWNER || open && m.MROWNER.Any) &&
				(v.MROWNERCONFIG == td.MROWNERCONFIG || open && m.MROWNERCONFIG.Any)
		})
	})
}

// JudgeGuest is JudgeTD for SEV-SNP.
func (r *References) JudgeGuest(now time.Time, s *SNP, g *snp.Report) Finding {
	m := s.image(g)
	return r.judge(now, Images, s.JudgeGuest(g), func(e *entry) bool {
		revoked := e.Status == RecordRevoked
		open := revoked && m != nil
		return e.values != nil && slices.ContainsFunc(e.values.SNP, func(v SNPValues) bool {
			return v.Measurement == g.Measurement && (g.GuestSVN >= v.MinGuestSVN || revoked) &&
				(v.HostData == g.HostData || open && m.HostData.Any) &&
				(v.IDKeyDigest == g.IDKeyDigest || open && m.IDKeyDigest.Any) &&
				(v.AuthorKeyDigest == g.AuthorKeyDigest || open && m.AuthorKeyDigest.Any)
		})
	})
}

// JudgeDigest is JudgeTD for Builds, Configs and Models.
func (r *References) JudgeDigest(now time.Time, s Supply, own Finding, d Hash) Finding {
	return r.judge(now, s, own, func(e *entry) bool {
		switch {
		case s == Models:
			return e.Kind == RecordManifest && e.manifest == d
		case e.values == nil:
			return false
		case s == Builds:
			return slices.Contains(e.values.Builds, d)
		}
		return slices.Contains(e.values.Configs, d)
	})
}
