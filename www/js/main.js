// Wires the page: what a person does to buyers and shop, and what happens in the shop to the page.

import { Buyer, arriveAll } from "./buyer.js";
import { buyerNames, ownName } from "./names.js";
import { Run } from "./run.js";
import { Shop, watch } from "./shop.js";
import { showOrders, showResult, showShelf } from "./shelf.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);

// `?relays=http://127.0.0.1:8787,http://127.0.0.1:8788`: buyers take turns at several relays of one Redis.
const relays = new URLSearchParams(location.search).get("relays")?.split(",").filter(Boolean) ?? [];
if (relays.length === 0) relays.push(location.origin);

const shop = new Shop(location.origin);
const run = new Run();
const timeline = new Timeline({ lanes: $("lanes"), axis: $("axis"), empty: $("empty") });
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// What the server's clock is behind this page's, in milliseconds: the least that was seen, as delays only add to it.
let behind = Infinity;
const serverNow = () => Date.now() - (Number.isFinite(behind) ? behind : 0);

let drawing = false;

/** Draws now, and on while something moves: with each frame, or a few times a second for those who prefer less motion. */
function draw() {
  if (drawing) return;
  drawing = true;
  const frame = () => {
    showShelf(run);
    showOrders(run);
    if (run.mode === "locked" || run.mode === "unlocked") showResult(run);
    timeline.draw(run, serverNow());
    drawing = run.open(serverNow()).length > 0;
    if (drawing) next(frame);
  };
  next(frame);
}

const next = (frame) => (calm.matches ? setTimeout(frame, 250) : requestAnimationFrame(frame));

watch(shop.base, {
  onEvent(event) {
    behind = Math.min(behind, Date.now() - event.at);
    run.add(event);
    draw();
  },
  onOpen: () => showLink("open", relays.length > 1 ? `Live, ${relays.length} relays` : "Live"),
  onDown: () => showLink("down", "Reconnecting"),
});

function showLink(state, text) {
  $("link").dataset.state = state;
  $("link-text").textContent = text;
}

const isLocked = () => document.querySelector("input[name=mode]:checked").value === "locked";
const number = (id) => {
  const field = $(id);
  const value = Math.round(field.valueAsNumber) || Number(field.defaultValue);
  return Math.min(Number(field.max), Math.max(Number(field.min), value));
};
const payMillis = () => Number($("pause").value);

/** Tells people who listen to the page rather than look at it. */
const announce = (text) => ($("status").textContent = text);

$("run").addEventListener("click", async () => {
  // Not `disabled`: that would take the focus from whoever pressed it by keyboard.
  if ($("run").ariaDisabled) return;
  const [buyers, items, locked] = [number("buyers"), number("stock-size"), isLocked()];
  $("run").ariaDisabled = "true";
  $("run").dataset.busy = "";
  try {
    announce(`${buyers} buyers on ${items} items, ${locked ? "with Lockrelay" : "without a lock"}.`);
    const ready = await arriveAll(buyerNames(buyers).map((name, index) => ({ name, relay: relays[index % relays.length], locked })));
    await shop.reset(items);
    const outcomes = await Promise.all(ready.map((buyer) => buyer.buy(payMillis())));
    const bought = outcomes.filter((outcome) => outcome === "bought").length;
    const failed = outcomes.filter((outcome) => outcome === "failed").length;
    announce(`${bought} people bought ${items} items.${failed ? ` ${failed} failed.` : ""}`);
    $("run").dataset.done = String(Number($("run").dataset.done ?? 0) + 1);
  } catch (error) {
    announce(`That failed: ${error.message}`);
  } finally {
    $("run").ariaDisabled = null;
    delete $("run").dataset.busy;
  }
});

$("buy").addEventListener("click", async () => {
  const name = $("name").value.trim() || ownName();
  try {
    const buyer = await Buyer.arrive({ name, relay: relays[0], locked: isLocked() });
    const outcome = await buyer.buy(payMillis());
    announce(outcome === "bought" ? "You bought one." : outcome === "sold out" ? "Sold out." : "That did not work.");
  } catch (error) {
    announce(`That failed: ${error.message}`);
  }
});

$("reset").addEventListener("click", async () => {
  await shop.reset(number("stock-size"));
  announce(`${number("stock-size")} items are on the shelf.`);
});

for (const preset of document.querySelectorAll(".presets button")) {
  preset.addEventListener("click", () => {
    $("buyers").value = preset.dataset.buyers;
    $("stock-size").value = preset.dataset.items;
    showCount();
  });
}

const showCount = () => ($("run-count").textContent = number("buyers"));
$("buyers").addEventListener("input", showCount);

$("name").value = ownName();
$("name").addEventListener("change", () => localStorage.setItem("name", $("name").value.trim()));
