// What the demo page makes of the shop's events. Pure, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Run } from "../../www/js/run.js";

/** Feeds events to a run; each is `[at, type or kind, more]`. */
function played(...events) {
  const run = new Run();
  for (const [at, what, more = {}] of events) {
    const plain = ["reset", "stock", "order"].includes(what);
    run.add({ at, run: 1, type: plain ? what : "timeline", ...(plain ? {} : { kind: what, locked: true, buyer: more.attempt }), ...more });
  }
  return run;
}

const RESET = [0, "reset", { stock: 1 }];

test("orders beyond the items are oversold", () => {
  const order = (number) => [number, "order", { order: number, buyer: "Ada", locked: false }];
  const run = played(RESET, order(1), order(2), order(3));
  assert.equal(run.oversold, 2);
  assert.deepEqual([1, 2, 3].map((number) => run.isOversold(number)), [false, true, true]);
  assert.equal(run.mode, "unlocked");
});

test("buyers are shown in the order of the store's queue, not in that in which the page saw them come", () => {
  const run = played(
    RESET,
    [1, "waiting", { attempt: "a" }],
    [2, "waiting", { attempt: "b" }],
    [3, "waiting", { attempt: "c" }],
    [4, "waiting", { attempt: "d" }],
    [5, "granted", { attempt: "c", fencingToken: 7 }],
    [6, "queued", { attempt: "d", ahead: 0 }],
    [7, "queued", { attempt: "a", ahead: 2 }],
    [8, "queued", { attempt: "b", ahead: 1 }],
  );
  const order = () => run.inOrder().map(({ attempt }) => attempt).join("");
  assert.equal(order(), "cdba");
  run.add({ at: 9, run: 1, type: "timeline", kind: "released", attempt: "c" });
  run.add({ at: 10, run: 1, type: "timeline", kind: "granted", attempt: "d", fencingToken: 8 });
  assert.equal(order(), "cdba", "a grant moves nobody");
  run.add({ at: 11, run: 1, type: "timeline", kind: "waiting", attempt: "e", buyer: "e", locked: true });
  run.add({ at: 12, run: 1, type: "timeline", kind: "queued", attempt: "e", ahead: 2 });
  assert.equal(order(), "cdbae", "a later one stands behind");
});

test("a holder that went without a word lost the lock when the next one got it", () => {
  const run = played(
    RESET,
    [1, "waiting", { attempt: "a" }],
    [2, "granted", { attempt: "a", fencingToken: 7 }],
    [3, "waiting", { attempt: "b" }],
    [9, "granted", { attempt: "b", fencingToken: 8 }],
  );
  const { phase, ended, outcome } = run.lanes.get("a");
  assert.deepEqual({ phase, ended, outcome }, { phase: "done", ended: 9, outcome: "lost" });
  assert.equal(run.lanes.get("b").phase, "holding");
});

test("events of an older run, and of buyers nobody knows, change nothing", () => {
  const run = played(RESET, [5, "reset", { run: 2, stock: 3 }], [6, "order", { order: 1 }], [7, "granted", { run: 2, attempt: "x" }]);
  assert.equal(run.orders.length, 0);
  assert.equal(run.lanes.size, 0);
  assert.equal(run.items, 3);
});

test("after a quiet spell the timeline begins anew, and orders stay", () => {
  const run = played(
    RESET,
    [1, "waiting", { attempt: "a" }],
    [2, "granted", { attempt: "a", fencingToken: 7 }],
    [3, "order", { order: 1, buyer: "a", locked: true }],
    [4, "released", { attempt: "a" }],
    [60_000, "waiting", { attempt: "b" }],
  );
  assert.deepEqual([...run.lanes.keys()], ["b"]);
  assert.equal(run.orders.length, 1);
});

test("a slow buyer is no quiet spell", () => {
  const run = played(RESET, [1, "waiting", { attempt: "a" }], [2, "granted", { attempt: "a", fencingToken: 7 }], [60_000, "waiting", { attempt: "b" }]);
  assert.deepEqual([...run.lanes.keys()], ["a", "b"]);
});
