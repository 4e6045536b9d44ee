// Draws the lanes: for each buyer a bar of waiting and one of holding, on one axis of time, with its state in words.

/** Shortest span that the axis shows, in milliseconds. */
const SHORTEST = 1_500;
const STEPS = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000];

export class Timeline {
  #rows = new Map();

  /** @param {{ lanes: HTMLOListElement, axis: HTMLElement, empty: HTMLElement }} elements */
  constructor(elements) {
    this.elements = elements;
  }

  /** Brings the page in line with `run` as it is at `now`, by the server's clock in milliseconds. */
  draw(run, now) {
    const lanes = run.inOrder();
    this.elements.empty.hidden = lanes.length > 0;
    this.elements.axis.hidden = lanes.length === 0;
    this.elements.lanes.dataset.many = lanes.length > 30;
    const open = new Set(run.open(now));
    const from = lanes.reduce((first, { came }) => Math.min(first, came), now);
    const last = lanes.reduce((latest, lane) => Math.max(latest, open.has(lane) ? now : (lane.ended ?? lane.granted ?? lane.came)), from);
    const span = Math.max(SHORTEST, (last - from) * 1.02);
    this.#drawAxis(span);
    const stale = new Set(this.#rows.keys());
    let waiting = 0;
    for (const [index, lane] of lanes.entries()) {
      stale.delete(lane.attempt);
      const row = this.#rows.get(lane.attempt) ?? this.#addRow(lane);
      if (this.elements.lanes.children[index] !== row.item) this.elements.lanes.insertBefore(row.item, this.elements.lanes.children[index]);
      drawLane(row, lane, run, { from, span, now: open.has(lane) ? now : last, ahead: waiting });
      if (lane.phase === "waiting") waiting += 1;
    }
    for (const attempt of stale) {
      this.#rows.get(attempt).item.remove();
      this.#rows.delete(attempt);
    }
  }

  #addRow(lane) {
    const part = (tag, name, parent) => {
      const element = document.createElement(tag);
      element.className = name;
      parent?.append(element);
      return element;
    };
    const item = part("li", "lane");
    const name = part("span", "name", item);
    const track = part("span", "track", item);
    track.ariaHidden = "true";
    const wait = part("span", "bar wait", track);
    const hold = part("span", "bar hold", track);
    const token = part("span", "token", item);
    const state = part("span", "state", item);
    name.textContent = lane.buyer;
    this.elements.lanes.append(item);
    const row = { item, wait, hold, token, state };
    this.#rows.set(lane.attempt, row);
    return row;
  }

  #drawAxis(span) {
    const step = STEPS.find((step) => span / step <= 5) ?? 120_000;
    const key = `${step}/${Math.floor(span / step)}`;
    const track = this.elements.axis.querySelector(".track");
    if (this.axisKey !== key) {
      this.axisKey = key;
      track.replaceChildren();
      for (let at = 0; at <= span; at += step) {
        const tick = document.createElement("span");
        tick.className = "tick";
        tick.dataset.at = at;
        tick.textContent = `${step < 1_000 ? (at / 1000).toFixed(1) : at / 1000}${at === 0 ? " s" : ""}`;
        track.append(tick);
      }
    }
    for (const tick of track.children) {
      tick.style.left = `${(tick.dataset.at / span) * 100}%`;
      // Too near the end to be read beside the next column.
      tick.style.opacity = tick.dataset.at / span > 0.9 ? 0 : 1;
    }
  }
}

function drawLane(row, lane, run, { from, span, now, ahead }) {
  const place = (bar, begin, end) => {
    bar.hidden = begin === undefined;
    if (bar.hidden) return;
    bar.style.left = `${((begin - from) / span) * 100}%`;
    bar.style.width = `${(Math.max(0, end - begin) / span) * 100}%`;
  };
  const end = lane.ended ?? now;
  place(row.wait, lane.locked ? lane.came : undefined, lane.granted ?? end);
  place(row.hold, lane.locked ? lane.granted : lane.came, end);

  const { item } = row;
  item.dataset.attempt = lane.attempt;
  item.dataset.phase = lane.phase;
  item.dataset.locked = lane.locked;
  item.dataset.outcome = lane.outcome ?? "";
  item.dataset.oversold = run.isOversold(lane.order);
  if (lane.fencingToken !== undefined) {
    item.dataset.token = lane.fencingToken;
    setText(row.token, `…${String(lane.fencingToken).slice(-3)}`);
    row.token.title = `Fencing token ${lane.fencingToken}`;
  } else if (lane.wrote !== undefined) {
    setText(row.token, `${lane.read}→${lane.wrote}`);
    row.token.title = `Read ${lane.read}, wrote ${lane.wrote}`;
  }
  setText(row.state, words(lane, run, ahead));
}

function words(lane, run, ahead) {
  if (lane.phase === "waiting") return place(ahead);
  if (lane.phase === "holding") return "holds it";
  if (lane.phase === "racing") return "buying";
  if (lane.outcome === "bought") return run.isOversold(lane.order) ? `order ${lane.order}!` : `order ${lane.order}`;
  if (lane.outcome === "left" || lane.outcome === "lost") return lane.granted ? "lost it" : "left";
  return lane.outcome;
}

/** `next`, `2nd in line`. */
function place(ahead) {
  if (ahead === 0) return "next";
  const rank = ahead + 1;
  const ending = rank % 100 > 10 && rank % 100 < 14 ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[rank % 10] ?? "th");
  return `${rank}${ending} in line`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
