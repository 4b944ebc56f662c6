// Written from docs/protocol.md alone: sections "Client and host", "Meter" and "Receipt".
//
// It does not appraise the Evidence: a client that stops at the keyset, as this one does, trusts the host.

import { hkdfSync, randomBytes } from "node:crypto";
import { encodePromise, signPromise, verifyPromise, decodePromise, AGREEMENT, VOUCHER } from "./channel.mjs";
import { cost, decodeKeyset, nextHead, openSigned, padded, priceDigest, sessionRequest, sha256, AES_256_GCM, HKDF_SHA256, XWING } from "./documents.mjs";
import { decodeResponse, encodeRequest, seal } from "./sealed.mjs";

const hex = (b) => b.toString("hex");
const max = (a, b) => (a > b ? a : b);
const min = (a, b) => (a < b ? a : b);

/** An error object of the host or the enclave. */
export class Refused extends Error {
  constructor(status, { error }) {
    super(error.message);
    Object.assign(this, { status, code: error.code });
  }
}

export class Host {
  /** key: the host's identity key, 32 bytes. */
  constructor(url, key) {
    Object.assign(this, { url, key });
  }

  async ask(path, { body, token, headers } = {}) {
    const answer = await fetch(this.url + path, {
      method: body ? "POST" : "GET", body, headers: { ...(token && { Authorization: `Bearer ${token}` }), ...headers },
    });
    if (!answer.ok) throw new Refused(answer.status, await answer.json());
    return answer;
  }

  async bytes(path, options) {
    return Buffer.from(await (await this.ask(path, options)).arrayBuffer());
  }

  async card() {
    const card = openSigned("card", (await this.bytes("/v1/card")).toString("latin1"), this.key);
    const now = Date.now() / 1000;
    if (card.v !== 1 || card.host !== hex(this.key) || now < card.not_before || now >= card.not_after) throw new Error("no card of this host for now");
    return card;
  }

  /** Evidence for a nonce of our own, unappraised: its digest and its keyset, with the manifest that the card and it name. */
  async evidence(enclave) {
    const nonce = randomBytes(32);
    const document = await this.bytes(`/v1/enclaves/${enclave.id}/evidence`, { body: nonce });
    const evidence = JSON.parse(document);
    if (evidence.version !== 1 || evidence.nonce !== hex(nonce)) throw new Error("not the answer to our nonce");
    const keyset = decodeKeyset(Buffer.from(evidence.keyset, "base64"));
    const manifest = await this.bytes(`/v1/enclaves/${enclave.id}/manifest`);
    const digest = sha256(manifest);
    if (!digest.equals(keyset.manifest) || hex(digest) !== enclave.manifest) throw new Error("another manifest");
    return { digest: hex(sha256(document)), keyset, manifest: JSON.parse(manifest) };
  }

  /** A session for a channel: {seed, globalId, accountId, clientKey, terms}. */
  async session(channel) {
    const request = sessionRequest({ hostKey: this.key, terms: channel.terms, nanoseconds: BigInt(Date.now()) * 1_000_000n, seed: channel.seed });
    const state = await (await this.ask("/v1/session", { body: request })).json();
    const voucher = state.voucher && decodePromise(Buffer.from(state.voucher, "hex"));
    if (voucher && !verifyPromise(voucher, channel.clientKey)) throw new Error("a voucher that we did not sign");
    return new Session(this, channel, state, voucher);
  }
}

/** What one channel pays for at a host. */
class Session {
  constructor(host, channel, state, voucher) {
    Object.assign(this, { host, channel, token: state.token, state, voucher, spent: BigInt(state.spent), head: voucher?.head ?? Buffer.alloc(32) });
  }

  promise(magic, total) {
    const { globalId, accountId, seed } = this.channel;
    return signPromise({ magic, globalId, accountId, total, head: this.head }, seed);
  }

  send(path, body, headers) {
    return this.host.ask(path, { body, token: this.token, headers });
  }

  /** Sends a voucher over total, with the allotment of a running stream if one is named; the highest again where that covers it. */
  async pay(total, headers) {
    if (!this.voucher || this.voucher.total < total) this.voucher = this.promise(VOUCHER, total);
    await this.send("/v1/voucher", encodePromise(this.voucher), headers).catch((e) => {
      if (e.code !== "unknown_stream") throw e; // the stream has ended; the voucher counts
    });
  }

  /** Has the payee close the channel at once, for what the receipts add up to. */
  async close() {
    await this.send("/v1/close", encodePromise(this.promise(AGREEMENT, this.spent)));
  }

  /**
   * One paid, sealed chat completion, streaming or not as the request says; it sets max_completion_tokens. What comes back has been checked
   * against what was sent, but for the appraisal: {content, receipt, raises}. With leave, one that streams is cancelled once it has begun.
   */
  async chat(card, enclave, evidence, request, { leave = false } = {}) {
    const { channel } = this;
    const content = Buffer.from(JSON.stringify(request));
    const price = card.prices[request.model];
    const window = BigInt(card.window);
    const dearest = ({ prompt, cached_prompt, completion, reasoning }) => [Math.max(prompt, cached_prompt), Math.max(completion, reasoning)].map(BigInt);
    const [in_, out] = dearest(price);
    const bound = (BigInt(padded(content.length)) * in_ + BigInt(request.max_completion_tokens) * out + 999_999n) / 1_000_000n;
    let allot = request.stream ? min(window, bound) : bound;

    const config = evidence.keyset.configs.find((c) => c.kem === XWING);
    if (config.suites[0].kdf !== HKDF_SHA256 || config.suites[0].aead !== AES_256_GCM) throw new Error("another suite");
    const id = hex(randomBytes(16)), address = `0:${hex(channel.accountId)}`;
    const sealed = await seal(config, encodeRequest("/v1/chat/completions", {
      date: new Date().toUTCString(),
      "bombyx-id": id,
      "bombyx-channel": address,
      "bombyx-evidence": evidence.digest,
      "bombyx-prices": hex(priceDigest(card.prices)),
      "bombyx-salt": hex(Buffer.from(hkdfSync("sha256", channel.seed, channel.accountId, "bombyx/1 cache salt", 32))),
      "content-type": "application/json",
    }, content));

    const stream = hex(randomBytes(16));
    await this.pay(this.spent + allot);
    const headers = () => ({ "Bombyx-Stream": stream, "Bombyx-Allot": `${allot}` });
    const answer = await this.send(`/v1/enclaves/${enclave.id}/sealed`, sealed.request, { ...headers(), "Content-Type": "message/ohttp-chunked-req" });
    let raises = 0;
    const raise = async ({ cost, need = 0n }) => {
      const more = max(need, min(cost + window, bound));
      if (more <= allot) return;
      allot = more;
      await this.pay(this.spent + allot, headers());
      raises++;
    };

    let status, type, receipt, left, text = "";
    for await (const part of decodeResponse(sealed.open(answer.body))) {
      if (part.status === 102) {
        const { "bombyx-cost": cost, "bombyx-need": need } = part.fields;
        await raise({ cost: BigInt(cost), need: need && BigInt(need) });
      } else if (part.status) {
        ({ status } = part);
        type = part.fields["content-type"];
      } else if (part.content) {
        text += part.content.toString("latin1");
        if (!type.startsWith("text/event-stream")) continue;
        // Comments of the meter stand alone between events; a piece can end within one.
        const meter = /(^|\n\n): bombyx cost=(\d+)(?: (credit)=\d+(?: need=(\d+))?)?\n\n/;
        for (let m; (m = meter.exec(text)); text = text.replace(meter, "$1")) {
          if (m[3] && !left) await raise({ cost: BigInt(m[2]), need: m[4] && BigInt(m[4]) });
        }
        if (leave) left ??= this.send("/v1/cancel", Buffer.alloc(0), { "Bombyx-Stream": stream });
      } else {
        receipt = part.trailer["bombyx-receipt"];
      }
    }
    await left;
    const body = Buffer.from(text, "latin1");
    if (status !== 200) throw new Refused(status, JSON.parse(body));

    const r = openSigned("receipt", receipt, evidence.keyset.receiptKey);
    const charged = BigInt(r.cost);
    for (const [name, got, want] of [
      ["v", r.v, 1], ["id", r.id, id], ["channel", r.channel, address], ["evidence", r.evidence, evidence.digest],
      ["manifest", r.manifest, hex(evidence.keyset.manifest)], ["model", r.model, request.model], ["request", r.request, hex(sha256(content))],
      ["answer", r.answer, hex(sha256(body))], ["prices", r.prices, hex(priceDigest(card.prices))], ["finish", r.finish, left ? "cancelled" : "complete"],
      ["cost", charged, cost(price, r.usage)],
    ]) if (got !== want) throw new Error(`the receipt's ${name} is ${got}, not ${want}`);
    if (charged > allot) throw new Error("the receipt is over more than was allotted");
    this.spent += charged;
    this.head = nextHead(this.head, receipt);
    return { content: body.toString(), receipt: r, raises };
  }
}
