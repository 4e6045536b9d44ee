// One buyer: a client of its own, with its own connection, who tries to buy one item, with the lock or without.

import { connect } from "../lockrelay/index.js";
import { Shop } from "./shop.js";

/** What all buyers queue for. */
export const MUTEX = "demo-stock";

/** How long a buyer waits in the queue, in milliseconds. */
const PATIENCE = 120_000;

/** Where the relay of `base` takes locks. */
const locksOf = (base) => `${base.replace(/^http/, "ws")}/v1/locks`;

/** Somebody who wants one item. */
export class Buyer {
  #shop;
  #client;
  #attempt = crypto.randomUUID?.() ?? String(Math.random());

  /**
   * Somebody who has come into the shop and stands ready: connected, if it is to be with the lock.
   * @param {{ name: string, relay: string, locked: boolean }} buyer `relay` is the origin of a relay
   */
  static async arrive({ name, relay, locked }) {
    const buyer = new Buyer();
    buyer.name = name;
    buyer.locked = locked;
    buyer.#shop = new Shop(relay);
    if (locked) {
      buyer.#client = await connect(locksOf(relay));
      await connected(buyer.#client);
    }
    return buyer;
  }

  /**
   * Buys one item; paying for it takes `payMillis`.
   * @returns {Promise<"bought" | "sold out" | "failed">}
   */
  async buy(payMillis) {
    // A page that goes away while it buys says so, if it still can. The lock does not depend on it.
    const leave = () => this.#shop.sayLeaving(this.#note("left"));
    addEventListener("pagehide", leave);
    try {
      return this.locked ? await this.#buyLocked(payMillis) : await this.#buyUnlocked(payMillis);
    } catch (error) {
      await this.#say("failed", { why: error.code ?? error.message }).catch(() => {});
      return "failed";
    } finally {
      removeEventListener("pagehide", leave);
      await this.#client?.close();
    }
  }

  async #buyUnlocked(payMillis) {
    await this.#say("racing");
    const result = await this.#purchase(payMillis);
    await this.#say(result.kind, result);
    return result.kind;
  }

  async #buyLocked(payMillis) {
    await this.#say("waiting");
    let told;
    const lock = await this.#client.acquireLock(MUTEX, {
      acquisitionTimeoutMillis: PATIENCE,
      onQueued: (ahead) => (told = this.#say("queued", { ahead })),
    });
    try {
      await told;
      // Told after the grant and before the release, so that no two holds can seem to overlap that did not.
      await this.#say("granted", { fencingToken: lock.fencingToken });
      const result = await this.#purchase(payMillis, lock);
      await this.#say(result.kind, result);
      await this.#say("released");
      return result.kind;
    } catch (error) {
      if (!lock.isReleased()) throw error;
      await this.#say("lost", { why: await lock.released });
      return "failed";
    } finally {
      await lock.release();
    }
  }

  /** The four steps that race: read, pay, write, order. */
  async #purchase(payMillis, { fencingToken, signal } = {}) {
    const { stock } = await this.#shop.stock({ signal });
    if (stock <= 0) return { kind: "sold out", read: stock };
    await pay(payMillis, signal);
    await this.#shop.writeStock(stock - 1, { buyer: this.name, signal });
    const { order } = await this.#shop.order({ buyer: this.name, locked: this.locked, fencingToken }, { signal });
    return { kind: "bought", read: stock, wrote: stock - 1, order };
  }

  #note(kind, more = {}) {
    return { buyer: this.name, attempt: this.#attempt, kind, locked: this.locked, ...more };
  }

  #say(kind, more) {
    return this.#shop.say(this.#note(kind, more));
  }
}

/**
 * Several buyers who stand ready. A few at a time: a browser that opens more WebSockets at once delays them by seconds.
 * @param {{ name: string, relay: string, locked: boolean }[]} wanted
 */
export async function arriveAll(wanted) {
  const buyers = [];
  for (let next = 0; next < wanted.length; next += 4) {
    buyers.push(...(await Promise.all(wanted.slice(next, next + 4).map(Buyer.arrive))));
  }
  return buyers;
}

/** Resolves when the client's connection is open. */
function connected(client) {
  if (client.state === "connected") return undefined;
  return new Promise((done) => {
    const stop = client.onStateChange((state) => {
      if (state !== "connected") return;
      stop();
      done();
    });
  });
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
