// Redis' own record of what happened: its append-only file has the effects of every script, in the order in which the
// scripts ran. So the order in which the store enqueued requests is read from the store itself, after the fact, without
// any instrument in the relay.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Every command that the Redis started with `record: true` has executed, oldest first, each a list of texts. */
export async function commands({ folder }) {
  const log = join(folder, "appendonlydir");
  const files = (await readdir(log)).filter((name) => name.endsWith(".incr.aof")).sort();
  const texts = await Promise.all(files.map((name) => readFile(join(log, name))));
  return texts.flatMap(parse);
}

/** The file is a sequence of requests as a client would send them: `*2\r\n$3\r\nGET\r\n$1\r\na\r\n`. */
function parse(bytes) {
  const found = [];
  let at = 0;
  const number = () => {
    const end = bytes.indexOf("\r\n", at);
    const value = Number(bytes.subarray(at + 1, end));
    at = end + 2;
    return value;
  };
  while (at < bytes.length) {
    // Annotations such as `#TS:1700000000`.
    if (bytes[at] === 35) {
      at = bytes.indexOf("\n", at) + 1;
      continue;
    }
    const words = [];
    for (let left = number(); left > 0; left -= 1) {
      const length = number();
      words.push(bytes.toString("utf8", at, at + length));
      at += length + 2;
    }
    found.push(words);
  }
  return found;
}

/**
 * Every request for a mutex, in the order in which the store took them in: `{ id, waited, fencingToken }`.
 *
 * The relay's scripts keep an entry for each request in the field `e:<session>:<slot>` of the partition's hash: lock id,
 * state, mode, token, previous and next in its list, mutex, metadata, each on a line (see `prelude.lua`). A script writes once,
 * at its end. So a request was enqueued when its lock id is first written; those that one script took in are told apart by the
 * token, if they were granted at once, and by who stands behind whom, if they wait.
 */
export async function requestsInOrder(redis, mutex) {
  const found = new Map();
  for (const [command, , ...fields] of await commands(redis)) {
    if (command.toUpperCase() !== "HSET") continue;
    const entries = [];
    for (let at = 0; at < fields.length; at += 2) {
      if (!fields[at].startsWith("e:")) continue;
      const [id, state, , token, previous, , name] = fields[at + 1].split("\n");
      if (name === mutex) entries.push({ ref: fields[at].slice(2), id, state, token: Number(token), previous });
    }
    const fresh = entries.filter(({ id }) => !found.has(id));
    for (const { id, state } of inQueueOrder(fresh)) found.set(id, { id, waited: state === "w" });
    for (const { id, state, token } of entries) if (state !== "w") found.get(id).fencingToken = token;
  }
  return [...found.values()];
}

/** Who was granted at once by token; then who waits, each behind the one that it names as the previous. */
function inQueueOrder(entries) {
  const order = entries.filter(({ state }) => state !== "w").sort((one, other) => one.token - other.token);
  let waiting = entries.filter(({ state }) => state === "w");
  while (waiting.length) {
    const next = waiting.find(({ previous }) => !waiting.some(({ ref }) => ref === previous));
    order.push(next);
    waiting = waiting.filter((entry) => entry !== next);
  }
  return order;
}
