// What a page sees when the client's module itself fails: every lock is lost at once, nothing hangs, nothing throws oddly.

export const tests = {
  async a_failure_of_the_module_loses_every_lock_and_later_calls_say_so(page) {
    const complaints = [];
    page.replace("console", { ...console, error: (text) => complaints.push(String(text)) });
    const relay = page.scripted();
    const [client, second] = [page.client("ws://scripted/"), page.client("ws://scripted/")];
    const sockets = [await relay.welcome(0), await relay.welcome(1)];
    const acquired = client.acquireLock("a");
    relay.grant(sockets[0]);
    const lock = await acquired;
    const told = [];
    lock.onRelease((reason) => told.push(`onRelease ${reason}`));
    lock.onRelease(() => told.push(`within: ${lock.isReleased()} ${client.state}`));
    lock.observeRelease().subscribe((reason) => told.push(`observeRelease ${reason}`));
    let finish;
    const running = second.withLock("b", () => new Promise((done) => (finish = done)));
    relay.grant(sockets[1]);
    await page.turn();
    const soon = client.acquireLock("c", 30);
    const waiting = [soon, second.acquireLock("d")].map((call) => page.rejects(call, "CLIENT_CLOSED"));

    let trap;
    try {
      page.panic();
    } catch (error) {
      trap = error;
    }
    page.ok(trap instanceof WebAssembly.RuntimeError, `it fails: ${trap}`);
    page.ok(complaints.some((text) => text.includes("on purpose")), "the console says what happened");

    const expected = ["onRelease connection_lost", "within: true closed", "observeRelease connection_lost"];
    page.equal([told, lock.isReleased(), lock.signal.aborted], [expected, true, true]);
    page.equal(sockets.map(({ readyState }) => readyState), [3, 3], "the relay frees the locks at the sockets' end");
    page.equal(await lock.released, "connection_lost");
    for (const error of await Promise.all(waiting)) page.ok(error.message.includes("reload the page"), error.message);

    page.equal([client.state, second.state], ["closed", "closed"]);
    await page.rejects(client.acquireLock("e"), "CLIENT_CLOSED");
    await page.rejects(client.withLock("e", () => page.ok(false, "it is not called")), "CLIENT_CLOSED");
    await Promise.all([lock.release(), client.close(), second.close()]);
    finish("done");
    await page.rejects(running, "LOCK_LOST");
    lock.onRelease((reason) => told.push(`late ${reason}`));
    page.equal(told.at(-1), "late connection_lost");
    lock.free();

    // What was on its way to the module finds nobody: the timer of the call that had 30 ms, the page's events, the sockets.
    const uncaught = [];
    addEventListener("error", (event) => uncaught.push(event.message));
    dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    for (const socket of sockets) socket.cut();
    await new Promise((done) => setTimeout(done, 60));
    page.equal(uncaught, []);
    page.equal([relay.sockets.length, sockets.map((socket) => socket.types().at(-1))], [2, ["acquire", "acquire"]], "and says nothing");
  },
};
