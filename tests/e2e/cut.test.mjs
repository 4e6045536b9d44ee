// The network cuts a page's socket. Everything that tells of a lost lock tells it then, once, and not only on reconnect.
// All leases and intervals are a minute, so it is the end of the socket that tells, and no timer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inPage, openBrowser } from "./support/browser.mjs";
import { LONG, startRedis, startRelay } from "./support/processes.mjs";
import { startProxy } from "./support/proxy.mjs";
import { startStage } from "./support/stage.mjs";

test("at the cut every observer is told once, and pending requests are served after the reconnect", async (t) => {
  const redis = await startRedis(t);
  const relay = await startRelay(t, { redis, durations: LONG });
  const other = await startRelay(t, { redis, durations: LONG });
  const proxy = await startProxy(t, relay.port);
  const stage = await startStage(t);
  const page = await openBrowser(t, stage.url);
  const second = await openBrowser(t, stage.url);

  await inPage(second, holdPending, other.locks);
  await inPage(page, begin, proxy.locks);

  const cutAt = performance.now();
  proxy.cut();
  const told = await stage.note("all observers");
  t.diagnostic(`figure: all observers told ${(told.at - cutAt).toFixed(0)} ms after the cut`);
  assert.equal(proxy.count(), 0, "there is no connection yet");
  const reasons = { released: ["connection_lost"], onRelease: ["connection_lost"], observeRelease: ["connection_lost", "complete"] };
  assert.deepEqual(await inPage(page, state), { ...reasons, signal: ["abort"], isReleased: true });

  // Another client gets the lock while this page has no connection: the relay has freed it by itself.
  const token = await inPage(second, take, "cut-item");
  assert.ok(token > told.fencingToken, "the token has risen");

  proxy.mend();
  const late = await inPage(page, lateSubscribers);
  assert.deepEqual(late, { released: "connection_lost", onRelease: ["connection_lost"], observeRelease: ["connection_lost", "complete"], aborted: true });

  await inPage(second, releasePending);
  const served = await stage.note("pending served");
  assert.ok(served.waited < 30_000, "within its own limit");
  assert.equal(served.isReleased, false);
  assert.deepEqual(
    await inPage(page, state),
    { ...reasons, signal: ["abort"], isReleased: true },
    "the reconnect neither repeated the news nor brought the lock back",
  );
});

/** In the second page: holds what the first one will wait for. */
async function holdPending(locks) {
  const { connect } = await import("/lockrelay/index.js");
  window.client = await connect(locks);
  window.pending = await client.acquireLock("cut-pending");
}

const releasePending = () => window.pending.release();

/** In the second page: takes a lock as soon as it is free. */
async function take(mutex) {
  const lock = await window.client.acquireLock(mutex, { acquisitionTimeoutMillis: 20_000 });
  return lock.fencingToken;
}

/** In the first page: holds a lock with all observers on it, and waits for another lock. */
async function begin(locks) {
  const tell = (note) => fetch("/tell", { method: "POST", body: JSON.stringify(note) });
  const { connect } = await import("/lockrelay/index.js");
  const client = await connect(locks);
  const lock = (window.lock = await client.acquireLock("cut-item"));
  const seen = (window.seen = { released: [], onRelease: [], observeRelease: [], signal: [] });
  const all = () => {
    if (Object.values(seen).every((list) => list.length > 0)) tell({ what: "all observers", fencingToken: lock.fencingToken });
  };
  const note = (name) => (value) => {
    seen[name].push(value);
    all();
  };
  lock.released.then(note("released"));
  lock.onRelease(note("onRelease"));
  lock.observeRelease().subscribe({ next: note("observeRelease"), complete: () => seen.observeRelease.push("complete") });
  lock.signal.addEventListener("abort", () => note("signal")("abort"));

  const asked = performance.now();
  const pending = client.acquireLock("cut-pending", { acquisitionTimeoutMillis: 30_000 });
  pending.then(
    (lock) => tell({ what: "pending served", waited: performance.now() - asked, isReleased: lock.isReleased() }),
    (error) => tell({ what: "pending served", error: String(error), waited: Infinity }),
  );
}

const state = () => ({ ...window.seen, isReleased: window.lock.isReleased() });

/** In the first page: what somebody learns who asks only now. */
async function lateSubscribers() {
  const late = { released: await window.lock.released, onRelease: [], observeRelease: [], aborted: window.lock.signal.aborted };
  await new Promise((done) => {
    window.lock.onRelease((reason) => late.onRelease.push(reason));
    window.lock.observeRelease().subscribe({
      next: (reason) => late.observeRelease.push(reason),
      complete: () => {
        late.observeRelease.push("complete");
        done();
      },
    });
  });
  // What is told asynchronously has been told after a turn of the event loop.
  await new Promise((done) => setTimeout(done));
  return late;
}
