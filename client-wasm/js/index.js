// The package's entry: starts the WebAssembly core on the first connect(), and nothing before. Safe to import anywhere.

import start, { DistributedLock, LockClient, openClient } from "./lockrelay.js";
import { LockError, support } from "./support.js";

export { DistributedLock, LockClient, LockError };

if (typeof Symbol.asyncDispose === "symbol") {
  DistributedLock.prototype[Symbol.asyncDispose] = function () {
    return this.release();
  };
  LockClient.prototype[Symbol.asyncDispose] = function () {
    return this.close();
  };
}

const PATH = "/v1/locks";
const OPTIONS = ["token", "wasm"];
let started;

/** Connects to a relay, or to the first of several that answers. Resolves when the core is ready, not when a relay is. */
export async function connect(urls, options = {}) {
  const addresses = (Array.isArray(urls) ? urls : [urls]).map(address);
  if (addresses.length === 0) throw invalid("urls is empty; give at least one relay URL");
  if (options === null || typeof options !== "object") throw invalid(`options is ${support.describe(options)}; it must be an object`);
  for (const name of Object.keys(options)) {
    if (!OPTIONS.includes(name)) throw invalid(`there is no option "${name}"; the options are ${OPTIONS.join(", ")}`);
  }
  const { token, wasm } = options;
  if (token !== undefined && typeof token !== "string" && typeof token !== "function") {
    throw invalid(`token is ${support.describe(token)}; it must be a string, or a function that returns one or a promise of one`);
  }
  // One module for all clients of the page. A failed start can be tried again, perhaps with another `wasm`.
  started ??= start(wasm === undefined ? undefined : { module_or_path: wasm }).catch((error) => {
    started = undefined;
    throw error;
  });
  await started;
  return openClient(addresses, token, seed(), support);
}

const invalid = (message) => new LockError("INVALID_ARGUMENT", message);

function address(text) {
  let url;
  try {
    url = new URL(String(text), globalThis.location?.href);
  } catch {
    throw invalid(`the relay URL ${support.describe(text)} cannot be read; write it as wss://host/v1/locks, or as a path of this page's host`);
  }
  url.protocol = { "http:": "ws:", "https:": "wss:" }[url.protocol] ?? url.protocol;
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw invalid(`the relay URL ${support.describe(text)} has the scheme ${url.protocol}; it must be ws:, wss:, http: or https:`);
  }
  if (url.search || url.hash || url.username || url.password) {
    throw invalid(`the relay URL ${support.describe(url.origin + url.pathname)} must not have a query, a fragment or credentials; use the option "token"`);
  }
  if (url.pathname === "/" || url.pathname === "") url.pathname = PATH;
  return url.href;
}

function seed() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high & 0x1fffff) * 2 ** 32 + low;
}
