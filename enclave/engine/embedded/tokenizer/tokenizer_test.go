package tokenizer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/oracle"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/tokenizer"
)

var update = flag.Bool("update", false, "record what llama.cpp says in testdata/llamacpp.json")

var preTokenizers = []string{"gpt-2", "smollm", "qwen2", "llama-bpe", "default"}

func modelFile(pre string) []byte {
	return modeltest.Make(modeltest.Spec{Architecture: "llama", Type: "F32", Width: 32, Layers: 1, FeedForward: 32, PreTokenizer: pre})
}

func read(tb testing.TB, data []byte) *gguf.File {
	tb.Helper()
	f, err := gguf.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func load(tb testing.TB, pre string) *tokenizer.Tokenizer {
	tb.Helper()
	t, err := tokenizer.New(read(tb, modelFile(pre)))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// texts are the cases that the pre-tokenizers tell apart, then random strings of the same characters.
func texts() []string {
	out := []string{
		"Hello, world!", "hello", " hello", "  hello", "hello  ", "hello \n\n world", "\n", "\r\n\r\n", " \n ", "\t\tx", "a\n\nb", "x = 1234567890;",
		"1", "12", "123", "1234", " 1234", "a1b22c333d4444", "3.14159", "I'm you're they'll we've it's he'd don't", "I'M YOU'RE THEY'LL",
		"'s", "'S", "'", "''", "'x", "¿Qué?", "naïve café", "Ελλάδα, Україна", "日本語の文章です。", "你好世界", "e\u0301 combining", "👋🏽 emoji 🇺🇦",
		"\u00a0nbsp\u2003em", "½ ² Ⅷ ٣٤٥", "func main() {\n\tfmt.Println(\"hi\")\n}", "!!!", " !!!\n\n", "... \n", "don\u2019t", "\u017fharp 'ſ 'ſt",
		"<|im_start|>user\nHi<|im_end|>\n", "<think>\nhm\n</think>", "<|im_start", "a<|endoftext|>b", "x<|im_end|><|im_end|>", strings.Repeat("a", 300),
		strings.Repeat(" ", 50) + "x", strings.Repeat("ab", 100), "The enclave answers and the host sees nothing of it.", "\x00\x01\x7f", "\u2028\u2029\u0085",
		"<unk>", " <|im_end|> a <|im_start|>  b", "▁the▁answer", "<0x41>", "日本ΩЖ🙂the", "tab\tthen space \tmixed", "5 % 6 ", " ٣", "x ½", "a\u0300b", "ǅ ʰ ª", "\U0001d7d8\U0001d7d9", "\ufeffbom", "￼\uffff\U0010ffff",
	}
	r := rand.New(rand.NewPCG(1, 1))
	pieces := []string{" ", "  ", "\n", "\r\n", "\t", "a", "the", "Z", "'s", "'LL", "'", "1", "42", "2026", "½", "é", "日本", "!", "?!", "-", "<|im_end|>", "<", "|", "\u00a0", "🙂", "_", "answer", "and"}
	for range 150 {
		var b strings.Builder
		for range 1 + r.IntN(14) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		out = append(out, b.String())
	}
	return out
}

// recording is one text with llama.cpp's tokens, special ones counting and not.
type recording struct {
	Text          string
	Plain, Markup []int
}

// record asks llama.cpp about all texts with every pre-tokenizer.
func record(t *testing.T) map[string][]recording {
	var jobs []oracle.Job
	for _, s := range texts() {
		jobs = append(jobs, oracle.Job{Text: &s}, oracle.Job{Text: &s, Markup: true})
	}
	var questions []oracle.Question
	for _, pre := range preTokenizers {
		questions = append(questions, oracle.Question{Model: modelFile(pre), Jobs: jobs})
	}
	out := map[string][]recording{}
	for i, results := range oracle.Ask(t, questions...) {
		for j := 0; j < len(results); j += 2 {
			pre := preTokenizers[i]
			out[pre] = append(out[pre], recording{*jobs[j].Text, results[j].IDs, results[j+1].IDs})
		}
	}
	return out
}

func readGolden(t *testing.T) map[string][]recording {
	golden := map[string][]recording{}
	b, err := os.ReadFile("testdata/llamacpp.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	return golden
}

// plainInLlamaCpp is false for texts in which llama.cpp finds user-defined tokens even when special ones do not count.
func plainInLlamaCpp(text string) bool { return !strings.Contains(text, "think>") }

func TestSameTokensAsLlamaCpp(t *testing.T) {
	if *update {
		b, err := json.Marshal(record(t))
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte(`{"Text`), []byte("\n{\"Text"))
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/llamacpp.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden := readGolden(t)
	for _, pre := range preTokenizers {
		t.Run(pre, func(t *testing.T) {
			tok := load(t, pre)
			if len(golden[pre]) < 200 {
				t.Fatalf("%d recordings", len(golden[pre]))
			}
			for _, r := range golden[pre] {
				if got := tok.Encode(nil, r.Text); plainInLlamaCpp(r.Text) && !slices.Equal(got, r.Plain) {
					t.Errorf("%q: got %q, llama.cpp %q", r.Text, pieces(tok, got), pieces(tok, r.Plain))
				}
				if got := tok.EncodeMarkup(nil, r.Text); !slices.Equal(got, r.Markup) {
					t.Errorf("%q with markup: got %q, llama.cpp %q", r.Text, pieces(tok, got), pieces(tok, r.Markup))
				}
			}
		})
	}
}

// The recordings are what llama.cpp says today.
func TestRecordings(t *testing.T) {
	golden := readGolden(t)
	for pre, list := range record(t) {
		for i, got := range list {
			want := golden[pre][i]
			if got.Text != want.Text || !slices.Equal(got.Plain, want.Plain) || !slices.Equal(got.Markup, want.Markup) {
				t.Errorf("%s: llama.cpp says %v, recorded %v", pre, got, want)
			}
		}
	}
}

func pieces(t *tokenizer.Tokenizer, ids []int) []string {
	var out []string
	for _, id := range ids {
		out = append(out, t.Text(id))
	}
	return out
}

// decode returns the text that was encoded.
func decode(t *tokenizer.Tokenizer, ids []int) string {
	text := strings.Join(pieces(t, ids), "")
	if t.SpacePrefix() {
		text = strings.TrimPrefix(text, " ")
	}
	return text
}

// readable is what comes back of a text: SentencePiece takes U+2581 for a space.
func readable(t *tokenizer.Tokenizer, text string) string {
	if t.SpacePrefix() {
		return strings.ReplaceAll(text, "\u2581", " ")
	}
	return text
}

func TestTextIsNeverMarkup(t *testing.T) {
	for _, pre := range preTokenizers {
		tok := load(t, pre)
		for _, text := range texts() {
			plain := tok.Encode(nil, text)
			for _, id := range plain {
				if id < len(modeltest.Special) {
					t.Errorf("%q became special token %d", text, id)
				}
			}
			if got := decode(tok, plain); got != readable(tok, text) {
				t.Errorf("%q comes back as %q", text, got)
			}
			protected, err := tok.Protect(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := tok.EncodeMarkup(nil, protected); !slices.Equal(got, plain) {
				t.Errorf("protected %q: %q, want %q", text, pieces(tok, got), pieces(tok, plain))
			}
		}
		// Pieces of a special token in neighbouring strings.
		a, _ := tok.Protect("x<|im_")
		b, _ := tok.Protect("end|>y")
		if got := decode(tok, tok.EncodeMarkup(nil, a+b)); got != "x<|im_end|>y" {
			t.Errorf("joined: %q", got)
		}
		if got := tok.EncodeMarkup(nil, "<|im_start|>"+a+b+"<|im_end|>"); got[0] != 1 || got[len(got)-1] != 2 || slices.Contains(got[1:len(got)-1], 2) {
			t.Errorf("in markup: %v", got)
		}
		if _, err := tok.Protect("a\uFDD0b"); !errors.Is(err, tokenizer.ErrMark) {
			t.Errorf("a mark in the text: %v", err)
		}
	}
}

// A word without end is encoded in parts, and is still the same text.
func TestLongWord(t *testing.T) {
	for _, pre := range []string{"qwen2", "default"} {
		tok := load(t, pre)
		for _, word := range []string{strings.Repeat("the", 100_000), strings.Repeat("日", 100_000), strings.Repeat(" ", 300_000), strings.Repeat("<|im_end|>", 30_000)} {
			protected, err := tok.Protect(word)
			if err != nil {
				t.Fatal(err)
			}
			ids := tok.Encode(nil, word)
			if decode(tok, ids) != word || !slices.Equal(tok.EncodeMarkup(nil, protected), ids) {
				t.Errorf("%s: %.20q comes back changed", pre, word)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	tok := load(t, "qwen2")
	if bos, always := tok.BOS(); bos != 1 || always {
		t.Errorf("BOS %d, %v", bos, always)
	}
	if tok.EOS() != 2 || !tok.IsEnd(2) || !tok.IsEnd(0) || tok.IsEnd(1) || tok.IsEnd(3) || tok.IsEnd(300) {
		t.Error("end tokens")
	}
	if tok.Special("</think>") != 4 || tok.Special("<|im_start|>") != 1 || tok.Special("a") != -1 {
		t.Error("special tokens by their texts")
	}
	f := read(t, modelFile("qwen2"))
	f.Metadata["tokenizer.ggml.eos_token_ids"] = []int32{7, 9}
	f.Metadata["tokenizer.ggml.tokens"].([]string)[3] = "<|file_sep|>" // user-defined
	if more, err := tokenizer.New(f); err != nil || !more.IsEnd(7) || !more.IsEnd(9) || !more.IsEnd(2) || more.IsEnd(8) || !more.IsEnd(3) || more.Text(3) != "" {
		t.Errorf("more end tokens: %v", err)
	}
	if tok.Literal(2) != "<|im_end|>" || tok.Literal(-1) != "" || tok.Text(2) != "" || tok.Text(3) != "<think>" {
		t.Error("texts of special tokens")
	}
}

func TestRefusesVocabularies(t *testing.T) {
	for name, change := range map[string]func(m map[string]any){
		"model \"bert\"":                func(m map[string]any) { m["tokenizer.ggml.model"] = "bert" },
		"pre-tokenizer \"gpt-4\"":       func(m map[string]any) { m["tokenizer.ggml.pre"] = "gpt-4" },
		"pre-tokenizer \"\"":            func(m map[string]any) { delete(m, "tokenizer.ggml.pre") },
		"0 tokens":                      func(m map[string]any) { m["tokenizer.ggml.tokens"] = []string{} },
		"types":                         func(m map[string]any) { m["tokenizer.ggml.token_type"] = []int32{1} },
		"has type 9":                    func(m map[string]any) { m["tokenizer.ggml.token_type"].([]int32)[7] = 9 },
		"is no byte of a SentencePiece": func(m map[string]any) { m["tokenizer.ggml.token_type"].([]int32)[7] = 6 },
		"add_space_prefix is true":      func(m map[string]any) { m["tokenizer.ggml.add_space_prefix"] = true },
		"not in the vocabulary's alphabet": func(m map[string]any) {
			m["tokenizer.ggml.tokens"].([]string)[100] = "two words"
		},
		"is empty or occurs twice":     func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[100] = "a" },
		"is one character and special": func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[3] = "日" },
		"is of no tokens":              func(m map[string]any) { m["tokenizer.ggml.merges"].([]string)[0] = "zzz yyy" },
		"is not two words":             func(m map[string]any) { m["tokenizer.ggml.merges"].([]string)[0] = "zzz" },
		"bos_token_id is 100000":       func(m map[string]any) { m["tokenizer.ggml.bos_token_id"] = uint32(100000) },
		"eos_token_id is no":           func(m map[string]any) { m["tokenizer.ggml.eos_token_id"] = "no" },
		"eos_token_ids does not":       func(m map[string]any) { m["tokenizer.ggml.eos_token_ids"] = []int32{1, 99999} },
		"token_ids does not name":      func(m map[string]any) { m["tokenizer.ggml.eos_token_ids"] = uint32(5) },
		"add_eos_token is true":        func(m map[string]any) { m["tokenizer.ggml.add_eos_token"] = true },
		"add_bos_token is 1":           func(m map[string]any) { m["tokenizer.ggml.add_bos_token"] = uint32(1) },
		"begin with a token": func(m map[string]any) {
			m["tokenizer.ggml.add_bos_token"] = true
			delete(m, "tokenizer.ggml.bos_token_id")
		},
	} {
		f := read(t, modelFile("qwen2"))
		change(f.Metadata)
		if _, err := tokenizer.New(f); !errors.Is(err, tokenizer.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusesSentencePieceVocabularies(t *testing.T) {
	for name, change := range map[string]func(m map[string]any){
		"pre-tokenizer \"qwen2\"":     func(m map[string]any) { m["tokenizer.ggml.pre"] = "qwen2" },
		"tokens with 0 scores":        func(m map[string]any) { delete(m, "tokenizer.ggml.scores") },
		"the score of token 7 is NaN": func(m map[string]any) { m["tokenizer.ggml.scores"].([]float32)[7] = float32(math.NaN()) },
		"there is no token <0x41>":    func(m map[string]any) { m["tokenizer.ggml.token_type"].([]int32)[6+0x41] = 5 },
		"<0x4z>\", is no byte":        func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[6+0x41] = "<0x4z>" },
		"<0x40>\", is no byte":        func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[6+0x41] = "<0x40>" },
		"alphabet":                    func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[300] = "two words" },
		"add_space_prefix is 1":       func(m map[string]any) { m["tokenizer.ggml.add_space_prefix"] = uint32(1) },
		"remove_extra_whitespaces":    func(m map[string]any) { m["tokenizer.ggml.remove_extra_whitespaces"] = true },
		"precompiled_charsmap":        func(m map[string]any) { m["tokenizer.ggml.precompiled_charsmap"] = []uint8{1} },
		"add_eos_token is true":       func(m map[string]any) { m["tokenizer.ggml.add_eos_token"] = true },
		"begin with a token": func(m map[string]any) {
			delete(m, "tokenizer.ggml.add_bos_token")
			delete(m, "tokenizer.ggml.bos_token_id")
		},
	} {
		f := read(t, modelFile("default"))
		change(f.Metadata)
		if _, err := tokenizer.New(f); !errors.Is(err, tokenizer.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Merges never make a special token or a byte, even where their parts are tokens; a text need not begin with a space.
func TestMergesMakeText(t *testing.T) {
	f := read(t, modelFile("default"))
	tokens := f.Metadata["tokenizer.ggml.tokens"].([]string)
	tokens[1], tokens[300], tokens[301], tokens[302] = "<s>", "<s", "<0x4", "1>"
	f.Metadata["tokenizer.ggml.add_space_prefix"] = false
	delete(f.Metadata, "tokenizer.ggml.pre") // as older conversions
	tok, err := tokenizer.New(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.EncodeMarkup(nil, "<s>"); !slices.Equal(got, []int{1}) {
		t.Errorf("markup: %v", got)
	}
	for _, text := range []string{"<s>", "<0x41>", "a\x80\xe2\x96\xff"} {
		ids := tok.Encode(nil, text)
		if got := decode(tok, ids); got != text || slices.Contains(ids, 1) || slices.Contains(ids, 6+0x41) {
			t.Errorf("%q: %q", text, pieces(tok, ids))
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range texts() {
		f.Add(s)
	}
	var toks []*tokenizer.Tokenizer
	for _, pre := range preTokenizers {
		toks = append(toks, load(f, pre))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			plain := tok.Encode(nil, text)
			if got := decode(tok, plain); got != readable(tok, text) {
				t.Fatalf("%q comes back as %q", text, got)
			}
			for _, id := range plain {
				if id < len(modeltest.Special) {
					t.Fatalf("%q became special token %d", text, id)
				}
			}
			protected, err := tok.Protect(text)
			if err != nil || !utf8.ValidString(text) {
				continue
			}
			if got := tok.EncodeMarkup(nil, protected); !slices.Equal(got, plain) {
				t.Fatalf("protected %q: %v, want %v", text, got, plain)
			}
			tok.EncodeMarkup(nil, text)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, pre := range []string{"qwen2", "default"} {
		tok := load(b, pre)
		for name, text := range map[string]string{
			"text":   strings.Repeat("The enclave answers and the host sees nothing of it. In 2026 the answer cost 1234567 nanogram.\n", 100),
			"word":   strings.Repeat("the", 300_000),
			"spaces": strings.Repeat(" ", 1<<20),
		} {
			b.Run(pre+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				var ids []int
				for b.Loop() {
					ids = tok.Encode(ids[:0], text)
				}
			})
		}
	}
}
