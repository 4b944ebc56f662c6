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
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"

	"github.com/bombyx-network/bombyx/client"
)

func (s *Stack) sdk() openai.Client {
	return openai.NewClient(option.WithHTTPClient(&http.Client{Transport: s.Client}), option.WithBaseURL(client.BaseURL), option.WithAPIKey("unused"), option.WithMaxRetries(0))
}

func asks(text string) responses.ResponseNewParams {
	return responses.ResponseNewParams{Model: Model, Instructions: openai.String("Be brief."),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(text)}}
}

// OpenAI's own library reads the responses, in one piece and as they stream, and they say the same.
func TestResponsesSDK(t *testing.T) {
	var receipts []*client.Receipt
	s := startVLLM(t, Options{Trace: client.Trace{Receipt: func(r *client.Receipt, _ string) { receipts = append(receipts, r) }}})
	ai := s.sdk()
	city := responses.ToolUnionParam{OfFunction: &responses.FunctionToolParam{Name: "where", Parameters: map[string]any{"type": "object"}, Strict: openai.Bool(false)}}
	cut, tool := asks("hello there"), asks("Where?")
	cut.MaxOutputTokens = openai.Int(2)
	tool.Tools = []responses.ToolUnionParam{city}
	tool.ToolChoice = responses.ResponseNewParamsToolChoiceUnion{OfToolChoiceMode: param.NewOpt(responses.ToolChoiceOptionsRequired)}
	result := responses.ResponseInputItemParamOfFunctionCallOutput("in France")
	result.OfFunctionCallOutput.CallID = openai.String("call_7")
	answered := tool
	answered.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
		responses.ResponseInputItemParamOfMessage("Where?", responses.EasyInputMessageRoleUser),
		responses.ResponseInputItemParamOfFunctionCall(`{"city": "Paris"}`, "call_7", "where"),
		result,
	}}
	for _, c := range []struct {
		name   string
		ask    responses.ResponseNewParams
		status responses.ResponseStatus
		types  string
		text   string
		output int64
	}{
		{"text", asks("hello there"), "completed", "message", "You said: hello there", 4},
		{"cut short", cut, "incomplete", "message", "You said: ", 2},
		{"tool", tool, "completed", "reasoning function_call", "", 5},
		{"tool's answer", answered, "completed", "message", "The tool says in France", 5},
	} {
		check := func(how string, r *responses.Response, err error) {
			t.Helper()
			if err != nil {
				var fault *openai.Error
				errors.As(err, &fault)
				t.Fatalf("%s, %s: %v: %s", c.name, how, err, fault.RawJSON())
			}
			var types []string
			for _, o := range r.Output {
				types = append(types, o.Type)
				if o.Type == "function_call" && (o.Name != "where" || o.CallID != "call_7" || o.Arguments.OfString != `{"city": "Paris"}`) {
					t.Errorf("%s, %s: %s", c.name, how, o.RawJSON())
				}
			}
			u := r.Usage
			if r.Status != c.status || strings.Join(types, " ") != c.types || r.OutputText() != c.text || u.InputTokens != 10 || u.OutputTokens != c.output ||
				u.TotalTokens != 10+c.output || u.InputTokensDetails.CachedTokens != 4 || r.Instructions.OfString != "Be brief." || r.Model != Model {
				t.Errorf("%s, %s: %s", c.name, how, r.RawJSON())
			}
			if last := receipts[len(receipts)-1]; r.ID != "resp_"+last.ID {
				t.Errorf("%s, %s: %s has the receipt %s", c.name, how, r.ID, last.ID)
			}
			if (r.IncompleteDetails.Reason == "max_output_tokens") != (c.status == "incomplete") {
				t.Errorf("%s, %s: incomplete because of %q", c.name, how, r.IncompleteDetails.Reason)
			}
		}
		whole, err := ai.Responses.New(t.Context(), c.ask)
		check("whole", whole, err)

		st := ai.Responses.NewStreaming(t.Context(), c.ask)
		var text, arguments strings.Builder
		var last responses.ResponseStreamEventUnion
		for n := int64(0); st.Next(); n++ {
			last = st.Current()
			switch last.Type {
			case "response.output_text.delta":
				text.WriteString(last.Delta)
			case "response.function_call_arguments.delta":
				arguments.WriteString(last.Delta)
			}
			if last.SequenceNumber != n {
				t.Errorf("%s: event %d says %d", c.name, n, last.SequenceNumber)
			}
		}
		check("streamed", &last.Response, st.Err())
		if text.String() != c.text || last.Type != "response."+string(c.status) {
			t.Errorf("%s: %q, then %s", c.name, text.String(), last.Type)
		}
		if len(whole.Output) > 1 && arguments.String() != whole.Output[1].Arguments.OfString {
			t.Errorf("%s: streamed %q", c.name, arguments.String())
		}
	}

	for code, p := range map[string]responses.ResponseNewParams{
		"model_not_found":       {Model: "other", Input: asks("x").Input},
		"unsupported_parameter": {Model: Model, Input: asks("x").Input, PreviousResponseID: openai.String("resp_1")},
		"":                      asks(strings.Repeat("word ", 5000)), // vLLM has no code for it
	} {
		var fault *openai.Error
		if _, err := ai.Responses.New(t.Context(), p); !errors.As(err, &fault) || fault.Code != code || fault.StatusCode < 400 {
			t.Errorf("%q: %v", code, err)
		}
	}
}
