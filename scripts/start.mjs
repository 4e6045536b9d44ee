// `npm start`: installs what is missing, builds, and serves the demo until it is stopped.
//
//   PORT=8787         where it listens; 0 takes a free port
//   HOST=127.0.0.1    0.0.0.0 lets other machines of your network join
//   REDIS_URL=...     keeps locks, stock and orders in that Redis instead of in memory; start a second one on another PORT then

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { bold, root } from "./shell.mjs";
import { buildClient, buildRelay } from "./build.mjs";
import { setup } from "./setup.mjs";

const { PORT = "8787", HOST = "127.0.0.1", REDIS_URL } = process.env;

try {
  await setup("build");
  const relay = await buildRelay();
  await buildClient();
  serve(relay);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

function serve(relay) {
  const options = ["--listen", `${HOST}:${PORT}`, "--config", "www/demo.toml", "--www", "www", "--demo"];
  if (REDIS_URL) options.push("--redis", REDIS_URL);
  const child = spawn(relay, options, { cwd: root, stdio: ["inherit", "pipe", "inherit"] });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const url = line.match(/^listening on (http:\/\/\S+)/)?.[1];
    if (!url) return console.log(line);
    console.log(`\nThe demo is open at ${bold(url.replace("0.0.0.0", "127.0.0.1"))}`);
    console.log(`Locks, stock and orders are ${REDIS_URL ? "in Redis" : "in memory (REDIS_URL=redis://... for Redis)"}. Ctrl-C stops it.`);
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill("SIGTERM"));
  child.on("error", (error) => {
    console.error(error.message);
    process.exit(1);
  });
  child.on("exit", (code) => process.exit(code ?? 1));
}
