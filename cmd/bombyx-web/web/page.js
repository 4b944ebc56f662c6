"use strict";

// Everything that comes from files is shown by textContent alone: evidence is written by strangers.

const $ = (id) => document.getElementById(id);
const fileFields = ["evidence", "collateral", "certificates"];
const textFields = ["nonce", "reportData", "at"];

// Control characters and those that turn the direction of writing could make a line read as what it is not.
const unprintable = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const printable = (text) => text.replace(unprintable, "\ufffd");
const escaped = (json) => json.replace(unprintable, (c) => c === "\n" ? c : "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = printable(text);
  if (className) e.className = className;
  return e;
}

function say(state, word, summary) {
  $("outcome").dataset.state = state;
  $("word").textContent = word;
  $("summary").textContent = printable(summary);
  $("result").hidden = true;
}

function list(target, pairs) {
  target.replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function row(check, i) {
  const tr = element("tr");
  tr.dataset.status = check.status;
  const status = element("td");
  status.append(element("span", check.status || "NONE", "status"));
  const what = element("td", undefined, "what");
  what.append(element("span", check.title, "title"), element("span", check.clause, "clause"), element("code", check.id));
  const stands = check.status === "FAIL" || (check.status === "SKIP" && check.required);
  if (check.detail && check.status !== "PASS") {
    const why = check.status === "SKIP" && !check.required ? "Not required: " + check.detail : check.detail;
    what.append(element("span", why, stands ? "why stands" : "why"));
  }
  if (check.bytes.length) {
    const bytes = element("details", undefined, "bytes");
    const pairs = element("dl");
    list(pairs, check.bytes.map((b) => [b.where, b.hex]));
    bytes.append(element("summary", "Bytes"), pairs);
    what.append(bytes);
  }
  const number = element("th", String(i + 1));
  number.scope = "row";
  tr.append(number, status, what, element("td", check.seen, "value"), element("td", check.wanted, "value"));
  return tr;
}

function show(answer) {
  if (answer.error) {
    say("error", "No appraisal", answer.error);
    return;
  }
  const view = JSON.parse(answer.view);
  const doc = JSON.parse(answer.json);
  const failed = view.checks.filter((c) => c.status === "FAIL").length;
  const skipped = view.checks.filter((c) => c.status === "SKIP").length;
  const under = ` under the policy “${view.policy}”.`;
  if (view.verdict === "verified") {
    say("verified", "VERIFIED", "Every required check passed" + under);
  } else if (view.verdict === "missing") {
    say("missing", "REJECTED", "Nothing speaks against the evidence, but collateral is missing" + under);
  } else if (view.verdict === "expired") {
    say("expired", "REJECTED", "Nothing else speaks against the evidence, but collateral has expired" + under + " Choose newer collateral, or state the time of appraisal.");
  } else {
    say("rejected", "REJECTED", (failed === 1 ? "One check failed" : failed > 1 ? `${failed} checks failed` : "A required check was skipped") + under);
  }
  const facts = [["Evidence", doc.kind]];
  if (view.missing && view.missing.length) facts.push(["Missing", view.missing.join(", ")]);
  if (view.expired && view.expired.length) facts.push(["Expired", view.expired.join(", ")]);
  if (view.tcb_status) facts.push(["TCB status", view.tcb_status]);
  if (view.advisories.length) facts.push(["Advisories", view.advisories.join(", ")]);
  facts.push(["Appraised as of", view.at]);
  if (view.valid_until) facts.push(["Valid until", view.valid_until]);
  facts.push(["Checks", `${view.checks.length - failed - skipped} passed, ${failed} failed, ${skipped} skipped`]);
  list($("facts"), facts);
  $("checks").replaceChildren(...view.checks.map(row));
  $("claims-title").textContent = view.verdict === "verified" ? "What the evidence states" : "What the evidence states, not to be believed";
  list($("claims"), Object.entries(doc.claims).sort(([a], [b]) => a < b ? -1 : 1));
  $("json").textContent = escaped(answer.json);
  $("result").hidden = false;
}

// read returns the files of a field, or throws what to tell the user.
async function read(field) {
  const files = [...$(field).files];
  if (files.reduce((n, f) => n + f.size, 0) > bombyx.limits[field]) {
    throw new Error(`${field}: more than ${bombyx.limits[field]} bytes. Is it the right file?`);
  }
  return Promise.all(files.map(async (f) => {
    try {
      return { name: f.name, bytes: new Uint8Array(await f.arrayBuffer()) };
    } catch {
      throw new Error(`${f.name} cannot be read. Was it moved or changed? Choose it again.`);
    }
  }));
}

let latest = 0;

async function appraise() {
  const mine = ++latest; // what is asked later makes this one's answer stale
  if (!globalThis.bombyx) return;
  if (!$("evidence").files.length) {
    say("ready", "Ready", "Choose the evidence.");
    return;
  }
  say("working", "Working", "The evidence is being appraised.");
  let answer;
  try {
    const [[evidence], collateral, [certificates]] = await Promise.all(fileFields.map(read));
    await new Promise((paint) => setTimeout(paint));
    if (mine !== latest) return;
    const text = Object.fromEntries(textFields.map((f) => [f, $(f).value.trim()]));
    const policy = $("document").value;
    answer = bombyx.appraise({ evidence, policy, collateral, certificates, ...text });
  } catch (e) {
    answer = { error: e.message };
  }
  if (mine === latest) show(answer);
}

let chosen = 0;

// changed takes up a policy that was chosen, then appraises.
async function changed(target) {
  if (!globalThis.bombyx) return;
  if (target === $("builtin") && target.value) {
    chosen++;
    $("document").value = bombyx.policies[target.value];
    $("policy").value = "";
  }
  if (target === $("document")) {
    chosen++;
    $("builtin").value = "";
  }
  if (target === $("policy") && target.files.length) {
    const mine = ++chosen;
    try {
      const [file] = await read("policy");
      if (mine !== chosen) return;
      $("document").value = new TextDecoder().decode(file.bytes);
      $("builtin").value = "";
    } catch (e) {
      latest++;
      say("error", "No appraisal", e.message);
      return;
    }
  }
  return appraise();
}

function acceptDrops() {
  const over = (e) => {
    e.preventDefault();
    document.body.classList.toggle("over", e.type === "dragover");
  };
  addEventListener("dragover", over);
  addEventListener("dragleave", over);
  addEventListener("drop", (e) => {
    over(e);
    const field = e.target instanceof Element && e.target.closest(".field");
    const input = field && field.querySelector("input[type=file]") || $("evidence");
    const given = new DataTransfer();
    for (const f of [...e.dataTransfer.files].slice(0, input.multiple ? undefined : 1)) given.items.add(f);
    if (!given.files.length) return;
    input.files = given.files;
    changed(input);
  });
}

async function start() {
  const packed = Uint8Array.from(atob(verifierWasm), (c) => c.charCodeAt(0));
  delete globalThis.verifierWasm;
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const go = new Go();
  const { instance } = await WebAssembly.instantiate(await new Response(unpacked).arrayBuffer(), go.importObject);
  go.run(instance).then(() => {
    delete globalThis.bombyx;
    ++latest;
    say("error", "Stopped", "The verifier has stopped. Reload the page.");
  });
}

$("form").addEventListener("submit", (e) => e.preventDefault());
$("form").addEventListener("change", (e) => changed(e.target));
acceptDrops();
start().then(() => changed($("builtin")), (e) => say("error", "Not started", `The verifier could not start: ${e.message}. A current browser with WebAssembly is needed.`));
