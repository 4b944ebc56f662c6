// Package modeltest writes small GGUF models with random weights, for tests. Their text is noise, but any GGUF runtime
// computes the same noise from them.
package modeltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// Spec says what model to make.
type Spec struct {
	Architecture string // llama, qwen2 or qwen3
	Type         string // F32, F16 or Q8_0: of the matrices
	Seed         uint64
	Tied         bool    // the output matrix is the embedding
	RopeFactors  bool    // with rope_freqs.weight, as Llama 3 models have it
	RopeFactor   float32 // linear rope scaling, named by its factor alone; 0 for none
	PreTokenizer string  // gpt-2, smollm, qwen2 or llama-bpe, or default for SentencePiece; empty for the architecture's usual one
	Template     string  // chat template; empty for ChatML

	// Sizes; zero takes a small one.
	Width, Layers, Heads, KVHeads, HeadWidth, FeedForward, ContextLength int
}

// ChatML is the usual template of models with <|im_start|> and <|im_end|>.
const ChatML = `{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// Special tokens of every model, in the order of their ids, which begin with 0.
var Special = []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"}

func (s *Spec) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&s.Width, 128)
	set(&s.Layers, 3)
	set(&s.Heads, 4)
	set(&s.KVHeads, 2)
	set(&s.HeadWidth, s.Width/s.Heads)
	set(&s.FeedForward, 320)
	set(&s.ContextLength, 512)
	if s.PreTokenizer == "" {
		s.PreTokenizer = map[string]string{"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}[s.Architecture]
	}
	if s.Template == "" {
		s.Template = ChatML
	}
}

// Make returns the model file. Its metadata is what llama.cpp's conversion writes for the architecture.
func Make(s Spec) []byte {
	s.defaults()
	sentencePiece := s.PreTokenizer == "default" // as llama.cpp's conversion writes it
	tokens, merges := vocabulary()
	if sentencePiece {
		tokens = sentencePieces()
	}
	kinds := make([]int32, len(tokens))
	for i, token := range tokens {
		kinds[i] = 1
		switch {
		case token == "<unk>":
			kinds[i] = 2
		case strings.HasPrefix(token, "<0x"):
			kinds[i] = 6
		}
		if i < len(Special) {
			kinds[i] = 3
			if strings.Contains(Special[i], "think") {
				kinds[i] = 4
			}
		}
	}
	w := &Writer{}
	w.Set("general.architecture", s.Architecture)
	w.Set("general.type", "model")
	w.Set("general.name", "random "+s.Architecture)
	w.Set("general.file_type", map[string]uint32{"F32": 0, "F16": 1, "Q8_0": 7}[s.Type])
	w.Set("general.quantization_version", uint32(2))
	a := s.Architecture + "."
	w.Set(a+"context_length", uint32(s.ContextLength))
	w.Set(a+"embedding_length", uint32(s.Width))
	w.Set(a+"block_count", uint32(s.Layers))
	w.Set(a+"feed_forward_length", uint32(s.FeedForward))
	w.Set(a+"attention.head_count", uint32(s.Heads))
	w.Set(a+"attention.head_count_kv", uint32(s.KVHeads))
	w.Set(a+"attention.layer_norm_rms_epsilon", float32(1e-5))
	w.Set(a+"rope.freq_base", float32(10000))
	if s.HeadWidth != s.Width/s.Heads || s.Architecture == "qwen3" {
		w.Set(a+"attention.key_length", uint32(s.HeadWidth))
		w.Set(a+"attention.value_length", uint32(s.HeadWidth))
	}
	if s.Architecture == "llama" {
		w.Set(a+"rope.dimension_count", uint32(s.HeadWidth))
		w.Set(a+"vocab_size", uint32(len(tokens)))
	}
	if s.RopeFactor != 0 {
		w.Set(a+"rope.scaling.factor", s.RopeFactor)
	}
	if sentencePiece {
		// Two tokens to a score, so that there are ties.
		scores := make([]float32, len(tokens))
		for i := range scores {
			scores[i] = -float32(i / 2)
		}
		w.Set("tokenizer.ggml.model", "llama")
		w.Set("tokenizer.ggml.scores", scores)
		w.Set("tokenizer.ggml.unknown_token_id", uint32(len(Special)))
	} else {
		w.Set("tokenizer.ggml.model", "gpt2")
	}
	w.Set("tokenizer.ggml.pre", s.PreTokenizer)
	w.Set("tokenizer.ggml.tokens", tokens)
	w.Set("tokenizer.ggml.token_type", kinds)
	if !sentencePiece {
		w.Set("tokenizer.ggml.merges", merges)
	}
	w.Set("tokenizer.ggml.bos_token_id", uint32(1))
	w.Set("tokenizer.ggml.eos_token_id", uint32(2))
	w.Set("tokenizer.ggml.padding_token_id", uint32(0))
	w.Set("tokenizer.ggml.add_bos_token", false)
	w.Set("tokenizer.chat_template", s.Template)

	r := rand.New(rand.NewPCG(s.Seed, 0))
	vector := func(name string, n int, mean, spread float64) {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(mean + float64(spread*r.NormFloat64())) // float64: rounded, on every architecture
		}
		w.Tensor(name, "F32", x, n)
	}
	matrix := func(name string, rows, cols int, gain float64) {
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = float32(gain * r.NormFloat64() / math.Sqrt(float64(cols)))
		}
		w.Tensor(name, s.Type, x, cols, rows)
	}
	q, kv := s.Heads*s.HeadWidth, s.KVHeads*s.HeadWidth
	matrix("token_embd.weight", len(tokens), s.Width, 3)
	vector("output_norm.weight", s.Width, 1, 0.1)
	if !s.Tied {
		matrix("output.weight", len(tokens), s.Width, 3)
	}
	if s.RopeFactors {
		x := make([]float32, s.HeadWidth/2)
		for i := range x {
			x[i] = 1 + float32(i)/2
		}
		w.Tensor("rope_freqs.weight", "F32", x, len(x))
	}
	for i := range s.Layers {
		p := fmt.Sprintf("blk.%d.", i)
		vector(p+"attn_norm.weight", s.Width, 1, 0.1)
		matrix(p+"attn_q.weight", q, s.Width, 1.5)
		matrix(p+"attn_k.weight", kv, s.Width, 1.5)
		matrix(p+"attn_v.weight", kv, s.Width, 1)
		matrix(p+"attn_output.weight", s.Width, q, 1)
		if s.Architecture == "qwen2" {
			vector(p+"attn_q.bias", q, 0, 0.3)
			vector(p+"attn_k.bias", kv, 0, 0.3)
			vector(p+"attn_v.bias", kv, 0, 0.3)
		}
		if s.Architecture == "qwen3" {
			vector(p+"attn_q_norm.weight", s.HeadWidth, 1.2, 0.1)
			vector(p+"attn_k_norm.weight", s.HeadWidth, 1.2, 0.1)
		}
		vector(p+"ffn_norm.weight", s.Width, 1, 0.1)
		matrix(p+"ffn_gate.weight", s.FeedForward, s.Width, 1)
		matrix(p+"ffn_up.weight", s.FeedForward, s.Width, 1)
		matrix(p+"ffn_down.weight", s.Width, s.FeedForward, 1)
	}
	return w.Bytes()
}

// Writer assembles a GGUF file. It does not check what it is told to write.
type Writer struct {
	keys, tensors int
	meta, infos   bytes.Buffer
	data          bytes.Buffer
}

func (w *Writer) string(b *bytes.Buffer, s string) {
	put(b, uint64(len(s)))
	b.WriteString(s)
}

func put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

// Set adds a metadata value: a uint32, int32, float32, bool, string, []string, []int32 or []float32.
func (w *Writer) Set(key string, value any) {
	w.keys++
	b := &w.meta
	w.string(b, key)
	switch v := value.(type) {
	case uint32:
		put(b, uint32(4))
		put(b, v)
	case int32:
		put(b, uint32(5))
		put(b, v)
	case float32:
		put(b, uint32(6))
		put(b, v)
	case bool:
		put(b, uint32(7))
		put(b, v)
	case string:
		put(b, uint32(8))
		w.string(b, v)
	case []string:
		put(b, uint32(9))
		put(b, uint32(8))
		put(b, uint64(len(v)))
		for _, s := range v {
			w.string(b, s)
		}
	case []int32:
		put(b, uint32(9))
		put(b, uint32(5))
		put(b, uint64(len(v)))
		put(b, v)
	case []float32:
		put(b, uint32(9))
		put(b, uint32(6))
		put(b, uint64(len(v)))
		put(b, v)
	default:
		panic(fmt.Sprintf("modeltest: a value of type %T", value))
	}
}

// Tensor adds a tensor of type F32, F16 or Q8_0 with the contiguous dimension first.
func (w *Writer) Tensor(name, kind string, x []float32, dims ...int) {
	w.tensors++
	b := &w.infos
	w.string(b, name)
	put(b, uint32(len(dims)))
	for _, d := range dims {
		put(b, uint64(d))
	}
	put(b, map[string]uint32{"F32": 0, "F16": 1, "Q8_0": 8}[kind])
	put(b, uint64(w.data.Len()))
	switch kind {
	case "F32":
		put(&w.data, x)
	case "F16":
		h := make([]uint16, len(x))
		for i, v := range x {
			h[i] = Float16(v)
		}
		put(&w.data, h)
	case "Q8_0":
		for ; len(x) > 0; x = x[32:] {
			var top float32
			for _, v := range x[:32] {
				top = max(top, v, -v)
			}
			put(&w.data, Float16(top/127))
			for _, v := range x[:32] {
				q := float64(0)
				if top > 0 {
					q = math.Round(float64(v / top * 127))
				}
				w.data.WriteByte(byte(int8(q)))
			}
		}
	default:
		panic("modeltest: tensor type " + kind)
	}
	w.data.Write(make([]byte, -w.data.Len()&31))
}

// Bytes returns the file.
func (w *Writer) Bytes() []byte {
	var b bytes.Buffer
	b.WriteString("GGUF")
	put(&b, uint32(3))
	put(&b, uint64(w.tensors))
	put(&b, uint64(w.keys))
	b.Write(w.meta.Bytes())
	b.Write(w.infos.Bytes())
	b.Write(make([]byte, -b.Len()&31))
	b.Write(w.data.Bytes())
	return b.Bytes()
}

// Float16 rounds a finite number of magnitude below 65504 to IEEE 754 binary16.
func Float16(f float32) uint16 {
	sign := uint16(math.Float32bits(f) >> 16 & 0x8000)
	v := math.Abs(float64(f))
	if v < math.Ldexp(1, -14) {
		return sign | uint16(math.RoundToEven(math.Ldexp(v, 24))) // a carry gives the smallest normal number
	}
	fraction, exponent := math.Frexp(v) // fraction in [0.5, 1)
	m := uint16(math.RoundToEven(math.Ldexp(fraction, 11))) - 1024
	return sign | uint16(exponent+14)<<10 + m // a carry goes to the exponent
}

// corpus is what the vocabulary's merges are learned from.
const corpus = `The enclave answers and the host sees nothing of it. The client checks the evidence, then it seals the prompt and
signs a voucher for the tokens that follow. What is the capital of France? The capital of France is Paris. I don't know
that; you'd better ask someone who's been there, they'll tell you. In 2026 the answer cost 1234567 nanogram, or 0.00123
gram. func main() { for i := range 10 { fmt.Println("hello, world", i) } } // Ελλάδα, Україна, 日本語 の文章 and naïve café
Über die Brücke, à bientôt, mañana. Das ist der Anfang und das Ende. 你好世界 123 456 7890    spaces and	tabs
Hello hello HELLO; the there then that this those these what when where why who how and answer answered answering.`

var vocabulary = sync.OnceValues(learn)

// learn returns the special tokens, the 256 bytes, and what 340 steps of byte-pair encoding learn from the corpus.
func learn() (tokens, merges []string) {
	alphabet := make([]string, 256)
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = next
			next++
		}
		alphabet[b] = string(r)
	}
	tokens = append(slices.Clone(Special), alphabet...)
	var words [][]string
	for i, field := range strings.Fields(corpus) {
		if i > 0 {
			field = " " + field
		}
		var w []string
		for _, b := range []byte(field) {
			w = append(w, alphabet[b])
		}
		words = append(words, w)
	}
	for _, pair := range pairs(words, 340) {
		merges = append(merges, pair[0]+" "+pair[1])
		if token := pair[0] + pair[1]; !slices.Contains(tokens, token) {
			tokens = append(tokens, token)
		}
	}
	return tokens, merges
}

// sentencePieces returns the special tokens, the unknown one, the 256 bytes, runs of spaces, what 300 steps of byte-pair
// encoding learn from the corpus, a token of two characters that are none, and single characters.
func sentencePieces() []string {
	tokens := append(slices.Clone(Special), "<unk>")
	for b := range 256 {
		tokens = append(tokens, fmt.Sprintf("<0x%02X>", b))
	}
	tokens = append(tokens, "▁▁", "▁▁▁▁")
	var words [][]string
	var characters []string
	for _, field := range strings.Fields(corpus) {
		w := strings.Split("▁"+field, "")
		words = append(words, w)
		characters = append(characters, w...)
	}
	for _, pair := range pairs(words, 300) {
		if token := pair[0] + pair[1]; !slices.Contains(tokens, token) {
			tokens = append(tokens, token)
		}
	}
	tokens = append(tokens, "🇺🇦")
	for _, c := range characters {
		if !slices.Contains(tokens, c) {
			tokens = append(tokens, c)
		}
	}
	return tokens
}

// pairs returns what n steps of byte-pair encoding merge in the words.
func pairs(words [][]string, n int) [][2]string {
	words = slices.Clone(words)
	var out [][2]string
	for range n {
		count := map[[2]string]int{}
		for _, w := range words {
			for i := 1; i < len(w); i++ {
				count[[2]string{w[i-1], w[i]}]++
			}
		}
		var best [2]string
		for pair, n := range count {
			if m := count[best]; n > m || n == m && pair[0]+" "+pair[1] < best[0]+" "+best[1] {
				best = pair
			}
		}
		out = append(out, best)
		for i, w := range words {
			words[i] = join(w, best)
		}
	}
	return out
}

// join merges every occurrence of the pair in a word.
func join(w []string, pair [2]string) []string {
	var out []string
	for i := 0; i < len(w); i++ {
		if i+1 < len(w) && w[i] == pair[0] && w[i+1] == pair[1] {
			out = append(out, w[i]+w[i+1])
			i++
		} else {
			out = append(out, w[i])
		}
	}
	return out
}
