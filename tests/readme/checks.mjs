// What each of the README's examples must bring about, seen from outside of it: by another client of the same relay, by the
// shop's functions, by the server that gets its requests.
//
// The functions run in the page. There, `run(name)` runs the example, `other` is a second client, `isFree(mutex)` tells
// whether nobody holds it, `steal(mutex)` takes it away and resolves when its holder has let go, `written`, `saved` and `shown`
// collect what the shop's functions were told, and the globals are those of `context.d.ts`.

/** Buying one item under the lock: nobody else gets in while the stock is written, and everybody afterwards. */
const BOUGHT = { written: [{ stock: 4, fenced: true, free: false }], freeAfterwards: true };

/** Each check: which of the example's variables it wants, what it does in the page, and what must come of it. */
export const checks = {
  acquire: {
    page: async () => {
      await run("acquire");
      return { written, freeAfterwards: await isFree("item-42") };
    },
    expect: BOUGHT,
  },
  "with-lock": {
    page: async () => {
      await run("with-lock");
      return { written, freeAfterwards: await isFree("item-42"), shown };
    },
    expect: { ...BOUGHT, shown: ["4 left"] },
  },
  "await-using": {
    page: async () => {
      await run("await-using");
      return { written, freeAfterwards: await isFree("item-42") };
    },
    expect: BOUGHT,
  },
  options: {
    exports: ["lock"],
    page: async () => {
      const { lock } = await run("options");
      const beside = await other.acquireLock("item-42", { mode: "shared", ifAvailable: true });
      const facts = { mode: lock.mode, over: lock.isReleased(), sharedBeside: beside?.mode, exclusiveBeside: await isFree("item-42") };
      await Promise.all([lock.release(), beside.release()]);
      return facts;
    },
    expect: { mode: "shared", over: false, sharedBeside: "shared", exclusiveBeside: false },
  },
  "if-available": {
    page: async () => {
      await run("if-available");
      const held = await other.acquireLock("nightly-report");
      await run("if-available");
      await held.release();
      return { shown, freeAfterwards: await isFree("nightly-report") };
    },
    expect: { shown: ["it is mine", "somebody else is at it"], freeAfterwards: true },
  },
  timeout: {
    page: async () => {
      const held = await other.acquireLock("item-42");
      await run("timeout");
      const whileHeld = [...written];
      await held.release();
      await run("timeout");
      await client.close();
      const thrown = await run("timeout").then(() => "nothing", (error) => error.code);
      return { shown, whileHeld, written, thrown };
    },
    expect: { shown: ["somebody else is buying; try again"], whileHeld: [], written: BOUGHT.written, thrown: "CLIENT_CLOSED" },
  },
  "is-released": {
    page: async () => {
      window.lock = await client.acquireLock("steal-rows");
      window.save = async (row, token) => {
        saved.push({ row, fenced: token === lock.fencingToken });
        if (row === "second") await steal("steal-rows");
      };
      await run("is-released");
      return { saved };
    },
    expect: { saved: [{ row: "first", fenced: true }, { row: "second", fenced: true }] },
  },
  observe: {
    exports: ["subscription"],
    page: async () => {
      window.lock = await client.acquireLock("item-42");
      const { subscription } = await run("observe");
      const before = { shown: [...shown], closed: subscription.closed };
      await lock.release();
      await lock.release();
      const after = { shown: [...shown], closed: subscription.closed };
      await run("observe");
      return { before, after, late: shown.length };
    },
    expect: { before: { shown: [], closed: false }, after: { shown: ["the lock is over: released"], closed: true }, late: 2 },
  },
  unexpected: {
    page: async () => {
      window.lock = await client.acquireLock("steal-page");
      await run("unexpected");
      await lock.release();
      const own = [...shown];
      window.lock = await client.acquireLock("steal-page");
      await run("unexpected");
      await steal("steal-page");
      return { own, shown };
    },
    expect: { own: [], shown: ["the lock was lost (stolen); what you see may be out of date"] },
  },
  fetch: {
    page: async () => {
      window.lock = await client.acquireLock("steal-order");
      const told = (path, body = {}) => fetch(path, { method: "POST", body: JSON.stringify(body) }).then((answer) => answer.json());
      await told("/prompt", { prompt: true });
      await run("fetch");
      await told("/prompt", { prompt: false });
      const underWay = run("fetch").then(() => "nothing", (error) => error.code);
      const { orders } = await told("/arrived");
      await steal("steal-order");
      // Answers what is still under way: by now nothing may be.
      await told("/prompt", { prompt: true });
      return { orders: orders.map(({ item, fencingToken }) => ({ item, fenced: fencingToken === lock.fencingToken })), thrown: await underWay };
    },
    expect: { orders: [{ item: 42, fenced: true }, { item: 42, fenced: true }], thrown: "LOCK_LOST" },
  },
  "not-awaited": {
    page: async () => {
      window.lock = await client.acquireLock("item-42");
      const next = other.acquireLock("item-42", Infinity);
      await run("not-awaited");
      return { shown, next: (await next).resourceId };
    },
    expect: { shown: ["over: true"], next: "item-42" },
  },
  connection: {
    exports: ["client", "lock"],
    page: async () => {
      let asked = 0;
      window.fetchToken = async () => `token ${(asked += 1)}`;
      const { client, lock } = await run("connection");
      // close() does not wait for the relay, so the next one may have to wait for a moment.
      const next = await other.acquireLock("item-42", Infinity);
      return { asked, shown, state: client.state, reason: await lock.released, next: next.resourceId };
    },
    expect: { asked: 1, shown: ["connected", "closed"], state: "closed", reason: "client_closed", next: "item-42" },
  },
};

/** Runs in an empty page before each check: what the functions above and the examples find there. */
export async function prepare(code, locks) {
  const imports = document.createElement("script");
  imports.type = "importmap";
  imports.textContent = JSON.stringify({ imports: { lockrelay: `${location.origin}/lockrelay/index.js` } });
  document.head.append(imports);
  const { connect } = await import("lockrelay");
  const [client, other] = await Promise.all([connect(locks), connect(locks)]);
  let stock = 5;
  const isFree = async (mutex) => {
    const lock = await other.acquireLock(mutex, { ifAvailable: true });
    await lock?.release();
    return lock !== null;
  };
  Object.assign(window, {
    client,
    other,
    isFree,
    written: [],
    saved: [],
    shown: [],
    rows: ["first", "second", "third"],
    // A module of its own each time: the same example can run twice.
    run: () => import(URL.createObjectURL(new Blob([code], { type: "text/javascript" }))),
    steal: async (mutex) => (await other.acquireLock(mutex, { steal: true })).release(),
    show: (text) => void window.shown.push(text),
    readStock: async () => stock,
    writeStock: async (left, token) => {
      window.written.push({ stock: left, fenced: Number.isSafeInteger(token) && token > 0, free: await isFree("item-42") });
      stock = left;
    },
  });
}
