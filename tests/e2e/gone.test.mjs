// A page that holds a lock goes away: closed, navigated, crashed, killed. The one that waits, in another browser and at
// another relay, gets it at once. All leases and intervals are a minute, so it is the end of the socket that does it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { devTools, inPage, killPages, openBrowser } from "./support/browser.mjs";
import { LONG, startRedis, startRelay } from "./support/processes.mjs";
import { startStage } from "./support/stage.mjs";

/** Far below the minute after which a timer could have done it, far above what a loaded machine needs. */
const LIMIT = 20_000;

const ENDINGS = {
  "its tab is closed": async (page) => {
    // A second tab keeps the browser alive.
    const first = await page.getWindowHandle();
    await page.switchTo().newWindow("tab");
    const second = await page.getWindowHandle();
    await page.switchTo().window(first);
    return { end: () => page.close(), after: () => page.switchTo().window(second) };
  },
  "it navigates away": async (page, stage) => ({ end: () => page.get(`${stage.url}?elsewhere`) }),
  "it crashes": async (page) => ({
    // The answer to this command never comes from a page that has crashed.
    end: () => void devTools(page, "Page.crash").catch(() => {}),
  }),
  "its process is killed": async (page) => ({
    end: async () => assert.ok((await killPages(page)) > 0, "a process was killed"),
  }),
};

for (const [what, ending] of Object.entries(ENDINGS)) {
  test(`the waiter is granted when the holder is gone: ${what}`, async (t) => {
    const redis = await startRedis(t);
    const [near, far] = [await startRelay(t, { redis, durations: LONG }), await startRelay(t, { redis, durations: LONG })];
    const stage = await startStage(t);
    const holder = await openBrowser(t, stage.url);
    const waiter = await openBrowser(t, stage.url);
    const held = await inPage(holder, hold, near.locks);
    const { end, after } = await ending(holder, stage);

    await waiter.executeScript(`window.waiting = (${wait})(arguments[0])`, far.locks);
    await stage.note("queued");
    await isQueued(far);
    assert.equal(stage.told.find(({ what }) => what === "granted"), undefined, "the waiter waits while the lock is held");

    const begin = performance.now();
    await end();
    const granted = await stage.note("granted", LIMIT);
    await after?.();
    assert.ok(granted.fencingToken > held.fencingToken, "the token has risen");
    t.diagnostic(`figure: granted ${(granted.at - begin).toFixed(0)} ms after ${what.replace("its ", "the holder’s ").replace("it ", "the holder ")}`);
  });
}

test("a relay is killed: its page is told by the socket’s end, and its lock moves on to the other relay", async (t) => {
  const durations = {
    relay_lease_millis: 2_000,
    renew_every_millis: 500,
    delta_millis: 200,
    client_lease_millis: 1_600,
    silence_millis: 1_800,
    heartbeat_millis: 300,
    pull_every_millis: 300,
  };
  const redis = await startRedis(t);
  const [near, far] = [await startRelay(t, { redis, durations }), await startRelay(t, { redis, durations })];
  const stage = await startStage(t);
  const holder = await openBrowser(t, stage.url);
  const waiter = await openBrowser(t, stage.url);
  const held = await inPage(holder, hold, near.locks);
  await waiter.executeScript(`window.waiting = (${wait})(arguments[0])`, far.locks);
  await isQueued(far);

  const begin = performance.now();
  await near.kill();
  const lost = await stage.note("lost");
  assert.equal(lost.reason, "connection_lost");
  const granted = await stage.note("granted");
  assert.ok(granted.fencingToken > held.fencingToken, "the token has risen");
  assert.ok(lost.at < granted.at, "the one has let go before the other has it");
  const took = granted.at - begin;
  t.diagnostic(`figure: told ${(lost.at - begin).toFixed(0)} ms, the waiter granted ${took.toFixed(0)} ms after its relay was killed`);
  const limit = durations.relay_lease_millis + durations.renew_every_millis + durations.delta_millis + 1_000;
  assert.ok(took < limit, `${took.toFixed(0)} ms, of ${limit} allowed`);
});

/** In the page: takes the lock and keeps it; tells when it is lost. */
async function hold(locks) {
  const { connect } = await import("/lockrelay/index.js");
  const client = await connect(locks);
  window.lock = await client.acquireLock("the-last-item");
  window.lock.onRelease((reason) => fetch("/tell", { method: "POST", body: JSON.stringify({ what: "lost", reason }) }));
  return { fencingToken: window.lock.fencingToken };
}

/** In the page: waits for the lock, and tells when it has it. */
async function wait(locks) {
  const tell = (note) => fetch("/tell", { method: "POST", body: JSON.stringify(note) });
  const { connect } = await import("/lockrelay/index.js");
  const client = await connect(locks);
  const asked = client.acquireLock("the-last-item", { acquisitionTimeoutMillis: Infinity });
  await tell({ what: "queued" });
  const lock = await asked;
  await tell({ what: "granted", fencingToken: lock.fencingToken });
}

/** Resolves when the relay says that somebody waits. */
async function isQueued({ origin }) {
  for (;;) {
    const metrics = await (await fetch(`${origin}/metrics`)).text();
    if (/^lockrelay_locks_waiting(?:\{.*\})? 1$/m.test(metrics)) return;
    // Not a pause to wait out something: the question is asked until the answer is yes.
    await new Promise(setImmediate);
  }
}
