package embedded

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
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

// A stop string that holds all text back does not hold back the usage.
func TestUsageStaysCurrent(t *testing.T) {
	data := modeltest.Make(modeltest.Spec{Architecture: "llama", Type: "F32", Width: 32, Layers: 1, FeedForward: 32})
	e, err := New(bytes.NewReader(data), int64(len(data)), Options{ModelID: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	// answer returns the text and the number of events. The stop string is left out when empty.
	answer := func(seed int, stop string) (text string, tokens, events int64) {
		body := map[string]any{"model": "tiny", "prompt": "Hello", "stream": true, "seed": seed, "max_tokens": 3 * ahead}
		if stop != "" {
			body["stop"] = stop
		}
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		st, err := e.Start(t.Context(), engine.Request{Path: engine.PathCompletions, Stream: true, Body: b})
		if err != nil {
			t.Fatal(err)
		}
		for {
			ev, err := st.Next()
			if err == io.EOF {
				return text, tokens, events
			}
			if err != nil {
				t.Fatal(err)
			}
			if events++; ev.Usage.Completion > tokens+ahead {
				t.Errorf("usage goes from %d to %d tokens", tokens, ev.Usage.Completion)
			}
			tokens = ev.Usage.Completion
			var o struct{ Choices []struct{ Text string } }
			if err := json.Unmarshal(ev.Data, &o); err != nil {
				t.Fatal(err)
			}
			text += o.Choices[0].Text
		}
	}
	for seed := 1673; seed < 9000; seed++ { // the first that does; another processor may round to another one
		want, tokens, _ := answer(seed, "")
		if tokens < 3*ahead || strings.Contains(want, "\uFFFD") {
			continue // noise that no stop string can begin with
		}
		got, tokens, events := answer(seed, want+"x")
		if got != want || tokens != 3*ahead || events != 3 {
			t.Errorf("%d tokens in %d events: %q, want %q", tokens, events, got, want)
		}
		return
	}
	t.Error("no seed gives an answer of whole characters")
}
