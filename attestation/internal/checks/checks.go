// Package checks keeps what one run of a verifier finds out: its checks in order, which of them decides the run, and for how long
// the findings hold.
package checks

import (
	"fmt"
	"time"
)

// Status is the outcome of a check.
type Status string

// Outcomes. A skipped check is never a pass.
const (
	Pass Status = "PASS"
	Fail Status = "FAIL"
	Skip Status = "SKIP"
)

// Check is one verified, refuted or undecided fact.
type Check struct {
	ID      string
	Status  Status
	Detail  string
	Clause  string
	Missing string // after a skip: the collateral that was not given, or empty if an earlier failure left nothing to check
}

// Run is one run of a verifier.
type Run struct {
	Now    time.Time // the instant of the appraisal
	Checks []Check

	// Between these instants, inclusive, all that was used is valid. Zero: nothing was used.
	From, Until time.Time
}

func (r *Run) report(id, clause string, status Status, format string, args ...any) {
	detail := format
	if len(args) > 0 {
		detail = fmt.Sprintf(format, args...)
	}
	r.Checks = append(r.Checks, Check{ID: id, Status: status, Detail: detail, Clause: clause})
}

// Pass reports a check that passed.
func (r *Run) Pass(id, clause, format string, args ...any) {
	r.report(id, clause, Pass, format, args...)
}

// Fail reports a check that failed.
func (r *Run) Fail(id, clause, format string, args ...any) {
	r.report(id, clause, Fail, format, args...)
}

// Skip reports a check that an earlier failure left nothing to do.
func (r *Run) Skip(id, clause, format string, args ...any) {
	r.report(id, clause, Skip, format, args...)
}

// Missing reports a check that cannot run without some collateral.
func (r *Run) Missing(id, clause, what string) {
	r.Skip(id, clause, "no %s given", what)
	r.Last().Missing = what
}

// Decide passes the check if err is nil.
func (r *Run) Decide(id, clause string, err error, detail string) {
	if err != nil {
		r.Fail(id, clause, "%s", err.Error())
		return
	}
	r.Pass(id, clause, "%s", detail)
}

// Last returns the check that was reported last.
func (r *Run) Last() *Check { return &r.Checks[len(r.Checks)-1] }

// Passed tells whether the check was reported, and passed.
func (r *Run) Passed(id string) bool {
	for i := range r.Checks {
		if r.Checks[i].ID == id {
			return r.Checks[i].Status == Pass
		}
	}
	return false
}

// Decisive returns the index of the check that keeps the run from passing, or -1 if every check passed: the first that failed;
// else the first that was skipped for want of collateral; else the first that was skipped.
func (r *Run) Decisive() int {
	skipped := -1
	for i := range r.Checks {
		switch k := &r.Checks[i]; {
		case k.Status == Fail:
			return i
		case k.Status == Skip && (skipped < 0 || r.Checks[skipped].Missing == "" && k.Missing != ""):
			skipped = i
		}
	}
	return skipped
}

// Within narrows the validity of the run to [from, until] and returns an error if Now lies outside. The error calls it by what it
// is and, unless that is empty, by its name.
func (r *Run) Within(what, name string, from, until time.Time) error {
	r.Narrow(from, until)
	return r.Current(what, name, from, until)
}

// Narrow narrows the validity of the run to [from, until].
func (r *Run) Narrow(from, until time.Time) {
	if r.From.IsZero() || from.After(r.From) {
		r.From = from
	}
	if r.Until.IsZero() || until.Before(r.Until) {
		r.Until = until
	}
}

// Current returns an error if Now lies outside [from, until].
func (r *Run) Current(what, name string, from, until time.Time) error {
	early := r.Now.Before(from)
	if !early && !r.Now.After(until) {
		return nil
	}
	if name != "" {
		what = fmt.Sprintf("%s %q", what, name)
	}
	if early {
		return fmt.Errorf("%s is valid from %s on, appraised at %s", what, Stamp(from), Stamp(r.Now))
	}
	return fmt.Errorf("%s expired at %s, appraised at %s", what, Stamp(until), Stamp(r.Now))
}

// Stamp formats an instant for a check's detail.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
