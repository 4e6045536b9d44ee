// Browsers for the tests, driven through WebDriver: Debian's Chromium, or the one that CHROME and CHROMEDRIVER name.
// What only Chromium can do (media emulation, a phone's size) goes through its DevTools and is named `devTools`.

import { readFileSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Builder, By, until } from "selenium-webdriver";
import chrome from "selenium-webdriver/chrome.js";
import { atEnd } from "./after.mjs";
import { chromedriver, chromium } from "../../../scripts/setup.mjs";

export { By, until };

const QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
// Pages in the background count as much as the one in front: with throttled timers a test would measure Chromium's thrift.
const AWAKE = ["--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"];

/**
 * A browser of its own, with one page at `url`.
 * @param {import("node:test").TestContext} t ends it
 */
export async function openBrowser(t, url) {
  const options = new chrome.Options();
  options.setChromeBinaryPath(chromium());
  options.addArguments(...QUIET, ...AWAKE, "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1280,960");
  options.setLoggingPrefs({ browser: "ALL" });
  // What the browser leaves behind when it is killed goes with this folder.
  const temporary = await mkdtemp(join(tmpdir(), "lockrelay-browser-"));
  const service = new chrome.ServiceBuilder(chromedriver()).setEnvironment({ ...process.env, TMPDIR: temporary });
  const driver = await new Builder().forBrowser("chrome").setChromeOptions(options).setChromeService(service).build();
  atEnd(t, async () => {
    await driver.quit().catch(() => {});
    await rm(temporary, { recursive: true, force: true, maxRetries: 5 });
  });
  await driver.manage().setTimeouts({ script: 180_000, pageLoad: 30_000 });
  if (url) await driver.get(url);
  return driver;
}

/** Runs `work`, an async function without outside names, in the page with `args`; resolves to what it returns. */
export async function inPage(driver, work, ...args) {
  const { value, error } = await driver.executeAsyncScript(
    `const done = arguments[arguments.length - 1];
     Promise.resolve((${work})(...Array.from(arguments).slice(0, -1)))
       .then((value) => done({ value }), (error) => done({ error: String(error?.stack ?? error) }));`,
    ...args,
  );
  if (error) throw new Error(`in the page: ${error}`);
  return value;
}

/** A command to Chromium's DevTools. */
export const devTools = (driver, command, parameters = {}) => driver.sendAndGetDevToolsCommand(command, parameters);

/** Gives the page a window of this size; below 500 pixels it is a phone's. */
export const resize = (driver, width, height) =>
  devTools(driver, "Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 500 });

/** `light` or `dark`. */
export const prefer = (driver, scheme, motion = "no-preference") =>
  devTools(driver, "Emulation.setEmulatedMedia", {
    features: [
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: motion },
    ],
  });

/** A picture of the whole page, as PNG. */
export async function picture(driver, { height } = {}) {
  const clip = await driver.executeScript(
    "const page = document.documentElement; return { x: 0, y: 0, width: page.clientWidth, height: page.scrollHeight, scale: 1 }",
  );
  if (height) clip.height = Math.min(height, clip.height);
  const { data } = await devTools(driver, "Page.captureScreenshot", { captureBeyondViewport: true, format: "png", clip });
  return Buffer.from(data, "base64");
}

/** What the page complained about on its console. */
export async function complaints(driver) {
  const entries = await driver.manage().logs().get("browser");
  return entries.filter(({ level }) => level.name === "SEVERE").map(({ message }) => message);
}

/** Kills the processes that run the browser's pages, as a crash or the system's out-of-memory killer does; tells how many. */
export async function killPages(driver) {
  const browser = (await driver.getCapabilities()).get("goog:processID");
  const children = new Map();
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    // `pid (name) state parent ...`, and the name may have spaces and parentheses.
    const parent = Number(read(`/proc/${name}/stat`).split(") ").at(-1).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const below = (pid) => (children.get(pid) ?? []).flatMap((child) => [child, ...below(child)]);
  const pages = below(browser).filter((pid) => read(`/proc/${pid}/cmdline`).includes("--type=renderer"));
  for (const pid of pages) process.kill(pid, "SIGKILL");
  return pages.length;
}

/** A file's text, or nothing when the process has ended meanwhile. */
function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
