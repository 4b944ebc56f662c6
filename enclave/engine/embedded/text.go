package embedded

import (
	"strings"
	"unicode/utf8"
)

// assembler turns the tokens' bytes into text that can be shown: whole characters, and nothing that may turn out to
// belong to a stop string.
type assembler struct {
	stop    []string
	trim    bool // the space that begins a text with this vocabulary
	pending string
}

// add takes a token's bytes. It returns what can be shown now, and whether a stop string has ended the answer; neither the
// stop string nor anything behind it is shown.
func (a *assembler) add(s string) (text string, stopped bool) {
	if a.trim && s != "" {
		s = strings.TrimPrefix(s, " ")
		a.trim = false
	}
	a.pending += s
	end := -1
	for _, stop := range a.stop {
		if i := strings.Index(a.pending, stop); i >= 0 && (end < 0 || i < end) {
			end = i
		}
	}
	if end >= 0 {
		text = a.pending[:end]
		a.pending = ""
		return strings.ToValidUTF8(text, "\uFFFD"), true
	}
	n := len(a.pending) - a.undecided()
	text, a.pending = a.pending[:n], a.pending[n:]
	return strings.ToValidUTF8(text, "\uFFFD"), false
}

// rest returns what is still held back when the answer ends otherwise.
func (a *assembler) rest() string {
	text := a.pending
	a.pending = ""
	return strings.ToValidUTF8(text, "\uFFFD")
}

// undecided is the length of the end of pending that must wait: the beginning of a stop string or of a character.
func (a *assembler) undecided() int {
	n := 0
	for i := 1; i <= min(utf8.UTFMax-1, len(a.pending)); i++ {
		if c := a.pending[len(a.pending)-i]; utf8.RuneStart(c) {
			if !utf8.FullRuneInString(a.pending[len(a.pending)-i:]) {
				n = i
			}
			break
		}
	}
	for _, stop := range a.stop {
		for k := min(len(stop)-1, len(a.pending)); k > n; k-- {
			if strings.HasSuffix(a.pending, stop[:k]) {
				n = k
				break
			}
		}
	}
	return n
}
