// Where the tests' pages come from, and whom they tell what happened: an HTTP server in the test's own process, so that a
// test awaits what a page does as an event. It serves an empty page, and the package as it is published.

import { EventEmitter, once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { atEnd } from "./after.mjs";
import { root } from "./processes.mjs";

const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm" };
const EMPTY = "<!doctype html><meta charset=utf-8><title>A page</title><link rel=icon href=data:,>";

/**
 * @param {import("node:test").TestContext} t ends it
 * @param {Record<string, (body: any) => any>} [answers] what `POST /name` answers
 */
export async function startStage(t, answers = {}) {
  const news = new EventEmitter();
  const told = [];
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://stage").pathname);
    try {
      if (request.method === "POST") {
        let text = "";
        for await (const part of request) text += part;
        const body = JSON.parse(text);
        const answer = path === "/tell" ? tell(body) : await answers[path.slice(1)](body);
        response.setHeader("content-type", "application/json");
        return response.end(JSON.stringify(answer ?? {}));
      }
      if (path === "/") {
        response.setHeader("content-type", "text/html");
        return response.end(EMPTY);
      }
      const file = await readFile(join(root, "dist", path.replace(/^\/lockrelay\//, "")));
      response.setHeader("content-type", TYPES[extname(path)] ?? "application/octet-stream");
      response.end(file);
    } catch (error) {
      response.statusCode = 500;
      response.end(String(error));
    }
  });

  function tell(note) {
    told.push({ ...note, at: performance.now() });
    news.emit("told");
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  atEnd(t, () => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    told,
    /** Resolves to the first note with this `what` that any page tells or has told; rejects after `limit` milliseconds. */
    async note(what, limit = 30_000) {
      const signal = AbortSignal.timeout(limit);
      for (;;) {
        const found = told.find((note) => note.what === what);
        if (found) return found;
        await once(news, "told", { signal }).catch(() => {
          throw new Error(`no page told "${what}" within ${limit} ms; told: ${JSON.stringify(told)}`);
        });
      }
    },
  };
}
