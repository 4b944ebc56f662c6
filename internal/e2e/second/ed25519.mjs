// Ed25519 (RFC 8032) of node's own crypto, with raw keys as the document writes them.

import { createPrivateKey, createPublicKey, sign as nodeSign, verify as nodeVerify } from "node:crypto";

const fromSeed = (seed) => createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]), format: "der", type: "pkcs8" });

export const publicKey = (seed) => Buffer.from(createPublicKey(fromSeed(seed)).export({ format: "jwk" }).x, "base64url");

export const sign = (message, seed) => nodeSign(null, message, fromSeed(seed));

export const verify = (message, signature, key) =>
  nodeVerify(null, message, createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: key.toString("base64url") }, format: "jwk" }), signature);
