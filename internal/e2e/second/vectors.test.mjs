// Every example of docs/protocol.md that a client and payee need, computed here and compared byte for byte.

import test from "node:test";
import { equal } from "node:assert/strict";
import { Address, beginCell, Cell, storeStateInit } from "@ton/core";
import { createHash } from "node:crypto";
import * as ch from "./channel.mjs";
import * as ed25519 from "./ed25519.mjs";
import { vector } from "./vectors.mjs";

const hex = (b) => Buffer.from(b).toString("hex");
const bytes = (s) => Buffer.from(s, "hex");

test("channel", () => {
  const v = vector("channel");
  const seed = bytes(v["client seed"]), clientKey = ed25519.publicKey(seed);
  equal(hex(clientKey), v["client key"]);

  const terms = {
    clientKey, payee: new Address(0, bytes(v.payee)), client: new Address(0, bytes(v.client)),
    closeDelay: Number(v.close_delay), expiresAt: Number(v.expires_at), salt: BigInt(v.salt),
  };
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
  return createHash("sha256").update(Buffer.of(0, 147 + 2 * n)).update(Buffer.from(all.match(/.{8}/g).map((x) => parseInt(x, 2)))).digest();
}
