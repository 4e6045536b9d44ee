// Whoever observes the end of a lock is told once, whatever others do, and late comers too.

async function holding(page) {
  const relay = page.scripted();
  const client = page.client("ws://scripted/");
  const socket = await relay.welcome(0);
  const pending = client.acquireLock("a");
  relay.grant(socket);
  return { client, socket, lock: await pending };
}

/** The ways in which libraries take an Observable. */
const ways = {
  function: (observable, told) => observable.subscribe((reason) => told.push(reason), undefined, () => told.push("complete")),
  observer: (observable, told) => observable.subscribe({ next: (reason) => told.push(reason), complete: () => told.push("complete") }),
  "@@observable": (observable, told) => ways.observer(observable["@@observable"](), told),
};

export const tests = {
  async an_observable_emits_once_and_completes_for_early_and_late_subscribers(page) {
    for (const [way, subscribe] of Object.entries(ways)) {
      const { lock } = await holding(page);
      const [early, late] = [[], []];
      const subscription = subscribe(lock.observeRelease(), early);
      page.equal(subscription.closed, false, way);
      void lock.release();
      page.equal([early, subscription.closed], [["released", "complete"], true], way);
      page.equal(subscribe(lock.observeRelease(), late).closed, true, way);
      page.equal(late, ["released", "complete"], way);
      page.equal(early.length, 2, way);
    }
  },

  async one_observable_has_many_subscribers_and_observers_may_be_partial(page) {
    const { lock } = await holding(page);
    const observable = lock.observeRelease();
    const told = [];
    observable.subscribe({});
    observable.subscribe();
    observable.subscribe({ complete: () => told.push("complete") });
    observable.subscribe({ next: (reason) => told.push(reason) });
    observable.subscribe((reason) => told.push(reason));
    void lock.release();
    page.equal(told, ["complete", "released", "released"]);
  },

  async the_platforms_own_observable_takes_it(page) {
    if (typeof Observable === "undefined") throw new Error("this browser has no Observable; the test needs Chromium 135 or newer");
    const { lock } = await holding(page);
    const told = [];
    Observable.from(lock.observeRelease()).subscribe({ next: (reason) => told.push(reason), complete: () => told.push("complete") });
    const first = Observable.from(lock.observeRelease()).first();
    void lock.release();
    page.equal(await first, "released");
    page.equal(await Observable.from(lock.observeRelease()).toArray(), ["released"], "late");
    await page.turn();
    page.equal(told, ["released", "complete"]);
  },

  async for_await_takes_it(page) {
    const { lock } = await holding(page);
    const told = [];
    const loop = (async () => {
      for await (const reason of lock.observeRelease()) told.push(reason);
    })();
    void lock.release();
    await loop;
    page.equal(told, ["released"]);
  },

  async whoever_unsubscribes_is_told_nothing(page) {
    const { lock } = await holding(page);
    const told = [];
    const unsubscribe = lock.onRelease(() => told.push("callback"));
    const subscription = lock.observeRelease().subscribe(() => told.push("observer"));
    lock.onRelease(() => told.push("stays"));
    unsubscribe();
    unsubscribe();
    subscription.unsubscribe();
    subscription.unsubscribe();
    page.equal(subscription.closed, true);
    void lock.release();
    page.equal(told, ["stays"]);
    unsubscribe();
  },

  async a_late_callback_is_called_before_it_returns_and_can_be_unsubscribed_still(page) {
    const { lock } = await holding(page);
    void lock.release();
    const told = [];
    const unsubscribe = lock.onRelease((reason) => told.push(reason));
    page.equal(told, ["released"]);
    unsubscribe();
    unsubscribe();
  },

  async one_callback_may_unsubscribe_another_or_itself(page) {
    const { lock } = await holding(page);
    const told = [];
    const self = lock.onRelease(() => {
      told.push("first");
      self();
    });
    lock.observeRelease().subscribe(() => told.push("second"));
    void lock.release();
    page.equal(told, ["first", "second"]);
  },

  async a_callback_that_throws_is_reported_and_disturbs_nobody(page) {
    const { client, socket, lock } = await holding(page);
    const reported = page.reported();
    const told = [];
    const thrower = (name) => () => {
      throw new Error(name);
    };
    lock.onRelease(thrower("onRelease"));
    lock.onRelease(() => told.push("onRelease"));
    lock.observeRelease().subscribe({ next: thrower("next") });
    lock.observeRelease().subscribe(() => told.push("next"));
    client.onStateChange(thrower("state"));
    client.onStateChange((state) => told.push(state));
    socket.cut();
    lock.onRelease(thrower("late"));
    page.equal(told, ["onRelease", "next", "reconnecting"]);
    page.equal(reported.map(({ message }) => message), ["onRelease", "next", "state", "late"]);
    page.equal(await lock.released, "connection_lost");
  },

  async a_loss_that_nobody_observes_is_no_unhandled_rejection(page) {
    const { client, socket, lock } = await holding(page);
    lock.released;
    lock.signal;
    void client.withLock("b", () => {}).catch(() => {});
    socket.cut();
    await page.turn();
    page.equal(lock.isReleased(), true);
    void lock.release();
    void client.close();
  },
};
