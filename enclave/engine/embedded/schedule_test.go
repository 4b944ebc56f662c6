package embedded

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
)

// The engine computes ahead tokens for a reader that does not read, then waits for it; a cancelled request frees its place
// and its pages at once.
func TestNeverFarAhead(t *testing.T) {
	data := modeltest.Make(modeltest.Spec{Architecture: "llama", Type: "F32", Width: 32, Layers: 1, FeedForward: 32})
	synctest.Test(t, func(t *testing.T) {
		e, err := New(bytes.NewReader(data), int64(len(data)), Options{ModelID: "tiny", MaxSequences: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		request := engine.Request{Path: engine.PathCompletions, Stream: true, Body: []byte(`{"model":"tiny","prompt":"Hello","stream":true,"temperature":0}`)}
		st, err := e.Start(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		s := st.(*stream).s
		synctest.Wait() // until nothing moves any more
		if len(s.out) != ahead {
			t.Fatalf("%d steps ahead, want %d", len(s.out), ahead)
		}
		for range 3 {
			before := s.tokens
			if _, err := st.Next(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(s.out) != ahead || s.tokens <= before {
				t.Fatalf("%d steps ahead after a read", len(s.out))
			}
		}
		second, err := e.Start(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(second.(*stream).s.out); n != 0 {
			t.Fatalf("the waiting request has %d steps", n)
		}
		st.Close()
		synctest.Wait()
		if n := len(second.(*stream).s.out); n != ahead {
			t.Fatalf("%d steps ahead after the other was cancelled", n)
		}
		if s.cache.Pages != nil {
			t.Error("a cancelled request keeps its pages")
		}
		if _, err := st.Next(); err != errCancelled {
			t.Errorf("Next after Close: %v", err)
		}
		for err = nil; err == nil; {
			_, err = second.Next()
		}
		if err != io.EOF {
			t.Error(err)
		}
	})
}
