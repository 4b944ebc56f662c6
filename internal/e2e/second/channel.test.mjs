// Written from docs/protocol.md alone: section "Channel".
// The whole life of channels on `bombyx devnet`, a process of its own that executes transactions as mainnet does.

import { after, before, test } from "node:test";
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { beginCell, toNano } from "@ton/core";
import * as ch from "./channel.mjs";
import * as ed25519 from "./ed25519.mjs";
import { devnet } from "./programs.mjs";

const DELAY = 3600, DAY = 86400;
const GAS = toNano("0.02"); // what a message carries for its gas

let net, globalId, stop, client, payee, stranger;

before(async () => {
  ({ network: net, globalId, stop } = await devnet());
  client = await net.wallet(randomBytes(32), globalId, "100");
  payee = await net.wallet(randomBytes(32), globalId, "10");
  stranger = await net.wallet(randomBytes(32), globalId, "10");
});
after(() => stop?.());

/** Opens a channel and returns its terms and what its parties do with it. */
async function open(deposit) {
  const seed = randomBytes(32);
  const terms = {
    clientKey: ed25519.publicKey(seed), payee: payee.address, client: client.address,
    closeDelay: DELAY, expiresAt: (await net.time()) + 30 * DAY, salt: randomBytes(8).readBigUInt64BE(),
  };
  const address = ch.channelAddress(terms);
  const read = () => net.channel(address);
  equal(await read(), null);
  await client.send({ to: address, value: toNano(deposit), bounce: false, init: ch.stateInit(terms) });
  await net.until("the channel", read);

  const promise = (magic, total, head = randomBytes(32)) =>
    ch.signPromise({ magic, globalId, accountId: address.hash, total: toNano(total), head }, seed);
  const voucher = (total, head) => promise(ch.VOUCHER, total, head);
  const agreement = (total) => promise(ch.AGREEMENT, total);

  /** Sends a body to the channel, waits for its transaction and returns the contract's exit code. */
  const send = async (from, body, value = GAS) => {
    const before = (await net.account(address)).lastTx.lt;
    await from.send({ to: address, value, bounce: true, body });
    const [last] = await net.until("the channel's transaction", async () => {
      const [last] = await net.transactions(address, 1);
      return last.lt > before && [last];
    });
    return last.description.computePhase.exitCode;
  };
  return { address, terms, seed, read, voucher, agreement, send };
}

test("open, top up, claim, close alone", async () => {
  const c = await open("2");
  const opened = await c.read();
  equal(opened.paid, 0n);
  equal(opened.closeAt, c.terms.expiresAt);
  ok(opened.balance > toNano("1.99"), `${opened.balance}`);

  equal(await c.send(stranger, undefined, toNano("1")), 0);
  const toppedUp = await c.read();
  ok(toppedUp.balance > toNano("2.99"), `${toppedUp.balance}`);

  // A claim pays the payee the difference to the voucher before it; anyone may send it.
  const first = c.voucher("0.5"), second = c.voucher("1.25");
  for (const [from, v, paid] of [[payee, first, toNano("0.5")], [stranger, second, toNano("1.25")]]) {
    const before = await net.account(payee.address);
    equal(await c.send(from, ch.claim(v)), 0);
    const { paid: now, head } = await c.read();
    equal(now, paid);
    deepEqual(head, v.head);
    await net.until("payment", async () => (await net.account(payee.address)).lastTx.lt > before.lastTx.lt);
  }

  // Both vouchers are on the chain for everybody, and verify there.
  const claimed = (await net.transactions(c.address)).map((t) => ch.claimOf(t, globalId)).filter(Boolean);
  deepEqual(claimed, [second, first]);
  ok(claimed.every((v) => ch.verifyPromise(v, c.terms.clientKey)));

  // What the contract refuses, by its exit codes.
  const wrongNetwork = ch.signPromise({ ...c.voucher("1.5"), globalId: -239 }, c.seed);
  const wrongChannel = ch.signPromise({ ...c.voucher("1.5"), accountId: randomBytes(32) }, c.seed);
  equal(await c.send(payee, ch.claim(first)), 51, "less than has been paid");
  equal(await c.send(payee, ch.claim(second)), 51, "paid in full");
  equal(await c.send(payee, ch.claim({ ...c.voucher("1.5"), total: toNano("1.6") })), 52, "altered");
  equal(await c.send(payee, ch.claim(wrongNetwork)), 52, "of another network");
  equal(await c.send(payee, ch.claim(wrongChannel)), 52, "of another channel");
  equal(await c.send(payee, ch.claim(c.agreement("1.5"))), 52, "an agreement");
  equal(await c.send(payee, ch.closeStart()), 53);
  equal(await c.send(client, ch.closeTogether(c.agreement("1.5"))), 53);
  equal(await c.send(client, ch.closeFinish()), 56);
  equal(await c.send(client, beginCell().storeUint(0x42584399, 32).endCell()), 63);
  equal((await c.read()).paid, second.total);

  // The client asks for its money; the payee has close_delay for a last claim.
  equal(await c.send(client, ch.closeStart()), 0);
  const closing = await c.read();
  const [{ now }] = await net.transactions(c.address, 1);
  equal(closing.closeAt, now + DELAY);
  equal(await c.send(client, ch.closeStart()), 57);
  equal(await c.send(payee, ch.claim(c.voucher("2"))), 0, "the last claim");
  equal((await c.read()).paid, toNano("2"));

  await net.control("/advance", { seconds: DELAY });
  equal(await c.send(payee, ch.claim(c.voucher("2.5"))), 55);
  const before = await net.account(client.address);
  equal(await c.send(stranger, ch.closeFinish()), 0);
  equal((await c.read()).balance, 0n);
  const rest = await net.until("the rest", async () => {
    const { balance } = await net.account(client.address);
    return balance > before.balance && balance - before.balance;
  });
  ok(rest > toNano("1") && rest < toNano("1.15"), `${rest}`);
});

test("a claim without a wallet", async () => {
  const c = await open("1");
  const before = await net.account(payee.address), held = (await c.read()).balance;
  const v = c.voucher("0.4");
  await net.send(ch.claimExternal(v));
  const claimed = await net.until("the claim", async () => {
    const now = await c.read();
    return now.paid === v.total && now;
  });
  deepEqual(claimed.head, v.head);
  const paid = await net.until("payment", async () => {
    const { balance } = await net.account(payee.address);
    return balance > before.balance && balance - before.balance;
  });
  ok(paid < v.total && paid > v.total - toNano("0.01"), `fees come out of the payee's share: ${paid}`);
  const left = held - claimed.balance;
  ok(left <= v.total && left > v.total - 10_000n, `the deposit pays the voucher and no fee: ${left}`);
  const [transaction] = await net.transactions(c.address, 1);
  deepEqual(ch.claimOf(transaction, globalId), v);

  for (const [why, message] of [
    [58, ch.claimExternal(v)], // paid in full: nothing is below 0.05 GRAM too
    [58, ch.claimExternal(c.voucher("0.1"))],
    [52, ch.claimExternal({ ...c.voucher("0.6"), total: toNano("0.7") })],
    [54, ch.claimExternal(c.voucher("0.99"))],
    [58, ch.claimExternal(c.voucher("0.44"))],
    [59, ch.claimExternal(c.voucher("0.6"), ch.stateInit(c.terms))],
  ]) await rejects(net.send(message), new RegExp(`exitcode=${why}$`), `exit code ${why}`);
  await net.send(ch.claimExternal(c.voucher("0.6")));
  await net.until("the next claim", async () => (await c.read()).paid === toNano("0.6"));
});

test("close together", async () => {
  const c = await open("1");
  equal(await c.send(payee, ch.claim(c.voucher("0.1"))), 0);
  equal(await c.send(payee, ch.closeTogether(c.voucher("0.3"))), 52, "a voucher is no agreement");
  equal(await c.send(payee, ch.closeTogether(c.agreement("3"))), 54);
  const before = await net.account(client.address);
  equal(await c.send(payee, ch.closeTogether(c.agreement("0.3"))), 0);
  const [{ now }] = await net.transactions(c.address, 1);
  const closed = await c.read();
  deepEqual([closed.paid, closed.closeAt, closed.balance], [toNano("0.3"), now, 0n]);
  const rest = await net.until("the rest", async () => {
    const { balance } = await net.account(client.address);
    return balance > before.balance && balance - before.balance;
  });
  ok(rest > toNano("0.69") && rest < toNano("0.7"), `${rest}`);
  equal(await c.send(payee, ch.claim(c.voucher("0.5"))), 55, "nothing more is paid");
});

test("a channel that nobody closes ends by itself", async () => {
  const c = await open("1");
  equal(await c.send(payee, ch.claim(c.voucher("0.1"))), 0);
  equal(await c.send(stranger, ch.closeFinish()), 56);
  await net.control("/advance", { seconds: 30 * DAY });
  equal(await c.send(payee, ch.claim(c.voucher("0.2"))), 55);
  equal(await c.send(stranger, ch.closeFinish()), 0);
  equal((await c.read()).balance, 0n);
  equal((await c.read()).paid, toNano("0.1"));
});

test("another contract, and other terms, are no channel", async () => {
  await rejects(net.channel(payee.address), /another contract/);
  const c = await open("0.1");
  const { state } = await net.account(c.address);
  const other = ch.storeData({ ...c.terms, salt: 0n });
  equal(ch.readChannel(c.address, state.state.code, state.state.data).closeDelay, DELAY);
  await rejects(async () => ch.readChannel(c.address, state.state.code, other), /another address/);
});
