// Written from docs/protocol.md alone: sections "Sealed request" and "Sealed answer", and the RFCs that they name.
// HPKE with X-Wing is that of @hpke/core.

import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";
import { createDecipheriv, hkdfSync } from "node:crypto";
import { AES_256_GCM, HKDF_SHA256, XWING, padded } from "./documents.mjs";

const CHUNK = 16384, TAG = 16;
export const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });

// --- Binary HTTP (RFC 9292)

function varint(n) {
  const b = Buffer.alloc(4);
  if (n < 0x40) return Buffer.of(n);
  if (n < 0x4000) return (b.writeUInt16BE(n | 0x4000), b.subarray(0, 2));
  b.writeUInt32BE((n | 0x80000000) >>> 0);
  return b;
}

const prefixed = (...parts) => {
  const b = Buffer.concat(parts.map((p) => Buffer.from(p)));
  return Buffer.concat([varint(b.length), b]);
};

/** A request of known length, padded. fields is an object of strings. */
export function encodeRequest(path, fields, content) {
  const message = Buffer.concat([
    varint(0), prefixed("POST"), prefixed("https"), prefixed("bombyx"), prefixed(path),
    prefixed(...Object.entries(fields).flatMap(([name, value]) => [prefixed(name), prefixed(value)])),
    prefixed(content), prefixed(),
  ]);
  return Buffer.concat([message, Buffer.alloc(padded(message.length) - message.length)]);
}

/** Bytes on demand from an iterable of buffers, async or not. */
class Source {
  constructor(chunks) {
    this.chunks = (chunks[Symbol.asyncIterator] ?? chunks[Symbol.iterator]).call(chunks);
    this.rest = Buffer.alloc(0);
  }

  async more() {
    const { done, value } = await this.chunks.next();
    if (!done) this.rest = Buffer.concat([this.rest, value]);
    return !done;
  }

  async take(n) {
    while (this.rest.length < n) if (!(await this.more())) throw new Error("truncated");
    const taken = this.rest.subarray(0, n);
    this.rest = this.rest.subarray(n);
    return taken;
  }

  async varint() {
    const [first] = await this.take(1);
    const more = await this.take((1 << (first >> 6)) - 1);
    return more.reduce((n, b) => n * 256 + b, first & 63);
  }

  async toEnd() {
    while (await this.more());
    return this.rest;
  }
}

async function fields(source) {
  const all = {};
  for (let n; (n = await source.varint());) {
    const name = (await source.take(n)).toString("latin1").toLowerCase();
    all[name] = (await source.take(await source.varint())).toString("latin1");
  }
  return all;
}

/**
 * Reads a response of indeterminate length. It yields {status, fields} for each informational response and for the final header, then
 * {content} for each piece, then {trailer}.
 */
export async function* decodeResponse(chunks) {
  const source = new Source(chunks);
  if ((await source.varint()) !== 3) throw new Error("not a response of indeterminate length");
  for (let status = 0; status < 200;) {
    status = await source.varint();
    yield { status, fields: await fields(source) };
  }
  for (let n; (n = await source.varint());) yield { content: await source.take(n) };
  yield { trailer: await fields(source) };
  if ((await source.toEnd()).some((b) => b !== 0)) throw new Error("padding is not zero");
}

// --- Chunked OHTTP

/** Header of the request and info of HPKE for a key configuration. */
export function headerOf(config) {
  const header = Buffer.alloc(7);
  header[0] = config.id;
  [XWING, HKDF_SHA256, AES_256_GCM].forEach((id, i) => header.writeUInt16BE(id, 1 + 2 * i));
  return { header, info: Buffer.concat([Buffer.from("message/bhttp chunked request\0"), header]) };
}

/** Seals a message to a key configuration: {request, open}, where open takes the answer's bytes as they come and yields its plaintext. */
export async function seal(config, message) {
  const { header, info } = headerOf(config);
  const recipientPublicKey = await suite.kem.deserializePublicKey(config.publicKey);
  const context = await suite.createSenderContext({ recipientPublicKey, info });
  const parts = [header, Buffer.from(context.enc)];
  let at = 0;
  for (; message.length - at > CHUNK; at += CHUNK) parts.push(prefixed(Buffer.from(await context.seal(message.subarray(at, at + CHUNK)))));
  parts.push(varint(0), Buffer.from(await context.seal(message.subarray(at), Buffer.from("final"))));
  return { request: Buffer.concat(parts), open: (body) => openAnswer(context, Buffer.from(context.enc), body) };
}

/** Yields the answer's plaintext; context is HPKE's of the request, on either side. */
export async function* openAnswer(context, enc, body) {
  const source = new Source(body);
  const salt = Buffer.concat([enc, await source.take(32)]);
  const secret = await context.export(Buffer.from("message/bhttp chunked response"), 32);
  const derive = (info, n) => Buffer.from(hkdfSync("sha256", Buffer.from(secret), salt, info, n));
  const key = derive("key", 32), nonce = derive("nonce", 12);
  const open = (i, sealed, aad) => {
    const iv = Buffer.from(nonce);
    iv.writeBigUInt64BE(iv.readBigUInt64BE(4) ^ i, 4);
    const d = createDecipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(aad)).setAuthTag(sealed.subarray(-TAG));
    return Buffer.concat([d.update(sealed.subarray(0, -TAG)), d.final()]);
  };
  let i = 0n;
  for (let n; (n = await source.varint()); i++) yield open(i, await source.take(n), "");
  yield open(i, await source.toEnd(), "final");
}
