// Written from docs/protocol.md alone: a client of this folder pays a host for sealed answers and closes with it. The programs are the
// demo's: `bombyx-demo --stay`.

import { after, before, test } from "node:test";
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Address, toNano } from "@ton/core";
import { mnemonicToPrivateKey } from "@ton/crypto";
import * as ch from "./channel.mjs";
import * as ed25519 from "./ed25519.mjs";
import { Host, Refused } from "./host.mjs";
import { bombyx, demo } from "./programs.mjs";

let net, home, globalId, theirs, host, stop;

before(async () => {
  let url, key;
  ({ network: net, home, globalId, channel: theirs, url, key, stop } = await demo());
  host = new Host(url, key);
});
after(() => stop?.());

const refused = (status, code) => (e) => e instanceof Refused && e.status === status && e.code === code || ok(false, `${status} ${code} expected: ${e.status} ${e.code} ${e.message}`);

test("a voucher that the Go client signed verifies here", async () => {
  const claimed = (await net.transactions(theirs)).map((t) => ch.claimOf(t, globalId)).filter(Boolean);
  ok(claimed.length > 0);
  const { clientKey, paid } = await net.channel(theirs);
  for (const v of claimed) {
    ok(ch.verifyPromise(v, clientKey));
    ok(v.total <= paid);
    equal(ch.verifyPromise({ ...v, total: v.total + 1n }, clientKey), false);
  }
});

/** Opens a channel on the card's terms with a wallet of that seed. */
async function open(card, walletSeed) {
  const wallet = await net.wallet(walletSeed, globalId, "5");
  const payee = Address.parse(card.payee), salt = randomBytes(8).readBigUInt64BE();
  const seed = ch.channelSeed(walletSeed, salt, payee), clientKey = ed25519.publicKey(seed);
  const terms = { clientKey, payee, client: wallet.address, closeDelay: card.closing_delay, expiresAt: (await net.time()) + 30 * 86400, salt };
  const address = ch.channelAddress(terms);
  const channel = { seed, clientKey, globalId, accountId: address.hash, terms };
  await rejects(host.session(channel), refused(404, "unknown_channel"));
  await wallet.send({ to: address, value: toNano("1"), bounce: false, init: ch.stateInit(terms) });
  await net.until("the channel", () => net.channel(address));
  return { wallet, seed, address, channel };
}

test("a channel opened here pays the host for sealed answers", async () => {
  const card = await host.card();
  equal(card.network, globalId);
  equal(card.channel_code, ch.code.hash().toString("hex"));

  const { wallet, seed, address, channel } = await open(card, randomBytes(32));
  const session = await net.until("the host's next look", () => host.session(channel).catch((e) => refused(404, "unknown_channel")(e) && undefined));
  deepEqual([session.state.authorised, session.state.spent, session.state.reserved, session.state.voucher], [0, 0, 0, ""]);

  // What the host refuses.
  const promise = { magic: ch.VOUCHER, globalId, accountId: address.hash, total: 1000n, head: Buffer.alloc(32) };
  const send = (signed) => session.send("/v1/voucher", ch.encodePromise(signed));
  await rejects(send(ch.signPromise(promise, randomBytes(32))), refused(403, "bad_signature"));
  await rejects(send(ch.signPromise({ ...promise, globalId: -239 }, seed)), refused(403, "wrong_voucher"));
  await rejects(send(ch.signPromise({ ...promise, accountId: theirs.hash }, seed)), refused(403, "wrong_voucher"));
  await rejects(send(ch.signPromise({ ...promise, magic: ch.AGREEMENT }, seed)), refused(400, "malformed_voucher"));
  await rejects(host.ask("/v1/voucher", { body: ch.encodePromise(ch.signPromise(promise, seed)), token: "none" }), refused(401, "unknown_session"));

  // Two answers, one that streams and one in one piece.
  const [enclave] = card.enclaves, [model] = enclave.models;
  const evidence = await host.evidence(enclave);
  const ask = (stream) => session.chat(card, enclave, evidence, {
    model, stream, temperature: 0, max_completion_tokens: 64, messages: [{ role: "user", content: "What is remote attestation?" }],
  });
  const streamed = await ask(true);
  ok(streamed.raises > 0, "vouchers were signed while it streamed");
  const events = streamed.content.trim().split("\n\n").map((line) => line.replace(/^data: /, ""));
  equal(events.at(-1), "[DONE]");
  const words = events.slice(0, -1).map((e) => JSON.parse(e).choices[0]?.delta?.content ?? "").join("");
  match(words, /attestation/);
  const whole = await ask(false);
  equal(JSON.parse(whole.content).choices[0].message.content, words);

  // One that is cancelled ends with the receipt for what came of it.
  const left = await session.chat(card, enclave, evidence, {
    model, stream: true, temperature: 0, max_completion_tokens: 64, messages: [{ role: "user", content: "What is remote attestation?" }],
  }, { leave: true });
  ok(!left.content.includes("[DONE]") && left.receipt.cost < streamed.receipt.cost);

  // Of several chunks, and more than the model takes: the enclave opens it, says so under seal, and charges nothing. The deposit bounds the rest.
  const long = (n) => session.chat(card, enclave, evidence, { model, max_completion_tokens: 1, messages: [{ role: "user", content: "word ".repeat(n) }] });
  await rejects(long(8000), refused(400, "context_length_exceeded"));
  await rejects(long(1_500_000), refused(402, "insufficient_credit"));

  // The host's books agree, and show the highest voucher.
  const again = await host.session(channel);
  equal(BigInt(again.state.spent), session.spent);
  equal(BigInt(again.state.spent), BigInt(whole.receipt.cost) + BigInt(streamed.receipt.cost) + BigInt(left.receipt.cost));
  equal(again.state.voucher, ch.encodePromise(session.voucher).toString("hex"));

  // Closed at once, by agreement: the payee has what was delivered, the client the rest.
  const before = await net.account(wallet.address);
  await session.close();
  const closed = await net.channel(address);
  deepEqual([closed.paid, closed.head, closed.balance], [session.spent, session.head, 0n]);
  const rest = await net.until("the rest", async () => {
    const { balance } = await net.account(wallet.address);
    return balance > before.balance && balance - before.balance;
  });
  ok(rest > toNano("0.95"), `${rest}`);
});

test("bombyx pays from a channel opened here, and closes it", async () => {
  const own = await mkdtemp(join(tmpdir(), "bombyx-interop-"));
  try {
    await cp(home, own, { recursive: true });
    const passphrase = join(own, "passphrase");
    await writeFile(passphrase, "for this test only", { mode: 0o600 });
    const run = (...args) => bombyx(own, ...args, "--passphrase-file", passphrase);
    await run("wallet", "new");
    const words = (await run("wallet", "export", "--yes")).match(/[a-z]+/g);
    equal(words.length, 24);

    const card = await host.card();
    const { address, channel } = await open(card, (await mnemonicToPrivateKey(words)).secretKey.subarray(0, 32));
    await bombyx(own, "host", "add", host.url, host.key.toString("hex"), "--yes");
    await run("channel", "recover");
    const shown = JSON.parse(await bombyx(own, "channel", "show", address.toString(), "--json"));
    equal(shown.address, address.toString());
    equal(BigInt(shown.on_chain.balance), (await net.channel(address)).balance);
    equal(BigInt(shown.deposit), (await net.channel(address)).balance - ch.RESERVE);

    const events = (await run("chat", "What is remote attestation?", "--json")).trim().split("\n").map((e) => JSON.parse(e));
    equal(events.at(-1).type, "done");
    const session = await host.session(channel); // verifies the voucher that the Go client signed
    ok(session.voucher.total >= session.spent && session.spent > 0n);

    await run("channel", "close", address.toString(), "--yes");
    const closed = await net.channel(address);
    deepEqual([closed.paid, closed.balance], [session.spent, 0n]);
  } finally {
    await rm(own, { recursive: true });
  }
});
