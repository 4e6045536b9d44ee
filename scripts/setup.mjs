// Installs what the project needs and the machine lacks, and says so; skips what is there.
// Needed beforehand: Rust (rustup), Node and git. Where it may not install, it names exactly what is missing.
//
//   node scripts/setup.mjs          everything, for `npm test`
//   node scripts/setup.mjs build    only what `npm start` and `npm run build` need

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bold, dim, duration, isMain, lockedVersion, output, ownTools, root, run, which } from "./shell.mjs";

/** The oldest wasm-pack that knows `--profile` and `--no-gitignore`. */
const WASM_PACK = "0.15.1";

/**
 * Each need: `missing()` says what is missing or returns nothing; `install()` gets it; `hint` is for those who do it by hand.
 * In the order in which they depend on one another.
 */
const needs = [
  {
    name: "Rust",
    missing: () => (which("cargo") && which("rustup") ? undefined : "cargo and rustup"),
    hint: "install rustup: https://rustup.rs",
  },
  {
    name: "Rust toolchain",
    missing() {
      const wanted = readFileSync(join(root, "Cargo.toml"), "utf8").match(/rust-version = "(\d+)\.(\d+)/);
      const found = output("rustc", "--version")?.match(/(\d+)\.(\d+)/);
      const fresh = found && (+found[1] > +wanted[1] || (+found[1] === +wanted[1] && +found[2] >= +wanted[2]));
      return fresh ? undefined : `Rust ${wanted[1]}.${wanted[2]} or newer`;
    },
    install: () => run("rustup", ["update", "stable"]),
    hint: "rustup update stable",
  },
  {
    name: "Rust parts",
    missing() {
      const components = output("rustup", "component", "list", "--installed") ?? "";
      const lacking = ["clippy", "rustfmt"].filter((component) => !components.includes(component));
      return lacking.length ? lacking.join(" and ") : undefined;
    },
    install: () => run("rustup", ["component", "add", "clippy", "rustfmt"]),
    hint: "rustup component add clippy rustfmt",
    onlyForTests: true,
  },
  {
    name: "WebAssembly target",
    missing: () =>
      output("rustup", "target", "list", "--installed")?.includes("wasm32-unknown-unknown")
        ? undefined
        : "the target wasm32-unknown-unknown",
    install: () => run("rustup", ["target", "add", "wasm32-unknown-unknown"]),
    hint: "rustup target add wasm32-unknown-unknown",
  },
  {
    name: "C compiler",
    missing: () => (which("cc") ? undefined : "a C compiler and linker (cc)"),
    packages: ["build-essential"],
    hint: "Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install",
  },
  {
    name: "npm packages",
    missing() {
      const installed = readOr(installedLock(), "");
      return installed === lockHash() ? undefined : "the packages of package-lock.json";
    },
    async install() {
      await run("npm", ["ci", "--no-audit", "--no-fund"]);
      writeFileSync(installedLock(), lockHash());
    },
    hint: "npm ci",
  },
  {
    name: "wasm-bindgen",
    missing() {
      const version = lockedVersion("wasm-bindgen");
      return output("wasm-bindgen", "--version")?.endsWith(` ${version}`) ? undefined : `wasm-bindgen-cli ${version}`;
    },
    install: () => cargoInstall("wasm-bindgen-cli", lockedVersion("wasm-bindgen"), "wasm-bindgen"),
    get hint() {
      return `cargo install wasm-bindgen-cli --version ${lockedVersion("wasm-bindgen")}`;
    },
  },
  {
    name: "wasm-pack",
    missing: () => (atLeast(output("wasm-pack", "--version"), WASM_PACK) ? undefined : `wasm-pack ${WASM_PACK}`),
    install: () => cargoInstall("wasm-pack", WASM_PACK, "wasm-pack", ["--locked"]),
    hint: `cargo install --locked wasm-pack --version ${WASM_PACK}`,
  },
  {
    name: "Chromium",
    missing: () => (chromium() ? undefined : "Chromium or Chrome"),
    packages: ["chromium"],
    hint: "Debian: apt install chromium; or set CHROME to the path of a Chrome or Chromium",
    onlyForTests: true,
  },
  {
    name: "chromedriver",
    missing: () => (chromedriver() ? undefined : "chromedriver"),
    packages: ["chromium-driver"],
    hint: "Debian: apt install chromium-driver; or set CHROMEDRIVER to the path of the one that fits the browser",
    onlyForTests: true,
  },
  {
    name: "Redis",
    missing: () => (which("redis-server") || which("valkey-server") ? undefined : "redis-server"),
    packages: ["redis-server"],
    hint: "Debian, Ubuntu: apt install redis-server; macOS: brew install redis",
    onlyForTests: true,
  },
];

/** The browser that the tests drive. */
export const chromium = () =>
  process.env.CHROME || ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].map(which).find(Boolean);

/** Its WebDriver. */
export const chromedriver = () => process.env.CHROMEDRIVER || which("chromedriver");

/** Installs what is missing for `purpose`, `"build"` or `"all"`; exits with a list when something stays missing. */
export async function setup(purpose = "all") {
  const stillMissing = [];
  let installed = 0;
  for (const need of needs.filter((need) => purpose === "all" || !need.onlyForTests)) {
    const missing = need.missing();
    if (!missing) continue;
    const install = need.install ?? installPackages(need.packages);
    if (!install) {
      stillMissing.push({ need, missing });
      continue;
    }
    console.log(`${bold(`set-up: installing ${missing}`)} ${dim(`(${need.hint})`)}`);
    const begin = performance.now();
    try {
      await install();
    } catch (error) {
      stillMissing.push({ need, missing, error });
      continue;
    }
    const left = need.missing();
    if (left) stillMissing.push({ need, missing: left });
    else console.log(dim(`set-up: ${need.name}: there after ${duration(begin)}`));
    installed += 1;
  }
  if (stillMissing.length) {
    console.error(bold("\nset-up: these are missing and could not be installed from here:"));
    for (const { need, missing, error } of stillMissing) {
      console.error(`  - ${missing}${error ? ` (${error.message})` : ""}\n      ${need.hint}`);
    }
    process.exit(1);
  }
  console.log(dim(installed ? "set-up: complete" : "set-up: everything needed is there"));
}

/** How the machine's package manager gets `packages`, or undefined where this user may not use it. */
function installPackages(packages) {
  if (!packages || !which("apt-get")) return undefined;
  const prefix = process.getuid?.() === 0 ? [] : which("sudo") && output("sudo", "-n", "true") !== undefined ? ["sudo", "-n"] : undefined;
  if (!prefix) return undefined;
  const apt = (...args) => {
    const [command, ...rest] = [...prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", ...args];
    return run(command, rest);
  };
  return async () => {
    aptUpdated ??= apt("update");
    await aptUpdated;
    await apt("-o", "DPkg::Lock::Timeout=180", "install", "-y", "--no-install-recommends", ...packages);
  };
}

let aptUpdated;

/** A tool of another version stays what it is: this project's own then goes to `.cache/tools`. */
function cargoInstall(crate, version, binary, options = []) {
  const where = which(binary) ? ["--root", ownTools, "--force"] : [];
  return run("cargo", ["install", crate, "--version", version, ...options, ...where]);
}

function atLeast(found, wanted) {
  const parts = found?.match(/(\d+)\.(\d+)\.(\d+)/)?.slice(1).map(Number);
  if (!parts) return false;
  const limits = wanted.split(".").map(Number);
  const differs = parts.findIndex((part, index) => part !== limits[index]);
  return differs === -1 || parts[differs] > limits[differs];
}

const lockHash = () => createHash("sha256").update(readFileSync(join(root, "package-lock.json"))).digest("hex");
const installedLock = () => join(root, "node_modules", ".lockrelay-lock");

function readOr(path, otherwise) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return otherwise;
  }
}

if (isMain(import.meta)) {
  const purpose = process.argv[2] ?? "all";
  if (!["all", "build"].includes(purpose)) {
    console.error(`unknown purpose ${purpose}: "all" or "build"`);
    process.exit(2);
  }
  await setup(purpose);
}
