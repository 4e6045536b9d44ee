// The demo's shop over HTTP, and what happens in it as it happens. Knows no locks.

/** One relay's shop. With Redis all relays share one shop. */
export class Shop {
  /** @param {string} base the relay's origin, such as `http://127.0.0.1:8787` */
  constructor(base) {
    this.base = base;
  }

  /** The plain read: `{ stock, orders }`. */
  stock(options) {
    return this.#call("GET", "/demo/stock", undefined, options);
  }

  /** The plain write: whatever it was, it is `stock` now. */
  writeStock(stock, { buyer, signal } = {}) {
    return this.#call("POST", "/demo/stock", { stock, buyer }, { signal });
  }

  /** Notes an order; answers `{ order }`, its number. */
  order({ buyer, locked, fencingToken }, options) {
    return this.#call("POST", "/demo/orders", { buyer, locked, fencingToken }, options);
  }

  /** Begins a new run with `stock` items. */
  reset(stock) {
    return this.#call("POST", "/demo/reset", { stock });
  }

  /** Tells everybody who watches. */
  say(event) {
    return this.#call("POST", "/demo/events", event);
  }

  /** As `say`, from a page that goes away. */
  sayLeaving(event) {
    navigator.sendBeacon(`${this.base}/demo/events`, new Blob([JSON.stringify(event)], { type: "application/json" }));
  }

  async #call(method, path, body, { signal } = {}) {
    const response = await fetch(this.base + path, {
      method,
      signal,
      headers: body && { "content-type": "application/json" },
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
    return response.json();
  }
}

/**
 * Watches a shop: `onEvent` gets every event of the current run, then those that come. A hidden page lets its stream go
 * (a browser opens few connections to one server, over all its tabs) and gets the current run again when it is shown.
 * @returns {() => void} stops watching
 */
export function watch(base, { onEvent, onOpen, onDown }) {
  let source;
  const open = () => {
    source = new EventSource(`${base}/demo/events`);
    source.onopen = onOpen;
    source.onerror = onDown;
    source.onmessage = ({ data }) => onEvent(JSON.parse(data));
  };
  const follow = () => {
    if (document.hidden) {
      source?.close();
      source = undefined;
    } else if (!source) {
      open();
    }
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return () => {
    document.removeEventListener("visibilitychange", follow);
    source?.close();
  };
}
