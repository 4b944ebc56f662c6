package results

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/bombyx-network/bombyx/attestation"
)

// maxShown is how many bytes of an excerpt are written; of a longer one the first 32 and its SHA-256.
const maxShown = 96

// Explain writes, for each check of a result, the bytes that it rests on, as Verifier.Explain returned them.
func Explain(w io.Writer, r *attestation.Result, excerpts [][]attestation.Excerpt) error {
	var b strings.Builder
	b.WriteString("\nThe bytes behind the checks\n")
	for i, c := range r.Checks {
		fmt.Fprintf(&b, "%3d  %-4s %s\n", i+1, c.Status, c.ID)
		if i >= len(excerpts) || len(excerpts[i]) == 0 {
			why := "the policy and the clock alone"
			if c.Detail != "" {
				why = c.Detail
			}
			fmt.Fprintf(&b, "       no bytes: %s\n", printable(why))
			continue
		}
		for _, e := range excerpts[i] {
			fmt.Fprintf(&b, "       %s: %s\n", printable(Where(e)), Bytes(e))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Where says in one line which bytes an excerpt holds.
func Where(e attestation.Excerpt) string {
	s := fmt.Sprintf("%s, %s, %d bytes", e.In, e.Name, len(e.Bytes))
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at %d", e.Offset)
	}
	return s
}

// Bytes writes an excerpt in hexadecimal, a long one shortened.
func Bytes(e attestation.Excerpt) string {
	if len(e.Bytes) <= maxShown {
		return fmt.Sprintf("%x", e.Bytes)
	}
	return fmt.Sprintf("%x... SHA-256 %x", e.Bytes[:32], sha256.Sum256(e.Bytes))
}
