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
