package e2e

import (
	"io"
	"strings"
	"testing"
)

func startVLLM(t *testing.T, o Options) *Stack {
	v := NewVLLM()
	t.Cleanup(v.Close)
	e, err := v.Engine()
	if err != nil {
		t.Fatal(err)
	}
	o.Engine = e
	return start(t, o)
}

// Whoever stops reading a response stops the engine, and pays for what it said.
func TestResponseCancelled(t *testing.T) {
	s := startVLLM(t, Options{})
	resp, err := postTo(s, "/responses", `{"model":"test-model","stream":true,"input":"wait"}`)
	if err != nil {
		t.Fatal(err)
	}
	var heard strings.Builder
	for p := make([]byte, 1<<10); !strings.Contains(heard.String(), "three"); {
		n, err := resp.Body.Read(p)
		heard.Write(p[:n])
		if err != nil {
			t.Fatalf("%q, %v", heard.String(), err)
		}
	}
	resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("it goes on: %q", b)
	}
	if resp, err = postTo(s, "/responses", `{"model":"test-model","input":"dropped?"}`); err != nil {
		t.Fatal(err)
	}
	if body, err := read(t, resp); err != nil || !strings.Contains(body, `"text":"yes"`) {
		t.Errorf("%q, %v", body, err)
	}
	// A prompt of 10 tokens, 4 of them cached, and three words; the same prompt, and one.
	if got, want := s.Client.State().Settled, uint64(2*(6+1)+(3+1)*10); got != want {
		t.Errorf("it cost %d, not %d", got, want)
	}
}
