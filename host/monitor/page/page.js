"use strict";

// Draws status.json, again and again. Everything in it is set as text.
const every = 10_000;
const at = (id) => document.getElementById(id);

// gram writes nanogram as GRAM, without trailing zeros.
function gram(nano) {
  const whole = Math.floor(nano / 1e9);
  const rest = String(Math.round(nano - whole * 1e9)).padStart(9, "0").replace(/0+$/, "");
  return whole.toLocaleString("en") + (rest && "." + rest);
}

function ago(time, now) {
  const s = Math.max(0, Math.round((new Date(now) - new Date(time)) / 1000));
  if (s < 120) return s + " s ago";
  if (s < 7200) return Math.round(s / 60) + " min ago";
  return s < 172800 ? Math.round(s / 3600) + " h ago" : Math.round(s / 86400) + " days ago";
}

function node(name, text, className) {
  const n = document.createElement(name);
  if (text !== undefined) n.textContent = text;
  if (className) n.className = className;
  return n;
}

function row(...cells) {
  const tr = node("tr");
  cells.forEach((c, i) => {
    const cell = c instanceof Node ? c : node(i ? "td" : "th", c);
    if (!i) cell.scope = "row";
    tr.append(cell);
  });
  return tr;
}

function rows(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [node("dt", name), node("dd", value)]));
}

function chart(days) {
  const svg = (name, attributes) => {
    const n = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [k, v] of Object.entries(attributes)) n.setAttribute(k, v);
    return n;
  };
  const most = Math.max(1, ...days.map((d) => d.earned));
  const width = 600 / days.length;
  at("chart").replaceChildren(...days.map((d, i) => {
    const g = svg("g", {});
    const title = svg("title", {});
    title.textContent = d.day + ": " + gram(d.earned) + " GRAM, " + d.answers + " answers";
    const height = d.earned ? Math.max(1.5, 108 * d.earned / most) : 0;
    g.append(title, svg("rect", { class: "hit", x: i * width, y: 0, width: width, height: 120 }),
      svg("rect", { class: "bar", x: i * width + width * .14, y: 120 - height, width: width * .72, height: height }));
    return g;
  }));
  at("first").textContent = days[0].day;
  at("final").textContent = days[days.length - 1].day;
  at("chart-title").textContent = "GRAM by day, at most " + gram(Math.max(...days.map((d) => d.earned)));
}

function draw(s) {
  if (s.earned) {
    for (const k of ["today", "week", "all"]) at(k).textContent = gram(s.earned[k]);
    chart(s.earned.days);
  }
  if (s.money) {
    for (const k of ["claimed", "unclaimed", "at_risk", "lost", "reserved"]) at(k).textContent = gram(s.money[k]);
    at("risk").className = s.money.at_risk ? "alarm" : "";
    at("gone").className = s.money.lost ? "alarm" : "";
    at("open").textContent = s.money.open_channels + " open" + (s.money.open_channels > s.channels.length ? ", those shown with the most to claim" : "") +
      (s.money.unsettled_channels ? ", " + s.money.unsettled_channels + " not settled since an earlier process" : "");
  }
  rows(at("balances"), s.balances.map((b) => [b.role === "payee" ? "Payee holds" : "Wallet for claims holds", b.error ? b.error : gram(b.balance) + " (" + b.address + ")"]));
  at("enclaves").replaceChildren(...s.enclaves.map((e) => row(e.id, e.drained ? node("td", e.running ? "drained: no new requests" : "drained: can be stopped", "warn") : e.up ? node("td", "answers", "up") : node("td", "does not answer: " + e.error, "down why"), e.running,
    gram(e.earned_today), gram(e.earned), e.evidence_requests + (e.evidence_errors ? ", " + e.evidence_errors + " failed" : ""))));
  const counts = (m) => Object.entries(m).filter(([, n]) => n).sort(([, a], [, b]) => b - a).map(([k, n]) => n + " " + k.replaceAll("_", " ")).join(", ") || "none";
  rows(at("work"), [
    ["Sessions", s.sessions],
    ["Answers", counts(s.answers)],
    ["Refused", counts(s.refused)],
    ["Claims", counts(s.claims) + (s.last_claim ? ", the last " + ago(s.last_claim, s.time) : "")],
    ["Chain", s.chain.up ? "block " + s.chain.block + ", made " + ago(s.chain.time, s.time) : s.chain.error],
    ["Process began", ago(s.began, s.time)],
  ]);
  at("problems").replaceChildren(...s.problems.map((p) => {
    const li = node("li", undefined, p.level === "ERROR" ? "error" : "");
    const head = node("p");
    head.append(node("strong", p.message), node("span", " " + ago(p.time, s.time) + (p.count > 1 ? ", " + p.count + " times" : ""), "hint"));
    li.append(head);
    if (p.hint) li.append(node("p", p.hint));
    if (p.detail) li.append(node("p", p.detail, "detail"));
    return li;
  }));
  at("quiet").hidden = s.problems.length > 0;
  at("channels").replaceChildren(...s.channels.map((c) => {
    const name = node("th", c.address.slice(0, 10) + "…" + c.address.slice(-6), "address");
    name.title = c.address;
    return row(name, node("td", c.state, c.state === "open" ? "" : "warn"), gram(c.authorised), gram(c.spent), gram(c.claimed), c.running,
      c.deadline ? c.deadline.slice(0, 16).replace("T", " ") : "");
  }));
  const wrong = [s.ledger && "the ledger does not answer: " + s.ledger, !s.chain.up && "the chain does not answer",
    ...s.enclaves.filter((e) => !e.up && !e.drained).map((e) => "enclave " + e.id + " does not answer"),
    s.money && s.money.at_risk > 0 && "money is at risk"].filter(Boolean);
  at("state").textContent = wrong.length ? wrong.join("; ") : "All is well";
  at("page").dataset.state = wrong.length ? "attention" : "well";
}

async function look() {
  try {
    const answer = await fetch("status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error("status " + answer.status);
    draw(await answer.json());
  } catch (e) {
    at("state").textContent = "The host does not answer: " + e.message;
    at("page").dataset.state = "down";
  }
}

let next;
async function watch() {
  clearTimeout(next);
  if (!document.hidden) await look();
  next = setTimeout(watch, every);
}
document.addEventListener("visibilitychange", () => document.hidden || watch());
watch();
