// Builds the relay, the client's WebAssembly and the npm package `dist/`, and copies the package to the demo page.
//
//   node scripts/build.mjs              the relay quickly, as the tests and the demo use it
//   node scripts/build.mjs --release    the relay optimised, as one deploys it
//   node scripts/build.mjs --client     the package alone

import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { bold, dim, duration, isMain, root, run, targetFolder } from "./shell.mjs";
import { setup } from "./setup.mjs";

/** What of wasm-pack's output belongs in the package. Its own types and package.json are replaced by hand-written ones. */
const GLUE = ["lockrelay.js", "lockrelay_bg.wasm", "snippets"];

/** Builds the relay; returns the path of its binary. */
export async function buildRelay({ release = false } = {}) {
  await step(`the relay${release ? ", optimised" : ""}`, () =>
    run("cargo", ["build", "-p", "lockrelay", "--bin", "lockrelay", ...(release ? ["--release"] : [])]),
  );
  return relayBinary({ release });
}

/** Where the relay's binary is once built. */
export const relayBinary = ({ release = false } = {}) => join(targetFolder(), release ? "release" : "debug", "lockrelay");

/** Builds the client and assembles `dist/`, the files of the npm package, and `www/lockrelay/`, the demo page's copy. */
export async function buildClient() {
  const sources = fingerprint();
  if (isBuilt(sources)) return console.log(dim("build: the client and its package are up to date"));
  const made = join(root, "client-wasm", "pkg");
  await step("the client (WebAssembly)", () => {
    const options = ["--target", "web", "--profile", "client", "--no-gitignore", "--no-pack", "--out-name", "lockrelay"];
    return run("wasm-pack", ["build", "client-wasm", ...options]);
  });
  await step("the package dist/", () => {
    const dist = join(root, "dist");
    rmSync(dist, { recursive: true, force: true });
    mkdirSync(dist);
    for (const name of GLUE.filter((name) => existsSync(join(made, name)))) cpSync(join(made, name), join(dist, name), { recursive: true });
    const written = join(root, "client-wasm", "js");
    for (const name of readdirSync(written)) cpSync(join(written, name), join(dist, name), { recursive: true });
    const demo = join(root, "www", "lockrelay");
    rmSync(demo, { recursive: true, force: true });
    cpSync(dist, demo, { recursive: true });
  });
  mkdirSync(dirname(BUILT), { recursive: true });
  writeFileSync(BUILT, sources);
}

/** Says of which sources `dist/` was made. */
const BUILT = join(root, ".cache", "client-built");

/** What the package is made of. */
const SOURCES = ["client-wasm/Cargo.toml", "client-wasm/src", "client-wasm/js", "protocol/Cargo.toml", "protocol/src", "Cargo.toml", "Cargo.lock", "package-lock.json", "scripts/build.mjs"];

const isBuilt = (sources) =>
  existsSync(BUILT) && readFileSync(BUILT, "utf8") === sources && ["dist", "www/lockrelay"].every((folder) => existsSync(join(root, folder, "index.js")));

function fingerprint() {
  const hash = createHash("sha256");
  const add = (path) => {
    if (statSync(join(root, path)).isDirectory()) return readdirSync(join(root, path)).sort().forEach((name) => add(`${path}/${name}`));
    hash.update(`${path}\0`).update(readFileSync(join(root, path))).update("\0");
  };
  SOURCES.filter((path) => existsSync(join(root, path))).forEach(add);
  return hash.digest("hex");
}

async function step(what, work) {
  console.log(bold(`build: ${what}`));
  const begin = performance.now();
  await work();
  console.log(dim(`build: ${what} took ${duration(begin)}`));
}

if (isMain(import.meta)) {
  const options = process.argv.slice(2);
  const unknown = options.find((option) => !["--release", "--client"].includes(option));
  if (unknown) {
    console.error(`unknown option ${unknown}: --release or --client`);
    process.exit(2);
  }
  try {
    await setup("build");
    if (!options.includes("--client")) await buildRelay({ release: options.includes("--release") });
    await buildClient();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
