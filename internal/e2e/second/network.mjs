// A TON network as a user of npm's libraries meets it: a liteserver's address and key from global.config.json,
// ton-lite-client over ADNL, and wallets of @ton/ton. ton-lite-client checks no proofs; here they are not the subject.

import { Cell, internal, loadTransaction, SendMode } from "@ton/core";
import { WalletContractV5R1 } from "@ton/ton";
import { LiteClient, LiteSingleEngine } from "ton-lite-client";
import { readChannel } from "./channel.mjs";
import * as ed25519 from "./ed25519.mjs";

const PATIENCE = 30_000; // milliseconds that an effect may take to show on the chain

/** config: the JSON of a global.config.json; controlURL: the local network's control endpoint. */
export class Network {
  constructor(config, controlURL) {
    const { ip, port, id } = config.liteservers[0];
    const host = [24, 16, 8, 0].map((n) => (ip >> n) & 255).join(".");
    this.engine = new LiteSingleEngine({ host: `tcp://${host}:${port}`, publicKey: Buffer.from(id.key, "base64") });
    this.client = new LiteClient({ engine: this.engine });
    this.controlURL = controlURL;

    // @ton/core 0.63.1 takes the level of a pruned branch for its number of hashes, and so fails on level mask 2: the proof of a block that
    // touched every cell of one side of its state update. The next block touches few.
    const ask = this.client.getAccountState;
    this.client.getAccountState = async (address, block) => {
      for (let tries = 1; ; tries++) {
        try {
          return await ask(address, block);
        } catch (e) {
          if (!/out of bounds/.test(e.message) || tries === 5) throw e;
          await this.control("/seal", {});
          block = (await this.client.getMasterchainInfo()).last;
        }
      }
    };
  }

  close() {
    this.engine.close();
  }

  /** Asks the control endpoint: GET without a body, POST with one. */
  async control(path, body) {
    const answer = await fetch(this.controlURL + path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const status = await answer.json();
    if (!answer.ok) throw new Error(`${path}: ${status.error}`);
    return status;
  }

  /** The newest block's time: the local network's can be far ahead of this machine's. */
  async time() {
    return (await this.client.getMasterchainInfoExt()).lastUtime;
  }

  async account(address) {
    const { last } = await this.client.getMasterchainInfo();
    const { state, balance, lastTx } = await this.client.getAccountState(address, last);
    return { balance: balance.coins, lastTx, state: state?.storage.state };
  }

  /** The channel at address with its balance, or null while there is none; throws when something else is there. */
  async channel(address) {
    const { balance, state } = await this.account(address);
    if (state?.type !== "active") return null;
    return { ...readChannel(address, state.state.code, state.state.data), balance };
  }

  /** The account's transactions, newest first. */
  async transactions(address, count = 20) {
    const { lastTx } = await this.account(address);
    if (!lastTx) return [];
    const hash = Buffer.from(lastTx.hash.toString(16).padStart(64, "0"), "hex");
    const { transactions } = await this.client.getAccountTransactions(address, lastTx.lt.toString(), hash, count);
    return Cell.fromBoc(transactions).map((c) => loadTransaction(c.beginParse()));
  }

  /** Sends a whole external message. */
  async send(message) {
    await this.client.sendMessage(message.toBoc());
  }

  /** What ask returns once it is true. */
  async until(what, ask) {
    for (const end = Date.now() + PATIENCE; Date.now() < end;) {
      const answer = await ask();
      if (answer) return answer;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`${what}: not within ${PATIENCE} ms`);
  }

  /** A V5R1 wallet of that seed, funded with GRAM. */
  async wallet(seed, globalId, gram) {
    const publicKey = ed25519.publicKey(seed);
    const contract = WalletContractV5R1.create({ publicKey, workchain: 0, walletId: { networkGlobalId: globalId } });
    if (gram) await this.control("/fund", { address: contract.address.toString({ bounceable: false }), amount: gram });
    const opened = this.client.open(contract);
    const send = async (message) => {
      const seqno = await opened.getSeqno();
      await opened.sendTransfer({
        seqno, secretKey: Buffer.concat([seed, publicKey]), timeout: (await this.time()) + 60,
        sendMode: SendMode.PAY_GAS_SEPARATELY, messages: [internal(message)],
      });
      await this.until("the wallet's transaction", async () => (await opened.getSeqno()) > seqno);
    };
    return { address: contract.address, send };
  }
}
