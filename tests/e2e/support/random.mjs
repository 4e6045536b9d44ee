// Random numbers that can be had again: LOCKRELAY_SEED=<the printed seed>.

/** The seed of this run, which the test prints. */
export const seed = Number(process.env.LOCKRELAY_SEED ?? Math.floor(Math.random() * 2 ** 32)) >>> 0;

/** `count` whole numbers from `least` to `greatest`, the same for the same `seed` and `stream`. Mulberry32. */
export function numbers(seed, stream, count, least, greatest) {
  let state = (seed + Math.imul(stream + 1, 0x9e3779b9)) >>> 0;
  return Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    const unit = ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    return least + Math.floor(unit * (greatest - least + 1));
  });
}
