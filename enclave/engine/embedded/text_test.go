package embedded

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAssembler(t *testing.T) {
	for _, c := range []struct {
		stop   []string
		pieces []string
		shown  []string // after each piece, then the rest when no stop string ended it
		end    bool
	}{
		{nil, []string{"a", "bc"}, []string{"a", "bc", ""}, false},
		{nil, []string{"\xe6", "\x97", "\xa5x"}, []string{"", "", "日x", ""}, false},
		{nil, []string{"\xf0\x9f", "\x99\x82"}, []string{"", "🙂", ""}, false},
		{nil, []string{"a\xe6"}, []string{"a", "\uFFFD"}, false},
		{nil, []string{"\x97\xa5", "x"}, []string{"\uFFFD", "x", ""}, false},
		{nil, []string{"\xff", "\xc3("}, []string{"\uFFFD", "\uFFFD(", ""}, false},
		{[]string{"END"}, []string{"xE", "N", "Dy"}, []string{"x", "", ""}, true},
		{[]string{"END"}, []string{"xE", "N", "x"}, []string{"x", "", "ENx", ""}, false},
		{[]string{"END"}, []string{"EEN", "D"}, []string{"E", ""}, true},
		{[]string{"END"}, []string{"E"}, []string{"", "E"}, false},
		{[]string{"abc", "b"}, []string{"ab"}, []string{"a"}, true},
		{[]string{"aab"}, []string{"a", "a", "a", "b"}, []string{"", "", "a", ""}, true},
		{[]string{"\n\n"}, []string{"x\n", "\ny"}, []string{"x", ""}, true},
		{[]string{"日"}, []string{"x\xe6", "\x97", "\xa5"}, []string{"x", "", ""}, true},
		{[]string{"日"}, []string{"x\xe6", "\x97", "\xa6"}, []string{"x", "", "\u65e6", ""}, false},
	} {
		a := assembler{stop: c.stop}
		for i, p := range c.pieces {
			text, end := a.add(p)
			if last := i == len(c.pieces)-1; text != c.shown[i] || end != (c.end && last) {
				t.Errorf("%q after %q: %q, %v; want %q", c.stop, c.pieces[:i+1], text, end, c.shown[i])
			}
		}
		if !c.end {
			if got := a.rest(); got != c.shown[len(c.pieces)] {
				t.Errorf("%q after %q: rest %q, want %q", c.stop, c.pieces, got, c.shown[len(c.pieces)])
			}
		}
	}
}

func TestAssemblerTrims(t *testing.T) {
	for _, c := range []struct{ pieces, shown []string }{
		{[]string{" a", " b"}, []string{"a", " b"}},
		{[]string{"", " ", " b"}, []string{"", "", " b"}},
		{[]string{"  a"}, []string{" a"}},
		{[]string{"a", " b"}, []string{"a", " b"}},
		{[]string{"\xe6", " "}, []string{"", "\uFFFD "}},
	} {
		a := assembler{trim: true}
		for i, p := range c.pieces {
			if text, _ := a.add(p); text != c.shown[i] {
				t.Errorf("after %q: %q; want %q", c.pieces[:i+1], text, c.shown[i])
			}
		}
	}
}

// However a text is cut, the same is shown, and always whole characters.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte("some text with 日本 and a stop"), "stop", "日", uint64(1))
	f.Add([]byte("aaaaab\xf0\x9f\x99"), "aab", "b", uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, stop1, stop2 string, seed uint64) {
		if stop1 == "" || stop2 == "" || !utf8.ValidString(stop1) || !utf8.ValidString(stop2) || !utf8.Valid(text) {
			return
		}
		a := assembler{stop: []string{stop1, stop2}}
		r := rand.New(rand.NewPCG(seed, 0))
		var shown strings.Builder
		ended := false
		for rest := string(text); rest != "" && !ended; {
			n := 1 + r.IntN(min(len(rest), 4))
			var s string
			s, ended = a.add(rest[:n])
			rest = rest[n:]
			if !utf8.ValidString(s) {
				t.Fatalf("shows %q", s)
			}
			shown.WriteString(s)
		}
		if !ended {
			shown.WriteString(a.rest())
		}
		got := shown.String()
		if strings.Contains(got, stop1) || strings.Contains(got, stop2) {
			t.Fatalf("shows a stop string: %q", got)
		}
		if !strings.HasPrefix(string(text), got) || !ended && got != string(text) {
			t.Fatalf("shows %q of %q", got, text)
		}
	})
}

func TestSampler(t *testing.T) {
	scores := []float32{0, 3, 1, 2, -50, float32(math.Inf(-1))}
	frequency := func(p params) []float64 {
		seed := int64(7)
		p.seed = &seed
		s := newSampler(&p)
		count := make([]float64, len(scores))
		const n = 20000
		for range n {
			id, ok := s.sample(scores)
			if !ok {
				t.Fatal("finite scores were refused")
			}
			count[id] += 1.0 / n
		}
		return count
	}
	softmax := func(temperature float64, ids ...int) []float64 {
		p, sum := make([]float64, len(scores)), 0.0
		for _, id := range ids {
			p[id] = math.Exp(float64(scores[id]) / temperature)
			sum += p[id]
		}
		for i := range p {
			p[i] /= sum
		}
		return p
	}
	for name, c := range map[string]struct {
		p    params
		want []float64
	}{
		"plain":       {params{temperature: 1, topP: 1}, softmax(1, 0, 1, 2, 3)},
		"hot":         {params{temperature: 2, topP: 1}, softmax(2, 0, 1, 2, 3)},
		"cold":        {params{temperature: 0.5, topP: 1}, softmax(0.5, 0, 1, 2, 3)},
		"greedy":      {params{temperature: 0, topP: 1}, softmax(1, 1)},
		"top_k 2":     {params{temperature: 1, topP: 1, topK: 2}, softmax(1, 1, 3)},
		"top_k 99":    {params{temperature: 1, topP: 1, topK: 99}, softmax(1, 0, 1, 2, 3)},
		"top_p 0.6":   {params{temperature: 1, topP: 0.6}, softmax(1, 1)},          // the best has 0.644
		"top_p 0.7":   {params{temperature: 1, topP: 0.7}, softmax(1, 1, 3)},       // the best two 0.881
		"top_p 0.9":   {params{temperature: 1, topP: 0.9}, softmax(1, 1, 2, 3)},    // the best three 0.968
		"both":        {params{temperature: 1, topP: 0.7, topK: 2}, softmax(1, 1)}, // 0.731 of the two
		"tiny top_p":  {params{temperature: 1, topP: 1e-300}, softmax(1, 1)},
		"tiny degree": {params{temperature: 1e-300, topP: 1}, softmax(1, 1)},
	} {
		got := frequency(c.p)
		for id := range got {
			if math.Abs(got[id]-c.want[id]) > 0.015 {
				t.Errorf("%s: token %d has %.3f, want %.3f", name, id, got[id], c.want[id])
			}
		}
	}
	for _, bad := range [][]float32{{float32(math.NaN()), 1}, {1, float32(math.NaN())}, {1, float32(math.Inf(1))}, {float32(math.Inf(-1)), float32(math.Inf(-1))}} {
		if _, ok := newSampler(&params{temperature: 1, topP: 1}).sample(bad); ok {
			t.Errorf("%v was accepted", bad)
		}
	}
	own, best := logprobs(scores, 3, 3)
	if own.id != 3 || len(best) != 3 || best[0].id != 1 || best[1] != own || best[2].id != 2 || math.Abs(math.Exp(own.logprob)-softmax(1, 0, 1, 2, 3)[3]) > 1e-6 {
		t.Errorf("logprobs %v, %v", own, best)
	}
}
