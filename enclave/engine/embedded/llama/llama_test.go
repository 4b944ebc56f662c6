package llama_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/kernel"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/llama"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/oracle"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/tokenizer"
)

var update = flag.Bool("update", false, "record what llama.cpp says in testdata/llamacpp.json")

// models are compared with llama.cpp. In F32 the greedy tokens must be the same. In F16 and Q8_0 llama.cpp rounds
// activations in other places, so there its token has to be among the best, token by token.
var models = []struct {
	name  string
	spec  modeltest.Spec
	exact bool
}{
	{"llama-f32", modeltest.Spec{Architecture: "llama", Type: "F32", Seed: 1}, true},
	{"llama-f32-tied-factors", modeltest.Spec{Architecture: "llama", Type: "F32", Seed: 2, Tied: true, RopeFactors: true, PreTokenizer: "smollm"}, true},
	{"llama-f32-gpt2", modeltest.Spec{Architecture: "llama", Type: "F32", Seed: 9, KVHeads: 4, PreTokenizer: "gpt-2"}, true},
	{"llama-f32-linear", modeltest.Spec{Architecture: "llama", Type: "F32", Seed: 10, RopeFactor: 4, HeadWidth: 48}, true},
	{"qwen2-f32", modeltest.Spec{Architecture: "qwen2", Type: "F32", Seed: 3}, true},
	{"qwen3-f32", modeltest.Spec{Architecture: "qwen3", Type: "F32", Seed: 4, Tied: true, HeadWidth: 64}, true},
	{"llama-f16", modeltest.Spec{Architecture: "llama", Type: "F16", Seed: 5}, false},
	{"qwen2-f16", modeltest.Spec{Architecture: "qwen2", Type: "F16", Seed: 6, Tied: true}, false},
	{"llama-q8", modeltest.Spec{Architecture: "llama", Type: "Q8_0", Seed: 7}, false},
	{"qwen3-q8", modeltest.Spec{Architecture: "qwen3", Type: "Q8_0", Seed: 8, HeadWidth: 64}, false},
}

var prompts = []string{
	"The capital of France is",
	"<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
	strings.Repeat("In 2026 the answer cost 1234567 nanogram. ", 8),
}

const generate = 48

// recording is what llama.cpp said about one model.
type recording struct {
	SHA256 string // of the GGUF file
	Runs   []run
}

type run struct{ Prompt, Answer []int }

func load(tb testing.TB, data []byte) (*llama.Model, *tokenizer.Tokenizer) {
	tb.Helper()
	f, err := gguf.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		tb.Fatal(err)
	}
	t, err := tokenizer.New(f)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := llama.Load(f, t.Len())
	if err != nil {
		tb.Fatal(err)
	}
	return m, t
}

// sequence is one sequence of a test.
func sequence(m *llama.Model, tokens int) *llama.Cache {
	c := &llama.Cache{}
	for len(c.Pages)*llama.PageTokens < tokens {
		c.Pages = append(c.Pages, m.NewPage())
	}
	return c
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// greedy computes the prompt in batches of up to the runner's size and generates n tokens, fewer if one ends the answer.
func greedy(m *llama.Model, t *tokenizer.Tokenizer, r *llama.Runner, prompt []int, n int) []int {
	c := sequence(m, len(prompt)+n)
	var answer []int
	next := prompt
	for {
		var rows []llama.Row
		for i, id := range next[:min(len(next), r.MaxRows())] {
			rows = append(rows, llama.Row{Cache: c, Token: id, Logits: i == len(next)-1})
		}
		next = next[len(rows):]
		logits := r.Forward(rows)
		if len(next) > 0 {
			continue
		}
		id := argmax(logits[0])
		answer = append(answer, id)
		if len(answer) == n || t.IsEnd(id) {
			return answer
		}
		next = []int{id}
	}
}

// regret computes the prompt with the answer and returns by how much, at worst, a token of the answer scores less than the
// best one, in standard deviations of the scores.
func regret(m *llama.Model, r *llama.Runner, prompt, answer []int) float64 {
	ids := slices.Concat(prompt, answer)
	c := sequence(m, len(ids))
	var worst float64
	for i, id := range ids[:len(ids)-1] {
		logits := r.Forward([]llama.Row{{Cache: c, Token: id, Logits: i >= len(prompt)-1}})
		if logits == nil {
			continue
		}
		var sum, squares float64
		for _, v := range logits[0] {
			sum += float64(v)
			squares += float64(v) * float64(v)
		}
		n := float64(len(logits[0]))
		deviation := math.Sqrt(squares/n - sum/n*sum/n)
		worst = max(worst, float64(logits[0][argmax(logits[0])]-logits[0][ids[i+1]])/deviation)
	}
	return worst
}

func TestSameTokensAsLlamaCpp(t *testing.T) {
	golden := map[string]recording{}
	const file = "testdata/llamacpp.json"
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &golden); err != nil {
			t.Fatal(err)
		}
	} else if !*update {
		t.Fatal(err)
	}
	if *update {
		golden = record(t)
	}
	pool := kernel.NewPool(2)
	defer pool.Close()
	for _, c := range models {
		t.Run(c.name, func(t *testing.T) {
			data := modeltest.Make(c.spec)
			sum := sha256.Sum256(data)
			m, tok := load(t, data)
			g := golden[c.name]
			if g.SHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("the model has changed; record llama.cpp's answers again with -update")
			}
			runner := m.NewRunner(pool, 32)
			var worst float64
			for _, r := range g.Runs {
				if c.exact {
					if got := greedy(m, tok, runner, r.Prompt, len(r.Answer)); !slices.Equal(got, r.Answer) {
						t.Errorf("got %v, llama.cpp %v", got, r.Answer)
					}
				}
				worst = max(worst, regret(m, runner, r.Prompt, r.Answer))
			}
			if worst > 0.1 {
				t.Errorf("llama.cpp takes a token that scores %.3f standard deviations below the best", worst)
			}
			t.Logf("llama.cpp's tokens score at most %.4f standard deviations below the best", worst)
		})
	}
	if *update {
		b, err := json.Marshal(golden)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte(`{"Prompt`), []byte("\n{\"Prompt"))
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The recordings are what llama.cpp says today.
func TestRecordings(t *testing.T) {
	golden := map[string]recording{}
	b, err := os.ReadFile("testdata/llamacpp.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	today := record(t)
	for _, c := range models {
		if c.exact && !reflect.DeepEqual(today[c.name], golden[c.name]) { // the others depend on llama.cpp's choice of kernels
			t.Errorf("%s: llama.cpp says %v", c.name, today[c.name])
		}
	}
}

// record asks llama.cpp about all models.
func record(t *testing.T) map[string]recording {
	var questions []oracle.Question
	var tokenizers []*tokenizer.Tokenizer
	for _, c := range models {
		q := oracle.Question{Model: modeltest.Make(c.spec)}
		_, tok := load(t, q.Model)
		for _, p := range prompts {
			q.Jobs = append(q.Jobs, oracle.Job{IDs: tok.EncodeMarkup(nil, p), Generate: generate})
		}
		questions, tokenizers = append(questions, q), append(tokenizers, tok)
	}
	out := map[string]recording{}
	for i, results := range oracle.Ask(t, questions...) {
		sum := sha256.Sum256(questions[i].Model)
		r := recording{SHA256: hex.EncodeToString(sum[:])}
		for j, result := range results {
			answer := result.IDs
			if end := slices.IndexFunc(answer, tokenizers[i].IsEnd); end >= 0 {
				answer = answer[:end+1]
			}
			r.Runs = append(r.Runs, run{questions[i].Jobs[j].IDs, answer})
		}
		out[models[i].name] = r
	}
	return out
}

// The answer to one request must not depend on what else is in the batch, how the prompt was cut or on the threads.
func TestBatchesDoNotMix(t *testing.T) {
	for _, kind := range []string{"F32", "F16", "Q8_0"} {
		m, tok := load(t, modeltest.Make(modeltest.Spec{Architecture: "qwen3", Type: kind, Seed: 11}))
		one, three := kernel.NewPool(1), kernel.NewPool(3)
		defer one.Close()
		defer three.Close()
		logits := func(r *llama.Runner, prompts ...[]int) [][]float32 {
			var out [][]float32
			caches := make([]*llama.Cache, len(prompts))
			for i, p := range prompts {
				caches[i] = sequence(m, len(p))
			}
			for at := 0; ; at += 7 {
				var rows []llama.Row
				for i, p := range prompts {
					for j := at; j < min(at+7, len(p)); j++ {
						rows = append(rows, llama.Row{Cache: caches[i], Token: p[j], Logits: j == len(p)-1})
					}
				}
				if len(rows) == 0 {
					return out
				}
				for _, l := range r.Forward(rows) {
					out = append(out, slices.Clone(l))
				}
			}
		}
		long := tok.Encode(nil, strings.Repeat("The answer and the evidence. ", 12))
		short := tok.Encode(nil, "Hello")
		together := logits(m.NewRunner(three, 64), short, long, short)
		alone := append(logits(m.NewRunner(one, 7), short), logits(m.NewRunner(one, 7), long)...)
		for i, want := range [][]float32{alone[0], alone[0], alone[1]} {
			if !slices.Equal(together[i], want) {
				t.Errorf("%s: sequence %d differs", kind, i)
			}
		}
	}
}

func TestRefusesModels(t *testing.T) {
	base := modeltest.Spec{Architecture: "llama", Type: "F32", Layers: 1, Width: 64}
	data := modeltest.Make(base)
	for name, change := range map[string]func(f *gguf.File){
		"architecture":                             func(f *gguf.File) { f.Metadata["general.architecture"] = "gemma" },
		"no architecture":                          func(f *gguf.File) { delete(f.Metadata, "general.architecture") },
		"hyperparameter \"llama.expert_count\"":    func(f *gguf.File) { f.Metadata["llama.expert_count"] = uint32(8) },
		"hyperparameter \"llama.attention.scale\"": func(f *gguf.File) { f.Metadata["llama.attention.scale"] = float32(8) },
		"llama.block_count is missing":             func(f *gguf.File) { delete(f.Metadata, "llama.block_count") },
		"\"blk.1.attn_norm.weight\" is missing":    func(f *gguf.File) { f.Metadata["llama.block_count"] = uint32(2) },
		"rope.scaling.type \"yarn\"":               func(f *gguf.File) { f.Metadata["llama.rope.scaling.type"] = "yarn" },
		"do not divide among":                      func(f *gguf.File) { f.Metadata["llama.attention.head_count_kv"] = uint32(3) },
		"is a string":                              func(f *gguf.File) { f.Metadata["llama.context_length"] = "many" },
		"llama.context_length is 0":                func(f *gguf.File) { f.Metadata["llama.context_length"] = uint32(0) },
		"llama.embedding_length is -1":             func(f *gguf.File) { f.Metadata["llama.embedding_length"] = int32(-1) },
		"layer_norm_rms_epsilon is NaN":            func(f *gguf.File) { delete(f.Metadata, "llama.attention.layer_norm_rms_epsilon") },
		"rope.freq_base is 0":                      func(f *gguf.File) { f.Metadata["llama.rope.freq_base"] = float32(0) },
		"rotated part of 8":                        func(f *gguf.File) { f.Metadata["llama.rope.dimension_count"] = uint32(8) },
		"its vocabulary has 7 tokens":              func(f *gguf.File) { f.Metadata["llama.vocab_size"] = uint32(7) },
		"has dimensions":                           func(f *gguf.File) { f.Metadata["llama.feed_forward_length"] = uint32(16) },
		"multiples of 8 are implemented":           func(f *gguf.File) { f.Metadata["llama.feed_forward_length"] = uint32(20) },
		"heads of width 4": func(f *gguf.File) {
			f.Metadata["llama.attention.key_length"] = uint32(4)
			f.Metadata["llama.attention.value_length"] = uint32(4)
		},
		"rope.scaling.factor is +Inf": func(f *gguf.File) {
			var inf float32 = 3e38
			f.Metadata["llama.rope.scaling.factor"] = inf * 10
		},
	} {
		f, err := gguf.Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		tok, err := tokenizer.New(f)
		if err != nil {
			t.Fatal(err)
		}
		change(f)
		_, err = llama.Load(f, tok.Len())
		if !errors.Is(err, llama.ErrUnsupported) || !strings.Contains(err.Error(), strings.TrimPrefix(name, "no ")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A qwen3 file that calls itself qwen2 lacks biases; one that calls itself llama has tensors that llama does not know.
	for _, c := range [][2]string{{"qwen3", "qwen2"}, {"qwen3", "llama"}} {
		data := bytes.ReplaceAll(modeltest.Make(modeltest.Spec{Architecture: c[0], Type: "F32", Layers: 1}), []byte("qwen3"), []byte(c[1]))
		f, err := gguf.Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := llama.Load(f, 0); !errors.Is(err, llama.ErrUnsupported) {
			t.Errorf("%s as %s: %v", c[0], c[1], err)
		}
	}
}
