package envelope

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

// ResponseWriter seals a response as it is written. It is an http.ResponseWriter and http.Flusher, works with
// http.ResponseController, and is for one goroutine at a time.
//
// Write collects up to [MaxChunk] bytes; Flush seals what is there. Each chunk goes out with exactly one Write to the
// transport. WriteHeader with a status of 1xx sends an informational response at once, any number of times before the
// final status. Trailers are set as in net/http: by http.TrailerPrefix, or announced in the Trailer field before the
// header is written.
//
// Only Close completes the answer. Abandoning the writer leaves a truncated stream, which the client treats as an error:
// that is how to abort, so Close must not be deferred past a failure.
type ResponseWriter struct {
	// Bucket pads the plaintext of each flushed chunk to a multiple of so many bytes, so that the sizes in the stream do
	// not give away the lengths of tokens: [DefaultBucket] unless set before the first Write, at most [MaxChunk]; 1 does
	// not pad. The content stays what it was. A flush of n bytes can grow to 9n at most, so tiny flushes do show;
	// informational responses are not padded. The whole answer, if it was never flushed, is padded to [PaddedLen].
	Bucket int

	w      io.Writer
	flush  func() error
	cipher chunkCipher
	header http.Header
	head   bool // the request was HEAD

	buf    []byte // nonce or room for it, room for the length, plaintext, room for the tag
	block  *block // what buf is, unless it has grown
	big    *bigBlock
	lead   int   // where plaintext starts
	room   int   // for plaintext, at most MaxChunk
	nonce  int   // bytes of response nonce still to send
	n      int   // bytes of plaintext
	run    int   // where the open run of content starts, or -1
	total  int64 // bytes of plaintext that are out
	broken bool  // into chunks by a flush
	framed bool
	status int
	err    error
}

var (
	errClosed = errors.New("envelope: the response has been closed")
	errHeader = errors.New("envelope: the header has been written already")
)

// Header is the header to be sent by WriteHeader.
func (w *ResponseWriter) Header() http.Header { return w.header }

// WriteHeader sends an informational response at once, or sets the final status. Errors show in the next Write, Flush or
// Close.
func (w *ResponseWriter) WriteHeader(status int) {
	if w.err != nil {
		return
	}
	if w.status != 0 {
		w.err = errHeader
		return
	}
	var head []byte
	if !w.framed {
		head, w.framed = bhttp.AppendResponseFraming(make([]byte, 0, 512)), true
	}
	var err error
	if status >= 100 && status < 200 {
		if head, err = bhttp.AppendInformational(head, status, w.header); err == nil {
			if err = w.raw(head); err == nil {
				err = w.send()
			}
		}
	} else {
		h := w.header
		if trailers := w.trailers(); trailers != nil {
			h = h.Clone()
			for name := range trailers {
				delete(h, name)
				delete(h, http.TrailerPrefix+name)
			}
		}
		if head, err = bhttp.AppendResponseHead(head, status, h); err == nil {
			w.status = status
			err = w.raw(head)
		}
	}
	if err != nil && w.err == nil {
		w.err = err
	}
}

// Write adds content. Content for HEAD is dropped; for 204 and 304 it is http.ErrBodyNotAllowed.
func (w *ResponseWriter) Write(p []byte) (int, error) {
	if w.status == 0 && w.err == nil {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.head {
		return len(p), nil
	}
	if len(p) > 0 && (w.status == http.StatusNoContent || w.status == http.StatusNotModified) {
		return 0, http.ErrBodyNotAllowed
	}
	done := 0
	for done < len(p) {
		w.reserve(w.n + 2 + len(p) - done)
		if w.run < 0 {
			if MaxChunk-w.n < 3 {
				if err := w.emit(false); err != nil {
					return done, err
				}
			}
			w.run = w.n
			w.n += 2
		}
		m := copy(w.free(), p[done:])
		w.n += m
		done += m
		if w.n == MaxChunk {
			if err := w.emit(false); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// reserve makes room for n bytes of plaintext, or a whole chunk.
func (w *ResponseWriter) reserve(n int) {
	if n <= w.room || w.room == MaxChunk {
		return
	}
	big := bigBlocks.Get().(*bigBlock)
	copy(big[:], w.buf[:w.lead+w.n])
	w.buf, w.room = big[:], MaxChunk
	w.release()
	w.big = big
}

// release clears the block and gives it back. Nothing may refer to it any more.
func (w *ResponseWriter) release() {
	if w.block != nil {
		w.block.free()
		w.block = nil
	}
	if w.big != nil {
		w.big.free()
		w.big = nil
	}
}

// free is the room that is left.
func (w *ResponseWriter) free() []byte { return w.buf[w.lead+w.n : w.lead+w.room] }

// Flush is FlushError for http.Flusher; the error shows in the next call.
func (w *ResponseWriter) Flush() { _ = w.FlushError() }

// FlushError seals and sends what has been written.
func (w *ResponseWriter) FlushError() error {
	if w.status == 0 && w.err == nil {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return w.err
	}
	return w.send()
}

func (w *ResponseWriter) send() error {
	w.broken = true
	if w.n > 0 {
		w.padRun()
		if err := w.emit(false); err != nil {
			return err
		}
	}
	if w.flush != nil {
		if err := w.flush(); err != nil {
			w.err = fmt.Errorf("envelope: sending the response: %w", err)
		}
	}
	return w.err
}

// padRun grows the open run of content up to the bucket.
func (w *ResponseWriter) padRun() {
	if w.run < 0 || w.Bucket <= 1 {
		return
	}
	target := min((w.n+w.Bucket-1)/w.Bucket*w.Bucket, MaxChunk)
	if target > w.n {
		w.reserve(target)
		w.n = spread(w.buf[w.lead:], w.run, w.n, target-w.n)
		w.run = -1
	}
}

// Close writes the authenticated end. It does not close the transport.
func (w *ResponseWriter) Close() error {
	if w.status == 0 && w.err == nil {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return w.err
	}
	end, err := bhttp.AppendTrailer([]byte{0}, w.trailers(), false)
	if err == nil {
		err = w.raw(end)
	}
	if err != nil {
		w.err = err
		return err
	}
	pad := int64(0)
	if total := w.total + int64(w.n); !w.broken {
		pad = PaddedLen(total) - total
	} else if w.Bucket > 1 {
		pad = int64((w.Bucket - w.n%w.Bucket) % w.Bucket)
	}
	w.reserve(int(min(int64(w.n)+pad, MaxChunk)))
	for pad > 0 {
		if w.n == MaxChunk {
			if err := w.emit(false); err != nil {
				return err
			}
		}
		zeros := w.free()
		m := int(min(pad, int64(len(zeros))))
		clear(zeros[:m])
		w.n += m
		pad -= int64(m)
	}
	if err := w.emit(true); err != nil {
		return err
	}
	w.err = errClosed
	w.buf = nil
	w.release()
	return nil
}

// trailers collects what the header says about them, as net/http does.
func (w *ResponseWriter) trailers() http.Header {
	var t http.Header
	set := func(name string, values []string) {
		if t == nil {
			t = http.Header{}
		}
		t[name] = values
	}
	for _, line := range w.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values, ok := w.header[name]; ok {
				set(name, values)
			}
		}
	}
	for name, values := range w.header {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			set(http.CanonicalHeaderKey(rest), values)
		}
	}
	return t
}

// raw adds bytes of the message that are not content.
func (w *ResponseWriter) raw(p []byte) error {
	w.endRun()
	w.reserve(w.n + len(p))
	for len(p) > 0 {
		if w.n == MaxChunk {
			if err := w.emit(false); err != nil {
				return err
			}
		}
		m := copy(w.free(), p)
		w.n += m
		p = p[m:]
	}
	return nil
}

func (w *ResponseWriter) endRun() {
	if w.run >= 0 {
		putLen(w.buf[w.lead+w.run:], w.n-w.run-2)
		w.run = -1
	}
}

// emit seals the plaintext so far and sends it.
func (w *ResponseWriter) emit(final bool) error {
	w.endRun()
	var aad []byte
	size := w.n + tagSize
	if final {
		aad, size = finalAAD, 0
	}
	sealed, err := w.cipher.seal(w.buf[w.lead:w.lead+w.n], aad)
	if err != nil {
		w.err = err
		return err
	}
	at := putPrefix(w.buf, w.lead, size)
	if w.nonce > 0 {
		copy(w.buf[at-w.nonce:], w.buf[:w.nonce])
		at -= w.nonce
		w.nonce = 0
	}
	w.total += int64(w.n)
	w.n = 0
	if _, err := w.w.Write(w.buf[at : w.lead+len(sealed)]); err != nil {
		w.err = fmt.Errorf("envelope: sending the response: %w", err)
		return w.err
	}
	return nil
}
