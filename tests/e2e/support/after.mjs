// What a test started ends in the opposite order: browsers before relays, relays before their Redis. (node:test's own
// `t.after` runs in the order of registration, and a relay without its Redis takes its time to give up.)

const stacks = new WeakMap();

/** Runs `end` when the test is over, before everything that was registered earlier. */
export function atEnd(t, end) {
  let stack = stacks.get(t);
  if (!stack) {
    stacks.set(t, (stack = []));
    t.after(async () => {
      const problems = [];
      for (const end of stack.reverse()) {
        try {
          await end();
        } catch (error) {
          problems.push(error);
        }
      }
      if (problems.length) throw new AggregateError(problems, "not everything ended as it should");
    });
  }
  stack.push(end);
}
