// Processes that a test starts and that end with it: relays and Redis servers, on free ports of the loopback.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { atEnd } from "./after.mjs";
import { relayBinary } from "../../../scripts/build.mjs";
import { which } from "../../../scripts/shell.mjs";

export const root = resolve(fileURLToPath(new URL("../../..", import.meta.url)));

/** Every lease and interval that could end a lock is a minute, so that what happens sooner was done by an event. */
export const LONG = {
  relay_lease_millis: 60_000,
  renew_every_millis: 15_000,
  client_lease_millis: 60_000,
  silence_millis: 60_000,
  heartbeat_millis: 60_000,
  pull_every_millis: 60_000,
};

/** A free port below 32768, where the system takes none for outgoing connections. */
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const free = await new Promise((done) => {
      server.once("error", () => done(false));
      server.listen(port, "127.0.0.1", () => done(true));
    });
    if (!free) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}

/**
 * Starts a relay and waits until it listens.
 * @param {import("node:test").TestContext} t ends it
 * @param {{ redis?: { url: string }, durations?: Record<string, number>, demo?: boolean, options?: string[] }} [wanted]
 */
export async function startRelay(t, { redis, durations, demo = false, options = [] } = {}) {
  const config = demo ? "www/demo.toml" : "tests/relay.toml";
  const args = ["--listen", "127.0.0.1:0", "--config", config, "--log", "warn", ...options];
  if (demo) args.push("--demo", "--www", "www");
  if (redis) args.push("--redis", redis.url, "--assume-first-start");
  if (durations) args.push("--durations", Object.entries(durations).map(([name, millis]) => `${name}=${millis}`).join(","));
  const child = spawn(process.env.LOCKRELAY_BIN ?? relayBinary(), args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const log = [];
  child.stderr.on("data", (part) => log.push(part));
  const exited = once(child, "exit");
  atEnd(t, async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGTERM");
      await exited;
    }
  });
  const lines = createInterface({ input: child.stdout });
  const listening = new Promise((done) => lines.on("line", (line) => line.startsWith("listening on ") && done(line.slice(13))));
  const url = await Promise.race([listening, exited.then(() => undefined)]);
  if (!url) throw new Error(`the relay did not start: ${args.join(" ")}\n${Buffer.concat(log)}`);
  const origin = new URL(url).origin;
  return {
    origin,
    port: Number(new URL(url).port),
    locks: `${origin.replace("http", "ws")}/v1/locks`,
    pid: child.pid,
    /** Ends it as it is meant to end; resolves to its exit code. */
    async stop() {
      child.kill("SIGTERM");
      return (await exited)[0];
    },
    /** Ends it without a word. */
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
    log: () => Buffer.concat(log).toString(),
  };
}

/**
 * Starts a Redis with nothing in it and waits until it answers.
 * @param {import("node:test").TestContext} t ends it
 * @param {{ record?: boolean }} [wanted] `record`: keeps every write in an append-only file
 */
export async function startRedis(t, { record = false } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "lockrelay-redis-"));
  const port = await freePort();
  const args = ["--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", folder, "--daemonize", "no"];
  if (record) args.push("--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0");
  const child = spawn(which("redis-server") ?? which("valkey-server"), args.map(String), { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  atEnd(t, async () => {
    child.kill("SIGTERM");
    await exited;
    await rm(folder, { recursive: true, force: true });
  });
  const ready = new Promise((done) => {
    createInterface({ input: child.stdout }).on("line", (line) => line.includes("Ready to accept connections") && done(true));
  });
  if (!(await Promise.race([ready, exited.then(() => false)]))) throw new Error("redis-server did not start");
  return { url: `redis://127.0.0.1:${port}/`, port, folder, command: (...words) => redisCommand(port, words) };
}

/** One command to a Redis; resolves to its raw answer. */
async function redisCommand(port, words) {
  const socket = createConnection({ port, host: "127.0.0.1" });
  await once(socket, "connect");
  socket.setEncoding("utf8");
  socket.end(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`);
  let answer = "";
  for await (const part of socket) answer += part;
  return answer;
}
