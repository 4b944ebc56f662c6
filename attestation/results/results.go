// Package results writes Attestation Results for machines and for people: the JSON of "bombyx verify --json" and the table
// of "bombyx verify".
package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
)

// Document is the JSON form of a Result. A reader trusts it no more than the channel that it came through: it is a report,
// not a signed token.
type Document struct {
	// Kind is what was appraised, such as "tdx-quote" (attestation.Kind).
	Kind string `json:"kind"`
	// Verdict is "verified" or "rejected".
	Verdict string `json:"verdict"`
	// TCBStatus is Intel's word for the platform even when the verdict is rejected for another reason; empty when it could
	// not be determined or does not apply.
	TCBStatus string `json:"tcb_status"`
	// Advisories lists INTEL-SA numbers that the platform is exposed to.
	Advisories []string `json:"advisories"`
	// Checks lists every check in order.
	Checks []Check `json:"checks"`
	// Claims holds what the evidence states.
	Claims map[string]string `json:"claims"`
	// ValidUntil is RFC 3339, the first instant at which the result no longer holds; empty when rejected.
	ValidUntil string `json:"valid_until"`
}

// Check is the JSON form of one check.
type Check struct {
	ID     string `json:"id"`
	Status string `json:"status"` // "PASS", "FAIL" or "SKIP"
	Detail string `json:"detail"`
}

// FromResult returns the JSON form. The verdict is "verified" only if Result.Err says so.
func FromResult(r *attestation.Result) Document {
	d := Document{Kind: string(r.Kind), Verdict: string(attestation.Rejected), TCBStatus: r.TCBStatus, Advisories: r.Advisories,
		Checks: []Check{}, Claims: r.Claims}
	if r.Err() == nil {
		d.Verdict = string(attestation.Verified)
		d.ValidUntil = r.ValidUntil.UTC().Format(time.RFC3339)
	}
	if d.Advisories == nil {
		d.Advisories = []string{}
	}
	if d.Claims == nil {
		d.Claims = map[string]string{}
	}
	for _, c := range r.Checks {
		d.Checks = append(d.Checks, Check{c.ID, string(c.Status), Detail(c)})
	}
	return d
}

// Detail says in one line what a check found.
func Detail(c check.Check) string {
	var parts []string
	if c.Detail != "" {
		parts = append(parts, c.Detail)
	}
	if c.Seen != "" {
		parts = append(parts, "seen "+c.Seen)
	}
	if c.Wanted != "" && (c.Status != check.Pass || c.Seen != c.Wanted) {
		parts = append(parts, "wanted "+c.Wanted)
	}
	return strings.Join(parts, "; ")
}

// JSON returns the document with a line feed at its end.
func JSON(r *attestation.Result) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(FromResult(r)); err != nil {
		panic(err) // strings and maps of strings always encode
	}
	return b.Bytes()
}

// TableOptions changes what Table writes.
type TableOptions struct {
	// Width is the longest line in columns; 0 means no limit.
	Width int
	// Style wraps the word of a status, for instance in colour; nil leaves it plain.
	Style func(check.Status, string) string
}

// Table writes one line per numbered check: its outcome, what it is about, the clause of the specification, the value seen
// and the value wanted. Below a check that stands in the way of the verdict it says why. The verdict comes last.
func Table(w io.Writer, r *attestation.Result, o TableOptions) error {
	var b strings.Builder
	style := o.Style
	if style == nil {
		style = func(_ check.Status, s string) string { return s }
	}
	line := func(s string) {
		s = printable(s)
		if n := o.Width; n > 3 && len([]rune(s)) > n {
			s = string([]rune(s)[:n-3]) + "..."
		}
		b.WriteString(s + "\n")
	}
	for i, c := range r.Checks {
		status := string(c.Status)
		if status == "" {
			status = "NONE"
		}
		text := prefix(c.ID) + c.Title + " [" + c.Clause + "]"
		if c.Seen != "" {
			text += " seen " + c.Seen
		}
		if c.Wanted != "" {
			text += "; wanted " + c.Wanted
		}
		if c.Status == check.Pass && c.Detail != "" {
			text += " (" + c.Detail + ")"
		}
		if c.Status == check.Skip && !c.Required {
			text += " (not required: " + c.Detail + ")"
		}
		// Only the status word is styled, so that the width counts what is seen.
		fmt.Fprintf(&b, "%3d  %s  ", i+1, style(c.Status, fmt.Sprintf("%-4s", status)))
		line(text)
		if c.Status == check.Fail || c.Status == check.Skip && c.Required {
			line("           " + c.ID + ": " + c.Detail)
		}
	}
	b.WriteString("\n")
	if r.TCBStatus != "" {
		line("TCB status   " + r.TCBStatus + advisories(r.Advisories))
	}
	if err := r.Err(); err != nil {
		b.WriteString("Verdict      " + style(check.Fail, "REJECTED"))
		line(" under policy \"" + r.Policy + "\"")
		if len(r.Missing) > 0 {
			line("Missing      " + strings.Join(r.Missing, ", "))
		}
		if len(r.Stale) > 0 {
			line("Expired      " + strings.Join(r.Stale, ", "))
		}
	} else {
		b.WriteString("Verdict      " + style(check.Pass, "VERIFIED"))
		line(" under policy \"" + r.Policy + "\"")
		line("Valid until  " + r.ValidUntil.UTC().Format(time.RFC3339))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func advisories(a []string) string {
	if len(a) == 0 {
		return ""
	}
	return " (" + strings.Join(a, ", ") + ")"
}

// prefix returns the device part of a check's identifier for the line.
func prefix(id string) string {
	device, _, _ := strings.Cut(id, ".")
	if strings.HasPrefix(device, "gpu") || strings.HasPrefix(device, "switch") {
		return device + " "
	}
	return ""
}

// printable keeps foreign text, such as a certificate's names, from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) { // which leaves out what turns the direction of text
			return r
		}
		return '\ufffd'
	}, s)
}
