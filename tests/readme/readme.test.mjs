// The README's TypeScript does what the README says: each block is compiled under `tsc --strict` and run in a browser against
// a real relay, and has a check of what it brings about.

import assert from "node:assert/strict";
import { test } from "node:test";
import { complaints, inPage, openBrowser } from "../e2e/support/browser.mjs";
import { startRelay } from "../e2e/support/processes.mjs";
import { startStage } from "../e2e/support/stage.mjs";
import { blocksOf, compile } from "./blocks.mjs";
import { checks, prepare } from "./checks.mjs";

const blocks = await blocksOf();

test("every block of TypeScript has a name and a check, and every check its block", () => {
  const names = blocks.map(({ name, line }) => name || `line ${line}`);
  assert.deepEqual(names.toSorted(), Object.keys(checks).toSorted());
});

test("the README's examples do what they say", async (t) => {
  const exported = Object.fromEntries(Object.entries(checks).map(([name, check]) => [name, check.exports]));
  const compiled = await compile(blocks, exported);
  const relay = await startRelay(t);
  const shop = orders();
  const stage = await startStage(t, shop);
  const page = await openBrowser(t);
  for (const { name, line } of blocks) {
    await t.test(`${name} (line ${line})`, async () => {
      const { page: work, expect } = checks[name] ?? assert.fail("it has no check");
      // Only the relay's address is another.
      const code = compiled[name].replaceAll(/wss:\/\/locks(-2)?\.example\.com/g, `ws://127.0.0.1:${relay.port}`);
      await page.get(stage.url);
      await inPage(page, prepare, code, relay.locks);
      assert.deepEqual(await inPage(page, work), expect);
      assert.deepEqual(await complaints(page), [], "nothing is left on the console, such as an unhandled rejection");
    });
  }
});

/** The shop's server: answers orders promptly, or, to have one under way, not before it is told to be prompt again. */
function orders() {
  const got = [];
  let arrival = deferred();
  let promptness = deferred();
  return {
    prompt(body) {
      promptness.resolve();
      promptness = deferred();
      if (body.prompt) promptness.resolve();
      arrival = deferred();
    },
    async orders(body) {
      got.push(body);
      arrival.resolve();
      await promptness.promise;
    },
    async arrived() {
      await arrival.promise;
      return { orders: got };
    },
  };
}

function deferred() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}
