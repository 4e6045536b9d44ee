// Sixteen clients, eight in Chromium and eight native, at two relays of one Redis, want one lock a hundred times each. Under
// it each reads a counter, pauses, and writes it back plus one. Any flaw of mutual exclusion loses a write.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inPage, openBrowser } from "./support/browser.mjs";
import { startNativeClient } from "./support/native.mjs";
import { Observer } from "./support/observer.mjs";
import { startRedis, startRelay } from "./support/processes.mjs";
import { numbers, seed } from "./support/random.mjs";
import { requestsInOrder } from "./support/record.mjs";
import { startStage } from "./support/stage.mjs";

const ROUNDS = 100;
const PAGES = 8;
const NATIVE = 8;
const MUTEX = "contended";

test("16 clients, 100 rounds each: nothing lost, no overlap, tokens rise, first come first served", async (t) => {
  t.diagnostic(`figure: seed ${seed}`);
  const redis = await startRedis(t, { record: true });
  const relays = [await startRelay(t, { redis }), await startRelay(t, { redis })];
  const observer = new Observer();
  const stage = await startStage(t, { enter: (hold) => observer.enter(hold), leave: (hold) => observer.leave(hold) });
  const pauses = (index) => numbers(seed, index, ROUNDS, 1, 10);

  const browser = await openBrowser(t);
  const pages = [];
  for (let index = 0; index < PAGES; index += 1) {
    if (index > 0) await browser.switchTo().newWindow("window");
    await browser.get(stage.url);
    await inPage(browser, prepare, relays[index % 2].locks);
    pages.push(await browser.getWindowHandle());
  }
  const native = await Promise.all(Array.from({ length: NATIVE }, (_, index) => startNativeClient(t, relays[index % 2].locks)));

  const begin = performance.now();
  for (const [index, handle] of pages.entries()) {
    await browser.switchTo().window(handle);
    await browser.executeScript(`(${contend})(...arguments)`, `page ${index}`, MUTEX, pauses(index));
  }
  const rounds = async (client, index) => {
    for (const pause of pauses(PAGES + index)) {
      const fencingToken = await client.acquire(MUTEX);
      const { value } = observer.enter({ client: `native ${index}`, fencingToken });
      await new Promise((done) => setTimeout(done, pause));
      observer.leave({ client: `native ${index}`, value: value + 1 });
      client.release();
    }
  };
  await Promise.all([...native.map(rounds), ...pages.map((_, index) => stage.note(`page ${index}`, 240_000))]);
  const seconds = (performance.now() - begin) / 1000;

  assert.deepEqual(stage.told.filter(({ error }) => error), []);
  assert.deepEqual(observer.problems, []);
  assert.equal(observer.value, ROUNDS * (PAGES + NATIVE), "no write was lost");
  assert.equal(observer.holds.length, ROUNDS * (PAGES + NATIVE));

  const requests = await requestsInOrder(redis, MUTEX);
  assert.equal(requests.length, ROUNDS * (PAGES + NATIVE), "every request is in Redis' record");
  assert.ok(requests.filter(({ waited }) => waited).length > ROUNDS * PAGES, "most of them had to wait");
  const tokens = requests.map(({ fencingToken }) => fencingToken);
  assert.deepEqual(tokens, observer.holds.map((hold) => hold.fencingToken), "granted in the order in which they were enqueued");
  t.diagnostic(`figure: ${observer.value} holds by ${PAGES + NATIVE} clients in ${seconds.toFixed(1)} s`);
});

/** In a page: connects. */
async function prepare(locks) {
  const { connect } = await import("/lockrelay/index.js");
  window.client = await connect(locks);
}

/** In a page: all its rounds, in the background; tells when they are done. */
function contend(name, mutex, pauses) {
  const post = async (path, body) => (await fetch(path, { method: "POST", body: JSON.stringify(body) })).json();
  const all = async () => {
    for (const pause of pauses) {
      const lock = await window.client.acquireLock(mutex, { acquisitionTimeoutMillis: Infinity });
      const { value } = await post("/enter", { client: name, fencingToken: lock.fencingToken });
      await new Promise((done) => setTimeout(done, pause));
      await post("/leave", { client: name, value: value + 1 });
      lock.release();
    }
  };
  all().then(
    () => post("/tell", { what: name }),
    (error) => post("/tell", { what: name, error: String(error?.stack ?? error) }),
  );
}
