// Locks of a real relay, which runs on `tests/relay.toml`.

/** Resolves when nobody holds the mutex: it waits in the queue as everybody does. */
const free = async (client, mutex) => (await client.acquireLock(mutex, 10_000)).release();

export const tests = {
  async a_lock_has_what_it_promises(page) {
    const client = page.client();
    const mutex = page.mutex("カタログ: 🛒");
    const lock = await client.acquireLock(mutex);
    page.equal([lock.resourceId, lock.mode, lock.isReleased(), lock.signal.aborted], [mutex, "exclusive", false, false]);
    page.ok(typeof lock.lockId === "string" && lock.lockId.length > 0, "a lock id");
    page.ok(Number.isSafeInteger(lock.fencingToken) && lock.fencingToken > 0, "a fencing token");
    page.ok(lock.released instanceof Promise && lock.released === lock.released, "one promise");
    page.ok(lock.signal instanceof AbortSignal && lock.signal === lock.signal, "one signal");
    page.equal(await lock.release(), undefined);
    const next = await client.acquireLock(mutex);
    page.ok(next.fencingToken > lock.fencingToken && next.lockId !== lock.lockId, "the token rises, the id is new");
    await lock.release();
    page.equal([next.isReleased(), await page.client().acquireLock(mutex, { ifAvailable: true })], [false, null], "a second release disturbs nobody");
    await next.release();
  },

  async one_after_the_other_in_the_order_of_the_calls(page) {
    const [one, other] = [page.client(), page.client()];
    const mutex = page.mutex();
    const held = await one.acquireLock(mutex);
    const served = [];
    const serve = async (client, name) => {
      let wait;
      const queued = new Promise((done) => (wait = done));
      const done = client.acquireLock(mutex, { acquisitionTimeoutMillis: 10_000, onQueued: wait }).then(async (lock) => {
        served.push({ name, token: lock.fencingToken, before: held.isReleased() });
        await lock.release();
      });
      return { ahead: await queued, done };
    };
    const waiting = [await serve(other, "first"), await serve(one, "second"), await serve(other, "third")];
    page.equal(waiting.map(({ ahead }) => ahead), [0, 1, 2]);
    page.equal(served, [], "nobody yet");
    void held.release();
    await Promise.all(waiting.map(({ done }) => done));
    page.equal(served.map(({ name, before }) => [name, before]), [["first", true], ["second", true], ["third", true]]);
    const tokens = served.map(({ token }) => token);
    page.ok(tokens.every((token, index) => token > (tokens[index - 1] ?? held.fencingToken)), `${tokens} rise`);
  },

  async shared_beside_shared_and_never_beside_exclusive(page) {
    const [one, other] = [page.client(), page.client()];
    const mutex = page.mutex();
    const locks = await Promise.all([one, other].map((client) => client.acquireLock(mutex, { mode: "shared" })));
    page.equal(locks.map(({ mode }) => mode), ["shared", "shared"]);
    page.equal(await other.acquireLock(mutex, { ifAvailable: true }), null);
    await Promise.all(locks.map((lock) => lock.release()));
    const alone = await one.acquireLock(mutex);
    page.equal(await other.acquireLock(mutex, { mode: "shared", ifAvailable: true }), null);
    await alone.release();
  },

  async a_wait_ends_in_time(page) {
    const [one, other] = [page.client(), page.client()];
    const mutex = page.mutex();
    const lock = await one.acquireLock(mutex);
    const begin = performance.now();
    await page.rejects(other.acquireLock(mutex, 200), "LOCK_TIMEOUT");
    const waited = performance.now() - begin;
    page.ok(waited >= 199 && waited < 2000, `after ${waited} ms`);
    await page.rejects(other.acquireLock(mutex, 0), "LOCK_TIMEOUT");
    page.equal(await other.acquireLock(mutex, { ifAvailable: true }), null);
    page.equal(lock.isReleased(), false);
    await lock.release();
    await (await other.acquireLock(mutex, { ifAvailable: true })).release();
  },

  async what_no_rule_allows_is_denied(page) {
    const client = page.client();
    await page.rejects(client.acquireLock(page.mutex("denied")), "UNAUTHORIZED");
    await page.rejects(client.acquireLock(page.mutex(), { steal: true }), "UNAUTHORIZED");
    await free(client, page.mutex());
  },

  async an_aborted_call_leaves_nothing_behind(page) {
    const [one, other] = [page.client(), page.client()];
    const mutex = page.mutex();
    const held = await one.acquireLock(mutex);
    const controller = new AbortController();
    const pending = other.acquireLock(mutex, { signal: controller.signal, onQueued: () => controller.abort("changed my mind") });
    page.equal(await pending.catch((reason) => reason), "changed my mind");
    const timed = other.acquireLock(mutex, { signal: AbortSignal.timeout(50) });
    page.equal(await timed.catch((reason) => reason.name), "TimeoutError");
    await held.release();
    page.ok(await one.acquireLock(mutex, { ifAvailable: true }), "nobody waits for it");
  },

  async a_stolen_lock_is_lost_to_all_who_observe_it_once(page) {
    const [holder, thief] = [page.client(), page.client()];
    const mutex = page.mutex("steal");
    const lock = await holder.acquireLock(mutex);
    const told = [];
    lock.onRelease((reason) => told.push(`onRelease ${reason}`));
    lock.observeRelease().subscribe({ next: (reason) => told.push(`next ${reason}`), complete: () => told.push("complete") });
    lock.signal.addEventListener("abort", () => told.push("abort"));
    lock.released.then((reason) => told.push(`released ${reason}`));
    const stolen = await thief.acquireLock(mutex, { steal: true });
    page.ok(stolen.fencingToken > lock.fencingToken, "a higher token");
    page.equal([lock.isReleased(), stolen.isReleased()], [true, false]);
    page.equal(told.toSorted(), ["abort", "complete", "next stolen", "onRelease stolen", "released stolen"]);
    page.ok(lock.signal.reason instanceof page.LockError && lock.signal.reason.code === "LOCK_LOST", "the signal's reason");
    page.ok(lock.signal.reason.message.includes("stolen"), lock.signal.reason.message);
    const request = fetch("data:,a", { signal: lock.signal });
    page.ok((await request.catch((reason) => reason)) === lock.signal.reason, "fetch() takes it");
    await lock.release();
    page.equal([stolen.isReleased(), told.length], [false, 5], "the loser's release disturbs nobody");
  },

  async with_lock_returns_what_its_callback_returns(page) {
    const [client, other] = [page.client(), page.client()];
    const mutex = page.mutex();
    const seen = [];
    const value = await client.withLock(mutex, async (lock) => {
      seen.push(lock.resourceId, lock.isReleased(), await other.acquireLock(mutex, { ifAvailable: true }));
      return { any: "value" };
    });
    page.equal([value, seen], [{ any: "value" }, [mutex, false, null]]);
    page.equal(await client.withLock(mutex, 5000, () => "not a promise"), "not a promise");
    page.equal(await client.withLock(mutex, { mode: "shared" }, (lock) => lock.mode), "shared");
    page.equal(await client.withLock(mutex, undefined, () => 0), 0);
    // Confirmed before it resolves, so that nobody needs to wait now.
    const held = await other.acquireLock(mutex, { ifAvailable: true });
    page.equal(await client.withLock(mutex, { ifAvailable: true }, (lock) => lock), null, "not free");
    await page.rejects(client.withLock(mutex, 100, () => page.ok(false, "it is not called")), "LOCK_TIMEOUT");
    await held.release();
  },

  async with_lock_throws_what_its_callback_throws_and_releases(page) {
    const client = page.client();
    const mutex = page.mutex();
    const mine = new TypeError("mine");
    const outcome = (promise) => promise.then(() => "value", (error) => error);
    const thrower = () => {
      throw mine;
    };
    page.ok((await outcome(client.withLock(mutex, thrower))) === mine, "thrown");
    page.ok((await outcome(client.withLock(mutex, () => Promise.reject(mine)))) === mine, "rejected");
    page.equal(await outcome(client.withLock(mutex, () => Promise.reject())), undefined, "rejected with nothing");
    await (await page.client().acquireLock(mutex, { ifAvailable: true })).release();
  },

  async with_lock_rejects_when_the_lock_was_lost_but_the_callbacks_own_error_wins(page) {
    const [client, thief] = [page.client(), page.client()];
    const mutex = page.mutex("steal");
    const steal = async () => (await thief.acquireLock(mutex, { steal: true })).release();
    const lost = await page.rejects(client.withLock(mutex, steal), "LOCK_LOST");
    page.ok(lost.message.includes(mutex) && lost.message.includes("stolen"), lost.message);
    const mine = new TypeError("mine");
    const failing = client.withLock(mutex, async () => {
      await steal();
      throw mine;
    });
    page.ok((await failing.catch((error) => error)) === mine, "its own error");
    const own = client.withLock(mutex, async (lock) => {
      await lock.release();
      return "let go early";
    });
    page.equal(await own, "let go early", "its own release is no loss");
    await page.rejects(client.withLock(mutex, { maxHoldTimeMillis: 30 }, (lock) => lock.released), "LOCK_LOST");
  },

  async close_releases_all_and_rejects_what_waits_and_what_comes_later(page) {
    const [client, other] = [page.client(), page.client()];
    const [mine, others] = [page.mutex(), page.mutex()];
    const [lock, held] = [await client.acquireLock(mine), await other.acquireLock(others)];
    const told = [];
    lock.onRelease((reason) => told.push(reason));
    const pending = page.rejects(client.acquireLock(others, Infinity), "CLIENT_CLOSED");
    const running = page.rejects(client.withLock(others, Infinity, () => page.ok(false, "it is not called")), "CLIENT_CLOSED");
    const closing = client.close();
    page.equal([client.state, told, lock.isReleased(), lock.signal.aborted], ["closed", ["client_closed"], true, false]);
    await Promise.all([closing, pending, running, client.close(), lock.release()]);
    page.equal(await lock.released, "client_closed");
    await page.rejects(client.acquireLock(mine), "CLIENT_CLOSED");
    await page.rejects(client.withLock(mine, () => {}), "CLIENT_CLOSED");
    await free(other, mine);
    await held.release();
    await free(page.client(), others);
  },

  async close_while_a_call_is_on_its_way_leaves_nothing_behind(page) {
    const other = page.client();
    for (let round = 0; round < 10; round += 1) {
      const client = page.client();
      const mutex = page.mutex();
      if (round % 2) await free(client, mutex);
      const pending = client.acquireLock(mutex).then((lock) => lock.released, (error) => error.code);
      if (round % 3) await page.turn();
      await client.close();
      const outcome = await pending;
      page.ok(["CLIENT_CLOSED", "client_closed"].includes(outcome), outcome);
      await free(other, mutex);
    }
  },
};
