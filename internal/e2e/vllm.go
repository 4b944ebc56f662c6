package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

// VLLM is a stand-in for a vLLM server: no model, but answers by which one sees that the question arrived. It calls the
// first tool that it is offered, after some reasoning, and says what a tool answered, or the user; asked for JSON it gives
// {"city": "Paris"}. To "wait" it says three words and no more until the request is dropped; to "dropped?" it says yes, once
// one was. To "break" it says three words and dies. Embeddings it makes of the length of a text: see embed.
type VLLM struct {
	*httptest.Server
	waiting, dropped chan struct{}
}

// NewVLLM starts one. Close it.
func NewVLLM() *VLLM {
	v := &VLLM{waiting: make(chan struct{}, 64), dropped: make(chan struct{}, 64)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", v.serve)
	mux.HandleFunc("/v1/embeddings", v.embed)
	v.Server = httptest.NewServer(mux)
	return v
}

// Engine is the driver that runs in front of it.
func (v *VLLM) Engine() (engine.Engine, error) {
	return openai.New(openai.Config{Address: v.URL, Flavour: openai.VLLM, Models: []engine.Model{{ID: Model, ContextLength: 4096}}})
}

func (v *VLLM) serve(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Stream    bool `json:"stream"`
		MaxTokens int  `json:"max_tokens"`
		Messages  []struct {
			Role    string `json:"role"`
			Content any    `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		} `json:"tools"`
		ToolChoice any `json:"tool_choice"`
		Format     struct {
			Type string `json:"type"`
		} `json:"response_format"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(q.Messages) == 0 {
		refuse(w, "no messages")
		return
	}
	last := q.Messages[len(q.Messages)-1]
	said := words(last.Content)
	if n := len(strings.Fields(said)); n > 4096 {
		refuse(w, tooLong, n)
		return
	}

	// Each piece is a token: the name of a member, and what is added to it.
	type piece struct{ member, text string }
	var pieces []piece
	say := func(member, text string) {
		for _, word := range strings.SplitAfter(text, " ") {
			pieces = append(pieces, piece{member, word})
		}
	}
	finish := "stop"
	switch {
	case last.Role == "tool":
		say("content", "The tool says "+said)
	case len(q.Tools) > 0 && q.ToolChoice != "none":
		finish = "tool_calls"
		say("reasoning", "A tool knows.")
		say("arguments", `{"city": "Paris"}`)
	case strings.HasPrefix(q.Format.Type, "json"):
		say("content", `{"city": "Paris"}`)
	case said == "wait", said == "break":
		say("content", "one two three")
	case said == "dropped?":
		select {
		case <-v.dropped:
			say("content", "yes")
		case <-r.Context().Done():
			return
		}
	default:
		say("content", "You said: "+said)
	}
	if q.MaxTokens > 0 && q.MaxTokens < len(pieces) {
		finish, pieces = "length", pieces[:q.MaxTokens]
	}

	counted := func(pieces []piece) string {
		thought := 0
		for _, p := range pieces {
			if p.member == "reasoning" {
				thought++
			}
		}
		return fmt.Sprintf(`"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":%d}}`,
			len(pieces), 10+len(pieces), thought)
	}
	call := func(first bool, arguments string) string {
		if !first {
			return fmt.Sprintf(`"tool_calls":[{"index":0,"function":{"arguments":%q}}]`, arguments)
		}
		return fmt.Sprintf(`"tool_calls":[{"index":0,"id":"call_7","type":"function","function":{"name":%q,"arguments":%q}}]`, q.Tools[0].Function.Name, arguments)
	}
	if !q.Stream {
		w.Header().Set("Content-Type", "application/json")
		whole := map[string]string{}
		for _, p := range pieces {
			whole[p.member] += p.text
		}
		calls := `"tool_calls":[]`
		if a, ok := whole["arguments"]; ok {
			calls = strings.Replace(call(true, a), `"index":0,`, "", 1)
		}
		message := fmt.Sprintf(`"role":"assistant","content":%q,"refusal":null,"annotations":null,"audio":null,"function_call":null,%s,"reasoning":%q`, whole["content"], calls, whole["reasoning"])
		fmt.Fprintf(w, `{"id":"x","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{%s},"finish_reason":%q}],%s}`, Model, message, finish, counted(pieces))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(choices string, n int) {
		fmt.Fprintf(w, `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":%q,"choices":[%s],%s}`+"\n\n", Model, choices, counted(pieces[:n]))
		http.NewResponseController(w).Flush()
	}
	event(`{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}`, 0)
	for i, p := range pieces {
		delta := fmt.Sprintf("%q:%q", p.member, p.text)
		if p.member == "arguments" {
			delta = call(pieces[i-1].member != "arguments", p.text)
		}
		event(`{"index":0,"delta":{`+delta+`},"finish_reason":null}`, i+1)
	}
	if said == "break" {
		panic(http.ErrAbortHandler)
	}
	if said == "wait" {
		<-r.Context().Done()
		v.dropped <- struct{}{}
		return
	}
	event(fmt.Sprintf(`{"index":0,"delta":{},"finish_reason":%q}`, finish), len(pieces))
	event("", len(pieces))
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// embed answers with four numbers for each text, the first of which is its length. "wait" waits until the request is dropped, and
// "waiting?" until there is one that waits, "dropped?" until there was one. At "die" it dies before its answer, at "break" within.
func (v *VLLM) embed(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Input      any
		Dimensions int
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, "no input")
		return
	}
	texts, ok := q.Input.([]any)
	if !ok {
		texts = []any{q.Input}
	}
	numbers := []string{"", "0.25", "-1", "3e-05"}
	if q.Dimensions > 0 {
		numbers = numbers[:min(q.Dimensions, len(numbers))]
	}
	var data []string
	tokens := 0
	for i, text := range texts {
		s, _ := text.(string)
		n := len(strings.Fields(s))
		if n > 4096 {
			refuse(w, tooLong, n)
			return
		}
		numbers[0] = strconv.Itoa(len(s))
		data = append(data, fmt.Sprintf(`{"index":%d,"object":"embedding","embedding":[%s]}`, i, strings.Join(numbers, ",")))
		tokens += n
	}
	until := map[any]chan struct{}{"waiting?": v.waiting, "dropped?": v.dropped}
	switch first := texts[0]; first {
	case "wait":
		v.waiting <- struct{}{}
		<-r.Context().Done()
		v.dropped <- struct{}{}
		return
	case "waiting?", "dropped?":
		select {
		case <-until[first]:
		case <-r.Context().Done():
			return
		}
	case "die":
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":"embd-1","object":"list","created":1,"model":%q,"data":[%s]`, Model, strings.Join(data, ","))
	if texts[0] == "break" {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, `,"usage":{"prompt_tokens":%d,"total_tokens":%d}}`, tokens, tokens)
}

const tooLong = "This model's maximum context length is 4096 tokens. However, your request has %d input tokens."

func refuse(w http.ResponseWriter, format string, args ...any) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":"BadRequestError","param":null,"code":400}}`, fmt.Sprintf(format, args...))
}

// words is the text of a message's content, whichever way it is put.
func words(content any) string {
	parts, ok := content.([]any)
	if !ok {
		s, _ := content.(string)
		return s
	}
	var all []string
	for _, p := range parts {
		if m, ok := p.(map[string]any); ok {
			s, _ := m["text"].(string)
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}
