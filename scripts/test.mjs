// `npm test`: installs what is missing, then runs everything. Each step prints its headline and time, and its output when
// it fails. The last line sums up all runners: `N passed, N failed`.
//
//   node scripts/test.mjs rust e2e    only the steps whose key begins with one of these words

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { bold, capture, dim, duration, red, root } from "./shell.mjs";
import { relayBinary } from "./build.mjs";
import { chromedriver, chromium, setup } from "./setup.mjs";

const WASM = ["--target", "wasm32-unknown-unknown", "-p", "lockrelay-protocol", "-p", "lockrelay-client"];
const STRICT = { RUSTDOCFLAGS: "-D warnings" };

/** Each step: a key to choose it by, a headline, and work that returns `{ passed, failed, text }`. */
const steps = [
  { key: "format", title: "Formatting", work: () => one("cargo", ["fmt", "--all", "--check"]) },
  { key: "lint", title: "Clippy, native", work: () => one("cargo", ["clippy", "-q", "--workspace", "--all-targets", "--", "-D", "warnings"]) },
  { key: "lint-wasm", title: "Clippy, WebAssembly", work: () => one("cargo", ["clippy", "-q", ...WASM, "--all-targets", "--", "-D", "warnings"]) },
  { key: "doc", title: "Documentation, native", work: () => one("cargo", ["doc", "-q", "--workspace", "--no-deps"], STRICT) },
  { key: "doc-wasm", title: "Documentation, WebAssembly", work: () => one("cargo", ["doc", "-q", ...WASM, "--no-deps"], STRICT) },
  {
    key: "rust",
    title: "Native tests: protocol, stores, sessions, relays on a real Redis",
    work: async () => {
      const built = await one("cargo", ["build", "-q", "--workspace", "--bins"]);
      return built.failed ? built : counted("cargo", ["test", "--workspace", "--no-fail-fast", "--", "--show-output"], RUST);
    },
  },
  { key: "build", title: "The package, built as published", work: () => attempt(buildClientQuietly) },
  { key: "size", title: "Size of the package", work: () => script("scripts/size.mjs") },
  { key: "wasm", title: "The client in headless Chromium", work: () => withRelay(inBrowser) },
  { key: "readme", title: "The README's code, compiled and run in Chromium", work: () => nodeTests("tests/readme") },
  { key: "e2e", title: "End to end: browsers, relays, Redis, faults", work: () => nodeTests("tests/e2e") },
];

/** How the runners tell their counts. */
const RUST = { passed: /^test result: .*? (\d+) passed; /gm, failed: /^test result: .*?; (\d+) failed; /gm };
const NODE = { passed: /^ℹ pass (\d+)/gm, failed: /^ℹ (?:fail|cancelled) (\d+)/gm };

/**
 * The tests that wasm-pack runs in a page. Now and then a freshly started Chromium never loads the page, and no test begins:
 * then, and only then, they are run once more.
 */
async function inBrowser(env) {
  const first = await counted("wasm-pack", wasmPack(), RUST, env);
  if (!first.failed || !first.text.includes("Timed out receiving message from renderer")) return first;
  const again = await counted("wasm-pack", wasmPack(), RUST, env);
  return { ...again, text: `Chromium did not load the page the first time.\n${again.text}` };
}

function wasmPack() {
  return ["test", "--headless", "--chrome", "--chromedriver", chromedriver(), "client-wasm"];
}

/** A command that either passes or fails as a whole. */
async function one(command, args, env) {
  const { code, text } = await capture(command, args, { env });
  return code === 0 ? { passed: 1, failed: 0, text } : { passed: 0, failed: 1, text };
}

/** A test runner: its own counts; a runner that fails without naming a failed test counts as one failure. */
async function counted(command, args, pattern, env) {
  const { code, text } = await capture(command, args, { env });
  const sum = (which) => [...text.matchAll(pattern[which])].reduce((total, found) => total + Number(found[1]), 0);
  const passed = sum("passed");
  const failed = sum("failed");
  if (code === 0 && passed === 0) return { passed, failed: 1, text: `${text}\nNot one test ran.` };
  return { passed, failed: code === 0 ? failed : Math.max(failed, 1), text };
}

/** A script of this project that checks something. */
const script = (path) => one(process.execPath, [path]);

/** `node --test` over a folder, one file at a time: each starts relays and browsers of its own. */
async function nodeTests(folder) {
  const args = ["--test", "--test-concurrency=1", "--test-reporter=spec"];
  const { code, text } = await capture("sh", ["-c", `ls ${folder}/*.test.mjs`]);
  if (code !== 0) return { passed: 0, failed: 1, text };
  const env = { NO_COLOR: "1", CHROME: chromium(), CHROMEDRIVER: chromedriver(), LOCKRELAY_BIN: relayBinary() };
  return counted(process.execPath, [...args, ...text.trim().split("\n")], NODE, env);
}

async function attempt(work) {
  try {
    const text = await work();
    return { passed: 1, failed: 0, text };
  } catch (error) {
    return { passed: 0, failed: 1, text: String(error.message) };
  }
}

async function buildClientQuietly() {
  const { code, text } = await capture(process.execPath, ["scripts/build.mjs", "--client"]);
  if (code !== 0) throw new Error(text);
  return text;
}

/** Runs `work` with a relay for the tests in the browser, on the memory store, and tells them its address at build time. */
async function withRelay(work) {
  // The same port each time, when it is free: the address is compiled into the tests, and a new one would build them anew.
  const port = (await isFree(28787)) ? 28787 : 0;
  const child = spawn(relayBinary(), ["--listen", `127.0.0.1:${port}`, "--config", join("tests", "relay.toml")], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  child.stderr.on("data", (part) => (printed += part));
  const ended = new Promise((done) => child.on("close", done).on("error", (error) => done((printed += error))));
  const listening = new Promise((done) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = line.match(/^listening on http:\/\/(\S+?)\/?$/);
      if (found) done(found[1]);
    });
  });
  const address = await Promise.race([listening, ended.then(() => undefined)]);
  if (!address) return { passed: 0, failed: 1, text: `the relay for the browser did not start:\n${printed}` };
  try {
    return await work({ RELAY_URL: `ws://${address}/v1/locks` });
  } finally {
    child.kill("SIGTERM");
    await ended;
  }
}

function isFree(port) {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
  });
}

const chosen = process.argv.slice(2);
const begin = performance.now();
await setup("all");
let passed = 0;
let failed = 0;
const broken = [];
for (const step of steps.filter(({ key }) => chosen.length === 0 || chosen.some((word) => key.startsWith(word)))) {
  console.log(`\n${bold(step.title)} ${dim(`[${step.key}]`)}`);
  const since = performance.now();
  const result = await step.work();
  passed += result.passed;
  failed += result.failed;
  if (result.failed) {
    broken.push(step.title);
    console.log(result.text);
  }
  console.log(`  ${result.failed ? red("FAILED") : "ok"}: ${result.passed} passed, ${result.failed} failed, ${duration(since)}`);
  for (const note of notes(result.text)) console.log(dim(`  ${note}`));
}

/** Figures that a test wants told even when it passes: its lines beginning with `figure:`. */
function notes(text = "") {
  return [...text.matchAll(/^\s*(?:ℹ )?figure: (.*)$/gm)].map((found) => found[1]);
}

console.log(`\n${duration(begin)}${broken.length ? `; failed: ${broken.join("; ")}` : ""}`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
