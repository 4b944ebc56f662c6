// OpenAI's SDK and Agents and Vercel's AI SDK, as they come, against `bombyx proxy` at OPENAI_BASE_URL. Behind it is a stand-in for vLLM
// (../vllm.go) that calls the first tool it is offered and otherwise says back what it heard.

import { test } from "node:test";
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Agent, run, setDefaultOpenAIClient, setOpenAIAPI, setTracingDisabled, tool as agentTool } from "@openai/agents";
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = "test-model";
const openai = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY, as its users set them
const place = z.object({ city: z.string() });
const long = "word ".repeat(5000);

const collect = async (chunks, text) => {
  let all = "";
  for await (const c of chunks) all += text(c) ?? "";
  return all;
};

/** The engine has stopped for somebody who left. */
const dropped = async () => equal((await openai.responses.create({ model, input: "dropped?" })).output_text, "yes");

test("openai: models", async () => {
  const ids = [];
  for await (const m of openai.models.list()) ids.push(m.id);
  deepEqual(ids, [model]);
});

test("openai: chat completions", async () => {
  const ask = { model, messages: [{ role: "user", content: "hello there" }] };
  const whole = await openai.chat.completions.create(ask);
  equal(whole.choices[0].message.content, "You said: hello there");
  const stream = await openai.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  equal(await collect(stream, (c) => c.choices[0]?.delta.content), "You said: hello there");

  const where = { type: "function", function: { name: "where", parameters: { type: "object", properties: {} } } };
  const called = await openai.chat.completions.stream({ ...ask, tools: [where] }).finalChatCompletion();
  const [{ message, finish_reason }] = called.choices;
  equal(finish_reason, "tool_calls");
  deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: "Paris" });
  const { role, content, tool_calls } = message;
  const result = { role: "tool", tool_call_id: tool_calls[0].id, content: "in France" };
  const said = await openai.chat.completions.create({ ...ask, messages: [...ask.messages, { role, content, tool_calls }, result], tools: [where] });
  equal(said.choices[0].message.content, "The tool says in France");

  const left = await openai.chat.completions.create({ model, messages: [{ role: "user", content: "wait" }], stream: true });
  for await (const c of left) if (c.choices[0]?.delta.content?.startsWith("three")) break;
  await dropped();
});

test("openai: responses", async () => {
  const ask = { model, instructions: "Be brief.", input: "hello there" };
  const whole = await openai.responses.create(ask);
  equal(whole.output_text, "You said: hello there");
  deepEqual([whole.status, whole.store, whole.usage.input_tokens, whole.usage.output_tokens], ["completed", false, 10, 4]);
  equal(await collect(await openai.responses.create({ ...ask, stream: true }), (e) => e.type === "response.output_text.delta" && e.delta || ""), "You said: hello there");

  const stream = openai.responses.stream(ask); // checks the order of events
  equal((await stream.finalResponse()).output_text, "You said: hello there");
  const cut = await openai.responses.create({ ...ask, max_output_tokens: 2 });
  deepEqual([cut.status, cut.incomplete_details, cut.output_text], ["incomplete", { reason: "max_output_tokens" }, "You said: "]);
  const parsed = await openai.responses.parse({ ...ask, text: { format: zodTextFormat(place, "place") } });
  deepEqual(parsed.output_parsed, { city: "Paris" });

  const where = { type: "function", name: "where", parameters: { type: "object", properties: {} }, strict: false };
  for (const called of [await openai.responses.create({ ...ask, tools: [where] }), await openai.responses.stream({ ...ask, tools: [where] }).finalResponse()]) {
    deepEqual(called.output.map((o) => o.type), ["reasoning", "function_call"]);
    const [thought, call] = called.output;
    equal(thought.content[0].text, "A tool knows.");
    deepEqual(JSON.parse(call.arguments), { city: "Paris" });
    const input = [{ role: "user", content: "Where?" }, ...called.output, { type: "function_call_output", call_id: call.call_id, output: "in France" }];
    equal((await openai.responses.create({ ...ask, input, tools: [where] })).output_text, "The tool says in France");
  }

  const left = await openai.responses.create({ model, input: "wait", stream: true });
  for await (const e of left) if (e.delta?.startsWith("three")) break;
  await dropped();
});

test("openai: embeddings", async () => {
  const input = ["one two three", "four five"];
  const numbers = (s) => [s.length, 0.25, -1, 3e-5];
  const floats = (s) => numbers(s).map(Math.fround); // what four bytes hold of them
  const ask = async (more, decode = (e) => e) => {
    const { data, usage } = await openai.embeddings.create({ model, input, ...more });
    deepEqual([data.map((d) => d.index), usage], [[0, 1], { prompt_tokens: 5, total_tokens: 5 }]);
    return data.map((d) => decode(d.embedding));
  };
  deepEqual(await ask({ encoding_format: "float" }), input.map(numbers));
  deepEqual(await ask({}), input.map(floats)); // the SDK asks for base64, and decodes it
  deepEqual(await ask({ encoding_format: "base64" }, (e) => [...new Float32Array(new Uint8Array(Buffer.from(e, "base64")).buffer)]), input.map(floats));
  deepEqual(await ask({ dimensions: 2 }), input.map((s) => floats(s).slice(0, 2)));
  const [one] = (await openai.embeddings.create({ model, input: "four five" })).data;
  deepEqual(one.embedding, floats("four five"));

  const leave = new AbortController();
  const left = rejects(openai.embeddings.create({ model, input: "wait" }, { signal: leave.signal }), OpenAI.APIUserAbortError);
  await openai.embeddings.create({ model, input: "waiting?" });
  leave.abort();
  await left;
  await openai.embeddings.create({ model, input: "dropped?" });
});

test("openai: errors", async () => {
  const is = (kind, code, says) => (e) => e instanceof kind && e.code === code && says.test(e.message) || ok(false, `${e}`);
  const { NotFoundError, BadRequestError } = OpenAI;
  const messages = (content) => [{ role: "user", content }];
  await rejects(openai.chat.completions.create({ model: "other", messages: messages("x") }), is(NotFoundError, "model_not_found", /does not serve/));
  await rejects(openai.responses.create({ model: "other", input: "x" }), is(NotFoundError, "model_not_found", /does not serve/));
  await rejects(openai.responses.create({ model: "other", input: "x", stream: true }), is(NotFoundError, "model_not_found", /does not serve/));
  await rejects(openai.chat.completions.create({ model, messages: messages(long) }), is(BadRequestError, null, /maximum context length/));
  await rejects(openai.responses.create({ model, input: long }), is(BadRequestError, null, /maximum context length/));
  await rejects(openai.responses.create({ model, input: "x", previous_response_id: "resp_1" }), is(BadRequestError, "unsupported_parameter", /send the whole conversation/));
  await rejects(openai.responses.create({ model, input: "x", tools: [{ type: "web_search" }] }), is(BadRequestError, "unsupported_parameter", /run it yourself/));
  await rejects(openai.embeddings.create({ model: "other", input: "x" }), is(NotFoundError, "model_not_found", /does not serve/));
  await rejects(openai.embeddings.create({ model, input: [1, 2] }), is(BadRequestError, "invalid_value", /send texts, not tokens/));
  await rejects(openai.embeddings.create({ model, input: long }), is(BadRequestError, null, /maximum context length/));
  await rejects(openai.responses.retrieve("resp_1"), is(NotFoundError, "unknown_path", /\/v1\/responses/));

  // The engine dies in the middle of its answer.
  await rejects(openai.embeddings.create({ model, input: "break" }), is(OpenAI.InternalServerError, "engine_error", /the engine failed/));
  const broken = await openai.chat.completions.create({ model, messages: messages("break"), stream: true });
  await rejects(collect(broken, (c) => c.choices[0]?.delta.content), is(OpenAI.APIError, "engine_error", /the engine failed/));
  const events = [];
  for await (const e of await openai.responses.create({ model, input: "break", stream: true })) events.push(e);
  const { type, response } = events.at(-1);
  deepEqual([type, response.status, response.error.code], ["response.failed", "failed", "engine_error"]);
});

const compatible = createOpenAICompatible({ name: "bombyx", baseURL: process.env.OPENAI_BASE_URL, supportsStructuredOutputs: true, includeUsage: true });
const ais = {
  "@ai-sdk/openai": createOpenAI()(model), // responses
  "@ai-sdk/openai, chat": createOpenAI().chat(model),
  "@ai-sdk/openai-compatible": compatible(model),
};
for (const [name, ai] of Object.entries(ais)) {
  const base = { model: ai, providerOptions: { openai: { store: false } } };

  test(`${name}: text and objects`, async () => {
    const whole = await generateText({ ...base, system: "Be brief.", prompt: "hello there" });
    deepEqual([whole.text, whole.finishReason, whole.usage.inputTokens, whole.usage.outputTokens], ["You said: hello there", "stop", 10, 4]);
    const stream = streamText({ ...base, prompt: "hello there", onError() {} });
    equal(await collect(stream.textStream, (t) => t), "You said: hello there");
    deepEqual([await stream.finishReason, (await stream.usage).outputTokens], ["stop", 4]);
    equal((await generateText({ ...base, prompt: "hello there", maxOutputTokens: 2 })).finishReason, "length");

    const next = { ...base, messages: [{ role: "user", content: "hello" }, ...(await stream.response).messages, { role: "user", content: "and again" }] };
    equal((await generateText(next)).text, "You said: and again");
    deepEqual((await generateText({ ...base, prompt: "Where?", output: Output.object({ schema: place }) })).output, { city: "Paris" });
  });

  test(`${name}: tools`, async () => {
    const asked = [];
    const where = tool({ description: "Where is it?", inputSchema: place, execute: async ({ city }) => (asked.push(city), "in France") });
    const ask = { ...base, prompt: "Where is Paris?", tools: { where }, stopWhen: stepCountIs(3) };
    equal((await generateText(ask)).text, "The tool says in France");
    const stream = streamText({ ...ask, onError() {} });
    equal(await collect(stream.textStream, (t) => t), "The tool says in France");
    deepEqual(asked, ["Paris", "Paris"]);
  });

  test(`${name}: leaving, and errors`, async () => {
    const abort = new AbortController();
    const left = streamText({ ...base, prompt: "wait", abortSignal: abort.signal, onError() {} });
    for await (const t of left.textStream) if (t.startsWith("three")) abort.abort();
    await dropped();
    const refused = (status, says) => (e) => e.statusCode === status && says.test(e.message) || ok(false, `${e}`);
    await rejects(generateText({ ...base, prompt: long }), refused(400, /maximum context length/));
    let error;
    await streamText({ ...base, prompt: long, onError: (e) => (error = e.error) }).consumeStream();
    ok(refused(400, /maximum context length/)(error));
    const broken = streamText({ ...base, prompt: "break", onError: (e) => (error = e.error) });
    await broken.consumeStream();
    match(error.message ?? error, /the engine failed/);
  });
}

for (const [name, provider] of Object.entries({ "@ai-sdk/openai": createOpenAI(), "@ai-sdk/openai-compatible": compatible })) {
  test(`${name}: embeddings`, async () => {
    const { embeddings, usage } = await embedMany({ model: provider.textEmbeddingModel(model), values: ["one two three", "four five"] });
    deepEqual([embeddings, usage.tokens], [[[13, 0.25, -1, 3e-5], [9, 0.25, -1, 3e-5]], 5]);
  });
}

test("@ai-sdk/openai: what it believes to be stored", async () => {
  const ai = ais["@ai-sdk/openai"];
  const first = await generateText({ model: ai, prompt: "hello" });
  const messages = [{ role: "user", content: "hello" }, ...first.response.messages, { role: "user", content: "and again" }];
  await rejects(generateText({ model: ai, messages }), /providerOptions\.openai\.store/);
});

for (const api of ["responses", "chat_completions"]) {
  test(`@openai/agents: ${api}`, async () => {
    setTracingDisabled(true);
    setDefaultOpenAIClient(openai);
    setOpenAIAPI(api);
    const where = agentTool({ name: "where", description: "Where is it?", parameters: place, execute: async ({ city }) => (equal(city, "Paris"), "in France") });
    const agent = new Agent({ name: "Guide", instructions: "Be brief.", model, tools: [where] });
    const first = await run(agent, "Where is Paris?");
    equal(first.finalOutput, "The tool says in France");
    const streamed = await run(agent, "Where is Paris?", { stream: true });
    match(await collect(streamed.toTextStream(), (t) => t), /The tool says in France/);
    await streamed.completed;
    equal(streamed.finalOutput, "The tool says in France");

    const again = await run(new Agent({ name: "Guide", model }), [...first.history, { role: "user", content: "and again" }]);
    equal(again.finalOutput, "You said: and again");
    const typed = await run(new Agent({ name: "Guide", model, outputType: place }), "Where?");
    deepEqual(typed.finalOutput, { city: "Paris" });
  });
}
