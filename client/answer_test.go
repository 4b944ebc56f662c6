package client

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// Whatever the pieces in which an answer arrives, its events come out whole,
// without meter comments, hashed as the enclave hashed them.
func TestAnswerIsSorted(t *testing.T) {
	long := "data: " + strings.Repeat("x", 40_000) + "\n\n"
	for _, c := range []struct {
		in   []string // events as they arrive
		done bool     // the last one is held back
	}{
		{[]string{"data: 1\n\n"}, false},
		{[]string{"data: 1\n\n", ": bombyx cost=1 credit=2\n\n", "data: 2\n\n", "data: [DONE]\n\n"}, true},
		{[]string{": bombyx cost=1 credit=2\n\n", "data: [DONE]\n\n", "data: [DONE]\n\n", "data: 1\n\n", "data: [DONE]\n\n"}, true},
		{[]string{"data: [DONE]\n\n", "x\n\n", "data: [DONE]\n\n", ": bombyx cost=3 credit=3\n\n", "y\n\n"}, false},
		{[]string{long, "data: 2\n\n", long, ": other comment\n\n", "data: [DONE]\n\n"}, true},
	} {
		var want []byte
		for _, e := range c.in {
			if !strings.HasPrefix(e, ": bombyx ") {
				want = append(want, e...)
			}
		}
		hash := sha256.Sum256(want)
		if c.done {
			want = want[:len(want)-len(doneEvent)]
		}
		for name, pieces := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "end with data": iotest.DataErrReader,
		} {
			src := pieces(strings.NewReader(strings.Join(c.in, "")))
			b := &answerBody{s: &exchange{t: &Transport{}, ended: true}, src: io.NopCloser(src), hash: sha256.New(), events: true}
			var got []byte
			var err error
			for err == nil {
				err = b.read()
				got = append(got, b.out...)
			}
			if err != io.EOF || !bytes.Equal(got, want) || b.done != c.done || [32]byte(b.hash.Sum(nil)) != hash || b.from != b.to {
				t.Errorf("%s: %.60q: %d bytes, want %d; held back %v; %v", name, c.in, len(got), len(want), b.done, err)
			}
		}
	}
}

// Whatever arrives and however it is cut, the events, the hash and what the
// client takes for their cost are the same, and no more than was offered.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("data: 1\n\n: bombyx cost=7\n\ndata: 2\n\n: bombyx cost=9 credit=12\n\ndata: [DONE]\n\n"), uint8(3))
	f.Add([]byte(": bombyx cost=5 credit=5 need=6\n\n: bombyx cost=-1\n\n: bombyx cost=18446744073709551615\n\n"), uint8(1))
	f.Add([]byte(": bombyx need=1\n\n: bombyx \n\n\n\ndata: [DONE]\n\ndata"), uint8(50))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		const offered = 1000
		read := func(src io.Reader) (out []byte, hash [32]byte, heard uint64) {
			b := &answerBody{s: &exchange{t: &Transport{}, ended: true, offered: offered}, src: io.NopCloser(src), hash: sha256.New(), events: true}
			for err := error(nil); err == nil; {
				err = b.read()
				out = append(out, b.out...)
			}
			return out, [32]byte(b.hash.Sum(nil)), b.s.heard
		}
		out, hash, heard := read(bytes.NewReader(stream))
		again, hash2, heard2 := read(&pieces{stream, int(piece) + 1})
		if !bytes.Equal(out, again) || hash != hash2 || heard != heard2 || heard > offered {
			t.Errorf("%q: %q and %q, cost %d and %d", stream, out, again, heard, heard2)
		}
	})
}

// pieces gives out a few bytes at a time.
type pieces struct {
	rest []byte
	n    int
}

func (r *pieces) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest[:min(r.n, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}

// Silence is the host's while somebody waits for it, and not while the reader takes his time.
func TestWatchdogMindsWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		barked := false
		l := &living{r, newWatchdog(time.Minute, func() { barked = true; r.Close() })}
		go w.Write([]byte("ab"))
		for range 2 {
			if n, err := l.Read(make([]byte, 1)); n != 1 || err != nil || barked {
				t.Fatal(n, err, barked)
			}
			time.Sleep(time.Hour)
		}
		began := time.Now()
		if _, err := l.Read(make([]byte, 1)); err == nil || !barked || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
