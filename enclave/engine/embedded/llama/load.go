// Package llama computes the next-token scores of Llama-family language models: the GGUF architectures llama, qwen2 and
// qwen3 with dense feed-forward layers.
//
// [Load] refuses a model that asks for anything not implemented here: an unknown hyperparameter of its architecture, an
// unknown tensor, a rope scaling other than linear or by frequency factors (Llama 3). A [Runner] then computes batches
// of tokens of any number of sequences at once, each with its own [Cache].
package llama

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/kernel"
)

// ErrUnsupported is wrapped by errors about models that are not implemented or not consistent.
var ErrUnsupported = errors.New("unsupported model")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// Config is the shape of a model.
type Config struct {
	Architecture  string // llama, qwen2 or qwen3
	ContextLength int    // the longest sequence the model was made for, in tokens
	Vocabulary    int    // number of tokens
	Width         int    // elements of a token's state
	Layers        int
	Heads         int // of queries
	KVHeads       int // of keys and values; Heads is a multiple of it
	HeadWidth     int
	FeedForward   int
}

// Limits that keep sizes computed from them far from overflow.
const (
	maxContextLength = 1 << 22
	maxWidth         = 1 << 17
	maxLayers        = 1 << 10
)

// Model is a loaded model. It is immutable.
type Model struct {
	Config
	epsilon   float32
	ropeBase  float64
	ropeScale float64   // positions are multiplied with it
	ropeDiv   []float32 // frequency i is divided by ropeDiv[i]; nil for none
	adjacent  bool      // rope turns elements 2i and 2i+1 (llama), not i and i+HeadWidth/2

	embedding, output *kernel.Matrix
	outputNorm        []float32
	layers            []layer
}

type layer struct {
	attnNorm, ffnNorm      []float32
	q, k, v, o             *kernel.Matrix
	qBias, kBias, vBias    []float32 // nil for none
	qNorm, kNorm           []float32 // per head; nil for none
	ffnGate, ffnUp, ffnOut *kernel.Matrix
}

// knownKeys are the hyperparameters that this package understands, without the architecture's prefix.
var knownKeys = map[string]bool{
	"context_length": true, "embedding_length": true, "block_count": true, "feed_forward_length": true, "vocab_size": true,
	"attention.head_count": true, "attention.head_count_kv": true, "attention.layer_norm_rms_epsilon": true,
	"attention.key_length": true, "attention.value_length": true, "rope.dimension_count": true, "rope.freq_base": true,
	"rope.scaling.type": true, "rope.scaling.factor": true, "rope.scaling.original_context_length": true,
}

// Load reads the model in f, whose tokenizer has as many tokens as vocabulary says.
func Load(f *gguf.File, vocabulary int) (*Model, error) {
	l := &loader{f: f, used: map[string]bool{}}
	m := &Model{}
	m.Architecture, _ = f.Metadata["general.architecture"].(string)
	switch m.Architecture {
	case "llama":
		m.adjacent = true
	case "qwen2", "qwen3":
	default:
		return nil, unsupported("architecture %.64q; llama, qwen2 and qwen3 are implemented", m.Architecture)
	}
	for key := range f.Metadata {
		if name, ok := strings.CutPrefix(key, m.Architecture+"."); ok && !knownKeys[name] {
			return nil, unsupported("hyperparameter %.64q", key)
		}
	}
	l.prefix = m.Architecture + "."
	m.Vocabulary = vocabulary
	if err := m.readConfig(l); err != nil {
		return nil, err
	}
	m.readTensors(l)
	if l.err != nil {
		return nil, l.err
	}
	for _, t := range f.Tensors {
		if !l.used[t.Name] {
			return nil, unsupported("tensor %.64q", t.Name)
		}
	}
	return m, nil
}

func (m *Model) readConfig(l *loader) error {
	m.ContextLength = l.integer("context_length", 1, maxContextLength)
	m.Width = l.integer("embedding_length", 1, maxWidth)
	m.Layers = l.integer("block_count", 1, maxLayers)
	m.FeedForward = l.integer("feed_forward_length", 1, maxWidth)
	m.Heads = l.integer("attention.head_count", 1, m.Width)
	m.KVHeads = l.integerOr("attention.head_count_kv", 1, m.Heads, m.Heads)
	m.HeadWidth = l.integerOr("attention.key_length", 2, maxWidth, m.Width/max(m.Heads, 1))
	m.epsilon = float32(l.float("attention.layer_norm_rms_epsilon", math.NaN()))
	m.ropeBase = l.float("rope.freq_base", 10000)
	vocabulary := l.integerOr("vocab_size", 1, math.MaxInt32, m.Vocabulary)
	values := l.integerOr("attention.value_length", 2, maxWidth, m.HeadWidth)
	rotated := l.integerOr("rope.dimension_count", 2, maxWidth, m.HeadWidth)
	scaling := l.text("rope.scaling.type", "linear") // as in llama.cpp
	factor := l.float("rope.scaling.factor", 1)
	if l.err != nil {
		return l.err
	}
	switch {
	case m.Heads%m.KVHeads != 0:
		return unsupported("%d query heads do not divide among %d key heads", m.Heads, m.KVHeads)
	case m.HeadWidth < 8 || m.HeadWidth*m.Heads > maxWidth:
		return unsupported("%d heads of width %d", m.Heads, m.HeadWidth)
	case m.Width%8 != 0 || m.HeadWidth%8 != 0 || m.FeedForward%8 != 0:
		return unsupported("widths of %d, %d (heads) and %d (feed-forward); multiples of 8 are implemented", m.Width, m.HeadWidth, m.FeedForward)
	case values != m.HeadWidth || rotated != m.HeadWidth:
		return unsupported("keys of width %d with values of %d and a rotated part of %d; they must be equal", m.HeadWidth, values, rotated)
	case vocabulary != m.Vocabulary:
		return unsupported("its vocabulary has %d tokens, its tokenizer %d", vocabulary, m.Vocabulary)
	case !(m.epsilon > 0 && m.epsilon < 1):
		return unsupported("layer_norm_rms_epsilon is %v", m.epsilon)
	case !(m.ropeBase > 1 && m.ropeBase < 1e12):
		return unsupported("rope.freq_base is %v", m.ropeBase)
	case !(factor >= 1 && factor <= 1e6):
		return unsupported("rope.scaling.factor is %v", factor)
	}
	switch scaling {
	case "none":
		m.ropeScale = 1
	case "linear":
		m.ropeScale = 1 / factor
	default:
		return unsupported("rope.scaling.type %.64q; none and linear are implemented", scaling)
	}
	return nil
}

func (m *Model) readTensors(l *loader) {
	q, kv := m.Heads*m.HeadWidth, m.KVHeads*m.HeadWidth
	m.embedding = l.matrix("token_embd.weight", m.Vocabulary, m.Width)
	m.outputNorm = l.vector("output_norm.weight", m.Width)
	m.output = m.embedding
	if l.has("output.weight") {
		m.output = l.matrix("output.weight", m.Vocabulary, m.Width)
	}
	if l.has("rope_freqs.weight") {
		m.ropeDiv = l.vector("rope_freqs.weight", m.HeadWidth/2)
		for _, v := range m.ropeDiv {
			if !(v >= 1e-6 && v <= 1e6) && l.err == nil {
				l.err = unsupported("a rope frequency factor of %v", v)
			}
		}
	}
	for i := range m.Layers {
		if l.err != nil {
			return
		}
		p := fmt.Sprintf("blk.%d.", i)
		n := layer{
			attnNorm: l.vector(p+"attn_norm.weight", m.Width),
			q:        l.matrix(p+"attn_q.weight", q, m.Width),
			k:        l.matrix(p+"attn_k.weight", kv, m.Width),
			v:        l.matrix(p+"attn_v.weight", kv, m.Width),
			o:        l.matrix(p+"attn_output.weight", m.Width, q),
			ffnNorm:  l.vector(p+"ffn_norm.weight", m.Width),
			ffnGate:  l.matrix(p+"ffn_gate.weight", m.FeedForward, m.Width),
			ffnUp:    l.matrix(p+"ffn_up.weight", m.FeedForward, m.Width),
			ffnOut:   l.matrix(p+"ffn_down.weight", m.Width, m.FeedForward),
		}
		if m.Architecture == "qwen2" || m.Architecture == "llama" && l.has(p+"attn_q.bias") {
			n.qBias, n.kBias, n.vBias = l.vector(p+"attn_q.bias", q), l.vector(p+"attn_k.bias", kv), l.vector(p+"attn_v.bias", kv)
		}
		if m.Architecture == "qwen3" {
			n.qNorm, n.kNorm = l.vector(p+"attn_q_norm.weight", m.HeadWidth), l.vector(p+"attn_k_norm.weight", m.HeadWidth)
		}
		m.layers = append(m.layers, n)
	}
}

// loader reads hyperparameters and tensors and remembers the first error.
type loader struct {
	f      *gguf.File
	prefix string
	used   map[string]bool
	err    error
}

func (l *loader) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

func (l *loader) integer(name string, least, most int) int {
	if _, ok := l.f.Metadata[l.prefix+name]; !ok {
		l.fail(unsupported("%s%s is missing", l.prefix, name))
		return 0
	}
	return l.integerOr(name, least, most, 0)
}

func (l *loader) integerOr(name string, least, most, missing int) int {
	v, ok := l.f.Metadata[l.prefix+name]
	if !ok {
		return missing
	}
	var n uint64
	switch v := v.(type) {
	case uint32:
		n = uint64(v)
	case uint64:
		n = v
	case int32:
		n = uint64(v) // a negative number is too large
	default:
		l.fail(unsupported("%s%s is a %T, not one integer", l.prefix, name, v))
		return 0
	}
	if n < uint64(least) || n > uint64(most) {
		l.fail(unsupported("%s%s is %v; %d to %d is possible", l.prefix, name, v, least, most))
		return 0
	}
	return int(n)
}

func (l *loader) float(name string, missing float64) float64 {
	v, ok := l.f.Metadata[l.prefix+name]
	if !ok {
		return missing
	}
	f, ok := v.(float32)
	if !ok {
		l.fail(unsupported("%s%s is a %T, not a float32", l.prefix, name, v))
	}
	return float64(f)
}

func (l *loader) text(name, missing string) string {
	v, ok := l.f.Metadata[l.prefix+name]
	if !ok {
		return missing
	}
	s, ok := v.(string)
	if !ok {
		l.fail(unsupported("%s%s is a %T, not a string", l.prefix, name, v))
	}
	return s
}

func (l *loader) has(name string) bool {
	_, ok := l.f.Tensor(name)
	return ok
}

// tensor finds a tensor and checks its dimensions.
func (l *loader) tensor(name string, dims ...int) *gguf.Tensor {
	if l.err != nil {
		return nil
	}
	t, ok := l.f.Tensor(name)
	if !ok {
		l.fail(unsupported("tensor %q is missing", name))
		return nil
	}
	l.used[name] = true
	same := len(t.Dims) == len(dims)
	for i := range min(len(dims), len(t.Dims)) {
		same = same && t.Dims[i] == dims[i]
	}
	if !same {
		l.fail(unsupported("tensor %q has dimensions %v; %v are expected", name, t.Dims, dims))
		return nil
	}
	return t
}

func (l *loader) vector(name string, n int) []float32 {
	t := l.tensor(name, n)
	if t == nil {
		return nil
	}
	if t.Type != gguf.F32 {
		l.fail(unsupported("tensor %q is %v; F32 is expected", name, t.Type))
		return nil
	}
	return l.readF32(t, n)
}

func (l *loader) matrix(name string, rows, cols int) *kernel.Matrix {
	t := l.tensor(name, cols, rows)
	if t == nil {
		return nil
	}
	n := rows * cols
	switch t.Type {
	case gguf.F32:
		if data := l.readF32(t, n); data != nil {
			return kernel.NewF32(rows, cols, data)
		}
	case gguf.F16:
		data := make([]uint16, 0, n)
		if l.read(t, 2, func(b []byte) { data = append(data, binary.LittleEndian.Uint16(b)) }) {
			return kernel.NewF16(rows, cols, data)
		}
	case gguf.Q8_0:
		q, scale := make([]int8, 0, n), make([]float32, 0, n/kernel.Block)
		ok := l.read(t, gguf.BlockSize, func(b []byte) {
			scale = append(scale, kernel.Float16(binary.LittleEndian.Uint16(b)))
			for _, v := range b[2:gguf.BlockSize] {
				if v == 0x80 { // the kernels rely on -127..127, which is all that quantizers write
					l.fail(unsupported("tensor %q holds the Q8_0 element -128", name))
				}
				q = append(q, int8(v))
			}
		})
		if ok {
			return kernel.NewQ8(rows, cols, q, scale)
		}
	}
	return nil
}

func (l *loader) readF32(t *gguf.Tensor, n int) []float32 {
	data := make([]float32, 0, n)
	if !l.read(t, 4, func(b []byte) { data = append(data, math.Float32frombits(binary.LittleEndian.Uint32(b))) }) {
		return nil
	}
	return data
}

// read hands the data of t to f, unit bytes at a time.
func (l *loader) read(t *gguf.Tensor, unit int, f func([]byte)) bool {
	r, size := l.f.Data(t)
	buf := make([]byte, 4096*unit)
	for size > 0 && l.err == nil {
		b := buf[:min(size, int64(len(buf)))]
		if _, err := io.ReadFull(r, b); err != nil {
			l.fail(fmt.Errorf("reading tensor %q: %w", t.Name, err))
			break
		}
		size -= int64(len(b))
		for len(b) >= unit {
			f(b[:unit])
			b = b[unit:]
		}
	}
	return l.err == nil
}
