// Written from docs/protocol.md alone: every example of docs/protocol.md that a client and payee need,
// computed here and compared byte for byte.

import test from "node:test";
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { Address, beginCell, Cell, storeStateInit } from "@ton/core";
import * as ch from "./channel.mjs";
import * as doc from "./documents.mjs";
import * as ed25519 from "./ed25519.mjs";
import { decodeResponse, headerOf, openAnswer, suite } from "./sealed.mjs";
import { vector } from "./vectors.mjs";

const hex = (b) => Buffer.from(b).toString("hex");
const bytes = (s) => Buffer.from(s, "hex");

const channelTerms = (v, seed) => ({
  clientKey: ed25519.publicKey(seed), payee: new Address(0, bytes(v.payee)), client: new Address(0, bytes(v.client)),
  closeDelay: Number(v.close_delay), expiresAt: Number(v.expires_at), salt: BigInt(v.salt),
});

test("channel", () => {
  const v = vector("channel");
  const seed = bytes(v["client seed"]), clientKey = ed25519.publicKey(seed);
  equal(hex(clientKey), v["client key"]);

  const terms = channelTerms(v, seed);
  const init = ch.stateInit(terms);
  equal(hex(init.code.hash()), v["code hash"]);
  equal(hex(init.data.hash()), v["hash of the initial data"]);
  equal(hex(ch.channelAddress(terms).hash), v["channel, account id"]);
  const boc = beginCell().store(storeStateInit(init)).endCell();
  equal(hex(boc.hash()), v["channel, account id"]);
  equal(hex(Cell.fromHex(v["state init"]).hash()), hex(boc.hash())); // a bag's order of cells is the writer's choice

  const promise = { globalId: Number(v.global_id), accountId: bytes(v["channel, account id"]), total: BigInt(v.total), head: bytes(v.head) };
  for (const [name, magic] of [["voucher", ch.VOUCHER], ["agreement", ch.AGREEMENT]]) {
    const signed = ch.signPromise({ ...promise, magic }, seed);
    equal(hex(ch.promiseHash(signed)), v[`hash of the ${name}`]);
    equal(hex(byHand(signed)), v[`hash of the ${name}`]);
    equal(hex(ch.encodePromise(signed)), v[`${name} on the wire`]);

    // What the Go program signed, read and verified; and no bit of it may differ.
    const wire = bytes(v[`${name} on the wire`]);
    equal(ch.verifyPromise(ch.decodePromise(wire), clientKey), true);
    for (let i = 4; i < wire.length; i++) {
      wire[i] ^= 1;
      equal(ch.verifyPromise(ch.decodePromise(wire), clientKey), false, `byte ${i} counts`);
      wire[i] ^= 1;
    }
    if (magic === ch.VOUCHER) {
      equal(hex(ch.claim(signed).hash()), v["hash of claim's body"]);
      equal(hex(ch.claimExternal(signed).hash()), v["hash of external message"]);
    } else {
      equal(hex(ch.closeTogether(signed).hash()), v["hash of close_together's"]);
    }
  }
});

// The document's hash without a cell library, for totals of every length.
test("hash without a cell library", () => {
  for (let n = 0n; n <= 8n; n++) {
    const total = n && (1n << (8n * n)) - 1n;
    const promise = { magic: ch.VOUCHER, globalId: -3, accountId: Buffer.alloc(32, 0xa5), total, head: Buffer.alloc(32, 0x5a) };
    equal(hex(byHand(promise)), hex(ch.promiseHash(promise)), `${n} bytes`);
  }
});

function byHand({ magic, globalId, accountId, total, head }) {
  let digits = total.toString(16);
  digits = total === 0n ? "" : digits.padStart(2 * Math.ceil(digits.length / 2), "0");
  const n = digits.length / 2;
  const bits = (b) => [...b].map((x) => x.toString(2).padStart(8, "0")).join("");
  const all = bits(magic) + (globalId >>> 0).toString(2).padStart(32, "0") + "100" + "00000000" + bits(accountId) +
    n.toString(2).padStart(4, "0") + bits(bytes(digits)) + bits(head) + "1";
  equal(all.length, 591 + 8 * n + 1);
  return doc.sha256(Buffer.of(0, 147 + 2 * n), Buffer.from(all.match(/.{8}/g).map((x) => parseInt(x, 2))));
}

test("session", () => {
  const v = vector("session");
  const seed = bytes(v["channel seed"]);
  const terms = channelTerms(v, seed);
  equal(hex(ch.channelAddress(terms).hash), v["account id"]);
  const request = doc.sessionRequest({ hostKey: bytes(v["host key"]), terms, nanoseconds: BigInt(v.time), seed });
  equal(request.length, Number(v.bytes));
  equal(hex(request), v.request);
});

test("prices", () => {
  const v = vector("prices");
  const list = JSON.parse(v.list);
  equal(hex(doc.priceDigest(list)), v.digest);
  equal(doc.cost(list[v.model], JSON.parse(v.usage)), BigInt(v.cost));
});

test("card", () => {
  const v = vector("card");
  const card = doc.openSigned("card", v.card, bytes(v["host key"]));
  deepEqual(card, JSON.parse(v.payload));
  throws(() => doc.openSigned("receipt", v.card, bytes(v["host key"])), /not a signed receipt/);
  throws(() => doc.openSigned("card", v.card, bytes(v["identity seed"])), /wrong/);
});

test("receipt and head", () => {
  const v = vector("receipt");
  deepEqual(doc.openSigned("receipt", v.receipt, bytes(v["receipt key"])), JSON.parse(v.payload));
  const head = doc.nextHead(Buffer.alloc(32), v.receipt);
  equal(hex(head), v["head after it"]);
  equal(hex(doc.nextHead(head, v.receipt)), v["head after it twice"]);
});

test("keyset", async () => {
  const v = vector("keyset");
  const keys = await suite.kem.generateKeyPairDerand(Uint8Array.from(bytes(v["x-wing seed"])));
  const publicKey = Buffer.from(await suite.kem.serializePublicKey(keys.publicKey));
  equal(hex(doc.sha256(publicKey)), v["sha-256 of public key"]);
  // The bytes between: uint16 length || key id || KEM || public key || suites, as "last 10 bytes" has them.
  const configs = Buffer.concat([bytes(v["first 5 bytes of them"]), publicKey, bytes(v["last 10 bytes of them"])]);
  equal(hex(doc.sha256(configs)), v["sha-256 of key configurations"]);
  const notAfter = Buffer.alloc(8);
  notAfter.writeBigUInt64BE(BigInt(v["not after"]));
  const keyset = Buffer.concat([Buffer.from("bombyx/1 keyset"), Buffer.of(configs.length >> 8, configs.length & 255), configs,
    bytes(v["receipt key"]), bytes(v["tls spki"]), notAfter, bytes(v["model manifest"]), bytes(v.build), bytes(v.configuration)]);
  equal(hex(doc.sha256(keyset)), v["sha-256 of keyset"]);
  const read = doc.decodeKeyset(keyset);
  deepEqual(read.configs[0].suites, [{ kdf: 1, aead: 2 }, { kdf: 1, aead: 3 }]);
  equal(hex(read.configs[0].publicKey), hex(publicKey));
  equal(hex(read.receiptKey), v["receipt key"]);
  equal(read.notAfter, Number(v["not after"]));
  throws(() => doc.decodeKeyset(Buffer.concat([keyset, Buffer.of(0)])), /trailing/);
});

test("padding", () => {
  for (const [n, want] of Object.entries(vector("padding"))) equal(doc.padded(Number(n)), Number(want), n);
});

test("sealed request and answer", async () => {
  const v = vector("sealed");
  const request = bytes(v.request), answer = bytes(v.answer);
  const { privateKey: recipientKey } = await suite.kem.generateKeyPairDerand(Uint8Array.from(bytes(v["x-wing seed"])));
  const { header, info } = headerOf({ id: 0 });
  equal(hex(request.subarray(0, 7)), hex(header));
  equal(v.header, hex(header));
  const enc = request.subarray(7, 7 + 1120);
  const context = await suite.createRecipientContext({ recipientKey, enc, info });
  equal(request[7 + 1120], 0, "one final chunk");
  const message = Buffer.from(await context.open(request.subarray(7 + 1121), Buffer.from("final")));
  equal(hex(message), v["request's message, without its zeros at the end"].padEnd(2 * 1024, "0"));

  const plain = [];
  for await (const chunk of openAnswer(context, enc, byBytes(answer))) plain.push(chunk);
  equal(hex(Buffer.concat(plain)), v["answer's message, without its zeros at the end"].padEnd(2 * 1024, "0"));
  const parts = [];
  for await (const part of decodeResponse(plain)) parts.push(part);
  equal(parts[0].status, 200);
  equal(parts.at(-1).trailer["bombyx-receipt"], "the receipt");

  const cut = async (n) => { for await (const _ of openAnswer(context, enc, byBytes(answer.subarray(0, n)))); };
  for (const n of [0, 31, 32, 33, answer.length - 1]) await rejects(cut(n), `cut to ${n} bytes`);
});

async function* byBytes(b) {
  for (let i = 0; i < b.length; i++) yield b.subarray(i, i + 1);
}
