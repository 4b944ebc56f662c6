//go:build !race

// The SDK's single package takes minutes to compile with the race detector.

package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/bombyx-network/bombyx/client"
)

func TestOpenAISDK(t *testing.T) {
	e := &Script{Chunks: 5, Size: 10}
	s := start(t, Options{Engine: e})
	ai := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: s.Client}), option.WithBaseURL(client.BaseURL), option.WithAPIKey("unused"))
	params := openai.ChatCompletionNewParams{Model: Model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")}}
	st := ai.Chat.Completions.NewStreaming(t.Context(), params)
	n := 0
	for st.Next() {
		n += len(st.Current().Choices[0].Delta.Content)
	}
	if st.Err() != nil || n != 50 {
		t.Fatalf("%d bytes, %v", n, st.Err())
	}
	params.MaxCompletionTokens = openai.Int(20)
	whole, err := ai.Chat.Completions.New(t.Context(), params)
	if err != nil || len(whole.Choices[0].Message.Content) != 10 {
		t.Fatalf("%+v, %v", whole, err)
	}
	list, err := ai.Models.List(t.Context())
	if err != nil || list.Data[0].ID != Model {
		t.Fatalf("%+v, %v", list, err)
	}
	_, err = ai.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: "other"})
	var fault *openai.Error
	if !errors.As(err, &fault) || fault.Code != "model_not_found" || !strings.Contains(fault.Message, "does not serve") {
		t.Fatalf("unknown model: %v", err)
	}
}

func TestEmbeddingsSDK(t *testing.T) {
	s := startVLLM(t, Options{})
	ai := s.sdk()
	list, err := ai.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: Model,
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "three"}}})
	if err != nil || len(list.Data) != 2 || list.Data[1].Index != 1 || list.Data[1].Embedding[0] != 5 || list.Data[1].Embedding[3] != 3e-05 || list.Usage.PromptTokens != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	_, err = ai.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: Model,
		Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(strings.Repeat("word ", 5000))}})
	if fault := new(openai.Error); !errors.As(err, &fault) || fault.StatusCode != 400 || !strings.Contains(fault.Message, "maximum context length") {
		t.Fatalf("too long: %v", err)
	}
}
