// The native test client (tests/src/bin/lockrelay-native-client.rs): the same session as in the page, over a real socket,
// without a browser. It is told what to do in lines on its standard input and answers in lines on its standard output.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { atEnd } from "./after.mjs";
import { relayBinary } from "../../../scripts/build.mjs";

/**
 * Starts a client and waits until it is connected.
 * @param {import("node:test").TestContext} t ends it
 * @param {string} locks the relay's WebSocket address
 */
export async function startNativeClient(t, locks) {
  const binary = join(dirname(process.env.LOCKRELAY_BIN ?? relayBinary()), "lockrelay-native-client");
  const child = spawn(binary, [locks], { stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit");
  atEnd(t, async () => {
    child.stdin.end();
    await exited;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  /** The next line that begins with `word`; what else happens meanwhile, such as a confirmed release, is of no interest. */
  const expect = async (word) => {
    for (;;) {
      const { value: line, done } = await lines.next();
      if (done || line.startsWith("rejected")) throw new Error(`the native client said "${line ?? "no more"}" where "${word}" was expected`);
      if (line.startsWith(word)) return line.slice(word.length).trim();
    }
  };
  await expect("connected");
  return {
    /** Waits for the lock without a limit; resolves to the fencing token. */
    async acquire(mutex) {
      child.stdin.write(`acquire ${mutex}\n`);
      return Number(await expect("granted"));
    },
    /** Gives the lock back. */
    release: () => child.stdin.write("release\n"),
  };
}
