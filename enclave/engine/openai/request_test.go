package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

var flavours = []openai.Flavour{openai.VLLM, openai.SGLang, openai.LlamaCPP, openai.Ollama}

// sent runs a request and returns what the server got of it.
func sent(t *testing.T, flavour openai.Flavour, req engine.Request, change ...func(*openai.Config)) map[string]any {
	t.Helper()
	f := newFake(t, events(stop, usage, done))
	if !req.Stream {
		f.answer = whole(`{"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"completion_tokens":1}}`)
	}
	if _, _, err := collect(t, driver(t, f, flavour, change...), req); err != nil {
		t.Fatalf("%s: %v", flavour, err)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(*f.body.Load()), &m); err != nil {
		t.Fatalf("%s sent %s: %v", flavour, *f.body.Load(), err)
	}
	return m
}

func refused(t *testing.T, flavour openai.Flavour, req engine.Request, change ...func(*openai.Config)) *engine.RequestError {
	t.Helper()
	f := newFake(t, events(stop, usage, done))
	_, err := driver(t, f, flavour, change...).Start(t.Context(), req)
	var re *engine.RequestError
	if !errors.As(err, &re) {
		t.Errorf("%s: %s: got %v", flavour, req.Body, err)
		return &engine.RequestError{}
	}
	if f.hits.Load() != 0 {
		t.Errorf("%s: %s went out", flavour, req.Body)
	}
	return re
}

func TestForcedMembers(t *testing.T) {
	salt := "01" + strings.Repeat("0", 62)
	every := map[string]any{"include_usage": true, "continuous_usage_stats": true}
	last := map[string]any{"include_usage": true}
	for flavour, want := range map[openai.Flavour]map[string]any{
		openai.VLLM:     {"stream_options": every, "cache_salt": salt, "cache_prompt": nil},
		openai.SGLang:   {"stream_options": every, "cache_salt": salt, "cache_prompt": nil},
		openai.LlamaCPP: {"stream_options": last, "timings_per_token": true, "cache_prompt": false, "cache_salt": nil},
		openai.Ollama:   {"stream_options": last, "cache_salt": nil, "cache_prompt": nil},
	} {
		for _, extra := range []string{"", `,"stream_options":{"include_usage":false}`, `,"stream_options":null`} {
			m := sent(t, flavour, chat(true, extra))
			for k, v := range want {
				if fmt.Sprint(m[k]) != fmt.Sprint(v) {
					t.Errorf("%s: %s is %v, want %v", flavour, k, m[k], v)
				}
			}
		}
		m := sent(t, flavour, chat(false, ""))
		if m["stream_options"] != nil || m["timings_per_token"] != nil || m["stream"] != false {
			t.Errorf("%s without streaming: %v", flavour, m)
		}
		if fmt.Sprint(m["cache_salt"]) != fmt.Sprint(want["cache_salt"]) {
			t.Errorf("%s without streaming: salt %v", flavour, m["cache_salt"])
		}
	}
}

func TestZeroSaltSharesWithNobody(t *testing.T) {
	req := chat(false, "")
	req.Salt = [32]byte{}
	a, b := sent(t, openai.VLLM, req)["cache_salt"], sent(t, openai.VLLM, req)["cache_salt"]
	if a == b || len(a.(string)) != 64 {
		t.Errorf("salts %v and %v", a, b)
	}
}

// Members with which a client could reach past the model, another client or the meter. Each must be refused by name, on
// every server, whether or not that server knows it.
func TestDangerousMembersAreRefused(t *testing.T) {
	for _, member := range []string{
		// vLLM
		`"cache_salt":"x"`, `"priority":-1`, `"prompt_logprobs":1`, `"prompt_embeds":"AA=="`, `"chat_template":"{{1}}"`, `"documents":[]`, `"mm_processor_kwargs":{}`,
		`"media_io_kwargs":{}`, `"logits_processors":[]`, `"kv_transfer_params":{"do_remote_decode":true}`, `"vllm_xargs":{}`, `"request_id":"a"`, `"session_id":"a"`,
		`"guided_regex":"(a+)+"`, `"guided_json":{}`, `"guided_grammar":""`, `"guided_decoding_backend":"x"`, `"structured_outputs":{}`, `"return_token_ids":true`,
		`"use_beam_search":true`, `"best_of":9`, `"echo":true`, `"ignore_eos":true`, `"truncate_prompt_tokens":1`, `"add_generation_prompt":false`,
		`"continue_final_message":true`, `"stop_token_ids":[1]`, `"allowed_token_ids":[1]`, `"logprob_token_ids":[1]`, `"skip_special_tokens":false`,
		// SGLang
		`"custom_logit_processor":"x"`, `"custom_params":{}`, `"bootstrap_host":"10.0.0.1"`, `"bootstrap_port":1`, `"bootstrap_room":1`, `"session_params":{}`,
		`"lora_path":"/x"`, `"return_hidden_states":true`, `"rid":"a"`, `"extra_key":"a"`, `"data_parallel_rank":1`, `"routed_dp_rank":1`, `"regex":"a"`, `"ebnf":"a"`,
		`"stop_regex":"a"`, `"no_stop_trim":true`, `"images_config":{}`,
		// llama.cpp
		`"cache_prompt":true`, `"id_slot":0`, `"grammar":"root ::= x"`, `"json_schema":{}`, `"lora":[]`, `"n_predict":-1`, `"n_keep":1`, `"timings_per_token":false`,
		`"return_progress":true`, `"samplers":[]`, `"post_sampling_probs":true`, `"reasoning_format":"none"`, `"t_max_predict_ms":1`,
		// ollama
		`"keep_alive":-1`, `"options":{"num_ctx":1}`, `"_debug_render_only":true`, `"raw":true`,
		// what no server has, and other spellings of what all have
		`"unheard_of":1`, `"Model":"x"`, `"":1`, `"messages ":[]`, `"functions":[]`, `"audio":{}`, `"web_search_options":{}`,
	} {
		name, _, _ := strings.Cut(strings.TrimPrefix(member, `"`), `"`)
		for _, flavour := range flavours {
			re := refused(t, flavour, chat(true, ","+member))
			if re.Status != 400 || re.Param != name || !strings.Contains(re.Message, `"`+name+`"`) || re.Code != "unsupported_parameter" {
				t.Errorf("%s: %s: %+v", flavour, member, re)
			}
		}
	}
}

// llama.cpp would take another tool, or none.
func TestNamedTool(t *testing.T) {
	const named = `,"tool_choice":{"type":"function","function":{"name":"f"}}`
	if re := refused(t, openai.LlamaCPP, chat(true, named)); re.Status != 400 || re.Param != "tool_choice" || !strings.Contains(re.Message, "require it") {
		t.Errorf("%+v", re)
	}
	if re := refused(t, openai.LlamaCPP, chat(true, `,"tool_choice":"any"`)); re.Param != "tool_choice" {
		t.Errorf("%+v", re)
	}
	if m := sent(t, openai.LlamaCPP, chat(true, `,"tool_choice":"required"`)); m["tool_choice"] != "required" {
		t.Errorf("sent %v", m)
	}
	if m := sent(t, openai.VLLM, chat(true, named)); m["tool_choice"] == nil {
		t.Errorf("sent %v", m)
	}
}

// ollama ignores what it does not know.
func TestIgnoredMembersAreRefused(t *testing.T) {
	for _, member := range []string{`"logit_bias":{"1":2}`, `"logprobs":true`, `"tool_choice":"auto"`, `"top_k":1`, `"reasoning_effort":"low"`} {
		refused(t, openai.Ollama, chat(true, ","+member))
	}
}

func TestInvalidMembers(t *testing.T) {
	msg := func(m string) string { return `{"model":"tiny","messages":[` + m + `]}` }
	user := func(content string) string { return msg(`{"role":"user","content":` + content + `}`) }
	for body, param := range map[string]string{
		`[]`:                                 "",
		`null`:                               "",
		`{`:                                  "",
		`{"model":"tiny"}`:                   "messages",
		`{"model":"tiny","messages":[]}`:     "messages",
		`{"model":"tiny","messages":{}}`:     "messages",
		`{"model":"tiny","messages":[1]}`:    "messages[0]",
		`{"model":"tiny","messages":null}`:   "messages",
		`{"model":"tiny","prompt":"x"}`:      "prompt",
		msg(`{"content":"x"}`):               "messages[0].role",
		msg(`{"role":"root","content":"x"}`): "messages[0].role",
		msg(`{"role":"user","content":"x","uuid":"1"}`):                  "messages[0].uuid",
		msg(`{"role":"user","content":"x"},{"role":"user","content":1}`): "messages[1].content",
		user(`[1]`):                                      "messages[0].content[0]",
		user(`[{"type":"text"}]`):                        "messages[0].content[0]",
		user(`[{"type":"text","text":1}]`):               "messages[0].content[0].text",
		user(`[{"type":"type"}]`):                        "messages[0].content[0]",
		user(`[{"type":"file","file":{"file_id":"x"}}]`): "messages[0].content[0].file",
		user(`[{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AA"}}]`):            "messages[0].content[0].video_url",
		user(`[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]`):             "messages[0].content[0].image_url.url",
		user(`[{"type":"image_url","image_url":{"url":"https://example.org/a.png"}}]`):           "messages[0].content[0].image_url.url",
		user(`[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]`):                  "messages[0].content[0].image_url.url",
		user(`[{"type":"image_url","image_url":{"url":"DATA:image/png;base64,AA"}}]`):            "messages[0].content[0].image_url.url",
		user(`[{"type":"image_url","image_url":{"url":"data:text/html,x"}}]`):                    "messages[0].content[0].image_url.url",
		user(`[{"type":"image_url","image_url":"https://example.org/a.png"}]`):                   "messages[0].content[0].image_url",
		user(`[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA","uuid":"1"}}]`): "messages[0].content[0].image_url.uuid",
		user(`[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"},"uuid":"1"}]`): "messages[0].content[0].uuid",
		user(`[{"image_url":{"url":"https://example.org/a.png"}}]`):                              "messages[0].content[0].type",
		user(`[{"type":"text","text":"x","image_url":{"url":"https://example.org"}}]`):           "messages[0].content[0]",
		user(`[{"type":"input_audio","input_audio":{"data":"https://x","format":"wav"}}]`):       "messages[0].content[0].input_audio.data",
	} {
		re := refused(t, openai.VLLM, engine.Request{Path: engine.PathChatCompletions, Body: []byte(body)})
		if re.Status != 400 || re.Param != param {
			t.Errorf("%s: %+v", body, re)
		}
	}
	for member, param := range map[string]string{
		`"n":2`: "n", `"n":0`: "n", `"n":-1`: "n", `"n":1.5`: "n", `"n":"1"`: "n", `"n":1e3`: "n",
		`"max_tokens":0`: "max_tokens", `"max_tokens":101`: "max_tokens", `"max_completion_tokens":101`: "max_completion_tokens",
		`"max_tokens":5,"max_completion_tokens":6`: "max_tokens",
		`"stream_options":1`:                       "stream_options",
		`"stream_options":{"x":1}`:                 "stream_options.x",
		`"stream_options":{"include_usage":1}`:     "include_usage",
		`"temperature":"hot"`:                      "temperature", `"temperature":{}`: "temperature", `"seed":[1]`: "seed", `"top_k":true`: "top_k",
		`"logit_bias":[]`: "logit_bias", `"logit_bias":{"1":"x"}`: "logit_bias", `"reasoning_effort":1`: "reasoning_effort",
		`"store":true`: "store",
		`"stop":1`:     "stop",
		`"stop":["` + strings.Repeat(`","`, 16) + `"]`: "stop",
		`"logprobs":5`:                    "logprobs",
		`"top_logprobs":21`:               "top_logprobs",
		`"tools":1`:                       "tools",
		`"tools":[{"type":"web_search"}]`: "tools[0].type",
		`"tools":[{"type":"function","function":{"x":1}}]`:       "tools[0].x",
		`"tool_choice":"all"`:                                    "tool_choice",
		`"response_format":{"type":"structural_tag"}`:            "response_format.type",
		`"response_format":{"type":"grammar","grammar":""}`:      "response_format.grammar",
		`"chat_template_kwargs":{"add_generation_prompt":false}`: "chat_template_kwargs.add_generation_prompt",
		`"chat_template_kwargs":{"enable_thinking":"{{x}}"}`:     "chat_template_kwargs.enable_thinking",
	} {
		re := refused(t, openai.VLLM, chat(true, ","+member), func(c *openai.Config) { c.MaxTokens = 100 })
		if re.Status != 400 || re.Param != param {
			t.Errorf("%s: %+v", member, re)
		}
	}
	mismatch := chat(true, "")
	mismatch.Stream = false
	if re := refused(t, openai.VLLM, mismatch); re.Param != "stream" {
		t.Errorf("%+v", re)
	}
	other := chat(true, "")
	other.Body = []byte(strings.ReplaceAll(string(other.Body), `"tiny"`, `"tiny:adapter"`))
	if re := refused(t, openai.SGLang, other); re.Status != 404 || re.Code != "model_not_found" {
		t.Errorf("%+v", re)
	}
}

func TestCompletions(t *testing.T) {
	req := func(s string) engine.Request {
		return engine.Request{Path: engine.PathCompletions, Body: []byte(s)}
	}
	m := sent(t, openai.VLLM, req(`{"prompt":"Once","max_tokens":5,"logprobs":2}`))
	if m["prompt"] != "Once" || m["max_tokens"] != 5.0 || m["model"] != "tiny" {
		t.Errorf("sent %v", m)
	}
	for body, param := range map[string]string{
		`{"prompt":["a","b"]}`: "prompt", `{"prompt":[1,2]}`: "prompt", `{}`: "prompt", `{"prompt":"a","suffix":"b"}`: "suffix",
		`{"prompt":"a","messages":[]}`: "messages", `{"prompt":"a","echo":true}`: "echo", `{"prompt":"a","best_of":4}`: "best_of",
	} {
		if re := refused(t, openai.VLLM, req(body)); re.Param != param {
			t.Errorf("%s: %+v", body, re)
		}
	}
	text := `data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}`
	f := newFake(t, events(text, text, strings.ReplaceAll(text, "null", `"length"`), usage, done))
	_, us, err := collect(t, driver(t, f, openai.Ollama), engine.Request{Path: engine.PathCompletions, Stream: true, Body: []byte(`{"prompt":"a","stream":true}`)})
	if err != nil || len(us) != 3 || us[1].Completion != 2 || us[2].Completion != 4 {
		t.Errorf("%v %v", us, err)
	}
}

// What SDKs send of their own accord must get through.
func TestOrdinaryRequestsPass(t *testing.T) {
	req := chat(true, `,"temperature":0.5,"top_p":0.9,"seed":4,"stop":["a"],"presence_penalty":0,"frequency_penalty":0,"user":"me","metadata":{"a":"b"},"store":false,
		"max_completion_tokens":50,"n":1,"functions":null,"logit_bias":null,"tool_choice":null,
		"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"type":"string"}}},"strict":true}}],
		"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}}`)
	req.Body = []byte(strings.ReplaceAll(string(req.Body), `[{"role":"user","content":"hi"}]`, `[
		{"role":"system","content":[{"type":"text","text":"be \"brief\""}]},
		{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"low"}}]},
		{"role":"assistant","content":[{"type":"text","text":"hm","role":"assistant","refusal":null,"annotations":[],"audio":null,"reasoning":"r","reasoning_content":"r","tool_calls":[]}],
			"refusal":null,"audio":null,"type":"function","function":{"name":"f","arguments":"{}"},"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"1","content":"4"}]`))
	for _, flavour := range flavours {
		m := sent(t, flavour, req)
		if m["max_tokens"] != 50.0 || m["max_completion_tokens"] != nil || m["user"] != nil || m["metadata"] != nil || m["n"] != nil || m["functions"] != nil {
			t.Errorf("%s: sent %v", flavour, m)
		}
		if ms := m["messages"].([]any); len(ms) != 4 || m["seed"] != 4.0 {
			t.Errorf("%s: sent %v", flavour, m)
		}
	}
	m := sent(t, openai.VLLM, chat(false, `,"top_k":5,"chat_template_kwargs":{"enable_thinking":false},"logprobs":true,"top_logprobs":3,"tool_choice":{"type":"function","function":{"name":"f"}}`))
	if m["top_k"] != 5.0 || m["chat_template_kwargs"] == nil {
		t.Errorf("sent %v", m)
	}
}

func TestTokenLimit(t *testing.T) {
	capped := func(c *openai.Config) { c.MaxTokens = 64 }
	if m := sent(t, openai.VLLM, chat(true, ""), capped); m["max_tokens"] != 64.0 {
		t.Errorf("no limit set: %v", m)
	}
	if m := sent(t, openai.VLLM, chat(true, "")); m["max_tokens"] != nil {
		t.Errorf("a limit nobody asked for: %v", m)
	}
	if m := sent(t, openai.VLLM, chat(true, `,"max_tokens":9,"max_completion_tokens":9`), capped); m["max_tokens"] != 9.0 {
		t.Errorf("sent %v", m)
	}
}
