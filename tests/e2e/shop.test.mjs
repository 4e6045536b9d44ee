// The demo, as a person uses it: 20 buyers on 5 items, without the lock and with it, on one relay and on two.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { By, complaints, openBrowser, picture, prefer, resize } from "./support/browser.mjs";
import { root, startRedis, startRelay } from "./support/processes.mjs";
import { buyersOnItems, choose, lanesOf, verdict } from "./support/shop.mjs";

test("20 buyers on 5 items, one relay and the memory store", async (t) => {
  const relay = await startRelay(t, { demo: true });
  const page = await openBrowser(t, `${relay.origin}/`);
  await buyersOnItems(page);
  assert.deepEqual(await complaints(page), []);
  await takePicture(page);
});

test("20 buyers on 5 items, spread over two relays of one Redis", async (t) => {
  const redis = await startRedis(t);
  const relays = [await startRelay(t, { demo: true, redis }), await startRelay(t, { demo: true, redis })];
  const page = await openBrowser(t, `${relays[0].origin}/?relays=${relays.map(({ origin }) => origin).join(",")}`);
  const onlooker = await openBrowser(t, `${relays[1].origin}/`);
  await buyersOnItems(page);

  for (const { origin } of relays) {
    const metrics = await (await fetch(`${origin}/metrics`)).text();
    assert.equal(Number(metrics.match(/^lockrelay_grants_total(?:\{.*\})? (\d+)/m)?.[1]), 10, "half of the buyers came through each relay");
  }
  const seen = await onlooker.wait(async () => {
    const lanes = await lanesOf(onlooker);
    return lanes.length === 20 && lanes.every(({ phase }) => phase === "done") && lanes;
  }, 20_000);
  assert.deepEqual(
    seen.map(({ token }) => token),
    (await lanesOf(page)).map(({ token }) => token),
    "somebody at the other relay sees the same run",
  );
});

test("two people buy the last item at two relays, and one of them gets it", async (t) => {
  const redis = await startRedis(t);
  const relays = [await startRelay(t, { demo: true, redis }), await startRelay(t, { demo: true, redis })];
  const people = [await openBrowser(t, `${relays[0].origin}/`), await openBrowser(t, `${relays[1].origin}/`)];
  for (const [index, person] of people.entries()) {
    await type(person, "name", `Person ${index + 1}`);
    await choose(person, "locked");
    await person.findElement(By.css("#pause option[value='1000']")).click();
  }
  await type(people[0], "stock-size", "1");
  await people[0].findElement(By.id("reset")).click();
  for (const person of people) await person.wait(async () => (await verdict(person)).items === 1, 10_000);

  await Promise.all(people.map((person) => person.findElement(By.id("buy")).click()));
  for (const person of people) {
    const lanes = await person.wait(async () => {
      const lanes = await lanesOf(person);
      return lanes.length === 2 && lanes.every(({ phase }) => phase === "done") && lanes;
    }, 20_000);
    assert.deepEqual(lanes.map(({ outcome }) => outcome).sort(), ["bought", "sold out"]);
    assert.deepEqual(await verdict(person), { verdict: "exact", sold: 1, items: 1 });
  }
});

async function type(page, id, value) {
  const field = await page.findElement(By.id(id));
  await field.clear();
  await field.sendKeys(value, "\t");
}

/** The picture of the README: the run with the lock, beside the result without. Kept only with UPDATE_SCREENSHOT=1. */
async function takePicture(page) {
  await resize(page, 1180, 900);
  await prefer(page, "light");
  const image = await picture(page, { height: 1010 });
  assert.ok(image.length > 40_000, `the picture has ${image.length} bytes: more than an empty page's`);
  assert.equal(image.readUInt32BE(16), 1180, "as wide as the page");
  if (process.env.UPDATE_SCREENSHOT === "1") {
    await mkdir(join(root, "docs"), { recursive: true });
    await writeFile(join(root, "docs", "demo.png"), image);
  }
}
