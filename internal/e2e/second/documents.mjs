// Written from docs/protocol.md alone: sections "Keyset", "Price list", "Signed documents", "Session", "Padding" and "Receipt".

import { createHash } from "node:crypto";
import * as ed25519 from "./ed25519.mjs";

export const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash("sha256")).digest();

const uint = (n, size) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(n));
  return b.subarray(8 - size);
};

/** Reads what has a length of its own: take(n) and number(size) go on, end() throws when bytes are left. */
function reader(b) {
  let at = 0;
  const take = (n) => {
    if (at + n > b.length) throw new Error("truncated");
    return b.subarray(at, (at += n));
  };
  return { take, number: (size) => take(size).readUIntBE(0, size), end: () => { if (at !== b.length) throw new Error("trailing bytes"); }, more: () => at < b.length };
}

// --- Keyset

export const XWING = 0x647a, HKDF_SHA256 = 1, AES_256_GCM = 2, CHACHA20_POLY1305 = 3;

export function decodeKeyset(b) {
  const r = reader(b);
  if (r.take(15).toString("latin1") !== "bombyx/1 keyset") throw new Error("not a keyset");
  const configs = r.take(r.number(2));
  const keyset = {
    configs: decodeKeyConfigs(configs), receiptKey: r.take(32), tlsSPKI: r.take(32), notAfter: Number(r.take(8).readBigUInt64BE()),
    manifest: r.take(32), build: r.take(32), configuration: r.take(32),
  };
  r.end();
  return keyset;
}

function decodeKeyConfigs(b) {
  const configs = [];
  for (const all = reader(b); all.more();) {
    const r = reader(all.take(all.number(2)));
    const c = { id: r.number(1), kem: r.number(2), suites: [] };
    if (c.kem !== XWING) continue; // the length of another KEM's key is not ours to know
    c.publicKey = r.take(1216);
    const suites = reader(r.take(r.number(2)));
    while (suites.more()) c.suites.push({ kdf: suites.number(2), aead: suites.number(2) });
    r.end();
    configs.push(c);
  }
  return configs;
}

// --- Price list

export function priceDigest(list) {
  const names = Object.keys(list).sort();
  const parts = names.flatMap((name) => {
    const p = list[name];
    return [uint(Buffer.byteLength(name), 1), name, uint(p.prompt, 8), uint(p.cached_prompt, 8), uint(p.completion, 8), uint(p.reasoning, 8)];
  });
  return sha256("bombyx/1 prices", uint(names.length, 2), ...parts);
}

/** Nanogram that usage costs. */
export function cost(price, { prompt, cached, completion, reasoning }) {
  const sum = [[prompt - cached, price.prompt], [cached, price.cached_prompt], [completion - reasoning, price.completion], [reasoning, price.reasoning]]
    .reduce((sum, [tokens, each]) => sum + BigInt(tokens) * BigInt(each), 0n);
  return (sum + 999_999n) / 1_000_000n;
}

// --- Signed documents

/** The payload of a compact JWS of that type under key, or throws. */
export function openSigned(type, compact, key) {
  const [header, payload, signature, ...rest] = compact.split(".");
  if (rest.length || header !== Buffer.from(`{"alg":"EdDSA","typ":"bombyx/1 ${type}"}`).toString("base64url")) throw new Error(`not a signed ${type}`);
  const canonical = (s) => {
    const b = Buffer.from(s ?? "", "base64url");
    if (b.toString("base64url") !== s) throw new Error("base64url is not canonical");
    return b;
  };
  if (!ed25519.verify(Buffer.from(`${header}.${payload}`), canonical(signature), key)) throw new Error(`the ${type}'s signature is wrong`);
  return JSON.parse(canonical(payload));
}

// --- Session

/** terms: {clientKey, payee, client, closeDelay, expiresAt, salt}; addresses are @ton/core's. */
export function sessionRequest({ hostKey, terms, nanoseconds, seed }) {
  const { clientKey, payee, client, closeDelay, expiresAt, salt } = terms;
  const head = Buffer.concat([Buffer.from("bombyx/1 session"), hostKey, payee.hash, client.hash, clientKey, uint(closeDelay, 4), uint(expiresAt, 4), uint(salt, 8), uint(nanoseconds, 8)]);
  return Buffer.concat([head, ed25519.sign(head, seed)]);
}

// --- Receipt

export const nextHead = (head, receipt) => sha256("bombyx/1 receipts", head, sha256(receipt));

// --- Padding

/** P(n), the length that a message of n bytes is padded to. */
export function padded(n) {
  if (n <= 32768) return Math.max(1024, Math.ceil(n / 1024) * 1024);
  const e = Math.floor(Math.log2(n)), s = Math.floor(Math.log2(e)) + 1, step = 2 ** (e - s);
  return Math.ceil(n / step) * step;
}
