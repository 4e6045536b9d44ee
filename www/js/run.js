// What the shop's events add up to: the current run, its orders, and a lane for each buyer. Pure: no page, no clock.

/** After so long without anybody buying, in milliseconds, the timeline begins anew; otherwise the pause would fill it. */
const QUIET = 6_000;

/** No buyer waits or holds for longer, in milliseconds: one that seems to has gone without a word. */
const GONE = 130_000;

/**
 * @typedef {object} Lane one buyer's attempt
 * @property {string} attempt
 * @property {string} buyer
 * @property {boolean} locked
 * @property {"waiting" | "holding" | "racing" | "done"} phase
 * @property {number} [place] its place among all requests of the run, as the store's queue had it
 * @property {number} came when it asked, by the server's clock in milliseconds; so are `granted` and `ended`
 * @property {number} [granted]
 * @property {number} [ended]
 * @property {number} [fencingToken]
 * @property {number} [read] the stock that it read
 * @property {number} [wrote] the stock that it wrote
 * @property {number} [order]
 * @property {string} [outcome] `bought`, `sold out`, `lost`, `left` or `failed`
 */

/** One run of the shop: from one restocking to the next. */
export class Run {
  number = 0;
  items = 0;
  stock = 0;
  /** @type {{ order: number, buyer: string, locked: boolean, fencingToken?: number }[]} */
  orders = [];
  /** @type {Map<string, Lane>} in the order in which they came */
  lanes = new Map();

  /** Takes in one event of `/demo/events`. */
  add(event) {
    if (event.type === "reset") this.#begin(event);
    else if (event.run !== this.number) return;
    else if (event.type === "stock") this.stock = event.stock;
    else if (event.type === "order") this.orders.push(event);
    else if (event.type === "timeline") this.#step(event);
  }

  /** Orders for which there was no item. */
  get oversold() {
    return Math.max(0, this.orders.length - this.items);
  }

  isOversold(order) {
    return order !== undefined && order > this.items;
  }

  /** `locked`, `unlocked`, or `mixed`: how this run's orders were made. Undefined before the first. */
  get mode() {
    const modes = new Set(this.orders.map(({ locked }) => (locked ? "locked" : "unlocked")));
    return modes.size > 1 ? "mixed" : [...modes][0];
  }

  /** Buyers that wait, hold or buy at `now`. */
  open(now) {
    return [...this.lanes.values()].filter((lane) => lane.phase !== "done" && now - lane.came < GONE);
  }

  /**
   * The lanes in the order in which the store has them: who was granted by fencing token, then who waits by place in the
   * queue. A page that sees many buyers come at once sees them in another order than the store does.
   */
  inOrder() {
    const rank = (lane) => [lane.fencingToken ?? Infinity, lane.place ?? Infinity, lane.came];
    return [...this.lanes.values()].sort((one, other) => {
      const [left, right] = [rank(one), rank(other)];
      const differs = left.findIndex((value, index) => value !== right[index]);
      return differs === -1 ? 0 : left[differs] < right[differs] ? -1 : 1;
    });
  }

  #begin({ run, stock }) {
    this.number = run;
    this.items = stock;
    this.stock = stock;
    this.orders = [];
    this.lanes = new Map();
  }

  #step({ attempt, buyer, kind, at, locked, ...more }) {
    if (kind === "waiting" || kind === "racing") {
      this.#dropQuiet(at);
      this.lanes.set(attempt, { attempt, buyer, locked, phase: kind, came: at });
      return;
    }
    const lane = this.lanes.get(attempt);
    if (!lane || lane.phase === "done") return;
    if (kind === "granted") {
      // Whoever held it before and did not say that it ended is gone: its tab was closed, or its connection cut.
      for (const other of this.lanes.values()) if (other.phase === "holding") end(other, at, "lost");
      Object.assign(lane, { phase: "holding", granted: at, fencingToken: more.fencingToken });
    } else if (kind === "queued") {
      // Who was granted before is not in the queue any more, and who holds the lock is not counted as waiting.
      lane.place = more.ahead + [...this.lanes.values()].filter(({ granted }) => granted !== undefined).length;
    } else if (kind === "bought" || kind === "sold out") {
      Object.assign(lane, { outcome: kind, read: more.read, wrote: more.wrote, order: more.order });
      if (!locked) end(lane, at, kind);
    } else if (kind === "released") {
      end(lane, at, lane.outcome);
    } else {
      end(lane, at, kind);
    }
  }

  #dropQuiet(now) {
    let last = 0;
    for (const lane of this.lanes.values()) last = Math.max(last, lane.phase === "done" ? lane.ended : now);
    if (now - last > QUIET) this.lanes.clear();
  }
}

function end(lane, at, outcome) {
  Object.assign(lane, { phase: "done", ended: at, outcome });
}
