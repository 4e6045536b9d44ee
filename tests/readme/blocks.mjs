// The README's TypeScript blocks: taken out, and compiled against the package's types.

import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { root } from "../e2e/support/processes.mjs";

const FOLDER = join(root, ".cache", "readme");

/** Every fenced block of TypeScript: its name, which stands behind `ts`, its code and its line in the README. */
export async function blocksOf(file = "README.md") {
  const text = await readFile(join(root, file), "utf8");
  return [...text.matchAll(/^```(?:ts|typescript)\b[ \t]*(.*)\n([^]*?)^```$/gm)].map(({ 1: name, 2: code, index }) => ({
    name: name.trim(),
    code,
    line: text.slice(0, index).split("\n").length,
  }));
}

/**
 * Compiles the blocks, each as a module of its own. `exported` names what a check wants of a block's variables.
 * @returns {Promise<Record<string, string>>} JavaScript by name
 * @throws with the compiler's messages
 */
export async function compile(blocks, exported = {}) {
  await rm(FOLDER, { recursive: true, force: true });
  await mkdir(FOLDER, { recursive: true });
  const path = (name, ending) => join(FOLDER, `${name}.${ending}`);
  // Without any import or export a file would be a script, and its variables global.
  const module = ({ name, code }) => `${code}export { ${(exported[name] ?? []).join(", ")} };\n`;
  await Promise.all(blocks.map((block) => writeFile(path(block.name, "ts"), module(block))));
  await tsc();
  const compiled = blocks.map(async ({ name }) => [name, await readFile(join(FOLDER, "out", ".cache", "readme", `${name}.js`), "utf8")]);
  return Object.fromEntries(await Promise.all(compiled));
}

function tsc() {
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  return new Promise((done, failed) => {
    execFile(process.execPath, [compiler, "-p", join(root, "tests", "readme")], { cwd: root }, (error, out, complaints) => {
      if (error) failed(new Error(`the README's code does not compile:\n${out}${complaints}`));
      else done();
    });
  });
}
