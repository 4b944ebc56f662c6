package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

// ollama returns the program: BOMBYX_OLLAMA, or the user's cache, or the PATH. To install it into the cache:
//
//	GOBIN="${XDG_CACHE_HOME:-$HOME/.cache}/bombyx/ollama" go install github.com/ollama/ollama@v0.9.0
func ollama(t *testing.T) string {
	if p := os.Getenv("BOMBYX_OLLAMA"); p != "" {
		return p
	}
	if cache, err := os.UserCacheDir(); err == nil {
		if p := filepath.Join(cache, "bombyx", "ollama", "ollama"); exec.Command(p, "--version").Run() == nil {
			return p
		}
	}
	p, err := exec.LookPath("ollama")
	if err != nil {
		t.Skip("SKIPPED, NOT PASSED: no ollama to drive; the comment in this file says how to install one")
	}
	return p
}

// TestOllama drives a real server, ollama, with the model that ships with Bombyx.
func TestOllama(t *testing.T) {
	program := ollama(t)
	gguf, err := filepath.Abs("../embedded/model/bombyx-tiny-q8_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	home := t.TempDir()
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "OLLAMA_HOST=" + addr, "OLLAMA_MODELS=" + filepath.Join(home, "models"), "OLLAMA_NUM_PARALLEL=1"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	serve := exec.CommandContext(ctx, program, "serve")
	serve.Env = env
	serve.Cancel = func() error { return serve.Process.Signal(os.Interrupt) } // so that it ends its runner too
	serve.WaitDelay = 10 * time.Second
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer serve.Wait()
	defer cancel()
	for ctx.Err() == nil {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond) // polls another process
	}
	modelfile := filepath.Join(home, "Modelfile")
	if err := os.WriteFile(modelfile, fmt.Appendf(nil, "FROM %s\nPARAMETER num_thread 1\nPARAMETER num_ctx 1024\n", gguf), 0o600); err != nil {
		t.Fatal(err)
	}
	create := exec.CommandContext(ctx, program, "create", "bombyx-tiny", "-f", modelfile)
	create.Env = env
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	d, err := openai.New(openai.Config{Address: "http://" + addr, Flavour: openai.Ollama, MaxTokens: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer d.CloseIdle()
	ms, err := d.Models(ctx)
	if err != nil || len(ms) != 1 || !strings.HasPrefix(ms[0].ID, "bombyx-tiny") {
		t.Fatalf("models %+v, %v", ms, err)
	}
	ask := func(stream bool, question string) engine.Request {
		return engine.Request{Path: engine.PathChatCompletions, Stream: stream,
			Body: fmt.Appendf(nil, `{"model":%q,"stream":%v,"temperature":0,"messages":[{"role":"user","content":%q}]}`, ms[0].ID, stream, question)}
	}
	data, us, err := collect(t, d, ask(true, "What is a nonce?"))
	if err != nil || len(data) < 3 {
		t.Fatalf("%q %v", data, err)
	}
	last, before := us[len(us)-1], us[len(us)-2]
	if last.Prompt == 0 || last.Completion == 0 || before.Completion > last.Completion || before.Completion < last.Completion/2 {
		t.Errorf("usage %+v, before the end %+v", last, before)
	}
	t.Logf("%s: %d events, usage %+v, one event before the end %+v", data[0], len(data), last, before)
	one, u, err := collect(t, d, ask(false, "What is a nonce?"))
	if err != nil || len(one) != 1 || u[0].Completion != last.Completion || u[0].Prompt == 0 {
		t.Errorf("whole answer: %q %+v %v; streamed %+v", one, u, err, last)
	}

	// Embeddings: equal texts have equal ones, and ollama, which knows no base64, need not.
	list, u, err := collect(t, d, engine.Request{Path: engine.PathEmbeddings, Body: fmt.Appendf(nil, `{"model":%q,"input":["a nonce","a nonce","Paris"],"encoding_format":"base64"}`, ms[0].ID)})
	var vectors struct{ Data []struct{ Embedding []byte } }
	if err != nil || json.Unmarshal([]byte(list[0]), &vectors) != nil || len(vectors.Data) != 3 || u[0].Prompt < 3 || u[0].Completion != 0 {
		t.Fatalf("embeddings: %.200q, %+v, %v", list, u, err)
	}
	if a, b, c := vectors.Data[0].Embedding, vectors.Data[1].Embedding, vectors.Data[2].Embedding; !bytes.Equal(a, b) || bytes.Equal(a, c) || len(a) != len(c) {
		t.Errorf("embeddings of %d, %d and %d bytes are equal or differ where they should not", len(a), len(b), len(c))
	}
	t.Logf("embeddings of %d numbers, usage %+v", len(vectors.Data[0].Embedding)/4, u[0])

	// An answer that is cut short has been counted so far, and the server is free for the next.
	s, err := d.Start(ctx, ask(true, "Tell me a story."))
	if err != nil {
		t.Fatal(err)
	}
	var ev engine.Event
	for range 5 {
		if ev, err = s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if ev.Usage.Completion < 4 {
		t.Errorf("after 5 events: %+v", ev.Usage)
	}
	if _, err := s.Next(); err == nil || err == io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
	if data, _, err := collect(t, d, ask(true, "Hello")); err != nil || len(data) < 2 {
		t.Errorf("%q %v", data, err)
	}

	// Its own refusal arrives in OpenAI's terms.
	bad := ask(true, "x")
	bad.Body = []byte(strings.Replace(string(bad.Body), `"content":"x"`, `"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,!"}}]`, 1))
	var re *engine.RequestError
	if _, err := d.Start(ctx, bad); !errors.As(err, &re) || re.Status != 400 {
		t.Errorf("got %v", err)
	}
}
