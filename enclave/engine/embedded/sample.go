package embedded

import (
	crand "crypto/rand"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
)

// sampler chooses tokens. Temperature comes first, then top_k, then top_p, as in vLLM.
type sampler struct {
	temperature float64 // 0 takes the best token
	topP        float64
	topK        int // 0 for all
	random      *rand.Rand
	candidates  []candidate
}

type candidate struct {
	id     int
	weight float64 // proportional to the probability
}

// newSampler makes the sampler that p asks for. Without a seed its choices are unpredictable.
func newSampler(p *params) *sampler {
	s := &sampler{temperature: p.temperature, topP: p.topP, topK: p.topK}
	if p.seed != nil {
		s.random = rand.New(rand.NewPCG(uint64(*p.seed), 0))
		return s
	}
	var seed [32]byte
	crand.Read(seed[:]) // never fails
	s.random = rand.New(rand.NewChaCha8(seed))
	return s
}

// negligible is the probability, relative to the best token's, below which a token is never chosen.
const negligible = 1e-9

// sample returns a token, or false when the scores are not finite numbers.
func (s *sampler) sample(scores []float32) (int, bool) {
	best := 0
	for i, v := range scores {
		if v != v { // NaN
			return 0, false
		}
		if v > scores[best] {
			best = i
		}
	}
	top := float64(scores[best])
	if math.IsInf(top, 0) {
		return 0, false
	}
	if s.temperature == 0 || s.topK == 1 {
		return best, true
	}
	c := s.candidates[:0]
	floor := float32(top + math.Log(negligible)*s.temperature)
	var sum float64
	for i, v := range scores {
		if v >= floor {
			w := math.Exp((float64(v) - top) / s.temperature)
			c = append(c, candidate{i, w})
			sum += w
		}
	}
	s.candidates = c
	if s.topK > 0 && s.topK < len(c) || s.topP < 1 {
		slices.SortFunc(c, func(a, b candidate) int {
			switch {
			case a.weight > b.weight:
				return -1
			case a.weight < b.weight:
				return 1
			}
			return a.id - b.id
		})
		if s.topK > 0 && s.topK < len(c) {
			c = c[:s.topK]
			sum = total(c)
		}
		limit, n := s.topP*sum, 0
		for sum = 0; n < len(c) && sum < limit; n++ {
			sum += c[n].weight
		}
		c = c[:max(n, 1)]
	}
	at := s.random.Float64() * sum
	for _, x := range c {
		if at -= x.weight; at < 0 {
			return x.id, true
		}
	}
	return c[len(c)-1].id, true // rounding
}

func total(c []candidate) float64 {
	var sum float64
	for _, x := range c {
		sum += x.weight
	}
	return sum
}

// maxAlternatives is the most alternatives that a request may ask for.
const maxAlternatives = 20

// tokenProb is a token with the natural logarithm of its probability before temperature.
type tokenProb struct {
	id      int
	logprob float64
}

// logprobs returns the chosen token's and those of the n best tokens.
func logprobs(scores []float32, chosen, n int) (own tokenProb, alternatives []tokenProb) {
	top := float64(slices.Max(scores))
	var sum float64
	for _, v := range scores {
		sum += math.Exp(float64(v) - top)
	}
	of := func(id int) tokenProb { return tokenProb{id, float64(scores[id]) - top - math.Log(sum)} }
	for i, v := range scores {
		at := len(alternatives)
		for at > 0 && v > scores[alternatives[at-1].id] {
			at--
		}
		if at < n {
			alternatives = slices.Insert(alternatives, at, of(i))
			alternatives = alternatives[:min(len(alternatives), n)]
		}
	}
	return of(chosen), alternatives
}

// requestID returns a fresh identifier after the prefix.
func requestID(prefix string) string {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var b [8]byte
	crand.Read(b[:])
	v := binary.LittleEndian.Uint64(b[:])
	id := []byte(prefix)
	for range 12 {
		id = append(id, digits[v&31])
		v >>= 5
	}
	return string(id)
}
