// `npm start`, as somebody runs it who has just cloned the project. With LOCKRELAY_FRESH=1 it really is a new clone, where
// everything is built from nothing; without, the build of the working copy is used.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { atEnd } from "./support/after.mjs";
import { openBrowser } from "./support/browser.mjs";
import { root, startRedis } from "./support/processes.mjs";
import { buyersOnItems } from "./support/shop.mjs";

test("npm start builds, prints the address, serves the demo, and Ctrl-C ends all of it", async (t) => {
  const { url, stop } = await npmStart(t, {});
  const page = await (await fetch(url)).text();
  assert.match(page, /Lockrelay/);
  assert.match(page, /js\/main\.js/);
  assert.equal((await fetch(new URL("/lockrelay/index.js", url))).status, 200, "the package is there");
  assert.deepEqual(await (await fetch(new URL("/demo/stock", url))).json(), { stock: 5, orders: 0 });
  const sold = await buyersOnItems(await openBrowser(t, url));
  t.diagnostic(`20 buyers on 5 items: ${sold.without} sold without the lock, ${sold.with} with it`);
  await stop();
  await assert.rejects(fetch(url), "nobody listens any more");
});

test("with REDIS_URL two of them are one shop", async (t) => {
  const redis = await startRedis(t);
  const one = await npmStart(t, { REDIS_URL: redis.url });
  const other = await npmStart(t, { REDIS_URL: redis.url });
  const reset = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ stock: 7 }) };
  await fetch(new URL("/demo/reset", one.url), reset);
  assert.deepEqual(await (await fetch(new URL("/demo/stock", other.url))).json(), { stock: 7, orders: 0 });
  const origins = [one.url, other.url].map((url) => new URL(url).origin);
  const sold = await buyersOnItems(await openBrowser(t, `${origins[0]}/?relays=${origins.join(",")}`));
  t.diagnostic(`20 buyers on 5 items over two relays: ${sold.without} sold without the lock, ${sold.with} with it`);
});

async function npmStart(t, env) {
  const folder = clone();
  const npm = spawn("npm", ["start"], { cwd: folder, env: { ...process.env, ...env, PORT: "0" }, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  // Not `exit`: npm may go first, and the pipe closes when the last of those that it started is gone.
  const exited = once(npm, "close");
  const printed = [];
  const stop = async () => {
    // As Ctrl-C does: to npm and to what it started alike. They may be gone before npm's exit is known here.
    try {
      if (npm.exitCode === null && npm.signalCode === null) process.kill(-npm.pid, "SIGINT");
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
    await exited;
  };
  atEnd(t, stop);
  npm.stderr.on("data", (part) => printed.push(String(part)));
  const listening = new Promise((done) => {
    createInterface({ input: npm.stdout }).on("line", (line) => {
      printed.push(`${line}\n`);
      const url = line.match(/open at .*?(http:\/\/[\w.:]+)/)?.[1];
      if (url) done(url);
    });
  });
  const url = await Promise.race([listening, exited.then(() => undefined)]);
  if (!url) throw new Error(`npm start ended:\n${printed.join("")}`);
  return { url, stop };
}

let cloned;

/** The folder to start in. */
function clone() {
  if (process.env.LOCKRELAY_FRESH !== "1") return root;
  if (!cloned) {
    cloned = mkdtempSync(join(tmpdir(), "lockrelay-clone-"));
    execFileSync("git", ["clone", "--quiet", root, cloned]);
    process.on("exit", () => rmSync(cloned, { recursive: true, force: true }));
  }
  return cloned;
}
