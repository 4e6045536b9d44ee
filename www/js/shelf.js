// Shows stock, orders and the verdict: how many bought, of how many items.

const $ = (id) => document.getElementById(id);
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** The shelf: what the stock says, the items, and what is wrong with them. */
export function showShelf(run) {
  $("stock").textContent = run.stock;
  const items = $("items");
  while (items.children.length > run.items) items.lastChild.remove();
  while (items.children.length < run.items) items.append(document.createElement("li"));
  [...items.children].forEach((item, index) => (item.dataset.sold = index < run.orders.length));
  items.dataset.extra = run.oversold || "";
  const verdict = $("verdict");
  verdict.dataset.verdict = judge(run);
  verdict.dataset.sold = run.orders.length;
  verdict.dataset.items = run.items;
  const text = sentence(run);
  if (verdict.textContent !== text) verdict.textContent = text;
}

const judge = (run) => (run.oversold ? "oversold" : run.orders.length === run.items && run.items > 0 ? "exact" : "open");

function sentence(run) {
  const sold = run.orders.length;
  const items = plural(run.items, "item", "items");
  if (run.oversold) return `${sold} people bought ${items}: ${run.oversold} too many.`;
  if (sold === 0) return "Nobody has bought anything yet.";
  if (sold === run.items) return `${plural(sold, "person", "people")} bought ${items}. Not one too many.`;
  return `${plural(sold, "person", "people")} bought; ${plural(run.items - sold, "item is", "items are")} left.`;
}

/** The orders, those for which there was no item in red. */
export function showOrders(run) {
  const list = $("orders");
  if (list.dataset.run !== String(run.number)) {
    list.dataset.run = run.number;
    list.replaceChildren();
  }
  for (const { order, buyer, fencingToken } of run.orders.slice(list.children.length)) {
    const item = document.createElement("li");
    item.dataset.order = order;
    item.dataset.oversold = run.isOversold(order);
    const number = document.createElement("b");
    number.textContent = order;
    const who = document.createElement("span");
    who.textContent = buyer;
    item.append(number, who);
    if (run.isOversold(order)) {
      const note = document.createElement("em");
      note.textContent = "nothing left";
      item.append(note);
    }
    if (fencingToken) item.title = `Fencing token ${fencingToken}`;
    list.append(item);
  }
  $("no-orders").hidden = run.orders.length > 0;
  $("orders-sum").textContent = run.orders.length ? `${run.orders.length} for ${plural(run.items, "item", "items")}` : "";
  $("orders-sum").dataset.oversold = run.oversold > 0;
}

/** The card of this run's way of buying, kept while the other way is tried. */
export function showResult(run) {
  const card = $(`result-${run.mode}`);
  const sold = run.orders.length;
  card.dataset.verdict = judge(run);
  card.querySelector(".figure").textContent = `${sold} of ${run.items}`;
  card.querySelector(".note").textContent = run.oversold
    ? `${run.oversold} sold twice; the stock still says ${run.stock}`
    : sold === run.items
      ? "sold out, not one too many"
      : "sold so far";
}
