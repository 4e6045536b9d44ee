// A TCP proxy that a test puts between a page and a relay, to cut the connection as a network does.

import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import { atEnd } from "./after.mjs";

/**
 * @param {import("node:test").TestContext} t ends it
 * @param {number} target the relay's port
 */
export async function startProxy(t, target) {
  const pairs = new Set();
  let closed = false;
  const server = createServer((near) => {
    if (closed) return near.destroy();
    const far = createConnection({ port: target, host: "127.0.0.1" });
    const pair = [near, far];
    pairs.add(pair);
    near.pipe(far);
    far.pipe(near);
    const end = () => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy();
  };
  atEnd(t, () => {
    cut();
    server.close();
  });
  return {
    port: server.address().port,
    locks: `ws://127.0.0.1:${server.address().port}/v1/locks`,
    /** How many connections go through it. */
    count: () => pairs.size,
    /** Cuts all connections and lets no new one through. */
    cut() {
      closed = true;
      cut();
    },
    /** Lets new connections through again. */
    mend() {
      closed = false;
    },
  };
}
