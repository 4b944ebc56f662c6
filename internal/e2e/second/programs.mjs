// The real programs of this repository, as processes. `make interop` builds them.

import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { Address } from "@ton/core";
import { Network } from "./network.mjs";

const bin = (name) => new URL(`../../../bin/${name}`, import.meta.url).pathname;

/** Starts a program and collects lines of its output until done(lines) is true. stop() interrupts it and waits for its end. */
async function start(name, args, done) {
  const program = spawn(bin(name), args, { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => program.kill());
  const ended = new Promise((end) => program.on("close", end).on("error", end));
  const lines = [];
  await new Promise((ready, fail) => {
    createInterface({ input: program.stdout }).on("line", (line) => {
      lines.push(line);
      if (done(lines)) ready();
    });
    ended.then((end) => fail(new Error(`${name} ended: ${end}\n${lines.join("\n")}`)));
  });
  const stop = async () => {
    program.kill("SIGINT");
    await ended;
  };
  return { lines, stop };
}

/** Runs bombyx on a home directory and returns what it prints. */
export async function bombyx(home, ...args) {
  return (await promisify(execFile)(bin("bombyx"), ["--home", home, ...args])).stdout;
}

/** `bombyx devnet`: its first line says where it is. */
export async function devnet() {
  const { lines, stop } = await start("bombyx", ["devnet", "--block-time", "100ms"], (lines) => lines.length === 1);
  const { control, global_id } = JSON.parse(lines[0]);
  const config = await (await fetch(control + "/global.config.json")).json();
  const network = new Network(config, control);
  return { network, globalId: global_id, stop: () => (network.close(), stop()) };
}

/**
 * `bombyx-demo --stay`: a network, an enclave on mock hardware and a host, each a process of its own. The demo's own client has opened
 * channel; home holds the network and the policy of users.
 */
export async function demo() {
  const { lines, stop } = await start("bombyx-demo", ["--stay"], (lines) => lines.at(-1) === "  bombyx channel close");
  const find = (pattern) => lines.map((line) => line.match(pattern)).find(Boolean);
  const [, url, key] = find(/bombyx host add (\S+) ([0-9a-f]{64})/);
  const [, control] = find(/(http:\S+)\/fund/);
  const [, channel] = find(/deposited .* in (EQ\S+)/);
  const [, home] = find(/BOMBYX_HOME=(\S+)/);
  const network = new Network(await (await fetch(control + "/global.config.json")).json(), control);
  const { global_id } = await network.control("/status");
  return { network, home, globalId: global_id, url, key: Buffer.from(key, "hex"), channel: Address.parse(channel), stop: () => (network.close(), stop()) };
}
