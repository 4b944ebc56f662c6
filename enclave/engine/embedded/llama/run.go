package llama

import (
	"math"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/kernel"
)

// PageTokens is the number of tokens whose keys and values a [Page] holds.
const PageTokens = 64

// Page holds the keys and values of up to PageTokens consecutive tokens of one sequence, for all layers.
type Page struct {
	// [layer][0: keys, 1: values][head][token][element]
	data []float32
}

// NewPage makes an empty page.
func (m *Model) NewPage() *Page { return &Page{make([]float32, m.pageElements())} }

// PageBytes is the memory that a page takes.
func (m *Model) PageBytes() int { return 4 * m.pageElements() }

func (m *Model) pageElements() int { return m.Layers * 2 * m.KVHeads * PageTokens * m.HeadWidth }

// Clear overwrites the page, so that nothing of a sequence outlives it.
func (p *Page) Clear() { clear(p.data) }

// rows returns the keys (which 0) or values (which 1) of one head in one layer: PageTokens rows of HeadWidth elements.
func (p *Page) rows(m *Model, layer, which, head int) []float32 {
	n := PageTokens * m.HeadWidth
	i := ((layer*2+which)*m.KVHeads + head) * n
	return p.data[i : i+n]
}

// Cache is what one sequence has computed so far. The caller provides the pages.
type Cache struct {
	Pages  []*Page // room for len(Pages)*PageTokens tokens
	Tokens int     // tokens computed so far
}

// Row is one token of a batch. Rows of one cache are consecutive tokens of its sequence, in the batch's order.
type Row struct {
	Cache  *Cache
	Token  int
	Logits bool // whether the scores of the token that follows are wanted
}

// Runner computes batches. It is for one goroutine at a time.
type Runner struct {
	m    *Model
	pool *kernel.Pool
	max  int

	in, in2             kernel.Input
	x, norm, q, k, v, a []float32
	gate, up            []float32
	scores              [][]float32 // one for each thread
	cos, sin            []float32
	freq                []float64
	pos                 []int
	logits              []float32
}

// NewRunner makes a runner of batches of up to max rows.
func (m *Model) NewRunner(pool *kernel.Pool, max int) *Runner {
	r := &Runner{m: m, pool: pool, max: max}
	q, kv := m.Heads*m.HeadWidth, m.KVHeads*m.HeadWidth
	floats := func(n int) []float32 { return make([]float32, max*n) }
	r.x, r.norm, r.q, r.k, r.v, r.a = floats(m.Width), floats(m.Width), floats(q), floats(kv), floats(kv), floats(q)
	r.gate, r.up = floats(m.FeedForward), floats(m.FeedForward)
	r.cos, r.sin = floats(m.HeadWidth/2), floats(m.HeadWidth/2)
	r.scores = make([][]float32, pool.Threads())
	r.freq = make([]float64, m.HeadWidth/2)
	for i := range r.freq {
		r.freq[i] = m.ropeScale * math.Pow(m.ropeBase, -2*float64(i)/float64(m.HeadWidth))
		if m.ropeDiv != nil {
			r.freq[i] /= float64(m.ropeDiv[i])
		}
	}
	r.pos = make([]int, max)
	return r
}

// MaxRows is the largest batch that Forward takes.
func (r *Runner) MaxRows() int { return r.max }

// Forward computes the rows, at most MaxRows, and appends them to their caches. It returns the scores of every token of
// the vocabulary for each row that wants them, in order; they are valid until the next call.
func (r *Runner) Forward(rows []Row) [][]float32 {
	m, n := r.m, len(rows)
	x, norm := r.x[:n*m.Width], r.norm[:n*m.Width]
	for i, row := range rows {
		m.embedding.Row(x[i*m.Width:(i+1)*m.Width], row.Token)
		r.pos[i] = row.Cache.Tokens
		row.Cache.Tokens++
		half := m.HeadWidth / 2
		for j, f := range r.freq {
			s, c := math.Sincos(float64(r.pos[i]) * f)
			r.sin[i*half+j], r.cos[i*half+j] = float32(s), float32(c)
		}
	}
	for i := range m.layers {
		l := &m.layers[i]
		normalize(norm, x, l.attnNorm, m.epsilon)
		r.attention(rows, i, l, norm)
		l.o.Mul(norm, r.set(&r.in, r.a, n, m.Heads*m.HeadWidth), r.pool)
		kernel.Add(x, norm)

		normalize(norm, x, l.ffnNorm, m.epsilon)
		in := r.set(&r.in, norm, n, m.Width)
		gate, up := r.gate[:n*m.FeedForward], r.up[:n*m.FeedForward]
		l.ffnGate.Mul(gate, in, r.pool)
		l.ffnUp.Mul(up, in, r.pool)
		kernel.SwiGLU(gate, up)
		l.ffnOut.Mul(norm, r.set(&r.in2, gate, n, m.FeedForward), r.pool)
		kernel.Add(x, norm)
	}
	return r.output(rows, x)
}

func (r *Runner) set(in *kernel.Input, x []float32, n, cols int) *kernel.Input {
	in.Set(x[:n*cols], n, cols)
	return in
}

// output computes the scores of the rows that want them.
func (r *Runner) output(rows []Row, x []float32) [][]float32 {
	m, n := r.m, 0
	for i, row := range rows {
		if row.Logits {
			kernel.RMSNorm(r.norm[n*m.Width:(n+1)*m.Width], x[i*m.Width:(i+1)*m.Width], m.outputNorm, m.epsilon)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	if len(r.logits) < n*m.Vocabulary {
		r.logits = make([]float32, n*m.Vocabulary)
	}
	logits := r.logits[:n*m.Vocabulary]
	m.output.Mul(logits, r.set(&r.in, r.norm, n, m.Width), r.pool)
	out := make([][]float32, n)
	for i := range out {
		out[i] = logits[i*m.Vocabulary : (i+1)*m.Vocabulary]
	}
	return out
}

func normalize(dst, x, weight []float32, epsilon float32) {
	w := len(weight)
	for i := 0; i < len(x); i += w {
		kernel.RMSNorm(dst[i:i+w], x[i:i+w], weight, epsilon)
	}
}

func addBias(x, bias []float32) {
	for i := 0; bias != nil && i < len(x); i += len(bias) {
		kernel.Add(x[i:i+len(bias)], bias)
	}
}

// attention computes the heads' results for the normalized rows into r.a.
func (r *Runner) attention(rows []Row, index int, l *layer, norm []float32) {
	m, n, half := r.m, len(rows), r.m.HeadWidth/2
	qw, kw := m.Heads*m.HeadWidth, m.KVHeads*m.HeadWidth
	q, k, v := r.q[:n*qw], r.k[:n*kw], r.v[:n*kw]
	in := r.set(&r.in, norm, n, m.Width)
	l.q.Mul(q, in, r.pool)
	l.k.Mul(k, in, r.pool)
	l.v.Mul(v, in, r.pool)
	addBias(q, l.qBias)
	addBias(k, l.kBias)
	addBias(v, l.vBias)
	if l.qNorm != nil {
		normalize(q, q, l.qNorm, m.epsilon)
		normalize(k, k, l.kNorm, m.epsilon)
	}
	for i, row := range rows {
		cos, sin := r.cos[i*half:(i+1)*half], r.sin[i*half:(i+1)*half]
		m.rotate(q[i*qw:(i+1)*qw], cos, sin)
		m.rotate(k[i*kw:(i+1)*kw], cos, sin)
		page, slot := row.Cache.Pages[r.pos[i]/PageTokens], r.pos[i]%PageTokens*m.HeadWidth
		for h := range m.KVHeads {
			from := i*kw + h*m.HeadWidth
			copy(page.rows(m, index, 0, h)[slot:slot+m.HeadWidth], k[from:])
			copy(page.rows(m, index, 1, h)[slot:slot+m.HeadWidth], v[from:])
		}
	}
	work := 0
	for i := range rows {
		work += r.pos[i] * qw
	}
	tasks := n * m.Heads
	if parts := min(r.pool.Threads(), tasks, work>>15); parts > 1 {
		r.attendParallel(rows, index, parts)
		return
	}
	r.attend(rows, index, 0, 0, 1)
}

func (r *Runner) attendParallel(rows []Row, index, parts int) {
	r.pool.Run(parts, func(part int) { r.attend(rows, index, part, part, parts) })
}

// attend computes every step-th (row, head) pair beginning with from, using the score buffer of the given thread.
func (r *Runner) attend(rows []Row, index, thread, from, step int) {
	m, w := r.m, r.m.HeadWidth
	group := m.Heads / m.KVHeads
	scale := float32(1 / math.Sqrt(float64(w)))
	for task := from; task < len(rows)*m.Heads; task += step {
		i, head := task/m.Heads, task%m.Heads
		tokens := r.pos[i] + 1
		if len(r.scores[thread]) < tokens {
			r.scores[thread] = make([]float32, (tokens+1023)&^1023)
		}
		scores := r.scores[thread][:tokens]
		q, out := r.q[task*w:(task+1)*w], r.a[task*w:(task+1)*w]
		for j := range q {
			q[j] *= scale
		}
		for p := 0; p*PageTokens < tokens; p++ {
			s := scores[p*PageTokens : min((p+1)*PageTokens, tokens)]
			kernel.DotRows(s, rows[i].Cache.Pages[p].rows(m, index, 0, head/group), q, w)
		}
		kernel.Softmax(scores)
		clear(out)
		for p := 0; p*PageTokens < tokens; p++ {
			s := scores[p*PageTokens : min((p+1)*PageTokens, tokens)]
			kernel.AddRows(out, rows[i].Cache.Pages[p].rows(m, index, 1, head/group), s, w)
		}
	}
}

// rotate applies rotary position embedding to every head in x.
func (m *Model) rotate(x, cos, sin []float32) {
	half := m.HeadWidth / 2
	for ; len(x) > 0; x = x[m.HeadWidth:] {
		if m.adjacent {
			for i := range half {
				a, b := x[2*i], x[2*i+1]
				x[2*i], x[2*i+1] = a*cos[i]-b*sin[i], a*sin[i]+b*cos[i]
			}
		} else {
			for i := range half {
				a, b := x[i], x[i+half]
				x[i], x[i+half] = a*cos[i]-b*sin[i], a*sin[i]+b*cos[i]
			}
		}
	}
}
