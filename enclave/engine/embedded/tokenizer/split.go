package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitter returns the length in bytes of the first word of a text that is not empty. Merges do not cross words.
//
// But for splitPairs, the splitters are the regular expressions in their comments, alternative by alternative, written out: Go's regexp has
// no look-ahead.
type splitter func(text string) int

type class int

const (
	other class = iota
	letter
	number
	space
)

// classify returns the class of the first character of s and its length in bytes; 0 at the end.
func classify(s string) (rune, class, int) {
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case n == 0:
		return 0, other, 0
	case r < utf8.RuneSelf:
		switch {
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z':
			return r, letter, n
		case '0' <= r && r <= '9':
			return r, number, n
		case r == ' ' || '\t' <= r && r <= '\r':
			return r, space, n
		}
		return r, other, n
	case unicode.IsLetter(r):
		return r, letter, n
	case unicode.IsNumber(r):
		return r, number, n
	case unicode.IsSpace(r):
		return r, space, n
	}
	return r, other, n
}

// run returns the length of the characters of class c at the beginning of s, at most limit of them.
func run(s string, c class, limit int) int {
	i := 0
	for ; limit > 0; limit-- {
		_, k, n := classify(s[i:])
		if n == 0 || k != c {
			break
		}
		i += n
	}
	return i
}

const unlimited = 1 << 62

// whitespace is what follows the other alternatives in all splitters: \s+(?!\S)|\s+
func whitespace(s string) int {
	n := run(s, space, unlimited)
	if n < len(s) {
		if _, last := utf8.DecodeLastRuneInString(s[:n]); last < n {
			return n - last
		}
	}
	return n
}

// splitGPT2 is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func splitGPT2(s string) int {
	if s[0] == '\'' {
		for _, c := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
			if strings.HasPrefix(s, c) {
				return len(c)
			}
		}
	}
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	if _, c, n := classify(s[i:]); n > 0 && c != space {
		return i + run(s[i:], c, unlimited)
	}
	return whitespace(s)
}

// splitSmolLM takes numbers out, character by character, and splits what lies between them like splitGPT2: so space
// before a number is a word of its own.
func splitSmolLM(s string) int {
	if _, c, n := classify(s); c == number {
		return n
	}
	if n := run(s, space, unlimited); n > 0 && n < len(s) {
		if _, c, _ := classify(s[n:]); c == number {
			return n
		}
	}
	return splitGPT2(s)
}

// splitLlama3 is (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|
// \s*[\r\n]+|\s+(?!\S)|\s+
func splitLlama3(s string, digits int) int {
	if s[0] == '\'' {
		for _, c := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
			if len(s) >= len(c) && lower(s[:len(c)]) == c {
				return len(c)
			}
		}
	}
	r, c, n := classify(s)
	if c == letter {
		return run(s, letter, unlimited)
	}
	if c == number {
		return run(s, number, digits)
	}
	if r != '\r' && r != '\n' {
		if k := run(s[n:], letter, unlimited); k > 0 {
			return n + k
		}
	}
	i := 0
	if r == ' ' {
		i = 1
	}
	if k := run(s[i:], other, unlimited); k > 0 {
		for i += k; i < len(s) && (s[i] == '\r' || s[i] == '\n'); i++ {
		}
		return i
	}
	blank := s[:run(s, space, unlimited)]
	if i := strings.LastIndexAny(blank, "\r\n"); i >= 0 {
		return i + 1
	}
	return whitespace(s)
}

// lower is strings.ToLower for ASCII only: no other character folds to those that matter.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// splitPairs returns the splitter for tokens that are merged from characters in any text: a word ends between two characters
// that stand side by side in no token, where nothing can be merged. So the tokens are those of the whole text.
func splitPairs(tokens []string) splitter {
	pairs := map[[2]rune]bool{}
	for _, s := range tokens {
		last := rune(-1)
		for _, r := range s {
			pairs[[2]rune{last, r}] = true
			last = r
		}
	}
	return func(s string) int {
		last := rune(-1)
		for i, r := range s {
			if i > 0 && !pairs[[2]rune{last, r}] {
				return i
			}
			last = r
		}
		return len(s)
	}
}
