// One buyer: a client of its own, with its own connection, who tries to buy one item, with the lock or without.

import { connect } from "../lockrelay/index.js";
import { Shop } from "./shop.js";

/** What all buyers queue for. */
export const MUTEX = "demo-stock";

/** How long a buyer waits in the queue, in milliseconds. */
const PATIENCE = 120_000;

/** Where the relay of `base` takes locks. */
const locksOf = (base) => `${base.replace(/^http/, "ws")}/v1/locks`;

/**
 * Buys one item.
 * @param {{ name: string, relay: string, locked: boolean, payMillis: number }} buyer `relay` is the origin of a relay
 * @returns {Promise<"bought" | "sold out" | "failed">}
 */
export async function buy({ name, relay, locked, payMillis }) {
  const shop = new Shop(relay);
  const attempt = crypto.randomUUID?.() ?? String(Math.random());
  const say = (kind, more = {}) => shop.say({ buyer: name, attempt, kind, locked, ...more });
  // A page that goes away while it buys says so, if it still can. The lock does not depend on it.
  const leave = () => shop.sayLeaving({ buyer: name, attempt, kind: "left", locked });
  addEventListener("pagehide", leave);
  try {
    if (!locked) {
      await say("racing");
      const result = await purchase({ shop, name, payMillis, locked });
      await say(result.kind, result);
      return result.kind;
    }
    return await withTheLock({ relay, say }, (lock) =>
      purchase({ shop, name, payMillis, locked, fencingToken: lock.fencingToken, signal: lock.signal }),
    );
  } catch (error) {
    await say(error.code === "LOCK_LOST" ? "lost" : "failed", { why: error.code ?? error.message }).catch(() => {});
    return "failed";
  } finally {
    removeEventListener("pagehide", leave);
  }
}

/** The four steps that race: read, pay, write, order. */
async function purchase({ shop, name, payMillis, locked, fencingToken, signal }) {
  const { stock } = await shop.stock({ signal });
  if (stock <= 0) return { kind: "sold out", read: stock };
  await pay(payMillis, signal);
  await shop.writeStock(stock - 1, { buyer: name, signal });
  const { order } = await shop.order({ buyer: name, locked, fencingToken }, { signal });
  return { kind: "bought", read: stock, wrote: stock - 1, order };
}

/** Runs `work` under the lock, and tells the timeline about it. */
async function withTheLock({ relay, say }, work) {
  const client = await connect(locksOf(relay));
  try {
    await say("waiting");
    const lock = await client.acquireLock(MUTEX, { acquisitionTimeoutMillis: PATIENCE });
    try {
      // Told after the grant and before the release, so that no two holds can seem to overlap that did not.
      await say("granted", { fencingToken: lock.fencingToken });
      const result = await work(lock);
      await say(result.kind, result);
      await say("released");
      return result.kind;
    } catch (error) {
      if (!lock.isReleased()) throw error;
      await say("lost", { why: await lock.released });
      return "failed";
    } finally {
      await lock.release();
    }
  } finally {
    await client.close();
  }
}

/** Takes its time, or stops at once when the lock is lost. */
function pay(millis, signal) {
  return new Promise((done, fail) => {
    const stop = () => {
      clearTimeout(timer);
      fail(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      done();
    }, millis);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
