// Written from docs/protocol.md alone: section "Channel".

import { Address, beginCell, Cell, contractAddress, external, loadStateInit, storeMessage } from "@ton/core";
import { hkdfSync } from "node:crypto";
import * as ed25519 from "./ed25519.mjs";
import { vector } from "./vectors.mjs";

// The code is the one in the worked example's state init. Its hash is checked against the document's.
const example = vector("channel");
export const code = loadStateInit(Cell.fromHex(example["state init"]).beginParse()).code;
if (code.hash().toString("hex") !== example["code hash"]) throw new Error("the example's code has another hash than the document");

/** What the contract keeps of the deposit in a claim. */
export const RESERVE = 20_000_000n;

const zero32 = Buffer.alloc(32);
const basechain = (accountId) => new Address(0, accountId);

// --- The client's key, from a wallet's

/** Seed of the key for the channel of that salt and payee. */
export function channelSeed(walletSeed, salt, payee) {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(salt);
  return Buffer.from(hkdfSync("sha256", walletSeed, Buffer.concat([number, payee.hash]), "bombyx/1 channel key", 32));
}

// --- State

/** terms: {clientKey, payee, client, closeDelay, expiresAt, salt}; addresses are @ton/core's. */
export function storeData({ clientKey, payee, client, closeDelay, expiresAt, salt, paid = 0n, head = zero32, closeAt = expiresAt }) {
  const closing = beginCell().storeAddress(client).storeUint(closeDelay, 32).storeUint(expiresAt, 32).storeUint(salt, 64).endCell();
  return beginCell().storeCoins(paid).storeBuffer(head, 32).storeUint(closeAt, 32).storeAddress(payee)
    .storeBuffer(clientKey, 32).storeRef(closing).endCell();
}

export function stateInit(terms) {
  return { code, data: storeData(terms) };
}

export function channelAddress(terms) {
  return contractAddress(0, stateInit(terms));
}

/** Reads an account's code and data as a channel at address, or throws: code hash, no bit left over, and the address of its terms. */
export function readChannel(address, accountCode, accountData) {
  if (!accountCode.hash().equals(code.hash())) throw new Error("another contract");
  const s = accountData.beginParse();
  const c = { paid: s.loadCoins(), head: s.loadBuffer(32), closeAt: s.loadUint(32), payee: s.loadAddress(), clientKey: s.loadBuffer(32) };
  const r = s.loadRef().beginParse();
  s.endParse();
  Object.assign(c, { client: r.loadAddress(), closeDelay: r.loadUint(32), expiresAt: r.loadUint(32), salt: r.loadUintBig(64) });
  r.endParse();
  const { clientKey, payee, client, closeDelay, expiresAt, salt } = c;
  if (!channelAddress({ clientKey, payee, client, closeDelay, expiresAt, salt }).equals(address)) throw new Error("another address than its terms have");
  return c;
}

// --- What the client signs. A promise is {magic, globalId, accountId, total, head, signature}.

export const VOUCHER = Buffer.from("BXV1");
export const AGREEMENT = Buffer.from("BXA1");

/** The representation hash of the promise's cell. */
export function promiseHash({ magic, globalId, accountId, total, head }) {
  return beginCell().storeBuffer(magic).storeInt(globalId, 32).storeAddress(basechain(accountId)).storeCoins(total).storeBuffer(head, 32).endCell().hash();
}

export function signPromise(promise, seed) {
  return { ...promise, signature: ed25519.sign(promiseHash(promise), seed) };
}

export function verifyPromise(promise, clientKey) {
  return ed25519.verify(promiseHash(promise), promise.signature, clientKey);
}

export function encodePromise({ magic, globalId, accountId, total, head, signature }) {
  const numbers = Buffer.alloc(12);
  numbers.writeInt32BE(globalId);
  numbers.writeBigUInt64BE(total, 4);
  return Buffer.concat([magic, numbers.subarray(0, 4), accountId, numbers.subarray(4), head, signature]);
}

export function decodePromise(b) {
  if (b.length !== 144) throw new Error("a promise has 144 bytes");
  const magic = b.subarray(0, 4);
  if (!magic.equals(VOUCHER) && !magic.equals(AGREEMENT)) throw new Error("unknown magic");
  return {
    magic, globalId: b.readInt32BE(4), accountId: b.subarray(8, 40), total: b.readBigUInt64BE(40),
    head: b.subarray(48, 80), signature: b.subarray(80),
  };
}

// --- Messages

const paying = (op, { signature, total, head }) =>
  beginCell().storeUint(op, 32).storeBuffer(signature, 64).storeCoins(total).storeBuffer(head, 32).endCell();

export const claim = (voucher) => paying(0x42584301, voucher);
export const closeTogether = (agreement) => paying(0x42584302, agreement);
export const closeStart = () => beginCell().storeUint(0x42584303, 32).endCell();
export const closeFinish = () => beginCell().storeUint(0x42584304, 32).endCell();

/** The whole external message that claims: its body beside the header, the head in a reference. The contract refuses one with a state init. */
export function claimExternal({ accountId, signature, total, head }, init) {
  const body = beginCell().storeBuffer(signature, 64).storeCoins(total).storeRef(beginCell().storeBuffer(head, 32)).endCell();
  const message = external({ to: basechain(accountId), init, body });
  return beginCell().store(storeMessage(message)).endCell();
}

/** The voucher in a transaction's incoming message, if it claims: internal or external. */
export function claimOf(transaction, globalId) {
  const { info, body } = transaction.inMessage;
  const s = body.beginParse();
  const promise = { magic: VOUCHER, globalId, accountId: info.dest.hash };
  if (info.type === "external-in") {
    return { ...promise, signature: s.loadBuffer(64), total: s.loadCoins(), head: s.loadRef().beginParse().loadBuffer(32) };
  }
  if (s.remainingBits < 32 || s.loadUint(32) !== 0x42584301) return null;
  return { ...promise, signature: s.loadBuffer(64), total: s.loadCoins(), head: s.loadBuffer(32) };
}
