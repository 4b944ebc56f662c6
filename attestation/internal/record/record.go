// Package record keeps what one run of a verifier finds out: its checks in order, which of them decides the run, and for how long
// the findings hold.
package record

import (
	"errors"
	"fmt"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// Run is one run of a verifier.
type Run struct {
	Now    time.Time // the instant of the appraisal
	Checks []check.Check

	// Between these instants, inclusive, all that was used is valid. Zero: nothing was used.
	From, Until time.Time
}

func text(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// Pass reports a check that passed, and what it saw.
func (r *Run) Pass(id, clause, format string, args ...any) {
	r.Checks = append(r.Checks, check.Check{ID: id, Status: check.Pass, Clause: clause, Seen: text(format, args)})
}

// Fail reports a check that failed.
func (r *Run) Fail(id, clause, format string, args ...any) {
	r.Checks = append(r.Checks, check.Check{ID: id, Status: check.Fail, Clause: clause, Detail: text(format, args)})
}

// Skip reports a check that an earlier failure left nothing to do.
func (r *Run) Skip(id, clause, format string, args ...any) {
	r.Checks = append(r.Checks, check.Check{ID: id, Status: check.Skip, Clause: clause, Detail: text(format, args)})
}

// Missing reports a check that cannot run without some collateral.
func (r *Run) Missing(id, clause, what string) {
	r.Skip(id, clause, "no %s given", what)
	r.Last().Missing = what
}

// Stale marks the check that was reported last if it failed because collateral had expired.
func (r *Run) Stale(err error, what string) {
	if errors.As(err, new(*expiredError)) {
		r.Last().Stale = what
	}
}

// Decide passes the check if err is nil.
func (r *Run) Decide(id, clause string, err error, seen string) {
	if err != nil {
		r.Checks = append(r.Checks, check.Check{ID: id, Status: check.Fail, Clause: clause, Detail: err.Error()})
		return
	}
	r.Checks = append(r.Checks, check.Check{ID: id, Status: check.Pass, Clause: clause, Seen: seen})
}

// Last returns the check that was reported last.
func (r *Run) Last() *check.Check { return &r.Checks[len(r.Checks)-1] }

// Passed tells whether the check was reported, and passed.
func (r *Run) Passed(id string) bool {
	for i := range r.Checks {
		if r.Checks[i].ID == id {
			return r.Checks[i].Status == check.Pass
		}
	}
	return false
}

// Err returns nil if every check passed, else a *check.Error.
func (r *Run) Err() error {
	if i := r.decisive(); i >= 0 {
		return &check.Error{Check: r.Checks[i]}
	}
	return nil
}

// decisive returns the index of the check that keeps the run from passing, or -1 if every check passed; check.Error says which.
func (r *Run) decisive() int {
	skipped, stale := -1, -1
	for i := range r.Checks {
		switch k := &r.Checks[i]; {
		case k.Status == check.Fail && k.Stale == "":
			return i
		case k.Status == check.Fail && stale < 0:
			stale = i
		case k.Status == check.Skip && (skipped < 0 || r.Checks[skipped].Missing == "" && k.Missing != ""):
			skipped = i
		}
	}
	if stale >= 0 {
		return stale
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
	return &expiredError{fmt.Sprintf("%s expired at %s, appraised at %s", what, Stamp(until), Stamp(r.Now))}
}

// expiredError says that something had expired, and not that it was yet to come.
type expiredError struct{ text string }

func (e *expiredError) Error() string { return e.text }

// Stamp formats an instant for a check's detail.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
