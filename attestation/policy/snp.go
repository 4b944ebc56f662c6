package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/snp"
)

// SNP holds the rules for AMD SEV-SNP.
type SNP struct {
	// MinTCB is the floor of the security patch levels by product: "Milan", "Genoa", "Turin", or by product and processor, such
	// as "Genoa/191101": family, model and stepping as the report states them, two lower-case hexadecimal digits each. The
	// processor's own floor counts before the product's: steppings do not share a numbering of microcode. A floor is compared
	// with the reported and the committed TCB, so that the firmware cannot be rolled back below it, and with the one that the
	// guest was launched under, since what firmware with a hole launched stays in the host's hands when the firmware is
	// updated beneath it. What has none is refused.
	MinTCB map[string]SNPTCB `json:"min_tcb"`
	// Keys lists the acceptable endorsement keys: "VCEK" is the chip's own, "VLEK" a cloud provider's and says nothing about
	// the chip.
	Keys []string `json:"keys"`
	// MaxVMPL is the least privileged level whose reports count; 0 is the most privileged, 3 the least.
	MaxVMPL uint8 `json:"max_vmpl"`
	// AllowSMT accepts guests that may share a core with others.
	AllowSMT bool `json:"allow_smt"`
	// AllowMigrationUnsafe accepts guests that a migration agent may move. Nothing here says which agent, or where to.
	AllowMigrationUnsafe bool `json:"allow_migration_unsafe"`
	// AllowCXL accepts guests whose memory may be on CXL devices.
	AllowCXL bool `json:"allow_cxl"`
	// RequireCiphertextHiding refuses platforms on which the host can read ciphertext (reported from Turin on).
	RequireCiphertextHiding bool `json:"require_ciphertext_hiding"`
	// RequireAliasCheck refuses platforms that do not report having looked for memory aliases (BadRAM, AMD-SB-3015).
	RequireAliasCheck bool `json:"require_alias_check"`
	// RequireMitigations lists, by product or processor as in MinTCB, the bits that must be set in the report's launch and current
	// mitigation vectors: fixes that no patch level shows. AMD's security bulletins say which bit, 0 to 63, stands for which.
	// Reports before version 5 do not state them, and are refused where a bit is asked for. A product that is not listed is asked for
	// none.
	RequireMitigations map[string][]int `json:"require_mitigations"`
	// Images lists the acceptable guest images. It may be empty if a registry supplies images.
	Images []SNPImage `json:"images"`
}

// SNPTCB holds security patch levels.
type SNPTCB struct {
	// FMC is the firmware of the chip's first boot stage: Turin only, 0 otherwise.
	FMC uint8 `json:"fmc"`
	// BootLoader, TEE, SNP and Microcode are as in TCB_VERSION.
	BootLoader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// An SNPImage is one measured guest image.
type SNPImage struct {
	// Name is what results call it.
	Name string `json:"name"`
	// Reason says why it is trusted: who built it, how to rebuild it.
	Reason string `json:"reason"`
	// Measurement is the launch digest.
	Measurement Want `json:"measurement"`
	// HostData is what the host passed at launch.
	HostData Want32 `json:"host_data"`
	// IDKeyDigest and AuthorKeyDigest name who signed the guest's identity block; zero when nobody did.
	IDKeyDigest     Want `json:"id_key_digest"`
	AuthorKeyDigest Want `json:"author_key_digest"`
	// MinGuestSVN is the lowest acceptable security version of the guest.
	MinGuestSVN uint32 `json:"min_guest_svn"`
}

func (s *SNP) check(supplied bool) error {
	if len(s.MinTCB) == 0 {
		return errors.New("min_tcb: empty, no product would be accepted")
	}
	for p, t := range s.MinTCB {
		product, err := snpProduct(p)
		if err != nil {
			return fmt.Errorf("min_tcb: %w", err)
		}
		if t.FMC != 0 && product != snp.Turin {
			return fmt.Errorf("min_tcb.%s.fmc: there is none on this product", p)
		}
	}
	for p, bits := range s.RequireMitigations {
		if _, err := snpProduct(p); err != nil {
			return fmt.Errorf("require_mitigations: %w", err)
		}
		for i, bit := range bits {
			if bit < 0 || bit > 63 || slices.Contains(bits[:i], bit) {
				return fmt.Errorf("require_mitigations.%s: bit %d, want each of 0 to 63 at most once", p, bit)
			}
		}
	}
	if len(s.Keys) == 0 {
		return errors.New("keys: empty, nothing could be verified")
	}
	for i, k := range s.Keys {
		if k != snp.VCEK.String() && k != snp.VLEK.String() {
			return fmt.Errorf("keys[%d]: unknown key %q", i, k)
		}
	}
	if s.MaxVMPL > 3 {
		return fmt.Errorf("max_vmpl: %d, want 0 to 3", s.MaxVMPL)
	}
	if len(s.Images) == 0 && !supplied {
		return errors.New("images: empty, and no registry supplies images: nothing could be verified")
	}
	for i, m := range s.Images {
		if m.Name == "" || m.Reason == "" {
			return fmt.Errorf("images[%d]: needs a name and a reason", i)
		}
	}
	return nil
}

// snpProduct reads the name of a product, or of a product and processor.
func snpProduct(name string) (snp.Product, error) {
	product, processor, specific := strings.Cut(name, "/")
	if b, err := hex.DecodeString(processor); specific && (err != nil || len(b) != 3 || hex.EncodeToString(b) != processor) {
		return "", fmt.Errorf("%q: want family, model and stepping as in Genoa/191101", name)
	}
	switch p := snp.Product(product); p {
	case snp.Milan, snp.Genoa, snp.Turin:
		return p, nil
	}
	return "", fmt.Errorf("unknown product %q", name)
}

// ruleFor returns the rule for the report's processor, or else for its product, and what the processor is called.
func ruleFor[T any](rules map[string]T, r *snp.Report, p snp.Product) (rule T, processor string, ok bool) {
	processor = string(p)
	rule, ok = rules[processor]
	if r.Version >= 3 {
		processor = fmt.Sprintf("%s/%02x%02x%02x", p, r.CPUID[0], r.CPUID[1], r.CPUID[2])
		if own, found := rules[processor]; found {
			rule, ok = own, true
		}
	}
	return rule, processor, ok
}

// JudgeMitigations decides whether the fixes that no patch level shows are in place, now and since the guest was launched.
func (s *SNP) JudgeMitigations(r *snp.Report, p snp.Product) Finding {
	f := Finding{Seen: fmt.Sprintf("launch %016x, current %016x", r.LaunchMitigations, r.CurrentMitigations), Wanted: "none"}
	if r.Version < 5 {
		f.Seen = fmt.Sprintf("a version %d report states none", r.Version)
	}
	bits, _, _ := ruleFor(s.RequireMitigations, r, p)
	if len(bits) == 0 {
		return f
	}
	var want uint64
	for _, bit := range bits {
		want |= 1 << bit
	}
	f.Wanted = fmt.Sprintf("%016x set", want)
	switch {
	case r.Version < 5:
		f.Err = errors.New("the report is older than the mitigation vectors: the host's firmware does not state what the policy asks for")
	case r.LaunchMitigations&want != want:
		f.Err = fmt.Errorf("mitigations %016x were not in place when the guest was launched", want&^r.LaunchMitigations)
	case r.CurrentMitigations&want != want:
		f.Err = fmt.Errorf("mitigations %016x are not in place", want&^r.CurrentMitigations)
	}
	return f
}

// JudgeDebug refuses guests whose memory the host may decrypt. No policy changes this.
func (s *SNP) JudgeDebug(p snp.Policy) Finding {
	f := Finding{Seen: fmt.Sprintf("guest policy %#x", uint64(p)), Wanted: "DEBUG clear"}
	if p.Debug() {
		f.Err = errors.New("the guest is debuggable: its host can read everything in it")
	}
	return f
}

// JudgeGuestPolicy decides about the rest of the guest's launch policy.
func (s *SNP) JudgeGuestPolicy(p snp.Policy) Finding {
	f := Finding{}
	var seen, wanted []string
	for _, b := range []struct {
		name    string
		bit     snp.Policy
		allowed bool
	}{{"SMT", snp.PolicySMT, s.AllowSMT}, {"migration", snp.PolicyMigrateMA, s.AllowMigrationUnsafe}, {"CXL", snp.PolicyCXLAllow, s.AllowCXL}} {
		if b.allowed {
			wanted = append(wanted, b.name)
		}
		if p.Has(b.bit) {
			seen = append(seen, b.name)
			if !b.allowed && f.Err == nil {
				f.Err = fmt.Errorf("the guest allows %s, which the policy does not", b.name)
			}
		}
	}
	f.Seen, f.Wanted = list(seen), "at most "+list(wanted)
	return f
}

// JudgeVMPL decides about the privilege level of whoever asked for the report.
func (s *SNP) JudgeVMPL(vmpl uint32) Finding {
	f := Finding{Seen: fmt.Sprint(vmpl), Wanted: fmt.Sprintf("at most %d", s.MaxVMPL)}
	if vmpl > uint32(s.MaxVMPL) {
		f.Err = errors.New("a less privileged level of the guest asked for the report")
	}
	return f
}

// JudgePlatform decides about the platform's configuration.
func (s *SNP) JudgePlatform(p snp.PlatformInfo) Finding {
	f := Finding{Seen: fmt.Sprintf("%#x", uint64(p))}
	var wanted []string
	for _, b := range []struct {
		name     string
		bit      snp.PlatformInfo
		required bool
	}{{"ciphertext hiding", snp.PlatformCiphertextHidingDRAM, s.RequireCiphertextHiding}, {"alias check", snp.PlatformAliasCheckComplete, s.RequireAliasCheck}} {
		if b.required {
			wanted = append(wanted, b.name)
			if !p.Has(b.bit) && f.Err == nil {
				f.Err = fmt.Errorf("the platform does not report %s", b.name)
			}
		}
	}
	f.Wanted = list(wanted)
	return f
}

// JudgeKey decides about the kind of endorsement key.
func (s *SNP) JudgeKey(k *snp.EndorsementKey) Finding {
	f := Finding{Seen: k.Kind.String(), Wanted: strings.Join(s.Keys, " or ")}
	if !slices.Contains(s.Keys, f.Seen) {
		f.Err = fmt.Errorf("the policy does not accept reports signed with a %s", f.Seen)
	}
	return f
}

// JudgeTCB decides about the security patch levels of a product.
func (s *SNP) JudgeTCB(r *snp.Report, p snp.Product) Finding {
	f := Finding{Seen: fmt.Sprintf("reported %016x, committed %016x, launch %016x", uint64(r.ReportedTCB), uint64(r.CommittedTCB), uint64(r.LaunchTCB))}
	min, processor, ok := ruleFor(s.MinTCB, r, p)
	if !ok {
		f.Wanted = "a floor for " + string(p)
		f.Err = fmt.Errorf("the policy has no min_tcb for %s", processor)
		if r.Version < 3 {
			f.Err = fmt.Errorf("%w, and a version %d report does not name its stepping", f.Err, r.Version)
		}
		return f
	}
	f.Wanted = fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d or later", min.FMC, min.BootLoader, min.TEE, min.SNP, min.Microcode)
	for _, t := range []struct {
		name string
		snp.TCBParts
	}{{"reported", r.ReportedTCB.Parts(p)}, {"committed", r.CommittedTCB.Parts(p)}, {"launch", r.LaunchTCB.Parts(p)}} {
		if t.FMC < min.FMC || t.BootLoader < min.BootLoader || t.TEE < min.TEE || t.SNP < min.SNP || t.Microcode < min.Microcode {
			f.Err = fmt.Errorf("the %s TCB is older than the policy accepts", t.name)
			return f
		}
	}
	return f
}

// JudgeGuest decides whether the guest runs an image of the list, and names it.
func (s *SNP) JudgeGuest(r *snp.Report) Finding {
	names := make([]string, len(s.Images))
	for i, m := range s.Images {
		names[i] = m.Name
	}
	f := Finding{Wanted: oneOf(names)}
	if m := s.image(r); m != nil {
		f.Seen = m.Name
		return f
	}
	f.Seen = fmt.Sprintf("measurement %s, host data %x..., SVN %d", short(r.Measurement), r.HostData[:4], r.GuestSVN)
	f.Err = errors.New("the measurement is that of no listed image")
	return f
}

// image returns the image of the list that the guest runs, or nil.
func (s *SNP) image(r *snp.Report) *SNPImage {
	for i := range s.Images {
		if m := &s.Images[i]; m.Measurement.Accepts(r.Measurement) && m.HostData.Accepts(r.HostData) && m.IDKeyDigest.Accepts(r.IDKeyDigest) &&
			m.AuthorKeyDigest.Accepts(r.AuthorKeyDigest) && r.GuestSVN >= m.MinGuestSVN {
			return m
		}
	}
	return nil
}
