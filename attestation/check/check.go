// Package check is what every appraisal is made of: numbered checks, each with its outcome, its clause in the specification, the
// value seen and the value wanted.
package check

import (
	"errors"
	"fmt"
)

// A Status is the outcome of a check. The zero value is no outcome at all, and counts as a failure.
type Status string

const (
	Pass Status = "PASS"
	Fail Status = "FAIL"
	Skip Status = "SKIP" // nothing to check it with; never a pass
)

// A Check is one fact that was verified, refuted or left undecided.
type Check struct {
	// ID is stable across releases, such as "dcap.quote.signature"; checks of a device of a node begin with "gpu0." or "switch3.".
	ID string
	// Title says in a few words what passes. Package attestation sets it.
	Title  string
	Status Status
	// Required says that the verdict needs a Pass. A Fail rejects whether required or not; what may be skipped is the policy's
	// choice, or a matter of what the hardware can state. Package attestation sets it.
	Required bool
	// Clause names the specification and section.
	Clause string
	// Seen is the value found, Wanted the one required.
	Seen, Wanted string
	// Detail says why a check failed or was skipped.
	Detail string
	// Missing names the collateral whose lack made it a Skip; empty if an earlier failure left nothing to check.
	Missing string
	// Stale names the collateral that made it a Fail because it had expired at the instant of the appraisal: a newer one might not.
	Stale string
}

// An Error says which check keeps an appraisal from passing: the first that failed, of those the first that did for another reason
// than expired collateral; else the first that was skipped for want of collateral; else the first that was skipped.
type Error struct{ Check Check }

func (e *Error) Error() string {
	switch {
	case e.Check.Missing != "":
		return fmt.Sprintf("%s: collateral is missing: %s", e.Check.ID, e.Check.Missing)
	case e.Check.Status == Skip:
		return fmt.Sprintf("%s: not decided: %s", e.Check.ID, e.Check.Detail)
	}
	return fmt.Sprintf("%s: %s", e.Check.ID, e.Check.Detail)
}

// Is reports a match with ErrMissing or ErrStale.
func (e *Error) Is(target error) bool {
	return target == ErrMissing && e.Check.Missing != "" || target == ErrStale && e.Check.Stale != ""
}

// ErrMissing matches (errors.Is) the error of an appraisal in which nothing failed but collateral was missing.
var ErrMissing = errors.New("attestation: collateral is missing")

// ErrStale matches (errors.Is) the error of an appraisal in which nothing failed but that collateral had expired.
var ErrStale = errors.New("attestation: collateral has expired")
