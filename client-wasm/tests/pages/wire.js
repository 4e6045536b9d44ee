// The connection, against a scripted relay: what a healthy one never says, and what must happen inside a handler.

/** A client with one lock, from a scripted relay. */
async function holding(page, options, granted) {
  const relay = page.scripted();
  const client = page.client("ws://scripted/");
  const socket = await relay.welcome(0);
  const pending = client.acquireLock("a", options);
  relay.grant(socket, granted);
  return { relay, client, socket, lock: await pending };
}

/** Notes what every way of observing a lock tells. */
function observe(lock) {
  const told = [];
  lock.onRelease((reason) => told.push(`onRelease ${reason}`));
  lock.observeRelease().subscribe((reason) => told.push(`observeRelease ${reason}`));
  lock.signal.addEventListener("abort", () => told.push(`signal ${lock.signal.reason.code}`));
  return told;
}

const lost = (reason) => ["signal LOCK_LOST", `onRelease ${reason}`, `observeRelease ${reason}`];

export const tests = {
  async hello_comes_first_with_the_subprotocol_the_clients_name_and_the_token(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/v1/locks", "secret");
    const pending = client.acquireLock("a");
    const socket = await relay.socket(0);
    page.equal([socket.url, socket.protocol], ["ws://scripted/v1/locks", "lockrelay.v1"]);
    page.equal(socket.sent, [], "nothing before it is open");
    socket.open();
    page.equal(socket.types(), ["hello", "acquire"]);
    const { token, agent } = socket.sent[0];
    page.equal(token, "secret");
    page.ok(/^lockrelay-js\/\d/.test(agent), agent);
    relay.grant(socket);
    await pending;
  },

  async a_token_function_is_asked_at_each_connection_and_again_when_it_fails(page) {
    const relay = page.scripted();
    page.replace("console", { ...console, warn() {} });
    const answers = [
      () => "first",
      async () => "second",
      () => {
        throw new Error("no token at hand");
      },
      () => Promise.reject(new Error("no token to be had")),
      async () => "third",
    ];
    page.client("ws://scripted/", () => answers.shift()());
    for (const [number, token] of ["first", "second", "third"].entries()) {
      const socket = await relay.welcome(number);
      page.equal(socket.sent[0].token, token);
      socket.cut();
    }
    page.equal(answers.length, 0, "answers left");
  },

  async a_heartbeat_is_answered_inside_its_handler(page) {
    const { socket } = await holding(page);
    const before = socket.sent.length;
    socket.say({ type: "heartbeat", echo: socket.sent.at(-1).t, validMillis: 60_000 });
    page.equal(socket.types().slice(before), ["ack"], "no timer was needed, which a hidden page would not get");
  },

  async the_state_is_told_at_each_change_until_unsubscribed(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const [all, some] = [[], []];
    client.onStateChange((state) => all.push([state, client.state]));
    const unsubscribe = client.onStateChange((state) => some.push(state));
    page.equal(client.state, "connecting");
    (await relay.welcome(0)).cut();
    unsubscribe();
    unsubscribe();
    await relay.welcome(1);
    await client.close();
    page.equal(all, ["connected", "reconnecting", "connected", "closed"].map((state) => [state, state]));
    page.equal(some, ["connected", "reconnecting"]);
  },

  async when_a_connection_is_lost_the_next_url_is_tried_and_pending_requests_go_there(page) {
    const relay = page.scripted();
    const client = page.client(["ws://one/", "ws://two/"]);
    const first = await relay.welcome(0);
    const pending = client.acquireLock("a", 5000);
    const asked = first.latest("acquire");
    first.cut();
    const second = await relay.welcome(1);
    page.equal([first.url, second.url], ["ws://one/", "ws://two/"]);
    const again = second.latest("acquire");
    page.equal(again.mutex, "a");
    page.ok(again.requestId !== asked.requestId, "another request, at the end of the queue");
    page.ok(again.waitMillis <= asked.waitMillis, "within the same limit");
    relay.grant(second);
    page.equal((await pending).resourceId, "a");
    second.cut();
    page.equal((await relay.socket(2)).url, "ws://one/");
  },

  async the_relays_errors_reach_the_call(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const socket = await relay.welcome(0);
    for (const code of ["LIMIT_EXCEEDED", "STORE_UNAVAILABLE", "UNAUTHORIZED", "PROTOCOL_ERROR", "INVALID_ARGUMENT"]) {
      const pending = client.acquireLock("a");
      const { requestId } = socket.latest("acquire");
      const retryAfterMillis = code === "LIMIT_EXCEEDED" ? 750 : undefined;
      socket.say({ type: "error", code, message: `because of ${code}`, requestId, retryAfterMillis });
      const error = await page.rejects(pending, code);
      page.equal([error.message, error.retryAfterMillis], [`because of ${code}`, retryAfterMillis]);
    }
  },

  async a_relay_that_refuses_the_client_ends_it_for_good(page) {
    for (const [close, code] of [[4002, "UNAUTHORIZED"], [4000, "PROTOCOL_ERROR"]]) {
      const relay = page.scripted();
      const client = page.client("ws://scripted/");
      const pending = client.acquireLock("a");
      const socket = await relay.socket(0);
      socket.open();
      socket.cut(close, "says the relay");
      page.ok((await page.rejects(pending, code)).message.includes("says the relay"), "the message has the relay's words");
      await page.rejects(client.acquireLock("a"), code);
      page.equal([client.state, relay.sockets.length], ["closed", 1]);
    }
  },

  async without_a_relay_a_call_gives_up_after_two_seconds_or_its_own_limit(page) {
    page.scripted();
    const client = page.client("ws://scripted/");
    const begin = performance.now();
    const forever = page.rejects(client.acquireLock("a", Infinity), "CLIENT_NOT_CONNECTED");
    await page.rejects(client.acquireLock("a", 50), "CLIENT_NOT_CONNECTED");
    const own = performance.now() - begin;
    await forever;
    const all = performance.now() - begin;
    page.ok(own >= 50 && own < 1500 && all >= 2000, `after ${own} and ${all} ms`);
  },

  async a_frame_that_is_no_message_ends_the_connection_and_an_unknown_type_does_not(page) {
    const relay = page.scripted();
    page.client("ws://scripted/");
    for (const [number, bad] of ["nonsense", "{}", '{"type":"granted"}', new ArrayBuffer(8)].entries()) {
      const socket = await relay.welcome(number);
      socket.say({ type: "from the future", lockId: 7 });
      page.equal(socket.closed, undefined, "ignored");
      socket.say(bad);
      page.equal(socket.closed?.code, 4000);
    }
    await relay.socket(4);
  },

  async a_lock_is_lost_inside_the_handler_of_its_sockets_end_and_never_comes_back(page) {
    const { relay, socket, lock } = await holding(page);
    const told = observe(lock);
    socket.cut();
    page.equal([lock.isReleased(), lock.signal.aborted], [true, true], "at once");
    page.equal(told, lost("connection_lost"));
    page.equal(relay.sockets.length, 1, "before any reconnect");
    page.equal(await lock.released, "connection_lost");
    await relay.welcome(1);
    await lock.release();
    page.equal([lock.isReleased(), told], [true, lost("connection_lost")]);
  },

  async a_lease_ends_by_the_clock_even_when_the_page_stands_still(page) {
    const { socket, lock } = await holding(page, {}, { validMillis: 80 });
    const told = observe(lock);
    page.equal(lock.isReleased(), false);
    const end = performance.now() + 120;
    while (performance.now() < end);
    page.equal([lock.isReleased(), told], [true, []], "no timer could run");
    page.equal(await lock.released, "lease_expired");
    page.equal(told, lost("lease_expired"));
    page.equal(socket.types().at(-1), "release", "the relay is told");
    socket.say({ type: "heartbeat", echo: socket.sent.at(-1).t, validMillis: 60_000 });
    page.equal(lock.isReleased(), true, "a late promise does not revive it");
  },

  async a_lock_is_held_for_its_maximum_at_most(page) {
    const { socket, lock } = await holding(page, { maxHoldTimeMillis: 60 });
    const told = observe(lock);
    page.equal(await lock.released, "max_hold");
    page.equal(told, lost("max_hold"));
    page.equal(socket.latest("release").lockId, lock.lockId);
  },

  async release_is_over_before_it_returns_and_resolves_when_the_relay_confirms(page) {
    const { socket, lock } = await holding(page);
    const told = observe(lock);
    let resolved = false;
    const released = lock.release().then(() => (resolved = true));
    page.equal([lock.isReleased(), told], [true, ["onRelease released", "observeRelease released"]]);
    page.equal(socket.types().at(-1), "release");
    await page.turn();
    page.equal(resolved, false, "not confirmed yet");
    const again = lock.release();
    page.equal(socket.types().filter((type) => type === "release").length, 1, "said once");
    socket.say({ type: "released", lockId: lock.lockId, held: true });
    await Promise.all([released, again, lock.release()]);
    page.equal([lock.signal.aborted, await lock.released], [false, "released"], "its own release is no loss");
  },

  async release_resolves_at_the_connections_end_too(page) {
    const { socket, lock } = await holding(page);
    const released = lock.release();
    socket.cut();
    page.equal(await released, undefined);
    page.equal(await lock.released, "released");
  },

  async a_lock_object_that_is_freed_is_released(page) {
    const { socket, lock } = await holding(page);
    const { lockId, released } = lock;
    lock.free();
    page.equal(socket.latest("release").lockId, lockId);
    page.equal(await released, "released");
  },

  async leaving_the_page_lets_go_and_coming_back_connects_again(page) {
    const { relay, client, socket, lock } = await holding(page);
    const told = observe(lock);
    const pending = client.acquireLock("b", 5000);
    dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
    page.equal([told, lock.isReleased()], [lost("connection_lost"), true]);
    page.equal(socket.latest("release").lockId, lock.lockId);
    page.equal([socket.closed?.code, client.state], [1000, "reconnecting"]);
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    const second = await relay.welcome(1);
    page.equal(second.latest("acquire").mutex, "b");
    relay.grant(second);
    page.equal([(await pending).resourceId, client.state, told], ["b", "connected", lost("connection_lost")]);
  },

  async an_aborted_call_is_cancelled_and_its_listener_goes(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const socket = await relay.welcome(0);
    const reason = { anything: "at all" };
    const watched = () => {
      const controller = new AbortController();
      const { signal } = controller;
      let listeners = 0;
      const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
      signal.addEventListener = (...given) => ((listeners += 1), add(...given));
      signal.removeEventListener = (...given) => ((listeners -= 1), remove(...given));
      return { controller, signal, listeners: () => listeners };
    };
    const outcome = (promise) => promise.then(() => "value", (error) => error);

    const before = watched();
    before.controller.abort(reason);
    page.ok((await outcome(client.acquireLock("a", { signal: before.signal }))) === reason, "the signal's own reason");
    page.equal([socket.types(), before.listeners()], [["hello"], 0], "the relay was not asked");

    const during = watched();
    const pending = client.acquireLock("a", { signal: during.signal });
    page.equal(during.listeners(), 1);
    const { requestId } = socket.latest("acquire");
    during.controller.abort(reason);
    page.equal([socket.latest("cancel")?.requestId, during.listeners()], [requestId, 0], "inside the handler");
    page.ok((await outcome(pending)) === reason, "the signal's own reason");
    socket.say({ type: "cancelled", requestId });

    const after = watched();
    const granted = client.acquireLock("a", { signal: after.signal });
    relay.grant(socket);
    const lock = await granted;
    page.equal(after.listeners(), 0, "settled");
    after.controller.abort(reason);
    page.equal([lock.isReleased(), lock.signal.aborted], [false, false], "a granted lock stays");

    const refused = watched();
    const failing = client.acquireLock("b", { signal: refused.signal });
    socket.say({ type: "timeout", requestId: socket.latest("acquire").requestId });
    await page.rejects(failing, "LOCK_TIMEOUT");
    page.equal(refused.listeners(), 0, "settled");
  },

  async whoever_has_to_wait_is_told_its_place(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const first = await relay.welcome(0);
    const places = [];
    const pending = client.acquireLock("a", { acquisitionTimeoutMillis: 5000, onQueued: (ahead) => places.push(ahead) });
    const queued = (socket, ahead) => socket.say({ type: "queued", requestId: socket.latest("acquire").requestId, ahead });
    queued(first, 3);
    first.cut();
    const second = await relay.welcome(1);
    queued(second, 5);
    relay.grant(second);
    await pending;
    queued(second, 1);
    page.equal(places, [3, 5]);
  },

  async callbacks_may_call_back_at_once(page) {
    const { relay, client, socket, lock } = await holding(page);
    const second = client.acquireLock("b");
    relay.grant(socket);
    const other = await second;
    const order = [];
    let third;
    lock.onRelease(() => {
      order.push("a is over");
      void other.release();
      void lock.release();
      third = client.acquireLock("c");
      lock.onRelease((reason) => order.push(`late: ${reason}`));
      order.push(`state ${client.state}, b over: ${other.isReleased()}`);
    });
    other.onRelease(() => order.push("b is over"));
    client.onStateChange((state) => {
      order.push(state);
      if (state === "reconnecting") void client.close();
    });
    void lock.release();
    page.equal(order, ["a is over", "late: released", "state connected, b over: true", "b is over"]);
    page.equal(socket.types().slice(-3), ["release", "release", "acquire"]);
    relay.grant(socket);
    const last = await third;
    last.onRelease((reason) => {
      order.push(`c ${reason}`);
      client.acquireLock("d").catch((error) => order.push(`d ${error.code}`));
    });
    socket.cut();
    await page.turn();
    page.equal(order.slice(4), ["c connection_lost", "reconnecting", "closed", "d CLIENT_CLOSED"]);
    await page.rejects(client.acquireLock("e"), "CLIENT_CLOSED");
  },
};
