package cli

import (
	"strings"
	"unicode/utf8"
)

// Printable keeps foreign text from steering the terminal that shows it: of
// the control characters (Unicode's category Cc), line breaks and tabs alone
// may pass, and none that changes the direction of what follows.
func Printable(s string) string {
	return strings.Map(printable, s)
}

func printable(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
		return r
	case r < 0x20 || r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return utf8.RuneError
	}
	return r
}
