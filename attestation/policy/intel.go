package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/dcap"
)

// TDX holds the rules for Intel TDX.
type TDX struct {
	// TCB holds the rules for the platform.
	TCB IntelTCB `json:"tcb"`
	// RequiredAttributes must all be set in the TD. Names as in the TDX module specification: "SEPT_VE_DISABLE".
	RequiredAttributes []TDAttribute `json:"required_attributes"`
	// AllowedAttributes may be set as well: "SEPT_VE_DISABLE", "PKS", "KL", "PERFMON", "MIGRATABLE_unsafe" (nothing here
	// says which migration TD may move it, or where to). All others must be clear; DEBUG cannot be allowed.
	AllowedAttributes []TDAttribute `json:"allowed_attributes"`
	// Images lists the acceptable guest images. It may be empty if a registry supplies images.
	Images []TDImage `json:"images"`
}

// SGX holds the rules for Intel SGX.
type SGX struct {
	// TCB holds the rules for the platform.
	TCB IntelTCB `json:"tcb"`
	// Enclaves lists the acceptable enclaves.
	Enclaves []SGXEnclave `json:"enclaves"`
}

// IntelTCB holds the rules for an Intel platform's trusted computing base.
type IntelTCB struct {
	// MinEvaluation is the lowest tcbEvaluationDataNumber of TCB info and QE identity that counts: it stops a host from
	// hiding a TCB recovery behind older collateral that has not expired yet.
	MinEvaluation uint32 `json:"min_evaluation_data_number"`
	// MinDate is the earliest acceptable tcbDate of platform, module and QE: fixes published until then are in place.
	MinDate time.Time `json:"min_date"`
	// Tolerated lists TCB statuses that are accepted beside UpToDate, for a time.
	Tolerated []Tolerance `json:"tolerated_statuses"`
	// AllowSMT accepts platforms with simultaneous multithreading, which share cores between tenants.
	AllowSMT bool `json:"allow_smt"`
	// AllowDynamicPlatform accepts platforms to which packages can be added after registration.
	AllowDynamicPlatform bool `json:"allow_dynamic_platform"`
	// AllowCachedKeys accepts platforms whose root keys Intel's registration service keeps.
	AllowCachedKeys bool `json:"allow_cached_keys"`
	// RequireMemoryIntegrity refuses platforms whose memory encryption does not detect tampering (SGX types Standard and
	// Scalable).
	RequireMemoryIntegrity bool `json:"require_memory_integrity"`
}

// A Tolerance accepts one TCB status until a date.
type Tolerance struct {
	// Status is Intel's word. Revoked and NotSupported cannot be tolerated.
	Status string `json:"status"`
	// Until ends the tolerance, and every result that rests on it.
	Until time.Time `json:"until"`
	// Advisories lists the advisories (INTEL-SA-...) that are known and accepted; any other one is a refusal.
	Advisories []string `json:"advisories"`
	// Reason says why, for whoever reviews the policy.
	Reason string `json:"reason"`
}

// A TDImage is one measured guest image.
type TDImage struct {
	// Name is what results call it.
	Name string `json:"name"`
	// Reason says why it is trusted: who built it, how to rebuild it.
	Reason string `json:"reason"`
	// MRTD measures the initial contents: the virtual firmware.
	MRTD Want `json:"mrtd"`
	// RTMR measure what was loaded later: 0 firmware configuration, 1 kernel, 2 command line and initrd, 3 the application.
	RTMR []Want `json:"rtmr"`
	// MRCONFIGID, MROWNER and MROWNERCONFIG are set by the host when it creates the TD.
	MRCONFIGID    Want `json:"mrconfigid"`
	MROWNER       Want `json:"mrowner"`
	MROWNERCONFIG Want `json:"mrownerconfig"`
}

// An SGXEnclave is one enclave, or every enclave of one signer.
type SGXEnclave struct {
	// Name is what results call it.
	Name string `json:"name"`
	// Reason says why it is trusted.
	Reason string `json:"reason"`
	// MRENCLAVE measures the enclave's initial contents; "any_unsafe" trusts whatever MRSIGNER signs.
	MRENCLAVE Want32 `json:"mrenclave"`
	// MRSIGNER is the digest of the signer's key.
	MRSIGNER Want32 `json:"mrsigner"`
	// ISVProdID is the product number that the signer gave.
	ISVProdID uint16 `json:"isvprodid"`
	// MinISVSVN is the lowest acceptable security version.
	MinISVSVN uint16 `json:"min_isvsvn"`
}

// A TDAttribute is the name of one TD attribute that a policy can speak of.
type TDAttribute string

var tdAttributes = []struct {
	name TDAttribute
	bit  dcap.TDAttributes
}{
	{"SEPT_VE_DISABLE", dcap.TDSeptVEDisable},
	{"MIGRATABLE_unsafe", dcap.TDMigratable},
	{"PKS", dcap.TDPKS},
	{"KL", dcap.TDKL},
	{"PERFMON", dcap.TDPerfmon},
}

func (a TDAttribute) bits() dcap.TDAttributes {
	for _, t := range tdAttributes {
		if t.name == a {
			return t.bit
		}
	}
	return 0
}

// UnmarshalText refuses names that a policy cannot speak of, DEBUG above all.
func (a *TDAttribute) UnmarshalText(b []byte) error {
	if TDAttribute(b).bits() == 0 {
		return fmt.Errorf("%q is no TD attribute that a policy can allow", b)
	}
	*a = TDAttribute(b)
	return nil
}

// tolerable are the statuses that a policy may accept beside UpToDate.
var tolerable = []dcap.TCBStatus{dcap.SWHardeningNeeded, dcap.ConfigurationNeeded, dcap.ConfigurationAndSWHardeningNeeded,
	dcap.OutOfDate, dcap.OutOfDateConfigurationNeeded, dcap.TDRelaunchAdvised, dcap.TDRelaunchAdvisedConfigurationNeeded}

func (t *IntelTCB) check() error {
	if t.MinEvaluation == 0 {
		return errors.New("min_evaluation_data_number: 0 would accept any rolled-back collateral")
	}
	for i, s := range t.Tolerated {
		switch {
		case !slices.Contains(tolerable, dcap.TCBStatus(s.Status)):
			return fmt.Errorf("tolerated_statuses[%d]: %q cannot be tolerated", i, s.Status)
		case s.Reason == "":
			return fmt.Errorf("tolerated_statuses[%d]: needs a reason", i)
		case slices.ContainsFunc(t.Tolerated[:i], func(o Tolerance) bool { return o.Status == s.Status }):
			return fmt.Errorf("tolerated_statuses[%d]: %q again", i, s.Status)
		}
	}
	return nil
}

func (t *SGX) check() error {
	if err := t.TCB.check(); err != nil {
		return fmt.Errorf("tcb.%w", err)
	}
	if len(t.Enclaves) == 0 {
		return errors.New("enclaves: empty, nothing could be verified")
	}
	for i, e := range t.Enclaves {
		if e.Name == "" || e.Reason == "" {
			return fmt.Errorf("enclaves[%d]: needs a name and a reason", i)
		}
	}
	return nil
}

func (t *TDX) check(supplied bool) error {
	if err := t.TCB.check(); err != nil {
		return fmt.Errorf("tcb.%w", err)
	}
	if len(t.Images) == 0 && !supplied {
		return errors.New("images: empty, and no registry supplies images: nothing could be verified")
	}
	for i, m := range t.Images {
		switch {
		case m.Name == "" || m.Reason == "":
			return fmt.Errorf("images[%d]: needs a name and a reason", i)
		case len(m.RTMR) != 4:
			return fmt.Errorf("images[%d].rtmr: %d registers, want 4", i, len(m.RTMR))
		case slices.ContainsFunc(t.Images[:i], func(o TDImage) bool { return o.Name == m.Name }):
			return fmt.Errorf("images[%d]: the name %q again", i, m.Name)
		}
	}
	return nil
}

// A Finding is one decision: what was seen, what the policy wants, and why it is refused; nil when it is not.
type Finding struct {
	Seen, Wanted string
	Err          error
	// Until ends the decision when it is not zero.
	Until time.Time
}

// JudgeStatus decides about the TCB status and the advisories that come with it.
func (t *IntelTCB) JudgeStatus(now time.Time, status dcap.TCBStatus, advisories []string) Finding {
	f := Finding{Seen: string(status), Wanted: string(dcap.UpToDate)}
	if len(advisories) > 0 {
		f.Seen += " (" + strings.Join(advisories, ", ") + ")"
	}
	if status == "" {
		f.Seen = "not determined"
	}
	for _, s := range t.Tolerated {
		f.Wanted += " or " + s.Status
		if dcap.TCBStatus(s.Status) != status {
			continue
		}
		f.Wanted += " until " + s.Until.Format(time.RFC3339)
		if !now.Before(s.Until) {
			f.Err = fmt.Errorf("the policy tolerated %s until %s", status, s.Until.Format(time.RFC3339))
			return f
		}
		for _, a := range advisories {
			if !slices.Contains(s.Advisories, a) {
				f.Err = fmt.Errorf("the policy tolerates %s but not with %s", status, a)
				return f
			}
		}
		f.Until = s.Until
		return f
	}
	if status != dcap.UpToDate {
		f.Err = fmt.Errorf("TCB status %s is not accepted", f.Seen)
	}
	return f
}

// JudgeFreshness decides whether the collateral and the TCB are recent enough.
func (t *IntelTCB) JudgeFreshness(tcbEvaluation, qeEvaluation uint32, tcbDate time.Time) Finding {
	f := Finding{
		Seen:   fmt.Sprintf("evaluation %d (QE %d), TCB of %s", tcbEvaluation, qeEvaluation, tcbDate.Format(time.DateOnly)),
		Wanted: fmt.Sprintf("evaluation %d or later, TCB of %s or later", t.MinEvaluation, t.MinDate.Format(time.DateOnly)),
	}
	switch {
	case tcbEvaluation < t.MinEvaluation || qeEvaluation < t.MinEvaluation:
		f.Err = errors.New("the collateral is older than the policy accepts; fetch newer collateral")
	case tcbDate.Before(t.MinDate):
		f.Err = errors.New("the platform's TCB is older than the policy accepts")
	}
	return f
}

// JudgeDebug refuses TDs that their host can look into. No policy changes this.
func (t *TDX) JudgeDebug(a dcap.TDAttributes) Finding {
	f := Finding{Seen: fmt.Sprintf("TUD bits %#02x", uint8(a)), Wanted: "0x00"}
	if a.Debug() {
		f.Err = errors.New("the TD is debuggable: its host can read everything in it")
	}
	return f
}

// JudgeAttributes decides about all attributes but the debug group.
func (t *TDX) JudgeAttributes(a dcap.TDAttributes) Finding {
	var required, allowed dcap.TDAttributes
	for _, n := range t.RequiredAttributes {
		required |= n.bits()
	}
	for _, n := range t.AllowedAttributes {
		allowed |= n.bits()
	}
	a &^= 0xff
	f := Finding{Seen: describeAttributes(a), Wanted: fmt.Sprintf("%s, optional %s", describeAttributes(required), describeAttributes(allowed))}
	switch {
	case a&required != required:
		f.Err = fmt.Errorf("attribute %s is missing", describeAttributes(required&^a))
	case a&^(required|allowed) != 0:
		f.Err = fmt.Errorf("attribute %s is not allowed", describeAttributes(a&^(required|allowed)))
	}
	return f
}

func describeAttributes(a dcap.TDAttributes) string {
	var names []string
	for _, t := range tdAttributes {
		if a.Has(t.bit) {
			names = append(names, string(t.name))
			a &^= t.bit
		}
	}
	if a != 0 {
		names = append(names, fmt.Sprintf("%#x", uint64(a)))
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// JudgeConfiguration decides about what Intel certifies of a multi-package platform. Platforms under the Processor CA
// have no such configuration.
func (t *IntelTCB) JudgeConfiguration(pck *dcap.PCK) Finding {
	var wanted, seen []string
	c := pck.Configuration
	f := Finding{}
	if c == nil {
		c = &dcap.PCKConfiguration{}
	}
	for _, o := range []struct {
		name    string
		allowed bool
		value   *bool
	}{{"dynamic platform", t.AllowDynamicPlatform, c.DynamicPlatform}, {"cached keys", t.AllowCachedKeys, c.CachedKeys}, {"SMT", t.AllowSMT, c.SMTEnabled}} {
		if o.value != nil && *o.value {
			seen = append(seen, o.name)
			if !o.allowed && f.Err == nil {
				f.Err = fmt.Errorf("the platform has %s, which the policy does not allow", o.name)
			}
		}
		if o.allowed {
			wanted = append(wanted, o.name)
		}
	}
	f.Seen, f.Wanted = list(seen), "at most "+list(wanted)
	if t.RequireMemoryIntegrity {
		f.Wanted += "; memory integrity"
		if pck.SGXType != dcap.SGXScalableIntegrity && f.Err == nil {
			f.Err = errors.New("the platform's memory encryption does not detect tampering")
		}
	}
	return f
}

// JudgeDebug refuses enclaves that their host can look into. No policy changes this.
func (t *SGX) JudgeDebug(r *dcap.EnclaveReport) Finding {
	f := Finding{Seen: fmt.Sprintf("attributes %x", r.Attributes[:8]), Wanted: "DEBUG clear"}
	if r.Debug() {
		f.Err = errors.New("the enclave is debuggable: its host can read everything in it")
	}
	return f
}

// JudgeEnclave decides whether the enclave is on the list, and names it.
func (t *SGX) JudgeEnclave(r *dcap.EnclaveReport) Finding {
	names := make([]string, len(t.Enclaves))
	for i, e := range t.Enclaves {
		names[i] = e.Name
	}
	f := Finding{Wanted: "one of " + strings.Join(names, ", "),
		Seen: fmt.Sprintf("MRENCLAVE %x, MRSIGNER %x, product %d, SVN %d", r.MRENCLAVE[:4], r.MRSIGNER[:4], r.ISVProdID, r.ISVSVN)}
	for _, e := range t.Enclaves {
		if e.MRENCLAVE.Accepts(r.MRENCLAVE) && e.MRSIGNER.Accepts(r.MRSIGNER) && e.ISVProdID == r.ISVProdID && r.ISVSVN >= e.MinISVSVN {
			f.Seen = e.Name
			return f
		}
	}
	f.Err = errors.New("the enclave is not on the list")
	return f
}

func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

// JudgeImage decides whether the TD runs an image of the list, and names it.
func (t *TDX) JudgeImage(td *dcap.TDReport) Finding {
	names := make([]string, len(t.Images))
	for i, m := range t.Images {
		names[i] = m.Name
	}
	wanted := oneOf(names)
	if m := t.image(td); m != nil {
		return Finding{Seen: m.Name, Wanted: wanted}
	}
	return Finding{
		Seen:   fmt.Sprintf("MRTD %s, RTMR %s %s %s %s", short(td.MRTD), short(td.RTMR[0]), short(td.RTMR[1]), short(td.RTMR[2]), short(td.RTMR[3])),
		Wanted: wanted,
		Err:    errors.New("the measurements are those of no listed image"),
	}
}

// image returns the image of the list that the TD runs, or nil.
func (t *TDX) image(td *dcap.TDReport) *TDImage {
	for i := range t.Images {
		if m := &t.Images[i]; m.matches(td) {
			return m
		}
	}
	return nil
}

func oneOf(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "one of " + strings.Join(names, ", ")
}

func short(d Digest) string { return hex.EncodeToString(d[:4]) + "..." }

func (m *TDImage) matches(td *dcap.TDReport) bool {
	for i, w := range m.RTMR {
		if !w.Accepts(td.RTMR[i]) {
			return false
		}
	}
	return m.MRTD.Accepts(td.MRTD) && m.MRCONFIGID.Accepts(td.MRCONFIGID) && m.MROWNER.Accepts(td.MROWNER) &&
		m.MROWNERCONFIG.Accepts(td.MROWNERCONFIG)
}
