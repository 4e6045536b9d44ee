// What the tests in this folder are given: clients of a relay, or of a scripted one, and ways to compare.

/** Runs one test; what it leaves open is closed, and it fails on any promise whose rejection nobody handled. */
export async function run(tests, name, open, LockError, relay, panic) {
  const page = new Page(open, LockError, relay, panic);
  const unhandled = [];
  const note = (event) => unhandled.push(String(event.reason));
  addEventListener("unhandledrejection", note);
  try {
    await tests[name](page);
    await page.end();
    // The browser reports unhandled rejections after the task in which they came about.
    await page.turn();
    page.equal(unhandled, [], "unhandled rejections");
  } catch (error) {
    throw `${name}: ${error?.stack ?? error}`;
  } finally {
    removeEventListener("unhandledrejection", note);
    await page.end();
  }
}

let names = 0;

class Page {
  #open;
  #relay;
  #clients = [];
  #undo = [];

  constructor(open, LockError, relay, panic) {
    this.#open = open;
    this.#relay = relay;
    this.LockError = LockError;
    this.panic = panic;
  }

  /** A client of the real relay, or of these URLs. */
  client(urls, token) {
    urls ??= this.#relay;
    if (!urls) throw new Error("RELAY_URL was not set when the tests were built: run `npm test wasm`, which starts a relay and sets it");
    const client = this.#open([urls].flat(), token, Math.floor(Math.random() * 2 ** 53));
    this.#clients.push(client);
    return client;
  }

  /** A name that no other test uses. `steal-*` may be stolen, `denied-*` is denied. */
  mutex(kind = "item") {
    names += 1;
    return `${kind}-${Date.now().toString(36)}-${names}`;
  }

  /** Puts a relay in place of the network that does only what the test says. */
  scripted() {
    const relay = new Scripted();
    this.replace("WebSocket", relay.Socket);
    return relay;
  }

  /** Replaces a global until the end of the test. */
  replace(name, value) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    this.#undo.push(() => Object.defineProperty(globalThis, name, before));
  }

  /** Collects what would be reported as an uncaught error. */
  reported() {
    const errors = [];
    this.replace("reportError", (error) => errors.push(error));
    return errors;
  }

  async end() {
    for (const client of this.#clients.splice(0)) await client.close();
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  /** A turn of the event loop. */
  turn() {
    return new Promise((done) => setTimeout(done));
  }

  equal(actual, expected, what = "value") {
    const [got, wanted] = [text(actual), text(expected)];
    if (got !== wanted) throw new Error(`${what}: got ${got}, expected ${wanted}`);
  }

  ok(value, what) {
    if (!value) throw new Error(what);
  }

  /** Resolves to the LockError with this code that the promise must reject with. */
  async rejects(promise, code) {
    const value = await promise.then(
      (value) => ({ value }),
      (error) => ({ error }),
    );
    return this.#lockError(value, code);
  }

  /** The LockError with this code that the call must throw. */
  throws(call, code) {
    try {
      return this.#lockError({ value: call() }, code);
    } catch (error) {
      return this.#lockError({ error }, code);
    }
  }

  #lockError({ value, error }, code) {
    if (error === undefined) throw new Error(`expected ${code}, got the value ${text(value)}`);
    if (!(error instanceof this.LockError) || !(error instanceof Error) || error.code !== code) {
      throw new Error(`expected a LockError ${code}, got ${error?.stack ?? error}`);
    }
    if (error.name !== "LockError" || !error.message) throw new Error("a LockError has a name and a message");
    return error;
  }
}

const text = (value) => JSON.stringify(value, (_, part) => (part === undefined ? "undefined" : typeof part === "number" ? String(part) : part));

/** A relay that does only what a test says. */
class Scripted {
  /** Every socket that was opened, in order. */
  sockets = [];
  #news = new EventTarget();
  #locks = 0;

  constructor() {
    const relay = this;
    this.Socket = class extends Socket {
      constructor(url, protocol) {
        super(url, protocol);
        relay.sockets.push(this);
        relay.#news.dispatchEvent(new Event("socket"));
      }
    };
  }

  /** Resolves to the socket of this number, counted from 0, when it is there. */
  async socket(number) {
    while (this.sockets.length <= number) await new Promise((done) => this.#news.addEventListener("socket", done, { once: true }));
    return this.sockets[number];
  }

  /** Resolves to that socket, opened and welcomed. */
  async welcome(number, leaseMillis = 60_000) {
    const socket = await this.socket(number);
    socket.open();
    socket.say({ type: "welcome", connectionId: `c${number}`, agent: "scripted", leaseMillis });
    return socket;
  }

  /** Grants the latest request of a socket; returns what it said. */
  grant(socket, more = {}) {
    const { requestId, mode, t } = socket.latest("acquire");
    this.#locks += 1;
    const granted = { type: "granted", requestId, lockId: `lock${this.#locks}`, fencingToken: this.#locks, mode, echo: t, validMillis: 60_000, ...more };
    socket.say(granted);
    return granted;
  }
}

/** As much of a WebSocket as the client uses. */
class Socket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;

  readyState = 0;
  /** What the client sent. */
  sent = [];

  constructor(url, protocol) {
    this.url = url;
    this.protocol = protocol;
  }

  send(frame) {
    this.sent.push(JSON.parse(frame));
  }

  close(code, reason) {
    this.readyState = 3;
    this.closed = { code, reason };
  }

  /** The latest message of this type that the client sent. */
  latest(type) {
    return this.sent.findLast((message) => message.type === type);
  }

  types() {
    return this.sent.map(({ type }) => type);
  }

  open() {
    this.readyState = 1;
    this.onopen?.(new Event("open"));
  }

  /** A frame from the relay: a message, or raw data. */
  say(message) {
    const raw = typeof message === "string" || message instanceof ArrayBuffer;
    this.onmessage?.(new MessageEvent("message", { data: raw ? message : JSON.stringify(message) }));
  }

  /** The end of the connection, by default without a close frame. */
  cut(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.(new CloseEvent("close", { code, reason }));
  }
}
