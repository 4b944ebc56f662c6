package client

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"testing/iotest"
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
