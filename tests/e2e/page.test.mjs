// The demo page itself: by keyboard, on a phone, with names that a screen reader can read out.

import assert from "node:assert/strict";
import { test } from "node:test";
import { By, devTools, openBrowser, prefer, resize } from "./support/browser.mjs";
import { startRelay } from "./support/processes.mjs";

test("the demo is used by keyboard alone", async (t) => {
  const relay = await startRelay(t, { demo: true });
  const page = await openBrowser(t, `${relay.origin}/`);
  const focused = () => page.executeScript("return document.activeElement.id || document.activeElement.name || document.activeElement.className");
  const press = (key) => page.actions().sendKeys(key).perform();
  const [TAB, LEFT, ENTER] = ["\uE004", "\uE012", "\uE007"];

  const stops = [];
  for (let count = 0; count < 14; count += 1) {
    await press(TAB);
    stops.push(await focused());
    if (stops.at(-1) === "mode") {
      await press(LEFT);
      assert.equal(await page.executeScript("return document.querySelector('input[name=mode]:checked').value"), "unlocked");
    }
    if (stops.at(-1) === "run") break;
  }
  assert.equal(stops.at(-1), "run", `tab goes over ${stops.join(", ")}`);
  const outline = await page.executeScript("return getComputedStyle(document.activeElement).outlineStyle");
  assert.notEqual(outline, "none", "the focus can be seen");
  await press(ENTER);
  await page.wait(async () => (await page.findElement(By.id("run")).getAttribute("data-done")) === "1", 30_000);
  assert.equal(await focused(), "run", "the focus stays where it was");
  assert.match(await page.findElement(By.id("status")).getAttribute("textContent"), /people bought 5 items/, "a screen reader is told");
});

test("every control has a name, and the colours have contrast, in light and dark", async (t) => {
  const relay = await startRelay(t, { demo: true });
  const page = await openBrowser(t, `${relay.origin}/`);
  const { nodes } = await devTools(page, "Accessibility.getFullAXTree");
  const roles = new Set(["button", "textbox", "spinbutton", "combobox", "radio", "link"]);
  const controls = nodes.filter((node) => !node.ignored && roles.has(node.role?.value));
  assert.ok(controls.length >= 12, `${controls.length} controls`);
  assert.deepEqual(controls.filter((node) => !node.name?.value).map((node) => node.role.value), []);

  // With an oversold run on show, every colour is in use.
  await page.findElement(By.css("input[value=unlocked] + span")).click();
  await page.findElement(By.id("run")).click();
  await page.wait(async () => (await page.findElements(By.css("#lanes [data-oversold='true']"))).length > 0, 30_000);
  for (const scheme of ["light", "dark"]) {
    await prefer(page, scheme, "reduce");
    const weak = await page.executeScript(contrasts);
    assert.deepEqual(weak, [], `${scheme}: text with less contrast than 4.5 to 1`);
  }
});

test("nothing is cut off on a phone", async (t) => {
  const relay = await startRelay(t, { demo: true });
  const page = await openBrowser(t);
  await resize(page, 375, 740);
  await page.get(`${relay.origin}/`);
  await page.findElement(By.id("run")).click();
  await page.wait(async () => (await page.findElement(By.id("run")).getAttribute("data-done")) === "1", 30_000);
  const { width, wide, small } = await page.executeScript(`
    const visible = (element) => element.getClientRects().length && !element.closest(".visually-hidden, .skip, pre");
    const all = [...document.querySelectorAll("body *")].filter(visible);
    return {
      width: document.documentElement.scrollWidth,
      wide: all.filter((element) => element.getBoundingClientRect().right > 376).map((element) => element.outerHTML.slice(0, 80)),
      small: all.filter((element) => element.matches("button, select, input:not([type=radio])"))
        .filter((element) => element.getBoundingClientRect().height < 32).map((element) => element.outerHTML.slice(0, 80)),
    };`);
  assert.equal(width, 375, "no scrolling sideways");
  assert.deepEqual(wide, []);
  assert.deepEqual(small, [], "large enough for a finger");
});

/** Runs in the page: the text whose contrast to the colour behind it is too weak. */
const contrasts = `
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (channels) => channels.slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }).reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length || element.closest(".visually-hidden, .skip")) continue;
    const [one, other] = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) weak.push(element.textContent.trim().slice(0, 30) + ": " + ratio.toFixed(2));
  }
  return weak;`;
