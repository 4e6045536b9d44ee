// What a page downloads: the package's files in `dist/`, compressed as a server sends them. Fails above the limit.
//
//   node scripts/size.mjs [FOLDER]

import { readFileSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";
import { root } from "./shell.mjs";

/** In bytes after gzip, of everything together. */
const LIMIT = 80 * 1024;

/** The parts, each with the files that belong to it; every file that a page loads must be in one. */
const PARTS = [
  { name: "WebAssembly", has: (file) => file.endsWith(".wasm") },
  { name: "its glue", has: (file) => file === "lockrelay.js" || file.startsWith("snippets/") },
  { name: "the wrapper", has: (file) => file.endsWith(".js") },
];

const folder = process.argv[2] ?? join(root, "dist");
const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} KB`;

const sizes = new Map(PARTS.map(({ name }) => [name, 0]));
for (const file of filesOf(folder)) {
  // Types and documents are for people and compilers; a page does not load them.
  if (/\.(d\.ts|md|json)$/.test(file)) continue;
  const part = PARTS.find(({ has }) => has(file));
  if (!part) fail(`size: nobody knows whether a page loads dist/${file}; say so in scripts/size.mjs`);
  sizes.set(part.name, sizes.get(part.name) + gzipSync(readFileSync(join(folder, file)), { level: 9 }).length);
}
const empty = [...sizes].find(([, size]) => size === 0);
if (empty) fail(`size: ${folder} has no file for ${empty[0]}; build it first: npm run build -- --client`);

const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
const parts = [...sizes].map(([name, size]) => `${name} ${kilobytes(size)}`).join(", ");
console.log(`figure: a page downloads ${kilobytes(total)} (gzip): ${parts}; the limit is ${kilobytes(LIMIT)}`);
if (total > LIMIT) fail(`size: the package is ${total - LIMIT} bytes over its limit`);

function filesOf(folder) {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
  } catch {
    return fail(`size: there is no ${folder}; build it first: npm run build -- --client`);
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
