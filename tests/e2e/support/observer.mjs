// Somebody outside all clients and relays who sees every hold: a counter that each holder reads and writes back plus one.
// It does not lock anything, and believes nobody: two holds at once, a token that does not rise, and a lost write are seen
// here or nowhere.

export class Observer {
  value = 0;
  /** Every hold in the order in which it began: `{ client, fencingToken }`. */
  holds = [];
  /** What was not as it should be, in words. */
  problems = [];
  #inside;

  /** A holder says that it holds, and reads the counter. */
  enter({ client, fencingToken }) {
    if (this.#inside) this.problems.push(`${client} (token ${fencingToken}) came in while ${this.#inside.client} (token ${this.#inside.fencingToken}) held`);
    const last = this.holds.at(-1)?.fencingToken ?? 0;
    if (fencingToken <= last) this.problems.push(`token ${fencingToken} of ${client} after ${last}`);
    this.#inside = { client, fencingToken };
    this.holds.push(this.#inside);
    return { value: this.value };
  }

  /** The holder writes the counter, before it releases. */
  leave({ client, value }) {
    if (this.#inside?.client !== client) this.problems.push(`${client} left while ${this.#inside?.client ?? "nobody"} held`);
    this.#inside = undefined;
    this.value = value;
    return {};
  }
}
