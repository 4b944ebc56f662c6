package client

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/internal/receipt"
)

// maxEvent is the longest event of a stream in bytes.
const maxEvent = 4 << 20

// ErrReceipt is wrapped by what the body of an answer returns instead of
// io.EOF when its receipt is missing or wrong.
var ErrReceipt = errors.New("client: the answer has no valid receipt")

var (
	meterPrefix = []byte(": bombyx ")
	eventEnd    = []byte("\n\n")
	doneEvent   = []byte("data: [DONE]\n\n")
)

// An answerBody hands on the content of an answer. It strips the meter's
// comments, pays on as they ask, and returns io.EOF only after the
// authenticated end and a valid receipt. It keeps back "data: [DONE]", the end
// that SDKs believe, until then.
type answerBody struct {
	s      *exchange
	stop   func() bool // watching the request's context
	life   *watchdog
	resp   *http.Response
	src    io.ReadCloser
	hash   hash.Hash
	events bool

	mu    sync.Mutex // held by whoever reads; guards what follows
	buf   []byte
	block *answerBlock // what buf is, unless it has grown
	from  int          // buf[from:to] has been read and not yet sorted
	to    int
	out   []byte // ready for the caller; a part of buf before from
	done  bool   // the end is kept back
	err   error
	once  sync.Once
}

func (b *answerBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := b.s.user.Err(); err != nil {
		b.s.leave(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.out) == 0 && b.s.gone() == nil {
		if b.err != nil {
			return 0, b.err
		}
		b.fill()
	}
	if why := b.s.gone(); why != nil {
		b.drain()
		return 0, why
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	if len(b.out) == 0 && b.err == io.EOF {
		b.release()
		return n, io.EOF // whoever forwards the answer can send its last part and its end as one
	}
	return n, nil
}

// drain reads an answer that nobody wants any more, as far as its receipt.
func (b *answerBody) drain() {
	for b.err == nil {
		b.fill()
	}
	b.release()
}

// answerBlock is room for what comes of an answer at once. Blocks are used again, and are clear in between.
type answerBlock [8 << 10]byte

var answerBlocks = sync.Pool{New: func() any { return new(answerBlock) }}

// release gives the block back. Nothing may refer to it any more.
func (b *answerBody) release() {
	if b.block != nil {
		clear(b.block[:])
		answerBlocks.Put(b.block)
	}
	b.block, b.buf, b.out = nil, nil, nil
}

// fill reads on once everything that was ready has been handed out, and checks
// the receipt at the end.
func (b *answerBody) fill() {
	switch err := b.read(); {
	case err == io.EOF:
		if b.from < b.to {
			b.fail(errors.New("client: the stream ends within an event"))
			return
		}
		if err := b.finish(); err != nil {
			if errors.Is(err, ErrReceipt) {
				b.s.t.forget(b.s.e) // perhaps the enclave has other prices by now
			}
			b.fail(err)
			return
		}
		if b.done {
			b.out = append(b.out, doneEvent...)
		}
		b.err = io.EOF
	case err != nil:
		b.fail(b.s.t.broken(b.s.ctx, err))
	}
}

// read gets the next part of the answer and moves what is ready to out.
func (b *answerBody) read() error {
	if b.buf == nil {
		b.block = answerBlocks.Get().(*answerBlock)
		b.buf = b.block[:]
	}
	// In front there is room for an end that was none.
	rest := b.buf[b.from:b.to]
	b.from, b.to = len(doneEvent), len(doneEvent)+len(rest)
	if b.to == len(b.buf) {
		into := make([]byte, 2*len(b.buf))
		copy(into[b.from:], rest)
		b.release()
		b.buf = into
	} else {
		copy(b.buf[b.from:], rest)
	}
	n, err := b.src.Read(b.buf[b.to:])
	b.to += n
	if !b.events {
		b.out = b.buf[b.from:b.to]
		b.hash.Write(b.out)
		b.from = b.to
	} else {
		b.sort()
		if b.to-b.from > maxEvent {
			err = fmt.Errorf("client: an event is longer than %d bytes", maxEvent)
		}
	}
	return err
}

// sort moves whole events to out, in place, meter comments and the end aside.
func (b *answerBody) sort() {
	out := b.buf[:0]
	for {
		i := bytes.Index(b.buf[b.from:b.to], eventEnd)
		if i < 0 {
			break
		}
		event := b.buf[b.from : b.from+i+len(eventEnd)]
		b.from += len(event)
		if text, ok := bytes.CutPrefix(event, meterPrefix); ok {
			b.meter(string(text))
			continue
		}
		b.hash.Write(event)
		if b.done { // that end was none
			out = append(out, doneEvent...)
		}
		if b.done = bytes.Equal(event, doneEvent); !b.done {
			out = append(out, event...)
		}
	}
	b.out = out
}

// meter reads "cost=N [credit=N [need=N]]".
func (b *answerBody) meter(s string) {
	var v [3]uint64
	credit := false
	for _, f := range strings.Fields(s) {
		name, value, _ := strings.Cut(f, "=")
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			return
		}
		switch name {
		case "cost":
			v[0] = n
		case "credit":
			v[1], credit = n, true
		case "need":
			v[2] = n
		}
	}
	if !credit {
		b.s.delivered(v[0])
		return
	}
	b.s.metered(v[0], v[1], v[2])
}

// finish checks the receipt and settles.
func (b *answerBody) finish() error {
	s := b.s
	raw := b.resp.Trailer.Get("Bombyx-Receipt")
	if raw == "" {
		return fmt.Errorf("%w: there is none", ErrReceipt)
	}
	r, err := receipt.Verify(raw, s.e.keys.ReceiptKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	cost, err := s.e.prices.Cost(r.Usage)
	s.mu.Lock()
	offered := s.offered
	s.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrReceipt, err)
	case r.ID != s.id || r.Channel != s.t.purse.name || r.Evidence != receipt.Digest(s.e.evidence) || r.Request != receipt.Digest(s.request) || r.Model != s.model:
		return fmt.Errorf("%w: it is for another request", ErrReceipt)
	case r.Manifest != receipt.Digest(s.e.keys.ModelManifest):
		return fmt.Errorf("%w: it names another model manifest", ErrReceipt)
	case r.Answer != receipt.Digest(b.hash.Sum(nil)):
		return fmt.Errorf("%w: it is for another answer", ErrReceipt)
	case r.Prices != receipt.Digest(s.e.list):
		return fmt.Errorf("%w: its prices are not the card's", ErrReceipt)
	case r.Cost > offered:
		return fmt.Errorf("%w: it costs %d nanogram, and %d were offered", ErrReceipt, r.Cost, offered)
	case r.Cost != cost:
		return fmt.Errorf("%w: it costs %d nanogram, and its tokens %d", ErrReceipt, r.Cost, cost)
	}
	b.end(func() {
		o := s.end()
		o.cost, o.unsure = r.Cost, false
		s.t.purse.settle(o, raw)
	})
	if s.t.cfg.Trace.Receipt != nil {
		s.t.cfg.Trace.Receipt(r, raw)
	}
	if r.Finish == receipt.Cancelled && s.gone() == nil {
		s.t.broke(s.e.id, s.model)
		return s.t.broken(s.ctx, errors.New("client: the host had it ended"))
	}
	s.t.completed(s.e.id)
	return nil
}

// end releases what the exchange holds, once.
func (b *answerBody) end(settle func()) {
	b.once.Do(func() {
		b.life.stop()
		b.stop()
		settle()
		b.src.Close()
		b.s.cancel(nil)
	})
}

func (b *answerBody) fail(err error) {
	b.err = err
	b.end(b.abandon)
}

// abandon settles without a receipt, by the enclave's last word.
func (b *answerBody) abandon() {
	if b.s.gone() == nil {
		b.s.t.broke(b.s.e.id, b.s.model)
	}
	b.s.t.purse.end(b.s.end())
}

// Close ends the exchange. An answer that was not read to its end is
// cancelled, down to the engine, and read as far as its receipt.
func (b *answerBody) Close() error {
	closed := errors.New("client: read after close")
	b.s.leave(closed)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drain()
	b.err = closed
	return nil
}

// A watchdog calls bark unless it is stopped, or fed, in time.
type watchdog struct {
	timer *time.Timer
	after time.Duration
}

func newWatchdog(after time.Duration, bark func()) *watchdog {
	return &watchdog{time.AfterFunc(after, bark), after}
}

func (w *watchdog) feed() { w.timer.Reset(w.after) }
func (w *watchdog) stop() { w.timer.Stop() }

// living has a watchdog watch while somebody waits for more: a reader who takes his time is not the host's silence.
type living struct {
	io.ReadCloser
	life *watchdog
}

func (l *living) Read(p []byte) (int, error) {
	l.life.feed()
	defer l.life.stop()
	return l.ReadCloser.Read(p)
}
