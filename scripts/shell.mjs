// What every script here needs: where the project is, how to run a command, how to find one.
// No policy: what to run is decided in setup, build, start and test.

import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The root of the working copy. */
export const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** Tools that this project installs for itself alone, because the machine has another version of them. */
export const ownTools = join(root, ".cache", "tools");

// Found first: the project's own tools, then npm's (wasm-opt), then cargo's, then the machine's.
process.env.PATH = [
  join(ownTools, "bin"),
  join(root, "node_modules", ".bin"),
  process.env.PATH,
  join(process.env.CARGO_HOME ?? join(homedir(), ".cargo"), "bin"),
].join(delimiter);

const colour = process.stdout.isTTY && !process.env.NO_COLOR;
export const bold = (text) => (colour ? `\x1b[1m${text}\x1b[0m` : text);
export const dim = (text) => (colour ? `\x1b[2m${text}\x1b[0m` : text);
export const red = (text) => (colour ? `\x1b[31m${text}\x1b[0m` : text);

/** The full path of a command, or undefined. */
export function which(name) {
  for (const folder of process.env.PATH.split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** What a short command prints, or undefined when it is missing or fails. */
export function output(command, ...args) {
  const done = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  return done.status === 0 ? done.stdout.trim() : undefined;
}

/** Runs a command in the project's root with its output shown; throws when it fails. */
export async function run(command, args, { env = {}, cwd = root } = {}) {
  const { code } = await capture(command, args, { env, cwd, show: true });
  if (code !== 0) throw new Error(`\`${[command, ...args].join(" ")}\` failed (${code})`);
}

/** Runs a command and returns its exit code and everything that it printed; `show` passes the output on instead. */
export function capture(command, args, { env = {}, cwd = root, show = false } = {}) {
  return new Promise((done) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: show ? "inherit" : ["ignore", "pipe", "pipe"],
    });
    const parts = [];
    child.stdout?.on("data", (part) => parts.push(part));
    child.stderr?.on("data", (part) => parts.push(part));
    child.on("error", (error) => done({ code: 127, text: String(error) }));
    child.on("close", (code, signal) => done({ code: code ?? signal, text: Buffer.concat(parts).toString() }));
  });
}

/** Where cargo puts what it builds. */
export function targetFolder() {
  const metadata = output("cargo", "metadata", "--format-version", "1", "--no-deps");
  return metadata ? JSON.parse(metadata).target_directory : join(root, "target");
}

/** The version of a crate in Cargo.lock. */
export function lockedVersion(crate) {
  const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
  const found = lock.match(new RegExp(`name = "${crate}"\\nversion = "([^"]+)"`));
  if (!found) throw new Error(`Cargo.lock names no ${crate}`);
  return found[1];
}

/** `1 min 4 s`, `3.2 s`: how long something took. */
export function duration(since) {
  const seconds = (performance.now() - since) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** Whether this file is what `node` was asked to run, and not imported by another. */
export const isMain = (meta) => process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(meta.url);
