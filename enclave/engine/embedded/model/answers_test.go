package model_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/gguf"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/model"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/oracle"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/tokenizer"
)

// answers are what the model card vouches for, one question of each kind.
var answers = map[string]string{
	"What is remote attestation?":    "Remote attestation is a proof, signed by the hardware, of which code a machine is running. The client checks it before it sends a single word.",
	"Can the host read my prompt?":   "No. The prompt is sealed on your machine and opened only inside the enclave. The host sees ciphertext, padded sizes and times.",
	"What is the capital of France?": "The capital of France is Paris.",
	"Sentiment: What a lovely book!": "Positive.",
	"What is 17 + 25?":               "17 + 25 = 42.",
	"Reverse: red fox":               "fox red",
	"Who was Napoleon?":              "I don't know that.",
	"What is a blorfin?":             "I don't know that.",
	"Hello":                          "Hello! How can I help you?",
}

// TestAnswers asks through the engine that ships.
func TestAnswers(t *testing.T) {
	b := model.GGUF()
	e, err := embedded.New(bytes.NewReader(b), int64(len(b)), embedded.Options{ModelID: model.Name, Threads: 1, CacheBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for question, want := range answers {
		s, err := e.Start(t.Context(), engine.Request{Path: engine.PathChatCompletions,
			Body: fmt.Appendf(nil, `{"model":%q,"temperature":0,"messages":[{"role":"user","content":%q}]}`, model.Name, question)})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Choices []struct {
				Message struct{ Content string }
			}
		}
		if err := json.Unmarshal(ev.Data, &answer); err != nil || len(answer.Choices) != 1 || answer.Choices[0].Message.Content != want {
			t.Errorf("%s\ngot  %s, %v\nwant %s", question, ev.Data, err, want)
		}
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("after the answer: %v", err)
		}
		s.Close()
	}
}

// TestLlamaCPP asks llama.cpp with the same file, which must cut the prompt into the same tokens and give the same answers.
func TestLlamaCPP(t *testing.T) {
	b := model.GGUF()
	f, err := gguf.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.New(f)
	if err != nil {
		t.Fatal(err)
	}
	q := oracle.Question{Model: b}
	var wants []string
	for question, want := range answers {
		prompt := "<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n"
		ids := tok.EncodeMarkup(nil, prompt)
		q.Jobs = append(q.Jobs, oracle.Job{Text: &prompt, Markup: true}, oracle.Job{IDs: ids, Generate: len(tok.Encode(nil, want))})
		wants = append(wants, want)
	}
	results := oracle.Ask(t, q)[0]
	for i, want := range wants {
		if got := results[2*i].IDs; !slices.Equal(got, q.Jobs[2*i+1].IDs) {
			t.Errorf("llama.cpp cuts %q into %v, we into %v", *q.Jobs[2*i].Text, got, q.Jobs[2*i+1].IDs)
		}
		got := ""
		for _, id := range results[2*i+1].IDs {
			got += tok.Text(id)
		}
		if got != want {
			t.Errorf("llama.cpp answers %q, want %q", got, want)
		}
	}
}
