// Arguments: what is refused and how that is said, and how what is accepted reaches the relay.

const WAIT = "a whole number of milliseconds from 0 to 2^53 - 1, or Infinity";
const HOLD = "a whole number of milliseconds from 1 to 2^53 - 1, or Infinity";
const MUTEX = "a string of 1 to 512 bytes of UTF-8, without control characters and lone surrogates";
const METADATA = "a string of at most 1024 bytes of UTF-8";
const OPTIONS = "acquisitionTimeoutMillis, maxHoldTimeMillis, mode, ifAvailable, steal, signal, metadata, onQueued";

/** Arguments of `acquireLock`, and the message that they are refused with. */
const REFUSED = [
  [[], `mutex is undefined; it must be ${MUTEX}`],
  [[""], `mutex is ""; it must be ${MUTEX}`],
  [[7], `mutex is 7; it must be ${MUTEX}`],
  [[null], `mutex is null; it must be ${MUTEX}`],
  [[Symbol("a")], `mutex is a symbol; it must be ${MUTEX}`],
  [[{}], `mutex is an object (Object); it must be ${MUTEX}`],
  [["a\u0000"], `mutex is "a\\u0000"; it must be ${MUTEX}`],
  [["a\n"], `mutex is "a\\n"; it must be ${MUTEX}`],
  [["a\ud800"], `mutex is "a\\ud800"; it must be ${MUTEX}`],
  [["é".repeat(257)], `mutex is "${"é".repeat(76)}...; it must be ${MUTEX}`],
  [["a", "5000"], `options is "5000"; it must be an object, or a number of milliseconds to wait`],
  [["a", true], "options is true; it must be an object, or a number of milliseconds to wait"],
  [["a", () => {}], "options is a function; it must be an object, or a number of milliseconds to wait"],
  [["a", -1], `acquisitionTimeoutMillis is -1; it must be ${WAIT}`],
  [["a", NaN], `acquisitionTimeoutMillis is NaN; it must be ${WAIT}`],
  [["a", { acquisitionTimeoutMillis: 0.5 }], `acquisitionTimeoutMillis is 0.5; it must be ${WAIT}`],
  [["a", { acquisitionTimeoutMillis: 2 ** 53 }], `acquisitionTimeoutMillis is 9007199254740992; it must be ${WAIT}`],
  [["a", { acquisitionTimeoutMillis: "5" }], `acquisitionTimeoutMillis is "5"; it must be ${WAIT}`],
  [["a", { acquisitionTimeoutMillis: null }], `acquisitionTimeoutMillis is null; it must be ${WAIT}`],
  [["a", { acquisitionTimeoutMillis: -Infinity }], `acquisitionTimeoutMillis is -Infinity; it must be ${WAIT}`],
  [["a", { maxHoldTimeMillis: 0 }], `maxHoldTimeMillis is 0; it must be ${HOLD}`],
  [["a", { maxHoldTimeMillis: 5n }], `maxHoldTimeMillis is 5; it must be ${HOLD}`],
  [["a", { mode: "Shared" }], `mode is "Shared"; it must be "exclusive" or "shared"`],
  [["a", { mode: ["shared"] }], `mode is an object (Array); it must be "exclusive" or "shared"`],
  [["a", { ifAvailable: 1 }], "ifAvailable is 1; it must be true or false"],
  [["a", { steal: "yes" }], `steal is "yes"; it must be true or false`],
  [["a", { steal: true, ifAvailable: true }], `steal is true; it must be false together with ifAvailable or with mode "shared"`],
  [["a", { steal: true, mode: "shared" }], `steal is true; it must be false together with ifAvailable or with mode "shared"`],
  [["a", { signal: {} }], "signal is an object (Object); it must be an AbortSignal"],
  [["a", { signal: new AbortController() }], "signal is an object (AbortController); it must be an AbortSignal"],
  [["a", { metadata: 7 }], `metadata is 7; it must be ${METADATA}`],
  [["a", { metadata: "é".repeat(513) }], `metadata is "${"é".repeat(76)}...; it must be ${METADATA}`],
  [["a", { metadata: "\udc00" }], `metadata is "\\udc00"; it must be ${METADATA}`],
  [["a", { onQueued: 7 }], "onQueued is 7; it must be a function"],
  [["a", { timeout: 5000 }], `there is no option "timeout"; the options are ${OPTIONS}`],
];

/** Arguments of `acquireLock`, and what the relay gets. */
const ACCEPTED = [
  [["a"], { mutex: "a", mode: "exclusive", waitMillis: 2000 }],
  [["a", undefined], { mutex: "a", mode: "exclusive", waitMillis: 2000 }],
  [["a", {}], { mutex: "a", mode: "exclusive", waitMillis: 2000 }],
  [["a", { acquisitionTimeoutMillis: undefined, mode: undefined, signal: undefined }], { mutex: "a", mode: "exclusive", waitMillis: 2000 }],
  [["a", 5000], { mutex: "a", mode: "exclusive", waitMillis: 5000 }],
  [["a", Infinity], { mutex: "a", mode: "exclusive" }],
  [["a", { acquisitionTimeoutMillis: 1 }], { mutex: "a", mode: "exclusive", waitMillis: 1 }],
  [["a", { acquisitionTimeoutMillis: Infinity, maxHoldTimeMillis: Infinity }], { mutex: "a", mode: "exclusive" }],
  [["a", { maxHoldTimeMillis: 1 }], { mutex: "a", mode: "exclusive", waitMillis: 2000, maxHoldMillis: 1 }],
  [["a", { mode: "shared", steal: false, ifAvailable: false }], { mutex: "a", mode: "shared", waitMillis: 2000 }],
  [["a", { ifAvailable: true }], { mutex: "a", mode: "exclusive", waitMillis: 2000, ifAvailable: true }],
  [["a", { steal: true }], { mutex: "a", mode: "exclusive", waitMillis: 2000, steal: true }],
  [["é".repeat(256), { metadata: "é".repeat(512) }], { mutex: "é".repeat(256), mode: "exclusive", waitMillis: 2000, metadata: "é".repeat(512) }],
  [['カタログ "\\ 🛒', { metadata: "" }], { mutex: 'カタログ "\\ 🛒', mode: "exclusive", waitMillis: 2000, metadata: "" }],
];

export const tests = {
  async a_wrong_argument_is_refused_with_its_name_its_value_and_what_is_allowed(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const socket = await relay.welcome(0);
    for (const [given, message] of REFUSED) {
      page.equal((await page.rejects(client.acquireLock(...given), "INVALID_ARGUMENT")).message, message);
      const within = client.withLock(given[0], given[1] ?? {}, () => page.ok(false, "the callback is not called"));
      page.equal((await page.rejects(within, "INVALID_ARGUMENT")).message, message);
    }
    page.equal(socket.types(), ["hello"], "nothing was asked of the relay");
  },

  async what_is_accepted_reaches_the_relay_as_it_was_given(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const socket = await relay.welcome(0);
    for (const [given, expected] of ACCEPTED) {
      const pending = client.acquireLock(...given);
      const { type, t, requestId, ...rest } = socket.sent.at(-1);
      page.equal(type, "acquire");
      page.ok(Number.isSafeInteger(t) && requestId.length > 0, "it has a time and a name");
      const sorted = (fields) => Object.entries(fields).sort(([one], [other]) => (one < other ? -1 : 1));
      // A millisecond may have passed since the call.
      if (rest.waitMillis !== expected.waitMillis && rest.waitMillis >= expected.waitMillis - 5) rest.waitMillis = expected.waitMillis;
      page.equal(sorted(rest), sorted(expected));
      relay.grant(socket);
      (await pending).release();
    }
  },

  async what_is_no_callback_is_refused(page) {
    const relay = page.scripted();
    const client = page.client("ws://scripted/");
    const socket = await relay.welcome(0);
    const pending = client.acquireLock("a");
    relay.grant(socket);
    const lock = await pending;
    const message = (value) => `callback is ${value}; it must be a function`;
    page.equal(page.throws(() => lock.onRelease("a"), "INVALID_ARGUMENT").message, message('"a"'));
    page.equal(page.throws(() => client.onStateChange(), "INVALID_ARGUMENT").message, message("undefined"));
    page.equal((await page.rejects(client.withLock("b"), "INVALID_ARGUMENT")).message, message("undefined"));
    page.equal((await page.rejects(client.withLock("b", {}, {}), "INVALID_ARGUMENT")).message, message("an object (Object)"));
    page.equal(socket.types(), ["hello", "acquire"], "nothing was asked of the relay");
  },
};
