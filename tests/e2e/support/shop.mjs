// The demo's page, used as a person uses it.

import assert from "node:assert/strict";
import { By } from "./browser.mjs";

/** Has 20 buyers buy 5 items without the lock, then with it, and checks what the page shows. Returns how many were sold. */
export async function buyersOnItems(page) {
  await page.findElement(By.css(".presets [data-buyers='20']")).click();

  await choose(page, "unlocked");
  await send(page, 1);
  const without = await verdict(page);
  assert.equal(without.verdict, "oversold", "without the lock the shop oversells");
  assert.equal(without.items, 5);
  assert.ok(without.sold > 5, `${without.sold} orders for 5 items`);
  assert.match(await text(page, "verdict"), /people bought 5 items: \d+ too many/);
  assert.ok((await page.findElements(By.css("#orders li[data-oversold='true']"))).length > 0, "the orders too many are marked");

  await choose(page, "locked");
  await send(page, 2);
  assert.deepEqual(await verdict(page), { verdict: "exact", sold: 5, items: 5 });
  assert.equal(await text(page, "stock"), "0");
  const lanes = await lanesOf(page);
  assert.equal(lanes.length, 20);
  assert.equal(lanes.filter(({ outcome }) => outcome === "bought").length, 5);
  assert.equal(lanes.filter(({ outcome }) => outcome === "sold out").length, 15);
  assert.equal(new Set(lanes.map(({ token }) => token)).size, 20, "each hold has a fencing token of its own");
  const bars = await page.executeScript(
    `return [...document.querySelectorAll(".lanes .hold")].map((bar) => [parseFloat(bar.style.left), parseFloat(bar.style.width)])`,
  );
  bars.sort(([one], [other]) => one - other);
  for (let index = 1; index < bars.length; index += 1) {
    const [left, width] = bars[index - 1];
    assert.ok(left + width <= bars[index][0] + 1e-6, `holds ${index - 1} and ${index} overlap on the timeline: ${bars}`);
  }
  assert.ok(bars[0][1] > 2, "the first hold can be seen");
  return { without: without.sold, with: (await verdict(page)).sold };
}

const text = async (page, id) => page.executeScript("return document.getElementById(arguments[0]).textContent", id);
/** Chooses to buy with the lock (`locked`) or without (`unlocked`). */
export const choose = (page, mode) => page.findElement(By.css(`input[value=${mode}] + span`)).click();

async function send(page, time) {
  await page.findElement(By.id("run")).click();
  await page.wait(async () => (await page.findElement(By.id("run")).getAttribute("data-done")) === String(time), 60_000);
  // The last event comes by the stream and may follow the last answer.
  await page.wait(async () => (await lanesOf(page)).every(({ phase }) => phase === "done"), 10_000);
}

/** What the page says of the run. */
export const verdict = (page) =>
  page.executeScript(
    `const { verdict, sold, items } = document.getElementById("verdict").dataset;
     return { verdict, sold: Number(sold), items: Number(items) }`,
  );

/** What the timeline shows of each buyer. */
export const lanesOf = (page) => page.executeScript(`return [...document.querySelectorAll("#lanes li")].map((lane) => ({ ...lane.dataset }))`);
