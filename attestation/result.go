package attestation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/keyset"
)

// inTheWay reports whether the check stands in the way of a verdict.
func inTheWay(c *check.Check) bool {
	return c.Status != check.Pass && (c.Status != check.Skip || c.Required)
}

// A Verdict is the outcome of an appraisal. The zero value is no verdict.
type Verdict string

const (
	Verified Verdict = "verified"
	Rejected Verdict = "rejected"
)

// A Kind says what was appraised.
type Kind string

const (
	KindEvidence     Kind = "bombyx-evidence" // composite document
	KindTDXQuote     Kind = "tdx-quote"
	KindSGXQuote     Kind = "sgx-quote"
	KindSNPReport    Kind = "sev-snp-report"
	KindGPUReport    Kind = "nvidia-gpu-report"
	KindSwitchReport Kind = "nvidia-switch-report"
)

// A Result is an Attestation Result (RFC 9334). Trust it only if Err returns nil: a zero, partial or hand-made Result
// never does.
type Result struct {
	Kind    Kind
	Verdict Verdict
	// Checks lists every check in order; number i+1 in reports.
	Checks []check.Check
	// TCBStatus is Intel's word for the platform, whatever the verdict; empty when it could not be determined.
	TCBStatus string
	// Advisories lists the advisories (INTEL-SA-...) that the platform is exposed to, sorted.
	Advisories []string
	// Claims holds what the Evidence states, by name. It means nothing unless Err returns nil.
	Claims map[string]string
	// Policy is the name of the policy applied.
	Policy string
	// AppraisedAt is the instant that the appraisal was for, and ValidUntil the first at which the Result no longer holds.
	AppraisedAt, ValidUntil time.Time
	// Keyset holds the keys that verified composite Evidence vouches for; nil unless Err returns nil.
	Keyset *keyset.Keyset
	// EvidenceDigest is the SHA-256 of the Evidence exactly as received.
	EvidenceDigest [32]byte
	// Missing lists collateral that a required check lacked. When nothing failed, more collateral can change the verdict.
	Missing []string
	// Stale lists collateral that made a check fail because it had expired. When nothing else failed, newer collateral can change the
	// verdict.
	Stale []string

	appraised bool // set by appraisals alone
}

// A RejectedError says why Evidence is not to be trusted.
type RejectedError struct {
	// Failed lists every check that stands in the way.
	Failed []check.Check
	// Missing and Stale are those of the Result.
	Missing, Stale []string

	onlyMissing, onlyStale bool
}

func (e *RejectedError) Error() string {
	if len(e.Failed) == 0 {
		return "attestation: not appraised"
	}
	var b strings.Builder
	b.WriteString("attestation: rejected: ")
	for i, c := range e.Failed {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(e.Failed)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.ID)
		why := c.Detail
		if why == "" && c.Status != check.Pass {
			why = fmt.Sprintf("seen %s, wanted %s", c.Seen, c.Wanted)
		}
		b.WriteString(": " + why)
	}
	return b.String()
}

// Is reports a match with check.ErrMissing or check.ErrStale.
func (e *RejectedError) Is(target error) bool {
	return target == check.ErrMissing && e.onlyMissing || target == check.ErrStale && e.onlyStale
}

// Err returns nil if and only if an appraisal ran to its end and verified the Evidence. It does not look at the clock:
// whoever keeps a Result compares ValidUntil with the time.
func (r *Result) Err() error {
	if r == nil || !r.appraised {
		return &RejectedError{}
	}
	e := &RejectedError{Missing: r.Missing, Stale: r.Stale, onlyMissing: len(r.Missing) > 0, onlyStale: len(r.Stale) > 0}
	for _, c := range r.Checks {
		if inTheWay(&c) {
			e.Failed = append(e.Failed, c)
			e.onlyMissing = e.onlyMissing && c.Status == check.Skip
			e.onlyStale = e.onlyStale && (c.Status == check.Skip || c.Stale != "")
		}
	}
	if len(e.Failed) == 0 && r.Verdict == Verified && len(r.Checks) > 0 {
		return nil
	}
	return e
}

// Check returns the check with that ID, or nil.
func (r *Result) Check(id string) *check.Check {
	for i := range r.Checks {
		if r.Checks[i].ID == id {
			return &r.Checks[i]
		}
	}
	return nil
}

// finish draws the verdict.
func (r *Result) finish() {
	r.appraised = true
	r.Verdict = Verified
	for i := range r.Checks {
		c := &r.Checks[i]
		if inTheWay(c) {
			r.Verdict = Rejected
		}
		if c.Stale != "" && !slices.Contains(r.Stale, c.Stale) {
			r.Stale = append(r.Stale, c.Stale)
		}
	}
	if len(r.Checks) == 0 {
		r.Verdict = Rejected
	}
	if r.Verdict != Verified {
		r.Keyset, r.ValidUntil = nil, time.Time{}
	}
}

// until shortens the Result's life.
func (r *Result) until(t time.Time) {
	if !t.IsZero() && (r.ValidUntil.IsZero() || t.Before(r.ValidUntil)) {
		r.ValidUntil = t
	}
}

func (r *Result) missing(what string) {
	for _, m := range r.Missing {
		if m == what {
			return
		}
	}
	r.Missing = append(r.Missing, what)
}
