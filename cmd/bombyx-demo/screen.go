package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A screen prints the demo, or nothing when only the summary is wanted.
type screen struct {
	w     io.Writer
	color bool
	n     int
}

func newScreen(w io.Writer, quiet bool) *screen {
	if quiet {
		return &screen{w: io.Discard}
	}
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" {
		return &screen{w: os.Stdout, color: true} // w shows no colours
	}
	return &screen{w: w}
}

func (s *screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) title(t string) {
	s.n++
	fmt.Fprintf(s.w, "\n%s\n%s\n", s.paint("1", fmt.Sprintf("%d. %s", s.n, t)), strings.Repeat("─", 96))
}

func (s *screen) line(format string, args ...any) { fmt.Fprintf(s.w, "  "+format+"\n", args...) }

func (s *screen) raw(text string) { io.WriteString(s.w, text) }

func (s *screen) pass(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s  %s\n", s.paint("32", "ok"), fmt.Sprintf(format, args...))
}

// status colours the word that a check came to.
func (s *screen) status(word string) string {
	switch word {
	case "PASS":
		return s.paint("32", word)
	case "FAIL":
		return s.paint("31", word)
	}
	return s.paint("33", word)
}

func (s *screen) refused(name, reason string) {
	fmt.Fprintf(s.w, "  %s  %-44s %s\n", s.paint("32", "refused"), name, reason)
}

func (s *screen) row(cells ...string) {
	fmt.Fprintf(s.w, "  %-34s %18s %18s %18s\n", cells[0], cells[1], cells[2], cells[3])
}
