// Package tokenizer turns text into token ids and back, id for id like llama.cpp, for the two kinds of BPE vocabulary that
// GGUF files of Llama-family models carry: byte-level BPE ("tokenizer.ggml.model" = "gpt2"), which merges bytes in the
// order of its list of merges, and SentencePiece BPE ("llama"), which merges characters to the tokens with the highest
// scores, spells those it lacks in bytes, and begins texts with a space.
//
// Text and markup are different things. [Tokenizer.Encode] never yields a special token, whatever the text says.
// [Tokenizer.EncodeMarkup] does, and is for the output of a chat template only; strings of strangers go into the template
// through [Tokenizer.Protect], which keeps them plain text.
package tokenizer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
)

// ErrUnsupported is wrapped by errors about vocabularies that are not implemented or not consistent.
var ErrUnsupported = errors.New("unsupported tokenizer")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// Token types in "tokenizer.ggml.token_type".
const (
	typeNormal      = 1
	typeUnknown     = 2
	typeControl     = 3
	typeUserDefined = 4
	typeUnused      = 5
	typeByte        = 6
)

// mark is put into protected text. It is a noncharacter, which Unicode keeps for such internal use; text that already
// has one cannot be protected.
const mark = '\uFDD0'

// blank is how SentencePiece vocabularies write the space. In a text it means one, too.
const blank = "\u2581"

// maxWord is the length in bytes from which on a word is encoded in parts, unlike in llama.cpp: merging takes time and
// memory beyond its length, and such words are nobody's language.
const maxWord = 16 << 10

// ErrMark is the error about text with the character U+FDD0.
var ErrMark = errors.New("the text has the noncharacter U+FDD0; remove it")

// endOfGeneration are special tokens that end an answer or, in code, a file, beside those that the metadata names. As in
// llama.cpp they stand for no text, whatever type the file gives them.
var endOfGeneration = []string{"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "</s>",
	"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}

// Tokenizer is a vocabulary. It is immutable.
type Tokenizer struct {
	text        []string // of each token: bytes, not in the byte alphabet nor with blanks; special tokens literally
	kind        []int8
	ids         map[string]int32 // of normal tokens, by their bytes
	bytes       [256]int32       // of single bytes; -1 where the vocabulary has none
	merges      map[[2]int32]merge
	ranks       []int32 // of tokens by their scores, the highest first; nil for byte-level BPE
	special     []int32 // control, user-defined and unknown, longest first
	specialByte [256]bool
	split       splitter
	wholeWords  bool // a word that is a token is not merged
	spacePrefix bool
	longest     int // bytes of a token
	bos, eos    int
	addBOS      bool
	end         map[int]bool
}

type merge struct{ rank, id int32 }

// New reads the vocabulary in f's metadata.
func New(f *gguf.File) (*Tokenizer, error) {
	t := &Tokenizer{ids: map[string]int32{}, merges: map[[2]int32]merge{}, end: map[int]bool{}, bos: -1, eos: -1}
	for b := range t.bytes {
		t.bytes[b] = -1
	}
	tokens, _ := f.Metadata["tokenizer.ggml.tokens"].([]string)
	kinds, _ := f.Metadata["tokenizer.ggml.token_type"].([]int32)
	if len(tokens) == 0 || len(kinds) != len(tokens) {
		return nil, unsupported("%d tokens with %d types", len(tokens), len(kinds))
	}
	set := t.setByteLevel
	switch model, _ := f.Metadata["tokenizer.ggml.model"].(string); model {
	case "gpt2":
	case "llama":
		set = t.setSentencePiece
	default:
		return nil, unsupported("model %.64q; byte-level BPE (\"gpt2\") and SentencePiece BPE (\"llama\") are implemented", model)
	}
	if err := set(f, tokens, kinds); err != nil {
		return nil, err
	}
	return t, t.setRoles(f)
}

func (t *Tokenizer) setByteLevel(f *gguf.File, tokens []string, kinds []int32) error {
	pre, _ := f.Metadata["tokenizer.ggml.pre"].(string)
	switch pre {
	case "gpt-2":
		t.split = splitGPT2
	case "smollm":
		t.split = splitSmolLM
	case "qwen2", "deepseek-r1-qwen":
		t.split = func(s string) int { return splitLlama3(s, 1) }
	case "llama-bpe", "llama3", "llama-v3":
		t.split = func(s string) int { return splitLlama3(s, 3) }
		t.wholeWords, t.addBOS = true, true
	default:
		return unsupported("pre-tokenizer %.64q; gpt-2, smollm, qwen2 and llama-bpe are implemented", pre)
	}
	if err := t.setTokens(tokens, kinds, fromAlphabet); err != nil {
		return err
	}
	for b := range t.bytes {
		if id, ok := t.ids[string([]byte{byte(b)})]; ok {
			t.bytes[b] = id
		}
	}
	merges, _ := f.Metadata["tokenizer.ggml.merges"].([]string)
	return t.setMerges(merges)
}

func (t *Tokenizer) setSentencePiece(f *gguf.File, tokens []string, kinds []int32) error {
	if pre, ok := f.Metadata["tokenizer.ggml.pre"]; ok && pre != "default" {
		return unsupported("SentencePiece with pre-tokenizer %.64q; default is implemented", pre)
	}
	scores, _ := f.Metadata["tokenizer.ggml.scores"].([]float32)
	if len(scores) != len(tokens) {
		return unsupported("%d tokens with %d scores", len(tokens), len(scores))
	}
	descending := slices.Clone(scores)
	slices.SortFunc(descending, func(a, b float32) int { return cmp.Compare(b, a) })
	descending = slices.Compact(descending)
	for i, score := range scores {
		rank, ok := slices.BinarySearchFunc(descending, score, func(a, b float32) int { return cmp.Compare(b, a) })
		if !ok || score != score {
			return unsupported("the score of token %d is %v", i, score)
		}
		t.ranks = append(t.ranks, int32(rank))
	}
	if err := t.setTokens(tokens, kinds, func(s string) (string, bool) {
		return strings.ReplaceAll(s, blank, " "), !strings.Contains(s, " ")
	}); err != nil {
		return err
	}
	if b := slices.Index(t.bytes[:], -1); b >= 0 {
		return unsupported("there is no token <0x%02X>", b)
	}
	for _, s := range tokens { // as texts may spell them, with blanks
		t.longest = max(t.longest, len(s))
	}
	t.split = splitPairs(slices.Collect(maps.Keys(t.ids)))
	t.addBOS, t.spacePrefix = true, true
	if v, ok := f.Metadata["tokenizer.ggml.add_space_prefix"]; ok {
		if t.spacePrefix, ok = v.(bool); !ok {
			return unsupported("tokenizer.ggml.add_space_prefix is %v; a bool is expected", v)
		}
	}
	return nil
}

// setTokens reads the tokens, the text of normal ones with plain.
func (t *Tokenizer) setTokens(tokens []string, kinds []int32, plain func(string) (string, bool)) error {
	literal := map[string]bool{}
	for i, s := range tokens {
		kind := kinds[i]
		t.kind = append(t.kind, int8(kind))
		switch kind {
		case typeNormal, typeUnused:
			b, ok := plain(s)
			if !ok {
				return unsupported("token %d, %.64q, is not in the vocabulary's alphabet", i, s)
			}
			if _, ok := t.ids[b]; ok || b == "" {
				return unsupported("token %d, %.64q, is empty or occurs twice", i, s)
			}
			t.ids[b] = int32(i)
			t.text = append(t.text, b)
		case typeControl, typeUserDefined, typeUnknown:
			if literal[s] || s == "" {
				return unsupported("token %d, %.64q, is empty or occurs twice", i, s)
			}
			literal[s] = true
			t.text = append(t.text, s)
			if _, n := utf8.DecodeRuneInString(s); n == len(s) { // Protect marks behind the first character
				return unsupported("token %d, %q, is one character and special", i, s)
			}
			t.special = append(t.special, int32(i))
			t.specialByte[s[0]] = true
		case typeByte:
			var b byte
			if n, err := fmt.Sscanf(s, "<0x%02X>", &b); t.ranks == nil || n != 1 || err != nil || s != fmt.Sprintf("<0x%02X>", b) || t.bytes[b] >= 0 {
				return unsupported("token %d, %.64q, is no byte of a SentencePiece vocabulary or occurs twice", i, s)
			}
			t.bytes[b] = int32(i)
			t.text = append(t.text, string([]byte{b}))
		default:
			return unsupported("token %d, %.64q, has type %d", i, s, kind)
		}
	}
	for _, s := range t.text {
		t.longest = max(t.longest, len(s))
	}
	slices.SortStableFunc(t.special, func(a, b int32) int { return len(t.text[b]) - len(t.text[a]) })
	return nil
}

func (t *Tokenizer) setMerges(merges []string) error {
	for rank, s := range merges {
		left, right, ok := strings.Cut(s, " ")
		l, okL := fromAlphabet(left)
		r, okR := fromAlphabet(right)
		if !ok || !okL || !okR {
			return unsupported("merge %d, %.64q, is not two words of the byte alphabet", rank, s)
		}
		a, okA := t.ids[l]
		b, okB := t.ids[r]
		both, okBoth := t.ids[l+r]
		if !okA || !okB || !okBoth {
			return unsupported("merge %d, %.64q, is of no tokens", rank, s)
		}
		if _, ok := t.merges[[2]int32{a, b}]; !ok {
			t.merges[[2]int32{a, b}] = merge{int32(rank), both}
		}
	}
	return nil
}

// setRoles reads which tokens begin and end a text.
func (t *Tokenizer) setRoles(f *gguf.File) error {
	role := func(name string) (int, error) {
		key := "tokenizer.ggml." + name
		v, ok := f.Metadata[key]
		if !ok {
			return -1, nil
		}
		id, ok := v.(uint32)
		if !ok || int64(id) >= int64(len(t.text)) {
			return -1, unsupported("%s is %v; a token is expected", key, v)
		}
		return int(id), nil
	}
	var err error
	if t.bos, err = role("bos_token_id"); err != nil {
		return err
	}
	if t.eos, err = role("eos_token_id"); err != nil {
		return err
	}
	for _, name := range []string{"eos_token_id", "eot_token_id", "eom_token_id"} {
		id, err := role(name)
		if err != nil {
			return err
		}
		if id >= 0 {
			t.end[id] = true
		}
	}
	if v, ok := f.Metadata["tokenizer.ggml.eos_token_ids"]; ok { // as ollama writes it
		ids, ok := v.([]int32)
		for _, id := range ids {
			ok = ok && id >= 0 && int(id) < len(t.text)
			t.end[int(id)] = true
		}
		if !ok {
			return unsupported("tokenizer.ggml.eos_token_ids does not name tokens")
		}
	}
	for _, id := range t.special {
		if slices.Contains(endOfGeneration, t.text[id]) {
			t.end[int(id)], t.kind[id] = true, typeControl
		}
	}
	if v, ok := f.Metadata["tokenizer.ggml.add_bos_token"]; ok {
		if t.addBOS, ok = v.(bool); !ok {
			return unsupported("tokenizer.ggml.add_bos_token is %v; a bool is expected", v)
		}
	}
	if t.addBOS && t.bos < 0 {
		return unsupported("texts begin with a token that is not named (tokenizer.ggml.bos_token_id)")
	}
	neutral := []string{"add_eos_token", "add_sep_token", "remove_extra_whitespaces", "precompiled_charsmap"}
	if t.ranks == nil {
		neutral = append(neutral, "add_space_prefix")
	}
	for _, name := range neutral {
		if v, ok := f.Metadata["tokenizer.ggml."+name]; ok && v != false {
			return unsupported("tokenizer.ggml.%s is %v", name, v)
		}
	}
	return nil
}

// Len is the number of tokens.
func (t *Tokenizer) Len() int { return len(t.text) }

// Longest is the length in bytes of the longest token: a text of n bytes has at least n/Longest tokens.
func (t *Tokenizer) Longest() int { return t.longest }

// BOS returns the token that begins a text, -1 when there is none, and whether every text must begin with it.
func (t *Tokenizer) BOS() (id int, always bool) { return t.bos, t.addBOS }

// EOS returns the token that ends a text, or -1.
func (t *Tokenizer) EOS() int { return t.eos }

// IsEnd reports whether a model that yields the token has finished its answer.
func (t *Tokenizer) IsEnd(id int) bool { return t.end[id] }

// SpacePrefix reports whether a space is put before texts, so that the model's own begin with one, too.
func (t *Tokenizer) SpacePrefix() bool { return t.spacePrefix }

// Special returns the control, user-defined or unknown token that is written like text, or -1.
func (t *Tokenizer) Special(text string) int {
	for _, id := range t.special {
		if t.text[id] == text {
			return int(id)
		}
	}
	return -1
}

// Literal returns how a special token is written in markup; the empty string for -1.
func (t *Tokenizer) Literal(id int) string {
	if id < 0 {
		return ""
	}
	return t.text[id]
}

// Text returns the bytes that a token stands for, which need not be whole characters. Control tokens stand for nothing.
func (t *Tokenizer) Text(id int) string {
	switch t.kind[id] {
	case typeControl, typeUnknown:
		return ""
	}
	return t.text[id]
}

// Encode appends the tokens of plain text to ids, in which a space comes first where the vocabulary wants it.
func (t *Tokenizer) Encode(ids []int, text string) []int {
	if t.ranks != nil {
		text = strings.ReplaceAll(text, blank, " ")
	}
	if t.spacePrefix && text != "" {
		text = " " + text
	}
	for len(text) > 0 {
		n := t.split(text)
		word := text[:n]
		for ; len(word) > maxWord; word = word[maxWord:] {
			ids = t.encodeWord(ids, word[:maxWord])
		}
		ids = t.encodeWord(ids, word)
		text = text[n:]
	}
	return ids
}

// EncodeMarkup appends the tokens of a chat template's output to ids: special tokens where it spells them, but for
// protected text.
func (t *Tokenizer) EncodeMarkup(ids []int, text string) []int {
	var begins []int // where a special token may
	for i := range len(text) {
		if t.specialByte[text[i]] {
			_, n := utf8.DecodeRuneInString(text[i:])
			if !strings.HasPrefix(text[i+n:], string(mark)) {
				begins = append(begins, i)
			}
		}
	}
	var present []int32
	for _, id := range t.special {
		if slices.ContainsFunc(begins, func(i int) bool { return strings.HasPrefix(text[i:], t.text[id]) }) {
			present = append(present, id)
		}
	}
	return t.encodeMarkup(ids, text, present)
}

// encodeMarkup finds the first of the special tokens everywhere, then the others in what remains.
func (t *Tokenizer) encodeMarkup(ids []int, text string, special []int32) []int {
	for len(text) > 0 {
		var at int
		for at = -1; len(special) > 0; special = special[1:] {
			if at = strings.Index(text, t.text[special[0]]); at >= 0 {
				break
			}
		}
		if at < 0 {
			return t.Encode(ids, strings.ReplaceAll(text, string(mark), ""))
		}
		ids = t.encodeMarkup(ids, text[:at], special[1:])
		ids = append(ids, int(special[0]))
		text = text[at+len(t.text[special[0]]):]
	}
	return ids
}

// Protect returns text in a form that [Tokenizer.EncodeMarkup] encodes like [Tokenizer.Encode], whatever stands next to it
// and whatever a template cuts out of it: wherever a special token could begin, it is marked behind the first character.
// The error is [ErrMark].
func (t *Tokenizer) Protect(text string) (string, error) {
	if strings.ContainsRune(text, mark) {
		return "", ErrMark
	}
	var b strings.Builder
	done := 0
	for i := range len(text) {
		if t.specialByte[text[i]] {
			_, n := utf8.DecodeRuneInString(text[i:])
			b.WriteString(text[done : i+n])
			b.WriteRune(mark)
			done = i + n
		}
	}
	b.WriteString(text[done:])
	return b.String(), nil
}

// symbol is a piece of a word while it is merged. Pieces are a doubly linked list.
type symbol struct {
	id         int32
	start, end int32 // bytes of the word
	prev, next int32 // -1 at the ends
}

// candidate is a possible merge of the piece left with the one after it, which together are length bytes.
type candidate struct {
	rank, left, length, id int32
}

// encodeWord appends the tokens of a word. The pair with the lowest rank is merged first, of equal ones the leftmost.
// What no token is left for is spelled in bytes; bytes without a token are left out, as in llama.cpp.
func (t *Tokenizer) encodeWord(ids []int, word string) []int {
	if t.wholeWords {
		if id, ok := t.ids[word]; ok {
			return append(ids, int(id))
		}
	}
	symbols := make([]symbol, 0, min(len(word), 64))
	for i := 0; i < len(word); {
		id, n := t.bytes[word[i]], 1
		if t.ranks != nil {
			_, n = utf8.DecodeRuneInString(word[i:])
			id = t.id(word[i : i+n])
		}
		at := int32(len(symbols))
		symbols = append(symbols, symbol{id, int32(i), int32(i + n), at - 1, at + 1})
		i += n
	}
	symbols[len(symbols)-1].next = -1
	pair := func(l, r symbol) (merge, bool) {
		if t.ranks == nil {
			m, ok := t.merges[[2]int32{l.id, r.id}]
			return m, ok
		}
		id := t.id(word[l.start:r.end])
		if id < 0 {
			return merge{}, false
		}
		return merge{t.ranks[id], id}, true
	}
	var queue candidates
	offer := func(left int32) {
		if left < 0 || symbols[left].next < 0 {
			return
		}
		l, r := symbols[left], symbols[symbols[left].next]
		if m, ok := pair(l, r); ok {
			queue.push(candidate{m.rank, left, r.end - l.start, m.id})
		}
	}
	for i := range symbols {
		offer(int32(i))
	}
	for len(queue) > 0 {
		c := queue.pop()
		l := &symbols[c.left]
		// A candidate is stale when one of its pieces has been merged since.
		if l.end == l.start || l.next < 0 || symbols[l.next].end-l.start != c.length {
			continue
		}
		if m, ok := pair(*l, symbols[l.next]); !ok || m != (merge{c.rank, c.id}) {
			continue
		}
		r := &symbols[l.next]
		l.id, l.end, l.next = c.id, r.end, r.next
		r.start = r.end
		if l.next >= 0 {
			symbols[l.next].prev = c.left
		}
		offer(l.prev)
		offer(c.left)
	}
	for i := int32(0); i >= 0; i = symbols[i].next {
		if symbols[i].id >= 0 {
			ids = append(ids, int(symbols[i].id))
			continue
		}
		for _, b := range []byte(word[symbols[i].start:symbols[i].end]) {
			if id := t.bytes[b]; id >= 0 {
				ids = append(ids, int(id))
			}
		}
	}
	return ids
}

// id returns the normal token for a text, or -1.
func (t *Tokenizer) id(text string) int32 {
	if id, ok := t.ids[text]; ok {
		return id
	}
	return -1
}

// candidates is a binary heap.
type candidates []candidate

func (q candidates) less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].left < q[j].left
}

func (q *candidates) push(c candidate) {
	h := append(*q, c)
	for i := len(h) - 1; i > 0 && h.less(i, (i-1)/2); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
	*q = h
}

func (q *candidates) pop() candidate {
	h := *q
	top := h[0]
	h[0] = h[len(h)-1]
	h = h[:len(h)-1]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.less(child, least) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*q = h
	return top
}

// The byte alphabet of GPT-2 writes each byte as one printable character: itself where it is one in Latin-1, else one of
// 68 characters from U+0100 on.
var fromRune = func() map[rune]byte {
	m := map[rune]byte{}
	next := rune(0x100)
	for b := range math.MaxUint8 + 1 {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = next
			next++
		}
		m[r] = byte(b)
	}
	return m
}()

func fromAlphabet(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		c, ok := fromRune[r]
		if !ok {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}
